/* SPDX-License-Identifier: MIT */
/*
 * cores.c - threads, as the cores of port.h.
 */
#include <errno.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <time.h>
#include "port/linux/linux.h"
#include "port/linux/syscall.h"

enum { WAITED_FOR = 1u << 31, POLL_NS = 50000 };

const struct port_caps *port_caps(const struct port *port)
{
	return &port->caps;
}

/* ---- time ---- */

uint64_t linux_now(void)
{
	struct timespec t;

	syscall4(SYS_clock_gettime, CLOCK_MONOTONIC, (long)&t, 0, 0);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t linux_end_of(uint64_t deadline_ns)
{
	uint64_t start = linux_now();

	return deadline_ns > UINT64_MAX - start ? PORT_FOREVER : start + deadline_ns;
}

void linux_futex_wait(const uint32_t *word, uint32_t value, uint64_t ns)
{
	struct timespec t = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};

	syscall6(SYS_futex, (long)word, FUTEX_WAIT_PRIVATE, (long)value, (long)&t, 0, 0);
}

void linux_futex_wake(const uint32_t *word, int threads)
{
	syscall6(SYS_futex, (long)word, FUTEX_WAKE_PRIVATE, threads, 0, 0, 0);
}

void port_pause(struct port *port, uint64_t ns)
{
	struct timespec t = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};

	(void)port;
	syscall4(SYS_nanosleep, (long)&t, 0, 0, 0);
}

/* ---- waiting ---- */

/* Whoever changes the word wakes nobody: the pauses are short. */
int port_wait(struct port *port, const uint32_t *word, uint32_t value, uint64_t deadline_ns)
{
	uint64_t end = linux_end_of(deadline_ns), slice = 0;

	while (port_load(port, word) == value) {
		if (end != PORT_FOREVER && linux_now() >= end)
			return -ETIMEDOUT;
		if (!slice)
			slice = linux_park_slice(port, word, POLL_NS);
		linux_futex_wait(word, value, slice);
	}
	return 0;
}

int port_lock(struct port *port, uint64_t deadline_ns)
{
	uint64_t end = linux_end_of(deadline_ns);
	uint32_t self = (uint32_t)syscall4(SYS_gettid, 0, 0, 0, 0);

	if (syscall4(SYS_getpid, 0, 0, 0, 0) != (long)port->pid)
		return -EPERM;
	while (!port_cas(port, &port->lock, 0, self)) {
		uint32_t held = port_load(port, &port->lock);

		if (!held)
			continue;
		if (end != PORT_FOREVER && linux_now() >= end)
			return -ETIMEDOUT;
		if (!(held & WAITED_FOR) && !port_cas(port, &port->lock, held, held | WAITED_FOR))
			continue;
		linux_futex_wait(&port->lock, held | WAITED_FOR, 20 * POLL_NS);
	}
	port->changes++;
	return 0;
}

void port_unlock(struct port *port)
{
	uint32_t held = __atomic_exchange_n(&port->lock, 0, __ATOMIC_RELEASE);

	if (held & WAITED_FOR)
		linux_futex_wake(&port->lock, 1);
}

/* ---- signals, as exceptions ---- */

uint64_t port_mask(struct port *port)
{
	uint64_t all = UINT64_MAX, old = 0;

	(void)port;
	syscall4(SYS_rt_sigprocmask, SIG_SETMASK, (long)&all, (long)&old, sizeof(old));
	return old;
}

void port_unmask(struct port *port, uint64_t state)
{
	(void)port;
	syscall4(SYS_rt_sigprocmask, SIG_SETMASK, (long)&state, 0, sizeof(state));
}

/* ---- synchronisation ---- */

/* A fork inherits the registration, an exec does not; then the library is loaded again. */
int port_sync_cores(struct port *port)
{
	long rc;

	(void)port;
	rc = syscall4(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0, 0);
	if (rc == -EPERM) {
		syscall4(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0,
		         0);
		rc = syscall4(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0, 0);
	}
	return (int)rc;
}

void port_sync_self(struct port *port)
{
	uint32_t a = 0, b, c = 0, d;

	(void)port;
	/* CPUID serialises (SDM vol. 3, 9.3). */
	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d) : : "memory");
}

/*
 * Two counters, of which new threads use one: when the other one has come to 0, all that were
 * inside at the call have left. A thread that read the period and has not counted itself yet is
 * why it is done twice.
 */
int port_grace(struct port *port, uint64_t deadline_ns)
{
	uint64_t end = linux_end_of(deadline_ns);

	for (int i = 0; i < 2; i++) {
		uint32_t old = port_load(port, &port->period) & 1;

		port_add(port, &port->period, 1);
		port_complete(port);
		while (port_load(port, &port->inside[old])) {
			if (end != PORT_FOREVER && linux_now() >= end)
				return -ETIMEDOUT;
			port_pause(port, POLL_NS);
		}
	}
	return 0;
}

/* ---- what this machine has not ---- */

int port_stop(struct port *port, uint64_t deadline_ns)
{
	(void)port, (void)deadline_ns;
	return -ENOTSUP;
}

void port_resume(struct port *port)
{
	(void)port;
}

int port_forget(struct port *port, const struct port_range *ranges, size_t n)
{
	(void)port, (void)ranges;
	return n ? -ENOTSUP : 0;
}
