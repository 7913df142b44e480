/* SPDX-License-Identifier: MIT */
/*
 * own_quiesce.c - SUTURE_QUIESCE: several instructions become others, with all our threads at rest.
 */
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "own_sum.h"
#include "tap.h"

/* No real-time signal has a handler. */
static bool all_default(void)
{
	int taken = 0;

	for (int number = SIGRTMIN; number <= SIGRTMAX; number++) {
		struct sigaction now;

		taken += sigaction(number, NULL, &now) == 0 && now.sa_handler != SIG_DFL;
	}
	return taken == 0;
}

/* A thread may have been sent a second signal, which it takes a moment later. */
static bool is_given_back(void)
{
	for (unsigned i = 0; i < 50; i++) {
		if (all_default())
			return true;
		usleep(2000);
		if (to_new() || to_old())
			return false;
	}
	return false;
}

/* ---- one thread ---- */

static void test_alone(void)
{
	struct suture_edit both[] = {{caller_site, old_caller, new_caller, 4},
	                             {sum, new_code, old_code, SIZE}};
	uint8_t was[SIZE];

	ok(edit(sum, old_code, new_code, SIZE, SUTURE_CHEAPEST) == -EOPNOTSUPP && sum() == OLD &&
	           strstr(message, "SUTURE_QUIESCE"),
	   "cheapest does not hold everybody up: %s", message);
	ok(to_new() == 0 && sum() == NEW, "quiesce: several instructions become others%s", message);
	ok(suture_text_original(sum, was, SIZE) == 0 && memcmp(was, old_code, SIZE) == 0,
	   "the original can be read");
	ok(to_new() == -EUCLEAN && sum() == NEW, "unexpected bytes: %s", message);
	both[1].from = old_code;
	both[1].to = new_code;
	options.strategy = SUTURE_QUIESCE;
	ok(suture_text_patch(both, 2, &options) == -EUCLEAN && options.failed == 1 &&
	           memcmp(caller_site, old_caller, 4) == 0,
	   "one of two is unexpected: none is made");
	both[1].from = new_code;
	both[1].to = old_code;
	ok(suture_text_patch(both, 2, &options) == 0 && sum() == OLD && caller(sum) == 1,
	   "two sites in one transaction");
	ok(edit(caller_site, new_caller, old_caller, 4, SUTURE_QUIESCE) == 0 && caller(sum) == OLD,
	   "and back");
}

/* ---- threads that execute it all the time ---- */

static int stop, wrong;
/* After an odd number, until the next even one, only the new value may be seen, and so on. */
static int epoch;

static unsigned spin(unsigned n)
{
	for (unsigned i = 0; i < 500; i++)
		n = n * 1664525 + 1013904223;
	return n;
}

static void *run(void *arg)
{
	unsigned n = (unsigned)(uintptr_t)arg;

	/* There are more of them than processors: who patches goes first. */
	setpriority(PRIO_PROCESS, (id_t)gettid(), 4);
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		int before = get(&epoch), value = sum(), after;

		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		after = get(&epoch);
		if (value != OLD && value != NEW)
			set(&wrong, 1);
		if (before == after && (before & 3) == 1 && value != NEW)
			set(&wrong, 2);
		if (before == after && (before & 3) == 3 && value != OLD)
			set(&wrong, 3);
		n = spin(n);
	}
	return (void *)(uintptr_t)n;
}

/* A machine that is busy otherwise may take very long to let each thread run once. */
static int patiently(int (*change)(void))
{
	int rc = -ETIMEDOUT;

	for (int i = 0; i < 30 && (rc == -ETIMEDOUT || rc == -EBUSY); i++)
		rc = change();
	return rc;
}

/* Epochs 4 n + 1: new; + 2: changing; + 3: old; + 4: changing. */
static unsigned toggle(unsigned cycles, unsigned *unseen)
{
	unsigned failed = 0;

	for (unsigned i = 0; i < cycles; i++) {
		failed += patiently(to_new) != 0;
		*unseen += sum() != NEW;
		set(&epoch, get(&epoch) + 1);
		usleep(i % 4 * 100);
		set(&epoch, get(&epoch) + 1);
		failed += patiently(to_old) != 0;
		*unseen += sum() != OLD;
		set(&epoch, get(&epoch) + 1);
		usleep(i % 4 * 100);
		set(&epoch, get(&epoch) + 1);
	}
	return failed;
}

static void *come_and_go(void *arg);

static void test_threads(unsigned threads, unsigned cycles, bool births)
{
	pthread_t thread[16], mother[2];
	unsigned failed, unseen = 0;

	stop = wrong = epoch = 0;
	options.deadline_ns = 2000000000;
	for (unsigned i = 0; i < threads; i++)
		pthread_create(&thread[i], NULL, run, (void *)(uintptr_t)i);
	for (unsigned i = 0; births && i < 2; i++)
		pthread_create(&mother[i], NULL, come_and_go, NULL);
	failed = toggle(cycles, &unseen);
	set(&stop, 1);
	for (unsigned i = 0; i < threads; i++)
		pthread_join(thread[i], NULL);
	for (unsigned i = 0; births && i < 2; i++)
		pthread_join(mother[i], NULL);
	options.deadline_ns = 0;
	ok(!failed && !wrong && !unseen,
	   "%u threads%s, %u toggles: %u failed %s, %u unseen, wrong %d", threads,
	   births ? " and some that come and go" : "", 2 * cycles, failed, failed ? message : "",
	   unseen, wrong);
}

