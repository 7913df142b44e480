#!/usr/bin/python3 -B
# SPDX-License-Identifier: MIT
"""Processes that are hard to stop: with one thread and with 4,000; while threads come and go, of a
leader that has ended; with a thread that nothing can stop, because the kernel waits for a file
system or for a page; in whose memory another process runs; that may not map more; that becomes
another program meanwhile, or ends.

Either all works, or exit 5 says which thread or process is the matter, and the target is untouched:
nothing of ours in it, nobody traces it, it goes on. threads.t has 1,000 threads, clones, forks,
vfork and stopped processes.
"""
import ctypes
import os
import resource
import signal
import sys
import time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'lib'))
import suture_test as t

t.limit(120)
SPEC = 'crowd:crowd_sum'


def works(what, victim, times=2, options=()):
    before = t.Snapshot(victim.pid)
    for i in range(times):
        outcome, matter = t.counted(victim, SPEC, lambda: t.goes_on(victim), options)
        if not t.ok(outcome.status == t.DONE, '%s, %d: succeeds' % (what, i + 1)):
            outcome.explain()
        t.same(matter, '', '%s, %d: goes on under the probe' % (what, i + 1))
        t.ok(sum(outcome.hits().values()) > 0, '%s, %d: hits are counted' % (what, i + 1))
        t.same(t.goes_on(victim), '', '%s, %d: goes on afterwards' % (what, i + 1))
        t.unchanged(before, '%s, %d: nothing is left' % (what, i + 1))
    if outcome.json:
        t.note('%s: stopped for %s us' % (what, outcome.json['stop_us']))
    return outcome


def untouched(what, victim, words, status=t.TIMEOUT, options=('--max-pause', '50ms')):
    """Given up with the reason; and the victim notices nothing."""
    before = t.Snapshot(victim.pid)
    outcome = t.suture('count', '-p', victim.pid, '--json', '--for', '100ms', *options, SPEC)
    good = t.ok(outcome.status == status, '%s: exit %d' % (what, status))
    good &= t.ok(t.is_one_line(outcome), what + ': one line says why')
    for word in words:
        good &= t.ok(str(word) in outcome.err, '%s: says "%s"' % (what, word))
    if not good:
        outcome.explain()
    t.unchanged(before, what + ': untouched')
    t.ok(not t.is_traced(victim.pid), what + ': nobody traces it')
    t.same(t.goes_on(victim), '', what + ': goes on')


for threads in (2, 16, 256, 4000):
    victim = t.Victim('crowd', 'mass', threads)
    t.ok(t.until(lambda: len(t.threads(victim.pid)) == threads, 30), '%d threads' % threads)
    # Each must get a turn to stop, on a machine that may be busy with other tests.
    works('%d threads' % threads, victim, 1, ['--max-pause', '10s'])
    victim.stop()

# --- threads that can not be stopped --------------------------------------------------------

LIBC = ctypes.CDLL(None, use_errno=True)


class Frozen:
    """A file system whose server does not answer: whoever asks for something there waits, and no
    signal but SIGKILL ends that."""

    def __init__(self):
        self.path = t.scratch()
        self.fd = os.open('/dev/fuse', os.O_RDWR | os.O_CLOEXEC)
        options = b'fd=%d,rootmode=40000,user_id=0,group_id=0' % self.fd
        if LIBC.mount(b'suture-test', self.path.encode(), b'fuse', 0, options):
            raise OSError(ctypes.get_errno(), 'mount')
        t.at_end(LIBC.umount2, self.path.encode(), 2)  # MNT_DETACH
        t.at_end(self.thaw)

    def thaw(self):
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1


def stuck_thread(victim):
    return [tid for tid in t.threads(victim.pid)
            if (t.status_field(victim.pid, 'State', tid) or '?')[0] == 'D']


if t.is_root() and os.path.exists('/dev/fuse'):
    frozen = Frozen()
    victim = t.Victim('crowd', 'plain')
    victim.tell('stick %s/file' % frozen.path)
    stuck = t.until(lambda: stuck_thread(victim))
    t.same(len(stuck), 1, 'a thread in state D')
    for options in ([], ['--max-pause', '20ms'], ['--no-rseq']):
        untouched('a thread in state D', victim, ['thread %d' % stuck[0], 'state D'],
                  options=options)
    count = t.Count(victim.pid, SPEC, options=['--kinds', 'uprobe'])
    t.ok(count.attached(), 'a thread in state D: a uprobe needs no stop')
    t.same(t.goes_on(victim), '', 'a thread in state D: goes on with a uprobe')
    outcome = count.end()
    if not t.ok(outcome.status == t.DONE and sum(outcome.hits().values()) > 0,
                'a thread in state D: counted by a uprobe'):
        outcome.explain()
    t.same(stuck_thread(victim), stuck, 'a thread in state D: it still is')
    # Another gets there while it is counted.
    other = t.Victim('crowd', 'plain')
    before = t.Snapshot(other.pid)
    count = t.Count(other.pid, SPEC, options=['--max-pause', '20ms'])
    t.ok(count.attached(), 'a thread gets into state D: attached')
    other.tell('stick %s/file' % frozen.path)
    stuck = t.until(lambda: stuck_thread(other))
    os.kill(count.process.pid, signal.SIGINT)
    said = count.process.stderr.readline()
    t.ok('trying on' in said, 'a thread gets into state D: the command tries on')
    t.same(t.goes_on(other), '', 'a thread gets into state D: goes on')
    if t.TORTURE:  # the command tries for 10 seconds
        outcome = count.end()
        t.same(outcome.status, t.TIMEOUT, 'a thread gets into state D: can not be restored')
        expected = ['keeps its probes', 'revert -p %d' % other.pid]
        t.same(t.goes_on(other), '', 'a thread gets into state D: still goes on')
        frozen.thaw()
        t.same(t.suture('revert', '-p', other.pid).status, t.DONE,
               'a thread gets into state D: reverted later')
    else:
        frozen.thaw()
        outcome = count.end(None)
        t.same(outcome.status, t.DONE, 'a thread gets into state D: restored later')
        expected = []
    for word in expected + ['thread %d' % stuck[0], 'state D']:
        if not t.ok(word in said + outcome.err, 'a thread gets into state D: says "%s"' % word):
            outcome.explain()
    t.ok(sum(outcome.hits().values()) > 0, 'a thread gets into state D: counted')
    t.ok(t.until(lambda: not stuck_thread(victim) + stuck_thread(other)),
         'threads were in state D')
    t.unchanged(before, 'a thread gets into state D: nothing is left')
    t.same(t.goes_on(other), '', 'a thread gets into state D: goes on afterwards')
    other.stop()
    works('a thread was in state D', victim, 1)
    victim.stop()
