#!/usr/bin/python3 -B
# SPDX-License-Identifier: MIT
"""`suture doctor`: each line is driven by a real situation, and its verdict is what `count` does.

A process that is traced, confined by seccomp, not dumpable, of another user, 32-bit, stopped, in a
vfork, sharing its memory, sealed, under MDWE, without rseq areas, in other namespaces, with a
breakpoint or what a killed suture left in it; an unprivileged user, a process that may not write
text, a machine whose settings are otherwise. A line that lies fails.
"""
import os
import re
import shutil
import signal
import sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'lib'))
import suture_test as t

t.limit(90)
NOBODY = 65534
SITE = 'libc.so.6:malloc'
tool = os.path.join(t.scratch(), 'suture')
os.chmod(os.path.dirname(tool), 0o755)
shutil.copy(t.SUTURE, tool)
os.chmod(tool, 0o755)


class Report:
    def __init__(self, outcome):
        self.outcome = outcome
        self.json = outcome.json or {'findings': []}
        self.lines = {(f['of'], f['what']): f for f in self.json['findings']}

    def line(self, what, of='process'):
        return self.lines.get((of, what), {'verdict': None, 'value': '', 'follows': '', 'change': ''})


def doctor(pid=None, uid=None, through=()):
    arguments = [*through, tool, 'doctor', '--json']
    if pid:
        arguments += ['-p', str(pid)]
    report = Report(t.command(arguments, 30, uid=uid))
    if not t.ok(report.outcome.json and not report.outcome.err, 'doctor: an object, no complaint'):
        report.outcome.explain()
    return report


def says(report, what, verdict, value='', of='process'):
    """A line's verdict, and a word of its value; it has consequences, and a way out if it is bad."""
    line = report.line(what, of)
    good = t.ok(line['verdict'] == verdict and value in line['value'],
                '%s %s: %s' % (what, value, verdict))
    if not good:
        t.note(line)
    t.ok(line['follows'] and (verdict == 'ok' or line['change'] or verdict != 'blocks'),
         '%s: what follows' % what)


def comes_true(report, pid, uid=None, what=''):
    """The verdict's exit status is that of count, and its reason is in what count says."""
    outcome = t.command([tool, 'count', '-p', str(pid), '--for', '0', '--max-pause', '50ms', SITE],
                        30, uid=uid)
    if not t.same((report.outcome.status, report.json.get('works')),
                  (outcome.status, outcome.status == 0), '%s: count agrees' % what):
        outcome.explain()
        t.note(report.json.get('reason'))
    blocked = [key for key, line in report.lines.items() if line['verdict'] == 'blocks']
    t.same(bool(blocked), outcome.status != 0, '%s: a line says why not, or none does' % what)
    if outcome.status:
        t.ok(report.json['reason'][:40] in outcome.err, '%s: for the same reason' % what)
    return outcome


def situation(which, uid=None, env=None):
    """The victim in that situation; None if it cannot be had here."""
    path = os.path.join(t.BUILD, 'tests/victims/situations')
    if uid is not None:
        copy = os.path.join(os.path.dirname(tool), 'situations')
        shutil.copy(path, copy)
        os.chmod(copy, 0o755)
        path = copy
    command = ['/usr/bin/env', *(env or []), path, which]
    victim = t.Victim(*command, ready=None, uid=uid)
    line = victim.line(20)
    if line != 'ready':
        t.skip('the situation %s is not to be had here: %s' % (which, line))
        victim.stop()
        return None
    return victim


def check(which, verdicts, uid=None, env=None, observer=None, works=None):
    """Start it, look at its lines, and at what count does."""
    victim = situation(which, uid, env)
    if not victim:
        return
    before = t.Snapshot(victim.pid, strict=True)
    report = doctor(victim.pid, observer)
    for what, verdict, value in verdicts:
        says(report, what, verdict, value)
    t.unchanged(before, '%s: doctor changes nothing' % which, strict=True)
    comes_true(report, victim.pid, observer, which)
    if works is not None:
        t.same(report.json['works'], works, '%s: %s' % (which, 'works' if works else 'refused'))
    victim.stop()


# --- the machine ----------------------------------------------------------------------------

machine = doctor()
t.same(machine.outcome.status, t.DONE, 'the machine alone: exit 0')
t.same([key for key in machine.lines if key[0] == 'process'], [], 'and nothing of a process')
says(machine, 'kernel', 'ok', os.uname().release, of='machine')
with open('/proc/sys/vm/max_map_count') as file:
    t.same(machine.line('max-maps', 'machine')['value'], file.read().strip(), 'max-maps as it is')
with open('/proc/sys/kernel/perf_event_paranoid') as file:
    t.same(machine.line('perf-paranoid', 'machine')['value'], file.read().strip(),
           'perf_event_paranoid as it is')
yama = '/proc/sys/kernel/yama/ptrace_scope'
scope = open(yama).read().strip() if os.path.exists(yama) else 'absent'
t.same(machine.line('yama', 'machine')['value'], scope, 'Yama as it is')
t.ok(all(line['follows'] for line in machine.lines.values()), 'each line has consequences')
for name in ('ptrace', 'force-write', 'memfd-exec', 'membarrier', 'kcmp', 'rseq', 'realtime',
             'suspend-seccomp', 'uprobes', 'user', 'capabilities'):
    t.ok(machine.line(name, 'machine')['verdict'], 'a line for %s' % name)

