#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The protocol and the trap path for our own process stay in their section.

What patches text must not be patched itself (case self-patching): it lies in suture_noinstr, which
the library refuses to touch, and calls nothing outside it but through the instruction set's
table.
"""
import os
import re
import subprocess
import sys

BUILD = os.environ["BUILD"]
SECTION = "suture_noinstr"
# Each function that must be inside, whatever the compiler made of the others.
INSIDE = ["patch_apply", "patch_revert", "patch_trap", "patch_retire", "sync_nosync",
          "sync_breakpoint", "port_store", "port_write", "port_sync_cores", "port_lock",
          "linux_on_trap", "x86_is_trap", "port_run_on_all", "port_occupied", "linux_on_park"]
number = 0
failed = False


def ok(passed, name):
    global number, failed
    number += 1
    failed = failed or not passed
    print(f"{'ok' if passed else 'not ok'} {number} - {name}", flush=True)


def output(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def check(library):
    found = re.search(r"\s%s\s+\w+\s+([0-9a-f]+) [0-9a-f]+ ([0-9a-f]+) \S+\s+(\w*)" % SECTION,
                      output("readelf", "-SW", library))
    ok(found and "X" in found.group(3) and "W" not in found.group(3),
       f"{os.path.basename(library)} has the section, executable and read-only")
    start = int(found.group(1), 16)
    end = start + int(found.group(2), 16)
    places = {}
    for line in output("nm", library).splitlines():
        fields = line.split()
        if len(fields) == 3:
            places.setdefault(fields[2], []).append(int(fields[0], 16))
    # The protocol is in the library twice; the other one works on other processes.
    for name in INSIDE:
        ok(any(start <= at < end for at in places.get(name, [])), f"{name} is inside")
    outside = []
    for line in output("objdump", "-d", "-j", SECTION, "--no-show-raw-insn",
                       library).splitlines():
        match = re.search(r"\b(?:call|j\w+)\s+([0-9a-f]+) <", line)
        if match and not start <= int(match.group(1), 16) < end:
            outside.append(line.strip())
    ok(not outside, "no call or jump leads out" + "".join(f"\n# {line}" for line in outside[:5]))


check(os.path.join(BUILD, "libsuture.so"))
print(f"1..{number}")
sys.exit(failed)
