/* SPDX-License-Identifier: MIT */
/* modules.c - the files whose code the target has mapped. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include "session.h"

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static bool known_module(const struct suture_target *t, const struct process_mapping *m)
{
	for (size_t i = 0; i < t->module_count; i++)
		if (t->modules[i].inode == m->inode && t->modules[i].device == m->device)
			return true;
	return false;
}

int target_load_modules(struct suture_target *t)
{
	struct process_maps maps;
	int rc;

	if (t->modules)
		return 0;
	rc = process_maps_read(process_member(t->pid), &maps);
	if (rc)
		return target_fail(t, rc, "can not read the mappings of process %d: %s", t->pid,
		                   strerror(-rc));
	t->modules = calloc(maps.count + 1, sizeof(*t->modules));
	for (size_t i = 0; t->modules && i < maps.count; i++) {
		const struct process_mapping *m = &maps.list[i];
		struct target_module *module = &t->modules[t->module_count];

		if (!m->execute || !m->inode || m->path[0] != '/' || known_module(t, m))
			continue;
		module->path = strdup(m->path);
		module->name = strdup(base_name(m->path));
		module->device = m->device;
		module->inode = m->inode;
		module->start = m->start;
		module->end = m->end;
		module->bias = m->offset; /* until the file is open */
		t->module_count++;
		if (!module->path || !module->name) {
			rc = -ENOMEM;
			break;
		}
	}
	process_maps_free(&maps);
	return rc || !t->modules ? target_fail(t, -ENOMEM, "out of memory") : 0;
}

static bool same_file(const char *path, const struct target_module *m)
{
	struct stat st;

	return stat(path, &st) == 0 && st.st_ino == m->inode &&
	       ((uint64_t)major(st.st_dev) << 32 | minor(st.st_dev)) == m->device;
}

/* The file that is mapped, whatever its name leads to by now; through the kernel's own link if we
 * may follow it, else by name if that is still the same file. */
int target_open_module(struct suture_target *t, size_t index)
{
	struct target_module *m = &t->modules[index];
	char link[96], path[4200];
	uint64_t vaddr;

	if (m->module || m->error)
		return m->error;
	snprintf(link, sizeof(link), "/proc/%d/map_files/%" PRIx64 "-%" PRIx64,
	         process_member(t->pid), m->start, m->end);
	m->error = module_open(link, "", &m->module);
	if (m->error == -EPERM || m->error == -EACCES || m->error == -ENOENT) {
		snprintf(path, sizeof(path), "/proc/%d/root%s", t->pid, m->path);
		m->error = same_file(path, m) ? module_open(path, "", &m->module) : -ESTALE;
	}
	if (m->error)
		return m->error;
	m->error = module_offset_to_vaddr(m->module, m->bias, &vaddr);
	if (m->error) {
		module_close(m->module);
		m->module = NULL;
		return m->error;
	}
	m->bias = m->start - vaddr;
	return 0;
}

void target_free_modules(struct suture_target *t)
{
	for (size_t i = 0; i < t->module_count; i++) {
		module_close(t->modules[i].module);
		free(t->modules[i].name);
		free(t->modules[i].path);
	}
	free(t->modules);
	t->modules = NULL;
	t->module_count = 0;
}
