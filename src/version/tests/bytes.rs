//! The bytes of records and of CURRENT: round trips, strangers' bytes, newer formats.

use super::world::{fs_on, recover};
use crate::base::checksum::crc;
use crate::base::error::{Error, ErrorKind};
use crate::base::options::LogMode;
use crate::base::ranges::{HalfOpen, Pieces};
use crate::base::types::{FileId, KeyspaceId, SeqNo, Time};
use crate::fs::FileName;
use crate::fs::sim::SimFs;
use crate::table::{BirthIdentity, Expiring, TableSummary};
use crate::version::edit::{Ceilings, Identity, Record};
use crate::version::manifest::{CURRENT_BYTES, Current, switch};
use crate::version::{AddedTable, FileMeta, KeyspaceEdit, VersionEdit, recode};
use crate::wal::{Writer, WriterOptions};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use std::ops::Bound;

fn file() -> impl Strategy<Value = FileId> {
    any::<u64>().prop_map(FileId)
}

fn seqno() -> impl Strategy<Value = SeqNo> {
    any::<u64>().prop_map(SeqNo::new)
}

fn added() -> impl Strategy<Value = AddedTable> {
    let place = (any::<u8>(), any::<u64>(), file());
    let identity = (any::<u64>(), file(), any::<u64>());
    let counts = any::<[u64; 4]>();
    let keys = (
        vec(any::<u8>(), 0..20),
        vec(any::<u8>(), 0..20),
        seqno(),
        seqno(),
        option::of(seqno()),
        option::of((1u64.., any::<u64>())),
    );
    (place, identity, counts, keys).prop_map(|(place, identity, counts, keys)| AddedTable {
        level: place.0,
        order: place.1,
        fresh: false,
        meta: FileMeta {
            file: place.2,
            identity: BirthIdentity {
                database: identity.0,
                file: identity.1,
                hash_seed: identity.2,
            },
            summary: TableSummary {
                bytes: counts[0],
                entries: counts[1],
                tombstones: counts[2],
                raw_bytes: counts[3],
                smallest: keys.0,
                largest: keys.1,
                seqnos: (keys.2, keys.3),
                expiring: (keys.5).map_or(Expiring::default(), |(entries, half_at)| Expiring {
                    entries,
                    half_at: Time(half_at),
                }),
            },
            deleted_through: keys.4.unwrap_or_default(),
        },
    })
}

fn keyspace() -> impl Strategy<Value = KeyspaceEdit> {
    let options = || vec(any::<u8>(), 0..8);
    (
        (
            any::<u32>(),
            option::of(("\\PC{0,9}", options())),
            option::of(options()),
            any::<bool>(),
        ),
        (vec(added(), 0..4), vec((any::<u8>(), file()), 0..4)),
        (option::of(file()), option::of(seqno()), option::of(seqno())),
        vec((seqno(), seqno()), 0..3),
        vec(
            (
                vec(any::<u8>(), 0..3),
                option::of(vec(any::<u8>(), 0..3)),
                seqno(),
            ),
            0..4,
        ),
    )
        .prop_map(|(what, tables, marks, hidden, deleted)| KeyspaceEdit {
            id: KeyspaceId(what.0),
            created: what.1,
            options: what.2,
            dropped: what.3,
            added: tables.0,
            removed: tables.1,
            log_floor: marks.0,
            flushed_through: marks.1,
            commit_pin: marks.2,
            hidden,
            deleted: Pieces::of(deleted.into_iter().filter_map(|(start, end, seqno)| {
                let end = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
                Some((HalfOpen::between(Bound::Included(&start), end)?, seqno))
            })),
        })
}

