/* SPDX-License-Identifier: MIT */
/*
 * suture/bare.h - change machine code of a kernel, hypervisor or firmware of one's own, while other
 * cores execute it (libsuture-bare.a; AArch64).
 *
 * No libc, no allocation, no operating system: the machine is reached through the functions that
 * are declared first, which the integrator supplies, and memory is given at the start. The library
 * has one state, for one kernel.
 *
 * Text stays mapped read-only and executable; it is written through an alias that exists for the
 * time of one write. Data and instructions may differ in endianness; instructions are written as
 * the architecture wants them.
 *
 * Errors are negative, with Linux' numbers:
 *   -EINVAL (22)    malformed: unsorted or overlapping sites, length 0 or above 16, not a multiple
 *                   of an instruction; the demanded strategy may not be used for this change
 *   -EUCLEAN (117)  the expected bytes are not there
 *   -ENOTSUP (95)   several instructions in one site while another core is online, or an
 *                   instruction that can not be executed elsewhere: choose one instruction, or do
 *                   it before the cores are brought up
 *   -EPERM (1)      text that the library executes itself (`noinstr` of the configuration)
 *   -EFAULT (14)    no text (suture_machine_is_text), or no alias for it (suture_machine_map)
 *   -ERANGE (34)    a branch does not reach
 *   -EEXIST (17), -ENOSPC (28)   a probe is there already; no room for another one
 *   -EBUSY (16)     a handler of this probe is still under way; the text is restored
 *   -ETIMEDOUT (110) a core did not answer within the bound. With SUTURE_BARE_QUIESCE nothing was
 *                   written. With SUTURE_BARE_NOSYNC everything was, and that core may go on to
 *                   execute the old instruction until its next context synchronisation event. Or
 *                   somebody else was patching all the time; nothing was written.
 *
 * Calling: on any core, by one at a time or many (they take turns), with interrupts enabled and the
 * caller kept on its core (no migration); not from exception handlers, but for those calls that say
 * so. The stack needs 8 KiB; so does that of the interrupt on every core, because the last one to
 * come to rest is the one that compares and writes, the alias is made and taken away there.
 */
#ifndef SUTURE_BARE_H
#define SUTURE_BARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- what the integrator supplies ---- */

/* None of these may be patched, probed, nor call what may be: they belong into `noinstr`. */

/* Is [address, address + size) mapped executable and readable? Takes no lock; called in trap
 * handlers, too. */
bool suture_machine_is_text(uint64_t address, size_t size);

/*
 * A writable, not executable alias of [address, address + size), which lies in one page or in two
 * that follow each other; of the same memory type as the text. Returns where its first byte is, or
 * NULL. When it returns, the calling core can write there (a barrier stands behind the page table
 * entry). One alias exists at a time; other cores need not see it. May be called with interrupts
 * masked.
 */
void *suture_machine_map(uint64_t address, size_t size);
/* Take it away, from this core's TLB too (A64: TLBI, DSB ISH, ISB). */
void suture_machine_unmap(void *alias, size_t size);

/* The calling core's number, 0 to config.cores - 1. Takes no lock. */
uint32_t suture_machine_core(void);

/* Make `core` call suture_bare_interrupt soon. A DSB stands before the call: what was stored before
 * is visible to it. Must not be lost, and may not fail; one that comes too late or twice does no
 * harm. */
void suture_machine_interrupt(uint32_t core);

/*
 * Mask asynchronous exceptions on the calling core and return what restores the state before: on
 * A64 PSTATE.DAIF, interrupts that pass by it (pseudo-NMI, ALLINT), and events of firmware (SDEI
 * PE_MASK) if there are any. `unmask` restores; calls nest.
 */
uint64_t suture_machine_mask(void);
void suture_machine_unmask(uint64_t state);

/* Monotonic time, nanoseconds; the same on all cores to within microseconds. */
uint64_t suture_machine_now(void);

/* ---- start ---- */

/* One for each core, in memory that all can reach, zeroed. */
struct suture_bare_core {
	uint32_t words[16];
} __attribute__((aligned(64)));

/* What caches ask for. Line sizes are the smallest of all cores, bytes, powers of two. */
struct suture_bare_caches {
	uint32_t data_line, instruction_line;
	bool data_reaches_fetch;   /* CTR_EL0.IDC on all cores: no clean is needed */
	bool instruction_coherent; /* CTR_EL0.DIC on all cores: no invalidation is needed */
};

/* Bytes of `room` for so many probes. */
#define SUTURE_BARE_ROOM(probes) ((size_t)(probes)*256)

struct suture_bare_config {
	size_t size; /* sizeof(struct suture_bare_config) */
	uint32_t cores;
	struct suture_bare_core *core; /* `cores` of them */
	/* NULL: each core's CTR_EL0 is read when it comes online. Otherwise what is said here
	 * counts, for cores with errata. */
	const struct suture_bare_caches *caches;
	/* Text that is never patched, half open: the library's own (sections .suture_text*), the
	 * functions above, exception vectors and all that runs between an exception and
	 * suture_bare_trap or suture_bare_interrupt. */
	uint64_t noinstr_start, noinstr_end;
	void *room; /* for probes, aligned to 16; NULL: none */
	size_t room_size;
	uint64_t bound_ns; /* how long another core may take to answer; 0: one second */
};

/*
 * Called once, on the first core, before others run: that core is online when it returns. The
 * configuration may go away, what it points to must stay.
 */
int suture_bare_start(const struct suture_bare_config *config);

