/* SPDX-License-Identifier: MIT */
/*
 * own_traps.c - traps of ours beside the program's own SIGTRAP and SIGILL, and threads that block
 * signals.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>
#include "suture/hook.h"
#include "suture/probe.h"
#include "tap.h"

#define VICTIM(name, code)                                                                         \
	__asm__(".text\n.balign 16\n.type " #name ", @function\n" #name ":\n" code                 \
	        "\n.size " #name ", . - " #name "\n");                                             \
	int name(int x);

VICTIM(pun, "	leal 1(%rdi), %eax\n	ret\n	.byte 0xd0, 0, 0, 0")
VICTIM(window, "	movl $7, %eax\n	ret")
VICTIM(trap, "	jmp 1f\n	.byte 0, 0, 0\n1:	leal 1(%rdi), %eax\n	ret")
/* The back edge leads to the second instruction, which begins at the jump's last byte. */
VICTIM(invalid, "	leaq 1(%rdi), %rax\n1:	.byte 0x05, 0, 0, 0, 0\n	decl %edi\n	jg "
                "1b\n	ret")
/* The same, to the second byte: a breakpoint. */
VICTIM(looping, "	nop\n1:	.byte 0x05, 1, 0, 0, 0\n	decl %edi\n	jg 1b\n	ret")

static char message[200];
static struct suture_text_options options = {
        .size = sizeof(options), .message = message, .message_size = sizeof(message)};

static unsigned long hits;

static void count(struct suture_regs *regs, void *arg)
{
	(void)regs;
	(void)arg;
	__atomic_fetch_add(&hits, 1, __ATOMIC_RELAXED);
}

static struct suture_probe *add(int (*function)(int), int *rc)
{
	struct suture_probe_spec spec = {.address = (void *)function, .pre = count, .post = count};
	struct suture_probe *probe = NULL;

	message[0] = '\0';
	*rc = suture_probe_install(&spec, 1, &probe, &options);
	return probe;
}

static bool take(struct suture_probe *probe)
{
	return probe && suture_probe_remove(&probe, 1, &options) == 0;
}

/* ---- threads that block signals ---- */

struct blocker {
	pthread_t thread;
	int state; /* 1: blocks; 2: call the pun; 3: done; 4: go */
	int sum;
};

static void change(struct blocker *b, int from, int to)
{
	while (__atomic_load_n(&b->state, __ATOMIC_ACQUIRE) != from)
		usleep(500);
	__atomic_store_n(&b->state, to, __ATOMIC_RELEASE);
}

static void *block_all(void *arg)
{
	struct blocker *b = arg;
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	change(b, 0, 1);
	change(b, 2, 2);
	for (int i = 0; i < 100; i++)
		b->sum += pun(i) + window(i);
	change(b, 2, 3);
	change(b, 4, 5);
	return NULL;
}

static void test_refused(int (*function)(int), const char *what)
{
	uint8_t before[8];
	int rc, result = function(1);

	memcpy(before, (void *)function, 8);
	options.deadline_ns = 20000000;
	add(function, &rc);
	ok(rc == -EBUSY && memcmp(before, (void *)function, 8) == 0 && function(1) == result,
	   "%s: refused while a thread blocks SIGTRAP (%d, %s)", what, rc, message);
	options.deadline_ns = 0;
}

static void test_blocked(void)
{
	struct blocker b = {0};
	struct suture_probe *probe;
	int rc;

	pthread_create(&b.thread, NULL, block_all, &b);
	change(&b, 1, 1);
	probe = add(pun, &rc);
	ok(rc == 0 && suture_probe_kind(probe) == SUTURE_SITE_PUN, "a pun can be made %s", message);
	test_refused(window, "window");
	test_refused(trap, "trap");
	hits = 0;
	change(&b, 1, 2);
	change(&b, 3, 3);
	ok(hits == 200 && b.sum == 4950 + 100 + 700, "the thread comes to the pun: %lu hits", hits);
	change(&b, 3, 4);
	pthread_join(b.thread, NULL);
	ok(take(probe) && pun(1) == 2, "removed");
	probe = add(trap, &rc);
	ok(rc == 0 && suture_probe_kind(probe) == SUTURE_SITE_TRAP, "it is gone: a trap %s",
	   message);
	take(probe);
}

/* Traps are live: what blocks signals through libc leaves ours alone. */
static void *block_and_call(void *arg)
{
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	for (int i = 0; i < 100; i++)
		*(int *)arg += trap(i);
	sigprocmask(SIG_SETMASK, &all, NULL);
	for (int i = 0; i < 100; i++)
		*(int *)arg += trap(i);
	return NULL;
}

static void test_blocked_later(void)
{
	struct suture_probe *probe;
	pthread_t thread;
	int sum = 0, rc;

	probe = add(trap, &rc);
	hits = 0;
	pthread_create(&thread, NULL, block_and_call, &sum);
	pthread_join(thread, NULL);
	ok(rc == 0 && sum == 2 * 5050 && hits == 400,
	   "a thread that blocks all signals while traps are there takes them (%lu hits)", hits);
	take(probe);
}

/* ---- the program's own ---- */

static volatile sig_atomic_t traps, ills, wrong_place;
extern char own_trap[], own_ill[];