fn record() -> impl Strategy<Value = Record> {
    let identity = option::of((any::<u64>(), any::<u64>()));
    let ceilings = (
        option::of(any::<u64>()),
        option::of(any::<u32>()),
        option::of(any::<u64>()),
        option::of(seqno()),
        option::of(any::<u64>().prop_map(Time)),
    );
    let edit = (vec(keyspace(), 0..4), vec(file(), 0..3), vec(file(), 0..3));
    (identity, ceilings, edit).prop_map(|(identity, ceilings, edit)| Record {
        identity: identity.map(|(database, hash_seed)| Identity {
            database,
            hash_seed,
        }),
        ceilings: Ceilings {
            files: ceilings.0,
            keyspaces: ceilings.1,
            orders: ceilings.2,
            seqnos: ceilings.3,
            clock: ceilings.4,
        },
        edit: VersionEdit {
            keyspaces: edit.0,
            logs_added: edit.1,
            logs_removed: edit.2,
        },
    })
}

proptest! {
    /// Bug 48: no field is lost on the way.
    #[test]
    fn every_field_of_a_record_comes_back(record in record()) {
        prop_assert_eq!(Record::decode(&record.encode()).unwrap(), record);
    }

    #[test]
    fn any_bytes_decode_without_panic(bytes in vec(any::<u8>(), 0..64)) {
        if let Ok(again) = recode(&bytes) {
            prop_assert!(again.len() <= bytes.len());
        }
    }

    /// Hostile bytes that look like a record: one byte changed, or the end cut off.
    #[test]
    fn a_damaged_record_decodes_without_panic_and_never_grows(
        record in record(), at in any::<prop::sample::Index>(), byte: u8, cut: bool
    ) {
        let mut bytes = record.encode();
        if bytes.is_empty() {
            return Ok(());
        }
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        if let Ok(again) = recode(&bytes) {
            prop_assert!(again.len() <= bytes.len(), "{:?} -> {:?}", bytes, again);
        }
    }

    #[test]
    fn current_comes_back_and_every_flipped_bit_of_it_is_found(
        manifest: u64, database: u64, bit in 0..CURRENT_BYTES * 8
    ) {
        let current = Current { manifest: FileId(manifest), database };
        let mut bytes = current.encode();
        prop_assert_eq!(Current::decode(&bytes).unwrap(), current);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(Current::decode(&bytes).unwrap_err().kind(), ErrorKind::Corruption);
    }
}

#[test]
fn an_unknown_field_is_skipped_when_optional_and_refused_when_required() {
    let known = [7 << 1 | 1, 1, 42];
    let end = [0x7f, 0];
    let optional = [&known[..], &[20 << 1, 2, 1, 2], &[20 << 1, 0], &end].concat();
    assert_eq!(recode(&optional).unwrap(), [&known[..], &end].concat());
    let required = [&known[..], &[20 << 1 | 1, 0], &end].concat();
    let error = recode(&required).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("required field 20"), "{error}");
}

/// As in a record, so in what it says of a keyspace.
#[test]
fn an_unknown_field_of_a_keyspace_is_skipped_when_optional_and_refused_when_required() {
    let record = |more: &[u8]| {
        let keyspace = [&[1 << 1 | 1, 1, 5], more].concat();
        [
            &[9 << 1 | 1, keyspace.len() as u8],
            &keyspace[..],
            &[0x7f, 0],
        ]
        .concat()
    };
    let optional = record(&[40 << 1, 1, 9]);
    assert_eq!(recode(&optional).unwrap(), record(&[]));
    let error = recode(&record(&[40 << 1 | 1, 0])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("required field 40"), "{error}");
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let record = [1 << 1 | 1, 1, 2, 0x7f, 0];
    let error = recode(&record).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("format 2"), "{error}");

    let mut current = Current {
        manifest: FileId(1),
        database: 1,
    }
    .encode();
    current[8] = 2;
    let checksum = crc(&current[..28]);
    current[28..].copy_from_slice(&checksum.to_le_bytes());
    assert_eq!(
        Current::decode(&current).unwrap_err().kind(),
        ErrorKind::Unsupported
    );
}

