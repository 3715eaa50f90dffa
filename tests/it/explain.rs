//! Answers to why: what a get asks, what holds space, who keeps old versions.

use crate::support::{ROOT, quiet_options};
use alluvium::explain::{GetAnswer, GetPlace, GetReport, VersionKind};
use alluvium::fs::Fs;
use alluvium::fs::sim::SimFs;
use alluvium::{Db, KeyspaceOptions, WriteOptions, merge};
use std::path::Path;
use std::time::Duration;

fn open(sim: &SimFs) -> Db {
    let keyspace = KeyspaceOptions::new()
        .level0_runs(64)
        .merge_operator(merge::APPEND);
    quiet_options(keyspace).open_sim(sim, ROOT).unwrap()
}

/// Names and sizes.
fn files(sim: &SimFs) -> Vec<(String, u64)> {
    let files = Fs::sim(sim, Path::new(ROOT)).list().unwrap();
    files
        .into_iter()
        .map(|file| (file.name, file.len))
        .collect()
}

/// Places and answers, a word each.
fn steps(report: &GetReport) -> Vec<(&'static str, &'static str)> {
    let place = |place| match place {
        GetPlace::Memtable => "memtable",
        GetPlace::Waiting => "waiting",
        _ => "run",
    };
    let answer = |answer| match answer {
        GetAnswer::OutOfRange => "out of range",
        GetAnswer::FilteredOut => "filtered",
        GetAnswer::Version { kind, .. } => match kind {
            VersionKind::Value => "value",
            VersionKind::Expiring => "expiring",
            VersionKind::Deletion => "deletion",
            _ => "operand",
        },
        _ => "nothing",
    };
    let steps = report.steps.iter();
    steps
        .map(|it| (place(it.place), answer(it.answer)))
        .collect()
}

#[test]
fn a_get_is_told_step_by_step_and_ends_where_it_is_decided() {
    let sim = SimFs::new(1);
    let db = open(&sim);
    db.put("b", "oldest").unwrap();
    db.flush().unwrap();
    for key in ["a", "b", "c"] {
        db.put(key, "in a table").unwrap();
    }
    db.flush().unwrap();
    for key in ["x", "z"] {
        db.put(key, "of other keys").unwrap();
    }
    db.flush().unwrap();
    let report = db.explain_get("b").unwrap();
    let expected = [
        ("memtable", "nothing"),
        ("run", "out of range"),
        ("run", "value"),
    ];
    assert_eq!(steps(&report), expected);
    assert_eq!(report.value_bytes, Some(10));
    let report = db.explain_get("y").unwrap();
    assert_eq!(steps(&report)[1], ("run", "filtered"));
    assert_eq!((report.steps.len(), report.value_bytes), (4, None));
    db.delete("b").unwrap();
    let report = db.explain_get("b").unwrap();
    assert_eq!(steps(&report), [("memtable", "deletion")]);
    assert_eq!(report.value_bytes, None);
    let text = report.to_string();
    assert!(text.contains("deletion of 0 bytes"), "{text}");
    assert!(text.ends_with("no value"), "{text}");
}

#[test]
fn operands_and_what_they_are_merged_into_are_told() {
    let sim = SimFs::new(2);
    let db = open(&sim);
    db.put("k", "base").unwrap();
    db.flush().unwrap();
    db.merge("k", "+1").unwrap();
    db.flush().unwrap();
    db.merge("k", "+2").unwrap();
    let report = db.explain_get("k").unwrap();
    let expected = [
        ("memtable", "operand"),
        ("run", "operand"),
        ("run", "value"),
    ];
    assert_eq!(steps(&report), expected);
    assert_eq!(report.value_bytes, Some(8));
}

#[test]
fn why_a_key_is_not_there_is_told() {
    let sim = SimFs::new(3);
    let db = open(&sim);
    db.put("range", "v").unwrap();
    let second = WriteOptions::new().ttl(Duration::from_secs(1));
    db.put_with("time", "v", second).unwrap();
    db.delete_range("q".."s").unwrap();
    let report = db.explain_get("range").unwrap();
    assert!(report.deleted_at.is_some() && report.value_bytes.is_none());
    assert!(report.to_string().contains("deleted with a range"));
    let before = db.explain_get("time").unwrap();
    assert_eq!(before.value_bytes, Some(1));
    sim.advance(Duration::from_secs(1));
    let report = db.explain_get("time").unwrap();
    assert_eq!(steps(&report), [("memtable", "expiring")]);
    assert_eq!((report.value_bytes, report.deleted_at), (None, None));
}

