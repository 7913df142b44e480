/* SPDX-License-Identifier: MIT */
/*
 * own_alternatives.c - suture/alternative.h: what is replaced, by what, and what is refused.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "suture/alternative.h"
#include "tap.h"

#define FUNCTION __attribute__((noinline)) static int
#define CALLS    "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory", "cc", "xmm0", "xmm1"
/* No machine has it: there is no such state. */
#define NEVER  SUTURE_IF_CPU(SUTURE_CPU_BIT_(SUTURE_CPU_1_, SUTURE_CPU_EDX_, 26, 99))
#define ALWAYS SUTURE_IF_CPU(SUTURE_CPU_SSE2)

static int asked;
static bool yes(void)
{
	asked++;
	return true;
}

static bool no(void)
{
	asked++;
	return false;
}

static int number = 40;

__attribute__((noinline, used)) static int two(void)
{
	return 2;
}

__attribute__((noinline, used)) static int three(void)
{
	return 3;
}

/* ---- places of this executable ---- */

FUNCTION feature(void)
{
	int x;
	__asm__ volatile(SUTURE_ALTERNATIVE("mov $1, %0", ALWAYS, "mov $2, %0") : "=a"(x));
	return x;
}

FUNCTION no_feature(void)
{
	int x;
	__asm__ volatile(SUTURE_ALTERNATIVE("mov $1, %0", NEVER, "mov $2, %0") : "=a"(x));
	return x;
}

FUNCTION first_of_two(void)
{
	int x;
	__asm__ volatile(SUTURE_ALTERNATIVE("mov $1, %0", NEVER, "mov $2, %0", ALWAYS, "mov $3, %0",
	                                    ALWAYS, "mov $4, %0")
	                 : "=a"(x));
	return x;
}

FUNCTION predicates(void)
{
	int x;
	__asm__ volatile(SUTURE_ALTERNATIVE("mov $1, %0", SUTURE_IF(no), "mov $2, %0",
	                                    SUTURE_IF(yes), "mov $3, %0")
	                 : "=a"(x)
	                 : [yes] "i"(yes), [no] "i"(no));
	return x;
}

/* The default is short, the first replacement the longest, the second one is taken. */
FUNCTION padded(void)
{
	int x;
	__asm__ volatile("nop\n\t" SUTURE_ALTERNATIVE("xor %0, %0", NEVER,
	                                              "mov $1, %0\n\tadd $1, %0\n\tadd $1, %0",
	                                              ALWAYS, "mov $7, %0")
	                 : "=a"(x));
	return x;
}

FUNCTION shorter(void)
{
	int x = 5;
	__asm__ volatile(SUTURE_ALTERNATIVE("add $0x12345, %0\n\tsub $0x12345, %0\n\tinc %0",
	                                    ALWAYS, "dec %0")
	                 : "+r"(x)
	                 :
	                 : "cc");
	return x;
}

FUNCTION emptied(int x)
{
	__asm__ volatile(SUTURE_ALTERNATIVE("inc %0", ALWAYS, "") : "+r"(x) : : "cc");
	return x;
}

FUNCTION filled(int x)
{
	__asm__ volatile(SUTURE_ALTERNATIVE("", ALWAYS, "inc %0") : "+r"(x) : : "cc");
	return x;
}

FUNCTION calls(void)
{
	int x;
	__asm__ volatile(SUTURE_ALTERNATIVE("call %P[two]", ALWAYS, "call %P[three]")
	                 : "=a"(x)
	                 : [two] "i"(two), [three] "i"(three)
	                 : CALLS);
	return x;
}

/* More than a site holds; a loop inside, a call and an operand outside, a jump to the end. */
FUNCTION long_one(void)
{
	int x;
	__asm__ volatile(SUTURE_ALTERNATIVE("mov $1, %0", ALWAYS,
	                                    "call %P[two]\n\t"
	                                    "mov %0, %%ecx\n\t"
	                                    "1:\tadd $10, %0\n\tdec %%ecx\n\tjnz 1b\n\t"
	                                    "add %c[number](%%rip), %0\n\t"
	                                    "cmp $62, %0\n\tje 2f\n\t"
	                                    "mov $0, %0\n\t"
	                                    "2:")
	                 : "=a"(x)
	                 : [two] "i"(two), [number] "i"(&number)
	                 : CALLS);
	return x;
}

