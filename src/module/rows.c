/* SPDX-License-Identifier: MIT */
/*
 * rows.c - run call-frame programs (DWARF 5, 6.4.2) and compare their rows.
 *
 * A compiler gives a label one row, whichever way it is reached; so a jump can only lead to
 * labels whose row equals the jump's own. Comparison is by form: the same CFA rule and the
 * same rule for each register. What cannot be told apart for certain is made equal: no rule,
 * `same value` and `undefined` are one, for an unnamed register means either (psABI 3.7).
 */
#include <dwarf.h>
#include <errno.h>
#include <string.h>

#include "module/internal.h"

enum rule_kind {
	RULE_NONE,
	RULE_OFFSET,
	RULE_VALUE_OFFSET,
	RULE_REGISTER,
	RULE_EXPRESSION,
	RULE_VALUE_EXPRESSION,
};

static uint64_t mix(uint64_t hash, const void *bytes, size_t size)
{
	const uint8_t *at = bytes;

	for (size_t i = 0; i < size; i++)
		hash = (hash ^ at[i]) * UINT64_C(0x100000001b3);
	return hash;
}

uint64_t row_hash(const struct row *row)
{
	static_assert(sizeof(struct rule) == 16, "padding would be hashed");
	return mix(UINT64_C(0xcbf29ce484222325), row, sizeof(*row));
}

bool row_returns(const struct row *row)
{
	return row->cfa.kind == RULE_OFFSET && row->cfa.reg == REGISTER_RSP && row->cfa.value == 8;
}

bool row_is_entry(const struct row *row)
{
	for (unsigned i = 0; i < REGISTER_COUNT; i++)
		if (i != REGISTER_RETURN && row->registers[i].kind != RULE_NONE)
			return false;
	return row_returns(row);
}

/* Vector registers keep no rule: leaving one out can only make rows more alike. */
static void set(struct row_cursor *cursor, uint64_t reg, enum rule_kind kind, int64_t value)
{
	if (reg < REGISTER_COUNT)
		cursor->row.registers[reg] = (struct rule){.kind = kind, .value = value};
}

static int64_t factored(const struct row_cursor *cursor, int64_t offset)
{
	return (int64_t)((uint64_t)offset * (uint64_t)cursor->cie->data_align);
}

static int64_t expression(struct row_cursor *cursor)
{
	struct reader *program = &cursor->program;
	uint64_t size = read_uleb(program);
	const uint8_t *start = program->at;

	read_skip(program, size);
	return program->bad ? 0 : (int64_t)mix(size, start, size);
}

static void restore(struct row_cursor *cursor, uint64_t reg)
{
	if (reg < REGISTER_COUNT)
		cursor->row.registers[reg] = cursor->initial.registers[reg];
}

static void set_cfa(struct row_cursor *cursor, uint64_t reg, int64_t offset)
{
	if (reg > UINT32_MAX)
		cursor->bad = true;
	cursor->row.cfa = (struct rule){RULE_OFFSET, (uint32_t)reg, offset};
}

/* An offset or register alone changes a CFA that has both (DWARF 5, 6.4.2.2). */
static void change_cfa(struct row_cursor *cursor, const uint64_t *reg, const int64_t *offset)
{
	if (cursor->row.cfa.kind != RULE_OFFSET)
		cursor->bad = true;
	else
		set_cfa(cursor, reg ? *reg : cursor->row.cfa.reg,
		        offset ? *offset : cursor->row.cfa.value);
}

static void remember(struct row_cursor *cursor)
{
	if (cursor->depth == ROW_STACK_MAX)
		cursor->bad = true;
	else
		cursor->stack[cursor->depth++] = cursor->row;
}

static void recall(struct row_cursor *cursor)
{
	if (cursor->depth == 0)
		cursor->bad = true;
	else
		cursor->row = cursor->stack[--cursor->depth];
}

static void define_cfa(struct row_cursor *cursor, uint8_t opcode)
{
	struct reader *program = &cursor->program;
	uint64_t reg;
	int64_t offset;

	switch (opcode) {
	case DW_CFA_def_cfa:
		reg = read_uleb(program);
		set_cfa(cursor, reg, (int64_t)read_uleb(program));
		break;
	case DW_CFA_def_cfa_sf:
		reg = read_uleb(program);
		set_cfa(cursor, reg, factored(cursor, read_sleb(program)));
		break;
	case DW_CFA_def_cfa_register:
		reg = read_uleb(program);
		change_cfa(cursor, &reg, NULL);
		break;
	case DW_CFA_def_cfa_offset:
		offset = (int64_t)read_uleb(program);
		change_cfa(cursor, NULL, &offset);
		break;
	case DW_CFA_def_cfa_offset_sf:
		offset = factored(cursor, read_sleb(program));
		change_cfa(cursor, NULL, &offset);
		break;
	default:
		cursor->row.cfa =
		        (struct rule){.kind = RULE_EXPRESSION, .value = expression(cursor)};
		break;
	}
}

