# SPDX-License-Identifier: MIT
"""Programs under load whose results are known, and random functions of all that they map."""
import hashlib
import http.client
import random
import re
from servers import *

TORTURE = os.environ.get("SUTURE_TORTURE", "") not in ("", "0")


# --- functions -----------------------------------------------------------------------------------
def functions(path):
    """ELF addresses of all functions in the symbol tables of a file: {address: name}."""
    found = {}
    for line in run(["readelf", "-sW", path], env={**os.environ, "LC_ALL": "C"}).splitlines():
        fields = line.split()
        if len(fields) >= 8 and fields[3] == "FUNC" and fields[6].isdigit():
            found.setdefault(int(fields[1], 16), fields[7].split("@")[0])
    return found


def all_functions(pid):
    """[(specification, name)] of everything mapped from files, in a settled order. A file whose name
    another one has, too, is left out: no specification tells them apart."""
    paths = sorted({path for _, _, permissions, _, path in maps(pid)
                    if "x" in permissions and path.startswith("/") and os.path.exists(path)})
    names = [os.path.basename(path) for path in paths]
    return [(f"{name}:{address:#x}", f"{name}:{symbol}")
            for path, name in zip(paths, names) if names.count(name) == 1
            for address, symbol in sorted(functions(path).items())]


def everything(pid):
    """The text of all files that are mapped."""
    return {(path, first): memory(pid, first, last - first)
            for first, last, permissions, _, path in maps(pid)
            if "x" in permissions and path.startswith("/") and "memfd:" not in path}


# --- suture --------------------------------------------------------------------------------------
class Many:
    """`suture count` on many places at once; those that are refused are left out, and kept in
    `.refused` with the reason."""

    def __init__(self, pid, specs, options=()):
        self.pid, self.specs, self.refused = pid, list(specs), {}
        while True:
            self._start(options)
            if self._wait():
                return
            report = json.loads(self._text(self.out) or "{}")
            refused = {entry["spec"]: entry["reason"] for entry in report.get("refused", [])}
            left = [spec for spec in self.specs if spec not in refused]
            if self.process.returncode != 4 or len(left) == len(self.specs) or not left:
                raise RuntimeError(f"suture count ended with {self.process.returncode}: "
                                   + self._text(self.err).strip()[:2000])
            self.refused.update(refused)
            self.specs = left

    def _start(self, options):
        self.out, self.err = tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")
        self.process = start([SUTURE, "count", "-p", str(self.pid), "--json", "--for", "300s",
                              *options, *self.specs], stdout=self.out, stderr=self.err)

    @staticmethod
    def _text(file):
        file.seek(0)
        return file.read()

    def _wait(self):
        """True once all is in place, False if the command has ended instead."""
        def settled():
            if self.process.poll() is not None:
                return "ended"
            out = subprocess.run([SUTURE, "status", "-p", str(self.pid), "--json"],
                                 stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                                 check=False).stdout
            return out and json.loads(out)["sites"] > 0 and not traced(self.pid) and "attached"
        return wait_for(settled, "suture to attach", 120) == "attached"

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(120)
        if self.process.returncode:
            raise RuntimeError(f"suture count ended with {self.process.returncode}: "
                               + self._text(self.err).strip()[:2000])
        return json.loads(self._text(self.out))


# --- workloads -----------------------------------------------------------------------------------
def digest(*what):
    return hashlib.sha256(repr(what).encode()).hexdigest()[:16]


REDIS_COMMANDS = [
    "SELECT 5", "FLUSHDB", "SET a 1", "INCRBY a 41", "APPEND a xyz", "GETRANGE a 1 3", "STRLEN a",
    "SETRANGE b 5 hello", "GET b", "BITCOUNT b", "BITPOS b 1", "BITFIELD b SET u8 0 200 GET u4 3",
    "RPUSH l 3 1 2 10 -4 7.5", "SORT l", "SORT l DESC LIMIT 1 2", "LRANGE l 0 -1", "LINSERT l "
    "BEFORE 2 99", "LREM l 0 3", "LRANGE l 0 -1", "LPOS l 10", "HSET h x 1 y 2 z 3", "HINCRBYFLOAT "
    "h x 1.5", "HMGET h x y nope", "HLEN h", "SADD s a b c d", "SADD s2 c d e", "SINTERCARD 2 s s2",
    "SDIFFSTORE s3 s s2", "SCARD s3", "ZADD z 1 one 2 two 3 three", "ZADD z2 10 two 20 three",
    "ZUNIONSTORE z3 2 z z2 WEIGHTS 2 3", "ZRANGE z3 0 -1 WITHSCORES", "ZRANGEBYSCORE z (1 +inf",
    "ZRANK z two", "ZREMRANGEBYRANK z 0 0", "PFADD p a b c d e f", "PFCOUNT p", "GEOADD g 13.36 "
    "38.11 Palermo 15.08 37.5 Catania", "GEODIST g Palermo Catania km", "GEOHASH g Palermo",
    "XADD x 1-1 k v", "XADD x 1-2 k w", "XLEN x", "XRANGE x - +", "EXISTS a b nope", "TYPE z",
    "OBJECT ENCODING l", "DUMP h", "COPY h h2", "RENAME h2 h3", "HGETALL h3", "KEYS nothing*",
    "EVAL return{KEYS[1],redis.call('get','a'),string.rep('x',50),cjson.encode({1,2,{a=3}})} 1 k",
    "EVAL local~s=0~for~i=1,2000~do~s=s+i*i%7~end~return~s 0", "LCS a b LEN", "DBSIZE",
    "EXPIRE a 1000", "PERSIST a", "MULTI", "SET m 5", "INCR m", "EXEC", "GETDEL m",
]


