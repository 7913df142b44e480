/* SPDX-License-Identifier: MIT */
/*
 * execute.c - a core fetches and executes one instruction of the text.
 *
 * The instruction is put together of the units of the ISA, which are fetched whole (x86: bytes;
 * T32: halfwords), each from any content that the core may find. What comes out must be an
 * instruction that is right at that address, or a trap; and while a fetch may find more than one,
 * all of them must be of those that the ISA lets be changed while they are executed. Everything
 * else is a violation, whatever a real core would make of it.
 */
#include <stdio.h>
#include <string.h>
#include "port/model/model.h"

/* The different values that the fetch may find; all in `values`. */
static unsigned candidates(struct port *port, const struct model_line *line, unsigned cpu,
                           unsigned offset, unsigned size, uint8_t values[][4])
{
	unsigned n = 0;

	for (unsigned v = model_line_floor(port, line, cpu); v <= versions_newest(&line->history);
	     v++) {
		const uint8_t *bytes = port->contents[line->content[v]] + offset;
		unsigned i = 0;

		while (i < n && memcmp(values[i], bytes, size) != 0)
			i++;
		if (i == n)
			memcpy(values[n++], bytes, size);
	}
	return n;
}

/* False after a violation. */
static bool fetch_atom(struct port *port, const struct model_state *state, unsigned cpu,
                       uint32_t address, unsigned size, uint8_t *out)
{
	const struct isa *isa = port->world->isa;
	int index = model_line_at(port, address);
	uint8_t values[MODEL_VERSIONS][4];
	unsigned n, offset;

	if (index < 0 || state->line[index].absent) {
		model_violated(port, "core %u executes at %#x, where nothing is mapped", cpu,
		               address);
		return false;
	}
	offset = address - port->world->line_address[index];
	if (offset + size > WORLD_LINE)
		size = WORLD_LINE - offset;
	n = candidates(port, &state->line[index], cpu, offset, size, values);
	for (unsigned i = 0; n > 1 && isa->unit > 1 && i < n; i++) {
		if (!model_rule(port->world, RULE_HOTPATCH))
			break;
		for (unsigned k = 0; k < n; k++)
			if (i != k && !isa->hotpatch_safe(values[i], values[k], size, address)) {
				model_violated(port,
				               "core %u may execute the instruction at %#x while "
				               "it is changed, and it is not one that may be",
				               cpu, address);
				return false;
			}
	}
	memcpy(out, values[model_choose(port, n)], size);
	return true;
}

static bool has_prefix(const struct port *port, uint32_t pc, const uint8_t *bytes, unsigned n)
{
	for (unsigned i = 0; i < port->world->forms; i++) {
		const struct world_form *form = &port->world->form[i];

		if (form->address == pc && form->length >= n && memcmp(form->bytes, bytes, n) == 0)
			return true;
	}
	return false;
}

static const struct world_form *exact(const struct port *port, uint32_t pc, const uint8_t *bytes,
                                      unsigned n)
{
	for (unsigned i = 0; i < port->world->forms; i++) {
		const struct world_form *form = &port->world->form[i];

		if (form->address == pc && form->length == n && memcmp(form->bytes, bytes, n) == 0)
			return form;
	}
	return NULL;
}

static void torn(struct port *port, unsigned cpu, uint32_t pc, const uint8_t *bytes, unsigned n)
{
	char hex[3 * ISA_INSN_MAX + 1] = "";

	for (unsigned i = 0; i < n; i++)
		snprintf(hex + 3 * i, 4, " %02x", bytes[i]);
	model_violated(port, "core %u executes%s at %#x, which is neither old nor new", cpu, hex,
	               pc);
}

/* The instruction at pc: a form, or NULL and *trap, or NULL after a violation. */
static const struct world_form *fetch(struct port *port, const struct model_state *state,
                                      unsigned cpu, uint32_t pc, bool *trap)
{
	const struct isa *isa = port->world->isa;
	uint8_t bytes[ISA_INSN_MAX + 4];
	unsigned n = 0;

	*trap = false;
	for (;;) {
		const struct world_form *form;
		unsigned size = isa->unit;

		if (!fetch_atom(port, state, cpu, pc + n, size, bytes + n))
			return NULL;
		n += size;
		form = exact(port, pc, bytes, n);
		if (form)
			return form;
		if (n >= isa->trap_length && isa->is_trap(bytes, n)) {
			*trap = true;
			return NULL;
		}
		if (!has_prefix(port, pc, bytes, n) || n >= ISA_INSN_MAX) {
			torn(port, cpu, pc, bytes, n);
			return NULL;
		}
	}
}

static bool legal_now(struct port *port, const struct model_state *state, unsigned cpu,
                      const struct world_form *form)
{
	const struct world *world = port->world;

	if (state->rest.reclaimed && model_rule(world, RULE_RECLAIMED) &&
	    form->address >= world->ours_start && form->address < world->ours_end) {
		model_violated(port, "core %u executes a displaced copy that was given back", cpu);
		return false;
	}
	if (form->site == WORLD_NO_SITE || !model_rule(world, RULE_OLD_GONE) ||
	    (state->rest.allowed[form->site] & form->states))
		return true;
	model_violated(port, "core %u executes the %s instruction after the call has returned", cpu,
	               form->states == WORLD_OLD ? "old" : "new");
	return false;
}

