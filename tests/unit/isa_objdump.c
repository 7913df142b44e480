/* SPDX-License-Identifier: MIT */
/*
 * isa_objdump.c - lengths, classes and targets of all of libc's instructions against objdump.
 *
 * objdump separates prefixes that have no effect ("rex.W call", "data16 call") and prints
 * some of them on lines of their own; those lines are joined again before they are compared.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "isa/isa.h"
#include "tap.h"

struct line {
	uint64_t address;
	uint8_t bytes[24];
	unsigned length;
	char text[160]; /* mnemonic and operands */
};

static unsigned long instructions, mismatches, joined, bad, per_class[ISA_PINNED + 1];

/* "  401000:\t48 89 e5 \tmov    %rsp,%rbp" */
static bool parse_line(char *in, struct line *line)
{
	char *end, *text;

	line->address = strtoull(in, &end, 16);
	if (end == in || end[0] != ':' || end[1] != '\t')
		return false;
	line->length = 0;
	for (in = end + 2; line->length < sizeof(line->bytes); in = end) {
		unsigned long byte = strtoul(in, &end, 16);

		if (end == in || end - in > 3)
			break;
		line->bytes[line->length++] = (uint8_t)byte;
		if (*end == ' ' && (end[1] == '\t' || end[1] == ' '))
			break;
	}
	text = strchr(end, '\t');
	snprintf(line->text, sizeof(line->text), "%s", text ? text + 1 : "");
	line->text[strcspn(line->text, "\n")] = 0;
	return line->length > 0;
}

static bool is_prefix(const char *word, size_t length)
{
	static const char *const prefixes[] = {"data16", "addr32", "bnd",   "notrack", "lock",
	                                       "rep",    "repz",   "repnz", "cs",      "ds",
	                                       "es",     "ss",     "fs",    "gs"};

	if (length >= 3 && !strncmp(word, "rex", 3))
		return true;
	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
		if (strlen(prefixes[i]) == length && !strncmp(word, prefixes[i], length))
			return true;
	return false;
}

/* The mnemonic after the prefixes. Empty if the line holds prefixes only. */
static const char *mnemonic(const char *text)
{
	size_t length = strcspn(text, " ");

	while (length > 0 && is_prefix(text, length)) {
		text += length;
		text += strspn(text, " ");
		length = strcspn(text, " ");
	}
	return text;
}

static bool starts(const char *text, const char *word)
{
	return !strncmp(text, word, strlen(word)) && strchr(" ", text[strlen(word)]);
}

static bool any_of(const char *text, const char *const *words)
{
	for (; *words; words++)
		if (starts(text, *words))
			return true;
	return false;
}

/* What objdump's text says the class is. */
static enum isa_class class_of_text(const char *text)
{
	static const char *const traps[] = {"int3", "int1", "ud0", "ud1", "ud2", "hlt", NULL};
	static const char *const loops[] = {"loop", "loope", "loopne", NULL};
	static const char *const pinned[] = {
	        "xbegin", "xend", "xabort", "lcall", "ljmp",   "lret",   "iret",     "iretq",
	        "in",     "out",  "cli",    "sti",   "umwait", "tpause", "umonitor", NULL};
	const char *name = mnemonic(text);
	const char *operand = name + strcspn(name, " ");
	bool indirect = operand[strspn(operand, " ")] == '*';

	if (any_of(name, pinned))
		return ISA_PINNED;
	if (any_of(name, traps))
		return ISA_TRAP;
	if (starts(name, "syscall") || starts(name, "sysenter"))
		return ISA_SYSCALL;
	if (starts(name, "int"))
		return strstr(name, "$0x80") ? ISA_SYSCALL : ISA_TRAP;
	if (starts(name, "call"))
		return indirect ? ISA_CALL_INDIRECT : ISA_CALL;
	if (starts(name, "jmp"))
		return indirect ? ISA_JUMP_INDIRECT : ISA_BRANCH;
	if (name[0] == 'j' || any_of(name, loops))
		return ISA_BRANCH_IF;
	if (starts(name, "ret"))
		return ISA_RETURN;
	if (starts(name, "endbr64"))
		return ISA_LANDING;
	return strstr(name, "(%rip)") ? ISA_PC_RELATIVE : ISA_PLAIN;
}

