/* SPDX-License-Identifier: MIT */
/*
 * keys.c - one instruction becomes another while cores run over it.
 */
#include <errno.h>
#include "check/isa_model.h"
#include "check/scenarios/history.h"
#include "check/scenarios/list.h"

static const char runs[] = "runs over the site", patches[] = "patches";

/* ---- a key toggled while it is executed ---- */

static void toggles(struct port *port, void *arg)
{
	struct kit *kit = arg;

	if (history_apply(port, kit)) {
		world_expect(port, 0, WORLD_NEW);
		return;
	}
	kit_apply(port, kit, 0);
	kit_revert(port, kit, 0);
}

static void build_toggle(struct world *world)
{
	layout_key(world, AT_SITE);
	thread_calls(world, "toggles the key", toggles);
	thread_runs(world, runs, AT_SITE);
	thread_runs(world, "runs over it, too", AT_SITE);
}

const struct scenario scenario_key_toggle = {
        .name = "visible-everywhere",
        .what = "a key is switched on and off while another core runs over it",
        .subject = "visible-everywhere",
        .build = build_toggle,
};

static void build_breakpoint(struct world *world)
{
	struct kit *kit = layout_key(world, AT_SITE);

	kit->options.strategy = PATCH_BREAKPOINT;
	thread_calls(world, "toggles the key", toggles);
	thread_runs(world, runs, AT_SITE);
}

const char *needs_trap_pair(const struct machine *machine)
{
	uint8_t nop[4];

	if (machine->isa->unit == 1)
		return NULL;
	machine->isa->nop(nop, 4);
	return machine->isa->hotpatch_safe(nop, machine->isa->trap, machine->isa->trap_length,
	                                   AT_SITE)
	               ? NULL
	               : "the ISA lets no instruction be exchanged for a trap while it is "
	                 "executed: such a patch quiesces";
}

const struct scenario scenario_key_breakpoint = {
        .name = "key-breakpoint",
        .what = "a key is switched by way of a trap while another core runs over it",
        .subject = "visible-everywhere",
        .absent = needs_trap_pair,
        .build = build_breakpoint,
};

/* No detours: who meets the trap is held until its own transaction is over. */
static void toggles_held(struct port *port, void *arg)
{
	struct kit *kit = arg;
	struct patch_options options = kit->options;

	kit_apply(port, kit, 0);
	world_assert(port, patch_retire(port, &options) == 0, "a site can not be forgotten");
	/* Nobody looks at it any more. */
	world_reclaim(port);
}

static void build_held(struct world *world)
{
	struct kit *kit = layout_key(world, AT_SITE);

	kit->options.strategy = PATCH_BREAKPOINT;
	kit->live[0].detours = NULL;
	thread_calls(world, "switches the key on", toggles_held);
	thread_runs(world, runs, AT_SITE);
	thread_runs(world, "runs over it, too", AT_SITE);
}

const struct scenario scenario_key_held = {
        .name = "key-held",
        .what = "by way of a trap, and threads that meet it wait there",
        .subject = "late-trap",
        .absent = needs_trap_pair,
        .build = build_held,
};

static void build_quiesce(struct world *world)
{
	struct kit *kit = layout_key(world, AT_SITE);

	kit->options.strategy = PATCH_QUIESCE;
	thread_calls(world, "toggles the key", toggles);
	thread_runs(world, runs, AT_SITE);
}

const struct scenario scenario_key_quiesce = {
        .name = "key-quiesce",
        .what = "a key is switched while all cores have come to rest",
        .subject = "everybody-patches",
        .build = build_quiesce,
};

/* ---- two sites in one batch ---- */

static void toggles_both(struct port *port, void *arg)
{
	struct kit *kit = arg;

	kit_apply(port, kit, 0);
	kit_revert(port, kit, 0);
}

static void build_batch(struct world *world)
{
	layout_two_keys(world, AT_SECOND);
	thread_calls(world, "toggles both keys at once", toggles_both);
	thread_runs(world, "runs over both", AT_SITE);
}

const struct scenario scenario_batch = {
        .name = "batch-of-two",
        .what = "two sites in one transaction",
        .build = build_batch,
};

/* Both in one line, and written in one go. */
static void build_joined(struct world *world)
{
	struct kit *kit = layout_two_keys(world, AT_SITE + 8);

	kit->options.join = true;
	thread_calls(world, "toggles both keys in one go", toggles_both);
	thread_runs(world, "runs over both", AT_SITE);
	thread_runs(world, "runs over both, too", AT_SITE);
}

