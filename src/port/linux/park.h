/* SPDX-License-Identifier: MIT */
/*
 * park.h - all threads of our own process at rest, each in a handler of ours.
 */
#ifndef SUTURE_PORT_LINUX_PARK_H
#define SUTURE_PORT_LINUX_PARK_H

#include <signal.h>
#include "port/port.h"

enum { PARK_STACKS = 4, PARK_WORDS = 512 };

/* A stack of a parked thread: words from `start` on may be return addresses. */
struct park_stack {
	uint64_t start, end; /* what was looked at, or is now */
	uint64_t at;         /* the next word; 0: none is left */
};

/* A thread at rest. Lies on its own stack, until it leaves. */
struct parked {
	struct parked *next;
	uint32_t tid;
	const ucontext_t *context; /* what was interrupted; NULL: the thread that asks */
	uint64_t stack_pointer;
	uint64_t thread_pointer; /* 0: not known */
	/* Filled by port_occupied: the thread's stack, and those that handlers interrupted. In one
	 * pass over the mappings those from `done` to `known` are looked at. */
	struct park_stack stacks[PARK_STACKS];
	uint32_t count, known, done;
};

/* Who counts wakes who waits for the count. */
struct park_tally {
	uint32_t count, wanted;
};

/* One after the other; a round number stands above, so that who still sleeps in one round does not
 * take the next for it. */
enum park_phase { PARK_OVER, PARK_GATHERING, PARK_RUNNING, PARK_PHASES = 4 };

static inline enum park_phase phase_of(uint32_t word)
{
	return word % PARK_PHASES;
}

struct park {
	int signal;        /* 0: none is chosen yet */
	int tasks;         /* /proc/self/task while attached, or -1 */
	uint64_t frame;    /* of who asks */
	uint64_t restorer; /* what handlers of libc's making return to */
	uint32_t phase;    /* enum park_phase, and the round */
	/* Open while it is not NULL: threads put themselves in front. The last is who asks. */
	struct parked *list;
	struct parked *resting; /* the same, closed: while PARK_RUNNING */
	struct park_tally parked, settled, left;
	uint32_t sent, handled; /* signals of ours */
	bool careful;           /* some of them may still be pending */
	port_core_fn fn;
	void *arg;
	uint32_t cores;
	const uint32_t *word; /* what the parked wait for in fn */
	/* Why it failed, for people. */
	uint32_t late;     /* a thread that did not come */
	uint32_t occupant; /* a thread that was inside, and the address by which that is known */
	uint64_t occupied;
	uint64_t words[PARK_WORDS]; /* buffer */
};

/*
 * Before and after a transaction by quiescence, with the port's lock not held: takes a real-time
 * signal that nobody uses, and gives it back if none can be on its way any more. -EBUSY: there is
 * none that is free; -EMFILE and the like: /proc/self/task can not be opened. Of the caller's stack
 * what is below `frame` is not looked at by port_occupied: the library's own, with addresses in it
 * that are no return addresses. Not in signal handlers.
 */
int linux_park_attach(struct port *port, const void *frame) port_must_check;
void linux_park_detach(struct port *port);
/* After an error: a thread that did not come, and the signal that it was sent; or 0. */
uint32_t linux_park_late(const struct port *port, int *signal);
/* A thread that was inside, and the address by which that is known, or 0; or 0. */
uint32_t linux_park_occupant(const struct port *port, uint64_t *address);

/* In port_wait: how long to sleep at a time for somebody who may be parked; `otherwise` if not. */
uint64_t linux_park_slice(struct port *port, const uint32_t *word, uint64_t otherwise);
void linux_on_park(int number, siginfo_t *info, void *context);
extern struct port *linux_parking;

/* ---- tasks.c: what /proc/self/task tells ---- */

/* All threads but the caller, at one look. */
struct park_census {
	uint32_t parked;  /* in port->park.list */
	uint32_t gone;    /* never run user code again: exiting, or the kernel's own */
	uint32_t missing; /* the others; each has been sent the signal */
	uint32_t late;    /* one of those */
	bool complete;    /* the kernel counts as many */
};

/* Look at all threads, and send the signal to those that neither are parked nor have it pending.
 * -ESRCH: /proc belongs to other processes. */
int linux_census(struct port *port, struct park_census *census) port_must_check;

/* Read a file of /proc line by line; what is longer than `line` is cut. */
struct park_file {
	int file;
	uint32_t have, at;
	char bytes[512];
	char line[128];
};
int linux_open_task(struct port *port, uint32_t tid, const char *name,
                    struct park_file *file) port_must_check;
/* 1: a line; 0: the end. */
int linux_next_line(struct park_file *file) port_must_check;
void linux_close(struct park_file *file);

#endif
