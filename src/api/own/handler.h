/* SPDX-License-Identifier: MIT */
/* handler.h - what a probe's handler does to registers. */
#ifndef SUTURE_API_OWN_HANDLER_H
#define SUTURE_API_OWN_HANDLER_H

#include <stdbool.h>
#include "suture/probe.h"

/* May the handler (NULL: none) use floating-point or vector registers? Under own_lock. */
bool handler_uses_vector(suture_probe_fn handler);

/* Code may have changed since it was looked at: at the beginning of each call. */
void handler_forget(void);

#endif
