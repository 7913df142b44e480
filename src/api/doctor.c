/* SPDX-License-Identifier: MIT */
/* doctor.c - a list of findings, and what follows from all of them. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "doctor.h"

const char *suture_finding_verdict_name(enum suture_finding_verdict verdict)
{
	static const char *const names[] = {"none", "ok", "note", "limit", "blocks"};

	return verdict >= SUTURE_FINDING_OK && verdict <= SUTURE_FINDING_BLOCKS ? names[verdict]
	                                                                        : names[0];
}

void finding(struct suture_diagnosis *d, bool of_process, const char *what,
             struct finding_text text, const char *format, ...)
{
	struct suture_finding *f;
	char *value = NULL;
	va_list args;

	if (d->count == d->capacity) {
		size_t capacity = d->capacity ? 2 * d->capacity : 32;
		void *grown = realloc(d->findings, capacity * sizeof(*d->findings));

		if (!grown) {
			d->out_of_memory = true;
			return;
		}
		d->findings = grown;
		d->capacity = capacity;
	}
	va_start(args, format);
	if (vasprintf(&value, format, args) < 0)
		value = NULL;
	va_end(args);
	f = &d->findings[d->count];
	*f = (struct suture_finding){
	        .of_process = of_process,
	        .verdict = text.verdict,
	        .what = what,
	        .value = value,
	        .follows = strdup(text.follows),
	        .change = text.change ? strdup(text.change) : NULL,
	};
	d->count++;
	if (!value || !f->follows || (text.change && !f->change))
		d->out_of_memory = true;
}

void diagnosis_refuse(struct suture_diagnosis *d, int error, const char *format, ...)
{
	va_list args;

	if (d->verdict)
		return;
	d->verdict = error;
	va_start(args, format);
	vsnprintf(d->reason, sizeof(d->reason), format, args);
	va_end(args);
}

bool have_capability(unsigned number)
{
	uint64_t effective = 0;

	return process_status_field(getpid(), 0, "CapEff", 16, &effective) == 0 &&
	       (effective >> number & 1);
}

bool read_line(const char *path, char *line, size_t size)
{
	FILE *file = fopen(path, "re");
	bool got;

	if (!file)
		return false;
	got = fgets(line, (int)size, file) != NULL;
	fclose(file);
	if (got)
		line[strcspn(line, "\n")] = 0;
	return got;
}

int suture_diagnose(pid_t pid, struct suture_diagnosis **out)
{
	struct suture_diagnosis *d;

	*out = NULL;
	if (pid < 0)
		return -EINVAL;
	d = calloc(1, sizeof(*d));
	if (!d)
		return -ENOMEM;
	diagnose_machine(d);
	if (pid)
		diagnose_process(d, pid);
	if (d->out_of_memory) {
		suture_diagnosis_free(d);
		return -ENOMEM;
	}
	*out = d;
	return 0;
}

size_t suture_diagnosis_findings(const struct suture_diagnosis *d)
{
	return d->count;
}

int suture_diagnosis_finding(const struct suture_diagnosis *d, size_t index,
                             struct suture_finding *out)
{
	if (index >= d->count)
		return -ERANGE;
	*out = d->findings[index];
	return 0;
}

int suture_diagnosis_verdict(const struct suture_diagnosis *d, const char **reason)
{
	if (reason)
		*reason = d->verdict ? d->reason : NULL;
	return d->verdict;
}

void suture_diagnosis_free(struct suture_diagnosis *d)
{
	if (!d)
		return;
	for (size_t i = 0; i < d->count; i++) {
		free((char *)d->findings[i].value);
		free((char *)d->findings[i].follows);
		free((char *)d->findings[i].change);
	}
	free(d->findings);
	free(d);
}
