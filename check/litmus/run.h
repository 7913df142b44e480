/* SPDX-License-Identifier: MIT */
/*
 * run.h - the state of a running test, between core.c, effect.c and run.c.
 *
 * A core fetches in program order, along a guessed path, into a window of instructions in flight;
 * those have their effects in whatever order port/model/order.h allows, and leave the window in
 * program order. What concerns nobody else (arithmetic, addresses, branches whose operands are
 * there, fetching what nobody ever writes) happens at once; the rest are steps that cores take in
 * every order: a load, a store, DC, IC, and the fetch of an instruction that somebody writes.
 */
#ifndef SUTURE_LITMUS_RUN_H
#define SUTURE_LITMUS_RUN_H

#include <string.h>
#include "check/intern.h"
#include "check/litmus/litmus.h"
#include "isa/a64.h"
#include "port/model/order.h"
#include "port/model/rule.h"
#include "port/model/versions.h"

enum {
	RUN_WINDOW = 128, /* more than a thread has instructions; a multiple of the first */
	RUN_WINDOW_FIRST = 16,
	RUN_WORDS = 250,
	RUN_VALUES = 4096,
	RUN_TEXT = 24, /* instructions that somebody writes */
	RUN_CONTENTS = 12,
	RUN_NONE = 255,
};

enum word_class {
	WORD_PLAIN, /* registers only */
	WORD_BRANCH,
	WORD_ACCESS,
	WORD_MAINTENANCE,
	WORD_BARRIER,
	WORD_SYNC, /* ISB, UDF, ERET */
	WORD_UNKNOWN,
};

/* An opcode that the test has somewhere, decoded once. */
struct word {
	uint32_t opcode;
	struct a64_insn insn;
	uint8_t class;
	uint8_t barrier;          /* enum order_barrier */
	struct order_event event; /* accesses, maintenance, synchronisation */
	uint8_t dest, base;       /* registers that it writes, or RUN_NONE; base: written back */
	bool flags;               /* writes NZCV */
	bool picks;               /* CSEL and its like */
};

enum {
	FLIGHT_READY = 1,      /* what it computes, or stores, is known */
	FLIGHT_RESOLVED = 2,   /* a branch's direction, an address; the event has happened */
	FLIGHT_DONE = 4,       /* its effect has happened */
	FLIGHT_OLDER = 8,      /* a load: a newer content has reached its place since */
	FLIGHT_FORWARDED = 16, /* a load: from a store that is still in flight */
	FLIGHT_UNSURE = 32,    /* computed from what CSEL is guessed to pick */
	FLIGHT_TENTATIVE = 64, /* an address: known as far as that guess goes */
	FLIGHT_GUESSED = 128,  /* CSEL: `target` is which of the two */
};

/* An instruction in flight. */
struct flight {
	uint8_t place, word;
	uint8_t bits;
	uint8_t target;         /* where fetching went on; the place that is accessed */
	uint16_t value, second; /* numbers of values; second: the base written back, or NZCV */
};

enum {
	CORE_HOLD = 1,   /* nothing is fetched until branches are resolved: the path closes */
	CORE_LOOP = 4,   /* nor until what is fetched next is in flight no longer: a loop */
	CORE_SYNCED = 2, /* a context synchronisation event has happened just now */
};

struct core {
	uint16_t reg[LITMUS_REGISTERS];
	uint8_t pc; /* place that is fetched next, or LITMUS_NOWHERE: none */
	uint8_t bits;
	uint8_t faults;
	uint8_t count;
	struct flight flight[RUN_WINDOW];
};

/* An instruction that somebody writes. */
struct text {
	struct versions history;
	uint8_t content[RUN_CONTENTS]; /* words */
	uint8_t floor[LITMUS_THREADS];
	uint8_t early[LITMUS_THREADS]; /* floors as of the last synchronisation: 0 unless
	                                  RULE_FETCH_IN_ORDER is broken */
};

struct memory {
	struct text text[RUN_TEXT];
	uint16_t data[LITMUS_NAMES]; /* numbers of values */
};

