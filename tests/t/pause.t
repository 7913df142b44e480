#!/usr/bin/python3 -B
# SPDX-License-Identifier: MIT
"""--max-pause: a process of 1,000 threads is stopped within the bound, or left alone.

No time is measured here. A bound that nothing could keep must be given up, one that anything keeps
must work, and whatever lies between may do either; the process is the same after each: text, maps,
descriptors, no tracer, every thread running, and the counts of what did work are exact.
"""
import os
import re
import subprocess
import sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'lib'))
import suture_test as t

t.limit(90)
LINE = re.compile(r'suture: process \d+ can not be stopped for no longer than (\S+): \d+ of its (\d+) '
                  r'threads were at rest after (\S+); it runs on as it was; --max-pause (\S+) should do\n')
UNITS = {'ns': 1e-9, 'us': 1e-6, 'ms': 1e-3, 's': 1}


def seconds(text):
    number, unit = re.fullmatch(r'([\d.]+(?:e\+\d+)?)(ns|us|ms|s)', text).groups()
    return float(number) * UNITS[unit]


victim = t.Victim('crowd', 'mass', 1000)
before = t.Snapshot(victim.pid)
t.until(lambda: len(t.threads(victim.pid)) == 1000)
THREADS = str(len(t.threads(victim.pid)))


def state():
    answer = victim.ask('state', 'state')
    return [int(word) for word in answer] if answer else None


def left_alone(what):
    t.unchanged(before, what + ': text, maps and descriptors are as they were')
    t.same(t.is_traced(victim.pid), False, what + ': nobody traces it')
    first = state()
    t.ok(first and t.until(lambda: state()[1] > first[1]) and state()[0] == 0, what + ': it runs, right')
    t.same([tid for tid in t.threads(victim.pid) if t.status_field(victim.pid, 'State', tid)[0] in 'tT'],
           [], what + ': no thread is stopped')


for bound in ('1ns', '1us', '900us'):
    outcome = t.suture('count', '-p', victim.pid, '--for', '10ms', '--max-pause', bound, 'crowd:crowd_sum')
    match = LINE.fullmatch(outcome.err)
    if not t.ok(outcome.status == t.TIMEOUT and match and not outcome.out, bound + ': given up, in one line'):
        outcome.explain()
    t.ok(match and match.group(2) == THREADS and seconds(match.group(4)) > seconds(bound),
         bound + ': says of how many threads, and what would do')
    left_alone(bound)

ends = {}
for bound in ['%dus' % us for us in (1500, 5000, 20000)]:
    outcome = t.suture('count', '-p', victim.pid, '--for', '10ms', '--json', '--max-pause', bound,
                       'crowd:crowd_sum', 'crowd:crowd_idle')
    good = outcome.status == t.TIMEOUT and LINE.fullmatch(outcome.err) or \
        outcome.status == t.DONE and outcome.hits().get('crowd_idle') == 0
    if outcome.status == t.TIMEOUT and 'keeps its probes' in outcome.err:
        good = t.suture('revert', '-p', victim.pid).status == t.DONE
    if not good:
        outcome.explain()
    ends[bound] = outcome.status if good else 'bad'
t.note(ends)
t.ok('bad' not in ends.values(), 'bounds between: given up, or done')
left_alone('bounds between')

outcome = t.suture('count', '-p', victim.pid, '--for', '50ms', '--json', '--max-pause', '10s',
                   'crowd:crowd_sum', 'crowd:crowd_idle')
if not t.ok(outcome.status == t.DONE and outcome.hits()['crowd_sum'] > 0 and
            outcome.hits()['crowd_idle'] == 0, '10s: counted'):
    outcome.explain()
left_alone('10s')

# A dry run knows what is hopeless.
outcome = t.suture('count', '-p', victim.pid, '--dry-run', '--max-pause', '1us', 'crowd:crowd_sum')
t.ok(outcome.status == t.TIMEOUT and LINE.fullmatch(outcome.err), 'a dry run says so too')

# revert keeps it as well.
count = t.Count(victim.pid, 'crowd:crowd_sum')
t.ok(count.attached(), 'attached')
count.process.kill()
count.process.wait()
outcome = t.suture('revert', '-p', victim.pid, '--max-pause', '1us', seconds=60)
t.ok(outcome.status == t.TIMEOUT and t.is_one_line(outcome) and '--max-pause' in outcome.err,
     'revert: given up')
