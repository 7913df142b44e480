/* SPDX-License-Identifier: MIT */
/*
 * isa_model.c - a few real instructions of A64, A32, T32, MIPS and RISC-V.
 *
 * One table a set: which word is which instruction, and whether it is one of those that may be
 * replaced by another of them while other cores execute it. Where a manual has such a list, that is
 * it; where there is none (MIPS), the assumption is written at the table. docs/machines.md says
 * where each was read. Real instruction sets in src/isa replace these one by one.
 */
#include <errno.h>
#include <string.h>

#include "check/isa_model.h"

enum { LENGTH_MAX = 4 };

/* How an instruction lies in memory; all are little-endian here but MIPS. */
enum order {
	ORDER_LITTLE,
	ORDER_BIG,
	ORDER_HALVES, /* T32: halfwords, the first one first, each little-endian */
};

struct form {
	uint32_t mask, value; /* of the word; 16-bit ones in the upper half */
	uint8_t length;
	bool listed; /* may be replaced by another that is listed */
	enum isa_class class;
};

struct model {
	enum order order;
	uint32_t trap, nop;
	const struct form *forms;
	size_t count;
	/* Word of a direct jump, 0: out of reach. */
	uint32_t (*jump)(uint64_t from, uint64_t to);
	uint64_t (*target)(uint32_t word, uint64_t address);
	/* What the manual says of two forms that are both listed; NULL: nothing more. */
	bool (*pair_safe)(uint32_t from, uint32_t to, const struct form *form);
};

/* ---- bytes ---- */

static uint32_t half_at(const uint8_t *bytes)
{
	return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8;
}

/* `size` is 2 or more; a missing second half reads as zero. */
static uint32_t word_at(enum order order, const uint8_t *bytes, size_t size)
{
	uint8_t b[LENGTH_MAX] = {0};

	memcpy(b, bytes, size < LENGTH_MAX ? size : LENGTH_MAX);
	switch (order) {
	case ORDER_BIG:
		return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
	case ORDER_HALVES:
		return half_at(b) << 16 | half_at(b + 2);
	default:
		return half_at(b + 2) << 16 | half_at(b);
	}
}

static void put_word(enum order order, uint32_t word, uint8_t *out)
{
	if (order == ORDER_HALVES)
		word = word >> 16 | word << 16;
	for (int i = 0; i < LENGTH_MAX; i++)
		out[i] = (uint8_t)(word >> 8 * (order == ORDER_BIG ? LENGTH_MAX - 1 - i : i));
}

/* ---- immediates ---- */

static int64_t sign_extend(uint64_t value, unsigned bits)
{
	uint64_t sign = 1ull << (bits - 1);

	return (int64_t)(((value & (2 * sign - 1)) ^ sign) - sign);
}

static bool fits(int64_t value, unsigned bits)
{
	return sign_extend((uint64_t)value, bits) == value;
}

/* Bits [high:low] of `value`, moved to bit `to`. */
static uint32_t field(uint64_t value, unsigned high, unsigned low, unsigned to)
{
	return (uint32_t)((value >> low & ((1ull << (high - low + 1)) - 1)) << to);
}

/* ---- what is common to all ---- */

static const struct form *find(const struct model *model, const uint8_t *code, size_t size)
{
	uint32_t word;

	if (size < 2)
		return NULL;
	word = word_at(model->order, code, size);
	for (size_t i = 0; i < model->count; i++) {
		const struct form *form = &model->forms[i];

		if ((word & form->mask) == form->value && form->length <= size)
			return form;
	}
	return NULL;
}

static int model_decode(const struct model *model, const uint8_t *code, size_t size,
                        uint64_t address, struct isa_insn *insn)
{
	const struct form *form = find(model, code, size);

	if (!form)
		return size < LENGTH_MAX ? -EILSEQ : -ENOTSUP;
	*insn = (struct isa_insn){
	        .length = form->length,
	        .class = form->class,
	        .steppable = form->class == ISA_PLAIN,
	        .has_target = form->length == LENGTH_MAX &&
	                      (form->class == ISA_BRANCH || form->class == ISA_CALL),
	};
	if (insn->has_target)
		insn->target = model->target(word_at(model->order, code, size), address);
	return form->length;
}

