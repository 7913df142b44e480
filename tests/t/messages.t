#!/usr/bin/python3 -B
# SPDX-License-Identifier: MIT
"""Every message and every exit status that suture(1) lists under DIAGNOSTICS is produced here, by a
real process in a real state.

The list is that of the manual page: a message without a case fails, a case without a message fails,
and so does a case that ends with another text or status. What the page has in capitals may be
anything. Nothing may have been changed by what was refused.
"""
import ctypes
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'lib'))
import suture_test as t

t.limit(150)
ROOT = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), '../..'))
NOBODY = 65534
SHIM = os.path.join(t.BUILD, 'tests/stopat.so')
CAPITALS = ('FILE REASON PID NAME OPTION TEXT COMMAND SPEC MODULE ADDRESS N LIST HOW WHY '
            'DURATION X').split()
place = t.scratch()
os.chmod(place, 0o755)
tool = os.path.join(place, 'suture')
shutil.copy(t.SUTURE, tool)


def documented():
    """[(status or None, message)] of the manual page."""
    found, status, inside = [], None, False
    with open(os.path.join(ROOT, 'man/suture.1'), encoding='utf-8') as page:
        for line in page:
            if line.startswith('.Sh '):
                inside = line.strip() == '.Sh DIAGNOSTICS'
            elif inside and line.startswith('.Ss '):
                words = line.split()
                status = int(words[3]) if words[1:3] == ['Exit', 'status'] else None
            elif inside and line.startswith('.It '):
                found.append((status, line[4:].strip()))
    return found


def pattern(message):
    parts = re.split(r'\b(%s)\b' % '|'.join(CAPITALS), message.replace('0xADDRESS', 'ADDRESS'))
    return ''.join('.+' if i % 2 else re.escape(part) for i, part in enumerate(parts))


def says(outcome, status, message):
    """Is it among what the command said? Refusals of a glob's are in the report."""
    lines = [line[8:] for line in outcome.err.splitlines() if line.startswith('suture: ')]
    lines += [line[8:] for line in outcome.out.splitlines() if line.startswith('refused ')]
    before = r'(?:.+: )' if status == 4 and 'changed while' not in message else ''
    return any(re.fullmatch(before + pattern(message), line) for line in lines)


# --- what cases are made of -------------------------------------------------------------------

CASES = {}


def case(message):
    def register(function):
        CASES[message] = function
        return function
    return register


def plain(message, *arguments, **how):
    CASES[message] = lambda: t.suture(*[a() if callable(a) else a for a in arguments], **how)


def count(pid, *more, **how):
    return t.suture('count', '-p', pid, '--for', '20ms', *more, **how)


def as_nobody(*arguments):
    return t.command([tool] + [str(a) for a in arguments], uid=NOBODY)


def limited(which, soft, *arguments):
    """The command under a resource limit of its own."""
    def lower():
        resource.setrlimit(which, (soft, resource.getrlimit(which)[1]))
    child = subprocess.Popen([t.SUTURE] + [str(a) for a in arguments], stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                             preexec_fn=lower)
    return t._collect(child, 30)


def stopped_at(where, number, arguments, meanwhile):
    """Do something at the moment of a call; the outcome."""
    child = t.spawn([t.SUTURE] + [str(a) for a in arguments], stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                    env=dict(os.environ, LD_PRELOAD=SHIM, SUTURE_STOP_AT=where,
                             SUTURE_STOP_COUNT=str(number)))
    t.until(lambda: t.state(child.pid) == 'T' or child.poll() is not None)
    meanwhile(child)
    child.send_signal(signal.SIGCONT)
    return t._collect(child, 30)


def compiled(name, source, *flags):
    path = os.path.join(place, name)
    subprocess.run(['gcc', '-O1', '-o', path, '-x', 'c', '-', '-Wl,--build-id', *flags], check=True,
                   input=source.encode())
    return path


def python(code, **how):
    victim = t.Victim('/usr/bin/python3', '-c', code, **how)
    return victim


victims = {}


def sums():
    """One that is at rest all the time."""
    if 'sums' not in victims:
        victims['sums'] = t.Victim('sums', 2)
        victims['before'] = t.Snapshot(victims['sums'].pid, strict=True)
    return victims['sums'].pid


