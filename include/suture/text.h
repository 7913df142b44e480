/* SPDX-License-Identifier: MIT */
/*
 * suture/text.h - change machine code of one's own process while it runs.
 *
 * A call is one transaction: every edit is made, or none. On return 0 every thread executes the new
 * code. Nothing is written before all that can be checked was checked; what stands in the text is
 * compared with what is expected first.
 *
 * Errors are negative errno values:
 *   -EINVAL     malformed edits: length 0 or above 16, overlapping, unsorted is fine; NULL
 *   -EUCLEAN    the expected bytes are not there
 *   -EOPNOTSUPP the demanded strategy, or any, can not make this change safely
 *   -EPERM      text that suture itself executes; or this process was forked in a way that the
 *               library was not told of
 *   -EEXIST     an edit overlaps an earlier one at another address or of another length, or what
 *               a hook or probe stands on. SUTURE_QUIESCE: code that was made for a hook or probe,
 *               which may be removed by now, goes on in the middle of it
 *   -EBUSY      a thread blocks SIGTRAP, or waits in a system call with a mask of its own (ppoll,
 *               pselect, sigsuspend, epoll_pwait), and did so until the deadline. SUTURE_QUIESCE:
 *               at each attempt until the deadline some thread was inside, or could return there;
 *               or no real-time signal is free
 *   -ETIMEDOUT  another thread was patching until the deadline. SUTURE_QUIESCE: a thread did not
 *               come to rest; the message names it
 *   -EFAULT     not mapped
 *   -EACCES     not mapped executable; or there is no way to write text in this process
 *   -ENOSYS     the kernel has no membarrier (before Linux 4.16)
 *   -ESRCH, -ENOENT, -EMFILE, -ENFILE  SUTURE_QUIESCE: /proc/self/task can not be read, or shows
 *               other processes
 *   -EDEADLK    called from a handler of a probe, or from a function that replaces one which the
 *               library calls while it works
 *   -ENOMEM
 * Nothing was changed then.
 *
 * Threads: may be called from any number of threads at once; they take turns. Not from signal
 * handlers. The calling thread's signals are blocked meanwhile. After fork() the child's text is
 * its own: no edit that one process makes is ever seen in another. fork() waits for a call that is
 * under way.
 *
 * Where it can not be avoided (SUTURE_BREAKPOINT) a handler for SIGTRAP is installed; traps that
 * are not ours go to the handler that was there. A thread that blocks SIGTRAP by a raw system
 * call while such a transaction runs is killed by the kernel if it meets the trap.
 */
#ifndef SUTURE_TEXT_H
#define SUTURE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

enum { SUTURE_EDIT_MAX = 16 };

/* Replace `length` (1 to SUTURE_EDIT_MAX) bytes at `address`, which must be `from`, by `to`. Code
 * that begins in them ends in them. */
struct suture_edit {
	void *address;
	const void *from, *to;
	size_t length;
};

