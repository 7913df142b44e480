/* SPDX-License-Identifier: MIT */
/*
 * run.c - all executions of a test.
 *
 * A state is the numbers of its parts: one for each core, one for memory. States are numbered in
 * the order in which they are found, and expanded in that order. What is not known beforehand (what
 * is written, where indirect branches lead, how many instructions are in flight) is learnt, and
 * then everything is done again.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "check/litmus/run.h"

enum {
	MEMORY_MAX = 192 << 20, /* bytes */
	/* Each time a place is found to be written, or to be jumped to, or the window doubles. */
	AGAIN_MAX = 2 * LITMUS_PLACES + 8,
};

/* Parts of a state, as they are numbered. */
struct parts {
	uint32_t core[LITMUS_THREADS], memory;
};

/* ---- before the first step ---- */

/* What stores of this column may write, if their base register is as it was at first. */
static void guess_written(struct run *run, const struct litmus_column *column)
{
	const struct litmus_test *test = run->test;

	for (unsigned i = column->first; i < column->end; i++) {
		const struct word *word = &run->word[run->word_of[i]];
		unsigned place;

		if (word->class != WORD_ACCESS || word->event.effect != ORDER_WRITE ||
		    word->insn.rn == A64_ZR)
			continue;
		place = litmus_place_at(test, test->reg[column->thread][word->insn.rn]);
		if (place != LITMUS_NOWHERE && !test->place[place].end)
			run->written[place] = true;
	}
}

static void add_jump(struct run *run, uint64_t value)
{
	unsigned place = litmus_place_at(run->test, value);

	if (place == LITMUS_NOWHERE || !run->test->place[place].code)
		return;
	for (unsigned i = 0; i < run->jumps; i++)
		if (run->jump[i] == place)
			return;
	run->jump[run->jumps++] = (uint8_t)place;
}

/* May a load's address come from CSEL? If one is anywhere behind one, it may. */
static bool picks(const struct run *run)
{
	for (unsigned c = 0; c < run->test->columns; c++) {
		bool picked = false;

		for (unsigned i = run->test->column[c].first; i < run->test->column[c].end; i++) {
			const struct word *word = &run->word[run->word_of[i]];

			if (picked && word->class == WORD_ACCESS &&
			    word->event.effect == ORDER_READ)
				return true;
			picked = picked || word->picks;
		}
	}
	return false;
}

/* What is known from the text. */
static void prepare(struct run *run)
{
	const struct litmus_test *test = run->test;

	run_value(run, 0);
	for (unsigned i = 0; i < test->places; i++)
		if (test->place[i].code && !test->place[i].end)
			run->word_of[i] = run_word(run, (uint32_t)test->place[i].value);
	for (unsigned i = 0; i < test->columns; i++)
		guess_written(run, &test->column[i]);
	for (unsigned t = 0; t < test->threads; t++)
		for (unsigned r = 0; r < LITMUS_REGISTERS; r++)
			add_jump(run, test->reg[t][r]);
	for (unsigned i = 0; i < test->places; i++)
		if (!test->place[i].code)
			add_jump(run, test->place[i].value);
	run->picks = picks(run) && run_rule(run, RULE_PICK);
	run->caches = (struct versions_caches){.fetch_from_data = test->idc,
	                                       .instruction_coherent = test->dic,
	                                       .broadcast = true,
	                                       .cores = test->threads,
	                                       .broken = run->broken};
}

static void first_memory(struct run *run, struct memory *memory)
{
	const struct litmus_test *test = run->test;

	memset(memory, 0, sizeof(*memory));
	memset(run->slot, RUN_NONE, sizeof(run->slot));
	run->datas = run->texts = 0;
	for (unsigned i = 0; i < test->places; i++) {
		const struct litmus_place *place = &test->place[i];

		if (!run->written[i] || place->end)
			continue;
		if (!place->code) {
			run->slot[i] = (uint8_t)run->datas;
			memory->data[run->datas++] = run_value(run, place->value);
		} else if (run->texts == RUN_TEXT) {
			run_error(run, "more than %d instructions are written", RUN_TEXT);
		} else {
			run->slot[i] = (uint8_t)run->texts;
			memory->text[run->texts].history.count = 1;
			memory->text[run->texts++].content[0] = run->word_of[i];
		}
	}
}

/* ---- parts and numbers ---- */

