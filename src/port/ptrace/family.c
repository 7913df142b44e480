/* SPDX-License-Identifier: MIT */
/* family.c - the processes that share our memory: the target and whatever it forked. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "internal.h"

/* Mapped where the journal says, or executable: the owner's own view of the memory is neither. */
static bool member_of(const struct process_maps *maps, const struct process_shared *shared)
{
	for (size_t i = 0; i < maps->count; i++) {
		const struct process_mapping *m = &maps->list[i];

		if (m->inode == shared->inode && m->device == shared->device &&
		    (m->execute || m->start == shared->data_address))
			return true;
	}
	return false;
}

static bool process_maps_it(pid_t pid, const struct process_shared *shared)
{
	struct process_maps maps;
	pid_t member;
	bool found;

	if (process_maps_read(pid, &maps))
		return false;
	if (!maps.count && (member = process_member(pid)) != pid) {
		process_maps_free(&maps); /* the leader has ended, its threads have not */
		if (process_maps_read(member, &maps))
			return false;
	}
	found = member_of(&maps, shared);
	process_maps_free(&maps);
	return found;
}

int process_family(const struct process_shared *shared, pid_t *pids, size_t capacity)
{
	struct dirent *entry;
	DIR *proc = opendir("/proc");
	int found = 0;

	if (!proc)
		return -errno;
	while ((entry = readdir(proc))) {
		pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);

		if (!isdigit((unsigned char)entry->d_name[0]) || !process_maps_it(pid, shared))
			continue;
		if ((size_t)found < capacity)
			pids[found] = pid;
		found++;
	}
	closedir(proc);
	return found;
}
