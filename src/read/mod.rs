//! Newest visible answer from many sorted sources.
//! SKELETON: owned by the read room.

use crate::base::checksum::KeyHasher;
use crate::base::cursor::Cursor;
use crate::base::error::Result;
use crate::base::slice::Slice;
use crate::base::sync::Arc;
use crate::base::types::SeqNo;
use crate::memtable::Memtable;
use crate::table::TableValue;
use crate::version::Version;
use std::ops::Bound;

/// Everything a read of one keyspace looks at, loaded at once; immutable, shared as `Arc<View>`.
#[derive(Debug)]
pub struct View {
    /// Takes the writes.
    pub active: Arc<Memtable>,
    /// Waiting for their flush, newest first.
    pub immutables: Vec<Arc<Memtable>>,
    /// The tables.
    pub version: Arc<Version>,
    /// The database's keyed hash.
    pub hasher: KeyHasher,
    /// Probes and outcomes, counted relaxed.
    pub counters: Arc<ReadCounters>,
}

/// Counts of what reads did, for `stats`; sharded or relaxed atomics.
#[derive(Debug, Default)]
pub struct ReadCounters {/* the read room's */}

/// The answer of a point read.
#[derive(Debug)]
pub enum Lookup<'v> {
    /// Never written, or deleted.
    Absent,
    /// In a memtable of the view.
    Memory(&'v [u8]),
    /// In a table of the view.
    Table(TableValue<'v>),
}

impl Lookup<'_> {
    /// The value.
    #[inline]
    pub fn bytes(&self) -> Option<&[u8]> {
        unimplemented!()
    }
    /// The value as a slice of its own.
    pub fn to_slice(&self) -> Option<Slice> {
        unimplemented!()
    }
}

/// The newest version of `key` visible at `at`. Hash once, prefetch every structure, then test in order.
/// A failed read of any table ends with its error: an older value is never given instead.
pub fn get<'v>(_view: &'v View, _key: &[u8], _at: SeqNo) -> Result<Lookup<'v>> {
    unimplemented!()
}

/// Many keys, in groups of 16 with staged prefetch; answers in the order asked, by callback.
pub fn get_many<'v>(
    _view: &'v View,
    _keys: &[&[u8]],
    _at: SeqNo,
    _found: &mut dyn FnMut(usize, Lookup<'v>),
) -> Result<()> {
    unimplemented!()
}

/// The live snapshots of a database: compaction keeps what the oldest can see.
#[derive(Clone, Debug, Default)]
pub struct SnapshotList {/* Arc inside */}

impl SnapshotList {
    /// Registers a snapshot at what `visible` returns, which is called under the list's lock, so
    /// that no job that asked for `live` before can drop what it sees.
    pub fn register(&self, _visible: impl FnOnce() -> SeqNo) -> SnapshotGuard {
        unimplemented!()
    }
    /// All live ones, ascending, without duplicates, and last what `visible` returns (called under the list's lock).
    pub fn live(&self, _visible: impl FnOnce() -> SeqNo) -> Vec<SeqNo> {
        unimplemented!()
    }
    /// The oldest and how many there are.
    pub fn oldest(&self) -> Option<(SeqNo, usize)> {
        unimplemented!()
    }
}

/// Keeps a sequence number registered until dropped. Clone registers once more.
#[derive(Debug)]
pub struct SnapshotGuard(());
impl SnapshotGuard {
    /// The number.
    pub fn seqno(&self) -> SeqNo {
        unimplemented!()
    }
}

/// A merge of any cursors: a loser tree over cached 16-byte heads. Sources are given newest first; an equal
/// (key, tag) in two of them (a memtable and the table flushed from it) is given once for each.
#[derive(Debug)]
pub struct Merge<C>(C);
impl<C: Cursor> Merge<C> {
    /// Merges `sources`.
    pub fn new(_sources: Vec<C>) -> Merge<C> {
        unimplemented!()
    }
}
// Merge<C> implements Cursor.

/// The user's cursor over one keyspace at one instant: visible entries only, both directions, any mix of moves.
/// Public as `alluvium::Cursor`. Owns its view and its registered snapshot; 'static, Send.
#[derive(Debug)]
pub struct RangeCursor(());
impl RangeCursor {
    /// Not positioned.
    pub fn new(
        _view: Arc<View>,
        _at: SnapshotGuard,
        _bounds: (Bound<Vec<u8>>, Bound<Vec<u8>>),
    ) -> RangeCursor {
        unimplemented!()
    }
    // first, last, seek, seek_for_prev, next, prev -> Result<()>, entry() -> Option<(&[u8], &[u8])>, key() -> Option<&[u8]>, value()
    // as ../shared/api.md says
}

/// The user's iterator: `Iterator<Item = Result<(Slice, Slice)>> + DoubleEndedIterator + FusedIterator`, 'static, Send.
#[derive(Debug)]
pub struct Iter(());
impl Iter {
    /// Opens lazily: nothing is read before the first `next`. `open` errors are yielded as the first item.
    pub fn new(
        _view: Arc<View>,
        _at: SnapshotGuard,
        _bounds: (Bound<Vec<u8>>, Bound<Vec<u8>>),
    ) -> Iter {
        unimplemented!()
    }
    /// Yields this error once, then nothing.
    pub fn failed(_error: crate::base::error::Error) -> Iter {
        unimplemented!()
    }
}
