// SPDX-License-Identifier: MIT
/*
 * forms - functions that begin with every kind of instruction that has to be moved with care.
 *
 * usage: forms
 *
 * One round calls each form with four values of x and compares with the same function in C. At
 * a form's entry rdi = rax = x, rcx = x & 3, rdx = help_form, and the flags are those of
 * `test $1, %dil`. `form_keeps` tells whether a probe at `keeps_site` inside of it, amid known
 * values, leaves every register, the flags and the red zone alone.
 */
#include <sys/syscall.h>
#include "victim.h"

/* Assembly and tables, laid out by hand. */
// clang-format off

typedef uint64_t form_function(uint64_t x);

uint64_t call_form(form_function *form, uint64_t x);

#define FORM_AT_ONCE(name, body)                                             \
	".globl " name "\n.type " name ",@function\n" name ":\n.cfi_startproc\n" body \
	".cfi_endproc\n.size " name ",.-" name "\n"
#define FORM(name, body) ".p2align 4\n" FORM_AT_ONCE(name, body)

__asm__(".data\n.p2align 3\n"
        "form_data: .quad 0x1234567890abcdef\n"
        "form_pointer: .quad help_form\n"
        "form_byte: .byte 0x12\n"
        ".text\n"
        /* Not probed. */
        ".p2align 4\n.type call_form,@function\n.globl call_form\ncall_form:\n.cfi_startproc\n"
        "	push %rbx\n.cfi_def_cfa_offset 16\n"
        "	mov %rdi, %rbx\n	mov %rsi, %rdi\n	mov %rsi, %rax\n"
        "	mov %rsi, %rcx\n	and $3, %ecx\n	lea help_form(%rip), %rdx\n"
        "	test $1, %dil\n	call *%rbx\n	pop %rbx\n.cfi_def_cfa_offset 8\n	ret\n"
        ".cfi_endproc\n.size call_form,.-call_form\n"
        ".p2align 4\n.type help_form,@function\nhelp_form:\n.cfi_startproc\n"
        "	lea 0x77(%rdi,%rdi,2), %rax\n	ret\n.cfi_endproc\n"
        ".size help_form,.-help_form\n"
        ".p2align 4\n.type plain_flags,@function\n.globl plain_flags\nplain_flags:\n"
        "	pushfq\n	pop %rax\n	ret\n.size plain_flags,.-plain_flags\n"

        FORM("form_rip", "	mov form_data(%rip), %rax\n	add %rdi, %rax\n	ret\n")
        FORM("form_rip_immediate", "	cmpb $0x12, form_byte(%rip)\n	mov $9, %eax\n"
                                   "	cmove %rdi, %rax\n	ret\n")
        FORM("form_rip_lea", "	lea form_data(%rip), %rax\n	xor %rdi, %rax\n	ret\n")
        FORM("form_rip_vector", "	movq form_data(%rip), %xmm7\n	movq %xmm7, %rax\n"
                                "	sub %rdi, %rax\n	ret\n")
        FORM("form_jcc", "	jz 1f\n	lea 5(%rdi), %rax\n	ret\n"
                         "1:	lea 9(%rdi), %rax\n	ret\n")
        FORM("form_jcc_near", "	.byte 0x0f, 0x85\n	.long help_form - . - 4\n"
                              "	lea 11(%rdi), %rax\n	ret\n")
        FORM("form_jcc_sign", "	js 1f\n	jp 1f\n	lea 1(%rdi), %rax\n	ret\n"
                              "1:	lea 2(%rdi), %rax\n	ret\n")
        FORM("form_jmp", "	jmp 1f\n	.skip 40, 0xcc\n1:	lea 21(%rdi), %rax\n	ret\n")
        FORM("form_jmp_near", "	.byte 0xe9\n	.long help_form - . - 4\n")
        FORM("form_call_near", "	call help_form\n	inc %rax\n	ret\n")
        FORM("form_call_next", "	call 1f\n1:	pop %rax\n	add %rdi, %rax\n	ret\n")
        FORM("form_call_memory", "	call *form_pointer(%rip)\n	dec %rax\n	ret\n")
        FORM("form_jmp_memory", "	jmp *form_pointer(%rip)\n")
        FORM("form_call_register", "	call *%rdx\n	sub $3, %rax\n	ret\n")
        FORM("form_jmp_register", "	jmp *%rdx\n")
        FORM("form_endbr", "	endbr64\n	lea 31(%rdi), %rax\n	ret\n")
        FORM("form_loop", "	loop 1f\n	lea (%rcx,%rdi), %rax\n	ret\n"
                          "1:	lea 1(%rcx,%rdi), %rax\n	ret\n")
        FORM("form_jrcxz", "	jrcxz 1f\n	lea 41(%rdi), %rax\n	ret\n"
                           "1:	lea 43(%rdi), %rax\n	ret\n")
        /* One byte, and at once the next function. */
        FORM("form_one", "	ret\n")
        FORM_AT_ONCE("form_after_one", "	lea 51(%rdi), %rax\n	ret\n")
        /* Three. */
        FORM("form_three", "	push %rdi\n	pop %rax\n	ret\n")
        FORM_AT_ONCE("form_after_three", "	lea 53(%rdi), %rax\n	ret\n")
        FORM("form_syscall", "	syscall\n	ret\n")
        FORM("form_red_zone", "	mov %rdi, -8(%rsp)\n	mov %rax, -128(%rsp)\n"
                              "	mov -8(%rsp), %rax\n	add -128(%rsp), %rax\n	ret\n")
        FORM("form_lea_stack", "	lea -0x88(%rsp), %rsp\n	mov %rdi, (%rsp)\n"
                               "	mov (%rsp), %rax\n	lea 0x88(%rsp), %rsp\n	inc %rax\n"
                               "	ret\n")
        FORM("form_push", "	push %rbp\n	mov %rsp, %rbp\n	lea 61(%rdi), %rax\n	pop %rbp\n"
                          "	ret\n")
        FORM("form_short_ones", "	push %rdi\n	pop %rax\n	push %rax\n	pop %rdi\n	inc %eax\n"
                                "	lea 1(%rdi), %rax\n	ret\n")
        FORM("form_long", "	movabs $0x1122334451667788, %rax\n	add %rdi, %rax\n	ret\n")
        FORM("form_fs", "	mov %fs:0, %rax\n	xor %rdi, %rax\n	ret\n")
        FORM("form_flags", "	pushfq\n	pop %rax\n	ret\n")
        FORM("form_nop", "	.byte 0x0f, 0x1f, 0x44, 0, 0\n	lea 71(%rdi), %rax\n	ret\n")
        /* A back edge into bytes 1 to 4, and one to the head. */
        FORM("form_back_edge", "	xor %eax, %eax\n1:	add %rdi, %rax\n	sub $1, %ecx\n"
                               "	jg 1b\n	ret\n")
        FORM("form_head_loop", "1:	add $3, %rdi\n	sub $1, %ecx\n	jg 1b\n"
                               "	mov %rdi, %rax\n	ret\n")
        /* Another function jumps to an inner boundary of this one. */
        FORM("form_inner", "	xor %eax, %eax\nform_inner_2:	add %rdi, %rax\n	inc %rax\n"
                           "	ret\n")
        FORM("form_into", "	mov $0x100, %eax\n	.byte 0xe9\n	.long form_inner_2 - . - 4\n")
        /* Over the end of a cache line, and of a page. */
        ".p2align 6\n	.skip 62, 0xcc\n"
        FORM_AT_ONCE("form_line", "	xor %eax, %eax\n	lea 81(%rdi), %rax\n	ret\n")
        ".p2align 12\n	.skip 4094, 0xcc\n"
        FORM_AT_ONCE("form_page", "	xor %eax, %eax\n	lea 83(%rdi), %rax\n	ret\n")
        ".p2align 4\n");

