/* SPDX-License-Identifier: MIT */
/*
 * litmus.h - litmus tests of AArch64 in herd's format, and how they are run.
 *
 *   lexer.c      words, numbers, symbols, with lines    assemble.c   text to opcodes
 *   parse.c      header, first values, program          disassemble.c   opcodes to text
 *   condition.c  what is asked of the final states
 *   program.c    its table
 *   core.c       one core: instructions in flight, and which is fetched next
 *   word.c, compute.c   opcodes and values that are met; arithmetic
 *   effect.c     loads, stores, maintenance: when they may happen, what other cores see
 *   run.c        all executions of a test
 *   kinds.c report.c command.c   what is expected of it, and what is told
 *
 * The rules of caches and order are those of the scenarios: port/model/versions.h, order.h, rule.h.
 */
#ifndef SUTURE_LITMUS_H
#define SUTURE_LITMUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	LITMUS_THREADS = 8,
	LITMUS_PLACES = 240, /* data and instructions, and the ends of code */
	LITMUS_NAMES = 64,   /* of data: one place may have several (physical aliases) */
	LITMUS_LABELS = 128,
	LITMUS_OBSERVED = 32,
	LITMUS_FAULTS = 8, /* that a condition asks about */
	LITMUS_NODES = 256,
	LITMUS_NAME = 64, /* bytes, of a name */
	LITMUS_NOWHERE = 255,
	LITMUS_ELR = 32, /* ELR_EL1, among the registers */
	LITMUS_FLAGS,    /* NZCV */
	LITMUS_REGISTERS,
};

/* Data begins here, a place each LITMUS_DATA_STEP bytes; the code of column i there. */
#define LITMUS_DATA      UINT64_C(0x800000)
#define LITMUS_DATA_STEP UINT64_C(0x40)
#define LITMUS_CODE      UINT64_C(0x10000)
#define LITMUS_CODE_STEP UINT64_C(0x1000)

struct litmus_place {
	bool code;
	bool end;       /* behind the last instruction of a column */
	uint64_t value; /* at first: data, or an opcode */
	uint64_t address;
};

/* A column of the program: a thread's code, or its handler. */
struct litmus_column {
	uint8_t thread;
	bool handler;
	uint8_t first, end; /* places */
};

struct litmus_name {
	char name[LITMUS_NAME];
	uint8_t place; /* that it leads to */
	uint8_t home;  /* and without a physical alias */
	uint8_t bytes; /* of its type, for printing: 4 or 8 */
	bool is_signed;
};

struct litmus_label {
	char name[LITMUS_NAME];
	uint8_t thread, place;
};

/* What is printed of a final state. */
struct litmus_observed {
	bool memory;
	uint8_t thread, reg; /* registers */
	uint8_t name;        /* memory: index into names */
};

struct litmus_fault {
	uint8_t thread;
	uint8_t place; /* or LITMUS_NOWHERE: any */
	char label[LITMUS_NAME];
	char kind[32]; /* "" any */
};

enum litmus_node_kind { NODE_TRUE, NODE_FALSE, NODE_AND, NODE_OR, NODE_NOT, NODE_IS, NODE_FAULT };

struct litmus_node {
	uint8_t kind;
	uint8_t index; /* NODE_IS: what is observed; NODE_FAULT */
	uint16_t left, right;
	uint64_t value;
};

enum litmus_quantifier { LITMUS_EXISTS, LITMUS_NOT_EXISTS, LITMUS_FORALL };

struct litmus_test {
	char name[256];
	bool idc, dic; /* CacheType= */
	bool skips;    /* Variant=skip: a fault that nobody handles is gone past */
	unsigned threads, columns;
	struct litmus_column column[2 * LITMUS_THREADS];
	unsigned places;
	struct litmus_place place[LITMUS_PLACES];
	unsigned names;
	struct litmus_name name_of[LITMUS_NAMES];
	unsigned labels;
	struct litmus_label label[LITMUS_LABELS];
	uint64_t reg[LITMUS_THREADS][LITMUS_REGISTERS];
	/* Declared types of registers: bytes, and whether signed; 0: as it looks. */
	uint8_t reg_bytes[LITMUS_THREADS][LITMUS_REGISTERS];
	bool reg_signed[LITMUS_THREADS][LITMUS_REGISTERS];

