#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Hooks, probes and keys work under valgrind, which finds no fault with them.

valgrind translates code, and looks for changes of it only if --smc-check=all says so.
"""
import os
import subprocess
import sys

UNIT = os.path.join(os.environ["BUILD"], "tests/unit")
PROGRAMS = ["own_calls", "own_overlay"]
FAULT = 99
failed = False

for number, program in enumerate(PROGRAMS, 1):
    command = ["valgrind", "-q", "--smc-check=all", "--fair-sched=try",
               f"--error-exitcode={FAULT}",
               os.path.join(UNIT, program), "few"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=400, check=False)
    passed = done.returncode == 0 and "\nok " in "\n" + done.stdout
    failed = failed or not passed
    print(f"{'ok' if passed else 'not ok'} {number} - {program}", flush=True)
    if not passed:
        for line in done.stdout.splitlines():
            if not line.startswith("ok "):
                print("# " + line)
print(f"1..{len(PROGRAMS)}")
sys.exit(failed)
