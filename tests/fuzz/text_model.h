/* SPDX-License-Identifier: MIT */
/*
 * text_model.h - what suture_text_patch must answer, and what the text must hold then: an array of
 * bytes, and the rules of suture/text.h. Part of text.c.
 *
 *     page 0   private: can be written
 *     page 1   shared and read-only: can be read, but not even the kernel writes to it for us
 *     page 2   not mapped
 *     page 3   private
 */
#ifndef TEXT_MODEL_H
#define TEXT_MODEL_H

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "isa/isa.h"
#include "suture/text.h"

enum {
	PAGE = 4096,
	ARENA = 4 * PAGE,
	SHARED_PAGE = 1,
	HOLE = 2,
	EDITS_MAX = 128,
	EXTENTS_MAX = 4096,
	JOINED = 64, /* beyond so many edits near ones are read and written together */
};

struct extent {
	size_t at, length;
};

struct model {
	uint8_t *arena; /* where it is */
	uint8_t original[ARENA], now[ARENA];
	struct extent extents[EXTENTS_MAX]; /* of edits that were made */
	size_t extent_count;
};

struct verdict {
	int rc;
	int rc_too;    /* or this */
	size_t failed; /* which edit, if rc is not 0 */
	bool any;      /* `failed` may be a neighbour of it */
	bool writing;  /* refused when something may have been written */
};

extern const char text_noinstr_start[] __asm__("__start_suture_noinstr");
extern const char text_noinstr_end[] __asm__("__stop_suture_noinstr");

static uintptr_t edit_at(const struct suture_edit *edit)
{
	return (uintptr_t)edit->address;
}

/* Offset in the arena; beyond it for what is elsewhere. */
static size_t edit_offset(const struct model *model, const struct suture_edit *edit)
{
	return edit_at(edit) - (uintptr_t)model->arena;
}

static bool is_mapped(size_t at, size_t length)
{
	return at < ARENA && length <= ARENA - at && at / PAGE != HOLE &&
	       (at + length - 1) / PAGE != HOLE;
}

static bool is_writable(size_t at)
{
	return at / PAGE != SHARED_PAGE;
}

/* ---- single rules; all of them for well-formed edits ---- */

static bool is_malformed(const struct suture_edit *edit)
{
	return !edit->address || !edit->from || !edit->to || edit->length < 1 ||
	       edit->length > SUTURE_EDIT_MAX || memcmp(edit->from, edit->to, edit->length) == 0;
}

static bool is_edited(const struct model *model, const struct extent *extent)
{
	return memcmp(model->now + extent->at, model->original + extent->at, extent->length) != 0;
}

/* `at` may be negative, as far as such a number can be: an edit that begins before the arena. */
static bool overlaps(const struct extent *extent, size_t at, size_t length)
{
	return (ptrdiff_t)at < (ptrdiff_t)(extent->at + extent->length) &&
	       (ptrdiff_t)extent->at < (ptrdiff_t)at + (ptrdiff_t)length;
}

static bool is_of_another_extent(const struct model *model, const struct suture_edit *edit)
{
	size_t at = edit_offset(model, edit);

	for (size_t i = 0; i < model->extent_count; i++) {
		const struct extent *e = &model->extents[i];

		if (overlaps(e, at, edit->length) && is_edited(model, e) &&
		    (e->at != at || e->length != edit->length))
			return true;
	}
	return false;
}

/* Index of the only byte that changes, or -1. */
static int only_change(const struct suture_edit *edit)
{
	const uint8_t *from = edit->from, *to = edit->to;
	int only = -1;

	for (size_t k = 0; k < edit->length; k++) {
		if (from[k] == to[k])
			continue;
		if (only >= 0)
			return -1;
		only = (int)k;
	}
	return only;
}

/* One instruction before, and no trap on either side. */
static bool can_be_held(const struct suture_edit *edit)
{
	struct isa_insn insn;

	return isa_x86_64.decode(edit->from, edit->length, edit_at(edit), &insn) ==
	               (int)edit->length &&
	       insn.class != ISA_TRAP && !isa_x86_64.is_trap(edit->to, edit->length);
}

static bool is_noinstr(const struct suture_edit *edit)
{
	return edit_at(edit) < (uintptr_t)text_noinstr_end &&
	       edit_at(edit) + edit->length > (uintptr_t)text_noinstr_start;
}

static int compare(const struct model *model, const struct suture_edit *edit)
{
	size_t at = edit_offset(model, edit);

	if (!is_mapped(at, edit->length))
		return -EFAULT;
	return memcmp(model->now + at, edit->from, edit->length) ? -EUCLEAN : 0;
}

/* Is a byte of the edit written that cannot be? The head always is, by way of a trap. */
static bool write_fails(const struct model *model, const struct suture_edit *edit, bool head,
                        bool tail)
{
	const uint8_t *from = edit->from, *to = edit->to;
	size_t at = edit_offset(model, edit);

	if (head && !is_writable(at))
		return true;
	for (size_t k = 1; tail && k < edit->length; k++)
		if (from[k] != to[k] && !is_writable(at + k))
			return true;
	return false;
}

