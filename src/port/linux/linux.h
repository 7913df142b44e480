/* SPDX-License-Identifier: MIT */
/*
 * linux.h - port/linux: our own process.
 *
 * Text is written through /proc/self/mem, which needs no writable mapping at any time; memory that
 * is mapped twice (linux_alias_add) through its other mapping. Everything here but setup.c and
 * signal.c is in the section that is never patched (suture_noinstr), and calls nothing outside it:
 * system calls are made directly.
 */
#ifndef SUTURE_PORT_LINUX_H
#define SUTURE_PORT_LINUX_H

#include <signal.h>
#include "port/linux/park.h"
#include "port/port.h"

enum { LINUX_TRAP_SIGNALS = 2 };

/* Memory that is mapped twice: to execute, and to write. Shared mappings can not be written through
 * /proc/self/mem. */
struct linux_alias {
	uint64_t start, size; /* where it is executed */
	uint64_t writable;
	struct linux_alias *next;
};

struct port {
	struct port_caps caps;
	/* Changed and walked under port_lock. */
	struct linux_alias *aliases, *recent;
	int mem;       /* /proc/self/mem */
	uint32_t pid;  /* whose it is: a child that nobody told of its fork must not use it */
	uint32_t lock; /* 0, or the holder's thread id; bit 31: somebody waits */
	/* Threads in the trap path now, for those that entered in an even and an odd period. */
	uint32_t period, inside[2];
	port_trap_fn handler;
	void *handler_arg;
	uint32_t changes; /* transactions so far */
	/* What SIGTRAP and SIGILL did before us. */
	const struct sigaction *previous[LINUX_TRAP_SIGNALS]; /* atomic; what it points to stays */
	struct park park;                                     /* quiescence */
};

/*
 * The process' own port, made at the first call. NULL and *error (negative errno): there is no way
 * to write text here (-EACCES), or no membarrier (-ENOSYS). After a fork the child's text and
 * traps are its own. Not in signal handlers.
 */
struct port *linux_port(int *error);

/* The same as port_trap_attach for SIGILL: sites may trap by invalid opcodes, too. */
int linux_attach_invalid(struct port *port) port_must_check;

/* The port can still write: the program may have closed its file. An error of open(2). */
int linux_check(struct port *port) port_must_check;

/* Is the signal ours now? Then *old is what the program has for it (NULL: not asked), and becomes
 * *new (NULL: stays). From signal handlers, too. */
bool linux_previous(struct port *port, int number, const struct sigaction *new,
                    struct sigaction *old);

/* Does the calling thread have a shadow stack? */
bool linux_shadow_stack(void);

/* Let no handler of the program's run with the signals of traps blocked. */
void linux_unmask_handlers(void);

/* See that every thread can take a trap: one that blocks the signal would be killed by it.
 * `others_only`: the calling one will not meet any. -EBUSY: *tid still blocks it after
 * `deadline_ns`; another error: the threads can not be listed. */
int linux_traps(struct port *port, bool others_only, uint64_t deadline_ns,
                int *tid) port_must_check;

/* The signals that a thread blocks (its number as text): bit N - 1 for signal N. 0 if it is gone.
 */
uint64_t linux_blocked_by(const char *tid);
/* Is there no other thread in this process? */
bool linux_alone(void);
/* From now on, until it is removed, text there is written through its other mapping; `alias` is the
 * caller's memory. Under port_lock. */
void linux_alias_add(struct port *port, struct linux_alias *alias);
void linux_alias_remove(struct port *port, struct linux_alias *alias);
/* Where `size` bytes at `address` are written like that; NULL: not all of them are. */
void *linux_writable(const struct port *port, uint64_t address, size_t size);

/* trap.c: the handler, and whose port it works for. */
extern struct port *linux_handling;
void linux_on_trap(int number, siginfo_t *info, void *context);
extern const char linux_restorer[]; /* what it returns to */

/* The kernel's, which libc's differs from. */
struct kernel_sigaction {
	void *handler;
	unsigned long flags;
	void *restorer;
	uint64_t mask;
};

/* In a handler of `number`: the default action, on this very thread, as if we had never been
 * there. */
void linux_default_action(int number);

/* ---- cores.c: time and sleep ---- */

uint64_t linux_now(void);
/* The end of a relative deadline; PORT_FOREVER stays. */
uint64_t linux_end_of(uint64_t deadline_ns);
void linux_futex_wait(const uint32_t *word, uint32_t value, uint64_t ns);
void linux_futex_wake(const uint32_t *word, int threads);

#endif
