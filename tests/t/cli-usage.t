#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What the command answers to wrong arguments, and what it says about itself.

Every refusal is one line on standard error that begins with "suture: ", nothing on standard
output, and the documented exit code; the process that was named is as it was.
"""
import os
import re
import signal
import subprocess
import sys
import time

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "../.."))
SUTURE = os.path.join(os.environ.get("BUILD", os.path.join(ROOT, "build")), "suture")
USAGE, PROCESS = 2, 3
count = 0


def report(good, name, *details):
    global count
    count += 1
    print(f"{'ok' if good else 'not ok'} {count} - {name}")
    if not good:
        for detail in details:
            print("#   " + repr(detail))


def suture(*arguments, **how):
    how = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE,
           "timeout": 60, "check": False, **how}
    return subprocess.run([SUTURE, *arguments], **how)


def refused(code, *arguments, says=None):
    """`arguments` are refused with `code`; the line holds the text `says`."""
    run = suture(*arguments)
    error = run.stderr.decode(errors="replace")
    good = (run.returncode == code and run.stdout == b"" and error.startswith("suture: ")
            and error.count("\n") == 1 and error.endswith("\n") and len(error) > 12
            and (says is None or says in error))
    report(good, f"exit {code}: suture {' '.join(map(ascii, arguments))}", run.returncode, run.stdout,
           error)


def start_victim():
    """A process that is asleep for good, with all that it will ever map."""
    victim = subprocess.Popen(["sleep", "600"], stdin=subprocess.DEVNULL)
    while not is_settled(victim.pid):
        time.sleep(0.01)
    return victim


def is_settled(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        asleep = file.read().rsplit(")", 1)[1].split()[0] == "S"
    return asleep and os.path.basename(os.readlink(f"/proc/{pid}/exe")) == "sleep" and \
        "libc.so.6" in state(pid)


def gone_pid():
    child = subprocess.Popen(["true"])
    child.wait()
    return str(child.pid)


def state(pid):
    """What of a process an attach would change."""
    with open(f"/proc/{pid}/maps", encoding="utf-8") as file:
        return file.read()


def check_commands():
    refused(USAGE, says="--help")
    refused(USAGE, "", says="''")
    refused(USAGE, "cuont", says="'cuont'")
    refused(USAGE, "--", says="--help")
    refused(USAGE, "--wrong", says="--wrong")
    refused(USAGE, "-z", says="-z")
    refused(USAGE, "--help=much", says="--help=much")
    refused(USAGE, "help", "cuont", says="'cuont'")
    refused(USAGE, "help", "count", "status")


def check_pid(victim):
    for command, rest in (("count", ["main"]), ("revert", []), ("status", []), ("list", []),
                          ("explain", ["main"])):
        refused(USAGE, command, *rest, says="-p PID")
        refused(USAGE, command, *rest, "-p", says="'-p'")
        for garbage in ("", "0", "-1", "+1", " 1", "1 ", "0x10", "1e3", "1.0", "self", "main",
                        "2147483648", "18446744073709551617", "9" * 400, "\u0661", "1\n"):
            refused(USAGE, command, "-p", garbage, *rest, says="not a process id")
        refused(USAGE, command, "-p", victim, "-p", victim, *rest, says="-p")
        refused(PROCESS, command, "-p", gone_pid(), *rest)
        refused(PROCESS, command, "-p", "2147483647", *rest)


def check_options(victim):
    for command, rest in (("count", ["main"]), ("revert", []), ("status", []), ("list", []),
                          ("explain", ["main"]), ("doctor", [])):
        here = [command, "-p", victim]
        refused(USAGE, *here, *rest, "--wrong", says="--wrong")
        refused(USAGE, *here, *rest, "-z", says="-z")
        refused(USAGE, *here, *rest, "--version", says="--version")
    refused(USAGE, "revert", "-p", victim, "--json", says="--json")
    refused(USAGE, "status", "-p", victim, "--for", "1", says="--for")
    refused(USAGE, "revert", "-p", victim, "main", says="'main'")
    refused(USAGE, "status", "-p", victim, "main", says="'main'")
    refused(USAGE, "doctor", "-p", victim, "main", says="'main'")
    refused(USAGE, "list", "-p", victim, "--for", "1", says="--for")
    refused(USAGE, "explain", "-p", victim, "main", "_start", says="'_start'")
    refused(USAGE, "explain", "-p", victim, says="nothing to explain")
    refused(USAGE, "list", "-p", victim, "", says="empty")
    for command in ("list", "explain"):
        refused(USAGE, command, "-p", victim, "--kinds", "all", "main", says="--kinds")
    here = ["count", "-p", victim, "main"]
    for flag in ("--json", "--no-rseq", "--dry-run"):
        refused(USAGE, *here, flag + "=1", says=flag)
    for option in ("--for", "--interval", "--max-pause", "--kinds", "--pages", "--log",
                   "--specs-from"):
        refused(USAGE, *here, option, says=option)
    for option in ("--for", "--interval", "--max-pause"):
        for garbage in ("", "s", "ms", "-1", "-1s", "+1", " 1", "1 ", "1s ", "1 s", "1S", "1x", "1d",
                        "1min", "1s1", "1m30s", "1,5", ".5", "5.", "1.2.3", "1e3", "0x10", "nan",
                        "inf", "1.0000000001", "9999999999h", "18446744073709551615",
                        "18446744073709551616", "36893488147419103232ms", "9" * 400, "s10"):
            refused(USAGE, *here, option, garbage, says=option)
    for option, short in (("--interval", "0"), ("--interval", "0.009"), ("--interval", "9ms"),
                          ("--max-pause", "0"), ("--max-pause", "0ms"), ("--max-pause", "0.9ns")):
        refused(USAGE, *here, option, short, says=option)
    refused(USAGE, "revert", "-p", victim, "--max-pause", "soon", says="--max-pause")
    refused(USAGE, "status", "-p", victim, "--max-pause", "1s", says="--max-pause")
    refused(USAGE, "revert", "-p", victim, "--dry-run", says="--dry-run")
    for option in ("--log", "--specs-from"):
        refused(USAGE, *here, option, "", says=option)
        refused(USAGE, *here, option, "/dev/null", option, "/dev/null", says=option)
    refused(USAGE, *here, "--specs-from", "/dev/null", says="/dev/null")
    # Nothing was opened yet, so a signal may end it as it ends any command.
    with subprocess.Popen([SUTURE, *here, "--specs-from", "-"], stdin=subprocess.PIPE) as waiting:
        time.sleep(0.3)
        waiting.terminate()
        try:
            ended = waiting.wait(10) == -signal.SIGTERM
        except subprocess.TimeoutExpired:
            ended = False
            waiting.kill()
    report(ended, "--specs-from - that nobody writes to: a signal ends it")
    refused(USAGE, *here, "--specs-from", "/", says="/")
    refused(USAGE, *here, "--specs-from", "/no/such/file", says="/no/such/file")
    for garbage in ("", ",", "pun,", ",pun", "pun,,window", "puns", "pu", "PUN", "pun window",
                    "pun, window", "all", "kernel"):
        refused(USAGE, *here, "--kinds", garbage, says="--kinds")
    for garbage in ("", "0", "-1", "+1", " 1", "1k", "0x10", "1.5", "4294967296", "9" * 400):
        refused(USAGE, *here, "--pages", garbage, says="--pages")


def check_specs(victim):
    here = ["count", "--for", "0", "-p", victim]
    refused(USAGE, *here)
    refused(USAGE, *here, "")
    refused(USAGE, *here, "malloc", "")
    # Malformed; the rest is known to nobody. "malloc" alone would be fine.
    for spec in (":", ":malloc", "libc.so.6:", "libc.so.6:0x", "libc.so.6:0xg", "malloc+", "malloc+0x",
                 "malloc+0xg", "malloc+0x1g", "malloc+0x11111111111111111", "+0x10", "0x",
                 "libc.so.6:0x11111111111111111", "malloc+0x-1", "libc.so.6:malloc+0x1+0x1"):
        refused(USAGE, *here, spec)
    for spec in ("no_such_function_anywhere", "no_such_function_*", "no_such_module:malloc",
                 "libc.so.6:no_such_function", "*no_such_module*:malloc", "malloc\n", "-x"):
        refused(USAGE, *here, "--", spec)
    refused(USAGE, *here, "malloc", "no_such_function_anywhere", says="no_such_function_anywhere")
    # Escape sequences and line feeds in an argument do not reach the terminal.
    run = suture(*here, "a\033[31mb\nc")
    report(run.returncode == USAGE and b"\033" not in run.stderr and run.stderr.count(b"\n") == 1,
           "control characters of an argument are not printed", run.stderr)
    run = suture(*here, b"\xff\xfe")
    report(run.returncode == USAGE and run.stderr.count(b"\n") == 1,
           "bytes that are no text are refused like any other name", run.stderr)


def check_help():
    """Returns the options that the texts mention, and their section of the manual page."""
    options = {"suture": set()}
    run = suture("--help")
    report(run.returncode == 0 and run.stdout.startswith(b"Usage: suture ") and not run.stderr,
           "--help prints a usage text", run)
    options["suture"] |= options_of(run.stdout)
    report(suture("help").stdout == run.stdout, "help prints the same")
    commands = re.findall(r"^  (\w+)  ", run.stdout.decode().split("\nOptions")[0], re.M)
    report(set(commands) == {"count", "revert", "status", "list", "explain", "doctor", "help"}, "--help lists the commands", commands)
    for command in commands:
        run = suture("help", command)
        report(run.returncode == 0 and run.stdout.startswith(f"Usage: suture {command}".encode())
               and not run.stderr, f"help {command} prints its usage text", run)
        options[command] = options_of(run.stdout)
        if command != "help":
            report(suture(command, "--help").stdout == run.stdout, f"{command} --help prints the same")
        lines = run.stdout.decode().splitlines()
        report(max(map(len, lines)) <= 90, f"help {command} fits on a terminal")
    run = suture("count", "-p", "1", "--help")
    report(run.returncode == 0, "--help among other options does nothing but help", run)
    run = suture("--version")
    report(run.returncode == 0 and re.fullmatch(rb"suture \d+\.\d+\.\d+\n", run.stdout)
           and not run.stderr, "--version prints name and version", run)
    return options


def options_of(text):
    return set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", text.decode()))


def check_manual(options):
    with open(os.path.join(ROOT, "man/suture.1"), encoding="utf-8") as file:
        source = file.read()
    # mdoc writes --for as ".Fl -for".
    described = {"-" + name for name in re.findall(r"^\.It Fl ([\w-]+)", source, re.M)}
    documented = set.union(*options.values())
    report(documented <= described, "the manual page describes every option of --help",
           sorted(documented - described))
    report(described <= documented, "--help names every option of the manual page",
           sorted(described - documented))
    report(not re.search(r"[^\x00-\x7f]", source), "the manual page is plain ASCII")
    for command in options:
        report(command == "suture" or re.search(rf"^\.It Cm {command}$", source, re.M),
               f"the manual page describes {command}")
    for code in range(6):
        report(re.search(rf"^\.It {code}$", source, re.M), f"the manual page describes exit status {code}")


def check_output():
    """Output that cannot be written is an error."""
    for arguments in (["--help"], ["--version"], ["help", "count"]):
        with open("/dev/full", "wb") as full:
            run = suture(*arguments, stdout=full)
        report(run.returncode == 1 and run.stderr.count(b"\n") == 1,
               f"{' '.join(arguments)} >/dev/full: exit 1", run)
    # Larger than a buffer, so that writing fails before all is said.
    with open("/dev/full", "wb") as full:
        run = suture("list", "-p", str(os.getpid()), "--json", stdout=full)
    report(run.returncode == 1 and b"cannot write to standard output: No space" in run.stderr,
           "list --json >/dev/full: exit 1, and why", run)
    run = subprocess.run(["sh", "-c", '"$0" --version >&-', SUTURE], stderr=subprocess.PIPE, check=False)
    report(run.returncode == 1, "--version without standard output: exit 1", run)
    run = subprocess.run(["sh", "-c", '"$0" --wrong 2>&-', SUTURE], check=False)
    report(run.returncode == USAGE, "a complaint without standard error: exit 2", run)


def main():
    victim = start_victim()
    try:
        before = state(victim.pid)
        check_commands()
        check_pid(str(victim.pid))
        check_options(str(victim.pid))
        check_specs(str(victim.pid))
        check_manual(check_help())
        check_output()
        report(victim.poll() is None and state(victim.pid) == before, "the process is as it was")
    finally:
        victim.kill()
        victim.wait()
    print(f"1..{count}")


if __name__ == "__main__":
    sys.exit(main())
