/* SPDX-License-Identifier: MIT */
/*
 * x86_vector.c - x86-64: which instructions leave floating-point and vector registers alone.
 *
 * A list of those that are known to (SDM vol. 2, A.3, opcode maps); all others are said not to.
 */
#include "isa/x86.h"

/* Two-byte opcodes 0F xx that use general registers, memory or nothing. */
static bool is_general_0f(uint8_t opcode, const ZydisDecodedInstruction *fields)
{
	if (opcode >= 0x40 && opcode <= 0x4f) /* cmovcc */
		return true;
	if (opcode >= 0x80 && opcode <= 0x9f) /* jcc, setcc */
		return true;
	if (opcode >= 0xc8 && opcode <= 0xcf) /* bswap */
		return true;
	switch (opcode) {
	case 0x05: /* syscall */
	case 0x0b: /* ud2 */
	case 0x0d: /* prefetchw */
	case 0x18: /* prefetch */
	case 0x1e: /* nop, endbr64 */
	case 0x1f: /* nop */
	case 0x31: /* rdtsc */
	case 0xa2: /* cpuid */
	case 0xa3: /* bt */
	case 0xa4: /* shld */
	case 0xa5:
	case 0xab: /* bts */
	case 0xac: /* shrd */
	case 0xad:
	case 0xaf: /* imul */
	case 0xb0: /* cmpxchg */
	case 0xb1:
	case 0xb3: /* btr */
	case 0xb6: /* movzx */
	case 0xb7:
	case 0xb8: /* popcnt */
	case 0xba: /* bt group */
	case 0xbb: /* btc */
	case 0xbc: /* bsf, tzcnt */
	case 0xbd: /* bsr, lzcnt */
	case 0xbe: /* movsx */
	case 0xbf:
	case 0xc0: /* xadd */
	case 0xc1:
	case 0xc3: /* movnti */
		return true;
	case 0xae: /* lfence, mfence, sfence: those with a register form, no prefix */
		return fields->raw.modrm.mod == 3 && fields->raw.modrm.reg >= 5;
	default:
		return false;
	}
}

bool x86_general_only(const uint8_t *code, size_t size)
{
	ZydisDecodedInstruction fields;
	struct isa_insn insn;

	if (x86_parse(code, size, 0, &insn, &fields) < 0 ||
	    fields.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY)
		return false;
	if (fields.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT) /* x87; fwait */
		return !(fields.opcode >= 0xd8 && fields.opcode <= 0xdf) && fields.opcode != 0x9b;
	return fields.opcode_map == ZYDIS_OPCODE_MAP_0F && is_general_0f(fields.opcode, &fields);
}
