/* SPDX-License-Identifier: MIT */
/*
 * check_explorer.c - a verdict of suture-check is worth something.
 *
 * The search is given questions whose answers are known, and is compared with a second one that
 * stores states whole. Its answers do not depend on hashes, limits or other threads, and each
 * ordering point of port.h has a mutant that it refutes.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "check/explore.h"
#include "check/scenario.h"
#include "tap.h"

enum {
	SMALL = 2500,  /* states of the jobs that are run many times */
	TINY = 500,    /* of those that are run where every state is compared with every other */
	MANY = 12,     /* as many of them there are, at least */
	PLACE = 160,   /* "hook on x86-64, without-sync" */
	SEARCHERS = 2, /* threads */
};

static const struct machine *machine_of(const char *name)
{
	for (unsigned i = 0; i < machines_count; i++)
		if (strcmp(machines[i].name, name) == 0)
			return &machines[i];
	return NULL;
}

static const struct scenario *scenario_of(const char *name)
{
	for (unsigned i = 0; i < scenarios_count; i++)
		if (strcmp(scenario_name(scenarios[i]), name) == 0)
			return scenarios[i];
	return NULL;
}

static const char *place_of(const struct check_job *job, char out[PLACE])
{
	snprintf(out, PLACE, "%s on %s%s%s", scenario_name(job->scenario), job->machine->name,
	         job->mutant ? ", " : "", job->mutant ? job->mutant->name : "");
	return out;
}

static const char *verdict_word(enum verdict verdict)
{
	static const char *const words[] = {"holds", "refuted", "n.a.", "incomplete"};

	return words[verdict];
}

/* ---- what a result says ---- */

static bool same_row(const struct trace_row *a, const struct trace_row *b)
{
	bool same = a->core == b->core && a->violation == b->violation && a->count == b->count &&
	            strcmp(a->what, b->what) == 0;

	for (unsigned i = 0; same && i < a->count; i++)
		same = strcmp(a->changes[i].place, b->changes[i].place) == 0 &&
		       strcmp(a->changes[i].holds, b->changes[i].holds) == 0 &&
		       a->changes[i].stale == b->changes[i].stale;
	return same;
}

static bool same_trace(const struct trace *a, const struct trace *b)
{
	bool same = a->cores == b->cores && a->count == b->count &&
	            strcmp(a->property, b->property) == 0;

	for (unsigned i = 0; same && i < a->cores; i++)
		same = strcmp(a->role[i], b->role[i]) == 0;
	for (unsigned i = 0; same && i < a->count; i++)
		same = same_row(&a->rows[i], &b->rows[i]);
	return same;
}

static bool same_result(const struct check_result *a, const struct check_result *b)
{
	return a->verdict == b->verdict && a->expected == b->expected && a->states == b->states &&
	       a->steps == b->steps && a->memory == b->memory && same_trace(&a->trace, &b->trace);
}

/* What a reader needs of a counterexample; NULL if it is there. */
static const char *trace_lacks(const struct trace *trace)
{
	if (!trace->property[0])
		return "the property";
	if (trace->cores == 0 || trace->cores > TRACE_CORES_MAX)
		return "its cores";
	for (unsigned i = 0; i < trace->cores; i++)
		if (!trace->role[i][0])
			return "what a core is there for";
	if (trace->count == 0)
		return "any step";
	for (unsigned i = 0; i < trace->count; i++) {
		const struct trace_row *row = &trace->rows[i];

		if (!row->what[0])
			return "what a step does";
		if (row->core < -1 || row->core >= (int)trace->cores)
			return "the core of a step";
		if (row->violation != (i + 1 == trace->count))
			return "the violation in its last step";
	}
	return trace->rows[trace->count - 1].core < 0 ? "the core that violates" : NULL;
}

/* ---- questions whose answers are known ---- */

static void returns(struct port *port, void *arg)
{
	(void)port, (void)arg;
}

