/* SPDX-License-Identifier: MIT */
/*
 * patch_child.h - a process that has code to be patched, and runs it all the time. Part of
 * patch_transaction.c.
 */
#ifndef PATCH_CHILD_H
#define PATCH_CHILD_H

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

enum {
	PAGE = 4096,
	SLOT = 16,       /* bytes of a function */
	FUNCTIONS = 512, /* on two pages; functions with an odd number are never called */
	CODE = FUNCTIONS * SLOT,
	SPIN = CODE, /* on the third page: two functions in which a thread can stay */
	SPIN_SIZE = 12,
	CALLER = CODE + 64,
	CALLER_RETURN = CALLER + 9,
	CALLER_SIZE = 11,
	TEXT = CODE + PAGE,
	RUNNERS = 2,
};

static uint8_t *text; /* private; then a page that is shared, then nothing */
static uint8_t image[TEXT];

struct spot {
	volatile uint8_t leave;
	uint8_t pad[7];
	volatile uint64_t rounds; /* the thread is inside if this is not 0 */
};

static struct control {
	volatile bool park;
	struct spot spot;
	struct {
		volatile uint64_t rounds, fresh, wrong;
	} runner[RUNNERS];
} * control;

static uint32_t old_value(size_t i)
{
	return (uint32_t)i * 0x01030507u ^ 0x11223344;
}

static void write_functions(void)
{
	static const uint8_t spin[SPIN_SIZE] = {
	        0x48, 0xff, 0x47, 0x08, /* again: incq 8(%rdi) */
	        0xf3, 0x90,             /* pause */
	        0x80, 0x3f, 0x00,       /* cmpb $0,(%rdi) */
	        0x74, 0xf5,             /* je again */
	        0xc3,                   /* ret */
	};
	static const uint8_t caller[CALLER_SIZE] = {
	        0x55,             /* push %rbp */
	        0x48, 0x89, 0xf8, /* mov %rdi,%rax */
	        0x48, 0x89, 0xf7, /* mov %rsi,%rdi */
	        0xff, 0xd0,       /* call *%rax */
	        0x5d, 0xc3,       /* pop %rbp; ret */
	};

	memset(image, 0x90, sizeof(image));
	for (size_t i = 0; i < FUNCTIONS; i++) {
		uint32_t value = old_value(i);

		image[i * SLOT] = 0xb8; /* mov $value,%eax */
		memcpy(image + i * SLOT + 1, &value, sizeof(value));
		image[i * SLOT + 5] = 0xc3; /* ret */
	}
	memcpy(image + SPIN, spin, sizeof(spin));
	memcpy(image + CALLER, caller, sizeof(caller));
}

static bool map_text(void)
{
	int fd = memfd_create("patch_transaction", MFD_CLOEXEC);
	int private = MAP_PRIVATE | MAP_ANONYMOUS, shared = MAP_SHARED | MAP_FIXED;

	write_functions();
	if (fd < 0 || ftruncate(fd, PAGE) || pwrite(fd, image, PAGE, 0) != PAGE)
		return false;
	text = mmap(NULL, TEXT + 2 * PAGE, PROT_READ | PROT_WRITE, private, -1, 0);
	if (text == MAP_FAILED)
		return false;
	memcpy(text, image, TEXT);
	control = mmap(NULL, sizeof(*control), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
	               -1, 0);
	return control != MAP_FAILED && mprotect(text, TEXT, PROT_READ | PROT_EXEC) == 0 &&
	       mmap(text + TEXT, PAGE, PROT_READ | PROT_EXEC, shared, fd, 0) != MAP_FAILED &&
	       munmap(text + TEXT + PAGE, PAGE) == 0;
}

static void *run(void *argument)
{
	size_t me = (size_t)(uintptr_t)argument;

	for (;; control->runner[me].rounds++) {
		uint64_t fresh = 0;

		for (size_t i = 0; i < FUNCTIONS; i += 2) {
			uint32_t value = ((uint32_t(*)(void))(uintptr_t)(text + i * SLOT))();

			fresh += value == ~old_value(i);
			control->runner[me].wrong +=
			        value != old_value(i) && value != ~old_value(i);
		}
		control->runner[me].fresh = fresh;
	}
	return NULL;
}

static void *stay(void *argument)
{
	typedef void caller_fn(void *function, struct spot *spot);
	caller_fn *caller = (caller_fn *)(uintptr_t)(text + CALLER);

	for (;;) {
		while (!control->park)
			usleep(200);
		control->park = false;
		caller(text + SPIN, &control->spot);
	}
	return argument;
}

static pid_t start(int pipe_end)
{
	pid_t parent = getpid(), pid = fork();
	pthread_t thread;
	char byte;

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	if (pipe_end >= 0) {
		/* Until somebody writes into the pipe, nobody can stop this process. */
		if (vfork() == 0) {
			(void)!read(pipe_end, &byte, 1);
			_exit(0);
		}
	}
	for (uintptr_t i = 1; i < RUNNERS; i++)
		pthread_create(&thread, NULL, run, (void *)i);
	pthread_create(&thread, NULL, stay, NULL);
	run(NULL);
	_exit(1);
}

#endif
