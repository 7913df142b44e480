/* SPDX-License-Identifier: MIT */
/*
 * sync.h - the strategies by which code that may be running is changed.
 *
 *   quiesce   all cores at rest before the first write; for anything
 *
 * Strategies know no site kinds and no operating system: they get writes, and a port.
 */
#ifndef SUTURE_SYNC_H
#define SUTURE_SYNC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "port/port.h"

enum { SYNC_WRITE_MAX = 16 };

/* Replace `length` bytes at `address`. */
struct sync_write {
	uint64_t address;
	uint8_t length; /* 1 to SYNC_WRITE_MAX; what differs lies within one caps.write_unit */
	uint8_t from[SYNC_WRITE_MAX];
	uint8_t to[SYNC_WRITE_MAX];
};

struct sync_batch {
	const struct sync_write *writes; /* sorted by address, disjoint */
	size_t count;
	/* true: every byte of `from` must be there, or nothing is written at all.
	 * false (removal): bytes that equal `from` become `to`; a neighbour's breakpoint stays, and
	 * so does text that is other code by now or no longer mapped. */
	bool strict;
	/* Nobody may be in these ranges before the first write (sorted, disjoint). */
	const struct port_range *clear;
	size_t clear_count;
	/* Nobody may be in these after the last write; only if not strict. */
	const struct port_range *vacate;
	size_t vacate_count;
	/* And these, data included, are then forgotten (port_forget). */
	const struct port_range *forget;
	size_t forget_count;
	/* Called with all at rest: before anything is compared, and after everything is written.
	 * `begin` may refuse (negative errno; -EAGAIN: try again). May be NULL. */
	int (*begin)(void *arg);
	void (*commit)(void *arg);
	void *arg;
	uint64_t deadline_ns; /* for one try to stop all cores */
	unsigned tries;
	/* Out: index of the write whose bytes differed (-EUCLEAN), or failed. */
	size_t failed;
};

/*
 * 0            written, read back, visible to all cores
 * -ETIMEDOUT   not all cores came to rest, in any try; nothing written
 * -EUCLEAN     unexpected bytes at writes[failed]; nothing written
 * -EBUSY       `clear`: somebody stayed inside; nothing written.
 *              `vacate`: somebody stayed inside; everything is written, the ranges must live on
 * -EFAULT, -EIO  a write failed, all earlier ones were taken back
 * -EINVAL      `strict` and `vacate` together
 * or what `begin` returned; nothing written
 */
int sync_quiesce(struct port *port, struct sync_batch *batch) port_must_check;

#endif
