//! Bulk load: sorted entries become tables that count at one instant.

use crate::support::{ROOT, TempDir, names_ending, quiet_options};
use alluvium::fs::sim::{Family, Fault, FaultRule, SimFs};
use alluvium::{Db, ErrorKind, Keyspace, KeyspaceOptions, Options, Result};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn options() -> Options {
    let keyspace = KeyspaceOptions::new()
        .block_bytes(256)
        .table_bytes(4 << 10)
        .level0_runs(64);
    quiet_options(keyspace)
}

fn open(sim: &SimFs) -> Db {
    options().open_sim(sim, ROOT).unwrap()
}

fn orders(db: &Db) -> Keyspace {
    db.keyspace("orders", KeyspaceOptions::new()).unwrap()
}

fn key(n: u32) -> String {
    format!("k{n:05}")
}

fn pairs(keys: impl IntoIterator<Item = u32>, value: &str) -> Vec<(String, String)> {
    let pair = |n| (key(n), format!("{value} {n}"));
    keys.into_iter().map(pair).collect()
}

fn contents(space: &Keyspace) -> Vec<(String, String)> {
    let text = |bytes: alluvium::Slice| String::from_utf8(bytes.to_vec()).unwrap();
    let entries = space.iter().map(|entry| entry.unwrap());
    entries
        .map(|(key, value)| (text(key), text(value)))
        .collect()
}

fn tables(sim: &SimFs) -> usize {
    names_ending(sim, ".tbl").len()
}

#[test]
fn a_load_counts_at_its_commit_in_all_keyspaces() {
    let sim = SimFs::new(1);
    let db = open(&sim);
    let orders = orders(&db);
    db.put(key(3), "before").unwrap();
    let mut load = db.ingestion().unwrap();
    assert_eq!(load.add(&db, pairs(0..1_000, "loaded")).unwrap(), 1_000);
    assert_eq!(load.add(&db, pairs(1_000..1_500, "loaded")).unwrap(), 500);
    load.add(&orders, pairs([7], "loaded")).unwrap();
    assert_eq!(contents(&db), [(key(3), "before".to_owned())]);
    assert_eq!(orders.iter().count(), 0);
    let (before, mut iterator) = (db.snapshot(), db.iter());
    let seqno = load.commit().unwrap();
    assert_eq!(db.seqno(), seqno);
    assert_eq!(contents(&db), pairs(0..1_500, "loaded"));
    assert_eq!(contents(&orders), pairs([7], "loaded"));
    // Who began to read before sees nothing of it.
    assert_eq!(before.keyspace(&db).iter().count(), 1);
    assert_eq!(before.get(key(3)).unwrap().unwrap(), b"before");
    assert_eq!(iterator.next().unwrap().unwrap().1, b"before");
    assert!(iterator.next().is_none());
    let stats = db.stats().keyspaces[0].levels[0].clone();
    assert!(3 < stats.files(), "tables of the usual size");
}

/// Each of them is asked by get, by scans of both directions and under a snapshot, and once more after
/// each of two openings.
#[test]
fn a_load_is_newer_than_what_was_written_before_and_older_than_what_is_written_after() {
    let mut sim = SimFs::new(2);
    let mut db = open(&sim);
    for n in 0..30 {
        db.put(key(n), "in a table").unwrap();
    }
    db.flush().unwrap();
    for n in 10..40 {
        db.put(key(n), "in memory").unwrap();
    }
    db.delete(key(5)).unwrap();
    db.delete_range(key(20)..key(25)).unwrap();
    let mut load = db.ingestion().unwrap();
    load.add(&db, pairs((0..60).step_by(2), "loaded")).unwrap();
    // Written after the entries were added, and before they count.
    db.put(key(14), "meanwhile").unwrap();
    db.delete(key(16)).unwrap();
    load.commit().unwrap();
    db.put(key(18), "after").unwrap();
    db.delete(key(22)).unwrap();
    let expected = |n: u32| -> Option<String> {
        match n {
            18 => Some("after".to_owned()),
            22 => None,
            n if n < 60 && n % 2 == 0 => Some(format!("loaded {n}")),
            5 | 20..25 => None,
            n if n < 10 => Some("in a table".to_owned()),
            n if n < 40 => Some("in memory".to_owned()),
            _ => None,
        }
    };
    for opening in 0..3 {
        let snapshot = db.snapshot();
        let all: Vec<_> = (0..60)
            .filter_map(|n| Some((key(n), expected(n)?)))
            .collect();
        assert_eq!(contents(&db), all, "opening {opening}");
        let mut back: Vec<_> = db
            .iter()
            .rev()
            .map(|entry| entry.unwrap().0.to_vec())
            .collect();
        back.reverse();
        assert!(back.iter().eq(all.iter().map(|(key, _)| key.as_bytes())));
        for n in 0..60 {
            let wanted = expected(n).map(String::into_bytes);
            let found = db.get(key(n)).unwrap().map(|value| value.to_vec());
            assert_eq!(found, wanted, "opening {opening}: {n}");
            let found = snapshot.get(key(n)).unwrap().map(|value| value.to_vec());
            assert_eq!(found, wanted, "opening {opening}, snapshot: {n}");
        }
        drop(snapshot);
        match opening {
            0 => db.close().unwrap(),
            _ => {
                db.compact().unwrap();
                let next = sim.kill();
                drop(db);
                sim = next;
            }
        }
        db = open(&sim);
    }
    db.verify().unwrap();
}

