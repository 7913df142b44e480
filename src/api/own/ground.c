/* SPDX-License-Identifier: MIT */
/*
 * ground.c - where things are, and where ours go.
 *
 * Trampoline pages are mapped as soon as one is planned, so that a plan that was made can be
 * carried out; what is written into them lies in a copy until ground_publish. They are never
 * unmapped.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include "api/own/ground.h"
#include "api/own/own.h"

enum {
	PUN_PAGES = 65536,
	CLEAR_OF_HEAP = 64 << 20,
	CLEAR_OF_STACK = 256 << 20,
	LOWEST_ADDRESS = 1 << 20,
	WORDS_SIZE = 1 << 16,
	WORDS_REACH = 0x7ffe0000, /* of a 32-bit displacement, less what a trampoline may be long */
};
#define USER_END 0x7ffffffff000ull

static struct tramp_space *space;
static bool looked; /* since ground_begin */

/* What was looked up last. */
static struct ground_mapping last_mapping;
static struct {
	uint64_t address; /* 0: none */
	uint8_t bytes[TRAMP_PAGE];
} last_page;

void ground_forget(void)
{
	last_mapping = (struct ground_mapping){0};
	last_page.address = 0;
}

void ground_begin(void)
{
	looked = false;
	ground_forget();
}

int ground_read(uint64_t address, void *buffer, size_t size)
{
	uint64_t page = address & ~(uint64_t)(TRAMP_PAGE - 1);

	if (address - page + size > TRAMP_PAGE || !page)
		return own_read((void *)(uintptr_t)address, buffer, size);
	if (last_page.address != page) {
		int rc = own_read((void *)(uintptr_t)page, last_page.bytes, TRAMP_PAGE);

		last_page.address = rc ? 0 : page;
		if (rc)
			return rc;
	}
	memcpy(buffer, last_page.bytes + (address - page), size);
	return 0;
}

/* ---- what is mapped ---- */

/* linux/fs.h, since Linux 6.11. */
struct procmap_query {
	uint64_t size, flags, address;
	uint64_t start, end, vma_flags, page_size, offset, inode;
	uint32_t device_major, device_minor, name_size, build_id_size;
	uint64_t name, build_id;
};
#define PROCMAP_QUERY _IOWR('f', 17, struct procmap_query)
enum { PROCMAP_WRITABLE = 2, PROCMAP_EXECUTABLE = 4, PROCMAP_SHARED = 8 };

static bool parse_line(const char *line, struct ground_mapping *m, const char **path)
{
	unsigned long start, end, offset, inode;
	unsigned major, minor;
	char rights[5];
	int n = 0;

	if (sscanf(line, "%lx-%lx %4s %lx %x:%x %lu %n", &start, &end, rights, &offset, &major,
	           &minor, &inode, &n) < 7)
		return false;
	*m = (struct ground_mapping){start,
	                             end,
	                             offset,
	                             inode,
	                             (uint64_t)major << 32 | minor,
	                             rights[2] == 'x',
	                             rights[1] == 'w',
	                             rights[3] == 's'};
	*path = line + n;
	return true;
}

static int look_up(uint64_t address, struct ground_mapping *mapping)
{
	FILE *file = fopen("/proc/self/maps", "re");
	char line[512];
	int rc = -EFAULT;

	if (!file)
		return -errno;
	while (rc && fgets(line, sizeof(line), file)) {
		const char *path;

		if (parse_line(line, mapping, &path) && mapping->start <= address &&
		    address < mapping->end)
			rc = 0;
	}
	fclose(file);
	return rc;
}

