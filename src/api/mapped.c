/* SPDX-License-Identifier: MIT */
/*
 * mapped.c - a module whose file is out of reach: replaced, deleted, in another mount namespace.
 *
 * What the loader mapped of a file lies in the process at the file's own offsets, so putting the
 * mappings together gives the file again, less what is in no segment: section headers, and the
 * symbol tables that only debuggers want. The dynamic symbols are in a segment; a small table of
 * sections, made up here, leads the reader (src/module) to them. Everything comes from another
 * process, which may be hostile: every size is bounded by what was mapped.
 */
#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "session.h"

enum { IMAGE_MAX = 1 << 30, PIECE = 1 << 20, PROGRAM_HEADERS_MAX = 1024, DYNAMIC_MAX = 4096 };

/* The file as far as it is mapped: a sparse file in memory. */
struct rebuilt {
	int fd;
	uint64_t size; /* bytes */
	uint64_t bias; /* address of the file's vaddr 0 */
	Elf64_Phdr *segments;
	size_t segment_count;
};

static int copy_mapping(struct suture_target *t, const struct process_mapping *m, int fd,
                        uint8_t *piece)
{
	for (uint64_t at = m->start; at < m->end; at += PIECE) {
		size_t size = m->end - at < PIECE ? m->end - at : PIECE;
		uint64_t offset = m->offset + (at - m->start);

		if (port_read(t->port, at, piece, size))
			continue; /* beyond the file's end, or gone meanwhile: zeros */
		if (pwrite(fd, piece, size, (off_t)offset) != (ssize_t)size)
			return -EIO;
	}
	return 0;
}

/* Two mappings may hold one page of the file; what was not written to is what the file holds. */
static int copy_mappings(struct suture_target *t, const struct target_module *m, struct rebuilt *r)
{
	uint8_t *piece = malloc(PIECE);
	struct process_maps maps;
	int rc = piece ? process_maps_read(process_member(t->pid), &maps) : -ENOMEM;

	if (rc) {
		free(piece);
		return rc;
	}
	for (int pass = 0; pass < 2 && !rc; pass++)
		for (size_t i = 0; i < maps.count && !rc; i++) {
			const struct process_mapping *part = &maps.list[i];
			uint64_t size = part->end - part->start;

			if (part->inode != m->inode || part->device != m->device || !part->read ||
			    part->write != (pass == 0))
				continue;
			if (size > IMAGE_MAX || part->offset > IMAGE_MAX - size)
				rc = -EFBIG;
			else
				rc = copy_mapping(t, part, r->fd, piece);
			if (part->offset + size > r->size)
				r->size = part->offset + size;
		}
	process_maps_free(&maps);
	free(piece);
	return rc;
}

static int get(const struct rebuilt *r, uint64_t offset, void *out, size_t size)
{
	if (offset > r->size || size > r->size - offset)
		return -ENOEXEC;
	return pread(r->fd, out, size, (off_t)offset) == (ssize_t)size ? 0 : -ENOEXEC;
}

/* The file offset of an address that the dynamic section tells: relocated by now, or not. */
static uint64_t offset_of(const struct rebuilt *r, uint64_t address)
{
	for (int relocated = 1; relocated >= 0; relocated--) {
		uint64_t vaddr = relocated ? address - r->bias : address;

		for (size_t i = 0; i < r->segment_count; i++) {
			const Elf64_Phdr *s = &r->segments[i];

			if (s->p_type == PT_LOAD && vaddr - s->p_vaddr < s->p_filesz)
				return s->p_offset + (vaddr - s->p_vaddr);
		}
	}
	return UINT64_MAX;
}

static int read_headers(struct rebuilt *r, const struct target_module *m, Elf64_Ehdr *header)
{
	int rc = get(r, 0, header, sizeof(*header));

	if (!rc &&
	    (memcmp(header->e_ident, ELFMAG, SELFMAG) ||
	     header->e_phentsize != sizeof(Elf64_Phdr) || header->e_phnum > PROGRAM_HEADERS_MAX))
		rc = -ENOEXEC;
	if (rc)
		return rc;
	r->segment_count = header->e_phnum;
	r->segments = calloc(r->segment_count + 1, sizeof(*r->segments));
	if (!r->segments)
		return -ENOMEM;
	rc = get(r, header->e_phoff, r->segments, r->segment_count * sizeof(*r->segments));
	for (size_t i = 0; i < r->segment_count; i++) {
		const Elf64_Phdr *s = &r->segments[i];

		/* `bias` is the file offset of the first executable mapping until here. */
		if (s->p_type == PT_LOAD && (s->p_flags & PF_X) &&
		    m->bias - s->p_offset < s->p_filesz)
			r->bias = m->start - (s->p_vaddr + (m->bias - s->p_offset));
	}
	return rc;
}

struct dynamic {
	uint64_t symbols, strings, strings_size, hash, gnu_hash;
};

