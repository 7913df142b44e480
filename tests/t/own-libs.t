#!/usr/bin/python3 -B
# SPDX-License-Identifier: MIT
"""All functions of a library probed at once, from inside the process.

libc, libcrypto, libsqlite3, libz and libpython do real work with a handler called at every entry;
what they print is what they print without. None is refused, and 99 in 100 need no trap.
"""
import os
import sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'lib'))
import suture_test as t
import probed as p

t.limit(120)

SHELL = """
for i in 1 2 3; do ls -d / /usr | sort -r | (read x; echo $x); done
trap 'echo got' USR1; kill -USR1 $$; (exit 3); echo $?
printf '%s %d %x\\n' a 12 255; x=$(seq 1 2000 | tail -1); echo $x; sh -c 'echo end'
"""
# What is hard on libc: processes, threads, signals, unwinding, name lookup, locale.
LIBC = """
import ctypes, locale, os, signal, socket, subprocess, threading, time, traceback
print(subprocess.run(['echo', 'spawned'], capture_output=True).stdout, os.system('true'))
pid = os.fork()
if pid == 0:
    os._exit(7)
print(os.waitpid(pid, 0)[1])
hits = []
signal.signal(signal.SIGALRM, lambda *_: hits.append(1))
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
done = []
def work():
    done.append(sum(len(str(i * i)) for i in range(20000)))
threads = [threading.Thread(target=work) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
signal.setitimer(signal.ITIMER_REAL, 0)
print(done, len(hits) > 0)
print(socket.getaddrinfo('127.0.0.1', 80)[0][4], time.strftime('%Y', time.gmtime(0)))
print(locale.setlocale(locale.LC_ALL, 'C.UTF-8'), '%.17g' % 0.1, float('1e-310'))
libc = ctypes.CDLL(None)
order = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
numbers = (ctypes.c_int * 50)(*[i * 7919 % 50 for i in range(50)])
libc.qsort(numbers, 50, 4, order(lambda a, b: a[0] - b[0]))
print(list(numbers))
try:
    os.stat('/does/not/exist')
except OSError as error:
    print(error)
"""


def many(module, name, command, also=''):
    plain, probed = p.Run(command), p.Run(command, module, also=also)
    t.note('%s, %s' % (module, name))
    probed.tell()
    p.same(plain, probed, '%s: %s' % (module, name))
    jumps = probed.number('pun') + probed.number('window')
    t.ok(probed.number('places') > 0 and probed.number('refused') == 0,
         '%s: no function is refused' % module)
    t.ok(jumps * 100 >= 99 * probed.number('places'),
         '%s: %d of %d functions need no trap' % (module, jumps, probed.number('places')))
    t.ok(probed.number('hits') > 0, '%s: handlers were called' % module)


def python_test(name):
    return [p.PYEMBED, '-m', 'test', name]


many('libz.so', 'compresses', [p.PYTHON, p.ZLIB_FILE])
many('libsqlite3.so', 'a script', p.SQLITE)
many('libc.so', 'a script of sqlite', p.SQLITE)
many('libc.so', 'a shell', ['bash', '-c', SHELL])
many('libc.so', 'processes, threads, signals', [p.PYTHON, '-c', LIBC])
many('libc.so', 'test_re', python_test('test_re'))
many('libpython3.11.so', 'test_json', python_test('test_json'))
many('libpython3.11.so', 'test_re', python_test('test_re'))

# Its figures differ each time.
speed = ['openssl', 'speed', '-seconds', '1', '-bytes', '1024', 'sha256', 'aes-128-cbc']
probed = p.Run(speed, 'libcrypto.so')
probed.tell()
t.ok(probed.status == 0 and 'sha256' in probed.raw and probed.number('hits') > 0,
     'libcrypto.so: openssl speed')
many('libcrypto.so', 'test_hashlib', python_test('test_hashlib'), also='libcrypto.so.3')
for command in (['openssl', 'genrsa', '512'], ['openssl', 'ecparam', '-name', 'prime256v1',
                                                '-genkey']):
    t.ok(p.Run(command, 'libcrypto.so').status == 0, 'libcrypto.so: ' + command[1])
many('libcrypto.so', 'a digest', ['openssl', 'dgst', '-sha512', p.SQL_FILE])
many('libcrypto.so', 'a cipher', ['openssl', 'enc', '-aes-256-cbc', '-a', '-pbkdf2', '-pass', 'pass:x', '-S', '0011223344556677',
                                  '-in', p.SQL_FILE])

if t.TORTURE:
    for name in ('test_threading', 'test_signal', 'test_subprocess', 'test_ctypes', 'test_socket',
                 'test_asyncio', 'test_faulthandler'):
        many('libc.so', name, python_test(name))
        many('libpython3.11.so', name, python_test(name))
    many('libsqlite3.so', 'test_sqlite3', python_test('test_sqlite3'), also='libsqlite3.so.0')
    many('libcrypto.so', 'test_ssl', python_test('test_ssl'), also='libcrypto.so.3')
    many('libz.so', 'test_zlib', python_test('test_zlib'))
t.done()
