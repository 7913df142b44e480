/* SPDX-License-Identifier: MIT */
/*
 * own_mappings.c - hooks and probes in text of every origin: libraries that come and go, the
 * kernel's page, memory that was made executable; and after fork and exec.
 */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "suture/hook.h"
#include "suture/probe.h"
#include "tap.h"

static char message[200];
static struct suture_text_options options = {
        .size = sizeof(options), .message = message, .message_size = sizeof(message)};

static int install(const void *function, void *replacement, void *original,
                   struct suture_hook **hook)
{
	struct suture_hook_spec spec = {(void *)(uintptr_t)function, replacement, original};

	message[0] = '\0';
	return suture_hook_install(&spec, 1, hook, &options);
}

static int take(struct suture_hook *hook)
{
	return suture_hook_remove(&hook, 1, &options);
}

static void count(struct suture_regs *regs, void *arg)
{
	(void)regs;
	__atomic_fetch_add((unsigned *)arg, 1, __ATOMIC_RELAXED);
}

static int (*original)(int);

static int negative(int x)
{
	return -original(x);
}

static int constant(int x)
{
	(void)x;
	return 4711;
}

/* ---- libraries that go ---- */

static char plugin_path[4096];
static void *plugin;
static int (*plugin_value)(int);

static bool load(void)
{
	void *was = (void *)plugin_value;

	plugin = dlopen(plugin_path, RTLD_NOW);
	plugin_value = plugin ? (int (*)(int))dlsym(plugin, "plugin_value") : NULL;
	if (!plugin_value) {
		note("%s", dlerror());
		return false;
	}
	if (was)
		note("loaded %s", was == (void *)plugin_value ? "at the same place" : "elsewhere");
	return true;
}

static void find_plugin(void)
{
	ssize_t n = readlink("/proc/self/exe", plugin_path, sizeof(plugin_path) - 20);
	char *slash;

	plugin_path[n > 0 ? n : 0] = '\0';
	for (int i = 0; i < 2; i++)
		if ((slash = strrchr(plugin_path, '/')))
			*slash = '\0';
	strcat(plugin_path, "/plugin.so");
}

static void test_unload(void)
{
	struct suture_hook *hook, *second;

	ok(load() && plugin_value(1) == 8, "a library is loaded");
	ok(install(plugin_value, negative, &original, &hook) == 0 && plugin_value(1) == -8,
	   "hooked %s", message);
	dlclose(plugin);
	ok(take(hook) == 0, "unloaded: the removal is no error %s", message);
	ok(load() && plugin_value(1) == 8, "loaded again: it is not hooked");
	ok(install(plugin_value, negative, &original, &hook) == 0 && plugin_value(1) == -8,
	   "hooked again %s", message);
	dlclose(plugin);
	ok(load() && plugin_value(1) == 8, "loaded again while hooked: the new one is not");
	ok(install(plugin_value, constant, NULL, &second) == 0 && plugin_value(1) == 4711,
	   "and can be %s", message);
	ok(take(hook) == 0 && plugin_value(1) == 4711,
	   "the old hook is removed: the new one stays");
	ok(take(second) == 0 && plugin_value(1) == 8, "and is removed, too");
	ok(install(plugin_value, negative, &original, &hook) == 0 && plugin_value(1) == -8,
	   "hooked %s", message);
	dlclose(plugin);
	ok(load() && plugin_value(1) == 8 && take(hook) == 0 && plugin_value(1) == 8,
	   "removed after it was unloaded and loaded");
	dlclose(plugin);
}

