/* SPDX-License-Identifier: MIT */
/*
 * machines.c - the machines that the protocol is checked on.
 *
 * A row is what software may rely on, so it is the worst that the manual allows. What was read
 * where, and what is from memory, is in docs/machines.md.
 */
#include "check/isa_model.h"
#include "port/model/machine.h"

enum { SEVERAL = 3 }; /* cores: one that patches, and two that need not agree */

#define ARM_V8                                                                                     \
	"DDI 0487 B2.2.5 (concurrent modification), B2.3 (order), "                                \
	"B2.4.4 and CTR_EL0 (IDC, DIC, IC IVAU, ISB)"

const struct machine machines[] = {
        {
                .name = "kirkwood",
                .what = "Marvell 88F6281, Feroceon 88FR131, ARMv5TE",
                .source = "DDI 0100I B6 (virtual caches, IMB); Linux proc-feroceon.S "
                          "(cache operations, their scope), setup.c cacheid_init (VIVT); "
                          "fetch_ahead: DDI 0198D 7.1.2 (ARM926), doubled",
                .isa = &isa_model_a32,
                .cpus = 1,
                .data = {MACHINE_VIVT, 1},
                .instruction = {MACHINE_VIVT, 1},
                .order = MACHINE_ORDER_PROGRAM,
                .fetch_ahead = 8,
                .exceptions_synchronise = true,
                .store_unit = 4,
        },
        {
                .name = "arm1136",
                .what = "ARM1136JF-S with 32 KiB caches (OMAP2420), ARMv6",
                .source = "DDI 0211H 6.11.3 (page colouring, 4 ways), 3.3 c0 (Cache Type P bits), "
                          "c7 (cache operations, Flush Prefetch Buffer)",
                .isa = &isa_model_a32,
                .cpus = 1,
                .data = {MACHINE_VIPT, 2},
                .instruction = {MACHINE_VIPT, 2},
                .order = MACHINE_ORDER_PROGRAM,
                .fetch_ahead = MACHINE_FETCH_UNBOUNDED,
                .exceptions_synchronise = true,
                .store_unit = 4,
        },
        {
                .name = "arm11mpcore",
                .what = "ARM11 MPCore, ARMv6K: cache maintenance stays on its core",
                .source = "DDI 0360 (Cache Type Register 0x1d192992 as QEMU's arm11mpcore has it: "
                          "only the I-cache needs colouring); broadcast: ID_MMFR3[15:12] = 0, "
                          "Linux asm/smp_plat.h cache_ops_need_broadcast",
                .isa = &isa_model_a32,
                .cpus = SEVERAL,
                .data = {MACHINE_PIPT, 1},
                .instruction = {MACHINE_VIPT, 2},
                .order = MACHINE_ORDER_WEAK,
                .fetch_ahead = MACHINE_FETCH_UNBOUNDED,
                .exceptions_synchronise = true,
                .store_unit = 4,
        },
        {
                .name = "cortex-a9",
                .what = "Cortex-A9 MPCore with 32 KiB caches, ARMv7-A, big-endian data (BE8)",
                .source = "DDI 0388I 7.1.1 (VIPT I, 4 ways); DDI 0406B B3.4 (D behaves as PIPT), "
                          "A3.5.4 (concurrent modification), A3.2 (BE8); DDI 0407 1.7.1 (order), "
                          "1.7.3 (broadcast)",
                .isa = &isa_model_a32,
                .cpus = SEVERAL,
                .data = {MACHINE_PIPT, 1},
                .instruction = {MACHINE_VIPT, 2},
                .broadcast = true,
                .order = MACHINE_ORDER_WEAK,
                .fetch_ahead = MACHINE_FETCH_UNBOUNDED,
                .exceptions_synchronise = true,
                .store_unit = 4,
                .big_endian = true,
        },
        {
                .name = "cortex-a53",
                .what = "Cortex-A53 with a 32 KiB I-cache, Armv8.0-A: neither IDC nor DIC",
                .source = "DDI 0500 2.1.1 (VIPT I, 2 ways), 4.3 CTR_EL0; " ARM_V8,
                .isa = &isa_model_a64,
                .cpus = SEVERAL,
                .data = {MACHINE_PIPT, 1},
                .instruction = {MACHINE_VIPT, 4},
                .broadcast = true,
                .order = MACHINE_ORDER_WEAK,
                .fetch_ahead = MACHINE_FETCH_UNBOUNDED,
                .exceptions_synchronise = true,
                .store_unit = 4,
        },
        {
                .name = "neoverse-n1",
                .what = "Neoverse N1 with coherent I-caches, Armv8.2-A: IDC and DIC",
                .source = "100616 A6.1 (caches behave as PIPT), B2 CTR_EL0; " ARM_V8,
                .isa = &isa_model_a64,
                .cpus = SEVERAL,
                .data = {MACHINE_PIPT, 1},
                .instruction = {MACHINE_PIPT, 1},
                .fetch_from_data = true,
                .instruction_coherent = true,
                .broadcast = true,
                .order = MACHINE_ORDER_WEAK,
                .fetch_ahead = MACHINE_FETCH_UNBOUNDED,
                .exceptions_synchronise = true,
                .store_unit = 4,
        },
        {
                .name = "neoverse-n1-erratum",
                .what = "Neoverse N1 with erratum 1542419 as user space sees it: DIC hidden",
                .source = "SDEN-885747 1542419; Linux cpu_errata.c, traps.c ctr_read_handler "
                          "(DIC hidden, IC IVAU trapped by firmware); 100616 A6.1; " ARM_V8,
                .isa = &isa_model_a64,
                .cpus = SEVERAL,
                .data = {MACHINE_PIPT, 1},
                .instruction = {MACHINE_PIPT, 1},
                .fetch_from_data = true,
                .broadcast = true,
                .order = MACHINE_ORDER_WEAK,
                .fetch_ahead = MACHINE_FETCH_UNBOUNDED,
                .exceptions_synchronise = true,
                .store_unit = 4,
        },
        {
                .name = "24kc",
                .what = "MIPS32 24Kc with 32 KiB caches, release 2, big-endian",
                .source = "MD00343 (caches, Config7.AR = 0, instruction buffer); MD00086 SYNCI, "
                          "JR.HB; Linux c-r4k.c probe_pcache, __local_r4k_flush_icache_range",
                .isa = &isa_model_mips,
                .cpus = 1,
                .data = {MACHINE_VIPT, 2},
                .instruction = {MACHINE_VIPT, 2},
                .order = MACHINE_ORDER_PROGRAM,
                .fetch_ahead = 12,
                .exceptions_synchronise = true,
                .store_unit = 4,
                .big_endian = true,
        },
        {
                .name = "interaptiv",
                .what = "MIPS32 interAptiv with 32 KiB caches and CM2, big-endian",
                .source = "MD00904 (caches, CM2); MD00086 SYNCI, SYNC, JR.HB; Linux c-r4k.c "
                          "r4k_op_needs_ipi (hit operations are globalised), probe_pcache "
                          "(Config7.AR, IAR; I not filled from D), Kconfig MIPS_CPS (order)",
                .isa = &isa_model_mips,
                .cpus = SEVERAL,
                .data = {MACHINE_PIPT, 1},
                .instruction = {MACHINE_VIPT, 2},
                .broadcast = true,
                .order = MACHINE_ORDER_WEAK,
                .fetch_ahead = MACHINE_FETCH_UNBOUNDED,
                .exceptions_synchronise = true,
                .store_unit = 4,
                .big_endian = true,
        },
        {
                .name = "riscv",
                .what = "what RV64G with Zifencei and Ziccif promises",
                .source = "Unprivileged ISA: Zifencei (fence.i is local; it sees what is visible "
                          "to its hart), RVWMO; profiles: Ziccif (aligned fetch is atomic)",
                .isa = &isa_model_riscv,
                .cpus = SEVERAL,
                .data = {MACHINE_PIPT, 1},
                .instruction = {MACHINE_PIPT, 1},
                .fetch_from_data = true,
                .order = MACHINE_ORDER_WEAK,
                .fetch_ahead = MACHINE_FETCH_UNBOUNDED,
                .store_unit = 4,
        },
        {
                .name = "x86-64",
                .what = "what Intel 64 and AMD64 promise",
                .source = "SDM vol. 3: 9.1.3 (8.1.3 in older editions; cross-modifying code), 12.6 "
                          "(11.6; I-caches follow writes by physical address), 9.2 (8.2; order); "
                          "APM vol. 2: 7.6.1",
                .isa = &isa_x86_64,
                .cpus = SEVERAL,
                .data = {MACHINE_PIPT, 1},
                .instruction = {MACHINE_PIPT, 1},
                .fetch_from_data = true,
                .instruction_coherent = true,
                .broadcast = true,
                .order = MACHINE_ORDER_TSO,
                .fetch_ahead = MACHINE_FETCH_UNBOUNDED,
                .exceptions_synchronise = true,
                .store_unit = 1,
        },
};

const unsigned machines_count = sizeof(machines) / sizeof(machines[0]);
