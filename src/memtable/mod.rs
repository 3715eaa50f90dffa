//! A sorted map in memory: a small skiplist stage, the sorted runs it freezes into, a hash index
//! beside them; one writer, readers without locks, nothing removed.
//!
//! ```text
//! arena   every version of every key, written once                         arena.rs
//! index   hash → newest version of a key → (chain in the entries) → older  index.rs
//! stage   the newest entries in order, at most 8,192                       stage.rs
//! runs    the others in order, in sorted arrays                            run.rs
//! ```
//!
//! Point reads go by the index and never walk the order, but for two cases that bound their cost:
//! a version more than 16 steps down a chain, and a key that the index had no room for. Scans merge
//! stage and runs (`cursor.rs`). A full stage is frozen by the writer (20-50 ns an entry); runs are
//! merged by the first cursor that would meet more than 8 of them, and all at once for the flush;
//! without either nobody pays for merging.
//!
//! Invariants: an entry is in the order before it is in the index, and in both before its sequence
//! number becomes visible (the caller's Release, paired with the Acquire by which a reader loads
//! its number before it calls `get` or `cursor`). Every entry is in the stage or in exactly one
//! run. Tags of one key ascend; no two entries have key and tag in common.
//!
//! Locks, outside in: `merging`, `writer`, `state`, the arena's, the pool's. Readers of the index take none.
//! What is not here: what kinds mean, range deletions, when a memtable is rotated or flushed.

#[expect(
    unsafe_code,
    reason = "entries of many sizes in chunks that are recycled whole, read without locks"
)]
mod arena;
mod cursor;
#[expect(
    unsafe_code,
    reason = "an entry's address and hash bits share one atomic word"
)]
mod index;
mod pool;
mod run;
mod stage;
#[cfg(test)]
mod tests;

pub use cursor::{DrainCursor, MemtableCursor};
pub use pool::Pool;

use crate::base::checksum::KeyHasher;
use crate::base::key::common_prefix;
use crate::base::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::base::sync::atomic::{AtomicBool, AtomicU64};
use crate::base::sync::{Arc, Mutex};
use crate::base::types::{SeqNo, Tag};
use arena::{Arena, ENTRY_OVERHEAD, Heads, Place, Placed};
use index::Index;
use run::{RUNS_MAX, Run, merge_start};
use stage::{STAGE_ENTRIES_MAX, STAGE_ENTRY_BYTES, Stage};
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
    /// Replay: entries are collected unsorted and sorted once, by `end_replay` or an ordered read.
    pub replay: bool,
}

/// See the module's text. Shared as `Arc<Memtable>`; retired by dropping (memory goes to the pool).
#[derive(Debug)]
pub struct Memtable {
    index: Index,
    arena: Arena,
    heads: Heads,
    writer: Mutex<Writer>,
    state: Mutex<State>,
    merging: Mutex<()>,
    /// Entries may be waiting in `Writer::unsorted`.
    replay: AtomicBool,
    capacity_bytes: u64,
    // Statistics, stored by the writer: no partners.
    bytes: AtomicU64,
    entries: AtomicU64,
    seqno_min: AtomicU64,
    seqno_max: AtomicU64,
}

/// What only the writer changes, besides the structures themselves.
#[derive(Debug)]
struct Writer {
    /// The same as in the state.
    stage: Arc<Stage>,
    staged: usize,
    /// Replay only: entries that are in no ordered structure yet.
    unsorted: Vec<Placed>,
}

