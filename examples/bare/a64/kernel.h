/* SPDX-License-Identifier: MIT */
/* kernel.h - a kernel of four cores on QEMU's `virt`: what its files know of each other. */
#ifndef KERNEL_H
#define KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CORES = 4 };

/* What suture stands on, and what runs in exceptions: kept from being patched. */
#define MACHINE_TEXT __attribute__((section(".text.machine")))

/* As start.S saves them. */
struct frame {
	uint64_t x[31];
	uint64_t pc, state, unused;
};

extern const char text_start[], text_end[], noinstr_start[], noinstr_end[];

/* machine.c */
void console(const char *text);
void console_number(int64_t number);
_Noreturn void power_off(int status);
int core_on(uint32_t core);
void interrupts_start(void);
void interrupts_enable(bool enable);

/* start.S, to C and back */
void start_secondary(void);
void mmu_tables(void);
void mmu_enable(void);
void kernel_main(void);
void kernel_secondary(uint32_t core);
void on_exception(struct frame *frame);
void on_interrupt(struct frame *frame);
_Noreturn void on_other(struct frame *frame);

/* Stores that were refused because their address is not writable; see on_exception. */
extern uint32_t refused_stores;

#endif
