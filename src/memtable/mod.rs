//! A sorted map in memory: entries in the order they came, sorted when somebody asks for the
//! order; a hash index beside them; one writer, readers without locks, nothing removed.
//!
//! ```text
//! arena   every version of every key, written once                         arena.rs
//! index   hash → newest version of a key → (chain in the entries) → older  index.rs
//! tail    the newest entries, in no order
//! runs    the others in order, in sorted arrays                            run.rs
//! chunks  the memory of arena and index, recycled by the pool              chunk.rs, pool.rs
//! ```
//!
//! Point reads go by the index and never need the order, but for two cases that bound their cost:
//! a version more than 16 steps down a chain, and a key that the index had no room for. Whoever
//! needs the order (a cursor, the flush) makes a run of the tail first, 20-50 ns an entry, and
//! merges runs when there are more than 8; without scans the flush sorts everything at once, and
//! no writer ever pays for order. A sorted structure that writers keep up (a skiplist, even one
//! of 8,192 entries) costs each write 200 to 300 ns more: DESIGN.md has the figures.
//!
//! Invariants: an entry is in the tail before it is in the index, and in both before its sequence
//! number becomes visible (the caller's Release, paired with the Acquire by which a reader loads
//! its number before it calls `get` or `cursor`). While nobody holds `runs`, every entry is in the
//! tail or in exactly one run. Tags of one key ascend; no two entries have key and tag in common.
//!
//! Locks, outside in: `runs`, `writer`, the arena's, the pool's. Readers of the index take none; a
//! writer waits for a cursor that takes the tail away, but not for its sorting.
//! Deleted ranges stand beside all this, in lists that are replaced whole (base's `ranges`).
//! What is not here: what kinds mean, when a memtable is rotated or flushed.

#[expect(
    unsafe_code,
    reason = "entries of many sizes in chunks that are recycled whole, read without locks"
)]
mod arena;
#[expect(
    unsafe_code,
    reason = "memory from the allocator, aligned to huge pages"
)]
mod chunk;
mod cursor;
#[expect(
    unsafe_code,
    reason = "an entry's address and hash bits share one atomic word"
)]
mod index;
mod pool;
mod run;
#[cfg(test)]
mod tests;

pub use cursor::{DrainCursor, MemtableCursor};
pub use pool::Pool;

use crate::base::checksum::KeyHasher;
use crate::base::key::common_prefix;
use crate::base::ranges::{DeletedRanges, HalfOpen};
use crate::base::sync::atomic::AtomicU64;
use crate::base::sync::atomic::Ordering::Relaxed;
use crate::base::sync::{Arc, ArcSwap, Mutex};
use crate::base::types::{SeqNo, Tag};
use arena::{Arena, ENTRY_OVERHEAD, Heads, Place, Placed};
use index::Index;
use run::{RUNS_MAX, Run, merge_start};
use std::ops::Bound;

/// Steps down a chain of versions before a snapshot read goes to the ordered part.
const CHAIN_STEPS_MAX: usize = 16;
/// Bytes that are cut off the common prefix for the successor: its keys may go a little further.
const PREFIX_MARGIN: usize = 2;

/// How a memtable is made.
#[derive(Clone, Debug)]
pub struct MemtableOptions {
    /// `is_full` from here on, in bytes of entries.
    pub capacity_bytes: u64,
    /// The database's keyed hash.
    pub hasher: KeyHasher,
    /// Bytes that most keys are expected to start with (from the memtable before): heads are taken
    /// behind them. Any keys are ordered rightly all the same.
    pub common_prefix: Vec<u8>,
    /// Slots of the hash index to start with (from the memtable before; 0 for the smallest).
    pub index_slots: usize,
}

/// See the module's text. Shared as `Arc<Memtable>`; retired by dropping (memory goes to the pool).
#[derive(Debug)]
pub struct Memtable {
    index: Index,
    arena: Arena,
    heads: Heads,
    writer: Mutex<Writer>,
    /// Held while the tail is made a run, and while runs are merged.
    runs: Mutex<Runs>,
    /// Replaced by the writer, a whole list at a time.
    deleted: ArcSwap<DeletedRanges>,
    capacity_bytes: u64,
    // Statistics, stored by the writer: no partners.
    bytes: AtomicU64,
    entries: AtomicU64,
    deletions: AtomicU64,
    seqno_min: AtomicU64,
    seqno_max: AtomicU64,
}

