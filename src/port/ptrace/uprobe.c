/* SPDX-License-Identifier: MIT */
/*
 * uprobe.c - counting by the kernel's own breakpoint, where nothing faster is possible.
 *
 * The breakpoint is an event of tracefs (uprobe_events), counted by perf events on its tracepoint,
 * one per thread, each inherited by what that thread creates: perf_event_open(2) has no event
 * for "all threads of a process". The shorter way, a perf event of type uprobe, must not be
 * inherited: the kernel reads its path again when the target forks, as an address in the target,
 * and the fork fails.
 *
 * Opening takes the kernel's per-CPU rwsem, which can wait for a grace period, so the process is
 * not at rest meanwhile. Instead the owner reads the list of threads before and after: if it is
 * the same, nobody was created in between, so nobody is counted twice (inherited and opened) or
 * not at all.
 *
 * An event's definition outlives a killed owner; its group names the target, so that whoever
 * comes next can take it away.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/mount.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "internal.h"

#define GROUP_FORMAT "suture_%d"

/* The tracing directory: where it is usually mounted, or a mount of our own that nobody else
 * sees. A descriptor, or a negative errno. */
static int open_tracefs(void)
{
	static const char *const places[] = {"/sys/kernel/tracing", "/sys/kernel/debug/tracing"};
	int fs, mount;

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		int dir = open(places[i], O_PATH | O_DIRECTORY | O_CLOEXEC);

		if (dir >= 0 && faccessat(dir, "uprobe_events", W_OK, 0) == 0)
			return dir;
		if (dir >= 0)
			close(dir);
	}
	fs = (int)syscall(SYS_fsopen, "tracefs", FSOPEN_CLOEXEC);
	if (fs < 0)
		return errno == ENODEV ? -ENOSYS : -errno;
	mount = syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0)
	                ? -1
	                : (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, 0);
	if (mount < 0)
		mount = -errno;
	close(fs);
	return mount;
}

static int write_definition(int tracefs, const char *text)
{
	int fd = openat(tracefs, "uprobe_events", O_WRONLY | O_APPEND | O_CLOEXEC);
	ssize_t n;
	int rc;

	if (fd < 0)
		return errno == ENOENT ? -ENOSYS : -errno;
	n = write(fd, text, strlen(text));
	rc = n < 0 ? -errno : 0;
	close(fd);
	return rc;
}

static int tracepoint_id(int tracefs, const char *name)
{
	char path[128], text[16];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "events/%s/id", name);
	fd = openat(tracefs, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return -EIO;
	text[n] = 0;
	return (int)strtol(text, NULL, 10);
}

/* Whatever the file is called by now, and in whichever container: the kernel's link to it, and the
 * offset of the instruction in it. */
static int locate(struct port *port, uint64_t address, char *path, size_t size, uint64_t *offset)
{
	pid_t member = process_member(port->pid);
	const struct process_mapping *m;
	struct process_maps maps;
	int rc = process_maps_read(member, &maps);

	if (rc)
		return rc;
	m = process_maps_find(&maps, address);
	if (m && m->inode) {
		snprintf(path, size, "/proc/%d/map_files/%" PRIx64 "-%" PRIx64, member, m->start,
		         m->end);
		*offset = address - m->start + m->offset;
	} else {
		rc = -EFAULT;
	}
	process_maps_free(&maps);
	return rc;
}

static int define(struct port *port, int tracefs, uint64_t address, struct process_uprobe *probe)
{
	char path[96], text[256];
	uint64_t offset;
	int rc = locate(port, address, path, sizeof(path), &offset);

	if (rc)
		return rc;
	snprintf(probe->name, sizeof(probe->name), GROUP_FORMAT "/at_%" PRIx64, port->pid, address);
	snprintf(text, sizeof(text), "p:%s %s:0x%" PRIx64 "\n", probe->name, path, offset);
	rc = write_definition(tracefs, text);
	if (rc) {
		probe->name[0] = 0;
		return rc;
	}
	return tracepoint_id(tracefs, probe->name);
}

