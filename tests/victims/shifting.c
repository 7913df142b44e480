// link: -ldl
// SPDX-License-Identifier: MIT
/*
 * shifting - a program whose mappings never stay what they are.
 *
 * usage: shifting THREADS
 *
 * Each round maps and unmaps memory, executable and not, loads a library, calls it and lets it go
 * again, and calls shift_sum. Besides victim.h it knows `grow N`: start N threads that sleep, and
 * `shrink`: end them; both answer `grown COUNT`.
 */
#include <dlfcn.h>
#include <sys/mman.h>
#include "victim.h"

uint64_t shift_sum(uint64_t x);

NOT_INLINED uint64_t shift_sum(uint64_t x)
{
	for (unsigned i = 1; i <= 3; i++) {
		x = x * 0x9e3779b97f4a7c15 + i;
		__asm__("" : "+r"(x)); /* keep the loop a loop */
	}
	return x;
}

static unsigned map_and_unmap(uint64_t k)
{
	int protection = PROT_READ | (k & 1 ? PROT_EXEC : PROT_WRITE);
	size_t size = (1 + k % 37) << 12;
	char *memory = mmap(NULL, size, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return memory == MAP_FAILED || memory[size - 1] || munmap(memory, size);
}

static unsigned load_and_call(void)
{
	unsigned long (*crc32)(unsigned long, const unsigned char *, unsigned);
	void *library = dlopen("libz.so.1", RTLD_NOW | RTLD_LOCAL);
	unsigned wrong = 1;

	if (!library)
		return 1;
	*(void **)&crc32 = dlsym(library, "crc32");
	if (crc32) /* CRC-32's check value */
		wrong = crc32(0, (const unsigned char *)"123456789", 9) != 0xcbf43926;
	return wrong + !!dlclose(library);
}

static unsigned shifting_round(unsigned thread, uint64_t k)
{
	uint64_t x = k + thread, same = x;

	for (unsigned i = 1; i <= 3; i++)
		same = same * 0x9e3779b97f4a7c15 + i;
	return (shift_sum(x) != same) + map_and_unmap(x) + load_and_call();
}

/* ---- threads that do nothing ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static unsigned wanted, sleeping;

static void *sleeper(void *arg)
{
	unsigned number = (unsigned)(uintptr_t)arg;

	pthread_mutex_lock(&lock);
	sleeping++;
	pthread_cond_broadcast(&changed);
	while (number < wanted)
		pthread_cond_wait(&changed, &lock);
	sleeping--;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	return NULL;
}

static void resize(unsigned count)
{
	pthread_attr_t attr;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 64 << 10);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_mutex_lock(&lock);
	wanted = count;
	pthread_cond_broadcast(&changed);
	for (unsigned i = sleeping; i < count; i++) {
		pthread_t thread;

		victim_wrong(pthread_create(&thread, &attr, sleeper, (void *)(uintptr_t)i) != 0);
	}
	while (sleeping != count)
		pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);
	victim_say("grown %u", count);
}

static bool shifting_command(const char *line)
{
	unsigned count;

	if (sscanf(line, "grow %u", &count) == 1)
		resize(count);
	else if (!strcmp(line, "shrink"))
		resize(0);
	else
		return false;
	return true;
}

int main(int argc, char **argv)
{
	static const struct victim victim = {.round = shifting_round, .command = shifting_command};

	return victim_obey(&victim, argc > 1 ? (unsigned)atoi(argv[1]) : 1);
}
