/* SPDX-License-Identifier: MIT */
/*
 * detour_x86.c - trampolines of our own process: displaced code, and calls of handlers' gates.
 *
 * They are reached by one jump at the site, keep every register, the flags and the red zone, and
 * lead on through words in memory, so that what is attached to a site can change while threads are
 * on their way, without changing code.
 */
#include <errno.h>
#include <string.h>
#include "tramp/tramp.h"

static void put(struct tramp_piece *code, const void *bytes, size_t size)
{
	if (code->size + size <= sizeof(code->bytes))
		memcpy(code->bytes + code->size, bytes, size);
	code->size += (uint32_t)size;
}

#define PUT(code, ...) put(code, (const uint8_t[]){__VA_ARGS__}, sizeof((uint8_t[]){__VA_ARGS__}))

/* A 32-bit distance from the end of what is put now. */
static int put_distance(struct tramp_piece *code, uint64_t at, uint64_t target)
{
	int64_t distance = (int64_t)(target - (at + code->size + 4));
	int32_t narrow = (int32_t)distance;

	put(code, &narrow, sizeof(narrow));
	return narrow == distance ? 0 : -ERANGE;
}

static void put_row(struct tramp_piece *code, uint64_t origin, int32_t depth)
{
	if (code->row_count < TRAMP_ROWS_MAX)
		code->rows[code->row_count++] = (struct tramp_row){code->size, origin, depth};
}

static int go_on(struct tramp_piece *code, uint64_t at, uint64_t next)
{
	const struct isa *isa = &isa_x86_64;
	uint8_t *out = code->bytes + code->size;
	size_t room = sizeof(code->bytes) - code->size;
	int n = isa->branch(at + code->size, next, out, room);

	if (n == -ERANGE)
		n = isa->jump_far(at + code->size, next, out, room);
	if (n > 0)
		code->size += (uint32_t)n;
	return n < 0 ? n : 0;
}

enum { PUSH_LENGTH = 5, RETURN_SLOT = 8 };

/* One instruction. Copies of calls begin with a push of the return address. */
static int copy(const uint8_t *code, size_t size, uint64_t from, uint64_t to,
                struct tramp_piece *out, struct isa_insn *insn)
{
	int length = isa_x86_64.decode(code, size, from, insn), n;
	uint32_t start = out->size;

	if (length < 0)
		return length;
	put_row(out, from, 0);
	if (insn->class == ISA_SYSCALL) {
		/* Trampolines of our own process stay, so a thread may sleep in one. What it leaves
		 * in rcx, its own address, differs. */
		put(out, code, (size_t)length);
		return length;
	}
	n = isa_x86_64.relocate(code, (size_t)length, from, to + out->size, out->bytes + out->size,
	                        sizeof(out->bytes) - out->size);
	if (n < 0)
		return n;
	out->size += (uint32_t)n;
	if ((insn->class == ISA_CALL || insn->class == ISA_CALL_INDIRECT) && n > PUSH_LENGTH &&
	    out->row_count < TRAMP_ROWS_MAX)
		out->rows[out->row_count++] =
		        (struct tramp_row){start + PUSH_LENGTH, from, RETURN_SLOT};
	return length;
}

int tramp_displace_x86(const uint8_t *code, size_t size, uint64_t from, uint64_t to,
                       uint8_t entries[16], struct tramp_piece *out)
{
	int rc = 0;

	out->size = out->row_count = 0;
	memset(entries, 0, 16);
	for (size_t at = 0; at < size && rc >= 0; at += (size_t)rc) {
		struct isa_insn insn;

		if (at < 16 && out->size <= UINT8_MAX)
			entries[at] = (uint8_t)out->size;
		else
			return -ENOTSUP;
		rc = copy(code + at, size - at, from + at, to, out, &insn);
	}
	if (rc < 0)
		return rc;
	put_row(out, from + size, 0);
	return go_on(out, to, from + size);
}

