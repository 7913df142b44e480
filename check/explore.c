/* SPDX-License-Identifier: MIT */
/*
 * explore.c - all states that a machine can reach, nearest first.
 *
 * A state is stored as the numbers of its parts (lines, CPUs, threads, the rest): there are few
 * different ones of each. Both the parts and the states are compared in full; a hash only says
 * where to look. From the first state that violates a property, the way back to the start is the
 * shortest counterexample. A state from which no way leads to the end is one, too.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "check/explore.h"

enum { PARTS = WORLD_LINES + MODEL_CPUS + WORLD_THREADS + 1 };
enum { STATES_MAX = 50000000, EDGES_FIRST = 4096 };
static const uint64_t memory_max = 900ull << 20;

struct edge {
	uint32_t from, to;
};

struct search {
	struct port *port;
	const struct world *world;
	struct intern line, cpu, thread, rest, states;
	struct origin {
		uint32_t parent;
		uint32_t ordinal; /* of the transition, in the order of model_step */
	} * origins;
	uint32_t origins_room;
	struct edge *edges;
	uint64_t edges_count, edges_room;
	uint64_t memory;
};

/* ---- states as numbers ---- */

static int pack(struct search *s, const struct model_state *state, uint32_t *number)
{
	uint32_t parts[PARTS] = {0};
	unsigned n = 0;
	int failed = 0;

	for (unsigned i = 0; i < s->world->lines; i++)
		failed |= intern(&s->line, &state->line[i], &parts[n++]) < 0;
	for (unsigned i = 0; i < s->world->cpus; i++)
		failed |= intern(&s->cpu, &state->cpu[i], &parts[n++]) < 0;
	for (unsigned i = 0; i < s->world->threads; i++)
		failed |= intern(&s->thread, &state->thread[i], &parts[n++]) < 0;
	failed |= intern(&s->rest, &state->rest, &parts[n++]) < 0;
	return failed ? INTERN_FAILED : intern(&s->states, parts, number);
}

static void unpack(const struct search *s, uint32_t number, struct model_state *state)
{
	const uint32_t *parts = intern_value(&s->states, number);
	unsigned n = 0;

	memset(state, 0, sizeof(*state));
	for (unsigned i = 0; i < s->world->lines; i++)
		memcpy(&state->line[i], intern_value(&s->line, parts[n++]), s->line.size);
	for (unsigned i = 0; i < s->world->cpus; i++)
		memcpy(&state->cpu[i], intern_value(&s->cpu, parts[n++]), s->cpu.size);
	for (unsigned i = 0; i < s->world->threads; i++)
		memcpy(&state->thread[i], intern_value(&s->thread, parts[n++]), s->thread.size);
	memcpy(&state->rest, intern_value(&s->rest, parts[n]), s->rest.size);
}

static uint64_t memory_of(const struct search *s)
{
	return intern_memory(&s->line) + intern_memory(&s->cpu) + intern_memory(&s->thread) +
	       intern_memory(&s->rest) + intern_memory(&s->states) +
	       s->origins_room * sizeof(*s->origins) + s->edges_room * sizeof(*s->edges) +
	       (uint64_t)s->port->nodes_room * sizeof(struct model_node);
}

static int remember(struct search *s, const struct model_state *state, uint32_t parent,
                    uint32_t ordinal, uint32_t *number)
{
	int rc = pack(s, state, number);

	if (rc != INTERN_NEW)
		return rc;
	if (*number >= s->origins_room) {
		uint32_t room = s->origins_room ? s->origins_room * 2 : 1024;
		struct origin *origins = realloc(s->origins, room * sizeof(*origins));

		if (!origins)
			return INTERN_FAILED;
		s->origins = origins;
		s->origins_room = room;
	}
	s->origins[*number] = (struct origin){parent, ordinal};
	return rc;
}

static int add_edge(struct search *s, uint32_t from, uint32_t to)
{
	if (from == to)
		return 0;
	if (s->edges_count == s->edges_room) {
		uint64_t room = s->edges_room ? s->edges_room * 2 : EDGES_FIRST;
		struct edge *edges = realloc(s->edges, room * sizeof(*edges));

		if (!edges)
			return INTERN_FAILED;
		s->edges = edges;
		s->edges_room = room;
	}
	s->edges[s->edges_count++] = (struct edge){from, to};
	return 0;
}

/* ---- successors ---- */

/* Called for each transition; false ends the enumeration. */
typedef bool (*visit_fn)(void *arg, const struct model_state *next, int core, uint32_t ordinal);

static void successors(struct port *port, const struct model_state *state, visit_fn visit,
                       void *arg)
{
	unsigned steps = model_steps(port);
	uint32_t ordinal = 0;

	for (unsigned i = 0; i < steps; i++) {
		model_choose_first(port);
		do {
			struct model_state next = *state;
			int core = model_step(port, &next, i);

			if (core >= 0 && !visit(arg, &next, core, ordinal++))
				return;
		} while (model_choose_next(port));
	}
}