enum suture_strategy {
	SUTURE_CHEAPEST = 0, /* the first of the next two that is legal for all edits */
	/* One instruction of which a single byte changes, given whole or as that byte (Intel SDM
	 * vol. 3, 8.1.3: a wider store may be seen in part). Threads are held up for nothing but a
	 * serialising instruction. */
	SUTURE_NOSYNC,
	/* One instruction becomes others: trap first, then the rest, then the head. Threads that
	 * pass meanwhile wait at the site. */
	SUTURE_BREAKPOINT,
	/*
	 * Any instructions become any others of the same total length, with all threads at rest:
	 * each is interrupted by a signal and waits in a handler of ours, some hundred microseconds
	 * for a dozen threads. Never chosen by SUTURE_CHEAPEST: it must be asked for, because
	 * others can notice it. System calls that are not restarted after a handler return EINTR
	 * (signal(7): poll, epoll_wait, select, nanosleep, semop, sockets with a timeout, ...).
	 *
	 * Nobody is inside when the bytes are written: no program counter, register or word on a
	 * stack of any thread points behind the first byte of an edit (unless it replaces a single
	 * instruction). While one does, nothing is written and it is tried again until the
	 * deadline, then -EBUSY. A word that only looks like it counts, too.
	 *
	 * The caller's duties, because nothing tells it: no branch, table, or exception handler
	 * leads into the middle of an edit; no context that no thread runs (a coroutine that waits,
	 * makecontext, a saved jmp_buf) goes on there; no process shares this memory without being
	 * a thread of it (clone with CLONE_VM alone). A child of vfork is safe: its parent does not
	 * come to rest before the child is gone (-ETIMEDOUT).
	 *
	 * The signal is the highest real-time signal with its default action, rather one that no
	 * thread blocks. It has its default action again afterwards, unless one may still be
	 * pending (in a thread that blocks it, or has ended meanwhile). A thread that blocks it
	 * does not come to rest. Instances that somebody else sends have their default action. A
	 * child of fork has nothing pending.
	 */
	SUTURE_QUIESCE,
	/*
	 * One instruction of which one operand changes: up to 8 bytes, naturally aligned, with one
	 * store; only in regions of suture/code.h, where code can be written like that. Nobody is
	 * held up, no trap and no signal handler. Never chosen by SUTURE_CHEAPEST, because the
	 * Intel manual does not promise it: vol. 3, 8.1.1 makes such a store whole for data, 8.1.3
	 * asks for synchronisation before code that was changed is executed. It rests on
	 * instruction fetch taking aligned words whole, as runtimes do that patch calls in this
	 * way; demand it if that is good enough. suture_code_modify and SUTURE_BREAKPOINT do
	 * without.
	 */
	SUTURE_WORD,
};

struct suture_text_options {
	size_t size; /* sizeof(struct suture_text_options) */
	enum suture_strategy strategy;
	uint64_t deadline_ns; /* longest wait for others, 0: 1 s */
	/* Out, if `message` is not NULL: one line for people, without a newline. */
	char *message;
	size_t message_size;
	size_t failed; /* out: index of the edit that the error is about */
};

/* `options` may be NULL: cheapest, 1 s. */
int suture_text_patch(const struct suture_edit *edits, size_t count,
                      struct suture_text_options *options);

/* Read `size` bytes of text as they were before any edit of ours. -EFAULT: not all is mapped. */
int suture_text_original(const void *address, void *buffer, size_t size);

/*
 * Let text be written by stores: its pages are replaced by copies that are mapped twice, to execute
 * where they were, and to write at another, random, address. A transaction there makes no system
 * call but membarrier; what it costs otherwise is the same, and so are all guarantees.
 *
 * What the program pays, which is why it must ask:
 *   - memory for the copy, which no other process shares (a fork's child does until one of the two
 *     changes text: then it is copied, and fork() itself takes no longer);
 *   - whoever can write anywhere in the process can write code, if he finds it;
 *   - other tools see memory instead of the file: perf and /proc/PID/maps do not name its
 *     functions, gdb can set no breakpoints and the kernel no uprobes there, nor can suture(1).
 *   - A child of a raw clone system call, of which the library is not told, sees later changes.
 *
 * `start`, `size` (bytes): made whole pages; size 0: the whole mapping that holds `start`, which
 * for a function of a program or library is all of its text. It stays so until it is unmapped
 * (dlclose). Errors as above, and
 *   -EACCES   not text of a file, or nothing can be mapped like that here (SELinux execmem)
 *   -EEXIST   part of it is mapped twice already
 *   -EPERM    the text is sealed (mseal)
 */
int suture_text_alias(const void *start, size_t size, struct suture_text_options *options);

/* May `from` (`length` bytes, the whole sequence at `address`) become `to` by SUTURE_NOSYNC? False
 * for more than one instruction. Async-signal safe. */
bool suture_text_hotpatch_safe(const void *from, const void *to, size_t length,
                               const void *address);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
