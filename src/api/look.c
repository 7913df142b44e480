/* SPDX-License-Identifier: MIT */
/* look.c - sessions that only look, and the kind that each site would get. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "session.h"

/* What an attach would meet before it looks at any site. */
static void find_obstacle(struct suture_target *t)
{
	enum process_refusal refusal = process_check(t->pid, t->obstacle, sizeof(t->obstacle));

	t->obstacle_error = refusal_errno(refusal);
	if (refusal || !process_locked(t->pid))
		return;
	t->obstacle_error = -EBUSY;
	snprintf(t->obstacle, sizeof(t->obstacle), "another suture works on process %d", t->pid);
}

int suture_target_look(pid_t pid, const struct suture_target_options *options,
                       struct suture_target **out)
{
	enum process_refusal refusal;
	struct suture_target *t;
	char text[256];
	int rc;

	*out = NULL;
	refusal = process_check_look(pid, text, sizeof(text));
	if (refusal)
		return thread_fail(refusal_errno(refusal), "%s", text);
	t = calloc(1, sizeof(*t));
	if (!t)
		return thread_fail(-ENOMEM, "out of memory");
	t->pid = pid;
	t->lock = -1;
	t->looking = t->alone = true;
	options_default(&t->options, options);
	rc = process_open(pid, &t->port);
	if (rc) {
		suture_target_close(t);
		return rc == -ESRCH ? thread_fail(rc, "no process %d", pid)
		                    : thread_fail(rc, "process %d can not be opened: %s", pid,
		                                  strerror(-rc));
	}
	find_obstacle(t);
	*out = t;
	return 0;
}

const char *suture_target_obstacle(const struct suture_target *t, int *error)
{
	if (error)
		*error = t->obstacle_error;
	return t->obstacle_error ? t->obstacle : NULL;
}

int suture_target_match(struct suture_target *t, const char *spec)
{
	return target_add(t, spec, true);
}

int suture_target_survey(struct suture_target *t)
{
	if (!t->looking)
		return target_fail(t, -EPERM, "a session that may attach is not for looking");
	if (!t->probe_count)
		return target_fail(t, -EINVAL, "nothing to look at");
	target_forget_plan(t);
	/* What a dead suture left does not count. Through a damaged journal nothing is seen: its
	 * sites stay as they are found. */
	if (t->obstacle_error != -EBUSY)
		(void)target_look_through(t);
	t->is_go = target_is_go(t);
	t->error[0] = 0;
	return target_plan(t);
}

size_t suture_target_surveys(const struct suture_target *t)
{
	return t->sites ? t->probe_count : 0;
}

int suture_target_surveyed(const struct suture_target *t, size_t index, struct suture_survey *out)
{
	const struct probe *probe;
	const struct site *site;

	if (index >= suture_target_surveys(t))
		return -ERANGE;
	probe = &t->probes[index];
	site = &t->sites[probe->site];
	*out = (struct suture_survey){
	        .spec = t->specs[probe->spec].text,
	        .module = t->modules[probe->module].name,
	        .symbol = probe->symbol,
	        .offset = probe->offset,
	        .address = probe->address,
	        .vaddr = probe->vaddr,
	        .size = probe->size,
	        .kind = site->error ? 0 : site->kind,
	        .shift = site->error ? 0 : site->shift,
	        .error = site->error,
	};
	if (site->error)
		out->reason = site->reason ? site->reason : strerror(-site->error);
	return 0;
}

size_t suture_target_modules(const struct suture_target *t)
{
	return t->module_count;
}

int suture_target_module(const struct suture_target *t, size_t index, struct suture_module *out)
{
	const struct target_module *m;
	const struct module_symbol *symbols;

	if (index >= t->module_count)
		return -ERANGE;
	m = &t->modules[index];
	*out = (struct suture_module){
	        .name = m->name,
	        .path = m->path,
	        .error = m->error,
	        .functions = m->module ? module_symbols(m->module, &symbols) : 0,
	};
	return 0;
}
