/* SPDX-License-Identifier: MIT */
/*
 * own_sites.c - hooks and probes at functions that begin with every form of instruction that has to
 * be moved with care, and in functions too short for a jump.
 *
 * Which kind a site gets is up to its bytes: the four behind the first are a distance. Those that
 * name an address in the executable leave a window, and what ends before the fifth byte a trap.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "suture/hook.h"
#include "suture/probe.h"
#include "tap.h"

#define FORM(name, code)                                                                           \
	__asm__(".text\n.balign 16, 0xcc\n.globl " #name "\n.type " #name ", @function\n" #name    \
	        ":\n" code "\n.size " #name ", . - " #name "\n");                                  \
	long name(long x);

/* clang-format off */
/* What some of them call, jump to and read. */
FORM(helper, "	leaq 7(%rdi,%rdi), %rax\n	ret")
__asm__(".data\n.balign 8\nnumber: .quad 4711\npointer: .quad helper\n"
        ".section .data.rel.ro, \"aw\"\nconstant: .quad helper\n.text\n");

/* 8d 47 01 c3 d0: a distance of 0xd0c30147, to below the executable */
FORM(f_pun, "	leal 1(%rdi), %eax\n	ret\n	.byte 0xd0, 0, 0, 0")
FORM(f_window, "	movl $7, %eax\n	ret")
/* A boundary at 1; at 1 and 2; at 2 */
FORM(f_window_1, "	nop\n	.byte 0x05, 0, 0, 0, 0\n	leaq 3(%rdi), %rax\n	ret")
FORM(f_window_12, "	nop\n	nop\n	.byte 0x05, 0, 0, 0, 0\n	leaq 3(%rdi), %rax\n	ret")
FORM(f_window_2, "	xorl %eax, %eax\n	.byte 0x05, 0, 0, 0, 0\n	ret")
FORM(f_trap, "	ret\n	.byte 1, 0, 0, 0")
FORM(f_prefix, "	.byte 0x48, 0x8d, 0x47, 0x01, 0xc3, 0x30")
FORM(f_short, "	xorl %eax, %eax\n	ret")
FORM(f_padded, "	ret\n	.balign 16")
FORM(f_landing, "	endbr64\n	leaq 9(%rdi), %rax\n	ret")
FORM(f_push, "	pushq %rbp\n	movq %rsp, %rbp\n	leaq 9(%rdi), %rax\n	popq %rbp\n	ret")
FORM(f_call, "	call helper\n	ret")
FORM(f_call_second, "	xorl %ecx, %ecx\n	call helper\n	ret")
FORM(f_call_early, "	nop\n	call *pointer(%rip)\n	ret")
FORM(f_call_indirect, "	call *pointer(%rip)\n	addq $1, %rax\n	ret")
FORM(f_call_register, "	leaq helper(%rip), %rax\n	call *%rax\n	ret")
FORM(f_jump, "	.byte 0xe9\n	.long helper - . - 4")
FORM(f_jump_short, "	.byte 0xeb, 3, 0, 0, 0\n	movl $5, %eax\n	ret")
FORM(f_plt, "	jmp *constant(%rip)")
FORM(f_jcc_far, "	.byte 0x0f, 0x84\n	.long helper - . - 4\n	movl $5, %eax\n	ret")
FORM(f_jcc, "	jz 1f\n	nop\n	nop\n	movl $5, %eax\n	ret\n1:	movl $6, %eax\n	ret")
FORM(f_jcc_not, "	jnz 1f\n	nop\n	movl $5, %eax\n	ret\n1:	movl $6, %eax\n	ret")
FORM(f_loopne, "	loopne 1f\n	nop\n	movl $5, %eax\n1:	leaq (%rcx,%rdi), %rax\n	ret")
FORM(f_loope, "	loope 1f\n	nop\n	movl $5, %eax\n1:	leaq (%rcx,%rdi), %rax\n	ret")
FORM(f_loop, "	loop 1f\n	nop\n	movl $5, %eax\n1:	leaq (%rcx,%rdi), %rax\n	ret")
FORM(f_jrcxz, "	jrcxz 1f\n	nop\n	movl $5, %eax\n	ret\n1:	movl $6, %eax\n	ret")
FORM(f_jecxz, "	.byte 0x67\n	jrcxz 1f\n	nop\n	movl $5, %eax\n	ret\n1:	movl $6, %eax\n	ret")
FORM(f_relative, "	movq number(%rip), %rax\n	addq %rdi, %rax\n	ret")
FORM(f_relative_second, "	xorl %eax, %eax\n	addq number(%rip), %rax\n	ret")
FORM(f_lock, "	lock incq counter(%rip)\n	leaq 2(%rdi), %rax\n	ret")
__asm__(".local counter\n.comm counter, 8, 8\n");
FORM(f_return_pop, "	.byte 0xf3\n	ret\n	.byte 0, 0, 0")
/* The back edge leads to the second instruction, inside the jump. */
FORM(f_back, "	nop\n1:	.byte 0x05, 1, 0, 0, 0\n	decl %edi\n	jg 1b\n	ret")
FORM(f_back_2, "	xorl %eax, %eax\n1:	addl %edi, %eax\n	decl %edi\n	jg 1b\n	ret")
FORM(f_to_start, "	decq %rdi\n	jg f_to_start\n	leaq 5(%rdi), %rax\n	ret")
/* clang-format on */

