/* SPDX-License-Identifier: MIT */
/*
 * restore.c - leave without a trace: original text, no memory of ours, in every process that
 * shares it.
 *
 * A process may be forked while we work. Why the loop below ends with nothing left: a process
 * can only be born with our mapping from a parent that has it. Say a scan of /proc finds nobody.
 * Whoever had the mapping when the scan began existed all through the scan or lost it, and was
 * not missed; a child born during the scan had a parent that would have been found. So nobody
 * has it, and nobody can get it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include "session.h"

/* Far beyond a million sites; what is larger is no journal of ours, and is not read. */
#define REGISTRY_MAX ((uint64_t)256 << 20)
enum { FAMILY_MAX = 512, ROUNDS_MAX = 200, FAILED_ROUNDS_MAX = 8, REVERT_TRIES_MIN = 12 };

int lock_process(pid_t pid)
{
	char path[64];
	int fd, rc;

	snprintf(path, sizeof(path), "/proc/%d", pid);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return fd;
	rc = errno == EWOULDBLOCK ? -EBUSY : -errno;
	close(fd);
	return rc;
}

/*
 * Taking the lock to find out would keep away a suture that starts at this moment. /proc/locks has
 * lines like "1: FLOCK  ADVISORY  WRITE 4711 00:16:12345 0 EOF", device numbers in hexadecimal.
 */
bool process_locked(pid_t pid)
{
	char path[64], line[160];
	bool found = false;
	struct stat st;
	FILE *locks;

	snprintf(path, sizeof(path), "/proc/%d", pid);
	if (stat(path, &st))
		return false;
	locks = fopen("/proc/locks", "re");
	while (locks && !found && fgets(line, sizeof(line), locks)) {
		unsigned major_number, minor_number;
		unsigned long inode;

		found = sscanf(line, "%*d: FLOCK %*s WRITE %*d %x:%x:%lu", &major_number,
		               &minor_number, &inode) == 3 &&
		        inode == st.st_ino && major_number == major(st.st_dev) &&
		        minor_number == minor(st.st_dev);
	}
	if (locks)
		fclose(locks);
	return found;
}

/* Our mappings in a process, sorted: all, or only the executable ones. */
static int our_ranges(pid_t pid, const struct process_shared *shared, bool executable,
                      struct port_range **ranges, size_t *count)
{
	struct process_maps maps;
	int rc = process_maps_read(process_member(pid), &maps);

	*count = 0;
	*ranges = NULL;
	if (rc)
		return rc;
	*ranges = calloc(maps.count + 1, sizeof(**ranges));
	for (size_t i = 0; *ranges && i < maps.count; i++) {
		const struct process_mapping *m = &maps.list[i];

		if (m->inode == shared->inode && m->device == shared->device &&
		    (m->execute || !executable))
			(*ranges)[(*count)++] = (struct port_range){m->start, m->end};
	}
	process_maps_free(&maps);
	return *ranges ? 0 : -ENOMEM;
}

enum {
	WORK_PAGE_NS = 12000, /* the first write copies the page */
	WORK_SITE_NS = 4000,
	WORK_SITE_OF_MANY_NS = 300,
	WORK_MANY = 64,
	SCAN_NS = 4000, /* a thread's stack, and what it has registered */
};

uint64_t restore_work_ns(const struct patch_registry *registry)
{
	uint64_t pages = 0, last = ~0ull;

	for (uint32_t i = 0; i < registry->count; i++) {
		uint64_t page = registry->sites[i].address / PROCESS_PAGE;

		pages += page != last;
		last = page;
	}
	return pages * WORK_PAGE_NS +
	       registry->count *
	               (registry->count > WORK_MANY ? WORK_SITE_OF_MANY_NS : WORK_SITE_NS);
}

struct before_writing {
	struct port *port;
	const struct patch_registry *registry;
};

/* All at rest, nothing written yet. */
static int begin_restore(void *arg)
{
	struct before_writing *b = arg;

	return process_budget_check(b->port, restore_work_ns(b->registry), SCAN_NS);
}

