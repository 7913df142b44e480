/* SPDX-License-Identifier: MIT */
/* core.c - the instructions that one core has in flight. */
#include <stdlib.h>
#include <string.h>
#include "check/litmus/run.h"

enum { EFFORT_MAX = 1000 };

enum progress { STAYS, MOVES, IMPOSSIBLE };

static const struct word *word_of(const struct run *run, const struct core *core, unsigned i)
{
	return &run->word[core->flight[i].word];
}

/* ---- operands ---- */

bool core_operand(const struct core *core, const struct run *run, unsigned i, unsigned reg,
                  uint16_t *value, bool *unsure)
{
	*value = 0; /* its number is 0, too */
	if (reg == A64_ZR)
		return true;
	while (i-- > 0) {
		const struct flight *f = &core->flight[i];
		const struct word *word = &run->word[f->word];
		bool is_dest = word->dest == reg || (reg == LITMUS_FLAGS && word->flags);

		if (!is_dest && word->base != reg)
			continue;
		*value = reg == LITMUS_FLAGS || !is_dest ? f->second : f->value;
		if (f->bits & (FLIGHT_UNSURE | FLIGHT_GUESSED) ||
		    (f->bits & FLIGHT_TENTATIVE && !(f->bits & FLIGHT_RESOLVED)))
			*unsure = true;
		return f->bits & (is_dest ? FLIGHT_READY : FLIGHT_RESOLVED | FLIGHT_TENTATIVE);
	}
	*value = core->reg[reg];
	return true;
}

static uint64_t address_of(const struct run *run, const struct flight *f)
{
	return run->test->place[f->place].address;
}

/* Are all branches before it resolved? */
static bool certain(const struct run *run, const struct core *core, unsigned i)
{
	for (unsigned k = 0; k < i; k++)
		if (word_of(run, core, k)->class == WORD_BRANCH &&
		    !(core->flight[k].bits & FLIGHT_RESOLVED))
			return false;
	return true;
}

/* ---- arithmetic ---- */

/* Which of its operands CSEL picks: 0, 1, or 2: not known yet. */
static unsigned side_of(const struct run *run, const struct core *core, unsigned i)
{
	bool unsure = false;
	uint16_t flags;

	if (!core_operand(core, run, i, LITMUS_FLAGS, &flags, &unsure) || unsure)
		return 2;
	return !compute_condition(word_of(run, core, i)->insn.cond, (unsigned)run->value[flags]);
}

static enum progress plain(struct run *run, struct core *core, unsigned i)
{
	struct flight *f = &core->flight[i];
	const struct word *word = &run->word[f->word];
	const struct a64_insn *insn = &word->insn;
	uint16_t n = 0, m = 0, d = 0;
	bool unsure = false;
	unsigned flags = 0;
	uint64_t value;

	if (f->bits & FLIGHT_READY && !(f->bits & (FLIGHT_UNSURE | FLIGHT_GUESSED)))
		return STAYS;
	if (word->picks) {
		unsigned side = side_of(run, core, i);

		if (side == 2 && !(f->bits & FLIGHT_GUESSED))
			return STAYS;
		if (side != 2 && f->bits & FLIGHT_GUESSED && side != f->target)
			return IMPOSSIBLE;
		unsure = side == 2;
		f->target = (uint8_t)(unsure ? f->target : side);
		if (!core_operand(core, run, i, f->target ? insn->rm : insn->rn, &m, &unsure))
			return STAYS;
		value = compute(insn, 0, f->target, run->value[m], &flags);
		f->bits &= (uint8_t)(unsure ? 0xFF : ~FLIGHT_GUESSED);
	} else if (insn->op == A64_ADR || insn->op == A64_NOP) {
		value = insn->op == A64_ADR ? address_of(run, f) + (uint64_t)insn->imm : 0;
	} else if (insn->op == A64_MRS_ELR_EL1 || insn->op == A64_MSR_ELR_EL1) {
		if (!core_operand(core, run, i, insn->op == A64_MSR_ELR_EL1 ? insn->rd : LITMUS_ELR,
		                  &d, &unsure))
			return STAYS;
		value = run->value[d];
	} else {
		bool moves = insn->op >= A64_MOVN && insn->op <= A64_MOVK;

		if ((!moves && !core_operand(core, run, i, insn->rn, &n, &unsure)) ||
		    (insn->form == A64_REGISTER &&
		     !core_operand(core, run, i, insn->rm, &m, &unsure)) ||
		    (insn->op == A64_MOVK && !core_operand(core, run, i, insn->rd, &d, &unsure)))
			return STAYS;
		value = compute(insn, run->value[d], run->value[n], run->value[m], &flags);
	}
	if (f->bits & FLIGHT_READY && unsure)
		return STAYS;
	f->value = run_value(run, value);
	f->second = word->flags ? run_value(run, flags) : 0;
	f->bits |= FLIGHT_READY;
	f->bits &= (uint8_t)~FLIGHT_UNSURE;
	f->bits |= unsure ? FLIGHT_UNSURE : 0;
	return MOVES;
}

