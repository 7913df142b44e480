/* SPDX-License-Identifier: MIT */
/* pool.h - jobs on several CPUs. */
#ifndef SUTURE_CHECK_POOL_H
#define SUTURE_CHECK_POOL_H

#include "check/report.h"

/*
 * Runs all of them, at most `jobs` at a time, and shows how far it is if `progress` and standard
 * error is a terminal. The results are where the jobs are, whatever the order they end in.
 * Returns 0 or a negative errno, and then none has run.
 */
int pool_run(struct run *runs, unsigned count, unsigned jobs, bool progress);

#endif
