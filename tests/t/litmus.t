#!/usr/bin/python3 -B
# SPDX-License-Identifier: MIT
"""suture-check litmus: the public catalogue and tests of our own, verdict and states; files that
can not be read; text, JSON, kinds, exit status.

The public tests and what herd7 says of them are not part of the project: they are read from
../shared/litmus, where that exists. tests/litmus/expected.tsv has the same form; each verdict in it
is argued in its test.
"""
import json
import os
import re
import resource
import subprocess
import sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'lib'))
import suture_test as t

ROOT = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), '../..'))
CHECK = os.path.join(t.BUILD, 'suture-check')
CATALOGUE = os.path.join(ROOT, '../shared/litmus')
MEMORY_MAX = 256 << 20
DONE, FAILED, USAGE = 0, 1, 2
t.limit(120)


def litmus(*arguments, stdout=subprocess.PIPE):
    return subprocess.run([CHECK, 'litmus', *arguments], stdout=stdout, stderr=subprocess.PIPE,
                          stdin=subprocess.DEVNULL, timeout=100, check=False, encoding='utf-8',
                          errors='replace')


def write(name, text):
    path = os.path.join(t.scratch(), name)
    with open(path, 'w', encoding='utf-8') as file:
        file.write(text)
    return path


# --- the catalogue, and our own ------------------------------------------------------------------

def table_of(path):
    """Path -> test, kind, observation, condition, set of states."""
    table = {}
    with open(path, encoding='utf-8') as file:
        for line in file:
            if line.startswith('#'):
                continue
            path, test, kind, observation, condition, states = line.rstrip('\n').split('\t')
            table[path] = (test, kind, observation, condition.removeprefix('Condition '),
                           {' '.join(state.split()) for state in states.split('||')})
    return table


def state_text(state):
    """A state as herd prints it."""
    parts = []
    for key, value in state.items():
        if key.startswith('Fault'):
            parts.append(('' if value else '~') + key + ';')
        else:
            parts.append('%s=%s;' % (key, value))
    return ' '.join(parts)


def wrong_in(result, expected):
    test, kind, observation, condition, states = expected
    if result['test'] != test or result['observation'] != observation:
        return '%s: %s, expected %s' % (result['test'], result['observation'], observation)
    if kind != '-' and not (result['stated'] and result['kind'] == kind and result['ok']):
        return '%s: not %s' % (test, kind)
    if condition != result['condition']:
        return '%s: condition %s' % (test, result['condition'])
    got = {state_text(state) for state in result['states']}
    if got != states or len(result['states']) != len(states):
        return '%s: too many: %s; missing: %s' % (test, sorted(got - states), sorted(states - got))
    return None


def check_all(what, table, kinds, folder, count):
    files = sorted(table)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run = litmus('--json', '--kinds', kinds, *[os.path.join(folder, file) for file in files])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    outcome = json.loads(run.stdout)
    results = outcome['tests']
    if not t.ok(run.returncode == DONE and len(results) == len(files) == count,
                '%s: all %d run' % (what, count)):
        t.note(run.stderr)
    wrong = [wrong for result, file in zip(results, files) for wrong in [wrong_in(result, table[file])]
             if wrong]
    t.ok(not wrong, '%s: %d of %d agree, verdicts and states' % (what, count - len(wrong), count))
    t.note('\n'.join(wrong[:10]))
    summary = outcome['summary']
    seconds = sum(a - b for a, b in ((after.ru_utime, before.ru_utime), (after.ru_stime, before.ru_stime)))
    t.note('%s: %.1f ms for all, %.3f ms a test; the process %.0f ms, %.1f MiB' % (
        what, summary['ms'], summary['ms'] / count, seconds * 1e3, summary['memory'] / (1 << 20)))
    t.ok(0 < summary['memory'] < MEMORY_MAX and summary['memory'] <= after.ru_maxrss * 1024 + (1 << 20),
         '%s: in less than %d MiB' % (what, MEMORY_MAX >> 20))


