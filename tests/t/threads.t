#!/usr/bin/python3 -B
# SPDX-License-Identifier: MIT
"""Threads and processes in every awkward state.

Proves that attach and detach work on 1,000 threads, half of them spinning and half blocked; while
threads are created and ended all the time; beside posix_spawn; with a leader that has ended; on
a stopped process, which stays stopped; and on families: hits are those of all of them, and no
process keeps anything of ours, those born during detach included. A process in the middle of a
vfork is left alone, with exit code 5.
"""
import os
import signal
import sys
import time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'lib'))
import suture_test as t

t.limit(150)


def crowd(name, *mode, times=2, options=(), ready=lambda victim: True):
    victim = t.Victim('crowd', *mode)
    t.until(lambda: ready(victim))
    before = t.Snapshot(victim.pid)
    for i in range(times):
        outcome, matter = t.counted(victim, 'crowd:crowd_sum', lambda: t.goes_on(victim), options)
        if not t.ok(outcome.status == t.DONE, '%s, %d: succeeds' % (name, i + 1)):
            outcome.explain()
        t.same(matter, '', '%s, %d: goes on under the probe' % (name, i + 1))
        t.ok(sum(outcome.hits().values()) > 0, '%s, %d: hits are counted' % (name, i + 1))
        t.same(t.goes_on(victim), '', '%s, %d: goes on afterwards' % (name, i + 1))
        t.unchanged(before, '%s, %d: nothing is left' % (name, i + 1))
    return victim


victim = crowd('1,000 threads', 'mass', 1000)
t.ok(len(t.threads(victim.pid)) == 1000, 'all 1,000 are still there')
victim.stop()
crowd('threads that come and go', 'clones', times=4).stop()
crowd('posix_spawn all the time', 'spawn', times=3).stop()
victim = crowd('leader has ended', 'leaderless', ready=lambda v: t.state(v.pid) == 'Z')
t.ok(t.state(victim.pid) == 'Z', 'the leader is still a zombie')
victim.stop()

# --- vfork in progress ----------------------------------------------------------------------

victim = t.Victim('crowd', 'vfork')
t.until(lambda: t.state(victim.pid) == 'D')
before = t.Snapshot(victim.pid)
for arguments in ([], ['--max-pause', '50ms']):
    outcome = t.suture('count', '-p', victim.pid, '--json', '--for', '100ms', *arguments,
                       'crowd:crowd_sum')
    if not t.ok(outcome.status == t.TIMEOUT, 'vfork in progress: exit 5'):
        outcome.explain()
    t.ok(t.is_one_line(outcome), 'vfork in progress: one line says why')
    t.unchanged(before, 'vfork in progress: untouched')
    t.same(t.goes_on(victim), '', 'vfork in progress: the other threads go on')
    t.ok(not t.is_traced(victim.pid), 'vfork in progress: nobody traces it')
victim.stop()

# --- a stopped process ----------------------------------------------------------------------

victim = t.Victim('sums', 4)
before = t.Snapshot(victim.pid)
os.kill(victim.pid, signal.SIGSTOP)


def all_stopped():
    return {(t.status_field(victim.pid, 'State', tid) or '?')[0]
            for tid in t.threads(victim.pid)} == {'T'}


t.ok(t.until(all_stopped), 'stopped before')
count = t.Count(victim.pid, 'sums:sum_pun', 'sums:sum_any')
if not t.ok(count.attached(), 'attaches to a stopped process'):
    count.end().explain()
else:
    t.ok(t.until(all_stopped, 5), 'it stays stopped')
    victim.tell('run 1000')
    time.sleep(0.2)
    t.ok(all_stopped(), 'and does nothing')
    os.kill(victim.pid, signal.SIGCONT)
    answer = victim.expect('done')
    t.same(answer, ['0'], 'continued, it computes right')
    os.kill(victim.pid, signal.SIGSTOP)
    t.until(all_stopped)
    outcome = count.end()
    if not t.same((outcome.status, outcome.hits()), (t.DONE, {'sum_pun': 4000, 'sum_any': 4000}),
                  'and is counted, and detached while stopped'):
        outcome.explain()
    t.ok(t.until(all_stopped, 5), 'detach leaves it stopped')
    t.unchanged(before, 'and as it was')
    os.kill(victim.pid, signal.SIGCONT)
    t.same(victim.run(100), 0, 'continued, it computes right again')
