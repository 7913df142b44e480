/* SPDX-License-Identifier: MIT */
/*
 * op.c - what each function of port.h does on the simulated machine.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "port/model/model.h"

unsigned model_cpu_of(const struct port *port, unsigned thread)
{
	return port->world->cpus == 1 ? 0 : thread;
}

static bool alone(const struct port *port)
{
	unsigned callers = 0;

	for (unsigned i = 0; i < port->world->threads; i++)
		callers += port->world->thread[i].calls != NULL;
	return callers == 1;
}

bool model_op_silent(const struct port *port, const struct model_thread *thread,
                     const struct model_op *op)
{
	if (op->skipped)
		return true;
	switch (op->kind) {
	case OP_VIEW_CLOSE:
	case OP_ASSERT:
	case OP_RECLAIM:
		return true;
	case OP_RETURN:
		return thread->frame[thread->frames - 1].kind != FRAME_TRAP;
	case OP_READ:
		/* Who alone writes reads what it wrote. */
		return alone(port) && thread->frame[thread->frames - 1].kind != FRAME_TRAP;
	case OP_MASK:
	case OP_UNMASK:
		return !port->world->vector && alone(port) && port->world->cpus > 1;
	default:
		return false;
	}
}

/* ---- text ---- */

/* Name what is written: a state of a site, as far as it is one. */
static const char *named(const struct port *port, uint32_t address, const uint8_t *bytes,
                         unsigned size)
{
	const struct isa *isa = port->world->isa;

	address &= ~WORLD_ALIAS;
	for (unsigned i = 0; i < port->world->sites; i++) {
		const struct world_site *site = &port->world->site[i];
		uint32_t offset = address - site->address;

		if (offset >= site->length || offset + size > site->length)
			continue;
		if (memcmp(site->original + offset, bytes, size) == 0)
			return "the old code";
		if (memcmp(site->patched + offset, bytes, size) == 0)
			return "the new code";
	}
	return size >= isa->trap_length && isa->is_trap(bytes, size) ? "a trap" : "code";
}

static enum model_progress read_text(struct port *port, struct model_state *state, unsigned cpu,
                                     const struct model_op *op, struct model_value *value)
{
	for (unsigned i = 0; i < op->size; i++) {
		int line = model_line_at(port, op->address + i);
		uint32_t start;
		uint8_t bytes[WORLD_LINE];

		if (line < 0 || state->line[line].absent) {
			value->rc = -EFAULT;
			memset(value->data, 0, sizeof(value->data));
			return OP_DONE;
		}
		model_line_read(port, state, (unsigned)line, cpu, op->address & WORLD_ALIAS, bytes);
		start = (op->address & ~WORLD_ALIAS) + i - port->world->line_address[line];
		for (; i < op->size && start < WORLD_LINE; i++, start++)
			value->data[i] = bytes[start];
		i--;
	}
	model_tell(port, "reads %s at %#x", named(port, op->address, value->data, op->size),
	           op->address & ~WORLD_ALIAS);
	return OP_DONE;
}

static void note_writer(struct port *port, struct model_state *state, unsigned thread)
{
	state->rest.writers |= (uint8_t)(1u << thread);
	if ((state->rest.writers & (state->rest.writers - 1u)) &&
	    model_rule(port->world, RULE_ONE_WRITER))
		model_violated(port, "two cores write text in one transaction");
}

/* The first half of what port_write writes: it promises no order and no size. */
static unsigned first_half(const struct port *port, const struct model_op *op)
{
	unsigned unit = port->world->isa->unit;

	return unit > 1 && op->size >= unit ? unit / 2 : op->size / 2u;
}

/* Views of different text have the same address, one after the other. By a virtual tag the cache
 * finds what the last one left, if nobody dropped it. */
static void reuse_window(struct port *port, struct model_state *state, unsigned cpu,
                         const struct model_op *op)
{
	unsigned window = state->rest.window;
	int line = model_line_at(port, op->address);
	struct model_piece piece = {.mask = UINT16_MAX};
	const struct model_line *other;

	if (line < 0 || !(op->address & WORLD_ALIAS))
		return;
	state->rest.window = (uint8_t)(line + 1);
	if (port->machine->data.index != MACHINE_VIVT || !window || (int)window == line + 1 ||
	    !model_rule(port->world, RULE_WINDOW) || !model_choose(port, 2))
		return;
	other = &state->line[window - 1];
	memcpy(piece.bytes, port->contents[other->content[versions_newest(&other->history)]],
	       WORLD_LINE);
	model_line_store(port, state, (unsigned)line, cpu, true, &piece);
}

