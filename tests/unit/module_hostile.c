/* SPDX-License-Identifier: MIT */
/*
 * Files that are cut, corrupt or made in bad faith: every call returns, soon, and with little
 * memory. Each campaign runs in a child under limits; the parent reports the case it died of.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "module_sample.h"

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

static volatile unsigned *progress; /* shared with the child: the case it is at */
static uint8_t *original;
static size_t original_size;
static uint64_t rseq_vaddr;

/* xorshift64*: the campaign is the same every time. */
static uint64_t state = 88172645463325252;

static uint64_t draw(void)
{
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return state * UINT64_C(2685821657736338717);
}

/* Every call of the interface on one file; what they say does not matter here. */
static int use(const char *path, const char *debug_root)
{
	enum { RANGES = 400 };
	static struct module_range ranges[RANGES];
	static uint32_t dangers[RANGES];
	const struct module_symbol *symbols;
	uint8_t id[MODULE_BUILD_ID_MAX], bytes[64];
	struct module *module;
	uint64_t start, end;
	size_t count, n = 0;
	int error = module_open(path, debug_root, &module);

	if (error)
		return error;
	module_build_id(module, id);
	module_is_go(module);
	module_is_fixed(module);
	count = module_symbols(module, &symbols);
	for (uint64_t i = 0; i < 64; i++) {
		module_offset_to_vaddr(module, i * 509, &start);
		module_vaddr_to_offset(module, i * 509, &start);
		module_symbol_at(module, i * 509);
		module_read(module, i * 509, bytes, sizeof(bytes));
	}
	for (size_t i = 0; i < count && i < 1000; i++) {
		uint64_t vaddr = symbols[i].vaddr;

		if (strlen(symbols[i].name) == 0)
			abort();
		if (!module_function_extent(module, vaddr, &start, &end) && start >= end)
			abort();
		if (!module_fde_extent(module, vaddr, &start, &end) && start >= end)
			abort();
		module_rows_equal(module, vaddr, vaddr + 7);
		if (n < RANGES && !module_vaddr_to_offset(module, vaddr + 1, &start) &&
		    (n == 0 || ranges[n - 1].end <= vaddr + 1)) {
			ranges[n].start = vaddr + 1;
			ranges[n++].end = vaddr + 6;
		}
	}
	if (rseq_vaddr && n < RANGES && (n == 0 || ranges[n - 1].end <= rseq_vaddr))
		ranges[n++] = (struct module_range){rseq_vaddr, rseq_vaddr + 1};
	module_dangers(module, ranges, n, dangers);
	module_rseq_overlaps(module, 0, UINT64_MAX);
	module_close(module);
	return 0;
}

static void limit(int which, rlim_t value)
{
	struct rlimit limit = {value, value};

	setrlimit(which, &limit);
}

/* Runs `campaign` in a child; true if it ended by itself. */
static bool survives(void (*campaign)(void), unsigned cpu_s, unsigned memory_mb)
{
	int status;
	pid_t child;

	*progress = 0;
	child = fork();
	if (child == 0) {
		limit(RLIMIT_CPU, SANITIZED ? 10 * cpu_s : cpu_s);
		limit(RLIMIT_CORE, 0);
		if (!SANITIZED)
			limit(RLIMIT_AS, (rlim_t)memory_mb << 20);
		campaign();
		_exit(0);
	}
	waitpid(child, &status, 0);
	if (status)
		note("case %u: status %x", *progress, (unsigned)status);
	return status == 0;
}

/* A file in memory, opened as a regular file by its name in /proc. */
static void use_bytes(const uint8_t *bytes, size_t size)
{
	char path[64];
	int fd = memfd_create("sample", MFD_CLOEXEC);

	if (fd < 0 || write(fd, bytes, size) != (ssize_t)size)
		_exit(3);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	use(path, NULL);
	close(fd);
}

static void truncations(void)
{
	for (unsigned i = 0; i < 500; i++) {
		*progress = i;
		use_bytes(original, original_size * i / 500);
	}
}

static void corruptions(void)
{
	uint8_t *copy = malloc(original_size);

	for (unsigned i = 0; i < 2000; i++) {
		*progress = i;
		memcpy(copy, original, original_size);
		copy[draw() % original_size] = (uint8_t)draw();
		use_bytes(copy, original_size);
	}
	free(copy);
}

