# SPDX-License-Identifier: MIT
"""What the black-box tests share: TAP output, victims, the command, snapshots of a process.

Everything is bounded: every wait has a limit, the whole file has one (`limit`), and whatever was
started is killed at exit, also when the test itself is killed.
"""
import atexit
import ctypes
import fnmatch
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

BUILD = os.path.abspath(os.environ.get('BUILD', 'build'))
SUTURE = os.environ.get('SUTURE', os.path.join(BUILD, 'suture'))
TORTURE = os.environ.get('SUTURE_TORTURE', '') not in ('', '0')

# Exit codes of the command.
DONE, INTERNAL, USAGE, PROCESS, REFUSED, TIMEOUT = range(6)

# --- TAP ------------------------------------------------------------------------------------

_count = 0
_failed = 0


def ok(condition, text):
    global _count, _failed
    _count += 1
    if not condition:
        _failed += 1
    print('%sok %d - %s' % ('' if condition else 'not ', _count, text), flush=True)
    return bool(condition)


def same(got, expected, text):
    if not ok(got == expected, text):
        note('got:      %r' % (got,))
        note('expected: %r' % (expected,))
    return got == expected


def note(text):
    for line in str(text).rstrip('\n').split('\n'):
        print('# ' + line, flush=True)


def skip(reason, count=1):
    global _count
    for _ in range(count):
        _count += 1
        print('ok %d # SKIP %s' % (_count, reason), flush=True)


def done():
    """Print the plan and leave."""
    print('1..%d' % _count, flush=True)
    sys.exit(1 if _failed else 0)


def failures():
    return _failed


# --- children -------------------------------------------------------------------------------

_children = []
_undo = []
_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1


def at_end(function, *args):
    """Run `function` at exit, last registered first, after all children are gone."""
    _undo.append((function, args))


def _adopt(nice, uid):
    def child():
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if nice:
            os.nice(nice)
        if uid is not None:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    return child


def spawn(command, nice=0, uid=None, **options):
    child = subprocess.Popen(command, preexec_fn=_adopt(nice, uid), start_new_session=True,
                             **options)
    _children.append(child)
    return child


def reap(child):
    """Kill a child and its process group, and wait for it."""
    for attempt in (os.killpg, os.kill):
        try:
            if attempt is os.killpg or child.poll() is None:
                attempt(child.pid, signal.SIGKILL)
        except OSError:
            pass
    try:
        child.wait(10)
    except subprocess.TimeoutExpired:
        note('process %d does not die' % child.pid)
    for stream in (child.stdin, child.stdout, child.stderr):
        try:
            if stream:
                stream.close()
        except OSError:
            pass
    if child in _children:
        _children.remove(child)


def _cleanup():
    signal.alarm(0)
    for child in list(_children):
        reap(child)
    while _undo:
        function, args = _undo.pop()
        try:
            function(*args)
        except Exception as error:  # one failed step must not keep the others from running
            note('cleaning up: %s' % error)


def _give_up(number, _frame):
    if number == signal.SIGALRM:
        print('Bail out! the time limit of this file is over', flush=True)
    sys.exit(1)


def limit(seconds):
    """Bound the whole test file: what it takes at worst on an idle machine. Others may use this
    one, too, and victims are nice."""
    signal.alarm(seconds * (20 if TORTURE else 4))


atexit.register(_cleanup)
signal.signal(signal.SIGALRM, _give_up)
signal.signal(signal.SIGTERM, _give_up)
signal.signal(signal.SIGHUP, _give_up)


