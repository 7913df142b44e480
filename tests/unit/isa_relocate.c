/* SPDX-License-Identifier: MIT */
/*
 * isa_relocate.c - displaced copies of x86-64 instructions do what the originals do.
 *
 * Every form of instruction (mnemonic, prefixes, kinds of operands) in the first 16 bytes of
 * each function of libc, libcrypto and libstdc++, and every form that `relocate` rewrites in
 * every register, is executed at A and, as the copy that `relocate` made, at B; once with B
 * near A and once out of reach; once with A below 2 GB and once high up. Both runs start from
 * the same random registers, flags and memory and must end with the same ones, by the same
 * way out: falling through, arriving at the branch's target, or the same signal.
 *
 *     A: instruction            B: copy                 A+0x40 (target):
 *        jmp [leave_fall]          jmp [leave_fall]        jmp [leave_target]
 *
 * Operands are aimed at a scratch region behind A: registers that address memory are set
 * accordingly, displacements relative to rip are rewritten before the copy is made.
 */
#ifdef __x86_64__
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <Zydis/Zydis.h>

#include "isa/isa.h"
#include "isa_forms.h"
#include "isa_machine.h"
#include "tap.h"

enum {
	STATES = 8,            /* random states per form and layout */
	SCRATCH = 16384,       /* bytes behind A that are compared */
	SCRATCH_AT = 0x100000, /* from A */
	MIDDLE = 4096,         /* where operands are aimed; a whole xsave area fits behind it */
	STACK_AT = 2048,       /* where rsp points */
	TARGET_AT = 0x40,      /* of direct branches, from A: within reach of a rel8 */
	USER_FLAGS = 0xCD5,    /* CF PF AF ZF SF DF OF */
	RCX = 1,
};

/* --- one run ------------------------------------------------------------------------------- */

#define LOW       0x20000000ull     /* as in a program at a fixed address */
#define LOW_NEAR  0x30000000ull     /* within 2 GB of LOW */
#define HIGH      0x7d0000000000ull /* as in a shared library */
#define HIGH_NEAR 0x7d0020000000ull /* within 2 GB of HIGH */
#define NOWHERE   0x2b0000000000ull /* within 2 GB of neither */

/* Where the original (A) and its copy (B) are put. */
struct layout {
	const char *name;
	uint64_t a, b;
};

static const struct layout layouts[] = {
        {"low, near", LOW, LOW_NEAR},
        {"low, far", LOW, NOWHERE},
        {"high, near", HIGH, HIGH_NEAR},
        {"high, far", HIGH, NOWHERE},
};

enum { LAYOUTS = sizeof(layouts) / sizeof(layouts[0]) };

static uint8_t *pointer(uint64_t address)
{
	return (uint8_t *)(uintptr_t)address;
}

static bool map_at(uint64_t address, size_t size, int protection)
{
	return mmap(pointer(address), size, protection,
	            MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == pointer(address);
}

static bool map_arena(void)
{
	static const uint64_t code[] = {LOW, LOW_NEAR, HIGH, HIGH_NEAR, NOWHERE};

	for (size_t i = 0; i < sizeof(code) / sizeof(code[0]); i++)
		if (!map_at(code[i], 4096, PROT_READ | PROT_WRITE | PROT_EXEC))
			return false;
	return map_at(LOW + SCRATCH_AT, SCRATCH, PROT_READ | PROT_WRITE) &&
	       map_at(HIGH + SCRATCH_AT, SCRATCH, PROT_READ | PROT_WRITE);
}

static void put_exit(uint64_t at, const char *door)
{
	isa_x86_64.jump_far(at, (uintptr_t)door, pointer(at), isa_x86_64.jump_far_length);
}

/* An instruction at A, decoded, with its relative operands aimed at the arena. */
struct subject {
	uint8_t code[16];
	ZydisDecodedInstruction fields;
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
	struct isa_insn insn;
	uint64_t a, middle, target;
};

static void aim_relative(struct subject *subject)
{
	const ZydisDecodedInstruction *fields = &subject->fields;
	uint64_t next = subject->a + fields->length;
	int32_t distance;

	if (fields->raw.imm[0].is_relative) {
		distance = (int32_t)(subject->target - next);
		memcpy(subject->code + fields->raw.imm[0].offset, &distance,
		       fields->raw.imm[0].size / 8);
	} else if (subject->insn.has_target) {
		distance = (int32_t)(subject->middle - next);
		memcpy(subject->code + fields->raw.disp.offset, &distance, 4);
	}
}

static bool prepare(struct subject *subject, const struct form *form, uint64_t a)
{
	memset(subject, 0, sizeof(*subject));
	memcpy(subject->code, form->code, form->length);
	subject->a = a;
	subject->middle = a + SCRATCH_AT + MIDDLE;
	subject->target = a + TARGET_AT;
	if (ZYAN_FAILED(ZydisDecoderDecodeFull(&decoder, form->code, form->length, &subject->fields,
	                                       subject->operands)) ||
	    isa_x86_64.decode(subject->code, form->length, a, &subject->insn) != form->length)
		return false;
	aim_relative(subject);
	return true;
}

static int number_of(ZydisRegister reg)
{
	ZydisRegister whole = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);

	return ZydisRegisterGetClass(whole) == ZYDIS_REGCLASS_GPR64 ? ZydisRegisterGetId(whole)
	                                                            : -1;
}

