/* SPDX-License-Identifier: MIT */
/*
 * stop.c - bring every thread of the process to rest, and let it go again.
 *
 * All threads are seized, then all interrupted, then each is waited for: one at a time would
 * make the first wait for the last. New threads are traced from birth (PTRACE_O_TRACECLONE),
 * and the list is read again until nothing is new, so a storm of clones can not outrun us: at
 * the latest every cloning thread is itself at rest.
 *
 * A stop must not be noticed. ptrace(2): an interrupted system call restarts by itself, except
 * that some (epoll_wait, sigtimedwait, semop, io_getevents, ...: signal(7)) return EINTR even if no
 * handler ran. Such a thread's result becomes what the kernel itself uses for such calls:
 *
 *     at rest with   orig_rax = nr, rax = -EINTR
 *     resumed with   orig_rax = nr, rax = -ERESTARTNOHAND
 *
 * Then the kernel decides when it goes on, with the signals of that moment: a handler runs, and
 * EINTR is the truth; or none does, and the call is repeated. Looking for pending signals here
 * would be too early (one may still come) and too strict: a traced thread is woken, with EINTR,
 * by signals that it ignores.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "internal.h"

enum { PAUSE_MIN_NS = 4000, PAUSE_MAX_NS = 200000 };
/* What a thread costs: at the least, and to resume it; used for bounds only. */
enum { STOP_LEAST_NS = 1000, RESUME_NS = 4000, STOP_TYPICAL_NS = 20000 };
enum { LOOK_AT = 4 };
enum { LET_GO_NS = 20000000, LET_GO_ALL_NS = 200000000 };
enum { ERESTARTNOHAND = 514 }; /* include/linux/errno.h: not for user space */
/* Not in glibc 2.36's headers under this name in every version. */
#ifndef PTRACE_EVENT_STOP
#define PTRACE_EVENT_STOP 128
#endif

void port_pause(struct port *port, uint64_t ns)
{
	struct timespec time = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};

	(void)port;
	clock_nanosleep(CLOCK_MONOTONIC, 0, &time, NULL);
}

/* How long to sleep between two looks: an eighth of the time that has passed, so that what is
 * overslept stays small beside the pause itself. */
static uint64_t next_pause(uint64_t start_ns)
{
	uint64_t ns = (clock_ns() - start_ns) / 8;

	return ns < PAUSE_MIN_NS ? PAUSE_MIN_NS : ns > PAUSE_MAX_NS ? PAUSE_MAX_NS : ns;
}

/*
 * While the target stands still, nobody else's time slice may come between: with 1,000 threads
 * the pause was 60 times as long at normal priority. Not permitted is no error.
 */
static void raise_priority(struct port *port)
{
	struct sched_param param = {.sched_priority = 1};

	if (sched_getscheduler(0) == SCHED_OTHER &&
	    sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &param) == 0)
		port->realtime = true;
}

static void restore_priority(struct port *port)
{
	struct sched_param param = {0};

	if (port->realtime)
		sched_setscheduler(0, SCHED_OTHER, &param);
	port->realtime = false;
}

/* ---- the bound of a stop ---- */

void process_set_budget(struct port *port, uint64_t ns)
{
	port->budget_ns = ns;
}

static uint64_t budget_left(const struct port *port)
{
	uint64_t spent = clock_ns() - port->stop_start_ns + port->thread_count * RESUME_NS;

	if (!port->budget_ns)
		return UINT64_MAX;
	return spent < port->budget_ns ? port->budget_ns - spent : 0;
}

/* Nanoseconds as people write them, in one of the forms that --max-pause takes. */
static const char *duration(char *text, size_t size, uint64_t ns)
{
	if (ns < 1000000)
		snprintf(text, size, "%" PRIu64 "us", (ns + 999) / 1000);
	else if (ns < 10000000000)
		snprintf(text, size, "%.3gms", (double)ns / 1e6);
	else
		snprintf(text, size, "%.3gs", (double)ns / 1e9);
	return text;
}

