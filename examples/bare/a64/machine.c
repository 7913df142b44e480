/* SPDX-License-Identifier: MIT */
/*
 * machine.c - the hardware, and the functions that suture asks for.
 *
 * QEMU's `virt`, with GICv2: devices below 1 GiB, memory above. Memory is mapped where it is, text
 * read-only and executable, all else writable and not; one table entry more, at 4 GiB, holds the
 * alias through which text is written.
 */
#include <suture/bare.h>
#include "kernel.h"

enum { PAGE = 4096, ENTRIES = 512, CONSOLE = 0x09000000, GICD = 0x08000000, GICC = 0x08010000 };

#define ALIAS (UINT64_C(1) << 32)

/* Descriptors (DDI 0487, D8.3): valid, access flag, inner shareable, EL0 never executes. */
#define TABLE       UINT64_C(3)
#define BLOCK       (UINT64_C(1) | 1 << 10 | UINT64_C(1) << 54)
#define PAGE_ENTRY  (UINT64_C(3) | 1 << 10 | 3 << 8 | UINT64_C(1) << 54)
#define NORMAL      (UINT64_C(0) << 2) /* MAIR_EL1 attribute 0 */
#define DEVICE      (UINT64_C(1) << 2)
#define SHARED      (UINT64_C(3) << 8)
#define READ_ONLY   (UINT64_C(2) << 6)
#define NOT_EXECUTE (UINT64_C(1) << 53)

typedef uint64_t table[ENTRIES] __attribute__((aligned(PAGE)));
static table level1, memory, first, alias2, alias3;

static MACHINE_TEXT volatile uint32_t *device(uint64_t address)
{
	return (volatile uint32_t *)address;
}

/* ---- console, power ---- */

void console(const char *text)
{
	while (*text)
		*device(CONSOLE) = (uint32_t)*text++;
}

void console_number(int64_t number)
{
	char digits[21];
	char *at = digits + sizeof(digits) - 1;
	uint64_t rest = number < 0 ? -(uint64_t)number : (uint64_t)number;

	*at = 0;
	do {
		*--at = (char)('0' + rest % 10);
		rest /= 10;
	} while (rest);
	if (number < 0)
		*--at = '-';
	console(at);
}

/* Semihosting: SYS_EXIT with a status. */
void power_off(int status)
{
	const uint64_t block[2] = {0x20026, (uint64_t)status};
	register uint64_t call __asm__("x0") = 0x18;
	register const uint64_t *argument __asm__("x1") = block;

	__asm__ volatile("hlt #0xf000" : : "r"(call), "r"(argument) : "memory");
	for (;;)
		__asm__ volatile("wfi");
}

/* PSCI 0.2 CPU_ON, by HVC as the device tree of `virt` says. */
int core_on(uint32_t core)
{
	register uint64_t x0 __asm__("x0") = 0xC4000003;
	register uint64_t x1 __asm__("x1") = core;
	register uint64_t x2 __asm__("x2") = (uint64_t)start_secondary;
	register uint64_t x3 __asm__("x3") = core;

	__asm__ volatile("hvc #0" : "+r"(x0) : "r"(x1), "r"(x2), "r"(x3) : "memory");
	return (int)x0;
}

/* ---- memory ---- */

void mmu_tables(void)
{
	uint64_t start = UINT64_C(1) << 30;

	level1[0] = BLOCK | DEVICE | NOT_EXECUTE;
	level1[1] = (uint64_t)memory | TABLE;
	level1[4] = (uint64_t)alias2 | TABLE;
	alias2[0] = (uint64_t)alias3 | TABLE;
	memory[0] = (uint64_t)first | TABLE;
	for (uint64_t i = 1; i < ENTRIES; i++)
		memory[i] = (start + (i << 21)) | BLOCK | NORMAL | SHARED | NOT_EXECUTE;
	for (uint64_t i = 0; i < ENTRIES; i++) {
		uint64_t address = start + i * PAGE;
		bool text = address >= (uint64_t)text_start && address < (uint64_t)text_end;

		first[i] = address | PAGE_ENTRY | NORMAL | (text ? READ_ONLY : NOT_EXECUTE);
	}
}

void mmu_enable(void)
{
	/* 39-bit addresses of 4 KiB pages by TTBR0 only; walks cacheable, inner shareable. */
	uint64_t tcr = 25 | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 23 | UINT64_C(2) << 32;
	uint64_t control;

	__asm__ volatile("msr mair_el1, %0\n\t"
	                 "msr tcr_el1, %1\n\t"
	                 "msr ttbr0_el1, %2\n\t"
	                 "dsb sy\n\t"
	                 "isb\n\t"
	                 "tlbi vmalle1\n\t"
	                 "ic iallu\n\t"
	                 "dsb sy\n\t"
	                 "isb"
	                 :
	                 : "r"(UINT64_C(0x04FF)), "r"(tcr), "r"(level1)
	                 : "memory");
	__asm__ volatile("mrs %0, sctlr_el1" : "=r"(control));
	/* MMU, D-cache, I-cache, and what is writable is never executed (WXN). */
	control |= 1 | 1 << 2 | 1 << 12 | 1 << 19;
	__asm__ volatile("msr sctlr_el1, %0\n\tisb" : : "r"(control) : "memory");
}

