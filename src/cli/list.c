// SPDX-License-Identifier: MIT
/* list.c - suture list: what can be counted in a process, and how. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "cli/cli.h"

#define MODULE_COLUMNS 24

void kinds_add(struct kinds *kinds, const struct suture_survey *survey)
{
	kinds->pun += survey->kind == SUTURE_SITE_PUN;
	kinds->window += survey->kind == SUTURE_SITE_WINDOW;
	kinds->uprobe += survey->kind == SUTURE_SITE_UPROBE;
	kinds->refused += survey->kind == 0;
}

static void report_progress(const char *what, size_t done, size_t total, void *arg)
{
	(void)arg;
	progress_show(what, done, total);
}

static void print_heading(const struct suture_target *target, pid_t pid, FILE *out)
{
	struct kinds kinds = {0};
	struct suture_survey survey;
	const char *obstacle = suture_target_obstacle(target, NULL);
	size_t count = suture_target_surveys(target);

	for (size_t i = 0; i < count; i++) {
		suture_target_surveyed(target, i, &survey);
		kinds_add(&kinds, &survey);
	}
	fprintf(out, "process %d: %zu name%s: %zu pun, %zu window, %zu uprobe, %zu refused\n",
	        (int)pid, count, count == 1 ? "" : "s", kinds.pun, kinds.window, kinds.uprobe,
	        kinds.refused);
	if (obstacle) {
		fputs("counting is refused at present: ", out);
		text_put(out, obstacle, TEXT_WHOLE);
		fputc('\n', out);
	}
}

/* Files that were looked at in vain, or would have been. */
static void print_unreadable(const struct suture_target *target, FILE *out)
{
	struct suture_module module;

	for (size_t i = 0; suture_target_module(target, i, &module) == 0; i++) {
		if (!module.error)
			continue;
		text_put(out, module.path, TEXT_WHOLE);
		fprintf(out, " is left out: %s\n",
		        module.error == -ESTALE ? "replaced since it was mapped; as root it can be "
		                                  "read nevertheless"
		        : module.error == -ENOEXEC ? "not a 64-bit x86 ELF file, or a damaged one"
		                                   : strerror(-module.error));
	}
}

static int module_columns(const struct suture_target *target)
{
	struct suture_survey survey;
	size_t most = strlen("MODULE");

	for (size_t i = 0; suture_target_surveyed(target, i, &survey) == 0; i++)
		if (strlen(survey.module) > most)
			most = strlen(survey.module);
	return most < MODULE_COLUMNS ? (int)most : MODULE_COLUMNS;
}

static void print_padded(FILE *out, const char *text, int columns)
{
	text_put(out, text, TEXT_WHOLE);
	fprintf(out, "%*s", columns > (int)strlen(text) ? columns - (int)strlen(text) : 0, "");
}

static void print_rows(const struct suture_target *target, FILE *out)
{
	int columns = module_columns(target);
	struct suture_survey survey;

	print_padded(out, "MODULE", columns);
	fprintf(out, "  %14s  %7s  %-7s  %s\n", "ADDRESS", "SIZE", "KIND", "SYMBOL");
	for (size_t i = 0; suture_target_surveyed(target, i, &survey) == 0; i++) {
		print_padded(out, survey.module, columns);
		fprintf(out, "  %#14" PRIx64 "  %7" PRIu64 "  %-7s  ", survey.vaddr, survey.size,
		        survey.kind ? suture_site_kind_name(survey.kind) : "refused");
		text_put(out, survey.symbol ? survey.symbol : "?", TEXT_WHOLE);
		if (survey.offset)
			fprintf(out, "+0x%" PRIx64, survey.offset);
		if (survey.reason) {
			fputs(": ", out);
			text_put(out, survey.reason, TEXT_WHOLE);
		}
		fputc('\n', out);
	}
}

static void print_sum(FILE *out, const char *name, const struct kinds *kinds)
{
	size_t sum = kinds->pun + kinds->window + kinds->uprobe + kinds->refused;

	fprintf(out, "%8zu  %8zu  %8zu  %8zu  %8zu  ", sum, kinds->pun, kinds->window,
	        kinds->uprobe, kinds->refused);
	text_put(out, name, TEXT_WHOLE);
	fputc('\n', out);
}

/* Names of one module follow one another, unless several specifications name the same. */
static void print_summary(const struct suture_target *target, FILE *out)
{
	struct kinds all = {0};
	struct suture_module module;

	fprintf(out, "%8s  %8s  %8s  %8s  %8s  %s\n", "NAMES", "PUN", "WINDOW", "UPROBE", "REFUSED",
	        "MODULE");
	for (size_t m = 0; suture_target_module(target, m, &module) == 0; m++) {
		struct suture_survey survey;
		struct kinds kinds = {0};

		for (size_t i = 0; suture_target_surveyed(target, i, &survey) == 0; i++) {
			if (survey.module != module.name)
				continue;
			kinds_add(&kinds, &survey);
			kinds_add(&all, &survey);
		}
		if (kinds.pun + kinds.window + kinds.uprobe + kinds.refused)
			print_sum(out, module.name, &kinds);
	}
	print_sum(out, "all", &all);
}

static int report(const struct suture_target *target, const struct arguments *arguments)
{
	if (arguments->json) {
		if (json_print_list(target, arguments->pid, arguments->summary, stdout)) {
			complain("cannot make the report");
			return STATUS_INTERNAL;
		}
		return finish_output(stdout);
	}
	print_heading(target, arguments->pid, stdout);
	if (arguments->summary)
		print_summary(target, stdout);
	else
		print_rows(target, stdout);
	print_unreadable(target, stdout);
	return finish_output(stdout);
}

static int survey(struct suture_target *target, const struct arguments *arguments)
{
	int error = 0;

	for (size_t i = 0; i < arguments->spec_count && error >= 0; i++)
		error = suture_target_match(target, arguments->specs[i]);
	if (!arguments->spec_count)
		error = suture_target_match(target, "*");
	if (error >= 0)
		error = suture_target_survey(target);
	progress_clear();
	return error < 0 ? complain_error(target, error) : STATUS_DONE;
}

int command_list(struct arguments *arguments)
{
	struct suture_target *target;
	int status;

	arguments->options.progress = report_progress;
	status = suture_target_look(arguments->pid, &arguments->options, &target);
	if (status < 0)
		return complain_error(NULL, status);
	status = survey(target, arguments);
	if (!status)
		status = report(target, arguments);
	suture_target_close(target);
	return status;
}
