/* SPDX-License-Identifier: MIT */
/*
 * stopat - a library to preload into the command: it stops itself, as by SIGSTOP, just before a
 * call, so that a test can do something at that very moment and continue it.
 *
 *   SUTURE_STOP_AT=PATTERN   open() of a path that matches, `ftruncate`, or `start`: of the program
 *   SUTURE_STOP_COUNT=N      the N-th such call; 1
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define EXPORTED __attribute__((visibility("default")))

static void call_made(const char *what)
{
	static unsigned long made;
	const char *pattern = getenv("SUTURE_STOP_AT"), *number = getenv("SUTURE_STOP_COUNT");

	if (!pattern || fnmatch(pattern, what, 0))
		return;
	if (++made == (number ? strtoul(number, NULL, 10) : 1))
		kill(getpid(), SIGSTOP);
}

__attribute__((constructor)) static void start(void)
{
	call_made("start");
}

EXPORTED int open(const char *path, int flags, ...)
{
	static int (*real)(const char *, int, ...);
	va_list args;
	int mode;

	va_start(args, flags);
	mode = va_arg(args, int);
	va_end(args);
	if (!real)
		real = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open");
	call_made(path);
	return real(path, flags, mode);
}

EXPORTED int ftruncate(int fd, off_t size)
{
	static int (*real)(int, off_t);

	if (!real)
		real = (int (*)(int, off_t))dlsym(RTLD_NEXT, "ftruncate");
	call_made("ftruncate");
	return real(fd, size);
}
