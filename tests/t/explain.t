#!/usr/bin/python3 -B
# SPDX-License-Identifier: MIT
"""`suture explain`: the bytes that it foretells are those that `count` puts there, what it says of
who can arrive is so, and it neither stops nor changes the process unless asked to.
"""
import os
import re
import signal
import sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'lib'))
import suture_test as t

t.limit(90)


def explained(pid, *arguments, status=t.DONE):
    outcome = t.suture('explain', '-p', pid, '--json', *arguments)
    if not t.ok(outcome.status == status and outcome.json and not outcome.err,
                'explain %s: exit %d, an object' % (' '.join(arguments), status)):
        outcome.explain()
        t.done()
    return outcome.json


def memory(pid, address, size):
    with open('/proc/%d/mem' % pid, 'rb', buffering=0) as file:
        file.seek(address)
        return file.read(size)


def claims(data):
    return {claim['what']: claim for claim in data['claims']}


def whys(data):
    return {(entry['kind'], entry['shift']): entry['why'] for entry in data['tries']}


# --- bytes come true ------------------------------------------------------------------------

def bytes_come_true(victim, function, kind, shift=None):
    """What stands there while count is attached, and where its jumps lead."""
    what = '%s as %s' % (function, kind)
    data = explained(victim.pid, '--kinds', kind, function)
    site = data['site']
    address, size = int(site['address'], 16), len(data['before']) // 2
    t.same(site['kind'], kind, what + ': the kind')
    if shift is not None:
        t.same(site['shift'], shift, what + ': at +%d' % shift)
    t.same(memory(victim.pid, address, size).hex(), data['before'], what + ': bytes before')
    count = t.Count(victim.pid, function, options=['--kinds', kind])
    if t.ok(count.attached(), what + ': counted'):
        now = memory(victim.pid, address, size)
        t.same(now.hex(), data['after'], what + ': bytes after, as foretold')
        for jump in data['jumps']:
            end = jump['offset'] + jump['length']
            to = address + end + int.from_bytes(now[end - 4:end], 'little', signed=True)
            t.same(hex(to), jump['target'], what + ': a jump leads where it was said')
        t.ok(data['trampoline'] == data['jumps'][0]['target'] and
             any(m.start <= int(data['trampoline'], 16) < m.end and 'x' in m.perms
                 and 'suture' in m.path for m in t.maps(victim.pid)),
             what + ': the trampoline is there')
    count.end()


nopie = t.Victim('sums-nopie', 2)
before = t.Snapshot(nopie.pid)
bytes_come_true(nopie, 'sums-nopie:sum_any', 'pun')
bytes_come_true(nopie, 'sums-nopie:sum_any', 'window')
bytes_come_true(nopie, 'sums-nopie:sum_below', 'window')
t.unchanged(before, 'nothing is left')
nopie.stop()

victim = t.Victim('arrivals')
before = t.Snapshot(victim.pid, strict=True)
names = t.symbols(victim.path)
bytes_come_true(victim, 'arrivals:plain', 'window')
bytes_come_true(victim, 'arrivals:plain', 'pun')

# Real functions of all shapes: shifted, calls that are sent elsewhere, windows with a prefix.
sample = t.suture('list', '-p', victim.pid, '--json', '--kinds', 'window', 'libc.so.6:*').json
seen = set()
for entry in sample['functions']:
    shape = (entry['kind'], entry['shift'])
    if entry['kind'] == 'window' and shape not in seen and len(seen) < 6:
        seen.add(shape)
        bytes_come_true(victim, 'libc.so.6:' + entry['vaddr'], 'window', entry['shift'])
t.ok(len(seen) > 2, 'windows of %d shapes' % len(seen))

# --- who can arrive -------------------------------------------------------------------------

data = explained(victim.pid, '--kinds', 'window', 'plain')
t.same([line['offset'] for line in data['instructions']], [0, 2, 4, 6], 'plain: the instructions')
t.ok('+4, +6' in claims(data)['branches']['why'] and
     claims(data)['branches']['verdict'] == 'proven', 'plain: nobody leads to the inner boundaries')
t.same(claims(data)['threads']['verdict'], 'attach', 'plain: threads are looked at when attaching')
t.same((data['threads']['inside'], data['threads']['stopped']), (0, False), 'plain: nobody is inside')

data = explained(victim.pid, '--kinds', 'window', 'branched_into', status=t.REFUSED)
why = whys(data)[('window', 0)]
t.ok(why.startswith('+4 ') and '%#x' % names['back_edge'] in why and 'branched_into' in why,
     'branched_into: +4, by which branch')
data = explained(victim.pid, '--kinds', 'window', 'jumped_into', status=t.REFUSED)
t.ok('indirect jump' in whys(data)[('window', 0)], 'jumped_into: by an indirect jump')
t.same(data['after'], data['before'], 'a refusal changes no bytes')

puns = t.suture('list', '-p', victim.pid, '--json', '--kinds', 'pun', 'libc.so.6:*').json
site = [e for e in puns['functions'] if e['kind'] and not e['shift']][0]
site = explained(victim.pid, '--kinds', 'pun', 'libc.so.6:' + site['vaddr'])
t.same(claims(site)['threads']['verdict'], 'proven', 'a pun: threads may be anywhere')

