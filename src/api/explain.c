/* SPDX-License-Identifier: MIT */
/*
 * explain.c - the safety case of one site.
 *
 * The site is planned once more, by the same code, with somebody listening to why each kind is not
 * taken; what is claimed then is read from the plan.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "session.h"

/* ---- texts for notes ---- */

void target_describe(const struct suture_target *t, uint64_t address, char *text, size_t size)
{
	struct process_maps maps;
	const struct process_mapping *m;
	const char *name;

	snprintf(text, size, "kept clear of what grows there");
	if (address >= 1ull << 47 || address < 1 << 20) {
		snprintf(text, size, "no user memory can be there");
		return;
	}
	if (process_maps_read(process_member(t->pid), &maps))
		return;
	m = process_maps_find(&maps, address);
	if (!m)
		m = process_maps_find(&maps, address + TRAMP_JUMP - 1);
	if (m) {
		name = strrchr(m->path, '/');
		name = name ? name + 1 : m->path;
		snprintf(text, size, "%.60s %s mapped there", *name ? name : "anonymous memory",
		         "is");
	}
	process_maps_free(&maps);
}

static void add_way(struct suture_target *t, const char *format, ...)
        __attribute__((format(printf, 2, 3)));

static void add_way(struct suture_target *t, const char *format, ...)
{
	size_t used = strlen(t->danger);
	va_list args;

	va_start(args, format);
	vsnprintf(t->danger + used, sizeof(t->danger) - used, format, args);
	va_end(args);
}

static void add_branch(struct suture_target *t, const struct site *site,
                       const struct module_range *range)
{
	struct module *module = t->modules[site->module].module;
	const struct module_symbol *symbol;
	uint64_t from;

	if (module_branch_source(module, range, &from)) {
		add_way(t, " by a direct branch,");
		return;
	}
	symbol = module_symbol_at(module, from);
	if (symbol)
		add_way(t, " by the branch at 0x%" PRIx64 " (%.60s),", from, symbol->name);
	else
		add_way(t, " by the branch at 0x%" PRIx64 ",", from);
}

/* Which of the addresses are meant, as far as there is room for that. */
static void add_places(struct suture_target *t, const struct site *site,
                       const struct module_range *range, struct module_range *first)
{
	struct module *module = t->modules[site->module].module;
	unsigned found = 0;

	*first = *range;
	for (uint64_t at = range->start; at < range->end; at++) {
		struct module_range one = {at, at + 1};
		uint32_t dangers;

		if (module_dangers(module, &one, 1, &dangers) || !dangers)
			continue;
		if (!found)
			*first = one;
		add_way(t, "%s+%" PRIu64, found ? ", " : "", at - site->vaddr);
		found++;
	}
	if (!found) /* together they are too much to look at */
		add_way(t, "+%" PRIu64 " to +%" PRIu64, range->start - site->vaddr,
		        range->end - 1 - site->vaddr);
}

const char *target_danger(struct suture_target *t, const struct site *site,
                          const struct module_range *range, uint32_t dangers)
{
	struct module_range first;

	t->danger[0] = 0;
	add_places(t, site, range, &first);
	add_way(t, " may be reached");
	if (dangers & MODULE_DANGER_BRANCH)
		add_branch(t, site, &first);
	if (dangers & MODULE_DANGER_INDIRECT)
		add_way(t, " by an indirect jump of the function,");
	if (dangers & MODULE_DANGER_LANDING_PAD)
		add_way(t, " by an exception's landing pad,");
	if (dangers & MODULE_DANGER_RSEQ)
		add_way(t, " by a restartable sequence,");
	if (dangers & MODULE_DANGER_UNKNOWN)
		add_way(t, " for all that is known (%s),",
		        module_is_go(t->modules[site->module].module)
		                ? "Go's code"
		                : "no call-frame information, or too much code");
	t->danger[strlen(t->danger) - 1] = 0;
	return t->danger;
}

