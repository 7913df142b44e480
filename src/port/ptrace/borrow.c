/* SPDX-License-Identifier: MIT */
/*
 * borrow.c - a thread of the process makes system calls for us, and never notices.
 *
 * We may die at any instruction, so at every instruction the thread must be able to go on
 * without us. Before its registers change, a complete signal frame (registers, vector state,
 * signal mask) is written below its red zone, and all that it is ever made to run ends in
 * rt_sigreturn on that frame:
 *
 *     stack:  [ address of `mov $15,%eax; syscall` ][ ucontext ][ xsave area ]
 *     rip:    `syscall; ret`                       (both found in the process's own code)
 *
 * A program that never installs a signal handler may have no `mov $15,%eax; syscall`; then
 * `pop %rax; ret` loads the 15, and `syscall; ret` serves once more.
 *
 *     us                                    the thread
 *     --                                    ----------
 *     write frame
 *     PTRACE_SETREGS     -- from here on, if we die, it makes the call, returns, and
 *     PTRACE_SETSIGMASK     rt_sigreturn gives it back everything, mask included
 *     PTRACE_SYSCALL ×2                     syscall
 *     read result, interrupt it again
 *     PTRACE_SETSIGMASK, PTRACE_SETREGS     (as before; rt_sigreturn is not reached)
 *     PTRACE_DETACH
 *
 * If we live, the thread does not return through the frame: it gets its old registers back in a
 * stop of the same kind, so that the kernel itself decides how its interrupted system call goes
 * on (restart_block and all). In the frame, which is only for our death, the call is repeated
 * from the start: a relative timeout begins afresh.
 *
 * The mask comes after the registers: the other way round, dying between the two would leave
 * the thread with all signals blocked for ever.
 */
#include <cpuid.h>
#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
#include "internal.h"

enum {
	RED_ZONE = 128,       /* System V psABI, 3.2.2 */
	FRAME_MAX = 64 << 10, /* xsave area with every feature that exists, and more */
	STRING_MAX = 64,
	FXSAVE_SW_BYTES = 464, /* software-reserved part of the FXSAVE image */
	XSAVE_HEADER = 512,    /* behind that image; begins with the components in use */
	XSAVE_HEADER_END = XSAVE_HEADER + 64,
	BORROW_DEADLINE_NS = 50000000,
	BORROW_TRIES_NS = 500000000,
	CALL_DEADLINE_NS = 2000000000,
	STUB_LINGER_NS = 200000000, /* how long the stub waits for us before it goes home */
};
#define FP_XSTATE_MAGIC_FIRST 0x46505853u
#define FP_XSTATE_MAGIC_LAST  0x46505845u
#ifndef PTRACE_EVENT_STOP
#define PTRACE_EVENT_STOP 128
#endif
#define UC_FLAGS_XSTATE_AND_SS 7 /* UC_FP_XSTATE, UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS */
#define USER_CODE_64           0x33
#define USER_DATA              0x2b

/* The kernel's struct rt_sigframe up to the part that rt_sigreturn reads. */
struct signal_frame {
	uint64_t chain[2]; /* ours: `pop %rax; ret` and 15, if there is no gadget_sigreturn */
	uint64_t return_address;
	uint64_t flags, link, stack_sp;
	uint32_t stack_flags, stack_pad;
	uint64_t stack_size;
	uint64_t r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip;
	uint64_t eflags;
	uint16_t cs, gs, fs, ss;
	uint64_t err, trapno, oldmask, cr2, fpstate, reserved[8];
	uint64_t sigmask;
	char string[STRING_MAX]; /* ours: arguments of calls */
};

