/* SPDX-License-Identifier: MIT */
/* main.c - the suture-check command: which jobs, in what order, and what is expected of them. */
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "check/args.h"
#include "check/litmus/litmus.h"
#include "check/pool.h"

/* If a standard descriptor is closed, the next file opened would take its number, and the table
 * would be written into a picture. The substitutes are opened so that using them still fails. */
static void fill_standard_descriptors(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && errno == EBADF &&
		    open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd)
			_exit(STATUS_FAILED);
}

static enum status finish_output(void)
{
	/* A flush that failed earlier has left its mark, but no errno. */
	int error = fflush(stdout) ? errno : ferror(stdout) ? EIO : 0;

	if (!error)
		return STATUS_DONE;
	complain("cannot write to standard output: %s", strerror(error));
	return STATUS_FAILED;
}

/* ---- which jobs ---- */

static const struct machine *machine_named(const char *name)
{
	for (unsigned i = 0; i < machines_count; i++)
		if (strcmp(machines[i].name, name) == 0)
			return &machines[i];
	return NULL;
}

static const struct scenario *scenario_named(const char *name)
{
	for (unsigned i = 0; i < scenarios_count; i++)
		if (strcmp(scenario_name(scenarios[i]), name) == 0)
			return scenarios[i];
	return NULL;
}

static bool selected(const struct selection *selection, unsigned index)
{
	return !selection->given || selection->chosen[index];
}

static void add_run(struct outcome *outcome, const struct check_job *job, bool has_expectation)
{
	outcome->runs[outcome->count++] = (struct run){
	        .job = *job,
	        .has_expectation = has_expectation,
	};
}

static void add_shipped(struct outcome *outcome, const struct arguments *arguments)
{
	for (unsigned s = 0; s < scenarios_count; s++)
		for (unsigned m = 0; m < machines_count; m++) {
			const struct check_job job = {.machine = &machines[m],
			                              .scenario = scenarios[s]};

			if (selected(&arguments->scenarios, s) && selected(&arguments->machines, m))
				add_run(outcome, &job, true);
		}
}

/* Where it belongs, unless machines or scenarios are named. */
static int add_mutant(struct outcome *outcome, const struct arguments *arguments,
                      const struct mutant *mutant)
{
	const struct machine *machine = machine_named(mutant->machine);
	const struct scenario *scenario = scenario_named(mutant->scenario);

	if (!machine || !scenario) {
		complain("mutant '%s' belongs on '%s', '%s', which does not exist", mutant->name,
		         mutant->machine, mutant->scenario);
		return -ENOENT;
	}
	for (unsigned s = 0; s < scenarios_count; s++)
		for (unsigned m = 0; m < machines_count; m++) {
			const struct check_job job = {.machine = &machines[m],
			                              .scenario = scenarios[s],
			                              .mutant = mutant};
			bool own_machine = job.machine == machine;
			bool own_scenario = job.scenario == scenario;

			if ((arguments->machines.given ? arguments->machines.chosen[m]
			                               : own_machine) &&
			    (arguments->scenarios.given ? arguments->scenarios.chosen[s]
			                                : own_scenario))
				add_run(outcome, &job, own_machine && own_scenario);
		}
	return 0;
}

static int add_runs(struct outcome *outcome, const struct arguments *arguments)
{
	bool all = !arguments->machines.given && !arguments->scenarios.given &&
	           !arguments->mutants.given;
	size_t most = (size_t)machines_count * scenarios_count * (mutants_count + 1u);

	outcome->runs = calloc(most ? most : 1, sizeof(*outcome->runs));
	if (!outcome->runs) {
		complain("out of memory");
		return -ENOMEM;
	}
	if (!arguments->mutants.given)
		add_shipped(outcome, arguments);
	for (unsigned i = 0; i < mutants_count; i++) {
		int error = 0;

		if (all || arguments->mutants.chosen[i])
			error = add_mutant(outcome, arguments, &mutants[i]);
		if (error)
			return error;
	}
	return 0;
}

