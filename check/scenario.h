/* SPDX-License-Identifier: MIT */
/*
 * scenario.h - a scenario lays out a world on a machine, and says what its threads do.
 */
#ifndef SUTURE_CHECK_SCENARIO_H
#define SUTURE_CHECK_SCENARIO_H

#include "check/check.h"
#include "patch/patch.h"
#include "port/model/world.h"

struct scenario {
	const char *name;
	const char *what;    /* one sentence */
	const char *subject; /* case of DESIGN.md's table, or NULL */
	/* NULL, or why it cannot exist on this machine. */
	const char *(*absent)(const struct machine *machine);
	void (*build)(struct world *world);
};

struct kit; /* below */

/* ---- bricks: what differs between ISAs is in here ---- */

/* Where things are. Every site has a line of its own, but for the one that straddles two. */
enum {
	AT_SITE = 0x1000,
	AT_SECOND = 0x1010,
	AT_SLOT = 0x1020, /* displaced copies, published code */
	AT_NEW = 0x1030,  /* what the patched code leads to */
	AT_OTHER = 0x1040,
};

/* Is the ISA one of bytes (x86)? Otherwise instructions are words. */
bool bytewise(const struct world *world);
/* Length of an ordinary instruction that is no branch. */
unsigned insn_length(const struct world *world);

/* Map a line that holds `bytes`. */
void line_add(struct world *world, uint32_t address);
/* What memory holds at first, and caches may. */
void text_put(struct world *world, uint32_t address, const void *bytes, unsigned size);

/* The k-th ordinary instruction: no branch, not one that may be changed while it is executed. */
unsigned insn_plain(const struct world *world, unsigned k, uint8_t *out);
unsigned insn_nop(const struct world *world, uint8_t *out); /* x86: 5 bytes */
unsigned insn_branch(const struct world *world, uint32_t from, uint32_t to, uint8_t *out);
unsigned insn_trap(const struct world *world, uint8_t *out);

/* Add a legal instruction; returns it for more to be said. */
struct world_form *form_add(struct world *world, uint32_t address, const uint8_t *bytes,
                            unsigned length, uint32_t next);
/* The same for one that belongs to one state of a site. */
struct world_form *form_of(struct world *world, unsigned site, unsigned states, uint32_t address,
                           const uint8_t *bytes, unsigned length, uint32_t next);

/* A site, whose original bytes are put into memory. Returns its number. */
unsigned site_add(struct world *world, uint32_t address, const uint8_t *original,
                  const uint8_t *patched, unsigned length);

/* Transactions of registry i with what every scenario asks of them: the call succeeds, then only
 * the new state is executed, and data reads find it. False: somebody stood inside for too long,
 * which the options must allow; then the same holds for the state before. */
bool kit_apply(struct port *port, struct kit *kit, unsigned i);
bool kit_revert(struct port *port, struct kit *kit, unsigned i);
/* Does a data read at the site find this state (WORLD_OLD, WORLD_NEW)? */
void kit_reads(struct port *port, struct kit *kit, unsigned i, unsigned state);

/* A thread that runs text from `start` on, for ever. */
void thread_runs(struct world *world, const char *role, uint32_t start);
/* One that calls the protocol. */
void thread_calls(struct world *world, const char *role,
                  void (*calls)(struct port *port, void *arg));

/* The k-th ordinary instruction at `address`, then to `back`. */
void lead_to(struct world *world, uint32_t address, unsigned k, uint32_t back);
/* One that is executed for ever. */
void add_loop(struct world *world, uint32_t address);

/* Zeroed memory of the world. */
void *world_new(struct world *world, size_t size);

/* ---- ready-made layouts ---- */

/* What the threads of a scenario work with. */
struct kit {
	struct patch_options options;
	struct patch_traps traps;
	struct patch_live live[2];
	struct patch_detour detours[2];
	struct patch_registry *registry[2];
	struct port_range clear[1], vacate[1];
	struct world *world;
	uint32_t second;   /* offset of the second instruction of a hook */
	uint32_t loop;     /* where other code goes back to */
	uint32_t words[4]; /* shared, for scenarios */
	/* Code to be published. */
	bool deferred; /* its page is mapped after it was written */
	uint32_t code_at, code_size;
	uint8_t code[16];
};

/*
 * Site 0, at `at`: a nop that becomes a branch to AT_NEW; a loop runs over it.
 */
struct kit *layout_key(struct world *world, uint32_t at);
/* Two of them in registry 0, the other at `second`; a loop runs over both. */
struct kit *layout_two_keys(struct world *world, uint32_t second);
/* The same with branches that lead elsewhere afterwards; on x86 one byte of each changes. No traps.
 */
struct kit *layout_two_branches(struct world *world, uint32_t second);
/* Another such site, as registry i. */
unsigned add_key(struct kit *kit, unsigned i, uint32_t at, uint32_t slot);
/* Site 0: an ordinary instruction that becomes a trap; the trap path leads to a slot that counts
 * and goes back. */
struct kit *layout_probe(struct world *world);
/* Site 0, at `at`: two ordinary instructions under one jump (or two words) to AT_NEW. */
struct kit *layout_hook(struct world *world, uint32_t at);

/* One site into a registry. */
struct patch_registry *registry_of(struct world *world, unsigned first_site, unsigned count);

#endif
