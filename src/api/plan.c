/* SPDX-License-Identifier: MIT */
/*
 * plan.c - a kind for every site, cheapest first: pun, window, kernel uprobe; or a refusal.
 *
 * Nothing in the target changes here. A pun costs up to a page, so beyond `pun_pages` windows are
 * preferred, which share pages; what is left then takes puns up to `pages`.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "session.h"

enum {
	PUN_LENGTH = 5,
	UPROBES_MAX = 32, /* that a glob takes: each takes some 80 ms to remove */
	SHIFTS_MAX = 3,
	SHIFT_MAX = 14, /* so that a shift and what follows it fit in site.code */
	CLEAR_OF_HEAP = 64 << 20,
	CLEAR_OF_STACK = 256 << 20,
	LOWEST_ADDRESS = 1 << 20,
};
#define USER_END 0x7ffffffff000ull

void site_refuse(struct site *site, int error, const char *format, ...)
{
	va_list args;

	if (site->error)
		return;
	site->error = error;
	va_start(args, format);
	if (vasprintf(&site->reason, format, args) < 0)
		site->reason = NULL;
	va_end(args);
}

/* ---- sites from probes ---- */

static int compare_sites(const void *a, const void *b)
{
	const struct site *x = a, *y = b;

	return x->address < y->address ? -1 : x->address > y->address;
}

static int collect_sites(struct suture_target *t)
{
	size_t kept = 0;

	t->sites = calloc(t->probe_count + 1, sizeof(*t->sites));
	if (!t->sites)
		return -ENOMEM;
	for (size_t i = 0; i < t->probe_count; i++)
		t->sites[i] = (struct site){.address = t->probes[i].address,
		                            .vaddr = t->probes[i].vaddr,
		                            .module = t->probes[i].module};
	qsort(t->sites, t->probe_count, sizeof(*t->sites), compare_sites);
	for (size_t i = 0; i < t->probe_count; i++)
		if (!kept || t->sites[kept - 1].address != t->sites[i].address)
			t->sites[kept++] = t->sites[i];
	t->site_count = kept;
	for (size_t i = 0; i < t->probe_count; i++) {
		struct site key = {.address = t->probes[i].address};
		struct site *site = bsearch(&key, t->sites, kept, sizeof(*t->sites), compare_sites);

		t->probes[i].site = (uint32_t)(site - t->sites);
	}
	return 0;
}

/* ---- what is at a site ---- */

/* Somebody else's breakpoint, or code that is not the file's: never ours to build on. */
static void check_bytes(struct suture_target *t, struct site *site)
{
	const struct target_module *m = &t->modules[site->module];
	uint8_t file[sizeof(site->code)];
	int n = module_read(m->module, site->vaddr, file, sizeof(file));
	size_t size = n > 0 ? (size_t)n : 0;

	while (size && port_read(t->port, site->address, site->code, size))
		size--; /* the mapping ends here */
	site->code_size = (uint8_t)size;
	if (!size) {
		site_refuse(site, -EFAULT, "0x%" PRIx64 " of %s is not mapped", site->vaddr,
		            m->name);
		return;
	}
	for (size_t i = 0; i < size && i < PUN_LENGTH; i++) {
		if (site->code[i] == file[i])
			continue;
		if (site->code[i] == isa_x86_64.trap[0])
			site_refuse(site, -EBUSY,
			            "a breakpoint of another tool is at 0x%" PRIx64
			            " (a kernel uprobe, as bpftrace, perf and tracefs place them); "
			            "remove "
			            "it first",
			            site->vaddr + i);
		else
			site_refuse(site, -EBUSY,
			            "the code at 0x%" PRIx64
			            " is not that of the file %s: another tool has patched it (an "
			            "optimised uprobe, a hook)",
			            site->vaddr + i, m->name);
	}
	/* Beyond the five bytes that a pun needs, foreign bytes only end what may be displaced. */
	for (size_t i = PUN_LENGTH; i < size; i++)
		if (site->code[i] != file[i])
			site->code_size = size = (uint8_t)i;
}

