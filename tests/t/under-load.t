#!/usr/bin/python3 -B
# SPDX-License-Identifier: MIT
"""
Random functions of redis-server, nginx, postgres, python3 and node, and of all libraries that they
map, are counted while they work: load generators report 0 errors, results are what they were,
before, during and after, and afterwards text and mappings are, too.

SUTURE_SEED repeats a choice. 200 functions of each; 2,000 with SUTURE_TORTURE, or as many as
SUTURE_FUNCTIONS says; of those servers that SUTURE_ONLY names.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from load import *

limit(3000 if TORTURE else 400)
tap = Tap()
SEED = int(os.environ.get("SUTURE_SEED") or int.from_bytes(os.urandom(4), "big"))
NUMBER = int(os.environ.get("SUTURE_FUNCTIONS") or (2000 if TORTURE else 200))
SECONDS = min(20, max(2, NUMBER // 100))
note(f"SUTURE_SEED={SEED} SUTURE_FUNCTIONS={NUMBER}")


def kinds(report):
    found = [probe["kind"] for probe in report["probes"]]
    return ", ".join(f"{found.count(kind)} {kind}" for kind in sorted(set(found)))


def under_load(label, server):
    """`server`: what answers results(), start(), errors() and end(); .pids are to be counted."""
    pid = server.pids[0]
    expected = server.results()
    tap.equal(server.errors(server.start(1)), [], f"{label}: the load alone reports 0 errors")
    listed = all_functions(pid)
    chosen = random.Random(f"{SEED} {label}").sample(listed, min(NUMBER, len(listed)))
    names = dict(chosen)
    before = {one: everything(one) for one in server.pids}
    maps_before = layout(pid)
    load = server.start(SECONDS)
    try:
        many = Many(pid, list(names))
        time.sleep(SECONDS / 4)
        during = server.results() if not isinstance(server, ScriptLoad) else expected
        report = many.stop()
    except RuntimeError as error:
        tap.ok(False, f"{label}: counted", error)
        return
    wrong = server.errors(load)
    hit = [probe for probe in report["probes"] if probe["hits"]]
    note(f"{label}: {len(report['probes'])} of {len(listed)} functions: {kinds(report)}; "
         f"{len(hit)} were called, {sum(probe['hits'] for probe in hit)} times; "
         f"{len(many.refused)} refused; {report['processes']} processes; "
         f"stopped {report['stop_us']['attach']} + {report['stop_us']['detach']} us")
    for spec, reason in list(many.refused.items())[:8]:
        note(f"{label}: refused {names[spec]}: {reason}")
    tap.ok(len(report["probes"]) * 10 >= 9 * len(chosen), f"{label}: nine in ten are counted")
    tap.ok(hit, f"{label}: some were called")
    tap.equal(wrong, [], f"{label}: 0 errors under load while they were counted")
    tap.equal(during, expected, f"{label}: the same results while they are counted")
    tap.equal(server.results(), expected, f"{label}: the same results afterwards")
    tap.equal(left_behind(server.pids, before), [], f"{label}: text as before, nothing is left")
    tap.equal([entry for entry in layout(pid) if entry not in maps_before], [],
              f"{label}: files are mapped as before")
    tap.equal(server.errors(server.start(1)), [], f"{label}: 0 errors afterwards")
    tap.equal(server.end(), 0, f"{label}: ends as it should")


ONLY = os.environ.get("SUTURE_ONLY", "redis nginx postgres python node").split()
for name in ONLY:
    with scratch(Postgres.USER if name == "postgres" else None) as directory:
        under_load(name, {"redis": RedisLoad, "nginx": NginxLoad, "postgres": PostgresLoad,
                          "python": PythonLoad, "node": NodeLoad}[name](directory))
tap.done()
