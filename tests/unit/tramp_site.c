/* SPDX-License-Identifier: MIT */
/*
 * tramp_site.c - the bytes at a site do what their names promise.
 *
 * Random code, random occupied addresses, many sites per space; what `tramp_pun_x86` and
 * `tramp_window_x86` want written is decoded again. A pun is one byte, after which a jump leads to
 * the trampoline. Proven for every window:
 *
 *   - byte 0 begins a jump to `trampoline`; the rest of the first instruction is untouched
 *   - behind it a jump, at most one prefix longer than usual, leads to `continuation`
 *   - the original byte 0 makes the first instruction whole again (a uprobe that came and went)
 *   - nothing beyond `length` changes; `displaced` ends whole instructions, of which none but the
 *     last leaves the straight line, and none must stay where it is
 *   - both addresses were free, are taken now, and are free again after the release
 *
 * and that a refusal has the reason that it names: -ENOTSUP exactly where the code allows no
 * window, -ENOSPC otherwise, and then nothing stays reserved.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "isa/isa.h"
#include "tap.h"
#include "tramp/tramp.h"
#include "tramp_code.h"

enum {
	SPACES = 3000,
	SITES = 40,
	RANGES_MAX = 40,
	TAKEN_MAX = 2 * SITES,
};

#define USER_END 0x7ffffffff000ull

static int failures;

#define CHECK(condition, ...)                                                                      \
	do {                                                                                       \
		if (!(condition) && failures++ < 10)                                               \
			note(__VA_ARGS__);                                                         \
	} while (0)

/* --- the oracle of addresses --------------------------------------------------------------- */

static struct port_range ranges[RANGES_MAX], taken[TAKEN_MAX];
static size_t range_count, taken_count;

static bool overlaps(const struct port_range *range, uint64_t start, uint64_t end)
{
	return range->start < end && start < range->end;
}

static bool is_free(uint64_t address)
{
	uint64_t end = address + TRAMP_JUMP, page = ~(uint64_t)(TRAMP_PAGE - 1);

	for (size_t i = 0; i < range_count; i++)
		if (overlaps(&ranges[i], address & page, (end + TRAMP_PAGE - 1) & page))
			return false;
	for (size_t i = 0; i < taken_count; i++)
		if (overlaps(&taken[i], address, end))
			return false;
	return end <= USER_END;
}

static void take(uint64_t address)
{
	taken[taken_count++] = (struct port_range){address, address + TRAMP_JUMP};
}

static bool all_taken(struct tramp_space *space, uint64_t address)
{
	for (unsigned i = 0; i < TRAMP_JUMP; i++)
		if (tramp_reserve(space, address + i, 1) != -EEXIST)
			return false;
	return true;
}