/* ---- branches ---- */

/* Where it leads, if that is known. */
static bool leads(const struct run *run, const struct core *core, unsigned i, unsigned *place)
{
	const struct flight *f = &core->flight[i];
	const struct a64_insn *insn = &run->word[f->word].insn;
	uint64_t here = address_of(run, f), value;
	bool unsure = false, taken = true;
	uint16_t number;

	switch (insn->op) {
	case A64_B:
	case A64_BL:
		break;
	case A64_B_IF:
		if (!core_operand(core, run, i, LITMUS_FLAGS, &number, &unsure) || unsure)
			return false;
		taken = compute_condition(insn->cond, (unsigned)run->value[number]);
		break;
	case A64_BR:
	case A64_BLR:
	case A64_RET:
		if (!core_operand(core, run, i, insn->rn, &number, &unsure) || unsure)
			return false;
		*place = litmus_place_at(run->test, run->value[number]);
		if (*place != LITMUS_NOWHERE && !run->test->place[*place].code)
			*place = LITMUS_NOWHERE;
		return true;
	default:
		if (!core_operand(core, run, i, insn->rd, &number, &unsure) || unsure)
			return false;
		value = insn->wide ? run->value[number] : (uint32_t)run->value[number];
		if (insn->op == A64_TBZ || insn->op == A64_TBNZ)
			value = run->value[number] >> insn->amount & 1;
		taken = (value == 0) == (insn->op == A64_CBZ || insn->op == A64_TBZ);
		break;
	}
	*place = litmus_place_at(run->test, here + (taken ? (uint64_t)insn->imm : 4));
	return true;
}

static void learn_jump(struct run *run, unsigned place)
{
	for (unsigned i = 0; i < run->jumps; i++)
		if (run->jump[i] == place)
			return;
	run->jump[run->jumps++] = (uint8_t)place;
	run->again = true;
}

static enum progress branch(struct run *run, struct core *core, unsigned i)
{
	struct flight *f = &core->flight[i];
	unsigned place;

	if (f->bits & FLIGHT_RESOLVED || !leads(run, core, i, &place))
		return STAYS;
	f->bits |= FLIGHT_RESOLVED | FLIGHT_DONE;
	if (place == f->target || !run_rule(run, RULE_GUESS))
		return MOVES;
	if (run->word[f->word].insn.op >= A64_BR)
		learn_jump(run, place);
	return IMPOSSIBLE;
}

/* ---- accesses, maintenance ---- */

static uint64_t extended(const struct a64_insn *insn, uint64_t m)
{
	if (insn->modifier == A64_SXTW)
		m = (uint64_t)(int64_t)(int32_t)(uint32_t)m;
	else if (insn->modifier == A64_UXTW)
		m = (uint32_t)m;
	return m << insn->amount;
}

/* The address, as far as operands are known. */
static bool address(struct run *run, struct core *core, unsigned i, uint64_t *out, bool *unsure)
{
	struct flight *f = &core->flight[i];
	const struct a64_insn *insn = &run->word[f->word].insn;
	bool cache = run->word[f->word].class == WORD_MAINTENANCE;
	uint16_t n, m = 0;

	if (!core_operand(core, run, i, cache ? insn->rd : insn->rn, &n, unsure))
		return false;
	if (!cache && insn->form == A64_REGISTER &&
	    !core_operand(core, run, i, insn->rm, &m, unsure))
		return false;
	*out = run->value[n];
	if (insn->form == A64_REGISTER)
		*out += extended(insn, run->value[m]);
	else if (insn->form != A64_AFTER)
		*out += (uint64_t)insn->imm;
	if (insn->form == A64_BEFORE || insn->form == A64_AFTER)
		f->second = run_value(run, run->value[n] + (uint64_t)insn->imm);
	return true;
}

