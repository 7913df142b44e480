/* SPDX-License-Identifier: MIT */
/*
 * a64_isa.c - A64 as a struct isa: what every opcode does to the flow of control, and copies that
 * do the same elsewhere.
 *
 * Sections are of the Arm Architecture Reference Manual, DDI 0487. Opcodes are told apart by the
 * groups of C4.1, so that all are known that exist, whatever extension they belong to: what is not
 * in one of the groups below neither branches nor reads the program counter.
 */
#include "isa/a64.h"
#include "isa/error.h"
#include "isa/isa.h"

enum {
	WORD = 4,
	LINK = 30,
	/* Ours among breakpoints; what the processor reports of it is the program's to read. */
	TRAP_NUMBER = 0x5375,
};

#define OPCODE_NOP  UINT32_C(0xD503201F)
#define OPCODE_BRK  UINT32_C(0xD4200000)
#define TRAP_OPCODE (OPCODE_BRK | TRAP_NUMBER << 5)

/* Instructions are little-endian whatever data is (B2.3). */
ISA_NOINSTR static uint32_t opcode_at(const uint8_t *code)
{
	return (uint32_t)code[0] | (uint32_t)code[1] << 8 | (uint32_t)code[2] << 16 |
	       (uint32_t)code[3] << 24;
}

static void put(uint8_t *out, uint32_t opcode)
{
	out[0] = (uint8_t)opcode;
	out[1] = (uint8_t)(opcode >> 8);
	out[2] = (uint8_t)(opcode >> 16);
	out[3] = (uint8_t)(opcode >> 24);
}

/* ---- what an opcode is ---- */

static uint64_t distance(uint32_t opcode, unsigned at, unsigned width)
{
	uint64_t field = opcode >> at & ((UINT64_C(1) << width) - 1), sign = UINT64_C(1)
	                                                                     << (width - 1);

	return ((field ^ sign) - sign) * WORD;
}

static bool is_literal(uint32_t opcode)
{
	return (opcode & 0x3B000000) == 0x18000000; /* LDR, LDRSW, PRFM (literal) */
}

/* Direct branches and operands relative to the program counter. */
static bool classify_relative(uint32_t opcode, uint64_t address, struct isa_insn *insn)
{
	insn->has_target = true;
	if ((opcode & 0x7C000000) == 0x14000000) { /* B, BL */
		insn->class = opcode >> 31 ? ISA_CALL : ISA_BRANCH;
		insn->target = address + distance(opcode, 0, 26);
	} else if ((opcode & 0xFF000000) == 0x54000000 || /* B.cond, BC.cond */
	           (opcode & 0x7E000000) == 0x34000000) { /* CBZ, CBNZ */
		insn->class = ISA_BRANCH_IF;
		insn->target = address + distance(opcode, 5, 19);
	} else if ((opcode & 0x7E000000) == 0x36000000) { /* TBZ, TBNZ */
		insn->class = ISA_BRANCH_IF;
		insn->target = address + distance(opcode, 5, 14);
	} else if ((opcode & 0x1F000000) == 0x10000000) { /* ADR, ADRP */
		uint64_t offset = distance(opcode, 5, 19) | (opcode >> 29 & 3);

		insn->class = ISA_PC_RELATIVE;
		insn->target = opcode >> 31 ? (address & ~UINT64_C(4095)) + (offset << 12)
		                            : address + offset;
	} else if (is_literal(opcode)) {
		insn->class = ISA_PC_RELATIVE;
		insn->target = address + distance(opcode, 5, 19);
	} else {
		insn->has_target = false;
		return false;
	}
	return true;
}

/* Branches to a register (C4.1: unconditional branch, register). */
static enum isa_class class_of_register_branch(uint32_t opcode)
{
	switch (opcode >> 21 & 7) {
	case 0:
		return ISA_JUMP_INDIRECT;
	case 1:
		return ISA_CALL_INDIRECT;
	case 2:
		return ISA_RETURN;
	default:
		return ISA_PINNED; /* ERET, DRPS */
	}
}

/* Exception generation: opc is 23:21, LL is 1:0. */
static enum isa_class class_of_exception(uint32_t opcode)
{
	switch (opcode >> 21 & 7) {
	case 0:
		return ISA_SYSCALL; /* SVC, HVC, SMC */
	case 1:
	case 2:
		return ISA_TRAP; /* BRK, HLT */
	default:
		return ISA_PINNED; /* DCPS, TCANCEL */
	}
}

