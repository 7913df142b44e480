/* SPDX-License-Identifier: MIT */
/* assemble.c - the instructions of litmus tests, one row a mnemonic. */
#include <string.h>
#include <strings.h>
#include "check/litmus/assemble.h"
#include "isa/a64.h"

/* What operands look like. */
enum shape {
	PLAIN,      /* NOP */
	IMM,        /* UDF #0 */
	TARGET,     /* B label */
	TO,         /* BR X1 */
	RETURN,     /* RET, RET X1 */
	TEST,       /* CBZ W0,label */
	TEST_BIT,   /* TBZ W0,#1,label */
	ADDRESS,    /* ADR X0,label */
	MOVE,       /* MOV W0,#1; MOV W0,W1 */
	WIDE,       /* MOVZ W0,#1,LSL #16 */
	THREE,      /* ADD W0,W1,#1; ADD W0,W1,W2 */
	COMPARE,    /* CMP W0,#1: no destination */
	NEGATE,     /* MVN W0,W1: no first source */
	CHOOSE,     /* CSEL W0,W1,W2,EQ */
	CHOOSE_1,   /* CINC W0,W1,EQ: CSINC with the other condition */
	CHOOSE_0,   /* CSET W0,EQ: of zero registers */
	ACCESS,     /* LDR W0,[X1,...] */
	EXACT,      /* LDAR W0,[X1] */
	BARRIER,    /* DMB SY; ISB */
	CACHE,      /* DC CVAU,X1; IC IVAU,X1; IC IALLU */
	TO_SPECIAL, /* MSR ELR_EL1,X1 */
	FROM_SPECIAL,
};

static const struct mnemonic {
	const char *name;
	uint8_t op, shape;
} mnemonics[] = {
        {"NOP", A64_NOP, PLAIN},
        {"ERET", A64_ERET, PLAIN},
        {"UDF", A64_UDF, IMM},
        {"HINT", A64_NOP, IMM},
        {"B", A64_B, TARGET},
        {"BL", A64_BL, TARGET},
        {"BR", A64_BR, TO},
        {"BLR", A64_BLR, TO},
        {"RET", A64_RET, RETURN},
        {"CBZ", A64_CBZ, TEST},
        {"CBNZ", A64_CBNZ, TEST},
        {"TBZ", A64_TBZ, TEST_BIT},
        {"TBNZ", A64_TBNZ, TEST_BIT},
        {"ADR", A64_ADR, ADDRESS},
        {"MOV", A64_ORR, MOVE},
        {"MOVZ", A64_MOVZ, WIDE},
        {"MOVN", A64_MOVN, WIDE},
        {"MOVK", A64_MOVK, WIDE},
        {"ADD", A64_ADD, THREE},
        {"ADDS", A64_ADDS, THREE},
        {"SUB", A64_SUB, THREE},
        {"SUBS", A64_SUBS, THREE},
        {"AND", A64_AND, THREE},
        {"ORR", A64_ORR, THREE},
        {"EOR", A64_EOR, THREE},
        {"ANDS", A64_ANDS, THREE},
        {"BIC", A64_BIC, THREE},
        {"ORN", A64_ORN, THREE},
        {"EON", A64_EON, THREE},
        {"BICS", A64_BICS, THREE},
        {"CMP", A64_SUBS, COMPARE},
        {"CMN", A64_ADDS, COMPARE},
        {"TST", A64_ANDS, COMPARE},
        {"MVN", A64_ORN, NEGATE},
        {"NEG", A64_SUB, NEGATE},
        {"NEGS", A64_SUBS, NEGATE},
        {"CSEL", A64_CSEL, CHOOSE},
        {"CSINC", A64_CSINC, CHOOSE},
        {"CSINV", A64_CSINV, CHOOSE},
        {"CSNEG", A64_CSNEG, CHOOSE},
        {"CINC", A64_CSINC, CHOOSE_1},
        {"CINV", A64_CSINV, CHOOSE_1},
        {"CNEG", A64_CSNEG, CHOOSE_1},
        {"CSET", A64_CSINC, CHOOSE_0},
        {"CSETM", A64_CSINV, CHOOSE_0},
        {"LDR", A64_LDR, ACCESS},
        {"STR", A64_STR, ACCESS},
        {"LDUR", A64_LDR, ACCESS},
        {"STUR", A64_STR, ACCESS},
        {"LDAR", A64_LDAR, EXACT},
        {"LDAPR", A64_LDAPR, EXACT},
        {"STLR", A64_STLR, EXACT},
        {"DMB", A64_DMB, BARRIER},
        {"DSB", A64_DSB, BARRIER},
        {"ISB", A64_ISB, BARRIER},
        {"DC", A64_DC_CVAU, CACHE},
        {"IC", A64_IC_IVAU, CACHE},
        {"MSR", A64_MSR_ELR_EL1, TO_SPECIAL},
        {"MRS", A64_MRS_ELR_EL1, FROM_SPECIAL},
};

