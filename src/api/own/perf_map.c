/* SPDX-License-Identifier: MIT */
/*
 * perf_map.c - /tmp/perf-PID.map, in which perf report looks for names.
 *
 * The directory is everybody's, and the name can be foreseen. The file is opened anew each time: a
 * descriptor that was kept might be closed by a program that closes all it does not know, and its
 * number be used for another file.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include "api/own/visible.h"

enum { BLOCK = 16384, LINE = TRAMP_NAME + 64 };

static int open_map(void)
{
	char path[64];
	struct stat status;
	int file;

	snprintf(path, sizeof(path), "/tmp/perf-%d.map", (int)getpid());
	/* O_NONBLOCK: a pipe that somebody put there is refused, not waited for. */
	file = open(path,
	            O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
	            0600);
	if (file < 0)
		return -errno;
	if (fstat(file, &status) || !S_ISREG(status.st_mode) || status.st_nlink != 1 ||
	    status.st_uid != geteuid()) {
		close(file);
		return -EEXIST;
	}
	return file;
}

static int write_all(int file, const char *bytes, size_t size)
{
	while (size) {
		ssize_t n = write(file, bytes, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		bytes += n;
		size -= (size_t)n;
	}
	return 0;
}

/* Whole lines in each write: another compiler of the process may append between them. */
static int write_lines(int file, const struct tramp_code *codes, size_t n)
{
	char block[BLOCK], name[TRAMP_NAME];
	size_t used = 0;
	int rc = 0;

	for (size_t i = 0; i < n && !rc; i++) {
		tramp_name(&codes[i], name);
		used += (size_t)snprintf(block + used, LINE, "%" PRIx64 " %" PRIx32 " %s\n",
		                         codes[i].address, codes[i].size, name);
		if (used > BLOCK - LINE) {
			rc = write_all(file, block, used);
			used = 0;
		}
	}
	return rc ? rc : write_all(file, block, used);
}

int perf_map_append(const struct tramp_code *codes, size_t n)
{
	int rc, file = open_map();

	if (file < 0)
		return file;
	rc = write_lines(file, codes, n);
	close(file);
	return rc;
}
