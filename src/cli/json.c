// SPDX-License-Identifier: MIT
/* json.c - reports for programs; their form is documented in suture(1). */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include <suture/record.h>

#include "cli/cli.h"
#include "cli/json.h"

/* JSON is UTF-8; arguments and symbol names need not be. Bytes of other encodings become '?'. */
json_t *json_text(const char *text)
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

static json_t *json_symbol(const struct suture_target_probe *probe)
{
	json_t *value = NULL;
	char *name;

	if (!probe->symbol || !probe->offset)
		return json_text(probe->symbol);
	if (asprintf(&name, "%s+0x%" PRIx64, probe->symbol, probe->offset) >= 0) {
		value = json_text(name);
		free(name);
	}
	return value;
}

static json_t *json_probe(const struct suture_target_probe *probe)
{
	char address[24];

	snprintf(address, sizeof(address), "0x%" PRIx64, probe->address);
	return json_pack("{so so so ss ss ss sI}", "spec", json_text(probe->spec), "module",
	                 json_text(probe->module), "symbol", json_symbol(probe), "address", address,
	                 "kind", suture_site_kind_name(probe->kind), "counter",
	                 suture_counter_kind_name(probe->counter), "hits", (json_int_t)probe->hits);
}

static json_t *json_bytes(const uint8_t *bytes, size_t size)
{
	char text[2 * SUTURE_CHANGE_MAX + 1] = "";

	for (size_t i = 0; i < size; i++)
		snprintf(text + 2 * i, 3, "%02x", bytes[i]);
	return size ? json_string(text) : json_null();
}

static json_t *json_planned(const struct suture_target *target, size_t index)
{
	struct suture_target_probe probe;
	struct suture_change edit;
	char address[24], at[24];

	if (suture_target_probe(target, index, &probe) ||
	    suture_target_change(target, index, &edit))
		return NULL;
	snprintf(address, sizeof(address), "0x%" PRIx64, probe.address);
	snprintf(at, sizeof(at), "0x%" PRIx64, edit.address);
	return json_pack("{so so so ss ss ss so so}", "spec", json_text(probe.spec), "module",
	                 json_text(probe.module), "symbol", json_symbol(&probe), "address", address,
	                 "kind", suture_site_kind_name(probe.kind), "at", at, "before",
	                 json_bytes(edit.before, edit.size), "after",
	                 json_bytes(edit.after, edit.size));
}

static json_t *json_plan(const struct suture_target *target)
{
	json_t *array = json_array();

	for (size_t i = 0; array && i < suture_target_probes(target); i++)
		if (json_array_append_new(array, json_planned(target, i))) {
			json_decref(array);
			return NULL;
		}
	return array;
}

static json_t *json_probes(const struct suture_target *target)
{
	json_t *array = json_array();
	struct suture_target_probe probe;

	for (size_t i = 0; array && i < suture_target_probes(target); i++)
		if (suture_target_probe(target, i, &probe) == 0 &&
		    json_array_append_new(array, json_probe(&probe))) {
			json_decref(array);
			return NULL;
		}
	return array;
}

/* What a glob found is named so that it can be given as a specification of its own. */
static json_t *json_refusal(const struct suture_refusal *refusal)
{
	json_t *spec = NULL;
	char *name;

	if (!refusal->symbol || !text_is_glob(refusal->spec)) {
		spec = json_text(refusal->spec);
	} else if (asprintf(&name, "%s:%s", refusal->module ? refusal->module : "",
	                    refusal->symbol) >= 0) {
		spec = json_text(name);
		free(name);
	}
	return json_pack("{so so}", "spec", spec, "reason", json_text(refusal->reason));
}

static json_t *json_refusals(const struct suture_target *target)
{
	json_t *array = json_array();
	struct suture_refusal refusal;

	for (size_t i = 0; array && i < suture_target_refusals(target); i++)
		if (suture_target_refusal(target, i, &refusal) == 0 &&
		    json_array_append_new(array, json_refusal(&refusal))) {
			json_decref(array);
			return NULL;
		}
	return array;
}

/* Consumes `root`; NULL means that memory ran out while it was built. What can not be written
 * leaves its mark in `out`, for finish_output(). */
int json_print(json_t *root, FILE *out)
{
	int failed;

	if (!root)
		return -ENOMEM;
	failed = json_dumpf(root, out, 0);
	json_decref(root);
	fputc('\n', out);
	return failed && !ferror(out) ? -ENOMEM : 0;
}

static json_int_t microseconds(uint64_t ns)
{
	return (json_int_t)((ns + 500) / 1000);
}

int json_print_count(const struct suture_target *target, pid_t pid, bool counted, FILE *out)
{
	struct suture_pause pause = {0};

	suture_target_pause(target, &pause);
	return json_print(json_pack("{si sI so so s{sI sI}}", "pid", (int)pid, "processes",
	                            (json_int_t)suture_target_processes(target), "probes",
	                            counted ? json_probes(target) : json_array(), "refused",
	                            json_refusals(target), "stop_us", "attach",
	                            microseconds(pause.attach_ns), "detach",
	                            microseconds(pause.detach_ns)),
	                  out);
}

int json_print_plan(const struct suture_target *target, pid_t pid, FILE *out)
{
	return json_print(json_pack("{si sb so so}", "pid", (int)pid, "dry_run", true, "probes",
	                            json_plan(target), "refused", json_refusals(target)),
	                  out);
}

int json_print_status(const struct suture_status *status, pid_t pid, FILE *out)
{
	json_t *owner = status->owner ? json_integer(status->owner) : json_null();

	return json_print(json_pack("{si sI sI sI so sb}", "pid", (int)pid, "sites",
	                            (json_int_t)status->sites, "mappings",
	                            (json_int_t)status->mappings, "processes",
	                            (json_int_t)status->processes, "owner", owner, "owner_alive",
	                            status->owner_alive),
	                  out);
}
