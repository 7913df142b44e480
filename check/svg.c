/* SPDX-License-Identifier: MIT */
/*
 * svg.c - a counterexample as a picture that explains itself: one lane a core, steps downwards,
 * on the right what the places in the machine may hold, and the violated property at the bottom.
 *
 * Everything is measured with the widths of a wide font, so that no viewer's choice of a
 * sans-serif makes a text leave its box.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "check/report.h"

enum {
	MARGIN = 28,
	NUMBER_WIDTH = 34,
	LANE_GAP = 14,
	PLACE_WIDTH = 165, /* on the left of the tags */
	TAGS_WIDTH = 415,
	PAD = 9,   /* between a box and its text */
	BODY = 13, /* font sizes */
	SMALL = 11,
	TITLE = 19,
	BODY_LINE = 17, /* line heights */
	TAG_LINE = 23,
	TAG_HEIGHT = 18,
	TAG_PAD = 7,
	ROW_GAP = 12,
	TEXT_SIZE = 512,
};

static const int lane_widths[TRACE_CORES_MAX + 1] = {400, 400, 280, 225, 195};

/* ---- text ---- */

/* In thousandths of the font's size; those of DejaVu Sans, rounded up. */
static unsigned letter_width(unsigned char c)
{
	if (c == ' ')
		return 320;
	if (strchr("ijlI.,:;'|!", c))
		return 340;
	if (strchr("ftrJ()[]-/\"", c))
		return 420;
	if (strchr("mwMW%@", c))
		return 1000;
	if (strchr("=+<>~#&", c))
		return 840;
	if (c >= 'A' && c <= 'Z')
		return 750;
	return 645;
}

static double measure(const char *text, size_t size, unsigned font)
{
	unsigned sum = 0;

	for (size_t i = 0; i < size; i++)
		if ((text[i] & 0xc0) != 0x80)
			sum += letter_width((unsigned char)text[i]);
	return (double)sum * font / 1000;
}

/* Bold letters are that much wider. */
static double measure_bold(const char *text, size_t size)
{
	return measure(text, size, BODY) * 1.14;
}

static double measure_title(const char *text, size_t size)
{
	return measure(text, size, TITLE) * 1.14;
}

static double measure_body(const char *text, size_t size)
{
	return measure(text, size, BODY);
}

static double measure_small(const char *text, size_t size)
{
	return measure(text, size, SMALL);
}

/* Bytes of the letter at `text`, or 0 if it is not one: XML takes neither control characters nor
 * half a letter. */
static size_t letter_size(const char *text, size_t left)
{
	unsigned char c = (unsigned char)*text;
	size_t size = c < 0x80 ? 1 : c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc2 ? 2 : 0;

	if (c < ' ' || c == 0x7f || c > 0xf4 || size > left)
		return 0;
	for (size_t i = 1; i < size; i++)
		if ((text[i] & 0xc0) != 0x80)
			return 0;
	return size;
}

static void put_escaped(FILE *out, const char *text, size_t size)
{
	while (size > 0) {
		size_t letter = letter_size(text, size);

		if (letter == 0)
			fputc('?', out);
		else if (*text == '&')
			fputs("&amp;", out);
		else if (*text == '<')
			fputs("&lt;", out);
		else if (*text == '>')
			fputs("&gt;", out);
		else if (*text == '"')
			fputs("&quot;", out);
		else
			fwrite(text, 1, letter, out);
		text += letter ? letter : 1;
		size -= letter ? letter : 1;
	}
}

static void put_text(FILE *out, double x, double y, const char *class, const char *text,
                     size_t size)
{
	fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" class=\"%s\">", x, y, class);
	put_escaped(out, text, size);
	fputs("</text>\n", out);
}

/* How a paragraph is set. */
struct face {
	const char *class;
	text_measure *measure;
	unsigned line; /* from one to the next */
};

static const struct face face_title = {"title", measure_title, TITLE + 6};
static const struct face face_body = {"body", measure_body, BODY_LINE};
static const struct face face_wrong = {"wrong", measure_bold, BODY_LINE};
static const struct face face_core = {"core", measure_bold, BODY_LINE};
static const struct face face_note = {"note", measure_body, BODY_LINE};
static const struct face face_place = {"place", measure_small, SMALL + 4};

/* Returns the y below the last line. Nothing is drawn if `out` is NULL: layout comes first. */
static double put_lines(FILE *out, double x, double y, double width, const struct face *face,
                        const char *text)
{
	const char *line;
	size_t size;

	while ((line = text_wrap(&text, width, face->measure, &size))) {
		if (out)
			put_text(out, x, y + face->line - 4, face->class, line, size);
		y += face->line;
	}
	return y;
}