static int restore_text(struct restore *r, struct port *port)
{
	struct before_writing before = {port, r->registry};
	struct patch_options options = {
	        .begin = begin_restore,
	        .arg = &before,
	        .deadline_ns = r->deadline_ns,
	        .tries = r->tries > REVERT_TRIES_MIN ? r->tries : REVERT_TRIES_MIN,
	};
	struct port_range *code = NULL, *all = NULL;
	pid_t pid = process_pid(port);
	int rc = our_ranges(pid, &r->shared, true, &code, &options.vacate_count);

	if (!rc)
		rc = our_ranges(pid, &r->shared, false, &all, &options.forget_count);
	options.vacate = code;
	options.forget = all;
	if (!rc)
		rc = patch_revert(port, r->registry, &options);
	free(code);
	free(all);
	if (process_stop_ns(port) > r->stop_ns)
		r->stop_ns = process_stop_ns(port);
	return rc;
}

int wait_alone(pid_t pid, uint64_t deadline_ns, char *error, size_t error_size)
{
	enum { STEP_NS = 1000000 };
	pid_t other = process_sharing_memory(pid);

	for (uint64_t waited = 0; other && waited < deadline_ns; waited += STEP_NS) {
		port_pause(NULL, STEP_NS);
		other = process_sharing_memory(pid);
	}
	if (!other)
		return 0;
	snprintf(error, error_size,
	         "process %d runs in the memory of process %d and would not be stopped with it "
	         "(vfork, or clone without CLONE_THREAD)",
	         other, pid);
	return -ETIMEDOUT;
}

static int restore_steps(struct restore *r, struct port *port)
{
	/* Nobody can be in what nothing leads to: no stop, which may be what has just failed. */
	bool unmap_only = r->untouched && patch_count(port, r->registry) == 0;
	int rc = unmap_only ? 0
	                    : wait_alone(process_pid(port), r->deadline_ns, r->error,
	                                 sizeof(r->error));

	if (!rc && !unmap_only)
		rc = restore_text(r, port);
	if (!rc)
		rc = port_unmap_exec(port);
	if (!rc) {
		int left = process_shared_close_leftovers(port);

		rc = left < 0 ? left : 0;
	}
	return rc;
}

static void explain(struct restore *r, pid_t pid, const struct port *port, int rc)
{
	char reason[sizeof(r->error)];

	if (r->error[0])
		return;
	if (rc == -EBUSY)
		snprintf(reason, sizeof(reason),
		         "a thread of process %d stays inside a trampoline (%s)", pid,
		         process_state(pid) == 'T'
		                 ? "the process is stopped; continue it with SIGCONT"
		                 : "in a signal handler?");
	else if (process_check(pid, reason, sizeof(reason)) != PROCESS_TRACED)
		snprintf(reason, sizeof(reason), "%s",
		         port && *process_error(port) ? process_error(port) : strerror(-rc));
	snprintf(r->error, sizeof(r->error), "%s", reason);
}

static int restore_process(struct restore *r, pid_t pid)
{
	struct port *port = NULL;
	int rc = process_open(pid, &port);

	r->error[0] = 0;
	if (!rc) {
		process_set_go(port, r->is_go);
		process_set_budget(port, r->untouched ? 0 : r->max_pause_ns);
		rc = process_budget_least(port);
	}
	if (!rc)
		rc = process_shared_adopt(port, &r->shared);
	if (!rc)
		rc = restore_steps(r, port);
	/* One that ended, or called exec, has nothing of ours any more. */
	if (rc == -ESRCH || rc == -ENOENT)
		rc = 0;
	else if (rc)
		explain(r, pid, port, rc);
	else
		r->processes++;
	process_close(port);
	return rc;
}

void restore_descriptors(const struct process_shared *shared)
{
	enum { ROUNDS = 16 };
	pid_t pids[FAMILY_MAX];

	for (int round = 0; round < ROUNDS; round++) {
		int n = process_holders(shared, pids, FAMILY_MAX);

		for (int i = 0; i < n && i < FAMILY_MAX; i++) {
			struct port *port;

			if (process_open(pids[i], &port))
				continue;
			(void)!process_shared_close_leftovers(port);
			process_close(port);
		}
		if (n <= 0)
			return;
	}
}

