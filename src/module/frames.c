/* SPDX-License-Identifier: MIT */
/*
 * frames.c - tables of CIEs and FDEs, and the landing pads of an FDE's LSDA.
 *
 * Read by hand in one pass that is linear in the section: libdw parses a CIE again for every
 * FDE that points to it and sizes its register file by the largest number that the program
 * mentions, both of which a hostile file turns against us. Tests compare the two.
 */
#include <dwarf.h>
#include <errno.h>
#include <string.h>

#include "module/internal.h"

enum {
	LSDA_MAX = 1 << 24,
	CIE_PROGRAM_MAX = 4096, /* run anew for each FDE; real ones have a dozen bytes */
};

struct frames {
	struct bytes sections[3]; /* .eh_frame, .debug_frame of the module and of its debug file */
	struct cie *cies;
	size_t cie_count, cie_room;
	struct fde *fdes; /* sorted by start */
	size_t fde_count, fde_room;
};

void frames_free(struct frames *frames)
{
	if (!frames)
		return;
	for (size_t i = 0; i < array_size(frames->sections); i++)
		bytes_free(&frames->sections[i]);
	free(frames->cies);
	free(frames->fdes);
	free(frames);
}

static bool grow(void **items, size_t count, size_t *room, size_t item_size)
{
	size_t new_room = *room ? 2 * *room : 64;
	void *grown;

	if (count < *room)
		return true;
	grown = realloc(*items, new_room * item_size);
	if (!grown)
		return false;
	*items = grown;
	*room = new_room;
	return true;
}

/* LSB 5.0 Core, 10.6.1.1.1. An unknown letter hides where the ones after it keep their data. */
static bool read_augmentation(struct reader *reader, const char *letters, struct cie *cie)
{
	uint64_t size;
	struct reader data;

	cie->pointer_encoding = DW_EH_PE_absptr;
	cie->lsda_encoding = DW_EH_PE_omit;
	if (!*letters)
		return true;
	if (*letters != 'z')
		return false;
	cie->has_augmentation = true;
	size = read_uleb(reader);
	data = *reader;
	read_skip(reader, size);
	if (reader->bad)
		return false;
	data.end = reader->at;
	while (*++letters) {
		if (*letters == 'R')
			cie->pointer_encoding = (uint8_t)read_fixed(&data, 1);
		else if (*letters == 'L')
			cie->lsda_encoding = (uint8_t)read_fixed(&data, 1);
		else if (*letters == 'P')
			read_encoded(&data, (uint8_t)read_fixed(&data, 1), 0);
		else if (*letters != 'S')
			return false;
	}
	return !data.bad;
}

static void read_cie(struct reader reader, bool is_eh, struct cie *cie)
{
	unsigned version = (unsigned)read_fixed(&reader, 1);
	const char *letters = (const char *)reader.at;
	size_t length = strnlen(letters, (size_t)(reader.end - reader.at));

	if (version != 1 && version != 3 && (version != 4 || is_eh))
		return;
	read_skip(&reader, length + 1);
	if (version == 4 && (read_fixed(&reader, 1) != 8 || read_fixed(&reader, 1) != 0))
		return; /* address size, segment selector size */
	cie->code_align = read_uleb(&reader);
	cie->data_align = read_sleb(&reader);
	if (version == 1)
		read_fixed(&reader, 1); /* return address register */
	else
		read_uleb(&reader);
	if (reader.bad || !read_augmentation(&reader, letters, cie))
		return;
	cie->program = reader;
	cie->usable = reader.end - reader.at <= CIE_PROGRAM_MAX;
}

/* CIEs are met in the order of the section, and sections in the order of their buffers' use. */
static const struct cie *find_cie(const struct frames *frames, size_t first, const uint8_t *entry)
{
	size_t low = first, high = frames->cie_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (frames->cies[middle].entry < entry)
			low = middle + 1;
		else if (frames->cies[middle].entry > entry)
			high = middle;
		else
			return &frames->cies[middle];
	}
	return NULL;
}

