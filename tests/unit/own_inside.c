/* SPDX-License-Identifier: MIT */
/*
 * own_inside.c - SUTURE_QUIESCE while somebody is inside what it shall replace, or may come there.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "own_sum.h"
#include "suture/hook.h"
#include "tap.h"

static int wrong;

/*
 * A loop in the middle, in which one waits for a byte to become 0:
 *
 *     90        nop                     0F 1F 84 00 00 00 00 00  nopl 0(%rax,%rax)
 *     F3 90     pause
 *     80 3F 00  cmpb $0, (%rdi)
 *     75 F9     jne to the pause
 */
static const uint8_t old_loop[] = {0x90, 0xF3, 0x90, 0x80, 0x3F, 0, 0x75, 0xF9},
                     new_loop[] = {0x0F, 0x1F, 0x84, 0, 0, 0, 0, 0};
__asm__(".text\nloop:\n\t.byte 0x90, 0xF3, 0x90, 0x80, 0x3F, 0, 0x75, 0xF9\n\tret\n");
void loop(volatile char *byte);

static int inside;

static int wait_inside(void)
{
	set(&inside, 1);
	while (get(&inside) == 1)
		usleep(500);
	return OLD;
}

static void *call_inside(void *arg)
{
	if (caller(arg ? (int (*)(void))arg : wait_inside) != OLD)
		set(&wrong, 5);
	return NULL;
}

static void check_inside(const char *how)
{
	int rc;

	await(&inside, 1);
	options.deadline_ns = 20000000;
	rc = edit(caller_site, old_caller, new_caller, 4, SUTURE_QUIESCE);
	ok(rc == -EBUSY && memcmp(caller_site, old_caller, 4) == 0, "%s: %s", how, message);
	options.deadline_ns = 0;
}

static void check_outside(const char *how)
{
	int rc = edit(caller_site, old_caller, new_caller, 4, SUTURE_QUIESCE);

	if (!rc)
		rc = edit(caller_site, new_caller, old_caller, 4, SUTURE_QUIESCE);
	ok(rc == 0, "%s: patched%s", how, message);
}

static volatile char looping;

static void *loop_inside(void *arg)
{
	set(&inside, 1);
	loop(&looping);
	return arg;
}

static int patch_inside(void)
{
	options.deadline_ns = 20000000;
	set(&inside, edit(caller_site, old_caller, new_caller, 4, SUTURE_QUIESCE));
	options.deadline_ns = 0;
	return OLD;
}

enum { STACK = 256 << 10, DATA = 1 << 20 };

/* By a thread that is gone then: no stack that is looked at has the address. */
static void *fill(void *arg)
{
	uintptr_t *data = arg;

	for (size_t i = 0; i < DATA / sizeof(*data); i++)
		data[i] = (uintptr_t)sum + 2;
	return NULL;
}

/* Where the kernel sees one mapping, other data lies above a thread's stack: words there are none
 * that the thread returns to. */
static void test_neighbouring_data(void)
{
	char *block = mmap(NULL, STACK + DATA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
	                   -1, 0);
	pthread_attr_t attributes;
	pthread_t thread;

	pthread_create(&thread, NULL, fill, block + STACK);
	pthread_join(thread, NULL);
	pthread_attr_init(&attributes);
	pthread_attr_setstack(&attributes, block, STACK);
	set(&inside, 0);
	pthread_create(&thread, &attributes, call_inside, NULL);
	await(&inside, 1);
	ok(to_new() == 0 && to_old() == 0, "addresses above a thread's stack do not count%s",
	   message);
	check_inside("but those on it do");
	set(&inside, 0);
	pthread_join(thread, NULL);
	pthread_attr_destroy(&attributes);
	munmap(block, STACK + DATA);
}

/* A handler on an alternate stack: the return address is on the one that it interrupted. */
static void on_usr1(int number)
{
	(void)number;
	wait_inside();
}

static int wait_in_handler(void)
{
	raise(SIGUSR1);
	return OLD;
}

static void *call_with_alternate_stack(void *arg)
{
	static char alternate[65536];
	stack_t stack = {.ss_sp = alternate, .ss_size = sizeof(alternate)};

	sigaltstack(&stack, NULL);
	call_inside(arg);
	stack.ss_flags = SS_DISABLE;
	sigaltstack(&stack, NULL);
	return NULL;
}

static void test_inside(void)
{
	struct sigaction action = {.sa_handler = on_usr1, .sa_flags = SA_ONSTACK};
	pthread_t thread;

	wrong = 0;
	set(&inside, 0);
	pthread_create(&thread, NULL, call_inside, NULL);
	check_inside("a thread sleeps in a call from inside");
	set(&inside, 0);
	pthread_join(thread, NULL);
	check_outside("it has returned");

	sigaction(SIGUSR1, &action, NULL);
	pthread_create(&thread, NULL, call_with_alternate_stack, (void *)wait_in_handler);
	check_inside("and in a handler on an alternate stack");
	set(&inside, 0);
	pthread_join(thread, NULL);
	check_outside("it has returned");

	looping = 1;
	set(&inside, 0);
	pthread_create(&thread, NULL, loop_inside, NULL);
	await(&inside, 1);
	usleep(1000);
	options.deadline_ns = 20000000;
	ok(edit(loop, old_loop, new_loop, 8, SUTURE_QUIESCE) == -EBUSY &&
	           memcmp((void *)loop, old_loop, 8) == 0,
	   "a thread loops inside: %s", message);
	options.deadline_ns = 0;
	looping = 0;
	pthread_join(thread, NULL);
	ok(edit(loop, old_loop, new_loop, 8, SUTURE_QUIESCE) == 0, "it has left: patched%s",
	   message);

	caller(patch_inside);
	ok(get(&inside) == -EBUSY, "the thread that patches is inside itself");
	ok(!wrong, "all returned what they should");
}

/* ---- hooks ---- */

__asm__(".text\nhooked:\n\t.byte 0x31, 0xC0, 0x83, 0xC0, 0x11, 0x83, 0xC0, 0x22\n\tret\n");
int hooked(void);
static int (*original)(void);

static int replacement(void)
{
	return original() + 1;
}

static void test_hook(void)
{
	struct suture_hook_spec spec = {(void *)hooked, (void *)replacement, (void **)&original};
	struct suture_hook *hook;
	int rc = suture_hook_install(&spec, 1, &hook, NULL);

	ok(rc == 0 && hooked() == OLD + 1 &&
	           edit(hooked, old_code, new_code, SIZE, SUTURE_QUIESCE) < 0 &&
	           hooked() == OLD + 1,
	   "a hook is there: %s", message);
	rc = suture_hook_remove(&hook, 1, NULL);
	ok(rc == 0 && hooked() == OLD &&
	           edit(hooked, old_code, new_code, SIZE, SUTURE_QUIESCE) == -EEXIST &&
	           original() == OLD,
	   "it is not, but its original goes on inside: %s", message);
}

int main(void)
{
	alarm(60);
	test_inside();
	test_neighbouring_data();
	test_hook();
	return done();
}
