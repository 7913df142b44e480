/* SPDX-License-Identifier: MIT */
/*
 * live.c - what the trap path knows, and the transactions that change it.
 *
 * Each transaction whose sites trap has a registry of its own, a shelf, which the trap path looks
 * through as long as one of its sites is in the text. Shelves are never changed; sites that were
 * taken back are marked in their detours. When there are many shelves they become one.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "api/own/point.h"

enum { SHELVES_MAX = 24, PATIENCE_NS = 1000000000 };

static struct shelf {
	struct patch_live *live;
	struct patch_registry *registry;
	struct patch_detour *detours;
	struct point **points; /* of each site */
} shelves[SHELVES_MAX + 8];
static size_t shelf_count;

/* ---- one shelf ---- */

static void shelf_free(struct shelf *shelf)
{
	free(shelf->registry);
	free(shelf->detours);
	free(shelf->points);
	*shelf = (struct shelf){0};
}

static int shelf_new(size_t count, struct shelf *shelf)
{
	*shelf = (struct shelf){
	        .registry = calloc(1, patch_registry_size((uint32_t)count)),
	        .detours = calloc(count + 1, sizeof(*shelf->detours)),
	        .points = calloc(count + 1, sizeof(struct point *)),
	};
	if (shelf->registry && shelf->detours && shelf->points)
		return 0;
	shelf_free(shelf);
	return -ENOMEM;
}

/* The trap path no longer looks there: the room is free for another. */
static void shelf_release(struct shelf *shelf)
{
	if (shelf->live) {
		shelf->live->registry = NULL;
		shelf->live->detours = NULL;
	}
	shelf_free(shelf);
}

static void shelf_put(struct shelf *shelf, const struct sync_site *site,
                      const struct patch_detour *detour, struct point *point)
{
	uint32_t i = shelf->registry->count++;

	shelf->registry->sites[i] = *site;
	shelf->detours[i] = *detour;
	shelf->points[i] = point;
}

/* Shelves that the trap path has been told to forget, and which somebody may still be reading. They
 * are given back many at once: a thread in the trap path may not be scheduled for long. */
static struct shelf *retired;
static size_t retired_count, retired_room;

static void retire_later(const struct shelf *shelf)
{
	if (retired_count == retired_room) {
		size_t room = retired_room ? 2 * retired_room : 16;
		struct shelf *grown = realloc(retired, room * sizeof(*grown));

		if (!grown)
			return; /* it stays for ever */
		retired = grown;
		retired_room = room;
	}
	retired[retired_count++] = *shelf;
}

/* The trap path forgets it. */
static void forget(struct shelf *shelf)
{
	struct patch_options how = {
	        .isa = &isa_x86_64, .traps = own_traps(), .live = shelf->live, .later = true};

	if (shelf->live && patch_retire(own_port(), &how) == 0)
		retire_later(shelf);
	else
		shelf_release(shelf);
}

static void release_retired(uint64_t deadline_ns)
{
	if (!retired_count || port_grace(own_port(), deadline_ns))
		return;
	while (retired_count)
		shelf_release(&retired[--retired_count]);
}

/* Give it to the trap path; the phase follows. */
static int shelf_enter(struct shelf *shelf, struct patch_options *how)
{
	shelf->live = own_live();
	if (!shelf->live) {
		release_retired(PATIENCE_NS);
		shelf->live = own_live();
	}
	if (!shelf->live)
		return -EBUSY;
	shelf->live->registry = shelf->registry;
	shelf->live->detours = shelf->detours;
	how->traps = own_traps();
	how->live = shelf->live;
	return 0;
}

/* It is what the sites' points are found by from now on. */
static void shelf_keep(struct shelf *shelf)
{
	for (uint32_t i = 0; i < shelf->registry->count; i++)
		shelf->points[i]->detour = &shelf->detours[i];
	shelves[shelf_count++] = *shelf;
}

/* ---- all of them as one ---- */

static int by_address(const void *a, const void *b)
{
	const struct point *x = *(struct point *const *)a, *y = *(struct point *const *)b;

	return (x->address > y->address) - (x->address < y->address);
}

static struct shelf *shelf_of(const struct patch_detour *detour, size_t *i)
{
	for (size_t s = 0; s < shelf_count; s++) {
		*i = (size_t)(detour - shelves[s].detours);
		if (detour >= shelves[s].detours && *i < shelves[s].registry->count)
			return &shelves[s];
	}
	return NULL;
}

