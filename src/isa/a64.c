/* SPDX-License-Identifier: MIT */
/*
 * a64.c - opcodes of a subset of A64 and their fields.
 *
 * One row says which bits are fixed and where the fields are; encoding and decoding read the same
 * table, so that they can not disagree.
 */
#include <errno.h>
#include <stddef.h>
#include "isa/a64.h"

enum field {
	NONE,
	UDF16,   /* imm16 at 0 */
	HINT,    /* CRm:op2 at 5 */
	DIST26,  /* imm26 at 0, times 4 */
	DIST19,  /* imm19 at 5, times 4; Rt at 0 */
	COND19,  /* imm19 at 5, cond at 0 */
	DIST14,  /* bit number at 31 and 19, imm14 at 5, Rt at 0 */
	RN,      /* Rn at 5 */
	RT,      /* Rt at 0 */
	ADR21,   /* immlo at 29, immhi at 5, Rd at 0 */
	WIDE16,  /* hw at 21, imm16 at 5, Rd at 0 */
	ARITH12, /* sh at 22, imm12 at 10, Rn, Rd */
	SHIFTED, /* shift at 22, Rm at 16, imm6 at 10, Rn, Rd */
	BITMASK, /* N, immr, imms at 10, Rn, Rd */
	SELECT,  /* Rm at 16, cond at 12, Rn, Rd */
	OFFSET,  /* imm12 at 10, times the size, Rn, Rt */
	NEAR,    /* imm9 at 12, Rn, Rt */
	INDEXED, /* Rm at 16, option at 13, S at 12, Rn, Rt */
	PLAIN,   /* Rn, Rt */
	OPTION,  /* CRm at 8 */
};

struct row {
	uint32_t bits, mask; /* what is fixed */
	uint8_t op, form;
	uint8_t field;
	uint8_t wide_bit; /* that says 64 bits; 32: has none, and is wide */
};

enum { NO_BIT = 32 };

