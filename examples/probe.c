/* SPDX-License-Identifier: MIT */
/*
 * probe.c - look at a division, and keep it from failing.
 *
 *     cc probe.c $(pkg-config --cflags --libs suture) -o probe && ./probe
 */
#include <stdio.h>
#include <suture/probe.h>

/* int share(int total, int people) */
__asm__(".text\n"
        "share:\n"
        "	movl %edi, %eax\n"
        "	cltd\n"
        "divide:\n"
        "	idivl %esi\n"
        "divided:\n"
        "	ret\n");
extern int share(int total, int people);
extern const char divide[], divided[];

struct seen {
	int divisions, saved;
};

/* The handlers may print because nobody calls share() while he holds the lock of stdout. */
static void before(struct suture_regs *regs, void *arg)
{
	struct seen *seen = arg;

	printf("%d / %d", (int)regs->rax, (int)regs->rsi);
	if ((int)regs->rsi)
		return;
	printf(": not divided\n");
	seen->saved++;
	regs->rax = 0;
	regs->rip = (uintptr_t)divided; /* without the instruction, and so without after() */
}

static void after(struct suture_regs *regs, void *arg)
{
	struct seen *seen = arg;

	printf(" = %d, remainder %d\n", (int)regs->rax, (int)regs->rdx);
	seen->divisions++;
}

int main(void)
{
	char message[200] = "";
	struct suture_text_options options = {
	        .size = sizeof(options), .message = message, .message_size = sizeof(message)};
	struct seen seen = {0};
	struct suture_probe_spec spec = {
	        .address = (void *)divide, .pre = before, .post = after, .arg = &seen};
	struct suture_probe *probe;
	int sum;

	if (suture_probe_install(&spec, 1, &probe, &options)) {
		fprintf(stderr, "%s\n", message);
		return 1;
	}
	printf("probed by a %s\n", suture_site_kind_name(suture_probe_kind(probe)));
	sum = share(17, 5) + share(3, 0);
	if (suture_probe_remove(&probe, 1, &options)) {
		fprintf(stderr, "%s\n", message);
		return 1;
	}
	sum += share(8, 4);
	printf("%d, %d division seen, %d saved\n", sum, seen.divisions, seen.saved);
	return sum != 5 || seen.divisions != 1 || seen.saved != 1;
}
