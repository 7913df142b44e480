/* SPDX-License-Identifier: MIT */
/*
 * calls - what one call of a function costs, in as many threads at once as asked for.
 *
 * Reads lines `SHAPE THREADS CALLS REPEATS`, answers `MINIMUM MEDIAN`: nanoseconds a call, the
 * threads' mean in each repetition. Shapes: one_long (the first instruction fills a jump's five
 * bytes), several_short (inner boundaries under the jump), prologue (pushes, as most functions).
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MAX_THREADS 64
#define MAX_REPEATS 1000

__attribute__((noinline, noclone, aligned(64))) uint64_t one_long(uint64_t x)
{
	__asm__ volatile("mov $0x12345, %%eax" ::: "rax");
	return x + 1;
}

__attribute__((noinline, noclone, aligned(64))) uint64_t several_short(uint64_t x)
{
	__asm__ volatile("nop\n\tmov %%eax, %%eax\n\tmov %%ecx, %%ecx" ::: "rax", "rcx");
	return x + 1;
}

__attribute__((noinline, noclone, aligned(64))) uint64_t prologue(uint64_t x)
{
	__asm__ volatile("" ::: "r12", "rbp", "rbx");
	return x + 1;
}

typedef uint64_t function(uint64_t);

static const struct {
	const char *name;
	function *call;
} shapes[] = {{"one_long", one_long}, {"several_short", several_short}, {"prologue", prologue}};

static function *volatile chosen;
static uint64_t calls;
static pthread_barrier_t barrier;

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* Each call depends on the one before: this is latency, not throughput. */
static void *run(void *elapsed)
{
	function *call = chosen;
	uint64_t sum = 0;
	int64_t start;

	pthread_barrier_wait(&barrier);
	start = now_ns();
	for (uint64_t i = 0; i < calls; i++)
		sum = call(sum);
	*(int64_t *)elapsed = now_ns() - start;
	if (sum != calls) {
		fprintf(stderr, "calls: wrong result\n");
		abort();
	}
	return NULL;
}

static double measure(int threads)
{
	pthread_t ids[MAX_THREADS];
	int64_t elapsed[MAX_THREADS], sum = 0;

	pthread_barrier_init(&barrier, NULL, threads);
	for (int i = 1; i < threads; i++)
		if (pthread_create(&ids[i], NULL, run, &elapsed[i]))
			abort();
	run(&elapsed[0]);
	for (int i = 1; i < threads; i++)
		pthread_join(ids[i], NULL);
	pthread_barrier_destroy(&barrier);
	for (int i = 0; i < threads; i++)
		sum += elapsed[i];
	return (double)sum / threads / calls;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

int main(void)
{
	double results[MAX_REPEATS];
	char line[256], shape[32];
	int threads, repeats;

	setvbuf(stdout, NULL, _IOLBF, 0);
	puts("ready");
	while (fgets(line, sizeof line, stdin)) {
		chosen = NULL;
		if (sscanf(line, "%31s %d %lu %d", shape, &threads, &calls, &repeats) != 4)
			return 2;
		for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
			if (!strcmp(shapes[i].name, shape))
				chosen = shapes[i].call;
		if (!chosen || threads < 1 || threads > MAX_THREADS || repeats < 1 ||
		    repeats > MAX_REPEATS)
			return 2;
		for (int i = 0; i < repeats; i++)
			results[i] = measure(threads);
		qsort(results, repeats, sizeof *results, by_value);
		printf("%.4f %.4f\n", results[0], results[repeats / 2]);
	}
	return 0;
}
