//! alluvium: an embedded, ordered, durable key-value engine.
#![warn(missing_docs)]
#![allow(dead_code, unused_imports, clippy::all, unreachable_pub)] // while the house is being built

// 0 words
pub mod base;
// 1 disk
pub mod fs;
// 2 parts
pub mod memtable;
pub mod table;
pub mod wal;
// 3 truth
pub mod version;
// 4 reading
pub mod read;
// 5 rewriting
pub mod compaction;
