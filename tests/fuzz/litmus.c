/* SPDX-License-Identifier: MIT */
/*
 * litmus.c - fuzzes the reader of litmus tests, and what runs what it has read.
 *
 * Input: one byte says what is read: the rest as it is, or one of the tests below with changes.
 * A change is what happens (1 byte: a piece is left out, doubled, or replaced by another), where
 * (2), how long (1), and by which of the words below (1).
 *
 * What is refused has a complaint that begins with a line. What is read consists of parts that
 * exist; its condition is printed, and read again to the same; its instructions are printed, and
 * assembled to the same.
 */
#include <errno.h>
#include <string.h>
#include "check/litmus/assemble.h"
#include "check/litmus/litmus.h"
#include "fuzz.h"

enum { TEXT_MAX = 4096, MEMORY = 1 << 20, INSTRUCTIONS_RUN = 24 };

static const char *const tests[] = {
        "AArch64 A\nCacheType=DIC,IDC\nVariant=self\n{ 0:X0=NOP; 0:X1=P1:M; uint64_t x=3; "
        "[y]=P0:L;\n"
        " 1:X2=instr:\"B .+8\"; 1:X3=label:\"P0:L\"; ins_t *1:X4; pte_z=(oa:phy_x, valid:1); }\n"
        " P0 | P1 | P1.F ;\n STR W0,[X1] | M: B N | ADR X5,N ;\n DC CVAU,X1 | MOV W9,#1 | MSR "
        "ELR_EL1,X5 ;\nL: DSB ISH | N: UDF #0 | ERET ;\n IC IVAU,X1 | BR X3 | ;\n"
        "locations [0:X1; x;]\nexists (1:X9=1 /\\ (x=3 \\/ not fault(P1:N,UndefinedInstruction)))",
        "AArch64 B (* a comment (* in another *) *)\n{ 0:X1=x; 0:X3=y; 1:X1=x; 1:X3=y; }\n P0 | P1 "
        ";\n MOV W0,#1 | L: LDR W2,[X3] ;\n STR W0,[X1] | CBZ W2,L ;\n STLR W0,[X3] | CSEL "
        "X4,X1,X3,EQ ;\n 0x14000001 | LDR W5,[X4,#0] ;\nfilter 1:X2=1 forall 1:X5=1",
        "AArch64 C\n{ 0:X1=x; x=-1; }\n P0 ;\n LDR W2,[X1] ;\n EOR W3,W2,W2 ;\n LDR "
        "W4,[X1,W3,SXTW] ;\n BL F ;\n TBNZ W4,#31,E ;\n B E ;\nF: ADD X5,X5,#1 ;\n RET ;\nE: ISB "
        ";\n~exists (0:X4=0 /\\ true)"};

static const char *const words[] = {"",
                                    ";",
                                    "|",
                                    "{",
                                    "}",
                                    "(",
                                    ")",
                                    "[",
                                    "]",
                                    ",",
                                    "#",
                                    ":",
                                    "=",
                                    "~",
                                    "/\\",
                                    "\\/",
                                    "(*",
                                    "*)",
                                    "\"",
                                    "0",
                                    "-1",
                                    "0x",
                                    "1000",
                                    "P0",
                                    "P1:L",
                                    "P7",
                                    "X0",
                                    "W31",
                                    "XZR",
                                    "x",
                                    "NOP",
                                    "UDF #0",
                                    "B .+8",
                                    "B .-4",
                                    "BR X1",
                                    "RET",
                                    "ERET",
                                    "LDR W0,[X1]",
                                    "STR X0,[X1],#8",
                                    "STLR W0,[X3]",
                                    "DMB LD",
                                    "DSB ST",
                                    "ISB",
                                    "DC CVAU,X1",
                                    "IC IALLU",
                                    "CSET W0,EQ",
                                    "instr:\"RET\"",
                                    "exists",
                                    "forall",
                                    "locations",
                                    "filter",
                                    "not",
                                    "true",
                                    "fault(P0)",
                                    "pte_x=(oa:PA(y))",
                                    "CacheType=IDC",
                                    ".F",
                                    "int *",
                                    "18446744073709551616",
                                    "\n",
                                    "\xff",
                                    "L: L: L:"};

static unsigned long read_tests, refused, ran;
static struct litmus_test test, again;

void fuzz_summary(void)
{
	printf("read %lu\nrefused %lu\nran %lu\n", read_tests, refused, ran);
}

static size_t change(struct fuzz_input *input, char *text, size_t size)
{
	unsigned what = fuzz_byte(input) % 3;
	size_t at = (size_t)fuzz_number(input, 2) % (size + 1), length = fuzz_byte(input) % 16;
	const char *word = words[fuzz_byte(input) % (sizeof(words) / sizeof(words[0]))];
	size_t put = strlen(word);
	char piece[16];

	length = length < size - at ? length : size - at;
	memcpy(piece, text + at, length);
	if (what == 0)
		put = 0;
	if (what == 1) {
		word = piece;
		put = length;
		length = 0;
	}
	if (size - length + put > TEXT_MAX)
		return size;
	memmove(text + at + put, text + at + length, size - at - length);
	memcpy(text + at, word, put);
	return size - length + put;
}