/* 1, 2 or 5 times a power of ten, not below `ns`: nobody should read more into an estimate. */
static uint64_t round_figure(uint64_t ns)
{
	uint64_t unit = 1000;

	while (unit * 10 <= ns)
		unit *= 10;
	return ns <= unit       ? unit
	       : ns <= 2 * unit ? 2 * unit
	       : ns <= 5 * unit ? 5 * unit
	                        : 10 * unit;
}

/* One of those that do not come to rest, rather one in state D (in an uninterruptible wait,
 * proc(5)); 0: there is none. */
static pid_t who_is_late(const struct port *port, char *state)
{
	enum { LOOKS = 64 }; /* they all wait for us */
	pid_t tid = 0;

	*state = 0;
	for (size_t i = 0, looks = 0; i < port->thread_count && looks < LOOKS && *state != 'D';
	     i++) {
		char now;

		if (port->threads[i].state != THREAD_SEIZED)
			continue;
		looks++;
		now = process_state(port->threads[i].tid);
		if (!*state || *state == 't' || now == 'D') {
			tid = port->threads[i].tid;
			*state = now;
		}
	}
	return tid;
}

/* `work_ns`: besides stopping all `threads` and letting them go. */
static int over_budget(struct port *port, size_t threads, uint64_t work_ns)
{
	uint64_t spent = port->stop_start_ns ? clock_ns() - port->stop_start_ns : 0;
	uint64_t needed = threads * STOP_TYPICAL_NS + 2 * work_ns + 1000000;
	char bound[24], took[24], enough[24];
	size_t at_rest = 0, late = 0;
	pid_t tid = 0;
	char state;

	for (size_t i = 0; i < port->thread_count; i++)
		late += port->threads[i].state == THREAD_SEIZED;
	/* Looking takes some 10 us a thread, and those at rest wait for us. */
	if (late <= LOOK_AT)
		tid = who_is_late(port, &state);
	/* More time would not help with one that waits in the kernel, or is the only one. */
	if (tid && (late == 1 || (state != 'R' && state != 't'))) {
		port_error(port,
		           "process %d can not be stopped for no longer than %s: thread %d, in "
		           "state %c, did not come to rest; it runs on as it was",
		           port->pid, duration(bound, sizeof(bound), port->budget_ns), tid, state);
		return -ETIMEDOUT;
	}
	for (size_t i = 0; i < port->thread_count; i++)
		at_rest += port->threads[i].state == THREAD_STOPPED;
	if (needed < 2 * spent)
		needed = 2 * spent;
	port_error(
	        port,
	        "process %d can not be stopped for no longer than %s: %zu of its %zu threads were "
	        "at rest after %s; it runs on as it was; --max-pause %s should do",
	        port->pid, duration(bound, sizeof(bound), port->budget_ns), at_rest, threads,
	        duration(took, sizeof(took), spent),
	        duration(enough, sizeof(enough), round_figure(needed)));
	return -ETIMEDOUT;
}

int process_budget_check(struct port *port, uint64_t work_ns, uint64_t thread_ns)
{
	uint64_t needed = work_ns + thread_ns * port->thread_count;

	return budget_left(port) < needed ? over_budget(port, port->thread_count, needed) : 0;
}

static int budget_least(struct port *port, size_t threads)
{
	if (!port->budget_ns || threads * STOP_LEAST_NS <= port->budget_ns)
		return 0;
	return over_budget(port, threads, 0);
}

int process_budget_least(struct port *port)
{
	pid_t *tids;
	size_t count;
	int rc;

	if (!port->budget_ns)
		return 0;
	rc = process_tasks(port->pid, &tids, &count);
	if (rc)
		return rc;
	free(tids);
	port->stop_start_ns = 0;
	return budget_least(port, count);
}

static bool in_system_call(const struct user_regs_struct *regs)
{
	return (int64_t)regs->orig_rax >= 0;
}

static int cure_eintr(struct thread *thread)
{
	struct user_regs_struct *regs = &thread->regs;

	/* close(2) has closed the descriptor, which may be another file's by now. */
	if (!in_system_call(regs) || (int64_t)regs->rax != -EINTR || regs->orig_rax == SYS_close)
		return 0;
	regs->rax = (unsigned long long)-ERESTARTNOHAND;
	return ptrace(PTRACE_SETREGS, thread->tid, NULL, regs) ? -errno : 0;
}