/* BTI, and PACIASP and PACIBSP, which are landing pads too (D8.4.5). */
static bool is_landing(uint32_t opcode)
{
	return (opcode & 0xFFFFFF3F) == 0xD503241F || (opcode & 0xFFFFFFBF) == 0xD503233F;
}

/* An exception between an exclusive load and its store makes the store fail, each time (B2.9.5):
 * all of bits 29:24 001000 with bit 23 clear, but for CASP (bit 31 clear, bit 21 set). */
static bool is_exclusive(uint32_t opcode)
{
	return (opcode & 0x3F800000) == 0x08000000 && (opcode & 0x80200000) != 0x00200000;
}

/* Bits 28:25 say which group (C4.1): 0001 and 0011 are nothing, 0000 is UDF, or SME if bit 31. */
static bool is_allocated(uint32_t opcode)
{
	unsigned group = opcode >> 25 & 15;

	return group != 1 && group != 3 && (group != 0 || opcode >> 31 || opcode >> 16 == 0);
}

static int a64_isa_decode(const uint8_t *code, size_t size, uint64_t address, struct isa_insn *insn)
{
	uint32_t opcode;

	if (size < WORD || address % WORD)
		return -EILSEQ;
	opcode = opcode_at(code);
	if (!is_allocated(opcode))
		return -EILSEQ;
	*insn = (struct isa_insn){.length = WORD, .class = ISA_PLAIN, .steppable = true};
	if (classify_relative(opcode, address, insn))
		return WORD;
	if ((opcode & 0xFE000000) == 0xD6000000)
		insn->class = class_of_register_branch(opcode);
	else if ((opcode & 0xFF000000) == 0xD4000000)
		insn->class = class_of_exception(opcode);
	else if (opcode >> 16 == 0)
		insn->class = ISA_TRAP;
	else if (is_landing(opcode))
		insn->class = ISA_LANDING;
	else if (is_exclusive(opcode))
		insn->class = ISA_PINNED;
	insn->steppable = insn->class != ISA_PINNED && insn->class != ISA_TRAP;
	return WORD;
}

static int a64_isa_format(const uint8_t *code, size_t size, uint64_t address, char *out,
                          size_t out_size)
{
	static const char start[] = ".inst 0x", digits[] = "0123456789abcdef";
	size_t at = 0;

	if (size < WORD || address % WORD)
		return -EILSEQ;
	for (; at + 1 < out_size && at + 1 < sizeof(start); at++)
		out[at] = start[at];
	for (unsigned shift = 32; shift && at + 1 < out_size; at++) {
		shift -= 4;
		out[at] = digits[opcode_at(code) >> shift & 15];
	}
	if (out_size)
		out[at] = 0;
	return WORD;
}

/* ---- what is written ---- */

static int put_branch(uint32_t opcode, uint64_t from, uint64_t to, uint8_t *out, size_t size)
{
	int64_t away = (int64_t)(to - from), reach = INT64_C(1) << 27;

	if (size < WORD)
		return -ENOSPC;
	if (from % WORD || to % WORD || away < -reach || away >= reach)
		return -ERANGE;
	put(out, opcode | ((uint32_t)((uint64_t)away / WORD) & 0x03FFFFFF));
	return WORD;
}

static int a64_isa_branch(uint64_t from, uint64_t to, uint8_t *out, size_t out_size)
{
	return put_branch(0x14000000, from, to, out, out_size); /* B imm26 */
}

static int a64_isa_call(uint64_t from, uint64_t to, uint8_t *out, size_t out_size)
{
	return put_branch(0x94000000, from, to, out, out_size); /* BL imm26 */
}

/* None keeps all registers: addresses that far are only reached by way of one. */
static int a64_isa_jump_far(uint64_t from, uint64_t to, uint8_t *out, size_t out_size)
{
	(void)from, (void)to, (void)out, (void)out_size;
	return -ENOTSUP;
}

static void a64_isa_nop(uint8_t *out, size_t size)
{
	for (; size >= WORD; size -= WORD, out += WORD)
		put(out, OPCODE_NOP);
}

