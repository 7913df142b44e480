# SPDX-License-Identifier: MIT
"""
Hooks, probes and keys of one's own process beside LLVM XRay, LTTng-UST, uftrace and a kernel
uprobe.

hit      what each adds to a call. All run side by side, each in a process of its own, and are
         measured in turn, a millisecond at a time, so that whatever else the machine does meets
         all of them.
install  1, 100 and 10,000 sites, with 0 and with 16 threads that call the functions meanwhile;
         programs take turns, too.
"""
import shutil
import statistics

from report import failed, head, say, verdict
from servers import *

WIDE = (37, 9, 9, 9, 9, 0)
HIT_WIDE = (37, 8, 8, 9, 9, 6, 0)
SLICE_NS = 1e6


def program(name):
    path = os.path.join(BUILD, "bench", name)
    if not os.path.exists(path):
        raise RuntimeError("was not built")
    return path


# --- a hit ---------------------------------------------------------------------------------------
class Measured:
    """A program that speaks bench/measure.h's protocol."""

    def __init__(self, arguments, user=None, **options):
        self.process = start(arguments, user, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             text=True, bufsize=1, **options)
        self.how, self.calls, self.times = {}, {}, {}
        for line in self.process.stdout:
            if line == "ready\n":
                break
            _, name, how = line.rstrip("\n").split(" ", 2)
            self.how[name] = how
            self.times[name] = []
        else:
            raise RuntimeError("did not start")

    def one(self, name, calls):
        self.process.stdin.write(f"{name} {calls}\n")
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"ended while {name} was measured")
        return float(answer)

    def prepare(self):
        for name in self.times:
            slow = min(self.one(name, 100), self.one(name, 300))
            self.calls[name] = max(100, int(SLICE_NS / max(slow, 0.5)))

    def round(self):
        for name, calls in self.calls.items():
            self.times[name].append(self.one(name, calls))

    def least(self, name):
        return min(self.times[name])


class Own(Measured):
    """With a kernel uprobe on one of its functions, where that is allowed."""

    def __init__(self):
        super().__init__([program("own")])
        elf = Elf(program("own"), ["--defined-only"])
        try:
            self.uprobe = Uprobe(None, elf.path, elf.file_offset(elf.symbols["uprobed"]))
        except OSError as error:
            self.uprobe = None
            del self.times["uprobe"]
            failed("kernel uprobe", error)

    def stop(self):
        if self.uprobe:
            self.uprobe.close()


class Lttng(Measured):
    """A session daemon of its own that writes to memory only: nothing of the machine's LTTng."""
    USER = "nobody"

    def __init__(self):
        with contextlib.ExitStack() as stack:
            place = stack.enter_context(scratch(self.USER))
            self.environment = dict(os.environ, HOME=place, LTTNG_HOME=place,
                                    LTTNG_UST_REGISTER_TIMEOUT="-1")
            self.daemon = start(["lttng-sessiond", "--no-kernel"], self.USER, cwd=place,
                                env=self.environment, stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL)
            stack.callback(end, self.daemon)
            wait_for(lambda: os.path.exists(os.path.join(place, ".lttng/client-lttng-sessiond")),
                     "lttng-sessiond", 10)
            self.lttng("create", "bench", "--snapshot")
            self.lttng("enable-event", "--userspace", "suture_bench:on")
            self.lttng("start")
            # Where that user may not come to the build directory.
            copy = shutil.copy(program("peers/lttng"), place)
            super().__init__([copy], self.USER, cwd=place, env=self.environment,
                             stderr=subprocess.DEVNULL)
            if self.how["lttng_on"] != "enabled":
                raise RuntimeError("the tracepoint was not enabled")
            self.how["lttng_on"] = ""
            self.stack = stack.pop_all()

    def lttng(self, *arguments):
        run(["lttng", "--no-sessiond", *arguments], self.USER, env=self.environment)

    def stop(self):
        end(self.process)
        self.stack.close()


class Uftrace(Measured):
    def __init__(self):
        with contextlib.ExitStack() as stack:
            place = stack.enter_context(scratch())
            super().__init__(["uftrace", "record", "--no-libcall", "-d",
                              os.path.join(place, "data"), program("peers/uftrace")],
                             stderr=subprocess.DEVNULL)
            self.stack = stack.pop_all()

    def stop(self):
        self.process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        self.stack.close()


