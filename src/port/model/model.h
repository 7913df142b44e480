/* SPDX-License-Identifier: MIT */
/*
 * model.h - the simulated machine: its state, and the steps that it can take.
 *
 * A step is one effect of one core, with every choice that the hardware has in it. The protocol's
 * own state is the values that its port calls have returned so far (`node`): its code runs again
 * from the start when it has to be asked what it does next, once for each such sequence. So it
 * may use its stack as it likes, but what cores share goes through the port.
 */
#ifndef SUTURE_PORT_MODEL_MODEL_H
#define SUTURE_PORT_MODEL_MODEL_H

#include <setjmp.h>
#include "port/model/order.h"
#include "port/model/rule.h"
#include "port/model/versions.h"
#include "port/model/world.h"

enum {
	MODEL_VERSIONS = 12,
	MODEL_CPUS = 3,
	MODEL_STORES = 6,
	MODEL_WORDS = 40,
	MODEL_FRAMES = 3,
	MODEL_CHOICES = 24,
	MODEL_DATA = 16,
};

/* ---- state: compared byte by byte, so it has no padding and unused parts are 0 ---- */

/*
 * One line of text: the contents that it has had, in the order in which they reached the D-cache.
 * An index of them is a floor: that copy, or any later one, may be what the reader finds, because
 * every cache may have filled at any time since.
 */
struct model_line {
	struct versions history;         /* how many; written back up to where (duty 1) */
	uint8_t dirty;                   /* 1 + CPU that holds what is beyond, 0: nothing is */
	uint8_t dirty_alias;             /* by which address */
	uint8_t absent;                  /* not mapped at its execution address */
	uint8_t read[2];                 /* floor of data reads: execution address, alias */
	uint8_t cached[MODEL_CPUS];      /* floor of the I-caches (duty 3) */
	uint8_t fetched[MODEL_CPUS];     /* floor of what was fetched ahead (synchronisation) */
	uint8_t content[MODEL_VERSIONS]; /* index into model->contents */
};

struct model_store {
	uint8_t kind;  /* 0 none, 1 text, 2 word */
	uint8_t index; /* line, word */
	uint8_t alias;
	uint8_t release; /* not before everything earlier */
	uint32_t value;  /* word: what; text: index into model->pieces */
};

enum { CALL_NONE, CALL_ASKED, CALL_BEGUN, CALL_DONE };
enum { REST_NONE, REST_ASKED, REST_THERE };

struct model_cpu {
	uint8_t current; /* thread */
	uint8_t sync;    /* 1 + thread that asked for a context synchronisation event */
	uint8_t rest;
	uint8_t ahead;               /* instructions that may still come from before */
	uint8_t call[WORLD_THREADS]; /* port_run_on_all, by thread that asked */
	uint8_t stores;
	struct model_store store[MODEL_STORES];
};

enum { FRAME_THREAD, FRAME_TRAP, FRAME_CALL };

struct model_frame {
	uint32_t node;
	uint8_t kind, owner, started, reserved;
};

enum { MODE_RUNS, MODE_TRAPPED };

struct model_thread {
	uint32_t pc;     /* 0: executes no text of its own */
	uint32_t vector; /* where it is in an exception's handler, or 0 */
	uint8_t mode;
	uint8_t masked;
	uint8_t load;  /* 1 + form whose load is not complete, or 0 */
	uint8_t grace; /* bit i: thread i waits for it to leave the trap path and displaced copies
	                */
	uint8_t frames;
	uint8_t began;       /* state of the sequence that it is in */
	uint8_t interrupted; /* and was in before an exception */
	uint8_t turning;     /* has executed nothing but traps since it took one */
	uint8_t before;      /* 1 + words as its last load found them; bit 7: text was read since */
	uint8_t reserved[3];
	struct model_frame frame[MODEL_FRAMES];
};

struct model_rest {
	uint8_t lock;     /* 1 + holder */
	uint8_t writers;  /* bit i: thread i has written text since the lock was taken */
	uint8_t failures; /* writes that may still fail */
	uint8_t reclaimed;
	uint8_t window; /* 1 + line whose alias the D-cache may hold: all views have one address */
	uint8_t reserved[3];
	uint8_t allowed[WORLD_SITES];
	uint32_t word[MODEL_WORDS]; /* exclusive-or with their first values */
};

