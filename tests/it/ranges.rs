//! Deleted ranges: what is gone, for whom, and wherever the keys lie.

use crate::merges::{all, open, options};
use crate::support::{ROOT, TempDir};
use alluvium::fs::Fs;
use alluvium::fs::sim::{Family, SimFs};
use alluvium::merge;
use alluvium::{Db, Durability, ErrorKind, ReadMode, Snapshot, Verify, WriteBatch, WriteOptions};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

fn appending() -> (SimFs, Db) {
    let sim = SimFs::new(1);
    let db = open(&sim, options(merge::APPEND));
    (sim, db)
}

/// `a` to `z`, each its own value.
fn alphabet() -> (SimFs, Db) {
    let (sim, db) = appending();
    for letter in b'a'..=b'z' {
        db.put([letter], [letter]).unwrap();
    }
    (sim, db)
}

fn keys(db: &Db) -> String {
    let all = all(db);
    all.split_whitespace()
        .filter_map(|pair| pair.chars().next())
        .collect()
}

fn keys_of(snapshot: &Snapshot) -> String {
    let keys = snapshot.iter().map(|entry| entry.unwrap().0[0] as char);
    keys.collect()
}

#[test]
fn every_kind_of_range_deletes_the_keys_in_it_and_no_others() {
    let after = |delete: &dyn Fn(&Db)| {
        let (_sim, db) = alphabet();
        delete(&db);
        let before = keys(&db);
        db.flush().unwrap();
        assert_eq!(keys(&db), before, "flushed");
        db.compact().unwrap();
        assert_eq!(keys(&db), before, "compacted");
        before
    };
    assert_eq!(after(&|db| db.delete_range("c".."x").unwrap()), "abxyz");
    assert_eq!(after(&|db| db.delete_range("c"..="x").unwrap()), "abyz");
    assert_eq!(after(&|db| db.delete_range("c"..).unwrap()), "ab");
    assert_eq!(after(&|db| db.delete_range(.."x").unwrap()), "xyz");
    assert_eq!(after(&|db| db.delete_range(..).unwrap()), "");
    assert_eq!(
        after(&|db| db.delete_range("x".."c").unwrap()).len(),
        26,
        "inverted"
    );
    assert_eq!(
        after(&|db| db.delete_range("x".."x").unwrap()).len(),
        26,
        "empty"
    );
    assert_eq!(after(&|db| db.delete_range("bb".."w").unwrap()), "abwxyz");
}

/// Keys in memtables, in several runs and in the last level, and the deletion anywhere above them.
#[test]
fn it_does_not_matter_where_keys_and_deletion_lie() {
    for flushes in 0..16u32 {
        let (sim, db) = appending();
        let steps: [&dyn Fn(); 4] = [
            &|| {
                ["a", "c", "m", "x"]
                    .iter()
                    .for_each(|k| db.put(k, "1").unwrap())
            },
            &|| ["b", "m", "y"].iter().for_each(|k| db.put(k, "2").unwrap()),
            &|| db.delete_range("b".."x").unwrap(),
            &|| ["c", "z"].iter().for_each(|k| db.put(k, "3").unwrap()),
        ];
        for (i, step) in steps.into_iter().enumerate() {
            step();
            if flushes & (1 << i) != 0 {
                db.flush().unwrap();
            }
        }
        let expected = "a=1 c=3 x=1 y=2 z=3";
        assert_eq!(all(&db), expected, "{flushes:b}");
        db.compact().unwrap();
        assert_eq!(all(&db), expected, "{flushes:b}, compacted");
        let sim = sim.kill();
        drop(db);
        let db = open(&sim, options(merge::APPEND));
        assert_eq!(all(&db), expected, "{flushes:b}, after a crash");
        db.close().unwrap();
        let db = open(&sim, options(merge::APPEND));
        assert_eq!(all(&db), expected, "{flushes:b}, opened again");
    }
}

