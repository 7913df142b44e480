/* SPDX-License-Identifier: MIT */
/*
 * run.h - sites that are read, changed and written as one.
 *
 * Up to RUN_SINGLE sites each is written alone: a neighbour's breakpoint between two of ours is
 * then never touched. Beyond, or if the batch says so, near ones are joined; what is between them
 * is read just before, and written as it was found. A run of several lies between two multiples of
 * RUN_MAX: what is written is then one page where pages are that large, or more.
 */
#ifndef SUTURE_SYNC_RUN_H
#define SUTURE_SYNC_RUN_H

#include "sync/sync.h"

enum { RUN_MAX = 4096, RUN_SINGLE = 64, RUN_GAP = 1024 };

struct run {
	uint32_t first, last; /* sites, inclusive */
	uint64_t address;
	size_t size;
	size_t low, high; /* the bytes that change: offsets, half open */
	uint8_t bytes[RUN_MAX];
};

/* The run that begins with site `first`, nothing of it read. */
void run_at(const struct port_caps *caps, const struct sync_batch *batch, uint32_t first,
            struct run *run);
/* Read it; nothing changes yet. */
int run_read(struct port *port, struct run *run) port_must_check;
static inline void run_changes(struct run *run, size_t at, size_t end)
{
	run->low = at < run->low ? at : run->low;
	run->high = end > run->high ? end : run->high;
}

static inline void run_put_byte(struct run *run, size_t at, uint8_t byte)
{
	if (run->bytes[at] == byte)
		return;
	run->bytes[at] = byte;
	run_changes(run, at, at + 1);
}

/* What follows the first byte of a jump. */
static inline void run_put_word(struct run *run, size_t at, const uint8_t *bytes)
{
	uint32_t old, new, differ;
	unsigned before, after; /* bits that stay */

	__builtin_memcpy(&old, run->bytes + at, sizeof(old));
	__builtin_memcpy(&new, bytes, sizeof(new));
	differ = old ^ new;
	if (!differ)
		return;
	__builtin_memcpy(run->bytes + at, &new, sizeof(new));
	before = (unsigned)__builtin_ctz(differ);
	after = (unsigned)__builtin_clz(differ);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	run_changes(run, at + after / 8, at + sizeof(new) - before / 8);
#else
	run_changes(run, at + before / 8, at + sizeof(new) - after / 8);
#endif
}

/* Change `size` bytes at offset `at`; from the first to the last that is another. */
static inline void run_put(struct run *run, size_t at, const uint8_t *bytes, size_t size)
{
	size_t end = at + size;

	if (size == sizeof(uint32_t)) {
		run_put_word(run, at, bytes);
		return;
	}
	for (; at < end && run->bytes[at] == *bytes; at++)
		bytes++;
	while (end > at && run->bytes[end - 1] == bytes[end - 1 - at])
		end--;
	if (at == end)
		return;
	run_changes(run, at, end);
	for (; at < end; at++)
		run->bytes[at] = *bytes++;
}

/* Write what changes, in any pieces, with its duties (text_write). */
int run_write(struct port *port, const struct run *run) port_must_check;

#endif
