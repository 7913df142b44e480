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
	if (process_ended(tid))
		return 0; /* a zombie can not be seized, and need not be */
	port_error(port, "not permitted to trace thread %d of process %d", tid, port->pid);
	return -EPERM;
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
	if (!port->stop_start_ns)
		port->stop_start_ns = clock_ns();
	for (size_t i = first; i < port->thread_count; i++)
		ptrace(PTRACE_INTERRUPT, port->threads[i].tid, NULL, NULL);
	return (int)(port->thread_count - first);
}

/* A leader that ends before its threads never stops, and is not reported until they have ended. */
static bool leader_ended(const struct port *port, pid_t tid)
{
	return tid == port->pid && process_member(tid) != tid;
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
			    leader_ended(port, thread->tid))
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
		}
		if (!running)
			return 0;
		if (clock_ns() >= end_ns) {
			port_error(port, "%zu of %zu threads of process %d did not stop in time",
			           running, port->thread_count, port->pid);
			return -ETIMEDOUT;
		}
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
	if (port->stop_start_ns)
		port->stop_ns = clock_ns() - port->stop_start_ns;
	port->stopped = false;
	restore_priority(port);
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
