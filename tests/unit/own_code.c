/* SPDX-License-Identifier: MIT */
/*
 * own_code.c - suture/code.h: the life of code made at run time, and who waits for whom.
 */
#include <sys/mman.h>
#include "own_code.h"

/* ---- one thread ---- */

static void test_life(struct suture_region *region)
{
	struct suture_code code, other;
	uint8_t bytes[BODY];
	struct suture_code_write write;
	unsigned traps = 0;

	ok(suture_code_alloc(region, BODY, 0, &code) == 0 && (uintptr_t)code.exec % 16 == 0 &&
	           code.size == BODY,
	   "alloc");
	for (unsigned i = 0; i < BODY; i++)
		traps += ((uint8_t *)code.exec)[i] == 0xCC;
	ok(traps == BODY, "it is full of traps");
	ok(publish_value(&code, 7) == 0 && call(code.exec) == 7, "publish");
	ok(publish_value(&code, 8) == -EEXIST && call(code.exec) == 7, "not twice: %s", message);
	ok(suture_code_alloc(region, BODY, 4096, &other) == 0 && (uintptr_t)other.exec % 4096 == 0,
	   "alloc, aligned to a page");
	body(other.writable, 9);
	write = (struct suture_code_write){other.exec, NULL, BODY};
	ok(suture_code_publish(&write, 1, &options) == 0 && call(other.exec) == 9,
	   "written by ourselves, published");
	body(bytes, 10);
	write.bytes = bytes;
	ok(suture_code_modify(&write, 1, &options) == 0 && call(other.exec) == 10, "modify");
	ok(suture_code_free(region, other.exec) == 0 && suture_code_reclaim(region, 0) == 0 &&
	           *(uint8_t *)other.exec == 0xCC,
	   "free, reclaim: traps again");
	ok(suture_code_free(region, other.exec) == -EINVAL, "not freed twice");
	ok(suture_code_publish(&write, 1, &options) == -EINVAL, "nor published: %s", message);
	ok(suture_code_free(region, code.exec) == 0, "free");
}

static void test_edits(void)
{
	struct suture_region *region;
	struct suture_code code;
	uint8_t was[BODY], first[BODY];
	const uint32_t wide = 0x01020304, wider = 0x05060708;

	body(first, 1);
	ok(suture_region_new(4 * KB, NULL, &region) == 0 &&
	           suture_code_alloc(region, 4 * KB, 0, &code) == 0 && publish_value(&code, 1) == 0,
	   "code to edit, a region of one block");
	ok(edit(code.exec, 1, 2, SUTURE_NOSYNC) == 0 && call(code.exec) == 2, "nosync, one byte");
	ok(edit(code.exec, 2, wide, SUTURE_NOSYNC) == -EOPNOTSUPP && call(code.exec) == 2,
	   "nosync, four bytes: %s", message);
	ok(edit(code.exec, 2, wide, SUTURE_BREAKPOINT) == 0 && call(code.exec) == wide,
	   "breakpoint");
	ok(edit(code.exec, wide, wider, SUTURE_WORD) == 0 && call(code.exec) == wider,
	   "an aligned word");
	ok(edit(code.exec, wide, wider, SUTURE_WORD) == -EUCLEAN && call(code.exec) == wider,
	   "not from what it is not: %s", message);
	ok(suture_text_original((uint8_t *)code.exec + MOV, was, MOV_LENGTH) == 0 &&
	           memcmp(was, first + MOV, MOV_LENGTH) == 0,
	   "the original can be read");
	ok(suture_code_free(region, code.exec) == 0 && suture_code_reclaim(region, 0) == 0 &&
	           suture_code_alloc(region, BODY, 16, &code) == 0 && publish_value(&code, 5) == 0,
	   "freed, and used for something else");
	body(first, 5);
	ok(suture_text_original((uint8_t *)code.exec + MOV, was, MOV_LENGTH) == 0 &&
	           memcmp(was, first + MOV, MOV_LENGTH) == 0,
	   "of which that is the original");
	ok(suture_region_delete(region, 0) == 0, "delete");
}

/* mov $1, %eax; ret: in the program's own text, operand aligned. */
__asm__(".text\n.balign 16\n\tnopl (%rax)\nstatic_one:\n"
        "\t.byte 0xb8, 0x01, 0x00, 0x00, 0x00\n\tret\n");
unsigned static_one(void);

