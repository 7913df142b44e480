/* SPDX-License-Identifier: MIT */
/*
 * function.c - gather the parts of a function, decode them, and note its indirect jumps.
 *
 * Parts are found by name (f, f.cold), by the FDEs that share bytes with a symbol, and, for
 * the sake of stripped files, by following direct jumps and landing pads into code that no
 * symbol says is a function of its own.
 */
#include <string.h>

#include "isa/isa.h"
#include "module/internal.h"

enum {
	SYMBOL_COST = 64, /* looking at a symbol counts as so many bytes */
	NAME_MAX_SANE = 4096,
};

static bool charge(struct function *function, uint64_t bytes)
{
	if (bytes > function->budget) {
		function->budget = 0;
		function->unknown = true;
		return false;
	}
	function->budget -= bytes;
	return true;
}

static bool push(struct function *function, uint64_t **items, size_t *count, size_t *room,
                 uint64_t item)
{
	if (*count == *room) {
		size_t new_room = *room ? 2 * *room : 16;
		uint64_t *grown = realloc(*items, new_room * sizeof(*grown));

		if (!grown) {
			function->unknown = true;
			return false;
		}
		*items = grown;
		*room = new_room;
	}
	(*items)[(*count)++] = item;
	return true;
}

const struct piece *function_piece(const struct function *function, uint64_t vaddr)
{
	for (size_t i = 0; i < function->piece_count; i++)
		if (vaddr >= function->pieces[i].start && vaddr < function->pieces[i].end)
			return &function->pieces[i];
	return NULL;
}

bool piece_boundary(const struct piece *piece, uint64_t vaddr)
{
	uint64_t bit = vaddr - piece->start;

	return piece->boundaries && (piece->boundaries[bit / 8] >> bit % 8 & 1);
}

/* Adds what is not there yet of [start, end), cut where FDEs begin and end. */
static void add_extent(struct function *function, uint64_t start, uint64_t end)
{
	while (start < end && !function->unknown) {
		const struct piece *known = function_piece(function, start);
		const struct fde *fde = fde_from(function->module, start);
		uint64_t stop = end;

		if (known) {
			start = known->end;
			continue;
		}
		if (fde && fde->start > start && fde->start < stop)
			stop = fde->start;
		if (fde && fde->start <= start && fde->end < stop)
			stop = fde->end;
		for (size_t i = 0; i < function->piece_count; i++)
			if (function->pieces[i].start > start && function->pieces[i].start < stop)
				stop = function->pieces[i].start;
		if (function->piece_count == PIECE_COUNT_MAX) {
			function->unknown = true;
			return;
		}
		function->pieces[function->piece_count++] =
		        (struct piece){.start = start, .end = stop};
		start = stop;
	}
}

static void add_fde(struct function *function, uint64_t vaddr)
{
	const struct fde *fde = fde_at(function->module, vaddr);

	if (fde)
		add_extent(function, fde->start, fde->end);
}

static bool add_symbol(void *context, const struct module_symbol *symbol)
{
	struct function *function = context;
	const struct segment *segment = segment_at(function->module, symbol->vaddr);
	uint64_t room = segment->vaddr + segment->file_size - symbol->vaddr;

	if (!charge(function, SYMBOL_COST))
		return false;
	add_fde(function, symbol->vaddr);
	add_extent(function, symbol->vaddr,
	           symbol->vaddr + (symbol->size < room ? symbol->size : room));
	return !function->unknown;
}

/* An alias may be the one that gave a fragment its name: `read`, but `__libc_read.cold`. */
static void add_aliases(struct function *function, uint64_t vaddr)
{
	size_t count;
	const struct module_symbol *alias = symbols_starting_at(function->module, vaddr, &count);

	if (count > PIECE_COUNT_MAX)
		function->unknown = true;
	for (; count > 0 && !function->unknown; count--, alias++) {
		add_symbol(function, alias);
		symbol_parts(function->module, alias, add_symbol, function);
	}
}

