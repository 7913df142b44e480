/* SPDX-License-Identifier: MIT */
/*
 * trapped_x86.c - a jump of five bytes that traps wherever an old instruction began.
 *
 * Not where the flow ends before the fifth byte, unless the rest is padding: what follows belongs
 * to another block or function. Not over a LOCK prefix, which code is known to jump behind.
 */
#include <errno.h>
#include <string.h>
#include "tramp/tramp.h"

enum { JUMP = 0xe9, LOCK = 0xf0, FUNCTION_ALIGN = 16, MIXES_MAX = 512 };

static bool ends_flow(enum isa_class class)
{
	return class == ISA_BRANCH || class == ISA_JUMP_INDIRECT || class == ISA_RETURN;
}

/* Filler up to and beyond the jump's end, with no place where a function may begin. */
static bool is_padding(const uint8_t *code, size_t size, uint64_t site, size_t at)
{
	static const uint8_t trap = 0xcc;

	while (at < TRAMP_JUMP) {
		struct isa_insn insn;
		uint8_t nop[ISA_INSN_MAX];
		int n = isa_x86_64.decode(code + at, size - at, site + at, &insn);

		if (n < 1 || (site + at) % FUNCTION_ALIGN == 0)
			return false;
		isa_x86_64.nop(nop, (size_t)n);
		if (code[at] != trap && memcmp(code + at, nop, (size_t)n) != 0 &&
		    !(n > 5 && code[at] == 0x66)) /* nops of assemblers: 66 66 2e 0f 1f 84 … */
			return false;
		for (int i = 1; i < n; i++)
			if ((site + at + (unsigned)i) % FUNCTION_ALIGN == 0)
				return false;
		at += (size_t)n;
	}
	return true;
}

/* Whole instructions that cover the jump; their boundaries. */
static int cover(const uint8_t *code, size_t size, uint64_t site, struct tramp_trapped *w)
{
	size_t at = 0;

	while (at < TRAMP_JUMP) {
		struct isa_insn insn;
		int n = at < size ? isa_x86_64.decode(code + at, size - at, site + at, &insn) : -1;

		if (n < 0 || insn.class == ISA_SYSCALL || insn.class == ISA_TRAP ||
		    insn.class == ISA_PINNED || code[at] == LOCK)
			return -ENOTSUP;
		w->boundaries |= (uint16_t)(1u << at);
		at += (size_t)n;
		if (at < TRAMP_JUMP && ends_flow(insn.class)) {
			if (!is_padding(code, size, site, at))
				return -ENOTSUP;
			break;
		}
		/* Each return from it would trap. */
		if (at < TRAMP_JUMP && (insn.class == ISA_CALL || insn.class == ISA_CALL_INDIRECT))
			return -ENOTSUP;
	}
	w->displaced = (uint8_t)at;
	return 0;
}

/* The displacement's given bytes: the traps that the digits of `mix` name. */
static void given_bytes(const struct tramp_trapped *w, const uint8_t *traps, size_t trap_count,
                        unsigned mix, uint32_t *mask, uint32_t *value)
{
	*mask = *value = 0;
	for (unsigned k = 1; k < TRAMP_JUMP; k++) {
		if (!(w->boundaries >> k & 1))
			continue;
		*mask |= 0xffu << 8 * (k - 1);
		*value |= (uint32_t)traps[mix % trap_count] << 8 * (k - 1);
		mix /= (unsigned)trap_count;
	}
}

/* Different ways to fill the boundaries. */
static unsigned mixes(const struct tramp_trapped *w, size_t trap_count)
{
	unsigned count = 1;

	for (unsigned k = 1; k < TRAMP_JUMP; k++)
		if (w->boundaries >> k & 1)
			count *= (unsigned)trap_count;
	return count < MIXES_MAX ? count : MIXES_MAX;
}

int tramp_trapped_x86(struct tramp_space *space, const uint8_t *code, size_t size, uint64_t site,
                      const uint8_t *traps, size_t trap_count, struct tramp_trapped *w)
{
	uint64_t next = site + TRAMP_JUMP;
	uint32_t mask = 0, value, d;
	int rc;

	*w = (struct tramp_trapped){0};
	if (size < TRAMP_JUMP)
		return -ENOTSUP;
	rc = cover(code, size, site, w);
	if (rc)
		return rc;
	given_bytes(w, traps, trap_count, 0, &mask, &value);
	rc = mask ? -ENOSPC : tramp_reserve_near(space, site, TRAMP_JUMP, &w->trampoline);
	for (unsigned mix = 0; mask && rc == -ENOSPC && mix < mixes(w, trap_count); mix++) {
		given_bytes(w, traps, trap_count, mix, &mask, &value);
		rc = tramp_reserve_pattern(space, next, mask, value, TRAMP_JUMP, &w->trampoline);
	}
	if (rc)
		return rc;
	d = (uint32_t)(w->trampoline - next);
	w->patched[0] = JUMP;
	memcpy(w->patched + 1, &d, sizeof(d));
	return 0;
}
