/* SPDX-License-Identifier: MIT */
/*
 * own.c - one transaction in our own process.
 */
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include "api/own/alias.h"
#include "api/own/gate.h"
#include "api/own/ground.h"
#include "api/own/handler.h"
#include "api/own/own.h"
#include "api/own/point.h"
#include "api/own/watch.h"
#include "port/linux/linux.h"

enum {
	/* The first EDITS_LIVE are for edits, whose threads are held; the others for what has
	   detours. */
	LIVE_MAX = 128,
	EDITS_LIVE = 16,
	/* Quiescence: how long those that came to rest wait for the others, at most; and the pauses
	 * between two attempts. */
	HOLD_NS = 100000000,
	PAUSE_FIRST_NS = 500000,
	PAUSE_LAST_NS = 16000000,
};
static const uint64_t deadline_default = 1000000000;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct port *port;
static int port_error;

/* Of whoever took the lock: what this thread returns to is above it. */
static const void *frame;

/* One transaction at a time; an entry of which traps could not be taken back is not used again. */
static struct patch_live live[LIVE_MAX];
/* Registries of edits that are over, but at which threads in the trap path may still look. */
static struct {
	struct patch_registry *registry; /* NULL: the entry is free */
	bool lost;
} edits_over[EDITS_LIVE];
static struct patch_traps traps = {.isa = &isa_x86_64, .count = LIVE_MAX, .live = live};

/* Who holds the lock: its thread id. */
static pid_t owner;

static bool mine(void)
{
	return __atomic_load_n(&owner, __ATOMIC_RELAXED) == gettid();
}

static void lock_until(const struct timespec *end, int *rc)
{
	*rc = end ? -pthread_mutex_clocklock(&lock, CLOCK_MONOTONIC, end)
	          : -pthread_mutex_lock(&lock);
	if (!*rc)
		__atomic_store_n(&owner, gettid(), __ATOMIC_RELAXED);
}

static void unlock(void)
{
	__atomic_store_n(&owner, 0, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&lock);
}

/* A replacement that runs inside a call of ours may fork: the lock is held then. */
static bool locked_for_fork;

static void before_fork(void)
{
	bool held = mine();
	int rc;

	if (!held)
		lock_until(NULL, &rc);
	locked_for_fork = !held;
}

static void after_fork(void)
{
	aliases_forked();
	if (locked_for_fork)
		unlock();
}

static void after_fork_in_child(void)
{
	gate_after_fork();
	aliases_forked();
	if (locked_for_fork)
		unlock();
	else
		__atomic_store_n(&owner, gettid(), __ATOMIC_RELAXED);
}

/* The port's own fork handlers come first, so that they run last before a fork. */
static void open_port(void)
{
	port = linux_port(&port_error);
	gate_setup();
	if (port && pthread_atfork(before_fork, after_fork, after_fork_in_child)) {
		port_error = -ENOMEM;
		port = NULL;
	}
}

/* Not again from inside: from a handler, or a replacement of what the library calls. */
static int lock_for(const struct timespec *end)
{
	int rc;

	pthread_once(&once, open_port);
	if (!port)
		return port_error;
	if (mine() || gate_inside())
		return -EDEADLK;
	lock_until(end, &rc);
	if (rc)
		return rc;
	rc = linux_check(port);
	if (!rc)
		rc = aliases_begin();
	if (rc)
		unlock();
	return rc;
}

int own_lock(void)
{
	int rc = lock_for(NULL);
	frame = __builtin_frame_address(0);
	return rc;
}

bool own_alone(void)
{
	return linux_alone();
}

/* What nobody can look at any more. */
static int free_edits(uint64_t deadline_ns)
{
	bool any = false;
	int rc;

	for (unsigned i = 0; i < EDITS_LIVE; i++)
		any = any || (edits_over[i].registry && !edits_over[i].lost);
	rc = any ? port_grace(port, deadline_ns) : 0;
	for (unsigned i = 0; i < EDITS_LIVE && !rc; i++) {
		if (edits_over[i].lost)
			continue;
		free(edits_over[i].registry);
		edits_over[i].registry = NULL;
	}
	return rc;
}

void own_unlock(void)
{
	(void)!free_edits(0);
	unlock();
}

int own_check(const struct suture_text_options *options, const void *list, size_t count)
{
	bool wrong = options->size < sizeof(*options) || (count && !list) || count > UINT32_MAX;

	return wrong ? -EINVAL : 0;
}

