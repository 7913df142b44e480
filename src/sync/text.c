/* SPDX-License-Identifier: MIT */
/*
 * text.c - one write with its three cache duties.
 *
 * The order that this file exists for (case alias-stale-dcache), where the D-cache is indexed by
 * virtual address and the write goes through an alias:
 *
 *     wrong                                    right
 *     store       alias: trap                  store       alias: trap
 *     clean       alias   -> memory: trap      clean       alias   -> memory: trap
 *     invalidate  I-cache                      invalidate  D-cache at the *execution* address
 *     load        exec:  old, from a line      invalidate  I-cache
 *                 that nobody dropped          load        exec: trap
 *
 * Linux's arm port cleaned the alias and invalidated the I-cache only; the next reader of the
 * probed address saw what it had seen before.
 */
#include "sync/run.h"
#include "sync/text.h"

bool text_ours(const struct isa *isa, const struct sync_site *site, const uint8_t *now)
{
	size_t trap = 0; /* bytes of a trap that still follow */

	for (size_t k = 0; k < site->length; k++) {
		if ((k == 0 || (site->boundaries >> k & 1)) &&
		    k + isa->trap_length <= site->length &&
		    text_same(now + k, isa->trap, isa->trap_length))
			trap = isa->trap_length;
		if (trap)
			trap--;
		else if (now[k] != site->original[k] && now[k] != site->patched[k])
			return false;
	}
	return true;
}

int text_compare(struct port *port, struct sync_batch *batch)
{
	struct run run;

	for (uint32_t i = 0; i < batch->count; i = run.last + 1) {
		int rc;

		run_at(port_caps(port), batch, i, &run);
		rc = run_read(port, &run);
		for (uint32_t k = run.first; k <= run.last; k++) {
			const struct sync_site *site = &batch->sites[k];
			const uint8_t *now = run.bytes + (site->address - run.address);

			if (!rc && (text_same(now, text_old(batch, site), site->length) ||
			            (batch->resume && text_ours(batch->isa, site, now))))
				continue;
			port_set(port, &batch->failed, k);
			batch->refused = true;
			return rc ? rc : -EUCLEAN;
		}
	}
	return 0;
}

int text_write(struct port *port, uint64_t address, const uint8_t *bytes, size_t size,
               enum text_how how)
{
	struct port_view view;
	int rc = port_view_open(port, address, size, &view);

	if (rc)
		return rc;
	if (how == TEXT_WHOLE)
		rc = port_store(port, &view, address, bytes, size);
	else
		rc = port_write(port, &view, address, bytes, size);
	port_point(port, PORT_POINT_CLEAN);
	port_clean_written(port, &view, address, size);
	port_point(port, PORT_POINT_CLOSE);
	port_view_close(port, &view);
	port_point(port, PORT_POINT_DROP_READ);
	port_drop_read(port, address, size);
	port_point(port, PORT_POINT_DROP_EXECUTED);
	port_drop_executed(port, address, size);
	return rc;
}

void text_drop_local(struct port *port, const struct sync_batch *batch)
{
	for (uint32_t i = 0; i < batch->count; i++) {
		const struct sync_site *site = &batch->sites[i];

		port_point(port, PORT_POINT_DROP_LOCAL);
		port_drop_executed(port, site->address, site->length);
	}
}

static void drop_on_core(struct port *port, uint32_t cores, void *arg)
{
	(void)cores;
	text_drop_local(port, arg);
	port_sync_self(port);
}

int text_synchronise(struct port *port, struct sync_batch *batch, enum port_point point)
{
	if (!port_caps(port)->maintenance_broadcast)
		return port_run_on_all(port, drop_on_core, batch, batch->deadline_ns);
	port_point(port, point);
	return port_sync_cores(port);
}