static int query(uint64_t address, struct ground_mapping *mapping)
{
	struct procmap_query query = {.size = sizeof(query), .address = address};
	int file = open("/proc/self/maps", O_RDONLY | O_CLOEXEC), rc;

	if (file < 0)
		return -errno;
	rc = ioctl(file, PROCMAP_QUERY, &query) ? -errno : 0;
	close(file);
	if (rc == -ENOENT)
		return -EFAULT;
	if (rc)
		return look_up(address, mapping);
	*mapping = (struct ground_mapping){
	        query.start,
	        query.end,
	        query.offset,
	        query.inode,
	        (uint64_t)query.device_major << 32 | query.device_minor,
	        query.vma_flags & PROCMAP_EXECUTABLE,
	        query.vma_flags & PROCMAP_WRITABLE,
	        query.vma_flags & PROCMAP_SHARED,
	};
	return 0;
}

int ground_mapping(uint64_t address, struct ground_mapping *mapping)
{
	int rc = 0;

	if (address < last_mapping.start || address >= last_mapping.end)
		rc = query(address, &last_mapping);
	if (rc)
		last_mapping = (struct ground_mapping){0};
	*mapping = last_mapping;
	return rc;
}

bool ground_is_data(uint64_t address)
{
	struct ground_mapping mapping;

	return ground_mapping(address, &mapping) == 0 && !mapping.executable;
}

/* ---- where nothing may be placed ---- */

struct ranges {
	struct port_range *list;
	size_t count, room;
};

static int add_range(struct ranges *r, uint64_t start, uint64_t end)
{
	if (r->count && start <= r->list[r->count - 1].end) {
		if (end > r->list[r->count - 1].end)
			r->list[r->count - 1].end = end;
		return 0;
	}
	if (r->count == r->room) {
		size_t room = r->room ? 2 * r->room : 256;
		struct port_range *list = realloc(r->list, room * sizeof(*list));

		if (!list)
			return -ENOMEM;
		r->list = list;
		r->room = room;
	}
	r->list[r->count++] = (struct port_range){start, end};
	return 0;
}

/* Pages of ours are known to the space; they may lie side by side with others of ours, in one
 * mapping. */
static int add_mapping(struct ranges *r, const struct ground_mapping *m)
{
	uint64_t start = m->start;
	int rc = 0;

	if (!space || m->inode || !m->executable)
		return add_range(r, m->start, m->end);
	for (uint64_t at = m->start; at < m->end && !rc; at += TRAMP_PAGE) {
		if (!tramp_space_owns(space, at))
			continue;
		if (start < at)
			rc = add_range(r, start, at);
		start = at + TRAMP_PAGE;
	}
	return rc || start >= m->end ? rc : add_range(r, start, m->end);
}

static int add_line(struct ranges *r, const char *line)
{
	struct ground_mapping m;
	const char *path;

	if (!parse_line(line, &m, &path))
		return 0;
	/* What may grow has room to. */
	if (strncmp(path, "[heap]", 6) == 0)
		m.end += CLEAR_OF_HEAP;
	if (strncmp(path, "[stack]", 7) == 0)
		m.start -= CLEAR_OF_STACK;
	if (m.start >= USER_END)
		return 0;
	return add_mapping(r, &m);
}

static int read_occupied(struct ranges *r)
{
	FILE *file = fopen("/proc/self/maps", "re");
	char line[512];
	int rc = add_range(r, 0, LOWEST_ADDRESS);

	if (!file)
		return -errno;
	while (!rc && fgets(line, sizeof(line), file))
		rc = add_line(r, line);
	fclose(file);
	/* The break may still lie where it began: behind the executable. */
	if (!rc)
		rc = add_range(r, USER_END, UINT64_MAX);
	return rc;
}

/* ---- trampoline pages ---- */

static int map_page(void *arg, uint64_t page)
{
	struct port_pages pages = {.address = page, .size = TRAMP_PAGE};

	return port_map_exec(arg, &pages, 1);
}

int ground_look(void)
{
	struct ranges occupied = {0};
	int rc;

	if (looked)
		return -EALREADY;
	looked = true;
	rc = read_occupied(&occupied);

	if (!rc && !space) {
		rc = tramp_space_new(occupied.list, occupied.count, PUN_PAGES, &space);
		if (!rc)
			tramp_space_map(space, map_page, own_port());
	} else if (!rc) {
		rc = tramp_space_occupy(space, occupied.list, occupied.count);
	}
	free(occupied.list);
	return rc;
}

