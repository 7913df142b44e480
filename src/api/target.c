/* SPDX-License-Identifier: MIT */
/* target.c - a session with another process, from open to close. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "session.h"

enum {
	DEFAULT_DEADLINE_NS = 250000000,
	DEFAULT_TRIES = 4,
	DEFAULT_PUN_PAGES = 256,
	DEFAULT_PAGES = 16384,
	MAP_TRIES = 4,
	UPROBE_TRIES = 3,
};
static __thread char thread_error[1024];
__thread struct suture_pause thread_pause;

int target_fail(struct suture_target *t, int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(t->error, sizeof(t->error), format, args);
	va_end(args);
	return error;
}

int thread_fail(int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(thread_error, sizeof(thread_error), format, args);
	va_end(args);
	return error;
}

const char *suture_target_error(const struct suture_target *t)
{
	return t ? t->error : thread_error;
}

const char *suture_site_kind_name(enum suture_site_kind kind)
{
	static const char *const names[] = {"none", "pun", "window", "uprobe", "trap"};

	return kind >= SUTURE_SITE_PUN && kind <= SUTURE_SITE_TRAP ? names[kind] : names[0];
}

const char *suture_counter_kind_name(enum suture_counter_kind counter)
{
	static const char *const names[] = {"none", "rseq", "lock", "kernel"};

	return counter >= SUTURE_COUNTER_RSEQ && counter <= SUTURE_COUNTER_KERNEL ? names[counter]
	                                                                          : names[0];
}

void options_default(struct suture_target_options *out, const struct suture_target_options *given)
{
	*out = (struct suture_target_options){.size = sizeof(*out)};
	if (given)
		memcpy(out, given, given->size < sizeof(*out) ? given->size : sizeof(*out));
	/* Who may stand still for long may take long to come to rest. */
	if (!out->deadline_ns)
		out->deadline_ns = out->max_pause_ns > DEFAULT_DEADLINE_NS ? out->max_pause_ns
		                                                           : DEFAULT_DEADLINE_NS;
	if (!out->tries)
		out->tries = DEFAULT_TRIES;
	if (!out->pages)
		out->pages = DEFAULT_PAGES;
	if (!out->pun_pages)
		out->pun_pages = DEFAULT_PUN_PAGES;
	if (out->pun_pages > out->pages)
		out->pun_pages = out->pages;
}

int refusal_errno(enum process_refusal refusal)
{
	switch (refusal) {
	case PROCESS_OK:
		return 0;
	case PROCESS_GONE:
	case PROCESS_IS_THREAD:
	case PROCESS_IS_ZOMBIE:
		return -ESRCH;
	case PROCESS_NOT_X86_64:
		return -ENOEXEC;
	default:
		return -EPERM;
	}
}

int suture_target_open(pid_t pid, const struct suture_target_options *options,
                       struct suture_target **out)
{
	enum process_refusal refusal;
	struct suture_target *t;
	char text[256];
	int rc;

	*out = NULL;
	refusal = process_check(pid, text, sizeof(text));
	if (refusal)
		return thread_fail(refusal_errno(refusal), "%s", text);
	t = calloc(1, sizeof(*t));
	if (!t)
		return thread_fail(-ENOMEM, "out of memory");
	t->pid = pid;
	options_default(&t->options, options);
	t->lock = lock_process(pid);
	rc = t->lock < 0 ? t->lock : process_open(pid, &t->port);
	if (rc) {
		suture_target_close(t);
		return rc == -EBUSY   ? thread_fail(rc, "another suture works on process %d", pid)
		       : rc == -ESRCH ? thread_fail(rc, "no process %d", pid)
		                      : thread_fail(rc, "process %d can not be opened: %s", pid,
		                                    strerror(-rc));
	}
	*out = t;
	return 0;
}

void suture_target_close(struct suture_target *t)
{
	if (!t)
		return;
	if (t->attached)
		(void)suture_target_detach(t);
	for (size_t i = 0; i < t->site_count; i++) {
		process_uprobe_close(&t->sites[i].uprobe);
		free(t->sites[i].reason);
	}
	for (size_t i = 0; i < t->spec_count; i++)
		free(t->specs[i].text);
	free(t->sites);
	free(t->specs);
	free(t->probes);
	free(t->listed);
	free(t->refused);
	target_free_modules(t);
	tramp_space_free(t->space);
	free(t->left);
	process_close(t->port);
	if (t->lock >= 0)
		close(t->lock);
	free(t);
}