/* ---- threads that come and go ---- */

static void *once(void *arg)
{
	int value = sum();

	(void)arg;
	if (value != OLD && value != NEW)
		set(&wrong, 4);
	return NULL;
}

static unsigned long born;

static void *come_and_go(void *arg)
{
	(void)arg;
	setpriority(PRIO_PROCESS, (id_t)gettid(), 4);
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		pthread_t thread;

		if (pthread_create(&thread, NULL, once, NULL) == 0)
			pthread_join(thread, NULL);
		__atomic_fetch_add(&born, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

/* ---- threads that sleep ---- */

static int pipe_ends[2], ready, sleeping_futex;
static ssize_t read_result;
static long futex_result, poll_result;

static void *in_read(void *arg)
{
	char byte;

	set(arg, 1);
	read_result = read(pipe_ends[0], &byte, 1);
	return NULL;
}

static void *in_futex(void *arg)
{
	set(arg, 1);
	futex_result = syscall(SYS_futex, &sleeping_futex, FUTEX_WAIT, 0, NULL, NULL, 0);
	futex_result = futex_result < 0 ? -errno : futex_result;
	return NULL;
}

static void *in_poll(void *arg)
{
	set(arg, 1);
	poll_result = poll(NULL, 0, 60000) < 0 ? -errno : 0;
	return NULL;
}

static void *in_mutex(void *arg)
{
	pthread_mutex_lock(arg);
	pthread_mutex_unlock(arg);
	return NULL;
}

static void test_sleepers(void)
{
	void *(*const routine[])(void *) = {in_read, in_futex, in_poll};
	pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
	pthread_t thread[4];
	int rc;

	rc = pipe(pipe_ends);
	pthread_mutex_lock(&mutex);
	for (unsigned i = 0; i < 3; i++) {
		set(&ready, 0);
		pthread_create(&thread[i], NULL, routine[i], &ready);
		await(&ready, 1);
	}
	pthread_create(&thread[3], NULL, in_mutex, &mutex);
	usleep(20000);
	ok(rc == 0 && to_new() == 0 && sum() == NEW && to_old() == 0 && sum() == OLD,
	   "threads in read, futex, poll and a mutex: patched");
	rc = write(pipe_ends[1], "x", 1) != 1;
	pthread_mutex_unlock(&mutex);
	pthread_join(thread[0], NULL);
	pthread_join(thread[3], NULL);
	set(&sleeping_futex, 1);
	syscall(SYS_futex, &sleeping_futex, FUTEX_WAKE, 1, NULL, NULL, 0);
	pthread_join(thread[1], NULL);
	pthread_join(thread[2], NULL);
	/* It may be about to wait, again or for the first time, when there is nothing to wait for.
	 */
	ok(!rc && read_result == 1 && (futex_result == 0 || futex_result == -EAGAIN),
	   "read and futex did not notice (%zd, %ld)", read_result, futex_result);
	ok(poll_result == -EINTR, "poll is one of those that do (signal(7))");
	close(pipe_ends[0]);
	close(pipe_ends[1]);
}

/* ---- threads that can not be had ---- */

static void *block_all(void *arg)
{
	uint64_t all = UINT64_MAX, none = 0;

	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, sizeof(all));
	set(arg, gettid());
	while (get(arg) > 0)
		usleep(1000);
	if (get(arg) < 0)
		syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, sizeof(none));
	while (get(arg))
		usleep(1000);
	return NULL;
}

static void test_late(void)
{
	pthread_t thread;
	int state = 0, rc;

	pthread_create(&thread, NULL, block_all, &state);
	while (!get(&state))
		usleep(200);
	options.deadline_ns = 20000000;
	rc = to_new();
	options.deadline_ns = 0;
	set(&state, -1);
	usleep(10000);
	ok(rc == -ETIMEDOUT && to_new() == 0 && sum() == NEW && to_old() == 0,
	   "a thread that takes the signal late goes on, and comes the next time%s", message);
	set(&state, 0);
	pthread_join(thread, NULL);
}

static void test_blocked(void)
{
	pthread_t thread, runner;
	int state = 0;
	char tid[32];
	unsigned rounds = 0;

	stop = wrong = 0;
	pthread_create(&thread, NULL, block_all, &state);
	while (!get(&state))
		usleep(200);
	snprintf(tid, sizeof(tid), "thread %d ", get(&state));
	pthread_create(&runner, NULL, run, NULL);
	options.deadline_ns = 300000000;
	for (unsigned i = 0; i < 3; i++)
		rounds += to_new() == -ETIMEDOUT && memcmp((void *)sum, old_code, SIZE) == 0;
	ok(rounds == 3 && strstr(message, tid), "a thread blocks all signals: %s", message);
	options.deadline_ns = 0;
	set(&state, 0);
	pthread_join(thread, NULL);
	ok(to_new() == 0 && sum() == NEW && to_old() == 0 && sum() == OLD, "it is gone: patched%s",
	   message);
	set(&stop, 1);
	pthread_join(runner, NULL);
	ok(!wrong, "the others have gone on");
}

