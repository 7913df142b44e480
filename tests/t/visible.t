#!/usr/bin/python3 -B
# SPDX-License-Identifier: MIT
"""gdb and perf see the pieces of code that are made at run time.

Proves that gdb, started with the program or attached later, names a piece, unwinds through it to
the original function and its caller, and steps out of it without harm; and that perf report names
it. The program is tests/unit/ownint_visible.c; what its pieces are, and where they trap, says
tests/unit/visible_piece.h.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'lib'))
import suture_test as t

t.limit(60)
PROGRAM = os.path.join(t.BUILD, 'tests/unit/ownint_visible')
NAME = 'suture:probe:sample'
# Where the frame above the piece is, at each trap: the instruction that the piece stands for.
ORIGINS = ['sample', 'sample', 'sample+1', 'sample+4']


def gdb(commands, *arguments):
    options = ['-nx', '-q', '-batch', '-iex', 'set debuginfod enabled off']
    for line in commands:
        options += ['-ex', line]
    return t.command(['gdb'] + options + list(arguments))


def frames(text):
    """[(number, what)] of the backtraces in what gdb said."""
    return [(int(number), what)
            for number, what in re.findall(r'^#(\d+) +(?:0x[0-9a-f]+ in )?(.*)$', text, re.M)]


def unwinds(found, first):
    """Frame `first` is the piece; what is above it?"""
    names = [what for _, what in found[first:]]
    return (len(names) >= 4 and names[0].startswith('<signal handler called>')
            and names[1].startswith('sample ') and names[2].startswith('caller ')
            and any(name.startswith('main ') for name in names[3:]))


def started():
    commands = ['run']
    for _ in ORIGINS:
        commands += ['echo stop\\n', 'info symbol $pc', 'bt', 'up', 'info symbol $pc', 'continue']
    # The last trap is the last instruction but one of the piece.
    commands[-1] = 'down'
    commands += ['echo out\\n', 'next', 'info symbol $pc', 'finish', 'info symbol $pc', 'continue']
    outcome = gdb(commands, '--args', PROGRAM, 'gdb')
    stops, _, out = outcome.out.partition('out\n')
    stops = stops.split('stop\n')[1:]
    good = len(stops) == len(ORIGINS)
    t.ok(good and all(re.search(re.escape(NAME) + r' \+ \d+ in section', stop) for stop in stops),
         'gdb names the piece')
    t.ok(good and all(unwinds(frames(stop), 0) for stop in stops),
         'gdb unwinds from each place in it')
    t.ok(good and all(re.search(r'^%s in section' % re.escape(origin.replace('+', ' + ')), stop,
                                re.M) for origin, stop in zip(ORIGINS, stops)),
         'the frame above it is at the original instruction')
    t.ok(re.search(r'^sample \+ 4 in section', out, re.M)
         and re.search(r'^caller \+ \d+ in section', out, re.M)
         and 'exited normally' in out, 'stepping leaves the piece and does no harm')
    if t.failures():
        outcome.explain()


def attached():
    victim = t.spawn([PROGRAM, 'wait'], stdout=subprocess.PIPE, text=True)
    t.ok(victim.stdout.readline() == 'here\n', 'a program waits in a handler')
    outcome = gdb(['bt'], '-p', str(victim.pid))
    found = frames(outcome.out)
    piece = [number for number, what in found if what.startswith('<signal handler called>')]
    if not t.ok(len(piece) == 1 and found[piece[0] - 1][1].startswith('look_here ')
                and unwinds(found, piece[0]), 'a gdb that comes later unwinds from the handler'):
        outcome.explain()
    t.reap(victim)


def sampled():
    if not shutil.which('perf'):
        return t.skip('perf is not installed')
    with tempfile.TemporaryDirectory() as place:
        data = os.path.join(place, 'perf.data')
        run = t.command(['perf', 'record', '-q', '-e', 'cpu-clock', '-o', data, PROGRAM, 'burn'])
        path = run.out.strip()
        if path.startswith('/tmp/perf-'):
            t.at_end(os.unlink, path)
        if not os.path.exists(data) or not os.path.getsize(data):
            t.note(run.err)
            return t.skip('perf can not take samples here')
        report = t.command(['perf', 'report', '-i', data, '--stdio', '--sort', 'symbol'])
    share = re.search(r'([\d.]+)% +\[\.\] ' + re.escape(NAME), report.out)
    if not t.ok(share and float(share.group(1)) > 50, 'perf report names it'):
        report.explain()
    return None


started()
attached()
sampled()
t.done()
