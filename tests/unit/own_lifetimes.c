/* SPDX-License-Identifier: MIT */
/*
 * own_lifetimes.c - descriptors, text, threads and locks that go away, or are held, at the wrong
 * time.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "suture/hook.h"
#include "suture/key.h"
#include "suture/probe.h"
#include "tap.h"

__attribute__((noinline)) static int victim(int a)
{
	__asm__ volatile("" : "+r"(a));
	return a + 3;
}

static int replaced(int a)
{
	return -a;
}

static char message[200];
static struct suture_text_options options = {
        .size = sizeof(options), .message = message, .message_size = sizeof(message)};
static const struct suture_hook_spec spec = {(void *)victim, (void *)replaced, NULL};

/* ---- descriptors ---- */

static void fill_descriptors(void)
{
	struct rlimit few = {64, 64};

	setrlimit(RLIMIT_NOFILE, &few);
	while (open("/dev/null", O_RDONLY) >= 0)
		;
}

/* The child of a process that has no descriptor left patches itself, or nothing. */
static void test_fork(void)
{
	struct suture_hook *hook;
	int status = 0;
	pid_t child;

	ok(suture_hook_install(&spec, 1, &hook, &options) == 0 && victim(1) == -1, "hooked");
	child = fork();
	if (child == 0) {
		pid_t grandchild;

		fill_descriptors();
		grandchild = fork();
		if (grandchild == 0) {
			int rc = suture_hook_remove(&hook, 1, &options);

			_exit(rc == 0 ? victim(1) != 4 : victim(1) != -1);
		}
		waitpid(grandchild, &status, 0);
		_exit(WEXITSTATUS(status) != 0 || victim(1) != -1);
	}
	waitpid(child, &status, 0);
	ok(WIFEXITED(status) && WEXITSTATUS(status) == 0,
	   "a fork without a descriptor does not patch its parent");
	ok(victim(1) == -1, "nor its parent's parent");
	ok(suture_hook_remove(&hook, 1, &options) == 0 && victim(1) == 4, "removed");
}

/* A daemon closes all descriptors; another file gets the number. */
static void test_closed(void)
{
	struct suture_hook *hook;
	int status = 0;
	pid_t child = fork();

	if (child == 0) {
		int rc = suture_hook_install(&spec, 1, &hook, &options);
		char path[] = "/tmp/suture-XXXXXX";
		int file = mkstemp(path);

		unlink(path);
		for (int i = 3; i < 256; i++)
			dup2(file, i);
		rc = rc ? rc : suture_hook_remove(&hook, 1, &options);
		_exit(rc || victim(1) != 4 || lseek(file, 0, SEEK_END) != 0);
	}
	waitpid(child, &status, 0);
	ok(WIFEXITED(status) && WEXITSTATUS(status) == 0,
	   "the library's descriptor may be closed, and be another file's");
}

/* ---- text ---- */

