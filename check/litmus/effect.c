/* SPDX-License-Identifier: MIT */
/* effect.c - when loads, stores and maintenance may happen, and what they do. */
#include <string.h>
#include "check/litmus/run.h"

static const struct word *word_of(const struct run *run, const struct core *core, unsigned i)
{
	return &run->word[core->flight[i].word];
}

static bool has(const struct core *core, unsigned i, unsigned bits)
{
	return core->flight[i].bits & bits;
}

static bool is_memory(const struct word *word)
{
	return word->class == WORD_ACCESS || word->class == WORD_MAINTENANCE;
}

/* Both addresses are known, and of one place. */
static bool same_place(const struct core *core, unsigned i, unsigned k)
{
	return has(core, i, FLIGHT_RESOLVED | FLIGHT_TENTATIVE) &&
	       has(core, k, FLIGHT_RESOLVED | FLIGHT_TENTATIVE) &&
	       core->flight[i].target == core->flight[k].target &&
	       core->flight[i].target != LITMUS_NOWHERE;
}

/* Does the barrier hold back an effect behind it? */
static bool barrier_holds(const struct run *run, const struct core *core, unsigned barrier,
                          enum order_effect later)
{
	const struct word *word = word_of(run, core, barrier);

	for (unsigned i = 0; i < barrier; i++) {
		const struct word *earlier = word_of(run, core, i);

		if (is_memory(earlier) && !has(core, i, FLIGHT_DONE) &&
		    order_waits_barrier(run->broken, word->barrier, earlier->event.effect, later))
			return true;
	}
	return false;
}

/* Does flight i wait for the earlier k, whatever their places are? */
static bool waits(const struct run *run, const struct core *core, unsigned i, unsigned k)
{
	const struct order_event *later = &word_of(run, core, i)->event;
	const struct word *earlier = word_of(run, core, k);

	switch ((enum word_class)earlier->class) {
	case WORD_BRANCH:
		return !has(core, k, FLIGHT_RESOLVED) &&
		       order_waits_branch(run->broken, later->effect);
	case WORD_BARRIER:
		return barrier_holds(run, core, k, later->effect);
	case WORD_ACCESS:
		if (!has(core, k, FLIGHT_RESOLVED) &&
		    order_waits_address(run->broken, later->effect))
			return true;
		return !has(core, k, FLIGHT_DONE) &&
		       order_waits(run->broken, &earlier->event, later);
	default:
		return false;
	}
}

/*
 * CoRR, with loads that go ahead of each other: a load may not find newer contents than a later one
 * of its place has found already. DDI 0487, B2.3: internal visibility.
 */
static bool later_load_is_older(const struct run *run, const struct core *core, unsigned i)
{
	for (unsigned k = i + 1; k < core->count && run_rule(run, RULE_SAME_READS); k++) {
		const struct word *word = word_of(run, core, k);

		if (word->class != WORD_ACCESS || !same_place(core, i, k))
			continue;
		if (word->event.effect == ORDER_WRITE)
			return false;
		if (has(core, k, FLIGHT_DONE) && has(core, k, FLIGHT_OLDER))
			return true;
	}
	return false;
}

bool effect_may(const struct run *run, const struct core *core, unsigned i, int *from)
{
	const struct word *word = word_of(run, core, i);
	bool load = word->class == WORD_ACCESS && word->event.effect == ORDER_READ;
	bool found = false; /* the store that a load takes its value from, if any */

	*from = -1;
	if (has(core, i, FLIGHT_DONE) || !has(core, i, FLIGHT_RESOLVED | FLIGHT_TENTATIVE))
		return false;
	if (word->class == WORD_ACCESS && !load && !has(core, i, FLIGHT_READY))
		return false;
	for (unsigned k = i; k-- > 0;) {
		const struct word *earlier = word_of(run, core, k);

		if (waits(run, core, i, k))
			return false;
		if (!is_memory(earlier) || !same_place(core, i, k))
			continue;
		if (load && earlier->class == WORD_ACCESS && earlier->event.effect == ORDER_WRITE) {
			if (found || !run_rule(run, RULE_FORWARD))
				continue;
			found = true;
			if (has(core, k, FLIGHT_DONE))
				continue;
			if (!has(core, k, FLIGHT_READY))
				return false;
			*from = (int)k;
		} else if (!has(core, k, FLIGHT_DONE) &&
		           order_waits_same(run->broken, earlier->event.effect,
		                            word->event.effect)) {
			return false;
		}
	}
	return !load || *from >= 0 || !later_load_is_older(run, core, i);
}

