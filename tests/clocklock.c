/* SPDX-License-Identifier: MIT */
/*
 * clocklock.c - pthread_mutex_clocklock made of what ThreadSanitizer knows: those of gcc 12 and
 * clang 14 would take each unlock for a mistake.
 */
#include <errno.h>
#include <pthread.h>
#include <time.h>

int clocklock(pthread_mutex_t *mutex, clockid_t clock, const struct timespec *end);

int clocklock(pthread_mutex_t *mutex, clockid_t clock, const struct timespec *end)
{
	static const struct timespec pause = {.tv_nsec = 50000};
	struct timespec now;
	int rc;

	while ((rc = pthread_mutex_trylock(mutex)) == EBUSY) {
		clock_gettime(clock, &now);
		if (now.tv_sec > end->tv_sec ||
		    (now.tv_sec == end->tv_sec && now.tv_nsec >= end->tv_nsec))
			return ETIMEDOUT;
		nanosleep(&pause, NULL);
	}
	return rc;
}
