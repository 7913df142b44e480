#!/usr/bin/python3 -B
# SPDX-License-Identifier: MIT
"""What the command does not do, it says in one line, with the documented exit code, and leaves
the target as it was.

No such process, another user's, traced, 32-bit, a kernel thread, a zombie, one that another
suture works on; unknown, ambiguous and malformed specifications; garbage in every argument.
"""
import os
import shutil
import sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'lib'))
import suture_test as t

t.limit(90)
NOBODY = 65534

victim = t.Victim('sums', 2)
before = t.Snapshot(victim.pid, strict=True)


def refused(what, status, *arguments, words=(), uid=None, tool=None):
    """One line, one of these exit codes, and these words in the line."""
    command = [tool or t.SUTURE] + [str(a) for a in arguments]
    outcome = t.command(command, 20, uid=uid)
    allowed = status if isinstance(status, tuple) else (status,)
    good = t.ok(outcome.status in allowed, '%s: exit %s' % (what, ' or '.join(map(str, allowed))))
    good &= t.ok(t.is_one_line(outcome), what + ': one line')
    good &= t.ok(outcome.out == '', what + ': nothing on standard output')
    for word in words:
        good &= t.ok(word.lower() in outcome.err.lower(), '%s: says "%s"' % (what, word))
    if not good:
        outcome.explain()
    return outcome


def count(pid, *more):
    return ('count', '-p', pid, '--for', '50ms', *more)


# --- processes ------------------------------------------------------------------------------

gone = t.spawn(['/bin/true'])
gone.wait()
refused('no such process', t.PROCESS, *count(gone.pid, 'main'), words=[str(gone.pid)])
refused('revert of no such process', t.PROCESS, 'revert', '-p', gone.pid)
refused('status of no such process', t.PROCESS, 'status', '-p', gone.pid)
refused('a number beyond all processes', t.PROCESS, *count(2147483647, 'main'))
refused('a kernel thread', t.PROCESS, *count(2, 'main'))
zombie = t.spawn(['/bin/true'])
t.until(lambda: t.state(zombie.pid) == 'Z')
refused('a zombie', t.PROCESS, *count(zombie.pid, 'main'))
refused('itself', (t.PROCESS, t.USAGE), '-c', 'exec "%s" count -p $$ --for 50ms main' % t.SUTURE,
        tool='/bin/sh')

if t.is_root():
    # A copy where nobody can get at it, whatever the permissions on the way to the build tree.
    tool = os.path.join(t.scratch(), 'suture')
    os.chmod(os.path.dirname(tool), 0o755)
    shutil.copy(t.SUTURE, tool)
    os.chmod(tool, 0o755)
    refused("root's process, as nobody", t.PROCESS, *count(victim.pid, 'sums:sum_any'), uid=NOBODY,
            tool=tool)
    refused("revert of root's process, as nobody", t.PROCESS, 'revert', '-p', victim.pid,
            uid=NOBODY, tool=tool)
    t.unchanged(before, "root's process is untouched", strict=True)
    own = t.Victim('/bin/sleep', '1000', ready=None, uid=NOBODY)
    t.until(lambda: len(t.maps(own.pid)) > 10 and t.state(own.pid) == 'S')
    outcome = t.command([tool, 'count', '-p', str(own.pid), '--json', '--for', '50ms', '--kinds',
                         'pun,window', 'libc.so.6:malloc'], uid=NOBODY)
    if not t.ok(outcome.status == t.DONE, 'an own process, without privileges: counted'):
        outcome.explain()
    own.stop()
else:
    t.skip('needs root to be somebody else')

small = t.Victim('tiny32', ready=None)
t.until(lambda: t.state(small.pid) == 'S')
refused('a 32-bit process', t.PROCESS, *count(small.pid, '_start'), words=['64-bit'])
t.ok(small.alive(), 'the 32-bit process lives')
small.stop()

traced = t.Victim('sums', 2)
if t.have('strace'):
    tracer = t.spawn(['strace', '-f', '-p', str(traced.pid)], stdin=t.subprocess.DEVNULL,
                     stdout=t.subprocess.DEVNULL, stderr=t.subprocess.DEVNULL)
    t.until(lambda: t.is_traced(traced.pid))
    refused('a traced process', t.PROCESS, *count(traced.pid, 'sums:sum_any'),
            words=['strace', str(tracer.pid)])
    t.reap(tracer)
else:
    t.skip('no strace')
traced.stop()

# Another suture.
first = t.Count(victim.pid, 'sums:sum_any')
t.ok(first.attached(), 'one suture is attached')
under = t.Snapshot(victim.pid)
refused('a second suture', t.PROCESS, *count(victim.pid, 'sums:sum_pun'), words=['suture'])
refused('revert while the owner lives', t.PROCESS, 'revert', '-p', victim.pid,
        words=['suture'])
t.unchanged(under, 'the first is not disturbed')
t.same(victim.run(10), 0, 'and the target works')
t.same(first.end().hits(), {'sum_any': 20}, 'and is counted')
t.unchanged(before, 'and left as it was', strict=True)

# --- specifications -------------------------------------------------------------------------

refused('an unknown function', t.USAGE, *count(victim.pid, 'sums:no_such'), words=['no_such'])
refused('an unknown function, any module', t.USAGE, *count(victim.pid, 'no_such_at_all'),
        words=['no_such_at_all'])
