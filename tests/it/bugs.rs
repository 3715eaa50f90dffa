//! Bugs that other engines had, one named test each: the number is that of a list of 82 known bugs
//! of ordered stores, the first comment says whose it was.
//!
//! Here are those of whole databases: snapshots and tombstones, log and recovery, manifest and
//! files, reads, flush and compaction. What only the inside of a room can show is tested there.
//! Those that cannot happen yet stand in `none.txt` with the reason; `list.rs` counts all 82.

mod files;
mod history;
mod list;
mod loads;
mod log;
mod ranges;
mod reads;
mod slips;
mod work;

use crate::support::{ROOT, TempDir, quiet_options, wait_until};
use alluvium::fs::Fs;
use alluvium::fs::sim::{CallKind, Family, Fault, FaultRule, FileClass, SimFs};
use alluvium::{
    Db, Durability, ErrorKind, KeyspaceOptions, LogMode, Options, ReadMode, State, WriteBatch,
    WriteOptions,
};
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Nothing happens by itself.
fn quiet() -> KeyspaceOptions {
    KeyspaceOptions::new()
        .block_bytes(256)
        .level0_runs(64)
        .tier_runs(64)
}

/// Flushes and compactions all the time.
fn busy() -> KeyspaceOptions {
    KeyspaceOptions::new()
        .write_buffer_bytes(4 << 10)
        .block_bytes(256)
        .table_bytes(2 << 10)
        .level0_runs(2)
        .tier_runs(2)
        .size_ratio(2)
}

fn options() -> Options {
    quiet_options(quiet())
}

fn open(sim: &SimFs, options: &Options) -> Db {
    options
        .clone()
        .open_in(Fs::sim(sim, Path::new(ROOT)))
        .unwrap()
}

/// Ends the process and opens the database in the next one.
fn killed(sim: &SimFs, db: Db, options: &Options) -> (SimFs, Db) {
    let next = sim.kill();
    sim.crash_at(sim.call_count());
    drop(db);
    let db = open(&next, options);
    (next, db)
}

fn text(db: &Db) -> String {
    let entries = db.iter().map(|entry| {
        let (key, value) = entry.unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        format!("{}={}", text(&key), text(&value))
    });
    entries.collect::<Vec<_>>().join(" ")
}

fn synced() -> WriteOptions {
    WriteOptions::new().durability(Durability::Synced)
}

/// RocksDB #13155: the snapshot of an empty database has number 0, which was taken for "none".
#[test]
fn bug_01_a_snapshot_of_an_empty_database_holds_compactions_back() {
    let sim = SimFs::new(1);
    let db = open(&sim, &options());
    let empty = db.snapshot();
    assert_eq!(empty.seqno().get(), 0);
    db.put("k", "1").unwrap();
    let one = db.snapshot();
    db.delete("k").unwrap();
    db.flush().unwrap();
    db.compact().unwrap();
    assert_eq!(empty.get("k").unwrap(), None);
    assert_eq!(one.get("k").unwrap().unwrap(), b"1");
    assert_eq!(db.get("k").unwrap(), None);
}

/// RocksDB 7.1: a snapshot taken while a memtable was switched saw deleted keys again.
#[test]
fn bug_02_a_snapshot_during_a_memtable_switch_sees_one_instant() {
    let dir = TempDir::new("bug-02");
    let db = options()
        .background_threads(2)
        .default_keyspace(busy())
        .open(dir.path())
        .unwrap();
    db.put("key/0", "x").unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // One key lives at any instant: each batch deletes it and puts the next.
            for n in 0..6000u32 {
                let mut batch = WriteBatch::new();
                batch.delete(&db, format!("key/{}", n % 50));
                batch.put(&db, format!("key/{}", (n + 1) % 50), [7; 40]);
                db.write(&batch, WriteOptions::new()).unwrap();
            }
            stop.store(true, Ordering::Relaxed);
        });
        while !stop.load(Ordering::Relaxed) {
            let snapshot = db.snapshot();
            assert_eq!(snapshot.iter().count(), 1, "at {}", snapshot.seqno());
            assert_eq!(snapshot.iter().rev().count(), 1, "at {}", snapshot.seqno());
            let living = (0..50)
                .filter(|n| snapshot.get(format!("key/{n}")).unwrap().is_some())
                .count();
            assert_eq!(living, 1, "at {}", snapshot.seqno());
        }
    });
    assert!(10 < db.stats().flushes);
}

/// RocksDB 5.8.0, badger #1422: a tombstone was dropped above an older version of its key.
#[test]
fn bug_09_a_tombstone_stays_while_an_older_version_lies_below() {
    let sim = SimFs::new(9);
    let db = open(&sim, &options().default_keyspace(busy()));
    for n in 0..40 {
        db.put(format!("k{n:02}"), [b'v'; 60]).unwrap();
    }
    db.compact().unwrap();
    db.delete("k07").unwrap();
    // Many runs above, merged among themselves again and again by the policy.
    for round in 0..40 {
        db.put(format!("k{:02}", 6 + round % 3 * 2), [b'w'; 60])
            .unwrap();
        db.flush().unwrap();
        assert_eq!(db.get("k07").unwrap(), None, "round {round}");
        assert_eq!(db.range("k07"..="k07").count(), 0, "round {round}");
    }
    assert!(0 < db.stats().compactions);
}

/// TidesDB b4c14fc: tombstones were never dropped on one of two paths.
#[test]
fn bug_13_after_deleting_everything_a_compaction_leaves_nothing() {
    for style in alluvium::CompactionStyle::ALL {
        let sim = SimFs::new(13);
        let db = open(&sim, &options().default_keyspace(busy().compaction(style)));
        for n in 0..300u32 {
            db.put(n.to_be_bytes(), [1; 50]).unwrap();
        }
        for n in 0..300u32 {
            db.delete(n.to_be_bytes()).unwrap();
        }
        db.compact().unwrap();
        assert_eq!(db.verify().unwrap().entries, 0, "{style:?}");
    }
}

/// surrealkv #383: two entries of one batch with the same key were both kept, or mixed up.
#[test]
fn bug_17_of_a_key_written_twice_in_a_batch_the_later_counts() {
    let sim = SimFs::new(17);
    let options = options();
    let db = open(&sim, &options);
    let mut batch = WriteBatch::new();
    for n in 0..200 {
        batch.put(&db, "k", format!("{n}"));
    }
    batch.delete(&db, "gone");
    batch.put(&db, "back", "1");
    batch.delete(&db, "back");
    batch.put(&db, "back", "2");
    db.write(&batch, WriteOptions::new()).unwrap();
    let check = |db: &Db| {
        assert_eq!(text(db), "back=2 k=199");
        assert_eq!(db.iter().rev().count(), 2);
        assert_eq!(db.get("k").unwrap().unwrap(), b"199");
    };
    check(&db);
    let (_sim, db) = killed(&sim, db, &options);
    check(&db);
    db.flush().unwrap();
    check(&db);
    db.compact().unwrap();
    check(&db);
    assert_eq!(db.verify().unwrap().entries, 2);
}