/* ---- attach ---- */

bool target_is_go(const struct suture_target *t)
{
	for (size_t i = 0; i < t->module_count; i++)
		if (t->modules[i].module && module_is_go(t->modules[i].module))
			return true;
	return false;
}

static void progress(struct suture_target *t, const char *what)
{
	if (t->options.progress)
		t->options.progress(what, 0, 0, t->options.progress_arg);
}

/* All at rest, nothing written yet: from here on everything counts. */
static int begin_attach(void *arg)
{
	struct suture_target *t = arg;
	struct process_rseq rseq;

	if (t->registry && t->counters.kind == TRAMP_COUNTER_RSEQ &&
	    (process_rseq(t->port, &rseq) || rseq.offset != t->counters.rseq_offset ||
	     rseq.signature != t->counters.rseq_signature))
		return -EPROTOTYPE; /* not every thread can: count with locked instructions */
	if (t->registry && process_budget_check(t->port, restore_work_ns(t->registry), 0))
		return -ETIMEDOUT;
	for (size_t i = 0; i < t->site_count; i++)
		if (t->sites[i].uprobe.count && process_uprobe_begin(&t->sites[i].uprobe))
			return -EIO;
	t->written = true;
	return 0;
}

static void close_uprobes(struct suture_target *t)
{
	for (size_t i = 0; i < t->site_count; i++) {
		if (t->options.progress && t->sites[i].uprobe.count)
			t->options.progress("removing kernel uprobes", i, t->site_count,
			                    t->options.progress_arg);
		process_uprobe_close(&t->sites[i].uprobe);
	}
}

static const char *uprobe_error(int rc)
{
	enum { ENOTSUPP = 524 }; /* include/linux/errno.h: not for user space */

	return rc == -ENOTSUPP ? "it can not execute this instruction elsewhere"
	       : rc == -EPERM  ? "not permitted (needs CAP_PERFMON)"
	       : rc == -EACCES ? "no access (needs CAP_PERFMON)"
	                       : strerror(-rc);
}

static void open_uprobes_for(struct suture_target *t, const pid_t *tids, size_t count)
{
	for (size_t i = 0; i < t->site_count; i++) {
		struct site *site = &t->sites[i];
		int rc;

		if (site->error || site->kind != SUTURE_SITE_UPROBE)
			continue;
		if (t->options.progress)
			t->options.progress("placing kernel uprobes", i, t->site_count,
			                    t->options.progress_arg);
		rc = process_uprobe_open(t->port, tids, count, site->address, &site->uprobe);
		if (rc)
			site_refuse(site, -EOPNOTSUPP,
			            "no jump fits there, and the kernel refuses a uprobe: %s",
			            uprobe_error(rc));
	}
}

/* While the target runs; anew if a thread was created meanwhile, see uprobe.c. */
static int open_uprobes(struct suture_target *t)
{
	size_t sites = 0;

	for (size_t i = 0; i < t->site_count; i++)
		sites += !t->sites[i].error && t->sites[i].kind == SUTURE_SITE_UPROBE;
	for (int try = 0; sites && try < UPROBE_TRIES; try++) {
		pid_t *before = NULL, *after = NULL;
		size_t count, count_after;
		bool same = false;
		int rc = process_tasks(t->pid, &before, &count);

		if (!rc) {
			open_uprobes_for(t, before, count);
			rc = process_tasks(t->pid, &after, &count_after);
		}
		if (!rc)
			same = count == count_after &&
			       !memcmp(before, after, count * sizeof(*before));
		free(before);
		free(after);
		if (rc)
			return target_fail(t, rc, "process %d is gone", t->pid);
		if (same)
			return target_check_exact(t);
		close_uprobes(t);
	}
	for (size_t i = 0; i < t->site_count; i++)
		if (t->sites[i].kind == SUTURE_SITE_UPROBE)
			site_refuse(
			        &t->sites[i], -EOPNOTSUPP,
			        "no jump fits there, and threads come and go too fast to place a "
			        "kernel uprobe in each");
	return sites ? target_check_exact(t) : 0;
}

