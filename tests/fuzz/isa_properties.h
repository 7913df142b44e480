/* SPDX-License-Identifier: MIT */
/*
 * isa_properties.h - what must hold for x86-64 decode, relocate and the rest, whatever the bytes
 * are. Each function returns NULL or what does not hold. Used by the fuzzer (isa.c) and by
 * tests/unit/isa_fuzz.c.
 */
#ifndef ISA_PROPERTIES_H
#define ISA_PROPERTIES_H

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "isa/isa.h"

struct question {
	const uint8_t *code; /* `size` bytes can be read, and no more */
	size_t size;
	uint64_t from, to; /* where they are and shall be */
	uint8_t *out;      /* `room` bytes can be written, and no more */
	size_t room;
};

static const char *decode_broken(const struct question *q)
{
	struct isa_insn insn, elsewhere, cut;
	int length = isa_x86_64.decode(q->code, q->size, q->from, &insn);

	if (length < 0)
		return length != -EILSEQ ? "decode's error" : NULL;
	if (length == 0 || (size_t)length > q->size || length > isa_x86_64.insn_max ||
	    length != insn.length)
		return "length";
	if (insn.class > ISA_PINNED)
		return "class";
	for (int k = 0; k < length; k++)
		if (isa_x86_64.decode(q->code, (size_t)k, q->from, &cut) != -EILSEQ)
			return "an instruction that is cut short is one";
	if (isa_x86_64.decode(q->code, (size_t)length, q->to, &elsewhere) != length ||
	    elsewhere.class != insn.class || elsewhere.has_target != insn.has_target ||
	    elsewhere.steppable != insn.steppable)
		return "depends on its address";
	if (isa_x86_64.is_trap(q->code, q->size) && (insn.class != ISA_TRAP || length != 1))
		return "trap";
	return NULL;
}

/* ---- what a copy does ---- */

static uint64_t load(const uint8_t *bytes, size_t size)
{
	uint64_t value = 0;

	memcpy(&value, bytes, size);
	return value;
}

/* The displaced call pushes where the original would have returned to. */
static bool pushes(const uint8_t *copy, int length, uint64_t value)
{
	/* push imm32; mov dword [rsp+4], imm32 */
	static const uint8_t upper[] = {0xC7, 0x44, 0x24, 0x04};
	bool extended = value == (uint64_t)(int64_t)(int32_t)value;

	if (length < 5 || copy[0] != 0x68 || load(copy + 1, 4) != (uint32_t)value)
		return false;
	return extended || (length >= 13 && memcmp(copy + 5, upper, 4) == 0 &&
	                    load(copy + 9, 4) == value >> 32);
}

/* One instruction of a copy, with the address behind a far jump. */
struct step {
	struct isa_insn insn;
	uint64_t destination; /* of a far jump */
	int length;
	bool far;
};

static bool next_step(const uint8_t *copy, int left, uint64_t at, struct step *step)
{
	step->length = isa_x86_64.decode(copy, (size_t)left, at, &step->insn);
	if (step->length < 0)
		return false;
	/* jmp [rip+0], perhaps behind a prefix, which reads what follows */
	step->far = step->insn.class == ISA_JUMP_INDIRECT && step->insn.has_target &&
	            step->insn.target == at + (uint64_t)step->length && left >= step->length + 8;
	if (step->far) {
		step->destination = load(copy + step->length, 8);
		step->length += 8;
	}
	return true;
}

/* Does this step of the copy go, or refer, where the original did? */
static bool arrives(const struct step *step, const uint8_t *at, const struct isa_insn *original)
{
	switch (original->class) {
	case ISA_BRANCH:
	case ISA_BRANCH_IF:
	case ISA_CALL:
		if (step->far)
			return step->destination == original->target;
		return (step->insn.class == ISA_BRANCH || step->insn.class == ISA_BRANCH_IF) &&
		       step->insn.target == original->target;
	case ISA_CALL_INDIRECT:
	case ISA_JUMP_INDIRECT:
		return step->insn.class == ISA_JUMP_INDIRECT && step->insn.has_target &&
		       step->insn.target == original->target;
	default:
		if (step->insn.class == ISA_PC_RELATIVE)
			return step->insn.target == original->target;
		if (step->length >= 10) /* REX.W B8+r: mov r64, imm64 */
			return (at[0] & 0xF8) == 0x48 && (at[1] & 0xF8) == 0xB8 &&
			       load(at + 2, 8) == original->target;
		return step->length >= 5 && /* [REX] B8+r: mov r32, imm32 */
		       (at[step->length - 5] & 0xF8) == 0xB8 &&
		       load(at + step->length - 4, 4) == (uint32_t)original->target;
	}
}

