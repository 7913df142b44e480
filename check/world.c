/* SPDX-License-Identifier: MIT */
/*
 * world.c - bricks for scenarios: text, instructions, threads, whatever the ISA.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "check/isa_model.h"
#include "check/scenario.h"

static void broken(const char *what)
{
	fprintf(stderr, "suture-check: a scenario is wrong: %s\n", what);
	abort();
}

bool bytewise(const struct world *world)
{
	return world->isa->unit == 1;
}

/* ---- memory ---- */

void *world_new(struct world *world, size_t size)
{
	void *new = world->memory + world->memory_used;

	world->memory_used += (size + 15) & ~(size_t)15;
	if (world->memory_used > sizeof(world->memory))
		broken("too much memory");
	return new;
}

static unsigned line_of(struct world *world, uint32_t address)
{
	uint32_t start = address & ~(uint32_t)(WORLD_LINE - 1);

	for (unsigned i = 0; i < world->lines; i++)
		if (world->line_address[i] == start)
			return i;
	if (world->lines == WORLD_LINES)
		broken("too many lines");
	world->line_address[world->lines] = start;
	return world->lines++;
}

void line_add(struct world *world, uint32_t address)
{
	line_of(world, address);
}

void text_put(struct world *world, uint32_t address, const void *bytes, unsigned size)
{
	const uint8_t *in = bytes;

	for (unsigned i = 0; i < size; i++)
		world->line_first[line_of(world, address + i)][(address + i) % WORLD_LINE] = in[i];
}

/* ---- instructions ---- */

/* An addition of a constant; `vary` is the byte that the constant or the register is in. */
static const struct plain {
	const struct isa *isa;
	uint8_t length, vary, bytes[4];
} plains[] = {
        {&isa_x86_64, 3, 2, {0x83, 0xC0, 0x01}},            /* add $k, %eax */
        {&isa_model_a64, 4, 0, {0x20, 0x04, 0x00, 0x91}},   /* add x0+k, x1, #1 */
        {&isa_model_a32, 4, 0, {0x01, 0x00, 0x80, 0xE2}},   /* add r0, r0, #k */
        {&isa_model_t32, 4, 2, {0x00, 0xF1, 0x01, 0x00}},   /* add.w r0, r0, #k */
        {&isa_model_mips, 4, 3, {0x24, 0x42, 0x00, 0x01}},  /* addiu v0, v0, k */
        {&isa_model_riscv, 4, 2, {0x13, 0x05, 0x15, 0x00}}, /* addi a0, a0, k */
};

static const struct plain *plain_of(const struct world *world)
{
	for (unsigned i = 0; i < sizeof(plains) / sizeof(plains[0]); i++)
		if (plains[i].isa == world->isa)
			return &plains[i];
	broken("an instruction set without an ordinary instruction");
	return NULL;
}

unsigned insn_length(const struct world *world)
{
	return plain_of(world)->length;
}

unsigned insn_plain(const struct world *world, unsigned k, uint8_t *out)
{
	const struct plain *plain = plain_of(world);
	unsigned step = plain->isa == &isa_model_riscv ? 16 : 1;

	memcpy(out, plain->bytes, plain->length);
	out[plain->vary] = (uint8_t)(out[plain->vary] + k * step);
	return plain->length;
}

unsigned insn_nop(const struct world *world, uint8_t *out)
{
	unsigned length = bytewise(world) ? 5 : 4;

	world->isa->nop(out, length);
	return length;
}

unsigned insn_branch(const struct world *world, uint32_t from, uint32_t to, uint8_t *out)
{
	int length = world->isa->branch(from, to, out, 8);

	if (length < 0)
		broken("a branch that does not reach");
	return (unsigned)length;
}

unsigned insn_trap(const struct world *world, uint8_t *out)
{
	memcpy(out, world->isa->trap, world->isa->trap_length);
	return world->isa->trap_length;
}

struct world_form *form_add(struct world *world, uint32_t address, const uint8_t *bytes,
                            unsigned length, uint32_t next)
{
	struct world_form *form = &world->form[world->forms];

	if (world->forms++ == WORLD_FORMS)
		broken("too many instructions");
	*form = (struct world_form){.address = address,
	                            .length = (uint8_t)length,
	                            .site = WORLD_NO_SITE,
	                            .states = WORLD_ANY,
	                            .next = next};
	memcpy(form->bytes, bytes, length);
	return form;
}

