/* SPDX-License-Identifier: MIT */
/*
 * watch.c - a thread that blocks SIGTRAP is killed by a trap, handler or not.
 *
 * As long as traps may be in the text, libc's functions that change signal masks and handlers are
 * replaced by these, by hooks like any other. What does so by a system call of its own is not seen.
 * They are called from signal handlers, too, and take no lock.
 */
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include "api/own/hook.h"
#include "api/own/own.h"
#include "api/own/watch.h"
#include "port/linux/linux.h"

/* The set without our signals, in `copy`; as it is if it has none of them. */
static const sigset_t *without_ours(const sigset_t *set, sigset_t *copy)
{
	if (!set || (sigismember(set, SIGTRAP) != 1 && sigismember(set, SIGILL) != 1))
		return set;
	*copy = *set;
	sigdelset(copy, SIGTRAP);
	sigdelset(copy, SIGILL);
	return copy;
}

static int (*real_mask)(int, const sigset_t *, sigset_t *);
static int (*real_procmask)(int, const sigset_t *, sigset_t *);
static int (*real_sigaction)(int, const struct sigaction *, struct sigaction *);
static int (*real_suspend)(const sigset_t *);
static int (*real_ppoll)(struct pollfd *, nfds_t, const struct timespec *, const sigset_t *);
static int (*real_pselect)(int, fd_set *, fd_set *, fd_set *, const struct timespec *,
                           const sigset_t *);
static int (*real_epoll)(int, struct epoll_event *, int, int, const sigset_t *);
static int (*real_epoll2)(int, struct epoll_event *, int, const struct timespec *,
                          const sigset_t *);
static int (*real_attribute)(pthread_attr_t *, const sigset_t *);

static int watch_mask(int how, const sigset_t *set, sigset_t *old)
{
	sigset_t copy;

	return real_mask(how, how == SIG_UNBLOCK ? set : without_ours(set, &copy), old);
}

static int watch_procmask(int how, const sigset_t *set, sigset_t *old)
{
	sigset_t copy;

	return real_procmask(how, how == SIG_UNBLOCK ? set : without_ours(set, &copy), old);
}

static int watch_sigaction(int number, const struct sigaction *new, struct sigaction *old)
{
	struct sigaction copy;
	sigset_t mask;

	if (linux_previous(own_port(), number, new, old))
		return 0;
	if (!new || without_ours(&new->sa_mask, &mask) == &new->sa_mask)
		return real_sigaction(number, new, old);
	copy = *new;
	copy.sa_mask = mask;
	return real_sigaction(number, &copy, old);
}

static int watch_suspend(const sigset_t *set)
{
	sigset_t copy;

	return real_suspend(without_ours(set, &copy));
}

static int watch_ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
                       const sigset_t *set)
{
	sigset_t copy;

	return real_ppoll(fds, n, timeout, without_ours(set, &copy));
}

static int watch_pselect(int n, fd_set *r, fd_set *w, fd_set *e, const struct timespec *timeout,
                         const sigset_t *set)
{
	sigset_t copy;

	return real_pselect(n, r, w, e, timeout, without_ours(set, &copy));
}

static int watch_epoll(int file, struct epoll_event *events, int n, int timeout,
                       const sigset_t *set)
{
	sigset_t copy;

	return real_epoll(file, events, n, timeout, without_ours(set, &copy));
}

static int watch_epoll2(int file, struct epoll_event *events, int n, const struct timespec *timeout,
                        const sigset_t *set)
{
	sigset_t copy;

	return real_epoll2(file, events, n, timeout, without_ours(set, &copy));
}

static int watch_attribute(pthread_attr_t *attributes, const sigset_t *set)
{
	sigset_t copy;

	return real_attribute(attributes, without_ours(set, &copy));
}

static struct suture_hook_spec specs[] = {
        {(void *)pthread_sigmask, (void *)watch_mask, (void **)&real_mask},
        {(void *)sigprocmask, (void *)watch_procmask, (void **)&real_procmask},
        {(void *)sigaction, (void *)watch_sigaction, (void **)&real_sigaction},
        {(void *)sigsuspend, (void *)watch_suspend, (void **)&real_suspend},
        {(void *)ppoll, (void *)watch_ppoll, (void **)&real_ppoll},
        {(void *)pselect, (void *)watch_pselect, (void **)&real_pselect},
        {(void *)epoll_pwait, (void *)watch_epoll, (void **)&real_epoll},
        /* newer ones, which need not exist */
        {NULL, (void *)watch_epoll2, (void **)&real_epoll2},
        {NULL, (void *)watch_attribute, (void **)&real_attribute},
};
static size_t specs_count;

/* libc's own, even where the program has a stub of the name. At load, because the loader's lock
 * must not be taken under own_lock: who loads a module with keys has them the other way round. */
__attribute__((constructor)) static void find_functions(void)
{
	static const char *const names[] = {
	        "pthread_sigmask", "sigprocmask",  "sigaction",
	        "sigsuspend",      "ppoll",        "pselect",
	        "epoll_pwait",     "epoll_pwait2", "pthread_attr_setsigmask_np"};
	void *libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);

	for (size_t i = 0; libc && i < sizeof(names) / sizeof(names[0]); i++) {
		void *found = dlsym(libc, names[i]);

		if (found)
			specs[i].function = found;
	}
	if (libc)
		dlclose(libc);
	for (size_t i = 0; i < sizeof(specs) / sizeof(specs[0]); i++)
		if (specs[i].function)
			specs[specs_count++] = specs[i];
}

static bool watching, watched;

bool watch_is_on(void)
{
	return watched;
}

int watch_begin(struct suture_text_options *options)
{
	struct suture_text_options inner = *options;
	int rc;

	if (watching)
		return 0;
	/* Its own hooks may need traps. */
	watching = true;
	rc = hook_install(specs, specs_count, NULL, &inner);
	if (rc)
		options->failed = 0;
	if (!rc)
		linux_unmask_handlers();
	watching = watched = !rc;
	return rc;
}
