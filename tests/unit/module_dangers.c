/* SPDX-License-Identifier: MIT */
/* Every way into a range that other tools know of is a danger; few ranges are flagged idly. */
#include <errno.h>

#include "module_sample.h"

static uint32_t danger_of(struct module *module, uint64_t start, uint64_t size)
{
	struct module_range range = {start, start + size};
	uint32_t danger = UINT32_MAX;
	int error = module_dangers(module, &range, 1, &danger);

	if (error)
		note("%" PRIx64 ": error %d", start, error);
	return danger;
}

/*
 * Each function of this file stands for one way in, or for none. Its window is what a 5-byte
 * jump at its entry covers, [f+1, f+6). Functions are kept apart by .p2align.
 */
#define BEGIN(name)                                                                                \
	".p2align 8\n.globl " name "\n.type " name ", @function\n" name ":\n.cfi_startproc\n"
#define END(name) ".cfi_endproc\n.size " name ", .-" name "\n"
#define PUSH      "push %rbp\n.cfi_adjust_cfa_offset 8\n.cfi_rel_offset rbp, 0\n"
#define POP       "pop %rbp\n.cfi_adjust_cfa_offset -8\n.cfi_restore rbp\n"
#define GROW      "sub $16, %rsp\n.cfi_adjust_cfa_offset 16\n"
#define BODY      "mov %edi, %eax\nadd $1, %eax\n"

