//! Leveled compaction: one sorted run a level, cheap to scan, dearer to write.
//!
//! Level 0 holds a run for each flush; at `level0_runs` its tables are merged into level 1, by
//! closures (several where level 0 has gaps, as after sequential writes). Level `l ≥ 1` may hold
//! `write_buffer_bytes × level0_runs × size_ratio^(l - 1)` bytes. The level furthest over its
//! target gives one table to the next: the one that makes the next level rewrite least for each
//! byte moved, deletions counting as nothing. A table that overlaps nothing is moved. The deepest
//! level over its target opens the next one the same way.
//!
//! A level below 0 that has several runs (the keyspace was lazy before) is first merged into one,
//! the deepest first. Idle, level 0 is pushed down from two runs on; levels stay apart.

use super::super::job::{Job, Reason};
use super::select::{Ground, largest, size, smallest};
use super::{grown, overdue_bytes};
use crate::base::options::KeyspaceOptions;
use crate::base::sync::Arc;
use crate::version::{LEVELS_MAX, TableEntry, Version};

/// The most urgent job.
pub(super) fn pick(ground: &Ground<'_>) -> Option<Job> {
    let levels = 1..=ground.deepest();
    let several = |level: &u8| 2 <= ground.version.level(*level).len();
    if let Some(level) = levels.clone().rev().find(several) {
        // Until then nothing else is right: the other moves expect one run.
        return ground.collapse(Reason::Runs, level, &|_| true);
    }
    let runs = ground.version.level(0).len() as f64;
    let mut due = vec![(runs / f64::from(ground.options.level0_runs), 0)];
    due.extend(levels.filter_map(|level| {
        let bytes = ground.version.level_bytes(level);
        let target = target(ground.options, level);
        (target < bytes).then_some((bytes as f64 / target.max(1) as f64, level))
    }));
    due.retain(|(score, _)| 1.0 <= *score);
    // Stable: the upper one of equals stays first.
    due.sort_by(|a, b| b.0.total_cmp(&a.0));
    due.into_iter().find_map(|(_, level)| match level {
        0 => empty_level0(ground, Reason::Runs),
        _ => push_table(ground, level),
    })
}

/// Nobody writes: level 0 becomes one run with level 1.
pub(super) fn tidy(ground: &Ground<'_>) -> Option<Job> {
    (2 <= ground.version.level(0).len())
        .then(|| empty_level0(ground, Reason::Idle))
        .flatten()
}

/// The level furthest over its target.
pub(super) fn debt(version: &Version, options: &KeyspaceOptions) -> f64 {
    (1..version.levels.len() as u8)
        .map(|level| overdue_bytes(version.level_bytes_unmerged(level), target(options, level)))
        .fold(0.0, f64::max)
}

/// Bytes that a level below 0 may hold; the deepest there can be has no limit.
fn target(options: &KeyspaceOptions, level: u8) -> u64 {
    if LEVELS_MAX <= usize::from(level) + 1 {
        return u64::MAX;
    }
    let level1 = options
        .write_buffer_bytes
        .saturating_mul(options.level0_runs.into());
    grown(level1, options.size_ratio, u32::from(level) - 1)
}

fn empty_level0(ground: &Ground<'_>, reason: Reason) -> Option<Job> {
    ground.sink(reason, 0, 1, 0).or_else(|| {
        let level1 = ground.version.level(1).first();
        ground.slice(reason, &ground.runs(0), level1, 1, &|_| true)
    })
}

/// Gives one table of `level` to the next: the cheapest that is free.
fn push_table(ground: &Ground<'_>, level: u8) -> Option<Job> {
    let run = ground.version.level(level).first()?;
    let next = ground.version.level(level + 1).first();
    let beneath = |table: &TableEntry| {
        next.map_or(&[][..], |run| {
            run.overlapping(Some(smallest(table)), Some(largest(table)))
        })
    };
    let mut tables: Vec<(f64, &Arc<TableEntry>)> = run
        .tables
        .iter()
        .map(|table| (cost(table, beneath(table)), table))
        .collect();
    // Stable: the first key of equals stays first.
    tables.sort_by(|a, b| a.0.total_cmp(&b.0));
    tables.into_iter().find_map(|(_, table)| {
        let mut inputs = vec![(level, run.order, vec![Arc::clone(table)])];
        let overlapped = beneath(table);
        if let (Some(next), false) = (next, overlapped.is_empty()) {
            inputs.push((level + 1, next.order, overlapped.to_vec()));
        }
        let moves = inputs.len() == 1;
        ground.admitted(
            Reason::Size,
            inputs,
            level + 1,
            next.map(|run| run.order),
            moves,
        )
    })
}

/// Bytes beneath that are rewritten for each byte that leaves the level; deletions weigh nothing.
fn cost(table: &TableEntry, beneath: &[Arc<TableEntry>]) -> f64 {
    let overlap = beneath.iter().map(|t| size(t) as f64).sum::<f64>();
    let summary = &table.meta().summary;
    let dead = summary.tombstones as f64 / summary.entries.max(1) as f64;
    overlap / size(table).max(1) as f64 * (1.0 - dead.min(1.0))
}