static void put_box(FILE *out, double x, double y, double width, double height, double radius,
                    const char *class)
{
	fprintf(out,
	        "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" rx=\"%.1f\" "
	        "class=\"%s\"/>\n",
	        x, y, width, height, radius, class);
}

/* ---- geometry ---- */

struct picture {
	FILE *out; /* NULL: only measured */
	const struct check_job *job;
	const struct trace *trace;
	unsigned cores;
	double lane_width, lanes, tags, right, width;
};

static struct picture picture_of(const struct check_job *job, const struct trace *trace)
{
	struct picture picture = {.job = job, .trace = trace, .cores = trace->cores};

	if (picture.cores > TRACE_CORES_MAX)
		picture.cores = TRACE_CORES_MAX;
	if (picture.cores == 0)
		picture.cores = 1;
	picture.lane_width = lane_widths[picture.cores];
	picture.lanes = MARGIN + NUMBER_WIDTH;
	picture.tags = picture.lanes + picture.cores * (picture.lane_width + LANE_GAP) + LANE_GAP;
	picture.right = picture.tags + TAGS_WIDTH;
	picture.width = picture.right + MARGIN;
	return picture;
}

static double lane_left(const struct picture *picture, unsigned core)
{
	return picture->lanes + core * (picture->lane_width + LANE_GAP);
}

/* Left edge and width of a step's box: a lane, or all of them for the machine itself. */
static void step_span(const struct picture *picture, int core, double *left, double *width)
{
	if (core < 0 || (unsigned)core >= picture->cores) {
		*left = picture->lanes;
		*width = picture->cores * (picture->lane_width + LANE_GAP) - LANE_GAP;
	} else {
		*left = lane_left(picture, (unsigned)core);
		*width = picture->lane_width;
	}
}

/* ---- tags: what a place holds ---- */

static bool begins(const char *text, size_t size, const char *with)
{
	return size >= strlen(with) && memcmp(text, with, strlen(with)) == 0;
}

static const char *tag_class(const char *text, size_t size)
{
	if (begins(text, size, "old") || begins(text, size, "first"))
		return "old";
	if (begins(text, size, "trap"))
		return "trap";
	if (begins(text, size, "new"))
		return "new";
	if (begins(text, size, "torn"))
		return "torn";
	if (begins(text, size, "stale"))
		return "stale";
	return "other";
}

/* Where the next tag or word goes; what does not fit begins a line. */
struct pen {
	FILE *out;
	double left, right, x, y;
	double line; /* from one to the next */
};

static struct pen pen_at(FILE *out, double left, double right, double y)
{
	return (struct pen){
	        .out = out, .left = left, .right = right, .x = left, .y = y, .line = TAG_LINE};
}

static void pen_make_room(struct pen *pen, double width)
{
	if (pen->x > pen->left && pen->x + width > pen->right) {
		pen->x = pen->left;
		pen->y += pen->line;
	}
}

static void put_word(struct pen *pen, const char *class, const char *text, size_t size)
{
	double width = measure_small(text, size);

	pen_make_room(pen, width);
	if (pen->out)
		put_text(pen->out, pen->x, pen->y + TAG_HEIGHT - 5, class, text, size);
	pen->x += width + 5;
}

static void put_tag(struct pen *pen, const char *class, const char *text, size_t size)
{
	double width = measure_small(text, size) + 2 * TAG_PAD, room;

	pen_make_room(pen, width);
	room = pen->right - pen->x;
	while (size > 1 && width > room) /* no word is this long, but no text leaves its box */
		width = measure_small(text, --size) + 2 * TAG_PAD;
	if (pen->out) {
		put_box(pen->out, pen->x, pen->y, width, TAG_HEIGHT, 4, class);
		put_text(pen->out, pen->x + TAG_PAD, pen->y + TAG_HEIGHT - 5, "tag", text, size);
	}
	pen->x += width + 5;
}

/* "old+new or trap": alternatives, each of several sites that share a line. */
static void put_alternative(struct pen *pen, const char *text, size_t size)
{
	while (size > 0) {
		const char *plus = memchr(text, '+', size);
		size_t part = plus ? (size_t)(plus - text) : size;

		put_tag(pen, tag_class(text, part), text, part);
		if (!plus)
			return;
		pen->x -= 4; /* those that belong together touch */
		size -= part + 1;
		text = plus + 1;
	}
}

