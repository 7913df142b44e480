/* SPDX-License-Identifier: MIT */
/*
 * own_alias.c - suture_text_alias: text that is mapped twice is changed as all other text is, by
 * stores; children have their own; refusals.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "own_sum.h"
#include "suture/code.h"
#include "suture/hook.h"
#include "suture/key.h"
#include "suture/probe.h"
#include "tap.h"

SUTURE_KEY_DEFINE(key, false);

__attribute__((noinline, noclone)) static int keyed(void)
{
	__asm__ volatile("");
	if (suture_key_unlikely(&key))
		return 2;
	return 1;
}

__attribute__((noinline, noclone)) static int plus_one(int x)
{
	__asm__ volatile("" : "+r"(x));
	return x + 1;
}

static int (*original)(int);
static int minus(int x)
{
	return -original(x);
}

static unsigned hits;
static void count(struct suture_regs *regs, void *arg)
{
	(void)regs, (void)arg;
	__atomic_fetch_add(&hits, 1, __ATOMIC_RELAXED);
}

static const uint8_t *text_of(const void *function)
{
	return function;
}

/* What /proc/self/maps says of the mapping that holds the address. */
static void rights_at(const void *address, char rights[5])
{
	FILE *maps = fopen("/proc/self/maps", "re");
	unsigned long start, end, at = (unsigned long)(uintptr_t)address;
	char line[512];

	strcpy(rights, "none");
	while (maps && fgets(line, sizeof(line), maps))
		if (sscanf(line, "%lx-%lx %4s", &start, &end, rights) == 3 && start <= at &&
		    at < end)
			break;
	if (maps)
		fclose(maps);
}

/* ---- everything works ---- */

static bool toggles(int cycles)
{
	bool all = true;

	for (int i = 0; i < cycles; i++) {
		all = all && suture_key_enable(&key) == 0 && keyed() == 2;
		all = all && suture_key_disable(&key) == 0 && keyed() == 1;
	}
	return all;
}

static bool hooks(int cycles)
{
	struct suture_hook_spec spec = {(void *)plus_one, (void *)minus, (void **)&original};
	struct suture_probe_spec probed = {.address = (void *)keyed, .pre = count};
	struct suture_probe *probe;
	struct suture_hook *hook;
	bool all = true;

	for (int i = 0; i < cycles && all; i++) {
		all = suture_hook_install(&spec, 1, &hook, &options) == 0 && plus_one(1) == -2;
		hits = 0;
		all = all && suture_probe_install(&probed, 1, &probe, &options) == 0 &&
		      keyed() == 1 && hits >= 1;
		all = all && toggles(1);
		all = all && suture_probe_remove(&probe, 1, &options) == 0 &&
		      suture_hook_remove(&hook, 1, &options) == 0 && plus_one(1) == 2;
	}
	return all;
}

static bool edits(void)
{
	bool good = to_new() == 0 && sum() == NEW && to_old() == 0 && sum() == OLD;

	options.strategy = SUTURE_CHEAPEST;
	return good;
}

static int stop;

static void *runs(void *arg)
{
	long *wrong = arg;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		int a = keyed(), b = plus_one(1);

		*wrong += (a != 1 && a != 2) + (b != 2 && b != -2);
	}
	return NULL;
}

static void test_threads(void)
{
	pthread_t threads[4];
	long wrong[4] = {0}, all = 0;
	bool good;

	options.deadline_ns = 30000000000;
	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, runs, &wrong[i]);
	good = toggles(300) && hooks(30);
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		all += wrong[i];
	}
	ok(good && !all, "under threads (%ld wrong; %s)", all, message);
}

/* Threads run the very text that is replaced. */
static void test_opting_in(void)
{
	struct suture_hook_spec spec = {(void *)plus_one, (void *)minus, (void **)&original};
	struct suture_hook *before;
	pthread_t threads[4];
	long wrong[4] = {0}, all = 0;
	char rights[5];
	int rc;

	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, runs, &wrong[i]);
	rc = suture_hook_install(&spec, 1, &before, &options);
	rc = rc ? rc : suture_text_alias((void *)keyed, 0, &options);
	usleep(10000);
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		all += wrong[i];
	}
	__atomic_store_n(&stop, 0, __ATOMIC_RELAXED);
	rights_at((void *)keyed, rights);
	ok(rc == 0 && !all && strcmp(rights, "r-xs") == 0, "opted in: %s (%ld wrong; %s)", rights,
	   all, message);
	ok(plus_one(1) == -2 && suture_hook_remove(&before, 1, &options) == 0 && plus_one(1) == 2,
	   "an earlier hook is there, and can be removed %s", message);
	ok(suture_text_alias((void *)keyed, 1, &options) == -EEXIST, "not twice: %s", message);
}

/* ---- by stores ---- */

static bool forbid_writes(void)
{
	struct sock_filter filter[] = {
	        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pwrite64, 0, 1),
	        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
	        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = sizeof(filter) / sizeof(filter[0]), .filter = filter};

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/* The process' way to write other text is gone. */
static int without_writes(void)
{
	void *other = dlsym(RTLD_DEFAULT, "abs");
	struct suture_hook_spec spec = {other, (void *)minus, NULL};

	if (!forbid_writes())
		return 2;
	if (!toggles(3) || !edits())
		return 3;
	return suture_hook_install(&spec, 1, NULL, &options) ? 0 : 4;
}

