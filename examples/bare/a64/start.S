/* SPDX-License-Identifier: MIT */
/* start.S - the first instructions of each core, and the exception vectors. */

#define STACK_SIZE 32768

	.section .text.start, "ax"
	.global _start
_start:
	ldr	x1, =bss_start
	ldr	x2, =bss_end
1:	cmp	x1, x2
	b.hs	2f
	stp	xzr, xzr, [x1], #16
	b	1b
2:	mov	x19, #0
	bl	load_stack
	bl	mmu_tables
	b	common

/* PSCI hands over what CPU_ON was given: the core's number. */
	.global start_secondary
start_secondary:
	mov	x19, x0
	bl	load_stack
common:
	ldr	x0, =vectors
	msr	vbar_el1, x0
	bl	mmu_enable
	msr	tpidr_el1, x19
	isb
	mov	x0, x19
	cbnz	x19, 3f
	bl	kernel_main
3:	bl	kernel_secondary
4:	wfi
	b	4b

load_stack:
	ldr	x0, =stacks
	add	x1, x19, #1
	mov	x2, #STACK_SIZE
	madd	x0, x1, x2, x0
	mov	sp, x0
	ret

	.macro	save
	sub	sp, sp, #272
	stp	x0, x1, [sp, #0]
	stp	x2, x3, [sp, #16]
	stp	x4, x5, [sp, #32]
	stp	x6, x7, [sp, #48]
	stp	x8, x9, [sp, #64]
	stp	x10, x11, [sp, #80]
	stp	x12, x13, [sp, #96]
	stp	x14, x15, [sp, #112]
	stp	x16, x17, [sp, #128]
	stp	x18, x19, [sp, #144]
	stp	x20, x21, [sp, #160]
	stp	x22, x23, [sp, #176]
	stp	x24, x25, [sp, #192]
	stp	x26, x27, [sp, #208]
	stp	x28, x29, [sp, #224]
	mrs	x0, elr_el1
	mrs	x1, spsr_el1
	stp	x30, x0, [sp, #240]
	str	x1, [sp, #256]
	mov	x0, sp
	.endm

	.macro	vector handler
	.balign	128
	b	\handler
	.endm

	.section .text.vectors, "ax"
	.balign	2048
vectors:
	.rept	4		/* on SP_EL0: never */
	vector	entry_other
	.endr
	vector	entry_synchronous
	vector	entry_interrupt
	vector	entry_other
	vector	entry_other
	.rept	8		/* from EL0: never */
	vector	entry_other
	.endr
	.balign	128

entry_synchronous:
	save
	bl	on_exception
	b	leave
entry_interrupt:
	save
	bl	on_interrupt
leave:
	ldr	x1, [sp, #256]
	ldp	x30, x0, [sp, #240]
	msr	elr_el1, x0
	msr	spsr_el1, x1
	ldp	x0, x1, [sp, #0]
	ldp	x2, x3, [sp, #16]
	ldp	x4, x5, [sp, #32]
	ldp	x6, x7, [sp, #48]
	ldp	x8, x9, [sp, #64]
	ldp	x10, x11, [sp, #80]
	ldp	x12, x13, [sp, #96]
	ldp	x14, x15, [sp, #112]
	ldp	x16, x17, [sp, #128]
	ldp	x18, x19, [sp, #144]
	ldp	x20, x21, [sp, #160]
	ldp	x22, x23, [sp, #176]
	ldp	x24, x25, [sp, #192]
	ldp	x26, x27, [sp, #208]
	ldp	x28, x29, [sp, #224]
	add	sp, sp, #272
	eret
entry_other:
	save
	bl	on_other
	b	.

	.bss
	.balign	16
	.global stacks
stacks:
	.skip	STACK_SIZE * 4
