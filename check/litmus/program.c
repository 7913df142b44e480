/* SPDX-License-Identifier: MIT */
/*
 * program.c - the table of a test: a column a thread, a row an instruction.
 *
 * It is read twice: labels and places first, then the instructions, which may name labels that
 * come later.
 */
#include <stdio.h>
#include <string.h>
#include "check/litmus/assemble.h"
#include "check/litmus/parse.h"

enum { ROWS_MAX = 900 };

struct program {
	struct litmus_test *test;
	/* Where the next instruction of each column goes. */
	unsigned count[2 * LITMUS_THREADS];
	bool places; /* the second time: they are known */
};

bool parse_thread(const char *name, size_t length, unsigned *thread, bool *handler)
{
	*handler = length > 2 && memcmp(name + length - 2, ".F", 2) == 0;
	if (*handler)
		length -= 2;
	if (length < 2 || length > 3 || name[0] != 'P')
		return false;
	*thread = 0;
	for (size_t i = 1; i < length; i++) {
		if (name[i] < '0' || name[i] > '9')
			return false;
		*thread = *thread * 10 + (unsigned)(name[i] - '0');
	}
	return *thread < LITMUS_THREADS;
}

static bool column_heading(struct lexer *lexer, struct litmus_test *test)
{
	struct litmus_column *column = &test->column[test->columns];
	unsigned thread;
	bool handler;

	if (lexer->kind != LEX_NAME || !parse_thread(lexer->word, lexer->length, &thread, &handler))
		return lexer_expected(lexer, "a thread as P0, or its handler as P0.F");
	for (unsigned i = 0; i < test->columns; i++)
		if (test->column[i].thread == thread && test->column[i].handler == handler)
			return lexer_wrong(lexer, "expected each thread once");
	/* A handler stands behind its thread. */
	if (handler ? thread >= test->threads : thread != test->threads)
		return lexer_wrong(lexer, "expected threads in their order, from P0 on");
	*column = (struct litmus_column){.thread = (uint8_t)thread, .handler = handler};
	test->columns++;
	test->threads += !handler;
	lexer_next(lexer);
	return true;
}

static bool headings(struct lexer *lexer, struct litmus_test *test)
{
	do {
		if (test->columns == 2 * LITMUS_THREADS)
			return lexer_wrong(lexer, "expected at most %d threads", LITMUS_THREADS);
		if (!column_heading(lexer, test))
			return false;
	} while (lexer_skip(lexer, '|'));
	return lexer_need(lexer, ';');
}

const struct litmus_label *parse_label(const struct litmus_test *test, unsigned thread,
                                       const char *name)
{
	for (unsigned i = 0; i < test->labels; i++)
		if (test->label[i].thread == thread && strcmp(test->label[i].name, name) == 0)
			return &test->label[i];
	return NULL;
}

/* The place of a label is, for now, the number of the instruction in its column. */
static bool add_label(struct lexer *lexer, struct program *program, unsigned column,
                      const char *name)
{
	struct litmus_test *test = program->test;
	unsigned thread = test->column[column].thread;
	struct litmus_label *label = &test->label[test->labels];

	if (parse_label(test, thread, name))
		return lexer_wrong(lexer, "expected each label once in a thread: '%s'", name);
	if (test->labels == LITMUS_LABELS)
		return lexer_wrong(lexer, "expected at most %d labels", LITMUS_LABELS);
	snprintf(label->name, sizeof(label->name), "%s", name);
	label->thread = (uint8_t)thread;
	label->place = (uint8_t)program->count[column];
	/* which of the thread's columns: completed by lay_out() */
	label->place |= test->column[column].handler ? 128 : 0;
	test->labels++;
	return true;
}

struct label_finder {
	const struct litmus_test *test;
	unsigned thread;
};

static bool find_label(const void *arg, const char *name, uint64_t *address)
{
	const struct label_finder *finder = arg;
	const struct litmus_label *label = parse_label(finder->test, finder->thread, name);

	if (label)
		*address = finder->test->place[label->place].address;
	return label != NULL;
}

