/* SPDX-License-Identifier: MIT */
/* ground.c - what is mapped in the target, and so where nothing may be placed. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "session.h"

enum {
	CLEAR_OF_HEAP = 64 << 20,
	CLEAR_OF_STACK = 256 << 20,
	LOWEST_ADDRESS = 1 << 20,
};
#define USER_END 0x7ffffffff000ull

static int compare_ranges(const void *a, const void *b)
{
	const struct port_range *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

static bool heap_follows(const struct suture_target *t, const struct process_maps *maps, size_t i)
{
	const struct process_mapping *m = &maps->list[i];

	if (strcmp(m->path, "[heap]") == 0)
		return true;
	/* The break starts behind the executable, which is the lowest file. */
	return t->module_count && i + 1 < maps->count && m->inode == t->modules[0].inode &&
	       maps->list[i + 1].start - m->end > CLEAR_OF_HEAP;
}

/* The target keeps at least half of the mappings that it may still make. */
static void limit_pages(struct suture_target *t, size_t mappings)
{
	FILE *file = fopen("/proc/sys/vm/max_map_count", "re");
	size_t most = 0;

	if (!file)
		return;
	if (fscanf(file, "%zu", &most) == 1) {
		size_t left = most > mappings ? (most - mappings) / 2 : 0;

		if (t->options.pages > left)
			t->options.pages = (unsigned)left;
		if (t->options.pun_pages > left)
			t->options.pun_pages = (unsigned)left;
	}
	fclose(file);
}

int target_make_space(struct suture_target *t)
{
	struct process_maps maps;
	struct port_range *ranges;
	size_t n = 0, kept = 0;
	int rc = process_maps_read(process_member(t->pid), &maps);

	if (rc)
		return rc;
	limit_pages(t, maps.count);
	ranges = calloc(maps.count + 3, sizeof(*ranges));
	if (!ranges) {
		process_maps_free(&maps);
		return -ENOMEM;
	}
	ranges[n++] = (struct port_range){0, LOWEST_ADDRESS};
	ranges[n++] = (struct port_range){USER_END, UINT64_MAX};
	for (size_t i = 0; i < maps.count; i++) {
		struct port_range range = {maps.list[i].start, maps.list[i].end};

		if (t->left && maps.list[i].inode == t->left_shared.inode &&
		    maps.list[i].device == t->left_shared.device)
			continue; /* gone by then */
		if (heap_follows(t, &maps, i))
			range.end += CLEAR_OF_HEAP;
		if (strcmp(maps.list[i].path, "[stack]") == 0)
			range.start -= CLEAR_OF_STACK;
		ranges[n++] = range;
	}
	process_maps_free(&maps);
	qsort(ranges, n, sizeof(*ranges), compare_ranges);
	for (size_t i = 0; i < n; i++) {
		if (kept && ranges[i].start <= ranges[kept - 1].end) {
			if (ranges[i].end > ranges[kept - 1].end)
				ranges[kept - 1].end = ranges[i].end;
		} else {
			ranges[kept++] = ranges[i];
		}
	}
	rc = tramp_space_new(ranges, kept, t->options.pun_pages, &t->space);
	free(ranges);
	return rc;
}
