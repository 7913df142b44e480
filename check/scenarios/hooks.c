/* SPDX-License-Identifier: MIT */
/*
 * hooks.c - several instructions become others: what cores must be kept out of.
 */
#include <errno.h>
#include "check/scenarios/history.h"
#include "check/scenarios/list.h"

static const char runs[] = "runs over the site", runs_too[] = "runs over it, too",
                  hooks[] = "hooks the function";

const char *needs_cores(const struct machine *machine)
{
	return machine->cpus > 1 ? NULL : "one CPU: there is nobody else to come to rest";
}

static void hooks_and_unhooks(struct port *port, void *arg)
{
	struct kit *kit = arg;

	if (history_apply(port, kit)) {
		world_expect(port, 0, WORLD_NEW);
		return;
	}
	if (kit_apply(port, kit, 0))
		kit_revert(port, kit, 0);
}

static void hooks_once(struct port *port, void *arg)
{
	struct kit *kit = arg;

	if (history_apply(port, kit))
		world_expect(port, 0, WORLD_NEW);
	else
		kit_apply(port, kit, 0);
}

static void build_hook(struct world *world)
{
	layout_hook(world, AT_SITE);
	thread_calls(world, hooks, hooks_and_unhooks);
	thread_runs(world, runs, AT_SITE);
	thread_runs(world, runs_too, AT_SITE);
}

/* Cheapest: by breakpoint where instructions are bytes, at rest elsewhere. */
const struct scenario scenario_hook = {
        .name = "hook",
        .what = "two instructions under one jump, hooked and unhooked, with threads between them",
        .build = build_hook,
};

const struct scenario scenario_nosync_sequence = {
        .name = "nosync-sequence",
        .what = "several instructions: nosync refuses, and what is chosen instead is safe",
        .subject = "nosync-sequence",
        .build = build_hook,
};

/* ---- at rest ---- */

static void build_quiesce(struct world *world)
{
	struct kit *kit = layout_hook(world, AT_SITE);

	kit->options.strategy = PATCH_QUIESCE;
	kit->options.traps = NULL;
	thread_calls(world, hooks, hooks_and_unhooks);
	thread_runs(world, runs, AT_SITE);
}

const struct scenario scenario_hook_quiesce = {
        .name = "hook-quiesce",
        .what = "two instructions are hooked and unhooked while all cores have come to rest",
        .subject = "patch-before-quiescent",
        .build = build_quiesce,
};

static void build_stopped(struct world *world)
{
	build_quiesce(world);
	world->stop_outside = true;
}

const char *needs_broadcast(const struct machine *machine)
{
	return machine->broadcast || machine->cpus == 1
	               ? NULL
	               : "a core that is stopped from outside can not drop its own I-cache lines";
}

const struct scenario scenario_hook_stopped = {
        .name = "hook-stopped",
        .what = "they are hooked and unhooked while all cores are stopped from outside, as under "
                "ptrace",
        .absent = needs_broadcast,
        .build = build_stopped,
};

/* ---- displaced copies, when nobody is inside any more ---- */

static void hooks_and_reclaims(struct port *port, void *arg)
{
	struct kit *kit = arg;
	struct patch_options options = kit->options;
	int rc;

	if (!kit_apply(port, kit, 0))
		return;
	world_expect(port, 0, WORLD_ANY);
	options.vacate = &kit->vacate[0];
	options.vacate_count = 1;
	rc = patch_revert(port, kit->registry[0], &options);
	world_assert(port, rc == 0 || rc == -EBUSY, "a patch can not be taken back");
	if (rc)
		return;
	world_expect(port, 0, WORLD_OLD);
	world_reclaim(port);
}

static void build_vacate(struct world *world)
{
	struct kit *kit = layout_hook(world, AT_SITE);

	/* What is patched in leads to the displaced copy. */
	for (unsigned i = 0; i < world->forms; i++)
		if (world->form[i].next == AT_NEW && world->form[i].address != AT_NEW)
			world->form[i].next = AT_SLOT;
	kit->options.strategy = PATCH_QUIESCE;
	kit->options.traps = NULL;
	kit->vacate[0] = (struct port_range){AT_SLOT, AT_SLOT + WORLD_LINE};
	world->stop_outside = true;
	thread_calls(world, "hooks, unhooks, unmaps", hooks_and_reclaims);
	thread_runs(world, runs, AT_SITE);
}

const struct scenario scenario_vacate = {
        .name = "hook-vacate",
        .what = "unhooked from outside, and the trampoline unmapped if nobody is inside",
        .absent = needs_broadcast,
        .build = build_vacate,
};

/* ---- three cores ---- */

static void build_three(struct world *world)
{
	struct kit *kit = layout_hook(world, AT_SITE);

	kit->options.strategy = PATCH_QUIESCE;
	kit->options.traps = NULL;
	thread_calls(world, hooks, hooks_once);
	thread_runs(world, runs, AT_SITE);
	thread_runs(world, runs_too, AT_SITE);
}

const struct scenario scenario_everybody = {
        .name = "everybody-patches",
        .what = "three cores at rest: one of them writes, each drops what only it can drop",
        .subject = "everybody-patches",
        .absent = needs_cores,
        .build = build_three,
};

const struct scenario scenario_before_quiescent = {
        .name = "patch-before-quiescent",
        .what = "the last of three cores to arrive patches",
        .subject = "patch-before-quiescent",
        .absent = needs_cores,
        .build = build_three,
};

