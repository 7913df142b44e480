/* SPDX-License-Identifier: MIT */
/*
 * world.h - what a scenario puts on a machine: text, the instructions that may legally be found in
 * it, and threads.
 *
 * An execution address with WORLD_ALIAS set is the writable alias of the same physical memory.
 */
#ifndef SUTURE_PORT_MODEL_WORLD_H
#define SUTURE_PORT_MODEL_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "port/model/machine.h"
#include "port/port.h"

#define WORLD_ALIAS 0x80000000u

enum {
	WORLD_LINE = 16, /* bytes */
	WORLD_LINES = 5,
	WORLD_THREADS = 3,
	WORLD_FORMS = 48,
	WORLD_SITES = 4,
	WORLD_MEMORY = 4096,
};

/* Which states of a site an instruction belongs to. */
enum { WORLD_OLD = 1, WORLD_NEW = 2, WORLD_ANY = 3 };
enum { WORLD_NO_SITE = 0xFF };

/*
 * An instruction that is right at this address. Whatever else a core executes is a violation,
 * but for traps, which go to the trap path.
 */
struct world_form {
	uint32_t address;
	uint8_t length;
	uint8_t bytes[8];
	uint8_t site;   /* whose state it belongs to, or WORLD_NO_SITE */
	uint8_t states; /* WORLD_OLD, WORLD_NEW or both */
	uint32_t next;  /* where the thread goes on */
	uint32_t other; /* or there, if not 0 (a conditional or indirect branch) */
	/* Loads this byte at `literal` and must find `loads`; complete at any later time on a
	 * weakly ordered machine. 0: loads nothing. */
	uint32_t literal;
	uint8_t loads;
	/* A sequence is executed in one state from end to end: what begins it (WORLD_OLD or
	 * WORLD_NEW), and what may only follow the same. */
	uint8_t begins, follows;
};

struct world_site {
	uint32_t address;
	uint8_t length;
	uint8_t original[16], patched[16];
};

struct world_thread {
	const char *role;
	/* Either runs text from here on for ever... */
	uint32_t start;
	uint8_t began; /* state of the sequence that it is in the middle of, or 0 */
	bool masked;   /* ... and never takes an asynchronous exception */
	/* ... or calls the protocol, and returns. */
	void (*calls)(struct port *port, void *arg);
	void *arg;
	uint32_t then; /* what it runs afterwards, or 0 */
};

struct world {
	const struct machine *machine;
	const struct isa *isa;

	/* ---- text ---- */
	unsigned lines;
	uint32_t line_address[WORLD_LINES];
	bool line_absent[WORLD_LINES]; /* not mapped at its execution address at first */
	/* What memory holds at first; caches may, too. */
	uint8_t line_first[WORLD_LINES][WORLD_LINE];

	unsigned forms;
	struct world_form form[WORLD_FORMS];
	unsigned sites;
	struct world_site site[WORLD_SITES];

	/* ---- who runs ---- */
	unsigned threads, cpus;
	struct world_thread thread[WORLD_THREADS];
	/* The trap path, or NULL. */
	uint64_t (*trap)(struct port *port, uint64_t pc, void *arg);
	void *trap_arg;

	/* ---- what else can happen ---- */
	bool stop_outside;   /* cores are stopped from outside (port_stop); they do not arrive */
	bool timeouts;       /* deadlines may pass */
	uint8_t write_fails; /* so many writes to text may fail half way */
	uint32_t unwritable; /* every write to this line fails, or 0 */
	uint32_t vector_end; /* leaving which it returns, if that is not where it began */
	uint32_t vector;   /* unmasked cores may take an exception whose handler runs this, or 0 */
	uint32_t protocol; /* text that the protocol's own code stands for, or 0 */
	uint32_t ours_start, ours_end; /* displaced copies: port_grace waits until left */
	unsigned variant; /* what scenario threads do instead of the shipped protocol, or 0 */
	unsigned without; /* enum port_point that is left out, or 0 */
	unsigned broken;  /* rule of the machine that does not hold (rule.h), or 0 */

	/* Names of shared words in `memory`, for people; NULL ends them. */
	struct {
		const uint32_t *word;
		const char *name;
	} names[8];

	/* The scenario's own: registries, options, code to publish. Shared words in it follow the
	 * rules of port.h. */
	_Alignas(16) uint8_t memory[WORLD_MEMORY];
	size_t memory_used;
};

/* ---- said by scenario threads; take no time ---- */

/* From now on only these states of the site may be executed (WORLD_OLD, WORLD_NEW, WORLD_ANY). */
void world_expect(struct port *port, unsigned site, unsigned states);
/* A violation if `condition` is false: `property` is what was broken. */
void world_assert(struct port *port, bool condition, const char *property);
/* The displaced copies are given back: whoever executes there from now on is lost. */
void world_reclaim(struct port *port);

#endif
