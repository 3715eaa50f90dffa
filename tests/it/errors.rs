//! Errors as users meet them: the whole message, so that it can be reviewed here.
//!
//! Each says what happened, where (file and offset), what was expected and found, and what to do
//! now. `Conflict` and `Stalled` are not given by this version: it has no conditional writes, and
//! writers wait instead of failing.

mod use_and_disk;

use crate::support::{ROOT, TempDir};
use alluvium::fs::sim::SimFs;
use alluvium::fs::{FileName, Fs};
use alluvium::{
    Db, Durability, Error, ErrorKind, KeyspaceOptions, LogMode, Options, Result, WriteOptions,
};
use std::path::Path;

/// What most advice about damage says: `{repair}` in the messages below.
const REPAIR: &str = "Put the right file back from a copy, or run `Db::repair` (`alluvium \
                      repair`): it keeps what can be read and says what is lost.";
/// The same for damage in a table: `{repair table}`.
const REPAIR_TABLE: &str = "Keys in other blocks can be read. Put the file back from a copy, or \
                            close the database and run `Db::repair` (`alluvium repair`): it \
                            keeps what can be read and says what is lost.";

/// Compares a message with what it should say.
#[track_caller]
fn says<T>(result: Result<T>, kind: ErrorKind, message: &str) {
    let error = result.err().expect("an error");
    reads(&error, &error.to_string(), kind, message);
}

/// As [`says`], with the path of a real directory replaced by `/db`.
#[track_caller]
fn says_in(dir: &TempDir, error: Error, kind: ErrorKind, message: &str) {
    let path = dir.path().display().to_string();
    reads(
        &error,
        &error.to_string().replace(&path, ROOT),
        kind,
        message,
    );
}

#[track_caller]
fn reads(error: &Error, text: &str, kind: ErrorKind, message: &str) {
    let message = message.replace("{repair}", REPAIR);
    let message = message.replace("{repair table}", REPAIR_TABLE);
    assert_eq!(text, message);
    assert_eq!(error.kind(), kind, "{error}");
}

fn small() -> KeyspaceOptions {
    KeyspaceOptions::new()
        .write_buffer_bytes(64 << 10)
        .block_bytes(256)
}

fn options() -> Options {
    Options::new()
        .memory_bytes(1 << 20)
        .log_segment_bytes(64 << 10)
        .log_mode(LogMode::Write)
        .background_threads(0)
        .default_keyspace(small())
}

fn open(sim: &SimFs) -> Result<Db> {
    options().open_in(Fs::sim(sim, Path::new(ROOT)))
}

/// A database with one table (000003.tbl) and ten synced records in the log, killed.
fn store() -> SimFs {
    let sim = SimFs::new(9);
    let db = open(&sim).unwrap();
    for n in 0..20 {
        db.put(format!("key{n:02}"), "in a table").unwrap();
    }
    db.flush().unwrap();
    for n in 20..30 {
        let synced = WriteOptions::new().durability(Durability::Synced);
        db.put_with(format!("key{n:02}"), "in the log", synced)
            .unwrap();
    }
    let after = sim.kill();
    drop(db);
    after
}

fn bytes(sim: &SimFs, name: &str) -> Vec<u8> {
    sim.bytes(Path::new(ROOT), name).expect("the file is there")
}

enum Part {
    Filter,
    Index,
    Properties,
    Sections,
}

/// Where a part of the table begins, as its footer and section table say.
fn table_part(part: Part) -> usize {
    let table = bytes(&store(), "000003.tbl");
    let number = |at: usize| u64::from_le_bytes(table[at..at + 8].try_into().unwrap()) as usize;
    let rows = number(table.len() - 72);
    match part {
        Part::Filter => number(rows + 4),
        Part::Index => number(rows + 28 + 4),
        Part::Properties => number(rows + 56 + 4),
        Part::Sections => rows,
    }
}

/// The store with one file changed.
fn with(name: &str, change: impl FnOnce(&mut Vec<u8>)) -> SimFs {
    let sim = store();
    let mut changed = bytes(&sim, name);
    change(&mut changed);
    sim.plant(Path::new(ROOT), name, &changed);
    sim
}

/// The store with one bit flipped.
fn flipped(name: &str, byte: usize) -> SimFs {
    with(name, |bytes| bytes[byte] ^= 1)
}

fn without(name: FileName) -> SimFs {
    let sim = store();
    Fs::sim(&sim, Path::new(ROOT)).remove(name).unwrap();
    sim
}

fn table() -> FileName {
    FileName::parse("000003.tbl").unwrap()
}

fn first_problem(db: &Db) -> Result<()> {
    match db.verify().unwrap().problems.into_iter().next() {
        Some(problem) => Err(problem),
        None => Ok(()),
    }
}

/// CRC-32, masked, as DESIGN.md says.
fn crc(bytes: &[u8]) -> [u8; 4] {
    let crc = crc32fast::hash(bytes).rotate_right(15);
    crc.wrapping_add(0xa282_ead8).to_le_bytes()
}

