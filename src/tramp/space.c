/* SPDX-License-Identifier: MIT */
/*
 * space.c - where trampolines may live.
 *
 * Puns name one exact address, scattered over 4 GB; windows leave a choice; the rest goes
 * anywhere near. A planned page is 4096 bytes of contents and a bitmap of what is taken.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "tramp/tramp.h"

struct page {
	uint64_t address;
	unsigned taken; /* bytes; a page without any is not mapped and costs nothing */
	uint8_t used[TRAMP_PAGE / 8];
	uint8_t bytes[TRAMP_PAGE];
};

struct tramp_space {
	struct port_range *occupied;
	size_t occupied_count;
	struct page **pages; /* in order of creation */
	size_t page_count, page_capacity;
	size_t live_pages, max_pages; /* pages with bytes taken */
	uint32_t *hash;               /* index + 1 of pages, by page number; 0: empty */
	size_t hash_size;
	/* By log2 of the step: where a choice ended last. The next is likely to fit just behind it,
	 * and need not walk over all that came before. */
	uint64_t last_choice[64];
	struct page *last_near; /* where tramp_reserve_near found room last */
	size_t last_offset;
};

enum { UNUSED_BYTE = 0xcc, CHOICE_STEPS = 4096, REACH = 0x7fff0000 };

int tramp_space_new(const struct port_range *occupied, size_t n, size_t max_pages,
                    struct tramp_space **out)
{
	struct tramp_space *space = calloc(1, sizeof(*space));

	*out = NULL;
	if (!space)
		return -ENOMEM;
	space->max_pages = max_pages;
	space->hash_size = 1024;
	space->hash = calloc(space->hash_size, sizeof(*space->hash));
	space->occupied = calloc(n + 1, sizeof(*space->occupied));
	if (!space->hash || !space->occupied) {
		tramp_space_free(space);
		return -ENOMEM;
	}
	if (n)
		memcpy(space->occupied, occupied, n * sizeof(*occupied));
	space->occupied_count = n;
	*out = space;
	return 0;
}

void tramp_space_free(struct tramp_space *space)
{
	if (!space)
		return;
	for (size_t i = 0; i < space->page_count; i++)
		free(space->pages[i]);
	free(space->pages);
	free(space->hash);
	free(space->occupied);
	free(space);
}

size_t tramp_space_pages(const struct tramp_space *space)
{
	return space->live_pages;
}

void tramp_space_limit(struct tramp_space *space, size_t max_pages)
{
	space->max_pages = max_pages;
}

static size_t hash_slot(const struct tramp_space *space, uint64_t address)
{
	uint64_t mixed = address / TRAMP_PAGE * 0x9e3779b97f4a7c15ull;

	return (size_t)(mixed >> 20) & (space->hash_size - 1);
}

static struct page *find_page(const struct tramp_space *space, uint64_t address)
{
	uint64_t start = address & ~(uint64_t)(TRAMP_PAGE - 1);
	size_t slot = hash_slot(space, start);

	for (; space->hash[slot]; slot = (slot + 1) & (space->hash_size - 1))
		if (space->pages[space->hash[slot] - 1]->address == start)
			return space->pages[space->hash[slot] - 1];
	return NULL;
}

static void hash_insert(struct tramp_space *space, size_t index)
{
	size_t slot = hash_slot(space, space->pages[index]->address);

	while (space->hash[slot])
		slot = (slot + 1) & (space->hash_size - 1);
	space->hash[slot] = (uint32_t)index + 1;
}

static int grow(struct tramp_space *space)
{
	size_t capacity = space->page_capacity ? 2 * space->page_capacity : 256;
	struct page **pages = realloc(space->pages, capacity * sizeof(*pages));
	uint32_t *hash = calloc(4 * capacity, sizeof(*hash));

	if (pages)
		space->pages = pages;
	if (!pages || !hash) {
		free(hash);
		return -ENOMEM;
	}
	free(space->hash);
	space->page_capacity = capacity;
	space->hash = hash;
	space->hash_size = 4 * capacity;
	for (size_t i = 0; i < space->page_count; i++)
		hash_insert(space, i);
	return 0;
}

static struct page *add_page(struct tramp_space *space, uint64_t start)
{
	struct page *page;

	if (space->page_count == space->page_capacity && grow(space))
		return NULL;
	page = calloc(1, sizeof(*page));
	if (!page)
		return NULL;
	page->address = start;
	memset(page->bytes, UNUSED_BYTE, sizeof(page->bytes));
	space->pages[space->page_count++] = page;
	hash_insert(space, space->page_count - 1);
	return page;
}

/* The occupied range that overlaps [start, end), or NULL. */
static const struct port_range *occupied_at(const struct tramp_space *space, uint64_t start,
                                            uint64_t end)
{
	size_t low = 0, high = space->occupied_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (space->occupied[middle].end <= start)
			low = middle + 1;
		else
			high = middle;
	}
	if (low < space->occupied_count && space->occupied[low].start < end)
		return &space->occupied[low];
	return NULL;
}

