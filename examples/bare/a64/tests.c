/* SPDX-License-Identifier: MIT */
/*
 * tests.c - what suture does in this kernel, as TAP on the console.
 *
 * Three cores run a function in a loop all the time while the first one changes it. Around each
 * change `step` is odd; a core that finds it even and the same before and after a call must have
 * got what `expected` says.
 */
#include <suture/bare.h>
#include "kernel.h"

enum { ROUNDS = 1000, INSN = 4, PROBES = 8, EPERM = 1, EINVAL = 22, ENOTSUP = 95, ETIMEDOUT = 110 };
enum { EEXIST = 17, ENOENT = 2, EUCLEAN = 117, EFAULT = 14 };

typedef int function(int);
function key, plain, pair, replaced, replacement, probed, branches, exclusive;
extern const char key_site[], key_on[], plain_site[], pair_site[], probed_site[], branches_cbz[],
        branches_bl[], branches_adr[], branches_ldr[], branches_b[], branches_blr[], branches_nop[],
        copied[], copied_end[], slots[], destination[];

static struct suture_bare_core cores[CORES];
static unsigned char room[SUTURE_BARE_ROOM(PROBES)] __attribute__((aligned(16)));

/* Shared with the other cores. */
static function *job;
static int job_argument;
static uint32_t expected, also_expected, step, wrong, online, hold, held;
static uint32_t calls[CORES], watched_wrong;
static const uint32_t *watched;
static uint32_t watched_values[2];

