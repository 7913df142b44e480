/* SPDX-License-Identifier: MIT */
/*
 * tramp_space.c - the book of free addresses agrees with a byte array.
 *
 * Random reservations, releases, choices, searches nearby, page budgets and contents, in an arena
 * of 64 pages with random occupied ranges: every answer of the space is compared with an oracle
 * that keeps one state per byte. Proven: what is handed out was free, lies in no occupied page,
 * and stays within the page budget; what is refused could not be had; pages without bytes are
 * neither counted nor laid out; a layout names exactly the pages in use, in order, merged into
 * runs, at rising offsets; and emit writes the bytes that were put, and nothing else.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tap.h"
#include "tramp/tramp.h"

#define BASE 0x7f5500000000ull

enum {
	PAGES = 64,
	SPAN = PAGES * TRAMP_PAGE,
	SPACES = 60,
	OPERATIONS = 2500,
	HELD_MAX = 1024,
	UNUSED = 0xcc,
	UNKNOWN = -1,   /* content of a byte that was given back */
	CHOICES = 1000, /* fewer places than the search is bounded to */
};

static uint64_t state;

static uint64_t next_random(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static uint64_t below(uint64_t limit)
{
	return next_random() % limit;
}

/* --- the oracle ---------------------------------------------------------------------------- */

static bool taken[SPAN], occupied[PAGES];
static int content[SPAN];
static unsigned taken_in[PAGES];
static size_t live, budget;

/* Reservations, so that something can be given back. */
static struct {
	uint64_t at;
	size_t size;
} held[HELD_MAX];
static size_t held_count;

static int failures;

#define CHECK(condition, ...)                                                                      \
	do {                                                                                       \
		if (!(condition) && failures++ < 10)                                               \
			note(__VA_ARGS__);                                                         \
	} while (0)

static bool inside(uint64_t address, size_t size)
{
	return address >= BASE && address - BASE <= SPAN && size <= SPAN - (address - BASE);
}

static bool is_free(uint64_t address, size_t size)
{
	if (!inside(address, size))
		return false;
	for (uint64_t at = address - BASE; at < address - BASE + size; at++)
		if (taken[at] || occupied[at / TRAMP_PAGE])
			return false;
	return true;
}

static size_t new_pages(uint64_t address, size_t size)
{
	size_t count = 0;

	for (size_t page = (address - BASE) / TRAMP_PAGE;
	     page <= (address - BASE + size - 1) / TRAMP_PAGE; page++)
		count += !taken_in[page];
	return count;
}

static void take(uint64_t address, size_t size)
{
	for (uint64_t at = address - BASE; at < address - BASE + size; at++) {
		taken[at] = true;
		live += taken_in[at / TRAMP_PAGE]++ == 0;
	}
	if (held_count < HELD_MAX) {
		held[held_count].at = address;
		held[held_count++].size = size;
	}
}

static void give_back(uint64_t address, size_t size)
{
	for (uint64_t at = address - BASE; at < address - BASE + size; at++) {
		taken[at] = false;
		content[at] = UNKNOWN;
		live -= --taken_in[at / TRAMP_PAGE] == 0;
	}
}

/* Some pages occupied, by ranges that need not begin or end at one. */
static struct tramp_space *new_space(void)
{
	struct port_range ranges[PAGES + 2] = {{0, BASE}};
	struct tramp_space *space;
	size_t n = 1;

	memset(taken, 0, sizeof(taken));
	memset(taken_in, 0, sizeof(taken_in));
	for (size_t i = 0; i < SPAN; i++)
		content[i] = UNUSED;
	held_count = live = 0;
	for (size_t page = 0; page < PAGES; page++) {
		uint64_t start = BASE + page * TRAMP_PAGE, low = 0, high = TRAMP_PAGE;

		occupied[page] = below(6) == 0;
		if (!occupied[page])
			continue;
		if (below(2)) {
			low = below(TRAMP_PAGE);
			high = low + 1 + below(TRAMP_PAGE - low);
		}
		ranges[n++] = (struct port_range){start + low, start + high};
	}
	ranges[n++] = (struct port_range){BASE + SPAN, UINT64_MAX};
	budget = below(3) ? below(PAGES) : PAGES;
	return tramp_space_new(ranges, n, budget, &space) ? NULL : space;
}

/* --- operations ---------------------------------------------------------------------------- */

static uint64_t some_address(void)
{
	uint64_t at = BASE + below(SPAN);

	/* Often at the end of a page, sometimes outside. */
	if (below(3) == 0)
		at = (at | (TRAMP_PAGE - 1)) - below(8);
	return below(50) ? at : at - SPAN / 2;
}

static size_t some_size(void)
{
	return 1 + (below(10) ? below(64) : below(2 * TRAMP_PAGE));
}

static void reserve(struct tramp_space *space)
{
	uint64_t address = some_address();
	size_t size = some_size();
	int expected = 0, rc = tramp_reserve(space, address, size);

	if (!is_free(address, size))
		expected = -EEXIST;
	else if (live + new_pages(address, size) > budget)
		expected = -ENOSPC;
	CHECK(rc == expected, "reserve %" PRIx64 " + %zu: %d instead of %d", address, size, rc,
	      expected);
	if (!rc)
		take(address, size);
}

static void release(struct tramp_space *space)
{
	size_t i = held_count ? below(held_count) : 0, keep;

	if (!held_count)
		return;
	/* All of it, or its end. */
	keep = below(3) ? 0 : below(held[i].size);
	tramp_release(space, held[i].at + keep, held[i].size - keep);
	give_back(held[i].at + keep, held[i].size - keep);
	held[i].size = keep;
	if (!keep)
		held[i] = held[--held_count];
}

static void choose(struct tramp_space *space)
{
	struct tramp_choice choice = {
	        .base = some_address(),
	        .step = 1ull << below(16),
	        .low = -(int64_t)below(CHOICES / 2),
	        .high = (int64_t)below(CHOICES / 2),
	};
	size_t size = 1 + below(40), possible = 0;
	unsigned skip = below(2) ? 0 : (unsigned)below(20);
	bool too_many_pages = false;
	int64_t k = INT64_MIN;
	int rc;

	for (int64_t i = choice.low; i <= choice.high; i++) {
		uint64_t address = choice.base + (uint64_t)(i * (int64_t)choice.step);

		if (!is_free(address, size))
			continue;
		possible++;
		too_many_pages |= live + new_pages(address, size) > budget;
	}
	rc = tramp_reserve_choice(space, &choice, size, skip, &k);
	if (rc) {
		CHECK(rc == -ENOSPC && (possible <= skip || too_many_pages),
		      "choice of %zu places after %u: %d", possible, skip, rc);
		return;
	}
	CHECK(k >= choice.low && k <= choice.high, "k = %" PRId64 " was not offered", k);
	CHECK(possible > skip, "there are %zu places only, and %u were to be skipped", possible,
	      skip);
	choice.base += (uint64_t)(k * (int64_t)choice.step);
	CHECK(is_free(choice.base, size), "%" PRIx64 " was not free", choice.base);
	CHECK(live + new_pages(choice.base, size) <= budget, "choice exceeds the page budget");
	take(choice.base, size);
}

static void near(struct tramp_space *space)
{
	uint64_t at = BASE + below(SPAN) + (below(2) ? 0x40000000 : 0), address = 0;
	size_t size = 1 + (below(4) ? below(300) : below(TRAMP_PAGE));
	bool free_page = false;
	int rc = tramp_reserve_near(space, at, size, &address);

	for (size_t page = 0; page < PAGES; page++)
		free_page |= !occupied[page] && !taken_in[page];
	if (rc) {
		CHECK(rc == -ENOSPC, "near: %d", rc);
		CHECK(!free_page || live >= budget, "near: -ENOSPC, but a page was to be had");
		return;
	}
	CHECK(is_free(address, size), "near: %" PRIx64 " was not free", address);
	CHECK(live + new_pages(address, size) <= budget, "near: exceeds the page budget");
	CHECK(at + INT32_MAX > address && at - INT32_MAX < address, "near: out of reach");
	take(address, size);
}

static void put(struct tramp_space *space)
{
	uint8_t bytes[2 * TRAMP_PAGE];
	size_t i, from, size;

	if (!held_count)
		return;
	i = below(held_count);
	from = below(held[i].size);
	size = held[i].size - from;
	for (size_t k = 0; k < size; k++)
		content[held[i].at - BASE + from + k] = bytes[k] = (uint8_t)next_random();
	tramp_put(space, held[i].at + from, bytes, size);
}

/* --- layout -------------------------------------------------------------------------------- */

static void check_emitted(const struct tramp_space *space, uint64_t first_offset)
{
	size_t size = first_offset + (live + 1) * TRAMP_PAGE, at = first_offset;
	uint8_t *memory = malloc(size);

	if (!memory)
		exit(1);
	memset(memory, 0x5a, size);
	tramp_emit(space, first_offset, memory);
	for (size_t i = 0; i < first_offset; i++)
		CHECK(memory[i] == 0x5a, "emit wrote before the first offset");
	for (size_t page = 0; page < PAGES; page++) {
		if (!taken_in[page])
			continue;
		for (size_t i = 0; i < TRAMP_PAGE; i++) {
			int expected = content[page * TRAMP_PAGE + i];

			CHECK(expected == UNKNOWN || memory[at + i] == expected,
			      "emit: %02x instead of %02x in page %zu at %zu", memory[at + i],
			      (unsigned)expected, page, i);
		}
		at += TRAMP_PAGE;
	}
	for (; at < size; at++)
		CHECK(memory[at] == 0x5a, "emit wrote behind the last page");
	free(memory);
}

static void check_layout(struct tramp_space *space)
{
	uint64_t first_offset = below(5) * TRAMP_PAGE, offset = first_offset;
	struct port_pages *runs = NULL;
	size_t count = 0, n = 0;

	CHECK(tramp_layout(space, first_offset, &runs, &count) == 0, "layout failed");
	for (size_t page = 0; page < PAGES; n++) {
		uint64_t start, size = 0;

		while (page < PAGES && !taken_in[page])
			page++;
		start = BASE + page * TRAMP_PAGE;
		for (; page < PAGES && taken_in[page]; page++)
			size += TRAMP_PAGE;
		if (!size)
			break;
		CHECK(n < count && runs[n].address == start && runs[n].size == size &&
		              runs[n].offset == offset,
		      "layout: run %zu of %zu is not %" PRIx64 " + %" PRIx64, n, count, start,
		      size);
		offset += size;
	}
	CHECK(n == count, "layout: %zu runs instead of %zu", count, n);
	free(runs);
	check_emitted(space, first_offset);
}

static void random_operations(void)
{
	static void (*const operations[])(struct tramp_space *) = {
	        reserve, reserve, reserve, release, release, choose, near, put,
	};

	failures = 0;
	for (int i = 0; i < SPACES; i++) {
		struct tramp_space *space;

		state = 0x9e3779b97f4a7c15ull + (uint64_t)i;
		space = new_space();
		if (!space)
			exit(1);
		for (int k = 0; k < OPERATIONS; k++) {
			operations[below(sizeof(operations) / sizeof(operations[0]))](space);
			CHECK(tramp_space_pages(space) == live, "%zu pages instead of %zu",
			      tramp_space_pages(space), live);
			if (below(200) == 0) {
				budget = below(PAGES);
				tramp_space_limit(space, budget);
			}
			if (below(250) == 0)
				check_layout(space);
		}
		while (held_count)
			release(space);
		CHECK(tramp_space_pages(space) == 0, "pages without bytes are counted");
		check_layout(space);
		tramp_space_free(space);
	}
	ok(!failures, "%d random operations in each of %d spaces", OPERATIONS, SPACES);
}

/* --- by hand ------------------------------------------------------------------------------- */

static struct tramp_space *space_of(const struct port_range *ranges, size_t n, size_t max_pages)
{
	struct tramp_space *space;

	if (tramp_space_new(ranges, n, max_pages, &space))
		exit(1);
	return space;
}

static void edges(void)
{
	const struct port_range ranges[] = {{0, BASE}, {BASE + SPAN, UINT64_MAX}};
	struct tramp_space *space = space_of(ranges, 2, 2);

	ok(tramp_reserve(space, BASE - 1, 2) == -EEXIST, "a range that begins in an occupied one");
	ok(tramp_reserve(space, BASE + SPAN - 1, 2) == -EEXIST, "a range that ends in one");
	ok(tramp_reserve(space, UINT64_MAX - 2, 5) == -EEXIST, "a range that wraps around");
	ok(tramp_reserve(space, BASE + TRAMP_PAGE - 2, 5) == 0 && tramp_space_pages(space) == 2,
	   "across a page boundary: two pages");
	ok(tramp_reserve(space, BASE + 2 * TRAMP_PAGE, 1) == -ENOSPC, "a third one is too many");
	ok(tramp_reserve(space, BASE, TRAMP_PAGE - 2) == 0, "but not what lies in the first two");
	tramp_space_free(space);

	space = space_of(NULL, 0, 1);
	ok(tramp_reserve(space, BASE, 5) == 0, "a space in which nothing is occupied");
	tramp_space_free(space);
	tramp_space_free(NULL);
}

/* Each number of places skipped leads to another place, until there is none. */
static void skipping(void)
{
	const struct port_range ranges[] = {{0, BASE}, {BASE + SPAN, UINT64_MAX}};
	const struct tramp_choice choice = {BASE + SPAN / 2, TRAMP_PAGE, -PAGES, PAGES};
	bool seen[PAGES] = {false}, different = true;
	int64_t k;

	for (unsigned skip = 0; skip <= PAGES; skip++) {
		struct tramp_space *space = space_of(ranges, 2, PAGES);
		int rc = tramp_reserve_choice(space, &choice, 5, skip, &k);

		if (skip == PAGES) {
			different &= rc == -ENOSPC;
		} else {
			different &=
			        !rc && k >= -PAGES / 2 && k < PAGES / 2 && !seen[k + PAGES / 2];
			if (!rc)
				seen[(k + PAGES / 2) % PAGES] = true;
		}
		tramp_space_free(space);
	}
	ok(different, "each of %d places after its own number of skipped ones", PAGES);
}

static void clearing(void)
{
	const struct port_range ranges[] = {{0, BASE}};
	struct tramp_space *space = space_of(ranges, 1, 2);
	uint64_t address = 0, again = 0;

	ok(tramp_reserve(space, BASE, 5) == 0 && tramp_reserve(space, BASE + 0x1000, 5) == 0 &&
	           tramp_reserve(space, BASE + 0x2000, 5) == -ENOSPC,
	   "a space is full");
	tramp_space_clear(space);
	ok(tramp_space_pages(space) == 0 && !tramp_space_owns(space, BASE), "cleared, it is empty");
	ok(tramp_reserve(space, BASE - 5, 5) == -EEXIST, "what was occupied still is");
	ok(tramp_reserve(space, BASE, 5) == 0 && tramp_reserve(space, BASE + 0x2000, 5) == 0,
	   "and it can be filled anew");
	tramp_space_clear(space);
	ok(tramp_reserve_near(space, BASE, 32, &address) == 0, "a place is found");
	tramp_space_clear(space);
	ok(tramp_reserve_near(space, BASE, 32, &again) == 0 && again == address,
	   "and the same one after the next clear");
	tramp_space_free(space);
}

static void regions(void)
{
	const struct port_range ranges[] = {{0, BASE}, {BASE + 0x3000, BASE + 0x4000}};
	struct tramp_space *space = space_of(ranges, 2, 16);
	uint64_t address = 0;

	ok(tramp_reserve_region(space, BASE + 1, 0x3000, &address) == 0 && address == BASE + 0x4000,
	   "a region begins at a page and passes over what is occupied");
	ok(tramp_space_pages(space) == 0, "it is not counted as trampoline pages");
	ok(tramp_reserve(space, address + 0x2fff, 1) == -EEXIST &&
	           tramp_reserve(space, address, 1) == -EEXIST,
	   "nothing is placed in it");
	ok(tramp_reserve(space, address + 0x3000, 1) == 0 &&
	           tramp_reserve(space, address - 0x2000, 1) == 0,
	   "but right behind and before it");
	tramp_space_free(space);

	space = space_of(ranges, 2, 16);
	if (tramp_reserve(space, BASE + 0x6010, 5))
		exit(1);
	ok(tramp_reserve_region(space, BASE + 0x4000, 0x4000, &address) == 0 &&
	           (address >= BASE + 0x7000 || address + 0x4000 <= BASE + 0x6000),
	   "a region leaves pages alone in which trampolines have been planned");
	tramp_space_free(space);
}

/* Enough pages for every table to grow several times. */
static void many_pages(void)
{
	enum { MANY = 4000 };
	static uint64_t addresses[MANY];
	const struct port_range ranges[] = {{0, 0x10000}};
	struct tramp_space *space = space_of(ranges, 1, MANY);
	struct port_pages *runs;
	uint64_t end = 0, offset = 0;
	size_t n = 0, count = 0;
	bool good = true;

	state = 77;
	while (n < MANY) {
		uint64_t address = BASE + below(0x80000000);

		if (tramp_reserve(space, address, 1) == 0)
			addresses[n++] = address;
		if (tramp_space_pages(space) == MANY)
			break;
	}
	for (size_t i = 0; i < n; i++)
		good &= tramp_reserve(space, addresses[i], 1) == -EEXIST;
	for (size_t i = 0; i < n; i += 2)
		tramp_release(space, addresses[i], 1);
	good &= tramp_layout(space, 0, &runs, &count) == 0;
	for (size_t i = 0; i < count; i++) {
		good &= runs[i].address > end || i == 0;
		good &= runs[i].offset == offset && runs[i].address % TRAMP_PAGE == 0;
		end = runs[i].address + runs[i].size;
		offset += runs[i].size;
	}
	ok(good && offset == tramp_space_pages(space) * TRAMP_PAGE,
	   "%zu scattered reservations: found again, laid out in order", n);
	for (size_t i = 0; i < n; i++)
		good &= tramp_reserve(space, addresses[i], 1) == (i % 2 ? -EEXIST : 0);
	ok(good, "what was given back can be had again");
	free(runs);
	tramp_space_free(space);
}

int main(void)
{
	random_operations();
	edges();
	skipping();
	clearing();
	regions();
	many_pages();
	return done();
}
