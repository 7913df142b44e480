/* SPDX-License-Identifier: MIT */
/* Call-frame information: extents as readelf prints them, rows as libdw computes them. */
#include <dwarf.h>
#include <elfutils/libdw.h>
#include <errno.h>
#include <fcntl.h>

#include "module_sample.h"

enum { REGISTERS = 17, SAMPLES = 24 };

static void same_extents(const char *path)
{
	char command[512], line[1024];
	struct module *module = open_sample(path, NULL);
	size_t count = 0, wrong = 0;
	FILE *pipe;

	snprintf(command, sizeof(command), "readelf --debug-dump=frames %s 2>/dev/null", path);
	pipe = popen(command, "r");
	while (pipe && fgets(line, sizeof(line), pipe)) {
		char *at = strstr(line, " FDE ") ? strstr(line, " pc=") : NULL;
		uint64_t from, to, start, end;

		if (!at || sscanf(at, " pc=%" SCNx64 "..%" SCNx64, &from, &to) != 2 || from == to)
			continue;
		count++;
		if (module_fde_extent(module, from, &start, &end) || start != from || end != to ||
		    module_fde_extent(module, to - 1, &start, &end) || start != from || end != to)
			if (wrong++ == 0)
				note("%" PRIx64 "..%" PRIx64, from, to);
	}
	if (pipe)
		pclose(pipe);
	ok(count > 0 && wrong == 0, "%s: %zu FDEs as readelf prints them", path, count);
	module_close(module);
}

struct reference {
	uint64_t length;
	uint8_t bytes[2048];
};

static void put(struct reference *row, const void *bytes, size_t size)
{
	if (row->length + size <= sizeof(row->bytes))
		memcpy(row->bytes + row->length, bytes, size);
	row->length += size;
}

/* Not the operations' offsets, which tell equal expressions apart. */
static void put_ops(struct reference *row, const Dwarf_Op *ops, size_t count)
{
	put(row, &count, sizeof(count));
	for (size_t i = 0; i < count; i++) {
		put(row, &ops[i].atom, sizeof(ops[i].atom));
		put(row, &ops[i].number, sizeof(ops[i].number));
		put(row, &ops[i].number2, sizeof(ops[i].number2));
	}
}

/* libdw's view of the row, with unsaved registers made alike. */
static bool reference_row(Dwarf_CFI *cfi, uint64_t vaddr, struct reference *row)
{
	Dwarf_Frame *frame;
	Dwarf_Op *ops, memory[3];
	size_t count;

	*row = (struct reference){0};
	if (dwarf_cfi_addrframe(cfi, vaddr, &frame))
		return false;
	if (dwarf_frame_cfa(frame, &ops, &count))
		count = 0;
	put_ops(row, ops, count);
	for (int reg = 0; reg < REGISTERS; reg++) {
		uint8_t where = 0;

		if (dwarf_frame_register(frame, reg, memory, &ops, &count))
			count = 0;
		if (!ops)
			count = 0;
		if (count) {
			where = 1;
			if (reg == 7 && count == 2 && ops[1].atom == DW_OP_stack_value)
				count = 0; /* rsp is the CFA, as ever */
		}
		put(row, &where, 1);
		put_ops(row, ops, count);
	}
	free(frame);
	return row->length <= sizeof(row->bytes);
}

static void same_rows(const char *path, size_t stride)
{
	struct module *module = open_sample(path, NULL);
	const struct module_symbol *symbols;
	size_t count = module_symbols(module, &symbols), pairs = 0, equal = 0, wrong = 0;
	int fd = open(path, O_RDONLY);
	Elf *elf = elf_begin(fd, ELF_C_READ_MMAP, NULL);
	Dwarf_CFI *cfi = dwarf_getcfi_elf(elf);

	for (size_t i = 0; i < count; i += stride) {
		struct reference first, other;
		uint64_t start, end, step;

		if (module_fde_extent(module, symbols[i].vaddr, &start, &end) ||
		    !reference_row(cfi, start, &first))
			continue;
		step = (end - start) / SAMPLES ? (end - start) / SAMPLES : 1;
		for (uint64_t at = start + 1; at < end; at += at < start + 16 ? 1 : step) {
			bool same;

			if (!reference_row(cfi, at, &other))
				continue;
			same = first.length == other.length &&
			       !memcmp(first.bytes, other.bytes, first.length);
			pairs++;
			equal += same;
			if (module_rows_equal(module, start, at) != same && wrong++ < 5)
				note("%" PRIx64 " and %" PRIx64 ": libdw says %s", start, at,
				     same ? "equal" : "different");
		}
	}
	ok(pairs > 0 && wrong == 0, "%s: %zu pairs of rows, %zu equal, as libdw sees them", path,
	   pairs, equal);
	dwarf_cfi_end(cfi);
	elf_end(elf);
	close(fd);
	module_close(module);
}

