/* SPDX-License-Identifier: MIT */
/*
 * isa_fuzz.c - the properties of x86-64 decode, relocate and encoding (isa_properties.h) on random
 * bytes of every size from 0 to 15.
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

#include "fuzz/isa_properties.h"
#include "isa/isa.h"
#include "tap.h"

enum { ROUNDS = 1500000, ROUNDS_TORTURE = 50000000, SIZES = 16 };

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

/* Half of the copies near, half anywhere; those at both ends of the address space included. */
static const char *check(const uint8_t *code, size_t size, uint8_t *out_end)
{
	size_t room = next_random() % (ISA_DISPLACED_MAX + 1);
	struct question q = {.code = code, .size = size, .out = out_end - room, .room = room};
	uint8_t other[SIZES];
	const char *broken;

	q.from = next_random() >> next_random() % 64;
	q.to = next_random() & 1 ? q.from + 0x10000 : next_random() >> next_random() % 64;
	broken = isa_broken(&q);
	if (broken || !size)
		return broken;
	memcpy(other, code, size);
	other[next_random() % size] ^= (uint8_t)next_random();
	return hotpatch_broken(&q, other);
}

int main(void)
{
	const char *given = getenv("SEED");
	uint64_t seed = given ? strtoull(given, NULL, 0) : 0x5375747572653836;
	uint8_t *code_end = edge(), *out_end = edge(), code[SIZES];
	unsigned long legal = 0, wrong = 0;
	unsigned rounds = getenv("SUTURE_TORTURE") ? ROUNDS_TORTURE : ROUNDS;
	struct isa_insn insn;

	state = seed;
	note("SEED=%#" PRIx64, seed);
	for (unsigned i = 0; i < rounds && wrong < 10; i++) {
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
		legal += isa_x86_64.decode(code_end - size, size, 0, &insn) > 0;
	}
	note("%u strings, %lu of them instructions", rounds, legal);
	ok(wrong == 0, "all properties hold and nothing outside the buffers is touched");
	return done();
}