static uint64_t segment_base(ZydisRegister segment)
{
	uint64_t base = 0;

	if (segment == ZYDIS_REGISTER_FS)
		__asm__("mov %%fs:0, %0" : "=r"(base)); /* the psABI keeps a copy there */
	return base;
}

/* Sets base and index so that the operand is at `address`; rsp stays where the stack is. */
static void aim_operand(const ZydisDecodedOperand *operand, uint64_t address)
{
	const struct ZydisDecodedOperandMem_ *mem = &operand->mem;
	int base = number_of(mem->base), index = number_of(mem->index);
	uint64_t *reg = machine_in.reg, offset = segment_base(mem->segment) + mem->disp.value;

	address -= offset;
	if (base == RSP)
		return;
	if (base >= 0 && base == index) {
		reg[base] = address / (1 + mem->scale);
	} else if (base >= 0) {
		if (index >= 0)
			reg[index] = next_random() % 16;
		reg[base] = address - (index >= 0 ? reg[index] * mem->scale : 0);
	} else if (index >= 0) {
		reg[index] = address / mem->scale;
	}
}

static uint64_t address_of(const struct subject *subject, const ZydisDecodedOperand *operand)
{
	const struct ZydisDecodedOperandMem_ *mem = &operand->mem;
	int base = number_of(mem->base), index = number_of(mem->index);
	uint64_t address = segment_base(mem->segment) + mem->disp.value;

	if (mem->base == ZYDIS_REGISTER_RIP)
		return subject->middle;
	if (base >= 0)
		address += machine_in.reg[base];
	if (index >= 0)
		address += machine_in.reg[index] * mem->scale;
	return subject->fields.address_width == 32 ? (uint32_t)address : address;
}

static void random_registers(const struct subject *subject, int round)
{
	uint64_t *reg = machine_in.reg;
	bool repeats = subject->fields.attributes &
	               (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE);

	for (int i = 0; i < 16; i++)
		reg[i] = round & 1 ? next_random() : next_random() % 8; /* divisions succeed */
	if (round & 2)
		reg[2] = 0; /* rdx, the upper half of dividends */
	if (round & 4)
		reg[RCX] = 1ull << (round & 1 ? 32 : 0); /* ends loops; zero only as ecx */
	if (repeats)
		reg[RCX] = next_random() % 9;
	reg[RSP] = subject->a + SCRATCH_AT + STACK_AT + 8 * (round & 1);
	reg[RBP] = reg[RSP] + 256;
	machine_in.flags = (next_random() & USER_FLAGS) | 0x202;
}

/* Where an indirect branch takes its destination from. */
static void aim_indirect(const struct subject *subject, uint8_t *memory)
{
	const ZydisDecodedOperand *operand = &subject->operands[0];
	uint64_t base = subject->a + SCRATCH_AT, at = machine_in.reg[RSP];

	if (subject->insn.class == ISA_CALL_INDIRECT || subject->insn.class == ISA_JUMP_INDIRECT) {
		if (operand->type == ZYDIS_OPERAND_TYPE_REGISTER) {
			machine_in.reg[number_of(operand->reg.value)] = subject->target;
			return;
		}
		at = address_of(subject, operand);
	} else if (subject->insn.class != ISA_RETURN) {
		return;
	}
	if (at - base <= SCRATCH - 8)
		memcpy(memory + (at - base), &subject->target, 8);
}

/* Fills machine_in and the scratch image. */
static void random_state_for(const struct subject *subject, int round, uint8_t *memory)
{
	uint64_t address = subject->middle, flags;

	randomize(memory, SCRATCH);
	random_vector(machine_in.vector);
	random_registers(subject, round);
	for (int i = 0; i < subject->fields.operand_count; i++)
		if (subject->operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY) {
			aim_operand(&subject->operands[i], address);
			address += 512;
		}
	if (subject->fields.mnemonic == ZYDIS_MNEMONIC_POPFQ) { /* nothing that traps us */
		flags = (next_random() & USER_FLAGS) | 0x202;
		memcpy(memory + machine_in.reg[RSP] - subject->a - SCRATCH_AT, &flags, 8);
	}
	aim_indirect(subject, memory);
}