/* ---- run ---- */

static int execute(struct outcome *outcome, const struct arguments *arguments)
{
	struct timespec begin, end;
	struct rusage usage = {0};
	int error;

	clock_gettime(CLOCK_MONOTONIC, &begin);
	outcome->jobs = arguments->jobs;
	error = pool_run(outcome->runs, outcome->count, arguments->jobs,
	                 arguments->detail != REPORT_QUIET);
	if (error) {
		complain("cannot run jobs: %s", strerror(-error));
		return error;
	}
	clock_gettime(CLOCK_MONOTONIC, &end);
	outcome->milliseconds = (double)(end.tv_sec - begin.tv_sec) * 1e3 +
	                        (double)(end.tv_nsec - begin.tv_nsec) / 1e6;
	getrusage(RUSAGE_SELF, &usage);
	outcome->peak_memory = (uint64_t)usage.ru_maxrss * 1024;
	return 0;
}

static enum status draw(const struct outcome *outcome, const char *file)
{
	const struct run *refuted = NULL;
	unsigned count = 0;
	int error;

	for (unsigned i = 0; i < outcome->count; i++) {
		if (outcome->runs[i].result.verdict != VERDICT_REFUTED)
			continue;
		refuted = &outcome->runs[i];
		count++;
	}
	if (count != 1) {
		complain("--svg: %s counterexample in this selection; nothing is drawn",
		         count ? "more than one" : "no");
		return STATUS_USAGE;
	}
	error = svg_write(file, &refuted->job, &refuted->result);
	if (!error)
		return STATUS_DONE;
	complain("cannot write '%s': %s", file, strerror(-error));
	return STATUS_FAILED;
}

static enum status report(const struct outcome *outcome, const struct arguments *arguments)
{
	enum status status = outcome_unexpected(outcome) ? STATUS_FAILED : STATUS_DONE;
	enum status drawn = arguments->svg ? draw(outcome, arguments->svg) : STATUS_DONE;

	if (!arguments->json) {
		report_print(stdout, outcome, arguments->detail);
	} else if (json_print_outcome(stdout, outcome) == -ENOMEM) {
		complain("out of memory");
		return STATUS_FAILED;
	}
	if (finish_output())
		return STATUS_FAILED;
	return drawn ? drawn : status;
}

static enum status command_run(const struct arguments *arguments)
{
	struct outcome outcome = {0};
	enum status status = STATUS_FAILED;

	if (add_runs(&outcome, arguments) == 0 && execute(&outcome, arguments) == 0)
		status = report(&outcome, arguments);
	for (unsigned i = 0; i < outcome.count; i++)
		check_result_free(&outcome.runs[i].result);
	free(outcome.runs);
	return status;
}

static enum status command_list(const struct arguments *arguments)
{
	if (!arguments->json) {
		report_list(stdout);
	} else if (json_print_list(stdout) == -ENOMEM) {
		complain("out of memory");
		return STATUS_FAILED;
	}
	return finish_output();
}

int main(int argc, char **argv)
{
	struct arguments arguments;
	enum status status;

	fill_standard_descriptors();
	setlocale(LC_CTYPE, "");
	if (argc > 1 && strcmp(argv[1], "litmus") == 0) {
		status = litmus_command(argc - 1, argv + 1);
		return finish_output() ? STATUS_FAILED : (int)status;
	}
	status = arguments_parse(argc, argv, &arguments);
	if (status == STATUS_DONE) {
		switch (arguments.command) {
		case COMMAND_RUN:
			status = command_run(&arguments);
			break;
		case COMMAND_LIST:
			status = command_list(&arguments);
			break;
		case COMMAND_HELP:
			fputs(help_text, stdout);
			status = finish_output();
			break;
		case COMMAND_VERSION:
			puts("suture-check " SUTURE_VERSION);
			status = finish_output();
			break;
		}
	}
	arguments_free(&arguments);
	return status;
}
