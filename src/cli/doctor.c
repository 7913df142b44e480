// SPDX-License-Identifier: MIT
/* doctor.c - suture doctor: what a machine and a process allow. */
#include <errno.h>
#include <string.h>

#include "cli/cli.h"

static size_t widest(const struct suture_diagnosis *diagnosis, bool values)
{
	struct suture_finding finding;
	size_t most = 0;

	for (size_t i = 0; suture_diagnosis_finding(diagnosis, i, &finding) == 0; i++) {
		size_t length = strlen(values ? finding.value : finding.what);

		if (length > most && length <= 26)
			most = length;
	}
	return most;
}

static void print_padded(FILE *out, const char *text, size_t columns)
{
	size_t length = strlen(text);

	text_put(out, text, TEXT_WHOLE);
	fprintf(out, "%*s", length < columns ? (int)(columns - length) : 0, "");
}

static void print_findings(const struct suture_diagnosis *diagnosis, pid_t pid, FILE *out)
{
	size_t what = widest(diagnosis, false), value = widest(diagnosis, true);
	struct suture_finding finding;
	bool of_process = false;

	fputs("this machine:\n", out);
	for (size_t i = 0; suture_diagnosis_finding(diagnosis, i, &finding) == 0; i++) {
		if (finding.of_process && !of_process)
			fprintf(out, "process %d:\n", (int)pid);
		of_process = finding.of_process;
		fprintf(out, "  %-6s  ", suture_finding_verdict_name(finding.verdict));
		print_padded(out, finding.what, what);
		fputs("  ", out);
		print_padded(out, finding.value, value);
		fputs("  ", out);
		text_put(out, finding.follows, TEXT_WHOLE);
		if (finding.change) {
			fputs("; ", out);
			text_put(out, finding.change, TEXT_WHOLE);
		}
		fputc('\n', out);
	}
}

int command_doctor(const struct arguments *arguments)
{
	struct suture_diagnosis *diagnosis;
	const char *reason;
	int error = suture_diagnose(arguments->pid, &diagnosis), verdict, status;

	if (error < 0) {
		complain("cannot look: %s", strerror(-error));
		return status_of_error(error);
	}
	verdict = suture_diagnosis_verdict(diagnosis, &reason);
	if (arguments->json) {
		if (json_print_diagnosis(diagnosis, arguments->pid, stdout))
			complain("cannot make the report");
	} else {
		print_findings(diagnosis, arguments->pid, stdout);
		fputs(verdict ? "counting does not work: " : "counting works\n", stdout);
		if (verdict) {
			text_put(stdout, reason, TEXT_WHOLE);
			fputc('\n', stdout);
		}
	}
	status = finish_output(stdout);
	suture_diagnosis_free(diagnosis);
	return status ? status : status_of_error(verdict);
}
