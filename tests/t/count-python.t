#!/usr/bin/python3 -B
# SPDX-License-Identifier: MIT
"""
Libraries in a running python3: functions of libc called a known number of times by four threads
are counted to the last call; malloc and sqlite3_step, whose calls nobody knows in advance, are
counted exactly as often as by a kernel uprobe a few bytes further on, over the same interval.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from servers import *

limit(100)
tap = Tap()

PROGRAM = r"""
import ctypes, sqlite3, sys, threading
libc = ctypes.CDLL(None)
base = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
base.execute("create table t (a int, b text)")
def calls(number, name, expected):
    function = getattr(libc, name)
    function.argtypes = [ctypes.c_long]
    function.restype = ctypes.c_long
    return sum(function(expected[0]) != expected[1] for _ in range(number))
def strings(number):
    return sum(len(str(i) * 1000) < 1000 for i in range(number))
def sql(number):
    base.executemany("insert into t values (?, ?)", ((i, str(i)) for i in range(number)))
    return base.execute("select count(*) from t").fetchone()[0] - number
def in_threads(count, function, *arguments):
    wrong = []
    threads = [threading.Thread(target=lambda: wrong.append(function(*arguments)))
               for _ in range(count)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    return sum(wrong)
print("ready", flush=True)
for line in sys.stdin:
    print(eval(line), flush=True)
"""


class Victim:
    def __init__(self):
        self.process = start(["/usr/bin/python3", "-c", PROGRAM], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True, bufsize=1)
        self.pid = self.process.pid
        assert self.process.stdout.readline() == "ready\n"
        wait_for(self._waits, "python3 to come to rest")

    def do(self, expression):
        """The number of wrong results, once the program waits for its next line."""
        self.process.stdin.write(expression + "\n")
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"python3 died of {expression}")
        wait_for(self._waits, "python3 to come to rest")
        return int(answer)

    def _waits(self):
        return open(f"/proc/{self.pid}/syscall").read().startswith("0 0x0 ")  # read(0, ...)


victim = Victim()
libc = loaded(victim.pid, "libc.so")
sqlite = loaded(victim.pid, "libsqlite3")
before = {victim.pid: texts(victim.pid, "libc.so", "libsqlite3", "python3")}
mapped = layout(victim.pid)
NUMBER = 50000

# One function of a single long instruction and a system call, short ones, one that calls another.
KNOWN = [("getppid", f"(0, {os.getpid()})"), ("toupper", "(97, 65)"), ("labs", "(-5, 5)")]
for options in (), ("--no-rseq",):
    label = " ".join(options) or "default"
    names = [name for name, _ in KNOWN]
    specs = [f"{libc.name}:{name}" for name in names]
    suture = Suture(victim.pid, specs, [(libc, name) for name in names], options).attached()
    wrong = sum(victim.do(f"in_threads(4, calls, {NUMBER}, {name!r}, {expected})")
                for name, expected in KNOWN)
    report = suture.stop()
    describe(report)
    tap.equal({name: hits(report, name) for name in names}, {name: 4 * NUMBER for name in names},
              f"{label}: hits of {', '.join(names)} are the calls that four threads made")
    tap.equal(wrong, 0, f"{label}: and every call had the right result")
    tap.equal(left_behind([victim.pid], before), [], f"{label}: text as before, nothing mapped")


def beside_kernel(elf, name, work, label, options=()):
    """The process sits in read() whenever a counter comes or goes, so all see the same calls."""
    suture = Suture(victim.pid, [f"{elf.name}:{name}"], [(elf, name)], options).attached()
    kernel = Uprobe(victim.pid, elf.path, elf.straight(name))
    wrong = victim.do(work)
    counted = kernel.hits
    kernel.close()
    report = suture.stop()
    describe(report)
    note(f"the kernel counted {counted}")
    tap.ok(counted > 1000, f"{label}: the work was done")
    tap.equal(hits(report, name), counted, f"{label}: hits are those of a kernel uprobe")
    tap.equal(wrong, 0, f"{label}: every result is right")
    tap.equal(left_behind([victim.pid], before), [], f"{label}: text as before, nothing mapped")
    return report


beside_kernel(libc, "malloc", "strings(20000)", "malloc")
beside_kernel(libc, "malloc", "strings(20000)", "malloc, --no-rseq", ("--no-rseq",))
report = beside_kernel(sqlite, "sqlite3_step", "sql(20000)", "sqlite3_step")
tap.ok(hits(report, "sqlite3_step") >= 20001, "sqlite3_step: one for each row and the query")
tap.equal(layout(victim.pid), mapped, "files are mapped as before")
victim.process.stdin.close()
tap.equal(victim.process.wait(LIMIT), 0, "python3 ends as it should")
tap.done()