struct world_form *form_of(struct world *world, unsigned site, unsigned states, uint32_t address,
                           const uint8_t *bytes, unsigned length, uint32_t next)
{
	struct world_form *form = form_add(world, address, bytes, length, next);

	form->site = (uint8_t)site;
	form->states = (uint8_t)states;
	return form;
}

/* ---- sites, threads ---- */

unsigned site_add(struct world *world, uint32_t address, const uint8_t *original,
                  const uint8_t *patched, unsigned length)
{
	struct world_site *site = &world->site[world->sites];

	if (world->sites == WORLD_SITES)
		broken("too many sites");
	*site = (struct world_site){.address = address, .length = (uint8_t)length};
	memcpy(site->original, original, length);
	memcpy(site->patched, patched, length);
	text_put(world, address, original, length);
	return world->sites++;
}

static struct world_thread *thread_new(struct world *world, const char *role)
{
	if (world->threads == WORLD_THREADS)
		broken("too many threads");
	world->thread[world->threads].role = role;
	return &world->thread[world->threads++];
}

void thread_runs(struct world *world, const char *role, uint32_t start)
{
	thread_new(world, role)->start = start;
}

void thread_calls(struct world *world, const char *role,
                  void (*calls)(struct port *port, void *arg))
{
	struct world_thread *thread = thread_new(world, role);

	thread->calls = calls;
	thread->arg = world->memory; /* the kit is the first thing there */
	thread->then = ((struct kit *)thread->arg)->loop;
}

struct patch_registry *registry_of(struct world *world, unsigned first_site, unsigned count)
{
	struct patch_registry *registry = world_new(world, patch_registry_size(count));

	registry->count = count;
	for (unsigned i = 0; i < count; i++) {
		const struct world_site *site = &world->site[first_site + i];

		registry->sites[i].address = site->address;
		registry->sites[i].length = site->length;
		registry->sites[i].boundaries = 1;
		memcpy(registry->sites[i].original, site->original, site->length);
		memcpy(registry->sites[i].patched, site->patched, site->length);
	}
	return registry;
}

/* ---- layouts ---- */

static uint64_t shipped_trap(struct port *port, uint64_t pc, void *arg)
{
	struct kit *kit = arg;

	return patch_trap(port, pc, &kit->traps);
}

static void name_word(struct world *world, const uint32_t *word, const char *name)
{
	unsigned i = 0;

	while (world->names[i].word)
		i++;
	world->names[i].word = word;
	world->names[i].name = name;
}

static struct kit *kit_new(struct world *world)
{
	struct kit *kit = world_new(world, sizeof(*kit));

	kit->world = world;
	kit->traps = (struct patch_traps){.isa = world->isa, .count = 2, .live = kit->live};
	kit->options = (struct patch_options){.isa = world->isa,
	                                      .strategy = PATCH_CHEAPEST,
	                                      .traps = &kit->traps,
	                                      .live = &kit->live[0],
	                                      .deadline_ns = 1000000,
	                                      .tries = 2};
	name_word(world, &kit->traps.generation, "the generation");
	world->trap = shipped_trap;
	world->trap_arg = kit;
	return kit;
}

/* A registry of one site, known to the trap path under the same number. */
static void register_site(struct kit *kit, unsigned i, unsigned site, uint32_t patched,
                          uint32_t displaced)
{
	kit->registry[i] = registry_of(kit->world, site, 1);
	kit->detours[i] = (struct patch_detour){.patched = patched, .displaced = displaced};
	kit->live[i].registry = kit->registry[i];
	kit->live[i].detours = &kit->detours[i];
	name_word(kit->world, &kit->registry[i]->state, "the registry's state");
	name_word(kit->world, &kit->live[i].phase, "the phase for the trap path");
}

void add_loop(struct world *world, uint32_t address)
{
	lead_to(world, address, 5, address);
}

void lead_to(struct world *world, uint32_t address, unsigned k, uint32_t back)
{
	uint8_t plain[8];
	unsigned length = insn_plain(world, k, plain);

	text_put(world, address, plain, length);
	form_add(world, address, plain, length, back);
}

/* A copy of the original in the slot, k-th instruction of it, that goes on at `next`. */
static void displace(struct world *world, uint32_t at, const uint8_t *bytes, unsigned length,
                     uint32_t next)
{
	text_put(world, at, bytes, length);
	form_add(world, at, bytes, length, next);
	world->ours_start = AT_SLOT;
	world->ours_end = AT_SLOT + WORLD_LINE;
}

