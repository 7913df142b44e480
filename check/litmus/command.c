/* SPDX-License-Identifier: MIT */
/* command.c - suture-check litmus: files, kinds, exit status. */
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include "check/args.h"
#include "check/litmus/kinds.h"
#include "check/litmus/litmus.h"

enum { FILE_MAX = 1 << 20 };

struct session {
	bool json, quiet;
	struct kinds kinds;
	json_t *tests, *errors;
	unsigned count, unreadable, unexpected;
	double milliseconds;
	enum status status;
	struct litmus_test test; /* the current one: it is big */
};

static const char help[] =
        "Usage: suture-check litmus [OPTION]... FILE...\n"
        "Run litmus tests of AArch64 in herd's format, through every execution that the rules of\n"
        "the simulated machine allow; they are the rules under which Suture's protocol is "
        "checked.\n"
        "\n"
        "Options:\n"
        "  --kinds FILE   what tests are expected to be: lines 'NAME Allowed', Forbidden, "
        "Required\n"
        "  --json         print a JSON object instead of text\n"
        "  -q, --quiet    print only tests that are not of their kind\n"
        "  -h, --help     print this text\n"
        "\n"
        "Exit status: 0 every test is of its kind, where one is stated, 1 one is not, or an\n"
        "internal error, 2 usage, or a test that can not be read.\n";

/* ---- one file ---- */

/* Reads all of it; NULL and errno. */
static char *read_file(const char *name, size_t *size)
{
	FILE *stream = fopen(name, "r");
	char *text;
	int error;

	if (!stream)
		return NULL;
	text = malloc(FILE_MAX + 1);
	*size = text ? fread(text, 1, FILE_MAX + 1, stream) : 0;
	error = !text              ? ENOMEM
	        : ferror(stream)   ? (errno ? errno : EIO)
	        : *size > FILE_MAX ? EFBIG
	                           : 0;
	fclose(stream);
	if (error) {
		free(text);
		errno = error;
		return NULL;
	}
	return text;
}

static void worse(struct session *session, enum status status)
{
	session->status = status > session->status ? status : session->status;
}

/* "FILE:LINE: expected ..." */
static void cannot_read(struct session *session, const char *file, const char *what)
{
	unsigned long line = strtoul(what, NULL, 10);
	const char *colon = line ? strchr(what, ':') : NULL;

	session->unreadable++;
	worse(session, STATUS_USAGE);
	complain("%s:%s%s", file, line ? "" : " ", what);
	if (!session->json)
		return;
	json_array_append_new(session->errors,
	                      json_pack("{so so ss}", "file",
	                                json_stringn_nocheck(file, strlen(file)), "line",
	                                line ? json_integer((json_int_t)line) : json_null(), "what",
	                                colon ? colon + 2 : what));
}

static enum litmus_kind asked_kind(const struct litmus_test *test)
{
	switch (test->quantifier) {
	case LITMUS_EXISTS:
		return LITMUS_ALLOWED;
	case LITMUS_NOT_EXISTS:
		return LITMUS_FORBIDDEN;
	case LITMUS_FORALL:
		break;
	}
	return LITMUS_REQUIRED;
}

static bool is_of_kind(const struct litmus_result *result, enum litmus_kind kind)
{
	switch (kind) {
	case LITMUS_ALLOWED:
		return result->positive;
	case LITMUS_FORBIDDEN:
		return !result->positive;
	case LITMUS_REQUIRED:
		break;
	}
	return result->positive == result->count;
}

/* ---- JSON ---- */

static json_t *json_state(const struct litmus_test *test, const struct litmus_state *state)
{
	json_t *object = json_object();
	char name[160], key[170], value[160];

	for (unsigned i = 0; i < test->observed; i++) {
		litmus_print_observed(test, &test->observe[i], name, sizeof(name));
		litmus_print_value(test, &test->observe[i], state->value[i], value, sizeof(value));
		json_object_set_new(object, name, json_string(value));
	}
	for (unsigned i = 0; i < test->faults; i++) {
		litmus_print_fault(&test->fault[i], name, sizeof(name));
		snprintf(key, sizeof(key), "Fault%s", name);
		json_object_set_new(object, key, json_boolean(state->faults >> i & 1));
	}
	return object;
}

static void add_json(struct session *session, const struct litmus_outcome *outcome)
{
	const struct litmus_result *result = outcome->result;
	json_t *states = json_array();
	char condition[4096];

	litmus_print_condition(outcome->test, condition, sizeof(condition));
	for (unsigned i = 0; i < result->count; i++)
		json_array_append_new(states, json_state(outcome->test, &result->states[i]));
	json_array_append_new(
	        session->tests,
	        json_pack("{so ss ss sb sb so si si ss ss sb sI sI sf}", "file",
	                  json_stringn_nocheck(outcome->file, strlen(outcome->file)), "test",
	                  outcome->test->name, "kind", litmus_kind_name(outcome->kind), "stated",
	                  outcome->stated, "ok", outcome->ok, "states", states, "positive",
	                  (int)result->positive, "negative",
	                  (int)(result->count - result->positive), "condition", condition,
	                  "observation", litmus_observation(result), "cut", result->cut, "explored",
	                  (json_int_t)result->explored, "memory", (json_int_t)result->memory, "ms",
	                  result->milliseconds));
}

