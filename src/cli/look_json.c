// SPDX-License-Identifier: MIT
/* look_json.c - what list, explain and doctor say, for programs; documented in suture(1). */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/json.h"

static json_t *json_hex(uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "0x%" PRIx64, value);
	return json_string(text);
}

static json_t *json_kind(enum suture_site_kind kind)
{
	return kind ? json_string(suture_site_kind_name(kind)) : json_null();
}

static json_t *json_site(const struct suture_survey *survey)
{
	json_t *symbol = NULL;
	char *name;

	if (!survey->symbol || !survey->offset) {
		symbol = json_text(survey->symbol);
	} else if (asprintf(&name, "%s+0x%" PRIx64, survey->symbol, survey->offset) >= 0) {
		symbol = json_text(name);
		free(name);
	}
	return json_pack("{so so so so sI so si so}", "module", json_text(survey->module), "symbol",
	                 symbol, "address", json_hex(survey->address), "vaddr",
	                 json_hex(survey->vaddr), "size", (json_int_t)survey->size, "kind",
	                 json_kind(survey->kind), "shift", (int)survey->shift, "reason",
	                 json_text(survey->reason));
}

static bool add(json_t *array, json_t *value)
{
	return json_array_append_new(array, value) == 0;
}

/* An array of count() values that make(i) makes; NULL if memory runs out. */
static json_t *json_counts(const char *name, const struct kinds *kinds)
{
	return json_pack("{so sI sI sI sI}", "module", json_text(name), "pun",
	                 (json_int_t)kinds->pun, "window", (json_int_t)kinds->window, "uprobe",
	                 (json_int_t)kinds->uprobe, "refused", (json_int_t)kinds->refused);
}

static json_t *json_modules(const struct suture_target *target)
{
	json_t *array = json_array();
	struct suture_module module;

	for (size_t m = 0; array && suture_target_module(target, m, &module) == 0; m++) {
		struct suture_survey survey;
		struct kinds kinds = {0};
		json_t *value;

		for (size_t i = 0; suture_target_surveyed(target, i, &survey) == 0; i++)
			if (survey.module == module.name)
				kinds_add(&kinds, &survey);
		value = json_counts(module.name, &kinds);
		if (value && (json_object_set_new(value, "path", json_text(module.path)) ||
		              json_object_set_new(value, "error",
		                                  module.error ? json_text(strerror(-module.error))
		                                               : json_null()))) {
			json_decref(value);
			value = NULL;
		}
		if (!add(array, value)) {
			json_decref(array);
			return NULL;
		}
	}
	return array;
}

static json_t *json_sites(const struct suture_target *target)
{
	json_t *array = json_array();
	struct suture_survey survey;

	for (size_t i = 0; array && suture_target_surveyed(target, i, &survey) == 0; i++)
		if (!add(array, json_site(&survey))) {
			json_decref(array);
			return NULL;
		}
	return array;
}

int json_print_list(const struct suture_target *target, pid_t pid, bool summary, FILE *out)
{
	return json_print(json_pack("{si so so so}", "pid", (int)pid, "obstacle",
	                            json_text(suture_target_obstacle(target, NULL)), "modules",
	                            json_modules(target), "functions",
	                            summary ? json_array() : json_sites(target)),
	                  out);
}

/* ---- explain ---- */

static json_t *json_bytes(const uint8_t *bytes, size_t size)
{
	char text[2 * SUTURE_EXPLAIN_BYTES + 1] = "";

	for (size_t i = 0; i < size; i++)
		snprintf(text + 2 * i, 3, "%02x", bytes[i]);
	return json_string(text);
}

static bool add_instructions(json_t *array, const struct suture_explanation *e)
{
	for (size_t i = 0; i < e->instruction_count; i++) {
		const struct suture_instruction *line = &e->instructions[i];

		if (!add(array, json_pack("{si si so}", "offset", line->offset, "length",
		                          line->length, "text", json_text(line->text))))
			return false;
	}
	return true;
}

