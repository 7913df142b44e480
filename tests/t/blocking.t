#!/usr/bin/python3 -B
# SPDX-License-Identifier: MIT
"""
No system call of the target ever learns that suture stopped it. A ptrace stop makes about a
quarter of these calls return EINTR, to programs that never expected a signal.

1. Every form in a thread of one process: attach and detach 100 times while all are blocked; none
   returns. Then all are woken, while attached, and each returns what its caller wants; the hits
   are the forms.
2. Every form alone in its process, so that suture has to make its system calls in the very
   thread that is blocked.
3. Timed forms still time out afterwards, and not before their time.
"""
import concurrent.futures
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from servers import *

limit(110)
tap = Tap()
VICTIM = os.path.join(BUILD, "tests/victims/blocking")
SPEC = "form_returned"
RESTART = 219  # restart_syscall: what a call that sleeps until a fixed time continues as
CYCLES = 100


class Blocking:
    def __init__(self, kind, timeout_ms, *forms):
        self.process = start([VICTIM, kind, str(timeout_ms), *forms], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True, bufsize=1)
        self.forms = {}
        for line in self.process.stdout:
            fields = line.split()
            if fields[0] == "ready":
                break
            self.forms[fields[1]] = tuple(map(int, fields[2:5]))
        if not self.forms:
            raise RuntimeError("the victim did not start")

    def ask(self, command):
        """{form: what the victim says of it}."""
        self.process.stdin.write(command + "\n")
        said = {}
        for line in self.process.stdout:
            name, _, rest = line.strip().partition(" ")
            if name == "end":
                return said
            said[name] = rest
        raise RuntimeError("the victim died")

    def not_blocked(self):
        """Forms whose thread does not sleep in its system call."""
        wrong = []
        for name, (pid, tid, number) in self.forms.items():
            try:
                state = status(pid, tid, "State")
                call = open(f"/proc/{pid}/task/{tid}/syscall").read().split()[0]
            except OSError as error:
                wrong.append(f"{name}: {error}")
                continue
            if state is None or state[0] != "S" or call not in (str(number), str(RESTART)):
                wrong.append(f"{name}: state {state}, system call {call}, expected {number}")
        return wrong

    def blocked(self, label):
        try:
            wait_for(lambda: not self.not_blocked(), "all threads to block", 10)
        except RuntimeError:
            pass
        wrong = self.not_blocked()
        return tap.ok(not wrong, f"{label}: {len(self.forms)} forms proven blocked", *wrong)

    def undisturbed(self, label):
        wrong = [f"{name} {said}" for name, said in self.ask("status").items() if said != "waiting"]
        interrupted = sum("EINTR" in line for line in wrong)
        tap.ok(not wrong, f"{label}: {interrupted} EINTR, {len(wrong) - interrupted} early returns",
               *wrong)

    def returns(self, command, label):
        wrong = [f"{name} {said}" for name, said in self.ask(command).items() if said != "right"]
        tap.ok(not wrong, label, *wrong)

    def end(self, label):
        self.process.stdin.write("quit\n")
        tap.equal(self.process.wait(LIMIT), 0, f"{label}: the victim ends as it should")


def threads():
    victim = Blocking("threads", 600000)
    pid = victim.process.pid
    before = {pid: texts(pid, "blocking", "libc.so")}
    mapped = layout(pid)
    victim.blocked("threads")
    for _ in range(CYCLES):
        report = count(pid, SPEC, duration="1ms")
    describe(report)
    victim.undisturbed(f"threads: attached and detached {CYCLES} times")
    victim.blocked("threads, afterwards")
    tap.equal(left_behind([pid], before), [], "threads: text as before, nothing of ours mapped")
    tap.equal(layout(pid), mapped, "threads: files are mapped as before")

    elf = Elf(VICTIM, ["--defined-only"])
    suture = Suture(pid, [SPEC], [(elf, SPEC)]).attached()
    victim.returns("wake", "threads: woken while attached, every form returns what it should")
    report = suture.stop()
    describe(report)
    tap.equal(hits(report, SPEC), len(victim.forms), "threads: hits are the forms")
    victim.end("threads")


def alone():
    """As often as fits: one attachment for each form and round."""
    victim = Blocking("processes", 600000)
    victim.blocked("alone")
    pids = {pid: name for name, (pid, _, _) in victim.forms.items()}
    before = {pid: texts(pid, "blocking", "libc.so") for pid in pids}
    rounds, began = 0, time.monotonic()
    failed = []

    def cycle(pid):
        try:
            count(pid, SPEC, duration="1ms")
        except RuntimeError as error:
            return f"{pids[pid]}: {error}"

    with concurrent.futures.ThreadPoolExecutor(2) as two:
        while rounds < 3 or (rounds < CYCLES and time.monotonic() - began < 12):
            failed += [line for line in two.map(cycle, pids) if line]
            rounds += 1
    tap.ok(not failed, f"alone: attached and detached {rounds} times each", *failed[:10])
    victim.undisturbed(f"alone: attached and detached {rounds} times each")
    victim.blocked("alone, afterwards")
    tap.equal(left_behind(pids, before), [], "alone: text as before, nothing of ours mapped")
    victim.returns("wake", "alone: woken, every form returns what it should")
    victim.end("alone")


def timeouts():
    """A call that was stopped may start its relative timeout afresh, but it must have one."""
    victim = Blocking("threads", 2000, "timed")
    victim.blocked("timed")
    for _ in range(3):
        count(victim.process.pid, SPEC, duration="1ms")
    victim.returns("expire", f"timed: {len(victim.forms)} timeouts expire after 3 attachments, "
                   "none early")
    victim.end("timed")


threads()
alone()
timeouts()
tap.done()
