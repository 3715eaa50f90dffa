//! A manifest: its records as bytes, and whole files that a database is recovered from.
//!
//! Input: mode | the rest. Mode 0: records to repair (1 byte), then a manifest file. Other modes:
//! payloads of records, each behind its length (u16), put into a good frame.
#![no_main]

use alluvium::base::checksum::crc;
use alluvium::base::types::{FileId, KeyspaceId};
use alluvium::fs::sim::SimFs;
use alluvium::fs::{FileName, Fs};
use alluvium::table::{BlockCache, TableContext};
use alluvium::version::{VersionSet, recode};
use alluvium::{Options, ReadMode, Verify};
use alluvium_fuzz::{input::Input, segment};
use libfuzzer_sys::fuzz_target;
use std::path::Path;
use std::sync::Arc;

const ROOT: &str = "/db";
/// Payloads that are framed at most.
const RECORDS_MAX: usize = 64;

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    if input.byte() == 0 {
        let repaired = input.below(256);
        let mut file = input.0.to_vec();
        let (_, number) = segment::identity(&file);
        segment::repair(&mut file, number, repaired);
        recover(&file);
        return;
    }
    let mut payloads = Vec::new();
    while !input.is_empty() && payloads.len() < RECORDS_MAX {
        payloads.push(input.part());
    }
    for payload in &payloads {
        if let Ok(encoded) = recode(payload) {
            let again = recode(&encoded).expect("what was encoded decodes");
            assert_eq!(again, encoded);
            assert!(encoded.len() <= payload.len(), "only unknown fields go");
        }
    }
    // The identity stands in the first record: field 2, 16 bytes of which 8 are the database's.
    let database = payloads.first().and_then(|snapshot| {
        let at = snapshot.windows(2).position(|tag| tag == [5, 16])?;
        Some(u64::from_le_bytes(*snapshot.get(at + 2..)?.first_chunk()?))
    });
    let database = database.unwrap_or(1);
    recover(&segment::framed(database, FileId(2), payloads.into_iter()));
});

/// Recovers from the manifest twice: what the first recovery accepts, it must not spoil.
fn recover(manifest: &[u8]) {
    let sim = SimFs::new(5);
    plant(&sim, manifest);
    let fs = Fs::sim(&sim, Path::new(ROOT));
    let context = Arc::new(TableContext {
        read_mode: ReadMode::Mmap,
        verify: Verify::FirstTouch,
        cache: BlockCache::new(0),
    });
    let read_only = VersionSet::read_only(&fs, &context).map(|set| set.map(|set| facts(&set)));
    let first = VersionSet::recover(&fs, &context).map(|set| set.map(|set| facts(&set)));
    assert_eq!(read_only.as_ref().ok(), first.as_ref().ok());
    if let Ok(first) = first {
        let second = VersionSet::recover(&fs, &context).expect("what was recovered once");
        assert_eq!(second.map(|set| facts(&set)), first);
    }
    open(manifest);
}

/// The whole database: keyspaces with hostile options, tables and logs that are missing.
fn open(manifest: &[u8]) {
    let sim = SimFs::new(6);
    plant(&sim, manifest);
    let options = Options::new()
        .memory_bytes(1 << 20)
        .log_segment_bytes(16 << 10)
        .background_threads(0);
    if let Ok(db) = options.open_in(Fs::sim(&sim, Path::new(ROOT))) {
        let _ = db.put("key", "value");
        let _ = db.flush();
        let _ = db.close();
    }
}

fn plant(sim: &SimFs, manifest: &[u8]) {
    let (database, number) = segment::identity(manifest);
    let name = FileName::Manifest(number);
    sim.plant(Path::new(ROOT), &name.to_string(), manifest);
    let mut current = b"ALLUVIUM".to_vec();
    current.extend_from_slice(&1u32.to_le_bytes());
    current.extend_from_slice(&number.0.to_le_bytes());
    current.extend_from_slice(&database.to_le_bytes());
    let checksum = crc(&current);
    current.extend_from_slice(&checksum.to_le_bytes());
    sim.plant(Path::new(ROOT), "CURRENT", &current);
}

type Facts = (u64, u64, Vec<(KeyspaceId, String)>, Vec<FileId>);

fn facts(set: &VersionSet) -> Facts {
    let keyspaces = set.keyspaces().into_iter();
    let keyspaces = keyspaces.map(|keyspace| (keyspace.id, format!("{keyspace:?}")));
    (
        set.database(),
        set.hash_seed(),
        keyspaces.collect(),
        set.logs(),
    )
}