/*
 * The calling core begins to execute text that may be patched, or does no longer. Between the two
 * it answers interrupts within the bound. Waits while somebody patches; -ETIMEDOUT after the bound,
 * and the core is as it was. Online: called before any such text, with the core's MMU and caches
 * on. Interrupts may be masked.
 */
int suture_bare_online(void);
int suture_bare_offline(void);

/* ---- exceptions ---- */

/* For the interrupt that suture_machine_interrupt sends: to be called in its handler, with the
 * interrupt acknowledged or not. Returns when this core may go on. */
void suture_bare_interrupt(void);

/*
 * For every exception by a breakpoint instruction (A64: ESR_ELx.EC 0x3C), from the handler: `pc` is
 * its address (ELR_ELx), `registers` whatever handlers of probes expect. Returns where the
 * interrupted code goes on (write it to ELR_ELx), or 0 if the breakpoint is none of ours.
 */
uint64_t suture_bare_trap(uint64_t pc, void *registers);

/* ---- sites ---- */

enum { SUTURE_BARE_SITE_MAX = 16 };

struct suture_bare_site {
	uint64_t address; /* a multiple of the size of an instruction */
	uint8_t length;   /* bytes, 1 to SUTURE_BARE_SITE_MAX, whole instructions */
	uint8_t reserved[5];
	uint16_t reserved_too;
	uint8_t original[SUTURE_BARE_SITE_MAX];
	uint8_t patched[SUTURE_BARE_SITE_MAX];
};

/* Sites that change together: alternatives, the uses of a static key, replaced functions. Sorted by
 * address, disjoint. Kept unchanged by the caller as long as it is applied. */
struct suture_bare_sites {
	uint32_t reserved;
	uint32_t count;
	struct suture_bare_site site[];
};

/* Room for N sites, statically: SUTURE_BARE_SITES(three, 3); three.sites.count = 3; … */
#define SUTURE_BARE_SITES(name, n)                                                                 \
	union {                                                                                    \
		struct suture_bare_sites sites;                                                    \
		unsigned char bytes[sizeof(struct suture_bare_sites) +                             \
		                    (size_t)(n) * sizeof(struct suture_bare_site)];                \
	} name __attribute__((aligned(8)))

enum suture_bare_strategy {
	SUTURE_BARE_CHEAPEST, /* of the two, the one that is legal for every site */
	/* One instruction a site, old and new of those that may change while they are executed
	 * (A64, DDI 0487 B2.2.5: B, BL, BRK, HVC, ISB, NOP, SMC, SVC). Nobody is held up. */
	SUTURE_BARE_NOSYNC,
	/* All cores at rest, exceptions masked, before the first byte is written. */
	SUTURE_BARE_QUIESCE,
};

/*
 * Make every site `patched`, or `original` again; all or nothing. On return 0 every core that is
 * online executes the new code, and data reads at its address find it.
 *
 * Sites of several instructions are changed only while no other core is online, because one that is
 * interrupted between two of them would go on between two others. The caller stands for no thread
 * being preempted inside them.
 *
 * Revert with SUTURE_BARE_QUIESCE (or CHEAPEST, if it comes to that) leaves alone a site that holds
 * neither by now, because somebody else has changed it since; with SUTURE_BARE_NOSYNC that is
 * -EUCLEAN.
 *
 * *failed (may be NULL): which site was refused.
 */
int suture_bare_apply(struct suture_bare_sites *sites, enum suture_bare_strategy strategy,
                      uint32_t *failed);
int suture_bare_revert(struct suture_bare_sites *sites, enum suture_bare_strategy strategy,
                       uint32_t *failed);

/* Fill a site: one instruction, what stands there now, to become a jump to `to` (a static key's
 * use; a function that is replaced at its first instruction) or a no-operation. */
int suture_bare_site_jump(struct suture_bare_site *site, uint64_t address, uint64_t to);
int suture_bare_site_nop(struct suture_bare_site *site, uint64_t address);

/* ---- code that is new ---- */

/*
 * Put `size` bytes at `address`, in text that nobody executes meanwhile: copied code, an exception
 * vector, a module's text. On return 0 every core that goes there executes them. Code that moves
 * must be position-independent.
 */
int suture_bare_publish(uint64_t address, const void *bytes, size_t size);

/* ---- probes ---- */

/* Bytes of a slot: text of one's own, a multiple of 4, within 128 MiB of the probed instruction. */
enum { SUTURE_BARE_SLOT = 80 };

/* In the context of the breakpoint exception; not to be probed itself. */
typedef void (*suture_bare_handler)(uint64_t pc, void *registers, void *arg);

/*
 * Call `handler` whenever the instruction at `address` is executed, before it. The instruction is
 * then executed out of line, in the slot, and goes on behind the original one. A direct branch or
 * an operand relative to the program counter does what it would have done in its place, a call
 * leaves the original return address.
 *
 * Not between an exclusive load and its store: the loop around them would never end. -ENOTSUP for
 * those two themselves, for exception generation and returns from exceptions.
 *
 * A probe that was removed leaves its slot and `room` for the next one at the same address and
 * slot: threads that were preempted in the slot go on in it.
 */
int suture_bare_probe_add(uint64_t address, uint64_t slot, suture_bare_handler handler, void *arg);

/*
 * On return 0 the original instruction is executed everywhere and no handler of this probe is under
 * way. The slot may be used for something else only when every thread that could have been
 * preempted in it has gone on; the library can not know. -ENOENT (2): no probe is there.
 */
int suture_bare_probe_remove(uint64_t address);

#ifdef __cplusplus
}
#endif

#endif
