/* SPDX-License-Identifier: MIT */
/*
 * failures.c - what can not be done in the ordinary way: writes fail, cores are late, somebody is
 * in the way. Whatever a call returns, nobody is killed, nobody hangs, and what it says is true.
 */
#include <errno.h>
#include <string.h>
#include "check/scenarios/history.h"
#include "check/scenarios/list.h"

static const char runs[] = "runs over the site";

/* ---- apply, in circumstances ---- */

/* What it returns, the text is in that state, whole, and only that is executed. */
static void patches_or_not(struct port *port, void *arg)
{
	struct kit *kit = arg;
	size_t failed = SIZE_MAX;
	int rc = patch_apply(port, kit->registry[0], &kit->options, &failed);
	unsigned state = rc ? WORLD_OLD : WORLD_NEW;

	for (unsigned i = 0; i < kit->registry[0]->count; i++)
		world_expect(port, i, state);
	kit_reads(port, kit, 0, state);
	world_assert(port, rc == 0 || rc == -EIO || rc == -EBUSY || rc == -ETIMEDOUT,
	             "neither patched nor refused");
	world_assert(port, rc != -EIO || failed < kit->registry[0]->count,
	             "a site failed, but it is not said which");
}

/* Only that nobody is killed or hangs; a line that can not be written may stay as it is. */
static void tries_to_patch(struct port *port, void *arg)
{
	struct kit *kit = arg;

	(void)!patch_apply(port, kit->registry[0], &kit->options, NULL);
}

static void build_two(struct world *world)
{
	struct kit *kit = layout_two_keys(world, AT_SECOND);

	kit->options.strategy = PATCH_BREAKPOINT;
	world->unwritable = AT_SECOND;
	thread_calls(world, "patches both", patches_or_not);
	thread_runs(world, "runs over both", AT_SITE);
}

const struct scenario scenario_unwritable = {
        .name = "unwritable-second",
        .what = "by way of traps, and the second site's page can never be written",
        .absent = needs_trap_pair,
        .build = build_two,
};

static void build_failures(struct world *world)
{
	struct kit *kit = layout_key(world, AT_SITE);

	kit->options.strategy = PATCH_BREAKPOINT;
	world->write_fails = 2;
	thread_calls(world, "patches", tries_to_patch);
	thread_runs(world, runs, AT_SITE);
}

const struct scenario scenario_two_failures = {
        .name = "two-failures",
        .what = "a write fails, and then one on the way back",
        .absent = needs_trap_pair,
        .build = build_failures,
};

static void build_late(struct world *world)
{
	struct kit *kit = layout_key(world, AT_SITE);

	kit->options.strategy = PATCH_BREAKPOINT;
	world->timeouts = true;
	thread_calls(world, "patches", tries_to_patch);
	thread_runs(world, "may come too late", AT_SITE);
}

const struct scenario scenario_late_breakpoint = {
        .name = "late-breakpoint",
        .what = "by way of a trap, and a core does not drop its I-cache lines in time",
        .absent = needs_trap_pair,
        .build = build_late,
};

static void build_hook_fails(struct world *world)
{
	struct kit *kit = layout_hook(world, AT_SITE);

	kit->options.strategy = PATCH_QUIESCE;
	kit->options.traps = NULL;
	world->write_fails = 1;
	thread_calls(world, "hooks", patches_or_not);
	thread_runs(world, runs, AT_SITE);
}

const struct scenario scenario_hook_fails = {
        .name = "hook-write-fails",
        .what = "all at rest, and a write fails half way",
        .build = build_hook_fails,
};

static void build_stop_late(struct world *world)
{
	build_hook_fails(world);
	world->write_fails = 0;
	world->stop_outside = true;
	world->timeouts = true;
}

const struct scenario scenario_stop_late = {
        .name = "stop-in-time-or-not",
        .what = "all are stopped from outside, or some can not be in time",
        .absent = needs_broadcast,
        .build = build_stop_late,
};

static int refuses(void *arg)
{
	(void)arg;
	return -EPERM;
}

static void is_refused(struct port *port, void *arg)
{
	struct kit *kit = arg;

	world_assert(port, patch_apply(port, kit->registry[0], &kit->options, NULL) == -EPERM,
	             "what `begin` refuses is done");
	world_expect(port, 0, WORLD_OLD);
	kit_reads(port, kit, 0, WORLD_OLD);
}

static void build_refused(struct world *world)
{
	struct kit *kit;

	build_hook_fails(world);
	kit = (struct kit *)world->memory;
	kit->options.begin = refuses;
	kit->options.clear_count = 0;
	world->write_fails = 0;
	world->thread[0].calls = is_refused;
}

