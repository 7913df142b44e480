#!/usr/bin/python3 -B
# SPDX-License-Identifier: MIT
"""
nginx under wrk, stripped of .symtab: hits of ngx_http_process_request are the lines of the access
log, for one worker and for two with a suture each, and for workers that a reload forks after
suture attached to the master; 0 errors at wrk, also while probes come and go.
"""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from servers import *

limit(100)
tap = Tap()
NAME = "ngx_http_process_request"


def exact(workers):
    with scratch() as directory:
        server = Nginx(directory, workers)
        elf = Elf(Nginx.BINARY)
        before = {pid: texts(pid, "nginx", "libc.so") for pid in server.workers}
        lines = server.lines()
        sutures = [Suture(pid, [NAME], [(elf, NAME)]).attached() for pid in server.workers]
        answered, wrong = wrk_result(server.wrk())
        lines = server.lines() - lines
        reports = [suture.stop() for suture in sutures]
        for report in reports:
            describe(report)
        note(f"{answered} requests answered to wrk, {lines} lines in the log")
        label = f"{workers} worker{'s' if workers > 1 else ''}"
        tap.ok(answered > 100, f"{label}: the load ran")
        tap.equal(sum(hits(report, NAME) for report in reports), lines,
                  f"{label}: hits are the lines of the access log")
        tap.ok(not wrong, f"{label}: 0 errors at wrk", *wrong)
        tap.equal(left_behind(server.workers, before), [],
                  f"{label}: text as before, nothing of ours mapped")

        load = server.wrk(3)
        reports = []
        while load.poll() is None and len(reports) < 10:
            reports += [count(pid, NAME, duration="50ms") for pid in server.workers]
        _, wrong = wrk_result(load)
        tap.ok(all(len(report["probes"]) == 1 for report in reports),
               f"{label}: attached {len(reports)} times during the load")
        tap.ok(sum(hits(report, NAME) for report in reports) > 0, f"{label}: and counted")
        tap.ok(not wrong, f"{label}: 0 errors at wrk while attaching and detaching", *wrong)
        tap.equal(left_behind(server.workers, before), [],
                  f"{label}: text as before, nothing of ours mapped")
        end(server.process)
        tap.equal(server.process.returncode, 0, f"{label}: the server ends as it should")


def reload():
    """Old workers know nothing of a probe in their master, new ones inherit it."""
    with scratch() as directory:
        server = Nginx(directory, 2)
        elf = Elf(Nginx.BINARY)
        lines = server.lines()
        suture = Suture(server.pid, [NAME], [(elf, NAME)]).attached()
        os.kill(server.pid, signal.SIGHUP)
        fresh = wait_for(lambda: (lambda now: len(now) == 2 and not set(now) & set(server.workers)
                                  and now)(children(server.pid)), "the reload")
        answered, wrong = wrk_result(server.wrk(2))
        lines = server.lines() - lines
        report = suture.stop()
        describe(report)
        note(f"{lines} lines in the log")
        tap.ok(answered > 100, "reload: the load ran")
        tap.equal(hits(report, NAME), lines, "reload: hits in workers born after the attachment "
                  "are the lines of the access log")
        tap.ok(report["processes"] >= 3, "reload: the report names master and new workers",
               f"processes: {report['processes']}")
        tap.ok(not wrong, "reload: 0 errors at wrk", *wrong)
        tap.equal(left_behind([server.pid, *fresh], {pid: pristine(pid, "nginx", "libc.so")
                                                     for pid in (server.pid, *fresh)}), [],
                  "reload: text is the file's again in master and workers, nothing of ours mapped")
        end(server.process)
        tap.equal(server.process.returncode, 0, "reload: the server ends as it should")


exact(1)
exact(2)
reload()
tap.done()
