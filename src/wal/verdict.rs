//! What a bad place in a segment means: the end of the log, a torn write, or damage (R3).
//!
//! A power cut may leave the newest sectors of a log unwritten, in any pattern; that ends the
//! log. Damage to what was durable must never look like that. The evidence, in this order:
//!
//! 1. A later record of this life whose watermark lies behind the bad place: the bytes were
//!    durable, so they rotted.
//! 2. One flipped bit repairs the record. A torn write replaces whole stretches of bytes by older
//!    ones, so this is rot, unless such a stretch may differ from the right bytes in one bit by
//!    chance: see [`Life::is_believable`].
//! 3. Otherwise the log ends here: *torn* where the record's identity stands in its place, plain
//!    *open* where zeros or another life's bytes follow and no record of this life comes later.
//!
//! Stale records of an earlier life have another segment number and prove nothing. Time is
//! linear: the rest of the segment is scanned once. A gap stays: damage to several bits of the
//! last records, which no later record vouches for, looks like a torn write, and in a recycled file
//! so does one flipped bit in the last.

#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use super::format::{
    Header, MAGIC, MAGIC_AT, RECORD_HEADER_BYTES, SECTOR_BYTES, SegmentHeader, flipped_bit,
    segment_bits,
};
use crate::base::checksum::crc;
use crate::base::error::{Error, REPAIR, Result};
use crate::base::types::FileId;
use std::ops::Range;
use std::path::Path;

/// The bytes of a header whose old version never stands alone: an older stretch that reaches into
/// them also covers the header's checksum before, or the sequence number behind, which differ.
const UNMISTAKABLE: Range<u64> = 4..24;

/// The bytes of one segment, seen as one life of it.
#[derive(Clone, Copy)]
pub(super) struct Life<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) segment: FileId,
    pub(super) path: &'a Path,
}

/// Why there is no valid record at some place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// No valid header of this life.
    Header,
    /// The payload does not match its checksum.
    Payload(Header),
    /// The payload would reach beyond the end.
    Short,
}

/// How the records end, where that is no damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Nothing of this life follows.
    Open,
    /// The beginning of a record follows.
    Torn,
}

/// What later records say.
struct Evidence {
    /// Behind the last of them.
    end: u64,
    /// The highest watermark in any.
    synced: u64,
}

/// A flipped bit that explains a flaw.
struct Flip {
    /// The byte it is in.
    byte: u64,
    /// The header or the payload that it is in: what is stored at one go.
    unit: Range<u64>,
    /// Where the repaired record ends.
    end: u64,
}

impl<'a> Life<'a> {
    /// The record or fragment at `offset`: its header and payload.
    #[inline]
    pub(super) fn fragment_at(&self, offset: u64) -> Result<(Header, &'a [u8]), Flaw> {
        let (header, rest) = self.header_at(offset).ok_or(Flaw::Header)?;
        let payload = rest.get(..header.len as usize).ok_or(Flaw::Short)?;
        if crc(payload) != header.payload_crc {
            return Err(Flaw::Payload(header));
        }
        Ok((header, payload))
    }

    /// Decides what the `flaw` of the fragment at `at` means, in the record that begins at
    /// `start`.
    ///
    /// # Errors
    /// `Corruption` when it is damage.
    pub(super) fn judge(&self, start: u64, at: u64, flaw: Flaw) -> Result<Ending> {
        let behind = match flaw {
            Flaw::Header => at.saturating_add(1), // saturated, nothing is found there
            Flaw::Payload(header) => header.end(),
            Flaw::Short => self.bytes.len() as u64,
        };
        let evidence = self.look_ahead(behind, start);
        if start < evidence.synced {
            return Err(self.damage(at).expected(
                format!(
                    "a valid record, because everything below {} was synced",
                    evidence.synced
                ),
                "none",
            ));
        }
        if let Some(flip) = self.flip(at, flaw)
            && self.is_believable(at, &flip, evidence.end)
        {
            return Err(self.damage(at).expected(
                "a matching checksum",
                format!("one flipped bit in byte {}", flip.byte),
            ));
        }
        let nothing_follows = evidence.end == behind;
        if at == start && flaw == Flaw::Header && !self.is_ours(at) && nothing_follows {
            return Ok(Ending::Open);
        }
        Ok(Ending::Torn)
    }

    /// The error for a damaged record at `offset`.
    pub(super) fn damage(&self, offset: u64) -> Error {
        Error::corruption("damaged log record")
            .at(self.path)
            .offset_at(offset)
            .advice(REPAIR)
    }