/* clang-format off */
static const char asm_source[] =
	".text\n"
	BEGIN("clean") PUSH BODY POP "ret\n" END("clean")
	BEGIN("back_edge") PUSH "1: mov %edi, %eax\ndec %edi\njnz 1b\n" POP "ret\n" END("back_edge")
	BEGIN("loop_edge") PUSH "1: mov %edi, %eax\nloop 1b\n" POP "ret\n" END("loop_edge")
	BEGIN("jrcxz_edge") PUSH "1: mov %edi, %eax\njrcxz 1b\n" POP "ret\n" END("jrcxz_edge")
	/* The furthest that 8 bits reach, either way. */
	BEGIN("last_short") PUSH "1: mov %edi, %eax\n.skip 124, 0x90\njnz 1b\n" POP "ret\n"
	END("last_short")
	BEGIN("before_short") BODY "jnz first_short_in\n.skip 124, 0x90\n" END("before_short")
	".globl first_short\n.type first_short, @function\nfirst_short:\n.cfi_startproc\n"
	PUSH "nop\nnop\nfirst_short_in: " BODY POP "ret\n" END("first_short")
	BEGIN("far_edge") PUSH "1: mov %edi, %eax\n.skip 200, 0x90\ndec %edi\njnz 1b\n" POP "ret\n"
	END("far_edge")
	BEGIN("crossed") PUSH "crossed_in: " BODY POP "ret\n" END("crossed")
	BEGIN("crossing") PUSH BODY POP "jmp crossed_in\n" END("crossing")
	BEGIN("called_in") PUSH "called_in_in: " BODY POP "ret\n" END("called_in")
	BEGIN("calling") PUSH BODY "call called_in_in\n" POP "ret\n" END("calling")
	BEGIN("jcc_in") PUSH "jcc_in_in: " BODY POP "ret\n" END("jcc_in")
	BEGIN("jccing") PUSH BODY POP "test %eax, %eax\njz jcc_in_in\nret\n" END("jccing")
	BEGIN("aborted") PUSH "aborted_in: " BODY POP "ret\n" END("aborted")
	BEGIN("aborting") PUSH ".byte 0xc7, 0xf8\n.long aborted_in - . - 4\n" BODY POP "ret\n"
	END("aborting")
	BEGIN("taken") PUSH "taken_in: " BODY POP "ret\n" END("taken")
	BEGIN("taking") PUSH "lea taken_in(%rip), %rax\n" POP "ret\n" END("taking")
	/* The branch is in code that no FDE and no symbol describes. */
	BEGIN("gap_in") PUSH "gap_in_in: " BODY POP "ret\n" END("gap_in")
	"test %eax, %eax\njmp gap_in_in\n"
	/* ... and behind bytes that are no instruction. */
	BEGIN("junk_in") PUSH "junk_in_in: " BODY POP "ret\n" END("junk_in")
	".byte 6, 6, 6\njmp junk_in_in\n"
	/* EB F9 in an immediate looks like a jump into the window, and is none. */
	BEGIN("lookalike") PUSH BODY "mov $0x9090f9eb, %eax\n" POP "ret\n" END("lookalike")
	BEGIN("undecodable") PUSH BODY ".byte 6\n" POP "ret\n" END("undecodable")
	".p2align 8\n.globl no_fde\n.type no_fde, @function\nno_fde: push %rbp\n" BODY
	"pop %rbp\nret\n.size no_fde, .-no_fde\n"
	/* Indirect jumps whose row is, or is not, one of the window's: CFA rsp+8 and rsp+16. */
	BEGIN("same_row") PUSH BODY "jmp *%rax\n" END("same_row")
	BEGIN("other_row") PUSH BODY GROW "jmp *%rax\n" END("other_row")
	BEGIN("memory_row") PUSH BODY "notrack jmp *8(%rsp,%rax,8)\n" END("memory_row")
	BEGIN("far_row") PUSH BODY "ljmp *(%rax)\n" END("far_row")
	BEGIN("tail_row") "sub $8, %rsp\n.cfi_adjust_cfa_offset 8\n" BODY
	"add $8, %rsp\n.cfi_adjust_cfa_offset -8\njmp *%rax\n" END("tail_row")
	BEGIN("push_ret") "push %rax\n.cfi_adjust_cfa_offset 8\n" BODY "ret\n" END("push_ret")
	BEGIN("push_ret_later") PUSH BODY GROW "ret\n" END("push_ret_later")
	BEGIN("retpoline") PUSH BODY "call 2f\n1: pause\njmp 1b\n2: mov %rax, (%rsp)\nret\n"
	END("retpoline")
	BEGIN("retpoline_later") PUSH BODY GROW "call 2f\n1: pause\njmp 1b\n2: mov %rax, (%rsp)\nret\n"
	END("retpoline_later")
	BEGIN("__x86_indirect_thunk_rax") "jmp *%rax\n" END("__x86_indirect_thunk_rax")
	BEGIN("thunk_user") PUSH BODY "jmp __x86_indirect_thunk_rax\n" END("thunk_user")
	BEGIN("thunk_tail") "nop\n" BODY "jmp __x86_indirect_thunk_rax\n" END("thunk_tail")
	BEGIN("call_only") PUSH BODY "call *%rax\n" POP "ret\n" END("call_only")
	/* One function in two parts: the jump is in the other one, with the window's row. */
	BEGIN("parted") PUSH BODY "jz parted.cold\n" POP "ret\n" END("parted")
	BEGIN("parted.cold") ".cfi_adjust_cfa_offset 8\n.cfi_rel_offset rbp, 0\njmp *%rax\n"
	END("parted.cold")
	/* Only the name tells, and only that of an alias. */
	BEGIN("split") PUSH BODY POP "ret\n" END("split")
	".globl __split\n.type __split, @function\n.set __split, split\n"
	BEGIN("__split.part.0.cold") ".cfi_adjust_cfa_offset 8\n.cfi_rel_offset rbp, 0\njmp *%rax\n"
	END("__split.part.0.cold")
	/* The same without a name to tell: as in a stripped file. */
	BEGIN("nameless") PUSH BODY "jz .Lpart\n" POP "ret\n" END("nameless")
	".p2align 8\n.cfi_startproc\n.Lpart: .cfi_adjust_cfa_offset 8\n.cfi_rel_offset rbp, 0\n"
	"jmp *%rax\n.cfi_endproc\n"
	/* Jumps to a function in its own right are tail calls, whatever that one does. */
	BEGIN("tail_caller") PUSH BODY POP "jmp same_row\n" END("tail_caller")
	/* Landing pads relative to an explicit LPStart; and an LSDA that ends too early. */
	BEGIN("padded") ".Lpadded: .cfi_lsda 0x1b, .Llsda\n" PUSH BODY POP "ret\n" END("padded")
	BEGIN("bad_lsda") ".cfi_lsda 0x1b, .Lbad\n" PUSH BODY POP "ret\n" END("bad_lsda")
	/* Restartable sequences. */
	BEGIN("sequence") PUSH BODY POP "ret\n" END("sequence")
	BEGIN("abort_in") PUSH "nop\nnop\n" BODY POP "ret\n" END("abort_in")
	".section .gcc_except_table, \"a\"\n"
	".Llsda: .byte 0x1b\n.long .Lpadded - 0x10 - .\n.byte 0xff, 1, 4\n.byte 0, 6, 0x13, 0\n"
	".Lbad: .byte 0xff, 0xff, 1, 3\n.byte 0, 6, 0\n"
	".section __rseq_cs, \"aw\"\n.p2align 5\n"
	".long 0, 0\n.quad sequence + 3, 4, abort_in + 5\n"
	".section .note.GNU-stack, \"\", @progbits\n";
