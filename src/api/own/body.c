/* SPDX-License-Identifier: MIT */
/*
 * body.c - code that a point leads to.
 */
#include <errno.h>
#include <stdlib.h>
#include "api/own/point.h"

enum {
	CLOSE = 512 << 20, /* so near that what a copy refers to is in reach, too */
	SLACK = 24,
	ALIGN = 8,
};

/* A piece of code, made for an address that is found for it. */
struct piece {
	enum { PIECE_COPY, PIECE_ALONE, PIECE_GATE, PIECE_STEP, PIECE_SLOT } what;
	struct point *point;
	struct gate_context *context; /* of a gate */
	uint64_t after;               /* word of a gate */
	uint64_t slot, taken, straight;
};

static int make(const struct piece *piece, uint64_t at, uint8_t entries[SYNC_SITE_MAX],
                struct tramp_piece *code)
{
	const struct point *p = piece->point;

	switch (piece->what) {
	case PIECE_COPY:
		return tramp_displace_x86(p->code, p->displaced, p->address, at, entries, code);
	case PIECE_ALONE:
		return tramp_displace_x86(p->code, p->first, p->address, at, entries, code);
	case PIECE_GATE:
		return tramp_gate_x86(at, (uintptr_t)piece->context, (uintptr_t)p->gate,
		                      piece->after, p->address, code);
	case PIECE_STEP:
		return tramp_step_x86(p->code, p->first, p->address, at, piece->taken,
		                      piece->straight, code);
	default:
		return tramp_jump_slot_x86(at, piece->slot, p->address, code);
	}
}

/* Put it somewhere within reach of the point. */
static int place(const struct piece *piece, uint64_t *at)
{
	struct tramp_space *space = ground_space();
	uint64_t near = piece->point->address;
	uint8_t entries[SYNC_SITE_MAX];
	struct tramp_piece code;
	size_t size;
	int rc = make(piece, near, entries, &code);

	if (rc && rc != -ERANGE)
		return rc;
	size = (code.size + SLACK + ALIGN) & ~(size_t)(ALIGN - 1);
	rc = tramp_reserve_close(space, near, CLOSE, size, at);
	if (rc)
		rc = tramp_reserve_near(space, near, size, at);
	if (rc)
		return rc;
	*at = (*at + ALIGN - 1) & ~(uint64_t)(ALIGN - 1);
	rc = make(piece, *at, piece->what == PIECE_COPY ? piece->point->entries : entries, &code);
	if (!rc)
		tramp_put(space, *at, code.bytes, code.size);
	return rc;
}

static uint64_t *word_near(const struct point *point)
{
	return ground_word(point->copy, point->copy);
}

int point_make_gate(struct point *point)
{
	struct piece piece = {.what = PIECE_GATE, .point = point, .context = &point->pre};
	uint64_t at;
	int rc;

	if (point->gate_code)
		return 0;
	point->pre = (struct gate_context){point->address, &point->gate_site, false};
	if (!point->gate)
		point->gate = word_near(point);
	if (!point->after)
		point->after = word_near(point);
	if (!point->gate || !point->after)
		return -ENOMEM;
	*point->gate = (uintptr_t)gate_vector;
	piece.after = (uintptr_t)point->after;
	rc = place(&piece, &at);
	if (!rc)
		point->gate_code = at + TRAMP_GATE_CONTEXT;
	return rc;
}

/* A gate behind the first instruction, which goes on where the word says. */
static int make_post(struct point *point, struct gate_context *context, uint64_t *word,
                     uint64_t rip, uint64_t *at)
{
	struct piece piece = {
	        .what = PIECE_GATE, .point = point, .context = context, .after = (uintptr_t)word};
	int rc;

	*context = (struct gate_context){rip, &point->gate_site, true};
	rc = place(&piece, at);
	*at += TRAMP_GATE_CONTEXT;
	return rc;
}

int point_make_step(struct point *point)
{
	struct piece piece = {.what = PIECE_STEP, .point = point};
	struct isa_insn insn;
	int rc = point_make_gate(point);

	if (rc || point->step)
		return rc;
	if (isa_x86_64.decode(point->code, point->first, point->address, &insn) < 0 ||
	    insn.class == ISA_CALL_INDIRECT || insn.class == ISA_JUMP_INDIRECT ||
	    insn.class == ISA_RETURN || insn.class == ISA_SYSCALL)
		return -EOPNOTSUPP;
	point->straight = word_near(point);
	if (!point->straight)
		return -ENOMEM;
	rc = make_post(point, &point->post_straight, point->straight, point->address + point->first,
	               &piece.straight);
	if (!rc && insn.has_target && insn.class != ISA_PC_RELATIVE) {
		uint64_t *taken = word_near(point);

		if (!taken)
			return -ENOMEM;
		*taken = insn.target;
		rc = make_post(point, &point->post_taken, taken, insn.target, &piece.taken);
	}
	return rc ? rc : place(&piece, &point->step);
}

int point_make_stub(struct point *point, struct suture_hook *hook)
{
	struct piece piece = {.what = PIECE_SLOT, .point = point};
	struct suture_hook *old = point->old_stubs;

	if (old) { /* whoever still has it as an original gets to what is below, too */
		point->old_stubs = old->next;
		hook->stub = old->stub;
		hook->below = old->below;
		free(old);
		return 0;
	}
	hook->below = word_near(point);
	if (!hook->below)
		return -ENOMEM;
	piece.slot = (uintptr_t)hook->below;
	return place(&piece, &hook->stub);
}

int point_make_copy(struct point *point)
{
	struct piece piece = {.what = PIECE_COPY, .point = point};

	return place(&piece, &point->copy);
}

int point_make_alone(struct point *point)
{
	struct piece piece = {.what = PIECE_ALONE, .point = point};

	return point->alone || point->displaced == point->first ? 0 : place(&piece, &point->alone);
}

/* There, or in reach of a jump from there. */
int point_make_entry(struct point *point)
{
	struct tramp_space *space = ground_space();
	struct tramp_piece code;
	uint64_t at = point->entry;
	uint8_t jump[TRAMP_JUMP];
	int rc;

	if (tramp_reserve(space, at + TRAMP_JUMP, TRAMP_JUMP_SLOT - TRAMP_JUMP))
		rc = tramp_reserve_near(space, point->entry, TRAMP_JUMP_SLOT, &at);
	else
		rc = 0;
	if (rc)
		return rc;
	point->enter = ground_word(at, at);
	if (!point->enter)
		return -ENOMEM;
	rc = tramp_jump_slot_x86(at, (uintptr_t)point->enter, point->address, &code);
	if (rc)
		return rc;
	tramp_put(space, at, code.bytes, code.size);
	if (at == point->entry)
		return 0;
	rc = isa_x86_64.branch(point->entry, at, jump, sizeof(jump));
	if (rc < 0)
		return rc;
	tramp_put(space, point->entry, jump, sizeof(jump));
	return 0;
}
