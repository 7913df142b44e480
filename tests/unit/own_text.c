/* SPDX-License-Identifier: MIT */
/*
 * own_text.c - suture/text.h: one transaction over code of our own that is running.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "own_edit.h"
#include "tap.h"

/* mov $1, %eax; ret: five bytes and one, at addresses of their own. */
#define ANSWER(name)                                                                               \
	__asm__(".text\n.globl " #name "\n.type " #name ", @function\n" #name ":\n"                \
	        "\t.byte 0xb8, 0x01, 0x00, 0x00, 0x00\n\tret\n.size " #name ", . - " #name "\n");  \
	int name(void)

ANSWER(one);
ANSWER(two);
ANSWER(three);
/* xor %eax, %eax; nop; nop; nop: four instructions in five bytes. */
__asm__(".text\nseveral:\n\t.byte 0x31, 0xc0, 0x90, 0x90, 0x90\n\tret\n");
int several(void);

static const uint8_t mov_1[] = {0xB8, 1, 0, 0, 0}, mov_2[] = {0xB8, 2, 0, 0, 0},
                     mov_wide[] = {0xB8, 2, 2, 2, 2};
static const int wide = 0x02020202;

static void test_strategies(void)
{
	uint8_t was[8];

	ok(edit(one, mov_1, mov_2, 5, SUTURE_NOSYNC) == 0 && one() == 2, "nosync: one byte");
	ok(suture_text_original(one, was, 5) == 0 && memcmp(was, mov_1, 5) == 0,
	   "the original can be read");
	ok(edit(one, mov_2, mov_1, 5, SUTURE_CHEAPEST) == 0 && one() == 1, "and back");
	ok(edit(one, mov_1, mov_wide, 5, SUTURE_NOSYNC) == -EOPNOTSUPP && one() == 1,
	   "nosync refuses four bytes: %s", message);
	ok(edit(one, mov_1, mov_wide, 5, SUTURE_CHEAPEST) == 0 && one() == wide,
	   "cheapest takes a trap for it");
	ok(edit(one, mov_wide, mov_1, 5, SUTURE_BREAKPOINT) == 0 && one() == 1, "breakpoint, back");
	ok(edit(one, mov_1, mov_2, 5, SUTURE_BREAKPOINT) == 0 && one() == 2,
	   "breakpoint where nosync would do");
	ok(edit(one, mov_2, mov_1, 5, SUTURE_BREAKPOINT) == 0 && one() == 1, "and back");
}

static void test_safe(void)
{
	static const uint8_t four[] = {0x31, 0xC0, 0x90, 0x90, 0x90};

	ok(suture_text_hotpatch_safe(mov_1, mov_2, 5, one), "one byte of one instruction is safe");
	ok(!suture_text_hotpatch_safe(mov_1, mov_wide, 5, one), "four bytes are not");
	ok(!suture_text_hotpatch_safe(four, mov_1, 5, several), "several instructions are not");
	ok(!suture_text_hotpatch_safe(NULL, mov_1, 5, several), "nothing is not");
}

extern const char in_noinstr[] __asm__("__start_suture_noinstr");

static void test_refusals(void)
{
	static const uint8_t four[] = {0x31, 0xC0, 0x90, 0x90, 0x90}, trap[] = {0xCC, 2, 0, 0, 0};
	uint8_t *page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct suture_edit overlap[] = {{one, mov_1, mov_2, 5},
	                                {(char *)one + 1, mov_1 + 1, mov_2 + 1, 4}};
	uint8_t own, other;

	ok(edit(one, mov_2, mov_1, 5, 0) == -EUCLEAN && one() == 1, "unexpected bytes: %s",
	   message);
	ok(edit(several, four, mov_1, 5, 0) == -EOPNOTSUPP && several() == 0,
	   "several instructions: %s", message);
	ok(edit(one, mov_1, trap, 5, SUTURE_BREAKPOINT) == -EOPNOTSUPP && one() == 1,
	   "a trap by way of a trap: %s", message);
	ok(edit(one, mov_1, mov_1, 5, 0) == -EINVAL, "no change: %s", message);
	ok(edit(one, mov_1, mov_2, 0, 0) == -EINVAL, "no length: %s", message);
	ok(edit(one, mov_1, mov_2, 17, 0) == -EINVAL, "too long: %s", message);
	ok(edit(NULL, mov_1, mov_2, 5, 0) == -EINVAL, "no address: %s", message);
	ok(suture_text_patch(overlap, 2, &options) == -EINVAL && one() == 1, "overlap: %s",
	   message);
	munmap(page, 4096);
	ok(edit(page, mov_1, mov_2, 5, 0) == -EFAULT, "not mapped: %s", message);
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memcpy(page, mov_1, 5);
	ok(edit(page, mov_1, mov_2, 5, 0) == -EACCES && !memcmp(page, mov_1, 5), "data: %s",
	   message);
	munmap(page, 4096);
	own = (uint8_t)in_noinstr[0];
	other = own ^ 1;
	ok(edit((void *)(uintptr_t)in_noinstr, &own, &other, 1, 0) == -EPERM &&
	           (uint8_t)in_noinstr[0] == own,
	   "suture's own text: %s", message);
	ok(edit(one, mov_1, mov_2, 5, 0) == 0 &&
	           edit((char *)one + 1, mov_2 + 1, mov_1 + 1, 4, 0) == -EEXIST,
	   "another extent than before: %s", message);
	ok(edit(one, mov_2, mov_1, 5, 0) == 0 && one() == 1, "the same extent is taken back");
	options.size = 8;
	ok(suture_text_patch(overlap, 1, &options) == -EINVAL, "options of another size");
	options.size = sizeof(options);
	ok(suture_text_patch(NULL, 0, NULL) == 0, "no edits");
}

/* What was refused leaves nothing behind, however often: the text of its second edit looks as if
 * it had been made. */
static void test_refused_often(void)
{
	void *nowhere = (void *)(uintptr_t)0x10000; /* below all that is mapped */
	struct suture_edit edits[] = {{nowhere, mov_1, mov_2, 5}, {one, mov_wide, mov_1, 5}};
	unsigned faults = 0;

	options.strategy = SUTURE_BREAKPOINT;
	for (unsigned i = 0; i < 40; i++)
		faults += suture_text_patch(edits, 2, &options) == -EFAULT;
	ok(faults == 40, "%u of 40 transactions are refused for the same reason: %s", faults,
	   message);
	ok(edit(one, mov_1, mov_wide, 5, 0) == 0 && edit(one, mov_wide, mov_1, 5, 0) == 0,
	   "and the next is made");
}

/* A transaction of three whose k-th has other bytes: nothing of it is made. */
static void test_all_or_none(void)
{
	for (unsigned k = 0; k < 3; k++)
		for (unsigned way = 0; way < 2; way++) {
			struct suture_edit edits[] = {{three, mov_1, way ? mov_wide : mov_2, 5},
			                              {one, mov_1, way ? mov_wide : mov_2, 5},
			                              {two, mov_1, way ? mov_wide : mov_2, 5}};
			int rc;

			edits[k].from = mov_2;
			edits[k].to = mov_1;
			rc = suture_text_patch(edits, 3, &options);
			ok(rc == -EUCLEAN && options.failed == k && one() == 1 && two() == 1 &&
			           three() == 1,
			   "edit %u of 3 is unexpected, %s: none is made", k,
			   way ? "breakpoint" : "nosync");
		}
}

/* ---- forks ---- */

static void test_fork(void)
{
	int status = 0;
	pid_t child;

	ok(edit(two, mov_1, mov_2, 5, 0) == 0 && two() == 2, "edited before the fork");
	child = fork();
	if (child == 0) {
		int rc = edit(two, mov_2, mov_wide, 5, 0) || two() != wide ||
		         edit(one, mov_1, mov_wide, 5, 0) || one() != wide;

		_exit(rc);
	}
	waitpid(child, &status, 0);
	ok(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child edits its own text");
	ok(two() == 2 && one() == 1, "and its parent's stays");
	ok(edit(two, mov_2, mov_1, 5, 0) == 0 && two() == 1, "which can still be edited");
}

/* ---- signals ---- */

static volatile sig_atomic_t traps_seen;

static void on_trap(int number)
{
	(void)number;
	traps_seen++;
}

static void *block_trap(void *arg)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTRAP);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	__atomic_store_n((int *)arg, 1, __ATOMIC_RELEASE);
	while (__atomic_load_n((int *)arg, __ATOMIC_ACQUIRE) == 1)
		usleep(1000);
	return NULL;
}

