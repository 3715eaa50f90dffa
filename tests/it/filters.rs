//! Compaction filters: values go when tables are rewritten, and nobody who reads sees them go.

use crate::support::{ROOT, TempDir, quiet_options};
use alluvium::filter::Decision;
use alluvium::fs::sim::SimFs;
use alluvium::{CompactionStyle, Db, KeyspaceOptions, Options, WriteOptions, merge};
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

/// Removes what is "gone", makes "new" of what is "old", and panics at what is "mad".
fn verdict(_: &[u8], value: &[u8]) -> Decision {
    match value {
        b"gone" => Decision::Remove,
        b"old" => Decision::Change(b"new".to_vec()),
        b"mad" => panic!("a filter's own"),
        _ => Decision::Keep,
    }
}

fn filtered() -> KeyspaceOptions {
    KeyspaceOptions::new()
        .level0_runs(64)
        .compaction_filter("verdict")
}

fn options(keyspace: KeyspaceOptions) -> Options {
    quiet_options(keyspace).compaction_filter("verdict", verdict)
}

fn machine() -> (SimFs, Db) {
    let sim = SimFs::new(3);
    let db = options(filtered()).open_sim(&sim, ROOT).unwrap();
    (sim, db)
}

fn get(db: &Db, key: &str) -> Option<String> {
    let value = db.get(key).unwrap();
    value.map(|value| String::from_utf8(value.to_vec()).unwrap())
}

fn contents(db: &Db) -> Vec<(String, String)> {
    let text = |bytes: alluvium::Slice| String::from_utf8(bytes.to_vec()).unwrap();
    let entries = db.iter().map(|entry| entry.unwrap());
    entries
        .map(|(key, value)| (text(key), text(value)))
        .collect()
}

fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = of
        .iter()
        .map(|(key, value)| (key.to_string(), value.to_string()));
    owned.collect()
}

#[test]
fn a_compaction_asks_the_filter_and_a_flush_does_not() {
    let (_sim, db) = machine();
    for (key, value) in [("a", "gone"), ("b", "old"), ("c", "mad"), ("d", "stays")] {
        db.put(key, value).unwrap();
    }
    db.flush().unwrap();
    let all = [("a", "gone"), ("b", "old"), ("c", "mad"), ("d", "stays")];
    assert_eq!(contents(&db), pairs(&all));
    db.compact().unwrap();
    let left = [("b", "new"), ("c", "mad"), ("d", "stays")];
    assert_eq!(contents(&db), pairs(&left));
    assert_eq!(get(&db, "a"), None);
    assert_eq!(db.verify().unwrap().entries, 3);
}

#[test]
fn what_a_removed_value_had_hidden_stays_hidden() {
    let sim = SimFs::new(5);
    // Two runs become one above what is older, which they are not merged with.
    let tiers = filtered()
        .compaction(CompactionStyle::Tiered)
        .level0_runs(2);
    let db = options(tiers.clone()).open_sim(&sim, ROOT).unwrap();
    db.put("a", "before").unwrap();
    db.put("z", "before").unwrap();
    db.compact().unwrap();
    for key in ["a", "b"] {
        db.put(key, "gone").unwrap();
        db.flush().unwrap();
    }
    db.put("look", "for work").unwrap();
    let levels = &db.stats().keyspaces[0].levels;
    assert_eq!(levels[1].runs.len(), 2, "one above the other");
    assert_eq!(levels[1].runs[0].tables[0].tombstones, 2);
    db.delete("look").unwrap();
    for _ in 0..2 {
        assert_eq!(contents(&db), pairs(&[("z", "before")]));
        db.compact().unwrap();
    }
    db.close().unwrap();
    let db = options(tiers).open_sim(&sim, ROOT).unwrap();
    assert_eq!(contents(&db), pairs(&[("z", "before")]));
}

#[test]
fn who_has_begun_to_read_sees_nothing_go() {
    let (_sim, db) = machine();
    db.put("a", "gone").unwrap();
    db.put("b", "old").unwrap();
    let snapshot = db.snapshot();
    let (mut iterator, tx) = (db.iter(), db.begin());
    db.put("c", "gone").unwrap();
    db.compact().unwrap();
    // What nobody reads has gone; the rest waits for its readers.
    assert_eq!(contents(&db), pairs(&[("a", "gone"), ("b", "old")]));
    assert_eq!(snapshot.get("a").unwrap().unwrap(), b"gone");
    assert_eq!(tx.get(&db, "b").unwrap().unwrap(), b"old");
    assert_eq!(iterator.next().unwrap().unwrap().1, b"gone");
    drop((snapshot, iterator, tx));
    db.compact().unwrap();
    assert_eq!(contents(&db), pairs(&[("b", "new")]));
}

