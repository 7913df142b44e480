/* SPDX-License-Identifier: MIT */
/*
 * setup.c - what is done before anything is patched, with libc at hand.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "port/linux/linux.h"
#include "port/linux/syscall.h"

/* The section of the protocol; the linker names its ends. */
extern const char __start_suture_noinstr[] __attribute__((visibility("hidden")));
extern const char __stop_suture_noinstr[] __attribute__((visibility("hidden")));

static struct port own;
static int setup_error;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* The file stands for the address space of whoever opened it, and is known by its inode: the number
 * may come to be another file's, if the program closes it. */
static struct stat memory_file;

static int open_memory(void)
{
	own.mem = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	if (own.mem < 0)
		return -errno;
	return fstat(own.mem, &memory_file) ? -errno : 0;
}

static bool holds_memory(void)
{
	struct stat now;

	return own.mem >= 0 && fstat(own.mem, &now) == 0 && now.st_dev == memory_file.st_dev &&
	       now.st_ino == memory_file.st_ino;
}

int linux_check(struct port *port)
{
	(void)port;
	return holds_memory() ? 0 : open_memory();
}

/* Writing a byte of our own text that is the same afterwards: kernels can forbid it. */
static int try_write(void)
{
	uint64_t address = (uint64_t)(uintptr_t)__start_suture_noinstr;
	struct port_view view;
	uint8_t byte;
	int rc = port_read(&own, address, &byte, 1);

	if (!rc)
		rc = port_view_open(&own, address, 1, &view);
	if (!rc)
		rc = port_store(&own, &view, address, &byte, 1);
	return rc ? -EACCES : 0;
}

static void before_fork(void)
{
	(void)!port_lock(&own, PORT_FOREVER);
}

static void after_fork(void)
{
	port_unlock(&own);
}

/* Until this has run the child would write its parent's text: the lock is held meanwhile. */
static void after_fork_in_child(void)
{
	/* The parent's goes first: there may be no number for another. Without one nothing is
	 * written, until linux_check finds one. */
	if (holds_memory())
		close(own.mem);
	(void)!open_memory();
	own.pid = (uint32_t)getpid();
	own.inside[0] = own.inside[1] = 0;
	own.lock = 0;
	own.park.sent = own.park.handled = 0;
}

static void setup(void)
{
	own.mem = own.park.tasks = -1;
	own.caps = (struct port_caps){
	        .store_unit = 1,
	        .cores_arrive = true,
	        .threads_visible = true,
	        .maintenance_broadcast = true,
	        .traps = true,
	        .noinstr_start = (uint64_t)(uintptr_t)__start_suture_noinstr,
	        .noinstr_end = (uint64_t)(uintptr_t)__stop_suture_noinstr,
	};
	own.pid = (uint32_t)getpid();
	setup_error = open_memory();
	if (!setup_error &&
	    syscall4(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0, 0))
		setup_error = -ENOSYS;
	if (!setup_error)
		setup_error = try_write();
	if (!setup_error && pthread_atfork(before_fork, after_fork, after_fork_in_child))
		setup_error = -ENOMEM;
}

struct port *linux_port(int *error)
{
	pthread_once(&once, setup);
	*error = setup_error;
	return setup_error ? NULL : &own;
}

/* ---- the trap signal ---- */

static uint64_t bit(int signal)
{
	return (uint64_t)1 << (signal - 1);
}

/* Handlers may be reading what was there before: a ring that is long enough for those that are
 * about to. */
static void set_previous(struct port *port, int number, const struct sigaction *action)
{
	enum { RING = 64 };
	static struct sigaction ring[RING];
	static uint32_t last;
	struct sigaction *slot = &ring[__atomic_add_fetch(&last, 1, __ATOMIC_RELAXED) % RING];

	*slot = *action;
	__atomic_store_n(&port->previous[number == SIGILL], slot, __ATOMIC_RELEASE);
}

