/* SPDX-License-Identifier: MIT */
/*
 * where.c - where threads are, as far as that is seen without stopping them.
 *
 * /proc/PID/task/TID/syscall shows the stack pointer and the program counter of a thread that
 * sleeps, and nothing of one that runs (proc(5)). Either may be otherwise a moment later.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "internal.h"

enum sight { SIGHT_GONE, SIGHT_RUNNING, SIGHT_ASLEEP };

/* The file's last two words are sp and pc: "nr a0 a1 a2 a3 a4 a5 sp pc", or "-1 sp pc". */
static enum sight parse(char *line, struct thread *thread)
{
	char *last, *before;

	line[strcspn(line, "\n")] = 0;
	if (strcmp(line, "running") == 0)
		return SIGHT_RUNNING;
	last = strrchr(line, ' ');
	if (!last)
		return SIGHT_GONE;
	*last = 0;
	before = strrchr(line, ' ');
	if (!before)
		return SIGHT_GONE;
	thread->regs.rip = strtoull(last + 1, NULL, 16);
	thread->regs.rsp = strtoull(before + 1, NULL, 16);
	return SIGHT_ASLEEP;
}

static int look(pid_t pid, pid_t tid, struct thread *thread, enum sight *sight)
{
	char path[64], line[256];
	ssize_t n;
	int fd;

	*thread = (struct thread){.tid = tid};
	*sight = SIGHT_GONE;
	snprintf(path, sizeof(path), "/proc/%d/task/%d/syscall", pid, tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT || errno == ESRCH ? 0 : -EPERM;
	n = read(fd, line, sizeof(line) - 1);
	close(fd);
	if (n <= 0)
		return n < 0 && errno != ESRCH ? -EPERM : 0;
	line[n] = 0;
	*sight = parse(line, thread);
	return 0;
}

static int look_at(pid_t pid, pid_t tid, const struct process_maps *maps,
                   const struct port_range *range, uint64_t *words, struct process_whereabouts *out)
{
	struct thread thread;
	enum sight sight;
	int rc = look(pid, tid, &thread, &sight), inside;

	if (rc || sight == SIGHT_GONE)
		return rc;
	out->threads++;
	if (sight == SIGHT_RUNNING) {
		out->running++;
		return 0;
	}
	out->asleep++;
	inside = thread.regs.rip >= range->start && thread.regs.rip < range->end;
	if (!inside && range->start < range->end)
		inside = stack_points_into(&thread, maps, 0, range, 1, words);
	if (inside > 0) {
		out->inside++;
		out->one = tid;
	}
	return 0;
}

int process_where(pid_t pid, const struct port_range *range, struct process_whereabouts *out)
{
	struct process_maps maps;
	uint64_t *words;
	pid_t *tids;
	size_t count;
	int rc;

	*out = (struct process_whereabouts){0};
	rc = process_maps_read(process_member(pid), &maps);
	if (rc)
		return rc;
	words = malloc(STACK_SCAN_PIECE);
	rc = words ? process_tasks(pid, &tids, &count) : -ENOMEM;
	if (!rc) {
		for (size_t i = 0; i < count && !rc; i++)
			rc = look_at(pid, tids[i], &maps, range, words, out);
		free(tids);
	}
	free(words);
	process_maps_free(&maps);
	return rc;
}