struct run {
	const struct litmus_test *test;
	unsigned broken;
	uint64_t memory_max; /* bytes */
	struct versions_caches caches;
	unsigned words, values;
	struct word word[RUN_WORDS];
	uint64_t value[RUN_VALUES];
	uint16_t value_slot[2 * RUN_VALUES]; /* 1 + number */
	uint8_t word_of[LITMUS_PLACES];      /* code that nobody writes */
	uint8_t slot[LITMUS_PLACES];         /* in memory.data or .text, or RUN_NONE */
	unsigned datas, texts;
	unsigned window; /* instructions in flight at most */
	bool picks;      /* what CSEL picks may matter to a load */

	/* Learnt on the way; with anything new all begins again. */
	bool written[LITMUS_PLACES];
	uint8_t jump[LITMUS_PLACES + 1]; /* where an indirect branch may be guessed to lead */
	unsigned jumps;
	unsigned room; /* instructions that were in flight at most, rounded up: the window */
	bool again;

	bool cut, too_big;
	char error[160];
	/* The states that a core may settle in after a step. */
	struct core *settled;
	unsigned settled_count, settled_room;
	unsigned effort; /* fetches since the step */
	struct intern cores, memories, states, finals;
};

static inline bool run_rule(const struct run *run, enum model_rule rule)
{
	return rule_holds(run->broken, rule);
}

/* Notes the first one; nothing goes on after it. */
void run_error(struct run *run, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Numbers of values and words; 0, and an error, if there are too many. */
uint16_t run_value(struct run *run, uint64_t value);
uint8_t run_word(struct run *run, uint32_t opcode);
/* Somebody writes there. */
void run_learn_written(struct run *run, unsigned place);

/* ---- core.c ---- */

/* Of a core, what is used of its window. */
static inline size_t core_size(const struct run *run)
{
	return offsetof(struct core, flight) + run->window * sizeof(struct flight);
}

static inline void core_copy(const struct run *run, struct core *to, const struct core *from)
{
	memcpy(to, from, core_size(run));
}

/* Register `reg` as flight i finds it; false: not known yet. Sets *unsure if it may turn out to be
 * another. */
bool core_operand(const struct core *core, const struct run *run, unsigned i, unsigned reg,
                  uint16_t *value, bool *unsure);
/* Everything that concerns nobody else; what comes out is appended to run->settled. */
void core_settle(struct run *run, struct core *core, unsigned thread);
/* Appends an instruction and settles. */
void core_fetched(struct run *run, struct core *core, unsigned thread, unsigned word);
/* May the next instruction be fetched now? */
bool core_may_fetch(struct run *run, const struct core *core);
bool core_finished(const struct run *run, const struct core *core);

/* ---- compute.c ---- */

/* What a WORD_PLAIN instruction computes; NZCV in *flags. */
uint64_t compute(const struct a64_insn *insn, uint64_t rd, uint64_t n, uint64_t m, unsigned *flags);
bool compute_condition(unsigned cond, unsigned nzcv);

/* ---- effect.c ---- */

/* May the access or the maintenance have its effect now? *from: the store that a load takes its
 * value from, or -1: memory. */
bool effect_may(const struct run *run, const struct core *core, unsigned i, int *from);
/* May the context synchronisation event happen now? */
bool effect_sync_may(const struct run *run, const struct core *core, unsigned i);
/* Its address is known now: false if a later one has had an effect that it should have waited
 * with. */
bool effect_address_fits(const struct run *run, const struct core *core, unsigned i);
/* Nobody else can tell when it happens. */
bool effect_private(const struct run *run, const struct core *core, unsigned i);
/* Loads that are done do not know what happens to their place. */
void effect_load(struct run *run, struct core *core, unsigned i, int from, uint16_t value);
/*
 * Flight i has its effect. `memory` and, at a store, other cores change; `changed` bit t: core t
 * has.
 */
void effect_do(struct run *run, struct core *cores, unsigned thread, unsigned i, int from,
               struct memory *memory, unsigned *changed);

#endif
