/* SPDX-License-Identifier: MIT */
/* visible_piece.h - a function, and a piece of code that runs in its place. Part of
 * ownint_visible.c. */
#ifndef VISIBLE_PIECE_H
#define VISIBLE_PIECE_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include "tramp/unwind.h"

/*
 * sample: the original, at whose head an unwinder is wrong that looks one byte before it: the frame
 * of the function there is another one.
 * caller(code): calls `code`, which stands for sample.
 */
__asm__(".pushsection .text\n"
        "	.type frame_before, @function\n"
        "frame_before:\n"
        "	.cfi_startproc\n"
        "	.cfi_def_cfa_offset 4096\n"
        "	ud2\n"
        "	.cfi_endproc\n"
        "	.size frame_before, . - frame_before\n"
        "	.globl sample, sample_second, sample_third\n"
        "	.type sample, @function\n"
        "sample:\n"
        "	.cfi_startproc\n"
        "	push %rbp\n"
        "	.cfi_def_cfa_offset 16\n"
        "	.cfi_offset %rbp, -16\n"
        "sample_second:\n"
        "	mov %rsp, %rbp\n"
        "	.cfi_def_cfa_register %rbp\n"
        "sample_third:\n"
        "	mov $42, %eax\n"
        "	pop %rbp\n"
        "	.cfi_def_cfa %rsp, 8\n"
        "	ret\n"
        "	.cfi_endproc\n"
        "	.size sample, . - sample\n"
        "	.globl caller, caller_back\n"
        "	.type caller, @function\n"
        "caller:\n"
        "	.cfi_startproc\n"
        "	sub $8, %rsp\n"
        "	.cfi_def_cfa_offset 16\n"
        "	call *%rdi\n"
        "caller_back:\n"
        "	add $8, %rsp\n"
        "	.cfi_def_cfa_offset 8\n"
        "	ret\n"
        "	.cfi_endproc\n"
        "	.size caller, . - caller\n"
        ".popsection\n");

extern const char sample[], sample_second[], sample_third[], caller_back[];
int caller(const void *code);

enum { PIECE = 48, PIECE_CALL_BACK = 20 };

/* A trap after each kind of row, and a call of a handler. */
static const uint8_t piece_code[PIECE] = {
        0xCC,                                        /*  0 int3 */
        0x48, 0x8D, 0x64, 0x24, 0x80,                /*  1 lea -128(%rsp),%rsp */
        0x50,                                        /*  6 push %rax */
        0xCC,                                        /*  7 int3 */
        0x48, 0xB8, 0,    0,    0,    0, 0, 0, 0, 0, /*  8 movabs $handler,%rax */
        0xFF, 0xD0,                                  /* 18 call *%rax */
        0x58,                                        /* 20 pop %rax */
        0x48, 0x8D, 0xA4, 0x24, 0x80, 0, 0, 0,       /* 21 lea 128(%rsp),%rsp */
        0x55,                                        /* 29 push %rbp */
        0xCC,                                        /* 30 int3 */
        0x48, 0x89, 0xE5,                            /* 31 mov %rsp,%rbp */
        0xCC,                                        /* 34 int3 */
        0x49, 0xBB, 0,    0,    0,    0, 0, 0, 0, 0, /* 35 movabs $sample_third,%r11 */
        0x41, 0xFF, 0xE3,                            /* 45 jmp *%r11 */
};

static struct tramp_row piece_rows[7];

/* What the traps of the piece lead to, by the program counter behind them. */
static const struct {
	uint32_t offset;
	const char *origin;
} piece_traps[] = {{1, sample}, {8, sample}, {31, sample_second}, {35, sample_third}};
enum { TRAPS = sizeof(piece_traps) / sizeof(piece_traps[0]) };

static uint8_t *piece_put(uint8_t *at, void (*handler)(void))
{
	uint64_t target = (uintptr_t)handler, rest = (uintptr_t)sample_third;

	memcpy(at, piece_code, PIECE);
	memcpy(at + 10, &target, 8);
	memcpy(at + 37, &rest, 8);
	return at;
}

/* `n` pieces in pages of their own, executable and not writable; 16 bytes between them. */
static uint8_t *pieces_new(size_t n, void (*handler)(void))
{
	size_t size = n * (PIECE + 16);
	uint8_t *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED)
		return NULL;
	for (size_t i = 0; i < n; i++)
		piece_put(at + i * (PIECE + 16), handler);
	return mprotect(at, size, PROT_READ | PROT_EXEC) ? NULL : at;
}

static struct tramp_code piece_describe(const uint8_t *piece, const char *name)
{
	struct tramp_row rows[] = {
	        {0, (uintptr_t)sample, 0},        {6, (uintptr_t)sample, 128},
	        {7, (uintptr_t)sample, 136},      {21, (uintptr_t)sample, 128},
	        {29, (uintptr_t)sample, 0},       {30, (uintptr_t)sample_second, 0},
	        {34, (uintptr_t)sample_third, 0},
	};

	memcpy(piece_rows, rows, sizeof(rows));
	return (struct tramp_code){(uintptr_t)piece, PIECE, piece_rows, 7, name, NULL};
}

#endif
