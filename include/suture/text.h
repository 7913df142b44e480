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
 *   -EEXIST     an edit overlaps an earlier one at another address or of another length
 *   -EBUSY      a thread blocks SIGTRAP, and did so until the deadline
 *   -ETIMEDOUT  another thread was patching until the deadline
 *   -EFAULT     not mapped
 *   -EACCES     there is no way to write text in this process
 *   -ENOSYS     the kernel has no membarrier (before Linux 4.16)
 *   -ENOMEM
 * Nothing was changed then.
 *
 * Threads: may be called from any number of threads at once; they take turns. Not from signal
 * handlers. The calling thread's signals are blocked meanwhile. After fork() the child's text is
 * its own: no edit that one process makes is ever seen in another.
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
	SUTURE_CHEAPEST = 0, /* the first of these that is legal for all edits */
	/* One instruction of which a single byte changes (Intel SDM vol. 3, 8.1.3: a wider store
	 * may be seen in part). Threads are held up for nothing but a serialising instruction. */
	SUTURE_NOSYNC,
	/* One instruction becomes others: trap first, then the rest, then the head. Threads that
	 * pass meanwhile wait at the site. */
	SUTURE_BREAKPOINT,
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

/* May `from` (`length` bytes, the whole sequence at `address`) become `to` by SUTURE_NOSYNC? False
 * for more than one instruction. Async-signal safe. */
bool suture_text_hotpatch_safe(const void *from, const void *to, size_t length,
                               const void *address);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
