/* SPDX-License-Identifier: MIT */
/*
 * tramp_count.c - counting trampolines are exact, and nobody notices them.
 *
 * Bodies are generated for a small function of this program and executed in this process. Proven,
 * for restartable and for locked counters:
 *
 *   - registers, flags (OF, AF, DF too), the red zone and the stack above are as they were
 *   - a breakpoint on any instruction of a body, which within the restartable sequence makes the
 *     kernel abort it, changes nothing: exactly one hit is counted, by the right cell
 *   - many threads on few cores, pinned or moved about, with timer signals at a high rate whose
 *     handlers call the same bodies: the cells add up to the calls
 *   - a thread that is not registered for rseq takes the shared cell
 */
#if defined(__x86_64__) && defined(__has_include)
#if __has_include(<sys/rseq.h>)
#define HAVE_RSEQ_HEADER
#endif
#endif

#ifdef HAVE_RSEQ_HEADER
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/rseq.h>
#include <time.h>
#include <unistd.h>

#include "isa/isa.h"
#include "isa_machine.h"
#include "tap.h"
#include "tramp/tramp.h"
#include "tramp_bodies.h"

enum {
	THREADS = 8,
	CHUNK = 20000, /* calls of each body between looks at the clock's work */
	CHUNKS_MIN = 20,
	CHUNKS_MAX = 200,
	ABORTS_WANTED = 20, /* so many restarts are to happen */
	TIMER_NS = 60000,
	STATES = 2000,
	SCRATCH = 4096,
	USER_FLAGS = 0xcd5, /* CF PF AF ZF SF DF OF */
	RSP = 4,
	INT3 = 0xcc,
};

/* --- one execution, looked at closely ------------------------------------------------------ */

static uint8_t scratch[SCRATCH] __attribute__((aligned(16)));
static uint8_t scratch_before[SCRATCH];

static struct {
	const struct body *body;
	int offset;
	uint8_t byte;
	int hits, aborts;
} breakpoint;

static void on_breakpoint(int signal, siginfo_t *info, void *context)
{
	greg_t *rip = &((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
	const struct body *body = breakpoint.body;

	(void)signal, (void)info;
	breakpoint.hits++;
	body->writable[breakpoint.offset] = breakpoint.byte;
	if ((uint64_t)*rip == body->rseq->abort)
		breakpoint.aborts++;
	else
		--*rip;
}

/* Random registers, flags, vectors, stack; what differs afterwards, or NULL. */
static const char *run(const struct body *body)
{
	unsigned eax = 0, ebx, ecx = 0, edx;
	uint64_t rsp = number(scratch + SCRATCH / 2 + next_random() % 64 * 8);
	size_t at = (size_t)(rsp - number(scratch)) - 128;

	randomize((uint8_t *)machine_in.reg, sizeof(machine_in.reg));
	randomize(scratch, SCRATCH);
	memcpy(scratch_before, scratch, SCRATCH);
	machine_in.reg[RSP] = rsp;
	machine_in.flags = (next_random() & USER_FLAGS) | 0x202;
	random_vector(machine_in.vector);
	machine_entry = number((const void *)(uintptr_t)body->call);
	/* Code may have been written through the alias. */
	__asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx) : : "memory");
	machine_run();
	if (machine_out.exit)
		return "the way out";
	if (memcmp(machine_in.reg, machine_out.reg, sizeof(machine_in.reg)))
		return "a register";
	if ((machine_in.flags ^ machine_out.flags) & USER_FLAGS)
		return "a flag";
	if (memcmp(machine_in.vector + 160, machine_out.vector + 160, 256))
		return "a vector register";
	if (memcmp(scratch + at, scratch_before + at, SCRATCH - at))
		return "the stack or the red zone";
	return NULL;
}

