/* SPDX-License-Identifier: MIT */
/*
 * atomic.h - shared words for ports whose memory is the compiler's (all but port/model).
 *
 * Included from their port_local.h; see port.h for what each promises.
 */
#ifndef SUTURE_PORT_ATOMIC_H
#define SUTURE_PORT_ATOMIC_H

static inline uint32_t port_load(struct port *port, const uint32_t *word)
{
	(void)port;
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static inline void port_set(struct port *port, uint32_t *word, uint32_t value)
{
	(void)port;
	__atomic_store_n(word, value, __ATOMIC_RELEASE);
}

static inline uint32_t port_add(struct port *port, uint32_t *word, uint32_t n)
{
	(void)port;
	return __atomic_add_fetch(word, n, __ATOMIC_ACQUIRE);
}

static inline bool port_cas(struct port *port, uint32_t *word, uint32_t from, uint32_t to)
{
	(void)port;
	return __atomic_compare_exchange_n(word, &from, to, false, __ATOMIC_ACQUIRE,
	                                   __ATOMIC_ACQUIRE);
}

#endif
