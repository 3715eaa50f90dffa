//! FIFO: what is oldest goes when there is too much. For what is worth less the older it is.
//!
//! ```text
//! fifo_bytes       so many bytes of tables are kept; beyond, the oldest run goes whole, unread
//! a share          1 / SHARES of that: no merge makes a larger run
//! level 0          a run for each flush; the oldest level0_runs of them, if they fit into a share,
//!                  become one run of level 1, so that reads have few runs to ask
//! level 1 …        the same with tier_runs
//! ```
//! A run holds everything that was written in some span of time. What is left is therefore what was
//! written since some moment, in whole batches, as if nothing had been there before. Only a run of
//! more than two shares goes table by table, the oldest first: one that another style made, or a memtable
//! that is large beside `fifo_bytes`. The newest run never goes.
//!
//! What somebody reads stays until he is done: then there may be more than `fifo_bytes` meanwhile.
//! Nobody has to wait for that: only level 0 counts as a debt, and only where it can be merged.

use super::super::job::{Job, Reason};
use super::select::{Ground, Placed, size};
use super::{overdue_runs, runs_unmerged};
use crate::base::options::KeyspaceOptions;
use crate::base::types::SeqNo;
use crate::version::LEVELS_MAX;

/// A merged run has at most one part in so many of what is kept, which is as much as goes at once.
const SHARES: u64 = 16;

/// The most urgent job. `newest_reader`: see `Horizon`.
pub(super) fn pick(ground: &Ground<'_>, newest_reader: Option<SeqNo>) -> Option<Job> {
    forget(ground, newest_reader).or_else(|| {
        let mut levels = 0..LEVELS_MAX as u8 - 1;
        levels.find_map(|level| ground.merge(Reason::Runs, &mergeable(ground, level)?, level + 1))
    })
}

/// Level 0, where it can be merged.
pub(super) fn debt(ground: &Ground<'_>) -> f64 {
    match mergeable(ground, 0) {
        Some(_) => overdue_runs(
            runs_unmerged(ground.version.level(0)),
            ground.options.level0_runs,
        ),
        None => 0.0,
    }
}

/// Drops the oldest, as much as there is too much, unless somebody reads it.
fn forget(ground: &Ground<'_>, newest_reader: Option<SeqNo>) -> Option<Job> {
    let too_much = ground
        .version
        .bytes()
        .checked_sub(ground.options.fifo_bytes)?;
    if too_much == 0 {
        return None;
    }
    if ground.version.levels.iter().flatten().count() < 2 {
        return None;
    }
    let (level, run) = ground.oldest()?;
    let mut tables = run.tables.to_vec();
    if 2 * share(ground.options) < run.bytes() {
        tables.sort_by_key(|table| table.meta().summary.seqnos.1);
        let mut taken = 0u64;
        tables.retain(|table| {
            let is_needed = taken < too_much;
            taken = taken.saturating_add(size(table));
            is_needed
        });
    }
    let oldest = tables.iter().map(|t| t.meta().summary.seqnos.0).min()?;
    if newest_reader.is_some_and(|reader| oldest <= reader) {
        return None;
    }
    ground.drop_tables(Reason::Oldest, (level, run), tables)
}

/// The oldest runs of a level that are enough for a merge, newest first, if they fit into a share.
fn mergeable<'v>(ground: &Ground<'v>, level: u8) -> Option<Vec<Placed<'v>>> {
    // A merge of one run is none.
    let most = ground.runs_most(level).max(2) as usize;
    let runs = ground.runs(level);
    let oldest = runs.split_at_checked(runs.len().checked_sub(most)?)?.1;
    let bytes = oldest
        .iter()
        .fold(0u64, |sum, (_, run)| sum.saturating_add(run.bytes()));
    (bytes <= share(ground.options)).then(|| oldest.to_vec())
}

fn share(options: &KeyspaceOptions) -> u64 {
    options.fifo_bytes / SHARES
}
