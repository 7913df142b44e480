/* SPDX-License-Identifier: MIT */
/*
 * isa_x86.c - x86-64 instruction layer against GNU as.
 *
 * Every table holds assembly, for what goes in and for what must come out; `as` turns both
 * into bytes when the test runs, so no expected byte was written by us. In a row's text `A`
 * stands for address 0: `jmp A+0x401000` is a jump to 0x401000 from wherever the row is.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "isa/isa.h"
#include "tap.h"

/* --- assembling ---------------------------------------------------------------------------- */

enum { PIECE_MAX = 64, PIECES_MAX = 600 };

struct piece {
	uint32_t length;
	uint8_t bytes[PIECE_MAX];
};

static struct piece pieces[PIECES_MAX];
static unsigned piece_count;
static FILE *source;
static char folder[] = "/tmp/isa_x86.XXXXXX";

/* Adds a piece that will stand at `address`; returns its number. */
static unsigned piece(const char *text, uint64_t address)
{
	unsigned n = piece_count++;

	if (n >= PIECES_MAX)
		abort();
	fprintf(source, ".long 9f - 8f\n8:\nstart%u: .set A, start%u - %#" PRIx64 "\n%s\n9:\n", n,
	        n, address, text);
	return n;
}

static bool run(const char *format)
{
	char command[512];

	snprintf(command, sizeof(command), format, folder, folder);
	return system(command) == 0;
}

/* One source for all tables: a process per row would take most of the time. */
static bool assemble(void)
{
	char path[64];
	FILE *file;
	unsigned n = 0;

	fclose(source);
	snprintf(path, sizeof(path), "%s/t.bin", folder);
	if (!run("as --64 -o %s/t.o %s/t.s") || !run("objcopy -O binary -j .text %s/t.o %s/t.bin"))
		return false;
	file = fopen(path, "rb");
	if (!file)
		return false;
	while (n < piece_count && fread(&pieces[n].length, 4, 1, file) == 1 &&
	       pieces[n].length <= PIECE_MAX &&
	       fread(pieces[n].bytes, 1, pieces[n].length, file) == pieces[n].length)
		n++;
	fclose(file);
	return n == piece_count;
}

static bool open_source(void)
{
	char path[64];

	if (!mkdtemp(folder))
		return false;
	snprintf(path, sizeof(path), "%s/t.s", folder);
	source = fopen(path, "w");
	if (!source)
		return false;
	fprintf(source, ".intel_syntax noprefix\n.text\n");
	return true;
}

static const char *hex(const uint8_t *bytes, int length)
{
	static char text[4][3 * PIECE_MAX + 1];
	static unsigned turn;
	char *out = text[turn++ % 4];

	out[0] = 0;
	for (int i = 0; i < length && i < PIECE_MAX; i++)
		sprintf(out + 3 * i, "%02x ", bytes[i]);
	return out;
}

/* --- relocation ---------------------------------------------------------------------------- */

#define LOW  0x401000ull       /* a program that is not position-independent */
#define HIGH 0x7f1234560000ull /* a shared library */
#define NEAR 0x7f1234000000ull /* within 2 GB of HIGH */
#define FAR  0x550000000000ull /* within 2 GB of nothing */

struct relocation {
	const char *code;
	uint64_t from, to;
	const char *copy; /* or NULL: refused with `error` */
	int error;
};