text = t.suture('doctor')
t.same(len(text.out.split('\n')), len(machine.lines) + 3, 'as text: a line for each')
t.ok(text.out.endswith('counting works\n'), 'and the verdict')

if t.is_root():
    nobody = doctor(uid=NOBODY)
    says(nobody, 'user', 'note', '65534', of='machine')
    says(nobody, 'capabilities', 'note', 'none', of='machine')
    says(nobody, 'uprobes', 'limit', of='machine')
    says(nobody, 'suspend-seccomp', 'limit', of='machine')
    says(nobody, 'realtime', 'note', 'denied', of='machine')
    if t.have('setpriv'):
        part = doctor(through=['setpriv', '--bounding-set=-sys_ptrace', '--inh-caps=-sys_ptrace'])
        t.same('ptrace' in part.line('capabilities', 'machine')['value'], False,
               'without CAP_SYS_PTRACE: the list says so')
    if os.path.exists('/proc/sys/vm/memfd_noexec') and t.have('unshare'):
        # The setting is one of a PID namespace; process 1 of it is the shell.
        script = 'echo 2 >/proc/sys/vm/memfd_noexec || exit 9; "$1" doctor -p 1 --json; ' \
                 '"$1" count -p 1 --for 0 %s >&2; echo "exit $?" >&2' % SITE
        outcome = t.command(['unshare', '-fp', '--mount-proc', '/bin/sh', '-c', script, 'sh', tool])
        if outcome.status == 9:
            t.skip('memfd_noexec is not to be set here')
        else:
            strict = Report(outcome)
            says(strict, 'memfd-exec', 'blocks', of='machine')
            t.same((strict.json.get('works'), outcome.err.split('\n')[-2]), (False, 'exit 3'),
                   'memfd_noexec: count agrees')
else:
    t.skip('needs root to be somebody else')

# --- processes ------------------------------------------------------------------------------

check('-', [('code', 'ok', '64-bit'), ('traced', 'ok', 'no'), ('seccomp', 'ok', 'no'),
            ('shared-memory', 'ok', 'no'), ('sealed-text', 'ok', 'no'), ('suture', 'ok', 'none'),
            ('text', 'ok', 'as the files'), ('user-namespace', 'ok', 'ours'),
            ('pid-namespace', 'ok', 'ours'), ('threads', 'ok', '1'), ('access', 'ok', 'granted'),
            ('mappings', 'ok', ''), ('files', 'ok', ''), ('uprobes-seen', 'ok', 'no')], works=True)
check('mdwe', [('mdwe', 'ok', '')], works=True)
check('mseal', [('sealed-text', 'ok', '1 of ')], works=True)
check('jit', [('made-code', 'note', '1 ')], works=True)
check('shared', [('shared-memory', 'blocks', 'with process')], works=False)
check('vfork', [('threads', 'note', '1 in state D'), ('shared-memory', 'blocks', '')], works=False)
check('-', [('rseq-areas', 'note', 'none')], env=['GLIBC_TUNABLES=glibc.pthread.rseq=0'], works=True)
if t.is_root():
    check('seccomp', [('seccomp', 'note', '1 of 1')], works=True)
    check('seccomp-thread', [('seccomp', 'note', '1 of 2')], works=True)
    check('seccomp', [('seccomp', 'blocks', '1 of 1')], uid=NOBODY, observer=NOBODY, works=False)
    check('-', [('access', 'ok', '65534'), ('rseq-areas', 'ok', "glibc's")], uid=NOBODY,
          observer=NOBODY, works=True)
    check('-', [('access', 'blocks', 'user 0')], observer=NOBODY, works=False)
    check('undumpable', [('dumpable', 'blocks', 'no'), ('access', 'blocks', 'denied')], uid=NOBODY,
          observer=NOBODY, works=False)
    check('undumpable', [('dumpable', 'note', 'no'), ('access', 'ok', 'granted')], uid=NOBODY,
          works=True)

# What glibc says of rseq areas is what count finds.
for env, counter in (([], 'rseq'), (['GLIBC_TUNABLES=glibc.pthread.rseq=0'], 'lock')):
    victim = situation('-', env=env)
    outcome = t.suture('count', '-p', victim.pid, '--json', '--for', '0', '--kinds', 'pun,window',
                       SITE)
    t.same({p['counter'] for p in outcome.probes()}, {counter}, 'rseq areas: %s counts' % counter)
    victim.stop()

stopped = situation('-')
os.kill(stopped.pid, signal.SIGSTOP)
t.until(lambda: t.state(stopped.pid) == 'T')
report = doctor(stopped.pid)
says(report, 'threads', 'note', 'stopped')
t.same(report.json['works'], True, 'a stopped process: works')
os.kill(stopped.pid, signal.SIGCONT)
stopped.stop()

