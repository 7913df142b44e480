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

/* A module with uses of keys, sorted by key. Under own_lock. */
struct module {
	struct module *next;
	const struct suture_key_use *start, *stop;
	const struct suture_key_use **uses;
	size_t count;
};
static struct module *modules;

static uintptr_t key_bits(const struct suture_key_use *use)
{
	return (uintptr_t)&use->key + (uintptr_t)use->key;
}

static const struct suture_key *key_of(const struct suture_key_use *use)
{
	return (const struct suture_key *)(key_bits(use) & ~(uintptr_t)LIKELY);
}

static uintptr_t code_of(const struct suture_key_use *use)
{
	return (uintptr_t)&use->code + (uintptr_t)(intptr_t)use->code;
}

static uintptr_t target_of(const struct suture_key_use *use)
{
	return (uintptr_t)&use->target + (uintptr_t)(intptr_t)use->target;
}

/* The use's code while its key is on or off. */
static int use_bytes(const struct suture_key_use *use, bool on, uint8_t bytes[USE_LENGTH])
{
	bool likely = key_bits(use) & LIKELY;

	if (on != likely)
		return isa_x86_64.branch(code_of(use), target_of(use), bytes, USE_LENGTH);
	isa_x86_64.nop(bytes, USE_LENGTH);
	return 0;
}

/* ---- modules ---- */

static int by_key(const void *a, const void *b)
{
	const struct suture_key_use *x = *(const struct suture_key_use *const *)a;
	const struct suture_key_use *y = *(const struct suture_key_use *const *)b;
	uintptr_t k = (uintptr_t)key_of(x), l = (uintptr_t)key_of(y);

	if (k == l) {
		k = code_of(x);
		l = code_of(y);
	}
	return (k > l) - (k < l);
}

static struct module *module_new(const struct suture_key_use *start,
                                 const struct suture_key_use *stop)
{
	struct module *module = calloc(1, sizeof(*module));

	if (!module)
		return NULL;
	module->start = start;
	module->stop = stop;
	module->count = (size_t)(stop - start);
	module->uses = calloc(module->count + 1, sizeof(*module->uses));
	if (!module->uses) {
		free(module);
		return NULL;
	}
	for (size_t i = 0; i < module->count; i++)
		module->uses[i] = &start[i];
	qsort(module->uses, module->count, sizeof(*module->uses), by_key);
	return module;
}

/* Index of the first use of the key. */
static size_t first_use(const struct module *module, const struct suture_key *key)
{
	size_t low = 0, high = module->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (key_of(module->uses[middle]) < key)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool is_use(const struct module *module, size_t i, const struct suture_key *key)
{
	return i < module->count && key_of(module->uses[i]) == key;
}

/* ---- transactions ---- */

static int add_use(struct patch_registry *registry, const struct suture_key_use *use, bool on)
{
	struct sync_site *site = &registry->sites[registry->count];
	int rc = use_bytes(use, !on, site->original);

	if (rc >= 0)
		rc = use_bytes(use, on, site->patched);
	if (rc < 0)
		return rc;
	site->address = code_of(use);
	site->length = USE_LENGTH;
	site->boundaries = 1;
	registry->count++;
	return 0;
}

static size_t count_uses(const struct suture_key *key)
{
	size_t count = 0;

	for (const struct module *m = modules; m; m = m->next)
		for (size_t i = first_use(m, key); is_use(m, i, key); i++)
			count++;
	return count;
}

static int add_key(struct patch_registry *registry, const struct suture_key *key, bool on)
{
	int rc = 0;

	for (const struct module *m = modules; m; m = m->next)
		for (size_t i = first_use(m, key); !rc && is_use(m, i, key); i++)
			rc = add_use(registry, m->uses[i], on);
	return rc;
}

static int by_address(const void *a, const void *b)
{
	const struct sync_site *x = a, *y = b;

	return (x->address > y->address) - (x->address < y->address);
}

/* Does the change turn the key on or off? -ERANGE: it is off already. */
static int turns(const struct suture_key_change *change)
{
	if (!change->enable && change->key->users <= 0)
		return -ERANGE;
	return change->enable ? change->key->users == 0 : change->key->users == 1;
}

static int apply(const struct suture_key_change *changes, size_t count,
                 struct patch_registry *registry, struct suture_text_options *options)
{
	struct suture_text_options how = *options;
	int rc = 0;

	for (size_t i = 0; i < count && !rc; i++)
		if (turns(&changes[i]) > 0)
			rc = add_key(registry, changes[i].key, changes[i].enable);
	if (rc)
		return own_fail(options, 0, -EOPNOTSUPP,
		                "a use of a key does not reach its target");
	if (!registry->count)
		return 0;
	qsort(registry->sites, registry->count, sizeof(registry->sites[0]), by_address);
	if (edits_reserve(registry->count))
		return own_fail(options, 0, -ENOMEM, "out of memory");
	how.strategy = SUTURE_CHEAPEST;
	rc = own_apply(registry, &how, true);
	for (uint32_t i = 0; !rc && i < registry->count; i++)
		edits_note(&registry->sites[i]);
	options->failed = 0;
	return rc;
}

static int change_locked(const struct suture_key_change *changes, size_t count,
                         struct suture_text_options *options)
{
	struct patch_registry *registry;
	size_t uses = 0;
	int rc;

	for (size_t i = 0; i < count; i++) {
		for (size_t k = 0; k < i; k++)
			if (changes[k].key == changes[i].key)
				return own_fail(options, i, -EINVAL, "a key occurs twice");
		if (turns(&changes[i]) < 0)
			return own_fail(options, i, -ERANGE, "key %zu is off already", i);
		uses += count_uses(changes[i].key);
	}
	if (uses > UINT32_MAX)
		return own_fail(options, 0, -EINVAL, "too many uses");
	registry = calloc(1, patch_registry_size((uint32_t)uses));
	if (!registry)
		return own_fail(options, 0, -ENOMEM, "out of memory");
	rc = apply(changes, count, registry, options);
	for (size_t i = 0; !rc && i < count; i++)
		__atomic_fetch_add(&changes[i].key->users, changes[i].enable ? 1 : -1,
		                   __ATOMIC_RELAXED);
	own_free(registry);
	return rc;
}

int suture_keys_change(const struct suture_key_change *changes, size_t count,
                       struct suture_text_options *options)
{
	struct suture_text_options defaults = {.size = sizeof(defaults)};
	int rc;

	if (!options)
		options = &defaults;
	if (options->size < sizeof(*options) || (count && !changes))
		return -EINVAL;
	rc = own_lock();
	if (rc)
		return own_fail(options, 0, rc, "no text can be written in this process (%d)", -rc);
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
	struct patch_registry *registry = calloc(1, patch_registry_size((uint32_t)module->count));
	int rc = registry ? 0 : -ENOMEM;

	for (size_t i = 0; !rc && i < module->count; i++)
		if (key_of(module->uses[i])->users > 0)
			rc = add_use(registry, module->uses[i], true);
	if (!rc && registry->count) {
		qsort(registry->sites, registry->count, sizeof(registry->sites[0]), by_address);
		rc = edits_reserve(registry->count);
		if (!rc)
			rc = own_apply(registry, &options, true);
	}
	if (registry)
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
	module = is_known(start) ? NULL : module_new(start, stop);
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

		for (size_t i = 0; i < module->count; i++)
			edits_forget(code_of(module->uses[i]),
			             code_of(module->uses[i]) + USE_LENGTH);
		*at = module->next;
		free(module->uses);
		free(module);
	}
	own_unlock();
	(void)stop;
}
