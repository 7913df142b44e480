// SPDX-License-Identifier: MIT
/*
 * jit - makes code beside its own all the time, runs it and throws it away.
 *
 * usage: jit THREADS
 *
 * In each round every thread maps a page somewhere within 1 GB of the program's text, writes a
 * function there that calls jit_sum, runs it, and unmaps the page of RING rounds ago. Where
 * trampolines may lie changes from one moment to the next.
 */
#include <string.h>
#include <sys/mman.h>
#include "victim.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

enum { RING = 64, PAGE = 4096 };

uint64_t jit_sum(uint64_t x);
NOT_INLINED uint64_t jit_sum(uint64_t x)
{
	__asm__("" : "+r"(x));
	return (x * 0x51a76b35 ^ x) + 0x1f3d5217;
}

static void *ring[VICTIM_THREADS_MAX][RING];

/* sub $8,%rsp; mov $constant,%rdi; mov $jit_sum,%rax; call *%rax; add $8,%rsp; ret */
static void assemble(uint8_t *code, uint64_t constant)
{
	static const uint8_t form[] = {0x48, 0x83, 0xec, 0x08, 0x48, 0xbf, 0,    0,    0,   0, 0,
	                               0,    0,    0,    0x48, 0xb8, 0,    0,    0,    0,   0, 0,
	                               0,    0,    0xff, 0xd0, 0x48, 0x83, 0xc4, 0x08, 0xc3};
	uint64_t function = (uint64_t)(uintptr_t)jit_sum;

	memcpy(code, form, sizeof form);
	memcpy(code + 6, &constant, 8);
	memcpy(code + 16, &function, 8);
}

/* A free page near the text, where a jump from there would reach. */
static uint8_t *page_near(uint64_t *seed)
{
	for (unsigned i = 0; i < 100; i++) {
		uintptr_t text = (uintptr_t)jit_sum & -(uintptr_t)PAGE, at;
		void *page;

		*seed = *seed * 6364136223846793005u + 1442695040888963407u;
		at = text + (*seed >> 33 << 12) % (1u << 30);
		if (*seed >> 32 & 1 && text > 1u << 31)
			at -= 1u << 30;
		page = mmap((void *)at, PAGE, PROT_READ | PROT_WRITE,
		            MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
		if (page != MAP_FAILED)
			return page;
	}
	return NULL;
}

static unsigned jit_round(unsigned thread, uint64_t k)
{
	uint64_t seed = k * 0x9e3779b97f4a7c15 + thread, x = seed;
	uint64_t (*function)(void);
	uint8_t *page = page_near(&seed);
	void **old = &ring[thread][k % RING];

	if (!page)
		return 1;
	assemble(page, x);
	if (mprotect(page, PAGE, PROT_READ | PROT_EXEC))
		return 1;
	memcpy(&function, &page, sizeof function);
	if (*old)
		munmap(*old, PAGE);
	*old = page;
	return function() != (x * 0x51a76b35 ^ x) + 0x1f3d5217;
}

int main(int argc, char **argv)
{
	static const struct victim victim = {.round = jit_round};

	return victim_obey(&victim, argc > 1 ? (unsigned)atoi(argv[1]) : 1);
}