/* clang-format off */
static const struct relocation relocations[] = {
	/* Nothing to do. */
	{"push rbp", LOW, FAR, "push rbp", 0},
	{"mov rbp, rsp", LOW, FAR, "mov rbp, rsp", 0},
	{"endbr64", LOW, FAR, "endbr64", 0},
	{"ret", LOW, FAR, "ret", 0},
	{"rep ret", LOW, FAR, "rep ret", 0},
	{"ret 16", LOW, FAR, "ret 16", 0},
	{"leave", LOW, FAR, "leave", 0},
	{"enter 16, 0", LOW, FAR, "enter 16, 0", 0},
	{"pushfq", LOW, FAR, "pushfq", 0},
	{"popfq", LOW, FAR, "popfq", 0},
	{"nop dword ptr [rax]", LOW, FAR, "nop dword ptr [rax]", 0},
	{"lock cmpxchg [rdi], rsi", LOW, FAR, "lock cmpxchg [rdi], rsi", 0},
	{"rep movsb", LOW, FAR, "rep movsb", 0},
	{"movabs rax, 0x1122334455667788", LOW, FAR, "movabs rax, 0x1122334455667788", 0},
	{"movabs rax, [0x1122334455667788]", LOW, FAR, "movabs rax, [0x1122334455667788]", 0},
	{"mov eax, [0x1000]", LOW, FAR, "mov eax, [0x1000]", 0},
	{"mov eax, [rbp+0]", LOW, FAR, "mov eax, [rbp+0]", 0},
	{"mov eax, fs:[0x28]", LOW, FAR, "mov eax, fs:[0x28]", 0},
	{"vmovdqu64 zmm1{k1}, [rdi+64]", LOW, FAR, "vmovdqu64 zmm1{k1}, [rdi+64]", 0},
	{"rdpid rax", LOW, FAR, "rdpid rax", 0},
	{"wrfsbase rax", LOW, FAR, "wrfsbase rax", 0},
	{"rdtsc", LOW, FAR, "rdtsc", 0},
	{"cpuid", LOW, FAR, "cpuid", 0},
	{"rdsspq rax", LOW, FAR, "rdsspq rax", 0},
	{"xtest", LOW, FAR, "xtest", 0},

	/* Relative to rip, in reach; the displacement is last, or an immediate follows. */
	{"mov rax, [rip+A+0x7f1234570000]", HIGH, NEAR, "mov rax, [rip+A+0x7f1234570000]", 0},
	{"lea r15, [rip+A+0x7f1234570000]", HIGH, NEAR, "lea r15, [rip+A+0x7f1234570000]", 0},
	{"mov dword ptr [rip+A+0x7f1234570000], 0x11223344", HIGH, NEAR,
	 "mov dword ptr [rip+A+0x7f1234570000], 0x11223344", 0},
	{"cmp byte ptr [rip+A+0x7f1234570000], 7", HIGH, NEAR, "cmp byte ptr [rip+A+0x7f1234570000], 7", 0},
	{"mov word ptr [rip+A+0x7f1234570000], 0x1122", HIGH, NEAR,
	 "mov word ptr [rip+A+0x7f1234570000], 0x1122", 0},
	{"imul rax, [rip+A+0x7f1234570000], 0x12345678", HIGH, NEAR,
	 "imul rax, [rip+A+0x7f1234570000], 0x12345678", 0},
	{"shld [rip+A+0x7f1234570000], rax, 5", HIGH, NEAR, "shld [rip+A+0x7f1234570000], rax, 5", 0},
	{"lock inc dword ptr [rip+A+0x7f1234570000]", HIGH, NEAR,
	 "lock inc dword ptr [rip+A+0x7f1234570000]", 0},
	{"push qword ptr [rip+A+0x7f1234570000]", HIGH, NEAR, "push qword ptr [rip+A+0x7f1234570000]", 0},
	{"mov rax, fs:[rip+A+0x7f1234570000]", HIGH, NEAR, "mov rax, fs:[rip+A+0x7f1234570000]", 0},
	{"movaps xmm9, [rip+A+0x7f1234570000]", HIGH, NEAR, "movaps xmm9, [rip+A+0x7f1234570000]", 0},
	{"pshufd xmm9, [rip+A+0x7f1234570000], 0x1b", HIGH, NEAR,
	 "pshufd xmm9, [rip+A+0x7f1234570000], 0x1b", 0},
	{"vpaddd ymm1, ymm2, [rip+A+0x7f1234570000]", HIGH, NEAR,
	 "vpaddd ymm1, ymm2, [rip+A+0x7f1234570000]", 0},
	{"vpalignr xmm1, xmm2, [rip+A+0x7f1234570000], 3", HIGH, NEAR,
	 "vpalignr xmm1, xmm2, [rip+A+0x7f1234570000], 3", 0},
	{"vpaddd zmm21, zmm22, [rip+A+0x7f1234570000]", HIGH, NEAR,
	 "vpaddd zmm21, zmm22, [rip+A+0x7f1234570000]", 0},
	{"vpternlogd zmm21, zmm22, [rip+A+0x7f1234570000]{1to16}, 0x55", HIGH, NEAR,
	 "vpternlogd zmm21, zmm22, [rip+A+0x7f1234570000]{1to16}, 0x55", 0},
	{"vblendvps xmm1, xmm2, [rip+A+0x7f1234570000], xmm3", HIGH, NEAR,
	 "vblendvps xmm1, xmm2, [rip+A+0x7f1234570000], xmm3", 0},
	{"vfmaddps xmm1, xmm2, [rip+A+0x7f1234570000], xmm3", HIGH, NEAR,
	 "vfmaddps xmm1, xmm2, [rip+A+0x7f1234570000], xmm3", 0},
	{"fld qword ptr [rip+A+0x7f1234570000]", HIGH, NEAR, "fld qword ptr [rip+A+0x7f1234570000]", 0},
	{"pfadd mm0, [rip+A+0x7f1234570000]", HIGH, NEAR, "pfadd mm0, [rip+A+0x7f1234570000]", 0},
	/* The ends of reach: a displacement of 2^31-1 and of -2^31, then one byte more. */
	{"cmp eax, [rip+A+0x401000]", LOW, 0x401000 - 6 - 0x7fffffff + 0x100000000 - 1,
	 ".byte 0x3b,5; .long 0x80000000", 0},
	{"cmp eax, [rip+A+0x401000]", LOW, 0x401000 - 6 + 0x80000001, NULL, -ERANGE},
	{"cmp eax, [rip+A+0x80401000]", 0x80401000, 0x401001 - 6, ".byte 0x3b,5; .long 0x7fffffff", 0},
	{"cmp eax, [rip+A+0x80401000]", 0x80401000, 0x401000 - 6, NULL, -ERANGE},

	/* Relative to rip, out of reach. */
	{"lea rax, [rip+A+0x402000]", LOW, FAR, "movabs rax, 0x402000", 0},
	{"lea rsp, [rip+A+0x402000]", LOW, FAR, "movabs rsp, 0x402000", 0},
	{"lea r12, [rip+A+0x7f1234570000]", HIGH, FAR, "movabs r12, 0x7f1234570000", 0},
	{"lea edx, [rip+A+0x7f1234570000]", HIGH, FAR, "mov edx, 0x34570000", 0},
	{"lea r10d, [rip+A+0x7f1234570000]", HIGH, FAR, "mov r10d, 0x34570000", 0},
	{"lea dx, [rip+A+0x7f1234570000]", HIGH, FAR, NULL, -ERANGE},
	{"mov rax, [rip+A+0x402000]", LOW, FAR, "movabs rax, 0x402000; mov rax, [rax]", 0},
	{"mov rcx, [rip+A+0x402000]", LOW, FAR, "movabs rcx, 0x402000; mov rcx, [rcx]", 0},
	{"mov rbp, [rip+A+0x402000]", LOW, FAR, "movabs rbp, 0x402000; mov rbp, [rbp+0]", 0},
	{"mov rdi, [rip+A+0x402000]", LOW, FAR, "movabs rdi, 0x402000; mov rdi, [rdi]", 0},
	{"mov r8, [rip+A+0x402000]", LOW, FAR, "movabs r8, 0x402000; mov r8, [r8]", 0},
	{"mov r12, [rip+A+0x402000]", LOW, FAR, "movabs r12, 0x402000; mov r12, [r12]", 0},
	{"mov r13, [rip+A+0x402000]", LOW, FAR, "movabs r13, 0x402000; mov r13, [r13+0]", 0},
	{"mov r15, [rip+A+0x402000]", LOW, FAR, "movabs r15, 0x402000; mov r15, [r15]", 0},
	{"mov ebx, [rip+A+0x402000]", LOW, FAR, "movabs rbx, 0x402000; {rex} mov ebx, [rbx]", 0},
	{"mov r13d, [rip+A+0x402000]", LOW, FAR, "movabs r13, 0x402000; mov r13d, [r13+0]", 0},
	{"mov rsp, [rip+A+0x402000]", LOW, FAR, NULL, -ERANGE},
	{"mov bx, [rip+A+0x402000]", LOW, FAR, NULL, -ERANGE},
	{"mov bl, [rip+A+0x402000]", LOW, FAR, NULL, -ERANGE},
	{"mov rax, fs:[rip+A+0x402000]", LOW, FAR, NULL, -ERANGE},
	{"mov rax, gs:[rip+A+0x402000]", LOW, FAR, NULL, -ERANGE},
	{"mov [rip+A+0x402000], rax", LOW, FAR, NULL, -ERANGE},
	{"movzx eax, byte ptr [rip+A+0x402000]", LOW, FAR, NULL, -ERANGE},
	{"cmp dword ptr [rip+A+0x402000], 1", LOW, FAR, NULL, -ERANGE},
	{"vmovaps ymm0, [rip+A+0x402000]", LOW, FAR, NULL, -ERANGE},
	{"call [rip+A+0x402000]", LOW, FAR, NULL, -ERANGE},
	{"jmp [rip+A+0x402000]", LOW, FAR, NULL, -ERANGE},
	/* Relative to eip. */
	{"mov eax, [eip+A+0x402000]", LOW, LOW + 64, NULL, -ENOTSUP},
	{"lea rax, [eip+A+0x402000]", LOW, LOW + 64, NULL, -ENOTSUP},
	{"call [eip+A+0x402000]", LOW, LOW + 64, NULL, -ENOTSUP},
	{"jmp [eip+A+0x402000]", LOW, LOW + 64, NULL, -ENOTSUP},
	/* 67 with another base is nothing special. */
	{"lea eax, [edi+4]", LOW, FAR, "lea eax, [edi+4]", 0},

	/* Jumps. */
	{"jmp A+0x401010", LOW, LOW + 0x10000, "jmp A+0x401010", 0},
	{"jmp A+0x411000", LOW, LOW + 0x20000, "jmp A+0x411000", 0},
	{"jmp A+0x401010", LOW, LOW + 32, "{disp32} jmp A+0x401010", 0},
	{"jmp A+0x401010", LOW, FAR, "jmp [rip+0]; .quad 0x401010", 0},
	{"bnd jmp A+0x411000", LOW, LOW + 0x20000, "bnd jmp A+0x411000", 0},
	{"bnd jmp A+0x411000", LOW, FAR, "bnd jmp [rip+0]; .quad 0x411000", 0},
	{".byte 0x67; jmp A+0x411000", LOW, LOW + 0x20000, "jmp A+0x411000", 0},
	{"rex.W jmp A+0x411000", LOW, LOW + 0x20000, "jmp A+0x411000", 0},
	{"jmp rax", LOW, FAR, "jmp rax", 0},
	{"jmp rsp", LOW, FAR, "jmp rsp", 0},
	{"notrack jmp r11", LOW, FAR, "notrack jmp r11", 0},
	{"jmp [rdi+rax*8+16]", LOW, FAR, "jmp [rdi+rax*8+16]", 0},
	{"jmp [rsp-8]", LOW, FAR, "jmp [rsp-8]", 0},
	{"jmp [rip+A+0x7f1234570000]", HIGH, NEAR, "jmp [rip+A+0x7f1234570000]", 0},
	{"bnd jmp [rip+A+0x7f1234570000]", HIGH, NEAR, "bnd jmp [rip+A+0x7f1234570000]", 0},
	{".byte 0x66; jmp A+0x411000", LOW, LOW + 0x20000, NULL, -ENOTSUP},
	{".byte 0x66; jmp A+0x401010", LOW, LOW + 0x20000, NULL, -ENOTSUP},
	{".byte 0x66; jmp rax", LOW, LOW + 0x20000, NULL, -ENOTSUP},
	{".byte 0x66; ret", LOW, LOW + 0x20000, NULL, -ENOTSUP},

	/* Conditional jumps. */
#define JCC(cc, inverse)                                                                          \
	{"j" cc " A+0x401010", LOW, LOW + 0x10000, "j" cc " A+0x401010", 0},                      \
	{"j" cc " A+0x411000", LOW, LOW + 0x20000, "j" cc " A+0x411000", 0},                      \
	{"j" cc " A+0x411000", LOW, FAR, "j" inverse " 1f; jmp [rip+0]; .quad 0x411000; 1:", 0},  \
	{".byte 0x66; j" cc " A+0x411000", LOW, LOW + 0x20000, NULL, -ENOTSUP}
	JCC("o", "no"), JCC("no", "o"), JCC("b", "ae"), JCC("ae", "b"),
	JCC("e", "ne"), JCC("ne", "e"), JCC("be", "a"), JCC("a", "be"),
	JCC("s", "ns"), JCC("ns", "s"), JCC("p", "np"), JCC("np", "p"),
	JCC("l", "ge"), JCC("ge", "l"), JCC("le", "g"), JCC("g", "le"),
	{"bnd je A+0x411000", LOW, LOW + 0x20000, "bnd je A+0x411000", 0},
	{"bnd je A+0x411000", LOW, FAR, "bnd jne 1f; bnd jmp [rip+0]; .quad 0x411000; 1:", 0},
	{".byte 0x3e; je A+0x411000", LOW, LOW + 0x20000, "je A+0x411000", 0},

#define LOOP(name)                                                                                \
	{name " A+0x401010", LOW, LOW + 0x10000,                                                  \
	 name " 1f; jmp 2f; 1: jmp A+0x401010; 2:", 0},                                           \
	{name " A+0x401010", LOW, FAR,                                                            \
	 name " 1f; jmp 2f; 1: jmp [rip+0]; .quad 0x401010; 2:", 0},                              \
	{".byte 0x66; " name " A+0x401010", LOW, LOW + 0x10000, NULL, -ENOTSUP}
	LOOP("loop"), LOOP("loope"), LOOP("loopne"), LOOP("jrcxz"), LOOP("jecxz"),
	LOOP("addr32 loop"), LOOP("addr32 loope"), LOOP("addr32 loopne"),

	/* Direct calls: the return address is the original one. */
	{"call A+0x411000", LOW, LOW + 0x20000, "push 0x401005; jmp A+0x411000", 0},
	{"call A+0x411000", LOW, FAR, "push 0x401005; jmp [rip+0]; .quad 0x411000", 0},
	{"call A+0x401005", LOW, LOW + 0x20000, "push 0x401005; jmp A+0x401005", 0},
	{"call A+0x7f1234570000", HIGH, NEAR,
	 "push 0x34560005; mov dword ptr [rsp+4], 0x7f12; jmp A+0x7f1234570000", 0},
	{"call A+0x7f1234570000", HIGH, FAR,
	 "push 0x34560005; mov dword ptr [rsp+4], 0x7f12; jmp [rip+0]; .quad 0x7f1234570000", 0},
	{"call A+0x7f1282345678", 0x7f1282340000, NEAR, /* low half looks negative */
	 ".byte 0x68; .long 0x82340005; mov dword ptr [rsp+4], 0x7f12; jmp A+0x7f1282345678", 0},
	{"call A+0x82345678", 0x82340000, 0x82000000, /* 2 GB to 4 GB: the extension is wrong */
	 ".byte 0x68; .long 0x82340005; mov dword ptr [rsp+4], 0; jmp A+0x82345678", 0},
	{"call A-0x7dcba988", 0xffffffff82340000, 0xffffffff82000000, /* a kernel */
	 ".byte 0x68; .long 0x82340005; jmp A-0x7dcba988", 0},
	{"bnd call A+0x411000", LOW, LOW + 0x20000, "push 0x401006; bnd jmp A+0x411000", 0},
	{".byte 0x67; call A+0x411000", LOW, LOW + 0x20000, "push 0x401006; jmp A+0x411000", 0},
	{".byte 0x66, 0x66, 0x48; call A+0x411000", LOW, LOW + 0x20000,
	 "push 0x401008; jmp A+0x411000", 0},
	{".byte 0x66; call A+0x411000", LOW, LOW + 0x20000, NULL, -ENOTSUP},

	/* Indirect calls. */
	{"call rax", LOW, FAR, "push 0x401002; jmp rax", 0},
	{"call r11", LOW, FAR, "push 0x401003; jmp r11", 0},
	{"call r12", LOW, FAR, "push 0x401003; jmp r12", 0},
	{"call rax", HIGH, FAR, "push 0x34560002; mov dword ptr [rsp+4], 0x7f12; jmp rax", 0},
	{"notrack call rdx", LOW, FAR, "push 0x401003; notrack jmp rdx", 0},
	{"bnd call rdx", LOW, FAR, "push 0x401003; bnd jmp rdx", 0},
	{"call [rax]", LOW, FAR, "push 0x401002; jmp [rax]", 0},
	{"call [rbp-8]", LOW, FAR, "push 0x401003; jmp [rbp-8]", 0},
	{"call [r12]", LOW, FAR, "push 0x401004; jmp [r12]", 0},
	{"call [r12+rax*8]", LOW, FAR, "push 0x401004; jmp [r12+rax*8]", 0},
	{"call [rbx+r12*8+0x1000]", LOW, FAR, "push 0x401008; jmp [rbx+r12*8+0x1000]", 0},
	{"call [rax*8+0x1000]", LOW, FAR, "push 0x401007; jmp [rax*8+0x1000]", 0},
	{"call [0x1000]", LOW, FAR, "push 0x401007; jmp [0x1000]", 0},
	{"call fs:[0x10]", LOW, FAR, "push 0x401008; jmp fs:[0x10]", 0},
	{"call gs:[rax]", LOW, FAR, "push 0x401003; jmp gs:[rax]", 0},
	{"notrack call [rdi+8]", LOW, FAR, "push 0x401004; notrack jmp [rdi+8]", 0},
	{"call [edi+8]", LOW, FAR, "push 0x401004; jmp [edi+8]", 0},
	{"call [rip+A+0x411000]", LOW, LOW + 0x20000, "push 0x401006; jmp [rip+A+0x411000]", 0},
	{".byte 0x66, 0x48; call [rip+A+0x411000]", LOW, LOW + 0x20000,
	 "push 0x401008; .byte 0x66, 0x48; jmp [rip+A+0x411000]", 0},
	{"call [rip+A+0x7f1234570000]", HIGH, NEAR,
	 "push 0x34560006; mov dword ptr [rsp+4], 0x7f12; jmp [rip+A+0x7f1234570000]", 0},
	{"call [rsp]", LOW, FAR, "push 0x401003; jmp [rsp+8]", 0},
	{"call [rsp+16]", LOW, FAR, "push 0x401004; jmp [rsp+24]", 0},
	{"call [rsp+119]", LOW, FAR, "push 0x401004; jmp [rsp+127]", 0},
	{"call [rsp+120]", LOW, FAR, "push 0x401004; jmp [rsp+128]", 0},
	{"call [rsp+0x1000]", LOW, FAR, "push 0x401007; jmp [rsp+0x1008]", 0},
	{"call fs:[rsp+16]", LOW, FAR, "push 0x401005; jmp fs:[rsp+24]", 0},
	{"call [esp+16]", LOW, FAR, "push 0x401005; jmp [esp+24]", 0},
	{"call [rsp+0x7ffffff8]", LOW, FAR, NULL, -ENOTSUP},
	{"call [rsp-8]", LOW, FAR, NULL, -ENOTSUP},
	{"call [rsp-1]", LOW, FAR, NULL, -ENOTSUP},
	{"call [rsp-0x1000]", LOW, FAR, NULL, -ENOTSUP},
	{"call [rsp+rax*8]", LOW, FAR, NULL, -ENOTSUP},
	{"call [rsp+r12*8]", LOW, FAR, NULL, -ENOTSUP},
	{"call rsp", LOW, FAR, NULL, -ENOTSUP},
	{".byte 0x66; call rax", LOW, FAR, NULL, -ENOTSUP},
	/* Eleven prefixes and a disp8 are legal; with the disp32 they would be 16 bytes. */
	{".fill 9, 1, 0x3e; call [rsp+120]", LOW, FAR, NULL, -ENOTSUP},

	/* May not move. */
	{"syscall", LOW, FAR, NULL, -ENOTSUP}, {"sysenter", LOW, FAR, NULL, -ENOTSUP},
	{"int 0x80", LOW, FAR, NULL, -ENOTSUP}, {"int 3", LOW, FAR, NULL, -ENOTSUP},
	{"int3", LOW, FAR, NULL, -ENOTSUP}, {"int1", LOW, FAR, NULL, -ENOTSUP},
	{"ud2", LOW, FAR, NULL, -ENOTSUP}, {"hlt", LOW, FAR, NULL, -ENOTSUP},
	{"ud1 eax, [rip+A+0x402000]", LOW, LOW + 64, NULL, -ENOTSUP},
	{".byte 0xd6", LOW, FAR, NULL, -ENOTSUP}, /* udb, unknown to as 2.40 */
	{"xbegin A+0x402000", LOW, FAR, NULL, -ENOTSUP}, {"xend", LOW, FAR, NULL, -ENOTSUP},
	{"xabort 1", LOW, FAR, NULL, -ENOTSUP}, {"iretq", LOW, FAR, NULL, -ENOTSUP},
	{"retfq", LOW, FAR, NULL, -ENOTSUP}, {"sysretq", LOW, FAR, NULL, -ENOTSUP},
	{"jmp fword ptr [rax]", LOW, FAR, NULL, -ENOTSUP},
	{"call fword ptr [rax]", LOW, FAR, NULL, -ENOTSUP},
	{"call fword ptr [rip+A+0x402000]", LOW, FAR, NULL, -ENOTSUP},
	{"in al, dx", LOW, FAR, NULL, -ENOTSUP}, {"rep outsb", LOW, FAR, NULL, -ENOTSUP},
	{"cli", LOW, FAR, NULL, -ENOTSUP}, {"mov rax, cr3", LOW, FAR, NULL, -ENOTSUP},
	{"wrmsr", LOW, FAR, NULL, -ENOTSUP}, {"swapgs", LOW, FAR, NULL, -ENOTSUP},
	{"lgdt [rip+A+0x402000]", LOW, FAR, NULL, -ENOTSUP},
	{"vmcall", LOW, FAR, NULL, -ENOTSUP}, {"enclu", LOW, FAR, NULL, -ENOTSUP},
	{"mwaitx", LOW, FAR, NULL, -ENOTSUP}, {"umwait eax", LOW, FAR, NULL, -ENOTSUP},
	{"umonitor rax", LOW, FAR, NULL, -ENOTSUP}, {"tpause eax", LOW, FAR, NULL, -ENOTSUP},
	{"clui", LOW, FAR, NULL, -ENOTSUP}, {"uiret", LOW, FAR, NULL, -ENOTSUP},
	{"senduipi rax", LOW, FAR, NULL, -ENOTSUP},

	/* No instruction. */
	{".byte 0x06", LOW, FAR, NULL, -EILSEQ}, /* push es, gone in 64-bit mode */
	{".byte 0xd5, 0x48, 0x8b, 0x05, 0, 0, 0, 0", LOW, FAR, NULL, -EILSEQ}, /* REX2 */
	{".byte 0xf0, 0xff, 0xe0", LOW, FAR, NULL, -EILSEQ},  /* lock jmp rax */
	{".byte 0x0f, 0x0a", LOW, FAR, NULL, -EILSEQ},
	{".byte 0xc5, 0xf8, 0x84, 0, 0, 0, 0", LOW, FAR, NULL, -EILSEQ}, /* Knights Corner jkzd */
	{".fill 15, 1, 0x66; nop", LOW, FAR, NULL, -EILSEQ},
};
/* clang-format on */

