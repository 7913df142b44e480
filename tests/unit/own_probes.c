/* SPDX-License-Identifier: MIT */
/*
 * own_probes.c - suture/probe.h: handlers called at instructions of our own.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>
#include "suture/probe.h"
#include "tap.h"

/* Weak: the compiler can know nothing of what it does. */
#define VICTIM __attribute__((noinline, weak))

VICTIM long plus_one(long x);
long plus_one(long x)
{
	return x + 1;
}

VICTIM long twice(long x);
long twice(long x)
{
	return 2 * x;
}

static char message[200];
static struct suture_text_options options = {
        .size = sizeof(options), .message = message, .message_size = sizeof(message)};

static struct suture_probe *add(const void *address, suture_probe_fn pre, suture_probe_fn post,
                                void *arg)
{
	struct suture_probe_spec spec = {
	        .address = (void *)(uintptr_t)address, .pre = pre, .post = post, .arg = arg};
	struct suture_probe *probe = NULL;
	int rc = suture_probe_install(&spec, 1, &probe, &options);

	if (rc)
		note("%d: %s", rc, message);
	return probe;
}

static int take(struct suture_probe *probe)
{
	return probe ? suture_probe_remove(&probe, 1, &options) : -1;
}

static void count(struct suture_regs *regs, void *arg)
{
	(void)regs;
	__atomic_fetch_add((unsigned long *)arg, 1, __ATOMIC_RELAXED);
}

/* ---- several at one place ---- */

static unsigned long path;

static void step(struct suture_regs *regs, void *arg)
{
	(void)regs;
	path = path * 10 + (uintptr_t)arg;
}

static void test_order(const int order[3])
{
	struct suture_probe *probes[3];
	bool there[3] = {true, true, true}, right = true;

	for (uintptr_t i = 0; i < 3; i++)
		probes[i] = add(twice, step, i == 1 ? step : NULL, (void *)(i + 1));
	path = 0;
	right = twice(4) == 8 && path == 1232;
	for (int i = 0; i < 3; i++) {
		unsigned long expected = 0;

		right = take(probes[order[i]]) == 0 && right;
		there[order[i]] = false;
		for (unsigned k = 0; k < 3; k++)
			expected = there[k] ? expected * 10 + k + 1 : expected;
		expected = there[1] ? expected * 10 + 2 : expected;
		path = 0;
		right = twice(4) == 8 && path == expected && right;
	}
	ok(right, "three at one place, removed in the order %d %d %d", order[0], order[1],
	   order[2]);
}

static void test_orders(void)
{
	static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
	                                 {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};

	for (int i = 0; i < 6; i++)
		test_order(orders[i]);
}

/* ---- refusals ---- */

static int data_word = 1;
__asm__(".text\nundefined:\n\tud2\nbreaks:\n\tint3\n\tret\n");
extern char undefined[], breaks[];
extern const char in_noinstr[] __asm__("__start_suture_noinstr");

static void test_refused(const char *what, const void *address, suture_probe_fn pre, unsigned flags,
                         int expected)
{
	unsigned long hits = 0;
	struct suture_probe *probes[3] = {0};

	for (size_t k = 0; k < 3; k++) {
		struct suture_probe_spec specs[3];
		int rc;

		specs[0] =
		        (struct suture_probe_spec){.address = plus_one, .pre = count, .arg = &hits};
		specs[2] = specs[1] = specs[0];
		specs[k].address = (void *)(uintptr_t)address;
		specs[k].pre = pre;
		specs[k].flags = flags;
		message[0] = '\0';
		rc = suture_probe_install(specs, 3, probes, &options);
		ok(rc == expected && options.failed == k && message[0] && plus_one(1) == 2 && !hits,
		   "%s as number %zu of 3 (%d): %s", what, k, rc, message);
	}
}

