/* SPDX-License-Identifier: MIT */
/*
 * own_traces.c - backtraces out of handlers, and out of every instruction between a site and where
 * it leads.
 */
#include <execinfo.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include "suture/hook.h"
#include "suture/probe.h"
#include "suture/trampoline.h"
#include "tap.h"

/* Weak: the compiler can know nothing of what it does. */
#define VICTIM __attribute__((noinline, weak))

/* What is probed has frame information and a call, a push and a pop. */
__asm__(".text\n.balign 16\n.type probed, @function\nprobed:\n	.cfi_startproc\n"
        "	pushq %rbx\n	.cfi_adjust_cfa_offset 8\n	.cfi_offset %rbx, -16\n"
        ".globl probed_inner, probed_call, probed_pop, probed_end\n"
        "probed_inner:\n	movl $7, %ebx\n"
        "probed_call:\n	call called\n"
        "	addl %ebx, %eax\n"
        "probed_pop:\n	popq %rbx\n	.cfi_adjust_cfa_offset -8\n	ret\n"
        "	.cfi_endproc\n	.byte 0, 0, 0, 0\nprobed_end:\n.size probed, . - probed\n");
int probed(int x);
extern char probed_inner[], probed_call[], probed_pop[], probed_end[];

/* Hooked: one is a pun, one a window, one a trap. */
#define LEAF(name, code)                                                                           \
	__asm__(".text\n.balign 16\n.type " #name ", @function\n" #name ":\n	.cfi_startproc\n"     \
	        "	" code "\n	.cfi_endproc\n.size " #name ", . - " #name "\n");          \
	int name(int x);
LEAF(leaf_pun, "leal 1(%rdi), %eax\n	ret\n	.byte 0xd0, 0, 0, 0")
LEAF(leaf_window, "movl $7, %eax\n	ret")
LEAF(leaf_trap, "jmp 1f\n	.byte 0, 0, 0\n1:	movl $8, %eax\n	ret")

VICTIM int called(int x);
int called(int x)
{
	return x + 1;
}

VICTIM int caller(int (*function)(int), int x);
int caller(int (*function)(int), int x)
{
	return function(x) + 100;
}

enum { DEPTH = 24 };
static void *frames[DEPTH];
static int depth;

static bool has_frame(const void *start, size_t size)
{
	for (int i = 0; i < depth; i++)
		if ((char *)frames[i] >= (const char *)start &&
		    (char *)frames[i] <= (const char *)start + size)
			return true;
	return false;
}

/* The probed function, its caller, and main (the frame below that libc has). */
static bool complete(const void *function, size_t size)
{
	return has_frame(function, size) && has_frame((void *)caller, 32) && depth > 4;
}

static void trace(struct suture_regs *regs, void *arg)
{
	(void)regs;
	depth = backtrace(frames, DEPTH);
	*(int *)arg += complete(probed, (size_t)(probed_end - (char *)probed));
}

static void test_handlers(void)
{
	char *const places[] = {(char *)probed, probed_inner, probed_call, probed_pop};

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		int right = 0;
		struct suture_probe_spec spec = {
		        .address = places[i], .pre = trace, .post = trace, .arg = &right};
		struct suture_probe *probe;
		int rc = suture_probe_install(&spec, 1, &probe, NULL);
		int result = caller(probed, 1);

		/* A call's post is in the function that it called, whose frame is its caller's. */
		ok(rc == 0 && result == 109 && right == 2,
		   "a handler at +%zu, before and after, knows who called: %d of 2 (%d)",
		   (size_t)(places[i] - (char *)probed), right, depth);
		ok(rc == 0 && suture_probe_remove(&probe, 1, NULL) == 0, "removed");
	}
}

/* ---- one instruction after the other ---- */

/* The trap flag, on and off. */
__asm__(".text\n"
        "step_on:\n	.cfi_startproc\n	pushfq\n	.cfi_adjust_cfa_offset 8\n"
        "	orl $0x100, (%rsp)\n	popfq\n	.cfi_adjust_cfa_offset -8\n	ret\n	"
        ".cfi_endproc\n"
        "step_off:\n	.cfi_startproc\n	pushfq\n	.cfi_adjust_cfa_offset 8\n"
        "	andl $~0x100, (%rsp)\n	popfq\n	.cfi_adjust_cfa_offset -8\n	ret\n	"
        ".cfi_endproc\n");