const struct scenario scenario_batch_joined = {
        .name = "batch-joined",
        .what = "two near sites, read and written as one stretch of text",
        .build = build_joined,
};

/* The same, and a write may fail. */
static void survives_batch(struct port *port, void *arg)
{
	struct kit *kit = arg;
	int rc = kit->world->variant ? history_batch(port, kit)
	                             : patch_apply(port, kit->registry[0], &kit->options, NULL);

	for (unsigned i = 0; i < 2; i++)
		world_expect(port, i, rc ? WORLD_OLD : WORLD_NEW);
	kit_reads(port, kit, 0, rc ? WORLD_OLD : WORLD_NEW);
}

static void build_batch_fails(struct world *world)
{
	build_batch(world);
	world->thread[0].calls = survives_batch;
	world->write_fails = 1;
}

const struct scenario scenario_batch_fails = {
        .name = "batch-fails",
        .what = "one of the writes of a transaction fails: all are taken back",
        .build = build_batch_fails,
};

/* Each of them may be changed while it is executed. */
static void leads_elsewhere(struct port *port, void *arg)
{
	struct kit *kit = arg;
	size_t failed = 0;
	int rc = patch_apply(port, kit->registry[0], &kit->options, &failed);

	for (unsigned i = 0; i < 2; i++)
		world_expect(port, i, rc ? WORLD_OLD : WORLD_NEW);
	kit_reads(port, kit, 0, rc ? WORLD_OLD : WORLD_NEW);
	world_assert(port, rc == 0 || rc == -EIO, "neither patched nor taken back");
}

static void build_nosync_joined(struct world *world)
{
	struct kit *kit = layout_two_branches(world, AT_SITE + 8);

	kit->options.strategy = PATCH_NOSYNC;
	kit->options.join = true;
	world->write_fails = 1;
	thread_calls(world, "leads both branches elsewhere", leads_elsewhere);
	thread_runs(world, "runs over both", AT_SITE);
	thread_runs(world, "runs over both, too", AT_SITE + 8);
}

static const char *needs_branch_pair(const struct machine *machine)
{
	uint8_t from[8], to[8];
	int length = machine->isa->branch(AT_SITE, AT_NEW, from, sizeof(from));

	return machine->isa->branch(AT_SITE, AT_NEW + 8, to, sizeof(to)) == length &&
	                       machine->isa->hotpatch_safe(from, to, (size_t)length, AT_SITE)
	               ? NULL
	               : "the ISA lets no branch be exchanged for another while it is executed";
}

const struct scenario scenario_nosync_joined = {
        .name = "nosync-joined",
        .what = "two near branches are led elsewhere while others run over them, and a write may "
                "fail",
        .subject = "nosync-sequence",
        .absent = needs_branch_pair,
        .build = build_nosync_joined,
};

/* ---- two patchers ---- */

static void patches_first(struct port *port, void *arg)
{
	kit_apply(port, arg, 0);
}

static void patches_second(struct port *port, void *arg)
{
	kit_apply(port, arg, 1);
}

static void build_patchers(struct world *world)
{
	struct kit *kit = layout_key(world, AT_SITE);

	world->form[0].next = AT_SITE + 8;
	add_key(kit, 1, AT_SITE + 8, AT_SLOT + 8);
	thread_calls(world, "patches the first site", patches_first);
	thread_calls(world, "patches the second", patches_second);
	thread_runs(world, "runs over both", AT_SITE);
}

const struct scenario scenario_two_patchers = {
        .name = "two-patchers",
        .what = "two cores patch two sites of one cache line at the same time",
        .build = build_patchers,
};

/* ---- data reads: add, remove, add again ---- */

static void adds_again(struct port *port, void *arg)
{
	struct kit *kit = arg;

	kit_reads(port, kit, 0, WORLD_OLD);
	if (history_apply(port, kit)) {
		kit_reads(port, kit, 0, WORLD_NEW);
		return;
	}
	kit_apply(port, kit, 0);
	kit_revert(port, kit, 0);
	kit_apply(port, kit, 0);
}

static void build_alias(struct world *world)
{
	layout_key(world, AT_SITE);
	thread_calls(world, "patches and reads", adds_again);
	thread_runs(world, runs, AT_SITE);
}

const struct scenario scenario_alias = {
        .name = "alias-stale-dcache",
        .what = "patched through an alias, read at the execution address, taken back, patched "
                "again",
        .subject = "alias-stale-dcache",
        .build = build_alias,
};

