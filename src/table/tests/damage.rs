//! Damaged, swapped, truncated and foreign files: right answers, or errors that say where.

use super::*;
use crate::base::cursor::Cursor;
use crate::base::error::{Error, ErrorKind};

pub(super) fn small_rows() -> Vec<Row> {
    (0..90u32)
        .map(|n| {
            let key = format!("key{:05}", n * 7).into_bytes();
            (key, u64::from(n % 5) + 1, Some(vec![n as u8; 60]))
        })
        .collect()
}

pub(super) fn assert_says_where(error: &Error) {
    assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
    assert!(
        error.file().is_some() && error.offset().is_some(),
        "{error}"
    );
}

/// Reads everything there is; each answer is right, or an error that says where.
/// Gives the number of errors.
pub(super) fn read_all(table: &Arc<Table>, rows: &[Row]) -> usize {
    let mut errors = 0;
    for row in rows {
        let hash = hash(&row.0);
        assert!(table.may_contain(hash), "no false negatives");
        match table.get(&row.0, hash, SeqNo::MAX) {
            Ok(found) => {
                let found = found.expect("a key is never missing");
                assert_eq!(
                    (found.tag, found.bytes()),
                    (row_tag(row), row.2.as_deref().unwrap())
                );
            }
            Err(error) => {
                assert_says_where(&error);
                errors += 1;
            }
        }
    }
    let mut cursor = table.cursor();
    let mut result = cursor.first();
    let mut seen = 0;
    while result.is_ok() && cursor.valid() {
        assert_eq!(
            (cursor.key(), cursor.tag()),
            (&rows[seen].0[..], row_tag(&rows[seen]))
        );
        assert_eq!(cursor.value(), rows[seen].2.as_deref().unwrap());
        seen += 1;
        result = cursor.next();
    }
    match result {
        Ok(()) => assert_eq!(seen, rows.len(), "an end is the end"),
        Err(error) => {
            assert_says_where(&error);
            assert!(!cursor.valid());
            // P10: the error stays until the cursor is positioned again.
            assert_eq!(cursor.next().unwrap_err().offset(), error.offset());
            assert_eq!(cursor.prev().unwrap_err().offset(), error.offset());
            errors += 1;
        }
    }
    errors
}

