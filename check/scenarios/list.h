/* SPDX-License-Identifier: MIT */
/* list.h - all scenarios; scenarios/list.c has them in the order of the report. */
#ifndef SUTURE_CHECK_LIST_H
#define SUTURE_CHECK_LIST_H

#include "check/scenario.h"

/* keys.c: one instruction */
extern const struct scenario scenario_key_toggle, scenario_key_breakpoint, scenario_key_held,
        scenario_key_quiesce, scenario_batch, scenario_batch_joined, scenario_batch_fails,
        scenario_nosync_joined, scenario_two_patchers, scenario_alias, scenario_endian,
        scenario_halves, scenario_foreign, scenario_self, scenario_failure;
/* hooks.c: several */
extern const struct scenario scenario_hook, scenario_nosync_sequence, scenario_stragglers,
        scenario_hook_quiesce, scenario_hook_stopped, scenario_vacate, scenario_everybody,
        scenario_before_quiescent, scenario_arrival, scenario_exception, scenario_late,
        scenario_never_stops, scenario_straddle;
/* probes.c: traps */
extern const struct scenario scenario_probe_cycle, scenario_late_trap, scenario_trap_meanwhile,
        scenario_handover, scenario_moved, scenario_adopted, scenario_reclaim,
        scenario_reclaim_later;
/* publish.c: new code */
extern const struct scenario scenario_publish, scenario_publish_near, scenario_slot,
        scenario_deferred, scenario_jit;

/* failures.c: what can go wrong */
extern const struct scenario scenario_unwritable, scenario_two_failures, scenario_late_breakpoint,
        scenario_hook_fails, scenario_stop_late, scenario_begin_refuses, scenario_failed_reclaim,
        scenario_late_revert, scenario_revert_failures, scenario_late_repeat, scenario_revert_busy,
        scenario_recovers, scenario_illegal, scenario_foreign_any, scenario_neighbour,
        scenario_inner_byte, scenario_lock_late, scenario_publish_fails, scenario_nested;

/* Why a scenario cannot exist on a machine, or NULL. */
/* An instruction may be exchanged for a trap while it is executed. */
const char *needs_trap_pair(const struct machine *machine);
/* Maintenance reaches cores that are stopped. */
const char *needs_broadcast(const struct machine *machine);
/* Cores that execute while one patches; NULL if the machine has some. */
const char *needs_cores(const struct machine *machine);

#endif
