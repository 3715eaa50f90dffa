//! An immutable sorted file: built once front to back, read by key or by cursor.
//!
//! ```text
//! file  = block* | filter | index | properties | section table | footer
//! get   = filter (one line) → index (dense heads) → block (fingerprints) → one key
//! ```
//! Uncompressed blocks are read where they are mapped, without a copy and without a cache;
//! compressed ones, and all of `ReadMode::Pread` with index and filter, through a [`BlockCache`].
//!
//! Invariants: a table never changes after [`Builder::finish`]. Entries ascend in the order of
//! `base::key`; versions of a key may span blocks. Every checksum is bound to the file's birth
//! identity and to its offset (R9). No number from a file is used before it is checked (P19).
//!
//! Threads: a [`Builder`] has one; a [`Table`] is shared freely; a [`TableCursor`] is `Send`.
//!
//! Not here: which tables there are (`version`), what a version means (`read`).

mod block;
mod builder;
mod cache;
mod compression;
mod cursor;
mod expiring;
mod filter;
mod format;
mod index;
mod properties;
mod reader;
mod salvage;
mod sections;
mod staged;
mod value;
mod verify;

#[doc(hidden)]
pub use block::probe::{Probe, probe};
pub use builder::Builder;
pub use cache::BlockCache;
pub use cursor::TableCursor;
pub use expiring::Expiring;
pub use filter::FilterLine;
pub use reader::Table;
pub use salvage::{LostPart, Neighbours, SalvagedTable, TableFacts, salvage, stated_identity};
pub use value::TableValue;

use crate::base::options::{Compression, ReadMode, Verify};
use crate::base::types::{FileId, SeqNo};

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
    /// Smallest block, in bytes; a power of two.
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
    /// First user key.
    pub smallest: Vec<u8>,
    /// Last user key.
    pub largest: Vec<u8>,
    /// Lowest and highest sequence number.
    pub seqnos: (SeqNo, SeqNo),
    /// What of it expires.
    pub expiring: Expiring,
}

/// What all tables of a database share.
#[derive(Debug)]
pub struct TableContext {
    /// Mapped or pread.
    pub read_mode: ReadMode,
    /// When to check blocks.
    pub verify: Verify,
    /// Decompressed or pread blocks, and sections on the heap.
    pub cache: BlockCache,
}

const _: () = {
    const fn is_send<T: Send + 'static>() {}
    const fn is_shared<T: Send + Sync + 'static>() {}
    is_send::<Builder>();
    is_send::<TableCursor>();
    is_shared::<Table>();
};

#[cfg(test)]
mod tests;