#[test]
fn a_snapshot_sees_what_was_there_before_the_deletion_whatever_is_compacted() {
    let (_sim, db) = alphabet();
    db.flush().unwrap();
    let before = db.snapshot();
    db.delete_range("d".."w").unwrap();
    let between = db.snapshot();
    db.put("m", "m").unwrap();
    db.delete_range("a".."c").unwrap();
    for _ in 0..3 {
        assert_eq!(keys_of(&before).len(), 26);
        assert_eq!(keys_of(&between), "abcwxyz");
        assert_eq!(keys(&db), "cmwxyz");
        assert_eq!(before.get("e").unwrap().unwrap(), b"e");
        assert!(between.get("e").unwrap().is_none());
        db.flush().unwrap();
        db.compact().unwrap();
    }
    drop(before);
    db.compact().unwrap();
    assert_eq!(keys_of(&between), "abcwxyz");
    drop(between);
    db.compact().unwrap();
    assert_eq!(keys(&db), "cmwxyz");
}

#[test]
fn in_a_batch_later_operations_win() {
    let (_sim, db) = alphabet();
    let mut batch = WriteBatch::new();
    batch.put(&db, "m", "before");
    batch.delete_range(&db, "b".."y");
    batch.put(&db, "n", "after");
    batch.merge(&db, "o", "after");
    db.write(&batch, WriteOptions::new()).unwrap();
    assert_eq!(all(&db), "a=a n=after o=after y=y z=z");
    db.flush().unwrap();
    assert_eq!(all(&db), "a=a n=after o=after y=y z=z");
}

#[test]
fn operands_do_not_reach_over_a_deletion() {
    for flushes in 0..8u32 {
        let (_sim, db) = appending();
        let steps: [&dyn Fn(); 3] = [
            &|| {
                db.put("k", "1").unwrap();
                db.merge("k", "2").unwrap();
            },
            &|| db.delete_range("a".."z").unwrap(),
            &|| {
                db.merge("k", "3").unwrap();
                db.merge("k", "4").unwrap();
            },
        ];
        for (i, step) in steps.into_iter().enumerate() {
            step();
            if flushes & (1 << i) != 0 {
                db.flush().unwrap();
            }
        }
        assert_eq!(all(&db), "k=34", "{flushes:b}");
        db.flush().unwrap();
        db.compact().unwrap();
        assert_eq!(all(&db), "k=34", "{flushes:b}, compacted");
    }
}

#[test]
fn a_keyspace_is_emptied_and_others_are_not() {
    let (_sim, db) = alphabet();
    let other = db.keyspace("other", Default::default()).unwrap();
    other.put("m", "other").unwrap();
    db.delete_range(..).unwrap();
    assert_eq!(db.iter().count(), 0);
    assert_eq!(other.get("m").unwrap().unwrap(), b"other");
    let seqno = db.seqno();
    db.delete_range("b".."a").unwrap();
    assert_eq!(db.seqno(), seqno, "an empty range is no write");
}

/// Ends where the deletion ended, and keys before, in and behind it, from both sides.
#[test]
fn cursors_stop_at_the_edges_of_a_deletion_from_both_sides() {
    let (_sim, db) = alphabet();
    db.flush().unwrap();
    db.delete_range("d".."w").unwrap();
    db.put("m", "m").unwrap();
    let mut cursor = db.cursor();
    let at = |cursor: &alluvium::Cursor| cursor.key().map(|key| key[0] as char);
    for (target, forward, backward) in [
        ("c", Some('c'), Some('c')),
        ("d", Some('m'), Some('c')),
        ("m", Some('m'), Some('m')),
        ("n", Some('w'), Some('m')),
        ("w", Some('w'), Some('w')),
        ("zz", None, Some('z')),
    ] {
        cursor.seek(target).unwrap();
        assert_eq!(at(&cursor), forward, "{target}");
        cursor.seek_for_prev(target).unwrap();
        assert_eq!(at(&cursor), backward, "{target}, backward");
    }
    cursor.seek("c").unwrap();
    cursor.next().unwrap();
    assert_eq!(at(&cursor), Some('m'));
    cursor.prev().unwrap();
    assert_eq!(at(&cursor), Some('c'));
}

/// Bug 7 and its like: a deletion is forgotten with the last table that it matters to, not before.
#[test]
fn what_was_deleted_never_comes_back() {
    let (sim, db) = alphabet();
    db.flush().unwrap();
    db.compact().unwrap();
    db.delete_range("b".."y").unwrap();
    db.flush().unwrap();
    for round in 0..4 {
        db.put("m", format!("{round}")).unwrap();
        db.delete("m").unwrap();
        db.flush().unwrap();
        db.compact_range("a".."c").unwrap();
        assert_eq!(keys(&db), "ayz", "round {round}");
    }
    db.close().unwrap();
    let db = open(&sim, options(merge::APPEND));
    assert_eq!(keys(&db), "ayz");
    db.compact().unwrap();
    db.close().unwrap();
    let db = open(&sim, options(merge::APPEND));
    assert_eq!(keys(&db), "ayz");
    assert!(db.verify().unwrap().problems.is_empty());
}

