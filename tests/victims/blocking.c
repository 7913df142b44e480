/* SPDX-License-Identifier: MIT */
/*
 * blocking - threads or processes that each sit in one blocking system call.
 *
 *     blocking threads|processes TIMEOUT_MS [FORM...]
 *
 * `threads`: every form in a thread of its own. `processes`: every form in a single-threaded
 * process of its own, so that whoever wants a system call made there has to take that very
 * thread. Timed forms get TIMEOUT_MS as their timeout; naming forms leaves the others out.
 *
 * Prints `form NAME PID TID NUMBER TIMED` for each, then `ready`, and obeys lines on stdin:
 *     status   NAME waiting | NAME returned RESULT ERRNO …, then `end`
 *     wake     makes every call return the way its caller wants; NAME right | NAME wrong …, `end`
 *     expire   waits for the timed forms to time out; NAME right | NAME wrong …, `end`
 *     quit
 *
 * A form that has returned before `wake` or its timeout is what the test looks for: a call that
 * somebody's ptrace stop made visible to the program.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/futex.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

/* One form's state, in memory that the waking side and the blocked side share. */
struct slot {
	pid_t pid, tid;
	int fd[2];     /* [0] is waited on, [1] wakes; as the form likes */
	int id;        /* System V object */
	uint32_t word; /* futex */
	sem_t sem;
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	bool signalled; /* predicate of cond */
	bool handled;   /* a handler ran */
	long result;
	int error;
	int64_t started_ns, returned_ns;
	int64_t remaining_ns;
	bool returned;
};

struct form {
	const char *name;
	long number;                    /* of the system call seen in /proc/TID/syscall */
	void (*prepare)(struct slot *); /* before the thread or process exists */
	long (*block)(struct slot *);   /* sets errno */
	void (*wake)(struct slot *);
	long result; /* expected after wake */
	int error;
	bool timed;
	long expired_result; /* expected after the timeout */
	int expired_error;
};

static int64_t timeout_ns;
static struct slot *slots;
static __thread struct slot *mine;

/* The site that the tests probe: called once by every form after its call has returned. */
__attribute__((noinline)) int form_returned(int error)
{
	static volatile int last;

	last = error;
	return last + 1;
}

static void must(bool condition, const char *what)
{
	if (condition)
		return;
	fprintf(stderr, "blocking: %s: %s\n", what, strerror(errno));
	_exit(3);
}

static int64_t now_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static struct timespec span(int64_t ns)
{
	return (struct timespec){ns / 1000000000, ns % 1000000000};
}

static struct timespec until(clockid_t clock)
{
	return span(now_ns(clock) + timeout_ns);
}

#include "blocking_io.h"
#include "blocking_wait.h"

/* --- the table ------------------------------------------------------------------------------- */
#define FORM(text, nr, preparing, blocking, waking, ...)                                           \
	{                                                                                          \
		.name = text, .number = SYS_##nr, .prepare = prepare_##preparing,                  \
		.block = block_##blocking, .wake = wake_##waking, .result = __VA_ARGS__            \
	}
/* FORM(..., result [, error] [, AFTER_TIMEOUT(result, error)]) */
#define AFTER_TIMEOUT(result, error) .timed = true, .expired_result = result, .expired_error = error

