/* SPDX-License-Identifier: MIT */
/*
 * unwinder.c - call-frame information for the unwinders of this process.
 *
 * There may be two: the one that the program is linked with, which its exceptions use, and
 * libgcc_s.so.1, which the C library loads for backtrace() and for thread cancellation. In C++
 * programs they are usually the same. A static program has the first one at most, and must not
 * load the second, which would bring another C library.
 *
 * libgcc sorts what was registered when it first looks something up, and allocates for that. The
 * first to look something up might be a signal handler; so we do it ourselves, at once. It takes a
 * lock of its own, for which a handler of this thread would wait for ever: signals are blocked
 * meanwhile.
 */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/auxv.h>
#include "api/own/visible.h"

/* What _Unwind_Find_FDE tells, and we do not need. */
struct bases {
	void *text, *data, *function;
};

extern void __register_frame(void *) __attribute__((weak));
extern void *__deregister_frame(void *) __attribute__((weak));
extern const void *_Unwind_Find_FDE(void *, struct bases *) __attribute__((weak));

static struct unwinder {
	void (*add)(void *);
	void *(*remove)(void *);
	const void *(*find)(void *, struct bases *);
} unwinders[2];
static size_t count;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* A pointer to data for one to a function, as POSIX has it for dlsym. */
static bool look_up(void *library, const char *name, void *function)
{
	void *symbol = dlsym(library, name);

	memcpy(function, &symbol, sizeof(symbol));
	return symbol;
}

static void find_all(void)
{
	struct unwinder shared;
	void *library;

	if (__register_frame && __deregister_frame && _Unwind_Find_FDE)
		unwinders[count++] =
		        (struct unwinder){__register_frame, __deregister_frame, _Unwind_Find_FDE};
	if (!getauxval(AT_BASE))
		return; /* a static program */
	library = dlopen("libgcc_s.so.1", RTLD_NOW | RTLD_LOCAL);
	if (!library || !look_up(library, "__register_frame", &shared.add) ||
	    !look_up(library, "__deregister_frame", &shared.remove) ||
	    !look_up(library, "_Unwind_Find_FDE", &shared.find))
		return;
	if (!count || shared.add != unwinders[0].add)
		unwinders[count++] = shared;
}

int unwinder_find(void)
{
	pthread_once(&once, find_all);
	return count ? 0 : -EOPNOTSUPP;
}

static void remove_from(size_t n, void *frames)
{
	while (n)
		unwinders[--n].remove(frames);
}

/* An unwinder that takes something else than a whole section does not find the piece. */
static int register_all(void *frames, void *piece)
{
	struct bases bases;

	for (size_t i = 0; i < count; i++) {
		unwinders[i].add(frames);
		if (!unwinders[i].find(piece, &bases)) {
			remove_from(i, frames);
			return -EOPNOTSUPP;
		}
	}
	return 0;
}

int unwinder_register(void *frames, uint64_t address)
{
	sigset_t all, before;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = register_all(frames, (void *)(uintptr_t)address);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return rc;
}

void unwinder_deregister(void *frames)
{
	sigset_t all, before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	remove_from(count, frames);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}
