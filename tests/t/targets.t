#!/usr/bin/python3 -B
# SPDX-License-Identifier: MIT
"""All kinds of programs: what suture counts is what the program itself knows, to the last call; it
computes right before, during and after; and text and mappings are what they were.

Go (goroutines, growing stacks, panics), Rust and C++ (exceptions in flight through what is
counted), a Java virtual machine, node, a program that makes code beside ours, a stripped one, a
shared library that is unloaded and loaded again meanwhile, one in namespaces of its own with
another libc, ones confined by seccomp; and refused, with the reason: what a debugger holds, what is
setuid or not dumpable for its own user, what seccomp confines and nobody may unconfine. exact.t has
glibc and musl, fixed and position-independent, static and dynamic.
"""
import os
import shutil
import sys
import time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'lib'))
import suture_test as t

t.limit(150)
THREADS = 4
NOBODY = 65534
HERE = os.path.dirname(os.path.abspath(__file__))
VICTIMS = os.path.join(t.BUILD, 'tests/victims')


class Files(t.Snapshot):
    """For programs that make code themselves: what is mapped from files."""

    def __init__(self, pid, strict=False):
        super().__init__(pid, strict)
        self.maps = [line for line in self.maps if '/' in line]
        self.fds = {}

    def differences(self, later):
        return super().differences(Files(later.pid))


def loaded(pid, name):
    """Base name of the mapped file whose name begins so."""
    return ([os.path.basename(m.path) for m in t.maps(pid)
             if os.path.basename(m.path).startswith(name)] or [name])[0]


