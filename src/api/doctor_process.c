/* SPDX-License-Identifier: MIT */
/* doctor_process.c - what a process allows. Each line is looked up, whatever the others say. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "doctor.h"

static void find_name(struct suture_diagnosis *d, pid_t pid)
{
	char name[64];

	process_name(pid, name, sizeof(name));
	finding(d, true, "name", OK("that is how messages call it", NULL), "%s", name);
}

/* States of threads: who is in an uninterruptible sleep can not be stopped. */
static void find_threads(struct suture_diagnosis *d, pid_t pid)
{
	size_t count = 0, asleep = 0, stopped = 0;
	pid_t *tids;

	if (process_tasks(pid, &tids, &count))
		return;
	for (size_t i = 0; i < count; i++) {
		char state = process_state(tids[i]);

		asleep += state == 'D';
		stopped += state == 'T';
	}
	free(tids);
	if (asleep)
		finding(d, true, "threads",
		        NOTE("a thread that waits uninterruptibly can not be stopped; if it stays "
		             "so, counting ends with exit status 5",
		             "wait for it: a vfork, or a device or file system that does not "
		             "answer"),
		        "%zu, %zu in state D", count, asleep);
	else if (stopped)
		finding(d, true, "threads",
		        NOTE("it is stopped by a signal, and stays so; nothing is counted "
		             "meanwhile",
		             "continue it with SIGCONT"),
		        "%zu, %zu stopped", count, stopped);
	else
		finding(d, true, "threads", OK("all can be stopped", NULL), "%zu", count);
}

static void find_tracer(struct suture_diagnosis *d, pid_t member)
{
	uint64_t tracer = 0;
	char name[64];

	if (process_status_field(member, 0, "TracerPid", 10, &tracer) || !tracer) {
		finding(d, true, "traced", OK("a process has one tracer, and that may be us", NULL),
		        "no");
		return;
	}
	process_name((pid_t)tracer, name, sizeof(name));
	finding(d, true, "traced",
	        BLOCKS("a process has one tracer", "end that program, or make it detach"),
	        "by %s (pid %d)", name, (int)tracer);
}

/* The kernel gives the files in /proc/PID of a process that is not dumpable to root (proc(5)). */
static bool not_dumpable(pid_t pid)
{
	uint64_t uid = 0;
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	return stat(path, &st) == 0 && st.st_uid == 0 &&
	       process_status_field(pid, 0, "Uid", 10, &uid) == 0 && uid != 0;
}

static void find_access(struct suture_diagnosis *d, pid_t pid, bool allowed)
{
	uint64_t uid = 0;

	(void)!process_status_field(pid, 0, "Uid", 10, &uid);
	if (not_dumpable(pid)) {
		finding(d, true, "dumpable",
		        allowed ? NOTE("only who has CAP_SYS_PTRACE may look into it, and we have",
		                       NULL)
		                : BLOCKS("only who has CAP_SYS_PTRACE may look into it",
		                         "run as root"),
		        "no");
	}
	if (allowed)
		finding(d, true, "access", OK("its memory can be read and written", NULL),
		        "granted, user %u", (unsigned)uid);
	else if (uid != geteuid())
		finding(d, true, "access",
		        BLOCKS("it belongs to another user", "run as that user or as root"),
		        "denied, user %u", (unsigned)uid);
	else
		finding(d, true, "access",
		        BLOCKS("not dumpable, more capable than we are, or Yama",
		               "run as root; see yama"),
		        "denied, user %u", (unsigned)uid);
}

static void find_executable(struct suture_diagnosis *d, enum process_refusal refusal)
{
	if (refusal == PROCESS_IS_KERNEL)
		finding(d, true, "code",
		        BLOCKS("a kernel thread has no user code", "name a process"),
		        "kernel thread");
	else if (refusal == PROCESS_NOT_X86_64)
		finding(d, true, "code",
		        BLOCKS("only 64-bit x86 code can be changed", "name a 64-bit process"),
		        "not 64-bit x86");
	else
		finding(d, true, "code", OK("instructions that we know", NULL), "64-bit x86");
}

