#!/usr/bin/python3 -B
# SPDX-License-Identifier: MIT
"""`suture list`: what it says a function would get is what `count` gives it.

Proves on redis-server, python3 and a program of 10,000 functions that every function of every
symbol table is listed; that count, asked for hundreds of them, takes the kinds foretold, and
refuses what was said to be refused, for the same reason; that the process is neither stopped nor
written to; and that it can be had of a process that count would refuse as a whole.
"""
import collections
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'lib'))
import suture_test as t

t.limit(100)
# Each count of so many sites leaves its puns within their share of pages, whatever their addresses.
BATCH = 200
APART = 64
PROGRAMS = t.TORTURE and 12 or 1
random.seed(5)


def listed(pid, *more):
    outcome = t.suture('list', '-p', pid, '--json', *more)
    if not t.ok(outcome.status == t.DONE and outcome.json and not outcome.err,
                'list %s: exit 0, an object, no complaint' % ' '.join(map(str, more))):
        outcome.explain()
        t.done()
    return outcome.json


def symbols(path):
    """(name, address) of the defined functions of all symbol tables of a file, as readelf
    understands them."""
    found = set()
    listing = subprocess.run(['readelf', '-sW', path], capture_output=True, text=True,
                             check=False).stdout
    code = []
    for line in subprocess.run(['readelf', '-SW', path], capture_output=True, text=True,
                               check=False).stdout.split('\n'):
        match = re.match(r' *\[ *\d+\] (\S*) +(\S+) +([0-9a-f]+) ([0-9a-f]+) ([0-9a-f]+) \S+ +(\S*X)',
                         line)
        if match:
            start, size = int(match.group(3), 16), int(match.group(5), 16)
            code.append((start, start + size))
    for line in listing.split('\n'):
        words = line.split()
        if len(words) < 8 or words[3] not in ('FUNC', 'IFUNC') or not words[6].isdigit():
            continue
        address = int(words[1], 16)
        if address and any(start <= address < end for start, end in code):
            found.add((words[7].split('@')[0], address))
    return found


def every_function(pid, what):
    data = listed(pid)
    got = collections.defaultdict(set)
    for entry in data['functions']:
        got[entry['module']].add((entry['symbol'], int(entry['vaddr'], 16)))
    paths = {m.path for m in t.maps(pid) if 'x' in m.perms and m.path.startswith('/')}
    missing, total = [], 0
    for path in sorted(paths):
        wanted = symbols(path)
        total += len(wanted)
        missing += ['%s:%s %#x' % (os.path.basename(path), *pair)
                    for pair in sorted(wanted - got[os.path.basename(path)])]
    if not t.ok(total > 1000 and not missing,
                '%s: all %d functions of %d files are listed' % (what, total, len(paths))):
        t.note('\n'.join(missing[:10]))
    bad = [entry for entry in data['functions']
           if (entry['kind'] is None) != bool(entry['reason']) or
           entry['kind'] not in (None, 'pun', 'window', 'uprobe')]
    t.same(bad[:3], [], what + ': each has a kind or a reason')
    sums = collections.Counter()
    for module in data['modules']:
        for kind in ('pun', 'window', 'uprobe', 'refused'):
            sums[kind] += module[kind]
    kinds = collections.Counter(entry['kind'] or 'refused' for entry in data['functions'])
    t.same(+sums, kinds, what + ': the sums of the modules are right')
    return data['functions']


def spec(entry):
    return '%s:%s' % (entry['module'], entry['vaddr'])


def sample(entries, count):
    """Different addresses, far enough apart not to be in one another's way."""
    chosen, last = [], None
    entries = {entry['address']: entry for entry in entries}.values()
    entries = random.sample(sorted(entries, key=spec), min(count, len(entries)))
    for entry in sorted(entries, key=lambda e: int(e['address'], 16)):
        address = int(entry['address'], 16)
        if last is None or address - last >= APART:
            chosen.append(entry)
            last = address
    return chosen


