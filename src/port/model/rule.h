/* SPDX-License-Identifier: MIT */
/*
 * rule.h - what the simulated machine stands on, by name.
 *
 * A test breaks one rule at a time: if no verdict changes, either nothing looks at the rule, or no
 * scenario needs it, and the machine is not worth more without it. A rule is looked at
 * in one place of each engine, and in order.c and versions.c for both.
 */
#ifndef SUTURE_PORT_MODEL_RULE_H
#define SUTURE_PORT_MODEL_RULE_H

#include <stdbool.h>

#define MODEL_RULES(X)                                                                             \
	/* caches (line.c) */                                                                      \
	X(CLEAN, "duty 1 writes back what was written through this address")                       \
	X(CLEAN_REACHES, "but not what another address or, without broadcast, another core wrote") \
	X(READ_STALE, "a data read may find an older line of its own address")                     \
	X(DROP_READ, "duty 2 drops it")                                                            \
	X(WINDOW, "virtually tagged, an alias that was not closed is a line of its next meaning")  \
	X(FETCH_STALE, "a fetch may find any content since the last invalidation")                 \
	X(DROP_EXECUTED, "duty 3 raises that floor")                                               \
	X(DROP_UNIFIED, "but only up to what has been written back")                               \
	X(DROP_ALIAS, "and not by another address, where that is another place")                   \
	X(BROADCAST, "and on all cores where maintenance is broadcast")                            \
	X(LOCAL, "and nowhere else where it is not")                                               \
	X(FETCHED_AHEAD, "what was fetched before stays until a synchronisation event")            \
	X(SYNCHRONISE, "which throws it away")                                                     \
	X(FETCH_FROM_DATA, "with IDC, fetch finds what the D-cache holds")                         \
	X(COHERENT, "with DIC, I-cache lines are dropped when they are written")                   \
	/* stores and loads (store.c, execute.c) */                                                \
	X(BUFFER, "a store stays in its buffer for any time")                                      \
	X(OUT_OF_ORDER, "and, weakly ordered, leaves before older ones")                           \
	X(RELEASE, "but not a release")                                                            \
	X(FIFO, "and not under TSO")                                                               \
	X(FORWARD, "a core sees its own stores")                                                   \
	X(LATE_LOAD, "a load completes late, weakly ordered")                                      \
	X(COMPLETE, "port_complete waits for stores and loads")                                    \
	X(MAINTENANCE_WAITS, "maintenance waits for stores")                                       \
	/* instructions (execute.c) */                                                             \
	X(HOTPATCH, "only listed instructions may be changed while they are executed")             \
	X(OLD_GONE, "after the return, no old instruction")                                        \
	X(TRAP_GONE, "nor a trap")                                                                 \
	X(SEQUENCE, "a sequence is executed in one state")                                         \
	X(RECLAIMED, "memory that was given back is not executed")                                 \
	X(PIECES, "port_write may be seen half done")                                              \
	/* cores (op.c, step.c) */                                                                 \
	X(LOCK, "port_lock excludes others")                                                       \
	X(ONE_WRITER, "one core writes in a transaction")                                          \
	X(MASK, "a masked core takes no exception")                                                \
	X(EXCEPTION, "an unmasked one may, at any time")                                           \
	X(STOP, "port_stop returns when all are at rest")                                          \
	X(OCCUPIED, "port_occupied finds who stands inside")                                       \
	X(GRACE, "port_grace waits for who is in the trap path")                                   \
	X(RUN_ON_ALL, "port_run_on_all returns when all have left")                                \
	X(WITHDRAW, "or some will never come")                                                     \
	X(WAIT, "port_wait waits for the word to change")                                          \
	X(TRAP_LATE, "between a trap and its handler any time may pass")                           \
	X(TRAP_OURS, "a trap that is nobody's kills")                                              \
	X(ABSENT, "maintenance of an address that is not mapped does nothing")                     \
	X(WRITE_FAILS, "a write may fail half way")                                                \
	X(TURNING, "and nobody goes from trap to trap for ever")                                   \
	X(LOADS_LATE, "a load after a read of text may come before it, weakly ordered")            \
	X(ENDS, "from every state the end can be reached")

/*
 * Rules that only litmus tests can tell apart: they have instructions, dependencies and barriers
 * of their own, where the protocol's code has port calls. Those above that litmus tests need too
 * are listed in LITMUS_SHARED_RULES.
 */
