/* SPDX-License-Identifier: MIT */
/*
 * code_blocks.c - which memory of a region is in use.
 *
 * Not in the region itself, whose bytes are code or traps. Three bits for each granule: a block
 * lies between its head and its tail, so that neighbours can be told apart.
 */
#include <errno.h>
#include <stdlib.h>
#include "api/own/code.h"

enum { WORD = 64 };

static bool get(const uint64_t *map, size_t i)
{
	return map[i / WORD] >> (i % WORD) & 1;
}

static void set(uint64_t *map, size_t i)
{
	map[i / WORD] |= UINT64_C(1) << (i % WORD);
}

static void clear(uint64_t *map, size_t i)
{
	map[i / WORD] &= ~(UINT64_C(1) << (i % WORD));
}

/* The first bit that is `value`, from `i` on; `end` if there is none before. */
static size_t next(const uint64_t *map, size_t i, size_t end, bool value)
{
	while (i < end) {
		uint64_t bits = (value ? map[i / WORD] : ~map[i / WORD]) >> (i % WORD);

		if (bits) {
			i += (size_t)__builtin_ctzll(bits);
			return i < end ? i : end;
		}
		i += WORD - i % WORD;
	}
	return end;
}

/* The last bit that is set, at `i` or before it; false: none. */
static bool previous(const uint64_t *map, size_t i, size_t *found)
{
	for (;;) {
		uint64_t bits = map[i / WORD] << (WORD - 1 - i % WORD);

		if (bits) {
			*found = i - (size_t)__builtin_clzll(bits);
			return true;
		}
		if (i < WORD)
			return false;
		i -= i % WORD + 1;
	}
}

static void fill(uint64_t *map, size_t i, size_t count, bool value)
{
	while (count) {
		size_t at = i % WORD, n = WORD - at < count ? WORD - at : count;
		uint64_t bits = (n == WORD ? ~UINT64_C(0) : (UINT64_C(1) << n) - 1) << at;

		if (value)
			map[i / WORD] |= bits;
		else
			map[i / WORD] &= ~bits;
		i += n;
		count -= n;
	}
}

int code_blocks_make(struct code_blocks *blocks, size_t count)
{
	size_t words = (count + WORD - 1) / WORD;

	*blocks = (struct code_blocks){.count = count};
	blocks->used = calloc(3 * words, sizeof(*blocks->used));
	if (!blocks->used)
		return -ENOMEM;
	blocks->head = blocks->used + words;
	blocks->tail = blocks->head + words;
	return 0;
}

void code_blocks_drop(struct code_blocks *blocks)
{
	free(blocks->used);
	blocks->used = NULL;
}

static bool find(const struct code_blocks *blocks, size_t from, size_t count, size_t align,
                 size_t *first)
{
	while (from < blocks->count) {
		size_t start = next(blocks->used, from, blocks->count, false), end;

		start = (start + align - 1) / align * align;
		if (start > blocks->count || count > blocks->count - start)
			return false;
		end = next(blocks->used, start, start + count, true);
		if (end == start + count) {
			*first = start;
			return true;
		}
		from = end;
	}
	return false;
}

bool code_blocks_take(struct code_blocks *blocks, size_t count, size_t align, size_t *first)
{
	if (!find(blocks, blocks->next, count, align, first) &&
	    !find(blocks, 0, count, align, first))
		return false;
	fill(blocks->used, *first, count, true);
	set(blocks->head, *first);
	set(blocks->tail, *first + count - 1);
	blocks->next = *first + count;
	return true;
}

size_t code_blocks_retire(struct code_blocks *blocks, size_t first)
{
	if (first >= blocks->count || !get(blocks->head, first))
		return 0;
	clear(blocks->head, first);
	return next(blocks->tail, first, blocks->count, true) - first + 1;
}

void code_blocks_release(struct code_blocks *blocks, size_t first, size_t count)
{
	fill(blocks->used, first, count, false);
	clear(blocks->tail, first + count - 1);
}

/* A tail behind a head in use is its own: a block that was retired in between has one, too. */
bool code_blocks_within(const struct code_blocks *blocks, size_t first, size_t last)
{
	size_t head;

	return last < blocks->count && previous(blocks->head, first, &head) &&
	       next(blocks->tail, head, blocks->count, true) >= last;
}

bool code_blocks_any(const struct code_blocks *blocks, size_t first, size_t last)
{
	return next(blocks->used, first, last + 1, true) <= last;
}