/* Where it hurts most: headers, call-frame information, exception and symbol tables. */
static void aimed_corruptions(void)
{
	static const uint8_t nasty[] = {0, 1, 0x7f, 0x80, 0xff};
	const Elf64_Ehdr *header = (const void *)original;
	const Elf64_Shdr *sections = (const void *)(original + header->e_shoff);
	uint8_t *copy = malloc(original_size);

	for (unsigned i = 0; i < 6000; i++) {
		unsigned where = (unsigned)(draw() % (header->e_shnum + 2u)), count = 1;
		uint64_t from = 0, size = sizeof(*header) + header->e_phnum * sizeof(Elf64_Phdr);

		*progress = i;
		if (where < header->e_shnum && sections[where].sh_type != SHT_NOBITS &&
		    sections[where].sh_size) {
			from = sections[where].sh_offset;
			size = sections[where].sh_size;
			count = 1 + (unsigned)(draw() % 8);
		} else if (where == header->e_shnum) {
			from = header->e_shoff;
			size = header->e_shnum * sizeof(*sections);
		}
		memcpy(copy, original, original_size);
		while (count--)
			copy[from + draw() % size] =
			        draw() % 2 ? nasty[draw() % sizeof(nasty)] : (uint8_t)draw();
		use_bytes(copy, original_size);
	}
	free(copy);
}

/* The file shrinks while the module is open: no SIGBUS. */
static void shrinks(void)
{
	for (unsigned i = 0; i < 50; i++) {
		char path[64];
		int fd = memfd_create("sample", MFD_CLOEXEC);
		const struct module_symbol *symbols;
		struct module_range range = {rseq_vaddr, rseq_vaddr + 1};
		uint32_t danger;
		uint8_t byte;
		struct module *module;

		*progress = i;
		if (fd < 0 || write(fd, original, original_size) != (ssize_t)original_size)
			_exit(3);
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		if (module_open(path, NULL, &module) ||
		    ftruncate(fd, (off_t)(original_size * i / 50)))
			_exit(4);
		module_symbols(module, &symbols);
		module_read(module, rseq_vaddr, &byte, 1);
		module_rows_equal(module, rseq_vaddr, rseq_vaddr + 1);
		module_dangers(module, &range, 1, &danger);
		module_close(module);
		close(fd);
	}
}

/* --- files in bad faith -------------------------------------------------------------------- */

struct forged {
	Elf64_Ehdr header;
	Elf64_Phdr text;
	Elf64_Shdr sections[6]; /* null, text, symbols, their names, frames, section names */
	char names[64];
};

enum { TEXT_AT = 4096, TEXT_SIZE = 4096, TABLES_AT = 8192 };

/* A file of one page of nops, `symbols` symbols, their names, and frames. Sizes in bytes. */
static struct forged forge(uint64_t symbols, uint64_t names, uint64_t frames)
{
	struct forged forged = {
	        .header = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
	                   .e_type = ET_DYN,
	                   .e_machine = EM_X86_64,
	                   .e_version = EV_CURRENT,
	                   .e_phoff = offsetof(struct forged, text),
	                   .e_shoff = offsetof(struct forged, sections),
	                   .e_ehsize = sizeof(Elf64_Ehdr),
	                   .e_phentsize = sizeof(Elf64_Phdr),
	                   .e_phnum = 1,
	                   .e_shentsize = sizeof(Elf64_Shdr),
	                   .e_shnum = 6,
	                   .e_shstrndx = 5},
	        .text = {.p_type = PT_LOAD,
	                 .p_flags = PF_R | PF_X,
	                 .p_offset = TEXT_AT,
	                 .p_vaddr = TEXT_AT,
	                 .p_filesz = TEXT_SIZE,
	                 .p_memsz = TEXT_SIZE},
	        .names = "\0.text\0.eh_frame"};

	forged.sections[1] = (Elf64_Shdr){.sh_name = 1,
	                                  .sh_type = SHT_PROGBITS,
	                                  .sh_flags = SHF_ALLOC | SHF_EXECINSTR,
	                                  .sh_addr = TEXT_AT,
	                                  .sh_offset = TEXT_AT,
	                                  .sh_size = TEXT_SIZE};
	forged.sections[2] = (Elf64_Shdr){.sh_type = SHT_SYMTAB,
	                                  .sh_offset = TABLES_AT,
	                                  .sh_size = symbols,
	                                  .sh_link = 3,
	                                  .sh_entsize = sizeof(Elf64_Sym)};
	forged.sections[3] = (Elf64_Shdr){
	        .sh_type = SHT_STRTAB, .sh_offset = TABLES_AT + symbols, .sh_size = names};
	forged.sections[4] = (Elf64_Shdr){.sh_name = 7,
	                                  .sh_type = SHT_PROGBITS,
	                                  .sh_flags = SHF_ALLOC,
	                                  .sh_addr = 1 << 20,
	                                  .sh_offset = TABLES_AT + symbols + names,
	                                  .sh_size = frames};
	forged.sections[5] = (Elf64_Shdr){.sh_type = SHT_STRTAB,
	                                  .sh_offset = offsetof(struct forged, names),
	                                  .sh_size = sizeof(forged.names)};
	return forged;
}

