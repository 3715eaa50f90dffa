//! The bytes of a log segment: record headers, the segment's header and footer.
//!
//! A segment is a run of records without padding. Each begins with 32 bytes, little-endian:
//!
//! ```text
//!  0 u32 header checksum   crc(bytes 4..32)
//!  4 u32 payload checksum  crc(payload)
//!  8 u32 meta              payload length (bits 0..20) | kind (20..24) | magic 0xA1 (24..32)
//! 12 u32 segment           low 32 bits of the segment's number
//! 16 u32 offset            of this header in the segment
//! 20 u32 synced            offset up to which the segment was known to be durable
//! 24 u64 sequence number   first one of the record
//! 32     payload           at most 65,536 bytes
//! ```
//!
//! The header's checksum covers the payload's and the identity (segment and offset), so a record
//! is bound to its place and its life (R2), while the payload's can be computed before the place
//! is known. A run of zeros is never valid: the magic is not zero and checksums are masked (R1).
//!
//! Nothing here reads or writes a file. Decoding checks every field and never panics.

#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use super::Predecessor;
use crate::base::checksum::{crc, unmask};
use crate::base::coding::Decoder;
use crate::base::types::{FileId, SeqNo};

/// Bytes of a record's header.
pub const RECORD_HEADER_BYTES: usize = 32;
/// Longest payload of one fragment: a garbled length claims little (R3).
pub const FRAGMENT_BYTES_MAX: usize = 64 << 10;
/// The version this code writes, and the only one it reads.
pub const VERSION: u32 = 1;
/// The first record of a segment, header and payload.
pub const SEGMENT_HEADER_BYTES: usize = RECORD_HEADER_BYTES + SEGMENT_PAYLOAD_BYTES;
/// The last record of a sealed segment, header and payload.
pub const FOOTER_BYTES: usize = RECORD_HEADER_BYTES + FOOTER_PAYLOAD_BYTES;
/// Smallest part of a disk's content that persists whole or not at all.
pub(super) const SECTOR_BYTES: u64 = 512;

const SEGMENT_PAYLOAD_BYTES: usize = 4 + 8 + 8 + 1 + 8 + 8 + 8;
const FOOTER_PAYLOAD_BYTES: usize = 8 + 8;
pub(super) const MAGIC: u8 = 0xA1;
/// Where the magic byte stands in a header.
pub(super) const MAGIC_AT: usize = 11;
const LENGTH_BITS: u32 = 20;

const _: () = assert!(
    FRAGMENT_BYTES_MAX < 1 << LENGTH_BITS,
    "a fragment's length fits its field"
);

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A whole record.
    Full = 1,
    /// The first fragment of a long record.
    First = 2,
    /// A fragment between the first and the last.
    Middle = 3,
    /// The last fragment of a long record.
    Last = 4,
    /// The segment's header.
    Segment = 5,
    /// The segment's footer.
    Footer = 6,
}

impl Kind {
    fn from_bits(bits: u32) -> Option<Kind> {
        Some(match bits {
            1 => Kind::Full,
            2 => Kind::First,
            3 => Kind::Middle,
            4 => Kind::Last,
            5 => Kind::Segment,
            6 => Kind::Footer,
            _ => return None,
        })
    }
}

/// A record's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Checksum of the payload.
    pub payload_crc: u32,
    /// Payload bytes.
    pub len: u32,
    /// What the record is.
    pub kind: Kind,
    /// Low 32 bits of the segment's number.
    pub segment: u32,
    /// Its own place.
    pub offset: u32,
    /// Offset up to which the segment was known to be durable when this was written.
    pub synced: u32,
    /// First sequence number.
    pub first: SeqNo,
}

impl Header {
    /// The stored form.
    #[inline]
    pub fn encode(&self) -> [u8; RECORD_HEADER_BYTES] {
        debug_assert!(self.len as usize <= FRAGMENT_BYTES_MAX);
        debug_assert!(self.synced <= self.offset, "I-wal-3: synced <= offset");
        let meta = self.len | (self.kind as u32) << LENGTH_BITS | u32::from(MAGIC) << 24;
        let mut bytes = [0; RECORD_HEADER_BYTES];
        bytes[4..8].copy_from_slice(&self.payload_crc.to_le_bytes());
        bytes[8..12].copy_from_slice(&meta.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.segment.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.offset.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.synced.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.first.get().to_le_bytes());
        let header_crc = crc(&bytes[4..]);
        bytes[0..4].copy_from_slice(&header_crc.to_le_bytes());
        bytes
    }

