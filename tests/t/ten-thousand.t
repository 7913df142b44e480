#!/usr/bin/python3 -B
# SPDX-License-Identifier: MIT
"""10,000 functions of all shapes, all probed with one glob while 4 threads run them.

Proves that no result is ever wrong, before, during and after; and that, over a known number of
rounds, the hits of every single function are exact.
"""
import os
import sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'lib'))
import suture_test as t

t.limit(240)
THREADS = 4


def report(outcome, what):
    kinds = list(outcome.kinds().values())
    t.note('%s: %s; %d refused' % (what, ', '.join('%d %s' % (kinds.count(kind), kind)
                                                   for kind in sorted(set(kinds))),
                                   len(outcome.refused())))
    if outcome.json:
        t.note('%s: stopped for %s us' % (what, outcome.json.get('stop_us')))
    for reason in sorted({entry['reason'] for entry in outcome.refused()})[:5]:
        t.note('refused: ' + reason)


def while_running(options, what):
    """Attach and detach while all threads run all the time."""
    victim = t.Victim('many', THREADS)
    before = t.Snapshot(victim.pid)
    victim.free()
    count = t.Count(victim.pid, 'many:f_*', options=options)
    if not t.ok(count.attached(60), what + ': attached while 4 threads run'):
        count.end().explain()
    t.same(victim.works(), '', what + ': every thread gets on with right results')
    outcome = count.end(seconds=120)
    if not t.ok(outcome.status == t.DONE, what + ': detached while 4 threads run'):
        outcome.explain()
    report(outcome, what)
    t.same(victim.works(), '', what + ': and they get on')
    t.same(victim.halt(), 0, what + ': never a wrong result')
    t.unchanged(before, what + ': nothing is left')
    t.same(len(outcome.probes()) + len(outcome.refused()), 10000,
           what + ': every function is counted or refused')
    victim.stop()
    return outcome


def exact(options, what):
    """Attach at rest, then a known number of rounds."""
    rounds = 40
    victim = t.Victim('many', THREADS)
    expected = victim.expected()
    before = t.Snapshot(victim.pid)
    count = t.Count(victim.pid, 'many:f_*', options=options)
    t.ok(count.attached(60), what + ': attached at rest')
    t.same(victim.run(rounds), 0, what + ': no wrong result')
    outcome = count.end()
    report(outcome, what)
    hits, kinds, bad = outcome.hits(), outcome.kinds(), []
    for function, calls in expected.items():
        calls *= rounds * THREADS
        if function in hits and (hits[function] < calls if function in victim.more
                                 else hits[function] != calls):
            bad.append('%s: %d, not %d (%s)' % (function, hits[function], calls,
                                                kinds[function]))
    if not t.ok(len(hits) > 4000 and not bad, what + ': hits of every function are exact'):
        t.note('%d functions, %d of them wrong' % (len(hits), len(bad)))
        t.note('\n'.join(bad[:10]))
    t.same(victim.run(rounds), 0, what + ': no wrong result afterwards')
    t.unchanged(before, what + ': nothing is left')
    victim.stop()


exact(['--kinds', 'pun,window'], 'jumps')
exact(['--kinds', 'pun,window', '--no-rseq'], 'jumps, locked')
exact(['--kinds', 'window'], 'windows')
while_running(['--kinds', 'pun,window'], 'jumps')
# A few of the rest get the last resort, the kernel's breakpoint, which is slow to remove. How many
# jumps find a free place depends on where the program was loaded.
outcome = while_running([], 'all kinds')
t.ok(len(outcome.probes()) >= 9900, 'next to all of the 10,000 are counted at once')
t.ok(all(entry['reason'] for entry in outcome.refused()), 'whatever is refused has a reason')
if t.TORTURE:
    for i in range(20):
        while_running(['--kinds', 'pun,window', '--pages', str(400 * (i + 1))], 'again %d' % i)
t.done()
