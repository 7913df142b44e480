/* SPDX-License-Identifier: MIT */
/* parse.h - between the files that read a test. */
#ifndef SUTURE_LITMUS_PARSE_H
#define SUTURE_LITMUS_PARSE_H

#include "check/litmus/lexer.h"
#include "check/litmus/litmus.h"

/* The place that data of this name is, made if there is none yet; false after a complaint. */
bool parse_data(struct lexer *lexer, struct litmus_test *test, const char *name, unsigned *index);
/* A label of a thread, or NULL. */
const struct litmus_label *parse_label(const struct litmus_test *test, unsigned thread,
                                       const char *name);
/* "P12", or "P12.F" with `handler`; false if it is none. */
bool parse_thread(const char *name, size_t length, unsigned *thread, bool *handler);
/* A number, a name, a label, an instruction, as a value. */
bool parse_value(struct lexer *lexer, struct litmus_test *test, uint64_t *value);
/* "X1" of a register that a test may name; false without a complaint. */
bool parse_register(struct lexer *lexer, uint8_t *reg);

/* program.c: the table, up to the condition. */
bool parse_program(struct lexer *lexer, struct litmus_test *test);
/* condition.c: what comes behind the program. */
bool parse_condition(struct lexer *lexer, struct litmus_test *test);
/* Does the current word begin it? */
bool parse_condition_begins(const struct lexer *lexer);

#endif
