/* SPDX-License-Identifier: MIT */
/*
 * x86.c - x86-64: what an instruction is, and the few that we write ourselves.
 *
 * SDM is Intel's Software Developer's Manual, APM is AMD's Architecture Programmer's Manual.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "isa/x86.h"

#define UDB 0xD6 /* SDM vol. 2, UD: undefined on purpose, one byte; newer than our decoder */

static_assert(ZYDIS_MAX_INSTRUCTION_LENGTH <= ISA_INSN_MAX, "callers size buffers by our figure");

/* ---- classes ---- */

/*
 * Near branches with an operand-size prefix: Intel ignores it (SDM vol. 2, A.2.5, "f64"), AMD
 * takes a 16-bit displacement and instruction pointer (APM vol. 3, 1.2.2), so not even the
 * length is known; we report Intel's. REX.W overrules the prefix on both: linkers write
 * `data16 rex.W call` for __tls_get_addr.
 */
static bool depends_on_vendor(const ZydisDecodedInstruction *fields)
{
	return (fields->attributes & ZYDIS_ATTRIB_HAS_OPERANDSIZE) &&
	       !((fields->attributes & ZYDIS_ATTRIB_HAS_REX) && fields->raw.rex.W);
}

static enum isa_class class_of_transfer(const ZydisDecodedInstruction *fields)
{
	if (fields->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR || depends_on_vendor(fields))
		return ISA_PINNED;
	switch (fields->mnemonic) {
	case ZYDIS_MNEMONIC_CALL:
		return x86_is_direct(fields) ? ISA_CALL : ISA_CALL_INDIRECT;
	case ZYDIS_MNEMONIC_JMP:
		return x86_is_direct(fields) ? ISA_BRANCH : ISA_JUMP_INDIRECT;
	case ZYDIS_MNEMONIC_RET:
		return ISA_RETURN;
	default: /* xbegin, xend, xabort; iret; sysret and relatives */
		return fields->meta.category == ZYDIS_CATEGORY_COND_BR &&
		                       fields->meta.branch_type != ZYDIS_BRANCH_TYPE_NONE
		               ? ISA_BRANCH_IF
		               : ISA_PINNED;
	}
}

/* Those of category SYSTEM that programs may run; the kernel may emulate some of them (UMIP). */
static bool is_for_users(ZydisMnemonic mnemonic)
{
	switch (mnemonic) {
	case ZYDIS_MNEMONIC_LAR:
	case ZYDIS_MNEMONIC_LSL:
	case ZYDIS_MNEMONIC_VERR:
	case ZYDIS_MNEMONIC_VERW:
	case ZYDIS_MNEMONIC_RDPMC:
	case ZYDIS_MNEMONIC_RDTSC:
	case ZYDIS_MNEMONIC_RDTSCP:
	case ZYDIS_MNEMONIC_SGDT:
	case ZYDIS_MNEMONIC_SIDT:
	case ZYDIS_MNEMONIC_SLDT:
	case ZYDIS_MNEMONIC_SMSW:
	case ZYDIS_MNEMONIC_STR:
		return true;
	default:
		return false;
	}
}

/* Instructions whose category says too little. ISA_PLAIN for all that is not special. */
static enum isa_class class_of_mnemonic(const ZydisDecodedInstruction *fields)
{
	switch (fields->mnemonic) {
	case ZYDIS_MNEMONIC_ENDBR64:
		return ISA_LANDING;
	case ZYDIS_MNEMONIC_INT1:
	case ZYDIS_MNEMONIC_INT3:
	case ZYDIS_MNEMONIC_UD0:
	case ZYDIS_MNEMONIC_UD1:
	case ZYDIS_MNEMONIC_UD2:
	case ZYDIS_MNEMONIC_HLT:
		return ISA_TRAP;
	case ZYDIS_MNEMONIC_INT: /* 0x80 is Linux's 32-bit system call */
		return fields->raw.imm[0].value.u == 0x80 ? ISA_SYSCALL : ISA_TRAP;
	/* These wait for a store to an armed address; a detour in between might be that store. */
	case ZYDIS_MNEMONIC_MONITOR:
	case ZYDIS_MNEMONIC_MONITORX:
	case ZYDIS_MNEMONIC_MWAIT:
	case ZYDIS_MNEMONIC_MWAITX:
	/* Privileged, in categories that are not. */
	case ZYDIS_MNEMONIC_CLI:
	case ZYDIS_MNEMONIC_STI:
	case ZYDIS_MNEMONIC_SETSSBSY:
	case ZYDIS_MNEMONIC_CLRSSBSY:
	case ZYDIS_MNEMONIC_WRUSSD:
	case ZYDIS_MNEMONIC_WRUSSQ:
	case ZYDIS_MNEMONIC_INVPCID:
	case ZYDIS_MNEMONIC_LOADIWKEY:
	case ZYDIS_MNEMONIC_HRESET:
	case ZYDIS_MNEMONIC_XSETBV:
	case ZYDIS_MNEMONIC_XSAVES:
	case ZYDIS_MNEMONIC_XSAVES64:
	case ZYDIS_MNEMONIC_XRSTORS:
	case ZYDIS_MNEMONIC_XRSTORS64:
	/* To a hypervisor or module. */
	case ZYDIS_MNEMONIC_TDCALL:
	case ZYDIS_MNEMONIC_SEAMCALL:
	case ZYDIS_MNEMONIC_SEAMOPS:
	case ZYDIS_MNEMONIC_SEAMRET:
		return ISA_PINNED;
	case ZYDIS_MNEMONIC_MOV: /* 0F 20 to 0F 23: control and debug registers */
		return fields->opcode_map == ZYDIS_OPCODE_MAP_0F && fields->opcode >= 0x20 &&
		                       fields->opcode <= 0x23
		               ? ISA_PINNED
		               : ISA_PLAIN;
	default:
		return ISA_PLAIN;
	}
}

