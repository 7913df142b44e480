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
 *
 * Where one byte is what may change, near sites are one write, in any pieces and any order: each
 * byte is whole, what is between the sites stays what it is, and sites owe each other nothing (each
 * mixture of theirs is what stores one after the other would show).
 */
#include "sync/run.h"
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

/* Widen what changes to one aligned store within the site; false if there is none. */
static bool widen(const struct sync_site *site, size_t *low, size_t *high)
{
	for (size_t size = 1; size <= 8; size *= 2) {
		uint64_t start = (site->address + *low) & ~(uint64_t)(size - 1);
		size_t at = (size_t)(start - site->address);

		if (start < site->address || at + size < *high || at + size > site->length)
			continue;
		*low = at;
		*high = at + size;
		return true;
	}
	return false;
}

/* The part of a site that is one store. */
static bool store_of(const struct sync_batch *batch, const struct sync_site *site, size_t *low,
                     size_t *high)
{
	*low = 0;
	*high = site->length;
	if (batch->isa->unit != 1)
		return true;
	return changed(site, low, high) && widen(site, low, high);
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

bool sync_nosync_word(const struct isa *isa, const struct sync_site *site)
{
	size_t low, high;

	return isa->unit == 1 && changed(site, &low, &high) && widen(site, &low, &high);
}

static bool legal(const struct port_caps *caps, const struct sync_batch *batch,
                  const struct sync_site *site)
{
	return batch->word ? sync_nosync_word(batch->isa, site)
	                   : sync_nosync_legal(caps, batch->isa, site);
}

/* One site by itself. */
static int write_site(struct port *port, const struct sync_batch *batch,
                      const struct sync_site *site, const uint8_t *bytes)
{
	size_t low, high;

	store_of(batch, site, &low, &high);
	return text_write(port, site->address + low, bytes + low, high - low, TEXT_WHOLE);
}

static int write_run(struct port *port, const struct sync_batch *batch, struct run *run)
{
	int rc = run_read(port, run);

	for (uint32_t i = run->first; !rc && i <= run->last; i++) {
		const struct sync_site *site = &batch->sites[i];
		size_t low, high;

		if (changed(site, &low, &high))
			run_put(run, (size_t)(site->address - run->address) + low,
			        text_new(batch, site) + low, 1);
	}
	return rc ? rc : run_write(port, run);
}

/* *end: of the sites that may have been written. */
static int write_all(struct port *port, struct sync_batch *batch, uint32_t *end)
{
	struct run run;
	int rc = 0;

	for (uint32_t i = 0; i < batch->count && !rc; i = *end) {
		*end = i + 1;
		if (batch->isa->unit > 1 || batch->word) {
			rc = write_site(port, batch, &batch->sites[i],
			                text_new(batch, &batch->sites[i]));
		} else {
			run_at(port_caps(port), batch, i, &run);
			*end = run.last + 1;
			rc = run.first == run.last ? write_site(port, batch, &batch->sites[i],
			                                        text_new(batch, &batch->sites[i]))
			                           : write_run(port, batch, &run);
		}
		if (rc)
			port_set(port, &batch->failed, i);
	}
	return rc;
}

int sync_nosync(struct port *port, struct sync_batch *batch)
{
	const struct port_caps *caps = port_caps(port);
	uint32_t end = 0;
	int rc = 0;

	for (uint32_t i = 0; i < batch->count; i++) {
		if (legal(caps, batch, &batch->sites[i]))
			continue;
		port_set(port, &batch->failed, i);
		return -EINVAL;
	}
	rc = text_compare(port, batch);
	if (rc)
		return rc;
	rc = write_all(port, batch, &end);
	/* Each store is whole: those that were made, or may have been, are taken back one by one.
	 */
	for (uint32_t i = 0; rc && i < end; i++)
		(void)!write_site(port, batch, &batch->sites[i], text_old(batch, &batch->sites[i]));
	if (text_synchronise(port, batch, PORT_POINT_SYNC))
		return rc ? rc : -ETIMEDOUT;
	return rc;
}