struct expansion {
	struct search *s;
	struct check_result *result;
	uint32_t from;
	bool failed;
	/* Of the violation. */
	bool violated;
	uint32_t ordinal;
};

static bool expand(void *arg, const struct model_state *next, int core, uint32_t ordinal)
{
	struct expansion *e = arg;
	uint32_t number;

	(void)core;
	e->result->steps++;
	if (e->s->port->property[0]) {
		e->violated = true;
		e->ordinal = ordinal;
		return false;
	}
	if (e->s->port->fault[0] || remember(e->s, next, e->from, ordinal, &number) < 0 ||
	    add_edge(e->s, e->from, number) < 0) {
		e->failed = true;
		return false;
	}
	return true;
}

/* ---- nothing deadlocks, everybody leaves: the end can be reached from everywhere ---- */

/* Who is next to whom: neighbours of state i are to[first[i]] up to to[first[i + 1] - 1]. */
struct graph {
	uint64_t *first;
	uint32_t *to;
};

static int graph_open(struct graph *graph, const struct search *s, bool backward)
{
	uint32_t count = s->states.count;

	graph->first = calloc((size_t)count + 2, sizeof(*graph->first));
	graph->to = malloc((s->edges_count + 1) * sizeof(*graph->to));
	if (!graph->first || !graph->to)
		return -ENOMEM;
	for (uint64_t i = 0; i < s->edges_count; i++)
		graph->first[(backward ? s->edges[i].to : s->edges[i].from) + 2]++;
	for (uint32_t i = 0; i < count; i++)
		graph->first[i + 1] += graph->first[i];
	for (uint64_t i = 0; i < s->edges_count; i++) {
		const struct edge *edge = &s->edges[i];

		graph->to[graph->first[(backward ? edge->to : edge->from) + 1]++] =
		        backward ? edge->from : edge->to;
	}
	return 0;
}

static void graph_close(struct graph *graph)
{
	free(graph->first);
	free(graph->to);
}

/* Mark all that can be reached from the `top` states in the queue, which are marked. */
static void spread(const struct graph *graph, bool *marks, uint32_t *queue, uint32_t top)
{
	while (top) {
		uint32_t at = queue[--top];

		for (uint64_t i = graph->first[at]; i < graph->first[at + 1]; i++) {
			if (marks[graph->to[i]])
				continue;
			marks[graph->to[i]] = true;
			queue[top++] = graph->to[i];
		}
	}
}

static void spread_from(const struct graph *graph, uint32_t from, bool *marks, uint32_t *queue,
                        uint32_t count)
{
	memset(marks, 0, count);
	marks[from] = true;
	queue[0] = from;
	spread(graph, marks, queue, 1);
}

/*
 * From `stuck` on no way leads to the end; but much may still happen, and who waits for ever need
 * not wait yet. Go on to where no way out is left, and there to the nearest state: what can be
 * reached from it can also reach it.
 */
static int settle(const struct search *s, const struct graph *back, uint32_t *stuck,
                  uint32_t *queue)
{
	uint32_t count = s->states.count, out = *stuck;
	bool *forth_marks = malloc(count), *back_marks = malloc(count);
	struct graph forth = {0};
	int rc = graph_open(&forth, s, false);

	if (!forth_marks || !back_marks)
		rc = -ENOMEM;
	while (!rc && out != UINT32_MAX) {
		*stuck = out;
		out = UINT32_MAX;
		spread_from(&forth, *stuck, forth_marks, queue, count);
		spread_from(back, *stuck, back_marks, queue, count);
		for (uint32_t i = 0; i < count; i++)
			if (forth_marks[i] && !back_marks[i])
				out = i;
	}
	for (uint32_t i = 0; !rc && i < *stuck; i++)
		if (forth_marks[i])
			*stuck = i;
	graph_close(&forth);
	free(forth_marks);
	free(back_marks);
	return rc;
}

/* A state from which it can not, or UINT32_MAX. -ENOMEM. */
static int find_stuck(struct search *s, uint32_t *stuck)
{
	uint32_t count = s->states.count, top = 0;
	uint32_t *queue = malloc(((size_t)count + 1) * sizeof(*queue));
	bool *ends = calloc((size_t)count + 1, 1);
	struct graph back = {0};
	struct model_state state;
	int rc = graph_open(&back, s, true);

	if (!queue || !ends)
		rc = -ENOMEM;
	*stuck = UINT32_MAX;
	for (uint32_t i = 0; !rc && i < count; i++) {
		unpack(s, i, &state);
		ends[i] = model_done(s->port, &state);
		if (ends[i])
			queue[top++] = i;
	}
	if (!rc)
		spread(&back, ends, queue, top);
	for (uint32_t i = 0; !rc && i < count && *stuck == UINT32_MAX; i++)
		if (!ends[i])
			*stuck = i;
	if (!rc && *stuck != UINT32_MAX)
		rc = settle(s, &back, stuck, queue);
	graph_close(&back);
	free(queue);
	free(ends);
	return rc;
}

/* ---- the way to a state ---- */

struct retrace {
	struct trace *trace;
	struct port *port;
	const struct model_state *before;
	struct model_state after;
	uint32_t wanted;
	int rc;
};

