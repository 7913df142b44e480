/* SPDX-License-Identifier: MIT */
/*
 * own_shapes.c - functions that are awkward to change, changed while threads execute them.
 *
 * The shapes are those that other tools crash on. 4 and then 16 threads call all of them all the
 * time; each shape is hooked, probed and released again, alone and all in one transaction. A call
 * returns the old value or the hooked one, and nothing else. In the program as it is built by
 * default the shapes are puns, in own_shapes-window windows, in own_shapes-nopie many are traps. A
 * thread that never comes back, or a
 * transaction that never ends, is found by an alarm.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "suture/hook.h"
#include "suture/key.h"
#include "suture/probe.h"
#include "own_shapes.h"
#include "tap.h"

/* How this program was built, see tests.mk. */
#ifndef WINDOWS
#define WINDOWS 0
#endif
#ifndef FEWER
#define FEWER 1
#endif

enum { THREADS_MAX = 16, HANG_SECONDS = 60, BURST = 10 };

static char message[200];
/* On a busy machine a handler may have to wait for long before it can return. */
static struct suture_text_options options = {.size = sizeof(options),
                                             .deadline_ns = 30000000000,
                                             .message = message,
                                             .message_size = sizeof(message)};

/* ---- what a run finds ---- */

static struct {
	unsigned refused, wrong, late, uncounted, kinds[SUTURE_SITE_TRAP + 1];
} found;

static void refuse(const char *what, const char *who, int rc)
{
	if (!found.refused++)
		note("%s, %s: %s (%d)", what, who, message, rc);
}

/* ---- threads ---- */

SUTURE_KEY_DEFINE(key, false);

/* Uses of a key close to each other, and in a loop. */
__attribute__((noinline)) static int keyed(int x)
{
	int sum = suture_key_unlikely(&key) ? SHAPE_HOOKED : 0;

	for (int i = 0; i < x; i++)
		if (suture_key_likely(&key))
			sum |= 1;
		else
			sum |= 2;
	return sum;
}

static bool keyed_right(int x)
{
	int sum = keyed(x);

	return (sum & ~(SHAPE_HOOKED | 3)) == 0 && (sum & 3);
}

static int stop, wrong;
static unsigned long calls;

static void *run(void *arg)
{
	unsigned long n = 0;
	int x = 1 + (int)(intptr_t)arg % SHAPE_X_MAX;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		if (!shapes_right(x) || !keyed_right(x))
			__atomic_fetch_add(&wrong, 1, __ATOMIC_RELAXED);
		x = x % SHAPE_X_MAX + 1;
		n++;
	}
	__atomic_fetch_add(&calls, n, __ATOMIC_RELAXED);
	return NULL;
}

/* ---- hooks ---- */

static void check_hooked(unsigned shape, int bit)
{
	if (shape_call(shapes[shape].entry, 3) != (shape_expected(shape, 3) ^ bit))
		found.late++;
}

static void hook(unsigned first, unsigned count)
{
	struct suture_hook_spec specs[SHAPES];
	struct suture_hook *hooks[SHAPES];
	int rc;

	for (unsigned i = 0; i < count; i++)
		specs[i] = (struct suture_hook_spec){shapes[first + i].entry,
		                                     (void *)shape_replacements[first + i],
		                                     &shapes[first + i].original};
	rc = suture_hook_install(specs, count, hooks, &options);
	if (rc) {
		refuse("hook", shapes[first + options.failed].name, rc);
		return;
	}
	for (unsigned i = 0; i < count; i++) {
		check_hooked(first + i, SHAPE_HOOKED);
		found.kinds[suture_hook_kind(hooks[i])]++;
	}
	rc = suture_hook_remove(hooks, count, &options);
	if (rc)
		refuse("removing a hook", shapes[first + options.failed].name, rc);
	for (unsigned i = 0; i < count; i++)
		check_hooked(first + i, 0);
}

/* ---- probes ---- */

static unsigned long counts[2 * SHAPES], posts[2 * SHAPES];

static void on_pre(struct suture_regs *regs, void *arg)
{
	(void)regs;
	__atomic_fetch_add((unsigned long *)arg, 1, __ATOMIC_RELAXED);
}

static void on_post(struct suture_regs *regs, void *arg)
{
	unsigned long *count = arg;

	(void)regs;
	__atomic_fetch_add(&posts[count - counts], 1, __ATOMIC_RELAXED);
}

enum { AT_ENTRY = 1, AT_INNER = 2, WITH_POST = 4 };

static unsigned specify(unsigned first, unsigned count, unsigned how,
                        struct suture_probe_spec *specs)
{
	unsigned n = 0;

	for (unsigned i = first; i < first + count; i++)
		for (unsigned inner = 0; inner < 2; inner++) {
			char *at = inner ? shapes[i].inner : shapes[i].entry;

			if (!(how & (inner ? AT_INNER : AT_ENTRY)))
				continue;
			specs[n] = (struct suture_probe_spec){
			        .address = at, .pre = on_pre, .arg = &counts[2 * i + inner]};
			if ((how & WITH_POST) && (uint8_t)*at != 0xc3 /* ret */)
				specs[n].post = on_post;
			n++;
		}
	return n;
}

static unsigned long count_of(const struct suture_probe_spec *spec)
{
	return __atomic_load_n((unsigned long *)spec->arg, __ATOMIC_RELAXED);
}