static int model_branch(const struct model *model, uint64_t from, uint64_t to, uint8_t *out,
                        size_t out_size)
{
	uint32_t word = model->jump(from, to);

	if (!word)
		return -ERANGE;
	if (out_size < LENGTH_MAX)
		return -ENOSPC;
	put_word(model->order, word, out);
	return LENGTH_MAX;
}

static void model_nop(const struct model *model, uint8_t *out, size_t size)
{
	uint8_t nop[LENGTH_MAX];

	put_word(model->order, model->nop, nop);
	for (; size >= LENGTH_MAX; out += LENGTH_MAX, size -= LENGTH_MAX)
		memcpy(out, nop, LENGTH_MAX);
	if (size >= 2 && model->order == ORDER_HALVES)
		memcpy(out, (const uint8_t[]){0x00, 0xBF}, 2);
}

/* T32: does a 32-bit instruction begin here? */
static bool is_wide(const uint8_t *code)
{
	return half_at(code) >= 0xE800;
}

static bool model_hotpatch_safe(const struct model *model, const uint8_t *from, const uint8_t *to,
                                size_t size, uint64_t address)
{
	const struct form *a, *b;

	/* A word of two 16-bit instructions of which one changes. */
	if (model->order == ORDER_HALVES && size == 4 && !is_wide(from) && !is_wide(to)) {
		size_t at = memcmp(from, to, 2) == 0 ? 2 : 0;

		if (at == 0 && memcmp(from + 2, to + 2, 2) != 0)
			return false;
		return model_hotpatch_safe(model, from + at, to + at, 2, address + at);
	}
	a = find(model, from, size);
	b = find(model, to, size);
	if (!a || !b || !a->listed || !b->listed)
		return false;
	if (a->length != size || b->length != size || address % size)
		return false;
	return !model->pair_safe || model->pair_safe(word_at(model->order, from, size),
	                                             word_at(model->order, to, size), b);
}

static bool model_is_trap(const struct model *model, const uint8_t *code, size_t size)
{
	return size >= LENGTH_MAX && word_at(model->order, code, size) == model->trap;
}

static int no_relocate(const uint8_t *code, size_t size, uint64_t from, uint64_t to, uint8_t *out,
                       size_t out_size)
{
	(void)code, (void)size, (void)from, (void)to, (void)out, (void)out_size;
	return -ENOTSUP;
}

static int no_jump_far(uint64_t from, uint64_t to, uint8_t *out, size_t out_size)
{
	(void)from, (void)to, (void)out, (void)out_size;
	return -ENOTSUP;
}

/* The functions of one `struct isa`, which know their model. */
#define ISA_MODEL(id, display, unit_bytes, ...)                                                    \
	static int id##_decode(const uint8_t *code, size_t size, uint64_t address,                 \
	                       struct isa_insn *insn)                                              \
	{                                                                                          \
		return model_decode(&id, code, size, address, insn);                               \
	}                                                                                          \
	static int id##_branch(uint64_t from, uint64_t to, uint8_t *out, size_t out_size)          \
	{                                                                                          \
		return model_branch(&id, from, to, out, out_size);                                 \
	}                                                                                          \
	static void id##_nop(uint8_t *out, size_t size)                                            \
	{                                                                                          \
		model_nop(&id, out, size);                                                         \
	}                                                                                          \
	static bool id##_hotpatch_safe(const uint8_t *from, const uint8_t *to, size_t size,        \
	                               uint64_t address)                                           \
	{                                                                                          \
		return model_hotpatch_safe(&id, from, to, size, address);                          \
	}                                                                                          \
	static bool id##_is_trap(const uint8_t *code, size_t size)                                 \
	{                                                                                          \
		return model_is_trap(&id, code, size);                                             \
	}                                                                                          \
	const struct isa isa_model_##id = {                                                        \
	        .name = display,                                                                   \
	        .unit = unit_bytes,                                                                \
	        .insn_max = LENGTH_MAX,                                                            \
	        .trap_length = LENGTH_MAX,                                                         \
	        .trap = __VA_ARGS__,                                                               \
	        .branch_length = LENGTH_MAX,                                                       \
	        .decode = id##_decode,                                                             \
	        .relocate = no_relocate,                                                           \
	        .branch = id##_branch,                                                             \
	        .jump_far = no_jump_far,                                                           \
	        .nop = id##_nop,                                                                   \
	        .hotpatch_safe = id##_hotpatch_safe,                                               \
	        .is_trap = id##_is_trap,                                                           \
	}

