/* SPDX-License-Identifier: MIT */
/*
 * code_views.c - memory that is mapped twice: to execute, and to write.
 *
 * Two mappings from the beginning, because making memory executable later is what MDWE and many a
 * seccomp filter refuse. A memfd that seals itself against execve satisfies vm.memfd_noexec, which
 * is about files, not mappings. Where memfd_create is refused, shared anonymous memory does the
 * same: mremap of length 0 maps it a second time, which then gives execution up for writing.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include "api/own/code.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U
#endif

/* Less than a branch reaches, so that what is near `near` is in reach, too. */
static const uint64_t reach = (UINT64_C(1) << 31) - (UINT64_C(1) << 20);
/* Left to the heap and the main stack, which grow. */
static const uint64_t growth = UINT64_C(128) << 20;
static const uint64_t lowest = 1 << 16, highest = (UINT64_C(1) << 47) - 4096;

/* ---- an address ---- */

struct search {
	uint64_t near, size, page;
	uint64_t best, distance; /* 0: none */
};

/* The place in [start, end) that is next to `near`. */
static void consider(struct search *search, uint64_t start, uint64_t end)
{
	uint64_t low = search->near > reach ? search->near - reach : lowest, high, place, distance;

	low = low > start ? low : start;
	low = (low + search->page - 1) & ~(search->page - 1);
	end = end < highest ? end : highest;
	high = search->near + reach < end ? search->near + reach : end;
	if (high < search->size || high - search->size < low)
		return;
	high = (high - search->size) & ~(search->page - 1);
	if (high < low)
		return;
	place = search->near < low ? low : search->near > high ? high : search->near;
	place &= ~(search->page - 1);
	place = place < low ? low : place;
	distance = place > search->near ? place - search->near : search->near - place;
	if (!search->best || distance < search->distance) {
		search->best = place;
		search->distance = distance;
	}
}

/* The free addresses next to `near`, or 0. */
static uint64_t find_near(uint64_t near, uint64_t size)
{
	struct search search = {.near = near, .size = size};
	uint64_t free_from = lowest, heap = (uint64_t)(uintptr_t)sbrk(0);
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512];

	if (!maps)
		return 0;
	search.page = (uint64_t)sysconf(_SC_PAGESIZE);
	while (fgets(line, sizeof(line), maps)) {
		unsigned long long start, end;
		int name = 0;

		/* What follows a line that is longer is no range. */
		if (sscanf(line, "%llx-%llx %*4s %*x %*x:%*x %*u %n", &start, &end, &name) < 2)
			continue;
		if (heap >= free_from && heap < start)
			free_from = heap + growth;
		if (line[name] == '[' && line[name + 1] == 's') /* [stack] */
			start = start > growth ? start - growth : 0;
		if (start > free_from)
			consider(&search, free_from, start);
		free_from = end > free_from ? end : free_from;
		if (end == heap)
			free_from = heap + growth;
	}
	fclose(maps);
	return search.best;
}

/* ---- two mappings ---- */

static const int to_execute = PROT_READ | PROT_EXEC, to_write = PROT_READ | PROT_WRITE;

/* The executable one, at `place` if that is not 0. */
static int map_exec(struct code_views *views, uint64_t place, int file)
{
	int flags = MAP_SHARED | (file < 0 ? MAP_ANONYMOUS | MAP_NORESERVE : 0) |
	            (place ? MAP_FIXED_NOREPLACE : 0);
	void *at = mmap((void *)(uintptr_t)place, views->size, to_execute, flags, file, 0);

	if (at == MAP_FAILED)
		return -errno;
	/* Kernels before 4.17 take the address as a hint. */
	if (place && (uintptr_t)at != place) {
		munmap(at, views->size);
		return -EEXIST;
	}
	views->exec = at;
	return 0;
}

static int map_writable(struct code_views *views, int file)
{
	void *at;

	if (file >= 0) {
		at = mmap(NULL, views->size, to_write, MAP_SHARED, file, 0);
	} else {
		at = mremap(views->exec, 0, views->size, MREMAP_MAYMOVE);
		if (at != MAP_FAILED && mprotect(at, views->size, to_write)) {
			munmap(at, views->size);
			at = MAP_FAILED;
		}
	}
	if (at == MAP_FAILED)
		return -errno;
	views->writable = at;
	return 0;
}

static int map_both(struct code_views *views, const void *near, int file)
{
	uint64_t place = 0;
	int rc = -EEXIST;

	/* Somebody else may take the address that was just found free. */
	for (int tries = 0; rc == -EEXIST && tries < 8; tries++) {
		if (near)
			place = find_near((uint64_t)(uintptr_t)near, views->size);
		if (near && !place)
			return -ENOMEM;
		rc = map_exec(views, place, file);
	}
	if (!rc)
		rc = map_writable(views, file);
	if (rc)
		code_views_drop(views);
	return rc == -ENOMEM || rc == -EEXIST ? -ENOMEM : rc ? -EACCES : 0;
}

static int make_file(size_t size)
{
	int file = memfd_create("suture-code", MFD_CLOEXEC | MFD_NOEXEC_SEAL);

	if (file < 0 && errno == EINVAL) /* before 6.3 */
		file = memfd_create("suture-code", MFD_CLOEXEC);
	if (file >= 0 && ftruncate(file, (off_t)size)) {
		close(file);
		return -1;
	}
	return file;
}

int code_views_make(size_t size, const void *near, struct code_views *views)
{
	int file = make_file(size), rc = -EACCES;

	*views = (struct code_views){.size = size};
	if (file >= 0) {
		rc = map_both(views, near, file);
		close(file);
	}
	if (rc == -EACCES)
		rc = map_both(views, near, -1);
	return rc;
}

void code_views_drop(struct code_views *views)
{
	if (views->exec)
		munmap(views->exec, views->size);
	if (views->writable)
		munmap(views->writable, views->size);
	views->exec = views->writable = NULL;
}

/* ---- forks ---- */

int code_views_keep(const struct code_views *views)
{
	return madvise(views->exec, views->size, MADV_DONTFORK) ||
	                       madvise(views->writable, views->size, MADV_DONTFORK)
	               ? -errno
	               : 0;
}

static int move(uint8_t **from, uint8_t *to, size_t size)
{
	if (*from && mremap(*from, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, to) != MAP_FAILED) {
		*from = NULL;
		return 0;
	}
	return -ENOMEM;
}

int code_views_replace(const struct code_views *views, struct code_views *fresh)
{
	int rc = move(&fresh->writable, views->writable, views->size);

	if (!rc)
		rc = move(&fresh->exec, views->exec, views->size);
	if (!rc)
		return 0;
	code_views_drop(fresh);
	/* Never the memory of another process. */
	if (mmap(views->exec, views->size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
	         0) == MAP_FAILED ||
	    mmap(views->writable, views->size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
	         -1, 0) == MAP_FAILED)
		abort();
	return rc;
}
