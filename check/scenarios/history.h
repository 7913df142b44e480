/* SPDX-License-Identifier: MIT */
/*
 * history.h - what was done in the field instead, and what one might be tempted to do.
 *
 * Each is written with the same port calls as the shipped protocol, so that the machines judge the
 * sequence and nothing else. A scenario looks at world->variant to know whether to do it.
 */
#ifndef SUTURE_CHECK_HISTORY_H
#define SUTURE_CHECK_HISTORY_H

#include "check/scenario.h"

enum variant {
	VARIANT_NONE,
	VARIANT_LINUX_ARM,        /* clean the alias, invalidate the I-cache: no duty 2 */
	VARIANT_EVERYBODY,        /* stop_machine that patches on every CPU */
	VARIANT_FIRST_ARRIVER,    /* the first to arrive patches */
	VARIANT_NOSYNC_TWO,       /* two instructions, nobody held up */
	VARIANT_LOOKUP_ONLY,      /* a trap without an entry is somebody else's */
	VARIANT_LOOKUP_ONCE,      /* the text is looked at, but not the registry again */
	VARIANT_COPY,             /* code copied, no duty done */
	VARIANT_FLUSH_ALIAS,      /* the I-cache is invalidated by the alias' address */
	VARIANT_FLUSH_BEFORE_MAP, /* flushed while the address does not exist */
	VARIANT_AS_NUMBER,        /* the instruction stored as a number of the CPU */
	VARIANT_HALVES,           /* a word at an odd halfword, in two stores */
	VARIANT_SELF,             /* nobody asks whose text it is */
	VARIANT_LATE_ANNOUNCE,    /* the trap is written, then the registry */
	VARIANT_LOCAL_FLUSH,      /* I-cache of one core only, where nothing is broadcast */
	VARIANT_BREAKPOINT_WORDS, /* a trap for an instruction that may not be changed like that */
	VARIANT_COMPARE_NOTHING,  /* written without looking at what is there */
	VARIANT_ICACHE_ONLY,      /* no duty 1 */
	VARIANT_SAME_PLACE,       /* the trap path always says "late" */
	VARIANT_MEMCPY,           /* one word, in any pieces */
	VARIANT_SYNC_MASKED,      /* cores are interrupted that are masked */
	VARIANT_RETIRE_FIRST,     /* a registry is retired before another knows its sites */
	VARIANT_NO_ROLLBACK,      /* a failed batch stays half done */
};

/* Does this thread do something else than what is shipped? Then it has done it. */
bool history_apply(struct port *port, struct kit *kit);
/* VARIANT_NO_ROLLBACK: what patch_apply would have returned. */
int history_batch(struct port *port, struct kit *kit);
uint64_t history_trap(struct port *port, uint64_t pc, void *arg);

#endif
