/* SPDX-License-Identifier: MIT */
/*
 * suture/alternative.h - code that is replaced once, at start, by what suits this machine.
 *
 *     SUTURE_ALTERNATIVE_FUNCTION(checksum, checksum_slowly,
 *                                 SUTURE_IF_CPU(SUTURE_CPU_AVX2), checksum_avx2);
 *     uint32_t checksum(const void *data, size_t size);
 *
 *     __asm__ volatile(SUTURE_ALTERNATIVE("lock cmpxchg %2, %1", SUTURE_IF(one_cpu),
 *                                         "cmpxchg %2, %1")
 *             : "+a"(old), "+m"(*word) : "r"(new), [one_cpu] "i"(one_cpu) : "cc");
 *
 *     int main(void)
 *     {
 *             suture_alternatives_apply(NULL);
 *
 * The text holds the default, padded with nops to the longest replacement.
 * suture_alternatives_apply looks at each alternative's conditions in their order; the replacement
 * of the first one that holds takes the place of the default, padded with nops. Where none holds,
 * and before the call, the default is executed.
 *
 * A replacement is assembled elsewhere and moved. It is whole instructions; branches inside it stay
 * as they are, calls and jumps out of it (`call f`, `jmp f`) and operands relative to %rip are
 * aimed again, as far as they keep their length. Not so: `call *pointer(%rip)`, conditional jumps
 * of 8 bits to the outside.
 *
 * Who writes the statement lists the operands and clobbers of all its sequences, and sees to it
 * that nobody jumps into one from outside. As in any asm statement `%` of a register is written
 * `%%`; braces and `|` are special. x86-64, gcc and clang, C and C++, any -O.
 */
#ifndef SUTURE_ALTERNATIVE_H
#define SUTURE_ALTERNATIVE_H

#include "suture/text.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One replacement; only the library looks inside. Those of one place follow each other. Distances
 * are from the fields themselves, lengths in bytes. */
struct suture_alternative {
	int32_t code, replacement;
	uint16_t code_length, length; /* of the place, padding included; of the replacement */
	uint32_t cpu;                 /* SUTURE_CPU_*, or 0: */
	int64_t predicate;
};

/* ---- conditions ---- */

/*
 * What the processor has, and the operating system lets programs use, as CPUID and XGETBV tell (SDM
 * vol. 2, CPUID; vol. 1, 13.2): leaf, register, bit, and the state that must be enabled in XCR0.
 * Numbers that an assembler can read; they do not change.
 */
#define SUTURE_CPU_BIT_(leaf, reg, bit, state) (leaf * 65536 + state * 256 + reg * 32 + bit)
#define SUTURE_CPU_1_                          1 /* leaf 1 */
#define SUTURE_CPU_7_                          2 /* leaf 7, sub-leaf 0 */
#define SUTURE_CPU_7_1_                        3 /* leaf 7, sub-leaf 1 */
#define SUTURE_CPU_EXTENDED_                   4 /* leaf 80000001H */
#define SUTURE_CPU_EAX_                        0
#define SUTURE_CPU_EBX_                        1
#define SUTURE_CPU_ECX_                        2
#define SUTURE_CPU_EDX_                        3
#define SUTURE_CPU_ANY_STATE_                  0
#define SUTURE_CPU_YMM_                        1 /* XCR0 bits 1 and 2 */
#define SUTURE_CPU_ZMM_                        2 /* and 5 to 7 */

#define SUTURE_CPU_IN_1_(reg, bit)   SUTURE_CPU_BIT_(SUTURE_CPU_1_, reg, bit, SUTURE_CPU_ANY_STATE_)
#define SUTURE_CPU_IN_7_(reg, bit)   SUTURE_CPU_BIT_(SUTURE_CPU_7_, reg, bit, SUTURE_CPU_ANY_STATE_)
#define SUTURE_CPU_AVX512_(reg, bit) SUTURE_CPU_BIT_(SUTURE_CPU_7_, reg, bit, SUTURE_CPU_ZMM_)

