/* SPDX-License-Identifier: MIT */
/*
 * fuzz.h - what a fuzzer's target and its driver agree on.
 *
 * A target is one file that defines LLVMFuzzerTestOneInput. It is built twice: with main.c it is
 * a plain program (inputs from files, from standard input, or made up by chance), with clang's
 * libFuzzer it looks for inputs by itself (`make fuzz`).
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* Returns 0; aborts if a property does not hold. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Prints what the inputs have reached so far. */
void fuzz_summary(void);

/* Whatever the input holds; zeros behind its end. */
struct fuzz_input {
	const uint8_t *at, *end;
};

static inline uint8_t fuzz_byte(struct fuzz_input *input)
{
	return input->at < input->end ? *input->at++ : 0;
}

static inline uint64_t fuzz_number(struct fuzz_input *input, unsigned bytes)
{
	uint64_t value = 0;

	while (bytes--)
		value = value << 8 | fuzz_byte(input);
	return value;
}

#define fuzz_fail(...) (fprintf(stderr, "fuzz: " __VA_ARGS__), fputc('\n', stderr), abort())

#endif
