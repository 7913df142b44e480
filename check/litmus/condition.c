/* SPDX-License-Identifier: MIT */
/* condition.c - what a test asks of its final states, and how they are printed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "check/litmus/parse.h"
#include "check/litmus/text.h"

enum { DEPTH_MAX = 64 };

struct conditions {
	struct lexer *lexer;
	struct litmus_test *test;
	unsigned depth;
};

/* ---- what is observed ---- */

/* Registers by thread and number, then memory by name: the order in which herd prints them. */
static int compare_observed(const struct litmus_test *test, const struct litmus_observed *a,
                            const struct litmus_observed *b)
{
	if (a->memory != b->memory)
		return a->memory - b->memory;
	if (a->memory)
		return strcmp(test->name_of[a->name].name, test->name_of[b->name].name);
	return a->thread != b->thread ? a->thread - b->thread : a->reg - b->reg;
}

/* The index may change while others are added: sort_observed() comes last. */
static bool observe(struct lexer *lexer, struct litmus_test *test,
                    const struct litmus_observed *what, uint8_t *index)
{
	for (*index = 0; *index < test->observed; ++*index)
		if (compare_observed(test, &test->observe[*index], what) == 0)
			return true;
	if (test->observed == LITMUS_OBSERVED)
		return lexer_wrong(lexer,
		                   "expected at most %d registers and names that are asked for",
		                   LITMUS_OBSERVED);
	test->observe[test->observed++] = *what;
	return true;
}

static void sort_observed(struct litmus_test *test)
{
	struct litmus_observed unsorted[LITMUS_OBSERVED];
	uint8_t at[LITMUS_OBSERVED];

	memcpy(unsorted, test->observe, sizeof(unsorted));
	for (unsigned i = 0; i < test->observed; i++) {
		at[i] = 0;
		for (unsigned k = 0; k < test->observed; k++)
			at[i] += compare_observed(test, &unsorted[k], &unsorted[i]) < 0;
	}
	for (unsigned i = 0; i < test->observed; i++)
		test->observe[at[i]] = unsorted[i];
	for (unsigned i = 0; i < test->nodes; i++)
		if (test->node[i].kind == NODE_IS)
			test->node[i].index = at[test->node[i].index];
}

/* "0:X1", "x", "[x]" */
static bool observed(struct lexer *lexer, struct litmus_test *test, uint8_t *index)
{
	struct litmus_observed what = {0};
	char name[LITMUS_NAME];
	unsigned named;

	if (lexer->kind == LEX_NUMBER) {
		if (lexer->number >= test->threads)
			return lexer_expected(lexer, "a thread of the program");
		what.thread = (uint8_t)lexer->number;
		lexer_next(lexer);
		if (!lexer_need(lexer, ':'))
			return false;
		if (!parse_register(lexer, &what.reg))
			return lexer_expected(lexer, "a register as X0");
		lexer_next(lexer);
		return observe(lexer, test, &what, index);
	}
	what.memory = true;
	if (lexer_skip(lexer, '[')) {
		if (lexer->kind != LEX_NAME || !lexer_copy(lexer, name, sizeof(name)))
			return lexer_expected(lexer, "a name");
		lexer_next(lexer);
		if (!lexer_need(lexer, ']'))
			return false;
	} else {
		if (lexer->kind != LEX_NAME)
			return lexer_expected(lexer, "a register as 0:X0, or a name");
		if (!lexer_copy(lexer, name, sizeof(name)))
			return false;
		lexer_next(lexer);
	}
	if (!parse_data(lexer, test, name, &named))
		return false;
	what.name = (uint8_t)named;
	return observe(lexer, test, &what, index);
}

/* ---- expressions ---- */

static bool add_node(struct conditions *c, const struct litmus_node *node, uint16_t *out)
{
	if (c->test->nodes == LITMUS_NODES)
		return lexer_wrong(c->lexer, "expected a condition of at most %d parts",
		                   LITMUS_NODES);
	*out = (uint16_t)c->test->nodes;
	c->test->node[c->test->nodes++] = *node;
	return true;
}

static bool expression(struct conditions *c, uint16_t *out);

