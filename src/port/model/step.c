/* SPDX-License-Identifier: MIT */
/*
 * step.c - the steps that the machine can take, and who may take one now.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "port/model/model.h"

/* The steps of a CPU; after them come those of the threads. */
enum {
	STEP_DRAIN, /* one for each place in the store buffer */
	STEP_SYNC = STEP_DRAIN + MODEL_STORES,
	STEP_REST,
	STEP_EXCEPTION,
	STEP_CALL, /* one for each thread that may have asked */
	STEP_CPU = STEP_CALL + WORLD_THREADS,
	STEP_LOAD = 0,
	STEP_RUN,
	STEP_THREAD,
};

/* ---- choices ---- */

void model_choose_first(struct port *port)
{
	port->choices = 0;
	port->choice_at = 0;
}

bool model_choose_next(struct port *port)
{
	while (port->choices &&
	       port->choice[port->choices - 1] + 1 == port->choices_of[port->choices - 1])
		port->choices--;
	if (!port->choices)
		return false;
	port->choice[port->choices - 1]++;
	port->choice_at = 0;
	return true;
}

unsigned model_choose(struct port *port, unsigned n)
{
	if (n <= 1)
		return 0;
	if (port->choice_at < port->choices)
		return port->choice[port->choice_at++];
	if (port->choices == MODEL_CHOICES) {
		model_fault(port, "too many choices in one step");
		return 0;
	}
	port->choice[port->choices] = 0;
	port->choices_of[port->choices++] = (uint8_t)n;
	port->choice_at++;
	return 0;
}

/* ---- words for people ---- */

void model_violated(struct port *port, const char *format, ...)
{
	va_list arguments;

	if (port->property[0])
		return;
	va_start(arguments, format);
	vsnprintf(port->property, sizeof(port->property), format, arguments);
	va_end(arguments);
}

void model_fault(struct port *port, const char *what)
{
	if (!port->fault[0])
		snprintf(port->fault, sizeof(port->fault), "%s", what);
}

void model_tell(struct port *port, const char *format, ...)
{
	size_t at = strlen(port->told);
	va_list arguments;

	if (!port->telling)
		return;
	if (at && at + 3 < sizeof(port->told) && format[0] != ';') {
		strcpy(port->told + at, "; ");
		at += 2;
	}
	va_start(arguments, format);
	vsnprintf(port->told + at, sizeof(port->told) - at, format, arguments);
	va_end(arguments);
}

/* ---- a run ---- */

int model_open(struct port *port, const struct world *world)
{
	const struct machine *machine = world->machine;

	memset(port, 0, sizeof(*port));
	port->world = world;
	port->machine = machine;
	port->caps = (struct port_caps){
	        .store_unit = machine->store_unit,
	        .cores_arrive = !world->stop_outside,
	        .threads_visible = true,
	        .maintenance_broadcast = machine->broadcast || world->cpus == 1,
	        .traps = world->trap != NULL,
	        .noinstr_start = world->protocol,
	        .noinstr_end = world->protocol ? world->protocol + WORLD_LINE : 0,
	};
	port->caches = (struct versions_caches){
	        .fetch_from_data = machine->fetch_from_data,
	        .instruction_coherent = machine->instruction_coherent,
	        .broadcast = machine->broadcast,
	        .cores = world->cpus,
	        .broken = world->broken,
	};
	/* Node 0 means none. */
	port->nodes_count = 1;
	port->nodes_room = 1024;
	port->nodes = calloc(port->nodes_room, sizeof(*port->nodes));
	return port->nodes ? 0 : -ENOMEM;
}

void model_close(struct port *port)
{
	free(port->nodes);
}

static void first_line(struct port *port, struct model_line *line, unsigned i)
{
	const struct world *world = port->world;

	line->absent = world->line_absent[i];
	line->content[0] = (uint8_t)model_content(port, world->line_first[i]);
	line->history.count = 1;
}

static bool run_thread(struct port *port, struct model_state *state, unsigned thread);

/* What nobody else can tell apart from happening at once. */
static void go_on(struct port *port, struct model_state *state, unsigned thread)
{
	const struct model_thread *t = &state->thread[thread];

	while (t->frames && !t->vector && !port->property[0] && !port->fault[0] &&
	       model_op_silent(port, t, model_ask(port, t->frame[t->frames - 1].node)))
		if (!run_thread(port, state, thread))
			break;
}

