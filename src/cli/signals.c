// SPDX-License-Identifier: MIT
/*
 * signals.c - requests to end, as events instead of interruptions.
 *
 * Signals are blocked from before the first look at the target until the last byte of it is
 * restored. The user's Ctrl-C cannot end us halfway, and Ctrl-Z cannot freeze us while we hold
 * the target's threads, which would freeze the target too.
 */
#include <errno.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "cli/cli.h"

static int signals_fd = -1;
static sigset_t usual_mask;

/* nohup(1) asks to outlive the terminal by ignoring SIGHUP. */
static bool is_ignored(int number)
{
	struct sigaction action;

	return sigaction(number, NULL, &action) == 0 && action.sa_handler == SIG_IGN;
}

int signals_hold(void)
{
	sigset_t watched, held;

	sigemptyset(&watched);
	sigaddset(&watched, SIGINT);
	sigaddset(&watched, SIGTERM);
	if (!is_ignored(SIGHUP))
		sigaddset(&watched, SIGHUP);
	sigaddset(&watched, SIGWINCH);
	sigaddset(&watched, SIGTSTP);
	held = watched;
	/* Blocked, these let a background job use the terminal instead of stopping it. */
	sigaddset(&held, SIGTTOU);
	sigaddset(&held, SIGTTIN);
	signals_fd = signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK);
	if (signals_fd < 0)
		return -errno;
	/* A reader that has gone away is an error of write, not our end. */
	signal(SIGPIPE, SIG_IGN);
	/* So is a file that must not grow further. */
	signal(SIGXFSZ, SIG_IGN);
	sigprocmask(SIG_BLOCK, &held, &usual_mask);
	return signals_fd;
}

enum event signals_next(void)
{
	struct signalfd_siginfo info;

	if (read(signals_fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
		return EVENT_NONE;
	switch (info.ssi_signo) {
	case SIGWINCH:
		return EVENT_RESIZE;
	case SIGTSTP:
		return EVENT_SUSPEND;
	default:
		return EVENT_END;
	}
}

/* SIGTSTP rather than SIGSTOP: the kernel drops it where no shell could continue us. */
void signals_suspend(void)
{
	sigset_t stop;

	sigemptyset(&stop);
	sigaddset(&stop, SIGTSTP);
	raise(SIGTSTP);
	sigprocmask(SIG_UNBLOCK, &stop, NULL);
	sigprocmask(SIG_BLOCK, &stop, NULL);
}

void signals_release(void)
{
	while (signals_next() != EVENT_NONE)
		;
	sigprocmask(SIG_SETMASK, &usual_mask, NULL);
}