/* "fault(P0:L0,UndefinedInstruction)", behind "fault" */
static bool fault(struct conditions *c, uint16_t *out)
{
	struct litmus_node node = {.kind = NODE_FAULT, .index = (uint8_t)c->test->faults};
	struct litmus_fault *f = &c->test->fault[c->test->faults];
	unsigned thread;
	bool handler;

	if (c->test->faults == LITMUS_FAULTS)
		return lexer_wrong(c->lexer, "expected at most %d faults", LITMUS_FAULTS);
	*f = (struct litmus_fault){.place = LITMUS_NOWHERE};
	if (!lexer_need(c->lexer, '('))
		return false;
	if (c->lexer->kind != LEX_NAME ||
	    !parse_thread(c->lexer->word, c->lexer->length, &thread, &handler) || handler ||
	    thread >= c->test->threads)
		return lexer_expected(c->lexer, "a thread of the program");
	f->thread = (uint8_t)thread;
	lexer_next(c->lexer);
	if (lexer_skip(c->lexer, ':')) {
		const struct litmus_label *label;

		if (c->lexer->kind != LEX_NAME ||
		    !lexer_copy(c->lexer, f->label, sizeof(f->label)) ||
		    !(label = parse_label(c->test, thread, f->label)))
			return lexer_expected(c->lexer, "a label of that thread");
		f->place = label->place;
		lexer_next(c->lexer);
	}
	if (lexer_skip(c->lexer, ',')) {
		if (!lexer_is_name(c->lexer, "UndefinedInstruction"))
			return lexer_expected(c->lexer, "UndefinedInstruction");
		snprintf(f->kind, sizeof(f->kind), "UndefinedInstruction");
		lexer_next(c->lexer);
	}
	c->test->faults++;
	return lexer_need(c->lexer, ')') && add_node(c, &node, out);
}

/* "0:X1=1", "x<>1" */
static bool comparison(struct conditions *c, struct litmus_node *node, uint16_t *out)
{
	struct litmus_node negation = {.kind = NODE_NOT};
	bool differs;

	if (!observed(c->lexer, c->test, &node->index))
		return false;
	differs = lexer_skip(c->lexer, '<');
	if (!lexer_need(c->lexer, differs ? '>' : '=') ||
	    !parse_value(c->lexer, c->test, &node->value) ||
	    !add_node(c, node, differs ? &negation.left : out))
		return false;
	return !differs || add_node(c, &negation, out);
}

static bool atom(struct conditions *c, uint16_t *out)
{
	struct lexer *lexer = c->lexer;
	struct litmus_node node = {.kind = NODE_IS};

	if (lexer_skip(lexer, '(')) {
		bool good;

		if (++c->depth > DEPTH_MAX)
			return lexer_wrong(lexer, "expected fewer parentheses in each other");
		good = expression(c, out) && lexer_need(lexer, ')');
		c->depth--;
		return good;
	}
	if (lexer_skip(lexer, '~') || lexer_skip_name(lexer, "not")) {
		node.kind = NODE_NOT;
		if (++c->depth > DEPTH_MAX)
			return lexer_wrong(lexer, "expected fewer negations in each other");
		if (!atom(c, &node.left))
			return false;
		c->depth--;
		return add_node(c, &node, out);
	}
	if (lexer_skip_name(lexer, "fault"))
		return fault(c, out);
	if (lexer_is_name(lexer, "true") || lexer_is_name(lexer, "false")) {
		node.kind = lexer_is_name(lexer, "true") ? NODE_TRUE : NODE_FALSE;
		lexer_next(lexer);
		return add_node(c, &node, out);
	}
	return comparison(c, &node, out);
}

static bool chain(struct conditions *c, enum lexer_kind by, uint16_t *out)
{
	if (!(by == LEX_AND ? atom(c, out) : chain(c, LEX_AND, out)))
		return false;
	while (c->lexer->kind == by) {
		struct litmus_node node = {.kind = by == LEX_AND ? NODE_AND : NODE_OR,
		                           .left = *out};

		lexer_next(c->lexer);
		if (!(by == LEX_AND ? atom(c, &node.right) : chain(c, LEX_AND, &node.right)) ||
		    !add_node(c, &node, out))
			return false;
	}
	return true;
}