static bool add_jumps(json_t *array, const struct suture_explanation *e)
{
	for (size_t i = 0; i < e->jump_count; i++) {
		const struct suture_jump *jump = &e->jumps[i];

		if (!add(array, json_pack("{si si so so}", "offset", jump->offset, "length",
		                          jump->length, "target", json_hex(jump->target), "does",
		                          json_text(jump->does))))
			return false;
	}
	return true;
}

static bool add_tries(json_t *array, const struct suture_explanation *e)
{
	for (size_t i = 0; i < e->try_count; i++) {
		const struct suture_try *try = &e->tries[i];

		if (!add(array, json_pack("{so si sb so}", "kind", json_kind(try->kind), "shift",
		                          try->shift, "taken", try->taken, "why",
		                          try->taken ? json_null() : json_text(try->why))))
			return false;
	}
	return true;
}

static bool add_claims(json_t *array, const struct suture_explanation *e)
{
	static const char *const verdicts[] = {"unknown", "proven", "attach", "broken"};

	for (size_t i = 0; i < e->claim_count; i++) {
		const struct suture_claim *claim = &e->claims[i];

		if (!add(array, json_pack("{ss ss so}", "verdict", verdicts[claim->verdict], "what",
		                          claim->what, "why", json_text(claim->why))))
			return false;
	}
	return true;
}

static json_t *json_list_of(bool (*fill)(json_t *array, const struct suture_explanation *e),
                            const struct suture_explanation *e)
{
	json_t *array = json_array();

	if (array && !fill(array, e)) {
		json_decref(array);
		array = NULL;
	}
	return array;
}

static json_t *json_threads(const struct suture_whereabouts *t)
{
	return json_pack("{sb si si si si sI}", "stopped", t->stopped, "threads", (int)t->threads,
	                 "asleep", (int)t->asleep, "running", (int)t->running, "inside",
	                 (int)t->inside, "stop_us", (json_int_t)(t->stop_ns + 500) / 1000);
}

int json_print_explanation(const struct suture_target *target, pid_t pid,
                           const struct suture_explanation *e, FILE *out)
{
	return json_print(
	        json_pack("{si so so so so so so so so so so}", "pid", (int)pid, "obstacle",
	                  json_text(suture_target_obstacle(target, NULL)), "site",
	                  json_site(&e->site), "before", json_bytes(e->before, e->size), "after",
	                  json_bytes(e->after, e->size), "trampoline",
	                  e->trampoline ? json_hex(e->trampoline) : json_null(), "instructions",
	                  json_list_of(add_instructions, e), "jumps", json_list_of(add_jumps, e),
	                  "tries", json_list_of(add_tries, e), "claims",
	                  json_list_of(add_claims, e), "threads", json_threads(&e->threads)),
	        out);
}

/* ---- doctor ---- */

static json_t *json_findings(const struct suture_diagnosis *diagnosis)
{
	json_t *array = json_array();
	struct suture_finding finding;

	for (size_t i = 0; array && suture_diagnosis_finding(diagnosis, i, &finding) == 0; i++) {
		json_t *value = json_pack(
		        "{ss ss ss so so so}", "of", finding.of_process ? "process" : "machine",
		        "verdict", suture_finding_verdict_name(finding.verdict), "what",
		        finding.what, "value", json_text(finding.value), "follows",
		        json_text(finding.follows), "change", json_text(finding.change));

		if (!add(array, value)) {
			json_decref(array);
			return NULL;
		}
	}
	return array;
}

int json_print_diagnosis(const struct suture_diagnosis *diagnosis, pid_t pid, FILE *out)
{
	const char *reason;
	int verdict = suture_diagnosis_verdict(diagnosis, &reason);

	return json_print(json_pack("{so sb so so}", "pid", pid ? json_integer(pid) : json_null(),
	                            "works", verdict == 0, "reason", json_text(reason), "findings",
	                            json_findings(diagnosis)),
	                  out);
}