/* State of a thread without us: an interrupted system call is made again from its start. */
static void frame_registers(struct signal_frame *frame, const struct user_regs_struct *regs)
{
	bool restart = (int64_t)regs->orig_rax >= 0 && (int64_t)regs->rax <= -512 &&
	               (int64_t)regs->rax >= -516; /* ERESTARTSYS … ERESTART_RESTARTBLOCK */

	frame->r8 = regs->r8;
	frame->r9 = regs->r9;
	frame->r10 = regs->r10;
	frame->r11 = regs->r11;
	frame->r12 = regs->r12;
	frame->r13 = regs->r13;
	frame->r14 = regs->r14;
	frame->r15 = regs->r15;
	frame->rdi = regs->rdi;
	frame->rsi = regs->rsi;
	frame->rbp = regs->rbp;
	frame->rbx = regs->rbx;
	frame->rdx = regs->rdx;
	frame->rcx = regs->rcx;
	frame->rsp = regs->rsp;
	frame->rax = restart ? regs->orig_rax : regs->rax;
	frame->rip = restart ? regs->rip - 2 : regs->rip;
	frame->eflags = regs->eflags;
	frame->cs = (uint16_t)regs->cs;
	frame->ss = (uint16_t)regs->ss;
	frame->flags = UC_FLAGS_XSTATE_AND_SS;
	/* stack_size 0: rt_sigreturn refuses it as too small and keeps the alternate stack */
}

/*
 * Bytes of the image up to the last state component in use. ptrace hands out room for all that
 * the processor has; rt_sigreturn refuses (and then loads SSE only) an image that is larger than
 * what this thread may use, which is less where AMX is to be asked for (arch_prctl(2)).
 */
static size_t xsave_used(const uint8_t *area, size_t size)
{
	uint64_t in_use;
	size_t used = XSAVE_HEADER_END;

	memcpy(&in_use, area + XSAVE_HEADER, sizeof(in_use));
	for (unsigned i = 2; i < 63; i++) {
		unsigned length, offset, c, d; /* SDM vol. 1, 13.4.3 */

		if (!(in_use >> i & 1) || !__get_cpuid_count(0xd, i, &length, &offset, &c, &d))
			continue;
		if (!(c & 1) && offset + length > used) /* not a supervisor's */
			used = offset + length;
	}
	return used < size ? used : size;
}

/* The xsave image as a signal frame has it: marked at both ends (arch/x86 sigcontext.h). */
static size_t frame_xsave(uint8_t *area, size_t size)
{
	struct {
		uint32_t magic, extended_size;
		uint64_t features;
		uint32_t size, pad[7];
	} mark = {0};
	uint32_t last = FP_XSTATE_MAGIC_LAST;

	memcpy(&mark.features, area + FXSAVE_SW_BYTES, sizeof(mark.features));
	mark.magic = FP_XSTATE_MAGIC_FIRST;
	mark.extended_size = (uint32_t)size + sizeof(last);
	mark.size = (uint32_t)size;
	memcpy(area + FXSAVE_SW_BYTES, &mark, sizeof(mark));
	memcpy(area + size, &last, sizeof(last));
	return size + sizeof(last);
}

/* Does the stack have room for the frame? Go's goroutine stacks are small and end in other
 * people's memory; the runtime's own description of the stack is the only one there is. */
static bool stack_has_room(struct port *port, const struct thread *thread, uint64_t lowest,
                           bool any_stack)
{
	const struct process_mapping *stack;
	uint64_t g = 0, low = 0;

	if (port->is_go)
		return port_read(port, thread->regs.fs_base - 8, &g, sizeof(g)) == 0 &&
		       port_read(port, g, &low, sizeof(low)) == 0 && low && lowest > low &&
		       thread->regs.rsp > low;
	stack = process_maps_find(&port->maps, thread->regs.rsp);
	if (!stack || !stack->write)
		return false;
	if (strcmp(stack->path, "[stack]") == 0)
		return true;
	/* A stack that the C library made ends in the thread's own control block. On another one,
	 * a coroutine's or a signal handler's, there may be little room above somebody's data. */
	if (!any_stack &&
	    (thread->regs.fs_base < thread->regs.rsp || thread->regs.fs_base >= stack->end))
		return false;
	return lowest >= stack->start;
}