static bool is_taken(int number)
{
	struct kernel_sigaction now;

	return (number == SIGTRAP || number == SIGILL) &&
	       syscall4(SYS_rt_sigaction, number, 0, (long)&now, sizeof(now.mask)) == 0 &&
	       now.handler == (void *)linux_on_trap;
}

bool linux_previous(struct port *port, int number, const struct sigaction *new,
                    struct sigaction *old)
{
	struct sigaction before;

	if (!is_taken(number))
		return false;
	before = *__atomic_load_n(&port->previous[number == SIGILL], __ATOMIC_ACQUIRE);
	if (new)
		set_previous(port, number, new);
	if (old)
		*old = before;
	return true;
}

/*
 * By system calls: libc's function leads to us (api/own/watch.c), and those of sanitizers hold
 * signals back. A thread in the handler does not look like one that blocks our signals
 * (linux_traps): the handler meets no trap.
 */
static int attach(struct port *port, int number)
{
	enum { SA_RESTORER_ = 0x04000000 };
	struct kernel_sigaction now,
	        action = {
	                .handler = (void *)linux_on_trap,
	                .flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART | SA_NODEFER | SA_RESTORER_,
	                .restorer = (void *)linux_restorer,
	                .mask = ~(bit(SIGTRAP) | bit(SIGILL)),
	        };
	struct sigaction previous;
	long rc;

	if (is_taken(number))
		return 0;
	/* The first time, or somebody has taken the signal since. */
	rc = syscall4(SYS_rt_sigaction, number, 0, (long)&now, sizeof(now.mask));
	if (rc)
		return (int)rc;
	previous = (struct sigaction){.sa_flags = (int)(now.flags & ~(unsigned long)SA_RESTORER_)};
	memcpy(&previous.sa_handler, &now.handler, sizeof(now.handler));
	memcpy(&previous.sa_mask, &now.mask, sizeof(now.mask));
	set_previous(port, number, &previous);
	return (int)syscall4(SYS_rt_sigaction, number, (long)&action, 0, sizeof(action.mask));
}

int port_trap_attach(struct port *port, port_trap_fn handler, void *arg)
{
	port->handler = handler;
	port->handler_arg = arg;
	__atomic_store_n(&linux_handling, port, __ATOMIC_RELEASE);
	return attach(port, SIGTRAP);
}

int linux_attach_invalid(struct port *port)
{
	return attach(port, SIGILL);
}

void port_trap_detach(struct port *port)
{
	static const int signals[] = {SIGTRAP, SIGILL};

	for (int i = 0; i < LINUX_TRAP_SIGNALS; i++)
		if (is_taken(signals[i]))
			sigaction(signals[i], port->previous[i], NULL);
}

void linux_unmask_handlers(void)
{
	for (int number = 1; number < NSIG; number++) {
		struct sigaction action;

		if (sigaction(number, NULL, &action) || action.sa_handler == SIG_DFL ||
		    action.sa_handler == SIG_IGN)
			continue;
		if (sigismember(&action.sa_mask, SIGTRAP) != 1 &&
		    sigismember(&action.sa_mask, SIGILL) != 1)
			continue;
		sigdelset(&action.sa_mask, SIGTRAP);
		sigdelset(&action.sa_mask, SIGILL);
		sigaction(number, &action, NULL);
	}
}

bool linux_alone(void)
{
	DIR *tasks = opendir("/proc/self/task");
	struct dirent *entry;
	int count = 0;

	while (tasks && (entry = readdir(tasks)))
		count += entry->d_name[0] != '.';
	if (tasks)
		closedir(tasks);
	return count == 1;
}

/* Linux: Documentation/arch/x86/shstk.rst */
bool linux_shadow_stack(void)
{
	enum { ARCH_SHSTK_STATUS = 0x5005, ARCH_SHSTK_SHSTK = 1 };
	uint64_t features = 0;

	return syscall4(SYS_arch_prctl, ARCH_SHSTK_STATUS, (long)&features, 0, 0) == 0 &&
	       (features & ARCH_SHSTK_SHSTK);
}

