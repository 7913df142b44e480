/* SPDX-License-Identifier: MIT */
/*
 * own_torture.c - everything at once, for a while: threads in code that two others change by hooks,
 * probes, keys and edits; a timer signal whose handler runs that code, too; forks whose children
 * change their own; a library that is loaded, probed and unloaded; replacements that do not return.
 */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "suture/hook.h"
#include "suture/key.h"
#include "suture/probe.h"
#include "suture/text.h"
#include "own_shapes.h"
#include "tap.h"

enum { RUNNERS = 4, HANG_SECONDS = 120, SECONDS = 10, SECONDS_LONG = 600, TIMER_NS = 100000 };

static int stop;
static struct {
	unsigned long wrong, refused, calls, signals, transactions, forks, children_failed, loads,
	        jumps;
} found;

static void count(unsigned long *counter, unsigned long n)
{
	__atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

static bool going(void)
{
	return !__atomic_load_n(&stop, __ATOMIC_RELAXED);
}

static void check(int rc, const char *what, const char *message)
{
	if (rc == 0) {
		count(&found.transactions, 1);
		return;
	}
	if (__atomic_fetch_add(&found.refused, 1, __ATOMIC_RELAXED) < 10)
		note("%s: %s (%d)", what, message, rc);
}

/* ---- what is executed ---- */

SUTURE_KEY_DEFINE(key, false);

__attribute__((noinline)) static int keyed(void)
{
	return suture_key_unlikely(&key) ? 2 : suture_key_likely(&key) ? 3 : 1;
}

/* mov $1, %eax; ret */
__asm__(".text\n.balign 16\n.type answer, @function\nanswer:\n"
        "	.byte 0xb8, 1, 0, 0, 0\n	ret\n");
extern char answer[];
static const uint8_t mov_1[] = {0xb8, 1, 0, 0, 0}, mov_wide[] = {0xb8, 2, 2, 2, 2};

static bool all_right(int x)
{
	int got = shape_call(answer, x), k = keyed();

	return shapes_right(x) && (got == 1 || got == 0x02020202) && k >= 1 && k <= 3;
}

static void *run(void *arg)
{
	unsigned long n = 0, wrong = 0;
	int x = 1 + (int)(intptr_t)arg;

	for (; going(); n++, x = x % SHAPE_X_MAX + 1)
		wrong += !all_right(x);
	count(&found.calls, n);
	count(&found.wrong, wrong);
	return NULL;
}

static void on_timer(int number)
{
	int saved = errno;

	(void)number;
	count(&found.signals, 1);
	count(&found.wrong, !all_right(5));
	errno = saved;
}

/* ---- what changes it ---- */

static unsigned long hits;

static void on_hit(struct suture_regs *regs, void *arg)
{
	(void)regs, (void)arg;
	count(&hits, 1);
}

static void change_hook(unsigned shape, struct suture_text_options *options)
{
	struct suture_hook_spec spec = {shapes[shape].entry, (void *)shape_replacements[shape],
	                                &shapes[shape].original};
	struct suture_hook *hook;
	int rc = suture_hook_install(&spec, 1, &hook, options);

	check(rc, "hook", options->message);
	if (!rc)
		check(suture_hook_remove(&hook, 1, options), "removing a hook", options->message);
}

static void change_probe(unsigned shape, bool inner, struct suture_text_options *options)
{
	struct suture_probe_spec specs[2] = {{.address = shapes[shape].entry, .pre = on_hit},
	                                     {.address = shapes[shape].inner, .pre = on_hit}};
	struct suture_probe *probes[2];
	size_t n = inner ? 2 : 1;
	int rc = suture_probe_install(specs, n, probes, options);

	check(rc, "probe", options->message);
	if (!rc)
		check(suture_probe_remove(probes, n, options), "removing a probe",
		      options->message);
}

static void change_edit(struct suture_text_options *options)
{
	struct suture_edit there = {answer, mov_1, mov_wide, 5},
	                   back = {answer, mov_wide, mov_1, 5};

	check(suture_text_patch(&there, 1, options), "edit", options->message);
	check(suture_text_patch(&back, 1, options), "edit back", options->message);
}

/* Each changer has shapes of its own; only the first has the edit and the key. */
static void change(unsigned which, unsigned n, struct suture_text_options *options)
{
	unsigned shape = which * SHAPES / 2 + n / 5 % (SHAPES / 2);

	switch (n % 5) {
	case 0:
		change_hook(shape, options);
		break;
	case 1:
		change_probe(shape, false, options);
		break;
	case 2:
		change_probe(shape, true, options);
		break;
	case 3:
		if (which)
			break;
		check(suture_key_enable(&key), "key", "");
		check(suture_key_disable(&key), "key", "");
		break;
	default:
		if (which == 0)
			change_edit(options);
	}
}

static void *change_on(void *arg)
{
	char message[200] = "";
	struct suture_text_options options = {.size = sizeof(options),
	                                      .deadline_ns = 20000000000,
	                                      .message = message,
	                                      .message_size = sizeof(message)};

	for (unsigned n = 0; going(); n++)
		change((unsigned)(uintptr_t)arg, n, &options);
	return NULL;
}

/* ---- forks ---- */

/* What the parent was changing at the time may be half there for the library, but not in effect. */
static int child(void)
{
	char message[200] = "";
	struct suture_text_options options = {
	        .size = sizeof(options), .message = message, .message_size = sizeof(message)};

	alarm(HANG_SECONDS / 2);
	memset(&found, 0, sizeof(found));
	for (unsigned i = 0; i < 20; i++) {
		change_hook(i % SHAPES, &options);
		change_probe(i % SHAPES, i & 1, &options);
		found.wrong += !all_right(3);
	}
	return found.wrong ? 1 : found.refused ? 2 : 0;
}

static void *fork_on(void *arg)
{
	(void)arg;
	while (going()) {
		int status = -1;
		pid_t pid = fork();

		if (pid == 0)
			_exit(child());
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
		if (status && !found.children_failed)
			note("a child ended with status %#x", (unsigned)status);
		count(&found.children_failed, status != 0);
		count(&found.forks, 1);
		usleep(2000);
	}
	return NULL;
}

/* ---- a library that comes and goes ---- */

static void *load_on(void *arg)
{
	char message[200] = "";
	struct suture_text_options options = {
	        .size = sizeof(options), .message = message, .message_size = sizeof(message)};
	int version = 0;

	(void)arg;
	for (unsigned n = 0; going(); n++) {
		void *library = dlopen("libsqlite3.so.0", RTLD_NOW | RTLD_LOCAL);
		int (*get)(void) =
		        library ? (int (*)(void))dlsym(library, "sqlite3_libversion_number") : NULL;
		struct suture_probe_spec spec = {.address = (void *)get, .pre = on_hit};
		struct suture_probe *probe = NULL;
		int rc;

		if (!get) {
			note("%s", dlerror());
			count(&found.wrong, 1);
			break;
		}
		version = version ? version : get();
		rc = suture_probe_install(&spec, 1, &probe, &options);
		check(rc, "probe in a library", message);
		count(&found.wrong, get() != version);
		/* Every other time it is unloaded below the probe. */
		if (n & 1)
			dlclose(library);
		if (!rc)
			check(suture_probe_remove(&probe, 1, &options),
			      "removing a probe in a library", message);
		if (!(n & 1))
			dlclose(library);
		count(&found.loads, 1);
	}
	return NULL;
}

/* ---- replacements that do not return ---- */

static jmp_buf way_out;
static void *original_victim;

__attribute__((noinline)) static int victim(int x)
{
	__asm__ volatile("" : "+r"(x));
	return x + 1;
}

static int leave(int x)
{
	longjmp(way_out, ((int (*)(int))original_victim)(x));
}

static void *jump_on(void *arg)
{
	struct suture_hook_spec spec = {(void *)victim, (void *)leave, &original_victim};
	char message[200] = "";
	struct suture_text_options options = {
	        .size = sizeof(options), .message = message, .message_size = sizeof(message)};

	(void)arg;
	while (going()) {
		struct suture_hook *hook;
		int rc = suture_hook_install(&spec, 1, &hook, &options), got;

		check(rc, "hook that does not return", message);
		if (rc)
			break;
		got = setjmp(way_out);
		if (!got)
			count(&found.wrong, 1 + (unsigned long)victim(4));
		count(&found.wrong, got != 0 && got != 5);
		check(suture_hook_remove(&hook, 1, &options), "removing it", message);
		count(&found.wrong, victim(7) != 8);
		count(&found.jumps, 1);
	}
	return NULL;
}

/* ---- */

static void on_alarm(int number)
{
	static const char text[] = "Bail out! hangs\n";

	(void)number;
	(void)!write(STDOUT_FILENO, text, sizeof(text) - 1);
	abort();
}

static timer_t start_timer(void)
{
	struct sigaction action = {.sa_handler = on_timer, .sa_flags = SA_RESTART};
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
	struct itimerspec every = {{0, TIMER_NS}, {0, TIMER_NS}};
	timer_t timer;

	sigaction(SIGUSR1, &action, NULL);
	timer_create(CLOCK_MONOTONIC, &event, &timer);
	timer_settime(timer, 0, &every, NULL);
	return timer;
}

int main(void)
{
	static void *(*const others[])(void *) = {fork_on, load_on, jump_on};
	enum { OTHERS = sizeof(others) / sizeof(others[0]) };
	const char *given = getenv("SUTURE_SECONDS");
	unsigned seconds = getenv("SUTURE_TORTURE") ? SECONDS_LONG : SECONDS;
	pthread_t threads[RUNNERS + 2 + OTHERS];
	unsigned n = 0;
	struct timespec end;
	timer_t timer;

	if (given)
		seconds = (unsigned)atoi(given);
	signal(SIGALRM, on_alarm);
	alarm(seconds + HANG_SECONDS);
	timer = start_timer();
	for (uintptr_t i = 0; i < RUNNERS; i++)
		pthread_create(&threads[n++], NULL, run, (void *)i);
	for (uintptr_t i = 0; i < 2; i++)
		pthread_create(&threads[n++], NULL, change_on, (void *)i);
	for (unsigned i = 0; i < OTHERS; i++)
		pthread_create(&threads[n++], NULL, others[i], NULL);
	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += seconds;
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL) == EINTR)
		;
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	timer_delete(timer);
	ok(found.wrong == 0, "%lu wrong results in %lu calls", found.wrong, found.calls);
	ok(found.refused == 0, "%lu of %lu transactions refused", found.refused,
	   found.transactions);
	ok(found.children_failed == 0, "%lu of %lu children failed", found.children_failed,
	   found.forks);
	ok(found.signals && found.loads && found.jumps && hits,
	   "%lu signals, %lu loads, %lu long jumps, %lu hits", found.signals, found.loads,
	   found.jumps, hits);
	return done();
}