static void note_jump(struct function *function, struct row_cursor *cursor, uint64_t vaddr)
{
	if (!row_at(function->module, cursor, vaddr))
		function->rowless_jump = true;
	else
		push(function, &function->rows, &function->row_count, &function->row_room,
		     row_hash(&cursor->row));
}

/* Retpolines are indirect jumps in the guise of direct ones (GCC's and LLVM's names). */
static bool is_thunk(const struct module_symbol *symbols, size_t count)
{
	for (size_t i = 0; i < count && i < PIECE_COUNT_MAX; i++)
		if (!strncmp(symbols[i].name, "__x86_indirect_thunk", 20) ||
		    !strncmp(symbols[i].name, "__llvm_retpoline", 16))
			return true;
	return false;
}

/* A fragment goes on with the frame as it is; what starts another one is no fragment. */
static bool rows_differ(struct function *function, struct row_cursor *cursor, uint64_t from,
                        uint64_t target)
{
	const struct fde *fde = fde_at(function->module, target);
	struct row_cursor other = {0};

	if (fde && !charge(function, (uint64_t)(fde->program.end - fde->program.at)))
		return true;
	return !row_at(function->module, cursor, from) ||
	       !row_at(function->module, &other, target) ||
	       row_hash(&cursor->row) != row_hash(&other.row);
}

/* A name too long to search is one for all that is known. */
static bool may_be_cold(const char *name)
{
	size_t length = strnlen(name, NAME_MAX_SANE);

	return length == NAME_MAX_SANE || memmem(name, length, ".cold", 5);
}

/*
 * A jump that leaves what is known of the function: to another part of it, or a tail call. A
 * tail call leaves a clean stack; with something on it, `jmp thunk` is an indirect jump in
 * disguise, whatever the thunk is called.
 */
static void follow_jump(struct function *function, struct row_cursor *cursor, uint64_t from,
                        uint64_t target)
{
	struct module *module = function->module;
	const struct module_symbol *symbols;
	size_t count;

	if (function_piece(function, target) || !is_code(module, target) || is_stub(module, target))
		return;
	symbols = symbols_starting_at(module, target, &count);
	if (count && !may_be_cold(symbols->name)) {
		if (is_thunk(symbols, count) || !row_at(module, cursor, from) ||
		    !row_returns(&cursor->row))
			note_jump(function, cursor, from);
	} else if (!fde_at(module, target)) {
		function->rowless_jump = true; /* who knows what is there */
	} else {
		add_fde(function, target);
		if (rows_differ(function, cursor, from, target))
			note_jump(function, cursor, from);
	}
}

static void look_at(struct function *function, const struct piece *piece, struct row_cursor *cursor,
                    uint64_t vaddr, const struct isa_insn *insn)
{
	size_t count;

	switch (insn->class) {
	case ISA_JUMP_INDIRECT:
		note_jump(function, cursor, vaddr);
		break;
	case ISA_RETURN:
		/* With something of its own on top of the stack, it is `push; ret`: a jump. */
		if (row_at(function->module, cursor, vaddr) && !row_returns(&cursor->row))
			note_jump(function, cursor, vaddr);
		break;
	case ISA_PINNED: /* far jumps are among them */
		note_jump(function, cursor, vaddr);
		break;
	case ISA_BRANCH:
	case ISA_BRANCH_IF:
		if (insn->has_target)
			follow_jump(function, cursor, vaddr, insn->target);
		break;
	case ISA_CALL:
		/* An inlined retpoline calls into its own function and returns elsewhere. */
		if (insn->has_target && insn->target > piece->start && insn->target < piece->end &&
		    !symbols_starting_at(function->module, insn->target, &count))
			function->rowless_jump = true;
		break;
	default:
		break;
	}
}

