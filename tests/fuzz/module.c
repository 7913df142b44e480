/* SPDX-License-Identifier: MIT */
/*
 * module.c - fuzzes the reader of ELF files and of their separate debug files.
 *
 * Input: how it is used (1 byte): 0: the rest is a file as it is; else edits of a good file and its
 * debug file, 8 bytes each: what to do (1), where (3), a value (4). Edits lead behind checks that
 * bytes made up by chance never pass.
 *
 * Properties: every call returns; names are no empty strings, extents are not empty and hold their
 * address, symbols are sorted, reads stay within what was asked for, answers do not change.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz.h"
#include "module/module.h"

enum { FILE_MAX = 1 << 20, SYMBOLS_MAX = 64 };

__asm__(".section .rodata\n"
        ".globl seed_main, seed_main_end, seed_debug, seed_debug_end\n"
        "seed_main: .incbin \"" SEED "\"\nseed_main_end:\n"
        "seed_debug: .incbin \"" SEED ".debug\"\nseed_debug_end:\n"
        ".previous");
extern const uint8_t seed_main[], seed_main_end[], seed_debug[], seed_debug_end[];

static struct {
	unsigned long opened, refused, debug, symbols, extents, rows, proven, dangers;
} reached;

void fuzz_summary(void)
{
	printf("opened %lu\nrefused %lu\ndebug %lu\nsymbols %lu\nextents %lu\nrows %lu\nproven "
	       "%lu\n"
	       "dangers %lu\n",
	       reached.opened, reached.refused, reached.debug, reached.symbols, reached.extents,
	       reached.rows, reached.proven, reached.dangers);
}

/* ---- files ---- */

struct file {
	uint8_t bytes[FILE_MAX];
	size_t size;
};

static struct file main_file, debug_file;
static char folder[256];

static void remove_folder(void)
{
	char command[300];

	snprintf(command, sizeof(command), "rm -rf '%s'", folder);
	if (system(command))
		fprintf(stderr, "fuzz: %s stays\n", folder);
}

static const char *inside(const char *name)
{
	static char path[1024];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	return path;
}

static void make_folder(void)
{
	const char *place = getenv("TMPDIR");

	if (*folder)
		return;
	/* Many small files: better not on a disk. */
	if (!place)
		place = access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm";
	snprintf(folder, sizeof(folder), "%s/suture-fuzz-module-XXXXXX", place);
	if (!mkdtemp(folder))
		fuzz_fail("no folder: %s", strerror(errno));
	atexit(remove_folder);
}

static void write_file(const char *path, const struct file *file)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || write(fd, file->bytes, file->size) != (ssize_t)file->size)
		fuzz_fail("%s: %s", path, strerror(errno));
	close(fd);
}

/* Where it is looked for by the build ID; by .gnu_debuglink it is found beside the file. */
static void place_debug_file(const uint8_t *id, size_t size)
{
	static const char *const folders[] = {"usr", "usr/lib", "usr/lib/debug",
	                                      "usr/lib/debug/.build-id"};
	static char last[1024];
	char hex[2 * MODULE_BUILD_ID_MAX + 1] = "", path[512];

	write_file(inside("seed.debug"), &debug_file);
	if (*last)
		unlink(last);
	*last = 0;
	if (size < 2)
		return;
	for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++)
		mkdir(inside(folders[i]), 0700);
	for (size_t i = 0; i < size; i++)
		snprintf(hex + 2 * i, 3, "%02x", id[i]);
	snprintf(path, sizeof(path), "usr/lib/debug/.build-id/%.2s", hex);
	mkdir(inside(path), 0700);
	snprintf(path, sizeof(path), "usr/lib/debug/.build-id/%.2s/%s.debug", hex, hex + 2);
	snprintf(last, sizeof(last), "%s", inside(path));
	write_file(last, &debug_file);
}

/* ---- edits ---- */

