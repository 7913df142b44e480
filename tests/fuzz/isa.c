/* SPDX-License-Identifier: MIT */
/*
 * isa.c - fuzzes the x86-64 instruction layer: decode, relocate and what we encode ourselves.
 *
 * Input: room for the copy (1 byte), how far it goes (1), address (8), distance or address of the
 * copy (8), what another version of the code differs in (2), the code.
 */
#include "fuzz.h"
#include "isa_properties.h"

enum { CODE_MAX = 32 };

static unsigned long instructions, moved;

void fuzz_summary(void)
{
	printf("instructions %lu\nmoved %lu\n", instructions, moved);
}

static void count(const struct question *q)
{
	uint8_t copy[ISA_DISPLACED_MAX];
	struct isa_insn insn;

	instructions += isa_x86_64.decode(q->code, q->size, q->from, &insn) > 0;
	moved += isa_x86_64.relocate(q->code, q->size, q->from, q->to, copy, sizeof(copy)) > 0;
}

static void check(const struct question *q, const char *broken)
{
	if (!broken)
		return;
	for (size_t k = 0; k < q->size; k++)
		fprintf(stderr, "%02x%c", q->code[k], k + 1 < q->size ? ' ' : '\n');
	fuzz_fail("at %#llx, to %#llx: %s", (unsigned long long)q->from, (unsigned long long)q->to,
	          broken);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, data + size};
	struct question q = {.room = fuzz_byte(&input) % (ISA_DISPLACED_MAX + 1)};
	bool near = fuzz_byte(&input) & 1;
	uint8_t *code, *other, place, value;

	q.from = fuzz_number(&input, 8);
	q.to = fuzz_number(&input, 8);
	if (near)
		q.to = q.from + (uint64_t)(int64_t)(int32_t)q.to;
	place = fuzz_byte(&input);
	value = fuzz_byte(&input);
	q.size = (size_t)(input.end - input.at);
	q.size = q.size < CODE_MAX ? q.size : CODE_MAX;
	/* Of their own, so that a sanitizer sees what is touched beyond. */
	code = malloc(q.size + !q.size);
	other = malloc(q.size + !q.size);
	q.out = malloc(q.room + !q.room);
	if (!code || !other || !q.out)
		abort();
	memcpy(code, input.at, q.size);
	memcpy(other, input.at, q.size);
	q.code = code;
	count(&q);
	check(&q, isa_broken(&q));
	check(&q, hotpatch_broken(&q, other));
	if (q.size) {
		other[place % q.size] = value;
		check(&q, hotpatch_broken(&q, other));
		other[(place >> 4) % q.size] ^= place;
		check(&q, hotpatch_broken(&q, other));
	}
	free(code);
	free(other);
	free(q.out);
	return 0;
}
