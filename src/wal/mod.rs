//! Records of bytes, appended and read back up to the first torn one; ignorant of their meaning.
//!
//! One framing serves three logs: the commit log, the manifest and the embedded changelog. A
//! [`Writer`] appends to one segment under its owner's lock, a [`Syncer`] makes it durable from
//! any thread, a [`Reader`] gives the records back and says how they end ([`Tail`]). Segments form
//! a chain: each header names the one before and where that one ends ([`Predecessor`]).
//!
//! `format.rs` has the bytes, `verdict.rs` tells a torn tail from damage, `salvage.rs` reads on behind it,
//! `follower.rs` reads beside the writer. Not here: names,
//! creation, recycling and removal of files, batches, and the decision when to sync.

pub mod follower;
pub mod format;
pub mod reader;
pub mod salvage;
mod verdict;
pub mod writer;

#[cfg(test)]
mod tests;

pub use follower::Follower;
pub use reader::{Reader, Record, Tail, stated_header};
pub use writer::{Syncer, Unbegun, Writer, WriterOptions};

use crate::base::types::{FileId, SeqNo};

/// What a segment says of the one before it (R4): where that one ends, and its last number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Predecessor {
    /// Its number.
    pub segment: FileId,
    /// Offset behind its last valid record, the footer included: its final length, or the cut
    /// behind which recovery ignores everything (R15).
    pub end: u64,
    /// The highest sequence number in it (or in any segment before, if it is empty).
    pub last_seqno: SeqNo,
}

impl Predecessor {
    /// Of a segment that comes behind `last_seqno` and of which nobody can say more: no segment has the
    /// number 0.
    pub fn unknown(last_seqno: SeqNo) -> Predecessor {
        Predecessor {
            segment: FileId(0),
            end: 0,
            last_seqno,
        }
    }
}
