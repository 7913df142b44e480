// SPDX-License-Identifier: MIT
/*
 * A process in one of the situations that `suture doctor` tells apart: named by the argument, it
 * says `ready` once it is in it, and waits. "-" is none.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#endif
#ifndef SYS_mseal
#define SYS_mseal 462
#endif

static char child_stack[65536] __attribute__((aligned(16)));

static void ready(void)
{
	static const char word[] = "ready\n";

	if (write(STDOUT_FILENO, word, sizeof(word) - 1) < 0)
		_exit(1);
}

/* What cannot be had here is said, so that the test can be skipped by its reason. */
static void need(int failed, const char *what)
{
	if (!failed)
		return;
	printf("missing %s: %s\n", what, strerror(errno));
	exit(0);
}

/* Kills whoever asks for a memfd, as suture has its target do. */
static void confine(void)
{
	struct sock_filter code[] = {
	        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_memfd_create, 0, 1),
	        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};

	need(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
	need(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), "seccomp");
}

static void *confined_thread(void *arg)
{
	(void)arg;
	confine();
	ready();
	while (pause())
		;
	return NULL;
}

static void seal(void)
{
	char line[512], perms[5];
	unsigned long start, end;
	FILE *maps = fopen("/proc/self/maps", "r");

	need(!maps, "maps");
	while (fgets(line, sizeof(line), maps))
		if (sscanf(line, "%lx-%lx %4s", &start, &end, perms) == 3 && perms[2] == 'x' &&
		    (unsigned long)&seal >= start && (unsigned long)&seal < end)
			need(syscall(SYS_mseal, start, end - start, 0) != 0, "mseal");
	fclose(maps);
}

static int wait_here(void *arg)
{
	(void)arg;
	while (pause())
		;
	return 0;
}

int main(int argc, char **argv)
{
	const char *which = argc > 1 ? argv[1] : "-";
	pthread_t thread;

	if (!strcmp(which, "mdwe"))
		need(prctl(PR_SET_MDWE, 1, 0, 0, 0), "mdwe");
	else if (!strcmp(which, "undumpable"))
		need(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), "undumpable");
	else if (!strcmp(which, "seccomp"))
		confine();
	else if (!strcmp(which, "mseal"))
		seal();
	else if (!strcmp(which, "shared"))
		need(clone(wait_here, child_stack + sizeof(child_stack), CLONE_VM | SIGCHLD, NULL) <
		             0,
		     "clone");
	else if (!strcmp(which, "jit"))
		need(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
		             MAP_FAILED,
		     "memory");
	fflush(stdout);
	if (!strcmp(which, "vfork") && vfork() == 0) {
		ready();
		for (;;)
			pause();
	}
	if (!strcmp(which, "seccomp-thread"))
		pthread_create(&thread, NULL, confined_thread, NULL);
	else
		ready();
	for (;;)
		pause();
}
