/* SPDX-License-Identifier: MIT */
/*
 * isa_forms.h - which instructions isa_relocate.c tries: some samples of each form that starts
 * in the first 16 bytes of a function of some libraries and programs, and all that `relocate`
 * rewrites, in every register.
 *
 * Two instructions are of one form if they are encoded alike: encoding, opcode and its map,
 * prefixes, what ModRM and SIB say about how operands are addressed, sizes of displacement and
 * immediates, and which registers are of those that encodings treat apart. Which samples of a
 * form are kept is drawn by lot, so that another seed tries others.
 */
#ifndef ISA_FORMS_H
#define ISA_FORMS_H

#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <Zydis/Zydis.h>

#include "isa_machine.h"
#include "module/module.h"
#include "tap.h"

enum {
	SAMPLES_MAX = 64,      /* per form */
	FORMS_MAX = 16384,     /* a power of two: they are hashed */
	STORED_MAX = 131072,   /* samples of all forms */
	DISTINCT_MAX = 524288, /* a power of two; different instructions */
	ENTRY = 16,            /* the bytes at a function's start that are of interest */
	RSP = 4,               /* numbers in encodings */
	RBP = 5,
};

struct sample {
	uint8_t code[16];
	uint8_t length;
};

struct form {
	uint64_t key;
	unsigned seen; /* different instructions */
	unsigned stored[SAMPLES_MAX];
};

static struct sample samples[STORED_MAX];
static unsigned sample_count, samples_each, form_count, distinct_count;
static struct form forms[FORMS_MAX];
static uint64_t distinct[DISTINCT_MAX];
static unsigned long instructions_seen;
static ZydisDecoder decoder;

static uint64_t mix(uint64_t key, uint64_t value)
{
	return (key ^ value) * 0x9E3779B97F4A7C15ull ^ (key >> 29);
}

/* ---- what is alike ---- */

/* Encodings treat rsp, rbp and their extensions apart; other registers are alike. */
static uint64_t kind_of_register(ZydisRegister reg)
{
	int id = ZydisRegisterGetId(reg);
	ZydisRegisterClass class = ZydisRegisterGetClass(reg);

	if (reg == ZYDIS_REGISTER_NONE || reg == ZYDIS_REGISTER_RIP)
		return (uint64_t)reg << 8;
	return (uint64_t) class << 8 | ((id & 7) == RSP || (id & 7) == RBP ? id : id & 8);
}

static uint64_t kind_of_operand(const ZydisDecodedOperand *operand)
{
	uint64_t kind = mix(operand->type, operand->size);

	if (operand->type == ZYDIS_OPERAND_TYPE_REGISTER)
		return mix(kind, kind_of_register(operand->reg.value));
	if (operand->type != ZYDIS_OPERAND_TYPE_MEMORY)
		return kind;
	kind = mix(kind, kind_of_register(operand->mem.base));
	kind = mix(kind, operand->mem.index != ZYDIS_REGISTER_NONE);
	kind = mix(kind, operand->mem.disp.has_displacement);
	return mix(kind, operand->mem.segment);
}

/* What the operands do not show. */
static uint64_t kind_of_encoding(const ZydisDecodedInstruction *fields)
{
	uint64_t key = mix(fields->mnemonic, fields->encoding);
	bool modrm = fields->attributes & ZYDIS_ATTRIB_HAS_MODRM;

	key = mix(key, (uint64_t)fields->opcode_map << 8 | fields->opcode);
	key = mix(key, modrm ? 1 + fields->raw.modrm.mod : 0);
	key = mix(key, modrm && (fields->raw.modrm.rm & 6) == RSP ? fields->raw.modrm.rm : 0);
	key = mix(key, (uint64_t)fields->raw.disp.size << 16 | fields->raw.imm[0].size << 8 |
	                       fields->raw.imm[1].size);
	key = mix(key, (uint64_t)fields->address_width << 16 | fields->operand_width);
	key = mix(key, fields->avx.vector_length);
	key = mix(key, (uint64_t)fields->avx.mask.mode << 8 | fields->avx.broadcast.mode);
	for (int i = 0; i < fields->raw.prefix_count; i++)
		if (fields->raw.prefixes[i].value >> 4 != 4) /* REX shows in the operands */
			key = mix(key, fields->raw.prefixes[i].value);
	return key;
}