# A word on the stack of a thread that sleeps.
data = explained(victim.pid, '--kinds', 'window', 'returned_into')
t.same(data['threads']['inside'], 1, 'returned_into: somebody is inside, seen without a stop')
data = explained(victim.pid, '--kinds', 'window', '--stop', 'returned_into')
t.same((data['threads']['inside'], data['threads']['stopped']), (1, True), 'and with one')
outcome = t.suture('count', '-p', victim.pid, '--for', '0', '--kinds', 'window', '--max-pause',
                   '20ms', 'arrivals:returned_into')
t.same(outcome.status, t.TIMEOUT, 'and count does not get in')
data = explained(victim.pid, '--kinds', 'window', '--stop', 'plain')
t.same(data['threads']['inside'], 0, 'plain: nobody is, in a stop')
t.unchanged(before, 'nothing is changed', strict=True)

if t.have('strace'):
    for arguments, stops in ((['plain'], False), (['--stop', 'plain'], True)):
        log = os.path.join(t.scratch(), 'log')
        t.command(['strace', '-f', '-o', log, '-e', 'trace=ptrace,pwrite64', t.SUTURE, 'explain',
                   '-p', str(victim.pid), *arguments])
        with open(log) as file:
            calls = file.read()
        t.same(('PTRACE_INTERRUPT' in calls, 'pwrite64(' in calls), (stops, False),
               'explain %s: %s, and writes nothing' % (' '.join(arguments),
                                                       'stops' if stops else 'does not stop'))
else:
    t.skip('no strace', 2)

# --- the drawing ----------------------------------------------------------------------------

outcome = t.suture('explain', '-p', victim.pid, '--kinds', 'window', 'plain')
lines = outcome.out.split('\n')
old = [line for line in lines if line.startswith('  before')][0].split()[1:]
new = [line for line in lines if line.startswith('  after')][0].split()[1:]
t.same(''.join(old), explained(victim.pid, '--kinds', 'window', 'plain')['before'],
       'the drawing shows the bytes')
t.same([i for i, byte in enumerate(new) if byte != '..' and byte == old[i]], [],
       'and those that change')
t.ok(all(len(line) < 200 for line in lines), 'no line is out of all proportion')
t.ok(re.search(r'^  jump 2 +\\_+/$', outcome.out, re.M), 'and the second jump')

# --- what cannot be explained ---------------------------------------------------------------

for what, status, arguments in (
        ('no specification', t.USAGE, ['-p', victim.pid]),
        ('two specifications', t.USAGE, ['-p', victim.pid, 'plain', 'jumped_into']),
        ('a glob of several', t.USAGE, ['-p', victim.pid, 'arrivals:*_into']),
        ('an unknown function', t.USAGE, ['-p', victim.pid, 'no_such_function']),
        ('an address in data', t.USAGE, ['-p', victim.pid, 'arrivals:0x10']),
        ('no process', t.USAGE, ['plain']),
        ('a process that is gone', t.PROCESS, ['-p', 2147483647, 'plain'])):
    outcome = t.suture('explain', *arguments)
    if not t.ok(outcome.status == status and t.is_one_line(outcome) and not outcome.out,
                '%s: one line, exit %d' % (what, status)):
        outcome.explain()
data = explained(victim.pid, 'arrivals:plain+0x1', status=t.REFUSED)
t.ok('inside the instruction' in claims(data)['site']['why'], 'inside an instruction: said so')

count = t.Count(victim.pid, 'arrivals:plain')
t.ok(count.attached(), 'a suture is attached')
data = explained(victim.pid, 'jumped_into')
t.ok('another suture' in data['obstacle'], 'while another suture counts, explain says so')
outcome = t.suture('explain', '-p', victim.pid, '--stop', 'jumped_into')
t.same((outcome.status, t.is_one_line(outcome)), (t.PROCESS, True), 'and does not stop anything')
t.same(count.end(signal.SIGINT).status, t.DONE, 'which is not disturbed')

# What a killed command has left is looked through: the plan is that of the count that undoes it.
first = explained(victim.pid, 'plain')
count = t.Count(victim.pid, 'arrivals:plain')
t.ok(count.attached(), 'attached, to be killed')
count.end(signal.SIGKILL)
data = explained(victim.pid, 'plain')
t.same([data[key] for key in ('site', 'before', 'after', 'trampoline', 'instructions')],
       [first[key] for key in ('site', 'before', 'after', 'trampoline', 'instructions')],
       'leftovers of a killed suture: explained as if they were gone')
outcome = t.suture('list', '-p', victim.pid, '--json', 'plain')
t.same((outcome.json['functions'][0]['reason'], [m for m in outcome.json['modules'] if m['error']]), (None, []),
       'leftovers: list takes neither them nor their memory for anybody else\'s')
t.same(t.suture('revert', '-p', victim.pid).status, t.DONE, 'reverted')
t.unchanged(before, 'nothing is left', strict=True)
victim.stop()
t.done()
