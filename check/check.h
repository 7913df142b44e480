/* SPDX-License-Identifier: MIT */
/*
 * check.h - the parts of suture-check: a job is one scenario on one machine, perhaps with a mutant.
 *
 *   machines.c    the table of machines        scenarios/  what is patched, who runs meanwhile
 *   mutants.c     steps left out, history's bugs
 *   explore.c     all interleavings and cache behaviours of one job; the shortest counterexample
 *   timeline.c svg.c   a counterexample for people
 *   report.c main.c    progress, table, JSON, command line
 */
#ifndef SUTURE_CHECK_H
#define SUTURE_CHECK_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "port/model/machine.h"

struct scenario; /* check/scenario.h */

enum verdict {
	VERDICT_HOLDS,
	VERDICT_REFUTED,
	VERDICT_NOT_APPLICABLE, /* `reason` says why it cannot exist there */
	VERDICT_INCOMPLETE,     /* out of memory or states; never expected */
};

/* The shipped protocol with one thing wrong. */
struct mutant {
	const char *name;
	const char *what;     /* one sentence */
	const char *scenario; /* where it is refuted */
	const char *machine;  /* where it was seen, or shows */
	unsigned point;       /* enum port_point that is left out, or 0 */
	unsigned variant;     /* otherwise: what the scenario's threads do instead */
	bool historical;      /* a bug that was in the field; false: an ordering point */
	bool harmless;        /* it holds: the step is not needed on this machine */
};
extern const struct mutant mutants[];
extern const unsigned mutants_count;

extern const struct scenario *const scenarios[];
extern const unsigned scenarios_count;
const char *scenario_name(const struct scenario *scenario);
const char *scenario_what(const struct scenario *scenario); /* one sentence */
/* Case of DESIGN.md's table that it is about, or NULL. */
const char *scenario_case(const struct scenario *scenario);

/* ---- a counterexample ---- */

enum { TRACE_CHANGES_MAX = 8, TRACE_CORES_MAX = 4 };

/* What a place in the machine may hold after the step. */
struct trace_change {
	char place[40]; /* "I-cache of core 1", "D-cache, alias", "memory", "fetched by core 1" */
	char holds[48]; /* "old", "old or trap", "torn 48 CC" */
	bool stale;     /* it may hold something that memory does not */
};

struct trace_row {
	int core;       /* -1: the machine */
	char what[240]; /* "writes trap through the alias" */
	struct trace_change changes[TRACE_CHANGES_MAX];
	unsigned count;
	bool violation; /* the last row */
};

struct trace {
	unsigned cores;
	char role[TRACE_CORES_MAX][32]; /* "patcher", "runs the site" */
	struct trace_row *rows;
	unsigned count;
	char property[200]; /* what does not hold, one sentence */
};

/* ---- a job ---- */

struct check_job {
	const struct machine *machine;
	const struct scenario *scenario;
	const struct mutant *mutant; /* or NULL: as shipped */
	unsigned broken_rule;        /* of the machine (port/model/rule.h), for a test; or 0 */
};

struct check_result {
	enum verdict verdict, expected;
	const char *reason; /* VERDICT_NOT_APPLICABLE */
	uint32_t states;
	uint64_t steps;  /* transitions */
	uint64_t memory; /* bytes at the peak */
	double milliseconds;
	struct trace trace; /* VERDICT_REFUTED */
};

struct check_limits {
	uint32_t states; /* 0: 50,000,000 */
	uint64_t memory; /* bytes for one job, 0: 900 MiB */
	uint64_t hash;   /* bits of the hashes that are used, for a test; 0: all */
};

/* Reentrant: several jobs may run in several threads. */
void check_run(const struct check_job *job, const struct check_limits *limits,
               struct check_result *result);
void check_result_free(struct check_result *result);

/* The sources of the shipped protocol that were compiled into this binary, NULL-terminated. */
extern const char *const check_sources[];

/* ---- for people ---- */

/* A table: one column a core, one row a step, what changed in the caches; `width` in columns. */
void timeline_print(FILE *out, const struct check_job *job, const struct check_result *result,
                    unsigned width);
/* The same as a picture that explains itself. Returns 0 or a negative errno. */
int svg_write(const char *file, const struct check_job *job, const struct check_result *result);

#endif
