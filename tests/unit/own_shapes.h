/* SPDX-License-Identifier: MIT */
/*
 * own_shapes.h - functions that are awkward to change: int f(int x), 1 <= x <= 8.
 *
 * eax is x on entry, too, so that a function of one byte has a result.
 */
#ifndef OWN_SHAPES_H
#define OWN_SHAPES_H

#include <stdint.h>

enum { SHAPES = 6, SHAPE_X_MAX = 8, SHAPE_HOOKED = 1 << 30 };

#define SHAPE_AT(name) ".type " #name ", @function\n" #name ":\n"

/* clang-format off */
__asm__(".text\n"
	/* one long instruction */
	".balign 64\n" SHAPE_AT(shape_long)
	"	imull $0x01010101, %edi, %eax\n"
	SHAPE_AT(inner_long)
	"	xorl $0x55, %eax\n	ret\n"
	/* several short ones under the jump */
	".balign 64\n" SHAPE_AT(shape_short)
	"	movl %edi, %eax\n"
	SHAPE_AT(inner_short)
	"	incl %eax\n	negl %eax\n	xorb $0x33, %al\n	ret\n"
	/* a loop whose back edge lands in bytes 1 to 4 */
	".balign 64\n" SHAPE_AT(shape_loop)
	"	xorl %eax, %eax\n"
	SHAPE_AT(inner_loop)
	"	addl %edi, %eax\n	decl %edi\n	jnz inner_loop\n	ret\n"
	/* an instruction that lies in two cache lines */
	".balign 64\n	.skip 61, 0xcc\n" SHAPE_AT(shape_line)
	"	leal 3(%rdi,%rdi,4), %eax\n"
	SHAPE_AT(inner_line)
	"	notl %eax\n	ret\n"
	/* three bytes, and the next function right behind */
	".balign 64\n" SHAPE_AT(shape_three)
	"	movl %edi, %eax\n"
	SHAPE_AT(inner_three)
	"	ret\n"
	SHAPE_AT(after_three)
	"	leal 7(%rdi), %eax\n	ret\n"
	/* one byte, and the next function right behind */
	".balign 64\n" SHAPE_AT(shape_one)
	"	ret\n"
	SHAPE_AT(after_one)
	"	leal 9(%rdi), %eax\n	ret\n"
	".balign 64\n");
/* clang-format on */

extern char shape_long[], inner_long[], shape_short[], inner_short[], shape_loop[], inner_loop[],
        shape_line[], inner_line[], shape_three[], inner_three[], after_three[], shape_one[],
        after_one[];

static inline int shape_call(const void *function, int x)
{
	int result = x;

	/* Below the red zone, aligned for functions of C. */
	__asm__ volatile("movq %%rsp, %%rbx\n\t"
	                 "subq $128, %%rsp\n\t"
	                 "andq $-16, %%rsp\n\t"
	                 "call *%2\n\t"
	                 "movq %%rbx, %%rsp"
	                 : "+a"(result), "+D"(x), "+d"(function)
	                 :
	                 : "rbx", "rcx", "rsi", "r8", "r9", "r10", "r11", "cc", "memory", "xmm0",
	                   "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
	                   "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
	return result;
}

struct shape {
	const char *name;
	char *entry, *inner; /* another instruction under a jump at the entry, or behind it */
	void *original;      /* for its replacement */
};

static struct shape shapes[SHAPES] = {
        {"one long instruction", shape_long, inner_long, 0},
        {"short instructions", shape_short, inner_short, 0},
        {"loop into its bytes 1 to 4", shape_loop, inner_loop, 0},
        {"two cache lines", shape_line, inner_line, 0},
        {"3 bytes", shape_three, inner_three, 0},
        {"1 byte", shape_one, after_one, 0},
};

static inline int shape_expected(unsigned shape, int x)
{
	switch (shape) {
	case 0:
		return (x * 0x01010101) ^ 0x55;
	case 1:
		return -(x + 1) ^ 0x33;
	case 2:
		return x * (x + 1) / 2;
	case 3:
		return ~(5 * x + 3);
	default:
		return x;
	}
}

/* The replacements: what the original says, and one bit more. */
#define SHAPE_REPLACEMENT(i)                                                                       \
	static int replacement_##i(int x)                                                          \
	{                                                                                          \
		return shape_call(__atomic_load_n(&shapes[i].original, __ATOMIC_RELAXED), x) ^     \
		       SHAPE_HOOKED;                                                               \
	}
SHAPE_REPLACEMENT(0)
SHAPE_REPLACEMENT(1)
SHAPE_REPLACEMENT(2)
SHAPE_REPLACEMENT(3)
SHAPE_REPLACEMENT(4)
SHAPE_REPLACEMENT(5)

static int (*const shape_replacements[SHAPES])(int) = {replacement_0, replacement_1, replacement_2,
                                                       replacement_3, replacement_4, replacement_5};

/* One call of each shape and of what follows the short ones; true if all is as it should be, or as
 * a hook makes it. */
static inline int shapes_right(int x)
{
	int right = shape_call(after_three, x) == x + 7 && shape_call(after_one, x) == x + 9;

	for (unsigned i = 0; i < SHAPES; i++) {
		int got = shape_call(shapes[i].entry, x), old = shape_expected(i, x);

		right = right && (got == old || got == (old ^ SHAPE_HOOKED));
	}
	return right;
}

#endif
