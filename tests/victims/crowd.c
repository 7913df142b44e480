// SPDX-License-Identifier: MIT
/*
 * crowd - threads and processes in every awkward state, all of them calling `crowd_sum`.
 *
 * usage: crowd MODE
 *
 *   mass N     N threads, half of them spinning, half blocked in read()
 *   clones     8 threads that create and join threads for good
 *   vfork      the main thread is in vfork() whose child sleeps; others run on
 *   spawn      4 threads call posix_spawn() for good
 *   leaderless the main thread has ended, others run on
 *   forks      forks children for good that compute and exit; keeps 3 of them at a time
 *   share      another process, not a thread, computes in the same memory until it is killed; its
 *              number follows `ready`
 *   fault      a thread is in read() into a page that nobody fills in, others run on; `fill` does
 *   uring      2 threads run; the kernel keeps threads of its own in the process
 *   plain      2 threads run; `exec` makes it another program, this one with the mode `leaderless`
 *   family     `fork K N`: K children, each calls crowd_sum N times (answers `done WRONG`) and
 *              lives on; `again N`: each of them N times more; `bye`: ends them
 *
 * All but `family` say `ready` and then answer `state` with `state WRONG ROUNDS` and `quit`; for
 * `stick PATH` a new thread calls stat(PATH).
 * Calls of crowd_idle do not happen. WRONG counts wrong results, calls that failed, children
 * that died or found something wrong, and system calls that returned early.
 */
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/userfaultfd.h>
#include <spawn.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include "victim.h"

extern char **environ;

/* Shared with the children. */
static struct crowd {
	unsigned long wrong, rounds;
} * crowd;

/* `crowd_sum` is called a great many times; its first instruction is 5 bytes long. */
uint64_t crowd_sum(uint64_t x);
uint64_t crowd_idle(uint64_t x);
__asm__(".text\n.p2align 4\n.globl crowd_sum\n.type crowd_sum,@function\ncrowd_sum:\n"
        ".cfi_startproc\n	mov $0x51a76b35, %eax\n	imul %rdi, %rax\n"
        "	xor %rdi, %rax\n	ret\n.cfi_endproc\n.size crowd_sum,.-crowd_sum\n"
        ".p2align 4\n.globl crowd_idle\n.type crowd_idle,@function\ncrowd_idle:\n"
        ".cfi_startproc\n	mov $0x51a76b37, %eax\n	imul %rdi, %rax\n	ret\n"
        ".cfi_endproc\n.size crowd_idle,.-crowd_idle\n");

static void bad(bool is_bad)
{
	if (is_bad)
		__atomic_fetch_add(&crowd->wrong, 1, __ATOMIC_RELAXED);
}

static void compute(unsigned n)
{
	for (uint64_t x = 0; x < n; x++)
		bad(crowd_sum(x) != (x * 0x51a76b35 ^ x));
	__atomic_fetch_add(&crowd->rounds, 1, __ATOMIC_RELAXED);
}

static void *spin(void *arg)
{
	(void)arg;
	for (;;) {
		compute(200);
		sched_yield();
	}
	return NULL;
}

static int never[2]; /* a pipe that nobody writes to */

static void *block(void *arg)
{
	char c;

	(void)arg;
	(void)!read(never[0], &c, 1);
	bad(true); /* whatever it returned: nobody writes, and there is no signal */
	return NULL;
}

static void *brief(void *arg)
{
	compute(20);
	return arg;
}

static void start_all(void *(*run)(void *), void *arg, unsigned n)
{
	pthread_attr_t attr;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 64 * 1024);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	while (n--) {
		pthread_t thread;

		if (pthread_create(&thread, &attr, run, arg)) {
			perror("pthread_create");
			exit(2);
		}
	}
}

static void start(void *(*run)(void *), unsigned n)
{
	start_all(run, NULL, n);
}

static void *create_and_join(void *arg)
{
	(void)arg;
	for (;;) {
		pthread_t thread[3];
		bool ok[3];

		for (int i = 0; i < 3; i++)
			bad(!(ok[i] = !pthread_create(&thread[i], NULL, brief, NULL)));
		for (int i = 0; i < 3; i++)
			bad(ok[i] && pthread_join(thread[i], NULL));
		compute(20);
	}
	return NULL;
}

static void *spawn_for_good(void *arg)
{
	(void)arg;
	for (;;) {
		char *argv[] = {(char *)"true", NULL};
		pid_t child;
		int status;

		if (posix_spawn(&child, "/bin/true", NULL, NULL, argv, environ)) {
			bad(true);
			continue;
		}
		bad(waitpid(child, &status, 0) != child || status != 0);
		compute(50);
	}
	return NULL;
}

static int compute_for_good(void *arg)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	spin(arg);
	return 0;
}

/* In our memory, with our descriptors, but a process of its own. */
static pid_t share(void)
{
	enum { STACK = 64 * 1024 };
	char *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (stack == MAP_FAILED)
		return -1;
	return clone(compute_for_good, stack + STACK, CLONE_VM | CLONE_FILES | SIGCHLD, NULL);
}

static void *stuck(void *path)
{
	struct stat st;

	(void)!stat(path, &st);
	spin(NULL);
	return NULL;
}

static int faults = -1;
static char *missing; /* a page */

static bool make_missing(void)
{
	struct uffdio_api api = {.api = UFFD_API};
	struct uffdio_register range = {.range.len = 4096, .mode = UFFDIO_REGISTER_MODE_MISSING};

	faults = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	missing = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	range.range.start = (uintptr_t)missing;
	return faults >= 0 && missing != MAP_FAILED && ioctl(faults, UFFDIO_API, &api) == 0 &&
	       ioctl(faults, UFFDIO_REGISTER, &range) == 0;
}

