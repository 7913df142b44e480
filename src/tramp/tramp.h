/* SPDX-License-Identifier: MIT */
/*
 * tramp.h - trampolines: where they may live, and what is in them.
 *
 * Everything is computed beforehand, for addresses in a machine that is not touched here.
 */
#ifndef SUTURE_TRAMP_H
#define SUTURE_TRAMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "isa/isa.h"
#include "port/port.h"

enum { TRAMP_PAGE = 4096, TRAMP_BODY_MAX = 512 };

/* ---- space.c: addresses ---- */

/* The free addresses of a machine, and the trampoline pages that we plan to map there. */
struct tramp_space;

/* `occupied`: sorted, disjoint ranges where nothing may be placed, copied. -ENOMEM */
int tramp_space_new(const struct port_range *occupied, size_t n, size_t max_pages,
                    struct tramp_space **out);
void tramp_space_free(struct tramp_space *space);

/* Forget all that was planned; what is occupied stays. Not where pages are mapped at once. */
void tramp_space_clear(struct tramp_space *space);

/* Pages planned so far. */
size_t tramp_space_pages(const struct tramp_space *space);

/*
 * Where pages are mapped as soon as they are planned: `map` is called for each new page, and says
 * -EEXIST if something is there; the page then counts as occupied.
 */
typedef int (*tramp_map_fn)(void *arg, uint64_t page);
void tramp_space_map(struct tramp_space *space, tramp_map_fn map, void *arg);
/* What is occupied now, in place of what was; pages of ours do not count (tramp_space_owns). */
int tramp_space_occupy(struct tramp_space *space, const struct port_range *occupied, size_t n);
bool tramp_space_owns(const struct tramp_space *space, uint64_t page);
/* For each page that tramp_put changed since the last call: the changed stretch. Stops at an error
 * of `fn`, which it returns. */
typedef int (*tramp_dirty_fn)(void *arg, uint64_t address, const uint8_t *bytes, size_t size);
int tramp_take_dirty(struct tramp_space *space, tramp_dirty_fn fn, void *arg);
/* At most this many from now on. */
void tramp_space_limit(struct tramp_space *space, size_t max_pages);

/* Take exactly [address, address + size). -EEXIST: not free; -ENOSPC: needs more pages than
 * allowed. */
int tramp_reserve(struct tramp_space *space, uint64_t address, size_t size);
void tramp_release(struct tramp_space *space, uint64_t address, size_t size);

/*
 * Take `size` bytes at base + step * k for a k of [low, high] where they are free, after passing
 * over `skip` such places; *k says which. `step` is a power of two. -ENOSPC: none was found in a
 * bounded search, or too many pages.
 */
struct tramp_choice {
	uint64_t base, step;
	int64_t low, high;
};
int tramp_reserve_choice(struct tramp_space *space, const struct tramp_choice *choice, size_t size,
                         unsigned skip, int64_t *k);
/*
 * Take `size` bytes at base + d, where d is a signed 32-bit number of which the bits of `mask`
 * (whole bytes) are those of `value`. Pages that are there already come first. -ENOSPC as above.
 */
int tramp_reserve_pattern(struct tramp_space *space, uint64_t base, uint32_t mask, uint32_t value,
                          size_t size, uint64_t *address);
/* Take `size` bytes anywhere within reach of a 32-bit displacement from `near`. */
int tramp_reserve_near(struct tramp_space *space, uint64_t near, size_t size, uint64_t *address);
/* The same within `reach` bytes (at most what the above has). */
int tramp_reserve_close(struct tramp_space *space, uint64_t near, uint64_t reach, size_t size,
                        uint64_t *address);
/* Find `size` bytes of whole pages (for data, not counted as trampoline pages). */
int tramp_reserve_region(struct tramp_space *space, uint64_t near, size_t size, uint64_t *address);

/* Set bytes of pages planned. The range must have been reserved. */
void tramp_put(struct tramp_space *space, uint64_t address, const uint8_t *bytes, size_t size);

/*
 * All pages in order of address as runs for port_map_exec, with offsets from `first_offset` on;
 * tramp_emit, called after it, puts their contents at `memory` + offset. *runs is allocated.
 */
int tramp_layout(struct tramp_space *space, uint64_t first_offset, struct port_pages **runs,
                 size_t *count);
void tramp_emit(const struct tramp_space *space, uint64_t first_offset, uint8_t *memory);

/* ---- site_x86.c: bytes at the site ---- */