static unsigned first_relocation, relocation_copies[PIECES_MAX];

static void write_relocations(void)
{
	size_t count = sizeof(relocations) / sizeof(relocations[0]);

	first_relocation = piece_count;
	for (size_t i = 0; i < count; i++)
		piece(relocations[i].code, relocations[i].from);
	for (size_t i = 0; i < count; i++)
		if (relocations[i].copy)
			relocation_copies[i] = piece(relocations[i].copy, relocations[i].to);
}

/* A copy that is one byte too long for `out` is refused and `out` stays as it was. */
static bool refuses_small_output(const struct relocation *row, const struct piece *code, int length)
{
	uint8_t out[ISA_DISPLACED_MAX];

	memset(out, 0xA5, sizeof(out));
	for (int room = 0; room < length; room++)
		if (isa_x86_64.relocate(code->bytes, code->length, row->from, row->to, out, room) !=
		    -ENOSPC)
			return false;
	for (size_t i = 0; i < sizeof(out); i++)
		if (out[i] != 0xA5)
			return false;
	return true;
}

static bool refuses_cut_input(const struct relocation *row, const struct piece *code)
{
	uint8_t out[ISA_DISPLACED_MAX];

	for (size_t size = 0; size < code->length; size++)
		if (isa_x86_64.relocate(code->bytes, size, row->from, row->to, out, sizeof(out)) !=
		    -EILSEQ)
			return false;
	return true;
}

