/* SPDX-License-Identifier: MIT */
/*
 * victim.h - how a victim talks to its test.
 *
 * It prints `ready` and then obeys lines on standard input:
 *
 *   run N     every thread runs exactly N rounds; answers `done WRONG`
 *   free      every thread runs until told to halt; answers `free` at once
 *   state     while free: answers `state WRONG ROUNDS...`, one number for each thread
 *   halt      ends `free`; answers `done WRONG`
 *   expect    answers lines `expect FUNCTION HITS` (in one round of one thread), then `end`
 *   quit      ends the program
 *
 * WRONG counts wrong results since the start, and system calls that returned early. The main
 * thread is one of the threads: it runs rounds too, and looks for a line between them.
 */
#ifndef VICTIM_H
#define VICTIM_H

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A function that only the linker and the test see. */
#define NOT_INLINED __attribute__((noinline, noclone, used))

struct victim {
	/* One round of one thread; returns how many results were wrong. */
	unsigned (*round)(unsigned thread, uint64_t k);
	/* Prints the `expect` lines; may be NULL. */
	void (*expect)(void);
	/* Other lines; returns false if it does not know this one. May be NULL. */
	bool (*command)(const char *line);
};

#define VICTIM_THREADS_MAX 1200

static struct {
	const struct victim *victim;
	unsigned threads;
	pthread_barrier_t begin, end;
	uint64_t rounds; /* 0: until `halt` */
	bool halt;
	unsigned started;
	unsigned long wrong;
	struct {
		uint64_t rounds;
		char pad[56];
	} progress[VICTIM_THREADS_MAX];
} victim_state;

__attribute__((format(printf, 1, 2), unused)) static void victim_say(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
}

__attribute__((unused)) static void victim_wrong(unsigned long count)
{
	if (count)
		__atomic_fetch_add(&victim_state.wrong, count, __ATOMIC_RELAXED);
}

/* Next line of standard input, without stdio, so that poll() sees what is there. */
static bool victim_line(char *line, size_t size)
{
	size_t length = 0;

	for (;;) {
		char c;
		ssize_t n = read(0, &c, 1);

		if (n < 0 && errno == EINTR) {
			victim_wrong(1);
			continue;
		}
		if (n <= 0)
			return false;
		if (c == '\n')
			break;
		if (length + 1 < size)
			line[length++] = c;
	}
	line[length] = 0;
	return true;
}

static void victim_rounds(unsigned thread)
{
	uint64_t k, limit = victim_state.rounds;

	for (k = 0; limit ? k < limit : !__atomic_load_n(&victim_state.halt, __ATOMIC_RELAXED);
	     k++) {
		victim_wrong(victim_state.victim->round(thread, k));
		__atomic_store_n(&victim_state.progress[thread].rounds, k + 1, __ATOMIC_RELAXED);
		if (!limit && k % 64 == 0) {
			if (thread)
				sched_yield();
			else if (poll(&(struct pollfd){.fd = 0, .events = POLLIN}, 1, 0) > 0)
				return;
		}
	}
}

static void *victim_worker(void *arg)
{
	unsigned thread = (unsigned)(uintptr_t)arg;

	__atomic_fetch_add(&victim_state.started, 1, __ATOMIC_RELAXED);
	for (;;) {
		pthread_barrier_wait(&victim_state.begin);
		victim_rounds(thread);
		pthread_barrier_wait(&victim_state.end);
	}
	return NULL;
}

static void victim_print_state(void)
{
	printf("state %lu", __atomic_load_n(&victim_state.wrong, __ATOMIC_RELAXED));
	for (unsigned i = 0; i < victim_state.threads; i++)
		printf(" %llu", (unsigned long long)__atomic_load_n(
		                        &victim_state.progress[i].rounds, __ATOMIC_RELAXED));
	victim_say("%s", "");
}

/* The main thread's part of `free`. Its rounds go on counting over the lines that it answers. */
static bool victim_free(char *line, size_t size)
{
	uint64_t before = 0;

	victim_state.rounds = 0;
	victim_state.halt = false;
	victim_say("free");
	pthread_barrier_wait(&victim_state.begin);
	for (;;) {
		uint64_t k;

		for (k = before;; k++) {
			victim_wrong(victim_state.victim->round(0, k));
			__atomic_store_n(&victim_state.progress[0].rounds, k + 1, __ATOMIC_RELAXED);
			if (k % 16 == 0 &&
			    poll(&(struct pollfd){.fd = 0, .events = POLLIN}, 1, 0) > 0)
				break;
		}
		before = k + 1;
		if (!victim_line(line, size))
			return false;
		if (!strcmp(line, "state"))
			victim_print_state();
		else if (!strcmp(line, "halt"))
			break;
	}
	__atomic_store_n(&victim_state.halt, true, __ATOMIC_RELAXED);
	pthread_barrier_wait(&victim_state.end);
	victim_say("done %lu", __atomic_load_n(&victim_state.wrong, __ATOMIC_RELAXED));
	return true;
}

static void victim_run(uint64_t rounds)
{
	victim_state.rounds = rounds ? rounds : 1;
	pthread_barrier_wait(&victim_state.begin);
	victim_rounds(0);
	pthread_barrier_wait(&victim_state.end);
	victim_say("done %lu", __atomic_load_n(&victim_state.wrong, __ATOMIC_RELAXED));
}

/* Obeys until the input ends. */
__attribute__((unused)) static int victim_obey(const struct victim *victim, unsigned threads)
{
	char line[256];
	pthread_attr_t attr;

	if (threads < 1 || threads > VICTIM_THREADS_MAX)
		return 2;
	victim_state.victim = victim;
	victim_state.threads = threads;
	pthread_barrier_init(&victim_state.begin, NULL, threads);
	pthread_barrier_init(&victim_state.end, NULL, threads);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 128 * 1024);
	for (unsigned i = 1; i < threads; i++) {
		pthread_t thread;

		if (pthread_create(&thread, &attr, victim_worker, (void *)(uintptr_t)i))
			return 2;
	}
	/* A thread that has not run yet has not told the kernel of its rseq area. */
	while (__atomic_load_n(&victim_state.started, __ATOMIC_RELAXED) + 1 < threads)
		sched_yield();
	victim_say("ready");
	while (victim_line(line, sizeof line)) {
		if (!strncmp(line, "run ", 4)) {
			victim_run(strtoull(line + 4, NULL, 10));
		} else if (!strcmp(line, "free")) {
			if (!victim_free(line, sizeof line))
				break;
		} else if (!strcmp(line, "expect")) {
			if (victim->expect)
				victim->expect();
			victim_say("end");
		} else if (!strcmp(line, "quit")) {
			break;
		} else if (!victim->command || !victim->command(line)) {
			victim_say("unknown %s", line);
		}
	}
	/* Not exit(): worker threads are still there. */
	fflush(stdout);
	_exit(victim_state.wrong ? 1 : 0);
}

#endif