static void read_dynamic(const struct rebuilt *r, struct dynamic *out)
{
	*out = (struct dynamic){UINT64_MAX, UINT64_MAX, 0, UINT64_MAX, UINT64_MAX};
	for (size_t i = 0; i < r->segment_count; i++) {
		const Elf64_Phdr *s = &r->segments[i];

		if (s->p_type != PT_DYNAMIC)
			continue;
		for (size_t k = 0; k < DYNAMIC_MAX && k < s->p_filesz / sizeof(Elf64_Dyn); k++) {
			Elf64_Dyn entry;

			if (get(r, s->p_offset + k * sizeof(entry), &entry, sizeof(entry)) ||
			    entry.d_tag == DT_NULL)
				return;
			if (entry.d_tag == DT_SYMTAB)
				out->symbols = offset_of(r, entry.d_un.d_ptr);
			else if (entry.d_tag == DT_STRTAB)
				out->strings = offset_of(r, entry.d_un.d_ptr);
			else if (entry.d_tag == DT_STRSZ)
				out->strings_size = entry.d_un.d_val;
			else if (entry.d_tag == DT_HASH)
				out->hash = offset_of(r, entry.d_un.d_ptr);
			else if (entry.d_tag == DT_GNU_HASH)
				out->gnu_hash = offset_of(r, entry.d_un.d_ptr);
		}
		return;
	}
}

/* The symbol table's length is told by the hash tables only. DT_GNU_HASH: behind the header, the
 * Bloom words and the buckets, one word a symbol, the last one of a chain odd. */
static uint64_t count_gnu(const struct rebuilt *r, uint64_t at)
{
	uint32_t header[4], last = 0, word; /* buckets, first symbol, Bloom words, shift */
	uint64_t buckets, chains;

	if (get(r, at, header, sizeof(header)) || header[0] > IMAGE_MAX || header[2] > IMAGE_MAX)
		return 0;
	buckets = at + sizeof(header) + (uint64_t)header[2] * 8;
	chains = buckets + (uint64_t)header[0] * 4;
	for (uint32_t i = 0; i < header[0]; i++) {
		if (get(r, buckets + (uint64_t)i * 4, &word, sizeof(word)))
			return 0;
		last = word > last ? word : last;
	}
	if (last < header[1])
		return header[1];
	for (;; last++) {
		if (get(r, chains + (uint64_t)(last - header[1]) * 4, &word, sizeof(word)))
			return 0;
		if (word & 1)
			return (uint64_t)last + 1;
	}
}

static uint64_t count_symbols(const struct rebuilt *r, const struct dynamic *d)
{
	uint32_t header[2]; /* buckets, chains: one a symbol */

	if (d->hash != UINT64_MAX && !get(r, d->hash, header, sizeof(header)))
		return header[1];
	return d->gnu_hash != UINT64_MAX ? count_gnu(r, d->gnu_hash) : 0;
}

/* Null, symbols, their names, and the names of sections, of which there are none. */
static int append_sections(struct rebuilt *r, Elf64_Ehdr *header)
{
	Elf64_Shdr sections[4] = {0};
	struct dynamic d;
	uint64_t count;

	read_dynamic(r, &d);
	count = d.symbols != UINT64_MAX && d.strings != UINT64_MAX ? count_symbols(r, &d) : 0;
	header->e_shoff = header->e_shnum = header->e_shstrndx = 0;
	if (count && count <= r->size / sizeof(Elf64_Sym) && d.strings_size <= r->size) {
		sections[1] = (Elf64_Shdr){.sh_type = SHT_DYNSYM,
		                           .sh_offset = d.symbols,
		                           .sh_size = count * sizeof(Elf64_Sym),
		                           .sh_link = 2,
		                           .sh_entsize = sizeof(Elf64_Sym)};
		sections[2] = (Elf64_Shdr){
		        .sh_type = SHT_STRTAB, .sh_offset = d.strings, .sh_size = d.strings_size};
		sections[3] = (Elf64_Shdr){.sh_type = SHT_STRTAB, .sh_offset = 0, .sh_size = 1};
		header->e_shoff = (r->size + 7) & ~UINT64_C(7);
		header->e_shnum = 4;
		header->e_shstrndx = 3;
		header->e_shentsize = sizeof(*sections);
		if (pwrite(r->fd, sections, sizeof(sections), (off_t)header->e_shoff) !=
		    sizeof(sections))
			return -EIO;
	}
	return pwrite(r->fd, header, sizeof(*header), 0) == sizeof(*header) ? 0 : -EIO;
}

int target_module_from_memory(struct suture_target *t, struct target_module *m)
{
	struct rebuilt r = {.fd = memfd_create("suture-mapped", MFD_CLOEXEC)};
	Elf64_Ehdr header;
	char path[64];
	int rc;

	if (r.fd < 0)
		return -errno;
	rc = copy_mappings(t, m, &r);
	if (!rc)
		rc = read_headers(&r, m, &header);
	if (!rc)
		rc = append_sections(&r, &header);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", r.fd);
	if (!rc)
		rc = module_open(path, "", &m->module);
	free(r.segments);
	close(r.fd);
	return rc;
}
