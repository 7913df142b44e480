/* SPDX-License-Identifier: MIT */
/*
 * measure.h - the measured side of bench/own.py: functions that are called on demand.
 *
 * A program says `case NAME HOW` for each, then `ready`. It then reads lines `NAME CALLS` and
 * answers with the nanoseconds of one call, so that a driver can take turns between the cases of
 * several programs.
 */
#ifndef BENCH_MEASURE_H
#define BENCH_MEASURE_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* For programs whose compiler is told to instrument. */
#ifndef MEASURE_PLAIN
#define MEASURE_PLAIN
#endif

typedef uint64_t measured_function(uint64_t x); /* returns x + 1 */

struct measured {
	const char *name;
	measured_function *call;
	const char *how;
	/* What every call adds 1 to; may be NULL. */
	const volatile uint64_t *hits;
	/* Instead of measure_calls(). */
	double (*measure)(uint64_t calls);
};

MEASURE_PLAIN static inline int64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

MEASURE_PLAIN static inline int64_t now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

/* Nanoseconds of all calls. Each depends on the one before: latency, not throughput. Not inlined,
 * so that the loop is the same for all. */
MEASURE_PLAIN __attribute__((noinline, unused)) static double measure_calls(measured_function *call,
                                                                            uint64_t calls)
{
	uint64_t sum = 0;
	int64_t start = now_ns(), end;

	for (uint64_t i = 0; i < calls; i++)
		sum = call(sum);
	end = now_ns();
	if (sum != calls) {
		fprintf(stderr, "bench: wrong result\n");
		abort();
	}
	return (double)(end - start);
}

MEASURE_PLAIN static inline double measure_case(const struct measured *one, uint64_t calls)
{
	uint64_t warm = calls / 8 + 1, before = one->hits ? *one->hits : 0;
	double elapsed;

	if (one->measure)
		return one->measure(calls) / (double)calls;
	measure_calls(one->call, warm);
	elapsed = measure_calls(one->call, calls);
	if (one->hits && *one->hits - before != warm + calls) {
		fprintf(stderr, "bench: %s: %" PRIu64 " hits of %" PRIu64 " calls\n", one->name,
		        *one->hits - before, warm + calls);
		abort();
	}
	return elapsed / (double)calls;
}

/* Returns the program's exit status. */
MEASURE_PLAIN static inline int measure_serve(const struct measured *cases, size_t count)
{
	char line[128], name[64];
	uint64_t calls;

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (size_t i = 0; i < count; i++)
		printf("case %s %s\n", cases[i].name, cases[i].how ? cases[i].how : "");
	puts("ready");
	while (fgets(line, sizeof(line), stdin)) {
		const struct measured *one = NULL;

		if (sscanf(line, "%63s %" SCNu64, name, &calls) != 2 || !calls)
			return 2;
		for (size_t i = 0; i < count; i++)
			if (!strcmp(cases[i].name, name))
				one = &cases[i];
		if (!one)
			return 2;
		printf("%.5f\n", measure_case(one, calls));
	}
	return 0;
}

#endif
