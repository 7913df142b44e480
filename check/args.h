/* SPDX-License-Identifier: MIT */
/* args.h - the command line. */
#ifndef SUTURE_CHECK_ARGS_H
#define SUTURE_CHECK_ARGS_H

#include <stdbool.h>
#include "check/report.h"

enum status {
	STATUS_DONE,
	STATUS_FAILED, /* a verdict that nobody expected, or an internal error */
	STATUS_USAGE,
};

enum command { COMMAND_RUN, COMMAND_LIST, COMMAND_HELP, COMMAND_VERSION };

/* Of a table: which entries were named. */
struct selection {
	bool given;
	bool *chosen; /* one for each entry */
};

struct arguments {
	enum command command;
	struct selection machines, scenarios, mutants;
	bool json;
	enum report_detail detail;
	unsigned jobs;
	const char *svg; /* or NULL */
};

extern const char help_text[];

/* Complains itself. arguments_free() in any case. */
enum status arguments_parse(int argc, char **argv, struct arguments *out);
void arguments_free(struct arguments *arguments);

#endif
