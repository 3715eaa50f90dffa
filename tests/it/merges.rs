//! Merge operators: what operands make of a value, wherever they lie, and what is kept without one.

use crate::support::ROOT;
use alluvium::fs::Fs;
use alluvium::fs::sim::SimFs;
use alluvium::merge::{self, MergeOperator};
use alluvium::{Db, ErrorKind, KeyspaceOptions, Options, WriteBatch, WriteOptions};
use std::path::Path;

fn keyspace(operator: &str) -> KeyspaceOptions {
    KeyspaceOptions::new()
        .block_bytes(256)
        .level0_runs(64)
        .tier_runs(64)
        .merge_operator(operator)
}

fn options(operator: &str) -> Options {
    Options::new()
        .memory_bytes(8 << 20)
        .log_segment_bytes(64 << 10)
        .background_threads(0)
        .default_keyspace(keyspace(operator))
}

fn open(sim: &SimFs, options: Options) -> Db {
    options.open_in(Fs::sim(sim, Path::new(ROOT))).unwrap()
}

fn appending() -> (SimFs, Db) {
    let sim = SimFs::new(1);
    let db = open(&sim, options(merge::APPEND));
    (sim, db)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What every way of reading says of the database; all must say the same.
fn all(db: &Db) -> String {
    let pair = |key: &[u8], value: &[u8]| format!("{}={}", text(key), text(value));
    let forward: Vec<String> = db
        .iter()
        .map(|e| e.unwrap())
        .map(|(k, v)| pair(&k, &v))
        .collect();
    let mut backward: Vec<String> = db
        .iter()
        .rev()
        .map(|e| e.unwrap())
        .map(|(k, v)| pair(&k, &v))
        .collect();
    backward.reverse();
    assert_eq!(backward, forward);
    let mut cursor = db.cursor();
    let mut zigzag = Vec::new();
    cursor.first().unwrap();
    while let Some((k, v)) = cursor.entry() {
        zigzag.push(pair(k, v));
        cursor.next().unwrap();
        cursor.prev().unwrap();
        cursor.next().unwrap();
    }
    assert_eq!(zigzag, forward);
    let keys: Vec<Vec<u8>> = db.iter().map(|e| e.unwrap().0.to_vec()).collect();
    let got: Vec<String> = keys
        .iter()
        .map(|k| pair(k, &db.get(k).unwrap().unwrap()))
        .collect();
    assert_eq!(got, forward);
    let many = db.get_many(&keys).unwrap();
    let many: Vec<String> = keys
        .iter()
        .zip(many)
        .map(|(k, v)| pair(k, &v.unwrap()))
        .collect();
    assert_eq!(many, forward);
    forward.join(" ")
}

#[test]
fn operands_are_merged_into_the_value_in_their_order() {
    let (_, db) = appending();
    db.put("a", "1").unwrap();
    db.merge("a", "2").unwrap();
    db.merge("b", "x").unwrap();
    db.merge("a", "3").unwrap();
    db.merge("b", "y").unwrap();
    db.put("c", "z").unwrap();
    assert_eq!(all(&db), "a=123 b=xy c=z");
    db.delete("a").unwrap();
    db.merge("a", "4").unwrap();
    assert_eq!(
        all(&db),
        "a=4 b=xy c=z",
        "a deletion is no value to merge into"
    );
    db.put("b", "new").unwrap();
    assert_eq!(all(&db), "a=4 b=new c=z");
}

/// Every operand in a place of its own: memtable, several runs, and all of them rewritten.
#[test]
fn it_does_not_matter_where_the_operands_lie() {
    for flushes in 0..32u32 {
        let (sim, db) = appending();
        let steps: [&dyn Fn(); 5] = [
            &|| db.put("k", "1").unwrap(),
            &|| db.merge("k", "2").unwrap(),
            &|| db.merge("k", "3").unwrap(),
            &|| db.merge("other", "x").unwrap(),
            &|| db.merge("k", "4").unwrap(),
        ];
        for (i, step) in steps.into_iter().enumerate() {
            step();
            if flushes & (1 << i) != 0 {
                db.flush().unwrap();
            }
        }
        assert_eq!(all(&db), "k=1234 other=x", "flushed after {flushes:b}");
        db.compact().unwrap();
        assert_eq!(all(&db), "k=1234 other=x", "compacted after {flushes:b}");
        db.merge("k", "5").unwrap();
        db.close().unwrap();
        let db = open(&sim, options(merge::APPEND));
        assert_eq!(all(&db), "k=12345 other=x", "reopened after {flushes:b}");
    }
}

#[test]
fn a_compaction_leaves_one_entry_of_many_operands() {
    let (_, db) = appending();
    for _ in 0..100 {
        db.merge("k", "x").unwrap();
    }
    db.flush().unwrap();
    assert_eq!(
        db.stats().keyspaces[0].levels[0].entries(),
        1,
        "one operand"
    );
    db.compact().unwrap();
    assert_eq!(db.get("k").unwrap().unwrap(), vec![b'x'; 100]);
}

#[test]
fn a_snapshot_sees_the_operands_of_its_time() {
    let (_, db) = appending();
    let mut snapshots = Vec::new();
    let mut expected = String::new();
    for n in 0..5 {
        db.merge("k", n.to_string()).unwrap();
        expected.push_str(&n.to_string());
        snapshots.push((db.snapshot(), expected.clone()));
    }
    let check = |when: &str| {
        for (snapshot, expected) in &snapshots {
            let found = snapshot.get("k").unwrap().unwrap();
            assert_eq!(text(&found), *expected, "{when}");
            let entries: Vec<_> = snapshot.iter().rev().map(|e| e.unwrap().1).collect();
            assert_eq!(text(&entries[0]), *expected, "{when}, backward");
        }
    };
    check("in the memtable");
    db.flush().unwrap();
    check("flushed");
    db.compact().unwrap();
    check("compacted");
    snapshots.remove(1);
    snapshots.remove(2);
    db.merge("k", "5").unwrap();
    db.compact().unwrap();
    for (snapshot, expected) in &snapshots {
        assert_eq!(text(&snapshot.get("k").unwrap().unwrap()), *expected);
    }
    assert_eq!(all(&db), "k=012345");
}

#[test]
fn merges_are_whole_with_their_batch_and_their_transaction() {
    let (_, db) = appending();
    let mut batch = WriteBatch::new();
    batch.put(&db, "k", "1");
    batch.merge(&db, "k", "2");
    batch.merge(&db, "k", "3");
    db.write(&batch, WriteOptions::default()).unwrap();
    let mut tx = db.begin();
    tx.merge(&db, "k", "4");
    tx.merge(&db, "new", "a");
    assert_eq!(tx.get(&db, "k").unwrap().unwrap(), b"1234");
    let seen: Vec<String> = tx.iter(&db).map(|e| text(&e.unwrap().1)).collect();
    assert_eq!(seen, ["1234", "a"]);
    assert_eq!(all(&db), "k=123");
    tx.commit().unwrap();
    assert_eq!(all(&db), "k=1234 new=a");
}

#[test]
fn merges_of_a_transaction_read_nothing_and_so_conflict_with_nothing() {
    let (_, db) = appending();
    let (mut one, mut other) = (db.begin(), db.begin());
    one.merge(&db, "k", "1");
    other.merge(&db, "k", "2");
    one.commit().unwrap();
    other.commit().unwrap();
    assert_eq!(all(&db), "k=12");
    let mut reader = db.begin();
    reader.merge(&db, "k", "3");
    assert_eq!(
        reader.get(&db, "k").unwrap().unwrap(),
        b"123",
        "that is a read"
    );
    db.merge("k", "4").unwrap();
    assert_eq!(reader.commit().unwrap_err().kind(), ErrorKind::Conflict);
}

#[test]
fn a_keyspace_without_an_operator_refuses_merges() {
    let db = open(&SimFs::new(1), Options::new().background_threads(0));
    let error = db.merge("k", "1").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(
        error.to_string().contains("has no merge operator"),
        "{error}"
    );
    let mut batch = WriteBatch::new();
    batch.put(&db, "other", "x");
    batch.merge(&db, "k", "1");
    let error = db.write(&batch, WriteOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert_eq!(db.iter().count(), 0, "nothing of the batch was written");
    let mut tx = db.begin();
    tx.merge(&db, "k", "1");
    assert_eq!(tx.commit().unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn operands_that_the_operator_refuses_stay_until_they_are_replaced() {
    let db = open(&SimFs::new(1), options(merge::COUNTER));
    db.merge("k", "not a number").unwrap();
    db.merge("other", 1i64.to_le_bytes()).unwrap();
    for _ in 0..2 {
        let error = db.get("k").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains("'counter' refuses"), "{error}");
        assert_eq!(db.get("other").unwrap().unwrap(), 1i64.to_le_bytes());
        db.compact().unwrap();
    }
    db.put("k", 7i64.to_le_bytes()).unwrap();
    db.compact().unwrap();
    assert_eq!(db.get("k").unwrap().unwrap(), 7i64.to_le_bytes());
}

/// Numbers as text, the greater of which wins.
struct Greatest;

impl MergeOperator for Greatest {
    fn merge(&self, _: &[u8], base: Option<&[u8]>, operands: &[&[u8]]) -> Option<Vec<u8>> {
        let number = |bytes: &[u8]| std::str::from_utf8(bytes).ok()?.parse::<u64>().ok();
        let all = base.into_iter().chain(operands.iter().copied()).map(number);
        let all: Option<Vec<u64>> = all.collect();
        Some(all?.into_iter().max()?.to_string().into_bytes())
    }
}

#[test]
fn an_operator_of_ones_own_needs_no_way_to_combine() {
    let sim = SimFs::new(1);
    let own = || options("greatest").merge_operator("greatest", Greatest);
    let db = open(&sim, own());
    for n in ["7", "12", "3"] {
        db.merge("k", n).unwrap();
        db.flush().unwrap();
    }
    assert_eq!(all(&db), "k=12");
    db.compact().unwrap();
    assert_eq!(all(&db), "k=12");
    db.close().unwrap();

    // Without it nothing is lost, and nothing is folded.
    let sim = sim.kill();
    let db = open(&sim, options("greatest"));
    db.merge("k", "20").unwrap();
    let error = db.get("k").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(
        error.to_string().contains("'greatest' is not registered"),
        "{error}"
    );
    db.compact().unwrap();
    db.close().unwrap();
    let db = open(&sim.kill(), own());
    assert_eq!(all(&db), "k=20");
}

#[test]
fn the_operator_of_a_keyspace_cannot_change() {
    let sim = SimFs::new(1);
    open(&sim, options(merge::APPEND)).close().unwrap();
    let sim = sim.kill();
    let other = options(merge::MAX).open_in(Fs::sim(&sim, Path::new(ROOT)));
    let error = other.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("merge_operator"), "{error}");
    let unset = Options::new().background_threads(0);
    let db = open(&sim, unset);
    db.merge("k", "a").unwrap();
    assert_eq!(
        db.get("k").unwrap().unwrap(),
        b"a",
        "the stored name is taken"
    );
}

/// RocksDB (HISTORY 7.8, 8.5), Pebble #2473: operands counted twice after a crash between a flush
/// and the removal of its log.
#[test]
fn an_operand_counts_once_however_often_the_process_dies() {
    let mut sim = SimFs::new(3);
    let small = || {
        let keyspace = keyspace(merge::COUNTER).write_buffer_bytes(1 << 10);
        options(merge::COUNTER).default_keyspace(keyspace)
    };
    let mut db = open(&sim, small());
    for n in 1..=200i64 {
        db.merge("k", 1i64.to_le_bytes()).unwrap();
        db.put(format!("{n}"), [0; 40]).unwrap();
        if n % 7 == 0 {
            let next = sim.kill();
            sim.crash_at(sim.call_count());
            drop(db);
            sim = next;
            db = open(&sim, small());
        }
        assert_eq!(db.get("k").unwrap().unwrap(), n.to_le_bytes(), "after {n}");
    }
}
