//! A manifest: its records as bytes, and whole files that a database is recovered from.
//!
//! Input: mode | the rest. Mode 0: records to repair (1 byte), then a manifest file. Other modes:
//! payloads of records, each behind its length (u16), put into a good frame.
#![no_main]

use alluvium::base::types::{FileId, KeyspaceId};
use alluvium::fs::Fs;
use alluvium::fs::sim::SimFs;
use alluvium::table::{BlockCache, TableContext};
use alluvium::version::{Found, VersionSet, recode};
use alluvium::{Error, ErrorKind, ReadMode, Verify};
use alluvium_fuzz::database::{ROOT, open_and_use, plant};
use alluvium_fuzz::{guard, input::Input, segment};
use libfuzzer_sys::fuzz_target;
use std::path::Path;
use std::sync::Arc;

/// Payloads that are framed at most.
const RECORDS_MAX: usize = 64;

fuzz_target!(|data: &[u8]| guard::run(data, target));

fn target(data: &[u8]) {
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
        let recoded = guard::within(payload.len(), || recode(payload));
        if let Ok(encoded) = recoded {
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
}

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
    let facts_of = |set: Option<VersionSet>| guard::aside(|| set.map(|set| facts(&set)));
    let read_only = guard::within(manifest.len(), || {
        VersionSet::find(&fs, &context).map(|found| facts_of(found.map(Found::read_only)))
    });
    let first = guard::within(manifest.len(), || {
        VersionSet::recover(&fs, &context).map(facts_of)
    });
    // Only a recovery takes numbers, of which a hostile ceiling leaves none.
    if !first.as_ref().is_err_and(is_without_numbers) {
        assert_eq!(read_only.as_ref().ok(), first.as_ref().ok());
    }
    if let Ok(first) = first {
        match VersionSet::recover(&fs, &context) {
            Ok(second) => assert_eq!(second.map(|set| facts(&set)), first),
            Err(error) => assert!(is_without_numbers(&error), "recovered once: {error}"),
        }
    }
    // The whole database: keyspaces with hostile options, tables and logs that are missing.
    let sim = SimFs::new(6);
    plant(&sim, manifest);
    open_and_use(&sim, manifest.len());
}

fn is_without_numbers(error: &Error) -> bool {
    error.kind() == ErrorKind::Unsupported && error.to_string().contains("no file number is left")
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