static size_t memory_size(const struct run *run)
{
	return run->texts * sizeof(struct text) + run->datas * sizeof(uint16_t);
}

static bool number_of(struct run *run, struct intern *table, const void *value, uint32_t *number)
{
	int rc = intern(table, value, number);
	uint64_t used = intern_memory(&run->cores) + intern_memory(&run->memories) +
	                intern_memory(&run->states);

	if (rc == INTERN_FAILED || used > run->memory_max)
		run->too_big = true;
	if (run->too_big)
		run_error(run, "more states than fit in %u MiB", (unsigned)(run->memory_max >> 20));
	return rc == INTERN_NEW;
}

static uint32_t number_core(struct run *run, const struct core *core)
{
	uint32_t number = 0;

	number_of(run, &run->cores, core, &number);
	return number;
}

/* Texts, then data, without what is not used. */
static uint32_t number_memory(struct run *run, const struct memory *memory)
{
	uint8_t packed[sizeof(*memory) + 1];
	size_t texts = run->texts * sizeof(struct text);
	uint32_t number = 0;

	memcpy(packed, memory->text, texts);
	memcpy(packed + texts, memory->data, run->datas * sizeof(uint16_t));
	number_of(run, &run->memories, packed, &number);
	return number;
}

static void unpack_memory(const struct run *run, uint32_t number, struct memory *memory)
{
	const uint8_t *packed = intern_value(&run->memories, number);
	size_t texts = run->texts * sizeof(struct text);

	memcpy(memory->text, packed, texts);
	memcpy(memory->data, packed + texts, run->datas * sizeof(uint16_t));
}

/* ---- steps ---- */

struct step {
	struct run *run;
	struct parts before;
	const struct core *cores; /* as they were */
	const struct memory *memory;
};

/* Without RULE_FETCH_IN_ORDER, fetches are as early as the last synchronisation. */
static uint32_t synchronised_memory(struct run *run, unsigned thread, const struct memory *memory)
{
	struct memory after = *memory;

	for (unsigned i = 0; i < run->texts; i++)
		after.text[i].early[thread] = after.text[i].floor[thread];
	return number_memory(run, &after);
}

/* Each way in which the core may settle is a state. */
static void add_states(const struct step *step, unsigned thread, const struct core *cores,
                       const struct memory *memory, unsigned changed)
{
	struct run *run = step->run;
	struct parts after = step->before;
	uint32_t number, plain;

	if (run->again || run->error[0])
		return;
	plain = number_memory(run, memory);
	for (unsigned t = 0; t < run->test->threads; t++)
		if (changed >> t & 1)
			after.core[t] = number_core(run, &cores[t]);
	for (unsigned i = 0; i < run->settled_count; i++) {
		bool synced = run->settled[i].bits & CORE_SYNCED;

		run->settled[i].bits &= (uint8_t)~CORE_SYNCED;
		after.memory = synced ? synchronised_memory(run, thread, memory) : plain;
		after.core[thread] = number_core(run, &run->settled[i]);
		number_of(run, &run->states, &after, &number);
	}
}

static void begin_step(struct run *run)
{
	run->settled_count = 0;
	run->effort = 0;
}

static void take_effect(const struct step *step, unsigned thread, unsigned i, int from)
{
	struct run *run = step->run;
	struct core cores[LITMUS_THREADS];
	struct memory memory = *step->memory;
	unsigned changed = 0;

	for (unsigned t = 0; t < run->test->threads; t++)
		core_copy(run, &cores[t], &step->cores[t]);
	begin_step(run);
	effect_do(run, cores, thread, i, from, &memory, &changed);
	if (run->again || run->error[0])
		return;
	core_settle(run, &cores[thread], thread);
	add_states(step, thread, cores, &memory, changed);
}

static void take_fetch(const struct step *step, unsigned thread, unsigned word)
{
	struct run *run = step->run;
	struct core core;

	begin_step(run);
	core_copy(run, &core, &step->cores[thread]);
	core_fetched(run, &core, thread, word);
	add_states(step, thread, NULL, step->memory, 0);
}

