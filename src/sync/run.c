/* SPDX-License-Identifier: MIT */
#include "sync/run.h"
#include "sync/text.h"

static uint64_t site_end(const struct sync_site *site)
{
	return site->address + site->length;
}

void run_at(const struct port_caps *caps, const struct sync_batch *batch, uint32_t first,
            struct run *run)
{
	const struct sync_site *site = &batch->sites[first];
	const struct sync_site *last = batch->sites + batch->count - 1;
	bool join = batch->join || batch->count > RUN_SINGLE;
	uint64_t unit = caps->write_unit && caps->write_unit < RUN_MAX ? caps->write_unit : RUN_MAX;
	uint64_t limit = (site->address / unit + 1) * unit;

	run->first = first;
	run->address = site->address;
	while (join && site < last && site_end(site + 1) <= limit &&
	       site[1].address - site_end(site) <= RUN_GAP)
		site++;
	run->last = (uint32_t)(site - batch->sites);
	run->size = (size_t)(site_end(site) - run->address);
}

int run_read(struct port *port, struct run *run)
{
	run->low = run->size;
	run->high = 0;
	return port_read(port, run->address, run->bytes, run->size);
}

int run_write(struct port *port, const struct run *run)
{
	if (run->low >= run->high)
		return 0;
	return text_write(port, run->address + run->low, run->bytes + run->low,
	                  run->high - run->low, TEXT_PIECES);
}