#define LITMUS_RULES(X)                                                                            \
	/* fetching (check/litmus) */                                                              \
	X(FETCH_IN_ORDER, "a core fetches in program order")                                       \
	X(FETCH_MEMORY, "and never from its own pending stores")                                   \
	X(FETCH_AHEAD, "it does not wait for branches")                                            \
	X(GUESS, "what was fetched on a wrong guess is discarded")                                 \
	X(FETCH_BARRIER, "nor for a DSB")                                                          \
	X(FETCH_EXCEPTION, "but for an exception")                                                 \
	X(FETCH_RETURN, "and a return from one")                                                   \
	/* what waits without a barrier (order.c) */                                               \
	X(WRITE_BRANCH, "a store waits for earlier branches")                                      \
	X(CLEAN_BRANCH, "so does DC")                                                              \
	X(INVALIDATE_BRANCH, "and IC")                                                             \
	X(READ_EARLY, "but not a load")                                                            \
	X(WRITE_ADDRESS, "a store waits for earlier addresses")                                    \
	X(READ_ADDRESS, "but not a load")                                                          \
	X(SAME_READS, "loads of one place find contents in their order")                           \
	X(SAME_READ_WRITE, "a store waits for earlier loads of its place")                         \
	X(SAME_WRITES, "and for earlier stores")                                                   \
	X(SAME_CLEAN, "DC waits for accesses to its place")                                        \
	X(SAME_CLEANED, "and they for it")                                                         \
	X(SAME_INVALIDATE, "but not IC: after DC it needs a DSB")                                  \
	X(ACQUIRE, "what follows LDAR waits for it")                                               \
	X(RELEASE_ACQUIRE, "LDAR waits for earlier STLR")                                          \
	X(PICK, "a load does not wait for what CSEL picks its address by")                         \
	/* barriers (order.c) */                                                                   \
	X(DMB, "DMB orders loads and stores")                                                      \
	X(DMB_CLEAN, "and DC")                                                                     \
	X(DMB_INVALIDATE, "but not IC")                                                            \
	X(DMB_LD, "DMB LD orders loads before loads and stores")                                   \
	X(DMB_LD_CLEAN, "but not before DC")                                                       \
	X(DMB_LD_WRITE, "nor stores before anything")                                              \
	X(DMB_ST, "DMB ST orders stores before stores")                                            \
	X(DMB_ST_READ, "but not before loads, nor loads before anything")                          \
	X(DSB_CLEAN, "DSB waits for DC")                                                           \
	X(DSB_INVALIDATE, "and for IC")                                                            \
	X(DSB_LD, "DSB LD waits for loads")                                                        \
	X(DSB_LD_ONLY, "but for nothing else")                                                     \
	X(DSB_ST, "DSB ST waits for stores")                                                       \
	X(DSB_ST_ONLY, "but for nothing else")                                                     \
	/* context synchronisation events (order.c) */                                             \
	X(SYNC_BRANCH, "an ISB waits for earlier branches")                                        \
	X(SYNC_ADDRESS, "for earlier addresses")                                                   \
	X(SYNC_DSB, "and for what an earlier DSB waits for")                                       \
	X(SYNC_PLAIN, "but for no other access")

/* Of MODEL_RULES, those that the litmus tests stand on too: one rule, one place. */
#define LITMUS_SHARED_RULES(X)                                                                     \
	X(CLEAN)                                                                                   \
	X(FETCH_STALE)                                                                             \
	X(DROP_EXECUTED)                                                                           \
	X(DROP_UNIFIED)                                                                            \
	X(BROADCAST)                                                                               \
	X(SYNCHRONISE)                                                                             \
	X(FETCH_FROM_DATA)                                                                         \
	X(COHERENT)                                                                                \
	X(OUT_OF_ORDER)                                                                            \
	X(RELEASE)                                                                                 \
	X(FORWARD)                                                                                 \
	X(LATE_LOAD)                                                                               \
	X(COMPLETE)                                                                                \
	X(MAINTENANCE_WAITS)

enum model_rule {
	RULE_NONE,
#define MODEL_RULE_ID(id, what) RULE_##id,
	MODEL_RULES(MODEL_RULE_ID)
	/* the number of those that the scenarios stand on, and one */
	RULE_COUNT,
	RULE_LITMUS_FIRST = RULE_COUNT - 1,
	LITMUS_RULES(MODEL_RULE_ID)
#undef MODEL_RULE_ID
	        RULE_END
};

/* Does the rule hold where `broken` is the one that does not, or 0? */
static inline bool rule_holds(unsigned broken, enum model_rule rule)
{
	return broken != (unsigned)rule;
}

#endif
