/* SPDX-License-Identifier: MIT */
/*
 * cores.c - cores that are asked by an interrupt, and arrive by themselves.
 *
 * A request is a word for each core, which has one taker: the core, or who asked, who takes it back
 * when the time is over. So a core that comes late does nothing, however late it is, and who asked
 * knows which cores have begun and waits for those (the contract of port_run_on_all):
 *
 *     asks                              late core
 *     request = ASKED, interrupt        … masked
 *     the bound passes
 *     ASKED -> IDLE                     unmasked, interrupted: no request, goes on
 *
 * Who waits, for whatever it is, looks for requests meanwhile: a core that waits in a trap handler
 * with interrupts masked, or for the lock, would otherwise keep the very transaction from its end
 * for which it waits.
 */
#include "port/bare/bare.h"
#include "port/bare/error.h"

const struct port_caps *port_caps(const struct port *port)
{
	return &port->caps;
}

static uint64_t end_of(uint64_t deadline_ns)
{
	uint64_t start = suture_machine_now();

	return deadline_ns > UINT64_MAX - start ? PORT_FOREVER : start + deadline_ns;
}

static bool is_over(uint64_t end)
{
	return end != PORT_FOREVER && suture_machine_now() >= end;
}

/* ---- requests ---- */

void bare_serve(struct port *port)
{
	uint32_t self = suture_machine_core();
	struct bare_core *core;

	if (self >= port->cores)
		return;
	core = &port->core[self];
	if (port_load(port, &core->request) != BARE_ASKED ||
	    !port_cas(port, &core->request, BARE_ASKED, BARE_TAKEN))
		return;
	port->asked_fn(port, port->asked_cores, port->asked_arg);
	port_set(port, &core->request, BARE_IDLE);
}

static bool is_other(struct port *port, uint32_t core, uint32_t self)
{
	return core != self && port_load(port, &port->core[core].online);
}

/* Wait for those that began; take back what the others were asked for. */
static int gather(struct port *port, uint32_t self, uint64_t end)
{
	int rc = 0;

	for (uint32_t i = 0; i < port->cores; i++) {
		uint32_t *request = &port->core[i].request;

		if (!is_other(port, i, self))
			continue;
		while (port_load(port, request) != BARE_IDLE) {
			if (is_over(end) && port_cas(port, request, BARE_ASKED, BARE_IDLE))
				rc = -ETIMEDOUT;
			family_relax();
		}
	}
	return rc;
}

int port_run_on_all(struct port *port, port_core_fn fn, void *arg, uint64_t deadline_ns)
{
	uint32_t self = suture_machine_core(), cores = 1;
	uint64_t end = end_of(deadline_ns);

	for (uint32_t i = 0; i < port->cores; i++)
		cores += is_other(port, i, self);
	port->asked_fn = fn;
	port->asked_arg = arg;
	port->asked_cores = cores;
	for (uint32_t i = 0; i < port->cores; i++)
		if (is_other(port, i, self))
			port_set(port, &port->core[i].request, BARE_ASKED);
	family_publish();
	for (uint32_t i = 0; i < port->cores; i++)
		if (is_other(port, i, self))
			suture_machine_interrupt(i);
	fn(port, cores, arg);
	return gather(port, self, end);
}

static void synchronise(struct port *port, uint32_t cores, void *arg)
{
	(void)port, (void)cores, (void)arg;
	family_synchronise();
}

int port_sync_cores(struct port *port)
{
	return port_run_on_all(port, synchronise, NULL, port->bound_ns);
}

void port_sync_self(struct port *port)
{
	(void)port;
	family_synchronise();
}

/* ---- waiting ---- */

int port_wait(struct port *port, const uint32_t *word, uint32_t value, uint64_t deadline_ns)
{
	uint64_t end = end_of(deadline_ns);

	while (port_load(port, word) == value) {
		if (is_over(end))
			return -ETIMEDOUT;
		bare_serve(port);
		family_relax();
	}
	return 0;
}