static bool access_is_modelled(struct run *run, const struct core *core, unsigned i, unsigned place,
                               uint64_t at)
{
	const struct flight *f = &core->flight[i];
	bool code = place != LITMUS_NOWHERE && run->test->place[place].code;
	char text[64];

	if (place != LITMUS_NOWHERE && !run->test->place[place].end &&
	    !(code && run->word[f->word].insn.wide))
		return true;
	/* On a wrong path nobody minds. */
	if (!certain(run, core, i))
		return false;
	litmus_print_opcode(run->word[f->word].opcode, text, sizeof(text));
	run_error(run,
	          code ? "%s: an instruction at %#llx is accessed with another size"
	               : "%s: nothing is at its address, %#llx",
	          text, (unsigned long long)at);
	return false;
}

static enum progress resolve(struct run *run, struct core *core, unsigned i)
{
	struct flight *f = &core->flight[i];
	const struct word *word = &run->word[f->word];
	bool all = word->insn.op == A64_IC_IALLU || word->insn.op == A64_IC_IALLUIS;
	bool unsure = false, tentative = f->bits & FLIGHT_TENTATIVE;
	unsigned place = LITMUS_NOWHERE;
	uint64_t at = 0;

	if (!all) {
		if (!address(run, core, i, &at, &unsure))
			return STAYS;
		if (unsure && (tentative || word->event.effect != ORDER_READ))
			return STAYS;
		place = litmus_place_at(run->test, at);
		if (word->class == WORD_ACCESS && !access_is_modelled(run, core, i, place, at))
			return STAYS;
	}
	f->target = (uint8_t)place;
	f->bits |= unsure ? FLIGHT_TENTATIVE : FLIGHT_RESOLVED;
	return tentative || effect_address_fits(run, core, i) ? MOVES : IMPOSSIBLE;
}

/* Loads of what nobody writes, and maintenance without an effect here. */
static enum progress privately(struct run *run, struct core *core, unsigned i)
{
	struct flight *f = &core->flight[i];
	const struct litmus_place *place;
	int from;

	if (f->bits & FLIGHT_DONE || !(f->bits & (FLIGHT_RESOLVED | FLIGHT_TENTATIVE)) ||
	    !effect_private(run, core, i) || !effect_may(run, core, i, &from))
		return STAYS;
	if (run->word[f->word].class == WORD_MAINTENANCE) {
		f->bits |= FLIGHT_DONE;
		return MOVES;
	}
	place = &run->test->place[f->target];
	effect_load(run, core, i, from, from < 0 ? run_value(run, place->value) : 0);
	return MOVES;
}

static enum progress accesses(struct run *run, struct core *core, unsigned i)
{
	struct flight *f = &core->flight[i];
	const struct word *word = &run->word[f->word];
	enum progress progress = STAYS;
	bool unsure = false;

	if (!(f->bits & FLIGHT_RESOLVED))
		progress = resolve(run, core, i);
	if (progress == IMPOSSIBLE)
		return progress;
	if (word->class == WORD_ACCESS && word->event.effect == ORDER_WRITE &&
	    !(f->bits & FLIGHT_READY) &&
	    core_operand(core, run, i, word->insn.rd, &f->value, &unsure) && !unsure) {
		/* of a W register, its lower half */
		if (!word->insn.wide)
			f->value = run_value(run, (uint32_t)run->value[f->value]);
		f->bits |= FLIGHT_READY;
		progress = MOVES;
	}
	return privately(run, core, i) == MOVES ? MOVES : progress;
}

/* ---- exceptions ---- */

static unsigned handler_of(const struct run *run, unsigned thread)
{
	for (unsigned i = 0; i < run->test->columns; i++)
		if (run->test->column[i].thread == thread && run->test->column[i].handler)
			return run->test->column[i].first;
	return LITMUS_NOWHERE;
}

static void take_fault(struct run *run, struct core *core, unsigned i, unsigned thread)
{
	struct flight *f = &core->flight[i];
	unsigned handler = handler_of(run, thread);

	for (unsigned k = 0; k < run->test->faults; k++) {
		const struct litmus_fault *fault = &run->test->fault[k];

		if (fault->thread == thread &&
		    (fault->place == LITMUS_NOWHERE || fault->place == f->place))
			core->faults |= (uint8_t)(1u << k);
	}
	f->value = run_value(run, address_of(run, f));
	f->bits |= FLIGHT_READY;
	core->pc = (uint8_t)handler;
	if (handler == LITMUS_NOWHERE && run->test->skips)
		core->pc = f->place + 1;
}

