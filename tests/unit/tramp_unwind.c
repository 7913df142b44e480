/* SPDX-License-Identifier: MIT */
/*
 * tramp_unwind.c - call-frame information and symbols of pieces, as libdw and libelf read them.
 */
#include <dwarf.h>
#include <elfutils/libdw.h>
#include <errno.h>
#include <gelf.h>
#include <inttypes.h>
#include <libelf.h>
#include <stdlib.h>
#include <string.h>
#include "tap.h"
#include "tramp/unwind.h"

enum { PIECES = 200, ROWS = 12 };

static uint64_t state = 0x9E3779B97F4A7C15;

static uint64_t below(uint64_t limit)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state % limit;
}

static struct tramp_code codes[PIECES];
static struct tramp_row rows[PIECES][ROWS];
static char names[PIECES][64];

/* Distances of each size class, depths of both signs, origins that repeat; some pieces touch. */
static void make_pieces(void)
{
	uint64_t address = 0x7f1234560000;

	for (size_t i = 0; i < PIECES; i++) {
		/* Now and then something that is no code comes first. */
		uint32_t offset = below(4) ? 0 : 8, count = 1 + (uint32_t)below(ROWS);

		for (uint32_t k = 0; k < count; k++) {
			static const uint32_t distance[] = {1,    20,    0x3f,   0x40,
			                                    0xff, 0x100, 0xffff, 0x10000};

			rows[i][k].offset = offset;
			rows[i][k].origin = 0x401000 + 16 * i + below(3);
			rows[i][k].depth = (int32_t)below(600) - (below(4) ? 0 : 300);
			if (below(8)) /* else the next one is at the same place */
				offset += below(4) ? 1 + (uint32_t)below(8) : distance[below(8)];
		}
		snprintf(names[i], sizeof(names[i]), "suture:hook:function_%zu", i);
		codes[i] = (struct tramp_code){
		        address, offset + 1, rows[i], count, i % 7 ? names[i] : NULL, NULL};
		address += codes[i].size + (below(2) ? 0 : below(70000));
	}
}

/* ---- libdw ---- */

static bool cfa_is(Dwarf_Frame *frame, int32_t depth)
{
	Dwarf_Op *ops;
	size_t n;

	return dwarf_frame_cfa(frame, &ops, &n) == 0 && n == 1 &&
	       ((ops[0].atom == DW_OP_bregx && ops[0].number == 7 &&
	         (int64_t)ops[0].number2 == depth) ||
	        (ops[0].atom == DW_OP_breg7 && (int64_t)ops[0].number == depth));
}

/* The CFA, on which an expression begins, lies below the result. */
static bool return_is(Dwarf_Frame *frame, uint64_t address)
{
	Dwarf_Op memory[3], *ops;
	size_t n;

	return dwarf_frame_register(frame, 16, memory, &ops, &n) == 0 && n == 3 &&
	       ops[1].atom == DW_OP_const8u && ops[1].number == address &&
	       ops[2].atom == DW_OP_stack_value;
}

static bool row_reads_back(Dwarf_CFI *cfi, const struct tramp_code *code, uint32_t k,
                           uint32_t offset)
{
	const struct tramp_row *row = &code->rows[k];
	Dwarf_Frame *frame = NULL;
	bool signal = false, good;

	if (dwarf_cfi_addrframe(cfi, code->address + offset, &frame))
		return false;
	good = dwarf_frame_info(frame, NULL, NULL, &signal) == 16 && signal &&
	       cfa_is(frame, row->depth) && return_is(frame, row->origin);
	free(frame);
	return good;
}

static unsigned wrong_rows(Dwarf_CFI *cfi)
{
	unsigned wrong = 0;

	for (size_t i = 0; i < PIECES; i++)
		for (uint32_t k = 0; k < codes[i].row_count; k++) {
			uint32_t last =
			        k + 1 < codes[i].row_count ? rows[i][k + 1].offset : codes[i].size;

			if (last == rows[i][k].offset)
				continue;
			wrong += !row_reads_back(cfi, &codes[i], k, rows[i][k].offset);
			wrong += !row_reads_back(cfi, &codes[i], k, last - 1);
		}
	return wrong;
}