static int write_frame(struct borrowed *b, bool any_stack)
{
	static const char name[] = PROCESS_MEMFD_NAME;
	uint8_t *area = aligned_alloc(64, FRAME_MAX);
	struct iovec state = {area, FRAME_MAX - 4096};
	struct signal_frame frame = {0};
	uint64_t area_address;
	size_t area_size;
	int rc = 0;

	if (!area)
		return -ENOMEM;
	if (ptrace(PTRACE_GETREGSET, b->thread.tid, NT_X86_XSTATE, &state) ||
	    ptrace(PTRACE_GETSIGMASK, b->thread.tid, sizeof(b->sigmask), &b->sigmask)) {
		rc = -errno;
		goto out;
	}
	area_size = frame_xsave(area, xsave_used(area, state.iov_len));
	area_address = (b->thread.regs.rsp - RED_ZONE - area_size) & ~63ull;
	b->frame = (area_address - sizeof(frame)) & ~15ull;
	b->saved_size = area_address + area_size - b->frame;
	b->saved = malloc(b->saved_size);
	if (!b->saved) {
		rc = -ENOMEM;
		goto out;
	}
	if (!stack_has_room(b->port, &b->thread, b->frame, any_stack)) {
		rc = -EAGAIN;
		goto out;
	}
	if (b->port->gadget_sigreturn) {
		frame.return_address = b->port->gadget_sigreturn;
	} else {
		frame.chain[0] = b->port->gadget_pop;
		frame.chain[1] = SYS_rt_sigreturn;
		frame.return_address = b->port->gadget_syscall;
	}
	frame_registers(&frame, &b->thread.regs);
	frame.fpstate = area_address;
	frame.sigmask = b->sigmask;
	memcpy(frame.string, name, sizeof(name));
	/* A stack that has not grown this far yet grows now. */
	rc = port_read(b->port, b->frame, b->saved, b->saved_size);
	if (rc == -EFAULT) {
		memset(b->saved, 0, b->saved_size);
		rc = 0;
	}
	if (!rc)
		rc = port_write(b->port, NULL, area_address, area, area_size);
	if (!rc)
		rc = port_write(b->port, NULL, b->frame, &frame, sizeof(frame));
out:
	free(area);
	return rc;
}

uint64_t borrowed_string(const struct borrowed *borrowed)
{
	return borrowed->frame + offsetof(struct signal_frame, string);
}

/* Pieces of code, anywhere in what the process executes. */
static void search_gadgets(struct port *port, uint64_t address, const uint8_t *code, size_t size)
{
	static const uint8_t call[] = {0x0f, 0x05, 0xc3};              /* syscall; ret */
	static const uint8_t back[] = {0xb8, 15, 0, 0, 0, 0x0f, 0x05}; /* mov $15,%eax; syscall */
	static const uint8_t back_long[] = {0x48, 0xc7, 0xc0, 15,  0,
	                                    0,    0,    0x0f, 0x05}; /* mov $15,%rax; syscall */
	static const uint8_t pop[] = {0x58, 0xc3};                   /* pop %rax; ret */
	const struct {
		uint64_t *found;
		const uint8_t *code;
		size_t size;
	} wanted[] = {
	        {&port->gadget_syscall, call, sizeof(call)},
	        {&port->gadget_sigreturn, back, sizeof(back)},
	        {&port->gadget_sigreturn, back_long, sizeof(back_long)},
	        {&port->gadget_pop, pop, sizeof(pop)},
	};

	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		const uint8_t *hit = *wanted[i].found
		                             ? NULL
		                             : memmem(code, size, wanted[i].code, wanted[i].size);

		if (hit)
			*wanted[i].found = address + (uint64_t)(hit - code);
	}
}

