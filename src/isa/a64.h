/* SPDX-License-Identifier: MIT */
/*
 * a64.h - a subset of A64: branches, integer moves and arithmetic, loads, stores, barriers, cache
 * maintenance by address, exceptions and returns from them.
 *
 * Pure functions between an opcode and its fields (DDI 0487, C4.1 and the pages of C6.2). Whatever
 * is encoded is decoded to the same fields.
 */
#ifndef SUTURE_ISA_A64_H
#define SUTURE_ISA_A64_H

#include <stdbool.h>
#include <stdint.h>

enum a64_op {
	A64_UDF, /* imm: 16 bits; also what stands for every opcode that is not allocated */
	A64_NOP, /* and every other hint; imm: its number */
	A64_B,
	A64_BL,
	A64_B_IF, /* cond */
	A64_CBZ,
	A64_CBNZ,
	A64_TBZ, /* amount: which bit */
	A64_TBNZ,
	A64_BR,
	A64_BLR,
	A64_RET,
	A64_ERET,
	A64_ADR,
	A64_MOVN, /* amount: 0, 16, 32 or 48 */
	A64_MOVZ,
	A64_MOVK,
	A64_ADD, /* these four: by `form` */
	A64_ADDS,
	A64_SUB,
	A64_SUBS,
	A64_AND, /* these four too */
	A64_ORR,
	A64_EOR,
	A64_ANDS,
	A64_BIC, /* register only */
	A64_ORN,
	A64_EON,
	A64_BICS,
	A64_CSEL, /* cond */
	A64_CSINC,
	A64_CSINV,
	A64_CSNEG,
	A64_LDR, /* by `form` */
	A64_STR,
	A64_LDAR,
	A64_LDAPR,
	A64_STLR,
	A64_DMB, /* imm: the option, 0 to 15 */
	A64_DSB,
	A64_ISB,
	A64_DC_CVAU, /* rd: the address */
	A64_IC_IVAU,
	A64_IC_IALLU,
	A64_IC_IALLUIS,
	A64_MRS_ELR_EL1,
	A64_MSR_ELR_EL1,
};

enum a64_form {
	A64_IMMEDIATE, /* arithmetic: imm; memory: [rn, #imm] */
	A64_REGISTER,  /* arithmetic: rm, shifted by `amount`; memory: [rn, rm, extended] */
	A64_BEFORE,    /* [rn, #imm]! */
	A64_AFTER,     /* [rn], #imm */
};

enum a64_shift { A64_LSL, A64_LSR, A64_ASR };
enum a64_extend { A64_UXTW = 2, A64_UXTX = 3 /* LSL */, A64_SXTW = 6, A64_SXTX = 7 };

/* Register 31 is the zero register, or the stack pointer where C6.2 says so: Rn of a memory
 * access, and Rd and Rn of ADD and SUB with an immediate. */
enum { A64_ZR = 31 };

struct a64_insn {
	enum a64_op op;
	enum a64_form form;
	bool wide;        /* 64-bit registers */
	uint8_t rd;       /* destination, or what is stored or tested */
	uint8_t rn, rm;   /* sources; rn is a branch's or an access's address */
	uint8_t cond;     /* 0 to 15, as C1.2.4 numbers them */
	uint8_t modifier; /* A64_REGISTER: enum a64_shift, or enum a64_extend in an access */
	uint8_t amount;
	int64_t imm; /* distances in bytes, immediates as they are meant */
};

/* Returns 0 and the opcode, or -EINVAL: no opcode says this (a distance that does not reach, an
 * immediate that has no encoding, a register number above 31). */
int a64_encode(const struct a64_insn *insn, uint32_t *opcode);

/* False for an opcode that is not in the subset; UDF is. */
bool a64_decode(uint32_t opcode, struct a64_insn *insn);

#endif
