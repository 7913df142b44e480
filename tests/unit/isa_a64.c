/* SPDX-License-Identifier: MIT */
/*
 * isa_a64.c - A64 against the binutils: classes, copies and what may be changed, of instructions
 * that the assembler made; copies as the disassembler reads them.
 */
#include <inttypes.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "isa/isa.h"
#include "tap.h"

enum { FROM = 0x400000, NEAR = 0x410000, FAR = 0x4400000, BEYOND = 0x40400000 };

static char folder[] = "/tmp/suture-a64-XXXXXX";

/* Runs a command in the folder; its output, up to `size`. */
static size_t run(const char *command, char *out, size_t size)
{
	char line[1024];
	size_t got;
	FILE *pipe;

	snprintf(line, sizeof(line), "cd %s && %s", folder, command);
	pipe = popen(line, "r");
	if (!pipe)
		return 0;
	got = fread(out, 1, size - 1, pipe);
	out[got] = 0;
	return pclose(pipe) ? 0 : got;
}

/* The word that the assembler makes of `text`, at FROM; a target comes last. */
static uint32_t assemble(const char *text)
{
	const char *number = strstr(text, "0x");
	int before = number ? (int)(number - text) : (int)strlen(text);
	char line[512], out[64], target[32] = "";

	/* A number alone would be a distance. */
	if (number)
		snprintf(target, sizeof(target), ".-0x%x+%s", FROM, number);
	snprintf(line, sizeof(line),
	         "printf '.arch armv8.5-a+sve\\n%.*s%s\\n' | aarch64-linux-gnu-as -o a.o - && "
	         "aarch64-linux-gnu-ld -N --no-warn-rwx-segments -Ttext=0x%x -e 0 -o a.elf a.o && "
	         "aarch64-linux-gnu-objcopy -O binary -j .text a.elf a.bin && od -An -tx4 a.bin",
	         before, text, target, FROM);
	return run(line, out, sizeof(out)) ? (uint32_t)strtoul(out, NULL, 16) : 0;
}

/* What the disassembler makes of code at `address`, a line an instruction without the address. */
static void disassemble(const uint8_t *code, size_t size, uint64_t address, char *out,
                        size_t out_size)
{
	char line[512], path[64];
	FILE *file;

	snprintf(path, sizeof(path), "%s/c.bin", folder);
	file = fopen(path, "wb");
	if (file) {
		fwrite(code, 1, size, file);
		fclose(file);
	}
	snprintf(line, sizeof(line),
	         "aarch64-linux-gnu-objdump -D -b binary -m aarch64 --adjust-vma=0x%" PRIx64
	         " c.bin | sed -n 's/^ *[0-9a-f]*:\\t[0-9a-f]* \\t//p' | sed 's,[ \\t]*//.*,,' | "
	         "tr '\\t\\n' ' ;'",
	         address);
	if (!run(line, out, out_size))
		out[0] = 0;
}

static void bytes_of(uint32_t opcode, uint8_t *bytes)
{
	for (int i = 0; i < 4; i++)
		bytes[i] = (uint8_t)(opcode >> 8 * i);
}

