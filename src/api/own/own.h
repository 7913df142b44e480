/* SPDX-License-Identifier: MIT */
/* own.h - what the interfaces for one's own process share: one transaction at a time. */
#ifndef SUTURE_API_OWN_H
#define SUTURE_API_OWN_H

#include "patch/patch.h"
#include "suture/text.h"

/* Held by a caller of everything below; taken across fork. -EACCES and the like as in text.h. */
int own_lock(void) port_must_check;
void own_unlock(void);

/*
 * Change the sites of `registry` (sorted, disjoint), or none; see suture_text_patch for the errors.
 * options->failed and the message are filled on error. `single`: every site is known to be one
 * instruction before and after; otherwise that is looked at.
 */
int own_apply(struct patch_registry *registry, struct suture_text_options *options,
              bool single) port_must_check;

/* Is there no other thread? */
bool own_alone(void);

/* Free a registry that was given to own_apply, if no thread may still look at it. */
void own_free(struct patch_registry *registry);

/* Say what is wrong, for people; returns `rc`. */
int own_fail(struct suture_text_options *options, size_t failed, int rc, const char *format, ...)
        __attribute__((format(printf, 4, 5)));

/* Read text. */
int own_read(const void *address, void *buffer, size_t size) port_must_check;

/* -EINVAL unless the caller's options are whole and there is a list, if it has items. */
int own_check(const struct suture_text_options *options, const void *list,
              size_t count) port_must_check;

/* own_lock with the message of its failure; own_end ends what own_begin began. */
int own_begin(struct suture_text_options *options) port_must_check;
void own_end(void);

struct port *own_port(void);
uint64_t own_deadline(const struct suture_text_options *options);

/* Room in what the trap path knows; NULL: none is free. */
struct patch_live *own_live(void);
struct patch_traps *own_traps(void);
/* Traps may be in the text from now on: threads can take them, and the handlers are there. `stay`:
 * they do so after the transaction; `invalid`: such that are invalid opcodes, too. */
int own_attach_traps(bool stay, bool invalid, struct suture_text_options *options) port_must_check;
/* own_fail for what patch_apply and patch_revert say. */
int own_explain(const struct patch_registry *registry, struct suture_text_options *options,
                size_t failed, int rc);

/* ---- code.c: regions ---- */

/* SUTURE_WORD: are all sites one instruction, in regions, of which one aligned word changes? The
 * message is filled if not (-EOPNOTSUPP). Under own_lock. */
int code_check_words(const struct port *port, const struct patch_registry *registry,
                     struct suture_text_options *options) port_must_check;

/* ---- edits.c ---- */

/* Is any byte of [start, end) edited? */
bool edits_meet(uint64_t start, uint64_t end);
/* Is the site part of an edit of another extent? */
bool edits_overlap(const struct sync_site *site);
/* Room for so many more. -ENOMEM */
int edits_reserve(size_t count) port_must_check;
/* The site has been changed. */
void edits_note(const struct sync_site *site);
/* Overlay what was there before. */
void edits_undo(uint64_t address, uint8_t *bytes, size_t size);
/* The text is no longer there. */
void edits_forget(uint64_t start, uint64_t end);

/* ---- key.c: the same for uses of keys, which are known without ---- */

/* Does a use of a key that is on meet the range? `but_whole`: unless it is all of the range. */
/* (keys_use: on or off) */
bool keys_use(uint64_t start, uint64_t end);
bool keys_meet(uint64_t start, uint64_t end, bool but_whole);
void keys_undo(uint64_t address, uint8_t *bytes, size_t size);

#endif