static void check_boundary(struct suture_target *t, struct site *site)
{
	struct module *module = t->modules[site->module].module;
	uint64_t start, end, at;

	if (module_function_extent(module, site->vaddr, &start, &end))
		return; /* nothing is known: the user's word counts */
	for (at = start; at < site->vaddr;) {
		uint8_t code[ISA_INSN_MAX];
		struct isa_insn insn;
		int n = module_read(module, at, code, sizeof(code));

		n = n > 0 ? isa_x86_64.decode(code, (size_t)n, at, &insn) : n;
		if (n <= 0)
			return; /* data among the code: the same */
		if (at + (uint64_t)n > site->vaddr) {
			site_refuse(site, -EINVAL,
			            "0x%" PRIx64 " is inside the instruction at 0x%" PRIx64
			            "; a probe needs the first byte of one",
			            site->vaddr, at);
			return;
		}
		at += (uint64_t)n;
	}
}

static void inspect(struct suture_target *t, struct site *site)
{
	struct module *module = t->modules[site->module].module;
	const struct module_symbol *symbol = module_symbol_at(module, site->vaddr);
	struct isa_insn insn;
	int n;

	if (symbol && symbol->indirect && symbol->vaddr == site->vaddr) {
		site_refuse(
		        site, -EINVAL,
		        "%s is an indirect function (IFUNC): its address is the resolver's; name "
		        "the implementation that it chooses",
		        symbol->name);
		return;
	}
	check_bytes(t, site);
	if (site->error)
		return;
	check_boundary(t, site);
	n = isa_x86_64.decode(site->code, site->code_size, site->address, &insn);
	if (n <= 0) {
		site_refuse(site, -EILSEQ, "the bytes at 0x%" PRIx64 " are no instruction",
		            site->vaddr);
		return;
	}
	site->length = site->first = (uint8_t)n;
	site->class = insn.class;
	site->steppable = insn.steppable;
	if (module_rseq_overlaps(module, site->vaddr, site->vaddr + sizeof(site->code)))
		site_refuse(
		        site, -EINVAL,
		        "0x%" PRIx64
		        " is in a restartable sequence (rseq), which a probe would always restart",
		        site->vaddr);
}

/* May the instruction at the patch address run elsewhere? */
static bool displaceable(const struct site *site)
{
	uint64_t from = site_patch(site);
	uint8_t copy[ISA_DISPLACED_MAX];

	return isa_x86_64.relocate(site->code + site->shift, site->length, from, from + 4096, copy,
	                           sizeof(copy)) > 0;
}

/* Distance from the patch address to the next probed one, which must stay out of what this site
 * changes or needs unchanged. */
static uint64_t room(const struct suture_target *t, size_t index)
{
	uint64_t patch = site_patch(&t->sites[index]);

	for (size_t i = index + 1; i < t->site_count; i++)
		if (!t->sites[i].error) /* a shift may have gone past it */
			return t->sites[i].address > patch ? t->sites[i].address - patch : 0;
	return UINT64_MAX;
}

/* ---- where nothing may be placed ---- */

