/* SPDX-License-Identifier: MIT */
/*
 * count_x86.c - a counting trampoline: add one, run the displaced code, go on.
 *
 * Keeps every register, the flags and the red zone, takes no lock where a restartable sequence
 * does, and is exact: the cell belongs to a CPU, and the three instructions that add to it are
 * restarted if the thread is preempted or takes a signal among them (linux/rseq.h).
 *
 *     thread A on CPU 1            thread B
 *     load cell                                      without restart, B's hits between
 *     <preempted>                  on CPU 1: + 5     A's load and A's store were lost
 *     <resumed, maybe on CPU 2>
 *     abort: start again
 *     load own cell, add, store = commit
 *
 * None of the instructions of the common path changes a flag: mov, movslq, lea, push, pop, jrcxz.
 * A thread without a registered area (cpu_id < 0) finds a null pointer in front of the table and
 * takes the locked path. Two gaps are known, in which a hit may be lost to another one on the same
 * CPU: a new thread before glibc registers its area (start_thread and what that calls first), and
 * a vfork child before exec, which has no area and sees its parent's.
 */
#include <errno.h>
#include <string.h>
#include "tramp/tramp.h"

struct code {
	uint8_t *bytes;
	size_t size;
	uint64_t address;
};

static void put(struct code *code, const void *bytes, size_t size)
{
	if (code->size + size <= TRAMP_BODY_MAX)
		memcpy(code->bytes + code->size, bytes, size);
	code->size += size;
}

#define PUT(code, ...) put(code, (const uint8_t[]){__VA_ARGS__}, sizeof((uint8_t[]){__VA_ARGS__}))

static void put32(struct code *code, uint32_t value)
{
	put(code, &value, sizeof(value));
}

static void put64(struct code *code, uint64_t value)
{
	put(code, &value, sizeof(value));
}

static uint64_t here(const struct code *code)
{
	return code->address + code->size;
}

/* jmp rel32 to an offset in the same code */
static void put_jump(struct code *code, size_t to)
{
	PUT(code, 0xe9);
	put32(code, (uint32_t)(to - (code->size + 4)));
}

/* Places that the rare paths, which lie behind everything else, come from and go back to. */
struct rare {
	size_t restart, finish;
	size_t slow; /* just behind the 8-bit displacement of the branch to the locked path */
};

static void count_rseq(struct code *code, const struct tramp_body *body, struct tramp_rseq *rseq,
                       struct rare *rare)
{
	const struct tramp_counters *c = body->counters;
	uint32_t area = (uint32_t)c->rseq_offset;

	PUT(code, 0x48, 0x8d, 0x64, 0x24, 0x80); /* lea -128(%rsp),%rsp */
	PUT(code, 0x50, 0x51);                   /* push %rax; push %rcx */
	rare->restart = code->size;
	PUT(code, 0x48, 0xb8); /* movabs $descriptor,%rax */
	put64(code, body->descriptor);
	PUT(code, 0x48, 0xb9); /* movabs $table,%rcx */
	put64(code, c->table);
	PUT(code, 0x64, 0x48, 0x89, 0x04, 0x25); /* mov %rax,%fs:rseq_cs */
	put32(code, area + 8);
	rseq->start = here(code);
	PUT(code, 0x64, 0x48, 0x63, 0x04, 0x25); /* movslq %fs:cpu_id,%rax */
	put32(code, area + 4);
	PUT(code, 0x48, 0x8b, 0x0c, 0xc1); /* mov (%rcx,%rax,8),%rcx */
	PUT(code, 0xe3, 0);                /* jrcxz slow */
	rare->slow = code->size;
	PUT(code, 0x48, 0x8b, 0x81); /* mov cell(%rcx),%rax */
	put32(code, body->cell * 8);
	PUT(code, 0x48, 0x8d, 0x40, 0x01); /* lea 1(%rax),%rax */
	PUT(code, 0x48, 0x89, 0x81);       /* mov %rax,cell(%rcx): the commit */
	put32(code, body->cell * 8);
	rseq->post_commit_offset = here(code) - rseq->start;
	rare->finish = code->size;
	PUT(code, 0x59, 0x58);                            /* pop %rcx; pop %rax */
	PUT(code, 0x48, 0x8d, 0xa4, 0x24, 0x80, 0, 0, 0); /* lea 128(%rsp),%rsp */
}

