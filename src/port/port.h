/* SPDX-License-Identifier: MIT */
/*
 * port.h - what a machine must provide, and in which order its effects become visible.
 *
 * Everything above this line (sync, patch, tramp) is one source for four machines: another
 * process (ptrace), our own (linux), no operating system (bare), and the simulated caches and
 * cores of the checker (model). Addresses are 64-bit numbers in the *machine's* address space
 * and are never dereferenced above the port. What differs between machines is data
 * (`struct port_caps`), not conditional compilation.
 *
 * "Core" means whatever executes instructions independently: a CPU on bare metal, a thread
 * under an operating system.
 *
 * A machine has up to three views of the same text, and so three separate cache duties after a
 * write. They are never folded into one call, because each has been forgotten on its own:
 *
 *     written through   port_clean_written     (1) write back the alias that was written
 *     read as data      port_drop_read         (2) drop D-cache lines at each alias read later
 *     executed          port_drop_executed     (3) invalidate the I-cache at each alias executed
 *
 * None of the three makes a core that has already fetched the old instruction fetch again:
 * that is port_sync_cores. Their order is always 1, 2, 3, then port_sync_cores.
 *
 * Memory that several cores use at once is read and written with port_load, port_set, port_add
 * and port_cas only; everything else is either not shared, or not written after it was shared.
 * Shared words get their first value with port_set, too. The checker stands on this.
 *
 * Return values: 0 or a count on success, a negative errno otherwise. Between port_stop and
 * port_resume no function takes a lock or memory that a stopped core could hold. None may be called
 * from a signal handler unless it says so.
 */
#ifndef SUTURE_PORT_H
#define SUTURE_PORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The machine; defined by the port, chosen by include path. */
struct port;

#define port_must_check __attribute__((warn_unused_result))

/* Facts that the layers above plan with. */
struct port_caps {
	/* Largest naturally aligned store that every core sees whole, bytes. 1 for a machine that
	 * is written through the kernel's memcpy (/proc/PID/mem). */
	uint32_t store_unit;
	/* A write may stop half way for good (the writer can be killed between pages): a run that
	 * must not be seen in part never crosses a multiple of `write_unit`. 0: writes are whole.
	 */
	uint32_t write_unit;
	/* Cores arrive at a rendezvous by themselves (sync/rendezvous); false: port_stop brings
	 * them to rest from outside. */
	bool cores_arrive;
	/* port_occupied can tell where every thread is and will return to. */
	bool threads_visible;
	/* Cache maintenance reaches all cores; false: duty 3 runs on each (port_run_on_all), and
	 * duties 1 and 2 on the core that wrote: where there are several, their D-caches are
	 * coherent and one place for all addresses of a line. Only the maintenance is ever per
	 * core, never the write. */
	bool maintenance_broadcast;
	/* Traps at patched sites reach us (port_trap_attach works). */
	bool traps;
	/* Text that the protocol and the trap path execute, if they run on this machine: never
	 * patched (case self-patching). Empty for a port that works on another process. */
	uint64_t noinstr_start, noinstr_end;
};

/* Constant for the lifetime of `port`. */
const struct port_caps *port_caps(const struct port *port);

/* Half-open range of addresses. */
struct port_range {
	uint64_t start, end;
};

/* ---- text ---- */

/*
 * Read `size` bytes at the *execution* address as a data access would see them (after duty 2).
 *
 *     for each byte: buffer[i] = data_load(address + i)
 *
 * -EFAULT: not all of it is mapped. -ESRCH: the machine is gone.
 */
int port_read(struct port *port, uint64_t address, void *buffer, size_t size) port_must_check;

/* A temporary writable alias of [address, address + size). Text is never writable and
 * executable through one mapping. The caller stays on its core while it is open. */
struct port_view {
	uint64_t address; /* execution address of the first byte */
	uint64_t size;    /* bytes */
	uint64_t alias;   /* where the port writes; its own business */
};

/* One writer: taken before the first expected byte is compared, released after the last core
 * executes what was written. Sleeps at most `deadline_ns`; -ETIMEDOUT. */
int port_lock(struct port *port, uint64_t deadline_ns) port_must_check;
void port_unlock(struct port *port);

/* Open an alias of one run of text, at most two pages apart on machines that map aliases by
 * hand. Views do not nest. Closing one leaves nothing of the alias in the D-cache: its address may
 * next stand for other text. */
