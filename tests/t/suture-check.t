#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""suture-check as people use it: the full run, its tables, JSON, pictures, wrong arguments.

What it must contain is read from where it was promised: the cases from DESIGN.md's table, the
ordering points from port.h, the sources from src/sync and src/patch.
"""
import glob
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "../.."))
BUILD = os.path.abspath(os.environ.get("BUILD", os.path.join(ROOT, "build")))
CHECK = os.path.join(BUILD, "suture-check")
DONE, FAILED, USAGE = 0, 1, 2
LIMIT_SECONDS, LIMIT_BYTES = 180, 2 << 30
MACHINES = ("kirkwood", "arm1136", "arm11mpcore", "cortex-a9", "cortex-a53", "neoverse-n1",
            "neoverse-n1-erratum", "24kc", "interaptiv", "riscv", "x86-64")
VERDICTS = ("holds", "refuted", "n.a.", "incomplete")
# Those of the issue that are no case of DESIGN.md.
SCENARIOS = ("batch-of-two", "hook-stragglers", "probe-cycle", "out-of-line-slot", "jit-modifies",
             "two-patchers", "never-stops", "trap-meanwhile", "exception-in-quiescence")
count = 0


def report(good, name, *details):
    global count
    count += 1
    print(f"{'ok' if good else 'not ok'} {count} - {name}", flush=True)
    if not good:
        for detail in details:
            print("#   " + ascii(detail)[:2000])
    return bool(good)


def note(text):
    print("# " + text, flush=True)


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


def check(*arguments, **how):
    how = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE,
           "timeout": LIMIT_SECONDS, "check": False, **how}
    return subprocess.run([CHECK, *arguments], **how)


def refused(code, *arguments, says=None):
    """One line on standard error that holds `says`, nothing on standard output."""
    run = check(*arguments)
    error = run.stderr.decode(errors="replace")
    report(run.returncode == code and run.stdout == b"" and error.startswith("suture-check: ")
           and error.count("\n") == 1 and error.endswith("\n") and (says is None or says in error),
           f"exit {code}: suture-check {' '.join(map(ascii, arguments))[:90]}", run.returncode,
           run.stdout[:200], error)


# --- JSON ------------------------------------------------------------------------------------

TEXT, WHOLE, NUMBER, YES_NO, NOTHING = str, int, (int, float), bool, type(None)
CHANGE = {"place": TEXT, "holds": TEXT, "stale": YES_NO}
ROW = {"step": WHOLE, "core": (int, NOTHING), "what": TEXT, "changes": [CHANGE],
       "violation": YES_NO}
TRACE = {"cores": WHOLE, "roles": [TEXT], "rows": [ROW], "property": TEXT}
RESULT = {"machine": TEXT, "scenario": TEXT, "case": (str, NOTHING), "mutant": (str, NOTHING),
          "verdict": TEXT, "expected": (str, NOTHING), "reason": (str, NOTHING), "states": WHOLE,
          "steps": WHOLE, "ms": NUMBER, "memory": WHOLE, "trace": (TRACE, NOTHING)}
SUMMARY = {"verdicts": WHOLE, "holds": WHOLE, "refuted": WHOLE, "not_applicable": WHOLE,
           "incomplete": WHOLE, "unexpected": WHOLE, "as_expected": YES_NO, "states": WHOLE,
           "steps": WHOLE, "ms": NUMBER, "memory": WHOLE, "jobs": WHOLE}
OUTCOME = {"version": TEXT, "sources": [TEXT], "results": [RESULT], "summary": SUMMARY}
LIST = {"version": TEXT, "sources": [TEXT],
        "machines": [{"name": TEXT, "what": TEXT, "source": TEXT}],
        "scenarios": [{"name": TEXT, "what": TEXT, "case": (str, NOTHING)}],
        "mutants": [{"name": TEXT, "what": TEXT, "machine": TEXT, "scenario": TEXT,
                     "historical": YES_NO}]}


def unlike(value, form, where="it"):
    """What of `value` has not the documented form, or None. Members may be added, none taken."""
    if isinstance(form, tuple):
        tried = [unlike(value, one, where) for one in form]
        return None if None in tried else tried[0]
    if isinstance(form, list):
        if not isinstance(value, list):
            return f"{where} is no array"
        return next(filter(None, (unlike(item, form[0], f"{where}[{i}]")
                                  for i, item in enumerate(value))), None)
    if isinstance(form, dict):
        if not isinstance(value, dict):
            return f"{where} is no object"
        missing = sorted(form.keys() - value.keys())
        if missing:
            return f"{where} lacks {missing}"
        return next(filter(None, (unlike(value[key], form[key], f"{where}.{key}")
                                  for key in form)), None)
    good = isinstance(value, form) and (form is bool or not isinstance(value, bool))
    return None if good else f"{where} is {value!r}"


def trace_wrong(result):
    """What a result's trace lacks, beyond its form, or None."""
    trace = result["trace"]
    if (trace is None) != (result["verdict"] != "refuted"):
        return "a trace belongs to a refutation"
    if trace is None:
        return None
    rows = trace["rows"]
    if not trace["property"] or len(trace["roles"]) != trace["cores"] or not rows:
        return "no property, roles or rows"
    if [row["step"] for row in rows] != list(range(1, len(rows) + 1)):
        return "steps are not numbered from 1"
    if [row["violation"] for row in rows] != [False] * (len(rows) - 1) + [True]:
        return "the violation is the last step, and no other"
    if any(row["core"] is not None and not 0 <= row["core"] < trace["cores"] for row in rows):
        return "a step of a core that there is not"
    if rows[-1]["core"] is None:
        return "nobody violates"
    if any(not row["what"] for row in rows):
        return "a step that does nothing"
    return None


