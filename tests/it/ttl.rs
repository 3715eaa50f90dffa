//! Values that expire: exactly, for every reader, whatever the wall clock does.

use crate::support::{ROOT, TempDir, quiet_options};
use alluvium::fs::Fs;
use alluvium::fs::sim::SimFs;
use alluvium::{
    BackupDirectory, Db, Durability, ErrorKind, Keyspace, KeyspaceOptions, Options, WriteBatch,
    WriteOptions, merge,
};
use std::path::Path;
use std::time::{Duration, SystemTime};

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

/// A keyspace that nothing is compacted in unless it is asked for, or expires.
fn options() -> Options {
    quiet_options(KeyspaceOptions::new().level0_runs(64).table_bytes(4 << 10))
}

fn machine() -> (SimFs, Db) {
    let sim = SimFs::new(3);
    let db = options().open_sim(&sim, ROOT).unwrap();
    (sim, db)
}

fn ttl(length: Duration) -> WriteOptions {
    WriteOptions::new().ttl(length)
}

/// What every kind of read says of `key`, which must be the same.
fn value(db: &Keyspace, key: &str) -> Option<Vec<u8>> {
    let expected = db.get(key).unwrap().map(|value| value.to_vec());
    let is = |found: Option<&[u8]>, how: &str| {
        assert_eq!(found, expected.as_deref(), "{key} by {how}");
    };
    db.get_with(key, |found| is(found, "get_with")).unwrap();
    assert_eq!(db.contains_key(key).unwrap(), expected.is_some());
    let many = db.get_many([key, "no such key"]).unwrap();
    is(many[0].as_deref(), "get_many");
    let range = || db.range(key..=key);
    let one = |entry: Option<alluvium::Result<(alluvium::Slice, alluvium::Slice)>>| {
        entry.map(|entry| entry.unwrap().1.to_vec())
    };
    is(one(range().next()).as_deref(), "an iterator");
    is(
        one(range().next_back()).as_deref(),
        "an iterator going back",
    );
    let mut cursor = db.cursor();
    cursor.seek(key).unwrap();
    let at_key = |entry: Option<(&[u8], &[u8])>| {
        let entry = entry.filter(|(found, _)| *found == key.as_bytes());
        entry.map(|(_, value)| value.to_vec())
    };
    is(at_key(cursor.entry()).as_deref(), "a seek");
    cursor.seek_for_prev(key).unwrap();
    is(at_key(cursor.entry()).as_deref(), "a seek back");
    expected
}

fn entries(db: &Keyspace) -> u64 {
    let view = db.iter().count() as u64;
    assert_eq!(db.iter().rev().count() as u64, view);
    view
}

/// Entries in tables, whatever they say.
fn stored(db: &Db) -> u64 {
    db.verify().unwrap().entries
}

/// Where a value lies when it expires: each is a way for a test to go.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Layer {
    Memory,
    Table,
    LastLevel,
}

const LAYERS: [Layer; 3] = [Layer::Memory, Layer::Table, Layer::LastLevel];

fn settle(db: &Db, layer: Layer) {
    match layer {
        Layer::Memory => {}
        Layer::Table => db.flush().unwrap(),
        Layer::LastLevel => db.compact().unwrap(),
    }
}

#[test]
fn a_value_is_there_until_its_last_millisecond_and_then_for_nobody() {
    for layer in LAYERS {
        let (sim, db) = machine();
        db.put_with("k", "v", ttl(10 * SECOND)).unwrap();
        settle(&db, layer);
        sim.advance(10 * SECOND - MILLISECOND);
        assert_eq!(value(&db, "k").unwrap(), b"v", "{layer:?}");
        sim.advance(MILLISECOND);
        assert_eq!(value(&db, "k"), None, "{layer:?}");
        assert_eq!(entries(&db), 0);
        let tx = db.begin();
        assert_eq!(tx.get(&db, "k").unwrap(), None);
        assert_eq!(tx.iter(&db).count(), 0);
    }
}

#[test]
fn what_it_had_hidden_stays_hidden() {
    for layer in LAYERS {
        for hidden in LAYERS {
            let (sim, db) = machine();
            for key in ["j", "k", "l"] {
                db.put(key, "old").unwrap();
            }
            settle(&db, hidden);
            db.put_with("k", "new", ttl(SECOND)).unwrap();
            settle(&db, layer);
            sim.advance(SECOND);
            for _ in 0..2 {
                assert_eq!(value(&db, "k"), None, "{hidden:?} under {layer:?}");
                assert_eq!(entries(&db), 2);
                db.flush().unwrap();
            }
            db.compact().unwrap();
            assert_eq!(value(&db, "k"), None);
            db.close().unwrap();
            let db = options().open_sim(&sim, ROOT).unwrap();
            assert_eq!(value(&db, "k"), None);
            assert_eq!(value(&db, "l").unwrap(), b"old");
        }
    }
}

