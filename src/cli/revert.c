// SPDX-License-Identifier: MIT
/* revert.c - what a suture, alive or dead, has in a process: show it, undo it. */
#include <stdlib.h>
#include <string.h>

#include "cli/audit.h"
#include "cli/cli.h"

static void report_progress(const char *what, size_t done, size_t total, void *arg)
{
	(void)arg;
	progress_show(what, done, total);
}

static int print_cleaned(const struct arguments *arguments, int cleaned)
{
	if (cleaned == 0)
		printf("process %d: nothing to undo\n", (int)arguments->pid);
	else
		printf("process %d: restored, %d process%s in all\n", (int)arguments->pid, cleaned,
		       cleaned == 1 ? "" : "es");
	return finish_output(stdout);
}

int command_revert(struct arguments *arguments)
{
	struct suture_change *edits = NULL;
	struct audit audit;
	int cleaned, count, status, held = signals_hold();

	if (held < 0) {
		complain("cannot hold signals back: %s", strerror(-held));
		return STATUS_INTERNAL;
	}
	status = audit_open(&audit, arguments->log, arguments->pid);
	if (!status)
		status = audit_begin(&audit, "revert-begin", 0, arguments->options.max_pause_ns);
	if (status)
		return status;
	arguments->options.progress = report_progress;
	/* Read before it is gone; what can not be read is no obstacle to restoring it. */
	count = suture_target_leftovers(arguments->pid, &edits);
	cleaned = suture_target_revert(arguments->pid, &arguments->options);
	progress_clear();
	signals_release();
	status = cleaned < 0 ? complain_error(NULL, cleaned) : STATUS_DONE;
	audit_revert(&audit, edits, count, cleaned, status);
	free(edits);
	if (!status)
		status = print_cleaned(arguments, cleaned);
	held = audit_close(&audit);
	return status ? status : held;
}

static void print_status(const struct suture_status *status, pid_t pid, FILE *out)
{
	if (!status->sites && !status->mappings) {
		fprintf(out, "process %d: nothing of suture\n", (int)pid);
		return;
	}
	fprintf(out, "process %d: %u site%s, %u mapping%s, %u process%s; ", (int)pid, status->sites,
	        status->sites == 1 ? "" : "s", status->mappings, status->mappings == 1 ? "" : "s",
	        status->processes, status->processes == 1 ? "" : "es");
	if (status->owner && status->owner_alive)
		fprintf(out, "owned by the running suture %d\n", (int)status->owner);
	else if (status->owner)
		fprintf(out, "left by suture %d, which is gone: suture revert -p %d\n",
		        (int)status->owner, (int)pid);
	else
		fprintf(out, "owner unknown: suture revert -p %d\n", (int)pid);
}

int command_status(const struct arguments *arguments)
{
	struct suture_status status = {0};
	int error = suture_target_status(arguments->pid, &status);

	if (error < 0)
		return complain_error(NULL, error);
	if (!arguments->json)
		print_status(&status, arguments->pid, stdout);
	else if (json_print_status(&status, arguments->pid, stdout))
		complain("cannot make the report");
	return finish_output(stdout);
}