/* A trap that is not part of what the site is now should be gone. */
static bool trap_legal_now(struct port *port, const struct model_state *state, unsigned cpu,
                           uint32_t pc)
{
	const struct world *world = port->world;

	for (unsigned i = 0; i < world->sites && model_rule(world, RULE_TRAP_GONE); i++) {
		const struct world_site *site = &world->site[i];
		uint32_t offset = pc - site->address;
		const uint8_t *now =
		        state->rest.allowed[i] == WORLD_OLD ? site->original : site->patched;

		if (offset >= site->length || state->rest.allowed[i] == WORLD_ANY ||
		    world->isa->is_trap(now + offset, site->length - offset))
			continue;
		model_violated(port, "core %u executes a trap of ours after the call has returned",
		               cpu);
		return false;
	}
	return true;
}

static void went_on(struct port *port, struct model_state *state, unsigned cpu)
{
	struct model_cpu *c = &state->cpu[cpu];

	/* The end of what was fetched ahead. */
	if (c->ahead && --c->ahead == 0)
		for (unsigned i = 0; i < port->world->lines; i++)
			state->line[i].fetched[cpu] = state->line[i].cached[cpu];
}

/* Threads that somebody waits for have left, once they run other text. */
static void leave(struct port *port, struct model_state *state, unsigned thread)
{
	uint32_t pc = state->thread[thread].pc;

	if (pc < port->world->ours_start || pc >= port->world->ours_end)
		state->thread[thread].grace = 0;
}

static const char *described(const struct world_form *form)
{
	if (form->site == WORLD_NO_SITE)
		return "other text";
	return form->states == WORLD_OLD ? "old" : form->states == WORLD_NEW ? "new" : "text";
}

/* A handler of an exception ends where it would begin again, or at a place of its own. */
static void go_to(struct port *port, struct model_state *state, unsigned thread, uint32_t next)
{
	struct model_thread *t = &state->thread[thread];

	if (!t->vector) {
		t->pc = next;
		return;
	}
	t->vector = next;
	if (next != port->world->vector && next != port->world->vector_end)
		return;
	t->vector = 0;
	t->began = t->interrupted;
	t->interrupted = 0;
	model_tell(port, "returns from the exception");
	model_exception(port, state, model_cpu_of(port, thread));
}

static void take_trap(struct port *port, struct model_state *state, unsigned thread, uint32_t pc)
{
	struct model_thread *t = &state->thread[thread];
	unsigned cpu = model_cpu_of(port, thread);

	if (!trap_legal_now(port, state, cpu, pc))
		return;
	if (t->vector)
		model_violated(port, "core %u takes a trap of ours in an exception", cpu);
	model_tell(port, "executes the trap at %#x: taken", pc);
	t->mode = MODE_TRAPPED;
	t->turning = 1;
	/* At the head it is of neither state yet. */
	for (unsigned i = 0; i < port->world->sites; i++)
		if (port->world->site[i].address == pc)
			t->began = WORLD_ANY;
	model_exception(port, state, cpu);
}

bool model_execute(struct port *port, struct model_state *state, unsigned thread)
{
	struct model_thread *t = &state->thread[thread];
	unsigned cpu = model_cpu_of(port, thread);
	uint32_t pc = t->vector ? t->vector : t->pc;
	const struct world_form *form;
	bool trap;

	if (t->load)
		return false; /* one load under way at a time */
	form = fetch(port, state, cpu, pc, &trap);
	if (trap)
		take_trap(port, state, thread, pc);
	if (!form || !legal_now(port, state, cpu, form))
		return true;
	if (form->follows && !(form->follows & t->began) &&
	    model_rule(port->world, RULE_SEQUENCE)) {
		model_violated(port,
		               "core %u goes on in the %s code at %#x what it began in the other",
		               cpu, form->follows == WORLD_OLD ? "old" : "new", pc);
		return true;
	}
	t->turning = 0;
	t->began = form->begins ? form->begins : form->follows;
	model_tell(port, "executes %s at %#x", described(form), pc);
	went_on(port, state, cpu);
	go_to(port, state, thread, form->other && model_choose(port, 2) ? form->other : form->next);
	leave(port, state, thread);
	if (form->literal) {
		t->load = (uint8_t)(1 + (form - port->world->form));
		if (port->machine->order != MACHINE_ORDER_WEAK ||
		    !model_rule(port->world, RULE_LATE_LOAD))
			model_complete_load(port, state, thread);
		else
			model_tell(port, "; its load is under way");
	}
	return true;
}

void model_execute_elsewhere(struct port *port, struct model_state *state, unsigned cpu,
                             uint32_t address, const char *what)
{
	bool trap;
	const struct world_form *form = fetch(port, state, cpu, address, &trap);

	if (trap)
		model_violated(port, "core %u takes a trap of ours %s", cpu, what);
	else if (form && legal_now(port, state, cpu, form))
		model_tell(port, "executes %s at %#x %s", described(form), address, what);
}

bool model_complete_load(struct port *port, struct model_state *state, unsigned thread)
{
	struct model_thread *t = &state->thread[thread];
	const struct world_form *form = &port->world->form[t->load - 1];
	int line = model_line_at(port, form->literal);
	uint8_t bytes[WORLD_LINE];
	uint8_t found;

	model_line_read(port, state, (unsigned)line, model_cpu_of(port, thread), false, bytes);
	found = bytes[form->literal - port->world->line_address[line]];
	t->load = 0;
	model_tell(port, "its load completes: %02x", found);
	if (found != form->loads)
		model_violated(port,
		               "the %s instruction has loaded %02x, which belongs to the other one",
		               form->states == WORLD_OLD ? "old" : "new", found);
	return true;
}
