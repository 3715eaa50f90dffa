//! Deleted ranges: what they remove for whom, at the edges of tables, and under merges.

use super::{open, options, quiet};
use alluvium::fs::sim::SimFs;
use alluvium::{Db, merge};

/// RocksDB 6.6.1 (#6062): an iterator over a snapshot lost keys to a range that was deleted later.
#[test]
fn bug_04_a_range_deleted_later_takes_nothing_from_an_iterator_or_a_snapshot() {
    for flushed in [false, true] {
        let sim = SimFs::new(4);
        let db = open(&sim, &options());
        for n in 0..100u8 {
            db.put([n], [n]).unwrap();
        }
        if flushed {
            db.flush().unwrap();
        }
        let snapshot = db.snapshot();
        let mut forward = snapshot.iter();
        let mut both = db.iter();
        let mut cursor = snapshot.cursor();
        assert_eq!(forward.next().unwrap().unwrap().0, [0]);
        assert_eq!(both.next_back().unwrap().unwrap().0, [99]);
        cursor.seek([50]).unwrap();
        db.delete_range(..).unwrap();
        db.compact().unwrap();
        assert_eq!(forward.count(), 99);
        assert_eq!(both.count(), 99);
        for n in 50..100u8 {
            assert_eq!(cursor.key(), Some(&[n][..]));
            cursor.next().unwrap();
        }
        assert_eq!(snapshot.get([7]).unwrap().unwrap(), [7]);
        assert_eq!(db.iter().count(), 0);
    }
}

/// Pebble PR 2015 (cockroach #89777), RocksDB 5.18: a deletion that was cut at the bounds of the
/// compaction, and not of the table, removed newer keys behind the table.
#[test]
fn bug_05_a_deletion_removes_no_newer_key_whichever_tables_are_compacted() {
    for first in 0..10u8 {
        let sim = SimFs::new(5);
        // A table for every few keys.
        let options = options().default_keyspace(quiet().table_bytes(1 << 10));
        let db = open(&sim, &options);
        for n in 0..100u8 {
            db.put([n], [0; 200]).unwrap();
        }
        db.compact().unwrap();
        db.delete_range([20]..[80]).unwrap();
        for n in (0..100u8).step_by(7) {
            db.put([n], [1; 200]).unwrap();
        }
        db.flush().unwrap();
        let expected: Vec<u8> = (0..100)
            .filter(|n| !(20..80).contains(n) || n % 7 == 0)
            .collect();
        let keys = || -> Vec<u8> { db.iter().map(|entry| entry.unwrap().0[0]).collect() };
        assert_eq!(keys(), expected);
        db.compact_range([first * 10]..[first * 10 + 3]).unwrap();
        assert_eq!(keys(), expected, "compacted from {}", first * 10);
        db.compact_range([50]..=[50]).unwrap();
        assert_eq!(keys(), expected);
        for n in 0..100u8 {
            let is_there = db.get([n]).unwrap().is_some();
            assert_eq!(is_there, expected.contains(&n), "key {n}");
        }
    }
}

/// RocksDB 6.0.0: the end of a deletion was taken for a key of the table before.
#[test]
fn bug_06_the_end_of_a_deletion_is_not_deleted_though_a_table_begins_with_it() {
    let sim = SimFs::new(6);
    let options = options().default_keyspace(quiet().table_bytes(1 << 10));
    let db = open(&sim, &options);
    for n in 0..100u8 {
        db.put([n], [0; 200]).unwrap();
    }
    db.compact().unwrap();
    let stats = db.stats();
    let runs = stats.keyspaces[0].levels.iter().flat_map(|l| &l.runs);
    let tables = runs.flat_map(|run| &run.tables);
    let begins: Vec<Vec<u8>> = tables.map(|table| table.smallest.clone()).collect();
    assert!(3 < begins.len());
    for pair in begins.windows(2) {
        db.delete_range(&pair[0][..]..&pair[1][..]).unwrap();
        assert!(db.get(&pair[0]).unwrap().is_none());
        assert!(db.get(&pair[1]).unwrap().is_some(), "{:?}", pair[1]);
        db.flush().unwrap();
        assert!(db.get(&pair[1]).unwrap().is_some(), "{:?}", pair[1]);
    }
}

/// RocksDB 6.3: merges were put together with a value that a range had removed between them.
#[test]
fn bug_07_what_a_range_removed_does_not_come_back_through_merges() {
    let check = |db: &Db, what: &str| {
        assert_eq!(db.get("k").unwrap().unwrap(), b"+2+3", "{what}");
        let (_, value) = db.range("k"..="k").next().unwrap().unwrap();
        assert_eq!(value, b"+2+3", "{what}");
        let (_, value) = db.range("k"..="k").next_back().unwrap().unwrap();
        assert_eq!(value, b"+2+3", "{what}");
    };
    for steps in 0..16u8 {
        let sim = SimFs::new(7);
        let keyspace = quiet().merge_operator(merge::APPEND);
        let db = open(&sim, &options().default_keyspace(keyspace));
        let flush_at = |step: u8| {
            if steps >> step & 1 == 1 {
                db.flush().unwrap();
            }
        };
        db.put("k", "base").unwrap();
        flush_at(0);
        db.merge("k", "+1").unwrap();
        let before = db.snapshot();
        flush_at(1);
        db.delete_range("a".."z").unwrap();
        flush_at(2);
        db.merge("k", "+2").unwrap();
        flush_at(3);
        db.merge("k", "+3").unwrap();
        check(&db, "as written");
        db.flush().unwrap();
        check(&db, "flushed");
        db.compact().unwrap();
        check(&db, "compacted under a snapshot");
        assert_eq!(before.get("k").unwrap().unwrap(), b"base+1");
        drop(before);
        db.merge("l", "other").unwrap();
        db.compact().unwrap();
        check(&db, "compacted to the bottom");
    }
}
