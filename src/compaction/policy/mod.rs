//! Which job is due: a pure function of the version, of what is running, and of the options.
//!
//! `lazy` keeps several runs in every level but the last; `leveled` one in every level but the
//! first; `tiered` several in each, `fifo` as many as there is room for; `manual` pushes a range down
//! on request. They choose among the moves of `select`.
//!
//! Invariants: PI1 a job never touches what a running one uses (`Busy::admits`); PI2 after the
//! last write a bounded number of jobs leads to `None` with every score below its threshold
//! (simulated in the tests); PI3 the order of versions of a key is kept (see `select`).
//! Threads: any; nothing is remembered between calls.

mod fifo;
mod lazy;
mod leveled;
mod manual;
mod select;
#[cfg(test)]
mod tests;
mod tiered;

use super::job::{Busy, Job, Reason};
use crate::base::options::{CompactionStyle, KeyspaceOptions};
use crate::base::types::{SeqNo, Time};
use crate::read::Horizon;
use crate::version::{SortedRun, TableEntry, Version};
pub use manual::{Manual, pick_manual};
use select::Ground;

/// So many pieces of deleted ranges are left alone when nobody writes, and so many while somebody does;
/// beyond, tables that hold what they remove are rewritten until the pieces matter to nobody.
const PIECES_IDLE: usize = 64;
const PIECES_BUSY: usize = 1024;
/// A table of the last level is rewritten when more than one in so many of its entries is a
/// deletion.
const TOMBSTONE_SHARE: u64 = 4;
/// A table this many times smaller than wanted is merged rather than moved.
const TINY: u64 = 16;

/// The most urgent job, if one is due. Pure: same arguments, same answer.
///
/// `horizon` has the oldest live snapshot: deletions that it does not see cannot be dropped, so
/// their tables are left alone; and what has expired for everybody. `idle`: nobody writes, and runs
/// are merged until one is left.
pub fn pick(
    version: &Version,
    busy: &Busy,
    options: &KeyspaceOptions,
    horizon: &Horizon,
    idle: bool,
) -> Option<Job> {
    let oldest = horizon.oldest();
    let ground = Ground {
        version,
        busy,
        options,
    };
    if let Some(job) = ground.drop_deleted(oldest) {
        return Some(job);
    }
    let due = match options.compaction {
        CompactionStyle::Lazy => lazy::pick(&ground),
        CompactionStyle::Leveled => leveled::pick(&ground),
        CompactionStyle::Tiered => tiered::pick(&ground),
        CompactionStyle::Fifo => fifo::pick(&ground, horizon.newest_reader),
    };
    let many = if idle { PIECES_IDLE } else { PIECES_BUSY };
    due.or_else(|| ground.rewrite(Reason::Tombstones, &|table| is_mostly_dead(table, oldest)))
        .or_else(|| {
            let expired = horizon.expired?;
            ground.rewrite_anywhere(Reason::Expired, &|table| is_half_expired(table, expired))
        })
        .or_else(|| match options.compaction {
            _ if !idle => None,
            CompactionStyle::Lazy => lazy::tidy(&ground),
            CompactionStyle::Leveled => leveled::tidy(&ground),
            CompactionStyle::Tiered | CompactionStyle::Fifo => None,
        })
        .or_else(|| match many < version.deleted.len() {
            true => ground.apply_deleted(oldest),
            false => None,
        })
}

/// How far behind compaction is: 0.0 nothing is due, 1.0 writers should wait. Continuous in the
/// number of runs and in bytes; may exceed 1. What running jobs have merged already counts no more,
/// so that the debt falls while they work: a merge of ten runs takes seconds.
///
/// Level 0 counts from its threshold to three times that; see each style for the levels below.
pub fn debt(version: &Version, options: &KeyspaceOptions) -> f64 {
    let level0 = overdue_runs(runs_unmerged(version.level(0)), options.level0_runs);
    let ground = Ground {
        version,
        busy: &Busy::default(),
        options,
    };
    let deeper = match options.compaction {
        CompactionStyle::Lazy => lazy::debt(&ground),
        CompactionStyle::Leveled => leveled::debt(version, options),
        CompactionStyle::Tiered => tiered::debt(&ground),
        CompactionStyle::Fifo => return fifo::debt(&ground),
    };
    level0.max(deeper)
}

/// So many runs are left to do of these.
fn runs_unmerged(runs: &[SortedRun]) -> f64 {
    runs.iter().map(SortedRun::share_unmerged).sum()
}

/// 0 one below the threshold, 1 at three times the threshold, linear.
fn overdue_runs(runs: f64, threshold: u32) -> f64 {
    let over = runs + 1.0 - f64::from(threshold);
    (over / (2.0 * f64::from(threshold) + 1.0)).max(0.0)
}

/// 0 at the limit, 1 at three times the limit, linear.
fn overdue_bytes(bytes: u64, limit: u64) -> f64 {
    ((bytes as f64 / limit.max(1) as f64 - 1.0) / 2.0).max(0.0)
}

/// True when rewriting a table of the last level drops much: many deletions, and no snapshot that
/// needs them. Once rewritten it holds none, so this ends.
fn is_mostly_dead(table: &TableEntry, oldest: SeqNo) -> bool {
    let summary = &table.meta().summary;
    summary.entries / TOMBSTONE_SHARE < summary.tombstones && summary.seqnos.1 <= oldest
}

/// True when about half of a table has expired, so that rewriting it drops that, or the values at
/// least. What it holds then expires later, so each entry is rewritten for this about twice at most.
fn is_half_expired(table: &TableEntry, expired: Time) -> bool {
    let summary = &table.meta().summary;
    let (expiring, half) = (summary.expiring, summary.entries.div_ceil(2));
    half <= expiring.entries && expiring.half_at <= expired
}

/// `base × ratio^power`, saturating: 10 TB levels and absurd options alike.
fn grown(base: u64, ratio: u32, power: u32) -> u64 {
    u64::from(ratio)
        .checked_pow(power)
        .map_or(u64::MAX, |factor| base.saturating_mul(factor))
}