#[test]
fn a_later_write_counts_and_not_what_it_replaced() {
    let (sim, db) = machine();
    for key in ["for ever", "longer", "gone", "back"] {
        db.put_with(key, "first", ttl(SECOND)).unwrap();
    }
    db.put("for ever", "second").unwrap();
    db.put_with("longer", "second", ttl(3 * SECOND)).unwrap();
    db.delete("gone").unwrap();
    sim.advance(2 * SECOND);
    assert_eq!(value(&db, "back"), None);
    db.put_if_absent("back", "third").unwrap();
    for _ in 0..2 {
        assert_eq!(value(&db, "for ever").unwrap(), b"second");
        assert_eq!(value(&db, "longer").unwrap(), b"second");
        assert_eq!(value(&db, "gone"), None);
        assert_eq!(value(&db, "back").unwrap(), b"third");
        db.compact().unwrap();
    }
    sim.advance(2 * SECOND);
    assert_eq!(value(&db, "longer"), None);
    assert_eq!(entries(&db), 2);
}

#[test]
fn a_keyspace_has_a_ttl_for_what_says_nothing() {
    let (sim, db) = machine();
    let minute = KeyspaceOptions::new().ttl(Some(60 * SECOND));
    let sessions = db.keyspace("sessions", minute).unwrap();
    sessions.put("default", "").unwrap();
    sessions.put_with("short", "", ttl(SECOND)).unwrap();
    sessions
        .put_with("for ever", "", ttl(Duration::MAX))
        .unwrap();
    sessions.put_if_absent("if absent", "").unwrap();
    sessions.update("updated", |_| Some(Vec::new())).unwrap();
    let mut batch = WriteBatch::new();
    batch.put(&sessions, "in a batch", "");
    batch.put_with_ttl(&sessions, "long in a batch", "", 100 * SECOND);
    batch.put(&db, "elsewhere", "");
    db.write(&batch, WriteOptions::default()).unwrap();
    db.transaction(|tx| {
        tx.put(&sessions, "in a transaction", "");
        tx.put_with_ttl(&sessions, "long in a transaction", "", 100 * SECOND);
        Ok(())
    })
    .unwrap();
    let keys = |expected: &[&str]| {
        let keys = sessions.iter().map(|entry| entry.unwrap().0.to_vec());
        let keys: Vec<String> = keys.map(|key| String::from_utf8(key).unwrap()).collect();
        assert_eq!(keys, expected);
    };
    assert_eq!(entries(&sessions), 9);
    sim.advance(59 * SECOND);
    assert_eq!(entries(&sessions), 8, "all but the short one");
    sim.advance(SECOND);
    keys(&["for ever", "long in a batch", "long in a transaction"]);
    sim.advance(40 * SECOND);
    keys(&["for ever"]);
    assert_eq!(value(&db, "elsewhere").unwrap(), b"");
}

#[test]
fn a_keyspace_keeps_its_ttl_until_it_is_given_another() {
    let (sim, mut db) = machine();
    let with = |ttl| KeyspaceOptions::new().ttl(ttl);
    let unset = KeyspaceOptions::new;
    let mut n = 0u32;
    for (asked, lives) in [
        (with(Some(SECOND)), 1),
        (unset(), 1),
        (with(Some(5 * SECOND)), 5),
        (unset(), 5),
        (with(None), 1000),
        (unset(), 1000),
    ] {
        let k = db.keyspace("k", asked).unwrap();
        for reopens in [false, true] {
            n += 1;
            let key = n.to_string();
            k.put(&key, "").unwrap();
            sim.advance(lives * SECOND - MILLISECOND);
            assert_eq!(value(&k, &key).unwrap(), b"");
            sim.advance(MILLISECOND);
            assert_eq!(value(&k, &key).is_none(), lives < 1000);
            if reopens {
                db.close().unwrap();
                db = options().open_sim(&sim, ROOT).unwrap();
                break;
            }
        }
    }
}