def check_catalogue():
    if not os.path.isdir(CATALOGUE):
        t.skip('../shared/litmus is not there')
        return
    kinds = os.path.join(CATALOGUE, 'kinds.tsv')
    check_all('public catalogue', table_of(kinds), kinds, os.path.join(CATALOGUE, 'tests'), 201)


def check_own():
    folder = os.path.join(ROOT, 'tests/litmus')
    kinds = os.path.join(folder, 'expected.tsv')
    table = table_of(kinds)
    files = {name for name in os.listdir(folder) if name.endswith('.litmus')}
    t.same(files, set(table), 'every test of ours has its expected states')
    check_all('our own', table, kinds, folder, len(table))
    for name in sorted(files):
        with open(os.path.join(folder, name), encoding='utf-8') as file:
            if 'DDI 0487, ' not in file.read():
                t.ok(False, '%s names its section' % name)


# --- what is printed -----------------------------------------------------------------------------

MP = '''AArch64 %s
{ 0:X1=x; 0:X3=y; 1:X1=x; 1:X3=y; }
 P0          | P1          ;
 MOV W0,#1   | LDR W2,[X3] ;
 STR W0,[X1] | DMB SY      ;
 %s      | LDR W4,[X1] ;
 STR W0,[X3] |             ;
locations [x;]
%s
'''


def mp(name, barrier='DMB SY', condition='exists (1:X2=1 /\\ 1:X4=0)'):
    return write(name + '.litmus', MP % (name, barrier, condition))


def check_text():
    run = litmus(mp('MP'))
    t.same((run.returncode, run.stderr), (DONE, ''), 'a test without a stated kind: exit 0')
    t.same(run.stdout, '''Test MP Allowed
States 3
1:X2=0; 1:X4=0; [x]=1;
1:X2=0; 1:X4=1; [x]=1;
1:X2=1; 1:X4=1; [x]=1;
No
Witnesses
Positive: 0 Negative: 3
Condition exists (1:X2=1 /\\ 1:X4=0)
Observation MP Never 0 3

''', 'it is printed as herd does')
    run = litmus(mp('MP-sometimes', 'NOP   '))
    t.ok('Ok\nWitnesses\nPositive: 1 Negative: 3\n' in run.stdout and
         'Observation MP-sometimes Sometimes 1 3\n' in run.stdout, 'and one that is observed')
    run = litmus(write('values.litmus', '''AArch64 values
{ 0:X0=NOP; 0:X1=P0:L; 0:X2=x; x=-1; }
 P0 ;
 ADR X3,L ;
L: LDR W4,[X2] ;
 LDR W5,[X1] ;
forall (0:X0=NOP /\\ (0:X3=P0:L \\/ false) /\\ not (0:X4=7) /\\ 0:X5=instr:"LDR W4,[X2]" /\\ 0:X2=x)
'''))
    t.ok(run.returncode == DONE and
         '0:X0=instr:"NOP"; 0:X2=x; 0:X3=P0:L; 0:X4=-1; 0:X5=instr:"LDR W4,[X2]";\n' in run.stdout,
         'names, labels, instructions and negative numbers are values')
    t.note(run.stdout)
    t.ok('Condition forall (0:X0=instr:"NOP" /\\ (0:X3=P0:L \\/ false) /\\ not (0:X4=7) /\\ ' in
         run.stdout, 'conditions are printed with their parentheses')


def check_loops():
    run = litmus(write('endless.litmus', 'AArch64 endless\n{ 0:X1=x; }\n P0 ;\n LDR W0,[X1] ;\n'
                       ' CBNZ W0,L ;\nM: B M ;\nL: NOP ;\nforall (true)\n'))
    t.ok(run.returncode == DONE and 'States 0\n' in run.stdout and
         'go on for ever are left out' in run.stderr, 'an endless loop has no final state, which is said')
    run = litmus(write('counts.litmus', 'AArch64 counts\n{ 0:X1=9; }\n P0 ;\nL: SUB W1,W1,#1 ;\n'
                       ' ADD W2,W2,#2 ;\n CBNZ W1,L ;\nforall (0:X2=18)\n'))
    t.ok(run.returncode == DONE and not run.stderr, 'a loop that counts ends')
    run = litmus(write('many.litmus', 'AArch64 many\n{ 0:X1=x; }\n P0 ;\nL: LDR W0,[X1] ;\n'
                       ' ADD W2,W2,#1 ;\n CBZ W0,L ;\nforall (true)\n'))
    t.ok(run.returncode in (DONE, USAGE) and run.stderr.count('\n') == 1,
         'one that counts for ever is left out, or refused')
    t.note(run.stderr)