uint64_t linux_blocked_by(const char *tid)
{
	char path[64], line[256];
	unsigned long long mask = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/task/%.20s/status", tid);
	file = fopen(path, "re");
	if (!file)
		return 0; /* it is gone */
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "SigBlk: %llx", &mask) == 1)
			break;
	fclose(file);
	return mask;
}

/* A thread of the kernel's, which never executes our text: io_uring has such in our process. */
static bool is_worker(const char *tid)
{
	enum { PF_IO_WORKER = 0x10 };
	char path[64], line[512], *behind = NULL;
	unsigned long flags = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/task/%.20s/stat", tid);
	file = fopen(path, "re");
	if (file && fgets(line, sizeof(line), file))
		behind = strrchr(line, ')'); /* of the name, which may hold anything */
	if (file)
		fclose(file);
	/* state ppid pgrp session tty tpgid flags: proc(5) */
	return behind && sscanf(behind, ") %*c %*d %*d %*d %*d %*d %lu", &flags) == 1 &&
	       (flags & PF_IO_WORKER);
}

/* Is it in a system call that has put another mask in the place of the thread's own, until it
 * returns? What that was nobody can see. */
static bool has_other_mask(const char *tid)
{
	static const struct {
		long number;
		int argument; /* where the mask is, from 0 */
	} calls[] = {{SYS_rt_sigsuspend, 0},
	             {SYS_ppoll, 3},
	             {SYS_pselect6, 5},
	             {SYS_epoll_pwait, 4},
	             {441 /* epoll_pwait2 */, 4}};
	unsigned long arguments[6];
	char path[64], line[256];
	long number = -1;
	FILE *file;
	bool read = false;

	snprintf(path, sizeof(path), "/proc/self/task/%.20s/syscall", tid);
	file = fopen(path, "re");
	if (!file)
		return false;
	if (fgets(line, sizeof(line), file))
		read = sscanf(line, "%ld %lx %lx %lx %lx %lx %lx", &number, &arguments[0],
		              &arguments[1], &arguments[2], &arguments[3], &arguments[4],
		              &arguments[5]) == 7;
	fclose(file);
	for (size_t i = 0; read && i < sizeof(calls) / sizeof(calls[0]); i++)
		if (calls[i].number == number && arguments[calls[i].argument])
			return number != SYS_pselect6 ||
			       *(const uint64_t *)arguments[calls[i].argument];
	return false;
}

/* A thread that can not take a trap, or 0. -EMFILE and the like: nobody knows. */
static int find_blocked(bool others_only)
{
	DIR *tasks = opendir("/proc/self/task");
	struct dirent *entry;
	int found = tasks ? 0 : -errno;

	while (tasks && !found && (entry = readdir(tasks)))
		if (entry->d_name[0] != '.' && !(others_only && atoi(entry->d_name) == gettid()) &&
		    ((linux_blocked_by(entry->d_name) & (bit(SIGTRAP) | bit(SIGILL))) ||
		     has_other_mask(entry->d_name)) &&
		    !is_worker(entry->d_name))
			found = atoi(entry->d_name);
	if (tasks)
		closedir(tasks);
	return found;
}

int linux_traps(struct port *port, bool others_only, uint64_t deadline_ns, int *tid)
{
	struct timespec start, now;

	(void)port;
	clock_gettime(CLOCK_MONOTONIC, &start);
	while ((*tid = find_blocked(others_only))) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (*tid < 0)
			return *tid;
		/* This thread will not do anything about it meanwhile. */
		if (*tid == gettid() || (uint64_t)(now.tv_sec - start.tv_sec) * 1000000000u +
		                                        (uint64_t)(now.tv_nsec - start.tv_nsec) >=
		                                deadline_ns)
			return -EBUSY;
		port_pause(port, 1000000);
	}
	return 0;
}
