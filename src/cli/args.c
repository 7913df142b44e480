// SPDX-License-Identifier: MIT
/* args.c - the command line. Every complaint is one line and names the offending argument. */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <string.h>

#include "cli/cli.h"

/* Far beyond any use, and near enough that sums with the clock cannot overflow. */
#define DURATION_MAX_NS ((uint64_t)INT64_MAX / 2)
#define INTERVAL_MIN_NS (10 * NS_PER_MS)
/* What the library spends on puns unless told otherwise. */
#define PUN_PAGES_DEFAULT 256u

enum option_id {
	OPTION_HELP = 256,
	OPTION_VERSION,
	OPTION_FOR,
	OPTION_JSON,
	OPTION_INTERVAL,
	OPTION_NO_RSEQ,
	OPTION_KINDS,
	OPTION_PAGES,
	OPTION_MAX_PAUSE,
	OPTION_DRY_RUN,
	OPTION_SPECS_FROM,
	OPTION_LOG,
	OPTION_SUMMARY,
	OPTION_STOP,
};

static const struct option global_options[] = {
        {"help", no_argument, NULL, OPTION_HELP},
        {"version", no_argument, NULL, OPTION_VERSION},
        {0},
};

static const struct option count_options[] = {
        {"for", required_argument, NULL, OPTION_FOR},
        {"json", no_argument, NULL, OPTION_JSON},
        {"interval", required_argument, NULL, OPTION_INTERVAL},
        {"no-rseq", no_argument, NULL, OPTION_NO_RSEQ},
        {"kinds", required_argument, NULL, OPTION_KINDS},
        {"pages", required_argument, NULL, OPTION_PAGES},
        {"max-pause", required_argument, NULL, OPTION_MAX_PAUSE},
        {"dry-run", no_argument, NULL, OPTION_DRY_RUN},
        {"specs-from", required_argument, NULL, OPTION_SPECS_FROM},
        {"log", required_argument, NULL, OPTION_LOG},
        {"help", no_argument, NULL, OPTION_HELP},
        {0},
};

static const struct option revert_options[] = {
        {"max-pause", required_argument, NULL, OPTION_MAX_PAUSE},
        {"log", required_argument, NULL, OPTION_LOG},
        {"help", no_argument, NULL, OPTION_HELP},
        {0},
};

static const struct option status_options[] = {
        {"json", no_argument, NULL, OPTION_JSON},
        {"help", no_argument, NULL, OPTION_HELP},
        {0},
};

static const struct option list_options[] = {
        {"json", no_argument, NULL, OPTION_JSON},
        {"kinds", required_argument, NULL, OPTION_KINDS},
        {"summary", no_argument, NULL, OPTION_SUMMARY},
        {"help", no_argument, NULL, OPTION_HELP},
        {0},
};

static const struct option explain_options[] = {
        {"json", no_argument, NULL, OPTION_JSON},
        {"kinds", required_argument, NULL, OPTION_KINDS},
        {"stop", no_argument, NULL, OPTION_STOP},
        {"help", no_argument, NULL, OPTION_HELP},
        {0},
};

static const struct option doctor_options[] = {
        {"json", no_argument, NULL, OPTION_JSON},
        {"help", no_argument, NULL, OPTION_HELP},
        {0},
};

static const struct command_syntax {
	const char *name;
	enum command command;
	const struct option *options;
} commands[] = {
        {"count", COMMAND_COUNT, count_options},       {"revert", COMMAND_REVERT, revert_options},
        {"status", COMMAND_STATUS, status_options},    {"list", COMMAND_LIST, list_options},
        {"explain", COMMAND_EXPLAIN, explain_options}, {"doctor", COMMAND_DOCTOR, doctor_options},
};

static const struct command_syntax *command_find(const char *name)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (!strcmp(commands[i].name, name))
			return &commands[i];
	return NULL;
}

/* Digits only: no sign, no blanks, no base prefix, unlike strtoull. Advances *text past them. */
static bool parse_digits(const char **text, uint64_t max, uint64_t *out)
{
	const char *c = *text;
	uint64_t value = 0;

	if (*c < '0' || *c > '9')
		return false;
	for (; *c >= '0' && *c <= '9'; c++) {
		uint64_t digit = *c - '0';

		if (value > (max - digit) / 10)
			return false;
		value = value * 10 + digit;
	}
	*text = c;
	*out = value;
	return true;
}

static bool parse_number(const char *text, uint64_t max, uint64_t *out)
{
	return parse_digits(&text, max, out) && !*text;
}

static uint64_t unit_ns(const char *unit)
{
	static const struct {
		const char *name;
		uint64_t ns;
	} units[] = {
	        {"", NS_PER_S},         {"ns", 1},       {"us", 1000},
	        {"ms", NS_PER_MS},      {"s", NS_PER_S}, {"m", 60 * NS_PER_S},
	        {"h", 3600 * NS_PER_S},
	};

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (!strcmp(units[i].name, unit))
			return units[i].ns;
	return 0;
}