FORMS = r'''
#include <signal.h>
#include <stdio.h>
#include <unistd.h>
static int chosen(void) { return 1; }
static int (*choose(void))(void) { return chosen; }
int indirect(void) __attribute__((ifunc("choose")));
void park(void *place);
static void ignore(int number) { (void)number; }
int main(int argc, char **argv)
{
	(void)argv;
	puts("ready"); fflush(stdout);
	if (argc > 1) { /* faults for ever at an instruction of park */
		signal(SIGSEGV, ignore);
		park((void *)16);
	}
	for (;;) pause();
}
__asm__(".text\n.p2align 4\n"
        ".type none,@function\nnone: .byte 6,6,6,6,6,6,6,6\n.size none,.-none\n.p2align 4\n"
        ".type calls,@function\ncalls: syscall\n nop\n nop\n nop\n nop\n ret\n.size calls,.-calls\n.p2align 4\n"
        ".type flags,@function\nflags: pushf\n popf\n nop\n nop\n nop\n ret\n.size flags,.-flags\n.p2align 7\n"
        ".type critical,@function\ncritical: mov $1,%eax\n nop\n nop\n nop\n ret\n"
        ".long 0x53053053\ncritical_abort: ret\n.size critical,.-critical\n"
        ".pushsection __rseq_cs,\"aw\"\n.balign 32\n.long 0,0\n.quad critical,9,critical_abort\n.popsection\n"
        ".p2align 7\n.globl park\n.type park,@function\npark: .cfi_startproc\n xor %eax,%eax\n nop\n"
        " mov (%rdi),%eax\n nop\n nop\n nop\n nop\n ret\n.cfi_endproc\n.size park,.-park\n");
'''


def forms():
    if 'forms' not in victims:
        victims['forms'] = t.Victim(compiled('forms', FORMS))
    return victims['forms'].pid


def cleanup():
    for name in ('sums', 'forms'):
        if name in victims:
            victims[name].stop()


def elf_mapped(path, offset):
    """A process that has mapped a file executable at that offset."""
    return python('import mmap,time\nf=open(%r,"rb")\nm=mmap.mmap(f.fileno(),4096,'
                  'mmap.MAP_PRIVATE,mmap.PROT_READ|mmap.PROT_EXEC,offset=%d)\n'
                  'print("ready",flush=True)\ntime.sleep(1000)' % (path, offset))


def write_memory(pid, address, data):
    with open('/proc/%d/mem' % pid, 'r+b', buffering=0) as memory:
        memory.seek(address)
        memory.write(data)


def site_address(pid, spec):
    return int(t.suture('count', '-p', pid, '--dry-run', '--json', spec).json['probes'][0]['at'], 16)


def with_patched(data):
    """A count of sums:sum_idle where somebody has written `data`."""
    victim = t.Victim('sums', 1)
    write_memory(victim.pid, site_address(victim.pid, 'sums:sum_idle'), data)
    outcome = count(victim.pid, 'sums:sum_idle')
    victim.stop()
    return outcome


def unwilling(name, *arguments, env=None, then=None, **how):
    victim = t.Victim(name, *arguments, **how)
    then(victim) if then else None
    outcome = count(victim.pid, *(env or ()))
    victim.stop()
    return outcome


# --- exit status 1 ----------------------------------------------------------------------------

plain('cannot open the log FILE: REASON; nothing was done', 'count', '-p', sums, '--log',
      '/no/such/folder/log', 'sums:sum_any')
plain('cannot write to the log FILE: REASON', 'count', '-p', sums, '--log', '/dev/full',
      'sums:sum_any')


@case('cannot write to standard output: REASON')
def _():
    child = t.spawn([t.SUTURE, 'count', '-p', str(sums()), '--for', '20ms', 'sums:sum_any'],
                    stdin=subprocess.DEVNULL, stdout=open('/dev/full', 'wb'), stderr=subprocess.PIPE,
                    text=True)
    _, err = child.communicate(timeout=30)
    return t.Outcome(child.returncode, '', err)


CASES['cannot hold signals back: REASON'] = lambda: stopped_at(
    'start', 1, ['count', '-p', sums(), 'sums:sum_any'],
    lambda child: resource.prlimit(child.pid, resource.RLIMIT_NOFILE, (3, 3)))
CASES['process PID can not be opened: REASON'] = \
    lambda: limited(resource.RLIMIT_NOFILE, 5, 'count', '-p', sums(), 'sums:sum_any')
CASES['interrupted before anything was counted'] = lambda: stopped_at(
    '/proc/*/maps', 1, ['count', '-p', sums(), 'sums:sum_any'],
    lambda child: child.send_signal(signal.SIGINT))