/* C1.2.4 */
const char *const assemble_conditions[16] = {"EQ", "NE", "CS", "CC", "MI", "PL", "VS", "VC",
                                             "HI", "LS", "GE", "LT", "GT", "LE", "AL", "NV"};

/* C6.2, DMB: bits 1:0 are what is ordered, 3:2 for whom. Nobody else is in the non-shareable
 * domain, so its options are none here. */
const char *const assemble_options[16] = {
        [1] = "OSHLD", [2] = "OSHST", [3] = "OSH", [9] = "ISHLD", [10] = "ISHST",
        [11] = "ISH",  [13] = "LD",   [14] = "ST", [15] = "SY"};

static bool find_condition(const char *name, size_t length, uint8_t *cond)
{
	static const char *const others[16] = {[2] = "HS", [3] = "LO"};

	for (uint8_t i = 0; i < 16; i++) {
		if (length != 2)
			continue;
		if (strncasecmp(name, assemble_conditions[i], 2) == 0 ||
		    (others[i] && strncasecmp(name, others[i], 2) == 0)) {
			*cond = i;
			return true;
		}
	}
	return false;
}

/* ---- operands ---- */

bool assemble_register(struct lexer *lexer, uint8_t *number, bool *wide)
{
	const char *word = lexer->word;
	unsigned n = 0;

	if (lexer->kind != LEX_NAME || lexer->length < 2 || lexer->length > 3)
		return false;
	*wide = word[0] == 'X' || word[0] == 'x';
	*number = A64_ZR;
	if (lexer_is_name(lexer, "XZR") || lexer_is_name(lexer, "WZR"))
		return true;
	if (!*wide && word[0] != 'W' && word[0] != 'w')
		return false;
	for (size_t i = 1; i < lexer->length; i++) {
		if (word[i] < '0' || word[i] > '9')
			return false;
		n = n * 10 + (unsigned)(word[i] - '0');
	}
	*number = (uint8_t)n;
	return n < A64_ZR && (lexer->length == 2 || word[1] != '0');
}

static bool need_register(struct lexer *lexer, uint8_t *number, bool *wide)
{
	if (!assemble_register(lexer, number, wide))
		return lexer_expected(lexer, "a register");
	lexer_next(lexer);
	return true;
}

/* Of the size that the others have. */
static bool same_register(struct lexer *lexer, bool wide, uint8_t *number)
{
	bool is_wide;

	if (!assemble_register(lexer, number, &is_wide) || is_wide != wide)
		return lexer_expected(lexer, wide ? "a register of 64 bits"
		                                  : "a register of 32 "
		                                    "bits");
	lexer_next(lexer);
	return true;
}

static bool need_immediate(struct lexer *lexer, int64_t *out)
{
	bool negative;

	lexer_skip(lexer, '#');
	negative = lexer_skip(lexer, '-');
	if (!negative)
		lexer_skip(lexer, '+');
	if (lexer->kind != LEX_NUMBER)
		return lexer_expected(lexer, "a number");
	*out = (int64_t)(negative ? -lexer->number : lexer->number);
	lexer_next(lexer);
	return true;
}

/* A label, or a distance: ".+8". */
static bool need_target(struct lexer *lexer, const struct assemble_labels *labels, int64_t *out)
{
	uint64_t address;
	char name[64];

	*out = 0;
	if (lexer_skip(lexer, '.'))
		return !(lexer_is(lexer, '+') || lexer_is(lexer, '-')) ||
		       need_immediate(lexer, out);
	if (lexer->kind != LEX_NAME)
		return lexer_expected(lexer, "a label, or a distance as .+8");
	if (!lexer_copy(lexer, name, sizeof(name)))
		return false;
	if (!labels || !labels->find(labels->arg, name, &address))
		return lexer_expected(lexer,
		                      labels ? "a label of this thread" : "a distance as .+8");
	*out = (int64_t)(address - labels->here);
	lexer_next(lexer);
	return true;
}