/* Is the address within no piece, and does nothing speak of it? */
static bool silent(Dwarf_CFI *cfi, uint64_t address)
{
	Dwarf_Frame *frame = NULL;

	if (dwarf_cfi_addrframe(cfi, address, &frame))
		return true;
	free(frame);
	return false;
}

/* ---- libelf ---- */

static bool symbol_reads_back(Elf *elf, const GElf_Shdr *table, const GElf_Sym *symbol,
                              const struct tramp_code *code)
{
	const char *name = elf_strptr(elf, table->sh_link, symbol->st_name);
	Elf_Scn *section = elf_getscn(elf, symbol->st_shndx);
	char expected[TRAMP_NAME];
	GElf_Shdr text;

	tramp_name(code, expected);
	return name && strcmp(name, expected) == 0 && symbol->st_value == code->address &&
	       symbol->st_size == code->size && GELF_ST_TYPE(symbol->st_info) == STT_FUNC &&
	       section && gelf_getshdr(section, &text) && text.sh_flags & SHF_EXECINSTR &&
	       text.sh_addr <= code->address &&
	       code->address + code->size <= text.sh_addr + text.sh_size;
}

static unsigned wrong_symbols(Elf *elf)
{
	unsigned seen = 0;

	for (Elf_Scn *section = NULL; (section = elf_nextscn(elf, section));) {
		GElf_Shdr table;

		if (!gelf_getshdr(section, &table) || table.sh_type != SHT_SYMTAB)
			continue;
		for (int i = 0; i < PIECES; i++) {
			GElf_Sym symbol;

			seen += gelf_getsym(elf_getdata(section, NULL), i + 1, &symbol) &&
			        symbol_reads_back(elf, &table, &symbol, &codes[i]);
		}
	}
	return PIECES - seen;
}

/* Sections of code that overlap, or cover what belongs to no piece. */
static bool sections_fit(Elf *elf)
{
	uint64_t end = 0, covered = 0, pieces = 0;

	for (Elf_Scn *section = NULL; (section = elf_nextscn(elf, section));) {
		GElf_Shdr text;

		if (!gelf_getshdr(section, &text) || !(text.sh_flags & SHF_EXECINSTR))
			continue;
		if (text.sh_addr < end || text.sh_type != SHT_NOBITS)
			return false;
		end = text.sh_addr + text.sh_size;
		covered += text.sh_size;
	}
	for (size_t i = 0; i < PIECES; i++)
		pieces += codes[i].size;
	return covered == pieces;
}

/* What lies before the first row of a piece is no code. */
static bool silent_before_code(Dwarf_CFI *cfi)
{
	for (size_t i = 0; i < PIECES; i++)
		if (rows[i][0].offset && !silent(cfi, codes[i].address + rows[i][0].offset - 1))
			return false;
	return true;
}

static void test_object(void)
{
	const struct tramp_code *last = &codes[PIECES - 1];
	uint8_t *image = NULL;
	size_t size = 0;
	int rc = tramp_object_x86(codes, PIECES, &image, &size);
	Elf *elf = rc ? NULL : elf_memory((char *)image, size);
	Dwarf_CFI *cfi = elf ? dwarf_getcfi_elf(elf) : NULL;

	if (!ok(cfi, "libdw reads it")) {
		free(image);
		return;
	}
	ok(wrong_rows(cfi) == 0, "every row reads back");
	ok(silent(cfi, codes[0].address - 1) && silent(cfi, last->address + last->size),
	   "nothing is said of what is outside");
	ok(silent_before_code(cfi), "nor of what comes before the first row");
	ok(wrong_symbols(elf) == 0, "every piece has its name");
	ok(sections_fit(elf), "sections are where pieces are, and nowhere else");
	dwarf_cfi_end(cfi);
	elf_end(elf);
	free(image);
}

/* ---- limits and refusals ---- */

/* From entry to entry by their lengths, as unwinders go, to the zero word. */
static bool ends_with_zero(const uint8_t *section, size_t size)
{
	size_t at = 0;
	uint32_t length;

	for (;;) {
		if (at + 4 > size)
			return false;
		memcpy(&length, section + at, 4);
		at += 4 + length;
		if (!length)
			return at == size;
	}
}

