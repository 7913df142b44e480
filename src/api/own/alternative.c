/* SPDX-License-Identifier: MIT */
/*
 * alternative.c - suture/alternative.h: the replacements that suit become one transaction.
 *
 * Places longer than a site are several sites that touch, and are changed with everybody at rest
 * only: what may be done to one site at a time may not be done to parts of a sequence.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "api/own/own.h"
#include "suture/alternative.h"

/* The longest place; far beyond what is worth replacing instead of calling. */
enum { PLACE_MAX = 512 };

/* A module with alternatives. Under own_lock. */
struct module {
	struct module *next;
	const struct suture_alternative *start, *stop;
	bool applied;
};
static struct module *modules;
/* There was no memory for a module when it was loaded. */
static bool lost;

static uintptr_t code_of(const struct suture_alternative *a)
{
	return (uintptr_t)&a->code + (uintptr_t)(intptr_t)a->code;
}

static uintptr_t replacement_of(const struct suture_alternative *a)
{
	return (uintptr_t)&a->replacement + (uintptr_t)(intptr_t)a->replacement;
}

static bool holds(const struct suture_alternative *a)
{
	bool (*predicate)(void) =
	        (bool (*)(void))((uintptr_t)&a->predicate + (uintptr_t)a->predicate);

	return a->cpu ? suture_cpu_has(a->cpu) : predicate();
}

/* ---- one place ---- */

/* What is to be done with a place. */
struct change {
	uintptr_t address;
	size_t length;
	uint8_t from[PLACE_MAX], to[PLACE_MAX];
	bool begins[PLACE_MAX]; /* an instruction of `from` does */
};

/* One instruction of the replacement, for where it shall be executed. Its length is kept. */
static int move(const uint8_t *at, const struct isa_insn *insn, uint64_t from, uint64_t to,
                uint8_t *out)
{
	uint8_t copy[ISA_DISPLACED_MAX];
	int length = insn->class == ISA_CALL
	                     ? isa_x86_64.call(to, insn->target, copy, sizeof(copy))
	                     : isa_x86_64.relocate(at, insn->length, from, to, copy, sizeof(copy));

	if (length < 0)
		return length == -ERANGE ? -ERANGE : -EOPNOTSUPP;
	if (length != insn->length)
		return -EOPNOTSUPP;
	memcpy(out, copy, (size_t)length);
	return 0;
}

/* Is it the same wherever it stands, or does it lead to another part of what moves with it? */
static bool stays(const struct isa_insn *insn, uint64_t start, size_t length)
{
	return !insn->has_target || insn->target - start <= length;
}

static int assemble(const struct suture_alternative *a, struct change *change,
                    struct suture_text_options *options)
{
	uintptr_t start = replacement_of(a);
	const uint8_t *code = (const uint8_t *)start;
	unsigned long place = change->address;

	for (size_t k = 0; k < a->length;) {
		struct isa_insn insn;
		int rc = isa_x86_64.decode(code + k, a->length - k, start + k, &insn);

		if (rc < 0)
			return own_fail(options, 0, -EINVAL,
			                "%#lx: byte %zu of its replacement begins no instruction",
			                place, k);
		memcpy(change->to + k, code + k, insn.length);
		if (!stays(&insn, start, a->length))
			rc = move(code + k, &insn, start + k, change->address + k, change->to + k);
		if (rc == -ERANGE)
			return own_fail(options, 0, rc,
			                "%#lx: byte %zu of its replacement does not reach %#lx",
			                place, k, (unsigned long)insn.target);
		if (rc < 0)
			return own_fail(options, 0, rc,
			                "%#lx: the instruction at byte %zu of its replacement "
			                "can not be moved; keep addresses in registers",
			                place, k);
		k += insn.length;
	}
	isa_x86_64.nop(change->to + a->length, change->length - a->length);
	return 0;
}

