#!/usr/bin/python3 -B
# SPDX-License-Identifier: MIT
"""What other people's processes and files may hold against the command.

A target that maps, unmaps, loads and unloads all the time; files that are replaced, cut or damaged
after they were mapped; memory that looks like ours and is not; 100,000 specifications; one's own
shell. The command ends with a documented status and, where it refuses, one line; the target gets
on, and nothing of ours is left.
"""
import os
import random
import shutil
import struct
import subprocess
import sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'lib'))
import suture_test as t

t.limit(120)
NOBODY = 65534
SEED = int(os.environ.get('SEED', '1'))
place = t.scratch()
os.chmod(place, 0o755)
tool = os.path.join(place, 'suture')
shutil.copy(t.SUTURE, tool)


def in_order(outcome, statuses, what):
    """A documented end: a report, or one line that says why not."""
    good = outcome.status in statuses and 'Sanitizer' not in outcome.err
    good = good and (outcome.status == t.DONE or outcome.err.startswith('suture: '))
    if not t.ok(good, what):
        outcome.explain()
    return good


# --- mappings that do not stay ----------------------------------------------------------------

victim = t.Victim('shifting', 4)
victim.free()
ends, bad = {}, []
for i in range(300 if t.TORTURE else 24):
    specs = [['shifting:shift_sum'], ['libz.so.*:*', 'shifting:shift_sum'],
             ['libc.so.6:m*map', 'shifting:shift_sum', 'crc32*']][i % 3]
    outcome = t.suture('count', '-p', victim.pid, '--for', '5ms', '--kinds', 'pun,window',
                       *(['--dry-run'] if i % 8 == 7 else []), *specs)
    ends[outcome.status] = ends.get(outcome.status, 0) + 1
    # 2: the library was not there when the list was read; 4: no longer when its code was.
    if outcome.status not in (t.DONE, t.USAGE, t.REFUSED, t.TIMEOUT) or \
            (outcome.status != t.DONE and not outcome.err.startswith('suture: ')):
        bad.append((outcome.status, outcome.err))
t.note('ends: %s' % ends)
t.same(bad, [], 'a target whose maps change: every count ends as documented')
t.ok(ends.get(t.DONE, 0) > 4, 'and some count')
t.same(victim.works(), '', 'and it gets on, with right results')
t.same(t.ours(victim.pid), [], 'and nothing of ours is mapped')

# Loaded while it is counted, unloaded, loaded again: its text is the file's.
count = t.Count(victim.pid, 'shifting:shift_sum', 'libz.so.1*:crc32*')
count.attached(2)
outcome = count.end()
in_order(outcome, (t.DONE, t.USAGE, t.REFUSED, t.TIMEOUT), 'functions that come and go')
t.same(victim.works(), '', 'and it gets on after that')
victim.halt()
outcome = t.suture('count', '-p', victim.pid, '--for', '5ms', '--json', 'shifting:shift_sum')
t.ok(outcome.status == t.DONE and t.ours(victim.pid) == [], 'and can be counted as ever')
victim.stop()

# --- files that do not stay -------------------------------------------------------------------

LIBRARY = ('__attribute__((noinline)) int shown(int x) { return x * 3 + 1; }\n'
           'static __attribute__((noinline, used)) int hidden(int x) { return x * 5 + 1; }')
USER = ('#include <unistd.h>\n#include <stdio.h>\nint shown(int);\n'
        'int main(void) { int sum = 0; char line[8]; puts("ready"); fflush(stdout);\n'
        'while (read(0, line, sizeof line) > 0) { for (int i = 0; i < 1000; i++) sum += shown(i);\n'
        'printf("done %d\\n", sum != 1499500); fflush(stdout); sum = 0; } }')


def user(uid=None, extra=()):
    folder = t.scratch()
    os.chmod(folder, 0o755)
    library = os.path.join(folder, 'lib.so')
    subprocess.run(['gcc', '-O1', '-shared', '-fPIC', '-Wl,--build-id', '-xc', '-', '-o', library,
                    *extra], input=LIBRARY.encode(), check=True)
    subprocess.run(['gcc', '-O1', '-xc', '-', '-o', folder + '/user', '-xnone', library],
                   input=USER.encode(), check=True)
    shutil.copy(library, library + '.same')
    return t.Victim(folder + '/user', uid=uid), library


