/* SPDX-License-Identifier: MIT */
/*
 * own_keys.c - suture/key.h: switches in the text, in the executable.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "suture/key.h"
#include "tap.h"

SUTURE_KEY_DEFINE(off_at_first, false);
SUTURE_KEY_DEFINE(on_at_first, true);
SUTURE_KEY_DEFINE(unused, false);
SUTURE_KEY_DEFINE(crowded, false);

#define FUNCTION __attribute__((noinline)) static int

FUNCTION unlikely_off(void)
{
	return suture_key_unlikely(&off_at_first) ? 2 : 1;
}

FUNCTION likely_off(void)
{
	return suture_key_likely(&off_at_first) ? 2 : 1;
}

FUNCTION unlikely_on(void)
{
	return suture_key_unlikely(&on_at_first) ? 2 : 1;
}

FUNCTION likely_on(void)
{
	return suture_key_likely(&on_at_first) ? 2 : 1;
}

/* Many uses in one function, some in loops and conditions. */
FUNCTION many(int n)
{
	int sum = 0;

	for (int i = 0; i < n; i++) {
		if (suture_key_unlikely(&crowded) && i % 2)
			sum += 1;
		sum += suture_key_likely(&crowded) ? 10 : 0;
		while (suture_key_unlikely(&crowded) && sum % 100 == 50)
			sum += 100 - 50;
	}
	return sum;
}

static int many_expected(int n, bool on)
{
	int sum = 0;

	for (int i = 0; i < n && on; i++) {
		sum += i % 2 + 10;
		if (sum % 100 == 50)
			sum += 50;
	}
	return sum;
}

static bool all(int off, int on)
{
	return unlikely_off() == off && likely_off() == off && unlikely_on() == on &&
	       likely_on() == on;
}

static void test_switch(void)
{
	ok(all(1, 2), "keys begin as they are defined");
	ok(!suture_key_enabled(&off_at_first) && suture_key_enabled(&on_at_first), "and say so");
	ok(suture_key_enable(&off_at_first) == 0 && all(2, 2), "enabled");
	ok(suture_key_disable(&on_at_first) == 0 && all(2, 1), "disabled");
	ok(suture_key_enable(&off_at_first) == 0 && suture_key_disable(&off_at_first) == 0 &&
	           all(2, 1),
	   "enabling counts");
	ok(suture_key_disable(&off_at_first) == 0 && all(1, 1), "the last disable switches");
	ok(suture_key_disable(&off_at_first) == -ERANGE && all(1, 1), "there is nothing below");
	ok(suture_key_enable(&on_at_first) == 0 && all(1, 2), "and on again");
	ok(suture_key_enable(&unused) == 0 && suture_key_enabled(&unused) &&
	           suture_key_disable(&unused) == 0,
	   "a key that nobody uses");
}

static void test_many(void)
{
	ok(many(50) == many_expected(50, false), "many uses, off");
	ok(suture_key_enable(&crowded) == 0 && many(50) == many_expected(50, true),
	   "many uses, on");
	ok(suture_key_disable(&crowded) == 0 && many(50) == many_expected(50, false), "and off");
}

static void test_batch(void)
{
	char message[200] = "";
	struct suture_text_options options = {
	        .size = sizeof(options), .message = message, .message_size = sizeof(message)};
	struct suture_key_change both[] = {{&off_at_first, true}, {&on_at_first, false}};
	struct suture_key_change back[] = {{&off_at_first, false}, {&on_at_first, true}};
	struct suture_key_change twice[] = {{&off_at_first, true}, {&off_at_first, true}};
	struct suture_key_change below[] = {{&on_at_first, false}, {&unused, false}};

	ok(suture_keys_change(both, 2, &options) == 0 && all(2, 1), "two keys at once");
	ok(suture_keys_change(back, 2, &options) == 0 && all(1, 2), "and back");
	ok(suture_keys_change(twice, 2, &options) == -EINVAL && options.failed == 1 && all(1, 2),
	   "a key twice: %s", message);
	ok(suture_keys_change(below, 2, &options) == -ERANGE && options.failed == 1 && all(1, 2),
	   "one of them is off: %s", message);
}

static void test_original(void)
{
	static const uint8_t nop[] = {0x0F, 0x1F, 0x44, 0x00, 0x00};
	const uint8_t *code = (const uint8_t *)(uintptr_t)unlikely_off;
	uint8_t now[64], was[64], at = 0;
	bool found = false;

	suture_key_enable(&off_at_first);
	memcpy(now, code, sizeof(now));
	ok(suture_text_original(code, was, sizeof(was)) == 0, "the text before can be read");
	for (; at + 5 < 64 && !found; at++)
		found = memcmp(was + at, nop, 5) == 0 && now[at] == 0xE9;
	ok(found, "a nop, where a jump is now");
	suture_key_disable(&off_at_first);
}

static void test_overlap(void)
{
	const uint8_t *code = (const uint8_t *)(uintptr_t)unlikely_on;
	uint8_t now[64], was[64], to[2] = {0x90, 0x90};
	struct suture_edit edit = {.from = now, .to = to, .length = 2};
	size_t at = 0;

	memcpy(now, code, sizeof(now));
	ok(suture_text_original(code, was, sizeof(was)) == 0 && memcmp(was, now, sizeof(was)),
	   "a key that is on at first was off in the file");
	while (at < 60 && was[at] == now[at])
		at++;
	edit.address = (uint8_t *)(uintptr_t)unlikely_on + at;
	edit.from = now + at;
	ok(suture_text_patch(&edit, 1, NULL) == -EEXIST && all(1, 2),
	   "part of a use of a key that is on can not be edited");
	edit.address = (uint8_t *)(uintptr_t)unlikely_on + at + 3;
	edit.from = now + at + 3;
	edit.length = 1;
	ok(suture_text_patch(&edit, 1, NULL) == -EEXIST && all(1, 2), "nor its inside");
}

