/* SPDX-License-Identifier: MIT */
/*
 * trial.c - what the kernel lets us do to another process, tried on a child made for it.
 *
 * Much of that can not be read anywhere: whether /proc/PID/mem may be forced is a boot parameter,
 * and what a container's filter or a security module forbids is nobody's file.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "internal.h"

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

enum { TRIAL_DEADLINE_NS = 1000000000 };

/* The same file and the same mapping as shared.c has made in a process. */
static int try_memfd(void)
{
	int fd = (int)syscall(SYS_memfd_create, "suture-trial", MFD_CLOEXEC | MFD_EXEC), rc = 0;
	void *page;

	if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
		fd = (int)syscall(SYS_memfd_create, "suture-trial", MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, PROCESS_PAGE))
		rc = -errno;
	page = rc ? MAP_FAILED : mmap(NULL, PROCESS_PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	if (!rc && page == MAP_FAILED)
		rc = -errno;
	if (page != MAP_FAILED)
		munmap(page, PROCESS_PAGE);
	close(fd);
	return rc;
}

static int force(int mem, const uint8_t *page)
{
	uint8_t byte = 0xcc;

	return pwrite(mem, &byte, 1, (off_t)(uintptr_t)page) == 1 ? 0 : -errno;
}

static void try_traced(pid_t child, int mem, const uint8_t *page, struct process_trials *out)
{
	uint64_t area[4];
	int status;

	out->force_traced = force(mem, page);
	if (ptrace(PTRACE_INTERRUPT, child, NULL, NULL))
		return;
	if (thread_wait(child, TRIAL_DEADLINE_NS, &status))
		return;
	out->stops = true;
	out->suspend =
	        ptrace(PTRACE_SETOPTIONS, child, NULL, PTRACE_O_SUSPEND_SECCOMP) ? -errno : 0;
	out->rseq = ptrace((enum __ptrace_request)0x420f /* PTRACE_GET_RSEQ_CONFIGURATION */, child,
	                   sizeof(area), area) < 0
	                    ? -errno
	                    : 0;
}

static void try_child(pid_t child, const uint8_t *page, struct process_trials *out)
{
	char path[64];
	int mem;

	snprintf(path, sizeof(path), "/proc/%d/mem", child);
	mem = open(path, O_RDWR | O_CLOEXEC);
	out->open = mem < 0 ? -errno : 0;
	if (mem >= 0)
		out->force = force(mem, page);
	out->seize = ptrace(PTRACE_SEIZE, child, NULL, NULL) ? -errno : 0;
	if (mem >= 0 && !out->seize)
		try_traced(child, mem, page, out);
	if (mem >= 0)
		close(mem);
}

int process_try(struct process_trials *out)
{
	uint8_t *page =
	        mmap(NULL, PROCESS_PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pid_t self = getpid(), child;

	*out = (struct process_trials){
	        .force = -EIO, .force_traced = -EIO, .suspend = -EIO, .rseq = -EIO};
	if (page == MAP_FAILED)
		return -errno;
	out->memfd = try_memfd();
	child = fork();
	if (child == 0) { /* async-signal-safe functions only */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		while (getppid() == self)
			pause();
		_exit(0);
	}
	if (child < 0) {
		int rc = -errno;

		munmap(page, PROCESS_PAGE);
		return rc;
	}
	try_child(child, page, out);
	kill(child, SIGKILL);
	while (waitpid(child, NULL, __WALL) < 0 && errno == EINTR)
		;
	munmap(page, PROCESS_PAGE);
	return 0;
}

int process_kcmp_works(void)
{
	enum { VM = 1 }; /* KCMP_VM of linux/kcmp.h */

	return syscall(SYS_kcmp, getpid(), getpid(), VM, 0, 0) == 0 ? 0 : -errno;
}