static int compare(const void *a, const void *b)
{
	const struct port_range *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

/* The module that holds the code, neighbours of all sizes, and the ends of the world. */
static struct tramp_space *new_space(uint64_t code, size_t max_pages)
{
	struct tramp_space *space;
	size_t n = 0, kept = 0;

	taken_count = 0;
	ranges[n++] = (struct port_range){0, 0x10000};
	ranges[n++] = (struct port_range){code - 0x100000, code + 0x300000};
	for (size_t i = below(RANGES_MAX - 3); i > 0; i--) {
		uint64_t at = (code + below(0x100000000) - 0x80000000) & ~0xfffull;

		if (at < USER_END)
			ranges[n++] = (struct port_range){at, at + (0x1000ull << below(20))};
	}
	ranges[n++] = (struct port_range){USER_END, UINT64_MAX};
	qsort(ranges, n, sizeof(ranges[0]), compare);
	for (size_t i = 0; i < n; i++) {
		if (kept && ranges[i].start <= ranges[kept - 1].end) {
			if (ranges[i].end > ranges[kept - 1].end)
				ranges[kept - 1].end = ranges[i].end;
		} else {
			ranges[kept++] = ranges[i];
		}
	}
	range_count = kept;
	return tramp_space_new(ranges, kept, max_pages, &space) ? NULL : space;
}

static bool leaves(enum isa_class class)
{
	return class == ISA_CALL || class == ISA_CALL_INDIRECT || class == ISA_BRANCH ||
	       class == ISA_JUMP_INDIRECT || class == ISA_RETURN;
}

static bool must_stay(enum isa_class class)
{
	return class == ISA_SYSCALL || class == ISA_TRAP || class == ISA_PINNED;
}

/* Bytes of whole instructions over `length`; 0 if the code allows no window of that length. */
static size_t displaceable(const uint8_t *code, size_t size, uint64_t site, size_t length)
{
	size_t at = 0;

	if (length > size || site / TRAMP_PAGE != (site + length - 1) / TRAMP_PAGE)
		return 0;
	while (at < length) {
		struct isa_insn insn;
		int n = isa_x86_64.decode(code + at, size - at, site + at, &insn);

		if (n < 0 || must_stay(insn.class))
			return 0;
		at += (size_t)n;
		if (at < length && leaves(insn.class))
			return 0;
	}
	return at;
}

/* --- windows ------------------------------------------------------------------------------- */

static unsigned firsts[5], prefixed, retargeted, refused, crowded;

static void check_retarget(const uint8_t *code, uint64_t site, const struct tramp_window *w)
{
	struct isa_insn old, now;

	isa_x86_64.decode(code, 5, site, &old);
	CHECK(isa_x86_64.decode(w->patched, 5, site, &now) == 5 && now.class == old.class &&
	              now.target == w->trampoline && w->patched[0] == code[0],
	      "retargeted: not the same instruction to the trampoline");
	CHECK(w->target == old.target && w->length == 5 && w->first == 5 && w->displaced == 5,
	      "retargeted: the old target is lost");
	retargeted++;
}

static void check_jumps(const uint8_t *code, size_t size, uint64_t site,
                        const struct tramp_window *w)
{
	uint8_t now[CODE];
	struct isa_insn insn, old;
	int first = isa_x86_64.decode(code, size, site, &old), n;

	memcpy(now, code, CODE);
	memcpy(now, w->patched, w->length);
	CHECK(w->first == first && w->length <= size && w->length <= sizeof(w->patched),
	      "window: first %u, length %u", w->first, w->length);
	n = isa_x86_64.decode(now, w->length, site, &insn);
	CHECK(now[0] == JUMP && n == 5 && insn.class == ISA_BRANCH && insn.target == w->trampoline,
	      "window: byte 0 does not jump to the trampoline");
	CHECK(!memcmp(now + 1, code + 1, w->first - 1u), "window: the first instruction changed");
	n = isa_x86_64.decode(now + w->first, w->length - w->first, site + w->first, &insn);
	CHECK(n == w->length - w->first && insn.class == ISA_BRANCH &&
	              insn.target == w->continuation && (n == 5 || (n == 6 && first == 4)),
	      "window: behind the first instruction is no jump to the continuation");
	prefixed += n == 6;
	now[0] = code[0];
	n = isa_x86_64.decode(now, w->length, site, &insn);
	CHECK(n == first && insn.class == old.class && insn.target == old.target &&
	              !memcmp(now, code, (size_t)n),
	      "window: the original byte 0 does not restore the first instruction");
	CHECK(w->displaced == displaceable(code, size, site, w->length),
	      "window: %u bytes displaced", w->displaced);
	firsts[first]++;
}

/* -ENOTSUP, -ENOSPC, or 0 if both may come. */
static int expected_refusal(const uint8_t *code, size_t size, uint64_t site)
{
	struct isa_insn insn;
	int n = isa_x86_64.decode(code, size, site, &insn);

	if (n == 5 && (code[0] == JUMP || code[0] == CALL))
		return site / TRAMP_PAGE == (site + 4) / TRAMP_PAGE ? -ENOSPC : -ENOTSUP;
	if (n < 1 || n > 4 || !displaceable(code, size, site, (size_t)n + 5))
		return -ENOTSUP;
	if (n == 4 && !displaceable(code, size, site, 10))
		return 0;
	return -ENOSPC;
}

static void check_window(struct tramp_space *space, const uint8_t *code, size_t size, uint64_t site)
{
	struct tramp_window w;
	size_t pages = tramp_space_pages(space);
	int expected = expected_refusal(code, size, site);
	int rc = tramp_window_x86(space, code, size, site, &w);

	if (rc) {
		CHECK(rc == expected || (!expected && (rc == -ENOTSUP || rc == -ENOSPC)),
		      "window: %d instead of %d", rc, expected);
		CHECK(tramp_space_pages(space) == pages, "a refused window keeps pages");
		refused += rc == -ENOTSUP;
		crowded += rc == -ENOSPC;
		return;
	}
	CHECK(expected != -ENOTSUP, "window: should have been refused");
	if (w.continuation)
		check_jumps(code, size, site, &w);
	else
		check_retarget(code, site, &w);
	for (int round = 0; round < 2; round++) {
		CHECK(is_free(w.trampoline), "the trampoline's address was not free");
		take(w.trampoline);
		CHECK(all_taken(space, w.trampoline), "the trampoline's address is not reserved");
		if (w.continuation) {
			CHECK(is_free(w.continuation), "the continuation's address was not free");
			take(w.continuation);
			CHECK(all_taken(space, w.continuation),
			      "the continuation's is not reserved");
		}
		if (round || below(2))
			return;
		tramp_window_release(space, &w);
		taken_count -= w.continuation ? 2 : 1;
		CHECK(tramp_space_pages(space) == pages, "a released window keeps pages");
		rc = tramp_reserve(space, w.trampoline, TRAMP_JUMP);
		if (!rc && w.continuation)
			rc = tramp_reserve(space, w.continuation, TRAMP_JUMP);
		CHECK(!rc, "a released window's addresses can not be had again: %d", rc);
	}
}

/* --- puns ---------------------------------------------------------------------------------- */

static unsigned puns[2], long_puns;

static void check_displaced(const uint8_t *code, size_t size, uint64_t site, size_t length)
{
	struct isa_insn insn;
	int first = isa_x86_64.decode(code, size, site, &insn);
	size_t expected = 0, got;

	if (first < 1)
		return;
	while (expected < length && expected < size) {
		uint8_t copy[ISA_DISPLACED_MAX];
		uint64_t from = site + expected;
		int n = isa_x86_64.decode(code + expected, size - expected, from, &insn);

		if (n < 0 || isa_x86_64.relocate(code + expected, (size_t)n, from, from + 0x10000,
		                                 copy, sizeof(copy)) < 0)
			break;
		expected += (size_t)n;
		if (leaves(insn.class))
			break;
	}
	if (expected < (size_t)first)
		expected = (size_t)first;
	got = tramp_pun_displaced_x86(code, size, site, length, (size_t)first);
	CHECK(got == expected, "pun: %zu bytes displaced instead of %zu", got, expected);
	long_puns += got > (size_t)first;
}

/* REX, or a segment. */
static bool idle_prefix(uint8_t byte)
{
	return (byte & 0xf0) == 0x40 || (byte & 0xe7) == 0x26 || byte == 0x64 || byte == 0x65;
}

static void check_pun(struct tramp_space *space, const uint8_t *code, size_t size, uint64_t site)
{
	int expected = -1, rc;
	struct isa_insn insn = {0};
	struct tramp_pun pun;

	for (int jump = 0; jump < 2 && expected < 0; jump++) {
		uint8_t now[6];
		int n;

		if ((size_t)jump + 5 > size || (jump && !idle_prefix(code[0])))
			break;
		memcpy(now, code, sizeof(now));
		now[jump] = JUMP;
		n = isa_x86_64.decode(now, sizeof(now), site, &insn);
		CHECK(n == 5 + jump && insn.class == ISA_BRANCH, "pun: not a jump");
		if (is_free(insn.target))
			expected = jump;
	}
	rc = tramp_pun_x86(space, code, size, site, &pun);
	CHECK((rc == 0) == (expected >= 0) && (rc == 0 || rc == -EEXIST || size < 5),
	      "pun: %d, expected: byte %d", rc, expected);
	if (rc)
		return;
	CHECK(pun.jump == expected && pun.length == 5 + expected && pun.trampoline == insn.target,
	      "pun: another trampoline than the bytes name");
	check_displaced(code, size, site, pun.length);
	take(pun.trampoline);
	CHECK(all_taken(space, pun.trampoline), "pun: the trampoline's address is not reserved");
	puns[pun.jump]++;
}

static void random_sites(bool windows)
{
	static const uint64_t bases[] = {0x401000, 0x555555556000, 0x7f1234567000};

	failures = 0;
	for (uint64_t i = 0; i < SPACES; i++) {
		uint64_t base = bases[i % 3] + 0x1000 * below(16);
		struct tramp_space *space;

		state = 0x9e3779b97f4a7c15ull * (i + 1);
		space = new_space(base, windows && below(4) == 0 ? below(2 * SITES) : SIZE_MAX / 2);
		if (!space)
			exit(1);
		for (uint64_t k = 0; k < SITES; k++) {
			uint8_t code[CODE];
			uint64_t site = base + below(0x2000);
			size_t size = below(4) ? CODE - 16 : below(CODE - 16);

			if (below(10) == 0) /* at the end of a page */
				site = (site | (TRAMP_PAGE - 1)) - below(12);
			random_code(code);
			if (windows)
				check_window(space, code, size, site);
			else
				check_pun(space, code, size, site);
		}
		tramp_space_free(space);
	}
}

/* --- by hand ------------------------------------------------------------------------------- */

#define SITE 0x555555556100ull

static const struct {
	const char *what;
	uint64_t site;
	int result;
	uint8_t size;
	uint8_t code[12];
} table[] = {
        {"1 byte, room", SITE, 0, 6, {0x55, 0x48, 0x89, 0xe5, 0x53, 0x90}},
        {"1 byte, one byte short", SITE, -ENOTSUP, 5, {0x55, 0x48, 0x89, 0xe5, 0x53}},
        {"2 bytes", SITE, 0, 7, {0x41, 0x57, 0x41, 0x56, 0x41, 0x55, 0x53}},
        {"3 bytes", SITE, 0, 8, {0x48, 0x89, 0xe5, 0xb8, 1, 2, 3, 4}},
        {"4 bytes", SITE, 0, 10, {0x48, 0x83, 0xec, 0x18, 0xb8, 1, 2, 3, 4, 0x90}},
        {"the end of its page", 0x555555556ffa, 0, 6, {0x55, 0x48, 0x89, 0xe5, 0x53, 0x90}},
        {"across a page", 0x555555556ffb, -ENOTSUP, 6, {0x55, 0x48, 0x89, 0xe5, 0x53, 0x90}},
        {"ret in the middle", SITE, -ENOTSUP, 6, {0x55, 0x5d, 0xc3, 0x90, 0x90, 0x90}},
        {"ret at the end", SITE, 0, 6, {0x55, 0x48, 0x89, 0xe5, 0x5d, 0xc3}},
        {"call at the end", SITE, 0, 8, {0x48, 0x89, 0xe5, 0xe8, 1, 2, 3, 4}},
        {"call in the middle", SITE, -ENOTSUP, 8, {0x55, 0xff, 0xd0, 0x90, 0x90, 0x90, 0x90}},
        {"jmp in the middle", SITE, -ENOTSUP, 8, {0x55, 0xeb, 0x10, 0x90, 0x90, 0x90, 0x90}},
        {"je in the middle", SITE, 0, 8, {0x55, 0x74, 0x10, 0x90, 0x90, 0x90, 0x90}},
        {"syscall at the end", SITE, -ENOTSUP, 6, {0x55, 0x90, 0x90, 0x90, 0x0f, 0x05}},
        {"int3", SITE, -ENOTSUP, 6, {0x55, 0x90, 0x90, 0x90, 0x90, 0xcc}},
        {"xbegin", SITE, -ENOTSUP, 7, {0x55, 0xc7, 0xf8, 0, 0, 0, 0}},
        {"first is a jmp", SITE, -ENOTSUP, 7, {0xeb, 0x10, 0x90, 0x90, 0x90, 0x90, 0x90}},
        {"first is 5 bytes", SITE, -ENOTSUP, 10, {0xb8, 1, 2, 3, 4, 0x90, 0x90}},
        {"no instruction", SITE, -ENOTSUP, 7, {0x06, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90}},
        {"call rel32", SITE, 0, 5, {CALL, 1, 2, 3, 4}},
        {"jmp rel32", SITE, 0, 5, {JUMP, 1, 2, 3, 0xff}},
        {"call rel32 across a page", 0x555555556ffc, -ENOTSUP, 5, {CALL, 1, 2, 3, 4}},
        {"call rel32 cut short", SITE, -ENOTSUP, 4, {CALL, 1, 2, 3, 4}},
        {"nothing", SITE, -ENOTSUP, 0, {0}},
};

static struct tramp_space *plain_space(const struct port_range *list, size_t n, size_t max_pages)
{
	struct tramp_space *space;

	if (tramp_space_new(list, n, max_pages, &space))
		exit(1);
	return space;
}

static void by_hand(void)
{
	const struct port_range world[] = {
	        {0, 0x10000}, {0x555555550000, 0x555555570000}, {USER_END, UINT64_MAX}};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct tramp_space *space = plain_space(world, 3, 100);
		struct tramp_window w;
		int rc = tramp_window_x86(space, table[i].code, table[i].size, table[i].site, &w);

		ok(rc == table[i].result, "window: %s", table[i].what);
		tramp_space_free(space);
		space = plain_space(world, 3, 0);
		rc = tramp_window_x86(space, table[i].code, table[i].size, table[i].site, &w);
		CHECK(rc == (table[i].result ? table[i].result : -ENOSPC), "%s, without a page: %d",
		      table[i].what, rc);
		tramp_space_free(space);
	}
}