unsigned add_key(struct kit *kit, unsigned i, uint32_t at, uint32_t slot)
{
	struct world *world = kit->world;
	uint8_t original[8], patched[8];
	unsigned length = insn_nop(world, original);
	unsigned site;

	insn_branch(world, at, AT_NEW, patched);
	site = site_add(world, at, original, patched, length);
	form_of(world, site, WORLD_OLD, at, original, length, kit->loop);
	form_of(world, site, WORLD_NEW, at, patched, length, AT_NEW);
	displace(world, slot, original, length, kit->loop);
	register_site(kit, i, site, AT_NEW, slot);
	return site;
}

struct kit *layout_key(struct world *world, uint32_t at)
{
	struct kit *kit = kit_new(world);

	kit->loop = at;
	add_key(kit, 0, at, AT_SLOT);
	lead_to(world, AT_NEW, 7, at);
	return kit;
}

struct kit *layout_two_keys(struct world *world, uint32_t second)
{
	struct kit *kit = layout_key(world, AT_SITE);

	/* From one site to the other and back. */
	world->form[0].next = second;
	add_key(kit, 1, second, AT_SLOT + 8);
	kit->registry[0] = registry_of(world, 0, 2);
	kit->live[0].registry = kit->registry[0];
	kit->live[1] = (struct patch_live){0};
	kit->traps.count = 1;
	return kit;
}

struct kit *layout_two_branches(struct world *world, uint32_t second)
{
	struct kit *kit = kit_new(world);
	const uint32_t at[] = {AT_SITE, second}, to[] = {AT_NEW, AT_OTHER};

	kit->loop = AT_SITE;
	kit->options.traps = NULL;
	world->trap = NULL;
	for (unsigned i = 0; i < 2; i++) {
		uint8_t original[8], patched[8];
		unsigned length = insn_branch(world, at[i], to[i], original), site;

		insn_branch(world, at[i], to[i] + 8, patched);
		site = site_add(world, at[i], original, patched, length);
		form_of(world, site, WORLD_OLD, at[i], original, length, to[i]);
		form_of(world, site, WORLD_NEW, at[i], patched, length, to[i] + 8);
		lead_to(world, to[i], 2 * i, at[!i]);
		lead_to(world, to[i] + 8, 2 * i + 1, at[!i]);
	}
	kit->registry[0] = registry_of(world, 0, 2);
	return kit;
}

struct kit *layout_probe(struct world *world)
{
	struct kit *kit = kit_new(world);
	uint8_t original[8], patched[8];
	unsigned length = insn_plain(world, 1, original), site;

	kit->loop = AT_SITE;
	memcpy(patched, original, length);
	insn_trap(world, patched);
	site = site_add(world, AT_SITE, original, patched, length);
	form_of(world, site, WORLD_OLD, AT_SITE, original, length, AT_SITE);
	displace(world, AT_SLOT, original, length, AT_SITE);
	register_site(kit, 0, site, AT_SLOT, AT_SLOT);
	return kit;
}

/* The original, its k-th instruction at `offset`, as text and as a displaced copy. */
static void hook_old(struct kit *kit, uint32_t at, unsigned k, unsigned offset, unsigned length)
{
	struct world *world = kit->world;
	const uint8_t *bytes = world->site[0].original + offset;
	uint32_t next = at + offset + length, slot = AT_SLOT + offset;
	struct world_form *form, *copy;

	form = form_of(world, 0, k ? WORLD_ANY : WORLD_OLD, at + offset, bytes, length,
	               k ? at : next);
	displace(world, slot, bytes, length, k ? at : slot + length);
	copy = &world->form[world->forms - 1];
	if (k)
		form->follows = copy->follows = WORLD_OLD;
	else
		form->begins = copy->begins = WORLD_OLD;
}

/* x86: an instruction of three bytes and one of two, under E9 whose displacement has a trap where
 * the second begins. */
static void hook_bytes(struct kit *kit, uint32_t at)
{
	static const uint8_t original[] = {0x83, 0xC0, 0x01, 0x89, 0xC1};
	static const uint8_t jump[] = {0xE9, 0x11, 0x22, 0xCC, 0x33};

	site_add(kit->world, at, original, jump, 5);
	hook_old(kit, at, 0, 0, 3);
	hook_old(kit, at, 1, 3, 2);
	form_of(kit->world, 0, WORLD_NEW, at, jump, 5, AT_NEW)->begins = WORLD_NEW;
	kit->second = 3;
}

