/* SPDX-License-Identifier: MIT */
/*
 * timeline.c - a counterexample as text: one column a core, one row a step, and on the right what
 * the places in the machine may hold, where the step has changed it.
 */
#include <langinfo.h>
#include <string.h>

#include "check/report.h"

enum {
	NUMBER_COLUMNS = 5, /* "  12 " */
	BETWEEN = 3,        /* " | " */
	COLUMN_MIN = 14,
	WIDTH_MIN = 80,
	INDENT = 2,
	/* A group, what it holds, and whether that is stale. */
	CHANGE_SIZE = sizeof(struct trace_group) + sizeof(((struct trace_change *)0)->holds) + 16,
};

/* ---- words into lines ---- */

double text_columns(const char *text, size_t size)
{
	size_t columns = 0;

	for (size_t i = 0; i < size; i++)
		columns += (text[i] & 0xc0) != 0x80;
	return (double)columns;
}

static size_t next_letter(const char *text, size_t at)
{
	do
		at++;
	while ((text[at] & 0xc0) == 0x80);
	return at;
}

const char *text_wrap(const char **text, double width, text_measure *measure, size_t *size)
{
	const char *start = *text + strspn(*text, " ");
	size_t fits = 0, end = 0;

	if (!*start) {
		*text = start;
		return NULL;
	}
	while (start[end]) {
		end += strspn(start + end, " ");
		end += strcspn(start + end, " ");
		if (measure(start, end) > width)
			break;
		fits = end;
	}
	if (!fits) {
		fits = next_letter(start, 0);
		while (start[fits] && measure(start, next_letter(start, fits)) <= width)
			fits = next_letter(start, fits);
	}
	*text = start + fits;
	while (fits > 1 && start[fits - 1] == ' ')
		fits--;
	*size = fits;
	return start;
}

/* ---- cells ---- */

struct layout {
	unsigned cores;
	unsigned width[TRACE_CORES_MAX + 1]; /* of the columns; the last is for changes */
	const char *bar, *line, *cross;
};

static void put_repeated(FILE *out, const char *text, unsigned times)
{
	while (times-- > 0)
		fputs(text, out);
}

/* The next line of a text in a column; false if there was none left, and it stays blank. */
static bool put_wrapped(FILE *out, const char **text, unsigned width)
{
	size_t size = 0;
	const char *line = text_wrap(text, width, text_columns, &size);
	unsigned used = line ? (unsigned)text_columns(line, size) : 0;

	if (line)
		fwrite(line, 1, size, out);
	put_repeated(out, " ", width - used);
	return line != NULL;
}

/* A paragraph whose first line begins with `label`, the others as far to the right. */
static void put_paragraph(FILE *out, const char *label, const char *text, unsigned width)
{
	unsigned indent = (unsigned)text_columns(label, strlen(label));
	const char *line;
	size_t size;

	fputs(label, out);
	if (indent > width / 2) {
		indent = 2 * INDENT;
		fputc('\n', out);
		put_repeated(out, " ", indent);
	}
	for (bool first = true; (line = text_wrap(&text, width - indent, text_columns, &size));
	     first = false) {
		if (!first)
			put_repeated(out, " ", indent);
		fwrite(line, 1, size, out);
		fputc('\n', out);
	}
}

/* ---- rows ---- */

const char *trace_column_name(const struct check_job *job)
{
	return job->machine->cpus == 1 ? "thread" : "core";
}

/* "I-cache 1 of 0x1000": what it is, whose, and where in memory. */
struct place {
	const char *name;
	size_t base; /* bytes of "I-cache" */
	const char *number;
	size_t number_size; /* 0: there is one for all */
	const char *line;   /* " of 0x1000", or "" */
};

static struct place place_of(const struct trace_change *change)
{
	struct place place = {.name = change->place, .line = strstr(change->place, " of 0x")};
	const char *end;