static int collect(struct shelf *all)
{
	size_t count = 0, n = 0, i;
	int rc;

	for (size_t s = 0; s < shelf_count; s++)
		count += shelves[s].registry->count;
	rc = shelf_new(count, all);
	if (rc)
		return rc;
	for (size_t s = 0; s < shelf_count; s++)
		for (i = 0; i < shelves[s].registry->count; i++)
			if (shelves[s].points[i]->detour == &shelves[s].detours[i])
				all->points[n++] = shelves[s].points[i];
	qsort(all->points, n, sizeof(*all->points), by_address);
	for (size_t k = 0; k < n; k++) {
		struct shelf *from = shelf_of(all->points[k]->detour, &i);

		shelf_put(all, &from->registry->sites[i], &from->detours[i], all->points[k]);
	}
	return 0;
}

/* Where it can not be done now, the shelves stay as they are. */
static void merge(uint64_t deadline_ns)
{
	struct patch_options how = {.isa = &isa_x86_64, .deadline_ns = deadline_ns, .later = true};
	struct shelf all;

	if (collect(&all))
		return;
	if (shelf_enter(&all, &how) || patch_adopt(own_port(), &how)) {
		shelf_release(&all);
		return;
	}
	for (size_t s = 0; s < shelf_count; s++) {
		forget(&shelves[s]);
	}
	shelf_count = 0;
	if (all.registry->count)
		shelf_keep(&all);
	else
		forget(&all);
}

/* ---- sites ---- */

static bool may_trap(enum suture_site_kind kind)
{
	return kind == SUTURE_SITE_WINDOW || kind == SUTURE_SITE_TRAP;
}

/* A point's site for a kind, from the program's own bytes. */
static struct sync_site site_of(const struct point *point, enum suture_site_kind kind)
{
	struct sync_site site = point->site;

	if (kind == SUTURE_SITE_TRAP) {
		site.length = 1;
		site.boundaries = 1;
		memset(site.patched, 0, sizeof(site.patched));
		site.patched[0] = isa_x86_64.trap[0];
	}
	return site;
}

static struct patch_detour detour_of(const struct point *point, enum suture_site_kind kind)
{
	struct patch_detour detour = {.patched = point->entry, .displaced = point->copy};

	memcpy(detour.displaced_at, point->entries, sizeof(detour.displaced_at));
	if (kind == SUTURE_SITE_TRAP && point->alone)
		detour.displaced = point->alone;
	return detour;
}

static bool uses_invalid(const struct live_change *change)
{
	const struct point *point = change->point;

	if (change->from != SUTURE_SITE_WINDOW && change->to != SUTURE_SITE_WINDOW)
		return false;
	for (unsigned k = 1; k < point->site.length; k++)
		if ((point->site.boundaries >> k & 1) &&
		    point->site.patched[k] != isa_x86_64.trap[0])
			return true;
	return false;
}

/* ---- transactions ---- */

static int fill(const struct live_change *changes, size_t count, struct shelf *shelf, bool *traps,
                bool *invalid)
{
	int rc = shelf_new(count, shelf);

	*traps = *invalid = false;
	for (size_t i = 0; !rc && i < count; i++) {
		const struct live_change *c = &changes[i];
		enum suture_site_kind kind = c->from ? c->from : c->to;
		struct sync_site site = site_of(c->point, kind);
		struct patch_detour detour = detour_of(c->point, kind);

		if (c->from && c->to) { /* another kind takes its place: see `stays` */
			site.original[0] = isa_x86_64.trap[0];
			detour.stays = true;
		}
		shelf_put(shelf, &site, &detour, c->point);
		*traps = *traps || may_trap(kind) || may_trap(c->to);
		*invalid = *invalid || uses_invalid(c);
	}
	return rc;
}

static struct patch_options options_of(const struct shelf *shelf, bool *traps,
                                       const struct suture_text_options *options)
{
	struct patch_options how = {
	        .isa = &isa_x86_64, .deadline_ns = own_deadline(options), .later = true};
	size_t ignored;

	how.strategy = patch_plan(port_caps(own_port()), how.isa, shelf->registry, true, &ignored);
	*traps = *traps || how.strategy == PATCH_BREAKPOINT;
	return how;
}

