//! SKELETON: owned by the wal room.
use super::Predecessor;
use crate::base::error::Result;
use crate::base::types::{FileId, SeqNo};
use crate::fs::File;
use std::borrow::Cow;

/// One whole record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Offset of its (first fragment's) header.
    pub offset: u64,
    /// Its first sequence number.
    pub first: SeqNo,
    /// Its payload; borrowed unless it was fragmented.
    pub payload: Cow<'a, [u8]>,
}

/// How a segment ends. Known once `next` has returned `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// No header of this life: an empty segment.
    Empty,
    /// A footer: sealed at rotation or by a clean close.
    Sealed(Predecessor),
    /// The records end at `end` without a footer; what follows is zeros or of an earlier life.
    Open {
        /// Behind the last record.
        end: u64,
    },
    /// The records end at `end`, and what follows is the torn beginning of another.
    Torn {
        /// Behind the last whole record.
        end: u64,
    },
}

/// Reads one segment in order. Damage below the synced watermark is an error, never an end.
#[derive(Debug)]
pub struct Reader(());

impl Reader {
    /// Reads the whole file into memory or maps it. `limit`: ignore everything at or behind this
    /// offset (the successor's cut, R15).
    pub fn open(
        _file: &File,
        _database: u64,
        _segment: FileId,
        _limit: Option<u64>,
    ) -> Result<Reader> {
        unimplemented!()
    }
    /// What its header says of the segment before it.
    pub fn predecessor(&self) -> Option<Predecessor> {
        unimplemented!()
    }
    /// The next record, `None` at the end.
    pub fn next(&mut self) -> Result<Option<Record<'_>>> {
        unimplemented!()
    }
    /// How it ended.
    pub fn tail(&self) -> Tail {
        unimplemented!()
    }
}