/// Keys that begin with each other, and a turn at each of them.
#[test]
fn keys_that_begin_with_each_other_are_loaded() {
    let sim = SimFs::new(3);
    let db = open(&sim);
    let keys = ["a", "ab", "abc", "abcd", "b"];
    let mut load = db.ingestion().unwrap();
    load.add(&db, keys.iter().map(|key| (key, key))).unwrap();
    load.commit().unwrap();
    for (i, key) in keys.iter().enumerate() {
        let mut cursor = db.cursor();
        cursor.seek(key).unwrap();
        assert_eq!(cursor.entry().unwrap(), (key.as_bytes(), key.as_bytes()));
        cursor.prev().unwrap();
        let before = i.checked_sub(1).map(|i| keys[i].as_bytes());
        assert_eq!(cursor.key(), before);
        cursor.next().unwrap();
        assert_eq!(cursor.key().unwrap(), key.as_bytes());
    }
}

#[test]
fn what_does_not_ascend_or_is_too_large_is_refused_and_nothing_is_loaded() {
    let sim = SimFs::new(4);
    let db = open(&sim);
    let orders = orders(&db);
    let long = "k".repeat((64 << 10) + 1);
    let wrong = [
        (ErrorKind::InvalidArgument, vec!["b", "a"]),
        (ErrorKind::InvalidArgument, vec!["b", "b"]),
        (ErrorKind::TooLarge, vec!["b", &long]),
    ];
    for (kind, keys) in wrong {
        let mut load = db.ingestion().unwrap();
        load.add(&orders, pairs(0..100, "good")).unwrap();
        let error = load
            .add(&db, keys.iter().map(|key| (key, "v")))
            .unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        load.add(&orders, pairs(200..300, "good")).unwrap_err();
        assert_eq!(
            load.commit().unwrap_err().kind(),
            ErrorKind::InvalidArgument
        );
    }
    let mut load = db.ingestion().unwrap();
    load.add(&db, [("m", "v")]).unwrap();
    let error = load.add(&db, [("b", "v")]).unwrap_err();
    assert!(
        error.to_string().contains("\"b\" comes behind \"m\""),
        "{error}"
    );
    drop(load);
    let other = open(&SimFs::new(5));
    let mut load = db.ingestion().unwrap();
    assert!(load.add(&other, [("a", "v")]).is_err());
    drop(load);
    db.flush().unwrap();
    assert_eq!((db.iter().count(), orders.iter().count()), (0, 0));
    db.close().unwrap();
    assert_eq!(tables(&sim), 0);
}

#[test]
fn one_load_is_made_at_a_time_and_one_that_is_dropped_leaves_nothing() {
    let sim = SimFs::new(6);
    let db = open(&sim);
    let mut load = db.ingestion().unwrap();
    let error = db.ingestion().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.is_retryable());
    load.add(&db, pairs(0..1_000, "v")).unwrap();
    assert!(3 < tables(&sim));
    drop(load);
    db.put("look", "for work").unwrap();
    db.flush().unwrap();
    assert_eq!(tables(&sim), 1, "that of the put");
    let before = db.seqno();
    let empty = db.ingestion().unwrap();
    assert_eq!(empty.commit().unwrap(), before);
    let mut load = db.ingestion().unwrap();
    assert_eq!(load.add(&db, Vec::<(String, String)>::new()).unwrap(), 0);
    load.add(&db, pairs([1], "v")).unwrap();
    load.commit().unwrap();
    assert_eq!(db.iter().count(), 2);
}