static void unnoticed(enum variant variant, bool registered)
{
	const struct body *body = &bare[variant];
	uint64_t own = sum(body), other = sum_shared(body), per_cpu = 0, rest = 0;
	const char *what = NULL;

	for (int i = 0; i < STATES && !what; i++)
		what = run(body);
	per_cpu = sum(body) - own;
	rest = sum_shared(body) - other;
	ok(!what, "%s, %sregistered: all is as it was%s%s", names[variant], registered ? "" : "un",
	   what ? " but " : "", what ? what : "");
	if (registered || variant >= LOCK)
		ok(per_cpu == STATES && rest == 0, "%" PRIu64 " hits counted per CPU", per_cpu);
	else
		ok(per_cpu == 0 && rest == STATES, "%" PRIu64 " hits in the shared cell", rest);
}

/* A breakpoint on each instruction in turn. */
static void interrupted(enum variant variant, bool registered)
{
	const struct body *body = &bare[variant];
	uint64_t address = number((const void *)(uintptr_t)body->call);
	int hits = 0, aborts = 0, wrong = 0;
	bool inside = false, ends;

	for (int at = 0; at < body->size;) {
		struct isa_insn insn;
		uint64_t start = address + (uint64_t)at, before = sum(body) + sum_shared(body);
		int n = isa_x86_64.decode(body->writable + at, (size_t)(body->size - at), start,
		                          &insn);
		const char *what;

		if (n < 0)
			break; /* the address behind a long jump */
		/* To be restarted: from the load of the CPU number to the store of the sum. */
		if (registered && !memcmp(body->writable + at, "\x64\x48\x63", 3))
			inside = true;
		ends = !memcmp(body->writable + at, "\x48\x89\x81", 3);
		breakpoint.body = body;
		breakpoint.offset = at;
		breakpoint.byte = body->writable[at];
		breakpoint.hits = breakpoint.aborts = 0;
		body->writable[at] = INT3;
		what = run(body);
		body->writable[at] = breakpoint.byte;
		if (what || breakpoint.hits > 1 || breakpoint.aborts != (inside ? 1 : 0) ||
		    sum(body) + sum_shared(body) != before + 1) {
			note("breakpoint at byte %d: %s; %d hits, %d aborts, %" PRIu64 " counted",
			     at, what ? what : "nothing differs", breakpoint.hits,
			     breakpoint.aborts, sum(body) + sum_shared(body) - before);
			wrong++;
		}
		inside &= !ends;
		hits += breakpoint.hits;
		aborts += breakpoint.aborts;
		at += n;
	}
	ok(!wrong && hits > 10 && (aborts > 3) == (registered && variant < LOCK),
	   "%s, %sregistered: %d instructions interrupted, %d restarts, each one hit",
	   names[variant], registered ? "" : "un", hits, aborts);
}

static void look_closely(bool registered)
{
	for (enum variant v = 0; v < VARIANTS; v++) {
		if (v == LOCK_RDPID && !rdpid)
			continue;
		unnoticed(v, registered);
		interrupted(v, registered);
	}
}

/* --- many threads -------------------------------------------------------------------------- */

static struct worker {
	pthread_t thread;
	pid_t tid;
	int cpu; /* to stay on, or -1 */
	bool unregistered;
	uint64_t calls, failed;
	volatile uint64_t handled;
	bool timed, done;
} workers[THREADS];

static __thread struct worker *self;
static uint64_t storm_aborts;
static cpu_set_t allowed;

static void on_timer(int signal, siginfo_t *info, void *context)
{
	uint64_t rip = (uint64_t)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];

	(void)signal, (void)info;
	for (enum variant v = 0; v < LOCK; v++)
		if (rip == bodies[v].rseq->abort)
			__atomic_fetch_add(&storm_aborts, 1, __ATOMIC_RELAXED);
	for (enum variant v = 0; v < LOCK_RDPID; v++)
		self->failed += bodies[v].call(7) != 1022;
	self->handled++;
}

static bool start_timer(timer_t *timer)
{
	struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN};
	struct itimerspec time = {{0, TIMER_NS}, {0, TIMER_NS}};

	event._sigev_un._tid = gettid();
	return timer_create(CLOCK_MONOTONIC, &event, timer) == 0 &&
	       timer_settime(*timer, 0, &time, NULL) == 0;
}

static bool enough(const struct worker *worker, int chunks)
{
	if (chunks < CHUNKS_MIN)
		return false;
	if (worker->unregistered)
		return true;
	return chunks >= CHUNKS_MAX ||
	       __atomic_load_n(&storm_aborts, __ATOMIC_RELAXED) >= ABORTS_WANTED;
}

