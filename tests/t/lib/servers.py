# SPDX-License-Identifier: MIT
"""
Private servers, a suture in the background, and independent counters for the count-* tests.

Every server listens on a free loopback port or a socket in a directory of its own, runs as an
ordinary user where it insists, is waited for with a limit, dies with the test, and leaves
nothing behind. Packaged services are neither needed nor touched.
"""
import atexit
import contextlib
import ctypes
import json
import os
import pwd
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

BUILD = os.environ.get("BUILD") or os.path.join(os.path.dirname(__file__), "../../../build")
SUTURE = os.path.join(BUILD, "suture")
LIMIT = 40  # seconds that any single wait may take


# --- TAP ---------------------------------------------------------------------------------------
class Tap:
    def __init__(self):
        self.count = self.failed = 0

    def ok(self, passed, what, *why):
        """`why` is printed as notes if the assertion fails."""
        self.count += 1
        self.failed += not passed
        print(f"{'ok' if passed else 'not ok'} {self.count} - {what}")
        if not passed:
            for line in why:
                note(line)
        sys.stdout.flush()
        return bool(passed)

    def equal(self, got, expected, what):
        return self.ok(got == expected, what, f"got {got}, expected {expected}")

    def skip(self, reason):
        self.count += 1
        print(f"ok {self.count} # SKIP {reason}", flush=True)

    def done(self):
        print(f"1..{self.count}")
        sys.exit(self.failed != 0)


def note(text):
    for line in str(text).splitlines() or [""]:
        print(f"# {line}", flush=True)


def limit(seconds):
    """End the whole test, cleaning up, rather than hang."""
    def expired(number, frame):
        why = f"over {seconds} s" if number == signal.SIGALRM else signal.strsignal(number)
        print(f"Bail out! {why}", flush=True)
        sys.exit(1)
    for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, expired)
    signal.alarm(seconds)


def wait_for(condition, what, seconds=LIMIT):
    """The first true value of condition(); an error after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise RuntimeError(f"waited {seconds} s for {what}")
        time.sleep(0.005)


# --- processes ---------------------------------------------------------------------------------
LIBC = ctypes.CDLL(None, use_errno=True)
_started = []


def _die_with_parent():
    LIBC.prctl(1, signal.SIGTERM)  # servers then end their own children, suture detaches


def start(arguments, user=None, **options):
    """A child that does not outlive us; `user` counts only where we are root."""
    if user and os.geteuid() == 0:
        entry = pwd.getpwnam(user)
        options.update(user=entry.pw_uid, group=entry.pw_gid, extra_groups=[])
    options.setdefault("stdin", subprocess.DEVNULL)
    process = subprocess.Popen(arguments, preexec_fn=_die_with_parent, **options)
    _started.append(process)
    return process


def run(arguments, user=None, **options):
    """Run to the end; returns the output. A failure is an error that shows what was said."""
    process = start(arguments, user, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                    **options)
    out, _ = process.communicate(timeout=LIMIT)
    if process.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: exit {process.returncode}: {out.strip()}")
    return out


def end(process, number=signal.SIGTERM):
    if process.poll() is None:
        process.send_signal(number)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@atexit.register
def _end_all():
    """Masters do not survive, and neither do workers whose master could not end them."""
    left = [process for process in reversed(_started) if process.poll() is None]
    members = [pid for process in left for pid in family(process.pid)]
    for process in left:
        end(process, signal.SIGTERM)
    for pid in members:
        with contextlib.suppress(OSError):
            if os.getpgid(pid) == os.getpgid(0):
                os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def scratch(user=None):
    """A directory that is removed; owned by `user` where we are root."""
    path = tempfile.mkdtemp(prefix="suture-test-")
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    if user and os.geteuid() == 0:
        entry = pwd.getpwnam(user)
        os.chown(path, entry.pw_uid, entry.pw_gid)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def children(pid):
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
        return [int(child) for task in tasks
                for child in open(f"/proc/{pid}/task/{task}/children").read().split()]
    except OSError:
        return []


def family(pid):
    """`pid` and all its living descendants."""
    members = [pid]
    for member in members:
        members.extend(child for child in children(member) if child not in members)
    return members


def alive(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def status(pid, tid, key):
    try:
        for line in open(f"/proc/{pid}/task/{tid}/status"):
            if line.startswith(key + ":"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return None


def traced(pid):
    try:
        return any(status(pid, tid, "TracerPid") not in ("0", None)
                   for tid in os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return False


# --- what is mapped ----------------------------------------------------------------------------
def maps(pid):
    """[(start, end, permissions, offset, path)]; empty once the process is gone."""
    found = []
    try:
        for line in open(f"/proc/{pid}/maps"):
            fields = line.rstrip("\n").split(None, 5)
            first, last = (int(x, 16) for x in fields[0].split("-"))
            found.append((first, last, fields[1], int(fields[2], 16),
                          fields[5] if len(fields) > 5 else ""))
    except OSError:
        pass
    return found


def ours(pid):
    """Mappings that suture made."""
    return [entry for entry in maps(pid) if "memfd:suture" in entry[4]]


def memory(pid, address, size):
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as file:
        file.seek(address)
        data = b""
        while len(data) < size:
            piece = file.read(size - len(data))
            if not piece:
                break
            data += piece
    return data


def texts(pid, *names):
    """The bytes of every executable mapping of the files whose base name starts with a name."""
    return {(path, first): memory(pid, first, last - first)
            for first, last, permissions, _, path in maps(pid)
            if "x" in permissions and os.path.basename(path).startswith(names)}


def pristine(pid, *names):
    """As texts(), but what the files say: for processes born with a probe in them."""
    found = {}
    for first, last, permissions, offset, path in maps(pid):
        if "x" in permissions and os.path.basename(path).startswith(names):
            with open(path, "rb") as file:
                file.seek(offset)
                found[path, first] = file.read(last - first).ljust(last - first, b"\0")
    return found


def layout(pid):
    """All mappings apart from those whose size is the program's own affair."""
    return [entry for entry in maps(pid) if entry[4].startswith("/")]


