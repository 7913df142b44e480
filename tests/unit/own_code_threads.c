/* SPDX-License-Identifier: MIT */
/*
 * own_code_threads.c - suture/code.h: code is replaced and changed while threads execute it.
 */
#include "own_code.h"

enum { SLOTS = 8 };
static struct slot {
	void *exec; /* shared: what threads call */
	struct suture_code code;
	uint32_t value;
} slots[SLOTS];
static int stop;
static unsigned long rounds, wrong;

/* Values that tell whether they are whole: the same byte four times. */
static uint32_t value_of(unsigned n)
{
	return (n % 255 + 1) * 0x01010101u;
}

static void *execute(void *arg)
{
	unsigned long n = 0, bad = 0;
	unsigned i = (unsigned)(uintptr_t)arg;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		suture_code_enter();
		for (unsigned k = 0; k < 16; k++) {
			const void *exec =
			        __atomic_load_n(&slots[i++ % SLOTS].exec, __ATOMIC_ACQUIRE);
			unsigned value = call(exec);

			bad += value != value_of(value % 256 - 1);
			n++;
		}
		suture_code_leave();
	}
	__atomic_fetch_add(&rounds, n, __ATOMIC_RELAXED);
	__atomic_fetch_add(&wrong, bad, __ATOMIC_RELAXED);
	return NULL;
}

static void *sample(void *arg)
{
	int *found = arg;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		if (count_rwx())
			*found = 1;
		usleep(2000);
	}
	return NULL;
}

/* New code in a slot; the old one is freed while threads may be in it. */
static int replace(struct suture_region *region, struct slot *slot, uint32_t value)
{
	struct suture_code old = slot->code;
	int rc;

	while ((rc = suture_code_alloc(region, BODY, 0, &slot->code)) == -EAGAIN)
		(void)suture_code_reclaim(region, SECOND);
	if (rc || publish_value(&slot->code, value))
		return -1;
	slot->value = value;
	__atomic_store_n(&slot->exec, slot->code.exec, __ATOMIC_RELEASE);
	return old.exec ? suture_code_free(region, old.exec) : 0;
}

static int modify(struct slot *slot, uint32_t value)
{
	uint8_t bytes[BODY];
	struct suture_code_write write = {slot->code.exec, bytes, BODY};
	int rc;

	body(bytes, value);
	rc = suture_code_modify(&write, 1, &options);
	slot->value = value;
	return rc;
}

static void test_threads(unsigned threads, unsigned cycles)
{
	struct suture_region *region;
	pthread_t thread[16], sampler;
	unsigned failed = 0, stale = 0;
	int found = 0;

	stop = 0;
	rounds = wrong = 0;
	memset(slots, 0, sizeof(slots));
	ok(suture_region_new(4 * KB, NULL, &region) == 0, "small region");
	for (unsigned i = 0; i < SLOTS; i++)
		failed += replace(region, &slots[i], value_of(i)) != 0;
	for (unsigned i = 0; i < threads; i++)
		pthread_create(&thread[i], NULL, execute, (void *)(uintptr_t)i);
	pthread_create(&sampler, NULL, sample, &found);
	for (unsigned i = 0; i < cycles; i++) {
		struct slot *slot = &slots[i % SLOTS];
		uint32_t next = value_of(i * 7 + 1);
		int rc = 0;

		if (next == slot->value)
			continue;
		switch (i / SLOTS % 16) {
		case 0:
			rc = modify(slot, next);
			break;
		case 1:
		case 2:
			rc = edit(slot->code.exec, slot->value, next, SUTURE_BREAKPOINT);
			break;
		case 3:
		case 4:
		case 5:
		case 6:
			rc = edit(slot->code.exec, slot->value, next, SUTURE_WORD);
			break;
		default:
			rc = replace(region, slot, next);
		}
		slot->value = next;
		failed += rc != 0;
		stale += call(slot->code.exec) != next;
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < threads; i++)
		pthread_join(thread[i], NULL);
	pthread_join(sampler, NULL);
	ok(!failed && !stale && !wrong,
	   "%u threads, %u cycles: %u failed, %u not seen, %lu wrong results", threads, cycles,
	   failed, stale, wrong);
	ok(!found, "nothing was ever writable and executable");
	note("%lu executions", rounds);
	options.strategy = SUTURE_CHEAPEST;
	ok(suture_region_delete(region, SECOND) == 0, "delete");
}

/* One operand, over and over: nobody sees it in part. */
static void test_words(unsigned cycles)
{
	struct suture_region *region;
	pthread_t thread;
	unsigned failed = 0, stale = 0;

	stop = 0;
	rounds = wrong = 0;
	memset(slots, 0, sizeof(slots));
	ok(suture_region_new(4 * KB, NULL, &region) == 0 &&
	           replace(region, &slots[0], value_of(0)) == 0,
	   "a function");
	for (unsigned i = 1; i < SLOTS; i++)
		slots[i] = slots[0];
	pthread_create(&thread, NULL, execute, NULL);
	for (unsigned i = 0; i < cycles; i++) {
		failed += edit(slots[0].code.exec, value_of(i), value_of(i + 1), SUTURE_WORD) != 0;
		stale += call(slots[0].code.exec) != value_of(i + 1);
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	ok(!failed && !stale && !wrong,
	   "%u words: %u failed, %u not seen, %lu wrong results of %lu", cycles, failed, stale,
	   wrong, rounds);
	options.strategy = SUTURE_CHEAPEST;
	ok(suture_region_delete(region, SECOND) == 0, "delete");
}

/* Several threads that publish and free in one region. */
static struct suture_region *shared;

static void *churn(void *arg)
{
	struct suture_code code[16];
	uint32_t base = (uint32_t)(uintptr_t)arg * 1000;
	uint8_t bytes[16][BODY];
	struct suture_code_write list[16];

	for (unsigned n = 0; n < 100; n++) {
		unsigned bad = 0;

		for (unsigned i = 0; i < 16; i++) {
			bad += suture_code_alloc(shared, BODY, 0, &code[i]) != 0;
			body(bytes[i], base + i);
			list[i] = (struct suture_code_write){code[i].exec, bytes[i], BODY};
		}
		if (!bad)
			bad += suture_code_publish(list, 16, NULL) != 0;
		for (unsigned i = 0; i < 16 && !bad; i++)
			bad += call(code[i].exec) != base + i;
		for (unsigned i = 0; i < 16 && !bad; i++)
			bad += suture_code_free(shared, code[i].exec) != 0;
		if (bad)
			__atomic_fetch_add(&wrong, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void test_publishers(void)
{
	pthread_t thread[4];

	wrong = 0;
	ok(suture_region_new(64 * KB, NULL, &shared) == 0, "a region for four");
	for (unsigned i = 0; i < 4; i++)
		pthread_create(&thread[i], NULL, churn, (void *)(uintptr_t)(i + 1));
	/* Forks in between: locks are not left behind. */
	for (unsigned i = 0; i < 10; i++)
		if (in_child(all_of_it, NULL))
			__atomic_fetch_add(&wrong, 1, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	ok(!wrong, "threads that publish and free side by side, and forks: %lu failures", wrong);
	ok(suture_region_delete(shared, SECOND) == 0, "delete");
}

int main(void)
{
	unsigned cycles = getenv("SUTURE_TORTURE") ? 50000 : 1000;

	test_publishers();
	test_words(20 * cycles);
	test_threads(4, cycles);
	test_threads(16, cycles / 4);
	return done();
}
