/* SPDX-License-Identifier: MIT */
/*
 * mutants.c - every ordering point left out, and what was done in the field instead; each with a
 * place where it is refuted.
 */
#include "check/check.h"
#include "check/scenarios/history.h"

#define POINT(id, mutant_name, on_scenario, on_machine, sentence)                                  \
	{                                                                                          \
		.name = mutant_name, .what = sentence, .scenario = on_scenario,                    \
		.machine = on_machine, .point = PORT_POINT_##id                                    \
	}
#define HARMLESS(field, id, mutant_name, on_scenario, on_machine, sentence)                        \
	{                                                                                          \
		.name = mutant_name, .what = sentence, .scenario = on_scenario,                    \
		.machine = on_machine, .field = id, .harmless = true                               \
	}
#define HISTORY(id, mutant_name, on_scenario, on_machine, sentence)                                \
	{                                                                                          \
		.name = mutant_name, .what = sentence, .scenario = on_scenario,                    \
		.machine = on_machine, .variant = VARIANT_##id, .historical = true                 \
	}

#define TEMPTING(id, mutant_name, on_scenario, on_machine, sentence)                               \
	{                                                                                          \
		.name = mutant_name, .what = sentence, .scenario = on_scenario,                    \
		.machine = on_machine, .variant = VARIANT_##id                                     \
	}