static bool covers_text(const struct module *module, uint64_t start, uint64_t size)
{
	const struct segment *segment = segment_at(module, start);

	return segment && (segment->flags & PF_X) && size != 0 &&
	       size <= segment->memory_size - (start - segment->vaddr);
}

static bool read_fde(struct module *module, struct frames *frames, struct reader reader,
                     const struct cie *cie)
{
	struct fde fde = {.cie = (uint32_t)(cie - frames->cies)};
	uint64_t size;

	fde.start = read_encoded(&reader, cie->pointer_encoding, 0);
	size = read_encoded(&reader, cie->pointer_encoding & 0x0f, 0);
	if (cie->has_augmentation) {
		uint64_t data_size = read_uleb(&reader);
		struct reader data = reader;

		read_skip(&reader, data_size);
		data.end = reader.at;
		if (!reader.bad && cie->lsda_encoding != DW_EH_PE_omit) {
			fde.lsda = read_encoded(&data, cie->lsda_encoding, fde.start);
			fde.bad_lsda = data.bad || (cie->lsda_encoding & DW_EH_PE_indirect);
		}
	}
	/* Also drops what a linker has discarded and left at address 0. */
	if (reader.bad || !covers_text(module, fde.start, size))
		return true;
	fde.end = fde.start + size;
	fde.program = reader;
	if (!grow((void **)&frames->fdes, frames->fde_count, &frames->fde_room, sizeof(fde)))
		return false;
	frames->fdes[frames->fde_count++] = fde;
	return true;
}

struct entry {
	const uint8_t *start;
	struct reader body; /* what follows the CIE pointer */
	uint64_t pointer;
	const uint8_t *pointer_at;
	bool is_cie, skip;
};

/* The length and CIE pointer in front of every entry (DWARF 5, 7.4 and 6.4.1). */
static bool next_entry(struct reader *section, bool is_eh, struct entry *entry)
{
	uint64_t length;
	unsigned width = 4;

	entry->start = section->at;
	length = read_fixed(section, 4);
	if (length == 0xffffffff) {
		length = read_fixed(section, 8);
		width = 8;
	}
	if (section->bad || length == 0) /* 0 ends .eh_frame */
		return false;
	entry->body = *section;
	read_skip(section, length);
	if (section->bad)
		return false;
	entry->body.end = section->at;
	entry->pointer_at = entry->body.at;
	entry->pointer = read_fixed(&entry->body, width);
	entry->is_cie = is_eh        ? entry->pointer == 0
	                : width == 8 ? entry->pointer == DW_CIE_ID_64
	                             : entry->pointer == DW_CIE_ID_32;
	/* The LSB gives .eh_frame a 4-byte pointer, and no word on the 64-bit format. */
	entry->skip = entry->body.bad || (is_eh && width == 8);
	return true;
}

static void read_section(struct module *module, struct frames *frames, const struct bytes *bytes,
                         uint64_t address, bool is_eh)
{
	struct reader start = {bytes->data, bytes->data + bytes->size, address, false};
	size_t first = frames->cie_count;
	struct reader section = start;
	struct entry entry;

	while (next_entry(&section, is_eh, &entry)) {
		if (!entry.is_cie || entry.skip)
			continue;
		if (!grow((void **)&frames->cies, frames->cie_count, &frames->cie_room,
		          sizeof(*frames->cies)))
			return;
		frames->cies[frames->cie_count] = (struct cie){.entry = entry.start};
		read_cie(entry.body, is_eh, &frames->cies[frames->cie_count++]);
	}
	section = start;
	while (next_entry(&section, is_eh, &entry)) {
		const struct cie *cie;
		uint64_t behind = is_eh ? (uint64_t)(entry.pointer_at - bytes->data) : bytes->size;

		if (entry.is_cie || entry.skip || entry.pointer > behind)
			continue;
		/* Relative to itself in .eh_frame, to the section in .debug_frame. */
		cie = find_cie(frames, first,
		               is_eh ? entry.pointer_at - entry.pointer
		                     : bytes->data + entry.pointer);
		if (cie && cie->usable && !read_fde(module, frames, entry.body, cie))
			return;
	}
}