/* A field that is narrower than the bits that the mask leaves is checked where it is read. */
static const struct row rows[] = {
        {0x00000000, 0xFFFF0000, A64_UDF, 0, UDF16, NO_BIT},
        {0xD503201F, 0xFFFFF01F, A64_NOP, 0, HINT, NO_BIT},
        {0x14000000, 0xFC000000, A64_B, 0, DIST26, NO_BIT},
        {0x94000000, 0xFC000000, A64_BL, 0, DIST26, NO_BIT},
        {0x54000000, 0xFF000010, A64_B_IF, 0, COND19, NO_BIT},
        {0x34000000, 0x7F000000, A64_CBZ, 0, DIST19, 31},
        {0x35000000, 0x7F000000, A64_CBNZ, 0, DIST19, 31},
        {0x36000000, 0x7F000000, A64_TBZ, 0, DIST14, 31},
        {0x37000000, 0x7F000000, A64_TBNZ, 0, DIST14, 31},
        {0xD61F0000, 0xFFFFFC1F, A64_BR, 0, RN, NO_BIT},
        {0xD63F0000, 0xFFFFFC1F, A64_BLR, 0, RN, NO_BIT},
        {0xD65F0000, 0xFFFFFC1F, A64_RET, 0, RN, NO_BIT},
        {0xD69F03E0, 0xFFFFFFFF, A64_ERET, 0, NONE, NO_BIT},
        {0x10000000, 0x9F000000, A64_ADR, 0, ADR21, NO_BIT},
        {0x12800000, 0x7F800000, A64_MOVN, 0, WIDE16, 31},
        {0x52800000, 0x7F800000, A64_MOVZ, 0, WIDE16, 31},
        {0x72800000, 0x7F800000, A64_MOVK, 0, WIDE16, 31},
        {0x11000000, 0x7F800000, A64_ADD, A64_IMMEDIATE, ARITH12, 31},
        {0x31000000, 0x7F800000, A64_ADDS, A64_IMMEDIATE, ARITH12, 31},
        {0x51000000, 0x7F800000, A64_SUB, A64_IMMEDIATE, ARITH12, 31},
        {0x71000000, 0x7F800000, A64_SUBS, A64_IMMEDIATE, ARITH12, 31},
        {0x0B000000, 0x7F200000, A64_ADD, A64_REGISTER, SHIFTED, 31},
        {0x2B000000, 0x7F200000, A64_ADDS, A64_REGISTER, SHIFTED, 31},
        {0x4B000000, 0x7F200000, A64_SUB, A64_REGISTER, SHIFTED, 31},
        {0x6B000000, 0x7F200000, A64_SUBS, A64_REGISTER, SHIFTED, 31},
        {0x12000000, 0x7F800000, A64_AND, A64_IMMEDIATE, BITMASK, 31},
        {0x32000000, 0x7F800000, A64_ORR, A64_IMMEDIATE, BITMASK, 31},
        {0x52000000, 0x7F800000, A64_EOR, A64_IMMEDIATE, BITMASK, 31},
        {0x72000000, 0x7F800000, A64_ANDS, A64_IMMEDIATE, BITMASK, 31},
        {0x0A000000, 0x7F200000, A64_AND, A64_REGISTER, SHIFTED, 31},
        {0x2A000000, 0x7F200000, A64_ORR, A64_REGISTER, SHIFTED, 31},
        {0x4A000000, 0x7F200000, A64_EOR, A64_REGISTER, SHIFTED, 31},
        {0x6A000000, 0x7F200000, A64_ANDS, A64_REGISTER, SHIFTED, 31},
        {0x0A200000, 0x7F200000, A64_BIC, A64_REGISTER, SHIFTED, 31},
        {0x2A200000, 0x7F200000, A64_ORN, A64_REGISTER, SHIFTED, 31},
        {0x4A200000, 0x7F200000, A64_EON, A64_REGISTER, SHIFTED, 31},
        {0x6A200000, 0x7F200000, A64_BICS, A64_REGISTER, SHIFTED, 31},
        {0x1A800000, 0x7FE00C00, A64_CSEL, 0, SELECT, 31},
        {0x1A800400, 0x7FE00C00, A64_CSINC, 0, SELECT, 31},
        {0x5A800000, 0x7FE00C00, A64_CSINV, 0, SELECT, 31},
        {0x5A800400, 0x7FE00C00, A64_CSNEG, 0, SELECT, 31},
        {0xB9400000, 0xBFC00000, A64_LDR, A64_IMMEDIATE, OFFSET, 30},
        {0xB9000000, 0xBFC00000, A64_STR, A64_IMMEDIATE, OFFSET, 30},
        {0xB8400000, 0xBFE00C00, A64_LDR, A64_IMMEDIATE, NEAR, 30},
        {0xB8000000, 0xBFE00C00, A64_STR, A64_IMMEDIATE, NEAR, 30},
        {0xB8400400, 0xBFE00C00, A64_LDR, A64_AFTER, NEAR, 30},
        {0xB8000400, 0xBFE00C00, A64_STR, A64_AFTER, NEAR, 30},
        {0xB8400C00, 0xBFE00C00, A64_LDR, A64_BEFORE, NEAR, 30},
        {0xB8000C00, 0xBFE00C00, A64_STR, A64_BEFORE, NEAR, 30},
        {0xB8600800, 0xBFE00C00, A64_LDR, A64_REGISTER, INDEXED, 30},
        {0xB8200800, 0xBFE00C00, A64_STR, A64_REGISTER, INDEXED, 30},
        {0x88DFFC00, 0xBFFFFC00, A64_LDAR, 0, PLAIN, 30},
        {0x889FFC00, 0xBFFFFC00, A64_STLR, 0, PLAIN, 30},
        {0xB8BFC000, 0xBFFFFC00, A64_LDAPR, 0, PLAIN, 30},
        {0xD50330BF, 0xFFFFF0FF, A64_DMB, 0, OPTION, NO_BIT},
        {0xD503309F, 0xFFFFF0FF, A64_DSB, 0, OPTION, NO_BIT},
        {0xD50330DF, 0xFFFFF0FF, A64_ISB, 0, OPTION, NO_BIT},
        {0xD50B7B20, 0xFFFFFFE0, A64_DC_CVAU, 0, RT, NO_BIT},
        {0xD50B7520, 0xFFFFFFE0, A64_IC_IVAU, 0, RT, NO_BIT},
        {0xD508751F, 0xFFFFFFFF, A64_IC_IALLU, 0, NONE, NO_BIT},
        {0xD508711F, 0xFFFFFFFF, A64_IC_IALLUIS, 0, NONE, NO_BIT},
        {0xD5384020, 0xFFFFFFE0, A64_MRS_ELR_EL1, 0, RT, NO_BIT},
        {0xD5184020, 0xFFFFFFE0, A64_MSR_ELR_EL1, 0, RT, NO_BIT},
};