static const uint64_t nasty[] = {
        0,      1,         7,          0x7f,      0x80,       0xff,
        0x7fff, INT32_MAX, UINT32_MAX, INT64_MAX, UINT64_MAX, UINT64_C(1) << 63,
};

static void put(struct file *file, uint64_t at, uint64_t value, size_t size)
{
	if (size <= file->size)
		memcpy(file->bytes + at % (file->size - size + 1), &value, size);
}

/* A field of the headers of the file, of its segments or of its sections. */
static void put_header(struct file *file, unsigned which, uint64_t at, uint64_t value)
{
	Elf64_Ehdr header;
	uint64_t from = 0, size = sizeof(header);

	if (file->size < sizeof(header))
		return;
	memcpy(&header, file->bytes, sizeof(header));
	if (which == 1) {
		from = header.e_phoff;
		size = header.e_phnum * sizeof(Elf64_Phdr);
	} else if (which == 2) {
		from = header.e_shoff;
		size = header.e_shnum * sizeof(Elf64_Shdr);
	}
	if (size < 8 || from > file->size || size > file->size - from)
		return;
	memcpy(file->bytes + from + (at % (size / 4)) * 4, &value, at & 1 ? 4 : 8);
}

/* A byte of one section's contents. */
static void put_section(struct file *file, uint64_t section, uint64_t at, uint8_t value)
{
	Elf64_Ehdr header;
	Elf64_Shdr found;

	if (file->size < sizeof(header))
		return;
	memcpy(&header, file->bytes, sizeof(header));
	if (!header.e_shnum || header.e_shoff > file->size ||
	    header.e_shnum * sizeof(found) > file->size - header.e_shoff)
		return;
	memcpy(&found, file->bytes + header.e_shoff + section % header.e_shnum * sizeof(found),
	       sizeof(found));
	if (found.sh_type != SHT_NOBITS && found.sh_size && found.sh_offset < file->size &&
	    found.sh_size <= file->size - found.sh_offset)
		file->bytes[found.sh_offset + at % found.sh_size] = value;
}

static void edit(struct fuzz_input *input)
{
	uint8_t what = fuzz_byte(input);
	struct file *file = what & 0x80 ? &debug_file : &main_file;
	uint64_t at = fuzz_number(input, 3), value = fuzz_number(input, 4);
	uint64_t odd = nasty[value % (sizeof(nasty) / sizeof(nasty[0]))];

	switch (what & 7) {
	case 0:
		put(file, at, value, 1);
		break;
	case 1:
		put(file, at, value & 1 ? odd : value, what & 8 ? 8 : 4);
		break;
	case 2:
	case 3:
	case 4:
		put_header(file, (what & 7) - 2, at, what & 8 ? odd : value);
		break;
	case 5:
		if (what & 8 && file->size)
			file->size = at % file->size;
		break;
	default:
		put_section(file, value >> 8, at, what & 8 ? (uint8_t)odd : (uint8_t)value);
	}
}

/* ---- use ---- */

static void check_extent(const char *what, uint64_t vaddr, uint64_t start, uint64_t end)
{
	if (start > vaddr || vaddr >= end)
		fuzz_fail("%s of %#llx is [%#llx, %#llx)", what, (unsigned long long)vaddr,
		          (unsigned long long)start, (unsigned long long)end);
}

/* One symbol: where it is, and what of it may be in danger. */
static bool look(struct module *module, const struct module_symbol *symbol,
                 struct module_range *range)
{
	uint64_t start, end, offset, back;
	uint8_t bytes[64];
	int n = module_read(module, symbol->vaddr, bytes, sizeof(bytes));

