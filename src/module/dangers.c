/* SPDX-License-Identifier: MIT */
/* dangers.c - put together what is known of the ways into a range. */
#include <errno.h>

#include "module/internal.h"

/* Work that a sane file never needs; beyond it, the answer is that nothing is known. */
enum { BUDGET_BASE = 64 << 20, BUDGET_FACTOR = 8 };

static bool contains(const uint64_t *items, size_t count, uint64_t low, uint64_t high)
{
	size_t first = 0, last = count;

	while (first < last) {
		size_t middle = first + (last - first) / 2;

		if (items[middle] < low)
			first = middle + 1;
		else
			last = middle;
	}
	return first < count && items[first] <= high;
}

/* Can an indirect jump of the function lead to a boundary in the range? */
static uint32_t indirect(struct function *function, struct row_cursor *cursor,
                         const struct module_range *range)
{
	uint32_t danger = 0;

	for (uint64_t at = range->start; at < range->end; at++) {
		const struct piece *piece = function_piece(function, at);
		uint64_t hash;

		if (!piece)
			return MODULE_DANGER_UNKNOWN;
		if (!piece_boundary(piece, at))
			continue;
		if (!row_at(function->module, cursor, at)) {
			danger |= MODULE_DANGER_UNKNOWN;
			continue;
		}
		hash = row_hash(&cursor->row);
		if (function->rowless_jump ||
		    contains(function->rows, function->row_count, hash, hash))
			danger |= MODULE_DANGER_INDIRECT;
	}
	return danger;
}

static uint32_t look(struct function *function, struct row_cursor *cursor,
                     const struct module_range *range)
{
	const struct fde *fde = fde_at(function->module, range->start);
	uint32_t danger = 0;

	if (!fde || range->end > fde->end || function->module->is_go)
		return MODULE_DANGER_UNKNOWN;
	function_analyse(function, range->start);
	if (function->unknown)
		return MODULE_DANGER_UNKNOWN;
	if (contains(function->pads, function->pad_count, range->start, range->end - 1))
		danger |= MODULE_DANGER_LANDING_PAD;
	return danger | indirect(function, cursor, range);
}

static bool ranges_are_sound(const struct module *module, const struct module_range *ranges,
                             size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct segment *segment = segment_at(module, ranges[i].start);

		if (ranges[i].end <= ranges[i].start || ranges[i].end - ranges[i].start > 16 ||
		    (i > 0 && ranges[i].start < ranges[i - 1].end) || !segment ||
		    !(segment->flags & PF_X))
			return false;
	}
	return true;
}

static uint64_t budget_of(const struct module *module)
{
	uint64_t budget = BUDGET_BASE;

	for (size_t i = 0; i < module->segment_count; i++)
		if (module->segments[i].data)
			budget += BUDGET_FACTOR * module->segments[i].file_size;
	return budget;
}

int module_branch_source(struct module *module, const struct module_range *range, uint64_t *vaddr)
{
	uint32_t danger = 0;
	uint64_t budget;
	int error;

	if (!ranges_are_sound(module, range, 1))
		return -EINVAL;
	error = text_load(module);
	if (error)
		return error;
	budget = budget_of(module);
	error = branches_scan(module, range, 1, &danger, &budget, vaddr);
	return error ? error : danger ? 0 : -ENOENT;
}

int module_dangers(struct module *module, const struct module_range *ranges, size_t n,
                   uint32_t *dangers)
{
	struct function *function;
	struct row_cursor *cursor;
	uint64_t budget;
	int error;

	if (!ranges_are_sound(module, ranges, n))
		return -EINVAL;
	error = text_load(module);
	if (error || n == 0)
		return error;
	for (size_t i = 0; i < n; i++)
		dangers[i] = 0;
	budget = budget_of(module);
	function = calloc(1, sizeof(*function));
	cursor = calloc(1, sizeof(*cursor));
	error = function && cursor ? branches_scan(module, ranges, n, dangers, &budget, NULL)
	                           : -ENOMEM;
	for (size_t i = 0; i < n && !error; i++) {
		function->module = module;
		if (i == 0)
			function->budget = budget;
		dangers[i] |= look(function, cursor, &ranges[i]);
		if (module_rseq_overlaps(module, ranges[i].start, ranges[i].end))
			dangers[i] |= MODULE_DANGER_RSEQ;
	}
	if (function)
		function_clear(function);
	free(function);
	free(cursor);
	return error;
}