static enum isa_class class_of(const ZydisDecodedInstruction *fields)
{
	enum isa_class class = class_of_mnemonic(fields);

	if (class != ISA_PLAIN)
		return class;
	switch (fields->meta.category) {
	case ZYDIS_CATEGORY_CALL:
	case ZYDIS_CATEGORY_COND_BR:
	case ZYDIS_CATEGORY_RET:
	case ZYDIS_CATEGORY_SYSRET:
	case ZYDIS_CATEGORY_UNCOND_BR:
		return class_of_transfer(fields);
	case ZYDIS_CATEGORY_SYSCALL:
		return ISA_SYSCALL;
	case ZYDIS_CATEGORY_IO:
	case ZYDIS_CATEGORY_IOSTRINGOP:
	case ZYDIS_CATEGORY_PCONFIG:
	case ZYDIS_CATEGORY_SGX: /* an enclave remembers where it was entered from */
	case ZYDIS_CATEGORY_SMAP:
	case ZYDIS_CATEGORY_TSX_LDTRK:
	case ZYDIS_CATEGORY_UINTR:
	case ZYDIS_CATEGORY_VTX:
	case ZYDIS_CATEGORY_WAITPKG:
		return ISA_PINNED;
	case ZYDIS_CATEGORY_SYSTEM:
		if (!is_for_users(fields->mnemonic))
			return ISA_PINNED;
		break;
	default:
		break;
	}
	return x86_is_rip_relative(fields) ? ISA_PC_RELATIVE : ISA_PLAIN;
}

/* SDM vol. 3, 18.3.1.4: the trap follows the instruction, so TF is set while it runs. Linux also
 * steps a copy of it elsewhere, and repairs the program counter for what it knows. */
static bool is_steppable(const ZydisDecodedInstruction *fields, enum isa_class class)
{
	switch (fields->mnemonic) {
	case ZYDIS_MNEMONIC_PUSHF:
	case ZYDIS_MNEMONIC_PUSHFD:
	case ZYDIS_MNEMONIC_PUSHFQ:
	case ZYDIS_MNEMONIC_POPF:
	case ZYDIS_MNEMONIC_POPFD:
	case ZYDIS_MNEMONIC_POPFQ:
		return false;
	default:
		return class != ISA_SYSCALL && class != ISA_TRAP && class != ISA_PINNED;
	}
}

/* ---- decoding ---- */

/* Knights Corner reused encodings, jumps among them, that mean something else or nothing now. */
static bool is_knights_corner(const ZydisDecodedInstruction *fields)
{
	return fields->encoding == ZYDIS_INSTRUCTION_ENCODING_MVEX ||
	       fields->meta.isa_ext == ZYDIS_ISA_EXT_KNC ||
	       fields->meta.isa_ext == ZYDIS_ISA_EXT_KNCE ||
	       fields->meta.isa_ext == ZYDIS_ISA_EXT_KNCV;
}

static void find_target(const ZydisDecodedInstruction *fields, uint64_t address,
                        struct isa_insn *insn)
{
	uint64_t next = address + fields->length;

	if (x86_is_direct(fields)) {
		insn->has_target = true;
		insn->target = next + (uint64_t)fields->raw.imm[0].value.s;
	} else if (x86_is_rip_relative(fields)) {
		insn->has_target = true;
		insn->target = next + (uint64_t)fields->raw.disp.value;
		if (fields->address_width == 32) /* the sum is cut as well */
			insn->target = (uint32_t)insn->target;
	}
}

int x86_parse(const uint8_t *code, size_t size, uint64_t address, struct isa_insn *insn,
              ZydisDecodedInstruction *fields)
{
	ZydisDecoder decoder;

	*insn = (struct isa_insn){0};
	if (size == 0)
		return -EILSEQ;
	if (code[0] == UDB) {
		*fields = (ZydisDecodedInstruction){.length = 1};
		*insn = (struct isa_insn){.length = 1, .class = ISA_TRAP};
		return 1;
	}
	/* Minimal mode: no operands and no flags, which nobody here asks for. */
	if (ZYAN_FAILED(
	            ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64)) ||
	    ZYAN_FAILED(ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_MINIMAL, ZYAN_TRUE)) ||
	    ZYAN_FAILED(ZydisDecoderDecodeInstruction(&decoder, NULL, code, size, fields)) ||
	    is_knights_corner(fields))
		return -EILSEQ;
	insn->length = fields->length;
	insn->class = class_of(fields);
	insn->steppable = is_steppable(fields, insn->class);
	find_target(fields, address, insn);
	return insn->length;
}

