/* SPDX-License-Identifier: MIT */
/* text.h - what the strategies share: comparing, one write with its duties. */
#ifndef SUTURE_SYNC_TEXT_H
#define SUTURE_SYNC_TEXT_H

#include "sync/error.h"
#include "sync/sync.h"

/* What a site is, and what it shall be. */
static inline const uint8_t *text_old(const struct sync_batch *batch, const struct sync_site *site)
{
	return batch->revert ? site->patched : site->original;
}

static inline const uint8_t *text_new(const struct sync_batch *batch, const struct sync_site *site)
{
	return batch->revert ? site->original : site->patched;
}

static inline bool text_same(const uint8_t *a, const uint8_t *b, size_t size)
{
	uint32_t first[2], last[2];

	if (size < sizeof(first[0]) || size > 2 * sizeof(first[0])) {
		for (size_t i = 0; i < size; i++)
			if (a[i] != b[i])
				return false;
		return true;
	}
	/* Most instructions: two words, which may overlap. */
	size -= sizeof(first[0]);
	__builtin_memcpy(&first[0], a, sizeof(first[0]));
	__builtin_memcpy(&first[1], b, sizeof(first[0]));
	__builtin_memcpy(&last[0], a + size, sizeof(first[0]));
	__builtin_memcpy(&last[1], b + size, sizeof(first[0]));
	return first[0] == first[1] && last[0] == last[1];
}

/* Nothing but old bytes, new bytes, and traps at boundaries? */
bool text_ours(const struct isa *isa, const struct sync_site *site, const uint8_t *now);

/* Are all old bytes there? -EUCLEAN (or why they can not be read), batch->failed and ->refused if
 * not. */
int text_compare(struct port *port, struct sync_batch *batch) port_must_check;

/* Write and do the three duties as far as this core can: with one store, or in any pieces. */
enum text_how { TEXT_WHOLE, TEXT_PIECES };
int text_write(struct port *port, uint64_t address, const uint8_t *bytes, size_t size,
               enum text_how how) port_must_check;

/* The duty that each core has itself, where maintenance is not broadcast. */
void text_drop_local(struct port *port, const struct sync_batch *batch);

/* Everybody executes what text_write wrote; `point` is the one that stands before the step. */
int text_synchronise(struct port *port, struct sync_batch *batch,
                     enum port_point point) port_must_check;

#endif