def run_json(*arguments):
    """The exit status, and the object or None."""
    run = check("--json", *arguments)
    try:
        return run.returncode, json.loads(run.stdout)
    except ValueError:
        return run.returncode, None


def place(result):
    return f"{result['scenario']} on {result['machine']}" + \
        (f", {result['mutant']}" if result["mutant"] else "")


def essence(results):
    """What does not depend on how fast they came."""
    return {place(r): (r["verdict"], r["states"], r["steps"], r["memory"], r["trace"])
            for r in results}


# --- the full run ----------------------------------------------------------------------------

def full_run():
    """All verdicts, or None."""
    start = time.monotonic()
    with tempfile.TemporaryFile() as out:
        child = subprocess.Popen([CHECK, "--json", "--jobs", "2"], stdin=subprocess.DEVNULL,
                                 stdout=out, stderr=subprocess.PIPE)
        signal.signal(signal.SIGALRM, lambda *_: child.kill())
        signal.alarm(LIMIT_SECONDS)
        error = child.stderr.read()
        _, status, usage = os.wait4(child.pid, 0)
        signal.alarm(0)
        child.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - start
        out.seek(0)
        text = out.read()
    peak = usage.ru_maxrss * 1024
    report(child.returncode == DONE and error == b"",
           "all of it: exit 0, nothing on standard error", child.returncode, error)
    note(f"{seconds:.1f} s, {usage.ru_utime + usage.ru_stime:.1f} s of one CPU, "
         f"{peak >> 20} MiB at the peak")
    report(peak < LIMIT_BYTES, "peak memory is below 2 GiB", peak)
    try:
        outcome = json.loads(text)
    except ValueError:
        report(False, "standard output is JSON", text[:200])
        return None
    wrong = unlike(outcome, OUTCOME)
    if not report(wrong is None, "the JSON has the form that the manual page describes", wrong):
        return None
    return outcome


def check_outcome(outcome):
    results, summary = outcome["results"], outcome["summary"]
    tally = [sum(r["verdict"] == verdict for r in results) for verdict in VERDICTS]
    unexpected = [place(r) for r in results if r["verdict"] != r["expected"]]
    report(not unexpected, "every verdict is the expected one", unexpected)
    report(tally == [summary[key] for key in ("holds", "refuted", "not_applicable", "incomplete")]
           and summary["verdicts"] == len(results) and tally[3] == 0 and summary["unexpected"] == 0
           and summary["as_expected"] is True, "the summary counts the verdicts", tally, summary)
    report(summary["states"] == sum(r["states"] for r in results)
           and summary["steps"] == sum(r["steps"] for r in results), "and states, and steps", summary)
    report(len({place(r) for r in results}) == len(results), "no verdict is there twice")
    wrong = [(place(r), trace_wrong(r)) for r in results if trace_wrong(r)]
    report(not wrong, "each refutation has a counterexample that ends with the violation", wrong)
    silent = [place(r) for r in results if (r["verdict"] == "n.a.") != bool(r["reason"])]
    report(not silent, "n.a. has a reason, and nothing else has", silent)
    empty = [place(r) for r in results if r["verdict"] == "holds" and not r["states"]]
    report(not empty, "what holds has been searched", empty)