/* clang-format on */

enum {
	CLEAR = 0,
	B = MODULE_DANGER_BRANCH,
	I = MODULE_DANGER_INDIRECT,
	L = MODULE_DANGER_LANDING_PAD,
	R = MODULE_DANGER_RSEQ,
	U = MODULE_DANGER_UNKNOWN
};

static const struct {
	const char *name;
	uint32_t expected;
} functions[] = {
        {"clean", CLEAR},       {"back_edge", B},
        {"loop_edge", B},       {"jrcxz_edge", B},
        {"last_short", B},      {"first_short", B},
        {"far_edge", B},        {"crossed", B},
        {"crossing", CLEAR},    {"called_in", B},
        {"calling", CLEAR},     {"jcc_in", B},
        {"aborted", B},         {"taken", B},
        {"gap_in", B},          {"junk_in", B},
        {"lookalike", CLEAR},   {"undecodable", U},
        {"no_fde", U},          {"same_row", I},
        {"other_row", CLEAR},   {"memory_row", I},
        {"far_row", I},         {"tail_row", CLEAR},
        {"push_ret", I},        {"push_ret_later", CLEAR},
        {"retpoline", I},       {"retpoline_later", I},
        {"thunk_user", I},      {"thunk_tail", I},
        {"call_only", CLEAR},   {"parted", I},
        {"split", I},           {"nameless", I},
        {"tail_caller", CLEAR}, {"padded", L},
        {"bad_lsda", U},        {"sequence", R},
        {"abort_in", R},
};

static void by_hand(void)
{
	struct module *module = open_sample("hand.so", NULL);

	for (size_t i = 0; i < sizeof(functions) / sizeof(*functions); i++) {
		uint64_t vaddr = label("hand.so", functions[i].name);
		uint32_t danger = danger_of(module, vaddr + 1, 5);

		if (!ok(danger == functions[i].expected, "%s", functions[i].name))
			note("%x, not %x", danger, functions[i].expected);
	}
	module_close(module);
}