/* 500ms, 10s, 1.5m, 1h; a plain number is in seconds. */
static bool parse_duration(const char *text, uint64_t *out)
{
	uint64_t whole, part = 0, scale = 1, unit, ns, extra;

	if (!parse_digits(&text, UINT64_MAX - 9, &whole))
		return false;
	if (*text == '.') {
		const char *first = ++text;

		if (!parse_digits(&text, 999999999, &part))
			return false;
		if (text - first > 9)
			return false;
		for (; first < text; first++)
			scale *= 10;
	}
	unit = unit_ns(text);
	if (!unit || __builtin_mul_overflow(whole, unit, &ns))
		return false;
	/* part < 10^9 and the unit is below 2^42: 128 bits hold the product. */
	extra = (uint64_t)((unsigned __int128)part * unit / scale);
	if (__builtin_add_overflow(ns, extra, &ns) || ns > DURATION_MAX_NS)
		return false;
	*out = ns;
	return true;
}

static int parse_kinds(const char *text, struct suture_target_options *options)
{
	struct {
		const char *name;
		bool *left_out;
	} kinds[] = {
	        {"pun", &options->no_pun},
	        {"window", &options->no_window},
	        {"uprobe", &options->no_uprobe},
	};
	const size_t count = sizeof(kinds) / sizeof(kinds[0]);

	for (size_t i = 0; i < count; i++)
		*kinds[i].left_out = true;
	for (;;) {
		size_t length = strcspn(text, ","), i;

		for (i = 0; i < count; i++)
			if (strlen(kinds[i].name) == length && !memcmp(kinds[i].name, text, length))
				break;
		if (i == count)
			return -EINVAL;
		*kinds[i].left_out = false;
		if (!text[length])
			return 0;
		text += length + 1;
	}
}

static int parse_pid(const char *text, pid_t *out)
{
	uint64_t pid;

	if (*out) {
		complain("option -p may be given once");
		return STATUS_USAGE;
	}
	if (!parse_number(text, INT_MAX, &pid) || pid == 0) {
		complain("'%s' is not a process id", text);
		return STATUS_USAGE;
	}
	*out = (pid_t)pid;
	return STATUS_DONE;
}

static int parse_duration_option(const char *name, const char *text, uint64_t min_ns, uint64_t *out)
{
	if (!parse_duration(text, out)) {
		complain("%s: '%s' is not a duration; write 500ms, 10s, 2m or 1h", name, text);
		return STATUS_USAGE;
	}
	if (*out < min_ns) {
		complain("%s: '%s' is too short", name, text);
		return STATUS_USAGE;
	}
	return STATUS_DONE;
}

static int parse_pages(const char *text, struct suture_target_options *options)
{
	uint64_t pages;

	if (!parse_number(text, UINT_MAX, &pages) || pages == 0) {
		complain("--pages: '%s' is not a number of pages", text);
		return STATUS_USAGE;
	}
	options->pages = (unsigned)pages;
	options->pun_pages = pages < PUN_PAGES_DEFAULT ? (unsigned)pages : PUN_PAGES_DEFAULT;
	return STATUS_DONE;
}

static int complain_option(const char *argument, int kind)
{
	if (kind == ':')
		complain("option '%s' needs a value", argument);
	else if (optopt >= OPTION_HELP)
		complain("option '%s' takes no value", argument);
	else if (optopt)
		complain("unknown option '-%c'; see suture --help", optopt);
	else
		complain("unknown or ambiguous option '%s'; see suture --help", argument);
	return STATUS_USAGE;
}

static int parse_name(const char *option, const char *text, const char **out)
{
	if (*text && !*out) {
		*out = text;
		return STATUS_DONE;
	}
	if (*text)
		complain("option %s may be given once", option);
	else
		complain("%s: the name of the file is empty", option);
	return STATUS_USAGE;
}

