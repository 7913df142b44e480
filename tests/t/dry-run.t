#!/usr/bin/python3 -B
# SPDX-License-Identifier: MIT
"""--dry-run says what the real run then does, and does none of it: same kinds, same bytes, same
refusals, same exit status; no call that could stop or change the process is made, not even where a
killed command has left something."""
import os
import sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'lib'))
import suture_test as t

t.limit(60)
SHIM = os.path.join(t.BUILD, 'tests/killat.so')
calls = os.path.join(t.scratch(), 'calls')


def plan(pid, *arguments):
    """A dry run that must not touch the process."""
    outcome = t.suture('count', '-p', pid, '--dry-run', '--json', *arguments,
                       env={'LD_PRELOAD': SHIM, 'SUTURE_KILL_LOG': calls})
    made = open(calls).read() if os.path.exists(calls) else ''
    if made:
        os.unlink(calls)
        t.ok(False, 'a dry run makes no call that changes anything')
        t.note(made)
    return outcome


def told(outcome):
    return sorted((p['spec'], p['symbol'], p['address'], p['kind']) for p in outcome.probes())


def refused(outcome):
    return sorted((r['spec'], r['reason']) for r in outcome.refused())


def check(victim, what, *arguments):
    """Plan, count, compare."""
    before = t.Snapshot(victim.pid, strict=True)
    first = plan(victim.pid, *arguments)
    t.unchanged(before, what + ': a dry run changes nothing', strict=True)
    count = t.Count(victim.pid, *arguments)
    attached = count.attached()
    text = t.text(victim.pid)
    second = count.end()
    t.same(first.status, second.status, what + ': the status of the real run')
    if second.status == t.REFUSED:
        t.same(first.err, second.err, what + ': the same complaint')
        t.same(refused(first), refused(second), what + ': the same refusals')
        return
    t.same(told(first), told(second), what + ': the same sites, by the same kinds')
    t.same(refused(first), refused(second), what + ': the same refusals')

    def in_memory(probe):
        address, after = int(probe['at'], 16), bytes.fromhex(probe['after'])
        for start, data in text.items():
            if start <= address < start + len(data):
                return data[address - start:][:len(after)] == after
        return False
    planned = [p for p in first.probes() if p['kind'] in ('pun', 'window')]
    # Where a window leads is chosen among what is free, which need not be the same again.
    wrong = [p for p in planned if p['kind'] == 'pun' and not in_memory(p)]
    t.ok(attached and planned and not wrong, what + ': puns are written as planned')
    if wrong:
        t.note(wrong[:4])


victim = t.Victim('sums', 2)
check(victim, 'two functions', 'sums:sum_any', 'sums:sum_below')
check(victim, 'windows', '--kinds', 'window', 'sums:sum_any', 'sums:sum_below')
check(victim, 'a glob', 'sums:*')
check(victim, 'all of libc', '--kinds', 'pun,window', 'libc.so.6:*')
check(victim, 'few pages', '--kinds', 'pun,window', '--pages', '20', 'libc.so.6:m*')
check(victim, 'refused', 'sums:sum_pun+0x2', 'sums:sum_any')
check(victim, 'all of a glob refused', '--kinds', 'pun,window', '--pages', '1', 'sums:sum_*')

outcome = t.suture('count', '-p', victim.pid, '--dry-run', 'sums:sum_any', 'libc.so.6:vfork*')
lines = outcome.out.split('\n')
t.ok(outcome.status == t.DONE and 'nothing was changed' in lines[0] and
     any(line.endswith('sums:sum_any') and ' pun ' in line for line in lines), 'for people, too')

# What a killed command has left is looked through, and left.
count = t.Count(victim.pid, 'sums:sum_any', 'sums:sum_below', options=['--kinds', 'window'])
count.attached()
count.process.kill()
count.process.wait()
before = t.Snapshot(victim.pid, strict=True)
outcome = plan(victim.pid, 'sums:sum_any', 'sums:sum_below')
t.unchanged(before, 'leftovers: they stay', strict=True)
if not t.ok(outcome.status == t.DONE and sorted(p['kind'] for p in outcome.probes()) == ['pun', 'pun'],
            'leftovers: planned as if they were gone'):
    outcome.explain()
t.suture('revert', '-p', victim.pid)
t.same(victim.run(10), 0, 'the target works')
victim.stop()

victim = t.Victim('crowd', 'vfork')
outcome = plan(victim.pid, 'crowd:crowd_sum')
t.ok(outcome.status == t.TIMEOUT and t.is_one_line(outcome), 'memory that is shared: as the real run')
victim.stop()
t.done()
