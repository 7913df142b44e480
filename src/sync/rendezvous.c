/* SPDX-License-Identifier: MIT */
/*
 * rendezvous.c - all cores arrive, the last one changes the text, all leave.
 *
 * The *last* to arrive, because only it knows that all are here (case patch-before-quiescent); the
 * last *only*, because a second writer would write when the first ones have left (case
 * everybody-patches). What each core does on its own part is maintenance that is not broadcast,
 * and its context synchronisation event.
 *
 * A core completes what it ran before it announces itself (case arrival-before-completion):
 *
 *     core 0                                core 1
 *     load literal   … under way            arrived == 2: all are at rest
 *     arrived = 1    visible at once        write new code, new literal
 *     … the load: the new literal, for the old code
 *
 * and is masked before: an exception that it takes while it waits could run the very code that
 * is half written (case exception-in-quiescence).
 */
#include "sync/rendezvous.h"
#include "sync/text.h"

enum { GATHERING, CHANGING, CHANGED, ABANDONED };

struct meeting {
	struct sync_batch *batch;
	rendezvous_fn change;
	/* Shared. */
	uint32_t arrived;
	uint32_t phase;
	uint32_t result;
};

static void hold(struct port *port, struct meeting *m)
{
	port_point(port, PORT_POINT_HOLD);
	if (port_wait(port, &m->phase, GATHERING, m->batch->deadline_ns) == -ETIMEDOUT)
		port_cas(port, &m->phase, GATHERING, ABANDONED);
	/* Who changes waits for nobody. */
	port_point(port, PORT_POINT_HOLD);
	(void)!port_wait(port, &m->phase, CHANGING, PORT_FOREVER);
}

static void attend(struct port *port, uint32_t cores, void *arg)
{
	struct meeting *m = arg;
	uint64_t state;

	port_point(port, PORT_POINT_MASK);
	state = port_mask(port);
	port_point(port, PORT_POINT_COMPLETE);
	port_complete(port);
	if (port_add(port, &m->arrived, 1) < cores) {
		hold(port, m);
	} else if (port_cas(port, &m->phase, GATHERING, CHANGING)) {
		port_set(port, &m->result, (uint32_t)m->change(port, m->batch));
		port_set(port, &m->phase, CHANGED);
	}
	if (!port_caps(port)->maintenance_broadcast)
		text_drop_local(port, m->batch);
	port_point(port, PORT_POINT_SYNC_SELF);
	port_sync_self(port);
	port_unmask(port, state);
}

int sync_rendezvous(struct port *port, struct sync_batch *batch, rendezvous_fn change)
{
	struct meeting m = {.batch = batch, .change = change};
	int rc;

	port_set(port, &m.arrived, 0);
	port_set(port, &m.phase, GATHERING);
	port_set(port, &m.result, (uint32_t)-ETIMEDOUT);
	rc = port_run_on_all(port, attend, &m, batch->deadline_ns);
	/* Some core that was waited for in vain may have begun after the others gave up. */
	return rc ? rc : (int)port_load(port, &m.result);
}
