/* SPDX-License-Identifier: MIT */
/*
 * main.c - a fuzzer's target as a plain program.
 *
 *     target FILE...               each file is an input
 *     target < FILE                so is standard input
 *     target --random COUNT SEED   inputs of up to 512 bytes, made up by chance; says what they
 * reached
 *
 * Ends by abort() at the first input for which a property does not hold. With --random the input
 * is then in a file of its own, whose name is printed.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "fuzz.h"

enum { INPUT_MAX = 1 << 20, RANDOM_MAX = 512 };

static uint8_t data[INPUT_MAX];
static size_t data_size;

static int run_stream(FILE *stream, const char *name)
{
	data_size = fread(data, 1, sizeof(data), stream);
	if (ferror(stream)) {
		fprintf(stderr, "%s: %s\n", name, strerror(errno));
		return 1;
	}
	/* A copy of its own, so that a sanitizer sees reads beyond its end. */
	uint8_t *copy = malloc(data_size + 1);

	if (!copy)
		return 1;
	memcpy(copy, data, data_size);
	LLVMFuzzerTestOneInput(copy, data_size);
	free(copy);
	return 0;
}

static int run_file(const char *name)
{
	FILE *stream = fopen(name, "rb");
	int rc;

	if (!stream) {
		fprintf(stderr, "%s: %s\n", name, strerror(errno));
		return 1;
	}
	rc = run_stream(stream, name);
	fclose(stream);
	return rc;
}

static void keep_input(int number)
{
	char name[] = "/tmp/suture-fuzz-XXXXXX";
	int file = mkstemp(name);

	if (file >= 0 && write(file, data, data_size) == (ssize_t)data_size)
		fprintf(stderr, "fuzz: the input is in %s\n", name);
	signal(number, SIG_DFL);
	raise(number);
}

static int run_random(unsigned long count, uint64_t seed)
{
	uint64_t state = seed * 2 + 1;

	signal(SIGABRT, keep_input);
	signal(SIGSEGV, keep_input);
	for (unsigned long i = 0; i < count; i++) {
		for (size_t k = 0; k < RANDOM_MAX; k++) {
			state = state * 6364136223846793005u + 1442695040888963407u;
			data[k] = (uint8_t)(state >> 56);
		}
		data_size = (size_t)(state >> 40) % (RANDOM_MAX + 1);
		LLVMFuzzerTestOneInput(data, data_size);
	}
	fuzz_summary();
	return 0;
}

int main(int argc, char **argv)
{
	int rc = 0;

	if (argc == 4 && strcmp(argv[1], "--random") == 0)
		return run_random(strtoul(argv[2], NULL, 0), strtoull(argv[3], NULL, 0));
	if (argc == 1)
		return run_stream(stdin, "standard input");
	for (int i = 1; i < argc; i++)
		rc |= run_file(argv[i]);
	return rc;
}