#[test]
fn a_synced_deletion_survives_the_power_and_any_survives_the_process() {
    let (sim, db) = alphabet();
    let synced = WriteOptions::new().durability(Durability::Synced);
    db.delete_range_with("b".."y", synced).unwrap();
    let after = sim.images(&[Family::Nothing]).next().unwrap();
    drop(db);
    let db = open(&after.sim, options(merge::APPEND));
    assert_eq!(keys(&db), "ayz");
}

/// Twenty thousand keys under one deletion: a scan passes over them without reading their blocks, so
/// that it does not even notice that most of these are damaged.
#[test]
fn a_scan_over_a_deletion_reads_none_of_the_blocks_in_it() {
    let sim = SimFs::new(3);
    let by_calls = || {
        options(merge::APPEND)
            .read_mode(ReadMode::Pread)
            .verify(Verify::EveryRead)
    };
    let db = open(&sim, by_calls());
    for n in 0..20_000u32 {
        db.put(n.to_be_bytes(), [7; 20]).unwrap();
    }
    db.compact().unwrap();
    db.close().unwrap();
    let root = Path::new(ROOT);
    let names = Fs::sim(&sim, root).list().unwrap().into_iter();
    let tables = names.map(|e| e.name).filter(|name| name.ends_with(".tbl"));
    let mut spoilt = 0;
    for name in tables {
        let mut bytes = sim.bytes(root, &name).unwrap();
        let blocks = bytes.len() / 3..bytes.len() / 2;
        spoilt += blocks.len();
        bytes[blocks].fill(0xff);
        sim.plant(root, &name, &bytes);
    }
    assert!(50_000 < spoilt, "{spoilt}");
    let db = open(&sim, by_calls());
    let forward = |db: &Db| db.iter().collect::<Result<Vec<_>, _>>();
    let backward = |db: &Db| db.iter().rev().collect::<Result<Vec<_>, _>>();
    assert_eq!(forward(&db).unwrap_err().kind(), ErrorKind::Corruption);
    assert_eq!(backward(&db).unwrap_err().kind(), ErrorKind::Corruption);
    let range = 100u32.to_be_bytes()..19_900u32.to_be_bytes();
    db.delete_range(range).unwrap();
    assert_eq!(forward(&db).unwrap().len(), 200);
    assert_eq!(backward(&db).unwrap().len(), 200);
}

/// What lies at the edges of a deletion is in tables with keys that stay. Once they were rewritten,
/// nothing of it is left to look at.
#[test]
fn a_deletion_is_forgotten_when_it_has_been_applied() {
    let (sim, db) = alphabet();
    db.flush().unwrap();
    let remembered = |db: &Db| db.stats().keyspaces[0].deleted_ranges;
    let snapshot = db.snapshot();
    db.delete_range("d".."w").unwrap();
    db.delete_range("f".."h").unwrap();
    assert_eq!(remembered(&db), 3, "d to f, f to h, h to w");
    db.compact().unwrap();
    assert_eq!(remembered(&db), 3, "a snapshot still sees the keys");
    assert_eq!(keys_of(&snapshot).len(), 26);
    drop(snapshot);
    db.put("a", "a").unwrap(); // else there is nothing to compact
    db.compact().unwrap();
    assert_eq!(remembered(&db), 0);
    db.close().unwrap();
    let db = open(&sim, options(merge::APPEND));
    assert_eq!((remembered(&db), keys(&db)), (0, "abcwxyz".into()));
}