static int compare_ranges(const void *a, const void *b)
{
	const struct port_range *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

static bool heap_follows(const struct suture_target *t, const struct process_maps *maps, size_t i)
{
	const struct process_mapping *m = &maps->list[i];

	if (strcmp(m->path, "[heap]") == 0)
		return true;
	/* The break starts behind the executable, which is the lowest file. */
	return t->module_count && i + 1 < maps->count && m->inode == t->modules[0].inode &&
	       maps->list[i + 1].start - m->end > CLEAR_OF_HEAP;
}

/* The target keeps at least half of the mappings that it may still make. */
static void limit_pages(struct suture_target *t, size_t mappings)
{
	FILE *file = fopen("/proc/sys/vm/max_map_count", "re");
	size_t most = 0;

	if (!file)
		return;
	if (fscanf(file, "%zu", &most) == 1) {
		size_t left = most > mappings ? (most - mappings) / 2 : 0;

		if (t->options.pages > left)
			t->options.pages = (unsigned)left;
		if (t->options.pun_pages > left)
			t->options.pun_pages = (unsigned)left;
	}
	fclose(file);
}

static int make_space(struct suture_target *t)
{
	struct process_maps maps;
	struct port_range *ranges;
	size_t n = 0, kept = 0;
	int rc = process_maps_read(process_member(t->pid), &maps);

	if (rc)
		return rc;
	limit_pages(t, maps.count);
	ranges = calloc(maps.count + 3, sizeof(*ranges));
	if (!ranges) {
		process_maps_free(&maps);
		return -ENOMEM;
	}
	ranges[n++] = (struct port_range){0, LOWEST_ADDRESS};
	ranges[n++] = (struct port_range){USER_END, UINT64_MAX};
	for (size_t i = 0; i < maps.count; i++) {
		struct port_range range = {maps.list[i].start, maps.list[i].end};

		if (heap_follows(t, &maps, i))
			range.end += CLEAR_OF_HEAP;
		if (strcmp(maps.list[i].path, "[stack]") == 0)
			range.start -= CLEAR_OF_STACK;
		ranges[n++] = range;
	}
	process_maps_free(&maps);
	qsort(ranges, n, sizeof(*ranges), compare_ranges);
	for (size_t i = 0; i < n; i++) {
		if (kept && ranges[i].start <= ranges[kept - 1].end) {
			if (ranges[i].end > ranges[kept - 1].end)
				ranges[kept - 1].end = ranges[i].end;
		} else {
			ranges[kept++] = ranges[i];
		}
	}
	rc = tramp_space_new(ranges, kept, t->options.pun_pages, &t->space);
	free(ranges);
	return rc;
}

/* ---- kinds ---- */

static bool open_site(const struct site *site)
{
	return !site->kind && !site->error;
}

static void try_pun(struct suture_target *t, size_t index)
{
	struct site *site = &t->sites[index];
	const uint8_t *code = site->code + site->shift;
	size_t size = site->code_size - site->shift;
	uint64_t left = room(t, index);

	if (t->options.no_pun || !displaceable(site) ||
	    tramp_pun_x86(t->space, code, size < left ? size : left, site_patch(site), &site->pun))
		return;
	site->kind = SUTURE_SITE_PUN;
	site->trampoline = site->pun.trampoline;
	site->displaced = (uint8_t)tramp_pun_displaced_x86(code, size, site_patch(site),
	                                                   site->pun.length, site->length);
	/* The next probe is to see its hits, and Go's runtime wants to know where a fault was. */
	if (site->displaced > left || t->is_go)
		site->displaced = site->length;
}

static void try_window(struct suture_target *t, size_t index)
{
	struct site *site = &t->sites[index];
	uint64_t start, end, left = room(t, index);
	size_t size = site->code_size - site->shift;

	if (module_function_extent(t->modules[site->module].module, site->vaddr, &start, &end) ==
	            0 &&
	    end - site->vaddr - site->shift < size)
		size = end - site->vaddr - site->shift;
	if (tramp_window_x86(t->space, site->code + site->shift, size, site_patch(site),
	                     &site->window))
		return;
	if (left < site->window.length) {
		tramp_window_release(t->space, &site->window);
		return;
	}
	site->trampoline = site->window.trampoline;
	site->kind = SUTURE_SITE_WINDOW;
}

/* A call or jump that is only sent elsewhere: there is no boundary in it. */
static bool can_retarget(const struct site *site)
{
	return site->length == PUN_LENGTH && (site->class == ISA_CALL || site->class == ISA_BRANCH);
}

/*
 * Addresses at which nobody may arrive but from the instruction before, for a patch of that kind
 * at the site's shift. A pun at the site itself needs none.
 */
static bool range_to_prove(struct suture_target *t, const struct site *site,
                           enum suture_site_kind kind, struct module_range *range)
{
	uint64_t start, end, patch = site->vaddr + site->shift;
	bool retarget = kind == SUTURE_SITE_WINDOW && can_retarget(site);

	if (!open_site(site) || site->class == ISA_LANDING ||
	    module_function_extent(t->modules[site->module].module, site->vaddr, &start, &end))
		return false;
	range->start = site->shift ? site->vaddr + site->first : patch + site->length + 1;
	range->end = patch + 1;
	if (kind == SUTURE_SITE_WINDOW && !retarget)
		range->end = patch + site->length + 5 + (site->length == 4);
	if (range->end > end)
		range->end = end; /* only the longest form of a window does not fit */
	return site->length <= (kind == SUTURE_SITE_WINDOW && !retarget ? 4 : ISA_INSN_MAX) &&
	       range->start < range->end && range->end <= end && range->end - range->start <= 16;
}

struct proofs {
	size_t *indices;
	struct module_range *ranges;
	uint32_t *dangers;
};

/* The kind for all sites of the module that are still open and for which it is proven. */
static void try_proven(struct suture_target *t, uint32_t module, enum suture_site_kind kind,
                       const struct proofs *p)
{
	size_t n = 0;

	for (size_t i = 0; i < t->site_count; i++)
		if (t->sites[i].module == module && open_site(&t->sites[i]) &&
		    kind == SUTURE_SITE_WINDOW && !t->sites[i].shift && can_retarget(&t->sites[i]))
			try_window(t, i); /* nothing to prove */
	for (size_t i = 0; i < t->site_count; i++)
		if (t->sites[i].module == module &&
		    range_to_prove(t, &t->sites[i], kind, &p->ranges[n]) &&
		    (!n || p->ranges[n].start >= p->ranges[n - 1].end))
			p->indices[n++] = i;
	if (!n || module_dangers(t->modules[module].module, p->ranges, n, p->dangers))
		return;
	for (size_t i = 0; i < n; i++) {
		if (p->dangers[i])
			continue;
		if (kind == SUTURE_SITE_PUN)
			try_pun(t, p->indices[i]);
		else
			try_window(t, p->indices[i]);
	}
}

static void try_kind(struct suture_target *t, enum suture_site_kind kind, const struct proofs *p)
{
	if (kind == SUTURE_SITE_PUN ? t->options.no_pun : t->options.no_window)
		return;
	for (size_t m = 0; m < t->module_count; m++)
		if (t->modules[m].module)
			try_proven(t, (uint32_t)m, kind, p);
}

/*
 * Where a site has no address to lead to, the instruction after it may have: if it can only be
 * reached through the site, both are executed equally often. False if there is no next one.
 */
static bool shift_site(struct site *site)
{
	struct isa_insn insn;
	size_t next = site->shift + site->length;
	int n;

	if (site->class != ISA_PLAIN && site->class != ISA_PC_RELATIVE &&
	    site->class != ISA_LANDING)
		return false;
	if (next >= site->code_size || next > SHIFT_MAX)
		return false;
	n = isa_x86_64.decode(site->code + next, site->code_size - next, site->address + next,
	                      &insn);
	if (n <= 0)
		return false;
	site->shift = (uint8_t)next;
	site->length = (uint8_t)n;
	site->class = insn.class;
	return true;
}

/* Back to the site itself, for the kinds that need no address. */
static void unshift(struct site *site)
{
	if (!site->kind) {
		site->shift = 0;
		site->length = site->first;
	}
}

static int try_shifted(struct suture_target *t)
{
	struct proofs p = {
	        .indices = calloc(t->site_count + 1, sizeof(*p.indices)),
	        .ranges = calloc(t->site_count + 1, sizeof(*p.ranges)),
	        .dangers = calloc(t->site_count + 1, sizeof(*p.dangers)),
	};
	int rc = p.indices && p.ranges && p.dangers ? 0 : -ENOMEM;
	size_t open = 1;

	for (unsigned shifts = 0; shifts <= SHIFTS_MAX && open && !rc; shifts++) {
		open = 0;
		for (size_t i = 0; i < t->site_count && shifts; i++)
			if (open_site(&t->sites[i]) && !shift_site(&t->sites[i]))
				unshift(&t->sites[i]), t->sites[i].class = ISA_PINNED;
		if (shifts)
			try_kind(t, SUTURE_SITE_PUN, &p);
		try_kind(t, SUTURE_SITE_WINDOW, &p);
		for (size_t i = 0; i < t->site_count; i++)
			open += open_site(&t->sites[i]);
	}
	for (size_t i = 0; i < t->site_count; i++)
		unshift(&t->sites[i]);
	free(p.indices);
	free(p.ranges);
	free(p.dangers);
	return rc;
}

/* What a specification names alone may take its time; what a glob finds may not. */
static bool named(const struct suture_target *t, size_t site)
{
	for (size_t i = 0; i < t->probe_count; i++)
		if (t->probes[i].site == site && t->specs[t->probes[i].spec].exact)
			return true;
	return false;
}

static const char *no_uprobe(const struct suture_target *t, size_t index, bool exist, size_t used)
{
	if (t->options.no_uprobe)
		return "kernel uprobes are switched off";
	if (!exist)
		return "this kernel has no uprobes";
	if (!t->sites[index].steppable)
		return "a kernel uprobe, which single-steps it, would change what it does; probe "
		       "the "
		       "next instruction";
	if (used >= UPROBES_MAX && !named(t, index))
		return "kernel uprobes are slow to remove, so a glob takes few; name the function "
		       "itself";
	return NULL;
}

static const char *no_jump(const struct suture_target *t, size_t index)
{
	if (room(t, index) < PUN_LENGTH)
		return "the next probe is fewer than 5 bytes away";
	if (!displaceable(&t->sites[index]))
		return "the instruction must run where it stands";
	if (tramp_space_pages(t->space) + 2 > t->options.pages)
		return "the pages allowed for trampolines are used up; see --pages";
	return "no trampoline address is free that its bytes can name, or code can arrive inside "
	       "it";
}

static void try_uprobes(struct suture_target *t)
{
	bool exist = process_uprobes_exist();
	size_t used = 0;

	for (size_t i = 0; i < t->site_count; i++) {
		struct site *site = &t->sites[i];
		const char *reason;

		used += site->kind == SUTURE_SITE_UPROBE && !site->error;
		if (!open_site(site))
			continue;
		reason = no_uprobe(t, i, exist, used);
		if (!reason) {
			site->kind = SUTURE_SITE_UPROBE;
			used++;
			continue;
		}
		site_refuse(site, -EOPNOTSUPP, "no jump fits there (%s), and %s", no_jump(t, i),
		            reason);
	}
}

int target_check_exact(struct suture_target *t)
{
	size_t usable = 0;

	for (size_t i = 0; i < t->probe_count; i++) {
		const struct site *site = &t->sites[t->probes[i].site];

		usable += !site->error;
		if (site->error && t->specs[t->probes[i].spec].exact)
			return target_fail(t, -EOPNOTSUPP, "%s: %s",
			                   t->specs[t->probes[i].spec].text, site->reason);
	}
	return usable ? 0 : target_fail(t, -EOPNOTSUPP, "every site was refused");
}

int target_plan(struct suture_target *t)
{
	int rc = collect_sites(t);

	if (!rc)
		rc = make_space(t);
	if (rc)
		return target_fail(t, rc, "can not plan: %s", strerror(-rc));
	for (size_t i = 0; i < t->site_count; i++) {
		if (t->options.progress && i % 256 == 0)
			t->options.progress("inspecting code", i, t->site_count,
			                    t->options.progress_arg);
		inspect(t, &t->sites[i]);
	}
	/* endbr64 stays first as long as the instruction after it will do: where indirect branches
	 * are tracked, it is what they must find. */
	for (size_t i = 0; i < t->site_count; i++)
		if (open_site(&t->sites[i]) && t->sites[i].class != ISA_LANDING)
			try_pun(t, i);
	/* Beyond the pages for puns, windows at the sites themselves come first. */
	tramp_space_limit(t->space, t->options.pages);
	rc = try_shifted(t);
	for (size_t i = 0; i < t->site_count && !rc; i++)
		if (open_site(&t->sites[i]))
			try_pun(t, i);
	if (!rc) {
		try_uprobes(t);
		rc = target_layout(t);
	}
	if (rc)
		return target_fail(t, rc, "can not plan: %s", strerror(-rc));
	try_uprobes(t); /* for what did not reach after all */
	return target_check_exact(t);
}
