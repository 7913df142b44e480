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

struct codes {
	const struct sync_code *list;
	uint32_t count;
};

static void drop_on_core(struct port *port, uint32_t cores, void *arg)
{
	const struct codes *codes = arg;

	(void)cores;
	for (uint32_t i = 0; i < codes->count; i++) {
		port_point(port, PORT_POINT_DROP_LOCAL);
		port_drop_executed(port, codes->list[i].address, codes->list[i].size);
	}
	port_sync_self(port);
}

static int write_code(struct port *port, const struct sync_code *code)
{
	struct port_view view;
	int rc = port_view_open(port, code->address, code->size, &view);

	if (rc)
		return rc;
	if (code->bytes)
		rc = port_write(port, &view, code->address, code->bytes, code->size);
	port_point(port, PORT_POINT_CLEAN);
	port_clean_written(port, &view, code->address, code->size);
	port_point(port, PORT_POINT_CLOSE);
	port_view_close(port, &view);
	return rc;
}

int sync_publish(struct port *port, const struct sync_code *list, uint32_t count,
                 const struct port_pages *pages)
{
	struct codes codes = {list, count};
	int rc = 0;

	for (uint32_t i = 0; i < count && !rc; i++)
		rc = write_code(port, &list[i]);
	if (!rc && pages)
		rc = port_map_exec(port, pages, 1);
	if (rc)
		return rc;
	for (uint32_t i = 0; i < count; i++) {
		port_point(port, PORT_POINT_DROP_READ);
		port_drop_read(port, list[i].address, list[i].size);
	}
	if (!port_caps(port)->maintenance_broadcast)
		return port_run_on_all(port, drop_on_core, &codes, PORT_FOREVER);
	for (uint32_t i = 0; i < count; i++) {
		port_point(port, PORT_POINT_DROP_EXECUTED);
		port_drop_executed(port, list[i].address, list[i].size);
	}
	/* The memory may have been executed in an earlier life. */
	port_point(port, PORT_POINT_SYNC);
	return port_sync_cores(port);
}
