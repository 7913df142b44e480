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
	unsigned dirty_low, dirty_high; /* changed by tramp_put and not taken yet */
	uint8_t used[TRAMP_PAGE / 8];
	uint8_t bytes[TRAMP_PAGE];
};

enum { PATTERNS = 32 };

struct tramp_space {
	struct port_range *occupied;
	size_t occupied_count;
	struct page **pages; /* in order of creation */
	size_t page_count, page_capacity;
	size_t live_pages, max_pages; /* pages with bytes taken */
	size_t dirty_pages;
	uint32_t *hash; /* index + 1 of pages, by page number; 0: empty */
	size_t hash_size;
	/* By log2 of the step: where a choice ended last. The next is likely to fit just behind it,
	 * and need not walk over all that came before. */
	uint64_t last_choice[64];
	struct page *last_near; /* where tramp_reserve_near found room last */
	size_t last_offset;
	struct page *last_pattern[PATTERNS]; /* by pattern: where a place was found last */
	uint32_t last_free[PATTERNS];        /* and which choice was free */
	tramp_map_fn map;
	void *map_arg;
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

void tramp_space_clear(struct tramp_space *space)
{
	for (size_t i = 0; i < space->page_count; i++)
		free(space->pages[i]);
	space->page_count = space->live_pages = space->dirty_pages = 0;
	memset(space->hash, 0, space->hash_size * sizeof(*space->hash));
	memset(space->last_choice, 0, sizeof(space->last_choice));
	memset(space->last_pattern, 0, sizeof(space->last_pattern));
	space->last_near = NULL;
	space->last_offset = 0;
}

void tramp_space_map(struct tramp_space *space, tramp_map_fn map, void *arg)
{
	space->map = map;
	space->map_arg = arg;
}

int tramp_space_occupy(struct tramp_space *space, const struct port_range *occupied, size_t n)
{
	struct port_range *copy = calloc(n + 1, sizeof(*copy));

	if (!copy)
		return -ENOMEM;
	if (n)
		memcpy(copy, occupied, n * sizeof(*copy));
	free(space->occupied);
	space->occupied = copy;
	space->occupied_count = n;
	return 0;
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

bool tramp_space_owns(const struct tramp_space *space, uint64_t page)
{
	return find_page(space, page) != NULL;
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

/* Add [start, end) to what is occupied. */
static int occupy(struct tramp_space *space, uint64_t start, uint64_t end)
{
	size_t i;
	struct port_range *grown =
	        realloc(space->occupied, (space->occupied_count + 1) * sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	space->occupied = grown;
	for (i = space->occupied_count; i > 0 && space->occupied[i - 1].start > start; i--)
		space->occupied[i] = space->occupied[i - 1];
	space->occupied[i] = (struct port_range){start, end};
	space->occupied_count++;
	return 0;
}

static int add_page(struct tramp_space *space, uint64_t start)
{
	struct page *page;
	int rc = 0;

	if (space->page_count == space->page_capacity && grow(space))
		return -ENOMEM;
	page = calloc(1, sizeof(*page));
	if (!page)
		return -ENOMEM;
	if (space->map)
		rc = space->map(space->map_arg, start);
	if (rc == -EEXIST && occupy(space, start, start + TRAMP_PAGE))
		rc = -ENOMEM;
	if (rc) {
		free(page);
		return rc;
	}
	page->address = start;
	memset(page->bytes, UNUSED_BYTE, sizeof(page->bytes));
	space->pages[space->page_count++] = page;
	hash_insert(space, space->page_count - 1);
	return 0;
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

static void mark_in_page(struct tramp_space *space, struct page *page, size_t first, size_t size,
                         bool take)
{
	for (size_t i = first; i < first + size;) {
		if (i % 8 == 0 && i + 8 <= first + size) {
			page->used[i / 8] = take ? 0xff : 0;
			i += 8;
			continue;
		}
		if (take)
			page->used[i / 8] |= (uint8_t)(1u << i % 8);
		else
			page->used[i / 8] &= (uint8_t) ~(1u << i % 8);
		i++;
	}
	if (take)
		space->live_pages += page->taken == 0;
	else
		space->live_pages -= page->taken == size;
	page->taken += take ? (unsigned)size : -(unsigned)size;
}

static void mark(struct tramp_space *space, uint64_t address, size_t size, bool take)
{
	while (size) {
		size_t first = address % TRAMP_PAGE;
		size_t here = size < TRAMP_PAGE - first ? size : TRAMP_PAGE - first;

		mark_in_page(space, find_page(space, address), first, here, take);
		address += here;
		size -= here;
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
	     at += TRAMP_PAGE) {
		int rc = find_page(space, at) ? 0 : add_page(space, at);

		if (rc)
			return rc;
	}
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

static bool reaches(uint64_t a, uint64_t b, uint64_t reach)
{
	return (a > b ? a - b : b - a) < reach;
}

/* Up to 57 bytes. */
static bool is_free(const struct page *page, size_t offset, size_t size)
{
	uint8_t bits[16] = {0};
	uint64_t word;
	size_t first = offset / 8, left = sizeof(page->used) - first;

	memcpy(bits, page->used + first, left < 8 ? left : 8);
	memcpy(&word, bits, sizeof(word));
	return !(word >> offset % 8 & ((1ull << size) - 1));
}

/* First offset of `size` free bytes in the page, from `offset` on; TRAMP_PAGE if none. */
static size_t free_run(const struct page *page, size_t offset, size_t size)
{
	size_t run = 0;

	if (TRAMP_PAGE - page->taken < size)
		return TRAMP_PAGE;
	while (offset < TRAMP_PAGE) {
		if (offset % 8 == 0 && page->used[offset / 8] == 0xff) {
			run = 0;
			offset += 8;
			continue;
		}
		run = used(page, offset) ? 0 : run + 1;
		offset++;
		if (run == size)
			return offset - size;
	}
	return TRAMP_PAGE;
}

int tramp_reserve_close(struct tramp_space *space, uint64_t near, uint64_t reach, size_t size,
                        uint64_t *address)
{
	int64_t span = (int64_t)(reach / TRAMP_PAGE);
	struct tramp_choice pages = {near & ~(uint64_t)(TRAMP_PAGE - 1), TRAMP_PAGE, -span, span};
	size_t tries = 0;
	int64_t k;
	int rc;

	if (space->last_near && space->last_near->taken &&
	    reaches(space->last_near->address, near, reach)) {
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

		if (!page->taken || !reaches(page->address, near, reach))
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

int tramp_reserve_near(struct tramp_space *space, uint64_t near, size_t size, uint64_t *address)
{
	return tramp_reserve_close(space, near, REACH, size, address);
}

/* ---- displacements of which some bytes are given ---- */

struct pattern {
	uint64_t base;
	uint32_t mask, value;
	unsigned low; /* free bits below the lowest given one */
};

static bool matches(const struct pattern *p, uint64_t address)
{
	int64_t d = (int64_t)(address - p->base);

	return d == (int32_t)d && ((uint32_t)d & p->mask) == p->value;
}

/* The next address from `at` on that may match, whatever the bytes above the lowest given one. */
static uint64_t next_match(const struct pattern *p, uint64_t at)
{
	uint32_t d = (uint32_t)(at - p->base);

	if (p->low == 0)
		return at + ((p->value - d) & 0xff);
	return matches(p, at) ? at : at + (1u << p->low) - (d & ((1u << p->low) - 1));
}

static bool take_in_page(struct tramp_space *space, struct page *page, const struct pattern *p,
                         size_t size, uint64_t *address)
{
	uint64_t at = page->address, end = page->address + TRAMP_PAGE - size;
	size_t room = TRAMP_PAGE - page->taken;

	if (!page->taken || room < 2 * size)
		return false;
	while ((at = next_match(p, at)) <= end) {
		size_t offset = (size_t)(at - page->address), next = offset;

		if (!matches(p, at)) {
			at += p->low ? 1u << p->low : 256;
			continue;
		}
		if (p->low) /* a run of places side by side */
			next = free_run(page, offset, size);
		else if (!is_free(page, offset, size))
			next = offset + 256;
		if (next == offset && tramp_reserve(space, at, size) == 0) {
			*address = at;
			return true;
		}
		at = page->address + (next > offset ? next : offset + 1);
	}
	return false;
}

/* Of the choices for the bits that are not given, the one after `choice`; after the last the first.
 */
static uint32_t next_choice(uint32_t choice, uint32_t given)
{
	return ((choice | given) + 1) & ~given;
}

/* From `*choice` on, which becomes the one that was taken: most before it are occupied. */
static int take_new_page(struct tramp_space *space, const struct pattern *p, size_t size,
                         uint32_t *choice, uint64_t *address)
{
	/* Below the page's size there is nothing to choose: the page is new. */
	uint32_t given = p->mask | ((1u << (p->low < 12 ? p->low : 12)) - 1);
	uint32_t from = *choice & ~given;

	for (unsigned steps = 0; steps < CHOICE_STEPS; steps++, from = next_choice(from, given)) {
		uint64_t at = p->base + (uint64_t)(int64_t)(int32_t)(p->value | from);

		if (pages_needed(space, at, size) < 0 || tramp_reserve(space, at, size))
			continue;
		*choice = from;
		*address = at;
		return 0;
	}
	return -ENOSPC;
}

int tramp_reserve_pattern(struct tramp_space *space, uint64_t base, uint32_t mask, uint32_t value,
                          size_t size, uint64_t *address)
{
	struct pattern p = {base, mask, value & mask, (unsigned)__builtin_ctz(mask)};
	unsigned slot = (mask * 0x9e3779b1u ^ value * 0x85ebca6bu) >> 27;
	struct page **last = &space->last_pattern[slot];
	uint32_t *choice = &space->last_free[slot];
	int rc;

	if (*last && take_in_page(space, *last, &p, size, address))
		return 0;
	for (size_t i = space->page_count, tries = 0; i-- > 0 && tries < 16; tries++) {
		if (!take_in_page(space, space->pages[i], &p, size, address))
			continue;
		*last = space->pages[i];
		return 0;
	}
	rc = take_new_page(space, &p, size, choice, address);
	if (rc && *choice) {
		*choice = 0;
		rc = take_new_page(space, &p, size, choice, address);
	}
	if (!rc)
		*last = find_page(space, *address);
	return rc;
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

	while ((range = occupied_at(space, at, at + size)) || any_page_in(space, at, at + size)) {
		at = range ? (range->end + TRAMP_PAGE - 1) & ~(uint64_t)(TRAMP_PAGE - 1)
		           : at + TRAMP_PAGE;
		if (at + size < size || at + size >= 1ull << 63)
			return -ENOSPC;
	}
	if (occupy(space, at, at + size))
		return -ENOMEM;
	*address = at;
	return 0;
}

void tramp_put(struct tramp_space *space, uint64_t address, const uint8_t *bytes, size_t size)
{
	for (size_t i = 0; i < size;) {
		struct page *page = find_page(space, address + i);
		unsigned at = (unsigned)((address + i) % TRAMP_PAGE);
		size_t n = size - i < TRAMP_PAGE - at ? size - i : TRAMP_PAGE - at;

		memcpy(page->bytes + at, bytes + i, n);
		if (page->dirty_low == page->dirty_high) {
			page->dirty_low = at;
			page->dirty_high = at;
			space->dirty_pages++;
		}
		page->dirty_low = at < page->dirty_low ? at : page->dirty_low;
		page->dirty_high =
		        at + n > page->dirty_high ? (unsigned)(at + n) : page->dirty_high;
		i += n;
	}
}

int tramp_take_dirty(struct tramp_space *space, tramp_dirty_fn fn, void *arg)
{
	int rc = 0;

	for (size_t i = space->page_count; i-- > 0 && space->dirty_pages && !rc;) {
		struct page *page = space->pages[i];

		if (page->dirty_low == page->dirty_high)
			continue;
		rc = fn(arg, page->address + page->dirty_low, page->bytes + page->dirty_low,
		        page->dirty_high - page->dirty_low);
		if (!rc) {
			page->dirty_low = page->dirty_high = 0;
			space->dirty_pages--;
		}
	}
	return rc;
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
