/* SPDX-License-Identifier: MIT */
/*
 * text.c - text is read where it is executed, and written through an alias.
 */
#include "port/bare/bare.h"
#include "port/bare/error.h"

int port_read(struct port *port, uint64_t address, void *buffer, size_t size)
{
	const volatile uint8_t *from = (const volatile uint8_t *)address;
	uint8_t *to = buffer;

	(void)port;
	if (!suture_machine_is_text(address, size))
		return -EFAULT;
	/* An instruction in one load: it may be changed meanwhile. */
	if (size == sizeof(uint32_t) && address % sizeof(uint32_t) == 0) {
		uint32_t word = *(const volatile uint32_t *)address;

		__builtin_memcpy(buffer, &word, sizeof(word));
		return 0;
	}
	while (size--)
		*to++ = *from++;
	return 0;
}

int port_view_open(struct port *port, uint64_t address, size_t size, struct port_view *view)
{
	void *alias;

	(void)port;
	if (!suture_machine_is_text(address, size))
		return -EFAULT;
	alias = suture_machine_map(address, size);
	if (!alias)
		return -EFAULT;
	*view = (struct port_view){.address = address, .size = size, .alias = (uint64_t)alias};
	return 0;
}

void port_view_close(struct port *port, struct port_view *view)
{
	(void)port;
	suture_machine_unmap((void *)view->alias, view->size);
}

int port_store(struct port *port, struct port_view *view, uint64_t address, const void *bytes,
               size_t size)
{
	if (size > port->caps.store_unit || (size & (size - 1)) || address % size)
		return -EINVAL;
	family_store(view->alias + (address - view->address), bytes, size);
	return 0;
}

int port_write(struct port *port, struct port_view *view, uint64_t address, const void *bytes,
               size_t size)
{
	volatile uint8_t *to = (volatile uint8_t *)(view->alias + (address - view->address));
	const uint8_t *from = bytes;

	(void)port;
	while (size--)
		*to++ = *from++;
	return 0;
}

void port_clean_written(struct port *port, const struct port_view *view, uint64_t address,
                        size_t size)
{
	family_clean(&port->caches, view->alias + (address - view->address), size);
}

void port_drop_read(struct port *port, uint64_t address, size_t size)
{
	family_drop_read(&port->caches, address, size);
}

void port_drop_executed(struct port *port, uint64_t address, size_t size)
{
	family_drop_executed(&port->caches, address, size);
}

/* ---- what this machine has not: text is mapped by the integrator, threads are his ---- */

int port_map_exec(struct port *port, const struct port_pages *pages, size_t n)
{
	(void)port, (void)pages, (void)n;
	return -ENOTSUP;
}

int port_unmap_exec(struct port *port)
{
	(void)port;
	return -ENOTSUP;
}

int port_occupied(struct port *port, const struct port_range *ranges, size_t n)
{
	(void)port, (void)ranges;
	return n ? -ENOTSUP : 0;
}

int port_forget(struct port *port, const struct port_range *ranges, size_t n)
{
	(void)port, (void)ranges;
	return n ? -ENOTSUP : 0;
}
