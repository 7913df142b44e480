/* SPDX-License-Identifier: MIT */
/*
 * region.c - regions: made, divided into blocks, copied for children, unmapped.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "api/own/alias.h"
#include "api/own/own.h"
#include "api/own/region.h"
#include "suture/code.h"

enum { TRAP = 0xCC /* int3 */, ALIGN_MAX = 4096, LOOK_EVERY = 64, PAUSE_NS = 50000 };
static const size_t size_max = (size_t)1 << 40;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct port *port;
static int port_error;
static uint8_t *ours; /* not 0; in a page that is 0 in a child, until that was told of */
static uint64_t fork_mask;
static size_t page;
static struct suture_region *regions;

/* ---- forks ---- */

static size_t granule_of(const struct suture_region *region, const void *exec)
{
	return (size_t)((const uint8_t *)exec - region->views.exec) / CODE_GRANULE;
}

/* Pages in use, into memory that a child will have in place of ours. */
static void copy_region(struct suture_region *region)
{
	size_t per_page = page / CODE_GRANULE;

	if (code_views_make(region->views.size, NULL, &region->fresh))
		return;
	for (size_t i = 0; i < region->filled; i += per_page)
		if (code_blocks_any(&region->blocks, i, i + per_page - 1))
			memcpy(region->fresh.writable + i * CODE_GRANULE,
			       region->views.exec + i * CODE_GRANULE, page);
}

/* Copied here, where nothing is half done, and not in the child, next to a parent that goes on. */
static void before_fork(void)
{
	pthread_mutex_lock(&lock);
	fork_mask = port_mask(port);
	for (struct suture_region *region = regions; region; region = region->next)
		if (!region->keep && !region->gone)
			copy_region(region);
}

static void after_fork(void)
{
	for (struct suture_region *region = regions; region; region = region->next)
		code_views_drop(&region->fresh);
	port_unmask(port, fork_mask);
	pthread_mutex_unlock(&lock);
}

/* The handlers of own.c and of the port were registered before, and have run. */
static void after_fork_in_child(void)
{
	*ours = 1;
	for (struct suture_region *region = regions; region; region = region->next) {
		if (region->gone)
			continue;
		if (!region->keep && code_views_replace(&region->views, &region->fresh) == 0)
			continue;
		region->gone = true;
		linux_alias_remove(port, &region->alias);
		edits_forget(region->alias.start, region->alias.start + region->alias.size);
	}
	port_unmask(port, fork_mask);
	pthread_mutex_unlock(&lock);
}

/* ---- access ---- */

static void open_port(void)
{
	/* Their fork handlers are registered before ours: locks are taken in this order. */
	port_error = code_inside_setup();
	if (!port_error)
		port_error = own_lock();
	if (port_error)
		return;
	own_unlock();
	page = (size_t)sysconf(_SC_PAGESIZE);
	ours = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ours == MAP_FAILED || madvise(ours, page, MADV_WIPEONFORK)) {
		port_error = -ENOMEM;
		return;
	}
	*ours = 1;
	port = linux_port(&port_error);
	if (port && pthread_atfork(before_fork, after_fork, after_fork_in_child)) {
		port_error = -ENOMEM;
		port = NULL;
	}
}

int region_lock(struct port **its)
{
	pthread_once(&once, open_port);
	if (!port)
		return port_error;
	/* First: in such a child nobody will ever give the lock back. */
	if (!*ours)
		return -EPERM;
	pthread_mutex_lock(&lock);
	*its = port;
	return 0;
}

void region_unlock(void)
{
	pthread_mutex_unlock(&lock);
}

static int lock_region(const struct suture_region *region)
{
	struct port *its;
	int rc = region ? region_lock(&its) : -EINVAL;

	if (!rc && region->gone) {
		region_unlock();
		rc = -ENXIO;
	}
	return rc;
}

struct suture_region *region_at(uint64_t address)
{
	struct suture_region *region = regions;

	while (region && (region->gone || address - region->alias.start >= region->alias.size))
		region = region->next;
	return region;
}

/* ---- new ---- */

/* What the protocol finds, or finds no more: nobody writes text meanwhile. */
static int tell_port(struct linux_alias *alias, bool there)
{
	int rc = own_lock();

	if (rc)
		return rc;
	rc = alias_tell(alias, there);
	if (!rc)
		edits_forget(alias->start, alias->start + alias->size);
	own_unlock();
	return rc;
}