static int x86_decode(const uint8_t *code, size_t size, uint64_t address, struct isa_insn *insn)
{
	ZydisDecodedInstruction fields;

	return x86_parse(code, size, address, insn, &fields);
}

/* ---- encoding ---- */

int x86_branch(uint64_t from, uint64_t to, uint8_t *out, size_t out_size)
{
	int64_t distance = (int64_t)(to - (from + X86_BRANCH_LENGTH));
	int32_t rel32 = (int32_t)distance;

	if (rel32 != distance)
		return -ERANGE;
	if (out_size < X86_BRANCH_LENGTH)
		return -ENOSPC;
	out[0] = 0xE9; /* jmp rel32 */
	memcpy(out + 1, &rel32, sizeof(rel32));
	return X86_BRANCH_LENGTH;
}

static int x86_call(uint64_t from, uint64_t to, uint8_t *out, size_t out_size)
{
	int length = x86_branch(from, to, out, out_size);

	if (length > 0)
		out[0] = 0xE8; /* call rel32 */
	return length;
}

int x86_jump_far(uint64_t from, uint64_t to, uint8_t *out, size_t out_size)
{
	/* jmp qword ptr [rip + 0]: the address follows */
	static const uint8_t opcode[6] = {0xFF, 0x25, 0, 0, 0, 0};

	(void)from;
	if (out_size < X86_JUMP_FAR_LENGTH)
		return -ENOSPC;
	memcpy(out, opcode, sizeof(opcode));
	memcpy(out + sizeof(opcode), &to, sizeof(to));
	return X86_JUMP_FAR_LENGTH;
}

/* SDM vol. 2, NOP, "Recommended Multi-Byte Sequence of NOP Instruction". */
static void x86_nop(uint8_t *out, size_t size)
{
	static const uint8_t nops[9][9] = {
	        {0x90},                                                 /* nop */
	        {0x66, 0x90},                                           /* 66 nop */
	        {0x0F, 0x1F, 0x00},                                     /* nop [rax] */
	        {0x0F, 0x1F, 0x40, 0x00},                               /* nop [rax+0], disp8 */
	        {0x0F, 0x1F, 0x44, 0x00, 0x00},                         /* nop [rax+rax+0] */
	        {0x66, 0x0F, 0x1F, 0x44, 0x00, 0x00},                   /* 66 nop [rax+rax+0] */
	        {0x0F, 0x1F, 0x80, 0x00, 0x00, 0x00, 0x00},             /* nop [rax+0], disp32 */
	        {0x0F, 0x1F, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00},       /* nop [rax+rax+0] */
	        {0x66, 0x0F, 0x1F, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00}, /* 66 nop [rax+rax+0] */
	};

	while (size > 0) {
		size_t length = size < sizeof(nops[0]) ? size : sizeof(nops[0]);

		memcpy(out, nops[length - 1], length);
		out += length;
		size -= length;
	}
}

/*
 * SDM vol. 3, 8.1.3 promises nothing for code that another core executes while it changes, and
 * an instruction fetch may see any part of a wider store. A single byte cannot be torn, so
 * fetch sees the old or the new instruction; both end at the same place, so nothing that
 * follows is decoded from its middle.
 */
static bool x86_hotpatch_safe(const uint8_t *from, const uint8_t *to, size_t size, uint64_t address)
{
	struct isa_insn insn;
	size_t differing = 0;

	if (size == 0 || size > ZYDIS_MAX_INSTRUCTION_LENGTH)
		return false;
	if (x86_decode(from, size, address, &insn) != (int)size ||
	    x86_decode(to, size, address, &insn) != (int)size)
		return false;
	for (size_t i = 0; i < size; i++)
		differing += from[i] != to[i];
	return differing <= 1;
}

/* int3, and UDB (SDM vol. 2, UD): an invalid opcode in one byte, now and in the future. */
static ISA_NOINSTR bool x86_is_trap(const uint8_t *code, size_t size)
{
	return size && (code[0] == 0xCC || code[0] == 0xD6);
}

const struct isa isa_x86_64 = {
        .name = "x86-64",
        .unit = 1,
        .insn_max = ZYDIS_MAX_INSTRUCTION_LENGTH,
        .trap_length = 1,
        .trap = {0xCC}, /* int3 */
        .branch_length = X86_BRANCH_LENGTH,
        .jump_far_length = X86_JUMP_FAR_LENGTH,
        .decode = x86_decode,
        .format = x86_format,
        .relocate = x86_relocate,
        .branch = x86_branch,
        .call = x86_call,
        .jump_far = x86_jump_far,
        .nop = x86_nop,
        .hotpatch_safe = x86_hotpatch_safe,
        .is_trap = x86_is_trap,
        .general_only = x86_general_only,
};