static void test_word(struct suture_region *region)
{
	static const uint8_t one[] = {0xB8, 1, 0, 0, 0}, wide[] = {0xB8, 1, 2, 3, 4};
	struct suture_edit e = {static_one, one, wide, 5};
	struct suture_code code;
	uint8_t two[BODY], other[BODY];
	struct suture_code_write write = {NULL, two, BODY};

	options.strategy = SUTURE_WORD;
	ok(suture_text_patch(&e, 1, &options) == -EOPNOTSUPP && static_one() == 1,
	   "word: not where the kernel writes: %s", message);
	/* Operand at an odd address. */
	body(two, 1);
	memmove(two + 1, two, BODY - 1);
	ok(suture_code_alloc(region, 2 * BODY, 16, &code) == 0, "alloc");
	write.exec = code.exec;
	ok(suture_code_publish(&write, 1, &options) == 0, "publish");
	memcpy(other, two, BODY);
	memset(other + OPERAND + 1, 7, 4);
	e = (struct suture_edit){(uint8_t *)code.exec + MOV + 1, two + MOV + 1, other + MOV + 1,
	                         MOV_LENGTH};
	ok(suture_text_patch(&e, 1, &options) == -EOPNOTSUPP && memcmp(code.exec, two, BODY) == 0,
	   "word: not where it is not aligned: %s", message);
	/* mov to %ecx: all five bytes change. */
	body(two, 1);
	memcpy(other, "\xB9\2\2\2\2", MOV_LENGTH);
	write = (struct suture_code_write){(uint8_t *)code.exec + 16, two + MOV, MOV_LENGTH};
	e = (struct suture_edit){write.exec, two + MOV, other, MOV_LENGTH};
	ok(suture_code_publish(&write, 1, &options) == 0 &&
	           suture_text_patch(&e, 1, &options) == -EOPNOTSUPP &&
	           memcmp(e.address, two + MOV, MOV_LENGTH) == 0 &&
	           ((uint8_t *)e.address)[MOV_LENGTH] == 0xCC,
	   "word: not five bytes of eight that are not all the instruction's: %s", message);
	/* nop, nop, nop, ret: several instructions in an aligned word. */
	e = (struct suture_edit){(uint8_t *)code.exec + 12, "\xCC\xCC\xCC\xCC", "\x90\x90\x90\xC3",
	                         4};
	ok(suture_text_patch(&e, 1, &options) == -EOPNOTSUPP && *(uint8_t *)e.address == 0xCC,
	   "word: not several instructions: %s", message);
	options.strategy = SUTURE_CHEAPEST;
	suture_code_free(region, code.exec);
}

static void test_refusals(struct suture_region *region)
{
	struct suture_region_options how = {
	        .size = sizeof(how), .message = message, .message_size = sizeof(message)};
	struct suture_region *none = NULL;
	struct suture_code code, next;
	uint8_t bytes[64] = {0};
	struct suture_code_write write[2];

	ok(suture_region_new(0, NULL, &none) == -EINVAL, "region of no size");
	ok(suture_region_new((size_t)1 << 41, &how, &none) == -EINVAL, "too large: %s", message);
	how.flags = 64;
	ok(suture_region_new(4096, &how, &none) == -EINVAL, "unknown flags: %s", message);
	how.flags = 0;
	how.near = (void *)(uintptr_t)static_one;
	ok(suture_region_new((size_t)1 << 33, &how, &none) == -ENOMEM, "too large for near: %s",
	   message);
	how.size = 8;
	ok(suture_region_new(4096, &how, &none) == -EINVAL && !none, "options of another size");
	ok(suture_code_alloc(region, 0, 0, &code) == -EINVAL, "block of no size");
	ok(suture_code_alloc(region, 16, 24, &code) == -EINVAL, "alignment 24");
	ok(suture_code_alloc(region, 16, 8192, &code) == -EINVAL, "alignment 8192");
	ok(suture_code_alloc(region, 1 << 30, 0, &code) == -EINVAL, "more than the region has");
	ok(suture_code_free(region, bytes) == -EINVAL, "free: not in the region");
	ok(suture_code_alloc(region, 32, 0, &code) == 0 &&
	           suture_code_alloc(region, 32, 0, &next) == 0,
	   "two neighbours");
	ok(suture_code_free(region, (uint8_t *)code.exec + 16) == -EINVAL,
	   "free: not where it begins");
	ok(suture_code_free(region, (uint8_t *)code.exec + 1) == -EINVAL, "free: odd address");
	write[0] = (struct suture_code_write){code.exec, bytes, 32};
	write[1] = (struct suture_code_write){next.exec, bytes, 33};
	ok(suture_code_publish(write, 2, &options) == -EINVAL && options.failed == 1 &&
	           *(uint8_t *)code.exec == 0xCC,
	   "publish beyond a block, all or nothing: %s", message);
	write[1] = (struct suture_code_write){(uint8_t *)code.exec + 24, bytes, 16};
	ok(suture_code_publish(&write[1], 1, &options) == -EINVAL, "over a border: %s", message);
	write[1] = (struct suture_code_write){bytes, bytes, 16};
	ok(suture_code_publish(&write[1], 1, &options) == -EINVAL, "elsewhere: %s", message);
	write[1] = (struct suture_code_write){next.exec, bytes, 0};
	ok(suture_code_publish(&write[1], 1, &options) == -EINVAL, "no size: %s", message);
	write[1] = (struct suture_code_write){next.exec, NULL, 1};
	ok(suture_code_modify(&write[1], 1, &options) == -EINVAL, "modify, no bytes: %s", message);
	ok(suture_code_publish(NULL, 0, NULL) == 0, "nothing to publish");
	suture_code_free(region, code.exec);
	suture_code_free(region, next.exec);
}

