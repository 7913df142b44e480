# SPDX-License-Identifier: MIT
# tiny32 - a 32-bit program: sleeps for good.
	.globl	_start
	.type	_start, @function
_start:
	mov	$29, %eax		# pause
	int	$0x80
	jmp	_start
	.size	_start, . - _start
	.section .note.GNU-stack, "", @progbits