/* ---- forks ---- */

static int in_child(int (*function)(void))
{
	int status = -1;
	pid_t child = fork();

	if (child == 0)
		_exit(function());
	waitpid(child, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + status;
}

static int pipes[2][2];

static void tell(int to)
{
	if (write(pipes[to][1], "", 1) != 1)
		abort();
}

static void hear(int from)
{
	char byte;

	if (read(pipes[from][0], &byte, 1) != 1)
		abort();
}

/* Each step is waited for, right or wrong. */
static int child_of_both(void)
{
	bool good = keyed() == 1;

	tell(0);
	hear(1); /* the parent has it on */
	good = good && keyed() == 1;
	good = suture_key_enable(&key) == 0 && keyed() == 2 && good;
	tell(0);
	hear(1); /* the parent has it off */
	good = good && keyed() == 2;
	good = suture_key_disable(&key) == 0 && keyed() == 1 && good;
	return good && hooks(2) && edits() ? 0 : 1;
}

static void test_forks(void)
{
	bool good = true;
	int status;
	pid_t child;

	for (int i = 0; i < 2; i++)
		if (pipe(pipes[i]))
			abort();
	child = fork();
	if (child == 0)
		_exit(child_of_both());
	hear(0);
	good = suture_key_enable(&key) == 0 && keyed() == 2;
	tell(1);
	hear(0); /* the child has it on */
	good = good && suture_key_disable(&key) == 0 && keyed() == 1;
	tell(1);
	waitpid(child, &status, 0);
	ok(good && status == 0, "parent and child each change their own text (%d)", status);
}

/* A child that changes text first, of a parent that never does again. */
static int changes_first(void)
{
	return toggles(2) && hooks(2) ? 0 : 1;
}

/* ---- refusals ---- */

static void refused(const char *what, const void *start, size_t size, int expected)
{
	int rc;

	message[0] = '\0';
	rc = suture_text_alias(start, size, &options);
	ok(rc == expected, "%s (%d): %s", what, rc, message);
}

static void test_refusals(void)
{
	struct suture_region *region = NULL;
	struct suture_code code = {0};
	uint8_t *page = mmap(NULL, 8192, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	const uint8_t *before = text_of((void *)abs);
	uint8_t was = before[0];

	ok(suture_region_new(65536, NULL, &region) == 0 &&
	           suture_code_alloc(region, 64, 16, &code) == 0,
	   "a region");
	refused("no address", NULL, 1, -EINVAL);
	refused("data", &hits, 1, -EACCES);
	refused("memory", page, 1, -EACCES);
	refused("a region", code.exec, 1, -EACCES);
	munmap(page, 8192);
	refused("nothing", page, 1, -EFAULT);
	refused("too long", (void *)abs, SIZE_MAX, -EINVAL);
	refused("text and what is behind it", (void *)abs, (size_t)1 << 40, -EACCES);
	ok(before[0] == was && abs(-3) == 3, "nothing was changed");
	suture_region_delete(region, 0);
}

/* ---- libraries that go ---- */

static void test_unload(void)
{
	char path[4096];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 20);
	struct suture_hook_spec spec = {.replacement = (void *)minus,
	                                .original = (void **)&original};
	struct suture_hook *hook;
	int (*value)(int);
	bool good = true;
	void *plugin;

	path[n > 0 ? n : 0] = '\0';
	for (int i = 0; i < 2; i++)
		*strrchr(path, '/') = '\0';
	strcat(path, "/plugin.so");
	for (int i = 0; i < 3 && good; i++) {
		plugin = dlopen(path, RTLD_NOW);
		value = plugin ? (int (*)(int))dlsym(plugin, "plugin_value") : NULL;
		spec.function = (void *)value;
		good = value && value(1) == 8 &&
		       suture_text_alias(spec.function, 0, &options) == 0 &&
		       suture_hook_install(&spec, 1, &hook, &options) == 0 && value(1) == -8;
		if (good && i == 0)
			good = suture_hook_remove(&hook, 1, &options) == 0 && value(1) == 8;
		if (plugin)
			dlclose(plugin);
	}
	ok(good, "libraries come and go, hooked or not: %s", message);
	plugin = dlopen(path, RTLD_NOW);
	value = plugin ? (int (*)(int))dlsym(plugin, "plugin_value") : NULL;
	spec.function = (void *)value;
	ok(value && value(1) == 8 && suture_hook_install(&spec, 1, &hook, &options) == 0 &&
	           value(1) == -8,
	   "and are written as others are if nobody asks: %s", message);
}

int main(void)
{
	test_refusals();
	test_opting_in();
	ok(toggles(50), "keys %s", message);
	ok(hooks(5), "hooks and probes, and a key among them %s", message);
	ok(edits(), "edits with all threads at rest %s", message);
	ok(in_child(without_writes) == 0, "no system call writes");
	ok(in_child(changes_first) == 0 && toggles(2), "a child that changes text first");
	test_forks();
	ok(toggles(2) && hooks(2), "the parent, afterwards");
	test_threads();
	test_unload();
	return done();
}