struct model_state {
	struct model_line line[WORLD_LINES];
	struct model_cpu cpu[MODEL_CPUS];
	struct model_thread thread[WORLD_THREADS];
	struct model_rest rest;
};

/* ---- what protocol code asks for ---- */

enum model_kind {
	OP_RETURN, /* the function has returned; `a` is what */
	OP_READ,
	OP_LOCK,
	OP_UNLOCK,
	OP_VIEW_CLOSE,
	OP_STORE,
	OP_WRITE,
	OP_CLEAN,
	OP_DROP_READ,
	OP_DROP_EXECUTED,
	OP_SYNC_CORES,
	OP_SYNC_SELF,
	OP_STOP,
	OP_RESUME,
	OP_OCCUPIED,
	OP_RUN_ON_ALL,
	OP_MASK,
	OP_UNMASK,
	OP_WAIT,
	OP_LOAD,
	OP_SET,
	OP_ADD,
	OP_CAS,
	OP_COMPLETE,
	OP_MAP,
	OP_GRACE,
	OP_EXPECT,
	OP_ASSERT,
	OP_RECLAIM,
};

struct model_op {
	enum model_kind kind;
	bool skipped; /* the ordering point before it is switched off */
	bool forever;
	uint8_t size;
	uint32_t address, word;
	uint64_t a, b;
	uint8_t data[MODEL_DATA];
	const char *text;
	struct port_range range[2];
};

/* What a port call returned. */
struct model_value {
	int64_t rc;
	uint8_t data[MODEL_DATA];
};

struct model_node {
	struct model_value value; /* the last */
	uint32_t parent, child, sibling, root;
	uint32_t length; /* values from the root */
	bool known;
	struct model_op op;
};

struct model_root {
	uint8_t kind, thread;
	uint64_t pc;    /* FRAME_TRAP */
	uint32_t outer; /* FRAME_CALL: node whose port_run_on_all it serves */
	uint32_t node;
};

/* ---- one run ---- */

struct model_piece {
	uint16_t mask;
	uint8_t bytes[WORLD_LINE];
};

enum { MODEL_CONTENTS = 128, MODEL_PIECES = 128, MODEL_ROOTS = 256, MODEL_VALUES = 1024 };

struct port {
	const struct world *world;
	const struct machine *machine;
	struct port_caps caps;
	struct versions_caches caches; /* of the machine, for text */

	uint8_t contents[MODEL_CONTENTS][WORLD_LINE];
	unsigned contents_count;
	struct model_piece pieces[MODEL_PIECES];
	unsigned pieces_count;
	struct {
		uintptr_t key;
		uint32_t first;
		bool on_stack; /* of a rendezvous, or of a batch */
	} words[MODEL_WORDS];
	unsigned words_count;

	uint32_t snapshot[127][MODEL_WORDS];
	unsigned snapshots;

	struct model_node *nodes;
	uint32_t nodes_count, nodes_room;
	struct model_root roots[MODEL_ROOTS];
	unsigned roots_count;

	/* The running again of protocol code. */
	struct {
		const struct model_value *values;
		unsigned length, at;
		uint32_t node;
	} replay[2];
	unsigned replay_depth, replay_top, replay_thread;
	struct model_value replay_values[2][MODEL_VALUES];
	char *replay_base;
	struct model_op asked;
	bool skip;
	jmp_buf back;

	/* The choices of one step. */
	uint8_t choice[MODEL_CHOICES], choices_of[MODEL_CHOICES];
	unsigned choices, choice_at;

	/* Filled by a step. */
	char property[200]; /* not empty: violated */
	char fault[120];    /* not empty: the model itself can not go on */
	bool telling;
	char told[400];
};

/* 0, or a negative errno. `port` is big: allocate it. */
int model_open(struct port *port, const struct world *world);
void model_close(struct port *port);
void model_first(struct port *port, struct model_state *state);

