/* SPDX-License-Identifier: MIT */
/*
 * check_assemble.c - the A64 subset and its text, against each other and against clang.
 *
 * Opcodes made up by chance that are decoded are printed; what is printed is assembled here and by
 * clang, to an opcode that says the same. The other way round there are lists of texts: what clang
 * makes of them, and what has to be refused.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "check/litmus/assemble.h"
#include "check/litmus/litmus.h"
#include "isa/a64.h"
#include "tap.h"

enum { OPCODES = 6000, TEXT_MAX = 64 };

static uint32_t opcodes[OPCODES], clang[OPCODES];
static char texts[OPCODES][TEXT_MAX];
static unsigned count;

static const char *const written[] = {"NOP",
                                      "B .+8",
                                      "B .-4",
                                      "BL .+1024",
                                      "B.EQ .+8",
                                      "B.NE .-8",
                                      "B.HS .+4",
                                      "B.LO .+4",
                                      "CBZ W3,.+8",
                                      "CBNZ X3,.-8",
                                      "TBZ W1,#0,.+8",
                                      "TBNZ X1,#63,.+8",
                                      "TBZ X1,#3,.+8",
                                      "BR X30",
                                      "BLR X0",
                                      "RET",
                                      "RET X1",
                                      "ERET",
                                      "ADR X1,.+12",
                                      "ADR X2,.-3",
                                      "MOV W0,#1",
                                      "MOV X1,#0x12340000",
                                      "MOV W2,#-1",
                                      "MOV X3,X4",
                                      "MOV W5,WZR",
                                      "MOV X0,#0xff00ff00ff00ff00",
                                      "MOVZ W0,#7,LSL #16",
                                      "MOVK X0,#7,LSL #48",
                                      "MOVN X9,#0",
                                      "ADD W2,W2,#1",
                                      "ADD X2,X3,X4",
                                      "ADD W2,W3,W4,LSL #3",
                                      "ADD X2,X3,#4096",
                                      "ADDS W1,W2,#3",
                                      "SUB X1,X2,#-5",
                                      "SUBS W0,W1,W2,ASR #4",
                                      "AND W2,W2,W4",
                                      "AND X1,X2,#0xff",
                                      "ORR W1,W2,#0x80000001",
                                      "EOR W6,W2,W2",
                                      "ANDS X1,X2,X3,LSR #63",
                                      "BIC W1,W2,W3",
                                      "ORN X1,X2,X3",
                                      "EON W1,W2,W3",
                                      "BICS W1,W2,W3",
                                      "CMP X1,X11",
                                      "CMP W2,#1",
                                      "CMP W2,#-1",
                                      "CMN X1,X2",
                                      "TST W1,#1",
                                      "TST X1,X2",
                                      "MVN W1,W2",
                                      "NEG X1,X2",
                                      "NEGS W1,W2",
                                      "CSEL X1,X14,X24,EQ",
                                      "CSINC W1,W2,W3,GT",
                                      "CSINV X1,X2,X3,LE",
                                      "CSNEG W1,W2,W3,MI",
                                      "CSET W3,EQ",
                                      "CSETM X3,NE",
                                      "CINC W1,W2,CS",
                                      "CINV X1,X2,VC",
                                      "CNEG W1,W2,LT",
                                      "LDR W2,[X1]",
                                      "STR X2,[X1,#8]",
                                      "LDR W4,[X5,W6,SXTW]",
                                      "LDR X4,[X5,W6,UXTW #3]",
                                      "STR W4,[X5,X6,LSL #2]",
                                      "LDR W4,[X5,X6]",
                                      "LDR W1,[X2,#-4]",
                                      "LDUR X1,[X2,#1]",
                                      "STUR W1,[X2,#-256]",
                                      "LDR W1,[X2],#4",
                                      "STR X1,[X2,#-16]!",
                                      "LDAR W1,[X2]",
                                      "LDAPR X1,[X2]",
                                      "STLR W1,[X2]",
                                      "DMB SY",
                                      "DMB ISHLD",
                                      "DSB ISH",
                                      "DSB OSHST",
                                      "DSB LD",
                                      "ISB",
                                      "ISB SY",
                                      "DC CVAU,X1",
                                      "IC IVAU,X2",
                                      "IC IALLU",
                                      "IC IALLUIS",
                                      "MSR ELR_EL1,X9",
                                      "MRS X9,ELR_EL1",
                                      "UDF #0",
                                      "UDF #65535",
                                      "HINT #16",
                                      ".inst 0x14000001"};

static const char *const refused[] = {"",
                                      "FOO",
                                      "NOP W0",
                                      "B",
                                      "B L0",
                                      "B .+2",
                                      "B .+134217728",
                                      "B.XX .+8",
                                      "CBZ W3",
                                      "CBZ W31,.+8",
                                      "TBZ W1,#32,.+8",
                                      "TBZ X1,#64,.+8",
                                      "BR W1",
                                      "ADR W1,.+4",
                                      "ADR X1,.+1048576",
                                      "MOV W0",
                                      "MOV W0,#0x12345",
                                      "MOV X0,W1",
                                      "MOVZ W0,#65536",
                                      "MOVZ W0,#1,LSL #32",
                                      "MOVZ X0,#1,LSL #8",
                                      "ADD W0,W1",
                                      "ADD W0,X1,W2",
                                      "ADD X0,X1,#4097",
                                      "ADD W0,W1,W2,LSL #32",
                                      "ADD W0,W1,W2,ROR #1",
                                      "AND W1,W2,#0",
                                      "AND W1,W2,#5",
                                      "CSEL W1,W2,W3",
                                      "CSET W1,W2",
                                      "LDR W1,X2",
                                      "LDR W1,[W2]",
                                      "LDR W1,[X2,#16384]",
                                      "LDR W1,[X2,#257]!",
                                      "LDR W1,[X2,W3]",
                                      "LDR W1,[X2,W3,SXTW #3]",
                                      "LDR W1,[X2,X3,SXTW]",
                                      "LDAR W1,[X2,#4]",
                                      "STR W1,[X2",
                                      "DMB",
                                      "DMB NSH",
                                      "DMB 11",
                                      "DC CIVAC,X1",
                                      "DC CVAU",
                                      "IC IVAU,W1",
                                      "MSR SP_EL0,X1",
                                      "UDF #65536",
                                      "UDF #-1",
                                      "0x100000000",
                                      ".inst X0",
                                      "LDR SP,[X1]",
                                      "SVC",
                                      "X0",
                                      "W99"};

static bool assembles(const char *text, uint32_t *opcode)
{
	struct lexer lexer;
	char error[100];

	lexer_open(&lexer, text, strlen(text), error, sizeof(error));
	lexer_next(&lexer);
	return assemble(&lexer, NULL, opcode) && lexer.kind == LEX_END;
}

static bool same(uint32_t a, uint32_t b)
{
	struct a64_insn x, y;

	memset(&x, 0, sizeof(x));
	memset(&y, 0, sizeof(y));
	return a == b || (a64_decode(a, &x) && a64_decode(b, &y) && x.op == y.op &&
	                  x.form == y.form && x.wide == y.wide && x.rd == y.rd && x.rn == y.rn &&
	                  x.rm == y.rm && x.cond == y.cond && x.modifier == y.modifier &&
	                  x.amount == y.amount && x.imm == y.imm);
}

/* Opcodes near those of the subset; all of whose fields are by chance. */
static void make_opcodes(void)
{
	uint64_t state = 1;
	unsigned wrong = 0, tried = 0;

	while (count < OPCODES && tried++ < 50000000) {
		struct a64_insn insn;
		uint32_t opcode, again;

		state = state * 6364136223846793005u + 1442695040888963407u;
		opcode = (uint32_t)(state >> 32);
		if (!a64_decode(opcode, &insn))
			continue;
		if (a64_encode(&insn, &again) || !same(opcode, again))
			wrong++;
		/* the stack pointer, and options that are not known, have no text */
		if (!litmus_print_opcode(opcode, texts[count], TEXT_MAX) ||
		    strstr(texts[count], "SP"))
			continue;
		opcodes[count++] = opcode;
	}
	ok(wrong == 0 && count == OPCODES, "%u opcodes are encoded as they were decoded", count);
}