/* Is the code that was found still there? Its library may have been unloaded. */
static bool gadgets_hold(struct port *port)
{
	const struct {
		uint64_t *address;
		size_t size;
	} kept[] = {
	        {&port->gadget_syscall, 3}, {&port->gadget_sigreturn, 9}, {&port->gadget_pop, 2}};

	for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
		uint64_t address = *kept[i].address;
		uint8_t code[9];

		*kept[i].address = 0;
		if (address && !port_read(port, address, code, kept[i].size))
			search_gadgets(port, address, code, kept[i].size);
		if (*kept[i].address != address)
			*kept[i].address = 0;
	}
	return port->gadget_syscall && (port->gadget_sigreturn || port->gadget_pop);
}

static int find_gadgets(struct port *port)
{
	enum { PIECE = 1 << 20, OVERLAP = 16 };
	struct process_maps maps;
	uint8_t *code;
	int rc;

	if (gadgets_hold(port))
		return 0;
	rc = process_maps_read(process_member(port->pid), &maps);
	if (rc)
		return rc;
	code = malloc(PIECE);
	for (size_t i = 0; code && i < maps.count; i++) {
		const struct process_mapping *m = &maps.list[i];

		/* Not what a compiler in the process makes and changes as it runs. */
		if (!m->execute || !m->read || m->write || m->shared || !m->path[0] ||
		    m->start >= 1ull << 47)
			continue;
		for (uint64_t at = m->start; at < m->end; at += PIECE - OVERLAP) {
			size_t size = m->end - at < PIECE ? m->end - at : PIECE;

			if (port_read(port, at, code, size))
				break;
			search_gadgets(port, at, code, size);
			if (port->gadget_syscall && port->gadget_sigreturn)
				goto found;
		}
	}
found:
	free(code);
	process_maps_free(&maps);
	if (port->gadget_syscall && (port->gadget_sigreturn || port->gadget_pop))
		return 0;
	port_error(port,
	           "process %d holds no code that makes a system call and returns; nothing can be "
	           "mapped into it",
	           port->pid);
	return -EPERM;
}

/* Is the thread, at rest, one that can be made to run something else for a moment? */
static bool suitable(const struct thread *thread)
{
	return thread->state == THREAD_STOPPED && !thread->reported &&
	       thread->regs.cs == USER_CODE_64 && thread->regs.ss == USER_DATA;
}

static int try_thread(struct borrowed *b, pid_t tid, bool any_stack)
{
	uint64_t seccomp = 0; /* a thread can have filters that the others have not */
	int rc = process_status_field(b->port->pid, tid, "Seccomp", 10, &seccomp);

	if (rc && rc != -ENOENT)
		return rc;
	rc = thread_stop(b->port, tid, BORROW_DEADLINE_NS, &b->thread);
	if (rc)
		return rc;
	if (!suitable(&b->thread))
		rc = -EAGAIN;
	if (!rc && ptrace(PTRACE_SETOPTIONS, tid, NULL,
	                  PTRACE_O_TRACESYSGOOD | (seccomp ? PTRACE_O_SUSPEND_SECCOMP : 0)))
		rc = errno == ESRCH ? -ESRCH : -EAGAIN;
	if (!rc)
		rc = write_frame(b, any_stack);
	if (rc) {
		thread_resume(&b->thread);
		free(b->saved);
		b->saved = NULL;
	}
	return rc;
}

static int try_threads(struct port *port, struct borrowed *b, const char *preference,
                       bool any_stack)
{
	int rc = -EAGAIN, listed;
	pid_t *tids;
	size_t count;

	/* Read before a thread is held, not while. */
	process_maps_free(&port->maps);
	listed = process_maps_read(process_member(port->pid), &port->maps);
	if (!listed)
		listed = process_tasks(port->pid, &tids, &count);
	if (listed)
		return listed;
	for (const char *state = preference; *state && rc && rc != -EPERM; state++)
		for (size_t left = count; left-- > 0 && rc && rc != -EPERM;) /* the leader last */
			if (process_state(tids[left]) == *state)
				rc = try_thread(b, tids[left], any_stack);
	free(tids);
	return rc;
}

