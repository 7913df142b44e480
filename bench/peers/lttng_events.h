/* SPDX-License-Identifier: MIT */
/* lttng_events.h - two tracepoints of LTTng-UST; read several times by its headers. */
#undef LTTNG_UST_TRACEPOINT_PROVIDER
#define LTTNG_UST_TRACEPOINT_PROVIDER suture_bench
#undef LTTNG_UST_TRACEPOINT_INCLUDE
#define LTTNG_UST_TRACEPOINT_INCLUDE "lttng_events.h"

#if !defined(BENCH_LTTNG_EVENTS_H) || defined(LTTNG_UST_TRACEPOINT_HEADER_MULTI_READ)
#define BENCH_LTTNG_EVENTS_H

#include <lttng/tracepoint.h>
#include <stdint.h>

LTTNG_UST_TRACEPOINT_EVENT(suture_bench, off, LTTNG_UST_TP_ARGS(uint64_t, x),
                           LTTNG_UST_TP_FIELDS(lttng_ust_field_integer(uint64_t, x, x)))

LTTNG_UST_TRACEPOINT_EVENT(suture_bench, on, LTTNG_UST_TP_ARGS(uint64_t, x),
                           LTTNG_UST_TP_FIELDS(lttng_ust_field_integer(uint64_t, x, x)))

#endif

#include <lttng/tracepoint-event.h>