static void test_signals(void)
{
	pthread_t thread;
	int state = 0, rc;

	raise(SIGTRAP);
	ok(traps_seen == 1, "SIGTRAP that somebody sends still goes to the program's handler");
	__asm__ volatile("int3");
	ok(traps_seen == 2, "and so does a trap of the program's own");
	pthread_create(&thread, NULL, block_trap, &state);
	while (!__atomic_load_n(&state, __ATOMIC_ACQUIRE))
		usleep(1000);
	options.deadline_ns = 20000000;
	rc = edit(one, mov_1, mov_wide, 5, 0);
	ok(rc == -EBUSY && one() == 1, "a thread blocks SIGTRAP: %s", message);
	ok(edit(one, mov_1, mov_2, 5, 0) == 0 && edit(one, mov_2, mov_1, 5, 0) == 0,
	   "nosync does not mind");
	__atomic_store_n(&state, 2, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	options.deadline_ns = 0;
	ok(edit(one, mov_1, mov_wide, 5, 0) == 0 && edit(one, mov_wide, mov_1, 5, 0) == 0,
	   "it is gone: patched");
}

/* ---- threads ---- */

static int stop, wrong;
static unsigned long rounds;

static void *run(void *arg)
{
	unsigned long n = 0;

	(void)arg;
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		int a = one(), b = two();

		if ((a != 1 && a != wide) || (b != 1 && b != 2))
			__atomic_store_n(&wrong, 1, __ATOMIC_RELAXED);
		n++;
	}
	__atomic_fetch_add(&rounds, n, __ATOMIC_RELAXED);
	return NULL;
}

