/* SPDX-License-Identifier: MIT */
/* internal.h - shared by the files of port/ptrace. */
#ifndef SUTURE_PTRACE_INTERNAL_H
#define SUTURE_PTRACE_INTERNAL_H

#include <sys/user.h>
#include "process.h"

enum thread_state {
	THREAD_SEIZED,  /* traced, still running */
	THREAD_STOPPED, /* at rest, `regs` valid */
	THREAD_GONE,
};

struct thread {
	pid_t tid;
	enum thread_state state;
	int signal;       /* taken from the thread while it was stopped; given back on resume */
	bool reported;    /* stopped on its way to deliver `signal`: do not borrow */
	bool interrupted; /* asked to stop */
	struct user_regs_struct regs;
};

struct port {
	pid_t pid;
	int pidfd;
	int mem; /* /proc/PID/mem */
	struct thread *threads;
	size_t thread_count, thread_capacity;
	struct process_maps maps; /* as of just before the stop: where the stacks end */
	bool stopped;
	bool realtime;
	uint64_t stop_start_ns, stop_ns;
	uint64_t budget_ns; /* that a stop may last; 0: no bound */
	/* Found once: code of the process itself that a borrowed thread returns through. */
	uint64_t gadget_syscall;   /* syscall; ret */
	uint64_t gadget_sigreturn; /* mov $15,%eax; syscall; may be 0 */
	uint64_t gadget_pop;       /* pop %rax; ret */
	bool is_go;
	struct process_shared shared;
	int shared_fd;        /* ours, -1 if none */
	int shared_remote_fd; /* theirs, -1 if closed */
	bool shared_mapped;
	char error[256];
};

uint64_t clock_ns(void);
__attribute__((format(printf, 2, 3))) void port_error(struct port *port, const char *format, ...);

/* stop.c: the same as port_stop and port_resume for one thread. */
int thread_stop(struct port *port, pid_t tid, uint64_t deadline_ns,
                struct thread *thread) port_must_check;
void thread_resume(struct thread *thread);
/* What the thread, at rest, has registered; -ENOENT if nothing. */
int thread_rseq(const struct thread *thread, struct process_rseq *out) port_must_check;
/* Wait for a stop of a traced thread; the wait status, or -ETIMEDOUT, -ESRCH. */
int thread_wait(pid_t tid, uint64_t deadline_ns, int *status) port_must_check;

/* memory.c: is there a word on the stack, from the stack pointer up, that points into the ranges?
 * `stack_end`: where the stack ends, 0 if only its mapping tells. `words` has room for
 * STACK_SCAN_PIECE bytes. 0, 1, or -ESRCH. */
enum { STACK_SCAN_PIECE = 64 << 10 };
int stack_points_into(const struct thread *thread, const struct process_maps *maps,
                      uint64_t stack_end, const struct port_range *ranges, size_t n,
                      uint64_t *words);

/*
 * borrow.c: a thread that makes system calls for us.
 */
struct borrowed {
	struct port *port;
	struct thread thread;
	uint64_t frame;   /* address of the signal frame on its stack */
	uint64_t sigmask; /* its own */
	uint8_t *saved;   /* what lay on the stack where the frame is */
	size_t saved_size;
};

struct remote_call {
	uint64_t number;
	uint64_t args[6];
	int64_t result;
};

int borrow_thread(struct port *port, struct borrowed *borrowed) port_must_check;
/* One system call through the process's own `syscall; ret`. */
int borrowed_call(struct borrowed *borrowed, struct remote_call *call) port_must_check;
/* Many, through the stub; needs the shared memory mapped. Fills the results. */
int borrowed_calls(struct borrowed *borrowed, struct remote_call *calls, size_t n) port_must_check;
void borrow_end(struct borrowed *borrowed);
/* Address in the process of the name of our memory; lives as long as the borrowing. */
uint64_t borrowed_string(const struct borrowed *borrowed);

/* The stub's code, position independent. */
size_t borrow_stub(uint8_t *out, size_t size);

#endif