static void test_refusals(void)
{
	unsigned long hits = 0;
	struct suture_probe *none = NULL, *one = add(plus_one, count, NULL, &hits);
	struct suture_probe *same[2] = {one, one};
	struct suture_probe_spec spec = {.address = plus_one, .pre = count};

	ok(suture_probe_remove(same, 2, &options) == -EINVAL && plus_one(1) == 2 && hits == 1,
	   "removed twice in one call: %s", message);
	ok(take(one) == 0, "once");
	test_refused("no address", NULL, count, 0, -EINVAL);
	test_refused("no handler", plus_one, NULL, 0, -EINVAL);
	test_refused("unknown flags", plus_one, count, 2, -EINVAL);
	test_refused("data", &data_word, count, 0, -EACCES);
	test_refused("a handler that is data", plus_one, (suture_probe_fn)(void *)&data_word, 0,
	             -EACCES);
	test_refused("ud2", undefined, count, 0, -EOPNOTSUPP);
	test_refused("int3", breaks, count, 0, -EOPNOTSUPP);
	test_refused("suture's own text", in_noinstr, count, 0, -EPERM);
	test_refused("no user's address", (void *)0x8000000000000000, count, 0, -EACCES);
	ok(suture_probe_install(NULL, 0, NULL, NULL) == 0 &&
	           suture_probe_remove(NULL, 0, NULL) == 0,
	   "none");
	ok(suture_probe_install(NULL, 1, NULL, NULL) == -EINVAL &&
	           suture_probe_remove(NULL, 1, NULL) == -EINVAL &&
	           suture_probe_remove(&none, 1, NULL) == -EINVAL,
	   "nothing given");
	options.size = 4;
	ok(suture_probe_install(&spec, 1, NULL, &options) == -EINVAL, "options of another size");
	options.size = sizeof(options);
}

/* ---- every instruction of a function ---- */

#define INSIDE(n, code)                                                                            \
	"inside_" #n ":\n	" code "\n	.pushsection .data.rel.ro, \"aw\"\n"                    \
	"	.quad inside_" #n "\n	.popsection\n"
__asm__(".pushsection .data.rel.ro, \"aw\"\n.balign 8\ninside:\n.popsection\n"
        ".text\n.balign 16\n.type everything, @function\neverything:\n" INSIDE(
                0, "pushq %rbx") INSIDE(1, "movq %rdi, %rbx") INSIDE(2, "xorl %eax, %eax")
                INSIDE(3, "testq %rbx, %rbx") INSIDE(4, "jle 2f") INSIDE(5, "cmpq $1, %rbx") INSIDE(
                        6, "je 1f") "3:\n" INSIDE(7, "addq %rbx, %rax")
                        INSIDE(8, "addq constant(%rip), %rax") INSIDE(9, "pushq %rax") INSIDE(
                                10, "movq %rbx, %rdi") INSIDE(11,
                                                              "call plus_one") INSIDE(12,
                                                                                      "popq %rcx")
                                INSIDE(13, "addq %rcx, %rax") INSIDE(14, "decq %rbx")
                                        INSIDE(15, "jnz 3b") INSIDE(16, "jmp 2f") "1:\n" INSIDE(
                                                17, "movl $3, %ecx") "4:\n" INSIDE(18, "nop")
                                                INSIDE(19, "addq %rcx, %rax") INSIDE(
                                                        20, "loop 4b") "2:\n" INSIDE(21, "clc")
                                                        INSIDE(22, "popq %rbx") INSIDE(
                                                                23, "ret") ".size everything, . - "
                                                                           "everything\n.balign "
                                                                           "16\nconstant: .quad "
                                                                           "1000\n");
long everything(long x);
extern char *const inside[];
enum { INSTRUCTIONS = 24 };

static bool everything_is(const long expected[8])
{
	for (long x = 0; x < 8; x++)
		if (everything(x - 1) != expected[x])
			return false;
	return true;
}

static unsigned long visits[INSTRUCTIONS];

static void test_everything(bool post, unsigned seed)
{
	struct suture_probe_spec specs[INSTRUCTIONS];
	struct suture_probe *probes[INSTRUCTIONS];
	long expected[8];
	int order[INSTRUCTIONS], rc;
	bool right = true;

	for (long x = 0; x < 8; x++)
		expected[x] = everything(x - 1);
	for (int i = 0; i < INSTRUCTIONS; i++) {
		/* Where post is not possible: the return. */
		specs[i] = (struct suture_probe_spec){.address = inside[i],
		                                      .pre = count,
		                                      .post = post && i != 23 ? count : NULL,
		                                      .arg = &visits[i]};
		order[i] = i;
	}
	memset(visits, 0, sizeof(visits));
	rc = suture_probe_install(specs, INSTRUCTIONS, probes, &options);
	ok(rc == 0 && everything_is(expected), "every instruction%s in one call: %s",
	   post ? ", before and after," : "", rc ? message : "");
	if (rc)
		return;
	/* Eight calls; 2 to 6 enter the long loop, with 2 + ... + 6 rounds. */
	for (int i = 0; i < INSTRUCTIONS; i++) {
		unsigned long times = i < 5 || i > 20 ? 8
		                      : i < 7         ? 6
		                      : i < 16        ? 20
		                      : i == 16       ? 5
		                                      : 0;

		if (i > 16 && i < 21)
			times = i == 17 ? 1 : 3;
		if (visits[i] != times * (post && i != 23 ? 2 : 1)) {
			note("%d: %lu visits", i, visits[i]);
			right = false;
		}
	}
	ok(right, "and each is called as often as its instruction is executed");
	for (int i = INSTRUCTIONS - 1; i > 0; i--) {
		int k = rand_r(&seed) % (i + 1), swap = order[k];

		order[k] = order[i];
		order[i] = swap;
	}
	for (int i = 0; i < INSTRUCTIONS && right; i++) {
		right = take(probes[order[i]]) == 0 && everything_is(expected);
		if (!right)
			note("removing %d, the %dth: %s", order[i], i, message);
	}
	memset(visits, 0, sizeof(visits));
	right = right && everything_is(expected);
	for (int i = 0; i < INSTRUCTIONS; i++)
		right = right && !visits[i];
	ok(right, "removed one by one");
}

