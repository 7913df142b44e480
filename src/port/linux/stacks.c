/* SPDX-License-Identifier: MIT */
/*
 * stacks.c - where parked threads are, and may return to.
 *
 * A word that could be a return address counts as one, from the stack pointer to the end of the
 * stack. Where that is the kernel knows only roughly, because it joins neighbouring mappings: it is
 * below the thread's control block, if that is above the stack pointer, and else where the mapping
 * ends. What handlers have interrupted may be on another stack: their frames are recognised by what
 * they return to.
 *
 * Contexts that no thread runs (coroutines that wait, makecontext) are not seen: nothing tells
 * where they are.
 */
#include <errno.h>
#include <stddef.h>
#include <ucontext.h>
#include "port/linux/linux.h"
#include "port/linux/syscall.h"

enum { RED_ZONE = 128, WORD = 8 };

/* As far as is looked; beyond, anybody could be inside. */
static const uint64_t scan_max = 64u << 20;

struct search {
	const struct port_range *ranges;
	size_t n;
	int inside;
};

struct mapping {
	uint64_t start, end;
	bool stack; /* could be one: readable and writable */
};

static bool in_ranges(const struct search *search, uint64_t address)
{
	size_t low = 0, high = search->n;

	if (address < search->ranges[0].start || address >= search->ranges[high - 1].end)
		return false;
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (address < search->ranges[middle].start)
			high = middle;
		else if (address >= search->ranges[middle].end)
			low = middle + 1;
		else
			return true;
	}
	return false;
}

static void found(struct park *park, struct search *search, const struct parked *one,
                  uint64_t address)
{
	search->inside++;
	park->occupant = one->tid;
	park->occupied = address;
}

/* ---- stacks ---- */

/* False: there are more than we can look at. */
static bool add_stack(struct parked *one, uint64_t pointer)
{
	struct park_stack *stack;

	if (one->count == PARK_STACKS)
		return false;
	stack = &one->stacks[one->count++];
	stack->start = stack->end = stack->at = pointer & ~(uint64_t)(WORD - 1);
	return true;
}

/* Is what is above `pointer` looked at anyway? */
static bool covered(const struct parked *one, uint64_t pointer)
{
	for (uint32_t i = 0; i < one->count; i++)
		if (pointer >= one->stacks[i].start && pointer < one->stacks[i].end)
			return true;
	return false;
}

/* A frame of a handler: what it interrupted may run on another stack. The frame begins with where
 * the handler returns to, then comes the context (arch/x86/include/asm/sigframe.h). False: there
 * are more stacks than we can look at. */
static bool look_at_frame(struct port *port, struct parked *one, uint64_t frame)
{
	uint64_t pointer;

	if (port_read(port, frame + WORD + offsetof(ucontext_t, uc_mcontext.gregs[REG_RSP]),
	              &pointer, sizeof(pointer)))
		return true; /* it ends before: a word that only looks like it */
	return covered(one, pointer) || add_stack(one, pointer);
}

/* One buffer full of words, the first of which is at `at`. False: the thread may be inside. */
static bool look_at_words(struct port *port, struct search *search, struct parked *one, uint64_t at,
                          size_t count)
{
	const struct park *park = &port->park;

	for (size_t i = 0; i < count; i++) {
		if (in_ranges(search, park->words[i])) {
			found(&port->park, search, one, park->words[i]);
			return false;
		}
		if (park->words[i] == park->restorer && !look_at_frame(port, one, at + i * WORD)) {
			found(&port->park, search, one, 0);
			return false;
		}
	}
	return true;
}

/* The words in [stack->at, stack->end). One that may be inside ends the search. */
static int scan(struct port *port, struct search *search, struct parked *one,
                struct park_stack *stack)
{
	struct park *park = &port->park;

	while (stack->at < stack->end) {
		uint64_t left = stack->end - stack->at;
		size_t size = left < sizeof(park->words) ? (size_t)left : sizeof(park->words);
		int rc;

		if (stack->at > stack->start + scan_max) {
			found(park, search, one, 0);
			return 0;
		}
		rc = port_read(port, stack->at, park->words, size);
		if (rc) {
			stack->end = stack->at;
			stack->at = 0;
			return rc == -EFAULT ? 0 : rc; /* nothing that was in use */
		}
		if (!look_at_words(port, search, one, stack->at, size / WORD))
			return 0;
		stack->at += size;
	}
	return 0;
}

