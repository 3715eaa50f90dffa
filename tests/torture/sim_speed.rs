//! What the simulator costs, and that it repeats itself: the suites that open a hundred thousand
//! disks stand on both.
//!
//! A script of about 400 mutating calls is run on a tiny store; then the images of a power loss at
//! its end are made, and opened. Prints the time of each: of the processor where the system tells
//! it (Linux), because the machine may be shared. The floor is on the images opened; the times
//! have no bound here.

use crate::scale::{Scale, Tally};
use alluvium::fs::Fs;
use alluvium::fs::sim::{Family, SimFs};
use alluvium::{Db, KeyspaceOptions, Options, Result};
use std::path::Path;
use std::sync::OnceLock;
use std::time::Instant;

const ROOT: &str = "/db";

fn options() -> Options {
    Options::new()
        .memory_bytes(1 << 20)
        .log_segment_bytes(8 << 10)
        .background_threads(0)
        .default_keyspace(
            KeyspaceOptions::new()
                .write_buffer_bytes(4 << 10)
                .block_bytes(256)
                .table_bytes(4 << 10)
                .level0_runs(2)
                .tier_runs(2)
                .size_ratio(2),
        )
}

fn open(sim: &SimFs) -> Result<Db> {
    options().open_in(Fs::sim(sim, Path::new(ROOT)))
}

/// Puts, syncs now and then, flushes when the buffer is full; until `calls` mutating calls.
fn script(sim: &SimFs, calls: u64) -> Result<u64> {
    let db = open(sim)?;
    let mut n = 0u64;
    while sim.call_count() < calls {
        let key = format!("key/{:04}", n * 7 % 97);
        db.put(key.as_bytes(), vec![n as u8; (n * 13 % 90) as usize])?;
        if n % 5 == 4 {
            db.sync()?;
        }
        n += 1;
    }
    drop(db);
    Ok(n)
}

/// Time that this thread has run, in nanoseconds.
fn clock() -> u64 {
    static STARTED: OnceLock<Instant> = OnceLock::new();
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat");
    let ran = schedstat
        .ok()
        .and_then(|text| text.split(' ').next()?.parse().ok());
    let elapsed = || STARTED.get_or_init(Instant::now).elapsed().as_nanos() as u64;
    ran.unwrap_or_else(elapsed)
}

fn micros(nanos: u64, n: u64) -> f64 {
    nanos as f64 / 1e3 / n.max(1) as f64
}

#[test]
fn simulator_speed() {
    let mut tally = Tally::new("simulator", "disks opened", [500, 20_000, 100_000]);
    let most = Scale::now().pick(1_000, 40_000, 200_000);
    let rounds = Scale::now().pick(5, 50, 200);
    let started = clock();
    let mut puts = 0;
    for seed in 0..rounds {
        puts += script(&SimFs::new(seed), 400).unwrap();
    }
    println!(
        "a script of 400 calls ({} puts): {:.0} us",
        puts / rounds,
        micros(clock() - started, rounds)
    );

    let (mut making, mut opening, mut made) = (0, 0, 0);
    for seed in 0.. {
        for calls in (30..430).step_by(8) {
            let sim = SimFs::new(seed);
            sim.crash_at(calls);
            // It fails at the crash point, as it must.
            let _ = script(&sim, calls + 1);
            let started = clock();
            let images: Vec<_> = sim.images(&Family::ALL).collect();
            making += clock() - started;
            let started = clock();
            for image in &images {
                let db = open(&image.sim).unwrap_or_else(|e| panic!("{}: {e}", image.id));
                drop(db);
            }
            opening += clock() - started;
            made += images.len() as u64;
        }
        if made >= most {
            break;
        }
    }
    tally.add(made);
    println!(
        "an image: {:.1} us; its open and drop: {:.1} us",
        micros(making, made),
        micros(opening, made)
    );
    tally.finish("cargo test --profile torture --features sim --test torture simulator_speed");
}

#[test]
fn two_runs_of_one_seed_make_the_same_calls() {
    let run = |seed| {
        let sim = SimFs::new(seed);
        script(&sim, 400).unwrap();
        sim
    };
    for seed in 0..10 {
        let (one, other) = (run(seed), run(seed));
        let (first, second) = (one.script(), other.script());
        for (a, b) in first.lines().zip(second.lines()) {
            assert_eq!(a, b, "seed {seed}");
        }
        assert_eq!(first.len(), second.len(), "seed {seed}");
        let digests = |sim: &SimFs| {
            let images = sim.images(&Family::ALL);
            images.map(|i| (i.id, i.sim.digest())).collect::<Vec<_>>()
        };
        assert_eq!(digests(&one), digests(&other), "seed {seed}");
    }
    // The seed is in the names of nothing, but in the bytes: another one gives other disks.
    assert_ne!(run(0).digest(), run(1).digest());
}
