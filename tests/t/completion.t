#!/usr/bin/python3 -B
# SPDX-License-Identifier: MIT
"""Completion in bash, zsh and fish, as installed, in the shells themselves: commands, every option,
processes, modules, functions; machines, scenarios and mutants of suture-check."""
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'lib'))
import suture_test as t

t.limit(90)
place = t.scratch()
prefix = os.path.join(place, 'usr')
done = subprocess.run(['make', '-s', 'install', 'PREFIX=' + prefix, 'B=' + t.BUILD],
                      stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
if not t.ok(done.returncode == 0, 'make install'):
    t.note(done.stdout)
SHARE = prefix + '/share/'
ENVIRONMENT = dict(os.environ, PATH=prefix + '/bin:' + os.environ['PATH'], HOME=place, TERM='dumb',
                   XDG_CONFIG_HOME=place, XDG_DATA_HOME=place, LC_ALL='C')


def words(text):
    return sorted(word.rstrip() for word in text.split('\n') if word.strip())


class Bash:
    """The function that `complete` has registered, called as readline calls it."""
    name = 'bash'

    def candidates(self, line):
        command = line.split()[0]
        script = ('source "$1"; set -- "$2"; spec=$(complete -p -- "${1%% *}") || exit 9; '
                  'spec=${spec#*-F }; COMP_LINE=$1; COMP_POINT=${#1}; "${spec%% *}"; '
                  'printf "%s\\n" "${COMPREPLY[@]}"')
        path = SHARE + 'bash-completion/completions/' + command
        got = subprocess.run(['bash', '--norc', '-c', script, 'bash', path, line], env=ENVIRONMENT,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False,
                             timeout=60)
        # What readline replaces: of a word with colons the part behind the last one.
        word = re.split(r'\s', line)[-1]
        before = word[:word.rfind(':') + 1]
        return sorted(before + candidate for candidate in words(got.stdout)), got.stderr


class Fish:
    name = 'fish'

    def candidates(self, line):
        got = subprocess.run(['fish', '--no-config', '-c', 'source %s/fish/vendor_completions.d/%s.fish; '
                              'complete -C %s' % (SHARE, line.split()[0], repr(line))], env=ENVIRONMENT,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False,
                             timeout=60, stdin=subprocess.DEVNULL)
        return words('\n'.join(word.split('\t')[0] for word in got.stdout.split('\n'))), got.stderr


class Zsh:
    """A shell on a terminal; what compadd is given in the end is written to a file."""
    name = 'zsh'

    def __init__(self):
        self.out = os.path.join(place, 'zsh-out')
        self.child, self.fd = pty.fork()
        if self.child == 0:
            os.execvpe('zsh', ['zsh', '-f'], ENVIRONMENT)
        t.at_end(self.end)
        self.ask('fpath=(%s/zsh/site-functions $fpath); autoload -Uz compinit; compinit -u -D; '
                 'PS1=; unsetopt zle_bracketed_paste 2>/dev/null; bindkey -e; stty -echo; '
                 'zstyle ":completion:*" insert-tab false\n' % SHARE)
        # Every match with what it would put in front of and behind the word.
        self.ask('compadd() { local -a hits; builtin compadd -O hits "$@"; '
                 'print -rl -- ${IPREFIX}${^hits} >>$OUT; builtin compadd "$@" }; OUT=%s; '
                 'finish() { BUFFER=; print >$OUT.done }; zle -N finish; bindkey "^X" finish\n' % self.out)

    def end(self):
        os.kill(self.child, 9)
        os.waitpid(self.child, 0)

    def ask(self, text):
        os.write(self.fd, text.encode())

    def drain(self):
        while select.select([self.fd], [], [], 0)[0]:
            os.read(self.fd, 65536)

    def candidates(self, line):
        for path in (self.out, self.out + '.done'):
            if os.path.exists(path):
                os.unlink(path)
        self.ask(line + '\t\x18')

        def answered():
            self.drain()
            return os.path.exists(self.out + '.done')
        t.until(answered, 30)
        if not os.path.exists(self.out):
            return [], 'no answer'
        with open(self.out) as file:
            return sorted(set(words(file.read()))), ''


def complete(shell, line, expected, what, exactly=False):
    got, error = shell.candidates(line)
    good = sorted(set(expected)) == sorted(set(got)) if exactly else set(expected) <= set(got)
    if not t.ok(good and not error, '%s: %s' % (shell.name, what)):
        t.note('%r: %r, not %r; %s' % (line, got[:40], sorted(expected)[:40], error))
    return got


def check(shell):
    commands = re.findall(r'^  (\w+)  ', t.suture('--help').out.split('\nOptions')[0], re.M)
    complete(shell, 'suture ', commands, 'commands')
    complete(shell, 'suture rev', ['revert'], 'a command', True)
    complete(shell, 'suture help sta', ['status'], 'a command to help with', True)
    for command in commands:
        options = sorted(set(re.findall(r'^  (?:-\w, )?(--[\w-]+)', t.suture('help', command).out, re.M)))
        if options:
            complete(shell, 'suture %s --' % command, options, 'the options of ' + command, True)
    complete(shell, 'suture count --max', ['--max-pause'], 'an option', True)
    complete(shell, 'suture count --kinds w', ['window'], 'a value of an option', True)
    complete(shell, 'suture count -p %s' % str(victim.pid)[:-1], [str(victim.pid)], 'a process')
    got = complete(shell, 'suture status -p ', [str(victim.pid)], 'processes')
    t.ok('2' not in got, '%s: but no kernel thread' % shell.name)
    complete(shell, 'suture count -p %d libc' % victim.pid, ['libc.so.6:'], 'a module')
    log = os.path.join(place, 'some-file')
    open(log, 'w').close()
    got, _ = shell.candidates('suture count -p %d --log %s' % (victim.pid, log[:-2]))
    t.ok(got and {log, os.path.basename(log)} & set(got), shell.name + ': a file')
    if 'list' in commands:
        complete(shell, 'suture count -p %d sums:sum_a' % victim.pid, ['sums:sum_any'], 'a function',
                 True)
        complete(shell, 'suture count -p %d sum_a' % victim.pid, ['sum_any'],
                 'a function of any module')
    t.unchanged(before, shell.name + ': the process was not touched', strict=True)
    listing = t.command([os.path.join(t.BUILD, 'suture-check'), '--list']).out
    machines = re.findall(r'^  (\S+)$', listing.split('\nScenarios')[0], re.M)
    complete(shell, 'suture-check --machine ', machines + ['all'], 'machines', True)
    complete(shell, 'suture-check --scenario late-', ['late-trap'], 'a scenario')
    got = complete(shell, 'suture-check --machine %s,%s' % (machines[0], machines[1][:-1]),
                   ['%s,%s' % (machines[0], machines[1])], 'the second of a list')
    complete(shell, 'suture-check --mut', ['--mutant'], 'an option of suture-check', True)


victim = t.Victim('sums', 1)
before = t.Snapshot(victim.pid, strict=True)
for kind in (Bash, Zsh, Fish):
    if shutil.which(kind.name):
        check(kind())
    else:
        t.skip('no %s here' % kind.name)
victim.stop()
t.done()