/* Inside a window, or between a site and the instruction after it that counts for it. */
bool site_clear_range(const struct site *site, struct port_range *range)
{
	uint64_t patch = site_patch(site);

	*range = (struct port_range){site->shift ? site->address + 1 : patch + site->length + 1,
	                             patch + 1};
	if (site->error || site->kind == SUTURE_SITE_UPROBE)
		return false;
	if (site->kind == SUTURE_SITE_WINDOW && site->window.continuation)
		range->end = patch + site->window.length;
	return range->start < range->end;
}

static size_t clear_ranges(const struct suture_target *t, struct port_range *ranges)
{
	size_t n = 0;

	for (size_t i = 0; i < t->site_count; i++)
		n += site_clear_range(&t->sites[i], &ranges[n]);
	return n;
}

static int apply(struct suture_target *t)
{
	struct port_range *clear = calloc(t->site_count + 1, sizeof(*clear));
	struct patch_options options = {
	        .deadline_ns = t->options.deadline_ns,
	        .tries = t->options.tries,
	        .clear = clear,
	        .begin = begin_attach,
	        .arg = t,
	};
	size_t failed = 0;
	int rc;

	if (!clear)
		return target_fail(t, -ENOMEM, "out of memory");
	options.clear_count = clear_ranges(t, clear);
	t->error[0] = 0;
	rc = patch_apply(t->port, t->registry, &options, &failed);
	t->pause.attach_ns = process_stop_ns(t->port);
	free(clear);
	if (rc == -EUCLEAN)
		target_fail(t, -EOPNOTSUPP,
		            "the code at 0x%lx changed while it was looked at (another tool?); "
		            "nothing was written",
		            (unsigned long)t->registry->sites[failed].address);
	else if (rc == -EFAULT)
		target_fail(t, rc, "the code at 0x%lx is no longer mapped; nothing was changed",
		            (unsigned long)t->registry->sites[failed].address);
	else if (rc == -EBUSY)
		target_fail(
		        t, -ETIMEDOUT,
		        "a thread of process %d stays inside the code to be changed; nothing was "
		        "changed",
		        t->pid);
	else if (rc && !t->error[0])
		target_fail(t, rc, "%s",
		            *process_error(t->port) ? process_error(t->port) : strerror(-rc));
	return rc == -EUCLEAN ? -EOPNOTSUPP : rc == -EBUSY ? -ETIMEDOUT : rc;
}

static struct restore restore_of(struct suture_target *t)
{
	return (struct restore){
	        .registry = t->registry,
	        .shared = t->shared,
	        .is_go = t->is_go,
	        .deadline_ns = t->options.deadline_ns,
	        .tries = t->options.tries,
	        .max_pause_ns = t->options.max_pause_ns,
	        .progress = t->options.progress,
	        .progress_arg = t->options.progress_arg,
	};
}

/* Bodies for the counters that the threads can use. */
static int build(struct suture_target *t, enum tramp_counter kind)
{
	int rc;

	t->counters.kind = kind;
	rc = target_build_bodies(t);
	if (!rc)
		target_fill_memory(t);
	return rc ? target_fail(t, rc, "trampolines can not be built: %s", strerror(-rc)) : 0;
}

static int map_memory(struct suture_target *t)
{
	struct process_rseq rseq;
	struct port_pages *pages;
	enum tramp_counter kind;
	size_t count;
	int rc = process_shared_create(t->port, t->layout.file_size, &rseq);

	if (!rc) {
		kind = t->options.no_rseq || !rseq.signature ? TRAMP_COUNTER_LOCK
		                                             : TRAMP_COUNTER_RSEQ;
		t->counters.rseq_offset = rseq.offset;
		t->counters.rseq_signature = rseq.signature;
		process_shared_layout(t->port, t->layout.data_address, t->layout.data_size,
		                      t->layout.calls, &t->shared);
		rc = tramp_layout(t->space, t->layout.trampolines, &pages, &count);
	}
	if (rc)
		return target_fail(t, rc, "%s", process_error(t->port));
	rc = build(t, kind);
	if (!rc) {
		rc = process_shared_map(t->port);
		if (!rc)
			rc = port_map_exec(t->port, pages, count);
		if (!rc)
			restore_descriptors(&t->shared); /* of forks in between */
		if (rc)
			target_fail(t, rc, "%s", process_error(t->port));
	}
	free(pages);
	return rc;
}

