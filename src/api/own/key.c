/* SPDX-License-Identifier: MIT */
/*
 * key.c - suture/key.h: all uses of some keys become one transaction.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "api/own/own.h"
#include "suture/key.h"

enum { USE_LENGTH = 5, LIKELY = 1 };

struct use {
	struct suture_key *key;
	struct sync_site site; /* from off to on */
};

/* A module with uses of keys. Under own_lock. */
struct module {
	struct module *next;
	const struct suture_key_use *start, *stop;
	struct use *uses; /* sorted by address */
	/* Indices of uses: sorted by key, those of a key by address. */
	uint32_t *by_key;
	size_t count;
};
static struct module *modules;

/* ---- modules ---- */

static uintptr_t key_bits(const struct suture_key_use *use)
{
	return (uintptr_t)&use->key + (uintptr_t)use->key;
}

/* False: the use does not reach its target. */
static bool read_use(const struct suture_key_use *from, struct use *use)
{
	uintptr_t code = (uintptr_t)&from->code + (uintptr_t)(intptr_t)from->code;
	uintptr_t target = (uintptr_t)&from->target + (uintptr_t)(intptr_t)from->target;
	bool likely = key_bits(from) & LIKELY;

	use->key = (struct suture_key *)(key_bits(from) & ~(uintptr_t)LIKELY);
	use->site = (struct sync_site){.address = code, .length = USE_LENGTH, .boundaries = 1};
	isa_x86_64.nop(likely ? use->site.patched : use->site.original, USE_LENGTH);
	return isa_x86_64.branch(code, target, likely ? use->site.original : use->site.patched,
	                         USE_LENGTH) == USE_LENGTH;
}

static int by_address(const void *a, const void *b)
{
	const struct use *x = a, *y = b;

	return (x->site.address > y->site.address) - (x->site.address < y->site.address);
}

static const struct use *sorting;

static int by_key(const void *a, const void *b)
{
	uint32_t i = *(const uint32_t *)a, k = *(const uint32_t *)b;

	if (sorting[i].key != sorting[k].key)
		return sorting[i].key > sorting[k].key ? 1 : -1;
	return (i > k) - (i < k);
}

static void module_free(struct module *module)
{
	free(module->uses);
	free(module->by_key);
	free(module);
}

/* NULL, and why. */
static struct module *module_new(const struct suture_key_use *start,
                                 const struct suture_key_use *stop, int *error)
{
	struct module *module = calloc(1, sizeof(*module));
	size_t count = (size_t)(stop - start);

	*error = -ENOMEM;
	if (!module)
		return NULL;
	*module = (struct module){.start = start,
	                          .stop = stop,
	                          .uses = calloc(count + 1, sizeof(*module->uses)),
	                          .by_key = calloc(count + 1, sizeof(*module->by_key)),
	                          .count = count};
	for (size_t i = 0; module->uses && module->by_key && i < count; i++) {
		module->by_key[i] = (uint32_t)i;
		if (!read_use(&start[i], &module->uses[i])) {
			*error = -ERANGE;
			module_free(module);
			return NULL;
		}
	}
	if (!module->uses || !module->by_key || count > UINT32_MAX) {
		module_free(module);
		return NULL;
	}
	qsort(module->uses, count, sizeof(*module->uses), by_address);
	sorting = module->uses;
	qsort(module->by_key, count, sizeof(*module->by_key), by_key);
	*error = 0;
	return module;
}

static const struct suture_key *key_at(const struct module *module, size_t i)
{
	return i < module->count ? module->uses[module->by_key[i]].key : NULL;
}