#define SUTURE_CPU_SSE3       SUTURE_CPU_IN_1_(SUTURE_CPU_ECX_, 0)
#define SUTURE_CPU_PCLMULQDQ  SUTURE_CPU_IN_1_(SUTURE_CPU_ECX_, 1)
#define SUTURE_CPU_SSSE3      SUTURE_CPU_IN_1_(SUTURE_CPU_ECX_, 9)
#define SUTURE_CPU_FMA        SUTURE_CPU_BIT_(SUTURE_CPU_1_, SUTURE_CPU_ECX_, 12, SUTURE_CPU_YMM_)
#define SUTURE_CPU_CMPXCHG16B SUTURE_CPU_IN_1_(SUTURE_CPU_ECX_, 13)
#define SUTURE_CPU_SSE4_1     SUTURE_CPU_IN_1_(SUTURE_CPU_ECX_, 19)
#define SUTURE_CPU_SSE4_2     SUTURE_CPU_IN_1_(SUTURE_CPU_ECX_, 20)
#define SUTURE_CPU_MOVBE      SUTURE_CPU_IN_1_(SUTURE_CPU_ECX_, 22)
#define SUTURE_CPU_POPCNT     SUTURE_CPU_IN_1_(SUTURE_CPU_ECX_, 23)
#define SUTURE_CPU_AES        SUTURE_CPU_IN_1_(SUTURE_CPU_ECX_, 25)
#define SUTURE_CPU_AVX        SUTURE_CPU_BIT_(SUTURE_CPU_1_, SUTURE_CPU_ECX_, 28, SUTURE_CPU_YMM_)
#define SUTURE_CPU_F16C       SUTURE_CPU_BIT_(SUTURE_CPU_1_, SUTURE_CPU_ECX_, 29, SUTURE_CPU_YMM_)
#define SUTURE_CPU_RDRAND     SUTURE_CPU_IN_1_(SUTURE_CPU_ECX_, 30)
#define SUTURE_CPU_SSE2       SUTURE_CPU_IN_1_(SUTURE_CPU_EDX_, 26)

#define SUTURE_CPU_BMI1       SUTURE_CPU_IN_7_(SUTURE_CPU_EBX_, 3)
#define SUTURE_CPU_AVX2       SUTURE_CPU_BIT_(SUTURE_CPU_7_, SUTURE_CPU_EBX_, 5, SUTURE_CPU_YMM_)
#define SUTURE_CPU_BMI2       SUTURE_CPU_IN_7_(SUTURE_CPU_EBX_, 8)
#define SUTURE_CPU_ERMS       SUTURE_CPU_IN_7_(SUTURE_CPU_EBX_, 9)
#define SUTURE_CPU_RDSEED     SUTURE_CPU_IN_7_(SUTURE_CPU_EBX_, 18)
#define SUTURE_CPU_ADX        SUTURE_CPU_IN_7_(SUTURE_CPU_EBX_, 19)
#define SUTURE_CPU_CLFLUSHOPT SUTURE_CPU_IN_7_(SUTURE_CPU_EBX_, 23)
#define SUTURE_CPU_CLWB       SUTURE_CPU_IN_7_(SUTURE_CPU_EBX_, 24)
#define SUTURE_CPU_SHA        SUTURE_CPU_IN_7_(SUTURE_CPU_EBX_, 29)
#define SUTURE_CPU_GFNI       SUTURE_CPU_IN_7_(SUTURE_CPU_ECX_, 8)
#define SUTURE_CPU_RDPID      SUTURE_CPU_IN_7_(SUTURE_CPU_ECX_, 22)
#define SUTURE_CPU_MOVDIRI    SUTURE_CPU_IN_7_(SUTURE_CPU_ECX_, 27)
#define SUTURE_CPU_MOVDIR64B  SUTURE_CPU_IN_7_(SUTURE_CPU_ECX_, 28)
#define SUTURE_CPU_FSRM       SUTURE_CPU_IN_7_(SUTURE_CPU_EDX_, 4)
#define SUTURE_CPU_SERIALIZE  SUTURE_CPU_IN_7_(SUTURE_CPU_EDX_, 14)
#define SUTURE_CPU_VAES       SUTURE_CPU_BIT_(SUTURE_CPU_7_, SUTURE_CPU_ECX_, 9, SUTURE_CPU_YMM_)
#define SUTURE_CPU_VPCLMULQDQ SUTURE_CPU_BIT_(SUTURE_CPU_7_, SUTURE_CPU_ECX_, 10, SUTURE_CPU_YMM_)
#define SUTURE_CPU_AVX_VNNI   SUTURE_CPU_BIT_(SUTURE_CPU_7_1_, SUTURE_CPU_EAX_, 4, SUTURE_CPU_YMM_)