static void free_region(struct suture_region *region)
{
	code_views_drop(&region->views);
	code_blocks_drop(&region->blocks);
	free(region->waiting);
	free(region);
}

static int make(size_t size, const struct suture_region_options *options,
                struct suture_text_options *text, struct suture_region **made)
{
	struct suture_region *region = calloc(1, sizeof(*region));
	int rc;

	if (!region)
		return own_fail(text, 0, -ENOMEM, "out of memory");
	size = (size + page - 1) / page * page;
	rc = code_views_make(size, options->near, &region->views);
	if (rc)
		rc = own_fail(text, 0, rc,
		              rc == -ENOMEM ? "no %zu bytes of memory, or of free addresses in "
		                              "reach of %p"
		                            : "%zu bytes can not be mapped to execute and to "
		                              "write: neither memfd_create nor shared anonymous "
		                              "memory is allowed to (near %p)",
		              size, options->near);
	else if (code_blocks_make(&region->blocks, size / CODE_GRANULE))
		rc = own_fail(text, 0, -ENOMEM, "out of memory");
	region->keep = options->flags & SUTURE_REGION_NOT_IN_CHILDREN;
	if (!rc && region->keep && code_views_keep(&region->views))
		rc = own_fail(text, 0, -EACCES, "the memory can not be kept from children");
	region->alias = (struct linux_alias){.start = (uintptr_t)region->views.exec,
	                                     .size = size,
	                                     .writable = (uintptr_t)region->views.writable};
	if (!rc)
		rc = tell_port(&region->alias, true);
	if (rc) {
		free_region(region);
		return rc;
	}
	region->look_at = LOOK_EVERY;
	region->next = regions;
	regions = region;
	*made = region;
	return 0;
}

int suture_region_new(size_t size, const struct suture_region_options *options,
                      struct suture_region **region)
{
	static const struct suture_region_options defaults = {.size = sizeof(defaults)};
	struct suture_text_options text = {.size = sizeof(text)};
	struct port *its;
	int rc;

	if (!options)
		options = &defaults;
	if (options->size < sizeof(*options) || !region)
		return -EINVAL;
	text.message = options->message;
	text.message_size = options->message_size;
	if (options->flags & ~(unsigned)SUTURE_REGION_NOT_IN_CHILDREN)
		return own_fail(&text, 0, -EINVAL, "flags %#x: not known", options->flags);
	if (!size || size > size_max)
		return own_fail(&text, 0, -EINVAL, "size %zu is not 1 to %zu", size, size_max);
	rc = region_lock(&its);
	if (rc)
		return own_fail(&text, 0, rc, "no code can be written in this process (%d)", -rc);
	rc = make(size, options, &text, region);
	region_unlock();
	return rc;
}

/* ---- blocks ---- */

/* Reuse what nobody can be inside any more. */
static int look(struct suture_region *region)
{
	size_t from = region->waiting_from;
	uint64_t oldest;
	int rc;

	if (from == region->waiting_to)
		return 0;
	oldest = code_inside_oldest(port);
	if (region->waiting[from].period < oldest) {
		rc = own_lock();
		if (rc)
			return rc;
		for (; from < region->waiting_to && region->waiting[from].period < oldest; from++) {
			const struct region_waiting *block = &region->waiting[from];
			uint64_t start = region->alias.start + block->first * CODE_GRANULE;

			edits_forget(start, start + block->count * CODE_GRANULE);
			memset(region->views.writable + block->first * CODE_GRANULE, TRAP,
			       block->count * CODE_GRANULE);
			code_blocks_release(&region->blocks, block->first, block->count);
		}
		own_unlock();
	}
	region->waiting_from = from;
	if (from == region->waiting_to)
		region->waiting_from = region->waiting_to = 0;
	region->look_at = region->waiting_to - region->waiting_from + LOOK_EVERY;
	return 0;
}