static int open_event(pid_t tid, int id)
{
	struct perf_event_attr attr = {
	        .type = PERF_TYPE_TRACEPOINT,
	        .size = sizeof(attr),
	        .config = (uint64_t)id,
	        .inherit = 1,
	};
	long fd = syscall(SYS_perf_event_open, &attr, tid, -1, -1, PERF_FLAG_FD_CLOEXEC);

	return fd < 0 ? -errno : (int)fd;
}

bool process_uprobes_exist(void)
{
	return access("/sys/bus/event_source/devices/uprobe/type", F_OK) == 0;
}

int process_tracefs_works(void)
{
	int tracefs = open_tracefs(), rc;

	if (tracefs < 0)
		return tracefs;
	rc = faccessat(tracefs, "uprobe_events", W_OK, AT_EACCESS) ? -errno : 0;
	close(tracefs);
	return rc;
}

int process_uprobe_open(struct port *port, const pid_t *tids, size_t count, uint64_t address,
                        struct process_uprobe *probe)
{
	int tracefs = open_tracefs(), id, rc = 0;

	*probe = (struct process_uprobe){0};
	if (tracefs < 0)
		return tracefs;
	id = define(port, tracefs, address, probe);
	close(tracefs);
	probe->fds = calloc(count, sizeof(*probe->fds));
	if (id < 0 || !probe->fds)
		rc = id < 0 ? id : -ENOMEM;
	for (size_t i = 0; i < count && !rc; i++) {
		int fd = open_event(tids[i], id);

		if (fd >= 0)
			probe->fds[probe->count++] = fd;
		else if (fd != -ESRCH)
			rc = fd;
	}
	if (rc)
		process_uprobe_close(probe);
	return rc;
}

int process_uprobe_read(const struct process_uprobe *probe, uint64_t *hits)
{
	*hits = 0;
	for (size_t i = 0; i < probe->count; i++) {
		uint64_t value;

		if (read(probe->fds[i], &value, sizeof(value)) != sizeof(value))
			return -errno;
		*hits += value;
	}
	*hits -= probe->before;
	return 0;
}

int process_uprobe_begin(struct process_uprobe *probe)
{
	probe->before = 0;
	return process_uprobe_read(probe, &probe->before);
}

static void undefine(int tracefs, const char *name)
{
	char text[96];

	snprintf(text, sizeof(text), "-:%s\n", name);
	(void)!write_definition(tracefs, text);
}

void process_uprobe_close(struct process_uprobe *probe)
{
	int tracefs = probe->name[0] ? open_tracefs() : -1;

	for (size_t i = 0; i < probe->count; i++)
		close(probe->fds[i]);
	if (tracefs >= 0) {
		undefine(tracefs, probe->name);
		close(tracefs);
	}
	free(probe->fds);
	*probe = (struct process_uprobe){0};
}

int process_uprobe_leftovers(pid_t pid)
{
	char group[32], line[512];
	struct process_uprobe left[64];
	int tracefs, fd, count = 0;
	FILE *list = NULL;

	if (!process_uprobes_exist())
		return 0;
	tracefs = open_tracefs();
	if (tracefs < 0)
		return 0; /* not ours to see: then it was not ours to define either */
	fd = openat(tracefs, "uprobe_events", O_RDONLY | O_CLOEXEC);
	if (fd >= 0)
		list = fdopen(fd, "r");
	snprintf(group, sizeof(group), "p:" GROUP_FORMAT "/", pid);
	while (list && count < 64 && fgets(line, sizeof(line), list)) {
		if (strncmp(line, group, strlen(group)))
			continue;
		line[strcspn(line, " \n")] = 0;
		snprintf(left[count++].name, sizeof(left[0].name), "%.63s", line + 2);
	}
	if (list)
		fclose(list);
	else if (fd >= 0)
		close(fd);
	for (int i = 0; i < count; i++)
		undefine(tracefs, left[i].name);
	close(tracefs);
	return count;
}