	if (n > (int)sizeof(bytes))
		fuzz_fail("%d bytes read of %zu", n, sizeof(bytes));
	if (!module_function_extent(module, symbol->vaddr, &start, &end)) {
		check_extent("the function", symbol->vaddr, start, end);
		reached.extents++;
	}
	if (!module_fde_extent(module, symbol->vaddr, &start, &end))
		check_extent("the frame", symbol->vaddr, start, end);
	n = module_rows_equal(module, symbol->vaddr, symbol->vaddr);
	if (n == 0)
		fuzz_fail("a row differs from itself at %#llx", (unsigned long long)symbol->vaddr);
	reached.rows += n == 1;
	(void)module_rows_equal(module, symbol->vaddr, symbol->vaddr + 4);
	*range = (struct module_range){symbol->vaddr + 1, symbol->vaddr + 6};
	if (module_vaddr_to_offset(module, range->start, &offset))
		return false;
	if (!module_offset_to_vaddr(module, offset, &back))
		(void)module_vaddr_to_offset(module, back, &offset);
	return true;
}

static void use_dangers(struct module *module, const struct module_range *ranges, size_t n)
{
	uint32_t dangers[SYMBOLS_MAX], again[SYMBOLS_MAX];

	if (module_dangers(module, ranges, n, dangers))
		return;
	for (size_t i = 0; i < n; i++) {
		reached.proven += !dangers[i];
		reached.dangers += dangers[i] != 0;
	}
	if (module_dangers(module, ranges, n, again) || memcmp(dangers, again, n * sizeof(*again)))
		fuzz_fail("dangers change from one look to the next");
}

static void use_symbols(struct module *module)
{
	struct module_range ranges[SYMBOLS_MAX];
	const struct module_symbol *symbols;
	size_t count = module_symbols(module, &symbols), n = 0;

	reached.symbols += count > 0;
	reached.debug += count > 2; /* the stripped file exports two */
	for (size_t i = 0; i < count && n < SYMBOLS_MAX; i++) {
		if (!*symbols[i].name || (i && symbols[i].vaddr < symbols[i - 1].vaddr))
			fuzz_fail("symbol %zu has no name or is not in order", i);
		if (look(module, &symbols[i], &ranges[n]) &&
		    (n == 0 || ranges[n - 1].end <= ranges[n].start))
			n++;
	}
	use_dangers(module, ranges, n);
}

static void use(void)
{
	uint8_t id[MODULE_BUILD_ID_MAX] = {0};
	char path[1024];
	struct module *module;
	size_t size;

	snprintf(path, sizeof(path), "%s", inside("seed.so"));
	write_file(path, &main_file);
	if (module_open(path, NULL, &module)) {
		reached.refused++;
		return;
	}
	size = module_build_id(module, id);
	if (size > sizeof(id))
		fuzz_fail("a build ID of %zu bytes", size);
	module_close(module);
	place_debug_file(id, size);
	if (module_open(path, folder, &module))
		fuzz_fail("a file that opened does not open again");
	reached.opened++;
	(void)module_is_go(module);
	(void)module_is_fixed(module);
	use_symbols(module);
	for (uint64_t vaddr = 0; vaddr < 0x6000; vaddr += 509) {
		const struct module_symbol *symbol = module_symbol_at(module, vaddr);

		/* Its size is the file's word, and may reach beyond the end of the world. */
		if (symbol && vaddr - symbol->vaddr >= symbol->size)
			fuzz_fail("%s does not hold %#llx", symbol->name,
			          (unsigned long long)vaddr);
		(void)module_rseq_overlaps(module, vaddr, vaddr + 32);
	}
	module_close(module);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, data + size};

	make_folder();
	debug_file.size = (size_t)(seed_debug_end - seed_debug);
	memcpy(debug_file.bytes, seed_debug, debug_file.size);
	if (fuzz_byte(&input) == 0) {
		main_file.size = (size_t)(input.end - input.at);
		if (main_file.size > FILE_MAX)
			return 0;
		memcpy(main_file.bytes, input.at, main_file.size);
	} else {
		main_file.size = (size_t)(seed_main_end - seed_main);
		memcpy(main_file.bytes, seed_main, main_file.size);
		/* A few edits reach further than many. */
		for (int i = 0; input.at < input.end && i < 6; i++)
			edit(&input);
	}
	use();
	return 0;
}