#[test]
fn the_default_keyspace_takes_another_ttl_at_reopen() {
    let sim = SimFs::new(5);
    let open = |ttl| {
        let keyspace = KeyspaceOptions::new().level0_runs(64).ttl(ttl);
        quiet_options(keyspace).open_sim(&sim, ROOT).unwrap()
    };
    let db = open(Some(SECOND));
    db.put("short", "").unwrap();
    db.close().unwrap();
    let db = open(None);
    db.put("for ever", "").unwrap();
    sim.advance(SECOND);
    assert_eq!(value(&db, "short"), None, "written with a ttl");
    sim.advance(1_000_000 * SECOND);
    assert_eq!(value(&db, "for ever").unwrap(), b"");
}

#[test]
fn a_snapshot_and_an_iterator_go_on_to_see_what_they_saw() {
    for layer in LAYERS {
        let (sim, db) = machine();
        db.put("k", "old").unwrap();
        settle(&db, layer);
        db.put_with("k", "v", ttl(SECOND)).unwrap();
        settle(&db, layer);
        let snapshot = db.snapshot();
        let mut iterator = db.iter();
        let tx = db.begin();
        sim.advance(SECOND);
        let late = db.snapshot();
        assert_eq!(value(&db, "k"), None);
        db.put("other", "").unwrap();
        for _ in 0..3 {
            assert_eq!(snapshot.get("k").unwrap().unwrap(), b"v", "{layer:?}");
            assert_eq!(snapshot.iter().count(), 1);
            assert_eq!(tx.get(&db, "k").unwrap().unwrap(), b"v");
            assert_eq!(late.get("k").unwrap(), None);
            assert_eq!(late.iter().count(), 0);
            db.compact().unwrap();
        }
        assert_eq!(iterator.next().unwrap().unwrap().1, b"v");
        drop((snapshot, tx, iterator));
        db.compact().unwrap();
        assert_eq!(late.get("k").unwrap(), None);
        assert_eq!(value(&db, "k"), None);
        drop(late);
        db.compact().unwrap();
        assert_eq!(stored(&db), 1, "the other one");
    }
}

#[test]
fn a_compaction_gives_the_space_back() {
    let (sim, db) = machine();
    for n in 0..1000u32 {
        let key = n.to_be_bytes();
        match n % 10 {
            0 => db.put(key, [7; 100]).unwrap(),
            _ => db.put_with(key, [7; 100], ttl(SECOND)).unwrap(),
        }
    }
    db.compact().unwrap();
    assert_eq!(stored(&db), 1000);
    sim.advance(SECOND);
    db.compact().unwrap();
    assert_eq!((stored(&db), entries(&db)), (100, 100));
}

/// Nobody asks for a compaction: a table of which half has expired is rewritten by the background,
/// in the last level to nothing, above older tables to deletions without values.
#[test]
fn half_expired_tables_are_rewritten_without_being_asked() {
    let (sim, db) = machine();
    let fill = |length| {
        for n in 0..1000u32 {
            db.put_with(n.to_be_bytes(), [7; 100], ttl(length)).unwrap();
        }
    };
    fill(SECOND);
    db.compact().unwrap();
    let bytes = db.verify().unwrap().bytes;
    fill(10 * SECOND);
    db.flush().unwrap();
    assert_eq!(stored(&db), 2000);
    let work = || db.put_with("zzz", "", ttl(SECOND)).unwrap();
    work();
    assert_eq!(stored(&db), 2000, "nothing has expired");
    sim.advance(SECOND);
    work();
    assert_eq!(stored(&db), 1000, "the last level is empty");
    assert_eq!(entries(&db), 1001);
    sim.advance(9 * SECOND);
    work();
    assert_eq!(entries(&db), 1);
    assert!(db.verify().unwrap().bytes < bytes / 4);
}

#[test]
fn a_wall_clock_that_is_set_changes_nothing_while_the_database_is_open() {
    let (sim, db) = machine();
    db.put_with("k", "v", ttl(10 * SECOND)).unwrap();
    sim.set_wall(SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 33));
    assert_eq!(value(&db, "k").unwrap(), b"v");
    sim.set_wall(SystemTime::UNIX_EPOCH);
    sim.advance(10 * SECOND);
    assert_eq!(value(&db, "k"), None);
}

#[test]
fn time_goes_on_while_the_database_is_closed() {
    let (sim, db) = machine();
    db.put_with("short", "", ttl(10 * SECOND)).unwrap();
    db.put_with("long", "", ttl(100 * SECOND)).unwrap();
    db.close().unwrap();
    sim.advance(50 * SECOND);
    let db = options().open_sim(&sim, ROOT).unwrap();
    assert_eq!(value(&db, "short"), None);
    assert_eq!(value(&db, "long").unwrap(), b"");
}

