/* SPDX-License-Identifier: MIT */
/*
 * x86_relocate.c - x86-64: a copy of one instruction that works at another address.
 *
 * What the copy may not keep: an x87 instruction leaves its own address in the FPU's
 * instruction pointer (SDM vol. 1, 8.1.8), and an indirect call whose operand faults does so
 * after the return address was pushed.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "isa/x86.h"

enum {
	PREFIX_BND = 0xF2, /* MPX: this branch keeps the bound registers (SDM vol. 1, Intel MPX) */
	PREFIX_FS = 0x64,  /* also GS = 0x65 */
	PREFIX_GS = 0x65,
	PREFIX_ADDRESS = 0x67,
	RETURN_SLOT = 8, /* bytes that a call pushes */
};

/* The longest copy: push, store, then an indirect jump that gained a disp32; see the callers. */
static_assert(5 + 8 + ZYDIS_MAX_INSTRUCTION_LENGTH + 4 <= ISA_DISPLACED_MAX, "copies fit");

/* The instruction and where it goes. */
struct move {
	const uint8_t *code;
	const ZydisDecodedInstruction *fields;
	const struct isa_insn *insn;
	uint64_t from, to;
};

struct copy {
	uint8_t bytes[ISA_DISPLACED_MAX];
	uint8_t length;
};

/* ---- emitting ---- */

static void emit(struct copy *copy, const void *bytes, size_t length)
{
	memcpy(copy->bytes + copy->length, bytes, length);
	copy->length += length;
}

static void emit8(struct copy *copy, uint8_t value)
{
	emit(copy, &value, sizeof(value));
}

static void emit32(struct copy *copy, uint32_t value)
{
	emit(copy, &value, sizeof(value));
}

static void emit64(struct copy *copy, uint64_t value)
{
	emit(copy, &value, sizeof(value));
}

static bool fits32(int64_t value)
{
	return value == (int32_t)value;
}

/* Distance to `target` from the end of an instruction that has `length` bytes still to come. */
static int64_t distance(const struct move *move, const struct copy *copy, unsigned length,
                        uint64_t target)
{
	return (int64_t)(target - (move->to + copy->length + length));
}

static bool has_prefix(const ZydisDecodedInstruction *fields, uint8_t prefix)
{
	for (unsigned i = 0; i < fields->raw.prefix_count; i++)
		if (fields->raw.prefixes[i].value == prefix)
			return true;
	return false;
}

static bool rex_bit(const ZydisDecodedInstruction *fields, uint8_t bit)
{
	return (fields->attributes & ZYDIS_ATTRIB_HAS_REX) && bit;
}

static void emit_bnd(struct copy *copy, const struct move *move)
{
	if (has_prefix(move->fields, PREFIX_BND))
		emit8(copy, PREFIX_BND);
}

static void emit_jump(struct copy *copy, const struct move *move, uint64_t target)
{
	uint8_t *out;
	size_t room;

	emit_bnd(copy, move);
	out = copy->bytes + copy->length;
	room = sizeof(copy->bytes) - copy->length;
	if (fits32(distance(move, copy, X86_BRANCH_LENGTH, target)))
		copy->length += x86_branch(move->to + copy->length, target, out, room);
	else
		copy->length += x86_jump_far(move->to + copy->length, target, out, room);
}

/* Two instructions at most, no flags, no register but rsp. */
static void emit_push(struct copy *copy, uint64_t value)
{
	emit8(copy, 0x68); /* push imm32, sign-extended to 64 bits */
	emit32(copy, (uint32_t)value);
	if (fits32((int64_t)value))
		return;
	emit(copy, (const uint8_t[]){0xC7, 0x44, 0x24, 0x04}, 4); /* mov dword [rsp+4], imm32 */
	emit32(copy, (uint32_t)(value >> 32));
}

/* ---- direct branches and calls ---- */

static int copy_branch(const struct move *move, struct copy *copy)
{
	emit_jump(copy, move, move->insn->target);
	return 0;
}

/* Short and near forms have the condition in the same four bits (SDM vol. 2, B.1.4.7). */
static int copy_jcc(const struct move *move, struct copy *copy)
{
	uint8_t condition = move->fields->opcode & 0x0F;
	struct copy far = {0};

	emit_bnd(copy, move);
	if (fits32(distance(move, copy, 6, move->insn->target))) {
		emit8(copy, 0x0F); /* jcc rel32 */
		emit8(copy, 0x80 | condition);
		emit32(copy, (uint32_t)distance(move, copy, 4, move->insn->target));
		return 0;
	}
	emit_bnd(&far, move);
	far.length +=
	        x86_jump_far(0, move->insn->target, far.bytes + far.length, X86_JUMP_FAR_LENGTH);
	emit8(copy, 0x70 | (condition ^ 1)); /* the opposite jcc rel8, over the jump */
	emit8(copy, far.length);
	emit(copy, far.bytes, far.length);
	return 0;
}

