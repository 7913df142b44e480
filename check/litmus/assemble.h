/* SPDX-License-Identifier: MIT */
/* assemble.h - one instruction as text to its opcode. */
#ifndef SUTURE_LITMUS_ASSEMBLE_H
#define SUTURE_LITMUS_ASSEMBLE_H

#include "check/litmus/lexer.h"

struct assemble_labels {
	/* Address of a label; false: there is none. `arg` is passed on. */
	bool (*find)(const void *arg, const char *name, uint64_t *address);
	const void *arg;
	uint64_t here; /* address of the instruction */
};

/*
 * The instruction that begins at the current word; stands behind it afterwards. `labels` may be
 * NULL: branches then name distances only. False after a complaint.
 */
bool assemble(struct lexer *lexer, const struct assemble_labels *labels, uint32_t *opcode);

/* "X0" to "X30", "W0" to "W30", XZR, WZR; false if the word is none, without a complaint. */
bool assemble_register(struct lexer *lexer, uint8_t *number, bool *wide);

extern const char *const assemble_conditions[16];
/* Of DMB and DSB; NULL: none that is known. */
extern const char *const assemble_options[16];

#endif
