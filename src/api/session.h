/* SPDX-License-Identifier: MIT */
/* session.h - inside of suture_target: shared by the files of api. */
#ifndef SUTURE_SESSION_H
#define SUTURE_SESSION_H

#include <pthread.h>
#include "module/module.h"
#include "patch/patch.h"
#include "process.h"
#include "suture/look.h"
#include "tramp/tramp.h"

/* ---- what is mapped in the target ---- */

struct target_module {
	char *name; /* base name of the file */
	char *path;
	uint64_t device, inode;
	uint64_t bias;
	uint64_t start, end;   /* mapping that names the file */
	struct module *module; /* NULL until opened */
	int error;             /* of the attempt to open it */
	bool deleted;          /* the file has no name any more, or another one has it */
	bool from_memory;      /* the module is what is mapped: there is no file to compare with */
	char *note;            /* for people: replaced on disk; NULL */
	char *build_id;        /* in hexadecimal, made when asked for */
	const struct module_symbol **by_name; /* made when many names are looked up */
	size_t symbol_count;
};

/* ---- probes and sites ---- */

/* One code address that is to be counted; several probes may share it. */
struct site {
	uint64_t address, vaddr;
	uint32_t module;
	int error; /* 0 or why it is refused, negative errno */
	char *reason;
	bool named;                 /* by a specification that is no glob */
	enum suture_site_kind kind; /* 0: not planned yet */
	bool unreachable;           /* planned alone: the body can not be where the jump leads */
	uint32_t round;             /* of proofs in which its range was last looked at */
	uint8_t code[32];           /* original bytes from the site on */
	uint8_t code_size;
	uint8_t first;        /* length of the first instruction */
	uint8_t shift;        /* from the site to the instruction that is patched */
	uint8_t length;       /* of that instruction */
	uint8_t displaced;    /* bytes that a pun's trampoline executes */
	enum isa_class class; /* likewise */
	bool steppable;
	uint64_t trampoline, body; /* where the jump leads, where the code is */
	uint64_t rest;             /* code of a window's continuation */
	struct tramp_rseq rseq;
	struct tramp_pun pun;
	struct tramp_window window;
	uint32_t cell;
	struct process_uprobe uprobe;
	uint64_t hits;
};

static inline uint64_t site_patch(const struct site *site)
{
	return site->address + site->shift;
}

/* What a specification named. */
struct probe {
	uint32_t spec;
	const char *symbol;    /* NULL: none; owned by the module */
	uint64_t offset, size; /* of the symbol; 0: not known */
	uint64_t address, vaddr;
	uint32_t module;
	uint32_t site; /* index, once planned */
};

struct spec {
	char *text;
	bool exact; /* names one site: a refusal of it is an error of the whole */
};

/* ---- the journal: the data part of the shared memory ---- */

#define JOURNAL_MAGIC 0x0001657275747573ull /* "suture", 1 */

struct journal {
	uint64_t magic;
	uint64_t data_address, data_size;
	uint64_t calls;    /* offset of PROCESS_CALLS_SIZE bytes */
	uint64_t registry; /* offset of struct patch_registry */
	uint64_t registry_size;
	int64_t owner;
	uint64_t owner_start; /* clock ticks since boot */
	uint64_t is_go;
};

/* Offsets in the shared memory. */
struct layout {
	uint64_t registry, registry_size, calls, table, descriptors, shared_cells, cells;
	uint64_t stride; /* of the cells of one CPU */
	uint64_t data_size, trampolines, file_size;
	uint32_t cpus;
	uint64_t data_address;
};

/* Told why a kind is not taken at the site's shift. */
typedef void (*target_note_fn)(void *arg, const struct site *site, enum suture_site_kind kind,
                               const char *why);

struct suture_target {
	pid_t pid;
	struct suture_target_options options;
	struct port *port;
	int lock;

	struct target_module *modules;
	size_t module_count;
	struct spec *specs;
	size_t spec_count;
	struct probe *probes;
	size_t probe_count, probe_capacity;
	struct site *sites; /* sorted by address */
	size_t site_count;
	uint32_t *listed, *refused; /* probes that are counted, and that are not */
	size_t listed_count, refused_count;

	bool attached, is_go;
	bool written; /* by the attach under way: text may have been changed */
	/* What a dead suture left, as a plan sees through it; NULL: nothing. */
	struct patch_registry *left;
	struct process_shared left_shared;
	bool looking; /* opened to look only */
	bool alone;   /* each site is planned as if it were the only one */
	uint32_t round;
	target_note_fn note; /* NULL: nobody listens */
	void *note_arg;
	int obstacle_error;
	char obstacle[256]; /* "": none */
	char danger[SUTURE_EXPLAIN_TEXT];
	struct tramp_space *space;
	struct tramp_counters counters;
	struct layout layout;
	struct process_shared shared;
	struct patch_registry *registry; /* in the shared memory */
	unsigned processes;
	struct suture_pause pause;
	char error[1024];
};

