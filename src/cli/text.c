// SPDX-License-Identifier: MIT
/*
 * text.c - names from foreign files, made fit to print.
 *
 * Symbol names come out of files that anybody may have written; an escape sequence in one must
 * not reach the terminal.
 */
#include <inttypes.h>
#include <langinfo.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <wchar.h>
#include <wctype.h>

#include "cli/cli.h"

const char *text_ellipsis(void)
{
	return strcmp(nl_langinfo(CODESET), "UTF-8") ? "..." : "\u2026";
}

static size_t ellipsis_columns(void)
{
	return strlen(text_ellipsis()) == 3 && *text_ellipsis() == '.' ? 3 : 1;
}

/* The next character: its size in bytes, and its columns, or 0 if it is not to be printed. */
static size_t next_character(const char *text, mbstate_t *state, size_t *columns)
{
	wchar_t wide;
	size_t size = mbrtowc(&wide, text, MB_CUR_MAX, state);
	int width;

	if (size == (size_t)-1 || size == (size_t)-2) {
		memset(state, 0, sizeof(*state));
		size = 1;
		*columns = 0;
		return size;
	}
	width = iswprint((wint_t)wide) ? wcwidth(wide) : 0;
	*columns = width > 0 ? (size_t)width : 0;
	return size;
}

static size_t text_columns(const char *text)
{
	mbstate_t state = {0};
	size_t sum = 0, columns;

	while (*text) {
		text += next_character(text, &state, &columns);
		sum += columns ? columns : 1;
	}
	return sum;
}

void text_put(FILE *out, const char *text, size_t columns)
{
	bool cut = columns != TEXT_WHOLE && text_columns(text) > columns;
	size_t room = columns, used = 0, wide;
	mbstate_t state = {0};

	if (cut)
		room = columns > ellipsis_columns() ? columns - ellipsis_columns() : 0;
	while (*text) {
		size_t size = next_character(text, &state, &wide);

		used += wide ? wide : 1;
		if (used > room)
			break;
		if (wide)
			fwrite(text, 1, size, out);
		else
			fputc('?', out);
		text += size;
	}
	if (cut && room)
		fputs(text_ellipsis(), out);
}

void text_put_site(FILE *out, const struct suture_target_probe *probe, size_t columns)
{
	char *text = NULL;
	int size;

	if (!probe->symbol)
		size = asprintf(&text, "%s:0x%" PRIx64, probe->module, probe->vaddr);
	else if (probe->offset)
		size = asprintf(&text, "%s:%s+0x%" PRIx64, probe->module, probe->symbol,
		                probe->offset);
	else
		size = asprintf(&text, "%s:%s", probe->module, probe->symbol);
	if (size >= 0) {
		text_put(out, text, columns);
		free(text);
	}
}

bool text_is_glob(const char *spec)
{
	const char *colon = strchr(spec, ':');

	return strpbrk(colon ? colon + 1 : spec, "*?[") != NULL;
}

uint64_t monotonic_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}