def check_shipped(outcome, names):
    shipped = [r for r in outcome["results"] if not r["mutant"]]
    report({(r["scenario"], r["machine"]) for r in shipped} ==
           {(s["name"], m["name"]) for s in names["scenarios"] for m in names["machines"]},
           "as shipped, every scenario runs on every machine")
    wrong = [place(r) for r in shipped if r["verdict"] not in ("holds", "n.a.")]
    report(not wrong, "and holds, or says why it can not exist there", wrong)
    idle = [s["name"] for s in names["scenarios"] if not any(
        r["verdict"] == "holds" for r in shipped if r["scenario"] == s["name"])]
    report(not idle, "no scenario is impossible everywhere", idle)


def check_mutants(outcome, names):
    results = {r["mutant"]: r for r in outcome["results"] if r["mutant"]}
    for mutant in names["mutants"]:
        result = results.get(mutant["name"])
        good = result and result["verdict"] == result["expected"] and \
            (result["machine"], result["scenario"]) == (mutant["machine"], mutant["scenario"])
        # A bug that was in the field is never harmless.
        good = good and result["verdict"] in (["refuted"] if mutant["historical"]
                                              else ["refuted", "holds"])
        report(good, f"mutant {mutant['name']}: {result['verdict'] if result else 'missing'} in "
               f"{mutant['scenario']} on {mutant['machine']}", result)
    report(results.keys() == {m["name"] for m in names["mutants"]}, "the list has all mutants")
    linux = results.get("linux-arm-sequence", {"machine": "", "trace": None})
    report(linux["machine"] == "kirkwood" and linux["trace"]
           and "data read" in linux["trace"]["property"],
           "Linux' arm sequence is refuted on kirkwood by a stale data read", linux)
    points = re.findall(r"^\tPORT_POINT_(\w+),", read("src/port/port.h"), re.M)
    points = [point for point in points if point not in ("NONE", "COUNT")]
    report(len(points) >= 19, "port.h has ordering points", points)
    for point in points:
        name = "without-" + point.lower().replace("_", "-")
        report(results.get(name, {}).get("verdict") == "refuted", f"{point}: {name} is refuted")


# --- what it must contain ----------------------------------------------------------------------

def check_names(names):
    machines = [m["name"] for m in names["machines"]]
    for machine in MACHINES:
        report(machine in machines, f"there is a machine {machine}")
    silent = [m["name"] for m in names["machines"] if not m["what"] or not m["source"]]
    report(not silent, "every machine says what it is, and from which manual", silent)
    silent = [e["name"] for e in names["scenarios"] + names["mutants"] if not e["what"]]
    report(not silent, "every scenario and mutant has a sentence", silent)
    scenarios = [s["name"] for s in names["scenarios"]]
    for scenario in SCENARIOS:
        report(scenario in scenarios, f"there is a scenario {scenario}")
    table = read("DESIGN.md").split("## The problem, case by case")[1].split("\n\n**")[0]
    cases = re.findall(r"^\| `([a-z-]+)` \|", table, re.M)
    report(len(cases) >= 12 and {"self-patching", "visible-everywhere"} <= set(cases),
           "DESIGN.md has a table of cases", cases)
    for case in cases:
        about = [s["name"] for s in names["scenarios"] if s["case"] == case]
        report(about, f"case {case}: {', '.join(about)}")
    unknown = {s["case"] for s in names["scenarios"]} - set(cases) - {None}
    report(not unknown, "no scenario is about a case that DESIGN.md does not have", unknown)


def compiled_in(file):
    """Sources of the protocol that the debugging information of a file names."""
    run = subprocess.run(["objdump", "--dwarf=info", "--dwarf-depth=1", file],
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8",
                         errors="replace", check=False)
    found = re.findall(r"DW_AT_name\s*:.*?(\S+\.c)\s*$", run.stdout, re.M)
    found = {os.path.relpath(os.path.join(ROOT, name), ROOT) for name in found}
    return {name for name in found if name.startswith(("src/sync/", "src/patch/"))}


