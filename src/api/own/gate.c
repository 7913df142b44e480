/* SPDX-License-Identifier: MIT */
/*
 * gate.c - a thread at a probe calls its handlers.
 *
 * A thread announces that it is in a handler in a word of its own, without a barrier; who takes
 * handlers away makes all threads execute one (membarrier) before it looks:
 *
 *     thread                                remover
 *     inside = 1
 *     (no barrier)
 *     reads the handlers: H                 takes H away
 *                                           membarrier: thread's "inside" is visible, or it has not
 *                                           read the handlers yet and will not find H
 *     calls H                               inside: waits
 *     inside = 2                            frees H
 */
#include <errno.h>
#include <sys/mman.h>
#include <time.h>
#include "api/own/gate.h"
#include "port/linux/syscall.h"
#include "tramp/tramp.h"

/* ---- who is in a handler ---- */

struct visitor {
	_Alignas(64) uint64_t passes; /* odd: in a handler */
	uint32_t owner;               /* thread id; 0: free */
};

enum { VISITORS = 64, MORE_VISITORS = 4096 / sizeof(struct visitor) };

struct visitors {
	struct visitors *next; /* atomic; set once */
	struct visitor *list;
	uint32_t count;
};

static struct visitor first_visitors[VISITORS];
static struct visitors all_visitors = {.list = first_visitors, .count = VISITORS};

static __thread struct visitor *self __attribute__((tls_model("initial-exec")));

static bool claim(struct visitor *visitor, uint32_t owner, uint32_t tid)
{
	return __atomic_compare_exchange_n(&visitor->owner, &owner, tid, false, __ATOMIC_ACQ_REL,
	                                   __ATOMIC_RELAXED);
}

/* A free one, or one whose thread is no more. */
static struct visitor *find_visitor(const struct visitors *in, uint32_t tid)
{
	long pid = syscall4(SYS_getpid, 0, 0, 0, 0);

	for (uint32_t i = 0; i < in->count; i++)
		if (!__atomic_load_n(&in->list[i].owner, __ATOMIC_RELAXED) &&
		    claim(&in->list[i], 0, tid))
			return &in->list[i];
	for (uint32_t i = 0; i < in->count; i++) {
		uint32_t owner = __atomic_load_n(&in->list[i].owner, __ATOMIC_RELAXED);

		if (syscall4(SYS_tgkill, pid, owner, 0, 0) == -ESRCH &&
		    claim(&in->list[i], owner, tid)) {
			/* It may have ended in a handler. */
			__atomic_store_n(&in->list[i].passes, 0, __ATOMIC_RELEASE);
			return &in->list[i];
		}
	}
	return NULL;
}

/* A page more of them, which stays. The head is its first slot. */
static struct visitors *more_visitors(void)
{
	struct visitor *page;
	struct visitors *more;
	long at = syscall6(SYS_mmap, 0, MORE_VISITORS * sizeof(struct visitor),
	                   PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at < 0 && at > -4096)
		return NULL;
	page = (struct visitor *)at;
	more = (struct visitors *)page;
	more->list = page + 1;
	more->count = MORE_VISITORS - 1;
	return more;
}

static struct visitor *enrol(void)
{
	uint32_t tid = (uint32_t)syscall4(SYS_gettid, 0, 0, 0, 0);

