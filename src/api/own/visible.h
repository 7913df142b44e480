/* SPDX-License-Identifier: MIT */
/* visible.h - pieces of code as others see them: the unwinder, gdb, perf. */
#ifndef SUTURE_API_OWN_VISIBLE_H
#define SUTURE_API_OWN_VISIBLE_H

#include "port/port.h"
#include "tramp/unwind.h"

/*
 * Both under own_lock, not between the first and the last write of a transaction: they allocate and
 * call other libraries.
 */

/*
 * Pieces that are going to be executed: called when their code is in place and before anything
 * leads to it. What is pointed to is copied. *handle stands for all of them together: one call for
 * a batch costs much less than one for each. -ENOMEM, or -EINVAL for rows that do not ascend;
 * then nobody knows of them.
 */
int visible_add(const struct tramp_code *codes, size_t n, void **handle) port_must_check;

/* Nobody executes them any more. NULL is allowed. */
void visible_remove(void *handle);

/* ---- perf_map.c ---- */

/* Append a line for each piece to this process's map. Errors as suture_trampolines_show. */
int perf_map_append(const struct tramp_code *codes, size_t n) port_must_check;

/* ---- unwinder.c ---- */

/* Find the process's unwinders. Not under own_lock: the loader's lock is taken, under which others
 * take ours when they register keys. -EOPNOTSUPP: there is none. */
int unwinder_find(void) port_must_check;
/* `frames` as tramp_unwind_x86 made them, about a piece at `address`; they are used until the
 * second is called. -EOPNOTSUPP: an unwinder does not take them. */
int unwinder_register(void *frames, uint64_t address) port_must_check;
void unwinder_deregister(void *frames);

/* ---- gdb.c ---- */

/* What gdb's interface for just-in-time compilers calls a code entry; its layout is given. */
struct gdb_entry {
	struct gdb_entry *next, *previous;
	const uint8_t *image;
	uint64_t size;
};
void gdb_register(struct gdb_entry *entry);
void gdb_deregister(struct gdb_entry *entry);

#endif
