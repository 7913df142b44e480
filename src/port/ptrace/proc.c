/* SPDX-License-Identifier: MIT */
/* proc.c - what /proc tells about a process. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>
#include <elf.h>
#include "internal.h"

uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void port_error(struct port *port, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(port->error, sizeof(port->error), format, args);
	va_end(args);
}

/* Whole contents of a /proc file with a terminating zero; their size is not known beforehand. */
static int read_all(const char *path, char **out, size_t *out_size)
{
	size_t size = 0, capacity = 16384;
	char *text = malloc(capacity);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int rc = 0;

	if (!text || fd < 0) {
		rc = fd < 0 ? -errno : -ENOMEM;
		goto out;
	}
	for (;;) {
		ssize_t n = read(fd, text + size, capacity - size - 1);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			rc = -errno;
		if (n <= 0)
			break;
		size += (size_t)n;
		if (capacity - size < 8192) {
			char *grown = realloc(text, capacity * 2);

			if (!grown) {
				rc = -ENOMEM;
				break;
			}
			text = grown;
			capacity *= 2;
		}
	}
	text[size] = 0;
out:
	if (fd >= 0)
		close(fd);
	if (rc) {
		free(text);
		/* A task that has ended reads as "no such process", not as "no such file". */
		return rc == -ENOENT ? -ESRCH : rc == -EACCES ? -EPERM : rc;
	}
	*out = text;
	*out_size = size;
	return 0;
}

static bool parse_mapping(char *line, struct process_mapping *m)
{
	char perms[5];
	unsigned major_number, minor_number;
	int path_at = 0;
	size_t length;

	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %x:%x %" SCNu64 " %n", &m->start,
	           &m->end, perms, &m->offset, &major_number, &minor_number, &m->inode,
	           &path_at) != 7)
		return false;
	m->device = (uint64_t)major_number << 32 | minor_number;
	m->read = perms[0] == 'r';
	m->write = perms[1] == 'w';
	m->execute = perms[2] == 'x';
	m->shared = perms[3] == 's';
	m->path = line + path_at;
	length = strlen(m->path);
	m->deleted = length > 10 && strcmp(m->path + length - 10, " (deleted)") == 0;
	if (m->deleted)
		m->path[length - 10] = 0;
	return true;
}

int process_maps_read(pid_t pid, struct process_maps *maps)
{
	char path[64];
	size_t size, lines = 0;
	char *line, *next;
	int rc;

	*maps = (struct process_maps){0};
	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	rc = read_all(path, &maps->text, &size);
	if (rc)
		return rc;
	for (size_t i = 0; i < size; i++)
		lines += maps->text[i] == '\n';
	maps->list = calloc(lines + 1, sizeof(*maps->list));
	if (!maps->list) {
		process_maps_free(maps);
		return -ENOMEM;
	}
	for (line = maps->text; *line && maps->count < lines; line = next) {
		next = strchrnul(line, '\n');
		if (*next)
			*next++ = 0;
		if (parse_mapping(line, &maps->list[maps->count]))
			maps->count++;
	}
	return 0;
}

void process_maps_free(struct process_maps *maps)
{
	free(maps->list);
	free(maps->text);
	*maps = (struct process_maps){0};
}

bool process_mapping_is_ours(const struct process_mapping *mapping)
{
	return strcmp(mapping->path, PROCESS_SHARED_NAME) == 0;
}

const struct process_mapping *process_maps_find(const struct process_maps *maps, uint64_t address)
{
	size_t low = 0, high = maps->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (maps->list[middle].end <= address)
			low = middle + 1;
		else
			high = middle;
	}
	if (low < maps->count && maps->list[low].start <= address)
		return &maps->list[low];
	return NULL;
}

int process_status_field(pid_t pid, pid_t tid, const char *field, int base, uint64_t *value)
{
	char path[64], *text, *at;
	size_t size, length = strlen(field);
	int rc;

	if (tid)
		snprintf(path, sizeof(path), "/proc/%d/task/%d/status", pid, tid);
	else
		snprintf(path, sizeof(path), "/proc/%d/status", pid);
	rc = read_all(path, &text, &size);
	if (rc)
		return rc;
	rc = -ENOENT;
	for (at = text; at; at = strchr(at, '\n')) {
		at += *at == '\n';
		if (strncmp(at, field, length) || at[length] != ':')
			continue;
		*value = strtoull(at + length + 1, NULL, base);
		rc = 0;
		break;
	}
	free(text);
	return rc;
}