static bool expression(struct conditions *c, uint16_t *out)
{
	return chain(c, LEX_OR, out);
}

/* ---- behind the program ---- */

bool parse_condition_begins(const struct lexer *lexer)
{
	return lexer->kind == LEX_END || lexer_is(lexer, '~') || lexer_is_name(lexer, "exists") ||
	       lexer_is_name(lexer, "forall") || lexer_is_name(lexer, "locations") ||
	       lexer_is_name(lexer, "filter") || lexer_is_name(lexer, "not");
}

/* "locations [0:X1; x;]" */
static bool locations(struct lexer *lexer, struct litmus_test *test)
{
	uint8_t index;

	if (!lexer_need(lexer, '['))
		return false;
	while (!lexer_skip(lexer, ']')) {
		if (!lexer_is(lexer, ';') && !observed(lexer, test, &index))
			return false;
		if (!lexer_is(lexer, ']') && !lexer_need(lexer, ';'))
			return false;
	}
	return true;
}

static bool quantified(struct conditions *c)
{
	bool negated = lexer_skip(c->lexer, '~') || lexer_skip_name(c->lexer, "not");

	c->test->asks = true;
	if (!negated && lexer_skip_name(c->lexer, "forall")) {
		c->test->quantifier = LITMUS_FORALL;
	} else if (lexer_skip_name(c->lexer, "exists")) {
		c->test->quantifier = negated ? LITMUS_NOT_EXISTS : LITMUS_EXISTS;
	} else {
		return lexer_expected(c->lexer, negated ? "exists" : "exists, ~exists or forall");
	}
	return expression(c, &c->test->condition);
}

bool parse_condition(struct lexer *lexer, struct litmus_test *test)
{
	static const struct litmus_node always = {.kind = NODE_TRUE};
	struct conditions c = {.lexer = lexer, .test = test};

	/* Node 0 stands for whatever is not asked. */
	test->quantifier = LITMUS_FORALL;
	if (!add_node(&c, &always, &test->condition))
		return false;
	while (lexer_is_name(lexer, "locations") || lexer_is_name(lexer, "filter")) {
		bool filter = lexer_is_name(lexer, "filter");

		lexer_next(lexer);
		if (!(filter ? expression(&c, &test->filter) : locations(lexer, test)))
			return false;
		lexer_skip(lexer, ';');
	}
	if (lexer->kind != LEX_END && !quantified(&c))
		return false;
	if (lexer->kind != LEX_END)
		return lexer_expected(lexer, "the end, or /\\ or \\/");
	sort_observed(test);
	return !lexer->failed;
}

/* ---- values ---- */

unsigned litmus_place_at(const struct litmus_test *test, uint64_t address)
{
	uint64_t data = address - LITMUS_DATA, code = address - LITMUS_CODE;

	if (address >= LITMUS_DATA) {
		if (data % LITMUS_DATA_STEP || data / LITMUS_DATA_STEP >= test->names)
			return LITMUS_NOWHERE;
		return test->name_of[data / LITMUS_DATA_STEP].place;
	}
	if (address >= LITMUS_CODE && code / LITMUS_CODE_STEP < test->columns && code % 4 == 0) {
		const struct litmus_column *column = &test->column[code / LITMUS_CODE_STEP];
		uint64_t i = code % LITMUS_CODE_STEP / 4;

		if (i <= (uint64_t)(column->end - column->first))
			return (unsigned)(column->first + i);
	}
	return LITMUS_NOWHERE;
}

/* -1 of 32 bits and of 64 are the same to whoever asks. */
static int64_t plain(uint64_t value)
{
	return value >> 32 ? (int64_t)value : (int32_t)(uint32_t)value;
}

bool litmus_holds(const struct litmus_test *test, unsigned node, const struct litmus_state *state)
{
	const struct litmus_node *n = &test->node[node];

	switch ((enum litmus_node_kind)n->kind) {
	case NODE_TRUE:
		return true;
	case NODE_FALSE:
		return false;
	case NODE_AND:
		return litmus_holds(test, n->left, state) && litmus_holds(test, n->right, state);
	case NODE_OR:
		return litmus_holds(test, n->left, state) || litmus_holds(test, n->right, state);
	case NODE_NOT:
		return !litmus_holds(test, n->left, state);
	case NODE_IS:
		return plain(state->value[n->index]) == plain(n->value);
	case NODE_FAULT:
		break;
	}
	return state->faults >> n->index & 1;
}

