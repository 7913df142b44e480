/* SPDX-License-Identifier: MIT */
/*
 * own_registers.c - what a probe's handler sees, what it changes, and what stays as it is.
 *
 * The victim loads every register and the red zone, executes a few bytes that are probed, and
 * stores all again.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include "suture/hook.h"
#include "suture/probe.h"
#include "tap.h"

struct state {
	uint64_t general[15]; /* in the order of suture_regs */
	uint64_t flags, rsp;
	uint64_t red[16];
	uint8_t vector[16][32];
	uint32_t mxcsr, masks; /* masks: k1 */
	uint64_t pad;
};

enum { GENERAL = 15 };
struct state before __attribute__((aligned(64))), after __attribute__((aligned(64)));
uint8_t have_avx;
uint64_t kept_rsp;

/* Each of the probed places in a function of its own, made of the same parts. */
#define EACH_GENERAL(op)                                                                           \
	op(0, rax) op(8, rcx) op(16, rdx) op(24, rbx) op(32, rbp) op(40, rsi) op(48, rdi)          \
	        op(56, r8) op(64, r9) op(72, r10) op(80, r11) op(88, r12) op(96, r13) op(104, r14) \
	                op(112, r15)
#define LOAD(at, reg)  "	movq before+" #at "(%rip), %" #reg "\n"
#define STORE(at, reg) "	movq %" #reg ", after+" #at "(%rip)\n"
#define EACH_RED(op)                                                                               \
	op(0) op(8) op(16) op(24) op(32) op(40) op(48) op(56) op(64) op(72) op(80) op(88) op(96)   \
	        op(104) op(112) op(120)
#define LOAD_RED(at)                                                                               \
	"	movq before+136+" #at "(%rip), %rax\n	movq %rax, -128+" #at "(%rsp)\n"
#define STORE_RED(at) "	movq -128+" #at "(%rsp), %rax\n	movq %rax, after+136+" #at "(%rip)\n"
#define EACH_VECTOR(op)                                                                            \
	op(0) op(1) op(2) op(3) op(4) op(5) op(6) op(7) op(8) op(9) op(10) op(11) op(12) op(13)    \
	        op(14) op(15)
#define LOAD_YMM(n)  "	vmovdqu before+264+32*" #n "(%rip), %ymm" #n "\n"
#define STORE_YMM(n) "	vmovdqu %ymm" #n ", after+264+32*" #n "(%rip)\n"
#define LOAD_XMM(n)  "	movdqu before+264+32*" #n "(%rip), %xmm" #n "\n"
#define STORE_XMM(n) "	movdqu %xmm" #n ", after+264+32*" #n "(%rip)\n"
_Static_assert(offsetof(struct state, red) == 136 && offsetof(struct state, vector) == 264 &&
                       offsetof(struct state, mxcsr) == 776,
               "the code counts on it");

/* clang-format off */
#define VICTIM(name, probed)                                                                       \
	__asm__(".text\n.balign 16\n" #name ":\n"                                                  \
	        "	pushq %rbx\n	pushq %rbp\n	pushq %r12\n	pushq %r13\n	pushq %r14\n"    \
	        "	pushq %r15\n	movq %rsp, kept_rsp(%rip)\n"                               \
	        "	ldmxcsr before+776(%rip)\n"                                                \
	        "	cmpb $0, have_avx(%rip)\n	je 1f\n" EACH_VECTOR(LOAD_YMM)             \
	        "	jmp 2f\n1:\n" EACH_VECTOR(LOAD_XMM)                                        \
	        "2:	pushq before+120(%rip)\n	popfq\n" EACH_RED(LOAD_RED)                \
	        "	movq %rsp, before+128(%rip)\n" EACH_GENERAL(LOAD)                          \
	        ".globl " #name "_site, " #name "_end\n" #name "_site:\n" probed "\n" #name        \
	        "_end:\n" EACH_GENERAL(STORE)                                                      \
	        "	movq %rsp, after+128(%rip)\n" EACH_RED(STORE_RED)                          \
	        "	movq kept_rsp(%rip), %rsp\n"                                               \
	        "	pushfq\n	popq after+120(%rip)\n	cld\n"                             \
	        "	cmpb $0, have_avx(%rip)\n	je 1f\n" EACH_VECTOR(STORE_YMM)            \
	        "	vzeroupper\n	jmp 2f\n1:\n" EACH_VECTOR(STORE_XMM)                       \
	        "2:	stmxcsr after+776(%rip)\n"                                                 \
	        "	popq %r15\n	popq %r14\n	popq %r13\n	popq %r12\n"               \
	        "	popq %rbp\n	popq %rbx\n	ret\n");                                   \
	void name(void);                                                                           \
	extern char name##_site[], name##_end[];