victim.stop()

# --- families -------------------------------------------------------------------------------


def stained(pids, text_before):
    """Those that are not as they were before the attach."""
    return [pid for pid in pids if t.text(pid) != text_before or t.ours(pid)]


victim = t.Victim('crowd', 'family')
text_before = t.text(victim.pid)
count = t.Count(victim.pid, 'crowd:crowd_sum')
t.ok(count.attached(), 'family: attached to the parent')
t.same(victim.ask('fork 5 1000', 'done'), ['0'], 'family: children compute right')
t.same(victim.ask('again 500', 'done'), ['0'], 'family: and again')
family = [victim.pid] + [int(pid) for pid in victim.ask('pids', 'pids') or []]
t.same(stained(family, text_before), family, 'family: all six share the probe')
outcome = count.end()
if not t.same(outcome.status, t.DONE, 'family: detached'):
    outcome.explain()
t.same(outcome.hits(), {'crowd_sum': 6 * 1500}, 'family: hits of all six processes')
t.same((outcome.json or {}).get('processes'), 6, 'family: "processes" says six')
t.same(stained(family, text_before), [], 'family: all are as they were')
t.same(victim.ask('again 500', 'done'), ['0'], 'family: all compute right afterwards')
victim.stop()

# A command that dies leaves a family; revert, asked for any member, cleans all.
victim = t.Victim('crowd', 'family')
text_before = t.text(victim.pid)
count = t.Count(victim.pid, 'crowd:crowd_sum')
t.ok(count.attached(), 'orphaned family: attached to the parent')
t.same(victim.ask('fork 3 1000', 'done'), ['0'], 'orphaned family: children compute right')
family = [victim.pid] + [int(pid) for pid in victim.ask('pids', 'pids') or []]
count.end(signal.SIGKILL)
t.same(victim.ask('again 500', 'done'), ['0'], 'orphaned family: computes right')
outcome = t.suture('revert', '-p', family[-1])
if not t.same(outcome.status, t.DONE, 'orphaned family: revert by way of a child'):
    outcome.explain()
t.same(stained(family, text_before), [], 'orphaned family: all are as they were')
t.same(victim.ask('again 500', 'done'), ['0'], 'orphaned family: computes right afterwards')
victim.stop()

# Children born all the time, during attach and detach too.
victim = t.Victim('crowd', 'forks')
before = t.Snapshot(victim.pid)


def descendants(pid):
    found = [pid]
    try:
        with open('/proc/%d/task/%d/children' % (pid, pid)) as file:
            for word in file.read().split():
                found += descendants(int(word))
    except OSError:
        pass
    return found


for i in range(6):
    outcome, matter = t.counted(victim, 'crowd:crowd_sum', lambda: t.goes_on(victim))
    # Those that are there now include all that were born during detach and still live.
    kept = [line for pid in descendants(victim.pid) for line in t.ours(pid)]
    if not t.ok(outcome.status == t.DONE, 'fork storm, %d: succeeds' % (i + 1)):
        outcome.explain()
    t.ok(sum(outcome.hits().values()) > 0 and outcome.json['processes'] >= 1,
         'fork storm, %d: hits are counted' % (i + 1))
    t.same(matter, '', 'fork storm, %d: goes on under the probe' % (i + 1))
    t.same(kept, [], 'fork storm, %d: no process keeps anything' % (i + 1))
    t.same(t.goes_on(victim), '', 'fork storm, %d: all results are right' % (i + 1))
    t.unchanged(before, 'fork storm, %d: the parent is as it was' % (i + 1))
victim.stop()
t.done()
