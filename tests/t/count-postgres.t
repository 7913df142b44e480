#!/usr/bin/python3 -B
# SPDX-License-Identifier: MIT
"""
postgres under `pgbench -C`, which makes the server fork for every transaction: with suture on the
postmaster, the hits of ExecutorRun in backends born since are the statements executed, and those
of a kernel uprobe; 0 errors; and detaching amid the forks leaves no process of the family with
anything of ours, also none that was being born.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from servers import *

limit(110)
tap = Tap()
NAME = "ExecutorRun"
STATEMENTS, TRANSACTIONS, CLIENTS = 5, 60, 4


def code_of(pids):
    """Backends come and go: only those that are there to read."""
    found = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            found[pid] = pristine(pid, "postgres", "libc.so")
    return found


def left_in_family(pid):
    wrong = []
    for member in family(pid):
        try:
            wrong += left_behind([member], code_of([member]))
        except OSError:
            pass  # it ended while we looked
    return wrong


with scratch(Postgres.USER) as directory:
    server = Postgres(directory)
    elf = loaded(server.pid, "postgres")
    script = os.path.join(directory, "script")
    server.sql("create table t (a int)")
    with open(script, "w") as file:
        file.write("select 1;\nselect count(*) from t;\ninsert into t values (1);\n"
                   "select max(a) from t;\nupdate t set a = 2 where a = 3;\n")

    def attach(options=()):
        return Suture(server.pid, [NAME], [(elf, NAME)], options).attached()

    for options in (), ("--no-rseq",):
        label = " ".join(options) or "default"
        server.idle()
        rows = int(server.sql("select count(*) from t"))
        server.idle()
        suture = attach(options)
        kernel = Uprobe(None, elf.path, elf.straight(NAME))
        done, wrong = pgbench_result(server.pgbench(script, TRANSACTIONS, CLIENTS))
        server.idle()
        counted = kernel.hits
        kernel.close()
        report = suture.stop()
        describe(report)
        note(f"{done} transactions; the kernel counted {counted}")
        tap.equal(done, TRANSACTIONS * CLIENTS, f"{label}: every transaction was done")
        tap.equal(int(server.sql("select count(*) from t")) - rows, done,
                  f"{label}: and left its row")
        tap.equal(hits(report, NAME), STATEMENTS * done,
                  f"{label}: hits in forked backends are the statements executed")
        tap.equal(hits(report, NAME), counted, f"{label}: and the hits of a kernel uprobe")
        tap.ok(not wrong, f"{label}: 0 errors at pgbench", *wrong)
        tap.equal(left_in_family(server.pid), [],
                  f"{label}: text is the file's again, nothing of ours mapped")

    # Attach and detach while backends are being born.
    load = server.pgbench(script, 300, CLIENTS)
    reports, wrong = [], []
    while load.poll() is None and len(reports) < 20:
        reports.append(count(server.pid, NAME, duration="100ms"))
        wrong += left_in_family(server.pid)
    cycles = len(reports)
    done, errors = pgbench_result(load)
    total = sum(hits(report, NAME) for report in reports)
    note(f"{cycles} cycles, {done} transactions, {total} hits, at most "
         f"{max(report['processes'] for report in reports)} processes")
    tap.equal(done, 300 * CLIENTS, "attach and detach amid forks: every transaction was done")
    tap.ok(not errors, "0 errors at pgbench", *errors)
    tap.ok(0 < total <= STATEMENTS * done, "some were counted, none twice", f"{total} of {done}")
    tap.ok(not wrong, f"after each of {cycles} detachments no process of the family has anything "
           "of ours", *wrong)
    tap.equal(server.sql("select 41 + 1"), "42", "the server works on")
    tap.equal(left_in_family(server.pid), [], "text is the file's, nothing of ours mapped")
    end(server.process, signal.SIGINT)
    tap.equal(server.process.returncode, 0, "the server ends as it should")
    log = open(os.path.join(directory, "log")).read()
    crashed = [line for line in log.splitlines() if "terminated by signal" in line]
    tap.ok(not crashed, "no backend was killed", *crashed)
tap.done()
