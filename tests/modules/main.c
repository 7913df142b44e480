/* SPDX-License-Identifier: MIT */
/* main.c - PLUGIN: exits 0 if all is as it should be in the program and in a module that it loads,
 * twice. */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include "places.h"

SUTURE_KEY_DEFINE(module_key, false);

extern int other(int x);

static int failed;

static void check(int is, int should_be, const char *what)
{
	if (is == should_be)
		return;
	printf("%s: %d, not %d\n", what, is, should_be);
	failed = 1;
}

static int mine(int x)
{
	return shared_place(x) + own_place(x) * 1000;
}

static void load(const char *path)
{
	void *plugin = dlopen(path, RTLD_NOW);
	int (*call)(int);
	void *symbol;
	unsigned char was[32];

	if (!plugin) {
		printf("%s\n", dlerror());
		failed = 1;
		return;
	}
	symbol = dlsym(plugin, "plugin");
	memcpy(&call, &symbol, sizeof(call));
	check(call(1), 20020, "loaded: its key is on, its alternatives are not applied");
	check(mine(1), 3003, "the program has not changed");
	check(suture_alternatives_apply(NULL), 0, "apply");
	check(call(1), 30030, "loaded and applied");
	check(suture_text_original(symbol, was, sizeof(was)), 0, "its text before");
	check(dlclose(plugin), 0, "unload");
}

int main(int argc, char **argv)
{
	(void)argc;
	check(mine(1), 2002, "before");
	check(other(1), 2002, "before, in another file");
	check(suture_alternatives_apply(NULL), 0, "apply");
	check(mine(1), 3003, "applied");
	check(other(1), 3003, "applied, in another file");
	check(suture_key_enable(&module_key), 0, "enable");
	check(mine(1), 30030, "enabled");
	check(other(1), 30030, "enabled, in another file");
	check(suture_key_disable(&module_key), 0, "disable");
	load(argv[1]);
	load(argv[1]);
	check(mine(1), 3003, "at last");
	return failed;
}