struct tramp_space *ground_space(void)
{
	return space;
}

/* ---- words ---- */

/* Regions of words, each within reach of some gigabytes. Freed words hold a list. */
static struct region {
	uint64_t *words;
	size_t used;
	uint64_t *free;
} * regions;
static size_t regions_count;

static bool reaches(uint64_t from, uint64_t to)
{
	return (from > to ? from - to : to - from) < WORDS_REACH;
}

static uint64_t *word_of(struct region *region)
{
	uint64_t *word = region->free;

	if (word) {
		region->free = (uint64_t *)(uintptr_t)*word;
		*word = 0;
		return word;
	}
	if (region->used == WORDS_SIZE / sizeof(uint64_t))
		return NULL;
	return &region->words[region->used++];
}

static struct region *new_region(uint64_t a, uint64_t b)
{
	uint64_t middle = a / 2 + b / 2, address;
	struct region *grown = realloc(regions, (regions_count + 1) * sizeof(*regions));
	void *memory;

	if (!grown)
		return NULL;
	regions = grown;
	for (int tries = 0; tries < 16; tries++) {
		if (tramp_reserve_region(space, middle, WORDS_SIZE, &address) ||
		    !reaches(address, a) || !reaches(address, b) ||
		    !reaches(address + WORDS_SIZE, a) || !reaches(address + WORDS_SIZE, b)) {
			middle =
			        (a < b ? a : b) - (WORDS_REACH / 2) + (unsigned)tries * (64u << 20);
			continue;
		}
		memory = mmap((void *)(uintptr_t)address, WORDS_SIZE, PROT_READ | PROT_WRITE,
		              MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
		if (memory == (void *)(uintptr_t)address) {
			regions[regions_count] = (struct region){.words = memory};
			return &regions[regions_count++];
		}
		if (memory != MAP_FAILED)
			munmap(memory, WORDS_SIZE);
	}
	return NULL;
}

uint64_t *ground_word(uint64_t a, uint64_t b)
{
	struct region *region;

	for (size_t i = regions_count; i-- > 0;) {
		uint64_t start = (uintptr_t)regions[i].words, end = start + WORDS_SIZE;
		uint64_t *word;

		if (!reaches(start, a) || !reaches(start, b) || !reaches(end, a) ||
		    !reaches(end, b))
			continue;
		word = word_of(&regions[i]);
		if (word)
			return word;
	}
	region = new_region(a, b);
	return region ? word_of(region) : NULL;
}

void ground_word_free(uint64_t *word)
{
	for (size_t i = 0; word && i < regions_count; i++) {
		struct region *region = &regions[i];

		if (word < region->words || word >= region->words + WORDS_SIZE / sizeof(*word))
			continue;
		*word = (uintptr_t)region->free;
		region->free = word;
	}
}

/* ---- publishing ---- */

struct pieces {
	struct sync_code *list;
	size_t count, room;
};

static int add_piece(void *arg, uint64_t address, const uint8_t *bytes, size_t size)
{
	struct pieces *p = arg;

	if (p->count == p->room) {
		size_t room = p->room ? 2 * p->room : 64;
		struct sync_code *list = realloc(p->list, room * sizeof(*list));

		if (!list)
			return -ENOMEM;
		p->list = list;
		p->room = room;
	}
	p->list[p->count++] = (struct sync_code){address, bytes, size};
	return 0;
}

/* What could not be written in time is tried again with what comes next. */
int ground_publish(struct port *port, uint64_t deadline_ns)
{
	static struct pieces pieces;
	int rc = tramp_take_dirty(space, add_piece, &pieces);

	if (!rc && pieces.count)
		rc = patch_publish(port, pieces.list, (uint32_t)pieces.count, NULL, deadline_ns);
	if (!rc)
		pieces.count = 0;
	return rc;
}
