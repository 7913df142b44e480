#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Write one part of the 10,000 functions of `many`, as C, to standard output.

usage: gen-many.py PART PARTS

Each function is a different small checksum of (x, y), in one of many shapes, so that their first
instructions differ: loops, switches, floating point, large frames, many live variables, calls,
tail calls, recursion, early exits, globals, tiny leaves. How often one round executes each of
them is known here and goes into the table.
"""
import random
import sys

TOTAL = 10000
SHAPES = []


def shape(weight):
    def add(function):
        SHAPES.extend([function] * weight)
        return function
    return add


class Part:
    def __init__(self, first, last, seed):
        self.random = random.Random(seed)
        self.first, self.last = first, last
        self.leaves = []           # functions that call nothing: others may call them
        self.hits = {i: 1 for i in range(first, last)}
        self.loops = set()         # may jump back to their first instruction

    def constant(self, bits=32):
        return '0x%xu%s' % (self.random.getrandbits(bits) | 1, 'll' if bits > 32 else '')

    def leaf(self):
        return self.random.choice(self.leaves) if self.leaves else None

    def write(self):
        for i in range(self.first, self.last):
            make = self.random.choice(SHAPES)
            body = make(self, i)
            if body is None:
                body = tiny(self, i)
            print('FUNCTION uint64_t f_%05d(uint64_t x, uint64_t y)\n{\n%s}\n' % (i, body))


def mix(p, names=('x', 'y')):
    """An expression that depends on all of `names`."""
    a, b = p.random.sample(names, 2) if len(names) > 1 else names * 2
    return p.random.choice([
        '(%s * %s ^ %s >> %d)' % (a, p.constant(), b, p.random.randrange(1, 60)),
        '(%s + %s * %s)' % (a, b, p.constant(16)),
        '((%s ^ %s) - (%s << %d))' % (a, p.constant(48), b, p.random.randrange(1, 40)),
        '((%s | %s) + (%s & %s))' % (a, p.constant(), b, p.constant(40)),
        '(rotate(%s, %d) ^ ~%s)' % (a, p.random.randrange(1, 63), b),
        '(%s / %s + %s)' % (a, p.constant(20), b),
    ])


@shape(4)
def tiny(p, i):
    p.leaves.append(i)
    return '\treturn %s + %d;\n' % (mix(p), i)


@shape(3)
def several(p, i):
    p.leaves.append(i)
    lines = ''.join('\t%s ^= %s;\n' % (p.random.choice('xy'), mix(p))
                    for _ in range(p.random.randrange(1, 6)))
    return lines + '\treturn x - y + %d;\n' % i


@shape(3)
def loop(p, i):
    p.leaves.append(i)
    return ('\tuint64_t sum = %s;\n\n\tfor (uint64_t n = %d; n; n--)\n'
            '\t\tsum = rotate(sum, %d) ^ %s;\n\treturn sum + %d;\n' % (
                p.constant(), p.random.randrange(2, 9), p.random.randrange(1, 63),
                mix(p, ('x', 'y', 'n', 'sum')), i))


@shape(1)
def loop_at_once(p, i):
    p.leaves.append(i)
    p.loops.add(i)
    return ('\tdo\n\t\tx = (x >> %d) ^ y;\n\twhile ((x & %s) > %d);\n\treturn x + y + %d;\n' % (
        p.random.randrange(3, 9), '0xffffff', p.random.randrange(1 << 20, 1 << 23), i)
            ).replace('^ y', '') # x shrinks, so that the loop ends


@shape(2)
def switch(p, i):
    p.leaves.append(i)
    cases = ''.join('\tcase %d: x ^= %s; break;\n' % (n, mix(p))
                    for n in range(p.random.randrange(5, 10)))
    return '\tswitch ((x ^ y) & 15) {\n%s\tdefault: x += %s;\n\t}\n\treturn x * %d;\n' % (
        cases, p.constant(), i | 1)


@shape(2)
def floating(p, i):
    p.leaves.append(i)
    return ('\tdouble a = (double)(x >> 33) * %d.25, b = (double)(uint32_t)y + %d.5;\n'
            '\tunion { double d; uint64_t u; } v = { .d = a * b + a / b };\n\n'
            '\treturn v.u ^ %s;\n' % (p.random.randrange(1, 99), p.random.randrange(1, 99),
                                      mix(p)))


@shape(1)
def single(p, i):
    p.leaves.append(i)
    return ('\tfloat a = (float)(int32_t)x * %d.5f;\n'
            '\tunion { float f; uint32_t u; } v = { .f = a + (float)(int16_t)y };\n\n'
            '\treturn v.u + x * %d;\n' % (p.random.randrange(1, 99), i | 1))


@shape(2)
def frame(p, i):
    p.leaves.append(i)
    size = p.random.choice([4, 8, 16, 40, 200])
    return ('\tvolatile uint64_t table[%d];\n\n\tfor (uint64_t n = 0; n < 3; n++)\n'
            '\t\ttable[n] = %s;\n\treturn table[0] ^ table[1] + table[2] * %d;\n' % (
                size, mix(p, ('x', 'y', 'n')), i | 1))


@shape(2)
def early(p, i):
    p.leaves.append(i)
    test = p.random.choice(['x & 1', '!(y & 3)', 'x > y', '(int64_t)x < 0', 'x == y', '!x',
                            '(uint8_t)x == %d' % p.random.randrange(256)])
    return '\tif (%s)\n\t\treturn %s;\n\treturn %s + %d;\n' % (test, mix(p), mix(p), i)


@shape(2)
def data(p, i):
    p.leaves.append(i)
    return '\treturn table_%d[(x ^ %d) & 7] + %s;\n' % (p.random.randrange(8), i, mix(p))


@shape(1)
def flag(p, i):
    p.leaves.append(i)
    return '\tif (never)\n\t\tnever = %d;\n\treturn %s;\n' % (i, mix(p))


@shape(2)
def live(p, i):
    """Many variables alive over calls: pushes of callee-saved registers."""
    one, two = p.leaf(), p.leaf()
    if one is None:
        return None
    p.hits[one] += 1
    p.hits[two] += 1
    return ('\tuint64_t a = %s, b = %s, c = x * %d;\n\tuint64_t d = f_%05d(x, b), '
            'e = f_%05d(y, a);\n\n\treturn a ^ b + c * d - e;\n' % (
                mix(p), mix(p), i | 1, one, two))


@shape(2)
def calls(p, i):
    one = p.leaf()
    if one is None:
        return None
    p.hits[one] += 1
    return '\treturn f_%05d(%s, y) ^ %s;\n' % (one, mix(p), p.constant())


@shape(2)
def tail(p, i):
    one = p.leaf()
    if one is None:
        return None
    p.hits[one] += 1
    return '\treturn f_%05d(%s, x + %d);\n' % (one, p.random.choice(['x', 'y', mix(p)]), i)


@shape(1)
def indirect(p, i):
    one = p.leaf()
    if one is None:
        return None
    p.hits[one] += 1
    return ('\tmany_function *volatile f = f_%05d;\n\n\treturn f(y, x) + %d;\n' % (one, i))


@shape(1)
def recursion(p, i):
    """Calls itself with x = 0 at the end, so a known number of times."""
    one = p.random.randrange(1, 4)
    p.hits[i] += one
    return ('\tstatic __thread unsigned depth;\n\tuint64_t sum = x ^ y;\n\n'
            '\tif (depth < %d) {\n\t\tdepth++;\n\t\tsum += f_%05d(y, x * %d);\n\t\tdepth--;\n'
            '\t}\n\treturn sum * %s;\n' % (one, i, i | 1, p.constant()))


def main():
    part, parts = int(sys.argv[1]), int(sys.argv[2])
    size = TOTAL // parts
    p = Part(part * size, (part + 1) * size, 20240 + part)
    print('/* Generated by gen-many.py. */\n#include "many.h"\n')
    print('static inline uint64_t rotate(uint64_t x, unsigned n)\n'
          '{\n\treturn x << n | x >> (64 - n);\n}\n')
    print('static volatile int never;')
    for i in range(8):
        print('static const uint64_t table_%d[8] = { %s };' % (
            i, ', '.join(p.constant(60) for _ in range(8))))
    for i in range(p.first, p.last):
        print('many_function f_%05d;' % i)
    print()
    p.write()
    print('const struct many many_%d[] = {' % part)
    for i in range(p.first, p.last):
        print('\t{ f_%05d, %d, %d },' % (i, p.hits[i], i in p.loops))
    print('};')


main()
