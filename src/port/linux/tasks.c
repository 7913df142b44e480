/* SPDX-License-Identifier: MIT */
/*
 * tasks.c - the threads that there are.
 *
 * A listing that is read while threads exit may miss others, so that what it shows is compared with
 * the number that the kernel keeps (Threads in proc_pid_status(5)).
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include "port/linux/linux.h"
#include "port/linux/syscall.h"

/* Flags of a task that runs no user code any more, or never did: exiting (the first thread stays in
 * the list when it has ended), a worker of io_uring. include/linux/sched.h; proc_pid_stat(5). The
 * second meant something else before Linux 5.7: the worker's name must fit, too. */
enum { TASK_EXITING = 0x4, TASK_IO_WORKER = 0x10 };
static const char worker_name[] = "(iou-";

/* What getdents64 fills in. */
struct directory_entry {
	uint64_t inode;
	int64_t offset;
	uint16_t length;
	uint8_t type;
	char name[];
};

/* ---- text ---- */

static bool starts_with(const char *line, const char *word)
{
	while (*word)
		if (*line++ != *word++)
			return false;
	return true;
}

static uint64_t number_at(const char *at, unsigned base)
{
	uint64_t value = 0;

	while (*at == ' ' || *at == '\t')
		at++;
	for (;; at++) {
		unsigned digit;

		if (*at >= '0' && *at <= '9')
			digit = (unsigned)(*at - '0');
		else if (*at >= 'a' && *at <= 'f')
			digit = (unsigned)(*at - 'a') + 10;
		else
			return value;
		if (digit >= base)
			return value;
		value = value * base + digit;
	}
}

int linux_open_task(struct port *port, uint32_t tid, const char *name, struct park_file *file)
{
	char path[32], digits[12];
	unsigned n = 0, at = 0;
	long rc;

	do {
		digits[n++] = (char)('0' + tid % 10);
		tid /= 10;
	} while (tid);
	while (n)
		path[at++] = digits[--n];
	path[at++] = '/';
	while (*name)
		path[at++] = *name++;
	path[at] = '\0';
	rc = syscall4(SYS_openat, port->park.tasks, (long)path, O_RDONLY | O_CLOEXEC, 0);
	file->file = (int)rc;
	file->have = file->at = 0;
	return rc < 0 ? (int)rc : 0;
}

void linux_close(struct park_file *file)
{
	syscall4(SYS_close, file->file, 0, 0, 0);
}

int linux_next_line(struct park_file *file)
{
	uint32_t length = 0;
	bool any = false;

	for (;;) {
		char byte;

		if (file->at == file->have) {
			long got = syscall4(SYS_read, file->file, (long)file->bytes,
			                    sizeof(file->bytes), 0);

			if (got == -EINTR)
				continue;
			if (got < 0)
				return (int)got;
			file->at = 0;
			file->have = (uint32_t)got;
			if (!got)
				break;
		}
		byte = file->bytes[file->at++];
		any = true;
		if (byte == '\n')
			break;
		if (length < sizeof(file->line) - 1)
			file->line[length++] = byte;
	}
	file->line[length] = '\0';
	return any;
}

/* The number behind `key` in a thread's status. */
static int status_number(struct port *port, uint32_t tid, const char *key, unsigned base,
                         uint64_t *value)
{
	struct park_file file;
	int rc = linux_open_task(port, tid, "status", &file);

	if (rc)
		return rc;
	while ((rc = linux_next_line(&file)) > 0)
		if (starts_with(file.line, key))
			break;
	linux_close(&file);
	if (rc <= 0)
		return rc ? rc : -ENODATA;
	for (rc = 0; file.line[rc] != ':'; rc++)
		;
	*value = number_at(file.line + rc + 1, base);
	return 0;
}

/* TID (NAME) STATE ...: the flags are the seventh field after the name, which ends at the last
 * parenthesis. */
