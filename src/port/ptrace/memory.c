/* SPDX-License-Identifier: MIT */
/*
 * memory.c - text of another process, through /proc/PID/mem.
 *
 * The kernel writes through its own mapping of the page (a private copy of it if the page came
 * from the file: FOLL_FORCE), so no view of ours exists and text is never writable. It copies
 * with memcpy: only one byte is whole for other cores, and a writer that is killed stops at a
 * page boundary.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <unistd.h>
#include "internal.h"

const struct port_caps *port_caps(const struct port *port)
{
	static const struct port_caps caps = {
	        .store_unit = 1,
	        .write_unit = PROCESS_PAGE,
	        .cores_arrive = false,
	        .threads_visible = true,
	        .maintenance_broadcast = true,
	        .traps = false,
	};

	(void)port;
	return &caps;
}

int port_read(struct port *port, uint64_t address, void *buffer, size_t size)
{
	uint8_t *out = buffer;

	while (size) {
		ssize_t n = pread(port->mem, out, size, (off_t)address);

		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0)
			return -ESRCH; /* the address space is gone */
		if (n < 0)
			return errno == EIO ? -EFAULT : -errno;
		out += n;
		address += (uint64_t)n;
		size -= (size_t)n;
	}
	return 0;
}

/* The session holds a lock on /proc/PID for as long as it is open. */
int port_lock(struct port *port, uint64_t deadline_ns)
{
	(void)port, (void)deadline_ns;
	return 0;
}

void port_unlock(struct port *port)
{
	(void)port;
}

int port_view_open(struct port *port, uint64_t address, size_t size, struct port_view *view)
{
	(void)port;
	*view = (struct port_view){.address = address, .size = size};
	return 0;
}

void port_view_close(struct port *port, struct port_view *view)
{
	(void)port;
	*view = (struct port_view){0};
}

int port_write(struct port *port, struct port_view *view, uint64_t address, const void *bytes,
               size_t size)
{
	const uint8_t *in = bytes;

	(void)view;
	while (size) {
		ssize_t n = pwrite(port->mem, in, size, (off_t)address);

		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0)
			return -ESRCH;
		if (n < 0)
			return errno == EIO ? -EFAULT : -errno;
		in += n;
		address += (uint64_t)n;
		size -= (size_t)n;
	}
	return 0;
}

int port_store(struct port *port, struct port_view *view, uint64_t address, const void *bytes,
               size_t size)
{
	return size == 1 ? port_write(port, view, address, bytes, 1) : -EINVAL;
}

/* x86 keeps its instruction caches coherent with all stores, through any mapping (SDM vol. 3,
 * 12.6 "Self-Modifying Code"): the three duties are empty. */
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

/* Only legal while stopped: every thread re-enters user mode by an interrupt return, which is
 * serialising (SDM vol. 3, 9.3). */
int port_sync_cores(struct port *port)
{
	return port->stopped ? 0 : -ENOTSUP;
}