static void test_relocation(size_t i)
{
	const struct relocation *row = &relocations[i];
	const struct piece *code = &pieces[first_relocation + i];
	uint8_t out[ISA_DISPLACED_MAX] = {0};
	int length = isa_x86_64.relocate(code->bytes, code->length, row->from, row->to, out,
	                                 sizeof(out));

	if (!row->copy) {
		ok(length == row->error, "%s at %#" PRIx64 ": refused with %s", row->code,
		   row->from, strerror(-row->error));
		return;
	}
	const struct piece *copy = &pieces[relocation_copies[i]];
	if (!ok(length == (int)copy->length && !memcmp(out, copy->bytes, length),
	        "%s moved to %#" PRIx64 ": %s", row->code, row->to, row->copy))
		note("from %s\n#  got %s(%d)\n# want %s", hex(code->bytes, code->length),
		     hex(out, length), length, hex(copy->bytes, copy->length));
	else if (!refuses_small_output(row, code, length) || !refuses_cut_input(row, code))
		ok(false, "%s: buffers too small are refused", row->code);
}

/* --- classes ------------------------------------------------------------------------------- */

struct classified {
	const char *code;
	enum isa_class class;
	uint64_t target; /* 0: none */
};

static const struct classified classified[] = {
        {"add rax, rbx", ISA_PLAIN, 0},
        {"pause", ISA_PLAIN, 0},
        {"bnd ret", ISA_RETURN, 0},
        {"ret 8", ISA_RETURN, 0},
        {"add rax, [rip+A+0x402000]", ISA_PC_RELATIVE, 0x402000},
        {"mov dword ptr [rip+A+0x402000], 1", ISA_PC_RELATIVE, 0x402000},
        {"mov rax, [rip+A+0x3ff000]", ISA_PC_RELATIVE, 0x3ff000},
        {".byte 0x67,0x8b,0x05; .long 0x80000000", ISA_PC_RELATIVE, 0x80401007}, /* eip wraps */
        {"jmp A+0x401002", ISA_BRANCH, 0x401002},
        {"jmp A+0x400ffe", ISA_BRANCH, 0x400ffe},
        {"jmp A+0x100000", ISA_BRANCH, 0x100000},
        {"jg A+0x100000", ISA_BRANCH_IF, 0x100000},
        {"jg A+0x401000", ISA_BRANCH_IF, 0x401000},
        {"loopne A+0x401000", ISA_BRANCH_IF, 0x401000},
        {"jecxz A+0x401000", ISA_BRANCH_IF, 0x401000},
        {"call A+0x500000", ISA_CALL, 0x500000},
        {".byte 0x66, 0x48; call A+0x500000", ISA_CALL, 0x500000},
        {"call rbx", ISA_CALL_INDIRECT, 0},
        {"call [rbx]", ISA_CALL_INDIRECT, 0},
        {"call [rip+A+0x402000]", ISA_CALL_INDIRECT, 0x402000},
        {"jmp rbx", ISA_JUMP_INDIRECT, 0},
        {"notrack jmp [rbx]", ISA_JUMP_INDIRECT, 0},
        {"jmp [rip+A+0x402000]", ISA_JUMP_INDIRECT, 0x402000},
        {"endbr64", ISA_LANDING, 0},
        {"endbr32", ISA_PLAIN, 0},
        {"syscall", ISA_SYSCALL, 0},
        {"sysenter", ISA_SYSCALL, 0},
        {"int 0x80", ISA_SYSCALL, 0},
        {"int 0x81", ISA_TRAP, 0},
        {"int3", ISA_TRAP, 0},
        {"ud2", ISA_TRAP, 0},
        {"hlt", ISA_TRAP, 0},
        {".byte 0xd6", ISA_TRAP, 0},
        {"xbegin A+0x402000", ISA_PINNED, 0x402000},
        {"xend", ISA_PINNED, 0},
        {"retfq", ISA_PINNED, 0},
        {"iretd", ISA_PINNED, 0},
        {"out dx, eax", ISA_PINNED, 0},
        {"mov cr0, rax", ISA_PINNED, 0},
        {"mov dr7, rax", ISA_PINNED, 0},
        {".byte 0x0f, 0x20, 0x05", ISA_PINNED, 0}, /* mov rbp, cr0: mod is ignored */
        {"mov ds, eax", ISA_PLAIN, 0},
        {"sidt [rax]", ISA_PLAIN, 0},
        {"xgetbv", ISA_PLAIN, 0},
        {"nop dword ptr [rax+rax*1]", ISA_PLAIN, 0},
};