static int take(struct suture_region *region, size_t size, size_t align, struct suture_code *code)
{
	size_t count = (size + CODE_GRANULE - 1) / CODE_GRANULE, first;
	int rc = 0;

	align = align <= CODE_GRANULE ? 1 : align / CODE_GRANULE;
	if (!code_blocks_take(&region->blocks, count, align, &first)) {
		rc = look(region);
		if (!rc && !code_blocks_take(&region->blocks, count, align, &first))
			rc = region->waiting_from < region->waiting_to ? -EAGAIN : -ENOMEM;
	}
	if (rc)
		return rc;
	if (first + count > region->filled) {
		memset(region->views.writable + region->filled * CODE_GRANULE, TRAP,
		       (first + count - region->filled) * CODE_GRANULE);
		region->filled = first + count;
	}
	code->exec = region->views.exec + first * CODE_GRANULE;
	code->writable = region->views.writable + first * CODE_GRANULE;
	code->size = size;
	return 0;
}

int suture_code_alloc(struct suture_region *region, size_t size, size_t align,
                      struct suture_code *code)
{
	int rc;

	if (!code || !size || size > size_max || align > ALIGN_MAX || (align & (align - 1)))
		return -EINVAL;
	rc = lock_region(region);
	if (rc)
		return rc;
	rc = size > region->views.size ? -EINVAL : take(region, size, align, code);
	region_unlock();
	return rc;
}

/* Room for one more at the end of the queue. */
static int reserve(struct suture_region *region)
{
	size_t count = region->waiting_to - region->waiting_from;
	struct region_waiting *grown;

	if (region->waiting_to < region->waiting_room)
		return 0;
	if (region->waiting_from > count) {
		memcpy(region->waiting, region->waiting + region->waiting_from,
		       count * sizeof(*region->waiting));
		region->waiting_from = 0;
		region->waiting_to = count;
		return 0;
	}
	grown = realloc(region->waiting, (2 * region->waiting_room + LOOK_EVERY) * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	region->waiting = grown;
	region->waiting_room = 2 * region->waiting_room + LOOK_EVERY;
	return 0;
}

static int give_back(struct suture_region *region, void *exec)
{
	uint64_t at = (uintptr_t)exec - region->alias.start;
	size_t first, count;
	int rc;

	if (at >= region->alias.size || at % CODE_GRANULE)
		return -EINVAL;
	rc = reserve(region);
	if (rc)
		return rc;
	first = granule_of(region, exec);
	count = code_blocks_retire(&region->blocks, first);
	if (!count)
		return -EINVAL;
	region->waiting[region->waiting_to++] =
	        (struct region_waiting){first, count, code_inside_now()};
	/* It is given back, whatever comes of the rest. */
	if (region->waiting_to - region->waiting_from >= region->look_at)
		(void)!look(region);
	return 0;
}

int suture_code_free(struct suture_region *region, void *exec)
{
	int rc = lock_region(region);

	if (rc)
		return rc;
	rc = give_back(region, exec);
	region_unlock();
	return rc;
}

int suture_code_reclaim(struct suture_region *region, uint64_t deadline_ns)
{
	uint64_t end = code_end(deadline_ns);

	for (;;) {
		bool waiting;
		int rc = lock_region(region);

		if (rc)
			return rc;
		rc = look(region);
		waiting = region->waiting_from < region->waiting_to;
		region_unlock();
		if (rc || !waiting)
			return rc;
		if (code_inside_self())
			return -EDEADLK;
		if (code_now() >= end)
			return -ETIMEDOUT;
		port_pause(port, PAUSE_NS);
	}
}

/* ---- delete ---- */

static void unlink_region(struct suture_region *region)
{
	struct suture_region **at = &regions;

	while (*at != region)
		at = &(*at)->next;
	*at = region->next;
}

int suture_region_delete(struct suture_region *region, uint64_t deadline_ns)
{
	uint64_t end = code_end(deadline_ns), now;
	struct port *its;
	int rc;

	if (!region)
		return -EINVAL;
	rc = region_lock(&its);
	if (rc)
		return rc;
	now = code_inside_now();
	while (!region->gone && code_inside_oldest(port) <= now) {
		region_unlock();
		if (code_inside_self())
			return -EDEADLK;
		if (code_now() >= end)
			return -ETIMEDOUT;
		port_pause(port, PAUSE_NS);
		rc = region_lock(&its);
		if (rc)
			return rc;
	}
	if (!region->gone)
		rc = tell_port(&region->alias, false);
	if (!rc) {
		unlink_region(region);
		/* A child that never had it does not unmap what is there by now. */
		if (region->gone && region->keep)
			region->views = (struct code_views){0};
		free_region(region);
	}
	region_unlock();
	return rc;
}