/* The default, as it stands in the text. */
static int disassemble(struct change *change, struct suture_text_options *options)
{
	unsigned long place = change->address;
	int rc = own_read((const void *)change->address, change->from, change->length);

	if (rc)
		return own_fail(options, 0, rc, "%#lx: can not be read (%d)", place, -rc);
	memset(change->begins, 0, sizeof(change->begins));
	for (size_t k = 0; k < change->length;) {
		size_t left = change->length - k;
		struct isa_insn insn;

		if (isa_x86_64.is_trap(change->from + k, left))
			return own_fail(options, 0, -EUCLEAN, "%#lx: a breakpoint stands there",
			                place + k);
		if (isa_x86_64.decode(change->from + k, left, place + k, &insn) < 0)
			return own_fail(options, 0, -EINVAL,
			                "%#lx: the default is not whole instructions", place + k);
		change->begins[k] = true;
		k += insn.length;
	}
	return 0;
}

/* As many sites as it takes. */
static int add_sites(struct patch_registry *registry, const struct change *change,
                     struct suture_text_options *options)
{
	for (size_t at = 0; at < change->length; at += SYNC_SITE_MAX) {
		struct sync_site *site = &registry->sites[registry->count++];
		size_t left = change->length - at;

		site->address = change->address + at;
		site->length = (uint8_t)(left < SYNC_SITE_MAX ? left : SYNC_SITE_MAX);
		memcpy(site->original, change->from + at, site->length);
		memcpy(site->patched, change->to + at, site->length);
		for (size_t k = 0; k < site->length; k++)
			site->boundaries |= (uint16_t)(change->begins[at + k] << k);
		if (edits_overlap(site))
			return own_fail(options, 0, -EEXIST, "%#lx: was edited before",
			                (unsigned long)site->address);
	}
	return 0;
}

static int add_place(struct patch_registry *registry, const struct suture_alternative *a,
                     struct suture_text_options *options)
{
	struct change change = {.address = code_of(a), .length = a->code_length};
	int rc;

	if (change.length > PLACE_MAX || a->length > change.length)
		return own_fail(options, 0, -EINVAL,
		                "%#lx: is longer than %d bytes, or shorter than its replacement",
		                (unsigned long)change.address, PLACE_MAX);
	rc = disassemble(&change, options);
	if (!rc)
		rc = assemble(a, &change, options);
	if (rc || memcmp(change.from, change.to, change.length) == 0)
		return rc;
	return add_sites(registry, &change, options);
}

/* ---- all places ---- */

static size_t sites_of(const struct suture_alternative *a)
{
	return ((size_t)a->code_length + SYNC_SITE_MAX - 1) / SYNC_SITE_MAX;
}

/* The replacements of one place follow each other: the first that suits. */
static int add_module(struct patch_registry *registry, const struct module *module, bool *parts,
                      struct suture_text_options *options)
{
	const struct suture_alternative *a = module->start;
	int rc = 0;

	while (a < module->stop && !rc) {
		const struct suture_alternative *chosen = NULL;
		uintptr_t place = code_of(a);

		for (; a < module->stop && code_of(a) == place; a++)
			if (!chosen && holds(a))
				chosen = a;
		if (!chosen)
			continue;
		rc = add_place(registry, chosen, options);
		*parts = *parts || sites_of(chosen) > 1;
	}
	return rc;
}

static int by_address(const void *a, const void *b)
{
	const struct sync_site *x = a, *y = b;

	return (x->address > y->address) - (x->address < y->address);
}

static int sort(struct patch_registry *registry, struct suture_text_options *options)
{
	const struct sync_site *sites = registry->sites;

	qsort(registry->sites, registry->count, sizeof(*sites), by_address);
	for (uint32_t i = 1; i < registry->count; i++)
		if (sites[i].address < sites[i - 1].address + sites[i - 1].length)
			return own_fail(options, 0, -EINVAL, "%#lx: one alternative inside another",
			                (unsigned long)sites[i].address);
	return 0;
}