class Outcome:
    """How a command ended. `status` is the exit code, negative for a signal, None if it had to
    be killed because it did not end in time."""

    def __init__(self, status, out, err):
        self.status, self.out, self.err = status, out, err
        try:
            self.json = json.loads(out)
        except ValueError:
            self.json = None

    def probes(self):
        return self.json.get('probes', []) if isinstance(self.json, dict) else []

    def refused(self):
        return self.json.get('refused', []) if isinstance(self.json, dict) else []

    def hits(self):
        """Symbol → hits."""
        return {probe['symbol']: probe['hits'] for probe in self.probes()}

    def kinds(self):
        """Symbol → kind."""
        return {probe['symbol']: probe['kind'] for probe in self.probes()}

    def reasons(self):
        """Everything that the command said about what it did not do, in one string."""
        return ' '.join([str(entry.get('reason')) for entry in self.refused()] + [self.err])

    def explain(self):
        note('exit %s' % self.status)
        for name, text in (('stdout', self.out), ('stderr', self.err)):
            if text:
                note('%s: %s' % (name, text if len(text) < 3000 else text[:3000] + '...'))


def _collect(child, seconds):
    try:
        out, err = child.communicate(timeout=seconds)
        status = child.returncode
    except subprocess.TimeoutExpired:
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except OSError:
            pass
        out, err = child.communicate()
        status = None
    if child in _children:
        _children.remove(child)
    return Outcome(status, out, err)


def command(arguments, seconds=30, env=None, uid=None, stdin=subprocess.DEVNULL):
    child = spawn(arguments, uid=uid, stdin=stdin, stdout=subprocess.PIPE,
                  stderr=subprocess.PIPE, text=True, errors='replace',
                  env=dict(os.environ, **env) if env else None)
    return _collect(child, seconds)


def suture(*arguments, seconds=30, env=None, uid=None):
    return command([SUTURE] + [str(a) for a in arguments], seconds, env, uid)


def is_one_line(outcome):
    """The form of every refusal: one line that starts with the program's name."""
    return (outcome.err.startswith('suture: ') and outcome.err.endswith('\n')
            and outcome.err.count('\n') == 1 and len(outcome.err) > len('suture: \n'))


# --- looking at a process -------------------------------------------------------------------

_LINE = re.compile(r'([0-9a-f]+)-([0-9a-f]+) (\S+) ([0-9a-f]+) (\S+) (\d+) *(.*)')


def _directory(pid):
    """Where to look at a process: a leader that has ended shows no memory, another thread does."""
    path = '/proc/%d' % pid
    if state(pid) == 'Z':
        for tid in threads(pid):
            if tid != pid:
                return '%s/task/%d' % (path, tid)
    return path


class Mapping:
    def __init__(self, line):
        start, end, self.perms, self.offset, _, self.inode, self.path = _LINE.match(line).groups()
        self.start, self.end = int(start, 16), int(end, 16)
        self.offset = int(self.offset, 16)
        self.line = line


def maps(pid):
    try:
        with open(_directory(pid) + '/maps') as file:
            return [Mapping(line.rstrip('\n')) for line in file]
    except (OSError, ProcessLookupError):
        return []


def ours(pid):
    """The lines of a process's maps that belong to suture."""
    return [mapping.line for mapping in maps(pid) if 'suture' in mapping.path.lower()
            and mapping.path.startswith(('/memfd:', '[anon'))]


def status_field(pid, name, tid=None):
    path = '/proc/%d/status' % pid if tid is None else '/proc/%d/task/%d/status' % (pid, tid)
    try:
        with open(path) as file:
            for line in file:
                if line.startswith(name + ':'):
                    return line.split(':', 1)[1].strip()
    except OSError:
        pass
    return None


def threads(pid):
    try:
        return [int(tid) for tid in os.listdir('/proc/%d/task' % pid)]
    except OSError:
        return []


def is_traced(pid):
    return any(status_field(pid, 'TracerPid', tid) not in ('0', None) for tid in threads(pid))


def state(pid):
    return (status_field(pid, 'State') or '?')[0]