NOISE_NS = 0.1  # what is as fast as something else is measured to be within that
# What it is, its program, case and bare call there, the goal in nanoseconds over that.
HITS = (
    ("bare call", "own", "bare", "bare", None),
    ("hook", "own", "hook", "bare", 0.7),
    ("hook", "own", "hook_window", "bare_window", 0.7),
    ("hook that calls the original", "own", "hook_original", "bare_wrapped", None),
    ("hook that calls the original", "own", "hook_original_window", "bare_wrapped", None),
    ("probe, C handler", "own", "probe", "bare", 8),
    ("probe, C handler", "own", "probe_window", "bare_window", 8),
    ("probe, handler after", "own", "probe_post", "bare", None),
    ("probe, handler uses vectors", "own", "probe_vector", "bare", None),
    ("probe, missed in a handler", "own", "probe_missed", "bare", None),
    ("probe, no room for a jump", "own", "probe_trap", "bare", None),
    ("five-byte nop", "own", "nop", "no_key", None),
    ("key off", "own", "key_off", "nop", NOISE_NS),
    ("key on", "own", "key_on", "no_key", None),
    ("atomic load and branch", "own", "load_and_branch", "no_key", None),
    ("XRay sled off", "xray", "xray_off", "bare", None),
    ("XRay sled on, entry", "xray", "xray_entry", "bare", None),
    ("XRay sleds on, entry and exit", "xray", "xray_both", "bare", None),
    ("LTTng-UST tracepoint off", "lttng", "lttng_off", "bare", None),
    ("LTTng-UST tracepoint on", "lttng", "lttng_on", "bare", None),
    ("uftrace, entry and exit", "uftrace", "uftrace", "bare", None),
    ("kernel uprobe (counting)", "own", "uprobe", "bare", None),
)
# What measures the same: (ours, theirs).
BESIDE = (("probe", "xray_entry"), ("probe", "lttng_on"), ("probe", "uftrace"), ("probe", "uprobe"))


def hit_programs():
    programs = {}
    for name, make in (("own", Own), ("xray", lambda: Measured([program("peers/xray"), "hits"])),
                       ("lttng", Lttng), ("uftrace", Uftrace)):
        try:
            programs[name] = make()
        except (RuntimeError, OSError) as error:
            failed(name, error)
    return programs


def hit_rounds(programs, rounds):
    for one in programs.values():
        one.prepare()
    for _ in range(rounds):
        for one in programs.values():
            one.round()
    for one in programs.values():
        if hasattr(one, "stop"):
            one.stop()
        end(one.process)


def hit_row(label, one, case, bare, most):
    times = one.times[case]
    over = min(times) - one.least(bare)
    paired = statistics.median(x - y for x, y in zip(times, one.times[bare]))
    goal = verdict(over, most, paired) if most is not None else ""
    how = one.how[case]
    say(label + (f" ({how})" if how else ""), f"{min(times):.2f}",
        f"{statistics.median(times):.2f}", f"{over:.2f}", f"{paired:.2f}",
        f"{min(times) / one.least(bare):.2f}", goal, widths=HIT_WIDE)
    return {"case": case, "how": how, "min_ns": min(times), "median_ns": statistics.median(times),
            "bare_ns": one.least(bare), "over_min_ns": over, "over_median_ns": paired}


def hit(quick):
    print("\ncost of a hit, ns a call; all in turn")
    programs = hit_programs()
    say("", "minimum", "median", "over bare", "(median)", "x bare", "goal", widths=HIT_WIDE)
    hit_rounds(programs, 40 if quick else 300)
    table = [hit_row(label, programs[name], case, bare, most)
             for label, name, case, bare, most in HITS
             if name in programs and case in programs[name].times]
    over = {row["case"]: row["over_min_ns"] for row in table}
    labels = {case: label for label, _, case, _, _ in HITS}
    for ours, theirs in BESIDE:
        if ours in over and theirs in over:
            print(f"  {labels[theirs]}: {over[theirs] / max(over[ours], 0.01):.1f} times what a "
                  f"probe with a C handler costs")
    print("  over bare: minimum over the minimum of the same call without (of key off: of the nop); "
          "median of the\n  differences in a round. x bare: ratio of the minima. Peers have bare "
          "calls of their own.\n  met at best: by the minimum only")
    return table