    /// A header from its stored form; `None` unless checksum and every field are valid.
    #[inline]
    pub fn decode(bytes: &[u8; RECORD_HEADER_BYTES]) -> Option<Header> {
        let mut d = Decoder::new(bytes);
        let header_crc = d.u32()?;
        if header_crc != crc(d.rest()) {
            return None;
        }
        let payload_crc = d.u32()?;
        let meta = d.u32()?;
        let len = meta & ((1 << LENGTH_BITS) - 1);
        let kind = Kind::from_bits(meta >> LENGTH_BITS & 0xf)?;
        let header = Header {
            payload_crc,
            len,
            kind,
            segment: d.u32()?,
            offset: d.u32()?,
            synced: d.u32()?,
            first: SeqNo::new(d.u64()?),
        };
        let in_range = meta >> 24 == u32::from(MAGIC)
            && len as usize <= FRAGMENT_BYTES_MAX
            && header.synced <= header.offset;
        // A number above 56 bits would be cut by `SeqNo::new`; the stored form is the only one.
        let exact = bytes[24..32] == header.first.get().to_le_bytes();
        (in_range && exact).then_some(header)
    }

    /// True when the record was written at `offset` of this life of `segment`.
    #[inline]
    pub(super) fn is_of(&self, segment: FileId, offset: u64) -> bool {
        self.segment == segment_bits(segment) && u64::from(self.offset) == offset
    }

    /// Where the record's payload ends, which is where the next record begins.
    #[inline]
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "two numbers of 32 bits and a small one, added in 64"
    )]
    pub(super) fn end(&self) -> u64 {
        u64::from(self.offset) + RECORD_HEADER_BYTES as u64 + u64::from(self.len)
    }
}

/// The part of a segment's number that stands in each record.
#[inline]
pub(super) fn segment_bits(segment: FileId) -> u32 {
    segment.0 as u32
}

/// The payload of a segment's first record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Format version.
    pub version: u32,
    /// The database it belongs to.
    pub database: u64,
    /// Its whole number.
    pub segment: FileId,
    /// The file had an earlier life.
    pub recycled: bool,
    /// The segment before it.
    pub before: Option<Predecessor>,
}

impl SegmentHeader {
    /// The stored form: version u32, database u64, segment u64, flags u8 (bit 0: has a predecessor,
    /// bit 1: recycled), then the predecessor's segment u64, end u64 and last sequence number u64
    /// (zeros without one).
    pub fn encode(&self) -> [u8; SEGMENT_PAYLOAD_BYTES] {
        let mut bytes = [0; SEGMENT_PAYLOAD_BYTES];
        bytes[0..4].copy_from_slice(&self.version.to_le_bytes());
        bytes[4..12].copy_from_slice(&self.database.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.segment.0.to_le_bytes());
        bytes[20] = u8::from(self.before.is_some()) | u8::from(self.recycled) << 1;
        if let Some(before) = self.before {
            bytes[21..29].copy_from_slice(&before.segment.0.to_le_bytes());
            bytes[29..37].copy_from_slice(&before.end.to_le_bytes());
            bytes[37..45].copy_from_slice(&before.last_seqno.get().to_le_bytes());
        }
        bytes
    }

    /// The valid one that a file's bytes begin with, whichever segment's it is.
    pub fn at_start_of(bytes: &[u8]) -> Option<SegmentHeader> {
        let (found, rest) = bytes.split_first_chunk()?;
        let header = Header::decode(found)?;
        rest.get(..header.len as usize)
            .filter(|payload| header.kind == Kind::Segment && crc(payload) == header.payload_crc)
            .and_then(SegmentHeader::decode)
    }

