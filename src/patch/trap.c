/* SPDX-License-Identifier: MIT */
/*
 * trap.c - a thread has met one of our traps.
 *
 * Between taking a trap and looking it up any time may pass (case late-trap):
 *
 *     thread                                patcher
 *     takes the trap at A
 *                                           removes the patch of A, everywhere visible
 *     looks A up: nothing there
 *     reads the text: no trap               -> goes on at A, in the code that is there now
 *
 * and the two looks are not one (probe added again):
 *
 *     looks A up: nothing there
 *                                           announces A again, writes the trap
 *     reads the text: a trap                -> not "somebody else's": look again
 *
 * Without detours a thread that takes the trap is held until the transaction is over, and sent to
 * the same place again: to what is there then.
 *
 * `generation` tells that something came or went between the two. A registry is announced before
 * its first trap is written, and retired after its last one is gone.
 */
#include "patch/patch.h"

static const struct sync_site *site_at(const struct patch_registry *registry, uint64_t pc)
{
	uint32_t low = 0, high = registry->count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		const struct sync_site *site = &registry->sites[middle];

		if (site->address + site->length <= pc)
			low = middle + 1;
		else if (site->address > pc)
			high = middle;
		else
			return site;
	}
	return NULL;
}

/* Is there, or was, a trap of this site at pc? */
static bool is_ours(struct port *port, const struct patch_live *live, const struct sync_site *site,
                    uint64_t pc)
{
	uint64_t k = pc - site->address;

	if (k && !((unsigned)site->boundaries >> k & 1))
		return false;
	return !live->detours ||
	       !port_load(port, &live->detours[site - live->registry->sites].gone);
}

/* Where a thread goes on that took the trap at offset k of a site in this phase. */
static uint64_t onward(struct port *port, const struct isa *isa, const struct patch_live *live,
                       const struct sync_site *site, uint32_t phase, uint64_t k)
{
	const struct patch_detour *detour;

	if (!live->detours) {
		if (phase != PATCH_LIVE)
			(void)!port_wait(port, &live->phase, phase, PORT_FOREVER);
		return site->address + k; /* a new look, if a trap is there again */
	}
	detour = &live->detours[site - live->registry->sites];
	if (k || (phase == PATCH_REVERTING && !detour->stays))
		return detour->displaced + detour->displaced_at[k];
	if (phase == PATCH_LIVE && !isa->is_trap(site->patched, site->length))
		return site->address; /* it was there while we applied */
	return detour->patched;
}

uint64_t patch_trap(struct port *port, uint64_t pc, void *arg)
{
	struct patch_traps *traps = arg;
	const struct isa *isa = traps->isa;

	for (;;) {
		uint32_t generation = port_load(port, &traps->generation);
		uint8_t bytes[sizeof(isa->trap)];
		uint64_t late = 0;

		for (uint32_t i = 0; i < traps->count; i++) {
			struct patch_live *live = &traps->live[i];
			uint32_t phase = port_load(port, &live->phase);
			const struct sync_site *site;
			uint64_t next;

			if (phase == PATCH_GONE)
				continue;
			site = site_at(live->registry, pc);
			if (!site || !is_ours(port, live, site, pc))
				continue;
			next = onward(port, isa, live, site, phase, pc - site->address);
			if (next != pc)
				return next;
			/* The trap was there a moment ago, or belongs to a patch on top. */
			late = pc;
		}
		if (late)
			return late;
		if (port_read(port, pc, bytes, isa->trap_length))
			return 0;
		if (!isa->is_trap(bytes, isa->trap_length))
			return pc;
		/* A plain load of text may come after a later load of a word. */
		port_point(port, PORT_POINT_LOOK);
		port_complete(port);
		if (port_load(port, &traps->generation) == generation)
			return 0;
	}
}