/// Writes a table's footer anew after `change`, with a checksum that matches.
fn with_footer(change: impl FnOnce(&mut [u8])) -> SimFs {
    with("000003.tbl", |bytes| {
        let at = bytes.len() - 72;
        change(&mut bytes[at..]);
        let checksum = crc(&bytes[at..at + 60]);
        bytes[at + 60..at + 64].copy_from_slice(&checksum);
    })
}

/// Writes the header of a segment's first record anew after `change` of its payload.
fn with_segment_header(name: &str, change: impl FnOnce(&mut [u8])) -> SimFs {
    with(name, |bytes| {
        change(&mut bytes[32..77]);
        let payload = crc(&bytes[32..77]);
        bytes[4..8].copy_from_slice(&payload);
        let header = crc(&bytes[4..32]);
        bytes[..4].copy_from_slice(&header);
    })
}

#[test]
fn a_damaged_block_of_a_table() {
    let db = open(&flipped("000003.tbl", 20)).unwrap();
    says(
        db.get("key00"),
        ErrorKind::Corruption,
        "corrupt block in /db/000003.tbl at offset 0: checksum 677fb4b0, expected checksum 3fc9e298.\n\
         {repair table}",
    );
    assert_eq!(db.get("key29").unwrap().unwrap(), b"in the log");
}

#[test]
fn a_damaged_index_of_a_table() {
    let sim = flipped("000003.tbl", table_part(Part::Index));
    let db = open(&sim).unwrap();
    says(
        db.get("key00"),
        ErrorKind::Corruption,
        "corrupt index in /db/000003.tbl at offset 640: checksum 8e4dc149, expected checksum 4de2a359.\n\
         {repair table}",
    );
}

#[test]
fn a_damaged_filter_costs_time_only_and_verify_names_it() {
    let db = open(&flipped("000003.tbl", table_part(Part::Filter))).unwrap();
    assert_eq!(db.get("key00").unwrap().unwrap(), b"in a table");
    says(
        first_problem(&db),
        ErrorKind::Corruption,
        "corrupt filter in /db/000003.tbl at offset 512: checksum b13e72dc, expected checksum 4c15beea.\n\
         {repair table}",
    );
}

#[test]
fn damaged_properties_hinder_nobody_and_verify_names_them() {
    let db = open(&flipped("000003.tbl", table_part(Part::Properties))).unwrap();
    assert_eq!(db.get("key00").unwrap().unwrap(), b"in a table");
    says(
        first_problem(&db),
        ErrorKind::Corruption,
        "corrupt properties in /db/000003.tbl at offset 768: checksum 2bd59ef9, expected checksum 79f89569.\n\
         {repair table}",
    );
}

#[test]
fn a_damaged_section_table() {
    let db = open(&flipped("000003.tbl", table_part(Part::Sections))).unwrap();
    says(
        db.get("key00"),
        ErrorKind::Corruption,
        "corrupt section table in /db/000003.tbl at offset 817: checksum 60c53afc, expected checksum a25fcefb.\n\
         {repair table}",
    );
}

#[test]
fn a_damaged_footer() {
    let footer = bytes(&store(), "000003.tbl").len() - 72;
    let db = open(&flipped("000003.tbl", footer)).unwrap();
    says(
        db.get("key00"),
        ErrorKind::Corruption,
        "corrupt footer in /db/000003.tbl at offset 901: checksum e41f1411, expected checksum ff06a776.\n\
         {repair table}",
    );
    let db = open(&flipped("000003.tbl", footer + 70)).unwrap();
    says(
        db.get("key00"),
        ErrorKind::Corruption,
        "file that does not end as a table does in /db/000003.tbl at offset 901: \"alluvtcl\", expected \"alluvtbl\".\n\
         {repair table}",
    );
}

#[test]
fn a_table_that_is_missing() {
    let db = open(&without(table())).unwrap();
    says(
        db.get("key00"),
        ErrorKind::Corruption,
        "table that is missing in /db/000003.tbl: none, expected the file, because the manifest lists it.\n\
         {repair table}",
    );
}

#[test]
fn a_table_that_is_too_short() {
    let db = open(&with("000003.tbl", |bytes| bytes.truncate(700))).unwrap();
    says(
        db.get("key00"),
        ErrorKind::Corruption,
        "table of the wrong size in /db/000003.tbl at offset 700: 700 bytes, expected 973 bytes.\n\
         {repair table}",
    );
}

#[test]
fn a_table_of_another_birth() {
    let db = open(&with_footer(|footer| footer[24] = 77)).unwrap();
    says(
        db.get("key00"),
        ErrorKind::Corruption,
        "table of another birth in /db/000003.tbl at offset 901: database aeaf52febe706064, file 000077, seed c02d8a5e87afea62, 973 bytes, expected database aeaf52febe706064, file 000003, seed c02d8a5e87afea62, 973 bytes.\n\
         {repair table}",
    );
}