/// The wall clock is set back before each open, by an hour or to where it all began.
#[test]
fn a_clock_that_was_set_back_never_brings_a_value_back() {
    for layer in LAYERS {
        for crash in [false, true] {
            let (mut sim, db) = machine();
            let start = sim_wall(&sim);
            db.put_with("k", "v", ttl(10 * SECOND)).unwrap();
            db.put_with("long", "v", ttl(3600 * SECOND)).unwrap();
            settle(&db, layer);
            sim.advance(10 * SECOND);
            assert_eq!(value(&db, "k"), None);
            // The mark is written by the background, within a second or two.
            sim.advance(SECOND);
            db.put("anything", "").unwrap();
            match crash {
                true => {
                    drop(db);
                    sim = sim.kill();
                }
                false => db.close().unwrap(),
            }
            for wall in [start - 3600 * SECOND, SystemTime::UNIX_EPOCH, start] {
                sim.set_wall(wall);
                let db = options().open_sim(&sim, ROOT).unwrap();
                assert_eq!(value(&db, "k"), None, "{layer:?}, crash: {crash}");
                assert_eq!(value(&db, "long").unwrap(), b"v");
                db.close().unwrap();
            }
        }
    }
}

fn sim_wall(sim: &SimFs) -> SystemTime {
    Fs::sim(sim, Path::new(ROOT)).env().wall()
}

#[test]
fn a_batch_counts_from_the_call_and_can_be_written_again() {
    let (sim, db) = machine();
    let mut batch = WriteBatch::new();
    batch.put_with_ttl(&db, "k", "v", 10 * SECOND);
    sim.advance(6 * SECOND);
    db.write(&batch, WriteOptions::default()).unwrap();
    assert_eq!(value(&db, "k").unwrap(), b"v");
    sim.advance(4 * SECOND);
    assert_eq!(value(&db, "k"), None);
    db.write(&batch, WriteOptions::default()).unwrap();
    assert_eq!(value(&db, "k"), None, "it has expired already");
    batch.clear();
    batch.put_with_ttl(&db, "k", "v", Duration::ZERO);
    db.put("k", "before").unwrap();
    db.write(&batch, WriteOptions::default()).unwrap();
    assert_eq!(value(&db, "k"), None, "at once");
}

#[test]
fn a_transaction_sees_its_own_value_to_its_end() {
    let (sim, db) = machine();
    let mut tx = db.begin();
    tx.put_with_ttl(&db, "k", "v", SECOND);
    sim.advance(2 * SECOND);
    assert_eq!(tx.get(&db, "k").unwrap().unwrap(), b"v");
    assert_eq!(tx.iter(&db).count(), 1);
    tx.commit().unwrap();
    assert_eq!(value(&db, "k"), None);
}

/// That a value expires is no write: the transaction that read it happened before.
#[test]
fn a_value_that_expires_meanwhile_is_no_conflict() {
    let (sim, db) = machine();
    db.put_with("lease", "mine", ttl(SECOND)).unwrap();
    let mut tx = db.begin();
    assert!(tx.contains_key(&db, "lease").unwrap());
    tx.put(&db, "done", "");
    sim.advance(2 * SECOND);
    tx.commit().unwrap();
    let mut tx = db.begin();
    assert!(!tx.contains_key(&db, "lease").unwrap());
    tx.put(&db, "done", "again");
    db.put_with("lease", "yours", ttl(SECOND)).unwrap();
    assert_eq!(tx.commit().unwrap_err().kind(), ErrorKind::Conflict);
}

#[test]
fn a_swap_finds_no_value_where_one_has_expired() {
    let (sim, db) = machine();
    db.put_with("leader", "one", ttl(SECOND)).unwrap();
    let late = db.put_if_absent("leader", "two").unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Conflict);
    sim.advance(SECOND);
    let gone = db.compare_and_swap("leader", Some(b"one"), Some(b"two"));
    assert_eq!(gone.unwrap_err().kind(), ErrorKind::Conflict);
    db.put_if_absent("leader", "two").unwrap();
    assert_eq!(value(&db, "leader").unwrap(), b"two");
}