/// What only the writer changes, besides the structures themselves.
#[derive(Debug, Default)]
struct Writer {
    /// Entries that are in no run yet, in the order they came.
    tail: Vec<Placed>,
    /// What all keys so far start with; `None` before the first.
    shared: Option<Vec<u8>>,
}

/// Oldest first. Shared with cursors, which keep the ones they started with.
type Runs = Arc<[Arc<Run>]>;

/// A found version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// Sequence number and kind.
    pub tag: Tag,
    /// The value.
    pub value: &'a [u8],
}

impl Memtable {
    /// An empty one. Holds its index table from the start, and a chunk from the first insert on.
    pub fn new(options: MemtableOptions, pool: &Pool) -> Memtable {
        Memtable {
            index: Index::new(options.index_slots, pool),
            arena: Arena::new(pool),
            heads: Heads::behind(options.common_prefix),
            writer: Mutex::default(),
            runs: Mutex::new(Arc::from([])),
            deleted: ArcSwap::from_pointee(DeletedRanges::default()),
            capacity_bytes: options.capacity_bytes,
            bytes: AtomicU64::new(0),
            entries: AtomicU64::new(0),
            deletions: AtomicU64::new(0),
            seqno_min: AtomicU64::new(u64::MAX),
            seqno_max: AtomicU64::new(0),
        }
    }

    /// Adds a version. Callers hold the database's write lock; tags of one key ascend.
    /// `hash` is `hasher.hash(key)`.
    pub fn insert(&self, key: &[u8], hash: u64, tag: Tag, value: &[u8]) {
        let mut writer = self.writer.lock();
        let spot = self
            .index
            .reserve(key, hash, &self.arena, || self.keys_expected());
        debug_assert!(
            spot.newest.is_none_or(|entry| entry.tag(&self.arena) < tag),
            "tags of one key ascend"
        );
        let entry = self.arena.push(spot.newest, tag, key, value);
        writer.tail.push(self.heads.place(entry, key));
        writer.share(key);
        self.index.publish(spot, entry);

        add(&self.entries, 1);
        self.count(ENTRY_OVERHEAD + key.len() + value.len(), tag.seqno());
    }

    /// Every key of `range` is absent from `seqno` on. Callers hold the database's write lock.
    ///
    /// Cost: the logarithm of the number of such deletions, on the average of many side by side. Those
    /// that lie over one another cost as much as there are pieces and numbers in them, which are counted
    /// as bytes, so that many fill it.
    pub fn delete_range(&self, range: HalfOpen, seqno: SeqNo) {
        let _writer = self.writer.lock();
        let before = self.deleted.load();
        let deleted = before.with(range, seqno);
        let bytes = deleted.bytes().saturating_sub(before.bytes());
        self.deleted.store(Arc::new(deleted));
        add(&self.deletions, 1);
        self.count(bytes, seqno);
    }

    /// The ranges deleted so far.
    pub fn deleted(&self) -> DeletedRanges {
        match self.has_deleted() {
            true => DeletedRanges::clone(&self.deleted.load()),
            false => DeletedRanges::default(),
        }
    }

    /// The number of the newest deletion of a range with `key` in it, not newer than `at`.
    pub fn deletion_of(&self, key: &[u8], at: SeqNo) -> Option<SeqNo> {
        self.deleted.load().newest_at(key, at)
    }

    /// True when a range was deleted.
    #[inline]
    pub fn has_deleted(&self) -> bool {
        // As `entries`: stored before the number that a reader has loaded.
        self.deletions.load(Relaxed) != 0
    }

    /// True when nothing was written.
    pub fn is_empty(&self) -> bool {
        self.entries() == 0 && !self.has_deleted()
    }