/* clang-format on */

/* What bytes 1 to 4 are as a distance decides the kind: d0 below the executable, a small one
 * inside. */
VICTIM(as_pun, "	.byte 0x66, 0x0f, 0x1f, 0x80, 0xd0, 0xff, 0xff, 0xd0")
VICTIM(as_window, "	.byte 0x0f, 0x1f, 0x80, 0, 0, 0, 0") /* nopl 0(%rax) */
VICTIM(as_trap, "	jmp 1f\n	.byte 0, 0, 0\n1:")

static const struct victim {
	const char *name;
	void (*run)(void);
	char *site, *end;
	enum suture_site_kind kind;
} victims[] = {
        {"pun", as_pun, as_pun_site, as_pun_end, SUTURE_SITE_PUN},
        {"window", as_window, as_window_site, as_window_end, SUTURE_SITE_WINDOW},
        {"trap", as_trap, as_trap_site, as_trap_end, SUTURE_SITE_TRAP},
};

static uint64_t seed = 88172645463325252;

static uint64_t random_word(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	return seed ^= seed << 17;
}

enum { ARITHMETIC = 0x8d5, DIRECTION = 0x400, ALWAYS = 0x202 };

static void fill(void)
{
	for (int i = 0; i < GENERAL; i++)
		before.general[i] = random_word();
	for (int i = 0; i < 16; i++)
		before.red[i] = random_word();
	for (size_t i = 0; i < sizeof(before.vector); i++)
		((uint8_t *)before.vector)[i] = (uint8_t)random_word();
	before.flags = ALWAYS | (random_word() & (ARITHMETIC | DIRECTION));
	before.mxcsr = 0x1f80 | (uint32_t)(random_word() & 0x6000);
	memset(&after, 0, sizeof(after));
}

/* A bit for each part that differs. */
static unsigned differences(void)
{
	unsigned width = have_avx ? 32 : 16, bits = 0;

	bits |= memcmp(before.general, after.general, sizeof(before.general)) != 0;
	bits |= (before.flags != after.flags) << 1;
	bits |= (before.rsp != after.rsp) << 2;
	bits |= (memcmp(before.red, after.red, sizeof(before.red)) != 0) << 3;
	for (int i = 0; i < 16; i++)
		bits |= (memcmp(before.vector[i], after.vector[i], width) != 0) << 4;
	return bits | (before.mxcsr != after.mxcsr) << 5;
}

/* ---- handlers ---- */

static unsigned hits, seen_wrong;
static char *expected_rip;

__attribute__((target("general-regs-only"))) static void look(struct suture_regs *regs, void *arg)
{
	const uint64_t *general = &regs->rax;
	unsigned wrong = 0;

	(void)arg;
	for (int i = 0; i < GENERAL; i++)
		wrong += general[i] != before.general[i];
	wrong += regs->rflags != before.flags || regs->rsp != before.rsp;
	wrong += regs->rip != (uintptr_t)expected_rip;
	for (int i = 0; i < 16; i++)
		wrong += ((uint64_t *)regs->rsp)[i - 16] != before.red[i];
	seen_wrong += wrong != 0;
	hits++;
}

/* Whatever may be used is. */
static void spoil(struct suture_regs *regs, void *arg)
{
	static const uint32_t mxcsr = 0x9fc0;

	look(regs, arg);
#define SPOIL(n)     "	pcmpeqd %%xmm" #n ", %%xmm" #n "\n"
#define SPOIL_AVX(n) "	vpcmpeqd %%xmm0, %%xmm0, %%xmm" #n "\n"
	__asm__ volatile("fld1\n	ldmxcsr %0\n" EACH_VECTOR(SPOIL)::"m"(mxcsr) : "memory");
	if (have_avx)
		__asm__ volatile(EACH_VECTOR(SPOIL_AVX) "	vzeroall\n" ::: "memory");
	__asm__ volatile("xorl %%eax, %%eax\n	cmpl $1, %%eax\n	std\n	cld\n" ::
	                         : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11",
	                           "cc", "memory");
}

static char message[200];
static struct suture_text_options options = {
        .size = sizeof(options), .message = message, .message_size = sizeof(message)};