int port_view_open(struct port *port, uint64_t address, size_t size,
                   struct port_view *view) port_must_check;
void port_view_close(struct port *port, struct port_view *view);

/*
 * One store that every core sees whole: old or new, nothing between. `size` is a power of two
 * not above caps.store_unit and `address` is a multiple of it. Ordered after earlier calls.
 */
int port_store(struct port *port, struct port_view *view, uint64_t address, const void *bytes,
               size_t size) port_must_check;

/* Any number of bytes, in any order and any pieces: only over bytes that nobody executes, or
 * where every mixture of old and new is harmless. On failure some bytes may be written. */
int port_write(struct port *port, struct port_view *view, uint64_t address, const void *bytes,
               size_t size) port_must_check;

/* ---- the three cache duties, and synchronisation ---- */

/* Where maintenance is not broadcast, each acts on the caller's core only. */

/* (1) The bytes written through the view reach the point from which instruction fetch and all
 * other aliases are filled, before any later call takes effect. On the core that wrote. */
void port_clean_written(struct port *port, const struct port_view *view, uint64_t address,
                        size_t size);
/* (2) Later data reads at the execution address see what duty 1 wrote back. */
void port_drop_read(struct port *port, uint64_t address, size_t size);
/* (3) Later instruction fetches at the execution address, by cores that synchronise after this,
 * see it too. */
void port_drop_executed(struct port *port, uint64_t address, size_t size);

/*
 * Every core executes a context synchronisation event (A64: ISB, exception; x86: serialising
 * instruction, interrupt return) between the call and its return:
 *
 *     for each core c: c.discard_fetched(); c.discard_predicted()
 *
 * Does not wait for a trap that was taken and not yet dispatched (case late-trap). Not while
 * cores of a rendezvous are masked: each then does port_sync_self.
 */
int port_sync_cores(struct port *port) port_must_check;
/* The same for the calling core alone (A64: ISB). */
void port_sync_self(struct port *port);

/* ---- quiescence ---- */

/*
 * Bring all other cores to rest, asynchronous exceptions masked, their earlier instructions
 * complete. Only for machines without `cores_arrive`.
 *
 *     before the return: every core is at rest; none executes until port_resume
 *     on error:          every core runs on as if nothing had happened
 *
 * -ETIMEDOUT: some core did not come to rest within `deadline_ns` (relative).
 * -EPERM, -ESRCH: the machine refuses, or is gone.
 */
int port_stop(struct port *port, uint64_t deadline_ns) port_must_check;
/* Let all go on; what port_sync_cores did while they were at rest counts. */
void port_resume(struct port *port);

/*
 * Stopped only. Number of threads that execute in one of the ranges (sorted, disjoint) or may
 * return there: program counters, and every word of their stacks that could be a saved one.
 * A range counts from `start` inclusive to `end` exclusive. False alarms are allowed.
 */
int port_occupied(struct port *port, const struct port_range *ranges, size_t n) port_must_check;

/* Stopped only, nobody inside (port_occupied is 0): drop what the operating system itself still
 * remembers of the ranges on behalf of a thread (an rseq descriptor, for instance), so that they
 * may be unmapped. */
int port_forget(struct port *port, const struct port_range *ranges, size_t n) port_must_check;

/* What each core runs in a rendezvous; `cores` is how many do. */
typedef void (*port_core_fn)(struct port *port, uint32_t cores, void *arg);
/*
 * Run fn once on every core, the caller's included. What the caller did before is visible to fn (a
 * barrier stands before the interrupt is sent). No context synchronisation event is promised: on
 * the caller's core there is no exception, and on RISC-V an exception is none. Only with
 * cores_arrive.
 *
 * 0: all have returned from fn. -ETIMEDOUT: some did not begin within `deadline_ns`, and never
 * will; all that began have returned.
 */
int port_run_on_all(struct port *port, port_core_fn fn, void *arg,
                    uint64_t deadline_ns) port_must_check;
/* Mask asynchronous exceptions on this core, those of firmware included where the machine lets
 * us (SDEI); nests by handing back what to restore. */
uint64_t port_mask(struct port *port);
void port_unmask(struct port *port, uint64_t state);

#define PORT_FOREVER UINT64_MAX
/* Sleep until *word != value (0) or the deadline passes (-ETIMEDOUT); everything the changer of
 * the word did before its port_set is visible on return. There are no spin loops above the port. */
int port_wait(struct port *port, const uint32_t *word, uint32_t value,
              uint64_t deadline_ns) port_must_check;