int own_begin(struct suture_text_options *options)
{
	uint64_t deadline_ns = own_deadline(options);
	struct timespec end;
	int rc;

	options->failed = 0;
	if (options->message && options->message_size)
		options->message[0] = '\0';
	clock_gettime(CLOCK_MONOTONIC, &end);
	if (deadline_ns > (uint64_t)INT32_MAX * 1000000000u)
		deadline_ns = (uint64_t)INT32_MAX * 1000000000u;
	end.tv_sec += (time_t)(deadline_ns / 1000000000u);
	end.tv_nsec += (long)(deadline_ns % 1000000000u);
	end.tv_sec += end.tv_nsec / 1000000000;
	end.tv_nsec %= 1000000000;
	rc = lock_for(&end);
	frame = __builtin_frame_address(0);
	if (rc == -EDEADLK)
		return own_fail(options, 0, rc,
		                "this thread is in a handler, or in a call of suture, already");
	if (rc == -ETIMEDOUT)
		return own_fail(options, 0, rc, "another thread was patching for too long");
	if (rc)
		return own_fail(options, 0, rc, "no text can be written in this process (%d)", -rc);
	ground_begin();
	handler_forget();
	return 0;
}

void own_end(void)
{
	own_unlock();
}

int own_read(const void *address, void *buffer, size_t size)
{
	return port_read(port, (uintptr_t)address, buffer, size);
}

int own_fail(struct suture_text_options *options, size_t failed, int rc, const char *format, ...)
{
	va_list arguments;

	options->failed = failed;
	if (!options->message || !options->message_size)
		return rc;
	va_start(arguments, format);
	vsnprintf(options->message, options->message_size, format, arguments);
	va_end(arguments);
	return rc;
}

/* ---- strategy ---- */

/* Threads that meet the trap are held at the head: nowhere else may one arrive, and what they find
 * afterwards is no trap. */
static int check_held(const struct patch_registry *registry, struct suture_text_options *options)
{
	for (uint32_t i = 0; i < registry->count; i++) {
		const struct sync_site *site = &registry->sites[i];
		struct isa_insn insn;

		if (isa_x86_64.decode(site->original, site->length, site->address, &insn) !=
		    site->length)
			return own_fail(options, i, -EOPNOTSUPP,
			                "%#lx: several instructions can not be replaced while they "
			                "may be executed; SUTURE_QUIESCE would do it",
			                (unsigned long)site->address);
		if (isa_x86_64.is_trap(site->patched, site->length) || insn.class == ISA_TRAP)
			return own_fail(
			        options, i, -EOPNOTSUPP,
			        "%#lx: a trap can not be part of a change by way of a trap; "
			        "SUTURE_QUIESCE would do it",
			        (unsigned long)site->address);
	}
	return 0;
}

static int choose(const struct patch_registry *registry, struct suture_text_options *options,
                  bool single, enum patch_strategy *strategy)
{
	size_t failed;

	if ((unsigned)options->strategy > SUTURE_WORD)
		return own_fail(options, 0, -EINVAL, "there is no strategy %u",
		                (unsigned)options->strategy);
	if (options->strategy == SUTURE_QUIESCE) {
		*strategy = PATCH_QUIESCE;
		return 0;
	}
	if (options->strategy == SUTURE_WORD) {
		*strategy = PATCH_NOSYNC;
		return code_check_words(port, registry, options);
	}
	*strategy = patch_plan(port_caps(port), &isa_x86_64, registry, true, &failed);
	if (options->strategy == SUTURE_NOSYNC) {
		/* What is legal with no traps at all. */
		*strategy = patch_plan(port_caps(port), &isa_x86_64, registry, false, &failed);
		if (*strategy != PATCH_NOSYNC)
			return own_fail(
			        options, failed, -EOPNOTSUPP,
			        "%#lx: more than one byte changes; without stopping anybody "
			        "that can be seen in part",
			        (unsigned long)registry->sites[failed].address);
	}
	if (options->strategy == SUTURE_BREAKPOINT && *strategy == PATCH_NOSYNC)
		*strategy = PATCH_BREAKPOINT;
	if (*strategy == PATCH_QUIESCE)
		return own_fail(options, failed, -EOPNOTSUPP,
		                "%#lx: can be changed neither by one byte nor by way of a trap; "
		                "SUTURE_QUIESCE would do it",
		                (unsigned long)registry->sites[failed].address);
	return *strategy == PATCH_BREAKPOINT && !single ? check_held(registry, options) : 0;
}

/* ---- all threads at rest ---- */

static bool touches(const struct patch_registry *registry, uint32_t i)
{
	const struct sync_site *site = &registry->sites[i];

	return i && i < registry->count && site->address == site[-1].address + site[-1].length;
}

/* Where nobody may be, or come to from code of ours: behind the first byte, unless the old code is
 * one instruction. Sites that touch are parts of one sequence. */
static int fill_clear(const struct patch_registry *registry, struct suture_text_options *options,
                      struct patch_options *how)
{
	struct port_range *clear = calloc(registry->count + 1, sizeof(*clear));

