/* SPDX-License-Identifier: MIT */
/* doctor_machine.c - what this machine, and who we are on it, allow. */
#include <errno.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>
#include "doctor.h"

static void find_kernel(struct suture_diagnosis *d)
{
	struct utsname name;

	if (uname(&name) || strcmp(name.machine, "x86_64"))
		finding(d, false, "kernel", BLOCKS("only 64-bit x86 Linux is supported", NULL),
		        "%s", name.machine);
	else
		finding(d, false, "kernel", OK("64-bit x86 Linux", NULL), "%s", name.release);
}

static void find_user(struct suture_diagnosis *d)
{
	static const struct {
		unsigned number;
		const char *name;
	} wanted[] = {{DOCTOR_SYS_PTRACE, "ptrace"},
	              {DOCTOR_SYS_ADMIN, "admin"},
	              {DOCTOR_PERFMON, "perfmon"},
	              {DOCTOR_SYS_NICE, "nice"}};
	char list[64] = "none";
	size_t used = 0;

	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
		if (have_capability(wanted[i].number))
			used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s",
			                         used ? "," : "", wanted[i].name);
	if (geteuid())
		finding(d, false, "user",
		        NOTE("only processes of the same user can be worked on, unless a "
		             "capability says more",
		             "run as root for others"),
		        "%u", geteuid());
	else
		finding(d, false, "user", OK("processes of every user can be worked on", NULL),
		        "root");
	if (have_capability(DOCTOR_SYS_PTRACE))
		finding(d, false, "capabilities", OK("CAP_SYS_PTRACE: Yama does not bind", NULL),
		        "%s", list);
	else
		finding(d, false, "capabilities",
		        NOTE("no CAP_SYS_PTRACE: same user, dumpable, and as Yama says",
		             "run as root"),
		        "%s", list);
}

static void find_yama(struct suture_diagnosis *d)
{
	bool bound = !have_capability(DOCTOR_SYS_PTRACE);
	char scope[16];

	if (!read_line("/proc/sys/kernel/yama/ptrace_scope", scope, sizeof(scope)))
		finding(d, false, "yama", OK("does not restrict who may trace", NULL), "absent");
	else if (strcmp(scope, "0") == 0)
		finding(d, false, "yama", OK("processes of the same user may be traced", NULL),
		        "%s", scope);
	else if (strcmp(scope, "3") == 0)
		finding(d, false, "yama",
		        BLOCKS("nobody may trace, until the next boot",
		               "boot with kernel.yama.ptrace_scope below 3"),
		        "%s", scope);
	else if (!bound)
		finding(d, false, "yama", OK("restricts others: we have CAP_SYS_PTRACE", NULL),
		        "%s", scope);
	else if (strcmp(scope, "1") == 0)
		finding(d, false, "yama",
		        LIMIT("only descendants, and processes that allow it, may be traced",
		              "run as root, or sysctl kernel.yama.ptrace_scope=0"),
		        "%s", scope);
	else
		finding(d, false, "yama",
		        BLOCKS("only who has CAP_SYS_PTRACE may trace", "run as root"), "%s",
		        scope);
}

static void find_ptrace(struct suture_diagnosis *d, int tried)
{
	const struct process_trials *t = &d->trials;

	if (tried || t->open) {
		finding(d, false, "ptrace",
		        LIMIT("could not be tried: no child could be made or opened", NULL), "%s",
		        strerror(tried ? -tried : -t->open));
		return;
	}
	if (t->seize || !t->stops) {
		finding(d, false, "ptrace",
		        BLOCKS("no process can be stopped",
		               "allow ptrace: in a container, its seccomp profile and "
		               "CAP_SYS_PTRACE"),
		        "%s", t->seize ? strerror(-t->seize) : "does not stop");
		diagnosis_refuse(d, -EPERM, "ptrace is not permitted here: %s",
		                 t->seize ? strerror(-t->seize) : "a child did not stop");
		return;
	}
	finding(d, false, "ptrace", OK("a process can be stopped: a child was", NULL), "works");
	if (!t->force)
		finding(d, false, "force-write",
		        OK("text can be written through /proc/PID/mem, and by the library in its "
		           "own process",
		           NULL),
		        "always");
	else if (!t->force_traced)
		finding(d, false, "force-write",
		        LIMIT("text can be written while tracing, which counting does; the library "
		              "can not in its own process",
		              "boot with proc_mem.force_override=always"),
		        "traced");
	else
		finding(d, false, "force-write",
		        BLOCKS("no text can be written through /proc/PID/mem",
		               "boot with proc_mem.force_override=ptrace or always"),
		        "never");
	if (t->force_traced)
		diagnosis_refuse(d, -EPERM,
		                 "text of other processes can not be written here "
		                 "(proc_mem.force_override)");
	if (!t->suspend)
		finding(d, false, "suspend-seccomp",
		        OK("filters of confined processes can be suspended for our system calls",
		           NULL),
		        "works");
	else
		finding(d, false, "suspend-seccomp",
		        LIMIT("confined processes (seccomp) are refused",
		              t->suspend == -EPERM ? "run as root, not itself confined"
		                                   : "needs a kernel with CONFIG_SECCOMP and "
		                                     "CONFIG_CHECKPOINT_RESTORE"),
		        "%s", strerror(-t->suspend));
	if (!t->rseq)
		finding(d, false, "rseq",
		        OK("threads can be asked for their rseq areas: counters without locked "
		           "instructions",
		           NULL),
		        "works");
	else
		finding(d, false, "rseq",
		        LIMIT("counts with locked instructions, some nanoseconds slower",
		              "needs Linux 5.13 with CONFIG_RSEQ"),
		        "%s", strerror(-t->rseq));
}