/// So is one inside a manifest, with its place: it is not damage, and repair is not the advice.
#[test]
fn a_record_of_a_newer_format_is_refused_with_its_place() {
    let sim = SimFs::new(1);
    let fs = fs_on(&sim);
    fs.make_root().unwrap();
    let current = Current {
        manifest: FileId(1),
        database: 7,
    };
    let options = WriterOptions {
        database: current.database,
        segment: current.manifest,
        mode: LogMode::Write,
        capacity: u64::from(u32::MAX),
        recycled: false,
    };
    let file = fs.create_new(FileName::Manifest(current.manifest)).unwrap();
    let mut writer = Writer::create(file, options, None).unwrap();
    let record = [1 << 1 | 1, 1, 2, 0x7f, 0];
    let number = SeqNo::new(1);
    writer
        .append(number, number, &record, crc(&record))
        .unwrap();
    switch(&fs, current).map_err(Error::from).unwrap();
    let error = recover(&sim).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(error.offset(), Some(writer.end() - 32 - 5), "{error}");
    let text = error.to_string();
    assert!(text.contains("000001.manifest"), "{text}");
    assert!(
        text.contains("format 2") && !text.contains("repair"),
        "{text}"
    );
}

#[test]
fn fields_out_of_order_twice_or_with_bytes_behind_are_refused() {
    let cases: [&[u8]; 6] = [
        &[8 << 1 | 1, 1, 42, 7 << 1 | 1, 1, 42], // descending
        &[3 << 1 | 1, 1, 5, 3 << 1 | 1, 1, 5],   // a single field twice
        &[3 << 1 | 1, 2, 5, 5],                  // a byte behind the number
        &[1 << 1 | 1, 1, 1],                     // a format without an identity
        &[9 << 1 | 1, 0],                        // a keyspace without a number
        &[3 << 1 | 1, 9, 5],                     // longer than what is there
    ];
    assert!(recode(&[3 << 1 | 1, 1, 5]).is_err(), "without its end");
    for bytes in cases {
        let bytes = [bytes, &[0x7f, 0]].concat();
        assert_eq!(
            recode(&bytes).unwrap_err().kind(),
            ErrorKind::Corruption,
            "{bytes:?}"
        );
    }
}

#[test]
fn a_format_of_0_and_a_sequence_number_over_56_bits_are_refused() {
    let format = [1 << 1 | 1, 1, 0, 0x7f, 0];
    assert_eq!(recode(&format).unwrap_err().kind(), ErrorKind::Corruption);
    let mut ceiling = vec![6 << 1 | 1, 10];
    crate::base::coding::put_varint(&mut ceiling, u64::MAX);
    ceiling.extend_from_slice(&[0x7f, 0]);
    assert_eq!(recode(&ceiling).unwrap_err().kind(), ErrorKind::Corruption);
}

#[test]
fn a_current_of_something_else_is_refused_although_its_checksum_is_right() {
    let mut current = Current {
        manifest: FileId(1),
        database: 1,
    }
    .encode();
    current[0] ^= 1;
    let checksum = crc(&current[..28]);
    current[28..].copy_from_slice(&checksum.to_le_bytes());
    let error = Current::decode(&current).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corruption);
}

fn hex(bytes: &[u8]) -> String {
    let words: Vec<_> = bytes.iter().map(|b| format!("{b:02x}")).collect();
    words.join(" ")
}

/// The table of the samples.
fn table(deleted_through: SeqNo, expiring: Expiring) -> AddedTable {
    let file = FileId(5);
    AddedTable {
        level: 0,
        order: 2,
        fresh: false,
        meta: FileMeta {
            file,
            identity: BirthIdentity {
                database: 0x11,
                file,
                hash_seed: 0x22,
            },
            summary: TableSummary {
                bytes: 4096,
                entries: 10,
                tombstones: 1,
                raw_bytes: 3000,
                smallest: b"a".to_vec(),
                largest: b"m".to_vec(),
                seqnos: (SeqNo::new(1), SeqNo::new(10)),
                expiring,
            },
            deleted_through,
        },
    }
}