/* A stop was reported: keep what the thread was about to receive, and its registers. */
static int thread_stopped(struct thread *thread, int status)
{
	int event = status >> 16;

	if (WIFEXITED(status) || WIFSIGNALED(status)) {
		thread->state = THREAD_GONE;
		return 0;
	}
	thread->state = THREAD_STOPPED;
	thread->reported = event != PTRACE_EVENT_STOP;
	/* event 0: on its way to deliver a signal, which must still be delivered */
	if (event == 0)
		thread->signal = WSTOPSIG(status);
	if (ptrace(PTRACE_GETREGS, thread->tid, NULL, &thread->regs)) {
		thread->state = THREAD_GONE; /* killed while stopped */
		return 0;
	}
	return cure_eintr(thread);
}

static struct thread *add_thread(struct port *port, pid_t tid)
{
	if (port->thread_count == port->thread_capacity) {
		size_t capacity = port->thread_capacity ? 2 * port->thread_capacity : 64;
		struct thread *grown = realloc(port->threads, capacity * sizeof(*grown));

		if (!grown)
			return NULL;
		port->threads = grown;
		port->thread_capacity = capacity;
	}
	port->threads[port->thread_count] = (struct thread){.tid = tid, .state = THREAD_SEIZED};
	return &port->threads[port->thread_count++];
}

/* `guess`: where it is if no thread came or went since the last list. */
static bool known(const struct port *port, pid_t tid, size_t guess)
{
	if (guess < port->thread_count && port->threads[guess].tid == tid)
		return true;
	for (size_t i = port->thread_count; i-- > 0;)
		if (port->threads[i].tid == tid)
			return true;
	return false;
}

static bool traced_by_us(pid_t pid, pid_t tid)
{
	uint64_t tracer = 0;

	return process_status_field(pid, tid, "TracerPid", 10, &tracer) == 0 &&
	       (pid_t)tracer == gettid();
}

/* 1: now traced, 0: nothing to trace (zombie or gone), negative: not ours to trace. */
static int seize(struct port *port, pid_t tid, uintptr_t options)
{
	uint64_t tracer = 0;
	char name[64];

	if (ptrace(PTRACE_SEIZE, tid, NULL, options) == 0)
		return 1;
	if (errno == ESRCH)
		return 0;
	if (traced_by_us(port->pid, tid))
		return 1; /* traced from birth */
	if (process_status_field(port->pid, tid, "TracerPid", 10, &tracer))
		return 0;
	if (tracer) {
		process_name((pid_t)tracer, name, sizeof(name));
		port_error(port, "process %d is already traced by %s (pid %d)", port->pid, name,
		           (int)tracer);
		return -EPERM;
	}
	if (process_ended(tid) || process_kernel_worker(tid))
		return 0; /* can not be seized, and need not be */
	port_error(port, "not permitted to trace thread %d of process %d", tid, port->pid);
	return -EPERM;
}

/* From here on the target stands still, thread by thread. */
static int interrupt_from(struct port *port, size_t first)
{
	int rc = budget_least(port, port->thread_count);

	if (rc)
		return rc; /* do not even begin */
	if (!port->stop_start_ns)
		port->stop_start_ns = clock_ns();
	for (size_t i = first; i < port->thread_count; i++) {
		if (!budget_left(port))
			return over_budget(port, port->thread_count, 0);
		port->threads[i].interrupted = true;
		ptrace(PTRACE_INTERRUPT, port->threads[i].tid, NULL, NULL);
	}
	return 0;
}

/* Seize and interrupt what is new; returns the number of new threads. */
static int seize_new(struct port *port)
{
	size_t first = port->thread_count, count;
	pid_t *tids;
	int rc = process_tasks(port->pid, &tids, &count);

	if (rc)
		return rc;
	for (size_t i = 0; i < count && rc >= 0; i++) {
		if (first && known(port, tids[i], i))
			continue;
		rc = seize(port, tids[i], PTRACE_O_TRACECLONE);
		if (rc > 0 && !add_thread(port, tids[i]))
			rc = -ENOMEM;
	}
	free(tids);
	if (rc < 0)
		return rc;
	rc = interrupt_from(port, first);
	return rc ? rc : (int)(port->thread_count - first);
}