def check_kinds():
    kinds = write('kinds', '# those of this test\nMP Forbidden\n/some/path Other\tRequired more\n')
    run = litmus('--kinds', kinds, mp('MP'))
    t.ok(run.returncode == DONE and run.stdout.startswith('Test MP Forbidden\n') and
         '\nOk\n' in run.stdout, 'a kind that is stated, and right: exit 0')
    run = litmus('--kinds', kinds, mp('MP', 'NOP   '))
    t.ok(run.returncode == FAILED and '\nNo\n' in run.stdout, 'and wrong: exit 1')
    run = litmus('--kinds', kinds, '-q', mp('MP', 'NOP   '), mp('Third'))
    t.ok(run.returncode == FAILED and run.stdout.count('Test ') == 1, '--quiet prints that one only')
    run = litmus('--kinds', kinds, mp('Other'))
    t.same(run.returncode, FAILED, 'a name is the word before the kind')
    for condition, status in (('~exists (1:X2=1 /\\ 1:X4=0)', DONE), ('~exists (1:X2=1)', FAILED),
                              ('forall (1:X2=0 \\/ 1:X4<>0)', DONE), ('forall (1:X2=0)', FAILED)):
        run = litmus('-q', mp('stated', condition=condition))
        t.same(run.returncode, status, '%s states a kind: exit %d' % (condition, status))
    t.same(litmus('--kinds', '/nonexistent', mp('MP')).returncode, USAGE, 'no such file of kinds')


# --- files that can not be read ------------------------------------------------------------------

# Text after "AArch64 bad\n", line of the complaint, what it says.
MALFORMED = [
    ('', 2, "expected '{', found the end"),
    ('CacheType=XYZ\n{}', 2, 'expected CacheType=IDC or DIC'),
    ('{ 0:X1=x\n P0 ;\n NOP ;\n', 5, "expected '}'"),
    ('{}\n P0 ;\n FOO W0 ;\nexists (0:X0=1)', 4, "expected an instruction, found 'FOO'"),
    ('{}\n P0 ;\n B nowhere ;\n', 4, "expected a label of this thread, found 'nowhere'"),
    ('{}\n P0 ;\n MOV W0,X1 ;\n', 4, "expected a register of 32 bits, found 'X1'"),
    ('{}\n P0 ;\n MOV W0,#1 | NOP ;\n', 4, "expected ';': there are no more threads"),
    ('{}\n P0 ;\n MOV W0,#1 W2 ;\n', 4, "expected '|' or ';' behind an instruction, found 'W2'"),
    ('{}\n P1 ;\n NOP ;\n', 3, 'expected threads in their order'),
    ('{}\n P0 ;\nL: NOP ;\nL: NOP ;\n', 5, "expected each label once in a thread: 'L'"),
    ('{ 0:X1=P0:M; }\n P0 ;\n NOP ;\n', 2, "expected a label of that thread, found 'M'"),
    ('{ 3:X1=1; }\n P0 ;\n NOP ;\n', 2, "expected a thread of the program, found '3'"),
    ('{ 0:X0=instr:"FOO"; }\n P0 ;\n NOP ;\n', 2, "expected an instruction, found 'FOO'"),
    ('{ pte_x=(oa:phy_y,valid:0); }\n P0 ;\n NOP ;\n', 2, 'expected 1: faults of translation'),
    ('{}\n P0 ;\n NOP ;\nexists (0:X0=1', 5, "expected ')', found the end"),
    ('{}\n P0 ;\n NOP ;\nexists (0:X0=1) more', 5, "expected the end, or /\\ or \\/, found 'more'"),
    ('{}\n P0 ;\n NOP ;\nexists (* never ends', 5, 'expected the end of a comment'),
    ('{}\n P0 ;\n NOP ;\nexists (0:X0=99999999999999999999)', 5, 'expected a number of at most 64'),
    ('{ 0:X0=instr:"NOP"; }\n P0 ;\n NOP ;\n 0x', 5, 'expected a digit'),
    ('{}\n P0 ;\n LDR W0,[X1] ;\n', None, 'LDR W0,[X1]: nothing is at its address, 0'),
    ('{}\n P0 ;\n 0xd4000001 ;\n', None, 'opcode 0xd4000001 is executed, which is not modelled'),
]


