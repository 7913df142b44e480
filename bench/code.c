/* SPDX-License-Identifier: MIT */
/*
 * code - what publishing and changing code of a region costs, per function: minimum and median.
 *
 * Beside it, in the same run, the floor: the bytes copied to a mapping that is writable and
 * executable, with nothing else; and what programs do that toggle one mapping: mprotect to write,
 * copy, mprotect to execute.
 */
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <suture/code.h>

enum { SIZE = 32, MANY = 10000, ROUNDS_MAX = 1001, OPERAND = 4 };

static struct suture_region *region;
static struct suture_code codes[MANY];
static struct suture_code_write list[MANY];
static struct suture_edit edits[MANY];
static uint8_t body[SIZE], other[SIZE];
static uint8_t *plain; /* one mapping for all of it */
static size_t plain_size;
static int stop;

static double now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static void must(int rc, const char *what)
{
	if (!rc)
		return;
	fprintf(stderr, "%s: %s\n", what, strerror(rc < 0 ? -rc : rc));
	exit(1);
}

/* ---- what is measured; `prepare` and `finish` are not ---- */

struct measure {
	const char *name;
	void (*prepare)(size_t n), (*run)(size_t n), (*finish)(size_t n);
};

static void nothing(size_t n)
{
	(void)n;
}

static void alloc(size_t n)
{
	for (size_t i = 0; i < n; i++)
		must(suture_code_alloc(region, SIZE, 0, &codes[i]), "alloc");
	for (size_t i = 0; i < n; i++)
		list[i] = (struct suture_code_write){codes[i].exec, body, SIZE};
}

static void release(size_t n)
{
	for (size_t i = 0; i < n; i++)
		must(suture_code_free(region, codes[i].exec), "free");
	must(suture_code_reclaim(region, 1000000000), "reclaim");
}

static void publish(size_t n)
{
	must(suture_code_publish(list, n, NULL), "publish");
}

static void write_and_publish(size_t n)
{
	for (size_t i = 0; i < n; i++) {
		memcpy(codes[i].writable, body, SIZE);
		list[i].bytes = NULL;
	}
	publish(n);
}

static void life(size_t n)
{
	alloc(n);
	publish(n);
	release(n);
}

static void prepare_edit(size_t n)
{
	alloc(n);
	publish(n);
	for (size_t i = 0; i < n; i++)
		edits[i] = (struct suture_edit){(uint8_t *)codes[i].exec + OPERAND - 1,
		                                body + OPERAND - 1, other + OPERAND - 1, 5};
}

static void edit(size_t n)
{
	struct suture_text_options how = {.size = sizeof(how), .strategy = SUTURE_WORD};

	must(suture_text_patch(edits, n, &how), "word");
}

static void edit_by_trap(size_t n)
{
	struct suture_text_options how = {.size = sizeof(how), .strategy = SUTURE_BREAKPOINT};

	must(suture_text_patch(edits, n, &how), "breakpoint");
}

static void modify(size_t n)
{
	must(suture_code_modify(list, n, NULL), "modify");
}

static void copy(size_t n)
{
	for (size_t i = 0; i < n; i++)
		memcpy(plain + i * SIZE, body, SIZE);
	__asm__ volatile("" ::: "memory");
}

static void copy_between(size_t n)
{
	must(mprotect(plain, plain_size, PROT_READ | PROT_WRITE), "mprotect");
	copy(n);
	must(mprotect(plain, plain_size, PROT_READ | PROT_EXEC), "mprotect");
}

static const struct measure measures[] = {
        {"publish", alloc, publish, release},
        {"write, then publish", alloc, write_and_publish, release},
        {"alloc, publish, free, reclaim", nothing, life, nothing},
        {"change, SUTURE_WORD", prepare_edit, edit, release},
        {"change, SUTURE_BREAKPOINT", prepare_edit, edit_by_trap, release},
        {"change, suture_code_modify", prepare_edit, modify, release},
        {"mprotect, copy, mprotect", nothing, copy_between, nothing},
        {"copy to writable and executable", nothing, copy, nothing},
};

/* ---- figures ---- */

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void map_plain(int rights)
{
	plain_size = (size_t)MANY * SIZE;
	if (plain)
		munmap(plain, plain_size);
	plain = mmap(NULL, plain_size, rights, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (plain == MAP_FAILED)
		must(1, "mmap");
}

static void figure(const struct measure *measure, size_t n, unsigned rounds)
{
	static double took[ROUNDS_MAX];

	map_plain(PROT_READ | PROT_WRITE | (measure->run == copy ? PROT_EXEC : 0));
	for (unsigned i = 0; i < rounds; i++) {
		double start;

		measure->prepare(n);
		start = now_ns();
		measure->run(n);
		took[i] = (now_ns() - start) / (double)n;
		measure->finish(n);
	}
	qsort(took, rounds, sizeof(*took), by_value);
	printf("  %-34s %6zu %12.1f %12.1f\n", measure->name, n, took[0], took[rounds / 2]);
	fflush(stdout);
}

static void table(const char *title)
{
	printf("\n%s\n  %-34s %6s %12s %12s\n", title, "ns a function", "batch", "min", "median");
	for (size_t i = 0; i < sizeof(measures) / sizeof(*measures); i++)
		for (size_t n = 1; n <= MANY; n *= 100)
			figure(&measures[i], n, n == MANY ? 11 : n == 1 ? 301 : 101);
}

static void enter_and_leave(void)
{
	const unsigned count = 1000000;
	double best = 1e9;

	for (unsigned i = 0; i < 11; i++) {
		double start = now_ns();

		for (unsigned k = 0; k < count; k++) {
			(void)suture_code_enter();
			suture_code_leave();
		}
		start = (now_ns() - start) / count;
		best = start < best ? start : best;
	}
	printf("\nenter and leave: %.2f ns a pair (min)\n", best);
}

/* To the n-th CPU that we may use. */
static void pin(int n)
{
	static cpu_set_t allowed;
	cpu_set_t one;
	int cpu = -1;

	if (!CPU_COUNT(&allowed))
		sched_getaffinity(0, sizeof(allowed), &allowed);
	while (n >= 0 && ++cpu < CPU_SETSIZE)
		n -= CPU_ISSET(cpu, &allowed) ? 1 : 0;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	if (cpu < CPU_SETSIZE)
		sched_setaffinity(0, sizeof(one), &one);
}

static void *spin(void *unused)
{
	pin(1);
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
		;
	return unused;
}

int main(void)
{
	static const uint8_t code[] = {0x0F, 0x1F, 0x00, 0xB8, 1, 0, 0, 0, 0xC3};
	pthread_t thread;

	memset(body, 0xCC, SIZE);
	memcpy(body, code, sizeof(code));
	memcpy(other, body, SIZE);
	memset(other + OPERAND, 7, 4);
	pin(0);
	must(suture_region_new((size_t)MANY * SIZE, NULL, &region), "region");
	table("no other thread");
	pthread_create(&thread, NULL, spin, NULL);
	table("another thread runs, on another processor");
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	enter_and_leave();
	return 0;
}
