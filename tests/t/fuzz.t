#!/usr/bin/python3 -B
# SPDX-License-Identifier: MIT
"""The fuzzers' targets as plain programs: a fixed set of inputs, and every way to give them one.

Proves that no property of tests/fuzz/isa_properties.h and tests/fuzz/litmus.c and no prediction of
tests/fuzz/text_model.h is missed by inputs made up by chance, and that those inputs reach every
answer that suture/text.h promises, transactions that are taken back while they are written among
them; that damaged ELF files and debug files of every kind are read to some end; and that litmus
tests are read, refused and run.
SEED chooses other inputs.
"""
import os
import subprocess
import sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'lib'))
import suture_test as t

TORTURE = bool(os.environ.get('SUTURE_TORTURE'))
SEED = os.environ.get('SEED', '1')
t.limit(1200 if TORTURE else 120)

# Inputs, and what they must reach.
TARGETS = {
    'isa': (250000, ['instructions', 'moved']),
    'text': (20000, ['made', 'EINVAL', 'EUCLEAN', 'EOPNOTSUPP', 'EPERM', 'EEXIST', 'EFAULT',
                     'joined', 'taken_back']),
    'module': (20000, ['opened', 'refused', 'debug', 'symbols', 'extents', 'rows', 'proven',
                      'dangers']),
    'litmus': (20000, ['read', 'refused', 'ran']),
}


def run(name, arguments, seconds=1000, data=b''):
    """Exit status and output. A signal is a negative status."""
    program = os.path.join(t.BUILD, 'tests/fuzz', name)
    done = subprocess.run([program, *arguments], input=data, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=seconds, check=False)
    return done.returncode, done.stdout.decode(errors='replace')


def check_random(name, inputs, answers):
    t.note('%s: SEED=%s' % (name, SEED))
    status, output = run(name, ['--random', str(inputs * (30 if TORTURE else 1)), SEED])
    if not t.ok(status == 0, '%s: what is predicted is answered' % name):
        t.note('status %d: %s' % (status, output.strip()))
        return
    reached = dict(line.split() for line in output.splitlines())
    t.note(' '.join('%s %s' % item for item in reached.items()))
    for answer in answers:
        t.ok(int(reached.get(answer, 0)) > 100, '%s: inputs reach "%s"' % (name, answer))


def check_given(name):
    data = bytes(range(200))
    path = os.path.join(t.scratch(), 'input')
    with open(path, 'wb') as file:
        file.write(data)
    t.same(run(name, [], data=data), (0, ''), '%s: an input from standard input' % name)
    t.same(run(name, [], data=b''), (0, ''), '%s: an empty one' % name)
    t.same(run(name, [path, path]), (0, ''), '%s: inputs from files' % name)
    t.same(run(name, [path + '.absent'])[0], 1, '%s: a file that is not there' % name)


for target in TARGETS:
    check_random(target, *TARGETS[target])
    check_given(target)
t.done()