enum { STRAIGHT, LEADS_AWAY };

static const struct form {
	const char *name;
	long (*function)(long);
	enum suture_site_kind kind; /* 0: whatever comes */
	int way;                    /* of the first instruction: is it known? */
	bool repeats;               /* more hits than calls */
	uint8_t second;             /* where the next instruction begins, if in a jump's reach */
} forms[] = {
        {"pun", f_pun, SUTURE_SITE_PUN, STRAIGHT, false, 3},
        {"window", f_window, SUTURE_SITE_WINDOW, STRAIGHT, false, 0},
        {"window with a boundary", f_window_1, SUTURE_SITE_WINDOW, STRAIGHT, false, 1},
        {"window with two", f_window_12, 0, STRAIGHT, false, 1},
        {"window, two bytes first", f_window_2, SUTURE_SITE_WINDOW, STRAIGHT, false, 2},
        {"trap", f_trap, SUTURE_SITE_TRAP, LEADS_AWAY, false, 0},
        {"prefix", f_prefix, 0, STRAIGHT, false, 4},
        {"three bytes", f_short, 0, STRAIGHT, false, 2},
        {"one byte, padded", f_padded, 0, LEADS_AWAY, false, 0},
        {"landing pad", f_landing, 0, STRAIGHT, false, 4},
        {"push", f_push, 0, STRAIGHT, false, 1},
        {"call", f_call, SUTURE_SITE_WINDOW, STRAIGHT, false, 0},
        {"call second", f_call_second, 0, STRAIGHT, false, 2},
        {"call as early as can be", f_call_early, 0, STRAIGHT, false, 1},
        {"call through memory", f_call_indirect, 0, LEADS_AWAY, false, 0},
        {"call through a register", f_call_register, 0, STRAIGHT, false, 0},
        {"jump", f_jump, SUTURE_SITE_WINDOW, STRAIGHT, false, 0},
        {"short jump", f_jump_short, SUTURE_SITE_TRAP, STRAIGHT, false, 0},
        {"jump through memory", f_plt, 0, LEADS_AWAY, false, 0},
        {"jcc, far", f_jcc_far, 0, STRAIGHT, false, 0},
        {"jcc", f_jcc, 0, STRAIGHT, false, 2},
        {"jcc, the other", f_jcc_not, 0, STRAIGHT, false, 2},
        {"loopne", f_loopne, 0, STRAIGHT, false, 2},
        {"loope", f_loope, 0, STRAIGHT, false, 2},
        {"loop", f_loop, 0, STRAIGHT, false, 2},
        {"jrcxz", f_jrcxz, 0, STRAIGHT, false, 2},
        {"jecxz", f_jecxz, 0, STRAIGHT, false, 3},
        {"rip-relative", f_relative, 0, STRAIGHT, false, 0},
        {"rip-relative second", f_relative_second, 0, STRAIGHT, false, 2},
        {"lock", f_lock, 0, STRAIGHT, false, 0},
        {"return with a prefix", f_return_pop, SUTURE_SITE_TRAP, LEADS_AWAY, false, 0},
        {"back edge behind the first", f_back, SUTURE_SITE_WINDOW, STRAIGHT, false, 1},
        {"back edge into the third byte", f_back_2, 0, STRAIGHT, false, 2},
        {"back edge to the beginning", f_to_start, 0, STRAIGHT, true, 3},
};
enum { FORMS = sizeof(forms) / sizeof(forms[0]) };

