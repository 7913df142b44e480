/* SPDX-License-Identifier: MIT */
/*
 * visible.c - which pieces exist, and who is told of them.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "api/own/own.h"
#include "api/own/visible.h"
#include "suture/trampoline.h"

enum { ALL_WAYS = SUTURE_SHOW_PERF_MAP | SUTURE_SHOW_GDB | SUTURE_SHOW_UNWIND };

/* What was added by one call. */
struct batch {
	struct batch *next, *previous;
	struct tramp_code *codes;
	struct tramp_row *rows; /* of all */
	size_t n;
	uint8_t *frames;   /* for the unwinders; NULL: none */
	size_t registered; /* so many of the codes, with them */
	struct gdb_entry *entries;
	size_t entry_count;
};

/* All under own_lock. */
static struct batch *batches;
static unsigned ways;
/* Whose map has the batches in it: a child of fork() has none yet. */
static pid_t map_pid;

/* ---- copies ---- */

static void batch_free(struct batch *batch)
{
	for (size_t i = 0; i < batch->n; i++)
		free((void *)batch->codes[i].name);
	free(batch->rows);
	free(batch->codes);
	free(batch);
}

static struct batch *batch_new(const struct tramp_code *codes, size_t n)
{
	struct batch *batch = calloc(1, sizeof(*batch));
	size_t rows = 0;
	int rc = batch ? 0 : -ENOMEM;

	for (size_t i = 0; i < n; i++)
		rows += codes[i].row_count;
	if (!rc) {
		batch->codes = calloc(n, sizeof(*codes));
		batch->rows = calloc(rows, sizeof(*batch->rows));
		rc = batch->codes && batch->rows ? 0 : -ENOMEM;
	}
	rows = 0;
	for (size_t i = 0; i < n && !rc; i++) {
		struct tramp_code *to = &batch->codes[i];

		*to = codes[i];
		to->rows = batch->rows + rows;
		memcpy(batch->rows + rows, codes[i].rows, to->row_count * sizeof(*to->rows));
		rows += to->row_count;
		to->name = codes[i].name ? strdup(codes[i].name) : NULL;
		rc = codes[i].name && !to->name ? -ENOMEM : 0;
		batch->n = i + 1;
	}
	if (rc && batch) {
		batch_free(batch);
		batch = NULL;
	}
	return batch;
}

/* ---- the unwinders ---- */

/*
 * Each piece is registered by itself. libgcc takes what is registered together to be one range of
 * addresses, in which nothing else lies (before version 13 its search ends at the first range
 * that begins below the address); but pieces of several batches lie side by side.
 */
static size_t unwind_size(const struct tramp_code *code)
{
	size_t size;

	(void)tramp_unwind_x86(code, 1, NULL, 0, &size);
	return (size + 7) & ~(size_t)7;
}

static void hide_unwind(struct batch *batch)
{
	uint8_t *at = batch->frames;

	for (size_t i = 0; i < batch->registered; i++)
		at += unwind_size(&batch->codes[i]);
	/* Backwards: libgcc's list begins with the highest address. */
	for (size_t i = batch->registered; i-- > 0;) {
		at -= unwind_size(&batch->codes[i]);
		unwinder_deregister(at);
	}
	free(batch->frames);
	batch->frames = NULL;
	batch->registered = 0;
}

static int show_unwind(struct batch *batch)
{
	size_t size = 0, at = 0;
	int rc = 0;

	for (size_t i = 0; i < batch->n; i++)
		size += unwind_size(&batch->codes[i]);
	batch->frames = malloc(size);
	if (!batch->frames)
		return -ENOMEM;
	for (size_t i = 0; i < batch->n && !rc; i++) {
		const struct tramp_code *code = &batch->codes[i];
		size_t room = unwind_size(code), used;

		rc = tramp_unwind_x86(code, 1, batch->frames + at, room, &used);
		if (!rc)
			rc = unwinder_register(batch->frames + at,
			                       code->address + code->rows[0].offset);
		if (!rc)
			batch->registered = i + 1;
		at += room;
	}
	if (rc)
		hide_unwind(batch);
	return rc;
}

/* ---- gdb ---- */

static void hide_gdb(struct batch *batch)
{
	while (batch->entry_count) {
		struct gdb_entry *entry = &batch->entries[--batch->entry_count];

		gdb_deregister(entry);
		free((void *)entry->image);
	}
	free(batch->entries);
	batch->entries = NULL;
}

static int show_gdb(struct batch *batch)
{
	size_t entries = (batch->n + TRAMP_OBJECT_MAX - 1) / TRAMP_OBJECT_MAX;
	int rc = 0;

	batch->entries = calloc(entries, sizeof(*batch->entries));
	if (!batch->entries)
		return -ENOMEM;
	for (size_t at = 0; at < batch->n && !rc; at += TRAMP_OBJECT_MAX) {
		size_t n = batch->n - at < TRAMP_OBJECT_MAX ? batch->n - at : TRAMP_OBJECT_MAX;
		uint8_t *image;
		size_t size;

		rc = tramp_object_x86(batch->codes + at, n, &image, &size);
		if (!rc) {
			struct gdb_entry *entry = &batch->entries[batch->entry_count++];

			entry->image = image;
			entry->size = size;
			gdb_register(entry);
		}
	}
	if (rc)
		hide_gdb(batch);
	return rc;
}

