/* SPDX-License-Identifier: MIT */
/*
 * xray hits - what a sled of LLVM XRay costs a call; see ../measure.h.
 * xray install COUNT THREADS REPEATS - patching and unpatching of COUNT sleds, as ../install.c.
 *
 * Functions have a sled at their entry only, but for `both`.
 */
#define MEASURE_PLAIN __attribute__((xray_never_instrument))
#include "../crowd.h"

enum { REPEATS_MAX = 1000 };

/* What we use of xray/xray_interface.h, which is C++. Statuses: 1 is success. */
enum { PATCHED = 1 };
void __xray_init(void);
int __xray_set_handler(void (*handler)(int32_t id, int kind));
int __xray_patch(void);
int __xray_unpatch(void);
int __xray_patch_function(int32_t id);
int __xray_unpatch_function(int32_t id);
uintptr_t __xray_function_address(int32_t id);
size_t __xray_max_function_id(void);

#define SHAPE __attribute__((noinline, aligned(64)))

MEASURE_PLAIN SHAPE static uint64_t bare(uint64_t x)
{
	__asm__ volatile("");
	return x + 1;
}

__attribute__((xray_always_instrument)) SHAPE static uint64_t unpatched(uint64_t x)
{
	__asm__ volatile("");
	return x + 1;
}

__attribute__((xray_always_instrument)) SHAPE static uint64_t entry(uint64_t x)
{
	__asm__ volatile("");
	return x + 1;
}

measured_function both;

static volatile uint64_t hits;

/* As bench/own's. */
MEASURE_PLAIN static void handler(int32_t id, int kind)
{
	(void)id;
	(void)kind;
	hits++;
}

MEASURE_PLAIN static void check(int status, const char *what)
{
	if (status != PATCHED) {
		fprintf(stderr, "bench/peers/xray: %s: status %d\n", what, status);
		exit(1);
	}
}

MEASURE_PLAIN static int measure_hits(void)
{
	static const struct measured cases[] = {
	        {"bare", bare, NULL, NULL, NULL},
	        {"xray_off", unpatched, NULL, NULL, NULL},
	        {"xray_entry", entry, NULL, &hits, NULL},
	        {"xray_both", both, NULL, NULL, NULL},
	};

	for (size_t id = 1; id <= __xray_max_function_id(); id++) {
		uintptr_t address = __xray_function_address((int32_t)id);

		if (address == (uintptr_t)entry || address == (uintptr_t)both)
			check(__xray_patch_function((int32_t)id), "patch");
	}
	return measure_serve(cases, sizeof(cases) / sizeof(*cases));
}

MEASURE_PLAIN static struct span change(size_t count, bool on)
{
	size_t last = __xray_max_function_id();
	struct span begin = span_begin();

	if (count == MANY) {
		check(on ? __xray_patch() : __xray_unpatch(), "all");
	} else {
		for (size_t i = 0; i < count; i++) {
			int32_t id = (int32_t)(1 + i * (last / count));

			check(on ? __xray_patch_function(id) : __xray_unpatch_function(id), "one");
		}
	}
	return span_end(begin);
}

MEASURE_PLAIN static int install(size_t count, unsigned threads, unsigned repeats)
{
	static struct span again[REPEATS_MAX], removed[REPEATS_MAX];
	struct span first;

	if (!count || count > MANY || threads > CROWD_MAX || repeats > REPEATS_MAX)
		return 2;
	crowd_start(threads);
	first = change(count, true);
	change(count, false);
	for (unsigned i = 0; i < repeats; i++) {
		again[i] = change(count, true);
		removed[i] = change(count, false);
	}
	crowd_end(threads);
	span_print("first", &first, 1);
	span_print("again", again, repeats);
	span_print("remove", removed, repeats);
	return 0;
}

MEASURE_PLAIN int main(int argc, char **argv)
{
	__xray_init();
	__xray_set_handler(handler);
	if (argc == 2 && !strcmp(argv[1], "hits"))
		return measure_hits();
	if (argc == 5 && !strcmp(argv[1], "install"))
		return install((size_t)atol(argv[2]), (unsigned)atoi(argv[3]),
		               (unsigned)atoi(argv[4]));
	return 2;
}
