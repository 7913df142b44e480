/* SPDX-License-Identifier: MIT */
/*
 * probes.c - a breakpoint in the text, and the instruction that stood there out of line.
 *
 *     slot      nop                   a thread that took the breakpoint of a live probe
 *     slot + 4  copy                  one that took it while it came or went
 *     ...       b address + 4
 *
 * Nothing steps over the copy: it goes on by itself, with interrupts as they were.
 */
#include "api/bare/machine.h"

static int probes_lock(void)
{
	while (!port_cas(&machine.port, &machine.probes_busy, 0, 1)) {
		int rc = port_wait(&machine.port, &machine.probes_busy, 1, machine.port.bound_ns);

		if (rc)
			return rc;
	}
	return 0;
}

static void probes_unlock(void)
{
	port_set(&machine.port, &machine.probes_busy, 0);
}

static struct sync_site *site_of(struct probe *probe)
{
	return &registry_of(probe)->sites[0];
}

/* The one that is there, and one that may become it: of those that are free the one that was it. */
static struct probe *find(uint64_t address, struct probe **unused)
{
	*unused = NULL;
	for (uint32_t i = 0; i < machine.traps.count; i++) {
		struct probe *probe = &machine.probes[i];
		bool same = registry_of(probe)->count && site_of(probe)->address == address;

		if (probe->state != PROBE_FREE) {
			if (same)
				return probe;
		} else if (same || !*unused) {
			*unused = probe;
		}
	}
	return NULL;
}

static struct patch_options options_of(const struct probe *probe)
{
	return (struct patch_options){
	        .isa = machine.isa,
	        .strategy = PATCH_CHEAPEST,
	        .traps = &machine.traps,
	        .live = &machine.traps.live[probe - machine.probes],
	        .deadline_ns = machine.port.bound_ns,
	        .tries = 1,
	};
}

/* What is in the slot; its length. */
static int slot_write(uint64_t address, uint64_t slot, const uint8_t *original, uint8_t *out)
{
	const struct isa *isa = machine.isa;
	size_t size = isa->unit;
	int rc;

	isa->nop(out, isa->unit);
	rc = isa->relocate(original, isa->insn_max, address, slot + size, out + size,
	                   SUTURE_BARE_SLOT - size - isa->branch_length);
	if (rc < 0)
		return rc;
	size += (size_t)rc;
	rc = isa->branch(slot + size, address + isa->unit, out + size, SUTURE_BARE_SLOT - size);
	return rc < 0 ? rc : (int)size + rc;
}

/* Slots that hold what they shall are left alone: somebody may have been preempted in one. */
static int slot_publish(uint64_t slot, const uint8_t *bytes, size_t size)
{
	uint8_t now[SUTURE_BARE_SLOT];
	int rc = port_read(&machine.port, slot, now, size);
	bool same = !rc;

	for (size_t i = 0; same && i < size; i++)
		same = now[i] == bytes[i];
	return rc ? rc : same ? 0 : suture_bare_publish(slot, bytes, size);
}

static void fill(struct probe *probe, uint64_t address, uint64_t slot, const uint8_t *original)
{
	const struct isa *isa = machine.isa;
	struct sync_site *site = site_of(probe);

	*site = (struct sync_site){.address = address, .length = isa->trap_length};
	for (size_t i = 0; i < isa->trap_length; i++) {
		site->original[i] = original[i];
		site->patched[i] = isa->trap[i];
	}
	registry_of(probe)->count = 1;
	probe->slot = slot;
	probe->detour = (struct patch_detour){.patched = slot, .displaced = slot + isa->unit};
}

static int add(uint64_t address, uint64_t slot, suture_bare_handler handler, void *arg)
{
	uint8_t original[SYNC_SITE_MAX], code[SUTURE_BARE_SLOT];
	struct patch_options options;
	struct probe *probe;
	size_t failed;
	int rc;

	if (find(address, &probe))
		return -EEXIST;
	if (!probe)
		return -ENOSPC;
	rc = port_read(&machine.port, address, original, machine.isa->insn_max);
	if (!rc)
		rc = slot_write(address, slot, original, code);
	if (rc > 0)
		rc = slot_publish(slot, code, (size_t)rc);
	if (rc)
		return rc;
	fill(probe, address, slot, original);
	probe->handler = handler;
	probe->arg = arg;
	options = options_of(probe);
	options.live->registry = registry_of(probe);
	options.live->detours = &probe->detour;
	rc = patch_apply(&machine.port, registry_of(probe), &options, &failed);
	/* Late for some core: the breakpoint is there all the same, and works. */
	if (!rc || (rc == -ETIMEDOUT && patch_count(&machine.port, registry_of(probe)) > 0))
		probe->state = PROBE_LIVE;
	return rc;
}

int suture_bare_probe_add(uint64_t address, uint64_t slot, suture_bare_handler handler, void *arg)
{
	int rc;

	if (!handler || address % machine.isa->unit || slot % machine.isa->unit)
		return -EINVAL;
	rc = probes_lock();
	if (rc)
		return rc;
	rc = add(address, slot, handler, arg);
	probes_unlock();
	return rc;
}

static int take_away(struct probe *probe)
{
	struct patch_options options = options_of(probe);
	int rc;

	rc = probe->state == PROBE_LEAVING
	             ? patch_retire(&machine.port, &options)
	             : patch_revert(&machine.port, registry_of(probe), &options);
	if (!rc)
		probe->state = PROBE_FREE;
	else if (rc == -EBUSY)
		probe->state = PROBE_LEAVING;
	return rc;
}

int suture_bare_probe_remove(uint64_t address)
{
	struct probe *probe, *unused;
	int rc = probes_lock();

	if (rc)
		return rc;
	probe = find(address, &unused);
	rc = probe ? take_away(probe) : -ENOENT;
	probes_unlock();
	return rc;
}