static uint32_t little(const uint8_t *bytes, unsigned n)
{
	uint32_t value = 0;

	while (n-- > 0)
		value = value << 8 | bytes[n];
	return value;
}

/* The .text of an object: the section of type PROGBITS with instructions in it. */
static unsigned text_of(const char *file, uint32_t *out, unsigned room)
{
	static uint8_t object[1 << 20];
	FILE *stream = fopen(file, "rb");
	size_t size = stream ? fread(object, 1, sizeof(object), stream) : 0;
	uint32_t table = little(object + 40, 4), entry = little(object + 58, 2);

	if (stream)
		fclose(stream);
	for (unsigned i = 0; size > 64 && i < little(object + 60, 2); i++) {
		const uint8_t *header = object + table + i * entry;
		uint32_t at = little(header + 24, 4), n = little(header + 32, 4) / 4;

		if (table + (i + 1) * entry > size || little(header + 4, 4) != 1 ||
		    !(little(header + 8, 4) & 4) || n == 0 || n > room || at + 4 * n > size)
			continue;
		for (unsigned k = 0; k < n; k++)
			out[k] = little(object + at + 4 * k, 4);
		return n;
	}
	return 0;
}

/* What clang makes of one text a line. */
static unsigned by_clang(const char *const *lines, unsigned n, uint32_t *out)
{
	char source[] = "/tmp/suture-a64-XXXXXX", command[200], object[64];
	int file = mkstemp(source);
	FILE *stream = file < 0 ? NULL : fdopen(file, "w");
	unsigned made;

	if (!stream)
		return 0;
	fputs(".arch armv8.4-a+rcpc\n", stream);
	for (unsigned i = 0; i < n; i++)
		fprintf(stream, "%s\n", lines[i]);
	fclose(stream);
	snprintf(object, sizeof(object), "%s.o", source);
	snprintf(command, sizeof(command),
	         "clang --target=aarch64-linux-gnu -c -x assembler %s -o %s", source, object);
	made = system(command) == 0 ? text_of(object, out, OPCODES) : 0;
	unlink(source);
	unlink(object);
	return made;
}