def other_library(library):
    subprocess.run(['gcc', '-O1', '-shared', '-fPIC', '-xc', '-', '-o', library + '.other'],
                   input=b'int first(void) { return 0; } int shown(int x) { return x + 7; }\n'
                   b'int hidden(int x) { return x; }', check=True)
    os.rename(library + '.other', library)


def counts(target, spec, hits, what, uid=None):
    """`hits` of spec in what the target does in one go."""
    count_ = t.spawn([tool, 'count', '-p', str(target.pid), '--json', spec], uid=uid,
                     stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                     text=True)
    before = t.text(target.pid)
    t.until(lambda: count_.poll() is not None or
            (t.text(target.pid) != before and not t.is_traced(target.pid)))
    answer = target.ask('go', 'done')
    count_.send_signal(2)
    outcome = t._collect(count_, 20)
    if not t.ok(outcome.status == t.DONE and answer == ['0'] and
                list(outcome.hits().values()) == [hits], what):
        outcome.explain()
    return outcome


for uid, name in ((None, 'as root'), (NOBODY, 'as nobody')) if t.is_root() else ((None, 'own'),):
    target, library = user(uid)
    other_library(library)
    outcome = counts(target, 'lib.so:shown', 1000,
                     'a library that was replaced, %s: what is mapped is counted' % name, uid)
    t.ok(outcome.err.count('\n') == 1 and 'was replaced on disk' in outcome.err,
         '%s: and one line says so' % name)
    # The new file has names, and other addresses for them, that are nothing to go by.
    run = t.command([tool, 'count', '-p', str(target.pid), '--for', '5ms', 'lib.so:first'], uid=uid)
    t.ok(run.status == t.USAGE and t.is_one_line(run) and 'was replaced on disk' in run.err,
         '%s: a name of the new file is unknown' % name)
    target.stop()
    target, library = user(uid)
    os.rename(library + '.same', library)
    outcome = counts(target, 'lib.so:hidden', 0,
                     'replaced by the same build, %s: all its names are known' % name, uid)
    t.ok('by the same build' in outcome.err or 'the file that was mapped is read' in outcome.err,
         '%s: and one line says so' % name)
    target.stop()
    target, library = user(uid)
    os.unlink(library)
    counts(target, 'lib.so:shown', 1000, 'a library that was deleted, %s' % name, uid)
    target.stop()

# Cut and damaged where it is mapped, by somebody who writes to the file itself.
random.seed(SEED)
t.note('SEED=%d' % SEED)
target, library = user()
t.until(lambda: t.state(target.pid) == 'S')  # and touches it no more
with open(library, 'rb') as file:
    whole = file.read()
ends, bad = {}, []
for i in range(600 if t.TORTURE else 60):
    data = bytearray(whole)
    if i % 3 == 0:
        data = data[:random.randrange(len(whole))]
    else:
        for _ in range(random.randrange(1, 40)):
            spot = random.choice([random.randrange(64), random.randrange(64, 1024),
                                  random.randrange(len(whole) - 2048, len(whole))])
            data[spot] = random.choice([0, 1, 0x7f, 0x80, 0xff, random.randrange(256)])
    with open(library, 'r+b') as file:
        file.write(data)
        file.truncate()
    outcome = t.suture('count', '-p', target.pid, '--dry-run', 'lib.so:*', seconds=20)
    ends[outcome.status] = ends.get(outcome.status, 0) + 1
    if outcome.status not in (t.DONE, t.USAGE, t.REFUSED) or \
            (outcome.status == t.USAGE and not t.is_one_line(outcome)):
        bad.append((i, outcome.status, outcome.err[:200]))
t.note('ends: %s' % ends)
t.same(bad, [], 'a library that is cut or damaged while it is mapped')
target.stop()

# --- memory that looks like ours ---------------------------------------------------------------

FORGER = r'''
import ctypes, mmap, os, sys, time
fd = os.memfd_create("suture-probes", 0)
os.ftruncate(fd, int(sys.argv[1]))
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
at = libc.mmap(0x300000000000, int(sys.argv[1]), 3, 1 | 0x100000 | 0x4000, fd, 0)
data = bytes.fromhex(sys.argv[2])
ctypes.memmove(at, data, len(data))
print("ready", flush=True)
time.sleep(1000)
'''
MAGIC, AT = 0x0001657275747573, 0x300000000000