/* Each branch in is found where it is: in the function that has it. */
static void branch_sources(void)
{
	static const struct {
		const char *to, *from; /* NULL: none */
	} pairs[] = {{"clean", NULL},
	             {"back_edge", "back_edge"},
	             {"loop_edge", "loop_edge"},
	             {"far_edge", "far_edge"},
	             {"crossed", "crossing"},
	             {"called_in", "calling"},
	             {"jcc_in", "jccing"},
	             {"first_short", "before_short"}};
	struct module *module = open_sample("hand.so", NULL);

	for (size_t i = 0; i < sizeof(pairs) / sizeof(*pairs); i++) {
		uint64_t start = label("hand.so", pairs[i].to), source = 0, from;
		struct module_range range = {start + 1, start + 6};
		int rc = module_branch_source(module, &range, &source);

		if (!pairs[i].from) {
			ok(rc == -ENOENT, "no branch leads into %s", pairs[i].to);
			continue;
		}
		from = label("hand.so", pairs[i].from);
		if (!ok(rc == 0 && source > from && source < from + 512,
		        "the branch into %s is in %s", pairs[i].to, pairs[i].from))
			note("%d, at %" PRIx64, rc, source);
	}
	module_close(module);
}

/* Without names nothing may get less dangerous. */
static void stripped(void)
{
	struct module *module;
	int less = 0;

	run("strip -o stripped fixed");
	module = open_sample("stripped", NULL);
	for (size_t i = 0; i < sizeof(functions) / sizeof(*functions); i++) {
		uint32_t danger = danger_of(module, label("fixed", functions[i].name) + 1, 5);
		bool unknown = danger & MODULE_DANGER_UNKNOWN;

		if (!strcmp(functions[i].name, "split"))
			continue; /* nothing but its name says that it has two parts */

		if (!unknown && (functions[i].expected & ~danger) && less++ < 5)
			note("%s: %x, not %x", functions[i].name, danger, functions[i].expected);
	}
	ok(less == 0, "no danger is overlooked in a stripped file");
	module_close(module);
}

static void rseq_edges(const char *file)
{
	struct module *module = open_sample(file, NULL);
	uint64_t start = label(file, "sequence") + 3, abort = label(file, "abort_in") + 5;

	ok(!module_rseq_overlaps(module, start - 1, start) &&
	           module_rseq_overlaps(module, start - 1, start + 1) &&
	           module_rseq_overlaps(module, start + 3, start + 4) &&
	           !module_rseq_overlaps(module, start + 4, start + 5),
	   "%s: an rseq section's edges", file);
	ok(module_rseq_overlaps(module, abort, abort + 1) &&
	           module_rseq_overlaps(module, abort - 4, abort - 3) &&
	           !module_rseq_overlaps(module, abort + 1, abort + 2),
	   "%s: its abort target and the signature before it", file);
	module_close(module);
}

static void arguments(void)
{
	struct module *module = open_sample("hand.so", NULL);
	uint64_t at = label("hand.so", "clean");
	struct module_range ranges[] = {{at + 2, at + 3}, {at + 1, at + 2}}, wide = {at, at + 17};
	struct module_range empty = {at, at}, nowhere = {0, 1}, wild = {UINT64_MAX - 3, UINT64_MAX};
	uint32_t danger[2];

	ok(module_dangers(module, ranges, 2, danger) == -EINVAL, "ranges out of order");
	ok(module_dangers(module, &wide, 1, danger) == -EINVAL, "a range too wide");
	ok(module_dangers(module, &empty, 1, danger) == -EINVAL, "an empty range");
	ok(module_dangers(module, &nowhere, 1, danger) == -EINVAL, "a range outside of text");
	ok(module_dangers(module, &wild, 1, danger) == -EINVAL, "a range at the end of memory");
	ok(module_dangers(module, NULL, 0, NULL) == 0, "no range at all");
	module_close(module);
}

/* --- every direct branch that objdump sees ------------------------------------------------- */

static int compare_numbers(const void *a, const void *b)
{
	uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

	return (left > right) - (left < right);
}

