/* SPDX-License-Identifier: MIT */
/*
 * store.c - stores on their way from a CPU to the caches.
 */
#include <string.h>
#include "port/model/model.h"

enum { STORE_TEXT = 1, STORE_WORD = 2 };

const char model_drained[] = "its store";

const char *model_word_name(const struct port *port, unsigned word)
{
	if (port->words[word].on_stack)
		return "a word of the call";
	for (unsigned i = 0; i < sizeof(port->world->names) / sizeof(port->world->names[0]); i++)
		if ((uintptr_t)port->world->names[i].word == port->words[word].key)
			return port->world->names[i].name;
	return "a shared word";
}

bool model_buffer_room(const struct model_cpu *cpu, unsigned n)
{
	return cpu->stores + n <= MODEL_STORES;
}

/* Are stores visible at once? */
static bool at_once(const struct port *port)
{
	return port->machine->order == MACHINE_ORDER_PROGRAM ||
	       !model_rule(port->world, RULE_BUFFER);
}

static void push(struct model_cpu *cpu, const struct model_store *store)
{
	cpu->store[cpu->stores++] = *store;
}

static unsigned piece_of(struct port *port, const struct model_piece *piece)
{
	unsigned i = 0;

	while (i < port->pieces_count && memcmp(&port->pieces[i], piece, sizeof(*piece)) != 0)
		i++;
	if (i == MODEL_PIECES) {
		model_fault(port, "too many different stores");
		return 0;
	}
	if (i == port->pieces_count)
		port->pieces[port->pieces_count++] = *piece;
	return i;
}

void model_store_text(struct port *port, struct model_state *state, unsigned cpu, uint32_t address,
                      const uint8_t *bytes, unsigned size)
{
	bool alias = address & WORLD_ALIAS;

	while (size) {
		int line = model_line_at(port, address);
		struct model_piece piece = {0};
		unsigned n = 0, offset;

		if (line < 0) {
			model_fault(port, "a store to text that is not there");
			return;
		}
		offset = (address & ~WORLD_ALIAS) - port->world->line_address[line];
		for (; n < size && offset + n < WORLD_LINE; n++) {
			piece.mask |= (uint16_t)(1u << (offset + n));
			piece.bytes[offset + n] = bytes[n];
		}
		if (at_once(port)) {
			model_line_store(port, state, (unsigned)line, cpu, alias, &piece);
		} else {
			struct model_store store = {.kind = STORE_TEXT,
			                            .index = (uint8_t)line,
			                            .alias = alias,
			                            .value = piece_of(port, &piece)};

			push(&state->cpu[cpu], &store);
		}
		address += n;
		bytes += n;
		size -= n;
	}
}

static void set_word(const struct port *port, struct model_state *state, unsigned word,
                     uint32_t value)
{
	state->rest.word[word] = value ^ port->words[word].first;
}

void model_store_word(struct port *port, struct model_state *state, unsigned cpu, unsigned word,
                      uint32_t value)
{
	struct model_store store = {
	        .kind = STORE_WORD, .index = (uint8_t)word, .release = 1, .value = value};

	if (at_once(port))
		set_word(port, state, word, value);
	else
		push(&state->cpu[cpu], &store);
}

uint32_t model_load_word(const struct port *port, const struct model_state *state, unsigned cpu,
                         unsigned word)
{
	const struct model_cpu *c = &state->cpu[cpu];

	for (unsigned i = c->stores; i-- > 0 && model_rule(port->world, RULE_FORWARD);)
		if (c->store[i].kind == STORE_WORD && c->store[i].index == word)
			return c->store[i].value;
	return state->rest.word[word] ^ port->words[word].first;
}

bool model_word_free(const struct port *port, const struct model_cpu *cpu, unsigned word)
{
	if (port->machine->order == MACHINE_ORDER_TSO)
		return cpu->stores == 0;
	for (unsigned i = 0; i < cpu->stores; i++)
		if (cpu->store[i].kind == STORE_WORD && cpu->store[i].index == word)
			return false;
	return true;
}

/* A load that was issued before a release completes before it. */
static bool load_under_way(const struct port *port, const struct model_state *state, unsigned cpu)
{
	for (unsigned i = 0; i < port->world->threads; i++)
		if (model_cpu_of(port, i) == cpu && state->thread[i].load)
			return true;
	return false;
}

static struct order_event event_of(const struct model_store *store)
{
	return (struct order_event){.effect = ORDER_WRITE, .release = store->release};
}

/* Does store i wait for the earlier store k? */
static bool waits_for(const struct port *port, const struct model_cpu *c, unsigned i, unsigned k)
{
	const struct order_event earlier = event_of(&c->store[k]), later = event_of(&c->store[i]);

	if (port->machine->order == MACHINE_ORDER_TSO && model_rule(port->world, RULE_FIFO))
		return true;
	if (c->store[k].kind == c->store[i].kind && c->store[k].index == c->store[i].index &&
	    order_waits_same(port->world->broken, ORDER_WRITE, ORDER_WRITE))
		return true;
	return order_waits(port->world->broken, &earlier, &later);
}

static bool may_drain(const struct port *port, const struct model_state *state, unsigned cpu,
                      unsigned i)
{
	static const struct order_event load = {.effect = ORDER_READ};
	const struct model_cpu *c = &state->cpu[cpu];
	const struct order_event store = event_of(&c->store[i]);

	if (store.release && load_under_way(port, state, cpu) &&
	    order_waits(port->world->broken, &load, &store))
		return false;
	for (unsigned k = 0; k < i; k++)
		if (waits_for(port, c, i, k))
			return false;
	return true;
}

bool model_drain(struct port *port, struct model_state *state, unsigned cpu, unsigned i)
{
	struct model_cpu *c = &state->cpu[cpu];
	struct model_store store;

	if (i >= c->stores || !may_drain(port, state, cpu, i))
		return false;
	store = c->store[i];
	c->stores--;
	memmove(&c->store[i], &c->store[i + 1], (c->stores - i) * sizeof(store));
	memset(&c->store[c->stores], 0, sizeof(store));
	if (store.kind == STORE_WORD) {
		model_tell(port, "%s of %s becomes visible", model_drained,
		           model_word_name(port, store.index));
		set_word(port, state, store.index, store.value);
	} else {
		model_tell(port, "%s to text leaves the store buffer", model_drained);
		model_line_store(port, state, store.index, cpu, store.alias,
		                 &port->pieces[store.value]);
	}
	return true;
}
