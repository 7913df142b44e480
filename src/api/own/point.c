/* SPDX-License-Identifier: MIT */
/*
 * point.c - points: found, wired, put into the text and taken out.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "api/own/point.h"
#include "api/own/watch.h"

/* Sorted by address. */
static struct point **points;
static size_t points_count, points_room;

/* ---- finding ---- */

/* Index of the first point at or after `address`. */
static size_t first_from(uint64_t address)
{
	size_t low = 0, high = points_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (points[middle]->address < address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct point *point_at(uint64_t address)
{
	size_t i = first_from(address);

	return i < points_count && points[i]->address == address ? points[i] : NULL;
}

static int insert(struct point *point)
{
	size_t i = first_from(point->address);

	if (points_count == points_room) {
		size_t room = points_room ? 2 * points_room : 64;
		struct point **grown = realloc(points, room * sizeof(struct point *));

		if (!grown)
			return -ENOMEM;
		points = grown;
		points_room = room;
	}
	memmove(&points[i + 1], &points[i], (points_count++ - i) * sizeof(struct point *));
	points[i] = point;
	return 0;
}

static void drop(struct point *point)
{
	size_t i = first_from(point->address);

	memmove(&points[i], &points[i + 1], (--points_count - i) * sizeof(struct point *));
}

/* Bytes of text that a point of that kind changes or relies upon. */
static uint8_t extent(const struct point *point, enum suture_site_kind kind)
{
	return !kind ? 0 : kind == SUTURE_SITE_TRAP ? 1 : point->site.length;
}

void points_undo(uint64_t address, uint8_t *bytes, size_t size)
{
	size_t i = first_from(address > SYNC_SITE_MAX ? address - SYNC_SITE_MAX : 0);

	for (; i < points_count && points[i]->address < address + size; i++)
		for (size_t k = 0; k < extent(points[i], points[i]->kind); k++) {
			uint64_t at = points[i]->address + k - address;

			if (at < size)
				bytes[at] = points[i]->code[k];
		}
}

bool points_lead_into(uint64_t start, uint64_t end)
{
	size_t i = first_from(start > POINT_CODE_MAX ? start - POINT_CODE_MAX : 0);

	for (; i < points_count && points[i]->address < end; i++) {
		uint64_t copy = points[i]->address + points[i]->displaced;
		uint64_t alone = points[i]->address + points[i]->first;

		if ((copy > start && copy < end) || (alone > start && alone < end))
			return true;
	}
	return false;
}

size_t point_room(const struct point *point)
{
	size_t i = first_from(point->address + 1), size = point->code_size;

	for (; i < points_count && points[i]->address < point->address + size; i++)
		if (points[i]->kind || points[i]->fresh)
			size = (size_t)(points[i]->address - point->address);
	while (size > point->first &&
	       edits_meet(point->address + point->first, point->address + size))
		size--;
	return size;
}

/* Is the text there still what the plan was made for? Its own bytes in the text do not count. */
static bool still_there(const struct point *point)
{
	uint8_t now[POINT_CODE_MAX];
	uint8_t size =
	        point->displaced > point->site.length ? point->displaced : point->site.length;

	if (ground_read(point->address, now, size))
		return false;
	points_undo(point->address, now, size);
	return memcmp(now, point->code, size) == 0;
}

/* The text of a point that is in place is not ours any more: the module was unloaded, and maybe
 * another is there. */
static bool lost(const struct point *point)
{
	uint8_t now[SYNC_SITE_MAX], size = extent(point, point->kind);
	struct ground_mapping mapping;

	int rc = ground_read(point->address, now, size);

	if (rc)
		return rc == -EFAULT;
	if (memcmp(now, point->code, size) == 0)
		return true;
	if (now[0] == (point->kind == SUTURE_SITE_TRAP ? isa_x86_64.trap[0]
	                                               : point->site.patched[0]) &&
	    (size == 1 || memcmp(now + 1, point->site.patched + 1, size - 1u) == 0))
		return false;
	/* Memory of no file can not be told from other such memory. */
	return ground_mapping(point->address, &mapping) || !point->inode ||
	       mapping.inode != point->inode || mapping.device != point->device ||
	       mapping.offset + point->address - mapping.start != point->offset;
}

static void mark_lost(struct point *point)
{
	if (point->detour)
		port_set(own_port(), &point->detour->gone, 1);
	point->detour = NULL;
	point->kind = 0;
}

/* A new one takes its place; threads may still be in the old one's trampoline. */
static struct point *renew(struct point *old)
{
	struct point *point = calloc(1, sizeof(*point));

	if (point)
		drop(old);
	return point;
}

/* What was around, and is not any more. */
static void drop_lost(uint64_t address)
{
	size_t i = first_from(address > POINT_CODE_MAX ? address - POINT_CODE_MAX : 0);

	for (; i < points_count && points[i]->address < address + POINT_CODE_MAX; i++)
		if (points[i]->kind && lost(points[i]))
			mark_lost(points[i]);
}

int point_get(uint64_t address, uint64_t replacement, size_t i, struct suture_text_options *options,
              struct point **out)
{
	struct point *point = point_at(address);
	int rc;

	*out = point;
	if (point)
		point->index = i;
	drop_lost(address);
	if (point &&
	    (point->kind || point->fresh || (point_is_idle(point) && still_there(point)))) {
		point->fresh = true;
		if (point->direct == replacement && point_is_idle(point))
			return 0;
		return point_make_indirect(point, options);
	}
	point = point ? renew(point) : calloc(1, sizeof(*point));
	if (!point)
		return own_fail(options, i, -ENOMEM, "out of memory");
	point->address = address;
	point->index = i;
	rc = point_plan(point, replacement, i, options);
	if (!rc && insert(point))
		rc = own_fail(options, i, -ENOMEM, "out of memory");
	if (rc) {
		free(point);
		return rc;
	}
	point->fresh = true;
	*out = point;
	return 0;
}

/* ---- wiring ---- */

static uint64_t without_handlers(const struct point *point)
{
	bool alone = point->alone && point->kind == SUTURE_SITE_TRAP;

	return alone ? point->alone : point->copy;
}

static bool in_force(const struct suture_hook *hook)
{
	return hook && !hook->leaving;
}

bool point_is_idle(const struct point *point)
{
	for (const struct suture_hook *hook = point->hooks; hook; hook = hook->next)
		if (in_force(hook))
			return false;
	for (const struct suture_probe *probe = point->probes; probe; probe = probe->next)
		if (!probe->leaving)
			return false;
	return true;
}

static void set(uint64_t *word, uint64_t value)
{
	__atomic_store_n(word, value, __ATOMIC_RELEASE);
}

/* From the end to the beginning: each word is whole, and what it leads to is there already. */
void point_wire(struct point *point)
{
	uint64_t next = without_handlers(point);
	bool pres = false, posts = false, vector = false;
	const struct suture_hook *top = NULL;

	for (const struct suture_probe *p = point->probes; p; p = p->next) {
		if (p->leaving)
			continue;
		pres = pres || p->handler.pre;
		posts = posts || p->handler.post;
		vector = vector || p->vector;
	}
	if (point->straight) {
		uint8_t first = point->first;
		bool in_copy = point->kind == SUTURE_SITE_WINDOW && first < point->displaced;

		set(point->straight,
		    in_copy ? point->copy + point->entries[first] : point->address + first);
	}
	if (posts)
		next = point->step;
	for (const struct suture_hook *hook = point->hooks; hook; hook = hook->next) {
		const struct suture_hook *below = hook->next;

		while (below && !in_force(below))
			below = below->next;
		set(hook->below, below ? (uintptr_t)below->replacement : next);
		if (!top && in_force(hook))
			top = hook;
	}
	for (struct suture_hook *old = point->old_stubs; old; old = old->next)
		set(old->below, next);
	next = top ? (uintptr_t)top->replacement : next;
	if (point->after)
		set(point->after, next);
	if (pres || posts)
		set(point->gate, (uintptr_t)(vector ? gate_vector : gate_general));
	if (point->enter)
		set(point->enter, pres ? point->gate_code : next);
}

/* ---- in the text and out ---- */

static int by_address(const void *a, const void *b)
{
	const struct point *x = *(struct point *const *)a, *y = *(struct point *const *)b;

	return (x->address > y->address) - (x->address < y->address);
}

size_t points_sort(struct point **list, size_t count)
{
	size_t kept = 0;

	if (count)
		qsort(list, count, sizeof(struct point *), by_address);
	for (size_t i = 0; i < count; i++)
		if (!kept || list[kept - 1] != list[i])
			list[kept++] = list[i];
	return kept;
}

/* What is in force now and covers, or relies on, the point's first byte. */
static struct point *covering(const struct point *point)
{
	size_t i = first_from(point->address);

	while (i-- > 0 && points[i]->address + POINT_CODE_MAX > point->address) {
		struct point *p = points[i];
		uint8_t size = extent(p, p->kind);

		if (p->kind && p->kind != SUTURE_SITE_TRAP && size < p->displaced)
			size = p->displaced;
		if (p->kind && p->address + size > point->address)
			return p;
	}
	return NULL;
}

int points_to_traps(struct point **list, size_t count, struct suture_text_options *options)
{
	struct live_change *changes = calloc(count + 1, sizeof(*changes));
	int rc = changes ? 0 : -ENOMEM;

	for (size_t i = 0; i < count && !rc; i++) {
		rc = point_make_alone(list[i]);
		changes[i] = (struct live_change){list[i], list[i]->kind, SUTURE_SITE_TRAP};
	}
	if (rc)
		own_fail(options, 0, rc, "no memory for a trampoline");
	if (count && !rc)
		rc = watch_begin(options);
	if (count && !rc)
		rc = points_publish(options);
	if (!rc)
		rc = live_change(changes, count, options);
	for (size_t i = 0; i < count; i++)
		point_wire(list[i]);
	free(changes);
	return rc;
}

bool points_near(uint64_t start, uint64_t end)
{
	size_t i = first_from(start > POINT_CODE_MAX ? start - POINT_CODE_MAX : 0);

	return i < points_count && points[i]->address < end;
}

/* In force, and an edit of the range meets its bytes in the text or those that its copy was made
 * of. */
struct point *point_under(uint64_t start, uint64_t end)
{
	size_t i = first_from(start > POINT_CODE_MAX ? start - POINT_CODE_MAX : 0);

	for (; i < points_count && points[i]->address < end; i++) {
		struct point *point = points[i];
		uint8_t size = extent(point, point->kind);

		if (!point->kind)
			continue;
		if (point->kind != SUTURE_SITE_TRAP && size < point->displaced)
			size = point->displaced;
		if (point->kind == SUTURE_SITE_TRAP)
			size = point->first;
		if (point->address + size > start)
			return point;
	}
	return NULL;
}

/* Those whose jump covers a point that comes trap from now on. */
static int make_room(struct point **list, size_t count, struct suture_text_options *options)
{
	struct point **covers = calloc(count + 1, sizeof(struct point *));
	size_t n = 0;
	int rc;

	for (size_t i = 0; covers && i < count; i++) {
		struct point *cover = covering(list[i]);

		if (cover)
			covers[n++] = cover;
	}
	rc = covers ? points_to_traps(covers, points_sort(covers, n), options)
	            : own_fail(options, 0, -ENOMEM, "out of memory");
	free(covers);
	return rc;
}

/* A dormant point's plan may not fit any more, or the point lie in the way of one after it. */
static enum suture_site_kind kind_now(const struct point *point)
{
	return point_room(point) >= point->site.length ? point->best : SUTURE_SITE_TRAP;
}

/* What is to be changed: points that are not in the text yet. */
static int choose_kinds(struct point **list, size_t count, struct live_change *changes, size_t *n,
                        struct suture_text_options *options)
{
	int rc = 0;

	*n = 0;
	/* Dormant ones are in each other's way, too. */
	for (size_t i = 0; i < count; i++)
		list[i]->fresh = true;
	for (size_t i = 0; i < count && !rc; i++) {
		enum suture_site_kind kind = kind_now(list[i]);

		if (list[i]->kind)
			continue;
		if (kind != list[i]->best)
			rc = point_make_alone(list[i]);
		changes[(*n)++] = (struct live_change){list[i], 0, kind};
	}
	return rc ? own_fail(options, 0, rc, "no memory for a trampoline") : 0;
}

static bool any_traps(const struct live_change *changes, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (changes[i].to != SUTURE_SITE_PUN)
			return true;
	return false;
}

static int apply_changes(struct point **list, size_t count, struct live_change *changes,
                         struct suture_text_options *options)
{
	size_t n;
	int rc = choose_kinds(list, count, changes, &n, options);

	if (!rc && any_traps(changes, n)) {
		rc = watch_begin(options);
		/* It may have put some of them in the text. */
		rc = rc ? rc : choose_kinds(list, count, changes, &n, options);
	}
	if (!rc)
		rc = make_room(list, count, options);
	if (!rc)
		rc = points_publish(options);
	/* What those that become traps lead to must not run over their neighbours. */
	for (size_t i = 0; i < n && !rc; i++) {
		changes[i].point->kind = changes[i].to;
		point_wire(changes[i].point);
		changes[i].point->kind = 0;
	}
	return rc ? rc : live_change(changes, n, options);
}

int points_apply(struct point **list, size_t count, struct suture_text_options *options)
{
	struct live_change *changes = calloc(count + 1, sizeof(*changes));
	int rc = changes ? apply_changes(list, count, changes, options)
	                 : own_fail(options, 0, -ENOMEM, "out of memory");

	free(changes);
	return rc;
}

int points_revert(struct point **list, size_t count, struct suture_text_options *options)
{
	struct live_change *changes = calloc(count + 1, sizeof(*changes));
	size_t n = 0;
	int rc = changes ? 0 : own_fail(options, 0, -ENOMEM, "out of memory");

	for (size_t i = 0; i < count && !rc; i++) {
		if (lost(list[i]))
			mark_lost(list[i]);
		else
			changes[n++] = (struct live_change){list[i], list[i]->kind, 0};
	}
	if (!rc)
		rc = live_change(changes, n, options);
	free(changes);
	return rc;
}