static uint64_t key_of(const ZydisDecodedInstruction *fields, const ZydisDecodedOperand *operands)
{
	uint64_t key = kind_of_encoding(fields);

	for (int i = 0; i < fields->operand_count_visible; i++)
		key = mix(key, kind_of_operand(&operands[i]));
	return key ? key : 1;
}

/* ---- samples ---- */

static void store(unsigned at, const uint8_t *code, size_t length)
{
	memcpy(samples[at].code, code, length);
	samples[at].length = (uint8_t)length;
}

/* Each of the `seen` has the same chance to be among those that are kept. */
static void draw(struct form *form, const uint8_t *code, size_t length)
{
	unsigned n = form->seen++;

	if (n < samples_each && sample_count < STORED_MAX) {
		form->stored[n] = sample_count;
		store(sample_count++, code, length);
		return;
	}
	n = (unsigned)(next_random() % form->seen);
	if (n < samples_each)
		store(form->stored[n], code, length);
}

static struct form *form_of(uint64_t key)
{
	size_t slot = key % FORMS_MAX;

	while (forms[slot].key && forms[slot].key != key)
		slot = (slot + 1) % FORMS_MAX;
	if (!forms[slot].key) {
		if (form_count == FORMS_MAX / 2)
			return NULL;
		form_count++;
		forms[slot].key = key;
	}
	return &forms[slot];
}

static bool is_distinct(const uint8_t *code, size_t length)
{
	uint64_t key = length, part[2] = {0};
	size_t slot;

	memcpy(part, code, length);
	key = mix(mix(key, part[0]), part[1]) | 1;
	for (slot = (key >> 20) % DISTINCT_MAX; distinct[slot]; slot = (slot + 1) % DISTINCT_MAX)
		if (distinct[slot] == key)
			return false;
	if (distinct_count == DISTINCT_MAX / 2)
		return false;
	distinct[slot] = key;
	distinct_count++;
	return true;
}

/* Returns the instruction's length, 0 if there is none. */
static size_t add_instruction(const uint8_t *bytes, size_t size)
{
	ZydisDecodedInstruction fields;
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
	uint8_t code[16];
	struct form *form;

	if (ZYAN_FAILED(ZydisDecoderDecodeFull(&decoder, bytes, size, &fields, operands)))
		return 0;
	instructions_seen++;
	memcpy(code, bytes, fields.length);
	/* The test aims these itself: without them there are far fewer to draw from. */
	if (fields.raw.imm[0].is_relative)
		memset(code + fields.raw.imm[0].offset, 0, fields.raw.imm[0].size / 8);
	else if (fields.attributes & ZYDIS_ATTRIB_IS_RELATIVE)
		memset(code + fields.raw.disp.offset, 0, fields.raw.disp.size / 8);
	if (is_distinct(code, fields.length)) {
		form = form_of(key_of(&fields, operands));
		if (form)
			draw(form, code, fields.length);
	}
	return fields.length;
}

/* ---- functions of a file ---- */

struct image {
	const uint8_t *bytes;
	size_t size;
};

/* Where functions start, in any order; then sorted. */
struct starts {
	uint64_t *address;
	size_t count, room;
};

static void add_start(struct starts *starts, uint64_t address)
{
	if (starts->count == starts->room) {
		starts->room = starts->room ? starts->room * 2 : 4096;
		starts->address = realloc(starts->address, starts->room * sizeof(*starts->address));
		if (!starts->address)
			abort();
	}
	starts->address[starts->count++] = address;
}

static const Elf64_Phdr *segments(const struct image *image, unsigned *count)
{
	const Elf64_Ehdr *header = (const void *)image->bytes;

	*count = header->e_phnum;
	return (const void *)(image->bytes + header->e_phoff);
}

/* File bytes at `address` of an executable segment. */
static const uint8_t *text_at(const struct image *image, uint64_t address, size_t *room)
{
	unsigned count;
	const Elf64_Phdr *segment = segments(image, &count);

	for (; count--; segment++)
		if (segment->p_type == PT_LOAD && (segment->p_flags & PF_X) &&
		    address - segment->p_vaddr < segment->p_filesz) {
			*room = segment->p_vaddr + segment->p_filesz - address;
			return image->bytes + segment->p_offset + (address - segment->p_vaddr);
		}
	return NULL;
}

static void add_function(const struct image *image, uint64_t start, uint64_t next)
{
	size_t room = 0, step;
	const uint8_t *code = text_at(image, start, &room);

	for (size_t at = 0; code && at < ENTRY && at < room && start + at < next; at += step) {
		step = add_instruction(code + at, room - at < 15 ? room - at : 15);
		if (step == 0)
			return;
	}
}