enum { ROWS = sizeof(rows) / sizeof(rows[0]) };

/* ---- bitmask immediates (the pseudocode function DecodeBitMasks) ---- */

static uint64_t ones(unsigned n)
{
	return n >= 64 ? UINT64_MAX : (UINT64_C(1) << n) - 1;
}

/* N:immr:imms, 13 bits, to the immediate; false: reserved. */
static bool bitmask(uint32_t encoded, bool wide, uint64_t *out)
{
	unsigned n = encoded >> 12 & 1, immr = encoded >> 6 & 63, imms = encoded & 63;
	unsigned length = n << 6 | (~imms & 63), size = 64, run, rotation;
	uint64_t element;

	if (n && !wide)
		return false;
	while (size > 1 && !(length & size))
		size >>= 1;
	run = (imms & (size - 1)) + 1;
	if (size < 2 || run == size)
		return false;
	rotation = immr & (size - 1);
	element = ones(run) >> rotation | (rotation ? ones(run) << (size - rotation) : 0);
	element &= ones(size);
	for (; size < 64; size *= 2)
		element |= element << size;
	*out = wide ? element : (uint32_t)element;
	return true;
}

static bool bitmask_of(uint64_t value, bool wide, uint32_t *encoded)
{
	for (*encoded = 0; *encoded < 1u << 13; ++*encoded) {
		uint64_t is;

		/* immr above the size of an element repeats what is there already */
		if (bitmask(*encoded, wide, &is) && is == (wide ? value : (uint32_t)value))
			return true;
	}
	return false;
}

/* ---- fields to bits ---- */

static bool distance(int64_t imm, unsigned width, unsigned at, uint32_t *bits)
{
	int64_t reach = INT64_C(1) << (width + 1);

	*bits |= (uint32_t)((uint64_t)imm >> 2 & ones(width)) << at;
	return imm % 4 == 0 && imm >= -reach && imm < reach;
}

static bool encode_branch(const struct a64_insn *insn, enum field field, uint32_t *bits)
{
	*bits |= field == COND19 ? insn->cond : field == DIST26 ? 0 : insn->rd;
	switch (field) {
	case DIST26:
		return distance(insn->imm, 26, 0, bits);
	case DIST14:
		*bits |= (uint32_t)(insn->amount & 31) << 19;
		return insn->amount < 64 && insn->wide == (insn->amount > 31) &&
		       distance(insn->imm, 14, 5, bits);
	default:
		return insn->cond < 16 && distance(insn->imm, 19, 5, bits);
	}
}

