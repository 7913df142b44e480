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

t.limit(170)
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


def probed(options, what):
    """Attach while all threads run; then count a known number of rounds."""
    victim = t.Victim('many', THREADS)
    expected = victim.expected()
    before = t.Snapshot(victim.pid)
    t.same(len(expected), 10000, what + ': the victim has 10,000 functions')

    victim.free()
    count = t.Count(victim.pid, 'many:f_*', options=options)
    if not t.ok(count.attached(90), what + ': attached while 4 threads run'):
        count.end().explain()
    t.same(victim.works(), '', what + ': every thread gets on with right results')
    outcome = count.end()
    if not t.ok(outcome.status == t.DONE, what + ': detached while 4 threads run'):
        outcome.explain()
    report(outcome, what)
    t.same(victim.works(), '', what + ': and they get on')
    t.unchanged(before, what + ': nothing is left')
    t.same(len(outcome.probes()) + len(outcome.refused()), 10000,
           what + ': every function is counted or refused')
    t.same(victim.halt(), 0, what + ': never a wrong result')

    # Exactness, at rest while attaching.
    rounds = 40
    count = t.Count(victim.pid, 'many:f_*', options=options)
    t.ok(count.attached(90), what + ': attached at rest')
    t.same(victim.run(rounds), 0, what + ': no wrong result')
    outcome = count.end()
    hits = outcome.hits()
    bad = ['%s: %d, not %d (%s)' % (f, hits[f], n * rounds * THREADS, outcome.kinds()[f])
           for f, n in expected.items() if f in hits and hits[f] != n * rounds * THREADS]
    if not t.ok(len(hits) > 9000 and not bad, what + ': hits of every function are exact'):
        t.note('%d functions, %d of them wrong' % (len(hits), len(bad)))
        t.note('\n'.join(bad[:10]))
    t.same(victim.run(rounds), 0, what + ': no wrong result afterwards')
    t.unchanged(before, what + ': nothing is left at rest')
    victim.stop()
    return outcome


outcome = probed([], 'all kinds')
t.ok(not outcome.refused(), 'all 10,000 are counted')
# Without the last resort, the kernel's breakpoint, and with windows alone.
probed(['--kinds', 'pun,window'], 'jumps only')
if t.TORTURE:
    for i in range(20):
        probed(['--kinds', 'pun,window', '--pages', str(400 * (i + 1))], 'again %d' % i)
t.done()