void model_first(struct port *port, struct model_state *state)
{
	const struct world *world = port->world;

	memset(state, 0, sizeof(*state));
	for (unsigned i = 0; i < world->lines; i++)
		first_line(port, &state->line[i], i);
	for (unsigned i = 0; i < world->cpus; i++)
		state->cpu[i].current = (uint8_t)i;
	for (unsigned i = 0; i < world->threads; i++) {
		struct model_thread *t = &state->thread[i];

		t->pc = world->thread[i].start;
		t->began = world->thread[i].began;
		t->masked = world->thread[i].masked;
		if (!world->thread[i].calls)
			continue;
		t->frames = 1;
		t->frame[0].node = model_root(port, FRAME_THREAD, i, 0, 0);
		t->frame[0].kind = FRAME_THREAD;
	}
	for (unsigned i = 0; i < WORLD_SITES; i++)
		state->rest.allowed[i] = WORLD_ANY;
	state->rest.failures = model_rule(world, RULE_WRITE_FAILS) ? world->write_fails : 0;
	for (unsigned i = 0; i < world->threads; i++) {
		const struct model_state before = *state;

		go_on(port, state, i);
		if (!port->property[0])
			continue;
		/* Its first step finds this again, and belongs to somebody. */
		*state = before;
		port->property[0] = '\0';
	}
	model_lines_settle(port, state);
}

/* ---- threads ---- */

static void left_trap(struct port *port, struct model_state *state, unsigned thread, uint64_t pc)
{
	struct model_thread *t = &state->thread[thread];

	if (!pc && !model_rule(port->world, RULE_TRAP_OURS))
		pc = t->pc;
	if (!pc) {
		model_violated(port,
		               "the trap at %#x is taken for somebody else's: the thread is "
		               "killed",
		               t->pc);
		return;
	}
	t->before = 0;
	model_tell(port, "goes on at %#x", (unsigned)pc);
	t->pc = (uint32_t)pc;
	t->mode = MODE_RUNS;
	if (pc < port->world->ours_start || pc >= port->world->ours_end)
		t->grace = 0;
	model_exception(port, state, model_cpu_of(port, thread));
}

/* The innermost function has returned. */
static void leave_frame(struct port *port, struct model_state *state, unsigned thread, uint64_t pc)
{
	struct model_thread *t = &state->thread[thread];
	struct model_frame frame = t->frame[--t->frames];
	unsigned cpu = model_cpu_of(port, thread);

	memset(&t->frame[t->frames], 0, sizeof(frame));
	if (frame.kind == FRAME_TRAP)
		left_trap(port, state, thread, pc);
	if (frame.kind == FRAME_THREAD)
		t->pc = port->world->thread[thread].then;
	if (frame.kind != FRAME_CALL)
		return;
	if (frame.owner == thread) {
		t->frame[t->frames - 1].started = 2;
	} else {
		state->cpu[cpu].call[frame.owner] = CALL_DONE;
		model_exception(port, state, cpu);
		model_tell(port, "leaves");
	}
}

static bool run_frame(struct port *port, struct model_state *state, unsigned thread)
{
	struct model_thread *t = &state->thread[thread];
	struct model_frame *frame = &t->frame[t->frames - 1];
	struct model_op op = *model_ask(port, frame->node);
	struct model_value value = {0};

	if (op.kind == OP_RETURN) {
		leave_frame(port, state, thread, op.a);
		return true;
	}
	/* Its own part of port_run_on_all comes first. */
	switch (model_op(port, state, thread, &op, &value)) {
	case OP_BLOCKED:
		return false;
	case OP_BEGUN:
		frame->started = 1;
		return true;
	case OP_DONE:
		frame->started = 0;
		frame->node = model_next(port, frame->node, &value);
		return true;
	}
	return false;
}

static bool run_thread(struct port *port, struct model_state *state, unsigned thread)
{
	struct model_thread *t = &state->thread[thread];

	if (t->vector)
		return model_execute(port, state, thread);
	if (t->frames)
		return run_frame(port, state, thread);
	if (t->mode == MODE_TRAPPED) {
		if (!port->world->trap) {
			model_violated(port, "a trap, and there is no trap path");
			return true;
		}
		t->frame[t->frames++] = (struct model_frame){
		        .node = model_root(port, FRAME_TRAP, 0, t->pc, 0), .kind = FRAME_TRAP};
		model_tell(port, "the trap path begins, for %#x", t->pc);
		return true;
	}
	return t->pc && model_execute(port, state, thread);
}

/* One CPU for all threads: the others run when it takes them up. */
static bool take_up(struct port *port, struct model_state *state, unsigned thread)
{
	unsigned cpu = model_cpu_of(port, thread);
	struct model_cpu *c = &state->cpu[cpu];

	if (c->current == thread)
		return true;
	if (state->thread[c->current].masked || state->thread[c->current].vector)
		return false;
	c->current = (uint8_t)thread;
	model_synchronise(port, state, cpu);
	return true;
}