static void test_threads(unsigned threads, unsigned cycles)
{
	pthread_t thread[16];
	unsigned failed = 0, seen_old = 0;

	stop = wrong = 0;
	rounds = 0;
	for (unsigned i = 0; i < threads; i++)
		pthread_create(&thread[i], NULL, run, NULL);
	for (unsigned i = 0; i < cycles; i++) {
		failed += edit(one, mov_1, mov_wide, 5, 0) != 0;
		seen_old += one() != wide;
		failed += edit(two, mov_1, mov_2, 5, 0) != 0;
		seen_old += two() != 2;
		failed += edit(one, mov_wide, mov_1, 5, 0) != 0;
		seen_old += one() != 1;
		failed += edit(two, mov_2, mov_1, 5, 0) != 0;
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < threads; i++)
		pthread_join(thread[i], NULL);
	ok(!failed && !wrong && !seen_old, "%u threads, %u cycles: %u failed, %u not seen, %s",
	   threads, cycles, failed, seen_old, wrong ? "wrong results" : "no wrong result");
	note("%lu executions", rounds);
}

int main(void)
{
	unsigned cycles = getenv("SUTURE_TORTURE") ? 25000 : 500;

	signal(SIGTRAP, on_trap);
	test_strategies();
	test_safe();
	test_refusals();
	test_refused_often();
	test_all_or_none();
	test_fork();
	test_signals();
	test_threads(4, cycles);
	test_threads(16, cycles);
	return done();
}