/// All of the order, changed as one.
#[derive(Clone, Debug)]
struct State {
    stage: Arc<Stage>,
    runs: Arc<[Arc<Run>]>,
}

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
        let stage = Arc::new(Stage::new());
        Memtable {
            index: Index::new(options.index_slots, pool),
            arena: Arena::new(pool),
            heads: Heads::behind(options.common_prefix),
            writer: Mutex::new(Writer {
                stage: Arc::clone(&stage),
                staged: 0,
                unsorted: Vec::new(),
            }),
            state: Mutex::new(State {
                stage,
                runs: Arc::from([]),
            }),
            merging: Mutex::new(()),
            replay: AtomicBool::new(options.replay),
            capacity_bytes: options.capacity_bytes,
            bytes: AtomicU64::new(0),
            entries: AtomicU64::new(0),
            seqno_min: AtomicU64::new(u64::MAX),
            seqno_max: AtomicU64::new(0),
        }
    }

    /// Adds a version. Callers hold the database's write lock; tags of one key ascend.
    /// `hash` is `hasher.hash(key)`.
    pub fn insert(&self, key: &[u8], hash: u64, tag: Tag, value: &[u8]) {
        let mut writer = self.writer.lock();
        let spot = self.index.reserve(key, hash, &self.arena);
        debug_assert!(
            spot.newest.is_none_or(|entry| entry.tag(&self.arena) < tag),
            "tags of one key ascend"
        );
        let entry = self.arena.push(spot.newest, tag, key, value);
        let placed = self.heads.place(entry, key);
        // Relaxed: only changed under the writer's lock.
        if self.replay.load(Relaxed) {
            writer.unsorted.push(placed);
        } else {
            writer.stage.insert(placed);
            writer.staged += 1;
            if writer.staged == STAGE_ENTRIES_MAX {
                self.freeze(&mut writer);
            }
        }
        self.index.publish(spot, entry);

        let add = |sum: &AtomicU64, n: u64| sum.store(sum.load(Relaxed) + n, Relaxed);
        add(
            &self.bytes,
            (ENTRY_OVERHEAD + key.len() + value.len()) as u64,
        );
        add(&self.entries, 1);
        let seqno = tag.seqno().get();
        self.seqno_min.fetch_min(seqno, Relaxed);
        self.seqno_max.fetch_max(seqno, Relaxed);
    }

    /// Brings the index slot of `hash` into the cache.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        self.index.prefetch(hash);
    }

    /// The newest version of `key` not newer than `at`.
    #[inline]
    pub fn get(&self, key: &[u8], hash: u64, at: SeqNo) -> Option<Found<'_>> {
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

    /// Walks all versions in order; sees at least what was inserted before this call.
    ///
    /// Cost: some allocations; once in a while a merge of the runs (about 20-40 ns an entry).
    pub fn cursor(self: &Arc<Self>) -> MemtableCursor {
        let mut state = self.ordered();
        if RUNS_MAX < state.runs.len() {
            self.merge(merge_start);
            state = self.ordered();
        }
        MemtableCursor::new(Arc::clone(self), Some(state.stage), &state.runs)
    }

    /// Walks all versions in order, fast: for the flush of a memtable that takes no more writes.
    ///
    /// Cost: everything that is not in one run yet is merged into one (20-60 ns an entry), which
    /// other cursors then profit from. Entries inserted during or after this call may be missed.
    pub fn drain_cursor(self: &Arc<Self>) -> DrainCursor {
        {
            let mut writer = self.writer.lock();
            if 0 < writer.staged {
                self.freeze(&mut writer);
            }
        }
        self.ordered();
        let runs = self.merge(|_| 0);
        DrainCursor(MemtableCursor::new(Arc::clone(self), None, &runs))
    }

    /// Ends replay mode.
    pub fn end_replay(&self) {
        let mut writer = self.writer.lock();
        self.sort_replayed(&mut writer);
        // Pairs with the Acquire in `ordered`.
        self.replay.store(false, Release);
    }

    /// Bytes of entries.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// Bytes of memory held (arena chunks, index, runs; an estimate for the stage).
    pub fn memory(&self) -> u64 {
        let state = self.state.lock().clone();
        let runs: u64 = state.runs.iter().map(|run| run.memory()).sum();
        let stage = state.stage.len() as u64 * STAGE_ENTRY_BYTES;
        self.arena.memory() + self.index.memory() + runs + stage
    }

    /// Number of versions.
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
        let state = self.ordered();
        let mut ends = Vec::new();
        state.stage.read_up(Bound::Unbounded, 1, &mut ends);
        state.stage.read_down(Bound::Unbounded, 1, &mut ends);
        for run in state.runs.iter() {
            ends.extend(run.get(0));
            ends.extend(run.get(run.len() - 1));
        }
        let first = ends
            .iter()
            .min()
            .map_or(&[][..], |p| p.entry.key(&self.arena));
        let last = ends
            .iter()
            .max()
            .map_or(&[][..], |p| p.entry.key(&self.arena));
        let shared = match first == last {
            true => 0,
            false => common_prefix(first, last).saturating_sub(PREFIX_MARGIN),
        };
        (first[..shared].to_vec(), self.index.slots_hint())
    }

    /// As `get`, by the order. Cold: bounded by a search in the stage and in each run.
    #[cold]
    fn get_ordered(&self, key: &[u8], newest: Tag) -> Option<Found<'_>> {
        let probe = self.heads.probe(key, newest);
        let state = self.ordered();
        let in_runs = (state.runs.iter()).map(|run| run.get(run.before(Bound::Included(&probe))));
        // The least of the entries at or behind the probe; each source has its own least.
        let placed = in_runs
            .chain([state.stage.first_from(&probe)])
            .flatten()
            .min()?;
        (placed.key() == key).then(|| Found {
            tag: placed.entry.tag(&self.arena),
            value: placed.entry.value(&self.arena),
        })
    }

    /// The order as it is now, with replayed entries in it.
    fn ordered(&self) -> State {
        // Pairs with the Release in `end_replay`.
        if self.replay.load(Acquire) {
            self.sort_replayed(&mut self.writer.lock());
        }
        self.state.lock().clone()
    }

    /// Turns the stage into a run and starts a new one.
    #[cold]
    fn freeze(&self, writer: &mut Writer) {
        let mut entries = Vec::with_capacity(writer.staged);
        writer.stage.collect(&mut entries);
        debug_assert!(
            entries.len() == writer.staged,
            "no entry is lost in the stage"
        );
        let fresh = Arc::new(Stage::new());
        let stage = std::mem::replace(&mut writer.stage, Arc::clone(&fresh));
        writer.staged = 0;
        self.add_run(Run::from_sorted(entries), fresh);
        drop(stage); // the last owner frees its nodes, outside the state's lock
    }

    fn sort_replayed(&self, writer: &mut Writer) {
        if !writer.unsorted.is_empty() {
            let run = Run::from_unsorted(std::mem::take(&mut writer.unsorted));
            self.add_run(run, Arc::clone(&writer.stage));
        }
    }

    /// Callers hold the writer's lock.
    fn add_run(&self, run: Run, stage: Arc<Stage>) {
        let mut state = self.state.lock();
        state.runs = (state.runs.iter().cloned().chain([Arc::new(run)])).collect();
        state.stage = stage;
    }

    /// Merges the runs from `start(runs)` on into one, and returns the runs there are then.
    /// The writer may add runs meanwhile: it appends, so positions before them stay.
    fn merge(&self, start: impl FnOnce(&[Arc<Run>]) -> usize) -> Arc<[Arc<Run>]> {
        let _one_at_a_time = self.merging.lock();
        let before = Arc::clone(&self.state.lock().runs);
        let start = start(&before);
        let Some(inputs) = before.get(start..).filter(|inputs| 1 < inputs.len()) else {
            return before;
        };
        let merged = Arc::new(Run::merged(inputs));
        let mut state = self.state.lock();
        let (kept, added) = (&before[..start], &state.runs[before.len()..]);
        let after: Arc<[_]> = [kept, &[merged], added].concat().into();
        state.runs = Arc::clone(&after);
        drop(state);
        after
    }
}
