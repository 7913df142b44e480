/* SPDX-License-Identifier: MIT */
/*
 * replay.c - what protocol code does next, given what its port calls have returned so far.
 *
 * The code is run from its start; each port call returns the recorded value, and the first one that
 * has none is what is asked for: it is noted, and a longjmp leaves the code where it stands. What
 * runs on all cores (port_run_on_all) runs on top of its caller, so that what it is passed is
 * there. Each sequence of values is run once; the node remembers what it asked for.
 */
#include <stdlib.h>
#include <string.h>
#include "port/model/model.h"

static uint32_t new_node(struct port *port, uint32_t parent, uint32_t root)
{
	struct model_node *node;

	if (port->nodes_count == port->nodes_room) {
		uint32_t room = port->nodes_room ? port->nodes_room * 2 : 1024;
		struct model_node *nodes = realloc(port->nodes, room * sizeof(*nodes));

		if (!nodes) {
			model_fault(port, "out of memory");
			return 0;
		}
		port->nodes = nodes;
		port->nodes_room = room;
	}
	node = &port->nodes[port->nodes_count];
	memset(node, 0, sizeof(*node));
	node->parent = parent;
	node->root = root;
	return port->nodes_count++;
}

uint32_t model_root(struct port *port, uint8_t kind, unsigned thread, uint64_t pc, uint32_t outer)
{
	struct model_root *root;

	for (unsigned i = 0; i < port->roots_count; i++) {
		root = &port->roots[i];
		if (root->kind == kind && root->thread == thread && root->pc == pc &&
		    root->outer == outer)
			return root->node;
	}
	if (port->roots_count == MODEL_ROOTS) {
		model_fault(port, "too many different calls");
		return 0;
	}
	root = &port->roots[port->roots_count];
	*root = (struct model_root){
	        .kind = kind, .thread = (uint8_t)thread, .pc = pc, .outer = outer};
	root->node = new_node(port, 0, port->roots_count++);
	return root->node;
}

uint32_t model_next(struct port *port, uint32_t node, const struct model_value *value)
{
	uint32_t child = port->nodes[node].child;

	while (child && memcmp(&port->nodes[child].value, value, sizeof(*value)) != 0)
		child = port->nodes[child].sibling;
	if (child)
		return child;
	child = new_node(port, node, port->nodes[node].root);
	if (!child)
		return 0;
	port->nodes[child].value = *value;
	port->nodes[child].length = port->nodes[node].length + 1;
	port->nodes[child].sibling = port->nodes[node].child;
	port->nodes[node].child = child;
	return child;
}

/* The values that lead to the node. */
static void load_values(struct port *port, unsigned depth, uint32_t node)
{
	unsigned length = port->nodes[node].length;

	if (length > MODEL_VALUES) {
		model_fault(port, "a thread makes too many port calls");
		length = 0;
	}
	port->replay[depth].values = port->replay_values[depth];
	port->replay[depth].length = length;
	port->replay[depth].at = 0;
	for (unsigned i = length; i-- > 0; node = port->nodes[node].parent)
		port->replay_values[depth][i] = port->nodes[node].value;
}

static __attribute__((noinline)) void run(struct port *port, const struct model_root *root)
{
	const struct world *world = port->world;
	struct model_op *asked = &port->asked;

	port->replay_base = __builtin_frame_address(0);
	port->skip = false;
	if (setjmp(port->back))
		return;
	if (root->kind == FRAME_TRAP) {
		asked->a = world->trap(port, root->pc, world->trap_arg);
	} else {
		const struct world_thread *thread = &world->thread[root->thread];

		thread->calls(port, thread->arg);
	}
	asked->kind = OP_RETURN;
}

const struct model_op *model_ask(struct port *port, uint32_t node)
{
	const struct model_root *root = &port->roots[port->nodes[node].root];
	const struct model_root *outer = root;

	if (port->nodes[node].known)
		return &port->nodes[node].op;
	memset(&port->asked, 0, sizeof(port->asked));
	port->replay_depth = 0;
	port->replay_top = root->kind == FRAME_CALL;
	load_values(port, port->replay_top, node);
	if (root->kind == FRAME_CALL) {
		load_values(port, 0, root->outer);
		outer = &port->roots[port->nodes[root->outer].root];
	}
	port->replay_thread = outer->thread;
	run(port, outer);
	port->nodes[node].op = port->asked;
	port->nodes[node].known = true;
	return &port->nodes[node].op;
}