static void tell_write(struct port *port, const struct model_op *op, const char *how)
{
	model_tell(port, "writes %s at %#x %s%s", named(port, op->address, op->data, op->size),
	           op->address & ~WORLD_ALIAS,
	           op->address & WORLD_ALIAS ? "through the alias" : "directly", how);
}

static enum model_progress write_text(struct port *port, struct model_state *state, unsigned thread,
                                      const struct model_frame *frame, const struct model_op *op,
                                      struct model_value *value)
{
	unsigned cpu = model_cpu_of(port, thread), half = 0;
	bool fails = false;

	if (!model_buffer_room(&state->cpu[cpu], 4))
		return OP_BLOCKED;
	if (port->world->protocol)
		model_execute_elsewhere(port, state, cpu, port->world->protocol,
		                        "while it patches");
	if (port->world->unwritable &&
	    model_line_at(port, op->address) == model_line_at(port, port->world->unwritable)) {
		value->rc = -EIO;
		model_tell(port, "writes at %#x, which fails", op->address & ~WORLD_ALIAS);
		return OP_DONE;
	}
	note_writer(port, state, thread);
	reuse_window(port, state, cpu, op);
	if (op->kind == OP_WRITE && model_rule(port->world, RULE_PIECES))
		half = first_half(port, op);
	/* In two steps: anything may come between them. */
	if (half && !frame->started) {
		model_store_text(port, state, cpu, op->address, op->data, half);
		tell_write(port, op, ", the first half");
		return OP_BEGUN;
	}
	if (state->rest.failures && model_choose(port, 2)) {
		fails = true;
		state->rest.failures--;
		value->rc = -EIO;
	}
	if (!fails)
		model_store_text(port, state, cpu, op->address + half, op->data + half,
		                 op->size - half);
	tell_write(port, op, fails ? ", which fails" : half ? ", the rest" : "");
	return OP_DONE;
}

static enum model_progress maintain(struct port *port, struct model_state *state, unsigned cpu,
                                    const struct model_op *op)
{
	static const char *const names[] = {
	        [OP_CLEAN] = "writes back what was written through",
	        [OP_DROP_READ] = "drops D-cache lines of",
	        [OP_DROP_EXECUTED] = "drops I-cache lines of",
	};
	bool alias = op->address & WORLD_ALIAS;
	int last = -1;

	/* Each begins and ends with a barrier. */
	if (op->kind != OP_VIEW_CLOSE && state->cpu[cpu].stores &&
	    order_waits_barrier(port->world->broken, ORDER_DSB, ORDER_WRITE, ORDER_CLEAN))
		return OP_BLOCKED;
	for (unsigned i = 0; i < op->size; i++) {
		int at = model_line_at(port, op->address + i);
		struct model_line *line = &state->line[at];

		if (at < 0 || at == last ||
		    (line->absent && !alias && model_rule(port->world, RULE_ABSENT)))
			continue; /* nothing there to act on */
		last = at;
		if (op->kind == OP_CLEAN)
			model_line_clean(port, line, cpu, alias);
		else if (op->kind == OP_DROP_READ)
			model_line_drop_read(port, line, cpu, alias);
		else if (op->kind == OP_DROP_EXECUTED)
			model_line_drop_executed(port, state, (unsigned)at, cpu, alias);
		else if (!line->dirty)
			model_line_drop_read(port, line, cpu, true);
	}
	if (op->kind == OP_VIEW_CLOSE)
		state->rest.window = 0;
	if (op->kind != OP_VIEW_CLOSE)
		model_tell(port, "%s %s%#x", names[op->kind], alias ? "the alias of " : "",
		           op->address & ~WORLD_ALIAS);
	return OP_DONE;
}

/* ---- other cores ---- */

static bool others(const struct port *port, unsigned cpu, unsigned *i)
{
	if (*i == cpu)
		++*i;
	return *i < port->world->cpus;
}

static enum model_progress sync_cores(struct port *port, struct model_state *state, unsigned thread,
                                      struct model_frame *frame)
{
	unsigned cpu = model_cpu_of(port, thread);

