/* SPDX-License-Identifier: MIT */
/*
 * process.h - the port to another process: what its owner (api) needs beyond port.h.
 *
 * A port is one process. Nothing runs in it but its own code and, for microseconds, one borrowed
 * thread that makes system calls for us (borrow.c); that thread's registers, vector state and
 * signal mask lie in a signal frame on its own stack the whole time, and what it executes ends
 * in rt_sigreturn, so that it goes on unharmed if we die.
 *
 * All functions that trace (port_stop … port_resume, process_borrow …) must be called from one
 * thread; when that thread ends, the kernel lets go of whatever it still traced.
 */
#ifndef SUTURE_PROCESS_H
#define SUTURE_PROCESS_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include <sys/types.h>
#include "port/port.h"

/* ---- what /proc tells (proc.c) ---- */

struct process_mapping {
	uint64_t start, end, offset;
	uint64_t device; /* major << 32 | minor */
	uint64_t inode;
	bool read, write, execute, shared;
	char *path; /* "" for anonymous memory; " (deleted)" is cut off and `deleted` set */
	bool deleted;
};

struct process_maps {
	struct process_mapping *list; /* sorted by address */
	size_t count;
	char *text; /* owns the paths */
};

/* A thread of the process whose /proc entries show its memory: `pid`, or another one if the
 * leader has ended before its threads. */
pid_t process_member(pid_t pid);

/* Of the task `pid` (a process_member); -ESRCH, -EPERM, -ENOMEM */
int process_maps_read(pid_t pid, struct process_maps *maps) port_must_check;
void process_maps_free(struct process_maps *maps);
const struct process_mapping *process_maps_find(const struct process_maps *maps, uint64_t address);

/* Thread IDs of the process in rising order, allocated; -ESRCH. */
int process_tasks(pid_t pid, pid_t **tids, size_t *count) port_must_check;

/* One field of /proc/PID/status as a number in `base`; -ENOENT if there is no such field. */
int process_status_field(pid_t pid, pid_t tid, const char *field, int base, uint64_t *value);
/* Start time in clock ticks since boot: with the PID it names one process for ever. */
int process_start_time(pid_t pid, uint64_t *ticks);
/* State letter of a task as in proc(5): R, S, D, Z, T, …; 0 if it is gone. */
char process_state(pid_t tid);
/* Gone, or a zombie. */
bool process_ended(pid_t tid);
/* A thread of the process that the kernel made for itself and that never executes the process's
 * code: of io_uring (Linux 5.12) or vhost (6.4). Depending on the release it can not be traced. */
bool process_kernel_worker(pid_t tid);
/* Command name for messages; "?" if unknown. */
void process_name(pid_t pid, char *name, size_t size);

/* ---- the port ---- */

enum process_refusal {
	PROCESS_OK,
	PROCESS_GONE,
	PROCESS_IS_THREAD,
	PROCESS_IS_SELF,
	PROCESS_IS_KERNEL,
	PROCESS_IS_ZOMBIE,
	PROCESS_NOT_PERMITTED,
	PROCESS_TRACED,
	PROCESS_NOT_X86_64,
	PROCESS_SECCOMP,
	PROCESS_SHADOW_STACK,
};

/* Why a process can not be worked on, with a one-line text. */
enum process_refusal process_check(pid_t pid, char *text, size_t size);

/* The same for looking at it, which needs neither to trace nor to write. */
enum process_refusal process_check_look(pid_t pid, char *text, size_t size);

int process_open(pid_t pid, struct port **out) port_must_check;
void process_close(struct port *port);
pid_t process_pid(const struct port *port);
/* True once the process we opened has ended (never confused by a reused PID). */
bool process_gone(const struct port *port);
/* Nanoseconds from the first thread interrupted to the last resumed in the latest stop. */
uint64_t process_stop_ns(const struct port *port);
/* Threads at rest; stopped only. */
size_t process_stopped(const struct port *port);
/* Built by Go: its threads may run on small stacks of which the runtime knows the end. */
void process_set_go(struct port *port, bool is_go);
/* Why the last stop failed or the process can not be borrowed; one line. */
const char *process_error(const struct port *port);

/*
 * A bound for each stop, from the first thread interrupted to the last one resumed, in
 * nanoseconds; 0: none. port_stop gives up, with -ETIMEDOUT, before it would take longer, and
 * does not begin where it is sure to. What the owner does while all are at rest it estimates and
 * asks for: process_budget_check.
 */
void process_set_budget(struct port *port, uint64_t ns);
/* -ETIMEDOUT, with a text, if `work_ns`, `thread_ns` for each thread and resuming them do not fit
 * in what is left. Stopped only. */
int process_budget_check(struct port *port, uint64_t work_ns, uint64_t thread_ns) port_must_check;
/* The same before anything is done, if it has more threads than can be stopped and resumed in that
 * time at the very best. */
int process_budget_least(struct port *port) port_must_check;

/* ---- threads (stop.c) ---- */

/*
 * Restartable sequences. 0 if every thread has registered an area at the same distance from its
 * FS base with the same signature (then both are stored), -ENOTSUP otherwise. Stopped only.
 */
struct process_rseq {
	int32_t offset;     /* of struct rseq from the FS base, bytes */
	uint32_t signature; /* precedes every abort handler */
};
int process_rseq(struct port *port, struct process_rseq *out) port_must_check;

/* ---- where threads are, without a stop (where.c) ---- */

