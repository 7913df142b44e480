/* SPDX-License-Identifier: MIT */
/* places.h - what each module of tests/t/modules.t has: keys and alternatives, some of them in a
 * function that C++ emits in each file and the linker keeps once. */
#ifndef PLACES_H
#define PLACES_H

#include <suture/alternative.h>
#include <suture/key.h>

#define ALWAYS SUTURE_IF_CPU(SUTURE_CPU_SSE2)
#define NEVER  SUTURE_IF_CPU(SUTURE_CPU_BIT_(SUTURE_CPU_1_, SUTURE_CPU_EDX_, 26, 99))

#ifdef __cplusplus
#define PLAIN_NAME extern "C"
#else
#define PLAIN_NAME extern
#endif

SUTURE_KEY_DECLARE(module_key);
/* In other.c: subtracts 1, or, applied, adds 1. */
PLAIN_NAME __attribute__((visibility("hidden"))) int module_place(int x);

#ifdef __cplusplus
#define SHARED inline __attribute__((noinline))
#else
#define SHARED static __attribute__((noinline))
#endif

__attribute__((unused)) static bool asked(void)
{
	return true;
}

SHARED int shared_place(int x)
{
	__asm__ volatile(SUTURE_ALTERNATIVE("add $1, %0", NEVER, "add $7, %0", ALWAYS,
	                                    "add $1, %0\n\tadd $1, %0\n\tadd $0x12345, %0\n\t"
	                                    "sub $0x12345, %0")
	                 : "+r"(x)
	                 :
	                 : "cc");
	return suture_key_unlikely(&module_key) ? x * 10 : x;
}

static __attribute__((noinline)) int own_place(int x)
{
	__asm__ volatile(SUTURE_ALTERNATIVE("add $2, %0", SUTURE_IF(asked), "add $1, %0")
	                 : "+r"(x)
	                 : [asked] "i"(asked)
	                 : "cc");
	x = module_place(x);
	return suture_key_likely(&module_key) ? x * 10 : x;
}

#endif