	if (frame->started) {
		for (unsigned i = 0; others(port, cpu, &i); i++)
			if (state->cpu[i].sync == thread + 1)
				return OP_BLOCKED;
		model_tell(port, "knows that all cores have synchronised");
		return OP_DONE;
	}
	if (state->cpu[cpu].stores)
		return OP_BLOCKED;
	for (unsigned i = 0; others(port, cpu, &i); i++)
		if (state->cpu[i].sync)
			return OP_BLOCKED;
	model_synchronise(port, state, cpu);
	for (unsigned i = 0; others(port, cpu, &i); i++) {
		if (state->cpu[i].rest == REST_THERE)
			model_synchronise(port, state, i);
		else
			state->cpu[i].sync = (uint8_t)(thread + 1);
	}
	model_tell(port, "asks all cores to synchronise");
	return OP_BEGUN;
}

static void resume(const struct port *port, struct model_state *state, unsigned cpu)
{
	for (unsigned i = 0; others(port, cpu, &i); i++)
		state->cpu[i].rest = REST_NONE;
}

static enum model_progress stop(struct port *port, struct model_state *state, unsigned thread,
                                struct model_frame *frame, const struct model_op *op,
                                struct model_value *value)
{
	unsigned cpu = model_cpu_of(port, thread);
	bool all = true;

	if (!frame->started) {
		state->thread[thread].masked = 1;
		for (unsigned i = 0; others(port, cpu, &i); i++)
			state->cpu[i].rest = REST_ASKED;
		model_tell(port, "asks all other cores to stop");
		return OP_BEGUN;
	}
	for (unsigned i = 0; others(port, cpu, &i); i++)
		all = all && state->cpu[i].rest == REST_THERE;
	if (all || !model_rule(port->world, RULE_STOP)) {
		model_tell(port, "knows that all others have stopped");
		return OP_DONE;
	}
	if (!port->world->timeouts || op->forever)
		return OP_BLOCKED;
	resume(port, state, cpu);
	state->thread[thread].masked = 0;
	value->rc = -ETIMEDOUT;
	model_tell(port, "gives up: not all have stopped");
	return OP_DONE;
}

/* The caller's own core counts, too: it was interrupted somewhere. */
static int occupied(const struct port *port, const struct model_state *state,
                    const struct model_op *op)
{
	int count = 0;

	for (unsigned i = 0; i < port->world->threads && model_rule(port->world, RULE_OCCUPIED);
	     i++) {
		uint32_t pc = state->thread[i].pc;

		for (unsigned k = 0; pc && k < op->size; k++)
			count += pc >= op->range[k].start && pc < op->range[k].end;
	}
	return count;
}

/* By now the function runs, or has run, on this core, too. */
static enum model_progress run_on_all(struct port *port, struct model_state *state, unsigned thread,
                                      struct model_frame *frame, const struct model_op *op,
                                      struct model_value *value)
{
	unsigned cpu = model_cpu_of(port, thread);
	struct model_thread *t = &state->thread[thread];
	bool begun = false, asked = false;

	if (frame->started == 0) {
		if (t->frames == MODEL_FRAMES || state->cpu[cpu].stores)
			return OP_BLOCKED;
		for (unsigned i = 0; others(port, cpu, &i); i++)
			state->cpu[i].call[thread] = CALL_ASKED;
		t->frame[t->frames++] = (struct model_frame){
		        .node = model_root(port, FRAME_CALL, thread, 0, frame->node),
		        .kind = FRAME_CALL,
		        .owner = (uint8_t)thread};
		model_tell(port, "asks all cores to come");
		return OP_BEGUN;
	}
	for (unsigned i = 0; others(port, cpu, &i); i++) {
		begun = begun || state->cpu[i].call[thread] == CALL_BEGUN;
		asked = asked || state->cpu[i].call[thread] == CALL_ASKED;
	}
	if (!model_rule(port->world, RULE_RUN_ON_ALL))
		begun = asked = false;
	if (begun || (asked && (!port->world->timeouts || op->forever ||
	                        !model_rule(port->world, RULE_WITHDRAW))))
		return OP_BLOCKED;
	for (unsigned i = 0; others(port, cpu, &i); i++)
		state->cpu[i].call[thread] = CALL_NONE;
	value->rc = asked ? -ETIMEDOUT : 0;
	model_tell(port, asked ? "withdraws its request" : "knows that all have left");
	return OP_DONE;
}