static void put(uint8_t *page, const uint8_t *code, size_t size)
{
	mmap(page, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	memcpy(page, code, size);
	mprotect(page, 4096, PROT_READ | PROT_EXEC);
}

static void counts(struct suture_regs *regs, void *arg)
{
	(void)regs;
	__atomic_fetch_add((long *)arg, 1, __ATOMIC_RELAXED);
}

/* What was hooked is unmapped, other code is there, and something near it is probed. */
static void test_unmapped(void)
{
	static const uint8_t old[] = {0x90, 0x90, 0xb8, 7, 0, 0, 0, 0xc3};
	static const uint8_t new[] = {0xb8, 0x11, 0x22, 0x33, 0x44, 0xc3, 0xcc, 0xcc};
	uint8_t *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct suture_hook_spec there = {page + 2, (void *)replaced, NULL};
	long hits = 0;
	struct suture_probe_spec near = {.address = page, .pre = counts, .arg = &hits};
	int (*function)(void) = (int (*)(void))(uintptr_t)page;
	struct suture_hook *hook;
	struct suture_probe *probe;

	put(page, old, sizeof(old));
	ok(suture_hook_install(&there, 1, &hook, &options) == 0, "code of ours is hooked");
	put(page, new, sizeof(new));
	ok(suture_probe_install(&near, 1, &probe, &options) == 0 && function() == 0x44332211 &&
	           hits == 1,
	   "other code at its place is not taken for it (%s)", message);
	ok(suture_hook_remove(&hook, 1, &options) == 0 && function() == 0x44332211 && hits == 2,
	   "the hook that is gone can be removed");
	ok(suture_probe_remove(&probe, 1, &options) == 0 && function() == 0x44332211, "removed");
	munmap(page, 4096);
}

/* ---- threads ---- */

static int in_handler;

static void sleeps(struct suture_regs *regs, void *arg)
{
	(void)regs;
	(void)arg;
	__atomic_store_n(&in_handler, 1, __ATOMIC_RELEASE);
	pause();
}

static void *calls(void *arg)
{
	victim(1);
	return arg;
}

static void test_cancelled(void)
{
	struct suture_probe_spec at = {.address = (void *)victim, .pre = sleeps};
	struct suture_probe *probe;
	pthread_t thread;

	ok(suture_probe_install(&at, 1, &probe, &options) == 0, "probed");
	pthread_create(&thread, NULL, calls, NULL);
	while (!__atomic_load_n(&in_handler, __ATOMIC_ACQUIRE))
		usleep(1000);
	pthread_cancel(thread);
	pthread_join(thread, NULL);
	ok(suture_probe_remove(&probe, 1, &options) == 0 && victim(1) == 4,
	   "a thread that ended inside a handler is not waited for (%s)", message);
}

/* A handler that uses vector registers only while a key is on. */
SUTURE_KEY_DEFINE(vectors, false);

static void sometimes(struct suture_regs *regs, void *arg)
{
	(void)regs;
	(void)arg;
	if (suture_key_unlikely(&vectors))
		__asm__ volatile("pcmpeqd %%xmm7, %%xmm7" ::: "xmm7");
}

static uint64_t vector_after(void)
{
	uint64_t value = 0x1234, after;

	/* Below the red zone: the compiler does not see the call. */
	__asm__ volatile("leaq -128(%%rsp), %%rsp\n\tmovq %1, %%xmm7\n\tmovl $1, %%edi\n\t"
	                 "call *%2\n\tmovq %%xmm7, %0\n\tleaq 128(%%rsp), %%rsp"
	                 : "=&r"(after)
	                 : "r"(value), "r"(victim)
	                 : "rdi", "rax", "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "xmm7",
	                   "memory", "cc");
	return after;
}

static void test_switched(void)
{
	struct suture_probe_spec at = {.address = (void *)victim, .pre = sometimes};
	struct suture_probe *probe;

	ok(suture_probe_install(&at, 1, &probe, &options) == 0 && vector_after() == 0x1234,
	   "a handler with a key in it");
	ok(suture_key_enable(&vectors) == 0 && vector_after() == 0x1234,
	   "vector registers are kept when the key is on");
	ok(suture_key_disable(&vectors) == 0 && suture_probe_remove(&probe, 1, &options) == 0,
	   "removed");
}

/* ---- the lock ---- */

static int from_handler;

static void calls_library(struct suture_regs *regs, void *arg)
{
	static struct suture_hook *hook;

	(void)regs;
	(void)arg;
	from_handler = suture_hook_install(&spec, 1, &hook, NULL);
}

static void test_inside(void)
{
	struct suture_probe_spec at = {.address = (void *)victim, .pre = calls_library};
	struct suture_probe *probe;

	ok(suture_probe_install(&at, 1, &probe, &options) == 0 && victim(1) == 4 &&
	           from_handler == -EDEADLK,
	   "a handler can not call the library");
	ok(suture_probe_remove(&probe, 1, &options) == 0, "removed");
}

static int from_replacement;
static void *(*real_calloc)(size_t, size_t);

static void *calloc_that_calls(size_t n, size_t size)
{
	uint8_t byte;

	if (!from_replacement)
		from_replacement = suture_text_original((void *)victim, &byte, 1);
	return real_calloc(n, size);
}

static void test_replacement(void)
{
	struct suture_hook_spec at = {(void *)calloc, (void *)calloc_that_calls,
	                              (void **)&real_calloc};
	struct suture_hook *hook, *other;

	ok(suture_hook_install(&at, 1, &hook, &options) == 0 &&
	           suture_hook_install(&spec, 1, &other, &options) == 0 &&
	           from_replacement == -EDEADLK,
	   "nor can a replacement of what the library calls");
	ok(suture_hook_remove(&other, 1, &options) == 0 &&
	           suture_hook_remove(&hook, 1, &options) == 0 && victim(1) == 4,
	   "removed");
}

static void *removes(void *arg)
{
	struct suture_text_options patient = {.size = sizeof(patient), .deadline_ns = 2000000000};

	return (void *)(intptr_t)suture_probe_remove(arg, 1, &patient);
}

/* While one caller waits for a handler, another one's deadline holds. */
static void test_deadline(void)
{
	struct suture_probe_spec at = {.address = (void *)victim, .pre = sleeps};
	struct suture_probe *probe;
	struct suture_hook *hook;
	pthread_t thread, remover;
	int rc;

	in_handler = 0;
	rc = suture_probe_install(&at, 1, &probe, &options);
	pthread_create(&thread, NULL, calls, NULL);
	while (!__atomic_load_n(&in_handler, __ATOMIC_ACQUIRE))
		usleep(1000);
	pthread_create(&remover, NULL, removes, &probe);
	usleep(200000);
	options.deadline_ns = 50000000;
	ok(rc == 0 && suture_hook_install(&spec, 1, &hook, &options) == -ETIMEDOUT &&
	           victim(1) == 4,
	   "another caller is waited for until the deadline: %s", message);
	options.deadline_ns = 0;
	pthread_cancel(thread);
	pthread_join(thread, NULL);
	pthread_join(remover, NULL);
	ok(suture_hook_install(&spec, 1, &hook, &options) == 0 && victim(1) == -1 &&
	           suture_hook_remove(&hook, 1, &options) == 0 && victim(1) == 4,
	   "and not for ever");
}

static void test_arguments(void)
{
	struct suture_key_change nothing = {NULL, true};
	static const uint8_t nop[] = {0x90};
	struct suture_edit edit = {(void *)victim, nop, nop, 1};
	uint8_t first, other;

	ok(suture_keys_change(&nothing, 1, &options) == -EINVAL, "no key: %s", message);
	first = *(const uint8_t *)victim;
	other = first ^ 1;
	edit.from = &first;
	edit.to = &other;
	options.strategy = 99;
	ok(suture_text_patch(&edit, 1, &options) == -EINVAL && *(const uint8_t *)victim == first,
	   "no such strategy: %s", message);
	options.strategy = SUTURE_CHEAPEST;
}

int main(void)
{
	test_fork();
	test_closed();
	test_unmapped();
	test_cancelled();
	test_switched();
	test_inside();
	test_replacement();
	test_deadline();
	test_arguments();
	return done();
}
