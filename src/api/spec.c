/* SPDX-License-Identifier: MIT */
/* spec.c - from "[MODULE:]NAME[+0xOFFSET]" and "MODULE:0xADDRESS" to code addresses. */
#include <ctype.h>
#include <errno.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "session.h"

struct request {
	char *module;   /* NULL: any */
	char *name;     /* NULL: by address */
	uint64_t value; /* offset or address */
	bool glob;
	bool all; /* also aliases */
};

static int parse_hex(const char *text, uint64_t *value)
{
	char *end;

	if (strncmp(text, "0x", 2) || !isxdigit((unsigned char)text[2]))
		return -EINVAL;
	errno = 0;
	*value = strtoull(text + 2, &end, 16);
	return *end || errno ? -EINVAL : 0;
}

/* Cuts `text`, which the request keeps pointing into. */
static int parse(struct suture_target *t, const char *spec, char *text, struct request *r)
{
	char *colon = strchr(text, ':'), *plus;

	*r = (struct request){.name = text};
	if (colon) {
		*colon = 0;
		r->module = text;
		r->name = colon + 1;
	}
	if (!*r->name || (colon && !*r->module))
		return target_fail(t, -EINVAL,
		                   "'%s' is no specification: [MODULE:]NAME[+0xOFFSET] or "
		                   "MODULE:0xADDRESS",
		                   spec);
	if (strncmp(r->name, "0x", 2) == 0) {
		if (!colon || parse_hex(r->name, &r->value))
			return target_fail(t, -EINVAL,
			                   "'%s' is no address in a module: write "
			                   "MODULE:0xADDRESS in hexadecimal",
			                   spec);
		r->name = NULL;
		return 0;
	}
	plus = strrchr(r->name, '+');
	if (plus) {
		if (parse_hex(plus + 1, &r->value))
			return target_fail(t, -EINVAL,
			                   "'%s' has no offset after '+': write it as +0x10", spec);
		*plus = 0;
	}
	r->glob = strpbrk(r->name, "*?[") != NULL;
	return 0;
}

static int add_probe(struct suture_target *t, uint32_t spec, size_t module,
                     const struct module_symbol *symbol, uint64_t offset, uint64_t vaddr)
{
	if (t->probe_count == t->probe_capacity) {
		size_t capacity = t->probe_capacity ? 2 * t->probe_capacity : 64;
		struct probe *grown = realloc(t->probes, capacity * sizeof(*grown));

		if (!grown)
			return target_fail(t, -ENOMEM, "out of memory");
		t->probes = grown;
		t->probe_capacity = capacity;
	}
	t->probes[t->probe_count++] = (struct probe){
	        .spec = spec,
	        .symbol = symbol ? symbol->name : NULL,
	        .offset = offset,
	        .size = symbol ? symbol->size : 0,
	        .address = t->modules[module].bias + vaddr,
	        .vaddr = vaddr,
	        .module = (uint32_t)module,
	};
	return 0;
}

static bool name_matches(const struct request *r, const char *name)
{
	return r->glob ? fnmatch(r->name, name, 0) == 0 : strcmp(r->name, name) == 0;
}

static int compare_names(const void *a, const void *b)
{
	const struct module_symbol *x = *(const struct module_symbol *const *)a;
	const struct module_symbol *y = *(const struct module_symbol *const *)b;
	int order = strcmp(x->name, y->name);

	return order ? order : x->vaddr < y->vaddr ? -1 : x->vaddr > y->vaddr;
}

/* Looking at every symbol for every specification takes minutes where there are many of both. */
static bool index_names(struct target_module *m)
{
	const struct module_symbol *symbols;

	if (m->by_name)
		return true;
	m->symbol_count = module_symbols(m->module, &symbols);
	m->by_name = malloc((m->symbol_count + 1) * sizeof(*m->by_name));
	if (!m->by_name)
		return false;
	for (size_t i = 0; i < m->symbol_count; i++)
		m->by_name[i] = &symbols[i];
	qsort(m->by_name, m->symbol_count, sizeof(*m->by_name), compare_names);
	return true;
}

/* The same for one name, by the index. */
static int match_name(struct suture_target *t, const struct request *r, uint32_t spec,
                      size_t module)
{
	const struct target_module *m = &t->modules[module];
	size_t low = 0, high = m->symbol_count;
	uint64_t last = ~0ull;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (strcmp(m->by_name[middle]->name, r->name) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < m->symbol_count && !strcmp(m->by_name[low]->name, r->name); low++) {
		const struct module_symbol *symbol = m->by_name[low];
		int rc;

		if (symbol->vaddr == last)
			continue;
		last = symbol->vaddr;
		rc = add_probe(t, spec, module, symbol, r->value, symbol->vaddr + r->value);
		if (rc)
			return rc;
	}
	return 0;
}

/* Symbols come sorted by address: aliases are neighbours, and one of them is enough. */
static int match_module(struct suture_target *t, const struct request *r, uint32_t spec,
                        size_t module)
{
	const struct module_symbol *symbols;
	size_t count = module_symbols(t->modules[module].module, &symbols);
	uint64_t last = ~0ull;

	if (!r->glob && index_names(&t->modules[module]))
		return match_name(t, r, spec, module);
	for (size_t i = 0; i < count; i++) {
		int rc;

		if ((symbols[i].vaddr == last && !r->all) || !name_matches(r, symbols[i].name))
			continue;
		last = symbols[i].vaddr;
		rc = add_probe(t, spec, module, &symbols[i], r->value, symbols[i].vaddr + r->value);
		if (rc)
			return rc;
	}
	return 0;
}