static int rare_paths(struct code *code, const struct tramp_body *body, struct tramp_rseq *rseq,
                      const struct rare *rare)
{
	const struct tramp_counters *c = body->counters;

	PUT(code, 0x0f, 0xb9, 0x3d); /* ud1 signature(%rip),%edi: never executed */
	put32(code, c->rseq_signature);
	rseq->abort = here(code);
	put_jump(code, rare->restart);
	if (code->size - rare->slow > INT8_MAX)
		return -ENOTSUP; /* a displaced instruction of unheard-of length is between */
	code->bytes[rare->slow - 1] = (uint8_t)(code->size - rare->slow);
	PUT(code, 0x9f, 0x0f, 0x90, 0xc0); /* lahf; seto %al */
	PUT(code, 0x48, 0xb9);             /* movabs $shared cell,%rcx */
	put64(code, c->shared_cells + body->cell * 8);
	PUT(code, 0xf0, 0x48, 0xff, 0x01); /* lock incq (%rcx) */
	PUT(code, 0x04, 0x7f, 0x9e);       /* add $0x7f,%al (sets OF again); sahf */
	put_jump(code, rare->finish);
	return 0;
}

static void count_lock(struct code *code, const struct tramp_body *body)
{
	const struct tramp_counters *c = body->counters;

	PUT(code, 0x48, 0x8d, 0x64, 0x24, 0x80); /* lea -128(%rsp),%rsp */
	PUT(code, 0x50, 0x51, 0x52);             /* push %rax; push %rcx; push %rdx */
	PUT(code, 0x9f, 0x0f, 0x90, 0xc0);       /* lahf; seto %al */
	if (c->rdpid) {
		PUT(code, 0xf3, 0x0f, 0xc7, 0xf9); /* rdpid %rcx */
	} else {
		/* The kernel keeps the CPU number in the limit of this segment (vdso getcpu). */
		PUT(code, 0xb9, 0x7b, 0, 0, 0); /* mov $0x7b,%ecx */
		PUT(code, 0x0f, 0x03, 0xc9);    /* lsl %ecx,%ecx */
	}
	PUT(code, 0x81, 0xe1, 0xff, 0x0f, 0, 0); /* and $0xfff,%ecx */
	PUT(code, 0x48, 0xba);                   /* movabs $table,%rdx */
	put64(code, c->table);
	PUT(code, 0x48, 0x8b, 0x0c, 0xca); /* mov (%rdx,%rcx,8),%rcx */
	PUT(code, 0xf0, 0x48, 0xff, 0x81); /* lock incq cell(%rcx) */
	put32(code, body->cell * 8);
	PUT(code, 0x04, 0x7f, 0x9e);                      /* add $0x7f,%al; sahf */
	PUT(code, 0x5a, 0x59, 0x58);                      /* pop %rdx; pop %rcx; pop %rax */
	PUT(code, 0x48, 0x8d, 0xa4, 0x24, 0x80, 0, 0, 0); /* lea 128(%rsp),%rsp */
}

/* The displaced instructions, one by one. */
static int displace(struct code *code, const struct tramp_body *body)
{
	const struct isa *isa = &isa_x86_64;

	for (size_t at = 0; at < body->size;) {
		struct isa_insn insn;
		int n, length = isa->decode(body->code + at, body->size - at, body->from + at,
		                            &insn);

		if (length < 0)
			return length;
		n = isa->relocate(body->code + at, (size_t)length, body->from + at, here(code),
		                  code->bytes + code->size, TRAMP_BODY_MAX - code->size);
		if (n < 0)
			return n;
		code->size += (size_t)n;
		at += (size_t)length;
	}
	return 0;
}

static int go_on(struct code *code, uint64_t next)
{
	const struct isa *isa = &isa_x86_64;
	uint8_t *out = code->bytes + code->size;
	size_t room = TRAMP_BODY_MAX - code->size;
	int n = isa->branch(here(code), next, out, room);

	if (n == -ERANGE)
		n = isa->jump_far(here(code), next, out, room);
	if (n > 0)
		code->size += (size_t)n;
	return n < 0 ? n : 0;
}

int tramp_body_x86(const struct tramp_body *body, uint64_t address, uint8_t out[TRAMP_BODY_MAX],
                   struct tramp_rseq *rseq)
{
	bool sequence = body->counters && body->counters->kind == TRAMP_COUNTER_RSEQ;
	struct code code = {.bytes = out, .address = address};
	struct rare rare = {0};
	int rc;

	*rseq = (struct tramp_rseq){0};
	if (sequence)
		count_rseq(&code, body, rseq, &rare);
	else if (body->counters)
		count_lock(&code, body);
	rc = displace(&code, body);
	if (!rc)
		rc = go_on(&code, body->next);
	if (!rc && sequence)
		rc = rare_paths(&code, body, rseq, &rare);
	return rc ? rc : (int)code.size;
}
