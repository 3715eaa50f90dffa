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
const FIELDS: usize = 7;

/// Counts of what the reads of a keyspace did, for `stats`.
#[derive(Debug, Default)]
pub struct ReadCounters {
    shards: [Shard; SHARDS],
}

/// One thread's counts, on a pair of cache lines that it shares with nobody.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard([AtomicU64; FIELDS]);

/// Totals at one moment, or what one read adds to them.
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

impl ReadCounts {
    fn fields(&self) -> [u64; FIELDS] {
        [
            self.gets,
            self.memtable_hits,
            self.filter_negatives,
            self.filter_positives,
            self.false_positives,
            self.tables_probed,
            self.seeks,
        ]
    }
}

impl ReadCounters {
    /// Adds `counts` to this thread's shard.
    #[inline]
    pub(super) fn add(&self, counts: &ReadCounts) {
        let shard = &self.shards[shard_of_thread()];
        for (total, n) in shard.0.iter().zip(counts.fields()) {
            if n != 0 {
                total.store(total.load(Ordering::Relaxed) + n, Ordering::Relaxed);
            }
        }
    }

    /// The totals now; not one instant when readers run.
    pub fn snapshot(&self) -> ReadCounts {
        let mut totals = [0u64; FIELDS];
        for shard in &self.shards {
            for (total, n) in totals.iter_mut().zip(&shard.0) {
                *total += n.load(Ordering::Relaxed);
            }
        }
        let [
            gets,
            memtable_hits,
            filter_negatives,
            filter_positives,
            false_positives,
            tables_probed,
            seeks,
        ] = totals;
        ReadCounts {
            gets,
            memtable_hits,
            filter_negatives,
            filter_positives,
            false_positives,
            tables_probed,
            seeks,
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
