// SPDX-License-Identifier: MIT
/*
 * screen.c - a terminal that can be redrawn.
 *
 * Terminfo without the rest of curses, which wants signals and the keyboard for itself. The
 * alternate screen keeps the user's scrollback as it was; the final table is printed after it.
 */
#include <curses.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli/cli.h"
/* Last: it defines macros named like ordinary words. */
#include <term.h>

#define LEAVE_TIMEOUT_MS 1000

static int screen_fd = -1;
static bool screen_shown;
static FILE *screen_out; /* tputs() has no argument for it */

static struct {
	char *home, *clear_line, *clear_rest;            /* needed */
	char *enter, *leave, *hide_cursor, *show_cursor; /* used if there */
} strings;

static char *string_find(const char *name)
{
	char *value = tigetstr(name);

	return value && value != (char *)-1 && *value ? value : NULL;
}

bool screen_open(void)
{
	int error;

	if (!isatty(STDOUT_FILENO) || setupterm(NULL, STDOUT_FILENO, &error) != OK)
		return false;
	strings.home = string_find("home");
	strings.clear_line = string_find("el");
	strings.clear_rest = string_find("ed");
	strings.enter = string_find("smcup");
	strings.leave = string_find("rmcup");
	strings.hide_cursor = string_find("civis");
	strings.show_cursor = string_find("cnorm");
	if (!strings.home || !strings.clear_line || !strings.clear_rest)
		return false;
	/*
	 * An open file of our own: a terminal stopped with Ctrl-S must not hold us up, and
	 * O_NONBLOCK on the inherited one would be seen by everyone who shares it.
	 */
	screen_fd = open("/proc/self/fd/1", O_WRONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	return screen_fd >= 0;
}

void screen_size(struct table_space *out)
{
	struct winsize size;

	*out = (struct table_space){.width = 80, .height = 24};
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size))
		return;
	if (size.ws_col)
		out->width = size.ws_col;
	if (size.ws_row)
		out->height = size.ws_row;
}

static int put_character(int c)
{
	return fputc(c, screen_out);
}

static void put_string(const char *string)
{
	if (string)
		tputs(string, 1, put_character);
}

static void write_screen(const char *frame, size_t size, int timeout_ms)
{
	while (size > 0) {
		struct pollfd ready = {.fd = screen_fd, .events = POLLOUT};
		ssize_t written = write(screen_fd, frame, size);

		if (written > 0) {
			frame += written;
			size -= (size_t)written;
		} else if (poll(&ready, 1, timeout_ms) <= 0 || (ready.revents & ~POLLOUT)) {
			return;
		}
	}
}

/* As many lines as fit; the last one without a line feed, which would scroll. */
static void put_lines(const char *text, size_t height)
{
	for (size_t line = 0; *text && line < height; line++) {
		size_t length = strcspn(text, "\n");

		if (line)
			fputs("\r\n", screen_out);
		fwrite(text, 1, length, screen_out);
		put_string(strings.clear_line);
		text += length + (text[length] == '\n');
	}
	put_string(strings.clear_rest);
}

void screen_draw(const char *text)
{
	struct table_space space;
	char *frame = NULL;
	size_t size = 0;

	/* In the background the terminal is somebody else's. */
	if (screen_fd < 0 || tcgetpgrp(screen_fd) != getpgrp())
		return;
	screen_out = open_memstream(&frame, &size);
	if (!screen_out)
		return;
	screen_size(&space);
	if (!screen_shown) {
		put_string(strings.enter);
		put_string(strings.hide_cursor);
	}
	put_string(strings.home);
	put_lines(text, space.height);
	fclose(screen_out);
	screen_shown = true;
	write_screen(frame, size, 0);
	free(frame);
}

void screen_leave(void)
{
	char *frame = NULL;
	size_t size = 0;

	if (!screen_shown)
		return;
	screen_shown = false;
	screen_out = open_memstream(&frame, &size);
	if (!screen_out)
		return;
	if (!strings.leave) {
		put_string(strings.home);
		put_string(strings.clear_rest);
	}
	put_string(strings.show_cursor);
	put_string(strings.leave);
	fclose(screen_out);
	write_screen(frame, size, LEAVE_TIMEOUT_MS);
	free(frame);
}