/*
 * Pun: byte 0 becomes E9 (jmp rel32), and the displacement is what bytes 1 to 4 already are.
 * Where the instruction begins with a prefix that means nothing to a jump (REX, a segment), byte 1
 * may become E9 instead, and bytes 2 to 5 are the displacement: one byte changes either way, and
 * no thread can be between a prefix and its opcode. Takes the place of the trampoline that they
 * name. -ENOSPC, -EEXIST: it is not to be had.
 */
struct tramp_pun {
	uint8_t jump;   /* index of the byte that becomes E9: 0 or 1 */
	uint8_t length; /* bytes that must be as they are: 5 or 6 */
	uint64_t trampoline;
};
/* `code`: `size` bytes from the site on, as far as they may be relied on. */
int tramp_pun_x86(struct tramp_space *space, const uint8_t *code, size_t size, uint64_t site,
                  struct tramp_pun *pun);

/*
 * How many of the `size` bytes of code a pun's trampoline should execute: all instructions that
 * start in its `length` bytes, as far as they can be displaced. One would do, but going on in
 * the middle of our own jump costs some 8 ns a hit: the processor's decoded-instruction caches
 * and branch predictors hold one reading of those bytes at a time. At least `first`.
 */
size_t tramp_pun_displaced_x86(const uint8_t *code, size_t size, uint64_t site, size_t length,
                               size_t first);

/*
 * Window: two jumps.
 *
 *     old   [ first instruction, 1 to 4 bytes    ][ second … up to L and beyond              ]
 *     new   [ E9 | rest of the first, untouched  ][ (prefix) E9 d0 d1 d2 d3 ]
 *             |                                      |
 *             counting trampoline                    continuation: displaced second …
 *
 * As in a pun, the first jump's displacement is made of bytes that are there, up to the second
 * instruction, whose first bytes are a jump of their own. So the boundary after the first
 * instruction stays a place where execution may arrive: a kernel uprobe that is put on the site
 * runs the file's first instruction and comes out there, and one that is taken away writes the
 * file's first byte back, which makes the first instruction whole again. Only boundaries beyond
 * it must be proven unreachable.
 *
 * Where a jump or call with a 32-bit displacement stands already, it is merely sent elsewhere:
 * the opcode stays, the trampoline goes on to the old target, and there is nothing to prove.
 */
struct tramp_window {
	uint8_t length;    /* L: bytes changed or kept that belong to the site */
	uint8_t first;     /* length of the first instruction */
	uint8_t displaced; /* bytes of whole instructions displaced, >= length */
	uint8_t patched[16];
	uint64_t trampoline;
	uint64_t continuation; /* 0: `target` is set instead */
	uint64_t target;       /* where the jump or call led */
};
/* `code`: `size` bytes from the site to the end of its function. -ENOTSUP: no window can be here
 * (too short, an instruction that must not be displaced or that ends the flow in its middle, a
 * page boundary); -ENOSPC: no pair of addresses is free. */
int tramp_window_x86(struct tramp_space *space, const uint8_t *code, size_t size, uint64_t site,
                     struct tramp_window *window);
/*
 * Window whose old boundaries trap, for machines where traps reach us: one jump of five bytes.
 *
 *     old   [ i0   ][ i1   ][ i2 … ]
 *     new   [ E9 d0  T  d2   T ]        T: a byte that always traps, where i1 and i2 began
 *
 * The displacement's other bytes are chosen by where the trampoline is placed. Who arrives at an
 * old boundary is sent on to the displaced copy of what stood there.
 */
struct tramp_trapped {
	uint8_t displaced;   /* bytes of whole instructions displaced, >= TRAMP_JUMP */
	uint16_t boundaries; /* bit k: an instruction begins at k */
	uint8_t patched[5];
	uint64_t trampoline;
};
/* `traps`: bytes that may stand for T, preferred ones first; `code`: `size` bytes from the site on.
 * Errors as tramp_window_x86. */
int tramp_trapped_x86(struct tramp_space *space, const uint8_t *code, size_t size, uint64_t site,
                      const uint8_t *traps, size_t trap_count, struct tramp_trapped *window);

void tramp_window_release(struct tramp_space *space, const struct tramp_window *window);
enum { TRAMP_JUMP = 5 }; /* bytes reserved by the above at each trampoline address */

/* ---- count_x86.c: what a trampoline does ---- */

enum tramp_counter { TRAMP_COUNTER_RSEQ, TRAMP_COUNTER_LOCK };

