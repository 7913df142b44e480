/* SPDX-License-Identifier: MIT */
/*
 * parse.c - header and first values of a test, and the order of its parts.
 *
 * First values may name labels, which come later. So the program is read first, then they.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "check/litmus/assemble.h"
#include "check/litmus/parse.h"

/* ---- header ---- */

/* "IDC", "DIC", "DIC,IDC": DIC is taken to imply IDC. */
static bool cache_type(struct lexer *lexer, struct litmus_test *test, char *value)
{
	char *word;

	while ((word = strsep(&value, ", \t"))) {
		if (strcasecmp(word, "IDC") != 0 && strcasecmp(word, "DIC") != 0 && *word)
			return lexer_wrong(lexer, "expected CacheType=IDC or DIC, found '%.20s'",
			                   word);
		test->idc = test->idc || *word;
		test->dic = test->dic || strcasecmp(word, "DIC") == 0;
	}
	return true;
}

/* Those that change nothing here: faults are precise, and go to the handler or end the thread;
 * translation is that of aliases. */
static bool variant(struct lexer *lexer, struct litmus_test *test, char *value)
{
	static const char *const known[] = {"self",    "ifetch", "vmsa", "kvm", "fatal",
	                                    "handled", "ETS",    "ETS2", ""};
	char *word;

	while ((word = strsep(&value, ", \t"))) {
		unsigned i = 0, count = sizeof(known) / sizeof(known[0]);

		test->skips = test->skips || strcasecmp(word, "skip") == 0;
		while (i < count && strcasecmp(word, known[i]) != 0)
			i++;
		if (i == count && strcasecmp(word, "skip") != 0)
			return lexer_wrong(lexer,
			                   "expected Variant=self, fatal, handled or skip, found "
			                   "'%.20s'",
			                   word);
	}
	return true;
}

static bool setting(struct lexer *lexer, struct litmus_test *test)
{
	const unsigned line = lexer->line;
	char name[32], value[512];
	bool good = true;

	if (!lexer_copy(lexer, name, sizeof(name)))
		return false;
	lexer_next(lexer);
	if (!lexer_is(lexer, '='))
		return lexer_expected(lexer, "'=', or '{'");
	lexer_rest_of_line(lexer, value, sizeof(value));
	/* Others are notes of whoever made the test. Complaints are about this line. */
	if (strcasecmp(name, "CacheType") == 0 || strcasecmp(name, "Variant") == 0) {
		unsigned next = lexer->line;

		lexer->line = line;
		good = strcasecmp(name, "Variant") == 0 ? variant(lexer, test, value)
		                                        : cache_type(lexer, test, value);
		lexer->line = next;
	}
	return good;
}

static bool header(struct lexer *lexer, struct litmus_test *test)
{
	lexer_next(lexer);
	if (!lexer_is_name(lexer, "AArch64"))
		return lexer_expected(lexer, "AArch64");
	lexer_rest_of_line(lexer, test->name, sizeof(test->name));
	if (!test->name[0])
		return lexer_expected(lexer, "the name of the test");
	for (char *c = test->name; *c; c++)
		if ((unsigned char)*c <= ' ' || (unsigned char)*c >= 127)
			return lexer_wrong(lexer, "expected a name of letters without blanks");
	while (lexer->kind == LEX_NAME || lexer->kind == LEX_STRING) {
		if (lexer->kind == LEX_STRING)
			lexer_next(lexer);
		else if (!setting(lexer, test))
			return false;
	}
	return lexer_is(lexer, '{') || lexer_expected(lexer, "'{'");
}

/* ---- names and values ---- */

static int find_name(const struct litmus_test *test, const char *name)
{
	for (unsigned i = 0; i < test->names; i++)
		if (strcmp(test->name_of[i].name, name) == 0)
			return (int)i;
	return -1;
}

bool parse_data(struct lexer *lexer, struct litmus_test *test, const char *name, unsigned *index)
{
	int known = find_name(test, name);

	*index = known < 0 ? test->names : (unsigned)known;
	if (known >= 0)
		return true;
	if (test->names == LITMUS_NAMES || test->places == LITMUS_PLACES)
		return lexer_wrong(lexer, "expected at most %d names of data", LITMUS_NAMES);
	snprintf(test->name_of[test->names].name, LITMUS_NAME, "%s", name);
	test->name_of[test->names].place = (uint8_t)test->places;
	test->name_of[test->names].home = (uint8_t)test->places;
	test->name_of[test->names].bytes = 4;
	test->name_of[test->names].is_signed = true;
	test->place[test->places++] =
	        (struct litmus_place){.address = LITMUS_DATA + test->names * LITMUS_DATA_STEP};
	test->names++;
	return true;
}

bool parse_register(struct lexer *lexer, uint8_t *reg)
{
	bool wide;

	return assemble_register(lexer, reg, &wide) && *reg < 31;
}