/* The cheapest way that is legal; at rest if that disturbs nobody, or is demanded. */
static int change(struct patch_registry *registry, bool parts, struct suture_text_options *options)
{
	struct suture_text_options how = *options;
	int rc = -EOPNOTSUPP;

	if (how.strategy == SUTURE_QUIESCE)
		return own_apply(registry, &how, false);
	if (!parts)
		rc = own_apply(registry, &how, false);
	if (rc != -EOPNOTSUPP || how.strategy != SUTURE_CHEAPEST)
		return parts ? own_fail(options, 0, rc, "a place is several instructions long")
		             : rc;
	if (!own_alone())
		return own_fail(options, 0, rc,
		                "several instructions are to be replaced while there are other "
		                "threads: do so before they are created, or demand SUTURE_QUIESCE");
	how.strategy = SUTURE_QUIESCE;
	return own_apply(registry, &how, false);
}

static int apply(struct patch_registry *registry, struct suture_text_options *options)
{
	bool parts = false;
	int rc = 0;

	for (const struct module *m = modules; m && !rc; m = m->next)
		if (!m->applied)
			rc = add_module(registry, m, &parts, options);
	if (!rc)
		rc = sort(registry, options);
	if (!rc && edits_reserve(registry->count))
		rc = own_fail(options, 0, -ENOMEM, "out of memory");
	if (!rc && registry->count)
		rc = change(registry, parts, options);
	options->failed = 0;
	if (rc)
		return rc;
	for (uint32_t i = 0; i < registry->count; i++)
		edits_note(&registry->sites[i]);
	for (struct module *m = modules; m; m = m->next)
		m->applied = true;
	return 0;
}

static int apply_locked(struct suture_text_options *options)
{
	struct patch_registry *registry;
	size_t sites = 0;
	int rc;

	for (const struct module *m = modules; m; m = m->next)
		for (const struct suture_alternative *a = m->start; !m->applied && a < m->stop; a++)
			sites += sites_of(a);
	if (sites > UINT32_MAX)
		return own_fail(options, 0, -EINVAL, "too many alternatives");
	if (lost)
		return own_fail(options, 0, -ENOMEM, "there was no memory to register a module");
	registry = calloc(1, patch_registry_size((uint32_t)sites));
	if (!registry)
		return own_fail(options, 0, -ENOMEM, "out of memory");
	rc = apply(registry, options);
	own_free(registry);
	return rc;
}

int suture_alternatives_apply(struct suture_text_options *options)
{
	struct suture_text_options defaults = {.size = sizeof(defaults)};
	int rc;

	if (!options)
		options = &defaults;
	if (options->size < sizeof(*options))
		return -EINVAL;
	rc = own_begin(options);
	if (rc)
		return rc;
	rc = apply_locked(options);
	own_unlock();
	return rc;
}

/* ---- loading ---- */

static struct module **find(const struct suture_alternative *start)
{
	struct module **at = &modules;

	while (*at && (*at)->start != start)
		at = &(*at)->next;
	return at;
}

void suture_alternatives_register(const struct suture_alternative *start,
                                  const struct suture_alternative *stop)
{
	struct module *module;

	if (own_lock())
		return; /* as suture_alternatives_apply will say */
	/* It comes once for each file of the module that includes the header. */
	if (*find(start)) {
		own_unlock();
		return;
	}
	module = calloc(1, sizeof(*module));
	lost = lost || !module;
	if (module) {
		*module = (struct module){modules, start, stop, false};
		modules = module;
	}
	own_unlock();
}

void suture_alternatives_unregister(const struct suture_alternative *start,
                                    const struct suture_alternative *stop)
{
	struct module **at, *module;

	(void)stop;
	if (own_lock())
		return;
	at = find(start);
	module = *at;
	if (module) {
		for (const struct suture_alternative *a = start; a < module->stop; a++)
			edits_forget(code_of(a), code_of(a) + a->code_length);
		*at = module->next;
		free(module);
	}
	own_unlock();
}
