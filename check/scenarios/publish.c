/* SPDX-License-Identifier: MIT */
/*
 * publish.c - code that was not there before.
 */
#include <string.h>
#include "check/scenarios/history.h"
#include "check/scenarios/list.h"

/* New code in the slot, then a branch to it. */
static void publishes(struct port *port, void *arg)
{
	struct kit *kit = arg;
	struct port_pages page = {.address = AT_SLOT, .size = WORLD_LINE};
	uint8_t now[16];

	/* Whoever looks at memory before it writes there. */
	(void)!port_read(port, kit->code_at, now, kit->code_size);
	if (!history_apply(port, kit))
		world_assert(
		        port,
		        patch_publish(port,
		                      &(struct sync_code){kit->code_at, kit->code, kit->code_size},
		                      1, kit->deferred ? &page : NULL, 1000000) == 0,
		        "code can not be published");
	world_assert(port,
	             port_read(port, kit->code_at, now, kit->code_size) == 0 &&
	                     memcmp(now, kit->code, kit->code_size) == 0,
	             "a data read of published code finds what was there before");
	kit_apply(port, kit, 0);
}

/*
 * Site 0: a nop that becomes a branch to AT_SLOT, whose memory had an earlier life.
 */
static struct kit *layout_publish(struct world *world)
{
	struct kit *kit = layout_key(world, AT_SITE);
	struct world_site *site = &world->site[0];
	uint8_t earlier[8];
	unsigned length;

	/* The displaced copy is not needed, nor is AT_NEW. */
	world->forms = 1;
	world->ours_start = world->ours_end = 0;
	insn_branch(world, AT_SITE, AT_SLOT, site->patched);
	form_of(world, 0, WORLD_NEW, AT_SITE, site->patched, site->length, AT_SLOT);
	memcpy(kit->registry[0]->sites[0].patched, site->patched, site->length);
	kit->detours[0].patched = AT_SLOT;

	length = insn_plain(world, 2, earlier);
	text_put(world, AT_SLOT, earlier, length);
	kit->code_at = AT_SLOT;
	kit->code_size = insn_plain(world, 3, kit->code);
	form_add(world, AT_SLOT, kit->code, kit->code_size, AT_SITE);
	return kit;
}

static void build_publish(struct world *world)
{
	layout_publish(world);
	thread_calls(world, "copies code, then leads to it", publishes);
	thread_runs(world, "goes where it is led", AT_SITE);
}

const struct scenario scenario_publish = {
        .name = "publish-other-users",
        .what = "a function is copied to memory that had another life, and called",
        .subject = "publish-other-users",
        .build = build_publish,
};

/* ---- two cores write to one line ---- */

static void publishes_near(struct port *port, void *arg)
{
	struct kit *kit = arg;

	world_assert(port,
	             patch_publish(port,
	                           &(struct sync_code){kit->code_at, kit->code, kit->code_size}, 1,
	                           NULL, 1000000) == 0,
	             "code can not be published");
}

static void patches_near(struct port *port, void *arg)
{
	kit_apply(port, arg, 0);
}

static void build_near(struct world *world)
{
	struct kit *kit = layout_key(world, AT_SITE);

	kit->code_at = AT_SITE + 8;
	kit->code_size = insn_plain(world, 3, kit->code);
	thread_calls(world, "publishes beside the site", publishes_near);
	thread_calls(world, "patches the site", patches_near);
}

const struct scenario scenario_publish_near = {
        .name = "publish-beside-patch",
        .what = "one core publishes code in the cache line in which another patches",
        .subject = "publish-other-users",
        .build = build_near,
};

/* ---- an out-of-line slot, then the probe that leads to it ---- */

static void adds_probe(struct port *port, void *arg)
{
	struct kit *kit = arg;

	if (!history_apply(port, kit))
		world_assert(
		        port,
		        patch_publish(port,
		                      &(struct sync_code){kit->code_at, kit->code, kit->code_size},
		                      1, NULL, 1000000) == 0,
		        "a slot can not be published");
	kit_apply(port, kit, 0);
	kit_revert(port, kit, 0);
}

static void build_slot(struct world *world)
{
	struct kit *kit = layout_probe(world);
	const struct world_site *site = &world->site[0];
	uint8_t earlier[8];
	unsigned length = insn_plain(world, 2, earlier);

	text_put(world, AT_SLOT, earlier, length);
	kit->code_at = AT_SLOT;
	kit->code_size = site->length;
	memcpy(kit->code, site->original, site->length);
	thread_calls(world, "fills a slot, adds a probe", adds_probe);
	thread_runs(world, "runs over the site", AT_SITE);
}

const struct scenario scenario_slot = {
        .name = "out-of-line-slot",
        .what = "an out-of-line slot is filled and executed as soon as the probe is there",
        .subject = "publish-other-users",
        .build = build_slot,
};

/* ---- a page that is mapped later ---- */

static void build_deferred(struct world *world)
{
	struct kit *kit = layout_publish(world);

	kit->deferred = true;
	for (unsigned i = 0; i < world->lines; i++)
		world->line_absent[i] = world->line_address[i] == AT_SLOT;
	thread_calls(world, "writes, maps, leads there", publishes);
	thread_runs(world, "goes where it is led", AT_SITE);
}

const struct scenario scenario_deferred = {
        .name = "xol-unmapped",
        .what = "the page that code is written to is mapped at its execution address later",
        .subject = "xol-unmapped",
        .build = build_deferred,
};

/* ---- a JIT changes what it has published ---- */

static void modifies(struct port *port, void *arg)
{
	struct kit *kit = arg;

	world_assert(port,
	             patch_publish(port, &(struct sync_code){AT_SITE, kit->code, kit->code_size}, 1,
	                           NULL, 1000000) == 0,
	             "code can not be published");
	kit_apply(port, kit, 0);
	kit_revert(port, kit, 0);
}

static void build_jit(struct world *world)
{
	struct kit *kit = layout_key(world, AT_SITE);
	const struct world_site *site = &world->site[0];

	/* It publishes what is there, as far as the other core can tell. */
	kit->code_size = site->length;
	memcpy(kit->code, site->original, site->length);
	thread_calls(world, "publishes, then modifies", modifies);
	thread_runs(world, "runs what was published", AT_SITE);
}

const struct scenario scenario_jit = {
        .name = "jit-modifies",
        .what = "a JIT publishes code, then changes one instruction of it while it runs",
        .subject = "publish-other-users",
        .build = build_jit,
};