#[test]
fn a_load_into_a_keyspace_that_is_dropped_meanwhile_is_refused() {
    let sim = SimFs::new(7);
    let db = open(&sim);
    let orders = orders(&db);
    let mut load = db.ingestion().unwrap();
    load.add(&db, pairs(0..10, "v")).unwrap();
    load.add(&orders, pairs(0..10, "v")).unwrap();
    db.drop_keyspace("orders").unwrap();
    assert_eq!(load.commit().unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(db.iter().count(), 0, "all of it or nothing");
    db.flush().unwrap();
    db.close().unwrap();
    assert_eq!(tables(&sim), 0);
}

#[test]
fn a_transaction_that_has_read_a_key_that_is_loaded_conflicts() {
    let sim = SimFs::new(8);
    let db = open(&sim);
    db.put(key(1), "before").unwrap();
    let mut by_key = db.begin();
    by_key.get(&db, key(1)).unwrap().unwrap();
    by_key.put(&db, "other", "v");
    let mut by_range = db.begin();
    assert_eq!(by_range.range(&db, key(50)..key(60)).count(), 0);
    by_range.put(&db, "other", "v");
    let mut elsewhere = db.begin();
    elsewhere.get(&db, key(9_999)).unwrap();
    elsewhere.put(&db, "another", "v");
    let mut load = db.ingestion().unwrap();
    load.add(&db, pairs(0..100, "loaded")).unwrap();
    load.commit().unwrap();
    assert_eq!(by_key.commit().unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(by_range.commit().unwrap_err().kind(), ErrorKind::Conflict);
    elsewhere.commit().unwrap();
    let swapped = db.compare_and_swap(key(1), Some(b"before"), Some(b"after"));
    assert_eq!(swapped.unwrap_err().kind(), ErrorKind::Conflict);
    db.compare_and_swap(key(1), Some(b"loaded 1"), Some(b"after"))
        .unwrap();
}

#[test]
fn loaded_values_of_a_keyspace_with_a_ttl_expire() {
    let sim = SimFs::new(9);
    let db = open(&sim);
    let hour = KeyspaceOptions::new().ttl(Some(Duration::from_secs(3600)));
    let readings = db.keyspace("readings", hour).unwrap();
    let mut load = db.ingestion().unwrap();
    load.add(&readings, pairs(0..10, "v")).unwrap();
    load.commit().unwrap();
    assert_eq!(contents(&readings), pairs(0..10, "v"));
    sim.advance(Duration::from_secs(3599));
    assert_eq!(readings.iter().count(), 10);
    sim.advance(Duration::from_secs(1));
    assert_eq!(readings.iter().count(), 0);
}

/// Keyspace `default` has a put before the load and another after it, `idle` one before, of which the
/// load knows nothing, and `orders` nothing else.
fn script(db: &Db) -> Result<()> {
    let orders = db.keyspace("orders", KeyspaceOptions::new())?;
    let idle = db.keyspace("idle", KeyspaceOptions::new())?;
    db.put("before", "v")?;
    idle.put("before", "v")?;
    let mut load = db.ingestion()?;
    load.add(db, pairs(0..60, "loaded"))?;
    load.add(&orders, pairs(0..60, "loaded"))?;
    let loaded = load.commit();
    db.put("after", "v")?;
    loaded.map(drop)
}

/// What is there of the load: all, or nothing.
fn loaded(db: &Db) -> bool {
    let is_loaded = db.get(key(0)).unwrap().is_some();
    let mut wanted = if is_loaded {
        pairs(0..60, "loaded")
    } else {
        Vec::new()
    };
    let mut found = contents(db);
    found.retain(|(key, _)| key.starts_with('k'));
    assert_eq!(found, wanted);
    if !db.keyspaces().contains(&"orders".to_owned()) {
        wanted.clear();
        assert!(!is_loaded);
        return false;
    }
    assert_eq!(contents(&orders(db)), wanted);
    is_loaded
}

#[test]
fn after_a_power_loss_at_any_call_a_load_is_there_whole_or_not_at_all() {
    let whole = SimFs::new(10);
    let db = open(&whole);
    let first = whole.call_count();
    script(&db).unwrap();
    let calls = whole.call_count() - first;
    assert!(20 < calls, "{calls}");
    let (mut there, mut images) = (0, 0);
    for at in 0..=calls {
        let sim = SimFs::new(10);
        let db = open(&sim);
        sim.crash_at(sim.call_count() + at);
        let done = script(&db);
        let is_done = done.is_ok() && !sim.is_crashed();
        for image in sim.images(&Family::ALL).take(40) {
            let again = open(&image.sim);
            let is_loaded = loaded(&again);
            assert!(is_loaded || !is_done, "call {at}: it was reported");
            // What was acknowledged before the load is there wherever the load is.
            if is_loaded {
                let idle = again.keyspace("idle", KeyspaceOptions::new()).unwrap();
                assert!(again.get("before").unwrap().is_some(), "call {at}");
                assert!(idle.get("before").unwrap().is_some(), "call {at}");
            }
            there += usize::from(is_loaded);
            images += 1;
            again.verify().unwrap();
        }
    }
    assert!(0 < there && there < images, "{there} of {images}");
}

/// Nothing of the keyspace that is loaded into has to be flushed, and so nothing else syncs the log.
#[test]
fn a_load_does_not_outlive_what_was_acknowledged_before_it_elsewhere() {
    for at in 0..40 {
        let sim = SimFs::new(12);
        let db = open(&sim);
        let orders = orders(&db);
        sim.crash_at(sim.call_count() + at);
        db.put("before", "v").unwrap();
        let load = db.ingestion().and_then(|mut load| {
            load.add(&orders, pairs(0..60, "loaded"))?;
            load.commit()
        });
        drop(load);
        for image in sim.images(&Family::ALL).take(40) {
            let again = open(&image.sim);
            let is_loaded = self::orders(&again).iter().count() != 0;
            let is_there = again.get("before").unwrap().is_some();
            assert!(is_there || !is_loaded, "call {at}, {}", image.id);
        }
    }
}

#[test]
fn whatever_call_fails_a_load_is_there_whole_or_not_at_all() {
    let whole = SimFs::new(11);
    let db = open(&whole);
    let first = whole.call_count();
    script(&db).unwrap();
    let calls = whole.call_count() - first;
    for fault in [Fault::Eio, Fault::Enospc] {
        for nth in 0..calls {
            let sim = SimFs::new(11);
            let db = open(&sim);
            sim.fail(FaultRule::new(fault).nth(nth + 1));
            let done = script(&db);
            sim.heal();
            let is_loaded = loaded(&db);
            assert!(is_loaded || done.is_err(), "{fault:?}, call {nth}");
            drop(db);
            let db = open(&sim.kill());
            assert!(
                loaded(&db) || done.is_err(),
                "{fault:?}, call {nth}: opened again"
            );
        }
    }
}

/// Writers, flushes and compactions go on beside loads over the same keys.
#[test]
fn loads_beside_writers_keep_the_order_of_all_writes() {
    let dir = TempDir::new("ingest");
    let keyspace = KeyspaceOptions::new()
        .write_buffer_bytes(8 << 10)
        .table_bytes(8 << 10)
        .level0_runs(2);
    let options = Options::new()
        .memory_bytes(8 << 20)
        .default_keyspace(keyspace);
    let db = options.open(dir.path()).unwrap();
    let has_ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Each key has one writer, who knows what he has written last.
        let writer = scope.spawn(|| {
            let mut round = 0u32;
            loop {
                round += 1;
                for n in (1..200).step_by(2) {
                    db.put(key(n), format!("written {round}")).unwrap();
                }
                if has_ended.load(Ordering::Relaxed) {
                    return round;
                }
            }
        });
        for round in 0..12 {
            let mut load = db.ingestion().unwrap();
            load.add(&db, pairs((0..200).step_by(2), &format!("load {round}")))
                .unwrap();
            load.commit().unwrap();
            for n in (0..200).step_by(2) {
                let found = db.get(key(n)).unwrap().unwrap();
                assert_eq!(found, format!("load {round} {n}").as_bytes());
            }
        }
        has_ended.store(true, Ordering::Relaxed);
        let last = format!("written {}", writer.join().unwrap());
        for n in (1..200).step_by(2) {
            assert_eq!(db.get(key(n)).unwrap().unwrap(), last.as_bytes());
        }
    });
    db.verify().unwrap();
    db.close().unwrap();
}
