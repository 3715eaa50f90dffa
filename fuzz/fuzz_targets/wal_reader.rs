//! The log reader over any bytes: as they are, and with the checksums of the first records right.
//!
//! Input: records to repair (1 byte) | limit in 1/256 of the segment, 0 for none | segment.
#![no_main]

use alluvium::base::types::FileId;
use alluvium::fs::Region;
use alluvium::wal::format::RECORD_HEADER_BYTES;
use alluvium::wal::{Reader, Tail};
use alluvium_fuzz::{guard, input::Input, segment};
use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|data: &[u8]| guard::run(data, target));

fn target(data: &[u8]) {
    let mut input = Input(data);
    let (repaired, limit) = (input.below(256), input.below(256));
    let mut bytes = input.0.to_vec();
    let limit = (limit != 0).then_some((limit * bytes.len() / 256) as u64);
    let (database, number) = segment::identity(&bytes);
    read(&bytes, database, number, limit);
    segment::repair(&mut bytes, number, repaired);
    read(&bytes, database, number, limit);
}

fn read(bytes: &[u8], database: u64, number: FileId, limit: Option<u64>) {
    let region = Region::from_vec(bytes.to_vec());
    guard::within(bytes.len(), || {
        read_region(region, bytes.len(), (database, number), limit)
    });
}

fn read_region(
    region: Region,
    bytes: usize,
    (database, number): (u64, FileId),
    limit: Option<u64>,
) {
    let path = Path::new("segment");
    let Ok(mut reader) = Reader::over(region, path, database, number, limit) else {
        return;
    };
    let len = limit.unwrap_or(bytes as u64);
    let (mut records, mut payload_bytes, mut behind) = (0, 0, reader.end());
    let failed = loop {
        match reader.next() {
            Ok(Some(record)) => {
                assert!(behind <= record.offset, "records ascend");
                payload_bytes += record.payload.len();
                behind = record.offset + (RECORD_HEADER_BYTES + record.payload.len()) as u64;
            }
            Ok(None) => break None,
            Err(error) => break Some(error.to_string()),
        }
        assert!(behind <= reader.end() && reader.end() <= len);
        records += 1;
        assert!(records * RECORD_HEADER_BYTES + payload_bytes <= bytes);
    };
    match reader.next() {
        Ok(again) => assert!(failed.is_none() && again.is_none(), "I-wal-7"),
        Err(again) => assert_eq!(failed, Some(again.to_string()), "I-wal-7"),
    }
    assert!(reader.synced() <= len);
    match reader.tail() {
        Tail::Empty => assert_eq!(records, 0),
        Tail::Open { end } | Tail::Torn { end } => assert_eq!(end, reader.end()),
        Tail::Sealed(sealed) => assert_eq!((sealed.segment, sealed.end), (number, reader.end())),
    }
}