static int compare_fdes(const void *a, const void *b)
{
	const struct fde *left = a, *right = b;

	if (left->start != right->start)
		return left->start < right->start ? -1 : 1;
	return (left->end > right->end) - (left->end < right->end);
}

static void sort_fdes(struct frames *frames)
{
	uint64_t reach = 0;
	size_t furthest = 0;

	if (frames->fde_count)
		qsort(frames->fdes, frames->fde_count, sizeof(*frames->fdes), compare_fdes);
	for (size_t i = 0; i < frames->fde_count; i++) {
		struct fde *fde = &frames->fdes[i];

		if (fde->start < reach)
			fde->overlapped = frames->fdes[furthest].overlapped = true;
		if (fde->end > reach) {
			reach = fde->end;
			furthest = i;
		}
	}
}

/* .eh_frame by its section, or through PT_GNU_EH_FRAME when section headers are gone. */
static uint64_t load_eh_frame(struct module *module, struct bytes *bytes)
{
	size_t index = image_find(&module->main, ".eh_frame"), count;
	const Elf64_Phdr *headers = elf64_getphdr(module->main.elf);

	if (index)
		return image_load(&module->main, index, bytes)
		               ? 0
		               : image_section(&module->main, index)->sh_addr;
	if (!headers || elf_getphdrnum(module->main.elf, &count) || count > SEGMENT_COUNT_MAX)
		return 0;
	for (size_t i = 0; i < count; i++) {
		uint8_t header[12]; /* version, 3 encodings, eh_frame_ptr (LSB 5.0 Core, 10.6.2) */
		struct reader reader = {header + 4, header + 12, headers[i].p_vaddr + 4, false};
		const struct segment *segment;
		uint64_t address, size;

		if (headers[i].p_type != PT_GNU_EH_FRAME ||
		    module_read(module, headers[i].p_vaddr, header, 12) != 12 || header[0] != 1)
			continue;
		address = read_encoded(&reader, header[1], 0);
		segment = segment_at(module, address);
		if (reader.bad || !segment || address - segment->vaddr >= segment->file_size)
			continue;
		/* Its size is not known: it ends with an entry of length 0. */
		size = segment->file_size - (address - segment->vaddr);
		if (size > LOAD_MAX || !(bytes->data = malloc(size + 1)))
			return 0;
		bytes->data[size] = 0;
		bytes->size = size;
		if (!image_read(&module->main, segment->offset + (address - segment->vaddr),
		                bytes->data, size))
			return address;
		bytes_free(bytes);
	}
	return 0;
}

/* .debug_frame says nothing that .eh_frame has said already. */
static void drop_known(struct frames *frames, size_t known)
{
	size_t kept = known;

	for (size_t i = known; i < frames->fde_count; i++) {
		const struct fde *fde = &frames->fdes[i];
		size_t low = 0, high = known;

		while (low < high) {
			size_t middle = low + (high - low) / 2;

			if (frames->fdes[middle].end <= fde->start)
				low = middle + 1;
			else
				high = middle;
		}
		if (low == known || frames->fdes[low].start >= fde->end)
			frames->fdes[kept++] = *fde;
	}
	frames->fde_count = kept;
}

static struct frames *frames_get(struct module *module)
{
	struct frames *frames = module->frames;
	size_t known;
	uint64_t address;

	if (frames)
		return frames;
	frames = calloc(1, sizeof(*frames));
	if (!frames)
		return NULL;
	module->frames = frames;
	debug_file_open(module);
	address = load_eh_frame(module, &frames->sections[0]);
	if (frames->sections[0].data)
		read_section(module, frames, &frames->sections[0], address, true);
	sort_fdes(frames);
	known = frames->fde_count;
	for (int i = 1; i <= 2; i++) {
		const struct image *image = i == 1 ? &module->main : &module->debug;
		size_t index = image->fd >= 0 ? image_find(image, ".debug_frame") : 0;

		if (!image_load(image, index, &frames->sections[i]))
			read_section(module, frames, &frames->sections[i], 0, false);
		drop_known(frames, known);
		sort_fdes(frames);
		known = frames->fde_count;
	}
	return frames;
}

const struct cie *fde_cie(struct module *module, const struct fde *fde)
{
	return &module->frames->cies[fde->cie];
}

