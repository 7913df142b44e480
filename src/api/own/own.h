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

/* Free a registry that was given to own_apply, if no thread may still look at it. */
void own_free(struct patch_registry *registry);

/* Say what is wrong, for people; returns `rc`. */
int own_fail(struct suture_text_options *options, size_t failed, int rc, const char *format, ...)
        __attribute__((format(printf, 4, 5)));

/* Read text. */
int own_read(const void *address, void *buffer, size_t size) port_must_check;

/* ---- edits.c ---- */

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

#endif