/* As much of a stack as this mapping holds. */
static int scan_in(struct port *port, struct search *search, struct parked *one,
                   struct park_stack *stack, const struct mapping *mapping)
{
	uint64_t pointer = one->thread_pointer & ~(uint64_t)(WORD - 1);
	bool ends;
	int rc;

	if (stack->at < mapping->start || stack->at >= mapping->end)
		return 0;
	if (!mapping->stack) {
		stack->at = 0;
		return 0;
	}
	if (stack->at == stack->start)
		stack->at = stack->at - mapping->start > RED_ZONE ? stack->at - RED_ZONE
		                                                  : mapping->start;
	ends = pointer > stack->start && pointer < mapping->end;
	stack->end = ends ? pointer : mapping->end;
	rc = scan(port, search, one, stack);
	/* One that reaches the end of its mapping may go on in the next. */
	if (ends)
		stack->at = 0;
	return rc;
}

/* ---- mappings ---- */

static uint64_t hexadecimal(const char **at)
{
	uint64_t value = 0;

	for (;; (*at)++) {
		char c = **at;

		if (c >= '0' && c <= '9')
			value = value * 16 + (uint64_t)(c - '0');
		else if (c >= 'a' && c <= 'f')
			value = value * 16 + (uint64_t)(c - 'a') + 10;
		else
			return value;
	}
}

/* START-END PERMISSIONS ... (proc_pid_maps(5)) */
static void read_mapping(const char *line, struct mapping *mapping)
{
	mapping->start = hexadecimal(&line);
	line += *line == '-';
	mapping->end = hexadecimal(&line);
	line += *line == ' ';
	mapping->stack = line[0] == 'r' && line[1] == 'w';
}

static int scan_mapping(struct port *port, struct search *search, const struct mapping *mapping)
{
	for (struct parked *one = port->park.resting; one; one = one->next)
		for (uint32_t i = one->done; i < one->known; i++) {
			int rc = scan_in(port, search, one, &one->stacks[i], mapping);

			if (rc || search->inside)
				return rc;
		}
	return 0;
}

/* Once through all mappings, which are in the order of their addresses. */
static int pass(struct port *port, struct search *search, uint32_t self)
{
	struct park_file file;
	int rc = linux_open_task(port, self, "maps", &file);

	if (rc)
		return rc;
	while (!search->inside && (rc = linux_next_line(&file)) > 0) {
		struct mapping mapping;

		read_mapping(file.line, &mapping);
		rc = scan_mapping(port, search, &mapping);
		if (rc)
			break;
	}
	linux_close(&file);
	return rc < 0 ? rc : 0;
}

/* Stacks that are found in one pass may lie below where they were found: they are for the next. */
static int scan_stacks(struct port *port, struct search *search)
{
	uint32_t self = (uint32_t)syscall4(SYS_gettid, 0, 0, 0, 0);
	bool more = true;
	int rc = 0;

	while (more && !rc && !search->inside) {
		more = false;
		for (struct parked *one = port->park.resting; one; one = one->next) {
			one->done = one->known;
			one->known = one->count;
			more = more || one->done < one->known;
		}
		if (more)
			rc = pass(port, search, self);
	}
	return rc;
}

/* ---- all threads ---- */

/* Where it was interrupted, and registers that could hold where it goes. */
static void look_at_registers(struct park *park, struct search *search, const struct parked *one)
{
	for (int i = 0; i <= REG_RIP && one->context; i++) {
		uint64_t value = (uint64_t)one->context->uc_mcontext.gregs[i];

		if (in_ranges(search, value)) {
			found(park, search, one, value);
			return;
		}
	}
}

int port_occupied(struct port *port, const struct port_range *ranges, size_t n)
{
	struct park *park = &port->park;
	struct search search = {ranges, n, 0};
	int rc = 0;

	if (!n)
		return 0;
	if (phase_of(port_load(port, &park->phase)) != PARK_RUNNING)
		return -EINVAL;
	for (struct parked *one = park->resting; one; one = one->next) {
		one->count = one->known = one->done = 0;
		(void)add_stack(one, one->stack_pointer);
		look_at_registers(park, &search, one);
	}
	if (!search.inside)
		rc = scan_stacks(port, &search);
	return rc ? rc : search.inside;
}
