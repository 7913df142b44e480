#!/usr/bin/python3 -B
# SPDX-License-Identifier: MIT
"""Other tools at the same function.

Proves that a kernel uprobe (of tracefs, of bpftrace) that is there before us refuses the site by
name; that one which comes after us, before the first hit or after, goes away again in whatever
order, or stays over our detach, never makes the target die or compute something wrong, for each
kind of site; and that the target of a debugger or of strace is refused, naming it.
"""
import os
import re
import signal
import sys
import time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'lib'))
import suture_test as t

t.limit(170)
NAME = 'sums-nopie'  # linked at a fixed address: `sum_below` cannot be punned there
PATH = os.path.join(t.BUILD, 'tests/victims', NAME)
SITES = {'pun': 'sum_any', 'window': 'sum_below', 'uprobe': 'sum_any'}
ROUNDS = 500
table = t.symbols(PATH)
root = t.tracefs()
serial = 0


def neighbour(function):
    global serial
    serial += 1
    return t.KernelUprobe(root, 'p%d' % serial, PATH, t.file_offset(PATH, table[function]))


def right(victim, what):
    """All threads run, and all is well. False if the victim is dead."""
    wrong = victim.run(ROUNDS)
    if not t.ok(wrong == 0, what):
        t.note('%s wrong results, state %s, status %s' % (wrong, t.state(victim.pid),
                                                          victim.process.poll()))
    return wrong is not None


def before_us(kind):
    victim = t.Victim(NAME, 3)
    other = neighbour(SITES[kind])
    other.enable()
    before = t.Snapshot(victim.pid)
    for hit in ('before its first hit', 'after hits'):
        outcome = t.suture('count', '-p', victim.pid, '--json', '--for', '100ms', '--kinds', kind,
                           '%s:%s' % (NAME, SITES[kind]))
        what = '%s, uprobe first, %s' % (kind, hit)
        if not t.ok(outcome.status == t.REFUSED, what + ': refused'):
            outcome.explain()
        if not t.ok(re.search('uprobe|breakpoint', outcome.reasons()), what + ': by name'):
            outcome.explain()
        t.unchanged(before, what + ': untouched')
        right(victim, what + ': lives')
    other.remove()
    right(victim, '%s, uprobe first, and gone: lives' % kind)
    victim.stop()


# What happens after our attach, in order: the neighbour comes (+) and goes (-), all threads run
# (r), we detach (d), with a fresh neighbour each time.
STORIES = {
    'comes and goes, no hit': '+-rd r',
    'comes before the first hit, goes after hits': '+r-rd r',
    'comes after hits, goes before its first hit': 'r+-rd r',
    'comes after hits, goes after hits': 'r+r-rd r',
    'comes twice': '+r-r+r-rd r',
    'stays over our detach, no hit': '+d r-r',
    'stays over our detach, hit before': 'r+rd r-r',
}


def after_us(kind, name, story):
    what = '%s, uprobe later: %s' % (kind, name)
    victim = t.Victim(NAME, 3)
    pristine = t.Snapshot(victim.pid)
    count = t.Count(victim.pid, '%s:%s' % (NAME, SITES[kind]), options=['--kinds', kind])
    if not t.ok(count.attached(), what + ': we are attached'):
        count.end().explain()
        victim.stop()
        return
    others, step, lives = [], 0, True
    for action in story:
        step += 1
        if action == '+':
            others.append(neighbour(SITES[kind]))
            others[-1].enable()
        elif action == '-':
            others.pop().remove()
        elif action == 'r' and lives:
            lives = right(victim, '%s: right at step %d' % (what, step))
        elif action == 'd':
            outcome = count.end()
            if not t.ok(outcome.status == t.DONE, what + ': detached'):
                outcome.explain()
            t.same([p['kind'] for p in outcome.probes()], [kind], what + ': kind')
    while others:
        others.pop().remove()
    if lives:
        t.unchanged(pristine, what + ': nothing is left of either')
    victim.stop()


def while_running(kind):
    """The same while all threads run all the time."""
    what = '%s, uprobe while all threads run' % kind
    victim = t.Victim(NAME, 4)
    pristine = t.Snapshot(victim.pid)
    victim.free()
    count = t.Count(victim.pid, '%s:%s' % (NAME, SITES[kind]), options=['--kinds', kind])
    t.ok(count.attached(), what + ': we are attached')
    matter = ''
    for _ in range(5):
        other = neighbour(SITES[kind])
        other.enable()
        matter = matter or victim.works()
        other.remove()
        matter = matter or victim.works()
    t.same(matter, '', what + ': every thread gets on with right results')
    outcome = count.end()
    if not t.ok(outcome.status == t.DONE, what + ': detached'):
        outcome.explain()
    t.same(victim.works(), '', what + ': works afterwards')
    t.unchanged(pristine, what + ': nothing is left of either')
    victim.stop()


