// SPDX-License-Identifier: MIT
/*
 * confined - a program that has given up rights.
 *
 * usage: confined MODE THREADS
 *
 *   seccomp     every thread is killed, and all with it, for any system call that it does not
 *               need itself; for making memory, say
 *   worker      only the threads that are not the leader are
 *   undumpable  prctl(PR_SET_DUMPABLE, 0)
 *
 * In each round every thread calls confined_sum once.
 */
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include "victim.h"

static bool seccomp, leader_too;

NOT_INLINED uint64_t confined_sum(uint64_t x)
{
	__asm__("" : "+r"(x));
	return (x * 0x51a76b35 ^ x) + 0x1f3d5217;
}

#define ALLOW(nr)                                                                                  \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (nr), 0, 1),                                           \
	        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static bool confine(void)
{
	struct sock_filter filter[] = {
	        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	        ALLOW(SYS_read),
	        ALLOW(SYS_write),
	        ALLOW(SYS_futex),
	        ALLOW(SYS_exit_group),
	        ALLOW(SYS_sched_yield),
	        ALLOW(SYS_poll),
	        ALLOW(SYS_restart_syscall),
	        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	struct sock_fprog program = {sizeof filter / sizeof *filter, filter};

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static unsigned confined_round(unsigned thread, uint64_t k)
{
	static __thread bool done;
	uint64_t x = k * 0x9e3779b97f4a7c15 + thread;

	if (seccomp && !done && (thread || leader_too))
		if (!confine())
			return 1;
	done = true;
	return confined_sum(x) != (x * 0x51a76b35 ^ x) + 0x1f3d5217;
}

int main(int argc, char **argv)
{
	static const struct victim victim = {.round = confined_round};
	const char *mode = argc > 1 ? argv[1] : "";

	leader_too = !strcmp(mode, "seccomp");
	seccomp = leader_too || !strcmp(mode, "worker");
	if (!strcmp(mode, "undumpable") && prctl(PR_SET_DUMPABLE, 0))
		return 2;
	return victim_obey(&victim, argc > 2 ? (unsigned)atoi(argv[2]) : 1);
}