/* Which rule makes it one. */
static enum model_rule sync_rule(const struct word *word)
{
	return word->insn.op == A64_ISB   ? RULE_SYNCHRONISE
	       : word->insn.op == A64_UDF ? RULE_FETCH_EXCEPTION
	                                  : RULE_FETCH_RETURN;
}

bool effect_sync_may(const struct run *run, const struct core *core, unsigned i)
{
	if (!run_rule(run, sync_rule(word_of(run, core, i))))
		return true;
	for (unsigned k = 0; k < i; k++)
		if (waits(run, core, i, k))
			return false;
	return true;
}

bool effect_address_fits(const struct run *run, const struct core *core, unsigned i)
{
	const struct word *word = word_of(run, core, i);
	enum order_effect effect = word->event.effect;
	bool hidden = false; /* from later loads, by a store between */

	for (unsigned k = i + 1; k < core->count; k++) {
		const struct word *later = word_of(run, core, k);

		if (!is_memory(later) || !same_place(core, i, k))
			continue;
		if (effect == ORDER_WRITE && later->event.effect == ORDER_READ) {
			if (has(core, k, FLIGHT_DONE) && !hidden && run_rule(run, RULE_FORWARD))
				return false;
		} else if (has(core, k, FLIGHT_DONE) &&
		           order_waits_same(run->broken, effect, later->event.effect)) {
			return false;
		}
		hidden = hidden || later->event.effect == ORDER_WRITE;
	}
	return true;
}

bool effect_private(const struct run *run, const struct core *core, unsigned i)
{
	const struct word *word = word_of(run, core, i);
	unsigned place = core->flight[i].target;
	bool empty;

	/* What is before it may turn out to be of its place, and then it was too early. */
	for (unsigned k = 0; k < i; k++)
		if (is_memory(word_of(run, core, k)) && !has(core, k, FLIGHT_RESOLVED))
			return false;
	if (word->class == WORD_ACCESS)
		return word->event.effect == ORDER_READ && !run->written[place];
	empty = word->event.effect == ORDER_CLEAN ? run->caches.fetch_from_data
	                                          : run->caches.instruction_coherent;
	if (run->broken == 0 && empty)
		return true;
	if (word->insn.op == A64_IC_IALLU || word->insn.op == A64_IC_IALLUIS)
		return run->texts == 0;
	return place == LITMUS_NOWHERE || !run->test->place[place].code ||
	       run->slot[place] == RUN_NONE;
}

void effect_load(struct run *run, struct core *core, unsigned i, int from, uint16_t value)
{
	struct flight *f = &core->flight[i];

	f->bits |= FLIGHT_DONE | FLIGHT_READY;
	f->value = from < 0 ? value : core->flight[from].value;
	if (!run->word[f->word].insn.wide)
		f->value = run_value(run, (uint32_t)run->value[f->value]);
	if (from >= 0)
		f->bits |= FLIGHT_FORWARDED;
}

/* ---- memory ---- */

static uint16_t load_value(struct run *run, const struct memory *memory, unsigned place)
{
	const struct litmus_place *p = &run->test->place[place];
	unsigned slot = run->slot[place];
	const struct text *text;

	if (slot == RUN_NONE)
		return run_value(run, p->value);
	if (!p->code)
		return memory->data[slot];
	text = &memory->text[slot];
	return run_value(run, run->word[text->content[versions_newest(&text->history)]].opcode);
}

