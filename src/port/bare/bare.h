/* SPDX-License-Identifier: MIT */
/*
 * bare.h - the machine without an operating system, as port.h wants it.
 *
 * What it stands on is declared here under the names that the integrator defines; the public header
 * says what each must do.
 */
#ifndef SUTURE_PORT_BARE_H
#define SUTURE_PORT_BARE_H

#include "port/bare/caches.h"
#include "port/port.h"

bool suture_machine_is_text(uint64_t address, size_t size);
void *suture_machine_map(uint64_t address, size_t size);
void suture_machine_unmap(void *alias, size_t size);
uint32_t suture_machine_core(void);
void suture_machine_interrupt(uint32_t core);
uint64_t suture_machine_mask(void);
void suture_machine_unmask(uint64_t state);
uint64_t suture_machine_now(void);

/* A request to a core: who asks sets ASKED, the core takes it or who asked does, back. */
enum { BARE_IDLE, BARE_ASKED, BARE_TAKEN };

struct bare_core {
	uint32_t request; /* shared */
	uint32_t online;  /* shared; written under the lock */
	uint32_t unused[14];
} __attribute__((aligned(64)));

struct port {
	struct port_caps caps;
	struct family_caches caches;
	bool caches_given;
	uint32_t cores;
	struct bare_core *core;
	uint64_t bound_ns;
	uint32_t lock; /* shared: 0, or 1 + the core that has it */
	/* What the cores are asked for: written before a request is ASKED. */
	port_core_fn asked_fn;
	void *asked_arg;
	uint32_t asked_cores;
	/* Threads in the trap path, by period; see port_grace. Shared. */
	uint32_t period, inside[2];
	port_trap_fn handler;
	void *handler_arg;
};

/* Everything but what is pointed to, on the first core, alone. */
void bare_start(struct port *port);
/* The calling core comes, or goes. */
int bare_online(struct port *port, bool online) port_must_check;
/* Is another core online? Under the lock, or where it does not matter if it changes. */
bool bare_alone(struct port *port);
/* Do what this core was asked for, if it was. */
void bare_serve(struct port *port);
/* The trap path: in, and out with what the first one returned. */
uint32_t bare_enter(struct port *port);
void bare_leave(struct port *port, uint32_t period);

#endif