static void objdump_targets(const char *path)
{
	char command[512], line[4096];
	uint64_t *targets = NULL;
	struct module_range *ranges;
	uint32_t *dangers;
	size_t count = 0, kept = 0, missed = 0;
	struct module *module = open_sample(path, NULL);
	FILE *pipe;

	snprintf(command, sizeof(command), "objdump -dw --no-show-raw-insn %s", path);
	pipe = popen(command, "r");
	while (pipe && fgets(line, sizeof(line), pipe)) {
		char *at = strchr(line, '\t');
		char name[32];
		uint64_t target, offset;

		if (at && (!strncmp(at + 1, "bnd ", 4) || !strncmp(at + 1, "rep ", 4)))
			at += 4;
		if (!at || sscanf(at + 1, "%31s %" SCNx64 " <", name, &target) != 2 ||
		    !strchr("jclx", name[0]) || (name[0] == 'c' && strcmp(name, "call")) ||
		    (name[0] == 'l' && strncmp(name, "loop", 4)) ||
		    (name[0] == 'x' && strcmp(name, "xbegin")) || !strchr(at, '<') ||
		    module_vaddr_to_offset(module, target, &offset))
			continue;
		if (count % 65536 == 0)
			targets = realloc(targets, (count + 65536) * sizeof(*targets));
		targets[count++] = target;
	}
	if (pipe)
		pclose(pipe);
	qsort(targets, count, sizeof(*targets), compare_numbers);
	ranges = calloc(count + 1, sizeof(*ranges));
	dangers = calloc(count + 1, sizeof(*dangers));
	for (size_t i = 0; i < count; i++)
		if (kept == 0 || ranges[kept - 1].start != targets[i])
			ranges[kept++] = (struct module_range){targets[i], targets[i] + 1};
	if (module_dangers(module, ranges, kept, dangers))
		missed = SIZE_MAX;
	for (size_t i = 0; i < kept && missed != SIZE_MAX; i++)
		if (!(dangers[i] & MODULE_DANGER_BRANCH) && missed++ < 3)
			note("%" PRIx64, ranges[i].start);
	ok(kept > 1000 && missed == 0, "%s: %zu targets of direct branches, %zu missed", path, kept,
	   missed);
	free(targets);
	free(ranges);
	free(dangers);
	module_close(module);
}

/* --- what a compiler makes ----------------------------------------------------------------- */

#define CASES(f)                                                                                   \
	"case 0: return " f "(x, 1);\ncase 1: x = " f "(3, x); break;\n"                           \
	"case 2: return " f "(x, 2) * 5;\ncase 3: x = " f "(x, 7) + 1; break;\n"                   \
	"case 4: return 7;\ncase 5: x ^= 0x55; break;\ncase 6: " f "(0, 0); break;\n"              \
	"default: return x;\n"

static const char switch_source[] =
        "extern int out(int, int);\n"
        "int framed(int n, int x) { int keep[4] = {n, x}; out(keep[0], (int)(long)keep);\n"
        "switch (n) {\n" CASES(
                "out") "}\nreturn out(keep[1], x) + n; }\n"
                       "int leaf(int n, int x) { switch (n) {\ncase 0: return x * 3;\ncase 1: "
                       "return x ^ 99;\n"
                       "case 2: return x >> 3;\ncase 3: return ~x;\ncase 4: return x % 7;\ncase 5: "
                       "return -x;\n"
                       "case 6: return x & 77; }\nreturn x; }\n"
                       "int looped(int n, int x) { while (x > n) { switch (x & 7) {\n" CASES(
                               "out") "}\nx--; }\n"
                                      "return x; }\n";

/* Gives the label after each line that `is_entry` likes a name of its own; how many? */
static int name_labels(const char *from, const char *to, const char *prefix,
                       bool (*wanted)(const char *line, void *context), void *context)
{
	FILE *in = fopen(sample_path(from), "r"), *out = fopen(sample_path(to), "w");
	char line[1024];
	int count = 0;

	while (in && out && fgets(line, sizeof(line), in)) {
		fputs(line, out);
		if (line[0] == '.' && line[1] == 'L' && wanted(line, context))
			fprintf(out, ".globl %s%d\n.type %s%d, @notype\n%s%d:\n", prefix, count,
			        prefix, count, prefix, count),
			        count++;
	}
	if (in)
		fclose(in);
	if (out)
		fclose(out);
	return count;
}