/* Let time pass before another try; `ns` is a hint. */
void port_pause(struct port *port, uint64_t ns);

/*
 * Inline in port_local.h, one instruction each where the machine has one:
 *
 *   uint32_t port_load(port, const uint32_t *word)   ordered before everything after it
 *   void port_set(port, uint32_t *word, value)       ordered after every earlier load and store
 *   uint32_t port_add(port, uint32_t *word, n)       atomic, returns the sum; ordered like
 * port_load bool port_cas(port, uint32_t *word, from, to)    the same void port_complete(port)
 * every earlier load and store of this core has taken effect before anything after it does (A64:
 * DSB SY; x86: MFENCE)
 *
 * port_add is not ordered after what comes before it: who announces with it completes first
 * (case arrival-before-completion).
 */

/* ---- executable memory ---- */

/*
 * Let the machine execute `pages[i].size` bytes of ours, already written and cleaned (duty 1) at
 * their backing store if there is one, at exactly `pages[i].address`. All or nothing; -EEXIST if
 * one address has been taken meanwhile. Never called while stopped. Duties 2 and 3 at these
 * addresses are the caller's and come after the return: before it there is nothing that they could
 * act on (case xol-unmapped). Where the kernel maps, and drops with it, they cost nothing.
 */
struct port_pages {
	uint64_t address;
	uint64_t size;   /* bytes, a multiple of the page size */
	uint64_t offset; /* in the backing store */
};
int port_map_exec(struct port *port, const struct port_pages *pages, size_t n) port_must_check;
/* Take everything of port_map_exec away again. Only after port_occupied said 0 and port_forget
 * was called with the world stopped, and after every way in was removed. */
int port_unmap_exec(struct port *port) port_must_check;

/* Wait until every thread that at the call was in the trap path, or in trampolines of ours, has
 * left them. */
int port_grace(struct port *port, uint64_t deadline_ns) port_must_check;

/* ---- traps ---- */

/* Called in the context of a thread that took a trap at `pc`, the address of the trap instruction
 * whatever the machine reports; returns where it goes on, or 0 if the trap is none of ours. */
typedef uint64_t (*port_trap_fn)(struct port *port, uint64_t pc, void *arg);
int port_trap_attach(struct port *port, port_trap_fn handler, void *arg) port_must_check;
void port_trap_detach(struct port *port);

/* ---- tests ---- */

/*
 * Ordering points: port_point(port, POINT) stands before each step whose place in the protocol
 * matters. Empty in release builds; a test injects delay there, and the checker leaves out the
 * step that follows: what is then refuted shows what the step is for.
 */
enum port_point {
	PORT_POINT_NONE,
	/* every strategy */
	PORT_POINT_LOCK,          /* one writer at a time */
	PORT_POINT_CLEAN,         /* duty 1 */
	PORT_POINT_CLOSE,         /* nothing of the alias is left */
	PORT_POINT_DROP_READ,     /* duty 2 */
	PORT_POINT_DROP_EXECUTED, /* duty 3 */
	/* nosync, publish */
	PORT_POINT_SYNC, /* everybody sees what was stored */
	/* breakpoint */
	PORT_POINT_SYNC_TRAPS, /* nobody starts an old instruction any more */
	PORT_POINT_SYNC_TAILS, /* the tail is there before the head leads to it */
	PORT_POINT_SYNC_HEADS, /* as PORT_POINT_SYNC */
	/* quiesce */
	PORT_POINT_STOP,       /* all at rest from outside */
	PORT_POINT_OCCUPIED,   /* nobody stands inside */
	PORT_POINT_SYNC_REST,  /* the writer's own view, and that of cores at rest */
	PORT_POINT_MASK,       /* no exception runs half-patched code */
	PORT_POINT_COMPLETE,   /* what a core ran before it arrived is done */
	PORT_POINT_HOLD,       /* nobody leaves before the end */
	PORT_POINT_DROP_LOCAL, /* duty 3 on each core */
	PORT_POINT_SYNC_SELF,  /* each core, on its way out */
	/* patch */
	PORT_POINT_ANNOUNCE, /* the trap path knows of a site before its trap is there */
	PORT_POINT_GRACE,    /* nobody is on the way to what may now be reused */
	PORT_POINT_LOOK,     /* the text is looked at before the registry is again */
	PORT_POINT_COUNT,
};
#include "port_local.h" /* the port's own: port_point, port_load, … */

#endif