static void find_memfd(struct suture_diagnosis *d)
{
	char noexec[16] = "";
	bool known = read_line("/proc/sys/vm/memfd_noexec", noexec, sizeof(noexec));

	if (!d->trials.memfd) {
		finding(d, false, "memfd-exec",
		        OK("memory for trampolines can be made; checked anew in each process",
		           NULL),
		        "works");
		return;
	}
	finding(d, false, "memfd-exec",
	        BLOCKS("no memory for trampolines can be made",
	               known && strcmp(noexec, "2") == 0 ? "sysctl vm.memfd_noexec=1"
	                                                 : "a security module may forbid it"),
	        "%s", strerror(-d->trials.memfd));
	diagnosis_refuse(d, -EPERM, "a memfd can not be mapped executable here: %s",
	                 strerror(-d->trials.memfd));
}

static void find_limits(struct suture_diagnosis *d)
{
	struct rlimit realtime = {0};
	char most[32] = "?";
	int rc;

	(void)read_line("/proc/sys/vm/max_map_count", most, sizeof(most));
	finding(d, false, "max-maps",
	        strtoul(most, NULL, 10) < 4096
	                ? LIMIT("few trampolines fit: half of what a process has left is used",
	                        "sysctl vm.max_map_count=65530")
	                : OK("half of what a process has left of these may become trampoline pages",
	                     NULL),
	        "%s", most);
	getrlimit(RLIMIT_RTPRIO, &realtime);
	if (have_capability(DOCTOR_SYS_NICE) || realtime.rlim_cur > 0)
		finding(d, false, "realtime",
		        OK("the pause is not prolonged by other processes", NULL), "allowed");
	else
		finding(d, false, "realtime",
		        NOTE("with hundreds of threads the pause may be long on a busy machine",
		             "run as root, or with RLIMIT_RTPRIO"),
		        "denied");
	rc = process_kcmp_works();
	if (!rc)
		finding(d, false, "kcmp",
		        OK("processes that share a target's memory are found", NULL), "works");
	else
		finding(d, false, "kcmp",
		        LIMIT("a process that shares the target's memory (vfork) would not be "
		              "noticed",
		              "needs a kernel with CONFIG_KCMP, and a filter that allows it"),
		        "%s", strerror(-rc));
}

static void find_membarrier(struct suture_diagnosis *d)
{
	long commands = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);

	if (commands >= 0 && (commands & MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE))
		finding(d, false, "membarrier",
		        OK("the library can make its own threads serialise; counting does not "
		           "need it",
		           NULL),
		        "works");
	else
		finding(d, false, "membarrier",
		        LIMIT("the library can not change text in its own process; counting does "
		              "not need it",
		              "needs Linux 4.16 with CONFIG_MEMBARRIER, and a filter that allows "
		              "it"),
		        "%s", commands < 0 ? strerror(errno) : "no core serialisation");
}

static void find_uprobes(struct suture_diagnosis *d)
{
	char paranoid[16] = "?";
	bool privileged = have_capability(DOCTOR_PERFMON) || have_capability(DOCTOR_SYS_ADMIN);
	int tracefs = process_tracefs_works();

	(void)read_line("/proc/sys/kernel/perf_event_paranoid", paranoid, sizeof(paranoid));
	if (!process_uprobes_exist())
		finding(d, false, "uprobes",
		        LIMIT("sites that no jump fits are refused",
		              "needs a kernel with CONFIG_UPROBE_EVENTS"),
		        "absent");
	else if (tracefs)
		finding(d, false, "uprobes",
		        LIMIT("sites that no jump fits are refused: tracefs is not ours to write",
		              "run as root"),
		        "%s", strerror(-tracefs));
	else
		finding(d, false, "uprobes",
		        OK("sites that no jump fits are counted by the kernel", NULL), "works");
	if (privileged)
		finding(d, false, "perf-paranoid",
		        OK("does not bind: CAP_PERFMON or CAP_SYS_ADMIN", NULL), "%s", paranoid);
	else
		finding(d, false, "perf-paranoid",
		        NOTE("kernel uprobes need CAP_PERFMON", "run as root"), "%s", paranoid);
}

static void find_own_seccomp(struct suture_diagnosis *d)
{
	uint64_t mode = 0;

	if (process_status_field(getpid(), 0, "Seccomp", 10, &mode) == 0 && mode)
		finding(d, false, "confined",
		        NOTE("this command runs under seccomp itself (a container?), which may "
		             "refuse it any of the above",
		             "run it outside"),
		        "yes");
}

static int try_on_child(void *arg)
{
	return process_try(arg);
}

void diagnose_machine(struct suture_diagnosis *d)
{
	int tried = run_tracing(try_on_child, &d->trials);

	find_kernel(d);
	find_user(d);
	find_yama(d);
	find_ptrace(d, tried);
	if (!tried)
		find_memfd(d);
	find_limits(d);
	find_membarrier(d);
	find_uprobes(d);
	find_own_seccomp(d);
}
