/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <string.h>
#include "check/scenarios/history.h"

/* A write through the alias with the duties that the caller wants. */
enum { CLEAN = 1, READ = 2, EXECUTED = 4, EXECUTED_ALIAS = 8, SYNC = 16, PIECES = 32 };

static void write_with(struct port *port, uint64_t address, const uint8_t *bytes, size_t size,
                       unsigned how)
{
	struct port_view view;

	if (port_view_open(port, address, size, &view))
		return;
	if (how & PIECES)
		(void)!port_write(port, &view, address, bytes, size);
	else
		(void)!port_store(port, &view, address, bytes, size);
	if (how & CLEAN)
		port_clean_written(port, &view, address, size);
	if (how & EXECUTED_ALIAS)
		port_drop_executed(port, view.alias, size);
	port_view_close(port, &view);
	if (how & READ)
		port_drop_read(port, address, size);
	if (how & EXECUTED)
		port_drop_executed(port, address, size);
	if (how & SYNC)
		(void)!port_sync_cores(port);
}

enum { ALL = CLEAN | READ | EXECUTED };

static const struct sync_site *site_of(const struct kit *kit)
{
	return &kit->registry[0]->sites[0];
}

/* Whole words one after the other, or any pieces. */
static void write_site(struct port *port, const struct kit *kit, unsigned how)
{
	const struct sync_site *site = site_of(kit);

	write_with(port, site->address, site->patched, site->length, how);
}

/* ---- what runs on all CPUs ---- */

static void everybody(struct port *port, uint32_t cores, void *arg)
{
	struct kit *kit = arg;
	uint64_t state = port_mask(port);

	port_complete(port);
	if (port_add(port, &kit->words[0], 1) == cores)
		port_set(port, &kit->words[1], 1);
	(void)!port_wait(port, &kit->words[1], 0, PORT_FOREVER);
	write_site(port, kit, ALL | PIECES);
	port_sync_self(port);
	port_unmask(port, state);
}

static void interrupts_masked(struct port *port, uint32_t cores, void *arg)
{
	struct kit *kit = arg;
	uint64_t state = port_mask(port);

	port_complete(port);
	if (port_add(port, &kit->words[0], 1) == cores) {
		write_site(port, kit, ALL | PIECES | SYNC);
		port_set(port, &kit->words[1], 1);
	} else {
		(void)!port_wait(port, &kit->words[1], 0, PORT_FOREVER);
	}
	port_unmask(port, state);
}

static void first_arriver(struct port *port, uint32_t cores, void *arg)
{
	struct kit *kit = arg;
	uint64_t state = port_mask(port);

	(void)cores;
	port_complete(port);
	if (port_add(port, &kit->words[0], 1) == 1) {
		write_site(port, kit, ALL | PIECES);
		port_set(port, &kit->words[1], 1);
	} else {
		(void)!port_wait(port, &kit->words[1], 0, PORT_FOREVER);
	}
	port_sync_self(port);
	port_unmask(port, state);
}

/* ---- */

static void as_number(struct port *port, const struct kit *kit)
{
	const struct sync_site *site = site_of(kit);
	uint8_t bytes[8];

	/* What a 32-bit store of the CPU puts into memory. */
	for (unsigned i = 0; i < site->length; i++)
		bytes[i] = site->patched[kit->world->machine->big_endian ? (i ^ 3u) : i];
	write_with(port, site->address, bytes, site->length, ALL | SYNC);
}

static void copy_code(struct port *port, struct kit *kit, unsigned how)
{
	write_with(port, kit->code_at, kit->code, kit->code_size, how | PIECES);
}

int history_batch(struct port *port, struct kit *kit)
{
	for (uint32_t i = 0; i < kit->registry[0]->count; i++) {
		const struct sync_site *site = &kit->registry[0]->sites[i];
		struct port_view view;
		int rc = port_view_open(port, site->address, site->length, &view);

		rc = rc ? rc : port_store(port, &view, site->address, site->patched, site->length);
		port_clean_written(port, &view, site->address, site->length);
		port_view_close(port, &view);
		port_drop_executed(port, site->address, site->length);
		if (rc)
			return rc;
	}
	return port_sync_cores(port);
}

