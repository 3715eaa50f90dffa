//! An immutable sorted file: built once front to back, read by key or by cursor.
//! SKELETON: owned by the table room.

use crate::base::checksum::KeyHasher;
use crate::base::cursor::Cursor;
use crate::base::error::Result;
use crate::base::options::{Compression, ReadMode, Verify};
use crate::base::slice::Slice;
use crate::base::sync::Arc;
use crate::base::types::{FileId, SeqNo, Tag};
use crate::fs::File;

/// Who a table was at birth; bound into its footer and every block (R9). Never changes, whatever
/// name the file has later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BirthIdentity {
    /// The database that wrote it.
    pub database: u64,
    /// The number it was written under.
    pub file: FileId,
    /// Seed of the keyed hash its filter was built with.
    pub hash_seed: u64,
}

/// How a table is built.
#[derive(Clone, Copy, Debug)]
pub struct BuilderOptions {
    /// Who it is.
    pub identity: BirthIdentity,
    /// Smallest block.
    pub block_bytes: u32,
    /// 0: no filter.
    pub filter_bits_per_key: u32,
    /// Block codec.
    pub compression: Compression,
}

/// What a finished table holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSummary {
    /// File size.
    pub bytes: u64,
    /// Entries, all kinds and versions.
    pub entries: u64,
    /// Deletions among them.
    pub tombstones: u64,
    /// Bytes of keys and values before encoding.
    pub raw_bytes: u64,
    /// First and last user key.
    pub smallest: Vec<u8>,
    /// First and last user key.
    pub largest: Vec<u8>,
    /// Lowest and highest sequence number.
    pub seqnos: (SeqNo, SeqNo),
}

/// Writes a table front to back.
#[derive(Debug)]
pub struct Builder(());

impl Builder {
    /// Starts in an empty file.
    pub fn new(_file: File, _options: BuilderOptions) -> Builder {
        unimplemented!()
    }
    /// Adds an entry; entries come in strictly ascending internal order (asserted in debug builds).
    pub fn add(&mut self, _key: &[u8], _tag: Tag, _value: &[u8]) -> Result<()> {
        unimplemented!()
    }
    /// Bytes written and buffered so far.
    pub fn bytes(&self) -> u64 {
        unimplemented!()
    }
    /// Entries added so far.
    pub fn entries(&self) -> u64 {
        unimplemented!()
    }
    /// Writes what is left, the footer, and syncs the file (not the directory).
    pub fn finish(self) -> Result<TableSummary> {
        unimplemented!()
    }
}

/// What all tables of a database share.
#[derive(Debug)]
pub struct TableContext {
    /// Mapped or pread.
    pub read_mode: ReadMode,
    /// When to check blocks.
    pub verify: Verify,
    /// Decompressed or pread blocks.
    pub cache: BlockCache,
}

/// Bounded cache of blocks that are not read in place, CLOCK eviction, sharded.
#[derive(Debug)]
pub struct BlockCache(());

impl BlockCache {
    /// Holds at most `bytes`.
    pub fn new(_bytes: u64) -> BlockCache {
        unimplemented!()
    }
    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        unimplemented!()
    }
    /// Lookups that hit and that missed.
    pub fn hits_and_misses(&self) -> (u64, u64) {
        unimplemented!()
    }
}

/// An open table. Shared as `Arc<Table>`.
#[derive(Debug)]
pub struct Table(());

impl Table {
    /// Opens a finished table: footer, identity and size are compared with what the manifest says.
    /// `fresh`: this process wrote it just now, so its blocks start as verified.
    pub fn open(
        _file: File,
        _identity: BirthIdentity,
        _bytes: u64,
        _fresh: bool,
        _context: &Arc<TableContext>,
    ) -> Result<Table> {
        unimplemented!()
    }
    /// The hash its filter wants.
    pub fn hasher(&self) -> KeyHasher {
        unimplemented!()
    }
    /// Brings the filter's line for `hash` into the cache.
    #[inline]
    pub fn prefetch(&self, _hash: u64) {
        unimplemented!()
    }
    /// False when `key` is surely absent.
    #[inline]
    pub fn may_contain(&self, _hash: u64) -> bool {
        unimplemented!()
    }
    /// The newest version of `key` not newer than `at`. Does not ask the filter.
    pub fn get(&self, _key: &[u8], _hash: u64, _at: SeqNo) -> Result<Option<TableValue<'_>>> {
        unimplemented!()
    }
    /// Walks it both ways.
    pub fn cursor(self: &Arc<Self>) -> TableCursor {
        unimplemented!()
    }
    /// As `cursor`, for compaction: verifies every block, reads ahead, leaves the cache alone.
    pub fn compaction_cursor(self: &Arc<Self>) -> TableCursor {
        unimplemented!()
    }
    /// Reads and checks everything: each block, the order, the filter, the counts.
    pub fn verify(self: &Arc<Self>) -> Result<()> {
        unimplemented!()
    }
    /// Bytes of the file between two keys, roughly.
    pub fn approximate_bytes(&self, _from: Option<&[u8]>, _to: Option<&[u8]>) -> u64 {
        unimplemented!()
    }
}

/// A value found in a table, valid while the table is borrowed.
#[derive(Debug)]
pub struct TableValue<'t> {
    /// Sequence number and kind.
    pub tag: Tag,
    _bytes: &'t [u8],
}

impl TableValue<'_> {
    /// The bytes.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        unimplemented!()
    }
    /// As a slice of its own: a copy when short, else pinned to the table's memory.
    pub fn to_slice(&self) -> Slice {
        unimplemented!()
    }
}

/// Walks a table both ways. 'static, Send. A step allocates nothing.
#[derive(Debug)]
pub struct TableCursor(());

impl TableCursor {
    /// The current value as a slice of its own.
    pub fn value_slice(&self) -> Slice {
        unimplemented!()
    }
}

impl Cursor for TableCursor {
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
