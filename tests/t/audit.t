#!/usr/bin/python3 -B
# SPDX-License-Identifier: MIT
"""The audit log says who did what to which process, and is believed.

Lines have the documented form whatever a file is called; the bytes in them are those that are in
the process, before and after; what was refused is there too; a log that cannot be written keeps
anything from being done; one that fails later does not keep the process from being restored.
"""
import os
import re
import resource
import shlex
import shutil
import signal
import socket
import subprocess
import sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'lib'))
import suture_test as t

t.limit(60)
place = t.scratch()
LOG = os.path.join(place, 'log')
LINE = re.compile(r'time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z event=[a-z-]+ id=[0-9a-f]+-[0-9a-f]+ '
                  r'pid=\d+( [a-z_]+=([^\s"=]+|"([^"\\]|\\["\\]|\\x[0-9a-f]{2})*"))+')


def parse(text):
    lines = text.splitlines()
    bad = [line for line in lines if not LINE.fullmatch(line)]
    if not t.ok(not bad and text[-1:] in ('', '\n'), 'every line has the documented form'):
        t.note('\n'.join(bad[:5]))
    return [dict(word.split('=', 1) for word in shlex.split(line.replace('\\x', '\\\\x')))
            for line in lines]


def take_log():
    """What was logged since the last time."""
    with open(LOG) as file:
        text = file.read()
    os.truncate(LOG, 0)
    return parse(text)


def events(lines):
    return [line['event'] for line in lines]


def read_memory(pid, address, size):
    with open('/proc/%d/mem' % pid, 'rb', buffering=0) as memory:
        memory.seek(address)
        return memory.read(size).hex()


# --- a count --------------------------------------------------------------------------------------

victim = t.Victim('sums', 2)
before = t.Snapshot(victim.pid, strict=True)
count = t.Count(victim.pid, 'sums:sum_any', 'sums:sum_below', options=[
    '--log', LOG, '--max-pause', '10s'], env={'SUDO_USER': 'a "b"'})
t.ok(count.attached(), 'attached')
with open(LOG) as file:
    during = parse(file.read())
