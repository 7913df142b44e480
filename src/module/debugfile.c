/* SPDX-License-Identifier: MIT */
/*
 * debugfile.c - find the separate debug file of a module.
 *
 * By build ID first (/usr/lib/debug/.build-id/xx/yyy.debug), then by .gnu_debuglink, whose
 * name is looked for beside the module, in .debug/ there, and under /usr/lib/debug. Links in
 * a debug file are not followed, so they cannot form a cycle.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "module/internal.h"

static bool same_build_id(const struct module *module, const struct image *image)
{
	uint8_t id[MODULE_BUILD_ID_MAX];
	size_t size = image_build_id(image, id);

	return size == module->build_id_size && !memcmp(id, module->build_id, size);
}

/* The CRC of .gnu_debuglink: the one of IEEE 802.3, reflected, over the whole file. */
static int file_crc(const struct image *image, uint32_t *out)
{
	uint8_t buffer[1 << 16];
	uint32_t table[256], crc = UINT32_MAX;

	for (uint32_t i = 0; i < 256; i++) {
		table[i] = i;
		for (int bit = 0; bit < 8; bit++)
			table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xedb88320 : 0);
	}
	for (uint64_t at = 0; at < image->size;) {
		size_t size = sizeof(buffer);
		int error;

		if (size > image->size - at)
			size = image->size - at;
		error = image_read(image, at, buffer, size);
		if (error)
			return error;
		for (size_t i = 0; i < size; i++)
			crc = crc >> 8 ^ table[(uint8_t)(crc ^ buffer[i])];
		at += size;
	}
	*out = ~crc;
	return 0;
}

/* Opens `path` as the debug file if it belongs to the module: same build ID, or else `crc`. */
static bool try_path(struct module *module, const char *path, const uint32_t *crc)
{
	struct image image;
	uint32_t found;
	bool match;

	if (image_open(path, &image))
		return false;
	if (image.device == module->main.device && image.inode == module->main.inode)
		match = false; /* a link to itself adds nothing */
	else if (module->build_id_size)
		match = same_build_id(module, &image);
	else
		match = crc && image.size <= LOAD_MAX && !file_crc(&image, &found) && found == *crc;
	if (match)
		module->debug = image;
	else
		image_close(&image);
	return match;
}

static bool by_build_id(struct module *module)
{
	char path[PATH_MAX], hex[2 * MODULE_BUILD_ID_MAX + 1];

	if (module->build_id_size < 2)
		return false;
	for (size_t i = 0; i < module->build_id_size; i++)
		snprintf(hex + 2 * i, 3, "%02x", module->build_id[i]);
	if (snprintf(path, sizeof(path), "%s/usr/lib/debug/.build-id/%.2s/%s.debug",
	             module->debug_root, hex, hex + 2) >= (int)sizeof(path))
		return false;
	return try_path(module, path, NULL);
}

/* .gnu_debuglink: a file name, zeros up to a multiple of 4, CRC-32. */
static bool read_debuglink(const struct module *module, char name[NAME_MAX + 1], uint32_t *crc)
{
	struct bytes link;
	size_t length, at;
	bool sound = false;

	if (image_load(&module->main, image_find(&module->main, ".gnu_debuglink"), &link))
		return false;
	length = strnlen((const char *)link.data, link.size);
	at = (length + 4) & ~(size_t)3;
	/* A name with a slash would lead somewhere else. */
	if (length > 0 && length <= NAME_MAX && !memchr(link.data, '/', length) &&
	    at <= link.size && link.size - at >= sizeof(*crc)) {
		memcpy(name, link.data, length + 1);
		memcpy(crc, link.data + at, sizeof(*crc));
		sound = true;
	}
	bytes_free(&link);
	return sound;
}

static void by_debuglink(struct module *module)
{
	char name[NAME_MAX + 1], path[PATH_MAX];
	const char *slash = strrchr(module->path, '/');
	const char *folder = slash ? module->path : "./", *inner;
	int length = slash ? (int)(slash - module->path) + 1 : 2, inner_length;
	size_t root = strlen(module->debug_root);
	uint32_t crc;

	if (!read_debuglink(module, name, &crc))
		return;
	if (snprintf(path, sizeof(path), "%.*s%s", length, folder, name) < (int)sizeof(path) &&
	    try_path(module, path, &crc))
		return;
	if (snprintf(path, sizeof(path), "%.*s.debug/%s", length, folder, name) <
	            (int)sizeof(path) &&
	    try_path(module, path, &crc))
		return;
	/* The module may itself have been named through the root (/proc/PID/root/usr/...). */
	inner = folder;
	inner_length = length;
	if (!strncmp(folder, module->debug_root, root) && (size_t)length > root &&
	    folder[root] == '/') {
		inner += root;
		inner_length -= (int)root;
	}
	if (*inner == '/' &&
	    snprintf(path, sizeof(path), "%s/usr/lib/debug%.*s%s", module->debug_root, inner_length,
	             inner, name) < (int)sizeof(path))
		try_path(module, path, &crc);
}

void debug_file_open(struct module *module)
{
	if (!module->debug_root || module->debug.fd >= 0)
		return;
	if (!by_build_id(module))
		by_debuglink(module);
}