class RedisLoad:
    def __init__(self, directory):
        self.server = Redis(directory)
        self.pids = [self.server.pid]

    def results(self):
        return digest([self._say(*(word.replace("~", " ") for word in command.split(" ")))
                       for command in REDIS_COMMANDS])

    def _say(self, *words):
        connection = self.server
        connection.connection.sendall(
            b"*%d\r\n" % len(words)
            + b"".join(b"$%d\r\n%s\r\n" % (len(word), word.encode()) for word in words))
        return self._reply()

    def _reply(self):
        line = self.server.stream.readline()
        if line[:1] == b"*":
            return [self._reply() for _ in range(int(line[1:]))]
        if line[:1] == b"$" and int(line[1:]) >= 0:
            return self.server.stream.read(int(line[1:]) + 2)
        return line

    def start(self, seconds):
        return self.server.benchmark(30000 * seconds, tests="set,get,incr,lpush,rpop,sadd,hset,"
                                     "zadd,zpopmin,lrange_100,mset")

    @staticmethod
    def errors(load):
        return benchmark_errors(load)

    def end(self):
        end(self.server.process)
        return self.server.process.returncode


class NginxLoad:
    """A worker."""

    def __init__(self, directory):
        self.server = Nginx(directory, 1)
        self.pids = self.server.workers
        with open(os.path.join(directory, "large"), "w") as file:
            file.write("".join(f"{i * 7919 % 10007} " for i in range(50000)))

    def results(self):
        found = []
        for path, headers in (("/page", {}), ("/large", {}), ("/large", {"Range": "bytes=5-5000"}),
                              ("/large", {"Range": "bytes=0-9,100-200"}), ("/nothing", {}),
                              ("/large", {"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"}),
                              ("/%70age?x=1", {}), ("/../page", {}), ("/large", {"Accept-Encoding":
                                                                                "gzip"})):
            connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=20)
            for method in ("GET", "HEAD", "POST"):
                connection.request(method, path, headers=headers)
                answer = connection.getresponse()
                body = re.sub(rb"\d{20}", b"BOUNDARY", answer.read())
                found.append((method, path, answer.status, answer.reason, body, sorted(
                    (key, re.sub(r"\d{20}", "BOUNDARY", value)) for key, value in
                    answer.getheaders() if key != "Date")))
            connection.close()
        return digest(found)

    def start(self, seconds):
        return self.server.wrk(seconds)

    @staticmethod
    def errors(load):
        return wrk_result(load)[1]

    def end(self):
        end(self.server.process)
        return self.server.process.returncode


SQL = """
create table if not exists t(a int primary key, b text, c numeric, d timestamp);
truncate t;
insert into t select i, md5(i::text), i * 0.37, timestamp '2001-02-03' + i * interval '1 hour'
  from generate_series(1, 3000) i;
create index if not exists tb on t(b);
analyze t;
select count(*), sum(a), max(b), avg(c), min(d) from t;
select x.a, y.b from t x join t y on x.a = y.a + 1 where x.b < '02' order by 1;
select a % 7, string_agg(b, ',' order by a desc), stddev(c) from t where a < 100 group by 1 order by 1;
select a, rank() over (partition by a % 5 order by c desc) from t where a < 50 order by 1;
with recursive f(n, x, y) as (select 1, 1::numeric, 1::numeric union all
  select n + 1, y, x + y from f where n < 100) select max(x) from f;
select jsonb_build_object('a', array_agg(a)) -> 'a' ->> 2, to_char(max(d), 'YYYY-MM-DD') from t;
select regexp_replace(b, '[0-9]+(.)', '<\\1>', 'g') from t where a < 10 order by a;
select 2 ^ 10, sqrt(2.0::numeric), sin(1), 12345678901234567890 * 98765432109876543210;
begin; delete from t where a % 3 = 0; savepoint s; update t set c = c + 1; rollback to s;
select count(*), sum(c) from t; rollback;
do $$ declare s int := 0; begin for i in 1..3000 loop s := (s * 31 + i) % 1000003; end loop;
  raise notice 's %', s; begin perform 1 / 0; exception when division_by_zero then
  raise notice 'caught'; end; end $$;
select distinct on (a % 10) a, b from t order by a % 10, b limit 10;
select * from missing;
explain (costs off) select * from t where b = 'x';
"""