#define FORMS(table) .forms = table, .count = sizeof(table) / sizeof(table[0])

/* ---- A64 ---- */

static uint32_t a64_jump(uint64_t from, uint64_t to)
{
	int64_t distance = (int64_t)(to - from);

	return distance % 4 || !fits(distance, 28)
	               ? 0
	               : 0x14000000 | field((uint64_t)distance, 27, 2, 0);
}

static uint64_t a64_target(uint32_t word, uint64_t address)
{
	return address + (uint64_t)sign_extend((uint64_t)word << 2, 28);
}

/*
 * Arm ARM DDI 0487, B2.2.5: the eight that every edition lists. Later ones add more, UDF among
 * them; code that relies on those is not portable to the older promise.
 */
static const struct form a64_forms[] = {
        {0xFFFFFFFF, 0xD503201F, 4, true, ISA_PLAIN},   /* nop */
        {0xFC000000, 0x14000000, 4, true, ISA_BRANCH},  /* b */
        {0xFC000000, 0x94000000, 4, true, ISA_CALL},    /* bl */
        {0xFFE0001F, 0xD4200000, 4, true, ISA_TRAP},    /* brk */
        {0xFFFFF0FF, 0xD50330DF, 4, true, ISA_PLAIN},   /* isb */
        {0xFFE0001F, 0xD4000001, 4, true, ISA_SYSCALL}, /* svc */
        {0xFFE0001F, 0xD4000002, 4, true, ISA_SYSCALL}, /* hvc */
        {0xFFE0001F, 0xD4000003, 4, true, ISA_SYSCALL}, /* smc */
        {0x7F800000, 0x11000000, 4, false, ISA_PLAIN},  /* add, immediate */
};

static const struct model a64 = {
        .order = ORDER_LITTLE,
        .trap = 0xD4200000,
        .nop = 0xD503201F,
        .jump = a64_jump,
        .target = a64_target,
        FORMS(a64_forms),
};
ISA_MODEL(a64, "A64", 4, {0x00, 0x00, 0x20, 0xD4}); /* brk #0 */

/* ---- A32 ---- */

static uint32_t a32_jump(uint64_t from, uint64_t to)
{
	int64_t distance = (int64_t)(to - (from + 8));

	return distance % 4 || !fits(distance, 26)
	               ? 0
	               : 0xEA000000 | field((uint64_t)distance, 25, 2, 0);
}

static uint64_t a32_target(uint32_t word, uint64_t address)
{
	return (uint32_t)(address + 8 + (uint64_t)sign_extend((uint64_t)word << 2, 26));
}

/*
 * Arm ARM DDI 0487, E2.6.5 (DDI 0406C, A3.5.4). `udf` is not on the list, so that our trap may
 * only be written while nobody executes the site; `bkpt` is, but user space gets it reported at a
 * wrong address. `mov r0, r0`, which compilers and kernels use as a nop, is not NOP either.
 */
