/* SPDX-License-Identifier: MIT */
/*
 * suture/look.h - what could be done to a process, and why: nothing is done to it.
 *
 * A session opened by suture_target_look() reads /proc and the process's memory. It neither stops
 * the process nor writes to it, and it can be had where suture_target_attach() would be refused
 * as a whole: a process that is traced, confined or under a shadow stack, or that another suture
 * works on; suture_target_obstacle() says so then.
 *
 *     suture_target_look(pid, NULL, &target);
 *     suture_target_match(target, "libc.so.6:*");    what to look at
 *     suture_target_survey(target);                  the kind that each site would get
 *     suture_target_surveyed(target, i, &site);      … one by one
 *     suture_target_explain(target, i, 0, &why);     the safety case of one of them
 *     suture_target_close(target);
 *
 * Each site is planned as if it were the only one. Among others it can get another kind: its
 * trampoline's address may be taken, the pages used up, or the next site too near. Who is inside a
 * site is decided at the moment of attaching, with every thread at rest; what is said here is what
 * can be seen from outside, while threads run.
 *
 * Errors, threads and signals are as in suture/target.h.
 */
#ifndef SUTURE_LOOK_H
#define SUTURE_LOOK_H

#include "suture/target.h"

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

/*
 * Open process `pid` (> 0) to look at it. Of the options only `no_pun`, `no_window`, `no_uprobe`,
 * `pages` and the progress function matter, and `deadline_ns` to SUTURE_EXPLAIN_STOP. Errors as
 * suture_target_open(), less what suture_target_obstacle() is for. suture_target_attach() fails on
 * such a session (-EPERM).
 */
int suture_target_look(pid_t pid, const struct suture_target_options *options,
                       struct suture_target **out);

/*
 * Why an attach to the process would be refused at the moment of suture_target_look(), whatever
 * the site: one line, or NULL. `error`, unless NULL, gets what attach would return, or 0.
 */
const char *suture_target_obstacle(const struct suture_target *target, int *error);

/*
 * Add what a specification names, as suture_target_count() does, but all of it: a name that several
 * functions have stands for each of them, and every name that a function has is listed. Returns
 * the number of names added.
 */
int suture_target_match(struct suture_target *target, const char *spec);

/* Choose a kind for all that was added. 0, also if all are refused. May take seconds where there
 * are 100,000 functions; `progress` of the options is called meanwhile, in the caller's thread. */
int suture_target_survey(struct suture_target *target);

/* What one name would get. Strings live as long as the session. */
struct suture_survey {
	const char *spec;           /* as given */
	const char *module;         /* base name of the mapped file */
	const char *symbol;         /* NULL: none known */
	uint64_t offset;            /* from the symbol's first byte */
	uint64_t address;           /* in the process */
	uint64_t vaddr;             /* in the ELF file */
	uint64_t size;              /* of the function in bytes, as its symbol says; 0: not known */
	enum suture_site_kind kind; /* 0: it is refused */
	unsigned shift;     /* bytes from the address to the instruction that would be changed */
	int error;          /* of a refusal, negative errno; else 0 */
	const char *reason; /* of a refusal, one line, no full stop; else NULL */
};

/* Names surveyed; 0 before suture_target_survey(). In the order of the modules' addresses, and of
 * those in them. */
size_t suture_target_surveys(const struct suture_target *target);
/* -ERANGE: there is no such index. */
int suture_target_surveyed(const struct suture_target *target, size_t index,
                           struct suture_survey *out);

/* One file whose code the process has mapped. */
struct suture_module {
	const char *name; /* base name */
	const char *path; /* as the process sees it */
	int error;        /* it can not be read: negative errno; -ESTALE: replaced since */
	size_t functions; /* names in its symbol tables; 0 also before it was looked at */
};
size_t suture_target_modules(const struct suture_target *target);
int suture_target_module(const struct suture_target *target, size_t index,
                         struct suture_module *out);

/* ---- the safety case of one site ---- */

enum {
	SUTURE_EXPLAIN_BYTES = 32,
	SUTURE_EXPLAIN_LINES = 16,
	SUTURE_EXPLAIN_TEXT = 200,
};

/* An instruction that starts in the bytes shown. */
struct suture_instruction {
	uint8_t offset, length; /* bytes, from the site */
	char text[72];          /* AT&T syntax */
};

/* A jump that would stand in the site. */
struct suture_jump {
	uint8_t offset, length; /* bytes of the site that it is read from */
	uint64_t target;        /* address in the process */
	char does[SUTURE_EXPLAIN_TEXT];
};