static void check_instructions(void)
{
	for (unsigned i = 0; i < test.places; i++) {
		const struct litmus_place *place = &test.place[i];
		char text[64], error[100];
		struct lexer lexer;
		uint32_t opcode;

		if (!place->code || place->end ||
		    !litmus_print_opcode((uint32_t)place->value, text, sizeof(text)) ||
		    strstr(text, "SP"))
			continue;
		lexer_open(&lexer, text, strlen(text), error, sizeof(error));
		lexer_next(&lexer);
		if (!assemble(&lexer, NULL, &opcode) || opcode != place->value)
			fuzz_fail("%08llx is printed as %s, which is %08x",
			          (unsigned long long)place->value, text, opcode);
	}
}

static void check_parts(void)
{
	for (unsigned i = 0; i < test.columns; i++)
		if (test.column[i].thread >= test.threads || test.column[i].end >= test.places ||
		    test.column[i].first > test.column[i].end)
			fuzz_fail("column %u", i);
	for (unsigned i = 0; i < test.labels; i++)
		if (test.label[i].place >= test.places || !test.place[test.label[i].place].code)
			fuzz_fail("label %u", i);
	for (unsigned i = 0; i < test.names; i++)
		if (test.name_of[i].place >= test.places)
			fuzz_fail("name %u", i);
	for (unsigned i = 0; i < test.nodes; i++)
		if (test.node[i].left >= test.nodes || test.node[i].right >= test.nodes ||
		    (test.node[i].kind == NODE_IS && test.node[i].index >= test.observed) ||
		    (test.node[i].kind == NODE_FAULT && test.node[i].index >= test.faults))
			fuzz_fail("node %u", i);
}

/* The condition, printed behind the same program, is the same condition. */
static void check_condition(const char *text, size_t size)
{
	static char more[TEXT_MAX * 2 + 8192], condition[4096], once_more[4096];
	char error[200];
	size_t n;

	litmus_print_condition(&test, condition, sizeof(condition));
	if (!test.asks || strlen(condition) > 3000)
		return;
	/* up to where it began */
	for (n = size; n > 0; n--) {
		if (n + 6 > size ||
		    (memcmp(text + n, "exists", 6) != 0 && memcmp(text + n, "forall", 6) != 0))
			continue;
		memcpy(more, text, n);
		strcpy(more + n, "\n");
		strcat(more + n, test.quantifier == LITMUS_NOT_EXISTS && n && text[n - 1] == '~'
		                         ? condition + 1
		                         : condition);
		if (litmus_parse(more, n + strlen(more + n), &again, error, sizeof(error)))
			return;
		litmus_print_condition(&again, once_more, sizeof(once_more));
		if (again.quantifier == test.quantifier && strcmp(condition, once_more) != 0)
			fuzz_fail("%s is read again as %s", condition, once_more);
		return;
	}
}

static void run(void)
{
	struct litmus_result result;
	unsigned instructions = 0;
	int rc;

	for (unsigned i = 0; i < test.places; i++)
		instructions += test.place[i].code && !test.place[i].end;
	if (instructions > INSTRUCTIONS_RUN)
		return;
	rc = litmus_run(&test, 0, MEMORY, &result);
	if (rc && rc != -EINVAL && rc != -E2BIG)
		fuzz_fail("running it returns %d", rc);
	if (rc && !result.error[0])
		fuzz_fail("running it fails with %d, without a reason", rc);
	ran += rc == 0;
	litmus_result_free(&result);
}

static void check(const char *text, size_t size)
{
	char error[200] = "", *end;

	if (litmus_parse(text, size, &test, error, sizeof(error))) {
		refused++;
		if (strtoul(error, &end, 10) == 0 || strncmp(end, ": ", 2) != 0 || !end[2])
			fuzz_fail("the complaint is '%s'", error);
		return;
	}
	read_tests++;
	check_parts();
	check_instructions();
	check_condition(text, size);
	run();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, data + size};
	unsigned kind = fuzz_byte(&input), changes = 0;
	char buffer[TEXT_MAX], *text;

	if (kind >= 0xF0 || !size) {
		size = (size_t)(input.end - input.at);
		size = size < TEXT_MAX ? size : TEXT_MAX;
		memcpy(buffer, input.at, size);
	} else {
		const char *base = tests[kind % (sizeof(tests) / sizeof(tests[0]))];

		size = strlen(base);
		memcpy(buffer, base, size);
		while (input.at < input.end && changes++ < kind / 16u)
			size = change(&input, buffer, size);
	}
	/* of its own, so that a sanitizer sees reads beyond its end */
	text = malloc(size + !size);
	if (!text)
		abort();
	memcpy(text, buffer, size);
	check(text, size);
	free(text);
	return 0;
}