def text(pid):
    """Bytes of every executable mapping of a file, and of the vdso: {start: bytes}."""
    found = {}
    try:
        with open(_directory(pid) + '/mem', 'rb', buffering=0) as memory:
            for mapping in maps(pid):
                if 'x' not in mapping.perms or not (mapping.path.startswith('/')
                                                    or mapping.path == '[vdso]'):
                    continue
                if mapping.path.startswith('/memfd:suture'):
                    continue
                memory.seek(mapping.start)
                data = b''
                while len(data) < mapping.end - mapping.start:
                    piece = memory.read(mapping.end - mapping.start - len(data))
                    if not piece:
                        break
                    data += piece
                found[mapping.start] = data
    except OSError:
        pass
    return found


def _steady(mapping, strict):
    """Does this line stay the same while the program runs undisturbed? Stacks, heaps and
    anonymous data come and go; [uprobes] and [uprobes-trampoline] are the kernel's own pages,
    made at the first hit of any uprobe that needs them and kept until the process ends."""
    if mapping.path.startswith('[uprobes'):
        return False
    if strict or 'x' in mapping.perms or 's' in mapping.perms:
        return True
    return mapping.path.startswith('/')


class Snapshot:
    """What a process looks like to somebody who searches for traces. `strict` compares every
    line of its maps, for a process that does nothing in between."""

    def __init__(self, pid, strict=False):
        self.pid = pid
        self.maps = [m.path if m.path in ('[heap]', '[stack]') else m.line
                     for m in maps(pid) if _steady(m, strict)]
        self.text = text(pid)
        self.fds = {}
        try:
            directory = _directory(pid) + '/fd'
            for fd in os.listdir(directory):
                try:
                    self.fds[int(fd)] = os.readlink('%s/%s' % (directory, fd))
                except OSError:
                    pass
        except OSError:
            pass

    def differences(self, later):
        found = []
        if not self.text:
            found.append('nothing could be read')
        for start in sorted(set(self.text) | set(later.text)):
            old, new = self.text.get(start), later.text.get(start)
            if old is None or new is None:
                found.append('executable mapping at %#x %s' % (start, 'is new' if old is None
                                                               else 'is gone'))
            elif old != new:
                places = [i for i in range(min(len(old), len(new))) if old[i] != new[i]]
                found.append('%d bytes of text differ, first at %#x' %
                             (len(places), start + (places[0] if places else 0)))
        found += ['maps lost: ' + line for line in self.maps if line not in later.maps]
        found += ['maps gained: ' + line for line in later.maps if line not in self.maps]
        for fd in sorted(set(self.fds) | set(later.fds)):
            if self.fds.get(fd) != later.fds.get(fd):
                found.append('fd %d: %s -> %s' % (fd, self.fds.get(fd), later.fds.get(fd)))
        return found


def unchanged(before, text_, strict=False):
    """Asserts that the process looks as it did in `before`."""
    found = before.differences(Snapshot(before.pid, strict))
    if not ok(not found, text_):
        note('\n'.join(found[:12]))
    return not found