refused('an unknown module', t.USAGE, *count(victim.pid, 'libnothing.so.9:sum_any'),
        words=['libnothing.so.9'])
refused('a glob that matches nothing', t.USAGE, *count(victim.pid, 'sums:zzz_*'), words=['zzz_*'])
refused('an address outside', t.USAGE, *count(victim.pid, 'sums:0x7fffffff0000'))
refused('an address in data', (t.USAGE, t.REFUSED), *count(victim.pid, 'sums:0x10'))
refused('an offset beyond the function', (t.USAGE, t.REFUSED),
        *count(victim.pid, 'sums:sum_any+0x100000'))
refused('an offset inside an instruction', (t.USAGE, t.REFUSED),
        *count(victim.pid, 'sums:sum_pun+0x2'))
refused('a good and an unknown function', t.USAGE, *count(victim.pid, 'sums:sum_any', 'sums:nix'),
        words=['nix'])
for spec in (':', '::', 'sums:', ':sum_any+', 'sum_any+', 'sum_any+0x', 'sum_any+0xzz', '+0x4',
             'sums:0x', 'sums:0xffffffffffffffffff', 'sum_any+0xffffffffffffffffff',
             'sums:[', 'sums:sum_[a', 'sums:sum_any+4x', 'sum_any\nsum_pun', '\x1b[2J', 'ä' * 50,
             'x' * 5000, '%s%n%n', '0x', '*+0x', '../sums:sum_any', '-', ' '):
    refused('specification %s' % repr(spec)[:30], t.USAGE, *count(victim.pid, spec))
t.unchanged(before, 'no specification did anything', strict=True)

twins = t.Victim('twins')
twins_before = t.Snapshot(twins.pid, strict=True)
outcome = refused('an ambiguous function', t.USAGE, *count(twins.pid, 'twins:twin'),
                  words=['twin'])
addresses = [vaddr for name, vaddr in
             [(line.split()[2], int(line.split()[0], 16)) for line in
              t.command(['nm', os.path.join(t.BUILD, 'tests/victims/twins')]).out.split('\n')
              if len(line.split()) == 3] if name == 'twin']
t.ok(len(addresses) == 2 and all('%x' % vaddr in outcome.err for vaddr in addresses),
     'both candidates are listed, by an address that can be given instead')
outcome, wrong = t.counted(twins, ['twins:%#x' % vaddr for vaddr in addresses],
                           lambda: twins.run(100))
t.same((wrong, sorted(p['hits'] for p in outcome.probes())), (0, [200, 200]),
       'by these addresses both are counted')
t.unchanged(twins_before, 'twins: nothing is left', strict=True)
twins.stop()

# --- arguments ------------------------------------------------------------------------------

pid = victim.pid
for what, arguments in {
        'nothing at all': [],
        'an unknown command': ['frobnicate'],
        'an unknown option': ['count', '--frobnicate', '-p', pid, 'main'],
        'count without a process': ['count', 'main'],
        'count without a specification': ['count', '-p', pid],
        'an empty specification': ['count', '-p', pid, ''],
        '-p without a number': ['count', '-p'],
        '-p abc': ['count', '-p', 'abc', 'main'],
        '-p 0': ['count', '-p', '0', 'main'],
        '-p -1': ['count', '-p', '-1', 'main'],
        '-p 1x': ['count', '-p', '%dx' % pid, 'sums:sum_any'],
        '-p with blanks': ['count', '-p', ' %d' % pid, 'sums:sum_any'],
        '-p beyond all numbers': ['count', '-p', '99999999999999999999', 'main'],
        '-p twice': ['count', '-p', pid, '-p', pid, 'sums:sum_any'],
        '--for nothing': ['count', '-p', pid, '--for', '', 'sums:sum_any'],
        '--for soon': ['count', '-p', pid, '--for', 'soon', 'sums:sum_any'],
        '--for -1s': ['count', '-p', pid, '--for', '-1s', 'sums:sum_any'],
        '--for 10 parsecs': ['count', '-p', pid, '--for', '10pc', 'sums:sum_any'],
        '--for ever': ['count', '-p', pid, '--for', '9' * 30 + 'h', 'sums:sum_any'],
        '--kinds nothing': ['count', '-p', pid, '--kinds', '', 'sums:sum_any'],
        '--kinds magic': ['count', '-p', pid, '--kinds', 'pun,magic', 'sums:sum_any'],
        '--pages none': ['count', '-p', pid, '--pages', 'none', 'sums:sum_any'],
        '--pages 0': ['count', '-p', pid, '--pages', '0', 'sums:sum_any'],
        '--max-pause x': ['count', '-p', pid, '--max-pause', 'x', 'sums:sum_any'],
        '--json=yes': ['count', '-p', pid, '--json=yes', 'sums:sum_any'],
        'revert without a process': ['revert'],
        'revert of a word': ['revert', '-p', 'me'],
        'revert of more than asked': ['revert', '-p', pid, 'sum_any'],
        'status without a process': ['status'],
        'status --for': ['status', '-p', pid, '--for', '1s'],
}.items():
    refused(what, t.USAGE, *arguments)
t.unchanged(before, 'no argument did anything', strict=True)

outcome = t.suture('revert', '-p', pid)
if not t.ok(outcome.status == t.DONE, 'revert where there is nothing: exit 0'):
    outcome.explain()
t.unchanged(before, 'and nothing is changed', strict=True)
t.same(victim.run(10), 0, 'the target works')
victim.stop()
t.done()
