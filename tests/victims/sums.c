// SPDX-License-Identifier: MIT
/*
 * sums - checksums computed by functions whose first bytes are known.
 *
 * usage: sums THREADS
 *
 *   sum_pun     one 5-byte instruction whose operand, read as a displacement, leads to
 *               unmapped memory above the module, in position-independent programs and others
 *   sum_any     2 + 5 bytes, one inner boundary; every kind of site is possible everywhere
 *   sum_below   2 + 5 bytes; read as displacements bytes 1 to 4 and 3 to 6 lead 1.6 GB down, which
 *               is a negative address in a program linked at 0x400000: no pun there, but a window
 *   sum_c       whatever the compiler makes of it
 *   sum_idle    as sum_any, never called
 *
 * Every call's result is compared with the same sum computed in line.
 */
#include "victim.h"

uint64_t sum_pun(uint64_t x);
uint64_t sum_any(uint64_t x);
uint64_t sum_below(uint64_t x);
uint64_t sum_c(uint64_t x);
uint64_t sum_idle(uint64_t x);

#define FUNCTION(name, body)                                                                       \
	".p2align 4\n.globl " name "\n.type " name ",@function\n" name ":\n.cfi_startproc\n" body  \
	".cfi_endproc\n.size " name ",.-" name "\n"

/* Bytes 1 to 4 of `31 c0  b9 ..`: c0 b9 and the two low bytes of the constant. */
__asm__(".text\n" FUNCTION("sum_pun", "	mov $0x51a76b35, %eax\n"
                                      "	imul %rdi, %rax\n"
                                      "	rol $7, %rax\n"
                                      "	xor %rdi, %rax\n"
                                      "	ret\n") FUNCTION("sum_any", "	xor %eax, %eax\n"
                                                                    "	mov $0x1f3d5217, %ecx\n"
                                                                    "	sub %rdi, %rax\n"
                                                                    "	imul %rcx, %rax\n"
                                                                    "	rol $11, %rax\n"
                                                                    "	ret\n")
                FUNCTION("sum_below", "	xor %eax, %eax\n"
                                      "	mov $0x9b6f9ce1, %ecx\n"
                                      "	sub %rdi, %rax\n"
                                      "	imul %rcx, %rax\n"
                                      "	rol $13, %rax\n"
                                      "	ret\n") FUNCTION("sum_idle", "	xor %eax, %eax\n"
                                                                     "	mov $0x1f3d5219, %ecx\n"
                                                                     "	sub %rdi, %rax\n"
                                                                     "	ret\n"));

NOT_INLINED uint64_t sum_c(uint64_t x)
{
	uint64_t sum = x;

	for (unsigned i = 1; i <= 6; i++) {
		sum = (sum << 5 | sum >> 59) ^ (x + i);
		__asm__("" : "+r"(sum)); /* keep the loop a loop */
	}
	return sum;
}

static inline uint64_t rotate(uint64_t x, unsigned n)
{
	return x << n | x >> (64 - n);
}

static inline uint64_t sum_c_again(uint64_t x)
{
	uint64_t sum = x;

	for (unsigned i = 1; i <= 6; i++)
		sum = rotate(sum, 5) ^ (x + i);
	return sum;
}

static unsigned sums_round(unsigned thread, uint64_t k)
{
	uint64_t x = k * 0x9e3779b97f4a7c15 + thread;
	unsigned wrong = 0;

	wrong += sum_pun(x) != (rotate(x * 0x51a76b35, 7) ^ x);
	wrong += sum_any(x) != rotate(-x * 0x1f3d5217, 11);
	wrong += sum_below(x) != rotate(-x * 0x9b6f9ce1, 13);
	wrong += sum_c(x) != sum_c_again(x);
	return wrong;
}

static void sums_expect(void)
{
	victim_say("expect sum_pun 1");
	victim_say("expect sum_any 1");
	victim_say("expect sum_below 1");
	victim_say("expect sum_c 1");
}

int main(int argc, char **argv)
{
	static const struct victim victim = {.round = sums_round, .expect = sums_expect};

	return victim_obey(&victim, argc > 1 ? (unsigned)atoi(argv[1]) : 1);
}