	if (!place.line)
		place.line = place.name + strlen(place.name);
	for (end = place.line; end > place.name && end[-1] >= '0' && end[-1] <= '9'; end--)
		;
	if (end > place.name && end[-1] == ' ' && end < place.line) {
		place.number = end;
		place.number_size = (size_t)(place.line - end);
		end--;
	} else {
		end = place.line;
	}
	place.base = (size_t)(end - place.name);
	return place;
}

static bool same_base(const struct place *a, const struct place *b)
{
	return a->base == b->base && memcmp(a->name, b->name, a->base) == 0 && a->number &&
	       b->number;
}

static bool same_group(const struct trace_change *a, const struct trace_change *b)
{
	return a->stale == b->stale && strcmp(a->holds, b->holds) == 0 &&
	       strcmp(place_of(a).line, place_of(b).line) == 0;
}

static void append(struct trace_group *group, const char *before, const char *text, size_t size)
{
	size_t at = strlen(group->places);

	snprintf(group->places + at, sizeof(group->places) - at, "%s%.*s", before, (int)size, text);
}

/* "memory + I-cache 0, 2 of 0x1000" */
static void name_places(struct trace_group *group, const struct trace_row *row, bool *members)
{
	for (unsigned i = 0; i < TRACE_CHANGES_MAX; i++) {
		struct place first, other;

		if (!members[i])
			continue;
		first = place_of(&row->changes[i]);
		append(group, group->places[0] ? " + " : "", first.name,
		       (size_t)(first.line - first.name));
		for (unsigned k = i + 1; k < TRACE_CHANGES_MAX; k++) {
			if (!members[k])
				continue;
			other = place_of(&row->changes[k]);
			if (!same_base(&first, &other))
				continue;
			members[k] = false;
			append(group, ", ", other.number, other.number_size);
		}
	}
	append(group, "", place_of(group->change).line, strlen(place_of(group->change).line));
}

unsigned trace_groups(const struct trace_row *row, struct trace_group out[TRACE_CHANGES_MAX])
{
	unsigned changes = row->count < TRACE_CHANGES_MAX ? row->count : TRACE_CHANGES_MAX;
	bool told[TRACE_CHANGES_MAX] = {false};
	unsigned count = 0;

	for (unsigned i = 0; i < changes; i++) {
		bool members[TRACE_CHANGES_MAX] = {false};

		if (told[i])
			continue;
		for (unsigned k = i; k < changes; k++)
			if (same_group(&row->changes[i], &row->changes[k]))
				members[k] = told[k] = true;
		out[count] = (struct trace_group){.change = &row->changes[i]};
		name_places(&out[count++], row, members);
	}
	return count;
}

/* A line for each group. */
struct changes {
	char line[TRACE_CHANGES_MAX][CHANGE_SIZE];
	unsigned count;
};

static void describe_changes(const struct trace_row *row, struct changes *out)
{
	struct trace_group groups[TRACE_CHANGES_MAX];

	out->count = trace_groups(row, groups);
	for (unsigned i = 0; i < out->count; i++)
		snprintf(out->line[i], CHANGE_SIZE, "%.*s: %s%s", (int)sizeof(groups[i].places),
		         groups[i].places, groups[i].change->holds,
		         groups[i].change->stale ? " (stale)" : "");
}

/* Where the changes of a row are being printed. */
struct changes_cursor {
	const struct changes *changes;
	unsigned index;
	const char *rest; /* of that line; NULL: not begun */
};

static bool changes_left(const struct changes_cursor *cursor)
{
	return cursor->index < cursor->changes->count;
}

/* The next line of them, and how far it is indented; NULL at the end. */
static const char *next_change(struct changes_cursor *cursor, unsigned width, unsigned *indent,
                               size_t *size)
{
	const char *line;

	if (!changes_left(cursor))
		return NULL;
	*indent = cursor->rest ? INDENT : 0;
	if (!cursor->rest)
		cursor->rest = cursor->changes->line[cursor->index];
	line = text_wrap(&cursor->rest, width - *indent, text_columns, size);
	if (!cursor->rest[strspn(cursor->rest, " ")]) {
		cursor->index++;
		cursor->rest = NULL;
	}
	return line;
}