static void *work(void *argument)
{
	struct worker *worker = self = argument;
	timer_t timer;

	if (worker->cpu >= 0) {
		cpu_set_t one;

		CPU_ZERO(&one);
		CPU_SET(worker->cpu, &one);
		worker->failed += sched_setaffinity(0, sizeof(one), &one) != 0;
	}
	if (worker->unregistered)
		worker->failed += !set_registered(false);
	__atomic_store_n(&worker->tid, gettid(), __ATOMIC_RELEASE);
	worker->timed = start_timer(&timer);
	for (int chunk = 0; !enough(worker, chunk); chunk++) {
		for (long i = 0; i < CHUNK; i++)
			for (enum variant v = 0; v < LOCK_RDPID; v++)
				worker->failed += bodies[v].call(i) != 3 * i + 1001;
		worker->calls += CHUNK;
	}
	if (worker->timed)
		timer_delete(timer);
	if (worker->unregistered)
		worker->failed += !set_registered(true);
	__atomic_store_n(&worker->done, true, __ATOMIC_RELEASE);
	return NULL;
}

static int nth_cpu(int n)
{
	n %= CPU_COUNT(&allowed);
	for (int cpu = 0;; cpu++)
		if (CPU_ISSET(cpu, &allowed) && n-- == 0)
			return cpu;
}

/* Move those about that are not pinned, until all are done. */
static void shake(void)
{
	bool running = true;

	for (int round = 0; running; round++) {
		running = false;
		for (int i = 0; i < THREADS; i++) {
			pid_t tid = __atomic_load_n(&workers[i].tid, __ATOMIC_ACQUIRE);
			cpu_set_t one;

			if (__atomic_load_n(&workers[i].done, __ATOMIC_ACQUIRE))
				continue;
			running = true;
			CPU_ZERO(&one);
			CPU_SET(nth_cpu(round + i), &one);
			if (tid && workers[i].cpu < 0)
				sched_setaffinity(tid, sizeof(one), &one);
		}
		clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){0, 100000}, NULL);
	}
}

static void storm(bool registered)
{
	uint64_t calls = 0, failed = 0, handled = 0, before[LOCK_RDPID], shared_before[LOCK_RDPID];
	bool timed = true;

	for (enum variant v = 0; v < LOCK_RDPID; v++) {
		before[v] = sum(&bodies[v]);
		shared_before[v] = sum_shared(&bodies[v]);
	}
	memset(workers, 0, sizeof(workers));
	for (int i = 0; i < THREADS; i++) {
		workers[i].cpu = i % 2 ? nth_cpu(i / 2) : -1;
		workers[i].unregistered = !registered;
		if (pthread_create(&workers[i].thread, NULL, work, &workers[i]))
			exit(1);
	}
	shake();
	for (int i = 0; i < THREADS; i++) {
		pthread_join(workers[i].thread, NULL);
		calls += workers[i].calls + workers[i].handled;
		handled += workers[i].handled;
		failed += workers[i].failed;
		timed &= workers[i].timed;
	}
	note("%" PRIu64 " calls, %" PRIu64 " of them in handlers; %" PRIu64 " restarts", calls,
	     handled, storm_aborts);
	ok(!failed && timed && handled, "%d %sregistered threads: every call has its result",
	   THREADS, registered ? "" : "un");
	for (enum variant v = 0; v < LOCK_RDPID; v++) {
		uint64_t own = sum(&bodies[v]) - before[v];
		uint64_t rest = sum_shared(&bodies[v]) - shared_before[v];
		bool expect_shared = !registered && v < LOCK;

		ok(own == (expect_shared ? 0 : calls) && rest == (expect_shared ? calls : 0),
		   "%s: %" PRIu64 " per CPU + %" PRIu64 " shared", names[v], own, rest);
	}
	if (registered)
		ok(storm_aborts >= ABORTS_WANTED, "sequences were restarted");
}

