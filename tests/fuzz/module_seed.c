/* SPDX-License-Identifier: MIT */
/* module_seed.c - the file that module.c damages: a little of everything that its reader reads. */
extern int out(int);

int simple(int x)
{
	return out(x) + 1;
}

int table(int x)
{
	switch (x) {
	case 0:
		return out(1);
	case 1:
		return out(x) + 3;
	case 2:
		out(9);
		break;
	case 3:
		return out(7) * 3;
	case 4:
		return out(3) - 1;
	case 5:
		x = out(x);
		break;
	}
	return out(x);
}

static __attribute__((noinline, used)) int hidden(int x)
{
	__builtin_expect(x, 1) ? (void)out(x) : __builtin_trap();
	return x * 5;
}

/* struct rseq_cs: version, flags, start, length, abort address. */
__asm__(".pushsection __rseq_cs, \"aw\"\n.long 0, 0\n.quad simple + 1, 4, table + 9\n.popsection");
