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

/* --- signals: one real-time signal that is handled, one that is only waited for ------------ */
#define HANDLED (SIGRTMIN + 1)
#define WAITED  (SIGRTMIN + 2)

static void handler(int signal)
{
	(void)signal;
	if (mine)
		mine->handled = true;
}

static sigset_t set_of(int signal)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, signal);
	return set;
}

static void wake_handled(struct slot *s)
{
	syscall(SYS_tgkill, s->pid, s->tid, HANDLED);
}
static void wake_waited(struct slot *s)
{
	syscall(SYS_tgkill, s->pid, s->tid, WAITED);
}

/* --- objects that several forms wait on ------------------------------------------------------ */
static void prepare_none(struct slot *s)
{
	(void)s;
}
static void prepare_pipe(struct slot *s)
{
	must(!pipe(s->fd), "pipe");
}
static void wake_byte(struct slot *s)
{
	must(write(s->fd[1], "x", 1) == 1, "wake");
}

static void prepare_stream(struct slot *s)
{
	must(!socketpair(AF_UNIX, SOCK_STREAM, 0, s->fd), "socketpair");
}

static void prepare_datagram(struct slot *s)
{
	must(!socketpair(AF_UNIX, SOCK_DGRAM, 0, s->fd), "socketpair");
}

static long block_read(struct slot *s)
{
	char byte;

	return read(s->fd[0], &byte, 1);
}

/* Reading everything that was stuffed in lets the writer go on. */
static void wake_drain(struct slot *s)
{
	char buffer[65536];

	fcntl(s->fd[0], F_SETFL, fcntl(s->fd[0], F_GETFL) | O_NONBLOCK);
	while (read(s->fd[0], buffer, sizeof buffer) > 0)
		;
}

static void stuff(int fd)
{
	static char buffer[4096];

	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	while (write(fd, buffer, sizeof buffer) > 0)
		;
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
}

/* --- read and write -------------------------------------------------------------------------- */
static void prepare_pty(struct slot *s)
{
	struct termios raw;
	char name[64];

	s->fd[1] = posix_openpt(O_RDWR | O_NOCTTY);
	must(s->fd[1] >= 0 && !grantpt(s->fd[1]) && !unlockpt(s->fd[1]) &&
	             !ptsname_r(s->fd[1], name, sizeof name),
	     "pty");
	s->fd[0] = open(name, O_RDWR | O_NOCTTY);
	must(s->fd[0] >= 0 && !tcgetattr(s->fd[0], &raw), "pty");
	cfmakeraw(&raw);
	must(!tcsetattr(s->fd[0], TCSANOW, &raw), "pty");
}

static long block_read_8(struct slot *s)
{
	uint64_t value;

	return read(s->fd[0], &value, sizeof value);
}

static void prepare_eventfd(struct slot *s)
{
	must((s->fd[0] = eventfd(0, 0)) >= 0, "eventfd");
}

static void wake_eventfd(struct slot *s)
{
	uint64_t one = 1;

	must(write(s->fd[0], &one, sizeof one) == sizeof one, "eventfd");
}

static long block_signalfd(struct slot *s)
{
	struct signalfd_siginfo info;
	sigset_t set = set_of(WAITED);

	s->fd[0] = signalfd(-1, &set, 0);
	return read(s->fd[0], &info, sizeof info);
}

static void prepare_timerfd(struct slot *s)
{
	struct itimerspec far = {.it_value.tv_sec = 3600};

	s->fd[0] = timerfd_create(CLOCK_MONOTONIC, 0);
	must(s->fd[0] >= 0 && !timerfd_settime(s->fd[0], 0, &far, NULL), "timerfd");
}

static void wake_timerfd(struct slot *s)
{
	struct itimerspec soon = {.it_value.tv_nsec = 1};

	timerfd_settime(s->fd[0], 0, &soon, NULL);
}

static void prepare_inotify(struct slot *s)
{
	char name[] = "/tmp/blocking-XXXXXX";

	s->fd[1] = mkstemp(name);
	s->fd[0] = inotify_init1(0);
	must(s->fd[1] >= 0 && s->fd[0] >= 0 && inotify_add_watch(s->fd[0], name, IN_MODIFY) >= 0,
	     "inotify");
	unlink(name);
}

static long block_inotify(struct slot *s)
{
	char buffer[512] __attribute__((aligned(8)));

	return read(s->fd[0], buffer, sizeof buffer);
}

static long block_readv(struct slot *s)
{
	char a, b;
	struct iovec vector[2] = {{&a, 1}, {&b, 1}};

	return readv(s->fd[0], vector, 2);
}

static void prepare_full_pipe(struct slot *s)
{
	prepare_pipe(s);
	stuff(s->fd[1]);
}

static long block_write(struct slot *s)
{
	return write(s->fd[1], "0123456789", 10);
}

/* --- sockets --------------------------------------------------------------------------------- */
static long block_recv(struct slot *s)
{
	char byte;

	return recv(s->fd[0], &byte, 1, 0);
}

static long block_recv_timeout(struct slot *s)
{
	struct timeval limit = {timeout_ns / 1000000000, timeout_ns / 1000 % 1000000};

	must(!setsockopt(s->fd[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), "SO_RCVTIMEO");
	return block_recv(s);
}

static long block_recvmsg(struct slot *s)
{
	char byte;
	struct iovec vector = {&byte, 1};
	struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};

	return recvmsg(s->fd[0], &message, 0);
}

