/* SPDX-License-Identifier: MIT */
/*
 * isa_machine.h - runs a few bytes of code from chosen registers, flags and vector state, and
 * tells what it left behind. Part of isa_relocate.c.
 */
#ifndef ISA_MACHINE_H
#define ISA_MACHINE_H

#include <cpuid.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <ucontext.h>

enum { XSAVE_MAX = 16384 };

struct state {
	uint64_t reg[16]; /* in encoding order */
	uint64_t flags;
	uint64_t exit; /* 0 fell through, 1 reached the target, else a signal */
	uint8_t vector[XSAVE_MAX] __attribute__((aligned(64)));
};

__attribute__((used)) static struct state machine_in, machine_out;
__attribute__((used)) static uint8_t machine_sane[XSAVE_MAX] __attribute__((aligned(64)));
__attribute__((used)) static uint64_t machine_stack, machine_entry, machine_mask;

/* Where the xsave area keeps a component beyond SSE. */
static struct component {
	unsigned size, offset;
} components[8];

void machine_run(void);
extern const char machine_leave[], machine_leave_fall[], machine_leave_target[];

/* Loads machine_in, jumps to machine_entry; whoever arrives at a way out is saved. */
__asm__(".text\n"
        "machine_run:\n"
        "	push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
        "	mov %rsp, machine_stack(%rip)\n"
        "	mov machine_mask(%rip), %eax; mov machine_mask+4(%rip), %edx\n"
        "	xrstor64 machine_in+192(%rip)\n"
        "	push machine_in+128(%rip); popfq\n"
        "	mov machine_in+0(%rip), %rax;    mov machine_in+8(%rip), %rcx\n"
        "	mov machine_in+16(%rip), %rdx;   mov machine_in+24(%rip), %rbx\n"
        "	mov machine_in+32(%rip), %rsp;   mov machine_in+40(%rip), %rbp\n"
        "	mov machine_in+48(%rip), %rsi;   mov machine_in+56(%rip), %rdi\n"
        "	mov machine_in+64(%rip), %r8;    mov machine_in+72(%rip), %r9\n"
        "	mov machine_in+80(%rip), %r10;   mov machine_in+88(%rip), %r11\n"
        "	mov machine_in+96(%rip), %r12;   mov machine_in+104(%rip), %r13\n"
        "	mov machine_in+112(%rip), %r14;  mov machine_in+120(%rip), %r15\n"
        "	jmp *machine_entry(%rip)\n"
        "machine_leave_target:\n"
        "	movq $1, machine_out+136(%rip)\n"
        "	jmp machine_leave\n"
        "machine_leave_fall:\n"
        "	movq $0, machine_out+136(%rip)\n"
        "machine_leave:\n"
        "	mov %rax, machine_out+0(%rip);   mov %rcx, machine_out+8(%rip)\n"
        "	mov %rdx, machine_out+16(%rip);  mov %rbx, machine_out+24(%rip)\n"
        "	mov %rsp, machine_out+32(%rip);  mov %rbp, machine_out+40(%rip)\n"
        "	mov %rsi, machine_out+48(%rip);  mov %rdi, machine_out+56(%rip)\n"
        "	mov %r8, machine_out+64(%rip);   mov %r9, machine_out+72(%rip)\n"
        "	mov %r10, machine_out+80(%rip);  mov %r11, machine_out+88(%rip)\n"
        "	mov %r12, machine_out+96(%rip);  mov %r13, machine_out+104(%rip)\n"
        "	mov %r14, machine_out+112(%rip); mov %r15, machine_out+120(%rip)\n"
        "	mov machine_stack(%rip), %rsp\n"
        "	pushfq; pop machine_out+128(%rip)\n"
        "	cld\n"
        "	mov machine_mask(%rip), %eax; mov machine_mask+4(%rip), %edx\n"
        "	xsave64 machine_out+192(%rip)\n"
        "	xrstor64 machine_sane(%rip)\n"
        "	pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
        "	ret\n");

_Static_assert(offsetof(struct state, flags) == 128 && offsetof(struct state, exit) == 136 &&
                       offsetof(struct state, vector) == 192,
               "the assembly above knows these");

/* A fault leaves by the same door, with the registers that it had. */
static void on_signal(int number, siginfo_t *info, void *context)
{
	ucontext_t *interrupted = context;

	(void)info;
	machine_out.exit = (uint64_t)number;
	interrupted->uc_mcontext.gregs[REG_RIP] = (greg_t)(uintptr_t)machine_leave;
	interrupted->uc_mcontext.gregs[REG_EFL] &= ~0x100; /* TF, or saving would trap again */
}

static void catch_signals(void)
{
	static const int numbers[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
	static char stack[65536];
	stack_t alternate = {.ss_sp = stack, .ss_size = sizeof(stack)};
	struct sigaction action = {.sa_sigaction = on_signal,
	                           .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};

	sigaltstack(&alternate, NULL);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		sigaction(numbers[i], &action, NULL);
}

/* Vector state: all of it but AMX tiles (huge) and PKRU (not about the instruction). SDM vol. 1,
 * 13.5: CPUID leaf 0DH tells where each component is. Asked once: a hypervisor answers slowly. */
static bool find_xsave(void)
{
	unsigned a, b, c, d, low, high;

	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
		return false;
	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	machine_mask = low & 0xE7;
	__asm__ volatile("xsave64 %0" : "=m"(machine_sane) : "a"(machine_mask), "d"(0));
	for (unsigned i = 2; i < 8; i++)
		if ((machine_mask >> i & 1) && __get_cpuid_count(0xD, i, &a, &b, &c, &d) &&
		    b + a <= XSAVE_MAX)
			components[i] = (struct component){a, b};
	return true;
}

static uint64_t random_state;

static uint64_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static void randomize(uint8_t *bytes, size_t size)
{
	for (size_t i = 0; i + 8 <= size; i += 8) {
		uint64_t value = next_random();

		memcpy(bytes + i, &value, 8);
	}
}

/* SDM vol. 1, 13.4: legacy region, header, then the other components. */
static void random_vector(uint8_t *vector)
{
	memcpy(vector, machine_sane, XSAVE_MAX);
	vector[4] = 0xFF; /* abridged x87 tags: all registers hold something */
	for (int i = 0; i < 8; i++) {
		/* 64 bits of mantissa, then sign and exponent: at least 1, at most 2^63 */
		uint64_t st[2] = {next_random() | 1ull << 63, 0x3FFF + next_random() % 64};

		memcpy(vector + 32 + 16 * i, st, sizeof(st));
	}
	randomize(vector + 160, 256);
	memset(vector + 512, 0, 64);
	memcpy(vector + 512, &machine_mask, 8);
	for (unsigned i = 2; i < 8; i++)
		randomize(vector + components[i].offset, components[i].size);
}

#endif
