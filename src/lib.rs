//! alluvium: an embedded, ordered, durable key-value engine.
#![warn(missing_docs)]

// 0 words
#[doc(hidden)]
pub mod base;
// 1 disk
#[doc(hidden)]
pub mod fs;
// 2 parts
#[doc(hidden)]
pub mod memtable;
#[doc(hidden)]
pub mod table;
#[doc(hidden)]
pub mod wal;
// 3 truth
#[doc(hidden)]
pub mod version;
// 4 reading
#[doc(hidden)]
pub mod read;
// 5 rewriting
#[doc(hidden)]
pub mod compaction;
// 6 one map
#[doc(hidden)]
pub mod tree;
// 7 many maps, one log
mod db;

pub use base::batch::{InKeyspace, WriteBatch};
pub use base::error::{Error, ErrorKind, Result};
pub use base::options::{
    CompactionStyle, Compression, Durability, KeyRange, KeyspaceOptions, LogMode, Options,
    ReadMode, Verify, WriteOptions,
};
pub use base::slice::Slice;
pub use base::types::SeqNo;
pub use db::{
    Db, Keyspace, KeyspaceStats, LevelStats, LogStats, OpenReport, ReadStats, RunStats, Snapshot,
    SnapshotKeyspace, StallCause, StallStats, State, Stats, TableStats, VerifyReport, WhyStalled,
};
pub use read::{Iter, RangeCursor as Cursor};
