/* SPDX-License-Identifier: MIT */
/*
 * patch.h - a transaction over many sites, and the registry of what is patched.
 *
 * The registry is plain memory of fixed layout without pointers: it can lie in memory that
 * outlives its owner, and is then the journal from which another process takes everything back.
 */
#ifndef SUTURE_PATCH_H
#define SUTURE_PATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "port/port.h"

enum { PATCH_SITE_MAX = 16 };

struct patch_site {
	uint64_t address;
	uint8_t length; /* bytes that must be as expected; at least one changes */
	uint8_t reserved[7];
	uint8_t original[PATCH_SITE_MAX];
	uint8_t patched[PATCH_SITE_MAX];
};

enum patch_state {
	PATCH_PREPARED = 1, /* some sites may be patched, if the writer was killed */
	PATCH_APPLIED,
};

struct patch_registry {
	uint32_t state; /* enum patch_state */
	uint32_t count;
	struct patch_site sites[]; /* sorted by address, disjoint */
};

/* Bytes of a registry of `count` sites. */
size_t patch_registry_size(uint32_t count);

/* Is a registry of `size` bytes, which somebody else may have written, well formed? Checks order,
 * lengths and that what changes never crosses a multiple of `write_unit` (0: it may). */
bool patch_registry_valid(const struct patch_registry *registry, size_t size, uint32_t write_unit);

struct patch_options {
	uint64_t deadline_ns;
	unsigned tries;
	const struct port_range *clear, *vacate, *forget; /* see struct sync_batch */
	size_t clear_count, vacate_count, forget_count;
	int (*begin)(void *arg);
	void *arg;
};

/*
 * Patch every site of the registry, or none. On return 0 every core executes the new code and
 * the state is PATCH_APPLIED. Errors as of sync_quiesce; *failed (may be NULL) is the site.
 */
int patch_apply(struct port *port, struct patch_registry *registry,
                const struct patch_options *options, size_t *failed) port_must_check;

/*
 * Take every site back as far as it is still ours: bytes that somebody else changed since stay.
 * Works whatever an interrupted patch_apply or patch_revert left behind, and any number of times.
 * -EBUSY: the text is restored, but somebody is still inside `vacate`.
 */
int patch_revert(struct port *port, const struct patch_registry *registry,
                 const struct patch_options *options) port_must_check;

/* Number of sites at which at least one byte is ours now. */
int patch_count(struct port *port, const struct patch_registry *registry) port_must_check;

/* Overlay on `size` bytes read at `address` what the code was before we patched it. */
void patch_original(const struct patch_registry *registry, uint64_t address, uint8_t *bytes,
                    size_t size);

#endif
