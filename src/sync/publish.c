/* SPDX-License-Identifier: MIT */
/*
 * publish.c - code into memory that nobody executes yet.
 *
 * Every writer of code has the three duties, not only who changes code (case publish-other-users);
 * and they act on an address, so they wait until it exists (case xol-unmapped):
 *
 *     wrong                                    right
 *     copy to the page                         copy to the page, clean what was written
 *     flush the address: not mapped,           map
 *       nothing happens                        flush the address
 *     map                                      run
 *     run: whatever memory held before
 */
#include "sync/text.h"

static void drop_range(struct port *port, uint32_t cores, void *arg)
{
	const struct port_range *range = arg;

	(void)cores;
	port_point(port, PORT_POINT_DROP_LOCAL);
	port_drop_executed(port, range->start, range->end - range->start);
	port_sync_self(port);
}

int sync_publish(struct port *port, uint64_t address, const void *bytes, size_t size,
                 const struct port_pages *pages)
{
	struct port_range range = {address, address + size};
	struct port_view view;
	int rc = port_view_open(port, address, size, &view);

	if (rc)
		return rc;
	rc = port_write(port, &view, address, bytes, size);
	port_point(port, PORT_POINT_CLEAN);
	port_clean_written(port, &view, address, size);
	port_point(port, PORT_POINT_CLOSE);
	port_view_close(port, &view);
	if (!rc && pages)
		rc = port_map_exec(port, pages, 1);
	if (rc)
		return rc;
	port_point(port, PORT_POINT_DROP_READ);
	port_drop_read(port, address, size);
	if (!port_caps(port)->maintenance_broadcast)
		return port_run_on_all(port, drop_range, &range, PORT_FOREVER);
	port_point(port, PORT_POINT_DROP_EXECUTED);
	port_drop_executed(port, address, size);
	/* The memory may have been executed in an earlier life. */
	port_point(port, PORT_POINT_SYNC);
	return port_sync_cores(port);
}
