/* SPDX-License-Identifier: MIT */
/*
 * key.c - a switch that costs one nop while it is off.
 *
 *     cc key.c $(pkg-config --cflags --libs suture) -o key && ./key
 */
#include <stdio.h>
#include <string.h>
#include <suture/key.h>

SUTURE_KEY_DEFINE(tracing, false);

static int calls;

static __attribute__((noinline)) int work(int x)
{
	if (suture_key_unlikely(&tracing)) {
		calls++;
		printf("work(%d)\n", x);
	}
	return x * x;
}

int main(void)
{
	int rc, sum = work(1);

	rc = suture_key_enable(&tracing);
	if (rc) {
		fprintf(stderr, "cannot enable: %s\n", strerror(-rc));
		return 1;
	}
	sum += work(2);
	suture_key_disable(&tracing);
	sum += work(3);
	printf("sum %d, %d call traced\n", sum, calls);
	return 0;
}
