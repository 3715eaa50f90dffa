//! What a close leaves to the next open.

use crate::support::{ROOT, TempDir};
use alluvium::fs::Fs;
use alluvium::fs::sim::{Family, Fault, FaultRule, SimFs};
use alluvium::{Db, Options};
use std::path::Path;

fn key(n: u32) -> [u8; 4] {
    n.to_be_bytes()
}

/// A store that was closed with a full log took as long to open as one whose process was killed.
#[test]
fn an_open_after_a_close_reads_no_long_log() {
    let dir = TempDir::new("closed");
    let db = Db::open(dir.path()).unwrap();
    for n in 0..20u8 {
        db.put([n], vec![n; 100_000]).unwrap();
    }
    db.close().unwrap();
    let db = Db::open(dir.path()).unwrap();
    assert_eq!(db.open_report().batches, 0, "tables hold all of it");
    assert_eq!(db.get([19]).unwrap().unwrap(), [19; 100_000]);
    db.put("small", "enough to be replayed").unwrap();
    db.close().unwrap();
    let db = Db::open(dir.path()).unwrap();
    assert_eq!(db.open_report().batches, 1);
    for n in 0..20u8 {
        db.put([n], vec![n; 100_000]).unwrap();
    }
    db.flush().unwrap();
    db.close().unwrap();
    let db = Db::open(dir.path()).unwrap();
    assert_eq!(db.open_report().batches, 0, "also what tables held already");
    assert_eq!(db.iter().count(), 21);
}

/// Sessions that write little leave a segment each, however large its file is.
#[test]
fn short_sessions_leave_their_writes_to_the_log() {
    let dir = TempDir::new("sessions");
    for n in 0..4u8 {
        let db = Db::open(dir.path()).unwrap();
        assert_eq!(db.open_report().batches, u64::from(n));
        db.put([n], "little").unwrap();
        db.close().unwrap();
    }
}

/// A store whose log is worth being emptied by a close; everything in it is synced.
fn with_a_long_log(sim: &SimFs) -> Db {
    let db = open(sim);
    for n in 0..20 {
        db.put(key(n), vec![n as u8; 60_000]).unwrap();
    }
    db.sync().unwrap();
    db
}

fn open(sim: &SimFs) -> Db {
    Options::new()
        .background_threads(0)
        .open_in(Fs::sim(sim, Path::new(ROOT)))
        .unwrap()
}

fn expect_all(sim: &SimFs, what: &str) {
    let db = open(sim);
    let keys: Vec<_> = db.iter().map(|entry| entry.unwrap().0.to_vec()).collect();
    assert_eq!(keys, (0..20).map(key).collect::<Vec<_>>(), "{what}");
    assert_eq!(db.get(key(19)).unwrap().unwrap(), [19; 60_000], "{what}");
}

/// A close empties a long log only to spare the next open a replay: it may fail at any call, or be
/// cut off there, and everything is where it was or in a table (P1).
#[test]
fn a_close_that_fails_anywhere_loses_nothing() {
    let whole = SimFs::new(17);
    let db = with_a_long_log(&whole);
    let before = whole.call_count();
    db.close().unwrap();
    let calls = whole.call_count() - before;
    assert!(20 < calls, "it flushes, and starts a segment");
    for call in 0..calls {
        let cut = SimFs::new(17);
        let db = with_a_long_log(&cut);
        cut.crash_at(before + call);
        assert!(db.close().is_err(), "the power is cut at call {call}");
        for image in cut.images(&[Family::Nothing, Family::Everything, Family::OneLost]) {
            expect_all(&image.sim, &image.id.to_string());
        }
        for fault in [Fault::Eio, Fault::Enospc] {
            for rule in [FaultRule::new(fault), FaultRule::new(fault).sticky()] {
                let sim = SimFs::new(17);
                let db = with_a_long_log(&sim);
                sim.fail(rule.nth(call));
                // Whatever it says: the process ends.
                let _ = db.close();
                sim.heal();
                expect_all(&sim, &format!("{fault:?} at call {call}"));
            }
        }
    }
}