static bool cell_ends(const struct lexer *lexer)
{
	return lexer_is(lexer, '|') || lexer_is(lexer, ';') || lexer->kind == LEX_END;
}

static bool instruction(struct lexer *lexer, struct program *program, unsigned column)
{
	struct litmus_test *test = program->test;
	const struct litmus_column *c = &test->column[column];
	struct litmus_place *place = &test->place[c->first + program->count[column]];
	const struct label_finder finder = {test, c->thread};
	const struct assemble_labels labels = {find_label, &finder, place->address};
	uint32_t opcode;

	if (!program->places) {
		while (!cell_ends(lexer))
			lexer_next(lexer);
		return true;
	}
	if (!assemble(lexer, &labels, &opcode))
		return false;
	place->value = opcode;
	return cell_ends(lexer) || lexer_expected(lexer, "'|' or ';' behind an instruction");
}

/* Labels, and at most one instruction. */
static bool cell(struct lexer *lexer, struct program *program, unsigned column)
{
	while (lexer->kind == LEX_NAME) {
		struct lexer ahead = *lexer;
		char name[LITMUS_NAME];

		lexer_next(&ahead);
		if (!lexer_is(&ahead, ':'))
			break;
		if (!program->places && (!lexer_copy(lexer, name, sizeof(name)) ||
		                         !add_label(lexer, program, column, name)))
			return false;
		lexer_next(lexer);
		lexer_next(lexer);
	}
	if (cell_ends(lexer))
		return true;
	if (!instruction(lexer, program, column))
		return false;
	if (++program->count[column] >= 100)
		return lexer_wrong(lexer, "expected fewer than 100 instructions in a thread");
	return true;
}

static bool rows(struct lexer *lexer, struct program *program)
{
	for (unsigned row = 0; !parse_condition_begins(lexer); row++) {
		unsigned column = 0;

		if (row == ROWS_MAX)
			return lexer_wrong(lexer, "expected at most %d rows", ROWS_MAX);
		for (;;) {
			if (!cell(lexer, program, column))
				return false;
			if (lexer_skip(lexer, ';'))
				break;
			if (!lexer_is(lexer, '|'))
				return lexer_expected(lexer, "'|' or ';'");
			if (++column == program->test->columns)
				return lexer_expected(lexer, "';': there are no more threads");
			lexer_next(lexer);
		}
	}
	return true;
}

/* Places for the instructions of all columns, and for what labels name. */
static bool lay_out(struct lexer *lexer, const struct program *program)
{
	struct litmus_test *test = program->test;

	for (unsigned c = 0; c < test->columns; c++) {
		struct litmus_column *column = &test->column[c];

		if (test->places + program->count[c] + 1 > LITMUS_PLACES)
			return lexer_wrong(lexer, "expected at most %d instructions and data",
			                   LITMUS_PLACES);
		column->first = (uint8_t)test->places;
		for (unsigned i = 0; i <= program->count[c]; i++)
			test->place[test->places++] = (struct litmus_place){
			        .code = true,
			        .end = i == program->count[c],
			        .address = LITMUS_CODE + c * LITMUS_CODE_STEP + 4 * i};
		column->end = (uint8_t)(test->places - 1);
		for (unsigned i = 0; i < test->labels; i++) {
			struct litmus_label *label = &test->label[i];

			if (label->thread == column->thread && label->place >> 7 == column->handler)
				label->place = (uint8_t)((label->place & 127) + column->first);
		}
	}
	return true;
}

bool parse_program(struct lexer *lexer, struct litmus_test *test)
{
	struct program program = {.test = test};
	struct lexer begin;

	if (!headings(lexer, test))
		return false;
	begin = *lexer;
	if (!rows(lexer, &program) || !lay_out(lexer, &program))
		return false;
	memset(program.count, 0, sizeof(program.count));
	program.places = true;
	*lexer = begin;
	return rows(lexer, &program);
}