static unsigned first_classified;

static void write_classified(void)
{
	first_classified = piece_count;
	for (size_t i = 0; i < sizeof(classified) / sizeof(classified[0]); i++)
		piece(classified[i].code, LOW);
}

static void test_class(size_t i)
{
	const struct classified *row = &classified[i];
	const struct piece *code = &pieces[first_classified + i];
	uint8_t more[PIECE_MAX + ISA_INSN_MAX];
	struct isa_insn insn;
	int length;

	memset(more, 0x90, sizeof(more));
	memcpy(more, code->bytes, code->length);
	length = isa_x86_64.decode(more, sizeof(more), LOW, &insn);
	if (!ok(length == (int)code->length && insn.length == length && insn.class == row->class &&
	                insn.has_target == (row->target != 0) && insn.target == row->target,
	        "%s is of class %d", row->code, row->class))
		note("%sgives %d, class %d, target %d %#" PRIx64, hex(code->bytes, code->length),
		     length, insn.class, insn.has_target, insn.target);
	for (unsigned size = 0; size < code->length; size++)
		if (isa_x86_64.decode(code->bytes, size, LOW, &insn) != -EILSEQ)
			ok(false, "%s: %u bytes of it are refused", row->code, size);
}

/* --- hot patching -------------------------------------------------------------------------- */

