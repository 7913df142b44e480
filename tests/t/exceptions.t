#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""C++ exceptions pass through functions that are hooked and probed (exceptions.cc), with the shared
library and the static one."""
import os
import subprocess
import sys
import tempfile

BUILD = os.environ["BUILD"]
HERE = os.path.dirname(os.path.abspath(__file__))
number = 0
failed = False


def ok(passed, name, output=""):
    global number, failed
    number += 1
    failed = failed or not passed
    print(f"{'ok' if passed else 'not ok'} {number} - {name}")
    for line in output.splitlines() if not passed else []:
        print(f"# {line}")
    sys.stdout.flush()


def run(*command, **options):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False, timeout=120, **options)


with tempfile.TemporaryDirectory() as place:
    os.symlink(f"{BUILD}/libsuture.so", f"{place}/libsuture.so.0")
    for how, library, flags in (
            ("static", f"{BUILD}/libsuture.a", ["-O2"]),
            ("shared", f"{BUILD}/libsuture.so", ["-O2"]),
            ("not optimised", f"{BUILD}/libsuture.a", ["-O0"]),
            ("frame pointers", f"{BUILD}/libsuture.a", ["-O2", "-fno-omit-frame-pointer"])):
        program = f"{place}/{how.replace(' ', '-')}"
        done = run("g++", *flags, "-g", "-Wall", "-Wextra", "-Werror", "-Iinclude", "-Itests",
                   f"{HERE}/exceptions.cc", library, "-ldw", "-lelf", "-lZydis", "-lpthread", "-o",
                   program)
        ok(done.returncode == 0, f"{how}: builds", done.stdout)
        if done.returncode == 0:
            done = run(program, env={**os.environ, "LD_LIBRARY_PATH": place})
            ok(done.returncode == 0, f"{how}: runs ({done.returncode})", done.stdout)
print(f"1..{number}")
sys.exit(failed)