def short_of(which, amount):
    victim = t.Victim('sums', 1)
    used = 0
    if which == resource.RLIMIT_AS:
        used = sum(mapping.end - mapping.start for mapping in t.maps(victim.pid))
    resource.prlimit(victim.pid, which, (used + amount, used + amount))
    outcome = count(victim.pid, 'sums:sum_any')
    victim.stop()
    return outcome


CASES['process PID could not make shared memory: REASON'] = \
    lambda: short_of(resource.RLIMIT_NOFILE, 0)
CASES['process PID could not map shared memory: REASON'] = lambda: short_of(resource.RLIMIT_AS, 0)


@case('process PID could not map trampolines: REASON')
def _():
    for pages in range(1, 200):
        outcome = short_of(resource.RLIMIT_AS, pages * 4096)
        if 'map shared memory' not in outcome.err:
            break
    return outcome



def damaged(command):
    victim = t.Victim('sums', 1)
    first = t.Count(victim.pid, 'sums:sum_any')
    first.attached()
    first.process.kill()
    first.process.wait()
    data = [m for m in t.maps(victim.pid) if 'suture' in m.path and 'w' in m.perms][0]
    write_memory(victim.pid, data.start, bytes(64))
    outcome = t.suture(*command(victim.pid))
    victim.stop()
    return outcome


CASES['process PID holds memory of a suture whose journal is damaged; nothing was changed'] = \
    lambda: damaged(lambda pid: ('revert', '-p', pid))
CASES['process PID holds memory of a suture whose journal is damaged'] = \
    lambda: damaged(lambda pid: ('status', '-p', pid))

# --- exit status 2 ----------------------------------------------------------------------------

plain('no command given; see suture --help')
plain("there is no command 'NAME'; see suture --help", 'cuont')
plain("help: there is no command 'NAME'", 'help', 'cuont')
plain('help: one command at a time', 'help', 'count', 'status')
plain("unknown option 'OPTION'; see suture --help", 'count', '-z')
plain("unknown or ambiguous option 'OPTION'; see suture --help", 'count', '--frobnicate')
plain("option 'OPTION' needs a value", 'count', '-p')
plain("option 'OPTION' takes no value", 'count', '--json=1')
plain('option OPTION may be given once', 'count', '-p', '1', '-p', '1', 'main')
plain("'TEXT' is not a process id", 'count', '-p', 'x', 'main')
plain('COMMAND: no process given; use -p PID', 'revert')
plain("COMMAND: unexpected argument 'TEXT'", 'revert', '-p', '1', 'main')
plain('count: nothing to count; name a function, for instance [MODULE:]NAME', 'count', '-p', '1')
plain('count: a specification is empty', 'count', '-p', '1', '')
plain("OPTION: 'TEXT' is not a duration; write 500ms, 10s, 2m or 1h", 'count', '--for', 'ever')
plain("OPTION: 'TEXT' is too short", 'count', '--max-pause', '0ns')
plain('OPTION: the name of the file is empty', 'count', '--log', '')
plain("--pages: 'TEXT' is not a number of pages", 'count', '--pages', 'many')
plain("--kinds: 'TEXT' is not a list of pun, window and uprobe", 'count', '--kinds', 'magic')
plain('--specs-from: cannot read FILE: REASON', 'count', '-p', '1', '--specs-from', '/no/file')


def specs(data):
    path = os.path.join(place, 'specs')
    with open(path, 'wb') as file:
        file.write(data)
    return count(sums(), '--specs-from', path)


CASES['--specs-from: FILE is no text: it holds a zero byte'] = lambda: specs(b'sums:sum_any\n\0')
CASES['--specs-from: there is no specification in FILE'] = lambda: specs(b'# nothing\n\n  \t\r\n')
plain("'SPEC' is no specification: [MODULE:]NAME[+0xOFFSET] or MODULE:0xADDRESS", 'count', '-p', sums,
      'sums:')
plain("'SPEC' is no address in a module: write MODULE:0xADDRESS in hexadecimal", 'count', '-p', sums,
      '0x1234')
plain("'SPEC' has no offset after '+': write it as +0x10", 'count', '-p', sums, 'sums:sum_any+4')
plain("process PID maps no file named 'MODULE'", 'count', '-p', sums, 'nothing.so:f')
plain('0xADDRESS is not in executable code of MODULE', 'count', '-p', sums, 'sums:0x10')
plain("no function matches 'SPEC'", 'count', '-p', sums, 'sums:none')
plain("no function matches 'SPEC' in any file that the process maps", 'count', '-p', sums, 'none_at_all')


