/* SPDX-License-Identifier: MIT */
/*
 * line.c - what data reads and instruction fetches may find in a line of text.
 *
 * Caches fill and evict whenever they like. So instead of their contents, the model keeps for each
 * place the *oldest* content that may still be there; a reader gets that one or any later. Filling
 * early, evicting, prefetching are then no steps of their own, and nothing is lost: a place that
 * may hold content i at some time may have been filled when i was newest.
 *
 *     content   0      1      2      3          (in the order of the stores, at the D-cache)
 *                      ^      ^
 *                      |      unified: written back at least up to here
 *                      cached[1]: the I-cache of CPU 1 may hold 1, 2 or 3
 *
 * 3 is possible, too: a dirty line may have been evicted by itself.
 */
#include <string.h>
#include "port/model/model.h"

unsigned model_content(struct port *port, const uint8_t bytes[WORLD_LINE])
{
	unsigned i = 0;

	while (i < port->contents_count && memcmp(port->contents[i], bytes, WORLD_LINE) != 0)
		i++;
	if (i == MODEL_CONTENTS) {
		model_fault(port, "too many different contents of a line");
		return 0;
	}
	if (i == port->contents_count)
		memcpy(port->contents[port->contents_count++], bytes, WORLD_LINE);
	return i;
}

int model_line_at(const struct port *port, uint32_t address)
{
	address &= ~WORLD_ALIAS;
	for (unsigned i = 0; i < port->world->lines; i++)
		if (address - port->world->line_address[i] < WORLD_LINE)
			return (int)i;
	return -1;
}

/* Do the two addresses of a line have places of their own in this cache? */
static bool aliases(const struct machine_cache *cache)
{
	return cache->index == MACHINE_VIVT || (cache->index == MACHINE_VIPT && cache->colours > 1);
}

static unsigned newest(const struct model_line *line)
{
	return versions_newest(&line->history);
}

static void not_dirty(struct model_line *line)
{
	line->dirty = line->dirty_alias = 0;
}

void model_line_store(struct port *port, struct model_state *state, unsigned index, unsigned cpu,
                      bool alias, const struct model_piece *piece)
{
	struct model_line *line = &state->line[index];
	unsigned place = aliases(&port->machine->data) && alias, base = newest(line);
	uint8_t bytes[WORLD_LINE];

	if (line->dirty && line->dirty_alias != place) {
		model_violated(port, "two addresses of one cache line are written at once: one "
		                     "write is lost");
		return;
	}
	/* The write hits what the cache holds for this address, stale or not. */
	if (!line->dirty && line->read[place] < base)
		base = line->read[place] + model_choose(port, base - line->read[place] + 1u);
	memcpy(bytes, port->contents[line->content[base]], WORLD_LINE);
	for (unsigned i = 0; i < WORLD_LINE; i++)
		if (piece->mask >> i & 1)
			bytes[i] = piece->bytes[i];
	if (line->history.count == MODEL_VERSIONS) {
		model_fault(port, "too many contents of one line at once");
		return;
	}
	line->content[line->history.count] = (uint8_t)model_content(port, bytes);
	line->dirty = (uint8_t)(cpu + 1);
	line->dirty_alias = (uint8_t)place;
	if (versions_store(&line->history, &port->caches))
		not_dirty(line);
	line->read[place] = (uint8_t)newest(line);
}

void model_line_read(struct port *port, struct model_state *state, unsigned index, unsigned cpu,
                     bool alias, uint8_t bytes[WORLD_LINE])
{
	struct model_line *line = &state->line[index];
	unsigned place = aliases(&port->machine->data) && alias, from = newest(line);
	const struct model_cpu *c = &state->cpu[cpu];

	if (aliases(&port->machine->data) && !(line->dirty && line->dirty_alias == place) &&
	    model_rule(port->world, RULE_READ_STALE))
		from = line->read[place] + model_choose(port, from - line->read[place] + 1u);
	if (aliases(&port->machine->data))
		line->read[place] = (uint8_t)from;
	memcpy(bytes, port->contents[line->content[from]], WORLD_LINE);
	/* Its own stores that are still on their way. */
	for (unsigned i = 0; i < c->stores && model_rule(port->world, RULE_FORWARD); i++) {
		const struct model_store *store = &c->store[i];
		const struct model_piece *piece = &port->pieces[store->value];

		if (store->kind != 1 || store->index != index)
			continue;
		for (unsigned k = 0; k < WORLD_LINE; k++)
			if (piece->mask >> k & 1)
				bytes[k] = piece->bytes[k];
	}
}

