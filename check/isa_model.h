/* SPDX-License-Identifier: MIT */
/*
 * isa_model.h - instruction sets of modelled machines, as far as the checker needs them.
 *
 * Real encodings in real memory order, but only the few instructions that the scenarios patch
 * and are patched with. Each is replaced by the real one in src/isa as that is written; the real
 * x86-64 is in use already.
 */
#ifndef SUTURE_CHECK_ISA_MODEL_H
#define SUTURE_CHECK_ISA_MODEL_H

#include "isa/isa.h"

/*
 * `decode` knows the instructions of the tables in isa_model.c and says -ENOTSUP to all others;
 * `relocate` and `jump_far` always do. Addresses are multiples of `unit`.
 */
extern const struct isa isa_model_a64;
extern const struct isa isa_model_a32;
extern const struct isa isa_model_t32;
extern const struct isa isa_model_mips; /* big-endian; not MIPS16e, microMIPS or release 6 */
extern const struct isa isa_model_riscv;

#endif
