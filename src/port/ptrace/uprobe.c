/* SPDX-License-Identifier: MIT */
/*
 * uprobe.c - counting by the kernel's own breakpoint, where nothing faster is possible.
 *
 * One perf event per thread, each inherited by what that thread creates: perf_event_open(2) has
 * no event for "all threads of a process". Opening takes the kernel's per-CPU rwsem, which can
 * wait for a grace period, so the process is not at rest meanwhile. Instead the list of threads is
 * read before and after: if it is the same, nobody was created in between, so nobody is counted
 * twice (inherited and opened) or not at all.
 */
#include <errno.h>
#include <inttypes.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "internal.h"

/* Type number of the kernel's uprobe events, which it hands out at boot. */
static int uprobe_type(void)
{
	FILE *file = fopen("/sys/bus/event_source/devices/uprobe/type", "re");
	int type = -1;

	if (file && fscanf(file, "%d", &type) != 1)
		type = -1;
	if (file)
		fclose(file);
	return type;
}

static int open_event(pid_t tid, int type, const char *path, uint64_t offset)
{
	struct perf_event_attr attr = {
	        .type = (uint32_t)type,
	        .size = sizeof(attr),
	        .inherit = 1,
	        .config1 = (uint64_t)(uintptr_t)path,
	        .config2 = offset,
	};
	long fd = syscall(SYS_perf_event_open, &attr, tid, -1, -1, PERF_FLAG_FD_CLOEXEC);

	return fd < 0 ? -errno : (int)fd;
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

int process_uprobe_open(struct port *port, const pid_t *tids, size_t count, uint64_t address,
                        struct process_uprobe *probe)
{
	int type = uprobe_type(), rc;
	uint64_t offset;
	char path[96];

	*probe = (struct process_uprobe){0};
	if (type < 0)
		return -ENOSYS;
	rc = locate(port, address, path, sizeof(path), &offset);
	if (rc)
		return rc;
	probe->fds = calloc(count, sizeof(*probe->fds));
	if (!probe->fds)
		return -ENOMEM;
	for (size_t i = 0; i < count && !rc; i++) {
		int fd = open_event(tids[i], type, path, offset);

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

void process_uprobe_close(struct process_uprobe *probe)
{
	for (size_t i = 0; i < probe->count; i++)
		close(probe->fds[i]);
	free(probe->fds);
	*probe = (struct process_uprobe){0};
}
