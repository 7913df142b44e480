/* SPDX-License-Identifier: MIT */
/*
 * elsewhere.c - the part of port.h that only a machine has which we run on ourselves.
 *
 * The cores of another process do not arrive anywhere by themselves (caps.cores_arrive), and its
 * traps are its own (caps.traps).
 */
#include <errno.h>
#include "port/port.h"

int port_run_on_all(struct port *port, port_core_fn fn, void *arg, uint64_t deadline_ns)
{
	(void)port, (void)fn, (void)arg, (void)deadline_ns;
	return -ENOTSUP;
}

uint64_t port_mask(struct port *port)
{
	(void)port;
	return 0;
}

void port_unmask(struct port *port, uint64_t state)
{
	(void)port, (void)state;
}

void port_sync_self(struct port *port)
{
	(void)port;
}

int port_wait(struct port *port, const uint32_t *word, uint32_t value, uint64_t deadline_ns)
{
	(void)port, (void)word, (void)value, (void)deadline_ns;
	return -ENOTSUP;
}

int port_grace(struct port *port, uint64_t deadline_ns)
{
	(void)port, (void)deadline_ns;
	return -ENOTSUP;
}
