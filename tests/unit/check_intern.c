/* SPDX-License-Identifier: MIT */
/*
 * check_intern.c - the table that the checker's states lie in.
 *
 * Two values that are taken for one would hide a state, and with it perhaps the only way to a
 * violation: so the table must tell any two apart whatever their hashes are, down to a hash that
 * is the same for all.
 */
#include <stdlib.h>
#include <string.h>
#include "check/intern.h"
#include "tap.h"

/* How many bits of the hash are used, and which. */
static const struct {
	uint64_t mask;
	const char *what;
} masks[] = {
        {UINT64_MAX, "all bits of the hash"},
        {0, "no bit of the hash"},
        {1, "one bit"},
        {0xF, "four bits"},
        {0x1F0, "five bits that are not the lowest"},
        {1ull << 63, "a bit that no table is large enough for"},
};
enum { MASKS = sizeof(masks) / sizeof(masks[0]) };

static void open_with(struct intern *table, size_t size, uint64_t mask)
{
	intern_open(table, size);
	table->hash_mask = mask;
}

/* The answer to a value, and that it is kept under that number. */
static bool answers(struct intern *table, const void *value, int answer, uint32_t number)
{
	uint32_t got = UINT32_MAX;
	int rc = intern(table, value, &got);

	return rc == answer && got == number &&
	       memcmp(intern_value(table, got), value, table->size) == 0;
}

/* ---- values that differ in one bit ---- */

static bool tells_bits_apart(size_t size, uint64_t mask)
{
	struct intern table;
	uint8_t value[64];
	bool good = true;

	open_with(&table, size, mask);
	for (int pass = 0; pass < 2; pass++) {
		int answer = pass ? INTERN_KNOWN : INTERN_NEW;

		memset(value, 0xA5, sizeof(value));
		good = good && answers(&table, value, answer, 0);
		for (uint32_t bit = 0; bit < 8 * size; bit++) {
			value[bit / 8] ^= (uint8_t)(1u << bit % 8);
			good = good && answers(&table, value, answer, 1 + bit);
			value[bit / 8] ^= (uint8_t)(1u << bit % 8);
		}
	}
	good = good && table.count == 1 + 8 * size;
	intern_close(&table);
	return good;
}

static void check_bits(void)
{
	for (unsigned m = 0; m < MASKS; m++) {
		size_t wrong = 0;

		for (size_t size = 1; size <= 40; size++)
			if (!tells_bits_apart(size, masks[m].mask))
				wrong = size;
		ok(!wrong, "with %s, values of 1 to 40 bytes that differ in one bit are different",
		   masks[m].what);
		if (wrong)
			note("not those of %zu bytes", wrong);
	}
}

/* ---- values that a weak hash takes for one ---- */

/* Two words each; sums, exclusive-ors and orders of words repeat all the time. */
static bool tells_pairs_apart(uint64_t mask)
{
	enum { SIDE = 40 };
	struct intern table;
	bool good = true;

	open_with(&table, 2 * sizeof(uint64_t), mask);
	for (uint64_t a = 0; a < SIDE; a++)
		for (uint64_t b = 0; b < SIDE; b++) {
			const uint64_t pair[] = {a << 32, b << 32};

			good = good && answers(&table, pair, INTERN_NEW, (uint32_t)(a * SIDE + b));
		}
	intern_close(&table);
	return good;
}

static void check_pairs(void)
{
	for (unsigned m = 0; m < MASKS; m++)
		ok(tells_pairs_apart(masks[m].mask),
		   "with %s, 1600 pairs of words are different in any order", masks[m].what);
}

/* ---- many ---- */

/* A step of a generator that does not repeat itself in 2^64 steps. */
static uint64_t scramble(uint64_t i)
{
	i += 0x9E3779B97F4A7C15u;
	i = (i ^ i >> 30) * 0xBF58476D1CE4E5B9u;
	i = (i ^ i >> 27) * 0x94D049BB133111EBu;
	return i ^ i >> 31;
}

/* The i-th of them, at an address that is not aligned. */
static const uint8_t *value_of(uint32_t i, uint8_t buffer[32])
{
	uint64_t word = scramble(i);

	memset(buffer, 0, 32);
	memcpy(buffer + 5, &word, sizeof(word));
	return buffer + 1;
}

static void check_many(uint64_t mask, uint32_t count, const char *what)
{
	enum { SIZE = 20 };
	struct intern table;
	uint8_t buffer[32];
	uint64_t before;
	bool numbered = true, known = true, kept = true;

	open_with(&table, SIZE, mask);
	for (uint32_t i = 0; i < count; i++) {
		numbered = numbered && answers(&table, value_of(i, buffer), INTERN_NEW, i);
		/* One from long ago, while the table grows under it. */
		known = known && answers(&table, value_of(i / 3, buffer), INTERN_KNOWN, i / 3);
	}
	ok(numbered, "%s: %u values are numbered in the order they come", what, count);
	ok(known, "%s: and found again while the table grows", what);
	before = intern_memory(&table);
	known = true;
	for (uint32_t i = count; i-- > 0;) {
		known = known && answers(&table, value_of(i, buffer), INTERN_KNOWN, i);
		kept = kept && i < table.count &&
		       memcmp(intern_value(&table, i), value_of(i, buffer), SIZE) == 0;
	}
	ok(known && kept && table.count == count, "%s: and afterwards; no value has changed", what);
	ok(intern_memory(&table) == before, "%s: what is known takes no memory", what);
	ok(before >= (uint64_t)count * (SIZE + sizeof(uint32_t)), "%s: memory is accounted for",
	   what);
	intern_close(&table);
}

static void check_smallest(void)
{
	struct intern table;
	bool good = true;

	intern_open(&table, 1);
	ok(table.count == 0 && intern_memory(&table) == 0, "an empty table takes no memory");
	for (unsigned pass = 0; pass < 2; pass++)
		for (unsigned i = 0; i < 256; i++) {
			uint8_t value = (uint8_t)(255 - i);

			good = good && answers(&table, &value, pass ? INTERN_KNOWN : INTERN_NEW, i);
		}
	ok(good && table.count == 256, "one byte has 256 values");
	intern_close(&table);
}

int main(void)
{
	check_bits();
	check_pairs();
	check_many(UINT64_MAX, 300000, "all bits of the hash");
	check_many(0xFFF, 8000, "twelve bits");
	check_many(0, 2000, "no bit of the hash");
	check_many(1ull << 63, 2000, "one useless bit");
	check_smallest();
	return done();
}
