/* SPDX-License-Identifier: MIT */
/* json.c - reports for programs; their form is documented in suture-check(1). */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "check/report.h"

/* JSON is UTF-8; a text that was cut to its field may end within a letter. */
static json_t *json_text(const char *text)
{
	json_t *value;
	char *copy;

	if (!text)
		return json_null();
	value = json_string(text);
	if (value)
		return value;
	copy = strdup(text);
	if (!copy)
		return NULL;
	for (char *c = copy; *c; c++)
		if (*c & 0x80)
			*c = '?';
	value = json_string(copy);
	free(copy);
	return value;
}

/* A NULL item, memory that ran out, makes all of the array NULL. */
static json_t *array_add(json_t *array, json_t *item)
{
	if (!array) {
		json_decref(item);
		return NULL;
	}
	if (!item || json_array_append_new(array, item)) {
		json_decref(array);
		return NULL;
	}
	return array;
}

static json_t *json_sources(void)
{
	json_t *array = json_array();

	for (const char *const *source = check_sources; *source; source++)
		array = array_add(array, json_text(*source));
	return array;
}

/* ---- results ---- */

static json_t *json_changes(const struct trace_row *row)
{
	json_t *array = json_array();

	for (unsigned i = 0; i < row->count; i++) {
		const struct trace_change *change = &row->changes[i];

		array = array_add(array, json_pack("{so so sb}", "place", json_text(change->place),
		                                   "holds", json_text(change->holds), "stale",
		                                   change->stale));
	}
	return array;
}

static json_t *json_rows(const struct trace *trace)
{
	json_t *array = json_array();

	for (unsigned i = 0; i < trace->count; i++) {
		const struct trace_row *row = &trace->rows[i];

		array = array_add(array,
		                  json_pack("{si so so so sb}", "step", (int)i + 1, "core",
		                            row->core < 0 ? json_null() : json_integer(row->core),
		                            "what", json_text(row->what), "changes",
		                            json_changes(row), "violation", row->violation));
	}
	return array;
}

static json_t *json_trace(const struct run *run)
{
	const struct trace *trace = &run->result.trace;
	json_t *roles;

	if (run->result.verdict != VERDICT_REFUTED)
		return json_null();
	roles = json_array();
	for (unsigned i = 0; i < trace->cores && i < TRACE_CORES_MAX; i++)
		roles = array_add(roles, json_text(trace->role[i]));
	return json_pack("{si so so so}", "cores", (int)trace->cores, "roles", roles, "rows",
	                 json_rows(trace), "property", json_text(trace->property));
}

static json_t *json_result(const struct run *run)
{
	const struct check_job *job = &run->job;
	const struct check_result *result = &run->result;
	json_t *expected =
	        run->has_expectation ? json_text(verdict_name(result->expected)) : json_null();
	/* Only a verdict of this kind sets it. */
	const char *reason =
	        result->verdict == VERDICT_NOT_APPLICABLE || result->verdict == VERDICT_INCOMPLETE
	                ? result->reason
	                : NULL;

	return json_pack("{so so so so ss so so sI sI sf sI so}", "machine",
	                 json_text(job->machine->name), "scenario",
	                 json_text(scenario_name(job->scenario)), "case",
	                 json_text(scenario_case(job->scenario)), "mutant",
	                 json_text(job->mutant ? job->mutant->name : NULL), "verdict",
	                 verdict_name(result->verdict), "expected", expected, "reason",
	                 json_text(reason), "states", (json_int_t)result->states, "steps",
	                 (json_int_t)result->steps, "ms", result->milliseconds, "memory",
	                 (json_int_t)result->memory, "trace", json_trace(run));
}

static json_t *json_results(const struct outcome *outcome)
{
	json_t *array = json_array();

	for (unsigned i = 0; i < outcome->count; i++)
		array = array_add(array, json_result(&outcome->runs[i]));
	return array;
}

static json_t *json_summary(const struct outcome *outcome)
{
	unsigned verdicts[VERDICT_INCOMPLETE + 1] = {0};
	unsigned unexpected = outcome_unexpected(outcome);
	uint64_t states = 0, steps = 0;

	for (unsigned i = 0; i < outcome->count; i++) {
		verdicts[outcome->runs[i].result.verdict]++;
		states += outcome->runs[i].result.states;
		steps += outcome->runs[i].result.steps;
	}
	return json_pack("{si si si si si si sb sI sI sf sI si}", "verdicts", (int)outcome->count,
	                 "holds", (int)verdicts[VERDICT_HOLDS], "refuted",
	                 (int)verdicts[VERDICT_REFUTED], "not_applicable",
	                 (int)verdicts[VERDICT_NOT_APPLICABLE], "incomplete",
	                 (int)verdicts[VERDICT_INCOMPLETE], "unexpected", (int)unexpected,
	                 "as_expected", unexpected == 0, "states", (json_int_t)states, "steps",
	                 (json_int_t)steps, "ms", outcome->milliseconds, "memory",
	                 (json_int_t)outcome->peak_memory, "jobs", (int)outcome->jobs);
}

/* ---- the list ---- */

static json_t *json_machines(void)
{
	json_t *array = json_array();

	for (unsigned i = 0; i < machines_count; i++)
		array = array_add(array,
		                  json_pack("{so so so}", "name", json_text(machines[i].name),
		                            "what", json_text(machines[i].what), "source",
		                            json_text(machines[i].source)));
	return array;
}

static json_t *json_scenarios(void)
{
	json_t *array = json_array();

	for (unsigned i = 0; i < scenarios_count; i++)
		array = array_add(array, json_pack("{so so so}", "name",
		                                   json_text(scenario_name(scenarios[i])), "what",
		                                   json_text(scenario_what(scenarios[i])), "case",
		                                   json_text(scenario_case(scenarios[i]))));
	return array;
}

static json_t *json_mutants(void)
{
	json_t *array = json_array();

	for (unsigned i = 0; i < mutants_count; i++) {
		const struct mutant *mutant = &mutants[i];

		array = array_add(array,
		                  json_pack("{so so so so sb sb}", "name", json_text(mutant->name),
		                            "what", json_text(mutant->what), "machine",
		                            json_text(mutant->machine), "scenario",
		                            json_text(mutant->scenario), "historical",
		                            mutant->historical, "harmless", mutant->harmless));
	}
	return array;
}

/* Consumes `root`; NULL means that memory ran out while it was built. */
static int json_print(json_t *root, FILE *out)
{
	int failed;

	if (!root)
		return -ENOMEM;
	failed = json_dumpf(root, out, JSON_INDENT(1) | JSON_REAL_PRECISION(6));
	json_decref(root);
	fputc('\n', out);
	return failed ? -EIO : 0;
}

int json_print_outcome(FILE *out, const struct outcome *outcome)
{
	return json_print(json_pack("{ss so so so}", "version", SUTURE_VERSION, "sources",
	                            json_sources(), "results", json_results(outcome), "summary",
	                            json_summary(outcome)),
	                  out);
}

int json_print_list(FILE *out)
{
	return json_print(json_pack("{ss so so so so}", "version", SUTURE_VERSION, "sources",
	                            json_sources(), "machines", json_machines(), "scenarios",
	                            json_scenarios(), "mutants", json_mutants()),
	                  out);
}