bool history_apply(struct port *port, struct kit *kit)
{
	const struct sync_site *site = kit->registry[0] ? site_of(kit) : NULL;
	struct port_pages page = {.address = AT_SLOT, .size = WORLD_LINE};

	switch ((enum variant)kit->world->variant) {
	case VARIANT_LINUX_ARM:
		write_site(port, kit, CLEAN | EXECUTED | SYNC);
		return true;
	case VARIANT_EVERYBODY:
		(void)!port_run_on_all(port, everybody, kit, PORT_FOREVER);
		return true;
	case VARIANT_FIRST_ARRIVER:
		(void)!port_run_on_all(port, first_arriver, kit, PORT_FOREVER);
		return true;
	case VARIANT_NOSYNC_TWO:
	case VARIANT_COMPARE_NOTHING:
		write_site(port, kit, ALL | SYNC | PIECES);
		return true;
	case VARIANT_ICACHE_ONLY:
		write_site(port, kit, EXECUTED | SYNC);
		return true;
	case VARIANT_MEMCPY:
		write_site(port, kit, ALL | SYNC | PIECES);
		return true;
	case VARIANT_SYNC_MASKED:
		(void)!port_run_on_all(port, interrupts_masked, kit, PORT_FOREVER);
		return true;
	case VARIANT_COPY:
		copy_code(port, kit, 0);
		return true;
	case VARIANT_FLUSH_ALIAS:
		copy_code(port, kit, CLEAN | READ | EXECUTED_ALIAS | SYNC);
		return true;
	case VARIANT_FLUSH_BEFORE_MAP:
		copy_code(port, kit, ALL | SYNC);
		(void)!port_map_exec(port, &page, 1);
		return true;
	case VARIANT_AS_NUMBER:
		as_number(port, kit);
		return true;
	case VARIANT_HALVES:
		write_with(port, site->address, site->patched, 2, ALL);
		write_with(port, site->address + 2, site->patched + 2, 2, ALL | SYNC);
		return true;
	case VARIANT_SELF:
		write_with(port, site->address, kit->world->isa->trap, kit->world->isa->trap_length,
		           ALL | SYNC);
		write_site(port, kit, ALL | SYNC | PIECES);
		return true;
	case VARIANT_LATE_ANNOUNCE:
		write_site(port, kit, ALL | SYNC);
		port_set(port, &kit->live[0].phase, PATCH_LIVE);
		port_complete(port);
		return true;
	case VARIANT_LOCAL_FLUSH:
		write_site(port, kit, ALL | SYNC);
		return true;
	case VARIANT_BREAKPOINT_WORDS:
		port_set(port, &kit->live[0].phase, PATCH_APPLYING);
		port_complete(port);
		write_with(port, site->address, kit->world->isa->trap, kit->world->isa->trap_length,
		           ALL | SYNC);
		return true;
	default:
		return false;
	}
}

uint64_t history_trap(struct port *port, uint64_t pc, void *arg)
{
	struct kit *kit = arg;
	bool once = kit->world->variant == VARIANT_LOOKUP_ONCE;
	uint8_t bytes[4];

	if (kit->world->variant == VARIANT_SAME_PLACE)
		return pc;
	/* One site of one instruction in each registry. */
	for (unsigned i = 0; i < 2 && kit->registry[i]; i++) {
		struct patch_live *live = &kit->live[i];
		uint32_t phase = port_load(port, &live->phase);

		if (phase != PATCH_GONE && pc == live->registry->sites[0].address)
			return phase == PATCH_REVERTING ? live->detours->displaced
			                                : live->detours->patched;
	}
	if (once && !port_read(port, pc, bytes, kit->world->isa->trap_length) &&
	    !kit->world->isa->is_trap(bytes, kit->world->isa->trap_length))
		return pc;
	return 0;
}
