/* SPDX-License-Identifier: MIT */
/*
 * intern.h - a number for each different value of fixed size; values are compared in full, so two
 * that have the same hash stay two.
 */
#ifndef SUTURE_CHECK_INTERN_H
#define SUTURE_CHECK_INTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct intern {
	uint8_t *values;
	uint32_t *slots; /* 1 + number, 0: free */
	size_t size;     /* of a value, bytes */
	uint32_t count, room, mask;
	/* Bits of the hash that are used; a test sets few, so that all values collide. */
	uint64_t hash_mask;
};

enum { INTERN_FAILED = -1, INTERN_KNOWN, INTERN_NEW };

void intern_open(struct intern *table, size_t size);
void intern_close(struct intern *table);
/* INTERN_KNOWN or INTERN_NEW and *number; INTERN_FAILED: out of memory. */
int intern(struct intern *table, const void *value, uint32_t *number);
const void *intern_value(const struct intern *table, uint32_t number);
/* Bytes in use. */
uint64_t intern_memory(const struct intern *table);

#endif
