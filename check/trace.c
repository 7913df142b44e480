/* SPDX-License-Identifier: MIT */
/*
 * trace.c - the way to a violation in words: what a core does, and what the places in the machine
 * may hold after it, where that has changed.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "check/explore.h"
#include "check/scenario.h"

int trace_open(struct trace *trace, const struct world *world)
{
	*trace = (struct trace){.cores = world->threads};
	for (unsigned i = 0; i < world->threads && i < TRACE_CORES_MAX; i++)
		snprintf(trace->role[i], sizeof(trace->role[i]), "%s", world->thread[i].role);
	return 0;
}

/* What a content of a line is, in terms of its sites. */
static void name_content(const struct port *port, unsigned index, const uint8_t *bytes, char *out,
                         size_t size)
{
	const struct world *world = port->world;
	uint32_t start = world->line_address[index];
	size_t at = 0;

	out[0] = '\0';
	for (unsigned i = 0; i < world->sites; i++) {
		const struct world_site *site = &world->site[i];
		bool old = true, new = true, any = false;
		uint8_t here[16];
		unsigned n = 0;
		const char *name = "torn";

		for (unsigned k = 0; k < site->length; k++) {
			uint32_t offset = site->address + k - start;

			if (offset >= WORLD_LINE)
				continue;
			any = true;
			here[n++] = bytes[offset];
			old = old && bytes[offset] == site->original[k];
			new = new &&bytes[offset] == site->patched[k];
		}
		if (!any)
			continue;
		if (old)
			name = "old";
		else if (n >= world->isa->trap_length && world->isa->is_trap(here, n))
			name = "trap";
		else if (new)
			name = "new";
		if (at + 1 < size)
			at += (size_t)snprintf(out + at, size - at, "%s%s", at ? "+" : "", name);
	}
	if (at == 0)
		snprintf(out, size, "%s",
		         memcmp(bytes, world->line_first[index], WORLD_LINE) == 0 ? "first code"
		                                                                  : "new code");
}

/* The contents from `floor` on, each name once. */
static void name_range(const struct port *port, unsigned index, const struct model_line *line,
                       unsigned floor, struct trace_change *change)
{
	char names[MODEL_VERSIONS][32];
	size_t at = 0;

	change->holds[0] = '\0';
	change->stale = false;
	for (unsigned v = floor; v < line->history.count; v++) {
		bool again = false;

		name_content(port, index, port->contents[line->content[v]], names[v],
		             sizeof(names[v]));
		for (unsigned w = floor; w < v; w++)
			again = again || strcmp(names[w], names[v]) == 0;
		if (line->content[v] != line->content[line->history.count - 1u])
			change->stale = true;
		if (!again && at + 1 < sizeof(change->holds))
			at += (size_t)snprintf(change->holds + at, sizeof(change->holds) - at,
			                       "%s%s", at ? " or " : "", names[v]);
	}
}

/* What the line is called, if it is not that of the only or first site. */
static void name_line(const struct world *world, unsigned index, char *out, size_t size)
{
	uint32_t start = world->line_address[index];

	out[0] = '\0';
	if (world->lines == 1)
		return;
	snprintf(out, size, start == AT_SLOT ? " of the slot" : " of %#x", start);
	for (unsigned i = 0; i < world->sites; i++) {
		if (world->site[i].address - start >= WORLD_LINE)
			continue;
		out[0] = '\0';
		if (i)
			snprintf(out, size, " of site %u", i + 1);
	}
}

/* Everything worth telling of one line; the same places in the same order for any state. */
static unsigned describe_line(const struct port *port, unsigned index,
                              const struct model_line *line, struct trace_change *out)
{
	const struct machine *m = port->machine;
	const struct world *world = port->world;
	bool apart = m->data.index == MACHINE_VIVT ||
	             (m->data.index == MACHINE_VIPT && m->data.colours > 1);
	unsigned n = 0;
	char where[20];

	name_line(world, index, where, sizeof(where));
	if (apart) {
		snprintf(out[n].place, sizeof(out[n].place), "D-cache, alias%s", where);
		name_range(port, index, line,
		           line->dirty && line->dirty_alias ? line->history.count - 1u
		                                            : line->read[1],
		           &out[n++]);
		snprintf(out[n].place, sizeof(out[n].place), "D-cache, exec%s", where);
		name_range(port, index, line, line->read[0], &out[n++]);
	} else {
		snprintf(out[n].place, sizeof(out[n].place), "data%s", where);
		name_range(port, index, line, line->history.count - 1u, &out[n++]);
	}
	if (!m->fetch_from_data) {
		snprintf(out[n].place, sizeof(out[n].place), "memory%s", where);
		name_range(port, index, line, line->history.unified, &out[n++]);
	}
	for (unsigned i = 0; i < world->cpus && !m->instruction_coherent; i++) {
		snprintf(out[n].place, sizeof(out[n].place), "I-cache %u%s", i, where);
		name_range(port, index, line, line->cached[i], &out[n++]);
	}
	for (unsigned i = 0; i < world->cpus; i++) {
		snprintf(out[n].place, sizeof(out[n].place), "fetched %u%s", i, where);
		name_range(port, index, line, line->fetched[i], &out[n++]);
	}
	return n;
}