/// A queue that is trimmed: each deletion lies over all before it. What no snapshot tells apart is one
/// deletion once it is flushed, and before that they fill the memtable.
#[test]
fn deletions_over_one_another_take_no_more_room_than_the_last() {
    let (sim, db) = appending();
    for n in 0..2_000u32 {
        db.put(n.to_be_bytes(), "in the queue").unwrap();
    }
    db.flush().unwrap();
    let snapshot = db.snapshot();
    for n in 1..1_999u32 {
        db.delete_range(..n.to_be_bytes()).unwrap();
    }
    db.flush().unwrap();
    let names = Fs::sim(&sim, Path::new(ROOT)).list().unwrap().into_iter();
    let manifests = names.filter(|entry| entry.name.ends_with(".manifest"));
    let bytes: u64 = manifests.map(|entry| entry.len).sum();
    assert!(bytes < 512 << 10, "{bytes} bytes of manifest");
    assert_eq!(snapshot.iter().count(), 2_000);
    assert_eq!(db.iter().count(), 2);
    drop(snapshot);
    db.close().unwrap();
    let db = open(&sim, options(merge::APPEND));
    assert_eq!(db.iter().count(), 2);
}

/// Nobody asks for a compaction, and yet they do not become more and more.
#[test]
fn many_small_deletions_are_applied_when_nobody_writes() {
    let dir = TempDir::new("ranges");
    let db = Db::open(dir.path()).unwrap();
    for n in 0..2_000u32 {
        db.put(n.to_be_bytes(), [1; 100]).unwrap();
    }
    db.flush().unwrap();
    for n in (0..2_000u32).step_by(10) {
        db.delete_range(n.to_be_bytes()..(n + 1).to_be_bytes())
            .unwrap();
    }
    db.flush().unwrap();
    let start = std::time::Instant::now();
    while 64 < db.stats().keyspaces[0].deleted_ranges {
        let limit = Duration::from_secs(30);
        assert!(start.elapsed() < limit, "{:?}", db.stats().keyspaces[0]);
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(db.iter().count(), 1_800);
    db.close().unwrap();
}

#[test]
fn keys_at_the_limit_can_be_deleted_by_a_range() {
    let (_sim, db) = appending();
    let longest = vec![b'k'; 64 << 10];
    db.put(&longest, "v").unwrap();
    db.delete_range(longest.clone()..=longest.clone()).unwrap();
    assert_eq!(db.iter().count(), 0);
    let too_long = vec![b'k'; (64 << 10) + 2];
    let error = db.delete_range(..too_long).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
}

#[test]
fn a_transaction_deletes_ranges_and_reads_its_own_deletions() {
    let (_sim, db) = alphabet();
    let mut tx = db.begin();
    tx.put(&db, "c", "own");
    tx.delete_range(&db, "b".."y");
    tx.put(&db, "m", "own");
    tx.merge(&db, "n", "own");
    assert!(tx.get(&db, "c").unwrap().is_none());
    assert!(tx.get(&db, "q").unwrap().is_none());
    assert_eq!(tx.get(&db, "n").unwrap().unwrap(), b"own");
    let seen: Vec<u8> = tx.iter(&db).map(|e| e.unwrap().0[0]).collect();
    assert_eq!(seen, b"amnyz");
    let back: Vec<u8> = tx.iter(&db).rev().map(|e| e.unwrap().0[0]).collect();
    assert_eq!(back, b"zynma");
    assert_eq!(keys(&db).len(), 26, "nobody else sees it");
    tx.commit().unwrap();
    assert_eq!(all(&db), "a=a m=own n=own y=y z=z");
}

#[test]
fn a_savepoint_brings_back_what_a_range_had_removed() {
    let (_sim, db) = alphabet();
    let mut tx = db.begin();
    tx.put(&db, "c", "own");
    let savepoint = tx.savepoint();
    tx.delete_range(&db, "b".."y");
    tx.put(&db, "d", "later");
    tx.rollback_to(&savepoint).unwrap();
    assert_eq!(tx.get(&db, "c").unwrap().unwrap(), b"own");
    assert_eq!(tx.get(&db, "d").unwrap().unwrap(), b"d");
    assert_eq!(tx.iter(&db).count(), 26);
}

/// What a transaction has read.
type Read<'a> = &'a dyn Fn(&alluvium::Transaction);

#[test]
fn a_deletion_conflicts_with_those_who_have_read_in_its_range() {
    for flushed in [false, true] {
        let (_sim, db) = alphabet();
        let reads: [(&str, Read<'_>, bool); 5] = [
            ("a key", &|tx| drop(tx.get(&db, "m").unwrap()), true),
            (
                "an absent key",
                &|tx| drop(tx.get(&db, "mm").unwrap()),
                true,
            ),
            (
                "a range",
                &|tx| assert!(tx.range(&db, "k".."o").count() < 5),
                true,
            ),
            (
                "a key outside",
                &|tx| drop(tx.get(&db, "a").unwrap()),
                false,
            ),
            (
                "a range outside",
                &|tx| assert!(tx.range(&db, "x"..).count() < 4),
                false,
            ),
        ];
        for (what, read, conflicts) in reads {
            let mut tx = db.begin();
            read(&tx);
            tx.put(&db, "written", "by the transaction");
            db.delete_range("c".."x").unwrap();
            if flushed {
                db.flush().unwrap();
            }
            let committed = tx.commit().map_err(|error| error.kind());
            let expected = Err(ErrorKind::Conflict);
            assert_eq!(committed.is_err(), conflicts, "{what}, flushed: {flushed}");
            assert!(
                committed.is_ok() || committed.map(|_| ()) == expected,
                "{what}"
            );
        }
    }
}

/// Random writes, deletions of keys and ranges, flushes, compactions, snapshots and reopenings.
#[derive(Clone, Debug)]
enum Step {
    Put(u8, u8),
    Merge(u8, u8),
    Delete(u8),
    DeleteRange(u8, u8),
    Flush,
    Compact(u8, u8),
    Snapshot,
    Release,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let key = || 0..40u8;
    prop_oneof![
        8 => (key(), any::<u8>()).prop_map(|(k, v)| Step::Put(k, v)),
        4 => (key(), any::<u8>()).prop_map(|(k, v)| Step::Merge(k, v)),
        2 => key().prop_map(Step::Delete),
        4 => (key(), key()).prop_map(|(a, b)| Step::DeleteRange(a, b)),
        2 => Just(Step::Flush),
        1 => (key(), key()).prop_map(|(a, b)| Step::Compact(a, b)),
        1 => Just(Step::Snapshot),
        1 => Just(Step::Release),
        1 => Just(Step::Reopen),
    ]
}

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn check(
    found: impl Iterator<Item = alluvium::Result<(alluvium::Slice, alluvium::Slice)>>,
    model: &Model,
) {
    let found: Vec<_> = found
        .map(|entry| entry.unwrap())
        .map(|(k, v)| (k.to_vec(), v.to_vec()))
        .collect();
    let expected: Vec<_> = model.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    assert_eq!(found, expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn a_database_with_deleted_ranges_is_a_map(steps in proptest::collection::vec(step(), 0..80)) {
        let sim = SimFs::new(9);
        let mut db = open(&sim, options(merge::APPEND));
        let mut model = Model::new();
        let mut snapshots: Vec<(Snapshot, Model)> = Vec::new();
        for step in steps {
            match step {
                Step::Put(k, v) => {
                    db.put([k], [v]).unwrap();
                    model.insert(vec![k], vec![v]);
                }
                Step::Merge(k, v) => {
                    db.merge([k], [v]).unwrap();
                    model.entry(vec![k]).or_default().push(v);
                }
                Step::Delete(k) => {
                    db.delete([k]).unwrap();
                    model.remove(&vec![k]);
                }
                Step::DeleteRange(a, b) => {
                    db.delete_range([a]..[b]).unwrap();
                    model.retain(|key, _| !(a <= key[0] && key[0] < b));
                }
                Step::Flush => db.flush().unwrap(),
                Step::Compact(a, b) => db.compact_range([a.min(b)]..[a.max(b)]).unwrap(),
                Step::Snapshot => snapshots.push((db.snapshot(), model.clone())),
                Step::Release => drop(snapshots.pop()),
                Step::Reopen => {
                    snapshots.clear();
                    db.close().unwrap();
                    db = open(&sim, options(merge::APPEND));
                }
            }
            check(db.iter(), &model);
        }
        let backward: Model = db.iter().rev().map(|e| e.unwrap()).map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
        prop_assert_eq!(&backward, &model);
        for k in 0..40u8 {
            prop_assert_eq!(db.get([k]).unwrap().map(|v| v.to_vec()), model.get(&vec![k]).cloned());
        }
        for (snapshot, model) in &snapshots {
            check(snapshot.iter(), model);
            for k in 0..40u8 {
                let found = snapshot.get([k]).unwrap().map(|v| v.to_vec());
                prop_assert_eq!(found, model.get(&vec![k]).cloned());
            }
        }
    }
}