/* "I-cache 0 + I-cache 1": no line ends within a name. Returns the y below. */
static double put_places(const struct picture *picture, double y, const char *places)
{
	struct pen pen = pen_at(picture->out, picture->tags, picture->tags + PLACE_WIDTH - PAD, y);

	pen.line = SMALL + 5;
	while (*places) {
		const char *plus = strstr(places, " + ");
		size_t size = plus ? (size_t)(plus - places) : strlen(places);

		if (measure_small(places, size) <= PLACE_WIDTH - PAD) {
			put_word(&pen, "place", places, size + (plus ? 2 : 0));
		} else {
			char name[sizeof(((struct trace_group *)0)->places)];

			snprintf(name, sizeof(name), "%.*s", (int)size, places);
			pen.y = put_lines(pen.out, pen.left,
			                  pen.x > pen.left ? pen.y + pen.line : pen.y,
			                  PLACE_WIDTH - PAD, &face_place, name);
			pen.x = pen.left;
			if (!plus)
				return pen.y;
		}
		places += size + (plus ? strlen(" + ") : 0);
	}
	return pen.y + pen.line;
}

/* The tags of one group beside its places; returns the y below both. */
static double put_group(const struct picture *picture, double y, const struct trace_group *group)
{
	struct pen pen = pen_at(picture->out, picture->tags + PLACE_WIDTH, picture->right, y);
	double below = put_places(picture, y, group->places);
	const char *text = group->change->holds;

	for (;;) {
		const char * or = strstr(text, " or ");

		put_alternative(&pen, text, or ? (size_t)(or -text) : strlen(text));
		if (! or)
			break;
		put_word(&pen, "place", "or", 2);
		text = or +4;
	}
	if (group->change->stale)
		put_tag(&pen, "stale", "stale", strlen("stale"));
	pen.y += TAG_LINE;
	return below + 4 > pen.y ? below + 4 : pen.y;
}

/* Returns the y below. */
static double put_changes(const struct picture *picture, double y, const struct trace_row *row)
{
	struct trace_group groups[TRACE_CHANGES_MAX];
	unsigned count = trace_groups(row, groups);

	for (unsigned i = 0; i < count; i++)
		y = put_group(picture, y, &groups[i]);
	return y;
}

/* ---- parts, from top to bottom; each returns the y below it ---- */

static double put_heading(const struct picture *picture, double y)
{
	const struct check_job *job = picture->job;
	double width = picture->right - MARGIN;
	char text[TEXT_SIZE];

	snprintf(text, sizeof(text), "%s on %s%s%s", scenario_name(job->scenario),
	         job->machine->name, job->mutant ? ", " : ", as shipped",
	         job->mutant ? job->mutant->name : "");
	y = put_lines(picture->out, MARGIN, y, width, &face_title, text) + 6;
	snprintf(text, sizeof(text), "Scenario: %s", scenario_what(job->scenario));
	y = put_lines(picture->out, MARGIN, y, width, &face_body, text);
	snprintf(text, sizeof(text), "Machine: %s", job->machine->what);
	y = put_lines(picture->out, MARGIN, y, width, &face_body, text);
	if (job->mutant) {
		snprintf(text, sizeof(text), "What is wrong: %s", job->mutant->what);
		y = put_lines(picture->out, MARGIN, y, width, &face_wrong, text);
	}
	return y + 10;
}

static bool any_place_has(const struct trace *trace, const char *word)
{
	for (unsigned i = 0; i < trace->count; i++)
		for (unsigned k = 0; k < trace->rows[i].count && k < TRACE_CHANGES_MAX; k++)
			if (strstr(trace->rows[i].changes[k].place, word))
				return true;
	return false;
}

/* Only of what is there. */
static double explain_places(const struct picture *picture, double y)
{
	static const char *const words[][2] = {
	        {"alias", "alias: the address through which code is written."},
	        {"exec", "exec: the address at which it is executed."},
	        {"fetched", "fetched: instructions that a core has already read but not executed."},
	};
	char text[TEXT_SIZE] = "";

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		size_t at = strlen(text);

		if (any_place_has(picture->trace, words[i][0]))
			snprintf(text + at, sizeof(text) - at, "%s%s", at ? " " : "", words[i][1]);
	}
	return put_lines(picture->out, MARGIN, y, picture->right - MARGIN, &face_note, text);
}

