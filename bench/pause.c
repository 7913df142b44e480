/* SPDX-License-Identifier: MIT */
/*
 * pause FILE THREADS SPINNING - the longest time that a spinning thread did not run.
 *
 * The main thread reads the clock over and over and keeps the largest distance between two
 * readings. SPINNING of the THREADS spin (the main one included), the others are blocked. FILE
 * is mapped by both sides: the driver sets `reset` and reads `gap_ns`, so that one thread can be
 * all there is.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

struct shared {
	uint64_t gap_ns;
	uint64_t reset;   /* set by the driver, cleared here */
	uint64_t started; /* threads that run */
};

static volatile struct shared *shared;

/* Probed while we spin; called now and then so that hits can be seen. */
__attribute__((noinline, noclone)) uint64_t ticked(uint64_t x)
{
	__asm__ volatile("" ::: "rbx");
	return x + 1;
}

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static void *spin(void *unused)
{
	__atomic_add_fetch(&shared->started, 1, __ATOMIC_SEQ_CST);
	for (volatile uint64_t i = 0;; i++)
		;
	return unused;
}

static void *block(void *unused)
{
	__atomic_add_fetch(&shared->started, 1, __ATOMIC_SEQ_CST);
	for (;;)
		pause();
	return unused;
}

int main(int argc, char **argv)
{
	int fd = argc == 4 ? open(argv[1], O_RDWR) : -1;
	long threads, spinning;
	pthread_attr_t small;
	uint64_t ticks = 0;
	int64_t last;

	if (fd < 0)
		return 2;
	threads = atol(argv[2]);
	spinning = atol(argv[3]);
	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (shared == MAP_FAILED)
		return 2;
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 65536);
	for (long i = 1; i < threads; i++) {
		pthread_t id;

		if (pthread_create(&id, &small, i < spinning ? spin : block, NULL))
			abort();
	}
	/* Of this thread alone, so that its gaps are not those of sharing a CPU with the driver. */
	if (setpriority(PRIO_PROCESS, 0, -20))
		perror("pause: setpriority");
	__atomic_add_fetch(&shared->started, 1, __ATOMIC_SEQ_CST);
	last = now_ns();
	for (;;) {
		int64_t now = now_ns();

		if (shared->reset) {
			shared->gap_ns = 0;
			shared->reset = 0;
		} else if ((uint64_t)(now - last) > shared->gap_ns) {
			shared->gap_ns = now - last;
		}
		last = now;
		ticks = ticked(ticks);
	}
}