static int is_gone(struct port *port, uint32_t tid, bool *gone)
{
	struct park_file file;
	const char *at = file.line, *name = file.line;
	uint64_t flags;
	int rc = linux_open_task(port, tid, "stat", &file);

	if (rc)
		return rc;
	rc = linux_next_line(&file);
	linux_close(&file);
	if (rc <= 0)
		return rc ? rc : -ENODATA;
	for (const char *p = file.line; *p; p++)
		if (*p == ')')
			at = p;
	for (int field = 0; field < 7 && *at; at++)
		field += *at == ' ';
	flags = number_at(at, 10);
	while (*name && *name != '(')
		name++;
	*gone = (flags & TASK_EXITING) ||
	        ((flags & TASK_IO_WORKER) && starts_with(name, worker_name));
	return 0;
}

/* ---- one thread ---- */

static bool is_parked(const struct park *park, uint32_t tid)
{
	const struct parked *one = __atomic_load_n(&park->list, __ATOMIC_ACQUIRE);

	while (one && one->tid != tid)
		one = one->next;
	return one;
}

/* Left since the list was read. */
static bool is_left(int rc)
{
	return rc == -ENOENT || rc == -ESRCH;
}

/* One that can not be sent (too many are queued at the moment) is for the next look. */
static void send_signal(struct port *port, uint32_t tid)
{
	struct park *park = &port->park;
	siginfo_t info;

	info.si_signo = park->signal;
	info.si_errno = 0;
	info.si_code = SI_QUEUE;
	info.si_pid = (pid_t)port->pid;
	info.si_uid = 0;
	info.si_value.sival_ptr = park;
	if (!syscall4(SYS_rt_tgsigqueueinfo, port->pid, tid, park->signal, (long)&info))
		park->sent++;
}

/* Count a thread that is not parked, and see that it has the signal. */
static int look_at(struct port *port, uint32_t tid, struct park_census *census)
{
	struct park *park = &port->park;
	uint64_t pending = 0;
	bool gone;
	int rc = is_gone(port, tid, &gone);

	if (rc)
		return is_left(rc) ? 0 : rc;
	if (gone) {
		census->gone++;
		return 0;
	}
	census->missing++;
	census->late = tid;
	if (park->careful)
		rc = status_number(port, tid, "SigPnd:", 16, &pending);
	if (rc)
		return is_left(rc) ? 0 : rc;
	/* A second one would do no harm, but could be too many. */
	if (!(pending >> (park->signal - 1) & 1))
		send_signal(port, tid);
	return 0;
}

/* ---- all ---- */

static int look_at_entries(struct port *port, const uint8_t *entries, size_t size, uint32_t self,
                           bool *seen, struct park_census *census)
{
	for (size_t at = 0; at < size;) {
		const struct directory_entry *entry = (const void *)(entries + at);
		uint32_t tid = (uint32_t)number_at(entry->name, 10);
		int rc = 0;

		at += entry->length;
		if (tid == self)
			*seen = true;
		else if (tid && is_parked(&port->park, tid))
			census->parked++;
		else if (tid)
			rc = look_at(port, tid, census);
		if (rc)
			return rc;
	}
	return 0;
}

int linux_census(struct port *port, struct park_census *census)
{
	struct park *park = &port->park;
	uint32_t self = (uint32_t)syscall4(SYS_gettid, 0, 0, 0, 0);
	uint64_t threads = 0;
	bool seen = false;
	int rc = 0;

	census->parked = census->gone = census->missing = census->late = 0;
	syscall4(SYS_lseek, park->tasks, 0, 0 /* SEEK_SET */, 0);
	while (!rc) {
		long got = syscall4(SYS_getdents64, park->tasks, (long)park->words,
		                    sizeof(park->words), 0);

		if (got <= 0) {
			rc = (int)got;
			break;
		}
		rc = look_at_entries(port, (const uint8_t *)park->words, (size_t)got, self, &seen,
		                     census);
	}
	if (rc)
		return rc;
	if (!seen)
		return -ESRCH;
	/* From now on a thread that is missing has been sent a signal before. */
	park->careful = true;
	rc = status_number(port, self, "Threads:", 10, &threads);
	census->complete = threads == 1 + census->parked + census->gone + census->missing;
	return rc;
}