#define SUTURE_CPU_AVX512F         SUTURE_CPU_AVX512_(SUTURE_CPU_EBX_, 16)
#define SUTURE_CPU_AVX512DQ        SUTURE_CPU_AVX512_(SUTURE_CPU_EBX_, 17)
#define SUTURE_CPU_AVX512IFMA      SUTURE_CPU_AVX512_(SUTURE_CPU_EBX_, 21)
#define SUTURE_CPU_AVX512CD        SUTURE_CPU_AVX512_(SUTURE_CPU_EBX_, 28)
#define SUTURE_CPU_AVX512BW        SUTURE_CPU_AVX512_(SUTURE_CPU_EBX_, 30)
#define SUTURE_CPU_AVX512VL        SUTURE_CPU_AVX512_(SUTURE_CPU_EBX_, 31)
#define SUTURE_CPU_AVX512VBMI      SUTURE_CPU_AVX512_(SUTURE_CPU_ECX_, 1)
#define SUTURE_CPU_AVX512VBMI2     SUTURE_CPU_AVX512_(SUTURE_CPU_ECX_, 6)
#define SUTURE_CPU_AVX512VNNI      SUTURE_CPU_AVX512_(SUTURE_CPU_ECX_, 11)
#define SUTURE_CPU_AVX512BITALG    SUTURE_CPU_AVX512_(SUTURE_CPU_ECX_, 12)
#define SUTURE_CPU_AVX512VPOPCNTDQ SUTURE_CPU_AVX512_(SUTURE_CPU_ECX_, 14)

#define SUTURE_CPU_LZCNT     SUTURE_CPU_BIT_(SUTURE_CPU_EXTENDED_, SUTURE_CPU_ECX_, 5, 0)
#define SUTURE_CPU_PREFETCHW SUTURE_CPU_BIT_(SUTURE_CPU_EXTENDED_, SUTURE_CPU_ECX_, 8, 0)

#define SUTURE_TEXT_OF_(x)  SUTURE_TEXT_OF__(x)
#define SUTURE_TEXT_OF__(x) #x

/* Holds if the processor has SUTURE_CPU_*. */
#define SUTURE_IF_CPU(feature) ".long " SUTURE_TEXT_OF_(feature) "\n\t.quad 0\n\t"
/*
 * Holds if the operand of that name, [name] "i"(function), returns true: a `bool function(void)` of
 * this module, static or hidden. It may be called more than once, by suture_alternatives_apply, and
 * then calls nothing of suture, loads no module and does not fork.
 */
#define SUTURE_IF(name) ".long 0\n\t.quad %c[" #name "] - .\n\t"

/* ---- the place ---- */

/* Numbers of local labels: 7700 and 7709 around the place, 77n0 and 77n1 around replacement n. */
#define SUTURE_PAD_(n)                                                                             \
	".skip -((77" #n "1f - 77" #n "0f) > (. - 7700b)) * "                                      \
	"((77" #n "1f - 77" #n "0f) - (. - 7700b)), 0x90\n\t"
#define SUTURE_ENTRY_(n, condition)                                                                \
	".long 7700b - ., 77" #n "0f - .\n\t"                                                      \
	".short 7709b - 7700b, 77" #n "1f - 77" #n "0f\n\t" condition