small = t.Victim('tiny32', ready=None)
t.until(lambda: t.state(small.pid) == 'S')
report = doctor(small.pid)
says(report, 'code', 'blocks', 'not 64-bit')
comes_true(report, small.pid, what='32-bit')
small.stop()

victim = situation('-')
if t.have('strace'):
    tracer = t.spawn(['strace', '-f', '-p', str(victim.pid)], stdin=t.subprocess.DEVNULL,
                     stdout=t.subprocess.DEVNULL, stderr=t.subprocess.DEVNULL)
    t.until(lambda: t.is_traced(victim.pid))
    report = doctor(victim.pid)
    says(report, 'traced', 'blocks', 'strace (pid %d)' % tracer.pid)
    comes_true(report, victim.pid, what='traced')
    t.reap(tracer)
else:
    t.skip('no strace')
if t.have('gdb'):
    # A breakpoint whose owner is there, and one whose owner was killed.
    clean = t.text(victim.pid)
    tracer = t.spawn(['gdb', '-q', '-nx', '-p', str(victim.pid), '-ex', 'break free', '-ex',
                      'continue'], stdin=t.subprocess.PIPE, stdout=t.subprocess.DEVNULL,
                     stderr=t.subprocess.DEVNULL)
    t.until(lambda: t.text(victim.pid) not in (clean, {}), 20)
    report = doctor(victim.pid)
    says(report, 'traced', 'blocks', 'gdb')
    says(report, 'text', 'note', 'breakpoints')
    t.ok('libc.so.6:0x' in report.line('text')['value'] and '(' in report.line('text')['value'],
         'text: where the first is')
    t.reap(tracer)
    report = doctor(victim.pid)
    says(report, 'traced', 'ok', 'no')
    says(report, 'text', 'note', 'breakpoints')
    comes_true(report, victim.pid, what='a breakpoint left behind')
else:
    t.skip('no gdb')
victim.stop()

victim = situation('-')
before = t.Snapshot(victim.pid, strict=True)
count = t.Count(victim.pid, SITE)
t.ok(count.attached(), 'a suture is attached')
report = doctor(victim.pid)
says(report, 'suture', 'blocks', 'another')
says(report, 'text', 'ok', 'as the files')
comes_true(report, victim.pid, what='another suture')
count.end(signal.SIGKILL)
report = doctor(victim.pid)
says(report, 'suture', 'note', '1 site, ')
says(report, 'text', 'ok', 'as the files')
says(report, 'files', 'ok', str(len({m.path for m in t.maps(victim.pid) if 'x' in m.perms and
                                     m.path.startswith('/') and 'memfd:' not in m.path})))
comes_true(report, victim.pid, what='a killed suture')
says(doctor(victim.pid), 'suture', 'ok', 'none')
t.unchanged(before, 'nothing is left', strict=True)
victim.stop()

root = t.tracefs()
if root:
    victim = t.Victim('sums-nopie', 1)
    path = victim.path
    other = t.KernelUprobe(root, 'doctor', path, t.file_offset(path, t.symbols(path)['sum_any']))
    other.enable()
    victim.run(2)
    report = doctor(victim.pid)
    says(report, 'uprobes-seen', 'note', 'yes')
    says(report, 'text', 'note', '(sum_any)')
    other.remove()
    says(doctor(victim.pid), 'text', 'ok', 'as the files')
    victim.stop()
else:
    t.skip('uprobes need root and tracefs')

if t.is_root() and t.have('unshare'):
    for options, what in ((['-Ur'], 'user-namespace'), (['-fp'], 'pid-namespace')):
        path = os.path.join(t.BUILD, 'tests/victims/situations')
        inside = t.Victim(t.shutil.which('unshare'), *options, path, '-', ready=None)
        if inside.line(10) != 'ready':
            t.skip('no new %s here' % what)
            inside.stop()
            continue
        pid = inside.pid
        if what == 'pid-namespace':
            with open('/proc/%d/task/%d/children' % (pid, pid)) as file:
                pid = int(file.read().split()[0])
        report = doctor(pid)
        says(report, what, 'note', 'another')
        comes_true(report, pid, what=what)
        os.kill(pid, signal.SIGKILL)
        inside.stop()
else:
    t.skip('no unshare, or not root')

# --- nothing to work on ---------------------------------------------------------------------

gone = t.spawn(['/bin/true'])
gone.wait()
zombie = t.spawn(['/bin/true'])
t.until(lambda: t.state(zombie.pid) == 'Z')
for what, pid in (('gone', gone.pid), ('a zombie', zombie.pid)):
    report = doctor(pid)
    says(report, 'process', 'blocks')
    comes_true(report, pid, what=what)
report = doctor(2)
says(report, 'code', 'blocks', 'kernel thread')
comes_true(report, 2, what='a kernel thread')
for arguments in (['-p', '0'], ['-p', 'x'], ['main'], ['--for', '1'], ['--json=1']):
    outcome = t.suture('doctor', *arguments)
    if not t.ok(outcome.status == t.USAGE and t.is_one_line(outcome) and not outcome.out,
                'doctor %s: one line, exit 2' % ' '.join(arguments)):
        outcome.explain()
t.done()
