/* SPDX-License-Identifier: MIT */
/*
 * rule.h - what the simulated machine stands on, by name.
 *
 * A test breaks one rule at a time: if no verdict changes, either nothing looks at the rule, or no
 * scenario needs it, and the machine is not worth more without it. Each name is used in exactly
 * one place.
 */
#ifndef SUTURE_PORT_MODEL_RULE_H
#define SUTURE_PORT_MODEL_RULE_H

#include "port/model/world.h"

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

enum model_rule {
	RULE_NONE,
#define MODEL_RULE_ID(id, what) RULE_##id,
	MODEL_RULES(MODEL_RULE_ID)
#undef MODEL_RULE_ID
	        RULE_COUNT
};

/* Does the rule hold in this world? */
static inline bool model_rule(const struct world *world, enum model_rule rule)
{
	return world->broken != (unsigned)rule;
}

#endif