void port_pause(struct port *port, uint64_t ns)
{
	uint64_t end = end_of(ns);

	while (!is_over(end)) {
		bare_serve(port);
		family_relax();
	}
}

int port_lock(struct port *port, uint64_t deadline_ns)
{
	uint64_t end = end_of(deadline_ns);

	while (!port_cas(port, &port->lock, 0, suture_machine_core() + 1)) {
		if (is_over(end))
			return -ETIMEDOUT;
		bare_serve(port);
		family_relax();
	}
	return 0;
}

void port_unlock(struct port *port)
{
	port_set(port, &port->lock, 0);
}

uint64_t port_mask(struct port *port)
{
	(void)port;
	return suture_machine_mask();
}

void port_unmask(struct port *port, uint64_t state)
{
	(void)port;
	suture_machine_unmask(state);
}

/* ---- coming and going ---- */

static uint32_t smaller(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* What holds for all cores that were ever online. */
static void caches_merge(struct port *port)
{
	struct family_caches *all = &port->caches, here;

	if (port->caches_given)
		return;
	family_caches_read(&here);
	if (!all->data_line) {
		*all = here;
		return;
	}
	all->data_line = smaller(all->data_line, here.data_line);
	all->instruction_line = smaller(all->instruction_line, here.instruction_line);
	all->data_reaches_fetch = all->data_reaches_fetch && here.data_reaches_fetch;
	all->instruction_coherent = all->instruction_coherent && here.instruction_coherent;
}

int bare_online(struct port *port, bool online)
{
	uint32_t self = suture_machine_core();
	int rc;

	if (self >= port->cores)
		return -EINVAL;
	rc = port_lock(port, port->bound_ns);
	if (rc)
		return rc;
	if (online) {
		caches_merge(port);
		/* What it fetched, or what reset left in its caches, is from before. */
		family_drop_all_here();
	}
	port_set(port, &port->core[self].online, online);
	port_unlock(port);
	return 0;
}

bool bare_alone(struct port *port)
{
	uint32_t self = suture_machine_core();

	for (uint32_t i = 0; i < port->cores; i++)
		if (is_other(port, i, self))
			return false;
	return true;
}

void bare_start(struct port *port)
{
	port->caps.store_unit = FAMILY_STORE_UNIT;
	port->caps.write_unit = 0;
	port->caps.cores_arrive = true;
	port->caps.threads_visible = false;
	port->caps.maintenance_broadcast = FAMILY_MAINTENANCE_BROADCAST;
	port->caps.traps = true;
}

/* ---- traps ---- */

int port_trap_attach(struct port *port, port_trap_fn handler, void *arg)
{
	port->handler = handler;
	port->handler_arg = arg;
	return 0;
}

void port_trap_detach(struct port *port)
{
	port->handler = NULL;
}

uint32_t bare_enter(struct port *port)
{
	uint32_t period = port_load(port, &port->period) & 1;

	port_add(port, &port->inside[period], 1);
	port_complete(port);
	return period;
}

void bare_leave(struct port *port, uint32_t period)
{
	(void)port;
	__atomic_sub_fetch(&port->inside[period], 1, __ATOMIC_RELEASE);
}

/* Newcomers use the other counter; twice, for one that read the period and had not counted itself
 * when it changed. */
int port_grace(struct port *port, uint64_t deadline_ns)
{
	uint64_t end = end_of(deadline_ns);

	for (int i = 0; i < 2; i++) {
		uint32_t old = port_load(port, &port->period) & 1;

		port_add(port, &port->period, 1);
		port_complete(port);
		while (port_load(port, &port->inside[old])) {
			if (is_over(end))
				return -ETIMEDOUT;
			bare_serve(port);
			family_relax();
		}
	}
	return 0;
}

/* Cores arrive here: nobody is stopped from outside. */
int port_stop(struct port *port, uint64_t deadline_ns)
{
	(void)port, (void)deadline_ns;
	return -ENOTSUP;
}

void port_resume(struct port *port)
{
	(void)port;
}