# --- installation --------------------------------------------------------------------------------
def numbers(arguments):
    """What bench/install and bench/peers/xray print: {name: [values]}."""
    found = {}
    for line in run(arguments).splitlines():
        name, _, values = line.partition(" ")
        found[name] = values if name == "kinds" else [float(value) for value in values.split()]
    return found


def install_runs(sites, threads, runs, repeats):
    """[figures of a run] for each of the kinds, which take turns."""
    programs = {"probe": ("install", "probe"), "hook": ("install", "hook"),
                "XRay sled": ("peers/xray", "install")}
    found = {kind: [] for kind in programs}
    errors = {}
    for _ in range(runs):
        for kind, (name, argument) in programs.items():
            if kind in errors:
                continue
            try:
                found[kind].append(numbers([program(name), argument, str(sites), str(threads),
                                            str(repeats)]))
            except (RuntimeError, OSError, ValueError, subprocess.TimeoutExpired) as error:
                errors[kind] = error
    return found, errors


def per_site(what, walls, cpus, sites, most=None, busy=False):
    """A row. With more threads than CPUs the goal is for CPU time."""
    least, cpu = min(walls) / sites, min(cpus) / sites
    goal = verdict(cpu if busy else least, most) if most is not None else ""
    say(what, f"{min(walls):.1f}", f"{statistics.median(walls):.1f}", f"{least:.3f}",
        f"{cpu:.3f}", goal, widths=WIDE)
    return {"what": what, "sites": sites, "min_us": min(walls),
            "median_us": statistics.median(walls), "cpu_min_us": min(cpus)}


def install_rows(kind, figures, sites, busy):
    ours = kind != "XRay sled"
    most = 1 if sites == 10000 and ours else None
    tag = f"{sites:,} {kind}{'' if sites == 1 else 's'}"

    def every(name):
        return [value for one in figures for value in one[name]]

    def row(what, name, *goal):
        return per_site(f"{tag}: {what}", every(name), every(name + "_cpu"), sites, *goal)
    if not ours:
        return [row("patch", "again"), row("unpatch", "remove")]
    # CPU time of mapping: by the clock it may have waited longer than what it is taken from.
    less = [[one[first][0] - one["map_cpu"][0] for one in figures]
            for first in ("first", "first_cpu")]
    rows = [row("first time", "first"),
            per_site(f"{tag}: first, less mapping", *less, sites, most, busy),
            row("again", "again", most, busy), row("removal", "remove")]
    counts = sorted({int(value) for value in every("pages")})
    pages = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    print(f"  {figures[0]['kinds']}; trampoline pages: {pages}, mapped in "
          f"{min(every('map_cpu')):.0f} us")
    rows[0].update(pages=counts, kinds=figures[0]["kinds"], map_us=every("map_cpu"))
    return rows


def install(quick):
    table, setup = [], {}
    for threads in 0, 16:
        busy = threads >= len(os.sched_getaffinity(0))
        print(f"\ninstallation, us, {threads or 'no'} other threads"
              + (" that call the functions all the time" if threads else ""))
        say("", "minimum", "median", "a site", "its CPU", "goal", widths=WIDE)
        for sites in 1, 100, 10000:
            found, errors = install_runs(sites, threads, 2 if quick else 5,
                                         5 if threads or quick else 15)
            for kind, figures in found.items():
                if kind in errors:
                    failed(f"{sites:,} {kind}", errors[kind])
                elif figures:
                    setup.setdefault(threads, []).extend(
                        value for one in figures for value in one.get("setup", ()))
                    for row in install_rows(kind, figures, sites, busy):
                        table.append({"threads": threads, **row})
    for threads, values in setup.items():
        print(f"  the library's start, in the first call of a process, {threads} threads: "
              f"{min(values):.0f} us at least")
    print("  its CPU: CPU time of the installing thread, a site; with more threads than CPUs the "
          "goals are for that\n"
          "  mapping: as many pages mapped and written to by the program itself, as far apart\n"
          "  XRay: one call for all 10,000, one for each otherwise; its sleds were compiled in, "
          "and threads are not made to see the change")
    return table
