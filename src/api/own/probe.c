/* SPDX-License-Identifier: MIT */
/*
 * probe.c - suture/probe.h.
 *
 * The handlers of a site are an array that is replaced as a whole; what it held before is freed
 * when nobody can be reading it any more.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "api/own/handler.h"
#include "api/own/point.h"

static int check_spec(const struct suture_probe_spec *specs, size_t i,
                      struct suture_text_options *options)
{
	if (!specs[i].address)
		return own_fail(options, i, -EINVAL, "probe %zu: the address is missing", i);
	if (!specs[i].pre && !specs[i].post)
		return own_fail(options, i, -EINVAL, "probe %zu: no handler", i);
	if (specs[i].flags & ~(unsigned)SUTURE_PROBE_GENERAL_REGS)
		return own_fail(options, i, -EINVAL, "probe %zu: unknown flags", i);
	if ((specs[i].pre && ground_is_data((uintptr_t)specs[i].pre)) ||
	    (specs[i].post && ground_is_data((uintptr_t)specs[i].post)))
		return own_fail(options, i, -EACCES, "probe %zu: a handler is data, not text", i);
	return 0;
}

/* ---- what the gate reads ---- */

static struct gate_handlers *handlers_of(const struct point *point)
{
	struct gate_handlers *handlers;
	uint32_t count = 0;

	for (const struct suture_probe *p = point->probes; p; p = p->next)
		count++;
	handlers = calloc(1, sizeof(*handlers) + count * sizeof(handlers->list[0]));
	for (const struct suture_probe *p = point->probes; p && handlers; p = p->next)
		if (!p->leaving) {
			handlers->list[handlers->count++] = p->handler;
			handlers->vector |= p->vector;
		}
	return handlers;
}

/* Sites whose handlers change, what they had, and what they get. */
struct exchange {
	struct point **points;
	struct gate_handlers **lists; /* new ones; the old ones after exchange() */
	size_t count;
};

static int exchange_prepare(struct exchange *x)
{
	for (size_t i = 0; i < x->count; i++) {
		x->lists[i] = handlers_of(x->points[i]);
		if (!x->lists[i])
			return -ENOMEM;
	}
	return 0;
}

static void exchange(struct exchange *x)
{
	for (size_t i = 0; i < x->count; i++)
		x->lists[i] = (struct gate_handlers *)__atomic_exchange_n(
		        &x->points[i]->gate_site.handlers, x->lists[i], __ATOMIC_ACQ_REL);
}

/* Did any site have handlers before? */
static bool exchange_replaced(const struct exchange *x)
{
	for (size_t i = 0; i < x->count; i++)
		if (x->lists[i])
			return true;
	return false;
}

static void exchange_free(struct exchange *x)
{
	for (size_t i = 0; x->lists && i < x->count; i++)
		free(x->lists[i]);
	free(x->lists);
	free(x->points);
}

static int exchange_new(size_t count, struct exchange *x)
{
	*x = (struct exchange){.points = calloc(count, sizeof(struct point *)),
	                       .lists = calloc(count, sizeof(struct gate_handlers *))};
	return x->points && x->lists ? 0 : -ENOMEM;
}

/* ---- installation ---- */

static void append(struct suture_probe *probe)
{
	struct suture_probe **at = &probe->point->probes;

	while (*at)
		at = &(*at)->next;
	*at = probe;
}

static void detach(struct suture_probe *probe)
{
	struct suture_probe **at = probe->point ? &probe->point->probes : NULL;

	while (at && *at && *at != probe)
		at = &(*at)->next;
	if (at && *at)
		*at = probe->next;
}

/* A handle and what it needs, not in force yet. */
static int prepare(const struct suture_probe_spec *spec, size_t i, struct suture_probe **out,
                   struct suture_text_options *options)
{
	struct suture_probe *probe = calloc(1, sizeof(*probe));
	int rc;

