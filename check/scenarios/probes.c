/* SPDX-License-Identifier: MIT */
/*
 * probes.c - a trap stays in the text, or was there a moment ago.
 */
#include <errno.h>
#include <string.h>
#include "check/scenarios/history.h"
#include "check/scenarios/list.h"

static void cycles(struct port *port, void *arg)
{
	struct kit *kit = arg;

	if (history_apply(port, kit)) {
		world_expect(port, 0, WORLD_NEW);
		return;
	}
	kit_apply(port, kit, 0);
	kit_revert(port, kit, 0);
	kit_apply(port, kit, 0);
}

static void use_history(struct world *world)
{
	if (world->variant == VARIANT_SAME_PLACE || world->variant == VARIANT_LOOKUP_ONLY ||
	    world->variant == VARIANT_LOOKUP_ONCE)
		world->trap = history_trap;
}

static void build_cycle(struct world *world)
{
	layout_probe(world);
	use_history(world);
	thread_calls(world, "adds, removes, adds a probe", cycles);
	thread_runs(world, "runs over the site", AT_SITE);
	thread_runs(world, "runs over it, too", AT_SITE);
}

const struct scenario scenario_probe_cycle = {
        .name = "probe-cycle",
        .what = "a probe added, removed and added again at the same place",
        .subject = "late-trap",
        .build = build_cycle,
};

/* ---- late traps ---- */

static void adds_and_removes(struct port *port, void *arg)
{
	struct kit *kit = arg;

	kit_apply(port, kit, 0);
	kit_revert(port, kit, 0);
}

static void build_late(struct world *world)
{
	layout_probe(world);
	use_history(world);
	thread_calls(world, "adds and removes a probe", adds_and_removes);
	thread_runs(world, "runs over the site", AT_SITE);
	thread_runs(world, "runs over it, too", AT_SITE);
}

const struct scenario scenario_late_trap = {
        .name = "late-trap",
        .what = "a trap is taken, and the probe is gone before the trap path looks it up",
        .subject = "late-trap",
        .build = build_late,
};

/* Others may patch the place as soon as it is free: nothing to be expected of it. */
static void adds_and_leaves(struct port *port, void *arg)
{
	struct kit *kit = arg;
	int rc = patch_apply(port, kit->registry[0], &kit->options, NULL);

	world_assert(port, rc == 0 || rc == -EUCLEAN, "neither patched nor refused");
	if (!rc)
		world_assert(port, patch_revert(port, kit->registry[0], &kit->options) == 0,
		             "a patch can not be taken back");
}

/* ---- a trap while something else is patched ---- */

static void patches_other(struct port *port, void *arg)
{
	struct kit *kit = arg;

	kit_apply(port, kit, 0);
	kit_apply(port, kit, 1);
	kit_revert(port, kit, 1);
}

static void build_meanwhile(struct world *world)
{
	struct kit *kit = layout_probe(world);

	/* From the probe to the key, and back. */
	world->form[0].next = world->form[1].next = AT_SECOND;
	kit->loop = AT_SITE;
	add_key(kit, 1, AT_SECOND, AT_SLOT + 8);
	lead_to(world, AT_NEW, 7, AT_SITE);
	thread_calls(world, "probes, then toggles a key", patches_other);
	thread_runs(world, "takes the probe's trap", AT_SITE);
}

const struct scenario scenario_trap_meanwhile = {
        .name = "trap-meanwhile",
        .what = "a probe is hit while another site is patched",
        .build = build_meanwhile,
};

/* ---- two owners of one place ---- */

/* The second comes when the first has gone, or finds its trap and is refused. */
static void takes_over(struct port *port, void *arg)
{
	struct kit *kit = arg;
	struct patch_options options = kit->options;
	int rc;

	options.live = &kit->live[1];
	rc = patch_apply(port, kit->registry[1], &options, NULL);
	world_assert(port, rc == 0 || rc == -EUCLEAN, "neither patched nor refused");
}

static void build_handover(struct world *world)
{
	struct kit *kit = layout_probe(world);

	kit->registry[1] = registry_of(world, 0, 1);
	kit->detours[1] = kit->detours[0];
	kit->live[1].registry = kit->registry[1];
	kit->live[1].detours = &kit->detours[1];
	use_history(world);
	thread_calls(world, "adds and removes a probe", adds_and_leaves);
	thread_calls(world, "adds its own there", takes_over);
	thread_runs(world, "runs over the site", AT_SITE);
}

const struct scenario scenario_handover = {
        .name = "probe-handover",
        .what = "a probe is removed, and somebody else adds one at the same place at once",
        .subject = "late-trap",
        .build = build_handover,
};

/* ---- displaced copies given back ---- */

static void gives_back(struct port *port, void *arg)
{
	struct kit *kit = arg;

	kit_apply(port, kit, 0);
	kit_revert(port, kit, 0);
	world_reclaim(port);
}