class PostgresLoad:
    """The server and all that it forks meanwhile."""

    def __init__(self, directory):
        self.server = Postgres(directory)
        self.pids = [self.server.pid]
        run([Postgres.tool("pgbench"), "-h", directory, "-U", "postgres", "-i", "-q", "postgres"])
        self.script = os.path.join(directory, "check.sql")
        with open(self.script, "w") as file:
            file.write(SQL)
        self.results()

    def results(self):
        return digest(subprocess.run(
            [Postgres.tool("psql"), "-h", self.server.directory, "-U", "postgres", "-X", "-A", "-t",
             "-d", "postgres", "-f", self.script], stdout=subprocess.PIPE, timeout=LIMIT,
            stderr=subprocess.STDOUT, check=False).stdout)

    def start(self, seconds):
        return start([Postgres.tool("pgbench"), "-h", self.server.directory, "-U", "postgres", "-n",
                      "-C", "-c", "4", "-j", "2", "-T", str(seconds), "postgres"],
                     stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    @staticmethod
    def errors(load):
        done, wrong = pgbench_result(load)
        return wrong if done > 10 else wrong + [f"{done} transactions"]

    def end(self):
        end(self.server.process, signal.SIGINT)
        return self.server.process.returncode


PYTHON = r"""
import collections, datetime, decimal, hashlib, json, os, random, re, sqlite3, subprocess, sys
import textwrap, threading, zlib, difflib, functools, itertools, struct, pickle, socket, tempfile
def work(seed):
    r = random.Random(seed)
    data = [{'n': r.randrange(10**9), 's': '%x' % r.getrandbits(80), 'f': r.random()} for _ in range(60)]
    text = json.dumps(data, sort_keys=True)
    out = [hashlib.sha512(text.encode()).hexdigest(), zlib.crc32(zlib.compress(text.encode()))]
    out.append(json.loads(text) == data and pickle.loads(pickle.dumps(data)) == data)
    out.append(re.sub(r'(\d+)\.(\d+)', lambda m: m[2] + m[1], text)[:200])
    out.append(collections.Counter(text).most_common(5))
    base = sqlite3.connect(':memory:')
    base.execute('create table t (n integer, s text)')
    base.executemany('insert into t values (:n, :s)', data)
    out.append(base.execute('select count(*), sum(n), max(s) from t where s like "%a%"').fetchall())
    base.close()
    decimal.getcontext().prec = 40
    out.append(str(decimal.Decimal(data[0]['n']).sqrt()))
    out.append(str(datetime.datetime(2001, 2, 3) + datetime.timedelta(seconds=data[1]['n'])))
    out.append(textwrap.fill(text[:500], 60))
    out.append(''.join(difflib.unified_diff(text[:200].split(), text[50:250].split())))
    out.append(sum(itertools.accumulate(x['n'] for x in data)) % (2**127 - 1))
    out.append(pow(3, data[2]['n'], 2**521 - 1))
    try:
        json.loads('{' + text)
    except ValueError as error:
        out.append(str(error))
    a, b = socket.socketpair()
    a.sendall(text.encode()[:4000])
    out.append(b.recv(4000))
    a.close(), b.close()
    with tempfile.TemporaryFile() as file:
        file.write(text.encode())
        file.seek(0)
        out.append(len(file.read()))
    if seed % 4 == 0:
        out.append(subprocess.run(['echo', 'x'], capture_output=True).stdout)
    return hashlib.sha256(repr(out).encode()).hexdigest()
expected = [work(seed) for seed in range(8)]
state = {'wrong': 0, 'rounds': 0, 'end': False}
def loop():
    k = 0
    while not state['end']:
        try:
            state['wrong'] += work(k % 8) != expected[k % 8]
        except BaseException as error:
            print(error, file=sys.stderr)
            state['wrong'] += 1
        state['rounds'] += 1
        k += 1
print('ready', flush=True)
for line in sys.stdin:
    if line == 'go\n':
        state['end'] = False
        threads = [threading.Thread(target=loop) for _ in range(2)]
        for thread in threads: thread.start()
    elif line == 'end\n':
        state['end'] = True
        for thread in threads: thread.join()
        print(state['wrong'], state['rounds'], flush=True)
    else:
        print(*[work(seed) for seed in range(8)], flush=True)
"""

NODE = r"""
const crypto = require('crypto'), zlib = require('zlib'), fs = require('fs'), os = require('os');
const path = require('path'), vm = require('vm'), util = require('util'), url = require('url');
function work(seed) {
	let x = seed + 1;
	const next = () => x = (x * 48271) % 2147483647;
	const data = Array.from({length: 80}, () => ({n: next(), s: next().toString(36), f: next() / 7}));
	const text = JSON.stringify(data), out = [];
	out.push(crypto.createHash('sha512').update(text).digest('hex'));
	out.push(zlib.gunzipSync(zlib.gzipSync(text)).toString() === text);
	out.push(zlib.brotliDecompressSync(zlib.brotliCompressSync(text.slice(0, 500))).length);
	out.push(text.replace(/(\d+)\.(\d+)/g, (m, a, b) => b + a).slice(0, 300));
	out.push(data.map(d => d.s).sort().join());
	out.push((BigInt(data[0].n) ** 40n % (2n ** 127n - 1n)).toString());
	out.push(vm.runInNewContext('let s = 0; for (let i = 0; i < 3000; i++) s = (s * 31 + i) % k; s',
		{k: 1000003}));
	out.push(util.inspect(data.slice(0, 3)), new url.URL('http://a.b/c?d=' + data[1].s).href);
	out.push(fs.readFileSync('/etc/hostname').length, path.resolve('/a/b', '../c'));
	const cipher = crypto.createCipheriv('aes-256-cbc', Buffer.alloc(32, seed), Buffer.alloc(16, 1));
	out.push(Buffer.concat([cipher.update(text), cipher.final()]).slice(-32).toString('hex'));
	try { JSON.parse('{' + text); } catch (error) { out.push(error.name); }
	try { null.x; } catch (error) { out.push(error.message); }
	const map = new Map(data.map(d => [d.s, d]));
	out.push([...map.keys()].length, new Date(data[2].n * 1000).toISOString());
	out.push(new Intl.NumberFormat('en-US').format(data[3].n), 'straße'.normalize('NFD').length);
	return crypto.createHash('sha256').update(out.join('|')).digest('hex');
}
const expected = [0, 1, 2, 3, 4, 5, 6, 7].map(work);
let wrong = 0, rounds = 0, running = false, pending = '';
function step() {
	if (!running) return;
	const k = rounds++ % 8;
	try { wrong += work(k) !== expected[k]; } catch (error) { console.error(error); wrong++; }
	if (k === 0)
		crypto.pbkdf2('a', 'b', 500, 32, 'sha256', (e, key) => {
			wrong += e !== null || key.toString('hex').slice(0, 8) !== pbkdf2; });
	if (k === 4)
		fs.stat('/', error => { wrong += error !== null; });
	setImmediate(step);
}
const pbkdf2 = crypto.pbkdf2Sync('a', 'b', 500, 32, 'sha256').toString('hex').slice(0, 8);
console.log('ready');
process.stdin.on('end', () => process.exit(0));
process.stdin.on('data', data => {
	const lines = (pending + data).split('\n');
	pending = lines.pop();
	for (const line of lines)
		if (line === 'go') { running = true; step(); }
		else if (line === 'end') { running = false; console.log(wrong + ' ' + rounds); }
		else console.log([0, 1, 2, 3, 4, 5, 6, 7].map(work).join(' '));
});
"""


class ScriptLoad:
    """A program that is its own load: it compares what it computes with what it was."""

    def __init__(self, command):
        self.process = start(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                             bufsize=1)
        self.pids = [self.process.pid]
        assert self.process.stdout.readline() == "ready\n"

    def _ask(self, line):
        self.process.stdin.write(line + "\n")
        return self.process.stdout.readline().strip()

    def results(self):
        return self._ask("once")

    def start(self, seconds):
        self.process.stdin.write("go\n")
        return time.monotonic() + seconds

    def errors(self, end_of_load):
        time.sleep(max(0, end_of_load - time.monotonic()))
        answer = self._ask("end").split()
        return [] if len(answer) == 2 and answer[0] == "0" and int(answer[1]) > 2 else \
            [f"wrong results, rounds: {answer}; state {self.process.poll()}"]

    def end(self):
        self.process.stdin.close()
        return self.process.wait(LIMIT)


class PythonLoad(ScriptLoad):
    def __init__(self, _):
        super().__init__(["/usr/bin/python3", "-c", PYTHON])


class NodeLoad(ScriptLoad):
    def __init__(self, _):
        super().__init__([shutil.which("node"), "-e", NODE])
