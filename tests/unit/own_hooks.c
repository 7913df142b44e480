/* SPDX-License-Identifier: MIT */
/*
 * own_hooks.c - suture/hook.h: functions of our own replaced while they run.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "suture/hook.h"
#include "tap.h"

/* Weak: the compiler can know nothing of what it does. */
#define VICTIM __attribute__((noinline, weak))

static char message[200];
static struct suture_text_options options = {
        .size = sizeof(options), .message = message, .message_size = sizeof(message)};

static int install(void *function, void *replacement, void *original, struct suture_hook **hook)
{
	struct suture_hook_spec spec = {function, replacement, original};

	message[0] = '\0';
	return suture_hook_install(&spec, 1, hook, &options);
}

static int take(struct suture_hook *hook)
{
	message[0] = '\0';
	return suture_hook_remove(&hook, 1, &options);
}

/* ---- one function, several replacements ---- */

VICTIM int plus_one(int x);
int plus_one(int x)
{
	return x + 1;
}

static int (*below[3])(int);
static int path; /* the digits of those that were called, the first in front */

#define REPLACEMENT(k)                                                                             \
	static int replacement_##k(int x)                                                          \
	{                                                                                          \
		path = path * 10 + (k) + 1;                                                        \
		return below[k](x) + 100;                                                          \
	}
REPLACEMENT(0)
REPLACEMENT(1)
REPLACEMENT(2)
static int (*const replacements[3])(int) = {replacement_0, replacement_1, replacement_2};

/* Which of them are called, the latest first, and what comes out. */
static bool called(int expected)
{
	int layers = 0, result;

	for (int digits = expected; digits; digits /= 10)
		layers++;
	path = 0;
	result = plus_one(1);
	return path == expected && result == 2 + 100 * layers;
}

static void test_one(void)
{
	int (*volatile pointer)(int) = plus_one;
	struct suture_hook *hook = NULL;

	ok(plus_one(1) == 2, "not hooked");
	ok(install(plus_one, replacement_0, &below[0], &hook) == 0 && hook, "hooked %s", message);
	ok(suture_hook_kind(hook) == SUTURE_SITE_PUN ||
	           suture_hook_kind(hook) == SUTURE_SITE_WINDOW,
	   "by a %s", suture_site_kind_name(suture_hook_kind(hook)));
	ok(called(1), "the replacement is called, and its original is the function");
	path = 0;
	ok(pointer(1) == 102 && path == 1, "through a pointer, too");
	path = 0;
	ok(below[0](5) == 6 && path == 0, "the original can be called by anybody");
	ok(take(hook) == 0 && called(0), "removed");
	ok(below[0](5) == 6 && path == 0, "the original still can be");
}

/* Three on top of each other, removed in this order. */
static void test_order(const int order[3])
{
	struct suture_hook *hooks[3];
	bool there[3] = {true, true, true}, right = true;
	int rc = 0;

	for (int k = 0; k < 3; k++)
		rc = rc ? rc : install(plus_one, replacements[k], &below[k], &hooks[k]);
	right = rc == 0 && called(321);
	for (int i = 0; i < 3; i++) {
		int expected = 0;

		rc = rc ? rc : take(hooks[order[i]]);
		there[order[i]] = false;
		for (int k = 2; k >= 0; k--)
			expected = there[k] ? expected * 10 + k + 1 : expected;
		right = right && called(expected);
		/* Whoever still has the original of one that left calls what is below. */
		path = 0;
		right = right && below[order[i]](1) % 100 == 2;
	}
	ok(rc == 0 && right, "three, removed in the order %d %d %d", order[0], order[1], order[2]);
}

static void test_orders(void)
{
	static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
	                                 {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};

	for (int i = 0; i < 6; i++)
		test_order(orders[i]);
}

/* ---- many at once ---- */