__attribute__((format(printf, 3, 4))) int target_fail(struct suture_target *target, int error,
                                                      const char *format, ...);
/* Of this thread's last revert. */
extern __thread struct suture_pause thread_pause;
/* Text for suture_target_error(NULL). */
__attribute__((format(printf, 2, 3))) int thread_fail(int error, const char *format, ...);

/* target.c */
/* Which probes are counted, and which are not. */
int target_list_probes(struct suture_target *target);
void target_forget_plan(struct suture_target *target);
/* An attach begins by undoing what a dead suture left: plan as if that were done. 0, also if there
 * is nothing; -EBADMSG: its journal is damaged. */
int target_look_through(struct suture_target *target);

/* mapped.c: the module as it is mapped, when its file is out of reach. */
int target_module_from_memory(struct suture_target *target, struct target_module *m);

/* worker.c: run fn in a thread of its own, all signals blocked. When it ends, the kernel lets go
 * of everything it traced. */
int run_tracing(int (*fn)(void *arg), void *arg);

/* modules.c */
int target_load_modules(struct suture_target *target);
/* Opens it on first use; 0 or negative errno. */
int target_open_module(struct suture_target *target, size_t index);
void target_free_modules(struct suture_target *target);

/* ground.c: a space in which everything that is mapped counts as occupied. */
int target_make_space(struct suture_target *target);

/* plan.c: choose a kind for every site, or refuse it. */
int target_plan(struct suture_target *target);
/* A specification that names one site can not do without it; a whole without any site neither. */
int target_check_exact(struct suture_target *target);
__attribute__((format(printf, 3, 4))) void site_refuse(struct site *site, int error,
                                                       const char *format, ...);

/* True if a module that was opened so far was built by Go. */
bool target_is_go(const struct suture_target *target);
/* spec.c: as suture_target_count(), or all names of all that it stands for. */
int target_add(struct suture_target *target, const char *spec, bool all);
/* target.c: nobody may be there when the site's bytes change; false: it does not matter. */
bool site_clear_range(const struct site *site, struct port_range *range);

/* explain.c: text for notes. What is at an address where no trampoline can be. */
void target_describe(const struct suture_target *target, uint64_t address, char *text, size_t size);
/* How an address in the range may be arrived at; until the next call. */
const char *target_danger(struct suture_target *target, const struct site *site,
                          const struct module_range *range, uint32_t dangers);

/* build.c: the shared memory's contents. */
/* The addresses that the site's trampolines would have in an otherwise empty space, which is empty
 * again afterwards; else `unreachable` is set. */
/* Bytes that a jump makes of those at site_patch(); returns how many. */
uint8_t site_patched(const struct site *site, uint8_t patched[16]);
void target_layout_alone(struct suture_target *target, struct site *site);
/* Where everything goes, the bodies of all trampolines included. A site whose body can not be
 * where its jump leads is planned anew without a jump. */
int target_layout(struct suture_target *target);
/* The bodies' code, for the counters that are set. Also a second time, for shorter ones. */
int target_build_bodies(struct suture_target *target);
/* Contents of the memory, bodies included. */
void target_fill_memory(struct suture_target *target);
void target_sum_cells(struct suture_target *target);

/* restore.c */
struct restore {
	const struct patch_registry *registry;
	struct process_shared shared;
	bool is_go;
	uint64_t deadline_ns;
	unsigned tries;
	uint64_t max_pause_ns;
	bool untouched; /* text was never changed: nobody can be inside, nobody need stop */
	suture_progress_fn progress;
	void *progress_arg;
	unsigned processes; /* out: restored */
	uint64_t stop_ns;   /* out: longest stop */
	char error[256];
};
/* Every process that maps the memory, until none is left. */
int restore_family(struct restore *restore);
/* Close what forks of the target hold of the memory that it was made from. */
void restore_descriptors(const struct process_shared *shared);
/* Wait until nobody else runs in the process's memory; -ETIMEDOUT, with a text. */
int wait_alone(pid_t pid, uint64_t deadline_ns, char *error, size_t error_size);
/* How long writing that many sites takes while all are at rest, roughly. */
uint64_t restore_work_ns(const struct patch_registry *registry);
/* Journal and registry as they are in the process; *registry is allocated. -ENOENT: none. */
int restore_read_journal(struct port *port, struct journal *journal,
                         struct patch_registry **registry, struct restore *r);
/* What a dead owner left in the process. Returns the processes cleaned. */
int restore_leftovers(pid_t pid, const struct suture_target_options *options, uint64_t *stop_ns,
                      char *error, size_t error_size);
/* One suture a process: an open descriptor that holds the lock, -EBUSY. */
int lock_process(pid_t pid);
/* Does somebody hold it? As of a moment that has passed. */
bool process_locked(pid_t pid);

/* The errno of the public interface for a process that can not be worked on. */
int refusal_errno(enum process_refusal refusal);

void options_default(struct suture_target_options *out, const struct suture_target_options *given);

#endif
