// SPDX-License-Identifier: MIT
//
// exceptions.cc - exceptions through hooked and probed functions; built and run by exceptions.t.
//
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include "suture/hook.h"
#include "suture/probe.h"
#include "tap.h"

#define VICTIM __attribute__((noinline, weak))

static int destroyed;
struct Guard {
	~Guard()
	{
		destroyed++;
	}
};

// Throws from below, through itself.
VICTIM int thrower(int x)
{
	Guard guard;

	if (x > 2)
		throw std::runtime_error(std::to_string(x));
	return x + 1;
}

VICTIM int middle(int x)
{
	Guard guard;

	return thrower(x) + 10;
}

// Catches inside.
VICTIM int catcher(int x)
{
	try {
		return middle(x);
	} catch (const std::runtime_error &error) {
		return -std::stoi(error.what());
	}
}

static int (*real_thrower)(int), (*real_middle)(int), (*real_catcher)(int);
static int calls;

static int my_thrower(int x)
{
	Guard guard;

	calls++;
	return real_thrower(x);
}

static int my_middle(int x)
{
	calls++;
	try {
		return real_middle(x);
	} catch (...) {
		calls++;
		throw;
	}
}

static int my_catcher(int x)
{
	Guard guard;

	calls++;
	return real_catcher(x);
}

// A replacement that throws itself.
static int my_thrower_always(int x)
{
	Guard guard;

	throw std::runtime_error(std::to_string(x + 1000));
}

static unsigned hits;
static void count(struct suture_regs *, void *)
{
	hits++;
}

static bool right()
{
	destroyed = 0;
	return catcher(1) == 12 && catcher(7) == -7 && destroyed >= 4;
}

static void test_hooks()
{
	struct suture_hook_spec specs[] = {
	        {(void *)thrower, (void *)my_thrower, (void **)&real_thrower},
	        {(void *)middle, (void *)my_middle, (void **)&real_middle},
	        {(void *)catcher, (void *)my_catcher, (void **)&real_catcher},
	};
	struct suture_hook_spec always = {(void *)thrower, (void *)my_thrower_always, nullptr};
	struct suture_hook *hooks[3], *top;

	ok(suture_hook_install(specs, 3, hooks, nullptr) == 0, "hooked");
	calls = 0;
	ok(right() && calls == 7 && destroyed == 8,
	   "thrown through replacements and originals: %d calls, %d destructors", calls, destroyed);
	ok(suture_hook_install(&always, 1, &top, nullptr) == 0 && catcher(1) == -1001,
	   "thrown by a replacement");
	ok(suture_hook_remove(&top, 1, nullptr) == 0 && right(), "removed");
	ok(suture_hook_remove(hooks, 3, nullptr) == 0 && right() && destroyed == 4,
	   "all of them are");
}

static void test_probes()
{
	struct suture_probe_spec specs[3] = {};
	struct suture_probe *probes[3];
	void *functions[] = {(void *)thrower, (void *)middle, (void *)catcher};

	for (int i = 0; i < 3; i++) {
		specs[i].address = functions[i];
		specs[i].pre = count;
		specs[i].post = count;
	}
	ok(suture_probe_install(specs, 3, probes, nullptr) == 0, "probed");
	hits = 0;
	ok(right() && hits == 12, "thrown through probed functions: %u hits", hits);
	ok(suture_probe_remove(probes, 3, nullptr) == 0 && right(), "removed");
}

// The call of the function that throws is itself in a trampoline: its return address is not.
static void test_probed_calls()
{
	unsigned found = 0, wrong = 0;
	char *code = (char *)middle;

	for (int i = 0; i < 40; i++) {
		struct suture_probe_spec spec = {};
		struct suture_probe *probe;
		int distance = 0;

		if ((unsigned char)code[i] != 0xe8)
			continue;
		__builtin_memcpy(&distance, code + i + 1, 4);
		if (code + i + 5 + distance != (char *)thrower)
			continue;
		found++;
		spec.address = code + i;
		spec.pre = spec.post = count;
		hits = 0;
		wrong += suture_probe_install(&spec, 1, &probe, nullptr) != 0 || !right() ||
		         hits != 4 || suture_probe_remove(&probe, 1, nullptr) != 0 || !right();
	}
	ok(found == 1 && !wrong, "thrown through a call that is probed: %u found, %u wrong", found,
	   wrong);
}

int main()
{
	ok(right(), "not hooked");
	test_hooks();
	test_probes();
	test_probed_calls();
	return done();
}