static void put_change(FILE *out, struct changes_cursor *cursor, unsigned width)
{
	unsigned indent;
	size_t size;
	const char *line = next_change(cursor, width, &indent, &size);

	if (!line)
		return;
	put_repeated(out, " ", 1 + indent);
	fwrite(line, 1, size, out);
}

static void describe_step(const struct trace_row *row, char *out, size_t size)
{
	if (row->core < 0)
		snprintf(out, size, "(%s)", row->what);
	else
		snprintf(out, size, "%s%s", row->violation ? "=> " : "", row->what);
}

static unsigned span(const struct layout *layout)
{
	unsigned width = BETWEEN * (layout->cores - 1);

	for (unsigned i = 0; i < layout->cores; i++)
		width += layout->width[i];
	return width;
}

/* Steps of the machine itself, which belong to no core, reach across all columns. */
static void put_cores(FILE *out, const struct layout *layout, int core, const char **what)
{
	if (core < 0 || (unsigned)core >= layout->cores) {
		put_wrapped(out, what, span(layout));
		fputs(layout->bar, out);
		return;
	}
	for (unsigned i = 0; i < layout->cores; i++) {
		if (i > 0)
			fputc(' ', out);
		if (i == (unsigned)core)
			put_wrapped(out, what, layout->width[i]);
		else
			put_repeated(out, " ", layout->width[i]);
		fputs(layout->bar, out);
	}
}

static void put_row(FILE *out, const struct layout *layout, unsigned number,
                    const struct trace_row *row)
{
	struct changes changes;
	struct changes_cursor cursor = {.changes = &changes};
	char text[sizeof(row->what) + 8];
	const char *what = text;

	describe_changes(row, &changes);
	describe_step(row, text, sizeof(text));
	for (bool first = true; first || *what || changes_left(&cursor); first = false) {
		if (first)
			fprintf(out, "%4u ", number);
		else
			put_repeated(out, " ", NUMBER_COLUMNS);
		put_cores(out, layout, row->core, &what);
		put_change(out, &cursor, layout->width[layout->cores]);
		fputc('\n', out);
	}
}

static void put_rule(FILE *out, const struct layout *layout)
{
	put_repeated(out, layout->line, NUMBER_COLUMNS - 1);
	for (unsigned i = 0; i < layout->cores; i++) {
		put_repeated(out, layout->line, layout->width[i] + 1);
		fputs(layout->cross, out);
	}
	put_repeated(out, layout->line, layout->width[layout->cores] + 1);
	fputc('\n', out);
}

/* What the columns are; as many lines as the longest name needs. */
static void put_head(FILE *out, const struct layout *layout, const struct check_job *job,
                     const struct trace *trace)
{
	static const char about[] = "what a place may hold, where that has changed";
	struct changes last = {.line = {{0}}, .count = 1};
	struct changes_cursor cursor = {.changes = &last};
	char text[TRACE_CORES_MAX][sizeof(trace->role[0]) + 16];
	const char *rest[TRACE_CORES_MAX];
	bool left = true;

	snprintf(last.line[0], sizeof(last.line[0]), "%s", about);
	for (unsigned i = 0; i < layout->cores; i++) {
		snprintf(text[i], sizeof(text[i]), "%s %u: %s", trace_column_name(job), i,
		         trace->role[i]);
		rest[i] = text[i];
	}
	while (left) {
		put_repeated(out, " ", NUMBER_COLUMNS - 1);
		left = false;
		for (unsigned i = 0; i < layout->cores; i++) {
			fputc(' ', out);
			put_wrapped(out, &rest[i], layout->width[i]);
			fputs(layout->bar, out);
			left = left || *rest[i];
		}
		put_change(out, &cursor, layout->width[layout->cores]);
		left = left || changes_left(&cursor);
		fputc('\n', out);
	}
	put_rule(out, layout);
}