/* A leader that ends before its threads never stops, and is not reported until they have ended. */
static bool leader_ended(const struct port *port, pid_t tid)
{
	return tid == port->pid && process_member(tid) != tid;
}

static int too_late(struct port *port, size_t running)
{
	char state;
	pid_t tid = who_is_late(port, &state);

	port_error(port,
	           "%zu of %zu threads of process %d did not stop in time: %sthread %d, in state "
	           "%c",
	           running, port->thread_count, port->pid, running > 1 ? "for one " : "", tid,
	           state ? state : '?');
	return -ETIMEDOUT;
}

/* Collect stops until all known threads are at rest or gone. */
static int wait_all(struct port *port, uint64_t end_ns)
{
	uint64_t start_ns = clock_ns();

	for (;;) {
		size_t running = 0;

		for (size_t i = 0; i < port->thread_count; i++) {
			struct thread *thread = &port->threads[i];
			int status, rc;
			pid_t got;

			if (thread->state != THREAD_SEIZED)
				continue;
			got = waitpid(thread->tid, &status, __WALL | WNOHANG);
			if (got == 0 && next_pause(start_ns) == PAUSE_MAX_NS &&
			    (leader_ended(port, thread->tid) || process_kernel_worker(thread->tid)))
				got = -1;
			if (got == 0) {
				running++;
				continue;
			}
			if (got < 0) {
				thread->state = THREAD_GONE;
				continue;
			}
			rc = thread_stopped(thread, status);
			if (rc)
				return rc;
			if (!budget_left(port))
				return over_budget(port, port->thread_count, 0);
		}
		if (!running)
			return 0;
		if (!budget_left(port))
			return over_budget(port, port->thread_count, 0);
		if (clock_ns() >= end_ns)
			return too_late(port, running);
		port_pause(port, next_pause(start_ns));
	}
}

static void drop_gone(struct port *port)
{
	size_t kept = 0;

	for (size_t i = 0; i < port->thread_count; i++)
		if (port->threads[i].state != THREAD_GONE)
			port->threads[kept++] = port->threads[i];
	port->thread_count = kept;
}

int port_stop(struct port *port, uint64_t deadline_ns)
{
	uint64_t end_ns;
	int rc = 0;

	port->stop_start_ns = 0;
	process_maps_free(&port->maps);
	rc = process_maps_read(process_member(port->pid), &port->maps);
	if (rc) {
		port_error(port, "process %d is gone", port->pid);
		return rc;
	}
	raise_priority(port);
	end_ns = clock_ns() + deadline_ns;
	/* Threads that an earlier, failed try left traced are still in the list; the kernel has let
	 * go of them if the thread that traced them has ended. */
	if (port->thread_count)
		port->stop_start_ns = clock_ns();
	for (size_t i = 0; i < port->thread_count; i++)
		if (ptrace(PTRACE_INTERRUPT, port->threads[i].tid, NULL, NULL))
			port->threads[i].state = THREAD_GONE;
	drop_gone(port);
	do {
		rc = seize_new(port);
		if (rc >= 0) {
			int waited = wait_all(port, end_ns);

			rc = waited ? waited : rc;
		}
		drop_gone(port);
	} while (rc > 0);
	if (rc == 0 && port->thread_count == 0)
		rc = -ESRCH;
	if (rc == -ESRCH)
		port_error(port, "process %d is gone", port->pid);
	port->stopped = true;
	if (rc)
		port_resume(port);
	return rc;
}

void thread_resume(struct thread *thread)
{
	if (thread->state == THREAD_STOPPED)
		ptrace(PTRACE_DETACH, thread->tid, NULL, (void *)(intptr_t)thread->signal);
	thread->state = THREAD_GONE;
}