/* All of a small region, in blocks of all sizes; freed in disorder; all of it again. */
static void test_full(void)
{
	enum { BLOCKS = 64 };
	struct suture_region *region;
	struct suture_code code[BLOCKS], all;
	unsigned n = 0, wrong = 0;

	ok(suture_region_new(4 * KB, NULL, &region) == 0, "small region");
	for (; n < BLOCKS; n++) {
		if (suture_code_alloc(region, 1 + (n * 37) % 100, n % 3 ? 0 : 64, &code[n]))
			break;
		memset(code[n].writable, (int)n, code[n].size);
	}
	ok(n > 30 && n < BLOCKS && suture_code_alloc(region, 4 * KB, 0, &all) == -ENOMEM,
	   "full with %u blocks", n);
	for (unsigned i = 0; i < n; i++)
		for (size_t k = 0; k < code[i].size; k++)
			wrong += ((uint8_t *)code[i].exec)[k] != i;
	ok(!wrong, "no two share memory");
	for (unsigned i = 0; i < n; i += 2)
		wrong += suture_code_free(region, code[i].exec) != 0;
	for (unsigned i = 1; i < n; i += 2)
		wrong += suture_code_free(region, code[i].exec) != 0;
	ok(!wrong && suture_code_alloc(region, 4 * KB, 0, &all) == 0, "all of it in one again");
	for (size_t k = 0; k < 4 * KB; k++)
		wrong += ((uint8_t *)all.exec)[k] != 0xCC;
	ok(!wrong, "and full of traps");
	ok(suture_region_delete(region, 0) == 0, "delete");
}

