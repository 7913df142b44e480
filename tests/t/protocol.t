#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What lets the checker run the protocol as it is: no allocation, no libc, no mutable statics, in
any of the builds (another process, our own, the simulated machine)."""
import glob
import os
import subprocess
import sys

BUILD = os.environ["BUILD"]
OURS = ("port_", "sync_", "text_", "run_", "patch_")
# What compilers call on their own account.
COMPILER = {"memcpy", "memset", "memmove", "memcmp", "_GLOBAL_OFFSET_TABLE_", "__stack_chk_fail"}
number = 0
failed = False


def ok(passed, name):
    global number, failed
    number += 1
    failed = failed or not passed
    print(f"{'ok' if passed else 'not ok'} {number} - {name}", flush=True)


for build in ("", "own/", "model/"):
    objects = [o for layer in ("sync", "patch")
               for o in sorted(glob.glob(f"{BUILD}/{build}src/{layer}/*.o"))]
    ok(len(objects) == len(glob.glob("src/sync/*.c") + glob.glob("src/patch/*.c")),
       f"{build or 'ptrace '}: every source is there")
    for path in objects:
        name = os.path.relpath(path, BUILD)
        symbols = [line.split() for line in subprocess.run(
            ["nm", path], check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()]
        foreign = [s[-1] for s in symbols if s[-2] == "U" and not s[-1].startswith(OURS) and
                   s[-1] not in COMPILER]
        ok(not foreign, f"{name}: calls nothing but the port and itself {' '.join(foreign)}")
        mutable = [s[-1] for s in symbols if s[-2] in "dDbBC"]
        ok(not mutable, f"{name}: has no mutable statics {' '.join(mutable)}")
print(f"1..{number}")
sys.exit(failed)