/*
 * loop, loope, loopne, jrcxz and jecxz have a rel8 only. They neither read more nor write less
 * than the same instruction with another distance:
 *
 *     [67] loop 1f
 *     jmp 2f
 *  1: jmp target
 *  2:
 */
static int copy_loop(const struct move *move, struct copy *copy)
{
	uint8_t skip;

	if (has_prefix(move->fields, PREFIX_ADDRESS)) /* counts in ecx */
		emit8(copy, PREFIX_ADDRESS);
	emit8(copy, move->fields->opcode);
	emit8(copy, 2);
	emit8(copy, 0xEB); /* jmp rel8 */
	skip = copy->length;
	emit8(copy, 0);
	emit_jump(copy, move, move->insn->target);
	copy->bytes[skip] = copy->length - skip - 1;
	return 0;
}

static int copy_branch_if(const struct move *move, struct copy *copy)
{
	if ((move->fields->opcode & 0xFC) == 0xE0) /* E0 loopne, E1 loope, E2 loop, E3 jrcxz */
		return copy_loop(move, copy);
	return copy_jcc(move, copy);
}

static int copy_call(const struct move *move, struct copy *copy)
{
	emit_push(copy, move->from + move->fields->length);
	emit_jump(copy, move, move->insn->target);
	return 0;
}

/* ---- operands relative to rip ---- */

/* Is this `opcode reg, [rip+x]` with a 32- or 64-bit reg, and no segment in the way? */
static bool is_simple_load(const ZydisDecodedInstruction *fields, uint8_t opcode)
{
	return fields->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY &&
	       fields->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && fields->opcode == opcode &&
	       fields->operand_width >= 32 && !has_prefix(fields, PREFIX_FS) &&
	       !has_prefix(fields, PREFIX_GS);
}

/* mov reg, [reg], where both are the same 64-bit register, or the load's destination is 32-bit. */
static void emit_load_through(struct copy *copy, unsigned reg, bool wide)
{
	unsigned low = reg & 7;

	/* REX: W operand size, R and B the high bits of the two register fields. */
	emit8(copy, 0x40 | wide << 3 | (reg >= 8 ? 0x05 : 0));
	emit8(copy, 0x8B); /* mov r, r/m */
	if (low == 4) {    /* r/m 100 announces a SIB: 24 is base 100, no index */
		emit8(copy, 0x04 | low << 3);
		emit8(copy, 0x24);
	} else if (low == 5) { /* mod 00 r/m 101 would be rip: disp8 instead */
		emit8(copy, 0x45 | low << 3);
		emit8(copy, 0);
	} else {
		emit8(copy, low << 3 | low);
	}
}

/* Out of reach: an instruction that overwrites a whole register can hold the address in it. */
static int copy_out_of_reach(const struct move *move, struct copy *copy)
{
	const ZydisDecodedInstruction *fields = move->fields;
	unsigned reg = fields->raw.modrm.reg | (rex_bit(fields, fields->raw.rex.R) ? 8 : 0);
	bool wide = rex_bit(fields, fields->raw.rex.W);
	bool lea = is_simple_load(fields, 0x8D);

	/* Signals are delivered on rsp: it must not hold an address for even one instruction. */
	if (!lea && (!is_simple_load(fields, 0x8B) || reg == 4))
		return -ERANGE;
	if (lea && !wide) { /* the low 32 bits of the address, zero-extended: mov r32, imm32 */
		if (reg >= 8)
			emit8(copy, 0x41);
		emit8(copy, 0xB8 | (reg & 7));
		emit32(copy, (uint32_t)move->insn->target);
		return 0;
	}
	emit8(copy, 0x48 | (reg >= 8)); /* mov r64, imm64 */
	emit8(copy, 0xB8 | (reg & 7));
	emit64(copy, move->insn->target);
	if (!lea)
		emit_load_through(copy, reg, wide);
	return 0;
}

/* Appends the instruction as it is and aims its displacement, which need not come last. */
static int append_rip_relative(const struct move *move, struct copy *copy)
{
	const ZydisDecodedInstruction *fields = move->fields;
	int64_t reach = distance(move, copy, fields->length, move->insn->target);
	int32_t disp32 = (int32_t)reach;

	if (!fits32(reach))
		return -ERANGE;
	memcpy(copy->bytes + copy->length, move->code, fields->length);
	memcpy(copy->bytes + copy->length + fields->raw.disp.offset, &disp32, sizeof(disp32));
	copy->length += fields->length;
	return 0;
}

static int copy_rip_relative(const struct move *move, struct copy *copy)
{
	if (move->fields->address_width == 32) /* eip-relative: wraps at 4 GB */
		return -ENOTSUP;
	if (append_rip_relative(move, copy) == 0)
		return 0;
	return copy_out_of_reach(move, copy);
}