def journal(size, **fields):
    values = dict(magic=MAGIC, address=AT, size=size, calls=4096, registry=16384, registry_size=4096,
                  owner=1, start=0, go=0, rest=b'')
    values.update(fields)
    rest = values.pop('rest')
    return (struct.pack('<9Q', *values.values()) + bytes(16384 - 72)) + rest


PAGES = 1 << 16
FORGED = {
    'of nothing but noise': (PAGES, random.randbytes(16384)),
    'with a registry of 1 TB': (1 << 40, journal(1 << 40, registry_size=(1 << 40) - 16384)),
    'with a registry that wraps': (PAGES, journal(PAGES, registry=2**64 - 8, registry_size=64)),
    'with more sites than room': (PAGES, journal(PAGES, rest=struct.pack('<II', 2, 0xffffffff))),
    'that says it is elsewhere': (PAGES, journal(PAGES, address=4096)),
    'with sites of no length': (PAGES, journal(PAGES, rest=struct.pack('<IIQQ', 2, 1, 0, 0))),
    'with calls behind its end': (PAGES, journal(PAGES, calls=PAGES - 8)),
}
for what, (size, data) in FORGED.items():
    forger = t.Victim('/usr/bin/python3', '-c', FORGER, size, data.hex())
    before = t.Snapshot(forger.pid, strict=True)
    for command in (('status',), ('revert',), ('count', '--for', '5ms', 'libc.so.6:malloc'),
                    ('count', '--dry-run', 'libc.so.6:malloc')):
        outcome = t.suture(command[0], '-p', forger.pid, *command[1:], seconds=20)
        in_order(outcome, (t.DONE, t.INTERNAL, t.REFUSED), 'a journal %s: %s' % (what, command[0]))
    t.unchanged(before, 'a journal %s: nothing was changed' % what, strict=True)
    forger.stop()

# --- much ---------------------------------------------------------------------------------------

victim = t.Victim('many', 2)
before = t.Snapshot(victim.pid, strict=True)
names = sorted(n for n in t.symbols(victim.path) if n.startswith('f_'))
specs = os.path.join(place, 'specs')
with open(specs, 'w') as file:
    for i in range(100000):
        file.write('%smany:%s\n' % ('' if i % 7 else '# one\n\n  ', names[i % len(names)]))
outcome = t.suture('count', '-p', victim.pid, '--for', '5ms', '--json', '--specs-from', specs,
                   seconds=100)
if not t.ok(outcome.status == t.DONE and len(outcome.probes()) == 100000,
            '100,000 specifications: all counted'):
    outcome.explain()
t.unchanged(before, '100,000 specifications: nothing is left', strict=True)
with open(specs, 'a') as file:
    file.write('many:nothing_of_the_kind\n')
outcome = t.suture('count', '-p', victim.pid, '--specs-from', specs, seconds=100)
t.ok(outcome.status == t.USAGE and t.is_one_line(outcome) and 'nothing_of_the_kind' in outcome.err and
     ('%s:%d: ' % (specs, sum(1 for _ in open(specs)))) in outcome.err,
     'and one that is wrong is named, with its line')
t.unchanged(before, 'and nothing was done', strict=True)
with open(specs) as file:
    outcome = t.command([t.SUTURE, 'count', '-p', str(victim.pid), '--dry-run', '--specs-from', '-',
                         'many:' + names[0]], stdin=file, seconds=100)
t.ok(outcome.status == t.USAGE and '-:' in outcome.err, 'the same from standard input')
victim.stop()

# --- ourselves ----------------------------------------------------------------------------------

outcome = t.command(['/bin/bash', '-c', '"%s" count -p $$ --json --for 50ms --kinds pun,window '
                     'libc.so.6:malloc && echo lives >&2' % t.SUTURE])
t.ok(outcome.status == t.DONE and len(outcome.probes()) == 1 and outcome.err == 'lives\n',
     'the shell that the command was called from')
outcome = t.command(['/bin/bash', '-c', 'exec "%s" count -p $$ --for 50ms main' % t.SUTURE])
t.ok(outcome.status == t.PROCESS and t.is_one_line(outcome) and 'itself' in outcome.err,
     'the command itself: refused in one line')
t.done()