/* r: rax rbx rcx rdx rsi rdi rbp r8 to r15; red: red zone downwards; then rsp before and after,
 * and the flags. */
struct kept {
	uint64_t r[15], red[16], before, after, flags;
} kept;

#define KEEP(register, n) "	mov %" register ", kept+8*" #n "(%rip)\n"
#define LOAD(register, n) "	movabs $0x0101010101010101*(0x21+" #n "), %" register "\n"
#define FILL(n) "	movq $0x31415900+" #n ", -8-8*" #n "(%rsp)\n"
#define TAKE(n) "	mov -8-8*" #n "(%rsp), %rax\n	mov %rax, kept+8*(15+" #n ")(%rip)\n"
#define ALL(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)

uint64_t form_keeps(uint64_t flags);

__asm__(".text\n"
        FORM("form_keeps",
             "	push %rbx\n	push %rbp\n	push %r12\n	push %r13\n	push %r14\n	push %r15\n"
             ".cfi_adjust_cfa_offset 48\n"
             "	push %rdi\n	popfq\n" ALL(FILL) "	mov %rsp, kept+8*31(%rip)\n"
             LOAD("rax", 0) LOAD("rbx", 1) LOAD("rcx", 2) LOAD("rdx", 3) LOAD("rsi", 4)
             LOAD("rdi", 5) LOAD("rbp", 6) LOAD("r8", 7) LOAD("r9", 8) LOAD("r10", 9)
             LOAD("r11", 10) LOAD("r12", 11) LOAD("r13", 12) LOAD("r14", 13)
             LOAD("r15", 14)
             /* 2 + 5 bytes: as sum_any in sums.c, every kind of site is possible. */
             ".globl keeps_site\nkeeps_site:	xchg %al, %al\n	mov $0x51a76b35, %ecx\n"
             KEEP("rax", 0) KEEP("rbx", 1) KEEP("rcx", 2) KEEP("rdx", 3) KEEP("rsi", 4)
             KEEP("rdi", 5) KEEP("rbp", 6) KEEP("r8", 7) KEEP("r9", 8) KEEP("r10", 9)
             KEEP("r11", 10) KEEP("r12", 11) KEEP("r13", 12) KEEP("r14", 13) KEEP("r15", 14)
             "	mov %rsp, kept+8*32(%rip)\n" ALL(TAKE)
             "	pushfq\n	popq kept+8*33(%rip)\n	cld\n"
             "	pop %r15\n	pop %r14\n	pop %r13\n	pop %r12\n	pop %rbp\n	pop %rbx\n"
             ".cfi_adjust_cfa_offset -48\n	xor %eax, %eax\n	ret\n"));

