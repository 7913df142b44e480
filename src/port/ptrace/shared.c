/* SPDX-License-Identifier: MIT */
/*
 * shared.c - memory of ours in the process: one memfd, mapped by both.
 *
 * The memfd is made by the process (so that it works in any container and leaves with the
 * last mapping) and opened by us through /proc/PID/fd. The process's descriptor is closed as
 * soon as everything is mapped; the mapping's name and inode are what finds it again.
 *
 * Order, so that whoever finds the process after our death can clean up: contents are complete
 * before the first mapping; the data (with the journal) is mapped first and unmapped last.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <poll.h>
#include "internal.h"

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

int process_open(pid_t pid, struct port **out)
{
	struct port *port = calloc(1, sizeof(*port));
	char path[64];
	int rc;

	*out = NULL;
	if (!port)
		return -ENOMEM;
	port->pid = pid;
	port->shared_fd = port->shared_remote_fd = -1;
	port->mem = -1;
	port->pidfd = pidfd_open(pid, 0);
	snprintf(path, sizeof(path), "/proc/%d/mem", process_member(pid));
	if (port->pidfd >= 0)
		port->mem = open(path, O_RDWR | O_CLOEXEC);
	if (port->pidfd < 0 || port->mem < 0) {
		rc = errno == ENOENT ? -ESRCH : errno == EACCES ? -EPERM : -errno;
		process_close(port);
		return rc;
	}
	*out = port;
	return 0;
}

void process_close(struct port *port)
{
	if (!port)
		return;
	process_shared_release(port);
	if (port->mem >= 0)
		close(port->mem);
	if (port->pidfd >= 0)
		close(port->pidfd);
	process_maps_free(&port->maps);
	free(port->threads);
	free(port);
}

pid_t process_pid(const struct port *port)
{
	return port->pid;
}

bool process_gone(const struct port *port)
{
	struct pollfd end = {.fd = port->pidfd, .events = POLLIN};

	return poll(&end, 1, 0) == 1;
}

uint64_t process_stop_ns(const struct port *port)
{
	return port->stop_ns;
}

size_t process_stopped(const struct port *port)
{
	return port->thread_count;
}

const char *process_error(const struct port *port)
{
	return port->error;
}

void process_set_go(struct port *port, bool is_go)
{
	port->is_go = is_go;
}

static int call_error(const struct remote_call *call)
{
	return call->result < 0 ? (int)call->result : 0;
}

/* What the process may not do, by its limits or the rules it is under, is no failure of ours. An
 * address that has been taken is the caller's to choose anew. */
static int refusal_of(int rc)
{
	return rc == -EMFILE || rc == -ENFILE || rc == -ENOMEM || rc == -EAGAIN || rc == -EACCES
	               ? -EPERM
	               : rc;
}

static void identify(struct port *port, const struct stat *st)
{
	port->shared.device = (uint64_t)major(st->st_dev) << 32 | minor(st->st_dev);
	port->shared.inode = st->st_ino;
}

const struct process_shared *process_shared_of(const struct port *port)
{
	return &port->shared;
}

static int open_memfd(struct port *port, int remote_fd)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", process_member(port->pid), remote_fd);
	port->shared_fd = open(path, O_RDWR | O_CLOEXEC);
	if (port->shared_fd < 0 || fstat(port->shared_fd, &st))
		return errno == ENOENT ? -ESRCH : -errno;
	port->shared.device = (uint64_t)major(st.st_dev) << 32 | minor(st.st_dev);
	port->shared.inode = st.st_ino;
	return 0;
}

void process_shared_layout(struct port *port, uint64_t data_address, uint64_t data_size,
                           uint64_t calls, struct process_shared *shared)
{
	port->shared.data_address = data_address;
	port->shared.data_size = data_size;
	port->shared.calls = calls;
	*shared = port->shared;
}

void process_shared_release(struct port *port)
{
	if (port->shared.memory)
		munmap(port->shared.memory, port->shared.file_size);
	if (port->shared_fd >= 0)
		close(port->shared_fd);
	port->shared_fd = port->shared_remote_fd = -1;
	port->shared_mapped = false;
	port->shared = (struct process_shared){0};
}