    /// The bytes from `offset` on, none beyond the end.
    #[inline]
    pub(super) fn rest(&self, offset: u64) -> &'a [u8] {
        usize::try_from(offset)
            .ok()
            .and_then(|offset| self.bytes.get(offset..))
            .unwrap_or_default()
    }

    /// The header at `offset`, if it is valid and of this life, and the bytes behind it.
    #[inline]
    fn header_at(&self, offset: u64) -> Option<(Header, &'a [u8])> {
        let (stored, rest) = self.rest(offset).split_first_chunk()?;
        let header = Header::decode(stored)?;
        header.is_of(self.segment, offset).then_some((header, rest))
    }

    /// The first place at or behind `from` where a header's magic byte would stand right.
    pub(super) fn next_magic(&self, from: u64) -> Option<u64> {
        let skipped = find_magic(self.rest(from).get(MAGIC_AT..)?)?;
        from.checked_add(skipped as u64)
    }

    /// True when the identity at `offset` is that of this life, whatever the checksum says.
    pub(super) fn is_ours(&self, offset: u64) -> bool {
        let Ok(place) = u32::try_from(offset) else {
            return false;
        };
        let segment = segment_bits(self.segment);
        let identity = u64::from(place) << 32 | u64::from(segment);
        match self.rest(offset).get(MAGIC_AT..MAGIC_AT + 9) {
            Some([magic, rest @ ..]) => *magic == MAGIC && *rest == identity.to_le_bytes(),
            _ => false,
        }
    }

    /// True when the file had an earlier life: its header says so, or is still that of the other.
    fn is_recycled(&self) -> bool {
        SegmentHeader::at_start_of(self.bytes)
            .is_some_and(|header| header.recycled || header.segment != self.segment)
    }

    /// Collects evidence from the valid headers of this life at and behind `from`, until one has
    /// a watermark behind `enough`.
    fn look_ahead(&self, from: u64, enough: u64) -> Evidence {
        let mut evidence = Evidence {
            end: from,
            synced: 0,
        };
        let mut from = from;
        while let Some(at) = self.next_magic(from) {
            // Comparing the identity first keeps the scan cheap where random bytes look like it.
            let header = if self.is_ours(at) {
                self.header_at(at)
            } else {
                None
            };
            let Some((header, _)) = header else {
                from = at.saturating_add(1);
                continue;
            };
            evidence.synced = evidence.synced.max(u64::from(header.synced));
            if enough < evidence.synced {
                break;
            }
            from = header.end();
            evidence.end = from;
        }
        evidence
    }

    /// The one flipped bit that explains the flaw at `at`, if there is one.
    fn flip(&self, at: u64, flaw: Flaw) -> Option<Flip> {
        let payload_at = at.checked_add(RECORD_HEADER_BYTES as u64)?;
        match flaw {
            Flaw::Header => {
                let found: &[u8; RECORD_HEADER_BYTES] = self.rest(at).first_chunk()?;
                let (stored, checked) = found.split_first_chunk::<4>()?;
                let stored = u32::from_le_bytes(*stored);
                let difference = stored ^ crc(checked);
                let bit = if difference.count_ones() == 1 {
                    difference.trailing_zeros() as usize
                } else {
                    flipped_bit(checked, stored)?.checked_add(32)?
                };
                let mut repaired = *found;
                *repaired.get_mut(bit / 8)? ^= 1 << (bit % 8);
                let header = Header::decode(&repaired)?;
                header.is_of(self.segment, at).then_some(Flip {
                    byte: at.checked_add(bit as u64 / 8)?,
                    unit: at..payload_at,
                    end: header.end(),
                })
            }
            Flaw::Payload(header) => {
                let payload = self.rest(payload_at).get(..header.len as usize)?;
                let bit = flipped_bit(payload, header.payload_crc)?;
                Some(Flip {
                    byte: payload_at.checked_add(bit as u64 / 8)?,
                    unit: payload_at..header.end(),
                    end: header.end(),
                })
            }
            Flaw::Short => None,
        }
    }

    /// True when the flip cannot be an older stretch of bytes that happens to differ in one bit:
    /// without this test a write torn at an unlucky place would make the log unreadable.
    ///
    /// Older bytes are zeros, or of an earlier life. Zeros reach from the flip to an edge of the
    /// unit or of the sector. Those of an earlier life may be anything, and must be reckoned with
    /// unless zeros follow the records; then only part of the header cannot be mistaken. Nor do the
    /// zeros tell that none ended within the last record, where the file is a recycled one.
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "a flip lies in the bytes and not before `at`, and records end within 64 KiB \
                  behind the bytes: a sector more is far from the largest number"
    )]
    fn is_believable(&self, at: u64, flip: &Flip, records_end: u64) -> bool {
        let sector = flip.byte / SECTOR_BYTES * SECTOR_BYTES;
        let start = flip.unit.start.max(sector);
        let end = flip.unit.end.min(sector + SECTOR_BYTES);
        let is_zero = |range: Range<u64>| {
            let len = range.end.saturating_sub(range.start) as usize;
            self.rest(range.start).iter().take(len).all(|&b| b == 0)
        };
        let behind = records_end.max(flip.end);
        let is_last = records_end <= flip.end;
        let is_fresh =
            || is_zero(behind..behind + SECTOR_BYTES) && !(is_last && self.is_recycled());
        !is_zero(start..flip.byte + 1)
            && !is_zero(flip.byte..end)
            && (UNMISTAKABLE.contains(&(flip.byte - at)) || is_fresh())
    }
}

/// The first place of a magic byte, looked for 64 bytes at a time.
fn find_magic(bytes: &[u8]) -> Option<usize> {
    let has_magic = |chunk: &[u8]| chunk.iter().fold(false, |has, &b| has | (b == MAGIC));
    let chunk = bytes.chunks(64).position(has_magic)?;
    let skipped = chunk.checked_mul(64)?;
    let within = bytes.get(skipped..)?.iter().position(|&b| b == MAGIC)?;
    skipped.checked_add(within)
}