static const struct {
	const char *text;
	enum isa_class class;
	uint64_t target; /* 0: none */
	bool safe;       /* may be changed while it is executed */
} kinds[] = {
        {"nop", ISA_PLAIN, 0, true},
        {"isb", ISA_PLAIN, 0, true},
        {"b 0x410000", ISA_BRANCH, NEAR, true},
        {"bl 0x3ff000", ISA_CALL, 0x3ff000, true},
        {"brk #1", ISA_TRAP, 0, true},
        {"svc #0", ISA_SYSCALL, 0, true},
        {"hvc #0", ISA_SYSCALL, 0, true},
        {"smc #0", ISA_SYSCALL, 0, true},
        {"yield", ISA_PLAIN, 0, false},
        {"dsb sy", ISA_PLAIN, 0, false},
        {"hlt #1", ISA_TRAP, 0, false},
        {"udf #0", ISA_TRAP, 0, false},
        {"b.ne 0x400100", ISA_BRANCH_IF, 0x400100, false},
        {"cbz w3, 0x3fff00", ISA_BRANCH_IF, 0x3fff00, false},
        {"cbnz x3, 0x400100", ISA_BRANCH_IF, 0x400100, false},
        {"tbz w3, #5, 0x400100", ISA_BRANCH_IF, 0x400100, false},
        {"tbnz x3, #40, 0x3fff00", ISA_BRANCH_IF, 0x3fff00, false},
        {"adr x3, 0x400103", ISA_PC_RELATIVE, 0x400103, false},
        {"adrp x3, 0x3ff000", ISA_PC_RELATIVE, 0x3ff000, false},
        {"ldr x3, 0x400100", ISA_PC_RELATIVE, 0x400100, false},
        {"ldr q3, 0x400100", ISA_PC_RELATIVE, 0x400100, false},
        {"ldrsw x3, 0x400100", ISA_PC_RELATIVE, 0x400100, false},
        {"prfm pldl1keep, 0x400100", ISA_PC_RELATIVE, 0x400100, false},
        {"br x3", ISA_JUMP_INDIRECT, 0, false},
        {"braa x3, x4", ISA_JUMP_INDIRECT, 0, false},
        {"blr x3", ISA_CALL_INDIRECT, 0, false},
        {"blraaz x3", ISA_CALL_INDIRECT, 0, false},
        {"ret", ISA_RETURN, 0, false},
        {"retaa", ISA_RETURN, 0, false},
        {"eret", ISA_PINNED, 0, false},
        {"bti c", ISA_LANDING, 0, false},
        {"bti jc", ISA_LANDING, 0, false},
        {"paciasp", ISA_LANDING, 0, false},
        {"pacibsp", ISA_LANDING, 0, false},
        {"autiasp", ISA_PLAIN, 0, false},
        {"ldxr w1, [x2]", ISA_PINNED, 0, false},
        {"stxr w1, w2, [x3]", ISA_PINNED, 0, false},
        {"ldaxp x1, x2, [x3]", ISA_PINNED, 0, false},
        {"stlxrb w1, w2, [x3]", ISA_PINNED, 0, false},
        {"casp x0, x1, x2, x3, [x4]", ISA_PLAIN, 0, false},
        {"cas x0, x1, [x2]", ISA_PLAIN, 0, false},
        {"ldar x0, [x1]", ISA_PLAIN, 0, false},
        {"add x0, x1, x2", ISA_PLAIN, 0, false},
        {"fadd d0, d1, d2", ISA_PLAIN, 0, false},
        {"ldp q0, q1, [sp]", ISA_PLAIN, 0, false},
        {"ptrue p0.b", ISA_PLAIN, 0, false},
};

static void test_kinds(void)
{
	uint8_t nop[4], code[4];

	isa_a64.nop(nop, sizeof(nop));
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		struct isa_insn insn = {0};

		bytes_of(assemble(kinds[i].text), code);
		ok(isa_a64.decode(code, 4, FROM, &insn) == 4 && insn.class == kinds[i].class &&
		           insn.has_target == (kinds[i].target != 0) &&
		           insn.target == kinds[i].target &&
		           isa_a64.hotpatch_safe(code, nop, 4, FROM) == kinds[i].safe &&
		           isa_a64.hotpatch_safe(nop, code, 4, FROM) == kinds[i].safe,
		   "%s: what it is (class %d, target %" PRIx64 ")", kinds[i].text, insn.class,
		   insn.target);
	}
}

static const struct {
	const char *text;
	uint64_t to;
	const char *copy; /* as it is disassembled, or NULL */
	int refused;
} copies[] = {
        {"add x0, x1, x2", FAR, "add x0, x1, x2;", 0},
        {"b 0x410000", FAR, "b 0x410000;", 0},
        {"b 0x410000", BEYOND, NULL, -34},
        {"bl 0x410000", FAR,
         "mov x30, #0x4;movk x30, #0x40, lsl #16;movk x30, #0x0, lsl #32;"
         "movk x30, #0x0, lsl #48;b 0x410000;",
         0},
        {"bl 0x410000", BEYOND, NULL, -34},
        {"blr x3", FAR,
         "mov x30, #0x4;movk x30, #0x40, lsl #16;movk x30, #0x0, lsl #32;"
         "movk x30, #0x0, lsl #48;ret x3;",
         0},
        {"blr x30", FAR, NULL, -95},
        {"blraaz x3", FAR, NULL, -95},
        {"b.ne 0x400100", NEAR, "b.ne 0x400100;", 0},
        {"b.ne 0x400100", FAR, "b.ne 0x4400008;b 0x440000c;b 0x400100;", 0},
        {"cbz w3, 0x400100", FAR, "cbz w3, 0x4400008;b 0x440000c;b 0x400100;", 0},
        {"tbnz x3, #40, 0x400100", FAR, "tbnz x3, #40, 0x4400008;b 0x440000c;b 0x400100;", 0},
        {"b.ne 0x400100", BEYOND, NULL, -34},
        {"adr x3, 0x400103", FAR,
         "mov x3, #0x103;movk x3, #0x40, lsl #16;movk x3, #0x0, lsl #32;"
         "movk x3, #0x0, lsl #48;",
         0},
        {"adrp xzr, 0x401000", FAR, "nop;", 0},
        {"ldr x3, 0x400100", NEAR, "ldr x3, 0x400100;", 0},
        {"ldr w3, 0x400100", FAR,
         "mov x3, #0x100;movk x3, #0x40, lsl #16;movk x3, #0x0, lsl #32;"
         "movk x3, #0x0, lsl #48;ldr w3, [x3];",
         0},
        {"ldrsw x3, 0x400100", FAR,
         "mov x3, #0x100;movk x3, #0x40, lsl #16;movk x3, #0x0, lsl #32;"
         "movk x3, #0x0, lsl #48;ldrsw x3, [x3];",
         0},
        {"ldr q3, 0x400100", NEAR, "ldr q3, 0x400100;", 0},
        {"ldr q3, 0x400100", FAR, NULL, -34},
        {"prfm pldl1keep, 0x400100", FAR, "nop;", 0},
        {"ret", FAR, "ret;", 0},
        {"svc #0", FAR, NULL, -95},
        {"brk #0", FAR, NULL, -95},
        {"eret", FAR, NULL, -95},
        {"ldxr w1, [x2]", FAR, NULL, -95},
};