#define SUTURE_REPLACEMENT_(n, code) "77" #n "0:\n\t" code "\n77" #n "1:\n\t"

/* "?": discarded together with the function that the place is in. */
#define SUTURE_PLACE_(code, pads, entries, replacements)                                           \
	"7700:\n\t" code "\n\t" pads "7709:\n\t"                                                   \
	".pushsection suture_alternatives, \"a?\", @progbits\n\t"                                  \
	".balign 8\n\t" entries ".popsection\n\t"                                                  \
	".pushsection suture_replacements, \"a?\", @progbits\n\t" replacements ".popsection\n\t"

#define SUTURE_ALTERNATIVE_1_(code, if1, code1)                                                    \
	SUTURE_PLACE_(code, SUTURE_PAD_(1), SUTURE_ENTRY_(1, if1), SUTURE_REPLACEMENT_(1, code1))
#define SUTURE_ALTERNATIVE_2_(code, if1, code1, if2, code2)                                        \
	SUTURE_PLACE_(code, SUTURE_PAD_(1) SUTURE_PAD_(2),                                         \
	              SUTURE_ENTRY_(1, if1) SUTURE_ENTRY_(2, if2),                                 \
	              SUTURE_REPLACEMENT_(1, code1) SUTURE_REPLACEMENT_(2, code2))
#define SUTURE_ALTERNATIVE_3_(code, if1, code1, if2, code2, if3, code3)                            \
	SUTURE_PLACE_(code, SUTURE_PAD_(1) SUTURE_PAD_(2) SUTURE_PAD_(3),                          \
	              SUTURE_ENTRY_(1, if1) SUTURE_ENTRY_(2, if2) SUTURE_ENTRY_(3, if3),           \
	              SUTURE_REPLACEMENT_(1, code1) SUTURE_REPLACEMENT_(2, code2)                  \
	                      SUTURE_REPLACEMENT_(3, code3))
#define SUTURE_ALTERNATIVE_OF_(code, a, b, c, d, e, f, macro, ...) macro

/*
 * SUTURE_ALTERNATIVE(code, condition, replacement [, condition, replacement [, …]])
 *
 * Text for an extended asm statement: `code`, and up to three replacements in the order in which
 * they are preferred. If default and replacement are one instruction each and of one length (`call
 * a`, `call b`) the place can be changed while threads run.
 */
#define SUTURE_ALTERNATIVE(...)                                                                    \
	SUTURE_ALTERNATIVE_OF_(__VA_ARGS__, SUTURE_ALTERNATIVE_3_, , SUTURE_ALTERNATIVE_2_, ,      \
	                       SUTURE_ALTERNATIVE_1_, , )                                          \
	(__VA_ARGS__)

/* ---- functions ---- */

/* jmp rel32, whatever is near: all of one length */
#define SUTURE_JUMP_(function) ".byte 0xe9\n\t.long " #function " - . - 4"
#define SUTURE_CHOICE_1_(code, if1, f1)                                                            \
	SUTURE_ALTERNATIVE_1_(SUTURE_JUMP_(code), if1, SUTURE_JUMP_(f1))
#define SUTURE_CHOICE_2_(code, if1, f1, if2, f2)                                                   \
	SUTURE_ALTERNATIVE_2_(SUTURE_JUMP_(code), if1, SUTURE_JUMP_(f1), if2, SUTURE_JUMP_(f2))
#define SUTURE_CHOICE_3_(code, if1, f1, if2, f2, if3, f3)                                          \
	SUTURE_ALTERNATIVE_3_(SUTURE_JUMP_(code), if1, SUTURE_JUMP_(f1), if2, SUTURE_JUMP_(f2),    \
	                      if3, SUTURE_JUMP_(f3))
#define SUTURE_CHOICE_(...)                                                                        \
	SUTURE_ALTERNATIVE_OF_(__VA_ARGS__, SUTURE_CHOICE_3_, , SUTURE_CHOICE_2_, ,                \
	                       SUTURE_CHOICE_1_, , )                                               \
	(__VA_ARGS__)

