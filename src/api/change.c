/* SPDX-License-Identifier: MIT */
/* change.c - what is changed, and in which program: suture/record.h. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "session.h"
#include "suture/record.h"

static_assert((int)SUTURE_CHANGE_MAX == (int)SYNC_SITE_MAX, "an edit is what a site can be");
static_assert(SUTURE_BUILD_ID_TEXT == 2 * MODULE_BUILD_ID_MAX + 1, "two digits a byte");

int suture_target_change(const struct suture_target *t, size_t index, struct suture_change *out)
{
	const struct site *site;

	if (index >= t->listed_count)
		return -ERANGE;
	site = &t->sites[t->probes[t->listed[index]].site];
	*out = (struct suture_change){.address = site_patch(site)};
	if (site->kind != SUTURE_SITE_PUN && site->kind != SUTURE_SITE_WINDOW)
		return 0;
	out->size = site_patched(site, out->after);
	out->trampoline = site->trampoline;
	memcpy(out->before, site->code + site->shift, out->size);
	return 0;
}

int suture_target_leftovers(pid_t pid, struct suture_change **list)
{
	struct patch_registry *registry;
	struct restore r = {0};
	struct journal journal;
	struct port *port;
	int count, rc;

	*list = NULL;
	rc = process_open(pid, &port);
	if (rc)
		return rc;
	rc = restore_read_journal(port, &journal, &registry, &r);
	process_close(port);
	if (rc)
		return rc == -ENOENT ? 0 : rc;
	count = registry->count < INT32_MAX ? (int)registry->count : 0;
	*list = count ? calloc((size_t)count, sizeof(**list)) : NULL;
	for (int i = 0; *list && i < count; i++) {
		const struct sync_site *site = &registry->sites[i];
		struct suture_change *edit = &(*list)[i];

		edit->address = site->address;
		edit->size = site->length;
		memcpy(edit->before, site->original, site->length);
		memcpy(edit->after, site->patched, site->length);
	}
	free(registry);
	return count && !*list ? -ENOMEM : count;
}

static void put_build_id(const struct module *module, char text[SUTURE_BUILD_ID_TEXT])
{
	uint8_t id[MODULE_BUILD_ID_MAX];
	size_t size = module_build_id(module, id);

	*text = 0;
	for (size_t i = 0; i < size; i++)
		snprintf(text + 2 * i, 3, "%02x", id[i]);
}

int suture_program_of(pid_t pid, struct suture_program *out)
{
	struct module *module;
	char link[64];
	ssize_t n;

	*out = (struct suture_program){0};
	snprintf(link, sizeof(link), "/proc/%d/exe", process_member(pid));
	n = readlink(link, out->path, sizeof(out->path) - 1);
	if (n < 0)
		return process_ended(pid) ? -ESRCH : 0;
	out->path[n] = 0;
	if (module_open(link, NULL, &module))
		return 0;
	put_build_id(module, out->build_id);
	module_close(module);
	return 0;
}

const char *suture_target_build_id(const struct suture_target *t, size_t index)
{
	struct target_module *m;

	if (index >= t->listed_count)
		return "";
	m = &t->modules[t->probes[t->listed[index]].module];
	if (!m->build_id) {
		m->build_id = malloc(SUTURE_BUILD_ID_TEXT);
		if (m->build_id)
			put_build_id(m->module, m->build_id);
	}
	return m->build_id ? m->build_id : "";
}

static bool has_probe(const struct suture_target *t, size_t module)
{
	for (size_t i = 0; i < t->probe_count; i++)
		if (t->probes[i].module == module)
			return true;
	return false;
}

const char *suture_target_note(const struct suture_target *t, size_t index)
{
	for (size_t i = 0; i < t->module_count; i++)
		if (t->modules[i].note && has_probe(t, i) && index-- == 0)
			return t->modules[i].note;
	return NULL;
}
