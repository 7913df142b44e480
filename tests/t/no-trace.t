#!/usr/bin/python3 -B
# SPDX-License-Identifier: MIT
"""After detach nothing of ours is left.

Proves that text is byte for byte what it was and that neither maps nor descriptors hold anything
of ours: for our victims in every build and for programs of others, running, sleeping and blocked
in the probed function; after an end by time, by SIGINT and by SIGTERM; and that reading the
counters of a running count leaves the target alone.
"""
import os
import signal
import sys
import time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'lib'))
import suture_test as t

t.limit(120)


def traceless(what, victim, specs, strict, kinds='pun,window,uprobe', times=2, refusals=False):
    """Attach and detach in each way; `refusals`: a site may be impossible for this kind."""
    before = t.Snapshot(victim.pid, strict)
    for i in range(times):
        count = t.Count(victim.pid, *specs, options=['--kinds', kinds])
        attached = count.attached()
        if attached:
            during = t.Snapshot(victim.pid, strict)
            t.ok(before.differences(during), what + ': something is there while counting')
        outcome = count.end([signal.SIGINT, signal.SIGTERM][i % 2])
        if not attached and refusals and outcome.status == t.REFUSED:
            t.ok(outcome.reasons().strip(), what + ': refused with a reason')
        elif not t.ok(attached and outcome.status == t.DONE, what + ': counted'):
            outcome.explain()
        t.unchanged(before, what + ': nothing is left', strict)
        t.ok(victim.alive(), what + ': lives')
    outcome = t.suture('status', '-p', victim.pid, '--json')
    t.ok(outcome.status == t.DONE and outcome.json is not None, what + ': status works')
    t.unchanged(before, what + ': status leaves nothing', strict)


for name in ('sums', 'sums-nopie', 'sums-static', 'sums-musl'):
    victim = t.Victim(name, 4)
    traceless(name + ' at rest', victim, [name + ':sum_pun', name + ':sum_any'], True)
    traceless(name + ' at rest, windows', victim, [name + ':sum_any', name + ':sum_below'], True,
              'window')
    victim.free()
    traceless(name, victim, [name + ':sum_pun', name + ':sum_below'], False)
    t.same(victim.works(), '', name + ': works')
    victim.stop()

victim = t.Victim('sums', 4)
victim.free()
traceless('sums, uprobes', victim, ['sums:sum_any'], False, 'uprobe')
t.same(victim.works(), '', 'sums, uprobes: works')

# By time, and a hundred times.
before = t.Snapshot(victim.pid)
outcome = t.suture('count', '-p', victim.pid, '--json', '--for', '100ms', 'sums:sum_any')
t.ok(outcome.status == t.DONE and outcome.hits().get('sum_any', 0) > 0, 'ends by itself')
t.unchanged(before, 'ended by itself: nothing is left')
bad = [i for i in range(1000 if t.TORTURE else 30)
       if t.suture('count', '-p', victim.pid, '--for', '5ms', 'sums:sum_any',
                   'sums:sum_pun').status != t.DONE]
t.same(bad, [], 'many short counts one after the other')
t.unchanged(before, 'many short counts: nothing is left')
t.same(victim.works(), '', 'many short counts: works')
victim.stop()

# The target ends while it is counted: final counts, exit 0.
victim = t.Victim('sums', 4)
count = t.Count(victim.pid, 'sums:sum_any')
t.ok(count.attached(), 'attached to one that will end')
victim.run(500)
victim.tell('quit')
victim.process.wait(10)
outcome = count.end(number=None, seconds=15)
if not t.ok(outcome.status == t.DONE, 'target ends: exit 0'):
    outcome.explain()
t.same(outcome.hits(), {'sum_any': 2000}, 'target ends: final counts')
t.same(victim.process.returncode, 0, 'target ends: as it would have')
victim.stop()

# --- programs of others ---------------------------------------------------------------------

python = os.path.realpath('/usr/bin/python3')
victim = t.Victim(python, '-c', 'print("ready", flush=True)\n'
                  'x = 0\nwhile True:\n    x = (x * 31 + len(str(x))) % 1000003\n')
traceless('python3', victim, [os.path.basename(python) + ':PyObject_Size',
                              'libc.so.6:malloc'], False)
victim.stop()

victim = t.Victim('/bin/sleep', '1000', ready=None)
t.until(lambda: t.state(victim.pid) == 'S' and len(t.maps(victim.pid)) > 10)
time.sleep(0.2)
traceless('sleep', victim, ['libc.so.6:clock_nanosleep'], True)
traceless('sleep, window', victim, ['libc.so.6:malloc'], True, 'window', refusals=True)
victim.stop()

victim = t.Victim('/bin/cat', ready=None)
t.until(lambda: t.state(victim.pid) == 'S' and len(t.maps(victim.pid)) > 10)
time.sleep(0.2)
before = t.Snapshot(victim.pid, strict=True)
traceless('cat blocked in read', victim, ['libc.so.6:read', 'libc.so.6:write'], True)
victim.tell('still here')
t.same(victim.line(), 'still here', 'cat: read was not disturbed')
count = t.Count(victim.pid, 'libc.so.6:read')
t.ok(count.attached(), 'cat: attached while blocked')
victim.tell('one')
t.same(victim.line(), 'one', 'cat: works under the probe')
time.sleep(0.3)
outcome = count.end()
t.same(list(outcome.hits().values()), [1], 'cat: one more read was begun')
t.unchanged(before, 'cat: nothing is left', strict=True)
victim.stop()
t.done()
