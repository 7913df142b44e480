/* SPDX-License-Identifier: MIT */
/*
 * overlay.c - an edit of an instruction that a hook or probe stands on.
 *
 * The instruction is executed in the point's copies, not in the text, which leads to them:
 *
 *     text      E9 …          (or CC and the rest of the instruction, which nobody executes)
 *     copy      nop           -> jmp elsewhere
 *     alone     nop           -> jmp elsewhere     if it was made
 *
 * so these are what is edited, in the same transaction as all else, and what the point gives back
 * when it is removed is the new instruction. That is how a static key may be the first instruction
 * of a hooked function. A point whose jump covers a later instruction that is edited makes do with
 * a trap from then on.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "api/own/point.h"

enum { COPIES_MAX = 3 }; /* copy, alone, the rest in the text */

/* ---- one site ---- */

static struct sync_site *add(struct patch_registry *out, uint32_t *from, uint32_t i)
{
	struct sync_site *site = &out->sites[out->count];

	from[out->count++] = i;
	*site = (struct sync_site){.boundaries = 1};
	return site;
}

/* The instruction's copy at `at`, before and after. */
static int add_copy(struct patch_registry *out, uint32_t *from, uint32_t i,
                    const struct sync_site *edit, uint64_t at)
{
	struct sync_site *site = add(out, from, i);
	uint8_t old[ISA_DISPLACED_MAX], new[ISA_DISPLACED_MAX];
	int n = isa_x86_64.relocate(edit->original, edit->length, edit->address, at, old,
	                            sizeof(old));
	int m = isa_x86_64.relocate(edit->patched, edit->length, edit->address, at, new,
	                            sizeof(new));

	if (n < 1 || n != m || n > SYNC_SITE_MAX)
		return -EOPNOTSUPP;
	site->address = at;
	site->length = (uint8_t)n;
	memcpy(site->original, old, (size_t)n);
	memcpy(site->patched, new, (size_t)n);
	return 0;
}

/* Bytes in the text that nobody executes while the point is in force. */
static void add_rest(struct patch_registry *out, uint32_t *from, uint32_t i,
                     const struct sync_site *edit, size_t skip)
{
	struct sync_site *site;
	size_t size = edit->length - skip;

	if (skip >= edit->length || !memcmp(edit->original + skip, edit->patched + skip, size))
		return;
	site = add(out, from, i);
	site->address = edit->address + skip;
	site->length = (uint8_t)size;
	memcpy(site->original, edit->original + skip, size);
	memcpy(site->patched, edit->patched + skip, size);
}

static int add_copies(struct patch_registry *out, uint32_t *from, uint32_t i,
                      const struct sync_site *edit, struct point *point)
{
	int rc = add_copy(out, from, i, edit, point->copy);

	if (!rc && point->alone)
		rc = add_copy(out, from, i, edit, point->alone);
	if (!rc)
		add_rest(out, from, i, edit,
		         point->kind == SUTURE_SITE_TRAP ? 1 : point->site.length);
	return rc;
}

/* What a pun relies upon, and what is covered by a jump that does not begin with it, is given back
 * to the text first. */
static int make_plain(const struct sync_site *edit, struct point *point, uint32_t i,
                      struct suture_text_options *options)
{
	bool head = edit->address == point->address;

	if (edit->address < point->address || (head && edit->length != point->first) ||
	    (!head &&
	     (point->kind == SUTURE_SITE_TRAP || edit->address < point->address + point->first)) ||
	    point->step)
		return own_fail(options, i, -EEXIST,
		                "%#lx: a hook or probe is there; remove it first",
		                (unsigned long)point->address);
	if (head && point->kind != SUTURE_SITE_PUN)
		return 0;
	return points_to_traps(&point, 1, options);
}

static int plan_site(const struct patch_registry *in, uint32_t i, struct patch_registry *out,
                     uint32_t *from, struct suture_text_options *options)
{
	const struct sync_site *edit = &in->sites[i];
	struct point *point;
	int rc = 0;

	while (!rc && (point = point_under(edit->address, edit->address + edit->length))) {
		rc = make_plain(edit, point, i, options);
		if (rc || point->address != edit->address)
			continue;
		rc = add_copies(out, from, i, edit, point);
		return rc ? own_fail(
		                    options, i, rc,
		                    "%#lx: a hook or probe is there, whose copy of the instruction "
		                    "can not be changed",
		                    (unsigned long)edit->address)
		          : 0;
	}
	if (!rc)
		*add(out, from, i) = *edit;
	return rc;
}

/* ---- all of them ---- */

static int by_address(const void *a, const void *b)
{
	const struct sync_site *x = a, *y = b;

	return (x->address > y->address) - (x->address < y->address);
}

/* Sorted, with what they come of: that is kept in the reserved bytes meanwhile. */
static void sort(struct patch_registry *out, uint32_t *from)
{
	for (uint32_t i = 0; i < out->count; i++)
		memcpy(out->sites[i].reserved, &from[i], sizeof(from[i]));
	qsort(out->sites, out->count, sizeof(out->sites[0]), by_address);
	for (uint32_t i = 0; i < out->count; i++) {
		memcpy(&from[i], out->sites[i].reserved, sizeof(from[i]));
		memset(out->sites[i].reserved, 0, sizeof(out->sites[i].reserved));
	}
}

static bool any_under(const struct patch_registry *registry)
{
	const struct sync_site *sites = registry->sites, *last = sites + registry->count;

	if (!registry->count || !points_near(sites->address, last[-1].address + last[-1].length))
		return false;
	for (uint32_t i = 0; i < registry->count; i++) {
		const struct sync_site *site = &registry->sites[i];

		if (point_under(site->address, site->address + site->length))
			return true;
	}
	return false;
}

int overlay_plan(struct patch_registry *registry, struct patch_registry **out, uint32_t **from,
                 struct suture_text_options *options)
{
	size_t room = (size_t)registry->count * COPIES_MAX;
	int rc = 0;

	*out = registry;
	*from = NULL;
	if (!any_under(registry))
		return 0;
	*out = room > UINT32_MAX ? NULL : calloc(1, patch_registry_size((uint32_t)room));
	*from = calloc(room, sizeof(**from));
	if (!*out || !*from)
		rc = own_fail(options, 0, -ENOMEM, "out of memory");
	for (uint32_t i = 0; i < registry->count && !rc; i++)
		rc = plan_site(registry, i, *out, *from, options);
	if (!rc) {
		sort(*out, *from);
		return 0;
	}
	free(*out);
	free(*from);
	*out = NULL;
	*from = NULL;
	return rc;
}

/* What is in the text of a piece is in our copy of its page, too, or would be undone with the next
 * piece that is published there. */
static void keep_copy(const struct sync_site *edit, uint64_t at)
{
	uint8_t bytes[ISA_DISPLACED_MAX];
	int n = isa_x86_64.relocate(edit->patched, edit->length, edit->address, at, bytes,
	                            sizeof(bytes));

	if (n > 0)
		tramp_put(ground_space(), at, bytes, (size_t)n);
}

void overlay_done(const struct patch_registry *registry)
{
	for (uint32_t i = 0; i < registry->count; i++) {
		const struct sync_site *edit = &registry->sites[i];
		struct point *point = point_at(edit->address);

		if (!point || !point->kind || edit->length != point->first)
			continue;
		memcpy(point->code, edit->patched, edit->length);
		memcpy(point->site.original, point->code, point->site.length);
		keep_copy(edit, point->copy);
		if (point->alone)
			keep_copy(edit, point->alone);
	}
}
