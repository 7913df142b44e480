// SPDX-License-Identifier: MIT
//
// throwing - exceptions in flight through functions that are counted.
//
// usage: throwing THREADS
//
// Obeys `run N` and `quit` as victim.h says. In each round every thread calls throw_here,
// throw_through, throw_calls_first and throw_deep 8, 8, 8 and 72 times.
//
#include <cstdint>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#define VICTIM extern "C" __attribute__((noinline, used))

struct Guard {
	unsigned &passed;
	~Guard()
	{
		passed++;
	}
};

VICTIM void throw_here(uint64_t x)
{
	throw std::runtime_error(std::to_string(x));
}

VICTIM uint64_t throw_through(uint64_t x, unsigned &passed)
{
	Guard guard{passed};

	throw_here(x + 1);
	return x;
}

extern "C" void throw_for_first(uint64_t x)
{
	throw_here(x);
}

// A call within its first bytes: what unwinds must find its way back from a call that was moved.
extern "C" void throw_calls_first(uint64_t x);
__asm__(".text\n.p2align 4\n.globl throw_calls_first\n.type throw_calls_first,@function\n"
        "throw_calls_first:\n.cfi_startproc\n	push %rbx\n	.cfi_adjust_cfa_offset 8\n"
        "	.cfi_rel_offset %rbx, 0\n	call throw_for_first\n	pop %rbx\n"
        "	.cfi_adjust_cfa_offset -8\n	ret\n.cfi_endproc\n"
        ".size throw_calls_first,.-throw_calls_first\n");

VICTIM uint64_t throw_deep(unsigned n, uint64_t x, unsigned &passed)
{
	Guard guard{passed};

	try {
		if (n)
			return throw_deep(n - 1, x, passed) + 1;
		throw std::string("deep");
	} catch (int) { // looked at on the way, not taken
		return 0;
	}
}

static unsigned one(uint64_t x)
{
	unsigned wrong = 0, passed = 0;

	try {
		throw_through(x, passed);
		wrong++;
	} catch (const std::exception &error) {
		wrong += error.what() != std::to_string(x + 1);
	}
	wrong += passed != 1;
	try {
		throw_calls_first(x);
		wrong++;
	} catch (const std::runtime_error &error) {
		wrong += error.what() != std::to_string(x);
	}
	passed = 0;
	try {
		throw_deep(8, x, passed);
		wrong++;
	} catch (const std::string &what) {
		wrong += what != "deep";
	}
	return wrong + (passed != 9);
}

int main(int, char **argv)
{
	unsigned long wrong = 0, rounds;
	std::string word;

	std::cout << "ready" << std::endl;
	while (std::cin >> word && word == "run" && std::cin >> rounds) {
		std::vector<std::thread> threads;

		for (int thread = 0; thread < atoi(argv[1]); thread++)
			threads.emplace_back([=, &wrong] {
				unsigned long bad = 0;

				for (unsigned long k = 0; k < rounds * 8; k++)
					bad += one(k * 31 + thread);
				__atomic_fetch_add(&wrong, bad, __ATOMIC_RELAXED);
			});
		for (auto &thread : threads)
			thread.join();
		std::cout << "done " << wrong << std::endl;
	}
}
