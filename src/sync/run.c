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
	const struct sync_site *sites = batch->sites;
	bool join = batch->join || batch->count > RUN_SINGLE;

	run->first = run->last = first;
	run->address = sites[first].address;
	while (join && run->last + 1 < batch->count) {
		const struct sync_site *next = &sites[run->last + 1];

		if (next->address - site_end(&sites[run->last]) > RUN_GAP ||
		    site_end(next) - run->address > RUN_MAX)
			break;
		if (caps->write_unit &&
		    (site_end(next) - 1) / caps->write_unit != run->address / caps->write_unit)
			break;
		run->last++;
	}
	run->size = (size_t)(site_end(&sites[run->last]) - run->address);
}

int run_read(struct port *port, struct run *run)
{
	run->low = run->size;
	run->high = 0;
	return port_read(port, run->address, run->bytes, run->size);
}

void run_put(struct run *run, size_t at, const uint8_t *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++, at++) {
		if (run->bytes[at] == bytes[i])
			continue;
		run->bytes[at] = bytes[i];
		run->low = at < run->low ? at : run->low;
		run->high = at >= run->high ? at + 1 : run->high;
	}
}

int run_write(struct port *port, const struct run *run)
{
	if (run->low >= run->high)
		return 0;
	return text_write(port, run->address + run->low, run->bytes + run->low,
	                  run->high - run->low, TEXT_PIECES);
}
