/* SPDX-License-Identifier: MIT */
/* alias.h - text that suture_text_alias has mapped twice. All under own_lock. */
#ifndef SUTURE_API_OWN_ALIAS_H
#define SUTURE_API_OWN_ALIAS_H

#include <stdbool.h>
#include "port/linux/linux.h"

/* What is not mapped any more is forgotten; what another process may execute, too, is replaced by
 * a copy. -ENOMEM: that failed, and nothing may be written. */
int aliases_begin(void) port_must_check;

/* From now on another process executes the same memory. */
void aliases_forked(void);

/* Is text of ours mapped there, which others see as shared memory? */
bool aliases_have(uint64_t address);

/* What text is written through, or is no more, from the next transaction on. */
int alias_tell(struct linux_alias *alias, bool there) port_must_check;

#endif
