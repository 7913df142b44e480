/* SPDX-License-Identifier: MIT */
/*
 * check_litmus_rules.c - every rule that litmus tests stand on matters.
 *
 * One rule at a time is broken: the verdict of some test of tests/litmus must then be another one.
 * The public catalogue (tests/t/litmus.t) does not tell half of them apart.
 */
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include "check/litmus/litmus.h"
#include "port/model/rule.h"
#include "tap.h"

enum { TESTS_MAX = 400 };

static struct litmus_test *tests;
static unsigned tests_count;
static char verdicts[TESTS_MAX];

static const struct rule {
	enum model_rule rule;
	const char *name;
} rules[] = {
#define OWN(id, what) {RULE_##id, #id ": " what},
#define SHARED(id)    {RULE_##id, #id ", of the scenarios too"},
        LITMUS_SHARED_RULES(SHARED) LITMUS_RULES(OWN)};

static bool read_test(const char *file, struct litmus_test *test)
{
	static char text[1 << 16];
	char error[200] = "";
	FILE *stream = fopen(file, "r");
	size_t size;

	if (!stream)
		return ok(false, "%s can be opened", file);
	size = fread(text, 1, sizeof(text), stream);
	fclose(stream);
	if (litmus_parse(text, size, test, error, sizeof(error)))
		return ok(false, "%s:%s", file, error);
	return true;
}

/* Never, sometimes or always: 'N', 'S', 'A'; '?': it could not be run. */
static char verdict(const struct litmus_test *test, unsigned broken)
{
	struct litmus_result result;
	char found = '?';

	if (litmus_run(test, broken, 0, &result) == 0)
		found = result.positive == 0 ? 'N' : result.positive == result.count ? 'A' : 'S';
	litmus_result_free(&result);
	return found;
}

static void check(const struct rule *rule)
{
	unsigned changed = 0;
	const char *example = "";

	for (unsigned i = 0; i < tests_count; i++) {
		char now = verdict(&tests[i], rule->rule);

		if (now == verdicts[i] || now == '?')
			continue;
		changed++;
		example = tests[i].name;
	}
	ok(changed, "%s -> %u tests%s%s", rule->name, changed, changed ? ", as " : "", example);
}

int main(void)
{
	glob_t found;

	if (glob("tests/litmus/*.litmus", 0, NULL, &found) || found.gl_pathc > TESTS_MAX) {
		ok(false, "the tests are in tests/litmus");
		return done();
	}
	tests = calloc(found.gl_pathc, sizeof(*tests));
	if (!tests)
		return 1;
	for (size_t i = 0; i < found.gl_pathc; i++)
		if (read_test(found.gl_pathv[i], &tests[tests_count])) {
			verdicts[tests_count] = verdict(&tests[tests_count], RULE_NONE);
			tests_count++;
		}
	ok(tests_count > 90 && !memchr(verdicts, '?', tests_count), "%u tests run", tests_count);
	for (unsigned i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
		check(&rules[i]);
	free(tests);
	globfree(&found);
	return done();
}
