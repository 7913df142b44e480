/* SPDX-License-Identifier: MIT */
/* audit.h - the audit log of count and revert; see audit.c. */
#ifndef SUTURE_CLI_AUDIT_H
#define SUTURE_CLI_AUDIT_H

#include <stdint.h>
#include <sys/types.h>

#include <suture/record.h>

struct audit {
	const char *path; /* NULL: syslog */
	pid_t pid;
	int file, syslog; /* descriptors, -1: none */
	int failed;       /* errno of the first line that was not written to the file */
	char id[40];      /* that all lines of this command share */
	char *line;       /* the one that is being made */
	size_t line_size;
};

/* STATUS_DONE, or STATUS_INTERNAL after a complaint: then nothing may be changed. */
int audit_open(struct audit *audit, const char *path, pid_t pid);
/* What is about to happen, to whom, by whom: "attach-begin" or "revert-begin". */
int audit_begin(struct audit *audit, const char *event, size_t specs, uint64_t max_pause_ns);
/* What came of it. `target` may be NULL: it could not be opened. */
void audit_attach(struct audit *audit, const struct suture_target *target, int status);
void audit_detach(struct audit *audit, const struct suture_target *target, int status);
void audit_revert(struct audit *audit, const struct suture_change *edits, int count, int processes,
                  int status);
/* STATUS_INTERNAL if a line was lost; that has been complained of then. */
int audit_close(struct audit *audit);

#endif