const struct fde *fde_from(struct module *module, uint64_t vaddr)
{
	struct frames *frames = frames_get(module);
	size_t low = 0, high = frames ? frames->fde_count : 0;

	/* The last one that starts at or before it, if it covers it; else the next one. */
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (frames->fdes[middle].start <= vaddr)
			low = middle + 1;
		else
			high = middle;
	}
	if (low > 0 && vaddr < frames->fdes[low - 1].end)
		return &frames->fdes[low - 1];
	return frames && low < frames->fde_count ? &frames->fdes[low] : NULL;
}

bool fde_starts_near(struct module *module, uint64_t vaddr, uint64_t *before, uint64_t *after)
{
	struct frames *frames = frames_get(module);
	const struct fde *fde = fde_from(module, vaddr);
	size_t next;

	if (!frames || frames->fde_count == 0)
		return false;
	next = fde ? (size_t)(fde - frames->fdes) : frames->fde_count;
	if (next < frames->fde_count && frames->fdes[next].start <= vaddr)
		next++;
	*before = next ? frames->fdes[next - 1].start : 0;
	*after = next < frames->fde_count ? frames->fdes[next].start : UINT64_MAX;
	return true;
}

const struct fde *fde_at(struct module *module, uint64_t vaddr)
{
	const struct fde *fde = fde_from(module, vaddr);

	return fde && fde->start <= vaddr && !fde->overlapped ? fde : NULL;
}

int module_fde_extent(struct module *module, uint64_t vaddr, uint64_t *start, uint64_t *end)
{
	const struct fde *fde = fde_at(module, vaddr);

	if (!fde)
		return -ENOENT;
	*start = fde->start;
	*end = fde->end;
	return 0;
}

/*
 * The language-specific data area of the Itanium C++ ABI's personality routines (GCC, LLVM,
 * Rust): header, then call sites of start, length, landing pad, action.
 */
static int walk_call_sites(struct reader reader, uint64_t base, uint8_t encoding,
                           bool (*visit)(void *, uint64_t), void *context)
{
	while (reader.at < reader.end) {
		uint64_t pad;

		read_encoded(&reader, encoding, 0);
		read_encoded(&reader, encoding, 0);
		pad = read_encoded(&reader, encoding, 0);
		read_uleb(&reader);
		if (reader.bad)
			return -ENOEXEC;
		if (pad && !visit(context, base + pad))
			return -ENOEXEC;
	}
	return 0;
}

int landing_pads(struct module *module, const struct fde *fde,
                 bool (*visit)(void *context, uint64_t vaddr), void *context, uint64_t *work)
{
	uint8_t header[64], encoding;
	struct reader reader = {.at = header, .address = fde->lsda};
	struct bytes table;
	uint64_t base = fde->start, size;
	int got, error = -ENOEXEC;

	if (fde->bad_lsda)
		return -ENOEXEC;
	if (!fde->lsda)
		return 0;
	got = module_read(module, fde->lsda, header, sizeof(header));
	if (got < 0)
		return -ENOEXEC;
	reader.end = header + got;
	encoding = (uint8_t)read_fixed(&reader, 1); /* of LPStart */
	if (encoding != DW_EH_PE_omit)
		base = read_encoded(&reader, encoding, fde->start);
	if (encoding != DW_EH_PE_omit && (encoding & DW_EH_PE_indirect))
		return -ENOEXEC;
	if (read_fixed(&reader, 1) != DW_EH_PE_omit) /* of the type table */
		read_uleb(&reader);
	encoding = (uint8_t)read_fixed(&reader, 1); /* of call sites */
	size = read_uleb(&reader);
	if (reader.bad || size > LSDA_MAX || (encoding & 0xf0))
		return -ENOEXEC;
	*work += size;
	table.data = malloc(size + 1);
	if (!table.data)
		return -ENOMEM;
	if (size == 0 || module_read(module, reader.address, table.data, size) == (int)size)
		error = walk_call_sites((struct reader){table.data, table.data + size, 0, false},
		                        base, encoding, visit, context);
	free(table.data);
	return error;
}