/* ---- perf ---- */

/* `batch` is new, or NULL. */
static int show_perf(const struct batch *batch)
{
	int rc = 0;

	if (map_pid == getpid())
		return batch ? perf_map_append(batch->codes, batch->n) : 0;
	/* Also without any pieces: whether it can be written is known now. */
	rc = perf_map_append(NULL, 0);
	for (const struct batch *b = batches; b && !rc; b = b->next)
		rc = perf_map_append(b->codes, b->n);
	if (!rc)
		map_pid = getpid();
	return rc;
}

/* ---- all ---- */

static void insert(struct batch *batch)
{
	batch->next = batches;
	if (batches)
		batches->previous = batch;
	batches = batch;
}

static void take_out(struct batch *batch)
{
	if (batch->next)
		batch->next->previous = batch->previous;
	if (batch->previous)
		batch->previous->next = batch->next;
	else
		batches = batch->next;
}

int visible_add(const struct tramp_code *codes, size_t n, void **handle)
{
	struct batch *batch;
	size_t size;
	int rc;

	*handle = NULL;
	if (!n)
		return 0;
	if (tramp_unwind_x86(codes, n, NULL, 0, &size) == -EINVAL)
		return -EINVAL;
	batch = batch_new(codes, n);
	if (!batch)
		return -ENOMEM;
	rc = ways & SUTURE_SHOW_UNWIND ? show_unwind(batch) : 0;
	if (!rc && ways & SUTURE_SHOW_GDB)
		rc = show_gdb(batch);
	if (rc) {
		hide_unwind(batch);
		batch_free(batch);
		return rc;
	}
	insert(batch);
	if (ways & SUTURE_SHOW_PERF_MAP && show_perf(batch))
		ways &= ~(unsigned)SUTURE_SHOW_PERF_MAP;
	*handle = batch;
	return 0;
}

void visible_remove(void *handle)
{
	struct batch *batch = handle;

	if (!batch)
		return;
	take_out(batch);
	hide_gdb(batch);
	hide_unwind(batch);
	batch_free(batch);
}

/* For all batches or none. */
static int show_all(unsigned way, int (*show)(struct batch *), void (*hide)(struct batch *))
{
	int rc = 0;

	if (ways & way)
		return 0;
	for (struct batch *b = batches; b && !rc; b = b->next)
		rc = show(b);
	if (!rc)
		ways |= way;
	for (struct batch *b = batches; b && rc; b = b->next)
		hide(b);
	return rc;
}

static int show_locked(unsigned how)
{
	int rc = 0;

	if (how & SUTURE_SHOW_UNWIND)
		rc = show_all(SUTURE_SHOW_UNWIND, show_unwind, hide_unwind);
	if (!rc && how & SUTURE_SHOW_GDB)
		rc = show_all(SUTURE_SHOW_GDB, show_gdb, hide_gdb);
	if (!rc && (how | ways) & SUTURE_SHOW_PERF_MAP) {
		rc = show_perf(NULL);
		if (!rc)
			ways |= SUTURE_SHOW_PERF_MAP;
	}
	return rc ? rc : (int)ways;
}

int suture_trampolines_show(unsigned how)
{
	int rc = how & ~(unsigned)ALL_WAYS ? -EINVAL : 0;

	if (!rc && how & SUTURE_SHOW_UNWIND)
		rc = unwinder_find();
	if (!rc)
		rc = own_lock();
	if (rc)
		return rc;
	rc = show_locked(how);
	own_unlock();
	return rc;
}

/* ---- the environment ---- */

static unsigned way_called(const char *word, size_t length)
{
	static const struct {
		const char *name;
		unsigned way;
	} names[] = {
	        {"perf", SUTURE_SHOW_PERF_MAP},
	        {"gdb", SUTURE_SHOW_GDB},
	        {"unwind", SUTURE_SHOW_UNWIND},
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strlen(names[i].name) == length && !memcmp(names[i].name, word, length))
			return names[i].way;
	return 0;
}

/* Before anything of the program could make a piece, its own constructors aside. */
__attribute__((constructor)) static void show_from_environment(void)
{
	const char *word = secure_getenv("SUTURE_SHOW");

	while (word && *word) {
		size_t length = strcspn(word, ",");
		unsigned way = way_called(word, length);
		int rc = way ? suture_trampolines_show(way) : -EINVAL;

		if (rc < 0)
			fprintf(stderr, "suture: SUTURE_SHOW: %.*s: %s\n", (int)length, word,
			        way ? strerror(-rc) : "is none of perf, gdb, unwind");
		word += length;
		word += *word == ',';
	}
}
