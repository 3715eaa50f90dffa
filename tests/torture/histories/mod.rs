//! A8: what concurrent clients see is linearizable, batches and snapshots included (P16).
//!
//! Each history is 8 clients with 200 operations each on a real database whose memtables hold a few
//! dozen entries, so that rotations, flushes and compactions happen all the time: puts, deletes,
//! batches over two keyspaces, gets, snapshots and scans that are read long after they were taken.
//! `record` notes calls and returns, `check` looks for an order that explains everything.
//!
//! Seven of eight databases are simulated, the eighth is on the disk. A refused history prints its
//! seed and the few operations that cannot be; `TORTURE_CASE=<seed>` runs that seed's clients again
//! (and again: how they meet is not in the seed), for as long as `TORTURE_REPEAT` says.

mod check;
mod record;

use crate::scale::{Part, Scale, Tally, only, repeats};
use crate::temp_dir::TempDir;
use alluvium::fs::Fs;
use alluvium::fs::sim::SimFs;
use alluvium::{CompactionStyle, KeyspaceOptions, Options};
pub(crate) use record::Place;
use record::{CLIENTS, OPERATIONS};
use std::path::Path;
use std::time::{Duration, Instant};

const HOW: &str = "cargo test --profile torture --features sim --test torture histories";
/// Histories that share one database, each with its own keys.
const HISTORIES_EACH: u64 = 10;

pub(crate) fn keyspace(seed: u64) -> KeyspaceOptions {
    KeyspaceOptions::new()
        .write_buffer_bytes(1 << (10 + seed % 4))
        .immutables_max(2 + (seed % 3) as u32)
        .block_bytes(256)
        .table_bytes(4 << 10)
        .level0_runs(2)
        .tier_runs(2)
        .size_ratio(2)
        .compaction(CompactionStyle::ALL[seed as usize % 4])
}

pub(crate) fn options(seed: u64) -> Options {
    Options::new()
        .memory_bytes(8 << 20)
        .log_segment_bytes(16 << 10)
        .background_threads(1 + (seed / 2 % 3) as usize)
        .default_keyspace(keyspace(seed))
}

/// Runs `count` histories in one database; the seed of each is `seed` plus its number.
/// Gives the longest time that one took, and its seed.
fn run(seed: u64, count: u64) -> (Duration, u64) {
    let mut slowest = (Duration::ZERO, seed);
    let folder = match (seed / HISTORIES_EACH) % 8 {
        0 => Some(TempDir::new("histories")),
        _ => None,
    };
    let opened = match &folder {
        Some(folder) => options(seed).open(folder.path()),
        None => options(seed).open_in(Fs::sim(&SimFs::new(seed), Path::new("/db"))),
    };
    let db = opened.expect("the database opens");
    let other = db.keyspace("other", keyspace(seed + 1));
    let place = Place::new(db.clone(), other.expect("the keyspace opens"));
    for n in 0..count {
        let start = Instant::now();
        let history = place.record(seed + n);
        slowest = slowest.max((start.elapsed(), seed + n));
        if let Err(refusal) = check::check(&history) {
            panic!(
                "history {}: {refusal}\nagain: TORTURE_CASE={} TORTURE_REPEAT=200 {HOW}",
                seed + n,
                seed + n
            );
        }
    }
    drop(place);
    db.close().expect("the database closes");
    slowest
}

#[test]
fn histories_of_concurrent_clients_are_linearizable() {
    let floors = [40, 2_000, 312_500];
    let mut tally = Tally::new(
        "A8 linearizability",
        "histories of 1,600 operations",
        floors,
    );
    assert_eq!(CLIENTS * OPERATIONS, 1_600);
    if let Some(case) = only() {
        let seed: u64 = case.parse().expect("TORTURE_CASE is a seed");
        for _ in 0..repeats() {
            run(seed, 1);
            tally.add(1);
        }
        return tally.finish(HOW);
    }
    let [smoke, ci, full] = floors;
    let mut slowest = (Duration::ZERO, 0);
    let databases = Scale::now().pick(smoke, ci, full) / HISTORIES_EACH;
    for database in Part::now().range(databases) {
        let first = database * HISTORIES_EACH;
        slowest = slowest.max(run(first, HISTORIES_EACH));
        tally.add(HISTORIES_EACH);
    }
    // Not a check (the machine may be busy), but a lost wake-up shows here as whole seconds.
    println!(
        "slowest history: {} ms, seed {}",
        slowest.0.as_millis(),
        slowest.1
    );
    tally.finish(HOW);
}
