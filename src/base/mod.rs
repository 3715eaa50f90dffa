//! The words all other rooms speak: numbers with names, keys with order, bytes with checks.
//!
//! Nothing here opens a file, starts a thread or knows what a table is. Everything here may be
//! used by every room above; nothing here imports any of them (storey 0 of DESIGN.md's table).

pub mod batch;
pub mod built_in;
pub mod checksum;
pub mod coding;
pub mod cursor;
pub mod error;
pub mod expiring;
pub mod filter;
pub mod hooks;
pub mod key;
pub mod key_range;
pub mod listener;
pub mod operand;
pub mod operation;
pub mod options;
pub mod payload;
pub mod ranges;
pub mod reads;
mod registered;
pub mod slice;
pub mod sync;
pub mod types;
