/* SPDX-License-Identifier: MIT */
/*
 * handler.c - a look at the code of a handler.
 *
 * Followed along all its ways; what it calls is not: a function may be hooked one day. So handlers
 * that call nothing may be found to need no vector registers, and all others are said to.
 */
#include <string.h>
#include "api/own/handler.h"
#include "api/own/point.h"

enum { HEADS_MAX = 256, KNOWN_MAX = 32 };

struct walk {
	uint64_t heads[HEADS_MAX]; /* where a way begins */
	unsigned count, next;
	unsigned instructions;
};

static bool add(struct walk *walk, uint64_t head)
{
	for (unsigned i = 0; i < walk->count; i++)
		if (walk->heads[i] == head)
			return true;
	if (walk->count == HEADS_MAX)
		return false;
	walk->heads[walk->count++] = head;
	return true;
}

/* Along one way to its end. False: vector registers, or nobody knows. */
static bool follow(struct walk *walk, uint64_t at)
{
	for (; walk->instructions < 16 * HEADS_MAX; walk->instructions++) {
		uint8_t code[ISA_INSN_MAX];
		struct isa_insn insn;
		int n;

		if (own_read((void *)(uintptr_t)at, code, sizeof(code)))
			return false;
		points_undo(at, code, sizeof(code));
		n = isa_x86_64.decode(code, sizeof(code), at, &insn);
		/* What is switched may lead elsewhere tomorrow. */
		if (n < 1 || !isa_x86_64.general_only(code, (size_t)n) ||
		    keys_use(at, at + (uint64_t)n) || edits_meet(at, at + (uint64_t)n))
			return false;
		switch (insn.class) {
		case ISA_RETURN:
			return true;
		case ISA_BRANCH:
			return add(walk, insn.target);
		case ISA_BRANCH_IF:
			if (!add(walk, insn.target))
				return false;
			break;
		case ISA_PLAIN:
		case ISA_PC_RELATIVE:
		case ISA_LANDING:
			break;
		default:
			return false;
		}
		at += (uint64_t)n;
	}
	return false;
}

static bool looks_general(suture_probe_fn handler)
{
	struct walk walk = {.heads = {(uintptr_t)handler}, .count = 1};

	while (walk.next < walk.count)
		if (!follow(&walk, walk.heads[walk.next++]))
			return false;
	return true;
}

/* Many probes have one handler; the last ones that were looked at in this call. */
static struct known {
	suture_probe_fn handler;
	bool vector;
} known[KNOWN_MAX];

void handler_forget(void)
{
	memset(known, 0, sizeof(known));
}

bool handler_uses_vector(suture_probe_fn handler)
{
	struct known *slot = &known[(uintptr_t)handler / 16 % KNOWN_MAX];

	if (!handler)
		return false;
	if (slot->handler != handler)
		*slot = (struct known){handler, !looks_general(handler)};
	return slot->vector;
}