static enum model_progress grace(struct port *port, struct model_state *state, unsigned thread,
                                 struct model_frame *frame)
{
	const struct world *world = port->world;
	bool waited_for = false;

	for (unsigned i = 0; i < world->threads; i++) {
		struct model_thread *t = &state->thread[i];
		bool inside = t->pc >= world->ours_start && t->pc < world->ours_end;

		if (i == thread)
			continue;
		/* A trap that was taken is not known to anybody until its handler begins. */
		if (!frame->started && (inside || (t->mode == MODE_TRAPPED && t->frames)))
			t->grace |= (uint8_t)(1u << thread);
		waited_for = waited_for || (t->grace >> thread & 1);
	}
	if (!frame->started) {
		model_tell(port, "waits for those in the trap path and in displaced copies");
		return OP_BEGUN;
	}
	if (waited_for && model_rule(world, RULE_GRACE))
		return OP_BLOCKED;
	model_tell(port, "knows that they have left");
	return OP_DONE;
}

/* ---- words ---- */

static enum model_progress atomic(struct port *port, struct model_state *state, unsigned cpu,
                                  const struct model_op *op, struct model_value *value)
{
	uint32_t first = port->words[op->word].first;
	uint32_t now = state->rest.word[op->word] ^ first;

	if (!model_word_free(port, &state->cpu[cpu], op->word))
		return OP_BLOCKED;
	if (op->kind == OP_ADD) {
		now += (uint32_t)op->a;
		value->rc = now;
		model_tell(port, "adds to %s: %u", model_word_name(port, op->word), now);
	} else {
		value->rc = now == op->a;
		if (value->rc)
			now = (uint32_t)op->b;
		model_tell(port, "compares and swaps %s: %s", model_word_name(port, op->word),
		           value->rc ? "done" : "it has changed");
	}
	state->rest.word[op->word] = now ^ first;
	return OP_DONE;
}

static enum model_progress wait(struct port *port, const struct model_state *state, unsigned cpu,
                                const struct model_op *op, struct model_value *value)
{
	uint32_t now = model_load_word(port, state, cpu, op->word);

	if (now == op->a && (op->forever || !port->world->timeouts) &&
	    model_rule(port->world, RULE_WAIT))
		return OP_BLOCKED;
	if (now == op->a && port->world->timeouts && !op->forever) {
		value->rc = -ETIMEDOUT;
		model_tell(port, "has waited long enough");
	} else {
		model_tell(port, "sees that it need not wait any longer");
	}
	return OP_DONE;
}

/* port_read is no port_load: weakly ordered, a load after it may have been there first; not before
 * the load before it, which everything waits for. Looked at in the trap path only. */
static uint32_t load_word(struct port *port, struct model_state *state, unsigned thread,
                          unsigned word)
{
	struct model_thread *t = &state->thread[thread];
	unsigned cpu = model_cpu_of(port, thread), i = 0;
	uint32_t value = model_load_word(port, state, cpu, word);

	if (port->machine->order != MACHINE_ORDER_WEAK ||
	    !model_rule(port->world, RULE_LOADS_LATE) || t->frame[t->frames - 1].kind != FRAME_TRAP)
		return value;
	if (t->before & 128) {
		uint32_t earlier =
		        port->snapshot[(t->before & 127) - 1][word] ^ port->words[word].first;

		if (earlier != value && model_choose(port, 2))
			value = earlier;
	}
	while (i < port->snapshots &&
	       memcmp(port->snapshot[i], state->rest.word, sizeof(state->rest.word)) != 0)
		i++;
	if (i == sizeof(port->snapshot) / sizeof(port->snapshot[0])) {
		model_fault(port, "too many different words");
		return value;
	}
	if (i == port->snapshots)
		memcpy(port->snapshot[port->snapshots++], state->rest.word,
		       sizeof(state->rest.word));
	t->before = (uint8_t)(i + 1);
	return value;
}

/* Does what the core goes on with wait for this, a DSB (or its like) being between them? */
static bool waits_at_dsb(const struct port *port, enum order_effect earlier)
{
	return order_waits_barrier(port->world->broken, ORDER_DSB, earlier, ORDER_OTHER);
}

static void finish_unlock(struct model_state *state, unsigned thread)
{
	if (state->rest.lock == thread + 1)
		state->rest.lock = 0;
	state->rest.writers = 0;
}

