/* SPDX-License-Identifier: MIT */
/*
 * module.c - open a file, know its segments, read its bytes.
 */
#include <errno.h>
#include <string.h>

#include "module/internal.h"

enum { MAPPED_PAGE = 4096 };
enum { NT_GO_BUILD_ID = 4 }; /* note "Go": cmd/link's own, not in elf.h */

static int compare_segments(const void *a, const void *b)
{
	const struct segment *left = a, *right = b;

	return (left->vaddr > right->vaddr) - (left->vaddr < right->vaddr);
}

static int compare_ranges(const void *a, const void *b)
{
	const struct module_range *left = a, *right = b;

	return (left->start > right->start) - (left->start < right->start);
}

static bool segment_is_sound(const struct module *module, const Elf64_Phdr *header)
{
	/* Below 2^63, sums of an address and a size or displacement do not wrap. */
	return header->p_filesz <= header->p_memsz && header->p_vaddr < INT64_MAX &&
	       header->p_memsz <= INT64_MAX - header->p_vaddr &&
	       header->p_offset <= module->main.size &&
	       header->p_filesz <= module->main.size - header->p_offset;
}

static int read_segments(struct module *module)
{
	const Elf64_Phdr *headers = elf64_getphdr(module->main.elf);
	size_t count;

	if (!headers || elf_getphdrnum(module->main.elf, &count) || count == 0 ||
	    count > SEGMENT_COUNT_MAX)
		return -ENOEXEC;
	module->segments = calloc(count, sizeof(*module->segments));
	if (!module->segments)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		if (headers[i].p_type != PT_LOAD || headers[i].p_memsz == 0)
			continue;
		if (!segment_is_sound(module, &headers[i]))
			return -ENOEXEC;
		module->segments[module->segment_count++] =
		        (struct segment){.vaddr = headers[i].p_vaddr,
		                         .offset = headers[i].p_offset,
		                         .file_size = headers[i].p_filesz,
		                         .memory_size = headers[i].p_memsz,
		                         .flags = headers[i].p_flags};
	}
	qsort(module->segments, module->segment_count, sizeof(*module->segments), compare_segments);
	for (size_t i = 1; i < module->segment_count; i++)
		if (module->segments[i].vaddr - module->segments[i - 1].vaddr <
		    module->segments[i - 1].memory_size)
			return -ENOEXEC;
	return module->segment_count ? 0 : -ENOEXEC;
}

/* Clipped to what an executable segment holds of it; empty if none does. */
static struct module_range clip(const struct module *module, uint64_t start, uint64_t size)
{
	const struct segment *segment = segment_at(module, start);
	uint64_t room;

	if (!segment || !(segment->flags & PF_X) || start - segment->vaddr >= segment->file_size)
		return (struct module_range){start, start};
	room = segment->file_size - (start - segment->vaddr);
	return (struct module_range){start, start + (size < room ? size : room)};
}

static void add_code(struct module *module, uint64_t start, uint64_t size)
{
	struct module_range range = clip(module, start, size);

	if (range.start < range.end)
		module->code[module->code_count++] = range;
}

static bool is_stub_section(const struct module *module, const Elf64_Shdr *header)
{
	const struct bytes *names = &module->main.section_names;
	const char *name =
	        header->sh_name < names->size ? (char *)names->data + header->sh_name : "";

	return !strncmp(name, ".plt", 4) || !strncmp(name, ".iplt", 5);
}

/*
 * Where functions may be. Sections tell text from read-only data in the same segment (linkers
 * before -z separate-code); without them the whole segment counts.
 */
static int read_code(struct module *module)
{
	size_t room = module->main.section_count + module->segment_count + 1;

	module->code = calloc(room, sizeof(*module->code));
	module->stubs = calloc(room, sizeof(*module->stubs));
	if (!module->code || !module->stubs)
		return -ENOMEM;
	for (size_t i = 1; i < module->main.section_count; i++) {
		const Elf64_Shdr *header = image_section(&module->main, i);

		if (!header || header->sh_type == SHT_NOBITS || !(header->sh_flags & SHF_ALLOC) ||
		    !(header->sh_flags & SHF_EXECINSTR))
			continue;
		add_code(module, header->sh_addr, header->sh_size);
		if (is_stub_section(module, header))
			module->stubs[module->stub_count++] =
			        clip(module, header->sh_addr, header->sh_size);
	}
	if (module->code_count == 0)
		for (size_t i = 0; i < module->segment_count; i++)
			add_code(module, module->segments[i].vaddr, module->segments[i].file_size);
	qsort(module->code, module->code_count, sizeof(*module->code), compare_ranges);
	return 0;
}

static bool built_by_go(const struct image *image)
{
	uint8_t scratch[1];
	size_t size = sizeof(scratch);

	return image_find(image, ".go.buildinfo") || image_find(image, ".note.go.buildid") ||
	       image_note(image, "Go\0", NT_GO_BUILD_ID, scratch, &size);
}

static int read_all(struct module *module)
{
	int error = read_segments(module);

	if (!error)
		error = read_code(module);
	if (error)
		return error;
	module->build_id_size = image_build_id(&module->main, module->build_id);
	module->is_go = built_by_go(&module->main);
	module->is_fixed = elf64_getehdr(module->main.elf)->e_type == ET_EXEC;
	return 0;
}