/* Does maintenance by this CPU at this address reach the dirty line? */
static bool reaches(const struct port *port, const struct model_line *line, unsigned cpu,
                    bool alias)
{
	bool place = aliases(&port->machine->data) && alias;

	if (!model_rule(port->world, RULE_CLEAN_REACHES))
		return line->dirty;
	return line->dirty && line->dirty_alias == place &&
	       (port->machine->broadcast || line->dirty == cpu + 1);
}

void model_line_clean(struct port *port, struct model_line *line, unsigned cpu, bool alias)
{
	if (reaches(port, line, cpu, alias) && versions_clean(&line->history, &port->caches))
		not_dirty(line);
}

/* Clean and invalidate: a write must not be lost. */
void model_line_drop_read(struct port *port, struct model_line *line, unsigned cpu, bool alias)
{
	bool place = aliases(&port->machine->data) && alias;

	if (reaches(port, line, cpu, alias)) {
		versions_unify(&line->history);
		not_dirty(line);
	}
	if (line->read[place] < line->history.unified && model_rule(port->world, RULE_DROP_READ))
		line->read[place] = line->history.unified;
}

unsigned model_line_floor(const struct port *port, const struct model_line *line, unsigned cpu)
{
	return versions_floor(&line->history, &port->caches, line->fetched[cpu]);
}

void model_line_drop_executed(struct port *port, struct model_state *state, unsigned index,
                              unsigned cpu, bool alias)
{
	const struct world *world = port->world;
	struct model_line *line = &state->line[index];

	/* By another address than the one that is executed: another place. */
	if (aliases(&port->machine->instruction) && alias && model_rule(world, RULE_DROP_ALIAS))
		return;
	versions_invalidate(&line->history, &port->caches, line->cached, cpu);
	for (unsigned i = 0; i < world->cpus; i++) {
		if (!versions_reach(&port->caches, cpu, i) || line->fetched[i] >= line->cached[i])
			continue;
		if (!port->machine->fetch_ahead || !model_rule(world, RULE_FETCHED_AHEAD))
			line->fetched[i] = line->cached[i];
		else if (port->machine->fetch_ahead != MACHINE_FETCH_UNBOUNDED)
			state->cpu[i].ahead = port->machine->fetch_ahead;
	}
}

/* A context synchronisation event: what was fetched ahead is thrown away. */
void model_synchronise(struct port *port, struct model_state *state, unsigned cpu)
{
	if (!model_rule(port->world, RULE_SYNCHRONISE))
		return;
	state->cpu[cpu].ahead = 0;
	for (unsigned i = 0; i < port->world->lines; i++) {
		struct model_line *line = &state->line[i];

		versions_follow(&line->history, &port->caches, &line->cached[cpu]);
		line->fetched[cpu] = line->cached[cpu];
	}
}

void model_exception(struct port *port, struct model_state *state, unsigned cpu)
{
	if (port->machine->exceptions_synchronise)
		model_synchronise(port, state, cpu);
}

static void settle(struct port *port, struct model_line *line)
{
	uint8_t *floors[2 + 2 * MODEL_CPUS];
	unsigned count = 0;

	floors[count++] = &line->read[0];
	floors[count++] = &line->read[1];
	for (unsigned i = 0; i < port->world->cpus; i++) {
		if (versions_follow(&line->history, &port->caches, &line->cached[i]) &&
		    !model_rule(port->world, RULE_FETCHED_AHEAD))
			line->fetched[i] = line->cached[i];
		floors[count++] = &line->cached[i];
		floors[count++] = &line->fetched[i];
	}
	/* Physically indexed: an address has no place of its own that could be stale. */
	if (!aliases(&port->machine->data))
		line->read[0] = line->read[1] = (uint8_t)newest(line);
	versions_settle(&line->history, line->content, MODEL_VERSIONS, floors, count);
	if (line->dirty && line->history.unified == newest(line))
		not_dirty(line);
}

void model_lines_settle(struct port *port, struct model_state *state)
{
	for (unsigned i = 0; i < port->world->lines; i++)
		settle(port, &state->line[i]);
}
