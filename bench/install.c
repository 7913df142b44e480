/* SPDX-License-Identifier: MIT */
/*
 * install probe|hook COUNT THREADS REPEATS - what it takes to put hooks or probes on COUNT of
 * 10,000 functions, and to take them away, while THREADS threads call those all the time.
 *
 * Prints lines `NAME VALUE...`, times in microseconds, each also as CPU time (NAME_cpu): setup (the
 * first call of the library, at another function), first (trampolines are made), again and remove
 * (one value a repetition), map (as many pages mapped and touched by us, as far apart), pages (of
 * trampolines), kinds.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
#include "crowd.h"
#include "suture/hook.h"
#include "suture/probe.h"

enum { PAGE = 4096, REPEATS_MAX = 1000, PAGES_MAX = 65536 };

static struct suture_hook_spec hook_specs[MANY];
static struct suture_hook *hooks[MANY];
static struct suture_probe_spec probe_specs[MANY];
static struct suture_probe *probes[MANY];
static bool is_hook;
static size_t count;

static uint64_t replacement(uint64_t x, uint64_t y)
{
	return x ^ y;
}

/* Not exact with several threads, and need not be. */
static volatile uint64_t hits;

static void handler(struct suture_regs *regs, void *arg)
{
	(void)regs;
	(void)arg;
	hits++;
}

__attribute__((noinline)) static uint64_t elsewhere(uint64_t x)
{
	__asm__ volatile("");
	return x + 1;
}

static char message[256];
static struct suture_text_options options = {.size = sizeof(options),
                                             .deadline_ns = 10000000000,
                                             .message = message,
                                             .message_size = sizeof(message)};

static void fail(const char *what, int rc)
{
	fprintf(stderr, "bench/install: %s: %s: %s\n", what, strerror(-rc), message);
	exit(1);
}

static struct span install(void)
{
	struct span span = span_begin();
	int rc = is_hook ? suture_hook_install(hook_specs, count, hooks, &options)
	                 : suture_probe_install(probe_specs, count, probes, &options);

	span = span_end(span);
	if (rc)
		fail("install", rc);
	return span;
}

static struct span remove_all(void)
{
	struct span span = span_begin();
	int rc = is_hook ? suture_hook_remove(hooks, count, &options)
	                 : suture_probe_remove(probes, count, &options);

	span = span_end(span);
	if (rc)
		fail("remove", rc);
	return span;
}

/* The library's own start-up. */
static struct span set_up(void)
{
	struct suture_probe_spec spec = {.address = (void *)elsewhere, .pre = handler};
	struct suture_probe *probe;
	struct span span = span_begin();
	int rc = suture_probe_install(&spec, 1, &probe, NULL);

	span = span_end(span);
	if (!rc)
		rc = suture_probe_remove(&probe, 1, NULL);
	if (rc)
		fail("setup", rc);
	return span;
}

/* Private executable memory that is of no file: its pages' addresses, at most `room`. */
static size_t trampoline_pages(uintptr_t *pages, size_t room)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	size_t count = 0;
	char line[512];

	while (maps && fgets(line, sizeof(line), maps)) {
		unsigned long first, last, inode = 1;
		char permissions[5];

		if (sscanf(line, "%lx-%lx %4s %*x %*x:%*x %lu", &first, &last, permissions,
		           &inode) != 4 ||
		    permissions[2] != 'x' || inode || strchr(line, '['))
			continue;
		for (; first < last && count < room; first += PAGE)
			pages[count++] = first;
	}
	if (maps)
		fclose(maps);
	return count;
}

/* The same pages by hand, elsewhere: mapped one by one at the same distances (page tables are most
 * of what a lonely page costs), and written to. */
static struct span map_pages(const uintptr_t *pages, size_t number)
{
	size_t length = number ? pages[number - 1] + PAGE - pages[0] : PAGE;
	int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	char *room = mmap(NULL, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct span span;

	if (fd < 0 || room == MAP_FAILED || munmap(room, length))
		fail("map", -errno);
	span = span_begin();
	for (size_t i = 0; i < number; i++)
		if (mmap(room + (pages[i] - pages[0]), PAGE, PROT_READ | PROT_EXEC,
		         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED)
			fail("map", -errno);
	for (size_t i = 0; i < number; i++)
		if (pwrite(fd, "\xcc", 1, (off_t)(room + (pages[i] - pages[0]))) != 1)
			fail("map", -errno);
	span = span_end(span);
	close(fd);
	return span;
}

static void print_kinds(void)
{
	size_t kinds[SUTURE_SITE_TRAP + 1] = {0};

	for (size_t i = 0; i < count; i++)
		kinds[is_hook ? suture_hook_kind(hooks[i]) : suture_probe_kind(probes[i])]++;
	printf("kinds");
	for (unsigned kind = SUTURE_SITE_PUN; kind <= SUTURE_SITE_TRAP; kind++)
		if (kinds[kind])
			printf(" %zu %s", kinds[kind], suture_site_kind_name(kind));
	putchar('\n');
}

/* Both sorted; what is in `old` is taken out of `pages`. */
static size_t leave_out(uintptr_t *pages, size_t count, const uintptr_t *old, size_t before)
{
	size_t kept = 0;

	for (size_t i = 0, k = 0; i < count; i++) {
		while (k < before && old[k] < pages[i])
			k++;
		if (k == before || old[k] != pages[i])
			pages[kept++] = pages[i];
	}
	return kept;
}

static void measure(unsigned repeats)
{
	static struct span again[REPEATS_MAX], removed[REPEATS_MAX + 1];
	static uintptr_t old[PAGES_MAX], pages[PAGES_MAX];
	struct span setup = set_up(), first, map;
	size_t before = trampoline_pages(old, PAGES_MAX), number;

	first = install();
	print_kinds();
	removed[0] = remove_all();
	for (unsigned i = 0; i < repeats; i++) {
		again[i] = install();
		removed[i + 1] = remove_all();
	}
	number = leave_out(pages, trampoline_pages(pages, PAGES_MAX), old, before);
	map = map_pages(pages, number);
	span_print("setup", &setup, 1);
	span_print("first", &first, 1);
	span_print("again", again, repeats);
	span_print("remove", removed, repeats + 1);
	span_print("map", &map, 1);
	printf("pages %zu\n", number);
}

int main(int argc, char **argv)
{
	unsigned threads, repeats;

	if (argc != 5)
		return 2;
	is_hook = !strcmp(argv[1], "hook");
	count = (size_t)atol(argv[2]);
	threads = (unsigned)atoi(argv[3]);
	repeats = (unsigned)atoi(argv[4]);
	if (!count || count > MANY || threads > CROWD_MAX || repeats > REPEATS_MAX)
		return 2;
	crowd_start(threads);
	for (size_t i = 0; i < count; i++) {
		void *function = (void *)crowd_functions[i * (MANY / count)];

		hook_specs[i] =
		        (struct suture_hook_spec){.function = function, (void *)replacement, NULL};
		probe_specs[i] = (struct suture_probe_spec){.address = function, .pre = handler};
	}
	measure(repeats);
	crowd_end(threads);
	return 0;
}