t.same(events(during), ['attach-begin', 'attach', 'site', 'site'], 'attached: logged at once')
sites = [line for line in during if line['event'] == 'site']
t.ok(sites and all(read_memory(victim.pid, int(s['at'], 16), len(s['after']) // 2) == s['after']
                   for s in sites), 'the bytes after are in the process')
count.end()
lines = take_log()
t.same(events(lines), ['attach-begin', 'attach', 'site', 'site', 'detach'], 'and the detach')
t.ok(all(read_memory(victim.pid, int(s['at'], 16), len(s['before']) // 2) == s['before']
         for s in sites), 'the bytes before are, too, afterwards')
t.same(len({line['id'] for line in lines}), 1, 'one id for all lines')
t.same({line['pid'] for line in lines}, {str(victim.pid)}, 'and the process in each')
begin = lines[0]
program = os.path.realpath(victim.path)
notes = t.command(['readelf', '-n', program]).out
t.same((begin['exe'], begin['build_id']),
       (program, re.search(r'Build ID: (\w+)', notes).group(1)), 'the program and its build')
t.same((begin['uid'], begin['sudo_user'], begin['specs'], begin['max_pause_us'],
        begin['tool'] == str(count.process.pid)), (str(os.getuid()), 'a "b"', '2', '10000000', True),
       'who, what, and under which bound')
t.same([(s['n'], s['site'], s['kind'], s['build_id'] == begin['build_id']) for s in sites],
       [('1', 'sums:sum_any', 'pun', True), ('2', 'sums:sum_below', 'pun', True)], 'each site')
t.ok(lines[1]['sites'] == '2' and lines[1]['result'] == 'done' and int(lines[1]['stop_us']) > 0,
     'what came of it, and how long the process was stopped')
t.ok(lines[4]['result'] == 'done' and int(lines[4]['stop_us']) > 0, 'the same of the detach')
t.unchanged(before, 'nothing is left', strict=True)
t.same(oct(os.stat(LOG).st_mode & 0o777), '0o600', 'the log is its owner\'s')

t.suture('count', '-p', victim.pid, '--for', '5ms', '--dry-run', '--log', LOG, 'sums:sum_any')
t.same(take_log(), [], 'a dry run is not logged')

# --- what was refused -----------------------------------------------------------------------------

gone = t.spawn(['/bin/true'])
gone.wait()
for what, status, result, pid, specs in (
        ('an unknown function', '2', 'failed', victim.pid, ['sums:none']),
        ('a site inside an instruction', '4', 'refused', victim.pid, ['sums:sum_pun+0x2']),
        ('no such process', '3', 'failed', gone.pid, ['main']),
        ('too short a pause', '5', 'failed', victim.pid, ['--max-pause', '1us', 'sums:sum_any'])):
    outcome = t.suture('count', '-p', pid, '--for', '5ms', '--log', LOG, *specs)
    lines = take_log()
    good = events(lines) == ['attach-begin', 'attach'] and str(outcome.status) == status and \
        (lines[1]['status'], lines[1]['result']) == (status, result) and \
        lines[1]['reason'] in outcome.err
    if not t.ok(good, 'refused, and logged: ' + what):
        t.note(lines)
        outcome.explain()

# --- names in bad faith ---------------------------------------------------------------------------

folder = os.path.join(place, 'a "b\\ c\n event=detach result=done \x1b[31m\xe4')
os.mkdir(folder)
shutil.copy(os.path.join(t.BUILD, 'tests/victims/sums'), folder + '/su ms=1')
named = t.Victim(folder + '/su ms=1', 1)
t.suture('count', '-p', named.pid, '--for', '5ms', '--log', LOG, 'su ms=1:sum_any')
lines = take_log()
t.same(events(lines), ['attach-begin', 'attach', 'site', 'detach'], 'a file name forges no line')
t.ok('\\x0a event=detach' in lines[0]['exe'] and lines[2]['site'] == 'su ms=1:sum_any',
     'and is told from keys')
named.stop()

# --- revert ---------------------------------------------------------------------------------------

count = t.Count(victim.pid, 'sums:sum_any', options=['--log', LOG])
count.attached()
count.process.kill()
count.process.wait()
t.same(events(take_log()), ['attach-begin', 'attach', 'site'],
       'a command that is killed has logged what it did')
t.same(t.suture('revert', '-p', victim.pid, '--log', LOG).status, t.DONE, 'revert')
lines = take_log()
t.same(events(lines), ['revert-begin', 'revert', 'site'], 'revert: logged')
t.ok(lines[1]['sites'] == '1' and lines[1]['processes'] == '1' and int(lines[1]['stop_us']) > 0 and
     (lines[2]['before'], lines[2]['after']) == (sites[0]['after'], sites[0]['before']),
     'revert: the bytes are put back')
t.suture('revert', '-p', gone.pid, '--log', LOG)
lines = take_log()
t.ok(events(lines) == ['revert-begin', 'revert'] and lines[1]['status'] == '3' and
     'no process' in lines[1]['reason'], 'a revert that fails is logged')
t.unchanged(before, 'nothing is left', strict=True)

# --- a log that cannot be written -----------------------------------------------------------------

fifo = os.path.join(place, 'fifo')
os.mkfifo(fifo)
for what, path in (('no folder', '/no/such/folder/log'), ('a folder', place), ('a full disk', '/dev/full'),
                   ('a pipe that nobody reads', fifo)):
    for command in (['count', '--for', '5ms'], ['revert']):
        outcome = t.suture(command[0], '-p', victim.pid, *command[1:], '--log', path,
                           *(['sums:sum_any'] if command[0] == 'count' else []))
        t.ok(outcome.status == t.INTERNAL and t.is_one_line(outcome) and not outcome.out,
             '%s: %s is not begun' % (what, command[0]))
t.unchanged(before, 'and nothing was done', strict=True)

# The log may grow until the first line is in it.
SIZE = 32 << 20
with open(LOG, 'wb') as file:
    file.truncate(SIZE - 400)


def small_files():
    resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE, SIZE))


