/* SPDX-License-Identifier: MIT */
/*
 * own_visible.c - suture/trampoline.h: what hooks and probes are made of can be seen.
 *
 * A call of a hooked and probed function is single-stepped, and at each instruction (the
 * function's, the replacement's, the handlers', the library's and those of all pieces) a backtrace
 * must lead to the caller.
 */
#include <dlfcn.h>
#include <execinfo.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>
#include "suture/hook.h"
#include "suture/probe.h"
#include "suture/trampoline.h"
#include "tap.h"

enum { FRAMES = 64, TRAP_FLAG = 0x100, MAP_LINES = 64 };

/* As it is written, whatever the arguments are. */
#ifdef __clang__
#define FUNCTION __attribute__((noinline, optnone)) static
#else
#define FUNCTION __attribute__((noipa)) static
#endif

static void *back; /* where outer returns to */
static volatile int seen;

FUNCTION int work(int x)
{
	seen = x;
	seen += 1;
	return seen * 2;
}

FUNCTION int outer(int x)
{
	int result = work(x) + 1;

	back = __builtin_return_address(0);
	return result;
}

static int (*original)(int);

FUNCTION int replacement(int x)
{
	return original(x + 1) + 1000;
}

static void on_probe(struct suture_regs *regs, void *arg)
{
	(void)regs;
	++*(volatile unsigned *)arg;
}

/* ---- steps ---- */

static volatile unsigned steps, in_pieces, lost;
static volatile bool inside;
static volatile uint64_t first_lost;

/* No file's. */
static bool in_piece(void *address)
{
	Dl_info info;

	return dladdr(address, &info) == 0;
}

static bool leads_back(void)
{
	void *frames[FRAMES];
	int count = backtrace(frames, FRAMES);

	for (int i = 0; i < count; i++)
		if (frames[i] == back)
			return true;
	return false;
}

static void on_step(int number, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	void *rip = (void *)uc->uc_mcontext.gregs[REG_RIP];

	(void)number;
	(void)info;
	if (rip == (void *)outer)
		inside = true;
	if (rip == back)
		inside = false;
	if (!inside)
		return;
	steps++;
	in_pieces += in_piece(rip);
	if (!leads_back() && !lost++)
		first_lost = (uintptr_t)rip;
}

/* Below the red zone, as this may be inlined. */
static inline void step(bool on)
{
	uint64_t flag = on ? TRAP_FLAG : 0;

	__asm__ volatile("lea -128(%%rsp), %%rsp\n\t"
	                 "pushfq\n\t"
	                 "andq $~0x100, (%%rsp)\n\t"
	                 "orq %0, (%%rsp)\n\t"
	                 "popfq\n\t"
	                 "lea 128(%%rsp), %%rsp"
	                 :
	                 : "r"(flag)
	                 : "memory", "cc");
}

/* One call of it, at one place. */
FUNCTION int call_outer(void)
{
	int result = outer(1);

	__asm__ volatile("" : "+r"(result)); /* no tail call */
	return result;
}

FUNCTION int call(bool stepped)
{
	int result;

	if (stepped)
		step(true);
	result = call_outer();
	if (stepped)
		step(false);
	return result;
}

static void test_steps(int expected, const char *what)
{
	int result;

	steps = in_pieces = lost = 0;
	result = call(true);
	ok(result == expected && steps > 20 && in_pieces > 2, "%s: %u steps, %u in pieces", what,
	   steps, in_pieces);
	if (!ok(lost == 0, "%s: each knows its caller", what))
		note("%u do not; the first one is %#" PRIx64, lost, first_lost);
}

/* ---- perf's map ---- */

static unsigned lines_about(uint64_t address, const char *what)
{
	char path[64], line[256];
	unsigned count = 0;
	FILE *map;

	snprintf(path, sizeof(path), "/tmp/perf-%d.map", (int)getpid());
	map = fopen(path, "re");
	while (map && fgets(line, sizeof(line), map)) {
		char name[256];
		uint64_t start, size;

		if (sscanf(line, "%" SCNx64 " %" SCNx64 " %255s", &start, &size, name) == 3 &&
		    start <= address && address < start + size)
			count += strncmp(name, what, strlen(what)) == 0;
	}
	if (map)
		fclose(map);
	unlink(path);
	return count;
}

int main(void)
{
	struct sigaction action = {.sa_sigaction = on_step, .sa_flags = SA_SIGINFO};
	static unsigned hits[3];
	struct suture_hook_spec hook = {.function = (void *)work,
	                                .replacement = (void *)replacement,
	                                .original = (void **)&original};
	struct suture_probe_spec probes[] = {
	        {.address = (void *)outer, .pre = on_probe, .arg = &hits[0]},
	        {.address = (void *)outer, .post = on_probe, .arg = &hits[1]},
	        {.address = (void *)work, .pre = on_probe, .arg = &hits[2]},
	};
	struct suture_probe *probe[3];
	int ways = SUTURE_SHOW_PERF_MAP | SUTURE_SHOW_UNWIND, plain;

	sigaction(SIGTRAP, &action, NULL);
	plain = call(false);
	leads_back();
	ok(suture_hook_install(&hook, 1, NULL, NULL) == 0, "a hook");
	ok(suture_trampolines_show((unsigned)ways) == ways, "is shown");
	test_steps(plain + 1002, "hook");
	ok(suture_probe_install(probes, 3, probe, NULL) == 0, "probes");
	test_steps(plain + 1002, "hook and probes");
	ok(hits[0] == 1 && hits[1] == 1 && hits[2] == 1, "which are hit");
	ok(lines_about((uintptr_t)original, "suture:original:") == 1,
	   "perf knows the original's stub");
	return done();
}
