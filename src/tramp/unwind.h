/* SPDX-License-Identifier: MIT */
/*
 * unwind.h - what tells unwinders, debuggers and profilers about pieces of code made at run time.
 *
 * Pure functions from descriptions to bytes.
 */
#ifndef SUTURE_TRAMP_UNWIND_H
#define SUTURE_TRAMP_UNWIND_H

#include "tramp/tramp.h"

/* A piece. */
struct tramp_code {
	uint64_t address;
	uint32_t size; /* bytes, at least 1 */
	/* Ascending; of two at the same offset the later one holds. What is before the first one
	 * is no code. */
	const struct tramp_row *rows;
	uint32_t row_count; /* at least 1 */
	const char *name;   /* NULL: named after what it does and the origin of its first row */
	const char *what;   /* "displaced" …: a constant; may be NULL */
};

/* ---- unwind_x86.c ---- */

/*
 * Call-frame information for `n` pieces, in the format of an .eh_frame section with absolute
 * addresses and a terminating zero word. Written to `out` if `room` bytes are enough for all of it;
 * *needed says how many are, in either case. -ENOSPC: they are not; -EINVAL: a piece without
 * bytes or rows, or with rows that do not ascend or reach its end.
 */
int tramp_unwind_x86(const struct tramp_code *codes, size_t n, uint8_t *out, size_t room,
                     size_t *needed);

/* ---- object.c ---- */

enum {
	TRAMP_NAME = 256,         /* longest name with its zero, bytes; longer ones are cut */
	TRAMP_OBJECT_MAX = 16384, /* pieces in one object */
};

/* The name that people see: one line, printable. */
void tramp_name(const struct tramp_code *code, char name[TRAMP_NAME]);

/*
 * An ELF executable in memory that names `n` pieces, without their code: sections at their
 * addresses, symbols, call-frame information. *image is allocated. -ENOMEM,
 * -EINVAL as above, -E2BIG: more than TRAMP_OBJECT_MAX.
 */
int tramp_object_x86(const struct tramp_code *codes, size_t n, uint8_t **image, size_t *size);

#endif