static void says_no(struct port *port, void *arg)
{
	(void)arg;
	world_assert(port, false, "the first thing that is said is wrong");
}

/* Each adds one; the last to arrive finds both additions. */
static void adds(struct port *port, void *arg)
{
	struct kit *kit = arg;

	if (kit->world->variant & 1)
		port_add(port, &kit->words[0], 1);
	else
		port_set(port, &kit->words[0], port_load(port, &kit->words[0]) + 1);
	port_complete(port);
	if (port_add(port, &kit->words[1], 1) == 2)
		world_assert(port, port_load(port, &kit->words[0]) == 2, "an addition is lost");
}

static void waits(struct port *port, void *arg)
{
	struct kit *kit = arg;
	int rc = port_wait(port, &kit->words[0], 0, PORT_FOREVER);

	world_assert(port, !rc && port_load(port, &kit->words[1]) == 7, "not what was announced");
}

static void announces(struct port *port, void *arg)
{
	struct kit *kit = arg;

	port_set(port, &kit->words[1], 7);
	port_set(port, &kit->words[0], 1);
}

static void take(struct port *port, uint32_t *word)
{
	while (!port_cas(port, word, 0, 1))
		if (port_wait(port, word, 1, PORT_FOREVER))
			return;
}

static void take_both(struct port *port, struct kit *kit, unsigned first)
{
	take(port, &kit->words[first]);
	take(port, &kit->words[!first]);
	port_set(port, &kit->words[!first], 0);
	port_set(port, &kit->words[first], 0);
}

static void takes_0_1(struct port *port, void *arg)
{
	take_both(port, arg, 0);
}

static void takes_1_0(struct port *port, void *arg)
{
	take_both(port, arg, 1);
}

/* Store one, load the other: both find 0 only if stores wait in buffers. */
static void store_then_load(struct port *port, struct kit *kit, unsigned mine)
{
	port_set(port, &kit->words[mine], 1);
	if (kit->world->variant & 1)
		port_complete(port);
	if (!port_load(port, &kit->words[!mine]))
		world_assert(port, port_add(port, &kit->words[2], 1) != 2,
		             "neither sees the other");
}

static void stores_0(struct port *port, void *arg)
{
	store_then_load(port, arg, 0);
}

static void stores_1(struct port *port, void *arg)
{
	store_then_load(port, arg, 1);
}

static void spins(struct port *port, void *arg)
{
	while (!port_load(port, ((struct kit *)arg)->words))
		;
}

enum { H = VERDICT_HOLDS, R = VERDICT_REFUTED, I = VERDICT_INCOMPLETE };

static const char *const orders[] = {"kirkwood", "x86-64", "cortex-a53"};

static const struct {
	const char *what;
	void (*first)(struct port *port, void *arg), (*second)(struct port *port, void *arg);
	bool careful;
	uint8_t expected[3]; /* on the machines above */
} known[] = {
        {"nothing happens", returns, returns, false, {H, H, H}},
        {"wrong before the first step", says_no, returns, false, {R, R, R}},
        {"load, add and store by two", adds, adds, false, {R, R, R}},
        {"atomic additions by two", adds, adds, true, {H, H, H}},
        {"a wait that nobody ends", waits, returns, false, {R, R, R}},
        {"a wait that is ended", waits, announces, false, {H, H, H}},
        {"two locks, taken crosswise", takes_0_1, takes_1_0, false, {R, R, R}},
        {"two locks, taken in one order", takes_0_1, takes_0_1, false, {H, H, H}},
        {"store, then load the other's", stores_0, stores_1, false, {H, R, R}},
        {"the same, completed between", stores_0, stores_1, true, {H, H, H}},
        {"a loop that waits by itself", spins, returns, false, {I, I, I}},
};
enum { KNOWN = sizeof(known) / sizeof(known[0]) };