/* ---- a transaction ---- */

static const struct suture_edit *model_sorting;

static int model_by_address(const void *a, const void *b)
{
	size_t i = *(const size_t *)a, k = *(const size_t *)b;
	uintptr_t x = edit_at(&model_sorting[i]), y = edit_at(&model_sorting[k]);

	return x == y ? (i > k) - (i < k) : (x > y) - (x < y);
}

static struct verdict refuse(int rc, size_t failed)
{
	return (struct verdict){.rc = rc, .rc_too = rc, .failed = failed};
}

static const struct verdict fine = {.rc = 0};

static struct verdict judge_extents(const struct model *model, const struct suture_edit *edits,
                                    size_t count, const size_t *order)
{
	for (size_t i = 0; i < count; i++) {
		const struct suture_edit *edit = &edits[order[i]];

		if (i && edit_at(edit) - edit_at(&edits[order[i - 1]]) < edits[order[i - 1]].length)
			return refuse(-EINVAL, order[i]);
		if (is_of_another_extent(model, edit))
			return refuse(-EEXIST, order[i]);
	}
	return fine;
}

/* Sets *traps: not all is one byte, or it is demanded. */
static struct verdict judge_strategy(const struct suture_edit *edits, size_t count,
                                     const size_t *order, enum suture_strategy strategy,
                                     bool *traps)
{
	size_t wide = 0;

	while (wide < count && only_change(&edits[order[wide]]) >= 0)
		wide++;
	*traps = strategy == SUTURE_BREAKPOINT || wide < count;
	if (strategy == SUTURE_NOSYNC && *traps)
		return refuse(-EOPNOTSUPP, order[wide]);
	for (size_t i = 0; *traps && i < count; i++)
		if (!can_be_held(&edits[order[i]]))
			return refuse(-EOPNOTSUPP, order[i]);
	return fine;
}

static struct verdict judge_text(const struct model *model, const struct suture_edit *edits,
                                 size_t count, const size_t *order)
{
	struct verdict verdict = fine;

	for (size_t i = 0; i < count; i++)
		if (is_noinstr(&edits[order[i]]))
			return refuse(-EPERM, order[i]);
	for (size_t i = 0; i < count; i++) {
		int rc = compare(model, &edits[order[i]]);

		if (!verdict.rc && rc) {
			verdict = refuse(rc, order[i]);
			verdict.any = rc == -EFAULT && count > JOINED;
		}
		/* Read together: that one cannot be read is found out first. */
		if (count > JOINED && rc == -EFAULT && verdict.rc == -EUCLEAN) {
			verdict.rc_too = -EFAULT;
			verdict.any = true;
		}
	}
	return verdict;
}

static struct verdict judge_writes(const struct model *model, const struct suture_edit *edits,
                                   size_t count, const size_t *order, bool traps)
{
	struct verdict verdict = fine;

	for (int tails = 0; tails <= traps && !verdict.rc; tails++)
		for (size_t i = 0; i < count && !verdict.rc; i++) {
			const struct suture_edit *edit = &edits[order[i]];
			size_t at = edit_offset(model, edit);
			bool bad = traps ? write_fails(model, edit, !tails, tails)
			                 : !is_writable(at + (size_t)only_change(edit));

			if (bad)
				verdict = refuse(-EFAULT, order[i]);
		}
	verdict.any = count > JOINED;
	verdict.writing = verdict.rc;
	return verdict;
}

/* What must be answered. In the order in which text.h's promises can be kept: shape, strategy,
 * what stands there; then only writing is left to fail, and all is as it was. */
static struct verdict judge(const struct model *model, const struct suture_edit *edits,
                            size_t count, enum suture_strategy strategy)
{
	size_t order[EDITS_MAX];
	struct verdict verdict;
	bool traps;

	for (size_t i = 0; i < count; i++) {
		if (is_malformed(&edits[i]))
			return refuse(-EINVAL, i);
		order[i] = i;
	}
	model_sorting = edits;
	qsort(order, count, sizeof(*order), model_by_address);
	verdict = judge_extents(model, edits, count, order);
	if (!verdict.rc)
		verdict = judge_strategy(edits, count, order, strategy, &traps);
	if (!verdict.rc)
		verdict = judge_text(model, edits, count, order);
	return verdict.rc ? verdict : judge_writes(model, edits, count, order, traps);
}

/* ---- what is left behind ---- */

static void remember(struct model *model, size_t at, size_t length)
{
	size_t kept = 0;

	for (size_t i = 0; i < model->extent_count; i++)
		if (!overlaps(&model->extents[i], at, length))
			model->extents[kept++] = model->extents[i];
	model->extent_count = kept;
	if (kept < EXTENTS_MAX)
		model->extents[model->extent_count++] = (struct extent){at, length};
}

static void make(struct model *model, const struct suture_edit *edits, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		size_t at = edit_offset(model, &edits[i]);

		memcpy(model->now + at, edits[i].to, edits[i].length);
		remember(model, at, edits[i].length);
	}
}

#endif