#ifdef __CET__
#define SUTURE_LANDING_ "endbr64\n\t"
#else
#define SUTURE_LANDING_ ""
#endif

/* SUTURE_IF outside of functions: the predicate's name as the linker knows it. */
#define SUTURE_IF_FUNCTION(function) ".long 0\n\t.quad " #function " - .\n\t"

/*
 * SUTURE_ALTERNATIVE_FUNCTION(name, function, condition, replacement [, …])
 *
 * Outside of functions: `name` is a function of this module that leads to `function`, or to the
 * replacement that suits; to be declared as they are. One jump, which can be changed while threads
 * run. Names are the linker's (in C++: extern "C"), of functions in this module that are hidden,
 * or static with __attribute__((used)); not with link-time optimisation.
 */
#define SUTURE_ALTERNATIVE_FUNCTION(name, ...)                                                     \
	__asm__(".pushsection .text\n\t.balign 16\n\t"                                             \
	        ".globl " #name "\n\t.hidden " #name "\n\t.type " #name ", @function\n" #name      \
	        ":\n\t.cfi_startproc\n\t" SUTURE_LANDING_ SUTURE_CHOICE_(                          \
	                __VA_ARGS__) ".cfi_endproc\n\t.size " #name ", . - " #name                 \
	                             "\n\t.popsection")

#pragma GCC visibility push(default)

/*
 * Apply the alternatives of all modules that are loaded, in one transaction: all, or none. Modules
 * that were done before are left alone, so that the call may be repeated after dlopen. To be called
 * by the program when it is ready, best before there are threads.
 *
 * `options` as in suture_text_patch, or NULL; `failed` is not used, the message names the place.
 * With SUTURE_CHEAPEST, places where one instruction becomes others are changed as there, whatever
 * threads run. If there are others, the process must have one thread, or SUTURE_QUIESCE be
 * demanded: -EOPNOTSUPP.
 *
 * Errors as in suture_text_patch, and
 *   -EINVAL     a default or a replacement is not whole instructions; places overlap; one is longer
 *               than 512 bytes
 *   -EOPNOTSUPP also: an instruction of a replacement can not be moved; see above
 *   -ERANGE     one does not reach its target from its place
 *   -EBUSY      also: this thread has yet to return into a place (a call in a default leads here)
 * Nothing was changed then. Threads and signals as there.
 */
int suture_alternatives_apply(struct suture_text_options *options);

/* Does the processor have SUTURE_CPU_*, and may programs use it? Async-signal safe. */
bool suture_cpu_has(unsigned feature);

/* Called when a module is loaded and unloaded, by the functions below. */
void suture_alternatives_register(const struct suture_alternative *start,
                                  const struct suture_alternative *stop);
void suture_alternatives_unregister(const struct suture_alternative *start,
                                    const struct suture_alternative *stop);

#pragma GCC visibility pop

/* One for each module, whatever number of files include this. */
extern const struct suture_alternative __start_suture_alternatives[]
        __attribute__((weak, visibility("hidden")));
extern const struct suture_alternative __stop_suture_alternatives[]
        __attribute__((weak, visibility("hidden")));

__attribute__((weak, visibility("hidden"), constructor)) void suture_alternatives_load(void);
__attribute__((weak, visibility("hidden"), destructor)) void suture_alternatives_unload(void);

__attribute__((weak, visibility("hidden"), constructor)) void suture_alternatives_load(void)
{
	if (__start_suture_alternatives)
		suture_alternatives_register(__start_suture_alternatives,
		                             __stop_suture_alternatives);
}

__attribute__((weak, visibility("hidden"), destructor)) void suture_alternatives_unload(void)
{
	if (__start_suture_alternatives)
		suture_alternatives_unregister(__start_suture_alternatives,
		                               __stop_suture_alternatives);
}

#ifdef __cplusplus
}
#endif

#endif
