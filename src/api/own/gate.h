/* SPDX-License-Identifier: MIT */
/*
 * gate.h - from a trampoline into C and back.
 *
 * Everything in gate.c is noinstr: it runs at any instruction of the program, and calls nothing but
 * handlers.
 */
#ifndef SUTURE_API_OWN_GATE_H
#define SUTURE_API_OWN_GATE_H

#include "port/port.h"
#include "suture/probe.h"

struct gate_handler {
	suture_probe_fn pre, post;
	void *arg;
};

/* Read by threads in the gate; never changed, but replaced (gate_wait, then free). */
struct gate_handlers {
	uint32_t count;
	uint32_t vector; /* some may use vector registers: for gate_vector only */
	struct gate_handler list[];
};

/* What is attached to a site. */
struct gate_site {
	const struct gate_handlers *handlers; /* atomic; may be NULL */
	uint64_t missed;                      /* atomic */
};

/* What a trampoline passes. */
struct gate_context {
	uint64_t rip; /* first: where the thread is, or goes on */
	struct gate_site *site;
	bool post;
};

/* Chosen once, before the first gate is used. */
void gate_setup(void);

/* What trampolines call (not functions of C). */
extern const char gate_general[], gate_vector[];

/* Wait until every thread that at the call was in a handler has left it. Handlers that were
 * attached before, and are not any more, are then called no longer. -ETIMEDOUT. */
int gate_wait(struct port *port, uint64_t deadline_ns) port_must_check;

/* Is the calling thread in a handler? */
bool gate_inside(void);

/* In the child of a fork only the calling thread is left. */
void gate_after_fork(void);

#endif
