/* SPDX-License-Identifier: MIT */
/*
 * quiesce.c - change anything, with every core at rest.
 *
 * The order that this file exists for (case patch-before-quiescent): not only do the others wait
 * for the end of patching, the patcher first waits for the others.
 *
 *     wrong                                   right
 *     core 0            core 1                core 0             core 1
 *     stop request                            stop request
 *     write byte 0      still executes        wait …             … executes
 *     write byte 1..4     the old window                         comes to rest
 *                       <torn instruction>    compare, write
 *     resume                                  resume             context synchronisation
 *
 * One core writes; no other ever does (case everybody-patches). Everything that can be refused is
 * looked at between the last core coming to rest and the first byte written: earlier it could
 * still change, later it is too late.
 *
 * How they come to rest is the machine's: by themselves (rendezvous.c), or stopped from outside.
 */
#include "sync/rendezvous.h"
#include "sync/run.h"
#include "sync/text.h"

enum { PAUSE_FIRST_NS = 500000, PAUSE_LAST_NS = 50000000 };

/* What is whole for the ISA: bytes, halfwords, words. */
static size_t unit_of(const struct sync_batch *batch)
{
	return batch->isa ? batch->isa->unit : 1;
}

/* May the site be changed? Strict: every expected byte is there. Otherwise all is old or new but
 * for a neighbour's breakpoint, which is one unit; else this is other code by now. */
static bool recognised(const uint8_t *at, const uint8_t *from, const uint8_t *to, size_t length,
                       size_t unit, bool strict)
{
	unsigned foreign = 0;

	for (size_t k = 0; k < length; k += unit) {
		size_t n = length - k < unit ? length - k : unit;

		foreign += !text_same(at + k, from + k, n) &&
		           (strict || !text_same(at + k, to + k, n));
	}
	return foreign <= (strict ? 0 : 1);
}

/* Traps that a breakpoint has left at the boundaries of a site that begins at `start`. */
static void take_traps(const struct sync_batch *batch, const struct sync_site *site,
                       struct run *run, size_t start, const uint8_t *to)
{
	size_t size = batch->isa->trap_length;

	for (size_t k = 0; k + size <= site->length; k++)
		if ((k == 0 || (site->boundaries >> k & 1)) &&
		    text_same(run->bytes + start + k, batch->isa->trap, size) &&
		    !text_same(run->bytes + start + k, to + k, size))
			run_put(run, start + k, to + k, size);
}

/* Turn the run into what it shall be, as far as it is what it was. -EUCLEAN if strict and something
 * else is there. */
static int run_change(struct port *port, struct sync_batch *batch, struct run *run, bool forward)
{
	bool strict = batch->strict && forward;
	size_t unit = unit_of(batch);

	for (uint32_t i = run->first; i <= run->last; i++) {
		const struct sync_site *site = &batch->sites[i];
		size_t start = (size_t)(site->address - run->address);
		const uint8_t *from = forward ? text_old(batch, site) : text_new(batch, site);
		const uint8_t *to = forward ? text_new(batch, site) : text_old(batch, site);
		uint8_t *at = run->bytes + start;

		if (batch->resume && forward)
			take_traps(batch, site, run, start, to);
		if (forward && !recognised(at, from, to, site->length, unit, strict)) {
			if (!strict)
				continue;
			port_set(port, &batch->failed, i);
			return -EUCLEAN;
		}
		for (size_t k = 0; k < site->length; k += unit) {
			size_t n = site->length - k < unit ? site->length - k : unit;

			if (text_same(at + k, from + k, n) && !text_same(from + k, to + k, n))
				run_put(run, start + k, to + k, n);
		}
	}
	return 0;
}

