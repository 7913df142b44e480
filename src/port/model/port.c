/* SPDX-License-Identifier: MIT */
/*
 * port.c - port.h as the protocol calls it: each call is answered from the record, or asked.
 */
#include <errno.h>
#include <string.h>
#include "port/model/model.h"

/* The recorded answer; does not return if there is none yet. */
static const struct model_value *call(struct port *port, const struct model_op *op)
{
	bool skip = port->skip;

	port->skip = false;
	if (port->replay[port->replay_depth].at < port->replay[port->replay_depth].length) {
		unsigned depth = port->replay_depth;

		return &port->replay[depth].values[port->replay[depth].at++];
	}
	port->asked = *op;
	port->asked.skipped = skip;
	longjmp(port->back, 1);
}

/* A shared word by its place: in the world's memory, or on the stack of the code that runs. Those
 * of the world begin with what is there, others with anything. */
static uint32_t word_of(struct port *port, const uint32_t *word)
{
	const uint8_t *memory = port->world->memory;
	bool ours = (const uint8_t *)word >= memory &&
	            (const uint8_t *)word < memory + sizeof(port->world->memory);
	uintptr_t depth = (uintptr_t)(port->replay_base - (const char *)word);
	uintptr_t key = ours ? (uintptr_t)word : depth * WORLD_THREADS + port->replay_thread;
	unsigned i = 0;

	if (!ours && depth > 256 * 1024) {
		model_fault(port, "a shared word that is neither the world's nor on the stack");
		return 0;
	}
	while (i < port->words_count && port->words[i].key != key)
		i++;
	if (i == port->words_count) {
		if (i == MODEL_WORDS) {
			model_fault(port, "too many shared words");
			return 0;
		}
		port->words[port->words_count].key = key;
		port->words[port->words_count].on_stack = !ours;
		port->words[port->words_count++].first = ours ? *word : 0xA5A5A5A5u;
	}
	return i;
}

const struct port_caps *port_caps(const struct port *port)
{
	return &port->caps;
}

void port_point(struct port *port, enum port_point point)
{
	port->skip = point != PORT_POINT_NONE && port->world->without == (unsigned)point;
}

/* ---- text ---- */

int port_read(struct port *port, uint64_t address, void *buffer, size_t size)
{
	struct model_op op = {.kind = OP_READ, .address = (uint32_t)address, .size = (uint8_t)size};
	const struct model_value *value;

	if (size > MODEL_DATA)
		return -EINVAL;
	value = call(port, &op);
	memcpy(buffer, value->data, size);
	return (int)value->rc;
}

int port_lock(struct port *port, uint64_t deadline_ns)
{
	struct model_op op = {.kind = OP_LOCK, .forever = deadline_ns == PORT_FOREVER};

	return (int)call(port, &op)->rc;
}

void port_unlock(struct port *port)
{
	struct model_op op = {.kind = OP_UNLOCK};

	call(port, &op);
}

int port_view_open(struct port *port, uint64_t address, size_t size, struct port_view *view)
{
	(void)port;
	*view = (struct port_view){
	        .address = address, .size = size, .alias = address | WORLD_ALIAS};
	return 0;
}

void port_view_close(struct port *port, struct port_view *view)
{
	struct model_op op = {.kind = OP_VIEW_CLOSE,
	                      .address = (uint32_t)view->alias,
	                      .size = (uint8_t)view->size};

	call(port, &op);
}

static int text_op(struct port *port, enum model_kind kind, struct port_view *view,
                   uint64_t address, const void *bytes, size_t size)
{
	struct model_op op = {.kind = kind,
	                      .address = (uint32_t)(view->alias + (address - view->address)),
	                      .size = (uint8_t)size};

	if (size > MODEL_DATA)
		return -EINVAL;
	memcpy(op.data, bytes, size);
	return (int)call(port, &op)->rc;
}

int port_store(struct port *port, struct port_view *view, uint64_t address, const void *bytes,
               size_t size)
{
	if (size > port->caps.store_unit || (size & (size - 1)) || address % size)
		return -EINVAL;
	return text_op(port, OP_STORE, view, address, bytes, size);
}

int port_write(struct port *port, struct port_view *view, uint64_t address, const void *bytes,
               size_t size)
{
	return text_op(port, OP_WRITE, view, address, bytes, size);
}

static void range_op(struct port *port, enum model_kind kind, uint64_t address, size_t size)
{
	struct model_op op = {.kind = kind, .address = (uint32_t)address, .size = (uint8_t)size};

	call(port, &op);
}

void port_clean_written(struct port *port, const struct port_view *view, uint64_t address,
                        size_t size)
{
	range_op(port, OP_CLEAN, view->alias + (address - view->address), size);
}

void port_drop_read(struct port *port, uint64_t address, size_t size)
{
	range_op(port, OP_DROP_READ, address, size);
}

void port_drop_executed(struct port *port, uint64_t address, size_t size)
{
	range_op(port, OP_DROP_EXECUTED, address, size);
}

int port_sync_cores(struct port *port)
{
	struct model_op op = {.kind = OP_SYNC_CORES};

	return (int)call(port, &op)->rc;
}