static enum progress synchronises(struct run *run, struct core *core, unsigned i, unsigned thread)
{
	struct flight *f = &core->flight[i];
	const struct a64_insn *insn = &run->word[f->word].insn;
	bool unsure = false;
	uint16_t value;

	if (f->bits & FLIGHT_RESOLVED || !effect_sync_may(run, core, i))
		return STAYS;
	if (insn->op == A64_ERET) {
		unsigned place;

		if (!core_operand(core, run, i, LITMUS_ELR, &value, &unsure) || unsure)
			return STAYS;
		place = litmus_place_at(run->test, run->value[value]);
		if (place != LITMUS_NOWHERE && !run->test->place[place].code)
			place = LITMUS_NOWHERE;
		core->pc = (uint8_t)place;
	} else if (insn->op == A64_UDF) {
		take_fault(run, core, i, thread);
	}
	f->bits |= FLIGHT_RESOLVED | FLIGHT_DONE;
	if (!run_rule(run, RULE_FETCH_IN_ORDER))
		core->bits |= CORE_SYNCED;
	return MOVES;
}

/* ---- leaving the window ---- */

static bool may_retire(const struct run *run, const struct flight *f)
{
	switch ((enum word_class)run->word[f->word].class) {
	case WORD_PLAIN:
		return f->bits & FLIGHT_READY && !(f->bits & (FLIGHT_UNSURE | FLIGHT_GUESSED));
	case WORD_BRANCH:
	case WORD_SYNC:
		return f->bits & FLIGHT_RESOLVED;
	case WORD_ACCESS:
	case WORD_MAINTENANCE:
		return f->bits & FLIGHT_RESOLVED && f->bits & FLIGHT_DONE;
	case WORD_BARRIER:
		return true;
	case WORD_UNKNOWN:
		break;
	}
	return false;
}

static bool retire(const struct run *run, struct core *core)
{
	unsigned n = 0;

	while (n < core->count && may_retire(run, &core->flight[n])) {
		const struct flight *f = &core->flight[n++];
		const struct word *word = &run->word[f->word];

		if (word->base != RUN_NONE)
			core->reg[word->base] = f->second;
		if (word->dest != RUN_NONE)
			core->reg[word->dest] = f->value;
		if (word->flags)
			core->reg[LITMUS_FLAGS] = f->second;
	}
	core->count -= (uint8_t)n;
	memmove(core->flight, core->flight + n, core->count * sizeof(struct flight));
	memset(core->flight + core->count, 0, n * sizeof(struct flight));
	return n;
}

/* ---- fetching ---- */

bool core_finished(const struct run *run, const struct core *core)
{
	return core->count == 0 && (core->pc == LITMUS_NOWHERE || run->test->place[core->pc].end);
}

/* Does an instruction in flight keep the core from fetching? */
static bool holds_fetch(const struct run *run, const struct core *core, unsigned i)
{
	const struct word *word = word_of(run, core, i);
	bool resolved = core->flight[i].bits & FLIGHT_RESOLVED;

	if (word->class == WORD_SYNC)
		return !resolved;
	if (word->class == WORD_BRANCH)
		return !resolved && (core->bits & CORE_HOLD || !run_rule(run, RULE_FETCH_AHEAD));
	return word->class == WORD_BARRIER && word->barrier >= ORDER_DSB && i > 0 &&
	       !run_rule(run, RULE_FETCH_BARRIER);
}

bool core_may_fetch(struct run *run, const struct core *core)
{
	if (core->pc == LITMUS_NOWHERE || !run->test->place[core->pc].code ||
	    run->test->place[core->pc].end)
		return false;
	for (unsigned i = 0; i < core->count; i++)
		if (holds_fetch(run, core, i) ||
		    (core->bits & CORE_LOOP && core->flight[i].place == core->pc))
			return false;
	if (core->count < run->window)
		return true;
	/* No text is that long: it goes round, and waits until something has happened. */
	if (run->window == RUN_WINDOW)
		return false;
	run->room = 2 * run->window;
	run->again = true;
	return false;
}

/* A branch that is no call and no return. */
static bool loops(const struct run *run, const struct flight *f)
{
	enum a64_op op = run->word[f->word].insn.op;

	return op != A64_BL && op < A64_BR;
}