enum { PLACES = 3 + 2 * MODEL_CPUS };

static void add_changes(struct trace_row *row, const struct port *port,
                        const struct model_state *before, const struct model_state *after)
{
	for (unsigned i = 0; i < port->world->lines; i++) {
		struct trace_change old[PLACES], new[PLACES];
		unsigned n = describe_line(port, i, &before->line[i], old), at;

		describe_line(port, i, &after->line[i], new);
		for (unsigned k = 0; k < n; k++) {
			if (strcmp(old[k].holds, new[k].holds) == 0)
				continue;
			/* A row that tells two steps tells of a place once. */
			for (at = 0; at < row->count; at++)
				if (strcmp(row->changes[at].place, new[k].place) == 0)
					break;
			if (at == TRACE_CHANGES_MAX)
				return;
			row->count += at == row->count;
			row->changes[at] = new[k];
		}
	}
}

/* A store that leaves its buffer as the very next thing is told with the row that made it. */
static bool joins(const struct trace *trace, const struct port *port, int core)
{
	const struct trace_row *last = trace->count ? &trace->rows[trace->count - 1] : NULL;

	return last && last->core == core && strncmp(port->told, model_drained, 9) == 0 &&
	       !port->property[0] && strlen(last->what) + 20 < sizeof(last->what);
}

static const char *told_of(const struct port *port)
{
	const char *property = port->property;
	int skipped = 0;

	if (!property[0])
		return port->told[0] ? port->told : "goes on";
	/* The violation says what it does: the column is its core's. */
	sscanf(property, "core %*u %n", &skipped);
	return property + skipped;
}

static struct trace_row *new_row(struct trace *trace, int core)
{
	struct trace_row *rows = realloc(trace->rows, (trace->count + 1) * sizeof(*rows)), *row;

	if (!rows)
		return NULL;
	trace->rows = rows;
	row = &rows[trace->count++];
	memset(row, 0, sizeof(*row));
	row->core = core;
	return row;
}

int trace_add(struct trace *trace, const struct port *port, const struct model_state *before,
              const struct model_state *after, int core)
{
	struct trace_row *row;

	if (joins(trace, port, core)) {
		row = &trace->rows[trace->count - 1];
		if (!strstr(row->what, ", visible"))
			strcat(row->what, ", visible at once");
		add_changes(row, port, before, after);
		return 0;
	}
	row = new_row(trace, core);
	if (!row)
		return -ENOMEM;
	snprintf(row->what, sizeof(row->what), "%.*s", (int)sizeof(row->what) - 1, told_of(port));
	add_changes(row, port, before, after);
	return 0;
}

int trace_wait(struct trace *trace, const struct world *world, const struct model_state *state)
{
	struct trace_row *row;
	unsigned waits = 0;

	while (waits + 1 < world->threads && !state->thread[waits].frames)
		waits++;
	row = new_row(trace, (int)waits);
	if (!row)
		return -ENOMEM;
	snprintf(row->what, sizeof(row->what), "waits for ever");
	return 0;
}

void trace_finish(struct trace *trace, const char *property)
{
	snprintf(trace->property, sizeof(trace->property), "%s", property);
	if (trace->count)
		trace->rows[trace->count - 1].violation = true;
}

void trace_free(struct trace *trace)
{
	free(trace->rows);
	*trace = (struct trace){0};
}

const char *trace_keep(const char *text)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static char kept[16][120];
	static unsigned count;
	const char *result = "the model can not go on";

	pthread_mutex_lock(&lock);
	for (unsigned i = 0; i < count; i++)
		if (strcmp(kept[i], text) == 0)
			result = kept[i];
	if (result != kept[0] && count < 16 && strcmp(result, text) != 0) {
		snprintf(kept[count], sizeof(kept[count]), "%s", text);
		result = kept[count++];
	}
	pthread_mutex_unlock(&lock);
	return result;
}
