/* SPDX-License-Identifier: MIT */
/* args.c - the command line. Every complaint is one line and names the offending argument. */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check/args.h"

enum {
	JOBS_MAX = 1024,
	NAME_MAX_COMPARED = 64,
	NEAREST_MAX = 3,
};

const char help_text[] =
        "Usage: suture-check [OPTION]...\n"
        "       suture-check litmus [OPTION]... FILE...\n"
        "Run Suture's own protocol code on simulated machines, through every interleaving and "
        "every\n"
        "cache behaviour: first as shipped, which must hold in every scenario on every machine, "
        "then\n"
        "with one thing wrong (a mutant), which must be refuted. 'litmus' runs litmus tests on "
        "the\n"
        "same machine instead; see suture-check litmus --help.\n"
        "\n"
        "Options:\n"
        "  --machine NAME,...    only on these machines, as shipped\n"
        "  --scenario NAME,...   only these scenarios, as shipped\n"
        "  --mutant NAME,...     only these mutants, each where it belongs, or where the two "
        "options\n"
        "                        above say; a single one shows its counterexample\n"
        "                        NAME may be 'all'\n"
        "  --list                print the names of all of them, and what they stand for\n"
        "  --svg FILE            draw the counterexample; select a single one\n"
        "  --json                print a JSON object instead of tables\n"
        "  -j, --jobs N          work on N at a time; default: as many as there are CPUs\n"
        "  -q, --quiet           print the summary and what was not expected, no progress\n"
        "  -v, --verbose         print a line for every verdict too\n"
        "  -h, --help            print this text\n"
        "  --version             print the version\n"
        "\n"
        "Exit status: 0 every verdict is the expected one, 1 one is not, or an internal error,\n"
        "2 usage.\n";

enum option_id {
	OPTION_MACHINE = 256,
	OPTION_SCENARIO,
	OPTION_MUTANT,
	OPTION_LIST,
	OPTION_JSON,
	OPTION_SVG,
	OPTION_VERSION,
};

static const struct option options[] = {
        {"machine", required_argument, NULL, OPTION_MACHINE},
        {"scenario", required_argument, NULL, OPTION_SCENARIO},
        {"mutant", required_argument, NULL, OPTION_MUTANT},
        {"list", no_argument, NULL, OPTION_LIST},
        {"json", no_argument, NULL, OPTION_JSON},
        {"svg", required_argument, NULL, OPTION_SVG},
        {"jobs", required_argument, NULL, 'j'},
        {"quiet", no_argument, NULL, 'q'},
        {"verbose", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, OPTION_VERSION},
        {0},
};

/* ---- names ---- */

static const char *machine_at(unsigned index)
{
	return machines[index].name;
}

static const char *scenario_at(unsigned index)
{
	return scenario_name(scenarios[index]);
}

static const char *mutant_at(unsigned index)
{
	return mutants[index].name;
}

struct name_table {
	const char *kind;
	const char *(*at)(unsigned index);
	unsigned count;
};

/* Levenshtein's distance: how many letters must be typed differently. */
static unsigned name_distance(const char *a, const char *b)
{
	unsigned row[NAME_MAX_COMPARED + 1];
	size_t length = strnlen(b, NAME_MAX_COMPARED);

	for (unsigned j = 0; j <= length; j++)
		row[j] = j;
	for (unsigned i = 1; a[i - 1]; i++) {
		unsigned diagonal = row[0];

		row[0] = i;
		for (unsigned j = 1; j <= length; j++) {
			unsigned best = diagonal + (a[i - 1] != b[j - 1]);

			diagonal = row[j];
			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			row[j] = best;
		}
	}
	return row[length];
}

/* Small is near; a part of a name is as near as a slip of the finger. */
static unsigned name_far(const char *given, const char *name)
{
	unsigned distance = name_distance(given, name);

	if (strlen(given) >= 2 && strstr(name, given) && distance > 2)
		return 2;
	return distance;
}

/* Of the names not yet in `near`, the one to offer next; or `count`. */
static unsigned name_nearest(const struct name_table *table, const char *given,
                             const unsigned *near, unsigned found)
{
	unsigned best = table->count, best_far = 0;

	for (unsigned i = 0; i < table->count; i++) {
		unsigned far = name_far(given, table->at(i));
		bool again = far > 2 && far > strlen(given) / 2;

		for (unsigned k = 0; k < found; k++)
			again = again || near[k] == i;
		if (again || (best < table->count && far >= best_far))
			continue;
		best = i;
		best_far = far;
	}
	return best;
}

static enum status complain_name(const struct name_table *table, const char *given)
{
	char text[256] = "";
	unsigned near[NEAREST_MAX];
	size_t at = 0;

	for (unsigned found = 0; found < NEAREST_MAX; found++) {
		near[found] = name_nearest(table, given, near, found);
		if (near[found] == table->count)
			break;
		if (at < sizeof(text))
			at += (size_t)snprintf(
			        text + at, sizeof(text) - at, "%s%s",
			        found ? ", " : "; near it: ", table->at(near[found]));
	}
	complain("there is no %s '%s'%s", table->kind, given,
	         text[0] ? text : "; see suture-check --list");
	return STATUS_USAGE;
}

static enum status select_name(const struct name_table *table, const char *name,
                               struct selection *out)
{
	bool all = strcmp(name, "all") == 0, found = all;

