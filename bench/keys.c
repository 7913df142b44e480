/* SPDX-License-Identifier: MIT */
/*
 * keys.c - what switching static keys costs: [REPEATS [alias]] -> one line for each way.
 *
 * 10,000 uses in one transaction, of as many keys or of one, a use every so many bytes of text.
 * Beside it the floor, measured in turn: the whole range written with one system call, three
 * times, and three times all cores synchronised; the least that three phases can cost.
 * With `alias` the text is mapped twice (suture_text_alias), and the floor copied by stores.
 */
#include <fcntl.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <stdio.h>
#include "suture/key.h"
#include "suture/text.h"

enum { USES = 10000 };

struct suture_key one_dense, one_sparse, one_wide, many_dense[USES], many_sparse[USES],
        many_wide[USES];

/* A function of USES uses, one every `stride` bytes, each with the next of keys `step` bytes apart.
 * What suture/key.h emits for suture_key_unlikely. */
#define FUNCTION(name, keys, step, stride)                                                         \
	__asm__(".text\n.balign 4096\n" #name ":\n"                                                \
	        ".set use, 0\n"                                                                    \
	        ".rept 10000\n"                                                                    \
	        "1:\t.byte 0x0f, 0x1f, 0x44, 0x00, 0x00\n"                                         \
	        ".pushsection suture_keys, \"aw\", @progbits\n"                                    \
	        ".balign 8\n"                                                                      \
	        ".long 1b - ., 9f - .\n"                                                           \
	        ".quad " #keys " + use * " #step " - .\n"                                          \
	        ".popsection\n"                                                                    \
	        ".set use, use + 1\n"                                                              \
	        ".skip " #stride " - 5, 0x90\n"                                                    \
	        ".endr\n"                                                                          \
	        "9:\tret\n");                                                                      \
	void name(void)

FUNCTION(function_one_dense, one_dense, 0, 16);
FUNCTION(function_one_sparse, one_sparse, 0, 64);
FUNCTION(function_one_wide, one_wide, 0, 400);
FUNCTION(function_many_dense, many_dense, 8, 16);
FUNCTION(function_many_sparse, many_sparse, 8, 64);
FUNCTION(function_many_wide, many_wide, 8, 400);

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static int up(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static int switch_keys(struct suture_key *keys, size_t count, bool enable)
{
	static struct suture_key_change changes[USES];

	for (size_t i = 0; i < count; i++)
		changes[i] = (struct suture_key_change){&keys[i], enable};
	return suture_keys_change(changes, count, NULL);
}

static bool aliased;

static void floor_of(int memory, void *text, char *copy, size_t size)
{
	static char other[USES * 400];

	for (int phase = 0; phase < 3; phase++) {
		if (aliased)
			memcpy(other, copy, size);
		else if (pwrite(memory, copy, size, (off_t)(uintptr_t)text) != (ssize_t)size)
			exit(1);
		syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0);
	}
}

static void measure(const char *name, struct suture_key *keys, size_t count, void (*function)(void),
                    size_t stride, int repeats)
{
	double *took = calloc((size_t)repeats, sizeof(*took)),
	       *least = calloc((size_t)repeats, sizeof(*least));
	size_t size = USES * stride;
	char *copy = malloc(size);
	int memory = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	void *text = (void *)(uintptr_t)function;

	if (memory < 0 || pread(memory, copy, size, (off_t)(uintptr_t)text) != (ssize_t)size)
		exit(1);
	/* The first time pages are copied. */
	for (int i = -2; i < repeats; i++) {
		double start = now();

		if (switch_keys(keys, count, true) || switch_keys(keys, count, false))
			exit(1);
		if (i >= 0)
			took[i] = (now() - start) / 2 / USES;
		start = now();
		floor_of(memory, text, copy, size);
		if (i >= 0)
			least[i] = (now() - start) / USES;
	}
	qsort(took, (size_t)repeats, sizeof(*took), up);
	qsort(least, (size_t)repeats, sizeof(*least), up);
	printf("%-6s %5zu %7zu %9.4f %9.4f %9.4f %9.4f %7.1f\n", name, count, stride, took[0],
	       took[repeats / 2], least[0], least[repeats / 2],
	       took[repeats / 2] / least[repeats / 2]);
	fflush(stdout);
	close(memory);
	free(took);
	free(least);
	free(copy);
}

static int stop;

static void *spin(void *arg)
{
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
		;
	return arg;
}

int main(int argc, char **argv)
{
	int repeats = argc > 1 ? atoi(argv[1]) : 51;
	pthread_t thread;

	aliased = argc > 2 && strcmp(argv[2], "alias") == 0;
	if (aliased && suture_text_alias((void *)main, 0, NULL))
		return 1;
	/* One way or the other, to see that they do something. */
	function_one_dense(), function_many_dense(), function_one_sparse();
	function_many_sparse(), function_one_wide(), function_many_wide();
	printf("10,000 uses switched at once, us a use\n"
	       "%-6s %5s %7s %9s %9s %9s %9s %7s\n",
	       "", "keys", "stride", "minimum", "median", "floor min", "median", "ratio");
	for (int threads = 1; threads <= 2; threads++) {
		const char *name = threads == 1 ? "alone" : "beside";

		if (threads == 2 && pthread_create(&thread, NULL, spin, NULL))
			return 1;
		measure(name, &one_dense, 1, function_one_dense, 16, repeats);
		measure(name, many_dense, USES, function_many_dense, 16, repeats);
		measure(name, &one_sparse, 1, function_one_sparse, 64, repeats);
		measure(name, many_sparse, USES, function_many_sparse, 64, repeats);
		measure(name, &one_wide, 1, function_one_wide, 400, repeats);
		measure(name, many_wide, USES, function_many_wide, 400, repeats);
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	return 0;
}
