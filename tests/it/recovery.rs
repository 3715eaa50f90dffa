//! Recoveries that are themselves cut off, in small worlds.

use crate::support::{ROOT, begin_segment, names_ending, version_set};
use alluvium::fs::Fs;
use alluvium::fs::sim::{CallKind, Family, Fault, FaultRule, FileClass, SimFs};
use alluvium::{Db, Durability, ErrorKind, KeyspaceOptions, Options, SeqNo, WriteOptions};
use std::path::Path;

fn options() -> Options {
    Options::new()
        .memory_bytes(8 << 20)
        .log_segment_bytes(4 << 10)
        .background_threads(0)
}

fn open(sim: &SimFs) -> Db {
    let fs = Fs::sim(sim, Path::new(ROOT));
    options().open_in(fs).expect("P4: it opens")
}

/// A database with several segments of writes that are in no table.
fn with_segments(seed: u64) -> (SimFs, Db) {
    let sim = SimFs::new(seed);
    let db = open(&sim);
    for n in 0..60u8 {
        db.put([n], [n; 200]).unwrap();
    }
    (sim, db)
}

/// A power loss took the middle of the first segment and kept those behind it, which so are passed
/// over. A recovery struck off the first, was cut off before it struck off the others, and the
/// next one took them for the beginning of the log: the newer writes were there and the older not.
#[test]
fn a_segment_behind_a_hole_stays_lost_when_the_recovery_from_it_is_cut_off() {
    let (sim, db) = with_segments(1);
    let after = sim.kill();
    drop(db);
    let first = &names_ending(&after, ".log")[0];
    let mut bytes = after.bytes(Path::new(ROOT), first).unwrap();
    bytes[1000..].fill(0);
    after.plant(Path::new(ROOT), first, &bytes);

    let calls = {
        let whole = after.kill();
        let db = open(&whole);
        assert_eq!(db.open_report().segments, 1);
        assert!(1 < db.open_report().segments_passed_over);
        whole.call_count()
    };
    for call in 0..calls {
        let cut = after.kill();
        cut.crash_at(call);
        let _ = options().open_in(Fs::sim(&cut, Path::new(ROOT)));
        for image in cut.images(&[Family::Nothing, Family::Everything, Family::Prefixes]) {
            let db = open(&image.sim);
            let keys: Vec<u8> = db.iter().map(|entry| entry.unwrap().0[0]).collect();
            let prefix: Vec<u8> = (0..keys.len() as u8).collect();
            assert_eq!(keys, prefix, "cut off at {}", image.id);
            assert!(
                !keys.is_empty() && keys.len() < 10,
                "cut off at {}",
                image.id
            );
        }
    }
}

/// A database with `a` in it, and behind that a segment that puts `keys` by one record with the
/// number `first`.
fn with_record(first: SeqNo, keys: &[&str]) -> SimFs {
    let sim = SimFs::new(2);
    let db = open(&sim);
    db.put("a", "1").unwrap();
    let end = db.stats().log.bytes;
    let next = sim.kill();
    drop(db);
    let entries: Vec<_> = keys.iter().map(|key| (*key, "2")).collect();
    begin_segment(&next, end, first, &entries);
    next
}

/// Numbers stop at the largest one: operations of one record had the same number, and a key in it
/// twice had two values at one instant. Opening refuses it, and repair does not keep it.
#[test]
fn a_record_whose_numbers_reach_the_largest_is_refused_and_not_kept_by_repair() {
    let largest = SeqNo::MAX.get();
    for (first, keys) in [
        (largest, &["b"][..]),
        (largest, &["b", "b"]),
        (largest - 1, &["b", "b"]),
        (largest - 2, &["b", "b", "b", "b"]),
    ] {
        let sim = with_record(SeqNo::new(first), keys);
        let fs = Fs::sim(&sim, Path::new(ROOT));
        let error = options().open_in(fs.clone()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
        let text = error.to_string();
        assert!(text.contains("numbers that no write has"), "{text}");
        assert!(text.contains(".log at offset"), "{text}");
        let report = options().repair_in(fs).unwrap();
        assert!(!report.losses.is_empty());
        let db = open(&sim);
        assert_eq!(db.get("a").unwrap().unwrap(), b"1");
        assert_eq!(db.get("b").unwrap(), None);
    }
}

/// Near the largest number the sum of what is used and what is reserved was cut to 56 bits: a
/// small number, which reserved nothing, and numbers could name two writes (P6).
#[test]
fn near_the_largest_number_each_is_reserved_before_it_is_given() {
    let first = SeqNo::MAX.get() - 100;
    let sim = with_record(SeqNo::new(first), &["b"]);
    let db = open(&sim);
    let mut written = 0;
    let error = loop {
        match db.put("c", "3") {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
        let reserved = version_set(&sim.kill()).seqno_ceiling();
        assert!(first + written <= reserved.get(), "{written}: {reserved}");
    };
    assert_eq!(written, 99, "the largest number is nobody's");
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
    assert_eq!(db.get("c").unwrap().unwrap(), b"3");
}

/// The memtable of a keyspace that was made late held back every segment from the first on.
#[test]
fn a_new_keyspace_holds_back_no_older_segment() {
    let (sim, db) = with_segments(2);
    let late = db.keyspace("late", KeyspaceOptions::new()).unwrap();
    late.put("k", "v").unwrap();
    let segments = || db.stats().log.segments;
    assert!(3 < segments(), "{} segments", segments());
    // Flushes the default keyspace, and no other.
    db.compact().unwrap();
    assert!(segments() < 3, "{} segments", segments());
    let next = sim.kill();
    sim.crash_at(sim.call_count());
    drop((db, late));
    let db = open(&next);
    let late = db.keyspace("late", KeyspaceOptions::new()).unwrap();
    assert_eq!(late.get("k").unwrap().unwrap(), b"v");
    assert_eq!(db.iter().count(), 60);
}

/// A process died with writes in its log that were never synced. Until tables hold them, the next one
/// serves them, and acknowledges nothing that could survive without them.
#[test]
fn inherited_writes_are_served_while_the_disk_takes_no_table_and_nothing_outlives_them() {
    let (sim, db) = with_segments(3);
    let after = sim.kill();
    drop(db);
    let no_table = FaultRule::new(Fault::Enospc).kinds(&[CallKind::Create]);
    after.fail(no_table.class(FileClass::Table).sticky());
    let db = open(&after);
    for n in 0..60u8 {
        assert_eq!(db.get([n]).unwrap().unwrap(), [n; 200], "read from memory");
    }
    let synced = WriteOptions::new().durability(Durability::Synced);
    let refused = db.put_with([60], [60; 200], synced).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NoSpace, "{refused}");
    assert!(db.sync().is_err(), "nothing is durable");
    for image in after.images(&Family::ALL[..2]) {
        let db = open(&image.sim);
        let there = |n: &u8| db.get([*n]).unwrap().is_some();
        let count = (0..61).filter(there).count() as u8;
        assert!((0..count).all(|n| there(&n)), "P2, in {}", image.id);
    }

    after.heal();
    db.put_with([60], [60; 200], synced).expect("it resumes");
    for image in after.images(&Family::ALL[..2]) {
        let db = open(&image.sim);
        for n in 0..61u8 {
            assert_eq!(db.get([n]).unwrap().unwrap(), [n; 200], "P1, {}", image.id);
        }
    }
}