@case('FILE: not a readable ELF file')
def _():
    path = os.path.join(place, 'no-elf')
    with open(path, 'wb') as file:
        file.write(b'\x90' * 8192)
    victim = elf_mapped(path, 0)
    outcome = count(victim.pid, 'no-elf:f')
    victim.stop()
    return outcome


@case('FILE: what is mapped executable is no code of it')
def _():
    path = os.path.join(place, 'strange')
    shutil.copy(os.path.join(t.BUILD, 'tests/victims/sums'), path)
    victim = elf_mapped(path, 0)
    outcome = count(victim.pid, 'strange:sum_any')
    victim.stop()
    return outcome


LIBRARY = ('int hidden_one(int x); __attribute__((noinline)) int shown(int x) { return x * 3 + 1; }\n'
           'static __attribute__((noinline, used)) int hidden(int x) { return x * 5 + 1; }')
USER = ('#include <unistd.h>\n#include <stdio.h>\nint shown(int);\n'
        'int main(void) { puts("ready"); fflush(stdout); for (;;) { shown(1); usleep(1000); } }')


def replaced(spec, uid, breakpoint_=False):
    """A library that is replaced by another after it was mapped."""
    folder = t.scratch()
    os.chmod(folder, 0o755)
    library = os.path.join(folder, 'replaced.so')
    subprocess.run(['gcc', '-O1', '-shared', '-fPIC', '-xc', '-', '-o', library],
                   input=LIBRARY.encode(), check=True)
    subprocess.run(['gcc', '-O1', '-xc', '-', '-o', folder + '/user', '-xnone', library],
                   input=USER.encode(), check=True)
    victim = t.Victim(folder + '/user', uid=uid)
    if breakpoint_:
        write_memory(victim.pid, site_address(victim.pid, 'replaced.so:shown'), b'\xcc')
        victim.process.send_signal(signal.SIGSTOP)
    subprocess.run(['gcc', '-O2', '-shared', '-fPIC', '-xc', '-', '-o', library + '.new'],
                   input=b'int other(void) { return 1; }', check=True)
    os.rename(library + '.new', library)
    outcome = as_nobody('count', '-p', victim.pid, '--for', '20ms', spec)
    victim.stop()
    return outcome


CASES["no function matches 'SPEC'; FILE was replaced on disk since process PID mapped it: HOW"] = \
    lambda: replaced('replaced.so:hidden', NOBODY)
CASES['note: FILE was replaced on disk since process PID mapped it: HOW'] = \
    lambda: replaced('replaced.so:shown', NOBODY)


plain("explain: unexpected argument 'TEXT'; one site at a time", 'explain', '-p', sums, 'a', 'b')
plain("'SPEC' stands for N functions; explain takes one, suture list shows them", 'explain', '-p', sums,
      'sums:sum_*')


@case("'SPEC' names N functions: LIST; name one of them")
def _():
    return unwilling('twins', env=['twins:twin'])


# --- exit status 3 ----------------------------------------------------------------------------


def gone():
    child = t.spawn(['/bin/true'])
    child.wait()
    return child.pid


@case('PID is a thread of process PID; name the process')
def _():
    return count([tid for tid in t.threads(sums()) if tid != sums()][0], 'main')


@case('process PID is this program itself; it can not stop itself')
def _():
    return t.command(['/bin/sh', '-c', 'exec "%s" count -p $$ main' % t.SUTURE])


@case('process PID has ended and waits for its parent (zombie)')
def _():
    child = t.spawn(['/bin/true'])
    t.until(lambda: t.state(child.pid) == 'Z')
    return count(child.pid, 'main')


def kill(victim):
    victim.process.kill()
    victim.process.wait()


@case('process PID has ended')
def _():
    victim = t.Victim('sums', 1)
    return stopped_at('ftruncate', 1, ['count', '-p', victim.pid, 'sums:sum_any'],
                      lambda child: kill(victim))


@case('can not read the mappings of process PID: REASON')
def _():
    victim = t.Victim('sums', 1)
    return stopped_at('/proc/*/maps', 1, ['count', '-p', victim.pid, 'sums:sum_any'],
                      lambda child: kill(victim))


@case('process PID does not run 64-bit x86 code; only that is supported')
def _():
    victim = t.Victim('tiny32', ready=None)
    t.until(lambda: t.state(victim.pid) == 'S')
    outcome = count(victim.pid, 'main')
    victim.stop()
    return outcome


