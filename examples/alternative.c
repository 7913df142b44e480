/* SPDX-License-Identifier: MIT */
/*
 * alternative.c - one binary, with the instruction where the processor has it.
 *
 *     cc alternative.c $(pkg-config --cflags --libs suture) -o alternative && ./alternative
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <suture/alternative.h>

/* A choice of functions: to the compiler `count` is one like any other. */
__attribute__((used)) static int count_slowly(uint64_t word)
{
	int bits = 0;

	for (; word; word &= word - 1)
		bits++;
	return bits;
}

__attribute__((used, target("popcnt"))) static int count_fast(uint64_t word)
{
	return __builtin_popcountll(word);
}

SUTURE_ALTERNATIVE_FUNCTION(count, count_slowly, SUTURE_IF_CPU(SUTURE_CPU_POPCNT), count_fast);
int count(uint64_t word);

/* A choice of instructions. */
static inline uint64_t rotate_right(uint64_t word)
{
	__asm__(SUTURE_ALTERNATIVE("ror $8, %0", SUTURE_IF_CPU(SUTURE_CPU_BMI2), "rorx $8, %0, %0")
	        : "+r"(word)
	        :
	        : "cc");
	return word;
}

int main(void)
{
	uint64_t word = 0xF0F1;
	int before = count(word), rc;

	rc = suture_alternatives_apply(NULL);
	if (rc) {
		fprintf(stderr, "cannot apply: %s\n", strerror(-rc));
		return 1;
	}
	printf("%d bits before, %d after; popcnt: %s\n", before, count(word),
	       suture_cpu_has(SUTURE_CPU_POPCNT) ? "yes" : "no");
	return count(word) != before || rotate_right(word) != 0xF1000000000000F0;
}