static void on_trap(int number, siginfo_t *info, void *context)
{
	ucontext_t *user = context;

	(void)number;
	if (info->si_code > 0)
		wrong_place += user->uc_mcontext.gregs[REG_RIP] != (greg_t)(uintptr_t)own_trap + 1;
	traps++;
}

static void on_ill(int number, siginfo_t *info, void *context)
{
	ucontext_t *user = context;

	(void)number;
	if (info->si_code > 0) {
		wrong_place += user->uc_mcontext.gregs[REG_RIP] != (greg_t)(uintptr_t)own_ill;
		user->uc_mcontext.gregs[REG_RIP] += 2; /* ud2 */
	}
	ills++;
}

/* Handlers are called once for each, at the right place; those of ours are not seen. */
static void test_own(const char *when)
{
	int wrong = 0;

	traps = ills = wrong_place = 0;
	hits = 0;
	for (int i = 0; i < 200; i++) {
		__asm__ volatile(".globl own_trap\nown_trap:	int3" ::: "memory");
		wrong += trap(i) != i + 1 || looping(3) < 3;
		__asm__ volatile(".globl own_ill\nown_ill:	ud2" ::: "memory");
		wrong += invalid(3) != 4 || window(1) != 7;
	}
	ok(traps == 200 && ills == 200 && !wrong_place && !wrong,
	   "%s: %d traps, %d invalid instructions, %d at another place, %d wrong results", when,
	   (int)traps, (int)ills, (int)wrong_place, wrong);
	traps = ills = 0;
	raise(SIGTRAP);
	kill(getpid(), SIGTRAP);
	pthread_kill(pthread_self(), SIGILL);
	ok(traps == 2 && ills == 1, "%s: signals that are sent arrive", when);
}

/* Puns and breakpoints are not possible: there is something where they would lead. */
static void leave_invalid_only(void)
{
	uint8_t *at = (uint8_t *)(uintptr_t)invalid;
	int32_t distance;

	for (int jump = 0; jump < 2; jump++) {
		memcpy(&distance, at + jump + 1, 4);
		mmap((void *)((uintptr_t)(at + jump + 5 + distance) & ~(uintptr_t)4095), 4096,
		     PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	}
	/* All that a distance of 0xccxxxxxx leads to. */
	mmap((void *)(((uintptr_t)at + 5 - 0x34000000) & ~(uintptr_t)4095), 0x1001000, PROT_NONE,
	     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
}

static void set(int number, void (*handler)(int, siginfo_t *, void *))
{
	struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_NODEFER};

	sigaction(number, &action, NULL);
}

static void ignore_trap(int number, siginfo_t *info, void *context)
{
	(void)number;
	(void)info;
	(void)context;
}

static void test_mixed(void)
{
	int (*const functions[])(int) = {pun, window, trap, invalid, looping};
	struct suture_probe *probes[5];
	struct sigaction now;
	int rc, failed = 0;

	leave_invalid_only();
	test_own("without probes");
	for (int i = 0; i < 5; i++) {
		probes[i] = add(functions[i], &rc);
		failed += rc != 0;
	}
	ok(!failed, "probes %s", message);
	if (failed)
		return;
	ok(suture_probe_kind(probes[3]) == SUTURE_SITE_WINDOW && ((uint8_t *)invalid)[4] == 0xd6,
	   "one by an invalid instruction (%s, %#x)",
	   suture_site_kind_name(suture_probe_kind(probes[3])), ((uint8_t *)invalid)[4]);
	test_own("with probes");
	ok(hits == 200 * 2 * 4, "and they are hit: %lu", hits);
	ok(sigaction(SIGTRAP, NULL, &now) == 0 && now.sa_sigaction == on_trap,
	   "the program's handler is what it is told of");
	set(SIGTRAP, ignore_trap);
	set(SIGILL, ignore_trap);
	set(SIGTRAP, on_trap);
	set(SIGILL, on_ill);
	test_own("handlers set again");
	for (int i = 0; i < 5; i++)
		failed += !take(probes[i]);
	ok(!failed, "removed %s", message);
	test_own("after them");
}

/* ---- nobody handles it ---- */

static int death(int number, bool ignored, bool ill)
{
	struct suture_probe *probe;
	int status = 0, rc;
	pid_t pid = fork();

	if (pid == 0) {
		signal(number, ignored ? SIG_IGN : SIG_DFL);
		probe = add(trap, &rc);
		hits = 0;
		if (!probe || trap(1) != 2 || hits != 2)
			_exit(1);
		if (ill)
			__asm__ volatile("ud2");
		else
			__asm__ volatile("int3");
		_exit(0);
	}
	waitpid(pid, &status, 0);
	return WIFSIGNALED(status) ? WTERMSIG(status) : -WEXITSTATUS(status);
}

int main(void)
{
	int how[4];

	test_blocked();
	test_blocked_later();
	set(SIGTRAP, on_trap);
	set(SIGILL, on_ill);
	test_mixed();
	for (int i = 0; i < 4; i++)
		how[i] = death(i & 1 ? SIGILL : SIGTRAP, i >> 1, i & 1);
	ok(how[0] == SIGTRAP && how[2] == SIGTRAP, "a trap that nobody handles kills (%d, %d)",
	   how[0], how[2]);
	ok(how[1] == SIGILL && how[3] == SIGILL, "an invalid instruction, too (%d, %d)", how[1],
	   how[3]);
	return done();
}