/* A store of its own that has not happened yet: only without RULE_FETCH_MEMORY. */
static void fetch_from_store(const struct step *step, unsigned thread)
{
	struct run *run = step->run;
	const struct core *core = &step->cores[thread];

	for (unsigned i = core->count; i-- > 0;) {
		const struct flight *f = &core->flight[i];
		const struct word *word = &run->word[f->word];

		if (word->class != WORD_ACCESS || word->event.effect != ORDER_WRITE ||
		    f->target != core->pc || !(f->bits & FLIGHT_READY) || f->bits & FLIGHT_DONE)
			continue;
		take_fetch(step, thread, run_word(run, (uint32_t)run->value[f->value]));
		return;
	}
}

static void fetch(const struct step *step, unsigned thread)
{
	struct run *run = step->run;
	const struct core *core = &step->cores[thread];
	const struct text *text;
	unsigned floor;
	bool seen[RUN_WORDS] = {false};

	if (run->again || !core_may_fetch(run, core) || run->slot[core->pc] == RUN_NONE)
		return;
	text = &step->memory->text[run->slot[core->pc]];
	floor = run_rule(run, RULE_FETCH_IN_ORDER) ? text->floor[thread] : text->early[thread];
	floor = versions_floor(&text->history, &run->caches, floor);
	for (unsigned i = floor; i <= versions_newest(&text->history); i++) {
		if (seen[text->content[i]])
			continue;
		seen[text->content[i]] = true;
		take_fetch(step, thread, text->content[i]);
	}
	if (!run_rule(run, RULE_FETCH_MEMORY))
		fetch_from_store(step, thread);
}

/* ---- final states ---- */

static uint64_t observed_value(const struct step *step, const struct litmus_observed *what)
{
	const struct run *run = step->run;
	unsigned place, slot;

	if (!what->memory)
		return run->value[step->cores[what->thread].reg[what->reg]];
	place = run->test->name_of[what->name].place;
	slot = run->slot[place];
	if (slot == RUN_NONE)
		return run->test->place[place].value;
	if (!run->test->place[place].code)
		return run->value[step->memory->data[slot]];
	return run
	        ->word[step->memory->text[slot]
	                       .content[versions_newest(&step->memory->text[slot].history)]]
	        .opcode;
}

static void add_final(const struct step *step)
{
	const struct litmus_test *test = step->run->test;
	struct litmus_state state;
	uint32_t number;

	memset(&state, 0, sizeof(state));
	for (unsigned i = 0; i < test->observed; i++)
		state.value[i] = observed_value(step, &test->observe[i]);
	for (unsigned t = 0; t < test->threads; t++)
		state.faults |= step->cores[t].faults;
	if (litmus_holds(test, test->filter, &state))
		number_of(step->run, &step->run->finals, &state, &number);
}

static void expand(struct run *run, uint32_t number)
{
	struct core cores[LITMUS_THREADS];
	struct memory memory;
	struct step step = {.run = run, .cores = cores, .memory = &memory};
	bool finished = true;

	memcpy(&step.before, intern_value(&run->states, number), sizeof(step.before));
	unpack_memory(run, step.before.memory, &memory);
	for (unsigned t = 0; t < run->test->threads; t++)
		core_copy(run, &cores[t], intern_value(&run->cores, step.before.core[t]));
	for (unsigned t = 0; t < run->test->threads; t++) {
		finished = finished && core_finished(run, &cores[t]);
		for (unsigned i = 0; i < cores[t].count && !run->again; i++) {
			int from;

			if ((run->word[cores[t].flight[i].word].class == WORD_ACCESS ||
			     run->word[cores[t].flight[i].word].class == WORD_MAINTENANCE) &&
			    effect_may(run, &cores[t], i, &from))
				take_effect(&step, t, i, from);
		}
		fetch(&step, t);
	}
	if (finished && !run->again)
		add_final(&step);
}

/* ---- all of it ---- */

static struct core first_core(struct run *run, unsigned thread)
{
	const struct litmus_test *test = run->test;
	struct core core;

	memset(&core, 0, sizeof(core));
	for (unsigned i = 0; i < test->columns; i++)
		if (test->column[i].thread == thread && !test->column[i].handler)
			core.pc = test->column[i].first;
	for (unsigned r = 0; r < LITMUS_REGISTERS; r++)
		core.reg[r] = run_value(run, test->reg[thread][r]);
	return core;
}

