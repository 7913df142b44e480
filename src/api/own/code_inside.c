/* SPDX-License-Identifier: MIT */
/*
 * code_inside.c - threads between suture_code_enter and suture_code_leave.
 *
 * Who enters pays for no ordering; who waits makes all pay, by membarrier. What that is for:
 *
 *     thread                                who frees
 *     word = period, 1   … in the buffer
 *     load pointer: old
 *                                           pointer = new
 *                                           period += 1
 *                                           word: 0            -> reused, and executed
 *
 * With a full barrier on every thread between the last two, the word is seen if it was written
 * before it; else the load comes after it, too, and finds the new pointer. The same order keeps
 * suture_code_modify and those that enter apart: of `closed` and the word one is seen.
 *
 * The word is the period in which the thread entered, and how often. One word, so that a signal
 * handler that enters and leaves puts back what it found.
 */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "api/own/code.h"
#include "suture/code.h"

enum { COUNT_BITS = 16, PAUSE_NS = 50000 };

struct inside {
	uint64_t word; /* 0: outside; written by its thread only */
	struct inside *next, **at;
};

static __thread struct inside *self __attribute__((tls_model("initial-exec")));

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static int setup_error;
static struct inside *all; /* under the lock */
static uint64_t period = 1;
static uint32_t closed;
static pthread_mutex_t closing = PTHREAD_MUTEX_INITIALIZER;

static void forget(struct inside *thread)
{
	*thread->at = thread->next;
	if (thread->next)
		thread->next->at = thread->at;
	free(thread);
}

static void leave_for_good(void *thread)
{
	pthread_mutex_lock(&lock);
	forget(thread);
	pthread_mutex_unlock(&lock);
	self = NULL;
}

/* ---- forks: in a child there is only the thread that called ---- */

static void before_fork(void)
{
	pthread_mutex_lock(&lock);
}

static void after_fork(void)
{
	pthread_mutex_unlock(&lock);
}

static void after_fork_in_child(void)
{
	static const pthread_mutex_t unlocked = PTHREAD_MUTEX_INITIALIZER;
	struct inside *next;

	for (struct inside *thread = all; thread; thread = next) {
		next = thread->next;
		if (thread != self)
			forget(thread);
	}
	/* Whoever held this is not here. */
	closing = unlocked;
	closed = 0;
	pthread_mutex_unlock(&lock);
}

static void setup(void)
{
	setup_error = pthread_key_create(&key, leave_for_good) ||
	              pthread_atfork(before_fork, after_fork, after_fork_in_child);
}

int code_inside_setup(void)
{
	pthread_once(&once, setup);
	return setup_error ? -ENOMEM : 0;
}

/* ---- threads ---- */

static struct inside *introduce(void)
{
	struct inside *thread;

	thread = code_inside_setup() ? NULL : calloc(1, sizeof(*thread));
	if (!thread || pthread_setspecific(key, thread)) {
		free(thread);
		return NULL;
	}
	pthread_mutex_lock(&lock);
	thread->next = all;
	thread->at = &all;
	if (all)
		all->at = &thread->next;
	all = thread;
	pthread_mutex_unlock(&lock);
	self = thread;
	return thread;
}

static void wait_while(const uint32_t *word, uint32_t value)
{
	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

int suture_code_enter(void)
{
	struct inside *thread = self ? self : introduce();
	uint64_t word;

	if (!thread)
		return -ENOMEM;
	word = __atomic_load_n(&thread->word, __ATOMIC_RELAXED);
	if (word) {
		__atomic_store_n(&thread->word, word + 1, __ATOMIC_RELAXED);
		return 0;
	}
	for (;;) {
		word = __atomic_load_n(&period, __ATOMIC_ACQUIRE) << COUNT_BITS | 1;
		__atomic_store_n(&thread->word, word, __ATOMIC_RELAXED);
		/* The compiler keeps the order here; the processor does at the membarrier. */
		__atomic_signal_fence(__ATOMIC_SEQ_CST);
		if (__builtin_expect(!__atomic_load_n(&closed, __ATOMIC_ACQUIRE), 1))
			return 0;
		__atomic_store_n(&thread->word, 0, __ATOMIC_RELEASE);
		wait_while(&closed, 1);
	}
}

void suture_code_leave(void)
{
	uint64_t word = __atomic_load_n(&self->word, __ATOMIC_RELAXED) - 1;

	if (!(word & ((1u << COUNT_BITS) - 1)))
		word = 0;
	__atomic_store_n(&self->word, word, __ATOMIC_RELEASE);
}

uint64_t code_inside_now(void)
{
	return __atomic_load_n(&period, __ATOMIC_SEQ_CST);
}

uint64_t code_inside_oldest(struct port *port)
{
	uint64_t oldest = UINT64_MAX;

	__atomic_fetch_add(&period, 1, __ATOMIC_SEQ_CST);
	if (port_sync_cores(port))
		return 0;
	pthread_mutex_lock(&lock);
	for (struct inside *thread = all; thread; thread = thread->next) {
		uint64_t word = __atomic_load_n(&thread->word, __ATOMIC_ACQUIRE);

		if (word && word >> COUNT_BITS < oldest)
			oldest = word >> COUNT_BITS;
	}
	pthread_mutex_unlock(&lock);
	return oldest;
}

bool code_inside_self(void)
{
	return self && __atomic_load_n(&self->word, __ATOMIC_RELAXED);
}

int code_inside_close(struct port *port, uint64_t end_ns)
{
	struct timespec until = {(time_t)(end_ns / 1000000000u), (long)(end_ns % 1000000000u)};

	if (pthread_mutex_clocklock(&closing, CLOCK_MONOTONIC, &until))
		return -ETIMEDOUT;
	__atomic_store_n(&closed, 1, __ATOMIC_SEQ_CST);
	while (code_inside_oldest(port) != UINT64_MAX) {
		if (code_now() >= end_ns) {
			code_inside_open();
			return -ETIMEDOUT;
		}
		port_pause(port, PAUSE_NS);
	}
	return 0;
}

void code_inside_open(void)
{
	__atomic_store_n(&closed, 0, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &closed, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
	pthread_mutex_unlock(&closing);
}

/* ---- time ---- */

uint64_t code_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t code_end(uint64_t deadline_ns)
{
	uint64_t now = code_now();

	return deadline_ns > UINT64_MAX - now ? UINT64_MAX : now + deadline_ns;
}
