//! Segments of the log that nothing needs any more, kept for those who follow it: the newest ones, up to
//! a number of bytes ([`Options::changes_bytes`](crate::Options::changes_bytes)).
//!
//! The manifest does not name them, so nothing is recovered from them. An open finds them by the chain:
//! each segment's header names the one before it. What the chain does not come by goes with the other
//! orphans, such as a segment that a recovery passed over.

use crate::base::error::Result;
use crate::base::sync::Mutex;
use crate::base::types::FileId;
use crate::fs::{FileName, Fs};
use crate::wal::format::SegmentHeader;
use crate::wal::stated_header;
use std::collections::VecDeque;

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Retained {
    bytes_max: u64,
    /// Oldest first.
    segments: Mutex<VecDeque<Segment>>,
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    file: FileId,
    bytes: u64,
}

/// The header of this segment; `None` when the file is gone, or has another segment's header or none.
pub(super) fn header_of(
    fs: &Fs,
    database: u64,
    segment: FileId,
) -> Result<Option<(SegmentHeader, u64)>> {
    use crate::base::error::ErrorKind::NotFound;
    let file = match fs.open_read(FileName::Log(segment)) {
        Err(error) if error.kind() == NotFound => return Ok(None),
        other => other?,
    };
    let header = stated_header(&file)?;
    let own = header.filter(|header| header.database == database && header.segment == segment);
    own.map(|header| Ok((header, file.len()?))).transpose()
}

impl Retained {
    /// Those before `oldest`, the oldest registered one, as far as there is room for them. One that
    /// cannot be read ends them.
    pub(crate) fn find(fs: &Fs, database: u64, bytes_max: u64, oldest: FileId) -> Retained {
        let mut segments = VecDeque::new();
        let link = |segment| header_of(fs, database, segment).ok().flatten();
        let mut newer = (bytes_max > 0).then(|| link(oldest)).flatten();
        let mut left = bytes_max;
        while let Some(before) = newer.and_then(|(header, _)| header.before)
            && let Some((header, bytes)) = link(before.segment)
            && bytes <= left
        {
            left -= bytes;
            let file = before.segment;
            segments.push_front(Segment { file, bytes });
            newer = Some((header, bytes));
        }
        Retained {
            bytes_max,
            segments: Mutex::new(segments),
        }
    }

    /// True when any are kept at all.
    pub(crate) fn is_on(&self) -> bool {
        self.bytes_max > 0
    }

    /// Those that are kept.
    pub(crate) fn files(&self) -> Vec<FileId> {
        let segments = self.segments.lock();
        segments.iter().map(|segment| segment.file).collect()
    }

    /// All of them, and this one, which cannot be kept: nobody goes on over a gap.
    pub(crate) fn give_up(&self, file: FileId) -> Vec<FileId> {
        let mut segments = self.segments.lock();
        let older = segments.drain(..).map(|segment| segment.file);
        older.chain([file]).collect()
    }

    /// Takes one that was struck off; gives those that are to be removed instead, it or older ones.
    pub(crate) fn keep(&self, fs: &Fs, database: u64, file: FileId) -> Vec<FileId> {
        let bytes = match header_of(fs, database, file) {
            Ok(Some((_, bytes))) => bytes,
            // It was registered and never begun, so it is no link of the chain.
            Ok(None) => return vec![file],
            Err(_) => return self.give_up(file),
        };
        let mut segments = self.segments.lock();
        segments.push_back(Segment { file, bytes });
        let mut total: u64 = segments.iter().map(|segment| segment.bytes).sum();
        let mut gone = Vec::new();
        while self.bytes_max < total
            && let Some(oldest) = segments.pop_front()
        {
            total -= oldest.bytes;
            gone.push(oldest.file);
        }
        gone
    }
}
