/* SPDX-License-Identifier: MIT */
/* report.h - what suture-check tells: progress, tables, lists, JSON, complaints. */
#ifndef SUTURE_CHECK_REPORT_H
#define SUTURE_CHECK_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include "check/check.h"

enum { REPORT_COLUMNS = 100 };

/* A job and what became of it. */
struct run {
	struct check_job job;
	struct check_result result;
	/* A mutant that runs elsewhere than where it belongs may hold or not: nobody said so. */
	bool has_expectation;
};

struct outcome {
	struct run *runs;
	unsigned count;
	unsigned jobs; /* that ran at a time */
	double milliseconds;
	uint64_t peak_memory; /* bytes, of the process */
};

enum report_detail { REPORT_QUIET, REPORT_NORMAL, REPORT_VERBOSE };

const char *verdict_name(enum verdict verdict);
bool run_as_expected(const struct run *run);
unsigned outcome_unexpected(const struct outcome *outcome);

/* Tables, the counterexamples that nobody expected, one line of summary. */
void report_print(FILE *out, const struct outcome *outcome, enum report_detail detail);
void report_list(FILE *out);

/* The same for programs; 0 or a negative errno. */
int json_print_outcome(FILE *out, const struct outcome *outcome);
int json_print_list(FILE *out);

/* One line on standard error. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- words into lines (timeline.c) ---- */

/* How wide the first `size` bytes of a text come out. */
typedef double text_measure(const char *text, size_t size);
text_measure text_columns;

/*
 * The next line of *text that is no wider than `width`, broken between words where possible;
 * advances *text behind it. NULL at the end.
 */
const char *text_wrap(const char **text, double width, text_measure *measure, size_t *size);

/* ---- a row of a counterexample, for both ways to show it (timeline.c) ---- */

/* Places that hold the same after a step. */
struct trace_group {
	char places[TRACE_CHANGES_MAX * (sizeof(((struct trace_change *)0)->place) + 3)];
	const struct trace_change *change; /* what they hold, as that of one of them */
};

/* Returns how many. */
unsigned trace_groups(const struct trace_row *row, struct trace_group out[TRACE_CHANGES_MAX]);
/* What the columns are: on a machine with one core they are the threads that share it. */
const char *trace_column_name(const struct check_job *job);

#endif