struct hotpatch {
	const char *from, *to;
	bool safe;
};

static const struct hotpatch hotpatches[] = {
        {"nop", "int3", true},
        {"push rbp", "int3", true},
        {"nop dword ptr [rax+rax*1+0]", "nop dword ptr [rax+rax*1+0]", true},
        {"{disp32} jmp A+0x401105", "{disp32} jmp A+0x401155", true},
        {"jmp A+0x401010", "jmp A+0x401050", true},
        {"je A+0x401010", "jne A+0x401010", true},
        {"je A+0x401010", "jmp A+0x401010", true},
        {"mov eax, 1", "mov eax, 0", true},
        {"{disp32} jmp A+0x401105", "{disp32} jmp A+0x411205", false}, /* two bytes */
        {".byte 0x0f,0x1f,0x44,0,0", "{disp32} jmp A+0x401105", false},
        {"nop; nop", "nop; int3", false},              /* two instructions */
        {"nop; nop", "nop; nop", false},               /* even if they stay */
        {"mov rbp, rsp", "int3; mov ebp, esp", false}, /* one becomes two */
        {"push rbp; nop", ".byte 0xeb, 0x90", false},  /* two become one */
        {"push rbp; mov rbp, rsp; nop", "{disp32} jmp A+0x401105", false},
        {"mov eax, 1", ".byte 0xe8,1,0,0,0", true}, /* one byte, same end */
        {"mov al, 0", ".byte 0x0f,0", false},       /* not whole any more */
        {"nop", ".byte 0x06", false},               /* not an instruction */
};