FUNCTION leaves(int way)
{
	__asm__ goto(SUTURE_ALTERNATIVE("jmp %l[first]", ALWAYS, "jmp %l[second]")
	             :
	             : "r"(way)
	             :
	             : first, second);
	return 0;
first:
	return way + 1;
second:
	return way + 2;
}

/* Both copies of an inlined place. */
static inline __attribute__((always_inline)) int inlined(int x)
{
	__asm__ volatile(SUTURE_ALTERNATIVE("add $1, %0", ALWAYS, "add $2, %0") : "+r"(x) : : "cc");
	return x;
}

FUNCTION both(int x)
{
	return inlined(inlined(x) * 10);
}

SUTURE_ALTERNATIVE_FUNCTION(two_or_three, two, SUTURE_IF_FUNCTION(no_function), no_function,
                            SUTURE_IF_FUNCTION(yes_function), three);
extern int two_or_three(void);

__attribute__((used)) static bool yes_function(void)
{
	return true;
}

__attribute__((used)) static bool no_function(void)
{
	return false;
}

static bool all(bool applied)
{
	return feature() == 1 + applied && no_feature() == 1 && first_of_two() == 1 + 2 * applied &&
	       predicates() == 1 + 2 * applied && padded() == 7 * applied &&
	       shorter() == 6 - 2 * applied && emptied(3) == 4 - applied &&
	       filled(3) == 3 + applied && calls() == 2 + applied &&
	       long_one() == (applied ? 62 : 1) && leaves(0) == 1 + applied &&
	       both(1) == (applied ? 32 : 21) && two_or_three() == 2 + applied;
}

/* ---- places made by hand: what is refused, with threads and without ---- */

#define PLACE(name, code, replacement)                                                             \
	__asm__(".text\n.balign 16\n" #name ":\n\t" code "\n" #name "_end:\n\tret\n"               \
	        ".section .rodata\n" #name "_new:\n\t" replacement "\n" #name                      \
	        "_new_end:\n.text\n");                                                             \
	extern const uint8_t name[], name##_end[], name##_new[], name##_new_end[]

PLACE(by_pointer, "mov $1, %eax\n\tnop", "call *number(%rip)");
PLACE(short_if, "mov $1, %eax\n\tnop\n\tnop", ".byte 0x74, 0x70\n\tmov $1, %eax");
PLACE(no_code, "mov $1, %eax", ".byte 0x06, 0x90, 0x90, 0x90, 0x90");
PLACE(cut, "mov $1, %eax", ".byte 0xb8, 1, 2");
PLACE(cut_place, ".byte 0xb8, 1, 2", "nop\n\tnop");
PLACE(trapped, "int3\n\tnop\n\tnop\n\tnop\n\tnop", "mov $2, %eax");
PLACE(several, "xor %eax, %eax\n\tinc %eax\n\tnop", "mov $2, %eax");
PLACE(one, "mov $1, %eax", "xor %eax, %eax\n\tinc %eax\n\tnop");
PLACE(too_far, "mov $1, %eax", ".byte 0xe8\n\t.long 0x7fffffff");

static void entry(struct suture_alternative *a, const uint8_t *code, const uint8_t *code_end,
                  const uint8_t *replacement, const uint8_t *replacement_end)
{
	*a = (struct suture_alternative){
	        .code = (int32_t)((intptr_t)code - (intptr_t)&a->code),
	        .replacement = (int32_t)((intptr_t)replacement - (intptr_t)&a->replacement),
	        .code_length = (uint16_t)(code_end - code),
	        .length = (uint16_t)(replacement_end - replacement),
	        .cpu = SUTURE_CPU_SSE2,
	};
}

#define ENTRY(a, name) entry(a, name, name##_end, name##_new, name##_new_end)

