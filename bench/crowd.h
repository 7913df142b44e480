/* SPDX-License-Identifier: MIT */
/* crowd.h - the 10,000 functions of tests/victims/many, and threads that call them all the time. */
#ifndef BENCH_CROWD_H
#define BENCH_CROWD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include "measure.h"
#include "many/many.h"

enum { CROWD_MAX = 64 };

static many_function *crowd_functions[MANY];
static pthread_t crowd_threads[CROWD_MAX];
static volatile bool crowd_over;
static uint64_t crowd_rounds; /* through all functions, of all threads */

MEASURE_PLAIN static inline void *crowd_run(void *thread)
{
	uint64_t sum = 0, round = 0;

	for (; !crowd_over; round++)
		for (unsigned i = 0; i < MANY && !crowd_over; i++)
			sum += crowd_functions[(i + (uintptr_t)thread * 2711) % MANY](i, sum);
	__asm__ volatile("" ::"r"(sum));
	__atomic_add_fetch(&crowd_rounds, round, __ATOMIC_RELAXED);
	return NULL;
}

MEASURE_PLAIN static inline void crowd_start(unsigned threads)
{
	static const struct many *const parts[MANY_PARTS] = {many_0, many_1, many_2, many_3,
	                                                     many_4, many_5, many_6, many_7};

	for (unsigned i = 0; i < MANY; i++)
		crowd_functions[i] =
		        parts[i / (MANY / MANY_PARTS)][i % (MANY / MANY_PARTS)].function;
	for (uintptr_t i = 0; i < threads; i++)
		if (pthread_create(&crowd_threads[i], NULL, crowd_run, (void *)i))
			abort();
}

MEASURE_PLAIN static inline void crowd_end(unsigned threads)
{
	crowd_over = true;
	for (unsigned i = 0; i < threads; i++)
		pthread_join(crowd_threads[i], NULL);
}

/* How long something took, in microseconds: by the clock, and of this thread's CPU time, as threads
 * that wait for a CPU make the clock a measure of the scheduler. */
struct span {
	double wall, cpu;
};

MEASURE_PLAIN static inline struct span span_begin(void)
{
	return (struct span){(double)now_ns(), (double)clock_ns(CLOCK_THREAD_CPUTIME_ID)};
}

MEASURE_PLAIN static inline struct span span_end(struct span begin)
{
	double cpu = (double)clock_ns(CLOCK_THREAD_CPUTIME_ID), wall = (double)now_ns();

	return (struct span){(wall - begin.wall) / 1000, (cpu - begin.cpu) / 1000};
}

MEASURE_PLAIN static inline void span_print(const char *name, const struct span *spans,
                                            unsigned number)
{
	printf("%s", name);
	for (unsigned i = 0; i < number; i++)
		printf(" %.3f", spans[i].wall);
	printf("\n%s_cpu", name);
	for (unsigned i = 0; i < number; i++)
		printf(" %.3f", spans[i].cpu);
	putchar('\n');
}

#endif