static void print_json(struct session *session)
{
	struct rusage usage = {0};
	json_t *all;

	getrusage(RUSAGE_SELF, &usage);
	all = json_pack("{ss so so s{si si si sb sf sI}}", "version", SUTURE_VERSION, "tests",
	                session->tests, "errors", session->errors, "summary", "tests",
	                (int)session->count, "unreadable", (int)session->unreadable, "unexpected",
	                (int)session->unexpected, "as_expected", session->status == STATUS_DONE,
	                "ms", session->milliseconds, "memory", (json_int_t)usage.ru_maxrss * 1024);
	if (!all || json_dumpf(all, stdout, JSON_INDENT(1) | JSON_PRESERVE_ORDER)) {
		complain("cannot print JSON: out of memory, or standard output can not be written");
		worse(session, STATUS_FAILED);
	}
	putchar('\n');
	json_decref(all);
}

/* ---- tests ---- */

static void report(struct session *session, const char *file, const struct litmus_result *result)
{
	struct litmus_outcome outcome = {.file = file,
	                                 .test = &session->test,
	                                 .result = result,
	                                 .kind = asked_kind(&session->test)};

	/* `exists` asks; the others, and a file of kinds, state. */
	outcome.stated = kinds_find(&session->kinds, session->test.name, &outcome.kind) ||
	                 session->test.quantifier != LITMUS_EXISTS;
	outcome.ok = is_of_kind(result, outcome.kind);
	session->count++;
	session->milliseconds += result->milliseconds;
	if (outcome.stated && !outcome.ok) {
		session->unexpected++;
		worse(session, STATUS_FAILED);
		if (session->quiet && !session->json)
			litmus_print(&outcome);
	}
	if (session->json)
		add_json(session, &outcome);
	else if (!session->quiet)
		litmus_print(&outcome);
	if (result->cut)
		complain("%s: executions that go on for ever are left out", file);
}

static void run_file(struct session *session, const char *file)
{
	struct litmus_result result;
	char error[256];
	size_t size;
	char *text;
	int rc;

	errno = 0;
	text = read_file(file, &size);
	if (!text) {
		cannot_read(session, file, strerror(errno));
		return;
	}
	rc = litmus_parse(text, size, &session->test, error, sizeof(error));
	free(text);
	if (rc) {
		cannot_read(session, file, error);
		return;
	}
	rc = litmus_run(&session->test, 0, 0, &result);
	if (rc == 0) {
		report(session, file, &result);
	} else if (rc == -EINVAL) {
		cannot_read(session, file, result.error);
	} else {
		complain("%s: %s", file, result.error[0] ? result.error : strerror(-rc));
		worse(session, STATUS_FAILED);
	}
	litmus_result_free(&result);
}

/* ---- the command line ---- */

static enum status read_kinds(struct session *session, const char *file)
{
	int error = kinds_read(&session->kinds, file);

	if (!error)
		return STATUS_DONE;
	complain("--kinds: cannot read '%s': %s", file, strerror(-error));
	return STATUS_USAGE;
}

/* Stands at the first file; *help: that is all. */
static enum status parse_options(struct session *session, int argc, char **argv, bool *wants_help)
{
	static const struct option options[] = {{"kinds", required_argument, NULL, 'k'},
	                                        {"json", no_argument, NULL, 'J'},
	                                        {"quiet", no_argument, NULL, 'q'},
	                                        {"help", no_argument, NULL, 'h'},
	                                        {0}};
	int option;

	opterr = 0;
	while ((option = getopt_long(argc, argv, ":hq", options, NULL)) != -1) {
		if (option == 'k' && read_kinds(session, optarg))
			return STATUS_USAGE;
		session->json = session->json || option == 'J';
		session->quiet = session->quiet || option == 'q';
		*wants_help = *wants_help || option == 'h';
		if (option == ':' || option == '?') {
			complain("litmus: %s '%s'; see suture-check litmus --help",
			         option == ':' ? "a value is missing behind"
			                       : "unknown or ambiguous option",
			         argv[optind - 1]);
			return STATUS_USAGE;
		}
	}
	if (optind < argc || *wants_help)
		return STATUS_DONE;
	complain("litmus: no file is named; see suture-check litmus --help");
	return STATUS_USAGE;
}

int litmus_command(int argc, char **argv)
{
	struct session *session = calloc(1, sizeof(*session));
	bool wants_help = false;
	enum status status;

	if (!session) {
		complain("out of memory");
		return STATUS_FAILED;
	}
	status = parse_options(session, argc, argv, &wants_help);
	if (status == STATUS_DONE && wants_help) {
		fputs(help, stdout);
	} else if (status == STATUS_DONE) {
		session->tests = json_array();
		session->errors = json_array();
		for (int i = optind; i < argc; i++)
			run_file(session, argv[i]);
		if (session->json) {
			print_json(session);
		} else {
			json_decref(session->tests);
			json_decref(session->errors);
		}
		status = session->status;
	}
	kinds_free(&session->kinds);
	free(session);
	return status;
}