	*out = probe;
	if (!probe)
		return own_fail(options, i, -ENOMEM, "out of memory");
	probe->leaving = true;
	probe->handler = (struct gate_handler){spec->pre, spec->post, spec->arg};
	if (!(spec->flags & SUTURE_PROBE_GENERAL_REGS))
		probe->vector = handler_uses_vector(spec->pre) || handler_uses_vector(spec->post);
	rc = point_get((uintptr_t)spec->address, 0, i, options, &probe->point);
	if (rc)
		return rc;
	rc = spec->post ? point_make_step(probe->point) : point_make_gate(probe->point);
	if (rc == -EOPNOTSUPP)
		return own_fail(options, i, rc,
		                "%#lx: where that instruction leads is not known beforehand: no "
		                "`post` there",
		                (unsigned long)(uintptr_t)spec->address);
	if (rc)
		return own_fail(options, i, -ENOSPC, "no memory for a trampoline");
	probe->missed = __atomic_load_n(&probe->point->gate_site.missed, __ATOMIC_RELAXED);
	append(probe);
	return 0;
}

static void set_leaving(struct suture_probe *const *probes, size_t count, bool leaving)
{
	for (size_t i = 0; i < count; i++)
		probes[i]->leaving = leaving;
}

/* Handlers are there before the text leads to them. */
static int enforce(struct suture_probe **probes, size_t count, struct exchange *x,
                   struct suture_text_options *options)
{
	struct point **fresh = calloc(count, sizeof(struct point *));
	size_t n = 0;
	int rc = fresh ? 0 : -ENOMEM;

	for (size_t i = 0; i < count; i++)
		x->points[i] = probes[i]->point;
	x->count = points_sort(x->points, count);
	set_leaving(probes, count, false);
	rc = rc ? rc : exchange_prepare(x);
	if (rc) {
		free(fresh);
		return own_fail(options, 0, rc, "out of memory");
	}
	for (size_t i = 0; i < x->count; i++)
		if (!x->points[i]->kind)
			fresh[n++] = x->points[i];
	exchange(x);
	for (size_t i = 0; i < x->count; i++)
		point_wire(x->points[i]);
	rc = points_apply(fresh, n, options);
	if (rc) {
		set_leaving(probes, count, true);
		exchange(x);
		for (size_t i = 0; i < x->count; i++)
			point_wire(x->points[i]);
	}
	free(fresh);
	return rc;
}

static int install(const struct suture_probe_spec *specs, size_t count,
                   struct suture_probe **probes, struct exchange *x,
                   struct suture_text_options *options)
{
	int rc = ground_space() ? 0 : ground_look();

	if (rc)
		return own_fail(options, 0, rc, "/proc/self/maps can not be read");
	for (size_t i = 0; i < count && !rc; i++)
		rc = check_spec(specs, i, options);
	for (size_t i = 0; i < count && !rc; i++)
		rc = prepare(&specs[i], i, &probes[i], options);
	if (!rc)
		rc = points_publish(options);
	if (!rc)
		rc = enforce(probes, count, x, options);
	for (size_t i = 0; i < count && probes[i]; i++)
		if (probes[i]->point)
			probes[i]->point->fresh = false;
	return rc;
}

int suture_probe_install(const struct suture_probe_spec *specs, size_t count,
                         struct suture_probe **probes, struct suture_text_options *options)
{
	struct suture_text_options defaults = {.size = sizeof(defaults)};
	struct suture_probe **made;
	struct exchange x = {0};
	int rc;

	options = options ? options : &defaults;
	if (own_check(options, specs, count))
		return -EINVAL;
	if (options->strategy != SUTURE_CHEAPEST)
		return own_fail(options, 0, -EINVAL, "probes choose their strategy themselves");
	if (!count)
		return 0;
	rc = own_begin(options);
	if (rc)
		return rc;
	made = calloc(count, sizeof(struct suture_probe *));
	rc = made && !exchange_new(count, &x) ? install(specs, count, made, &x, options)
	                                      : own_fail(options, 0, -ENOMEM, "out of memory");
	/* What was replaced may still be read by threads in the gate. */
	if (exchange_replaced(&x) && gate_wait(own_port(), own_deadline(options)))
		x.count = 0;
	exchange_free(&x);
	for (size_t i = 0; made && rc && i < count && made[i]; i++) {
		detach(made[i]);
		free(made[i]);
	}
	if (!rc && probes)
		memcpy(probes, made, count * sizeof(struct suture_probe *));
	own_end();
	free(made);
	return rc;
}