static bool in_ranges(const struct port_range *ranges, size_t n, uint64_t address)
{
	size_t low = 0, high = n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (ranges[middle].end <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low < n && ranges[low].start <= address;
}

/*
 * Is there a word on the stack, from the stack pointer up, that points into the ranges? Covers
 * return addresses and the frames of signal handlers that interrupted code in them. Memory above
 * the stack pointer has been touched, so reading it allocates nothing in the target; a stack that
 * lies inside a larger mapping (coroutines) is read as far as STACK_SCAN_MAX.
 */
enum { STACK_SCAN_MAX = 8 << 20 };

int stack_points_into(const struct thread *thread, const struct process_maps *maps,
                      uint64_t stack_end, const struct port_range *ranges, size_t n,
                      uint64_t *words)
{
	uint64_t address = thread->regs.rsp & ~7ull;
	const struct process_mapping *stack = process_maps_find(maps, address);
	uint64_t end;

	if (!stack)
		return 0; /* no stack, nothing to return to */
	/* The red zone is below the stack pointer and may hold saved values too. */
	address = address - 128 > stack->start ? address - 128 : stack->start;
	end = stack_end && stack_end < stack->end ? stack_end : stack->end;
	end = end - address > STACK_SCAN_MAX ? address + STACK_SCAN_MAX : end;
	while (address < end) {
		size_t size = end - address < STACK_SCAN_PIECE ? end - address : STACK_SCAN_PIECE;
		ssize_t got = process_vm_readv(thread->tid, &(struct iovec){words, size}, 1,
		                               &(struct iovec){(void *)address, size}, 1, 0);

		if (got <= 0)
			return got < 0 && errno == ESRCH ? -ESRCH : 0;
		for (ssize_t i = 0; i < got / 8; i++)
			if (words[i] >= ranges[0].start && words[i] < ranges[n - 1].end &&
			    in_ranges(ranges, n, words[i]))
				return 1;
		address += (uint64_t)got;
	}
	return 0;
}

/*
 * Go's stacks lie side by side in its heap, those on which signals were handled among them: beyond
 * the thread's own there are frames that nobody returns to any more, and they may stay for ever.
 * Its end is what the runtime says, if that is a stack that the runtime made itself: a power of
 * two, aligned, and around the stack pointer. (Of stacks that C made it knows no true end, and in
 * the first instructions of a signal handler it still tells of the stack that was interrupted.) 0:
 * not known.
 */
static uint64_t go_stack_end(struct port *port, const struct thread *thread)
{
	enum { SMALLEST = 2048 };
	uint64_t g, bounds[2], size;

	if (port_read(port, thread->regs.fs_base - 8, &g, sizeof(g)) ||
	    port_read(port, g, bounds, sizeof(bounds)) || bounds[0] >= bounds[1])
		return 0;
	size = bounds[1] - bounds[0];
	if (size < SMALLEST || (size & (size - 1)) || bounds[0] % SMALLEST)
		return 0;
	if (thread->regs.rsp <= bounds[0] || thread->regs.rsp > bounds[1])
		return 0;
	return bounds[1];
}

static int scan_stacks(struct port *port, const struct port_range *ranges, size_t n,
                       uint64_t *words)
{
	int inside = 0;

	for (size_t i = 0; i < port->thread_count; i++) {
		const struct thread *thread = &port->threads[i];
		int rc = 0;

		/* The list was read before the stop; a stack can be younger. */
		if (!process_maps_find(&port->maps, thread->regs.rsp)) {
			process_maps_free(&port->maps);
			rc = process_maps_read(process_member(port->pid), &port->maps);
		}
		if (!rc)
			rc = stack_points_into(thread, &port->maps,
			                       port->is_go ? go_stack_end(port, thread) : 0, ranges,
			                       n, words);
		if (rc < 0)
			return rc;
		inside += rc;
	}
	return inside;
}

int port_occupied(struct port *port, const struct port_range *ranges, size_t n)
{
	uint64_t *words;
	int inside = 0;

	if (!n)
		return 0;
	for (size_t i = 0; i < port->thread_count; i++)
		if (in_ranges(ranges, n, port->threads[i].regs.rip))
			inside++;
	if (inside)
		return inside;
	words = malloc(STACK_SCAN_PIECE);
	inside = words ? scan_stacks(port, ranges, n, words) : -ENOMEM;
	free(words);
	return inside;
}

/* Linux 5.13, ptrace(2); not in glibc 2.36's headers. */
struct rseq_configuration {
	uint64_t address;
	uint32_t size;
	uint32_t signature;
	uint32_t flags;
	uint32_t pad;
};
#define GET_RSEQ_CONFIGURATION ((enum __ptrace_request)0x420f)
enum { RSEQ_CS_OFFSET = 8 };

static int rseq_area(pid_t tid, struct rseq_configuration *out)
{
	*out = (struct rseq_configuration){0};
	if (ptrace(GET_RSEQ_CONFIGURATION, tid, sizeof(*out), out) < 0)
		return -errno;
	return out->address ? 0 : -ENOENT;
}

int thread_rseq(const struct thread *thread, struct process_rseq *out)
{
	struct rseq_configuration area;
	int64_t offset;
	int rc = rseq_area(thread->tid, &area);

	if (rc)
		return rc;
	offset = (int64_t)(area.address - thread->regs.fs_base);
	if (offset != (int32_t)offset)
		return -ENOENT;
	*out = (struct process_rseq){(int32_t)offset, area.signature};
	return 0;
}

int process_rseq(struct port *port, struct process_rseq *out)
{
	bool found = false;

	for (size_t i = 0; i < port->thread_count; i++) {
		struct process_rseq own;

		if (thread_rseq(&port->threads[i], &own)) {
			if (process_kernel_worker(port->threads[i].tid))
				continue; /* executes nothing */
			return -ENOTSUP;
		}
		if (!found)
			*out = own;
		else if (own.offset != out->offset || own.signature != out->signature)
			return -ENOTSUP;
		found = true;
	}
	return found ? 0 : -ENOTSUP;
}

/*
 * The kernel reads the descriptor that struct rseq.rseq_cs points to whenever it has preempted
 * the thread, also long after the critical section ended; one that is unmapped is a SIGSEGV.
 */
int port_forget(struct port *port, const struct port_range *ranges, size_t n)
{
	for (size_t i = 0; i < port->thread_count; i++) {
		struct rseq_configuration area;
		uint64_t descriptor, none = 0;
		int rc;

		if (rseq_area(port->threads[i].tid, &area))
			continue;
		rc = port_read(port, area.address + RSEQ_CS_OFFSET, &descriptor,
		               sizeof(descriptor));
		if (rc == -EFAULT)
			continue;
		if (!rc && in_ranges(ranges, n, descriptor))
			rc = port_write(port, NULL, area.address + RSEQ_CS_OFFSET, &none,
			                sizeof(none));
		if (rc)
			return rc;
	}
	return 0;
}