static int apply(struct shelf *shelf, const struct patch_options *how, bool traps,
                 struct suture_text_options *options)
{
	size_t failed = 0;
	uint64_t mask = port_mask(own_port());
	int rc = patch_apply(own_port(), shelf->registry, how, &failed);
	bool known = traps && port_load(own_port(), &how->live->phase) != PATCH_GONE;

	port_unmask(own_port(), mask);
	if (rc) {
		rc = own_explain(shelf->registry, options, failed, rc);
		options->failed = shelf->points[failed]->index;
	}
	if (!rc && traps)
		shelf_keep(shelf);
	else if (!known)
		shelf_release(shelf);
	return rc;
}

/* What traps at the places of windows and puns that make room. */
static int adopt_traps(const struct live_change *changes, size_t count, struct shelf *shelf,
                       const struct suture_text_options *options)
{
	struct patch_options how = {.isa = &isa_x86_64, .deadline_ns = own_deadline(options)};
	int rc = shelf_new(count, shelf);

	for (size_t i = 0; !rc && i < count; i++) {
		struct sync_site site = site_of(changes[i].point, changes[i].to);
		struct patch_detour detour = detour_of(changes[i].point, changes[i].to);

		shelf_put(shelf, &site, &detour, changes[i].point);
	}
	if (!rc)
		rc = shelf_enter(shelf, &how);
	return rc ? rc : patch_adopt(own_port(), &how);
}

static int revert(struct shelf *shelf, const struct patch_options *how, bool traps,
                  struct suture_text_options *options)
{
	struct port *port = own_port();
	uint64_t mask;
	int rc = traps ? patch_adopt(port, how) : 0;

	if (rc)
		return own_explain(shelf->registry, options, 0, rc);
	mask = port_mask(port);
	rc = patch_revert(port, shelf->registry, how);
	port_unmask(port, mask);
	return rc ? own_explain(shelf->registry, options, 0, rc) : 0;
}

static int change_back(const struct live_change *changes, size_t count, struct shelf *shelf,
                       struct patch_options *how, bool traps, struct suture_text_options *options)
{
	bool replaced = changes[0].to != 0;
	struct shelf instead = {0};
	int rc = replaced ? adopt_traps(changes, count, &instead, options) : 0;

	if (!rc)
		rc = revert(shelf, how, traps, options);
	else
		own_fail(options, 0, rc, "the trap path has no room");
	for (size_t i = 0; !rc && i < count; i++) {
		struct patch_detour *old = changes[i].point->detour;

		if (old)
			port_set(own_port(), &old->gone, 1);
		changes[i].point->detour = NULL;
	}
	if (!rc && replaced)
		shelf_keep(&instead);
	else if (instead.registry)
		forget(&instead);
	/* Traps of it may stand there still: then the trap path goes on knowing it. */
	if (!rc || !shelf->live || port_load(own_port(), &shelf->live->phase) == PATCH_LIVE)
		forget(shelf);
	return rc;
}

int live_change(const struct live_change *changes, size_t count,
                struct suture_text_options *options)
{
	struct patch_options how;
	struct shelf shelf;
	bool traps, invalid;
	int rc;

	if (!count)
		return 0;
	release_retired(0);
	if (shelf_count >= SHELVES_MAX)
		merge(own_deadline(options));
	if (shelf_count >= SHELVES_MAX)
		return own_fail(options, 0, -EBUSY, "threads are stuck in the trap path");
	rc = fill(changes, count, &shelf, &traps, &invalid);
	if (rc)
		return own_fail(options, 0, rc, "out of memory");
	how = options_of(&shelf, &traps, options);
	if (traps)
		rc = shelf_enter(&shelf, &how);
	if (rc)
		own_fail(options, 0, rc, "the trap path has no room");
	else if (traps)
		rc = own_attach_traps(changes[0].to != 0, invalid, options);
	if (rc) {
		shelf_release(&shelf);
		return rc;
	}
	ground_forget();
	rc = changes[0].from ? change_back(changes, count, &shelf, &how, traps, options)
	                     : apply(&shelf, &how, traps, options);
	for (size_t i = 0; !rc && i < count; i++)
		changes[i].point->kind = changes[i].to;
	return rc;
}
