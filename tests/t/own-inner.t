#!/usr/bin/python3 -B
# SPDX-License-Identifier: MIT
"""Every instruction of libz and of libsqlite3 probed, from inside the process.

In 16 batches: those whose addresses end in the same hexadecimal digit are so far apart that each
may become a jump. The results are the same, and none is refused but `ud2`, which is there to raise a
signal where it stands.
"""
import os
import re
import shutil
import subprocess
import sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'lib'))
import suture_test as t
import probed as p

t.limit(120)

BATCHES = 16


def library(name, program):
    for line in subprocess.run(['ldd', program], capture_output=True, text=True).stdout.split('\n'):
        if name in line and '=> ' in line:
            return os.path.realpath(line.split('=> ')[1].split(' ')[0])
    return None


def instructions(path):
    listing = subprocess.run(['objdump', '-d', '-j', '.text', '--no-show-raw-insn', path],
                             capture_output=True, text=True).stdout
    return [int(place, 16) for place in re.findall(r'^ +([0-9a-f]+):\t(?!ud2)', listing, re.M)]


def every(module, path, command, batches):
    places = instructions(path)
    plain = p.Run(command)
    t.note('%s: %d instructions' % (module, len(places)))
    for batch in batches:
        probed = p.Run(command, module, [place for place in places if place % BATCHES == batch])
        probed.tell()
        p.same(plain, probed, '%s, batch %d' % (module, batch))
        t.ok(probed.number('places') > 0 and probed.number('refused') == 0
             and probed.number('hits') > 0, '%s, batch %d: none is refused' % (module, batch))


every('libz.so', library('libz.so', p.PYTHON), [p.PYTHON, p.ZLIB_FILE], range(BATCHES))
every('libsqlite3.so', library('libsqlite3.so', shutil.which('sqlite3')), p.SQLITE,
      range(BATCHES))
if t.TORTURE:
    path = library('libpython3', p.PYEMBED)
    for name in ('test_json', 'test_re', 'test_generators', 'test_exceptions'):
        every('libpython3.11.so', path, [p.PYEMBED, '-m', 'test', name], range(BATCHES))
t.done()
