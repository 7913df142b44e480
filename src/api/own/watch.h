/* SPDX-License-Identifier: MIT */
/* watch.h - keep the program from blocking the signals that our traps raise. */
#ifndef SUTURE_API_OWN_WATCH_H
#define SUTURE_API_OWN_WATCH_H

#include "suture/text.h"

/*
 * From now on libc's calls that block signals or set handlers leave SIGTRAP and SIGILL to us; what
 * handlers the program has for them is called for traps that are not ours. Does nothing the second
 * time. Under own_lock.
 */
int watch_begin(struct suture_text_options *options) __attribute__((warn_unused_result));

/* It has begun: no handler comes to block them any more. */
bool watch_is_on(void);

#endif