static const char *copy_broken(const struct question *q, const uint8_t *copy, int length,
                               const struct isa_insn *original)
{
	bool found = !original->has_target;
	struct step step;

	for (int at = 0; at < length; at += step.length) {
		if (!next_step(copy + at, length - at, q->to + (uint64_t)at, &step) ||
		    at + step.length > length)
			return "the copy does not decode";
		found = found || arrives(&step, copy + at, original);
	}
	if (!found)
		return "the copy leads elsewhere";
	if ((original->class == ISA_CALL || original->class == ISA_CALL_INDIRECT) &&
	    !pushes(copy, length, q->from + original->length))
		return "the copy pushes another return address";
	if ((original->class == ISA_PLAIN || original->class == ISA_RETURN ||
	     original->class == ISA_LANDING) &&
	    (length != original->length || memcmp(copy, q->code, (size_t)length) != 0))
		return "the copy differs without need";
	return NULL;
}

static const char *relocate_broken(const struct question *q)
{
	uint8_t full[ISA_DISPLACED_MAX];
	struct isa_insn insn;
	int length = isa_x86_64.decode(q->code, q->size, q->from, &insn);
	int copy = isa_x86_64.relocate(q->code, q->size, q->from, q->to, full, sizeof(full));
	int small = isa_x86_64.relocate(q->code, q->size, q->from, q->to, q->out, q->room);

	if (length < 0)
		return copy != -EILSEQ || small != -EILSEQ ? "relocate's error" : NULL;
	if (insn.class >= ISA_SYSCALL)
		return copy != -ENOTSUP ? "moved although pinned" : NULL;
	if (copy < 0)
		return (copy != -ENOTSUP && copy != -ERANGE) || small != copy ? "error" : NULL;
	if (copy == 0 || copy > ISA_DISPLACED_MAX)
		return "length of the copy";
	if ((size_t)copy > q->room)
		return small != -ENOSPC ? "output too small" : NULL;
	if (small != copy || memcmp(full, q->out, (size_t)copy) != 0)
		return "not repeatable";
	return copy_broken(q, full, copy, &insn);
}

/* ---- what we write ourselves ---- */

static const char *branch_broken(uint64_t from, uint64_t to)
{
	int64_t distance = (int64_t)(to - (from + isa_x86_64.branch_length));
	uint8_t out[ISA_INSN_MAX];
	struct isa_insn insn;
	int length = isa_x86_64.branch(from, to, out, sizeof(out));

	if (distance != (int32_t)distance)
		return length != -ERANGE ? "a branch that does not reach" : NULL;
	if (length != isa_x86_64.branch_length ||
	    isa_x86_64.decode(out, (size_t)length, from, &insn) != length ||
	    insn.class != ISA_BRANCH || insn.target != to)
		return "a branch leads elsewhere";
	return isa_x86_64.branch(from, to, out, (size_t)length - 1) != -ENOSPC ? "branch's room"
	                                                                       : NULL;
}

static const char *jump_far_broken(uint64_t from, uint64_t to)
{
	uint8_t out[ISA_DISPLACED_MAX];
	struct step step;
	int length = isa_x86_64.jump_far(from, to, out, sizeof(out));

	if (length != isa_x86_64.jump_far_length || !next_step(out, length, from, &step) ||
	    !step.far || step.length != length || step.destination != to)
		return "a far jump leads elsewhere";
	return isa_x86_64.jump_far(from, to, out, (size_t)length - 1) != -ENOSPC ? "jump_far's room"
	                                                                         : NULL;
}

static const char *nop_broken(size_t size)
{
	uint8_t out[ISA_DISPLACED_MAX + 1];
	struct isa_insn insn;
	int step;

	size %= sizeof(out);
	out[size] = 0xA5;
	isa_x86_64.nop(out, size);
	for (size_t at = 0; at < size; at += (size_t)step) {
		step = isa_x86_64.decode(out + at, size - at, 0, &insn);
		if (step < 0 || insn.class != ISA_PLAIN)
			return "nops do not decode";
	}
	return out[size] != 0xA5 ? "nops beyond their end" : NULL;
}

/* `other` has q->size bytes. */
static const char *hotpatch_broken(const struct question *q, const uint8_t *other)
{
	struct isa_insn old, new;
	int length = isa_x86_64.decode(q->code, q->size, q->from, &old);
	int wanted = isa_x86_64.decode(other, q->size, q->from, &new);

	for (size_t size = 0; size <= q->size; size++) {
		size_t differing = 0;
		bool allowed;

		for (size_t k = 0; k < size; k++)
			differing += q->code[k] != other[k];
		allowed = size > 0 && length == (int)size && wanted == length && differing <= 1;
		if (isa_x86_64.hotpatch_safe(q->code, other, size, q->from) != allowed)
			return "hotpatch_safe";
	}
	return NULL;
}

static const char *isa_broken(const struct question *q)
{
	const char *broken = decode_broken(q);

	broken = broken ? broken : relocate_broken(q);
	broken = broken ? broken : branch_broken(q->from, q->to);
	broken = broken ? broken : jump_far_broken(q->from, q->to);
	return broken ? broken : nop_broken(q->room);
}

#endif
