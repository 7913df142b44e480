// link: tests/victims/twins/other.c
// SPDX-License-Identifier: MIT
/* twins - two static functions of one name in two files. */
#include "victim.h"

unsigned other_round(uint64_t k);

static NOT_INLINED uint64_t twin(uint64_t x)
{
	return x * 3 + 1;
}

static unsigned twins_round(unsigned thread, uint64_t k)
{
	return (twin(k + thread) != (k + thread) * 3 + 1) + other_round(k);
}

int main(void)
{
	static const struct victim victim = {.round = twins_round};

	return victim_obey(&victim, 2);
}