/* One that is never unloaded. */
static struct suture_alternative kept[8];
static char message[300];

static int apply(const struct suture_alternative *a, size_t count, enum suture_strategy strategy)
{
	struct suture_text_options options = {.size = sizeof(options),
	                                      .strategy = strategy,
	                                      .message = message,
	                                      .message_size = sizeof(message)};

	message[0] = 0;
	suture_alternatives_register(a, a + count);
	return suture_alternatives_apply(&options);
}

static void refused(struct suture_alternative *a, size_t count, int expected, const char *what)
{
	uint8_t before[16], after[16];
	const void *code = (const char *)&a->code + a->code;
	int rc;

	memcpy(before, code, sizeof(before));
	rc = apply(a, count, SUTURE_CHEAPEST);
	memcpy(after, code, sizeof(after));
	suture_alternatives_unregister(a, a + count);
	ok(rc == expected && !memcmp(before, after, sizeof(before)) && message[0], "%s: %s", what,
	   message);
}

static void test_refused(void)
{
	struct suture_alternative *a = kept;

	ENTRY(a, by_pointer);
	refused(a, 1, -EOPNOTSUPP, "a call through a pointer at %rip");
	ENTRY(a, short_if);
	refused(a, 1, -EOPNOTSUPP, "a short conditional jump to the outside");
	ENTRY(a, no_code);
	refused(a, 1, -EINVAL, "a replacement that is no code");
	ENTRY(a, cut);
	refused(a, 1, -EINVAL, "half an instruction");
	ENTRY(a, cut_place);
	refused(a, 1, -EINVAL, "half an instruction as the default");
	ENTRY(a, trapped);
	refused(a, 1, -EUCLEAN, "a breakpoint in the default");
	ENTRY(a, too_far);
	refused(a, 1, -ERANGE, "a call that would not reach");
	ENTRY(a, several);
	entry(a + 1, several + 2, several_end, one_new, one_new + 2);
	refused(a, 2, -EINVAL, "a place inside another");
	ENTRY(a, one);
	ENTRY(a + 1, no_code);
	refused(a, 2, -EINVAL, "none, if one is refused");
}

static int run(const uint8_t *code)
{
	int (*function)(void) = (int (*)(void))(uintptr_t)code;

	return function();
}

/* ---- threads ---- */

static int stop;

static void *spin(void *arg)
{
	(void)arg;
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
		if (run(one) != 1)
			return (void *)1;
	return NULL;
}

static void test_threads(void)
{
	struct suture_alternative *a = kept;
	pthread_t thread;
	void *wrong;

	pthread_create(&thread, NULL, spin, NULL);
	ENTRY(a, several);
	refused(a, 1, -EOPNOTSUPP, "several instructions while there are threads");
	ENTRY(a, one);
	ok(apply(a, 1, SUTURE_CHEAPEST) == 0 && run(one) == 1 && one[0] == one_new[0],
	   "one instruction while there are threads %s", message);
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	pthread_join(thread, &wrong);
	ok(!wrong, "and the thread has seen whole code only");
	ENTRY(a + 1, several);
	ok(apply(a + 1, 1, SUTURE_NOSYNC) == -EOPNOTSUPP && run(several) == 1,
	   "nosync can not do it: %s", message);
	ok(suture_alternatives_apply(NULL) == 0 && run(several) == 2, "but alone we can");
}

/* ---- called from inside ---- */

static int inner_rc;

__attribute__((used, noinline)) static void apply_inside(void)
{
	inner_rc = apply(kept + 2, 1, SUTURE_CHEAPEST);
}

PLACE(inside, "sub $8, %rsp\n\tcall apply_inside\n\tadd $8, %rsp\n\tmov $1, %eax",
      "xor %eax, %eax\n\tmov $2, %eax");

__attribute__((used, noinline)) static void nothing(void)
{
	__asm__ volatile("");
}

PLACE(leaves_words, "sub $8, %rsp\n\tcall nothing\n\tadd $8, %rsp\n\tmov $1, %eax",
      "xor %eax, %eax\n\tmov $2, %eax");