/* The variant says which of them, and whether they are careful. */
static void build_known(struct world *world)
{
	struct kit *kit = world_new(world, sizeof(*kit));

	kit->world = world;
	thread_calls(world, "one", known[world->variant / 2].first);
	thread_calls(world, "other", known[world->variant / 2].second);
}

static void check_known(unsigned i, unsigned k)
{
	const struct scenario scenario = {.name = "known", .build = build_known};
	const struct mutant question = {
	        .scenario = "", .machine = "", .variant = 2 * i + known[i].careful};
	const struct check_job job = {
	        .machine = machine_of(orders[k]), .scenario = &scenario, .mutant = &question};
	const char *lacks = NULL;
	struct check_result result;

	check_run(&job, NULL, &result);
	if (result.verdict == VERDICT_REFUTED)
		lacks = trace_lacks(&result.trace);
	if (result.verdict == VERDICT_INCOMPLETE && !result.reason)
		lacks = "a reason";
	ok(result.verdict == known[i].expected[k] && !lacks, "%s on %s: %s", known[i].what,
	   orders[k], verdict_word(known[i].expected[k]));
	if (result.verdict != known[i].expected[k])
		note("%s", verdict_word(result.verdict));
	if (lacks)
		note("the answer lacks %s", lacks);
	check_result_free(&result);
}

/* ---- a second search, that keeps states whole and compares them one by one ---- */

struct plain {
	struct world *world;
	struct port *port;
	struct model_state *states;
	uint32_t count;
	uint64_t steps;
	bool violated, failed;
};

static bool plain_open(struct plain *plain, const struct check_job *job)
{
	*plain = (struct plain){.world = calloc(1, sizeof(*plain->world)),
	                        .port = malloc(sizeof(*plain->port)),
	                        .states = calloc(SMALL, sizeof(*plain->states))};
	if (!plain->world || !plain->port || !plain->states)
		return false;
	plain->world->machine = job->machine;
	plain->world->isa = job->machine->isa;
	plain->world->without = job->mutant ? job->mutant->point : 0;
	plain->world->variant = job->mutant ? job->mutant->variant : 0;
	job->scenario->build(plain->world);
	plain->world->cpus = job->machine->cpus > 1 ? plain->world->threads : 1;
	return model_open(plain->port, plain->world) == 0;
}

static void plain_close(struct plain *plain)
{
	if (plain->port)
		model_close(plain->port);
	free(plain->port);
	free(plain->world);
	free(plain->states);
}

static void plain_add(struct plain *plain, const struct model_state *state)
{
	for (uint32_t i = 0; i < plain->count; i++)
		if (memcmp(&plain->states[i], state, sizeof(*state)) == 0)
			return;
	if (plain->count == SMALL)
		plain->failed = true;
	else
		plain->states[plain->count++] = *state;
}

static void plain_expand(struct plain *plain, uint32_t from)
{
	unsigned steps = model_steps(plain->port);

	for (unsigned i = 0; i < steps; i++) {
		model_choose_first(plain->port);
		do {
			struct model_state next = plain->states[from];

			if (model_step(plain->port, &next, i) < 0)
				continue;
			plain->steps++;
			plain->violated = plain->port->property[0] != '\0';
			if (plain->violated)
				return;
			plain_add(plain, &next);
		} while (model_choose_next(plain->port));
	}
}

static void plain_search(struct plain *plain)
{
	struct model_state first;

	model_first(plain->port, &first);
	plain_add(plain, &first);
	for (uint32_t i = 0; i < plain->count && !plain->violated && !plain->failed; i++)
		plain_expand(plain, i);
	plain->failed = plain->failed || plain->port->fault[0];
}

/* ---- jobs ---- */

static struct subject {
	struct check_job job;
	struct check_result result;
	bool small;
	/* What is different when it is asked again; not empty: wrong. */
	char wrong[SEARCHERS][64];
} * subjects;
static unsigned subjects_count, small_count;

