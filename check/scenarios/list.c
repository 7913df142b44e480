/* SPDX-License-Identifier: MIT */
#include "check/scenarios/list.h"

const struct scenario *const scenarios[] = {
        /* the cases of DESIGN.md, in its order */
        &scenario_alias,
        &scenario_publish,
        &scenario_nosync_sequence,
        &scenario_everybody,
        &scenario_before_quiescent,
        &scenario_arrival,
        &scenario_late_trap,
        &scenario_exception,
        &scenario_self,
        &scenario_deferred,
        &scenario_endian,
        &scenario_halves,
        &scenario_key_toggle,
        /* and what else people do */
        &scenario_key_breakpoint,
        &scenario_key_held,
        &scenario_key_quiesce,
        &scenario_batch,
        &scenario_batch_joined,
        &scenario_batch_fails,
        &scenario_nosync_joined,
        &scenario_two_patchers,
        &scenario_foreign,
        &scenario_failure,
        &scenario_hook,
        &scenario_hook_quiesce,
        &scenario_hook_stopped,
        &scenario_vacate,
        &scenario_stragglers,
        &scenario_straddle,
        &scenario_never_stops,
        &scenario_late,
        &scenario_probe_cycle,
        &scenario_handover,
        &scenario_moved,
        &scenario_adopted,
        &scenario_trap_meanwhile,
        &scenario_reclaim,
        &scenario_reclaim_later,
        &scenario_publish_near,
        &scenario_slot,
        &scenario_jit,
        /* and what can go wrong */
        &scenario_unwritable,
        &scenario_two_failures,
        &scenario_late_breakpoint,
        &scenario_hook_fails,
        &scenario_stop_late,
        &scenario_begin_refuses,
        &scenario_failed_reclaim,
        &scenario_late_revert,
        &scenario_revert_failures,
        &scenario_late_repeat,
        &scenario_revert_busy,
        &scenario_recovers,
        &scenario_illegal,
        &scenario_foreign_any,
        &scenario_neighbour,
        &scenario_inner_byte,
        &scenario_lock_late,
        &scenario_publish_fails,
        &scenario_nested,
};
const unsigned scenarios_count = sizeof(scenarios) / sizeof(scenarios[0]);

const char *scenario_name(const struct scenario *scenario)
{
	return scenario->name;
}

const char *scenario_what(const struct scenario *scenario)
{
	return scenario->what;
}

const char *scenario_case(const struct scenario *scenario)
{
	return scenario->subject;
}