/* The current word is "P1", of "P1:L0"; the label's address. */
static bool label_value(struct lexer *lexer, const struct litmus_test *test, uint64_t *value)
{
	const struct litmus_label *label;
	char name[LITMUS_NAME];
	unsigned thread;
	bool handler;

	if (lexer->kind != LEX_NAME ||
	    !parse_thread(lexer->word, lexer->length, &thread, &handler) || handler)
		return lexer_expected(lexer, "a label as P0:L0");
	lexer_next(lexer);
	if (!lexer_need(lexer, ':') || !lexer_copy(lexer, name, sizeof(name)))
		return false;
	label = parse_label(test, thread, name);
	if (!label)
		return lexer_expected(lexer, "a label of that thread");
	*value = test->place[label->place].address;
	lexer_next(lexer);
	return true;
}

/* instr:"NOP", label:"P0:L0" */
static bool quoted_value(struct lexer *lexer, struct litmus_test *test, bool code, uint64_t *value)
{
	struct lexer inside;
	uint32_t opcode;

	lexer_next(lexer);
	if (!lexer_need(lexer, ':'))
		return false;
	if (lexer->kind != LEX_STRING)
		return lexer_expected(lexer, "a string");
	lexer_open(&inside, lexer->word, lexer->length, lexer->error, lexer->error_size);
	inside.line = inside.next_line = lexer->line;
	lexer_next(&inside);
	if (code ? !assemble(&inside, NULL, &opcode) : !label_value(&inside, test, value)) {
		lexer->failed = true;
		return false;
	}
	if (inside.kind != LEX_END) {
		lexer_expected(&inside, "the end of the string");
		lexer->failed = true;
		return false;
	}
	if (code)
		*value = opcode;
	lexer_next(lexer);
	return true;
}

static bool named_value(struct lexer *lexer, struct litmus_test *test, uint64_t *value)
{
	struct lexer ahead = *lexer;
	char name[LITMUS_NAME];
	unsigned index, thread;
	bool handler;

	lexer_next(&ahead);
	if (lexer_is_name(lexer, "instr") && lexer_is(&ahead, ':'))
		return quoted_value(lexer, test, true, value);
	if (lexer_is_name(lexer, "label") && lexer_is(&ahead, ':'))
		return quoted_value(lexer, test, false, value);
	if (lexer_is(&ahead, ':') && parse_thread(lexer->word, lexer->length, &thread, &handler))
		return label_value(lexer, test, value);
	if (lexer_skip_name(lexer, "NOP")) {
		*value = 0xD503201F; /* the hint of C6.2 */
		return true;
	}
	if (!lexer_copy(lexer, name, sizeof(name)) || !parse_data(lexer, test, name, &index))
		return false;
	*value = LITMUS_DATA + index * LITMUS_DATA_STEP;
	lexer_next(lexer);
	return true;
}

bool parse_value(struct lexer *lexer, struct litmus_test *test, uint64_t *value)
{
	bool negative;

	if (lexer->kind == LEX_NAME)
		return named_value(lexer, test, value);
	if (lexer_skip(lexer, '&') && lexer->kind == LEX_NAME)
		return named_value(lexer, test, value);
	negative = lexer_skip(lexer, '-');
	if (lexer->kind != LEX_NUMBER)
		return lexer_expected(lexer, "a value: a number, a name, P0:L0, or instr:\"NOP\"");
	*value = negative ? -lexer->number : lexer->number;
	lexer_next(lexer);
	return true;
}

/* ---- first values ---- */

struct type {
	const char *name;
	uint8_t bytes;
	bool is_signed;
};

