/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stdio.h>
#include "check/litmus/text.h"

void litmus_put(struct text *text, const char *format, ...)
{
	va_list arguments;
	int n;

	va_start(arguments, format);
	n = vsnprintf(text->at, text->room, format, arguments);
	va_end(arguments);
	if (n < 0 || (size_t)n >= text->room)
		n = text->room ? (int)text->room - 1 : 0;
	text->at += n;
	text->room -= (size_t)n;
}
