/* SPDX-License-Identifier: MIT */
/* lexer.c - words of a litmus test. */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "check/litmus/lexer.h"

void lexer_open(struct lexer *lexer, const char *text, size_t size, char *error, size_t error_size)
{
	*lexer = (struct lexer){.at = text,
	                        .end = text + size,
	                        .line = 1,
	                        .next_line = 1,
	                        .word = text,
	                        .error = error,
	                        .error_size = error_size};
}

bool lexer_wrong(struct lexer *lexer, const char *format, ...)
{
	va_list arguments;
	int n;

	if (lexer->failed)
		return false;
	lexer->failed = true;
	n = snprintf(lexer->error, lexer->error_size, "%u: ", lexer->line);
	if (n < 0 || (size_t)n >= lexer->error_size)
		return false;
	va_start(arguments, format);
	vsnprintf(lexer->error + n, lexer->error_size - (size_t)n, format, arguments);
	va_end(arguments);
	/* A file may hold anything; a terminal shall not. */
	for (char *c = lexer->error; *c; c++)
		if ((unsigned char)*c < ' ' || (unsigned char)*c >= 127)
			*c = '?';
	return false;
}

bool lexer_expected(struct lexer *lexer, const char *what)
{
	int length = lexer->length > 40 ? 40 : (int)lexer->length;

	if (lexer->kind == LEX_END)
		return lexer_wrong(lexer, "expected %s, found the end", what);
	return lexer_wrong(lexer, "expected %s, found '%.*s'", what, length, lexer->word);
}

static bool starts(const struct lexer *lexer, const char *two)
{
	return lexer->end - lexer->at >= 2 && lexer->at[0] == two[0] && lexer->at[1] == two[1];
}

static void skip_comment(struct lexer *lexer)
{
	unsigned depth = 0;

	do {
		if (starts(lexer, "(*")) {
			depth++;
			lexer->at++;
		} else if (starts(lexer, "*)")) {
			depth--;
			lexer->at++;
		} else if (*lexer->at == '\n') {
			lexer->next_line++;
		}
		lexer->at++;
	} while (depth && lexer->at < lexer->end);
	if (depth) {
		lexer->line = lexer->next_line;
		lexer_wrong(lexer, "expected the end of a comment, found the end");
	}
}

static void skip_blanks(struct lexer *lexer)
{
	while (lexer->at < lexer->end) {
		if (starts(lexer, "(*")) {
			skip_comment(lexer);
		} else if (isspace((unsigned char)*lexer->at)) {
			lexer->next_line += *lexer->at == '\n';
			lexer->at++;
		} else {
			break;
		}
	}
}

static bool in_name(char c)
{
	return isalnum((unsigned char)c) || c == '_' || c == '.' || c == '$' || c == '\'';
}

static unsigned digit(char c)
{
	return isdigit((unsigned char)c)    ? (unsigned)(c - '0')
	       : isxdigit((unsigned char)c) ? (unsigned)(tolower((unsigned char)c) - 'a') + 10
	                                    : 16;
}

static void number(struct lexer *lexer)
{
	unsigned base = 10;

	lexer->number = 0;
	if (starts(lexer, "0x") || starts(lexer, "0X")) {
		base = 16;
		lexer->at += 2;
	}
	if (lexer->at == lexer->end || digit(*lexer->at) >= base)
		lexer_wrong(lexer, "expected a digit");
	for (; lexer->at < lexer->end && digit(*lexer->at) < base; lexer->at++) {
		if (lexer->number > (UINT64_MAX - digit(*lexer->at)) / base)
			lexer_wrong(lexer, "expected a number of at most 64 bits");
		lexer->number = lexer->number * base + digit(*lexer->at);
	}
	lexer->kind = LEX_NUMBER;
}

static void string(struct lexer *lexer)
{
	lexer->word = ++lexer->at;
	while (lexer->at < lexer->end && *lexer->at != '"' && *lexer->at != '\n')
		lexer->at++;
	lexer->length = (size_t)(lexer->at - lexer->word);
	lexer->kind = LEX_STRING;
	if (lexer->at == lexer->end || *lexer->at != '"')
		lexer_wrong(lexer, "expected the end of a string");
	else
		lexer->at++;
}

void lexer_next(struct lexer *lexer)
{
	skip_blanks(lexer);
	lexer->line = lexer->next_line;
	lexer->word = lexer->at;
	lexer->length = 0;
	lexer->symbol = '\0';
	lexer->kind = LEX_END;
	/* After a complaint there is nothing more. */
	if (lexer->at >= lexer->end || lexer->failed)
		return;
	if (*lexer->at == '"') {
		string(lexer);
		return;
	}
	if (isdigit((unsigned char)*lexer->at)) {
		number(lexer);
	} else if (isalpha((unsigned char)*lexer->at) || *lexer->at == '_') {
		while (lexer->at < lexer->end && in_name(*lexer->at))
			lexer->at++;
		lexer->kind = LEX_NAME;
	} else if (starts(lexer, "/\\") || starts(lexer, "\\/")) {
		lexer->kind = *lexer->at == '/' ? LEX_AND : LEX_OR;
		lexer->at += 2;
	} else {
		lexer->kind = LEX_SYMBOL;
		lexer->symbol = *lexer->at++;
	}
	lexer->length = (size_t)(lexer->at - lexer->word);
}

bool lexer_is(const struct lexer *lexer, char symbol)
{
	return lexer->kind == LEX_SYMBOL && lexer->symbol == symbol;
}

bool lexer_is_name(const struct lexer *lexer, const char *name)
{
	return lexer->kind == LEX_NAME && strlen(name) == lexer->length &&
	       strncasecmp(name, lexer->word, lexer->length) == 0;
}

bool lexer_skip(struct lexer *lexer, char symbol)
{
	bool there = lexer_is(lexer, symbol);

	if (there)
		lexer_next(lexer);
	return there;
}

bool lexer_skip_name(struct lexer *lexer, const char *name)
{
	bool there = lexer_is_name(lexer, name);

	if (there)
		lexer_next(lexer);
	return there;
}

bool lexer_need(struct lexer *lexer, char symbol)
{
	const char what[] = {'\'', symbol, '\'', '\0'};

	return lexer_skip(lexer, symbol) || lexer_expected(lexer, what);
}

bool lexer_copy(struct lexer *lexer, char *out, size_t size)
{
	if (lexer->length >= size)
		return lexer_wrong(lexer, "expected a name of fewer than %zu letters", size);
	memcpy(out, lexer->word, lexer->length);
	out[lexer->length] = '\0';
	return true;
}

void lexer_rest_of_line(struct lexer *lexer, char *out, size_t size)
{
	size_t n = 0;

	while (lexer->at < lexer->end && *lexer->at != '\n') {
		if (starts(lexer, "(*")) {
			skip_comment(lexer);
			continue;
		}
		if (n + 1 < size && (n || !isspace((unsigned char)*lexer->at)))
			out[n++] = *lexer->at;
		lexer->at++;
	}
	while (n && isspace((unsigned char)out[n - 1]))
		n--;
	out[n] = '\0';
	lexer_next(lexer);
}
