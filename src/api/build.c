/* SPDX-License-Identifier: MIT */
/* build.c - the contents of the shared memory: journal, cells, trampolines. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cpuid.h>
#include "session.h"

enum { CELL_LINE = 128 /* neighbouring lines are fetched in pairs */, BODY_SLACK = 24 };

static uint64_t round_up(uint64_t value, uint64_t unit)
{
	return (value + unit - 1) / unit * unit;
}

static bool jumps(const struct site *site)
{
	return !site->error && (site->kind == SUTURE_SITE_PUN || site->kind == SUTURE_SITE_WINDOW);
}

/* Highest possible CPU number + 1: CPUs may come later. */
static uint32_t possible_cpus(void)
{
	FILE *file = fopen("/sys/devices/system/cpu/possible", "re");
	unsigned first = 0, last = 0;
	long configured = sysconf(_SC_NPROCESSORS_CONF);

	if (file) {
		while (fscanf(file, "%u", &first) == 1) {
			last = first > last ? first : last;
			if (fgetc(file) == EOF) /* '-' or ',' */
				break;
		}
		fclose(file);
	}
	if (configured > 0 && last + 1 < (unsigned long)configured)
		last = (unsigned)configured - 1;
	return last + 1 < TRAMP_TABLE_CPUS ? last + 1 : TRAMP_TABLE_CPUS;
}

static bool has_rdpid(void)
{
	unsigned a, b, c, d;

	return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (c >> 22 & 1); /* SDM vol. 2, CPUID */
}

static uint32_t number_cells(struct suture_target *t)
{
	uint32_t count = 0;

	for (size_t i = 0; i < t->site_count; i++)
		if (jumps(&t->sites[i]))
			t->sites[i].cell = count++;
	return count;
}

static void lay_out_data(struct suture_target *t, uint32_t count)
{
	struct layout *l = &t->layout;
	uint64_t at = sizeof(struct journal);

	l->cpus = possible_cpus();
	l->stride = round_up((uint64_t)count * 8, CELL_LINE);
	l->registry = round_up(at, 64);
	l->registry_size = patch_registry_size(count);
	l->calls = round_up(l->registry + l->registry_size, PROCESS_PAGE);
	l->table = l->calls + PROCESS_CALLS_SIZE;
	l->descriptors = round_up(l->table + 8 * (TRAMP_TABLE_BEFORE + TRAMP_TABLE_CPUS), 64);
	l->shared_cells = round_up(l->descriptors + count * sizeof(struct tramp_rseq), CELL_LINE);
	l->cells = round_up(l->shared_cells + (uint64_t)count * 8, CELL_LINE);
	l->data_size = round_up(l->cells + l->cpus * l->stride, PROCESS_PAGE);
	l->trampolines = l->data_size + PROCESS_PAGE; /* behind the stub */
}

static struct tramp_body body_of(const struct suture_target *t, const struct site *site)
{
	uint64_t data = t->layout.data_address;
	struct tramp_body body = {
	        .counters = &t->counters,
	        .cell = site->cell,
	        .descriptor = data + t->layout.descriptors + site->cell * sizeof(struct tramp_rseq),
	        .code = site->code + site->shift,
	        .size = site->length,
	        .from = site_patch(site),
	        .next = site_patch(site) + site->length,
	};

	if (site->kind == SUTURE_SITE_PUN) {
		body.size = site->displaced;
		body.next = site_patch(site) + site->displaced;
	}
	if (site->kind == SUTURE_SITE_WINDOW)
		body.next = site->window.continuation;
	if (site->kind == SUTURE_SITE_WINDOW && !site->window.continuation) {
		body.size = 0; /* the call or jump is made at the site */
		body.next = site->window.target;
	}
	return body;
}

static struct tramp_body rest_of(const struct site *site)
{
	return (struct tramp_body){
	        .code = site->code + site->shift + site->length,
	        .size = site->window.displaced - site->length,
	        .from = site_patch(site) + site->length,
	        .next = site_patch(site) + site->window.displaced,
	};
}

/*
 * Code for one address that a jump leads to: right there if there is room, else a jump to where
 * there is. `*at` is 0 the first time; a second time (other counters) the place stays.
 */
static int place(struct suture_target *t, const struct tramp_body *body, uint64_t entry,
                 uint64_t *at, struct tramp_rseq *rseq)
{
	uint8_t code[TRAMP_BODY_MAX], jump[TRAMP_JUMP];
	int n, rc;

	if (!*at) {
		n = tramp_body_x86(body, entry, code, rseq);
		if (n < 0)
			return n;
		*at = entry;
		if (n > TRAMP_JUMP &&
		    tramp_reserve(t->space, entry + TRAMP_JUMP, (size_t)n - TRAMP_JUMP)) {
			rc = tramp_reserve_near(t->space, entry, (size_t)n + BODY_SLACK, at);
			if (rc)
				return rc;
		}
	}
	n = tramp_body_x86(body, *at, code, rseq);
	if (n < 0)
		return n;
	tramp_put(t->space, *at, code, (size_t)n);
	if (*at == entry)
		return 0;
	rc = isa_x86_64.branch(entry, *at, jump, sizeof(jump));
	if (rc < 0)
		return rc;
	tramp_put(t->space, entry, jump, sizeof(jump));
	return 0;
}

static int build_site(struct suture_target *t, struct site *site)
{
	struct tramp_body body = body_of(t, site);
	int rc = place(t, &body, site->trampoline, &site->body, &site->rseq);

	if (!rc && site->kind == SUTURE_SITE_WINDOW && site->window.continuation) {
		struct tramp_rseq none;

		body = rest_of(site);
		rc = place(t, &body, site->window.continuation, &site->rest, &none);
	}
	return rc;
}

