/* SPDX-License-Identifier: MIT */
/* own_code.h - for the tests of suture/code.h: a function made at run time, and who executes it. */
#ifndef OWN_CODE_H
#define OWN_CODE_H

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "suture/code.h"
#include "tap.h"

enum { KB = 1024, SECOND = 1000000000 };

typedef unsigned (*function)(void);

static char message[200];
static __attribute__((unused)) struct suture_text_options options = {
        .size = sizeof(options), .message = message, .message_size = sizeof(message)};

/* mov $value, %eax; ret: eight bytes with three nops in front, so that the operand is aligned. */
enum { BODY = 16, OPERAND = 4, MOV = 3, MOV_LENGTH = 5 };
static __attribute__((unused)) void body(uint8_t *bytes, uint32_t value)
{
	static const uint8_t code[BODY] = {0x0F, 0x1F, 0x00, 0xB8, 0,    0,    0,    0,
	                                   0xC3, 0xCC, 0xCC, 0xCC, 0xCC, 0xCC, 0xCC, 0xCC};

	memcpy(bytes, code, BODY);
	memcpy(bytes + OPERAND, &value, sizeof(value));
}

static __attribute__((unused)) int publish_value(const struct suture_code *code, uint32_t value)
{
	uint8_t bytes[BODY];
	struct suture_code_write write = {code->exec, bytes, BODY};

	body(bytes, value);
	message[0] = '\0';
	return suture_code_publish(&write, 1, &options);
}

static __attribute__((unused)) unsigned call(const void *exec)
{
	return ((function)(uintptr_t)exec)();
}

static __attribute__((unused)) int edit(void *exec, uint32_t from, uint32_t to,
                                        enum suture_strategy strategy)
{
	uint8_t old[BODY], new[BODY];
	struct suture_edit e = {(uint8_t *)exec + MOV, old + MOV, new + MOV, MOV_LENGTH};

	body(old, from);
	body(new, to);
	message[0] = '\0';
	options.strategy = strategy;
	return suture_text_patch(&e, 1, &options);
}

/* ---- mappings ---- */

/* Lines of /proc/self/maps that are writable and executable; -1: it can not be read. */
static __attribute__((unused)) int count_rwx(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512], rights[8];
	int count = 0;

	if (!maps)
		return -1;
	while (fgets(line, sizeof(line), maps))
		if (sscanf(line, "%*x-%*x %7s", rights) == 1 && rights[1] == 'w' &&
		    rights[2] == 'x')
			count++;
	fclose(maps);
	return count;
}

/* A thread that is inside while `state` is 1; 2: it has left. */
static __attribute__((unused)) struct visitor {
	pthread_t thread;
	int state;
} visitor;

static __attribute__((unused)) void *visit(void *unused)
{
	suture_code_enter();
	suture_code_enter();
	suture_code_leave();
	__atomic_store_n(&visitor.state, 1, __ATOMIC_RELEASE);
	while (__atomic_load_n(&visitor.state, __ATOMIC_ACQUIRE) == 1)
		usleep(500);
	suture_code_leave();
	return unused;
}

static __attribute__((unused)) void begin_visit(void)
{
	visitor.state = 0;
	pthread_create(&visitor.thread, NULL, visit, NULL);
	while (!__atomic_load_n(&visitor.state, __ATOMIC_ACQUIRE))
		usleep(500);
}

static __attribute__((unused)) void end_visit(void)
{
	__atomic_store_n(&visitor.state, 2, __ATOMIC_RELEASE);
	pthread_join(visitor.thread, NULL);
}

static __attribute__((unused)) int in_child(int (*run)(void *), void *arg)
{
	int status = -1;
	pid_t child = fork();

	if (child == 0)
		_exit(run(arg));
	waitpid(child, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

/* Everything. 0, or the step that failed. */
static __attribute__((unused)) int all_of_it(void *unused)
{
	struct suture_region *region;
	struct suture_code code;
	uint8_t bytes[BODY];
	struct suture_code_write write = {NULL, bytes, BODY};

	(void)unused;
	if (suture_region_new(64 * KB, NULL, &region))
		return 1;
	if (suture_code_alloc(region, BODY, 0, &code) || publish_value(&code, 1) ||
	    call(code.exec) != 1)
		return 2;
	if (edit(code.exec, 1, 2, SUTURE_NOSYNC) || call(code.exec) != 2)
		return 3;
	if (edit(code.exec, 2, 0x02020202, SUTURE_WORD) || call(code.exec) != 0x02020202)
		return 4;
	if (edit(code.exec, 0x02020202, 1, SUTURE_BREAKPOINT) || call(code.exec) != 1)
		return 5;
	write.exec = code.exec;
	body(bytes, 6);
	if (suture_code_modify(&write, 1, NULL) || call(code.exec) != 6)
		return 6;
	if (suture_code_free(region, code.exec) || suture_code_reclaim(region, SECOND))
		return 7;
	if (count_rwx())
		return 8;
	return suture_region_delete(region, SECOND) ? 9 : 0;
}

#endif