/* ---- sites inside another's five bytes ---- */

__asm__(".text\n.balign 16\n.type crowd, @function\ncrowd:\n	nop\n	nop\n	nop\n	nop\n	"
        "nop\n"
        "	leaq 1(%rdi), %rax\n	ret\n.size crowd, . - crowd\n");
long crowd(long x);

static void test_crowd(void)
{
	static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
	                                 {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
	static const int places[2][3] = {{0, 1, 2}, {0, 2, 4}};
	unsigned wrong = 0;

	for (int n = 0; n < 72; n++) {
		const int *come = orders[n % 6], *go = orders[n / 6 % 6], *place = places[n / 36];
		struct suture_probe *probes[3] = {0};
		unsigned long hits[3] = {0}, expected[3] = {0};

		for (int i = 0; i < 6; i++) {
			int k = i < 3 ? come[i] : go[i - 3];

			if (i < 3)
				probes[k] = add((char *)crowd + place[k], count, NULL, &hits[k]);
			else
				wrong += take(probes[k]) != 0, probes[k] = NULL;
			wrong += crowd(i) != i + 1;
			for (int p = 0; p < 3; p++)
				wrong += hits[p] != (expected[p] += probes[p] != NULL);
		}
	}
	ok(!wrong, "three within five bytes, come and gone in every order: %u wrong", wrong);
}

/* ---- handlers that meet probes ---- */

VICTIM void calls_probed(struct suture_regs *regs, void *arg);
void calls_probed(struct suture_regs *regs, void *arg)
{
	(void)regs;
	__atomic_fetch_add((unsigned long *)arg, 1, __ATOMIC_RELAXED);
	twice(plus_one(1));
}

static void test_missed(void)
{
	unsigned long hits = 0, others = 0, own = 0;
	struct suture_probe *one = add(plus_one, calls_probed, calls_probed, &hits);
	struct suture_probe *other = add(twice, count, NULL, &others);
	struct suture_probe *self = add((void *)calls_probed, count, NULL, &own);

	for (int i = 0; i < 100; i++)
		plus_one(i);
	ok(hits == 200 && others == 0 && own == 0, "handlers are not interrupted by others");
	ok(suture_probe_missed(one) == 400 && suture_probe_missed(other) == 200 &&
	           suture_probe_missed(self) == 200,
	   "which is counted: %lu, %lu, %lu", (unsigned long)suture_probe_missed(one),
	   (unsigned long)suture_probe_missed(other), (unsigned long)suture_probe_missed(self));
	calls_probed(NULL, &hits);
	ok(own == 1 && others == 1 && hits == 203, "but when they are called by the program");
	ok(take(one) == 0 && take(self) == 0 && take(other) == 0, "removed");
}

/* ---- removal while a handler runs ---- */

static int gate_state; /* 1: in the handler, 2: it may go */

static void block(struct suture_regs *regs, void *arg)
{
	(void)regs;
	(void)arg;
	__atomic_store_n(&gate_state, 1, __ATOMIC_RELEASE);
	while (__atomic_load_n(&gate_state, __ATOMIC_ACQUIRE) != 2)
		usleep(1000);
}

static void *call_once(void *arg)
{
	*(long *)arg = plus_one(*(long *)arg);
	return NULL;
}

static void test_busy(void)
{
	unsigned long hits = 0;
	struct suture_probe *probe = add(plus_one, block, NULL, NULL);
	struct suture_probe *both[2] = {probe, add(twice, count, NULL, &hits)};
	pthread_t thread;
	long result = 41;
	int rc;

	gate_state = 0;
	pthread_create(&thread, NULL, call_once, &result);
	while (!__atomic_load_n(&gate_state, __ATOMIC_ACQUIRE))
		usleep(1000);
	options.deadline_ns = 20000000;
	rc = take(probe);
	ok(rc == -EBUSY, "a handler does not return: %d, %s", rc, message);
	ok(plus_one(1) == 2, "the probe is removed: nobody else comes to the handler");
	rc = take(probe);
	ok(rc == -EBUSY, "still not: %d", rc);
	twice(1);
	rc = suture_probe_remove(both, 2, &options);
	ok(rc == -EBUSY && twice(2) == 4 && hits == 1,
	   "nor together with another, which is "
	   "removed: %d, %lu hits",
	   rc, hits);
	__atomic_store_n(&gate_state, 2, __ATOMIC_RELEASE);
	options.deadline_ns = 0;
	ok(suture_probe_remove(both, 2, &options) == 0, "it has returned: %s", message);
	pthread_join(thread, NULL);
	ok(result == 42, "and its thread went on");
}

enum { MANY_THREADS = 150 };
static pthread_barrier_t meeting;

static void meet(struct suture_regs *regs, void *arg)
{
	(void)regs;
	pthread_barrier_wait(&meeting);
	__atomic_fetch_add((unsigned long *)arg, 1, __ATOMIC_RELAXED);
}

/* More than there is room for at first are in one handler at once; then others, in their places. */
static void test_many_threads(void)
{
	unsigned long hits = 0, wrong = 0;
	struct suture_probe *probe = add(plus_one, meet, NULL, &hits);
	pthread_t threads[MANY_THREADS];
	long results[MANY_THREADS];

	pthread_barrier_init(&meeting, NULL, MANY_THREADS);
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < MANY_THREADS; i++) {
			results[i] = i;
			pthread_create(&threads[i], NULL, call_once, &results[i]);
		}
		for (int i = 0; i < MANY_THREADS; i++) {
			pthread_join(threads[i], NULL);
			wrong += results[i] != i + 1;
		}
	}
	ok(hits == 3 * MANY_THREADS && !wrong && suture_probe_missed(probe) == 0,
	   "%d threads in a handler at once, three times: %lu hits, %lu missed, %lu wrong",
	   MANY_THREADS, hits, (unsigned long)suture_probe_missed(probe), wrong);
	ok(take(probe) == 0, "removed");
}