static void run_at(const struct subject *subject, uint64_t at, const uint8_t *code, size_t length,
                   const uint8_t *memory)
{
	memcpy(pointer(at), code, length);
	put_exit(at + length, machine_leave_fall);
	put_exit(subject->target, machine_leave_target);
	memcpy(pointer(subject->a + SCRATCH_AT), memory, SCRATCH);
	machine_entry = at;
	machine_run();
}

/* NULL, or what differs. x87's opcode and instruction pointer are not kept, see x86_relocate.c. */
static const char *difference(const struct state *a, const struct state *b, const uint8_t *memory_a,
                              const uint8_t *memory_b)
{
	if (a->exit != b->exit)
		return "way out";
	if (a->exit > 1)
		return NULL; /* a rewritten copy may have got further before it faulted */
	if (memcmp(a->reg, b->reg, sizeof(a->reg)))
		return "registers";
	if ((a->flags ^ b->flags) & (USER_FLAGS | 0x240000)) /* AC, ID too */
		return "flags";
	if (memcmp(memory_a, memory_b, SCRATCH))
		return "memory";
	if (memcmp(a->vector, b->vector, 6) || memcmp(a->vector + 16, b->vector + 16, 496) ||
	    memcmp(a->vector + 576, b->vector + 576, XSAVE_MAX - 576))
		return "vector registers";
	return NULL;
}

/* --- all forms ----------------------------------------------------------------------------- */

/* Shared with the child that does the work. */
struct report {
	unsigned form; /* at work on this */
	unsigned long runs, signals, same, refused[4], unreachable, lacking, target, wrong;
	unsigned rewritten;
	bool finished;
	char left_out[2048];
};

static struct report *report;

static void describe(const struct form *form, char *text, size_t size)
{
	ZydisDisassembledInstruction shown;
	size_t used;

	if (ZYAN_FAILED(ZydisDisassembleIntel(ZYDIS_MACHINE_MODE_LONG_64, 0, form->code,
	                                      form->length, &shown)))
		shown.text[0] = 0;
	used = (size_t)snprintf(text, size, "%s [", shown.text);
	for (int i = 0; i < form->length && used + 4 < size; i++)
		used += (size_t)snprintf(text + used, size - used, "%02x%s", form->code[i],
		                         i + 1 < form->length ? " " : "]");
}

static void complain(const struct form *form, const struct layout *layout, int round,
                     const char *what, const struct state *a)
{
	char text[200];

	if (report->wrong++ >= 20)
		return;
	describe(form, text, sizeof(text));
	note("%s, %s, round %d: %s differ (exit %d, copy %d)", text, layout->name, round, what,
	     (int)a->exit, (int)machine_out.exit);
	for (int i = 0; i < 16; i++)
		if (a->reg[i] != machine_out.reg[i])
			note("  register %d: %#" PRIx64 ", copy %#" PRIx64 ", before %#" PRIx64, i,
			     a->reg[i], machine_out.reg[i], machine_in.reg[i]);
}

