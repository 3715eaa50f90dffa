//! What can be read of a damaged segment: records before a damage, and behind it.
//!
//! Opening a database never goes on behind a damage (P2). Repair may: a record is bound to its
//! segment and its place, so the next valid header of this life says where the framing goes on.
//! Every stretch that is passed over is reported.
//!
//! Invariants: nothing is given that does not check; bytes of another life are not given; time is
//! linear but for what looks like a header and is none. Not here: what the records mean.

#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use super::Predecessor;
use super::format::{Kind, SegmentHeader, VERSION};
use super::reader::RECORD_BYTES_MAX;
use super::verdict::{Ending, Life};
use crate::base::error::Result;
use crate::base::types::{FileId, SeqNo};
use std::ops::Range;
use std::path::Path;

/// A piece of a segment, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A whole record: where it begins, its first sequence number, its payload.
    Record(u64, SeqNo, &'a [u8]),
    /// Bytes in which a record lay.
    Lost {
        /// Where.
        range: Range<u64>,
        /// No record follows, and it looks as a write that a crash cut off.
        is_torn: bool,
    },
}

/// What the segment says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SalvagedSegment {
    /// The database in its header, if that can be read.
    pub database: Option<u64>,
    /// The segment before it.
    pub before: Option<Predecessor>,
    /// It ends with a footer: nothing is missing behind the last record.
    pub is_sealed: bool,
    /// Some record of this life is in it.
    pub has_records: bool,
}

/// Gives each piece of the life `segment` of `bytes` to `take`; nothing behind `limit`.
///
/// # Errors
/// What `take` gives; damage is no error.
pub fn salvage(
    bytes: &[u8],
    segment: FileId,
    limit: Option<u64>,
    mut take: impl FnMut(Piece<'_>) -> Result<()>,
) -> Result<SalvagedSegment> {
    let len = limit.map_or(bytes.len(), |limit| {
        usize::try_from(limit).map_or(bytes.len(), |limit| limit.min(bytes.len()))
    });
    let life = Life {
        bytes: bytes.get(..len).unwrap_or(bytes),
        segment,
        path: Path::new(""),
    };
    let mut out = SalvagedSegment::default();
    let mut long: Option<(u64, SeqNo, Vec<u8>)> = None;
    let mut at = 0;
    let mut gap: Option<u64> = None;
    loop {
        let (header, payload) = match life.fragment_at(at) {
            Ok(found) => found,
            Err(flaw) => {
                // A record of several fragments that is cut short is lost as a whole.
                let start = long.take().map_or(at, |(start, ..)| start);
                let start = *gap.get_or_insert(start);
                match next_fragment(&life, at.saturating_add(1)) {
                    Some(next) => at = next,
                    None => {
                        let range = start..len as u64;
                        match life.judge(start, at, flaw) {
                            Ok(Ending::Open) => {}
                            judged => {
                                let is_torn = judged.is_ok();
                                take(Piece::Lost { range, is_torn })?;
                            }
                        }
                        return Ok(out);
                    }
                }
                continue;
            }
        };
        out.has_records = true;
        let end = header.end();
        let fits = match (header.kind, &long) {
            (Kind::Full | Kind::First | Kind::Segment | Kind::Footer, None) => true,
            (Kind::Middle | Kind::Last, Some((_, first, joined))) => {
                let len = joined.len().saturating_add(payload.len());
                *first == header.first && len <= RECORD_BYTES_MAX
            }
            _ => false,
        };
        if !fits {
            // Part of a record whose other parts are lost; the fragment at hand may begin another.
            let start = long.take().map_or(at, |(start, ..)| start);
            gap.get_or_insert(start);
            if matches!(header.kind, Kind::Middle | Kind::Last) {
                at = end;
                continue;
            }
        }
        if let Some(start) = gap.take()
            && start < at
        {
            let range = start..at;
            let is_torn = false;
            take(Piece::Lost { range, is_torn })?;
        }
        match header.kind {
            Kind::Full => take(Piece::Record(at, header.first, payload))?,
            Kind::First => long = Some((at, header.first, payload.to_vec())),
            Kind::Middle | Kind::Last => {
                if let Some((_, _, joined)) = &mut long {
                    joined.extend_from_slice(payload);
                }
                if header.kind == Kind::Last
                    && let Some((start, first, joined)) = long.take()
                {
                    take(Piece::Record(start, first, &joined))?;
                }
            }
            Kind::Segment => {
                let stated = SegmentHeader::decode(payload).filter(|h| h.version == VERSION);
                out.database = stated.map(|stated| stated.database);
                out.before = stated.and_then(|stated| stated.before);
            }
            Kind::Footer => {
                out.is_sealed = true;
                return Ok(out);
            }
        }
        at = end;
    }
}

/// The next place at or behind `from` with a valid record of this life.
fn next_fragment(life: &Life<'_>, from: u64) -> Option<u64> {
    let mut from = from;
    loop {
        let at = life.next_magic(from)?;
        if life.is_ours(at) && life.fragment_at(at).is_ok() {
            return Some(at);
        }
        from = at.saturating_add(1);
    }
}