static void fill(void)
{
	struct uffdio_zeropage page = {.range = {(uintptr_t)missing, 4096}};

	bad(ioctl(faults, UFFDIO_ZEROPAGE, &page) != 0);
}

static void *fault(void *arg)
{
	int zero = open("/dev/urandom", O_RDONLY);

	bad(read(zero, missing, 8) != 8); /* the kernel faults, in the middle of a system call */
	spin(arg);
	return NULL;
}

/* Polls for requests to come, for an hour. */
static bool make_uring(void)
{
	struct io_uring_params params = {.flags = IORING_SETUP_SQPOLL, .sq_thread_idle = 3600000};

	return syscall(SYS_io_uring_setup, 4, &params) >= 0;
}

static void *obey(void *arg)
{
	char line[256];

	victim_say("ready%s", arg ? (char *)arg : "");
	while (victim_line(line, sizeof line)) {
		if (!strcmp(line, "state"))
			victim_say("state %lu %lu",
			           __atomic_load_n(&crowd->wrong, __ATOMIC_RELAXED) +
			                   victim_state.wrong,
			           __atomic_load_n(&crowd->rounds, __ATOMIC_RELAXED));
		else if (!strncmp(line, "stick ", 6))
			start_all(stuck, strdup(line + 6), 1);
		else if (!strcmp(line, "fill"))
			fill();
		else if (!strcmp(line, "exec"))
			execl("/proc/self/exe", "crowd", "leaderless", NULL);
		else if (!strcmp(line, "quit"))
			break;
	}
	_exit(0);
}

static void obey_in_a_thread(void)
{
	start(obey, 1);
}

static pid_t forked(void)
{
	pid_t child = fork();

	if (!child)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return child;
}

static void fork_for_good(void)
{
	pid_t children[3] = {0};

	obey_in_a_thread();
	for (unsigned i = 0;; i = (i + 1) % 3) {
		int status;

		if (children[i])
			bad(waitpid(children[i], &status, 0) != children[i] || status != 0);
		children[i] = forked();
		if (!children[i]) {
			unsigned long before = crowd->wrong;

			compute(500);
			usleep(300);
			compute(500);
			_exit(crowd->wrong != before);
		}
		bad(children[i] < 0);
		compute(50);
	}
}

/* Children obey through a pipe each: a number of calls to make, answered by one byte. */
static void family(void)
{
	static struct {
		pid_t pid;
		int to, from;
	} child[64];
	unsigned k = 0, n;
	char line[64];

	victim_say("ready");
	while (victim_line(line, sizeof line)) {
		char c;

		if (sscanf(line, "fork %u %u", &k, &n) == 2 && k <= 64) {
			for (unsigned i = 0; i < k; i++) {
				int to[2], from[2];

				if (pipe(to) || pipe(from))
					_exit(2);
				child[i].to = to[1];
				child[i].from = from[0];
				child[i].pid = forked();
				if (!child[i].pid) {
					close(to[1]);
					close(from[0]);
					while (read(to[0], &n, sizeof n) == sizeof n) {
						compute(n);
						if (write(from[1], "", 1) != 1)
							break;
					}
					_exit(0);
				}
				close(to[0]);
				close(from[1]);
			}
		} else if (sscanf(line, "again %u", &n) != 1) {
			if (!strcmp(line, "bye"))
				break;
			if (!strcmp(line, "pids")) {
				printf("pids");
				for (unsigned i = 0; i < k; i++)
					printf(" %d", (int)child[i].pid);
				victim_say("%s", "");
			}
			continue;
		}
		for (unsigned i = 0; i < k; i++)
			bad(write(child[i].to, &n, sizeof n) != sizeof n);
		compute(n);
		for (unsigned i = 0; i < k; i++)
			bad(read(child[i].from, &c, 1) != 1);
		victim_say("done %lu", crowd->wrong);
	}
	_exit(0);
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";
	unsigned n = argc > 2 ? (unsigned)atoi(argv[2]) : 0;

	crowd = mmap(NULL, sizeof *crowd, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
	             0);
	if (crowd == MAP_FAILED || pipe(never))
		return 2;
	if (!strcmp(mode, "mass")) {
		start(spin, n / 2);
		start(block, n - n / 2 - 1);
		obey(NULL);
	} else if (!strcmp(mode, "clones")) {
		start(create_and_join, 8);
		obey(NULL);
	} else if (!strcmp(mode, "spawn")) {
		start(spawn_for_good, 4);
		obey(NULL);
	} else if (!strcmp(mode, "vfork")) {
		start(spin, 2);
		obey_in_a_thread();
		if (!vfork()) {
			/* The thread that vforked is suspended until this process ends. */
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			for (;;)
				syscall(SYS_nanosleep, &(struct timespec){.tv_sec = 1000}, NULL);
		}
	} else if (!strcmp(mode, "leaderless")) {
		start(spin, 4);
		obey_in_a_thread();
		pthread_exit(NULL);
	} else if (!strcmp(mode, "forks")) {
		fork_for_good();
	} else if (!strcmp(mode, "family")) {
		family();
	} else if (!strcmp(mode, "share")) {
		char number[16];

		snprintf(number, sizeof number, " %d", (int)share());
		start(spin, 1);
		obey(number);
	} else if (!strcmp(mode, "fault") && make_missing()) {
		start(spin, 2);
		start(fault, 1);
		obey(NULL);
	} else if (!strcmp(mode, "uring") && make_uring()) {
		start(spin, 2);
		obey(NULL);
	} else if (!strcmp(mode, "plain")) {
		start(spin, 2);
		obey(NULL);
	}
	return 2;
}