static bool need_condition(struct lexer *lexer, uint8_t *cond)
{
	if (lexer->kind != LEX_NAME || !find_condition(lexer->word, lexer->length, cond))
		return lexer_expected(lexer, "a condition as EQ");
	lexer_next(lexer);
	return true;
}

/* ", LSL #2"; nothing is a shift by 0. */
static bool shift(struct lexer *lexer, struct a64_insn *insn)
{
	static const char *const names[] = {"LSL", "LSR", "ASR"};
	int64_t amount;
	uint8_t i = 0;

	if (!lexer_skip(lexer, ','))
		return true;
	while (i < 3 && !lexer_is_name(lexer, names[i]))
		i++;
	if (i == 3)
		return lexer_expected(lexer, "LSL, LSR or ASR");
	lexer_next(lexer);
	if (!need_immediate(lexer, &amount))
		return false;
	if (amount < 0 || amount > 63)
		return lexer_wrong(lexer, "expected a shift by 0 to 63");
	insn->modifier = i;
	insn->amount = (uint8_t)amount;
	return true;
}

/* The last operand of arithmetic: an immediate or a register. */
static bool last_operand(struct lexer *lexer, struct a64_insn *insn)
{
	if (!lexer_is(lexer, '#') && lexer->kind != LEX_NUMBER && !lexer_is(lexer, '-')) {
		insn->form = A64_REGISTER;
		return same_register(lexer, insn->wide, &insn->rm) && shift(lexer, insn);
	}
	insn->form = A64_IMMEDIATE;
	if (!need_immediate(lexer, &insn->imm))
		return false;
	/* C6.2: an alias of the other one */
	if (insn->imm < 0 && insn->op >= A64_ADD && insn->op <= A64_SUBS) {
		static const uint8_t other[] = {A64_SUB, A64_SUBS, A64_ADD, A64_ADDS};

		insn->op = other[insn->op - A64_ADD];
		insn->imm = -insn->imm;
	}
	return true;
}

static bool extend(struct lexer *lexer, struct a64_insn *insn)
{
	static const struct {
		const char *name;
		uint8_t option;
		bool wide;
	} extends[] = {{"LSL", A64_UXTX, true},
	               {"UXTW", A64_UXTW, false},
	               {"SXTW", A64_SXTW, false},
	               {"SXTX", A64_SXTX, true}};
	int64_t amount = 0;
	bool wide;

	insn->form = A64_REGISTER;
	insn->modifier = A64_UXTX;
	if (!need_register(lexer, &insn->rm, &wide))
		return false;
	if (!lexer_skip(lexer, ','))
		return wide || lexer_expected(lexer, "', UXTW' or ', SXTW'");
	for (unsigned i = 0; i < 4; i++) {
		if (!lexer_is_name(lexer, extends[i].name) || extends[i].wide != wide)
			continue;
		insn->modifier = extends[i].option;
		lexer_next(lexer);
		if (lexer_is(lexer, '#') && !need_immediate(lexer, &amount))
			return false;
		insn->amount = (uint8_t)amount;
		return amount == 0 || amount == (insn->wide ? 3 : 2) ||
		       lexer_wrong(lexer, "expected a shift by 0 or %d", insn->wide ? 3 : 2);
	}
	return lexer_expected(lexer, wide ? "LSL or SXTX" : "UXTW or SXTW");
}

/* "[X1]", "[X1,#8]", "[X1,X2]", "[X1,W2,SXTW #2]", "[X1,#8]!", "[X1],#8" */
static bool need_address(struct lexer *lexer, struct a64_insn *insn, bool exact)
{
	if (!lexer_need(lexer, '[') || !same_register(lexer, true, &insn->rn))
		return false;
	if (lexer_skip(lexer, ',')) {
		bool is_immediate = lexer_is(lexer, '#') || lexer->kind == LEX_NUMBER;

		if (!(is_immediate ? need_immediate(lexer, &insn->imm) : extend(lexer, insn)))
			return false;
	}
	if (!lexer_need(lexer, ']'))
		return false;
	if (exact)
		return (insn->form == A64_IMMEDIATE && insn->imm == 0) ||
		       lexer_wrong(lexer, "expected an address without an offset");
	if (insn->form == A64_IMMEDIATE && lexer_skip(lexer, '!'))
		insn->form = A64_BEFORE;
	else if (insn->form == A64_IMMEDIATE && insn->imm == 0 && lexer_skip(lexer, ',')) {
		insn->form = A64_AFTER;
		return need_immediate(lexer, &insn->imm);
	}
	return true;
}

