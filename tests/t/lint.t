#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The rules of the house hold, and tools/lint-layers notices when one is broken."""
import os
import shutil
import subprocess
import tempfile

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "../.."))
LINT = os.path.join(ROOT, "tools/lint-layers")
# Not spelled out: this file is linted too.
WORK = "/" + "work"
count = 0


def report(good, name, *details):
    global count
    count += 1
    print(f"{'ok' if good else 'not ok'} {count} - {name}")
    for detail in details:
        if not good:
            print("\n".join("#   " + line for line in str(detail).splitlines()))


def lint(*arguments):
    run = subprocess.run([LINT, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                         encoding="utf-8", check=False)
    return run.returncode, run.stdout


def check_ourselves():
    for check in ("layers", "spdx", "length", "paths"):
        status, output = lint("--root", ROOT, check)
        report(status == 0, f"{check}: nothing found in this tree", output)


def check_format():
    global count
    if not shutil.which("clang-format"):
        count += 1
        print(f"ok {count} # SKIP clang-format is not installed")
        return
    names = subprocess.run(["git", "-C", ROOT, "ls-files", "-co", "--exclude-standard", "*.c",
                            "*.h"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                           encoding="utf-8", check=False).stdout.split()
    if not names:
        names = [os.path.relpath(os.path.join(place, name), ROOT)
                 for top in ("src", "include", "tests")
                 for place, _, files in os.walk(os.path.join(ROOT, top))
                 for name in files if name.endswith((".c", ".h"))]
    names = [name for name in names if os.path.isfile(os.path.join(ROOT, name))]
    run = subprocess.run(["clang-format", "--dry-run", "-Werror", *names], cwd=ROOT,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8",
                         check=False)
    # One line a file; clang-format has the details.
    wrong = sorted({line.split(":")[0] for line in run.stdout.splitlines() if ": error:" in line})
    report(run.returncode == 0, "clang-format has nothing to change",
           "make format changes: " + " ".join(wrong))


HEADERS = ["src/isa/isa.h", "src/isa/x86.h", "src/port/port.h", "src/port/ptrace/ptrace.h",
           "src/sync/sync.h", "src/patch/patch.h", "src/tramp/tramp.h", "src/module/module.h",
           "src/api/probe.h", "src/cli/cli.h", "include/suture/target.h"]

# File, include line, whether it is allowed.
INCLUDES = [
    ("src/isa/a.c", '"isa/isa.h"', True),
    ("src/isa/a.c", "<string.h>", True),
    ("src/isa/a.c", '"port/port.h"', False),
    ("src/isa/a.c", '"../port/port.h"', False),
    ("src/isa/a.c", "<suture/target.h>", False),
    ("src/module/a.c", '"isa/isa.h"', True),
    ("src/module/a.c", '"module/module.h"', True),
    ("src/module/a.c", '"tramp/tramp.h"', False),
    ("src/port/ptrace/a.c", '"port/port.h"', True),
    ("src/port/ptrace/a.c", '"ptrace.h"', True),
    ("src/port/ptrace/a.c", "<sys/ptrace.h>", True),
    ("src/port/ptrace/a.c", '"isa/isa.h"', False),
    ("src/port/ptrace/a.c", '"sync/sync.h"', False),
    ("src/port/ptrace/a.c", '"patch/patch.h"', False),
    ("src/port/ptrace/a.c", '"../../api/probe.h"', False),
    ("src/sync/a.c", '"isa/isa.h"', True),
    ("src/sync/a.c", '"port/port.h"', True),
    ("src/sync/a.c", '"sync.h"', True),
    ("src/sync/a.c", "<stdint.h>", True),
    ("src/sync/a.c", "<string.h>", False),
    ("src/sync/a.c", '"isa/x86.h"', False),
    ("src/sync/a.c", '"port/ptrace/ptrace.h"', False),
    ("src/sync/a.c", '"patch/patch.h"', False),
    ("src/patch/a.c", '"sync/sync.h"', True),
    ("src/patch/a.c", '"tramp/tramp.h"', False),
    ("src/patch/a.c", '"module/module.h"', False),
    ("src/tramp/a.c", '"port/port.h"', True),
    ("src/tramp/a.c", '"module/module.h"', False),
    ("src/tramp/a.c", '"sync/sync.h"', False),
    ("src/api/a.c", '"patch/patch.h"', True),
    ("src/api/a.c", '"module/module.h"', True),
    ("src/api/a.c", "<suture/target.h>", True),
    ("src/api/a.c", '"sync/sync.h"', False),
    ("src/api/a.c", '"cli/cli.h"', False),
    ("src/cli/a.c", '"cli/cli.h"', True),
    ("src/cli/a.c", "<suture/target.h>", True),
    ("src/cli/a.c", '"api/probe.h"', False),
    ("src/cli/a.c", "  \"isa/isa.h\"", False),
    ("include/suture/a.h", "<suture/target.h>", True),
    ("include/suture/a.h", '"isa/isa.h"', False),
    ("include/suture/a.h", '"../../src/isa/isa.h"', False),
    ("src/api/a.c", '"nowhere.h"', False),
    ("src/api/a.c", "HEADER", False),
]


def write(root, name, text):
    path = os.path.join(root, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def in_made_up_tree(files, check):
    """Lint a tree of the usual headers and `files`."""
    with tempfile.TemporaryDirectory() as root:
        for name in HEADERS:
            write(root, name, "/* SPDX-License-Identifier: MIT */\n")
        for name, text in files.items():
            write(root, name, text)
        return lint("--root", root, check)


def check_lint():
    for name, included, allowed in INCLUDES:
        text = f"// SPDX-License-Identifier: MIT\n\n#include {included}\n"
        status, output = in_made_up_tree({name: text}, "layers")
        good = status == 0 if allowed else status == 1 and output.startswith(f"{name}:3: ")
        verdict = "may" if allowed else "must not"
        report(good, f"lint: {name} {verdict} include {included.strip()}", status, output)
    single = [
        ("layers", "src/other/a.c", "\n", "is in no layer", True),
        ("spdx", "src/isa/a.c", "int a;\n", "has no SPDX line", True),
        ("spdx", "src/isa/a.c", "// SPDX-License-Identifier: MIT\n", "has one", False),
        ("length", "src/isa/a.c", "\n" * 700, "has 700 lines", True),
        ("length", "src/isa/a.c", "\n" * 699, "has 699 lines", False),
        ("paths", "README.md", f"cd {WORK}/main\n", "names a path of one machine", True),
        ("paths", "a.sh", "ls /tmp/" + "bash_jobs.0\n", "names a job directory", True),
        ("paths", "README.md", "net" + WORK + "er, a" + WORK + "\n", "only looks like it", False),
    ]
    for check, name, text, what, wrong in single:
        status, output = in_made_up_tree({name: text}, check)
        report(status == int(wrong), f"lint: {check}: {name} {what}", status, output)


check_ourselves()
check_format()
check_lint()
print(f"1..{count}")