/* ---- byte order ---- */

static const char *needs_big_data(const struct machine *machine)
{
	if (!machine->big_endian)
		return "data is little-endian as the instructions are";
	return machine->isa == &isa_model_mips ? "instructions have the byte order of data" : NULL;
}

static void build_endian(struct world *world)
{
	layout_key(world, AT_SITE);
	thread_calls(world, patches, toggles);
	thread_runs(world, runs, AT_SITE);
}

const struct scenario scenario_endian = {
        .name = "endian",
        .what = "data is big-endian, instructions are not",
        .subject = "endian",
        .absent = needs_big_data,
        .build = build_endian,
};

/* A 32-bit T32 instruction at an odd halfword: no single store, so no nosync. */
static void toggles_halves(struct port *port, void *arg)
{
	struct kit *kit = arg;
	struct patch_options options = kit->options;

	if (history_apply(port, kit))
		return;
	options.strategy = PATCH_NOSYNC;
	world_assert(port, patch_apply(port, kit->registry[0], &options, NULL) < 0,
	             "two stores are taken for one");
	toggles(port, arg);
}

static const char *needs_t32(const struct machine *machine)
{
	return machine->isa == &isa_model_a32 && machine->cpus > 1
	               ? NULL
	               : "only T32 has instructions of two units";
}

static void build_halves(struct world *world)
{
	world->isa = &isa_model_t32;
	layout_key(world, AT_SITE + 2);
	thread_calls(world, patches, toggles_halves);
	thread_runs(world, runs, AT_SITE + 2);
}

const struct scenario scenario_halves = {
        .name = "endian-halfwords",
        .what = "a 32-bit Thumb instruction that is not aligned",
        .subject = "endian",
        .absent = needs_t32,
        .build = build_halves,
};

/* ---- unexpected bytes ---- */

static void finds_foreign(struct port *port, void *arg)
{
	struct kit *kit = arg;
	struct patch_options options = kit->options;
	int rc;

	if (history_apply(port, kit))
		return;
	rc = patch_apply(port, kit->registry[0], &options, NULL);
	world_assert(port, rc < 0, "bytes that nobody expected are overwritten");
}

static void build_foreign(struct world *world)
{
	struct kit *kit = layout_key(world, AT_SITE);
	uint8_t foreign[8];
	unsigned length = insn_branch(world, AT_SITE, AT_NEW + 8, foreign);

	/* Somebody else's branch stands there. */
	text_put(world, AT_SITE, foreign, length);
	world->forms = 0;
	form_add(world, AT_SITE, foreign, length, AT_SITE);
	world->trap = NULL;
	kit->options.traps = NULL;
	thread_calls(world, patches, finds_foreign);
	thread_runs(world, "runs somebody else's patch", AT_SITE);
}

const struct scenario scenario_foreign = {
        .name = "foreign-bytes",
        .what = "the expected old bytes are not there: nothing is written",
        .build = build_foreign,
};

/* ---- the protocol's own text ---- */

static void patches_itself(struct port *port, void *arg)
{
	struct kit *kit = arg;
	struct patch_options options = kit->options;

	if (history_apply(port, kit))
		return;
	world_assert(port, patch_apply(port, kit->registry[0], &options, NULL) == -1,
	             "the protocol patches the text that it executes");
}

static void build_self(struct world *world)
{
	layout_key(world, AT_SITE);
	world->protocol = AT_SITE;
	thread_calls(world, "patches its own text", patches_itself);
}

const struct scenario scenario_self = {
        .name = "self-patching",
        .what = "a site lies in text that the patching path itself executes",
        .subject = "self-patching",
        .build = build_self,
};

/* ---- one write fails half way ---- */

static void survives_failure(struct port *port, void *arg)
{
	struct kit *kit = arg;
	struct patch_options options = kit->options;
	int rc = patch_apply(port, kit->registry[0], &options, NULL);

	world_expect(port, 0, rc ? WORLD_OLD : WORLD_NEW);
	kit_reads(port, kit, 0, rc ? WORLD_OLD : WORLD_NEW);
}

static void build_failure(struct world *world)
{
	build_toggle(world);
	world->thread[0].calls = survives_failure;
	world->write_fails = 1;
}

const struct scenario scenario_failure = {
        .name = "write-fails",
        .what = "a write to text fails half way: everything is taken back",
        .build = build_failure,
};
