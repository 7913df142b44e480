/* SPDX-License-Identifier: MIT */
/* lexer.h - a litmus test as words; comments in (* *) are blanks. */
#ifndef SUTURE_LITMUS_LEXER_H
#define SUTURE_LITMUS_LEXER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum lexer_kind {
	LEX_END,
	LEX_NAME,   /* letters, digits, _ . $ ' */
	LEX_NUMBER, /* decimal or hexadecimal, without a sign */
	LEX_STRING, /* "..." */
	LEX_AND,    /* /\ */
	LEX_OR,     /* \/ */
	LEX_SYMBOL, /* one character: `symbol` */
};

struct lexer {
	const char *at, *end; /* behind the current word */
	unsigned line;        /* of the current word */
	unsigned next_line;
	/* the current word */
	enum lexer_kind kind;
	char symbol;
	const char *word;
	size_t length; /* a string's without its quotes */
	uint64_t number;
	/* the first complaint: "LINE: expected ..." */
	char *error;
	size_t error_size;
	bool failed;
};

void lexer_open(struct lexer *lexer, const char *text, size_t size, char *error, size_t error_size);
/* Go on to the next word. */
void lexer_next(struct lexer *lexer);
bool lexer_is(const struct lexer *lexer, char symbol);
/* Letters of either case. */
bool lexer_is_name(const struct lexer *lexer, const char *name);
/* If it is there, it is gone past. */
bool lexer_skip(struct lexer *lexer, char symbol);
bool lexer_skip_name(struct lexer *lexer, const char *name);
/* It must be there. Returns false after a complaint. */
bool lexer_need(struct lexer *lexer, char symbol);
/* Complains once: what was expected here. Returns false. */
bool lexer_expected(struct lexer *lexer, const char *what);
/* Any other complaint. Returns false. */
bool lexer_wrong(struct lexer *lexer, const char *format, ...)
        __attribute__((format(printf, 2, 3)));
/* Copies the current word; false after a complaint if it is too long. */
bool lexer_copy(struct lexer *lexer, char *out, size_t size);
/* The rest of the line, without blanks around it, and comments left out; goes past it. */
void lexer_rest_of_line(struct lexer *lexer, char *out, size_t size);

#endif