	for (struct visitors *in = &all_visitors;;) {
		struct visitor *visitor = find_visitor(in, tid);
		struct visitors *next = NULL, *more;

		if (visitor)
			return visitor;
		if (!__atomic_load_n(&in->next, __ATOMIC_ACQUIRE)) {
			more = more_visitors();
			if (!more)
				return NULL;
			if (!__atomic_compare_exchange_n(&in->next, &next, more, false,
			                                 __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
				syscall4(SYS_munmap, (long)more,
				         MORE_VISITORS * sizeof(struct visitor), 0, 0);
		}
		in = __atomic_load_n(&in->next, __ATOMIC_ACQUIRE);
	}
}

/* ---- calling ---- */

_Static_assert(offsetof(struct suture_regs, rflags) == 120 &&
                       offsetof(struct suture_regs, reserved) == 128 &&
                       offsetof(struct suture_regs, rip) == 136 &&
                       offsetof(struct suture_regs, rsp) == 144 &&
                       sizeof(struct suture_regs) == 152,
               "the gates below count on it");

/* 0: everything is as it was but the general registers, which lie at `regs`. 1: execution goes on
 * elsewhere, on another stack or with other flags. 2: nothing was called: vector registers must be
 * saved (`saved`: they are) before. */
__attribute__((used, visibility("hidden"))) uint64_t
gate_enter(struct suture_regs *regs, const struct gate_context *context, uint64_t saved);

uint64_t gate_enter(struct suture_regs *regs, const struct gate_context *context, uint64_t saved)
{
	const struct gate_handlers *handlers;
	uint64_t rflags = regs->rflags, rsp = regs->rsp;
	struct visitor *me = self;

	if (!me)
		me = self = enrol();
	if (!me || (me->passes & 1)) {
		__atomic_fetch_add(&context->site->missed, 1, __ATOMIC_RELAXED);
		return 0;
	}
	__atomic_store_n(&me->passes, me->passes + 1, __ATOMIC_RELAXED);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	handlers = __atomic_load_n(&context->site->handlers, __ATOMIC_ACQUIRE);
	/* They came while this thread was on its way through the other gate. */
	if (handlers && handlers->vector && !saved) {
		__atomic_store_n(&me->passes, me->passes + 1, __ATOMIC_RELEASE);
		return 2;
	}
	for (uint32_t i = 0; handlers && i < handlers->count; i++) {
		const struct gate_handler *handler = &handlers->list[i];
		suture_probe_fn fn = context->post ? handler->post : handler->pre;

		if (fn)
			fn(regs, handler->arg);
	}
	__atomic_store_n(&me->passes, me->passes + 1, __ATOMIC_RELEASE);
	if (regs->rip != context->rip)
		return 1;
	if (regs->rsp == rsp && regs->rflags == rflags)
		return 0;
	regs->rip = regs->reserved + TRAMP_GATE_BACK; /* the instruction, not the probe again */
	return 1;
}

/* ---- waiting ---- */

static uint64_t now(void)
{
	struct timespec t;

	syscall4(SYS_clock_gettime, CLOCK_MONOTONIC, (long)&t, 0, 0);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Its thread ended inside a handler (it was cancelled there). */
static bool is_over(struct visitor *visitor, uint64_t passes)
{
	uint32_t owner = __atomic_load_n(&visitor->owner, __ATOMIC_RELAXED);
	long pid = syscall4(SYS_getpid, 0, 0, 0, 0);

	if (syscall4(SYS_tgkill, pid, owner, 0, 0) != -ESRCH)
		return false;
	__atomic_compare_exchange_n(&visitor->passes, &passes, 0, false, __ATOMIC_ACQ_REL,
	                            __ATOMIC_RELAXED);
	return true;
}

int gate_wait(struct port *port, uint64_t deadline_ns)
{
	uint64_t start = now();
	int rc = port_sync_cores(port); /* a barrier on every core is part of it */

	for (struct visitors *in = &all_visitors; in && !rc;
	     in = __atomic_load_n(&in->next, __ATOMIC_ACQUIRE))
		for (uint32_t i = 0; i < in->count && !rc; i++) {
			struct visitor *visitor = &in->list[i];
			uint64_t passes = __atomic_load_n(&visitor->passes, __ATOMIC_ACQUIRE);

			while (!rc && visitor != self && (passes & 1) &&
			       __atomic_load_n(&visitor->passes, __ATOMIC_ACQUIRE) == passes) {
				port_pause(port, 20000);
				if (is_over(visitor, passes))
					break;
				if (now() - start >= deadline_ns)
					rc = -ETIMEDOUT;
			}
		}
	return rc;
}

bool gate_inside(void)
{
	return self && (self->passes & 1);
}

void gate_after_fork(void)
{
	for (struct visitors *in = &all_visitors; in; in = in->next)
		for (uint32_t i = 0; i < in->count; i++) {
			struct visitor *visitor = &in->list[i];

			if (visitor == self) {
				visitor->owner = (uint32_t)syscall4(SYS_gettid, 0, 0, 0, 0);
				continue;
			}
			visitor->owner = 0;
			visitor->passes = 0;
		}
}

/* ---- from trampolines ---- */

/* How, and how much, vector state is saved: 0 fxsave, 1 xsave, 2 xsavec; see gate_setup. */
__attribute__((used, visibility("hidden"))) uint32_t gate_save_how;
__attribute__((used, visibility("hidden"))) uint64_t gate_save_size = 512;
__attribute__((used, visibility("hidden"))) uint64_t gate_save_mask = 3;

enum { TILE_STATES = 3 << 17 };

static void cpuid(uint32_t leaf, uint32_t subleaf, uint32_t regs[4])
{
	__asm__ volatile("cpuid"
	                 : "=a"(regs[0]), "=b"(regs[1]), "=c"(regs[2]), "=d"(regs[3])
	                 : "a"(leaf), "c"(subleaf));
}

/* SDM vol. 1, 13.2, 13.5. Tiles (AMX) are not saved: handlers that use them are not known. */
void gate_setup(void)
{
	uint32_t regs[4], low, high;
	uint64_t size = 512 + 64;

	cpuid(1, 0, regs);
	if (!(regs[2] >> 27 & 1)) /* OSXSAVE */
		return;
	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	gate_save_mask = ((uint64_t)high << 32 | low) & ~(uint64_t)TILE_STATES;
	for (uint32_t i = 2; i < 63; i++) {
		if (!(gate_save_mask >> i & 1))
			continue;
		cpuid(13, i, regs); /* size and offset in the standard form, the longer one */
		if (regs[0] + regs[1] > size)
			size = regs[0] + regs[1];
	}
	gate_save_size = (size + 63) & ~(uint64_t)63;
	cpuid(13, 1, regs);
	gate_save_how = 1 + (regs[0] >> 1 & 1);
}

/*
 * On entry the stack is
 *
 *     rsp     return address into the trampoline      -> suture_regs.reserved
 *     + 8     two free words                          -> .rip, .rsp
 *     + 24    the red zone, 128 bytes
 *     + 152   where the program's rsp points          (TRAMP_GATE_ROOM + 8)
 *
 * and 22 bytes before the return address is a pointer to the struct gate_context
 * (TRAMP_GATE_RETURN + TRAMP_GATE_CONTEXT). Unwinders see a signal frame: from a handler they come
 * to the probed instruction.
 */
#define PUSH(reg) "	pushq %" reg "\n	.cfi_adjust_cfa_offset 8\n"
#define POP(reg)  "	popq %" reg "\n	.cfi_adjust_cfa_offset -8\n	.cfi_same_value %" reg "\n"
#define POP_ALL                                                                                    \
	POP("rax")                                                                                 \
	POP("rcx")                                                                                 \
	POP("rdx")                                                                                 \
	POP("rbx")                                                                                 \
	POP("rbp")                                                                                 \
	POP("rsi")                                                                                 \
	POP("rdi")                                                                                 \
	POP("r8")                                                                                  \
	POP("r9")                                                                                  \
	POP("r10")                                                                                 \
	POP("r11")                                                                                 \
	POP("r12")                                                                                 \
	POP("r13")                                                                                 \
	POP("r14")                                                                                 \
	POP("r15")

/* Until .rip is filled it is found by way of the return address, as the code below does:
 * DW_CFA_val_expression %rip: const1u 152, minus, deref, const1u 22, minus, deref, deref. */
#define GATE_SAVE                                                                                  \
	"	.cfi_startproc\n"                                                                        \
	"	.cfi_signal_frame\n"                                                                     \
	"	.cfi_def_cfa %rsp, 152\n"                                                                \
	"	.cfi_escape 0x16, 16, 9, 0x08, 152, 0x1c, 0x06, 0x08, 22, 0x1c, 0x06, 0x06\n"            \
	"	pushfq\n"                                                                                \
	"	.cfi_adjust_cfa_offset 8\n" PUSH("r15") PUSH("r14") PUSH("r13") PUSH("r12") PUSH(  \
	        "r11") PUSH("r10") PUSH("r9") PUSH("r8") PUSH("rdi") PUSH("rsi") PUSH("rbp")       \
	        PUSH("rbx") PUSH("rdx") PUSH("rcx")                                                \
	                PUSH("rax") "	movq 128(%rsp), %rsi\n"                                      \
	                            "	movq %rsp, %rdi\n"                                           \
	                            "	movq -22(%rsi), %rsi\n" /* struct gate_context * */        \
	                            "	leaq 280(%rsp), %rax\n"                                      \
	                            "	movq (%rsi), %rcx\n"                                         \
	                            "	movq %rax, 144(%rsp)\n" /* .rsp */                         \
	                            "	movq %rcx, 136(%rsp)\n" /* .rip */                         \
	                            "	.cfi_offset %rip, -144\n"                                    \
	                            "	.cfi_offset %r15, -168\n	.cfi_offset %r14, -176\n"           \
	                            "	.cfi_offset %r13, -184\n	.cfi_offset %r12, -192\n"           \
	                            "	.cfi_offset %r11, -200\n	.cfi_offset %r10, -208\n"           \
	                            "	.cfi_offset %r9, -216\n	.cfi_offset %r8, -224\n"             \
	                            "	.cfi_offset %rdi, -232\n	.cfi_offset %rsi, -240\n"           \
	                            "	.cfi_offset %rbp, -248\n	.cfi_offset %rbx, -256\n"           \
	                            "	.cfi_offset %rdx, -264\n	.cfi_offset %rcx, -272\n"           \
	                            "	.cfi_offset %rax, -280\n"                                    \
	                            "	movq %rsp, %rbx\n"                                           \
	                            "	.cfi_def_cfa %rbx, 280\n"                                    \
	                            "	testb $4, 121(%rsp)\n" /* DF: C wants it clear */          \
	                            "	jz 1f\n"                                                     \
	                            "	cld\n"                                                       \
	                            "1:\n"

/*
 * rax: what gate_enter returned. Only arithmetic flags are set again on the common way: what else
 * there is did not change, but for DF.
 *
 * Elsewhere: the destination is put below the red zone of the new stack pointer (136 bytes from
 * it), where the last instruction finds it. If that is in the midst of the saved registers or below
 * them, they are moved below it first, which is possible only here: the C code above has its frame
 * there, and vector registers are there until they are restored. No unwinder is led from there.
 */
#define GATE_RESTORE                                                                               \
	"	movq %rbx, %rsp\n"                                                                       \
	"	.cfi_def_cfa %rsp, 280\n"                                                                \
	"	testq %rax, %rax\n"                                                                      \
	"	jnz 3f\n"                                                                                \
	"	movl 120(%rsp), %ecx\n"                                                                  \
	"	testl $0x400, %ecx\n"                                                                    \
	"	jnz 2f\n"                                                                                \
	"	movb %cl, %ah\n"                                                                         \
	"	btl $11, %ecx\n" /* OF */                                                          \
	"	setc %al\n"                                                                              \
	"	addb $0x7f, %al\n" /* sets OF again */                                             \
	"	sahf\n"            /* SF ZF AF PF CF */                                            \
	"	.cfi_remember_state\n" POP_ALL "	leaq 8(%rsp), %rsp\n"                             \
	"	.cfi_adjust_cfa_offset -8\n"                                                             \
	"	ret\n"                                                                                   \
	"	.cfi_restore_state\n"                                                                    \
	"2:	.cfi_remember_state\n" POP_ALL "	popfq\n"                                          \
	"	.cfi_adjust_cfa_offset -8\n"                                                             \
	"	ret\n"                                                                                   \
	"	.cfi_restore_state\n"                                                                    \
	"3:	.cfi_undefined %rip\n"                                                                 \
	"	movq 144(%rsp), %r8\n"                                                                   \
	"	movq 136(%rsp), %rdx\n"                                                                  \
	"	subq $136, %r8\n"                                                                        \
	"	movq %r8, 136(%rsp)\n" /* .rip is where the destination stands */                  \
	"	leaq 152(%rsp), %rax\n"                                                                  \
	"	cmpq %rax, %r8\n"                                                                        \
	"	jae 9f\n"                                                                                \
	"	movq %rsp, %rsi\n"                                                                       \
	"	leaq -152(%r8), %rsp\n"                                                                  \
	"	movq %rsp, %rdi\n"                                                                       \
	"	movl $19, %ecx\n"                                                                        \
	"	rep movsq\n"                                                                             \
	"9:	movq %rdx, (%r8)\n"                                                                    \
	"	popq %rax\n	popq %rcx\n	popq %rdx\n	popq %rbx\n"                                         \
	"	popq %rbp\n	popq %rsi\n	popq %rdi\n	popq %r8\n"                                          \
	"	popq %r9\n	popq %r10\n	popq %r11\n	popq %r12\n"                                          \
	"	popq %r13\n	popq %r14\n	popq %r15\n"                                                     \
	"	popfq\n"                                                                                 \
	"	movq 8(%rsp), %rsp\n"                                                                    \
	"	ret $128\n"                                                                              \
	"	.cfi_endproc\n"

__asm__(".text\n"
        "	.globl gate_general, gate_vector\n"
        "	.hidden gate_general, gate_vector\n"
        "	.type gate_general, @function\n"
        "	.balign 64\n"
        "gate_general:\n" GATE_SAVE "	andq $-16, %rsp\n"
        "	xorl %edx, %edx\n"
        "	call gate_enter\n"
        "	cmpq $2, %rax\n"
        "	jne 1f\n"
        /* From the beginning, with vector registers saved: nothing has touched them yet. */
        "	movq %rbx, %rsp\n"
        "	movq %rbx, %rdi\n"
        "	movq 128(%rbx), %rsi\n"
        "	movq -22(%rsi), %rsi\n"
        "	jmp gate_vector_saves\n"
        "1:\n" GATE_RESTORE "	.size gate_general, . - gate_general\n"
        "	.type gate_vector, @function\n"
        "	.balign 64\n"
        "gate_vector:\n" GATE_SAVE "gate_vector_saves:\n"
        "	subq gate_save_size(%rip), %rsp\n"
        "	andq $-64, %rsp\n"
        "	movq %rsp, %r12\n"
        "	movl gate_save_how(%rip), %r13d\n"
        "	movl gate_save_mask(%rip), %r14d\n"
        "	movl 4+gate_save_mask(%rip), %r15d\n"
        "	movq %rdi, %rbp\n"
        "	movl %r14d, %eax\n"
        "	movl %r15d, %edx\n"
        "	xorl %ecx, %ecx\n"
        "	cmpl $1, %r13d\n"
        "	jb 4f\n"
        /* The header: XRSTOR wants zeros where XSAVE writes nothing (SDM vol. 1, 13.7, 13.10). */
        "	movq %rcx, 512(%rsp)\n	movq %rcx, 520(%rsp)\n	movq %rcx, 528(%rsp)\n"
        "	movq %rcx, 536(%rsp)\n	movq %rcx, 544(%rsp)\n	movq %rcx, 552(%rsp)\n"
        "	movq %rcx, 560(%rsp)\n	movq %rcx, 568(%rsp)\n"
        "	je 5f\n"
        "	xsavec64 (%rsp)\n"
        "	jmp 6f\n"
        "5:	xsave64 (%rsp)\n"
        "	jmp 6f\n"
        "4:	fxsave64 (%rsp)\n"
        "6:	movq %rbp, %rdi\n"
        "	movl $1, %edx\n"
        "	call gate_enter\n"
        "	movq %rax, %rcx\n"
        "	movl %r14d, %eax\n"
        "	movl %r15d, %edx\n"
        "	cmpl $1, %r13d\n"
        "	jb 7f\n"
        "	xrstor64 (%r12)\n"
        "	jmp 8f\n"
        "7:	fxrstor64 (%r12)\n"
        "8:	movq %rcx, %rax\n" GATE_RESTORE "	.size gate_vector, . - gate_vector\n");