def exact(what, victim, expected, rounds=2000, options=(), snapshot=t.Snapshot, least=()):
    """`expected`: specification → hits in one round, of all threads. Those in `least` may be hit
    more often."""
    victim.run(1)  # what is opened or mapped when it is needed first
    before = snapshot(victim.pid)
    outcome, wrong = t.counted(victim, list(expected), lambda: victim.run(rounds), options)
    if not t.ok(outcome.status == t.DONE, what + ': counted'):
        outcome.explain()
    t.same(wrong, 0, what + ': no wrong result')
    hits = {probe['spec']: probe['hits'] for probe in outcome.probes()}
    for spec in least:
        if hits.get(spec, 0) >= expected[spec] * rounds:
            hits[spec] = expected[spec] * rounds
    t.same(hits, {spec: n * rounds for spec, n in expected.items()}, what + ': hits')
    t.note('%s: %s' % (what, ', '.join('%s %s/%s' % (p['symbol'], p['kind'], p['counter'])
                                       for p in outcome.probes())))
    t.same(victim.run(rounds // 10), 0, what + ': right afterwards')
    if not t.unchanged(before, what + ': as it was'):
        outcome.explain()
    return outcome


TIMES = 8 if t.TORTURE else 2


def busy(what, victim, specs, rounds, times=TIMES, options=(), snapshot=t.Snapshot):
    """Attach and detach while it runs."""
    before = snapshot(victim.pid)
    t.ok(victim.tell('run %d' % rounds), what + ': runs')
    total = 0
    for i in range(times):
        outcome = t.suture('count', '-p', victim.pid, '--json', '--for', '30ms', *options, *specs)
        total += sum(outcome.hits().values())
        if not t.ok(outcome.status == t.DONE, '%s: counted while it runs, %d' % (what, i + 1)):
            outcome.explain()
    t.ok(total > 0, what + ': there was something to count')
    answer = victim.expect('done', 60)
    t.same(answer, ['0'], what + ': no wrong result while probes came and went')
    t.unchanged(before, what + ': as it was, after many')


# --- languages ------------------------------------------------------------------------------

victim = t.Victim('sums-go', THREADS)
GO = {'sums-go:main.sum': THREADS, 'sums-go:main.panics': THREADS,
      'sums-go:main.recovers': THREADS, 'sums-go:main.grows': 65 * THREADS}
exact('Go', victim, GO, least=['sums-go:main.grows', 'sums-go:main.panics',
                               'sums-go:main.recovers'])
busy('Go', victim, GO, 20000)
busy('Go, the runtime', victim, ['sums-go:runtime.mallocgc', 'sums-go:runtime.newstack',
                                 'sums-go:runtime.gopanic', 'sums-go:runtime.schedule'], 20000)
victim.stop()

victim = t.Victim('sums-rust', THREADS)
RUST = {'sums-rust:' + name: THREADS for name in t.symbols(victim.path)
        if name.startswith('_ZN4sums') and any(word in name for word in
                                               ('checksum', '6panics', '6passes'))}
t.same(len(RUST), 3, 'Rust: three functions')
exact('Rust', victim, RUST)
busy('Rust', victim, RUST, 20000)
victim.stop()

victim = t.Victim('throwing', THREADS)
THROWING = {'throwing:throw_here': 16 * THREADS, 'throwing:throw_through': 8 * THREADS,
            'throwing:throw_calls_first': 8 * THREADS, 'throwing:throw_deep': 72 * THREADS}
for options in ([], ['--no-rseq'], ['--kinds', 'window'], ['--kinds', 'uprobe']):
    what = 'C++ exceptions' + ''.join(' ' + option for option in options)
    if options[:1] == ['--kinds']:
        possible = [spec for spec in THROWING if t.suture(
            'count', '-p', victim.pid, '--for', '0', *options, spec).status == t.DONE]
    else:
        possible = list(THROWING)
    t.ok(possible, what + ': possible at %d functions' % len(possible))
    exact(what, victim, {spec: THROWING[spec] for spec in possible}, 200, options)
busy('C++ exceptions', victim, list(THROWING) + [loaded(victim.pid, 'libstdc++.so') + ':__cxa_*'], 2000)
busy('the unwinder', victim, ['libgcc_s.so.1:_Unwind_*', 'libc.so.6:dl_iterate_phdr'], 2000,
     options=['--kinds', 'pun,window'])
victim.stop()

# --- virtual machines and other makers of code ----------------------------------------------

victim = t.Victim(shutil.which('java'), '-XX:+UseSerialGC', '-cp', VICTIMS, 'Sums', THREADS)
JAVA = {'libzip.so:Java_java_util_zip_Deflater_reset': THREADS,
        loaded(victim.pid, 'libz.so') + ':deflateReset': THREADS}
exact('Java', victim, JAVA, snapshot=Files)
exact('Java, --no-rseq', victim, JAVA, options=['--no-rseq'], snapshot=Files)
busy('Java', victim, JAVA, 20000, snapshot=Files)
busy('Java, the virtual machine', victim, ['libjvm.so:JVM_*', 'libjava.so:*', 'libzip.so:*'],
     40000, options=['--kinds', 'pun,window'], snapshot=Files)
victim.stop()

victim = t.Victim(shutil.which('node'), os.path.join(HERE, '../victims/sums.js'))
NODE = {'uv_os_getpriority': 1}
exact('node', victim, NODE, snapshot=Files)
busy('node', victim, NODE, 40000, snapshot=Files)
victim.stop()

victim = t.Victim('jit', THREADS)
exact('code made beside ours', victim, {'jit:jit_sum': THREADS}, snapshot=Files)
victim.free()
before = Files(victim.pid)
for i in range(2 * TIMES):
    outcome, matter = t.counted(victim, ['jit:jit_sum', 'libc.so.6:mmap', 'libc.so.6:munmap',
                                         'libc.so.6:mprotect'], victim.works)
    if not t.ok(outcome.status == t.DONE and matter == '' and min(outcome.hits().values()) > 0,
                'code made beside ours while we come and go, %d' % (i + 1)):
        t.note(matter)
        outcome.explain()
t.same(victim.works(), '', 'code made beside ours: works')
t.unchanged(before, 'code made beside ours: as it was')
victim.stop()

# --- files ----------------------------------------------------------------------------------

address = t.symbols(os.path.join(VICTIMS, 'sums'))['sum_any']
victim = t.Victim('sums-stripped', THREADS)
exact('stripped', victim, {'sums-stripped:%#x' % address: THREADS}, 20000)
victim.stop()

victim = t.Victim('sums-lld', THREADS)
exact('linked by lld', victim, {'sums-lld:sum_pun': THREADS, 'sums-lld:sum_c': THREADS}, 20000)
victim.stop()

victim = t.Victim('plugin', os.path.join(VICTIMS, 'libplugin.so'), THREADS)
PLUGIN = {'libplugin.so:plugin_sum': THREADS}
exact('a shared library', victim, PLUGIN, 20000)
before = t.Snapshot(victim.pid)
count = t.Count(victim.pid, *PLUGIN)
t.ok(count.attached(), 'a library that is unloaded: attached')
t.same(victim.run(1000), 0, 'a library that is unloaded: right')
t.same(victim.ask('unload', 'done'), ['0'], 'a library that is unloaded: unloaded')
t.same(victim.ask('load', 'done'), ['0'], 'a library that is unloaded: loaded again')
t.same(victim.run(1000), 0, 'a library that is unloaded: right when it is back')
outcome = count.end()
if not t.same((outcome.status, outcome.hits()), (t.DONE, {'plugin_sum': 1000 * THREADS}),
              'a library that is unloaded: what was counted before'):
    outcome.explain()
t.same(victim.run(1000), 0, 'a library that is unloaded: right afterwards')
t.same(t.ours(victim.pid), [], 'a library that is unloaded: nothing is left')
count = t.Count(victim.pid, *PLUGIN)
t.ok(count.attached(), 'a library that stays unloaded: attached')
t.same(victim.ask('unload', 'done'), ['0'], 'a library that stays unloaded: unloaded')
outcome = count.end()
if not t.same(outcome.status, t.DONE, 'a library that stays unloaded: detached'):
    outcome.explain()
t.same(t.ours(victim.pid), [], 'a library that stays unloaded: nothing is left')
t.same(victim.ask('load', 'done'), ['0'], 'a library that stays unloaded: loaded again')
t.same(victim.run(1000), 0, 'a library that stays unloaded: right')
victim.stop()

# --- a container ----------------------------------------------------------------------------

if t.is_root():
    root = t.scratch()
    os.makedirs(root + '/lib')
    shutil.copy('/lib/ld-musl-x86_64.so.1', root + '/lib')
    # At a path that is another program outside.
    os.makedirs(root + '/bin')
    shutil.copy(os.path.join(VICTIMS, 'sums-chroot'), root + '/bin/sleep')
    victim = t.Victim(shutil.which('unshare'), '--user', '--map-root-user', '--pid', '--mount',
                      '--net', '--ipc', '--uts', '--fork', '--kill-child', '--root', root,
                      '/bin/sleep', THREADS)
    inner = t.command(['cat', '/proc/%d/task/%d/children' % (victim.pid, victim.pid)]).out
    victim.pid = int(inner)
    t.same(t.status_field(victim.pid, 'NSpid'), '%d\t1' % victim.pid,
           'in namespaces of its own: it is')
    exact('in namespaces of its own', victim,
          {'sleep:sum_pun': THREADS, 'sleep:sum_any': THREADS, 'sleep:sum_c': THREADS}, 20000)
    before = t.Snapshot(victim.pid)
    outcome, wrong = t.counted(victim, 'ld-musl-x86_64.so.1:read', lambda: victim.run(100))
    t.same((wrong, outcome.hits()), (0, {'read': len('run 100\n')}),
           'in namespaces of its own: its libc')
    t.unchanged(before, 'in namespaces of its own: as it was')
    victim.stop()
else:
    t.skip('needs root to make namespaces')

# --- what may not be, or only by somebody with more rights -----------------------------------

# A copy where nobody can get at it, whatever the permissions on the way to the build tree.
public = t.scratch()
os.chmod(public, 0o755)
for name in (t.SUTURE, os.path.join(VICTIMS, 'confined')):
    shutil.copy(name, public)
tool, confined = os.path.join(public, 'suture'), os.path.join(public, 'confined')


def refused(what, victim, words, command=(t.SUTURE,), uid=None, spec='confined:confined_sum'):
    before = t.Snapshot(victim.pid)
    outcome = t.command([*command, 'count', '-p', str(victim.pid), '--for', '50ms', spec], uid=uid)
    good = t.ok(outcome.status == t.PROCESS and t.is_one_line(outcome),
                what + ': refused, in one line')
    for word in words:
        good &= t.ok(word in outcome.err, '%s: says "%s"' % (what, word))
    if not good:
        outcome.explain()
    t.ok(not t.is_traced(victim.pid) or 'traced' in words, what + ': nobody traces it')
    t.unchanged(before, what + ': untouched')


CONFINED = {'confined:confined_sum': THREADS}
for mode in ('seccomp', 'worker'):
    victim = t.Victim('confined', mode, THREADS)
    t.same(victim.run(10), 0, mode + ': confines itself')
    t.ok('2' in {t.status_field(victim.pid, 'Seccomp', tid) for tid in t.threads(victim.pid)},
         mode + ': is confined')
    if t.is_root():
        exact('confined by seccomp, ' + mode, victim, CONFINED, 20000)
        less = [shutil.which('setpriv'), '--bounding-set', '-sys_admin', t.SUTURE]
        if mode == 'seccomp':
            refused('seccomp without CAP_SYS_ADMIN', victim, ['seccomp', 'CAP_SYS_ADMIN'], less)
        else:
            before = t.Snapshot(victim.pid)
            outcome = t.command([*less, 'count', '-p', str(victim.pid), '--for', '50ms',
                                 'confined:confined_sum'])
            if not t.ok(outcome.status == t.DONE, 'seccomp in some threads, without '
                        'CAP_SYS_ADMIN: the others can be borrowed'):
                outcome.explain()
            t.unchanged(before, 'seccomp in some threads: as it was')
    t.same(victim.run(1000), 0, mode + ': lives, and computes right')
    victim.stop()

if t.is_root():
    victim = t.Victim(confined, 'seccomp', THREADS, uid=NOBODY)
    victim.run(10)
    refused('seccomp, its own user', victim, ['seccomp'], [tool], NOBODY)
    t.same(victim.run(1000), 0, 'seccomp, its own user: lives')
    victim.stop()

    victim = t.Victim(confined, 'undumpable', THREADS, uid=NOBODY)
    refused('not dumpable, its own user', victim, ['permission'], [tool], NOBODY)
    exact('not dumpable, root', victim, CONFINED, 20000)
    victim.stop()

    program = os.path.join(public, 'setuid')
    shutil.copy('/bin/sleep', program)
    os.chmod(program, 0o4755)
    victim = t.Victim(program, '1000', ready=None, uid=NOBODY)
    t.until(lambda: t.status_field(victim.pid, 'Name') == 'setuid' and t.state(victim.pid) == 'S')
    t.same(t.status_field(victim.pid, 'Uid').split()[:2], [str(NOBODY), '0'], 'setuid: it is')
    refused('setuid, the user who started it', victim, ['permission'], [tool], NOBODY,
            'libc.so.6:malloc')
    victim.stop()
else:
    t.skip('needs root to be somebody else')

victim = t.Victim('confined', 'none', THREADS)
debugger = t.spawn(['gdb', '-q', '-nx', '-p', str(victim.pid)], stdin=t.subprocess.PIPE,
                   stdout=t.subprocess.DEVNULL, stderr=t.subprocess.DEVNULL)
t.until(lambda: all(t.status_field(victim.pid, 'TracerPid', tid) == str(debugger.pid)
                    for tid in t.threads(victim.pid)))
refused('in gdb', victim, ['traced', 'gdb', str(debugger.pid)])
t.reap(debugger)
t.until(lambda: not t.is_traced(victim.pid))
t.same(victim.run(100), 0, 'in gdb: lives when that has gone')

# One thread that is not the leader.
worker = max(t.threads(victim.pid))
tracer = t.spawn(['strace', '-q', '-o', '/dev/null', '-p', str(worker)],
                 stdin=t.subprocess.DEVNULL, stderr=t.subprocess.DEVNULL)
t.until(lambda: t.status_field(victim.pid, 'TracerPid', worker) == str(tracer.pid))
refused('one thread under strace', victim, ['traced', 'strace', str(tracer.pid)])
t.reap(tracer)
t.until(lambda: not t.is_traced(victim.pid))
t.same(victim.run(100), 0, 'one thread under strace: lives')
exact('after strace', victim, CONFINED, 20000)
victim.stop()
t.done()