static bool encode_immediate(const struct a64_insn *insn, enum field field, uint32_t *bits)
{
	uint64_t imm = (uint64_t)insn->imm;
	uint32_t mask;

	*bits |= insn->rd;
	switch (field) {
	case ADR21:
		*bits |= (uint32_t)(imm & 3) << 29 | (uint32_t)(imm >> 2 & ones(19)) << 5;
		return insn->imm >= -(1 << 20) && insn->imm < 1 << 20;
	case WIDE16:
		*bits |= (uint32_t)(insn->amount / 16) << 21 | (uint32_t)imm << 5;
		return imm < 1 << 16 && insn->amount % 16 == 0 &&
		       insn->amount < (insn->wide ? 64 : 32);
	case ARITH12:
		*bits |= (uint32_t)insn->rn << 5;
		if (imm >= 1 << 12 && !(imm & 4095)) {
			*bits |= 1u << 22;
			imm >>= 12;
		}
		*bits |= (uint32_t)imm << 10;
		return imm < 1 << 12;
	default:
		if (!bitmask_of(imm, insn->wide, &mask))
			return false;
		*bits |= (uint32_t)insn->rn << 5 | mask << 10;
		return true;
	}
}

static bool encode_access(const struct a64_insn *insn, enum field field, uint32_t *bits)
{
	unsigned scale = insn->wide ? 3 : 2;
	int64_t imm = insn->imm;

	*bits |= (uint32_t)insn->rn << 5 | insn->rd;
	switch (field) {
	case OFFSET:
		*bits |= (uint32_t)((uint64_t)imm >> scale & 4095) << 10;
		return imm >= 0 && imm < 4096 << scale && imm % (1 << scale) == 0;
	case NEAR:
		*bits |= (uint32_t)((uint64_t)imm & 511) << 12;
		return imm >= -256 && imm < 256;
	case INDEXED:
		*bits |= (uint32_t)insn->rm << 16 | (uint32_t)insn->modifier << 13 |
		         (insn->amount ? 1u << 12 : 0);
		return (insn->modifier & 2) && insn->modifier < 8 &&
		       (!insn->amount || insn->amount == scale);
	default:
		return true;
	}
}

static bool encode_field(const struct a64_insn *insn, enum field field, uint32_t *bits)
{
	uint64_t imm = (uint64_t)insn->imm;

	switch (field) {
	case NONE:
		return true;
	case UDF16:
		*bits |= (uint32_t)imm;
		return imm < 1 << 16;
	case HINT:
		*bits |= (uint32_t)imm << 5;
		return imm < 128;
	case OPTION:
		*bits |= (uint32_t)imm << 8;
		return imm < 16;
	case RN:
		*bits |= (uint32_t)insn->rn << 5;
		return true;
	case RT:
		*bits |= insn->rd;
		return true;
	case SHIFTED:
		*bits |= (uint32_t)insn->modifier << 22 | (uint32_t)insn->rm << 16 |
		         (uint32_t)insn->amount << 10 | (uint32_t)insn->rn << 5 | insn->rd;
		return insn->modifier <= A64_ASR && insn->amount < (insn->wide ? 64 : 32);
	case SELECT:
		*bits |= (uint32_t)insn->rm << 16 | (uint32_t)insn->cond << 12 |
		         (uint32_t)insn->rn << 5 | insn->rd;
		return insn->cond < 16;
	case DIST26:
	case DIST19:
	case COND19:
	case DIST14:
		return encode_branch(insn, field, bits);
	case ADR21:
	case WIDE16:
	case ARITH12:
	case BITMASK:
		return encode_immediate(insn, field, bits);
	default:
		return encode_access(insn, field, bits);
	}
}

int a64_encode(const struct a64_insn *insn, uint32_t *opcode)
{
	if (insn->rd > A64_ZR || insn->rn > A64_ZR || insn->rm > A64_ZR)
		return -EINVAL;
	for (unsigned i = 0; i < ROWS; i++) {
		const struct row *row = &rows[i];
		uint32_t bits = row->bits;

		if (row->op != insn->op || row->form != insn->form)
			continue;
		if (row->wide_bit != NO_BIT && insn->wide)
			bits |= 1u << row->wide_bit;
		if (!encode_field(insn, row->field, &bits))
			continue;
		*opcode = bits;
		return 0;
	}
	return -EINVAL;
}

/* ---- bits to fields ---- */

static int64_t extended(uint32_t value, unsigned width)
{
	int64_t sign = INT64_C(1) << (width - 1);

	return ((int64_t)(value & ones(width)) ^ sign) - sign;
}

