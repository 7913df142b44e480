/* SPDX-License-Identifier: MIT */
/*
 * suture/key.h - static keys: switches that cost one nop while they are off.
 *
 *     SUTURE_KEY_DEFINE(tracing, false);
 *
 *     if (suture_key_unlikely(&tracing))
 *             trace(...);
 *
 *     suture_key_enable(&tracing);
 *
 * Every use is five bytes in the text: a nop, or a jump. Switching changes all uses of a key in one
 * transaction (suture_text_patch, by way of a trap): on return every thread takes the new way.
 *
 * A key belongs to the module (executable or shared library) that defines it, and is used there
 * only; other files of the module say SUTURE_KEY_DECLARE(tracing). Modules are registered when they
 * are loaded, and forgotten when they are unloaded. x86-64, gcc and clang, C and C++, any -O.
 */
#ifndef SUTURE_KEY_H
#define SUTURE_KEY_H

#include "suture/text.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Only the library looks inside. */
struct suture_key {
	int32_t users;  /* enabled so many times */
	int32_t change; /* while one is made */
};

/* One use; the library's business. Distances from the fields themselves. */
struct suture_key_use {
	int32_t code, target;
	int64_t key; /* bit 0: suture_key_likely */
};

#define SUTURE_KEY_DECLARE(name) extern __attribute__((visibility("hidden"))) struct suture_key name
#define SUTURE_KEY_DEFINE(name, on)                                                                \
	SUTURE_KEY_DECLARE(name);                                                                  \
	struct suture_key name = {(on) ? 1 : 0, 0}

/* The code before the module is registered is that of a key that is off. "?": what is said of the
 * use is discarded together with the function that it is in. */
#define SUTURE_KEY_USE_(key_, code_, likely_, label_)                                              \
	__asm__ goto("1:\n\t" code_ "\n\t"                                                         \
	             ".pushsection suture_keys, \"aw?\", @progbits\n\t"                            \
	             ".balign 8\n\t"                                                               \
	             ".long 1b - ., %l[" #label_ "] - .\n\t"                                       \
	             ".quad %c0 + " #likely_ " - .\n\t"                                            \
	             ".popsection"                                                                 \
	             :                                                                             \
	             : "i"(key_)                                                                   \
	             :                                                                             \
	             : label_)

/* true while the key is on; `key` is the address of a key of this module, as a constant. The way
 * for "on" is out of line. */
#define suture_key_unlikely(key)                                                                   \
	__extension__({                                                                            \
		__label__ suture_yes_, suture_end_;                                                \
		int suture_on_;                                                                    \
		/* nopl 0(%rax,%rax,1): SDM vol. 2, NOP */                                         \
		SUTURE_KEY_USE_(key, ".byte 0x0f, 0x1f, 0x44, 0x00, 0x00", 0, suture_yes_);        \
		suture_on_ = 0;                                                                    \
		goto suture_end_;                                                                  \
	suture_yes_:                                                                               \
		suture_on_ = 1;                                                                    \
	suture_end_:                                                                               \
		__builtin_expect(suture_on_, 0);                                                   \
	})

/* The same where "on" is the straight way. */
#define suture_key_likely(key)                                                                     \
	__extension__({                                                                            \
		__label__ suture_no_, suture_end_;                                                 \
		int suture_on_;                                                                    \
		/* jmp rel32 */                                                                    \
		SUTURE_KEY_USE_(key, ".byte 0xe9\n\t.long %l[suture_no_] - . - 4", 1, suture_no_); \
		suture_on_ = 1;                                                                    \
		goto suture_end_;                                                                  \
	suture_no_:                                                                                \
		suture_on_ = 0;                                                                    \
	suture_end_:                                                                               \
		__builtin_expect(suture_on_, 1);                                                   \
	})

#pragma GCC visibility push(default)

/*
 * Counted: a key is on while it was enabled more often than disabled. Only the first enable and the
 * last disable change text. Errors as suture_text_patch; then nothing has changed, the count
 * included. -ERANGE: disabled more often than enabled.
 */
int suture_key_enable(struct suture_key *key);
int suture_key_disable(struct suture_key *key);

/* Many keys in one transaction: all, or none. A key may occur once. `options` as in
 * suture_text_patch, but the strategy is chosen; options->failed is the index of the key. */
struct suture_key_change {
	struct suture_key *key;
	bool enable;
};
int suture_keys_change(const struct suture_key_change *changes, size_t count,
                       struct suture_text_options *options);

/* Is it on? Relaxed: what other threads execute meanwhile is another matter. */
static inline bool suture_key_enabled(const struct suture_key *key)
{
	return __atomic_load_n(&key->users, __ATOMIC_RELAXED) > 0;
}

/* Called when a module is loaded and unloaded, by the functions below. */
void suture_keys_register(struct suture_key_use *start, struct suture_key_use *stop);
void suture_keys_unregister(struct suture_key_use *start, struct suture_key_use *stop);

#pragma GCC visibility pop

/* One for each module, whatever number of files include this. */
extern struct suture_key_use __start_suture_keys[] __attribute__((weak, visibility("hidden")));
extern struct suture_key_use __stop_suture_keys[] __attribute__((weak, visibility("hidden")));

__attribute__((weak, visibility("hidden"), constructor)) void suture_keys_load(void);
__attribute__((weak, visibility("hidden"), destructor)) void suture_keys_unload(void);

__attribute__((weak, visibility("hidden"), constructor)) void suture_keys_load(void)
{
	if (__start_suture_keys)
		suture_keys_register(__start_suture_keys, __stop_suture_keys);
}

__attribute__((weak, visibility("hidden"), destructor)) void suture_keys_unload(void)
{
	if (__start_suture_keys)
		suture_keys_unregister(__start_suture_keys, __stop_suture_keys);
}

#ifdef __cplusplus
}
#endif

#endif
