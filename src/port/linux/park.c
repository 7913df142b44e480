/* SPDX-License-Identifier: MIT */
/*
 * park.c - every thread of our process in a handler of ours, and there in one function.
 *
 * Nobody may begin before all are known, because each is told how many there are:
 *
 *     wrong                                    right
 *     asks              thread 1               asks              thread 1
 *     reads the list: 1                        reads the list: 1
 *     sends the signal  clone(): thread 2      sends the signal  clone(): thread 2
 *                       in the handler: fn                       in the handler: waits
 *     fn: all are here, writes                 reads the list: 1, 2; sends 2 the signal
 *                       (2 runs on)            reads it again: all wait, and who waits
 *                                              makes no threads; releases them
 *
 * The list of the parked is made of their own stack frames: no memory is needed. It is open while
 * somebody asks, and closed with one exchange: who comes later, from a signal that was late, finds
 * it closed, and leaves. So the signals carry no round number, and one that is still pending from
 * an attempt that was given up does as well as a new one.
 *
 * Handlers may run on small alternate stacks. So who asks begins last, when each of the others
 * waits in fn or has returned from it: what only the last to arrive does (sync/rendezvous.c) is
 * done on the stack of a thread that came here by calls.
 */
#include <errno.h>
#include <ucontext.h>
#include "port/linux/linux.h"
#include "port/linux/syscall.h"

/* From asm/prctl.h, which defines more than is wanted here. */
enum { GET_FS = 0x1003 };

enum {
	FIRST_NS = 200000,     /* until those that are missing are looked for again */
	LAST_NS = 5000000,     /* and at most */
	BACKSTOP_NS = 20000000 /* a sleep that somebody ends */
};

/* The process' port, for the handler: a signal has no argument. */
struct port *linux_parking;

/* ---- counting each other ---- */

static void tally_reset(struct port *port, struct park_tally *tally)
{
	port_set(port, &tally->count, 0);
	port_set(port, &tally->wanted, UINT32_MAX);
}

/* Either the counter sees what is wanted, or who wants sees the count. */
static void tally_add(struct port *port, struct park_tally *tally)
{
	uint32_t count = __atomic_add_fetch(&tally->count, 1, __ATOMIC_SEQ_CST);

	if (count >= port_load(port, &tally->wanted))
		linux_futex_wake(&tally->count, 1);
}

static void tally_await(struct port *port, struct park_tally *tally, uint32_t wanted, uint64_t end)
{
	port_set(port, &tally->wanted, wanted);
	port_complete(port);
	for (;;) {
		uint32_t count = port_load(port, &tally->count);
		uint64_t now = linux_now();

		if (count >= wanted || now >= end)
			return;
		linux_futex_wait(&tally->count, count,
		                 end - now < BACKSTOP_NS ? end - now : BACKSTOP_NS);
	}
}

/* The next phase, of this round or of the next one. */
static void tell(struct port *port, enum park_phase phase)
{
	struct park *park = &port->park;
	uint32_t now = port_load(port, &park->phase);

	do
		now++;
	while (phase_of(now) != phase);
	port_set(port, &park->phase, now);
	linux_futex_wake(&park->phase, INT32_MAX);
}

/* What it is when it is no longer `now`. */
static uint32_t await_phase(struct port *port, uint32_t now)
{
	const uint32_t *phase = &port->park.phase;
	uint32_t then;

	while ((then = port_load(port, phase)) == now)
		linux_futex_wait(phase, now, BACKSTOP_NS);
	return then;
}

/* ---- those that are asked ---- */

static void fill_in(struct parked *self, const ucontext_t *context, uint64_t stack_pointer)
{
	unsigned long pointer = 0;

	self->tid = (uint32_t)syscall4(SYS_gettid, 0, 0, 0, 0);
	self->context = context;
	if (syscall4(SYS_arch_prctl, GET_FS, (long)&pointer, 0, 0))
		pointer = 0;
	self->stack_pointer = stack_pointer;
	self->thread_pointer = pointer;
}

/* False: nobody asks any more. */
static bool join(struct park *park, struct parked *self)
{
	struct parked *head = __atomic_load_n(&park->list, __ATOMIC_ACQUIRE);

	do {
		if (!head)
			return false;
		self->next = head;
	} while (!__atomic_compare_exchange_n(&park->list, &head, self, true, __ATOMIC_ACQ_REL,
	                                      __ATOMIC_ACQUIRE));
	return true;
}

