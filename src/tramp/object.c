/* SPDX-License-Identifier: MIT */
/*
 * object.c - an ELF file in memory that names pieces of code, as a debugger wants it.
 *
 *     header | .eh_frame | .symtab | .strtab | .shstrtab | section headers
 *
 * It is an executable, not a relocatable file: all addresses are final. Each piece has a section of
 * its own, without contents (pieces that touch share one): a debugger finds a symbol by the
 * section that an address is in, and what is between two pieces may belong to another object.
 */
#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tramp/unwind.h"

void tramp_name(const struct tramp_code *code, char name[TRAMP_NAME])
{
	if (code->name)
		snprintf(name, TRAMP_NAME, "%s", code->name);
	else
		snprintf(name, TRAMP_NAME, "suture:%s%s%#" PRIx64, code->what ? code->what : "",
		         code->what ? ":" : "", code->rows[0].origin);
	for (char *c = name; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = '?';
}

/* Names of sections, with their places in .shstrtab. */
#define SECTION_NAMES "\0.text\0.eh_frame\0.symtab\0.strtab\0.shstrtab"
enum { NAME_TEXT = 1, NAME_FRAMES = 7, NAME_SYMBOLS = 17, NAME_STRINGS = 25, NAME_NAMES = 33 };
enum { FRAMES, SYMBOLS, STRINGS, NAMES, SECTIONS_AFTER_TEXT };

struct layout {
	size_t texts, name_bytes;
	size_t frames, symbols, strings, names, sections; /* offsets in the file */
	size_t frames_size, size;
};

/* Does the piece go on where the one before it ends? */
static int touches(const struct tramp_code *codes, size_t i)
{
	return i && codes[i].address == codes[i - 1].address + codes[i - 1].size;
}

static size_t align8(size_t at)
{
	return (at + 7) & ~(size_t)7;
}

static void lay_out(const struct tramp_code *codes, size_t n, struct layout *at)
{
	char name[TRAMP_NAME];

	at->texts = 0;
	at->name_bytes = 1;
	for (size_t i = 0; i < n; i++) {
		tramp_name(&codes[i], name);
		at->name_bytes += strlen(name) + 1;
		at->texts += !touches(codes, i);
	}
	at->frames = align8(sizeof(Elf64_Ehdr));
	at->symbols = align8(at->frames + at->frames_size);
	at->strings = at->symbols + (n + 1) * sizeof(Elf64_Sym);
	at->names = at->strings + at->name_bytes;
	at->sections = align8(at->names + sizeof(SECTION_NAMES));
	at->size = at->sections + (1 + at->texts + SECTIONS_AFTER_TEXT) * sizeof(Elf64_Shdr);
}

static void put_header(uint8_t *image, const struct layout *at)
{
	*(Elf64_Ehdr *)image = (Elf64_Ehdr){
	        .e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT,
	                    ELFOSABI_NONE},
	        .e_type = ET_EXEC,
	        .e_machine = EM_X86_64,
	        .e_version = EV_CURRENT,
	        .e_shoff = at->sections,
	        .e_ehsize = sizeof(Elf64_Ehdr),
	        .e_shentsize = sizeof(Elf64_Shdr),
	        .e_shnum = (Elf64_Half)(1 + at->texts + SECTIONS_AFTER_TEXT),
	        .e_shstrndx = (Elf64_Half)(1 + at->texts + NAMES),
	};
}

static void put_texts(uint8_t *image, const struct layout *at, const struct tramp_code *codes,
                      size_t n)
{
	Elf64_Shdr *text = (Elf64_Shdr *)(image + at->sections);
	Elf64_Sym *symbol = (Elf64_Sym *)(image + at->symbols);
	char *strings = (char *)image + at->strings;
	size_t used = 1;
	Elf64_Half index = 0;
	char name[TRAMP_NAME];

	for (size_t i = 0; i < n; i++) {
		tramp_name(&codes[i], name);
		if (!touches(codes, i))
			text[++index] = (Elf64_Shdr){
			        .sh_name = NAME_TEXT,
			        .sh_type = SHT_NOBITS,
			        .sh_flags = SHF_ALLOC | SHF_EXECINSTR,
			        .sh_addr = codes[i].address,
			        .sh_offset = at->frames,
			        .sh_addralign = 1,
			};
		text[index].sh_size += codes[i].size;
		symbol[i + 1] = (Elf64_Sym){
		        .st_name = (Elf64_Word)used,
		        .st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC),
		        .st_shndx = index,
		        .st_value = codes[i].address,
		        .st_size = codes[i].size,
		};
		memcpy(strings + used, name, strlen(name) + 1);
		used += strlen(name) + 1;
	}
}

static void put_tables(uint8_t *image, const struct layout *at, size_t n)
{
	Elf64_Shdr *after = (Elf64_Shdr *)(image + at->sections) + 1 + at->texts;

	memcpy(image + at->names, SECTION_NAMES, sizeof(SECTION_NAMES));
	after[FRAMES] = (Elf64_Shdr){.sh_name = NAME_FRAMES,
	                             .sh_type = SHT_PROGBITS,
	                             .sh_offset = at->frames,
	                             .sh_size = at->frames_size,
	                             .sh_addralign = 8};
	after[SYMBOLS] = (Elf64_Shdr){.sh_name = NAME_SYMBOLS,
	                              .sh_type = SHT_SYMTAB,
	                              .sh_offset = at->symbols,
	                              .sh_size = (n + 1) * sizeof(Elf64_Sym),
	                              .sh_link = (Elf64_Word)(1 + at->texts + STRINGS),
	                              .sh_info = 1, /* of the first global symbol */
	                              .sh_addralign = 8,
	                              .sh_entsize = sizeof(Elf64_Sym)};
	after[STRINGS] = (Elf64_Shdr){.sh_name = NAME_STRINGS,
	                              .sh_type = SHT_STRTAB,
	                              .sh_offset = at->strings,
	                              .sh_size = at->name_bytes,
	                              .sh_addralign = 1};
	after[NAMES] = (Elf64_Shdr){.sh_name = NAME_NAMES,
	                            .sh_type = SHT_STRTAB,
	                            .sh_offset = at->names,
	                            .sh_size = sizeof(SECTION_NAMES),
	                            .sh_addralign = 1};
}

int tramp_object_x86(const struct tramp_code *codes, size_t n, uint8_t **image, size_t *size)
{
	struct layout at = {0};
	int rc = tramp_unwind_x86(codes, n, NULL, 0, &at.frames_size);

	if (rc != -ENOSPC)
		return rc;
	if (n > TRAMP_OBJECT_MAX)
		return -E2BIG;
	lay_out(codes, n, &at);
	*image = calloc(1, at.size);
	if (!*image)
		return -ENOMEM;
	*size = at.size;
	put_header(*image, &at);
	put_texts(*image, &at, codes, n);
	put_tables(*image, &at, n);
	return tramp_unwind_x86(codes, n, *image + at.frames, at.frames_size, &at.frames_size);
}