extern uint64_t form_data;
__asm__(".globl form_data\n");
uint64_t plain_flags(uint64_t x);

static uint64_t helper(uint64_t x) { return 3 * x + 0x77; }
static uint64_t is_rip(uint64_t x) { return form_data + x; }
static uint64_t is_same(uint64_t x) { return x; }
static uint64_t is_rip_lea(uint64_t x) { return (uint64_t)&form_data ^ x; }
static uint64_t is_rip_vector(uint64_t x) { return form_data - x; }
static uint64_t is_jcc(uint64_t x) { return x + (x & 1 ? 5 : 9); }
static uint64_t is_jcc_near(uint64_t x) { return x & 1 ? helper(x) : x + 11; }
/* PF is set for 0, not for 1. */
static uint64_t is_jcc_sign(uint64_t x) { return x + (x & 1 ? 1 : 2); }
static uint64_t is_jmp(uint64_t x) { return x + 21; }
static uint64_t is_call_near(uint64_t x) { return helper(x) + 1; }
uint64_t form_call_next(uint64_t x);
static uint64_t is_call_next(uint64_t x) { return (uint64_t)form_call_next + 5 + x; }
static uint64_t is_call_memory(uint64_t x) { return helper(x) - 1; }
static uint64_t is_call_register(uint64_t x) { return helper(x) - 3; }
static uint64_t is_endbr(uint64_t x) { return x + 31; }
static uint64_t is_loop(uint64_t x) { return (x & 3) - 1 + x + ((x & 3) == 1 ? 0 : 1); }
static uint64_t is_jrcxz(uint64_t x) { return x + (x & 3 ? 41 : 43); }
static uint64_t is_after_one(uint64_t x) { return x + 51; }
static uint64_t is_after_three(uint64_t x) { return x + 53; }
static uint64_t is_syscall(uint64_t x) { return (uint64_t)syscall((long)x); }
static uint64_t is_twice(uint64_t x) { return 2 * x; }
static uint64_t is_one_more(uint64_t x) { return x + 1; }
static uint64_t is_push(uint64_t x) { return x + 61; }
static uint64_t is_long(uint64_t x) { return x + 0x1122334451667788; }
static uint64_t is_fs(uint64_t x) { return (uint64_t)pthread_self() ^ x; }
static uint64_t is_flags(uint64_t x) { return call_form(plain_flags, x); }
static uint64_t is_nop(uint64_t x) { return x + 71; }
static uint64_t is_back_edge(uint64_t x) { return x * (x & 3 ? x & 3 : 1); }
static uint64_t is_head_loop(uint64_t x) { return x + 3 * (x & 3 ? x & 3 : 1); }
static uint64_t is_into(uint64_t x) { return x + 0x101; }
static uint64_t is_line(uint64_t x) { return x + 81; }
static uint64_t is_page(uint64_t x) { return x + 83; }