def check_sources(sources):
    here = {os.path.relpath(name, ROOT) for where in ("sync", "patch")
            for name in glob.glob(os.path.join(ROOT, "src", where, "*.c"))}
    report(set(sources) == here and len(sources) == len(here),
           "the sources that it names are those of src/sync and src/patch, all of them",
           sources, sorted(here))
    unbuilt = [name for name in here
               if not os.path.exists(os.path.join(BUILD, name[:-2] + ".o"))]
    report(not unbuilt, "the library is built from each of them", unbuilt)
    for file in ("libsuture.a", "suture-check"):
        found = compiled_in(os.path.join(BUILD, file))
        if not found:
            note(f"{file} has no debugging information")
            found = here
        report(found == here, f"{file} is made of the very same", sorted(found))


# --- selections, tables ------------------------------------------------------------------------

def check_selections(outcome):
    whole = essence(outcome["results"])
    for arguments in (["--machine", "kirkwood,x86-64", "--scenario", "late-trap"],
                      ["--machine", "24kc"], ["--scenario", "late-trap,foreign-bytes"],
                      ["--mutant", "all", "--machine", "kirkwood", "--scenario", "foreign-bytes"],
                      ["--mutant", "without-clean,erratum-1542419"]):
        status, part = run_json(*arguments)
        good = status == DONE and part and unlike(part, OUTCOME) is None
        belong = essence(part["results"]) if good else {}
        if "--mutant" in arguments and "--machine" in arguments:
            good = good and {r["mutant"] for r in part["results"]} == \
                {r["mutant"] for r in outcome["results"]} - {None} and \
                all(r["expected"] is None or place(r) in whole for r in part["results"])
        else:
            good = good and all(whole.get(name) == result for name, result in belong.items())
        report(good and belong, f"{' '.join(arguments)}: those, with the same results", status,
               list(belong))
    status, part = run_json("--machine", "all", "--scenario", "foreign-bytes")
    report(status == DONE and len(part["results"]) == len(MACHINES), "all: all of them", status)


def check_jobs(outcome):
    slow = {r["scenario"] for r in outcome["results"] if r["ms"] > 250} | \
        {r["mutant"] for r in outcome["results"] if r["ms"] > 250}
    whole = essence(outcome["results"])
    scenarios = sorted({r["scenario"] for r in outcome["results"]} - slow)
    mutants = sorted({r["mutant"] for r in outcome["results"]} - slow - {None})
    for jobs in ("1", "3"):
        same, compared, order = True, 0, []
        for option, names in (("--scenario", scenarios), ("--mutant", mutants)):
            status, part = run_json("--jobs", jobs, option, ",".join(names))
            part = part["results"] if part else []
            order += map(place, part)
            compared += len(part)
            same = same and status == DONE and all(whole[name] == result for name, result in
                                                   essence(part).items())
        report(same and compared > 200, f"--jobs {jobs}: the same verdicts, states, steps and "
               "counterexamples as with two", compared)
        report(order == [name for name in map(place, outcome["results"]) if name in set(order)],
               f"--jobs {jobs}: and in the same order")


def check_text():
    run = check("--machine", "kirkwood,x86-64", "--scenario", "late-trap,endian")
    text = run.stdout.decode()
    report(run.returncode == DONE and run.stderr == b"" and
           all(word in text for word in ("kirkwood", "x86-64", "late-trap", "endian", "n.a.")),
           "a table has machines and scenarios", text)
    report(re.search(r"^4 verdicts, all as expected; \S+ states, \d+ MiB at the peak, .*s$", text, re.M),
           "and ends with a line that sums up", text)
    report("src/sync/quiesce.c" in text and "src/patch/trap.c" in text, "and names the sources", text)
    report(max(map(len, text.splitlines())) <= 100, "and fits in 100 columns", text)
    run = check("--quiet", "--machine", "kirkwood", "--scenario", "late-trap,endian")
    report(run.returncode == DONE and run.stdout.count(b"\n") == 1 and run.stderr == b"",
           "--quiet: the summary alone", run.stdout)
    run = check("--verbose", "--scenario", "endian")
    report(run.returncode == DONE and all(len(re.findall(rf" {re.escape(m)} ", run.stdout.decode())) >= 1
                                          for m in MACHINES),
           "--verbose: a line for each verdict", run.stdout)