/* Memory of the counters, as addresses in the machine. */
struct tramp_counters {
	enum tramp_counter kind;
	uint64_t table;        /* of TRAMP_TABLE_CPUS pointers to per-CPU cells, after 2 zeros */
	uint64_t shared_cells; /* cells of threads without a CPU number of their own */
	int32_t rseq_offset;   /* struct rseq from the FS base, bytes */
	uint32_t rseq_signature;
	bool rdpid; /* the processor has RDPID */
};
enum { TRAMP_TABLE_CPUS = 4096, TRAMP_TABLE_BEFORE = 2 };

/* struct rseq_cs of linux/rseq.h. */
struct tramp_rseq {
	uint32_t version, flags;
	uint64_t start, post_commit_offset, abort;
};

/* One trampoline: count (if counters), run `size` displaced bytes of whole instructions that
 * stand at `from`, go on at `next`. */
struct tramp_body {
	const struct tramp_counters *counters; /* NULL: does not count */
	uint32_t cell;                         /* index of the counter */
	uint64_t descriptor;                   /* address of its struct tramp_rseq */
	const uint8_t *code;
	size_t size;
	uint64_t from;
	uint64_t next;
};
/* Code for `address`; its length, -ENOTSUP or -ERANGE if an instruction can not be displaced
 * there. `rseq` is filled for TRAMP_COUNTER_RSEQ, else zeroed. */
int tramp_body_x86(const struct tramp_body *body, uint64_t address, uint8_t out[TRAMP_BODY_MAX],
                   struct tramp_rseq *rseq);

/* ---- detour_x86.c: what stands in for code, and calls handlers, in our own process ---- */

/* How to unwind from a place in a trampoline. */
struct tramp_row {
	uint32_t offset; /* in the trampoline; from here to the next row's */
	uint64_t origin; /* of the instruction in whose place it is executed */
	int32_t depth;   /* bytes pushed below the stack pointer that the instruction would see */
};
enum { TRAMP_ROWS_MAX = 32 };

/* A piece of code for one address. */
struct tramp_piece {
	uint8_t bytes[TRAMP_BODY_MAX];
	uint32_t size;
	struct tramp_row rows[TRAMP_ROWS_MAX];
	uint32_t row_count;
};

/*
 * `size` bytes of whole instructions that stand at `from`, to be executed at `to`, and a jump to
 * what follows them. entries[k]: where in the copy the instruction that starts at offset k is (a
 * byte: at most 255). -ENOTSUP, -ERANGE: an instruction can not be displaced there.
 */
int tramp_displace_x86(const uint8_t *code, size_t size, uint64_t from, uint64_t to,
                       uint8_t entries[16], struct tramp_piece *out);

/* jmp *slot: to wherever the word at `slot` says. TRAMP_JUMP_SLOT bytes; -ERANGE. */
int tramp_jump_slot_x86(uint64_t at, uint64_t slot, uint64_t origin, struct tramp_piece *out);
enum { TRAMP_JUMP_SLOT = 6 };

/*
 * Call a gate with room for what it saves, then go on.
 *
 *     -8   context                     (a word for the gate)
 *     0    lea -TRAMP_GATE_ROOM(%rsp),%rsp
 *          call *gate                  TRAMP_GATE_RETURN: its return address is here
 *          lea TRAMP_GATE_ROOM(%rsp),%rsp
 *          jmp *after
 *
 * `at` is the address of the context; the code begins TRAMP_GATE_CONTEXT bytes behind it. `origin`:
 * where the thread is as far as others can tell.
 */
int tramp_gate_x86(uint64_t at, uint64_t context, uint64_t gate, uint64_t after, uint64_t origin,
                   struct tramp_piece *out);
enum {
	TRAMP_GATE_CONTEXT = 8,
	TRAMP_GATE_RETURN = 14,
	TRAMP_GATE_BACK =
	        8, /* from there to the jump, for whom the stack pointer is right already */
	TRAMP_GATE_ROOM = 144, /* the red zone, and two words more of registers */
};

/*
 * The first instruction alone, to be executed at `to`; then on to `straight`, or where it is a
 * direct branch or call that is taken, to `taken` instead of its own target. -ENOTSUP: it leads to
 * where is not known beforehand, or can not be displaced.
 */
int tramp_step_x86(const uint8_t *code, size_t size, uint64_t from, uint64_t to, uint64_t taken,
                   uint64_t straight, struct tramp_piece *out);

#endif
