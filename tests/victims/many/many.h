/* SPDX-License-Identifier: MIT */
/* many.h - what the generated parts of `many` offer to its main program. */
#ifndef MANY_H
#define MANY_H

#include <stdint.h>

#define MANY       10000
#define MANY_PARTS 8

/* noipa: nobody may know what another function does, and none is cloned or merged. */
#define FUNCTION __attribute__((noipa))

typedef uint64_t many_function(uint64_t x, uint64_t y);

struct many {
	many_function *function;
	uint32_t hits; /* calls in one round: its own, and those from other functions */
	uint32_t more; /* its first instruction may be executed more often than it is called */
};

extern const struct many many_0[], many_1[], many_2[], many_3[], many_4[], many_5[], many_6[],
        many_7[];

#endif