/* Return addresses into the place at every depth of the stack below the caller. */
static __attribute__((noinline)) void leave_words(void)
{
	for (size_t depth = 16; depth < 16384; depth += 16) {
		volatile uint8_t *below = __builtin_alloca(16);

		*below = 0;
		run(leaves_words);
	}
}

static void test_left(void)
{
	ENTRY(kept + 3, leaves_words);
	leave_words();
	ok(apply(kept + 3, 1, SUTURE_CHEAPEST) == 0 && run(leaves_words) == 2,
	   "what earlier calls have left below the stack pointer keeps nobody %s", message);
}

static void test_inside(void)
{
	ENTRY(kept + 2, inside);
	ok(run(inside) == 1 && inner_rc == -EBUSY, "a default that calls what replaces it: %s",
	   message);
	/* What that call has left on the stack is below us. */
	ok(suture_alternatives_apply(NULL) == 0 && run(inside) == 2, "and again from outside");
	ok(suture_alternatives_apply(NULL) == 0, "a call with nothing to do");
}

/* ---- */

static void test_text(void)
{
	/* nopl 0(%rax); nop: what pads mov $7, %eax to the 11 bytes of the longest */
	static const uint8_t six[] = {0x66, 0x0F, 0x1F, 0x44, 0x00, 0x00};
	const uint8_t *code = (const uint8_t *)(uintptr_t)padded;
	uint8_t was[64];
	bool nops = false, defaults = false;

	ok(suture_text_original(code, was, sizeof(was)) == 0, "the text before can be read");
	for (size_t at = 0; at + 11 <= sizeof(was); at++) {
		nops = nops || (code[at] == 0xB8 && code[at + 1] == 7 &&
		                memcmp(code + at + 5, six, sizeof(six)) == 0);
		defaults = defaults || (was[at] == 0x31 && was[at + 2] == 0x90 &&
		                        memcmp(was + at + 2, was + at + 3, 8) == 0);
	}
	ok(nops, "the shorter replacement is followed by one long nop");
	ok(defaults, "the default was padded to the longest one");
}

static void test_cpu(void)
{
#define SAME(name, id) (suture_cpu_has(SUTURE_CPU_##id) == !!__builtin_cpu_supports(name))
	__builtin_cpu_init();
	ok(SAME("sse3", SSE3) && SAME("ssse3", SSSE3) && SAME("sse4.1", SSE4_1) &&
	           SAME("sse4.2", SSE4_2) && SAME("popcnt", POPCNT) && SAME("aes", AES) &&
	           SAME("pclmul", PCLMULQDQ) && SAME("fma", FMA),
	   "leaf 1 as the compiler's library reads it");
	ok(SAME("avx", AVX) && SAME("avx2", AVX2) && SAME("bmi", BMI1) && SAME("bmi2", BMI2) &&
	           SAME("gfni", GFNI),
	   "leaf 7");
	ok(SAME("avx512f", AVX512F) && SAME("avx512vl", AVX512VL) && SAME("avx512bw", AVX512BW) &&
	           SAME("avx512vbmi", AVX512VBMI) && SAME("vpclmulqdq", VPCLMULQDQ),
	   "and what needs state enabled");
	ok(!suture_cpu_has(0) && !suture_cpu_has(UINT32_MAX), "what is no feature is not there");
}

static void test_fork(void)
{
	int status = 0;
	pid_t child = fork();

	if (child == 0)
		_exit(suture_alternatives_apply(NULL) != 0 || !all(true));
	waitpid(child, &status, 0);
	ok(WIFEXITED(status) && !WEXITSTATUS(status) && all(false),
	   "a child applies for itself, its parent is as before");
}

int main(void)
{
	test_cpu();
	ok(all(false), "the defaults at first");
	test_fork();
	ok(suture_alternatives_apply(NULL) == 0, "applied");
	ok(all(true), "the first replacement that suits, in each place");
	asked = 0;
	ok(suture_alternatives_apply(NULL) == 0 && all(true) && !asked, "once");
	test_text();
	test_refused();
	test_threads();
	test_inside();
	test_left();
	return done();
}
