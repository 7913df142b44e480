/* SPDX-License-Identifier: MIT */
/*
 * gdb.c - gdb's interface for just-in-time compilers ("JIT Compilation Interface" in its manual).
 *
 * gdb looks for two symbols in each file of the process, puts a breakpoint on the function, and
 * reads the list when it is hit, and once when it attaches. The names are given; they are local, so
 * that those of a compiler in the same process are neither replaced by ours nor replace them: gdb
 * reads the symbol table of each file, and keeps a list for each.
 *
 * It may attach at any time, between any two stores: the list is complete after each of them.
 */
#include "api/own/visible.h"

enum { GDB_NOTHING, GDB_REGISTER, GDB_UNREGISTER };

struct gdb_descriptor {
	uint32_t version;
	uint32_t action;
	struct gdb_entry *relevant;
	struct gdb_entry *first;
};

extern struct gdb_descriptor __jit_debug_descriptor __attribute__((visibility("hidden")));
void __jit_debug_register_code(void) __attribute__((visibility("hidden")));

__attribute__((used)) struct gdb_descriptor __jit_debug_descriptor = {.version = 1};

/* gdb's breakpoint is here. */
__attribute__((used, noinline)) void __jit_debug_register_code(void)
{
	__asm__ volatile("" ::: "memory");
}

static void tell(uint32_t action, struct gdb_entry *entry)
{
	__jit_debug_descriptor.relevant = entry;
	__jit_debug_descriptor.action = action;
	__jit_debug_register_code();
	__jit_debug_descriptor.action = GDB_NOTHING;
	__jit_debug_descriptor.relevant = NULL;
}

void gdb_register(struct gdb_entry *entry)
{
	struct gdb_entry *first = __jit_debug_descriptor.first;

	entry->next = first;
	entry->previous = NULL;
	if (first)
		first->previous = entry;
	__atomic_store_n(&__jit_debug_descriptor.first, entry, __ATOMIC_RELEASE);
	tell(GDB_REGISTER, entry);
}

void gdb_deregister(struct gdb_entry *entry)
{
	if (entry->next)
		entry->next->previous = entry->previous;
	if (entry->previous)
		entry->previous->next = entry->next;
	else
		__jit_debug_descriptor.first = entry->next;
	tell(GDB_UNREGISTER, entry);
}
