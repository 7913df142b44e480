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
	if (!maps.count) {
		process_maps_free(&maps);
		return target_fail(t, -ESRCH, "process %d has ended", t->pid);
	}
	t->modules = calloc(maps.count + 1, sizeof(*t->modules));
	for (size_t i = 0; t->modules && i < maps.count; i++) {
		const struct process_mapping *m = &maps.list[i];
		struct target_module *module = &t->modules[t->module_count];

		if (!m->execute || !m->inode || m->path[0] != '/' || known_module(t, m) ||
		    process_mapping_is_ours(m))
			continue;
		module->path = strdup(m->path);
		module->name = strdup(base_name(m->path));
		module->device = m->device;
		module->inode = m->inode;
		module->deleted = m->deleted;
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

static bool same_build(const struct module *a, const struct module *b)
{
	uint8_t x[MODULE_BUILD_ID_MAX], y[MODULE_BUILD_ID_MAX];
	size_t size = module_build_id(a, x);

	return size && module_build_id(b, y) == size && !memcmp(x, y, size);
}

/* The name leads to another file: good if it is the same build, else what is mapped has to do. */
static int open_other(struct suture_target *t, struct target_module *m, const char *path)
{
	struct module *file;
	int rc = target_module_from_memory(t, m);

	m->from_memory = !rc;
	if (module_open(path, "", &file))
		return rc;
	if (rc || same_build(m->module, file)) {
		module_close(m->module);
		m->module = rc ? NULL : file;
		m->from_memory = false;
		if (!rc)
			return 0;
	}
	module_close(file);
	return rc;
}

/* The name of a file whose name has gone leads to another one. */
static void note_replaced(const struct suture_target *t, struct target_module *m, const char *path)
{
	struct module *file = NULL;
	const char *how = "the file that was mapped is read";

	if (!m->deleted || module_open(path, NULL, &file))
		return;
	if (m->from_memory)
		how = "what is mapped is read instead, so only names that it exports are known";
	else if (same_build(m->module, file))
		how = "by the same build, which is read";
	if (asprintf(&m->note, "%s was replaced on disk since process %d mapped it: %s", m->path,
	             t->pid, how) < 0)
		m->note = NULL;
	module_close(file);
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
	snprintf(path, sizeof(path), "/proc/%d/root%s", t->pid, m->path);
	if (m->error == -EPERM || m->error == -EACCES || m->error == -ENOENT) {
		if (same_file(path, m))
			m->error = module_open(path, "", &m->module);
		else
			m->error = open_other(t, m, path);
	}
	if (m->error)
		return m->error;
	note_replaced(t, m, path);
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
		free(t->modules[i].note);
		free(t->modules[i].build_id);
		free(t->modules[i].by_name);
	}
	free(t->modules);
	t->modules = NULL;
	t->module_count = 0;
}