/* ---- somebody stands in the window ---- */

static void build_stragglers(struct world *world)
{
	struct kit *kit = layout_hook(world, AT_SITE);

	kit->options.strategy = PATCH_QUIESCE;
	kit->options.traps = NULL;
	kit->options.tries = 3;
	thread_calls(world, hooks, hooks_once);
	/* It begins behind the first instruction. */
	thread_runs(world, "was preempted inside", AT_SITE + kit->second);
	world->thread[1].began = WORLD_OLD;
}

const struct scenario scenario_stragglers = {
        .name = "hook-stragglers",
        .what = "a thread was preempted between the two instructions: wait until it has left, or "
                "refuse",
        .build = build_stragglers,
};

/* ---- a load that is not complete ---- */

static void build_arrival(struct world *world)
{
	struct kit *kit = layout_key(world, AT_SITE);
	static const uint8_t old = 0x0D, new = 0x0E;
	unsigned literal;

	/* The instruction and the literal that it loads change together. */
	text_put(world, AT_SECOND, &old, 1);
	literal = site_add(world, AT_SECOND, &old, &new, 1);
	world->form[0].literal = world->form[1].literal = AT_SECOND;
	world->form[0].loads = old;
	world->form[1].loads = new;
	kit->registry[0] = registry_of(world, 0, literal + 1);
	kit->live[0].registry = kit->registry[0];
	kit->options.strategy = PATCH_QUIESCE;
	kit->options.traps = NULL;
	thread_calls(world, "changes code and literal", hooks_once);
	thread_runs(world, "loads the literal", AT_SITE);
}

const struct scenario scenario_arrival = {
        .name = "arrival-before-completion",
        .what = "an instruction changes together with the literal that it loads",
        .subject = "arrival-before-completion",
        .absent = needs_cores,
        .build = build_arrival,
};

/* ---- exceptions ---- */

static void build_exception(struct world *world)
{
	struct kit *kit = layout_hook(world, AT_SITE);

	kit->options.strategy = PATCH_QUIESCE;
	kit->options.traps = NULL;
	kit->options.clear_count = 0;
	/* The exception handler runs the function that is hooked; nobody else does. */
	world->vector = AT_SITE;
	world->vector_end = AT_NEW;
	thread_calls(world, hooks, hooks_once);
	thread_runs(world, "runs other code", AT_OTHER);
	add_loop(world, AT_OTHER);
}

const struct scenario scenario_exception = {
        .name = "exception-in-quiescence",
        .what = "cores take exceptions at any time, whose handler runs the site",
        .subject = "exception-in-quiescence",
        .build = build_exception,
};

/* ---- a thread that never stops ---- */

static void gives_up(struct port *port, void *arg)
{
	struct kit *kit = arg;
	int rc = patch_apply(port, kit->registry[0], &kit->options, NULL);

	world_assert(port, rc == -ETIMEDOUT, "a core that never stopped is said to be at rest");
	world_expect(port, 0, WORLD_OLD);
	kit_reads(port, kit, 0, WORLD_OLD);
}

static void build_never(struct world *world)
{
	struct kit *kit = layout_hook(world, AT_SITE);

	kit->options.strategy = PATCH_QUIESCE;
	kit->options.traps = NULL;
	kit->options.tries = 1;
	world->timeouts = true;
	thread_calls(world, hooks, gives_up);
	thread_runs(world, "never takes an interrupt", AT_SITE);
	world->thread[1].masked = true;
	thread_runs(world, "is willing", AT_NEW);
	world->thread[2].began = WORLD_NEW;
}

const struct scenario scenario_never_stops = {
        .name = "never-stops",
        .what = "one core never comes: nothing is written, and those that came go on",
        .absent = needs_cores,
        .build = build_never,
};

/* ---- cores that come late ---- */

static void patches_or_gives_up(struct port *port, void *arg)
{
	struct kit *kit = arg;
	int rc = patch_apply(port, kit->registry[0], &kit->options, NULL);

	world_assert(port, rc == 0 || rc == -ETIMEDOUT || rc == -EBUSY,
	             "neither patched nor refused");
	world_expect(port, 0, rc ? WORLD_OLD : WORLD_NEW);
	kit_reads(port, kit, 0, rc ? WORLD_OLD : WORLD_NEW);
}

static void build_late(struct world *world)
{
	struct kit *kit = layout_hook(world, AT_SITE);

	kit->options.strategy = PATCH_QUIESCE;
	kit->options.traps = NULL;
	kit->options.tries = 1;
	world->timeouts = true;
	thread_calls(world, hooks, patches_or_gives_up);
	thread_runs(world, "may come too late", AT_SITE);
	thread_runs(world, "may come too late, too", AT_SITE);
}

const struct scenario scenario_late = {
        .name = "late-arrival",
        .what = "any core may come after the others have given up",
        .absent = needs_cores,
        .build = build_late,
};

/* ---- two cache lines ---- */

static void build_straddle(struct world *world)
{
	unsigned offset = bytewise(world) ? 3 : 4;

	layout_hook(world, AT_SITE + WORLD_LINE - offset);
	thread_calls(world, hooks, hooks_and_unhooks);
	thread_runs(world, runs, AT_SITE + WORLD_LINE - offset);
}

const struct scenario scenario_straddle = {
        .name = "hook-two-lines",
        .what = "the hooked instructions lie in two cache lines",
        .build = build_straddle,
};