/* Take back whatever an attach that failed has mapped. */
static void unmap(struct suture_target *t)
{
	struct restore r = restore_of(t);
	int rc = 0;

	r.untouched = !t->written;
	if (t->shared.inode && t->registry)
		rc = restore_family(&r);
	if (rc)
		snprintf(t->error + strlen(t->error), sizeof(t->error) - strlen(t->error),
		         "; memory of ours is still mapped, unused, since %s: suture revert -p %d",
		         r.error[0] ? r.error : strerror(-rc), t->pid);
	(void)!process_shared_close_leftovers(t->port);
	process_shared_release(t->port);
	t->shared = (struct process_shared){0};
	t->registry = NULL;
}

void target_forget_plan(struct suture_target *t)
{
	for (size_t i = 0; i < t->site_count; i++) {
		process_uprobe_close(&t->sites[i].uprobe);
		free(t->sites[i].reason);
	}
	free(t->sites);
	tramp_space_free(t->space);
	t->sites = NULL;
	t->site_count = 0;
	t->space = NULL;
}

static int attach_once(struct suture_target *t)
{
	int rc = target_plan(t);

	if (!rc)
		rc = open_uprobes(t);
	if (!rc && !tramp_space_pages(t->space))
		return begin_attach(t); /* nothing to write: nobody need stop */
	if (!rc) {
		progress(t, "mapping trampolines");
		rc = map_memory(t);
		if (!rc)
			rc = apply(t);
		if (rc == -EPROTOTYPE) {
			rc = build(t, TRAMP_COUNTER_LOCK);
			if (!rc)
				rc = apply(t);
		}
		if (rc)
			unmap(t);
	}
	if (rc)
		close_uprobes(t);
	return rc;
}

static int attach_work(void *arg)
{
	struct suture_target *t = arg;
	uint64_t stop_ns = 0;
	int rc;

	t->written = false;
	process_set_budget(t->port, t->options.max_pause_ns);
	rc = process_budget_least(t->port);
	if (rc)
		return target_fail(t, rc, "%s", process_error(t->port));
	rc = restore_leftovers(t->pid, &t->options, &stop_ns, t->error, sizeof(t->error));
	if (rc < 0)
		return t->error[0] ? rc : target_fail(t, rc, "%s", strerror(-rc));
	t->is_go = target_is_go(t);
	process_set_go(t->port, t->is_go);
	rc = wait_alone(t->pid, t->options.deadline_ns * t->options.tries, t->error,
	                sizeof(t->error));
	if (rc)
		return rc;
	/* An address that was free may be taken by the time we map, and code may be gone by the
	 * time we write: look again. */
	for (int try = 0; try < MAP_TRIES; try++) {
		if (try)
			target_forget_plan(t);
		rc = attach_once(t);
		if (rc != -EEXIST && rc != -EFAULT)
			break;
	}
	return rc == -EFAULT ? -EOPNOTSUPP : rc;
}

int target_list_probes(struct suture_target *t)
{
	free(t->listed);
	free(t->refused);
	t->listed_count = t->refused_count = 0;
	t->listed = calloc(t->probe_count + 1, sizeof(*t->listed));
	t->refused = calloc(t->probe_count + 1, sizeof(*t->refused));
	if (!t->listed || !t->refused)
		return target_fail(t, -ENOMEM, "out of memory");
	for (size_t i = 0; i < t->probe_count && t->sites; i++) {
		if (t->sites[t->probes[i].site].error)
			t->refused[t->refused_count++] = (uint32_t)i;
		else
			t->listed[t->listed_count++] = (uint32_t)i;
	}
	return 0;
}