static void find_seccomp(struct suture_diagnosis *d, pid_t pid)
{
	size_t count = 0, confined = 0;
	uint64_t mode = 0;
	pid_t *tids;

	if (process_tasks(pid, &tids, &count))
		return;
	for (size_t i = 0; i < count; i++)
		confined +=
		        process_status_field(pid, tids[i], "Seccomp", 10, &mode) == 0 && mode != 0;
	free(tids);
	if (!confined)
		finding(d, true, "seccomp", OK("it may make the system calls that we need", NULL),
		        "no");
	else if (have_capability(DOCTOR_SYS_ADMIN) && !d->trials.suspend)
		finding(d, true, "seccomp",
		        NOTE("its filters are suspended while it makes our system calls", NULL),
		        "%zu of %zu threads", confined, count);
	else
		finding(d, true, "seccomp",
		        BLOCKS("a filter could kill it for a system call of ours",
		               "run as root (CAP_SYS_ADMIN), so that filters can be suspended"),
		        "%zu of %zu threads", confined, count);
}

static void find_shadow_stack(struct suture_diagnosis *d, enum process_refusal refusal)
{
	if (refusal == PROCESS_SHADOW_STACK)
		finding(d, true, "shadow-stack",
		        BLOCKS("displaced calls would fault",
		               "start it with GLIBC_TUNABLES=glibc.cpu.x86_shstk=off"),
		        "yes");
	else
		finding(d, true, "shadow-stack", OK("calls can be displaced", NULL), "no");
}

static bool same_namespace(pid_t pid, const char *name, bool *known)
{
	char path[64], theirs[64] = "", ours[64] = "";
	ssize_t n, m;

	snprintf(path, sizeof(path), "/proc/%d/ns/%s", pid, name);
	n = readlink(path, theirs, sizeof(theirs) - 1);
	snprintf(path, sizeof(path), "/proc/self/ns/%s", name);
	m = readlink(path, ours, sizeof(ours) - 1);
	*known = n > 0 && m > 0;
	return n == m && strcmp(theirs, ours) == 0;
}

static void find_namespaces(struct suture_diagnosis *d, pid_t member)
{
	bool known, same = same_namespace(member, "user", &known);

	if (!known)
		finding(d, true, "user-namespace", NOTE("can not be seen", "run as root"), "?");
	else if (same)
		finding(d, true, "user-namespace", OK("capabilities count as they are", NULL),
		        "ours");
	else
		finding(d, true, "user-namespace",
		        NOTE("our capabilities count there if it is a descendant of ours", NULL),
		        "another");
	same = same_namespace(member, "pid", &known);
	if (!known)
		finding(d, true, "pid-namespace", NOTE("can not be seen", "run as root"), "?");
	else if (same)
		finding(d, true, "pid-namespace", OK("its numbers are ours", NULL), "ours");
	else
		finding(d, true, "pid-namespace",
		        NOTE("a container: other process numbers inside, files of its own, and its "
		             "own vm.memfd_noexec, which is met when attaching",
		             NULL),
		        "another");
}

static void find_sharing(struct suture_diagnosis *d, pid_t pid)
{
	pid_t other = process_sharing_memory(pid);

	if (!other) {
		finding(d, true, "shared-memory",
		        OK("nobody else runs in its memory: stopping it stops all", NULL), "no");
		return;
	}
	finding(d, true, "shared-memory",
	        BLOCKS("it runs in the same memory and would not be stopped",
	               "wait until it calls exec or ends (vfork); clone without CLONE_THREAD "
	               "stays so"),
	        "with process %d", other);
	diagnosis_refuse(d, -ETIMEDOUT,
	                 "process %d runs in the memory of process %d and would not be stopped "
	                 "with it",
	                 other, pid);
}