const struct scenario scenario_begin_refuses = {
        .name = "begin-refuses",
        .what = "all at rest, and the caller decides against it",
        .build = build_refused,
};

/* ---- what is given back after a failure ---- */

static void reclaims(struct port *port, void *arg)
{
	struct kit *kit = arg;

	if (patch_apply(port, kit->registry[0], &kit->options, NULL))
		world_reclaim(port);
}

static void build_reclaims(struct world *world)
{
	layout_hook(world, AT_SITE);
	world->write_fails = 1;
	thread_calls(world, "fails, reuses the slot", reclaims);
	thread_runs(world, runs, AT_SITE);
}

const struct scenario scenario_failed_reclaim = {
        .name = "failed-reclaimed",
        .what = "after an apply that failed the displaced copies are given back",
        .build = build_reclaims,
};

/* ---- revert, in circumstances ---- */

static void tries_to_revert(struct port *port, void *arg)
{
	struct kit *kit = arg;
	int rc = patch_apply(port, kit->registry[0], &kit->options, NULL);

	if (!rc)
		(void)!patch_revert(port, kit->registry[0], &kit->options);
}

static void build_late_revert(struct world *world)
{
	build_late(world);
	world->thread[0].calls = tries_to_revert;
}

const struct scenario scenario_late_revert = {
        .name = "late-revert",
        .what = "taken back by way of a trap, and a core is late",
        .absent = needs_trap_pair,
        .build = build_late_revert,
};

static void build_revert_failures(struct world *world)
{
	build_failures(world);
	world->thread[0].calls = tries_to_revert;
}

const struct scenario scenario_revert_failures = {
        .name = "revert-failures",
        .what = "two of the writes of an apply and its revert fail",
        .absent = needs_trap_pair,
        .build = build_revert_failures,
};

static void repeats(struct port *port, void *arg)
{
	struct kit *kit = arg;
	int rc = patch_apply(port, kit->registry[0], &kit->options, NULL);

	if (!rc)
		rc = patch_revert(port, kit->registry[0], &kit->options);
	if (rc != -ETIMEDOUT || port_load(port, &kit->live[0].phase) == PATCH_GONE)
		return;
	rc = patch_revert(port, kit->registry[0], &kit->options);
	world_assert(port, rc == 0 || rc == -ETIMEDOUT || rc == -EBUSY,
	             "a revert that was late can not be repeated");
}

static void build_repeats(struct world *world)
{
	layout_probe(world);
	world->timeouts = true;
	thread_calls(world, "removes a probe, perhaps twice", repeats);
	thread_runs(world, "may come too late", AT_SITE);
}

const struct scenario scenario_late_repeat = {
        .name = "late-repeat",
        .what = "a revert is late for some core, and is done again",
        .build = build_repeats,
};

/* A thread stays where nobody may be: the probe stays, too, and works. */
static void is_busy(struct port *port, void *arg)
{
	struct kit *kit = arg;
	struct patch_options options = kit->options;

	options.clear_count = 0;
	if (!patch_apply(port, kit->registry[0], &options, NULL))
		(void)!patch_revert(port, kit->registry[0], &kit->options);
}

static void build_busy(struct world *world)
{
	struct kit *kit = layout_probe(world);

	kit->options.strategy = PATCH_QUIESCE;
	kit->options.clear = kit->clear;
	kit->options.clear_count = 1;
	kit->clear[0] = (struct port_range){AT_OTHER, AT_OTHER + 4};
	world->form[0].next = world->form[1].next = AT_OTHER;
	lead_to(world, AT_OTHER, 7, AT_SITE);
	thread_calls(world, "removes a probe at rest", is_busy);
	thread_runs(world, runs, AT_SITE);
}

const struct scenario scenario_revert_busy = {
        .name = "revert-busy",
        .what = "a probe can not be removed, because a thread stands where nobody may be",
        .build = build_busy,
};

/* A breakpoint that could neither be finished nor taken back is taken back at rest. */
static void recovers(struct port *port, void *arg)
{
	struct kit *kit = arg;
	struct patch_options options = kit->options;
	int rc = patch_apply(port, kit->registry[0], &options, NULL);

	if (!rc)
		return;
	options.strategy = PATCH_QUIESCE;
	rc = patch_revert(port, kit->registry[0], &options);
	world_assert(port, rc == 0, "what an interrupted apply left can not be taken back");
	world_expect(port, 0, WORLD_OLD);
	kit_reads(port, kit, 0, WORLD_OLD);
}