static void take_note(void *arg, const struct site *site, enum suture_site_kind kind,
                      const char *why)
{
	struct suture_explanation *e = arg;
	struct suture_try *try = &e->tries[e->try_count];

	if (e->try_count == SUTURE_EXPLAIN_LINES)
		return;
	for (size_t i = 0; i < e->try_count; i++)
		if (e->tries[i].kind == kind && e->tries[i].shift == site->shift)
			return;
	*try = (struct suture_try){.kind = kind, .shift = site->shift};
	snprintf(try->why, sizeof(try->why), "%s", why);
	e->try_count++;
}

/* ---- bytes ---- */

static void show_bytes(struct suture_explanation *e, const struct site *site)
{
	uint8_t patched[16];
	size_t size = site->first, length = 0;

	if (!site->error && site->kind == SUTURE_SITE_PUN)
		size = site->shift + site->displaced;
	if (!site->error && site->kind == SUTURE_SITE_WINDOW)
		size = site->shift + site->window.displaced;
	if (!site->error && site->kind != SUTURE_SITE_UPROBE)
		length = site_patched(site, patched);
	if (size < site->shift + length)
		size = site->shift + length;
	if (size < TRAMP_JUMP)
		size = TRAMP_JUMP;
	if (size > site->code_size)
		size = site->code_size;
	memcpy(e->before, site->code, sizeof(e->before));
	memcpy(e->after, site->code, sizeof(e->after));
	if (length)
		memcpy(e->after + site->shift, patched, length);
	else if (!site->error)
		e->after[0] = isa_x86_64.trap[0];
	for (size_t i = 0; i < size; i++)
		if (e->before[i] != e->after[i])
			e->changed = (uint8_t)(i + 1);
	e->size = (uint8_t)size;
}

static void show_instructions(struct suture_target *t, struct suture_explanation *e,
                              const struct site *site)
{
	for (size_t at = 0; at < e->size && e->instruction_count < SUTURE_EXPLAIN_LINES;) {
		struct suture_instruction *line = &e->instructions[e->instruction_count];
		const struct module_symbol *symbol = NULL;
		uint64_t bias = t->modules[site->module].bias;
		struct isa_insn insn;
		size_t left = site->code_size - at, used;
		int n = isa_x86_64.decode(site->code + at, left, site->address + at, &insn);

		if (n <= 0)
			break;
		*line = (struct suture_instruction){.offset = (uint8_t)at, .length = (uint8_t)n};
		(void)!isa_x86_64.format(site->code + at, left, site->address + at, line->text,
		                         sizeof(line->text));
		if (insn.has_target && (insn.class == ISA_CALL || insn.class == ISA_BRANCH))
			symbol = module_symbol_at(t->modules[site->module].module,
			                          insn.target - bias);
		used = strlen(line->text);
		if (symbol && symbol->vaddr == insn.target - bias)
			snprintf(line->text + used, sizeof(line->text) - used, " <%s>",
			         symbol->name);
		e->instruction_count++;
		at += (size_t)n;
		if (at > e->size)
			e->size = at < sizeof(e->before) ? (uint8_t)at : e->size;
	}
}

/* ---- jumps ---- */

static void add_jump(struct suture_explanation *e, size_t offset, size_t length, uint64_t target,
                     uint64_t code, const char *format, ...) __attribute__((format(printf, 6, 7)));

static void add_jump(struct suture_explanation *e, size_t offset, size_t length, uint64_t target,
                     uint64_t code, const char *format, ...)
{
	struct suture_jump *jump = &e->jumps[e->jump_count++];
	size_t used;
	va_list args;

	jump->offset = (uint8_t)offset;
	jump->length = (uint8_t)length;
	jump->target = target;
	va_start(args, format);
	vsnprintf(jump->does, sizeof(jump->does), format, args);
	va_end(args);
	used = strlen(jump->does);
	if (code != target)
		snprintf(jump->does + used, sizeof(jump->does) - used,
		         " (at 0x%" PRIx64 ", where there is room for that)", code);
}

