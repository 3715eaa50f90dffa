//! The samples of DESIGN.md: each is decoded by the engine and built again, byte for byte.
//!
//! A sample is a fenced block right behind a line `<!-- sample: NAME -->`: hex, with white space
//! between the digits ignored, and a line `zeros N` for N zero bytes.
#![expect(clippy::unwrap_used, reason = "here it is an assertion")]

use alluvium::base::batch::InKeyspace;
use alluvium::base::checksum::{KeyHasher, crc};
use alluvium::base::cursor::Cursor;
use alluvium::base::expiring::expiry_and_value;
use alluvium::base::operand::span_and_operand;
use alluvium::base::operation::Operations;
use alluvium::base::payload::{Payload, note_of_load};
use alluvium::base::types::{FileId, KeyspaceId, Tag, Time, ValueKind};
use alluvium::fs::{FileName, Fs};
use alluvium::table::{BirthIdentity, BlockCache, Builder, BuilderOptions, Table, TableContext};
use alluvium::version::{recode, recode_current};
use alluvium::wal::format::{RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES, SegmentHeader};
use alluvium::wal::{Reader, Tail, Writer, WriterOptions};
use alluvium::{Compression, LogMode, ReadMode, SeqNo, Verify, WriteBatch, recode_point};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const DESIGN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/DESIGN.md");
const NAMES: [&str; 7] = [
    "backup-point",
    "batch",
    "current",
    "load-note",
    "log-segment",
    "manifest",
    "table",
];

fn bytes_of(name: &str, block: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in block.lines() {
        if let Some(count) = line.strip_prefix("zeros ") {
            let count: usize = count.trim().parse().expect("zeros and a number");
            bytes.resize(bytes.len() + count, 0);
            continue;
        }
        let digits: Vec<u8> = line
            .chars()
            .filter(|c| !c.is_whitespace())
            .map(|c| c.to_digit(16).unwrap_or_else(|| panic!("{name}: {line}")) as u8)
            .collect();
        assert_eq!(digits.len() % 2, 0, "{name}: half a byte in {line}");
        bytes.extend(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]));
    }
    bytes
}

/// The samples of a text, by name.
fn samples(text: &str) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for part in text.split("<!-- sample: ").skip(1) {
        let (name, rest) = part.split_once(" -->\n").expect("the marker is a line");
        let (_, block) = rest.split_once('\n').expect("a fence follows");
        assert!(rest.starts_with("```"), "{name}: a fence follows at once");
        let (block, _) = block.split_once("\n```").expect("the fence ends");
        let again = found.insert(name.to_owned(), bytes_of(name, block));
        assert_eq!(again, None, "{name} stands there twice");
    }
    found
}

fn sample(name: &str) -> Vec<u8> {
    let text = std::fs::read_to_string(DESIGN).unwrap();
    samples(&text).remove(name).expect("a sample of that name")
}

/// A directory of its own, removed at the end.
struct Place(Fs, FileName);

impl Place {
    fn new(name: FileName) -> Place {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = format!("alluvium-formats-{}-{n}", std::process::id());
        let fs = Fs::os(&std::env::temp_dir().join(dir));
        fs.make_root().unwrap();
        Place(fs, name)
    }