/// The worked samples of DESIGN.md.
#[test]
fn the_samples_of_the_format() {
    let record = Record {
        identity: Some(Identity {
            database: 0x11,
            hash_seed: 0x22,
        }),
        ceilings: Ceilings {
            files: Some(1030),
            keyspaces: Some(1),
            orders: Some(3),
            seqnos: Some(SeqNo::new(1 << 24)),
            clock: Some(Time(0x123)),
        },
        edit: VersionEdit {
            keyspaces: vec![KeyspaceEdit {
                id: KeyspaceId(0),
                created: Some(("default".into(), vec![0xaa])),
                added: vec![table(
                    SeqNo::new(3),
                    Expiring {
                        entries: 5,
                        half_at: Time(0x456),
                    },
                )],
                log_floor: Some(FileId(4)),
                flushed_through: Some(SeqNo::new(10)),
                deleted: Pieces::of(
                    HalfOpen::between(Bound::Included(b"c"), Bound::Excluded(b"e"))
                        .map(|range| (range, SeqNo::new(8))),
                ),
                ..KeyspaceEdit::default()
            }],
            logs_added: vec![FileId(4)],
            logs_removed: vec![],
        },
    };
    let bytes = record.encode();
    assert_eq!(
        hex(&bytes),
        "03 01 01 05 10 11 00 00 00 00 00 00 00 22 00 00 00 00 00 00 00 07 02 86 08 09 01 01 0b 01 \
         03 0d 04 80 80 80 08 0f 01 04 13 43 03 01 00 05 0a 07 64 65 66 61 75 6c 74 01 aa 0b 24 00 \
         02 05 11 00 00 00 00 00 00 00 05 22 00 00 00 00 00 00 00 80 20 0a 01 b8 17 01 61 01 6d 01 \
         0a 03 05 d6 08 0f 01 04 11 01 0a 17 06 01 63 01 01 65 08 15 02 a3 02 7f 00"
    );
    assert_eq!(recode(&bytes).unwrap(), bytes);
    // A deleted range has an end or none; a third case is no deletion.
    let mut third = bytes.clone();
    let piece = [0x17, 6, 1, b'c', 1];
    let at = third.windows(5).position(|part| part == piece).unwrap();
    third[at + 4] = 2;
    assert_eq!(recode(&third).unwrap_err().kind(), ErrorKind::Corruption);
    let current = Current {
        manifest: FileId(2),
        database: 0x11,
    }
    .encode();
    assert_eq!(
        hex(&current),
        "41 4c 4c 55 56 49 55 4d 01 00 00 00 02 00 00 00 00 00 00 00 11 00 00 00 00 00 00 00 b2 60 ca 8a"
    );
}

/// What a table does not have is not told, so that every record has one form.
#[test]
fn a_table_that_tells_of_nothing_is_malformed() {
    let record = Record {
        edit: VersionEdit {
            keyspaces: vec![KeyspaceEdit {
                added: vec![table(SeqNo::ZERO, Expiring::default())],
                ..KeyspaceEdit::default()
            }],
            ..VersionEdit::default()
        },
        ..Record::default()
    };
    let bytes = record.encode();
    assert_eq!((bytes[0], bytes[5]), (0x13, 0x0b), "keyspace, table added");
    let longer = |by: &[u8]| {
        let mut longer = bytes.clone();
        let end = longer.len() - 2;
        longer.splice(end..end, by.iter().copied());
        longer[1] += by.len() as u8;
        longer[6] += by.len() as u8;
        recode(&longer).map(|again| again == longer)
    };
    assert!(longer(&[7]).unwrap(), "deleted through 7");
    assert!(
        longer(&[0, 3, 9]).unwrap(),
        "three expire, half of them at 9"
    );
    for malformed in [&[0][..], &[0, 0, 9], &[7, 0, 9], &[7, 3], &[7, 3, 9, 1]] {
        let error = longer(malformed).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption, "{malformed:?}");
    }
}