static struct suture_probe *probe(void *site, suture_probe_fn pre, suture_probe_fn post,
                                  unsigned flags)
{
	struct suture_probe_spec spec = {.address = site, .pre = pre, .post = post, .flags = flags};
	struct suture_probe *made = NULL;
	int rc = suture_probe_install(&spec, 1, &made, &options);

	if (rc)
		note("%d: %s", rc, message);
	return made;
}

static void take(struct suture_probe *made)
{
	if (!made || suture_probe_remove(&made, 1, &options))
		ok(false, "can not be removed: %s", message);
}

static void test_kept(const struct victim *victim, suture_probe_fn handler, bool post, int rounds)
{
	unsigned flags = handler == look ? SUTURE_PROBE_GENERAL_REGS : 0, changed = 0;
	struct suture_probe *made =
	        probe(victim->site, post ? NULL : handler, post ? handler : NULL, flags);
	enum suture_site_kind kind = made ? suture_probe_kind(made) : 0;

	hits = seen_wrong = 0;
	expected_rip = post ? victim->end : victim->site;
	for (int i = 0; made && i < rounds; i++) {
		fill();
		victim->run();
		changed |= differences();
	}
	ok(made && kind == victim->kind && hits == (unsigned)rounds && !seen_wrong && !changed,
	   "%s (%s), %s, %s: %u hits, %u saw other registers, changed: %#x", victim->name,
	   suture_site_kind_name(kind), post ? "after" : "before",
	   handler == look ? "general registers" : "all registers", hits, seen_wrong, changed);
	take(made);
	fill();
	victim->run();
	ok(!differences(), "and without");
}

/* ---- changes ---- */

static uint64_t wanted[GENERAL], wanted_flags;

static void change_registers(struct suture_regs *regs, void *arg)
{
	(void)arg;
	memcpy(&regs->rax, wanted, sizeof(wanted));
	hits++;
}

static void change_flags(struct suture_regs *regs, void *arg)
{
	(void)arg;
	memcpy(&regs->rax, wanted, sizeof(wanted));
	regs->rflags = wanted_flags;
	hits++;
}

/* The same by code that uses vector registers, which are saved then. */
#define AND_SPOIL(name)                                                                            \
	static void name##_vector(struct suture_regs *regs, void *arg)                             \
	{                                                                                          \
		__asm__ volatile(EACH_VECTOR(SPOIL)::: "memory");                                  \
		name(regs, arg);                                                                   \
	}
AND_SPOIL(change_registers)
AND_SPOIL(change_flags)

static void test_changes(const struct victim *victim, suture_probe_fn handler, bool flags_too)
{
	struct suture_probe *made = probe(victim->site, handler, NULL, 0);
	unsigned wrong = 0, kept = 0;

	hits = 0;
	for (int i = 0; made && i < 100; i++) {
		fill();
		for (int k = 0; k < GENERAL; k++)
			wanted[k] = random_word();
		wanted_flags = ALWAYS | (random_word() & (ARITHMETIC | DIRECTION));
		victim->run();
		wrong += memcmp(wanted, after.general, sizeof(wanted)) != 0;
		memcpy(before.general, wanted, sizeof(wanted));
		if (flags_too) {
			wrong += wanted_flags != after.flags;
			before.flags = after.flags;
		}
		kept |= differences();
	}
	ok(made && hits == 100 && !wrong && !kept,
	   "%s: a handler changes registers%s: %u hits, %u wrong, what shall stay changed: %#x",
	   victim->name, flags_too ? " and flags" : "", hits, wrong, kept);
	take(made);
}

/* ---- the stack pointer ---- */

static int64_t distance;
static uint64_t moved_to[64];

/* The words that it will point to, and the red zone below. */
static void move_stack(struct suture_regs *regs, void *arg)
{
	(void)arg;
	hits++;
	regs->rsp += (uint64_t)distance;
}

static void move_to_other(struct suture_regs *regs, void *arg)
{
	(void)arg;
	hits++;
	regs->rsp = (uint64_t)(moved_to + 60);
}

AND_SPOIL(move_stack)
AND_SPOIL(move_to_other)