static void test_room(void)
{
	size_t needed = 0, again = 0;
	uint8_t *out;
	int rc = tramp_unwind_x86(codes, PIECES, NULL, 0, &needed);

	out = malloc(needed + 1);
	memset(out, 0xAA, needed + 1);
	ok(rc == -ENOSPC && needed > 0, "the size can be asked for: %zu bytes", needed);
	rc = tramp_unwind_x86(codes, PIECES, out, needed - 1, &again);
	ok(rc == -ENOSPC && again == needed && out[needed - 1] == 0xAA, "one byte too few");
	rc = tramp_unwind_x86(codes, PIECES, out, needed, &again);
	ok(rc == 0 && again == needed && out[needed] == 0xAA, "just enough");
	ok(ends_with_zero(out, needed), "a zero word ends it");
	free(out);
}

static int unwind_rc(const struct tramp_code *code)
{
	size_t needed;

	return tramp_unwind_x86(code, 1, NULL, 0, &needed);
}

static void test_refusals(void)
{
	struct tramp_row back[] = {{0, 0x1000, 0}, {4, 0x1000, 8}, {3, 0x1000, 0}};
	struct tramp_row beyond[] = {{0, 0x1000, 0}, {16, 0x1000, 8}};
	struct tramp_code code = {0x2000, 16, back, 3, NULL, NULL};
	uint8_t *image;
	size_t size;

	ok(unwind_rc(&code) == -EINVAL, "rows that do not ascend");
	code.rows = beyond;
	code.row_count = 2;
	ok(unwind_rc(&code) == -EINVAL, "a row behind the end");
	code.row_count = 0;
	ok(unwind_rc(&code) == -EINVAL, "no rows");
	code.row_count = 1;
	ok(unwind_rc(&code) == -ENOSPC, "the same piece without a fault");
	code.size = 0;
	ok(unwind_rc(&code) == -EINVAL && tramp_object_x86(&code, 1, &image, &size) == -EINVAL,
	   "no bytes");
}

static void test_many(void)
{
	struct tramp_row row = {0, 0x1000, 0};
	struct tramp_code *many = calloc(TRAMP_OBJECT_MAX + 1, sizeof(*many));
	uint8_t *image = NULL;
	size_t size, sections = 0;
	Elf *elf;

	for (size_t i = 0; i <= TRAMP_OBJECT_MAX; i++)
		many[i] = (struct tramp_code){0x2000 + 32 * i, 16, &row, 1, NULL, NULL};
	ok(tramp_object_x86(many, TRAMP_OBJECT_MAX + 1, &image, &size) == -E2BIG,
	   "too many for one object");
	ok(tramp_object_x86(many, TRAMP_OBJECT_MAX, &image, &size) == 0, "as many as there may be");
	elf = elf_memory((char *)image, size);
	ok(elf_getshdrnum(elf, &sections) == 0 && sections == TRAMP_OBJECT_MAX + 5,
	   "a section for each");
	elf_end(elf);
	free(image);
	free(many);
}

static void test_names(void)
{
	struct tramp_row row = {0, 0xabc123, 0};
	struct tramp_code code = {0x2000, 16, &row, 1, NULL, NULL};
	char name[TRAMP_NAME], longest[2 * TRAMP_NAME];

	tramp_name(&code, name);
	ok(strcmp(name, "suture:0xabc123") == 0, "a piece without a name: %s", name);
	code.name = "a\nb\x7f"
	            "c\t";
	tramp_name(&code, name);
	ok(strcmp(name, "a?b?c?") == 0, "one line");
	memset(longest, 'x', sizeof(longest));
	longest[sizeof(longest) - 1] = 0;
	code.name = longest;
	tramp_name(&code, name);
	ok(strlen(name) == TRAMP_NAME - 1, "cut");
}

int main(void)
{
	elf_version(EV_CURRENT);
	make_pieces();
	test_object();
	test_room();
	test_refusals();
	test_many();
	test_names();
	return done();
}