/* MOVZ, MOVK, MOVK, MOVK: any number, no flags, no other register. */
enum { MOVE_LENGTH = 4 * WORD };
static void put_move(uint8_t *out, unsigned reg, uint64_t value)
{
	for (unsigned part = 0; part < 4; part++)
		put(out + (size_t)part * WORD,
		    (part ? 0xF2800000u : 0xD2800000u) | part << 21 |
		            (uint32_t)(value >> part * 16 & 0xFFFF) << 5 | reg);
}

/* ---- copies ---- */

struct copy {
	uint32_t opcode;
	uint64_t from, to, target;
	uint8_t *out;
	size_t size;
};

/* The same opcode, its field of `width` bits at 5 leading to the target; false: out of reach. */
static bool put_aimed(const struct copy *c, uint64_t target, unsigned width)
{
	int64_t away = (int64_t)(target - c->to), reach = INT64_C(1) << (width + 1);
	uint32_t mask = ((1u << width) - 1) << 5;

	if (away < -reach || away >= reach || away % WORD)
		return false;
	put(c->out, (c->opcode & ~mask) | ((uint32_t)((uint64_t)away / WORD) << 5 & mask));
	return true;
}

/* The link register holds what it would have held at the original place: unwinders see no copy. */
static int copy_call(const struct copy *c)
{
	int rc;

	if (c->size < MOVE_LENGTH + WORD)
		return -ENOSPC;
	rc = a64_isa_branch(c->to + MOVE_LENGTH, c->target, c->out + MOVE_LENGTH, WORD);
	if (rc < 0)
		return rc;
	put_move(c->out, LINK, c->from + WORD);
	return MOVE_LENGTH + WORD;
}

/*
 * RET and not BR: a `BTI c` at the target lets BLR in, and keeps out a BR through most registers;
 * of RET nothing is asked (D8.4.5). BLRAA and its kin need the authentication that goes with it.
 */
static int copy_call_indirect(const struct copy *c)
{
	unsigned reg = c->opcode >> 5 & 31;

	if (c->size < MOVE_LENGTH + WORD)
		return -ENOSPC;
	if ((c->opcode & 0xFFFFFC1F) != 0xD63F0000 || reg == LINK)
		return -ENOTSUP;
	put_move(c->out, LINK, c->from + WORD);
	put(c->out + MOVE_LENGTH, 0xD65F0000u | reg << 5); /* RET Xn */
	return MOVE_LENGTH + WORD;
}

/* At its reach if it can; otherwise over a jump to a jump that reaches further. */
static int copy_branch_if(const struct copy *c)
{
	unsigned width = (c->opcode & 0x7E000000) == 0x36000000 ? 14 : 19;
	int rc;

	if (c->size < WORD)
		return -ENOSPC;
	if (put_aimed(c, c->target, width))
		return WORD;
	if (c->size < 3 * WORD)
		return -ENOSPC;
	rc = a64_isa_branch(c->to + 2 * WORD, c->target, c->out + 2 * WORD, WORD);
	if (rc < 0)
		return rc;
	if (!put_aimed(c, c->to + 2 * WORD, width))
		return -ERANGE;
	put(c->out + WORD, 0x14000002); /* B to behind the copy */
	return 3 * WORD;
}

static int copy_literal(const struct copy *c)
{
	unsigned reg = c->opcode & 31, kind = c->opcode >> 30;
	/* LDR W, LDR X, LDRSW, with a base register and no offset */
	static const uint32_t based[] = {0xB9400000, 0xF9400000, 0xB9800000};

	if (c->size < WORD)
		return -ENOSPC;
	if (put_aimed(c, c->target, 19))
		return WORD;
	if (c->opcode >> 26 & 1)
		return -ERANGE; /* no general register is free for the address */
	if (kind == 3) {
		put(c->out, OPCODE_NOP); /* a prefetch may be none */
		return WORD;
	}
	if (reg == A64_ZR)
		return -ERANGE;
	if (c->size < MOVE_LENGTH + WORD)
		return -ENOSPC;
	put_move(c->out, reg, c->target);
	put(c->out + MOVE_LENGTH, based[kind] | reg << 5 | reg);
	return MOVE_LENGTH + WORD;
}