/// A reader who begins while the filter is at work has seen the value, and goes on to see it.
#[test]
fn who_begins_to_read_while_the_filter_works_sees_nothing_go() {
    let dir = TempDir::new("filters");
    let ((asked, is_asked), (go_on, may_go_on)) = (channel(), channel());
    let (asked, may_go_on) = (Mutex::new(asked), Mutex::new(may_go_on));
    let slow = move |key: &[u8], value: &[u8]| {
        asked.lock().unwrap().send(()).unwrap();
        may_go_on.lock().unwrap().recv().unwrap();
        verdict(key, value)
    };
    let options = Options::new()
        .memory_bytes(8 << 20)
        .default_keyspace(filtered())
        .compaction_filter("verdict", slow);
    let db = options.open(dir.path()).unwrap();
    db.put("a", "gone").unwrap();
    db.flush().unwrap();
    let other = db.clone();
    let compaction = std::thread::spawn(move || other.compact());
    is_asked.recv().unwrap();
    let snapshot = db.snapshot();
    assert_eq!(snapshot.get("a").unwrap().unwrap(), b"gone");
    go_on.send(()).unwrap();
    compaction.join().unwrap().unwrap();
    assert_eq!(snapshot.get("a").unwrap().unwrap(), b"gone");
    assert_eq!(
        get(&db, "a").unwrap(),
        "gone",
        "the job was done without the filter"
    );
    drop(snapshot);
    go_on.send(()).unwrap();
    db.compact().unwrap();
    assert_eq!(get(&db, "a"), None);
    db.close().unwrap();
}

#[test]
fn a_conflict_is_a_write_and_no_filter() {
    let (_sim, db) = machine();
    db.put("a", "gone").unwrap();
    let mut tx = db.begin();
    assert!(tx.contains_key(&db, "a").unwrap());
    db.compact().unwrap();
    tx.put(&db, "b", "a was there");
    tx.commit().unwrap();
    db.compact().unwrap();
    assert_eq!(contents(&db), pairs(&[("b", "a was there")]));
}

#[test]
fn a_filter_that_is_not_registered_keeps_everything() {
    let (sim, db) = machine();
    db.put("a", "gone").unwrap();
    db.close().unwrap();
    let keyspace = KeyspaceOptions::new().level0_runs(64);
    let db = quiet_options(keyspace).open_sim(&sim, ROOT).unwrap();
    db.compact().unwrap();
    assert_eq!(get(&db, "a").unwrap(), "gone");
    db.close().unwrap();
    // The keyspace has its name still.
    let db = options(KeyspaceOptions::new())
        .open_sim(&sim, ROOT)
        .unwrap();
    db.compact().unwrap();
    assert_eq!(get(&db, "a"), None);
}

#[test]
fn a_keyspace_takes_another_filter_at_reopen() {
    let (sim, db) = machine();
    db.close().unwrap();
    let open = |name: &str| {
        let options = options(KeyspaceOptions::new().compaction_filter(name));
        let all = |_: &[u8], _: &[u8]| Decision::Remove;
        options.compaction_filter("all", all).open_sim(&sim, ROOT)
    };
    let db = open("").unwrap();
    db.put("a", "gone").unwrap();
    db.put("b", "stays").unwrap();
    db.compact().unwrap();
    assert_eq!(contents(&db).len(), 2, "none");
    db.close().unwrap();
    let db = open("all").unwrap();
    db.compact().unwrap();
    assert_eq!(contents(&db).len(), 0);
}

#[test]
fn a_value_that_is_changed_expires_when_it_would_have() {
    let (sim, db) = machine();
    let ttl = WriteOptions::new().ttl(Duration::from_secs(10));
    db.put_with("a", "old", ttl).unwrap();
    db.put_with("b", "gone", ttl).unwrap();
    db.compact().unwrap();
    assert_eq!(contents(&db), pairs(&[("a", "new")]));
    sim.advance(Duration::from_secs(10));
    assert_eq!(contents(&db), pairs(&[]));
}

/// Operands are no values yet; what they have become is one to the next compaction.
#[test]
fn merges_are_asked_about_once_they_are_a_value() {
    let sim = SimFs::new(4);
    let appended = filtered().merge_operator(merge::APPEND);
    let db = options(appended).open_sim(&sim, ROOT).unwrap();
    db.merge("a", "go").unwrap();
    db.merge("a", "ne").unwrap();
    db.compact().unwrap();
    assert_eq!(get(&db, "a").unwrap(), "gone");
    db.compact().unwrap();
    assert_eq!(get(&db, "a"), None);
    db.merge("a", "gone").unwrap();
    assert_eq!(get(&db, "a").unwrap(), "gone", "nothing lies under it");
}
