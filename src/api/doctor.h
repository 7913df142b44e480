/* SPDX-License-Identifier: MIT */
/* doctor.h - shared by the files that find out what is allowed, and by nobody else. */
#ifndef SUTURE_API_DOCTOR_H
#define SUTURE_API_DOCTOR_H

#include "session.h"
#include "suture/look.h"

struct suture_diagnosis {
	struct suture_finding *findings;
	size_t count, capacity;
	bool out_of_memory;
	struct process_trials trials;
	int verdict;
	char reason[400];
};

struct finding_text {
	enum suture_finding_verdict verdict;
	const char *follows, *change; /* change: NULL if there is nothing to change */
};
#define OK(...)     ((struct finding_text){SUTURE_FINDING_OK, __VA_ARGS__})
#define NOTE(...)   ((struct finding_text){SUTURE_FINDING_NOTE, __VA_ARGS__})
#define LIMIT(...)  ((struct finding_text){SUTURE_FINDING_LIMIT, __VA_ARGS__})
#define BLOCKS(...) ((struct finding_text){SUTURE_FINDING_BLOCKS, __VA_ARGS__})

/* Add a line; `format` makes the value. `what` is not copied. */
__attribute__((format(printf, 5, 6))) void finding(struct suture_diagnosis *d, bool of_process,
                                                   const char *what, struct finding_text text,
                                                   const char *format, ...);
/* Counting does not work, with what attach would return; the first reason counts. */
__attribute__((format(printf, 3, 4))) void diagnosis_refuse(struct suture_diagnosis *d, int error,
                                                            const char *format, ...);
/* Effective capabilities of ours: bit numbers of linux/capability.h. */
bool have_capability(unsigned number);
enum { DOCTOR_SYS_PTRACE = 19, DOCTOR_SYS_ADMIN = 21, DOCTOR_SYS_NICE = 23, DOCTOR_PERFMON = 38 };
/* First line of a file; false if it can not be read. */
bool read_line(const char *path, char *line, size_t size);

void diagnose_machine(struct suture_diagnosis *d);
void diagnose_process(struct suture_diagnosis *d, pid_t pid);
/* doctor_text.c: what is mapped in a process that can be read. */
void diagnose_memory(struct suture_diagnosis *d, struct suture_target *target);

#endif