def until(condition, seconds=10, pause=0.01):
    """Wait for a condition; its last value."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value or time.monotonic() > end:
            return value
        time.sleep(pause)


# --- victims --------------------------------------------------------------------------------

class Victim:
    """A program under test. Ours say `ready` and then answer commands line by line (see
    tests/victims/victim.h); anything else may be started with ready=None. They run at low
    priority, so that a command gets its turn on a small machine although they spin."""

    def __init__(self, name, *arguments, ready='ready', nice=19, uid=None):
        path = name if name.startswith('/') else os.path.join(BUILD, 'tests/victims', name)
        self.path = path
        self.process = spawn([path] + [str(a) for a in arguments], nice=nice, uid=uid,
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL)
        self.pid = self.process.pid
        self._buffer = b''
        if ready is not None:
            self.expect(ready, 30)

    def line(self, seconds=30):
        """Next line of output; None at the end or when the time is over."""
        end = time.monotonic() + seconds
        while b'\n' not in self._buffer:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                return None
            piece = os.read(self.process.stdout.fileno(), 65536)
            if not piece:
                return None
            self._buffer += piece
        line, self._buffer = self._buffer.split(b'\n', 1)
        return line.decode(errors='replace')

    def expect(self, word, seconds=30):
        """Read up to a line that begins with `word`; its remaining words, None if it did not
        come."""
        end = time.monotonic() + seconds
        while True:
            line = self.line(max(0.0, end - time.monotonic()))
            if line is None:
                return None
            if line.split(' ')[0] == word:
                return line.split(' ')[1:]

    def tell(self, line):
        try:
            os.write(self.process.stdin.fileno(), line.encode() + b'\n')
            return True
        except OSError:
            return False

    def ask(self, line, word, seconds=30):
        return self.expect(word, seconds) if self.tell(line) else None

    def run(self, rounds, seconds=60):
        """Let every thread run exactly `rounds` rounds; number of wrong results, None if it
        died."""
        answer = self.ask('run %d' % rounds, 'done', seconds)
        return int(answer[0]) if answer else None

    def free(self):
        """Let all threads run until `halt`."""
        return self.ask('free', 'free') is not None

    def halt(self, seconds=30):
        answer = self.ask('halt', 'done', seconds)
        return int(answer[0]) if answer else None

    def progress(self):
        """(wrong results, [rounds of each thread]) while running free."""
        answer = self.ask('state', 'state')
        return (int(answer[0]), [int(word) for word in answer[1:]]) if answer else (None, [])

    def works(self, seconds=20):
        """Runs free: every thread gets on and nothing was ever wrong. Empty string, or what is
        the matter."""
        wrong, before = self.progress()
        if wrong is None:
            return 'no answer, state %s, status %s' % (state(self.pid), self.process.poll())
        end = time.monotonic() + seconds
        while True:
            wrong, now = self.progress()
            if wrong is None:
                return 'no answer, state %s, status %s' % (state(self.pid), self.process.poll())
            if wrong:
                return '%d wrong results' % wrong
            stuck = [i for i in range(len(now)) if now[i] == before[i]]
            if not stuck:
                return ''
            if time.monotonic() > end:
                return 'threads %s stand still' % stuck
            time.sleep(0.005)

    def expected(self):
        """Function → executions of its first instruction in one round of one thread. Those in
        `self.more` may be executed more often, as they jump back to it."""
        table = {}
        self.more = set()
        if not self.tell('expect'):
            return table
        while True:
            line = self.line(30)
            if line is None or line == 'end':
                return table
            words = line.split(' ')
            if words[0] == 'expect':
                table[words[1]] = int(words[2])
                if words[3:] == ['more']:
                    self.more.add(words[1])

    def alive(self):
        return self.process.poll() is None and state(self.pid) not in 'ZX'

    def stop(self):
        reap(self.process)


def symbols(path):
    """Name → ELF address of every defined symbol."""
    table = {}
    listing = subprocess.run(['nm', '--defined-only', path], capture_output=True, text=True,
                             check=False).stdout
    for line in listing.split('\n'):
        words = line.split()
        if len(words) == 3:
            table[words[2]] = int(words[0], 16)
    return table


# --- the command in the background ----------------------------------------------------------

class Count:
    """`suture count` in the background, in JSON."""

    def __init__(self, pid, *specs, options=(), env=None, duration=None):
        self.pid = pid
        self._before = text(pid)
        arguments = [SUTURE, 'count', '-p', str(pid), '--json']
        if duration:
            arguments += ['--for', duration]
        self.process = spawn(arguments + [str(o) for o in options] + list(specs),
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True,
                             env=dict(os.environ, **env) if env else None)

    def attached(self, seconds=30):
        """Wait until all probes are in place: the text has changed, nobody traces the target any
        more, and it stays so for a while. False if the command ended instead."""
        end = time.monotonic() + seconds
        last, since = None, 0.0
        while time.monotonic() < end:
            if self.process.poll() is not None:
                return False
            now = text(self.pid)
            if now and now != self._before and not is_traced(self.pid):
                if last is None or now != last:
                    last, since = now, time.monotonic()
                elif time.monotonic() - since > 0.2:
                    return True
            else:
                last = None
            time.sleep(0.03)
        return False

    def running(self):
        return self.process.poll() is None

    def end(self, number=signal.SIGINT, seconds=60):
        """End the count; its outcome."""
        if number is not None and self.process.poll() is None:
            self.process.send_signal(number)
        return _collect(self.process, seconds)


def goes_on(victim):
    """Something is computed, and nothing was wrong."""
    wrong, before = victim.progress()
    if wrong is None:
        return 'no answer, state %s, status %s' % (state(victim.pid), victim.process.poll())
    now = []
    until(lambda: now.extend([victim.progress()]) or now[-1][0] is None or now[-1][1] > before)
    if now[-1][0] is None:
        return 'no answer, state %s, status %s' % (state(victim.pid), victim.process.poll())
    if now[-1][0]:
        return '%d wrong results' % now[-1][0]
    return '' if now[-1][1] > before else 'stands still'


def counted(victim, specs, work, options=()):
    """Attach, do `work()`, detach. Returns (outcome, what work returned); work is not done when
    the command does not attach."""
    if isinstance(specs, str):
        specs = [specs]
    count = Count(victim.pid, *specs, options=options)
    result = None
    if count.attached():
        result = work()
    return count.end(), result


# --- the system -----------------------------------------------------------------------------

def have(tool):
    return shutil.which(tool) is not None


def is_root():
    return os.geteuid() == 0


def scratch():
    """A directory that goes away at the end."""
    path = tempfile.mkdtemp(prefix='suture-test-')
    at_end(shutil.rmtree, path, True)
    return path


def tracefs():
    """Where tracefs is mounted, mounting it for the time of the test if need be; None without
    the permission."""
    with open('/proc/self/mounts') as file:
        for line in file:
            words = line.split()
            if words[2] == 'tracefs' and os.access(words[1] + '/uprobe_events', os.W_OK):
                return words[1]
    if not is_root():
        return None
    path = '/sys/kernel/tracing'  # where bpftrace, too, looks for it
    if not os.path.isdir(path):
        path = scratch()
    if subprocess.run(['mount', '-t', 'tracefs', 'tracefs', path], stderr=subprocess.DEVNULL,
                      check=False).returncode:
        return None
    at_end(subprocess.run, ['umount', path])
    return path if os.access(path + '/uprobe_events', os.W_OK) else None


class KernelUprobe:
    """A uprobe of somebody else, through tracefs."""

    group = 'suture_test_%d' % os.getpid()

    def __init__(self, root, name, path, offset):
        self.root, self.name = root, name
        self._write('uprobe_events', 'p:%s/%s %s:%#x' % (self.group, name, path, offset))
        at_end(self.remove)
        self._defined = True

    def _write(self, file, line):
        # Not open(): that seeks, which tracefs declines. Without O_APPEND all events would go.
        fd = os.open(os.path.join(self.root, file), os.O_WRONLY | os.O_APPEND)
        try:
            os.write(fd, line.encode() + b'\n')
        finally:
            os.close(fd)

    def enable(self):
        self._write('events/%s/%s/enable' % (self.group, self.name), '1')

    def remove(self):
        if self._defined:
            self._defined = False
            self._write('events/%s/%s/enable' % (self.group, self.name), '0')
            self._write('uprobe_events', '-:%s/%s' % (self.group, self.name))


def file_offset(path, vaddr):
    """File offset of an ELF address."""
    listing = subprocess.run(['readelf', '-lW', path], capture_output=True, text=True,
                             check=False).stdout
    for line in listing.split('\n'):
        words = line.split()
        if words[:1] == ['LOAD']:
            offset, start, size = int(words[1], 16), int(words[2], 16), int(words[4], 16)
            if start <= vaddr < start + size:
                return vaddr - start + offset
    raise LookupError('%#x is in no segment of %s' % (vaddr, path))


def matching(names, pattern):
    return sorted(name for name in names if fnmatch.fnmatchcase(name, pattern))