static void decode_piece(struct function *function, struct piece *piece)
{
	const struct fde *fde = fde_at(function->module, piece->start);
	struct row_cursor cursor = {0};
	size_t size = 0;
	const uint8_t *code = text_at(function->module, piece->start, &size);

	if (!code || size < piece->end - piece->start ||
	    !charge(function, piece->end - piece->start +
	                              (fde ? (size_t)(fde->program.end - fde->program.at) : 0))) {
		function->unknown = true;
		return;
	}
	size = piece->end - piece->start;
	piece->boundaries = calloc(size / 8 + 1, 1);
	if (!piece->boundaries)
		function->unknown = true;
	for (size_t at = 0; at < size && !function->unknown;) {
		struct isa_insn insn;
		int length = isa_x86_64.decode(code + at, size - at, piece->start + at, &insn);

		if (length <= 0) {
			function->unknown = true;
			return;
		}
		piece->boundaries[at / 8] |= (uint8_t)(1 << at % 8);
		look_at(function, piece, &cursor, piece->start + at, &insn);
		at += (size_t)length;
	}
}

static bool add_pad(void *context, uint64_t vaddr)
{
	struct function *function = context;

	if (!push(function, &function->pads, &function->pad_count, &function->pad_room, vaddr))
		return false;
	if (!function_piece(function, vaddr))
		add_fde(function, vaddr);
	return !function->unknown;
}

static void find_pads(struct function *function, uint64_t vaddr)
{
	const struct fde *fde = fde_at(function->module, vaddr);
	uint64_t work = 0;

	if (!fde || fde->start != vaddr)
		return;
	if (landing_pads(function->module, fde, add_pad, function, &work))
		function->unknown = true;
	charge(function, work);
}

static int compare_numbers(const void *a, const void *b)
{
	uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

	return (left > right) - (left < right);
}

static size_t sort_unique(uint64_t *items, size_t count)
{
	size_t kept = 0;

	if (count)
		qsort(items, count, sizeof(*items), compare_numbers);
	for (size_t i = 0; i < count; i++)
		if (kept == 0 || items[kept - 1] != items[i])
			items[kept++] = items[i];
	return kept;
}

void function_clear(struct function *function)
{
	for (size_t i = 0; i < function->piece_count; i++)
		free(function->pieces[i].boundaries);
	free(function->rows);
	free(function->pads);
	*function = (struct function){.module = function->module, .budget = function->budget};
}

/*
 * Without a symbol, the only sign that an FDE is a whole function and not the cold fragment of
 * one, whose other parts nothing names, is that it begins as functions do.
 */
static bool begins_as_function(struct module *module, const struct fde *fde)
{
	struct row_cursor cursor = {0};

	return row_at(module, &cursor, fde->start) && row_is_entry(&cursor.row);
}

void function_analyse(struct function *function, uint64_t vaddr)
{
	struct module *module = function->module;
	const struct module_symbol *symbol = module_symbol_at(module, vaddr);
	const struct fde *fde = fde_at(module, vaddr);
	size_t count;

	if (function->piece_count && symbol == function->symbol && fde == function->fde)
		return;
	function_clear(function);
	function->symbol = symbol;
	function->fde = fde;
	if (symbol)
		add_aliases(function, symbol->vaddr);
	if (fde) {
		add_extent(function, fde->start, fde->end);
		if (!symbol && !symbols_starting_at(module, fde->start, &count) &&
		    !begins_as_function(module, fde))
			function->unknown = true;
		else
			add_aliases(function, fde->start);
	}
	/* Each piece may add others behind it. */
	for (size_t i = 0; i < function->piece_count && !function->unknown; i++) {
		decode_piece(function, &function->pieces[i]);
		if (!function->unknown)
			find_pads(function, function->pieces[i].start);
	}
	function->row_count = sort_unique(function->rows, function->row_count);
	function->pad_count = sort_unique(function->pads, function->pad_count);
}