def check_malformed():
    good = mp('good')
    for body, line, says in MALFORMED:
        path = write('bad.litmus', 'AArch64 bad\n' + body)
        run = litmus(path, good)
        where = '%s:%d: ' % (path, line) if line else '%s: ' % path
        if not t.ok(run.returncode == USAGE and where + says in run.stderr and
                    run.stderr.count('\n') == 1 and 'Observation good' in run.stdout,
                    'exit 2, the others still run: %s' % says):
            t.note(run.stderr)
    run = litmus('--json', write('bad.litmus', 'AArch64 bad\n{}\n P0 ;\n FOO ;\n'), good, '/nonexistent')
    outcome = json.loads(run.stdout)
    t.ok(run.returncode == USAGE and len(outcome['tests']) == 1 and
         [e['line'] for e in outcome['errors']] == [4, None] and
         outcome['errors'][0]['what'].startswith('expected an instruction') and
         outcome['summary']['unreadable'] == 2, 'and in JSON')
    run = litmus(write('other.litmus', 'X86 other\n{}\n'))
    t.ok(run.returncode == USAGE and "other.litmus:1: expected AArch64, found 'X86'" in run.stderr,
         'another architecture')
    run = litmus(write('control.litmus', 'AArch64 bad\n{}\n P0 ;\n \033[31m ;\n'))
    t.ok(run.returncode == USAGE and '\033' not in run.stderr, 'no control characters are printed')
    run = litmus(write('long.litmus', 'AArch64 bad\n{}\n P0 ;\n' + ' NOP ;\n' * 120))
    t.ok(run.returncode == USAGE and 'fewer than 100 instructions' in run.stderr, 'too long a thread')
    run = litmus(write('huge.litmus', '(' * (1 << 21)))
    t.ok(run.returncode == USAGE and 'too large' in run.stderr, 'too big a file')
    run = litmus(write('deep.litmus', 'AArch64 bad\n{}\n P0 ;\n NOP ;\nexists ' + '(' * 100000))
    t.ok(run.returncode == USAGE and 'fewer parentheses' in run.stderr, 'too deep a condition')


# --- the command line ----------------------------------------------------------------------------

def check_arguments():
    for arguments in ([], ['--wrong', 'x'], ['--kinds'], ['--json=1', 'x'], ['-z', 'x']):
        run = litmus(*arguments)
        t.ok(run.returncode == USAGE and run.stderr.count('\n') == 1 and not run.stdout,
             'litmus %s: exit 2' % ' '.join(arguments))
    run = litmus('--help')
    t.ok(run.returncode == DONE and run.stdout.startswith('Usage: suture-check litmus ') and
         max(map(len, run.stdout.splitlines())) <= 100, 'litmus --help')
    with open(os.path.join(ROOT, 'man/suture-check.1'), encoding='utf-8') as file:
        page = file.read()
    section = page[page.index('.Sh LITMUS TESTS'):]
    described = set(re.findall(r'^\.It .*?Fl -(\w+)', section, re.M))
    t.same({'--' + name for name in described}, set(re.findall(r'(?<![\w-])--[a-z]+', run.stdout)),
           'and the manual page has the same options')
    for arguments in (['--help'], [mp('MP')], ['--json', mp('MP')]):
        with open('/dev/full', 'w', encoding='utf-8') as full:
            run = litmus(*arguments, stdout=full)
        t.same(run.returncode, FAILED, 'litmus %s >/dev/full: exit 1' % arguments[0])


check_catalogue()
check_own()
check_text()
check_loops()
check_kinds()
check_malformed()
check_arguments()
t.done()