static int parse_option(int option, const char *argument, struct arguments *out)
{
	switch (option) {
	case 'p':
		return parse_pid(optarg, &out->pid);
	case OPTION_FOR:
		out->bounded = true;
		return parse_duration_option("--for", optarg, 0, &out->for_ns);
	case OPTION_INTERVAL:
		return parse_duration_option("--interval", optarg, INTERVAL_MIN_NS,
		                             &out->interval_ns);
	case OPTION_MAX_PAUSE:
		return parse_duration_option("--max-pause", optarg, 1, &out->options.max_pause_ns);
	case OPTION_DRY_RUN:
		out->dry_run = true;
		return STATUS_DONE;
	case OPTION_SPECS_FROM:
		return parse_name("--specs-from", optarg, &out->specs_from);
	case OPTION_LOG:
		return parse_name("--log", optarg, &out->log);
	case OPTION_PAGES:
		return parse_pages(optarg, &out->options);
	case OPTION_KINDS:
		if (!parse_kinds(optarg, &out->options))
			return STATUS_DONE;
		complain("--kinds: '%s' is not a list of pun, window and uprobe", optarg);
		return STATUS_USAGE;
	case OPTION_JSON:
		out->json = true;
		return STATUS_DONE;
	case OPTION_SUMMARY:
		out->summary = true;
		return STATUS_DONE;
	case OPTION_STOP:
		out->stop = true;
		return STATUS_DONE;
	case OPTION_NO_RSEQ:
		out->options.no_rseq = true;
		return STATUS_DONE;
	default:
		return complain_option(argument, option);
	}
}

static int check_operands(const struct arguments *arguments, const char *command)
{
	bool takes_specs = arguments->command == COMMAND_COUNT ||
	                   arguments->command == COMMAND_LIST ||
	                   arguments->command == COMMAND_EXPLAIN;

	if (arguments->pid == 0 && arguments->command != COMMAND_DOCTOR) {
		complain("%s: no process given; use -p PID", command);
		return STATUS_USAGE;
	}
	if (!takes_specs) {
		if (arguments->spec_count == 0)
			return STATUS_DONE;
		complain("%s: unexpected argument '%s'", command, arguments->specs[0]);
		return STATUS_USAGE;
	}
	if (arguments->command == COMMAND_EXPLAIN && arguments->spec_count > 1) {
		complain("explain: unexpected argument '%s'; one site at a time",
		         arguments->specs[1]);
		return STATUS_USAGE;
	}
	if (arguments->spec_count == 0 && !arguments->specs_from &&
	    arguments->command != COMMAND_LIST) {
		complain("%s: nothing to %s; name a function, for instance [MODULE:]NAME", command,
		         command);
		return STATUS_USAGE;
	}
	for (size_t i = 0; i < arguments->spec_count; i++) {
		if (!*arguments->specs[i]) {
			complain("%s: a specification is empty", command);
			return STATUS_USAGE;
		}
	}
	return STATUS_DONE;
}

/* argv[0] is the command's name. */
static int parse_command(const struct command_syntax *syntax, int argc, char **argv,
                         struct arguments *out)
{
	int option;

	out->command = syntax->command;
	optind = 0; /* the GNU way to scan another argv */
	while ((option = getopt_long(argc, argv, ":p:", syntax->options, NULL)) != -1) {
		if (option == OPTION_HELP) {
			out->command = COMMAND_HELP;
			out->topic = syntax->name;
			return STATUS_DONE;
		}
		if (parse_option(option, argv[optind - 1], out))
			return STATUS_USAGE;
	}
	out->specs = argv + optind;
	out->spec_count = argc - optind;
	return check_operands(out, syntax->name);
}

static int parse_help(int argc, char **argv, struct arguments *out)
{
	out->command = COMMAND_HELP;
	if (argc > 2) {
		complain("help: one command at a time");
		return STATUS_USAGE;
	}
	if (argc == 2) {
		if (!help_text(argv[1])) {
			complain("help: there is no command '%s'", argv[1]);
			return STATUS_USAGE;
		}
		out->topic = argv[1];
	}
	return STATUS_DONE;
}

/* Options before the command; leaves optind at it. */
static int parse_global(int argc, char **argv, struct arguments *out)
{
	int option = getopt_long(argc, argv, "+:", global_options, NULL);

	if (option == OPTION_HELP)
		out->command = COMMAND_HELP;
	else if (option == OPTION_VERSION)
		out->command = COMMAND_VERSION;
	else if (option != -1)
		return complain_option(argv[optind - 1], option);
	else if (optind >= argc)
		complain("no command given; see suture --help");
	else
		return STATUS_DONE;
	return option == -1 ? STATUS_USAGE : STATUS_DONE;
}

int arguments_parse(int argc, char **argv, struct arguments *out)
{
	const struct command_syntax *syntax;

	*out = (struct arguments){
	        .command = COMMAND_COUNT,
	        .interval_ns = NS_PER_S,
	        .options.size = sizeof(out->options),
	};
	opterr = 0;
	if (parse_global(argc, argv, out))
		return STATUS_USAGE;
	if (out->command != COMMAND_COUNT)
		return STATUS_DONE;
	argc -= optind;
	argv += optind;
	if (!strcmp(argv[0], "help"))
		return parse_help(argc, argv, out);
	syntax = command_find(argv[0]);
	if (!syntax) {
		complain("there is no command '%s'; see suture --help", argv[0]);
		return STATUS_USAGE;
	}
	return parse_command(syntax, argc, argv, out);
}