def traced_by_strace(victim):
    tracer = t.spawn(['strace', '-qq', '-f', '-p', str(victim.pid)], stdin=subprocess.DEVNULL,
                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    t.until(lambda: t.is_traced(victim.pid))
    return tracer


@case('process PID is already traced by NAME (pid PID); end that first, a process has one tracer')
def _():
    victim = t.Victim('sums', 1)
    tracer = traced_by_strace(victim)
    outcome = count(victim.pid, 'main')
    t.reap(tracer)
    victim.stop()
    return outcome


@case('not permitted to trace thread N of process PID')
def _():
    return t.command(['strace', '-f', '-o', '/dev/null', '-e', 'inject=ptrace:error=EPERM', t.SUTURE,
                      'count', '-p', str(sums()), 'sums:sum_any'])


plain('no process PID', 'count', '-p', gone, 'main')
plain('process PID is a kernel thread; it has no user code', 'count', '-p', '2', 'main')
CASES['no permission to change process PID (REASON); run as its user with ptrace allowed, or as '
      'root'] = lambda: as_nobody('count', '-p', sums(), 'main')


@case('process PID is confined by seccomp, which could kill it for a system call of ours; run as '
      'root (CAP_SYS_ADMIN) so that the filter can be suspended')
def _():
    path = os.path.join(place, 'confined')
    compiled('confined', '#include <sys/prctl.h>\n#include <unistd.h>\nint main(void) { char c;\n'
             'prctl(PR_SET_SECCOMP, 1); (void)!write(1, "ready\\n", 6); (void)!read(0, &c, 1); }')
    os.chmod(path, 0o755)
    victim = t.Victim(path, uid=NOBODY)
    outcome = as_nobody('count', '-p', victim.pid, 'main')
    victim.stop()
    return outcome


@case('process PID runs with a shadow stack, on which displaced calls would fault; start it with '
      'GLIBC_TUNABLES=glibc.cpu.x86_shstk=off')
def _():
    with open('/proc/cpuinfo') as file:
        if 'user_shstk' not in file.read():
            return None
    path = compiled('shadowed', '#include <stdio.h>\n#include <unistd.h>\n#include <sys/syscall.h>\n'
                    '__attribute__((noreturn)) int main(void) { syscall(SYS_arch_prctl, 0x5001, 1);\n'
                    'write(1, "ready\\n", 6); for (;;) syscall(SYS_pause); }')
    return unwilling(path, env=['main'])


@case('process PID holds no code that makes a system call and returns; nothing can be mapped into it')
def _():
    path = os.path.join(place, 'bare')
    subprocess.run(['gcc', '-nostdlib', '-static', '-x', 'assembler', '-', '-o', path], check=True,
                   input=b'.globl _start\n.type _start,@function\n_start: mov $34,%eax\n syscall\n'
                   b' nop\n jmp _start\n.size _start,.-_start\n.type idle,@function\n'
                   b'idle: xor %eax,%eax\n mov $0x1f3d5219,%ecx\n ret\n.size idle,.-idle\n')
    victim = t.Victim(path, ready=None)
    t.until(lambda: t.state(victim.pid) == 'S' and len(t.maps(victim.pid)) < 10)
    outcome = count(victim.pid, '--kinds', 'pun,window', 'bare:idle')
    victim.stop()
    return outcome


@case('another suture works on process PID')
def _():
    victim = t.Victim('sums', 1)
    first = t.Count(victim.pid, 'sums:sum_any')
    first.attached()
    outcome = t.suture('revert', '-p', victim.pid)
    first.end()
    victim.stop()
    return outcome


# --- exit status 4 ----------------------------------------------------------------------------

plain("NAME is an indirect function (IFUNC): its address is the resolver's; name the implementation "
      'that it chooses', 'count', '-p', forms, 'forms:indirect')
CASES['a breakpoint of another tool is at 0xADDRESS (a kernel uprobe, as bpftrace, perf and tracefs '
      'place them); remove it first'] = lambda: with_patched(b'\xcc')
CASES['the code at 0xADDRESS is not that of the file MODULE: another tool has patched it (an '
      'optimised uprobe, a hook)'] = lambda: with_patched(b'\xe9\0\0\0\0')
CASES['a breakpoint of another tool is at 0xADDRESS, and the file that was there before is out of '
      'reach; remove it first'] = lambda: replaced('replaced.so:shown', NOBODY, True)


@case('the code at 0xADDRESS changed while it was looked at (another tool?); nothing was written')
def _():
    victim = t.Victim('sums', 1)
    address = site_address(victim.pid, 'sums:sum_idle')
    outcome = stopped_at('ftruncate', 1, ['count', '-p', victim.pid, 'sums:sum_idle'],
                         lambda child: write_memory(victim.pid, address, b'\xcc'))
    victim.stop()
    return outcome


@case('0xADDRESS of MODULE is not mapped')
def _():
    victim = python('import ctypes,time\nz=ctypes.CDLL("libz.so.1")\nlibc=ctypes.CDLL(None)\n'
                    'ms=[l.split() for l in open("/proc/self/maps") if "libz.so" in l and "x" in '
                    'l.split()[1]]\na,e=[int(x,16) for x in ms[0][0].split("-")]\n'
                    'libc.munmap(ctypes.c_void_p(a+4096),ctypes.c_size_t(e-a-4096))\n'
                    'print("ready",flush=True)\ntime.sleep(1000)')
    module = [m.path for m in t.maps(victim.pid) if 'libz.so' in m.path][0]
    outcome = count(victim.pid, os.path.basename(module) + ':inflate')
    victim.stop()
    return outcome


plain('0xADDRESS is inside the instruction at 0xADDRESS; a probe needs the first byte of one', 'count',
      '-p', sums, 'sums:sum_pun+0x2')
plain('the bytes at 0xADDRESS are no instruction', 'count', '-p', forms, 'forms:none')
plain('0xADDRESS is in a restartable sequence (rseq), which a probe would always restart', 'count', '-p',
      forms, 'forms:critical')
JUMP = 'no jump fits there (%s), and %s'
plain(JUMP % ('the next probe is fewer than 5 bytes away', 'WHY'), 'count', '-p', sums, '--kinds', 'pun',
      'sums:sum_any', 'sums:sum_any+0x2')
plain(JUMP % ('the instruction must run where it stands', 'WHY'), 'count', '-p', forms, '--kinds',
      'pun,window', 'forms:calls')
plain(JUMP % ('the pages allowed for trampolines are used up; see --pages', 'WHY'), 'count', '-p', sums,
      '--kinds', 'pun,window', '--pages', '1', '--dry-run', 'sums:sum_*')
plain(JUMP % ('no trampoline address is free that its bytes can name, or code can arrive inside it',
              'WHY'), 'count', '-p', forms, '--kinds', 'window', 'forms:flags')
plain(JUMP % ('WHY', 'kernel uprobes are switched off'), 'count', '-p', forms, '--kinds', 'pun,window',
      'forms:calls')
plain(JUMP % ('WHY', 'a kernel uprobe, which single-steps it, would change what it does; probe the next '
              'instruction'), 'count', '-p', forms, '--kinds', 'uprobe', 'forms:flags')


@case(JUMP % ('WHY', 'kernel uprobes are slow to remove, so a glob takes few; name the function itself'))
def _():
    return unwilling('many', '1', env=['--dry-run', '--kinds', 'uprobe', 'many:f_*'])


@case(JUMP % ('WHY', 'this kernel has no uprobes'))
def _():
    return t.command(['unshare', '-m', '/bin/sh', '-c', 'mount -t tmpfs none '
                      '/sys/bus/event_source/devices && exec "$@"', 'sh', t.SUTURE, 'count', '-p',
                      str(sums()), '--kinds', 'uprobe', 'sums:sum_any'])


@case('no jump fits there, and the kernel refuses a uprobe: REASON')
def _():
    victim = t.Victim('/bin/sleep', '1000', ready=None, uid=NOBODY)
    t.until(lambda: len(t.maps(victim.pid)) > 10 and t.state(victim.pid) == 'S')
    outcome = as_nobody('count', '-p', victim.pid, '--kinds', 'uprobe', 'libc.so.6:malloc')
    victim.stop()
    return outcome


@case('no jump fits there, and threads come and go too fast to place a kernel uprobe in each')
def _():
    for _ in range(20):
        outcome = unwilling('crowd', 'clones', env=['--kinds', 'uprobe', 'crowd:crowd_idle'])
        if outcome.status != t.DONE:
            break
    return outcome


# --- exit status 5 ----------------------------------------------------------------------------


@case('process PID runs in the memory of process PID and would not be stopped with it (vfork, or '
      'clone without CLONE_THREAD)')
def _():
    return unwilling('crowd', 'vfork', env=['crowd:crowd_sum'])


def waits(threads, *options):
    """A thread that waits for the end of a child, as in vfork, that has memory of its own."""
    path = compiled('waits%d' % threads, '#define _GNU_SOURCE\n#include <sched.h>\n'
                    '#include <signal.h>\n#include <pthread.h>\n#include <sys/prctl.h>\n'
                    '#include <sys/syscall.h>\n#include <unistd.h>\n'
                    'int idle(int x) { return x * 3 + 1; }\n'
                    'void *wait_too(void *x) { for (;;) pause(); return x; }\n'
                    'int main(void) { pthread_t thread;\n'
                    'for (int i = 1; i < %d; i++) pthread_create(&thread, 0, wait_too, 0);\n'
                    '(void)!write(1, "ready\\n", 6);\n'
                    'if (!syscall(SYS_clone, CLONE_VFORK | SIGCHLD, 0, 0, 0, 0)) {\n'
                    'prctl(PR_SET_PDEATHSIG, SIGKILL); for (;;) pause(); } return idle(1); }'
                    % threads)
    return unwilling(path, env=['--kinds', 'pun,window', 'idle', *options],
                     then=lambda victim: t.until(lambda: t.state(victim.pid) == 'D'))


CASES['no thread of process PID could be borrowed to map memory (it is in state X)'] = \
    lambda: waits(1)
CASES['N of N threads of process PID did not stop in time: thread N, in state X'] = \
    lambda: waits(2)
CASES['process PID can not be stopped for no longer than DURATION: thread N, in state X, did not '
      'come to rest; it runs on as it was'] = lambda: waits(2, '--max-pause', '20ms')


CASES['process PID can not be stopped for no longer than DURATION: N of its N threads were at rest '
      'after DURATION; it runs on as it was; --max-pause DURATION should do'] = \
    lambda: count(sums(), '--max-pause', '1us', 'sums:sum_any')


@case('a thread of process PID stays inside the code to be changed; nothing was changed')
def _():
    path = compiled('forms', FORMS)
    return unwilling(path, 'parked', env=['--kinds', 'window', 'forms:park'])


@case('a thread of process PID stays inside a trampoline (WHY)')
def _():
    victim, child = inside
    outcome = t._collect(child, 60)
    victim.stop()
    return outcome


# --- remarks ----------------------------------------------------------------------------------

CASES['ending as soon as process PID is in order'] = lambda: stopped_at(
    '/proc/*/maps', 3, ['count', '-p', sums(), 'sums:sum_any'],
    lambda child: child.send_signal(signal.SIGINT))


def begin_inside():
    """A thread that faults for ever at an instruction that is displaced; it can not leave."""
    path = compiled('inside', FORMS.replace(' xor %eax,%eax\\n nop\\n"', ' nop\\n"')
                    .replace('park: .cfi_startproc\\n nop\\n"\n        " mov (%rdi),%eax',
                             'park: .cfi_startproc\\n"\n        " mov (%rdi),%eax'))
    victim = t.Victim(path, 'parked')
    count_ = t.Count(victim.pid, 'inside:park')
    count_.attached()
    count_.process.kill()
    count_.process.wait()
    return victim, t.spawn([t.SUTURE, 'revert', '-p', str(victim.pid)], stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def begin_keeping():
    """A count that is to end, and can not restore its target: strace holds it. The slow ones."""
    victim = t.Victim('sums', 1)
    keeping = t.Count(victim.pid, 'sums:sum_any')
    keeping.attached()
    tracer = traced_by_strace(victim)
    keeping.process.send_signal(signal.SIGINT)
    first = keeping.process.stderr.readline()
    keeping.process.send_signal(signal.SIGINT)
    return victim, keeping, tracer, first


def end_keeping(state):
    victim, keeping, tracer, first = state
    outcome = keeping.end(number=None)
    outcome.err = first + outcome.err
    t.reap(tracer)
    t.same(t.suture('revert', '-p', victim.pid).status, t.DONE, 'and revert restores what was kept')
    victim.stop()
    # Its status is that of the reason, a tracer.
    t.same(outcome.status, t.PROCESS, 'kept because of a tracer: the status of that')
    return outcome


KEPT = ['process PID keeps its probes, which is harmless (REASON); to remove them: suture revert -p PID',
        'restoring process PID; this cannot be cut short',
        'cannot restore process PID yet, trying on: REASON']


# --- what the sources say ---------------------------------------------------------------------

# Failures of the system or of ourselves, and what only a program that uses the library can meet.
INTERNAL = {'out of memory', 'out of memory for the report', 'cannot make the report',
            'already attached', 'nothing to count', 'probes can not be added while attached',
            'every site was refused', 'can not plan: %s', 'trampolines can not be built: %s',
            'process %d is gone', 'the code at 0x%lx is no longer mapped; nothing was changed',
            'thread %d of process %d did not finish its calls in time',
            'shared memory of process %d can not be opened: %s',
            'process %d is already traced by %s (pid %d)', 'cannot look: %s',
            'process %d was opened to look at it only'}
# The same with other words in them.
VARIANTS = {'option -p may be given once', "unknown option '-%c'; see suture --help",
            'note: %s (and %zu more files)'}
CALL = re.compile(r'\b(?:complain|target_fail|thread_fail|site_refuse|port_error|'
                  r'snprintf)\s*\((?:text, size, *|reason, sizeof\(reason\), *|[^"()]*?)'
                  r'((?:\s*(?:"(?:[^"\\]|\\.)*"|PRI[xdu]64))+)')


def formats():
    """The formats of all complaints in the sources of the command and of what it calls."""
    for folder in ('src/cli', 'src/api', 'src/port/ptrace'):
        for name in sorted(os.listdir(os.path.join(ROOT, folder))):
            # Not tables and explanations, which are no complaints.
            if not name.endswith('.c') or name in ('table.c', 'uprobe.c', 'text.c', 'json.c') or \
                    folder == 'src/api' and name.startswith(('explain', 'look', 'doctor')):
                continue
            with open(os.path.join(ROOT, folder, name), encoding='utf-8') as file:
                for match in CALL.finditer(file.read()):
                    parts = re.findall(r'"((?:[^"\\]|\\.)*)"|(PRI[xdu]64)', match.group(1))
                    text = ''.join(literal if not macro else 'x' for literal, macro in parts)
                    if text.count(' ') > 1 and '\\' not in text:
                        yield '%s/%s' % (folder, name), text


def undocumented(messages):
    for name, text in formats():
        form = '.*'.join(re.escape(part) for part in
                         re.split(r'%[-0-9.*#]*(?:zu|lu|lx|[dsucxg])', text))
        if text not in INTERNAL and text not in VARIANTS and not any(
                re.fullmatch(form, message) or re.fullmatch(form, message.split(': ', 1)[-1])
                for message in messages):
            yield '%s: %s' % (name, text)


def check(status, message, outcome):
    if outcome is None:
        t.skip('no processor with shadow stacks here')
        return
    allowed = {status} if status is not None else {t.DONE, t.INTERNAL, t.PROCESS, t.TIMEOUT}
    if message == KEPT[0]:
        allowed = {t.PROCESS, t.TIMEOUT}
    if status == t.REFUSED and 'refused ' in outcome.out:
        allowed.add(t.DONE)  # of a glob's, some
    if not t.ok(says(outcome, status, message), 'says: ' + message[:90]) or \
            not t.ok(outcome.status in allowed, 'exit %s: %s' % (status, message[:60])):
        outcome.explain()


if not t.is_root():
    t.skip('needs root to be somebody else')
    t.done()
entries = documented()
t.ok(len(entries) > 60, 'the manual page lists messages: %d' % len(entries))
t.same(sorted({status for status, _ in entries if status is not None}), [1, 2, 3, 4, 5],
       'of every exit status but 0')
kept = begin_keeping()
inside = begin_inside()
for status_, message_ in entries:
    if message_ in KEPT:
        continue
    if message_ not in CASES:
        t.ok(False, 'there is a case for: ' + message_)
        continue
    check(status_, message_, CASES.pop(message_)())
t.same(sorted(CASES), [], 'every case is in the manual page')
t.ok(len(list(formats())) > 60, 'complaints are found in the sources: %d' % len(list(formats())))
t.same(list(undocumented([message for _, message in entries])), [], 'and all are in the manual page')
outcome_ = end_keeping(kept)
for status_, message_ in entries:
    if message_ in KEPT:
        check(status_, message_, outcome_)
t.same(t.suture('status', '-p', sums()).status, t.DONE, 'exit 0')
t.unchanged(victims['before'], 'and a target of many refusals is as it was', strict=True)
t.same(victims['sums'].run(10), 0, 'and works')
cleanup()
t.done()