child = subprocess.Popen([t.SUTURE, 'count', '-p', str(victim.pid), '--for', '50ms', '--json', '--log',
                          LOG, 'sums:sum_any', 'sums:sum_pun', 'sums:sum_below'],
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         text=True, preexec_fn=small_files)
outcome = t._collect(child, 30)
if not t.ok(outcome.status == t.INTERNAL and 'cannot write to the log' in outcome.err and
            outcome.err.count('\n') == 1 and len(outcome.probes()) == 3,
            'a log that fails while counting: told once, counted, exit 1'):
    outcome.explain()
t.unchanged(before, 'and the process is restored', strict=True)
os.truncate(LOG, 0)

# --- several at once ------------------------------------------------------------------------------

others = [t.Victim('sums', 1) for _ in range(4)]
children = [t.spawn([t.SUTURE, 'count', '-p', str(other.pid), '--for', '10ms', '--log', LOG, 'sums:*'],
                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            for other in others for _ in range(1)]
t.same([child.wait(30) for child in children], [0] * 4, 'four commands share a log')
lines = take_log()
t.same(sorted(events(lines)).count('detach'), 4, 'and every line is whole')
for other in others:
    other.stop()

# --- syslog ---------------------------------------------------------------------------------------

if t.is_root():
    path = os.path.join(place, 'socket')
    daemon = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    daemon.bind(path)
    daemon.settimeout(5)
    daemon.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    # A /dev of its own for the command, with this socket in it.
    script = ('set -e; mkdir -p "$1/dev"; mount -t tmpfs none "$1/dev"; for n in null zero full urandom; '
              'do touch "$1/dev/$n"; mount --bind /dev/$n "$1/dev/$n"; done; touch "$1/dev/log"; '
              'mount --bind "$2" "$1/dev/log"; mount --rbind "$1/dev" /dev; shift 2; exec "$@"')
    inside = ['unshare', '-m', '--propagation', 'private', '/bin/sh', '-c', script, 'sh', place, path]
    outcome = t.command(inside + [t.SUTURE, 'count', '-p', str(victim.pid), '--for', '5ms', '--json',
                                  'sums:sum_any', 'sums:sum_pun'])
    if not t.ok(outcome.status == t.DONE, 'a count that goes to syslog'):
        outcome.explain()
    got = []
    for _ in range(5):
        try:
            got.append(daemon.recv(65536).rstrip(b'\0').decode())
        except OSError:
            break
    t.ok(len(got) == 5 and all(re.match(r'<85>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d suture\[\d+\]: time=',
                                        line) for line in got), 'authpriv.notice, by suture')
    t.same(events(parse(''.join(line.split(']: ', 1)[1] + '\n' for line in got))),
           ['attach-begin', 'attach', 'site', 'site', 'detach'], 'the same lines')
    # A daemon that does not read any more: the count goes on.
    many = t.Victim('many', 1)
    outcome = t.command(inside + [t.SUTURE, 'count', '-p', str(many.pid), '--for', '5ms', '--json',
                                  'many:f_00*'], 60)
    t.ok(outcome.status == t.DONE and len(outcome.probes()) > 900 and not outcome.err,
         'syslog does not hold it up')
    daemon.setblocking(False)
    got = 0
    try:
        while daemon.recv(65536):
            got += 1
    except OSError:
        pass
    t.ok(got <= 103, 'and gets the first sites only: %d lines' % got)
    many.stop()
    daemon.close()
    outcome = t.command(inside + [t.SUTURE, 'count', '-p', str(victim.pid), '--for', '5ms', '--json',
                                  'sums:sum_any'])
    t.ok(outcome.status == t.DONE and not outcome.err, 'no syslog: silence')
else:
    t.skip('needs root to be somebody else')
t.unchanged(before, 'nothing is left', strict=True)
t.same(victim.run(10), 0, 'the target works')
victim.stop()
t.done()