const struct mutant mutants[] = {
        /* what was done, and what one might do */
        HISTORY(LINUX_ARM, "linux-arm-sequence", "alias-stale-dcache", "kirkwood",
                "Linux' arm patch_text: clean the alias, unmap it, invalidate the I-cache at the "
                "execution address"),
        HISTORY(COPY, "copy-without-duties", "publish-other-users", "cortex-a53",
                "code is copied and called, no cache is told"),
        HISTORY(FLUSH_ALIAS, "flush-by-alias", "publish-other-users", "24kc",
                "the I-cache is invalidated by the address that was written, not the one that is "
                "executed"),
        HISTORY(NOSYNC_TWO, "nosync-two-instructions", "nosync-sequence", "cortex-a53",
                "several instructions are written while others execute them"),
        HISTORY(EVERYBODY, "stop-machine-on-all", "everybody-patches", "arm11mpcore",
                "stop_machine runs the patching function on every CPU"),
        HISTORY(FIRST_ARRIVER, "first-arriver-patches", "patch-before-quiescent", "cortex-a53",
                "the others wait for the end of patching, but the patcher does not wait for them"),
        HISTORY(LOOKUP_ONLY, "trap-lookup-only", "late-trap", "x86-64",
                "a trap that the registry does not know is taken for somebody else's"),
        TEMPTING(LOOKUP_ONCE, "trap-lookup-once", "probe-handover", "x86-64",
                 "the text is looked at after the registry, but the registry not again"),
        TEMPTING(RETIRE_FIRST, "retired-before-adopted", "registry-moved", "x86-64",
                 "the trap path forgets a registry before it knows the one that takes its place"),
        TEMPTING(SAME_PLACE, "resume-at-the-trap", "probe-cycle", "x86-64",
                 "whoever takes a trap is sent back to it, as if it were gone"),
        TEMPTING(SELF, "patch-anything", "self-patching", "x86-64",
                 "nobody asks whether the site is executed by the patching path itself"),
        HISTORY(FLUSH_BEFORE_MAP, "flush-before-map", "xol-unmapped", "24kc",
                "the out-of-line page is flushed while its address does not exist"),
        TEMPTING(FLUSH_BEFORE_MAP, "flush-before-map-smp", "xol-unmapped", "interaptiv",
                 "the out-of-line page is flushed while its address does not exist, on several "
                 "cores"),
        HISTORY(AS_NUMBER, "instruction-as-number", "endian", "cortex-a9",
                "an instruction is stored as a number in the CPU's byte order"),
        HISTORY(HALVES, "two-halfword-stores", "endian-halfwords", "cortex-a9",
                "a 32-bit Thumb instruction is stored as two halfwords while it is executed"),
        TEMPTING(LOCAL_FLUSH, "flush-here-only", "visible-everywhere", "arm11mpcore",
                 "the I-cache of the patching core is invalidated, where others do not hear it"),
        TEMPTING(LATE_ANNOUNCE, "announce-after-trap", "probe-cycle", "x86-64",
                 "the trap is written before the trap path knows of it"),
        TEMPTING(BREAKPOINT_WORDS, "trap-for-any-word", "probe-cycle", "cortex-a53",
                 "a breakpoint is stored over an instruction that may not be changed while it is "
                 "executed"),
        TEMPTING(COMPARE_NOTHING, "compare-nothing", "foreign-bytes", "cortex-a53",
                 "the old bytes are not compared"),
        TEMPTING(ICACHE_ONLY, "icache-only", "visible-everywhere", "cortex-a53",
                 "the I-cache is invalidated, and fills from memory while the D-cache has the new "
                 "code"),
        HARMLESS(variant, VARIANT_ICACHE_ONLY, "icache-only-idc", "visible-everywhere",
                 "neoverse-n1-erratum",
                 "only the I-cache is invalidated, where fetch finds what the D-cache holds"),
        TEMPTING(MEMCPY, "memcpy-one-word", "visible-everywhere", "cortex-a53",
                 "one aligned word that may be changed while it is executed, but written with "
                 "memcpy"),
        TEMPTING(SYNC_MASKED, "interrupt-while-masked", "everybody-patches", "cortex-a53",
                 "the patcher interrupts cores that wait for it with interrupts masked"),
        TEMPTING(NO_ROLLBACK, "no-rollback", "batch-fails", "cortex-a53",
                 "a batch that fails in the middle is left as it is"),
        /* what is left out */
        POINT(LOCK, "without-lock", "two-patchers", "cortex-a53", "no lock is taken"),
        POINT(CLEAN, "without-clean", "alias-stale-dcache", "kirkwood",
              "what was written is not written back (duty 1)"),
        POINT(CLOSE, "without-close", "batch-of-two", "kirkwood",
              "the D-cache keeps the alias, whose address next stands for other text"),
        POINT(DROP_READ, "without-drop-read", "alias-stale-dcache", "kirkwood",
              "D-cache lines at the execution address are kept (duty 2)"),
        POINT(DROP_EXECUTED, "without-drop-executed", "visible-everywhere", "cortex-a53",
              "I-cache lines are kept (duty 3)"),
        POINT(DROP_EXECUTED, "erratum-1542419", "visible-everywhere", "neoverse-n1-erratum",
              "the I-cache is believed to be coherent, as the hardware says"),
        HARMLESS(point, PORT_POINT_DROP_EXECUTED, "without-drop-executed-dic", "visible-everywhere",
                 "neoverse-n1", "duty 3, where I-caches follow the D-cache"),
        POINT(SYNC, "without-sync", "visible-everywhere", "neoverse-n1",
              "nosync without a context synchronisation event on the other cores"),
        POINT(SYNC_TRAPS, "without-sync-traps", "hook", "x86-64",
              "the tail is written while somebody may still start the old instruction"),
        POINT(SYNC_TAILS, "without-sync-tails", "hook", "x86-64",
              "the head is written while somebody may still have the old tail"),
        POINT(SYNC_HEADS, "without-sync-heads", "hook", "x86-64",
              "the call returns while somebody may still meet the trap"),
        POINT(STOP, "without-stop", "hook-stopped", "cortex-a53", "nobody is stopped"),
        POINT(OCCUPIED, "without-occupied", "hook-stragglers", "cortex-a53",
              "nobody looks where the threads stand"),
        POINT(SYNC_REST, "without-sync-rest", "hook-stopped", "x86-64",
              "the writer itself goes on with what it has fetched"),
        POINT(MASK, "without-mask", "exception-in-quiescence", "cortex-a53",
              "cores at rest take exceptions"),
        POINT(COMPLETE, "without-complete", "arrival-before-completion", "cortex-a53",
              "a core announces itself while its loads are under way"),
        POINT(HOLD, "without-hold", "everybody-patches", "cortex-a53",
              "cores leave before the change is made"),
        POINT(DROP_LOCAL, "without-drop-local", "everybody-patches", "arm11mpcore",
              "only the patching core drops I-cache lines, where nothing is broadcast"),
        POINT(SYNC_SELF, "without-sync-self", "everybody-patches", "riscv",
              "cores leave without a context synchronisation event"),
        POINT(ANNOUNCE, "without-announce", "key-breakpoint", "cortex-a53",
              "the trap may be visible before the registry is"),
        HARMLESS(point, PORT_POINT_ANNOUNCE, "without-announce-tso", "key-breakpoint", "x86-64",
                 "the trap may be visible before the registry, where stores become visible in "
                 "order"),
        POINT(LOOK, "without-look", "probe-handover", "riscv",
              "the trap path may look at the registry again before it looks at the text"),
        POINT(GRACE, "without-grace", "slot-reclaimed", "x86-64",
              "an out-of-line slot is given back while somebody is on the way to it"),
        POINT(GRACE, "without-grace-later", "slot-reclaimed-later", "cortex-a53",
              "nor does the caller wait, who said that he would"),
};
const unsigned mutants_count = sizeof(mutants) / sizeof(mutants[0]);