static long block_recvmmsg(struct slot *s)
{
	char byte;
	struct iovec vector = {&byte, 1};
	struct mmsghdr message = {.msg_hdr = {.msg_iov = &vector, .msg_iovlen = 1}};

	return recvmmsg(s->fd[0], &message, 1, 0, NULL);
}

static void prepare_accept(struct slot *s)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
	                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	s->fd[0] = socket(AF_INET, SOCK_STREAM, 0);
	must(s->fd[0] >= 0 && !bind(s->fd[0], (struct sockaddr *)&address, sizeof address) &&
	             !listen(s->fd[0], 1),
	     "listen");
}

static long block_accept(struct slot *s)
{
	return accept(s->fd[0], NULL, NULL) >= 0 ? 1 : -1;
}

static void wake_accept(struct slot *s)
{
	struct sockaddr_in address;
	socklen_t length = sizeof address;

	getsockname(s->fd[0], (struct sockaddr *)&address, &length);
	s->fd[1] = socket(AF_INET, SOCK_STREAM, 0);
	must(!connect(s->fd[1], (struct sockaddr *)&address, length), "connect");
}

/* An unbound address: the kernel gives the listener an abstract name. */
static int connect_to(int listener, int flags)
{
	struct sockaddr_un address;
	socklen_t length = sizeof address;
	int fd = socket(AF_UNIX, SOCK_STREAM | flags, 0);

	getsockname(listener, (struct sockaddr *)&address, &length);
	return connect(fd, (struct sockaddr *)&address, length);
}

static void prepare_connect(struct slot *s)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	s->fd[0] = socket(AF_UNIX, SOCK_STREAM, 0);
	must(s->fd[0] >= 0 && !bind(s->fd[0], (struct sockaddr *)&address, sizeof(sa_family_t)) &&
	             !listen(s->fd[0], 0),
	     "listen");
	while (!connect_to(s->fd[0], SOCK_NONBLOCK))
		;
	must(errno == EAGAIN, "fill the backlog");
}

static long block_connect(struct slot *s)
{
	return connect_to(s->fd[0], 0);
}
static void wake_connect(struct slot *s)
{
	must(accept(s->fd[0], NULL, NULL) >= 0, "accept");
}

static void prepare_full_socket(struct slot *s)
{
	prepare_stream(s);
	stuff(s->fd[1]);
}

static long block_send(struct slot *s)
{
	return send(s->fd[1], "0123456789", 10, 0);
}

/* --- waiting for several files --------------------------------------------------------------- */
static long poll_for(struct slot *s, int timeout_ms)
{
	struct pollfd file = {.fd = s->fd[0], .events = POLLIN};

	return poll(&file, 1, timeout_ms);
}

static long block_poll(struct slot *s)
{
	return poll_for(s, -1);
}
static long block_poll_timeout(struct slot *s)
{
	return poll_for(s, timeout_ns / 1000000);
}

static long block_ppoll(struct slot *s)
{
	struct pollfd file = {.fd = s->fd[0], .events = POLLIN};
	struct timespec limit = span(timeout_ns);
	sigset_t none;

	sigemptyset(&none);
	return ppoll(&file, 1, &limit, &none);
}

/* Through syscall(): the library's select() may use pselect6. */
static long block_select(struct slot *s)
{
	struct timeval limit = {timeout_ns / 1000000000, timeout_ns / 1000 % 1000000};
	fd_set set;

	FD_ZERO(&set);
	FD_SET(s->fd[0], &set);
	return syscall(SYS_select, s->fd[0] + 1, &set, NULL, NULL, &limit);
}

static long block_pselect(struct slot *s)
{
	struct timespec limit = span(timeout_ns);
	fd_set set;
	sigset_t none;

	FD_ZERO(&set);
	FD_SET(s->fd[0], &set);
	sigemptyset(&none);
	return pselect(s->fd[0] + 1, &set, NULL, NULL, &limit, &none);
}

static int epoll_on(int fd)
{
	struct epoll_event event = {.events = EPOLLIN};
	int epoll = epoll_create1(0);

	must(epoll >= 0 && !epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event), "epoll");
	return epoll;
}

static long block_epoll_wait(struct slot *s)
{
	struct epoll_event event;

	return syscall(SYS_epoll_wait, epoll_on(s->fd[0]), &event, 1, -1);
}

static long block_epoll_wait_timeout(struct slot *s)
{
	struct epoll_event event;

	return syscall(SYS_epoll_wait, epoll_on(s->fd[0]), &event, 1, (int)(timeout_ns / 1000000));
}

static long block_epoll_pwait(struct slot *s)
{
	struct epoll_event event;
	sigset_t none;

	sigemptyset(&none);
	return epoll_pwait(epoll_on(s->fd[0]), &event, 1, -1, &none);
}

static long block_epoll_pwait2(struct slot *s)
{
	struct epoll_event event;
	struct timespec limit = span(timeout_ns);

	return syscall(SYS_epoll_pwait2, epoll_on(s->fd[0]), &event, 1, &limit, NULL, 0);
}

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