/* A kind that was tried, in the order of trying. */
struct suture_try {
	enum suture_site_kind kind;
	uint8_t shift; /* bytes from the site to the instruction that it was tried at */
	bool taken;
	char why[SUTURE_EXPLAIN_TEXT]; /* why not; "" if taken */
};

/* One way of being in the middle of the change, and why nobody is. */
struct suture_claim {
	enum suture_claim_verdict {
		SUTURE_CLAIM_PROVEN = 1, /* can not happen */
		SUTURE_CLAIM_ATTACH,     /* looked at when attaching, with every thread at rest */
		SUTURE_CLAIM_BROKEN,     /* may happen: hence the refusal */
	} verdict;
	const char *what; /* "branches", … */
	char why[SUTURE_EXPLAIN_TEXT];
};

/* Where the threads are, as far as can be seen. */
struct suture_whereabouts {
	bool stopped;     /* they were: then this is exact, else of a moment that has passed */
	unsigned threads; /* in all */
	unsigned asleep;  /* in a system call: where they return to, and their stacks, were read */
	unsigned running; /* on a processor or about to be: not to be seen without a stop */
	unsigned inside;  /* of those seen, those that the change would have to wait for */
	pid_t one;        /* of these; 0 if SUTURE_EXPLAIN_STOP found them */
	uint64_t stop_ns; /* how long the stop was */
};

struct suture_explanation {
	struct suture_survey site;
	uint8_t size;    /* bytes shown: all that are changed, relied on or executed elsewhere */
	uint8_t changed; /* of them, from the site on, up to the last that changes; 0: none do */
	uint8_t before[SUTURE_EXPLAIN_BYTES], after[SUTURE_EXPLAIN_BYTES];
	struct suture_instruction instructions[SUTURE_EXPLAIN_LINES];
	struct suture_jump jumps[2];
	struct suture_try tries[SUTURE_EXPLAIN_LINES];
	struct suture_claim claims[SUTURE_EXPLAIN_LINES];
	size_t instruction_count, jump_count, try_count, claim_count;
	uint64_t trampoline; /* where the first jump leads; 0: none */
	/* Addresses at which nobody may be when the bytes change; both 0: it does not matter. */
	uint64_t clear_start, clear_end;
	struct suture_whereabouts threads;
};

/* Stop all threads for a moment to see where they are, as an attach would. */
#define SUTURE_EXPLAIN_STOP 1u

/*
 * Explain a name surveyed. `*out` is freed by suture_explanation_free(); its strings live as long
 * as the session. With SUTURE_EXPLAIN_STOP also the errors of stopping (-EPERM, -ETIMEDOUT);
 * without, the process is not touched. -ERANGE: there is no such index; -EINVAL: another flag.
 */
int suture_target_explain(struct suture_target *target, size_t index, unsigned flags,
                          struct suture_explanation **out);
void suture_explanation_free(struct suture_explanation *explanation);

/* ---- what this machine and a process allow ---- */

enum suture_finding_verdict {
	SUTURE_FINDING_OK = 1, /* as it should be */
	SUTURE_FINDING_NOTE,   /* works, with what follows from it */
	SUTURE_FINDING_LIMIT,  /* something does not work, counting does */
	SUTURE_FINDING_BLOCKS, /* counting does not work */
};

const char *suture_finding_verdict_name(enum suture_finding_verdict verdict); /* "ok" … */

struct suture_finding {
	bool of_process; /* else of the machine */
	enum suture_finding_verdict verdict;
	const char *what;    /* "yama", …: stable names, listed in suture(1) */
	const char *value;   /* "1", … */
	const char *follows; /* what follows from it */
	const char *change;  /* how to change it; NULL: nothing to change, or not possible */
};

struct suture_diagnosis;

/*
 * Find out what this machine, and process `pid` unless it is 0, allow. The process is neither
 * stopped nor written to. Some answers are got by trying in a child process made for that, which is
 * gone on return. -ENOMEM, -EINVAL (`pid` < 0); what is wrong with the process is a finding.
 */
int suture_diagnose(pid_t pid, struct suture_diagnosis **out);
size_t suture_diagnosis_findings(const struct suture_diagnosis *diagnosis);
/* Strings live as long as the diagnosis. -ERANGE: there is no such index. */
int suture_diagnosis_finding(const struct suture_diagnosis *diagnosis, size_t index,
                             struct suture_finding *out);
/* 0 if counting works as far as can be told, else what suture_target_open() or
 * suture_target_attach() would return; `reason`, unless NULL, gets the line, or NULL. */
int suture_diagnosis_verdict(const struct suture_diagnosis *diagnosis, const char **reason);
/* NULL is ignored. */
void suture_diagnosis_free(struct suture_diagnosis *diagnosis);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif
#endif