	how->clear = clear;
	if (!clear)
		return own_fail(options, 0, -ENOMEM, "out of memory");
	for (uint32_t i = 0; i < registry->count; i++) {
		const struct sync_site *site = &registry->sites[i];
		uint64_t end = site->address + site->length;
		bool part = touches(registry, i);
		struct isa_insn insn;

		if (!part && !touches(registry, i + 1) &&
		    isa_x86_64.decode(site->original, site->length, site->address, &insn) ==
		            site->length)
			continue;
		if (points_lead_into(part ? site->address - 1 : site->address, end))
			return own_fail(options, i, -EEXIST,
			                "%#lx: code made for an earlier hook or probe goes on "
			                "inside",
			                (unsigned long)site->address);
		if (part)
			clear[how->clear_count - 1].end = end;
		else
			clear[how->clear_count++] = (struct port_range){site->address + 1, end};
	}
	return 0;
}

static int prepare_quiescence(const struct patch_registry *registry,
                              struct suture_text_options *options, struct patch_options *how)
{
	int rc = fill_clear(registry, options, how);

	if (rc)
		return rc;
	rc = linux_park_attach(port, frame);
	if (rc == -EBUSY)
		return own_fail(options, 0, rc, "every real-time signal has a handler already");
	if (rc)
		return own_fail(options, 0, rc,
		                "the threads of this process can not be listed (%d)", -rc);
	return 0;
}

/* Attempts until the deadline: who is inside, or busy elsewhere, gets time to go on. */
static int apply_at_rest(struct patch_registry *registry, struct patch_options *how, size_t *failed)
{
	uint64_t end = linux_end_of(how->deadline_ns), pause = PAUSE_FIRST_NS;
	int rc;

	how->tries = 1;
	how->deadline_ns = how->deadline_ns < HOLD_NS ? how->deadline_ns : HOLD_NS;
	for (;;) {
		rc = patch_apply(port, registry, how, failed);
		if ((rc != -EBUSY && rc != -ETIMEDOUT) || linux_now() + pause >= end)
			return rc;
		port_pause(port, pause);
		pause = pause * 2 < PAUSE_LAST_NS ? pause * 2 : PAUSE_LAST_NS;
	}
}

/* Why all threads at rest would not do. False: it is none of that. */
static bool explain_quiescence(const struct patch_registry *registry,
                               struct suture_text_options *options, int rc)
{
	uint64_t address;
	uint32_t tid = linux_park_occupant(port, &address);
	int signal;
	size_t i = 0;

	if (rc == -EBUSY && tid) {
		while (i + 1 < registry->count && registry->sites[i + 1].address <= address)
			i++;
		own_fail(options, i, rc,
		         address ? "%#lx: thread %u is inside, or may return there (%#lx)"
		                 : "%#lx: thread %u has more stack than can be searched",
		         (unsigned long)registry->sites[i].address, tid, (unsigned long)address);
		return true;
	}
	tid = linux_park_late(port, &signal);
	if (rc == -ETIMEDOUT && tid) {
		own_fail(options, 0, rc,
		         "thread %u does not come to rest: it blocks signal %d, waits for a child "
		         "of "
		         "vfork, or is not scheduled",
		         tid, signal);
		return true;
	}
	if (rc == -ESRCH || rc == -ENOENT || rc == -EMFILE || rc == -ENFILE) {
		own_fail(options, 0, rc, "the threads of this process can not be listed (%d)", -rc);
		return true;
	}
	return false;
}

/* ---- a transaction ---- */

struct port *own_port(void)
{
	return port;
}

uint64_t own_deadline(const struct suture_text_options *options)
{
	return options->deadline_ns ? options->deadline_ns : deadline_default;
}

struct patch_traps *own_traps(void)
{
	return &traps;
}

struct patch_live *own_live(void)
{
	for (unsigned i = EDITS_LIVE; i < LIVE_MAX; i++)
		if (port_load(port, &live[i].phase) == PATCH_GONE && !live[i].registry)
			return &live[i];
	return NULL;
}

int own_attach_traps(bool stay, bool invalid, struct suture_text_options *options)
{
	int tid = 0, rc;

	if (!watch_is_on())
		linux_unmask_handlers();
	rc = linux_traps(port, !stay, own_deadline(options), &tid);
	if (rc == -EBUSY)
		return own_fail(options, 0, rc,
		                "thread %d blocks SIGTRAP or SIGILL, or may do so when it "
		                "returns from where it waits with other signals blocked",
		                tid);
	if (rc)
		return own_fail(options, 0, rc,
		                "the threads of this process can not be listed (%d)", -rc);
	rc = port_trap_attach(port, patch_trap, &traps);
	if (!rc && invalid)
		rc = linux_attach_invalid(port);
	if (rc)
		return own_fail(options, 0, rc,
		                "no handler for SIGTRAP or SIGILL can be installed");
	return 0;
}