int suture_target_attach(struct suture_target *t)
{
	pid_t pids[1];
	int rc, listed;

	if (t->attached)
		return target_fail(t, -EBUSY, "already attached");
	if (t->looking)
		return target_fail(t, -EPERM, "process %d was opened to look at it only", t->pid);
	if (!t->probe_count)
		return target_fail(t, -EINVAL, "nothing to count");
	target_forget_plan(t);
	process_shared_release(t->port); /* of an earlier attach */
	t->shared = (struct process_shared){0};
	t->registry = NULL;
	t->error[0] = 0;
	rc = run_tracing(attach_work, t);
	listed = target_list_probes(t);
	if (rc && process_gone(t->port))
		return target_fail(t, -ESRCH, "process %d has ended", t->pid);
	if (rc || listed) {
		t->listed_count = 0;
		return rc ? rc : listed;
	}
	t->attached = true;
	t->processes = 1;
	if (t->shared.inode) {
		int family = process_family(&t->shared, pids, 1);

		t->processes = family > 0 ? (unsigned)family : 1;
	}
	return 0;
}

/* ---- while attached ---- */

static void read_hits(struct suture_target *t)
{
	target_sum_cells(t);
	for (size_t i = 0; i < t->site_count; i++)
		if (t->sites[i].uprobe.count)
			(void)!process_uprobe_read(&t->sites[i].uprobe, &t->sites[i].hits);
}

int suture_target_read(struct suture_target *t)
{
	pid_t pids[1];

	read_hits(t);
	if (!t->attached || !process_gone(t->port))
		return 0;
	return !t->shared.inode || process_family(&t->shared, pids, 1) <= 0;
}

static int detach_work(void *arg)
{
	return restore_family(arg);
}

int suture_target_detach(struct suture_target *t)
{
	struct restore r = restore_of(t);
	pid_t pids[1];
	int rc = 0, family;

	if (!t->attached)
		return 0;
	if (t->shared.inode) {
		family = process_family(&t->shared, pids, 1);
		t->processes = family > 1 ? (unsigned)family : 1;
		rc = run_tracing(detach_work, &r);
		t->pause.detach_ns = r.stop_ns;
	}
	read_hits(t);
	if (rc)
		return target_fail(t, rc == -EBUSY ? -ETIMEDOUT : rc, "%s",
		                   r.error[0] ? r.error : strerror(-rc));
	close_uprobes(t);
	t->attached = false;
	return 0;
}

/* ---- results ---- */

size_t suture_target_probes(const struct suture_target *t)
{
	return t->listed_count;
}

int suture_target_probe(const struct suture_target *t, size_t index,
                        struct suture_target_probe *out)
{
	const struct probe *probe;
	const struct site *site;

	if (index >= t->listed_count)
		return -ERANGE;
	probe = &t->probes[t->listed[index]];
	site = &t->sites[probe->site];
	*out = (struct suture_target_probe){
	        .spec = t->specs[probe->spec].text,
	        .module = t->modules[probe->module].name,
	        .symbol = probe->symbol,
	        .offset = probe->offset,
	        .address = probe->address,
	        .vaddr = probe->vaddr,
	        .kind = site->kind,
	        .counter = site->kind == SUTURE_SITE_UPROBE         ? SUTURE_COUNTER_KERNEL
	                   : t->counters.kind == TRAMP_COUNTER_RSEQ ? SUTURE_COUNTER_RSEQ
	                                                            : SUTURE_COUNTER_LOCK,
	        .hits = site->hits,
	};
	return 0;
}

size_t suture_target_refusals(const struct suture_target *t)
{
	return t->refused_count;
}

int suture_target_refusal(const struct suture_target *t, size_t index, struct suture_refusal *out)
{
	const struct probe *probe;
	const struct site *site;

	if (index >= t->refused_count)
		return -ERANGE;
	probe = &t->probes[t->refused[index]];
	site = &t->sites[probe->site];
	*out = (struct suture_refusal){
	        .spec = t->specs[probe->spec].text,
	        .module = t->modules[probe->module].name,
	        .symbol = probe->symbol,
	        .address = probe->address,
	        .error = site->error,
	        .reason = site->reason ? site->reason : strerror(-site->error),
	};
	return 0;
}

unsigned suture_target_processes(const struct suture_target *t)
{
	return t->processes;
}

void suture_target_pause(const struct suture_target *t, struct suture_pause *out)
{
	*out = t ? t->pause : thread_pause;
}
