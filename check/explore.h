/* SPDX-License-Identifier: MIT */
/* explore.h - the search, and what it tells of a counterexample. */
#ifndef SUTURE_CHECK_EXPLORE_H
#define SUTURE_CHECK_EXPLORE_H

#include "check/check.h"
#include "check/intern.h"
#include "port/model/model.h"

/* Fills everything of the result but `expected`. */
void explore(const struct world *world, const struct check_limits *limits,
             struct check_result *result);

/* trace.c: one row for each transition. 0 or -ENOMEM. */
int trace_open(struct trace *trace, const struct world *world);
/* The step that led from one state to the other, as the port told it. */
int trace_add(struct trace *trace, const struct port *port, const struct model_state *before,
              const struct model_state *after, int core);
/* A row for who waits for ever in this state. */
int trace_wait(struct trace *trace, const struct world *world, const struct model_state *state);
void trace_finish(struct trace *trace, const char *property);
void trace_free(struct trace *trace);
/* A copy that lives as long as the program: for the few words of a fault. */
const char *trace_keep(const char *text);

#endif