int restore_family(struct restore *r)
{
	pid_t pids[FAMILY_MAX];
	int rc = 0, failed_rounds = 0;

	r->error[0] = 0;
	for (int round = 0; round < ROUNDS_MAX && failed_rounds < FAILED_ROUNDS_MAX; round++) {
		int n = process_family(&r->shared, pids, FAMILY_MAX);

		if (n <= 0) {
			restore_descriptors(&r->shared);
			return n;
		}
		rc = 0;
		if (r->progress)
			r->progress("restoring", (size_t)round, 0, r->progress_arg);
		/* The eldest first: it is the one that forks. */
		for (int i = 0; i < n && i < FAMILY_MAX; i++) {
			int one = restore_process(r, pids[i]);

			rc = one ? one : rc;
		}
		failed_rounds += rc != 0;
	}
	return rc ? rc : -EBUSY;
}

/* ---- what a dead owner left ---- */

static const struct process_mapping *find_data(const struct process_maps *maps)
{
	for (size_t i = 0; i < maps->count; i++)
		if (process_mapping_is_ours(&maps->list[i]) && maps->list[i].offset == 0 &&
		    maps->list[i].write)
			return &maps->list[i];
	return NULL;
}

static bool journal_valid(const struct journal *j, const struct process_mapping *m)
{
	uint64_t size = m->end - m->start;

	return j->magic == JOURNAL_MAGIC && j->data_address == m->start && j->data_size == size &&
	       j->calls % 8 == 0 && j->calls < size && size - j->calls >= PROCESS_CALLS_SIZE &&
	       j->registry % 8 == 0 && j->registry < size &&
	       size - j->registry >= j->registry_size &&
	       j->registry_size >= sizeof(struct patch_registry) &&
	       j->registry_size <= REGISTRY_MAX;
}

int restore_read_journal(struct port *port, struct journal *journal,
                         struct patch_registry **registry, struct restore *r)
{
	struct process_maps maps;
	const struct process_mapping *m;
	int rc = process_maps_read(process_member(process_pid(port)), &maps);

	*registry = NULL;
	if (rc)
		return rc;
	m = find_data(&maps);
	rc = m ? port_read(port, m->start, journal, sizeof(*journal)) : -ENOENT;
	if (!rc && !journal_valid(journal, m))
		rc = -EBADMSG;
	if (!rc) {
		r->shared = (struct process_shared){.device = m->device,
		                                    .inode = m->inode,
		                                    .data_address = journal->data_address,
		                                    .data_size = journal->data_size,
		                                    .calls = journal->calls};
		r->is_go = journal->is_go != 0;
		*registry = malloc(journal->registry_size);
		rc = *registry ? port_read(port, m->start + journal->registry, *registry,
		                           journal->registry_size)
		               : -ENOMEM;
	}
	process_maps_free(&maps);
	if (!rc && !patch_registry_valid(*registry, journal->registry_size, PROCESS_PAGE))
		rc = -EBADMSG;
	r->registry = *registry;
	if (rc) {
		free(*registry);
		*registry = NULL;
	}
	return rc;
}

