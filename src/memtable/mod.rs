//! A sorted map in memory: a small skiplist stage, the sorted runs it freezes into, a hash index
//! beside them; one writer, readers without locks, nothing removed.
//! SKELETON: owned by the memtable room.

use crate::base::checksum::KeyHasher;
use crate::base::cursor::Cursor;
use crate::base::error::Result;
use crate::base::sync::Arc;
use crate::base::types::{SeqNo, Tag};

/// Recycled arena chunks and index tables, shared by all memtables of a database.
#[derive(Clone, Debug)]
pub struct Pool(());

impl Pool {
    /// Keeps at most `bytes_max` of free memory.
    pub fn new(_bytes_max: u64) -> Pool {
        unimplemented!()
    }
}

/// How a memtable is made.
#[derive(Clone, Debug)]
pub struct MemtableOptions {
    /// `is_full` from here on, in bytes of entries.
    pub capacity_bytes: u64,
    /// The database's keyed hash.
    pub hasher: KeyHasher,
    /// Bytes that most keys are expected to start with (from the memtable before): heads are taken behind them.
    pub common_prefix: Vec<u8>,
    /// Slots of the hash index to start with (from the memtable before; 0 for the smallest).
    pub index_slots: usize,
    /// Replay: entries are collected unsorted and sorted once, by `end_replay` or the first ordered read.
    pub replay: bool,
}

/// See the module's text. Shared as `Arc<Memtable>`; retired by dropping (memory goes back to the pool).
#[derive(Debug)]
pub struct Memtable(());

/// A found version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// Sequence number and kind.
    pub tag: Tag,
    /// The value.
    pub value: &'a [u8],
}

impl Memtable {
    /// An empty one.
    pub fn new(_options: MemtableOptions, _pool: &Pool) -> Memtable {
        unimplemented!()
    }
    /// Adds a version. Callers hold the database's write lock; tags of one key ascend.
    /// `hash` is `hasher.hash(key)`.
    pub fn insert(&self, _key: &[u8], _hash: u64, _tag: Tag, _value: &[u8]) {
        unimplemented!()
    }
    /// Brings the index slot of `hash` into the cache.
    #[inline]
    pub fn prefetch(&self, _hash: u64) {
        unimplemented!()
    }
    /// The newest version of `key` not newer than `at`.
    #[inline]
    pub fn get(&self, _key: &[u8], _hash: u64, _at: SeqNo) -> Option<Found<'_>> {
        unimplemented!()
    }
    /// Walks all versions in order; sees at least what was inserted before this call.
    pub fn cursor(self: &Arc<Self>) -> MemtableCursor {
        unimplemented!()
    }
    /// Walks all versions in order, forward only and fast: for the flush of a memtable that takes no more writes.
    pub fn drain_cursor(self: &Arc<Self>) -> DrainCursor {
        unimplemented!()
    }
    /// Ends replay mode.
    pub fn end_replay(&self) {
        unimplemented!()
    }
    /// Bytes of entries.
    pub fn bytes(&self) -> u64 {
        unimplemented!()
    }
    /// Bytes of memory held (arena chunks, index, runs).
    pub fn memory(&self) -> u64 {
        unimplemented!()
    }
    /// Number of versions.
    pub fn entries(&self) -> u64 {
        unimplemented!()
    }
    /// True when it should be rotated.
    #[inline]
    pub fn is_full(&self) -> bool {
        unimplemented!()
    }
    /// Lowest and highest sequence number, `None` when empty.
    pub fn seqnos(&self) -> Option<(SeqNo, SeqNo)> {
        unimplemented!()
    }
    /// For the next memtable's options: a common prefix of the keys seen, and the index size reached.
    pub fn successor_hint(&self) -> (Vec<u8>, usize) {
        unimplemented!()
    }
}

/// Walks a memtable both ways. 'static, Send.
#[derive(Debug)]
pub struct MemtableCursor(());
/// Walks a memtable forward, in bulk. 'static, Send. Only `first`, `next` and the readers are used.
#[derive(Debug)]
pub struct DrainCursor(());

macro_rules! skeleton {
    ($t:ty) => {
        impl Cursor for $t {
            fn first(&mut self) -> Result<()> {
                unimplemented!()
            }
            fn last(&mut self) -> Result<()> {
                unimplemented!()
            }
            fn seek(&mut self, _key: &[u8], _tag: Tag) -> Result<()> {
                unimplemented!()
            }
            fn seek_for_prev(&mut self, _key: &[u8], _tag: Tag) -> Result<()> {
                unimplemented!()
            }
            fn next(&mut self) -> Result<()> {
                unimplemented!()
            }
            fn prev(&mut self) -> Result<()> {
                unimplemented!()
            }
            fn valid(&self) -> bool {
                unimplemented!()
            }
            fn key(&self) -> &[u8] {
                unimplemented!()
            }
            fn tag(&self) -> Tag {
                unimplemented!()
            }
            fn value(&self) -> &[u8] {
                unimplemented!()
            }
        }
    };
}
skeleton!(MemtableCursor);
skeleton!(DrainCursor);
