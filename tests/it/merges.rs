//! Merges: what operands make of a value, wherever they lie and whoever asks.

use crate::support::{ROOT, quiet_options};
use alluvium::fs::sim::SimFs;
use alluvium::fs::{FileName, Fs};
use alluvium::merge;
use alluvium::{Db, ErrorKind, KeyspaceOptions, Options, WriteBatch, WriteOptions};
use std::collections::BTreeMap;
use std::path::Path;

pub(crate) fn keyspace(operator: &str) -> KeyspaceOptions {
    KeyspaceOptions::new()
        .block_bytes(256)
        .level0_runs(64)
        .tier_runs(64)
        .merge_operator(operator)
}

pub(crate) fn options(operator: &str) -> Options {
    quiet_options(keyspace(operator))
}

pub(crate) fn open(sim: &SimFs, options: Options) -> Db {
    options.open_in(Fs::sim(sim, Path::new(ROOT))).unwrap()
}

fn appending() -> (SimFs, Db) {
    let sim = SimFs::new(1);
    let db = open(&sim, options(merge::APPEND));
    (sim, db)
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What every way of reading says of the database; all must say the same.
pub(crate) fn all(db: &Db) -> String {
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
    tx.merge(&db, "k", "5");
    tx.merge(&db, "new", "a");
    assert_eq!(tx.get(&db, "k").unwrap().unwrap(), b"12345");
    let seen: Vec<String> = tx.iter(&db).map(|e| text(&e.unwrap().1)).collect();
    assert_eq!(seen, ["12345", "a"]);
    assert_eq!(all(&db), "k=123");
    tx.commit().unwrap();
    assert_eq!(all(&db), "k=12345 new=a");
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
fn a_write_that_depends_on_the_value_sees_what_the_operands_make_of_it() {
    let (_, db) = appending();
    db.merge("k", "a").unwrap();
    db.flush().unwrap();
    db.merge("k", "b").unwrap();
    let error = db.put_if_absent("k", "x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let error = db.compare_and_swap("k", Some(b"a"), Some(b"x"));
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Conflict);
    db.compare_and_swap("k", Some(b"ab"), Some(b"c")).unwrap();
    db.merge("k", "d").unwrap();
    let mut interfered = false;
    let updated = db.update("k", |value| {
        // A merge in between is a write of the key.
        if !std::mem::replace(&mut interfered, true) {
            db.merge("k", "e").unwrap();
        }
        value.map(|value| [value, b"!"].concat())
    });
    assert_eq!(updated.unwrap().unwrap(), b"cde!");
    assert!(db.contains_key("k").unwrap());
    assert_eq!(
        db.get_with("k", |value| value.map(<[u8]>::len)).unwrap(),
        Some(4)
    );
    assert_eq!(all(&db), "k=cde!");
}

#[test]
fn a_savepoint_takes_merges_back_one_by_one() {
    let (_, db) = appending();
    db.put("k", "1").unwrap();
    let mut tx = db.begin();
    let value = |tx: &alluvium::Transaction| text(&tx.get(&db, "k").unwrap().unwrap());
    tx.merge(&db, "k", "2");
    let second = tx.savepoint();
    tx.merge(&db, "k", "3");
    tx.merge(&db, "k", "4");
    let fourth = tx.savepoint();
    tx.put(&db, "k", "new");
    tx.merge(&db, "k", "5");
    assert_eq!(value(&tx), "new5");
    tx.rollback_to(&fourth).unwrap();
    assert_eq!(value(&tx), "1234");
    tx.rollback_to(&second).unwrap();
    assert_eq!(value(&tx), "12");
    tx.delete(&db, "k");
    tx.merge(&db, "k", "6");
    tx.commit().unwrap();
    assert_eq!(all(&db), "k=6");
}

/// Without a manifest every table in the directory counts: also those that others were made of.
#[test]
fn repair_counts_an_operand_once_although_it_lies_in_two_tables() {
    let sim = SimFs::new(1);
    let fs = || Fs::sim(&sim, Path::new(ROOT));
    // Operands are put together soon, and again and again.
    let keyspace = keyspace(merge::APPEND).level0_runs(2).tier_runs(2);
    let keyspace = keyspace.size_ratio(2).table_bytes(1 << 10);
    let deep = || options(merge::APPEND).default_keyspace(keyspace.clone());
    let db = open(&sim, deep());
    db.put("k", "").unwrap();
    let mut expected = String::new();
    // Every table that there ever was, as if some reader had kept it.
    let mut tables = BTreeMap::new();
    let mut keep = |db: &Db| {
        db.flush().unwrap();
        for entry in fs().list().unwrap() {
            if entry.name.ends_with(".tbl") {
                let bytes = sim.bytes(Path::new(ROOT), &entry.name).unwrap();
                tables.insert(entry.name, bytes);
            }
        }
    };
    for n in 0..150u32 {
        let operand = format!("{n},");
        db.merge("k", &operand).unwrap();
        expected.push_str(&operand);
        for i in 0..15 {
            let other = (n * 37 + i * 101) % 1000;
            db.put(format!("{other}"), [0; 40]).unwrap();
        }
        keep(&db);
    }
    assert!(0 < db.stats().compactions);
    assert_eq!(db.get("k").unwrap().unwrap(), expected.as_bytes());
    let copy = sim.kill();
    let fs = || Fs::sim(&copy, Path::new(ROOT));
    for entry in fs().list().unwrap() {
        if entry.name == "CURRENT" || entry.name.ends_with(".manifest") {
            fs().remove(FileName::parse(&entry.name).unwrap()).unwrap();
        }
    }
    for (name, bytes) in &tables {
        copy.plant(Path::new(ROOT), name, bytes);
    }
    deep().repair_in(fs()).unwrap();
    let db = open(&copy, deep());
    assert_eq!(text(&db.get("k").unwrap().unwrap()), expected);
    assert!(db.verify().unwrap().problems.is_empty());
}

/// The log still holds what a flush has put together: a replay must not add it once more.
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
        if n % 20 == 0 {
            db.compact().unwrap();
        }
        assert_eq!(db.get("k").unwrap().unwrap(), n.to_le_bytes(), "after {n}");
    }
}