#[test]
fn damage_on_the_way_is_an_error_as_it_is_for_a_get() {
    let sim = SimFs::new(4);
    let db = open(&sim);
    db.put("k", "v").unwrap();
    db.flush().unwrap();
    db.close().unwrap();
    let (table, _) = files(&sim)
        .into_iter()
        .find(|(name, _)| name.ends_with(".tbl"))
        .unwrap();
    let mut bytes = sim.bytes(Path::new(ROOT), &table).unwrap();
    bytes[20] ^= 1;
    sim.plant(Path::new(ROOT), &table, &bytes);
    let db = open(&sim);
    let error = db.explain_get("k").unwrap_err();
    assert_eq!(error.kind(), db.get("k").unwrap_err().kind());
}

#[test]
fn every_byte_of_the_directory_has_a_reason() {
    let sim = SimFs::new(5);
    let db = open(&sim);
    let orders = db.keyspace("orders", KeyspaceOptions::new()).unwrap();
    for n in 0..200u32 {
        db.put(n.to_be_bytes(), [7; 100]).unwrap();
    }
    db.compact().unwrap();
    db.delete(0u32.to_be_bytes()).unwrap();
    orders.put("o", "v").unwrap();
    db.flush().unwrap();
    let report = db.why_space().unwrap();
    let names: Vec<_> = report.keyspaces.iter().map(|it| &it.name[..]).collect();
    assert_eq!(names, ["default", "orders"]);
    let default = &report.keyspaces[0];
    assert_eq!((default.tables.files, default.deletions), (2, 1));
    assert!(default.above_bytes < default.last_run_bytes);
    assert_eq!(
        default.above_bytes + default.last_run_bytes,
        default.tables.bytes
    );
    assert_eq!((report.replaced.files, report.foreign.files), (0, 0));
    assert!(report.log.bytes != 0 && report.manifest.files == 2);
    let listed: u64 = files(&sim).into_iter().map(|(_, bytes)| bytes).sum();
    assert_eq!(report.bytes(), listed);
    assert!(report.to_string().contains("bytes in all"));
}

#[test]
fn who_keeps_what_was_replaced_is_told() {
    let sim = SimFs::new(6);
    let db = open(&sim);
    assert_eq!(db.oldest_pin(), None);
    for n in 0..200u32 {
        db.put(n.to_be_bytes(), [7; 100]).unwrap();
    }
    db.flush().unwrap();
    let snapshot = db.snapshot();
    let mut iterator = db.iter();
    iterator.next().unwrap().unwrap();
    for n in 0..200u32 {
        db.put(n.to_be_bytes(), [8; 100]).unwrap();
    }
    let pin = db.oldest_pin().unwrap();
    assert_eq!((pin.seqno, pin.readers), (snapshot.seqno(), 2));
    assert_eq!(pin.writes_since, 200);
    db.compact().unwrap();
    let report = db.why_space().unwrap();
    assert_eq!(report.oldest_pin, Some(pin));
    assert!(report.replaced.files != 0, "{report}");
    drop((snapshot, iterator));
    db.put("look", "for work").unwrap();
    db.compact().unwrap();
    let report = db.why_space().unwrap();
    assert_eq!((report.replaced.files, report.oldest_pin), (0, None));
}

#[test]
fn the_keyspace_that_holds_the_log_is_told() {
    let sim = SimFs::new(7);
    let keyspace = KeyspaceOptions::new().write_buffer_bytes(8 << 10);
    let db = quiet_options(keyspace).open_sim(&sim, ROOT).unwrap();
    let idle = db.keyspace("idle", KeyspaceOptions::new()).unwrap();
    assert_eq!(db.why_space().unwrap().log_held_by, None);
    idle.put("a", "lone write").unwrap();
    for n in 0..2_000u32 {
        db.put(n.to_be_bytes(), [7; 100]).unwrap();
    }
    let report = db.why_space().unwrap();
    assert_eq!(report.log_held_by.as_deref(), Some("idle"));
    assert!(1 < report.log.files);
}
