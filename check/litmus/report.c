/* SPDX-License-Identifier: MIT */
/* report.c - what became of a test, for people. */
#include <stdio.h>
#include "check/litmus/litmus.h"

const char *litmus_kind_name(enum litmus_kind kind)
{
	static const char *const names[] = {"Allowed", "Forbidden", "Required"};

	return names[kind];
}

const char *litmus_observation(const struct litmus_result *result)
{
	if (result->positive == 0)
		return "Never";
	return result->positive == result->count ? "Always" : "Sometimes";
}

static void print_state(const struct litmus_test *test, const struct litmus_state *state)
{
	char name[160], value[160];

	for (unsigned i = 0; i < test->observed; i++) {
		litmus_print_observed(test, &test->observe[i], name, sizeof(name));
		litmus_print_value(test, &test->observe[i], state->value[i], value, sizeof(value));
		printf("%s%s=%s;", i ? " " : "", name, value);
	}
	for (unsigned i = 0; i < test->faults; i++) {
		litmus_print_fault(&test->fault[i], name, sizeof(name));
		printf(" %sFault%s;", state->faults >> i & 1 ? "" : "~", name);
	}
	putchar('\n');
}

void litmus_print(const struct litmus_outcome *outcome)
{
	const struct litmus_test *test = outcome->test;
	const struct litmus_result *result = outcome->result;
	unsigned negative = result->count - result->positive;
	char condition[4096];

	litmus_print_condition(test, condition, sizeof(condition));
	printf("Test %s %s\nStates %u\n", test->name, litmus_kind_name(outcome->kind),
	       result->count);
	for (unsigned i = 0; i < result->count; i++)
		print_state(test, &result->states[i]);
	printf("%s\nWitnesses\nPositive: %u Negative: %u\nCondition %s\n",
	       outcome->ok ? "Ok" : "No", result->positive, negative, condition);
	printf("Observation %s %s %u %u\n\n", test->name, litmus_observation(result),
	       result->positive, negative);
}