int thread_wait(pid_t tid, uint64_t deadline_ns, int *status)
{
	uint64_t start_ns = clock_ns(), end_ns = start_ns + deadline_ns;

	for (;;) {
		pid_t got = waitpid(tid, status, __WALL | WNOHANG);

		if (got == tid)
			return WIFSTOPPED(*status) ? 0 : -ESRCH;
		if (got < 0)
			return -ESRCH;
		if (clock_ns() >= end_ns)
			return -ETIMEDOUT;
		port_pause(NULL, next_pause(start_ns));
	}
}

/* Let those go that have come to rest since they were asked to. Returns how many have not. */
static size_t resume_late(struct port *port)
{
	size_t late = 0;

	for (size_t i = 0; i < port->thread_count; i++) {
		struct thread *thread = &port->threads[i];
		int status;
		pid_t got;

		if (thread->state != THREAD_SEIZED || !thread->interrupted)
			continue;
		got = waitpid(thread->tid, &status, __WALL | WNOHANG);
		late += got == 0;
		if (got == thread->tid && !thread_stopped(thread, status))
			thread_resume(thread);
		else if (got)
			thread->state = THREAD_GONE;
	}
	return late;
}

/*
 * What a stop that was given up has left traced. Those that were asked to stop come to rest sooner
 * or later, and would stand still until the next try. Those that were not would stop at their next
 * clone; detaching needs a thread at rest, so each is brought there alone, and is away for
 * microseconds. One that does not come to rest (the parent of a vfork) stays in the list.
 */
static void let_go(struct port *port)
{
	uint64_t start_ns = clock_ns();

	while (resume_late(port) && clock_ns() - start_ns < LET_GO_NS)
		port_pause(port, next_pause(start_ns));
	for (size_t i = 0; i < port->thread_count && clock_ns() - start_ns < LET_GO_ALL_NS; i++) {
		struct thread *thread = &port->threads[i];
		int status, rc;

		if (thread->state != THREAD_SEIZED || thread->interrupted)
			continue;
		thread->interrupted = true;
		if (ptrace(PTRACE_INTERRUPT, thread->tid, NULL, NULL)) {
			thread->state = THREAD_GONE;
			continue;
		}
		rc = thread_wait(thread->tid, LET_GO_NS, &status);
		if (!rc && !thread_stopped(thread, status))
			thread_resume(thread);
		else if (rc != -ETIMEDOUT)
			thread->state = THREAD_GONE;
	}
	(void)resume_late(port);
	drop_gone(port);
}

void port_resume(struct port *port)
{
	size_t kept = 0;

	for (size_t i = 0; i < port->thread_count; i++) {
		/* One that never stopped can not be detached now: it is interrupted again by the
		 * next try, or let go by the kernel when the tracing thread ends. */
		if (port->threads[i].state == THREAD_SEIZED)
			port->threads[kept++] = port->threads[i];
		else
			thread_resume(&port->threads[i]);
	}
	port->thread_count = kept;
	if (port->budget_ns)
		(void)resume_late(port); /* most have come to rest by now */
	if (port->stop_start_ns)
		port->stop_ns = clock_ns() - port->stop_start_ns;
	port->stopped = false;
	restore_priority(port);
	if (port->budget_ns && kept)
		let_go(port);
}

int thread_stop(struct port *port, pid_t tid, uint64_t deadline_ns, struct thread *thread)
{
	int status, rc;

	*thread = (struct thread){.tid = tid, .state = THREAD_SEIZED};
	/* One that an earlier, failed stop left traced may have come to rest by now. */
	for (size_t i = 0; i < port->thread_count; i++)
		if (port->threads[i].tid == tid)
			port->threads[i].state = THREAD_GONE;
	drop_gone(port);
	rc = seize(port, tid, 0);
	if (rc <= 0)
		return rc ? rc : -ESRCH;
	if (ptrace(PTRACE_INTERRUPT, tid, NULL, NULL))
		return -ESRCH;
	rc = thread_wait(tid, deadline_ns, &status);
	if (rc == -ETIMEDOUT) {
		/* Remembered, so that the next try does not take it for somebody else's. */
		add_thread(port, tid);
		return rc;
	}
	if (rc)
		return rc;
	rc = thread_stopped(thread, status);
	return rc ? rc : thread->state == THREAD_STOPPED ? 0 : -ESRCH;
}
