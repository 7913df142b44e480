/* SPDX-License-Identifier: MIT */
/*
 * own_calls.c - hooks of functions of every type: what is passed to the replacement, on to the
 * original and back arrives, wherever the ABI puts it. A probe is there, too, that uses vector
 * registers.
 */
#include <complex.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "suture/hook.h"
#include "suture/probe.h"
#include "tap.h"

/* Weak: the compiler can know nothing of what it does. */
#define VICTIM __attribute__((noinline, weak))

static unsigned calls, probed;

/* ---- arguments in registers and on the stack ---- */

VICTIM double many(long a, double b, int c, float d, char e, double f, long g, float h, short i,
                   double j, unsigned k, float l, long m, double n, long o, double p, long q,
                   double r, float s, int t);
double many(long a, double b, int c, float d, char e, double f, long g, float h, short i, double j,
            unsigned k, float l, long m, double n, long o, double p, long q, double r, float s,
            int t)
{
	return (double)a + 2 * b + 3 * c + 4 * (double)d + 5 * e + 6 * f + 7 * (double)g +
	       8 * (double)h + 9 * i + 10 * j + 11 * k + 12 * (double)l + 13 * (double)m + 14 * n +
	       15 * (double)o + 16 * p + 17 * (double)q + 18 * r + 19 * (double)s + 20 * t;
}
static __typeof__(many) *real_many;
static double my_many(long a, double b, int c, float d, char e, double f, long g, float h, short i,
                      double j, unsigned k, float l, long m, double n, long o, double p, long q,
                      double r, float s, int t)
{
	calls++;
	return -real_many(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t);
}

static double call_many(void)
{
	return many(1, 2, -3, 4.5f, 5, 6, 1l << 40, 8, -9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19,
	            -20);
}

/* ---- structures ---- */

struct large {
	long values[9];
};
struct mixed {
	double d;
	long l;
};
struct floats {
	float a, b, c;
};

VICTIM struct large take_large(struct large a, struct mixed b, struct floats c);
struct large take_large(struct large a, struct mixed b, struct floats c)
{
	a.values[8] += b.l + (long)b.d + (long)(c.a + c.b + c.c);
	return a;
}
static __typeof__(take_large) *real_take_large;
static struct large my_take_large(struct large a, struct mixed b, struct floats c)
{
	struct large result = real_take_large(a, b, c);

	calls++;
	result.values[0]++;
	return result;
}

VICTIM struct mixed take_mixed(struct mixed a, struct large b);
struct mixed take_mixed(struct mixed a, struct large b)
{
	return (struct mixed){a.d * 2, a.l + b.values[4]};
}
static __typeof__(take_mixed) *real_take_mixed;
static struct mixed my_take_mixed(struct mixed a, struct large b)
{
	calls++;
	return real_take_mixed(a, b);
}

VICTIM long double extended(long double a, double complex b);
long double extended(long double a, double complex b)
{
	return a + (long double)creal(b) - (long double)cimag(b);
}
static __typeof__(extended) *real_extended;
static long double my_extended(long double a, double complex b)
{
	calls++;
	return real_extended(a, b) + 1;
}

/* ---- variable arguments ---- */

VICTIM double sum(int count, ...);
double sum(int count, ...)
{
	va_list list;
	double result = 0;

	va_start(list, count);
	for (int i = 0; i < count; i++)
		result += i & 1 ? va_arg(list, double) : (double)va_arg(list, long);
	va_end(list);
	return result;
}
static __typeof__(sum) *real_sum;
static double my_sum(int count, ...)
{
	double result;
	va_list list;
	long a;
	double b;

	calls++;
	va_start(list, count);
	a = va_arg(list, long);
	b = va_arg(list, double);
	va_end(list);
	result = real_sum(6, a, b, 3l, 4.0, 5l, 6.0);
	return count == 2 ? result : -1;
}

static int (*real_vsnprintf)(char *, size_t, const char *, va_list);
static int my_vsnprintf(char *buffer, size_t size, const char *format, va_list list)
{
	calls++;
	return real_vsnprintf(buffer, size, format, list);
}

VICTIM int print(char *buffer, const char *format, ...) __attribute__((format(printf, 2, 3)));
int print(char *buffer, const char *format, ...)
{
	va_list list;
	int n;

	va_start(list, format);
	n = vsnprintf(buffer, 64, format, list);
	va_end(list);
	return n;
}

/* ---- recursion, and ways out ---- */

VICTIM long factorial(long n);
long factorial(long n)
{
	long below = n < 2 ? 1 : factorial(n - 1);

	__asm__("" : "+r"(below)); /* no loop is made of it */
	return n < 2 ? 1 : n * below;
}
static __typeof__(factorial) *real_factorial;
static long my_factorial(long n)
{
	calls++;
	return real_factorial(n);
}