static const struct form forms[] = {
        FORM("read-pipe", read, pipe, read, byte, 1),
        FORM("read-pty", read, pty, read, byte, 1),
        FORM("read-eventfd", read, eventfd, read_8, eventfd, 8),
        FORM("read-signalfd", read, none, signalfd, waited, sizeof(struct signalfd_siginfo)),
        FORM("read-timerfd", read, timerfd, read_8, timerfd, 8),
        FORM("read-inotify", read, inotify, inotify, byte, sizeof(struct inotify_event)),
        FORM("readv", readv, pipe, readv, byte, 1),
        FORM("write-full-pipe", write, full_pipe, write, drain, 10),
        FORM("recv", recvfrom, stream, recv, byte, 1),
        FORM("recv-timeout", recvfrom, stream, recv_timeout, byte, 1, AFTER_TIMEOUT(-1, EAGAIN)),
        FORM("recvmsg", recvmsg, stream, recvmsg, byte, 1),
        FORM("recvmmsg", recvmmsg, datagram, recvmmsg, byte, 1),
        FORM("accept", accept, accept, accept, accept, 1),
        FORM("connect-full-backlog", connect, connect, connect, connect, 0),
        FORM("send-full-socket", sendto, full_socket, send, drain, 10),
        FORM("poll", poll, pipe, poll, byte, 1),
        FORM("poll-timeout", poll, pipe, poll_timeout, byte, 1, AFTER_TIMEOUT(0, 0)),
        FORM("ppoll", ppoll, pipe, ppoll, byte, 1, AFTER_TIMEOUT(0, 0)),
        FORM("select", select, pipe, select, byte, 1, AFTER_TIMEOUT(0, 0)),
        FORM("pselect6", pselect6, pipe, pselect, byte, 1, AFTER_TIMEOUT(0, 0)),
        FORM("epoll_wait", epoll_wait, pipe, epoll_wait, byte, 1),
        FORM("epoll_wait-timeout", epoll_wait, pipe, epoll_wait_timeout, byte, 1,
             AFTER_TIMEOUT(0, 0)),
        FORM("epoll_pwait", epoll_pwait, pipe, epoll_pwait, byte, 1),
        FORM("epoll_pwait2", epoll_pwait2, pipe, epoll_pwait2, byte, 1, AFTER_TIMEOUT(0, 0)),
        FORM("futex", futex, none, futex, futex, 0),
        FORM("futex-timeout", futex, none, futex_timeout, futex, 0, AFTER_TIMEOUT(-1, ETIMEDOUT)),
        FORM("pthread_cond_timedwait", futex, cond, cond, cond, 0, AFTER_TIMEOUT(-1, ETIMEDOUT)),
        FORM("sem_wait", futex, sem, sem_wait, sem, 0),
        FORM("sem_timedwait", futex, sem, sem_timedwait, sem, 0, AFTER_TIMEOUT(-1, ETIMEDOUT)),
        FORM("nanosleep", nanosleep, none, nanosleep, handled, -1, EINTR, AFTER_TIMEOUT(0, 0)),
        FORM("clock_nanosleep", clock_nanosleep, none, clock_nanosleep, handled, -1, EINTR,
             AFTER_TIMEOUT(0, 0)),
        FORM("clock_nanosleep-until", clock_nanosleep, none, clock_nanosleep_until, handled, -1,
             EINTR, AFTER_TIMEOUT(0, 0)),
        FORM("pause", pause, none, pause, handled, -1, EINTR),
        FORM("sigsuspend", rt_sigsuspend, none, sigsuspend, handled, -1, EINTR),
        FORM("sigtimedwait", rt_sigtimedwait, none, sigtimedwait, waited, 1,
             AFTER_TIMEOUT(-1, EAGAIN)),
        FORM("sigwaitinfo", rt_sigtimedwait, none, sigwaitinfo, waited, 1),
        FORM("waitpid", wait4, pipe, waitpid, byte, 7),
        FORM("waitid", waitid, pipe, waitid, byte, 7),
        FORM("flock", flock, flock, flock, flock, 0),
        FORM("fcntl-ofd-setlkw", fcntl, ofd, ofd, ofd, 0),
        FORM("msgrcv", msgrcv, queue, msgrcv, msgrcv, 5),
        FORM("msgsnd-full-queue", msgsnd, full_queue, msgsnd, msgsnd, 0),
        FORM("semop", semop, semaphore, semop, semaphore, 0),
        FORM("semtimedop", semtimedop, semaphore, semtimedop, semaphore, 0,
             AFTER_TIMEOUT(-1, EAGAIN)),
        FORM("mq_receive", mq_timedreceive, mq, mq_receive, mq_receive, 5),
        FORM("mq_timedreceive", mq_timedreceive, mq, mq_timedreceive, mq_receive, 5,
             AFTER_TIMEOUT(-1, ETIMEDOUT)),
        FORM("mq_send-full-queue", mq_timedsend, full_mq, mq_send, mq_send, 0),
        FORM("io_getevents", io_getevents, pipe, io_getevents, byte, 1),
        FORM("io_getevents-timeout", io_getevents, pipe, io_getevents_timeout, byte, 1,
             AFTER_TIMEOUT(0, 0)),
};
#define FORMS (sizeof forms / sizeof *forms)

static bool chosen[FORMS];

static bool has_queue(size_t i)
{
	return !strncmp(forms[i].name, "msg", 3);
}

static bool has_semaphore(size_t i)
{
	return !strncmp(forms[i].name, "semop", 5) || !strncmp(forms[i].name, "semtimedop", 10);
}

static void remove_objects(void)
{
	for (size_t i = 0; i < FORMS; i++) {
		if (!chosen[i])
			continue;
		if (has_queue(i))
			msgctl(slots[i].id, IPC_RMID, NULL);
		if (has_semaphore(i))
			semctl(slots[i].id, 0, IPC_RMID);
	}
}

static void *run(void *arg)
{
	const struct form *form = arg;
	struct slot *s = mine = &slots[form - forms];
	sigset_t waited = set_of(WAITED);

	sigprocmask(SIG_BLOCK, &waited, NULL);
	s->pid = getpid();
	s->started_ns = now_ns(CLOCK_MONOTONIC);
	__atomic_store_n(&s->tid, (pid_t)syscall(SYS_gettid), __ATOMIC_RELEASE);
	errno = 0;
	s->result = form->block(s);
	s->error = s->result < 0 ? errno : 0;
	s->returned_ns = now_ns(CLOCK_MONOTONIC);
	form_returned(s->error);
	__atomic_store_n(&s->returned, true, __ATOMIC_RELEASE);
	for (;;)
		pause();
	return NULL;
}

