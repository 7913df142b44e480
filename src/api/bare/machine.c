/* SPDX-License-Identifier: MIT */
/*
 * machine.c - the start, cores that come and go, exceptions.
 */
#include "api/bare/machine.h"

struct machine machine;

_Static_assert(sizeof(struct suture_bare_core) == sizeof(struct bare_core),
               "the caller gives memory for them");
_Static_assert(sizeof(struct probe) + sizeof(struct patch_live) <= SUTURE_BARE_ROOM(1),
               "the caller gives memory for them");

static bool is_line(uint32_t size)
{
	return size >= 4 && !(size & (size - 1));
}

static int caches_take(const struct suture_bare_caches *caches)
{
	if (!caches)
		return 0;
	if (!is_line(caches->data_line) || !is_line(caches->instruction_line))
		return -EINVAL;
	machine.port.caches = (struct family_caches){
	        .data_line = caches->data_line,
	        .instruction_line = caches->instruction_line,
	        .data_reaches_fetch = caches->data_reaches_fetch,
	        .instruction_coherent = caches->instruction_coherent,
	};
	machine.port.caches_given = true;
	return 0;
}

/* The entries that trap handlers look at, then the probes. */
static void room_take(void *room, size_t size)
{
	size_t count = room ? size / SUTURE_BARE_ROOM(1) : 0;

	machine.traps.isa = machine.isa;
	machine.traps.count = (uint32_t)count;
	machine.traps.live = room;
	machine.probes = (struct probe *)(void *)((char *)room + count * sizeof(struct patch_live));
	for (size_t i = 0; i < count; i++) {
		machine.traps.live[i] = (struct patch_live){.phase = PATCH_GONE};
		machine.probes[i].state = PROBE_FREE;
		registry_of(&machine.probes[i])->count = 0;
	}
}

int suture_bare_start(const struct suture_bare_config *config)
{
	int rc;

	if (!config || config->size != sizeof(*config) || !config->cores || !config->core ||
	    (uint64_t)config->room % 16 || config->noinstr_end < config->noinstr_start)
		return -EINVAL;
	rc = caches_take(config->caches);
	if (rc)
		return rc;
	machine.isa = &isa_a64;
	machine.port.caps.noinstr_start = config->noinstr_start;
	machine.port.caps.noinstr_end = config->noinstr_end;
	machine.port.cores = config->cores;
	machine.port.core = (struct bare_core *)(void *)config->core;
	machine.port.bound_ns = config->bound_ns ? config->bound_ns : 1000000000u;
	bare_start(&machine.port);
	room_take(config->room, config->room_size);
	rc = port_trap_attach(&machine.port, patch_trap, &machine.traps);
	return rc ? rc : bare_online(&machine.port, true);
}

int suture_bare_online(void)
{
	return bare_online(&machine.port, true);
}

int suture_bare_offline(void)
{
	return bare_online(&machine.port, false);
}

void suture_bare_interrupt(void)
{
	bare_serve(&machine.port);
}

/* The entry of a slot is where a live probe leads; a thread that comes late for one is sent to what
 * is behind it, and its handler is not called. */
static void handle(uint64_t pc, uint64_t onward, void *registers)
{
	for (uint32_t i = 0; i < machine.traps.count; i++) {
		struct probe *probe = &machine.probes[i];

		if (port_load(&machine.port, &machine.traps.live[i].phase) == PATCH_GONE ||
		    probe->detour.patched != onward || registry_of(probe)->sites[0].address != pc)
			continue;
		probe->handler(pc, registers, probe->arg);
		return;
	}
}

uint64_t suture_bare_trap(uint64_t pc, void *registers)
{
	struct port *port = &machine.port;
	uint32_t period = bare_enter(port);
	uint64_t onward = port->handler ? port->handler(port, pc, port->handler_arg) : 0;

	if (onward)
		handle(pc, onward, registers);
	bare_leave(port, period);
	return onward;
}