int process_shared_create(struct port *port, uint64_t file_size, struct process_rseq *rseq)
{
	struct remote_call call = {.number = SYS_memfd_create, .args = {0, MFD_CLOEXEC | MFD_EXEC}};
	struct borrowed b;
	int rc = borrow_thread(port, &b);

	if (rc)
		return rc;
	call.args[0] = borrowed_string(&b);
	rc = borrowed_call(&b, &call);
	if (!rc && call.result == -EINVAL) { /* before Linux 6.3 all memfds were executable */
		call.args[1] = MFD_CLOEXEC;
		rc = borrowed_call(&b, &call);
	}
	if (thread_rseq(&b.thread, rseq))
		*rseq = (struct process_rseq){0};
	borrow_end(&b);
	if (!rc)
		rc = call_error(&call);
	if (rc) {
		port_error(port, "process %d could not make shared memory: %s", port->pid,
		           strerror(-rc));
		return refusal_of(rc);
	}
	port->shared_remote_fd = (int)call.result;
	rc = open_memfd(port, port->shared_remote_fd);
	if (!rc && ftruncate(port->shared_fd, (off_t)file_size))
		rc = -errno;
	if (!rc) {
		port->shared.file_size = file_size;
		port->shared.memory = mmap(NULL, file_size, PROT_READ | PROT_WRITE, MAP_SHARED,
		                           port->shared_fd, 0);
		if (port->shared.memory == MAP_FAILED) {
			port->shared.memory = NULL;
			rc = -errno;
		}
	}
	if (rc)
		port_error(port, "shared memory of process %d can not be opened: %s", port->pid,
		           strerror(-rc));
	return rc;
}

static struct remote_call map_call(uint64_t address, uint64_t size, int protection, int fd,
                                   uint64_t offset)
{
	return (struct remote_call){
	        .number = SYS_mmap,
	        .args = {address, size, (uint64_t)protection, MAP_SHARED | MAP_FIXED_NOREPLACE,
	                 (uint64_t)fd, offset},
	};
}

static int close_remote(struct port *port, struct borrowed *b)
{
	struct remote_call call = {.number = SYS_close, .args = {(uint64_t)port->shared_remote_fd}};
	int rc = borrowed_call(b, &call);

	if (!rc)
		port->shared_remote_fd = -1;
	return rc;
}

int process_shared_map(struct port *port)
{
	struct process_shared *s = &port->shared;
	struct remote_call data = map_call(s->data_address, s->data_size, PROT_READ | PROT_WRITE,
	                                   port->shared_remote_fd, 0);
	struct remote_call stub =
	        map_call(s->data_address + s->data_size, PROCESS_PAGE, PROT_READ | PROT_EXEC,
	                 port->shared_remote_fd, s->data_size);
	struct borrowed b;
	int rc;

	borrow_stub(s->memory + s->data_size, PROCESS_PAGE);
	rc = borrow_thread(port, &b);
	if (rc)
		return rc;
	rc = borrowed_call(&b, &data);
	if (!rc)
		rc = call_error(&data);
	if (!rc) {
		port->shared_mapped = true;
		rc = borrowed_call(&b, &stub);
	}
	if (!rc)
		rc = call_error(&stub);
	borrow_end(&b);
	if (rc)
		port_error(port, "process %d could not map shared memory: %s", port->pid,
		           strerror(-rc));
	return refusal_of(rc);
}

int port_map_exec(struct port *port, const struct port_pages *pages, size_t n)
{
	enum {
		ROUND = 96
	}; /* calls a borrowing: the thread is away for well under a millisecond */
	struct remote_call calls[ROUND];
	struct borrowed b;
	int rc = 0;

	for (size_t at = 0; at <= n && !rc; at += ROUND) {
		size_t now = n - at < ROUND ? n - at : ROUND;

		rc = borrow_thread(port, &b);
		if (rc)
			break;
		for (size_t i = 0; i < now; i++)
			calls[i] = map_call(pages[at + i].address, pages[at + i].size,
			                    PROT_READ | PROT_EXEC, port->shared_remote_fd,
			                    pages[at + i].offset);
		if (now)
			rc = borrowed_calls(&b, calls, now);
		for (size_t i = 0; i < now && !rc; i++) {
			rc = call_error(&calls[i]);
			if (rc)
				port_error(port, "process %d could not map trampolines: %s",
				           port->pid, strerror(-rc));
			rc = refusal_of(rc);
		}
		if (at + ROUND > n && !rc)
			rc = close_remote(port, &b);
		borrow_end(&b);
	}
	return rc;
}

