/* SPDX-License-Identifier: MIT */
/* site_x86.c - which bytes turn a site into a jump, and where that jump can lead. */
#include <errno.h>
#include <string.h>
#include "tramp/tramp.h"

enum { JUMP = 0xe9, CALL = 0xe8, PAGE_MASK = TRAMP_PAGE - 1, PAIRS_MAX = 64 };

/*
 * Prefixes without effect on a near jump in 64-bit mode: segment overrides and REX (SDM vol. 2,
 * 2.1.1, 2.2.1; 66 and F2, F3 are left out, whose meaning differs between vendors or is reserved).
 * As the highest byte of a displacement they reach 0.6 to 1.7 GB upward.
 */
static const uint8_t prefixes[] = {0x26, 0x2e, 0x36, 0x3e, 0x40, 0x41, 0x42, 0x43,
                                   0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x4b,
                                   0x4c, 0x4d, 0x4e, 0x4f, 0x64, 0x65};

static int32_t displacement(const uint8_t *bytes)
{
	int32_t value;

	memcpy(&value, bytes, sizeof(value));
	return value;
}

static bool is_idle_prefix(uint8_t byte)
{
	return memchr(prefixes, byte, sizeof(prefixes)) != NULL;
}

int tramp_pun_x86(struct tramp_space *space, const uint8_t *code, size_t size, uint64_t site,
                  struct tramp_pun *pun)
{
	int rc = -ENOSPC;

	for (uint8_t jump = 0; jump < 2; jump++) {
		uint8_t length = jump + TRAMP_JUMP;

		if (length > size || (jump && !is_idle_prefix(code[0])))
			break;
		*pun = (struct tramp_pun){jump, length,
		                          site + length +
		                                  (uint64_t)(int64_t)displacement(code + jump + 1)};
		rc = tramp_reserve(space, pun->trampoline, TRAMP_JUMP);
		if (!rc)
			break;
	}
	return rc;
}

size_t tramp_pun_displaced_x86(const uint8_t *code, size_t size, uint64_t site, size_t length,
                               size_t first)
{
	uint8_t copy[ISA_DISPLACED_MAX];
	size_t at = 0;

	while (at < length && at < size) {
		uint64_t from = site + at;
		struct isa_insn insn;
		int n = isa_x86_64.decode(code + at, size - at, from, &insn);

		if (n < 0 || isa_x86_64.relocate(code + at, (size_t)n, from, from + TRAMP_PAGE,
		                                 copy, sizeof(copy)) < 0)
			break;
		at += (size_t)n;
		if (insn.class == ISA_BRANCH || insn.class == ISA_JUMP_INDIRECT ||
		    insn.class == ISA_RETURN || insn.class == ISA_CALL ||
		    insn.class == ISA_CALL_INDIRECT)
			break; /* what follows is reached in another way */
	}
	return at > first ? at : first;
}

/* Bytes of whole instructions that cover `length`; -ENOTSUP if they can not be displaced. */
static int covered(const uint8_t *code, size_t size, uint64_t site, size_t length)
{
	size_t at = 0;

	while (at < length) {
		struct isa_insn insn;
		int n = at < size ? isa_x86_64.decode(code + at, size - at, site + at, &insn) : -1;
		bool last;

		if (n < 0 || insn.class == ISA_SYSCALL || insn.class == ISA_TRAP ||
		    insn.class == ISA_PINNED)
			return -ENOTSUP;
		last = at + (size_t)n >= length;
		/* A return address inside the window would be one more way in; what follows an
		 * unconditional jump is another block's. */
		if (!last && (insn.class == ISA_CALL || insn.class == ISA_CALL_INDIRECT ||
		              insn.class == ISA_BRANCH || insn.class == ISA_JUMP_INDIRECT ||
		              insn.class == ISA_RETURN))
			return -ENOTSUP;
		at += (size_t)n;
	}
	return (int)at;
}

static void put_displacement(struct tramp_window *w, uint64_t site, unsigned jump_at)
{
	uint32_t d = (uint32_t)(w->continuation - (site + w->length));

	memcpy(w->patched + jump_at + 1, &d, sizeof(d));
}

/*
 * Choose the second jump's displacement d0 … d3. Its low `shared` bytes are also the high bytes
 * of the first one's, which begins with `fixed` bytes that can not be chosen.
 */