/* What an unprefixed jump behind 4 bytes names is taken: a prefix names something else, as long
 * as there is room for it. */
static void prefixes(void)
{
	static const uint8_t code[] = {0x48, 0x83, 0xec, 0x18, 0x48, 0x89, 0xe5, 0x53, 0x90, 0x90};
	uint64_t low = SITE - 0x17000000;
	const struct port_range world[] = {
	        {0, 0x10000}, {low, SITE + 0x1000}, {USER_END, UINT64_MAX}};
	struct tramp_space *space = plain_space(world, 3, 100);
	struct tramp_window w;
	int rc = tramp_window_x86(space, code, sizeof(code), SITE, &w);

	ok(!rc && w.length == 10 && w.trampoline > SITE, "4 bytes and a prefix");
	ok(tramp_window_x86(space, code, sizeof(code) - 1, SITE + 0x100, &w) < 0,
	   "no room for the prefix");
	tramp_space_free(space);
}

int main(void)
{
	random_sites(false);
	ok(!failures, "puns");
	ok(puns[0] > 10000 && puns[1] > 1000, "%u at byte 0, %u behind a prefix", puns[0], puns[1]);
	ok(long_puns > 10000, "%u displace more than one instruction", long_puns);
	random_sites(true);
	ok(!failures, "windows");
	for (int i = 1; i <= 4; i++)
		ok(firsts[i] > 500, "%u windows with a first instruction of %d", firsts[i], i);
	ok(prefixed > 500, "%u windows with a prefix", prefixed);
	ok(retargeted > 500, "%u jumps and calls sent elsewhere", retargeted);
	ok(refused > 500 && crowded > 500, "%u refused; %u found no pair of addresses", refused,
	   crowded);
	failures = 0;
	by_hand();
	prefixes();
	ok(!failures, "no window without a page");
	return done();
}
