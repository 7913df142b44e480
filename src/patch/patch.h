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
#include "isa/isa.h"
#include "port/port.h"
#include "sync/sync.h"

enum patch_state {
	PATCH_PREPARED = 1, /* some sites may be patched, if the writer was killed */
	PATCH_APPLIED,
};

struct patch_registry {
	uint32_t state; /* enum patch_state */
	uint32_t count;
	struct sync_site sites[]; /* sorted by address, disjoint */
};

/* Bytes of a registry of `count` sites. */
size_t patch_registry_size(uint32_t count);

/* Is a registry of `size` bytes, which somebody else may have written, well formed? Checks order,
 * lengths and that what changes never crosses a multiple of `write_unit` (0: it may). */
bool patch_registry_valid(const struct patch_registry *registry, size_t size, uint32_t write_unit);

/* ---- traps: where a thread goes on that meets one of ours ---- */

/* One per site of a registry, in its order. */
struct patch_detour {
	uint64_t patched; /* where the patched code leads: for a trap at the head */
	/* Copy of the original instructions; entry k is where the one that starts at offset k of
	 * the site is in it. Both live until patch_revert returned 0. */
	uint64_t displaced;
	uint8_t displaced_at[SYNC_SITE_MAX];
	/* While the site is taken back, a thread at its head still goes to `patched`: the site
	 * becomes another one that leads there. */
	bool stays;
	/* Shared; the trap path shall no longer find the site here (port_set to 1, after it was
	 * taken back by way of another registry). */
	uint32_t gone;
};

enum patch_phase { PATCH_GONE, PATCH_APPLYING, PATCH_LIVE, PATCH_REVERTING };

/* A registry that the trap path knows. */
struct patch_live {
	uint32_t phase; /* enum patch_phase; shared: port_load, port_set */
	const struct patch_registry *registry;
	/* NULL: a thread that meets a trap is held until the transaction is over, and goes on
	 * where it is. Then every site is one instruction before, the patched code begins with no
	 * trap, and the patcher takes no signals meanwhile, whose handlers could wait for it. */
	const struct patch_detour *detours;
};

struct patch_traps {
	const struct isa *isa;
	uint32_t generation; /* shared; every coming and going; written under the lock */
	uint32_t count;
	struct patch_live *live; /* fixed; an entry is free if its phase is PATCH_GONE */
};

/*
 * A port_trap_fn; `arg` is the struct patch_traps. For a trap at `pc`, where the thread goes on:
 * in code that does what the text at `pc` does now or did before; `pc` itself if the trap is gone
 * (case late-trap); 0 if it is none of ours. Async-signal safe; takes no lock.
 */
uint64_t patch_trap(struct port *port, uint64_t pc, void *arg);

/* ---- transactions ---- */

enum patch_strategy {
	PATCH_QUIESCE, /* always possible */
	PATCH_NOSYNC,
	PATCH_BREAKPOINT,
	PATCH_CHEAPEST, /* of those that are legal for all sites; the isa must be given */
};

struct patch_options {
	const struct isa *isa;
	enum patch_strategy strategy;
	/* The trap path's view of this registry: needed where traps are in the text for a while
	 * (breakpoint) or are what is patched in. Both or neither. */
	struct patch_traps *traps;
	struct patch_live *live; /* one of traps->live */
	bool join;               /* write near sites in one go, however few there are */
	bool word;               /* PATCH_NOSYNC: see struct sync_batch */
	/* patch_revert and patch_retire do not wait for those on the way from a trap: the caller
	 * does (port_grace), for many at once, before he reuses what they read: registry, live,
	 * detours and displaced code. */
	bool later;
	uint64_t deadline_ns;
	unsigned tries;
	/* For PATCH_QUIESCE only; see struct sync_batch. */
	const struct port_range *clear, *vacate, *forget;
	size_t clear_count, vacate_count, forget_count;
	int (*begin)(void *arg);
	void *arg;
};

/*
 * The cheapest strategy that is legal for every site, with traps or without; PATCH_QUIESCE: none of
 * the others is. *failed: then the first site for which nothing but quiescence is legal.
 */
enum patch_strategy patch_plan(const struct port_caps *caps, const struct isa *isa,
                               const struct patch_registry *registry, bool traps, size_t *failed);

/* May `site` be changed with options.word? */
bool patch_word(const struct isa *isa, const struct sync_site *site);

/*
 * Patch every site of the registry, or none. On return 0 every core executes the new code and
 * the state is PATCH_APPLIED. Errors as of the strategy (sync.h), and -EPERM: *failed is text
 * that the protocol itself executes. *failed (may be NULL) is the site. -ETIMEDOUT is also said if
 * the lock was not free in time; then the registry's state is as before.
 *
 * Should a write fail and the way back fail, too, sites keep our traps, and threads that meet them
 * go on as if nothing had been patched in or everything (traps->live stays in use): patch_revert
 * then, with PATCH_QUIESCE if need be. Otherwise, on an error, what belongs to the detours may be
 * reused.
 */
int patch_apply(struct port *port, struct patch_registry *registry,
                const struct patch_options *options, size_t *failed) port_must_check;

/*
 * Take every site back. With PATCH_QUIESCE as far as it is still ours: bytes that somebody else
 * changed since stay; works whatever an interrupted patch_apply or patch_revert left behind, and
 * any number of times. Otherwise all or nothing.
 * -EBUSY: somebody is inside `clear`, and nothing is restored; or the text is, but somebody is
 * still inside `vacate`, or on the way from a trap (patch_count tells). -ETIMEDOUT: late for some
 * core; may be done again.
 */
int patch_revert(struct port *port, const struct patch_registry *registry,
                 const struct patch_options *options) port_must_check;

/*
 * The trap path also finds the sites of `registry` here, which are in place: another registry has
 * them, too, and is retired next. -ETIMEDOUT: no lock.
 */
int patch_adopt(struct port *port, const struct patch_options *options) port_must_check;

/*
 * After an applied transaction whose sites hold no traps, or are known from another registry, too:
 * the trap path forgets them, and the registry and `live` may be used for something else. -EBUSY as
 * in patch_revert.
 */
int patch_retire(struct port *port, const struct patch_options *options) port_must_check;

/*
 * Put code into memory that nobody executes: JIT output, an out-of-line slot, an exception vector.
 * `pages` (may be NULL) is mapped between writing and flushing, if the execution address does not
 * exist before. On return 0 every core that goes there executes the new code. -ETIMEDOUT: the lock
 * was not free in time; nothing written.
 */
int patch_publish(struct port *port, const struct sync_code *list, uint32_t count,
                  const struct port_pages *pages, uint64_t deadline_ns) port_must_check;

/* Number of sites at which at least one byte is ours now. */
int patch_count(struct port *port, const struct patch_registry *registry) port_must_check;

/* Overlay on `size` bytes read at `address` what the code was before we patched it. */
void patch_original(const struct patch_registry *registry, uint64_t address, uint8_t *bytes,
                    size_t size);

#endif
