/* SPDX-License-Identifier: MIT */
/*
 * edits.c - what our text was before it was changed, and is. Uses of keys are not listed here:
 * their module's table (key.c) tells.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "api/own/own.h"

/* Edits in force, sorted by address: what the text was, and is. Under own_lock. */
static struct edit {
	uint64_t address;
	uint8_t length;
	uint8_t original[SUTURE_EDIT_MAX], now[SUTURE_EDIT_MAX];
} * edits;
static size_t edits_count, edits_room;

/* Index of the first edit that ends after `address`. */
static size_t edit_after(uint64_t address)
{
	size_t low = 0, high = edits_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (edits[middle].address + edits[middle].length <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

bool edits_meet(uint64_t start, uint64_t end)
{
	for (size_t i = edit_after(start); i < edits_count && edits[i].address < end; i++)
		if (memcmp(edits[i].now, edits[i].original, edits[i].length) != 0)
			return true;
	return keys_meet(start, end, false);
}

bool edits_overlap(const struct sync_site *site)
{
	size_t i = edit_after(site->address);

	while (i < edits_count && edits[i].address < site->address + site->length) {
		if (edits[i].address == site->address && edits[i].length == site->length)
			return false;
		if (memcmp(edits[i].now, edits[i].original, edits[i].length) != 0)
			return true;
		/* Nothing is edited there now: it makes room. */
		memmove(&edits[i], &edits[i + 1], (--edits_count - i) * sizeof(*edits));
	}
	return keys_meet(site->address, site->address + site->length, true);
}

/* Room for `count` more, before anything is written. */
int edits_reserve(size_t count)
{
	size_t room = edits_count + count;
	struct edit *grown;

	if (room <= edits_room)
		return 0;
	grown = realloc(edits, room * 2 * sizeof(*edits));
	if (!grown)
		return -ENOMEM;
	edits = grown;
	edits_room = room * 2;
	return 0;
}

void edits_note(const struct sync_site *site)
{
	size_t i = edit_after(site->address);
	bool known = i < edits_count && edits[i].address == site->address;

	if (!known) {
		memmove(&edits[i + 1], &edits[i], (edits_count++ - i) * sizeof(*edits));
		edits[i].address = site->address;
		edits[i].length = site->length;
		memcpy(edits[i].original, site->original, site->length);
	}
	/* One that is as it was at first stays, as it is likely to change again. */
	memcpy(edits[i].now, site->patched, site->length);
}

void edits_undo(uint64_t address, uint8_t *bytes, size_t size)
{
	for (size_t i = edit_after(address); i < edits_count; i++) {
		if (edits[i].address >= address + size)
			break;
		for (size_t k = 0; k < edits[i].length; k++) {
			uint64_t at = edits[i].address + k - address;

			if (at < size)
				bytes[at] = edits[i].original[k];
		}
	}
	keys_undo(address, bytes, size);
}

void edits_forget(uint64_t start, uint64_t end)
{
	size_t kept = 0;

	for (size_t i = 0; i < edits_count; i++)
		if (edits[i].address + edits[i].length <= start || edits[i].address >= end)
			edits[kept++] = edits[i];
	edits_count = kept;
}