static int choose(struct tramp_space *space, uint64_t site, struct tramp_window *w, unsigned fixed,
                  unsigned shared, unsigned jump_at)
{
	uint64_t unit = 1ull << 8 * fixed, low_values = 1ull << 8 * shared;
	int64_t half = shared ? (int64_t)(low_values / 2) : 0;
	uint32_t low = 0;

	memcpy(&low, w->patched + 1, fixed);
	for (unsigned skip = 0; skip < PAIRS_MAX; skip++) {
		struct tramp_choice first = {site + 5 + low, unit, -half, shared ? half - 1 : 0};
		struct tramp_choice second;
		int64_t k, m;
		int rc;

		if (!shared) /* all four bytes are fixed, the sign included */
			first.base = site + 5 + (uint64_t)(int64_t)(int32_t)low;
		rc = tramp_reserve_choice(space, &first, TRAMP_JUMP, skip, &k);
		if (rc)
			return rc;
		w->trampoline = first.base + (uint64_t)(k * (int64_t)unit);
		if (!shared) { /* free to lead anywhere */
			rc = tramp_reserve_near(space, site, TRAMP_JUMP, &w->continuation);
			if (rc)
				tramp_release(space, w->trampoline, TRAMP_JUMP);
			else
				put_displacement(w, site, jump_at);
			return rc;
		}
		second = (struct tramp_choice){
		        .base = site + w->length + ((uint64_t)k & (low_values - 1)),
		        .step = low_values,
		        .low = -(int64_t)(0x80000000ull / low_values),
		        .high = (int64_t)(0x80000000ull / low_values) - 1,
		};
		rc = tramp_reserve_choice(space, &second, TRAMP_JUMP, 0, &m);
		if (rc == 0) {
			w->continuation = second.base + (uint64_t)(m * (int64_t)low_values);
			put_displacement(w, site, jump_at);
			return 0;
		}
		tramp_release(space, w->trampoline, TRAMP_JUMP);
	}
	return -ENOSPC;
}

static int try_window(struct tramp_space *space, const uint8_t *code, size_t size, uint64_t site,
                      struct tramp_window *w, int prefix)
{
	unsigned jump_at = w->first + (prefix >= 0);
	unsigned fixed = jump_at < 4 ? jump_at : 4; /* of the first displacement's bytes */
	int rc;

	w->length = (uint8_t)(jump_at + 5);
	if (w->length > size || (site & PAGE_MASK) + w->length > TRAMP_PAGE)
		return -ENOTSUP;
	rc = covered(code, size, site, w->length);
	if (rc < 0)
		return rc;
	w->displaced = (uint8_t)rc;
	memcpy(w->patched, code, w->first);
	w->patched[0] = JUMP;
	if (prefix >= 0)
		w->patched[w->first] = (uint8_t)prefix;
	w->patched[jump_at] = JUMP;
	return choose(space, site, w, fixed, 4 - fixed, jump_at);
}

/* E8 or E9 rel32, no prefix: the same instruction with another displacement. */
static int retarget(struct tramp_space *space, const uint8_t *code, uint64_t site, uint64_t target,
                    struct tramp_window *w)
{
	uint32_t d;
	int rc;

	if ((site & PAGE_MASK) + TRAMP_JUMP > TRAMP_PAGE)
		return -ENOTSUP;
	rc = tramp_reserve_near(space, site, TRAMP_JUMP, &w->trampoline);
	if (rc)
		return rc;
	d = (uint32_t)(w->trampoline - (site + TRAMP_JUMP));
	w->length = w->first = w->displaced = TRAMP_JUMP;
	w->target = target;
	w->patched[0] = code[0];
	memcpy(w->patched + 1, &d, sizeof(d));
	return 0;
}

int tramp_window_x86(struct tramp_space *space, const uint8_t *code, size_t size, uint64_t site,
                     struct tramp_window *w)
{
	struct isa_insn insn;
	int n = isa_x86_64.decode(code, size, site, &insn), rc;

	*w = (struct tramp_window){0};
	if (n == TRAMP_JUMP && (code[0] == JUMP || code[0] == CALL))
		return retarget(space, code, site, insn.target, w);
	/* Five bytes and more: no second boundary to build on, and a tail that is not the file's
	 * would not survive a uprobe that comes and goes. */
	if (n < 1 || n > 4)
		return -ENOTSUP;
	w->first = (uint8_t)n;
	rc = try_window(space, code, size, site, w, -1);
	for (size_t i = 0; rc == -ENOSPC && n == 4 && i < sizeof(prefixes); i++) {
		rc = try_window(space, code, size, site, w, prefixes[i]);
		if (rc == -ENOTSUP)
			return -ENOSPC; /* a byte more is too much: the shorter form found no place
			                 */
	}
	return rc == -EEXIST ? -ENOSPC : rc;
}

void tramp_window_release(struct tramp_space *space, const struct tramp_window *w)
{
	tramp_release(space, w->trampoline, TRAMP_JUMP);
	if (w->continuation)
		tramp_release(space, w->continuation, TRAMP_JUMP);
}