/*
 * Prefer a thread that sleeps and is not the leader: nobody waits for it. A running one is as
 * good, but feels the microseconds; one that is stopped by a signal goes back to that. A thread
 * may be in any state for a moment, on its way out of a stop for instance: try again.
 */
int borrow_thread(struct port *port, struct borrowed *b)
{
	uint64_t end_ns = clock_ns() + BORROW_TRIES_NS;
	int rc = find_gadgets(port);

	*b = (struct borrowed){.port = port};
	if (rc)
		return rc;
	for (;;) {
		rc = try_threads(port, b, "SRT", clock_ns() + BORROW_TRIES_NS / 2 > end_ns);
		if (rc == 0 || rc == -EPERM || clock_ns() >= end_ns || process_gone(port))
			break;
		port_pause(port, 1000000);
	}
	if (rc == -EPERM)
		return rc; /* seizing has said why */
	if (rc && process_gone(port)) {
		port_error(port, "process %d is gone", port->pid);
		rc = -ESRCH;
	} else if (rc) {
		char state = process_state(process_member(port->pid));

		port_error(port,
		           "no thread of process %d could be borrowed to map memory (it is in "
		           "state %c)",
		           port->pid, state ? state : '?');
		rc = -ETIMEDOUT;
	}
	return rc;
}

static int set_registers(struct borrowed *b, const struct user_regs_struct *regs)
{
	uint64_t all = ~0ull;

	if (ptrace(PTRACE_SETREGS, b->thread.tid, NULL, regs) ||
	    ptrace(PTRACE_SETSIGMASK, b->thread.tid, sizeof(all), &all))
		return -errno;
	return 0;
}

enum stop_wanted { STOP_SYSTEM_CALL, STOP_INTERRUPT };

/*
 * What a stop on the way gives back to the thread, a signal or 0. All are blocked, but SIGSTOP
 * can not be: it is delivered at once, since a stop of another kind would swallow it, and the
 * thread goes on for us nevertheless. -EIO: it can not go on, what it executes faults.
 */
static int signal_on_the_way(int status)
{
	int signal = WSTOPSIG(status);

	if (status >> 16 || signal == (SIGTRAP | 0x80))
		return 0;
	return signal == SIGSTOP ? signal : -EIO;
}

/* Wait for one kind of stop. */
static int wait_for(struct borrowed *b, enum stop_wanted wanted, int request)
{
	for (;;) {
		int status, rc = thread_wait(b->thread.tid, CALL_DEADLINE_NS, &status), signal;

		if (rc)
			return rc;
		if (wanted == STOP_INTERRUPT && status >> 16 == PTRACE_EVENT_STOP)
			return 0;
		if (wanted == STOP_SYSTEM_CALL && WSTOPSIG(status) == (SIGTRAP | 0x80))
			return 0;
		signal = signal_on_the_way(status);
		if (signal < 0)
			return signal;
		if (ptrace(request, b->thread.tid, NULL, (void *)(intptr_t)signal))
			return -errno;
	}
}

/* It may stop on its way: for a group-stop that is in effect, or a signal that no mask holds. */
static int keep_going(struct borrowed *b)
{
	int status, signal;
	pid_t got = waitpid(b->thread.tid, &status, __WALL | WNOHANG);

	if (got == 0)
		return 0;
	if (got < 0 || !WIFSTOPPED(status))
		return -ESRCH;
	signal = signal_on_the_way(status);
	if (signal < 0)
		return signal;
	return ptrace(PTRACE_CONT, b->thread.tid, NULL, (void *)(intptr_t)signal) ? -errno : 0;
}

/* Interrupt it, in a stop in which the kernel finishes an interrupted system call itself. */
static int settle(struct borrowed *b, bool running)
{
	if (ptrace(PTRACE_INTERRUPT, b->thread.tid, NULL, NULL))
		return -errno;
	if (!running && ptrace(PTRACE_CONT, b->thread.tid, NULL, NULL))
		return -errno;
	return wait_for(b, STOP_INTERRUPT, PTRACE_CONT);
}

