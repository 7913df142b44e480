/* SPDX-License-Identifier: MIT */
/* xray_both - part of xray: the only function with sleds at its entry and at its end. */
#include <stdint.h>

uint64_t both(uint64_t x);

__attribute__((xray_always_instrument, noinline, aligned(64))) uint64_t both(uint64_t x)
{
	__asm__ volatile("");
	return x + 1;
}
