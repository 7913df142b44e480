/* SPDX-License-Identifier: MIT */
/*
 * suture/target.h - probes in a process that is already running.
 *
 * A session moves one way: open, add what to count, attach, read as often as you like,
 * detach, close. Nothing in the target changes before attach, and after detach nothing of
 * ours is left there. If the caller dies in between, the target keeps running; the next
 * attach or suture_target_revert() cleans up.
 *
 * Errors are negative errno values; suture_target_error() gives the one-line text for people.
 *   -ESRCH    no such process, or it is gone
 *   -EPERM    not permitted (other user, not dumpable, seccomp), or already traced
 *   -ENOEXEC  not a 64-bit x86 process
 *   -EBUSY    another suture works on the process
 *   -EINVAL   malformed specification
 *   -ENOENT   nothing matches a specification
 *   -ENOTUNIQ a specification names several functions
 *   -EOPNOTSUPP every matching site was refused
 *   -ETIMEDOUT the threads could not be stopped in time; nothing was changed
 *
 * Thread safety: one thread at a time per session; sessions are independent. Attach, detach and
 * revert work in a thread of their own while the caller waits, all signals blocked there. No
 * function may be called from a signal handler. The calling process must not wait for unknown
 * children (waitpid(-1)) meanwhile: stop reports of the target would be taken away.
 */
#ifndef SUTURE_TARGET_H
#define SUTURE_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "suture/site.h"

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

struct suture_target;

/* How far long work has got: `done` of `total` (0: unknown) in step `what`. Called from a thread
 * of the library while the session's own waits, or by suture_target_count() itself; never while
 * the target is stopped. */
typedef void (*suture_progress_fn)(const char *what, size_t done, size_t total, void *arg);

struct suture_target_options {
	size_t size;          /* sizeof(struct suture_target_options) */
	uint64_t deadline_ns; /* longest wait for threads to stop, one try; 0: 250 ms */
	unsigned tries;       /* attempts to stop before giving up; 0: 4 */
	unsigned pun_pages;   /* trampoline pages spent on puns before windows are tried; 0: 256 */
	unsigned pages;       /* trampoline pages in all; 0: 16384 */
	bool no_rseq;         /* count with locked instructions even where rseq would do */
	bool no_pun, no_window, no_uprobe; /* leave a kind of site out */
	suture_progress_fn progress;       /* may be NULL */
	void *progress_arg;
	/* Longest that the process may stand still, each time: attach, detach and revert resume it
	 * untouched rather than stop it longer, with -ETIMEDOUT. It is foreseen, not enforced: once
	 * the first byte is written the rest follows. Nanoseconds; 0: no bound. */
	uint64_t max_pause_ns;
};

enum suture_counter_kind { SUTURE_COUNTER_RSEQ = 1, SUTURE_COUNTER_LOCK, SUTURE_COUNTER_KERNEL };

const char *suture_counter_kind_name(enum suture_counter_kind counter); /* "rseq" … */

/* One counted site. Strings live as long as the session. */
struct suture_target_probe {
	const char *spec;   /* as given to suture_target_count() */
	const char *module; /* base name of the mapped file */
	const char *symbol; /* NULL: none known */
	uint64_t offset;    /* from the symbol's first byte */
	uint64_t address;   /* in the target */
	uint64_t vaddr;     /* in the ELF file */
	enum suture_site_kind kind;
	enum suture_counter_kind counter;
	uint64_t hits; /* as of the last suture_target_read() or detach */
};

/* One site or specification that is not counted. `symbol` is NULL where none was found. */
struct suture_refusal {
	const char *spec;
	const char *module; /* NULL: specification matched nothing */
	const char *symbol;
	uint64_t address;
	int error;          /* negative errno */
	const char *reason; /* what, where, and what to do instead; one line, no full stop */
};

struct suture_pause {
	uint64_t attach_ns; /* from the first thread stopped to the last one resumed */
	uint64_t detach_ns;
};

/* Open process `pid` (> 0). Checks that it exists, is ours to touch, 64-bit and not traced;
 * cleans up what a dead suture left there when attach is called. *out is NULL on error, and the
 * text is then got from suture_target_error(NULL) on the same thread. */
int suture_target_open(pid_t pid, const struct suture_target_options *options,
                       struct suture_target **out);

/*
 * Add a specification: [MODULE:]NAME[+0xOFFSET] or MODULE:0xADDRESS (address as in the ELF
 * file). NAME may be a glob of *, ? and […]. Returns the number of sites added. A NAME without
 * a glob character must match one address in the mapped modules (-ENOTUNIQ lists the
 * candidates in the error text); a glob takes all it can, and refusals say why for the rest.
 * Counting one address twice is not an error: the second specification shares the first's site.
 */
int suture_target_count(struct suture_target *target, const char *spec);

/* Put all sites in place. 0 if at least one is counted, also when others of a glob are refused;
 * -EOPNOTSUPP if all were refused, or the one site of a specification that is no glob (see the
 * refusals): nothing was changed then. */
int suture_target_attach(struct suture_target *target);

/*
 * What suture_target_attach() would do, as far as it can be known without stopping or changing
 * anything: choose a kind for every site, or refuse it. Returns what attach would; the probes and
 * refusals are listed in either case, and suture_target_change() tells the bytes. Not known are
 * what only threads at rest show (the kind of counter, who stands where) and whether the kernel
 * grants a uprobe.
 */
int suture_target_plan(struct suture_target *target);

/* Refresh `hits` of every probe; does not touch the target. Returns 1 once the process and all
 * that share its counters are gone, 0 before. */
int suture_target_read(struct suture_target *target);

/* Restore the original code in every process of the family, unmap what was mapped, and read the
 * counters one last time. 0 also if the target is gone. On error (for instance a debugger holds
 * the target) the probes stay in place and the call may be repeated. */
int suture_target_detach(struct suture_target *target);

size_t suture_target_probes(const struct suture_target *target);
int suture_target_probe(const struct suture_target *target, size_t index,
                        struct suture_target_probe *out);
size_t suture_target_refusals(const struct suture_target *target);
int suture_target_refusal(const struct suture_target *target, size_t index,
                          struct suture_refusal *out);
/* Processes that share the counters (the target and its forks), as of the last detach or
 * suture_target_attach(). */
unsigned suture_target_processes(const struct suture_target *target);
/* Of the last attach and detach; of this thread's last revert (as `detach_ns`) if `target` is NULL.
 */
void suture_target_pause(const struct suture_target *target, struct suture_pause *out);
/* Text of the last error of this session; of this thread's last failed open, revert or status
 * if `target` is NULL. Never NULL. */
const char *suture_target_error(const struct suture_target *target);
/* Detaches if needed. NULL is ignored. */
void suture_target_close(struct suture_target *target);

/* What a suture, alive or dead, has in a process. */
struct suture_status {
	unsigned sites;     /* sites that differ from the original code */
	unsigned mappings;  /* ranges of memory of ours */
	unsigned processes; /* that share them */
	pid_t owner;        /* suture that put them there; 0: unknown */
	bool owner_alive;
};
int suture_target_status(pid_t pid, struct suture_status *out);

/* Undo what a dead suture left in `pid` and in every process that shares its memory. Returns the
 * number of processes cleaned (0: nothing was there), -EBUSY if the owner is alive. */
int suture_target_revert(pid_t pid, const struct suture_target_options *options);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif
#endif
