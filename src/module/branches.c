/* SPDX-License-Identifier: MIT */
/*
 * branches.c - which ranges may a direct branch or call of this module target?
 *
 * 32-bit displacements: instead of finding where instructions are, every four bytes of text
 * that stand behind what could be a branch's opcode are taken to be its displacement (SDM
 * vol. 2: E8, E9, 0F 80 to 8F, C7 F8; also 8D with a RIP-relative operand, LEA, the raw
 * material of indirect jumps). A bit for each byte of the ranges makes that one quick pass,
 * and no branch can hide from it. Without a look at the opcode, chance would hit a third of
 * all function entries in a library of 2 MB and nearly all of them in one of 100 MB.
 *
 * 8-bit displacements (EB, 70 to 7F, E0 to E3) would match by chance too often, so text within
 * reach is decoded from the last known start, and taken at its bytes only where that fails.
 */
#include <errno.h>
#include <string.h>

#include "isa/isa.h"
#include "module/internal.h"

struct scan {
	struct module *module;
	const struct module_range *ranges;
	size_t count;
	uint32_t *dangers;
	uint64_t low, span; /* the ranges' bounds: bit i stands for address low + i */
	uint8_t *bits;
	uint64_t *budget;
	uint64_t checkpoint; /* an instruction boundary, to go on from */
	uint64_t *source;    /* gets where the last branch found is; NULL: nobody wants to know */
};

static void mark(struct scan *scan, const struct module_range *range, bool set)
{
	for (uint64_t bit = range->start - scan->low; bit < range->end - scan->low; bit++) {
		if (set)
			scan->bits[bit / 8] |= (uint8_t)(1 << bit % 8);
		else
			scan->bits[bit / 8] &= (uint8_t) ~(1 << bit % 8);
	}
}

/* A range that is hit once need not be found again. */
static void hit(struct scan *scan, uint64_t target, uint64_t source)
{
	size_t low = 0, high = scan->count;

	if (scan->source)
		*scan->source = source;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (scan->ranges[middle].end <= target)
			low = middle + 1;
		else
			high = middle;
	}
	scan->dangers[low] |= MODULE_DANGER_BRANCH;
	mark(scan, &scan->ranges[low], false);
}

/* Are these the last two bytes before a displacement of 32 bits that leads to code? */
static bool is_far_branch(const uint8_t *code)
{
	return code[1] == 0xe8 || code[1] == 0xe9 ||
	       (code[0] == 0x0f && (code[1] & 0xf0) == 0x80) ||
	       (code[0] == 0xc7 && code[1] == 0xf8) ||
	       (code[0] == 0x8d && (code[1] & 0xc7) == 0x05);
}

static void scan_far(struct scan *scan, const struct segment *segment)
{
	/* What position 0 with displacement 0 leads to, counted from scan->low. */
	const uint64_t bias = segment->vaddr + 4 - scan->low, span = scan->span;
	const uint8_t *data = segment->data, *bits = scan->bits;

	/* The first byte has only one before it: no branch of one byte's opcode may be missed. */
	for (uint64_t at = 1; at + 4 <= segment->file_size; at++) {
		int32_t displacement;
		uint64_t bit;

		memcpy(&displacement, data + at, sizeof(displacement));
		bit = bias + at + (uint64_t)(int64_t)displacement;
		if (bit < span && (bits[bit / 8] >> bit % 8 & 1)) {
			const uint8_t first[2] = {0, data[0]};

			if (is_far_branch(at == 1 ? first : data + at - 2))
				hit(scan, scan->low + bit, segment->vaddr + at - 1);
		}
	}
}

static bool is_short_branch(uint8_t opcode)
{
	return opcode == 0xeb || (opcode & 0xf0) == 0x70 || (opcode & 0xfc) == 0xe0;
}

/* Where an opcode with an 8-bit displacement into the range can be: [*from, *to). */
static void reach(const struct module_range *range, const struct segment *segment, uint64_t *from,
                  uint64_t *to)
{
	uint64_t end = segment->vaddr + segment->file_size;

	*from = range->start - segment->vaddr > 129 ? range->start - 129 : segment->vaddr;
	*to = range->end + 126 < end - 1 ? range->end + 126 : end - 1;
}

/* The first position in [from, to) whose bytes, taken as a short branch, lead into the range. */
static uint64_t candidate(const struct module_range *range, const struct segment *segment,
                          uint64_t from, uint64_t to)
{
	for (; from < to; from++) {
		const uint8_t *code = segment->data + (from - segment->vaddr);
		uint64_t target = from + 2 + (uint64_t)(int64_t)(int8_t)code[1];

		if (is_short_branch(code[0]) && target >= range->start && target < range->end)
			return from;
	}
	return to;
}