int borrowed_call(struct borrowed *b, struct remote_call *call)
{
	struct user_regs_struct regs = b->thread.regs;
	int rc;

	regs.rax = call->number;
	regs.rdi = call->args[0];
	regs.rsi = call->args[1];
	regs.rdx = call->args[2];
	regs.r10 = call->args[3];
	regs.r8 = call->args[4];
	regs.r9 = call->args[5];
	regs.rsp = b->frame + (b->port->gadget_sigreturn
	                               ? offsetof(struct signal_frame, return_address)
	                               : offsetof(struct signal_frame, chain));
	regs.rip = b->port->gadget_syscall;
	regs.orig_rax = (unsigned long long)-1;
	regs.eflags &= ~0x500ull; /* TF, DF */
	rc = set_registers(b, &regs);
	for (int stop = 0; !rc && stop < 2; stop++) { /* on entry, on exit */
		if (ptrace(PTRACE_SYSCALL, b->thread.tid, NULL, NULL))
			return -errno;
		rc = wait_for(b, STOP_SYSTEM_CALL, PTRACE_SYSCALL);
	}
	if (!rc && ptrace(PTRACE_GETREGS, b->thread.tid, NULL, &regs))
		rc = -errno;
	if (!rc)
		call->result = (int64_t)regs.rax;
	return rc ? rc : settle(b, false);
}

/*
 * The stub: a loop over struct remote_call, then a word that says so, then a wait for us that
 * ends by itself, then home.
 *
 *     rbx  next call          rbp  calls left        r12  word to set        r13  timespec
 *
 * The wait is ppoll on nothing: unlike nanosleep and futex it leaves the thread's restart_block
 * alone, which may hold the rest of the system call that we interrupted.
 */
size_t borrow_stub(uint8_t *out, size_t size)
{
	static const uint8_t code[] = {
	        0x48, 0x8b, 0x03,                   /* 00: mov (%rbx),%rax */
	        0x48, 0x8b, 0x7b, 0x08,             /* 03: mov 8(%rbx),%rdi */
	        0x48, 0x8b, 0x73, 0x10,             /* 07: mov 16(%rbx),%rsi */
	        0x48, 0x8b, 0x53, 0x18,             /* 0b: mov 24(%rbx),%rdx */
	        0x4c, 0x8b, 0x53, 0x20,             /* 0f: mov 32(%rbx),%r10 */
	        0x4c, 0x8b, 0x43, 0x28,             /* 13: mov 40(%rbx),%r8 */
	        0x4c, 0x8b, 0x4b, 0x30,             /* 17: mov 48(%rbx),%r9 */
	        0x0f, 0x05,                         /* 1b: syscall */
	        0x48, 0x89, 0x43, 0x38,             /* 1d: mov %rax,56(%rbx) */
	        0x48, 0x83, 0xc3, 0x40,             /* 21: add $64,%rbx */
	        0x48, 0xff, 0xcd,                   /* 25: dec %rbp */
	        0x75, 0xd6,                         /* 28: jnz 00 */
	        0x41, 0xc7, 0x04, 0x24, 1, 0, 0, 0, /* 2a: movl $1,(%r12) */
	        0x31, 0xff,                         /* 32: xor %edi,%edi */
	        0x31, 0xf6,                         /* 34: xor %esi,%esi */
	        0x4c, 0x89, 0xea,                   /* 36: mov %r13,%rdx */
	        0x4d, 0x31, 0xd2,                   /* 39: xor %r10,%r10 */
	        0xb8, 0x0f, 0x01, 0,    0,          /* 3c: mov $271,%eax (ppoll) */
	        0x0f, 0x05,                         /* 41: syscall */
	        0x48, 0x83, 0xc4, 0x08,    /* 43: add $8,%rsp: as if returned to the next line */
	        0xb8, 0x0f, 0,    0,    0, /* 47: mov $15,%eax (rt_sigreturn) */
	        0x0f, 0x05,                /* 4c: syscall */
	};

	if (size < sizeof(code))
		return 0;
	memcpy(out, code, sizeof(code));
	return sizeof(code);
}

