//! Everything that a read of one keyspace looks at, loaded at once.
//!
//! Immutable and shared, so a reader that holds a view sees both or neither side of a flush: the
//! memtable *or* its table, never a gap between them. Entries newer than the reader's sequence
//! number may still be added to the active memtable; readers pass over them.

use super::bounds::Bounds;
use super::counters::ReadCounters;
use super::snapshot::At;
use super::source::Source;
use crate::base::checksum::KeyHasher;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::hooks::Folding;
use crate::base::ranges::DeletedRanges;
use crate::base::sync::Arc;
use crate::base::sync::atomic::{AtomicBool, Ordering};
use crate::base::types::{SeqNo, Time};
use crate::fs::Clock;
use crate::memtable::Memtable;
use crate::version::{SortedRun, Version};

/// Everything a read of one keyspace looks at; immutable, shared as `Arc<View>`.
#[derive(Clone, Debug)]
pub struct View {
    /// Takes the writes.
    pub active: Arc<Memtable>,
    /// Waiting for their flush, newest first.
    pub immutables: Vec<Arc<Memtable>>,
    /// The tables.
    pub version: Arc<Version>,
    /// Ranges deleted in the memtables that wait, and in the version; the active one has its own.
    pub deleted: DeletedRanges,
    /// The database's keyed hash.
    pub hasher: KeyHasher,
    /// Probes and outcomes, counted relaxed.
    pub counters: Arc<ReadCounters>,
    /// Set when the database is closed: iterators and cursors that are left over end.
    pub closed: Arc<AtomicBool>,
    /// What the keyspace's merges mean.
    pub folding: Folding,
    /// What says whether a value has expired.
    pub clock: Arc<Clock>,
}

impl View {
    /// True once the database was closed.
    #[inline]
    pub fn is_closed(&self) -> bool {
        // Relaxed: what a reader holds stays valid; it only has to stop some time after.
        self.closed.load(Ordering::Relaxed)
    }

    /// Fails with `Closed` once the database was closed.
    pub fn check_open(&self) -> Result<()> {
        match self.is_closed() {
            true => Err(Error::new(ErrorKind::Closed, "the database was closed")),
            false => Ok(()),
        }
    }

    /// The same with other memtables that wait, and another version.
    pub fn over(&self, immutables: Vec<Arc<Memtable>>, version: Arc<Version>) -> View {
        let mut deleted = DeletedRanges::from(&version.deleted);
        deleted.extend(immutables.iter().map(|memtable| memtable.deleted()));
        View {
            immutables,
            version,
            deleted,
            ..self.clone()
        }
    }

    /// True when some range was deleted that a read may have to look at.
    #[inline]
    pub fn has_deleted(&self) -> bool {
        !self.deleted.is_empty() || self.active.has_deleted()
    }

    /// All ranges that are deleted.
    pub fn all_deleted(&self) -> DeletedRanges {
        let mut deleted = self.deleted.clone();
        deleted.extend([self.active.deleted()]);
        deleted
    }

    /// The number of the newest deletion of a range with `key` in it, not newer than `at`;
    /// [`SeqNo::ZERO`] when there is none.
    #[inline]
    pub fn deletion_of(&self, key: &[u8], at: SeqNo) -> SeqNo {
        if !self.has_deleted() {
            return SeqNo::ZERO;
        }
        let newest = self.deleted.newest_at(key, at);
        (newest.max(self.active.deletion_of(key, at))).unwrap_or_default()
    }

    /// True when what expires at `expiry` is not seen at `at` any more.
    pub fn has_expired(&self, expiry: Time, at: At) -> bool {
        let time = at.time.unwrap_or_else(|| self.clock.now());
        self.clock.has_expired(expiry, time)
    }

    /// The memtables, newest first.
    #[inline]
    pub fn memtables(&self) -> impl Iterator<Item = &Arc<Memtable>> {
        std::iter::once(&self.active).chain(&self.immutables)
    }

    /// The runs, newest first.
    #[inline]
    pub fn runs(&self) -> impl Iterator<Item = &SortedRun> {
        self.version.levels.iter().flatten()
    }

    /// Bytes that memtables and tables hold from the key `from` up to before `to`, roughly. Only tables
    /// that reach over one of the two are asked.
    ///
    /// # Errors
    /// Those of opening tables and of reading their index.
    pub fn approximate_bytes(&self, from: Option<&[u8]>, to: Option<&[u8]>) -> Result<u64> {
        let in_memory = self.memtables().map(|m| m.approximate_bytes(from, to));
        let mut bytes = in_memory.sum();
        for table in self.runs().flat_map(|run| run.overlapping(from, to)) {
            let summary = &table.meta().summary;
            let is_within = from.is_none_or(|from| from <= summary.smallest.as_slice())
                && to.is_none_or(|to| summary.largest.as_slice() < to);
            bytes += match is_within {
                true => summary.bytes,
                false => table.table()?.approximate_bytes(from, to)?,
            };
        }
        Ok(bytes)
    }

    /// Cursors over all that may hold keys within `bounds`, newest first.
    ///
    /// # Errors
    /// Those of opening tables.
    pub fn sources(&self, bounds: &Bounds) -> Result<Vec<Source>> {
        let most = self.memtables().count() + self.runs().count();
        let mut sources = Vec::with_capacity(most);
        let written = self.memtables().filter(|memtable| 0 < memtable.entries());
        sources.extend(written.map(|memtable| Source::Memtable(memtable.cursor())));
        for run in self.runs() {
            sources.extend(Source::of_run(run, bounds)?);
        }
        Ok(sources)
    }
}
