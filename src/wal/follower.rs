//! Records that are known to be there, read by read calls from any place on: of a segment that is still
//! written to, or of one that may be removed meanwhile.
//!
//! A [`Reader`](super::Reader) asks where a log ends after a crash. Here the caller knows: what lies
//! before the end that he names was written whole, so anything else is damage, and nothing behind it is
//! looked at. Memory: a window, and the record that it lends.

#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use super::Record;
use super::format::{Header, Kind, RECORD_HEADER_BYTES};
use crate::base::checksum::crc;
use crate::base::error::{Error, Result};
use crate::base::types::FileId;
use crate::fs::File;
use std::borrow::Cow;

/// So many bytes are read at a time: a fragment and its header fit.
const WINDOW_BYTES: u64 = 256 << 10;

/// See the module's text.
#[derive(Debug)]
pub struct Follower {
    window: Window,
    segment: FileId,
    /// Where the next record begins.
    at: u64,
    payload: Vec<u8>,
}

/// Bytes of the file, from `at` on.
#[derive(Debug)]
struct Window {
    file: File,
    at: u64,
    bytes: Vec<u8>,
}

impl Follower {
    /// Reads `segment` in `file` from its first record on.
    ///
    /// # Errors
    /// As [`Follower::next`].
    pub fn open(file: File, segment: FileId, end: u64) -> Result<Follower> {
        let mut follower = Follower {
            window: Window {
                file,
                at: 0,
                bytes: Vec::new(),
            },
            segment,
            at: 0,
            payload: Vec::new(),
        };
        let header = follower.fragment(0, end)?;
        if header.kind != Kind::Segment {
            return Err(follower.window.damage(0));
        }
        follower.at = header.end();
        Ok(follower)
    }

    /// The segment that it reads.
    pub fn segment(&self) -> FileId {
        self.segment
    }

    /// The next record before `end`, where one ends.
    ///
    /// # Errors
    /// `Corruption`, naming file and offset, for bytes before `end` that are no record; `Io`. The
    /// record is tried again with the next call.
    #[allow(clippy::should_implement_trait)] // lends from the follower, which `Iterator` cannot
    pub fn next(&mut self, end: u64) -> Result<Option<Record<'_>>> {
        self.payload.clear();
        let mut at = self.at;
        let mut long = None;
        while at < end {
            let header = self.fragment(at, end)?;
            let is_whole = match (header.kind, long) {
                (Kind::Full, None) => true,
                (Kind::First, None) => {
                    long = Some(header.first);
                    false
                }
                (Kind::Middle, Some(first)) if first == header.first => false,
                (Kind::Last, Some(first)) if first == header.first => true,
                (Kind::Footer, None) => return Ok(None),
                _ => return Err(self.window.damage(at)),
            };
            at = header.end();
            if is_whole {
                let offset = std::mem::replace(&mut self.at, at);
                return Ok(Some(Record {
                    offset,
                    first: header.first,
                    payload: Cow::Borrowed(&self.payload),
                }));
            }
        }
        match long {
            None => Ok(None),
            Some(_) => Err(self.window.damage(self.at)),
        }
    }

    /// Checks the fragment at `at` and appends its payload.
    fn fragment(&mut self, at: u64, end: u64) -> Result<Header> {
        let header = (self.window)
            .bytes(at, RECORD_HEADER_BYTES, end)?
            .first_chunk()
            .and_then(Header::decode)
            .filter(|header| header.is_of(self.segment, at));
        let Some(header) = header else {
            return Err(self.window.damage(at));
        };
        let payload_at = at.saturating_add(RECORD_HEADER_BYTES as u64);
        let payload = (self.window).bytes(payload_at, header.len as usize, end)?;
        if crc(payload) != header.payload_crc {
            return Err(self.window.damage(at));
        }
        self.payload.extend_from_slice(payload);
        Ok(header)
    }
}

impl Window {
    /// So many bytes at `at`, which lie before `end`.
    fn bytes(&mut self, at: u64, len: usize, end: u64) -> Result<&[u8]> {
        let until = at.saturating_add(len as u64);
        if end < until {
            return Err(self.damage(at));
        }
        let have = self.at..=self.at.saturating_add(self.bytes.len() as u64);
        if !have.contains(&at) || !have.contains(&until) {
            let read = WINDOW_BYTES.min(end.saturating_sub(at)).max(len as u64);
            self.bytes.clear();
            self.bytes.resize(read as usize, 0);
            self.at = at;
            if let Err(error) = self.file.read_exact_at(&mut self.bytes, at) {
                self.bytes.clear();
                return Err(error);
            }
        }
        let from = at.saturating_sub(self.at) as usize;
        let bytes = self.bytes.get(from..).and_then(|rest| rest.get(..len));
        bytes.ok_or_else(|| self.damage(at))
    }

    fn damage(&self, at: u64) -> Error {
        Error::corruption("damaged log record")
            .at(self.file.path())
            .offset_at(at)
    }
}
