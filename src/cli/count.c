// SPDX-License-Identifier: MIT
/*
 * count.c - suture count: open, attach, watch, detach, report.
 *
 * Whatever happens after attach, detach is reached: signals are events (signals.c), a reader of
 * our output that goes away is a failed write, and the report comes last, when the target is
 * already as it was.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cli/audit.h"
#include "cli/cli.h"

/* How often it is looked whether anybody is left that counts. */
#define CHECK_NS (500 * NS_PER_MS)
/* The process is gone, its forks may be about to go. */
#define CHECK_ORPHANS_NS  (50 * NS_PER_MS)
#define DETACH_RETRY_NS   (500 * NS_PER_MS)
#define DETACH_TRY_FOR_NS (10 * NS_PER_S)
#define REFUSALS_STDERR   20

struct run {
	struct arguments *arguments;
	struct suture_target *target;
	struct table table;
	struct audit audit;
	int signals_fd;
	int process_fd; /* readable when the process has exited; -1: no such thing, or it has */
	bool ending;    /* asked to */
	bool attaching;
	bool restoring; /* requests to end are answered, not obeyed */
	bool live;
	bool resized;
};

static void take_events(struct run *run)
{
	enum event event;

	while ((event = signals_next()) != EVENT_NONE) {
		if (event == EVENT_RESIZE)
			run->resized = true;
		else if (run->restoring)
			complain("restoring process %d; this cannot be cut short",
			         (int)run->arguments->pid);
		else if (event == EVENT_END)
			run->ending = true;
		else {
			screen_leave();
			signals_suspend();
		}
	}
}

static void report_progress(const char *what, size_t done, size_t total, void *arg)
{
	struct run *run = arg;
	bool was_ending = run->ending;

	take_events(run);
	if (run->attaching && run->ending && !was_ending)
		complain("ending as soon as process %d is in order", (int)run->arguments->pid);
	progress_show(what, done, total);
}

/* Sleep until `until_ns`, a signal, or the end of the process. */
static void wait_until(struct run *run, uint64_t until_ns)
{
	uint64_t now = monotonic_ns();
	struct timespec timeout = {0};
	struct pollfd fds[] = {
	        {.fd = run->signals_fd, .events = POLLIN},
	        {.fd = run->process_fd, .events = POLLIN},
	};

	if (until_ns > now) {
		timeout.tv_sec = (time_t)((until_ns - now) / NS_PER_S);
		timeout.tv_nsec = (long)((until_ns - now) % NS_PER_S);
	}
	if (ppoll(fds, 2, &timeout, NULL) < 0)
		return;
	if (fds[1].revents) {
		close(run->process_fd);
		run->process_fd = -1;
	}
	if (fds[0].revents)
		take_events(run);
}

/* ---- attach ---- */

/* Of one out of a file, its line is what the user looks for. */
static int complain_spec(const struct run *run, size_t index, int error)
{
	const struct arguments *arguments = run->arguments;

	if (!arguments->spec_lines || !arguments->spec_lines[index])
		return complain_error(run->target, error);
	complain("%s:%zu: %s", arguments->specs_from, arguments->spec_lines[index],
	         suture_target_error(run->target));
	return status_of_error(error);
}

/* One line, whatever was found: after an upgrade every library may have been replaced. */
static void complain_notes(const struct suture_target *target)
{
	const char *first = suture_target_note(target, 0);
	size_t count = 1;

	if (!first)
		return;
	while (suture_target_note(target, count))
		count++;
	if (count > 1)
		complain("note: %s (and %zu more files)", first, count - 1);
	else
		complain("note: %s", first);
}

/* STATUS_DONE also if the site of a specification was refused: the others can be counted. */
static int add_specs(struct run *run)
{
	const struct arguments *arguments = run->arguments;

	for (size_t i = 0; i < arguments->spec_count; i++) {
		int added = suture_target_count(run->target, arguments->specs[i]);

		if (added < 0 && added != -EOPNOTSUPP)
			return complain_spec(run, i, added);
		take_events(run);
		if (run->ending)
			break;
	}
	progress_clear();
	complain_notes(run->target);
	return STATUS_DONE;
}

static void complain_refusals(const struct suture_target *target)
{
	/* What a glob left out is not what stands in the way. */
	refusals_print(target, stderr,
	               "suture: ", refusals_exact(target) ? REFUSALS_EXACT : REFUSALS_ALL,
	               TEXT_WHOLE, REFUSALS_STDERR);
}

static int attach(struct run *run)
{
	int error;

	run->process_fd = (int)syscall(SYS_pidfd_open, run->arguments->pid, 0);
	run->attaching = true;
	error = suture_target_attach(run->target);
	run->attaching = false;
	progress_clear();
	if (error == -EOPNOTSUPP && suture_target_refusals(run->target)) {
		complain_refusals(run->target);
		return STATUS_REFUSED;
	}
	return error < 0 ? complain_error(run->target, error) : STATUS_DONE;
}

/* ---- watch ---- */

static void draw(struct run *run)
{
	struct table_space space;
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return;
	screen_size(&space);
	table_print_live(&run->table, out, space);
	if (fclose(out) == 0)
		screen_draw(text);
	free(text);
	run->resized = false;
}

