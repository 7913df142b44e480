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
};

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

/* For suture_target_explain(): why this kind is not taken at the site's shift. */
__attribute__((format(printf, 4, 5))) static void note(struct suture_target *t,
                                                       const struct site *site,
                                                       enum suture_site_kind kind,
                                                       const char *format, ...)
{
	char text[SUTURE_EXPLAIN_TEXT];
	va_list args;

	if (!t->note)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	t->note(t->note_arg, site, kind, text);
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

		site->named |= t->specs[t->probes[i].spec].exact;
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
	if (t->left)
		patch_original(t->left, site->address, site->code, size);
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
	/* Without a file to compare with, code that begins with a trap is taken for a neighbour's.
	 */
	if (m->from_memory && site->code[0] == isa_x86_64.trap[0])
		site_refuse(site, -EBUSY,
		            "a breakpoint of another tool is at 0x%" PRIx64
		            ", and the file that was there before is out of reach; remove it first",
		            site->vaddr);
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

	for (size_t i = index + 1; !t->alone && i < t->site_count; i++)
		if (!t->sites[i].error) /* a shift may have gone past it */
			return t->sites[i].address > patch ? t->sites[i].address - patch : 0;
	return UINT64_MAX;
}

/* ---- kinds ---- */

static bool open_site(const struct site *site)
{
	return !site->kind && !site->error;
}

static void note_pun(struct suture_target *t, const struct site *site, int error)
{
	char place[96];

	if (!t->note)
		return;
	if (!site->pun.trampoline) {
		note(t, site, SUTURE_SITE_PUN, "fewer than 5 bytes of code follow");
		return;
	}
	if (error == -ENOSPC) {
		note(t, site, SUTURE_SITE_PUN, "the pages allowed for trampolines are used up");
		return;
	}
	target_describe(t, site->pun.trampoline, place, sizeof(place));
	note(t, site, SUTURE_SITE_PUN, "its bytes spell 0x%" PRIx64 ", which is not free: %s",
	     site->pun.trampoline, place);
}

static void try_pun(struct suture_target *t, size_t index)
{
	struct site *site = &t->sites[index];
	const uint8_t *code = site->code + site->shift;
	size_t size = site->code_size - site->shift;
	uint64_t left = room(t, index);
	int rc;

	if (t->options.no_pun)
		return;
	if (!displaceable(site)) {
		note(t, site, SUTURE_SITE_PUN, "the instruction must run where it stands");
		return;
	}
	site->pun = (struct tramp_pun){0};
	rc = tramp_pun_x86(t->space, code, size < left ? size : left, site_patch(site), &site->pun);
	if (rc) {
		note_pun(t, site, rc);
		return;
	}
	site->kind = SUTURE_SITE_PUN;
	site->trampoline = site->pun.trampoline;
	site->displaced = (uint8_t)tramp_pun_displaced_x86(code, size, site_patch(site),
	                                                   site->pun.length, site->length);
	/* The next probe is to see its hits, and Go's runtime wants to know where a fault was. */
	if (site->displaced > left || t->is_go)
		site->displaced = site->length;
	if (t->alone)
		target_layout_alone(t, site);
}

static void try_window(struct suture_target *t, size_t index)
{
	struct site *site = &t->sites[index];
	uint64_t start, end, left = room(t, index);
	size_t size = site->code_size - site->shift;
	int rc;

	if (module_function_extent(t->modules[site->module].module, site->vaddr, &start, &end) ==
	            0 &&
	    end - site->vaddr - site->shift < size)
		size = end - site->vaddr - site->shift;
	rc = tramp_window_x86(t->space, site->code + site->shift, size, site_patch(site),
	                      &site->window);
	if (rc) {
		note(t, site, SUTURE_SITE_WINDOW, "%s",
		     rc == -ENOTSUP ? "among its bytes is an instruction that must run where it "
		                      "stands or ends the flow, or a page ends"
		                    : "no free addresses can be spelt by its two jumps");
		return;
	}
	if (left < site->window.length) {
		tramp_window_release(t->space, &site->window);
		return;
	}
	site->trampoline = site->window.trampoline;
	site->kind = SUTURE_SITE_WINDOW;
	if (t->alone)
		target_layout_alone(t, site);
}

/* A call or jump that is only sent elsewhere: there is no boundary in it. */
static bool can_retarget(const struct site *site)
{
	return site->length == PUN_LENGTH && (site->class == ISA_CALL || site->class == ISA_BRANCH);
}

/*
 * Addresses at which nobody may arrive but from the instruction before, for a patch of that kind
 * at the site's shift. A pun at the site itself needs none. NULL, or why there is nothing to
 * prove: "" if the kind is not wanted.
 */
static const char *no_range(struct suture_target *t, const struct site *site,
                            enum suture_site_kind kind, struct module_range *range)
{
	uint64_t start, end, patch = site->vaddr + site->shift;
	bool retarget = kind == SUTURE_SITE_WINDOW && can_retarget(site);