/* "+2", or "+2 to +8": the instructions that start in [from, to). */
static const char *span(const struct suture_explanation *e, size_t from, size_t to, char text[32])
{
	size_t last = from;

	for (size_t i = 0; i < e->instruction_count; i++)
		if (e->instructions[i].offset < to)
			last = e->instructions[i].offset;
	if (last <= from)
		snprintf(text, 32, "+%zu", from);
	else
		snprintf(text, 32, "+%zu to +%zu", from, last);
	return text;
}

static void show_jumps(struct suture_explanation *e, const struct site *site)
{
	size_t at = site->shift, end;
	char text[32];

	if (site->error || site->kind == SUTURE_SITE_UPROBE)
		return;
	e->trampoline = site->trampoline;
	if (site->kind == SUTURE_SITE_PUN) {
		end = at + site->displaced;
		add_jump(e, at + site->pun.jump, TRAMP_JUMP, site->trampoline, site->body,
		         "counts, executes %s, goes on at +%zu", span(e, at, end, text), end);
		return;
	}
	if (!site->window.continuation) {
		add_jump(e, at, TRAMP_JUMP, site->trampoline, site->body,
		         "counts, goes on to 0x%" PRIx64 " as before", site->window.target);
		return;
	}
	end = at + site->window.displaced;
	add_jump(e, at, TRAMP_JUMP, site->trampoline, site->body,
	         "counts, executes +%zu, goes on where jump 2 leads", at);
	add_jump(e, at + site->window.length - TRAMP_JUMP, TRAMP_JUMP, site->window.continuation,
	         site->rest, "executes %s, goes on at +%zu", span(e, at + site->length, end, text),
	         end);
}

/* ---- claims ---- */

static void claim(struct suture_explanation *e, enum suture_claim_verdict verdict, const char *what,
                  const char *format, ...) __attribute__((format(printf, 4, 5)));

static void claim(struct suture_explanation *e, enum suture_claim_verdict verdict, const char *what,
                  const char *format, ...)
{
	struct suture_claim *c = &e->claims[e->claim_count];
	va_list args;

	if (e->claim_count == SUTURE_EXPLAIN_LINES)
		return;
	e->claim_count++;
	c->verdict = verdict;
	c->what = what;
	va_start(args, format);
	vsnprintf(c->why, sizeof(c->why), format, args);
	va_end(args);
}

/* The boundaries in the range but for one, as "+4, +6"; 0 if there is none. */
static size_t boundaries(const struct suture_explanation *e, size_t from, size_t to, size_t but,
                         char *text, size_t size)
{
	size_t used = 0, count = 0;

	*text = 0;
	for (size_t i = 0; i < e->instruction_count; i++) {
		size_t at = e->instructions[i].offset;

		if (at < from || at >= to || at == but || used + 8 > size)
			continue;
		used += (size_t)snprintf(text + used, size - used, "%s+%zu", count ? ", " : "", at);
		count++;
	}
	return count;
}

/* Nobody but the instruction before can arrive at these boundaries: that has been proven, or the
 * site had got no kind. */
static void claim_unreachable(struct suture_target *t, struct suture_explanation *e,
                              const struct site *site)
{
	bool two = site->kind == SUTURE_SITE_WINDOW && site->window.continuation;
	size_t second = two ? site->shift + (size_t)site->length : 0;
	size_t from = site->shift ? site->first : second + 1;
	size_t to = two ? site->shift + (size_t)site->window.length : site->shift + 1u;
	char list[64];

	if (!site->shift && !two)
		return;
	if (!boundaries(e, from, to, second, list, sizeof(list))) {
		claim(e, SUTURE_CLAIM_PROVEN, "branches",
		      "no instruction begins at +%zu to +%zu: nobody can arrive there", from,
		      to - 1);
		return;
	}
	claim(e, SUTURE_CLAIM_PROVEN, "branches",
	      "none in %.60s leads to %s: all displacements in its text were compared",
	      t->modules[site->module].name, list);
	claim(e, SUTURE_CLAIM_PROVEN, "indirect",
	      "no indirect jump leads there: the function has none, or call-frame rows differ");
	claim(e, SUTURE_CLAIM_PROVEN, "exceptions", "no landing pad is there");
	claim(e, SUTURE_CLAIM_PROVEN, "rseq", "no restartable sequence or abort target is there");
}

