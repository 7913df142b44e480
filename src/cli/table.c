// SPDX-License-Identifier: MIT
/* table.c - the counted sites, for people: hits, hits/s, kind, counter, site. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

#define GAP             2
#define KIND_COLUMNS    6
#define COUNTER_COLUMNS 7
/* A site's name is not squeezed further; columns are left out instead. */
#define SITE_COLUMNS_MIN 24
#define REFUSALS_FINAL   20
/* Over less time than this a rate would be an accident; 0 is shown. */
#define RATE_SECONDS_MIN 0.01

struct columns {
	int hits, rate;
	bool show_rate, show_kind, show_counter;
	size_t site;
};

/* For the heading only; the name of a process may change at any time. */
static void read_name(pid_t pid, char *name, size_t size)
{
	char path[64];
	ssize_t length;
	int fd;

	*name = '\0';
	snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	length = read(fd, name, size - 1);
	close(fd);
	name[length > 0 ? length : 0] = '\0';
	name[strcspn(name, "\n")] = '\0';
}

int table_open(struct table *table, pid_t pid, const struct suture_target *target)
{
	size_t count = suture_target_probes(target);

	*table = (struct table){.pid = pid, .target = target, .count = count};
	read_name(pid, table->name, sizeof(table->name));
	table->rows = calloc(count + 1, sizeof(*table->rows));
	table->order = calloc(count + 1, sizeof(struct table_row *));
	if (!table->rows || !table->order) {
		table_close(table);
		return -ENOMEM;
	}
	for (size_t i = 0; i < count; i++) {
		suture_target_probe(target, i, &table->rows[i].probe);
		table->rows[i].probe.hits = 0;
		table->order[i] = &table->rows[i];
	}
	table->start_ns = table->sample_ns = monotonic_ns();
	return 0;
}

void table_close(struct table *table)
{
	free(table->rows);
	free(table->order);
	table->rows = NULL;
	table->order = NULL;
	table->count = 0;
}

static int compare_rows(const void *a, const void *b)
{
	const struct table_row *left = *(struct table_row *const *)a;
	const struct table_row *right = *(struct table_row *const *)b;

	if (left->probe.hits != right->probe.hits)
		return left->probe.hits > right->probe.hits ? -1 : 1;
	return left < right ? -1 : left > right;
}

static double rate_of(uint64_t hits, double seconds)
{
	return seconds < RATE_SECONDS_MIN ? 0 : (double)hits / seconds;
}

void table_sample(struct table *table, uint64_t now_ns)
{
	double seconds = (double)(now_ns - table->sample_ns) / NS_PER_S;

	for (size_t i = 0; i < table->count; i++) {
		struct table_row *row = &table->rows[i];

		row->hits_before = row->probe.hits;
		suture_target_probe(table->target, i, &row->probe);
		row->per_second = rate_of(row->probe.hits - row->hits_before, seconds);
	}
	table->sample_ns = now_ns;
	qsort(table->order, table->count, sizeof(struct table_row *), compare_rows);
}

static void format_rate(char *text, size_t size, double rate)
{
	snprintf(text, size, "%.*f", rate > 0 && rate < 100 ? 1 : 0, rate);
}

static struct columns columns_fit(uint64_t hits_max, double rate_max, size_t width)
{
	struct columns columns = {.show_rate = true, .show_kind = true, .show_counter = true};
	char rate[32];
	size_t used;

	columns.hits = snprintf(NULL, 0, "%" PRIu64, hits_max);
	if (columns.hits < 10)
		columns.hits = 10;
	format_rate(rate, sizeof(rate), rate_max);
	columns.rate = (int)strlen(rate) < 9 ? 9 : (int)strlen(rate);
	columns.site = TEXT_WHOLE;
	if (width == TEXT_WHOLE)
		return columns;
	used = columns.hits + GAP + columns.rate + GAP + KIND_COLUMNS + GAP + COUNTER_COLUMNS + GAP;
	if (used + SITE_COLUMNS_MIN > width) {
		columns.show_counter = false;
		used -= COUNTER_COLUMNS + GAP;
	}
	if (used + SITE_COLUMNS_MIN > width) {
		columns.show_kind = false;
		used -= KIND_COLUMNS + GAP;
	}
	if (used + SITE_COLUMNS_MIN > width) {
		columns.show_rate = false;
		used -= columns.rate + GAP;
	}
	columns.site = width > used ? width - used : 1;
	return columns;
}

/* All columns but the last; the last one follows in the same line. */
static void print_cells(FILE *out, const struct columns *columns, const char *hits,
                        const char *rate, const char *kind, const char *counter)
{
	fprintf(out, "%*s%*s", columns->hits, hits, GAP, "");
	if (columns->show_rate)
		fprintf(out, "%*s%*s", columns->rate, rate, GAP, "");
	if (columns->show_kind)
		fprintf(out, "%-*s%*s", KIND_COLUMNS, kind, GAP, "");
	if (columns->show_counter)
		fprintf(out, "%-*s%*s", COUNTER_COLUMNS, counter, GAP, "");
}

static void print_numbers(FILE *out, const struct columns *columns, uint64_t hits, double rate,
                          const char *kind, const char *counter)
{
	char hits_text[24], rate_text[32];

	snprintf(hits_text, sizeof(hits_text), "%" PRIu64, hits);
	format_rate(rate_text, sizeof(rate_text), rate);
	print_cells(out, columns, hits_text, rate_text, kind, counter);
}