static void build_recovers(struct world *world)
{
	build_failures(world);
	world->thread[0].calls = recovers;
}

const struct scenario scenario_recovers = {
        .name = "recover-at-rest",
        .what = "an apply fails and so does its way back; then all come to rest and it is undone",
        .absent = needs_trap_pair,
        .build = build_recovers,
};

/* ---- strategies that are not legal, bytes that are not there ---- */

static void insists(struct port *port, void *arg)
{
	struct kit *kit = arg;
	struct patch_options options = kit->options;

	options.strategy = PATCH_NOSYNC;
	world_assert(port, patch_apply(port, kit->registry[0], &options, NULL) == -EINVAL,
	             "two instructions are taken for one");
	options.strategy = PATCH_BREAKPOINT;
	if (!bytewise(kit->world))
		world_assert(port, patch_apply(port, kit->registry[0], &options, NULL) == -EINVAL,
		             "new code without a trap where an old instruction began");
}

static void build_insists(struct world *world)
{
	layout_hook(world, AT_SITE);
	thread_calls(world, "demands what is not legal", insists);
	thread_runs(world, runs, AT_SITE);
}

const struct scenario scenario_illegal = {
        .name = "illegal-strategy",
        .what = "a strategy is demanded that is not legal for the site",
        .subject = "nosync-sequence",
        .build = build_insists,
};

static void finds_foreign(struct port *port, void *arg)
{
	struct kit *kit = arg;
	struct patch_options options = kit->options;

	for (unsigned strategy = PATCH_QUIESCE; strategy <= PATCH_CHEAPEST; strategy++) {
		options.strategy = (enum patch_strategy)strategy;
		world_assert(port, patch_apply(port, kit->registry[0], &options, NULL) < 0,
		             "bytes that nobody expected are overwritten");
	}
}

static void build_foreign(struct world *world)
{
	uint8_t foreign[8];
	unsigned length;

	layout_key(world, AT_SITE);
	length = insn_branch(world, AT_SITE, AT_NEW + 8, foreign);
	text_put(world, AT_SITE, foreign, length);
	world->forms = 0;
	form_add(world, AT_SITE, foreign, length, AT_SITE);
	thread_calls(world, "tries each strategy", finds_foreign);
	thread_runs(world, "runs somebody else's patch", AT_SITE);
}

const struct scenario scenario_foreign_any = {
        .name = "foreign-any-strategy",
        .what = "the expected old bytes are not there, whatever the strategy",
        .build = build_foreign,
};

/* ---- a neighbour's breakpoint on what we patched ---- */

static void meets_neighbour(struct port *port, void *arg)
{
	struct kit *kit = arg;
	const struct sync_site *site = &kit->registry[0]->sites[0];
	const struct isa *isa = kit->world->isa;
	uint8_t now[SYNC_SITE_MAX];
	struct port_view view;

	if (patch_apply(port, kit->registry[0], &kit->options, NULL))
		return;
	if (port_view_open(port, site->address, isa->trap_length, &view) ||
	    port_write(port, &view, site->address, isa->trap, isa->trap_length))
		return;
	port_clean_written(port, &view, site->address, isa->trap_length);
	port_view_close(port, &view);
	port_drop_read(port, site->address, isa->trap_length);
	world_assert(port, patch_revert(port, kit->registry[0], &kit->options) == 0,
	             "a patch can not be taken back");
	world_assert(port,
	             port_read(port, site->address, now, site->length) == 0 &&
	                     memcmp(now, isa->trap, isa->trap_length) == 0,
	             "a neighbour's breakpoint is overwritten");
	world_assert(port,
	             memcmp(now + isa->trap_length, site->original + isa->trap_length,
	                    site->length - isa->trap_length) == 0,
	             "what is beside a neighbour's breakpoint is not restored");
}

static void build_neighbour(struct world *world)
{
	struct kit *kit = layout_hook(world, AT_SITE);

	kit->options.strategy = PATCH_QUIESCE;
	kit->options.traps = NULL;
	kit->options.clear_count = 0;
	/* Nobody runs it: this is about what is left in the text. */
	thread_calls(world, "hooks, meets a neighbour, unhooks", meets_neighbour);
	world->thread[0].then = 0;
}

const struct scenario scenario_neighbour = {
        .name = "neighbour",
        .what = "somebody else has put a breakpoint on what was patched in: it stays, the rest "
                "goes",
        .build = build_neighbour,
};

/* ---- one byte, not the first ---- */

