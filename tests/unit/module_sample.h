/* SPDX-License-Identifier: MIT */
/* module_sample.h - files for the module tests to read, made on the spot by other people's tools.
 */
#ifndef MODULE_SAMPLE_H
#define MODULE_SAMPLE_H

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "module/module.h"
#include "tap.h"

static char sample_folder[] = "/tmp/suture-module-XXXXXX";

static const char *const sample_libraries[] __attribute__((unused)) = {
        "/usr/lib/x86_64-linux-gnu/libc.so.6",
        "/usr/lib/x86_64-linux-gnu/libstdc++.so.6",
        "/usr/lib/x86_64-linux-gnu/libcrypto.so.3",
        "/usr/bin/redis-server",
        "/usr/bin/python3.11",
};

__attribute__((format(printf, 1, 2), unused)) static int run(const char *format, ...)
{
	char inner[1024], command[2048];
	va_list args;

	va_start(args, format);
	vsnprintf(inner, sizeof(inner), format, args);
	va_end(args);
	snprintf(command, sizeof(command), "cd %s && { %s; }", sample_folder, inner);
	return system(command);
}

static void sample_remove(void)
{
	char command[64];

	snprintf(command, sizeof(command), "rm -rf %s", sample_folder);
	if (system(command))
		note("%s stays", sample_folder);
}

__attribute__((unused)) static void sample_start(void)
{
	if (!mkdtemp(sample_folder)) {
		printf("Bail out! no temporary folder\n");
		exit(1);
	}
	atexit(sample_remove);
}

__attribute__((unused)) static const char *sample_path(const char *name)
{
	static char paths[4][512]; /* so that a result may be an argument */
	static unsigned turn;
	char *path = paths[turn++ % 4];

	snprintf(path, sizeof(*paths), *name == '/' ? "%s%s" : "%s/%s",
	         *name == '/' ? "" : sample_folder, name);
	return path;
}

__attribute__((unused)) static void write_sample(const char *name, const char *text)
{
	FILE *file = fopen(sample_path(name), "w");

	if (!file || fputs(text, file) < 0 || fclose(file)) {
		printf("Bail out! cannot write %s\n", name);
		exit(1);
	}
}

__attribute__((unused)) static struct module *open_sample(const char *name, const char *debug_root)
{
	struct module *module;
	int error = module_open(sample_path(name), debug_root, &module);

	if (error) {
		printf("Bail out! %s does not open: %d\n", name, error);
		exit(1);
	}
	return module;
}

/* A symbol of any type, by nm; 0 if there is none. Keeps the last file's list. */
__attribute__((unused)) static uint64_t label(const char *file, const char *name)
{
	static struct {
		uint64_t value;
		char name[64];
	} items[1024];
	static struct timespec changed;
	static char known[512];
	static size_t count;
	const char *path = sample_path(file);
	char command[600], line[512], type;
	struct stat status;
	FILE *pipe;

	if (stat(path, &status))
		return 0;
	if (strcmp(path, known) || status.st_mtim.tv_sec != changed.tv_sec ||
	    status.st_mtim.tv_nsec != changed.tv_nsec) {
		changed = status.st_mtim;
		snprintf(known, sizeof(known), "%s", path);
		snprintf(command, sizeof(command), "nm %s", path);
		count = 0;
		pipe = popen(command, "r");
		while (pipe && count < 1024 && fgets(line, sizeof(line), pipe))
			count += sscanf(line, "%" SCNx64 " %c %63s", &items[count].value, &type,
			                items[count].name) == 3;
		if (pipe)
			pclose(pipe);
	}
	for (size_t i = 0; i < count; i++)
		if (!strcmp(items[i].name, name))
			return items[i].value;
	return 0;
}

__attribute__((unused)) static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

#endif