void step_on(void);
void step_off(void);

static unsigned long steps, incomplete;
static uint64_t first_incomplete;

static char *stepped; /* the function that does it */

static void on_step(int number, siginfo_t *info, void *context)
{
	ucontext_t *user = context;

	(void)number;
	(void)info;
	steps++;
	depth = backtrace(frames, DEPTH);
	if (has_frame(stepped, 64))
		return;
	if (!incomplete++)
		first_incomplete = (uint64_t)user->uc_mcontext.gregs[REG_RIP];
}

VICTIM int step_through(int (*function)(int), int x);
int step_through(int (*function)(int), int x)
{
	int result;

	step_on();
	result = caller(function, x);
	step_off();
	return result;
}

static unsigned long hits;

__attribute__((target("general-regs-only"))) static void count(struct suture_regs *regs, void *arg)
{
	(void)regs;
	(void)arg;
	hits++;
}

static void count_vector(struct suture_regs *regs, void *arg)
{
	__asm__ volatile("pxor %%xmm0, %%xmm0" ::: "xmm0");
	count(regs, arg);
}

static void test_probe_steps(int (*function)(int), const void *at, suture_probe_fn handler,
                             bool post, const char *what)
{
	struct suture_probe_spec spec = {
	        .address = (void *)(uintptr_t)at, .pre = handler, .post = post ? handler : NULL};
	struct suture_probe *probe;
	int expected = caller(function, 1), rc = suture_probe_install(&spec, 1, &probe, NULL);
	int result;

	hits = steps = incomplete = 0;
	first_incomplete = 0;
	result = rc ? 0 : step_through(function, 1);
	ok(rc == 0 && result == expected && hits == 1ul + post && incomplete == 0 && steps > 20,
	   "%s: each of %lu steps knows who called: %lu do not (%#lx)", what, steps, incomplete,
	   (unsigned long)first_incomplete);
	ok(rc == 0 && suture_probe_remove(&probe, 1, NULL) == 0, "removed");
}

static int (*original)(int);
static int replacement(int x)
{
	hits++;
	return original(x);
}

static void test_hook_steps(int (*function)(int), enum suture_site_kind kind)
{
	struct suture_hook_spec spec = {(void *)function, (void *)replacement, (void **)&original};
	int expected = caller(function, 1), result;
	struct suture_hook *hook;
	int rc = suture_hook_install(&spec, 1, &hook, NULL);

	hits = steps = incomplete = 0;
	first_incomplete = 0;
	ok(rc == 0 && suture_hook_kind(hook) == kind, "hooked by a %s",
	   suture_site_kind_name(kind));
	result = rc ? 0 : step_through(function, 1);
	ok(rc == 0 && result == expected && hits == 1 && incomplete == 0 && steps > 10,
	   "each of %lu steps knows who called: %lu do not (%#lx)", steps, incomplete,
	   (unsigned long)first_incomplete);
	ok(rc == 0 && suture_hook_remove(&hook, 1, NULL) == 0, "removed");
}

int main(void)
{
	struct sigaction action = {.sa_sigaction = on_step, .sa_flags = SA_SIGINFO};

	stepped = (char *)step_through;
	depth = backtrace(frames, DEPTH); /* loads the unwinder */
	sigaction(SIGTRAP, &action, NULL);
	ok(suture_trampolines_show(SUTURE_SHOW_UNWIND) == SUTURE_SHOW_UNWIND,
	   "the unwinder is told of trampolines");
	test_handlers();
	test_probe_steps(leaf_pun, (void *)leaf_pun, count, false, "pun");
	test_probe_steps(leaf_pun, (void *)leaf_pun, count_vector, true, "pun, before and after");
	test_probe_steps(leaf_window, (void *)leaf_window, count, true, "window, before and after");
	test_probe_steps(leaf_trap, (void *)leaf_trap, count, true, "trap, before and after");
	test_probe_steps(probed, probed_inner, count_vector, false, "an inner instruction");
	test_probe_steps(probed, probed_call, count, true, "a call");
	test_probe_steps(probed, probed_pop, count, true, "a pop");
	test_hook_steps(leaf_pun, SUTURE_SITE_PUN);
	test_hook_steps(leaf_window, SUTURE_SITE_WINDOW);
	test_hook_steps(leaf_trap, SUTURE_SITE_TRAP);
	return done();
}
