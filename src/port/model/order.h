/* SPDX-License-Identifier: MIT */
/*
 * order.h - what a core's later effects wait for, on AArch64 and other weakly ordered machines.
 *
 * Each question is about two effects of one core, the earlier one not done yet: does the later one
 * wait for it? The order of effects of different cores follows from when they are done. DDI 0487,
 * B2.3: Dependency-, Barrier-, DSB- and Context-synchronisation-ordered-before, and the rules of
 * cache maintenance in D7.5.9. The scenarios ask for stores, loads and maintenance of the port;
 * litmus tests for every instruction.
 *
 * Pure functions; `broken` is the rule that does not hold (rule.h), or 0.
 */
#ifndef SUTURE_PORT_MODEL_ORDER_H
#define SUTURE_PORT_MODEL_ORDER_H

#include <stdbool.h>

enum order_effect {
	ORDER_READ,
	ORDER_WRITE,
	ORDER_CLEAN,      /* DC CVAU */
	ORDER_INVALIDATE, /* IC IVAU */
	ORDER_SYNC,       /* ISB, taking an exception, returning from one */
	ORDER_OTHER,      /* whatever else a program goes on with */
};

enum order_barrier {
	ORDER_DMB,
	ORDER_DMB_LD,
	ORDER_DMB_ST,
	ORDER_DSB,
	ORDER_DSB_LD,
	ORDER_DSB_ST,
};

/* LDAR: acquire and `total`; LDAPR: acquire; STLR: release. */
struct order_event {
	enum order_effect effect;
	bool acquire, release, total;
};

/* Nothing between them, and they are of different places. */
bool order_waits(unsigned broken, const struct order_event *earlier,
                 const struct order_event *later);
/* The same place (or line). A load that follows a store takes its value from it instead. */
bool order_waits_same(unsigned broken, enum order_effect earlier, enum order_effect later);
/* A barrier is between them. */
bool order_waits_barrier(unsigned broken, enum order_barrier barrier, enum order_effect earlier,
                         enum order_effect later);
/* `earlier` is a branch whose direction is not known. */
bool order_waits_branch(unsigned broken, enum order_effect later);
/* `earlier` is a load or a store whose address is not known. */
bool order_waits_address(unsigned broken, enum order_effect later);

#endif