static bool used(const struct page *page, size_t offset)
{
	return page->used[offset / 8] >> offset % 8 & 1;
}

/* New pages that taking the range would need; -EEXIST if a byte is taken. */
static int pages_needed(const struct tramp_space *space, uint64_t address, size_t size)
{
	uint64_t first = address & ~(uint64_t)(TRAMP_PAGE - 1), end = address + size;
	int needed = 0;

	if (end < address || end >= 1ull << 63) /* no machine maps user code there */
		return -EEXIST;
	for (uint64_t at = first; at < end; at += TRAMP_PAGE) {
		const struct page *page = find_page(space, at);

		if (!page && occupied_at(space, at, at + TRAMP_PAGE))
			return -EEXIST;
		if (!page || !page->taken) {
			needed++;
			continue;
		}
		for (uint64_t a = at > address ? at : address; a < end && a < at + TRAMP_PAGE; a++)
			if (used(page, a - at))
				return -EEXIST;
	}
	return needed;
}

static void mark(struct tramp_space *space, uint64_t address, size_t size, bool take)
{
	for (uint64_t at = address; at < address + size; at++) {
		struct page *page = find_page(space, at);
		size_t offset = at % TRAMP_PAGE;

		if (take) {
			page->used[offset / 8] |= (uint8_t)(1u << offset % 8);
			space->live_pages += page->taken++ == 0;
		} else {
			page->used[offset / 8] &= (uint8_t) ~(1u << offset % 8);
			space->live_pages -= --page->taken == 0;
		}
	}
}

int tramp_reserve(struct tramp_space *space, uint64_t address, size_t size)
{
	int needed = pages_needed(space, address, size);

	if (needed < 0)
		return needed;
	if (space->live_pages + (size_t)needed > space->max_pages)
		return -ENOSPC;
	for (uint64_t at = address & ~(uint64_t)(TRAMP_PAGE - 1); at < address + size;
	     at += TRAMP_PAGE)
		if (!find_page(space, at) && !add_page(space, at))
			return -ENOMEM;
	mark(space, address, size, true);
	return 0;
}

void tramp_release(struct tramp_space *space, uint64_t address, size_t size)
{
	mark(space, address, size, false);
}

/* Walk from k = `from` in direction `sign`; occupied ranges are stepped over at once. */
static int walk(struct tramp_space *space, const struct tramp_choice *c, size_t size, int sign,
                int64_t from, unsigned *skip, int64_t *k)
{
	int64_t step = (int64_t)c->step;
	int64_t at = from;

	for (int tries = 0; tries < CHOICE_STEPS && at >= c->low && at <= c->high; tries++) {
		uint64_t address = c->base + (uint64_t)(at * step);
		const struct port_range *range = occupied_at(space, address, address + size);

		if (range) {
			uint64_t distance =
			        sign > 0 ? range->end - address : address + size - range->start;
			uint64_t steps = distance / c->step + (distance % c->step != 0);
			uint64_t left = (uint64_t)(sign > 0 ? c->high - at : at - c->low);

			if (steps > left)
				return -ENOSPC;
			at += sign * (int64_t)(steps ? steps : 1);
			continue;
		}
		if (pages_needed(space, address, size) >= 0) {
			if (*skip) {
				--*skip;
			} else {
				int rc = tramp_reserve(space, address, size);

				*k = at;
				return rc;
			}
		}
		at += sign;
	}
	return -ENOSPC;
}

static int64_t first_choice(const struct tramp_space *space, const struct tramp_choice *c)
{
	uint64_t last = space->last_choice[__builtin_ctzll(c->step)];
	int64_t k = ((int64_t)(last - c->base) + (int64_t)c->step - 1) / (int64_t)c->step;

	if (!last || k < c->low || k > c->high)
		k = 0;
	return k < c->low ? c->low : k > c->high ? c->high : k;
}

int tramp_reserve_choice(struct tramp_space *space, const struct tramp_choice *choice, size_t size,
                         unsigned skip, int64_t *k)
{
	int64_t first = first_choice(space, choice);
	unsigned skip_given = skip;
	int rc = walk(space, choice, size, 1, first, &skip, k);

	if (rc == -ENOSPC)
		rc = walk(space, choice, size, -1, first - 1, &skip, k);
	if (!rc && !skip_given)
		space->last_choice[__builtin_ctzll(choice->step)] =
		        choice->base + (uint64_t)*k * choice->step;
	return rc;
}

static bool reaches(uint64_t a, uint64_t b)
{
	return (a > b ? a - b : b - a) < REACH;
}

/* First offset of `size` free bytes in the page, from `offset` on; TRAMP_PAGE if none. */
static size_t free_run(const struct page *page, size_t offset, size_t size)
{
	size_t run = 0;

	for (; offset < TRAMP_PAGE; offset++) {
		run = used(page, offset) ? 0 : run + 1;
		if (run == size)
			return offset + 1 - size;
	}
	return TRAMP_PAGE;
}