static void be_parked(struct port *port, const ucontext_t *context)
{
	struct park *park = &port->park;
	struct parked self;
	uint32_t phase;

	fill_in(&self, context, (uint64_t)context->uc_mcontext.gregs[REG_RSP]);
	if (!join(park, &self))
		return;
	tally_add(port, &park->parked);
	/* Of this round: it does not end without us. */
	phase = port_load(port, &park->phase);
	if (phase_of(phase) == PARK_GATHERING)
		phase = await_phase(port, phase);
	if (phase_of(phase) == PARK_RUNNING) {
		park->fn(port, park->cores, park->arg);
		tally_add(port, &park->settled);
	}
	/* The last access to the round, but for its end. */
	tally_add(port, &park->left);
	if (phase_of(phase) == PARK_RUNNING)
		(void)await_phase(port, phase);
}

void linux_on_park(int number, siginfo_t *info, void *context)
{
	struct port *port = linux_parking;

	if (info->si_code == SI_QUEUE && info->si_value.sival_ptr == &port->park &&
	    info->si_pid == (pid_t)port->pid) {
		port_add(port, &port->park.handled, 1);
		be_parked(port, context);
	} else {
		/* The signal was taken because nobody handled it. */
		linux_default_action(number);
	}
}

uint64_t linux_park_slice(struct port *port, const uint32_t *word, uint64_t otherwise)
{
	struct park *park = &port->park;

	if (phase_of(port_load(port, &park->phase)) != PARK_RUNNING)
		return otherwise;
	__atomic_store_n(&park->word, word, __ATOMIC_RELEASE);
	tally_add(port, &park->settled);
	return LAST_NS;
}

/* ---- who asks ---- */

/* All others are parked, or never come back from the kernel. Twice in a row: a list that is read
 * while threads exit can lack one. */
static int gather(struct port *port, uint64_t end)
{
	struct park *park = &port->park;
	uint64_t pause = FIRST_NS;
	unsigned agreed = 0;

	for (;;) {
		struct park_census census;
		uint64_t now;
		int rc = linux_census(port, &census);

		if (rc)
			return rc;
		agreed = census.complete && !census.missing ? agreed + 1 : 0;
		if (agreed == 2)
			return 0;
		now = linux_now();
		if (now >= end) {
			park->late = census.late;
			return -ETIMEDOUT;
		}
		if (census.missing) {
			tally_await(port, &park->parked, census.parked + census.missing,
			            end - now < pause ? end : now + pause);
			pause = pause * 2 < LAST_NS ? pause * 2 : LAST_NS;
		} else if (!agreed) {
			port_pause(port, FIRST_NS);
		}
	}
}

static void open_list(struct port *port, struct parked *self)
{
	struct park *park = &port->park;

	self->next = NULL;
	park->late = park->occupant = 0;
	park->occupied = 0;
	tally_reset(port, &park->parked);
	tally_reset(port, &park->settled);
	tally_reset(port, &park->left);
	tell(port, PARK_GATHERING);
	__atomic_store_n(&park->list, self, __ATOMIC_SEQ_CST);
}

/* Nobody joins any more; how many have, without who asks. */
static uint32_t close_list(struct park *park)
{
	uint32_t count = 0;

	park->resting = __atomic_exchange_n(&park->list, NULL, __ATOMIC_SEQ_CST);
	for (const struct parked *one = park->resting; one->next; one = one->next)
		count++;
	return count;
}

static void run_all(struct port *port, uint32_t others, port_core_fn fn, void *arg)
{
	struct park *park = &port->park;

	park->fn = fn;
	park->arg = arg;
	park->cores = others + 1;
	park->word = NULL;
	tell(port, PARK_RUNNING);
	tally_await(port, &park->settled, others, PORT_FOREVER);
	fn(port, others + 1, arg);
	/* Whoever changes a word wakes nobody (port_wait), and they sleep longer than others. */
	if (park->word)
		linux_futex_wake(park->word, INT32_MAX);
	/* They wait for each other: one that went on at once could keep a processor from those that
	 * are not done. */
	tally_await(port, &park->left, others, PORT_FOREVER);
	park->resting = NULL;
	tell(port, PARK_OVER);
}

int port_run_on_all(struct port *port, port_core_fn fn, void *arg, uint64_t deadline_ns)
{
	struct park *park = &port->park;
	struct parked self;
	uint64_t end = linux_end_of(deadline_ns), mask;
	uint32_t others;
	int rc;

	if (park->tasks < 0)
		return -ENOTSUP;
	/* A handler of somebody's on this thread could wait for one that is parked. */
	mask = port_mask(port);
	fill_in(&self, NULL, park->frame);
	open_list(port, &self);
	rc = gather(port, end);
	others = close_list(park);
	if (rc) {
		tell(port, PARK_OVER);
		tally_await(port, &park->left, others, PORT_FOREVER);
	} else {
		run_all(port, others, fn, arg);
	}
	port_unmask(port, mask);
	return rc;
}