/* ---- how wide the columns are: so that the table becomes as short as it can ---- */

static unsigned row_height(const struct layout *layout, const struct trace_row *row)
{
	bool apart = row->core >= 0 && (unsigned)row->core < layout->cores;
	struct changes changes;
	struct changes_cursor cursor = {.changes = &changes};
	char text[sizeof(row->what) + 8];
	const char *what = text;
	unsigned height = 0, beside = 0, indent;
	size_t size;

	describe_step(row, text, sizeof(text));
	describe_changes(row, &changes);
	while (text_wrap(&what, apart ? layout->width[row->core] : span(layout), text_columns,
	                 &size))
		height++;
	while (next_change(&cursor, layout->width[layout->cores], &indent, &size))
		beside++;
	return height > beside ? height : beside;
}

static unsigned table_height(const struct layout *layout, const struct trace *trace)
{
	unsigned height = 0;

	for (unsigned i = 0; i < trace->count; i++)
		height += row_height(layout, &trace->rows[i]);
	return height;
}

/* Moves a few columns of text to where they shorten the table; false if they would not. */
static bool shift_widths(struct layout *layout, const struct trace *trace, unsigned step,
                         unsigned *height)
{
	for (unsigned from = 0; from <= layout->cores; from++)
		for (unsigned to = 0; to <= layout->cores; to++) {
			struct layout other = *layout;
			unsigned now;

			if (from == to || other.width[from] < COLUMN_MIN + step)
				continue;
			other.width[from] -= step;
			other.width[to] += step;
			now = table_height(&other, trace);
			if (now >= *height)
				continue;
			*height = now;
			*layout = other;
			return true;
		}
	return false;
}

static struct layout lay_out(const struct trace *trace, unsigned width)
{
	const bool utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
	struct layout layout = {
	        .cores = trace->cores < TRACE_CORES_MAX ? trace->cores : TRACE_CORES_MAX,
	        .bar = utf8 ? " \u2502" : " |",
	        .line = utf8 ? "\u2500" : "-",
	        .cross = utf8 ? "\u2500\u253c" : "-+",
	};
	unsigned room, height;

	if (layout.cores == 0)
		layout.cores = 1;
	room = width - NUMBER_COLUMNS - BETWEEN * layout.cores;
	for (unsigned i = 0; i < layout.cores; i++)
		layout.width[i] = room * 2 / (2 * layout.cores + 3);
	layout.width[layout.cores] = room - layout.cores * layout.width[0];
	height = table_height(&layout, trace);
	for (unsigned step = 8; step > 0; step /= 2)
		while (shift_widths(&layout, trace, step, &height))
			;
	return layout;
}

void timeline_print(FILE *out, const struct check_job *job, const struct check_result *result,
                    unsigned width)
{
	const struct trace *trace = &result->trace;
	struct layout layout;

	if (width < WIDTH_MIN)
		width = WIDTH_MIN;
	layout = lay_out(trace, width);
	fprintf(out, "Counterexample: %s on %s, %s, %u steps\n", scenario_name(job->scenario),
	        job->machine->name, job->mutant ? "with one thing wrong" : "as shipped",
	        trace->count);
	if (job->mutant) {
		char label[128];

		snprintf(label, sizeof(label), "  mutant %.100s: ", job->mutant->name);
		put_paragraph(out, label, job->mutant->what, width);
	}
	put_paragraph(out, "  scenario: ", scenario_what(job->scenario), width);
	put_paragraph(out, "  machine: ", job->machine->what, width);
	fputc('\n', out);
	put_head(out, &layout, job, trace);
	for (unsigned i = 0; i < trace->count; i++)
		put_row(out, &layout, i + 1, &trace->rows[i]);
	fputc('\n', out);
	put_paragraph(out, "VIOLATED: ", trace->property, width);
}
