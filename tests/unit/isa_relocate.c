/* SPDX-License-Identifier: MIT */
/*
 * isa_relocate.c - displaced copies of x86-64 instructions do what the originals do.
 *
 * Samples of every form of instruction in the first 16 bytes of each function of libc,
 * libcrypto, libstdc++, python3 and redis-server, and every form that `relocate` rewrites in
 * every register (isa_forms.h), are executed at A and, as the copy that `relocate` made, at B;
 * once with B near A and once out of reach; once with A below 2 GB and once high up. Both runs
 * start from the same random registers, flags, vector state and memory and must end with the
 * same ones, by the same way out: falling through, arriving at the branch's target, or the same
 * signal. The stack is part of the memory, so a call must have pushed its return address at A.
 * What is not run is listed with the reason. Instructions that general_only() knows must leave
 * the floating-point and vector state as it was.
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
	SAMPLES = 16, /* of each form */
	STATES = 32,  /* random ones per sample and layout */
	STATES_TORTURE = 1024,
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

static bool prepare(struct subject *subject, const struct sample *sample, uint64_t a)
{
	memset(subject, 0, sizeof(*subject));
	memcpy(subject->code, sample->code, sample->length);
	subject->a = a;
	subject->middle = a + SCRATCH_AT + MIDDLE;
	subject->target = a + TARGET_AT;
	if (ZYAN_FAILED(ZydisDecoderDecodeFull(&decoder, sample->code, sample->length,
	                                       &subject->fields, subject->operands)) ||
	    isa_x86_64.decode(subject->code, sample->length, a, &subject->insn) != sample->length)
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

	if (round % 4 == 3) /* aligned operands fault, as the copy's must */
		address += next_random() % 64;
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
                              const uint8_t *memory_b, bool rewritten)
{
	if (a->exit != b->exit)
		return "way out";
	if (a->exit > 1 && rewritten)
		return NULL; /* it may have got further before it faulted */
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

/* Did what an instruction found in floating-point and vector registers stay? */
static bool vectors_stay(const struct state *after)
{
	const uint8_t *in = machine_in.vector, *out = after->vector;

	if (memcmp(in, out, 6) || memcmp(in + 24, out + 24, 4) || memcmp(in + 32, out + 32, 384))
		return false;
	for (int i = 2; i < 8; i++)
		if (memcmp(in + components[i].offset, out + components[i].offset,
		           components[i].size))
			return false;
	return true;
}

/* --- what is left out, and why -------------------------------------------------------------- */

enum reason {
	RUNS,
	SYSCALL,
	TRAP,
	PINNED,
	FICKLE,
	TAKES_TLS,
	TAKES_MEMORY,
	LOADS_SEGMENT,
	WRITES_TLS,
	NOT_DISPLACED,
	OUT_OF_REACH,
	REASONS,
};

static const char *const reasons[REASONS] = {
        [SYSCALL] = "not moved: enters the kernel",
        [TRAP] = "not moved: raises an exception by design",
        [PINNED] = "not moved: depends on where it stands, or is privileged",
        [FICKLE] = "not run: answers differently each time",
        [TAKES_TLS] = "not run: takes away thread-local storage",
        [TAKES_MEMORY] = "not run: takes away access to memory",
        [LOADS_SEGMENT] = "not run: loads a segment",
        [WRITES_TLS] = "not run: writes our own thread-local storage",
        [NOT_DISPLACED] = "not moved: its operand would mean something else (-ENOTSUP)",
        [OUT_OF_REACH] = "only moved near, its operand does not reach (-ERANGE)",
};

static enum reason reason_of_mnemonic(ZydisMnemonic mnemonic)
{
	switch (mnemonic) {
	case ZYDIS_MNEMONIC_RDTSC:
	case ZYDIS_MNEMONIC_RDTSCP:
	case ZYDIS_MNEMONIC_RDRAND:
	case ZYDIS_MNEMONIC_RDSEED:
	case ZYDIS_MNEMONIC_RDPID:
	case ZYDIS_MNEMONIC_RDPMC:
	case ZYDIS_MNEMONIC_CPUID:
		return FICKLE;
	case ZYDIS_MNEMONIC_WRFSBASE:
		return TAKES_TLS;
	case ZYDIS_MNEMONIC_WRPKRU:
		return TAKES_MEMORY;
	default:
		return RUNS;
	}
}

static enum reason reason_to_leave_out(const struct subject *subject)
{
	const ZydisDecodedOperand *first = &subject->operands[0];

	switch (subject->insn.class) {
	case ISA_SYSCALL:
		return SYSCALL;
	case ISA_TRAP:
		return TRAP;
	case ISA_PINNED:
		return PINNED;
	default:
		break;
	}
	if (first->type == ZYDIS_OPERAND_TYPE_REGISTER &&
	    ZydisRegisterGetClass(first->reg.value) == ZYDIS_REGCLASS_SEGMENT &&
	    (first->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
		return LOADS_SEGMENT;
	if (first->type == ZYDIS_OPERAND_TYPE_MEMORY &&
	    (first->mem.segment == ZYDIS_REGISTER_FS || first->mem.segment == ZYDIS_REGISTER_GS) &&
	    first->mem.base == ZYDIS_REGISTER_NONE && first->mem.index == ZYDIS_REGISTER_NONE &&
	    (first->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
		return WRITES_TLS;
	return reason_of_mnemonic(subject->fields.mnemonic);
}

/* --- all samples --------------------------------------------------------------------------- */

enum { WORKERS = 2, MNEMONICS = ZYDIS_MNEMONIC_MAX_VALUE + 1 };

/* Shared with the child that does the work. */
struct report {
	unsigned at; /* at work on this sample */
	bool finished;
	unsigned long runs, signals, same, lacking, target, wrong, rewritten, general;
	unsigned listed[REASONS][MNEMONICS]; /* samples */
};

static struct report *reports, *report;
static int states; /* random ones per sample and layout */

static void describe(const struct sample *sample, char *text, size_t size)
{
	ZydisDisassembledInstruction shown;
	size_t used;

	if (ZYAN_FAILED(ZydisDisassembleIntel(ZYDIS_MACHINE_MODE_LONG_64, 0, sample->code,
	                                      sample->length, &shown)))
		shown.text[0] = 0;
	used = (size_t)snprintf(text, size, "%s [", shown.text);
	for (int i = 0; i < sample->length && used + 4 < size; i++)
		used += (size_t)snprintf(text + used, size - used, "%02x%s", sample->code[i],
		                         i + 1 < sample->length ? " " : "]");
}

static void complain(const struct sample *sample, const struct layout *layout, int round,
                     const char *what, const struct state *a)
{
	char text[200];

	if (report->wrong++ >= 20)
		return;
	describe(sample, text, sizeof(text));
	note("%s, %s, round %d: %s differ (exit %d, copy %d)", text, layout->name, round, what,
	     (int)a->exit, (int)machine_out.exit);
	for (int i = 0; i < 16; i++)
		if (a->reg[i] != machine_out.reg[i])
			note("  register %d: %#" PRIx64 ", copy %#" PRIx64 ", before %#" PRIx64, i,
			     a->reg[i], machine_out.reg[i], machine_in.reg[i]);
}

struct copy {
	uint8_t code[ISA_DISPLACED_MAX];
	size_t length;
	bool rewritten;
};

static void compare_once(const struct sample *sample, const struct subject *subject,
                         const struct layout *layout, const struct copy *copy, int round)
{
	static uint8_t memory[SCRATCH], memory_after[SCRATCH];
	static struct state original;
	const char *what;

	random_state_for(subject, round, memory);
	run_at(subject, layout->a, subject->code, sample->length, memory);
	original = machine_out;
	memcpy(memory_after, pointer(layout->a + SCRATCH_AT), SCRATCH);
	run_at(subject, layout->b, copy->code, copy->length, memory);
	what = difference(&original, &machine_out, memory_after, pointer(layout->a + SCRATCH_AT),
	                  copy->rewritten);
	if (!what && original.exit <= 1 && isa_x86_64.general_only(subject->code, sample->length)) {
		report->general++;
		if (!vectors_stay(&original))
			what = "vector registers, before and after,";
	}
	if (what)
		complain(sample, layout, round, what, &original);
	report->runs++;
	report->same += !what;
	report->signals += original.exit > 1;
	report->target += original.exit == 1;
	report->lacking += original.exit == SIGILL;
}

/* Original and copy in one layout; why not, if there is no copy. */
static enum reason compare_in(const struct sample *sample, const struct layout *layout)
{
	struct subject subject;
	struct copy copy;
	int length;

	if (!prepare(&subject, sample, layout->a))
		return RUNS;
	length = isa_x86_64.relocate(subject.code, sample->length, layout->a, layout->b, copy.code,
	                             sizeof(copy.code));
	if (length < 0) {
		report->wrong += length != -ERANGE && length != -ENOTSUP;
		return length == -ERANGE ? OUT_OF_REACH : NOT_DISPLACED;
	}
	copy.length = (size_t)length;
	copy.rewritten =
	        copy.length != sample->length || memcmp(copy.code, subject.code, copy.length) != 0;
	report->rewritten += copy.rewritten;
	for (int round = 0; round < states; round++)
		compare_once(sample, &subject, layout, &copy, round);
	return RUNS;
}

static void compare_sample(const struct sample *sample)
{
	struct subject subject;
	enum reason reason;
	char text[200];

	if (!prepare(&subject, sample, layouts[0].a)) {
		describe(sample, text, sizeof(text));
		note("%s: not decoded alike", text);
		report->wrong++;
		return;
	}
	reason = reason_to_leave_out(&subject);
	for (int i = 0; reason == RUNS && i < LAYOUTS; i++) {
		enum reason here = compare_in(sample, &layouts[i]);

		/* The layouts alternate: near copies must always reach. */
		report->wrong += here == OUT_OF_REACH && i % 2 == 0;
		if (here == NOT_DISPLACED || i == LAYOUTS - 1)
			reason = here;
	}
	report->listed[reason][subject.fields.mnemonic]++;
}

static void child(uint64_t seed)
{
	catch_signals();
	alarm(states > STATES ? 3600 : 120);
	for (; report->at < sample_count; report->at += WORKERS) {
		random_state = seed + report->at * 0x9E3779B97F4A7C15ull;
		compare_sample(&samples[report->at]);
	}
	report->finished = true;
	fflush(stdout);
	_exit(0);
}

static pid_t start(unsigned worker, uint64_t seed)
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		report = &reports[worker];
		child(seed);
	}
	return pid;
}

/* A sample that kills even the handler is a failure; the rest goes on without it. */
static void work(uint64_t seed)
{
	pid_t pid[WORKERS];
	int status, tries = 20;
	char text[200];

	for (unsigned i = 0; i < WORKERS; i++) {
		reports[i].at = i;
		pid[i] = start(i, seed);
	}
	for (unsigned i = 0; i < WORKERS; i++)
		while (pid[i] > 0 && waitpid(pid[i], &status, 0) == pid[i] &&
		       !reports[i].finished && tries-- > 0) {
			describe(&samples[reports[i].at], text, sizeof(text));
			note("%s: killed the process (status %#x)", text, status);
			reports[i].wrong++;
			reports[i].at += WORKERS;
			pid[i] = start(i, seed);
		}
}

/* --- the report ---------------------------------------------------------------------------- */

/* Everything of all workers in the first. */
static void add_up(void)
{
	struct report *sum = &reports[0];

	for (const struct report *r = reports + 1; r < reports + WORKERS; r++) {
		sum->finished = sum->finished && r->finished;
		sum->runs += r->runs;
		sum->signals += r->signals;
		sum->same += r->same;
		sum->lacking += r->lacking;
		sum->target += r->target;
		sum->wrong += r->wrong;
		sum->rewritten += r->rewritten;
		sum->general += r->general;
		for (int i = 0; i < REASONS; i++)
			for (int m = 0; m < MNEMONICS; m++)
				sum->listed[i][m] += r->listed[i][m];
	}
	report = sum;
}

static void print_reason(enum reason reason)
{
	unsigned total = 0;
	char line[2048];
	size_t used = 0;

	line[0] = 0;
	for (int m = 0; m < MNEMONICS; m++) {
		unsigned count = report->listed[reason][m];

		if (count && used < sizeof(line) - 40)
			used += (size_t)snprintf(line + used, sizeof(line) - used, " %s %u",
			                         ZydisMnemonicGetString((ZydisMnemonic)m), count);
		total += count;
	}
	if (total)
		note("%s: %u samples:%s", reasons[reason], total, line);
}

static void print_report(void)
{
	for (int reason = RUNS + 1; reason < REASONS; reason++)
		print_reason((enum reason)reason);
	note("%lu instructions, %u different, of %u forms; %u samples", instructions_seen,
	     distinct_count, form_count, sample_count);
	note("%lu pairs of runs: %lu arrived at a branch target, %lu ended by a signal, %lu of "
	     "them because this processor lacks the instruction",
	     report->runs, report->target, report->signals, report->lacking);
	note("%lu copies differ from the original's bytes", report->rewritten);
	note("%lu runs of instructions that are known to leave vector registers alone",
	     report->general);
}

int main(void)
{
	const char *given = getenv("SEED");
	uint64_t seed = given ? strtoull(given, NULL, 0) : 0x5375747572653836;
	bool torture = getenv("SUTURE_TORTURE");

	note("SEED=%#" PRIx64, seed);
	reports = mmap(NULL, WORKERS * sizeof(*reports), PROT_READ | PROT_WRITE,
	               MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (reports == MAP_FAILED)
		return 1;
	if (!find_xsave()) {
		skip("this processor has no xsave");
		return done();
	}
	if (!map_arena()) {
		skip("no writable and executable memory at the addresses of the layouts");
		return done();
	}
	samples_each = torture ? SAMPLES_MAX : SAMPLES;
	states = torture ? STATES_TORTURE : STATES;
	random_state = seed;
	ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	add_rewritten();
	add_files();
	work(seed);
	add_up();
	print_report();
	ok(report->finished && report->wrong == 0 && report->same == report->runs,
	   "%lu of %lu pairs of runs end alike", report->same, report->runs);
	ok(report->general > 1000, "those that leave vector registers alone do");
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