/* Elsewhere: two words for two words. */
static void hook_words(struct kit *kit, uint32_t at)
{
	struct world *world = kit->world;
	uint8_t old[8], new[8];

	insn_plain(world, 1, old);
	insn_plain(world, 2, old + 4);
	insn_plain(world, 3, new);
	insn_plain(world, 4, new + 4);
	site_add(world, at, old, new, 8);
	hook_old(kit, at, 0, 0, 4);
	hook_old(kit, at, 1, 4, 4);
	form_of(world, 0, WORLD_NEW, at, new, 4, at + 4)->begins = WORLD_NEW;
	form_of(world, 0, WORLD_ANY, at + 4, new + 4, 4, AT_NEW)->follows = WORLD_NEW;
	kit->second = 4;
}

struct kit *layout_hook(struct world *world, uint32_t at)
{
	struct kit *kit = kit_new(world);

	kit->loop = at;
	lead_to(world, AT_NEW, 7, at);
	world->form[world->forms - 1].follows = WORLD_NEW;
	if (bytewise(world))
		hook_bytes(kit, at);
	else
		hook_words(kit, at);
	register_site(kit, 0, 0, AT_NEW, AT_SLOT);
	kit->registry[0]->sites[0].boundaries = (uint16_t)(1u << kit->second | 1);
	kit->detours[0].displaced_at[kit->second] = (uint8_t)kit->second;
	kit->clear[0] = (struct port_range){at + 1, at + world->site[0].length};
	kit->options.clear = kit->clear;
	kit->options.clear_count = 1;
	return kit;
}

/* ---- transactions ---- */

void kit_reads(struct port *port, struct kit *kit, unsigned i, unsigned state)
{
	const struct sync_site *site = &kit->registry[i]->sites[0];
	const uint8_t *bytes = state == WORLD_OLD ? site->original : site->patched;
	uint8_t now[SYNC_SITE_MAX];
	int rc = port_read(port, site->address, now, site->length);

	world_assert(port, !rc && memcmp(now, bytes, site->length) == 0,
	             state == WORLD_OLD ? "a data read of the restored text finds the patch"
	                                : "a data read of the patched text finds what was there "
	                                  "before");
}

static struct patch_options options_of(struct kit *kit, unsigned i)
{
	struct patch_options options = kit->options;

	options.live = options.traps ? &kit->live[i] : NULL;
	return options;
}

/* A thread may stand inside for as long as it likes: busy, and nothing changed. */
static bool done_or_busy(struct port *port, const struct patch_options *options, int rc,
                         const char *property)
{
	world_assert(port, rc == 0 || (rc == -EBUSY && options->clear_count), property);
	return rc == 0;
}

static void expect_all(struct port *port, const struct kit *kit, unsigned i, unsigned states)
{
	for (unsigned k = 0; k < kit->registry[i]->count; k++)
		world_expect(port, i + k, states);
}

bool kit_apply(struct port *port, struct kit *kit, unsigned i)
{
	struct patch_options options = options_of(kit, i);
	unsigned state;
	int rc;

	expect_all(port, kit, i, WORLD_ANY);
	rc = patch_apply(port, kit->registry[i], &options, NULL);
	state = done_or_busy(port, &options, rc, "a patch that is possible is refused") ? WORLD_NEW
	                                                                                : WORLD_OLD;
	expect_all(port, kit, i, state);
	kit_reads(port, kit, i, state);
	world_assert(port, rc || port_load(port, &kit->registry[i]->state) == PATCH_APPLIED,
	             "what is applied is not said to be");
	return state == WORLD_NEW;
}

bool kit_revert(struct port *port, struct kit *kit, unsigned i)
{
	struct patch_options options = options_of(kit, i);
	unsigned state;
	int rc;

	expect_all(port, kit, i, WORLD_ANY);
	rc = patch_revert(port, kit->registry[i], &options);
	state = done_or_busy(port, &options, rc, "a patch can not be taken back") ? WORLD_OLD
	                                                                          : WORLD_NEW;
	expect_all(port, kit, i, state);
	kit_reads(port, kit, i, state);
	return state == WORLD_OLD;
}
