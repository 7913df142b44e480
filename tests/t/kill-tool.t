#!/usr/bin/python3 -B
# SPDX-License-Identifier: MIT
"""SIGKILL of the command at every ptrace call and every write of an attach and of a detach.

Proves that a target of 17 threads, all running the patched functions (one punned, one with inner
boundaries under a window), lives on with right results wherever the command dies, that `suture
revert` or the next `suture count` then succeeds, and that it leaves text and maps as they were.
Dying while reverting is no different.

In a quick run every kind of call is hit in attach and in detach, just before and just after it,
and as many other points as fit; SUTURE_TORTURE=1 takes them all.
"""
import os
import sys
import time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'lib'))
import suture_test as t

t.limit(150)
SHIM = os.path.join(t.BUILD, 'tests/killat.so')
SPECS = ['sums-nopie:sum_pun', 'sums-nopie:sum_below']
POINTS_MAX = 4000
SECONDS = 55          # for the points of the count in a quick run
SECONDS_REVERT = 20   # for those of the revert
if t.TORTURE:
    SECONDS, SECONDS_REVERT = 1500, 600


class Target:
    """17 threads that run the functions, and what they looked like at first."""

    def __init__(self):
        self.victim = t.Victim('sums-nopie', 17)
        self.victim.free()
        self.before = t.Snapshot(self.victim.pid)

    def count(self, duration, env=None):
        return t.suture('count', '-p', self.victim.pid, '--json', '--for', duration,
                        '--kinds', 'pun,window', *SPECS, env=env)

    def revert(self, env=None):
        return t.suture('revert', '-p', self.victim.pid, env=env)


def calls(run):
    """Undisturbed: the calls made, [(phase, name)], phase 0 before the longest silence, 1 after."""
    log = os.path.join(directory, 'calls')
    outcome = run({'LD_PRELOAD': SHIM, 'SUTURE_KILL_LOG': log})
    with open(log) as file:
        lines = [line.split() for line in file]
    times = [int(line[1]) for line in lines]
    gaps = [b - a for a, b in zip(times, times[1:])]
    split = gaps.index(max(gaps)) + 1 if gaps else 0
    return outcome, [(0 if i < split else 1, line[2]) for i, line in enumerate(lines)]


def points(made):
    """(variable, n): first and last call of each kind in each phase, then all others in an order
    that spreads evenly however soon it is cut off."""
    chosen = []
    for kind in sorted(set(made)):
        chosen += [made.index(kind) + 1, len(made) - made[::-1].index(kind)]
    slack = len(made) // 5 + 3
    everything = range(1, len(made) + slack + 1)
    chosen += sorted(everything, key=lambda n: n * 0.6180339887498949 % 1)
    seen, result = set(), []
    for i, n in enumerate(chosen):
        # In a quick run each point of the long tail is taken in one of its two forms.
        forms = ['SUTURE_KILL_AT', 'SUTURE_KILL_AFTER']
        if not t.TORTURE and i >= 2 * len(set(made)):
            forms = [forms[n % 2]]
        for form in forms:
            if (form, n) not in seen:
                seen.add((form, n))
                result.append((form, n))
    return result[:POINTS_MAX]


def campaign(name, made, seconds, prepare, run):
    """Kill `run` at the points; afterwards all must be well. `prepare` comes before each."""
    global target
    trouble = {key: [] for key in ('lives', 'ends', 'repaired', 'restored')}
    killed = taken = 0
    end = time.monotonic() + seconds
    for form, n in points(made):
        if time.monotonic() > end or sum(len(list_) for list_ in trouble.values()) > 20:
            break
        taken += 1
        where = '%s=%d (%s)' % (form, n, made[n - 1][1] if n <= len(made) else 'beyond')
        prepare()
        outcome = run({'LD_PRELOAD': SHIM, form: str(n)})
        if outcome.status == -9:
            killed += 1
        elif outcome.status != t.DONE:
            trouble['ends'].append('%s: exit %s %s' % (where, outcome.status, outcome.err.strip()))
        matter = target.victim.works()
        if matter:
            trouble['lives'].append('%s: %s' % (where, matter))
        repair = target.revert() if n % 2 else target.count('20ms')
        if repair.status != t.DONE:
            trouble['repaired'].append('%s: %s: exit %s %s' % (
                where, 'revert' if n % 2 else 'count', repair.status, repair.err.strip()))
        elif n % 2 == 0 and 0 in repair.hits().values():
            trouble['repaired'].append('%s: the next count counts nothing' % where)
        if not matter:
            matter = target.victim.works()
            if matter:
                trouble['lives'].append('%s: after the repair: %s' % (where, matter))
        found = target.before.differences(t.Snapshot(target.victim.pid))
        if found:
            trouble['restored'].append('%s: %s' % (where, '; '.join(found[:3])))
        if matter or found:
            target.victim.stop()
            target = Target()
    t.note('%s: %d of %d calls killed, %d points taken' % (name, killed, len(made), taken))
    for key, text in (
            ('lives', 'every thread gets on and every result is right'),
            ('ends', 'the command dies by our signal or ends well'),
            ('repaired', 'revert, or the next count, succeeds'),
            ('restored', 'text, maps and descriptors are as before')):
        t.ok(not trouble[key] and killed > 0, '%s killed: %s' % (name, text))
        t.note('\n'.join(trouble[key][:8])) if trouble[key] else None


directory = t.scratch()
target = Target()

outcome, made = calls(lambda env: target.count('600ms', env))
if not t.ok(outcome.status == t.DONE, 'an undisturbed count succeeds'):
    outcome.explain()
t.same(outcome.kinds(), {'sum_pun': 'pun', 'sum_below': 'window'},
       'one function is punned, the other has a window')
t.ok(all(hits > 0 for hits in outcome.hits().values()) and outcome.hits(), 'both are counted')
t.ok(len([name for phase, name in made if phase == 0 and name.startswith('ptrace')]) > 10
     and len([name for phase, name in made if phase == 1 and name.startswith('ptrace')]) > 10,
     'the calls of attach and of detach are seen')
t.unchanged(target.before, 'and leaves nothing')
t.note('calls: attach %d, detach %d' % (len([1 for phase, _ in made if phase == 0]),
                                        len([1 for phase, _ in made if phase == 1])))

if outcome.status == t.DONE and made:
    campaign('count', made, SECONDS, lambda: None, lambda env: target.count('30ms', env))

    # What revert has to clean: a count that died when everything was in place.
    last_of_attach = len([1 for phase, _ in made if phase == 0])

    def leave_a_mess():
        target.count('30ms', {'LD_PRELOAD': SHIM, 'SUTURE_KILL_AT': str(last_of_attach + 3)})

    leave_a_mess()
    t.ok(t.ours(target.victim.pid), 'a command killed while counting leaves its mapping')
    status = t.suture('status', '-p', target.victim.pid, '--json')
    if not t.ok(status.status == t.DONE and status.json is not None, 'status tells of it'):
        status.explain()
    outcome, made = calls(target.revert)
    if not t.ok(outcome.status == t.DONE, 'revert cleans it'):
        outcome.explain()
    t.unchanged(target.before, 'nothing is left')
    if outcome.status == t.DONE and made:
        campaign('revert', made, SECONDS_REVERT, leave_a_mess, target.revert)
    outcome = target.revert()
    t.ok(outcome.status == t.DONE, 'revert with nothing to do succeeds')
t.done()