struct names {
	char items[256][32];
	int count;
};

static bool is_named(const char *line, void *context)
{
	const struct names *names = context;

	for (int i = 0; i < names->count; i++) {
		size_t length = strlen(names->items[i]);

		if (!strncmp(line, names->items[i], length) && line[length] == ':')
			return true;
	}
	return false;
}

/* The targets of jump tables in an assembly file: `.long .L5-.L4`, `.quad .L5`. */
static void table_targets(const char *file, struct names *names)
{
	FILE *in = fopen(sample_path(file), "r");
	bool in_table = false;
	char line[1024];

	names->count = 0;
	while (in && fgets(line, sizeof(line), in)) {
		if (strstr(line, ".section"))
			in_table = strstr(line, ".rodata") != NULL;
		else if (strstr(line, ".text"))
			in_table = false;
		if (in_table && names->count < 256 &&
		    (sscanf(line, " .long %31[.A-Za-z0-9_]-", names->items[names->count]) == 1 ||
		     sscanf(line, " .quad %31[.A-Za-z0-9_]", names->items[names->count]) == 1) &&
		    !strncmp(names->items[names->count], ".L", 2))
			names->count++;
	}
	if (in)
		fclose(in);
}

static void switches(const char *compiler)
{
	struct names names;
	struct module *module;
	int count, missed = 0;

	if (run("%s -S -o switch.s switch.c", compiler)) {
		skip("%s is not there", compiler);
		return;
	}
	table_targets("switch.s", &names);
	count = name_labels("switch.s", "named.s", "target_", is_named, &names);
	if (run("gcc -shared -o switch.so named.s 2>/dev/null"))
		count = 0;
	module = open_sample("switch.so", NULL);
	for (int i = 0; i < count; i++) {
		char name[32];
		uint64_t vaddr;

		snprintf(name, sizeof(name), "target_%d", i);
		vaddr = label("switch.so", name);
		if (!(danger_of(module, vaddr, 1) & MODULE_DANGER_INDIRECT) && missed++ < 3)
			note("%s at %" PRIx64, name, vaddr);
	}
	ok(count >= 10 && missed == 0, "%s: %d targets of jump tables", compiler, count);
	if (strstr(compiler, "-O2"))
		ok(danger_of(module, label("switch.so", "framed") + 1, 5) == 0,
		   "%s: the prologue of a function with a switch is clear", compiler);
	if (!strcmp(compiler, "gcc -O2 -fPIC"))
		ok(danger_of(module, label("switch.so", "leaf") + 1, 5) & MODULE_DANGER_INDIRECT,
		   "%s: without a frame, it cannot be told", compiler);
	module_close(module);
}

/* A cold fragment that jumps back into its function. */
static void cold_fragment(void)
{
	struct module *module;
	uint64_t target = 0;
	char line[256];
	FILE *pipe;

	write_sample("cold.c",
	             "extern int rare(int) __attribute__((cold));\nextern int often(int);\n"
	             "int work(int x) { for (int i = 0; i < x; i++) { if (often(i) < 0)\n"
	             "x += rare(i); often(x); } return x; }\n");
	run("gcc -O2 -fPIC -shared -o cold.so cold.c");
	snprintf(line, sizeof(line),
	         "objdump -d --disassemble=work.cold %s | sed -n "
	         "'s/.*jmp *\\([0-9a-f]*\\) <work+.*/\\1/p'",
	         sample_path("cold.so"));
	pipe = popen(line, "r");
	if (pipe && fscanf(pipe, "%" SCNx64, &target) != 1)
		target = 0;
	if (pipe)
		pclose(pipe);
	module = open_sample("cold.so", NULL);
	ok(target && danger_of(module, target, 1) == MODULE_DANGER_BRANCH,
	   "a cold fragment jumps back");
	module_close(module);
}

/* --- landing pads -------------------------------------------------------------------------- */