static uint64_t earliest(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static int watch(struct run *run)
{
	const struct arguments *arguments = run->arguments;
	uint64_t end = arguments->bounded ? run->table.start_ns + arguments->for_ns : UINT64_MAX;
	uint64_t next_draw = run->table.start_ns;

	for (;;) {
		uint64_t now = monotonic_ns(), check;
		int gone;

		if (run->ending || now >= end)
			return STATUS_DONE;
		gone = suture_target_read(run->target);
		if (gone < 0)
			return complain_error(run->target, gone);
		if (gone)
			return STATUS_DONE;
		if (run->live && now >= next_draw) {
			table_sample(&run->table, now);
			next_draw = now + arguments->interval_ns;
			run->resized = true;
		}
		if (run->live && run->resized)
			draw(run);
		check = now + (run->process_fd < 0 ? CHECK_ORPHANS_NS : CHECK_NS);
		if (run->live)
			check = earliest(check, next_draw);
		wait_until(run, earliest(check, end));
	}
}

/* ---- detach ---- */

/* Of an attempt to restore: nothing that is wrong then was wrong with the arguments. */
static int restore_status(int error)
{
	int status = status_of_error(error);

	return status == STATUS_PROCESS || status == STATUS_TIMEOUT ? status : STATUS_INTERNAL;
}

static int detach(struct run *run)
{
	uint64_t give_up = monotonic_ns() + DETACH_TRY_FOR_NS;
	int pid = (int)run->arguments->pid, error;
	bool told = false;

	run->restoring = true;
	for (;;) {
		uint64_t retry;

		error = suture_target_detach(run->target);
		take_events(run);
		if (error >= 0) {
			progress_clear();
			return STATUS_DONE;
		}
		retry = monotonic_ns() + DETACH_RETRY_NS;
		if (retry > give_up)
			break;
		if (!told)
			complain("cannot restore process %d yet, trying on: %s", pid,
			         suture_target_error(run->target));
		told = true;
		while (monotonic_ns() < retry) {
			progress_show("waiting to restore", 0, 0);
			wait_until(run, earliest(retry, monotonic_ns() + CHECK_NS / 5));
		}
	}
	complain("process %d keeps its probes, which is harmless (%s); "
	         "to remove them: suture revert -p %d",
	         pid, suture_target_error(run->target), pid);
	return restore_status(error);
}

/* ---- report ---- */

static int report(struct run *run, bool counted)
{
	if (!run->arguments->json) {
		table_print_final(&run->table, stdout);
	} else if (json_print_count(run->target, run->arguments->pid, counted, stdout)) {
		complain("out of memory for the report");
		return STATUS_INTERNAL;
	}
	return finish_output(stdout);
}

static int first_failure(int a, int b)
{
	return a ? a : b;
}

/* From attached to detached; the report comes when the target is as it was. */
static int count_attached(struct run *run)
{
	int status = table_open(&run->table, run->arguments->pid, run->target);
	uint64_t end_ns;
	int detached;

	if (status < 0) {
		complain("%s", strerror(-status));
		return first_failure(detach(run), STATUS_INTERNAL);
	}
	run->live = !run->arguments->json && screen_open();
	status = watch(run);
	end_ns = monotonic_ns();
	screen_leave();
	detached = detach(run);
	audit_detach(&run->audit, run->target, detached);
	status = first_failure(detached, status);
	table_sample(&run->table, end_ns);
	signals_release();
	status = first_failure(status, report(run, true));
	table_close(&run->table);
	return status;
}

static int plan(struct run *run)
{
	int error = suture_target_plan(run->target), status = STATUS_DONE;

	progress_clear();
	if (error == -EOPNOTSUPP && suture_target_refusals(run->target)) {
		complain_refusals(run->target);
		status = STATUS_REFUSED;
	} else if (error < 0) {
		return complain_error(run->target, error);
	}
	if (!run->arguments->json)
		dry_run_print(run->target, run->arguments->pid, stdout);
	else if (json_print_plan(run->target, run->arguments->pid, stdout))
		complain("out of memory for the report");
	return first_failure(status, finish_output(stdout));
}

static int open_target(struct run *run)
{
	struct arguments *arguments = run->arguments;
	int status = suture_target_open(arguments->pid, &arguments->options, &run->target);

	if (status < 0)
		return complain_error(NULL, status);
	status = add_specs(run);
	if (!status && run->ending) {
		/* Not "done": that promises a report. */
		complain("interrupted before anything was counted");
		return STATUS_INTERNAL;
	}
	return status;
}

static int count(struct run *run)
{
	struct arguments *arguments = run->arguments;
	int status = audit_open(&run->audit, arguments->log, arguments->pid);

	if (!status)
		status = audit_begin(&run->audit, "attach-begin", arguments->spec_count,
		                     arguments->options.max_pause_ns);
	if (status)
		return status;
	status = open_target(run);
	if (!status)
		status = attach(run);
	audit_attach(&run->audit, run->target, status);
	if (status == STATUS_REFUSED && arguments->json)
		report(run, false);
	if (!status)
		status = count_attached(run);
	return first_failure(status, audit_close(&run->audit));
}

int command_count(struct arguments *arguments)
{
	struct run run = {.arguments = arguments, .process_fd = -1};
	int status;

	/* It may be a terminal or a pipe that nobody writes to: Ctrl-C must end that. */
	if (arguments->specs_from && (status = specs_read(arguments)))
		return status;
	run.signals_fd = signals_hold();
	if (run.signals_fd < 0) {
		complain("cannot hold signals back: %s", strerror(-run.signals_fd));
		return STATUS_INTERNAL;
	}
	arguments->options.progress = report_progress;
	arguments->options.progress_arg = &run;
	if (arguments->dry_run)
		status = (status = open_target(&run)) ? status : plan(&run);
	else
		status = count(&run);
	suture_target_close(run.target);
	if (run.process_fd >= 0)
		close(run.process_fd);
	return status;
}