/* The part of the data that the stub works on. */
struct call_area {
	uint32_t done, pad;
	int64_t linger[2]; /* timespec */
	uint64_t pad2[5];
	struct remote_call calls[(PROCESS_CALLS_SIZE - 64) / sizeof(struct remote_call)];
};
_Static_assert(sizeof(struct remote_call) == 64, "the stub steps by 64 bytes");
_Static_assert(offsetof(struct remote_call, result) == 56, "the stub stores results at 56");
_Static_assert(sizeof(struct call_area) <= PROCESS_CALLS_SIZE, "room is reserved by the owner");

enum { CALLS_AT_ONCE = sizeof(((struct call_area *)0)->calls) / sizeof(struct remote_call) };

static int run_stub(struct borrowed *b, uint64_t area, size_t n)
{
	struct process_shared *shared = &b->port->shared;
	struct user_regs_struct regs = b->thread.regs;
	uint64_t end_ns = clock_ns() + CALL_DEADLINE_NS;
	uint32_t finished = 0;
	int rc;

	regs.rbx = area + offsetof(struct call_area, calls);
	regs.rbp = n;
	regs.r12 = area + offsetof(struct call_area, done);
	regs.r13 = area + offsetof(struct call_area, linger);
	regs.rsp = b->frame + offsetof(struct signal_frame, return_address);
	regs.rip = shared->data_address + shared->data_size;
	regs.orig_rax = (unsigned long long)-1;
	regs.eflags &= ~0x500ull;
	rc = set_registers(b, &regs);
	if (!rc && ptrace(PTRACE_CONT, b->thread.tid, NULL, NULL))
		rc = -errno;
	while (!rc && !finished && clock_ns() < end_ns) {
		port_pause(b->port, 20000);
		rc = keep_going(b);
		if (!rc)
			rc = port_read(b->port, area, &finished, sizeof(finished));
	}
	if (!rc)
		rc = settle(b, true);
	if (!rc && !finished) {
		port_error(b->port, "thread %d of process %d did not finish its calls in time",
		           b->thread.tid, b->port->pid);
		rc = -ETIMEDOUT;
	}
	return rc;
}

int borrowed_calls(struct borrowed *b, struct remote_call *calls, size_t n)
{
	uint64_t area = b->port->shared.data_address + b->port->shared.calls;
	int rc = 0;

	for (size_t at = 0; at < n && !rc; at += CALLS_AT_ONCE) {
		size_t now = n - at < CALLS_AT_ONCE ? n - at : CALLS_AT_ONCE;
		uint64_t head[3] = {0, STUB_LINGER_NS / 1000000000, STUB_LINGER_NS % 1000000000};
		uint64_t first = area + offsetof(struct call_area, calls);

		rc = port_write(b->port, NULL, area, head, sizeof(head));
		if (!rc)
			rc = port_write(b->port, NULL, first, calls + at, now * sizeof(*calls));
		if (!rc)
			rc = run_stub(b, area, now);
		if (!rc)
			rc = port_read(b->port, first, calls + at, now * sizeof(*calls));
	}
	return rc;
}

void borrow_end(struct borrowed *b)
{
	if (b->thread.state == THREAD_STOPPED) {
		/* The frame is overwritten last: until the registers are back it may be needed. */
		struct user_regs_struct regs = b->thread.regs;

		if (ptrace(PTRACE_SETSIGMASK, b->thread.tid, sizeof(b->sigmask), &b->sigmask) ==
		            0 &&
		    ptrace(PTRACE_SETREGS, b->thread.tid, NULL, &regs) == 0 && b->saved)
			(void)!port_write(b->port, NULL, b->frame, b->saved, b->saved_size);
		thread_resume(&b->thread);
	}
	free(b->saved);
	b->saved = NULL;
}
