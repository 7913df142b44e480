/* SPDX-License-Identifier: MIT */
/*
 * lttng - what a tracepoint of LTTng-UST costs a call; see ../measure.h. The driver enables
 * suture_bench:on, and nothing else, before it starts us.
 */
#define LTTNG_UST_TRACEPOINT_CREATE_PROBES
#define LTTNG_UST_TRACEPOINT_DEFINE
#include "../measure.h"
#include "lttng_events.h"

#define SHAPE __attribute__((noinline, aligned(64)))

SHAPE static uint64_t bare(uint64_t x)
{
	__asm__ volatile("");
	return x + 1;
}

SHAPE static uint64_t off(uint64_t x)
{
	lttng_ust_tracepoint(suture_bench, off, x);
	return x + 1;
}

SHAPE static uint64_t on(uint64_t x)
{
	lttng_ust_tracepoint(suture_bench, on, x);
	return x + 1;
}

int main(void)
{
	bool enabled = lttng_ust_tracepoint_enabled(suture_bench, on);
	struct measured cases[] = {
	        {"bare", bare, NULL, NULL, NULL},
	        {"lttng_off", off, NULL, NULL, NULL},
	        {"lttng_on", on, enabled ? "enabled" : "not enabled", NULL, NULL},
	};

	return measure_serve(cases, sizeof(cases) / sizeof(*cases));
}