static int copy_address(const struct copy *c)
{
	unsigned reg = c->opcode & 31;

	if (reg == A64_ZR) {
		if (c->size < WORD)
			return -ENOSPC;
		put(c->out, OPCODE_NOP);
		return WORD;
	}
	if (c->size < MOVE_LENGTH)
		return -ENOSPC;
	put_move(c->out, reg, c->target);
	return MOVE_LENGTH;
}

static int a64_isa_relocate(const uint8_t *code, size_t size, uint64_t from, uint64_t to,
                            uint8_t *out, size_t out_size)
{
	struct copy c = {.from = from, .to = to, .out = out, .size = out_size};
	struct isa_insn insn;
	int rc = a64_isa_decode(code, size, from, &insn);

	if (rc < 0)
		return rc;
	if (to % WORD)
		return -ERANGE;
	c.opcode = opcode_at(code);
	c.target = insn.target;
	switch (insn.class) {
	case ISA_BRANCH:
		return a64_isa_branch(to, c.target, out, out_size);
	case ISA_CALL:
		return copy_call(&c);
	case ISA_CALL_INDIRECT:
		return copy_call_indirect(&c);
	case ISA_BRANCH_IF:
		return copy_branch_if(&c);
	case ISA_PC_RELATIVE:
		return is_literal(c.opcode) ? copy_literal(&c) : copy_address(&c);
	case ISA_SYSCALL:
	case ISA_TRAP:
	case ISA_PINNED:
		return -ENOTSUP;
	default:
		if (out_size < WORD)
			return -ENOSPC;
		put(out, c.opcode);
		return WORD;
	}
}

/* ---- what may be changed ---- */

/* B2.2.5: those that may be changed into each other while another core executes them. Later issues
 * of the manual list more; these hold for every implementation. */
static bool is_listed(uint32_t opcode)
{
	return (opcode & 0x7C000000) == 0x14000000 || /* B, BL */
	       (opcode & 0xFFE0001F) == OPCODE_BRK || opcode == OPCODE_NOP ||
	       (opcode & 0xFFFFF0FF) == 0xD50330DF || /* ISB */
	       (opcode & 0xFFE0001F) == 0xD4000001 || /* SVC */
	       (opcode & 0xFFE0001F) == 0xD4000002 || /* HVC */
	       (opcode & 0xFFE0001F) == 0xD4000003;   /* SMC */
}

static bool a64_isa_hotpatch_safe(const uint8_t *from, const uint8_t *to, size_t size,
                                  uint64_t address)
{
	return size == WORD && address % WORD == 0 && is_listed(opcode_at(from)) &&
	       is_listed(opcode_at(to));
}

/* Every BRK comes to the same exception vector. */
ISA_NOINSTR static bool a64_isa_is_trap(const uint8_t *code, size_t size)
{
	return size >= WORD && (opcode_at(code) & 0xFFE0001F) == OPCODE_BRK;
}

/* Not: SIMD and floating point (28:25 x111), their loads and stores (x1x0 with bit 26), SVE (0010),
 * SME (0000). */
static bool a64_isa_general_only(const uint8_t *code, size_t size)
{
	uint32_t opcode = size >= WORD ? opcode_at(code) : 0;
	unsigned group = opcode >> 25 & 15;

	return size >= WORD && (group & 7) != 7 && !((group & 5) == 4 && opcode >> 26 & 1) &&
	       group != 2 && group != 0;
}

const struct isa isa_a64 = {
        .name = "a64",
        .unit = WORD,
        .insn_max = WORD,
        .trap_length = WORD,
        .trap = {TRAP_OPCODE & 0xFF, TRAP_OPCODE >> 8 & 0xFF, TRAP_OPCODE >> 16 & 0xFF,
                 TRAP_OPCODE >> 24},
        .branch_length = WORD,
        .jump_far_length = 0,
        .decode = a64_isa_decode,
        .format = a64_isa_format,
        .relocate = a64_isa_relocate,
        .branch = a64_isa_branch,
        .call = a64_isa_call,
        .jump_far = a64_isa_jump_far,
        .nop = a64_isa_nop,
        .hotpatch_safe = a64_isa_hotpatch_safe,
        .is_trap = a64_isa_is_trap,
        .general_only = a64_isa_general_only,
};
