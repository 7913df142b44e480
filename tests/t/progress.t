#!/usr/bin/python3 -B
# SPDX-License-Identifier: MIT
"""Long work shows on a terminal how far it is, in one line that is overwritten and taken away; in a
pipe there is nothing of it.

Kernel uprobes are slow to remove, and a process that strace holds cannot be restored: both take
longer than a second on any machine, and neither is measured.
"""
import os
import pty
import re
import select
import subprocess
import sys
import time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'lib'))
import suture_test as t

t.limit(90)
LINE = re.compile(r'\rsuture: ([a-z ]+?)(?: \d+/\d+)? *(?=\r)')


class OnTerminal:
    """The command with a terminal for standard error."""

    def __init__(self, *arguments):
        self.master, slave = pty.openpty()
        self.text = ''
        self.child = t.spawn([t.SUTURE] + [str(a) for a in arguments], stdin=subprocess.DEVNULL,
                             stdout=subprocess.DEVNULL, stderr=slave)
        os.close(slave)

    def take(self, pattern=None, seconds=60):
        """Read until the pattern is there, or the end."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not (pattern and re.search(pattern, self.text)):
            if not select.select([self.master], [], [], 0.1)[0]:
                continue
            try:
                self.text += os.read(self.master, 65536).decode(errors='replace')
            except OSError:
                break
        return bool(pattern and re.search(pattern, self.text))

    def steps(self):
        return {step.strip() for step in LINE.findall(self.text)}


def held(pid):
    tracer = t.spawn(['strace', '-qq', '-f', '-p', str(pid)], stdin=subprocess.DEVNULL,
                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    t.until(lambda: t.is_traced(pid))
    return tracer


victim = t.Victim('sums', 2)
before = t.Snapshot(victim.pid, strict=True)

# Waiting to restore.
count = OnTerminal('count', '-p', victim.pid, 'sums:sum_any')
t.until(lambda: t.ours(victim.pid) and t.text(victim.pid) != before.text
        and not t.is_traced(victim.pid))
tracer = held(victim.pid)
count.child.send_signal(2)
t.ok(count.take(r'trying on: .*\r\n'), 'what is in the way is said in a line that stays')
t.ok(count.take(r'\rsuture: waiting to restore'), 'and that it is waited for, in one that does not')
t.reap(tracer)
count.take()
t.same(count.child.wait(30), t.DONE, 'then it ends')
t.ok(count.text.endswith('\r') and not re.search(r'waiting to restore[^\r]*\n', count.text),
     'and the line is gone')
t.unchanged(before, 'nothing is left', strict=True)

# The same in a pipe.
count = t.Count(victim.pid, 'sums:sum_any')
count.attached()
tracer = held(victim.pid)
count.process.send_signal(2)
line = count.process.stderr.readline()
time.sleep(1.5)
t.reap(tracer)
outcome = count.end(None)
t.ok(outcome.status == t.DONE and 'trying on' in line and '\r' not in line + outcome.err and
     outcome.err == '', 'in a pipe there is the complaint only')
victim.stop()

# Uprobes.
if t.tracefs():
    victim = t.Victim('many', 1)
    names = sorted(n for n in t.symbols(victim.path) if n.startswith('f_'))[:32]
    run = OnTerminal('count', '-p', victim.pid, '--for', '1ms', '--kinds', 'uprobe',
                     *['many:' + name for name in names])
    run.take()
    t.same(run.child.wait(60), t.DONE, 'counting by uprobes')
    t.ok('removing kernel uprobes' in run.steps(), 'shows that they are removed: %s' % run.steps())
    t.ok(re.search(r'uprobes \d+/32', run.text), 'and how many of them')
    t.ok('\n' not in run.text and run.text.endswith('\r'), 'in one line, which is gone in the end')
    victim.stop()
else:
    t.skip('no tracefs here')
t.done()
