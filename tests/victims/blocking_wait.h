// SPDX-License-Identifier: MIT
/* blocking_wait.h - forms of blocking.c that wait for anything else: futexes, time, signals,
 * children, locks, queues. */
#ifndef BLOCKING_WAIT_H
#define BLOCKING_WAIT_H

/* --- futexes and what is built on them ------------------------------------------------------- */
static long block_futex(struct slot *s)
{
	return syscall(SYS_futex, &s->word, FUTEX_WAIT, 0, NULL, NULL, 0);
}

static long block_futex_timeout(struct slot *s)
{
	struct timespec limit = span(timeout_ns);

	return syscall(SYS_futex, &s->word, FUTEX_WAIT, 0, &limit, NULL, 0);
}

static void wake_futex(struct slot *s)
{
	__atomic_store_n(&s->word, 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &s->word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void prepare_cond(struct slot *s)
{
	pthread_mutexattr_t mutex;
	pthread_condattr_t cond;

	pthread_mutexattr_init(&mutex);
	pthread_mutexattr_setpshared(&mutex, PTHREAD_PROCESS_SHARED);
	pthread_mutex_init(&s->mutex, &mutex);
	pthread_condattr_init(&cond);
	pthread_condattr_setpshared(&cond, PTHREAD_PROCESS_SHARED);
	pthread_cond_init(&s->cond, &cond);
}

static long block_cond(struct slot *s)
{
	struct timespec limit = until(CLOCK_REALTIME);
	int error;

	pthread_mutex_lock(&s->mutex);
	error = pthread_cond_timedwait(&s->cond, &s->mutex, &limit);
	if (!error && !s->signalled)
		error = EINTR; /* a spurious wakeup nobody but the tool can have caused */
	pthread_mutex_unlock(&s->mutex);
	errno = error;
	return error ? -1 : 0;
}

static void wake_cond(struct slot *s)
{
	pthread_mutex_lock(&s->mutex);
	s->signalled = true;
	pthread_cond_signal(&s->cond);
	pthread_mutex_unlock(&s->mutex);
}

static void prepare_sem(struct slot *s)
{
	must(!sem_init(&s->sem, 1, 0), "sem_init");
}
static long block_sem_wait(struct slot *s)
{
	return sem_wait(&s->sem);
}
static void wake_sem(struct slot *s)
{
	sem_post(&s->sem);
}

static long block_sem_timedwait(struct slot *s)
{
	struct timespec limit = until(CLOCK_REALTIME);

	return sem_timedwait(&s->sem, &limit);
}

/* --- sleeping: ended by a handled signal, the time left must be right ------------------------ */
static long slept(struct slot *s, int error, const struct timespec *left)
{
	if (left && error)
		s->remaining_ns = left->tv_sec * INT64_C(1000000000) + left->tv_nsec;
	errno = error;
	return error ? -1 : 0;
}

static long block_nanosleep(struct slot *s)
{
	struct timespec limit = span(timeout_ns), left = {0, 0};

	return slept(s, syscall(SYS_nanosleep, &limit, &left) ? errno : 0, &left);
}

static long block_clock_nanosleep(struct slot *s)
{
	struct timespec limit = span(timeout_ns), left = {0, 0};

	return slept(s, clock_nanosleep(CLOCK_MONOTONIC, 0, &limit, &left), &left);
}

static long block_clock_nanosleep_until(struct slot *s)
{
	struct timespec limit = until(CLOCK_MONOTONIC);

	return slept(s, clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &limit, NULL), NULL);
}

/* --- waiting for signals --------------------------------------------------------------------- */
static long block_pause(struct slot *s)
{
	(void)s;
	return pause();
}

static long block_sigsuspend(struct slot *s)
{
	sigset_t handled = set_of(HANDLED), none;

	(void)s;
	sigprocmask(SIG_BLOCK, &handled, NULL);
	sigemptyset(&none);
	return sigsuspend(&none);
}

static long block_sigtimedwait(struct slot *s)
{
	sigset_t set = set_of(WAITED);
	struct timespec limit = span(timeout_ns);

	(void)s;
	return sigtimedwait(&set, NULL, &limit) == WAITED ? 1 : -1;
}

static long block_sigwaitinfo(struct slot *s)
{
	sigset_t set = set_of(WAITED);

	(void)s;
	return sigwaitinfo(&set, NULL) == WAITED ? 1 : -1;
}

/* --- waiting for a child that lives until it is told ----------------------------------------- */
static pid_t child_of(struct slot *s)
{
	pid_t child = fork();
	char byte;

	must(child >= 0, "fork");
	if (child)
		return child;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	must(read(s->fd[0], &byte, 1) == 1, "child");
	_exit(7);
}

static long block_waitpid(struct slot *s)
{
	int status = 0;

	if (waitpid(child_of(s), &status, 0) < 0)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -2;
}

static long block_waitid(struct slot *s)
{
	siginfo_t info = {0};

	if (waitid(P_PID, child_of(s), &info, WEXITED))
		return -1;
	return info.si_code == CLD_EXITED ? info.si_status : -2;
}

/* --- locks: the waking side holds them through a file description of its own ----------------- */
static void prepare_lock(struct slot *s)
{
	char name[] = "/tmp/blocking-XXXXXX";

	s->fd[1] = mkstemp(name);
	s->fd[0] = open(name, O_RDWR);
	must(s->fd[1] >= 0 && s->fd[0] >= 0, name);
	unlink(name);
}

static void prepare_flock(struct slot *s)
{
	prepare_lock(s);
	must(!flock(s->fd[1], LOCK_EX), "flock");
}

static long block_flock(struct slot *s)
{
	return flock(s->fd[0], LOCK_EX);
}
static void wake_flock(struct slot *s)
{
	flock(s->fd[1], LOCK_UN);
}

static void prepare_ofd(struct slot *s)
{
	struct flock lock = {.l_type = F_WRLCK};

	prepare_lock(s);
	must(!fcntl(s->fd[1], F_OFD_SETLK, &lock), "F_OFD_SETLK");
}

static long block_ofd(struct slot *s)
{
	struct flock lock = {.l_type = F_WRLCK};

	return fcntl(s->fd[0], F_OFD_SETLKW, &lock);
}

static void wake_ofd(struct slot *s)
{
	struct flock lock = {.l_type = F_UNLCK};

	fcntl(s->fd[1], F_OFD_SETLK, &lock);
}

/* --- System V and POSIX queues, semaphores --------------------------------------------------- */
struct message {
	long type;
	char text[1024];
};

static void prepare_queue(struct slot *s)
{
	must((s->id = msgget(IPC_PRIVATE, 0600)) >= 0, "msgget");
}

static void prepare_full_queue(struct slot *s)
{
	struct message message = {.type = 1};

	prepare_queue(s);
	while (!msgsnd(s->id, &message, sizeof message.text, IPC_NOWAIT))
		;
}

static long block_msgrcv(struct slot *s)
{
	struct message message;

	return msgrcv(s->id, &message, sizeof message.text, 0, 0);
}

static long block_msgsnd(struct slot *s)
{
	struct message message = {.type = 2};

	return msgsnd(s->id, &message, sizeof message.text, 0);
}

static void wake_msgrcv(struct slot *s)
{
	struct message message = {.type = 1};

	must(!msgsnd(s->id, &message, 5, IPC_NOWAIT), "msgsnd");
}

static void wake_msgsnd(struct slot *s)
{
	struct message message;

	must(msgrcv(s->id, &message, sizeof message.text, 1, IPC_NOWAIT) >= 0, "msgrcv");
}

static void prepare_semaphore(struct slot *s)
{
	must((s->id = semget(IPC_PRIVATE, 1, 0600)) >= 0, "semget");
}

static long block_semop(struct slot *s)
{
	struct sembuf down = {.sem_op = -1};

	return syscall(SYS_semop, s->id, &down, 1); /* the library's semop() may use semtimedop */
}

static long block_semtimedop(struct slot *s)
{
	struct sembuf down = {.sem_op = -1};
	struct timespec limit = span(timeout_ns);

	return semtimedop(s->id, &down, 1, &limit);
}

static void wake_semaphore(struct slot *s)
{
	struct sembuf up = {.sem_op = 1};

	semop(s->id, &up, 1);
}

static void prepare_mq(struct slot *s)
{
	struct mq_attr attributes = {.mq_maxmsg = 1, .mq_msgsize = 16};
	static int serial;
	char name[64];

	snprintf(name, sizeof name, "/blocking-%d-%d", getpid(), serial++);
	s->id = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &attributes);
	must(s->id >= 0, "mq_open");
	mq_unlink(name);
}

