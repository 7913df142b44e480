/* SPDX-License-Identifier: MIT */
/*
 * body.c - code that a point leads to.
 */
#include <errno.h>
#include <stdlib.h>
#include "api/own/point.h"
#include "api/own/visible.h"

enum {
	CLOSE = 512 << 20, /* so near that what a copy refers to is in reach, too */
	SLACK = 24,
	ALIGN = 8,
};

/* ---- pieces that others are to be told of, when they are published ---- */

static struct told {
	struct tramp_code *list;
	struct tramp_row *rows;
	size_t count, room, row_count, row_room;
} told;

static int grow(void **list, size_t *room, size_t needed, size_t size)
{
	size_t more = 2 * needed;
	void *grown;

	if (needed <= *room)
		return 0;
	grown = realloc(*list, more * size);
	if (!grown)
		return -ENOMEM;
	*list = grown;
	*room = more;
	return 0;
}

/* The rows are found by their number until all are there. */
static int tell(const char *what, uint64_t at, const struct tramp_piece *code)
{
	if (grow((void **)&told.list, &told.room, told.count + 1, sizeof(*told.list)) ||
	    grow((void **)&told.rows, &told.row_room, told.row_count + code->row_count,
	         sizeof(*told.rows)))
		return -ENOMEM;
	for (uint32_t i = 0; i < code->row_count; i++)
		told.rows[told.row_count++] = code->rows[i];
	told.list[told.count++] = (struct tramp_code){
	        .address = at, .size = code->size, .row_count = code->row_count, .what = what};
	return 0;
}

int points_publish(struct suture_text_options *options)
{
	const struct tramp_row *rows = told.rows;
	void *ignored; /* they stay */
	int rc = ground_publish(own_port(), own_deadline(options));

	if (rc)
		return own_fail(options, 0, rc, "trampolines can not be written (%d)", -rc);
	/* Who is not told sees unknown code, and no more. */
	for (size_t i = 0; i < told.count; rows += told.list[i++].row_count)
		told.list[i].rows = rows;
	(void)!visible_add(told.list, told.count, &ignored);
	told.count = told.row_count = 0;
	return 0;
}

/* ---- pieces ---- */

static const char *const names[] = {"displaced", "alone", "gate", "step", "original"};

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
		                      piece->after, piece->context->rip, code);
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
	if (rc)
		return rc;
	tramp_put(space, *at, code.bytes, code.size);
	return tell(names[piece->what], *at, &code);
}

/* In reach of what is placed close to the point. */
static uint64_t *word_near(const struct point *point)
{
	uint64_t at = point->address;

	return ground_word(at > CLOSE ? at - CLOSE : 0, at + CLOSE);
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

/* jmp *enter, there or in reach of a jump from there. */
static int put_indirect(struct point *point, uint64_t *at)
{
	struct tramp_piece code;
	int rc;

	point->enter = ground_word(*at, *at);
	if (!point->enter)
		return -ENOMEM;
	rc = tramp_jump_slot_x86(*at, (uintptr_t)point->enter, point->address, &code);
	if (rc)
		return rc;
	tramp_put(ground_space(), *at, code.bytes, code.size);
	return tell("entry", *at, &code);
}

static int put_jump(const struct point *point, uint64_t to)
{
	struct tramp_piece code = {.row_count = 1, .rows = {{0, point->address, 0}}};
	int rc = isa_x86_64.branch(point->entry, to, code.bytes, sizeof(code.bytes));

	if (rc < 0)
		return rc;
	code.size = (uint32_t)rc;
	tramp_put(ground_space(), point->entry, code.bytes, code.size);
	return tell("entry", point->entry, &code);
}

int point_make_entry(struct point *point, uint64_t direct)
{
	struct tramp_space *space = ground_space();
	uint64_t at = point->entry;
	int rc;

	if (direct && put_jump(point, direct) == 0) {
		point->direct = direct;
		return 0;
	}
	if (tramp_reserve(space, at + TRAMP_JUMP, TRAMP_JUMP_SLOT - TRAMP_JUMP) == 0)
		return put_indirect(point, &at);
	rc = tramp_reserve_near(space, point->entry, TRAMP_JUMP_SLOT, &at);
	if (!rc)
		rc = put_indirect(point, &at);
	return rc ? rc : put_jump(point, at);
}

/* Threads may be on their way through it: an edit like any other. */
int point_make_indirect(struct point *point, struct suture_text_options *options)
{
	struct patch_registry *registry;
	struct sync_site *site;
	uint64_t at;
	int rc = 0;

	if (!point->direct)
		return 0;
	registry = calloc(1, patch_registry_size(1));
	if (!registry || tramp_reserve_near(ground_space(), point->entry, TRAMP_JUMP_SLOT, &at) ||
	    put_indirect(point, &at)) {
		free(registry);
		return own_fail(options, 0, -ENOMEM, "no memory for a trampoline");
	}
	site = &registry->sites[registry->count++];
	*site = (struct sync_site){.address = point->entry, .length = TRAMP_JUMP, .boundaries = 1};
	isa_x86_64.branch(point->entry, point->direct, site->original, TRAMP_JUMP);
	if (isa_x86_64.branch(point->entry, at, site->patched, TRAMP_JUMP) < 0)
		rc = own_fail(options, 0, -ENOSPC, "no memory for a trampoline in reach");
	*point->enter = point->direct;
	if (!rc)
		rc = points_publish(options);
	if (!rc)
		rc = own_apply(registry, options, true);
	if (!rc) {
		/* What is published around it is written with it. */
		tramp_put(ground_space(), point->entry, site->patched, TRAMP_JUMP);
		point->direct = 0;
	}
	own_free(registry);
	return rc;
}
