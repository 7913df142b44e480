#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What `make install` puts in place is what people build against: the examples, with pkg-config,
shared and static, in C and C++."""
import glob
import os
import subprocess
import sys
import tempfile

BUILD = os.environ["BUILD"]
number = 0
failed = False


def ok(passed, name):
    global number, failed
    number += 1
    failed = failed or not passed
    print(f"{'ok' if passed else 'not ok'} {number} - {name}", flush=True)


def run(*command, **options):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False, timeout=120, **options)


with tempfile.TemporaryDirectory() as place:
    prefix = os.path.join(place, "usr")
    done = run("make", "-s", "install", f"PREFIX={prefix}", f"B={BUILD}")
    ok(done.returncode == 0, "make install" + "".join(f"\n# {x}" for x in done.stdout.splitlines()))
    environment = {**os.environ, "PKG_CONFIG_PATH": f"{prefix}/lib/pkgconfig",
                   "LD_LIBRARY_PATH": f"{prefix}/lib"}

    def pkg_config(*arguments):
        return run("pkg-config", *arguments, "suture", env=environment).stdout.split()

    names = sorted(os.path.basename(x) for x in glob.glob(f"{prefix}/include/suture/*.h"))
    for what, included in [(x, [x]) for x in names] + [("all of them", names),
                                                       ("all, backwards", names[::-1])]:
        text = "".join(f"#include <suture/{x}>\n" for x in included)
        for compiler, language in ("gcc", "c"), ("g++", "c++"):
            done = run(compiler, "-Wall", "-Wextra", "-Werror", "-fsyntax-only", f"-x{language}", "-",
                       f"-I{prefix}/include", input=text)
            ok(bool(names) and done.returncode == 0, f"{what} in {language}" +
               "".join(f"\n# {x}" for x in done.stdout.splitlines()))

    for example in sorted(glob.glob("examples/*.c")):
        name = os.path.basename(example)[:-2]
        for how, compiler, arguments in (
                ("shared", "gcc", pkg_config("--cflags", "--libs")),
                ("static", "gcc", pkg_config("--cflags") + [f"{prefix}/lib/libsuture.a"] +
                 [x for x in pkg_config("--libs", "--static") if x != "-lsuture"]),
                ("C++", "g++", ["-xc++", example] + pkg_config("--cflags", "--libs"))):
            if how == "C++" and name != "key":
                continue  # its initialisers are C
            program = os.path.join(place, f"{name}-{how}")
            source = [] if how == "C++" else [example]
            done = run(compiler, "-O2", "-Wall", "-Wextra", "-Werror", *source, *arguments, "-o",
                       program, env=environment)
            if done.returncode == 0:
                done = run(program, env=environment)
            ok(done.returncode == 0, f"{name}, {how}: builds and runs" +
               "".join(f"\n# {x}" for x in done.stdout.splitlines()))
print(f"1..{number}")
sys.exit(failed)
