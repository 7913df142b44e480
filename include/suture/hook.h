/* SPDX-License-Identifier: MIT */
/*
 * suture/hook.h - replace functions of one's own process while it runs.
 *
 *     static int (*real_rename)(const char *, const char *);
 *     static int my_rename(const char *from, const char *to)
 *     {
 *             log(from, to);
 *             return real_rename(from, to);
 *     }
 *
 *     struct suture_hook_spec spec = {(void *)rename, (void *)my_rename, (void **)&real_rename};
 *     struct suture_hook *hook;
 *     suture_hook_install(&spec, 1, &hook, NULL);
 *
 * Whoever calls the function, from whatever module and however, gets to the replacement. A call is
 * one transaction: all hooks are in force, or none. Threads go on running meanwhile, those inside
 * the function included: they finish what they began. What was called before the return may still
 * run the old function.
 *
 * Hooks on one function stack: the latest one is called first, and its `original` leads to the one
 * before it, or to the function. They may be removed in any order. Probes at the function's first
 * instruction (suture/probe.h) run before all of them.
 *
 * Two things that compilers and linkers do can hide calls. gcc, from -O2 on, may know which
 * registers a function of the same file leaves alone, and rely on it (-fipa-ra): compile functions
 * that are to be hooked with -fno-ipa-ra, or with the attribute noipa. And in a program that is not
 * position independent &function may be the program's own stub, which other modules do not call:
 * ask dlsym() with the library's handle then.
 *
 * Errors as in suture/text.h, and
 *   -EINVAL     an address is missing, or no instruction is there; a function twice in one call
 *   -EACCES     the function, or the replacement, is not text (not mapped executable); or it is not
 *               for us to write
 *   -EOPNOTSUPP an instruction that can be executed only where it stands (the message says which)
 *   -ENOSPC     no memory is free for the trampoline, near enough
 * Nothing was changed then.
 *
 * Threads: any number at once, they take turns. Not from signal handlers, nor from handlers of
 * probes. The library itself calls functions of libc while it works: replacements of those run
 * there, must not call the library (-EDEADLK), and not wait for a thread that does. After fork()
 * the child has its own: what one process installs or removes the other does not see. Remove hooks
 * before dlclose() of the module that is hooked, or that the replacement is in; a hook whose
 * function was unloaded is dropped at the next call that finds it gone, and removing it is no
 * error.
 *
 * Unwinding, exceptions and backtrace() work through replacements and originals as through any
 * function; those who stop at any instruction (profilers, gdb) are led through trampolines if they
 * are shown to them (suture/trampoline.h).
 */
#ifndef SUTURE_HOOK_H
#define SUTURE_HOOK_H

#include "suture/site.h"
#include "suture/text.h"

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

struct suture_hook;

struct suture_hook_spec {
	/* First instruction of the function. Of an indirect function (IFUNC) the one that was
	 * chosen: what dlsym() gives. */
	void *function;
	/* Called instead, with the same arguments; of the same type. */
	void *replacement;
	/* Out, may be NULL: what to call for what was there before. Set before the first call of
	 * the replacement. Valid for as long as the function is loaded, also after the hook was
	 * removed. Register r11 is not kept on the way, as between any two functions. */
	void **original;
};

/*
 * hooks[0] to hooks[count - 1] are handles (`hooks` may be NULL if they are never removed).
 * `options` may be NULL; of the strategies only SUTURE_CHEAPEST is accepted.
 */
int suture_hook_install(const struct suture_hook_spec *specs, size_t count,
                        struct suture_hook **hooks, struct suture_text_options *options);

/*
 * All of them, or none. Calls that are inside a replacement go on, and what they call as the
 * original stays valid; that all have returned is for the caller to know before it unloads the
 * replacement. The handles are gone on return 0.
 */
int suture_hook_remove(struct suture_hook *const *hooks, size_t count,
                       struct suture_text_options *options);

/* How the function's text leads to the replacement. */
enum suture_site_kind suture_hook_kind(const struct suture_hook *hook);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
