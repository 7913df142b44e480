/* SPDX-License-Identifier: MIT */
/*
 * suture/code.h - code that a program makes at run time: reserve, write, publish, change, free.
 *
 * A region is memory that is mapped twice: to execute (never writable) and to write (never
 * executable). No mapping is ever both, none becomes executable that was not, and no signal
 * handler is needed; so it works where such mappings are forbidden (PR_SET_MDWE, seccomp).
 *
 *     suture_region_new(1 << 20, NULL, &region);
 *     suture_code_alloc(region, size, 16, &code);            all traps (int3)
 *     memcpy(code.writable, bytes, size);
 *     suture_code_publish(&(struct suture_code_write){code.exec, NULL, size}, 1, NULL);
 *
 *     suture_code_enter();                                   in each thread, around its calls
 *     f = load(&pointer);
 *     f();
 *     suture_code_leave();
 *
 *     store(&pointer, other); suture_code_free(region, code.exec);
 *
 * To change published code while threads execute it:
 *   - suture_text_patch (suture/text.h), with all its strategies: one byte with SUTURE_NOSYNC, an
 *     aligned operand with SUTURE_WORD, one instruction with SUTURE_BREAKPOINT (which alone needs
 *     a handler for SIGTRAP);
 *   - suture_code_modify: anything, while nobody is between enter and leave;
 *   - data in a region, such as a pointer that `call *slot(%rip)` goes through: store it through
 *     the writable address, atomically. That changes no code, and needs none of this.
 * Hooks and probes are refused in regions: they would outlive the code.
 *
 * Errors are negative errno values. Threads: all functions from any number of threads at once. Not
 * from signal handlers.
 *
 * fork: a child made by fork() gets copies of its own, made before fork() returns: what either
 * changes later is never seen by the other. That costs a copy of all pages in use at each fork;
 * SUTURE_REGION_NOT_IN_CHILDREN spares it. If there is no memory for copies, the child's region
 * can not be accessed at all. A child made without the library being told (a raw clone) shares the
 * memory: these functions refuse it (-EPERM). vfork and posix_spawn cost nothing.
 */
#ifndef SUTURE_CODE_H
#define SUTURE_CODE_H

#include <stddef.h>
#include <stdint.h>
#include "suture/text.h"

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

struct suture_region; /* opaque */

enum {
	/* Children made by fork() do not have the region: its addresses are not mapped there. For
	 * programs that fork only to exec. */
	SUTURE_REGION_NOT_IN_CHILDREN = 1,
};

struct suture_region_options {
	size_t size; /* sizeof(struct suture_region_options) */
	unsigned flags;
	/* Every address of the region shall be in reach of a branch from `near`, and the other way
	 * round: within 2 GB (x86-64: rel32). NULL: anywhere. */
	const void *near;
	/* Out, if `message` is not NULL: one line for people, without a newline. */
	char *message;
	size_t message_size;
};

/*
 * Reserve `size` bytes (1 to 2^40; rounded up to pages); memory is used as it is written. `options`
 * may be NULL.
 *   -EINVAL  size or options
 *   -ENOMEM  no memory; or no free addresses of that size near `near`
 *   -EACCES  the system lets nothing be mapped executable twice: neither a memfd nor shared
 *            anonymous memory; or there is no /proc/self/mem
 *   -ENOSYS  the kernel has no membarrier (before Linux 4.16)
 *   -EPERM   a child that was made without the library being told
 */
int suture_region_new(size_t size, const struct suture_region_options *options,
                      struct suture_region **region);

/*
 * Wait, at most `deadline_ns`, until all threads have left that are inside now, then unmap. The
 * caller sees to it that nobody goes there any more, or uses `region` or its memory.
 *   -ETIMEDOUT  somebody is still inside; nothing is changed. Call again later
 *   -EDEADLK    the caller itself is inside
 */
int suture_region_delete(struct suture_region *region, uint64_t deadline_ns);

/* Memory for code. */
struct suture_code {
	void *exec;     /* where it is executed, and can be read */
	void *writable; /* where the same bytes are written */
	size_t size;    /* bytes, as asked for */
};

/*
 * Take `size` bytes (1 up to the region's size) at a multiple of `align` (a power of two up to
 * 4096, or 0: 16). Until something is written there every byte is a trap.
 *   -EINVAL  size or alignment
 *   -ENOMEM  there is no free stretch of that size
 *   -EAGAIN  there is none, but freed memory waits for threads that are inside: suture_code_reclaim
 *   -EPERM   as above
 *   -ENXIO   this child does not have the region
 */
int suture_code_alloc(struct suture_region *region, size_t size, size_t align,
                      struct suture_code *code);

/*
 * Give the block at `exec` back. The caller has taken all pointers to it away, so that nobody who
 * enters later finds it. It is reused, and filled with traps, when all threads have left that were
 * inside at this call; so a caller may be inside, even in that block.
 *   -EINVAL  no block begins there, or it was freed already
 *   -ENOMEM  as -EPERM and -ENXIO: nothing is changed
 */
int suture_code_free(struct suture_region *region, void *exec);

/*
 * Wait, at most `deadline_ns`, until everything that was freed can be reused. 0: only look.
 *   -ETIMEDOUT  somebody is still inside; what could be reclaimed was
 *   -EDEADLK    the same, and the caller itself is inside: it would wait for itself
 */
int suture_code_reclaim(struct suture_region *region, uint64_t deadline_ns);

/* ---- inside ---- */

/*
 * From enter to leave a thread may execute code of any region, once it has loaded a pointer to it
 * after enter. It costs a few instructions, no locked one and no shared line: who waits for threads
 * makes them pay (membarrier). Pairs nest; both are called by the same thread, and a thread that
 * ends is no longer inside. While suture_code_modify is at work enter waits, unless the thread is
 * inside already. A thread that executes code without enter is not waited for by anybody.
 *
 * -ENOMEM, at a thread's first call only.
 */
int suture_code_enter(void);
void suture_code_leave(void);

/* ---- publish and modify ---- */

struct suture_code_write {
	void *exec; /* execution address, within one block */
	/* What to put there; NULL: it has been written already, through the writable address. */
	const void *bytes;
	size_t size;
};

/*
 * Publish code in memory that nobody executes yet. On return 0 every thread that goes there
 * executes it, whatever was there in an earlier life. All of the list at the price of one
 * synchronisation: batch. `options` may be NULL; its strategy is not looked at.
 *   -EINVAL     list[failed]: size 0, or not within one block that is in use
 *   -EEXIST     list[failed]: something else than traps is there already. It may be executed:
 *               suture_text_patch or suture_code_modify
 *   -ETIMEDOUT  another thread was patching until the deadline; nothing was written
 *   -EPERM, -ENOMEM  as above
 * The blocks are not to be freed meanwhile.
 */
int suture_code_publish(const struct suture_code_write *list, size_t count,
                        struct suture_text_options *options);

/*
 * Replace any bytes of published code, any number of instructions, while nobody is inside: wait
 * until all have left, keep those that enter waiting, write, let them in. This is the algorithm of
 * the Intel SDM vol. 3, 8.1.3, and needs no traps. Good only if all threads keep to enter and
 * leave. Two edits that overlap are made in order. Errors as of suture_code_publish but -EEXIST,
 * and
 *   -EINVAL     also: `bytes` is NULL
 *   -ETIMEDOUT  somebody was inside until the deadline; nothing was written
 *   -EDEADLK    the caller itself is inside
 */
int suture_code_modify(const struct suture_code_write *list, size_t count,
                       struct suture_text_options *options);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
