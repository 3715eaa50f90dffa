//! Scans of bounded work: a cursor that pauses where there is much that it does not show.

use crate::support::{ROOT, quiet_options};
use alluvium::fs::sim::SimFs;
use alluvium::{Cursor, Db, KeyspaceOptions, Result, WriteOptions};
use std::time::Duration;

fn key(n: u32) -> [u8; 4] {
    n.to_be_bytes()
}

/// A database with `entries`, of 10,000 that were written; the others are deleted.
fn desert(entries: &[u32]) -> (SimFs, Db) {
    let sim = SimFs::new(1);
    let keyspace = KeyspaceOptions::new().level0_runs(64);
    let db = quiet_options(keyspace).open_sim(&sim, ROOT).unwrap();
    for n in 0..10_000 {
        db.put(key(n), "x").unwrap();
    }
    db.flush().unwrap();
    for n in (0..10_000).filter(|n| !entries.contains(n)) {
        db.delete(key(n)).unwrap();
    }
    (sim, db)
}

/// Everything from here on, and how often it paused.
fn walk(cursor: &mut Cursor, step: fn(&mut Cursor) -> Result<()>) -> (Vec<u32>, usize) {
    let (mut keys, mut pauses) = (Vec::new(), 0);
    loop {
        step(cursor).unwrap();
        match (cursor.key(), cursor.paused_at()) {
            (Some(key), None) => keys.push(u32::from_be_bytes(key.try_into().unwrap())),
            (None, Some(_)) => pauses += 1,
            (None, None) => return (keys, pauses),
            (Some(_), Some(_)) => panic!("it stands on an entry and has paused"),
        }
    }
}

#[test]
fn a_desert_is_crossed_in_steps_of_the_size_that_was_asked_for() {
    let entries = [0, 3_000, 3_001, 9_999];
    let (_sim, db) = desert(&entries);
    for step in [Cursor::next, Cursor::prev] {
        let mut cursor = db.cursor();
        let (mut all, pauses) = walk(&mut cursor, step);
        all.sort_unstable();
        assert_eq!((&all[..], pauses), (&entries[..], 0), "without a limit");
        for steps in [0, 1, 10, 1_000] {
            cursor = db.cursor();
            cursor.limit_steps(Some(steps));
            let (mut all, pauses) = walk(&mut cursor, step);
            all.sort_unstable();
            assert_eq!(all, entries, "{steps}");
            // Each key is a deletion, and a value under it.
            let most = 20_000 / steps.max(1) + 4;
            assert!((most / 4..=most).contains(&pauses), "{steps}: {pauses}");
        }
    }
}

#[test]
fn who_pauses_can_turn_round() {
    let (_sim, db) = desert(&[10, 5_000]);
    let mut cursor = db.cursor();
    cursor.seek(key(10)).unwrap();
    cursor.limit_steps(Some(7));
    cursor.next().unwrap();
    assert!(!cursor.is_valid() && cursor.entry().is_none());
    assert!(cursor.paused_at().unwrap() < &key(20)[..]);
    // Back over what it has looked at, to the entry that it came from.
    while cursor.paused_at().is_some() {
        cursor.prev().unwrap();
    }
    assert_eq!(cursor.key().unwrap(), key(10));
    cursor.limit_steps(None);
    cursor.next().unwrap();
    assert_eq!(cursor.key().unwrap(), key(5_000));
    assert_eq!(cursor.paused_at(), None);
}

#[test]
fn another_cursor_goes_on_where_one_has_paused() {
    let (_sim, db) = desert(&[10, 9_000]);
    let mut at = key(11).to_vec();
    for _ in 0..100 {
        let mut cursor = db.cursor();
        cursor.limit_steps(Some(500));
        cursor.seek(&at).unwrap();
        match cursor.paused_at() {
            Some(key) => {
                assert!(&at[..] < key, "it gets on");
                at = key.to_vec();
            }
            None => {
                assert_eq!(cursor.key().unwrap(), key(9_000));
                return;
            }
        }
    }
    panic!("it did not get there");
}

#[test]
fn what_is_too_new_or_has_expired_or_was_deleted_with_a_range_counts_as_well() {
    let (sim, db) = desert(&[]);
    let pauses = |cursor: &mut Cursor| {
        cursor.limit_steps(Some(100));
        walk(cursor, Cursor::next).1
    };
    db.compact().unwrap();
    assert_eq!(pauses(&mut db.cursor()), 0, "nothing is there");
    let snapshot = db.snapshot();
    let hour = WriteOptions::new().ttl(Duration::from_secs(3600));
    for n in 0..1_000 {
        db.put_with(key(n), "x", hour).unwrap();
    }
    let newer = pauses(&mut snapshot.cursor());
    assert!((8..=10).contains(&newer), "{newer}");
    sim.advance(Duration::from_secs(3600));
    let expired = pauses(&mut db.cursor());
    assert!((8..=20).contains(&expired), "{expired}");
    drop(snapshot);
    for n in 0..1_000 {
        db.put(key(n), "x").unwrap();
    }
    db.delete_range(..).unwrap();
    let in_memory = pauses(&mut db.cursor());
    assert!((10..=30).contains(&in_memory), "{in_memory}");
    db.flush().unwrap();
    // Over tables it jumps.
    assert_eq!(pauses(&mut db.cursor()), 0);
}

#[test]
fn the_end_is_no_pause_and_a_scan_of_what_is_there_never_pauses() {
    let (_sim, db) = desert(&[10, 11, 12]);
    let mut cursor = db.cursor_over(key(10)..=key(12));
    cursor.limit_steps(Some(1));
    // Each is a value alone, but what lies behind the last is not looked at.
    assert_eq!(walk(&mut cursor, Cursor::next), (vec![10, 11, 12], 0));
    assert_eq!(walk(&mut cursor, Cursor::prev), (vec![12, 11, 10], 0));
}
