// SPDX-License-Identifier: MIT
/*
 * plugin - calls a function of a shared library that it loads and unloads.
 *
 * usage: plugin LIBRARY THREADS
 *
 * In each round every thread calls plugin_sum once. `unload` takes the library away, `load` brings
 * it back, perhaps elsewhere; both answer `done WRONG`.
 */
#include <dlfcn.h>
#include "victim.h"

static const char *path;
static void *library;
static uint64_t (*plugin_sum)(uint64_t x);

static unsigned plugin_round(unsigned thread, uint64_t k)
{
	uint64_t x = k * 0x9e3779b97f4a7c15 + thread;

	return plugin_sum(x) != (x * 0x51a76b35 ^ x) + 0x1f3d5217;
}

static bool load(void)
{
	void *symbol;

	library = dlopen(path, RTLD_NOW);
	symbol = library ? dlsym(library, "plugin_sum") : NULL;
	memcpy(&plugin_sum, &symbol, sizeof symbol);
	return symbol;
}

static bool plugin_command(const char *line)
{
	if (!strcmp(line, "load"))
		victim_wrong(!load());
	else if (!strcmp(line, "unload"))
		victim_wrong(dlclose(library) != 0 || dlopen(path, RTLD_NOW | RTLD_NOLOAD));
	else
		return false;
	victim_say("done %lu", victim_state.wrong);
	return true;
}

int main(int argc, char **argv)
{
	static const struct victim victim = {.round = plugin_round, .command = plugin_command};

	path = argc > 1 ? argv[1] : "";
	if (!load())
		return 2;
	return victim_obey(&victim, argc > 2 ? (unsigned)atoi(argv[2]) : 1);
}
