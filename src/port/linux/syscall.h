/* SPDX-License-Identifier: MIT */
/* syscall.h - system calls without libc: it could be patched, and has an errno. */
#ifndef SUTURE_PORT_LINUX_SYSCALL_H
#define SUTURE_PORT_LINUX_SYSCALL_H

#include <stdint.h>
#include <sys/syscall.h>

/* A negative errno, or the result. */
static inline long syscall6(long number, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long result;

	__asm__ volatile("syscall"
	                 : "=a"(result)
	                 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
	                 : "rcx", "r11", "memory");
	return result;
}

static inline long syscall4(long number, long a, long b, long c, long d)
{
	return syscall6(number, a, b, c, d, 0, 0);
}

#endif