int process_start_time(pid_t pid, uint64_t *ticks)
{
	char path[64], *text, *at;
	size_t size;
	int rc;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	rc = read_all(path, &text, &size);
	if (rc)
		return rc;
	/* The name in parentheses may hold anything; count fields from its end (proc(5)). */
	at = strrchr(text, ')');
	for (int field = 2; at && field < 22; field++)
		at = strchr(at + 1, ' ');
	if (at)
		*ticks = strtoull(at, NULL, 10);
	free(text);
	return at ? 0 : -ESRCH;
}

void process_name(pid_t pid, char *name, size_t size)
{
	char path[64], *text;
	size_t length;

	snprintf(name, size, "?");
	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	if (read_all(path, &text, &length))
		return;
	text[strcspn(text, "\n")] = 0;
	snprintf(name, size, "%s", text);
	free(text);
}

static int compare_tids(const void *a, const void *b)
{
	pid_t x = *(const pid_t *)a, y = *(const pid_t *)b;

	return x < y ? -1 : x > y;
}

int process_tasks(pid_t pid, pid_t **tids, size_t *count)
{
	char path[64];
	size_t capacity = 64;
	struct dirent *entry;
	DIR *dir;

	*count = 0;
	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	if (!dir)
		return errno == ENOENT ? -ESRCH : -errno;
	*tids = malloc(capacity * sizeof(**tids));
	while (*tids && (entry = readdir(dir))) {
		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		if (*count == capacity) {
			pid_t *grown = realloc(*tids, 2 * capacity * sizeof(**tids));

			if (!grown) {
				free(*tids);
				*tids = NULL;
				break;
			}
			*tids = grown;
			capacity *= 2;
		}
		(*tids)[(*count)++] = (pid_t)strtol(entry->d_name, NULL, 10);
	}
	closedir(dir);
	if (!*tids)
		return -ENOMEM;
	qsort(*tids, *count, sizeof(**tids), compare_tids);
	return 0;
}

/* State letter of a task: R, S, D, Z, …; 0 if it is gone. */
char process_state(pid_t tid)
{
	char path[64], *text, *after;
	size_t length;
	char state;

	snprintf(path, sizeof(path), "/proc/%d/stat", tid);
	if (read_all(path, &text, &length))
		return 0;
	after = strrchr(text, ')');
	state = after && after[1] ? after[2] : 0;
	free(text);
	return state;
}

bool process_ended(pid_t tid)
{
	char state = process_state(tid);

	return !state || state == 'Z' || state == 'X';
}

/* proc(5): the name in parentheses, then state, ppid, pgrp, session, tty_nr, tpgid, flags. Each
 * flag has meant other things in other releases, and a program may choose any name; not both. */
bool process_kernel_worker(pid_t tid)
{
	enum { PF_IO_WORKER = 0x10, PF_USER_WORKER = 0x4000 }; /* include/linux/sched.h */
	char path[64], *text, *name, *after;
	unsigned long flags = 0;
	size_t length;
	bool worker;

	snprintf(path, sizeof(path), "/proc/%d/stat", tid);
	if (read_all(path, &text, &length))
		return false;
	name = strchr(text, '(');
	after = strrchr(text, ')');
	if (!name || !after || sscanf(after + 1, " %*c %*d %*d %*d %*d %*d %lu", &flags) != 1)
		flags = 0;
	worker = ((flags & PF_IO_WORKER) && !strncmp(name, "(iou-", 5)) ||
	         ((flags & PF_USER_WORKER) && !strncmp(name, "(vhost-", 7));
	free(text);
	return worker;
}

pid_t process_member(pid_t pid)
{
	pid_t *tids, member = pid;
	size_t count;

	if (!process_ended(pid) || process_tasks(pid, &tids, &count))
		return pid;
	for (size_t i = 0; i < count && member == pid; i++)
		if (tids[i] != pid && !process_ended(tids[i]))
			member = tids[i];
	free(tids);
	return member;
}

static enum process_refusal check_tracer(pid_t pid, char *text, size_t size)
{
	uint64_t tracer = 0;
	char name[64];

	if (process_status_field(pid, 0, "TracerPid", 10, &tracer) || !tracer)
		return PROCESS_OK;
	process_name((pid_t)tracer, name, sizeof(name));
	snprintf(text, size,
	         "process %d is already traced by %s (pid %d); end that first, a process has one "
	         "tracer",
	         pid, name, (int)tracer);
	return PROCESS_TRACED;
}