static void settle_into(struct run *run, const struct core *core, unsigned thread, unsigned target,
                        bool guess)
{
	struct core next;
	struct flight *f = &next.flight[core->count - 1];

	core_copy(run, &next, core);

	if (guess) {
		f->target = (uint8_t)target;
		f->bits |= FLIGHT_GUESSED;
		core_settle(run, &next, thread);
		return;
	}
	f->target = next.pc = (uint8_t)target;
	/* The path closes in itself. */
	for (unsigned i = 0; i < next.count; i++)
		if (next.flight[i].place == target)
			next.bits |= target <= f->place && loops(run, f) ? CORE_HOLD | CORE_LOOP
			                                                 : CORE_HOLD;
	core_settle(run, &next, thread);
}

/* Where to go on behind the last instruction: all guesses, unless it is known. */
static void follow(struct run *run, struct core *core, unsigned thread)
{
	unsigned last = core->count - 1u, place, next;
	struct flight *f = &core->flight[last];
	const struct word *word = &run->word[f->word];

	next = f->place + 1u;
	core->pc = (uint8_t)next;
	if (word->picks && run->picks && side_of(run, core, last) == 2) {
		settle_into(run, core, thread, 0, true);
		settle_into(run, core, thread, 1, true);
		return;
	}
	if (word->class != WORD_BRANCH) {
		core_settle(run, core, thread);
		return;
	}
	if (word->dest != RUN_NONE) {
		f->value = run_value(run, address_of(run, f) + 4);
		f->bits |= FLIGHT_READY;
	}
	if (leads(run, core, last, &place)) {
		f->bits |= FLIGHT_RESOLVED | FLIGHT_DONE;
		settle_into(run, core, thread, place, false);
		return;
	}
	if (word->insn.op < A64_BR) {
		place = litmus_place_at(run->test, address_of(run, f) + (uint64_t)word->insn.imm);
		settle_into(run, core, thread, next, false);
		if (place != next)
			settle_into(run, core, thread, place, false);
		return;
	}
	for (unsigned i = 0; i < run->jumps; i++)
		settle_into(run, core, thread, run->jump[i], false);
	/* With no guess at all it is learnt from what the register comes to hold. */
	if (!run->jumps)
		settle_into(run, core, thread, LITMUS_NOWHERE, false);
}

void core_fetched(struct run *run, struct core *core, unsigned thread, unsigned word)
{
	core->flight[core->count++] =
	        (struct flight){.place = core->pc, .word = (uint8_t)word, .target = LITMUS_NOWHERE};
	core->bits &= (uint8_t) ~(CORE_HOLD | CORE_LOOP);
	if (++run->effort > EFFORT_MAX) {
		run->cut = true;
		return;
	}
	follow(run, core, thread);
}

/* ---- all of it ---- */

static enum progress advance(struct run *run, struct core *core, unsigned i, unsigned thread)
{
	const struct word *word = word_of(run, core, i);

	switch ((enum word_class)word->class) {
	case WORD_PLAIN:
		return plain(run, core, i);
	case WORD_BRANCH:
		return branch(run, core, i);
	case WORD_ACCESS:
	case WORD_MAINTENANCE:
		return accesses(run, core, i);
	case WORD_SYNC:
		return synchronises(run, core, i, thread);
	case WORD_BARRIER:
		break;
	case WORD_UNKNOWN:
		if (certain(run, core, i))
			run_error(run, "opcode %#010x is executed, which is not modelled",
			          word->opcode);
		break;
	}
	return STAYS;
}

static void emit(struct run *run, const struct core *core)
{
	if (run->settled_count == run->settled_room) {
		unsigned room = run->settled_room ? 2 * run->settled_room : 64;
		struct core *settled = realloc(run->settled, room * sizeof(*settled));

		if (!settled) {
			run_error(run, "out of memory");
			return;
		}
		run->settled = settled;
		run->settled_room = room;
	}
	core_copy(run, &run->settled[run->settled_count++], core);
}

void core_settle(struct run *run, struct core *core, unsigned thread)
{
	bool moved = true;

	while (moved) {
		moved = false;
		for (unsigned i = 0; i < core->count; i++) {
			enum progress progress = advance(run, core, i, thread);

			if (progress == IMPOSSIBLE || run->error[0])
				return;
			moved = moved || progress == MOVES;
		}
		moved = retire(run, core) || moved;
	}
	if (core_may_fetch(run, core) && run->slot[core->pc] == RUN_NONE)
		core_fetched(run, core, thread, run->word_of[core->pc]);
	else
		emit(run, core);
}
