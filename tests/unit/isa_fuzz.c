/* SPDX-License-Identifier: MIT */
/*
 * isa_fuzz.c - x86-64 decode and relocate on random bytes of every size from 0 to 15.
 *
 * The bytes end where a page ends that is followed by one without access, so reading past
 * `size` kills the test. The output buffer ends in the same way.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "isa/isa.h"
#include "tap.h"

enum { ROUNDS = 5000000, SIZES = 16 };

static uint64_t state;

static uint64_t next_random(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

/* The end of a page whose successor cannot be touched. */
static uint8_t *edge(void)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	uint8_t *pages =
	        mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (pages == MAP_FAILED || mprotect(pages + page, page, PROT_NONE))
		exit(1);
	return pages + page;
}

/* Prefixes and escapes first, or random bytes would hardly ever reach the longer maps. */
static void random_code(uint8_t code[SIZES])
{
	static const uint8_t first[] = {0x66, 0x67, 0xF2, 0xF3, 0x48, 0x4D, 0x0F, 0x0F,
	                                0xC4, 0xC5, 0x62, 0xFF, 0xE8, 0xE9, 0x2E, 0x3E};
	uint64_t low = next_random(), high = next_random(), choice = next_random();

	memcpy(code, &low, 8);
	memcpy(code + 8, &high, 8);
	for (unsigned i = 0; i < (choice & 3); i++)
		code[i] = first[(choice >> (8 + 4 * i)) % sizeof(first)];
}

static bool is_error(int result)
{
	return result == -EILSEQ || result == -ENOTSUP || result == -ERANGE || result == -ENOSPC;
}

/* What must hold for every input; NULL or what does not. */
static const char *check(const uint8_t *code, size_t size, uint8_t *out_end)
{
	uint64_t from = next_random(), to = next_random() & 1 ? from + 0x10000 : next_random();
	size_t room = next_random() % (ISA_DISPLACED_MAX + 1);
	uint8_t full[ISA_DISPLACED_MAX];
	struct isa_insn insn;
	int length = isa_x86_64.decode(code, size, from, &insn);
	int copy = isa_x86_64.relocate(code, size, from, to, full, sizeof(full));
	int small = isa_x86_64.relocate(code, size, from, to, out_end - room, room);

	if (length < 0)
		return length != -EILSEQ || copy != -EILSEQ ? "decode's error" : NULL;
	if (length == 0 || (size_t)length > size || length != insn.length)
		return "length";
	if (insn.class >= ISA_SYSCALL)
		return copy != -ENOTSUP ? "moved although pinned" : NULL;
	if (copy < 0)
		return !is_error(copy) || copy == -EILSEQ || small != copy ? "error" : NULL;
	if (copy == 0 || copy > ISA_DISPLACED_MAX)
		return "length of the copy";
	if ((size_t)copy > room)
		return small != -ENOSPC ? "output too small" : NULL;
	return small != copy || memcmp(full, out_end - room, copy) ? "repeatable" : NULL;
}

/* The copy is a sequence of whole instructions (an address may follow FF 25 00000000). */
static bool copy_decodes(const uint8_t *code, size_t size)
{
	static const uint8_t far[6] = {0xFF, 0x25};
	uint8_t out[ISA_DISPLACED_MAX];
	uint64_t from = 0x7f0000001000;
	uint64_t to = next_random() & 1 ? from + 0x10000 : 0x400000;
	int length = isa_x86_64.relocate(code, size, from, to, out, sizeof(out)), at = 0;
	struct isa_insn insn;

	while (at < length) {
		int step = isa_x86_64.decode(out + at, length - at, to + at, &insn);

		if (step < 0)
			return false;
		if (length - at >= isa_x86_64.jump_far_length && !memcmp(out + at, far, 6))
			step = isa_x86_64.jump_far_length;
		else if (step == 7 && length - at >= 15 && !memcmp(out + at + 1, far, 6))
			step = 15; /* the same with a BND prefix */
		at += step;
	}
	return length < 0 || at == length;
}

int main(void)
{
	const char *given = getenv("SEED");
	uint64_t seed = given ? strtoull(given, NULL, 0) : 0x5375747572653836;
	uint8_t *code_end = edge(), *out_end = edge(), code[SIZES];
	unsigned long legal = 0, wrong = 0, broken = 0;
	struct isa_insn insn;

	state = seed;
	note("SEED=%#" PRIx64, seed);
	for (unsigned i = 0; i < ROUNDS && wrong + broken < 10; i++) {
		size_t size = i % SIZES;
		const char *complaint;

		random_code(code);
		memcpy(code_end - size, code, size);
		complaint = check(code_end - size, size, out_end);
		if (complaint) {
			wrong++;
			note("%s: size %zu, bytes %02x %02x %02x %02x %02x %02x %02x", complaint,
			     size, code[0], code[1], code[2], code[3], code[4], code[5], code[6]);
		}
		if (!copy_decodes(code_end - size, size)) {
			broken++;
			note("copy of %02x %02x %02x %02x %02x %02x %02x", code[0], code[1],
			     code[2], code[3], code[4], code[5], code[6]);
		}
		legal += isa_x86_64.decode(code_end - size, size, 0, &insn) > 0;
	}
	note("%d strings, %lu of them instructions", ROUNDS, legal);
	ok(wrong == 0, "results are consistent and nothing outside the buffers is touched");
	ok(broken == 0, "copies consist of whole instructions");
	return done();
}
