#!/usr/bin/python3 -B
# SPDX-License-Identifier: MIT
"""
redis-server under load: what suture counts is what the server itself counted, to the last call;
clients notice nothing, also while a BGSAVE forks the server and while probes come and go; and
afterwards text and mappings are what they were.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from servers import *

limit(100)
tap = Tap()
REQUESTS = 40000
NAMES = ["processCommand", "call", "lookupKey"]


def attach(server, elf, options=()):
    return Suture(server.pid, NAMES, [(elf, name) for name in NAMES], options).attached()


def exact(server, elf, options, label):
    """Load strictly between attach and detach, a BGSAVE in the middle."""
    suture = attach(server, elf, options)
    before = server.info()
    load = server.benchmark(REQUESTS, tests="set,incr,lpush")
    server.command("BGSAVE")
    for i in range(100):
        server.command("GET", f"no-such-key-{i}")
    wrong = benchmark_errors(load)
    wait_for(lambda: server.info()["rdb_bgsave_in_progress"] == "0", "BGSAVE")
    after = server.info()
    report = suture.stop()
    describe(report)
    # A command is counted by the server when it has run and INFO prints before that: the first
    # INFO is in `after` but not in `before`, the last one in neither.
    commands = int(after["total_commands_processed"]) - int(before["total_commands_processed"]) + 1
    by_kind = sum(int(value.split(",")[0].split("=")[1]) for key, value in after.items()
                  if key.startswith("cmdstat_")) - \
        sum(int(value.split(",")[0].split("=")[1]) for key, value in before.items()
            if key.startswith("cmdstat_")) + 1
    note(f"the server counted {commands} commands, {by_kind} in commandstats")
    tap.ok(commands > 3 * REQUESTS, f"{label}: the load ran in between")
    tap.equal(hits(report, "processCommand"), commands,
              f"{label}: hits of processCommand are the commands the server processed")
    tap.equal(hits(report, "call"), by_kind,
              f"{label}: hits of call are the commands in commandstats")
    tap.ok(hits(report, "lookupKey") >= 100, f"{label}: lookupKey was counted")
    tap.ok(not wrong, f"{label}: 0 errors at the clients", *wrong)
    tap.equal(after["rdb_last_bgsave_status"], "ok", f"{label}: BGSAVE succeeded meanwhile")
    return report


with scratch() as directory:
    server = Redis(directory)
    elf = loaded(server.pid, "redis-")
    texts_before = {server.pid: texts(server.pid, "redis-", "libc.so")}
    maps_before = layout(server.pid)

    exact(server, elf, (), "default")
    tap.equal(left_behind([server.pid], texts_before), [], "text as before, nothing of ours mapped")
    report = exact(server, elf, ("--no-rseq",), "--no-rseq")
    tap.ok(all(probe["counter"] != "rseq" for probe in report["probes"]),
           "--no-rseq: no probe counts with rseq")

    # The kernel's own counter beside ours, on the same function and in the same interval.
    suture = attach(server, elf)
    kernel = [Uprobe(server.pid, elf.path, elf.straight(name)) for name in NAMES]
    wrong = benchmark_errors(server.benchmark(5000))
    counted = [uprobe.hits for uprobe in kernel]
    for uprobe in kernel:
        uprobe.close()
    report = suture.stop()
    describe(report)
    tap.equal([hits(report, name) for name in NAMES], counted,
              "hits of all three are those of kernel uprobes")
    tap.ok(not wrong, "0 errors with uprobes in the same functions", *wrong)

    # Attach and detach under load.
    load = server.benchmark(500000)
    wait_for(lambda: int(server.info()["instantaneous_ops_per_sec"]) > 1000, "the load")
    seen = []
    while len(seen) < 10:
        before = server.info()
        report = count(server.pid, *NAMES, duration="100ms")
        after = server.info()
        if load.poll() is not None:
            break
        seen.append((hits(report, "processCommand"), int(after["total_commands_processed"])
                     - int(before["total_commands_processed"])))
    note(f"hits and commands meanwhile, each cycle: {seen}")
    wrong = benchmark_errors(load)
    # The load generator pauses between its tests: an attachment may fall into that.
    tap.ok(seen and sum(got > 0 for got, _ in seen) * 2 > len(seen)
           and all(got <= most for got, most in seen),
           f"{len(seen)} attachments during the load count, and never more than there was")
    tap.ok(not wrong, "0 errors at the clients while attaching and detaching", *wrong)
    tap.equal(server.info()["total_error_replies"], "0", "the server replied no error")
    tap.equal(left_behind([server.pid], texts_before), [], "text as before, nothing of ours mapped")
    tap.equal(layout(server.pid), maps_before, "files are mapped as before")
    end(server.process)
    tap.equal(server.process.returncode, 0, "the server ends as it should")
tap.done()
