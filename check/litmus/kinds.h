/* SPDX-License-Identifier: MIT */
/* kinds.h - which kind each test is said to be of, from a file. */
#ifndef SUTURE_LITMUS_KINDS_H
#define SUTURE_LITMUS_KINDS_H

#include <stdbool.h>
#include <stddef.h>
#include "check/litmus/litmus.h"

struct kinds {
	struct kind_line {
		char name[256];
		enum litmus_kind kind;
	} * lines;
	size_t count, room;
};

/*
 * A line each test: its name, then its kind. What stands before the name or behind the kind is not
 * looked at; nor are lines without a kind, or that begin with #. Returns 0 or a negative errno.
 */
int kinds_read(struct kinds *kinds, const char *file);
/* False: nothing is said of it. */
bool kinds_find(const struct kinds *kinds, const char *name, enum litmus_kind *kind);
void kinds_free(struct kinds *kinds);

#endif