/* Each escape of the CFI programs once, in rows whose equality is known. */
/* clang-format off */
static const char rows_source[] =
	".text\n.globl f\n.type f, @function\nf: .cfi_startproc\nnop\n"
	".cfi_adjust_cfa_offset 8\nnop\n"
	".cfi_adjust_cfa_offset -8\nnop\n"                          /* 2 = 0 */
	".cfi_remember_state\n.cfi_def_cfa 6, 16\n.cfi_offset 6, -16\nnop\n"
	".cfi_restore_state\nnop\n"                                 /* 4 = 0 */
	".cfi_offset 3, -24\nnop\n"
	".cfi_restore 3\nnop\n"                                     /* 6 = 0 */
	".cfi_undefined 3\nnop\n"                                   /* 7 = 0, for want of proof */
	".cfi_same_value 12\nnop\n"                                 /* 8 = 0 */
	".cfi_register 3, 12\nnop\n"
	".cfi_restore 3\n.cfi_escape 0x0f, 3, 0x77, 8, 6\nnop\n"    /* CFA by expression */
	".cfi_escape 0x0f, 3, 0x77, 8, 6\nnop\n"                    /* 11 = 10 */
	".cfi_escape 0x0f, 3, 0x77, 16, 6\nnop\n"
	".cfi_def_cfa 7, 8\nnop\n"                                  /* 13 = 0 */
	".cfi_escape 0x10, 3, 2, 0x77, 0\nnop\n"                    /* register by expression */
	".cfi_escape 0x16, 3, 2, 0x77, 0\nnop\n"                    /* value by expression */
	".cfi_restore 3\n.cfi_escape 0x2e, 16\nnop\n"               /* 16 = 0: GNU_args_size */
	".cfi_offset 16, -16\nnop\n"
	".cfi_restore 16\nnop\n"                                    /* 18 = 0: as the CIE says */
	".cfi_escape 0x3f\nnop\n"                                   /* unknown: no row from here */
	".cfi_endproc\n.size f, .-f\n"
	".globl g\n.type g, @function\ng: nop\n.size g, .-g\n";
/* clang-format on */

static void known_rows(void)
{
	static const int same_as[] = {0,  1,  0,  3, 0,  5,  0, 0,  0, 9,
	                              10, 10, 12, 0, 14, 15, 0, 17, 0};
	enum { COUNT = sizeof(same_as) / sizeof(*same_as) };
	struct module *module;
	uint64_t f, g;
	int wrong = 0;

	write_sample("rows.s", rows_source);
	/* The linker cannot read instruction 3f either, and makes no .eh_frame_hdr. */
	run("gcc -shared -nostdlib -o rows.so rows.s 2>/dev/null");
	module = open_sample("rows.so", NULL);
	f = label("rows.so", "f");
	g = label("rows.so", "g");
	for (int a = 0; a < COUNT; a++)
		for (int b = 0; b < COUNT; b++)
			if (module_rows_equal(module, f + (unsigned)a, f + (unsigned)b) !=
			    (same_as[a] == same_as[b])) {
				note("rows %d and %d", a, b);
				wrong++;
			}
	ok(wrong == 0, "rows made by hand: %d pairs", COUNT * COUNT);
	ok(module_rows_equal(module, f, f + COUNT) == -ENOENT,
	   "no row after an unknown instruction");
	ok(module_rows_equal(module, f, g) == -ENOENT, "no row without an FDE");
	module_close(module);
}

/* .debug_frame counts where .eh_frame says nothing; in the file or in the separate one. */
static void debug_frame(void)
{
	struct module *module;
	uint64_t start, end, f;

	write_sample("df.c", "int f(int x) { return x + 1; }\nint g(int x) { return f(x) * 2; }\n");
	run("gcc -O1 -g -fno-asynchronous-unwind-tables -fno-unwind-tables -shared -nostdlib -fPIC "
	    "-Wl,--build-id -o df.so df.c");
	f = label("df.so", "f");
	module = open_sample("df.so", NULL);
	ok(!module_fde_extent(module, f, &start, &end) && start == f, ".debug_frame");
	module_close(module);
	run("objcopy --only-keep-debug --compress-debug-sections df.so df.debug && strip -o dfs.so "
	    "df.so && objcopy --add-gnu-debuglink=df.debug dfs.so");
	module = open_sample("dfs.so", NULL);
	ok(module_fde_extent(module, f, &start, &end) == -ENOENT, "stripped: none");
	module_close(module);
	module = open_sample("dfs.so", "/nowhere");
	ok(!module_fde_extent(module, f, &start, &end) && start == f,
	   "compressed .debug_frame of the separate debug file");
	module_close(module);
}

int main(void)
{
	sample_start();
	elf_version(EV_CURRENT);
	for (size_t i = 0; i < sizeof(sample_libraries) / sizeof(*sample_libraries); i++) {
		if (access(sample_libraries[i], R_OK)) {
			skip("%s is not installed", sample_libraries[i]);
			continue;
		}
		same_extents(sample_libraries[i]);
		same_rows(sample_libraries[i], i < 2 ? 2 : 5);
	}
	known_rows();
	debug_frame();
	return done();
}