/* Registers that the forms look at, and both ways of the flags. */
static long call(long (*function)(long), long x, unsigned long rcx, long rax, bool zero)
{
	/* Clear of the red zone, and with the flags as they are. */
	__asm__ volatile("testl %[nonzero], %[nonzero]\n\tleaq -128(%%rsp), %%rsp\n\t"
	                 "call *%[function]\n\tleaq 128(%%rsp), %%rsp"
	                 : "+a"(rax), "+c"(rcx), "+D"(x)
	                 : [nonzero] "r"(zero ? 0 : 1), [function] "r"(function)
	                 : "rdx", "rsi", "r8", "r9", "r10", "r11", "memory", "cc");
	return rax * 31 + (long)rcx;
}

enum { CALLS = 5 * 3 * 2 };

/* A sum over many calls of what comes out. */
static long outcome(long (*function)(long))
{
	static const long values[] = {0, 1, 2, 5, -3};
	static const unsigned long counts[] = {0, 1, 0x100000000};
	long sum = 0;

	for (unsigned i = 0; i < CALLS; i++)
		sum = sum * 17 + call(function, values[i % 5], counts[i / 5 % 3], 40, i / 15);
	return sum;
}

static char message[200];
static struct suture_text_options options = {
        .size = sizeof(options), .message = message, .message_size = sizeof(message)};

static bool occupied; /* the places to which puns would lead */

/* ---- hooks: the replacement is code that adds nothing, and counts ---- */

