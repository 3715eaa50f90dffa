//! Segments of the log, and manifests, which have the same framing.

use crate::{u32_at, u64_at};
use alluvium::base::checksum::crc;
use alluvium::base::types::{FileId, SeqNo};
use alluvium::wal::format::{
    FRAGMENT_BYTES_MAX, Header, Kind, RECORD_HEADER_BYTES, SegmentHeader, VERSION,
};

const LENGTH_MASK: u32 = (1 << 20) - 1;
const META_AT: usize = 8;
const MAGIC_AT: usize = 11;
const MAGIC: u8 = 0xA1;
const SEGMENT_AT: usize = 12;
const OFFSET_AT: usize = 16;

/// The database and the number that the segment's first record states: to be opened as such.
pub fn identity(bytes: &[u8]) -> (u64, FileId) {
    let stated = |at| u64_at(bytes, RECORD_HEADER_BYTES + at).unwrap_or(1);
    (stated(4), FileId(stated(12)))
}

/// A segment that holds `payloads`, each in a record of its own, numbered from 1.
pub fn framed<'a>(
    database: u64,
    segment: FileId,
    payloads: impl Iterator<Item = &'a [u8]>,
) -> Vec<u8> {
    let header = SegmentHeader {
        version: VERSION,
        database,
        segment,
        recycled: false,
        before: None,
    };
    let mut bytes = Vec::new();
    append(&mut bytes, Kind::Segment, segment, 0, &header.encode());
    for (number, payload) in (1..).zip(payloads) {
        let payload = &payload[..payload.len().min(FRAGMENT_BYTES_MAX)];
        append(&mut bytes, Kind::Full, segment, number, payload);
    }
    bytes
}

/// The head of this segment, and behind it one record with `payload`, numbered high.
pub fn with_payload(segment: &[u8], number: FileId, payload: &[u8]) -> Vec<u8> {
    let meta = u32_at(segment, META_AT).unwrap_or(0);
    let head = RECORD_HEADER_BYTES + (meta & LENGTH_MASK) as usize;
    let mut bytes = segment.get(..head).unwrap_or(segment).to_vec();
    let payload = &payload[..payload.len().min(FRAGMENT_BYTES_MAX)];
    append(&mut bytes, Kind::Full, number, 1 << 20, payload);
    bytes
}

fn append(bytes: &mut Vec<u8>, kind: Kind, segment: FileId, number: u64, payload: &[u8]) {
    let header = Header {
        payload_crc: crc(payload),
        len: payload.len() as u32,
        kind,
        segment: segment.0 as u32,
        offset: bytes.len() as u32,
        synced: 0,
        first: SeqNo::new(number),
    };
    bytes.extend_from_slice(&header.encode());
    bytes.extend_from_slice(payload);
}

/// Gives the first `records` records the checksums, the place and the magic of valid ones.
/// Stops at a record whose length cannot be one.
pub fn repair(bytes: &mut [u8], segment: FileId, records: usize) {
    let mut at = 0;
    for _ in 0..records {
        let rest = &mut bytes[at..];
        let Some(meta) = u32_at(rest, META_AT) else {
            return;
        };
        let len = (meta & LENGTH_MASK) as usize;
        let total = RECORD_HEADER_BYTES + len;
        if FRAGMENT_BYTES_MAX < len || rest.len() < total {
            return;
        }
        rest[MAGIC_AT] = MAGIC;
        rest[SEGMENT_AT..][..4].copy_from_slice(&(segment.0 as u32).to_le_bytes());
        rest[OFFSET_AT..][..4].copy_from_slice(&(at as u32).to_le_bytes());
        let payload_crc = crc(&rest[RECORD_HEADER_BYTES..total]);
        rest[4..8].copy_from_slice(&payload_crc.to_le_bytes());
        let header_crc = crc(&rest[4..RECORD_HEADER_BYTES]);
        rest[..4].copy_from_slice(&header_crc.to_le_bytes());
        at += total;
    }
}
