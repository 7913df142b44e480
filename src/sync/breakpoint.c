/* SPDX-License-Identifier: MIT */
/*
 * breakpoint.c - change several bytes that are executed, by way of a trap.
 *
 *     1. a trap wherever an old instruction begins        synchronise all cores
 *     2. all other bytes                                  synchronise all cores
 *     3. the final bytes where the traps are              synchronise all cores
 *
 * What each synchronisation is for, on a core that executes the site all the time (o old, n new):
 *
 *     after 1   without: it has fetched  o0, and takes the bytes behind it from step 2: o0 n1
 *     after 2   without: it sees step 3 before step 2:                               n0 o1
 *     after 3   without: it traps, or executes o0, when the call has long returned
 *
 * In each phase a trap is one store (isa->trap_length), and a thread that takes it is sent on by
 * the trap path, patch/trap.c. A thread that was preempted at an inner boundary, or returns to
 * one, meets a trap there in every phase, and for as long as the site is patched: that is what
 * sync_breakpoint_legal asks of the new code. So nobody has to be waited for.
 */
#include "sync/run.h"
#include "sync/text.h"

/* Where a trap stands in one of the phases: bit k for offset k. */
static unsigned boundaries(const struct sync_site *site)
{
	return (site->boundaries | 1u) & ((1u << site->length) - 1);
}

static size_t lowest(unsigned bits)
{
	return (size_t)__builtin_ctz(bits);
}

/* Traps are one byte: such a one always may take the place of an instruction's first. */
static bool traps_are_bytes(const struct isa *isa)
{
	return isa->unit == 1 && isa->trap_length == 1;
}

/* May a trap take the place of the instruction, and the other way round, while it is executed?
 * Where instructions are words, old and new must both be of those that may (A64: BRK for ADD may
 * not); of bytes, one is always whole. */
static bool replaceable(const struct isa *isa, const uint8_t *code, uint64_t address)
{
	return isa->unit == 1 || (isa->hotpatch_safe(code, isa->trap, isa->trap_length, address) &&
	                          isa->hotpatch_safe(isa->trap, code, isa->trap_length, address));
}

/* At each boundary? */
static __attribute__((noinline)) bool are_replaceable(const struct isa *isa,
                                                      const struct sync_site *site)
{
	for (unsigned rest = boundaries(site); rest; rest &= rest - 1) {
		size_t k = lowest(rest);

		if ((site->address + k) % isa->trap_length || k + isa->trap_length > site->length)
			return false;
		if (k && !isa->is_trap(site->patched + k, site->length - k))
			return false;
		if (!replaceable(isa, site->original + k, site->address + k) ||
		    !replaceable(isa, site->patched + k, site->address + k))
			return false;
	}
	return true;
}

bool sync_breakpoint_legal(const struct port_caps *caps, const struct isa *isa,
                           const struct sync_site *site)
{
	if (!caps->traps || caps->store_unit < isa->trap_length || site->length < isa->trap_length)
		return false;
	return (traps_are_bytes(isa) && boundaries(site) == 1) || are_replaceable(isa, site);
}

enum phase { TRAPS, TAILS, HEADS };

/* The bytes of a site that a phase writes, as runs of one kind: [k, *end) for the next, from k on.
 */
static bool next_piece(const struct isa *isa, const struct sync_site *site, enum phase phase,
                       size_t *k, size_t *end)
{
	unsigned heads = boundaries(site);

	if (phase != TAILS) {
		if (!(heads >> *k))
			return false;
		*k += lowest(heads >> *k);
		*end = *k + isa->trap_length;
		return true;
	}
	while (heads >> *k & 1)
		*k += isa->trap_length;
	*end = heads >> *k ? *k + lowest(heads >> *k) : site->length;
	return *k < site->length;
}

/* Where instructions are words each trap is one store. Returns how many pieces were written. */
static int write_words(struct port *port, struct sync_batch *batch, enum phase phase)
{
	int pieces = 0;

	for (uint32_t i = 0; i < batch->count; i++) {
		const struct sync_site *site = &batch->sites[i];
		size_t end;

		for (size_t k = 0; next_piece(batch->isa, site, phase, &k, &end); k = end) {
			const uint8_t *bytes =
			        phase == TRAPS ? batch->isa->trap : text_new(batch, site) + k;
			int rc = text_write(port, site->address + k, bytes, end - k,
			                    phase == TAILS ? TEXT_PIECES : TEXT_WHOLE);

			if (rc) {
				port_set(port, &batch->failed, i);
				return rc;
			}
			pieces++;
		}
	}
	return pieces;
}

/* What a phase makes of the sites of a run that was read. Most are one instruction. */
static void change(const struct sync_batch *batch, enum phase phase, struct run *run)
{
	const struct isa *isa = batch->isa;
	const struct sync_site *site = &batch->sites[run->first], *last = &batch->sites[run->last];
	const uint64_t address = run->address;
	const bool bytes = traps_are_bytes(isa);

	for (; site <= last; site++) {
		const uint8_t *new = text_new(batch, site);
		size_t start = (size_t)(site->address - address), end;

		if (bytes && boundaries(site) == 1) {
			if (phase == TAILS)
				run_put(run, start + 1, new + 1, site->length - 1u);
			else
				run_put_byte(run, start, phase == TRAPS ? isa->trap[0] : new[0]);
			continue;
		}
		for (size_t k = 0; next_piece(isa, site, phase, &k, &end); k = end)
			run_put(run, start + k, phase == TRAPS ? isa->trap : new + k, end - k);
	}
}