/* The sorted table of .eh_frame_hdr knows functions that have no name. */
static void find_frames(const struct image *image, struct starts *starts)
{
	unsigned count;
	const Elf64_Phdr *segment = segments(image, &count);
	const uint8_t *table;
	int32_t row;
	uint32_t rows;

	while (count && segment->p_type != PT_GNU_EH_FRAME)
		segment++, count--;
	if (!count)
		return;
	table = image->bytes + segment->p_offset;
	/* udata4 count, then pairs of sdata4 relative to the table's own start. */
	if (table[2] != 0x03 || table[3] != 0x3b)
		return;
	memcpy(&rows, table + 8, 4);
	for (uint32_t i = 0; i < rows; i++) {
		memcpy(&row, table + 12 + 8 * i, 4);
		add_start(starts, segment->p_vaddr + (uint64_t)(int64_t)row);
	}
}

/* Symbols know functions that have no call frame information. */
static void find_symbols(const char *path, struct starts *starts)
{
	const struct module_symbol *symbols;
	struct module *module;
	size_t count;

	if (module_open(path, "", &module))
		return;
	count = module_symbols(module, &symbols);
	for (size_t i = 0; i < count; i++)
		add_start(starts, symbols[i].vaddr);
	module_close(module);
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* Returns the number of functions. */
static size_t add_functions(const struct image *image, const char *path)
{
	struct starts starts = {0};
	size_t functions = 0;

	find_frames(image, &starts);
	find_symbols(path, &starts);
	if (starts.count)
		qsort(starts.address, starts.count, sizeof(*starts.address), by_value);
	for (size_t i = 0; i < starts.count; i++) {
		if (i && starts.address[i] == starts.address[i - 1])
			continue;
		size_t after = i + 1;

		while (after < starts.count && starts.address[after] == starts.address[i])
			after++;
		add_function(image, starts.address[i],
		             after < starts.count ? starts.address[after] : UINT64_MAX);
		functions++;
	}
	free(starts.address);
	return functions;
}

/* False: there is no such ELF file. */
static bool add_file(const char *path)
{
	int file = open(path, O_RDONLY | O_CLOEXEC);
	unsigned long seen = instructions_seen;
	unsigned before = form_count, distinct_before = distinct_count;
	struct image image;
	struct stat stat;
	size_t functions;

	if (file < 0)
		return false;
	if (fstat(file, &stat) < 0 || stat.st_size < (off_t)sizeof(Elf64_Ehdr)) {
		close(file);
		return false;
	}
	image.size = (size_t)stat.st_size;
	image.bytes = mmap(NULL, image.size, PROT_READ, MAP_PRIVATE, file, 0);
	close(file);
	if (image.bytes == MAP_FAILED)
		return false;
	functions = memcmp(image.bytes, ELFMAG, SELFMAG) ? 0 : add_functions(&image, path);
	munmap((void *)image.bytes, image.size);
	if (!functions)
		return false;
	note("%s: %zu functions, %lu instructions, %u different, %u new forms", path, functions,
	     instructions_seen - seen, distinct_count - distinct_before, form_count - before);
	return true;
}

/* The folder of libc as the loader found it. */
static bool library_folder(char *folder, size_t size)
{
	char line[512];
	FILE *maps = fopen("/proc/self/maps", "r");
	bool found = false;

	while (maps && !found && fgets(line, sizeof(line), maps)) {
		char *start = strchr(line, '/'), *end = strstr(line, "/libc.so.6");

		found = start && end;
		if (found)
			snprintf(folder, size, "%.*s", (int)(end - start), start);
	}
	if (maps)
		fclose(maps);
	return found;
}

/* Libraries and programs of every day. One that is missing is not silently missing. */
static void add_files(void)
{
	static const char *const libraries[] = {"libc.so.6", "libcrypto.so.3", "libstdc++.so.6"};
	static const char *const programs[] = {"/usr/bin/python3", "/usr/bin/redis-server"};
	char folder[400] = "", path[450];

	(void)library_folder(folder, sizeof(folder));
	for (size_t i = 0; i < sizeof(libraries) / sizeof(libraries[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", folder, libraries[i]);
		if (!add_file(path))
			skip("%s is not beside the C library", libraries[i]);
	}
	for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]); i++)
		if (!add_file(programs[i]))
			skip("%s is not installed", programs[i]);
}