static const char throw_source[] =
        "struct A { A(); ~A(); int x; };\nextern int out(int);\n"
        "int simple(int x) { try { return out(x); } catch (int e) { return e + out(1); } }\n"
        "int cleanup(int x) { A a, b; return out(x) + a.x + b.x; }\n"
        "int nested(int x) { try { A a; try { out(x); A b; out(x + 1); } catch (const char *) {\n"
        "out(3); throw; } } catch (...) { A c; return out(4); } return 0; }\n"
        "int quiet(int x) { return out(x) + out(x + 1); }\n"
        "void strict(int x) noexcept { A a; out(x); }\n";

/* Third field of each call site, between .LLSDACSB and .LLSDACSE (GCC) or .Lcst (LLVM). */
static void pad_names(const char *file, struct names *names)
{
	FILE *in = fopen(sample_path(file), "r");
	bool in_table = false;
	char line[1024], name[32];
	int field = 0;

	names->count = 0;
	while (in && fgets(line, sizeof(line), in)) {
		if (!strncmp(line, ".LLSDACSB", 9) || !strncmp(line, ".Lcst_begin", 11)) {
			in_table = true;
			field = 0;
		} else if (!strncmp(line, ".LLSDACSE", 9) || !strncmp(line, ".Lcst_end", 9)) {
			in_table = false;
		} else if (in_table && (strstr(line, ".uleb128") || strstr(line, ".byte"))) {
			if (field++ % 4 == 2 && names->count < 256 &&
			    sscanf(line, " .uleb128 %31[.A-Za-z0-9_]-", name) == 1 &&
			    name[0] == '.')
				strcpy(names->items[names->count++], name);
		}
	}
	if (in)
		fclose(in);
}

static bool is_label(const char *line, void *context)
{
	return !is_named(line, context) && strncmp(line, ".LLSDA", 6) && strncmp(line, ".Lcst", 5);
}

static void landing_pads(const char *compiler)
{
	struct names names;
	struct module *module;
	int count, missed = 0, idle = 0, others = 0;

	if (run("%s -S -o throw.s throw.cc", compiler)) {
		skip("%s is not there", compiler);
		return;
	}
	pad_names("throw.s", &names);
	count = name_labels("throw.s", "pads.s", "pad_", is_named, &names);
	others = name_labels("pads.s", "both.s", "label_", is_label, &names);
	if (run("gcc -shared -o throw.so both.s -lstdc++"))
		count = 0;
	module = open_sample("throw.so", NULL);
	for (int i = 0; i < count + others; i++) {
		char name[32];
		uint64_t vaddr, offset;
		bool flagged, is_pad = i < count, same = false;

		snprintf(name, sizeof(name), is_pad ? "pad_%d" : "label_%d",
		         is_pad ? i : i - count);
		vaddr = label("throw.so", name);
		if (module_vaddr_to_offset(module, vaddr, &offset))
			continue; /* a label in data */
		for (int j = 0; j < count && !is_pad; j++) {
			char pad[32];

			snprintf(pad, sizeof(pad), "pad_%d", j);
			same |= label("throw.so", pad) == vaddr;
		}
		flagged = danger_of(module, vaddr, 1) & MODULE_DANGER_LANDING_PAD;
		missed += is_pad && !flagged;
		idle += !is_pad && !same && flagged;
	}
	ok(count >= 6 && missed == 0, "%s: %d landing pads", compiler, count);
	ok(idle == 0, "%s: no other label is one", compiler);
	module_close(module);
}

/* --- figures ------------------------------------------------------------------------------- */

