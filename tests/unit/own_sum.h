/* SPDX-License-Identifier: MIT */
/* own_sum.h - code of several instructions that becomes other code, for tests of quiescence. */
#ifndef OWN_SUM_H
#define OWN_SUM_H

#include <stdint.h>
#include <unistd.h>
#include "own_edit.h"

/*
 * Three instructions of 2, 3 and 3 bytes, which become two of 5 and 3: who stood at offset 2 would
 * go on in the middle of one.
 *
 *     31 C0     xor %eax, %eax          B8 44 00 00 00  mov $0x44, %eax
 *     83 C0 11  add $0x11, %eax
 *     83 C0 22  add $0x22, %eax         83 C0 55        add $0x55, %eax
 */
static const uint8_t old_code[] = {0x31, 0xC0, 0x83, 0xC0, 0x11, 0x83, 0xC0, 0x22},
                     new_code[] = {0xB8, 0x44, 0, 0, 0, 0x83, 0xC0, 0x55};
enum { OLD = 0x33, NEW = 0x99, SIZE = sizeof(old_code) };
__asm__(".text\nsum:\n\t.byte 0x31, 0xC0, 0x83, 0xC0, 0x11, 0x83, 0xC0, 0x22\n\tret\n");
int sum(void);

/*
 * A call in the middle, whose return address is inside:
 *
 *     FF D7     call *%rdi              31 C0  xor %eax, %eax
 *     89 C0     mov %eax, %eax          FF C0  inc %eax
 */
static const uint8_t old_caller[] = {0xFF, 0xD7, 0x89, 0xC0},
                     new_caller[] = {0x31, 0xC0, 0xFF, 0xC0};
__asm__(".text\ncaller:\n\tsub $8, %rsp\ncaller_site:\n\t.byte 0xFF, 0xD7, 0x89, 0xC0\n"
        "\tadd $8, %rsp\n\tret\n");
int caller(int (*function)(void));
extern char caller_site[];

static int to_new(void)
{
	return edit(sum, old_code, new_code, SIZE, SUTURE_QUIESCE);
}

static int to_old(void)
{
	return edit(sum, new_code, old_code, SIZE, SUTURE_QUIESCE);
}

static inline int get(const int *word)
{
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static inline void set(int *word, int value)
{
	__atomic_store_n(word, value, __ATOMIC_RELEASE);
}

static inline void await(const int *word, int value)
{
	while (get(word) != value)
		usleep(200);
}

#endif