static void claim_threads(struct suture_explanation *e, const struct site *site)
{
	struct port_range clear;

	if (!site_clear_range(site, &clear)) {
		claim(e, SUTURE_CLAIM_PROVEN, "threads",
		      "may be anywhere, also with a return address or a signal frame in it");
		return;
	}
	e->clear_start = clear.start;
	e->clear_end = clear.end;
	claim(e, SUTURE_CLAIM_ATTACH, "threads",
	      "program counters, and stacks for return addresses, are searched for +%" PRIu64
	      " to +%" PRIu64 " with all threads at rest; whoever is inside is waited for",
	      clear.start - site->address, clear.end - 1 - site->address);
}

static void claim_pun(struct suture_explanation *e, const struct site *site)
{
	size_t at = site->shift + site->pun.jump, others;
	char list[64];

	if (site->pun.jump)
		claim(e, SUTURE_CLAIM_PROVEN, "tearing",
		      "one byte changes, +%zu, behind a prefix that a jump ignores: no thread "
		      "can be between the two",
		      at);
	else
		claim(e, SUTURE_CLAIM_PROVEN, "tearing",
		      "one byte changes, +%zu: there is nothing between old and new", at);
	others = boundaries(e, at + 1, site->shift + site->pun.length, 0, list, sizeof(list));
	if (others)
		claim(e, SUTURE_CLAIM_PROVEN, "boundaries",
		      "%s %s: whoever arrives there executes what always stood there", list,
		      others == 1 ? "keeps its bytes" : "keep their bytes");
	else
		claim(e, SUTURE_CLAIM_PROVEN, "boundaries",
		      "no other instruction begins in the jump's bytes");
}

static void claim_window(struct suture_explanation *e, const struct site *site)
{
	claim(e, SUTURE_CLAIM_PROVEN, "tearing", "written while all threads are at rest");
	if (!site->window.continuation) {
		claim(e, SUTURE_CLAIM_PROVEN, "boundaries",
		      "only where the %s leads to changes: no instruction begins inside it",
		      site->class == ISA_CALL ? "call" : "jump");
		return;
	}
	claim(e, SUTURE_CLAIM_PROVEN, "boundaries",
	      "+%zu holds jump 2: whoever arrives there, a kernel uprobe that comes later "
	      "included, goes on properly",
	      site->shift + (size_t)site->length);
}

static void show_claims(struct suture_target *t, struct suture_explanation *e,
                        const struct site *site)
{
	if (site->error && site->error != -EOPNOTSUPP) {
		claim(e, SUTURE_CLAIM_BROKEN, "site", "%s", site->reason);
		return;
	}
	if (site->error)
		return; /* the tries say why */
	claim(e, SUTURE_CLAIM_PROVEN, "bytes",
	      "are the file's: nobody else has patched or put a breakpoint here");
	if (site->kind == SUTURE_SITE_UPROBE) {
		claim(e, SUTURE_CLAIM_PROVEN, "tearing",
		      "the kernel changes one byte, and executes a copy of the instruction "
		      "elsewhere at each hit");
		return;
	}
	if (site->shift)
		claim(e, SUTURE_CLAIM_PROVEN, "shifted",
		      "+%u is changed instead: reached through the site only, it is executed as "
		      "often",
		      site->shift);
	if (site->kind == SUTURE_SITE_PUN)
		claim_pun(e, site);
	else
		claim_window(e, site);
	claim_unreachable(t, e, site);
	claim_threads(e, site);
}