static void test_unload_probed(void)
{
	unsigned hits = 0;
	struct suture_probe_spec spec = {.pre = count, .post = count, .arg = &hits};
	struct suture_probe *probe, *second;

	ok(load(), "a library is loaded");
	spec.address = (void *)plugin_value;
	ok(suture_probe_install(&spec, 1, &probe, &options) == 0 && plugin_value(1) == 8 &&
	           hits == 2,
	   "probed");
	dlclose(plugin);
	ok(load() && plugin_value(1) == 8 && hits == 2, "loaded again while probed: it is not");
	spec.address = (void *)plugin_value;
	ok(suture_probe_install(&spec, 1, &second, &options) == 0 && plugin_value(1) == 8 &&
	           hits == 4,
	   "and can be: %u hits", hits);
	ok(suture_probe_remove(&probe, 1, &options) == 0 && plugin_value(1) == 8 && hits == 6,
	   "the old probe is removed: %u hits, %s", hits, message);
	dlclose(plugin);
	ok(suture_probe_remove(&second, 1, &options) == 0, "the new one after it was unloaded");
}

/* ---- memory ---- */

/* lea 1(%rdi),%eax; ret */
static const uint8_t code[] = {0x8d, 0x47, 0x01, 0xc3};

static uint8_t *map(int protection, int flags, int file)
{
	uint8_t *page = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, flags, file, 0);

	memset(page, 0xcc, 3 * 4096);
	memcpy(page + 4096, code, sizeof(code));
	page[2 * 4096 - 1] = 0xc3; /* ret */
	page[2 * 4096 - 2] = 0xb8; /* mov $…, whose operand is in the next page */
	munmap(page, 4096);
	munmap(page + 2 * 4096, 4096);
	mprotect(page + 4096, 4096, protection);
	return page + 4096;
}

static void test_memory(const char *what, uint8_t *page, int expected)
{
	int (*function)(int) = (int (*)(int))page;
	struct suture_hook *hook;
	int rc;

	if (expected == 0)
		ok(function(3) == 4, "%s", what);
	rc = install(page, negative, &original, &hook);
	ok(rc == expected && (rc ? message[0] != 0 : function(3) == -4 && original(3) == 4),
	   "%s: %d %s", what, rc, message);
	if (rc)
		return;
	ok(take(hook) == 0 && function(3) == 4, "and removed");
}

