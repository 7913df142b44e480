/* SPDX-License-Identifier: MIT */
/*
 * versions.h - the history of one place in text, and what instruction fetch may find of it.
 *
 * The contents of a place are numbered in the order in which they reached the D-cache. Two kinds of
 * index into them are all that is kept: up to where the place was written back (`unified`), and for
 * each core the oldest content that its I-cache may still have (a floor). See line.c for why this
 * is enough. The scenarios and the litmus tests stand on these functions alike; who calls them owns
 * the contents and the floors.
 *
 * Pure functions on what they are passed.
 */
#ifndef SUTURE_PORT_MODEL_VERSIONS_H
#define SUTURE_PORT_MODEL_VERSIONS_H

#include <stdbool.h>
#include <stdint.h>

enum { VERSIONS_MAX = 16 }; /* contents of one place at a time */

struct versions {
	uint8_t count;   /* contents, at least 1 */
	uint8_t unified; /* written back at least up to here */
};

/* How the caches of a machine keep it. */
struct versions_caches {
	bool fetch_from_data;      /* a fetch finds what the D-cache holds (CTR_EL0.IDC) */
	bool instruction_coherent; /* I-caches drop what is written (CTR_EL0.DIC) */
	bool broadcast;            /* maintenance reaches all cores */
	unsigned cores;
	unsigned broken; /* rule that does not hold (rule.h), or 0 */
};

static inline unsigned versions_newest(const struct versions *v)
{
	return v->count - 1u;
}

/* One more content has reached the D-cache; the caller has put it behind the others. Returns
 * whether all of it is written back by that. */
bool versions_store(struct versions *v, const struct versions_caches *caches);
/* DC CVAU: everything is written back. */
void versions_unify(struct versions *v);
/* The same by an instruction, as far as the rules let it. Returns whether it did. */
bool versions_clean(struct versions *v, const struct versions_caches *caches);
/* Does an invalidation by `core` reach the I-cache of `other`? */
bool versions_reach(const struct versions_caches *caches, unsigned core, unsigned other);
/* IC IVAU by `core`: raises floors, of all cores if it is broadcast. */
void versions_invalidate(const struct versions *v, const struct versions_caches *caches,
                         uint8_t *floors, unsigned core);
/* Where I-caches drop what is written, floors follow the newest content. */
bool versions_follow(const struct versions *v, const struct versions_caches *caches,
                     uint8_t *floor);
/* The oldest content that a fetch may find, whose floor is this. */
unsigned versions_floor(const struct versions *v, const struct versions_caches *caches,
                        unsigned floor);
/*
 * Forget contents before the lowest of `n` indices, and equal neighbours; moves the indices, and
 * `unified`. `content` has v->count entries and room for `room`, of which the unused become 0.
 */
void versions_settle(struct versions *v, uint8_t *content, unsigned room, uint8_t **index,
                     unsigned n);

#endif