class Elf:
    """Symbols (the dynamic ones unless told otherwise) and the places that they are mapped to."""

    def __init__(self, path, which=("-D", "--defined-only")):
        self.path = os.path.realpath(path)
        self.name = os.path.basename(self.path)
        self.symbols = {}
        for line in run(["nm", *which, self.path]).splitlines():
            fields = line.split()
            if len(fields) == 3 and fields[1] in "TtWwiV":
                self.symbols[fields[2].split("@")[0]] = int(fields[0], 16)
        data = open(self.path, "rb").read(4096)
        offset, = struct.unpack_from("<Q", data, 32)
        size, number = struct.unpack_from("<HH", data, 54)
        headers = [struct.unpack_from("<IIQQQQQQ", data, offset + i * size) for i in range(number)]
        self.loads = [(vaddr, file, length) for kind, _, file, vaddr, _, length, _, _ in headers
                      if kind == 1]

    def file_offset(self, vaddr):
        for first, file, length in self.loads:
            if first <= vaddr < first + length:
                return vaddr - first + file
        raise KeyError(hex(vaddr))

    def address(self, pid, symbol):
        offset = self.file_offset(self.symbols[symbol])
        for first, last, permissions, start, path in maps(pid):
            if path == self.path and "x" in permissions and start <= offset < start + last - first:
                return first + offset - start
        raise RuntimeError(f"{symbol} is not mapped in {pid}")

    def straight(self, symbol, least=5, most=20):
        """File offset of an instruction that is reached once a call, as far from the entry as
        there is one within `most` bytes: whatever occupies the entry, a second counter finds
        room there."""
        first, found = self.symbols[symbol], None
        listing = run(["objdump", "-d", "--no-show-raw-insn", f"--start-address={first}",
                       f"--stop-address={first + 64}", self.path])
        for line in listing.splitlines():
            match = re.match(r"\s+([0-9a-f]+):\s+(\S+)", line)
            if not match:
                continue
            at = int(match[1], 16)
            if least <= at - first <= most:
                found = at
            if match[2].startswith(("j", "ret", "call", "loop")):
                break
        if found is None:
            raise RuntimeError(f"{symbol} branches within its first {least} bytes")
        return self.file_offset(found)


def loaded(pid, name):
    """The Elf of the mapped file whose base name starts with `name`."""
    for _, _, permissions, _, path in maps(pid):
        if "x" in permissions and os.path.basename(path).startswith(name):
            return Elf(path)
    raise RuntimeError(f"{name} is not mapped in {pid}")