/* X(name, function in C, hits in a round) */
#define FORMS(X)                                                                                \
	X(rip, is_rip, 4) X(rip_immediate, is_same, 4) X(rip_lea, is_rip_lea, 4)                \
	X(rip_vector, is_rip_vector, 4) X(jcc, is_jcc, 4) X(jcc_near, is_jcc_near, 4)           \
	X(jcc_sign, is_jcc_sign, 4) X(jmp, is_jmp, 4) X(jmp_near, helper, 4)                    \
	X(call_near, is_call_near, 4) X(call_next, is_call_next, 4)                             \
	X(call_memory, is_call_memory, 4) X(jmp_memory, helper, 4)                              \
	X(call_register, is_call_register, 4) X(jmp_register, helper, 4)                        \
	X(endbr, is_endbr, 4) X(loop, is_loop, 4) X(jrcxz, is_jrcxz, 4) X(one, is_same, 4)      \
	X(after_one, is_after_one, 4) X(three, is_same, 4) X(after_three, is_after_three, 4)    \
	X(syscall, is_syscall, 4) X(red_zone, is_twice, 4) X(lea_stack, is_one_more, 4)         \
	X(push, is_push, 4) X(short_ones, is_one_more, 4) X(long, is_long, 4) X(fs, is_fs, 4)   \
	X(flags, is_flags, 4) X(nop, is_nop, 4) X(back_edge, is_back_edge, 4)                   \
	X(head_loop, is_head_loop, 7) X(inner, is_one_more, 4) X(into, is_into, 4)              \
	X(line, is_line, 4) X(page, is_page, 4)

#define DECLARE(name, function, hits) form_function form_##name;
FORMS(DECLARE)

static const struct {
	const char *name;
	form_function *form, *plain;
	unsigned hits;
} forms[] = {
#define ENTRY(name, function, hits) { "form_" #name, form_##name, function, hits },
	FORMS(ENTRY)
};

#define FLAGS 0xcd5 /* OF DF SF ZF AF PF CF */

static unsigned keeps_wrong(uint64_t flags)
{
	unsigned wrong = 0;

	memset(&kept, 0, sizeof kept);
	form_keeps(flags);
	for (unsigned i = 0; i < 15; i++) {
		uint64_t value = 0x0101010101010101 * (0x21 + i);

		if (i == 2) /* rcx, which the second instruction at the site loads */
			value = 0x51a76b35;
		if (kept.r[i] != value) {
			fprintf(stderr, "register %u: %#llx\n", i, (unsigned long long)kept.r[i]);
			wrong++;
		}
	}
	for (unsigned i = 0; i < 16; i++)
		wrong += kept.red[i] != 0x31415900 + i;
	wrong += kept.before != kept.after;
	wrong += (kept.flags & FLAGS) != (flags & FLAGS);
	return wrong;
}

static unsigned forms_round(unsigned thread, uint64_t k)
{
	unsigned wrong = 0;

	(void)thread;
	for (uint64_t x = 4 * k; x < 4 * k + 4; x++) {
		for (unsigned i = 0; i < sizeof forms / sizeof forms[0]; i++) {
			uint64_t y = forms[i].form == form_syscall ? SYS_getppid : x;
			uint64_t got = call_form(forms[i].form, y), plain = forms[i].plain(y);

			if (got != plain) {
				fprintf(stderr, "%s(%#llx): %#llx, not %#llx\n", forms[i].name,
				        (unsigned long long)y, (unsigned long long)got,
				        (unsigned long long)plain);
				wrong++;
			}
		}
		/* Each flag in turn set and clear, all, none. */
		wrong += keeps_wrong(x % 4 == 0 ? 2 :
		                     x % 4 == 1 ? FLAGS | 2 :
		                     (0x9e3779b97f4a7c15 * x >> 40 & FLAGS) | 2);
	}
	return wrong;
}

static void forms_expect(void)
{
	for (unsigned i = 0; i < sizeof forms / sizeof forms[0]; i++)
		victim_say("expect %s %u", forms[i].name, forms[i].hits);
	victim_say("expect form_keeps 4");
}

int main(void)
{
	static const struct victim victim = { .round = forms_round, .expect = forms_expect };

	return victim_obey(&victim, 1);
}
