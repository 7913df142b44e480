/* SPDX-License-Identifier: MIT */
#include "patch/patch.h"
#include "sync/error.h"

size_t patch_registry_size(uint32_t count)
{
	return sizeof(struct patch_registry) + (size_t)count * sizeof(struct sync_site);
}

/* The bytes that change lie within one unit. */
static bool site_valid(const struct sync_site *site, uint32_t write_unit)
{
	unsigned first = 0, last = site->length;

	if (site->length < 1 || site->length > SYNC_SITE_MAX ||
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
	    registry->count > (size - sizeof(*registry)) / sizeof(struct sync_site))
		return false;
	for (uint32_t i = 0; i < registry->count; i++) {
		const struct sync_site *site = &registry->sites[i];

		if (!site_valid(site, write_unit))
			return false;
		if (i && site->address <= site[-1].address + site[-1].length - 1)
			return false;
	}
	return true;
}

static struct sync_batch batch_of(const struct patch_registry *registry,
                                  const struct patch_options *options, bool revert)
{
	return (struct sync_batch){
	        .isa = options->isa,
	        .sites = registry->sites,
	        .count = registry->count,
	        .join = options->join,
	        .word = options->word,
	        .revert = revert,
	        .strict = !revert,
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

enum patch_strategy patch_plan(const struct port_caps *caps, const struct isa *isa,
                               const struct patch_registry *registry, bool traps, size_t *failed)
{
	uint32_t nosync = 0, breakpoint = 0;

	while (nosync < registry->count && sync_nosync_legal(caps, isa, &registry->sites[nosync]))
		nosync++;
	while (traps && breakpoint < registry->count &&
	       sync_breakpoint_legal(caps, isa, &registry->sites[breakpoint]))
		breakpoint++;
	*failed = nosync > breakpoint ? nosync : breakpoint;
	return nosync == registry->count       ? PATCH_NOSYNC
	       : breakpoint == registry->count ? PATCH_BREAKPOINT
	                                       : PATCH_QUIESCE;
}

bool patch_word(const struct isa *isa, const struct sync_site *site)
{
	return sync_nosync_word(isa, site);
}

static int run_strategy(struct port *port, struct sync_batch *batch,
                        const struct patch_registry *registry, const struct patch_options *options)
{
	enum patch_strategy strategy = options->strategy;
	size_t failed;

	if (strategy == PATCH_CHEAPEST)
		strategy = patch_plan(port_caps(port), options->isa, registry, options->traps,
		                      &failed);
	switch (strategy) {
	case PATCH_NOSYNC:
		return sync_nosync(port, batch);
	case PATCH_BREAKPOINT:
		return options->traps ? sync_breakpoint(port, batch) : -EINVAL;
	default:
		return sync_quiesce(port, batch);
	}
}

/*
 * What the trap path finds from now on. Who sees the new generation sees the phase: an atomic
 * addition would not be ordered like that.
 *
 *     patcher                               trap path
 *     phase = APPLYING  … in the buffer
 *     generation += 1   at once             generation: new
 *                                           phase: GONE
 *     phase visible, trap written           text: a trap; generation: the same; "not ours"
 */
static void tell_trap_path(struct port *port, const struct patch_options *options, uint32_t phase)
{
	uint32_t generation;

	if (!options->traps)
		return;
	generation = port_load(port, &options->traps->generation);
	port_set(port, &options->live->phase, phase);
	port_set(port, &options->traps->generation, generation + 1);
}

/* All of it before the first trap. */
static void announce(struct port *port, const struct patch_options *options, uint32_t phase)
{
	tell_trap_path(port, options, phase);
	port_point(port, PORT_POINT_ANNOUNCE);
	port_complete(port);
}

/* The text that the protocol itself executes is never touched (case self-patching). */
static int check_noinstr(struct port *port, const struct patch_registry *registry, size_t *failed)
{
	const struct port_caps *caps = port_caps(port);

	for (uint32_t i = 0; i < registry->count; i++) {
		const struct sync_site *site = &registry->sites[i];

		if (site->address >= caps->noinstr_end ||
		    site->address + site->length <= caps->noinstr_start)
			continue;
		*failed = i;
		return -EPERM;
	}
	return 0;
}

int patch_apply(struct port *port, struct patch_registry *registry,
                const struct patch_options *options, size_t *failed)
{
	struct sync_batch batch = batch_of(registry, options, false);
	size_t ignored;
	bool gone, untouched;
	int rc = check_noinstr(port, registry, failed ? failed : &ignored);

	if (rc)
		return rc;
	port_point(port, PORT_POINT_LOCK);
	rc = port_lock(port, options->deadline_ns);
	if (rc)
		return rc;
	port_set(port, &batch.failed, 0);
	port_set(port, &registry->state, PATCH_PREPARED);
	announce(port, options, PATCH_APPLYING);
	rc = run_strategy(port, &batch, registry, options);
	if (!rc)
		port_set(port, &registry->state, PATCH_APPLIED);
	/* A site that could not even be taken back is known to the trap path for good. What was
	 * refused may look as if it were patched: those are somebody else's bytes. */
	untouched = rc == -EUCLEAN || rc == -EINVAL || batch.refused;
	gone = untouched || (rc && !batch.stuck && patch_count(port, registry) == 0);
	if (!rc || gone)
		tell_trap_path(port, options, rc ? PATCH_GONE : PATCH_LIVE);
	port_unlock(port);
	/* Somebody may be on the way from a trap that was there for a while. */
	if (gone && options->traps && !untouched)
		(void)!port_grace(port, PORT_FOREVER);
	if (failed)
		*failed = port_load(port, &batch.failed);
	return rc;
}

/* Wait for those on the way from a trap to what may now be reused. */
static int grace(struct port *port, const struct patch_options *options)
{
	if (options->later)
		return 0;
	port_point(port, PORT_POINT_GRACE);
	return port_grace(port, options->deadline_ns) ? -EBUSY : 0;
}

int patch_revert(struct port *port, const struct patch_registry *registry,
                 const struct patch_options *options)
{
	struct sync_batch batch = batch_of(registry, options, true);
	int rc;

	port_point(port, PORT_POINT_LOCK);
	rc = port_lock(port, options->deadline_ns);
	if (rc)
		return rc;
	batch.resume = options->traps && port_load(port, &options->live->phase) != PATCH_LIVE;
	announce(port, options, PATCH_REVERTING);
	rc = run_strategy(port, &batch, registry, options);
	/* -EBUSY: restored if nobody is told to be inside `vacate`, but not if inside `clear`. Late
	 * for some core, or stuck half way: those who meet a trap go on in the displaced copy. */
	if (!rc || (rc == -EBUSY && patch_count(port, registry) == 0))
		tell_trap_path(port, options, PATCH_GONE);
	else if (!batch.stuck && rc != -ETIMEDOUT)
		tell_trap_path(port, options, batch.resume ? PATCH_REVERTING : PATCH_LIVE);
	port_unlock(port);
	return !rc && options->traps ? grace(port, options) : rc;
}

int patch_adopt(struct port *port, const struct patch_options *options)
{
	int rc = port_lock(port, options->deadline_ns);

	if (rc)
		return rc;
	announce(port, options, PATCH_LIVE);
	port_unlock(port);
	return 0;
}

int patch_retire(struct port *port, const struct patch_options *options)
{
	if (!options->traps)
		return 0;
	/* No generation: late traps find no trap in the text. */
	port_set(port, &options->live->phase, PATCH_GONE);
	return grace(port, options);
}

int patch_publish(struct port *port, const struct sync_code *list, uint32_t count,
                  const struct port_pages *pages, uint64_t deadline_ns)
{
	int rc = port_lock(port, deadline_ns);

	if (rc)
		return rc;
	rc = sync_publish(port, list, count, pages);
	port_unlock(port);
	return rc;
}

int patch_count(struct port *port, const struct patch_registry *registry)
{
	int count = 0;

	for (uint32_t i = 0; i < registry->count; i++) {
		const struct sync_site *site = &registry->sites[i];
		uint8_t now[SYNC_SITE_MAX];
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
	uint32_t first = 0, after = registry->count;

	/* The first site that does not end before the bytes: there may be many of both. */
	while (first < after) {
		uint32_t middle = first + (after - first) / 2;
		const struct sync_site *site = &registry->sites[middle];

		if (site->address + site->length <= address)
			first = middle + 1;
		else
			after = middle;
	}
	for (uint32_t i = first; i < registry->count; i++) {
		const struct sync_site *site = &registry->sites[i];

		if (site->address >= address + size)
			break;

		for (size_t k = 0; k < site->length; k++) {
			uint64_t at = site->address + k - address;

			if (at < size && bytes[at] == site->patched[k])
				bytes[at] = site->original[k];
		}
	}
}