/* "jmp 401000 <x>" or "lea 0x1234(%rip),%rax        # 402000 <y>"; 0 if there is none. */
static uint64_t target_of_text(const char *text, enum isa_class class)
{
	const char *name = mnemonic(text), *hash = strchr(text, '#');

	switch (class) {
	case ISA_BRANCH:
	case ISA_BRANCH_IF:
	case ISA_CALL:
		name += strcspn(name, " ");
		return strtoull(name, NULL, 16);
	case ISA_PINNED:
		return starts(name, "xbegin") ? strtoull(name + 6, NULL, 16) : 0;
	default:
		return strstr(text, "(%rip)") && hash ? strtoull(hash + 1, NULL, 16) : 0;
	}
}

static void compare(const struct line *line)
{
	enum isa_class class = class_of_text(line->text);
	uint64_t target = target_of_text(line->text, class);
	struct isa_insn insn;
	int length = isa_x86_64.decode(line->bytes, line->length, line->address, &insn);

	instructions++;
	if (length == (int)line->length && insn.class == class && insn.has_target == !!target &&
	    insn.target == target) {
		per_class[class]++;
		return;
	}
	if (mismatches++ < 20)
		note("%" PRIx64 ": objdump %u bytes, class %d, target %#" PRIx64
		     " (%s); we %d, class %d, target %#" PRIx64,
		     line->address, line->length, class, target, line->text, length, insn.class,
		     insn.target);
}

/* Lines of prefixes belong to the next line. */
static void join(struct line *held, const struct line *line)
{
	if (held->length == 0 || held->length + line->length > sizeof(held->bytes)) {
		*held = *line;
		return;
	}
	memcpy(held->bytes + held->length, line->bytes, line->length);
	held->length += line->length;
	memcpy(held->text, line->text, sizeof(held->text));
	joined++;
}

static void compare_file(const char *path)
{
	char command[512], text[1024];
	struct line line, held = {0};
	FILE *dump;

	snprintf(command, sizeof(command), "objdump -d -w --insn-width=24 %s 2>/dev/null", path);
	dump = popen(command, "r");
	if (!dump)
		return;
	while (fgets(text, sizeof(text), dump)) {
		if (!parse_line(text, &line))
			continue;
		join(&held, &line);
		if (*mnemonic(held.text) == 0)
			continue;
		if (strstr(held.text, "(bad)"))
			bad++; /* data among the code: objdump resynchronises by itself */
		else
			compare(&held);
		held.length = 0;
	}
	pclose(dump);
}

/* libc as the loader found it, whatever the distribution calls its folder. */
static bool find_libc(char *path, size_t size)
{
	char line[512], *slash;
	FILE *maps = fopen("/proc/self/maps", "r");
	bool found = false;

	while (maps && !found && fgets(line, sizeof(line), maps)) {
		line[strcspn(line, "\n")] = 0;
		slash = strchr(line, '/');
		found = slash && strstr(slash, "/libc.so.6");
		if (found)
			snprintf(path, size, "%s", slash);
	}
	if (maps)
		fclose(maps);
	return found;
}

int main(void)
{
	char path[400];

	if (!find_libc(path, sizeof(path))) {
		skip("the C library is not libc.so.6");
		return done();
	}
	compare_file(path);
	note("%s: %lu instructions, %lu joined from several lines, %lu not decoded by objdump",
	     path, instructions, joined, bad);
	note("plain %lu, relative %lu, jmp %lu, jcc %lu, call %lu, call* %lu, jmp* %lu, ret %lu, "
	     "endbr %lu, syscall %lu, trap %lu, pinned %lu",
	     per_class[0], per_class[1], per_class[2], per_class[3], per_class[4], per_class[5],
	     per_class[6], per_class[7], per_class[8], per_class[9], per_class[10], per_class[11]);
	ok(instructions > 100000, "objdump lists libc's instructions");
	ok(mismatches == 0, "length, class and target are the same: %lu mismatches", mismatches);
	return done();
}