# --- the kernel's own counter ------------------------------------------------------------------
class Uprobe:
    """A kernel uprobe in counting mode: on every thread that a process has now, or on whatever
    process runs the file (`pid` None). Inheritance is no way to count forks: the kernel reads the
    path anew from the forking process, where our pointer means nothing, and its fork fails."""

    def __init__(self, pid, path, offset):
        path = ctypes.create_string_buffer(os.fsencode(path))
        kind = int(open("/sys/bus/event_source/devices/uprobe/type").read())
        # struct perf_event_attr: type, size, config, period, sample type, read format, flags,
        # wakeup, breakpoint type, config1 = path, config2 = offset
        attributes = struct.pack("<IIQQQQQIIQQ", kind, 112, 0, 0, 0, 0, 0, 0, 0,
                                 ctypes.addressof(path), offset).ljust(112, b"\0")
        places = [(-1, cpu) for cpu in os.sched_getaffinity(0)] if pid is None else \
            [(int(tid), -1) for tid in os.listdir(f"/proc/{pid}/task")]
        self.files = []
        for tid, cpu in places:
            fd = LIBC.syscall(298, attributes, tid, cpu, -1, 8)  # perf_event_open, CLOEXEC
            if fd < 0:
                self.close()
                raise OSError(ctypes.get_errno(), "perf_event_open")
            self.files.append(fd)

    @property
    def hits(self):
        return sum(struct.unpack("<Q", os.read(fd, 8))[0] for fd in self.files)

    def close(self):
        for fd in self.files:
            os.close(fd)
        self.files = []