static uint32_t get(const uint32_t *word)
{
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static void set(uint32_t *word, uint32_t value)
{
	__atomic_store_n(word, value, __ATOMIC_SEQ_CST);
}

static void relax(void)
{
	__asm__ volatile("yield");
}

/* ---- TAP ---- */

static int tests, failures;

static void ok(bool good, const char *name)
{
	console(good ? "ok " : "not ok ");
	console_number(++tests);
	console(" - ");
	console(name);
	console("\n");
	failures += !good;
}

static void is(int64_t got, int64_t wanted, const char *name)
{
	ok(got == wanted, name);
	if (got == wanted)
		return;
	console("# got ");
	console_number(got);
	console(", not ");
	console_number(wanted);
	console("\n");
}

/* ---- the other cores ---- */

static void run_once(uint32_t core, function *f)
{
	uint32_t before = get(&step), got, word;

	got = (uint32_t)f(job_argument);
	if (before % 2 == 0 && get(&step) == before
	            ? got != get(&expected)
	            : got != get(&expected) && got != get(&also_expected))
		__atomic_add_fetch(&wrong, 1, __ATOMIC_SEQ_CST);
	/* Data reads of text that is being changed. */
	if (watched) {
		word = *(const volatile uint32_t *)watched;
		if (word != watched_values[0] && word != watched_values[1])
			__atomic_add_fetch(&watched_wrong, 1, __ATOMIC_SEQ_CST);
	}
	__atomic_add_fetch(&calls[core], 1, __ATOMIC_SEQ_CST);
}

static void wait_masked(void)
{
	interrupts_enable(false);
	set(&held, 1);
	while (get(&hold))
		relax();
	interrupts_enable(true);
	set(&held, 0);
}

void kernel_secondary(uint32_t core)
{
	interrupts_start();
	if (suture_bare_online())
		on_other(&(struct frame){.pc = core});
	__atomic_add_fetch(&online, 1, __ATOMIC_SEQ_CST);
	for (;;) {
		function *f = __atomic_load_n(&job, __ATOMIC_ACQUIRE);

		for (int i = 0; f && i < 8; i++)
			run_once(core, f);
		if (get(&hold) && core == 1)
			wait_masked();
		relax();
	}
}

/* All have finished the job before, and do this one. */
static void start_job(function *f, uint32_t result, uint32_t other)
{
	uint32_t before[CORES];

	set(&expected, result);
	set(&also_expected, other);
	set(&wrong, 0);
	__atomic_store_n(&job, f, __ATOMIC_SEQ_CST);
	for (int i = 1; i < CORES; i++) {
		before[i] = get(&calls[i]);
		while (f && get(&calls[i]) - before[i] < 16)
			relax();
	}
}

static void stop_job(void)
{
	uint64_t end = suture_machine_now() + 20000000;

	__atomic_store_n(&job, NULL, __ATOMIC_SEQ_CST);
	while (suture_machine_now() < end)
		relax();
}

/* ---- changes ---- */

static void put(uint8_t *bytes, uint32_t opcode)
{
	for (int i = 0; i < INSN; i++)
		bytes[i] = (uint8_t)(opcode >> 8 * i);
}

static SUTURE_BARE_SITES(one, 1);

static void opcodes(const char *address, uint32_t from, uint32_t to)
{
	one.sites.count = 1;
	one.sites.site[0] = (struct suture_bare_site){.address = (uint64_t)address, .length = INSN};
	put(one.sites.site[0].original, from);
	put(one.sites.site[0].patched, to);
}

/* Toggle `one` while the others run over it; they get `off` or `on`. */
static void toggle(enum suture_bare_strategy strategy, const char *name, uint32_t off, uint32_t on)
{
	int errors = 0;
	uint32_t before = get(&calls[1]) + get(&calls[2]) + get(&calls[3]);

	for (int i = 0; i < ROUNDS; i++) {
		bool apply = i % 2 == 0;

		set(&step, get(&step) + 1);
		errors += (apply ? suture_bare_apply(&one.sites, strategy, NULL)
		                 : suture_bare_revert(&one.sites, strategy, NULL)) != 0;
		set(&expected, apply ? on : off);
		set(&also_expected, apply ? off : on);
		set(&step, get(&step) + 1);
		errors += (uint32_t)job(job_argument) != get(&expected);
		for (int k = 0; k < 4; k++)
			relax();
	}
	is(errors, 0, name);
	is(get(&wrong), 0, "  the other cores always got what was in force");
	before = get(&calls[1]) + get(&calls[2]) + get(&calls[3]) - before;
	ok(before > ROUNDS, "  and called it all the time");
	console("# ");
	console_number(before);
	console(" calls\n");
}

static void test_keys(void)
{
	one.sites.count = 1;
	is(suture_bare_site_jump(&one.sites.site[0], (uint64_t)key_site, (uint64_t)key_on), 0,
	   "a key's use is described");
	start_job(key, 1, 2);
	toggle(SUTURE_BARE_NOSYNC, "a static key, 1000 times, nobody held up", 1, 2);
	toggle(SUTURE_BARE_QUIESCE, "the same with all cores at rest", 1, 2);
	stop_job();
}

static void test_plain(void)
{
	opcodes(plain_site, 0x52800020, 0x52800040); /* mov w0, #1; mov w0, #2 */
	start_job(plain, 1, 2);
	toggle(SUTURE_BARE_CHEAPEST, "an instruction of any kind, 1000 times", 1, 2);
	is(suture_bare_apply(&one.sites, SUTURE_BARE_NOSYNC, NULL), -EINVAL,
	   "it is refused where nobody is held up");
	stop_job();
}

/* ---- probes ---- */

static uint32_t hits[CORES];
static uint64_t hit_pc;

static MACHINE_TEXT void count_hit(uint64_t pc, void *registers, void *arg)
{
	(void)registers, (void)arg;
	hit_pc = pc;
	__atomic_add_fetch(&hits[suture_machine_core()], 1, __ATOMIC_SEQ_CST);
}

static uint32_t all_hits(void)
{
	return get(&hits[0]) + get(&hits[1]) + get(&hits[2]) + get(&hits[3]);
}

static void test_probe_cycles(void)
{
	const uint64_t address = (uint64_t)probed_site;
	uint32_t original = *(const uint32_t *)address, before;
	int errors = 0, missed = 0, stale = 0, late = 0;

	watched_values[0] = original;
	watched_values[1] = 0xD42A6EA0; /* brk #0x5375 */
	watched = (const uint32_t *)address;
	job_argument = 1;
	start_job(probed, 4, 4);
	for (int i = 0; i < ROUNDS / 2; i++) {
		errors += suture_bare_probe_add(address, (uint64_t)slots, count_hit, NULL) != 0;
		stale += *(const volatile uint32_t *)address != watched_values[1];
		before = get(&hits[0]);
		missed += probed(1) != 4 || get(&hits[0]) != before + 1;
		for (int k = 0; k < 4; k++)
			relax();
		errors += suture_bare_probe_remove(address) != 0;
		stale += *(const volatile uint32_t *)address != original;
		before = all_hits();
		missed += probed(1) != 4;
		for (int k = 0; k < 4; k++)
			relax();
		late += all_hits() != before;
	}
	is(errors, 0, "a probe, added and removed 500 times at the same place");
	is(missed, 0, "  each call is counted while it is there");
	is(late, 0, "  and none after it was removed");
	is(stale, 0, "  data reads find what is executed");
	is(get(&watched_wrong), 0, "  on other cores, too: old or new");
	is(get(&wrong), 0, "  the function does what it did");
	ok(get(&hits[1]) && get(&hits[2]) && get(&hits[3]), "  and was counted on every core");
	console("# ");
	console_number(all_hits());
	console(" hits\n");
	watched = NULL;
	stop_job();
	job_argument = 0;
}

static int add_probe(const char *address, int number)
{
	return suture_bare_probe_add((uint64_t)address,
	                             (uint64_t)slots + (uint64_t)(number + 1) * SUTURE_BARE_SLOT,
	                             count_hit, NULL);
}

static void test_slots(void)
{
	static const struct {
		const char *address, *name;
	} sites[] = {
	        {branches_cbz, "a conditional branch out of line"},
	        {branches_nop, "a nop out of line"},
	        {branches_bl, "a call out of line"},
	        {branches_adr, "an address out of line"},
	        {branches_ldr, "a literal out of line"},
	        {branches_b, "a jump out of line"},
	        {branches_blr, "a call through a register out of line"},
	};
	enum { N = sizeof(sites) / sizeof(sites[0]) };
	int first = branches(0), second = branches(5), errors = 0;
	uint32_t before;

	for (int i = 0; i < N; i++) {
		before = get(&hits[0]);
		ok(add_probe(sites[i].address, i) == 0 && branches(0) == first &&
		           branches(5) == second && get(&hits[0]) == before + 2 &&
		           hit_pc == (uint64_t)sites[i].address &&
		           suture_bare_probe_remove((uint64_t)sites[i].address) == 0,
		   sites[i].name);
	}
	for (int i = 0; i < N; i++)
		errors += add_probe(sites[i].address, i) != 0;
	is(errors, 0, "all of them are added again");
	before = get(&hits[0]);
	ok(branches(5) == second && get(&hits[0]) == before + N, "  and count at once");
	is(suture_bare_probe_add((uint64_t)branches_b, (uint64_t)slots, count_hit, NULL), -EEXIST,
	   "a second probe at the same place is refused");
	for (int i = 0; i < N; i++)
		errors += suture_bare_probe_remove((uint64_t)sites[i].address) != 0;
	is(errors, 0, "and all are removed");
	is(suture_bare_probe_remove((uint64_t)branches_b), -ENOENT, "which can be done once");
	is(suture_bare_probe_add((uint64_t)exclusive, (uint64_t)slots, count_hit, NULL), -ENOTSUP,
	   "an exclusive load is refused");
}

/* ---- alternatives, functions, copied code ---- */

static void fill_pair(void)
{
	opcodes(pair_site, 0x52800060, 0x528000A0); /* mov w0, #3; mov w0, #5 */
	one.sites.site[0].length = 2 * INSN;
	put(one.sites.site[0].original + INSN, 0x11001000); /* add w0, w0, #4 */
	put(one.sites.site[0].patched + INSN, 0x11001800);  /* add w0, w0, #6 */
}

static void test_alternatives_early(void)
{
	fill_pair();
	is(suture_bare_apply(&one.sites, SUTURE_BARE_CHEAPEST, NULL), 0,
	   "an alternative of two instructions before other cores run");
	is(pair(0), 11, "  is what is executed");
	is(suture_bare_apply(&one.sites, SUTURE_BARE_CHEAPEST, NULL), -EUCLEAN,
	   "  and is not applied to itself");
	is(suture_bare_revert(&one.sites, SUTURE_BARE_CHEAPEST, NULL), 0, "  and is taken back");
	is(pair(0), 7, "  is what is executed");
}

static void test_alternatives_late(void)
{
	fill_pair();
	is(suture_bare_apply(&one.sites, SUTURE_BARE_QUIESCE, NULL), -ENOTSUP,
	   "an alternative of two instructions when other cores run is refused");
	is(suture_bare_apply(&one.sites, SUTURE_BARE_NOSYNC, NULL), -EINVAL,
	   "  and without holding anybody up");
	is(pair(0), 7, "  with nothing written");
	opcodes(pair_site, 0x52800060, 0x528000A0);
	is(suture_bare_apply(&one.sites, SUTURE_BARE_CHEAPEST, NULL), 0,
	   "an alternative of one instruction when other cores run");
	is(pair(0), 9, "  is what is executed");
	is(suture_bare_revert(&one.sites, SUTURE_BARE_CHEAPEST, NULL), 0, "  and is taken back");
}

static void test_functions(void)
{
	one.sites.count = 1;
	is(suture_bare_site_jump(&one.sites.site[0], (uint64_t)replaced, (uint64_t)replacement), 0,
	   "a function's first instruction is to lead to another");
	start_job(replaced, 1, 100);
	toggle(SUTURE_BARE_CHEAPEST, "a function is replaced and restored, 1000 times", 1, 100);
	stop_job();
}

static void test_publish(void)
{
	function *copy = (function *)(uint64_t)destination;

	is(suture_bare_publish((uint64_t)destination, copied, (size_t)(copied_end - copied)), 0,
	   "copied code is published");
	start_job(copy, 7, 7);
	is(get(&wrong), 0, "  and runs on the other cores");
	stop_job();
	put(one.sites.site[0].patched, 0x11002400); /* add w0, w0, #9 */
	is(suture_bare_publish((uint64_t)destination, one.sites.site[0].patched, INSN), 0,
	   "other code is published in its place");
	start_job(copy, 9, 9);
	is(get(&wrong), 0, "  and runs on the other cores");
	stop_job();
}

/* ---- refusals ---- */

static void test_refused(void)
{
	uint32_t failed = 7;

	opcodes(key_site, 0xD503201F, 0x14000002);
	one.sites.site[0].address += 2;
	is(suture_bare_apply(&one.sites, SUTURE_BARE_NOSYNC, NULL), -EINVAL,
	   "an address between two instructions is refused");
	one.sites.site[0].address -= 2;
	one.sites.site[0].length = 6;
	is(suture_bare_apply(&one.sites, SUTURE_BARE_QUIESCE, NULL), -EINVAL,
	   "half an instruction is refused");
	opcodes(key_site, 0xD5032020, 0x14000002);
	is(suture_bare_apply(&one.sites, SUTURE_BARE_QUIESCE, &failed), -EUCLEAN,
	   "other bytes than expected are refused");
	is(failed, 0, "  and the site is named");
	opcodes(noinstr_start, *(const uint32_t *)noinstr_start, 0xD503201F);
	is(suture_bare_apply(&one.sites, SUTURE_BARE_QUIESCE, NULL), -EPERM,
	   "text that suture itself needs is refused");
	opcodes((const char *)cores, 0, 0xD503201F);
	is(suture_bare_apply(&one.sites, SUTURE_BARE_QUIESCE, NULL), -EFAULT,
	   "what is no text is refused");
	is(key(0), 1, "nothing was written");
}

/* One core has its interrupts masked for longer than the bound. */
static void test_late_core(void)
{
	opcodes(plain_site, 0x52800020, 0x52800040);
	set(&hold, 1);
	while (!get(&held))
		relax();
	is(suture_bare_apply(&one.sites, SUTURE_BARE_QUIESCE, NULL), -ETIMEDOUT,
	   "a core that does not come to rest within the bound: refused");
	is(plain(0), 1, "  with nothing written");
	is(suture_bare_probe_add((uint64_t)plain_site, (uint64_t)slots, count_hit, NULL),
	   -ETIMEDOUT, "  a probe, too");
	is(plain(0), 1, "  with nothing written");
	suture_bare_site_jump(&one.sites.site[0], (uint64_t)key_site, (uint64_t)key_on);
	is(suture_bare_apply(&one.sites, SUTURE_BARE_NOSYNC, NULL), -ETIMEDOUT,
	   "  what holds nobody up is written, and says that it was late for one");
	is(key(0), 2, "  it is executed here");
	set(&hold, 0);
	while (get(&held))
		relax();
	is(suture_bare_revert(&one.sites, SUTURE_BARE_NOSYNC, NULL), 0, "  it is taken back");
	opcodes(plain_site, 0x52800020, 0x52800040);
	is(suture_bare_apply(&one.sites, SUTURE_BARE_QUIESCE, NULL), 0,
	   "and done when the core is back");
	is(plain(0), 2, "  and executed");
	is(suture_bare_revert(&one.sites, SUTURE_BARE_QUIESCE, NULL), 0, "  and taken back");
}

static void test_read_only(void)
{
	uint32_t before = get(&refused_stores);

	*(volatile char *)(uint64_t)key_site = 0;
	ok(get(&refused_stores) == before + 1 && key(0) == 1,
	   "text can not be written where it is");
}

/* ---- start ---- */

static void bring_up(void)
{
	int errors = 0;

	for (uint32_t i = 1; i < CORES; i++)
		errors += core_on(i) != 0;
	is(errors, 0, "three more cores are brought up");
	while (get(&online) < CORES - 1)
		relax();
}

void kernel_main(void)
{
	const struct suture_bare_config config = {
	        .size = sizeof(config),
	        .cores = CORES,
	        .core = cores,
	        .noinstr_start = (uint64_t)noinstr_start,
	        .noinstr_end = (uint64_t)noinstr_end,
	        .room = room,
	        .room_size = sizeof(room),
	        .bound_ns = 500000000,
	};

	console("TAP version 13\n");
	interrupts_start();
	is(suture_bare_start(&config), 0, "the start");
	test_read_only();
	test_alternatives_early();
	bring_up();
	test_alternatives_late();
	test_refused();
	test_keys();
	test_plain();
	test_probe_cycles();
	test_slots();
	test_functions();
	test_publish();
	test_late_core();
	console("1..");
	console_number(tests);
	console("\n");
	power_off(failures != 0);
}
