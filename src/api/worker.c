/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include "session.h"

struct work {
	int (*fn)(void *arg);
	void *arg;
	int result;
};

static void *work(void *arg)
{
	struct work *w = arg;

	/* Waiting for a stop means sleeping for microseconds; the default slack is 50. */
	prctl(PR_SET_TIMERSLACK, 1);
	w->result = w->fn(w->arg);
	return NULL;
}

int run_tracing(int (*fn)(void *arg), void *arg)
{
	struct work w = {fn, arg, 0};
	sigset_t all, old;
	pthread_t thread;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&thread, NULL, work, &w);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc)
		return -rc;
	pthread_join(thread, NULL);
	return w.result;
}
