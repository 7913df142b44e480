/* SPDX-License-Identifier: MIT */
/* compute.c - arithmetic of A64 (DDI 0487, C6.2; AddWithCarry and ConditionHolds of J1). */
#include "check/litmus/run.h"

enum { N = 8, Z = 4, C = 2, V = 1 };

static uint64_t cut(uint64_t value, bool wide)
{
	return wide ? value : (uint32_t)value;
}

static bool negative(uint64_t value, bool wide)
{
	return value >> (wide ? 63 : 31) & 1;
}

static uint64_t add(uint64_t a, uint64_t b, unsigned carry, bool wide, unsigned *flags)
{
	uint64_t sum = cut(a + b + carry, wide);
	bool out = carry ? sum <= cut(a, wide) : sum < cut(a, wide);
	bool overflow =
	        negative(a, wide) == negative(b, wide) && negative(a, wide) != negative(sum, wide);

	*flags = (negative(sum, wide) ? N : 0) | (sum == 0 ? Z : 0) | (out ? C : 0) |
	         (overflow ? V : 0);
	return sum;
}

static uint64_t logic(uint64_t value, bool wide, unsigned *flags)
{
	value = cut(value, wide);
	*flags = (negative(value, wide) ? N : 0) | (value == 0 ? Z : 0);
	return value;
}

static uint64_t shifted(const struct a64_insn *insn, uint64_t m)
{
	if (insn->form == A64_IMMEDIATE)
		return (uint64_t)insn->imm;
	m = cut(m, insn->wide);
	if (insn->modifier == A64_LSL)
		return cut(m << insn->amount, insn->wide);
	if (insn->modifier == A64_LSR)
		return m >> insn->amount;
	return insn->wide ? (uint64_t)((int64_t)m >> insn->amount)
	                  : (uint32_t)((int32_t)(uint32_t)m >> insn->amount);
}

bool compute_condition(unsigned cond, unsigned nzcv)
{
	bool n = nzcv & N, z = nzcv & Z, c = nzcv & C, v = nzcv & V, is;

	switch (cond >> 1) {
	case 0:
		is = z;
		break;
	case 1:
		is = c;
		break;
	case 2:
		is = n;
		break;
	case 3:
		is = v;
		break;
	case 4:
		is = c && !z;
		break;
	case 5:
		is = n == v;
		break;
	case 6:
		is = n == v && !z;
		break;
	default:
		return true;
	}
	return is != (cond & 1);
}

static uint64_t moved(const struct a64_insn *insn, uint64_t rd)
{
	uint64_t imm = (uint64_t)insn->imm << insn->amount;

	if (insn->op == A64_MOVZ)
		return imm;
	if (insn->op == A64_MOVN)
		return cut(~imm, insn->wide);
	return cut((rd & ~(UINT64_C(0xFFFF) << insn->amount)) | imm, insn->wide);
}

uint64_t compute(const struct a64_insn *insn, uint64_t rd, uint64_t n, uint64_t m, unsigned *flags)
{
	bool wide = insn->wide;

	switch (insn->op) {
	case A64_MOVN:
	case A64_MOVZ:
	case A64_MOVK:
		return moved(insn, rd);
	case A64_ADD:
	case A64_ADDS:
		return add(cut(n, wide), shifted(insn, m), 0, wide, flags);
	case A64_SUB:
	case A64_SUBS:
		return add(cut(n, wide), cut(~shifted(insn, m), wide), 1, wide, flags);
	case A64_AND:
	case A64_ANDS:
		return logic(n & shifted(insn, m), wide, flags);
	case A64_ORR:
		return logic(n | shifted(insn, m), wide, flags);
	case A64_EOR:
		return logic(n ^ shifted(insn, m), wide, flags);
	case A64_BIC:
	case A64_BICS:
		return logic(n & ~shifted(insn, m), wide, flags);
	case A64_ORN:
		return logic(n | ~shifted(insn, m), wide, flags);
	case A64_EON:
		return logic(n ^ ~shifted(insn, m), wide, flags);
	/* m is what the condition has picked; n says whether it was the second */
	case A64_CSEL:
		return cut(m, wide);
	case A64_CSINC:
		return cut(n ? m + 1 : m, wide);
	case A64_CSINV:
		return cut(n ? ~m : m, wide);
	case A64_CSNEG:
		return cut(n ? -m : m, wide);
	default:
		return 0;
	}
}
