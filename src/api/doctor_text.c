/* SPDX-License-Identifier: MIT */
/* doctor_text.c - what is mapped in a process: files, sealed text, foreign bytes, rseq areas. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "doctor.h"

static void find_files(struct suture_diagnosis *d, struct suture_target *t)
{
	size_t unreadable = 0, unnamed = 0;
	const char *name = "";

	for (size_t i = 0; i < t->module_count; i++) {
		const struct module_symbol *symbols;

		if (target_open_module(t, i)) {
			unreadable++;
			name = t->modules[i].name;
		} else {
			unnamed += module_symbols(t->modules[i].module, &symbols) == 0;
		}
	}
	if (unreadable)
		finding(d, true, "files",
		        LIMIT("functions of files that can not be read can not be named",
		              "run as root, which reads files that were replaced or deleted since"),
		        "%zu of %zu unreadable, %.40s", unreadable, t->module_count, name);
	else
		finding(d, true, "files", OK("all can be read", NULL), "%zu", t->module_count);
	if (unnamed)
		finding(d, true, "stripped",
		        NOTE("files without function symbols: name code as MODULE:0xADDRESS",
		             "install their debug symbols"),
		        "%zu of %zu", unnamed, t->module_count);
	if (target_is_go(t))
		finding(d, true, "go",
		        NOTE("puns displace one instruction only, and nothing is proven for "
		             "windows",
		             NULL),
		        "yes");
}

/* ---- text that is not the file's ---- */

struct foreign {
	size_t bytes, traps;
	uint64_t first; /* ELF address of the first */
	const struct target_module *module;
};

enum { PIECE = 256 << 10 };

static void compare(const struct target_module *m, uint64_t vaddr, const uint8_t *ours,
                    const uint8_t *file, size_t size, struct foreign *out)
{
	if (memcmp(ours, file, size) == 0)
		return;
	for (size_t i = 0; i < size; i++) {
		if (ours[i] == file[i])
			continue;
		if (!out->bytes) {
			out->first = vaddr + i;
			out->module = m;
		}
		out->bytes++;
		out->traps += ours[i] == isa_x86_64.trap[0];
	}
}

static void compare_mapping(struct suture_target *t, const struct target_module *m,
                            const struct process_mapping *mapping, uint8_t *memory, uint8_t *file,
                            struct foreign *out)
{
	for (uint64_t at = mapping->start; at < mapping->end; at += PIECE) {
		uint64_t left = mapping->end - at;
		size_t size = left < PIECE ? (size_t)left : PIECE;
		int n = module_read(m->module, at - m->bias, file, size);

		if (n <= 0 || port_read(t->port, at, memory, (size_t)n))
			return; /* beyond the file's contents */
		if (t->left)
			patch_original(t->left, at, memory, (size_t)n);
		compare(m, at - m->bias, memory, file, (size_t)n, out);
	}
}

static const struct target_module *module_of(const struct suture_target *t,
                                             const struct process_mapping *mapping)
{
	for (size_t i = 0; i < t->module_count; i++)
		if (t->modules[i].inode == mapping->inode &&
		    t->modules[i].device == mapping->device && t->modules[i].module)
			return &t->modules[i];
	return NULL;
}

static void report_foreign(struct suture_diagnosis *d, const struct foreign *f, bool all)
{
	const struct module_symbol *symbol;

	if (!f->bytes) {
		finding(d, true, "text",
		        OK("no breakpoint, uprobe, hook or patch of anybody's is in it", NULL),
		        all ? "as the files" : "as the files, as far as they can be read");
		return;
	}
	symbol = module_symbol_at(f->module->module, f->first);
	finding(d, true, "text",
	        NOTE("others have changed it; sites there are refused, the rest can be counted",
	             f->traps ? "end the tool whose breakpoints or uprobes these are" : NULL),
	        "%zu byte%s, %zu of them breakpoints, first %.40s:0x%" PRIx64 " (%.60s)", f->bytes,
	        f->bytes == 1 ? " differs" : "s differ", f->traps, f->module->name, f->first,
	        symbol ? symbol->name : "?");
}