/// A value takes with it what it was, and not what was merged into it.
#[test]
fn merges_outlive_the_value_that_they_were_merged_into() {
    for layer in LAYERS {
        for compacts_before in [false, true] {
            let sim = SimFs::new(9);
            let counters = KeyspaceOptions::new()
                .level0_runs(64)
                .merge_operator(merge::COUNTER);
            let db = quiet_options(counters).open_sim(&sim, ROOT).unwrap();
            let number = |n: i64| n.to_le_bytes();
            db.put_with("k", number(100), ttl(10 * SECOND)).unwrap();
            settle(&db, layer);
            for n in 1..=3 {
                db.merge("k", number(n)).unwrap();
            }
            settle(&db, layer);
            assert_eq!(value(&db, "k").unwrap(), number(106));
            if compacts_before {
                db.compact().unwrap();
                assert_eq!(value(&db, "k").unwrap(), number(106));
            }
            let snapshot = db.snapshot();
            sim.advance(10 * SECOND);
            for _ in 0..2 {
                assert_eq!(value(&db, "k").unwrap(), number(6), "{layer:?}");
                assert_eq!(snapshot.get("k").unwrap().unwrap(), number(106));
                db.compact().unwrap();
            }
            drop(snapshot);
            db.compact().unwrap();
            assert_eq!(value(&db, "k").unwrap(), number(6));
            assert_eq!(stored(&db), 1);
        }
    }
}

#[test]
fn a_ttl_where_there_is_no_value_is_refused() {
    let (_sim, db) = machine();
    let ttl = ttl(SECOND);
    let counters = KeyspaceOptions::new().merge_operator(merge::COUNTER);
    let both = counters.clone().ttl(Some(SECOND));
    let keyspace = db.keyspace("counters", counters).unwrap();
    let mut batch = WriteBatch::new();
    batch.put(&db, "k", "v");
    let refusals = [
        db.delete_with("k", ttl).unwrap_err(),
        db.delete_range_with(.., ttl).unwrap_err(),
        keyspace.merge_with("k", [0; 8], ttl).unwrap_err(),
        db.write(&batch, ttl).unwrap_err(),
        db.begin().commit_with(ttl).unwrap_err(),
        db.keyspace("both", both).unwrap_err(),
        db.keyspace("counters", KeyspaceOptions::new().ttl(Some(SECOND)))
            .unwrap_err(),
    ];
    for error in refusals {
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert!(error.to_string().contains("ttl"), "{error}");
    }
    assert_eq!(entries(&db), 0);
}

#[test]
fn copies_expire_with_their_source() {
    let dir = TempDir::new("ttl");
    let open = |name: &str| options().open(dir.path().join(name)).unwrap();
    let db = open("db");
    db.put_with("k", "v", ttl(2 * SECOND)).unwrap();
    db.put_with("long", "v", ttl(3600 * SECOND)).unwrap();
    let seconds = std::time::Instant::now();
    db.checkpoint(dir.path().join("copy")).unwrap();
    let backups = BackupDirectory::open(dir.path().join("backups")).unwrap();
    let point = backups.create(&db).unwrap().backup.id;
    backups.restore(point, dir.path().join("restored")).unwrap();
    let copies = [open("copy"), open("restored")];
    for copy in &copies {
        if seconds.elapsed() < SECOND {
            assert_eq!(value(copy, "k").unwrap(), b"v");
        }
    }
    std::thread::sleep(2 * SECOND);
    for copy in &copies {
        assert_eq!(value(copy, "k"), None);
        assert_eq!(value(copy, "long").unwrap(), b"v");
    }
}

#[test]
fn a_repair_without_a_manifest_keeps_expiries() {
    for layer in LAYERS {
        let (sim, db) = machine();
        db.put_with("k", "v", ttl(10 * SECOND)).unwrap();
        let synced = WriteOptions::new().durability(Durability::Synced);
        db.put_with("long", "v", synced.ttl(3600 * SECOND)).unwrap();
        settle(&db, layer);
        db.close().unwrap();
        let fs = Fs::sim(&sim, Path::new(ROOT));
        for entry in fs.list().unwrap() {
            if entry.name == "CURRENT" || entry.name.ends_with(".manifest") {
                fs.remove(alluvium::fs::FileName::parse(&entry.name).unwrap())
                    .unwrap();
            }
        }
        options().repair_in(fs).unwrap();
        let db = options().open_sim(&sim, ROOT).unwrap();
        let snapshot = db.snapshot();
        assert_eq!(value(&db, "k").unwrap(), b"v", "{layer:?}");
        sim.advance(10 * SECOND);
        assert_eq!(value(&db, "k"), None);
        db.compact().unwrap();
        assert_eq!(snapshot.get("k").unwrap().unwrap(), b"v");
        assert_eq!(value(&db, "long").unwrap(), b"v");
    }
}
