//! SKELETON: owned by the fs room.

use crate::base::error::Result;
use crate::base::slice::Pin;

/// Immutable bytes of a file: mapped or on the heap, behind one bounds-checked call. Send + Sync.
#[derive(Debug)]
pub struct Region(());

impl Region {
    /// All bytes. For tables use `block`, which checks bounds and (in the simulator) faults.
    pub fn len(&self) -> usize {
        unimplemented!()
    }
    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        unimplemented!()
    }
    /// `bytes[offset..offset + len]`, or `Corruption` naming file and offset.
    #[inline]
    pub fn block(&self, _offset: u64, _len: usize) -> Result<&[u8]> {
        unimplemented!()
    }
    /// Hint: these bytes will be needed / are read at random / in order.
    pub fn advise(&self, _advice: Advice) {
        unimplemented!()
    }
    /// Page in all of it now, in the background thread that calls this (MADV_POPULATE_READ).
    pub fn populate(&self) {
        unimplemented!()
    }
    /// Zeroed anonymous memory is NOT from here: arenas own theirs.
    pub fn from_vec(_bytes: Vec<u8>) -> Region {
        unimplemented!()
    }
}

impl Pin for Region {
    fn bytes(&self) -> &[u8] {
        unimplemented!()
    }
}

/// Access patterns for [`Region::advise`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Point reads.
    Random,
    /// Scans.
    Sequential,
    /// A range that is read soon.
    WillNeed(u64, u64),
}

/// The writable mapping of a log segment. One writer (`&mut self`).
#[derive(Debug)]
pub struct LogRegion(());

impl LogRegion {
    /// Bytes mapped.
    pub fn len(&self) -> usize {
        unimplemented!()
    }
    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        unimplemented!()
    }
    /// Stores the parts one after the other at `offset`. Panics beyond the end (callers check).
    #[inline]
    pub fn store(&mut self, _offset: u64, _parts: &[&[u8]]) {
        unimplemented!()
    }
    /// Populates pages for writing ahead of the writer (MADV_POPULATE_WRITE); callable from another
    /// thread through a cheap handle.
    pub fn populator(&self) -> Populator {
        unimplemented!()
    }
}

/// Populates a log region's pages from a background thread; keeps the mapping alive.
#[derive(Clone, Debug)]
pub struct Populator(());

impl Populator {
    /// Populates `[offset, offset + len)`, clamped; errors are ignored (only a hint).
    pub fn populate(&self, _offset: u64, _len: u64) {
        unimplemented!()
    }
}
