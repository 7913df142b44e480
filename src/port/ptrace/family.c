/* SPDX-License-Identifier: MIT */
/* family.c - the processes that share our memory: the target and whatever it forked. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>
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

/* Call fn for every process; the number for which it says true, the first `capacity` stored. */
static int select_processes(bool (*fn)(pid_t pid, const void *arg), const void *arg, pid_t *pids,
                            size_t capacity)
{
	struct dirent *entry;
	DIR *proc = opendir("/proc");
	int found = 0;

	if (!proc)
		return -errno;
	while ((entry = readdir(proc))) {
		pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);

		if (!isdigit((unsigned char)entry->d_name[0]) || !fn(pid, arg))
			continue;
		if ((size_t)found < capacity)
			pids[found] = pid;
		found++;
	}
	closedir(proc);
	return found;
}

static bool in_family(pid_t pid, const void *shared)
{
	return process_maps_it(pid, shared);
}

int process_family(const struct process_shared *shared, pid_t *pids, size_t capacity)
{
	return select_processes(in_family, shared, pids, capacity);
}

/* Links to files, not the files: a foreign descriptor is never opened. */
static bool has_descriptor(pid_t pid, const void *arg)
{
	static const char name[] = PROCESS_SHARED_NAME " (deleted)";
	const struct process_shared *shared = arg;
	char path[64], link[sizeof(name) + 1];
	struct dirent *entry;
	bool found = false;
	DIR *dir;

	if (pid == getpid())
		return false;
	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	while (dir && !found && (entry = readdir(dir))) {
		ssize_t n = readlinkat(dirfd(dir), entry->d_name, link, sizeof(link));
		struct stat st;

		found = n == sizeof(name) - 1 && !memcmp(link, name, sizeof(name) - 1) &&
		        fstatat(dirfd(dir), entry->d_name, &st, 0) == 0 &&
		        st.st_ino == shared->inode &&
		        ((uint64_t)major(st.st_dev) << 32 | minor(st.st_dev)) == shared->device;
	}
	if (dir)
		closedir(dir);
	return found;
}

int process_holders(const struct process_shared *shared, pid_t *pids, size_t capacity)
{
	return select_processes(has_descriptor, shared, pids, capacity);
}

static bool shares_memory(pid_t pid, const void *arg)
{
	pid_t member = *(const pid_t *)arg;
	uint64_t group = 0;

	if (syscall(SYS_kcmp, member, pid, KCMP_VM, 0, 0) != 0)
		return false;
	return process_status_field(member, 0, "Tgid", 10, &group) == 0 && (pid_t)group != pid;
}

pid_t process_sharing_memory(pid_t pid)
{
	pid_t member = process_member(pid), other = 0;

	return select_processes(shares_memory, &member, &other, 1) > 0 ? other : 0;
}
