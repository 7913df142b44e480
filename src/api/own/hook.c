/* SPDX-License-Identifier: MIT */
/*
 * hook.c - suture/hook.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "api/own/hook.h"
#include "api/own/point.h"

static int check_spec(const struct suture_hook_spec *specs, size_t i,
                      struct suture_text_options *options)
{
	if (!specs[i].function || !specs[i].replacement)
		return own_fail(options, i, -EINVAL, "hook %zu: function or replacement is missing",
		                i);
	if (specs[i].function == specs[i].replacement)
		return own_fail(options, i, -EINVAL, "hook %zu: a function can not replace itself",
		                i);
	if (ground_is_data((uintptr_t)specs[i].replacement))
		return own_fail(options, i, -EACCES, "hook %zu: the replacement is data, not text",
		                i);
	return 0;
}

/* A handle and what it needs, not in force yet. */
static int prepare(const struct suture_hook_spec *spec, size_t i, unsigned call,
                   struct suture_hook **out, struct suture_text_options *options)
{
	struct suture_hook *hook = calloc(1, sizeof(*hook));
	int rc;

	*out = hook;
	if (!hook)
		return own_fail(options, i, -ENOMEM, "out of memory");
	hook->call = call;
	hook->leaving = true;
	hook->replacement = spec->replacement;
	rc = point_get((uintptr_t)spec->function, (uintptr_t)spec->replacement, i, options,
	               &hook->point);
	if (rc)
		return rc;
	rc = point_make_stub(hook->point, hook);
	if (rc)
		return own_fail(options, i, -ENOSPC, "no memory for a trampoline");
	for (const struct suture_hook *h = hook->point->hooks; h; h = h->next)
		if (h->call == hook->call)
			return own_fail(options, i, -EINVAL, "hook %zu: the function occurs twice",
			                i);
	hook->next = hook->point->hooks;
	hook->point->hooks = hook;
	return 0;
}

/* The handle's stub stays: somebody may call it as the original for as long as he likes. */
static void discard(struct suture_hook *hook)
{
	struct suture_hook **at = hook->point ? &hook->point->hooks : NULL;

	while (at && *at && *at != hook)
		at = &(*at)->next;
	if (at && *at)
		*at = hook->next;
	if (!hook->stub) {
		free(hook);
		return;
	}
	hook->next = hook->point->old_stubs;
	hook->point->old_stubs = hook;
	point_wire(hook->point);
}

static size_t not_in_text(struct suture_hook **hooks, size_t count, struct point **points)
{
	size_t n = 0;

	for (size_t i = 0; i < count; i++)
		if (!hooks[i]->point->kind)
			points[n++] = hooks[i]->point;
	return points_sort(points, n);
}

/* All hooks are wired: those whose text leads to its point already come into force at once, after
 * the others' text was changed. */
static int enforce(struct suture_hook **hooks, size_t count, struct point **points,
                   struct suture_text_options *options)
{
	size_t n = not_in_text(hooks, count, points);
	int rc;

	for (size_t i = 0; i < count; i++)
		if (!hooks[i]->point->kind) {
			hooks[i]->leaving = false;
			point_wire(hooks[i]->point);
		}
	rc = points_apply(points, n, options);
	for (size_t i = 0; i < count; i++) {
		hooks[i]->leaving = rc != 0;
		point_wire(hooks[i]->point);
	}
	return rc;
}

static int install(const struct suture_hook_spec *specs, size_t count, struct suture_hook **hooks,
                   struct point **points, struct suture_text_options *options)
{
	static unsigned calls;
	unsigned call = ++calls; /* watch_begin may call within this one */
	int rc = ground_space() ? 0 : ground_look();

	if (rc)
		return own_fail(options, 0, rc, "/proc/self/maps can not be read");
	for (size_t i = 0; i < count && !rc; i++)
		rc = check_spec(specs, i, options);
	for (size_t i = 0; i < count && !rc; i++)
		rc = prepare(&specs[i], i, call, &hooks[i], options);
	if (!rc)
		rc = points_publish(options);
	for (size_t i = 0; i < count && !rc; i++)
		if (specs[i].original)
			__atomic_store_n(specs[i].original, (void *)(uintptr_t)hooks[i]->stub,
			                 __ATOMIC_RELEASE);
	if (!rc)
		rc = enforce(hooks, count, points, options);
	for (size_t i = 0; i < count; i++) {
		if (hooks[i] && hooks[i]->point)
			hooks[i]->point->fresh = false;
		if (rc && hooks[i])
			discard(hooks[i]);
	}
	return rc;
}

int hook_install(const struct suture_hook_spec *specs, size_t count, struct suture_hook **hooks,
                 struct suture_text_options *options)
{
	struct suture_hook **made = calloc(count, sizeof(struct suture_hook *));
	struct point **points = calloc(count, sizeof(struct point *));
	int rc = made && points ? install(specs, count, made, points, options)
	                        : own_fail(options, 0, -ENOMEM, "out of memory");

	if (!rc && hooks)
		memcpy(hooks, made, count * sizeof(struct suture_hook *));
	free(made);
	free(points);
	return rc;
}

int suture_hook_install(const struct suture_hook_spec *specs, size_t count,
                        struct suture_hook **hooks, struct suture_text_options *options)
{
	struct suture_text_options defaults = {.size = sizeof(defaults)};
	int rc;

	options = options ? options : &defaults;
	if (own_check(options, specs, count))
		return -EINVAL;
	if (options->strategy != SUTURE_CHEAPEST)
		return own_fail(options, 0, -EINVAL, "hooks choose their strategy themselves");
	if (!count)
		return 0;
	rc = own_begin(options);
	if (rc)
		return rc;
	rc = hook_install(specs, count, hooks, options);
	own_end();
	return rc;
}

/* ---- removal ---- */

static int uninstall(struct suture_hook *const *hooks, size_t count, struct point **points,
                     struct suture_text_options *options)
{
	size_t n = 0;
	int rc;

	for (size_t i = 0; i < count; i++) {
		if (hooks[i]->leaving) {
			while (i-- > 0)
				hooks[i]->leaving = false;
			return own_fail(options, 0, -EINVAL, "a hook occurs twice");
		}
		hooks[i]->leaving = true;
	}
	for (size_t i = 0; i < count; i++)
		if (hooks[i]->point->kind && point_is_idle(hooks[i]->point))
			points[n++] = hooks[i]->point;
	rc = points_revert(points, points_sort(points, n), options);
	for (size_t i = 0; i < count; i++) {
		if (rc)
			hooks[i]->leaving = false;
		else
			discard(hooks[i]);
	}
	return rc;
}

int suture_hook_remove(struct suture_hook *const *hooks, size_t count,
                       struct suture_text_options *options)
{
	struct suture_text_options defaults = {.size = sizeof(defaults)};
	struct point **points;
	int rc;

	options = options ? options : &defaults;
	if (own_check(options, hooks, count))
		return -EINVAL;
	for (size_t i = 0; i < count; i++)
		if (!hooks[i])
			return own_fail(options, i, -EINVAL, "hook %zu: no handle", i);
	if (!count)
		return 0;
	rc = own_begin(options);
	if (rc)
		return rc;
	points = calloc(count, sizeof(struct point *));
	rc = points ? uninstall(hooks, count, points, options)
	            : own_fail(options, 0, -ENOMEM, "out of memory");
	own_end();
	free(points);
	return rc;
}

enum suture_site_kind suture_hook_kind(const struct suture_hook *hook)
{
	return hook->point->kind;
}