	for (unsigned i = 0; i < table->count; i++) {
		if (!all && strcmp(table->at(i), name) != 0)
			continue;
		out->chosen[i] = found = true;
	}
	return found ? STATUS_DONE : complain_name(table, name);
}

static enum status select_names(const struct name_table *table, const char *list,
                                struct selection *out)
{
	enum status status = STATUS_DONE;
	char *copy = strdup(list), *rest = copy, *name;

	if (!copy) {
		complain("out of memory");
		return STATUS_FAILED;
	}
	out->given = true;
	while (status == STATUS_DONE && (name = strsep(&rest, ","))) {
		if (*name) {
			status = select_name(table, name, out);
		} else {
			complain("--%s: '%s' has an empty name in it", table->kind, list);
			status = STATUS_USAGE;
		}
	}
	free(copy);
	return status;
}

/* ---- options ---- */

static enum status parse_jobs(const char *text, unsigned *out)
{
	char *end;
	unsigned long jobs = strtoul(text, &end, 10);

	/* strtoul takes a sign and blanks too. */
	if (*text < '0' || *text > '9' || *end || jobs == 0 || jobs > JOBS_MAX) {
		complain("--jobs: '%s' is not a number from 1 to %d", text, JOBS_MAX);
		return STATUS_USAGE;
	}
	*out = (unsigned)jobs;
	return STATUS_DONE;
}

static enum status complain_option(const char *argument, int kind)
{
	if (kind == ':')
		complain("option '%s' needs a value", argument);
	else if (optopt >= OPTION_MACHINE)
		complain("option '%s' takes no value", argument);
	else if (optopt && strchr("hjqv", optopt))
		complain("option '%s' takes no value", argument);
	else if (optopt)
		complain("unknown option '-%c'; see suture-check --help", optopt);
	else
		complain("unknown or ambiguous option '%s'; see suture-check --help", argument);
	return STATUS_USAGE;
}

static enum status parse_option(int option, const char *argument, struct arguments *out)
{
	const struct name_table machine_names = {"machine", machine_at, machines_count};
	const struct name_table scenario_names = {"scenario", scenario_at, scenarios_count};
	const struct name_table mutant_names = {"mutant", mutant_at, mutants_count};

	switch (option) {
	case OPTION_MACHINE:
		return select_names(&machine_names, optarg, &out->machines);
	case OPTION_SCENARIO:
		return select_names(&scenario_names, optarg, &out->scenarios);
	case OPTION_MUTANT:
		return select_names(&mutant_names, optarg, &out->mutants);
	case OPTION_LIST:
		out->command = COMMAND_LIST;
		return STATUS_DONE;
	case OPTION_JSON:
		out->json = true;
		return STATUS_DONE;
	case OPTION_SVG:
		out->svg = optarg;
		return STATUS_DONE;
	case 'j':
		return parse_jobs(optarg, &out->jobs);
	case 'q':
		out->detail = REPORT_QUIET;
		return STATUS_DONE;
	case 'v':
		out->detail = REPORT_VERBOSE;
		return STATUS_DONE;
	default:
		return complain_option(argument, option);
	}
}

static enum status check_together(const struct arguments *arguments)
{
	bool selects =
	        arguments->machines.given || arguments->scenarios.given || arguments->mutants.given;

	if (arguments->command == COMMAND_LIST && (selects || arguments->svg)) {
		complain("--list lists everything; only --json goes with it");
		return STATUS_USAGE;
	}
	if (arguments->svg && !*arguments->svg) {
		complain("--svg: the name of the file is empty");
		return STATUS_USAGE;
	}
	if (arguments->svg && !selects) {
		complain("--svg draws one counterexample: select it, for instance with --mutant");
		return STATUS_USAGE;
	}
	return STATUS_DONE;
}

static bool selection_open(struct selection *selection, unsigned count)
{
	selection->chosen = calloc(count ? count : 1, sizeof(bool));
	return selection->chosen != NULL;
}

enum status arguments_parse(int argc, char **argv, struct arguments *out)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	int option;

	*out = (struct arguments){
	        .command = COMMAND_RUN,
	        .detail = REPORT_NORMAL,
	        .jobs = cpus < 1          ? 1
	                : cpus > JOBS_MAX ? JOBS_MAX
	                                  : (unsigned)cpus,
	};
	if (!selection_open(&out->machines, machines_count) ||
	    !selection_open(&out->scenarios, scenarios_count) ||
	    !selection_open(&out->mutants, mutants_count)) {
		complain("out of memory");
		return STATUS_FAILED;
	}
	opterr = 0;
	while ((option = getopt_long(argc, argv, ":hj:qv", options, NULL)) != -1) {
		enum status status;

		if (option == 'h' || option == OPTION_VERSION) {
			out->command = option == 'h' ? COMMAND_HELP : COMMAND_VERSION;
			return STATUS_DONE;
		}
		status = parse_option(option, argv[optind - 1], out);
		if (status)
			return status;
	}
	if (optind < argc) {
		complain("unexpected argument '%s'; see suture-check --help", argv[optind]);
		return STATUS_USAGE;
	}
	return check_together(out);
}

void arguments_free(struct arguments *arguments)
{
	free(arguments->machines.chosen);
	free(arguments->scenarios.chosen);
	free(arguments->mutants.chosen);
}