/* Where they are bytes every mixture is harmless in every phase: near sites are one write. */
static int write_bytes(struct port *port, struct sync_batch *batch, enum phase phase)
{
	struct run run;
	int runs = 0;

	for (uint32_t i = 0; i < batch->count; i = run.last + 1) {
		int rc;

		run_at(port_caps(port), batch, i, &run);
		rc = run_read(port, &run);
		if (!rc)
			change(batch, phase, &run);
		runs += run.low < run.high;
		rc = rc ? rc : run_write(port, &run);
		if (rc) {
			port_set(port, &batch->failed, i);
			return rc;
		}
	}
	return runs;
}

/* How many pieces of text were written, or a negative errno. */
static int write_phase(struct port *port, struct sync_batch *batch, enum phase phase)
{
	return batch->isa->unit == 1 ? write_bytes(port, batch, phase)
	                             : write_words(port, batch, phase);
}

static int phases(struct port *port, struct sync_batch *batch)
{
	int rc = write_phase(port, batch, TRAPS);

	if (rc >= 0)
		rc = text_synchronise(port, batch, PORT_POINT_SYNC_TRAPS);
	if (!rc)
		rc = write_phase(port, batch, TAILS);
	if (rc > 0)
		rc = text_synchronise(port, batch, PORT_POINT_SYNC_TAILS);
	if (!rc)
		rc = write_phase(port, batch, HEADS);
	if (rc >= 0)
		rc = text_synchronise(port, batch, PORT_POINT_SYNC_HEADS);
	return rc;
}

/* What a site holds: all of the code that it shall have; traps at every boundary; the new tail. */
struct found {
	bool whole, traps, tail;
};

static struct found look(struct port *port, const struct sync_batch *batch,
                         const struct sync_site *site)
{
	const uint8_t *new = text_new(batch, site);
	size_t trap = batch->isa->trap_length;
	struct found found = {true, true, true};
	uint8_t now[SYNC_SITE_MAX];

	if (port_read(port, site->address, now, site->length))
		return (struct found){0};
	for (size_t k = 0; k < site->length;) {
		bool boundary = boundaries(site) >> k & 1;
		size_t size = boundary ? trap : 1;

		found.whole = found.whole && text_same(now + k, new + k, size);
		if (boundary)
			found.traps = found.traps && text_same(now + k, batch->isa->trap, size);
		else
			found.tail = found.tail && now[k] == new[k];
		k += size;
	}
	return found;
}

/* One site alone, in one phase. */
static void one(struct port *port, const struct sync_batch *batch, const struct sync_site *site,
                enum phase phase)
{
	struct sync_batch only = *batch;

	only.sites = site;
	only.count = 1;
	(void)!write_phase(port, &only, phase);
}

/*
 * The way back, each site as far as it can be brought: what failed once may fail again, and must
 * not keep the others. A site that is not whole in the end keeps its traps.
 */
static void take_back(struct port *port, struct sync_batch *batch)
{
	bool seen; /* by all cores */

	for (uint32_t i = 0; i < batch->count; i++) {
		struct found found = look(port, batch, &batch->sites[i]);

		if (!found.whole && !found.tail)
			one(port, batch, &batch->sites[i], TRAPS);
	}
	seen = text_synchronise(port, batch, PORT_POINT_SYNC_TRAPS) == 0;
	for (uint32_t i = 0; seen && i < batch->count; i++) {
		struct found found = look(port, batch, &batch->sites[i]);

		if (!found.whole && found.traps && !found.tail)
			one(port, batch, &batch->sites[i], TAILS);
	}
	seen = text_synchronise(port, batch, PORT_POINT_SYNC_TAILS) == 0;
	for (uint32_t i = 0; i < batch->count; i++) {
		struct found found = look(port, batch, &batch->sites[i]);

		if (!found.whole && found.tail && seen)
			one(port, batch, &batch->sites[i], HEADS);
		batch->stuck = batch->stuck || !look(port, batch, &batch->sites[i]).whole;
	}
	(void)!text_synchronise(port, batch, PORT_POINT_SYNC_HEADS);
}

int sync_breakpoint(struct port *port, struct sync_batch *batch)
{
	const struct port_caps *caps = port_caps(port);
	int rc;

	for (uint32_t i = 0; i < batch->count; i++) {
		if (sync_breakpoint_legal(caps, batch->isa, &batch->sites[i]))
			continue;
		port_set(port, &batch->failed, i);
		return -EINVAL;
	}
	rc = text_compare(port, batch);
	if (rc)
		return rc;
	rc = phases(port, batch);
	if (rc) {
		batch->revert = !batch->revert;
		take_back(port, batch);
		batch->revert = !batch->revert;
	}
	return rc;
}
