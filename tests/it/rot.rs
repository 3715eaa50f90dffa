//! Bugs that the corruption matrix found, each by the shortest way to it.

use crate::support::{ROOT, version_set};
use alluvium::fs::sim::SimFs;
use alluvium::fs::{FileName, Fs};
use alluvium::{
    Db, Durability, ErrorKind, KeyspaceOptions, LogMode, Options, RepairReport, Result,
    WriteOptions,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

fn options() -> Options {
    let small = KeyspaceOptions::new()
        .write_buffer_bytes(64 << 10)
        .block_bytes(256);
    Options::new()
        .memory_bytes(1 << 20)
        .log_segment_bytes(4 << 10)
        .log_mode(LogMode::Write)
        .background_threads(0)
        .default_keyspace(small)
}

fn open(sim: &SimFs) -> Result<Db> {
    options().open_in(Fs::sim(sim, Path::new(ROOT)))
}

fn repaired(sim: &SimFs) -> RepairReport {
    options()
        .repair_in(Fs::sim(sim, Path::new(ROOT)))
        .expect("a disk without faults")
}

fn files(sim: &SimFs) -> BTreeMap<String, Vec<u8>> {
    let entries = Fs::sim(sim, Path::new(ROOT)).list().unwrap();
    let bytes = |name: &str| sim.bytes(Path::new(ROOT), name).unwrap();
    let named = |name: String| (name.clone(), bytes(&name));
    entries.into_iter().map(|e| named(e.name)).collect()
}

/// Where the records of a segment or manifest lie, as their headers say.
fn records(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut all = Vec::new();
    let mut at = 0;
    while bytes.get(at + 11) == Some(&0xA1) {
        let meta = u32::from_le_bytes(bytes[at + 8..at + 12].try_into().unwrap());
        let end = at + 32 + (meta & 0xf_ffff) as usize;
        all.push(at..end);
        at = end;
    }
    all
}

/// Changes the bytes of a file.
fn alter(sim: &SimFs, name: &str, change: impl FnOnce(&mut [u8])) {
    let mut bytes = sim.bytes(Path::new(ROOT), name).unwrap();
    change(&mut bytes);
    sim.plant(Path::new(ROOT), name, &bytes);
}

/// Overwrites the last bytes of a record: damage of many bits.
fn garble(sim: &SimFs, name: &str, record: impl FnOnce(usize) -> usize) {
    alter(sim, name, |bytes| {
        let all = records(bytes);
        let end = all[record(all.len())].end;
        bytes[end - 5..end].fill(0x5c);
    });
}

/// The newest table, and its name.
fn newest_table(sim: &SimFs) -> (String, Vec<u8>) {
    let mut files = files(sim).into_iter();
    files.rfind(|(name, _)| name.ends_with("tbl")).unwrap()
}

fn killed(sim: &SimFs, db: Db) -> SimFs {
    let after = sim.kill();
    drop(db);
    after
}

fn synced() -> WriteOptions {
    WriteOptions::new().durability(Durability::Synced)
}

/// A damaged log was noticed only after the manifest had been written anew.
#[test]
fn a_failed_open_changes_nothing() {
    let sim = SimFs::new(1);
    let db = open(&sim).unwrap();
    db.put_with("a", "1", synced()).unwrap();
    db.put_with("b", "2", synced()).unwrap();
    let sim = killed(&sim, db);
    garble(&sim, "000002.log", |_| 1);
    let before = files(&sim);
    assert_eq!(open(&sim).unwrap_err().kind(), ErrorKind::Corruption);
    assert_eq!(files(&sim), before, "damage");
    let other = options().default_keyspace(KeyspaceOptions::new().block_bytes(512));
    let refused = other.open_in(Fs::sim(&sim, Path::new(ROOT)));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(files(&sim), before, "an option");
}

/// The footer of a clean close was written before the sync, and vouched for nothing.
#[test]
fn a_clean_close_vouches_for_the_last_record() {
    let sim = SimFs::new(2);
    let db = open(&sim).unwrap();
    db.put("a", "1").unwrap();
    db.put("b", "2").unwrap();
    db.close().unwrap();
    let last = |count: usize| count - 2; // the footer is behind it
    garble(&sim, "000002.log", last);
    assert_eq!(open(&sim).unwrap_err().kind(), ErrorKind::Corruption);
}

/// A damaged last edit looked as a torn one: the tables that it had replaced were gone, and the one
/// that it added was removed as an orphan.
#[test]
fn a_lost_edit_whose_files_are_gone_is_damage_of_the_manifest() {
    let sim = SimFs::new(3);
    let db = open(&sim).unwrap();
    for round in ["one", "two"] {
        db.put("a", round).unwrap();
        db.flush().unwrap();
    }
    db.compact().unwrap();
    let sim = killed(&sim, db);
    let tables = |sim: &SimFs| files(sim).keys().filter(|n| n.ends_with("tbl")).count();
    assert_eq!(tables(&sim), 1);
    garble(&sim, "000001.manifest", |count| count - 1);
    let error = open(&sim).unwrap_err();
    assert_eq!(
        error.file().unwrap(),
        Path::new(ROOT).join("000001.manifest")
    );
    assert_eq!(tables(&sim), 1, "it is still there");
    let repaired = repaired(&sim);
    assert!(!repaired.has_lost_data(), "{repaired}");
    assert_eq!(open(&sim).unwrap().get("a").unwrap().unwrap(), b"two");
}

/// A segment whose registration was lost with the last edit was removed as an orphan, with synced
/// writes in it.
#[test]
fn a_log_whose_registration_is_lost_is_damage_of_the_manifest() {
    let sim = SimFs::new(4);
    let db = open(&sim).unwrap();
    for n in 0..60 {
        db.put_with(format!("k{n}"), vec![b'v'; 100], synced())
            .unwrap();
    }
    let sim = killed(&sim, db);
    assert!(1 < files(&sim).keys().filter(|n| n.ends_with("log")).count());
    garble(&sim, "000001.manifest", |count| count - 1);
    let error = open(&sim).unwrap_err();
    assert_eq!(
        error.file().unwrap(),
        Path::new(ROOT).join("000001.manifest")
    );
    let repaired = repaired(&sim);
    assert!(!repaired.has_lost_data(), "{repaired}");
    assert_eq!(open(&sim).unwrap().iter().count(), 60);
}

/// The error named the segment behind the damaged one.
#[test]
fn a_break_before_a_synced_segment_names_the_segment_that_is_damaged() {
    let sim = SimFs::new(5);
    let db = open(&sim).unwrap();
    let mut n = 0;
    while files(&sim).keys().filter(|n| n.ends_with("log")).count() < 2 {
        db.put(format!("k{n:04}"), vec![b'v'; 100]).unwrap();
        n += 1;
    }
    db.put_with("synced", "1", synced()).unwrap();
    db.put("vouches", "2").unwrap();
    let sim = killed(&sim, db);
    garble(&sim, "000002.log", |count| count - 2);
    let error = open(&sim).unwrap_err();
    assert_eq!(error.file().unwrap(), Path::new(ROOT).join("000002.log"));
    let all = records(&sim.bytes(Path::new(ROOT), "000002.log").unwrap());
    assert_eq!(error.offset().unwrap() as usize, all[all.len() - 2].start);
}

/// A sector of zeros in front of valid records was taken for the end, without a word in the report.
#[test]
fn records_behind_a_hole_are_reported_as_torn() {
    let sim = SimFs::new(6);
    let db = open(&sim).unwrap();
    for n in 0..8 {
        db.put(format!("k{n}"), "value").unwrap();
    }
    let sim = killed(&sim, db);
    let mut bytes = sim.bytes(Path::new(ROOT), "000002.log").unwrap();
    let hole = records(&bytes)[3].clone();
    bytes[hole.clone()].fill(0);
    sim.plant(Path::new(ROOT), "000002.log", &bytes);
    let db = open(&sim).unwrap();
    assert_eq!(db.iter().count(), 2, "a prefix");
    let torn = (Path::new(ROOT).join("000002.log"), hole.start as u64);
    assert_eq!(db.open_report().torn, Some(torn));
}

/// A log under another log's name was taken for an earlier life, and the writes in it for none.
#[test]
fn swapped_logs_are_noticed() {
    let sim = SimFs::new(7);
    let db = open(&sim).unwrap();
    db.put_with("a", "1", synced()).unwrap();
    let sim = killed(&sim, db);
    let log = sim.bytes(Path::new(ROOT), "000002.log").unwrap();
    sim.plant(Path::new(ROOT), "000001.log", &log);
    let fs = Fs::sim(&sim, Path::new(ROOT));
    fs.remove(FileName::parse("000002.log").unwrap()).unwrap();
    sim.plant(Path::new(ROOT), "000002.log", &[0; 4096]);
    let error = open(&sim).unwrap_err();
    assert_eq!(error.file().unwrap(), Path::new(ROOT).join("000001.log"));
    let repaired = repaired(&sim);
    assert!(!repaired.has_lost_data(), "{repaired}");
    assert_eq!(open(&sim).unwrap().get("a").unwrap().unwrap(), b"1");
}

/// A segment that an open had begun and nothing was written to is not synced by the next one; its
/// header, lost in a power cut, made the synced writes behind it unreadable.
#[test]
fn an_empty_segment_whose_header_is_lost_is_missed_by_nobody() {
    let sim = SimFs::new(8);
    let db = open(&sim).unwrap();
    let sim = killed(&sim, db);
    let db = open(&sim).unwrap();
    db.put_with("a", "1", synced()).unwrap();
    db.put("b", "2").unwrap();
    let sim = killed(&sim, db);
    assert_eq!(files(&sim).keys().filter(|n| n.ends_with("log")).count(), 2);
    alter(&sim, "000002.log", |bytes| bytes.fill(0));
    let db = open(&sim).unwrap();
    assert_eq!(db.iter().count(), 2);
}

/// The same for a footer: the next open keeps the segment, and does not sync it.
#[test]
fn a_footer_that_is_lost_is_missed_by_nobody() {
    let sim = SimFs::new(9);
    let db = open(&sim).unwrap();
    db.put_with("a", "1", synced()).unwrap();
    db.close().unwrap();
    let db = open(&sim).unwrap();
    db.put_with("b", "2", synced()).unwrap();
    db.put("c", "3").unwrap();
    let sim = killed(&sim, db);
    alter(&sim, "000002.log", |bytes| {
        let footer = records(bytes).pop().unwrap();
        bytes[footer].fill(0);
    });
    let db = open(&sim).unwrap();
    assert_eq!(db.iter().count(), 3);
}

/// A manifest that ends between two records reads as an older one. Repair believed it, and swept
/// the tables that only the lost edits named.
#[test]
fn repair_does_not_believe_a_manifest_that_ends_early() {
    let sim = SimFs::new(10);
    let db = open(&sim).unwrap();
    for n in 0..60 {
        db.put_with(format!("k{n:02}"), vec![b'v'; 100], synced())
            .unwrap();
        if n % 25 == 24 {
            db.flush().unwrap();
        }
    }
    let sim = killed(&sim, db);
    let manifest = sim.bytes(Path::new(ROOT), "000001.manifest").unwrap();
    let mut refused = 0;
    for record in records(&manifest) {
        let sim = sim.kill();
        sim.plant(
            Path::new(ROOT),
            "000001.manifest",
            &manifest[..record.start],
        );
        refused += u32::from(open(&sim.kill()).is_err());
        let repaired = repaired(&sim);
        let what = format!("ends at {}: {repaired}", record.start);
        assert!(!repaired.has_lost_data(), "{what}");
        assert_eq!(open(&sim).unwrap().iter().count(), 60, "{what}");
    }
    assert!(
        4 < refused,
        "{refused} are noticed when the database is opened"
    );
}

/// What a crash left of a flush does not say how much of the log is in tables.
#[test]
fn repair_without_a_whole_manifest_reads_the_log_behind_an_unfinished_table() {
    let sim = SimFs::new(11);
    let db = open(&sim).unwrap();
    // Downwards: what comes first in the table came last into the log.
    for n in (0..40).rev() {
        if n == 30 {
            db.flush().unwrap();
        }
        db.put(format!("k{n:02}"), vec![b'v'; 60]).unwrap();
    }
    let before = sim.kill();
    db.flush().unwrap();
    let (name, table) = newest_table(&sim);
    for len in (100..table.len()).step_by(100) {
        let sim = before.kill();
        sim.plant(Path::new(ROOT), &name, &table[..len]);
        garble(&sim, "000001.manifest", |count| count - 2);
        let repaired = repaired(&sim);
        assert!(repaired.manifest_rebuilt, "{repaired}");
        let db = open(&sim).unwrap();
        let found: BTreeSet<_> = db
            .keyspaces()
            .iter()
            .flat_map(|name| {
                let keyspace = db.keyspace(name, KeyspaceOptions::new()).unwrap();
                let keys = keyspace.iter().map(|entry| entry.unwrap().0.to_vec());
                keys.collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(found.len(), 40, "{len} bytes: {repaired}");
        assert_eq!(db.iter().count(), 40, "{len} bytes: {repaired}");
    }
}

/// Zeros over the last block and the index were taken for padding, and the loss was reported at
/// the file's end.
#[test]
fn repair_reports_a_last_block_of_zeros_where_it_was() {
    let sim = SimFs::new(12);
    let db = open(&sim).unwrap();
    for n in 0..40 {
        db.put(format!("k{n:02}"), vec![b'v'; 60]).unwrap();
    }
    db.flush().unwrap();
    db.close().unwrap();
    let sim = sim.kill();
    let (name, mut table) = newest_table(&sim);
    let lost_block = |table: &[u8]| {
        let sim = sim.kill();
        sim.plant(Path::new(ROOT), &name, table);
        let repaired = repaired(&sim);
        assert!(repaired.has_lost_data(), "{repaired}");
        let block = repaired.losses.iter().find(|loss| loss.what == "block");
        let block = block.unwrap_or_else(|| panic!("{repaired}"));
        block.offset as usize..(block.offset + block.bytes) as usize
    };
    let last = table.windows(3).rposition(|key| key == b"vvv").unwrap();
    table[last] = b'w';
    let block = lost_block(&table);
    let before_footer = table.len() - 256;
    assert!(block.end < before_footer, "the index is between them");
    table[block.start..before_footer].fill(0);
    assert_eq!(lost_block(&table).start, block.start);
}

/// Without a manifest the names in the directory were all that it went by, and a table that had
/// been removed had left none.
#[test]
fn repair_without_a_manifest_gives_no_number_again() {
    let sim = SimFs::new(13);
    let db = open(&sim).unwrap();
    let gone = db.keyspace("gone", KeyspaceOptions::new()).unwrap();
    gone.put("k", "in a table that goes").unwrap();
    db.flush().unwrap();
    let (newest, _) = newest_table(&sim);
    drop(gone);
    db.drop_keyspace("gone").unwrap();
    db.put("k", "in the log").unwrap();
    db.close().unwrap();
    let old = files(&sim);
    assert!(!old.contains_key(&newest), "{newest} is removed");
    alter(&sim, "000001.manifest", |bytes| bytes.fill(0xa5));
    let repaired = repaired(&sim);
    assert!(repaired.manifest_rebuilt, "{repaired}");
    let number = |name: &String| FileName::parse(name).and_then(FileName::id);
    let before = number(&newest);
    for name in files(&sim).keys().filter(|name| !old.contains_key(*name)) {
        let is_above = number(name).is_none_or(|id| before < Some(id));
        assert!(is_above, "{name} is new, and {newest} was before");
    }
}

/// Where the oldest segment begins was not known when its header was hit, and everything that had
/// ever been written before it was reported lost.
#[test]
fn repair_does_not_report_as_lost_what_was_in_older_segments() {
    let sim = SimFs::new(14);
    let db = open(&sim).unwrap();
    for n in 0..120 {
        if n == 100 {
            db.flush().unwrap();
        }
        db.put(format!("k{n:03}"), vec![b'v'; 60]).unwrap();
        if 110 < n {
            db.sync().unwrap();
        }
    }
    let sim = killed(&sim, db);
    let oldest = version_set(&sim.kill()).logs()[0];
    let oldest = FileName::Log(oldest).to_string();
    let whole = sim.bytes(Path::new(ROOT), &oldest).unwrap();
    let first = u64::from_le_bytes(
        whole[records(&whole)[1].start + 24..][..8]
            .try_into()
            .unwrap(),
    );
    assert!(1 < first, "{oldest} begins with write {first}");
    alter(&sim, &oldest, |bytes| bytes[..32].fill(0x5c));
    assert!(open(&sim).is_err());
    let repaired = repaired(&sim);
    assert!(!repaired.has_lost_data(), "{repaired}");
    assert_eq!(open(&sim).unwrap().iter().count(), 120, "{repaired}");
}
