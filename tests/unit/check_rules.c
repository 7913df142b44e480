/* SPDX-License-Identifier: MIT */
/*
 * check_rules.c - every rule of the simulated machine matters.
 *
 * One rule at a time is broken. Some verdict must then differ from what is expected: a scenario
 * that no longer holds, or a mutant that nobody refutes any more. Otherwise the rule could be
 * wrong, too, and nobody would see it.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "check/check.h"
#include "port/model/rule.h"
#include "tap.h"

static const char *const names[] = {"none",
#define NAME(id, what) #id ": " what,
                                    MODEL_RULES(NAME)
#undef NAME
};

static struct check_job *jobs;
static unsigned count;
/* Cheap ones first. */
static struct cost {
	double milliseconds;
	const struct check_job *job;
} * cost;

static const struct scenario *scenario_of(const char *name)
{
	for (unsigned i = 0; i < scenarios_count; i++)
		if (strcmp(scenario_name(scenarios[i]), name) == 0)
			return scenarios[i];
	return NULL;
}

static const struct machine *machine_of(const char *name)
{
	for (unsigned i = 0; i < machines_count; i++)
		if (strcmp(machines[i].name, name) == 0)
			return &machines[i];
	return NULL;
}

static void collect(void)
{
	jobs = calloc(mutants_count + scenarios_count * machines_count, sizeof(*jobs));
	for (unsigned i = 0; i < mutants_count; i++)
		jobs[count++] = (struct check_job){.machine = machine_of(mutants[i].machine),
		                                   .scenario = scenario_of(mutants[i].scenario),
		                                   .mutant = &mutants[i]};
	for (unsigned i = 0; i < scenarios_count; i++)
		for (unsigned k = 0; k < machines_count; k++)
			jobs[count++] = (struct check_job){.machine = &machines[k],
			                                   .scenario = scenarios[i]};
}

struct finding {
	char what[400];
};

static bool differs(const struct check_job *base, unsigned rule, char *what, size_t size)
{
	struct check_job job = *base;
	struct check_result result;
	bool found;

	job.broken_rule = rule;
	check_run(&job, NULL, &result);
	found = result.verdict != result.expected;
	if (found)
		snprintf(what, size, "%s on %s%s%s: %s", scenario_name(job.scenario),
		         job.machine->name, job.mutant ? " without " : "",
		         job.mutant ? job.mutant->name : "",
		         result.verdict == VERDICT_REFUTED ? result.trace.property
		         : result.verdict == VERDICT_HOLDS ? "holds"
		                                           : "incomplete");
	check_result_free(&result);
	return found;
}

static struct finding findings[RULE_COUNT];
static unsigned next;

/* No rule is broken: what each job costs. */
static void *measure(void *arg)
{
	(void)arg;
	for (;;) {
		unsigned i = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED);
		struct check_result result;

		if (i >= count)
			return NULL;
		check_run(&jobs[i], NULL, &result);
		if (result.verdict != result.expected)
			snprintf(findings[0].what, sizeof(findings[0].what), "%s on %s",
			         scenario_name(jobs[i].scenario), jobs[i].machine->name);
		cost[i] = (struct cost){result.milliseconds, &jobs[i]};
		check_result_free(&result);
	}
}

static int by_cost(const void *a, const void *b)
{
	const struct cost *x = a, *y = b;

	return (x->milliseconds > y->milliseconds) - (x->milliseconds < y->milliseconds);
}

static void *break_rules(void *arg)
{
	(void)arg;
	for (;;) {
		unsigned rule = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED) + 1;
		struct finding *finding;

		if (rule >= RULE_COUNT)
			return NULL;
		finding = &findings[rule];
		for (unsigned i = 0; i < count && !finding->what[0]; i++)
			differs(cost[i].job, rule, finding->what, sizeof(finding->what));
	}
}

static int in_two(void *(*work)(void *))
{
	pthread_t other;

	next = 0;
	if (pthread_create(&other, NULL, work, NULL))
		return -1;
	work(NULL);
	return pthread_join(other, NULL);
}

int main(void)
{
	collect();
	for (unsigned i = 0; i < count; i++)
		if (!jobs[i].machine || !jobs[i].scenario)
			return 1;
	cost = calloc(count, sizeof(*cost));
	if (!cost || in_two(measure))
		return 1;
	qsort(cost, count, sizeof(*cost), by_cost);
	if (in_two(break_rules))
		return 1;
	ok(!findings[0].what[0], "no rule broken: all verdicts are as expected %s",
	   findings[0].what);
	for (unsigned rule = 1; rule < RULE_COUNT; rule++)
		ok(findings[rule].what[0], "%s%s%s", names[rule],
		   findings[rule].what[0] ? " -> " : "", findings[rule].what);
	free(jobs);
	free(cost);
	return done();
}
