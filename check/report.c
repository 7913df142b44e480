/* SPDX-License-Identifier: MIT */
/*
 * report.c - the verdicts for people: machines by scenarios, mutants, what was not expected, one
 * line that sums up.
 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "check/report.h"

enum {
	CELL_SIZE = 32,
	CELL_FULL = 21, /* columns of "refuted  1.2M  12.3 s" */
	REASONS_MAX = 64,
};

void complain(const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	/* Arguments are anybody's; an escape sequence in one must not reach the terminal. */
	for (char *c = text; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = '?';
	fprintf(stderr, "suture-check: %s\n", text);
}

const char *verdict_name(enum verdict verdict)
{
	switch (verdict) {
	case VERDICT_HOLDS:
		return "holds";
	case VERDICT_REFUTED:
		return "refuted";
	case VERDICT_NOT_APPLICABLE:
		return "n.a.";
	case VERDICT_INCOMPLETE:
		break;
	}
	return "incomplete";
}

bool run_as_expected(const struct run *run)
{
	if (run->result.verdict == VERDICT_INCOMPLETE)
		return false;
	return !run->has_expectation || run->result.verdict == run->result.expected;
}

unsigned outcome_unexpected(const struct outcome *outcome)
{
	unsigned unexpected = 0;

	for (unsigned i = 0; i < outcome->count; i++)
		unexpected += !run_as_expected(&outcome->runs[i]);
	return unexpected;
}

/* ---- figures ---- */

/* At most five columns: 999, 1.2k, 340k, 12.3M, 1.2G. */
static const char *format_count(char out[CELL_SIZE], uint64_t count)
{
	static const char units[] = " kMGT";
	double value = (double)count;
	unsigned unit = 0;

	while (value >= 999.5 && units[unit + 1]) {
		value /= 1000;
		unit++;
	}
	if (unit == 0)
		snprintf(out, CELL_SIZE, "%u", (unsigned)count);
	else if (value < 9.95)
		snprintf(out, CELL_SIZE, "%.1f%c", value, units[unit]);
	else
		snprintf(out, CELL_SIZE, "%.0f%c", value, units[unit]);
	return out;
}

/* At most six columns. */
static const char *format_time(char out[CELL_SIZE], double milliseconds)
{
	if (milliseconds < 0.5)
		snprintf(out, CELL_SIZE, "0 ms");
	else if (milliseconds < 999.5)
		snprintf(out, CELL_SIZE, "%.0f ms", milliseconds);
	else if (milliseconds < 99950)
		snprintf(out, CELL_SIZE, "%.1f s", milliseconds / 1000);
	else
		snprintf(out, CELL_SIZE, "%.0f s", milliseconds / 1000);
	return out;
}

static const char *format_memory(char out[CELL_SIZE], uint64_t bytes)
{
	double mebibytes = (double)bytes / (1 << 20);

	if (mebibytes < 1000)
		snprintf(out, CELL_SIZE, "%.0f MiB", mebibytes);
	else
		snprintf(out, CELL_SIZE, "%.1f GiB", mebibytes / 1024);
	return out;
}

static unsigned widest(unsigned width, const char *text)
{
	return strlen(text) > width ? (unsigned)strlen(text) : width;
}

/* ---- why there is no verdict: numbered, each once ---- */

struct reasons {
	const char *text[REASONS_MAX];
	unsigned count;
};

/* From 1; 0 if there is none to tell. */
static unsigned reason_number(struct reasons *reasons, const struct run *run)
{
	const char *text = run->result.reason;

	if (!text || (run->result.verdict != VERDICT_NOT_APPLICABLE &&
	              run->result.verdict != VERDICT_INCOMPLETE))
		return 0;
	for (unsigned i = 0; i < reasons->count; i++)
		if (strcmp(reasons->text[i], text) == 0)
			return i + 1;
	if (reasons->count == REASONS_MAX)
		return 0;
	reasons->text[reasons->count++] = text;
	return reasons->count;
}

static void put_reasons(FILE *out, const struct reasons *reasons)
{
	for (unsigned i = 0; i < reasons->count; i++) {
		const char *text = reasons->text[i], *line;
		size_t size;

		fprintf(out, "  %2u  ", i + 1);
		while ((line = text_wrap(&text, REPORT_COLUMNS - 6, text_columns, &size)))
			fprintf(out, "%.*s\n%s", (int)size, line, *text ? "      " : "");
	}
}

/* ---- as shipped: machines by scenarios ---- */

struct grid {
	const struct outcome *outcome;
	const struct machine **columns;
	const struct scenario **rows;
	unsigned columns_count, rows_count;
	unsigned label_width, pitch;
	bool full; /* a cell has room for everything */
	struct reasons reasons;
};

static void grid_add(struct grid *grid, const struct check_job *job)
{
	unsigned i;

	for (i = 0; i < grid->columns_count && grid->columns[i] != job->machine; i++)
		;
	if (i == grid->columns_count)
		grid->columns[grid->columns_count++] = job->machine;
	for (i = 0; i < grid->rows_count && grid->rows[i] != job->scenario; i++)
		;
	if (i == grid->rows_count)
		grid->rows[grid->rows_count++] = job->scenario;
	grid->label_width = widest(grid->label_width, scenario_name(job->scenario));
}

static const struct run *grid_run(const struct grid *grid, unsigned row, unsigned column)
{
	for (unsigned i = 0; i < grid->outcome->count; i++) {
		const struct run *run = &grid->outcome->runs[i];

		if (!run->job.mutant && run->job.machine == grid->columns[column] &&
		    run->job.scenario == grid->rows[row])
			return run;
	}
	return NULL;
}

static void format_cell(struct grid *grid, const struct run *run, char out[CELL_SIZE])
{
	static const char *const marks[][2] = {
	        [VERDICT_HOLDS] = {"", "holds"},
	        [VERDICT_REFUTED] = {"REF!", "REFUTED"},
	        [VERDICT_NOT_APPLICABLE] = {"n.a.", "n.a."},
	        [VERDICT_INCOMPLETE] = {"INC.", "INC."},
	};
	const char *mark = marks[run->result.verdict][grid->full];
	char states[CELL_SIZE], time[CELL_SIZE];
	unsigned reason = reason_number(&grid->reasons, run);

	if (reason) {
		/* Without the second point, what has two digits fits too. */
		snprintf(out, CELL_SIZE, "%.*s%u", reason > 9 && !grid->full ? 3 : 4, mark, reason);
		return;
	}
	format_count(states, run->result.states);
	format_time(time, run->result.milliseconds);
	if (grid->full)
		snprintf(out, CELL_SIZE, "%-7.7s %5.5s %7.7s", mark, states, time);
	else
		snprintf(out, CELL_SIZE, "%s",
		         run->result.verdict == VERDICT_HOLDS ? states : mark);
}

/* The column of text at which a machine's figures end, or begin if cells are full. */
static unsigned grid_anchor(const struct grid *grid, unsigned column)
{
	if (grid->full)
		return grid->label_width + 2 + column * grid->pitch;
	return grid->label_width + (column + 1) * grid->pitch;
}

/* Names come down like a staircase, and a line leads from each to its figures. */
static void put_grid_head(FILE *out, const struct grid *grid)
{
	for (unsigned line = 0; line < grid->columns_count; line++) {
		unsigned at = 0;

		for (unsigned column = 0; column <= line; column++) {
			unsigned anchor = grid_anchor(grid, column) - !grid->full;

			fprintf(out, "%*s%s", (int)(anchor - at), "",
			        column == line ? grid->columns[column]->name : "|");
			at = anchor + 1;
		}
		fputc('\n', out);
	}
}

static void put_grid_row(FILE *out, struct grid *grid, unsigned row)
{
	double milliseconds = 0;
	char text[CELL_SIZE];

	fprintf(out, "%-*s", (int)grid->label_width, scenario_name(grid->rows[row]));
	for (unsigned column = 0; column < grid->columns_count; column++) {
		const struct run *run = grid_run(grid, row, column);

		text[0] = '\0';
		if (run) {
			format_cell(grid, run, text);
			milliseconds += run->result.milliseconds;
		}
		if (grid->full)
			fprintf(out, "  %-*s", column + 1 < grid->columns_count ? CELL_FULL : 0,
			        text);
		else
			fprintf(out, "%*s", (int)grid->pitch, text);
	}
	if (!grid->full)
		fprintf(out, " %7s", format_time(text, milliseconds));
	fputc('\n', out);
}

static void put_grid_totals(FILE *out, const struct grid *grid)
{
	char text[CELL_SIZE];

	fputc('\n', out);
	for (unsigned what = 0; what < 2; what++) {
		double all = 0;

		fprintf(out, "%-*s", (int)grid->label_width, what ? "seconds" : "states");
		for (unsigned column = 0; column < grid->columns_count; column++) {
			double milliseconds = 0;
			uint64_t states = 0;

			for (unsigned row = 0; row < grid->rows_count; row++) {
				const struct run *run = grid_run(grid, row, column);

				states += run ? run->result.states : 0;
				milliseconds += run ? run->result.milliseconds : 0;
			}
			if (what)
				snprintf(text, sizeof(text), milliseconds < 99950 ? "%.1f" : "%.0f",
				         milliseconds / 1000);
			else
				format_count(text, states);
			fprintf(out, "%*s", (int)grid->pitch, text);
			all += milliseconds;
		}
		if (what)
			fprintf(out, " %7s", format_time(text, all));
		fputc('\n', out);
	}
}

static void put_legend(FILE *out, const struct grid *grid)
{
	bool found[VERDICT_INCOMPLETE + 1] = {false};

	for (unsigned i = 0; i < grid->outcome->count; i++)
		if (!grid->outcome->runs[i].job.mutant)
			found[grid->outcome->runs[i].result.verdict] = true;
	if (!grid->full && found[VERDICT_HOLDS])
		fputs("A number: holds, in so many states, which are all there are.\n", out);
	if (!grid->full && found[VERDICT_REFUTED])
		fputs("REF!: refuted, see the counterexample below.\n", out);
	if (found[VERDICT_INCOMPLETE])
		fputs("INC.: incomplete, the search came to no verdict.\n", out);
	if (found[VERDICT_NOT_APPLICABLE])
		fputs("n.a.: the scenario can not exist on that machine.\n", out);
	put_reasons(out, &grid->reasons);
}

static void put_grid(FILE *out, struct grid *grid)
{
	grid->pitch = CELL_FULL + 2;
	grid->full = grid->label_width + grid->columns_count * grid->pitch <= REPORT_COLUMNS;
	if (!grid->full)
		grid->pitch = 6;
	fputs("As shipped\n\n", out);
	put_grid_head(out, grid);
	for (unsigned row = 0; row < grid->rows_count; row++)
		put_grid_row(out, grid, row);
	if (!grid->full)
		put_grid_totals(out, grid);
	fputc('\n', out);
	put_legend(out, grid);
	fputc('\n', out);
}

static void report_shipped(FILE *out, const struct outcome *outcome)
{
	struct grid grid = {.outcome = outcome, .label_width = (unsigned)strlen("seconds")};

	grid.columns = calloc(outcome->count, sizeof(const struct machine *));
	grid.rows = calloc(outcome->count, sizeof(const struct scenario *));
	if (grid.columns && grid.rows) {
		for (unsigned i = 0; i < outcome->count; i++)
			if (!outcome->runs[i].job.mutant)
				grid_add(&grid, &outcome->runs[i].job);
		if (grid.rows_count)
			put_grid(out, &grid);
	} else {
		complain("out of memory: no table");
	}
	free(grid.columns);
	free(grid.rows);
}

/* ---- a line a verdict ---- */

struct columns {
	unsigned mutant, machine, scenario, verdict;
};

static const char *run_label(const struct run *run)
{
	return run->job.mutant ? run->job.mutant->name : "as shipped";
}

static void measure_run(struct columns *columns, const struct run *run)
{
	columns->mutant = widest(columns->mutant, run_label(run));
	columns->machine = widest(columns->machine, run->job.machine->name);
	columns->scenario = widest(columns->scenario, scenario_name(run->job.scenario));
	if (run->result.verdict == VERDICT_INCOMPLETE)
		columns->verdict = widest(columns->verdict, "incomplete 12");
}

static void put_run(FILE *out, const struct columns *columns, const struct run *run,
                    struct reasons *reasons)
{
	char verdict[CELL_SIZE], steps[CELL_SIZE] = "-", states[CELL_SIZE], time[CELL_SIZE];
	const struct check_result *result = &run->result;
	unsigned reason = reason_number(reasons, run);

	snprintf(verdict, sizeof(verdict), reason ? "%s %u" : "%s", verdict_name(result->verdict),
	         reason);
	if (result->verdict == VERDICT_REFUTED)
		snprintf(steps, sizeof(steps), "%u", result->trace.count);
	fprintf(out, "%-*s %-*s %-*s %-*s %5s %6s %7s", (int)columns->mutant, run_label(run),
	        (int)columns->machine, run->job.machine->name, (int)columns->scenario,
	        scenario_name(run->job.scenario), (int)columns->verdict, verdict, steps,
	        format_count(states, result->states), format_time(time, result->milliseconds));
	if (!run_as_expected(run))
		fprintf(out, "  NOT EXPECTED");
	fputc('\n', out);
}

static bool choose_mutant(const struct run *run)
{
	return run->job.mutant != NULL;
}

static bool choose_any(const struct run *run)
{
	return run->job.machine != NULL;
}

static bool choose_unexpected(const struct run *run)
{
	return !run_as_expected(run);
}

static void report_lines(FILE *out, const struct outcome *outcome, const char *title,
                         bool (*chosen)(const struct run *run))
{
	struct columns columns = {
	        .mutant = (unsigned)strlen("mutant"),
	        .machine = (unsigned)strlen("machine"),
	        .scenario = (unsigned)strlen("scenario"),
	        .verdict = (unsigned)strlen("verdict"),
	};
	struct reasons reasons = {.count = 0};
	bool any = false;

	for (unsigned i = 0; i < outcome->count; i++) {
		if (!chosen(&outcome->runs[i]))
			continue;
		measure_run(&columns, &outcome->runs[i]);
		any = true;
	}
	if (!any)
		return;
	fprintf(out, "%s\n\n", title);
	fprintf(out, "%-*s %-*s %-*s %-*s %5s %6s %7s\n", (int)columns.mutant, "mutant",
	        (int)columns.machine, "machine", (int)columns.scenario, "scenario",
	        (int)columns.verdict, "verdict", "steps", "states", "time");
	for (unsigned i = 0; i < outcome->count; i++)
		if (chosen(&outcome->runs[i]))
			put_run(out, &columns, &outcome->runs[i], &reasons);
	put_reasons(out, &reasons);
	fputc('\n', out);
}

/* ---- all of it ---- */

static unsigned terminal_columns(FILE *out)
{
	struct winsize window;

	if (ioctl(fileno(out), TIOCGWINSZ, &window) < 0 || window.ws_col == 0)
		return REPORT_COLUMNS;
	return window.ws_col < 80 ? 80 : window.ws_col > 160 ? 160 : window.ws_col;
}

static void report_counterexamples(FILE *out, const struct outcome *outcome, bool single)
{
	for (unsigned i = 0; i < outcome->count; i++) {
		const struct run *run = &outcome->runs[i];

		if (run->result.verdict != VERDICT_REFUTED || (!single && run_as_expected(run)))
			continue;
		timeline_print(out, &run->job, &run->result, terminal_columns(out));
		fputc('\n', out);
	}
}

/* The files themselves: what was checked is what ships. */
static void report_sources(FILE *out)
{
	unsigned at = (unsigned)fprintf(out, "What ran, as the library has it:");

	for (const char *const *source = check_sources; *source; source++) {
		unsigned length = (unsigned)strlen(*source);

		if (at + 1 + length > REPORT_COLUMNS) {
			fprintf(out, "\n ");
			at = 1;
		}
		fprintf(out, " %s", *source);
		at += 1 + length;
	}
	fputc('\n', out);
}

static void report_summary(FILE *out, const struct outcome *outcome)
{
	char states_text[CELL_SIZE], memory_text[CELL_SIZE], time_text[CELL_SIZE];
	unsigned unexpected = outcome_unexpected(outcome);
	uint64_t states = 0;

	for (unsigned i = 0; i < outcome->count; i++)
		states += outcome->runs[i].result.states;
	fprintf(out, "%u verdict%s, ", outcome->count, outcome->count == 1 ? "" : "s");
	if (unexpected)
		fprintf(out, "%u NOT AS EXPECTED", unexpected);
	else
		fputs(outcome->count == 1 ? "as expected" : "all as expected", out);
	fprintf(out, "; %s states, %s at the peak, %s\n", format_count(states_text, states),
	        format_memory(memory_text, outcome->peak_memory),
	        format_time(time_text, outcome->milliseconds));
}

void report_print(FILE *out, const struct outcome *outcome, enum report_detail detail)
{
	if (detail != REPORT_QUIET)
		report_shipped(out, outcome);
	if (detail == REPORT_VERBOSE)
		report_lines(out, outcome, "Every verdict", choose_any);
	else if (detail == REPORT_NORMAL)
		report_lines(out, outcome, "With one thing wrong", choose_mutant);
	report_lines(out, outcome, "Not as expected", choose_unexpected);
	report_counterexamples(out, outcome, outcome->count == 1 && detail != REPORT_QUIET);
	if (detail != REPORT_QUIET)
		report_sources(out);
	report_summary(out, outcome);
}

/* ---- the list ---- */

static void put_entry(FILE *out, const char *name, const char *what)
{
	const char *line;
	size_t size;

	fprintf(out, "  %s\n", name);
	while (what && (line = text_wrap(&what, REPORT_COLUMNS - 6, text_columns, &size)))
		fprintf(out, "      %.*s\n", (int)size, line);
}

static void put_note(FILE *out, const char *label, const char *text)
{
	unsigned indent = 6 + (unsigned)strlen(label) + 2;
	const char *line;
	size_t size;

	fprintf(out, "      %s: ", label);
	while ((line = text_wrap(&text, REPORT_COLUMNS - indent, text_columns, &size)))
		fprintf(out, "%.*s\n%*s", (int)size, line, *text ? (int)indent : 0, "");
}

void report_list(FILE *out)
{
	fputs("Machines\n", out);
	for (unsigned i = 0; i < machines_count; i++) {
		put_entry(out, machines[i].name, machines[i].what);
		put_note(out, "from", machines[i].source);
	}
	fputs("\nScenarios\n", out);
	for (unsigned i = 0; i < scenarios_count; i++) {
		put_entry(out, scenario_name(scenarios[i]), scenario_what(scenarios[i]));
		if (scenario_case(scenarios[i]))
			put_note(out, "case", scenario_case(scenarios[i]));
	}
	fputs("\nMutants\n", out);
	for (unsigned i = 0; i < mutants_count; i++) {
		char where[128];

		put_entry(out, mutants[i].name, mutants[i].what);
		snprintf(where, sizeof(where), "%s, %s%s", mutants[i].machine, mutants[i].scenario,
		         mutants[i].historical ? "; was in the field" : "");
		put_note(out, mutants[i].harmless ? "harmless on" : "refuted on", where);
	}
	fputs("\nSources of the library in here\n", out);
	for (const char *const *source = check_sources; *source; source++)
		fprintf(out, "  %s\n", *source);
}