    fn bytes(&self) -> Vec<u8> {
        let file = self.0.open_read(self.1).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    fn put(&self, bytes: &[u8]) {
        let file = self.0.create_new(self.1).unwrap();
        file.write_all_at(bytes, 0).unwrap();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.0.remove(self.1);
        let _ = self.0.remove_root();
    }
}

#[test]
fn the_design_has_a_sample_of_each_format_and_no_other() {
    let text = std::fs::read_to_string(DESIGN).unwrap();
    let found: Vec<String> = samples(&text).into_keys().collect();
    assert_eq!(found, NAMES);
}

#[test]
fn the_reader_of_samples_knows_hex_zeros_and_white_space() {
    let text = "x\n<!-- sample: a -->\n```text\n00 fF\nzeros 3\n1 2\n```\n";
    assert_eq!(samples(text)["a"], [0, 255, 0, 0, 0, 0x12]);
}

#[test]
fn the_sample_of_the_note_of_a_load() {
    let bytes = sample("load-note");
    let Payload::Load(keyspaces) = Payload::decode(&bytes).unwrap() else {
        panic!("it is a batch");
    };
    assert_eq!(keyspaces, [KeyspaceId(0), KeyspaceId(300)]);
    assert_eq!(note_of_load(keyspaces), &bytes[..]);
}

#[test]
fn the_sample_of_a_batch() {
    struct Place(KeyspaceId, Option<Time>);
    impl InKeyspace for Place {
        fn target(&self) -> (KeyspaceId, u64) {
            (self.0, 1)
        }

        fn expiry(&self, _: Option<Duration>) -> Option<Time> {
            self.1
        }
    }
    let bytes = sample("batch");
    let mut batch = WriteBatch::new();
    let mut count = 0;
    for operation in Operations::decode(&bytes).unwrap() {
        let operation = operation.unwrap();
        let place = Place(operation.keyspace, None);
        match operation.kind {
            ValueKind::Put => batch.put(&place, operation.key, operation.value),
            ValueKind::Delete => batch.delete(&place, operation.key),
            ValueKind::Merge => {
                let (span, operand) = span_and_operand(operation.value).unwrap();
                assert_eq!(span, 0, "it stands for itself");
                batch.merge(&place, operation.key, operand);
            }
            ValueKind::DeleteRange => {
                let range = operation.range();
                batch.delete_range(&place, range.start..range.end.unwrap());
            }
            ValueKind::PutExpiring => {
                let (expiry, value) = expiry_and_value(operation.value).unwrap();
                assert_eq!(expiry, Time(77));
                let place = Place(operation.keyspace, Some(expiry));
                batch.put_with_ttl(&place, operation.key, value, Duration::MAX);
            }
            kind => panic!("{kind:?} cannot be written yet"),
        }
        count += 1;
    }
    assert_eq!(count, 5);
    assert_eq!(batch.encoded(), bytes);
}

#[test]
fn the_sample_of_a_log_segment() {
    let bytes = sample("log-segment");
    let header = SegmentHeader::decode(&bytes[RECORD_HEADER_BYTES..SEGMENT_HEADER_BYTES]).unwrap();
    let name = FileName::Log(header.segment);
    let old = Place::new(name);
    old.put(&bytes);
    let file = old.0.open_read(name).unwrap();
    let mut reader = Reader::open(&file, header.database, header.segment, None).unwrap();
    let new = Place::new(name);
    let options = WriterOptions {
        database: header.database,
        segment: header.segment,
        mode: LogMode::Write,
        capacity: u64::from(u32::MAX),
        recycled: false,
    };
    let file = new.0.create_new(name).unwrap();
    let mut writer = Writer::create(file, options, reader.predecessor()).unwrap();
    let mut records = 0;
    while let Some(record) = reader.next().unwrap() {
        let payload = &record.payload;
        writer
            .append(record.first, record.first, payload, crc(payload))
            .unwrap();
        records += 1;
    }
    assert_eq!(records, 1);
    assert_eq!(reader.tail(), Tail::Sealed(writer.seal().unwrap()));
    assert_eq!(new.bytes(), bytes);
}

#[test]
fn the_sample_of_current() {
    let bytes: [u8; 32] = sample("current").try_into().expect("32 bytes");
    assert_eq!(recode_current(&bytes).unwrap(), bytes);
}

#[test]
fn the_sample_of_a_manifest_record() {
    let bytes = sample("manifest");
    assert_eq!(recode(&bytes).unwrap(), bytes);
}

#[test]
fn the_sample_of_a_point_in_time() {
    let bytes = sample("backup-point");
    assert_eq!(recode_point(&bytes).unwrap(), bytes);
}

#[test]
fn the_sample_of_a_table() {
    let bytes = sample("table");
    let identity = BirthIdentity {
        database: 0xa11,
        file: FileId(7),
        hash_seed: 99,
    };
    let options = BuilderOptions {
        identity,
        block_bytes: 256,
        filter_bits_per_key: 10,
        compression: Compression::None,
    };
    let tag = |seqno, kind| Tag::new(SeqNo::new(seqno), kind);
    let rows: [(&[u8], Tag, &[u8]); 3] = [
        (b"apple", tag(3, ValueKind::Put), b"red"),
        (b"apple", tag(1, ValueKind::Put), b"green"),
        (b"apricot", tag(2, ValueKind::Delete), b""),
    ];
    let name = FileName::Table(identity.file);
    let new = Place::new(name);
    let mut builder = Builder::new(new.0.create_new(name).unwrap(), options);
    for (key, tag, value) in rows {
        builder.add(key, tag, value).unwrap();
    }
    let summary = builder.finish().unwrap();
    assert_eq!(summary.bytes, bytes.len() as u64);
    assert_eq!(new.bytes(), bytes);

    let old = Place::new(name);
    old.put(&bytes);
    let context = Arc::new(TableContext {
        read_mode: ReadMode::Mmap,
        verify: Verify::FirstTouch,
        cache: BlockCache::new(1 << 20),
    });
    let file = old.0.open_read(name).unwrap();
    let table = Table::open(file, identity, bytes.len() as u64, false, &context).unwrap();
    let table = Arc::new(table);
    table.verify().unwrap();
    let mut cursor = table.cursor();
    cursor.first().unwrap();
    for row in rows {
        assert_eq!((cursor.key(), cursor.tag(), cursor.value()), row);
        cursor.next().unwrap();
    }
    assert!(!cursor.valid());
    let hash = KeyHasher::new(identity.hash_seed).hash(b"apple");
    let found = table.get(b"apple", hash, SeqNo::new(2)).unwrap().unwrap();
    assert_eq!((found.tag, found.bytes()), (rows[1].1, &b"green"[..]));
}