static int compare_all(struct port *port, struct sync_batch *batch, struct run *run)
{
	for (uint32_t i = 0; i < batch->count; i = run->last + 1) {
		int rc;

		run_at(port_caps(port), batch, i, run);
		rc = run_read(port, run);
		if (rc)
			port_set(port, &batch->failed, i);
		else
			rc = run_change(port, batch, run, true);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* Write the bytes that change and read them back. */
static int write_run(struct port *port, struct run *run)
{
	uint64_t address = run->address + run->low;
	const uint8_t *bytes = run->bytes + run->low;
	size_t size = run->high - run->low;
	uint8_t check[1024];
	int rc = run_write(port, run);

	for (size_t at = 0; at < size && !rc; at += sizeof(check)) {
		size_t piece = size - at < sizeof(check) ? size - at : sizeof(check);

		rc = port_read(port, address + at, check, piece);
		if (!rc && !text_same(check, bytes + at, piece))
			rc = -EIO;
	}
	return rc;
}

/* Writes before `end`, forward or back; the writes of a batch that fails are taken back. */
static int write_all(struct port *port, struct sync_batch *batch, struct run *run, uint32_t end,
                     bool forward)
{
	for (uint32_t i = 0; i < end; i = run->last + 1) {
		int rc;

		run_at(port_caps(port), batch, i, run);
		rc = run_read(port, run);
		if (rc == -EFAULT && (!batch->strict || !forward))
			continue; /* no longer mapped: nothing to take back */
		if (!rc)
			rc = run_change(port, batch, run, forward);
		if (!rc && run->low < run->high)
			rc = write_run(port, run);
		if (rc && forward) {
			uint32_t done = run->last + 1;

			port_set(port, &batch->failed, i);
			/* What can not be taken back either is still whole code of ours. */
			if (batch->strict)
				(void)!write_all(port, batch, run, done, false);
			return rc;
		}
	}
	return 0;
}

/* All cores are at rest. */
static int change(struct port *port, struct sync_batch *batch)
{
	struct run run;
	int rc;

	port_point(port, PORT_POINT_OCCUPIED);
	rc = port_occupied(port, batch->clear, batch->clear_count);
	if (rc)
		return rc > 0 ? -EAGAIN : rc;
	if (batch->begin)
		rc = batch->begin(batch->arg);
	if (!rc && batch->strict)
		rc = compare_all(port, batch, &run);
	if (!rc)
		rc = write_all(port, batch, &run, batch->count, true);
	if (rc)
		return rc;
	rc = port_occupied(port, batch->vacate, batch->vacate_count);
	if (rc)
		return rc > 0 ? -EAGAIN : rc;
	return port_forget(port, batch->forget, batch->forget_count);
}

/* Where cores do not arrive by themselves: brought to rest from outside. */
static int stop_and_change(struct port *port, struct sync_batch *batch)
{
	int rc, synchronised;

	if (!port_caps(port)->maintenance_broadcast)
		return -ENOTSUP;
	port_point(port, PORT_POINT_STOP);
	rc = port_stop(port, batch->deadline_ns);
	if (rc)
		return rc;
	rc = change(port, batch);
	/* Whatever happened, something may have been written. */
	port_point(port, PORT_POINT_SYNC_REST);
	synchronised = port_sync_cores(port);
	port_resume(port);
	return rc ? rc : synchronised;
}

int sync_quiesce(struct port *port, struct sync_batch *batch)
{
	uint64_t pause_ns = PAUSE_FIRST_NS;
	int rc = -ETIMEDOUT;
	bool again = false;

	if (batch->strict && batch->vacate_count)
		return -EINVAL;
	for (unsigned try = 0; try < batch->tries; try++) {
		if (try) {
			port_pause(port, pause_ns);
			pause_ns = pause_ns * 2 < PAUSE_LAST_NS ? pause_ns * 2 : PAUSE_LAST_NS;
		}
		if (port_caps(port)->cores_arrive)
			rc = sync_rendezvous(port, batch, change);
		else
			rc = stop_and_change(port, batch);
		if (rc == -ETIMEDOUT) {
			rc = again ? -EAGAIN : rc;
			continue;
		}
		if (rc != -EAGAIN)
			return rc;
		again = true;
	}
	return rc == -EAGAIN ? -EBUSY : rc;
}