static void find_foreign(struct suture_diagnosis *d, struct suture_target *t,
                         const struct process_maps *maps)
{
	struct foreign f = {0};
	uint8_t *memory = malloc(PIECE), *file = malloc(PIECE);
	bool all = true;

	for (size_t i = 0; memory && file && i < maps->count; i++) {
		const struct process_mapping *mapping = &maps->list[i];
		const struct target_module *m;

		if (!mapping->execute || !mapping->inode || mapping->path[0] != '/' ||
		    process_mapping_is_ours(mapping))
			continue;
		m = module_of(t, mapping);
		all &= m != NULL;
		if (m)
			compare_mapping(t, m, mapping, memory, file, &f);
	}
	if (memory && file)
		report_foreign(d, &f, all);
	else
		d->out_of_memory = true;
	free(memory);
	free(file);
}

/* ---- sealed text ---- */

/* Executable mappings of files whose VmFlags have "sl" (proc(5), Linux 6.10). */
static void find_sealed(struct suture_diagnosis *d, pid_t member)
{
	char path[64], line[512];
	size_t sealed = 0, count = 0;
	bool executable = false;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/smaps", member);
	file = fopen(path, "re");
	if (!file)
		return;
	while (fgets(line, sizeof(line), file)) {
		unsigned long start, end;
		char perms[5];

		if (sscanf(line, "%lx-%lx %4s", &start, &end, perms) == 3) {
			executable = perms[2] == 'x' && strchr(line, '/');
			count += executable;
		} else if (executable && strncmp(line, "VmFlags:", 8) == 0) {
			sealed += strstr(line, " sl") != NULL;
		}
	}
	fclose(file);
	if (sealed)
		finding(d, true, "sealed-text",
		        OK("sealed against its own system calls (mseal), not against "
		           "/proc/PID/mem",
		           NULL),
		        "%zu of %zu mappings", sealed, count);
	else
		finding(d, true, "sealed-text", OK("makes no difference", NULL), "no");
}

/* ---- rseq areas ---- */

/* What glibc tells programs about its areas (rseq(2), glibc 2.35): symbols of ld.so. */
static bool read_object(struct suture_target *t, const char *name, void *value, size_t size)
{
	for (size_t i = 0; i < t->module_count; i++) {
		const struct target_module *m = &t->modules[i];
		uint64_t vaddr;

		if (m->module && module_object(m->module, name, &vaddr) == 0 &&
		    port_read(t->port, m->bias + vaddr, value, size) == 0)
			return true;
	}
	return false;
}

static void find_rseq(struct suture_diagnosis *d, struct suture_target *t)
{
	int64_t offset = 0;
	uint32_t size = 0;

	if (!read_object(t, "__rseq_offset", &offset, sizeof(offset)) ||
	    !read_object(t, "__rseq_size", &size, sizeof(size)))
		finding(d, true, "rseq-areas",
		        NOTE("not those of a shared glibc: what threads have registered is seen "
		             "when attaching; without areas, counters use locked instructions",
		             NULL),
		        "not known");
	else if (!size)
		finding(d, true, "rseq-areas",
		        NOTE("glibc has registered none: counters use locked instructions",
		             "start it without GLIBC_TUNABLES=glibc.pthread.rseq=0"),
		        "none");
	else if (d->trials.rseq)
		finding(d, true, "rseq-areas",
		        NOTE("registered, but this kernel does not tell where: counters use locked "
		             "instructions",
		             NULL),
		        "glibc's");
	else
		finding(d, true, "rseq-areas",
		        OK("each thread has one: counters without locked instructions", NULL),
		        "glibc's, at fs%+" PRId64, offset);
}

void diagnose_memory(struct suture_diagnosis *d, struct suture_target *t)
{
	struct process_maps maps;

	if (target_load_modules(t) || process_maps_read(process_member(t->pid), &maps))
		return;
	(void)target_look_through(t); /* the line "suture" tells of that */
	find_files(d, t);
	find_foreign(d, t, &maps);
	process_maps_free(&maps);
	find_sealed(d, process_member(t->pid));
	find_rseq(d, t);
}
