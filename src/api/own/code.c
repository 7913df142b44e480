/* SPDX-License-Identifier: MIT */
/*
 * code.c - suture/code.h: code is published, and changed while nobody is inside.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "api/own/own.h"
#include "api/own/region.h"
#include "suture/code.h"

enum { TRAP = 0xCC /* int3 */, FEW = 16 };
static const uint64_t deadline_default = 1000000000;

/* ---- checks ---- */

static bool all_traps(const uint8_t *bytes, size_t size)
{
	return bytes[0] == TRAP && memcmp(bytes, bytes + 1, size - 1) == 0;
}

/* Under region_lock. */
static int check(const struct suture_code_write *write, size_t i, bool fresh,
                 struct suture_text_options *options)
{
	uint64_t address = (uintptr_t)write->exec, offset;
	const struct suture_region *region = region_at(address);

	if (!write->size)
		return own_fail(options, i, -EINVAL, "write %zu: its size is 0", i);
	if (!fresh && !write->bytes)
		return own_fail(options, i, -EINVAL, "write %zu: its bytes are missing", i);
	offset = region ? address - region->alias.start : 0;
	if (!region || write->size > region->alias.size - offset ||
	    !code_blocks_within(&region->blocks, offset / CODE_GRANULE,
	                        (offset + write->size - 1) / CODE_GRANULE))
		return own_fail(options, i, -EINVAL,
		                "write %zu: %zu bytes at %#lx are not within one block of a region",
		                i, write->size, (unsigned long)address);
	if (fresh && write->bytes && !all_traps(region->views.writable + offset, write->size))
		return own_fail(options, i, -EEXIST,
		                "write %zu: code may be executed at %#lx already: "
		                "suture_text_patch or suture_code_modify",
		                i, (unsigned long)address);
	return 0;
}

static int check_all(const struct suture_code_write *list, size_t count, bool fresh,
                     struct suture_text_options *options, struct port **port)
{
	int rc = region_lock(port);

	if (rc)
		return own_fail(options, 0, rc, "no code can be written in this process (%d)", -rc);
	for (size_t i = 0; i < count && !rc; i++)
		rc = check(&list[i], i, fresh, options);
	region_unlock();
	return rc;
}

/* ---- writing ---- */

static int publish(struct port *port, const struct sync_code *codes, size_t count,
                   struct suture_text_options *options)
{
	uint64_t deadline = options->deadline_ns ? options->deadline_ns : deadline_default;
	uint64_t mask = port_mask(port);
	int rc = patch_publish(port, codes, (uint32_t)count, NULL, deadline);

	port_unmask(port, mask);
	if (rc == -ETIMEDOUT)
		return own_fail(options, 0, rc, "another thread was patching for too long");
	return rc ? own_fail(options, 0, rc, "code can not be written (%d)", -rc) : 0;
}

typedef int (*with_codes)(struct port *port, const struct sync_code *codes, size_t count,
                          struct suture_text_options *options);

static int write_all(const struct suture_code_write *list, size_t count, bool fresh,
                     struct suture_text_options *options, with_codes use)
{
	struct suture_text_options defaults = {.size = sizeof(defaults)};
	struct sync_code few[FEW], *codes = few;
	struct port *port;
	int rc;

	if (!options)
		options = &defaults;
	if (own_check(options, list, count))
		return -EINVAL;
	if (!count)
		return 0;
	rc = check_all(list, count, fresh, options, &port);
	if (rc)
		return rc;
	if (count > FEW)
		codes = calloc(count, sizeof(*codes));
	if (!codes)
		return own_fail(options, 0, -ENOMEM, "out of memory");
	for (size_t i = 0; i < count; i++)
		codes[i] = (struct sync_code){(uintptr_t)list[i].exec, list[i].bytes, list[i].size};
	rc = use(port, codes, count, options);
	if (codes != few)
		free(codes);
	return rc;
}

int suture_code_publish(const struct suture_code_write *list, size_t count,
                        struct suture_text_options *options)
{
	return write_all(list, count, true, options, publish);
}

/* ---- modify ---- */

/* Nobody is inside: no edit of before is there any more. */
static int overwrite(struct port *port, const struct sync_code *codes, size_t count,
                     struct suture_text_options *options)
{
	int rc = own_lock();

	if (rc)
		return own_fail(options, 0, rc, "no code can be written in this process (%d)", -rc);
	rc = publish(port, codes, count, options);
	for (size_t i = 0; i < count && !rc; i++)
		edits_forget(codes[i].address, codes[i].address + codes[i].size);
	own_unlock();
	return rc;
}

static int modify(struct port *port, const struct sync_code *codes, size_t count,
                  struct suture_text_options *options)
{
	uint64_t end = code_end(options->deadline_ns ? options->deadline_ns : deadline_default);
	uint64_t mask;
	int rc;

	if (code_inside_self())
		return own_fail(options, 0, -EDEADLK, "this thread itself is inside");
	mask = port_mask(port);
	rc = code_inside_close(port, end);
	if (rc) {
		own_fail(options, 0, rc, "a thread was inside, or modifying, for too long");
	} else {
		rc = overwrite(port, codes, count, options);
		code_inside_open();
	}
	port_unmask(port, mask);
	return rc;
}

int suture_code_modify(const struct suture_code_write *list, size_t count,
                       struct suture_text_options *options)
{
	return write_all(list, count, false, options, modify);
}

/* ---- SUTURE_WORD ---- */

static bool one_instruction(const uint8_t *bytes, const struct sync_site *site)
{
	struct isa_insn insn;

	return isa_x86_64.decode(bytes, site->length, site->address, &insn) == site->length;
}

int code_check_words(const struct port *port, const struct patch_registry *registry,
                     struct suture_text_options *options)
{
	for (uint32_t i = 0; i < registry->count; i++) {
		const struct sync_site *site = &registry->sites[i];
		unsigned long address = (unsigned long)site->address;

		if (!linux_writable(port, site->address, site->length))
			return own_fail(options, i, -EOPNOTSUPP,
			                "%#lx: is not in a region: more than a byte can be seen in "
			                "part there",
			                address);
		if (!one_instruction(site->original, site) || !one_instruction(site->patched, site))
			return own_fail(options, i, -EOPNOTSUPP,
			                "%#lx: is not one instruction before and after", address);
		if (!patch_word(&isa_x86_64, site))
			return own_fail(options, i, -EOPNOTSUPP,
			                "%#lx: what changes is not within one aligned word of the "
			                "instruction",
			                address);
	}
	return 0;
}