static void find_suture(struct suture_diagnosis *d, pid_t pid)
{
	struct suture_status status;

	if (process_locked(pid)) {
		finding(d, true, "suture",
		        BLOCKS("one suture per process",
		               "end the other one, or name all functions to one"),
		        "another is at work");
		diagnosis_refuse(d, -EBUSY, "another suture works on process %d", pid);
		return;
	}
	if (suture_target_status(pid, &status))
		return;
	if (status.sites || status.mappings)
		finding(d, true, "suture",
		        NOTE("left by one that was killed; it does no harm, and the next count "
		             "takes it away",
		             "suture revert"),
		        "%u site%s, %u mapping%s", status.sites, status.sites == 1 ? "" : "s",
		        status.mappings, status.mappings == 1 ? "" : "s");
	else
		finding(d, true, "suture", OK("nothing of an earlier one is there", NULL), "none");
}

static void find_mappings(struct suture_diagnosis *d, pid_t member)
{
	struct process_maps maps;
	char most[32] = "0";
	size_t limit, made = 0;
	bool uprobes = false;

	if (process_maps_read(member, &maps))
		return;
	for (size_t i = 0; i < maps.count; i++) {
		uprobes |= strncmp(maps.list[i].path, "[uprobes", 8) == 0;
		made += maps.list[i].execute && !maps.list[i].path[0];
	}
	(void)read_line("/proc/sys/vm/max_map_count", most, sizeof(most));
	limit = strtoul(most, NULL, 10);
	if (limit > maps.count + 1024)
		finding(d, true, "mappings", OK("there is room for trampolines", NULL),
		        "%zu of %zu", maps.count, limit);
	else
		finding(d, true, "mappings",
		        LIMIT("few trampolines fit: sites become kernel uprobes, or are refused",
		              "sysctl vm.max_map_count"),
		        "%zu of %zu", maps.count, limit);
	if (uprobes)
		finding(d, true, "uprobes-seen",
		        NOTE("a kernel uprobe was hit in it (perf, bpftrace, tracefs); where one "
		             "still is, a site is refused",
		             "end the tool that placed it"),
		        "yes");
	else
		finding(d, true, "uprobes-seen", OK("no kernel uprobe was ever hit in it", NULL),
		        "no");
	if (made)
		finding(d, true, "made-code",
		        NOTE("code that it made itself (a JIT?) has no names here and is left "
		             "alone",
		             NULL),
		        "%zu mappings", made);
	process_maps_free(&maps);
}

/* Nothing tells from outside; and nothing depends on it. */
static void find_mdwe(struct suture_diagnosis *d)
{
	finding(d, true, "mdwe",
	        OK("a process that may not have memory both writable and executable "
	           "(PR_SET_MDWE) can be counted: nothing of ours ever is",
	           NULL),
	        "either way");
}

static void look_into(struct suture_diagnosis *d, pid_t pid)
{
	struct suture_target *target;
	int rc = suture_target_look(pid, NULL, &target);

	if (rc) {
		diagnosis_refuse(d, rc, "%s", suture_target_error(NULL));
		return;
	}
	diagnose_memory(d, target);
	suture_target_close(target);
}

void diagnose_process(struct suture_diagnosis *d, pid_t pid)
{
	char text[256], look_text[256];
	enum process_refusal refusal = process_check(pid, text, sizeof(text));
	enum process_refusal look = process_check_look(pid, look_text, sizeof(look_text));
	pid_t member;

	if (refusal)
		diagnosis_refuse(d, refusal_errno(refusal), "%s", text);
	if (refusal == PROCESS_GONE || refusal == PROCESS_IS_THREAD || refusal == PROCESS_IS_SELF ||
	    refusal == PROCESS_IS_ZOMBIE) {
		finding(d, true, "process",
		        BLOCKS("there is nothing to work on", "name a process that is running"),
		        "%s", text);
		return;
	}
	member = process_member(pid);
	find_name(d, pid);
	find_threads(d, pid);
	find_executable(d, look);
	if (look == PROCESS_IS_KERNEL)
		return;
	find_access(d, pid, look != PROCESS_NOT_PERMITTED);
	find_tracer(d, member);
	find_seccomp(d, pid);
	find_shadow_stack(d, refusal);
	find_namespaces(d, member);
	if (look)
		return;
	find_sharing(d, pid);
	find_suture(d, pid);
	find_mappings(d, member);
	find_mdwe(d);
	look_into(d, pid);
}