fn flip_every_bit(codec: Compression, read_mode: ReadMode, stride: usize) {
    let place = Place::new();
    let rows = small_rows();
    let summary = place.build(options(1024, codec), &rows);
    let context = context(read_mode, Verify::FirstTouch);
    let mut bytes = place.bytes();
    assert!(bytes.len() < 16 << 10);
    let sections = place.open(summary.bytes, &context).sections;
    let padding = |byte: usize| {
        let byte = byte as u64;
        let rows_at = sections.properties.offset + sections.properties.len;
        let covered = [
            sections.filter.unwrap(),
            sections.index,
            sections.properties,
        ]
        .iter()
        .any(|s| s.offset <= byte && byte < s.offset + s.len);
        sections.filter.unwrap().offset - 64 <= byte && byte < rows_at && !covered
    };
    for bit in (0..bytes.len() * 8).step_by(stride) {
        bytes[bit / 8] ^= 1 << (bit % 8);
        place.replace(&bytes);
        match place.open_as(IDENTITY, summary.bytes, &context) {
            Err(error) => assert_says_where(&error),
            Ok(table) => {
                read_all(&table, &rows);
                match table.verify() {
                    Err(error) => assert_says_where(&error),
                    Ok(()) => assert!(padding(bit / 8), "bit {bit} was not noticed"),
                }
            }
        }
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn any_flipped_bit_is_noticed_or_harmless() {
    flip_every_bit(Compression::None, ReadMode::Mmap, 23);
    flip_every_bit(Compression::None, ReadMode::Pread, 97);
    if Compression::Lz4.is_supported() {
        flip_every_bit(Compression::Lz4, ReadMode::Mmap, 31);
    }
}

/// Bug 67 of other engines: good blocks at each other's place.
#[test]
fn swapped_blocks_are_noticed_and_the_others_are_served() {
    let place = Place::new();
    let rows = small_rows();
    let summary = place.build(options(1024, Compression::None), &rows);
    let mut bytes = place.bytes();
    let (first, second) = bytes.split_at_mut(1024);
    first.swap_with_slice(&mut second[..1024]);
    place.replace(&bytes);
    for read_mode in [ReadMode::Mmap, ReadMode::Pread] {
        let table = place.open(summary.bytes, &context(read_mode, Verify::FirstTouch));
        let error = table
            .get(&rows[0].0, hash(&rows[0].0), SeqNo::MAX)
            .unwrap_err();
        assert_eq!(error.offset(), Some(0));
        let errors = read_all(&table, &rows);
        assert!(
            (20..40).contains(&errors),
            "{errors} errors: damage stays local"
        );
        assert_eq!(table.verify().unwrap_err().offset(), Some(0));
    }
}

/// Bug 56 of other engines: unreadable first blocks are no empty tables.
#[test]
fn an_unreadable_first_block_is_an_error_and_no_end() {
    let place = Place::new();
    let rows = small_rows();
    let summary = place.build(options(1024, Compression::None), &rows);
    let mut bytes = place.bytes();
    bytes[..512].fill(0);
    place.replace(&bytes);
    for read_mode in [ReadMode::Mmap, ReadMode::Pread] {
        let table = place.open(summary.bytes, &context(read_mode, Verify::FirstTouch));
        for mut cursor in [table.cursor(), table.compaction_cursor()] {
            assert_says_where(&cursor.first().unwrap_err());
            assert_says_where(&cursor.next().unwrap_err());
            assert_says_where(&cursor.seek(b"", Tag::MAX).unwrap_err());
            cursor.last().unwrap();
            assert_eq!(cursor.key(), rows[89].0, "other blocks are served");
            let mut back = Ok(());
            while back.is_ok() && cursor.valid() {
                back = cursor.prev();
            }
            assert_says_where(&back.unwrap_err());
        }
    }
}

#[test]
fn compaction_verifies_what_was_verified_before() {
    let place = Place::new();
    let rows = small_rows();
    let summary = place.build(options(1024, Compression::None), &rows);
    let context = context(ReadMode::Mmap, Verify::FirstTouch);
    let file = place.0.open_read(Place::NAME).unwrap();
    let table = Table::open(file, IDENTITY, summary.bytes, true, &context).unwrap();
    let table = Arc::new(table);
    assert_eq!(read_all(&table, &rows), 0);
    // Written through another handle: the mapping sees it, the bitmap does not.
    let file = place.0.open_write(Place::NAME).unwrap();
    file.write_all_at(b"\xff", 1023).unwrap();
    assert_eq!(read_all(&table, &rows), 0, "first touch was long ago");
    assert_says_where(&table.compaction_cursor().first().unwrap_err());
    assert_says_where(&table.verify().unwrap_err());
    let every = super::context(ReadMode::Mmap, Verify::EveryRead);
    assert!(read_all(&place.open(summary.bytes, &every), &rows) > 0);
}

#[test]
fn a_file_of_another_size_or_birth_is_refused() {
    let place = Place::new();
    let summary = place.build(options(1024, Compression::None), &small_rows());
    let context = context(ReadMode::Mmap, Verify::FirstTouch);
    for other in [
        BirthIdentity {
            database: 1,
            ..IDENTITY
        },
        BirthIdentity {
            file: FileId(8),
            ..IDENTITY
        },
        BirthIdentity {
            hash_seed: 1,
            ..IDENTITY
        },
    ] {
        let error = place.open_as(other, summary.bytes, &context).unwrap_err();
        assert_says_where(&error);
        assert!(error.to_string().contains("another birth"), "{error}");
    }
    let bytes = place.bytes();
    for len in [0, 1, 71, 72, 1024, bytes.len() - 1] {
        place.replace(&bytes[..len]);
        for claimed in [summary.bytes, len as u64] {
            assert_says_where(&place.open_as(IDENTITY, claimed, &context).unwrap_err());
        }
    }
}

/// Hostile bytes with good checksums (P19): the body of a block, and the index, are anything.
#[test]
fn garbled_bytes_under_good_checksums_never_panic() {
    use super::super::format::bound_checksum;
    let place = Place::new();
    let rows = small_rows();
    let summary = place.build(options(1024, Compression::None), &rows);
    let context = context(ReadMode::Mmap, Verify::FirstTouch);
    let original = place.bytes();
    let open = || place.open(summary.bytes, &context);
    let index = open().sections.index;
    let visit = |table: &Arc<Table>| {
        for row in &rows {
            let _ = table.get(&row.0, hash(&row.0), SeqNo::MAX);
        }
        let mut cursor = table.cursor();
        let mut steps = 0;
        let mut result = cursor.first();
        while result.is_ok() && cursor.valid() && steps < 200_000 {
            result = cursor.next();
            steps += 1;
        }
        let _ = (
            cursor.seek(b"key00100", Tag::MAX),
            cursor.seek_for_prev(b"key", Tag::MIN),
        );
        let _ = (
            table.verify(),
            table.approximate_bytes(Some(b"k"), Some(b"l")),
        );
    };
    for at in (0..700).chain(index.offset as usize..(index.offset + index.len) as usize) {
        for byte in [0, 1, 0x7f, 0xff] {
            let mut bytes = original.clone();
            bytes[at] = byte;
            let checksum = bound_checksum(&IDENTITY, 0, &bytes[..1020]);
            bytes[1020..1024].copy_from_slice(&checksum.to_le_bytes());
            let span = index.offset as usize..(index.offset + index.len) as usize;
            let checksum = bound_checksum(&IDENTITY, index.offset, &bytes[span]);
            reseal(&mut bytes, &checksum.to_le_bytes());
            place.replace(&bytes);
            visit(&open());
        }
    }
}

/// Guides and tags of the index under good checksums: a get would miss keys, so `verify` tells.
#[test]
fn verify_notices_an_index_that_contradicts_its_separators() {
    use super::super::format::bound_checksum;
    let place = Place::new();
    let rows = small_rows();
    let summary = place.build(options(1024, Compression::None), &rows);
    let context = context(ReadMode::Mmap, Verify::FirstTouch);
    let mut bytes = place.bytes();
    let table = place.open(summary.bytes, &context);
    table.verify().unwrap();
    let blocks = table.index(&mut None).unwrap().decoded.count();
    assert!(1 < blocks && blocks < 64, "one top");
    let index = table.sections.index;
    let span = index.offset as usize..(index.offset + index.len) as usize;
    let heads = 24;
    let tops = heads + 8 * blocks;
    let tags = tops + 8 + 8 * (blocks + 1);
    for (place_in_index, flips) in [(heads + 8, 1), (heads, 0x80), (tops, 1), (tags + 8, 0x40)] {
        bytes[span.start + place_in_index] ^= flips;
        let checksum = bound_checksum(&IDENTITY, index.offset, &bytes[span.clone()]);
        reseal(&mut bytes, &checksum.to_le_bytes());
        place.replace(&bytes);
        let error = place.open(summary.bytes, &context).verify().unwrap_err();
        assert_eq!(error.offset(), Some(index.offset), "{error}");
        bytes[span.start + place_in_index] ^= flips;
    }
}

/// Writes the index's checksum into its row, and all checksums above it.
fn reseal(bytes: &mut [u8], index_checksum: &[u8]) {
    use super::super::format::{FOOTER_BYTES, SECTION_ROW_BYTES, bound_checksum};
    use crate::base::checksum::crc;
    let footer = bytes.len() - FOOTER_BYTES;
    let rows = footer - 3 * SECTION_ROW_BYTES;
    let index_row = rows + SECTION_ROW_BYTES; // filter, index, properties
    bytes[index_row + 20..index_row + 24].copy_from_slice(index_checksum);
    let checksum = bound_checksum(&IDENTITY, rows as u64, &bytes[rows..footer]);
    bytes[footer + 12..footer + 16].copy_from_slice(&checksum.to_le_bytes());
    let checksum = crc(&bytes[footer..footer + 60]);
    bytes[footer + 60..footer + 64].copy_from_slice(&checksum.to_le_bytes());
}