/* ---- interrupts ---- */

void interrupts_start(void)
{
	*device(GICD) = 1;        /* GICD_CTLR */
	*device(GICC + 4) = 0xFF; /* GICC_PMR */
	*device(GICC) = 1;        /* GICC_CTLR */
	interrupts_enable(true);
}

void interrupts_enable(bool enable)
{
	if (enable)
		__asm__ volatile("msr daifclr, #15" : : : "memory");
	else
		__asm__ volatile("msr daifset, #15" : : : "memory");
}

MACHINE_TEXT void on_interrupt(struct frame *frame)
{
	uint32_t acknowledged = *device(GICC + 0xC);

	(void)frame;
	*device(GICC + 0x10) = acknowledged;
	if ((acknowledged & 0x3FF) == 0)
		suture_bare_interrupt();
}

/* ---- exceptions ---- */

uint32_t refused_stores;

MACHINE_TEXT void on_exception(struct frame *frame)
{
	uint64_t syndrome, onward = 0;
	unsigned class;

	__asm__ volatile("mrs %0, esr_el1" : "=r"(syndrome));
	class = syndrome >> 26 & 63;
	if (class == 0x3C) { /* BRK */
		onward = suture_bare_trap(frame->pc, frame);
	} else if (class == 0x25 && (syndrome & 0x3C) == 0x0C) { /* permission, here */
		refused_stores++;
		onward = frame->pc + 4;
	}
	if (!onward)
		on_other(frame);
	frame->pc = onward;
}

MACHINE_TEXT void on_other(struct frame *frame)
{
	uint64_t syndrome;

	__asm__ volatile("mrs %0, esr_el1" : "=r"(syndrome));
	console("Bail out! exception, ESR ");
	console_number((int64_t)syndrome);
	console(" at ");
	console_number((int64_t)frame->pc);
	console("\n");
	power_off(2);
}

/* ---- what the compiler asks for ---- */

void *memset(void *to, int byte, size_t size);
void *memcpy(void *to, const void *from, size_t size);

MACHINE_TEXT void *memset(void *to, int byte, size_t size)
{
	for (char *t = to; size--;)
		*t++ = (char)byte;
	return to;
}

MACHINE_TEXT void *memcpy(void *to, const void *from, size_t size)
{
	const char *f = from;

	for (char *t = to; size--;)
		*t++ = *f++;
	return to;
}

/* ---- what suture asks for ---- */

MACHINE_TEXT bool suture_machine_is_text(uint64_t address, size_t size)
{
	return address >= (uint64_t)text_start && address < (uint64_t)text_end &&
	       size <= (uint64_t)text_end - address;
}

/* Memory is mapped where it is: the page's number is its physical address. */
MACHINE_TEXT void *suture_machine_map(uint64_t address, size_t size)
{
	uint64_t page = address & ~(uint64_t)(PAGE - 1);
	uint64_t pages = (address + size - 1 - page) / PAGE + 1;

	if (pages > 2)
		return NULL;
	for (uint64_t i = 0; i < pages; i++)
		*(volatile uint64_t *)&alias3[i] =
		        (page + i * PAGE) | PAGE_ENTRY | NORMAL | NOT_EXECUTE;
	__asm__ volatile("dsb ishst\n\tisb" : : : "memory");
	return (void *)(ALIAS + (address - page));
}

MACHINE_TEXT void suture_machine_unmap(void *alias, size_t size)
{
	(void)alias, (void)size;
	for (uint64_t i = 0; i < 2; i++)
		*(volatile uint64_t *)&alias3[i] = 0;
	__asm__ volatile("dsb ishst" : : : "memory");
	for (uint64_t i = 0; i < 2; i++)
		__asm__ volatile("tlbi vaae1is, %0" : : "r"((ALIAS >> 12) + i) : "memory");
	__asm__ volatile("dsb ish\n\tisb" : : : "memory");
}

MACHINE_TEXT uint32_t suture_machine_core(void)
{
	uint64_t core;

	__asm__ volatile("mrs %0, tpidr_el1" : "=r"(core));
	return (uint32_t)core;
}

/* Software-generated interrupt 0 (GICD_SGIR). */
MACHINE_TEXT void suture_machine_interrupt(uint32_t core)
{
	*device(GICD + 0xF00) = 1u << (16 + core);
}

/* There is nothing of firmware's to mask on this machine. */
MACHINE_TEXT uint64_t suture_machine_mask(void)
{
	uint64_t state;

	__asm__ volatile("mrs %0, daif\n\tmsr daifset, #15" : "=r"(state) : : "memory");
	return state;
}

MACHINE_TEXT void suture_machine_unmask(uint64_t state)
{
	__asm__ volatile("msr daif, %0" : : "r"(state) : "memory");
}

MACHINE_TEXT uint64_t suture_machine_now(void)
{
	uint64_t count, frequency;

	__asm__ volatile("isb\n\tmrs %0, cntvct_el0" : "=r"(count) : : "memory");
	__asm__ volatile("mrs %0, cntfrq_el0" : "=r"(frequency));
	return count / frequency * 1000000000u + count % frequency * 1000000000u / frequency;
}
