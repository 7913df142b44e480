/* SPDX-License-Identifier: MIT */
/* port_local.h - what port/ptrace has inline. */
#ifndef SUTURE_PORT_LOCAL_H
#define SUTURE_PORT_LOCAL_H

/* Delays are injected from outside, at the system calls. */
static inline void port_point(enum port_point point)
{
	(void)point;
}

#endif