t.ok(t.ours(victim.pid) and state()[0] == 0, 'and the process runs on, counting')
t.same(t.suture('revert', '-p', victim.pid, '--max-pause', '10s').status, t.DONE, 'revert with 10s: done')
left_alone('revert')
victim.stop()

# A thread that never comes to rest is waited for as long as the bound, not as long as ever.
source = ('#define _GNU_SOURCE\n#include <sched.h>\n#include <signal.h>\n#include <pthread.h>\n'
          '#include <sys/prctl.h>\n#include <sys/syscall.h>\n#include <unistd.h>\n'
          'int idle(int x) { return x * 3 + 1; }\n'
          'void *wait_too(void *x) { for (;;) pause(); return x; }\n'
          'int main(void) { pthread_t thread; pthread_create(&thread, 0, wait_too, 0);\n'
          '(void)!write(1, "ready\\n", 6);\n'
          'if (!syscall(SYS_clone, CLONE_VFORK | SIGCHLD, 0, 0, 0, 0)) {\n'
          'prctl(PR_SET_PDEATHSIG, SIGKILL); for (;;) pause(); } return idle(1); }')
path = os.path.join(t.scratch(), 'waits')
subprocess.run(['gcc', '-O1', '-xc', '-', '-o', path], input=source.encode(), check=True)
waits = t.Victim(path)
t.until(lambda: t.state(waits.pid) == 'D')
first = t.Snapshot(waits.pid, strict=True)
outcome = t.suture('count', '-p', waits.pid, '--max-pause', '5ms', '--kinds', 'pun,window', 'waits:idle')
said = 'no longer than 5ms: thread %d, in state D, did not come to rest' % waits.pid
if not t.ok(outcome.status == t.TIMEOUT and said in outcome.err,
            'a thread that never stops: given up by the bound'):
    outcome.explain()
t.unchanged(first, 'a thread that never stops: nothing was changed', strict=True)
waits.stop()

# What is left to do when all are at rest is estimated: 10,000 sites on hundreds of pages.
many = t.Victim('many', 2)
first = t.Snapshot(many.pid, strict=True)
outcome = t.suture('count', '-p', many.pid, '--for', '5ms', '--kinds', 'pun,window', '--max-pause', '2ms',
                   'many:f_*')
if not t.ok(outcome.status == t.TIMEOUT and LINE.fullmatch(outcome.err),
            'more to write than the bound allows: given up'):
    outcome.explain()
t.unchanged(first, 'more to write: nothing was changed', strict=True)
count = t.Count(many.pid, 'many:f_*', options=['--kinds', 'pun,window'])
t.ok(count.attached(), 'without a bound: attached')
count.process.kill()
count.process.wait()
outcome = t.suture('revert', '-p', many.pid, '--max-pause', '2ms', seconds=90)
t.ok(outcome.status == t.TIMEOUT and LINE.fullmatch(outcome.err), 'nor is so much reverted')
t.same(t.suture('revert', '-p', many.pid).status, t.DONE, 'without a bound it is')
t.unchanged(first, 'more to write: nothing is left', strict=True)
many.stop()

# The process is larger when it is to be left: the bound holds then, too, and it is restored as soon
# as it can be.
victim = t.Victim('shifting', 1)
before = t.Snapshot(victim.pid)
attached = False
for _ in range(50):
    count = t.Count(victim.pid, 'shifting:shift_sum', options=['--max-pause', '1ms'])
    attached = count.attached()
    if attached:
        break
    count.end(None)
if t.ok(attached, 'one thread is stopped within 1ms'):
    t.same(victim.ask('grow 1050', 'grown'), ['1050'], 'now it has a thousand')
    count.process.send_signal(2)
    line = count.process.stderr.readline()
    t.ok('trying on' in line and '--max-pause' in line, 'not restored yet, and why')
    t.ok(count.running() and t.ours(victim.pid), 'the probes are still there')
    t.same(victim.ask('run 7', 'done'), ['0'], 'and work')
    t.same(victim.ask('shrink', 'grown'), ['0'], 'now it has one again')
    outcome = count.end(None)
    if not t.ok(outcome.status == t.DONE and outcome.hits() == {'shift_sum': 7},
                'restored; all was counted'):
        outcome.explain()
t.unchanged(before, 'nothing is left')
victim.stop()
t.done()
