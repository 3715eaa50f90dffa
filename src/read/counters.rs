//! What reads did, counted so cheaply that they do not notice.
//!
//! Each thread adds to a line of its own (threads take shards in turn), by a plain load and store
//! rather than a locked addition. With more than [`SHARDS`] reading threads two may share a shard,
//! and then a few counts can be lost: these are figures for people, and nothing depends on them.
//! All accesses are relaxed and pair with nothing.

use crate::base::sync::atomic::Ordering;
use crate::base::sync::plain::{AtomicU64, AtomicUsize};
use std::cell::Cell;

const SHARDS: usize = 32;

/// Counts of what the reads of a keyspace did, for `stats`.
#[derive(Debug, Default)]
pub struct ReadCounters {
    shards: [Shard; SHARDS],
}

/// One thread's counts, on a pair of cache lines that it shares with nobody; see [`ReadCounts`].
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Shard {
    pub(super) gets: Count,
    pub(super) memtable_hits: Count,
    pub(super) filter_negatives: Count,
    pub(super) filter_positives: Count,
    pub(super) false_positives: Count,
    pub(super) tables_probed: Count,
    pub(super) seeks: Count,
}

/// A number that one thread raises.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    /// One instruction: the compiler makes it an addition to memory, without a lock.
    #[inline]
    pub(super) fn add(&self, n: u64) {
        self.0
            .store(self.0.load(Ordering::Relaxed) + n, Ordering::Relaxed);
    }
}

/// Totals at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadCounts {
    /// Keys asked for by point reads.
    pub gets: u64,
    /// Of those, answered by a memtable.
    pub memtable_hits: u64,
    /// Filters that said "surely absent".
    pub filter_negatives: u64,
    /// Filters that said "perhaps", and the key was there.
    pub filter_positives: u64,
    /// Filters that said "perhaps", and the key was not there (or only newer versions of it).
    pub false_positives: u64,
    /// Tables whose blocks were searched.
    pub tables_probed: u64,
    /// Positionings of cursors.
    pub seeks: u64,
}

impl ReadCounters {
    /// Where this thread counts.
    #[inline]
    pub(super) fn of_thread(&self) -> &Shard {
        &self.shards[shard_of_thread()]
    }

    /// The totals now; not one instant when readers run.
    pub fn snapshot(&self) -> ReadCounts {
        let total = |count: fn(&Shard) -> &Count| {
            let counts = self.shards.iter().map(count);
            counts.map(|count| count.0.load(Ordering::Relaxed)).sum()
        };
        ReadCounts {
            gets: total(|shard| &shard.gets),
            memtable_hits: total(|shard| &shard.memtable_hits),
            filter_negatives: total(|shard| &shard.filter_negatives),
            filter_positives: total(|shard| &shard.filter_positives),
            false_positives: total(|shard| &shard.false_positives),
            tables_probed: total(|shard| &shard.tables_probed),
            seeks: total(|shard| &shard.seeks),
        }
    }
}

/// The shard this thread counts in: given at its first count, in turn.
#[inline]
fn shard_of_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static SHARD: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    SHARD
        .try_with(|shard| {
            if shard.get() == usize::MAX {
                shard.set(NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS);
            }
            shard.get()
        })
        .unwrap_or(0)
}