enum model_progress model_op(struct port *port, struct model_state *state, unsigned thread,
                             const struct model_op *op, struct model_value *value)
{
	struct model_thread *t = &state->thread[thread];
	struct model_frame *frame = &t->frame[t->frames - 1];
	unsigned cpu = model_cpu_of(port, thread);
	struct model_cpu *c = &state->cpu[cpu];

	if (op->skipped)
		return OP_DONE;
	switch (op->kind) {
	case OP_READ:
		if (t->before)
			t->before |= 128;
		return read_text(port, state, cpu, op, value);
	case OP_STORE:
	case OP_WRITE:
		return write_text(port, state, thread, frame, op, value);
	case OP_CLEAN:
	case OP_DROP_READ:
	case OP_DROP_EXECUTED:
	case OP_VIEW_CLOSE:
		return maintain(port, state, cpu, op);
	case OP_LOCK:
		if (state->rest.lock && port->world->timeouts && !op->forever && !c->stores) {
			value->rc = -ETIMEDOUT;
			model_tell(port, "has waited long enough for the lock");
			return OP_DONE;
		}
		if ((state->rest.lock && model_rule(port->world, RULE_LOCK)) || c->stores)
			return OP_BLOCKED;
		state->rest.lock = (uint8_t)(thread + 1);
		state->rest.writers = 0;
		model_tell(port, "takes the lock");
		return OP_DONE;
	case OP_UNLOCK:
		if (c->stores)
			return OP_BLOCKED;
		finish_unlock(state, thread);
		model_tell(port, "releases the lock");
		return OP_DONE;
	case OP_SYNC_CORES:
		return sync_cores(port, state, thread, frame);
	case OP_SYNC_SELF:
		model_synchronise(port, state, cpu);
		model_tell(port, "synchronises itself");
		return OP_DONE;
	case OP_STOP:
		return stop(port, state, thread, frame, op, value);
	case OP_RESUME:
		resume(port, state, cpu);
		t->masked = 0;
		model_tell(port, "lets all others go on");
		return OP_DONE;
	case OP_OCCUPIED:
		value->rc = occupied(port, state, op);
		model_tell(port, "finds %d threads inside", (int)value->rc);
		return OP_DONE;
	case OP_RUN_ON_ALL:
		return run_on_all(port, state, thread, frame, op, value);
	case OP_MASK:
		value->rc = t->masked;
		t->masked = model_rule(port->world, RULE_MASK);
		model_tell(port, "masks exceptions");
		return OP_DONE;
	case OP_UNMASK:
		t->masked = op->a != 0;
		model_tell(port, "unmasks exceptions");
		return OP_DONE;
	case OP_WAIT:
		return wait(port, state, cpu, op, value);
	case OP_LOAD:
		value->rc = load_word(port, state, thread, op->word);
		model_tell(port, "reads %s: %u", model_word_name(port, op->word),
		           (unsigned)value->rc);
		return OP_DONE;
	case OP_SET:
		if (!model_buffer_room(c, 1))
			return OP_BLOCKED;
		model_store_word(port, state, cpu, op->word, (uint32_t)op->a);
		model_tell(port, "sets %s to %d", model_word_name(port, op->word), (int)op->a);
		return OP_DONE;
	case OP_ADD:
	case OP_CAS:
		return atomic(port, state, cpu, op, value);
	case OP_COMPLETE:
		if ((c->stores && waits_at_dsb(port, ORDER_WRITE)) ||
		    (t->load && waits_at_dsb(port, ORDER_READ)))
			return OP_BLOCKED;
		t->before = 0;
		model_tell(port, "has completed everything before");
		return OP_DONE;
	case OP_MAP:
		for (unsigned i = 0; i < op->size; i += WORLD_LINE)
			state->line[model_line_at(port, op->address + i)].absent = 0;
		model_tell(port, "maps %#x", op->address);
		return OP_DONE;
	case OP_GRACE:
		return grace(port, state, thread, frame);
	case OP_EXPECT:
		state->rest.allowed[op->a] = (uint8_t)op->b;
		return OP_DONE;
	case OP_ASSERT:
		model_violated(port, "%s", op->text);
		return OP_DONE;
	case OP_RECLAIM:
		state->rest.reclaimed = 1;
		return OP_DONE;
	case OP_RETURN:
		break;
	}
	return OP_BLOCKED;
}
