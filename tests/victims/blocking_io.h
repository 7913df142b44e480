// SPDX-License-Identifier: MIT
/* blocking_io.h - forms of blocking.c that wait for files: signals, pipes, sockets, polls. */
#ifndef BLOCKING_IO_H
#define BLOCKING_IO_H

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

#endif
