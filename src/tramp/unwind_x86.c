/* SPDX-License-Identifier: MIT */
/*
 * unwind_x86.c - call-frame information for pieces of code that run in place of other code.
 *
 * A piece is no function: it has no frame of its own, and nobody called it. So an unwinder is led
 * from it not to a caller but to the instruction in whose place it runs, with the stack pointer
 * that this instruction would see and the same registers; from there it goes on with the call-frame
 * information of the original function, which stays in force although its bytes were patched.
 *
 *     CFA                = rsp + depth
 *     rsp up there       = CFA   (what every unwinder for x86-64 assumes without being told)
 *     rip up there       = a constant: the origin
 *     other registers    = as here
 *
 * The address up there is the instruction itself. An unwinder takes the address of a caller to be
 * behind a call, and looks one byte before it: at the head of a function, that would be the
 * previous function. Augmentation "S" (signal frame) tells it not to. It also makes gdb single-step
 * through a piece. To lie by one byte instead is no way: a debugger sets breakpoints at addresses
 * to which it believes that code returns, and one byte further is the middle of an instruction,
 * or of our jump.
 *
 * Encodings: DWARF 5, sections 6.4 and 7.24; .eh_frame: LSB 5.0, 10.6; register numbers: System V
 * psABI AMD64, figure 3.36.
 */
#include <errno.h>
#include <string.h>
#include "tramp/unwind.h"

enum { RSP = 7, RIP = 16 };

enum {
	DW_CFA_advance_loc = 0x40,
	DW_CFA_advance_loc1 = 0x02,
	DW_CFA_advance_loc2 = 0x03,
	DW_CFA_advance_loc4 = 0x04,
	DW_CFA_def_cfa = 0x0c,
	DW_CFA_def_cfa_offset = 0x0e,
	DW_CFA_def_cfa_offset_sf = 0x13,
	DW_CFA_val_expression = 0x16,
	DW_OP_const8u = 0x0e,
	DW_EH_PE_absptr = 0x00,
};

struct section {
	uint8_t *bytes;
	size_t room, size; /* what is beyond room is counted, not written */
};

static void put(struct section *s, const void *bytes, size_t size)
{
	if (s->size + size <= s->room)
		memcpy(s->bytes + s->size, bytes, size);
	s->size += size;
}

#define PUT(s, ...) put(s, (const uint8_t[]){__VA_ARGS__}, sizeof((uint8_t[]){__VA_ARGS__}))

static void put32(struct section *s, uint32_t value)
{
	put(s, &value, sizeof(value));
}

static void put64(struct section *s, uint64_t value)
{
	put(s, &value, sizeof(value));
}

static void put_uleb(struct section *s, uint64_t value)
{
	while (value >= 0x80) {
		PUT(s, (uint8_t)(value | 0x80));
		value >>= 7;
	}
	PUT(s, (uint8_t)value);
}

/* `value` < 0 */
static void put_sleb(struct section *s, int64_t value)
{
	while (value < -0x40) {
		PUT(s, (uint8_t)((value & 0x7f) | 0x80));
		value >>= 7;
	}
	PUT(s, (uint8_t)(value & 0x7f));
}

/* An entry begins with its length, which is known when it ends: padded (with DW_CFA_nop, which
 * is 0) so that the next one is aligned. */
static size_t begin_entry(struct section *s)
{
	put32(s, 0);
	return s->size;
}

static void end_entry(struct section *s, size_t start)
{
	uint32_t length;

	while (s->size % 8)
		PUT(s, 0);
	length = (uint32_t)(s->size - start);
	if (s->size <= s->room)
		memcpy(s->bytes + start - 4, &length, 4);
}

static void put_cie(struct section *s)
{
	size_t start = begin_entry(s);

	put32(s, 0); /* a CIE */
	PUT(s, 1);   /* version */
	put(s, "zRS", 4);
	PUT(s, 1, 1, RIP);          /* code and data alignment factors; return address */
	PUT(s, 1, DW_EH_PE_absptr); /* augmentation: its length, encoding of addresses */
	PUT(s, DW_CFA_def_cfa, RSP, 0);
	end_entry(s, start);
}

static void put_advance(struct section *s, uint32_t delta)
{
	if (delta < 0x40) {
		PUT(s, (uint8_t)(DW_CFA_advance_loc | delta));
	} else if (delta <= UINT8_MAX) {
		PUT(s, DW_CFA_advance_loc1, (uint8_t)delta);
	} else if (delta <= UINT16_MAX) {
		PUT(s, DW_CFA_advance_loc2, (uint8_t)delta, (uint8_t)(delta >> 8));
	} else {
		PUT(s, DW_CFA_advance_loc4);
		put32(s, delta);
	}
}

static void put_depth(struct section *s, int32_t depth)
{
	if (depth >= 0) {
		PUT(s, DW_CFA_def_cfa_offset);
		put_uleb(s, (uint32_t)depth);
	} else {
		PUT(s, DW_CFA_def_cfa_offset_sf);
		put_sleb(s, depth);
	}
}

static void put_origin(struct section *s, uint64_t origin)
{
	PUT(s, DW_CFA_val_expression, RIP, 9, DW_OP_const8u);
	put64(s, origin);
}

static bool rows_are_good(const struct tramp_code *code)
{
	for (uint32_t i = 0; i < code->row_count; i++)
		if (code->rows[i].offset >= code->size ||
		    (i && code->rows[i].offset < code->rows[i - 1].offset))
			return false;
	return code->row_count;
}

/* From row to row, passing over those that hold for no byte. */
static void put_rows(struct section *s, const struct tramp_code *code)
{
	const struct tramp_row *before = NULL;

	for (uint32_t i = 0; i < code->row_count; i++) {
		const struct tramp_row *row = &code->rows[i];

		if (i + 1 < code->row_count && code->rows[i + 1].offset == row->offset)
			continue;
		if (before)
			put_advance(s, row->offset - before->offset);
		if (before ? row->depth != before->depth : row->depth != 0)
			put_depth(s, row->depth);
		if (!before || row->origin != before->origin)
			put_origin(s, row->origin);
		before = row;
	}
}

static int put_fde(struct section *s, const struct tramp_code *code)
{
	size_t start = begin_entry(s);

	if (!rows_are_good(code))
		return -EINVAL;
	put32(s, (uint32_t)s->size); /* distance back to the CIE, which is at 0 */
	put64(s, code->address + code->rows[0].offset);
	put64(s, code->size - code->rows[0].offset);
	PUT(s, 0); /* no augmentation data */
	put_rows(s, code);
	end_entry(s, start);
	return 0;
}

int tramp_unwind_x86(const struct tramp_code *codes, size_t n, uint8_t *out, size_t room,
                     size_t *needed)
{
	struct section s = {out, room, 0};
	int rc = 0;

	put_cie(&s);
	for (size_t i = 0; i < n && !rc; i++)
		rc = put_fde(&s, &codes[i]);
	put32(&s, 0);
	*needed = s.size;
	if (!rc && s.size > room)
		rc = -ENOSPC;
	return rc;
}