static void start(size_t i, bool threads)
{
	pthread_t thread;
	pid_t child;

	if (threads) {
		must(!pthread_create(&thread, NULL, run, (void *)&forms[i]), "pthread_create");
		return;
	}
	child = fork();
	must(child >= 0, "fork");
	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		run((void *)&forms[i]);
	}
}

static bool has_returned(size_t i)
{
	return __atomic_load_n(&slots[i].returned, __ATOMIC_ACQUIRE);
}

static void wait_returned(size_t i, int64_t limit_ns)
{
	for (int64_t waited = 0; !has_returned(i) && waited < limit_ns; waited += 1000000)
		usleep(1000);
}

static void status(void)
{
	for (size_t i = 0; i < FORMS; i++) {
		if (!chosen[i])
			continue;
		if (has_returned(i))
			printf("%s returned %ld %s\n", forms[i].name, slots[i].result,
			       slots[i].error ? strerrorname_np(slots[i].error) : "0");
		else
			printf("%s waiting\n", forms[i].name);
	}
	puts("end");
}

/* A sleep that was broken off must say how much of it was left: never less than the truth. */
static bool rest_is_right(const struct slot *s)
{
	return !s->remaining_ns ||
	       (s->remaining_ns <= timeout_ns &&
	        s->remaining_ns + (s->returned_ns - s->started_ns) >= timeout_ns - 10000000);
}

static void judge(size_t i, long result, int error, bool in_time)
{
	const struct slot *s = &slots[i];

	if (has_returned(i) && s->result == result && s->error == error && in_time &&
	    rest_is_right(s))
		printf("%s right\n", forms[i].name);
	else
		printf("%s wrong: returned=%d result %ld %s, expected %ld %s; %lld ms, %lld ms "
		       "left\n",
		       forms[i].name, has_returned(i), s->result,
		       s->error ? strerrorname_np(s->error) : "0", result,
		       error ? strerrorname_np(error) : "0",
		       (long long)(s->returned_ns - s->started_ns) / 1000000,
		       (long long)s->remaining_ns / 1000000);
}

static void wake(void)
{
	for (size_t i = 0; i < FORMS; i++) {
		bool early;

		if (!chosen[i])
			continue;
		early = has_returned(i);
		if (!early) {
			forms[i].wake(&slots[i]);
			wait_returned(i, INT64_C(10000000000));
		}
		judge(i, forms[i].result, forms[i].error, !early);
	}
	puts("end");
}

static void expire(void)
{
	for (size_t i = 0; i < FORMS; i++) {
		if (!chosen[i] || !forms[i].timed)
			continue;
		wait_returned(i, timeout_ns + INT64_C(20000000000));
		/* A clock that is read on another core or of another kind may lag by a little. */
		judge(i, forms[i].expired_result, forms[i].expired_error,
		      slots[i].returned_ns - slots[i].started_ns >= timeout_ns - 10000000);
	}
	puts("end");
}

static bool named(const struct form *form, int count, char **names)
{
	for (int i = 0; i < count; i++)
		if (!strcmp(names[i], form->name) || (!strcmp(names[i], "timed") && form->timed))
			return true;
	return !count;
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = handler};
	char line[64];
	bool threads;

	if (argc < 3 || (strcmp(argv[1], "threads") && strcmp(argv[1], "processes"))) {
		fprintf(stderr, "usage: blocking threads|processes TIMEOUT_MS [FORM...|timed]\n");
		return 2;
	}
	threads = !strcmp(argv[1], "threads");
	timeout_ns = atoll(argv[2]) * 1000000;
	setvbuf(stdout, NULL, _IOFBF, 1 << 16);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* Queues that nobody removes go away with a namespace of their own, where that is allowed.
	 */
	if (unshare(CLONE_NEWIPC))
		errno = 0;
	sigaction(HANDLED, &action, NULL);
	slots = mmap(NULL, sizeof *slots * FORMS, PROT_READ | PROT_WRITE,
	             MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	must(slots != MAP_FAILED, "mmap");
	for (size_t i = 0; i < FORMS; i++) {
		chosen[i] = named(&forms[i], argc - 3, argv + 3);
		if (chosen[i])
			forms[i].prepare(&slots[i]);
	}
	for (size_t i = 0; i < FORMS; i++) {
		if (!chosen[i])
			continue;
		start(i, threads);
		while (!__atomic_load_n(&slots[i].tid, __ATOMIC_ACQUIRE))
			usleep(100);
		printf("form %s %d %d %ld %d\n", forms[i].name, slots[i].pid, slots[i].tid,
		       forms[i].number, forms[i].timed);
	}
	puts("ready");
	fflush(stdout);
	while (fgets(line, sizeof line, stdin)) {
		if (!strcmp(line, "status\n"))
			status();
		else if (!strcmp(line, "wake\n"))
			wake();
		else if (!strcmp(line, "expire\n"))
			expire();
		else
			break;
		fflush(stdout);
	}
	remove_objects();
	return 0;
}