static const struct form a32_forms[] = {
        {0xFFFFFFFF, 0xE320F000, 4, true, ISA_PLAIN},   /* nop */
        {0xFF000000, 0xEA000000, 4, true, ISA_BRANCH},  /* b, always */
        {0xFF000000, 0xEB000000, 4, true, ISA_CALL},    /* bl, always */
        {0xFFF000F0, 0xE1200070, 4, true, ISA_TRAP},    /* bkpt */
        {0xFF000000, 0xEF000000, 4, true, ISA_SYSCALL}, /* svc */
        {0xFFFFFFFF, 0xE7F001F0, 4, false, ISA_TRAP},   /* udf, our trap */
        {0xFFFFFFFF, 0xE1A00000, 4, false, ISA_PLAIN},  /* mov r0, r0 */
        {0xFFE00000, 0xE2800000, 4, false, ISA_PLAIN},  /* add, immediate */
};

static const struct model a32 = {
        .order = ORDER_LITTLE,
        .trap = 0xE7F001F0,
        .nop = 0xE320F000,
        .jump = a32_jump,
        .target = a32_target,
        FORMS(a32_forms),
};
ISA_MODEL(a32, "A32", 4, {0xF0, 0x01, 0xF0, 0xE7}); /* udf #16 */

/* ---- T32 ---- */

/* b.w, encoding T4: S imm10 | J1 J2 imm11, with J = not (I xor S). */
static uint32_t t32_jump(uint64_t from, uint64_t to)
{
	int64_t distance = (int64_t)(to - (from + 4));
	uint64_t d = (uint64_t)distance;
	uint32_t s = field(d, 24, 24, 0);

	if (distance % 2 || !fits(distance, 25))
		return 0;
	return 0xF0009000 | s << 26 | field(d, 21, 12, 16) | !(field(d, 23, 23, 0) ^ s) << 13 |
	       !(field(d, 22, 22, 0) ^ s) << 11 | field(d, 11, 1, 0);
}

static uint64_t t32_target(uint32_t word, uint64_t address)
{
	uint32_t s = field(word, 26, 26, 0);
	uint32_t distance = s << 24 | !(field(word, 13, 13, 0) ^ s) * (1u << 23) |
	                    !(field(word, 11, 11, 0) ^ s) * (1u << 22) | field(word, 25, 16, 12) |
	                    field(word, 10, 0, 1);

	return (uint32_t)(address + 4 + (uint64_t)sign_extend(distance, 25));
}

/* 16-bit ones among themselves; of two 32-bit ones of a kind only one halfword may differ. DDI
 * 0406C, A3.5.4 grants more: the first halfword of a bl may become a 16-bit instruction. */
static bool t32_pair_safe(uint32_t from, uint32_t to, const struct form *form)
{
	if (form->length == 2)
		return true;
	if ((from & form->mask) != form->value)
		return false;
	return from >> 16 == to >> 16 || (uint16_t)from == (uint16_t)to;
}

/* The trap is the 32-bit one: a 16-bit trap over a 32-bit instruction changes where the next one
 * begins. It needs an aligned word, and as in A32 nobody who executes it. */
static const struct form t32_forms[] = {
        {0xFFFF0000, 0xBF000000, 2, true, ISA_PLAIN},   /* nop */
        {0xF8000000, 0xE0000000, 2, true, ISA_BRANCH},  /* b */
        {0xFF000000, 0xBE000000, 2, true, ISA_TRAP},    /* bkpt */
        {0xFF000000, 0xDF000000, 2, true, ISA_SYSCALL}, /* svc */
        {0xF800D000, 0xF0009000, 4, true, ISA_BRANCH},  /* b.w, always */
        {0xF800D000, 0xF000D000, 4, true, ISA_CALL},    /* bl */
        {0xFFFFFFFF, 0xF7F0A000, 4, false, ISA_TRAP},   /* udf.w, our trap */
        {0xFFFFFFFF, 0xF3AF8000, 4, false, ISA_PLAIN},  /* nop.w */
        {0xFBE08000, 0xF1000000, 4, false, ISA_PLAIN},  /* add.w, immediate */
};

