/* SPDX-License-Identifier: MIT */
/*
 * isa_forms.h - which instructions isa_relocate.c tries: one of each form (mnemonic, prefixes,
 * kinds of operands) that starts in the first 16 bytes of a function of some libraries, and
 * all that `relocate` rewrites, in every register.
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

#include "tap.h"

enum {
	FORMS_MAX = 16384, /* a power of two: they are hashed */
	RSP = 4,           /* numbers in encodings */
	RBP = 5,
};

struct form {
	uint8_t code[16];
	uint8_t length;
};

static struct form forms[FORMS_MAX / 2];
static unsigned form_count;
static uint64_t form_keys[FORMS_MAX];
static unsigned long instructions_seen;
static ZydisDecoder decoder;

static uint64_t mix(uint64_t key, uint64_t value)
{
	return (key ^ value) * 0x9E3779B97F4A7C15ull ^ (key >> 29);
}

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

static uint64_t key_of(const ZydisDecodedInstruction *fields, const ZydisDecodedOperand *operands)
{
	uint64_t key = mix(fields->mnemonic, fields->encoding);

	key = mix(key, fields->raw.disp.size);
	key = mix(key, fields->raw.imm[0].size);
	key = mix(key, fields->address_width);
	for (int i = 0; i < fields->raw.prefix_count; i++)
		if (fields->raw.prefixes[i].value >> 4 != 4) /* REX shows in the operands */
			key = mix(key, fields->raw.prefixes[i].value);
	for (int i = 0; i < fields->operand_count_visible; i++)
		key = mix(key, kind_of_operand(&operands[i]));
	return key ? key : 1;
}

/* Keeps the instruction if its form is new. Returns its length, 0 if there is none. */
static size_t add_form(const uint8_t *code, size_t size)
{
	ZydisDecodedInstruction fields;
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
	uint64_t key;
	size_t slot;

	if (ZYAN_FAILED(ZydisDecoderDecodeFull(&decoder, code, size, &fields, operands)))
		return 0;
	instructions_seen++;
	key = key_of(&fields, operands);
	for (slot = key % FORMS_MAX; form_keys[slot]; slot = (slot + 1) % FORMS_MAX)
		if (form_keys[slot] == key)
			return fields.length;
	if (form_count == FORMS_MAX / 2)
		return fields.length;
	form_keys[slot] = key;
	memcpy(forms[form_count].code, code, fields.length);
	forms[form_count++].length = fields.length;
	return fields.length;
}

/* --- functions of a library ---------------------------------------------------------------- */

struct image {
	const uint8_t *bytes;
	size_t size;
};

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

	for (size_t at = 0; code && at < 16 && at < room && start + at < next; at += step) {
		step = add_form(code + at, room - at < 15 ? room - at : 15);
		if (step == 0)
			return;
	}
}

/* The sorted table of .eh_frame_hdr knows every function, named or not. */
static unsigned add_functions(const struct image *image)
{
	struct {
		int32_t start, entry;
	} row, next;
	unsigned count;
	const Elf64_Phdr *segment = segments(image, &count);
	const uint8_t *table;
	uint32_t rows;

	while (count && segment->p_type != PT_GNU_EH_FRAME)
		segment++, count--;
	if (!count)
		return 0;
	table = image->bytes + segment->p_offset;
	/* udata4 count, then pairs of sdata4 relative to the table's own start. */
	if (table[2] != 0x03 || table[3] != 0x3b)
		return 0;
	memcpy(&rows, table + 8, 4);
	for (uint32_t i = 0; i + 1 < rows; i++) {
		memcpy(&row, table + 12 + 8 * i, 8);
		memcpy(&next, table + 20 + 8 * i, 8);
		add_function(image, segment->p_vaddr + row.start, segment->p_vaddr + next.start);
	}
	return rows;
}

static void add_library(const char *path)
{
	int file = open(path, O_RDONLY | O_CLOEXEC);
	unsigned long seen = instructions_seen;
	unsigned before = form_count, functions;
	struct image image;
	struct stat stat;

	if (file < 0 || fstat(file, &stat) < 0) {
		note("%s: absent, its forms are not tested", path);
		return;
	}
	image.size = (size_t)stat.st_size;
	image.bytes = mmap(NULL, image.size, PROT_READ, MAP_PRIVATE, file, 0);
	close(file);
	if (image.bytes == MAP_FAILED)
		return;
	functions = add_functions(&image);
	note("%s: %u functions, %lu instructions, %u new forms", path, functions,
	     instructions_seen - seen, form_count - before);
	munmap((void *)image.bytes, image.size);
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

static void add_libraries(void)
{
	static const char *const names[] = {"libc.so.6", "libcrypto.so.3", "libstdc++.so.6"};
	char folder[400], path[450];

	if (!library_folder(folder, sizeof(folder))) {
		note("the C library is not libc.so.6");
		return;
	}
	for (int i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
		add_library(path);
	}
}

/* --- forms that relocate rewrites, in every register --------------------------------------- */

#define ADD(...)                                                                                   \
	do {                                                                                       \
		const uint8_t bytes_[] = {__VA_ARGS__};                                            \
		struct form *form_ = &forms[form_count++];                                         \
		memcpy(form_->code, bytes_, sizeof(bytes_));                                       \
		form_->length = sizeof(bytes_);                                                    \
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