else:
    t.skip('needs root and /dev/fuse to freeze a file system')

# Threads of the kernel's own; they execute nothing of the program, and need no counters.
victim = t.Victim('crowd', 'uring', ready=None)
if victim.expect('ready') is None:
    t.skip('io_uring is switched off')
else:
    t.ok(t.until(lambda: any(t.status_field(victim.pid, 'Name', tid).startswith('iou-')
                             for tid in t.threads(victim.pid))), 'io_uring: a thread of the kernel')
    outcome = works('io_uring', victim)
    t.same({probe['counter'] for probe in outcome.probes()}, {'rseq'}, 'io_uring: counters')
victim.stop()

victim = t.Victim('crowd', 'fault')
time.sleep(0.1)
untouched('a thread in a fault of the kernel', victim, ['thread '])
victim.tell('fill')
t.same(t.goes_on(victim), '', 'a thread in a fault of the kernel: filled')
works('a thread was in a fault of the kernel', victim, 1)
victim.stop()

# --- another process in the same memory -----------------------------------------------------

victim = t.Victim('crowd', 'share', ready=None)
other = int(victim.expect('ready')[0])
t.ok(other > 0, 'another process in its memory: there is one')
untouched('another process in its memory', victim, ['process %d' % other, 'CLONE_THREAD'])
untouched('asked for by that process', type('', (), {
    'pid': other, 'progress': victim.progress, 'process': victim.process})(), [
        'process %d' % victim.pid, 'CLONE_THREAD'])
os.kill(other, signal.SIGKILL)
t.ok(t.until(lambda: t.state(other) in '?ZX'), 'another process in its memory: it ends')
works('another process was in its memory', victim, 1)
victim.stop()

# --- limits, and ends -----------------------------------------------------------------------

victim = t.Victim('crowd', 'plain')
for what, limit, value in (('no more descriptors', resource.RLIMIT_NOFILE, 3),
                           ('no more memory', resource.RLIMIT_AS, 4096)):
    old = resource.prlimit(victim.pid, limit)
    resource.prlimit(victim.pid, limit, (value, old[1]))
    untouched(what, victim, ['could not', 'memory'], t.PROCESS)
    resource.prlimit(victim.pid, limit, old)
works('limits are gone', victim, 1)
victim.stop()

bad = []
for i in range(100 if t.TORTURE else 20):
    victim = t.Victim('sums', 4)
    count = t.Count(victim.pid, 'sums:sum_any', 'libc.so.6:read', duration='20ms')
    time.sleep(i % 20 / 1000)
    if i % 2:
        victim.process.kill()
    else:
        victim.tell('quit')
    outcome = count.end(None)
    if outcome.status not in (t.DONE, t.PROCESS) or \
            (outcome.status == t.PROCESS and not t.is_one_line(outcome)):
        bad.append((i, outcome.status, outcome.err))
    if not i % 2 and victim.process.wait(20):
        bad.append((i, 'died of it', victim.process.returncode))
    victim.stop()
t.same(bad, [], 'processes that end meanwhile: counted, or said to have ended')

# --- another program ------------------------------------------------------------------------

victim = t.Victim('crowd', 'plain')
count = t.Count(victim.pid, SPEC)
t.ok(count.attached(), 'becomes another program: attached')
t.same(victim.ask('exec', 'ready'), [], 'becomes another program: it does')
t.same(t.goes_on(victim), '', 'becomes another program: goes on')
t.until(lambda: not any('ld.so.cache' in mapping.path for mapping in t.maps(victim.pid)))
before = t.Snapshot(victim.pid)
outcome = count.end()
if not t.ok(outcome.status == t.DONE and sum(outcome.hits().values()) > 0,
            'becomes another program: what was counted before'):
    outcome.explain()
t.unchanged(before, 'becomes another program: that is not touched')
t.same(t.ours(victim.pid), [], 'becomes another program: nothing is in it')
t.ok(t.until(lambda: t.state(victim.pid) == 'Z'), 'a program whose leader has ended')
works('a program whose leader has ended', victim)
victim.stop()
t.done()
