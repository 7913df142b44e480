/* SPDX-License-Identifier: MIT */
/* port_local.h - what port/bare has inline; the family's own part is chosen by include path. */
#ifndef SUTURE_PORT_LOCAL_H
#define SUTURE_PORT_LOCAL_H

#include "family.h"
#include "port/atomic.h"

static inline void port_point(struct port *port, enum port_point point)
{
	(void)port;
	(void)point;
}

static inline void port_complete(struct port *port)
{
	(void)port;
	family_complete();
}

#endif
