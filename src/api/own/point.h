/* SPDX-License-Identifier: MIT */
/*
 * point.h - places in our text that lead to a trampoline.
 *
 * A point is made the first time an address is hooked or probed, and stays: what its trampoline
 * leads to is in words of memory (point_wire), and taking the last hook and probe away restores the
 * text. So a thread may be in a trampoline for as long as it likes. All under own_lock.
 */
#ifndef SUTURE_API_OWN_POINT_H
#define SUTURE_API_OWN_POINT_H

#include "api/own/gate.h"
#include "api/own/ground.h"
#include "api/own/own.h"
#include "suture/site.h"

enum { POINT_CODE_MAX = 32 };

/* A replacement of the function; the first of a list is called first. */
struct suture_hook {
	struct suture_hook *next;
	struct point *point;
	void *replacement;
	uint64_t stub;   /* what the caller has as the original: jmp *below */
	uint64_t *below; /* a word */
	bool leaving;    /* not wired any more */
	unsigned call;   /* that installed it */
};

struct suture_probe {
	struct suture_probe *next; /* called after this one */
	struct point *point;
	struct gate_handler handler;
	bool vector;     /* its handlers may use vector registers */
	bool leaving;    /* not called any more */
	bool listed;     /* among those that are being removed */
	uint64_t missed; /* at its site before it came */
};

struct point {
	uint64_t address;
	/* Where it was, should that be unmapped one day. */
	uint64_t inode, device, offset;
	uint8_t code[POINT_CODE_MAX]; /* before we came */
	uint8_t code_size;
	uint8_t first; /* length of the first instruction */

	enum suture_site_kind best; /* that was found for it */
	enum suture_site_kind kind; /* in the text now; 0: none */
	struct sync_site site;      /* of the best kind */
	uint8_t displaced;          /* bytes of code in the copy */
	uint64_t entry;             /* where the text leads: jmp *enter, or jmp direct */
	uint64_t direct;            /* where the entry leads; 0: where the word `enter` says */
	uint64_t copy;              /* displaced code, and on */
	uint8_t entries[SYNC_SITE_MAX];
	uint64_t alone;     /* the first instruction only, and on; 0: not made */
	uint64_t gate_code; /* calls the handlers, then *after; 0: not made */
	uint64_t step;      /* the first instruction, then the post handlers; 0: not made */
	uint64_t *enter, *after, *gate, *straight; /* words; NULL: not needed so far */
	struct gate_context pre, post_straight, post_taken;
	struct gate_site gate_site;

	struct suture_hook *hooks, *old_stubs;
	struct suture_probe *probes;
	/* How the trap path finds the site; NULL: it does not. */
	struct patch_detour *detour;
	bool fresh;   /* part of what is being installed: about to be in the text */
	size_t index; /* of what was asked for, for errors */
};

/*
 * The point at an address; made if there is none: planned, with code to lead to, and not in the
 * text. `replacement`: what it is made for, and shall lead to if nothing else is attached (0:
 * handlers). `i` is told in errors.
 */
int point_get(uint64_t address, uint64_t replacement, size_t i, struct suture_text_options *options,
              struct point **out) port_must_check;

/* The point lying at an address, or NULL. */
struct point *point_at(uint64_t address);

/* Bytes from the point on that nobody else has, or is about to have, in his hands. */
size_t point_room(const struct point *point);

/* ---- plan.c, body.c: the point's own side ---- */

/* Look at what is there, choose the best kind, and make code for it. */
int point_plan(struct point *point, uint64_t direct, size_t i,
               struct suture_text_options *options) port_must_check;

/* The displaced code; and where the text leads to: jmp *enter, or, half a nanosecond faster, right
 * to `direct` (0: not) if that is in reach. */
int point_make_copy(struct point *point) port_must_check;
int point_make_entry(struct point *point, uint64_t direct) port_must_check;
/* The entry leads where the word says, from now on. */
int point_make_indirect(struct point *point, struct suture_text_options *options) port_must_check;
/* The first instruction alone, for when what follows belongs to somebody else. */
int point_make_alone(struct point *point) port_must_check;
/* Make what the point's hooks and probes need, before anything is wired. */
int point_make_gate(struct point *point) port_must_check;
int point_make_step(struct point *point) port_must_check;
int point_make_stub(struct point *point, struct suture_hook *hook) port_must_check;

/* ---- point.c ---- */

/* Lead where hooks and probes (those not leaving) say. */
void point_wire(struct point *point);

/* Nothing is attached (but what is leaving). */
bool point_is_idle(const struct point *point);

/*
 * The text at all `points` leads to them, or nothing has changed; and the other way round.
 * Neighbours whose jump covers a point make room for it. `points` are sorted by address.
 */
int points_apply(struct point **points, size_t count,
                 struct suture_text_options *options) port_must_check;
int points_revert(struct point **points, size_t count,
                  struct suture_text_options *options) port_must_check;

/* Sort, drop duplicates; returns how many are left. */
size_t points_sort(struct point **points, size_t count);

/* Code that was made becomes executable. */
int points_publish(struct suture_text_options *options) port_must_check;

/* Overlay what was there before us. */
void points_undo(uint64_t address, uint8_t *bytes, size_t size);

/* Is there a point, in force or not, that an edit in [start, end) could meet? */
bool points_near(uint64_t start, uint64_t end);
/* A point in force whose instructions an edit of [start, end) changes; NULL: there is none. */
struct point *point_under(uint64_t start, uint64_t end);
/* Points in force make do with a trap, and the program's own code is in the text but for its byte.
 */
int points_to_traps(struct point **points, size_t count,
                    struct suture_text_options *options) port_must_check;

/* ---- overlay.c: edits of instructions that points stand on ---- */

/*
 * What is to be changed instead of the sites of `registry`: copies, where a point's are executed in
 * place of the text. *out is `registry` itself if there is nothing of that, else allocated; from[i]
 * is the site that its site i comes of (NULL: itself).
 */
int overlay_plan(struct patch_registry *registry, struct patch_registry **out, uint32_t **from,
                 struct suture_text_options *options) port_must_check;
/* It was done. */
void overlay_done(const struct patch_registry *registry);

/* Does code that was made for a point, which may be taken away by now, go on behind `start` and
 * before `end`? It can at any time: a thread is in it, or somebody calls the original of a hook. */
bool points_lead_into(uint64_t start, uint64_t end);

/* ---- live.c: what the trap path knows ---- */

/* Change the text of points from kind `from` to kind `to` (0: none) in one transaction. */
struct live_change {
	struct point *point;
	enum suture_site_kind from, to;
};
int live_change(const struct live_change *changes, size_t count,
                struct suture_text_options *options) port_must_check;

#endif
