/* SPDX-License-Identifier: MIT */
/* disassemble.c - opcodes as assemble.c reads them. */
#include <stdio.h>
#include <string.h>
#include "check/litmus/assemble.h"
#include "check/litmus/litmus.h"
#include "check/litmus/text.h"
#include "isa/a64.h"

static const char *const names[] = {
        [A64_UDF] = "UDF",   [A64_NOP] = "NOP",     [A64_B] = "B",         [A64_BL] = "BL",
        [A64_CBZ] = "CBZ",   [A64_CBNZ] = "CBNZ",   [A64_TBZ] = "TBZ",     [A64_TBNZ] = "TBNZ",
        [A64_BR] = "BR",     [A64_BLR] = "BLR",     [A64_RET] = "RET",     [A64_ERET] = "ERET",
        [A64_ADR] = "ADR",   [A64_MOVN] = "MOVN",   [A64_MOVZ] = "MOVZ",   [A64_MOVK] = "MOVK",
        [A64_ADD] = "ADD",   [A64_ADDS] = "ADDS",   [A64_SUB] = "SUB",     [A64_SUBS] = "SUBS",
        [A64_AND] = "AND",   [A64_ORR] = "ORR",     [A64_EOR] = "EOR",     [A64_ANDS] = "ANDS",
        [A64_BIC] = "BIC",   [A64_ORN] = "ORN",     [A64_EON] = "EON",     [A64_BICS] = "BICS",
        [A64_CSEL] = "CSEL", [A64_CSINC] = "CSINC", [A64_CSINV] = "CSINV", [A64_CSNEG] = "CSNEG",
        [A64_LDR] = "LDR",   [A64_STR] = "STR",     [A64_LDAR] = "LDAR",   [A64_LDAPR] = "LDAPR",
        [A64_STLR] = "STLR", [A64_DMB] = "DMB",     [A64_DSB] = "DSB",     [A64_ISB] = "ISB",
};

static void put_register(struct text *text, unsigned number, bool wide, bool stack)
{
	if (number == A64_ZR)
		litmus_put(text, stack ? (wide ? "SP" : "WSP") : (wide ? "XZR" : "WZR"));
	else
		litmus_put(text, "%c%u", wide ? 'X' : 'W', number);
}

static void put_distance(struct text *text, int64_t distance)
{
	litmus_put(text, ".%+lld", (long long)distance);
}

static void put_arithmetic(struct text *text, const struct a64_insn *insn)
{
	static const char *const shifts[] = {"LSL", "LSR", "ASR"};
	bool immediate = insn->form == A64_IMMEDIATE;
	bool sums = insn->op <= A64_SUBS;
	bool flags = insn->op == A64_ADDS || insn->op == A64_SUBS || insn->op == A64_ANDS;

	put_register(text, insn->rd, insn->wide, immediate && !flags);
	litmus_put(text, ",");
	put_register(text, insn->rn, insn->wide, immediate && sums);
	litmus_put(text, ",");
	if (immediate) {
		litmus_put(text, "#%llu", (unsigned long long)insn->imm);
		return;
	}
	put_register(text, insn->rm, insn->wide, false);
	if (insn->amount || insn->modifier)
		litmus_put(text, ",%s #%u", shifts[insn->modifier], insn->amount);
}

static void put_access(struct text *text, const struct a64_insn *insn)
{
	static const char *const extends[] = {
	        [A64_UXTW] = "UXTW", [A64_UXTX] = "LSL", [A64_SXTW] = "SXTW", [A64_SXTX] = "SXTX"};

	put_register(text, insn->rd, insn->wide, false);
	litmus_put(text, ",[");
	put_register(text, insn->rn, true, true);
	if (insn->form == A64_AFTER) {
		litmus_put(text, "],#%lld", (long long)insn->imm);
		return;
	}
	if (insn->form == A64_REGISTER) {
		litmus_put(text, ",");
		put_register(text, insn->rm, insn->modifier & 1, false);
		if (insn->modifier != A64_UXTX || insn->amount)
			litmus_put(text, ",%s", extends[insn->modifier]);
		if (insn->amount)
			litmus_put(text, " #%u", insn->amount);
	} else if (insn->imm || insn->form == A64_BEFORE) {
		litmus_put(text, ",#%lld", (long long)insn->imm);
	}
	litmus_put(text, "]%s", insn->form == A64_BEFORE ? "!" : "");
}

