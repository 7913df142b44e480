/* SPDX-License-Identifier: MIT */
/* kinds.c - a file of names and kinds. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "check/litmus/kinds.h"

static bool kind_named(const char *word, enum litmus_kind *kind)
{
	for (unsigned i = LITMUS_ALLOWED; i <= LITMUS_REQUIRED; i++)
		if (strcmp(word, litmus_kind_name(i)) == 0) {
			*kind = i;
			return true;
		}
	return false;
}

static int add(struct kinds *kinds, const char *name, enum litmus_kind kind)
{
	struct kind_line *line;

	if (kinds->count == kinds->room) {
		size_t room = kinds->room ? 2 * kinds->room : 64;

		line = realloc(kinds->lines, room * sizeof(*line));
		if (!line)
			return -ENOMEM;
		kinds->lines = line;
		kinds->room = room;
	}
	line = &kinds->lines[kinds->count++];
	snprintf(line->name, sizeof(line->name), "%s", name);
	line->kind = kind;
	return 0;
}

static int read_line(struct kinds *kinds, char *line)
{
	const char *before = NULL;
	enum litmus_kind kind;
	char *word;

	while (line[0] != '#' && (word = strsep(&line, " \t\r\n")) && line) {
		if (before && kind_named(word, &kind))
			return add(kinds, before, kind);
		before = *word ? word : before;
	}
	return 0;
}

int kinds_read(struct kinds *kinds, const char *file)
{
	FILE *stream = fopen(file, "r");
	char *line = NULL;
	size_t room = 0;
	int rc = 0;

	if (!stream)
		return -errno;
	while (!rc && getline(&line, &room, stream) >= 0)
		rc = read_line(kinds, line);
	if (!rc && ferror(stream))
		rc = -EIO;
	free(line);
	fclose(stream);
	return rc;
}

bool kinds_find(const struct kinds *kinds, const char *name, enum litmus_kind *kind)
{
	for (size_t i = 0; i < kinds->count; i++)
		if (strcmp(kinds->lines[i].name, name) == 0) {
			*kind = kinds->lines[i].kind;
			return true;
		}
	return false;
}

void kinds_free(struct kinds *kinds)
{
	free(kinds->lines);
}
