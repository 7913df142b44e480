/* SPDX-License-Identifier: MIT */
/* own_edit.h - one edit, for tests; `message` says what was wrong. */
#ifndef OWN_EDIT_H
#define OWN_EDIT_H

#include "suture/text.h"

static char message[200];
static struct suture_text_options options = {
        .size = sizeof(options), .message = message, .message_size = sizeof(message)};

static int edit(void *address, const void *from, const void *to, size_t length,
                enum suture_strategy strategy)
{
	struct suture_edit e = {address, from, to, length};

	message[0] = '\0';
	options.strategy = strategy;
	return suture_text_patch(&e, 1, &options);
}

#endif