static const struct type *find_type(const struct lexer *lexer)
{
	static const struct type types[] = {
	        {"int", 4, true},       {"int32_t", 4, true},   {"uint32_t", 4, false},
	        {"int64_t", 8, true},   {"uint64_t", 8, false}, {"long", 8, true},
	        {"ins_t", 4, false},    {"intptr_t", 8, true},  {"uintptr_t", 8, false},
	        {"unsigned", 4, false}, {"void", 8, false},     {"pteval_t", 8, false},
	};

	for (unsigned i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (lexer_is_name(lexer, types[i].name))
			return &types[i];
	return NULL;
}

/* "phy_x", "phy_P0:L0", "PA(x)": a physical place. */
static bool physical(struct lexer *lexer, struct litmus_test *test, uint8_t *place)
{
	bool handler, function = lexer_skip_name(lexer, "PA");
	const struct litmus_label *label;
	char name[LITMUS_NAME];
	const char *base = name;
	unsigned thread, index;

	if (function && !lexer_need(lexer, '('))
		return false;
	if (lexer->kind != LEX_NAME)
		return lexer_expected(lexer, "a physical address as phy_x");
	if (!lexer_copy(lexer, name, sizeof(name)))
		return false;
	if (!function && strncmp(name, "phy_", 4) != 0)
		return lexer_expected(lexer, "a physical address as phy_x");
	base += function ? 0 : 4;
	lexer_next(lexer);
	if (lexer_skip(lexer, ':')) {
		char of_thread[LITMUS_NAME];

		if (!parse_thread(base, strlen(base), &thread, &handler) ||
		    lexer->kind != LEX_NAME || !lexer_copy(lexer, of_thread, sizeof(of_thread)) ||
		    !(label = parse_label(test, thread, of_thread)))
			return lexer_expected(lexer, "a label of a thread");
		*place = label->place;
		lexer_next(lexer);
	} else {
		if (!parse_data(lexer, test, base, &index))
			return false;
		*place = test->name_of[index].home;
	}
	return !function || lexer_need(lexer, ')');
}

/* "pte_x = (oa:phy_y)": x is another name of what y is. Here the '=' is behind us. */
static bool translation(struct lexer *lexer, struct litmus_test *test, const char *name)
{
	unsigned index;
	uint8_t place = 0;

	if (!parse_data(lexer, test, name, &index) || !lexer_need(lexer, '('))
		return false;
	if (!lexer_skip_name(lexer, "oa"))
		return lexer_expected(lexer, "oa:phy_x");
	if (!lexer_need(lexer, ':') || !physical(lexer, test, &place))
		return false;
	/* Attributes that a page has anyway. */
	while (lexer_skip(lexer, ',')) {
		if (!lexer_skip_name(lexer, "valid") && !lexer_skip_name(lexer, "af") &&
		    !lexer_skip_name(lexer, "db"))
			return lexer_expected(lexer, "valid:1, af:1 or db:1");
		if (!lexer_need(lexer, ':'))
			return false;
		if (lexer->kind != LEX_NUMBER || lexer->number != 1)
			return lexer_expected(lexer, "1: faults of translation are not modelled");
		lexer_next(lexer);
	}
	test->name_of[index].place = place;
	return lexer_need(lexer, ')');
}

static bool first_register(struct lexer *lexer, struct litmus_test *test, const struct type *type)
{
	uint64_t thread = lexer->number;
	uint8_t reg;

	if (thread >= test->threads)
		return lexer_expected(lexer, "a thread of the program");
	lexer_next(lexer);
	if (!lexer_need(lexer, ':'))
		return false;
	if (!parse_register(lexer, &reg))
		return lexer_expected(lexer, "a register as X0");
	lexer_next(lexer);
	if (type) {
		test->reg_bytes[thread][reg] = type->bytes;
		test->reg_signed[thread][reg] = type->is_signed;
	}
	return !lexer_skip(lexer, '=') || parse_value(lexer, test, &test->reg[thread][reg]);
}

/* "x", "[x]", "pte_x", "[PTE(x)]" */
static bool first_memory(struct lexer *lexer, struct litmus_test *test, const struct type *type)
{
	bool bracket = lexer_skip(lexer, '['), pte = bracket && lexer_skip_name(lexer, "PTE");
	char name[LITMUS_NAME];
	unsigned index;

	if (pte && !lexer_need(lexer, '('))
		return false;
	if (lexer->kind != LEX_NAME)
		return lexer_expected(lexer, "a register as 0:X0, or a name");
	if (!lexer_copy(lexer, name, sizeof(name)))
		return false;
	lexer_next(lexer);
	if ((pte && !lexer_need(lexer, ')')) || (bracket && !lexer_need(lexer, ']')))
		return false;
	if (pte || strncmp(name, "pte_", 4) == 0)
		return lexer_need(lexer, '=') && translation(lexer, test, name + (pte ? 0 : 4));
	if (!parse_data(lexer, test, name, &index))
		return false;
	if (type) {
		test->name_of[index].bytes = type->bytes;
		test->name_of[index].is_signed = type->is_signed;
	}
	return !lexer_skip(lexer, '=') ||
	       parse_value(lexer, test, &test->place[test->name_of[index].home].value);
}

/* From '{' to '}'. */
static bool first_values(struct lexer *lexer, struct litmus_test *test)
{
	lexer_next(lexer);
	while (!lexer_skip(lexer, '}')) {
		struct type pointer = {"", 8, false};
		const struct type *type = find_type(lexer);

		if (lexer_skip(lexer, ';'))
			continue;
		if (type)
			lexer_next(lexer);
		while (lexer_skip(lexer, '*'))
			type = &pointer;
		if (!(lexer->kind == LEX_NUMBER ? first_register(lexer, test, type)
		                                : first_memory(lexer, test, type)))
			return false;
		if (!lexer_is(lexer, '}') && !lexer_need(lexer, ';'))
			return false;
	}
	return true;
}

int litmus_parse(const char *text, size_t size, struct litmus_test *test, char *error,
                 size_t error_size)
{
	struct lexer lexer, values;

	memset(test, 0, sizeof(*test));
	if (error_size)
		error[0] = '\0';
	lexer_open(&lexer, text, size, error, error_size);
	if (!header(&lexer, test))
		return -EINVAL;
	values = lexer;
	while (!lexer_is(&lexer, '}') && lexer.kind != LEX_END)
		lexer_next(&lexer);
	/* A word that is none ends the text, which may be where the program may end, too. */
	if (!lexer_need(&lexer, '}') || !parse_program(&lexer, test) || lexer.failed ||
	    !first_values(&values, test) || !parse_condition(&lexer, test))
		return -EINVAL;
	return 0;
}
