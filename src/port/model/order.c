/* SPDX-License-Identifier: MIT */
/* order.c - what waits for what on one core. */
#include "port/model/order.h"
#include "port/model/rule.h"

static bool is_access(enum order_effect effect)
{
	return effect == ORDER_READ || effect == ORDER_WRITE;
}

static bool is_maintenance(enum order_effect effect)
{
	return effect == ORDER_CLEAN || effect == ORDER_INVALIDATE;
}

/* Stores leave, and loads complete, in any order, unless the instructions say otherwise. */
bool order_waits(unsigned broken, const struct order_event *earlier,
                 const struct order_event *later)
{
	if (!is_access(earlier->effect))
		return false;
	if (later->effect == ORDER_SYNC)
		return !rule_holds(broken, RULE_SYNC_PLAIN);
	if (later->release && rule_holds(broken, RULE_RELEASE))
		return true;
	if (earlier->acquire && is_access(later->effect) && rule_holds(broken, RULE_ACQUIRE))
		return true;
	if (earlier->release && later->total)
		return rule_holds(broken, RULE_RELEASE_ACQUIRE);
	if (earlier->effect == ORDER_WRITE && later->effect == ORDER_WRITE)
		return !rule_holds(broken, RULE_OUT_OF_ORDER);
	if (earlier->effect == ORDER_READ)
		return is_access(later->effect) && !rule_holds(broken, RULE_LATE_LOAD);
	return false;
}

bool order_waits_same(unsigned broken, enum order_effect earlier, enum order_effect later)
{
	if (earlier == ORDER_CLEAN && is_access(later))
		return rule_holds(broken, RULE_SAME_CLEANED);
	if (later == ORDER_CLEAN && earlier != ORDER_INVALIDATE)
		return rule_holds(broken, RULE_SAME_CLEAN);
	if (later == ORDER_INVALIDATE && earlier == ORDER_CLEAN)
		return !rule_holds(broken, RULE_SAME_INVALIDATE);
	if (later != ORDER_WRITE)
		return false;
	if (earlier == ORDER_READ)
		return rule_holds(broken, RULE_SAME_READ_WRITE);
	return earlier == ORDER_WRITE && rule_holds(broken, RULE_SAME_WRITES);
}

static bool dmb(unsigned broken, enum order_effect earlier, enum order_effect later)
{
	if (earlier == ORDER_INVALIDATE || later == ORDER_INVALIDATE)
		return later != ORDER_SYNC && !rule_holds(broken, RULE_DMB_INVALIDATE);
	if (is_access(earlier) && is_access(later))
		return rule_holds(broken, RULE_DMB);
	if (earlier == ORDER_CLEAN || later == ORDER_CLEAN)
		return later != ORDER_SYNC && rule_holds(broken, RULE_DMB_CLEAN);
	return false;
}

static bool dmb_ld(unsigned broken, enum order_effect earlier, enum order_effect later)
{
	if (earlier == ORDER_READ && is_access(later))
		return rule_holds(broken, RULE_DMB_LD);
	if (earlier == ORDER_READ && later == ORDER_CLEAN)
		return !rule_holds(broken, RULE_DMB_LD_CLEAN);
	return earlier == ORDER_WRITE && is_access(later) && !rule_holds(broken, RULE_DMB_LD_WRITE);
}

static bool dmb_st(unsigned broken, enum order_effect earlier, enum order_effect later)
{
	if (earlier == ORDER_WRITE && later == ORDER_WRITE)
		return rule_holds(broken, RULE_DMB_ST);
	return is_access(earlier) && is_access(later) && !rule_holds(broken, RULE_DMB_ST_READ);
}

/* Whatever comes later, but for fetching. */
static bool dsb(unsigned broken, enum order_effect earlier, enum order_effect later)
{
	if (is_access(earlier))
		return rule_holds(broken,
		                  is_maintenance(later) ? RULE_MAINTENANCE_WAITS : RULE_COMPLETE);
	return rule_holds(broken, earlier == ORDER_CLEAN ? RULE_DSB_CLEAN : RULE_DSB_INVALIDATE);
}

bool order_waits_barrier(unsigned broken, enum order_barrier barrier, enum order_effect earlier,
                         enum order_effect later)
{
	bool before_sync = later != ORDER_SYNC || rule_holds(broken, RULE_SYNC_DSB);

	switch (barrier) {
	case ORDER_DMB:
		return dmb(broken, earlier, later);
	case ORDER_DMB_LD:
		return dmb_ld(broken, earlier, later);
	case ORDER_DMB_ST:
		return dmb_st(broken, earlier, later);
	case ORDER_DSB:
		return before_sync && dsb(broken, earlier, later);
	case ORDER_DSB_LD:
		return before_sync &&
		       (earlier == ORDER_READ ? rule_holds(broken, RULE_DSB_LD)
		                              : !rule_holds(broken, RULE_DSB_LD_ONLY));
	case ORDER_DSB_ST:
		return before_sync &&
		       (earlier == ORDER_WRITE ? rule_holds(broken, RULE_DSB_ST)
		                               : !rule_holds(broken, RULE_DSB_ST_ONLY));
	}
	return false;
}

bool order_waits_branch(unsigned broken, enum order_effect later)
{
	switch (later) {
	case ORDER_READ:
		return !rule_holds(broken, RULE_READ_EARLY);
	case ORDER_WRITE:
		return rule_holds(broken, RULE_WRITE_BRANCH);
	case ORDER_CLEAN:
		return rule_holds(broken, RULE_CLEAN_BRANCH);
	case ORDER_INVALIDATE:
		return rule_holds(broken, RULE_INVALIDATE_BRANCH);
	default:
		return rule_holds(broken, RULE_SYNC_BRANCH);
	}
}

bool order_waits_address(unsigned broken, enum order_effect later)
{
	switch (later) {
	case ORDER_READ:
		return !rule_holds(broken, RULE_READ_ADDRESS);
	case ORDER_WRITE:
		return rule_holds(broken, RULE_WRITE_ADDRESS);
	case ORDER_SYNC:
		return rule_holds(broken, RULE_SYNC_ADDRESS);
	default:
		return false;
	}
}
