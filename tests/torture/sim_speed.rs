//! What the simulator costs: the suites that open a hundred thousand disks stand on it.
//!
//! A script of about 400 mutating calls is run on a tiny store; then the images of a power loss at
//! its end are made, and opened. Prints the time of each. The floor is on the images opened; the
//! times have no bound here, because this machine is shared.

use crate::scale::{Scale, Tally};
use alluvium::fs::Fs;
use alluvium::fs::sim::{Family, SimFs};
use alluvium::{Db, KeyspaceOptions, Options, Result};
use std::path::Path;
use std::time::{Duration, Instant};

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

fn micros(all: Duration, n: u64) -> f64 {
    all.as_secs_f64() * 1e6 / n.max(1) as f64
}

#[test]
fn simulator_speed() {
    let mut tally = Tally::new("simulator", "disks opened", [500, 20_000, 100_000]);
    let most = Scale::now().pick(1_000, 40_000, 200_000);
    let rounds = Scale::now().pick(5, 50, 200);
    let started = Instant::now();
    let mut puts = 0;
    for seed in 0..rounds {
        puts += script(&SimFs::new(seed), 400).unwrap();
    }
    println!(
        "a script of 400 calls ({} puts): {:.0} us",
        puts / rounds,
        micros(started.elapsed(), rounds)
    );

    let (mut making, mut opening, mut made) = (Duration::ZERO, Duration::ZERO, 0);
    'all: for seed in 0.. {
        for calls in (30..430).step_by(8) {
            let sim = SimFs::new(seed);
            sim.crash_at(calls);
            // It fails at the crash point, as it must.
            let _ = script(&sim, calls + 1);
            let mut images = sim.images(&Family::ALL);
            loop {
                let started = Instant::now();
                let image = images.next();
                making += started.elapsed();
                let Some(image) = image else { break };
                made += 1;
                let started = Instant::now();
                let db = open(&image.sim).unwrap_or_else(|e| panic!("{}: {e}", image.id));
                drop(db);
                opening += started.elapsed();
                tally.add(1);
                if made == most {
                    break 'all;
                }
            }
        }
    }
    println!(
        "an image: {:.1} us; its open and drop: {:.1} us",
        micros(making, made),
        micros(opening, made)
    );
    tally.finish("cargo test --profile torture --features sim --test torture simulator_speed");
}