static bool retrace_step(void *arg, const struct model_state *next, int core, uint32_t ordinal)
{
	struct retrace *r = arg;

	if (ordinal != r->wanted)
		return true;
	r->after = *next;
	r->rc = trace_add(r->trace, r->port, r->before, next, core);
	return false;
}

/* The transitions that lead to state `last`, then `ordinal` if it is not UINT32_MAX. */
static int retrace(struct search *s, uint32_t last, uint32_t ordinal, struct trace *trace)
{
	uint32_t length = 0, *way;
	struct model_state state;
	int rc = 0;

	for (uint32_t i = last; i; i = s->origins[i].parent)
		length++;
	way = malloc((length + 1) * sizeof(*way));
	if (!way)
		return -ENOMEM;
	way[length] = ordinal;
	for (uint32_t i = last, at = length; i; i = s->origins[i].parent)
		way[--at] = s->origins[i].ordinal;
	unpack(s, 0, &state);
	s->port->telling = true;
	for (uint32_t i = 0; !rc && i < length + (ordinal != UINT32_MAX); i++) {
		struct retrace r = {
		        .trace = trace, .port = s->port, .before = &state, .wanted = way[i]};

		successors(s->port, &state, retrace_step, &r);
		state = r.after;
		rc = r.rc;
	}
	/* No step violates: somebody waits. */
	if (!rc && ordinal == UINT32_MAX)
		rc = trace_wait(trace, s->world, &state);
	s->port->telling = false;
	free(way);
	return rc;
}

/* ---- a search ---- */

static void open_table(struct intern *table, size_t size, const struct check_limits *limits)
{
	intern_open(table, size);
	if (limits && limits->hash)
		table->hash_mask = limits->hash;
}

static int search_open(struct search *s, const struct world *world,
                       const struct check_limits *limits)
{
	*s = (struct search){.world = world, .port = malloc(sizeof(*s->port))};
	if (!s->port)
		return -ENOMEM;
	open_table(&s->line, sizeof(struct model_line), limits);
	open_table(&s->cpu, sizeof(struct model_cpu), limits);
	open_table(&s->thread, sizeof(struct model_thread), limits);
	open_table(&s->rest, sizeof(struct model_rest), limits);
	open_table(&s->states, sizeof(uint32_t) * (world->lines + world->cpus + world->threads + 1),
	           limits);
	return model_open(s->port, world);
}

static void search_close(struct search *s)
{
	intern_close(&s->line);
	intern_close(&s->cpu);
	intern_close(&s->thread);
	intern_close(&s->rest);
	intern_close(&s->states);
	free(s->origins);
	free(s->edges);
	if (s->port)
		model_close(s->port);
	free(s->port);
}

static void refute(struct search *s, struct check_result *result, uint32_t state, uint32_t ordinal,
                   const char *property)
{
	result->verdict = VERDICT_REFUTED;
	if (trace_open(&result->trace, s->world) || retrace(s, state, ordinal, &result->trace))
		result->verdict = VERDICT_INCOMPLETE;
	trace_finish(&result->trace, property);
}

static void run(struct search *s, const struct check_limits *limits, struct check_result *result)
{
	uint32_t states_limit = limits && limits->states ? limits->states : STATES_MAX, number;
	uint64_t memory_limit = limits && limits->memory ? limits->memory : memory_max;
	struct expansion e = {.s = s, .result = result};
	struct model_state state;

	result->verdict = VERDICT_INCOMPLETE;
	result->reason = "out of memory";
	model_first(s->port, &state);
	if (remember(s, &state, 0, 0, &number) < 0)
		return;
	for (e.from = 0; e.from < s->states.count; e.from++) {
		char property[sizeof(s->port->property)];

		unpack(s, e.from, &state);
		successors(s->port, &state, expand, &e);
		strcpy(property, s->port->property);
		if (e.violated) {
			refute(s, result, e.from, e.ordinal, property);
			return;
		}
		if (s->port->fault[0])
			result->reason = trace_keep(s->port->fault);
		if (e.failed || s->port->fault[0])
			return;
		if (s->states.count > states_limit || memory_of(s) > memory_limit) {
			result->reason = "more states than the limit";
			return;
		}
	}
	if (find_stuck(s, &number))
		return;
	result->reason = NULL;
	result->verdict = VERDICT_HOLDS;
	if (number != UINT32_MAX && model_rule(s->world, RULE_ENDS))
		refute(s, result, number, UINT32_MAX,
		       "from here on some core waits for ever: no way leads to the end");
}

static double now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

void explore(const struct world *world, const struct check_limits *limits,
             struct check_result *result)
{
	double start = now_ms();
	struct search s;

	if (search_open(&s, world, limits)) {
		result->verdict = VERDICT_INCOMPLETE;
		result->reason = "out of memory";
	} else {
		run(&s, limits, result);
		result->states = s.states.count;
		result->memory = memory_of(&s);
	}
	result->milliseconds = now_ms() - start;
	search_close(&s);
}