#[test]
fn a_table_of_a_newer_format() {
    let db = open(&with_footer(|footer| footer[56] = 2)).unwrap();
    says(
        db.get("key00"),
        ErrorKind::Unsupported,
        "the table's format is newer than this build in /db/000003.tbl at offset 901: version 2 with features 0, expected version 1 without features.\n\
         Open it with the version of alluvium that wrote it.",
    );
}

#[test]
fn a_compaction_that_meets_damage_stops_writes_and_says_why() {
    let db = open(&flipped("000003.tbl", 20)).unwrap();
    db.put("key01", "newer").unwrap();
    says(
        db.compact(),
        ErrorKind::Corruption,
        "corrupt block in /db/000003.tbl at offset 0: checksum 677fb4b0, expected checksum 3fc9e298.\n\
         {repair table}",
    );
    assert_eq!(
        db.put("key02", "refused").unwrap_err().kind(),
        ErrorKind::ReadOnly
    );
    assert_eq!(db.get("key01").unwrap().unwrap(), b"newer", "reads go on");
}

#[test]
fn a_damaged_manifest() {
    says(
        open(&flipped("000001.manifest", 100)),
        ErrorKind::Corruption,
        "damaged log record in /db/000001.manifest at offset 77: none, expected a valid record, because everything below 145 was synced.\n\
         {repair}",
    );
    says(
        open(&with("000001.manifest", |bytes| bytes.truncate(90))),
        ErrorKind::Corruption,
        "manifest without a snapshot in /db/000001.manifest at offset 77: none, expected a snapshot.\n\
         {repair}",
    );
}

#[test]
fn a_manifest_that_is_missing() {
    let manifest = FileName::parse("000001.manifest").unwrap();
    says(
        open(&without(manifest)),
        ErrorKind::Corruption,
        "CURRENT names a manifest that is missing in /db/000001.manifest.\n\
         {repair}",
    );
}

#[test]
fn a_damaged_current() {
    says(
        open(&flipped("CURRENT", 15)),
        ErrorKind::Corruption,
        "damaged CURRENT in /db/CURRENT at offset 0: checksum de717de4, expected checksum 2b6812f9.\n\
         {repair}",
    );
    says(
        open(&with("CURRENT", |bytes| bytes.truncate(9))),
        ErrorKind::Corruption,
        "CURRENT of a wrong size in /db/CURRENT at offset 9: 9 bytes, expected 32 bytes.\n\
         {repair}",
    );
}

#[test]
fn a_current_that_is_missing() {
    says(
        open(&without(FileName::Current)),
        ErrorKind::Corruption,
        "CURRENT is missing in /db/CURRENT: no CURRENT, but 000003.tbl, expected CURRENT.\n\
         {repair}",
    );
}

#[test]
fn a_current_of_a_newer_format() {
    let newer = with("CURRENT", |bytes| {
        bytes[8] = 2;
        let checksum = crc(&bytes[..28]);
        bytes[28..].copy_from_slice(&checksum);
    });
    says(
        open(&newer),
        ErrorKind::Unsupported,
        "database of a newer format in /db/CURRENT at offset 0: format 2, expected format 1.\n\
         Open it with the version of alluvium that wrote it.",
    );
}

#[test]
fn a_damaged_log_record() {
    says(
        open(&flipped("000002.log", 200)),
        ErrorKind::Corruption,
        "damaged log record in /db/000002.log at offset 187: none, expected a valid record, because everything below 1232 was synced.\n\
         {repair}",
    );
    let several = with("000002.log", |bytes| bytes[200..204].fill(7));
    says(
        open(&several),
        ErrorKind::Corruption,
        "damaged log record in /db/000002.log at offset 187: none, expected a valid record, because everything below 1232 was synced.\n\
         {repair}",
    );
}

#[test]
fn a_log_that_is_missing() {
    let log = FileName::parse("000002.log").unwrap();
    says(
        open(&without(log)),
        ErrorKind::Corruption,
        "log segment that is missing in /db/000002.log: none, expected the file, because the manifest lists it.\n\
         {repair}",
    );
}

#[test]
fn a_log_of_another_database() {
    says(
        open(&with_segment_header("000002.log", |header| header[5] ^= 1)),
        ErrorKind::Corruption,
        "log segment of another database in /db/000002.log at offset 0: database aeaf52febe706164, expected database aeaf52febe706064.\n\
         {repair}",
    );
}

#[test]
fn a_log_of_a_newer_format() {
    says(
        open(&with_segment_header("000002.log", |header| header[0] = 2)),
        ErrorKind::Unsupported,
        "unknown log format version in /db/000002.log at offset 32: 2, expected 1.\n\
         Open the database with the version of alluvium that wrote it.",
    );
}

#[test]
fn a_log_under_another_name() {
    let sim = store();
    let log = bytes(&sim, "000002.log");
    sim.plant(Path::new(ROOT), "000900.log", &log);
    sim.plant(Path::new(ROOT), "000002.log", &[0; 4096]);
    says(
        open(&sim),
        ErrorKind::Corruption,
        "log segment under another name in /db/000900.log at offset 0: segment 000002, expected segment 000900.\n\
         {repair}",
    );
}
