/* SPDX-License-Identifier: MIT */
/*
 * suture/probe.h - be called at instructions of one's own process.
 *
 *     static void on_open(struct suture_regs *regs, void *arg)
 *     {
 *             int flags = (int)regs->rsi;
 *             __atomic_fetch_add(&opened[flags & O_ACCMODE], 1, __ATOMIC_RELAXED);
 *     }
 *
 *     struct suture_probe_spec spec = {.address = (void *)open, .pre = on_open};
 *     struct suture_probe *probe;
 *     suture_probe_install(&spec, 1, &probe, NULL);
 *
 * At any instruction. Probes at one instruction are called in the order of their installation.
 * Calls are transactions and errors are as for hooks (suture/hook.h); also
 *   -EOPNOTSUPP `post` for an instruction whose destination is not known beforehand (indirect
 *               jumps and calls, returns, system calls)
 *
 * A handler runs on the stack of the thread, 128 bytes (the red zone) and the saved registers below
 * where that was, and may call anything that is safe to call at that place: the thread may hold any
 * lock. Probes that a thread meets while it runs a handler are passed over and counted as missed:
 * handlers never interrupt themselves, and what they call may be probed. Signals may arrive.
 * A handler must return (no longjmp, no exception out of it), and must not call this library.
 * `errno` is not saved. With a shadow stack a handler must not change rip, rsp or rflags.
 * Floating-point and vector registers are saved around a handler only if its code, or any that it
 * calls, may use them; that is looked at once, when the probe is installed.
 *
 * On return of suture_probe_remove no handler of these probes is running or will be called.
 */
#ifndef SUTURE_PROBE_H
#define SUTURE_PROBE_H

#include "suture/site.h"
#include "suture/text.h"

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

/* What a handler may read and change. In `pre` the instruction has not been executed. */
struct suture_regs {
	uint64_t rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15;
	uint64_t rflags;
	uint64_t reserved;
	/* In `pre` the instruction's address, in `post` the next one's. If a handler changes it,
	 * execution goes on there: in `pre` without the instruction, and without hooks of the
	 * function. */
	uint64_t rip;
	uint64_t rsp;
};

typedef void (*suture_probe_fn)(struct suture_regs *regs, void *arg);

enum suture_probe_flags {
	/* The handlers, and all that they call, leave floating-point and vector registers alone
	 * (are compiled with -mgeneral-regs-only): not looked at, and nothing is saved. */
	SUTURE_PROBE_GENERAL_REGS = 1 << 0,
};

struct suture_probe;

struct suture_probe_spec {
	void *address;       /* first byte of an instruction */
	suture_probe_fn pre; /* before the instruction; may be NULL */
	/* After it: where execution goes on is regs->rip. May be NULL. Not called if the
	 * instruction raises a signal, or a hook takes the place of the function. */
	suture_probe_fn post;
	void *arg;
	unsigned flags; /* of enum suture_probe_flags */
};

/* `probes` (NULL if they are never removed) gets `count` handles; `options` may be NULL. */
int suture_probe_install(const struct suture_probe_spec *specs, size_t count,
                         struct suture_probe **probes, struct suture_text_options *options);

/*
 * All, or none. Waits for handlers that run. -EBUSY: one did not return before the deadline; the
 * probes are removed, but their handlers' code must stay for now, as must the handles: call again.
 */
int suture_probe_remove(struct suture_probe *const *probes, size_t count,
                        struct suture_text_options *options);

enum suture_site_kind suture_probe_kind(const struct suture_probe *probe);

/* Hits at the probe's site that no handler saw, because the thread was in one. */
uint64_t suture_probe_missed(const struct suture_probe *probe);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
