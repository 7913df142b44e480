/* SPDX-License-Identifier: MIT */
/* tramp_code.h - code for a site: the instructions at which functions begin, in random order, with
 * random operands; now and then any bytes at all. Part of tramp_site.c. */
#ifndef TRAMP_CODE_H
#define TRAMP_CODE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { CODE = 48, JUMP = 0xe9, CALL = 0xe8 };

static uint64_t state;

static uint64_t next_random(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static uint64_t below(uint64_t limit)
{
	return next_random() % limit;
}

static const struct {
	uint8_t length;
	uint8_t fixed; /* bytes that are not random */
	uint8_t bytes[8];
} forms[] = {
        {1, 1, {0x55}},                         /* push %rbp */
        {1, 1, {0x53}},                         /* push %rbx */
        {1, 1, {0x90}},                         /* nop */
        {2, 2, {0x31, 0xc0}},                   /* xor %eax,%eax */
        {2, 2, {0x41, 0x57}},                   /* push %r15 */
        {2, 2, {0x89, 0xfb}},                   /* mov %edi,%ebx */
        {3, 3, {0x48, 0x89, 0xe5}},             /* mov %rsp,%rbp */
        {3, 3, {0x48, 0x85, 0xff}},             /* test %rdi,%rdi */
        {4, 4, {0x48, 0x83, 0xec, 0x18}},       /* sub $24,%rsp */
        {4, 4, {0x0f, 0xb6, 0x47, 0x05}},       /* movzbl 5(%rdi),%eax */
        {4, 4, {0xf3, 0x0f, 0x1e, 0xfa}},       /* endbr64 */
        {5, 1, {0xb8}},                         /* mov $imm32,%eax */
        {5, 5, {0x48, 0x89, 0x5c, 0x24, 0x08}}, /* mov %rbx,8(%rsp) */
        {7, 3, {0x48, 0x8d, 0x05}},             /* lea rel32(%rip),%rax */
        {7, 3, {0x48, 0x81, 0xec}},             /* sub $imm32,%rsp */
        {2, 1, {0x74}},                         /* je rel8 */
        {6, 2, {0x0f, 0x85}},                   /* jne rel32 */
        {5, 1, {CALL}},                         /* call rel32 */
        {5, 1, {JUMP}},                         /* jmp rel32 */
        {2, 1, {0xeb}},                         /* jmp rel8 */
        {1, 1, {0xc3}},                         /* ret */
        {2, 2, {0xff, 0xd0}},                   /* call *%rax */
        {3, 3, {0xff, 0x67, 0x10}},             /* jmp *16(%rdi) */
        {2, 2, {0x0f, 0x05}},                   /* syscall */
        {1, 1, {0xcc}},                         /* int3 */
};

enum { FORMS = sizeof(forms) / sizeof(forms[0]), STRAIGHT = 15 };

static void random_code(uint8_t code[CODE])
{
	size_t at = 0;

	for (size_t i = 0; i < CODE; i++)
		code[i] = (uint8_t)next_random();
	if (below(8) == 0)
		return;
	while (at + 8 <= CODE) {
		size_t form = below(4) ? below(STRAIGHT) : below(FORMS);

		memcpy(code + at, forms[form].bytes, forms[form].fixed);
		at += forms[form].length;
	}
}

#endif