static volatile long passed; /* volatile: the compiler does not know what an asm calls */
static void *through[FORMS + 1];
#define PASS(name, slot)                                                                           \
	__asm__(".text\n" #name ":\n	pushfq\n	lock incq passed(%rip)\n	popfq\n"                    \
	        "	jmp *through+8*" #slot "(%rip)\n");                                        \
	extern char name[];
PASS(pass, 0)
PASS(pass_more, 1)

static void test_hook(const struct form *form)
{
	struct suture_hook_spec spec = {(void *)form->function, pass, &through[0]};
	uint8_t before[16];
	long expected = outcome(form->function), hooked, original, after;
	enum suture_site_kind kind = 0;
	struct suture_hook *hook;
	int rc;

	memcpy(before, form->function, 16);
	rc = suture_hook_install(&spec, 1, &hook, NULL);
	passed = 0;
	hooked = rc ? 0 : outcome(form->function);
	if (!rc)
		kind = suture_hook_kind(hook);
	original = rc ? 0 : outcome((long (*)(long))through[0]);
	ok(rc == 0 && hooked == expected && original == expected &&
	           (form->repeats ? passed > CALLS : passed == CALLS),
	   "%s: hooked by a %s, %ld calls (%d)", form->name, suture_site_kind_name(kind), passed,
	   rc);
	if (form->kind && !(occupied && form->kind == SUTURE_SITE_PUN))
		ok(kind == form->kind, "%s: as expected", form->name);
	if (occupied)
		ok(kind != SUTURE_SITE_PUN, "%s: is no pun", form->name);
	if (rc)
		return;
	rc = suture_hook_remove(&hook, 1, NULL);
	passed = 0;
	after = outcome(form->function);
	ok(rc == 0 && after == expected && passed == 0 && !memcmp(before, form->function, 16) &&
	           outcome((long (*)(long))through[0]) == expected,
	   "%s: and removed", form->name);
}

/* ---- probes ---- */

static volatile unsigned long pres, posts;

static void on_pre(struct suture_regs *regs, void *arg)
{
	pres += regs->rip == (uintptr_t)arg;
}

static void on_post(struct suture_regs *regs, void *arg)
{
	posts += regs->rip != (uintptr_t)arg;
}

static void test_probe(const struct form *form, bool post)
{
	struct suture_probe_spec spec = {.address = (void *)form->function,
	                                 .pre = on_pre,
	                                 .post = post ? on_post : NULL,
	                                 .arg = (void *)form->function};
	long expected = outcome(form->function), probed;
	struct suture_probe *probe = NULL;
	uint8_t before[16];
	int rc;

	memcpy(before, form->function, 16);
	rc = suture_probe_install(&spec, 1, &probe, NULL);
	if (post && form->way == LEADS_AWAY) {
		ok(rc == -EOPNOTSUPP && outcome(form->function) == expected, "%s: no post",
		   form->name);
		return;
	}
	pres = posts = 0;
	probed = outcome(form->function);
	ok(rc == 0 && probed == expected && (form->repeats ? pres > CALLS : pres == CALLS) &&
	           posts == (post ? pres : 0),
	   "%s: probed%s, %lu hits, %lu afterwards (%d)", form->name, post ? " on both sides" : "",
	   pres, posts, rc);
	if (rc)
		return;
	rc = suture_probe_remove(&probe, 1, NULL);
	pres = 0;
	ok(rc == 0 && outcome(form->function) == expected && pres == 0 &&
	           !memcmp(before, form->function, 16),
	   "%s: and removed", form->name);
}

/* Hook and probe on one function, come and gone in every order. */
static void test_both(const struct form *form)
{
	struct suture_hook_spec hook_spec = {(void *)form->function, pass, &through[0]};
	struct suture_probe_spec probe_spec = {
	        .address = (void *)form->function, .pre = on_pre, .arg = (void *)form->function};
	long expected = outcome(form->function);
	unsigned wrong = 0;

	for (unsigned order = 0; order < 4; order++) {
		struct suture_hook *hook = NULL;
		struct suture_probe *probe = NULL;

		for (unsigned i = 0; i < 2; i++)
			wrong += i == (order & 1)
			                 ? suture_hook_install(&hook_spec, 1, &hook, NULL) != 0
			                 : suture_probe_install(&probe_spec, 1, &probe, NULL) != 0;
		if (wrong)
			break;
		pres = (unsigned long)(passed = 0);
		wrong += outcome(form->function) != expected || (long)pres != passed || !pres;
		for (unsigned i = 0; i < 2; i++) {
			wrong += i == (order >> 1) ? suture_hook_remove(&hook, 1, NULL) != 0
			                           : suture_probe_remove(&probe, 1, NULL) != 0;
			wrong += outcome(form->function) != expected;
		}
	}
	pres = (unsigned long)(passed = 0);
	wrong += outcome(form->function) != expected || passed || pres;
	ok(wrong == 0, "%s: hook and probe, in every order: %u wrong", form->name, wrong);
}

/* Probes at the first instruction and at the one behind it, in every order: a jump at the first
 * would cover the second. */
static void test_split(const struct form *form)
{
	char *at[2] = {(char *)form->function, (char *)form->function + form->second};
	long expected = outcome(form->function);
	unsigned wrong = 0;
	enum suture_site_kind kind = 0;

	for (unsigned order = 0; order < 4; order++) {
		struct suture_probe *probes[2];

		for (unsigned i = 0; i < 2; i++) {
			unsigned k = i ^ (order & 1);
			struct suture_probe_spec spec = {
			        .address = at[k], .pre = on_pre, .arg = (void *)form->function};

			wrong += suture_probe_install(&spec, 1, &probes[k], &options) != 0;
			if (wrong)
				break;
			pres = 0;
			wrong += outcome(form->function) != expected;
			wrong += (i || !k) && pres < CALLS;
		}
		kind = wrong ? 0 : suture_probe_kind(probes[0]);
		wrong += kind != SUTURE_SITE_TRAP;
		for (unsigned i = 0; i < 2 && !wrong; i++) {
			unsigned k = i ^ (order >> 1);

			wrong += suture_probe_remove(&probes[k], 1, NULL) != 0;
			wrong += outcome(form->function) != expected;
		}
	}
	ok(wrong == 0, "%s: the second instruction, too, in every order: %u wrong (%s) %s",
	   form->name, wrong, suture_site_kind_name(kind), message);
}

/* All forms in one call. */
static void test_all(void)
{
	struct suture_probe_spec specs[FORMS];
	struct suture_probe *probes[FORMS];
	long expected[FORMS];
	unsigned wrong = 0;
	int rc;

	for (int i = 0; i < FORMS; i++) {
		expected[i] = outcome(forms[i].function);
		specs[i] = (struct suture_probe_spec){.address = (void *)forms[i].function,
		                                      .pre = on_pre,
		                                      .arg = (void *)forms[i].function};
	}
	rc = suture_probe_install(specs, FORMS, probes, NULL);
	for (int i = 0; i < FORMS && !rc; i++) {
		pres = 0;
		wrong += outcome(forms[i].function) != expected[i] || pres < CALLS;
	}
	ok(rc == 0 && wrong == 0, "all forms in one call: %u wrong (%d)", wrong, rc);
	if (rc)
		return;
	for (int i = 0; i < FORMS; i++) {
		int k = i * 7 % FORMS;

		wrong += suture_probe_remove(&probes[k], 1, NULL) != 0;
		for (int n = 0; n < FORMS; n++)
			wrong += outcome(forms[n].function) != expected[n];
	}
	ok(wrong == 0, "removed one after the other: %u wrong", wrong);
}

/* ---- threads ---- */

/* As above, one for each form. */
enum { EACH_SIZE = 32 };
__asm__(".text\n.balign 32\npass_each:\n.set pass_index, 0\n.rept 64\n"
        "	.balign 32\n	pushfq\n	lock incq passed(%rip)\n	popfq\n"
        "	jmp *each+8*pass_index(%rip)\n.set pass_index, pass_index + 1\n.endr\n");
extern char pass_each[];
void *each[64];
_Static_assert(FORMS <= 64, "each form has one");

static long known[FORMS];
static int stop;

static void *run_all(void *arg)
{
	unsigned long *wrong = arg;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
		for (int i = 0; i < FORMS; i++)
			if (outcome(forms[i].function) != known[i])
				__atomic_fetch_add(wrong, 1, __ATOMIC_RELAXED);
	return NULL;
}

/* Hook and probe of one form, and probe of its second instruction, in an order that changes. */
static unsigned cycle(int i, unsigned order)
{
	struct suture_hook_spec hook_spec = {(void *)forms[i].function, pass_each + EACH_SIZE * i,
	                                     &each[i]};
	struct suture_probe_spec specs[2] = {
	        {.address = (void *)forms[i].function,
	         .pre = on_pre,
	         .post = forms[i].way == STRAIGHT ? on_post : NULL},
	        {.address = (char *)forms[i].function + forms[i].second, .pre = on_pre}};
	struct suture_probe *probes[2] = {0};
	struct suture_hook *hook = NULL;
	unsigned failed = 0;

	for (unsigned k = 0; k < 6; k++) {
		unsigned what = (k + order) % 3;

		if (what == 2 && !forms[i].second)
			continue;
		if (what == 0)
			failed += k < 3 ? suture_hook_install(&hook_spec, 1, &hook, NULL) != 0
			                : suture_hook_remove(&hook, 1, NULL) != 0;
		else
			failed += (k < 3 ? suture_probe_install(&specs[what - 1], 1,
			                                        &probes[what - 1], NULL)
			                 : suture_probe_remove(&probes[what - 1], 1, NULL)) != 0;
	}
	return failed;
}

static void test_threads(unsigned cycles)
{
	unsigned long wrong = 0;
	unsigned failed = 0;
	pthread_t threads[3];

	for (int i = 0; i < FORMS; i++)
		known[i] = outcome(forms[i].function);
	stop = 0;
	for (int i = 0; i < 3; i++)
		pthread_create(&threads[i], NULL, run_all, &wrong);
	for (unsigned n = 0; n < cycles; n++)
		for (int i = 0; i < FORMS; i++)
			failed += cycle(i, n);
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	ok(!failed && !wrong, "all forms, %u times while 3 threads run them: %u failed, %lu wrong",
	   cycles, failed, wrong);
}

/* ---- system calls ---- */

/* rcx is clobbered by it: with an address that is not looked at. */
__asm__(".text\n.balign 16\n.type system_call, @function\nsystem_call:\n	syscall\n	"
        "ret\n"
        ".size system_call, . - system_call\n");
extern char system_call[];

static long call_system(long number)
{
	long result = number;

	__asm__ volatile("leaq -128(%%rsp), %%rsp\n\tcall system_call\n\t"
	                 "leaq 128(%%rsp), %%rsp"
	                 : "+a"(result)::"rcx", "r11", "memory");
	return result;
}

static void test_system_call(void)
{
	struct suture_hook_spec hook_spec = {system_call, pass, &through[0]};
	struct suture_probe_spec spec = {.address = system_call, .pre = on_pre, .arg = system_call};
	struct suture_probe *probe;
	struct suture_hook *hook;

	spec.post = on_post;
	ok(suture_probe_install(&spec, 1, &probe, NULL) == -EOPNOTSUPP, "system call: no post");
	spec.post = NULL;
	passed = 0;
	pres = 0;
	ok(suture_hook_install(&hook_spec, 1, &hook, NULL) == 0 &&
	           suture_probe_install(&spec, 1, &probe, NULL) == 0 &&
	           call_system(SYS_getpid) == getpid() && passed == 1 && pres == 1,
	   "system call: hooked and probed");
	ok(suture_hook_remove(&hook, 1, NULL) == 0 && suture_probe_remove(&probe, 1, NULL) == 0 &&
	           call_system(SYS_getpid) == getpid() && passed == 1 && pres == 1,
	   "system call: removed");
}

/* ---- neighbours ---- */

/* One byte, and a function behind it; three bytes, and one behind it. */
__asm__(".text\n.balign 16\nn_one:\n	ret\nn_next:\n	movl $11, %eax\n	ret\n"
        "	.balign 16\nn_three:\n	xorl %eax, %eax\n	ret\nn_after:\n"
        "	movl $22, %eax\n	ret\n	.balign 16\n");
extern char n_one[], n_next[], n_three[], n_after[];

static void test_neighbours(char *first, char *second, const char *what)
{
	long expected[2] = {outcome((long (*)(long))first), outcome((long (*)(long))second)};
	unsigned wrong = 0;
	enum suture_site_kind kinds[2] = {0};

	for (unsigned order = 0; order < 4; order++) {
		struct suture_hook_spec specs[2] = {{first, pass, &through[0]},
		                                    {second, pass_more, &through[1]}};
		struct suture_hook *hooks[2];

		for (unsigned i = 0; i < 2; i++) {
			unsigned k = i ^ (order & 1);

			wrong += suture_hook_install(&specs[k], 1, &hooks[k], NULL) != 0;
			if (wrong)
				break;
			kinds[k] = suture_hook_kind(hooks[k]);
		}
		for (unsigned i = 0; i < 3 && !wrong; i++) {
			unsigned k = (i ^ (order >> 1)) & 1;

			passed = 0;
			wrong += outcome((long (*)(long))first) != expected[0];
			wrong += outcome((long (*)(long))second) != expected[1];
			wrong += passed != CALLS * (2 - (long)i);
			if (i < 2)
				wrong += suture_hook_remove(&hooks[k], 1, NULL) != 0;
		}
	}
	ok(wrong == 0, "%s, hooked and removed in each order: %u wrong (%s, %s)", what, wrong,
	   suture_site_kind_name(kinds[0]), suture_site_kind_name(kinds[1]));
}

/* Where a jump would lead that only byte `jump` makes, something is: no form can be a pun. */
static void occupy(const uint8_t *code, unsigned jump)
{
	int32_t distance;
	uintptr_t page;

	memcpy(&distance, code + jump + 1, sizeof(distance));
	page = ((uintptr_t)code + jump + 5 + (uintptr_t)(intptr_t)distance) & ~(uintptr_t)4095;
	for (int i = 0; i < 2; i++) /* the jump may lie across the end of one */
		mmap((void *)(page + i * 4096u), 4096, PROT_NONE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
}

/* What a site was found to be stays: the second time is another program. */
static void again(char *program)
{
	char count[16], failed[16];
	char *arguments[] = {program, count, failed, NULL};

	snprintf(count, sizeof(count), "%d", tap_count);
	snprintf(failed, sizeof(failed), "%d", tap_failed);
	execv("/proc/self/exe", arguments);
}

int main(int count, char **arguments)
{
	occupied = count == 3;
	if (occupied) {
		tap_count = atoi(arguments[1]);
		tap_failed = atoi(arguments[2]);
		note("the same without puns");
	}
	for (int i = 0; i < FORMS && occupied; i++) {
		occupy((uint8_t *)(uintptr_t)forms[i].function, 0);
		occupy((uint8_t *)(uintptr_t)forms[i].function, 1);
	}
	for (int i = 0; i < FORMS; i++) {
		test_hook(&forms[i]);
		test_probe(&forms[i], false);
		test_probe(&forms[i], true);
		test_both(&forms[i]);
		if (forms[i].second)
			test_split(&forms[i]);
	}
	test_all();
	test_neighbours(n_one, n_next, "a byte and a function behind it");
	test_neighbours(n_three, n_after, "three bytes and a function behind them");
	test_system_call();
	test_threads(getenv("SUTURE_TORTURE") ? 500 : 30);
	if (!occupied)
		again(arguments[0]);
	return done();
}
