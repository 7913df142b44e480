/* SPDX-License-Identifier: MIT */
/* x86.h - shared by the files of the x86-64 instruction set and by nobody else. */
#ifndef SUTURE_ISA_X86_H
#define SUTURE_ISA_X86_H

#include <Zydis/Zydis.h>

#include "isa/isa.h"

enum {
	X86_BRANCH_LENGTH = 5,    /* E9 rel32 */
	X86_JUMP_FAR_LENGTH = 14, /* FF 25 00000000, then the address */
};

/* Decode; `fields` tells where each part of the encoding is. Returns the length or -EILSEQ. */
int x86_parse(const uint8_t *code, size_t size, uint64_t address, struct isa_insn *insn,
              ZydisDecodedInstruction *fields);

int x86_branch(uint64_t from, uint64_t to, uint8_t *out, size_t out_size);
int x86_jump_far(uint64_t from, uint64_t to, uint8_t *out, size_t out_size);
bool x86_general_only(const uint8_t *code, size_t size);
int x86_format(const uint8_t *code, size_t size, uint64_t address, char *out, size_t out_size);
int x86_relocate(const uint8_t *code, size_t size, uint64_t from, uint64_t to, uint8_t *out,
                 size_t out_size);

/* Is the operand in memory at a displacement from the next instruction's address? */
static inline bool x86_is_rip_relative(const ZydisDecodedInstruction *fields)
{
	/* SDM vol. 2, 2.2.1.6: mod 00, r/m 101. Moves to and from control registers ignore mod. */
	return (fields->attributes & ZYDIS_ATTRIB_HAS_MODRM) && fields->raw.modrm.mod == 0 &&
	       fields->raw.modrm.rm == 5 && fields->raw.disp.size == 32;
}

static inline bool x86_is_direct(const ZydisDecodedInstruction *fields)
{
	return fields->raw.imm[0].is_relative;
}

#endif