/* Sites that are written in one go, on both sides of the border of two regions. */
static void test_border(void)
{
	enum { SITES = 80 };
	struct suture_region_options how = {.size = sizeof(how),
	                                    .near = (void *)(uintptr_t)static_one};
	struct suture_region *region[2];
	struct suture_code all[2], low, site[SITES];
	struct suture_edit edits[SITES];
	uint8_t old[BODY], new[BODY];
	unsigned wrong = 0;
	void *between = MAP_FAILED;

	for (unsigned i = 0; i < 2; i++) {
		wrong += suture_region_new(4 * KB, &how, &region[i]) != 0 ||
		         suture_code_alloc(region[i], 4 * KB, 0, &all[i]) != 0;
		/* Where they are written they are not side by side. */
		if (!i)
			between = mmap(NULL, 4 * KB, PROT_READ | PROT_WRITE,
			               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	}
	low = (uintptr_t)all[0].exec < (uintptr_t)all[1].exec ? all[0] : all[1];
	ok(!wrong && llabs((long long)((uintptr_t)all[0].exec - (uintptr_t)all[1].exec)) == 4 * KB,
	   "two regions side by side");
	body(old, 1);
	body(new, 0x05040302);
	for (unsigned i = 0; i < SITES && !wrong; i++) {
		site[i].exec = (uint8_t *)low.exec + 4 * KB + ((int)i - SITES / 2) * BODY;
		wrong += publish_value(&site[i], 1) != 0;
		edits[i] = (struct suture_edit){(uint8_t *)site[i].exec + MOV, old + MOV, new + MOV,
		                                MOV_LENGTH};
	}
	options.strategy = SUTURE_BREAKPOINT;
	ok(!wrong && suture_text_patch(edits, SITES, &options) == 0, "%d sites", SITES);
	options.strategy = SUTURE_CHEAPEST;
	for (unsigned i = 0; i < SITES && !wrong; i++)
		wrong += call(site[i].exec) != 0x05040302;
	ok(!wrong, "all are changed");
	munmap(between, 4 * KB);
	ok(suture_region_delete(region[0], 0) == 0 && suture_region_delete(region[1], 0) == 0,
	   "delete");
}

/* jmp rel32 from the region into the program, and back. */
static void test_near(void)
{
	struct suture_region_options how = {.size = sizeof(how),
	                                    .near = (void *)(uintptr_t)static_one};
	struct suture_region *region[2];
	struct suture_code code;
	uint8_t jump[5] = {0xE9};
	struct suture_code_write write = {NULL, jump, 5};
	int64_t away;
	int32_t rel;

	ok(suture_region_new(16 * KB, &how, &region[0]) == 0 &&
	           suture_region_new((size_t)1 << 30, &how, &region[1]) == 0,
	   "two regions near the program, one of 1 GB");
	for (unsigned i = 0; i < 2; i++) {
		suture_code_alloc(region[i], 5, 0, &code);
		write.exec = code.exec;
		away = (int64_t)((uintptr_t)static_one - (uintptr_t)code.exec - 5);
		rel = (int32_t)away;
		memcpy(jump + 1, &rel, 4);
		ok(rel == away && suture_code_publish(&write, 1, &options) == 0 &&
		           call(code.exec) == 1,
		   "rel32 reaches the program from region %u (%ld MB)", i, (long)(away >> 20));
		ok(suture_region_delete(region[i], 0) == 0, "delete");
	}
	how.near = stdout;
	ok(suture_region_new(64 * KB, &how, &region[0]) == 0 &&
	           suture_code_alloc(region[0], 64 * KB, 0, &code) == 0 &&
	           llabs((long long)((uintptr_t)code.exec - (uintptr_t)stdout)) < INT32_MAX,
	   "near a library");
	suture_region_delete(region[0], 0);
}

/* ---- inside ---- */

static void *leave_by_exit(void *unused)
{
	suture_code_enter();
	return unused;
}

static void test_grace(void)
{
	struct suture_region *region;
	struct suture_code code, other;
	uint8_t bytes[BODY];
	struct suture_code_write write = {NULL, bytes, BODY};
	pthread_t thread;

	ok(suture_region_new(4 * KB, NULL, &region) == 0 &&
	           suture_code_alloc(region, 4 * KB, 0, &code) == 0 && publish_value(&code, 3) == 0,
	   "a region of one block");
	begin_visit();
	ok(suture_code_free(region, code.exec) == 0 && call(code.exec) == 3,
	   "freed while somebody is inside: it is still there");
	ok(suture_code_alloc(region, 16, 0, &other) == -EAGAIN, "and not yet reused");
	ok(suture_code_reclaim(region, 3000000) == -ETIMEDOUT && call(code.exec) == 3,
	   "reclaim gives up");
	ok(suture_region_delete(region, 3000000) == -ETIMEDOUT && call(code.exec) == 3,
	   "so does delete");
	end_visit();
	ok(suture_code_alloc(region, 16, 0, &other) == 0 && other.exec == code.exec &&
	           *(uint8_t *)code.exec == 0xCC,
	   "they have left: reused");
	publish_value(&other, 4);
	body(bytes, 5);
	write.exec = other.exec;
	begin_visit();
	options.deadline_ns = 3000000;
	ok(suture_code_modify(&write, 1, &options) == -ETIMEDOUT && call(other.exec) == 4,
	   "modify while somebody is inside: %s", message);
	options.deadline_ns = 0;
	end_visit();
	ok(suture_code_modify(&write, 1, &options) == 0 && call(other.exec) == 5,
	   "and when nobody is");
	ok(suture_code_enter() == 0, "enter");
	ok(suture_code_modify(&write, 1, &options) == -EDEADLK, "modify from inside: %s", message);
	ok(suture_code_free(region, other.exec) == 0 &&
	           suture_code_reclaim(region, SECOND) == -EDEADLK && call(other.exec) == 5,
	   "free from inside; not reclaimed");
	ok(suture_region_delete(region, SECOND) == -EDEADLK, "nor deleted");
	suture_code_leave();
	ok(suture_code_reclaim(region, 0) == 0, "but when we have left");
	pthread_create(&thread, NULL, leave_by_exit, NULL);
	pthread_join(thread, NULL);
	suture_code_alloc(region, 16, 0, &other);
	suture_code_free(region, other.exec);
	ok(suture_code_reclaim(region, 0) == 0, "a thread that ended inside is not waited for");
	begin_visit();
	suture_code_alloc(region, 16, 0, &other);
	suture_code_enter();
	suture_code_leave();
	suture_code_free(region, other.exec);
	end_visit();
	ok(suture_code_reclaim(region, 0) == 0 && suture_region_delete(region, 0) == 0, "delete");
}

int main(void)
{
	struct suture_region *region;

	ok(suture_region_new(1024 * KB, NULL, &region) == 0 && count_rwx() == 0,
	   "a region; nothing is writable and executable");
	test_life(region);
	test_edits();
	test_word(region);
	test_refusals(region);
	test_full();
	test_near();
	test_border();
	test_grace();
	ok(suture_region_delete(region, 0) == 0, "delete");
	return done();
}
