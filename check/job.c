/* SPDX-License-Identifier: MIT */
/* job.c - a scenario is laid out on a machine, and explored. */
#include <stdlib.h>
#include <string.h>
#include "check/explore.h"
#include "check/scenario.h"

static enum verdict expected_of(const struct check_job *job)
{
	const struct mutant *mutant = job->mutant;

	if (mutant && strcmp(mutant->scenario, job->scenario->name) == 0 &&
	    strcmp(mutant->machine, job->machine->name) == 0)
		return mutant->harmless ? VERDICT_HOLDS : VERDICT_REFUTED;
	return VERDICT_HOLDS;
}

void check_run(const struct check_job *job, const struct check_limits *limits,
               struct check_result *result)
{
	struct world *world = calloc(1, sizeof(*world));

	memset(result, 0, sizeof(*result));
	result->expected = expected_of(job);
	if (job->scenario->absent)
		result->reason = job->scenario->absent(job->machine);
	if (result->reason) {
		result->verdict = VERDICT_NOT_APPLICABLE;
		/* Part of the scenario's definition; but a mutant is placed where it exists. */
		if (!job->mutant)
			result->expected = VERDICT_NOT_APPLICABLE;
		free(world);
		return;
	}
	if (!world) {
		result->verdict = VERDICT_INCOMPLETE;
		result->reason = "out of memory";
		return;
	}
	world->machine = job->machine;
	world->isa = job->machine->isa;
	world->broken = job->broken_rule;
	if (job->mutant) {
		world->without = job->mutant->point;
		world->variant = job->mutant->variant;
	}
	job->scenario->build(world);
	world->cpus = job->machine->cpus > 1 ? world->threads : 1;
	explore(world, limits, result);
	free(world);
}

void check_result_free(struct check_result *result)
{
	trace_free(&result->trace);
}