/* The replacement calls the function itself again, not its original. */
static long my_factorial_again(long n)
{
	calls++;
	return n > 1 ? n * factorial(n - 1) : real_factorial(n);
}

static jmp_buf home;
VICTIM void leave(int value);
void leave(int value)
{
	longjmp(home, value);
}
static __typeof__(leave) *real_leave;
static void my_leave(int value)
{
	calls++;
	real_leave(value + 1);
}

/* ---- the tests ---- */

static void spoil(struct suture_regs *regs, void *arg)
{
	(void)regs;
	(void)arg;
	probed++;
	__asm__ volatile("pcmpeqd %%xmm0, %%xmm0\n	pcmpeqd %%xmm1, %%xmm1\n"
	                 "	pcmpeqd %%xmm7, %%xmm7\n	fldpi\n	fstp %%st(0)" ::
	                         : "xmm0", "xmm1", "xmm7", "memory");
}

struct attached {
	struct suture_hook *hook;
	struct suture_probe *probe;
};

static struct attached attach(void *function, void *replacement, void *original)
{
	struct suture_hook_spec spec = {function, replacement, original};
	struct suture_probe_spec probe = {.address = function, .pre = spoil};
	struct attached a = {0};

	if (suture_hook_install(&spec, 1, &a.hook, NULL) ||
	    suture_probe_install(&probe, 1, &a.probe, NULL))
		ok(false, "attached");
	calls = probed = 0;
	return a;
}

static void detach(struct attached a)
{
	unsigned before = calls;

	if (!a.hook || suture_hook_remove(&a.hook, 1, NULL) || !a.probe ||
	    suture_probe_remove(&a.probe, 1, NULL))
		ok(false, "detached");
	calls = before;
}

static void test_arguments(void)
{
	double expected = call_many();
	struct attached a = attach((void *)many, (void *)my_many, &real_many);
	struct large l = {{1, 2, 3, 4, 5, 6, 7, 8, 9}}, back;
	struct mixed m = {1.5, 6}, mixed_back;
	struct floats f = {1, 2, 3};

	ok(call_many() == -expected && calls == 1 && probed == 1, "twenty arguments");
	detach(a);
	ok(call_many() == expected && calls == 1, "and without");
	a = attach((void *)take_large, (void *)my_take_large, &real_take_large);
	back = take_large(l, m, f);
	ok(back.values[0] == 2 && back.values[8] == 22 && back.values[4] == 5 && calls == 1,
	   "structures on the stack, in memory and in registers");
	detach(a);
	a = attach((void *)take_mixed, (void *)my_take_mixed, &real_take_mixed);
	mixed_back = take_mixed(m, l);
	ok(mixed_back.d == 3 && mixed_back.l == 11 && calls == 1,
	   "a structure that is returned in registers of two kinds");
	detach(a);
	a = attach((void *)extended, (void *)my_extended, &real_extended);
	ok(extended(1.25L, 3 + 1 * I) == 4.25L && calls == 1 && probed == 1, "x87 and complex");
	detach(a);
}

static void test_variable(void)
{
	struct attached a = attach((void *)sum, (void *)my_sum, &real_sum);
	char buffer[64];
	double result = sum(2, 1l, 2.0);

	ok(result == 21 && calls == 1 && probed == 1, "variable arguments, handed on: %g", result);
	ok(real_sum(2, 1l, 2.5) == 3.5, "the original with others");
	detach(a);
	a = attach((void *)vsnprintf, (void *)my_vsnprintf, &real_vsnprintf);
	ok(print(buffer, "%d %s %.2f %c", 5, "text", 1.25, 'x') == 13 &&
	           strcmp(buffer, "5 text 1.25 x") == 0 && calls >= 1,
	   "vsnprintf: %s", buffer);
	detach(a);
}

static void test_recursion(void)
{
	struct attached a = attach((void *)factorial, (void *)my_factorial, &real_factorial);
	long result = factorial(10);

	ok(result == 3628800 && calls == 10 && probed == 10,
	   "the original calls the function: %u and %u calls", calls, probed);
	detach(a);
	a = attach((void *)factorial, (void *)my_factorial_again, &real_factorial);
	result = factorial(10);
	ok(result == 3628800 && calls == 10, "the replacement does: %u calls", calls);
	detach(a);
	calls = 0;
	ok(factorial(10) == 3628800 && calls == 0, "and nobody afterwards");
}

static void test_longjmp(void)
{
	struct attached a = attach((void *)leave, (void *)my_leave, &real_leave);
	volatile int rounds = 0;
	int value = setjmp(home);

	if (rounds++ < 100)
		leave(rounds);
	ok(value == 101 && calls == 100 && probed == 100, "longjmp out of the original: %d", value);
	detach(a);
}

int main(void)
{
	test_arguments();
	test_variable();
	test_recursion();
	test_longjmp();
	return done();
}