/* ---- removal ---- */

/* The text first: only that can fail. */
static int uninstall(struct suture_probe *const *probes, size_t count, struct exchange *x,
                     struct suture_text_options *options)
{
	struct point **idle = calloc(count, sizeof(struct point *));
	size_t n = 0;
	int rc;

	for (size_t i = 0; i < count; i++)
		x->points[i] = probes[i]->point;
	x->count = points_sort(x->points, count);
	set_leaving(probes, count, true);
	rc = idle ? exchange_prepare(x) : -ENOMEM;
	for (size_t i = 0; i < x->count && !rc; i++)
		if (x->points[i]->kind && point_is_idle(x->points[i]))
			idle[n++] = x->points[i];
	rc = rc ? own_fail(options, 0, rc, "out of memory") : points_revert(idle, n, options);
	free(idle);
	if (rc) {
		set_leaving(probes, count, false);
		return rc;
	}
	for (size_t i = 0; i < x->count; i++)
		point_wire(x->points[i]);
	exchange(x);
	return 0;
}

/* Those that the last call took out of force, but whose handlers did not return, come first; the
 * others become so. */
static int split(struct suture_probe *const *probes, size_t count, struct suture_probe **in_force,
                 size_t *n, struct suture_text_options *options)
{
	int rc = 0;

	*n = 0;
	for (size_t i = 0; i < count; i++) {
		rc = rc || probes[i]->listed ? -EINVAL : 0;
		probes[i]->listed = true;
		if (!probes[i]->leaving)
			in_force[(*n)++] = probes[i];
	}
	for (size_t i = 0; i < count; i++)
		probes[i]->listed = false;
	return rc ? own_fail(options, 0, rc, "a probe occurs twice") : 0;
}

static int remove_all(struct suture_probe *const *probes, size_t count, struct exchange *x,
                      struct suture_text_options *options)
{
	struct suture_probe **in_force = calloc(count, sizeof(struct suture_probe *));
	size_t n = 0;
	int rc = in_force ? split(probes, count, in_force, &n, options)
	                  : own_fail(options, 0, -ENOMEM, "out of memory");

	if (!rc && n)
		rc = uninstall(in_force, n, x, options);
	free(in_force);
	if (rc)
		return rc;
	if (gate_wait(own_port(), own_deadline(options))) {
		x->count = 0; /* somebody may still read what was replaced */
		return own_fail(options, 0, -EBUSY, "a handler has not returned");
	}
	for (size_t i = 0; i < count; i++) {
		detach(probes[i]);
		free(probes[i]);
	}
	return 0;
}

int suture_probe_remove(struct suture_probe *const *probes, size_t count,
                        struct suture_text_options *options)
{
	struct suture_text_options defaults = {.size = sizeof(defaults)};
	struct exchange x = {0};
	int rc;

	options = options ? options : &defaults;
	if (own_check(options, probes, count))
		return -EINVAL;
	for (size_t i = 0; i < count; i++)
		if (!probes[i])
			return own_fail(options, i, -EINVAL, "probe %zu: no handle", i);
	if (!count)
		return 0;
	rc = own_begin(options);
	if (rc)
		return rc;
	rc = exchange_new(count, &x) ? own_fail(options, 0, -ENOMEM, "out of memory")
	                             : remove_all(probes, count, &x, options);
	exchange_free(&x);
	own_end();
	return rc;
}

enum suture_site_kind suture_probe_kind(const struct suture_probe *probe)
{
	return probe->point->kind;
}

uint64_t suture_probe_missed(const struct suture_probe *probe)
{
	return __atomic_load_n(&probe->point->gate_site.missed, __ATOMIC_RELAXED) - probe->missed;
}
