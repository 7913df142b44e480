/* SPDX-License-Identifier: MIT */
/*
 * image.c - one ELF file: headers, sections, notes.
 *
 * libelf reads the headers (ELF_C_READ: no mapping); contents are read by us, after their
 * extent has been compared with the size of the file.
 */
#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "module/internal.h"

void bytes_free(struct bytes *bytes)
{
	free(bytes->data);
	*bytes = (struct bytes){0};
}

int image_read(const struct image *image, uint64_t offset, void *buffer, size_t size)
{
	uint8_t *out = buffer;

	if (offset > image->size || size > image->size - offset)
		return -ENOEXEC;
	while (size) {
		ssize_t got = pread(image->fd, out, size, (off_t)offset);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0) /* truncated since it was opened */
			return -ENOEXEC;
		out += got;
		offset += (uint64_t)got;
		size -= (size_t)got;
	}
	return 0;
}

static int read_bytes(const struct image *image, uint64_t offset, uint64_t size,
                      struct bytes *bytes)
{
	int error;

	if (size > LOAD_MAX || offset > image->size || size > image->size - offset)
		return -ENOEXEC;
	bytes->data = malloc(size + 1);
	if (!bytes->data)
		return -ENOMEM;
	error = image_read(image, offset, bytes->data, size);
	if (error) {
		bytes_free(bytes);
		return error;
	}
	bytes->data[size] = 0;
	bytes->size = size;
	return 0;
}

const Elf64_Shdr *image_section(const struct image *image, size_t index)
{
	Elf_Scn *section = index < image->section_count ? elf_getscn(image->elf, index) : NULL;

	return section ? elf64_getshdr(section) : NULL;
}

size_t image_find(const struct image *image, const char *name)
{
	size_t length = strlen(name) + 1;

	for (size_t i = 1; i < image->section_count; i++) {
		const Elf64_Shdr *header = image_section(image, i);

		if (header && header->sh_name < image->section_names.size &&
		    length <= image->section_names.size + 1 - header->sh_name &&
		    !memcmp(image->section_names.data + header->sh_name, name, length))
			return i;
	}
	return 0;
}

/* SHF_COMPRESSED (gABI, section compression): only debug sections, so only small ones. */
static int load_compressed(const struct image *image, size_t index, struct bytes *bytes)
{
	Elf_Scn *section = elf_getscn(image->elf, index);
	Elf64_Chdr *header = section ? elf64_getchdr(section) : NULL;
	Elf_Data *data;

	if (!header || header->ch_size > LOAD_MAX / 8 || elf_compress(section, 0, 0) < 0)
		return -ENOEXEC;
	data = elf_rawdata(section, NULL);
	if (!data || !data->d_buf)
		return -ENOEXEC;
	bytes->data = malloc(data->d_size + 1);
	if (!bytes->data)
		return -ENOMEM;
	memcpy(bytes->data, data->d_buf, data->d_size);
	bytes->data[data->d_size] = 0;
	bytes->size = data->d_size;
	return 0;
}

int image_load(const struct image *image, size_t index, struct bytes *bytes)
{
	const Elf64_Shdr *header = image_section(image, index);

	*bytes = (struct bytes){0};
	if (!header || index == 0 || header->sh_type == SHT_NOBITS || header->sh_size == 0)
		return -ENOENT;
	if (header->sh_flags & SHF_COMPRESSED)
		return load_compressed(image, index, bytes);
	return read_bytes(image, header->sh_offset, header->sh_size, bytes);
}

/* Absent or absurd section headers are no error: the program headers are what counts. */
static void read_section_headers(struct image *image)
{
	size_t names;
	const Elf64_Shdr *header;

	if (elf_getshdrnum(image->elf, &image->section_count) ||
	    image->section_count > SECTION_COUNT_MAX || elf_getshdrstrndx(image->elf, &names)) {
		image->section_count = 0;
		return;
	}
	header = image_section(image, names);
	if (header && header->sh_size <= SECTION_NAMES_MAX)
		image_load(image, names, &image->section_names);
}