static double put_legend(const struct picture *picture, double y)
{
	static const char *const tags[][2] = {
	        {"old", "the code before"},
	        {"trap", "our breakpoint"},
	        {"new", "the code after"},
	        {"torn", "a mixture"},
	        {"stale", "perhaps behind what was written last"},
	};
	struct pen pen;
	char how[TEXT_SIZE];

	snprintf(how, sizeof(how),
	         "Time runs downwards. A lane is a %s, a box is a step, and beside it is what a "
	         "cache or memory may hold afterwards, wherever that has changed.",
	         trace_column_name(picture->job));
	y = put_lines(picture->out, MARGIN, y, picture->right - MARGIN, &face_note, how);
	y = explain_places(picture, y) + 6;
	pen = pen_at(picture->out, MARGIN, picture->right, y);
	for (size_t i = 0; i < sizeof(tags) / sizeof(tags[0]); i++) {
		/* A tag and its meaning stay together. */
		pen_make_room(&pen, measure_small(tags[i][0], strlen(tags[i][0])) + 3 * TAG_PAD +
		                            measure_small(tags[i][1], strlen(tags[i][1])));
		put_tag(&pen, tags[i][0], tags[i][0], strlen(tags[i][0]));
		put_word(&pen, "place", tags[i][1], strlen(tags[i][1]));
		pen.x += 14;
	}
	return pen.y + TAG_LINE + 12;
}

static double put_lane_head(const struct picture *picture, double y, unsigned core, double height)
{
	double left = lane_left(picture, core) + PAD, width = picture->lane_width - 2 * PAD;
	char text[32];

	if (picture->out)
		put_box(picture->out, left - PAD, y, picture->lane_width, height, 5, "head");
	snprintf(text, sizeof(text), "%s %u", trace_column_name(picture->job), core);
	y = put_lines(picture->out, left, y + PAD / 2, width, &face_core, text);
	return put_lines(picture->out, left, y, width, &face_body, picture->trace->role[core]) +
	       PAD / 2 + 1;
}

static double put_lane_heads(const struct picture *picture, double y)
{
	struct picture unseen = *picture;
	double height = 0;

	unseen.out = NULL;
	for (unsigned i = 0; i < picture->cores; i++) {
		double below = put_lane_head(&unseen, y, i, 0);

		if (below - y > height)
			height = below - y;
	}
	for (unsigned i = 0; i < picture->cores; i++)
		put_lane_head(picture, y, i, height);
	put_lines(picture->out, picture->tags, y + PAD / 2, TAGS_WIDTH, &face_core,
	          "caches and memory, where changed");
	return y + height + ROW_GAP;
}

static double put_step(const struct picture *picture, double y, unsigned number,
                       const struct trace_row *row)
{
	const struct face *face = row->violation ? &face_wrong : &face_body;
	const char *class = row->violation ? "violation" : row->core < 0 ? "machine" : "step";
	double left, width, height, below;

	step_span(picture, row->core, &left, &width);
	height = put_lines(NULL, left, 0, width - 2 * PAD, face, row->what) + PAD;
	if (picture->out) {
		put_box(picture->out, left, y, width, height, 5, class);
		put_lines(picture->out, left + PAD, y + PAD / 2, width - 2 * PAD, face, row->what);
		fprintf(picture->out, "<text x=\"%d\" y=\"%.1f\" class=\"number\">%u</text>\n",
		        MARGIN + NUMBER_WIDTH - 12, y + PAD / 2 + BODY_LINE - 4, number);
	}
	below = put_changes(picture, y + 4, row);
	return (y + height > below ? y + height : below) + ROW_GAP;
}

/* Thin lines: the lanes, and what belongs to one step. They lie below the boxes. */
static void put_guides(const struct picture *picture, double top, double bottom, const double *rows)
{
	for (unsigned i = 0; i < picture->cores; i++) {
		double x = lane_left(picture, i) + picture->lane_width / 2;

		fprintf(picture->out, "<path d=\"M%.1f %.1fV%.1f\" class=\"lane\"/>\n", x, top,
		        bottom);
	}
	for (unsigned i = 1; rows && i < picture->trace->count; i++)
		fprintf(picture->out, "<path d=\"M%d %.1fH%.1f\" class=\"rule\"/>\n", MARGIN,
		        rows[i] - ROW_GAP / 2.0, picture->right);
}