/* ---- indirect branches and calls ---- */

static int copy_plain(const struct move *move, struct copy *copy)
{
	emit(copy, move->code, move->fields->length);
	return 0;
}

static int copy_jump_indirect(const struct move *move, struct copy *copy)
{
	if (!x86_is_rip_relative(move->fields))
		return copy_plain(move, copy);
	if (move->fields->address_width == 32)
		return -ENOTSUP;
	return append_rip_relative(move, copy);
}

/* FF /2 is call, FF /4 is jmp: bits 3 to 5 of ModRM. The operand is encoded alike. */
static void turn_call_into_jump(const struct move *move, struct copy *copy, unsigned start)
{
	copy->bytes[start + move->fields->raw.modrm.offset] ^= 0x10 | 0x20;
}

static bool has_index(const ZydisDecodedInstruction *fields)
{
	/* SDM vol. 2, table 2-3: index 100 is none, but with REX.X it is r12. */
	return fields->raw.sib.index != 4 || rex_bit(fields, fields->raw.rex.X);
}

/*
 * call [rsp+x] after the push: jmp [rsp+x+8]. The call reads its operand before it pushes (SDM
 * vol. 2, CALL), so an operand that overlaps the slot would be lost; with an index nobody can
 * tell. Another register that points just below rsp cannot be seen here: the red zone holds
 * nothing that is needed across a call (psABI 3.2.2), and compilers use it in functions that
 * call nobody.
 */
static int append_rsp_relative(const struct move *move, struct copy *copy)
{
	const ZydisDecodedInstruction *fields = move->fields;
	int64_t old = fields->raw.disp.size ? fields->raw.disp.value : 0;
	int64_t x = old + RETURN_SLOT;
	uint8_t modrm = move->code[fields->raw.modrm.offset];
	bool short_form = x == (int8_t)x;

	if (old < 0 || has_index(fields) || !fits32(x) ||
	    fields->raw.sib.offset + 5 > ZYDIS_MAX_INSTRUCTION_LENGTH)
		return -ENOTSUP;
	emit(copy, move->code, fields->raw.modrm.offset);
	emit8(copy, (modrm & 0x3F) | (short_form ? 0x40 : 0x80)); /* mod: disp8 or disp32 */
	emit8(copy, move->code[fields->raw.sib.offset]);
	if (short_form)
		emit8(copy, (uint8_t)x);
	else
		emit32(copy, (uint32_t)x);
	return 0;
}

static bool base_is_rsp(const ZydisDecodedInstruction *fields)
{
	if (fields->raw.modrm.rm != 4 || rex_bit(fields, fields->raw.rex.B))
		return false;
	return fields->raw.modrm.mod == 3 || fields->raw.sib.base == 4;
}

static int copy_call_indirect(const struct move *move, struct copy *copy)
{
	const ZydisDecodedInstruction *fields = move->fields;
	unsigned start;
	int result;

	if (fields->raw.modrm.mod == 3 && base_is_rsp(fields)) /* call rsp: to the value before */
		return -ENOTSUP;
	emit_push(copy, move->from + fields->length);
	start = copy->length;
	if (base_is_rsp(fields))
		result = append_rsp_relative(move, copy);
	else
		result = copy_jump_indirect(move, copy);
	if (result == 0)
		turn_call_into_jump(move, copy, start);
	return result;
}

/* ------------------------------------------------------------------------------------------- */

static int copy_any(const struct move *move, struct copy *copy)
{
	switch (move->insn->class) {
	case ISA_PLAIN:
	case ISA_RETURN:
	case ISA_LANDING:
		return copy_plain(move, copy);
	case ISA_PC_RELATIVE:
		return copy_rip_relative(move, copy);
	case ISA_BRANCH:
		return copy_branch(move, copy);
	case ISA_BRANCH_IF:
		return copy_branch_if(move, copy);
	case ISA_CALL:
		return copy_call(move, copy);
	case ISA_CALL_INDIRECT:
		return copy_call_indirect(move, copy);
	case ISA_JUMP_INDIRECT:
		return copy_jump_indirect(move, copy);
	case ISA_SYSCALL:
	case ISA_TRAP:
	case ISA_PINNED:
		break;
	}
	return -ENOTSUP;
}

int x86_relocate(const uint8_t *code, size_t size, uint64_t from, uint64_t to, uint8_t *out,
                 size_t out_size)
{
	ZydisDecodedInstruction fields;
	struct isa_insn insn;
	struct move move = {.code = code, .fields = &fields, .insn = &insn, .from = from, .to = to};
	struct copy copy = {.length = 0};
	int result = x86_parse(code, size, from, &insn, &fields);

	if (result < 0)
		return result;
	result = copy_any(&move, &copy);
	if (result < 0)
		return result;
	if (out_size < copy.length)
		return -ENOSPC;
	memcpy(out, copy.bytes, copy.length);
	return copy.length;
}