	if (!open_site(site))
		return "";
	if (site->class == ISA_LANDING)
		return "endbr64 stays, which is what indirect branches must find";
	if (module_function_extent(t->modules[site->module].module, site->vaddr, &start, &end))
		return "nobody knows where its function ends";
	range->start = site->shift ? site->vaddr + site->first : patch + site->length + 1;
	range->end = patch + 1;
	if (kind == SUTURE_SITE_WINDOW && !retarget)
		range->end = patch + site->length + 5 + (site->length == 4);
	if (range->end > end)
		range->end = end; /* only the longest form of a window does not fit */
	if (site->length > (kind == SUTURE_SITE_WINDOW && !retarget ? 4 : ISA_INSN_MAX))
		return "its first instruction is longer than 4 bytes, so that no second jump can "
		       "stand behind it";
	if (range->start >= range->end || range->end > end || range->end - range->start > 16)
		return "the function is too short for it";
	return NULL;
}

enum { BATCH_MAX = 8192 }; /* ranges that share what module_dangers is willing to do */

struct proofs {
	size_t *indices;
	struct module_range *ranges;
	uint32_t *dangers;
};

/*
 * Ranges to prove, in order, disjoint. Sites that are planned for themselves alone may be closer
 * together than ranges may: *left says that there are more, for another round.
 */
static size_t collect_ranges(struct suture_target *t, uint32_t module, enum suture_site_kind kind,
                             const struct proofs *p, bool *left)
{
	size_t n = 0;

	*left = false;
	for (size_t i = 0; i < t->site_count; i++) {
		struct site *site = &t->sites[i];
		const char *why;

		if (site->module != module || site->round == t->round)
			continue;
		why = no_range(t, site, kind, &p->ranges[n]);
		if (why) {
			if (*why)
				note(t, site, kind, "%s", why);
			continue;
		}
		if ((n && p->ranges[n].start < p->ranges[n - 1].end) ||
		    (t->alone && n == BATCH_MAX)) {
			*left = t->alone;
			continue;
		}
		site->round = t->round;
		p->indices[n++] = i;
	}
	return n;
}

static void try_ranges(struct suture_target *t, uint32_t module, enum suture_site_kind kind,
                       const struct proofs *p, size_t n)
{
	if (!n || module_dangers(t->modules[module].module, p->ranges, n, p->dangers))
		return;
	for (size_t i = 0; i < n; i++) {
		const struct site *site = &t->sites[p->indices[i]];

		if (p->dangers[i]) {
			note(t, site, kind, "%s",
			     t->note ? target_danger(t, site, &p->ranges[i], p->dangers[i]) : "");
			continue;
		}
		if (kind == SUTURE_SITE_PUN)
			try_pun(t, p->indices[i]);
		else
			try_window(t, p->indices[i]);
	}
}

/* The kind for all sites of the module that are still open and for which it is proven. */
static void try_proven(struct suture_target *t, uint32_t module, enum suture_site_kind kind,
                       const struct proofs *p)
{
	bool left;

	for (size_t i = 0; i < t->site_count; i++)
		if (t->sites[i].module == module && open_site(&t->sites[i]) &&
		    kind == SUTURE_SITE_WINDOW && !t->sites[i].shift && can_retarget(&t->sites[i]))
			try_window(t, i); /* nothing to prove */
	t->round++;
	do {
		size_t n = collect_ranges(t, module, kind, p, &left);

		try_ranges(t, module, kind, p, n);
		if (!n)
			break;
	} while (left);
}

static void try_kind(struct suture_target *t, enum suture_site_kind kind, const struct proofs *p)
{
	if (kind == SUTURE_SITE_PUN ? t->options.no_pun : t->options.no_window)
		return;
	for (size_t m = 0; m < t->module_count; m++) {
		if (!t->modules[m].module)
			continue;
		if (t->options.progress)
			t->options.progress("looking for ways in", m, t->module_count,
			                    t->options.progress_arg);
		try_proven(t, (uint32_t)m, kind, p);
	}
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
	/* What a specification names alone may take its time; what a glob finds may not. */
	if (used >= UPROBES_MAX && !t->sites[index].named && !t->alone)
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
		note(t, site, SUTURE_SITE_UPROBE, "%s", reason);
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

/* Jumps, or nothing where none fits. */
static int try_jumps(struct suture_target *t)
{
	int rc;

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
	return rc;
}

static void drop_unreachable(struct suture_target *t)
{
	for (size_t i = 0; i < t->site_count; i++) {
		if (!t->sites[i].unreachable)
			continue;
		note(t, &t->sites[i], t->sites[i].kind,
		     "what its instructions refer to is out of reach from there");
		t->sites[i].kind = 0;
	}
}

int target_plan(struct suture_target *t)
{
	int rc = collect_sites(t);

	if (!rc)
		rc = target_make_space(t);
	if (rc)
		return target_fail(t, rc, "can not plan: %s", strerror(-rc));
	for (size_t i = 0; i < t->site_count; i++) {
		if (t->options.progress && i % 256 == 0)
			t->options.progress("inspecting code", i, t->site_count,
			                    t->options.progress_arg);
		inspect(t, &t->sites[i]);
	}
	rc = try_jumps(t);
	if (!rc && t->alone) {
		drop_unreachable(t);
	} else if (!rc) {
		try_uprobes(t);
		rc = target_layout(t);
	}
	if (rc)
		return target_fail(t, rc, "can not plan: %s", strerror(-rc));
	try_uprobes(t); /* for what did not reach after all */
	return t->alone ? 0 : target_check_exact(t);
}