def check_timeline(locale):
    run = check("--mutant", "linux-arm-sequence", env=dict(os.environ, LC_ALL=locale))
    text = run.stdout.decode()
    report(run.returncode == DONE and "Counterexample: alias-stale-dcache on kirkwood" in text,
           f"{locale}: --mutant linux-arm-sequence shows the counterexample", text)
    report(locale != "C" or text.isascii(), f"{locale}: in characters that there are", text)
    table = text.partition("Counterexample")[2].partition("VIOLATED: ")
    last = " ".join(re.sub("[|\u2502]", " ", re.split(r"\n +\d+ ", table[0])[-1]).split())
    report(re.search("^=> .*(reads? .*(old|before))", last),
           "its last step is the data read that finds what was there before", last)
    report("a data read of the patched text finds what was there before" in
           " ".join(table[2].split("\n\n")[0].split()), "then comes the property", table[2])
    report(table[0].count("=> ") == 1, "one step is marked")
    report("(stale)" in table[0] and "D-cache, exec" in table[0], "the stale line is named", table[0])
    report(re.search(r"thread 0: \S+", table[0]), "a column has a name", table[0])


def check_single():
    run = check("--mutant", "linux-arm-sequence", "--quiet")
    report(run.returncode == DONE and run.stdout.count(b"\n") == 1, "not with --quiet", run.stdout)
    run = check("--mutant", "linux-arm-sequence", "--machine", "cortex-a53", "--json")
    results = json.loads(run.stdout)["results"]
    report(run.returncode == DONE and len(results) == 1 and results[0]["expected"] is None
           and results[0]["machine"] == "cortex-a53", "elsewhere nothing is expected of a mutant", results)