static unsigned first_hotpatch;

static void write_hotpatches(void)
{
	first_hotpatch = piece_count;
	for (size_t i = 0; i < sizeof(hotpatches) / sizeof(hotpatches[0]); i++) {
		piece(hotpatches[i].from, LOW);
		piece(hotpatches[i].to, LOW);
	}
}

static void test_hotpatch(size_t i)
{
	const struct hotpatch *row = &hotpatches[i];
	const struct piece *from = &pieces[first_hotpatch + 2 * i], *to = from + 1;
	size_t size = from->length;

	ok(isa_x86_64.hotpatch_safe(from->bytes, to->bytes, size, LOW) == row->safe,
	   "%s to %s is %ssafe while it runs", row->from, row->to, row->safe ? "" : "not ");
}

/* --- encoders ------------------------------------------------------------------------------ */

static const char *const nops[] = {
        "nop",
        "xchg ax, ax",
        "nop dword ptr [rax]",
        "{disp8} nop dword ptr [rax+0]",
        "{disp8} nop dword ptr [rax+rax*1+0]",
        "{disp8} nop word ptr [rax+rax*1+0]",
        "{disp32} nop dword ptr [rax+0]",
        "{disp32} nop dword ptr [rax+rax*1+0]",
        "{disp32} nop word ptr [rax+rax*1+0]",
};

