//! Space, planned before a compaction begins.

use crate::support::{ROOT, quiet_options, wait_until};
use alluvium::fs::Fs;
use alluvium::fs::sim::{CallKind, Fault, FaultRule, SimFs};
use alluvium::listener::Event;
use alluvium::{Db, KeyspaceOptions, Options, State};
use std::path::Path;
use std::sync::{Arc, Mutex};

type Told = Arc<Mutex<Vec<(u64, u64)>>>;

/// Memtables of 32 KiB, tables of 8 KiB; compactions from `runs` runs on.
fn options(runs: u32) -> Options {
    let keyspace = KeyspaceOptions::new()
        .write_buffer_bytes(32 << 10)
        .table_bytes(8 << 10)
        .level0_runs(runs);
    quiet_options(keyspace)
}

/// Twelve runs of level 0 over the same keys, 30 KB each, that nothing has merged yet.
fn piled_up() -> SimFs {
    let sim = SimFs::new(1);
    let db = options(64).open_sim(&sim, ROOT).unwrap();
    for round in 0..12u8 {
        write(&db, round);
        db.flush().unwrap();
    }
    assert_eq!(db.stats().compactions, 0);
    db.close().unwrap();
    sim
}

fn write(db: &Db, round: u8) {
    for n in 0..60u32 {
        db.put(n.to_be_bytes(), [round; 500]).unwrap();
    }
}

fn free(sim: &SimFs) -> u64 {
    Fs::sim(sim, Path::new(ROOT)).free_space().unwrap()
}

/// Compacts from ten runs on, and takes down what it is told.
fn open_to_compact(sim: &SimFs, free: u64) -> (Db, Told) {
    let told = Told::default();
    let list = Arc::clone(&told);
    sim.set_free(Some(free));
    let options = options(10).listener(move |event: &Event<'_>| {
        if let Event::CompactionPutOff {
            needs_bytes,
            free_bytes,
            ..
        } = event
        {
            list.lock().unwrap().push((*needs_bytes, *free_bytes));
        }
    });
    (options.open_sim(sim, ROOT).unwrap(), told)
}

/// What waits: what it may write, and what it could have.
fn put_off(db: &Db) -> Option<(u64, u64)> {
    let put_off = db.why_space().unwrap().put_off?;
    assert_eq!(put_off.keyspace, "default");
    Some((put_off.needs_bytes, put_off.free_bytes))
}

#[test]
fn one_that_does_not_fit_is_put_off_and_writes_go_on() {
    let sim = piled_up();
    let (db, told) = open_to_compact(&sim, 130 << 10);
    let (needs, had) = put_off(&db).unwrap();
    assert!(had < needs, "{had} of {needs}");
    assert_eq!(*told.lock().unwrap(), [(needs, had)]);
    let text = db.why_space().unwrap().to_string();
    assert!(text.contains("for a compaction of default"), "{text}");
    let before = free(&sim);
    write(&db, 99);
    assert!(matches!(db.state(), State::Ok), "{}", db.state());
    // A segment of the log at most: no table was begun.
    assert!(before - free(&sim) <= 64 << 10);
    assert_eq!(db.stats().compaction_bytes_written, 0);
    assert_eq!(told.lock().unwrap().len(), 1, "once");
    // There is space again: by itself, with the next round.
    sim.set_free(None);
    db.put("k", "v").unwrap();
    assert!(0 < db.stats().compaction_bytes_written);
    assert_eq!(put_off(&db), None);
    assert_eq!(db.iter().count(), 61);
}

#[test]
fn one_of_another_keyspace_that_fits_goes_first() {
    let sim = piled_up();
    let (db, _) = open_to_compact(&sim, 200 << 10);
    sim.set_free(Some(110 << 10));
    let small = db.keyspace("small", KeyspaceOptions::new().level0_runs(2));
    let small = small.unwrap();
    for round in 0..3 {
        small.put("k", [round; 500]).unwrap();
        db.flush().unwrap();
    }
    assert!(put_off(&db).is_some());
    let stats = db.stats();
    assert!(0 < stats.compaction_bytes_written && stats.compaction_bytes_written < 20_000);
}

#[test]
fn workers_look_for_space_that_has_come_back() {
    let sim = piled_up();
    sim.set_free(Some(130 << 10));
    let db = options(10)
        .background_threads(2)
        .open_sim(&sim, ROOT)
        .unwrap();
    wait_until(&db, "it is put off", |db| put_off(db).is_some());
    assert_eq!(db.stats().compaction_bytes_written, 0);
    sim.set_free(None);
    wait_until(&db, "it waits no more", |db| {
        0 < db.stats().compaction_bytes_written && put_off(db).is_none()
    });
    db.close().unwrap();
}

#[test]
fn once_writers_are_slowed_down_it_is_tried_all_the_same() {
    let sim = piled_up();
    let (db, _) = open_to_compact(&sim, 130 << 10);
    assert!(put_off(&db).is_some());
    // The same twelve runs are three times what is allowed now, and most of what they hold goes.
    let keyspace = KeyspaceOptions::new().level0_runs(4);
    db.keyspace("default", keyspace).unwrap();
    db.put("k", "v").unwrap();
    assert!(0 < db.stats().compaction_bytes_written);
    assert_eq!(db.stats().keyspaces[0].levels[0].runs.len(), 0);
    assert!(matches!(db.state(), State::Ok), "{}", db.state());
    assert_eq!(db.iter().count(), 61);
}

#[test]
fn one_that_was_asked_for_is_not_put_off() {
    let sim = piled_up();
    let (db, _) = open_to_compact(&sim, 130 << 10);
    assert!(put_off(&db).is_some());
    db.compact().unwrap();
    db.put("k", "v").unwrap();
    assert_eq!(put_off(&db), None);
    assert_eq!(db.iter().count(), 61);
}

#[test]
fn what_is_deleted_whole_goes_without_any_space() {
    let sim = piled_up();
    let (db, _) = open_to_compact(&sim, 130 << 10);
    let before = free(&sim);
    db.delete_range(..).unwrap();
    db.flush().unwrap();
    assert!(
        before + (300 << 10) < free(&sim),
        "{before}, {}",
        free(&sim)
    );
    assert_eq!(db.iter().count(), 0);
    assert_eq!(put_off(&db), None);
}

/// Then it is found out by writing, as it was before.
#[test]
fn where_nobody_says_what_is_free_it_is_tried() {
    let sim = piled_up();
    sim.set_free(Some(130 << 10));
    let db = options(64).open_sim(&sim, ROOT).unwrap();
    // The question what is free.
    sim.fail(FaultRule::new(Fault::Eio).kinds(&[CallKind::Stat]));
    let keyspace = KeyspaceOptions::new().level0_runs(10);
    db.keyspace("default", keyspace).unwrap();
    db.put("k", "v").unwrap();
    assert!(0 < db.stats().compaction_bytes_written);
}
