// SPDX-License-Identifier: MIT
/* specs.c - specifications from a file: more than an argument list can hold. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"

#define FILE_MAX ((size_t)256 << 20)

static int complain_file(const char *name, int error)
{
	complain("--specs-from: cannot read %s: %s", name, strerror(error));
	return STATUS_USAGE;
}

/* The whole file, with a zero behind it. NULL: complained. */
static char *read_file(const char *name, size_t *size)
{
	int fd = strcmp(name, "-") ? open(name, O_RDONLY | O_CLOEXEC | O_NOCTTY) : STDIN_FILENO;
	size_t room = 1 << 16;
	char *text = malloc(room);
	ssize_t got = fd < 0 || !text ? -1 : 1;

	*size = 0;
	while (got > 0) {
		if (room - *size < 2) {
			char *grown = *size < FILE_MAX ? realloc(text, room *= 2) : NULL;

			if (!grown) {
				errno = EFBIG;
				got = -1;
				break;
			}
			text = grown;
		}
		do
			got = read(fd, text + *size, room - *size - 1);
		while (got < 0 && errno == EINTR);
		*size += got > 0 ? (size_t)got : 0;
	}
	if (got < 0) {
		complain_file(name, errno);
		free(text);
		text = NULL;
	} else {
		text[*size] = 0;
	}
	if (fd > STDIN_FILENO)
		close(fd);
	return text;
}

/* The line's specification, without blanks around it; NULL: there is none. */
static char *trim(char *line)
{
	char *end;

	line += strspn(line, " \t\r");
	end = line + strlen(line);
	while (end > line && strchr(" \t\r", end[-1]))
		end--;
	*end = 0;
	return *line && *line != '#' ? line : NULL;
}

static int add_spec(struct arguments *arguments, char *spec, size_t line, size_t *room)
{
	if (arguments->spec_count >= *room) {
		size_t grown_room = *room ? 2 * *room : 1024;
		char **grown = realloc(arguments->specs, grown_room * sizeof(*grown));
		size_t *lines = realloc(arguments->spec_lines, grown_room * sizeof(*lines));

		arguments->specs = grown ? grown : arguments->specs;
		arguments->spec_lines = lines ? lines : arguments->spec_lines;
		if (!grown || !lines) {
			complain("out of memory");
			return STATUS_INTERNAL;
		}
		*room = grown_room;
	}
	arguments->spec_lines[arguments->spec_count] = line;
	arguments->specs[arguments->spec_count++] = spec;
	return STATUS_DONE;
}

int specs_read(struct arguments *arguments)
{
	const char *name = arguments->specs_from;
	char **given = arguments->specs, *text, *line;
	size_t size, room = 0, number = 1, given_count = arguments->spec_count;
	int status = STATUS_DONE;

	text = read_file(name, &size);
	if (!text)
		return STATUS_USAGE;
	if (memchr(text, 0, size)) {
		complain("--specs-from: %s is no text: it holds a zero byte", name);
		return STATUS_USAGE;
	}
	arguments->specs = NULL;
	arguments->spec_count = 0;
	for (size_t i = 0; i < given_count && !status; i++)
		status = add_spec(arguments, given[i], 0, &room);
	for (char *rest = text; !status && (line = strsep(&rest, "\n")); number++)
		if ((line = trim(line)))
			status = add_spec(arguments, line, number, &room);
	if (!status && arguments->spec_count == given_count) {
		complain("--specs-from: there is no specification in %s", name);
		return STATUS_USAGE;
	}
	return status;
}