static void add_subject(const struct check_job *job)
{
	const struct check_limits limits = {.states = job->mutant ? 0 : SMALL};
	struct subject *subject = &subjects[subjects_count++];

	subject->job = *job;
	check_run(job, &limits, &subject->result);
	subject->small = subject->result.verdict != VERDICT_NOT_APPLICABLE &&
	                 subject->result.verdict != VERDICT_INCOMPLETE &&
	                 subject->result.states <= SMALL;
	small_count += subject->small;
}

static bool collect(void)
{
	subjects = calloc(mutants_count + scenarios_count * machines_count, sizeof(*subjects));
	if (!subjects)
		return false;
	for (unsigned i = 0; i < mutants_count; i++) {
		const struct check_job job = {.machine = machine_of(mutants[i].machine),
		                              .scenario = scenario_of(mutants[i].scenario),
		                              .mutant = &mutants[i]};

		if (!ok(job.machine && job.scenario,
		        "mutant %s belongs on a machine and a scenario", mutants[i].name))
			return false;
		add_subject(&job);
	}
	for (unsigned i = 0; i < scenarios_count; i++)
		for (unsigned k = 0; k < machines_count; k++) {
			const struct check_job job = {.machine = &machines[k],
			                              .scenario = scenarios[i]};

			add_subject(&job);
		}
	return true;
}

/* Of all subjects, one line for those that a test found wrong. */
static void report_wrong(const char *what)
{
	unsigned bad = 0;
	char place[PLACE];

	for (unsigned i = 0; i < subjects_count; i++)
		for (unsigned k = 0; k < SEARCHERS; k++) {
			if (!subjects[i].wrong[k][0])
				continue;
			if (bad++ < 10)
				note("%s: %s", place_of(&subjects[i].job, place),
				     subjects[i].wrong[k]);
			subjects[i].wrong[k][0] = '\0';
		}
	ok(bad == 0, "%s", what);
}

static void ask_again(struct subject *subject, unsigned searcher, const struct check_limits *limits)
{
	struct check_result again;

	check_run(&subject->job, limits, &again);
	if (!same_result(&subject->result, &again))
		snprintf(subject->wrong[searcher], sizeof(subject->wrong[searcher]),
		         "%s in %u states now, %s in %u before", verdict_word(again.verdict),
		         again.states, verdict_word(subject->result.verdict),
		         subject->result.states);
	check_result_free(&again);
}

/* ---- several at once ---- */

static pthread_barrier_t start;

static void *one_direction(void *arg)
{
	unsigned searcher = *(unsigned *)arg;

	pthread_barrier_wait(&start);
	for (unsigned i = 0; i < subjects_count; i++) {
		unsigned at = searcher ? subjects_count - 1 - i : i;

		if (subjects[at].small)
			ask_again(&subjects[at], searcher, NULL);
	}
	return NULL;
}

static void *same_job(void *arg)
{
	unsigned searcher = *(unsigned *)arg;

	for (unsigned i = 0; i < mutants_count; i++) {
		pthread_barrier_wait(&start);
		if (subjects[i].small)
			ask_again(&subjects[i], searcher, NULL);
	}
	return NULL;
}

static unsigned next_subject;

static void *few_hash_bits(void *arg)
{
	unsigned i;

	(void)arg;
	while ((i = __atomic_fetch_add(&next_subject, 1, __ATOMIC_RELAXED)) < subjects_count) {
		const struct check_limits few = {.hash = 0xF}, none = {.hash = 1ull << 63};

		if (!subjects[i].small)
			continue;
		ask_again(&subjects[i], 0, &few);
		if (subjects[i].result.states <= TINY)
			ask_again(&subjects[i], 1, &none);
	}
	return NULL;
}