static void test_copies(void)
{
	for (size_t i = 0; i < sizeof(copies) / sizeof(copies[0]); i++) {
		uint8_t code[4], out[ISA_DISPLACED_MAX];
		char text[1024] = "";
		int rc;

		bytes_of(assemble(copies[i].text), code);
		rc = isa_a64.relocate(code, 4, FROM, copies[i].to, out, sizeof(out));
		if (rc > 0)
			disassemble(out, (size_t)rc, copies[i].to, text, sizeof(text));
		ok(copies[i].copy ? !strcmp(text, copies[i].copy) : rc == copies[i].refused,
		   "%s at %" PRIx64 ": %d, %s", copies[i].text, copies[i].to, rc, text);
		ok(rc <= 0 || isa_a64.relocate(code, 4, FROM, copies[i].to, out, (size_t)rc - 4) ==
		                      -28,
		   "  and says when there is no room");
	}
}

static void test_written(void)
{
	uint8_t out[16], nop[8];
	char text[256];

	ok(isa_a64.branch(FROM, NEAR, out, 4) == 4 && isa_a64.call(FROM, NEAR, out + 4, 4) == 4 &&
	           isa_a64.branch(FROM, FROM + 0x8000000, out, 4) == -34 &&
	           isa_a64.branch(FROM, FROM - 0x8000000, out, 4) == 4 &&
	           isa_a64.branch(FROM, FROM + 2, out, 4) == -34,
	   "branches reach as far as they do");
	isa_a64.branch(FROM, NEAR, out, 4);
	memcpy(out + 8, isa_a64.trap, 4);
	isa_a64.nop(out + 12, 4);
	disassemble(out, sizeof(out), FROM, text, sizeof(text));
	ok(!strcmp(text, "b 0x410000;bl 0x410004;brk #0x5375;nop;"), "what is written: %s", text);
	ok(isa_a64.is_trap(isa_a64.trap, 4) && !isa_a64.is_trap(out, 4), "the trap is one");
	isa_a64.nop(nop, 8);
	ok(!isa_a64.hotpatch_safe(nop, nop, 8, FROM) &&
	           !isa_a64.hotpatch_safe(nop, nop, 4, FROM + 2),
	   "two instructions, or one that is not aligned, are not changed at once");
	ok(isa_a64.general_only(nop, 4), "a nop leaves vector registers alone");
	bytes_of(assemble("ldr q3, 0x400100"), out);
	ok(!isa_a64.general_only(out, 4), "a load into one does not");
	ok(isa_a64.decode(nop, 3, FROM, &(struct isa_insn){0}) == -84 &&
	           isa_a64.decode(nop, 4, FROM + 2, &(struct isa_insn){0}) == -84,
	   "half an instruction, or one that is not aligned, is none");
}

int main(void)
{
	char out[16];

	if (!mkdtemp(folder))
		return 2;
	test_kinds();
	test_copies();
	test_written();
	run("rm -f a.o a.elf a.bin c.bin && echo", out, sizeof(out));
	rmdir(folder);
	return done();
}