/* ---- shapes ---- */

static bool move(struct lexer *lexer, struct a64_insn *insn)
{
	if (!need_register(lexer, &insn->rd, &insn->wide) || !lexer_need(lexer, ','))
		return false;
	insn->rn = A64_ZR;
	if (!last_operand(lexer, insn))
		return false;
	if (insn->form == A64_REGISTER)
		return true;
	insn->rn = 0;
	if (insn->imm < 0) {
		insn->op = A64_MOVN;
		insn->imm = ~insn->imm;
	} else {
		insn->op = A64_MOVZ;
	}
	if (!insn->wide)
		insn->imm &= 0xFFFFFFFF;
	while (insn->amount < 48 && insn->imm && !(insn->imm & 0xFFFF)) {
		insn->amount += 16;
		insn->imm >>= 16;
	}
	if (insn->imm <= 0xFFFF)
		return true;
	/* what is left: a mask */
	insn->imm = (int64_t)((uint64_t)insn->imm << insn->amount);
	if (insn->op == A64_MOVN)
		insn->imm = ~insn->imm;
	insn->op = A64_ORR;
	insn->rn = A64_ZR;
	insn->amount = 0;
	return true;
}

static bool barrier(struct lexer *lexer, struct a64_insn *insn)
{
	insn->imm = 15;
	if (insn->op == A64_ISB && !lexer_is_name(lexer, "SY"))
		return true;
	for (int i = 0; i < 16; i++) {
		if (!assemble_options[i] || !lexer_skip_name(lexer, assemble_options[i]))
			continue;
		insn->imm = i;
		return true;
	}
	return lexer_expected(lexer, "SY, LD, ST, ISH, ISHLD, ISHST, OSH, OSHLD or OSHST");
}

static bool cache(struct lexer *lexer, struct a64_insn *insn)
{
	if (insn->op == A64_IC_IVAU && lexer_skip_name(lexer, "IALLU")) {
		insn->op = A64_IC_IALLU;
		return true;
	}
	if (insn->op == A64_IC_IVAU && lexer_skip_name(lexer, "IALLUIS")) {
		insn->op = A64_IC_IALLUIS;
		return true;
	}
	if (!lexer_skip_name(lexer, insn->op == A64_DC_CVAU ? "CVAU" : "IVAU"))
		return lexer_expected(lexer,
		                      insn->op == A64_DC_CVAU ? "CVAU" : "IVAU, IALLU or IALLUIS");
	return lexer_need(lexer, ',') && same_register(lexer, true, &insn->rd);
}

static bool special(struct lexer *lexer, struct a64_insn *insn, bool to)
{
	if (!to && !(same_register(lexer, true, &insn->rd) && lexer_need(lexer, ',')))
		return false;
	if (!lexer_skip_name(lexer, "ELR_EL1"))
		return lexer_expected(lexer, "ELR_EL1");
	return !to || (lexer_need(lexer, ',') && same_register(lexer, true, &insn->rd));
}

static bool choose(struct lexer *lexer, struct a64_insn *insn, enum shape shape)
{
	if (!need_register(lexer, &insn->rd, &insn->wide) || !lexer_need(lexer, ','))
		return false;
	insn->rn = insn->rm = A64_ZR;
	if (shape != CHOOSE_0 &&
	    !(same_register(lexer, insn->wide, &insn->rn) && lexer_need(lexer, ',')))
		return false;
	insn->rm = insn->rn;
	if (shape == CHOOSE &&
	    !(same_register(lexer, insn->wide, &insn->rm) && lexer_need(lexer, ',')))
		return false;
	if (!need_condition(lexer, &insn->cond))
		return false;
	if (shape != CHOOSE)
		insn->cond ^= 1;
	return true;
}

static bool tests(struct lexer *lexer, const struct assemble_labels *labels, struct a64_insn *insn,
                  bool bit)
{
	int64_t n = 0;

	if (!need_register(lexer, &insn->rd, &insn->wide) || !lexer_need(lexer, ','))
		return false;
	if (bit && !(need_immediate(lexer, &n) && lexer_need(lexer, ',')))
		return false;
	if (n < 0 || n > (insn->wide ? 63 : 31))
		return lexer_wrong(lexer, "expected the number of a bit");
	insn->amount = (uint8_t)n;
	if (bit)
		insn->wide = n > 31;
	return need_target(lexer, labels, &insn->imm);
}