/* Why a form cannot be run here, or NULL. */
static const char *reason_to_leave_out(const struct subject *subject)
{
	const ZydisDecodedOperand *first = &subject->operands[0];

	switch (subject->fields.mnemonic) {
	case ZYDIS_MNEMONIC_RDTSC:
	case ZYDIS_MNEMONIC_RDTSCP:
	case ZYDIS_MNEMONIC_RDRAND:
	case ZYDIS_MNEMONIC_RDSEED:
	case ZYDIS_MNEMONIC_RDPID:
	case ZYDIS_MNEMONIC_RDPMC:
	case ZYDIS_MNEMONIC_CPUID:
		return "answers differently each time";
	case ZYDIS_MNEMONIC_WRFSBASE:
		return "takes away thread-local storage";
	case ZYDIS_MNEMONIC_WRPKRU:
		return "takes away access to memory";
	default:
		break;
	}
	if (first->type == ZYDIS_OPERAND_TYPE_REGISTER &&
	    ZydisRegisterGetClass(first->reg.value) == ZYDIS_REGCLASS_SEGMENT &&
	    (first->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
		return "loads a segment";
	if (first->type == ZYDIS_OPERAND_TYPE_MEMORY &&
	    (first->mem.segment == ZYDIS_REGISTER_FS || first->mem.segment == ZYDIS_REGISTER_GS) &&
	    first->mem.base == ZYDIS_REGISTER_NONE && first->mem.index == ZYDIS_REGISTER_NONE &&
	    (first->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
		return "writes thread-local storage";
	return NULL;
}

static void leave_out(const struct form *form, const char *reason)
{
	size_t used = strlen(report->left_out);
	char text[200];

	describe(form, text, sizeof(text));
	snprintf(report->left_out + used, sizeof(report->left_out) - used, "# left out: %s: %s\n",
	         text, reason);
}

/* Runs original and copy in one layout. */
static void compare_in(const struct form *form, const struct layout *layout)
{
	static uint8_t memory[SCRATCH], memory_after[SCRATCH];
	static struct state original;
	struct subject subject;
	uint8_t copy[ISA_DISPLACED_MAX];
	int length;

	if (!prepare(&subject, form, layout->a))
		return;
	length = isa_x86_64.relocate(subject.code, form->length, layout->a, layout->b, copy,
	                             sizeof(copy));
	if (length < 0) {
		report->unreachable += length == -ERANGE;
		return;
	}
	report->rewritten += length != form->length || memcmp(copy, subject.code, length) != 0;
	for (int round = 0; round < STATES; round++) {
		const char *what;

		random_state_for(&subject, round, memory);
		run_at(&subject, layout->a, subject.code, form->length, memory);
		original = machine_out;
		memcpy(memory_after, pointer(layout->a + SCRATCH_AT), SCRATCH);
		run_at(&subject, layout->b, copy, (size_t)length, memory);
		what = difference(&original, &machine_out, memory_after,
		                  pointer(layout->a + SCRATCH_AT));
		if (what)
			complain(form, layout, round, what, &original);
		report->runs++;
		report->same += !what;
		report->signals += original.exit > 1;
		report->target += original.exit == 1;
		report->lacking += original.exit == SIGILL;
	}
}

static void compare_form(const struct form *form)
{
	struct subject subject;
	const char *reason;

	if (!prepare(&subject, form, layouts[0].a)) {
		leave_out(form, "not decoded alike");
		report->wrong++;
		return;
	}
	if (subject.insn.class >= ISA_SYSCALL) {
		report->refused[subject.insn.class - ISA_SYSCALL]++;
		return;
	}
	reason = reason_to_leave_out(&subject);
	if (reason) {
		leave_out(form, reason);
		return;
	}
	for (int i = 0; i < LAYOUTS; i++)
		compare_in(form, &layouts[i]);
}

static void child(uint64_t seed)
{
	catch_signals();
	alarm(120);
	for (; report->form < form_count; report->form++) {
		random_state = seed + report->form * 0x9E3779B97F4A7C15ull;
		compare_form(&forms[report->form]);
	}
	report->finished = true;
	fflush(stdout);
	_exit(0);
}

/* A form that kills even the handler is a failure; the rest goes on without it. */
static void compare_all(uint64_t seed)
{
	char text[200];
	int status;

	for (int tries = 0; !report->finished && tries < 20; tries++) {
		pid_t pid;

		fflush(stdout);
		pid = fork();
		if (pid == 0)
			child(seed);
		if (pid < 0 || waitpid(pid, &status, 0) != pid)
			return;
		if (report->finished)
			return;
		describe(&forms[report->form], text, sizeof(text));
		note("%s: killed the process (status %#x)", text, status);
		report->wrong++;
		report->form++;
	}
}

static void print_report(void)
{
	if (report->left_out[0])
		printf("%s", report->left_out);
	note("%u forms of %lu instructions; never moved: %lu system calls, %lu traps, %lu pinned",
	     form_count, instructions_seen, report->refused[0], report->refused[1],
	     report->refused[2]);
	note("%lu pairs of runs: %lu arrived at a branch target, %lu ended by a signal, %lu of "
	     "them "
	     "because this processor lacks the instruction",
	     report->runs, report->target, report->signals, report->lacking);
	note("%u copies differ from the original's bytes; %lu refused as out of reach",
	     report->rewritten, report->unreachable);
}

int main(void)
{
	const char *given = getenv("SEED");
	uint64_t seed = given ? strtoull(given, NULL, 0) : 0x5375747572653836;

	note("SEED=%#" PRIx64, seed);
	report = mmap(NULL, sizeof(*report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
	              0);
	if (report == MAP_FAILED)
		return 1;
	if (!find_xsave()) {
		skip("this processor has no xsave");
		return done();
	}
	if (!map_arena()) {
		skip("no writable and executable memory at the addresses of the layouts");
		return done();
	}
	ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	add_rewritten();
	add_libraries();
	compare_all(seed);
	print_report();
	ok(report->finished && report->wrong == 0 && report->same == report->runs,
	   "%lu of %lu pairs of runs end alike", report->same, report->runs);
	ok(report->rewritten > 500 && report->target > 1000,
	   "branches and operands were rewritten");
	return done();
}
#else
#include "tap.h"

int main(void)
{
	skip("runs x86-64 code");
	return done();
}
#endif
