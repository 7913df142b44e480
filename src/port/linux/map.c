/* SPDX-License-Identifier: MIT */
/*
 * map.c - executable memory of ours.
 *
 * Private, anonymous, never writable: what is in it is written as text is (memory.c). So a fork has
 * its own, and what forbids writable executable memory (MDWE, SELinux, seccomp) has nothing to say.
 */
#include <errno.h>
#include <sys/mman.h>
#include "port/linux/linux.h"
#include "port/linux/syscall.h"

static void unmap(const struct port_pages *pages, size_t n)
{
	for (size_t i = 0; i < n; i++)
		syscall4(SYS_munmap, (long)pages[i].address, (long)pages[i].size, 0, 0);
}

/* There is no backing store: the contents come after the mapping. */
int port_map_exec(struct port *port, const struct port_pages *pages, size_t n)
{
	(void)port;
	for (size_t i = 0; i < n; i++) {
		long at = syscall6(SYS_mmap, (long)pages[i].address, (long)pages[i].size,
		                   PROT_READ | PROT_EXEC,
		                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

		if (at == (long)pages[i].address)
			continue;
		/* Kernels before 4.17 take the address for a hint. */
		if (at > 0)
			syscall4(SYS_munmap, at, (long)pages[i].size, 0, 0);
		unmap(pages, i);
		return at < 0 ? (int)at : -EEXIST;
	}
	return 0;
}

/* Trampolines stay: a thread may come back into one at any time. */
int port_unmap_exec(struct port *port)
{
	(void)port;
	return -ENOTSUP;
}
