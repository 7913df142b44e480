// SPDX-License-Identifier: MIT
/* The other twin; see twins.c. */
#include <stdint.h>

unsigned other_round(uint64_t k);

static __attribute__((noinline, noclone, used)) uint64_t twin(uint64_t x)
{
	return x * 5 + 2;
}

unsigned other_round(uint64_t k)
{
	return twin(k) != k * 5 + 2;
}
