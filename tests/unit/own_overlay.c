/* SPDX-License-Identifier: MIT */
/*
 * own_overlay.c - static keys and edits at instructions that hooks and probes stand on.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "suture/hook.h"
#include "suture/key.h"
#include "suture/probe.h"
#include "tap.h"

/* Compilers shall not know what is in a function that is called. */
#ifdef __clang__
#define APART __attribute__((noinline, optnone))
#else
#define APART __attribute__((noipa))
#endif

SUTURE_KEY_DEFINE(first, false);
SUTURE_KEY_DEFINE(later, false);

/* The key is the first instruction, and one that comes after a short one. */
APART static int begins(void)
{
	if (suture_key_unlikely(&first))
		return 2;
	return 1;
}

__attribute__((noinline, naked)) static int follows(void)
{
	__asm__("xorl %eax, %eax\n\t"
	        "1: .byte 0x0f, 0x1f, 0x44, 0x00, 0x00\n\t"
	        "incl %eax\n\tret\n"
	        "2: movl $2, %eax\n\tret\n\t"
	        ".pushsection suture_keys, \"aw?\", @progbits\n\t.balign 8\n\t"
	        ".long 1b - ., 2b - .\n\t.quad later - .\n\t.popsection");
}

/* mov $1, %eax; ret */
__asm__(".text\n.globl one\n.type one, @function\none:\n\t.byte 0xb8, 0x01, 0, 0, 0\n\tret\n"
        ".size one, . - one\n");
int one(void);

static int (*original)(void);
static int plus_ten(void)
{
	return original() + 10;
}

static long hits;
static void counts(struct suture_regs *regs, void *arg)
{
	(void)regs;
	(void)arg;
	__atomic_fetch_add(&hits, 1, __ATOMIC_RELAXED);
}

static char message[200];
static struct suture_text_options options = {
        .size = sizeof(options), .message = message, .message_size = sizeof(message)};

/* A key toggles under a hook, and what is given back is what it is then. */
static void test_hooked(int (*function)(void), struct suture_key *key, const char *what)
{
	struct suture_hook_spec spec = {(void *)function, (void *)plus_ten, (void **)&original};
	struct suture_hook *hook;
	int was, on, off;

	ok(suture_hook_install(&spec, 1, &hook, &options) == 0 && function() == 11,
	   "%s: hooked (%s)", what, message);
	was = suture_key_enable(key);
	on = function();
	ok(was == 0 && on == 12, "%s: the key is on under the hook", what);
	/* Pieces are published beside the one that was edited. */
	for (int i = 0; i < 8; i++) {
		struct suture_probe_spec near = {.address = (char *)one + (i % 2 ? 5 : 0),
		                                 .pre = counts};
		struct suture_probe *probe;

		was = suture_probe_install(&near, 1, &probe, &options) ||
		      suture_probe_remove(&probe, 1, &options);
	}
	ok(was == 0 && function() == 12, "%s: and stays on when others are probed", what);
	ok(suture_key_disable(key) == 0 && (off = function()) == 11, "%s: and off", what);
	ok(suture_key_enable(key) == 0 && function() == 12, "%s: and on again", what);
	ok(suture_hook_remove(&hook, 1, &options) == 0 && function() == 2,
	   "%s: it is on when the hook is gone", what);
	ok(suture_hook_install(&spec, 1, &hook, &options) == 0 && function() == 12,
	   "%s: hooked while it is on (%s)", what, message);
	ok(suture_key_disable(key) == 0 && function() == 11, "%s: off under the hook", what);
	ok(suture_hook_remove(&hook, 1, &options) == 0 && function() == 1,
	   "%s: off when the hook is gone", what);
}

static void test_probed(void)
{
	struct suture_probe_spec spec = {.address = (void *)begins, .pre = counts};
	struct suture_probe *probe;

	hits = 0;
	ok(suture_probe_install(&spec, 1, &probe, &options) == 0 && begins() == 1 && hits == 1,
	   "probed (%s)", message);
	ok(suture_key_enable(&first) == 0 && begins() == 2 && hits == 2, "on under a probe");
	ok(suture_key_disable(&first) == 0 && begins() == 1 && hits == 3, "off under a probe");
	ok(suture_probe_remove(&probe, 1, &options) == 0 && begins() == 1 && hits == 3, "removed");
}

static void test_edited(void)
{
	static const uint8_t mov_1[] = {0xb8, 1, 0, 0, 0}, mov_2[] = {0xb8, 2, 0, 0, 0};
	struct suture_edit there = {(void *)one, mov_1, mov_2, 5};
	struct suture_edit back = {(void *)one, mov_2, mov_1, 5};
	struct suture_edit inside = {(char *)one + 1, mov_2 + 1, mov_1 + 1, 4};
	struct suture_hook_spec spec = {(void *)one, (void *)plus_ten, (void **)&original};
	struct suture_hook *hook;
	uint8_t was[5];

	ok(suture_hook_install(&spec, 1, &hook, &options) == 0 && one() == 11, "hooked (%s)",
	   message);
	ok(suture_text_patch(&there, 1, &options) == 0 && one() == 12, "edited under a hook (%s)",
	   message);
	ok(suture_text_original((void *)one, was, 5) == 0 && !memcmp(was, mov_1, 5),
	   "the original is from before both");
	ok(suture_text_patch(&there, 1, &options) == -EUCLEAN && one() == 12, "not twice: %s",
	   message);
	ok(suture_text_patch(&inside, 1, &options) == -EEXIST && one() == 12,
	   "not a part of the instruction: %s", message);
	ok(suture_hook_remove(&hook, 1, &options) == 0 && one() == 2, "the edit stays");
	ok(suture_text_patch(&back, 1, &options) == 0 && one() == 1, "and is taken back");
}

