/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "patch/patch.h"
#include "sync/sync.h"

_Static_assert((int)PATCH_SITE_MAX == (int)SYNC_WRITE_MAX, "a site is one write");

size_t patch_registry_size(uint32_t count)
{
	return sizeof(struct patch_registry) + (size_t)count * sizeof(struct patch_site);
}

/* The bytes that change lie within one unit. */
static bool site_valid(const struct patch_site *site, uint32_t write_unit)
{
	unsigned first = 0, last = site->length;

	if (site->length < 1 || site->length > PATCH_SITE_MAX ||
	    site->address + site->length - 1 < site->address)
		return false;
	while (first < site->length && site->original[first] == site->patched[first])
		first++;
	while (last > first && site->original[last - 1] == site->patched[last - 1])
		last--;
	return !write_unit || first == last ||
	       (site->address + first) / write_unit == (site->address + last - 1) / write_unit;
}

bool patch_registry_valid(const struct patch_registry *registry, size_t size, uint32_t write_unit)
{
	if (size < sizeof(*registry) ||
	    registry->count > (size - sizeof(*registry)) / sizeof(struct patch_site))
		return false;
	for (uint32_t i = 0; i < registry->count; i++) {
		const struct patch_site *site = &registry->sites[i];

		if (!site_valid(site, write_unit))
			return false;
		if (i && site->address <= site[-1].address + site[-1].length - 1)
			return false;
	}
	return true;
}

static struct sync_write *writes_of(const struct patch_registry *registry, bool forward)
{
	struct sync_write *writes = calloc(registry->count + 1, sizeof(*writes));

	for (uint32_t i = 0; writes && i < registry->count; i++) {
		const struct patch_site *site = &registry->sites[i];

		writes[i].address = site->address;
		writes[i].length = site->length;
		memcpy(writes[i].from, forward ? site->original : site->patched, site->length);
		memcpy(writes[i].to, forward ? site->patched : site->original, site->length);
	}
	return writes;
}

static struct sync_batch batch_of(const struct patch_registry *registry,
                                  const struct patch_options *options, bool forward)
{
	return (struct sync_batch){
	        .writes = writes_of(registry, forward),
	        .count = registry->count,
	        .strict = forward,
	        .clear = options->clear,
	        .clear_count = options->clear_count,
	        .vacate = options->vacate,
	        .vacate_count = options->vacate_count,
	        .forget = options->forget,
	        .forget_count = options->forget_count,
	        .begin = options->begin,
	        .arg = options->arg,
	        .deadline_ns = options->deadline_ns,
	        .tries = options->tries,
	};
}

int patch_apply(struct port *port, struct patch_registry *registry,
                const struct patch_options *options, size_t *failed)
{
	struct sync_batch batch = batch_of(registry, options, true);
	int rc;

	if (!batch.writes)
		return -ENOMEM;
	__atomic_store_n(&registry->state, PATCH_PREPARED, __ATOMIC_RELEASE);
	rc = sync_quiesce(port, &batch);
	if (!rc)
		__atomic_store_n(&registry->state, PATCH_APPLIED, __ATOMIC_RELEASE);
	if (failed)
		*failed = batch.failed;
	free((void *)batch.writes);
	return rc;
}

int patch_revert(struct port *port, const struct patch_registry *registry,
                 const struct patch_options *options)
{
	struct sync_batch batch = batch_of(registry, options, false);
	int rc;

	if (!batch.writes)
		return -ENOMEM;
	rc = sync_quiesce(port, &batch);
	free((void *)batch.writes);
	return rc;
}

int patch_count(struct port *port, const struct patch_registry *registry)
{
	int count = 0;

	for (uint32_t i = 0; i < registry->count; i++) {
		const struct patch_site *site = &registry->sites[i];
		uint8_t now[PATCH_SITE_MAX];
		int rc = port_read(port, site->address, now, site->length);

		if (rc && rc != -EFAULT)
			return rc;
		for (size_t k = 0; !rc && k < site->length; k++)
			if (now[k] == site->patched[k] && now[k] != site->original[k]) {
				count++;
				break;
			}
	}
	return count;
}

void patch_original(const struct patch_registry *registry, uint64_t address, uint8_t *bytes,
                    size_t size)
{
	for (uint32_t i = 0; i < registry->count; i++) {
		const struct patch_site *site = &registry->sites[i];

		for (size_t k = 0; k < site->length; k++) {
			uint64_t at = site->address + k - address;

			if (at < size && bytes[at] == site->patched[k])
				bytes[at] = site->original[k];
		}
	}
}