static void test_stack(const struct victim *victim, bool vector)
{
	struct suture_probe *made =
	        probe(victim->site, vector ? move_stack_vector : move_stack, NULL, 0);
	unsigned wrong = 0;
	int64_t worst = 0;

	for (int64_t d = -8192; made && d <= 128; d += d < -1024 ? 512 : 8) {
		distance = d;
		fill();
		hits = 0;
		victim->run();
		before.rsp += (uint64_t)d;
		/* Where rsp was moved the red zone is another. */
		memcpy(before.red, after.red, sizeof(before.red));
		if (hits != 1 || differences()) {
			wrong++;
			worst = d;
		}
	}
	ok(made && !wrong, "%s, %s: rsp moved up and down: %u wrong (by %lld)", victim->name,
	   vector ? "all registers" : "general registers", wrong, (long long)worst);
	take(made);
	made = probe(victim->site, vector ? move_to_other_vector : move_to_other, NULL, 0);
	fill();
	for (int i = 0; i < 16; i++)
		moved_to[44 + i] = before.red[i];
	victim->run();
	before.rsp = (uint64_t)(moved_to + 60);
	ok(made && !differences(), "%s, %s: to another stack, whose red zone stays: %#x",
	   victim->name, vector ? "all registers" : "general registers", differences());
	take(made);
}

/* ---- the instruction pointer ---- */

__attribute__((noinline, weak)) long answer(long x);
__attribute__((noinline, weak)) long answer(long x)
{
	return x * 3;
}

static void skip_function(struct suture_regs *regs, void *arg)
{
	regs->rax = (uintptr_t)arg;
	regs->rip = *(uint64_t *)regs->rsp;
	regs->rsp += 8;
	hits++;
}

static long (*real_answer)(long);
static long my_answer(long x)
{
	return -real_answer(x);
}

static void test_skip(void)
{
	struct suture_probe_spec spec = {
	        .address = (void *)answer, .pre = skip_function, .arg = (void *)4711};
	struct suture_hook_spec hook_spec = {(void *)answer, (void *)my_answer,
	                                     (void **)&real_answer};
	struct suture_probe *made;
	struct suture_hook *hook;
	long sum = 0;

	hits = 0;
	ok(suture_probe_install(&spec, 1, &made, NULL) == 0, "a probe that skips the function");
	for (int i = 0; i < 1000; i++)
		sum += answer(i);
	ok(hits == 1000 && sum == 4711000, "each call returns what the handler says");
	ok(suture_hook_install(&hook_spec, 1, &hook, NULL) == 0 && answer(5) == 4711,
	   "a hook of it is skipped, too");
	ok(real_answer(5) == 15, "the hook's original leads to the function without the probe");
	take(made);
	ok(answer(5) == -15 && suture_hook_remove(&hook, 1, NULL) == 0 && answer(5) == 15,
	   "the probe is gone: the hook is called; and it is gone, too");
}

/* ---- signals ---- */

static unsigned long ticks;

static void on_tick(int number)
{
	(void)number;
	ticks++;
	/* Registers that the interrupted code may hold something in. */
	if (have_avx)
		__asm__ volatile("vzeroall" ::: "memory");
}

/* At 1 kHz, in the midst of handlers, trampolines and the trap path. */
static void test_signals(void)
{
	struct itimerval timer = {{0, 1000}, {0, 1000}}, none = {{0, 0}, {0, 0}};

	signal(SIGALRM, on_tick);
	setitimer(ITIMER_REAL, &timer, NULL);
	for (size_t i = 0; i < sizeof(victims) / sizeof(victims[0]); i++) {
		test_kept(&victims[i], look, false, 20000);
		test_kept(&victims[i], spoil, false, 20000);
	}
	setitimer(ITIMER_REAL, &none, NULL);
	signal(SIGALRM, SIG_DFL);
	ok(ticks > 0, "signals arrived meanwhile");
}

int main(void)
{
	have_avx = __builtin_cpu_supports("avx") != 0;
	for (size_t i = 0; i < sizeof(victims) / sizeof(victims[0]); i++) {
		const struct victim *victim = &victims[i];

		fill();
		victim->run();
		ok(!differences(), "%s: the victim alone keeps all: %#x", victim->name,
		   differences());
		for (int k = 0; k < 4; k++)
			test_kept(victim, k & 1 ? spoil : look, k >> 1, 300);
		test_changes(victim, change_registers, false);
		test_changes(victim, change_registers_vector, false);
		test_changes(victim, change_flags, true);
		test_changes(victim, change_flags_vector, true);
		test_stack(victim, false);
		test_stack(victim, true);
	}
	test_skip();
	test_signals();
	return done();
}
