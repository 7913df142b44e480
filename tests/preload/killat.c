/* SPDX-License-Identifier: MIT */
/*
 * killat - a library to preload into the command: it dies at the n-th thing that it does to
 * its target.
 *
 *   SUTURE_KILL_AT=N      SIGKILL itself just before call N
 *   SUTURE_KILL_AFTER=N   ... just after it
 *   SUTURE_KILL_LOG=FILE  one line for each call: number, nanoseconds, name
 *
 * Counted: ptrace, all forms of writing to a descriptor above 2, process_vm_writev, ftruncate,
 * ioctl on a perf event, perf_event_open. Only calls of the process itself, not of children
 * that it forks. Stores to shared memory are no calls and are not seen.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define EXPORTED __attribute__((visibility("default")))

static unsigned long counter, kill_at, kill_after;
static int log_fd = -1;
static pid_t self;

/* The real call, without going through a function that somebody may interpose. */
static long raw(long number, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long result;

	__asm__ volatile("syscall"
	                 : "=a"(result)
	                 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
	                 : "rcx", "r11", "memory");
	return result;
}

static long answer(long result)
{
	if (result < 0 && result > -4096) {
		errno = (int)-result;
		return -1;
	}
	return result;
}

static void die(void)
{
	for (;;)
		raw(SYS_kill, raw(SYS_getpid, 0, 0, 0, 0, 0, 0), SIGKILL, 0, 0, 0, 0);
}

__attribute__((constructor)) static void start(void)
{
	const char *at = getenv("SUTURE_KILL_AT"), *after = getenv("SUTURE_KILL_AFTER"),
	           *log = getenv("SUTURE_KILL_LOG");

	self = (pid_t)raw(SYS_getpid, 0, 0, 0, 0, 0, 0);
	kill_at = at ? strtoul(at, NULL, 10) : 0;
	kill_after = after ? strtoul(after, NULL, 10) : 0;
	if (log)
		log_fd = (int)raw(SYS_openat, AT_FDCWD, (long)log,
		                  O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644, 0, 0);
}

/* Number of this call; 0: not ours to count. */
static unsigned long enter(const char *name, long detail)
{
	unsigned long n;

	if (raw(SYS_getpid, 0, 0, 0, 0, 0, 0) != self)
		return 0;
	n = __atomic_add_fetch(&counter, 1, __ATOMIC_SEQ_CST);
	if (log_fd >= 0) {
		struct timespec now = {0, 0};
		char line[96];
		int length;

		raw(SYS_clock_gettime, CLOCK_MONOTONIC, (long)&now, 0, 0, 0, 0);
		length = snprintf(line, sizeof line, "%lu %lld %s:%#lx\n", n,
		                  (long long)now.tv_sec * 1000000000 + now.tv_nsec, name,
		                  (unsigned long)detail);
		raw(SYS_write, log_fd, (long)line, length, 0, 0, 0);
	}
	if (n == kill_at)
		die();
	return n;
}

static void leave(unsigned long n)
{
	if (n && n == kill_after)
		die();
}

EXPORTED long ptrace(enum __ptrace_request request, ...)
{
	static long (*real)(enum __ptrace_request, ...);
	unsigned long n;
	long result;
	pid_t pid;
	void *address, *data;
	va_list args;
	int saved;

	va_start(args, request);
	pid = va_arg(args, pid_t);
	address = va_arg(args, void *);
	data = va_arg(args, void *);
	va_end(args);
	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "ptrace");
	n = enter("ptrace", (long)request);
	result = real(request, pid, address, data);
	saved = errno;
	leave(n);
	errno = saved;
	return result;
}

static bool is_perf(int fd)
{
	static const char perf[] = "anon_inode:[perf_event]";
	char path[32], link[64];
	long n;

	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	n = raw(SYS_readlink, (long)path, (long)link, sizeof link, 0, 0, 0);
	return n == (long)sizeof perf - 1 && !memcmp(link, perf, sizeof perf - 1);
}

static long counted(const char *name, long detail, long number, long a, long b, long c, long d,
                    long e, long f)
{
	unsigned long n = enter(name, detail);
	long result = raw(number, a, b, c, d, e, f);

	leave(n);
	return answer(result);
}

EXPORTED ssize_t write(int fd, const void *data, size_t size)
{
	if (fd <= 2)
		return answer(raw(SYS_write, fd, (long)data, (long)size, 0, 0, 0));
	return counted("write", (long)size, SYS_write, fd, (long)data, (long)size, 0, 0, 0);
}

EXPORTED ssize_t writev(int fd, const struct iovec *iov, int count)
{
	if (fd <= 2)
		return answer(raw(SYS_writev, fd, (long)iov, count, 0, 0, 0));
	return counted("writev", count, SYS_writev, fd, (long)iov, count, 0, 0, 0);
}

EXPORTED ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset)
{
	return counted("pwrite", (long)size, SYS_pwrite64, fd, (long)data, (long)size, offset, 0,
	               0);
}

EXPORTED ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
	return pwrite64(fd, data, size, offset);
}

EXPORTED ssize_t pwritev(int fd, const struct iovec *iov, int count, off_t offset)
{
	/* The kernel takes the offset in two halves; on 64-bit machines the second is not used. */
	return counted("pwritev", count, SYS_pwritev, fd, (long)iov, count, offset, 0, 0);
}

EXPORTED ssize_t pwritev64(int fd, const struct iovec *iov, int count, off64_t offset)
{
	return pwritev(fd, iov, count, offset);
}

EXPORTED ssize_t process_vm_writev(pid_t pid, const struct iovec *local, unsigned long locals,
                                   const struct iovec *remote, unsigned long remotes,
                                   unsigned long flags)
{
	return counted("process_vm_writev", (long)locals, SYS_process_vm_writev, pid, (long)local,
	               (long)locals, (long)remote, (long)remotes, (long)flags);
}

EXPORTED int ftruncate64(int fd, off64_t size)
{
	return (int)counted("ftruncate", 0, SYS_ftruncate, fd, size, 0, 0, 0, 0);
}

EXPORTED int ftruncate(int fd, off_t size)
{
	return ftruncate64(fd, size);
}

EXPORTED int ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	long arg;

	va_start(args, request);
	arg = va_arg(args, long);
	va_end(args);
	if (!is_perf(fd))
		return (int)answer(raw(SYS_ioctl, fd, (long)request, arg, 0, 0, 0));
	return (int)counted("ioctl", (long)request, SYS_ioctl, fd, (long)request, arg, 0, 0, 0);
}

EXPORTED long syscall(long number, ...)
{
	long a[6];
	va_list args;

	va_start(args, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(args, long);
	va_end(args);
	switch (number) {
	case SYS_ptrace:
	case SYS_pwrite64:
	case SYS_pwritev:
	case SYS_pwritev2:
	case SYS_process_vm_writev:
	case SYS_ftruncate:
	case SYS_perf_event_open:
		return counted("syscall", number, number, a[0], a[1], a[2], a[3], a[4], a[5]);
	case SYS_write:
	case SYS_writev:
		if (a[0] > 2)
			return counted("syscall", number, number, a[0], a[1], a[2], 0, 0, 0);
		break;
	}
	return answer(raw(number, a[0], a[1], a[2], a[3], a[4], a[5]));
}
