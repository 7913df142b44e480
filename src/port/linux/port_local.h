/* SPDX-License-Identifier: MIT */
/* port_local.h - what port/linux has inline. */
#ifndef SUTURE_PORT_LOCAL_H
#define SUTURE_PORT_LOCAL_H

#include "port/atomic.h"

static inline void port_point(struct port *port, enum port_point point)
{
	(void)port;
	(void)point;
}

static inline void port_complete(struct port *port)
{
	(void)port;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

#endif
