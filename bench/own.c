/* SPDX-License-Identifier: MIT */
/*
 * own - what hooks, probes and keys of one's own process cost a call; see measure.h.
 *
 * Bodies are written in assembly, so that every case has the very same one, at the same distance
 * from a cache line.
 */
#include "measure.h"
#include "suture/hook.h"
#include "suture/key.h"
#include "suture/probe.h"

#define FUNCTION(name, head)                                                                       \
	measured_function name;                                                                    \
	__asm__(".pushsection .text\n.balign 64\n.globl " #name "\n.type " #name                   \
	        ", @function\n" #name ":\n" head "lea 1(%rdi), %rax\nret\n.size " #name            \
	        ", . - " #name "\n.popsection")

/* Short instructions whose bytes, read as a distance, lead to where nothing is. */
#define LEADS_AWAY "nop\nmov %eax, %eax\nmov %ecx, %ecx\n"
/* ... and to this program's own text, where no trampoline can be. */
#define LEADS_HOME "nop\nmov $5, %eax\n"

FUNCTION(bare, LEADS_AWAY);
FUNCTION(bare_window, LEADS_HOME);
FUNCTION(hooked, LEADS_AWAY);
FUNCTION(hooked_window, LEADS_HOME);
FUNCTION(wrapped, LEADS_AWAY);
FUNCTION(wrapped_window, LEADS_HOME);
FUNCTION(counted, LEADS_AWAY);
FUNCTION(counted_window, LEADS_HOME);
FUNCTION(summed, LEADS_AWAY);
FUNCTION(posted, LEADS_AWAY);
FUNCTION(trapped, LEADS_AWAY);
FUNCTION(outer, LEADS_AWAY);
FUNCTION(inner, LEADS_AWAY);
FUNCTION(uprobed, LEADS_AWAY);
FUNCTION(replacement, LEADS_AWAY);
FUNCTION(no_key, "");
FUNCTION(nop_for_key, ".byte 0x0f, 0x1f, 0x44, 0x00, 0x00\n"); /* nopl 0(%rax,%rax,1) */

/* ---- handlers and replacements ---- */

static measured_function *original, *original_window;

/* Not a jump: what it does after the original is what replacements are for. */
#define WRAP(name, from)                                                                           \
	static __attribute__((noinline)) uint64_t name(uint64_t x)                                 \
	{                                                                                          \
		uint64_t result = from(x);                                                         \
                                                                                                   \
		__asm__ volatile("" : "+r"(result));                                               \
		return result;                                                                     \
	}
WRAP(wrap, original)
WRAP(wrap_window, original_window)
WRAP(wrap_bare, bare)

static volatile uint64_t hits, inner_hits;

static void count(struct suture_regs *regs, void *arg)
{
	(void)regs;
	(void)arg;
	hits++;
}

static volatile double total;

static void sum(struct suture_regs *regs, void *arg)
{
	(void)arg;
	total += (double)regs->rdi;
	hits++;
}

/* ---- a hit that is missed: inside a handler ---- */

static uint64_t missed_calls;
static double missed_ns;

static void call_inner(struct suture_regs *regs, void *arg)
{
	(void)regs;
	(void)arg;
	missed_ns = measure_calls(inner, missed_calls);
}

static void count_inner(struct suture_regs *regs, void *arg)
{
	(void)regs;
	(void)arg;
	inner_hits++;
}

static double measure_missed(uint64_t calls)
{
	missed_calls = calls;
	outer(0);
	if (inner_hits) {
		fprintf(stderr, "bench: a probe was hit inside a handler\n");
		abort();
	}
	return missed_ns;
}

/* ---- keys, and what they stand in for ---- */

SUTURE_KEY_DEFINE(off, false);
SUTURE_KEY_DEFINE(on, false);
static bool flag;

#define PLAIN __attribute__((noinline, aligned(64)))

/* Never called by the cases that are off; keeps the way there from being merged. */
static PLAIN uint64_t other_way(uint64_t x)
{
	__asm__ volatile("");
	return x + 2;
}

static PLAIN uint64_t key_off(uint64_t x)
{
	return suture_key_unlikely(&off) ? other_way(x) : x + 1;
}

static PLAIN uint64_t key_on(uint64_t x)
{
	return suture_key_unlikely(&on) ? x + 1 : other_way(x);
}

static PLAIN uint64_t load_and_branch(uint64_t x)
{
	return __builtin_expect(__atomic_load_n(&flag, __ATOMIC_RELAXED), 0) ? other_way(x) : x + 1;
}

/* ---- set up ---- */

static void fail(const char *what, int rc, const char *message)
{
	fprintf(stderr, "bench/own: %s: %s: %s\n", what, strerror(-rc), message);
	exit(1);
}

static const char *hook(const char *name, measured_function *function, measured_function *to,
                        measured_function **below)
{
	struct suture_hook_spec spec = {(void *)function, (void *)to, (void **)below};
	char message[256] = "";
	struct suture_text_options options = {
	        .size = sizeof(options), .message = message, .message_size = sizeof(message)};
	struct suture_hook *hook;
	int rc = suture_hook_install(&spec, 1, &hook, &options);

	if (rc)
		fail(name, rc, message);
	return suture_site_kind_name(suture_hook_kind(hook));
}

static struct suture_probe *probe(const char *name, void *address, suture_probe_fn pre,
                                  suture_probe_fn post)
{
	struct suture_probe_spec spec = {.address = address, .pre = pre, .post = post};
	char message[256] = "";
	struct suture_text_options options = {
	        .size = sizeof(options), .message = message, .message_size = sizeof(message)};
	struct suture_probe *probe;
	int rc = suture_probe_install(&spec, 1, &probe, &options);

	if (rc)
		fail(name, rc, message);
	return probe;
}

static const char *probed(const char *name, measured_function *function, suture_probe_fn pre,
                          suture_probe_fn post)
{
	struct suture_probe *one = probe(name, (void *)function, pre, post);

	return suture_site_kind_name(suture_probe_kind(one));
}

/* Where the next instruction has a probe there is no room for a jump. Taken away again, it leaves
 * the first one as it is. */
static const char *trap(const char *name)
{
	struct suture_probe *next = probe(name, (char *)trapped + 1, count, NULL);
	const char *kind = probed(name, trapped, count, NULL);
	int rc = suture_probe_remove(&next, 1, NULL);

	if (rc)
		fail(name, rc, "removal of its neighbour");
	return kind;
}

int main(void)
{
	struct measured cases[] = {
	        {"bare", bare, NULL, NULL, NULL},
	        {"bare_window", bare_window, NULL, NULL, NULL},
	        {"bare_wrapped", wrap_bare, NULL, NULL, NULL},
	        {"hook", hooked, hook("hook", hooked, replacement, NULL), NULL, NULL},
	        {"hook_window", hooked_window,
	         hook("hook_window", hooked_window, replacement, NULL), NULL, NULL},
	        {"hook_original", wrapped, hook("hook_original", wrapped, wrap, &original), NULL,
	         NULL},
	        {"hook_original_window", wrapped_window,
	         hook("hook_original_window", wrapped_window, wrap_window, &original_window), NULL,
	         NULL},
	        {"probe", counted, probed("probe", counted, count, NULL), &hits, NULL},
	        {"probe_window", counted_window,
	         probed("probe_window", counted_window, count, NULL), &hits, NULL},
	        {"probe_vector", summed, probed("probe_vector", summed, sum, NULL), &hits, NULL},
	        {"probe_post", posted, probed("probe_post", posted, NULL, count), &hits, NULL},
	        {"probe_trap", trapped, trap("probe_trap"), &hits, NULL},
	        {"probe_missed", inner, probed("probe_missed", inner, count_inner, NULL), NULL,
	         measure_missed},
	        {"no_key", no_key, NULL, NULL, NULL},
	        {"nop", nop_for_key, NULL, NULL, NULL},
	        {"key_off", key_off, NULL, NULL, NULL},
	        {"key_on", key_on, NULL, NULL, NULL},
	        {"load_and_branch", load_and_branch, NULL, NULL, NULL},
	        {"uprobe", uprobed, NULL, NULL, NULL},
	};
	int rc = suture_key_enable(&on);

	if (rc)
		fail("key_on", rc, "");
	/* The one whose handler measures; last, as there must be no other. */
	probe("probe_missed", (void *)outer, call_inner, NULL);
	return measure_serve(cases, sizeof(cases) / sizeof(*cases));
}
