/* SPDX-License-Identifier: MIT */
/* family.c - the processes that share our memory: the target and whatever it forked. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "internal.h"

static bool maps_inode(pid_t pid, uint64_t device, uint64_t inode)
{
	struct process_maps maps;
	bool found = false;

	if (process_maps_read(process_member(pid), &maps))
		return false;
	for (size_t i = 0; i < maps.count && !found; i++)
		found = maps.list[i].inode == inode && maps.list[i].device == device;
	process_maps_free(&maps);
	return found;
}

int process_family(uint64_t device, uint64_t inode, pid_t *pids, size_t capacity)
{
	struct dirent *entry;
	DIR *proc = opendir("/proc");
	int found = 0;

	if (!proc)
		return -errno;
	while ((entry = readdir(proc))) {
		pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);

		if (!isdigit((unsigned char)entry->d_name[0]) || !maps_inode(pid, device, inode))
			continue;
		if ((size_t)found < capacity)
			pids[found] = pid;
		found++;
	}
	closedir(proc);
	return found;
}