static void on_tick(int number)
{
	(void)number;
	plus_one(twice(1));
}

static int stop;
static unsigned long wrong_results;

static void *call_all(void *arg)
{
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
		for (long x = 0; x < 4; x++)
			if (plus_one(x) != x + 1 || twice(x) != 2 * x || crowd(x) != x + 1 ||
			    everything(1) != 6)
				__atomic_fetch_add(&wrong_results, 1, __ATOMIC_RELAXED);
	return arg;
}

/* The word is poison as soon as the removal has returned. */
static void look_alive(struct suture_regs *regs, void *arg)
{
	(void)regs;
	if (__atomic_load_n((int *)arg, __ATOMIC_ACQUIRE) != 1)
		__atomic_fetch_add(&wrong_results, 1, __ATOMIC_RELAXED);
}

static void test_threads(int cycles)
{
	const void *places[] = {plus_one, twice, crowd, (char *)crowd + 2, inside[18], inside[20]};
	struct itimerval timer = {{0, 1000}, {0, 1000}}, none = {{0, 0}, {0, 0}};
	pthread_t threads[3];
	unsigned failed = 0;

	stop = 0;
	wrong_results = 0;
	for (int i = 0; i < 3; i++)
		pthread_create(&threads[i], NULL, call_all, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
	for (int i = 0; i < cycles; i++) {
		struct suture_probe *probes[3];
		int alive[3] = {1, 1, 1};

		for (int k = 0; k < 3; k++)
			probes[k] = add(places[(i + k) % 6], look_alive, NULL, &alive[k]);
		for (int k = 0; k < 3; k++) {
			failed += take(probes[(i + k) % 3]) != 0;
			alive[(i + k) % 3] = 0;
		}
	}
	setitimer(ITIMER_REAL, &none, NULL);
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	ok(!failed && !wrong_results,
	   "come and go %d times while 3 threads run: %u failed, %lu "
	   "wrong",
	   cycles, failed, wrong_results);
}

int main(void)
{
	bool torture = getenv("SUTURE_TORTURE");

	signal(SIGALRM, on_tick);
	test_orders();
	test_refusals();
	for (unsigned seed = 0; seed < (torture ? 200 : 10); seed++)
		test_everything(seed & 1, seed);
	test_crowd();
	test_missed();
	test_busy();
	test_many_threads();
	test_threads(torture ? 10000 : 150);
	return done();
}