static void settle_text(const struct run *run, struct text *text)
{
	uint8_t *index[2 * LITMUS_THREADS];
	unsigned n = 0;

	for (unsigned i = 0; i < run->caches.cores; i++) {
		versions_follow(&text->history, &run->caches, &text->floor[i]);
		index[n++] = &text->floor[i];
		if (!run_rule(run, RULE_FETCH_IN_ORDER))
			index[n++] = &text->early[i];
	}
	versions_settle(&text->history, text->content, RUN_CONTENTS, index, n);
}

static void store_text(struct run *run, struct memory *memory, unsigned place, uint64_t value)
{
	struct text *text = &memory->text[run->slot[place]];

	if (text->history.count == RUN_CONTENTS) {
		run_error(run, "more than %d contents of one instruction at once", RUN_CONTENTS);
		return;
	}
	text->content[text->history.count] = run_word(run, (uint32_t)value);
	versions_store(&text->history, &run->caches);
	settle_text(run, text);
}

/* Loads of another core that are done hear of a newer content of their place. */
static bool tell_others(const struct run *run, struct core *core, unsigned place)
{
	bool changed = false;

	for (unsigned i = 0; i < core->count; i++) {
		struct flight *f = &core->flight[i];
		const struct word *word = &run->word[f->word];

		if (word->class != WORD_ACCESS || word->event.effect != ORDER_READ ||
		    f->target != place || !(f->bits & FLIGHT_DONE) ||
		    f->bits & (FLIGHT_FORWARDED | FLIGHT_OLDER))
			continue;
		f->bits |= FLIGHT_OLDER;
		changed = true;
	}
	return changed;
}

/* What loads took from the store before it happened is now the newest content. */
static void tell_own(const struct run *run, struct core *core, unsigned i)
{
	for (unsigned k = i + 1; k < core->count; k++) {
		const struct word *word = word_of(run, core, k);

		if (word->class != WORD_ACCESS || !same_place(core, i, k))
			continue;
		if (word->event.effect == ORDER_WRITE)
			return;
		core->flight[k].bits &= (uint8_t)~FLIGHT_FORWARDED;
	}
}

static void store(struct run *run, struct core *cores, unsigned thread, unsigned i,
                  struct memory *memory, unsigned *changed)
{
	struct flight *f = &cores[thread].flight[i];
	unsigned place = f->target, slot = run->slot[place];

	if (!run->written[place]) {
		run_learn_written(run, place);
		return;
	}
	f->bits |= FLIGHT_DONE;
	if (run->test->place[place].code)
		store_text(run, memory, place, run->value[f->value]);
	else
		memory->data[slot] = f->value;
	tell_own(run, &cores[thread], i);
	for (unsigned t = 0; t < run->test->threads; t++)
		if (t != thread && tell_others(run, &cores[t], place))
			*changed |= 1u << t;
}

static void maintain(struct run *run, const struct word *word, unsigned thread, unsigned place,
                     struct memory *memory)
{
	struct versions_caches caches = run->caches;
	bool all = word->insn.op == A64_IC_IALLU || word->insn.op == A64_IC_IALLUIS;

	if (word->insn.op == A64_IC_IALLU)
		caches.broadcast = false;
	for (unsigned i = 0; i < run->texts; i++) {
		struct text *text = &memory->text[i];

		if (!all && (place == LITMUS_NOWHERE || !run->test->place[place].code ||
		             run->slot[place] != i))
			continue;
		if (word->event.effect == ORDER_CLEAN)
			versions_clean(&text->history, &caches);
		else
			versions_invalidate(&text->history, &caches, text->floor, thread);
		settle_text(run, text);
	}
}

void effect_do(struct run *run, struct core *cores, unsigned thread, unsigned i, int from,
               struct memory *memory, unsigned *changed)
{
	struct core *core = &cores[thread];
	struct flight *f = &core->flight[i];
	const struct word *word = &run->word[f->word];

	if (word->class == WORD_MAINTENANCE) {
		f->bits |= FLIGHT_DONE;
		maintain(run, word, thread, f->target, memory);
	} else if (word->event.effect == ORDER_WRITE) {
		store(run, cores, thread, i, memory, changed);
	} else {
		uint16_t value = from < 0 ? load_value(run, memory, f->target) : 0;

		effect_load(run, core, i, from, value);
	}
}
