//! Records of bytes, appended and read back up to the first torn one; ignorant of their meaning.
//! SKELETON: owned by the wal room.

pub mod format;
pub mod reader;
pub mod writer;

pub use reader::{Reader, Record, Tail};
pub use writer::{Syncer, Writer, WriterOptions};

use crate::base::types::{FileId, SeqNo};

/// What a segment says of the one before it (R4): where that one ends, and its last number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Predecessor {
    /// Its number.
    pub segment: FileId,
    /// Offset behind its last valid record: its final length, or the cut behind which recovery
    /// ignores everything (R15).
    pub end: u64,
    /// The highest sequence number in it (or in any segment before, if it is empty).
    pub last_seqno: SeqNo,
}