static enum process_refusal check_executable(pid_t pid, char *text, size_t size)
{
	char path[64];
	unsigned char ident[20] = {0};
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/exe", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 && errno == ENOENT) {
		snprintf(text, size, "process %d is a kernel thread; it has no user code", pid);
		return PROCESS_IS_KERNEL;
	}
	if (fd < 0)
		return PROCESS_OK; /* unreadable; /proc/PID/mem decides */
	n = read(fd, ident, sizeof(ident));
	close(fd);
	if (n == sizeof(ident) && ident[EI_CLASS] == ELFCLASS64 &&
	    (ident[18] | ident[19] << 8) == EM_X86_64)
		return PROCESS_OK;
	snprintf(text, size, "process %d does not run 64-bit x86 code; only that is supported",
	         pid);
	return PROCESS_NOT_X86_64;
}

static enum process_refusal check_access(pid_t pid, char *text, size_t size)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd >= 0) {
		close(fd);
		return PROCESS_OK;
	}
	snprintf(text, size,
	         "no permission to change process %d (%s); run as its user with ptrace allowed, or "
	         "as "
	         "root",
	         pid, strerror(errno));
	return PROCESS_NOT_PERMITTED;
}

static enum process_refusal check_hardening(pid_t pid, char *text, size_t size)
{
	char path[64], *features;
	uint64_t seccomp = 0, caps = 0;
	size_t length;
	bool shadow;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	if (read_all(path, &features, &length) == 0) {
		char *line = strstr(features, "x86_Thread_features:");

		shadow = line && memmem(line, strcspn(line, "\n"), "shstk", 5);
		free(features);
		if (shadow) {
			snprintf(text, size,
			         "process %d runs with a shadow stack, on which displaced calls "
			         "would "
			         "fault; start it with GLIBC_TUNABLES=glibc.cpu.x86_shstk=off",
			         pid);
			return PROCESS_SHADOW_STACK;
		}
	}
	if (process_status_field(pid, 0, "Seccomp", 10, &seccomp) == 0 && seccomp) {
		bool admin = process_status_field(getpid(), 0, "CapEff", 16, &caps) == 0 &&
		             (caps >> 21 & 1); /* CAP_SYS_ADMIN */

		if (!admin) {
			snprintf(text, size,
			         "process %d is confined by seccomp, which could kill it for a "
			         "system call "
			         "of ours; run as root (CAP_SYS_ADMIN) so that the filter can be "
			         "suspended",
			         pid);
			return PROCESS_SECCOMP;
		}
	}
	return PROCESS_OK;
}

/* Is it a process that has code of its own? *member is one of its threads that has not ended. */
static enum process_refusal check_identity(pid_t pid, pid_t *member, char *text, size_t size)
{
	uint64_t tgid = 0;

	snprintf(text, size, "no process %d", pid);
	if (pid <= 0 || process_status_field(pid, 0, "Tgid", 10, &tgid))
		return PROCESS_GONE;
	if ((pid_t)tgid != pid) {
		snprintf(text, size, "%d is a thread of process %d; name the process", pid,
		         (int)tgid);
		return PROCESS_IS_THREAD;
	}
	if (pid == getpid()) {
		snprintf(text, size, "process %d is this program itself; it can not stop itself",
		         pid);
		return PROCESS_IS_SELF;
	}
	*member = process_member(pid);
	if (process_ended(*member)) {
		snprintf(text, size, "process %d has ended and waits for its parent (zombie)", pid);
		return PROCESS_IS_ZOMBIE;
	}
	*text = 0;
	return PROCESS_OK;
}

enum process_refusal process_check_look(pid_t pid, char *text, size_t size)
{
	pid_t member;
	enum process_refusal refusal = check_identity(pid, &member, text, size);

	if (!refusal)
		refusal = check_executable(member, text, size);
	if (!refusal)
		refusal = check_access(member, text, size);
	return refusal;
}

enum process_refusal process_check(pid_t pid, char *text, size_t size)
{
	pid_t member;
	enum process_refusal refusal = check_identity(pid, &member, text, size);

	if (!refusal)
		refusal = check_tracer(member, text, size);
	if (!refusal)
		refusal = check_executable(member, text, size);
	if (!refusal)
		refusal = check_access(member, text, size);
	if (!refusal)
		refusal = check_hardening(member, text, size);
	return refusal;
}
