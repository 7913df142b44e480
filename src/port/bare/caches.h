/* SPDX-License-Identifier: MIT */
/* caches.h - the cache operations of a family; implemented in the family's folder. */
#ifndef SUTURE_PORT_BARE_CACHES_H
#define SUTURE_PORT_BARE_CACHES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* See struct suture_bare_caches. */
struct family_caches {
	uint32_t data_line, instruction_line;
	bool data_reaches_fetch, instruction_coherent;
};

/* What the calling core's registers say. */
void family_caches_read(struct family_caches *caches);
/* Duties 1 to 3 of port.h, complete on return. */
void family_clean(const struct family_caches *caches, uint64_t alias, size_t size);
void family_drop_read(const struct family_caches *caches, uint64_t address, size_t size);
void family_drop_executed(const struct family_caches *caches, uint64_t address, size_t size);
/* Nothing from before is left in the calling core's I-cache. */
void family_drop_all_here(void);
/* One store of `size` bytes, which the family's store unit is not smaller than. */
void family_store(uint64_t alias, const void *bytes, size_t size);

#endif
