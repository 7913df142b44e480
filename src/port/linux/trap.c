/* SPDX-License-Identifier: MIT */
/*
 * trap.c - SIGTRAP, as it is for us and for whoever handled it before.
 *
 * The program counter is taken from the context, never from si_addr. All signals are blocked while
 * the trap path runs, so that no handler of somebody else meets a trap inside it.
 */
#include <ucontext.h>
#include "port/linux/linux.h"
#include "port/linux/syscall.h"

/* The process' port, for the handler: a signal has no argument. */
struct port *linux_handling;

enum { TRAP_LENGTH = 1 }; /* int3: the context is behind it */

/* The kernel's, which libc's differs from. */
struct kernel_sigaction {
	void *handler;
	unsigned long flags;
	void *restorer;
	uint64_t mask;
};

/* As if we had never been there: the default action, on this very thread. */
static void die(int number)
{
	struct kernel_sigaction action = {0};
	long pid = syscall4(SYS_getpid, 0, 0, 0, 0), tid = syscall4(SYS_gettid, 0, 0, 0, 0);

	syscall4(SYS_rt_sigaction, number, (long)&action, 0, sizeof(action.mask));
	/* It is blocked here, and delivered on return from the handler. */
	syscall4(SYS_tgkill, pid, tid, number, 0);
}

static void pass_on(int number, siginfo_t *info, void *context)
{
	const struct sigaction *previous = &linux_handling->previous;

	if (previous->sa_flags & SA_SIGINFO)
		previous->sa_sigaction(number, info, context);
	else if (previous->sa_handler == SIG_DFL ||
	         (previous->sa_handler == SIG_IGN && info->si_code > 0))
		die(number); /* the kernel ignores no trap either */
	else if (previous->sa_handler != SIG_IGN)
		previous->sa_handler(number);
}

void linux_on_trap(int number, siginfo_t *info, void *context)
{
	ucontext_t *user = context;
	struct port *port = linux_handling;
	uint64_t pc = (uint64_t)user->uc_mcontext.gregs[REG_RIP] - TRAP_LENGTH, next = 0;
	uint32_t period;

	/* A breakpoint of the kernel's making, not a signal that somebody sent, nor a step. */
	if (info->si_code == SI_KERNEL || info->si_code == TRAP_BRKPT) {
		period = port_load(port, &port->period) & 1;
		port_add(port, &port->inside[period], 1);
		port_complete(port);
		next = port->handler(port, pc, port->handler_arg);
		if (next)
			user->uc_mcontext.gregs[REG_RIP] = (greg_t)next;
		__atomic_sub_fetch(&port->inside[period], 1, __ATOMIC_RELEASE);
	}
	if (!next)
		pass_on(number, info, context);
}