/* A call is counted while a probe is there, and none is afterwards. */
static void probe(unsigned first, unsigned count, unsigned how)
{
	struct suture_probe_spec specs[2 * SHAPES] = {0};
	struct suture_probe *probes[2 * SHAPES];
	unsigned long before[2 * SHAPES];
	unsigned n = specify(first, count, how, specs);
	int rc = suture_probe_install(specs, n, probes, &options);

	if (rc) {
		refuse("probe", shapes[first].name, rc);
		return;
	}
	for (unsigned i = 0; i < n; i++)
		before[i] = count_of(&specs[i]);
	for (unsigned i = first; i < first + count; i++) {
		check_hooked(i, 0);
		(void)shape_call(shapes[i].inner, 1);
	}
	for (unsigned i = 0; i < n; i++) {
		found.uncounted += count_of(&specs[i]) <= before[i];
		found.kinds[suture_probe_kind(probes[i])]++;
	}
	rc = suture_probe_remove(probes, n, &options);
	if (rc)
		refuse("removing a probe", shapes[first].name, rc);
	for (unsigned i = 0; i < n; i++)
		before[i] = count_of(&specs[i]);
	for (unsigned i = first; i < first + count; i++)
		check_hooked(i, 0);
	for (unsigned i = 0; i < n; i++)
		found.late += count_of(&specs[i]) != before[i];
}

/* ---- keys ---- */

static void toggle(void)
{
	int rc = suture_key_enable(&key);

	if (rc || keyed(4) != (SHAPE_HOOKED | 1)) {
		found.late++;
		note("a key is not on (%d)", rc);
	}
	rc = suture_key_disable(&key);
	if (rc || keyed(4) != 2) {
		found.late++;
		note("a key is not off (%d)", rc);
	}
}

/* ---- pages for puns ---- */

/* Functions whose puns would lead to a page each. */
__asm__(".text\n.set i, 0\nscattered:\n"
        ".rept 400\n.balign 16\n	movl $0x10000000 + 0x3000 * i, %eax\n	ret\n"
        ".set i, i + 1\n.endr\n");
extern char scattered[];

/* With few pages left for puns, windows are preferred where they are possible. */
static void use_up_pages(void)
{
	static struct suture_probe_spec specs[400];
	int rc;

	for (unsigned i = 0; i < 400; i++)
		specs[i] = (struct suture_probe_spec){
		        .address = &scattered[16 * i], .pre = on_pre, .arg = &counts[0]};
	rc = suture_probe_install(specs, 400, NULL, &options);
	ok(rc == 0, "400 probes that need a page each: %d", rc);
}

/* ---- campaigns ---- */

static void one_hook(unsigned shape)
{
	hook(shape, 1);
}

static void one_entry(unsigned shape)
{
	probe(shape, 1, AT_ENTRY);
}

static void one_inner(unsigned shape)
{
	probe(shape, 1, AT_INNER);
}

/* Where a jump can not be, as the inner instruction is probed, too. */
static void one_crowd(unsigned shape)
{
	probe(shape, 1, AT_ENTRY | AT_INNER | WITH_POST);
}

static void one_key(unsigned shape)
{
	(void)shape;
	toggle();
}

/* Each cycle all in one transaction. */
static void together(unsigned shape)
{
	(void)shape;
	hook(0, SHAPES);
	probe(0, SHAPES, AT_ENTRY);
	probe(0, SHAPES, AT_INNER | WITH_POST);
}

static const struct campaign {
	const char *name;
	void (*cycle)(unsigned shape);
	unsigned shapes;
	/* Where threads take traps all the time most are preempted in the trap path, and each
	 * removal waits for all of them to come to their turn: fewer cycles. */
	unsigned fewer;
} campaigns[] = {
        {"hooks", one_hook, SHAPES, 1},
        {"probes at the entry", one_entry, SHAPES, 1},
        {"probes at an inner instruction", one_inner, SHAPES, 1},
        {"probes at both, with post", one_crowd, SHAPES, 80},
        {"all shapes in one transaction", together, 1, 4},
        {"keys", one_key, 1, 1},
};

static void on_alarm(int number)
{
	static const char text[] = "Bail out! hangs\n";

	(void)number;
	(void)!write(STDOUT_FILENO, text, sizeof(text) - 1);
	abort();
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void test(const struct campaign *campaign, unsigned threads, unsigned cycles)
{
	pthread_t thread[THREADS_MAX];
	double start = seconds();

	cycles = cycles / campaign->fewer + 1;

	memset(&found, 0, sizeof(found));
	stop = wrong = 0;
	calls = 0;
	for (unsigned i = 0; i < threads; i++)
		pthread_create(&thread[i], NULL, run, (void *)(uintptr_t)i);
	for (unsigned n = 0; n < cycles; n++) {
		if (n % BURST == 0)
			alarm(HANG_SECONDS);
		for (unsigned i = 0; i < campaign->shapes; i++)
			campaign->cycle(i);
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < threads; i++)
		pthread_join(thread[i], NULL);
	ok(!found.refused && !wrong && !found.late && !found.uncounted,
	   "%s, %u threads, %u cycles: %u refused, %d wrong, %u not in force, %u not counted",
	   campaign->name, threads, cycles, found.refused, wrong, found.late, found.uncounted);
	note("%lu rounds of calls, %.1f s; pun %u, window %u, trap %u", calls, seconds() - start,
	     found.kinds[SUTURE_SITE_PUN], found.kinds[SUTURE_SITE_WINDOW],
	     found.kinds[SUTURE_SITE_TRAP]);
}

/* All campaigns, or the one of that name. */
int main(int argc, char **argv)
{
	unsigned cycles = (getenv("SUTURE_TORTURE") ? 100000 : 2000) / FEWER;

	signal(SIGALRM, on_alarm);
	if (WINDOWS)
		use_up_pages();
	for (size_t i = 0; i < sizeof(campaigns) / sizeof(campaigns[0]); i++) {
		if (argc > 1 && strcmp(argv[1], campaigns[i].name) != 0)
			continue;
		test(&campaigns[i], 4, cycles);
		test(&campaigns[i], 16, cycles);
	}
	return done();
}