#define MANY(k)                                                                                    \
	VICTIM int many_##k(int x);                                                                \
	int many_##k(int x)                                                                        \
	{                                                                                          \
		return x * 7 + (k);                                                                \
	}                                                                                          \
	static int (*real_many_##k)(int);                                                          \
	static int my_many_##k(int x)                                                              \
	{                                                                                          \
		return -real_many_##k(x);                                                          \
	}
MANY(0)
MANY(1)
MANY(2)
MANY(3)
MANY(4)
enum { MANY_COUNT = 5 };
#define SPEC(k)                                                                                    \
	{                                                                                          \
		(void *)many_##k, (void *)my_many_##k, (void **)&real_many_##k                     \
	}
static const struct suture_hook_spec many[MANY_COUNT] = {SPEC(0), SPEC(1), SPEC(2), SPEC(3),
                                                         SPEC(4)};

/* All of them are replaced, or none is. */
static bool many_are(bool replaced)
{
	bool all = true;

	for (int k = 0; k < MANY_COUNT; k++) {
		int result = ((int (*)(int))many[k].function)(3);

		all = all && result == (replaced ? -1 : 1) * (21 + k);
	}
	return all;
}

__asm__(".text\n.balign 16\nundefined:\n\tud2\n\t.balign 16\nbreaks:\n\tint3\n\tret\n"
        "\t.balign 16\nnonsense:\n\t.byte 0x06, 0x06, 0x06\n\t.balign 16\n");
extern char undefined[], breaks[], nonsense[];
static int data_word = 1;
extern const char in_noinstr[] __asm__("__start_suture_noinstr");

static const struct invalid {
	const char *what;
	void *function;
	int rc;
} invalid[] = {
        {"no function", NULL, -EINVAL},
        {"data", &data_word, -EACCES},
        {"low memory", (void *)16, -EACCES},
        {"ud2", undefined, -EOPNOTSUPP},
        {"int3", breaks, -EOPNOTSUPP},
        {"no instruction", nonsense, -EINVAL},
        {"suture's own text", (void *)(uintptr_t)in_noinstr, -EPERM},
        {"not canonical", (void *)0x8000000000000000, -EACCES},
        {"the kernel's half", (void *)0xffffffff81000000, -EACCES},
        {"the last byte", (void *)UINT64_MAX, -EACCES},
};

static void test_all_or_none(const struct invalid *bad)
{
	for (size_t k = 0; k < MANY_COUNT; k++) {
		struct suture_hook_spec specs[MANY_COUNT];
		uint8_t before[MANY_COUNT][16];
		struct suture_hook *hooks[MANY_COUNT] = {0};
		bool same = true;
		int rc;

		memcpy(specs, many, sizeof(specs));
		specs[k].function = bad->function;
		for (int i = 0; i < MANY_COUNT; i++)
			memcpy(before[i], many[i].function, 16);
		message[0] = '\0';
		options.failed = 99;
		rc = suture_hook_install(specs, MANY_COUNT, hooks, &options);
		for (int i = 0; i < MANY_COUNT; i++)
			same = same && memcmp(before[i], many[i].function, 16) == 0;
		ok(rc == bad->rc && options.failed == k && message[0] && same && many_are(false),
		   "%s, the %zuth of %d: none is hooked (%d, %zu, %s)", bad->what, k, MANY_COUNT,
		   rc, options.failed, message);
	}
}

static void test_replacement_is_data(void)
{
	struct suture_hook_spec specs[] = {many[0], many[1]};

	specs[1].replacement = &data_word;
	ok(suture_hook_install(specs, 2, NULL, &options) == -EACCES && options.failed == 1 &&
	           many_are(false),
	   "not replaced by data: %s", message);
}

static void test_many(void)
{
	struct suture_hook *hooks[MANY_COUNT];
	struct suture_hook_spec twice[] = {many[0], many[1], many[0]};

	ok(suture_hook_install(many, MANY_COUNT, hooks, NULL) == 0 && many_are(true),
	   "%d in one call", MANY_COUNT);
	ok(suture_hook_remove(hooks, MANY_COUNT, NULL) == 0 && many_are(false), "and removed");
	for (size_t i = 0; i < sizeof(invalid) / sizeof(invalid[0]); i++)
		test_all_or_none(&invalid[i]);
	ok(suture_hook_install(twice, 3, hooks, &options) == -EINVAL && many_are(false),
	   "a function twice in one call: %s", message);
	ok(suture_hook_install(many, 1, hooks, NULL) == 0 &&
	           suture_hook_install(twice, 3, hooks + 1, &options) == -EINVAL &&
	           many_0(3) == -21 && many_1(3) == 22,
	   "one of them hooked already: it stays hooked");
	ok(suture_hook_remove(hooks, 1, NULL) == 0 && many_are(false), "until it is removed");
	ok(suture_hook_install(many, MANY_COUNT, NULL, NULL) == 0 && many_are(true),
	   "for ever: without handles");
}

static void test_arguments(void)
{
	struct suture_hook_spec spec = {plus_one, plus_one, NULL};
	struct suture_hook *hooks[2] = {0};

	ok(suture_hook_install(NULL, 0, NULL, NULL) == 0, "no hooks");
	ok(suture_hook_remove(NULL, 0, NULL) == 0, "none to remove");
	ok(suture_hook_install(NULL, 1, hooks, NULL) == -EINVAL, "no specs");
	ok(suture_hook_remove(NULL, 1, NULL) == -EINVAL, "no handles");
	ok(suture_hook_remove(hooks, 1, &options) == -EINVAL, "an empty handle: %s", message);
	ok(suture_hook_install(&spec, 1, hooks, &options) == -EINVAL, "by itself: %s", message);
	spec.replacement = NULL;
	ok(suture_hook_install(&spec, 1, hooks, &options) == -EINVAL, "by nothing: %s", message);
	spec.replacement = replacement_0;
	options.size = 8;
	ok(suture_hook_install(&spec, 1, hooks, &options) == -EINVAL, "options of another size");
	options.size = sizeof(options);
	options.strategy = SUTURE_NOSYNC;
	ok(suture_hook_install(&spec, 1, hooks, &options) == -EINVAL, "a strategy: %s", message);
	options.strategy = SUTURE_CHEAPEST;
	spec.original = NULL;
	below[0] = below[1];
	ok(suture_hook_install(&spec, 1, hooks, NULL) == 0 && plus_one(1) == 102, "no original");
	hooks[1] = hooks[0];
	ok(suture_hook_remove(hooks, 2, &options) == -EINVAL && plus_one(1) == 102,
	   "removed twice in one call: %s", message);
	ok(suture_hook_remove(hooks, 1, NULL) == 0 && plus_one(1) == 2, "once");
}

/* ---- libc ---- */

static void *(*real_malloc)(size_t);
static void (*real_free)(void *);
static size_t (*real_strlen)(const char *);
static ssize_t (*real_write)(int, const void *, size_t);
static unsigned long mallocs, frees, strlens, writes;

static void *my_malloc(size_t size)
{
	__atomic_fetch_add(&mallocs, 1, __ATOMIC_RELAXED);
	real_free(real_malloc(size));
	return real_malloc(size);
}

static void my_free(void *memory)
{
	__atomic_fetch_add(&frees, 1, __ATOMIC_RELAXED);
	real_free(memory);
}

static size_t my_strlen(const char *string)
{
	__atomic_fetch_add(&strlens, 1, __ATOMIC_RELAXED);
	return real_strlen(string);
}

static ssize_t my_write(int fd, const void *data, size_t size)
{
	char copy[32];

	__atomic_fetch_add(&writes, 1, __ATOMIC_RELAXED);
	free(malloc((size_t)snprintf(copy, sizeof(copy), "%zu", size)));
	return real_write(fd, data, size);
}

static void *allocate(void *arg)
{
	for (int i = 0; i < 20000; i++) {
		char *volatile memory = malloc((size_t)(i % 500) + 1);

		memory[0] = 1;
		free(memory);
	}
	return arg;
}

static void test_libc(void)
{
	void *(*volatile allocator)(size_t) = malloc;
	size_t (*volatile length)(const char *) = strlen;
	const struct suture_hook_spec specs[] = {
	        {(void *)malloc, (void *)my_malloc, (void **)&real_malloc},
	        {(void *)free, (void *)my_free, (void **)&real_free},
	        {(void *)strlen, (void *)my_strlen, (void **)&real_strlen},
	        {(void *)write, (void *)my_write, (void **)&real_write},
	};
	struct suture_hook *hooks[4];
	pthread_t threads[3];
	int null = open("/dev/null", O_WRONLY);
	unsigned long seen;

	for (int i = 0; i < 3; i++)
		pthread_create(&threads[i], NULL, allocate, NULL);
	ok(suture_hook_install(specs, 4, hooks, &options) == 0, "malloc, free, strlen, write %s",
	   message);
	free(allocator(100));
	ok(mallocs && frees, "malloc and free are replaced");
	ok(length("12345") == 5 && strlens, "strlen is, which is an indirect function");
	ok(write(null, "x", 1) == 1 && writes, "write is, whose replacement uses the others");
	seen = mallocs;
	ok(dprintf(null, "%s %d\n", "text", 1) == 7 && mallocs >= seen, "and libc uses them");
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	ok(suture_hook_remove(hooks, 4, &options) == 0, "removed");
	seen = mallocs + frees + strlens + writes;
	free(allocator(100));
	ok(length("12345") == 5 && write(null, "x", 1) == 1 &&
	           seen == mallocs + frees + strlens + writes,
	   "none is replaced any more");
	close(null);
}

/* ---- threads ---- */

static int stop;

static int (*real_plus_one)(int);
static int plus_one_thousand(int x)
{
	return real_plus_one(x) + 1000;
}

static void *call_plus_one(void *arg)
{
	unsigned long *wrong = arg;

	for (int i = 0; !__atomic_load_n(&stop, __ATOMIC_RELAXED); i = (i + 1) % 1000) {
		int result = plus_one(i);

		if (result != i + 1 && result != i + 1001)
			__atomic_fetch_add(wrong, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void test_threads(int cycles)
{
	unsigned long wrong = 0, failed = 0, unseen = 0;
	pthread_t threads[4];

	stop = 0;
	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, call_plus_one, &wrong);
	for (int i = 0; i < cycles; i++) {
		struct suture_hook *hook;

		failed += install(plus_one, plus_one_thousand, &real_plus_one, &hook) != 0;
		unseen += plus_one(1) != 1002;
		failed += take(hook) != 0;
		unseen += plus_one(1) != 2;
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	ok(!wrong && !failed && !unseen,
	   "%d times while 4 threads run it: %lu wrong, %lu failed, "
	   "%lu not seen",
	   cycles, wrong, failed, unseen);
}

static void *hook_plus_one(void *arg)
{
	unsigned long *wrong = arg;

	for (int i = 0; i < 50; i++) {
		struct suture_hook_spec spec = {plus_one, replacement_2, (void **)&below[2]};
		struct suture_hook *hook;

		if (suture_hook_install(&spec, 1, &hook, NULL) || plus_one(1) < 102 ||
		    suture_hook_remove(&hook, 1, NULL))
			__atomic_fetch_add(wrong, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void test_concurrent(void)
{
	unsigned long wrong = 0;
	pthread_t thread;

	pthread_create(&thread, NULL, hook_plus_one, &wrong);
	for (int i = 0; i < 200; i++) {
		struct suture_hook *hooks[2];

		wrong += suture_hook_install(many, 2, hooks, NULL) != 0;
		wrong += suture_hook_remove(hooks, 2, NULL) != 0;
	}
	pthread_join(thread, NULL);
	ok(wrong == 0 && plus_one(1) == 2, "two threads hook at once: %lu failed", wrong);
}

/* ---- with edits ---- */

static void test_edits(void)
{
	uint8_t before[16], now[16], was[16], other;
	struct suture_edit edit = {plus_one, before, &other, 1};
	struct suture_hook *hook;
	int refused = 0, length;

	memcpy(before, plus_one, 16);
	length = before[0] == 0x55 ? 1 : before[0] == 0x89 ? 2 : 3;
	ok(install(plus_one, replacement_0, &below[0], &hook) == 0, "hooked");
	memcpy(now, plus_one, 16);
	ok(memcmp(before, now, 16) != 0 && suture_text_original(plus_one, was, 16) == 0 &&
	           memcmp(was, before, 16) == 0,
	   "suture_text_original reads the program's bytes");
	/* lea 1(%rdi),%eax; with sanitizers push %rbp or mov %edi,%eax */
	for (int k = 0; k < length; k++) {
		edit.address = (char *)plus_one + k;
		edit.from = before + k;
		other = before[k] ^ 1;
		refused += suture_text_patch(&edit, 1, &options) == -EEXIST;
	}
	ok(refused == length && memcmp(plus_one, now, 16) == 0 && called(1),
	   "no part of the instruction can be edited: %s", message);
	ok(take(hook) == 0 && memcmp(plus_one, before, 16) == 0, "the bytes are back");
}

int main(void)
{
	bool torture = getenv("SUTURE_TORTURE");

	test_one();
	test_orders();
	test_arguments();
	test_concurrent();
	test_threads(torture ? 20000 : 300);
	test_edits();
	test_libc();
	test_replacement_is_data();
	test_many();
	return done();
}
