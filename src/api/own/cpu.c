/* SPDX-License-Identifier: MIT */
/*
 * cpu.c - what the processor has, as suture/alternative.h numbers it.
 */
#include <cpuid.h>
#include "suture/alternative.h"

/* XCR0: which state the operating system saves and restores (SDM vol. 1, 13.3). */
enum {
	STATE_YMM = 0x06, /* SSE, AVX */
	STATE_ZMM = 0xE6, /* and opmask, ZMM_Hi256, Hi16_ZMM */
	OSXSAVE = 1 << 27 /* leaf 1, ECX: XGETBV works, and tells */
};

static uint32_t enabled_state(void)
{
	uint32_t a, b, c, d;

	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & OSXSAVE))
		return 0;
	__asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
	return a;
}

static bool has_state(unsigned state)
{
	static const uint32_t needed[] = {
	        [SUTURE_CPU_YMM_] = STATE_YMM, [SUTURE_CPU_ZMM_] = STATE_ZMM};

	if (state == SUTURE_CPU_ANY_STATE_)
		return true;
	return state < sizeof(needed) / sizeof(needed[0]) &&
	       (enabled_state() & needed[state]) == needed[state];
}

/* Leaf 7's sub-leaves are counted in EAX of its sub-leaf 0. */
static bool read_leaf(unsigned leaf, uint32_t out[4])
{
	switch (leaf) {
	case SUTURE_CPU_1_:
		return __get_cpuid(1, &out[0], &out[1], &out[2], &out[3]);
	case SUTURE_CPU_7_:
		return __get_cpuid_count(7, 0, &out[0], &out[1], &out[2], &out[3]);
	case SUTURE_CPU_7_1_:
		return __get_cpuid_count(7, 0, &out[0], &out[1], &out[2], &out[3]) && out[0] >= 1 &&
		       __get_cpuid_count(7, 1, &out[0], &out[1], &out[2], &out[3]);
	case SUTURE_CPU_EXTENDED_:
		return __get_cpuid(0x80000001, &out[0], &out[1], &out[2], &out[3]);
	default:
		return false;
	}
}

bool suture_cpu_has(unsigned feature)
{
	uint32_t registers[4];

	return read_leaf(feature >> 16, registers) &&
	       (registers[feature >> 5 & 3] >> (feature & 31) & 1) &&
	       has_state(feature >> 8 & 0xFF);
}
