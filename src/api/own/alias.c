/* SPDX-License-Identifier: MIT */
/*
 * alias.c - text that a program lets us map twice: suture_text_alias.
 *
 * Its pages become memory of our own, which is executed where they were and written elsewhere:
 * stores take the place of system calls. The kernel holds its lock of the address space from the
 * unmapping of the old pages to the mapping of the new ones, so that threads which execute them
 * wait in a page fault at most.
 *
 * A fork shares the memory. Whoever of the two writes text next moves to a copy first, and nobody
 * ever writes what another process executes.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "api/own/alias.h"
#include "api/own/code.h"
#include "api/own/ground.h"
#include "api/own/own.h"

static struct alias {
	struct alias *next;
	struct linux_alias its;
	uint64_t inode, device; /* of the memory */
	bool forked;            /* another process executes it, too */
} * aliases;

int alias_tell(struct linux_alias *alias, bool there)
{
	struct port *port = own_port();
	uint64_t mask = port_mask(port);
	int rc = port_lock(port, PORT_FOREVER);

	if (!rc) {
		if (there)
			linux_alias_add(port, alias);
		else
			linux_alias_remove(port, alias);
		port_unlock(port);
	}
	port_unmask(port, mask);
	return rc;
}

bool aliases_have(uint64_t address)
{
	for (const struct alias *a = aliases; a; a = a->next)
		if (address - a->its.start < a->its.size)
			return true;
	return false;
}

void aliases_forked(void)
{
	for (struct alias *a = aliases; a; a = a->next)
		a->forked = true;
}

/* ---- mapping ---- */

/* Copy the text, and put the copy in its place. On error all is as before. */
static int put_copy(struct alias *alias)
{
	void *text = (void *)(uintptr_t)alias->its.start;
	struct ground_mapping mapping;
	struct code_views views;
	int rc = code_views_make(alias->its.size, NULL, &views);

	if (rc)
		return rc;
	memcpy(views.writable, text, views.size);
	if (mremap(views.exec, views.size, views.size, MREMAP_MAYMOVE | MREMAP_FIXED, text) ==
	    MAP_FAILED) {
		rc = errno == EPERM ? -EPERM : -ENOMEM;
		code_views_drop(&views);
		return rc;
	}
	alias->its.writable = (uintptr_t)views.writable;
	ground_forget();
	rc = ground_mapping(alias->its.start, &mapping);
	alias->inode = mapping.inode;
	alias->device = mapping.device;
	return rc;
}

/* Has somebody (dlclose) mapped nothing or something else there? */
static bool is_gone(const struct alias *alias)
{
	struct ground_mapping mapping;

	return ground_mapping(alias->its.start, &mapping) || mapping.inode != alias->inode ||
	       mapping.device != alias->device || mapping.end - alias->its.start < alias->its.size;
}

static int drop(struct alias **at)
{
	struct alias *alias = *at;
	int rc = alias_tell(&alias->its, false);

	if (rc)
		return rc;
	munmap((void *)(uintptr_t)alias->its.writable, alias->its.size);
	edits_forget(alias->its.start, alias->its.start + alias->its.size);
	*at = alias->next;
	free(alias);
	return 0;
}

static int move(struct alias *alias)
{
	void *old = (void *)(uintptr_t)alias->its.writable;
	int rc = put_copy(alias);

	if (rc)
		return rc;
	munmap(old, alias->its.size);
	alias->forked = false;
	return 0;
}

int aliases_begin(void)
{
	struct alias **at = &aliases;
	int rc = 0;

	if (*at)
		ground_forget();
	while (*at && !rc) {
		if (is_gone(*at)) {
			rc = drop(at);
			continue;
		}
		rc = (*at)->forked ? move(*at) : 0;
		at = &(*at)->next;
	}
	return rc;
}

/* ---- opting in ---- */

/* Is [start, end) text of files, and nobody else's? */
static int check(uint64_t start, uint64_t end, struct suture_text_options *options)
{
	struct ground_mapping m;

	for (uint64_t at = start; at < end; at = m.end) {
		if (ground_mapping(at, &m))
			return own_fail(options, 0, -EFAULT, "%#lx: nothing is mapped there",
			                (unsigned long)at);
		if (aliases_have(at))
			return own_fail(options, 0, -EEXIST, "%#lx: is mapped twice already",
			                (unsigned long)at);
		if (!m.executable || m.writable || m.shared || !m.inode)
			return own_fail(options, 0, -EACCES, "%#lx: is not text of a file",
			                (unsigned long)at);
	}
	return 0;
}

static int add(uint64_t start, uint64_t end, struct suture_text_options *options)
{
	struct alias *alias = calloc(1, sizeof(*alias));
	int rc;

	if (!alias)
		return own_fail(options, 0, -ENOMEM, "out of memory");
	alias->its = (struct linux_alias){.start = start, .size = end - start};
	rc = put_copy(alias);
	if (rc) {
		free(alias);
		return own_fail(options, 0, rc,
		                rc == -EACCES  ? "no memory can be mapped to execute and to write"
		                : rc == -EPERM ? "%#lx: the text is sealed"
		                               : "%#lx: no memory can be put in place of the text",
		                (unsigned long)start);
	}
	alias->next = aliases;
	aliases = alias;
	return alias_tell(&alias->its, true);
}

static int alias_range(uint64_t start, size_t size, struct suture_text_options *options)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), end = start + size;
	struct ground_mapping mapping;
	int rc;

	if (end < start)
		return own_fail(options, 0, -EINVAL, "the range ends before it begins");
	ground_forget();
	if (!size && ground_mapping(start, &mapping) == 0) {
		start = mapping.start;
		end = mapping.end;
	}
	start &= ~(page - 1);
	end = (end + page - 1) & ~(page - 1);
	rc = check(start, end > start ? end : start + page, options);
	return rc ? rc : add(start, end, options);
}

int suture_text_alias(const void *start, size_t size, struct suture_text_options *options)
{
	struct suture_text_options defaults = {.size = sizeof(defaults)};
	int rc;

	options = options ? options : &defaults;
	if (own_check(options, start, 1))
		return -EINVAL;
	rc = own_begin(options);
	if (rc)
		return rc;
	rc = alias_range((uintptr_t)start, size, options);
	own_end();
	return rc;
}
