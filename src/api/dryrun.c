/* SPDX-License-Identifier: MIT */
/* dryrun.c - what an attach would do, without doing any of it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "session.h"

int target_look_through(struct suture_target *t)
{
	struct restore r = {0};
	struct journal journal;
	int rc;

	free(t->left);
	t->left = NULL;
	rc = restore_read_journal(t->port, &journal, &t->left, &r);
	t->left_shared = r.shared;
	if (rc == -EBADMSG)
		return target_fail(t, rc,
		                   "process %d holds memory of a suture whose journal is damaged; "
		                   "nothing was changed",
		                   t->pid);
	return rc == -ENOENT ? 0 : rc;
}

/* As far as can be seen without asking the kernel for one. */
static int check_uprobes(struct suture_target *t)
{
	int rc = process_tracefs_works();

	for (size_t i = 0; rc && i < t->site_count; i++)
		if (!t->sites[i].error && t->sites[i].kind == SUTURE_SITE_UPROBE)
			site_refuse(&t->sites[i], -EOPNOTSUPP,
			            "no jump fits there, and the kernel refuses a uprobe: %s%s",
			            strerror(-rc),
			            rc == -EPERM || rc == -EACCES ? " (needs CAP_PERFMON)" : "");
	return rc ? target_check_exact(t) : 0;
}

static int plan_work(void *arg)
{
	struct suture_target *t = arg;
	int rc;

	process_set_budget(t->port, t->options.max_pause_ns);
	rc = process_budget_least(t->port);
	if (rc)
		return target_fail(t, rc, "%s", process_error(t->port));
	rc = target_look_through(t);
	if (rc)
		return rc;
	t->is_go = target_is_go(t);
	rc = wait_alone(t->pid, t->options.deadline_ns * t->options.tries, t->error,
	                sizeof(t->error));
	if (!rc)
		rc = target_plan(t);
	return rc ? rc : check_uprobes(t);
}

int suture_target_plan(struct suture_target *t)
{
	int rc, listed;

	if (t->attached)
		return target_fail(t, -EBUSY, "already attached");
	if (!t->probe_count)
		return target_fail(t, -EINVAL, "nothing to count");
	target_forget_plan(t);
	t->error[0] = 0;
	rc = run_tracing(plan_work, t);
	listed = target_list_probes(t);
	free(t->left);
	t->left = NULL;
	if (rc && process_gone(t->port))
		return target_fail(t, -ESRCH, "process %d has ended", t->pid);
	return rc ? rc : listed;
}
