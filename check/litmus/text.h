/* SPDX-License-Identifier: MIT */
/* text.h - text put together in a buffer; what does not fit is left out. */
#ifndef SUTURE_LITMUS_TEXT_H
#define SUTURE_LITMUS_TEXT_H

#include <stddef.h>

struct text {
	char *at;
	size_t room; /* bytes from there on, with the 0 at the end */
};

void litmus_put(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