    /// Counts what the writer has added.
    #[inline]
    fn count(&self, bytes: usize, seqno: SeqNo) {
        add(&self.bytes, bytes as u64);
        let seqno = seqno.get();
        if seqno < self.seqno_min.load(Relaxed) {
            self.seqno_min.store(seqno, Relaxed);
        }
        if self.seqno_max.load(Relaxed) < seqno {
            self.seqno_max.store(seqno, Relaxed);
        }
    }

    /// So many keys will there be when it is full, if they go on as they began.
    fn keys_expected(&self) -> usize {
        let share = self.capacity_bytes as f64 / self.bytes().max(1) as f64;
        (self.index.keys() as f64 * share.max(1.0)) as usize
    }

    /// Brings the index slot of `hash` into the cache; nothing when there are no entries.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        if self.entries() != 0 {
            self.index.prefetch(hash);
        }
    }

    /// The newest version of `key` not newer than `at`.
    #[inline]
    pub fn get(&self, key: &[u8], hash: u64, at: SeqNo) -> Option<Found<'_>> {
        // Whoever loaded the number `at` sees the count too, which was stored before it.
        if self.entries() == 0 {
            return None;
        }
        self.get_indexed(key, hash, at)
    }

    /// As `get`, of one that has entries.
    fn get_indexed(&self, key: &[u8], hash: u64, at: SeqNo) -> Option<Found<'_>> {
        let newest = Tag::newest_at(at);
        let mut version = self.index.find(key, hash, &self.arena);
        for _ in 0..CHAIN_STEPS_MAX {
            let Some(entry) = version else {
                if self.index.incomplete() {
                    break;
                }
                return None;
            };
            let tag = entry.tag(&self.arena);
            if tag <= newest {
                let value = entry.value(&self.arena);
                return Some(Found { tag, value });
            }
            version = entry.previous(&self.arena);
        }
        self.get_ordered(key, newest)
    }

    /// Hands every version of `key` that is not newer than `at` to `each`, newest first.
    #[cold]
    pub fn versions(&self, key: &[u8], hash: u64, at: SeqNo, mut each: impl FnMut(Found<'_>)) {
        let mut older_than_given = Some(Tag::newest_at(at));
        let mut give = |found: Found<'_>| {
            each(found);
            let number = found.tag.seqno().get().checked_sub(1);
            number.map(|number| Tag::newest_at(SeqNo::new(number)))
        };
        let mut version = self.index.find(key, hash, &self.arena);
        while let Some(entry) = version {
            let (tag, value) = (entry.tag(&self.arena), entry.value(&self.arena));
            if older_than_given.is_some_and(|newest| tag <= newest) {
                older_than_given = give(Found { tag, value });
            }
            version = entry.previous(&self.arena);
        }
        // The chain begins where the index had room for the key.
        while self.index.incomplete()
            && let Some(newest) = older_than_given
            && let Some(found) = self.get_ordered(key, newest)
        {
            older_than_given = give(found);
        }
    }

    /// Walks all versions in order; sees at least what was inserted before this call.
    ///
    /// Cost: some allocations; sorting what was inserted since the last such call (20-50 ns an
    /// entry), once in a while a merge of the runs (about 20-40 ns an entry).
    pub fn cursor(self: &Arc<Self>) -> MemtableCursor {
        MemtableCursor::new(Arc::clone(self), &self.ordered(RUNS_MAX))
    }

    /// Walks all versions in order, fast: for the flush of a memtable that takes no more writes.
    ///
    /// Cost: everything that is not in one run yet is merged into one (20-60 ns an entry), which
    /// other cursors then profit from.
    pub fn drain_cursor(self: &Arc<Self>) -> DrainCursor {
        DrainCursor(MemtableCursor::new(Arc::clone(self), &self.ordered(1)))
    }

    /// Bytes of entries.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// Bytes of the entries with keys from `from` up to before `to`, as if all were of one size.
    ///
    /// Cost: two searches in each run, and what a cursor costs for the order.
    pub fn approximate_bytes(&self, from: Option<&[u8]>, to: Option<&[u8]>) -> u64 {
        let before = |run: &Run, key: &[u8]| {
            let probe = self.heads.probe(key, Tag::MAX);
            run.before(Bound::Included(&probe))
        };
        let within = |run: &Arc<Run>| {
            let from = from.map_or(0, |key| before(run, key));
            let to = to.map_or(run.len(), |key| before(run, key));
            to.saturating_sub(from) as u64
        };
        let entries: u64 = self.ordered(RUNS_MAX).iter().map(within).sum();
        let share = entries as f64 / self.entries().max(1) as f64;
        (self.bytes() as f64 * share) as u64
    }

    /// Bytes of memory held: arena chunks, index, the order's heads and references, deleted ranges.
    pub fn memory(&self) -> u64 {
        let order = self.entries() * size_of::<Placed>() as u64;
        let deleted = self.deleted.load().bytes() as u64;
        self.arena.memory() + self.index.memory() + order + deleted
    }

    /// Number of versions.
    #[inline]
    pub fn entries(&self) -> u64 {
        self.entries.load(Relaxed)
    }

    /// True when it should be rotated.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.capacity_bytes <= self.bytes()
    }

    /// Lowest and highest sequence number, `None` when empty.
    pub fn seqnos(&self) -> Option<(SeqNo, SeqNo)> {
        let min = self.seqno_min.load(Relaxed);
        let max = self.seqno_max.load(Relaxed);
        (min <= max).then(|| (SeqNo::new(min), SeqNo::new(max)))
    }

    /// For the next memtable's options: a common prefix of the keys seen (less two bytes, and none
    /// if there is but one key), and the index slots that as many keys need.
    pub fn successor_hint(&self) -> (Vec<u8>, usize) {
        let writer = self.writer.lock();
        let mut prefix = writer.shared.clone().unwrap_or_default();
        prefix.truncate(match self.index.keys() {
            0 | 1 => 0,
            _ => prefix.len().saturating_sub(PREFIX_MARGIN),
        });
        (prefix, self.index.slots_hint())
    }

    /// As `get`, by the order. Cold: bounded by a search in each run.
    #[cold]
    fn get_ordered(&self, key: &[u8], newest: Tag) -> Option<Found<'_>> {
        let probe = self.heads.probe(key, newest);
        let runs = self.ordered(RUNS_MAX);
        // The least of the entries at or behind the probe; each run has its own least.
        let placed = (runs.iter())
            .filter_map(|run| run.get(run.before(Bound::Included(&probe))))
            .min()?;
        (placed.key() == key).then(|| Found {
            tag: placed.entry.tag(&self.arena),
            value: placed.entry.value(&self.arena),
        })
    }

    /// All entries in order, in at most `runs_max` runs; or in some more when that is not 1 and each
    /// is more than twice as long as all behind it.
    fn ordered(&self, runs_max: usize) -> Runs {
        let mut runs = self.runs.lock();
        let tail = std::mem::take(&mut self.writer.lock().tail);
        if !tail.is_empty() {
            let run = Arc::new(Run::from_unsorted(tail));
            *runs = runs.iter().cloned().chain([run]).collect();
        }
        let start = match runs_max {
            _ if runs.len() <= runs_max => runs.len(),
            1 => 0,
            _ => merge_start(&runs),
        };
        let (kept, inputs) = runs.split_at(start);
        if !inputs.is_empty() {
            let merged = Arc::new(Run::merged(inputs));
            *runs = kept.iter().cloned().chain([merged]).collect();
        }
        Arc::clone(&runs)
    }
}

/// Relaxed: only changed under the writer's lock.
#[inline]
fn add(sum: &AtomicU64, n: u64) {
    sum.store(sum.load(Relaxed) + n, Relaxed);
}

impl Writer {
    /// Shortens what all keys start with to what this one starts with too.
    #[inline]
    fn share(&mut self, key: &[u8]) {
        match &mut self.shared {
            Some(shared) if key.starts_with(shared) => {}
            Some(shared) => shared.truncate(common_prefix(shared, key)),
            None => self.shared = Some(key.to_vec()),
        }
    }
}