/* Number of steps to try in any state. */
unsigned model_steps(const struct port *port);
/*
 * Take step `i` in `state`, which becomes the next one. Returns the core that took it, or -1 if the
 * step is not possible there. Called again and again with model_choose_next until that is false.
 */
int model_step(struct port *port, struct model_state *state, unsigned i);
void model_choose_first(struct port *port);
bool model_choose_next(struct port *port);
/* All calls have returned, nobody is held. */
bool model_done(const struct port *port, const struct model_state *state);

/* ---- between the files of the model ---- */

/* Does the rule hold in this world? */
static inline bool model_rule(const struct world *world, enum model_rule rule)
{
	return rule_holds(world->broken, rule);
}

unsigned model_choose(struct port *port, unsigned n);
void model_violated(struct port *port, const char *format, ...)
        __attribute__((format(printf, 2, 3)));
void model_fault(struct port *port, const char *what);
/* Only while telling. */
void model_tell(struct port *port, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* line.c */
unsigned model_content(struct port *port, const uint8_t bytes[WORLD_LINE]);
int model_line_at(const struct port *port, uint32_t address); /* -1: there is none */
void model_line_store(struct port *port, struct model_state *state, unsigned line, unsigned cpu,
                      bool alias, const struct model_piece *piece);
void model_line_read(struct port *port, struct model_state *state, unsigned line, unsigned cpu,
                     bool alias, uint8_t bytes[WORLD_LINE]);
void model_line_clean(struct port *port, struct model_line *line, unsigned cpu, bool alias);
void model_line_drop_read(struct port *port, struct model_line *line, unsigned cpu, bool alias);
void model_line_drop_executed(struct port *port, struct model_state *state, unsigned line,
                              unsigned cpu, bool alias);
unsigned model_line_floor(const struct port *port, const struct model_line *line, unsigned cpu);
/* Taking an exception, or returning from one. */
void model_exception(struct port *port, struct model_state *state, unsigned cpu);
void model_synchronise(struct port *port, struct model_state *state, unsigned cpu);
/* Forget contents that nobody can find any more. */
void model_lines_settle(struct port *port, struct model_state *state);

/* execute.c: one instruction of a thread that runs text; false: not now. */
bool model_execute(struct port *port, struct model_state *state, unsigned thread);
void model_execute_elsewhere(struct port *port, struct model_state *state, unsigned cpu,
                             uint32_t address, const char *what);
bool model_complete_load(struct port *port, struct model_state *state, unsigned thread);

/* store.c: the store buffer of a CPU, and the words. */
/* How the telling of model_drain begins. */
extern const char model_drained[];
bool model_buffer_room(const struct model_cpu *cpu, unsigned n);
void model_store_text(struct port *port, struct model_state *state, unsigned cpu, uint32_t address,
                      const uint8_t *bytes, unsigned size);
void model_store_word(struct port *port, struct model_state *state, unsigned cpu, unsigned word,
                      uint32_t value);
uint32_t model_load_word(const struct port *port, const struct model_state *state, unsigned cpu,
                         unsigned word);
/* May an atomic operation on the word go ahead? */
bool model_word_free(const struct port *port, const struct model_cpu *cpu, unsigned word);
/* Store i of the buffer reaches the caches; false: not before others. */
bool model_drain(struct port *port, struct model_state *state, unsigned cpu, unsigned i);

/* What people call it. */
const char *model_word_name(const struct port *port, unsigned word);

/* op.c: what a thread's innermost function asks for. */
enum model_progress { OP_BLOCKED, OP_BEGUN, OP_DONE };
enum model_progress model_op(struct port *port, struct model_state *state, unsigned thread,
                             const struct model_op *op, struct model_value *value);
/* Nobody else can tell when it happens, so it happens at once. */
bool model_op_silent(const struct port *port, const struct model_thread *thread,
                     const struct model_op *op);
unsigned model_cpu_of(const struct port *port, unsigned thread);

/* replay.c */
const struct model_op *model_ask(struct port *port, uint32_t node);
uint32_t model_next(struct port *port, uint32_t node, const struct model_value *value);
uint32_t model_root(struct port *port, uint8_t kind, unsigned thread, uint64_t pc, uint32_t outer);

#endif
