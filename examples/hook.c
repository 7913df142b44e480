/* SPDX-License-Identifier: MIT */
/*
 * hook.c - replace a function of the C library: sleeps that take no time.
 *
 *     cc hook.c $(pkg-config --cflags --libs suture) -o hook && ./hook
 *
 * sleep() and usleep() end in clock_nanosleep(), by calls inside the library, where a preloaded
 * function of that name would not be found.
 */
#include <stdio.h>
#include <suture/hook.h>
#include <time.h>
#include <unistd.h>

static int (*original)(clockid_t, int, const struct timespec *, struct timespec *);
static double skipped;

static int skip(clockid_t clock, int flags, const struct timespec *time, struct timespec *left)
{
	if (flags & TIMER_ABSTIME)
		return original(clock, flags, time, left);
	skipped += (double)time->tv_sec + (double)time->tv_nsec / 1e9;
	return 0;
}

int main(void)
{
	char message[200] = "";
	struct suture_text_options options = {
	        .size = sizeof(options), .message = message, .message_size = sizeof(message)};
	struct suture_hook_spec spec = {(void *)clock_nanosleep, (void *)skip, (void **)&original};
	struct suture_hook *hook;

	if (suture_hook_install(&spec, 1, &hook, &options)) {
		fprintf(stderr, "%s\n", message);
		return 1;
	}
	printf("hooked by a %s\n", suture_site_kind_name(suture_hook_kind(hook)));
	sleep(2);
	usleep(500000);
	if (suture_hook_remove(&hook, 1, &options)) {
		fprintf(stderr, "%s\n", message);
		return 1;
	}
	usleep(1000);
	printf("%.1f s of sleep skipped\n", skipped);
	return skipped != 2.5;
}