/* Is this the opcode of an instruction that the test begins with somewhere? */
static bool is_instruction(const struct litmus_test *test, uint64_t value)
{
	if (value >> 32 || value < 1u << 24)
		return false;
	if (value == 0xD503201F)
		return true;
	for (unsigned i = 0; i < test->places; i++)
		if (test->place[i].code && !test->place[i].end && test->place[i].value == value)
			return true;
	return false;
}

void litmus_print_value(const struct litmus_test *test, const struct litmus_observed *what,
                        uint64_t value, char *out, size_t size)
{
	unsigned bytes = what->memory ? test->name_of[what->name].bytes
	                              : test->reg_bytes[what->thread][what->reg];
	bool is_signed = what->memory ? test->name_of[what->name].is_signed
	                              : test->reg_signed[what->thread][what->reg];
	char text[64];

	for (unsigned i = 0; i < test->labels; i++) {
		const struct litmus_label *label = &test->label[i];

		if (test->place[label->place].address != value)
			continue;
		snprintf(out, size, "P%u:%s", label->thread, label->name);
		return;
	}
	for (unsigned i = 0; i < test->names; i++)
		if (value == LITMUS_DATA + i * LITMUS_DATA_STEP) {
			snprintf(out, size, "%s", test->name_of[i].name);
			return;
		}
	if (is_instruction(test, value) && litmus_print_opcode((uint32_t)value, text, sizeof(text)))
		snprintf(out, size, "instr:\"%s\"", text);
	else if (bytes && !is_signed)
		snprintf(out, size, "%llu", (unsigned long long)value);
	else
		snprintf(out, size, "%lld", (long long)plain(value));
}

void litmus_print_observed(const struct litmus_test *test, const struct litmus_observed *what,
                           char *out, size_t size)
{
	if (what->memory)
		snprintf(out, size, "[%s]", test->name_of[what->name].name);
	else
		snprintf(out, size, "%u:X%u", what->thread, what->reg);
}

void litmus_print_fault(const struct litmus_fault *fault, char *out, size_t size)
{
	snprintf(out, size, "(P%u%s%s%s%s)", fault->thread, fault->label[0] ? ":" : "",
	         fault->label, fault->kind[0] ? "," : "", fault->kind);
}

/* ---- the condition ---- */

static void put_node(const struct litmus_test *test, unsigned node, struct text *text, bool inner)
{
	const struct litmus_node *n = &test->node[node];
	char left[160], right[160];

	switch ((enum litmus_node_kind)n->kind) {
	case NODE_TRUE:
	case NODE_FALSE:
		litmus_put(text, n->kind == NODE_TRUE ? "true" : "false");
		return;
	case NODE_AND:
	case NODE_OR:
		litmus_put(text, inner ? "(" : "");
		put_node(test, n->left, text, test->node[n->left].kind != n->kind);
		litmus_put(text, n->kind == NODE_AND ? " /\\ " : " \\/ ");
		put_node(test, n->right, text, true);
		litmus_put(text, inner ? ")" : "");
		return;
	case NODE_NOT:
		litmus_put(text, "not (");
		put_node(test, n->left, text, false);
		litmus_put(text, ")");
		return;
	case NODE_IS:
		litmus_print_observed(test, &test->observe[n->index], left, sizeof(left));
		litmus_print_value(test, &test->observe[n->index], n->value, right, sizeof(right));
		litmus_put(text, "%s=%s", left, right);
		return;
	case NODE_FAULT:
		litmus_print_fault(&test->fault[n->index], left, sizeof(left));
		litmus_put(text, "fault%s", left);
		return;
	}
}

void litmus_print_condition(const struct litmus_test *test, char *out, size_t size)
{
	static const char *const quantifiers[] = {"exists", "~exists", "forall"};
	struct text text = {out, size};

	litmus_put(&text, "%s (", quantifiers[test->quantifier]);
	put_node(test, test->condition, &text, false);
	litmus_put(&text, ")");
}