static unsigned first_encoded;

static void write_encoded(void)
{
	first_encoded = piece_count;
	piece("jmp A+0x411000", LOW);
	piece("jmp [rip+0]; .quad 0x550000000123", LOW);
	piece("int3", LOW);
	for (int i = 0; i < 9; i++)
		piece(nops[i], LOW);
}

static void test_branches(void)
{
	const struct piece *near = &pieces[first_encoded], *far = near + 1, *trap = near + 2;
	const struct isa *isa = &isa_x86_64;
	uint8_t out[16];

	ok(isa->branch(LOW, LOW + 0x10000, out, 5) == 5 && near->length == isa->branch_length &&
	           !memcmp(out, near->bytes, 5),
	   "branch");
	ok(isa->jump_far(LOW, FAR + 0x123, out, 14) == 14 && far->length == isa->jump_far_length &&
	           !memcmp(out, far->bytes, 14),
	   "jump_far");
	ok(isa->trap_length == trap->length && isa->trap[0] == trap->bytes[0], "trap");
	ok(isa->branch(LOW, LOW, out, 4) == -ENOSPC && isa->jump_far(LOW, LOW, out, 13) == -ENOSPC,
	   "an output that is too small is refused");
	ok(isa->branch(LOW, LOW + 5 + 0x7fffffff, out, 5) == 5 &&
	           isa->branch(LOW, LOW + 6 + 0x7fffffff, out, 5) == -ERANGE,
	   "branch reaches 2 GB - 1 forwards");
	ok(isa->branch(FAR, FAR + 5 - 0x80000000, out, 5) == 5 &&
	           isa->branch(FAR, FAR + 4 - 0x80000000, out, 5) == -ERANGE,
	   "branch reaches 2 GB backwards");
}

static void test_nops(void)
{
	uint8_t want[40], got[41];

	for (size_t size = 0; size <= 40; size++) {
		size_t tail = size % 9, at = size - tail;

		for (size_t i = 0; i < at; i += 9)
			memcpy(want + i, pieces[first_encoded + 3 + 8].bytes, 9);
		if (tail)
			memcpy(want + at, pieces[first_encoded + 3 + tail - 1].bytes, tail);
		memset(got, 0xA5, sizeof(got));
		isa_x86_64.nop(got, size);
		if (memcmp(got, want, size) || got[size] != 0xA5) {
			ok(false, "%zu bytes of no-operations", size);
			return;
		}
	}
	ok(true, "0 to 40 bytes of no-operations");
}

static void test_format(void)
{
	static const struct {
		uint8_t code[8];
		size_t size;
		const char *text;
	} lines[] = {
	        {{0x41, 0x57}, 2, "push %r15"},
	        {{0xba, 2, 0, 0, 0}, 5, "mov $0x2, %edx"},
	        {{0xe9, 0x10, 0, 0, 0}, 5, "jmp 0x401015"},
	        {{0x48, 0x8b, 0x05, 0, 1, 0, 0}, 7, "mov 0x401107, %rax"},
	};
	char text[64];

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		int n = isa_x86_64.format(lines[i].code, lines[i].size, 0x401000, text,
		                          sizeof(text));

		if (!ok(n == (int)lines[i].size && strcmp(text, lines[i].text) == 0, "text: %s",
		        lines[i].text))
			note("%d, %s", n, text);
	}
	ok(isa_x86_64.format((const uint8_t[]){0x06}, 1, 0, text, sizeof(text)) == -EILSEQ &&
	           !*text,
	   "no text of no instruction");
	ok(isa_x86_64.format(lines[1].code, 5, 0, text, 4) == -ENOSPC, "nor without room for it");
}

int main(void)
{
	if (!open_source())
		return 1;
	write_relocations();
	write_classified();
	write_hotpatches();
	write_encoded();
	if (!ok(assemble(), "as assembles the tables")) {
		note("see %s", folder);
		return done();
	}
	for (size_t i = 0; i < sizeof(relocations) / sizeof(relocations[0]); i++)
		test_relocation(i);
	for (size_t i = 0; i < sizeof(classified) / sizeof(classified[0]); i++)
		test_class(i);
	for (size_t i = 0; i < sizeof(hotpatches) / sizeof(hotpatches[0]); i++)
		test_hotpatch(i);
	test_branches();
	test_format();
	test_nops();
	run("rm -rf %s");
	return done();
}