/* The nearest addresses, of symbols or FDEs, where instructions surely start. */
static void known_starts(struct module *module, uint64_t vaddr, uint64_t *before, uint64_t *after)
{
	uint64_t fde_before, fde_after;

	*before = 0;
	*after = UINT64_MAX;
	symbol_starts_near(module, vaddr, before, after);
	if (!fde_starts_near(module, vaddr, &fde_before, &fde_after))
		return;
	if (fde_before > *before)
		*before = fde_before;
	if (fde_after < *after)
		*after = fde_after;
}

/* Decodes one instruction; 0 if that fails, runs over `limit`, or is too much work by now. */
static size_t step(struct scan *scan, const struct segment *segment, uint64_t at, uint64_t limit,
                   struct isa_insn *insn)
{
	uint64_t left = segment->vaddr + segment->file_size - at;
	int length = 0;

	if (*scan->budget >= ISA_INSN_MAX)
		length = isa_x86_64.decode(segment->data + (at - segment->vaddr),
		                           left < ISA_INSN_MAX ? left : ISA_INSN_MAX, at, insn);
	if (length <= 0 || (uint64_t)length > limit - at)
		return 0;
	*scan->budget -= (uint64_t)length;
	return (size_t)length;
}

/* A boundary at or before vaddr and after the one known start before it; false: none known. */
static bool boundary_before(struct scan *scan, const struct segment *segment, uint64_t vaddr,
                            uint64_t *boundary)
{
	uint64_t at, after;

	known_starts(scan->module, vaddr, &at, &after);
	if (at < segment->vaddr)
		return false;
	if (scan->checkpoint > at && scan->checkpoint <= vaddr)
		at = scan->checkpoint;
	for (;;) {
		struct isa_insn insn;
		size_t length = step(scan, segment, at, segment->vaddr + segment->file_size, &insn);

		if (length == 0)
			return false;
		if (at + length > vaddr)
			break;
		at += length;
	}
	scan->checkpoint = *boundary = at;
	return true;
}

/* Does a short branch in [at, to) lead into the range? `at` is an instruction boundary. */
static bool branches_between(struct scan *scan, const struct segment *segment, uint64_t at,
                             uint64_t to, const struct module_range *range)
{
	while (at < to) {
		uint64_t before, after;
		struct isa_insn insn;
		size_t length;

		known_starts(scan->module, at, &before, &after);
		if (after > segment->vaddr + segment->file_size)
			after = segment->vaddr + segment->file_size;
		for (; at < to && at < after; at += length) {
			length = step(scan, segment, at, after, &insn);
			if (length == 0)
				break;
			if ((insn.class == ISA_BRANCH || insn.class == ISA_BRANCH_IF ||
			     insn.class == ISA_PINNED) &&
			    insn.has_target && insn.target >= range->start &&
			    insn.target < range->end) {
				if (scan->source)
					*scan->source = at;
				return true;
			}
		}
		if (at >= to)
			return false;
		if (at < after) { /* it does not decode: up to the next known start, bytes count */
			uint64_t stop = after < to ? after : to;

			uint64_t found = candidate(range, segment, at, stop);

			if (found < stop) {
				if (scan->source)
					*scan->source = found;
				return true;
			}
			at = stop;
		}
	}
	return false;
}

static void scan_near(struct scan *scan, const struct module_range *range, uint32_t *danger)
{
	const struct segment *segment = segment_at(scan->module, range->start);
	uint64_t from, to, first, boundary, before, after;

	if (!segment || !segment->data || range->start - segment->vaddr >= segment->file_size)
		return;
	reach(range, segment, &from, &to);
	first = candidate(range, segment, from, to);
	if (first >= to)
		return;
	/* From `from`, which only rises from range to range, and not from `first`. */
	if (!boundary_before(scan, segment, from, &boundary)) {
		known_starts(scan->module, from, &before, &after);
		boundary = after;
	}
	if (scan->source)
		*scan->source = first;
	if (boundary > first || branches_between(scan, segment, boundary, to, range))
		*danger |= MODULE_DANGER_BRANCH;
}

int branches_scan(struct module *module, const struct module_range *ranges, size_t n,
                  uint32_t *dangers, uint64_t *budget, uint64_t *source)
{
	struct scan scan = {.module = module,
	                    .ranges = ranges,
	                    .count = n,
	                    .dangers = dangers,
	                    .low = ranges[0].start,
	                    .span = ranges[n - 1].end - ranges[0].start,
	                    .budget = budget,
	                    .source = source};

	if (scan.span > LOAD_MAX)
		return -EFBIG;
	scan.bits = calloc(scan.span / 8 + 1, 1);
	if (!scan.bits)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		mark(&scan, &ranges[i], true);
	for (size_t i = 0; i < module->segment_count; i++)
		if (module->segments[i].data)
			scan_far(&scan, &module->segments[i]);
	for (size_t i = 0; i < n; i++)
		if (!(dangers[i] & MODULE_DANGER_BRANCH))
			scan_near(&scan, &ranges[i], &dangers[i]);
	free(scan.bits);
	return 0;
}