static void put_branch(struct text *text, const struct a64_insn *insn)
{
	if (insn->op == A64_CBZ || insn->op == A64_CBNZ || insn->op == A64_TBZ ||
	    insn->op == A64_TBNZ) {
		put_register(text, insn->rd, insn->wide, false);
		litmus_put(text, ",");
		if (insn->op == A64_TBZ || insn->op == A64_TBNZ)
			litmus_put(text, "#%u,", insn->amount);
	}
	put_distance(text, insn->imm);
}

/* Those whose name is not all that stands before their operands. */
static bool put_special(struct text *text, const struct a64_insn *insn)
{
	switch (insn->op) {
	case A64_NOP:
		if (insn->imm)
			litmus_put(text, "HINT #%lld", (long long)insn->imm);
		else
			litmus_put(text, "NOP");
		return true;
	case A64_B_IF:
		litmus_put(text, "B.%s ", assemble_conditions[insn->cond]);
		put_distance(text, insn->imm);
		return true;
	case A64_DC_CVAU:
	case A64_IC_IVAU:
		litmus_put(text, insn->op == A64_DC_CVAU ? "DC CVAU," : "IC IVAU,");
		put_register(text, insn->rd, true, false);
		return true;
	case A64_IC_IALLU:
	case A64_IC_IALLUIS:
		litmus_put(text, insn->op == A64_IC_IALLU ? "IC IALLU" : "IC IALLUIS");
		return true;
	case A64_MRS_ELR_EL1:
		litmus_put(text, "MRS ");
		put_register(text, insn->rd, true, false);
		litmus_put(text, ",ELR_EL1");
		return true;
	case A64_MSR_ELR_EL1:
		litmus_put(text, "MSR ELR_EL1,");
		put_register(text, insn->rd, true, false);
		return true;
	default:
		return false;
	}
}

static void put_operands(struct text *text, const struct a64_insn *insn)
{
	if (insn->op >= A64_B && insn->op <= A64_TBNZ) {
		put_branch(text, insn);
	} else if (insn->op == A64_BR || insn->op == A64_BLR || insn->op == A64_RET) {
		put_register(text, insn->rn, true, false);
	} else if (insn->op == A64_UDF) {
		litmus_put(text, "#%lld", (long long)insn->imm);
	} else if (insn->op == A64_ADR) {
		put_register(text, insn->rd, true, false);
		litmus_put(text, ",");
		put_distance(text, insn->imm);
	} else if (insn->op >= A64_MOVN && insn->op <= A64_MOVK) {
		put_register(text, insn->rd, insn->wide, false);
		litmus_put(text, ",#%lld", (long long)insn->imm);
		if (insn->amount)
			litmus_put(text, ",LSL #%u", insn->amount);
	} else if (insn->op >= A64_ADD && insn->op <= A64_BICS) {
		put_arithmetic(text, insn);
	} else if (insn->op >= A64_CSEL && insn->op <= A64_CSNEG) {
		put_register(text, insn->rd, insn->wide, false);
		litmus_put(text, ",");
		put_register(text, insn->rn, insn->wide, false);
		litmus_put(text, ",");
		put_register(text, insn->rm, insn->wide, false);
		litmus_put(text, ",%s", assemble_conditions[insn->cond]);
	} else if (insn->op >= A64_LDR && insn->op <= A64_STLR) {
		put_access(text, insn);
	} else if (insn->op == A64_DMB || insn->op == A64_DSB) {
		litmus_put(text, "%s", assemble_options[insn->imm]);
	}
}

bool litmus_print_opcode(uint32_t opcode, char *out, size_t size)
{
	struct text text = {out, size};
	struct a64_insn insn;
	bool barrier;

	out[0] = '\0';
	if (!a64_decode(opcode, &insn)) {
		litmus_put(&text, "0x%08x", opcode);
		return false;
	}
	barrier = insn.op == A64_DMB || insn.op == A64_DSB;
	if ((barrier && !assemble_options[insn.imm]) || (insn.op == A64_ISB && insn.imm != 15)) {
		litmus_put(&text, "0x%08x", opcode);
		return false;
	}
	if (put_special(&text, &insn))
		return true;
	litmus_put(&text, insn.op == A64_ERET || insn.op == A64_ISB ? "%s" : "%s ", names[insn.op]);
	put_operands(&text, &insn);
	return true;
}
