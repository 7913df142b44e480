#!/usr/bin/python3 -B
# SPDX-License-Identifier: MIT
"""Hits are exact, to the last one, and results stay right.

Proves that N calls by each of several threads on two or more cores are counted as exactly N times
the threads: in position-independent, fixed, static glibc and static musl programs; as pun, window
and uprobe; with rseq and with locked counters. Then, that functions beginning with every form of
instruction that has to be moved with care (see tests/victims/forms.c) compute what they did, that
inner instructions can be probed by NAME+0xOFFSET and MODULE:0xADDRESS, and that a probe keeps all
registers, all flags and the red zone.
"""
import os
import sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'lib'))
import suture_test as t

t.limit(120)
THREADS = 4
FUNCTIONS = ['sum_pun', 'sum_any', 'sum_below']


def sums(name, kind, options=(), functions=FUNCTIONS):
    """Counts a known number of calls. `functions` are those that this kind can do here."""
    what = '%s, %s%s' % (name, kind, ''.join(' ' + o for o in options))
    victim = t.Victim(name, THREADS)
    before = t.Snapshot(victim.pid, strict=kind != 'uprobe')
    rounds = 3000 if kind == 'uprobe' else 30000
    outcome, wrong = t.counted(victim, ['%s:%s' % (name, f) for f in functions],
                               lambda: victim.run(rounds), ['--kinds', kind, *options])
    if not t.ok(outcome.status == t.DONE and outcome.json is not None, what + ': succeeds'):
        outcome.explain()
    t.same(wrong, 0, what + ': no wrong result')
    t.same(outcome.hits(), {f: rounds * THREADS for f in functions}, what + ': hits')
    t.same(set(outcome.kinds().values()), {kind}, what + ': kind')
    counter = {probe['counter'] for probe in outcome.probes()}
    if kind == 'uprobe':
        expected = {'kernel'}
    elif '--no-rseq' in options or name == 'sums-musl':  # musl registers no rseq area
        expected = {'lock'}
    else:
        expected = {'rseq'}
    t.same(counter, expected, what + ': counter')
    t.same(victim.run(100), 0, what + ': right after detach')
    t.unchanged(before, what + ': left as it was', strict=kind != 'uprobe')
    victim.stop()


for name in ('sums', 'sums-nopie', 'sums-static', 'sums-musl'):
    fixed = name != 'sums'
    sums(name, 'pun', (), ['sum_pun', 'sum_any'] if fixed else FUNCTIONS)
    sums(name, 'pun', ['--no-rseq'], ['sum_pun', 'sum_any'] if fixed else FUNCTIONS)
    sums(name, 'window', (), ['sum_any', 'sum_below'])
    sums(name, 'window', ['--no-rseq'], ['sum_any', 'sum_below'])
    sums(name, 'uprobe')

# A function whose head a pun cannot do gets the next kind by itself.
victim = t.Victim('sums-nopie', 2)
outcome, wrong = t.counted(victim, ['sums-nopie:sum_*'], lambda: victim.run(5000))
t.same(wrong, 0, 'all functions by a glob: no wrong result')
t.same({f: n for f, n in outcome.hits().items() if f != 'sum_c'},
       {'sum_pun': 10000, 'sum_any': 10000, 'sum_below': 10000, 'sum_idle': 0},
       'all functions by a glob: hits')
t.same([outcome.kinds().get(f) for f in ('sum_pun', 'sum_any', 'sum_below')],
       ['pun', 'pun', 'window'], 'all functions by a glob: the best kind for each')
victim.stop()

# --- forms ----------------------------------------------------------------------------------

ROUNDS = 250
# What the kernel, too, declines to single-step or no jump of ours may replace.
MAY_BE_REFUSED = {'form_syscall'}
# Bytes 1 to 4 of these lead to free memory in a position-independent program.
PUNS = {'form_rip', 'form_long', 'form_push', 'form_endbr', 'form_jcc', 'form_jrcxz',
        'form_red_zone', 'form_back_edge', 'form_inner', 'form_head_loop'}

for name in ('forms', 'forms-nopie'):
    for kinds in ('pun,window,uprobe', 'pun', 'window', 'uprobe'):
        victim = t.Victim(name)
        expected = victim.expected()
        before = t.Snapshot(victim.pid, strict='uprobe' not in kinds)
        outcome, wrong = t.counted(victim, [name + ':form_*'], lambda: victim.run(ROUNDS),
                                   ['--kinds', kinds])
        what = '%s, %s' % (name, kinds)
        if not t.ok(outcome.status == t.DONE, what + ': succeeds'):
            outcome.explain()
        t.same(wrong, 0, what + ': no wrong result')
        hits = outcome.hits()
        bad = ['%s: %s, not %d (%s)' % (f, hits[f], n * ROUNDS, outcome.kinds()[f])
               for f, n in expected.items() if f in hits and hits[f] != n * ROUNDS]
        if not t.ok(hits and not bad, what + ': hits are exact'):
            t.note('\n'.join(bad[:10]))
        refused = {entry['spec'] for entry in outcome.refused()}
        reasons = [entry['reason'] for entry in outcome.refused()]
        t.ok(all(reasons), what + ': whatever is refused has a reason')
        missing = set(expected) - set(hits)
        t.note('%s: %d counted (%s); not: %s' % (
            what, len(hits), ', '.join('%s %d' % (k, list(outcome.kinds().values()).count(k))
                                       for k in sorted(set(outcome.kinds().values()))),
            ' '.join(sorted(missing)) or 'none'))
        if kinds == 'pun,window,uprobe':
            t.ok(missing <= MAY_BE_REFUSED, what + ': every form can be counted')
        if name == 'forms' and kinds == 'pun':
            t.same(PUNS - set(hits), set(), what + ': the puns that must be possible')
        t.same(len(refused) > 0, len(missing) > 0, what + ': the refused are listed')
        t.same(victim.run(10), 0, what + ': right after detach')
        t.unchanged(before, what + ': left as it was', strict='uprobe' not in kinds)
        victim.stop()

# --- an inner instruction -------------------------------------------------------------------

for name in ('forms', 'forms-nopie'):
    table = t.symbols(os.path.join(t.BUILD, 'tests/victims', name))
    site = table['keeps_site']
    by_offset = '%s:form_keeps+%#x' % (name, site - table['form_keeps'])
    by_address = '%s:%#x' % (name, site)
    for kind, options in (('pun', []), ('pun', ['--no-rseq']), ('window', []),
                          ('window', ['--no-rseq']), ('uprobe', [])):
        for spec in (by_offset, by_address):
            if spec == by_address and options:
                continue
            victim = t.Victim(name)
            outcome, wrong = t.counted(victim, spec, lambda: victim.run(2000),
                                       ['--kinds', kind, *options])
            what = '%s as %s%s' % (spec.replace('%#x' % site, 'ADDRESS'), kind,
                                   ''.join(' ' + o for o in options))
            t.same(wrong, 0, what + ': registers, flags and red zone are kept')
            if not t.same([(p['kind'], p['hits']) for p in outcome.probes()], [(kind, 8000)],
                          what + ': hits'):
                outcome.explain()
            victim.stop()

# Two names for one place share the site.
victim = t.Victim('forms')
outcome, wrong = t.counted(victim, ['forms:form_keeps', 'form_keeps', 'forms:form_keeps+0x0'],
                           lambda: victim.run(100))
t.same(wrong, 0, 'one function named three times: no wrong result')
if not t.ok(outcome.probes() and {p['hits'] for p in outcome.probes()} == {400},
            'one function named three times: counted once'):
    outcome.explain()
victim.stop()
t.done()
