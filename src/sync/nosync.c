/* SPDX-License-Identifier: MIT */
/*
 * nosync.c - one instruction that may be changed while others execute it.
 *
 * Legal only because of what the architecture says about that instruction (case nosync-sequence):
 *
 *     A64       B2.2.5: old and new are of B, BL, BRK, HVC, ISB, NOP, SMC, SVC
 *     A32, T32  E2.6.5: B, BL, BLX, NOP, BKPT, SVC, HVC, SMC; T32 of one size
 *     x86       one byte: a wider store can be seen in part (SDM vol. 3, 8.1.3)
 *
 * isa->hotpatch_safe knows. A fetch sees old or new, but nothing makes it see new (case
 * visible-everywhere):
 *
 *     core 0                               core 1
 *     store new                            … old was fetched
 *     clean, invalidate                    executes old
 *     return "done"                        executes old      <- nothing told it to fetch again
 *
 * so that each core has a context synchronisation event before the return.
 */
#include "sync/text.h"

/* The bytes that change, as a half-open range of offsets; false if none does. */
static bool changed(const struct sync_site *site, size_t *low, size_t *high)
{
	*low = *high = 0;
	for (size_t k = 0; k < site->length; k++) {
		if (site->original[k] == site->patched[k])
			continue;
		if (!*high)
			*low = k;
		*high = k + 1;
	}
	return *high != 0;
}

bool sync_nosync_legal(const struct port_caps *caps, const struct isa *isa,
                       const struct sync_site *site)
{
	size_t low, high;

	if (isa->unit == 1)
		return changed(site, &low, &high) && high - low == 1;
	return site->length <= caps->store_unit && site->length >= isa->unit &&
	       !(site->length & (site->length - 1)) && site->address % site->length == 0 &&
	       isa->hotpatch_safe(site->original, site->patched, site->length, site->address);
}

int sync_nosync(struct port *port, struct sync_batch *batch)
{
	int rc = 0;

	for (uint32_t i = 0; i < batch->count; i++) {
		if (sync_nosync_legal(port_caps(port), batch->isa, &batch->sites[i]))
			continue;
		port_set(port, &batch->failed, i);
		return -EINVAL;
	}
	rc = text_compare(port, batch);
	if (rc)
		return rc;
	for (uint32_t i = 0; i < batch->count && !rc; i++) {
		const struct sync_site *site = &batch->sites[i];
		size_t low = 0, high = site->length;

		if (batch->isa->unit == 1)
			changed(site, &low, &high);
		rc = text_write(port, site->address + low, text_new(batch, site) + low, high - low,
		                TEXT_WHOLE);
		if (rc)
			port_set(port, &batch->failed, i);
	}
	if (rc) {
		/* Each store is whole: those that were made are taken back as they were made. */
		uint32_t failed = port_load(port, &batch->failed);

		for (uint32_t i = 0; i < failed && i < batch->count; i++) {
			const struct sync_site *site = &batch->sites[i];
			size_t low = 0, high = site->length;

			if (batch->isa->unit == 1)
				changed(site, &low, &high);
			(void)!text_write(port, site->address + low, text_old(batch, site) + low,
			                  high - low, TEXT_WHOLE);
		}
	}
	if (text_synchronise(port, batch, PORT_POINT_SYNC))
		return rc ? rc : -ETIMEDOUT;
	return rc;
}
