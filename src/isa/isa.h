/* SPDX-License-Identifier: MIT */
/*
 * isa.h - what code is: one `struct isa` per instruction set.
 *
 * Pure functions on bytes. Nothing here reads the machine that we run on, allocates, or
 * includes anything else of ours; every instruction set is built on every host. Addresses
 * are numbers: `address` is where the bytes are (or will be) executed, which need not be
 * where the caller holds them.
 */
#ifndef SUTURE_ISA_H
#define SUTURE_ISA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What the trap path calls: it must not be patched itself. */
#define ISA_NOINSTR __attribute__((section("suture_noinstr")))

/* Longest instruction of any instruction set that we know (x86: 15, SDM vol. 2, 2.3.11). */
#define ISA_INSN_MAX 16
/* Longest displaced copy of one instruction that `relocate` may produce. */
#define ISA_DISPLACED_MAX 64

/* What an instruction does to the flow of control, and so what a displaced copy needs. */
enum isa_class {
	ISA_PLAIN,         /* falls through; does not read the program counter */
	ISA_PC_RELATIVE,   /* falls through; has an operand relative to the program counter */
	ISA_BRANCH,        /* direct jump, always taken */
	ISA_BRANCH_IF,     /* direct jump, conditional (jcc, loop, jrcxz) */
	ISA_CALL,          /* direct call */
	ISA_CALL_INDIRECT, /* call through a register or memory */
	ISA_JUMP_INDIRECT, /* jump through a register or memory */
	ISA_RETURN,
	ISA_LANDING, /* marks a legal target of indirect branches (endbr64) */
	ISA_SYSCALL, /* enters the kernel and may block there */
	ISA_TRAP,    /* raises an exception by design: int3, ud2, hlt, int n */
	ISA_PINNED,  /* must execute where it stands: xbegin, far transfers, iret, ... */
};

struct isa_insn {
	uint8_t length; /* bytes */
	enum isa_class class;
	/* May be executed under a single-step trap, as a kernel uprobe does it: false for what
	 * shows the trap flag to the program (pushf), clears it (popf), or returns elsewhere. */
	bool steppable;
	bool has_target; /* `target` is meaningful */
	/*
	 * Destination of a direct branch or call; else the PC-relative operand's address, which
	 * for an indirect branch or call is where its destination is kept.
	 */
	uint64_t target;
};

/*
 * An instruction set. All functions return a length in bytes or 0 on success, and a negative
 * errno otherwise:
 *   -EILSEQ   the bytes are no instruction, or are cut short by `size`
 *   -ENOTSUP  legal, but must not be displaced (ISA_SYSCALL, ISA_TRAP, ISA_PINNED, an operand
 *             that the displaced form would change); the caller picks another way
 *   -ERANGE   a branch or PC-relative operand does not reach from the new address
 *   -ENOSPC   `size` of the output is too small
 */
struct isa {
	const char *name;
	uint8_t unit;            /* instruction alignment, bytes (x86: 1) */
	uint8_t insn_max;        /* longest instruction, bytes */
	uint8_t trap_length;     /* bytes */
	uint8_t trap[4];         /* the trap instruction, in memory order */
	uint8_t branch_length;   /* of `branch`, bytes */
	uint8_t jump_far_length; /* of `jump_far`, bytes */

	/* Decode one instruction; returns its length. */
	int (*decode)(const uint8_t *code, size_t size, uint64_t address, struct isa_insn *insn);

	/* Text of one instruction for people, at most `out_size` - 1 characters; its length in
	 * bytes. */
	int (*format)(const uint8_t *code, size_t size, uint64_t address, char *out,
	              size_t out_size);

	/*
	 * Write to `out` a copy of the single instruction at `from` that has the same effect
	 * when executed at `to`, falls through to the byte after the copy where the original
	 * fell through, and returns the copy's length. A displaced call pushes the *original*
	 * return address, so that unwinders and return predictors' owners see no trampoline.
	 * Keeps every register and all flags that the original keeps.
	 */
	int (*relocate)(const uint8_t *code, size_t size, uint64_t from, uint64_t to, uint8_t *out,
	                size_t out_size);

	/* Direct jump at `from` to `to` (x86: E9 rel32). Returns branch_length or -ERANGE. */
	int (*branch)(uint64_t from, uint64_t to, uint8_t *out, size_t out_size);
	/* Direct call, as long as a branch (x86: E8 rel32). Returns branch_length or -ERANGE. */
	int (*call)(uint64_t from, uint64_t to, uint8_t *out, size_t out_size);
	/* Jump to any address that keeps all registers and flags (x86: FF 25 + address). */
	int (*jump_far)(uint64_t from, uint64_t to, uint8_t *out, size_t out_size);
	/* Fill `size` bytes with the longest recommended no-operations. */
	void (*nop)(uint8_t *out, size_t size);

	/*
	 * May `from` be replaced by `to` (each `size` bytes, the whole sequence) at `address`
	 * with one store while other cores execute it? False for more than one instruction.
	 */
	bool (*hotpatch_safe)(const uint8_t *from, const uint8_t *to, size_t size,
	                      uint64_t address);
	/* Is the first instruction one that always traps, and to which our trap path would be
	 * called? */
	bool (*is_trap)(const uint8_t *code, size_t size);
	/* Does the first instruction certainly leave floating-point and vector registers alone? */
	bool (*general_only)(const uint8_t *code, size_t size);
};

extern const struct isa isa_x86_64;
extern const struct isa isa_a64;

#endif
