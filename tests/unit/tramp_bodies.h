/* SPDX-License-Identifier: MIT */
/*
 * tramp_bodies.h - counting trampolines for a function of this program, and their memory. Part of
 * tramp_count.c, behind isa_machine.h.
 */
#ifndef TRAMP_BODIES_H
#define TRAMP_BODIES_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tramp/tramp.h"

enum {
	CPUS = TRAMP_TABLE_CPUS,
	ARENA = 16384,
	BODY_ROOM = 1024,
	UNREGISTER = 1, /* RSEQ_FLAG_UNREGISTER */
	AREA_SIZE = 32, /* what glibc registers: the first version's size */
};

/* --- the function, and its trampolines ----------------------------------------------------- */

long counted(long x);
extern const uint8_t counted_next[];
extern const long counted_constant;

/* The first two instructions are displaced; one refers to memory near it. */
__asm__(".text\n"
        "counted:\n"
        "	lea 1(%rdi,%rdi,2), %rax\n"
        "	add counted_constant(%rip), %rax\n"
        "counted_next:\n"
        "	ret\n"
        ".section .rodata\n"
        ".balign 8\n"
        "counted_constant: .quad 1000\n"
        ".text\n");

/* CROWD: all CPUs have one cell, as those have that nobody knew of. */
enum variant { RSEQ, OTHER_RSEQ, LOCK, CROWD, LOCK_RDPID, VARIANTS };
static const char *const names[VARIANTS] = {"rseq", "second rseq", "lock", "lock on one cell",
                                            "lock with rdpid"};

static uint64_t table[TRAMP_TABLE_BEFORE + CPUS], crowd_table[TRAMP_TABLE_BEFORE + CPUS];
static struct {
	uint64_t cell[2 * VARIANTS];
} __attribute__((aligned(64))) cells[CPUS], shared;
static struct tramp_rseq descriptors[2 * VARIANTS] __attribute__((aligned(32)));

struct body {
	long (*call)(long);
	uint8_t *writable; /* the same bytes */
	int size;
	uint32_t cell;
	const struct tramp_rseq *rseq;
};
/* For calls, and for machine_run: these execute a nop and leave by machine_leave_fall. */
static struct body bodies[VARIANTS], bare[VARIANTS];

static uint8_t *arena, *arena_writable;
static bool rdpid;

static uint64_t number(const void *pointer)
{
	return (uint64_t)(uintptr_t)pointer;
}

static bool map_arena(void)
{
	int fd = memfd_create("tramp_count", MFD_CLOEXEC);
	uint64_t near = (number((const void *)counted_next) + 0x4000000) & ~0xfffull;

	if (fd < 0 || ftruncate(fd, ARENA))
		return false;
	arena_writable = mmap(NULL, ARENA, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	arena = MAP_FAILED;
	for (int i = 0; i < 64 && arena == MAP_FAILED; i++, near += 0x1000000)
		arena = mmap((void *)(uintptr_t)near, ARENA, PROT_READ | PROT_EXEC,
		             MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0);
	close(fd);
	return arena_writable != MAP_FAILED && arena != MAP_FAILED;
}

static bool make_body(enum variant variant, bool is_bare)
{
	static const uint8_t nop[] = {0x90};
	unsigned index = (is_bare ? VARIANTS : 0) + variant;
	struct body *body = is_bare ? &bare[variant] : &bodies[variant];
	struct tramp_counters counters = {
	        .kind = variant < LOCK ? TRAMP_COUNTER_RSEQ : TRAMP_COUNTER_LOCK,
	        .table = number((variant == CROWD ? crowd_table : table) + TRAMP_TABLE_BEFORE),
	        .shared_cells = number(&shared),
	        .rseq_offset = (int32_t)__rseq_offset,
	        .rseq_signature = RSEQ_SIG,
	        .rdpid = variant == LOCK_RDPID,
	};
	const uint8_t *code = is_bare ? nop : (const uint8_t *)(uintptr_t)counted;
	struct tramp_body wanted = {
	        .counters = &counters,
	        .cell = index,
	        .descriptor = number(&descriptors[index]),
	        .code = code,
	        .size = is_bare ? 1 : (size_t)(counted_next - code),
	        .from = number(code),
	        .next = is_bare ? number(machine_leave_fall) : number(counted_next),
	};
	uint8_t *at = arena + index * BODY_ROOM;

	body->writable = arena_writable + index * BODY_ROOM;
	body->size = tramp_body_x86(&wanted, number(at), body->writable, &descriptors[index]);
	body->call = (long (*)(long))(uintptr_t)at;
	body->cell = index;
	body->rseq = &descriptors[index];
	return body->size > 0;
}

static uint64_t sum(const struct body *body)
{
	uint64_t total = 0;

	for (int cpu = 0; cpu < CPUS; cpu++)
		total += cells[cpu].cell[body->cell];
	return total;
}

static uint64_t sum_shared(const struct body *body)
{
	return shared.cell[body->cell];
}

/* --- threads without a registration -------------------------------------------------------- */

static struct rseq *area(void)
{
	return (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
}

static bool set_registered(bool registered)
{
	/* What a body left there is none of the kernel's business any more. */
	if (registered)
		memset((char *)area() + 8, 0, 8);
	return syscall(SYS_rseq, area(), AREA_SIZE, registered ? 0 : UNREGISTER, RSEQ_SIG) == 0;
}

#endif
