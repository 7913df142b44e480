/* SPDX-License-Identifier: MIT */
/* code.h - what the files behind suture/code.h share. */
#ifndef SUTURE_API_CODE_H
#define SUTURE_API_CODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "port/port.h"

/* ---- views.c: memory that is mapped twice ---- */

struct code_views {
	uint8_t *exec, *writable; /* NULL: none */
	size_t size;              /* bytes, whole pages */
};

/* -EACCES: nothing can be mapped like that. -ENOMEM: no memory, or no free addresses near `near`
 * (NULL: anywhere). */
int code_views_make(size_t size, const void *near, struct code_views *views) port_must_check;
void code_views_drop(struct code_views *views);
/* Children do not have them. */
int code_views_keep(const struct code_views *views) port_must_check;
/* Put `fresh` at the addresses of `views`. If that fails, or `fresh` is none, nothing can be
 * accessed there. */
int code_views_replace(const struct code_views *views, struct code_views *fresh) port_must_check;

/* ---- blocks.c: which memory of a region is in use ---- */

enum { CODE_GRANULE = 16 };

/* A bit for each granule. */
struct code_blocks {
	size_t count;          /* granules */
	uint64_t *used;        /* not free */
	uint64_t *head, *tail; /* first and last of a block; no head: it was retired */
	size_t next;           /* where to look first */
};

int code_blocks_make(struct code_blocks *blocks, size_t count) port_must_check;
void code_blocks_drop(struct code_blocks *blocks);
/* Take `count` granules at a multiple of `align`. False: there is no such stretch. */
bool code_blocks_take(struct code_blocks *blocks, size_t count, size_t align, size_t *first);
/* The block that begins at `first` is nobody's any more, but its memory is not free yet. Its length
 * in granules, or 0: no block in use begins there. */
size_t code_blocks_retire(struct code_blocks *blocks, size_t first);
/* It is in use again, as if it had not been retired. */
void code_blocks_release(struct code_blocks *blocks, size_t first, size_t count);
/* Are these granules within one block in use? */
bool code_blocks_within(const struct code_blocks *blocks, size_t first, size_t last);
/* Is any of them not free? */
bool code_blocks_any(const struct code_blocks *blocks, size_t first, size_t last);

/* ---- inside.c: threads between enter and leave ---- */

/* The period now: who enters later than the next code_inside_oldest is in a later one. */
uint64_t code_inside_now(void);
/* The period in which the longest entered that is inside; UINT64_MAX: nobody is; 0: unknown. All
 * that the caller did before is seen by those who enter later. */
uint64_t code_inside_oldest(struct port *port);
bool code_inside_self(void);
/* Keep out who is not inside, and wait for those that are. -ETIMEDOUT: they may enter again. The
 * caller takes no signals, whose handlers could wait for it. */
int code_inside_close(struct port *port, uint64_t end_ns) port_must_check;
void code_inside_open(void);
/* Before any lock of the caller's that forks take. -ENOMEM */
int code_inside_setup(void) port_must_check;

/* Nanoseconds of CLOCK_MONOTONIC; the end of a relative deadline, UINT64_MAX stays. */
uint64_t code_now(void);
uint64_t code_end(uint64_t deadline_ns);

#endif