/* A thread that stays on one CPU counts there. */
static void right_cell(void)
{
	bool right = true;
	cpu_set_t one;

	for (int i = 0; i < CPU_COUNT(&allowed); i++) {
		int cpu = nth_cpu(i);

		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		if (sched_setaffinity(0, sizeof(one), &one))
			continue;
		for (enum variant v = 0; v < (rdpid ? VARIANTS : LOCK_RDPID); v++) {
			uint64_t before = cells[cpu].cell[v];

			right &= bodies[v].call(7) == 1022;
			right &= v == CROWD || cells[cpu].cell[v] == before + 1;
		}
	}
	sched_setaffinity(0, sizeof(allowed), &allowed);
	ok(right, "a hit goes to the cell of the CPU");
}

static void refusals(void)
{
	struct tramp_counters counters = {.kind = TRAMP_COUNTER_RSEQ};
	uint8_t code[120], out[TRAMP_BODY_MAX];
	struct tramp_body body = {&counters, 0, 0, code, 2, 0x1000, 0x1002};
	struct tramp_rseq rseq;

	memcpy(code, "\x0f\x05", 2); /* syscall */
	ok(tramp_body_x86(&body, 0x20000, out, &rseq) == -ENOTSUP, "syscall is not displaced");
	memset(code, 0x90, sizeof(code));
	body.size = sizeof(code);
	ok(tramp_body_x86(&body, 0x20000, out, &rseq) == -ENOTSUP,
	   "so much code that the locked path is out of reach");
	memcpy(code, "\x03\x05\0\0\0\0", 6); /* add 0(%rip),%eax */
	body.size = 6;
	ok(tramp_body_x86(&body, 0x20000, out, &rseq) > 0, "a near operand");
	ok(tramp_body_x86(&body, 0x7f0000000000, out, &rseq) < 0, "an operand out of reach");
	body.counters = NULL;
	body.size = 1;
	memset(&rseq, 1, sizeof(rseq));
	ok(tramp_body_x86(&body, 0x20000, out, &rseq) < 0 || out[0] != 0x03, "a cut instruction");
	body.size = 0;
	ok(tramp_body_x86(&body, 0x20000, out, &rseq) == 5 && rseq.abort == 0 && out[0] == 0xe9,
	   "nothing to count or displace: a jump");
}

int main(void)
{
	struct sigaction trap = {.sa_sigaction = on_breakpoint,
	                         .sa_flags = SA_SIGINFO | SA_ONSTACK};
	struct sigaction timer = {.sa_sigaction = on_timer, .sa_flags = SA_SIGINFO | SA_RESTART};
	unsigned a, b, c = 0, d;
	bool made = true;

	refusals();
	if (!__rseq_size) {
		skip("no restartable sequences in this machine");
		return done();
	}
	if (!find_xsave() || !map_arena() || sched_getaffinity(0, sizeof(allowed), &allowed))
		return 1;
	random_state = 0x5375747572653836;
	rdpid = __get_cpuid_count(7, 0, &a, &b, &c, &d) && (c >> 22 & 1);
	for (int cpu = 0; cpu < CPUS; cpu++)
		table[TRAMP_TABLE_BEFORE + cpu] = number(&cells[cpu]);
	for (int cpu = 0; cpu < CPUS; cpu++)
		crowd_table[TRAMP_TABLE_BEFORE + cpu] = number(&cells[0]);
	for (enum variant v = 0; v < VARIANTS; v++)
		made &= make_body(v, false) && make_body(v, true);
	if (!ok(made, "bodies"))
		return done();
	right_cell();
	catch_signals();
	sigaction(SIGTRAP, &trap, NULL);
	look_closely(true);
	ok(set_registered(false), "no longer registered");
	look_closely(false);
	ok(set_registered(true), "registered again");
	signal(SIGSEGV, SIG_DFL);
	signal(SIGILL, SIG_DFL);
	signal(SIGTRAP, SIG_DFL);
	sigaction(SIGRTMIN, &timer, NULL);
	storm(true);
	storm(false);
	return done();
}
#else
#include "tap.h"

int main(void)
{
	skip("runs x86-64 code that uses glibc's restartable sequences");
	return done();
}
#endif
