/* SPDX-License-Identifier: MIT */
/* cli.h - the parts of the suture command. */
#ifndef SUTURE_CLI_H
#define SUTURE_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <suture/look.h>
#include <suture/target.h>

#define NS_PER_S  1000000000ull
#define NS_PER_MS 1000000ull

/* Exit statuses; suture(1) documents them. */
enum exit_status {
	STATUS_DONE = 0,
	STATUS_INTERNAL = 1,
	STATUS_USAGE = 2,
	STATUS_PROCESS = 3,
	STATUS_REFUSED = 4,
	STATUS_TIMEOUT = 5,
};

/* ---- args.c: what was asked for ---- */

enum command {
	COMMAND_COUNT,
	COMMAND_REVERT,
	COMMAND_STATUS,
	COMMAND_LIST,
	COMMAND_EXPLAIN,
	COMMAND_DOCTOR,
	COMMAND_HELP,
	COMMAND_VERSION
};

struct arguments {
	enum command command;
	const char *topic; /* of COMMAND_HELP; NULL: suture itself */
	pid_t pid;
	bool json;
	bool dry_run;
	bool summary; /* list: only how many of each kind */
	bool stop;    /* explain: to see where threads are */
	bool bounded; /* --for was given */
	uint64_t for_ns;
	uint64_t interval_ns;
	struct suture_target_options options;
	char **specs;
	size_t spec_count;
	const char *specs_from; /* NULL: none */
	size_t *spec_lines;     /* in that file, for each of `specs`; 0: of the command line */
	const char *log;        /* NULL: syslog */
};

/* STATUS_DONE or STATUS_USAGE; the complaint has been printed then. */
int arguments_parse(int argc, char **argv, struct arguments *out);

/* ---- specs.c ---- */

/* Append the specifications of arguments->specs_from; STATUS_DONE, or another status after a
 * complaint. They live until the program ends. */
int specs_read(struct arguments *arguments);

/* ---- help.c ---- */

/* NULL: no such command. The topic NULL is suture itself. */
const char *help_text(const char *topic);

/* ---- message.c: what goes to standard error ---- */

/* One line, "suture: ...", with control characters made harmless. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Complain with the library's text for `error`, and return the exit status that goes with it. */
int complain_error(const struct suture_target *target, int error);
int status_of_error(int error);
/* The last complaint, without the program's name; "": none. */
const char *complained(void);

/* A line that overwrites itself, if standard error is a terminal; slow work only. */
void progress_show(const char *what, size_t done, size_t total);
void progress_clear(void);

/* ---- signals.c: requests to end, as events instead of interruptions ---- */

enum event { EVENT_NONE, EVENT_END, EVENT_RESIZE, EVENT_SUSPEND };

/* From here on no signal interrupts anything; returns a descriptor to poll, or negative errno. */
int signals_hold(void);
enum event signals_next(void);
/* Give up the processor as the terminal asked; returns when continued. */
void signals_suspend(void);
/* Forget what has come meanwhile and let signals do again what they usually do. */
void signals_release(void);

/* ---- text.c: names from foreign files, made fit to print ---- */

#define TEXT_WHOLE SIZE_MAX

/* `text` in at most `columns` columns, cut with an ellipsis, control characters as '?'. */
void text_put(FILE *out, const char *text, size_t columns);
const char *text_ellipsis(void);
/* "MODULE:SYMBOL+0xOFFSET", usable as a specification. */
void text_put_site(FILE *out, const struct suture_target_probe *probe, size_t columns);
/* True if SPEC may match several functions. */
bool text_is_glob(const char *spec);
uint64_t monotonic_ns(void);

/* ---- table.c: the counted sites, for people ---- */

struct table_row {
	struct suture_target_probe probe;
	uint64_t hits_before; /* at the previous sample */
	double per_second;
};

struct table {
	pid_t pid;
	char name[32]; /* of the process */
	const struct suture_target *target;
	struct table_row *rows;   /* in the library's order */
	struct table_row **order; /* by hits, most first */
	size_t count;
	uint64_t start_ns, sample_ns;
};

enum refusals { REFUSALS_ALL, REFUSALS_EXACT };

/* Where a table is printed. */
struct table_space {
	size_t width;  /* columns; TEXT_WHOLE: names are not cut */
	size_t height; /* lines; 0: as many as there are rows */
};

int table_open(struct table *table, pid_t pid, const struct suture_target *target);
/* Take over the hits that the library has read; rates are those since the previous sample. */
void table_sample(struct table *table, uint64_t now_ns);
void table_print_live(struct table *table, FILE *out, struct table_space space);
/* All rows, with the mean rate until the last sample. */
void table_print_final(struct table *table, FILE *out);
void table_close(struct table *table);
/* Sites that are not counted, in at most `limit` lines. */
void refusals_print(const struct suture_target *target, FILE *out, const char *prefix,
                    enum refusals which, size_t width, size_t limit);
/* Whether a specification that stands for one site was refused: nothing is counted then. */
bool refusals_exact(const struct suture_target *target);

/* ---- screen.c: a terminal that can be redrawn ---- */

/* False: standard output is not a terminal, or one that cannot do it. */
bool screen_open(void);
void screen_size(struct table_space *out);
/* Show `text`, from the top. Never blocks: a frame that the terminal does not take is lost. */
void screen_draw(const char *text);
/* Back to what the terminal showed before; the next screen_draw() covers it again. */
void screen_leave(void);

/* ---- json.c ---- */

/* `counted`: false if nothing was put in place. */
int json_print_count(const struct suture_target *target, pid_t pid, bool counted, FILE *out);
int json_print_status(const struct suture_status *status, pid_t pid, FILE *out);

/* What an attach would do; `target` is planned. */
int json_print_plan(const struct suture_target *target, pid_t pid, FILE *out);

/* ---- dryrun.c ---- */

void dry_run_print(const struct suture_target *target, pid_t pid, FILE *out);

/* ---- look_json.c ---- */

int json_print_list(const struct suture_target *target, pid_t pid, bool summary, FILE *out);
int json_print_explanation(const struct suture_target *target, pid_t pid,
                           const struct suture_explanation *explanation, FILE *out);
int json_print_diagnosis(const struct suture_diagnosis *diagnosis, pid_t pid, FILE *out);

/* How many names of each kind. */
struct kinds {
	size_t pun, window, uprobe, refused;
};
void kinds_add(struct kinds *kinds, const struct suture_survey *survey);

/* ---- count.c, revert.c, list.c, explain.c, doctor.c: the commands ---- */

int command_list(struct arguments *arguments);
int command_explain(struct arguments *arguments);
int command_doctor(const struct arguments *arguments);

int command_count(struct arguments *arguments);
int command_revert(struct arguments *arguments);
int command_status(const struct arguments *arguments);
/* Write out what was printed; complains if that fails, and returns the exit status. */
int finish_output(FILE *out);

#endif