int tramp_reserve_near(struct tramp_space *space, uint64_t near, size_t size, uint64_t *address)
{
	struct tramp_choice pages = {near & ~(uint64_t)(TRAMP_PAGE - 1), TRAMP_PAGE,
	                             -(REACH / TRAMP_PAGE), REACH / TRAMP_PAGE};
	size_t tries = 0;
	int64_t k;
	int rc;

	if (space->last_near && space->last_near->taken &&
	    reaches(space->last_near->address, near)) {
		size_t offset = free_run(space->last_near, space->last_offset, size);

		if (offset < TRAMP_PAGE) {
			*address = space->last_near->address + offset;
			space->last_offset = offset + size;
			return tramp_reserve(space, *address, size);
		}
	}
	/* Pages made for puns are nearly empty: use a recent one before planning another. */
	for (size_t i = space->page_count; i-- > 0 && tries < 16;) {
		struct page *page = space->pages[i];
		size_t offset;

		if (!page->taken || !reaches(page->address, near))
			continue;
		tries++;
		offset = free_run(page, 0, size);
		if (offset == TRAMP_PAGE)
			continue;
		space->last_near = page;
		space->last_offset = offset + size;
		*address = page->address + offset;
		return tramp_reserve(space, *address, size);
	}
	/* A page of its own: one whole page is asked for, then all but `size` given back. */
	rc = tramp_reserve_choice(space, &pages, TRAMP_PAGE, 0, &k);
	if (rc)
		return rc;
	*address = pages.base + (uint64_t)(k * TRAMP_PAGE);
	tramp_release(space, *address + size, TRAMP_PAGE - size);
	space->last_near = find_page(space, *address);
	space->last_offset = size;
	return 0;
}

static bool any_page_in(const struct tramp_space *space, uint64_t start, uint64_t end)
{
	for (size_t i = 0; i < space->page_count; i++)
		if (space->pages[i]->address < end && space->pages[i]->address + TRAMP_PAGE > start)
			return true;
	return false;
}

int tramp_reserve_region(struct tramp_space *space, uint64_t near, size_t size, uint64_t *address)
{
	uint64_t at = (near + TRAMP_PAGE - 1) & ~(uint64_t)(TRAMP_PAGE - 1);
	const struct port_range *range;
	struct port_range *grown;
	size_t i;

	while ((range = occupied_at(space, at, at + size)) || any_page_in(space, at, at + size)) {
		at = range ? (range->end + TRAMP_PAGE - 1) & ~(uint64_t)(TRAMP_PAGE - 1)
		           : at + TRAMP_PAGE;
		if (at + size < size || at + size >= 1ull << 63)
			return -ENOSPC;
	}
	grown = realloc(space->occupied, (space->occupied_count + 1) * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	space->occupied = grown;
	for (i = space->occupied_count; i > 0 && space->occupied[i - 1].start > at; i--)
		space->occupied[i] = space->occupied[i - 1];
	space->occupied[i] = (struct port_range){at, at + size};
	space->occupied_count++;
	*address = at;
	return 0;
}

void tramp_put(struct tramp_space *space, uint64_t address, const uint8_t *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++)
		find_page(space, address + i)->bytes[(address + i) % TRAMP_PAGE] = bytes[i];
}

static int compare_pages(const void *a, const void *b)
{
	const struct page *x = *(struct page *const *)a, *y = *(struct page *const *)b;

	return x->address < y->address ? -1 : x->address > y->address;
}

int tramp_layout(struct tramp_space *space, uint64_t first_offset, struct port_pages **runs,
                 size_t *count)
{
	struct port_pages *list = calloc(space->page_count + 1, sizeof(*list));
	uint64_t offset = first_offset;

	*runs = NULL;
	*count = 0;
	if (!list)
		return -ENOMEM;
	if (space->page_count)
		qsort(space->pages, space->page_count, sizeof(*space->pages), compare_pages);
	memset(space->hash, 0, space->hash_size * sizeof(*space->hash));
	for (size_t i = 0; i < space->page_count; i++) {
		struct port_pages *last = *count ? &list[*count - 1] : NULL;

		hash_insert(space, i);
		if (!space->pages[i]->taken)
			continue;
		if (last && last->address + last->size == space->pages[i]->address)
			last->size += TRAMP_PAGE;
		else
			list[(*count)++] =
			        (struct port_pages){space->pages[i]->address, TRAMP_PAGE, offset};
		offset += TRAMP_PAGE;
	}
	*runs = list;
	return 0;
}

void tramp_emit(const struct tramp_space *space, uint64_t first_offset, uint8_t *memory)
{
	uint8_t *at = memory + first_offset;

	for (size_t i = 0; i < space->page_count; i++) {
		if (!space->pages[i]->taken)
			continue;
		memcpy(at, space->pages[i]->bytes, TRAMP_PAGE);
		at += TRAMP_PAGE;
	}
}