/* ---- many keys, three uses each, in no order ---- */

enum { KEYS = 300, USES = 3 };
static struct suture_key several[KEYS] __attribute__((used));
/* The i-th use is of key i * 7 % KEYS, and is likely if i is odd. */
__asm__(".text\n"
        "uses:\n"
        ".set use, 0\n"
        ".rept 900\n"
        "1:\t.if use & 1\n\t.byte 0xe9\n\t.long 9f - . - 4\n\t.else\n"
        "\t.byte 0x0f, 0x1f, 0x44, 0, 0\n\t.endif\n"
        ".pushsection suture_keys, \"aw\", @progbits\n"
        ".balign 8\n"
        ".long 1b - ., 9f - .\n"
        ".quad several + (use * 7 % 300) * 8 + (use & 1) - .\n"
        ".popsection\n"
        ".set use, use + 1\n"
        ".skip 3, 0x90\n"
        ".endr\n"
        "9:\tret\n");
extern const uint8_t uses[];

static unsigned wrong_uses(const bool on[KEYS])
{
	unsigned wrong_ones = 0;

	for (unsigned i = 0; i < KEYS * USES; i++) {
		uint8_t now = __atomic_load_n(&uses[i * 8], __ATOMIC_RELAXED);
		bool jump = on[i * 7 % KEYS] != (i & 1);

		wrong_ones += now != (jump ? 0xE9 : 0x0F) ||
		              suture_key_enabled(&several[i * 7 % KEYS]) != on[i * 7 % KEYS];
	}
	return wrong_ones;
}

/* So many keys, each the other way, in a random order. */
static int flip(bool on[KEYS], unsigned count)
{
	struct suture_key_change changes[KEYS];
	unsigned order[KEYS];

	for (unsigned i = 0; i < KEYS; i++) {
		unsigned k = (unsigned)rand() % (i + 1);

		order[i] = order[k];
		order[k] = i;
	}
	for (unsigned i = 0; i < count; i++) {
		on[order[i]] = !on[order[i]];
		changes[i] = (struct suture_key_change){&several[order[i]], on[order[i]]};
	}
	return suture_keys_change(changes, count, NULL);
}

static void test_several(void)
{
	bool on[KEYS] = {false};
	uint8_t file[KEYS * USES * 8], was[sizeof(file)];
	unsigned failed = 0;

	memcpy(file, uses, sizeof(file));
	ok(!wrong_uses(on), "300 keys, off");
	for (unsigned i = 0; i < 60; i++)
		failed += flip(on, i % 3 ? (unsigned)rand() % 20 : (unsigned)rand() % KEYS) ||
		          wrong_uses(on);
	ok(!failed, "60 times some of them are switched");
	ok(suture_text_original(uses, was, sizeof(was)) == 0 && !memcmp(was, file, sizeof(was)) &&
	           memcmp(uses, file, sizeof(file)),
	   "what was there before them is known");
}

static void test_fork(void)
{
	int status = 0;
	pid_t child = fork();

	if (child == 0)
		_exit(suture_key_enable(&off_at_first) != 0 || !all(2, 2));
	waitpid(child, &status, 0);
	ok(WIFEXITED(status) && !WEXITSTATUS(status) && all(1, 2), "a child switches for itself");
}

/* ---- threads ---- */

static int stop;
static unsigned wrong;
/* Even: the state is settled, and bit 1 says which. */
static unsigned settled;

static void *run(void *arg)
{
	(void)arg;
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		unsigned before = __atomic_load_n(&settled, __ATOMIC_ACQUIRE);
		int a = unlikely_off(), b = likely_off();
		unsigned after = __atomic_load_n(&settled, __ATOMIC_ACQUIRE);

		if (a < 1 || a > 2 || b < 1 || b > 2)
			__atomic_fetch_add(&wrong, 1, __ATOMIC_RELAXED);
		if (before != after || before & 1)
			continue;
		if (a != (before & 2 ? 2 : 1) || b != a)
			__atomic_fetch_add(&wrong, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void test_threads(unsigned threads, unsigned cycles)
{
	pthread_t thread[16];
	unsigned failed = 0;

	stop = 0;
	wrong = settled = 0;
	for (unsigned i = 0; i < threads; i++)
		pthread_create(&thread[i], NULL, run, NULL);
	for (unsigned i = 0; i < cycles; i++) {
		__atomic_store_n(&settled, 4 * i + 1, __ATOMIC_SEQ_CST);
		failed += suture_key_enable(&off_at_first) != 0;
		__atomic_store_n(&settled, 4 * i + 2, __ATOMIC_SEQ_CST);
		failed += unlikely_off() != 2 || likely_off() != 2;
		__atomic_store_n(&settled, 4 * i + 3, __ATOMIC_SEQ_CST);
		failed += suture_key_disable(&off_at_first) != 0;
		__atomic_store_n(&settled, 4 * i + 4, __ATOMIC_SEQ_CST);
		failed += unlikely_off() != 1 || likely_off() != 1;
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < threads; i++)
		pthread_join(thread[i], NULL);
	ok(!failed && !wrong, "%u threads, %u cycles: everybody sees what is switched", threads,
	   cycles);
}

int main(void)
{
	unsigned cycles = getenv("SUTURE_TORTURE") ? 100000 : 1000;

	test_switch();
	test_many();
	test_batch();
	test_original();
	test_overlap();
	test_several();
	test_fork();
	test_threads(4, cycles);
	test_threads(16, cycles);
	return done();
}