static bool in_threads(void *(*work)(void *arg))
{
	pthread_t threads[SEARCHERS];
	unsigned numbers[SEARCHERS];

	next_subject = 0;
	if (pthread_barrier_init(&start, NULL, SEARCHERS))
		return false;
	for (unsigned i = 0; i < SEARCHERS; i++) {
		numbers[i] = i;
		if (pthread_create(&threads[i], NULL, work, &numbers[i]))
			return false;
	}
	for (unsigned i = 0; i < SEARCHERS; i++)
		pthread_join(threads[i], NULL);
	pthread_barrier_destroy(&start);
	return true;
}

static void check_again(void)
{
	ok(small_count >= 8 * MANY, "%u jobs are small enough to be run many times", small_count);
	ok(in_threads(one_direction), "threads can be made");
	report_wrong("two threads that run all small jobs, one from the last to the first, get "
	             "the same results");
	in_threads(same_job);
	report_wrong("and so do two that run the same mutant at the same time");
	in_threads(few_hash_bits);
	report_wrong("verdicts, states, steps and counterexamples are the same when next to "
	             "all hashes are");
}

static void check_plain(void)
{
	unsigned compared = 0, refuted = 0;
	char place[PLACE];

	for (unsigned i = 0; i < subjects_count; i++) {
		struct subject *subject = &subjects[i];
		const struct check_result *result = &subject->result;
		struct plain plain;

		if (!subject->small || result->states > TINY)
			continue;
		if (!plain_open(&plain, &subject->job)) {
			ok(false, "memory for %s", place_of(&subject->job, place));
			return;
		}
		plain_search(&plain);
		/* A search of its own kind tells that the end can not be reached. */
		if (plain.failed || plain.count != result->states || plain.steps != result->steps ||
		    (plain.violated && result->verdict != VERDICT_REFUTED))
			snprintf(subject->wrong[0], sizeof(subject->wrong[0]),
			         "%u states, %llu steps; otherwise %u", plain.count,
			         (unsigned long long)plain.steps, result->states);
		compared++;
		refuted += plain.violated;
		plain_close(&plain);
	}
	report_wrong("a search that keeps states whole finds the same states and violations");
	ok(compared >= 8 * MANY && refuted >= MANY, "in %u jobs, %u of them refuted", compared,
	   refuted);
}

/* ---- limits ---- */

/* NULL, or what is wrong with this answer to a question that is answered by `whole`. */
static const char *limited_wrong(const struct check_result *whole,
                                 const struct check_result *limited, bool enough)
{
	if (limited->verdict == VERDICT_INCOMPLETE) {
		if (enough)
			return "incomplete, though the limit suffices";
		return limited->reason && limited->reason[0] ? NULL : "incomplete without a reason";
	}
	if (limited->verdict != whole->verdict)
		return "another verdict";
	if (!same_trace(&limited->trace, &whole->trace))
		return "another counterexample";
	return limited->verdict == VERDICT_HOLDS && !enough ? "holds beyond the limit" : NULL;
}

static void limit_states(struct subject *subject)
{
	const struct check_result *whole = &subject->result;

	for (uint32_t states = 1; states <= whole->states + 2; states += 1 + states / 16) {
		const struct check_limits limits = {.states = states};
		struct check_result limited;
		const char *wrong;

		check_run(&subject->job, &limits, &limited);
		wrong = limited_wrong(whole, &limited, states >= whole->states);
		if (wrong)
			snprintf(subject->wrong[0], sizeof(subject->wrong[0]), "%u states: %s",
			         states, wrong);
		check_result_free(&limited);
	}
}

static void limit_memory(struct subject *subject)
{
	const struct check_result *whole = &subject->result;
	const uint64_t all = whole->memory, bytes[] = {1, all / 4, all / 2, all - 1, all, all + 1};

	for (unsigned i = 0; i < sizeof(bytes) / sizeof(bytes[0]); i++) {
		const struct check_limits limits = {.memory = bytes[i]};
		struct check_result limited;
		const char *wrong;

		check_run(&subject->job, &limits, &limited);
		wrong = limited_wrong(whole, &limited, bytes[i] >= all);
		if (wrong && !subject->wrong[1][0])
			snprintf(subject->wrong[1], sizeof(subject->wrong[1]),
			         "%llu of %llu bytes: %s", (unsigned long long)limits.memory,
			         (unsigned long long)whole->memory, wrong);
		check_result_free(&limited);
	}
}