static bool thread_step(struct port *port, struct model_state *state, unsigned thread,
                        unsigned step)
{
	if (step == STEP_LOAD)
		return state->thread[thread].load && model_complete_load(port, state, thread);
	if (!take_up(port, state, thread) || !run_thread(port, state, thread))
		return false;
	go_on(port, state, thread);
	while (state->thread[thread].mode == MODE_TRAPPED && !port->property[0] &&
	       !port->fault[0] && !model_rule(port->world, RULE_TRAP_LATE) &&
	       run_thread(port, state, thread))
		;
	return true;
}

/* ---- CPUs ---- */

static bool come(struct port *port, struct model_state *state, unsigned cpu, unsigned owner)
{
	struct model_cpu *c = &state->cpu[cpu];
	struct model_thread *t = &state->thread[c->current];
	const struct model_thread *who = &state->thread[owner];

	if (c->call[owner] != CALL_ASKED || t->masked || t->vector || t->frames == MODEL_FRAMES)
		return false;
	c->call[owner] = CALL_BEGUN;
	model_exception(port, state, cpu);
	t->frame[t->frames++] = (struct model_frame){
	        .node = model_root(port, FRAME_CALL, owner, 0, who->frame[0].node),
	        .kind = FRAME_CALL,
	        .owner = (uint8_t)owner};
	model_tell(port, "is interrupted and comes");
	go_on(port, state, c->current);
	return true;
}

static bool come_to_rest(struct port *port, struct model_state *state, unsigned cpu)
{
	struct model_cpu *c = &state->cpu[cpu];

	if (c->rest != REST_ASKED || state->thread[c->current].masked ||
	    state->thread[c->current].vector || c->stores || state->thread[c->current].load)
		return false;
	c->rest = REST_THERE;
	model_tell(port, "stops");
	return true;
}

static bool cpu_step(struct port *port, struct model_state *state, unsigned cpu, unsigned step)
{
	struct model_cpu *c = &state->cpu[cpu];
	const struct model_thread *t = &state->thread[c->current];

	if (step < STEP_SYNC)
		return model_drain(port, state, cpu, step - STEP_DRAIN);
	if (step >= STEP_CALL)
		return come(port, state, cpu, step - STEP_CALL);
	if (step == STEP_REST)
		return come_to_rest(port, state, cpu);
	/* An exception's handler runs with others masked. */
	if (t->masked || t->vector)
		return false;
	if (step == STEP_SYNC) {
		if (!c->sync)
			return false;
		c->sync = 0;
		model_synchronise(port, state, cpu);
		model_tell(port, "is interrupted: synchronised");
		return true;
	}
	if (!port->world->vector || !model_rule(port->world, RULE_EXCEPTION))
		return false;
	if (state->thread[c->current].vector)
		return false;
	state->thread[c->current].vector = port->world->vector;
	state->thread[c->current].interrupted = t->began;
	state->thread[c->current].began = 0;
	model_exception(port, state, cpu);
	model_tell(port, "takes an exception");
	return true;
}

unsigned model_steps(const struct port *port)
{
	return port->world->cpus * STEP_CPU + port->world->threads * STEP_THREAD;
}

int model_step(struct port *port, struct model_state *state, unsigned i)
{
	unsigned of_cpus = port->world->cpus * STEP_CPU, cpu, thread;
	bool taken;

	port->property[0] = port->told[0] = '\0';
	port->choice_at = 0;
	if (i < of_cpus) {
		cpu = thread = i / STEP_CPU;
		if (state->cpu[cpu].rest == REST_THERE)
			return -1;
		taken = cpu_step(port, state, cpu, i % STEP_CPU);
	} else {
		thread = (i - of_cpus) / STEP_THREAD;
		cpu = model_cpu_of(port, thread);
		if (state->cpu[cpu].rest == REST_THERE)
			return -1;
		taken = thread_step(port, state, thread, (i - of_cpus) % STEP_THREAD);
	}
	if (!taken)
		return -1;
	model_lines_settle(port, state);
	return (int)thread;
}

bool model_done(const struct port *port, const struct model_state *state)
{
	for (unsigned i = 0; i < port->world->threads; i++)
		if (state->thread[i].frames || state->thread[i].vector ||
		    (state->thread[i].turning && model_rule(port->world, RULE_TURNING)) ||
		    (state->thread[i].masked && !port->world->thread[i].masked))
			return false;
	for (unsigned i = 0; i < port->world->cpus; i++)
		if (state->cpu[i].rest || state->cpu[i].sync)
			return false;
	return !state->rest.lock;
}
