//! Tiered compaction: cheapest to write, dearest to read (RocksDB's universal style).
//!
//! ```text
//! level 0          a run for each flush; at level0_runs they become one run of level 1
//! level 1 … d      up to tier_runs runs each; then they become one run of the next level
//! the oldest run   at the bottom of level d, not counted there; it is merged with others only
//!                  when more than ABOVE times its bytes lie above it
//! ```
//! A byte is written once for each level it goes down, `log(n)` times to the base `tier_runs`.
//!
//! **Space.** Everything above the oldest run may supersede what is in it. With more than `ABOVE`
//! times its bytes in levels from 1 on, a range of keys of them is merged into it: where there is
//! most above each of its bytes, a few tables at a time, so that nobody waits for a merge of
//! everything. What is stored stays within `1 + ABOVE` times the oldest run, and level 0.
//!
//! **When a level is added.** The oldest run moves down, no byte rewritten, when its level has
//! `tier_runs` others. Nothing is merged because nobody writes: who chooses this counts bytes.

use super::super::job::{Job, Reason};
use super::select::Ground;
use super::{TINY, overdue_bytes, overdue_runs, runs_unmerged};

/// So many times the oldest run's bytes may lie above it: 200 %, which is RocksDB's default too.
const ABOVE: u64 = 2;

/// The most urgent job.
pub(super) fn pick(ground: &Ground<'_>) -> Option<Job> {
    let runs = (0..=ground.deepest()).map(|level| (run_score(ground, level), Some(level)));
    let bytes = above(ground) as f64 / limit(ground).max(1) as f64;
    // What is as large as its limit is not yet over it.
    let bytes = (1.0 < bytes).then_some((bytes, None));
    let mut due: Vec<(f64, Option<u8>)> = runs.chain(bytes).collect();
    due.retain(|(score, _)| 1.0 <= *score);
    // Stable: the upper one of equals stays first.
    due.sort_by(|a, b| b.0.total_cmp(&a.0));
    due.into_iter().find_map(|(_, level)| match level {
        None => ground.join_oldest(Reason::Size),
        Some(level) if level == ground.deepest() && level != 0 => ground.deepen(Reason::Runs),
        Some(level) => down(ground, level),
    })
}

/// Takes a level one step down; what overlaps nothing beneath goes to the oldest run at once, unread.
fn down(ground: &Ground<'_>, level: u8) -> Option<Job> {
    let bottom = ground.deepest().max(1);
    ground
        .sink(
            Reason::Runs,
            level,
            bottom,
            ground.options.table_bytes / TINY,
        )
        .or_else(|| ground.whole(Reason::Runs, level, level + 1, &|_| true))
}

/// The worst level below 0 by runs, or the bytes above the oldest run against their limit.
pub(super) fn debt(ground: &Ground<'_>) -> f64 {
    let levels = 1..=ground.deepest();
    let by_runs = levels.map(|level| {
        let runs = runs_unmerged(ground.tier(level));
        overdue_runs(runs, ground.options.tier_runs)
    });
    by_runs.fold(overdue_bytes(above(ground), limit(ground)), f64::max)
}

fn run_score(ground: &Ground<'_>, level: u8) -> f64 {
    ground.tier(level).len() as f64 / f64::from(ground.runs_most(level))
}

/// Bytes in levels from 1 on that are not the oldest run's.
fn above(ground: &Ground<'_>) -> u64 {
    let runs = (1..=ground.deepest()).flat_map(|level| ground.tier(level));
    runs.fold(0, |sum, run| sum.saturating_add(run.bytes()))
}

fn limit(ground: &Ground<'_>) -> u64 {
    match ground.oldest() {
        Some((level, run)) if level != 0 => run.bytes().saturating_mul(ABOVE),
        _ => 0,
    }
}