def bpftrace_comes(kind):
    what = '%s, bpftrace' % kind
    victim = t.Victim(NAME, 3)
    pristine = t.Snapshot(victim.pid)
    program = 'uprobe:%s:%s { @++; }' % (PATH, SITES[kind])
    count = t.Count(victim.pid, '%s:%s' % (NAME, SITES[kind]), options=['--kinds', kind])
    t.ok(count.attached(), what + ': we are attached')
    under = t.text(victim.pid)
    other = t.spawn(['bpftrace', '-e', program, '-p', str(victim.pid)], stdout=t.subprocess.PIPE,
                    stderr=t.subprocess.DEVNULL)
    site = table[SITES[kind]]

    def breakpoint_there():
        return any(start <= site < start + len(data) and data[site - start] == 0xcc
                   for start, data in t.text(victim.pid).items())
    # A uprobe of ours is one already; then give bpftrace the time that it needs elsewhere.
    came = t.until(lambda: other.poll() is not None or
                   (kind != 'uprobe' and breakpoint_there() and t.text(victim.pid) != under),
                   4 if kind == 'uprobe' else 20)
    t.ok((came or kind == 'uprobe') and other.poll() is None, what + ': it comes')
    if right(victim, what + ': right under both'):
        other.send_signal(signal.SIGINT)
        try:
            out, _ = other.communicate(timeout=20)
            t.ok(re.search(rb'@: \d+', out), what + ': it has counted')
        except t.subprocess.TimeoutExpired:
            t.ok(False, what + ': it ends')
        right(victim, what + ': right without it')
        outcome = count.end()
        if not t.ok(outcome.status == t.DONE, what + ': detached'):
            outcome.explain()
        right(victim, what + ': right without us')
        t.unchanged(pristine, what + ': nothing is left of either')
    t.reap(other)
    victim.stop()


def tracer(tool, arguments, ready):
    """A process that is traced is refused, naming the tracer and its number."""
    victim = t.Victim('sums', 2)
    other = t.spawn([tool, *arguments(victim.pid)], stdin=t.subprocess.DEVNULL,
                    stdout=t.subprocess.DEVNULL, stderr=t.subprocess.DEVNULL)
    t.until(lambda: t.status_field(victim.pid, 'TracerPid') == str(other.pid) and ready(victim))
    time.sleep(0.3)
    before = t.Snapshot(victim.pid)
    outcome = t.suture('count', '-p', victim.pid, '--for', '100ms', 'sums:sum_any')
    if not t.ok(outcome.status == t.PROCESS and t.is_one_line(outcome), tool + ': refused, exit 3'):
        outcome.explain()
    if not t.ok(tool in outcome.err and str(other.pid) in outcome.err,
                tool + ': named with its number'):
        outcome.explain()
    t.unchanged(before, tool + ': the target is untouched')
    t.reap(other)
    return victim


if root is None:
    t.skip('uprobes need root and tracefs')
else:
    for kind in SITES:
        before_us(kind)
    for kind in SITES:
        for name, story in STORIES.items():
            after_us(kind, name, story)
        while_running(kind)
    if not t.have('bpftrace') or not os.path.exists('/sys/kernel/btf/vmlinux'):
        t.skip('no bpftrace, or a kernel without BTF')
    else:
        for kind in SITES:
            bpftrace_comes(kind)

if not t.have('gdb'):
    t.skip('no gdb')
else:
    def gdb(pid):
        return ['-nx', '-batch', '-iex', 'set debuginfod enabled off', '-p', str(pid), '-ex',
                'break *sum_idle', '-ex', 'continue']

    site = t.symbols(os.path.join(t.BUILD, 'tests/victims/sums'))['sum_idle']

    def breakpoint_in(victim):
        start = min((m.start for m in t.maps(victim.pid) if m.path == victim.path), default=0)
        with open('/proc/%d/mem' % victim.pid, 'rb', buffering=0) as memory:
            memory.seek(start + site)
            return memory.read(1) == b'\xcc'

    victim = tracer('gdb', gdb, breakpoint_in)
    # gdb was killed: its breakpoint is still there, and nobody traces.
    t.until(lambda: not t.is_traced(victim.pid))
    t.ok(breakpoint_in(victim), 'a killed gdb leaves its breakpoint')
    before = t.Snapshot(victim.pid)
    outcome = t.suture('count', '-p', victim.pid, '--json', '--for', '100ms', 'sums:sum_idle')
    if not t.ok(outcome.status == t.REFUSED and 'breakpoint' in outcome.reasons(),
                'a breakpoint without a debugger is refused by name'):
        outcome.explain()
    t.unchanged(before, 'and left where it is')
    outcome = t.suture('count', '-p', victim.pid, '--json', '--for', '100ms', 'sums:sum_any')
    t.ok(outcome.status == t.DONE, 'other functions can be counted')
    t.same(victim.run(10), 0, 'the target works')
    victim.stop()

if not t.have('strace'):
    t.skip('no strace')
else:
    victim = tracer('strace', lambda pid: ['-f', '-p', str(pid)], lambda victim: True)
    t.until(lambda: not t.is_traced(victim.pid))
    t.same(victim.run(10), 0, 'strace gone: the target works')
    victim.stop()
t.done()
