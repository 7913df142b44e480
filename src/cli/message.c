// SPDX-License-Identifier: MIT
/* message.c - complaints and progress, on standard error. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

/* Work that is done sooner shows no progress. */
#define PROGRESS_AFTER_NS NS_PER_S
#define PROGRESS_EVERY_NS (100 * NS_PER_MS)
#define PROGRESS_COLUMNS  60

static bool progress_shown;
static char last_complaint[512];
static uint64_t work_ns; /* when the work began of which progress is shown; 0: none */

/* One write, so that lines of several commands on one terminal do not mix. */
static void write_whole(int fd, const char *text, size_t size)
{
	while (size > 0) {
		ssize_t written = write(fd, text, size);

		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			return;
		text += written;
		size -= (size_t)written;
	}
}

void complain(const char *format, ...)
{
	char *message = NULL, *line = NULL;
	size_t size = 0;
	va_list args;
	FILE *out;

	progress_clear();
	va_start(args, format);
	if (vasprintf(&message, format, args) < 0)
		message = NULL;
	va_end(args);
	out = open_memstream(&line, &size);
	if (!message || !out) {
		static const char plain[] = "suture: out of memory\n";

		write_whole(STDERR_FILENO, plain, sizeof(plain) - 1);
		free(message);
		return;
	}
	snprintf(last_complaint, sizeof(last_complaint), "%s", message);
	fputs("suture: ", out);
	text_put(out, message, TEXT_WHOLE);
	fputc('\n', out);
	fclose(out);
	write_whole(STDERR_FILENO, line, size);
	free(line);
	free(message);
}

const char *complained(void)
{
	return last_complaint;
}

int status_of_error(int error)
{
	switch (-error) {
	case EINVAL:
	case ENOENT:
	case ENOTUNIQ:
		return STATUS_USAGE;
	case ESRCH:
	case EPERM:
	case EACCES:
	case ENOEXEC:
	case EBUSY:
		return STATUS_PROCESS;
	case EOPNOTSUPP:
		return STATUS_REFUSED;
	case ETIMEDOUT:
		return STATUS_TIMEOUT;
	default:
		return error < 0 ? STATUS_INTERNAL : STATUS_DONE;
	}
}

int complain_error(const struct suture_target *target, int error)
{
	const char *text = suture_target_error(target);

	complain("%s", *text ? text : strerror(-error));
	return status_of_error(error);
}

/*
 * Standard error again, but as an open file of our own that does not block: a terminal that the
 * user has stopped with Ctrl-S must hold up neither attach nor detach, and O_NONBLOCK on the
 * inherited one would be seen by every other process that uses it.
 */
static int progress_terminal(void)
{
	static int fd = -2;

	if (fd == -2)
		fd = isatty(STDERR_FILENO)
		             ? open("/proc/self/fd/2", O_WRONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC)
		             : -1;
	return fd;
}

void progress_show(const char *what, size_t done, size_t total)
{
	static uint64_t shown_ns;
	uint64_t now = monotonic_ns();
	char line[PROGRESS_COLUMNS + 64];
	int size;

	if (progress_terminal() < 0)
		return;
	if (!work_ns)
		work_ns = now;
	if (now - work_ns < PROGRESS_AFTER_NS ||
	    (now - shown_ns < PROGRESS_EVERY_NS && (done < total || !total)))
		return;
	shown_ns = now;
	size = snprintf(line, sizeof(line), "\rsuture: %.30s", what);
	if (total)
		size += snprintf(line + size, sizeof(line) - (size_t)size, " %zu/%zu", done, total);
	if (size > PROGRESS_COLUMNS)
		size = PROGRESS_COLUMNS;
	memset(line + size, ' ', (size_t)(PROGRESS_COLUMNS - size));
	write_whole(progress_terminal(), line, PROGRESS_COLUMNS);
	progress_shown = true;
}

void progress_clear(void)
{
	char line[PROGRESS_COLUMNS + 1];

	work_ns = 0;
	if (!progress_shown)
		return;
	memset(line, ' ', sizeof(line));
	line[0] = line[PROGRESS_COLUMNS] = '\r';
	write_whole(progress_terminal(), line, sizeof(line));
	progress_shown = false;
}
