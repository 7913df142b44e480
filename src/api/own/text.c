/* SPDX-License-Identifier: MIT */
/*
 * text.c - suture/text.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "api/own/own.h"
#include "api/own/point.h"

/* ---- edits as a registry ---- */

static const struct suture_edit *sorting;

static int by_address(const void *a, const void *b)
{
	uintptr_t x = (uintptr_t)sorting[*(const size_t *)a].address;
	uintptr_t y = (uintptr_t)sorting[*(const size_t *)b].address;

	return (x > y) - (x < y);
}

static int check_edit(const struct suture_edit *edit, size_t i, struct suture_text_options *options)
{
	if (!edit->address || !edit->from || !edit->to)
		return own_fail(options, i, -EINVAL, "edit %zu: address or bytes are missing", i);
	if (edit->length < 1 || edit->length > SUTURE_EDIT_MAX)
		return own_fail(options, i, -EINVAL, "edit %zu: length %zu is not 1 to %d", i,
		                edit->length, SUTURE_EDIT_MAX);
	if (memcmp(edit->from, edit->to, edit->length) == 0)
		return own_fail(options, i, -EINVAL, "edit %zu: changes nothing", i);
	return 0;
}

/* Sorted by address: `order` says which edit a site is. */
static int fill(const struct suture_edit *list, size_t count, const size_t *order,
                struct patch_registry *registry, struct suture_text_options *options)
{
	for (size_t i = 0; i < count; i++) {
		const struct suture_edit *edit = &list[order[i]];
		struct sync_site *site = &registry->sites[i];

		site->address = (uintptr_t)edit->address;
		site->length = (uint8_t)edit->length;
		site->boundaries = 1;
		memcpy(site->original, edit->from, edit->length);
		memcpy(site->patched, edit->to, edit->length);
		if (i && site->address - site[-1].address < site[-1].length)
			return own_fail(options, order[i], -EINVAL, "edit %zu overlaps edit %zu",
			                order[i], order[i - 1]);
		if (ground_is_data(site->address))
			return own_fail(options, order[i], -EACCES,
			                "edit %zu: %#lx is data, not text", order[i],
			                (unsigned long)site->address);
		if (edits_overlap(site))
			return own_fail(options, order[i], -EEXIST,
			                "edit %zu overlaps an earlier one of another extent",
			                order[i]);
	}
	registry->count = (uint32_t)count;
	return 0;
}

static int patch_sorted(const struct suture_edit *list, size_t count, size_t *order,
                        struct patch_registry *registry, struct suture_text_options *options)
{
	int rc = 0;

	for (size_t i = 0; i < count && !rc; i++) {
		order[i] = i;
		rc = check_edit(&list[i], i, options);
	}
	if (rc)
		return rc;
	sorting = list;
	qsort(order, count, sizeof(*order), by_address);
	rc = fill(list, count, order, registry, options);
	if (!rc && edits_reserve(count))
		rc = own_fail(options, 0, -ENOMEM, "out of memory");
	if (rc)
		return rc;
	rc = own_apply(registry, options, false);
	if (rc && options->failed < count)
		options->failed = order[options->failed];
	for (size_t i = 0; !rc && i < count; i++)
		edits_note(&registry->sites[i]);
	return rc;
}

int suture_text_patch(const struct suture_edit *list, size_t count,
                      struct suture_text_options *options)
{
	struct suture_text_options defaults = {.size = sizeof(defaults)};
	struct patch_registry *registry;
	size_t *order;
	int rc;

	if (!options)
		options = &defaults;
	if (own_check(options, list, count))
		return -EINVAL;
	if (!count)
		return 0;
	rc = own_begin(options);
	if (rc)
		return rc;
	registry = calloc(1, patch_registry_size((uint32_t)count));
	order = calloc(count, sizeof(*order));
	rc = registry && order ? patch_sorted(list, count, order, registry, options)
	                       : own_fail(options, 0, -ENOMEM, "out of memory");
	own_free(registry);
	own_unlock();
	free(order);
	return rc;
}

int suture_text_original(const void *address, void *buffer, size_t size)
{
	int rc = own_lock();

	if (rc)
		return rc;
	rc = own_read(address, buffer, size);
	if (!rc) {
		points_undo((uintptr_t)address, buffer, size);
		edits_undo((uintptr_t)address, buffer, size);
	}
	own_unlock();
	return rc;
}

bool suture_text_hotpatch_safe(const void *from, const void *to, size_t length, const void *address)
{
	return from && to && isa_x86_64.hotpatch_safe(from, to, length, (uintptr_t)address);
}