	bool asks; /* there is a condition */
	enum litmus_quantifier quantifier;
	unsigned nodes;
	struct litmus_node node[LITMUS_NODES];
	uint16_t condition, filter; /* nodes; filter: NODE_TRUE unless there is one */
	unsigned observed;
	struct litmus_observed observe[LITMUS_OBSERVED];
	unsigned faults;
	struct litmus_fault fault[LITMUS_FAULTS];
};

/*
 * Reads a test from `text` (need not end with 0). Returns 0, or -EINVAL and what is wrong in
 * `error`, without the file's name: "LINE: expected ...". `test` is big: allocate it.
 */
int litmus_parse(const char *text, size_t size, struct litmus_test *test, char *error,
                 size_t error_size);

/* ---- values ---- */

/* Where the address is, or LITMUS_NOWHERE. */
unsigned litmus_place_at(const struct litmus_test *test, uint64_t address);
/* As herd prints it: a number, a name, a label, an instruction. */
void litmus_print_value(const struct litmus_test *test, const struct litmus_observed *what,
                        uint64_t value, char *out, size_t size);
void litmus_print_observed(const struct litmus_test *test, const struct litmus_observed *what,
                           char *out, size_t size);
void litmus_print_fault(const struct litmus_fault *fault, char *out, size_t size);
void litmus_print_condition(const struct litmus_test *test, char *out, size_t size);
/* "B .+8"; false and "0x..." if it is none of those that are known. */
bool litmus_print_opcode(uint32_t opcode, char *out, size_t size);

struct litmus_state {
	uint64_t value[LITMUS_OBSERVED];
	uint8_t faults; /* bit i: fault i has happened */
};

bool litmus_holds(const struct litmus_test *test, unsigned node, const struct litmus_state *state);

/* ---- running ---- */

struct litmus_result {
	struct litmus_state *states; /* sorted, each once */
	unsigned count;
	unsigned positive; /* of them, those for which the condition holds */
	uint32_t explored; /* states of the machine */
	uint64_t memory;   /* bytes at the peak */
	bool cut;          /* executions that go on for ever have no final state */
	double milliseconds;
	char error[160];
};

/*
 * All executions. `memory` may be 0: 192 MiB. `broken` is a rule that does not hold
 * (port/model/rule.h), or 0. Returns 0; -EINVAL: the test does what is not modelled, -E2BIG: its
 * states do not fit into `memory` bytes, both with the reason in `error`; -ENOMEM.
 * litmus_result_free() in any case. Reentrant.
 */
int litmus_run(const struct litmus_test *test, unsigned broken, uint64_t memory,
               struct litmus_result *result);
void litmus_result_free(struct litmus_result *result);

/* ---- the command ---- */

enum litmus_kind { LITMUS_ALLOWED, LITMUS_FORBIDDEN, LITMUS_REQUIRED };

/* A test, and what became of it. */
struct litmus_outcome {
	const char *file;
	const struct litmus_test *test;
	const struct litmus_result *result;
	enum litmus_kind kind; /* as stated, or as the condition asks */
	bool stated;           /* somebody says that it must be so */
	bool ok;               /* it is so */
};

const char *litmus_kind_name(enum litmus_kind kind);
const char *litmus_observation(const struct litmus_result *result);
/* As herd prints it. */
void litmus_print(const struct litmus_outcome *outcome);

/* suture-check litmus; argv[0] is "litmus". Returns the exit status. */
int litmus_command(int argc, char **argv);

#endif