struct process_whereabouts {
	unsigned threads, asleep, running;
	unsigned inside; /* asleep with a program counter in the range, or with a word on the stack
	                    that points there */
	pid_t one;       /* of those inside */
};
/* As of a moment that has passed. -ESRCH, -EPERM, -ENOMEM */
int process_where(pid_t pid, const struct port_range *range,
                  struct process_whereabouts *out) port_must_check;

/* ---- what we may do to a process (trial.c) ---- */

/* Tried on a child. Each is 0 or a negative errno; -EIO also where it was not reached. */
struct process_trials {
	int memfd;        /* mapping a memfd executable */
	int open;         /* /proc/PID/mem for writing */
	int force;        /* writing its text, untraced */
	int force_traced; /* the same by its tracer */
	int seize;
	bool stops;  /* it came to rest */
	int suspend; /* suspending its seccomp filters */
	int rseq;    /* asking for its rseq area */
};
/* In a thread of its own (it traces). Makes a child, waits for it. */
int process_try(struct process_trials *out) port_must_check;
/* 0 if processes that share memory can be found, else a negative errno. */
int process_kcmp_works(void);
/* 0 if tracefs can be written to, else a negative errno. */
int process_tracefs_works(void);

/* ---- memory of ours in the process (shared.c) ---- */

/*
 * One memfd, mapped by us and by the process. Layout, chosen by the owner:
 * [0, data_size) mapped read-write at `data_address`; then one page of stub code mapped
 * executable right behind it; then pages for port_map_exec.
 */
struct process_shared {
	uint64_t data_address; /* in the process; a multiple of the page size */
	uint64_t data_size;    /* bytes, likewise */
	uint64_t file_size;    /* bytes, likewise; at least data_size + one page */
	uint64_t calls;  /* offset in the data of PROCESS_CALLS_SIZE bytes that the stub reads */
	uint8_t *memory; /* our mapping of all of it */
	uint64_t device, inode;
};
enum {
	PROCESS_PAGE = 4096,
	PROCESS_CALLS_SIZE = 3 * PROCESS_PAGE,
};
/* Name of the memfd, and of its mappings in /proc/PID/maps. */
#define PROCESS_MEMFD_NAME  "suture-probes"
#define PROCESS_SHARED_NAME "/memfd:" PROCESS_MEMFD_NAME
/* Memory that a suture, alive or dead, has put into the process. */
bool process_mapping_is_ours(const struct process_mapping *mapping);

/* Make the memfd in the process and map it here; nothing is mapped there yet. *rseq is what one
 * of its threads has registered, signature 0 if nothing. */
int process_shared_create(struct port *port, uint64_t file_size,
                          struct process_rseq *rseq) port_must_check;
/* Say where the data goes; hands out the description. */
void process_shared_layout(struct port *port, uint64_t data_address, uint64_t data_size,
                           uint64_t calls, struct process_shared *shared);
/* Map data and stub there. Then port_map_exec works. -EEXIST: the address has been taken. */
int process_shared_map(struct port *port) port_must_check;
/* Let go of our side. */
void process_shared_release(struct port *port);

/* Adopt the shared memory that is mapped in the process (our own before a fork, or a dead
 * owner's). -ENOENT: nothing of ours is at that address. */
int process_shared_adopt(struct port *port, const struct process_shared *shared) port_must_check;
const struct process_shared *process_shared_of(const struct port *port);
/* Close file descriptors that a killed owner left open there. Returns their number;
 * process_shared_of then tells device and inode. */
int process_shared_close_leftovers(struct port *port) port_must_check;

/* ---- the family (family.c) ---- */

/* Processes that map the memfd; at most `capacity` are stored, the number found is returned.
 * Of `shared` only inode, device and data_address matter. */
int process_family(const struct process_shared *shared, pid_t *pids,
                   size_t capacity) port_must_check;

/* Processes that hold a descriptor of the memfd, this one left out: forked from the target while
 * it held one. */
int process_holders(const struct process_shared *shared, pid_t *pids,
                    size_t capacity) port_must_check;

/*
 * Another process that runs in the same memory without being one of its threads (vfork, or clone
 * without CLONE_THREAD); 0 if there is none. Stopping `pid` does not stop it.
 */
pid_t process_sharing_memory(pid_t pid);

/* ---- kernel uprobes (uprobe.c) ---- */

struct process_uprobe {
	int *fds;
	size_t count;
	uint64_t before; /* hits before process_uprobe_begin */
	char name[64];   /* of the event in tracefs */
};
bool process_uprobes_exist(void);
/* 0 if tracefs can be written to, else a negative errno. */
int process_tracefs_works(void);
/* Count executions of the instruction mapped at `address`, by the threads named and by what they
 * create from now on. Slow (up to a grace period): not while stopped. */
int process_uprobe_open(struct port *port, const pid_t *tids, size_t count, uint64_t address,
                        struct process_uprobe *probe) port_must_check;
/* What was counted up to now does not count. */
int process_uprobe_begin(struct process_uprobe *probe) port_must_check;
int process_uprobe_read(const struct process_uprobe *probe, uint64_t *hits) port_must_check;
/* Slow: the kernel waits for a grace period per event. Not while stopped. */
void process_uprobe_close(struct process_uprobe *probe);
/* Take away what a killed owner defined for the process. Returns their number. */
int process_uprobe_leftovers(pid_t pid);

#endif