static void build_reclaim(struct world *world)
{
	layout_probe(world);
	thread_calls(world, "removes a probe, reuses its slot", gives_back);
	thread_runs(world, "runs over the site", AT_SITE);
	thread_runs(world, "runs over it, too", AT_SITE);
}

const struct scenario scenario_reclaim = {
        .name = "slot-reclaimed",
        .what = "after a removal the out-of-line slot is given back: nobody may be on the way to "
                "it",
        .build = build_reclaim,
};

static void gives_back_later(struct port *port, void *arg)
{
	struct kit *kit = arg;

	kit->options.later = true;
	kit_apply(port, kit, 0);
	kit_revert(port, kit, 0);
	port_point(port, PORT_POINT_GRACE);
	world_assert(port, port_grace(port, PORT_FOREVER) == 0, "they do not leave the trap path");
	world_reclaim(port);
}

static void build_reclaim_later(struct world *world)
{
	layout_probe(world);
	thread_calls(world, "removes a probe, reuses its slot later", gives_back_later);
	thread_runs(world, "runs over the site", AT_SITE);
}

const struct scenario scenario_reclaim_later = {
        .name = "slot-reclaimed-later",
        .what = "the same if it is the caller who waits, for many removals at once",
        .subject = "late-trap",
        .build = build_reclaim_later,
};

/* ---- what the trap path knows moves to another registry ---- */

/* The probe stays; the registry that it came with is given up for another, and taken back by way of
 * it again. */
static void moves(struct port *port, void *arg)
{
	struct kit *kit = arg;
	struct patch_options first = kit->options, other = kit->options;
	bool late = kit->world->variant == VARIANT_RETIRE_FIRST;

	first.deadline_ns = other.deadline_ns = PORT_FOREVER;
	other.live = &kit->live[1];
	if (!kit_apply(port, kit, 0))
		return;
	world_assert(port, late || patch_adopt(port, &other) == 0, "a registry is not adopted");
	world_assert(port, patch_retire(port, &first) == 0, "a registry is not retired");
	world_assert(port, !late || patch_adopt(port, &other) == 0, "a registry is not adopted");
	world_assert(port, patch_adopt(port, &first) == 0, "a registry is not adopted again");
	kit_revert(port, kit, 0);
	port_set(port, &kit->detours[1].gone, 1);
	world_assert(port, patch_retire(port, &other) == 0, "the other is not retired");
}

static void build_moved(struct world *world)
{
	struct kit *kit = layout_probe(world);

	kit->registry[1] = registry_of(world, 0, 1);
	kit->detours[1] = kit->detours[0];
	kit->live[1].registry = kit->registry[1];
	kit->live[1].detours = &kit->detours[1];
	thread_calls(world, "adds a probe, moves and removes it", moves);
	thread_runs(world, "runs over the site", AT_SITE);
}

const struct scenario scenario_moved = {
        .name = "registry-moved",
        .what = "a probe stays, while the trap path gets to know it from another registry",
        .subject = "late-trap",
        .build = build_moved,
};

/* ---- another registry comes meanwhile ---- */

static void adopts(struct port *port, void *arg)
{
	struct kit *kit = arg;
	struct patch_options other = kit->options;

	other.deadline_ns = PORT_FOREVER;
	other.live = &kit->live[1];
	world_assert(port, patch_adopt(port, &other) == 0, "a registry is not adopted");
}

static void cycles_patiently(struct port *port, void *arg)
{
	struct kit *kit = arg;

	kit_apply(port, kit, 0);
	kit_revert(port, kit, 0);
	kit_apply(port, kit, 0);
}

static void build_adopted(struct world *world)
{
	struct kit *kit = layout_probe(world);

	kit->loop = AT_SITE;
	add_key(kit, 1, AT_SECOND, AT_SLOT + 8);
	lead_to(world, AT_NEW, 7, AT_SITE);
	kit->options.deadline_ns = PORT_FOREVER;
	thread_calls(world, "adds, removes, adds a probe", cycles_patiently);
	thread_calls(world, "makes another known", adopts);
	thread_runs(world, "runs over the site", AT_SITE);
}

/* Millions of states where the cores are many, and nothing but shared words matters: on one machine
 * of each order of stores. */
static const char *adopted_absent(const struct machine *machine)
{
	static const char *const shown[] = {"kirkwood", "cortex-a53", "x86-64"};

	for (unsigned i = 0; i < sizeof(shown) / sizeof(shown[0]); i++)
		if (strcmp(machine->name, shown[i]) == 0)
			return NULL;
	return "it is about the order of shared words, which is shown on kirkwood, cortex-a53 and "
	       "x86-64";
}

const struct scenario scenario_adopted = {
        .name = "registry-adopted",
        .what = "the trap path gets to know another registry while a probe comes and goes",
        .subject = "late-trap",
        .absent = adopted_absent,
        .build = build_adopted,
};