/* A child of vfork runs in our memory: its parent does not come to rest meanwhile. */
static void *in_vfork(void *arg)
{
	static const struct timespec while_it_lives = {0, 300000000};

	set(arg, 1);
	if (vfork() == 0) {
		syscall(SYS_nanosleep, &while_it_lives, NULL);
		_exit(0);
	}
	set(arg, 2);
	return NULL;
}

static void test_vfork(void)
{
	pthread_t thread;
	int state = 0, rc;

	pthread_create(&thread, NULL, in_vfork, &state);
	await(&state, 1);
	usleep(20000);
	options.deadline_ns = 30000000;
	rc = to_new();
	ok(get(&state) == 2 || (rc == -ETIMEDOUT && sum() == OLD), "a child of vfork is alive: %s",
	   message);
	if (!rc)
		(void)!to_old();
	options.deadline_ns = 0;
	pthread_join(thread, NULL);
	while (wait(NULL) > 0)
		;
	ok(to_new() == 0 && sum() == NEW && to_old() == 0 && sum() == OLD, "it is gone: patched%s",
	   message);
}

/* ---- signals ---- */

static void on_mine(int number)
{
	(void)number;
}

static void test_signals(void)
{
	struct sigaction mine = {.sa_handler = on_mine};
	int status = 0, rc;
	pid_t child = fork();

	/* Blocked signals leave one of ours pending, so that the handler stays. */
	if (child == 0) {
		pthread_t thread;
		int state = 0;

		pthread_create(&thread, NULL, block_all, &state);
		while (!get(&state))
			usleep(200);
		options.deadline_ns = 20000000;
		if (to_new() != -ETIMEDOUT)
			_exit(1);
		raise(SIGRTMAX);
		_exit(2);
	}
	waitpid(child, &status, 0);
	ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGRTMAX,
	   "the signal from somebody else does what it would have done");
	for (int number = SIGRTMIN; number <= SIGRTMAX; number++)
		sigaction(number, &mine, NULL);
	rc = to_new();
	ok(rc == -EBUSY && sum() == OLD, "no signal is free: %s", message);
	mine.sa_handler = SIG_DFL;
	for (int number = SIGRTMIN; number <= SIGRTMAX; number++)
		sigaction(number, &mine, NULL);
}

/* ---- forks ---- */

static void test_fork(void)
{
	pthread_t thread;
	int status = 0;
	pid_t child;

	stop = wrong = 0;
	pthread_create(&thread, NULL, run, NULL);
	ok(to_new() == 0 && sum() == NEW, "patched before the fork");
	child = fork();
	if (child == 0) {
		pthread_t own;
		int rc = to_old() || sum() != OLD;

		pthread_create(&own, NULL, run, NULL);
		rc = rc || to_new() || sum() != NEW;
		/* What is still pending in the parent is not here. */
		rc = rc || to_old() || !is_given_back();
		_exit(rc);
	}
	waitpid(child, &status, 0);
	ok(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child patches its own text");
	ok(sum() == NEW && to_old() == 0 && sum() == OLD, "and its parent's is its own");
	set(&stop, 1);
	pthread_join(thread, NULL);
	ok(!wrong, "a thread that ran meanwhile saw nothing else");
}

/* ---- the first thread has ended ---- */

static void *alone_behind(void *arg)
{
	pthread_t thread;
	int rc;

	(void)arg;
	usleep(10000);
	stop = wrong = 0;
	pthread_create(&thread, NULL, run, NULL);
	rc = to_new() || sum() != NEW || to_old() || sum() != OLD;
	set(&stop, 1);
	pthread_join(thread, NULL);
	_exit(rc || wrong);
}

static void test_first_thread_ends(void)
{
	int status = 0;
	pid_t child = fork();

	if (child == 0) {
		pthread_t thread;

		pthread_create(&thread, NULL, alone_behind, NULL);
		pthread_exit(NULL);
	}
	waitpid(child, &status, 0);
	ok(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the first thread has ended: patched");
}

int main(void)
{
	unsigned cycles = getenv("SUTURE_TORTURE") ? 5000 : 150;

	alarm(getenv("SUTURE_TORTURE") ? 3000 : 120);
	test_alone();
	test_threads(4, cycles, false);
	test_threads(16, cycles / 2, false);
	ok(is_given_back(), "no signal is taken for longer than it is needed");
	test_threads(1, cycles, true);
	note("%lu threads came and went", born);
	test_sleepers();
	test_signals();
	test_late();
	test_blocked();
	test_vfork();
	test_fork();
	test_first_thread_ends();
	return done();
}