static void prepare_full_mq(struct slot *s)
{
	prepare_mq(s);
	must(!mq_send(s->id, "full", 4, 0), "mq_send");
}

static long block_mq_receive(struct slot *s)
{
	char text[16];

	return mq_receive(s->id, text, sizeof text, NULL);
}

static long block_mq_timedreceive(struct slot *s)
{
	struct timespec limit = until(CLOCK_REALTIME);
	char text[16];

	return mq_timedreceive(s->id, text, sizeof text, NULL, &limit);
}

static long block_mq_send(struct slot *s)
{
	return mq_send(s->id, "more", 4, 0);
}
static void wake_mq_receive(struct slot *s)
{
	must(!mq_send(s->id, "three", 5, 0), "mq_send");
}

static void wake_mq_send(struct slot *s)
{
	char text[16];

	must(mq_receive(s->id, text, sizeof text, NULL) == 4, "mq_receive");
}

/* --- asynchronous I/O: contexts are not inherited, so the blocked side submits a poll -------- */
static long get_events(struct slot *s, struct timespec *limit)
{
	aio_context_t context = 0;
	struct iocb poll_request = {
	        .aio_lio_opcode = IOCB_CMD_POLL, .aio_fildes = s->fd[0], .aio_buf = POLLIN};
	struct iocb *requests[1] = {&poll_request};
	struct io_event event;

	must(!syscall(SYS_io_setup, 1, &context) &&
	             syscall(SYS_io_submit, context, 1, requests) == 1,
	     "io_submit");
	return syscall(SYS_io_getevents, context, 1, 1, &event, limit);
}

static long block_io_getevents(struct slot *s)
{
	return get_events(s, NULL);
}

static long block_io_getevents_timeout(struct slot *s)
{
	struct timespec limit = span(timeout_ns);

	return get_events(s, &limit);
}

#endif