/* --- forms that relocate rewrites, in every register --------------------------------------- */

#define ADD(...)                                                                                   \
	do {                                                                                       \
		const uint8_t bytes_[] = {__VA_ARGS__};                                            \
		store(sample_count++, bytes_, sizeof(bytes_));                                     \
	} while (0)

static void add_rewritten(void)
{
	for (int cc = 0; cc < 16; cc++) {
		ADD(0x70 | cc, 0);                      /* jcc rel8 */
		ADD(0x0F, 0x80 | cc, 0, 0, 0, 0);       /* jcc rel32 */
		ADD(0xF2, 0x0F, 0x80 | cc, 0, 0, 0, 0); /* bnd jcc rel32 */
	}
	for (int op = 0xE0; op < 0xE4; op++) {
		ADD(op, 0);       /* loopne, loope, loop, jrcxz */
		ADD(0x67, op, 0); /* the same on ecx */
	}
	ADD(0xEB, 0);                            /* jmp rel8 */
	ADD(0xE9, 0, 0, 0, 0);                   /* jmp rel32 */
	ADD(0xF2, 0xE9, 0, 0, 0, 0);             /* bnd jmp rel32 */
	ADD(0xE8, 0, 0, 0, 0);                   /* call rel32 */
	ADD(0x67, 0xE8, 0, 0, 0, 0);             /* addr32 call rel32 */
	ADD(0x66, 0x66, 0x48, 0xE8, 0, 0, 0, 0); /* data16 data16 rex.W call rel32 */
	ADD(0xFF, 0x15, 0, 0, 0, 0);             /* call [rip+0] */
	ADD(0x66, 0x48, 0xFF, 0x15, 0, 0, 0, 0); /* data16 rex.W call [rip+0] */
	ADD(0xFF, 0x25, 0, 0, 0, 0);             /* jmp [rip+0] */
	ADD(0xF2, 0xFF, 0x25, 0, 0, 0, 0);       /* bnd jmp [rip+0] */
	ADD(0xFF, 0x14, 0x24);                   /* call [rsp] */
	ADD(0xFF, 0x54, 0x24, 0x10);             /* call [rsp+16] */
	ADD(0xFF, 0x54, 0x24, 0x78);             /* call [rsp+120]: gains a disp32 */
	ADD(0xFF, 0x94, 0x24, 0, 1, 0, 0);       /* call [rsp+256] */
	ADD(0x67, 0xFF, 0x54, 0x24, 0x10);       /* call [esp+16] */
	ADD(0x42, 0xFF, 0x14, 0xE0);             /* call [rax+r12*8] */
	ADD(0xFF, 0x14, 0xD8);                   /* call [rax+rbx*8] */
	ADD(0x41, 0xFF, 0x14, 0x24);             /* call [r12] */
	ADD(0x41, 0xFF, 0x55, 0x00);             /* call [r13+0] */
	ADD(0x3E, 0xFF, 0x53, 0x08);             /* notrack call [rbx+8] */
	ADD(0xC3);                               /* ret */
	ADD(0xC2, 0x10, 0);                      /* ret 16 */
	for (int r = 0; r < 16; r++) {
		int rex_b = r >> 3, rex_r = (r & 8) >> 1, low = r & 7;

		ADD(0x40 | rex_b, 0xFF, 0xD0 | low);                   /* call r */
		ADD(0x40 | rex_b, 0xFF, 0xE0 | low);                   /* jmp r */
		ADD(0x3E, 0x40 | rex_b, 0xFF, 0xD0 | low);             /* notrack call r */
		ADD(0x48 | rex_r, 0x8D, 0x05 | low << 3, 0, 0, 0, 0);  /* lea r64, [rip+0] */
		ADD(0x40 | rex_r, 0x8D, 0x05 | low << 3, 0, 0, 0, 0);  /* lea r32, [rip+0] */
		ADD(0x48 | rex_r, 0x8B, 0x05 | low << 3, 0, 0, 0, 0);  /* mov r64, [rip+0] */
		ADD(0x40 | rex_r, 0x8B, 0x05 | low << 3, 0, 0, 0, 0);  /* mov r32, [rip+0] */
		ADD(0x48 | rex_r, 0x81, 0x3D, 0, 0, 0, 0, 1, 2, 3, 4); /* cmp [rip+0], imm32 */
	}
}

#endif