uint8_t site_patched(const struct site *site, uint8_t patched[16])
{
	bool pun = site->kind == SUTURE_SITE_PUN;
	uint8_t length = pun ? site->pun.length : site->window.length;

	memcpy(patched, pun ? site->code + site->shift : site->window.patched, length);
	if (pun)
		patched[site->pun.jump] = 0xe9; /* jmp rel32 */
	return length;
}

static void register_site(struct suture_target *t, const struct site *site)
{
	struct sync_site *entry = &t->registry->sites[t->registry->count++];
	entry->address = site_patch(site);
	entry->length = site_patched(site, entry->patched);
	memcpy(entry->original, site->code + site->shift, entry->length);
}

int target_build_bodies(struct suture_target *t)
{
	int rc = 0;

	for (size_t i = 0; i < t->site_count && !rc; i++)
		if (jumps(&t->sites[i]))
			rc = build_site(t, &t->sites[i]);
	return rc;
}

/* Far from everything that grows. */
#define DATA_NEAR 0x200000000000ull

static int place_data(struct suture_target *t)
{
	struct layout *l = &t->layout;
	int rc = tramp_reserve_region(t->space, DATA_NEAR, l->data_size + PROCESS_PAGE,
	                              &l->data_address);

	/* The longer bodies: the others fit in their place. */
	t->counters.kind = TRAMP_COUNTER_RSEQ;
	t->counters.table = l->data_address + l->table + 8 * TRAMP_TABLE_BEFORE;
	t->counters.shared_cells = l->data_address + l->shared_cells;
	return rc;
}

int target_layout(struct suture_target *t)
{
	struct layout *l = &t->layout;
	int rc;

	lay_out_data(t, number_cells(t));
	t->counters = (struct tramp_counters){.rdpid = has_rdpid()};
	rc = place_data(t);
	if (rc)
		return rc;
	for (size_t i = 0; i < t->site_count; i++) {
		struct site *site = &t->sites[i];

		if (!jumps(site))
			continue;
		rc = build_site(t, site);
		if (rc == -ENOMEM)
			return rc;
		if (rc)
			site->kind = 0; /* out of reach of what it refers to */
	}
	l->file_size = l->trampolines + tramp_space_pages(t->space) * PROCESS_PAGE;
	return 0;
}

void target_layout_alone(struct suture_target *t, struct site *site)
{
	int rc = 0;

	/* One place for the counters will do for all: no trampoline can be that far from code. */
	if (!t->layout.data_size) {
		lay_out_data(t, 1);
		t->counters = (struct tramp_counters){.rdpid = has_rdpid()};
		rc = place_data(t);
	}
	site->cell = 0;
	site->body = site->rest = 0;
	site->unreachable = rc || build_site(t, site);
	tramp_space_clear(t->space);
}

/* Everything but the trampolines' place: they are laid out by now. */
void target_fill_memory(struct suture_target *t)
{
	const struct layout *l = &t->layout;
	uint8_t *memory = t->shared.memory;
	uint64_t data = l->data_address, *table = (uint64_t *)(memory + l->table);
	struct tramp_rseq *descriptors = (struct tramp_rseq *)(memory + l->descriptors);
	struct journal *journal = (struct journal *)memory;

	/* A second time the target has it mapped, and it stays valid: who would restore that? */
	*journal = (struct journal){
	        .magic = journal->magic,
	        .data_address = data,
	        .data_size = l->data_size,
	        .calls = l->calls,
	        .registry = l->registry,
	        .registry_size = l->registry_size,
	        .owner = getpid(),
	        .is_go = t->is_go,
	};
	(void)process_start_time(getpid(), &journal->owner_start);
	/* A CPU that was not to be known of has no cells: locked ones can be shared, others not. */
	for (uint32_t cpu = 0; cpu < TRAMP_TABLE_CPUS; cpu++)
		table[TRAMP_TABLE_BEFORE + cpu] = cpu < l->cpus ? data + l->cells + cpu * l->stride
		                                  : t->counters.kind == TRAMP_COUNTER_RSEQ
		                                          ? 0
		                                          : data + l->cells;
	t->registry = (struct patch_registry *)(memory + l->registry);
	t->registry->count = 0;
	for (size_t i = 0; i < t->site_count; i++) {
		const struct site *site = &t->sites[i];

		if (!jumps(site))
			continue;
		register_site(t, site);
		descriptors[site->cell] = site->rseq;
	}
	tramp_emit(t->space, l->trampolines, memory);
	journal->magic = JOURNAL_MAGIC;
}

void target_sum_cells(struct suture_target *t)
{
	const struct layout *l = &t->layout;

	for (size_t i = 0; i < t->site_count && t->shared.memory; i++) {
		struct site *site = &t->sites[i];
		const uint64_t *cell =
		        (const uint64_t *)(t->shared.memory + l->shared_cells) + site->cell;
		uint64_t sum;

		if (!jumps(site))
			continue;
		sum = __atomic_load_n(cell, __ATOMIC_RELAXED);
		for (uint32_t cpu = 0; cpu < l->cpus; cpu++) {
			cell = (const uint64_t *)(t->shared.memory + l->cells + cpu * l->stride) +
			       site->cell;
			sum += __atomic_load_n(cell, __ATOMIC_RELAXED);
		}
		site->hits = sum;
	}
}