def counted_kinds(pid, entries, kinds):
    outcome = t.suture('count', '-p', pid, '--json', '--for', '0', '--kinds', kinds,
                       *[spec(entry) for entry in entries], seconds=60)
    if outcome.status != t.DONE:
        outcome.explain()
    return {probe['address']: probe['kind'] for probe in outcome.probes()}


def kinds_come_true(pid, what, rounds):
    """Several batches; who got something else in company gets what was foretold when alone."""
    functions = [e for e in listed(pid, '--kinds', 'pun,window')['functions'] if e['kind']]
    compared = collections.Counter()
    alone, wrong = [], []
    for _ in range(rounds):
        rare = [e for e in functions if e['kind'] == 'window']
        batch = sample(random.sample(functions, min(BATCH // 2, len(functions))) +
                       random.sample(rare, min(BATCH // 2, len(rare))), BATCH)
        got = counted_kinds(pid, batch, 'pun,window')
        for entry in batch:
            compared[entry['kind']] += 1
            if got.get(entry['address']) != entry['kind']:
                alone.append(entry)
    for entry in alone[:10]:
        got = counted_kinds(pid, [entry], 'pun,window')
        if got != {entry['address']: entry['kind']}:
            wrong.append((spec(entry), entry['kind'], got))
    t.ok(len(alone) * 50 <= sum(compared.values()),
         '%s: %d puns and %d windows counted as foretold, %d otherwise in company' %
         (what, compared['pun'], compared['window'], len(alone)))
    t.same(wrong, [], what + ': alone, all are as foretold')


def refusals_come_true(pid, what, kinds):
    refused = [e for e in listed(pid, '--kinds', kinds)['functions'] if not e['kind']]
    by_reason = collections.defaultdict(list)
    for entry in refused:
        by_reason[re.sub(r'0x[0-9a-f]+|^\S+ is an', '*', entry['reason'])].append(entry)
    chosen = [entry for entries in by_reason.values() for entry in sample(entries, 25)]
    if not chosen:
        t.skip('nothing is refused there')
        return
    outcome = t.suture('count', '-p', pid, '--json', '--for', '0', '--kinds', kinds,
                       *[spec(entry) for entry in chosen], seconds=60)
    t.same(outcome.status, t.REFUSED, '%s, %s: %d refused, for %d reasons' %
           (what, kinds, len(chosen), len(by_reason)))
    said = {entry['spec']: entry['reason'] for entry in outcome.refused()}
    wrong = [(spec(e), e['reason'], said.get(spec(e))) for e in chosen
             if said.get(spec(e)) != e['reason']]
    t.same(wrong[:3], [], '%s, %s: count gives the same reasons' % (what, kinds))


def uprobes_come_true(pid, what):
    chosen = sample([e for e in listed(pid)['functions'] if e['kind'] == 'uprobe'], 2)
    if not chosen or not t.tracefs():
        t.skip('no uprobes there')
        return
    t.same(counted_kinds(pid, chosen, 'pun,window,uprobe'),
           {e['address']: 'uprobe' for e in chosen}, what + ': uprobes are uprobes')


def hands_off(pid, *arguments):
    """No tracing and no writing, as strace sees it."""
    if not t.have('strace'):
        t.skip('no strace')
        return
    log = os.path.join(t.scratch(), 'log')
    t.command(['strace', '-f', '-o', log, '-e',
               'trace=ptrace,process_vm_writev,pwrite64,pwritev,kill,tkill,tgkill', t.SUTURE,
               *arguments, '-p', str(pid)], 60)
    with open(log) as file:
        calls = [line for line in file if '(' in line and '+++' not in line]
    t.same(calls[:3], [], '%s: no call that stops or writes' % arguments[0])


# --- real programs --------------------------------------------------------------------------

def python():
    victim = t.Victim('/bin/sh', '-c',
                      'exec "%s" -u -c "import hashlib,json,time; print(\'ready\'); '
                      'time.sleep(1000)"' % os.path.realpath(sys.executable))
    return victim


def redis():
    # No port, but a socket in a directory of its own.
    path = tempfile.mkdtemp(prefix='suture-test-')
    t.at_end(__import__('shutil').rmtree, path, True)
    victim = t.Victim(t.shutil.which('redis-server'), '--port', '0', '--unixsocket',
                      path + '/socket', '--save', '', ready=None)
    t.until(lambda: os.path.exists(path + '/socket'))
    return victim


for name, start in (('redis-server', redis), ('python3', python)):
    victim = start()
    before = t.Snapshot(victim.pid)
    every_function(victim.pid, name)
    t.unchanged(before, name + ': list changes nothing')
    kinds_come_true(victim.pid, name, PROGRAMS)
    refusals_come_true(victim.pid, name, 'pun,window,uprobe')
    refusals_come_true(victim.pid, name, 'window')
    if name == 'redis-server':
        uprobes_come_true(victim.pid, name)
        hands_off(victim.pid, 'list', '--summary')
    t.unchanged(before, name + ': nothing is left of the counts')
    victim.stop()

# --- a program of ours ----------------------------------------------------------------------

many = t.Victim('many', 1)
outcome = t.suture('list', '-p', many.pid, '--summary', 'many:*')
total = len({address for _, address in symbols(many.path)})
match = re.search(r'^process \d+: (\d+) names: ', outcome.out)
t.ok(match and int(match.group(1)) >= total > 10000, 'a program of %d functions' % total)
many.stop()

victim = t.Victim('sums-nopie', 2)
outcome = t.suture('list', '-p', victim.pid, 'sum_below')
row = outcome.out.split('\n')[2].split()
size = [line.split()[2] for line in t.command(['readelf', '-sW', victim.path]).out.split('\n')
        if line.endswith(' sum_below')][0]
t.same(row, ['sums-nopie', '%#x' % t.symbols(victim.path)['sum_below'], size, 'window', 'sum_below'],
       'a row: module, address, size, kind, name')
t.same([e['symbol'] for e in listed(victim.pid, 'sums-nopie:sum_b*')['functions']],
       t.matching(t.symbols(victim.path), 'sum_b*'), 'a glob selects')
for what, status, arguments in (
        ('an unknown function', t.USAGE, ['-p', victim.pid, 'no_such_function']),
        ('an unknown module', t.USAGE, ['-p', victim.pid, 'nothing.so:*']),
        ('a malformed specification', t.USAGE, ['-p', victim.pid, 'sum_any+']),
        ('no process', t.USAGE, []),
        ('a process that is gone', t.PROCESS, ['-p', 2147483647]),
        ('a kernel thread', t.PROCESS, ['-p', 2])):
    outcome = t.suture('list', *arguments)
    if not t.ok(outcome.status == status and t.is_one_line(outcome) and not outcome.out,
                '%s: one line, exit %d' % (what, status)):
        outcome.explain()

first = t.Count(victim.pid, 'sums-nopie:sum_any')
t.ok(first.attached(), 'a suture is attached')
data = listed(victim.pid, 'sums-nopie:sum_*')
t.ok('another suture' in data['obstacle'], 'while another suture counts, list says so')
entry = [e for e in data['functions'] if e['symbol'] == 'sum_any'][0]
t.ok(entry['kind'] is None and 'patched' in entry['reason'], 'and that the site is not free')
t.same(first.end(signal.SIGINT).status, t.DONE, 'it is not disturbed')
t.same(listed(victim.pid, 'sums-nopie:sum_any')['obstacle'], None, 'then nothing is in the way')
victim.stop()

twins = t.Victim('twins')
t.same(len(listed(twins.pid, 'twins:twin')['functions']), 2, 'a name of two functions: both')
twins.stop()
t.done()