static void test_ends(void)
{
	uint8_t *page = map(PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	unsigned hits = 0;
	struct suture_probe_spec spec = {.address = page + 4095, .pre = count, .arg = &hits};
	struct suture_probe *probe;

	ok(suture_probe_install(&spec, 1, &probe, &options) == 0 &&
	           suture_probe_kind(probe) == SUTURE_SITE_TRAP,
	   "the last byte of a mapping can be probed, by a trap");
	((void (*)(void))(page + 4095))();
	ok(hits == 1 && suture_probe_remove(&probe, 1, NULL) == 0 && page[4095] == 0xc3,
	   "is called and removed");
	spec.address = page + 4094;
	ok(suture_probe_install(&spec, 1, &probe, &options) == -EINVAL && page[4094] == 0xb8,
	   "an instruction that goes beyond the end: %s", message);
	munmap(page, 4096);
	spec.address = page;
	ok(suture_probe_install(&spec, 1, &probe, &options) == -EACCES, "unmapped: %s", message);
}

/* Something else is mapped where a hooked function was: nothing of it may be written. */
static void test_replaced(bool executable)
{
	uint8_t *page = map(PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1), zero[16] = {0};
	struct suture_hook *hook;
	int file = memfd_create("other", 0);

	(void)!ftruncate(file, 4096);
	ok(install(page, negative, &original, &hook) == 0, "hooked %s", message);
	mmap(page, 4096, PROT_READ | (executable ? PROT_EXEC : 0), MAP_PRIVATE | MAP_FIXED, file,
	     0);
	ok(take(hook) == 0 && memcmp(page, zero, 16) == 0,
	   "another file's %s is there now: not "
	   "written",
	   executable ? "code" : "data");
	close(file);
	munmap(page, 4096);
}

enum { SYS_MSEAL = 462 };

static void test_origins(void)
{
	const int private = MAP_PRIVATE | MAP_ANONYMOUS;
	int shared = memfd_create("shared", 0);
	uint8_t *sealed = map(PROT_READ | PROT_EXEC, private, -1);

	(void)!ftruncate(shared, 3 * 4096);
	test_memory("memory made executable", map(PROT_READ | PROT_EXEC, private, -1), 0);
	test_memory("writable and executable", map(PROT_READ | PROT_WRITE | PROT_EXEC, private, -1),
	            0);
	test_memory("executable only", map(PROT_EXEC, private, -1), 0);
	test_memory("data", map(PROT_READ | PROT_WRITE, private, -1), -EACCES);
	test_memory("no access", map(PROT_NONE, private, -1), -EACCES);
	test_memory("shared memory", map(PROT_READ | PROT_EXEC, MAP_SHARED, shared), -EACCES);
	test_memory("a file of one's own", map(PROT_READ | PROT_EXEC, MAP_PRIVATE, shared), 0);
	if (syscall(SYS_MSEAL, sealed, 4096, 0) == 0)
		test_memory("sealed", sealed, 0);
	else
		note("no mseal: %s", strerror(errno));
	close(shared);
}

/* ---- the kernel's page ---- */

static int (*real_clock)(clockid_t, struct timespec *);
static unsigned clocks;

static int my_clock(clockid_t clock, struct timespec *time)
{
	clocks++;
	return real_clock(clock, time);
}

static void test_vdso(void)
{
	void *vdso = dlopen("linux-vdso.so.1", RTLD_NOW | RTLD_NOLOAD);
	int (*function)(clockid_t, struct timespec *) =
	        vdso ? (int (*)(clockid_t, struct timespec *))dlsym(vdso, "__vdso_clock_gettime")
	             : NULL;
	struct suture_hook *hook;
	struct timespec t = {0};
	unsigned before;
	int rc;

	ok(function != NULL, "the kernel's page has a clock");
	if (!function)
		return;
	rc = install((void *)function, my_clock, &real_clock, &hook);
	ok(rc == 0, "hooked: %d %s", rc, message);
	if (rc)
		return;
	ok(function(CLOCK_MONOTONIC, &t) == 0 && t.tv_sec && clocks == 1, "and called");
	ok(clock_gettime(CLOCK_MONOTONIC, &t) == 0 && clocks == 2, "by libc, too");
	ok(take(hook) == 0, "removed");
	before = clocks;
	ok(clock_gettime(CLOCK_MONOTONIC, &t) == 0 && clocks == before, "and not called any more");
}

/* ---- processes ---- */

#define VICTIM __attribute__((noinline, weak))
VICTIM int victim(int x);
VICTIM int victim(int x)
{
	return x + 1;
}
VICTIM int other_victim(int x);
VICTIM int other_victim(int x)
{
	return x + 2;
}
/* A trap: the flow ends, and what follows is an address inside. */
__asm__(".text\n.balign 16\ntrap_victim:\n	jmp 1f\n	.byte 0, 0, 0\n1:	leal "
        "1(%rdi), %eax\n"
        "	ret\n");
int trap_victim(int x);

static int stop, wrong;

static void *run(void *arg)
{
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
		if (victim(1) != -2 || other_victim(1) != 3 || trap_victim(1) != 2)
			__atomic_store_n(&wrong, 1, __ATOMIC_RELAXED);
	return arg;
}

/* What a child does with what it has inherited, and with what it has not. 0: all went well */
static int child(struct suture_hook *inherited, struct suture_probe *probe)
{
	struct suture_hook *hook;
	int failed = victim(1) != -2;

	failed |= (suture_probe_remove(&probe, 1, NULL) != 0) << 1;
	failed |= (take(inherited) || victim(1) != 2) << 2;
	failed |= (install(other_victim, constant, NULL, &hook) || other_victim(1) != 4711) << 3;
	failed |= (take(hook) || other_victim(1) != 3 || trap_victim(1) != 2) << 4;
	return failed;
}

static void test_fork(int times)
{
	unsigned hits = 0;
	struct suture_probe_spec spec = {
	        .address = (void *)trap_victim, .pre = count, .arg = &hits};
	struct suture_probe *probe;
	struct suture_hook *hook;
	pthread_t threads[2];
	int failed = 0;

	ok(install(victim, negative, &original, &hook) == 0 &&
	           suture_probe_install(&spec, 1, &probe, NULL) == 0 &&
	           suture_probe_kind(probe) == SUTURE_SITE_TRAP,
	   "a hook and a probe");
	for (int i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, run, NULL);
	for (int i = 0; i < times; i++) {
		pid_t pid = fork();
		int status = 0;

		if (pid == 0)
			_exit(child(hook, probe));
		waitpid(pid, &status, 0);
		if (status)
			note("status %#x", status);
		failed += status != 0 || victim(1) != -2 || other_victim(1) != 3;
	}
	ok(!failed, "%d children remove and add their own: %d went wrong", times, failed);
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	ok(!wrong && hits > 0, "and nobody here notices");
	ok(suture_probe_remove(&probe, 1, NULL) == 0 && take(hook) == 0 && victim(1) == 2 &&
	           trap_victim(1) == 2,
	   "removed here, too");
}

/* A thread that is in a handler at the fork is not in the child. */
static int handler_state;

static void block(struct suture_regs *regs, void *arg)
{
	(void)regs;
	(void)arg;
	__atomic_store_n(&handler_state, 1, __ATOMIC_RELEASE);
	while (__atomic_load_n(&handler_state, __ATOMIC_ACQUIRE) != 2)
		usleep(1000);
}

static void *call_victim(void *arg)
{
	victim(1);
	return arg;
}

static void test_fork_in_handler(void)
{
	struct suture_probe_spec spec = {.address = (void *)victim, .pre = block};
	struct suture_probe *probe;
	pthread_t thread;
	int status = 0;
	pid_t pid;

	ok(suture_probe_install(&spec, 1, &probe, NULL) == 0, "a thread is in a handler");
	pthread_create(&thread, NULL, call_victim, NULL);
	while (!__atomic_load_n(&handler_state, __ATOMIC_ACQUIRE))
		usleep(1000);
	pid = fork();
	if (pid == 0)
		_exit(suture_probe_remove(&probe, 1, NULL) != 0 || victim(1) != 2);
	waitpid(pid, &status, 0);
	ok(status == 0, "a child does not wait for it (%#x)", status);
	__atomic_store_n(&handler_state, 2, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	ok(suture_probe_remove(&probe, 1, NULL) == 0 && victim(1) == 2, "removed");
}

static void test_behind_our_back(void)
{
	struct suture_hook *hook, *new;
	int status = 0;
	pid_t pid;

	ok(install(victim, negative, &original, &hook) == 0, "hooked");
	pid = (pid_t)syscall(SYS_fork);
	if (pid == 0)
		_exit(victim(1) != -2 || install(other_victim, constant, NULL, &new) != -EPERM ||
		      other_victim(1) != 3 || take(hook) != -EPERM || victim(1) != -2);
	waitpid(pid, &status, 0);
	ok(status == 0 && victim(1) == -2 && other_victim(1) == 3,
	   "a child that libc does not know of has the hook, and can not change it (%#x)", status);
	ok(take(hook) == 0 && victim(1) == 2, "we can");
}

static void test_exec(char *program)
{
	char *arguments[] = {program, "plain", NULL};
	struct suture_hook *hook;
	int status = 0;
	pid_t pid;

	ok(install(victim, negative, &original, &hook) == 0 && victim(1) == -2, "hooked");
	pid = fork();
	if (pid == 0) {
		execv("/proc/self/exe", arguments);
		_exit(1);
	}
	waitpid(pid, &status, 0);
	ok(status == 0, "a program that is executed has no hook");
	ok(take(hook) == 0 && victim(1) == 2, "removed");
}

int main(int arguments, char **argument)
{
	if (arguments > 1)
		return victim(1) != 2;
	find_plugin();
	test_unload();
	test_unload_probed();
	test_origins();
	test_ends();
	test_replaced(true);
	test_replaced(false);
	test_vdso();
	test_fork(getenv("SUTURE_TORTURE") ? 2000 : 50);
	test_fork_in_handler();
	test_behind_our_back();
	test_exec(argument[0]);
	return done();
}
