/* SPDX-License-Identifier: MIT */
/* tap.h - Test Anything Protocol output for one-file test programs. */
#ifndef TAP_H
#define TAP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

static int tap_count, tap_failed;

__attribute__((format(printf, 2, 3), unused)) static bool ok(bool pass, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	printf("%s %d - ", pass ? "ok" : "not ok", ++tap_count);
	vprintf(format, args);
	putchar('\n');
	va_end(args);
	if (!pass)
		tap_failed++;
	fflush(stdout);
	return pass;
}

__attribute__((format(printf, 1, 2), unused)) static void note(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	printf("# ");
	vprintf(format, args);
	putchar('\n');
	va_end(args);
	fflush(stdout);
}

__attribute__((format(printf, 1, 2), unused)) static void skip(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	printf("ok %d # SKIP ", ++tap_count);
	vprintf(format, args);
	putchar('\n');
	va_end(args);
}

/* Prints the plan; the program's exit status. */
__attribute__((unused)) static int done(void)
{
	printf("1..%d\n", tap_count);
	return tap_failed != 0;
}

#endif