static void figures(const char *path)
{
	const struct module_symbol *symbols;
	struct module *module = open_sample(path, NULL);
	size_t count = module_symbols(module, &symbols), n = 0, clear = 0, of[5] = {0};
	struct module_range *ranges = calloc(count + 1, sizeof(*ranges));
	uint32_t *dangers = calloc(count + 1, sizeof(*dangers));
	double begin, first;
	int error;

	for (size_t i = 0; i < count; i++) {
		uint64_t start, end;

		if (module_function_extent(module, symbols[i].vaddr, &start, &end) ||
		    start != symbols[i].vaddr || end - start < 2 ||
		    (n > 0 && ranges[n - 1].end > start + 1))
			continue;
		ranges[n++] = (struct module_range){start + 1, end < start + 6 ? end : start + 6};
	}
	error = n ? module_dangers(module, ranges, 1, dangers) : 0; /* reads the text */
	begin = seconds();
	error |= n ? module_dangers(module, ranges + n / 2, 1, dangers) : 0;
	first = seconds() - begin;
	begin = seconds();
	error |= module_dangers(module, ranges, n, dangers);
	begin = seconds() - begin;
	for (size_t i = 0; i < n; i++) {
		clear += dangers[i] == 0;
		for (int bit = 0; bit < 5; bit++)
			of[bit] += dangers[i] >> bit & 1;
	}
	ok(error == 0 && n > 0, "%s: %zu function entries", path, n);
	note("clear %.1f %%; branch %.1f, indirect %.1f, landing pad %.1f, rseq %.1f, unknown %.1f "
	     "%%",
	     100.0 * (double)clear / (double)n, 100.0 * (double)of[0] / (double)n,
	     100.0 * (double)of[1] / (double)n, 100.0 * (double)of[2] / (double)n,
	     100.0 * (double)of[3] / (double)n, 100.0 * (double)of[4] / (double)n);
	note("one range: %.3f s; all of them: %.3f s", first, begin);
	free(ranges);
	free(dangers);
	module_close(module);
}

/* The biggest of what may be installed. */
static void biggest(void)
{
	char path[512] = "";
	FILE *pipe =
	        popen("ls -LS /usr/lib/x86_64-linux-gnu/*.so.[0-9]* 2>/dev/null | head -1", "r");

	if (pipe && fscanf(pipe, "%511s", path) != 1)
		*path = 0;
	if (pipe)
		pclose(pipe);
	if (*path)
		figures(path);
}

int main(void)
{
	static const char *const switch_compilers[] = {"gcc -O2 -fPIC",
	                                               "gcc -O0 -fPIC",
	                                               "gcc -Os -fno-pic -mcmodel=large",
	                                               "clang -O2 -fPIC -fno-addrsig",
	                                               "clang -O0 -fPIC -fno-addrsig",
	                                               "gcc -O2 -fPIC -fno-omit-frame-pointer"};
	static const char *const throw_compilers[] = {"g++ -O2 -fPIC", "g++ -O0 -fPIC",
	                                              "clang++ -O2 -fPIC -fno-addrsig"};

	sample_start();
	write_sample("hand.s", asm_source);
	run("gcc -shared -nostdlib -o hand.so hand.s");
	by_hand();
	branch_sources();
	rseq_edges("hand.so");
	/* In a fixed executable the descriptors are in the file; --strip-all takes the names. */
	run("gcc -no-pie -nostdlib -Wl,-e,clean -o fixed hand.s");
	rseq_edges("fixed");
	stripped();
	arguments();
	cold_fragment();
	write_sample("switch.c", switch_source);
	for (size_t i = 0; i < sizeof(switch_compilers) / sizeof(*switch_compilers); i++)
		switches(switch_compilers[i]);
	write_sample("throw.cc", throw_source);
	for (size_t i = 0; i < sizeof(throw_compilers) / sizeof(*throw_compilers); i++)
		landing_pads(throw_compilers[i]);
	for (size_t i = 0; i < sizeof(sample_libraries) / sizeof(*sample_libraries); i++) {
		if (access(sample_libraries[i], R_OK)) {
			skip("%s is not installed", sample_libraries[i]);
			continue;
		}
		if (i < 3)
			objdump_targets(sample_libraries[i]);
		figures(sample_libraries[i]);
	}
	biggest();
	return done();
}