int own_explain(const struct patch_registry *registry, struct suture_text_options *options,
                size_t failed, int rc)
{
	unsigned long address = registry->count ? registry->sites[failed].address : 0;

	switch (rc) {
	case -EUCLEAN:
		return own_fail(options, failed, rc, "%#lx: other bytes than expected", address);
	case -EPERM:
		return own_fail(options, failed, rc,
		                "%#lx: is executed by suture itself, or this process was forked "
		                "behind the library's back",
		                address);
	case -EFAULT:
		return own_fail(options, failed, rc, "%#lx: is not mapped", address);
	case -EBUSY:
		return own_fail(options, failed, rc,
		                "%#lx: a thread is inside one of the sequences, or has yet to "
		                "return there",
		                address);
	case -ENOTSUP:
		return own_fail(options, failed, rc, "other threads run, and can not be stopped");
	case -ETIMEDOUT:
		return own_fail(options, failed, rc, "another thread was patching for too long");
	default:
		return own_fail(options, failed, rc, "%#lx: can not be written (%d)", address, -rc);
	}
}

static bool is_over(const struct patch_registry *registry)
{
	for (unsigned i = 0; i < EDITS_LIVE; i++)
		if (edits_over[i].registry == registry)
			return true;
	return false;
}

void own_free(struct patch_registry *registry)
{
	if (!registry || !is_over(registry))
		free(registry);
}

/* An entry for the trap path, or NULL. Those that are over are given back many at once: a thread in
 * the trap path may not be scheduled for long. */
static struct patch_live *edits_live(uint64_t deadline_ns)
{
	unsigned i = 0;

	for (int tries = 0; tries < 2; tries++) {
		for (i = 0; i < EDITS_LIVE; i++)
			if (!edits_over[i].registry)
				return &live[i];
		if (free_edits(deadline_ns))
			return NULL;
	}
	return NULL;
}

/* The transaction is over: the trap path forgets its sites, unless traps of ours may still stand
 * there. */
static void retire(const struct patch_options *how, struct patch_registry *registry)
{
	size_t i = (size_t)(how->live - live);

	if (!how->traps)
		return;
	edits_over[i].registry = registry;
	edits_over[i].lost = port_load(port, &how->live->phase) == PATCH_APPLYING;
	if (!edits_over[i].lost)
		(void)!patch_retire(port, how);
}

static int apply_masked(struct patch_registry *registry, struct suture_text_options *options,
                        struct patch_options *how)
{
	size_t failed = 0;
	/* A handler of somebody's on this thread could wait for us at a trap. */
	uint64_t mask = port_mask(port);
	int rc = how->strategy == PATCH_QUIESCE ? apply_at_rest(registry, how, &failed)
	                                        : patch_apply(port, registry, how, &failed);

	retire(how, registry);
	port_unmask(port, mask);
	if (how->strategy == PATCH_QUIESCE) {
		linux_park_detach(port);
		if (rc && explain_quiescence(registry, options, rc))
			return rc;
	}
	return rc ? own_explain(registry, options, failed, rc) : 0;
}

static int apply_planned(struct patch_registry *registry, struct suture_text_options *options,
                         bool single)
{
	struct patch_options how = {
	        .isa = &isa_x86_64,
	        .word = options->strategy == SUTURE_WORD,
	        .deadline_ns = own_deadline(options),
	        .tries = 1,
	        .later = true,
	};
	int rc = choose(registry, options, single, &how.strategy);

	if (!rc && how.strategy == PATCH_BREAKPOINT) {
		how.live = edits_live(how.deadline_ns);
		if (!how.live)
			return own_fail(options, 0, -EBUSY, "threads are stuck in the trap path");
		how.traps = &traps;
		how.live->registry = registry;
		rc = own_attach_traps(false, false, options);
	}
	if (!rc && how.strategy == PATCH_QUIESCE)
		rc = prepare_quiescence(registry, options, &how);
	if (!rc)
		rc = apply_masked(registry, options, &how);
	free((void *)how.clear);
	return rc;
}

int own_apply(struct patch_registry *registry, struct suture_text_options *options, bool single)
{
	struct patch_registry *planned;
	enum patch_strategy ignored;
	uint32_t *from;
	int rc = overlay_plan(registry, &planned, &from, options);

	if (rc || planned == registry)
		return rc ? rc : apply_planned(registry, options, single);
	/* What is legal is said of the instructions, not of parts and copies of them. */
	rc = single ? 0 : choose(registry, options, false, &ignored);
	if (!rc) {
		rc = apply_planned(planned, options, true);
		if (rc && options->failed < planned->count)
			options->failed = from[options->failed];
	}
	if (!rc)
		overlay_done(registry);
	own_free(planned);
	free(from);
	return rc;
}