# --- suture in the background --------------------------------------------------------------------
class Suture:
    """`suture count` on a process. `sites`: [(Elf, symbol)], what tells us that it is attached:
    the first bytes of their code differ from what they were (the very first need not: a site may
    be the next instruction) and nothing in the process is held any more."""

    def __init__(self, pid, specs, sites, options=()):
        self.pid = pid
        self.sites = [(elf.address(pid, symbol), elf, symbol) for elf, symbol in sites]
        self.before = [memory(pid, address, 12) for address, _, _ in self.sites]
        self.out = tempfile.TemporaryFile("w+")
        self.err = tempfile.TemporaryFile("w+")
        self.process = start([SUTURE, "count", "-p", str(pid), "--json", "--for", "100s", *options,
                              *specs], stdout=self.out, stderr=self.err)

    def _text(self, file):
        file.seek(0)
        return file.read()

    def _attached(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"suture count ended with {self.process.returncode}: "
                               + self._text(self.err).strip())
        try:
            now = [memory(self.pid, address, 12) for address, _, _ in self.sites]
        except OSError:
            return False
        return all(x != y for x, y in zip(self.before, now)) and not traced(self.pid)

    def attached(self):
        try:
            wait_for(self._attached, "suture to attach")
        except RuntimeError:
            end(self.process, signal.SIGINT)
            raise
        time.sleep(0.05)  # a kernel uprobe's text changes before its counter runs
        return self

    def stop(self, number=signal.SIGINT):
        """The parsed report; the exit status is in `.status`."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.wait(LIMIT)
        self.status = self.process.returncode
        if self.status:
            raise RuntimeError(f"suture count ended with {self.status}: "
                               + self._text(self.err).strip())
        return json.loads(self._text(self.out))


def count(pid, *specs, options=(), duration="20ms", seconds=LIMIT):
    """Attach, count for a moment, detach. The parsed report."""
    process = start([SUTURE, "count", "-p", str(pid), "--json", "--for", duration, *options,
                     *specs], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        end(process, signal.SIGINT)
        raise RuntimeError(f"suture count took over {seconds} s") from None
    if process.returncode:
        raise RuntimeError(f"suture count ended with {process.returncode}: {err.strip()}")
    return json.loads(out)


def hits(report, symbol):
    return sum(probe["hits"] for probe in report["probes"] if probe["symbol"] == symbol)


def describe(report):
    parts = [f"{p['symbol']} {p['kind']}/{p['counter']} {p['hits']}" for p in report["probes"]]
    parts += [f"refused {r['spec']}: {r['reason']}" for r in report["refused"]]
    stop = report["stop_us"]
    note(f"{'; '.join(parts)}; {report['processes']} processes; "
         f"stopped {stop['attach']} + {stop['detach']} us")


def left_behind(pids, before=None):
    """What a detached suture left in living processes: texts that differ, mappings. [] is right.
    `before`: {pid: texts()}."""
    wrong = []
    for pid in pids:
        if ours(pid):
            wrong.append(f"{pid} still maps {ours(pid)}")
        for (path, first), code in (before or {}).get(pid, {}).items():
            now = memory(pid, first, len(code))
            if now != code:
                at = next((i for i, (x, y) in enumerate(zip(now, code)) if x != y), len(now))
                wrong.append(f"{pid} {path}+{at:#x}: {now[at:at + 8].hex()} was "
                             f"{code[at:at + 8].hex()}")
    return wrong


# --- redis -------------------------------------------------------------------------------------
class Redis:
    def __init__(self, directory):
        self.port = free_port()
        self.process = start(["redis-server", "--port", str(self.port), "--bind", "127.0.0.1",
                              "--dir", directory, "--save", "", "--appendonly", "no",
                              "--daemonize", "no", "--logfile", os.path.join(directory, "log")])
        self.pid = self.process.pid
        self.connection = wait_for(self._connect, "redis-server")
        self.stream = self.connection.makefile("rb")

    def _connect(self):
        try:
            return socket.create_connection(("127.0.0.1", self.port))
        except OSError:
            return None

    def command(self, *words):
        request = b"*%d\r\n" % len(words)
        for word in words:
            data = str(word).encode()
            request += b"$%d\r\n%s\r\n" % (len(data), data)
        self.connection.sendall(request)
        return self._reply()

    def _reply(self):
        line = self.stream.readline()
        if line[:1] == b"$":
            size = int(line[1:])
            return self.stream.read(size + 2)[:-2].decode() if size >= 0 else None
        if line[:1] == b"-" or not line:
            raise RuntimeError(f"redis: {line!r}")
        return line[1:-2].decode()

    def info(self):
        return dict(line.split(":", 1) for line in self.command("INFO", "all").splitlines()
                    if ":" in line)

    def benchmark(self, requests, tests="set,get", clients=16, pipeline=8):
        """redis-benchmark in the background; finish with benchmark_errors()."""
        return start(["redis-benchmark", "-p", str(self.port), "-q", "-n", str(requests),
                      "-c", str(clients), "-P", str(pipeline), "-t", tests, "-r", "1000",
                      "--threads", "2"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                     text=True)


def benchmark_errors(process):
    """What is wrong with a finished redis-benchmark; [] if nothing."""
    out, _ = process.communicate(timeout=LIMIT)
    lines = re.split(r"[\r\n]+", out)
    return [line for line in lines if re.search(r"error|refused|reset|closed|fail", line, re.I)] \
        + ([f"exit {process.returncode}"] if process.returncode else [])


# --- nginx -------------------------------------------------------------------------------------
class Nginx:
    BINARY = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")

    def __init__(self, directory, workers):
        self.port = free_port()
        self.log = os.path.join(directory, "access.log")
        open(os.path.join(directory, "page"), "w").write("page\n")
        os.chmod(directory, 0o755)
        me = pwd.getpwuid(os.geteuid()).pw_name
        spool = "".join(f"{kind}_temp_path {directory}/{kind};\n" for kind in
                        ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        config = os.path.join(directory, "nginx.conf")
        open(config, "w").write(f"""
            {f'user {me};' if os.geteuid() == 0 else ''}
            daemon off;
            worker_processes {workers};
            pid {directory}/pid;
            error_log {directory}/error.log;
            events {{ worker_connections 256; }}
            http {{
                access_log {self.log};
                keepalive_requests 1000000;
                {spool}
                server {{
                    listen 127.0.0.1:{self.port};
                    root {directory};
                    location = /status {{ stub_status; }}
                }}
            }}""")
        self.process = start([self.BINARY, "-p", directory, "-e", f"{directory}/error.log",
                              "-c", config])
        self.pid = self.process.pid
        wait_for(lambda: self._get("/page"), "nginx")
        self.workers = wait_for(lambda: len(children(self.pid)) == workers and children(self.pid),
                                "nginx workers")

    def _get(self, path):
        try:
            with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
                connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
                return b"".join(iter(lambda: connection.recv(65536), b"")).decode()
        except OSError:
            return None

    def stub_status(self):
        """(requests, active connections), this one included in both."""
        text = wait_for(lambda: self._get("/status"), "stub_status")
        return int(text.split()[text.split().index("requests") + 3]), \
            int(re.search(r"Active connections: (\d+)", text)[1])

    def settled(self):
        """Wait until no connection but ours is left; the requests that the server has counted."""
        return wait_for(lambda: (lambda r, active: active == 1 and r)(*self.stub_status()),
                        "nginx to become idle")

    def lines(self):
        """Lines of the access log once the server is idle. A request's line is written after its
        answer: wait for that of our own."""
        requests = self.settled()
        with contextlib.suppress(RuntimeError):
            wait_for(lambda: self._lines() >= requests, "the access log", 5)
        return self._lines()

    def _lines(self):
        return open(self.log, "rb").read().count(b"\n")

    def wrk(self, seconds=2, connections=8):
        return start(["wrk", "-t", "1", "-c", str(connections), "-d", f"{seconds}s",
                      f"http://127.0.0.1:{self.port}/page"], stdout=subprocess.PIPE,
                     stderr=subprocess.STDOUT, text=True)


def wrk_result(process):
    """(requests that wrk saw answered, what went wrong)."""
    out, _ = process.communicate(timeout=LIMIT)
    wrong = [line.strip() for line in out.splitlines()
             if re.search(r"Socket errors|Non-2xx|unable", line)]
    if process.returncode:
        wrong.append(f"exit {process.returncode}: {out}")
    match = re.search(r"(\d+) requests in", out)
    return int(match[1]) if match else 0, wrong


# --- postgres ----------------------------------------------------------------------------------
class Postgres:
    USER = "postgres"

    def __init__(self, directory):
        """`directory` belongs to USER (see scratch()). The server has a Unix socket only."""
        self.directory, self.data = directory, os.path.join(directory, "data")
        run([self.tool("initdb"), "-D", self.data, "-A", "trust", "-U", "postgres", "-N",
             "--no-locale", "-E", "UTF8"], self.USER, cwd=directory)
        settings = {"listen_addresses": "", "unix_socket_directories": directory, "fsync": "off",
                    "autovacuum": "off", "max_connections": "40", "shared_buffers": "8MB",
                    "max_logical_replication_workers": "0", "jit": "off", "max_wal_size": "1GB"}
        self.process = start([self.tool("postgres"), "-D", self.data]
                             + [f"--{key}={value}" for key, value in settings.items()],
                             self.USER, cwd=directory, stdout=subprocess.DEVNULL,
                             stderr=open(os.path.join(directory, "log"), "w"))
        self.pid = self.process.pid
        wait_for(self._answers, "postgres")

    @staticmethod
    def tool(name):
        """Debian keeps the server's programs of each version in a directory of their own."""
        base = "/usr/lib/postgresql"
        for version in sorted(os.listdir(base) if os.path.isdir(base) else [], key=float,
                              reverse=True):
            path = f"{base}/{version}/bin/{name}"
            if os.path.exists(path):
                return path
        return shutil.which(name)

    def _answers(self):
        try:
            return self.sql("select 1") == "1"
        except RuntimeError:
            return False

    def sql(self, text):
        return run([self.tool("psql"), "-h", self.directory, "-U", "postgres", "-d", "postgres",
                    "-X", "-A", "-t", "-c", text]).strip()

    def idle(self):
        """Wait until no client's process is left: backends outlive their clients by a little."""
        def gone():
            titles = []
            for child in children(self.pid):
                with contextlib.suppress(OSError):
                    titles.append(open(f"/proc/{child}/cmdline").read())
            return not any("[local]" in title or title.startswith(self.tool("postgres"))
                           for title in titles)
        wait_for(gone, "backends to end")

    def pgbench(self, script, transactions, clients=4):
        """`transactions` of each client, a connection for each."""
        return start([self.tool("pgbench"), "-h", self.directory, "-U", "postgres", "-n", "-C",
                      "-c", str(clients), "-j", "2", "-t", str(transactions), "-f", script,
                      "postgres"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def pgbench_result(process):
    """(transactions done, what went wrong)."""
    out, _ = process.communicate(timeout=LIMIT)
    wrong = [line for line in out.splitlines()
             if re.search(r"error|fatal|aborted", line, re.I)]
    if process.returncode:
        wrong.append(f"exit {process.returncode}")
    match = re.search(r"actually processed: (\d+)", out)
    failed = re.search(r"failed transactions: (\d+)", out)
    if failed and int(failed[1]):
        wrong.append(failed[0])
    return int(match[1]) if match else 0, wrong
