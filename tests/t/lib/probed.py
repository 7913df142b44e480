# SPDX-License-Identifier: MIT
"""Programs of other people with probes in one of their libraries: what the own-*.t share."""
import os
import re
import shutil
import tempfile
import suture_test as t

PRELOAD = os.path.join(t.BUILD, 'tests/probeall.so')
PYEMBED = os.path.join(t.BUILD, 'tests/victims/pyembed')
PYTHON = '/usr/bin/python3'

SQL = """
create table t(a integer primary key, b text, c real);
with recursive n(i) as (select 1 union all select i+1 from n where i<2000)
  insert into t select i, printf('%05d', i*7919%2000), i*0.5 from n;
create index tb on t(b);
select count(*), sum(a), max(b), avg(c) from t;
select a,b from t where b between '00100' and '00110' order by b desc;
select x.a, y.b from t x join t y on x.a = y.a+1 where x.b < '00010' order by 1;
begin; delete from t where a%3=0; update t set c=c+1 where a%5=0; rollback;
delete from t where a%7=0; vacuum; pragma integrity_check;
select group_concat(b) from (select b from t order by b limit 20);
select json_extract('{"a":[1,2,{"b":3}]}', '$.a[2].b'), date('2020-01-31','+1 month'),
  hex(zeroblob(4)), replace('abc','b','x');
explain query plan select * from t where b='00001';
select * from missing;
"""

ZLIB = """
import hashlib, zlib
d = bytes((i*i >> 3) & 255 for i in range(20000)) + b''.join(b'%d,' % (i*7919 % 1000)
                                                             for i in range(5000))
for level in range(10):
    for strategy in range(5):
        c = zlib.compressobj(level, 8, 15, 9, strategy)
        e = c.compress(d[:9000]) + c.flush(zlib.Z_SYNC_FLUSH) + c.compress(d[9000:]) + c.flush()
        assert zlib.decompress(e) == d
        print(level, strategy, len(e), hashlib.sha256(e).hexdigest(), zlib.crc32(d),
              zlib.adler32(d))
try:
    zlib.decompress(e[:100] + b'xxxx' + e[104:])
except zlib.error as x:
    print(x)
"""

# Times differ from run to run.
TIMES = re.compile(r'(in|duration:|load avg:) [0-9.]+ ?(ms|s|sec|min)?\b|^0:\d\d:\d\d.*$', re.M)

_directory = tempfile.mkdtemp(prefix='suture-probed-')
t.at_end(shutil.rmtree, _directory)


def file(name, text):
    path = os.path.join(_directory, name)
    with open(path, 'w') as out:
        out.write(text)
    return path


SQL_FILE, ZLIB_FILE = file('script.sql', SQL), file('work.py', ZLIB)
SQLITE = ['sqlite3', '-batch', ':memory:', '.read ' + SQL_FILE]


class Run:
    """A command, and what probeall.c has to say of it. `also` is loaded before the program begins,
    where it would come later."""

    def __init__(self, command, module=None, places=None, also='', seconds=120):
        told = os.path.join(_directory, 'told')
        env = {}
        if module:
            env = {'LD_PRELOAD': PRELOAD + ' ' + also, 'PROBE_MODULE': module,
                   'PROBE_OUT': told}
        if places is not None:
            env['PROBE_FILE'] = file('places', '\n'.join('%x' % place for place in places))
        outcome = t.command(command, seconds, env)
        self.status, self.raw = outcome.status, outcome.out + outcome.err
        self.output = TIMES.sub('', self.raw)
        self.numbers, self.refusals = {}, []
        if module and os.path.exists(told):
            with open(told) as lines:
                for line in lines:
                    name, rest = line.rstrip('\n').split(' ', 1)
                    if name == 'refusal':
                        self.refusals.append(rest)
                    else:
                        self.numbers[name] = int(rest)
            os.unlink(told)

    def number(self, name):
        return self.numbers.get(name, -1)

    def tell(self):
        t.note('%d probes in %d ms: %d puns, %d windows, %d traps; %d refused; %d hits at %d' % (
            tuple(self.number(name) for name in ('places', 'milliseconds', 'pun', 'window', 'trap',
                                                 'refused', 'hits', 'hit'))))
        for refusal in self.refusals:
            t.note(refusal)


def same(plain, probed, text):
    """Both ended well and said the same."""
    if not t.ok(plain.status == probed.status and plain.output == probed.output,
                '%s: as without probes' % text):
        t.note('exit %s, %s' % (plain.status, probed.status))
        t.note(plain.output[-1000:])
        t.note(probed.output[-1000:])