static void *limit_all(void *arg)
{
	unsigned i;

	(void)arg;
	while ((i = __atomic_fetch_add(&next_subject, 1, __ATOMIC_RELAXED)) < subjects_count)
		if (subjects[i].small) {
			limit_memory(&subjects[i]);
			if (subjects[i].result.states <= TINY)
				limit_states(&subjects[i]);
		}
	return NULL;
}

static void check_limits_are_kept(void)
{
	in_threads(limit_all);
	report_wrong("with too few states or bytes a job is incomplete, and never holds");
}

/* ---- mutants, traces, scenarios ---- */

static void check_mutant(const struct mutant *mutant, const struct check_result *result)
{
	enum verdict expected = mutant->harmless ? VERDICT_HOLDS : VERDICT_REFUTED;
	const char *lacks = NULL;

	if (result->verdict == VERDICT_REFUTED)
		lacks = trace_lacks(&result->trace);
	ok(result->verdict == expected && result->expected == expected && !lacks,
	   "%s is %s in %s on %s", mutant->name, expected == VERDICT_HOLDS ? "harmless" : "refuted",
	   mutant->scenario, mutant->machine);
	if (result->verdict != expected)
		note("%s", verdict_word(result->verdict));
	if (lacks)
		note("the counterexample lacks %s", lacks);
}

static void check_mutants(void)
{
	bool different = true, points = true;

	for (unsigned i = 0; i < mutants_count; i++) {
		const struct mutant *mutant = &mutants[i];

		check_mutant(mutant, &subjects[i].result);
		points = points && !mutant->point == !!mutant->variant &&
		         mutant->point < PORT_POINT_COUNT;
		for (unsigned k = 0; k < i; k++)
			different = different && strcmp(mutants[k].name, mutant->name) != 0;
	}
	ok(different && points, "mutants have different names, and do one thing wrong");
}

static void check_points(void)
{
	for (unsigned point = PORT_POINT_NONE + 1; point < PORT_POINT_COUNT; point++) {
		const char *refuted = NULL;

		for (unsigned i = 0; i < mutants_count; i++)
			if (mutants[i].point == point && !mutants[i].harmless &&
			    subjects[i].result.verdict == VERDICT_REFUTED)
				refuted = mutants[i].name;
		ok(refuted, "ordering point %u is needed: %s", point,
		   refuted ? refuted : "no mutant of it is refuted");
	}
}

static void check_places(void)
{
	for (unsigned i = 0; i < scenarios_count; i++) {
		unsigned places = 0, reasons = 0;

		for (unsigned k = 0; k < machines_count; k++) {
			const struct check_result *result =
			        &subjects[mutants_count + i * machines_count + k].result;

			if (result->verdict != VERDICT_NOT_APPLICABLE)
				places++;
			else if (result->reason && result->reason[0])
				reasons++;
		}
		ok(places > 0 && places + reasons == machines_count,
		   "%s exists on %u machines, and %u say why it can not",
		   scenario_name(scenarios[i]), places, reasons);
	}
}

int main(void)
{
	for (unsigned i = 0; i < KNOWN; i++)
		for (unsigned k = 0; k < 3; k++)
			check_known(i, k);
	if (!collect())
		return 1;
	check_mutants();
	check_points();
	check_places();
	check_again();
	check_plain();
	check_limits_are_kept();
	for (unsigned i = 0; i < subjects_count; i++)
		check_result_free(&subjects[i].result);
	free(subjects);
	return done();
}