static int by_address(struct suture_target *t, const struct request *r, uint32_t spec,
                      size_t module)
{
	const struct target_module *m = &t->modules[module];
	const struct module_symbol *symbol = module_symbol_at(m->module, r->value);
	uint64_t offset;

	if (module_vaddr_to_offset(m->module, r->value, &offset))
		return target_fail(t, -ENOENT, "0x%" PRIx64 " is not in executable code of %s",
		                   r->value, m->name);
	return add_probe(t, spec, module, symbol, symbol ? r->value - symbol->vaddr : 0, r->value);
}

static int resolve(struct suture_target *t, const struct request *r, uint32_t spec)
{
	bool module_found = false;
	int unreadable = 0, rc = 0;
	const char *unreadable_name = "";

	for (size_t i = 0; i < t->module_count && !rc; i++) {
		if (r->module && strcmp(r->module, t->modules[i].name))
			continue;
		module_found = true;
		if (t->options.progress && !t->modules[i].by_name)
			t->options.progress("reading symbols", i, t->module_count,
			                    t->options.progress_arg);
		rc = target_open_module(t, i);
		if (rc) {
			unreadable = rc;
			unreadable_name = t->modules[i].path;
			rc = 0;
			continue;
		}
		rc = r->name ? match_module(t, r, spec, i) : by_address(t, r, spec, i);
	}
	if (rc)
		return rc;
	/* -ESRCH: its memory has gone, it itself is about to. */
	if (unreadable == -ESRCH || (unreadable && process_ended(process_member(t->pid))))
		return target_fail(t, -ESRCH, "process %d has ended", t->pid);
	if (!module_found)
		return target_fail(t, -ENOENT, "process %d maps no file named '%s'", t->pid,
		                   r->module);
	if (unreadable && r->module)
		return target_fail(t, -ENOENT, "%s: %s", unreadable_name,
		                   unreadable == -ENOEXEC ? "not a readable ELF file"
		                   : unreadable == -ENOENT
		                           ? "what is mapped executable is no code of it"
		                           : strerror(-unreadable));
	return 0;
}

static int fail_ambiguous(struct suture_target *t, const char *text, size_t first)
{
	char list[640] = "";
	size_t used = 0, count = t->probe_count - first;

	for (size_t i = first; i < t->probe_count && used < sizeof(list) - 120; i++)
		used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s:0x%" PRIx64,
		                         i > first ? ", " : "",
		                         t->modules[t->probes[i].module].name, t->probes[i].vaddr);
	t->probe_count = first;
	return target_fail(t, -ENOTUNIQ, "'%s' names %zu functions: %s%s; name one of them", text,
	                   count, list, used >= sizeof(list) - 120 ? ", …" : "");
}

/* Of a file that is known only as far as it is mapped, that may be the reason. */
static int fail_unknown(struct suture_target *t, const char *text, const struct request *r)
{
	const char *note = NULL;

	for (size_t i = 0; i < t->module_count && !note; i++)
		if (t->modules[i].note && (!r->module || !strcmp(r->module, t->modules[i].name)))
			note = t->modules[i].note;
	return target_fail(t, -ENOENT, "no function matches '%s'%s%s%s", text,
	                   r->module ? "" : " in any file that the process maps", note ? "; " : "",
	                   note ? note : "");
}

static int drop_spec(struct suture_target *t, size_t first_probe, int rc)
{
	t->probe_count = first_probe;
	free(t->specs[--t->spec_count].text);
	return rc;
}

int target_add(struct suture_target *t, const char *text, bool all)
{
	size_t first = t->probe_count;
	struct spec *grown;
	struct request r = {0};
	char *copy;
	int rc;

	if (t->attached)
		return target_fail(t, -EBUSY, "probes can not be added while attached");
	rc = target_load_modules(t);
	if (rc)
		return rc;
	/* Twice the room whenever the number is a power of two. */
	grown = t->specs;
	if (!(t->spec_count & (t->spec_count - 1)))
		grown = realloc(t->specs, (2 * t->spec_count + 1) * sizeof(*grown));
	if (grown)
		t->specs = grown;
	copy = strdup(text);
	if (!grown || !copy || !(t->specs[t->spec_count].text = strdup(text))) {
		free(copy);
		return target_fail(t, -ENOMEM, "out of memory");
	}
	t->spec_count++;
	rc = parse(t, text, copy, &r);
	r.all = all;
	if (!rc)
		rc = resolve(t, &r, (uint32_t)t->spec_count - 1);
	t->specs[t->spec_count - 1].exact = !r.glob;
	if (!rc && t->probe_count == first)
		rc = fail_unknown(t, text, &r);
	if (!rc && !r.glob && !all && t->probe_count > first + 1)
		rc = fail_ambiguous(t, text, first);
	free(copy);
	return rc ? drop_spec(t, first, rc) : (int)(t->probe_count - first);
}

int suture_target_count(struct suture_target *t, const char *text)
{
	return target_add(t, text, false);
}