/* ---- everything at once, at random ---- */

SUTURE_KEY_DEFINE(among, false);

/* 1 + 2 + 4 = 7, and 8 more while the key is on; `mixed_at` says where instructions begin. */
__asm__(".text\n.type mixed, @function\nmixed:\n"
        "m0:\n\t.byte 0x0f, 0x1f, 0x44, 0x00, 0x00\n"
        "m1:\n\txorl %eax, %eax\n"
        "m2:\n\tincl %eax\n"
        "m3:\n\taddl $2, %eax\n"
        "m4:\n\tpushq %rax\n"
        "m5:\n\tpopq %rax\n"
        "m6:\n\taddl $4, %eax\n"
        "m7:\n\tret\n"
        "mon:\n\tmovl $8, %eax\n\tjmp m2\n"
        ".size mixed, . - mixed\n"
        ".pushsection suture_keys, \"aw?\", @progbits\n\t.balign 8\n\t"
        ".long m0 - ., mon - .\n\t.quad among - .\n\t.popsection\n"
        ".pushsection .rodata\n.balign 8\nmixed_at:\n"
        "\t.long m0 - m0, m1 - m0, m2 - m0, m3 - m0, m4 - m0, m5 - m0, m6 - m0, m7 - m0\n"
        ".popsection\n");
int mixed(void);
extern const int mixed_at[8];

static int (*real_mixed)(void);
static int mixed_plus_16(void)
{
	return real_mixed() + 16;
}

struct random_state {
	struct suture_probe *probes[8];
	struct suture_hook *hook;
	bool on;
	unsigned seed;
};

static int step(struct random_state *s)
{
	unsigned what = (unsigned)rand_r(&s->seed) / 64 % 12;
	int rc;

	if (what < 3) {
		rc = s->on ? suture_key_disable(&among) : suture_key_enable(&among);
		s->on = !s->on;
	} else if (what == 3 && s->hook) {
		rc = suture_hook_remove(&s->hook, 1, &options);
		s->hook = NULL;
	} else if (what == 3) {
		struct suture_hook_spec spec = {(void *)mixed, (void *)mixed_plus_16,
		                                (void **)&real_mixed};

		rc = suture_hook_install(&spec, 1, &s->hook, &options);
	} else if (s->probes[what - 4]) {
		rc = suture_probe_remove(&s->probes[what - 4], 1, &options);
		s->probes[what - 4] = NULL;
	} else {
		struct suture_probe_spec spec = {.address = (char *)mixed + mixed_at[what - 4],
		                                 .pre = counts};

		rc = suture_probe_install(&spec, 1, &s->probes[what - 4], &options);
	}
	return rc;
}

static int random_steps(unsigned seed, int steps)
{
	struct random_state s = {.seed = seed};
	int rc = 0;

	for (int i = 0; i < steps && !rc; i++) {
		rc = step(&s);
		if (!rc && mixed() != 7 + (s.on ? 8 : 0) + (s.hook ? 16 : 0))
			rc = 1;
	}
	for (int i = 0; i < 8; i++)
		if (s.probes[i] && suture_probe_remove(&s.probes[i], 1, &options))
			rc = 1;
	if (s.hook && suture_hook_remove(&s.hook, 1, &options))
		rc = 1;
	if (s.on && suture_key_disable(&among))
		rc = 1;
	return rc || mixed() != 7;
}

/* Each in a process of its own, in which no code has been made yet. */
static void test_random(unsigned processes)
{
	unsigned failed = 0, first = 0;

	for (unsigned seed = 1; seed <= processes; seed++) {
		int status = 1;
		pid_t child = fork();

		if (child == 0)
			_exit(random_steps(seed, 40));
		waitpid(child, &status, 0);
		if (status && !failed++)
			first = seed;
	}
	ok(!failed, "%u processes of 40 random steps (%u failed, the first with seed %u)",
	   processes, failed, first);
}

/* ---- with threads ---- */

static int stop;

static void *runs(void *arg)
{
	long *wrong = arg;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		int a = begins(), b = follows();

		*wrong += (a != 1 && a != 2 && a != 11 && a != 12) +
		          (b != 1 && b != 2 && b != 11 && b != 12);
	}
	return NULL;
}

static void test_threads(int cycles)
{
	struct suture_hook_spec specs[] = {{(void *)begins, (void *)plus_ten, (void **)&original},
	                                   {(void *)follows, (void *)plus_ten, NULL}};
	pthread_t threads[4];
	long wrong[4] = {0}, sum = 0;
	int failed = 0;

	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, runs, &wrong[i]);
	options.deadline_ns = 30000000000; /* where threads take turns, one may wait for long */
	/* A hook that stays would be the original of the next one: plus_ten for ever. */
	for (int i = 0; i < cycles && !failed; i++) {
		struct suture_hook *hook;

		failed += suture_hook_install(&specs[0], 1, &hook, &options) != 0;
		failed += suture_key_enable(&first) != 0;
		failed += suture_key_enable(&later) != 0;
		failed += suture_key_disable(&first) != 0;
		failed += suture_hook_remove(&hook, 1, &options) != 0;
		failed += suture_key_disable(&later) != 0;
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		sum += wrong[i];
	}
	ok(!failed && !sum, "%d cycles under 4 threads (%d failed, %ld wrong; %s)", cycles, failed,
	   sum, message);
}

/* With an argument: not so many, where each takes long. */
int main(int argc, char **argv)
{
	(void)argv;
	test_random(argc > 1 ? 4 : 200);
	test_hooked(begins, &first, "first instruction");
	test_hooked(follows, &later, "second instruction");
	test_probed();
	test_edited();
	test_threads(argc > 1 ? 60 : 300);
	return done();
}