static bool arithmetic(struct lexer *lexer, struct a64_insn *insn, enum shape shape)
{
	insn->rd = insn->rn = A64_ZR;
	if (!need_register(lexer, shape == COMPARE ? &insn->rn : &insn->rd, &insn->wide) ||
	    !lexer_need(lexer, ','))
		return false;
	if (shape == THREE &&
	    !(same_register(lexer, insn->wide, &insn->rn) && lexer_need(lexer, ',')))
		return false;
	return last_operand(lexer, insn);
}

static bool wide_move(struct lexer *lexer, struct a64_insn *insn)
{
	return need_register(lexer, &insn->rd, &insn->wide) && lexer_need(lexer, ',') &&
	       need_immediate(lexer, &insn->imm) && shift(lexer, insn) && insn->modifier == A64_LSL;
}

static bool operands(struct lexer *lexer, const struct assemble_labels *labels, enum shape shape,
                     struct a64_insn *insn)
{
	bool wide;

	switch (shape) {
	case PLAIN:
		return true;
	case IMM:
		return need_immediate(lexer, &insn->imm);
	case TARGET:
		return need_target(lexer, labels, &insn->imm);
	case TO:
		return same_register(lexer, true, &insn->rn);
	case RETURN:
		insn->rn = 30;
		return !assemble_register(lexer, &insn->rn, &wide) ||
		       same_register(lexer, true, &insn->rn);
	case TEST:
	case TEST_BIT:
		return tests(lexer, labels, insn, shape == TEST_BIT);
	case ADDRESS:
		return same_register(lexer, true, &insn->rd) && lexer_need(lexer, ',') &&
		       need_target(lexer, labels, &insn->imm);
	case MOVE:
		return move(lexer, insn);
	case WIDE:
		return wide_move(lexer, insn);
	case THREE:
	case COMPARE:
	case NEGATE:
		return arithmetic(lexer, insn, shape);
	case CHOOSE:
	case CHOOSE_1:
	case CHOOSE_0:
		return choose(lexer, insn, shape);
	case ACCESS:
	case EXACT:
		return need_register(lexer, &insn->rd, &insn->wide) && lexer_need(lexer, ',') &&
		       need_address(lexer, insn, shape == EXACT);
	case BARRIER:
		return barrier(lexer, insn);
	case CACHE:
		return cache(lexer, insn);
	case TO_SPECIAL:
	case FROM_SPECIAL:
		return special(lexer, insn, shape == TO_SPECIAL);
	}
	return false;
}

static bool raw(struct lexer *lexer, uint32_t *opcode)
{
	if (lexer->kind != LEX_NUMBER || lexer->number > UINT32_MAX)
		return lexer_expected(lexer, "an opcode of 32 bits");
	*opcode = (uint32_t)lexer->number;
	lexer_next(lexer);
	return true;
}

bool assemble(struct lexer *lexer, const struct assemble_labels *labels, uint32_t *opcode)
{
	struct a64_insn insn = {0};
	const unsigned line = lexer->line;

	if (lexer->kind == LEX_NUMBER)
		return raw(lexer, opcode);
	if (lexer_skip(lexer, '.'))
		return lexer_skip_name(lexer, "inst") || lexer_skip_name(lexer, "word")
		               ? raw(lexer, opcode)
		               : lexer_expected(lexer, "inst");
	if (lexer->kind == LEX_NAME && lexer->length == 4 &&
	    strncasecmp(lexer->word, "B.", 2) == 0 &&
	    find_condition(lexer->word + 2, 2, &insn.cond)) {
		insn.op = A64_B_IF;
		lexer_next(lexer);
		if (!need_target(lexer, labels, &insn.imm))
			return false;
	} else {
		unsigned i = 0, count = sizeof(mnemonics) / sizeof(mnemonics[0]);

		while (i < count && !lexer_is_name(lexer, mnemonics[i].name))
			i++;
		if (i == count)
			return lexer_expected(lexer, "an instruction");
		insn.op = mnemonics[i].op;
		lexer_next(lexer);
		if (!operands(lexer, labels, mnemonics[i].shape, &insn))
			return lexer_expected(lexer, "operands of an instruction");
	}
	if (a64_encode(&insn, opcode) == 0)
		return true;
	lexer->line = line;
	return lexer_wrong(lexer, "expected operands that have an encoding");
}
