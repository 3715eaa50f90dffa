//! The whole public face against a model: random operations, snapshots, reopenings, crashes.
//!
//! Each case is a list of operations and a set of options, both from one seed; what they can be
//! stands in `tests/model`. Cases run in the simulator, where upkeep runs between writes and a
//! kill or a loss of power is one call, and on the real disk with real threads. A failing case
//! prints its seed and the shortest list. `MODEL_CASES` sets the number of cases (default 1,300
//! in the simulator, 60 on the disk), `MODEL_SEED` the first seed (default 0).

#[path = "../model/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "the suites that share it use different parts"
)]
mod shared;

use crate::support::TempDir;
use shared::{Op, Place, Random, Settings, run, shortest};
use std::panic::{AssertUnwindSafe, catch_unwind};

const SHRINKING: usize = 1000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|n| n.parse().ok())
}

/// Runs so many cases; gives the number of operations.
fn run_cases(default: u64, run_case: impl Fn(u64, &[Op])) -> u64 {
    let first = number("MODEL_SEED").unwrap_or(0);
    let mut done = 0;
    for seed in first..first + number("MODEL_CASES").unwrap_or(default) {
        let len = 300 + Random(seed).below(1_300);
        let ops = Op::random(seed, len, false);
        let fails = |ops: &[Op]| catch_unwind(AssertUnwindSafe(|| run_case(seed, ops))).is_err();
        if fails(&ops) {
            let list = shortest(&ops, SHRINKING, fails);
            let lines: Vec<String> = list.iter().map(|op| format!("  {op}")).collect();
            panic!(
                "MODEL_SEED={seed} MODEL_CASES=1 fails; the shortest list:\n{}",
                lines.join("\n")
            );
        }
        done += len as u64;
    }
    done
}

/// At least 1,000,000 operations by default, upkeep between writes.
#[test]
fn the_engine_answers_as_a_sorted_map_does_in_the_simulator() {
    let done = run_cases(1_300, |seed, ops| {
        run(Place::simulated(), Settings::random(seed, 0), ops);
    });
    println!("model operations in the simulator: {done}");
    assert!(number("MODEL_CASES").is_some() || 1_000_000 <= done);
}

/// The same on the real disk, with real threads at work behind every operation.
#[test]
fn the_engine_answers_as_a_sorted_map_does_on_the_disk() {
    let done = run_cases(60, |seed, ops| {
        let dir = TempDir::new("model");
        let threads = 1 + (seed % 3) as usize;
        let place = Place::Real(dir.path().to_owned());
        run(place, Settings::random(seed, threads), ops);
    });
    println!("model operations on the disk: {done}");
}