/* Not -EINVAL and the like: a FIFO, directory or device is simply no ELF file. */
static int open_regular(const char *path, struct image *image)
{
	/* O_NONBLOCK: opening a FIFO must not wait for a writer. */
	struct stat status;

	image->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (image->fd < 0)
		return -errno;
	if (fstat(image->fd, &status))
		return -errno;
	if (!S_ISREG(status.st_mode) || status.st_size < (off_t)sizeof(Elf64_Ehdr))
		return -ENOEXEC;
	image->size = (uint64_t)status.st_size;
	image->device = status.st_dev;
	image->inode = status.st_ino;
	return 0;
}

int image_open(const char *path, struct image *image)
{
	const Elf64_Ehdr *header;
	int error;

	*image = (struct image){.fd = -1};
	error = open_regular(path, image);
	if (error)
		goto fail;
	error = -ENOEXEC;
	if (elf_version(EV_CURRENT) == EV_NONE)
		goto fail;
	image->elf = elf_begin(image->fd, ELF_C_READ, NULL);
	if (!image->elf || elf_kind(image->elf) != ELF_K_ELF)
		goto fail;
	header = elf64_getehdr(image->elf); /* NULL for ELFCLASS32 */
	if (!header || header->e_ident[EI_DATA] != ELFDATA2LSB || header->e_machine != EM_X86_64 ||
	    (header->e_type != ET_EXEC && header->e_type != ET_DYN))
		goto fail;
	read_section_headers(image);
	return 0;
fail:
	image_close(image);
	return error;
}

void image_close(struct image *image)
{
	bytes_free(&image->section_names);
	if (image->elf)
		elf_end(image->elf);
	if (image->fd >= 0)
		close(image->fd);
	*image = (struct image){.fd = -1};
}

/* One note segment or section. `*size`: in, room at `description`; out, bytes copied. */
static bool find_note(const struct image *image, uint64_t offset, uint64_t extent,
                      const char name[NOTE_NAME], uint32_t type, uint8_t *description, size_t *size)
{
	uint8_t notes[4096];
	uint64_t at = 0;

	/* Build IDs are among the first notes; a core-sized note segment is nothing for us. */
	if (extent > sizeof(notes))
		extent = sizeof(notes);
	if (image_read(image, offset, notes, extent))
		return false;
	while (extent - at >= sizeof(Elf64_Nhdr)) {
		Elf64_Nhdr header;
		uint64_t text = at + sizeof(header), data;

		memcpy(&header, notes + at, sizeof(header));
		data = text + (((uint64_t)header.n_namesz + 3) & ~UINT64_C(3));
		if (data > extent || header.n_descsz > extent - data)
			return false;
		if (header.n_type == type && header.n_namesz == NOTE_NAME &&
		    !memcmp(notes + text, name, NOTE_NAME)) {
			if (*size > header.n_descsz)
				*size = header.n_descsz;
			memcpy(description, notes + data, *size);
			return true;
		}
		at = data + (((uint64_t)header.n_descsz + 3) & ~UINT64_C(3));
		if (at > extent)
			return false;
	}
	return false;
}

bool image_note(const struct image *image, const char name[NOTE_NAME], uint32_t type,
                uint8_t *description, size_t *size)
{
	const Elf64_Phdr *segments = elf64_getphdr(image->elf);
	size_t count;

	/* Sections first: the program headers of a separate debug file are about another file. */
	for (size_t i = 1; i < image->section_count; i++) {
		const Elf64_Shdr *header = image_section(image, i);

		if (header && header->sh_type == SHT_NOTE &&
		    find_note(image, header->sh_offset, header->sh_size, name, type, description,
		              size))
			return true;
	}
	if (!segments || elf_getphdrnum(image->elf, &count) || count > SEGMENT_COUNT_MAX)
		return false;
	for (size_t i = 0; i < count; i++)
		if (segments[i].p_type == PT_NOTE &&
		    find_note(image, segments[i].p_offset, segments[i].p_filesz, name, type,
		              description, size))
			return true;
	return false;
}

size_t image_build_id(const struct image *image, uint8_t id[MODULE_BUILD_ID_MAX])
{
	size_t size = MODULE_BUILD_ID_MAX;

	return image_note(image, "GNU", NT_GNU_BUILD_ID, id, &size) ? size : 0;
}
