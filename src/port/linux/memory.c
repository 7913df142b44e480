/* SPDX-License-Identifier: MIT */
/*
 * memory.c - our own text.
 *
 * The kernel writes through another mapping of the page, with its own memcpy: one byte is the most
 * that is whole. x86 keeps caches coherent with that (SDM vol. 3, 12.6), but a processor does not
 * notice a change through another linear address until it serialises (8.1.3): port_sync_cores.
 *
 * What is mapped twice is written by ourselves; there an aligned store of up to 8 bytes is whole
 * (8.1.1), as data. caps.store_unit does not say so: it is what holds for all text.
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

/* ---- text that is mapped twice ---- */

void linux_alias_add(struct port *port, struct linux_alias *alias)
{
	alias->next = port->aliases;
	port->aliases = alias;
}

void linux_alias_remove(struct port *port, struct linux_alias *alias)
{
	struct linux_alias **at = &port->aliases;

	while (*at && *at != alias)
		at = &(*at)->next;
	if (*at)
		*at = alias->next;
	port->recent = NULL;
}

static bool is_in(const struct linux_alias *alias, uint64_t address)
{
	return alias && address - alias->start < alias->size;
}

/* Where the byte at `address` is written by us, or 0. *size is cut to where that is the same. */
static uint64_t writable_at(struct port *port, uint64_t address, size_t *size)
{
	struct linux_alias *found = port->recent;
	uint64_t left;

	if (!is_in(found, address)) {
		for (found = port->aliases; found && !is_in(found, address); found = found->next)
			if (address < found->start && found->start - address < *size)
				*size = (size_t)(found->start - address);
		if (!found)
			return 0;
		port->recent = found;
	}
	left = found->start + found->size - address;
	if (left < *size)
		*size = (size_t)left;
	return found->writable + (address - found->start);
}

void *linux_writable(const struct port *port, uint64_t address, size_t size)
{
	const struct linux_alias *found = port->aliases;

	while (found && !is_in(found, address))
		found = found->next;
	if (!found || found->start + found->size - address < size)
		return NULL;
	return (void *)(uintptr_t)(found->writable + (address - found->start));
}

typedef uint64_t __attribute__((may_alias, aligned(1))) any_word;

/* Not memcpy, which could be patched. String moves take long to start. */
static void copy(uint64_t to, const void *from, size_t size)
{
	if (size <= 128) {
		for (; size >= 8; size -= 8, to += 8, from = (const char *)from + 8)
			*(any_word *)(uintptr_t)to = *(const any_word *)from;
	}
	if (size)
		__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
}

int port_view_open(struct port *port, uint64_t address, size_t size, struct port_view *view)
{
	uint64_t writable = writable_at(port, address, &(size_t){1});

	view->address = address;
	view->alias = writable ? writable : address;
	view->size = size;
	return 0;
}

void port_view_close(struct port *port, struct port_view *view)
{
	(void)port, (void)view;
}

/* Near sites that are written in one go may lie on both sides of a border. */
int port_write(struct port *port, struct port_view *view, uint64_t address, const void *bytes,
               size_t size)
{
	const uint8_t *from = bytes;
	int rc = 0;

	(void)view;
	while (size && !rc) {
		size_t part = size;
		uint64_t writable = writable_at(port, address, &part);

		if (writable)
			copy(writable, from, part);
		else
			rc = transfer(SYS_pwrite64, port->mem, address, from, part);
		address += part;
		from += part;
		size -= part;
	}
	return rc;
}

/* One store; the compiler knows nothing of what is there. */
static int store(uint64_t to, const void *bytes, size_t size)
{
	const uint8_t *from = bytes;
	uint64_t value = 0;

	for (size_t i = size; i; i--)
		value = value << 8 | from[i - 1];
	switch (size) {
	case 1:
		__atomic_store_n((uint8_t *)(uintptr_t)to, (uint8_t)value, __ATOMIC_RELEASE);
		return 0;
	case 2:
		__atomic_store_n((uint16_t *)(uintptr_t)to, (uint16_t)value, __ATOMIC_RELEASE);
		return 0;
	case 4:
		__atomic_store_n((uint32_t *)(uintptr_t)to, (uint32_t)value, __ATOMIC_RELEASE);
		return 0;
	case 8:
		__atomic_store_n((uint64_t *)(uintptr_t)to, value, __ATOMIC_RELEASE);
		return 0;
	default:
		return -EINVAL;
	}
}

int port_store(struct port *port, struct port_view *view, uint64_t address, const void *bytes,
               size_t size)
{
	uint64_t writable = writable_at(port, address, &(size_t){1});

	if (!writable)
		return size == 1 ? port_write(port, view, address, bytes, 1) : -EINVAL;
	return address % size ? -EINVAL : store(writable, bytes, size);
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
