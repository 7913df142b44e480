/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>
#include "check/intern.h"

void intern_open(struct intern *table, size_t size)
{
	*table = (struct intern){.size = size, .hash_mask = UINT64_MAX};
}

void intern_close(struct intern *table)
{
	free(table->values);
	free(table->slots);
}

/* Multiply and rotate, 8 bytes at a time; only speed depends on its quality. */
static uint64_t hash_of(const struct intern *table, const uint8_t *value)
{
	uint64_t hash = 0x9E3779B97F4A7C15u ^ table->size;
	size_t i = 0;

	for (; i + 8 <= table->size; i += 8) {
		uint64_t word;

		memcpy(&word, value + i, 8);
		hash = (hash ^ word) * 0xFF51AFD7ED558CCDu;
		hash ^= hash >> 32;
	}
	for (; i < table->size; i++)
		hash = (hash ^ value[i]) * 0xC4CEB9FE1A85EC53u;
	hash ^= hash >> 29;
	return hash & table->hash_mask;
}

static int grow(struct intern *table)
{
	uint32_t room = table->room ? table->room * 2 : 256;
	uint8_t *values = realloc(table->values, room * table->size);
	uint32_t *slots;

	if (!values)
		return INTERN_FAILED;
	table->values = values;
	slots = calloc(room * 2, sizeof(*slots));
	if (!slots)
		return INTERN_FAILED;
	free(table->slots);
	table->slots = slots;
	table->room = room;
	table->mask = room * 2 - 1;
	for (uint32_t i = 0; i < table->count; i++) {
		uint32_t at = (uint32_t)hash_of(table, values + i * table->size) & table->mask;

		while (slots[at])
			at = (at + 1) & table->mask;
		slots[at] = i + 1;
	}
	return 0;
}

int intern(struct intern *table, const void *value, uint32_t *number)
{
	uint32_t at;

	if (table->count == table->room && grow(table))
		return INTERN_FAILED;
	at = (uint32_t)hash_of(table, value) & table->mask;
	for (; table->slots[at]; at = (at + 1) & table->mask) {
		*number = table->slots[at] - 1;
		if (memcmp(table->values + *number * table->size, value, table->size) == 0)
			return INTERN_KNOWN;
	}
	*number = table->count++;
	table->slots[at] = *number + 1;
	memcpy(table->values + *number * table->size, value, table->size);
	return INTERN_NEW;
}

const void *intern_value(const struct intern *table, uint32_t number)
{
	return table->values + number * table->size;
}

uint64_t intern_memory(const struct intern *table)
{
	return (uint64_t)table->room * (table->size + 2 * sizeof(uint32_t));
}