int tramp_jump_slot_x86(uint64_t at, uint64_t slot, uint64_t origin, struct tramp_piece *out)
{
	out->size = out->row_count = 0;
	put_row(out, origin, 0);
	PUT(out, 0xff, 0x25); /* jmp *slot(%rip) */
	return put_distance(out, at, slot);
}

int tramp_gate_x86(uint64_t at, uint64_t context, uint64_t gate, uint64_t after, uint64_t origin,
                   struct tramp_piece *out)
{
	static const int32_t down = -TRAMP_GATE_ROOM, up = TRAMP_GATE_ROOM;
	int rc;

	out->size = out->row_count = 0;
	put(out, &context, sizeof(context));
	put_row(out, origin, 0);
	PUT(out, 0x48, 0x8d, 0xa4, 0x24); /* lea -ROOM(%rsp),%rsp */
	put(out, &down, sizeof(down));
	put_row(out, origin, TRAMP_GATE_ROOM);
	PUT(out, 0xff, 0x15); /* call *gate(%rip) */
	rc = put_distance(out, at, gate);
	PUT(out, 0x48, 0x8d, 0xa4, 0x24); /* lea ROOM(%rsp),%rsp */
	put(out, &up, sizeof(up));
	put_row(out, origin, 0);
	PUT(out, 0xff, 0x25); /* jmp *after(%rip) */
	return rc ? rc : put_distance(out, at, after);
}

/* A conditional branch whose taken way is `taken`: the copy of one that leads there. The
 * instruction is copied as it is, and its distance aimed; there is none that does not have one. */
static int step_branch_if(const uint8_t *code, int length, uint64_t to, uint64_t taken,
                          struct tramp_piece *out)
{
	uint8_t opcode = code[length - 2];
	int prefixes = length - 2;

	if (length >= 6 && code[length - 6] == 0x0f && (code[length - 5] & 0xf0) == 0x80) {
		opcode = 0x70 | (code[length - 5] & 0x0f); /* jcc rel32 */
		prefixes = 0;
	}
	if ((opcode & 0xfc) == 0xe0) { /* loop, jrcxz: a prefix may name the counter */
		put(out, code, (size_t)prefixes);
		PUT(out, opcode, 2, 0xeb, 5); /* over the jump, to the straight way behind it */
	} else {
		PUT(out, opcode ^ 1, 5);
	}
	PUT(out, 0xe9);
	return put_distance(out, to, taken);
}

int tramp_step_x86(const uint8_t *code, size_t size, uint64_t from, uint64_t to, uint64_t taken,
                   uint64_t straight, struct tramp_piece *out)
{
	struct isa_insn insn;
	int length = isa_x86_64.decode(code, size, from, &insn), rc = 0;

	out->size = out->row_count = 0;
	if (length < 0)
		return length;
	switch (insn.class) {
	case ISA_PLAIN:
	case ISA_PC_RELATIVE:
	case ISA_LANDING:
		rc = copy(code, size, from, to, out, &insn);
		break;
	case ISA_BRANCH_IF:
		put_row(out, from, 0);
		rc = step_branch_if(code, length, to, taken, out);
		break;
	case ISA_BRANCH:
		put_row(out, from, 0);
		return go_on(out, to, taken);
	case ISA_CALL: {
		uint64_t back = from + (unsigned)length;
		uint32_t low = (uint32_t)back, high = (uint32_t)(back >> 32);

		put_row(out, from, 0);
		PUT(out, 0x68); /* push imm32, then the upper half: mov $high,4(%rsp) */
		put(out, &low, sizeof(low));
		put_row(out, from, RETURN_SLOT);
		PUT(out, 0xc7, 0x44, 0x24, 0x04);
		put(out, &high, sizeof(high));
		return go_on(out, to, taken);
	}
	default:
		return -ENOTSUP;
	}
	if (rc < 0)
		return rc;
	put_row(out, straight, 0);
	return go_on(out, to, straight);
}
