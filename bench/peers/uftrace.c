/* SPDX-License-Identifier: MIT */
/*
 * uftrace - what being traced by uftrace costs a call; see ../measure.h. Compiled with -pg, and
 * run under `uftrace record`, which then writes entry and exit of `traced`.
 */
#define MEASURE_PLAIN __attribute__((no_instrument_function))
#include "../measure.h"

#define SHAPE __attribute__((noinline, aligned(64)))

MEASURE_PLAIN SHAPE static uint64_t bare(uint64_t x)
{
	__asm__ volatile("");
	return x + 1;
}

SHAPE static uint64_t traced(uint64_t x)
{
	__asm__ volatile("");
	return x + 1;
}

MEASURE_PLAIN int main(void)
{
	static const struct measured cases[] = {
	        {"bare", bare, NULL, NULL, NULL},
	        {"uftrace", traced, NULL, NULL, NULL},
	};

	return measure_serve(cases, sizeof(cases) / sizeof(*cases));
}