/* ---- threads ---- */

struct stop_work {
	struct suture_target *t;
	struct suture_explanation *e;
};

static int stop_and_look(void *arg)
{
	struct stop_work *w = arg;
	struct suture_target *t = w->t;
	struct suture_whereabouts *threads = &w->e->threads;
	struct port_range clear = {w->e->clear_start, w->e->clear_end};
	int inside = 0, rc = -ETIMEDOUT;

	for (unsigned try = 0; try < t->options.tries && rc == -ETIMEDOUT; try++)
		rc = port_stop(t->port, t->options.deadline_ns);
	if (rc)
		return target_fail(t, rc, "%s", process_error(t->port));
	threads->threads = threads->asleep = (unsigned)process_stopped(t->port);
	if (clear.start < clear.end)
		inside = port_occupied(t->port, &clear, 1);
	port_resume(t->port);
	threads->stop_ns = process_stop_ns(t->port);
	threads->inside = inside > 0 ? (unsigned)inside : 0;
	threads->stopped = true;
	return inside < 0 ? target_fail(t, inside, "%s", strerror(-inside)) : 0;
}

static int show_threads(struct suture_target *t, struct suture_explanation *e, unsigned flags)
{
	struct port_range clear = {e->clear_start, e->clear_end};
	struct stop_work work = {t, e};
	struct process_whereabouts seen;
	int rc;

	if (flags & SUTURE_EXPLAIN_STOP)
		return t->obstacle_error ? target_fail(t, t->obstacle_error, "%s", t->obstacle)
		                         : run_tracing(stop_and_look, &work);
	rc = process_where(t->pid, &clear, &seen);
	if (rc)
		return target_fail(t, rc, "can not see the threads of process %d: %s", t->pid,
		                   strerror(-rc));
	e->threads = (struct suture_whereabouts){
	        .threads = seen.threads,
	        .asleep = seen.asleep,
	        .running = seen.running,
	        .inside = seen.inside,
	        .one = seen.one,
	};
	return 0;
}

/* ---- all of it ---- */

static int explain(struct suture_target *t, size_t index, unsigned flags,
                   struct suture_explanation *e)
{
	struct suture_target one = *t; /* borrows what it does not make */
	struct probe probe = t->probes[index];
	struct site *site;
	int rc;

	one.probes = &probe;
	one.probe_count = 1;
	one.sites = NULL;
	one.site_count = 0;
	one.space = NULL;
	one.note = take_note;
	one.note_arg = e;
	one.options.progress = NULL;
	rc = target_plan(&one);
	if (rc) {
		target_fail(t, rc, "%s", one.error);
	} else {
		site = &one.sites[0];
		if (!site->error && e->try_count < SUTURE_EXPLAIN_LINES)
			e->tries[e->try_count++] = (struct suture_try){
			        .kind = site->kind, .shift = site->shift, .taken = true};
		show_bytes(e, site);
		show_instructions(t, e, site);
		show_jumps(e, site);
		show_claims(t, e, site);
		rc = show_threads(t, e, flags);
	}
	target_forget_plan(&one);
	return rc;
}

int suture_target_explain(struct suture_target *t, size_t index, unsigned flags,
                          struct suture_explanation **out)
{
	struct suture_explanation *e;
	int rc;

	*out = NULL;
	if (flags & ~SUTURE_EXPLAIN_STOP)
		return target_fail(t, -EINVAL, "flags %#x: not known", flags);
	if (index >= suture_target_surveys(t))
		return target_fail(t, -ERANGE, "there is no survey of that number");
	e = calloc(1, sizeof(*e));
	if (!e)
		return target_fail(t, -ENOMEM, "out of memory");
	rc = suture_target_surveyed(t, index, &e->site);
	if (!rc)
		rc = explain(t, index, flags, e);
	if (rc)
		free(e);
	else
		*out = e;
	return rc;
}

void suture_explanation_free(struct suture_explanation *e)
{
	free(e);
}
