#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Static keys and alternatives in whatever makes modules: compilers, languages, linkers, models of
addressing; several files of one module; modules that come and go."""
import os
import shutil
import subprocess
import sys
import tempfile

BUILD = os.environ["BUILD"]
HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../modules")
INCLUDE = os.path.join(HERE, "../../include")
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wno-unused-command-line-argument"]
MAIN, OTHER, PLUGIN = (os.path.join(HERE, name) for name in ("main.c", "other.c", "plugin.c"))
number = 0
failed = False


def ok(passed, name, output=""):
    global number, failed
    number += 1
    failed = failed or not passed
    print(f"{'ok' if passed else 'not ok'} {number} - {name}", flush=True)
    print("".join(f"# {line}\n" for line in output.splitlines()[:20]) if not passed else "", end="")


def run(place, *command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False, timeout=120,
                          env={**os.environ, "LD_LIBRARY_PATH": place})
    return done.returncode, done.stdout


def build(place, compiler, language, flags):
    """Program and plugin, or what the compiler said."""
    program, plugin = os.path.join(place, "program"), os.path.join(place, "plugin.so")
    common = [compiler, "-x" + language, "-I" + INCLUDE, *WARNINGS, *flags]
    for sources, target, how in (([MAIN, OTHER], program, []),
                                 ([PLUGIN, OTHER], plugin, ["-shared", "-fPIC"])):
        status, output = run(place, *common, *how, *sources, "-xnone", "-L" + place, "-lsuture",
                             "-ldl", "-o", target)
        if status:
            return None, output
    return (program, plugin), ""


CASES = [(compiler, language, flags)
         for compiler in ("gcc", "clang") for language in ("c", "c++")
         for flags in (["-O0"], ["-O2"], ["-O2", "-fPIC"], ["-Os", "-no-pie", "-fno-pie"],
                       ["-O1", "-ffunction-sections", "-Wl,--gc-sections"])]
if shutil.which("ld.lld"):
    CASES += [("clang", language, ["-O2", "-fuse-ld=lld"]) for language in ("c", "c++")]

with tempfile.TemporaryDirectory() as place:
    for library in "libsuture.so", "libsuture.so.0":
        os.symlink(os.path.join(os.path.abspath(BUILD), "libsuture.so"),
                   os.path.join(place, library))
    for compiler, language, flags in CASES:
        name = " ".join([compiler, language, *flags])
        if not shutil.which(compiler):
            number += 1
            print(f"ok {number} # SKIP {compiler} is not installed")
            continue
        files, output = build(place, compiler, language, flags)
        if files:
            status, output = run(place, *files)
        ok(bool(files) and status == 0, name, output)
print(f"1..{number}")
sys.exit(failed)
