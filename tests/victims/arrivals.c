// SPDX-License-Identifier: MIT
/*
 * Functions into whose first bytes something leads, each in one way; for `suture explain`. The
 * main thread waits with a word on its stack that looks like a return into `returned_into`.
 */
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

int plain(int);
int branched_into(int);
int jumped_into(int, void *);
int returned_into(int);

#define FUNCTION(name, body)                                                                       \
	asm(".pushsection .text\n.p2align 4\n.globl " name "\n.type " name ",@function\n" name     \
	    ":\n.cfi_startproc\n" body ".cfi_endproc\n.size " name ", .-" name "\n.popsection\n")

/* Windows here change +0 and +2 to +6; nobody leads to +4 and +6. */
FUNCTION("plain", "mov %edi, %eax\n"
                  "add %edi, %edi\n"
                  "add %edi, %eax\n"
                  "add %edi, %eax\n"
                  "ret\n");
FUNCTION("returned_into", "mov %edi, %eax\n"
                          "add %edi, %edi\n"
                          "add %edi, %eax\n"
                          "add %edi, %eax\n"
                          "ret\n");
/* A loop that goes back to +4. */
FUNCTION("branched_into", "mov %edi, %eax\n"
                          "xor %ecx, %ecx\n"
                          "1: add %edi, %ecx\n"
                          "dec %eax\n"
                          ".globl back_edge\n"
                          "back_edge: jnz 1b\n"
                          "mov %ecx, %eax\n"
                          "ret\n");
/* An indirect jump that may lead anywhere in the function. */
FUNCTION("jumped_into", "mov %edi, %eax\n"
                        "add %edi, %edi\n"
                        "add %edi, %eax\n"
                        "test %rsi, %rsi\n"
                        "jz 1f\n"
                        "notrack jmp *%rsi\n"
                        "1: ret\n");

int main(void)
{
	volatile uintptr_t stale = (uintptr_t)returned_into + 4;
	int sum =
	        plain(1) + branched_into(3) + jumped_into(2, NULL) + returned_into((int)stale & 1);

	printf("ready %d\n", sum);
	fflush(stdout);
	for (;;) {
		pause();
		if (stale == 1)
			return 0;
	}
}