static void write_forged(const struct forged *forged, const void *symbols, const void *names,
                         const void *frames)
{
	static uint8_t text[TEXT_SIZE];
	int fd = open(sample_path("forged"), O_WRONLY | O_CREAT | O_TRUNC, 0600);
	const Elf64_Shdr *sections = forged->sections;

	memset(text, 0x90, sizeof(text));
	if (fd < 0 || pwrite(fd, forged, sizeof(*forged), 0) < 0 ||
	    pwrite(fd, text, sizeof(text), TEXT_AT) < 0 ||
	    pwrite(fd, symbols, sections[2].sh_size, (off_t)sections[2].sh_offset) < 0 ||
	    pwrite(fd, names, sections[3].sh_size, (off_t)sections[3].sh_offset) < 0 ||
	    pwrite(fd, frames, sections[4].sh_size, (off_t)sections[4].sh_offset) < 0) {
		printf("Bail out! cannot write a sample\n");
		exit(1);
	}
	close(fd);
}

static void use_forged(void)
{
	if (use(sample_path("forged"), NULL)) /* it is meant to be looked at, not refused */
		_exit(5);
}

/* Two million functions, all at one address, each named by a tail of one long string. */
static void many_symbols(bool same_name, bool same_address, const char *what)
{
	enum { COUNT = 2000000, NAMES = 4 << 20 };
	struct forged forged = forge(COUNT * sizeof(Elf64_Sym), NAMES, 0);
	Elf64_Sym *symbols = calloc(COUNT, sizeof(*symbols));
	char *names = malloc(NAMES);
	double begin;

	memset(names, 'a', NAMES);
	if (same_name)
		memcpy(names + NAMES - 8, "f.cold\0", 8);
	names[NAMES - 1] = 0;
	for (unsigned i = 0; i < COUNT; i++)
		symbols[i] = (Elf64_Sym){
		        .st_name = same_name ? NAMES - 8 : i,
		        .st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC),
		        .st_shndx = 1,
		        .st_value = TEXT_AT + (same_address ? 0 : i * UINT64_C(7919) % TEXT_SIZE),
		        .st_size = same_address ? i : draw()};
	write_forged(&forged, symbols, names, "");
	begin = seconds();
	ok(survives(use_forged, 20, 1500), "%s", what);
	note("%.2f s", seconds() - begin);
	free(symbols);
	free(names);
}

static uint8_t *put(uint8_t *at, const void *bytes, size_t size)
{
	return (uint8_t *)memcpy(at, bytes, size) + size;
}

