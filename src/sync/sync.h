/* SPDX-License-Identifier: MIT */
/*
 * sync.h - the strategies by which code that may be running is changed.
 *
 *   nosync      one instruction that may be changed while it is executed; nobody is held up
 *   breakpoint  trap first, then the rest, then the head; threads that hit the trap are sent on
 *   quiesce     all cores at rest before the first write; for anything
 *   publish     memory that nobody executes yet
 *
 * Strategies know no site kinds and no operating system: they get sites, and a port. The caller
 * holds port_lock. On success every core executes the new code and reads it as data.
 */
#ifndef SUTURE_SYNC_H
#define SUTURE_SYNC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "isa/isa.h"
#include "port/port.h"

enum { SYNC_SITE_MAX = 16 };

/* A stretch of text with two states. The layout is fixed: it is part of the journal. */
struct sync_site {
	uint64_t address;
	uint8_t length; /* 1 to SYNC_SITE_MAX; what differs lies within one caps.write_unit */
	uint8_t reserved[5];
	/* Bit k: an instruction of the original starts at `address + k`. Bit 0 is always meant;
	 * only breakpoint looks at the others. */
	uint16_t boundaries;
	uint8_t original[SYNC_SITE_MAX];
	uint8_t patched[SYNC_SITE_MAX];
};

struct sync_batch {
	const struct isa *isa;         /* not needed by quiesce */
	const struct sync_site *sites; /* sorted by address, disjoint */
	uint32_t count;
	/* Write near sites in one go, however few they are; see run.h. */
	bool join;
	bool revert; /* from `patched` to `original` */
	/* nosync only, byte-wise ISAs: of each site, which is one instruction before and after, the
	 * smallest naturally aligned word of up to 8 bytes that holds all that changes may be one
	 * store. The caller stands for that being whole, for the port and for fetch. */
	bool word;
	/* true: every old byte must be there, or nothing is written at all.
	 * false (quiesce only): bytes that are old become new; a neighbour's breakpoint stays, and
	 * so does text that is other code by now or no longer mapped. */
	bool strict;

	/* ---- quiesce only ---- */
	/* Nobody may be in these ranges before the first write (sorted, disjoint). */
	const struct port_range *clear;
	size_t clear_count;
	/* Nobody may be in these after the last write; only if not strict. */
	const struct port_range *vacate;
	size_t vacate_count;
	/* And these, data included, are then forgotten (port_forget). */
	const struct port_range *forget;
	size_t forget_count;
	/* Called with all at rest, before anything is compared; may refuse (negative errno;
	 * -EAGAIN: try again). May be NULL. */
	int (*begin)(void *arg);
	void *arg;
	uint64_t deadline_ns; /* for one try to bring all cores to rest */
	unsigned tries;

	/* Take back what an interrupted breakpoint left: our trap at a boundary is ours. */
	bool resume;

	/* Out: traps of ours stand where none should, and could not be taken back (breakpoint). */
	bool stuck;
	/* Out: refused for what stands there, or does not, before anything was written (nosync,
	 * breakpoint). Tells -EFAULT of a site that is not mapped from that of a failed write. */
	bool refused;
	/* Out: index of the site whose bytes differed (-EUCLEAN), or failed. */
	uint32_t failed;
};

/*
 * All four return
 *
 * 0            written, visible to all cores
 * -EUCLEAN     unexpected bytes at sites[failed]; nothing written
 * -EINVAL      sites[failed] can not be changed in this way; nothing written
 * -EFAULT, -EIO  a write failed, all earlier ones were taken back
 *
 * nosync and breakpoint also -ETIMEDOUT: everything is written, and complete code for every core,
 * but on some core the old instruction may still be executed.
 */

/* May `site` be changed by nosync? The whole of it is one instruction of at most one store that
 * may be changed while it is executed, or (byte-wise ISAs) one byte of it changes. */
bool sync_nosync_legal(const struct port_caps *caps, const struct isa *isa,
                       const struct sync_site *site);
/* And with batch->word? */
bool sync_nosync_word(const struct isa *isa, const struct sync_site *site);
int sync_nosync(struct port *port, struct sync_batch *batch) port_must_check;

/* By breakpoint? Traps reach us, a trap is one store, and the new code has a trap wherever an old
 * instruction begins, but for its head. */
bool sync_breakpoint_legal(const struct port_caps *caps, const struct isa *isa,
                           const struct sync_site *site);
/* The trap path must know the sites before the call, and until port_grace after it. */
int sync_breakpoint(struct port *port, struct sync_batch *batch) port_must_check;

/*
 * Also returns
 *
 * -ETIMEDOUT   not all cores came to rest, in any try; nothing written
 * -EBUSY       `clear`: somebody stayed inside; nothing written.
 *              `vacate`: somebody stayed inside; everything is written, the ranges must live on
 * -EINVAL      `strict` and `vacate` together
 * or what `begin` returned; nothing written
 */
int sync_quiesce(struct port *port, struct sync_batch *batch) port_must_check;

/* Bytes for one stretch of such memory. */
struct sync_code {
	uint64_t address;
	const void *bytes; /* NULL: they were written through the alias of port_view_open */
	size_t size;
};
/*
 * Code into memory that nobody executes: JIT output, a displaced copy, an exception vector.
 * `pages` (may be NULL) is mapped between writing and flushing, if the execution address does not
 * exist before.
 */
int sync_publish(struct port *port, const struct sync_code *list, uint32_t count,
                 const struct port_pages *pages) port_must_check;

#endif