int module_open(const char *path, const char *debug_root, struct module **out)
{
	struct module *module = calloc(1, sizeof(*module));
	int error;

	*out = NULL;
	if (!module)
		return -ENOMEM;
	module->debug.fd = -1;
	error = image_open(path, &module->main);
	if (error)
		goto fail;
	error = -ENOMEM;
	module->path = strdup(path);
	if (!module->path)
		goto fail;
	if (debug_root && !(module->debug_root = strdup(debug_root)))
		goto fail;
	error = read_all(module);
	if (error)
		goto fail;
	*out = module;
	return 0;
fail:
	module_close(module);
	return error;
}

void module_close(struct module *module)
{
	if (!module)
		return;
	symbols_free(module->symbols);
	frames_free(module->frames);
	rseq_free(module->rseq);
	for (size_t i = 0; i < module->segment_count; i++)
		free(module->segments[i].data);
	free(module->segments);
	free(module->code);
	free(module->stubs);
	image_close(&module->main);
	image_close(&module->debug);
	free(module->debug_root);
	free(module->path);
	free(module);
}

size_t module_build_id(const struct module *module, uint8_t id[MODULE_BUILD_ID_MAX])
{
	memcpy(id, module->build_id, module->build_id_size);
	return module->build_id_size;
}

bool module_is_go(const struct module *module)
{
	return module->is_go;
}

bool module_is_fixed(const struct module *module)
{
	return module->is_fixed;
}

const struct segment *segment_at(const struct module *module, uint64_t vaddr)
{
	size_t low = 0, high = module->segment_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct segment *segment = &module->segments[middle];

		if (vaddr < segment->vaddr)
			high = middle;
		else if (vaddr - segment->vaddr >= segment->memory_size)
			low = middle + 1;
		else
			return segment;
	}
	return NULL;
}

bool is_code(const struct module *module, uint64_t vaddr)
{
	size_t low = 0, high = module->code_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (vaddr < module->code[middle].start)
			high = middle;
		else if (vaddr >= module->code[middle].end)
			low = middle + 1;
		else
			return true;
	}
	return false;
}

bool is_stub(const struct module *module, uint64_t vaddr)
{
	for (size_t i = 0; i < module->stub_count; i++)
		if (vaddr >= module->stubs[i].start && vaddr < module->stubs[i].end)
			return true;
	return false;
}

int module_offset_to_vaddr(const struct module *module, uint64_t offset, uint64_t *vaddr)
{
	for (size_t i = 0; i < module->segment_count; i++) {
		const struct segment *segment = &module->segments[i];
		/* Whole pages are mapped, and a segment may begin inside its first. */
		uint64_t before = segment->offset % MAPPED_PAGE;

		if ((segment->flags & PF_X) && offset >= segment->offset - before &&
		    offset - (segment->offset - before) < segment->file_size + before) {
			*vaddr = segment->vaddr + (offset - segment->offset);
			return 0;
		}
	}
	return -ENOENT;
}

int module_vaddr_to_offset(const struct module *module, uint64_t vaddr, uint64_t *offset)
{
	const struct segment *segment = segment_at(module, vaddr);

	if (!segment || !(segment->flags & PF_X) || vaddr - segment->vaddr >= segment->file_size)
		return -ENOENT;
	*offset = segment->offset + (vaddr - segment->vaddr);
	return 0;
}

int module_read(const struct module *module, uint64_t vaddr, void *buffer, size_t size)
{
	const struct segment *segment = segment_at(module, vaddr);
	uint64_t inside;
	int error;

	if (!segment || vaddr - segment->vaddr >= segment->file_size)
		return -EFAULT;
	inside = vaddr - segment->vaddr;
	if (size > segment->file_size - inside)
		size = segment->file_size - inside;
	if (size > INT32_MAX)
		size = INT32_MAX;
	if (segment->data)
		memcpy(buffer, segment->data + inside, size);
	else if ((error = image_read(&module->main, segment->offset + inside, buffer, size)))
		return error == -ENOEXEC ? -EFAULT : error;
	return (int)size;
}

int text_load(struct module *module)
{
	uint64_t total = 0;
	int error;

	if (module->text_loaded)
		return 0;
	for (size_t i = 0; i < module->segment_count; i++) {
		struct segment *segment = &module->segments[i];

		if (!(segment->flags & PF_X) || segment->data || segment->file_size == 0)
			continue;
		total += segment->file_size;
		if (segment->file_size > LOAD_MAX || total > LOAD_MAX)
			return -EFBIG;
		segment->data = malloc(segment->file_size);
		if (!segment->data)
			return -ENOMEM;
		error = image_read(&module->main, segment->offset, segment->data,
		                   segment->file_size);
		if (error) {
			free(segment->data);
			segment->data = NULL;
			return error;
		}
	}
	module->text_loaded = true;
	return 0;
}

const uint8_t *text_at(const struct module *module, uint64_t vaddr, size_t *size)
{
	const struct segment *segment = segment_at(module, vaddr);

	if (!segment || !segment->data || vaddr - segment->vaddr >= segment->file_size)
		return NULL;
	*size = segment->file_size - (vaddr - segment->vaddr);
	return segment->data + (vaddr - segment->vaddr);
}