/* Index, in by_key, of the first use of the key; `near` is where it may well be. */
static size_t first_use(const struct module *module, const struct suture_key *key, size_t near)
{
	size_t low = 0, high = module->count;

	if (key_at(module, near) == key && (!near || key_at(module, near - 1) != key))
		return near;
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (key_at(module, middle) < key)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* ---- what the text was ---- */

/* Index of the first use that ends after `address`. */
static size_t use_after(const struct module *module, uint64_t address)
{
	size_t low = 0, high = module->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (module->uses[middle].site.address + USE_LENGTH <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

bool keys_use(uint64_t start, uint64_t end)
{
	for (const struct module *m = modules; m; m = m->next) {
		size_t i = use_after(m, start);

		if (i < m->count && m->uses[i].site.address < end)
			return true;
	}
	return false;
}

bool keys_meet(uint64_t start, uint64_t end, bool but_whole)
{
	for (const struct module *m = modules; m; m = m->next)
		for (size_t i = use_after(m, start); i < m->count; i++) {
			const struct use *use = &m->uses[i];
			bool whole = use->site.address == start && end - start == USE_LENGTH;

			if (use->site.address >= end)
				break;
			if (use->key->users > 0 && !(but_whole && whole))
				return true;
		}
	return false;
}

void keys_undo(uint64_t address, uint8_t *bytes, size_t size)
{
	for (const struct module *m = modules; m; m = m->next)
		for (size_t i = use_after(m, address); i < m->count; i++) {
			const struct use *use = &m->uses[i];

			if (use->site.address >= address + size)
				break;
			for (size_t k = 0; use->key->users > 0 && k < USE_LENGTH; k++)
				if (use->site.address + k - address < size)
					bytes[use->site.address + k - address] =
					        use->site.original[k];
		}
}

/* ---- transactions ---- */

/* What a change does to its key's text: suture_key.change. */
enum { NOTHING, STAYS, TURNS_ON, TURNS_OFF };

static void add_use(struct patch_registry *registry, const struct use *use, bool on)
{
	struct sync_site *site = &registry->sites[registry->count++];

	*site = use->site;
	if (!on) {
		memcpy(site->original, use->site.patched, USE_LENGTH);
		memcpy(site->patched, use->site.original, USE_LENGTH);
	}
}

/* Few keys are looked up in a module's table; for many of them the table is gone through once. */
static bool are_many(const struct module *module, size_t changes)
{
	return changes * 4 > module->count;
}

/* An upper bound. */
static size_t count_sites(const struct suture_key_change *changes, size_t count)
{
	size_t sites = 0;

	for (const struct module *m = modules; m; m = m->next) {
		size_t at = 0;

		if (are_many(m, count))
			sites += m->count;
		for (size_t i = 0; i < count && !are_many(m, count); i++)
			for (at = first_use(m, changes[i].key, at); key_at(m, at) == changes[i].key;
			     at++)
				sites++;
	}
	return sites;
}

static void add_some(struct patch_registry *registry, const struct module *module,
                     const struct suture_key_change *changes, size_t count)
{
	size_t at = 0;

	for (size_t i = 0; i < count; i++) {
		const struct suture_key *key = changes[i].key;

		if (key->change == STAYS)
			continue;
		for (at = first_use(module, key, at); key_at(module, at) == key; at++)
			add_use(registry, &module->uses[module->by_key[at]],
			        key->change == TURNS_ON);
	}
}

static void add_all(struct patch_registry *registry, const struct module *module)
{
	for (size_t i = 0; i < module->count; i++) {
		const struct use *use = &module->uses[i];

		if (use->key->change >= TURNS_ON)
			add_use(registry, use, use->key->change == TURNS_ON);
	}
}

static int site_order(const void *a, const void *b)
{
	const struct sync_site *x = a, *y = b;

	return (x->address > y->address) - (x->address < y->address);
}

static void sort(struct patch_registry *registry)
{
	struct sync_site *sites = registry->sites;
	uint32_t i = 1;

	while (i < registry->count && sites[i - 1].address < sites[i].address)
		i++;
	if (i < registry->count)
		qsort(sites, registry->count, sizeof(*sites), site_order);
}

static int apply(const struct suture_key_change *changes, size_t count,
                 struct suture_text_options *options)
{
	size_t sites = count_sites(changes, count);
	struct suture_text_options how = *options;
	struct patch_registry *registry;
	int rc = 0;

	if (sites > UINT32_MAX)
		return own_fail(options, 0, -EINVAL, "too many uses");
	registry = malloc(patch_registry_size((uint32_t)sites));
	if (!registry)
		return own_fail(options, 0, -ENOMEM, "out of memory");
	registry->count = 0;
	for (const struct module *m = modules; m; m = m->next) {
		if (are_many(m, count))
			add_all(registry, m);
		else
			add_some(registry, m, changes, count);
	}
	sort(registry);
	how.strategy = SUTURE_CHEAPEST;
	if (registry->count)
		rc = own_apply(registry, &how, true);
	options->failed = 0;
	own_free(registry);
	return rc;
}

/* Say in each key what is to become of it. Returns how many could be told. */
static size_t announce(const struct suture_key_change *changes, size_t count,
                       struct suture_text_options *options, int *error)
{
	for (size_t i = 0; i < count; i++) {
		struct suture_key *key = changes[i].key;

		if (key->change != NOTHING)
			*error = own_fail(options, i, -EINVAL, "a key occurs twice");
		else if (!changes[i].enable && key->users <= 0)
			*error = own_fail(options, i, -ERANGE, "key %zu is off already", i);
		if (*error)
			return i;
		if (changes[i].enable)
			key->change = key->users == 0 ? TURNS_ON : STAYS;
		else
			key->change = key->users == 1 ? TURNS_OFF : STAYS;
	}
	return count;
}

static int change_locked(const struct suture_key_change *changes, size_t count,
                         struct suture_text_options *options)
{
	int rc = 0;
	size_t told = announce(changes, count, options, &rc);

	if (!rc)
		rc = apply(changes, count, options);
	for (size_t i = 0; i < told; i++) {
		changes[i].key->change = NOTHING;
		if (!rc)
			/* Others only read it. */
			__atomic_store_n(&changes[i].key->users,
			                 changes[i].key->users + (changes[i].enable ? 1 : -1),
			                 __ATOMIC_RELAXED);
	}
	return rc;
}

static bool all_there(const struct suture_key_change *changes, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (!changes[i].key)
			return false;
	return true;
}

int suture_keys_change(const struct suture_key_change *changes, size_t count,
                       struct suture_text_options *options)
{
	struct suture_text_options defaults = {.size = sizeof(defaults)};
	int rc;

	if (!options)
		options = &defaults;
	if (own_check(options, changes, count))
		return -EINVAL;
	if (!all_there(changes, count))
		return own_fail(options, 0, -EINVAL, "a key is missing");
	rc = own_begin(options);
	if (rc)
		return rc;
	rc = change_locked(changes, count, options);
	own_unlock();
	return rc;
}

int suture_key_enable(struct suture_key *key)
{
	struct suture_key_change change = {key, true};

	return suture_keys_change(&change, 1, NULL);
}

int suture_key_disable(struct suture_key *key)
{
	struct suture_key_change change = {key, false};

	return suture_keys_change(&change, 1, NULL);
}

/* ---- loading ---- */

/* Keys that are on when the module is loaded. */
static int turn_on_initial(const struct module *module)
{
	struct suture_text_options options = {.size = sizeof(options)};
	struct patch_registry *registry = malloc(patch_registry_size((uint32_t)module->count));
	int rc = 0;

	if (!registry)
		return -ENOMEM;
	registry->count = 0;
	for (size_t i = 0; i < module->count; i++)
		if (module->uses[i].key->users > 0)
			add_use(registry, &module->uses[i], true);
	if (registry->count)
		rc = own_apply(registry, &options, true);
	own_free(registry);
	return rc;
}

static bool is_known(const struct suture_key_use *start)
{
	for (const struct module *m = modules; m; m = m->next)
		if (m->start == start)
			return true;
	return false;
}

void suture_keys_register(struct suture_key_use *start, struct suture_key_use *stop)
{
	struct module *module;
	int rc = own_lock();

	if (rc) {
		fprintf(stderr, "suture: static keys stay off: no text can be written here (%d)\n",
		        -rc);
		return;
	}
	/* Once for each file of the module that includes the header. */
	module = is_known(start) ? NULL : module_new(start, stop, &rc);
	if (rc)
		fprintf(stderr, "suture: static keys of a module stay off (%d)\n", -rc);
	if (module) {
		module->next = modules;
		modules = module;
		rc = turn_on_initial(module);
		if (rc)
			fprintf(stderr, "suture: keys that are on at first stay off (%d)\n", -rc);
	}
	own_unlock();
}

void suture_keys_unregister(struct suture_key_use *start, struct suture_key_use *stop)
{
	struct module **at = &modules;

	if (own_lock())
		return;
	while (*at && (*at)->start != start)
		at = &(*at)->next;
	if (*at) {
		struct module *module = *at;

		/* Somebody may have edited a use. */
		if (module->count)
			edits_forget(module->uses[0].site.address,
			             module->uses[module->count - 1].site.address + USE_LENGTH);
		*at = module->next;
		module_free(module);
	}
	own_unlock();
	(void)stop;
}
