/* SPDX-License-Identifier: MIT */
/* sites.S - functions of the tests, and memory for slots and copied code. All are `int f(int)`. */
	.text
	.macro	function name
	.balign	16
	.global	\name
\name:
	.endm

/* A static key: 1, or 2 if the nop is a jump. */
function key
	.global	key_site, key_on
	mov	w0, #1
key_site:
	nop
	ret
key_on:	mov	w0, #2
	ret

/* One instruction that is not of those that may be changed while they are executed. */
function plain
	.global	plain_site
plain_site:
	mov	w0, #1
	ret

/* An alternative of two instructions. */
function pair
	.global	pair_site
pair_site:
	mov	w0, #3
	add	w0, w0, #4
	ret

function replaced
	add	w0, w0, #1
	ret
function replacement
	add	w0, w0, #100
	ret

function probed
	.global	probed_site
	add	w0, w0, #1
probed_site:
	add	w0, w0, #2
	ret

/* Instructions that need help elsewhere. */
function branches
	.global	branches_cbz, branches_bl, branches_adr, branches_ldr, branches_b, branches_blr
	.global	branches_nop
	stp	x30, x19, [sp, #-16]!
	mov	w19, #0
branches_cbz:
	cbz	w0, 1f
	add	w19, w19, #1
1:
branches_nop:
	nop
branches_bl:
	bl	replacement
	add	w19, w19, w0
branches_adr:
	adr	x1, literal
	ldr	w1, [x1]
	add	w19, w19, w1
branches_ldr:
	ldr	w1, literal
	add	w19, w19, w1
branches_b:
	b	2f
	mov	w19, #-1
2:	adr	x1, replacement
branches_blr:
	blr	x1
	add	w0, w0, w19
	ldp	x30, x19, [sp], #16
	ret
literal:
	.word	1000

function exclusive
1:	ldxr	w2, [x0]
	stxr	w3, w2, [x0]
	cbnz	w3, 1b
	ret

/* Position-independent, to be copied. */
function copied
	.global	copied_end
	add	w0, w0, #7
	ret
copied_end:

	.balign	16
	.global	slots, destination
slots:
	.skip	80 * 16
destination:
	.skip	64