static const struct model t32 = {
        .order = ORDER_HALVES,
        .trap = 0xF7F0A000,
        .nop = 0xF3AF8000,
        .jump = t32_jump,
        .target = t32_target,
        .pair_safe = t32_pair_safe,
        FORMS(t32_forms),
};
ISA_MODEL(t32, "T32", 2, {0xF0, 0xF7, 0x00, 0xA0}); /* udf.w #0 */

/* ---- MIPS ---- */

/* `j` stays in the 256 MB of its delay slot, which is the next word: whoever patches one in
 * sees to it that a nop stands there. */
static uint32_t mips_jump(uint64_t from, uint64_t to)
{
	return to % 4 || (from + 4) >> 28 != to >> 28 ? 0 : 0x08000000 | field(to, 27, 2, 0);
}

static uint64_t mips_target(uint32_t word, uint64_t address)
{
	return ((address + 4) & ~0xFFFFFFFull) | field(word, 25, 0, 2);
}

/*
 * The MIPS manuals have no list: nothing is promised. All words are listed on the assumption that
 * an aligned word is fetched whole, which Linux makes (arch/mips/kernel jump_label.c, kprobes.c:
 * one store and a flush, nobody is stopped). Not in a delay slot.
 */
static const struct form mips_forms[] = {
        {0xFFFFFFFF, 0x00000000, 4, true, ISA_PLAIN},  /* nop */
        {0xFC000000, 0x08000000, 4, true, ISA_BRANCH}, /* j */
        {0xFC000000, 0x0C000000, 4, true, ISA_CALL},   /* jal */
        {0xFC00003F, 0x0000000D, 4, true, ISA_TRAP},   /* break */
        {0xFC000000, 0x24000000, 4, true, ISA_PLAIN},  /* addiu */
};

static const struct model mips = {
        .order = ORDER_BIG,
        .trap = 0x0000000D,
        .nop = 0x00000000,
        .jump = mips_jump,
        .target = mips_target,
        FORMS(mips_forms),
};
ISA_MODEL(mips, "MIPS32", 4, {0x00, 0x00, 0x00, 0x0D}); /* break 0 */

/* ---- RISC-V ---- */

/* jal x0: imm[20|10:1|11|19:12]. */
static uint32_t riscv_jump(uint64_t from, uint64_t to)
{
	int64_t distance = (int64_t)(to - from);
	uint64_t d = (uint64_t)distance;

	if (distance % 4 || !fits(distance, 21))
		return 0;
	return 0x0000006F | field(d, 20, 20, 31) | field(d, 10, 1, 21) | field(d, 11, 11, 20) |
	       field(d, 19, 12, 12);
}

static uint64_t riscv_target(uint32_t word, uint64_t address)
{
	uint32_t distance = field(word, 31, 31, 20) | field(word, 30, 21, 1) |
	                    field(word, 20, 20, 11) | field(word, 19, 12, 12);

	return address + (uint64_t)sign_extend(distance, 21);
}

/*
 * Zifencei says nothing of a racing fetch. All aligned words are listed because of Ziccif, which
 * profiles require from RVA20 on: an aligned fetch of up to 32 bits is atomic. Without compressed
 * instructions, hence the unit of 4.
 */
static const struct form riscv_forms[] = {
        {0xFFFFFFFF, 0x00000013, 4, true, ISA_PLAIN},  /* nop */
        {0x00000FFF, 0x0000006F, 4, true, ISA_BRANCH}, /* j */
        {0x00000FFF, 0x000000EF, 4, true, ISA_CALL},   /* jal ra */
        {0xFFFFFFFF, 0x00100073, 4, true, ISA_TRAP},   /* ebreak */
        {0x0000707F, 0x00000013, 4, true, ISA_PLAIN},  /* addi */
};

static const struct model riscv = {
        .order = ORDER_LITTLE,
        .trap = 0x00100073,
        .nop = 0x00000013,
        .jump = riscv_jump,
        .target = riscv_target,
        FORMS(riscv_forms),
};
ISA_MODEL(riscv, "RISC-V", 4, {0x73, 0x00, 0x10, 0x00}); /* ebreak */