/* Every core settles, in every way; any of them meets any of the others'. */
static void first_states(struct run *run, const struct memory *memory)
{
	const struct parts none = {.memory = number_memory(run, memory)};
	struct intern partial, next;
	uint32_t number;

	intern_open(&partial, sizeof(struct parts));
	number_of(run, &partial, &none, &number);
	for (unsigned t = 0; t < run->test->threads; t++) {
		struct core core = first_core(run, t);

		begin_step(run);
		core_settle(run, &core, t);
		intern_open(&next, sizeof(struct parts));
		for (uint32_t i = 0; i < partial.count; i++) {
			struct parts parts;

			memcpy(&parts, intern_value(&partial, i), sizeof(parts));
			for (unsigned k = 0; k < run->settled_count; k++) {
				run->settled[k].bits &= (uint8_t)~CORE_SYNCED;
				parts.core[t] = number_core(run, &run->settled[k]);
				number_of(run, &next, &parts, &number);
			}
		}
		intern_close(&partial);
		partial = next;
	}
	for (uint32_t i = 0; i < partial.count; i++)
		number_of(run, &run->states, intern_value(&partial, i), &number);
	intern_close(&partial);
}

static void open_tables(struct run *run)
{
	intern_open(&run->cores, core_size(run));
	intern_open(&run->memories, memory_size(run) ? memory_size(run) : 1);
	intern_open(&run->states, sizeof(struct parts));
	intern_open(&run->finals, sizeof(struct litmus_state));
}

static void close_tables(struct run *run)
{
	intern_close(&run->cores);
	intern_close(&run->memories);
	intern_close(&run->states);
	intern_close(&run->finals);
}

static void explore(struct run *run, struct litmus_result *result)
{
	struct memory memory;
	uint64_t used;

	run->again = run->cut = false;
	run->window = run->room;
	first_memory(run, &memory);
	open_tables(run);
	first_states(run, &memory);
	for (uint32_t i = 0; i < run->states.count && !run->again && !run->error[0]; i++)
		expand(run, i);
	used = intern_memory(&run->cores) + intern_memory(&run->memories) +
	       intern_memory(&run->states) + intern_memory(&run->finals);
	result->memory = used > result->memory ? used : result->memory;
	result->explored += run->states.count;
}

static int compare_states(const void *a, const void *b)
{
	const struct litmus_state *x = a, *y = b;

	for (unsigned i = 0; i < LITMUS_OBSERVED; i++)
		if (x->value[i] != y->value[i])
			return (int64_t)x->value[i] < (int64_t)y->value[i] ? -1 : 1;
	return x->faults - y->faults;
}

static int collect(struct run *run, struct litmus_result *result)
{
	const struct litmus_test *test = run->test;
	uint32_t count = run->finals.count;

	result->states = calloc(count ? count : 1, sizeof(*result->states));
	if (!result->states)
		return -ENOMEM;
	for (uint32_t i = 0; i < count; i++)
		memcpy(&result->states[i], intern_value(&run->finals, i), sizeof(*result->states));
	qsort(result->states, count, sizeof(*result->states), compare_states);
	result->count = count;
	for (uint32_t i = 0; i < count; i++)
		result->positive += litmus_holds(test, test->condition, &result->states[i]);
	return 0;
}

int litmus_run(const struct litmus_test *test, unsigned broken, uint64_t memory,
               struct litmus_result *result)
{
	struct run *run = calloc(1, sizeof(*run));
	struct timespec begin, end;
	int rc = 0;

	memset(result, 0, sizeof(*result));
	if (!run)
		return -ENOMEM;
	clock_gettime(CLOCK_MONOTONIC, &begin);
	run->test = test;
	run->broken = broken;
	run->memory_max = memory ? memory : MEMORY_MAX;
	run->room = RUN_WINDOW_FIRST;
	prepare(run);
	for (unsigned i = 0; i == 0 || (run->again && !run->error[0] && i < AGAIN_MAX); i++) {
		close_tables(run);
		explore(run, result);
	}
	result->cut = run->cut;
	if (run->error[0]) {
		memcpy(result->error, run->error, sizeof(result->error));
		rc = run->too_big ? -E2BIG : -EINVAL;
	} else {
		rc = collect(run, result);
	}
	close_tables(run);
	free(run->settled);
	free(run);
	clock_gettime(CLOCK_MONOTONIC, &end);
	result->milliseconds = (double)(end.tv_sec - begin.tv_sec) * 1e3 +
	                       (double)(end.tv_nsec - begin.tv_nsec) / 1e6;
	return rc;
}

void litmus_result_free(struct litmus_result *result)
{
	free(result->states);
}
