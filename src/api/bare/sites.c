/* SPDX-License-Identifier: MIT */
/*
 * sites.c - sites that change together: alternatives, keys, functions; and code that is new.
 */
#include "api/bare/machine.h"

/* What the caller fills is what the transaction reads. */
#define SAME(ours, theirs)                                                                         \
	_Static_assert(offsetof(struct sync_site, ours) ==                                         \
	                       offsetof(struct suture_bare_site, theirs),                          \
	               "a site is passed as it is")
SAME(address, address);
SAME(length, length);
SAME(boundaries, reserved_too);
SAME(original, original);
SAME(patched, patched);
_Static_assert(sizeof(struct sync_site) == sizeof(struct suture_bare_site) &&
                       sizeof(struct patch_registry) == sizeof(struct suture_bare_sites),
               "a batch is passed as it is");

/* Asked with all cores at rest, and the lock held: nobody comes online. */
static int nobody_else(void *arg)
{
	(void)arg;
	return bare_alone(&machine.port) ? 0 : -ENOTSUP;
}

/* Whole instructions, sorted, disjoint? *several: more than one in some site. */
static int check(const struct patch_registry *registry, size_t *failed, bool *several)
{
	size_t unit = machine.isa->unit;

	*several = false;
	*failed = 0;
	if (!patch_registry_valid(registry, patch_registry_size(registry->count), 0))
		return -EINVAL;
	for (*failed = 0; *failed < registry->count; ++*failed) {
		const struct sync_site *site = &registry->sites[*failed];

		if (site->address % unit || site->length % unit)
			return -EINVAL;
		if (!suture_machine_is_text(site->address, site->length))
			return -EFAULT;
		*several = *several || site->length > unit;
	}
	return 0;
}

static int change(struct suture_bare_sites *sites, enum suture_bare_strategy strategy,
                  uint32_t *failed, bool revert)
{
	struct patch_registry *registry = (struct patch_registry *)(void *)sites;
	struct patch_options options = {
	        .isa = machine.isa,
	        .strategy = strategy == SUTURE_BARE_NOSYNC    ? PATCH_NOSYNC
	                    : strategy == SUTURE_BARE_QUIESCE ? PATCH_QUIESCE
	                                                      : PATCH_CHEAPEST,
	        .deadline_ns = machine.port.bound_ns,
	        .tries = 1,
	};
	size_t index = 0;
	bool several;
	int rc;

	if (!sites || strategy > SUTURE_BARE_QUIESCE)
		return -EINVAL;
	rc = check(registry, &index, &several);
	if (!rc) {
		if (several)
			options.begin = nobody_else;
		rc = revert ? patch_revert(&machine.port, registry, &options)
		            : patch_apply(&machine.port, registry, &options, &index);
	}
	if (failed)
		*failed = (uint32_t)index;
	return rc;
}

int suture_bare_apply(struct suture_bare_sites *sites, enum suture_bare_strategy strategy,
                      uint32_t *failed)
{
	return change(sites, strategy, failed, false);
}

int suture_bare_revert(struct suture_bare_sites *sites, enum suture_bare_strategy strategy,
                       uint32_t *failed)
{
	return change(sites, strategy, failed, true);
}

static int fill(struct suture_bare_site *site, uint64_t address)
{
	*site = (struct suture_bare_site){.address = address, .length = machine.isa->branch_length};
	if (address % machine.isa->unit)
		return -EINVAL;
	return port_read(&machine.port, address, site->original, site->length);
}

int suture_bare_site_jump(struct suture_bare_site *site, uint64_t address, uint64_t to)
{
	int rc = fill(site, address);

	if (!rc)
		rc = machine.isa->branch(address, to, site->patched, sizeof(site->patched));
	return rc < 0 ? rc : 0;
}

int suture_bare_site_nop(struct suture_bare_site *site, uint64_t address)
{
	int rc = fill(site, address);

	if (!rc)
		machine.isa->nop(site->patched, site->length);
	return rc;
}

int suture_bare_publish(uint64_t address, const void *bytes, size_t size)
{
	enum { PIECE = 4096 };
	const uint8_t *from = bytes;
	int rc = 0;

	if (!size || !bytes || address + size < address)
		return -EINVAL;
	if (address < machine.port.caps.noinstr_end &&
	    address + size > machine.port.caps.noinstr_start)
		return -EPERM;
	if (!suture_machine_is_text(address, size))
		return -EFAULT;
	/* An alias is two pages at most. */
	while (size && !rc) {
		size_t piece = size < PIECE ? size : PIECE;
		struct sync_code code = {.address = address, .bytes = from, .size = piece};

		rc = patch_publish(&machine.port, &code, 1, NULL, machine.port.bound_ns);
		address += piece;
		from += piece;
		size -= piece;
	}
	return rc;
}
