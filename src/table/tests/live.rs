//! Bytes that rot under an open table, behind what was verified when they were first read.

use super::damage::{assert_says_where, read_all, small_rows};
use super::*;
use crate::base::cursor::Cursor;
use crate::base::error::Result;
use std::os::unix::fs::FileExt;

/// Flips every 23rd bit in turn in the file itself, tells `look` which byte it is in, and mends it.
fn rot(place: &Place, mut look: impl FnMut(u64)) {
    let file = place.writable();
    let bytes = place.bytes();
    for bit in (0..bytes.len() * 8).step_by(23) {
        let (at, byte) = (bit as u64 / 8, bytes[bit / 8]);
        file.write_all_at(&[byte ^ 1 << (bit % 8)], at).unwrap();
        look(at);
        file.write_all_at(&[byte], at).unwrap();
    }
}

/// Where the blocks end: filter, index and the rest are behind.
fn blocks_end(table: &Table) -> u64 {
    let mut hold = None;
    let index = table.index(&mut hold).unwrap();
    let (offset, len) = table.span(index, index.decoded.count() - 1).unwrap();
    offset + len as u64
}

#[test]
fn every_read_notices_rot_under_an_open_table() {
    for (codec, read_mode, fresh) in [
        (Compression::None, ReadMode::Mmap, false),
        (Compression::None, ReadMode::Mmap, true),
        (Compression::Lz4, ReadMode::Mmap, false),
        (Compression::None, ReadMode::Pread, true),
        (Compression::Lz4, ReadMode::Pread, false),
    ] {
        let place = Place::new();
        let rows = small_rows();
        let summary = place.build(options(1024, codec), &rows);
        let context = context(read_mode, Verify::EveryRead);
        let table = place.open_fresh(summary.bytes, &context, fresh);
        assert_eq!(read_all(&table, &rows), 0);
        let end = blocks_end(&table);
        rot(&place, |at| {
            let errors = read_all(&table, &rows);
            assert_eq!(0 < errors, at < end, "byte {at}: {errors} errors");
        });
        assert_eq!(read_all(&table, &rows), 0, "what is whole again is read");
    }
}

/// What a compaction takes over, bit for bit or not at all.
fn compacts(table: &Arc<Table>, rows: &[Row]) -> Result<()> {
    let mut cursor = table.compaction_cursor();
    cursor.first()?;
    for row in rows {
        assert!(cursor.valid(), "ends before {:?}", row.0);
        assert_eq!((cursor.key(), cursor.tag()), (&row.0[..], row_tag(row)));
        assert_eq!(cursor.value(), row.2.as_deref().unwrap());
        cursor.next()?;
    }
    assert!(!cursor.valid(), "there is more");
    Ok(())
}

/// Otherwise it would give bad bytes a good checksum (P9).
#[test]
fn compaction_notices_rot_in_what_was_read_before() {
    for (read_mode, fresh) in [
        (ReadMode::Mmap, false),
        (ReadMode::Mmap, true),
        (ReadMode::Pread, true),
    ] {
        let place = Place::new();
        let rows = small_rows();
        let summary = place.build(options(1024, Compression::None), &rows);
        let context = context(read_mode, Verify::FirstTouch);
        let table = place.open_fresh(summary.bytes, &context, fresh);
        assert_eq!(read_all(&table, &rows), 0);
        let (end, index) = (blocks_end(&table), table.sections.index);
        rot(&place, |at| {
            let used = at < end || (index.offset..index.offset + index.len).contains(&at);
            match compacts(&table, &rows) {
                Ok(()) => assert!(!used, "byte {at} was not noticed"),
                Err(error) => {
                    assert!(used, "byte {at}: {error}");
                    assert_says_where(&error);
                }
            }
        });
    }
}