static void define_register(struct row_cursor *cursor, uint8_t opcode)
{
	struct reader *program = &cursor->program;
	uint64_t reg = read_uleb(program);

	switch (opcode) {
	case DW_CFA_undefined:
	case DW_CFA_same_value:
		set(cursor, reg, RULE_NONE, 0);
		break;
	case DW_CFA_offset_extended:
		set(cursor, reg, RULE_OFFSET, factored(cursor, (int64_t)read_uleb(program)));
		break;
	case DW_CFA_offset_extended_sf:
		set(cursor, reg, RULE_OFFSET, factored(cursor, read_sleb(program)));
		break;
	case DW_CFA_GNU_negative_offset_extended:
		set(cursor, reg, RULE_OFFSET,
		    factored(cursor, (int64_t)(UINT64_C(0) - read_uleb(program))));
		break;
	case DW_CFA_val_offset:
		set(cursor, reg, RULE_VALUE_OFFSET, factored(cursor, (int64_t)read_uleb(program)));
		break;
	case DW_CFA_val_offset_sf:
		set(cursor, reg, RULE_VALUE_OFFSET, factored(cursor, read_sleb(program)));
		break;
	case DW_CFA_register:
		set(cursor, reg, RULE_REGISTER, (int64_t)read_uleb(program));
		break;
	case DW_CFA_expression:
		set(cursor, reg, RULE_EXPRESSION, expression(cursor));
		break;
	case DW_CFA_val_expression:
		set(cursor, reg, RULE_VALUE_EXPRESSION, expression(cursor));
		break;
	default:
		restore(cursor, reg);
		break;
	}
}

/* An instruction that changes the row. */
static void change(struct row_cursor *cursor, uint8_t opcode)
{
	switch (opcode) {
	case DW_CFA_nop:
		break;
	case DW_CFA_remember_state:
		remember(cursor);
		break;
	case DW_CFA_restore_state:
		recall(cursor);
		break;
	case DW_CFA_def_cfa:
	case DW_CFA_def_cfa_sf:
	case DW_CFA_def_cfa_register:
	case DW_CFA_def_cfa_offset:
	case DW_CFA_def_cfa_offset_sf:
	case DW_CFA_def_cfa_expression:
		define_cfa(cursor, opcode);
		break;
	case DW_CFA_undefined:
	case DW_CFA_same_value:
	case DW_CFA_offset_extended:
	case DW_CFA_offset_extended_sf:
	case DW_CFA_GNU_negative_offset_extended:
	case DW_CFA_val_offset:
	case DW_CFA_val_offset_sf:
	case DW_CFA_register:
	case DW_CFA_expression:
	case DW_CFA_val_expression:
	case DW_CFA_restore_extended:
		define_register(cursor, opcode);
		break;
	case DW_CFA_GNU_args_size: /* about the stack, not about a rule */
		read_uleb(&cursor->program);
		break;
	default:
		cursor->bad = true;
		break;
	}
}

/* The location that an advance leads to; false if `opcode` is no advance. */
static bool advance(struct row_cursor *cursor, uint8_t opcode, uint64_t *location)
{
	uint64_t step;

	*location = cursor->location;
	switch (opcode & 0xc0 ? opcode & 0xc0 : opcode) {
	case DW_CFA_advance_loc:
		step = opcode & 0x3f;
		break;
	case DW_CFA_advance_loc1:
		step = read_fixed(&cursor->program, 1);
		break;
	case DW_CFA_advance_loc2:
		step = read_fixed(&cursor->program, 2);
		break;
	case DW_CFA_advance_loc4:
		step = read_fixed(&cursor->program, 4);
		break;
	case DW_CFA_set_loc:
		*location = read_encoded(&cursor->program, cursor->cie->pointer_encoding, 0);
		return true;
	default:
		return false;
	}
	if (__builtin_mul_overflow(step, cursor->cie->code_align, &step) ||
	    __builtin_add_overflow(cursor->location, step, location))
		cursor->bad = true;
	return true;
}

/* Runs the program up to the row for vaddr. */
static void run(struct row_cursor *cursor, uint64_t vaddr)
{
	while (!cursor->bad && cursor->program.at < cursor->program.end) {
		struct reader before = cursor->program;
		uint8_t opcode = (uint8_t)read_fixed(&cursor->program, 1);
		uint64_t location = 0, reg = opcode & 0x3f;

		if (advance(cursor, opcode, &location)) {
			if (cursor->bad || cursor->program.bad || location < cursor->location)
				cursor->bad = true;
			else if (location > vaddr) {
				cursor->program = before;
				return;
			} else
				cursor->location = location;
		} else if ((opcode & 0xc0) == DW_CFA_offset) {
			int64_t offset = (int64_t)read_uleb(&cursor->program);

			set(cursor, reg, RULE_OFFSET, factored(cursor, offset));
		} else if ((opcode & 0xc0) == DW_CFA_restore) {
			restore(cursor, reg);
		} else {
			change(cursor, opcode);
		}
		cursor->bad |= cursor->program.bad;
	}
}

static void start(struct module *module, struct row_cursor *cursor, const struct fde *fde)
{
	cursor->fde = fde;
	cursor->cie = fde_cie(module, fde);
	cursor->location = fde->start;
	cursor->depth = 0;
	cursor->bad = false;
	memset(&cursor->row, 0, sizeof(cursor->row));
	memset(&cursor->initial, 0, sizeof(cursor->initial));
	/* The CIE's instructions; they contain no advance, and one would stop us here. */
	cursor->program = cursor->cie->program;
	run(cursor, fde->start);
	cursor->bad |= cursor->program.at != cursor->program.end;
	cursor->initial = cursor->row;
	cursor->program = fde->program;
}

bool row_at(struct module *module, struct row_cursor *cursor, uint64_t vaddr)
{
	if (!cursor->fde || vaddr < cursor->location || vaddr >= cursor->fde->end ||
	    vaddr < cursor->fde->start) {
		const struct fde *fde = fde_at(module, vaddr);

		if (!fde) {
			cursor->fde = NULL;
			return false;
		}
		start(module, cursor, fde);
	}
	run(cursor, vaddr);
	return !cursor->bad;
}

int module_rows_equal(struct module *module, uint64_t a, uint64_t b)
{
	struct row_cursor cursor = {0};
	struct row row;

	if (!row_at(module, &cursor, a))
		return -ENOENT;
	row = cursor.row;
	if (!row_at(module, &cursor, b))
		return -ENOENT;
	return memcmp(&row, &cursor.row, sizeof(row)) == 0;
}