static void check_printed(void)
{
	const char *lines[OPCODES];
	unsigned wrong = 0, n;

	for (unsigned i = 0; i < count; i++) {
		uint32_t opcode;

		lines[i] = texts[i];
		if (assembles(texts[i], &opcode) && same(opcode, opcodes[i]))
			continue;
		if (wrong++ < 5)
			note("%08x is printed as %s", opcodes[i], texts[i]);
	}
	ok(wrong == 0, "what is printed of them is assembled to the same");
	if (system("command -v clang >/dev/null 2>&1")) {
		skip("clang is not installed");
		return;
	}
	n = by_clang(lines, count, clang);
	wrong = 0;
	for (unsigned i = 0; i < n; i++)
		if (!same(clang[i], opcodes[i]) && wrong++ < 5)
			note("%s: %08x here, %08x by clang", texts[i], opcodes[i], clang[i]);
	ok(n == count && wrong == 0, "and by clang (%u)", n);
}

static void check_written(void)
{
	unsigned n = sizeof(written) / sizeof(written[0]), made, wrong = 0;
	uint32_t opcode;

	bool there = system("command -v clang >/dev/null 2>&1") == 0;

	made = there ? by_clang(written, n, clang) : 0;
	for (unsigned i = 0; i < n; i++) {
		if (assembles(written[i], &opcode) && (!made || same(opcode, clang[i])))
			continue;
		wrong++;
		note("%s: %08x here, %08x by clang", written[i], opcode, clang[i]);
	}
	ok(wrong == 0 && made == (there ? n : 0), "%u texts are assembled as clang does it", n);
	for (unsigned i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		if (assembles(refused[i], &opcode))
			ok(false, "'%s' is refused", refused[i]);
	ok(true, "and %zu are refused", sizeof(refused) / sizeof(refused[0]));
}

static void check_encode(void)
{
	static const struct a64_insn insns[] = {
	        {.op = A64_B, .imm = 2},
	        {.op = A64_B, .imm = 1 << 27},
	        {.op = A64_CBZ, .imm = 1 << 20},
	        {.op = A64_TBZ, .amount = 40, .imm = 8},
	        {.op = A64_TBZ, .imm = 1 << 15},
	        {.op = A64_ADD, .imm = 4097},
	        {.op = A64_AND, .imm = 0},
	        {.op = A64_LDR, .imm = 3 << 13},
	        {.op = A64_LDR, .form = A64_AFTER, .imm = 256},
	        {.op = A64_NOP, .imm = 128},
	        {.op = A64_BR, .rn = 32},
	        {.op = A64_CSEL, .cond = 16},
	        {.op = A64_BIC, .form = A64_IMMEDIATE, .imm = 1},
	};
	uint32_t opcode;

	for (unsigned i = 0; i < sizeof(insns) / sizeof(insns[0]); i++)
		if (a64_encode(&insns[i], &opcode) == 0)
			ok(false, "row %u has no encoding, but %08x", i, opcode);
	ok(true, "what has no encoding is refused");
}

int main(void)
{
	make_opcodes();
	check_printed();
	check_written();
	check_encode();
	return done();
}