    /// From the stored form. A version other than ours gives a header with only that field and
    /// the database filled in, for the caller to refuse by name.
    pub fn decode(payload: &[u8]) -> Option<SegmentHeader> {
        let mut d = Decoder::new(payload);
        let (version, database) = (d.u32()?, d.u64()?);
        if version != VERSION {
            return Some(SegmentHeader {
                version,
                database,
                segment: FileId(0),
                recycled: false,
                before: None,
            });
        }
        let segment = FileId(d.u64()?);
        let flags = d.u8()?;
        let before = Predecessor {
            segment: FileId(d.u64()?),
            end: d.u64()?,
            last_seqno: SeqNo::new(d.u64()?),
        };
        let header = SegmentHeader {
            version,
            database,
            segment,
            recycled: flags & 2 != 0,
            before: (flags & 1 != 0).then_some(before),
        };
        (d.is_empty() && header.encode() == payload).then_some(header)
    }
}

/// The payload of a sealed segment's last record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footer {
    /// The highest sequence number in the segment, or in any before it.
    pub last_seqno: SeqNo,
    /// How many records were appended, fragments of one counted once.
    pub records: u64,
}

impl Footer {
    /// The stored form: last sequence number u64, records u64.
    pub fn encode(&self) -> [u8; FOOTER_PAYLOAD_BYTES] {
        let mut bytes = [0; FOOTER_PAYLOAD_BYTES];
        bytes[0..8].copy_from_slice(&self.last_seqno.get().to_le_bytes());
        bytes[8..16].copy_from_slice(&self.records.to_le_bytes());
        bytes
    }

    /// From the stored form.
    pub fn decode(payload: &[u8]) -> Option<Footer> {
        let mut d = Decoder::new(payload);
        let footer = Footer {
            last_seqno: SeqNo::new(d.u64()?),
            records: d.u64()?,
        };
        (d.is_empty() && footer.encode() == payload).then_some(footer)
    }
}

/// The one bit of `bytes` whose flip makes their checksum `stored`, counted from the first byte's
/// lowest bit; `None` when there is none.
///
/// CRC is linear: a flip changes it by an amount that depends only on how many bits follow. That
/// amount is followed from the last bit to the first, 8 steps a byte, without reading the bytes.
pub(super) fn flipped_bit(bytes: &[u8], stored: u32) -> Option<usize> {
    const POLYNOMIAL: u32 = 0xedb8_8320;
    let difference = unmask(crc(bytes)) ^ unmask(stored);
    let mut change = POLYNOMIAL;
    for bit in (0..bytes.len().checked_mul(8)?).rev() {
        if change == difference {
            return Some(bit);
        }
        change = change >> 1 ^ if change & 1 == 1 { POLYNOMIAL } else { 0 };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn zeros_are_no_header() {
        assert_eq!(Header::decode(&[0; RECORD_HEADER_BYTES]), None);
    }

    #[test]
    fn only_kinds_that_are_written_have_a_number() {
        let known = (0..=u32::MAX >> 28).filter_map(Kind::from_bits);
        assert_eq!(known.count(), 6);
    }

    proptest! {
        #[test]
        fn a_header_comes_back(
            payload_crc: u32, len in 0..=FRAGMENT_BYTES_MAX as u32, kind in 1u32..=6,
            segment: u32, offset: u32, first: u64,
        ) {
            let header = Header {
                payload_crc, len, kind: Kind::from_bits(kind).unwrap(), segment, offset,
                synced: offset / 2, first: SeqNo::new(first),
            };
            prop_assert_eq!(Header::decode(&header.encode()), Some(header));
        }

        #[test]
        fn any_bytes_decode_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Some(header) = bytes.first_chunk().and_then(Header::decode) {
                prop_assert_eq!(&header.encode()[..], &bytes[..RECORD_HEADER_BYTES]);
            }
            if let Some(header) = SegmentHeader::decode(&bytes)
                && header.version == VERSION
            {
                prop_assert_eq!(&header.encode()[..], &bytes[..]);
            }
            if let Some(footer) = Footer::decode(&bytes) {
                prop_assert_eq!(&footer.encode()[..], &bytes[..]);
            }
        }

        #[test]
        fn one_flip_is_found_by_its_syndrome(
            mut bytes in proptest::collection::vec(any::<u8>(), 1..300), pick: prop::sample::Index,
        ) {
            let stored = crc(&bytes);
            let bit = pick.index(bytes.len() * 8);
            prop_assert_eq!(flipped_bit(&bytes, stored), None);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(flipped_bit(&bytes, stored), Some(bit));
        }
    }
}