def on_terminal(*arguments, interrupt=None):
    """Standard error is a terminal: exit status, standard output, what the terminal got."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen([CHECK, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=theirs)
    os.close(theirs)
    shown, end = b"", time.monotonic() + LIMIT_SECONDS
    try:
        while time.monotonic() < end and select.select([ours], [], [], 10)[0]:
            shown += os.read(ours, 65536)
            if interrupt and shown:
                child.send_signal(interrupt)
                interrupt = None
    except OSError:  # it is gone
        pass
    finally:
        os.close(ours)
    out = child.communicate(timeout=LIMIT_SECONDS)[0]
    return child.returncode, out, shown


def without_figures(text):
    """Words, but for time and memory."""
    return re.sub(rb"[\d.]+ (ms|s|MiB)\b", b"", text).split()


def check_progress():
    arguments = ["--scenario", "key-quiesce", "--machine", "cortex-a53,riscv"]
    plain = without_figures(check(*arguments).stdout)
    status, out, shown = on_terminal(*arguments)
    report(status == DONE and re.match(rb"\r\033\[Ksuture-check: \d/2, \d+ s", shown) and
           shown.endswith(b"\r\033[K") and b"\n" not in shown,
           "a terminal is shown how far it is, on one line that goes away", shown)
    report(without_figures(out) == plain, "standard output is what it is otherwise", out)
    report(on_terminal("--quiet", *arguments)[2] == b"", "--quiet shows nothing")
    status, out, shown = on_terminal(interrupt=signal.SIGINT)
    report(status == -signal.SIGINT and shown.endswith(b"\r\033[K") and out == b"",
           "interrupted, it dies of the signal and leaves no half line", status, shown[-80:])


# --- pictures ----------------------------------------------------------------------------------

def check_picture(file, result):
    """The picture of a result is a picture, and harmless."""
    name = f"the picture of {place(result)}"
    check("--mutant", result["mutant"], "--quiet", "--svg", file)
    try:
        root = xml.etree.ElementTree.parse(file).getroot()
    except (OSError, xml.etree.ElementTree.ParseError) as error:
        report(False, f"{name} is XML", str(error))
        return
    with open(file, encoding="utf-8") as opened:
        source = opened.read()
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    links = [key for element in root.iter() for key in element.attrib
             if key.rpartition("}")[2].lower() in ("href", "src") or key.lower().startswith("on")]
    text = " ".join(" ".join(e.itertext()) for e in root.iter() if e.tag.endswith("}text"))
    text = " ".join(text.split())
    report(root.tag == "{http://www.w3.org/2000/svg}svg" and root.get("viewBox") and
           tags <= {"svg", "title", "desc", "style", "rect", "text", "line", "path", "g",
                    "polygon", "circle", "tspan", "defs", "marker"} and not links and
           "javascript" not in source.lower() and "@import" not in source and "url(" not in source,
           f"{name} is SVG, without scripts and links", sorted(tags), links)
    report(result["trace"]["property"] in text, f"{name} has the property in it", text[-300:])
    missing = [row["what"] for row in result["trace"]["rows"] if row["what"] not in text]
    report(not missing, f"{name} has every step", missing)
    width, height = (float(root.get(key)) for key in ("width", "height"))
    outside = [e.attrib for e in root.iter() if e.tag.endswith("}rect") and not (
        0 <= float(e.get("x", 0)) and float(e.get("x", 0)) + float(e.get("width")) <= width and
        0 <= float(e.get("y", 0)) and float(e.get("y", 0)) + float(e.get("height")) <= height)]
    report(not outside, f"{name} has nothing outside", outside[:3])


def check_pictures(outcome, scratch):
    refuted = {r["mutant"]: r for r in outcome["results"] if r["verdict"] == "refuted"}
    file = os.path.join(scratch, "picture.svg")
    for mutant in ("linux-arm-sequence", "interrupt-while-masked", "without-lock", "trap-lookup-once",
                   "without-clean", "endian-halfwords", "two-halfword-stores"):
        if mutant in refuted:
            check_picture(file, refuted[mutant])
    run = check("--mutant", "linux-arm-sequence", "--svg", file, "--json")
    report(run.returncode == DONE and json.loads(run.stdout)["summary"]["refuted"] == 1,
           "--svg goes with --json", run.returncode)
    for where, why in ((os.path.join(scratch, "none", "x.svg"), "No such file"),
                       (scratch, "Is a directory"), ("/dev/full", "No space left")):
        run = check("--quiet", "--mutant", "linux-arm-sequence", "--svg", where)
        report(run.returncode == FAILED and run.stderr.count(b"\n") == 1
               and why.encode() in run.stderr, f"--svg where it can not be written ({why}): exit 1",
               run.returncode, run.stderr)
    for arguments, why in ((["--mutant", "without-clean,without-lock"], "more than one"),
                           (["--scenario", "endian", "--machine", "kirkwood"], "no counterexample"),
                           (["--mutant", "icache-only-idc"], "no counterexample")):
        untouched = os.path.join(scratch, "untouched.svg")
        run = check("--quiet", *arguments, "--svg", untouched)
        report(run.returncode == USAGE and run.stderr.count(b"\n") == 1 and
               why.encode() in run.stderr and not os.path.exists(untouched),
               f"--svg with {why}: exit 2, nothing is drawn", run.returncode, run.stderr)


# --- the command line ----------------------------------------------------------------------------

def check_arguments():
    for option, kind in (("--machine", "machine"), ("--scenario", "scenario"), ("--mutant", "mutant")):
        refused(USAGE, option, "no-such-thing-at-all", says=f"no {kind} 'no-such-thing-at-all'")
        refused(USAGE, option, "all,no-such-thing", says="no-such-thing")
        refused(USAGE, option, says=option)
        for garbage in ("", ",", "kirkwood,,", ",all", "a" * 100000, "a\033[31mb\nc", b"\xff\xfe"):
            refused(USAGE, option, garbage)
    refused(USAGE, "--machine", "kirkwod", says="kirkwood")
    refused(USAGE, "--scenario", "late-trp", says="late-trap")
    refused(USAGE, "--machine", "Kirkwood", says="kirkwood")
    refused(USAGE, "--mutant", "linux-arm", says="linux-arm-sequence")
    for garbage in ("", "0", "-1", "+1", " 1", "1 ", "2x", "0x2", "1e1", "1.5", "1025",
                    "18446744073709551617", "9" * 400, "\u0661", "two"):
        refused(USAGE, "--jobs", garbage, says="--jobs")
    for option in ("--jobs", "-j", "--svg"):
        refused(USAGE, option, says=option)
    for option in ("--list", "--json", "--quiet", "--verbose", "--help", "--version"):
        refused(USAGE, option + "=1", says=option)
    refused(USAGE, "--wrong", says="--wrong")
    refused(USAGE, "--m", "x", says="--m")
    refused(USAGE, "-z", says="-z")
    refused(USAGE, "-qz", says="-z")
    refused(USAGE, "--json", "-zq", says="-z")
    for garbage in ("kirkwood", "", "-", "a\033[31mb"):
        refused(USAGE, garbage, says="unexpected argument")
    refused(USAGE, "--", "--list", says="--list")
    refused(USAGE, "--svg", "x.svg", says="--svg")
    refused(USAGE, "--svg", "", "--mutant", "all", says="--svg")
    refused(USAGE, "--list", "--machine", "kirkwood", says="--list")
    refused(USAGE, "--list", "--svg", "x.svg", says="--list")
    run = check("--machine", "a\033[31mb\nc")
    report(b"\033" not in run.stderr, "control characters of an argument are not printed", run.stderr)


def check_help():
    run = check("--help")
    text = run.stdout.decode()
    report(run.returncode == DONE and text.startswith("Usage: suture-check ") and not run.stderr,
           "--help prints a usage text", run)
    report(check("-h").stdout == run.stdout, "-h prints the same")
    report(max(map(len, text.splitlines())) <= 100, "--help fits in 100 columns")
    named = set(re.findall(r"(?<![\w-])--[a-z]+", text))
    page = read("man/suture-check.1")
    described_litmus = page.index(".Sh LITMUS TESTS")  # tests/t/litmus.t looks at that
    described = {"--" + name for name in re.findall(r"^\.It .*?Fl -(\w+)", page[:described_litmus], re.M)}
    report(named == described, "--help and the manual page have the same options",
           sorted(named ^ described))
    for code in (DONE, FAILED, USAGE):
        report(re.search(rf"^\.It {code}$", page, re.M), f"the manual page describes exit status {code}")
    run = check("--version")
    report(run.returncode == DONE and re.fullmatch(rb"suture-check \d+\.\d+\.\d+\n", run.stdout),
           "--version prints name and version", run)


def check_list(names):
    run = check("--list")
    text = run.stdout.decode()
    missing = [e["name"] for kind in ("machines", "scenarios", "mutants") for e in names[kind]
               if not re.search(rf"^  {re.escape(e['name'])}$", text, re.M)]
    report(run.returncode == DONE and not missing and not run.stderr, "--list has all names", missing)
    report(all(f"  {source}\n" in text for source in names["sources"]), "and the sources")
    report(max(map(len, text.splitlines())) <= 100, "and fits in 100 columns")
    entry = re.search(r"^  icache-only-idc\n((?:      .*\n)+)", text, re.M)
    report(entry and "refuted on" not in entry[1], "of a harmless mutant it does not say that it is refuted",
           entry and entry[1])


def check_output():
    """Output that cannot be written is an error."""
    for arguments in (["--help"], ["--version"], ["--list"], ["--list", "--json"],
                      ["--scenario", "endian"], ["--scenario", "endian", "--json"],
                      ["--scenario", "endian", "--quiet"]):
        with open("/dev/full", "wb") as full:
            run = check(*arguments, stdout=full)
        report(run.returncode == FAILED and run.stderr.count(b"\n") == 1,
               f"{' '.join(arguments)} >/dev/full: exit 1", run)
    run = subprocess.run(["sh", "-c", '"$0" --scenario endian >&-', CHECK], stderr=subprocess.PIPE,
                         timeout=60, check=False)
    report(run.returncode == FAILED, "without standard output: exit 1", run)
    run = subprocess.run(["sh", "-c", '"$0" --wrong 2>&-', CHECK], timeout=60, check=False)
    report(run.returncode == USAGE, "a complaint without standard error: exit 2", run)


def main():
    status, names = run_json("--list")
    wrong = unlike(names, LIST) if names else "no JSON"
    if report(status == DONE and wrong is None, "--list --json has its documented form", wrong):
        outcome = full_run()
        check_names(names)
        check_sources(names["sources"])
        check_list(names)
        if outcome:
            report(outcome["sources"] == names["sources"], "a run names the same sources")
            check_outcome(outcome)
            check_shipped(outcome, names)
            check_mutants(outcome, names)
            check_selections(outcome)
            check_jobs(outcome)
            with tempfile.TemporaryDirectory(prefix="suture-test-") as scratch:
                check_pictures(outcome, scratch)
    check_text()
    check_timeline("C.UTF-8")
    check_timeline("C")
    check_single()
    check_progress()
    check_arguments()
    check_help()
    check_output()
    print(f"1..{count}")


if __name__ == "__main__":
    sys.exit(main())