static double put_property(const struct picture *picture, double y)
{
	double width = picture->right - MARGIN, height;
	char text[TEXT_SIZE];

	snprintf(text, sizeof(text), "Violated: %s", picture->trace->property);
	height = put_lines(NULL, 0, 0, width - 4 * PAD, &face_wrong, text) + 2 * PAD;
	if (picture->out) {
		put_box(picture->out, MARGIN, y, width, height, 5, "violation");
		put_lines(picture->out, MARGIN + 2 * PAD, y + PAD - 1, width - 4 * PAD, &face_wrong,
		          text);
	}
	return y + height;
}

/* ---- the picture ---- */

/* Attributes would do without a style sheet, but not for a reader of the file. */
static const char style[] =
        "<style>\n"
        "text{font-family:\"Helvetica Neue\",Helvetica,Arial,\"DejaVu Sans\",sans-serif;"
        "font-size:13px;fill:#1d2733}\n"
        ".title{font-size:19px;font-weight:bold}\n"
        ".core,.wrong{font-weight:600}\n"
        ".wrong{fill:#8f1118}\n"
        ".note{fill:#55616e}\n"
        ".number{fill:#55616e;text-anchor:end}\n"
        ".place{font-size:11px;fill:#3c4855}\n"
        ".tag{font-size:11px;fill:#1d2733}\n"
        ".paper{fill:#ffffff}\n"
        ".head{fill:#e8edf3;stroke:#b3bfcc}\n"
        ".step{fill:#f7f9fb;stroke:#8a98a8}\n"
        ".machine{fill:#ffffff;stroke:#8a98a8;stroke-dasharray:4 3}\n"
        ".violation{fill:#fdeaea;stroke:#c4161f;stroke-width:1.6}\n"
        ".lane{stroke:#c8d1da;stroke-width:1.2}\n"
        ".rule{stroke:#edf0f3}\n"
        ".old{fill:#b9d7f0;stroke:#5a93c4}\n"
        ".trap{fill:#fde08d;stroke:#c59a1b}\n"
        ".new{fill:#bfe3b4;stroke:#5fa04e}\n"
        ".torn{fill:#f3b6dc;stroke:#b5498f}\n"
        ".other{fill:#e3e6ea;stroke:#98a2ad}\n"
        ".stale{fill:#ffffff;stroke:#c4161f;stroke-width:1.4;stroke-dasharray:3 2}\n"
        "</style>\n";

static void put_opening(const struct picture *picture, double height)
{
	const struct check_job *job = picture->job;

	fprintf(picture->out,
	        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
	        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" "
	        "viewBox=\"0 0 %.0f %.0f\">\n<title>",
	        picture->width, height, picture->width, height);
	put_escaped(picture->out, scenario_name(job->scenario),
	            strlen(scenario_name(job->scenario)));
	fputs(" on ", picture->out);
	put_escaped(picture->out, job->machine->name, strlen(job->machine->name));
	fputs("</title>\n<desc>Violated: ", picture->out);
	put_escaped(picture->out, picture->trace->property, strlen(picture->trace->property));
	fputs("</desc>\n", picture->out);
	fputs(style, picture->out);
	fprintf(picture->out, "<rect width=\"%.0f\" height=\"%.0f\" class=\"paper\"/>\n",
	        picture->width, height);
}

/* Measures with out == NULL, then draws the very same; returns the height. */
static double put_picture(struct picture *picture, FILE *out, double *rows)
{
	const struct trace *trace = picture->trace;
	double y, top;

	picture->out = out;
	y = put_heading(picture, MARGIN - 8);
	y = put_legend(picture, y);
	if (out)
		put_guides(picture, y, rows[trace->count] - ROW_GAP / 2.0, rows);
	top = put_lane_heads(picture, y);
	for (unsigned i = 0; i < trace->count; i++) {
		rows[i] = top;
		top = put_step(picture, top, i + 1, &trace->rows[i]);
	}
	rows[trace->count] = top;
	return put_property(picture, top) + MARGIN;
}

int svg_write(const char *file, const struct check_job *job, const struct check_result *result)
{
	struct picture picture = picture_of(job, &result->trace);
	double *rows = calloc(result->trace.count + 1u, sizeof(*rows));
	int error = 0;
	double height;
	FILE *out;

	if (!rows)
		return -ENOMEM;
	out = fopen(file, "we");
	if (!out) {
		error = -errno;
		free(rows);
		return error;
	}
	height = put_picture(&picture, NULL, rows);
	errno = 0;
	picture.out = out;
	put_opening(&picture, height);
	put_picture(&picture, out, rows);
	fputs("</svg>\n", out);
	if (fflush(out) || ferror(out))
		error = errno ? -errno : -EIO;
	if (fclose(out) && !error)
		error = -errno;
	free(rows);
	return error;
}
