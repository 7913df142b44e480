/* SPDX-License-Identifier: MIT */
/*
 * suture/record.h - what a session changes in a process, and in which: for an audit.
 *
 * Errors, threads and signals are as in suture/target.h. Nothing here stops or changes a process.
 */
#ifndef SUTURE_RECORD_H
#define SUTURE_RECORD_H

#include "suture/target.h"

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

enum { SUTURE_CHANGE_MAX = 16, SUTURE_BUILD_ID_TEXT = 129 };

/* Bytes of text that are changed. */
struct suture_change {
	uint64_t address; /* in the process, of the first byte looked at */
	uint8_t size;     /* in bytes; 0: the kernel changes the text (a uprobe) */
	uint8_t before[SUTURE_CHANGE_MAX], after[SUTURE_CHANGE_MAX];
	uint64_t trampoline; /* address that it leads to; 0: none, or not known */
};

/* What is changed for a probe, in order of suture_target_probe(); valid from
 * suture_target_attach() or suture_target_plan() on. -ERANGE: there is no such index. */
int suture_target_change(const struct suture_target *target, size_t index,
                         struct suture_change *out);

/* What a suture, alive or dead, has changed in process `pid`, by its journal. Returns the number of
 * edits, 0 if there is nothing; *list is to be freed by the caller, NULL if there are none.
 * -EBADMSG: the journal is damaged; -ESRCH, -EPERM, -ENOMEM. */
int suture_target_leftovers(pid_t pid, struct suture_change **list);

/* Which program a process runs. */
struct suture_program {
	char path[4096]; /* of the executable, as the process sees it; "" unknown */
	char build_id[SUTURE_BUILD_ID_TEXT]; /* in hexadecimal; "": none, or not to be read */
};

/* 0, also if parts of it are not known. -ESRCH: no such process. */
int suture_program_of(pid_t pid, struct suture_program *out);

/* Build ID, in hexadecimal, of the file that a probe is in; "" if it has none. Lives as long as the
 * session. */
const char *suture_target_build_id(const struct suture_target *target, size_t probe);

/* Remarks on what was read, one line each: files that were replaced on disk since they were
 * mapped. Of those files only in which a specification named something. NULL: no such index. */
const char *suture_target_note(const struct suture_target *target, size_t index);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif
#endif
