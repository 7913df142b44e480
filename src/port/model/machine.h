/* SPDX-License-Identifier: MIT */
/*
 * machine.h - a machine is a description: caches, ordering, what may be changed while it runs.
 *
 * Every field says what *may* happen. A line may be evicted and filled at any time, a store may
 * stay in its buffer for any time; the explorer tries all of it.
 */
#ifndef SUTURE_PORT_MODEL_MACHINE_H
#define SUTURE_PORT_MODEL_MACHINE_H

#include <stdbool.h>
#include <stdint.h>
#include "isa/isa.h"

/* By what a cache finds a line. */
enum machine_index {
	MACHINE_PIPT,
	MACHINE_VIPT, /* `colours` places for one physical line; 1: as good as physical */
	MACHINE_VIVT, /* every virtual address has a line of its own */
};

struct machine_cache {
	enum machine_index index;
	uint8_t colours; /* MACHINE_VIPT: a power of two */
};

enum machine_order {
	MACHINE_ORDER_PROGRAM, /* one CPU, or stores visible at once */
	MACHINE_ORDER_TSO,     /* a FIFO of stores; loads complete in order */
	MACHINE_ORDER_WEAK,    /* stores leave in any order; loads complete late */
};

enum { MACHINE_FETCH_UNBOUNDED = 255 };

struct machine {
	const char *name;
	const char *what;   /* the part, its core, its architecture */
	const char *source; /* manual and section for each field below */
	const struct isa *isa;
	uint8_t cpus; /* 1, or as many as a scenario wants */
	struct machine_cache data, instruction;
	/* Instruction fetch finds what the D-cache holds (CTR_EL0.IDC, or I filled from D): duty 1
	 * is only a barrier. */
	bool fetch_from_data;
	/* I-caches drop lines that are written (CTR_EL0.DIC, snooping): duty 3 is empty. */
	bool instruction_coherent;
	/* Maintenance by address reaches the caches of all CPUs. */
	bool broadcast;
	enum machine_order order;
	/* Instructions executed at most that were fetched before an invalidation, without a context
	 * synchronisation event; MACHINE_FETCH_UNBOUNDED: any number. */
	uint8_t fetch_ahead;
	/* Taking an exception, and returning from one, are context synchronisation events. */
	bool exceptions_synchronise;
	uint8_t store_unit; /* largest aligned store to text that is seen whole, bytes */
	bool big_endian;    /* data; instructions are what the isa says */
};

extern const struct machine machines[];
extern const unsigned machines_count;

#endif
