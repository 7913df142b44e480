/* SPDX-License-Identifier: MIT */
/* other.c - a second file of the same module. */
#include "places.h"

PLAIN_NAME __attribute__((visibility("hidden"))) int add_one(int x);
int add_one(int x)
{
	return x + 1;
}

PLAIN_NAME __attribute__((visibility("hidden"))) int subtract_one(int x);
int subtract_one(int x)
{
	return x - 1;
}

SUTURE_ALTERNATIVE_FUNCTION(module_place, subtract_one, NEVER, subtract_one, ALWAYS, add_one,
                            ALWAYS, subtract_one);

extern int other(int x);
int other(int x)
{
	return shared_place(x) + own_place(x) * 1000;
}
