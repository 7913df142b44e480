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
 */
#include "sync/sync.h"

#define EAGAIN    11
#define EBUSY     16
#define EFAULT    14
#define EINVAL    22
#define EIO       5
#define ETIMEDOUT 110
#define EUCLEAN   117
enum {
	RUN_MAX = 4096,
	/* Up to this many writes each is made alone: a neighbour's breakpoint between two of ours
	 * is then never touched. Beyond, near ones are joined, re-read just before. */
	SINGLE_MAX = 64,
	RUN_GAP = 256,
	PAUSE_FIRST_NS = 500000,
	PAUSE_LAST_NS = 50000000,
};

/* A stretch of text that is read, changed and written as one. */
struct run {
	size_t first, last; /* writes, inclusive */
	uint64_t address;
	size_t size;
	size_t low, high; /* the bytes that change: offsets, half open */
	uint8_t bytes[RUN_MAX];
};

static uint64_t write_end(const struct sync_write *write)
{
	return write->address + write->length;
}

static void run_at(const struct port_caps *caps, const struct sync_batch *batch, size_t first,
                   struct run *run)
{
	const struct sync_write *writes = batch->writes;
	uint64_t gap = batch->count > SINGLE_MAX ? RUN_GAP : 0;

	run->first = run->last = first;
	run->address = writes[first].address;
	while (gap && run->last + 1 < batch->count) {
		const struct sync_write *next = &writes[run->last + 1];

		if (next->address - write_end(&writes[run->last]) > gap ||
		    write_end(next) - run->address > RUN_MAX)
			break;
		if (caps->write_unit &&
		    (write_end(next) - 1) / caps->write_unit != run->address / caps->write_unit)
			break;
		run->last++;
	}
	run->size = (size_t)(write_end(&writes[run->last]) - run->address);
}

/* May the write be made here? Strict: every expected byte is there. Otherwise all bytes are the
 * old or the new ones but for a neighbour's breakpoint; else this is other code by now. */
static bool recognised(const struct sync_write *write, const uint8_t *at, bool strict)
{
	unsigned foreign = 0;

	for (size_t k = 0; k < write->length; k++)
		foreign += at[k] != write->from[k] && (strict || at[k] != write->to[k]);
	return foreign <= (strict ? 0 : 1);
}

/* Turn the run's bytes into what they shall be, byte by byte. -EUCLEAN if strict and something
 * else is there. */
static int run_change(struct sync_batch *batch, struct run *run, bool forward)
{
	bool strict = batch->strict && forward;

	run->low = run->size;
	run->high = 0;
	for (size_t i = run->first; i <= run->last; i++) {
		const struct sync_write *write = &batch->writes[i];
		size_t start = (size_t)(write->address - run->address);
		const uint8_t *from = forward ? write->from : write->to;
		const uint8_t *to = forward ? write->to : write->from;

		if (forward && !recognised(write, run->bytes + start, strict)) {
			if (!strict)
				continue;
			batch->failed = i;
			return -EUCLEAN;
		}
		for (size_t k = 0; k < write->length; k++) {
			uint8_t *at = run->bytes + start + k;

			if (*at != from[k] || from[k] == to[k])
				continue;
			*at = to[k];
			run->low = start + k < run->low ? start + k : run->low;
			run->high = start + k + 1;
		}
	}
	return 0;
}

static int compare_all(struct port *port, struct sync_batch *batch, struct run *run)
{
	for (size_t i = 0; i < batch->count; i = run->last + 1) {
		int rc;

		run_at(port_caps(port), batch, i, run);
		rc = port_read(port, run->address, run->bytes, run->size);
		if (rc)
			batch->failed = i;
		else
			rc = run_change(batch, run, true);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static bool same(const uint8_t *a, const uint8_t *b, size_t size)
{
	for (size_t i = 0; i < size; i++)
		if (a[i] != b[i])
			return false;
	return true;
}

/* Write the bytes that change and read them back. */
static int write_run(struct port *port, struct run *run)
{
	uint64_t address = run->address + run->low;
	const uint8_t *bytes = run->bytes + run->low;
	size_t size = run->high - run->low;
	uint8_t check[1024];
	struct port_view view;
	int rc = port_view_open(port, address, size, &view);

	if (rc)
		return rc;
	rc = port_write(port, &view, address, bytes, size);
	port_point(PORT_POINT_WRITTEN);
	port_clean_written(port, &view, address, size);
	port_view_close(port, &view);
	port_drop_read(port, address, size);
	port_drop_executed(port, address, size);
	for (size_t at = 0; at < size && !rc; at += sizeof(check)) {
		size_t piece = size - at < sizeof(check) ? size - at : sizeof(check);

		rc = port_read(port, address + at, check, piece);
		if (!rc && !same(check, bytes + at, piece))
			rc = -EIO;
	}
	return rc;
}

/* Writes before `end`, forward or back; the writes of a batch that fails are taken back. */
static int write_all(struct port *port, struct sync_batch *batch, struct run *run, size_t end,
                     bool forward)
{
	for (size_t i = 0; i < end; i = run->last + 1) {
		int rc;

		run_at(port_caps(port), batch, i, run);
		rc = port_read(port, run->address, run->bytes, run->size);
		if (rc == -EFAULT && (!batch->strict || !forward))
			continue; /* no longer mapped: nothing to take back */
		if (!rc)
			rc = run_change(batch, run, forward);
		if (!rc && run->low < run->high)
			rc = write_run(port, run);
		if (rc && forward) {
			size_t done = run->last + 1;

			batch->failed = i;
			/* What can not be taken back either is still whole code of ours. */
			if (batch->strict)
				(void)!write_all(port, batch, run, done, false);
			return rc;
		}
	}
	return 0;
}

/* All cores are at rest. */
static int change(struct port *port, struct sync_batch *batch, struct run *run)
{
	int rc = port_occupied(port, batch->clear, batch->clear_count);

	if (rc)
		return rc > 0 ? -EAGAIN : rc;
	if (batch->begin)
		rc = batch->begin(batch->arg);
	if (!rc && batch->strict)
		rc = compare_all(port, batch, run);
	if (rc)
		return rc;
	port_point(PORT_POINT_COMPARED);
	rc = write_all(port, batch, run, batch->count, true);
	if (!rc)
		rc = port_sync_cores(port);
	if (rc)
		return rc;
	port_point(PORT_POINT_VISIBLE);
	if (batch->commit)
		batch->commit(batch->arg);
	rc = port_occupied(port, batch->vacate, batch->vacate_count);
	if (rc)
		return rc > 0 ? -EAGAIN : rc;
	return port_forget(port, batch->forget, batch->forget_count);
}

int sync_quiesce(struct port *port, struct sync_batch *batch)
{
	uint64_t pause_ns = PAUSE_FIRST_NS;
	struct run run;
	int rc = -ETIMEDOUT;
	bool again = false;

	if (batch->strict && batch->vacate_count)
		return -EINVAL;
	for (unsigned try = 0; try < batch->tries; try++) {
		if (try) {
			port_pause(port, pause_ns);
			pause_ns = pause_ns * 2 < PAUSE_LAST_NS ? pause_ns * 2 : PAUSE_LAST_NS;
		}
		rc = port_stop(port, batch->deadline_ns);
		if (rc == -ETIMEDOUT) {
			rc = again ? -EAGAIN : rc;
			continue;
		}
		if (rc)
			return rc;
		port_point(PORT_POINT_STOPPED);
		rc = change(port, batch, &run);
		port_resume(port);
		if (rc != -EAGAIN)
			return rc;
		again = true;
	}
	return rc == -EAGAIN ? -EBUSY : rc;
}