/* A CIE and `count` FDEs, each over the whole text, with a program of `size` bytes. */
static void many_frames(unsigned count, uint32_t size, uint8_t fill, const char *what)
{
	static const uint8_t cie[] = {16,  0, 0, 0,    0,  0, 0, 0, 1, 'z',
	                              'R', 0, 1, 0x78, 16, 1, 3, 0, 0, 0};
	size_t total = sizeof(cie) + (size_t)count * (17 + size) + 4;
	uint8_t *frames = calloc(total, 1), *at = put(frames, cie, sizeof(cie));
	Elf64_Sym symbol[2] = {{0},
	                       {.st_name = 1,
	                        .st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC),
	                        .st_shndx = 1,
	                        .st_value = TEXT_AT,
	                        .st_size = TEXT_SIZE}};
	struct forged forged = forge(sizeof(symbol), 3, total);
	double begin;

	for (unsigned i = 0; i < count; i++) {
		uint32_t head[] = {13 + size, (uint32_t)(at - frames) + 4,
		                   TEXT_AT + (count > 1 ? i % TEXT_SIZE : 0),
		                   count > 1 ? 1 : TEXT_SIZE};

		at = put(at, head, sizeof(head));
		*at++ = 0; /* augmentation data */
		memset(at, fill, size);
		at += size;
	}
	write_forged(&forged, symbol, "\0f", frames);
	begin = seconds();
	ok(survives(use_forged, 20, 1500), "%s", what);
	note("%.2f s", seconds() - begin);
	free(frames);
}

/* Sizes that only a sparse file can have. */
static void huge(void)
{
	struct forged forged = forge(UINT64_C(1) << 36, UINT64_C(1) << 36, UINT64_C(1) << 36);

	write_forged(&(struct forged){0}, "", "", "");
	if (truncate(sample_path("forged"), (off_t)(UINT64_C(1) << 40))) {
		skip("no sparse files of 1 TB here");
		return;
	}
	forged.text.p_filesz = forged.text.p_memsz = UINT64_C(1) << 39;
	{
		int fd = open(sample_path("forged"), O_WRONLY);

		if (pwrite(fd, &forged, sizeof(forged), 0) < 0)
			note("not written");
		close(fd);
	}
	ok(survives(use_forged, 20, 1500), "a sparse file of 1 TB, with sections of 64 GB");
	run("rm forged");
}

static const char source[] =
        "extern int puts(const char *);\nstruct A { A(); ~A(); int x; };\nextern int out(int);\n"
        "extern \"C\" int simple(int x) { try { return out(x); } catch (int e) { return e; } }\n"
        "extern \"C\" int table(int x) { switch (x) { case 0: return out(1); case 1: return out(x) "
        "+ 3;"
        "case 2: puts(\"a\"); break; case 3: return out(7) * 3; case 4: return out(3) - 1; case 5: "
        "x = out(x); break; } return out(x); }\n"
        "extern \"C\" int clean(int x) { A a; A b; return out(a.x + b.x + x); }\n"
        "asm(\".pushsection __rseq_cs, \\\"aw\\\"; .long 0, 0; .quad clean + 1, 4, simple + 9;"
        ".popsection\");\n";

static void load_sample(void)
{
	FILE *file;

	write_sample("victim.cc", source);
	run("g++ -O1 -g1 -shared -fPIC -Wl,-z,noseparate-code -Wl,--build-id -o victim.so "
	    "victim.cc");
	file = fopen(sample_path("victim.so"), "r");
	original = malloc(1 << 20);
	original_size = file ? fread(original, 1, 1 << 20, file) : 0;
	if (file)
		fclose(file);
	rseq_vaddr = label("victim.so", "table") + 9;
}

int main(void)
{
	progress = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	sample_start();
	load_sample();
	ok(original_size > 0 && use(sample_path("victim.so"), "") == 0, "the victim, unharmed");
	ok(survives(truncations, 30, 1000), "500 truncations");
	ok(survives(corruptions, 60, 1000), "2000 corruptions of a byte");
	ok(survives(aimed_corruptions, 90, 1000), "6000 aimed ones");
	ok(survives(shrinks, 10, 1000), "50 files that shrink while open");
	many_symbols(false, true, "2 million aliases with endless names");
	many_symbols(true, false, "2 million cold fragments of one name");
	many_frames(200000, 3, 0x0a, "200,000 FDEs at the same addresses");
	many_frames(1, 8 << 20, 0x0a, "8 MB of remember_state");
	many_frames(1, 8 << 20, 0x41, "8 MB of advance_loc");
	many_frames(1, 8 << 20, 0xff, "8 MB of ff");
	huge();
	return done();
}