static bool decode_immediate(uint32_t bits, enum field field, struct a64_insn *insn)
{
	uint64_t imm;

	switch (field) {
	case ADR21:
		insn->imm = extended((bits >> 5 & 0x7FFFF) << 2 | (bits >> 29 & 3), 21);
		return true;
	case WIDE16:
		insn->imm = bits >> 5 & 0xFFFF;
		insn->amount = (uint8_t)((bits >> 21 & 3) * 16);
		return insn->wide || insn->amount < 32;
	case ARITH12:
		insn->imm = (int64_t)(bits >> 10 & 4095) << (bits >> 22 & 1 ? 12 : 0);
		return true;
	default:
		if (!bitmask(bits >> 10 & 0x1FFF, insn->wide, &imm))
			return false;
		insn->imm = (int64_t)imm;
		return true;
	}
}

static bool decode_access(uint32_t bits, enum field field, struct a64_insn *insn)
{
	unsigned scale = insn->wide ? 3 : 2;

	switch (field) {
	case OFFSET:
		insn->imm = (int64_t)(bits >> 10 & 4095) << scale;
		return true;
	case NEAR:
		insn->imm = extended(bits >> 12, 9);
		return true;
	case INDEXED:
		insn->modifier = bits >> 13 & 7;
		insn->amount = bits >> 12 & 1 ? (uint8_t)scale : 0;
		return insn->modifier & 2;
	default:
		return true;
	}
}

/* Of those that have it, Rd or Rt is at 0, Rn at 5, Rm at 16. */
static void decode_registers(uint32_t bits, enum field field, struct a64_insn *insn)
{
	bool has_rn = field == RN || field >= ARITH12;
	bool has_rm = field == SHIFTED || field == SELECT || field == INDEXED;
	bool has_rd = field >= DIST19 && field != COND19 && field != RN && field != OPTION;

	insn->rd = has_rd ? bits & 31 : 0;
	insn->rn = has_rn && field != OPTION ? bits >> 5 & 31 : 0;
	insn->rm = has_rm ? bits >> 16 & 31 : 0;
}

static bool decode_field(uint32_t bits, enum field field, struct a64_insn *insn)
{
	switch (field) {
	case UDF16:
		insn->imm = bits & 0xFFFF;
		return true;
	case HINT:
		insn->imm = bits >> 5 & 127;
		return true;
	case OPTION:
		insn->imm = bits >> 8 & 15;
		return true;
	case DIST26:
		insn->imm = extended(bits, 26) * 4;
		return true;
	case DIST19:
	case COND19:
		insn->imm = extended(bits >> 5, 19) * 4;
		insn->cond = field == COND19 ? bits & 15 : 0;
		return true;
	case DIST14:
		insn->imm = extended(bits >> 5, 14) * 4;
		insn->amount = (uint8_t)((bits >> 31) << 5 | (bits >> 19 & 31));
		return true;
	case SHIFTED:
		insn->modifier = bits >> 22 & 3;
		insn->amount = bits >> 10 & 63;
		return insn->modifier <= A64_ASR && insn->amount < (insn->wide ? 64 : 32);
	case SELECT:
		insn->cond = bits >> 12 & 15;
		return true;
	case ADR21:
	case WIDE16:
	case ARITH12:
	case BITMASK:
		return decode_immediate(bits, field, insn);
	default:
		return decode_access(bits, field, insn);
	}
}

bool a64_decode(uint32_t opcode, struct a64_insn *insn)
{
	for (unsigned i = 0; i < ROWS; i++) {
		const struct row *row = &rows[i];

		if ((opcode & row->mask) != row->bits)
			continue;
		*insn = (struct a64_insn){
		        .op = row->op,
		        .form = row->form,
		        .wide = row->wide_bit == NO_BIT ? false : opcode >> row->wide_bit & 1};
		decode_registers(opcode, row->field, insn);
		if (decode_field(opcode, row->field, insn))
			return true;
	}
	return false;
}
