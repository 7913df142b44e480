/* SPDX-License-Identifier: MIT */
/*
 * many - 10,000 functions, each a different small checksum; see ../gen-many.py.
 *
 * usage: many THREADS
 *
 * The results are computed once at the start; every later call must give the same.
 */
#include "victim.h"
#include "many.h"

#define VARIANTS 2

static const struct many *const parts[MANY_PARTS] = {many_0, many_1, many_2, many_3,
                                                     many_4, many_5, many_6, many_7};
static struct many functions[MANY];
static uint64_t results[VARIANTS][MANY];

static uint64_t many_call(unsigned i, uint64_t variant)
{
	return functions[i].function(i * 0x9e3779b97f4a7c15 + variant, i ^ variant << 7);
}

static unsigned many_round(unsigned thread, uint64_t k)
{
	unsigned wrong = 0;
	uint64_t variant = k % VARIANTS;

	/* Each thread begins elsewhere. */
	for (unsigned n = 0; n < MANY; n++) {
		unsigned i = (n + thread * 2711) % MANY;

		wrong += many_call(i, variant) != results[variant][i];
	}
	return wrong;
}

static void many_expect(void)
{
	for (unsigned i = 0; i < MANY; i++)
		printf("expect f_%05u %u%s\n", i, functions[i].hits,
		       functions[i].more ? " more" : "");
}

int main(int argc, char **argv)
{
	static const struct victim victim = {.round = many_round, .expect = many_expect};

	for (unsigned i = 0; i < MANY; i++)
		functions[i] = parts[i / (MANY / MANY_PARTS)][i % (MANY / MANY_PARTS)];
	for (uint64_t variant = 0; variant < VARIANTS; variant++)
		for (unsigned i = 0; i < MANY; i++)
			results[variant][i] = many_call(i, variant);
	return victim_obey(&victim, argc > 1 ? (unsigned)atoi(argv[1]) : 4);
}
