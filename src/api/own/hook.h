/* SPDX-License-Identifier: MIT */
/* hook.h - hooks of the library's own. */
#ifndef SUTURE_API_OWN_HOOK_H
#define SUTURE_API_OWN_HOOK_H

#include "suture/hook.h"

/* suture_hook_install with own_lock held, and options given. */
int hook_install(const struct suture_hook_spec *specs, size_t count, struct suture_hook **hooks,
                 struct suture_text_options *options) __attribute__((warn_unused_result));

#endif
