/* SPDX-License-Identifier: MIT */
/*
 * trap.c - SIGTRAP and SIGILL, as they are for us and for whoever handled them before.
 *
 * int3 raises SIGTRAP behind itself, an invalid opcode SIGILL where it stands. The program counter
 * is taken from the context, never from si_addr. All signals are blocked while the trap path runs,
 * so that no handler of somebody else meets a trap inside it.
 */
#include <ucontext.h>
#include "port/linux/linux.h"
#include "port/linux/syscall.h"

/* The process' port, for the handler: a signal has no argument. */
struct port *linux_handling;

enum { TRAP_LENGTH = 1 }; /* int3: the context is behind it */

void linux_default_action(int number)
{
	struct kernel_sigaction action = {0};
	long pid = syscall4(SYS_getpid, 0, 0, 0, 0), tid = syscall4(SYS_gettid, 0, 0, 0, 0);

	syscall4(SYS_rt_sigaction, number, (long)&action, 0, sizeof(action.mask));
	/* It is blocked here, and delivered on return from the handler. */
	syscall4(SYS_tgkill, pid, tid, number, 0);
}

/* The mask that the kernel would have given the handler; it goes back with the context. */
static void mask_as_asked(const struct sigaction *action, const ucontext_t *user)
{
	uint64_t mask, asked, ours = (uint64_t)1 << (SIGTRAP - 1) | (uint64_t)1 << (SIGILL - 1);

	mask = *(const uint64_t *)&user->uc_sigmask;
	asked = *(const uint64_t *)&action->sa_mask;
	mask = (mask | asked) & ~ours;
	syscall4(SYS_rt_sigprocmask, SIG_SETMASK, (long)&mask, 0, sizeof(mask));
}

static void pass_on(int number, siginfo_t *info, void *context)
{
	const struct sigaction *previous =
	        __atomic_load_n(&linux_handling->previous[number == SIGILL], __ATOMIC_ACQUIRE);
	void (*handler)(int) = previous->sa_handler;

	if (!(previous->sa_flags & SA_SIGINFO) &&
	    (handler == SIG_DFL || (handler == SIG_IGN && info->si_code > 0))) {
		linux_default_action(number); /* the kernel ignores no trap either */
		return;
	}
	if (!(previous->sa_flags & SA_SIGINFO) && handler == SIG_IGN)
		return;
	mask_as_asked(previous, context);
	if (previous->sa_flags & SA_SIGINFO)
		previous->sa_sigaction(number, info, context);
	else
		handler(number);
}

/* What the thread met last that was no trap of ours any more. */
static __thread struct {
	uint64_t pc;
	uint32_t changes;
} last_invalid __attribute__((tls_model("initial-exec")));

/*
 * An invalid opcode is none of our trap bytes now: it was one when it was executed, or it is the
 * program's own (ud2). If it raises the signal again while nothing was changed, it is the latter.
 */
static bool is_programs(const struct port *port, uint64_t pc)
{
	bool again = last_invalid.pc == pc && last_invalid.changes == port->changes;

	last_invalid.pc = pc;
	last_invalid.changes = port->changes;
	return again;
}

/* Not a signal that somebody sent, nor a step. */
static bool is_trap(int number, const siginfo_t *info)
{
	return number == SIGILL ? info->si_code > 0
	                        : info->si_code == SI_KERNEL || info->si_code == TRAP_BRKPT;
}

void linux_on_trap(int number, siginfo_t *info, void *context)
{
	ucontext_t *user = context;
	struct port *port = linux_handling;
	uint64_t pc = (uint64_t)user->uc_mcontext.gregs[REG_RIP], next = 0;
	uint32_t period;

	if (is_trap(number, info)) {
		pc -= number == SIGTRAP ? TRAP_LENGTH : 0;
		period = port_load(port, &port->period) & 1;
		port_add(port, &port->inside[period], 1);
		port_complete(port);
		next = port->handler(port, pc, port->handler_arg);
		if (number == SIGILL && next == pc && is_programs(port, pc))
			next = 0;
		if (next)
			user->uc_mcontext.gregs[REG_RIP] = (greg_t)next;
		__atomic_sub_fetch(&port->inside[period], 1, __ATOMIC_RELEASE);
	}
	if (!next)
		pass_on(number, info, context);
}

/* The very bytes by which unwinders and gdb know a signal frame. */
__asm__(".text\n"
        "	.globl linux_restorer\n"
        "	.hidden linux_restorer\n"
        "	.type linux_restorer, @function\n"
        "	.balign 16\n"
        "	nop\n" /* they look at the byte before a return address, too */
        "linux_restorer:\n"
        "	movq $15, %rax\n" /* rt_sigreturn */
        "	syscall\n"
        "	.size linux_restorer, . - linux_restorer\n");