static void print_rows(const struct table *table, FILE *out, size_t shown, size_t width)
{
	uint64_t hits = 0;
	double rate = 0;
	struct columns columns;

	for (size_t i = 0; i < table->count; i++) {
		hits += table->rows[i].probe.hits;
		rate += table->rows[i].per_second;
	}
	columns = columns_fit(hits, rate, width);
	print_cells(out, &columns, "HITS", "HITS/S", "KIND", "COUNTER");
	text_put(out, "SYMBOL", columns.site);
	fputc('\n', out);
	for (size_t i = 0; i < shown; i++) {
		const struct table_row *row = table->order[i];

		print_numbers(out, &columns, row->probe.hits, row->per_second,
		              suture_site_kind_name(row->probe.kind),
		              suture_counter_kind_name(row->probe.counter));
		text_put_site(out, &row->probe, columns.site);
		fputc('\n', out);
	}
	if (table->count > 1) {
		char what[96];

		print_numbers(out, &columns, hits, rate, "", "");
		if (shown < table->count)
			snprintf(what, sizeof(what), "total of %zu, %zu of them shown",
			         table->count, shown);
		else
			snprintf(what, sizeof(what), "total of %zu", table->count);
		text_put(out, what, columns.site);
		fputc('\n', out);
	}
}

static void print_refusal(FILE *out, const char *prefix, const struct suture_refusal *refusal,
                          size_t width)
{
	char *line = NULL;
	int size;

	if (refusal->symbol && text_is_glob(refusal->spec))
		size = asprintf(&line, "%s%s:%s: %s", prefix,
		                refusal->module ? refusal->module : "", refusal->symbol,
		                refusal->reason);
	else
		size = asprintf(&line, "%s%s: %s", prefix, refusal->spec, refusal->reason);
	if (size >= 0) {
		text_put(out, line, width);
		free(line);
	}
	fputc('\n', out);
}

static bool refusal_get(const struct suture_target *target, size_t index, enum refusals which,
                        struct suture_refusal *out)
{
	return suture_target_refusal(target, index, out) == 0 &&
	       (which == REFUSALS_ALL || !text_is_glob(out->spec));
}

static size_t refusals_count(const struct suture_target *target, enum refusals which)
{
	struct suture_refusal refusal;
	size_t count = 0;

	for (size_t i = 0; i < suture_target_refusals(target); i++)
		count += refusal_get(target, i, which, &refusal);
	return count;
}

bool refusals_exact(const struct suture_target *target)
{
	return refusals_count(target, REFUSALS_EXACT) > 0;
}

void refusals_print(const struct suture_target *target, FILE *out, const char *prefix,
                    enum refusals which, size_t width, size_t limit)
{
	size_t count = refusals_count(target, which), shown = count;

	if (count > limit)
		shown = limit ? limit - 1 : 0;
	for (size_t i = 0, printed = 0; printed < shown; i++) {
		struct suture_refusal refusal;

		if (!refusal_get(target, i, which, &refusal))
			continue;
		print_refusal(out, prefix, &refusal, width);
		printed++;
	}
	if (shown < count && limit)
		fprintf(out, "%s%s and %zu more\n", prefix, text_ellipsis(), count - shown);
}

static void print_heading(const struct table *table, FILE *out, const char *rest, size_t width)
{
	char *line = NULL;

	if (asprintf(&line, "process %d (%s): %s", (int)table->pid, table->name, rest) < 0)
		return;
	text_put(out, line, width);
	fputc('\n', out);
	free(line);
}

void table_print_live(struct table *table, FILE *out, struct table_space space)
{
	size_t refused = suture_target_refusals(table->target), lines, shown;
	size_t fixed = 2 + (table->count > 1);
	size_t refused_lines = space.height / 3 > 1 ? space.height / 3 : 1;
	char rest[96];

	if (refused_lines > refused)
		refused_lines = refused;
	lines = space.height > fixed + refused_lines ? space.height - fixed - refused_lines : 1;
	shown = table->count < lines ? table->count : lines;
	snprintf(rest, sizeof(rest), "%zu site%s, %.0f s, Ctrl-C ends", table->count,
	         table->count == 1 ? "" : "s",
	         (double)(table->sample_ns - table->start_ns) / NS_PER_S);
	print_heading(table, out, rest, space.width);
	print_rows(table, out, shown, space.width);
	refusals_print(table->target, out, "refused ", REFUSALS_ALL, space.width, refused_lines);
}

void table_print_final(struct table *table, FILE *out)
{
	double seconds = (double)(table->sample_ns - table->start_ns) / NS_PER_S;
	unsigned processes = suture_target_processes(table->target);
	struct suture_pause pause = {0};
	char rest[160];

	suture_target_pause(table->target, &pause);
	snprintf(rest, sizeof(rest),
	         "%zu site%s counted for %.1f s, stopped %.2f ms to attach, %.2f ms to detach",
	         table->count, table->count == 1 ? "" : "s", seconds,
	         (double)pause.attach_ns / NS_PER_MS, (double)pause.detach_ns / NS_PER_MS);
	print_heading(table, out, rest, TEXT_WHOLE);
	if (processes > 1)
		fprintf(out, "hits are those of %u processes, forked from one another\n",
		        processes);
	for (size_t i = 0; i < table->count; i++) {
		struct table_row *row = &table->rows[i];

		row->per_second = rate_of(row->probe.hits, seconds);
	}
	print_rows(table, out, table->count, TEXT_WHOLE);
	refusals_print(table->target, out, "refused ", REFUSALS_ALL, TEXT_WHOLE, REFUSALS_FINAL);
}