int restore_leftovers(pid_t pid, const struct suture_target_options *options, uint64_t *stop_ns,
                      char *error, size_t error_size)
{
	struct restore r = {
	        .deadline_ns = options->deadline_ns,
	        .tries = options->tries,
	        .max_pause_ns = options->max_pause_ns,
	        .progress = options->progress,
	        .progress_arg = options->progress_arg,
	};
	struct patch_registry *registry = NULL;
	struct journal journal;
	struct port *port;
	int rc = process_open(pid, &port);

	if (rc)
		return rc;
	rc = restore_read_journal(port, &journal, &registry, &r);
	if (rc == 0) {
		rc = restore_family(&r);
		/* Not another suture's process: somebody stays inside. */
		rc = rc == -EBUSY ? -ETIMEDOUT : rc ? rc : (int)r.processes;
		*stop_ns = r.stop_ns;
		if (r.error[0])
			snprintf(error, error_size, "%s", r.error);
	} else if (rc == -EBADMSG) {
		snprintf(
		        error, error_size,
		        "process %d holds memory of a suture whose journal is damaged; nothing was "
		        "changed",
		        pid);
	} else if (rc == -ENOENT) {
		rc = process_shared_close_leftovers(port);
		if (rc > 0) {
			restore_descriptors(process_shared_of(port));
			rc = 1;
		}
		if (rc < 0)
			snprintf(error, error_size, "%s", process_error(port));
	}
	free(registry);
	process_close(port);
	if (rc >= 0 && process_uprobe_leftovers(pid) > 0 && rc == 0)
		rc = 1;
	return rc;
}

struct revert_work {
	pid_t pid;
	const struct suture_target_options *options;
	uint64_t stop_ns;
	char error[512];
};

static int revert_work(void *arg)
{
	struct revert_work *w = arg;

	return restore_leftovers(w->pid, w->options, &w->stop_ns, w->error, sizeof(w->error));
}

int suture_target_revert(pid_t pid, const struct suture_target_options *given)
{
	struct suture_target_options options;
	struct revert_work w = {.pid = pid, .options = &options};
	enum process_refusal refusal;
	char text[256];
	int lock, rc;

	options_default(&options, given);
	refusal = process_check(pid, text, sizeof(text));
	if (refusal)
		return thread_fail(refusal_errno(refusal), "%s", text);
	lock = lock_process(pid);
	if (lock < 0)
		return lock == -EBUSY ? thread_fail(lock, "another suture works on process %d", pid)
		                      : thread_fail(lock, "process %d can not be opened: %s", pid,
		                                    strerror(-lock));
	rc = run_tracing(revert_work, &w);
	thread_pause = (struct suture_pause){.detach_ns = w.stop_ns};
	close(lock);
	if (rc < 0)
		return thread_fail(rc, "%s", w.error[0] ? w.error : strerror(-rc));
	return rc;
}

int suture_target_status(pid_t pid, struct suture_status *out)
{
	struct patch_registry *registry;
	struct restore r = {0};
	struct journal journal;
	struct port_range *ranges;
	enum process_refusal refusal;
	struct port *port;
	char text[256];
	size_t mappings = 0;
	int rc, lock, sites = 0;

	*out = (struct suture_status){0};
	refusal = process_check(pid, text, sizeof(text));
	/* Looking does not need to trace. */
	if (refusal && refusal != PROCESS_TRACED && refusal != PROCESS_SECCOMP &&
	    refusal != PROCESS_SHADOW_STACK)
		return thread_fail(refusal_errno(refusal), "%s", text);
	rc = process_open(pid, &port);
	if (rc)
		return thread_fail(rc, "process %d can not be opened: %s", pid, strerror(-rc));
	rc = restore_read_journal(port, &journal, &registry, &r);
	if (!rc) {
		pid_t pids[1];
		int family = process_family(&r.shared, pids, 1);
		uint64_t start = 0;

		sites = patch_count(port, registry);
		rc = our_ranges(pid, &r.shared, false, &ranges, &mappings);
		free(ranges);
		out->processes = family > 0 ? (unsigned)family : 0;
		out->owner = (pid_t)journal.owner;
		lock = lock_process(pid);
		out->owner_alive = lock == -EBUSY || (process_start_time(out->owner, &start) == 0 &&
		                                      start == journal.owner_start);
		if (lock >= 0)
			close(lock);
	}
	process_close(port);
	free(registry);
	out->sites = sites > 0 ? (unsigned)sites : 0;
	out->mappings = (unsigned)mappings;
	if (rc == -ENOENT)
		return 0;
	if (rc == -EBADMSG)
		return thread_fail(
		        rc, "process %d holds memory of a suture whose journal is damaged", pid);
	return rc ? thread_fail(rc, "process %d: %s", pid, strerror(-rc)) : 0;
}
