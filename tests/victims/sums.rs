// SPDX-License-Identifier: MIT
//! sums - checksums by threads, while panics unwind through what is counted.
//!
//! usage: sums-rust THREADS
//!
//! Obeys `run N` and `quit` as tests/victims/victim.h says. In each round every thread calls
//! `checksum` once, `panics` once and `passes`, through which the panic unwinds, once.
use std::hint::black_box;
use std::io::BufRead;
use std::panic::{catch_unwind, resume_unwind};
use std::thread;

#[inline(never)]
pub fn checksum(x: u64) -> u64 {
    black_box(x.wrapping_mul(0x51a76b35) ^ x).wrapping_add(0x1f3d5217)
}

#[inline(never)]
pub fn panics(x: u64) -> u64 {
    if black_box(true) {
        resume_unwind(Box::new(x));
    }
    x
}

struct Guard<'a>(&'a mut u64);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        *self.0 += 1;
    }
}

#[inline(never)]
pub fn passes(x: u64, dropped: &mut u64) -> u64 {
    let guard = Guard(dropped);
    let result = panics(black_box(x) + 1);
    black_box(&guard);
    result
}

fn round(thread: u64, k: u64) -> u64 {
    let x = k.wrapping_mul(0x9e3779b97f4a7c15).wrapping_add(thread) >> 1;
    let mut wrong = 0;
    let mut dropped = 0;
    if checksum(x) != (x.wrapping_mul(0x51a76b35) ^ x).wrapping_add(0x1f3d5217) {
        wrong += 1;
    }
    let caught = catch_unwind(std::panic::AssertUnwindSafe(|| passes(x, &mut dropped)));
    match caught {
        Err(value) if value.downcast_ref::<u64>() == Some(&(x + 1)) => {}
        _ => wrong += 1,
    }
    if dropped != 1 {
        wrong += 1;
    }
    wrong
}

fn main() {
    let threads: u64 = std::env::args().nth(1).unwrap().parse().unwrap();
    let mut wrong = 0;
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        if line == "quit" {
            break;
        }
        let rounds: u64 = line.strip_prefix("run ").unwrap().parse().unwrap();
        let workers: Vec<_> = (0..threads)
            .map(|t| thread::spawn(move || (0..rounds).map(|k| round(t, k)).sum::<u64>()))
            .collect();
        wrong += workers.into_iter().map(|w| w.join().unwrap()).sum::<u64>();
        println!("done {}", wrong);
    }
}
