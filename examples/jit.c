/* SPDX-License-Identifier: MIT */
/*
 * jit.c - make a function at run time, change it, replace it while another thread calls it.
 *
 *     cc jit.c $(pkg-config --cflags --libs suture) -o jit -lpthread && ./jit
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <suture/code.h>

typedef int (*function)(void);

static struct suture_region *region;
static function current; /* what the other thread calls */
static int stop;

/* nopl (%rax); mov $value, %eax; ret: the operand is at a multiple of four. */
enum { SIZE = 9, INSN = 3, INSN_SIZE = 5, OPERAND = 4 };
static void compile(uint8_t *out, int32_t value)
{
	static const uint8_t code[SIZE] = {0x0F, 0x1F, 0x00, 0xB8, 0, 0, 0, 0, 0xC3};

	memcpy(out, code, SIZE);
	memcpy(out + OPERAND, &value, sizeof(value));
}

static void *caller(void *unused)
{
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		if (suture_code_enter()) /* no memory, at the first time */
			break;
		__atomic_load_n(&current, __ATOMIC_ACQUIRE)();
		suture_code_leave();
	}
	return unused;
}

/* New code, visible to every thread before its address is. */
static int replace(int32_t value)
{
	function old = current;
	struct suture_code code;
	uint8_t bytes[SIZE];
	struct suture_code_write write = {NULL, bytes, SIZE};
	int rc = suture_code_alloc(region, SIZE, 16, &code);

	compile(bytes, value);
	write.exec = code.exec;
	rc = rc ? rc : suture_code_publish(&write, 1, NULL);
	if (rc)
		return rc;
	__atomic_store_n(&current, (function)(uintptr_t)code.exec, __ATOMIC_RELEASE);
	return old ? suture_code_free(region, (void *)(uintptr_t)old) : 0;
}

/* Another operand, with one store. */
static int adjust(int32_t from, int32_t to)
{
	uint8_t old[SIZE], new[SIZE];
	struct suture_text_options how = {.size = sizeof(how), .strategy = SUTURE_WORD};
	struct suture_edit edit = {(uint8_t *)(uintptr_t)current + INSN, old + INSN, new + INSN,
	                           INSN_SIZE};

	compile(old, from);
	compile(new, to);
	return suture_text_patch(&edit, 1, &how);
}

int main(void)
{
	struct suture_region_options options = {.size = sizeof(options),
	                                        .near = (void *)(uintptr_t)main};
	pthread_t thread;
	int rc = suture_region_new(65536, &options, &region);

	if (!rc)
		rc = replace(1);
	if (rc) {
		fprintf(stderr, "no code can be made here: %s\n", strerror(-rc));
		return 1;
	}
	pthread_create(&thread, NULL, caller, NULL);
	printf("%d\n", current());
	rc = adjust(1, 1000000);
	printf("%d\n", current());
	for (int32_t i = 0; i < 1000 && !rc; i++)
		rc = replace(i);
	printf("%d\n", current());
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	rc = rc ? rc : suture_region_delete(region, 1000000000);
	if (rc)
		fprintf(stderr, "failed: %s\n", strerror(-rc));
	return rc != 0;
}