static int compare_calls(const void *a, const void *b)
{
	const struct remote_call *x = a, *y = b;

	return x->args[0] < y->args[0] ? -1 : x->args[0] > y->args[0];
}

/* What is mapped of the memfd, from the process's own list: neighbours merged. */
static int unmap_list(struct port *port, struct remote_call **calls, size_t *count)
{
	const struct process_shared *s = &port->shared;
	uint64_t data_end = s->data_address + s->data_size + PROCESS_PAGE;
	struct process_maps maps;
	int rc = process_maps_read(process_member(port->pid), &maps);

	if (rc)
		return rc;
	*count = 0;
	*calls = calloc(maps.count + 1, sizeof(**calls));
	for (size_t i = 0; *calls && i < maps.count; i++) {
		const struct process_mapping *m = &maps.list[i];

		if (m->inode != s->inode || m->device != s->device)
			continue;
		if (port->shared_mapped && m->start >= s->data_address && m->end <= data_end)
			continue;
		(*calls)[(*count)++] = (struct remote_call){.number = SYS_munmap,
		                                            .args = {m->start, m->end - m->start}};
	}
	process_maps_free(&maps);
	if (!*calls)
		return -ENOMEM;
	qsort(*calls, *count, sizeof(**calls), compare_calls);
	return 0;
}

int port_unmap_exec(struct port *port)
{
	enum { ROUND = 96 };
	const struct process_shared *s = &port->shared;
	struct remote_call *calls = NULL,
	                   last = {.number = SYS_munmap,
	                           .args = {s->data_address, s->data_size + PROCESS_PAGE}};
	struct borrowed b;
	size_t count;
	int rc = unmap_list(port, &calls, &count);

	for (size_t at = 0; at <= count && !rc; at += ROUND) {
		size_t now = count - at < ROUND ? count - at : ROUND;
		bool end = at + ROUND > count;

		rc = borrow_thread(port, &b);
		if (rc)
			break;
		if (now)
			rc = borrowed_calls(&b, calls + at, now);
		/* Data and stub go last, by the process's own `syscall`. */
		if (end && !rc && port->shared_mapped)
			rc = borrowed_call(&b, &last);
		if (end && !rc && port->shared_remote_fd >= 0)
			rc = close_remote(port, &b);
		borrow_end(&b);
	}
	if (!rc)
		port->shared_mapped = false;
	free(calls);
	return rc;
}

int process_shared_adopt(struct port *port, const struct process_shared *shared)
{
	struct process_maps maps;
	const struct process_mapping *m;
	int rc = process_maps_read(process_member(port->pid), &maps);

	if (rc)
		return rc;
	m = process_maps_find(&maps, shared->data_address);
	if (m && m->inode == shared->inode && m->device == shared->device) {
		port->shared = *shared;
		port->shared.memory = NULL;
		port->shared_mapped = true;
	} else {
		rc = -ENOENT;
	}
	process_maps_free(&maps);
	return rc;
}

int process_shared_close_leftovers(struct port *port)
{
	static const char name[] = PROCESS_SHARED_NAME " (deleted)";
	char path[64], link[sizeof(name) + 1];
	int left[16], count = 0, rc = 0;
	struct dirent *entry;
	struct borrowed b;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", process_member(port->pid));
	dir = opendir(path);
	if (!dir)
		return errno == ENOENT ? -ESRCH : -errno;
	while ((entry = readdir(dir)) && count < 16) {
		ssize_t n = readlinkat(dirfd(dir), entry->d_name, link, sizeof(link));

		struct stat st;

		if (n != sizeof(name) - 1 || memcmp(link, name, sizeof(name) - 1))
			continue;
		left[count++] = (int)strtol(entry->d_name, NULL, 10);
		if (fstatat(dirfd(dir), entry->d_name, &st, 0) == 0)
			identify(port, &st);
	}
	closedir(dir);
	if (!count)
		return 0;
	rc = borrow_thread(port, &b);
	if (rc)
		return rc;
	for (int i = 0; i < count && !rc; i++) {
		port->shared_remote_fd = left[i];
		rc = close_remote(port, &b);
	}
	borrow_end(&b);
	return rc ? rc : count;
}
