/* SPDX-License-Identifier: MIT */
/*
 * rseq.c - restartable sequences (linux/rseq.h): the descriptors of section __rseq_cs.
 *
 * A descriptor is version, flags, start_ip, post_commit_offset, abort_ip. In a shared object
 * the two addresses come from relocations; with RELA the section itself may hold zeros.
 */
#include <errno.h>
#include <string.h>

#include "module/internal.h"

enum { DESCRIPTOR_SIZE = 32, START_AT = 8, LENGTH_AT = 16, ABORT_AT = 24, SIGNATURE_SIZE = 4 };

struct rseq {
	struct module_range *ranges; /* sorted, disjoint */
	size_t count;
	bool everywhere; /* there are descriptors, but they cannot be read */
};

void rseq_free(struct rseq *rseq)
{
	if (rseq)
		free(rseq->ranges);
	free(rseq);
}

/* R_X86_64_RELATIVE: base + addend; R_X86_64_64: symbol + addend (psABI table 4.10). */
static bool relocated(const struct bytes *symbols, const Elf64_Rela *rela, uint64_t *value)
{
	uint64_t index = ELF64_R_SYM(rela->r_info);
	Elf64_Sym symbol;

	*value = (uint64_t)rela->r_addend;
	if (ELF64_R_TYPE(rela->r_info) == R_X86_64_RELATIVE)
		return true;
	if (ELF64_R_TYPE(rela->r_info) != R_X86_64_64 || index >= symbols->size / sizeof(symbol))
		return false;
	memcpy(&symbol, symbols->data + index * sizeof(symbol), sizeof(symbol));
	*value += symbol.st_value;
	return symbol.st_shndx != SHN_UNDEF;
}

/* Writes the relocated values into `section`, which lies at `address`; false if that fails. */
static bool apply(const struct image *image, size_t index, struct bytes *section, uint64_t address)
{
	struct bytes table, symbols = {0};
	int error = image_load(image, index, &table);
	bool sound = !error;

	if (error)
		return error == -ENOENT;
	image_load(image, image_section(image, index)->sh_link, &symbols);
	for (size_t at = 0; table.size - at >= sizeof(Elf64_Rela); at += sizeof(Elf64_Rela)) {
		Elf64_Rela rela;
		uint64_t value;

		memcpy(&rela, table.data + at, sizeof(rela));
		if (section->size < sizeof(value) || rela.r_offset < address ||
		    rela.r_offset - address > section->size - sizeof(value))
			continue;
		if (relocated(&symbols, &rela, &value))
			memcpy(section->data + (rela.r_offset - address), &value, sizeof(value));
		else
			sound = false;
	}
	bytes_free(&symbols);
	bytes_free(&table);
	return sound;
}

static bool relocate(const struct image *image, struct bytes *section, uint64_t address)
{
	for (size_t i = 1; i < image->section_count; i++) {
		const Elf64_Shdr *header = image_section(image, i);

		if (header && header->sh_type == SHT_RELA && (header->sh_flags & SHF_ALLOC) &&
		    !apply(image, i, section, address))
			return false;
	}
	return true;
}

static uint64_t field(const uint8_t *descriptor, size_t at)
{
	uint64_t value;

	memcpy(&value, descriptor + at, sizeof(value));
	return value;
}

static int compare(const void *a, const void *b)
{
	const struct module_range *left = a, *right = b;

	return (left->start > right->start) - (left->start < right->start);
}

static void merge(struct rseq *rseq)
{
	size_t kept = 0;

	qsort(rseq->ranges, rseq->count, sizeof(*rseq->ranges), compare);
	for (size_t i = 0; i < rseq->count; i++) {
		struct module_range *last = kept ? &rseq->ranges[kept - 1] : NULL;

		if (!last || rseq->ranges[i].start > last->end)
			rseq->ranges[kept++] = rseq->ranges[i];
		else if (rseq->ranges[i].end > last->end)
			last->end = rseq->ranges[i].end;
	}
	rseq->count = kept;
}

static bool read_descriptors(struct rseq *rseq, const struct bytes *section)
{
	size_t count = section->size / DESCRIPTOR_SIZE;

	rseq->ranges = malloc((2 * count + 1) * sizeof(*rseq->ranges));
	if (!rseq->ranges)
		return false;
	for (size_t i = 0; i < count; i++) {
		const uint8_t *descriptor = section->data + i * DESCRIPTOR_SIZE;
		uint64_t start = field(descriptor, START_AT), size = field(descriptor, LENGTH_AT);
		uint64_t abort = field(descriptor, ABORT_AT), end;

		if (start == 0 && size == 0 && abort == 0)
			continue; /* padding */
		if (__builtin_add_overflow(start, size, &end) || abort < SIGNATURE_SIZE ||
		    abort == UINT64_MAX)
			return false;
		rseq->ranges[rseq->count++] = (struct module_range){start, end};
		/* The kernel checks the signature in front of the abort target on each abort. */
		rseq->ranges[rseq->count++] =
		        (struct module_range){abort - SIGNATURE_SIZE, abort + 1};
	}
	merge(rseq);
	return true;
}

static struct rseq *rseq_get(struct module *module)
{
	size_t index = image_find(&module->main, "__rseq_cs");
	struct rseq *rseq = module->rseq;
	struct bytes section;
	int error;

	if (rseq)
		return rseq;
	rseq = module->rseq = calloc(1, sizeof(*rseq));
	if (!rseq || index == 0)
		return rseq;
	error = image_load(&module->main, index, &section);
	if (error == -ENOENT)
		return rseq;
	rseq->everywhere =
	        error ||
	        !relocate(&module->main, &section, image_section(&module->main, index)->sh_addr) ||
	        !read_descriptors(rseq, &section);
	if (!error)
		bytes_free(&section);
	return rseq;
}

bool module_rseq_overlaps(struct module *module, uint64_t start, uint64_t end)
{
	struct rseq *rseq = rseq_get(module);
	size_t low = 0, high = rseq ? rseq->count : 0;

	if (!rseq || rseq->everywhere)
		return true;
	/* The first range that ends after `start`. */
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (rseq->ranges[middle].end <= start)
			low = middle + 1;
		else
			high = middle;
	}
	return low < rseq->count && rseq->ranges[low].start < end;
}