void port_sync_self(struct port *port)
{
	struct model_op op = {.kind = OP_SYNC_SELF};

	call(port, &op);
}

/* ---- quiescence ---- */

int port_stop(struct port *port, uint64_t deadline_ns)
{
	struct model_op op = {.kind = OP_STOP, .forever = deadline_ns == PORT_FOREVER};

	return (int)call(port, &op)->rc;
}

void port_resume(struct port *port)
{
	struct model_op op = {.kind = OP_RESUME};

	call(port, &op);
}

int port_occupied(struct port *port, const struct port_range *ranges, size_t n)
{
	struct model_op op = {.kind = OP_OCCUPIED, .size = (uint8_t)n};

	if (n == 0)
		return 0;
	if (n > 2)
		return -EINVAL;
	memcpy(op.range, ranges, n * sizeof(*ranges));
	return (int)call(port, &op)->rc;
}

/* Nothing but the text remembers ranges here. */
int port_forget(struct port *port, const struct port_range *ranges, size_t n)
{
	(void)port, (void)ranges, (void)n;
	return 0;
}

int port_run_on_all(struct port *port, port_core_fn fn, void *arg, uint64_t deadline_ns)
{
	struct model_op op = {.kind = OP_RUN_ON_ALL, .forever = deadline_ns == PORT_FOREVER};
	unsigned depth = port->replay_depth;

	/* The code that runs on all cores runs here, on top of who asked for it. */
	if (depth < port->replay_top && port->replay[depth].at == port->replay[depth].length) {
		port->replay_depth++;
		port->skip = false;
		fn(port, port->world->cpus, arg);
		port->asked = (struct model_op){.kind = OP_RETURN};
		longjmp(port->back, 1);
	}
	return (int)call(port, &op)->rc;
}

uint64_t port_mask(struct port *port)
{
	struct model_op op = {.kind = OP_MASK};

	return (uint64_t)call(port, &op)->rc;
}

void port_unmask(struct port *port, uint64_t state)
{
	struct model_op op = {.kind = OP_UNMASK, .a = state};

	call(port, &op);
}

int port_wait(struct port *port, const uint32_t *word, uint32_t value, uint64_t deadline_ns)
{
	struct model_op op = {.kind = OP_WAIT,
	                      .word = word_of(port, word),
	                      .a = value,
	                      .forever = deadline_ns == PORT_FOREVER};

	return (int)call(port, &op)->rc;
}

void port_pause(struct port *port, uint64_t ns)
{
	(void)port, (void)ns;
}

uint32_t port_load(struct port *port, const uint32_t *word)
{
	struct model_op op = {.kind = OP_LOAD, .word = word_of(port, word)};

	return (uint32_t)call(port, &op)->rc;
}

void port_set(struct port *port, uint32_t *word, uint32_t value)
{
	struct model_op op = {.kind = OP_SET, .word = word_of(port, word), .a = value};

	call(port, &op);
}

uint32_t port_add(struct port *port, uint32_t *word, uint32_t n)
{
	struct model_op op = {.kind = OP_ADD, .word = word_of(port, word), .a = n};

	return (uint32_t)call(port, &op)->rc;
}

bool port_cas(struct port *port, uint32_t *word, uint32_t from, uint32_t to)
{
	struct model_op op = {.kind = OP_CAS, .word = word_of(port, word), .a = from, .b = to};

	return call(port, &op)->rc;
}

void port_complete(struct port *port)
{
	struct model_op op = {.kind = OP_COMPLETE};

	call(port, &op);
}

/* ---- executable memory, traps ---- */

int port_map_exec(struct port *port, const struct port_pages *pages, size_t n)
{
	struct model_op op = {.kind = OP_MAP};

	if (n != 1)
		return -EINVAL;
	op.address = (uint32_t)pages->address;
	op.size = (uint8_t)pages->size;
	return (int)call(port, &op)->rc;
}

int port_unmap_exec(struct port *port)
{
	(void)port;
	return -ENOTSUP;
}

int port_grace(struct port *port, uint64_t deadline_ns)
{
	struct model_op op = {.kind = OP_GRACE, .forever = deadline_ns == PORT_FOREVER};

	return (int)call(port, &op)->rc;
}

/* The world's trap path is there from the start. */
int port_trap_attach(struct port *port, port_trap_fn handler, void *arg)
{
	(void)port, (void)handler, (void)arg;
	return -ENOTSUP;
}

void port_trap_detach(struct port *port)
{
	(void)port;
}

/* ---- what scenario threads say ---- */

void world_expect(struct port *port, unsigned site, unsigned states)
{
	struct model_op op = {.kind = OP_EXPECT, .a = site, .b = states};

	call(port, &op);
}

void world_assert(struct port *port, bool condition, const char *property)
{
	struct model_op op = {.kind = OP_ASSERT, .text = property};

	if (!condition)
		call(port, &op);
}

void world_reclaim(struct port *port)
{
	struct model_op op = {.kind = OP_RECLAIM};

	call(port, &op);
}