static const char *needs_bytes(const struct machine *machine)
{
	return machine->isa->unit == 1 ? NULL : "instructions are words, and are stored whole";
}

static void build_inner_byte(struct world *world)
{
	static const uint8_t old[] = {0x83, 0xC0, 0x01}, new[] = {0x83, 0xC0, 0x02};
	struct kit *kit = layout_key(world, AT_SITE);
	unsigned site;

	/* add $1, %eax and add $2, %eax */
	world->forms = world->sites = 0;
	kit->options.strategy = PATCH_NOSYNC;
	site = site_add(world, AT_SITE, old, new, sizeof(old));
	form_of(world, site, WORLD_OLD, AT_SITE, old, sizeof(old), AT_SITE);
	form_of(world, site, WORLD_NEW, AT_SITE, new, sizeof(new), AT_SITE);
	kit->registry[0] = registry_of(world, 0, 1);
	kit->live[0].registry = kit->registry[0];
	world->write_fails = 1;
	thread_calls(world, "changes the operand", patches_or_not);
	thread_runs(world, runs, AT_SITE);
}

const struct scenario scenario_inner_byte = {
        .name = "operand-byte",
        .what = "one byte of an instruction changes that is not its first; the write may fail",
        .absent = needs_bytes,
        .build = build_inner_byte,
};

/* ---- the lock ---- */

static void first_or_late(struct port *port, void *arg)
{
	struct kit *kit = arg;
	int rc = patch_apply(port, kit->registry[0], &kit->options, NULL);

	world_assert(port, rc == 0 || rc == -ETIMEDOUT, "neither patched nor refused");
	if (!rc)
		(void)!patch_revert(port, kit->registry[0], &kit->options);
}

static void second_or_late(struct port *port, void *arg)
{
	struct kit *kit = arg;
	struct patch_options options = kit->options;
	int rc;

	options.live = &kit->live[1];
	rc = patch_apply(port, kit->registry[1], &options, NULL);
	world_assert(port, rc == 0 || rc == -ETIMEDOUT, "neither patched nor refused");
	if (rc && kit->world->machine->broadcast)
		kit_reads(port, kit, 1, WORLD_OLD);
}

static void build_lock_late(struct world *world)
{
	struct kit *kit = layout_key(world, AT_SITE);

	world->form[0].next = AT_SITE + 8;
	add_key(kit, 1, AT_SITE + 8, AT_SLOT + 8);
	world->timeouts = true;
	thread_calls(world, "patches the first, and back", first_or_late);
	thread_calls(world, "patches the second, if it gets the lock", second_or_late);
}

const struct scenario scenario_lock_late = {
        .name = "lock-late",
        .what = "two patchers, and one may wait too long for the other",
        .build = build_lock_late,
};

/* ---- publishing ---- */

static void publishes_or_not(struct port *port, void *arg)
{
	struct kit *kit = arg;

	/* What was not published is not led to. */
	if (patch_publish(port, &(struct sync_code){kit->code_at, kit->code, kit->code_size}, 1,
	                  NULL, 1000000) == 0)
		patches_or_not(port, arg);
}

static void build_publish_fails(struct world *world)
{
	scenario_publish.build(world);
	world->thread[0].calls = publishes_or_not;
	world->write_fails = 1;
}

const struct scenario scenario_publish_fails = {
        .name = "publish-fails",
        .what = "code can only be published in part, and it is said so",
        .subject = "publish-other-users",
        .build = build_publish_fails,
};

/* ---- patches of patches ---- */

static void nests(struct port *port, void *arg)
{
	struct kit *kit = arg;
	struct patch_options options = kit->options;

	if (patch_apply(port, kit->registry[0], &options, NULL))
		return;
	options.live = &kit->live[1];
	(void)!patch_apply(port, kit->registry[1], &options, NULL);
}

static void build_nested(struct world *world)
{
	struct kit *kit = layout_key(world, AT_SITE);
	struct sync_site *site;

	kit->registry[1] = registry_of(world, 0, 1);
	site = &kit->registry[1]->sites[0];
	memcpy(site->original, site->patched, site->length);
	insn_trap(world, site->patched);
	kit->detours[1] = (struct patch_detour){.patched = AT_NEW, .displaced = AT_NEW};
	kit->live[1].registry = kit->registry[1];
	kit->live[1].detours = &kit->detours[1];
	thread_calls(world, "a key, then a probe on it", nests);
	thread_runs(world, runs, AT_SITE);
}

const struct scenario scenario_nested = {
        .name = "probe-on-key",
        .what = "a probe is put on what was patched in",
        .build = build_nested,
};
