/* SPDX-License-Identifier: MIT */
/*
 * memory.c - our own text.
 *
 * The kernel writes through another mapping of the page, with its own memcpy: one byte is the most
 * that is whole. x86 keeps caches coherent with that (SDM vol. 3, 12.6), but a processor does not
 * notice a change through another linear address until it serialises (8.1.3): port_sync_cores.
 */
#include <errno.h>
#include "port/linux/linux.h"
#include "port/linux/syscall.h"

static int transfer(long call, int file, uint64_t address, const void *buffer, size_t size)
{
	const uint8_t *at = buffer;

	while (size) {
		long n = syscall4(call, file, (long)at, (long)size, (long)address);

		if (n == -EINTR)
			continue;
		/* -EINVAL: addresses of the upper half are negative offsets. */
		if (n <= 0)
			return n == -EIO || n == -EINVAL || n == 0 ? -EFAULT : (int)n;
		at += n;
		address += (uint64_t)n;
		size -= (size_t)n;
	}
	return 0;
}

int port_read(struct port *port, uint64_t address, void *buffer, size_t size)
{
	return transfer(SYS_pread64, port->mem, address, buffer, size);
}

int port_view_open(struct port *port, uint64_t address, size_t size, struct port_view *view)
{
	(void)port;
	view->address = view->alias = address;
	view->size = size;
	return 0;
}

void port_view_close(struct port *port, struct port_view *view)
{
	(void)port, (void)view;
}

int port_write(struct port *port, struct port_view *view, uint64_t address, const void *bytes,
               size_t size)
{
	(void)view;
	return transfer(SYS_pwrite64, port->mem, address, bytes, size);
}

int port_store(struct port *port, struct port_view *view, uint64_t address, const void *bytes,
               size_t size)
{
	return size == 1 ? port_write(port, view, address, bytes, 1) : -EINVAL;
}

void port_clean_written(struct port *port, const struct port_view *view, uint64_t address,
                        size_t size)
{
	(void)port, (void)view, (void)address, (void)size;
}

void port_drop_read(struct port *port, uint64_t address, size_t size)
{
	(void)port, (void)address, (void)size;
}

void port_drop_executed(struct port *port, uint64_t address, size_t size)
{
	(void)port, (void)address, (void)size;
}
