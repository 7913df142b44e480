/* SPDX-License-Identifier: MIT */
/*
 * caches.c - AArch64: maintenance by address, as CTR_EL0 asks for it (DDI 0487, B2.4.4, D24.2.34).
 *
 *     IDC  data need not be cleaned for instruction fetch to find it
 *     DIC  the I-cache need not be invalidated
 *
 * D-caches behave as physically indexed: a store through the alias is found by loads at the
 * execution address, and duty 2 asks for nothing. An I-cache may be indexed by virtual address
 * (CTR_EL0.L1Ip), so duty 3 is at the address that is executed, never at the alias.
 */
#include "port/bare/caches.h"

void family_caches_read(struct family_caches *caches)
{
	uint64_t ctr;

	__asm__("mrs %0, ctr_el0" : "=r"(ctr));
	/* log2 of the number of words */
	caches->instruction_line = 4u << (ctr & 15);
	caches->data_line = 4u << (ctr >> 16 & 15);
	caches->data_reaches_fetch = ctr >> 28 & 1;
	caches->instruction_coherent = ctr >> 29 & 1;
}

void family_clean(const struct family_caches *caches, uint64_t alias, size_t size)
{
	uint64_t line = alias & ~(uint64_t)(caches->data_line - 1);

	if (!caches->data_reaches_fetch)
		for (; line < alias + size; line += caches->data_line)
			__asm__ volatile("dc cvau, %0" : : "r"(line) : "memory");
	/* Whether there was something to clean or not: the stores come before what follows. */
	__asm__ volatile("dsb ish" : : : "memory");
}

void family_drop_read(const struct family_caches *caches, uint64_t address, size_t size)
{
	(void)caches, (void)address, (void)size;
}

void family_drop_executed(const struct family_caches *caches, uint64_t address, size_t size)
{
	uint64_t line = address & ~(uint64_t)(caches->instruction_line - 1);

	if (caches->instruction_coherent)
		return;
	for (; line < address + size; line += caches->instruction_line)
		__asm__ volatile("ic ivau, %0" : : "r"(line) : "memory");
	__asm__ volatile("dsb ish" : : : "memory");
}

void family_drop_all_here(void)
{
	__asm__ volatile("ic iallu\n\tdsb nsh\n\tisb" : : : "memory");
}

void family_store(uint64_t alias, const void *bytes, size_t size)
{
	uint32_t word;
	uint16_t half;

	switch (size) {
	case 4:
		__builtin_memcpy(&word, bytes, sizeof(word));
		*(volatile uint32_t *)alias = word;
		break;
	case 2:
		__builtin_memcpy(&half, bytes, sizeof(half));
		*(volatile uint16_t *)alias = half;
		break;
	default:
		*(volatile uint8_t *)alias = *(const uint8_t *)bytes;
	}
}
