/* SPDX-License-Identifier: MIT */
/* word.c - the opcodes and values that a running test has met. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "check/litmus/assemble.h"
#include "check/litmus/run.h"

void run_error(struct run *run, const char *format, ...)
{
	va_list arguments;

	if (run->error[0])
		return;
	va_start(arguments, format);
	vsnprintf(run->error, sizeof(run->error), format, arguments);
	va_end(arguments);
}

uint16_t run_value(struct run *run, uint64_t value)
{
	unsigned at = (unsigned)((value * UINT64_C(0x9E3779B97F4A7C15)) >> 40) % (2 * RUN_VALUES);

	for (; run->value_slot[at]; at = (at + 1) % (2 * RUN_VALUES))
		if (run->value[run->value_slot[at] - 1] == value)
			return (uint16_t)(run->value_slot[at] - 1);
	if (run->values == RUN_VALUES) {
		run_error(run, "more than %d different values", RUN_VALUES);
		return 0;
	}
	run->value[run->values++] = value;
	run->value_slot[at] = (uint16_t)run->values;
	return (uint16_t)(run->values - 1);
}

void run_learn_written(struct run *run, unsigned place)
{
	if (!run->written[place])
		run->again = true;
	run->written[place] = true;
}

static uint8_t barrier_of(const struct a64_insn *insn)
{
	static const uint8_t dmb[] = {ORDER_DMB, ORDER_DMB_LD, ORDER_DMB_ST, ORDER_DMB};
	static const uint8_t dsb[] = {ORDER_DSB, ORDER_DSB_LD, ORDER_DSB_ST, ORDER_DSB};

	return insn->op == A64_DMB ? dmb[insn->imm & 3] : dsb[insn->imm & 3];
}

static uint8_t register_of(unsigned number)
{
	return number == A64_ZR ? RUN_NONE : (uint8_t)number;
}

static void access(struct word *word)
{
	const struct a64_insn *insn = &word->insn;
	bool store = insn->op == A64_STR || insn->op == A64_STLR;

	word->class = WORD_ACCESS;
	word->event.effect = store ? ORDER_WRITE : ORDER_READ;
	word->event.acquire = insn->op == A64_LDAR || insn->op == A64_LDAPR;
	word->event.total = insn->op == A64_LDAR;
	word->event.release = insn->op == A64_STLR;
	word->dest = store ? RUN_NONE : register_of(insn->rd);
	if (insn->form == A64_BEFORE || insn->form == A64_AFTER)
		word->base = register_of(insn->rn);
}

static void classify(struct word *word)
{
	const struct a64_insn *insn = &word->insn;

	if (insn->op >= A64_B && insn->op <= A64_RET) {
		word->class = WORD_BRANCH;
		if (insn->op == A64_BL || insn->op == A64_BLR)
			word->dest = 30;
	} else if (insn->op >= A64_LDR && insn->op <= A64_STLR) {
		access(word);
	} else if (insn->op == A64_DMB || insn->op == A64_DSB) {
		word->class = assemble_options[insn->imm] ? WORD_BARRIER : WORD_UNKNOWN;
		word->barrier = barrier_of(insn);
	} else if (insn->op >= A64_DC_CVAU && insn->op <= A64_IC_IALLUIS) {
		word->class = WORD_MAINTENANCE;
		word->event.effect = insn->op == A64_DC_CVAU ? ORDER_CLEAN : ORDER_INVALIDATE;
	} else if (insn->op == A64_UDF || insn->op == A64_ERET || insn->op == A64_ISB) {
		word->class = WORD_SYNC;
		word->event.effect = ORDER_SYNC;
		word->dest = insn->op == A64_UDF ? LITMUS_ELR : RUN_NONE;
	} else if (insn->op == A64_MSR_ELR_EL1) {
		word->dest = LITMUS_ELR;
	} else if (insn->op != A64_NOP) {
		word->dest = register_of(insn->rd);
		word->flags = insn->op == A64_ADDS || insn->op == A64_SUBS ||
		              insn->op == A64_ANDS || insn->op == A64_BICS;
		word->picks = insn->op >= A64_CSEL && insn->op <= A64_CSNEG;
	}
}

uint8_t run_word(struct run *run, uint32_t opcode)
{
	struct word *word = &run->word[run->words];

	for (unsigned i = 0; i < run->words; i++)
		if (run->word[i].opcode == opcode)
			return (uint8_t)i;
	if (run->words == RUN_WORDS) {
		run_error(run, "more than %d different instructions", RUN_WORDS);
		return 0;
	}
	*word = (struct word){
	        .opcode = opcode, .class = WORD_PLAIN, .dest = RUN_NONE, .base = RUN_NONE};
	if (a64_decode(opcode, &word->insn))
		classify(word);
	else
		word->class = WORD_UNKNOWN;
	return (uint8_t)run->words++;
}
