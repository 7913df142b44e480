/* SPDX-License-Identifier: MIT */
/*
 * pool.c - jobs on several CPUs, and a line that tells how far they are.
 *
 * The big ones begin first, so that none of them is left to run alone at the end.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "check/pool.h"

#define REDRAW_NS 100000000L
#define NS_PER_S  1000000000L

static const char erase_line[] = "\r\033[K";

struct worker {
	struct pool *pool;
	pthread_t thread;
	const struct run *run; /* what it works on, or NULL */
	double since;
};

/* What all jobs together may use for states, bytes. */
static const uint64_t MEMORY_ALL = 1800ull << 20;

struct pool {
	pthread_mutex_t lock;
	pthread_cond_t finished;
	struct run **order;
	unsigned count, next, done, working;
	struct worker *workers;
	unsigned jobs, workers_count;
	double began;
};

static double now_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / NS_PER_S;
}

/* ---- who goes first ---- */

/* What makes a state space large: cores, then what each of them may do late or out of order. */
static unsigned job_weight(const struct check_job *job)
{
	const struct machine *m = job->machine;
	unsigned weight = m->cpus > 1 ? 16 : 0;

	weight += 4 * (unsigned)m->order;
	weight += !m->instruction_coherent + !m->fetch_from_data + !m->broadcast;
	/* The search ends at the first counterexample. */
	return job->mutant ? weight / 4 : weight;
}

static int compare_runs(const void *a, const void *b)
{
	const struct run *left = *(struct run *const *)a, *right = *(struct run *const *)b;
	unsigned left_weight = job_weight(&left->job), right_weight = job_weight(&right->job);

	if (left_weight != right_weight)
		return left_weight < right_weight ? 1 : -1;
	return left < right ? -1 : left > right;
}

/* ---- progress ---- */

/* An interrupted line would stay in front of the shell's prompt. */
static void erase_and_die(int number)
{
	ssize_t ignored = write(STDERR_FILENO, erase_line, sizeof(erase_line) - 1);

	(void)ignored;
	/* SA_RESETHAND: the default action, as soon as we return. */
	raise(number);
}

static void catch_signals(bool caught)
{
	static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
	struct sigaction old, action = {.sa_handler = caught ? erase_and_die : SIG_DFL};

	action.sa_flags = SA_RESETHAND;
	sigemptyset(&action.sa_mask);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		if (sigaction(numbers[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
			sigaction(numbers[i], &action, NULL);
}

static const struct worker *oldest_worker(const struct pool *pool)
{
	const struct worker *oldest = NULL;

	for (unsigned i = 0; i < pool->workers_count; i++) {
		const struct worker *worker = &pool->workers[i];

		if (worker->run && (!oldest || worker->since < oldest->since))
			oldest = worker;
	}
	return oldest;
}

static void show_progress(const struct pool *pool)
{
	const struct worker *worker = oldest_worker(pool);
	double elapsed = now_seconds() - pool->began;
	char line[256];
	struct winsize window;
	int size = snprintf(line, sizeof(line), "suture-check: %u/%u, %.0f s", pool->done,
	                    pool->count, elapsed);

	if (worker && size < (int)sizeof(line)) {
		const struct check_job *job = &worker->run->job;

		size += snprintf(line + size, sizeof(line) - (size_t)size, ": %s on %s%s%s",
		                 scenario_name(job->scenario), job->machine->name,
		                 job->mutant ? " with " : "", job->mutant ? job->mutant->name : "");
	}
	if (size >= (int)sizeof(line))
		size = sizeof(line) - 1;
	/* A line that wraps can not be erased. */
	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 0 &&
	    size >= window.ws_col)
		size = window.ws_col - 1;
	fprintf(stderr, "%s%.*s", erase_line, size, line);
	fflush(stderr);
}

/* Called, and returns, with the lock held. */
static void wait_for_all(struct pool *pool, bool progress)
{
	while (pool->working > 0) {
		struct timespec until;

		if (!progress) {
			pthread_cond_wait(&pool->finished, &pool->lock);
			continue;
		}
		show_progress(pool);
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += REDRAW_NS;
		if (until.tv_nsec >= NS_PER_S) {
			until.tv_sec++;
			until.tv_nsec -= NS_PER_S;
		}
		while (pool->working > 0 &&
		       pthread_cond_clockwait(&pool->finished, &pool->lock, CLOCK_MONOTONIC,
		                              &until) != ETIMEDOUT)
			;
	}
}

/* ---- work ---- */

static void *work(void *argument)
{
	struct worker *worker = argument;
	struct pool *pool = worker->pool;
	const struct check_limits limits = {.memory = MEMORY_ALL / pool->jobs};

	pthread_mutex_lock(&pool->lock);
	while (pool->next < pool->count) {
		struct run *run = pool->order[pool->next++];

		worker->run = run;
		worker->since = now_seconds();
		pthread_mutex_unlock(&pool->lock);
		check_run(&run->job, &limits, &run->result);
		pthread_mutex_lock(&pool->lock);
		worker->run = NULL;
		pool->done++;
	}
	pool->working--;
	pthread_cond_signal(&pool->finished);
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

/* With the lock held: none begins before all that can be had are there. */
static int start_workers(struct pool *pool, unsigned jobs)
{
	sigset_t all, usual;
	int error = 0;

	/* A job runs on small stacks of its own: signals are for the main thread. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &usual);
	while (pool->workers_count < jobs && !error) {
		struct worker *worker = &pool->workers[pool->workers_count];

		worker->pool = pool;
		error = pthread_create(&worker->thread, NULL, work, worker);
		if (!error)
			pool->workers_count++;
	}
	pthread_sigmask(SIG_SETMASK, &usual, NULL);
	pool->working = pool->workers_count;
	/* Fewer than asked for are slower, not wrong. */
	return pool->workers_count ? 0 : -error;
}

static int run_all(struct pool *pool, unsigned jobs, bool progress)
{
	int error;

	pthread_mutex_lock(&pool->lock);
	error = start_workers(pool, jobs);
	if (!error) {
		if (progress)
			catch_signals(true);
		wait_for_all(pool, progress);
	}
	pthread_mutex_unlock(&pool->lock);
	for (unsigned i = 0; i < pool->workers_count; i++)
		pthread_join(pool->workers[i].thread, NULL);
	if (!error && progress) {
		fputs(erase_line, stderr);
		catch_signals(false);
	}
	return error;
}

int pool_run(struct run *runs, unsigned count, unsigned jobs, bool progress)
{
	struct pool pool = {
	        .lock = PTHREAD_MUTEX_INITIALIZER,
	        .finished = PTHREAD_COND_INITIALIZER,
	        .count = count,
	        .began = now_seconds(),
	};
	int error = -ENOMEM;

	if (count == 0)
		return 0;
	if (jobs > count)
		jobs = count;
	pool.jobs = jobs;
	pool.order = calloc(count, sizeof(*pool.order));
	pool.workers = calloc(jobs, sizeof(*pool.workers));
	if (pool.order && pool.workers) {
		for (unsigned i = 0; i < count; i++)
			pool.order[i] = &runs[i];
		qsort(pool.order, count, sizeof(*pool.order), compare_runs);
		error = run_all(&pool, jobs, progress && isatty(STDERR_FILENO));
	}
	free(pool.order);
	free(pool.workers);
	return error;
}
