//! Disks that fail while the database runs: who is told, what stays true, and how it goes on.

use crate::support::ROOT;
use alluvium::fs::Fs;
use alluvium::fs::sim::{CallKind, Family, Fault, FaultRule, FileClass, SimFs};
use alluvium::{
    Db, Durability, ErrorKind, Keyspace, KeyspaceOptions, LogMode, Options, State, WriteBatch,
    WriteOptions,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

fn open(sim: &SimFs, threads: usize) -> Db {
    let small = KeyspaceOptions::new()
        .write_buffer_bytes(4 << 10)
        .table_bytes(4 << 10)
        .block_bytes(256);
    Options::new()
        .memory_bytes(1 << 20)
        .log_segment_bytes(16 << 10)
        .background_threads(threads)
        .default_keyspace(small)
        .open_in(Fs::sim(sim, Path::new(ROOT)))
        .unwrap()
}

fn synced() -> WriteOptions {
    WriteOptions::new().durability(Durability::Synced)
}

fn names(sim: &SimFs) -> Vec<String> {
    let entries = Fs::sim(sim, Path::new(ROOT)).list().unwrap();
    entries.into_iter().map(|entry| entry.name).collect()
}

fn key(n: u32) -> [u8; 4] {
    n.to_be_bytes()
}

/// Writes until a write fails; gives how many were acknowledged, and the error.
fn fill(db: &Db, from: u32) -> (u32, alluvium::Error) {
    for n in from..from + 100_000 {
        if let Err(error) = db.put(key(n), [7; 100]) {
            return (n, error);
        }
    }
    panic!("the fault never showed");
}

fn resumes(db: &Db) -> Duration {
    let start = Instant::now();
    while let Err(error) = db.put("resumed", "yes") {
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "P14: {:?}: {error}",
            db.state()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    start.elapsed()
}

/// For each class of file: the disk is full, writes stop with `NoSpace` and reads go on; space
/// comes back, and so do writes, by themselves; nothing acknowledged is lost.
#[test]
fn a_full_disk_is_a_state_that_ends_by_itself() {
    for class in [FileClass::Table, FileClass::Log, FileClass::Manifest] {
        let sim = SimFs::new(3);
        let db = open(&sim, 1);
        for n in 0..50 {
            db.put(key(n), [7; 100]).unwrap();
        }
        sim.fail(FaultRule::new(Fault::Enospc).class(class).sticky());
        let (acknowledged, error) = fill(&db, 50);
        assert_eq!(error.kind(), ErrorKind::NoSpace, "{class:?}: {error}");
        for n in 0..acknowledged {
            assert_eq!(db.get(key(n)).unwrap().unwrap(), [7; 100], "reads go on");
        }
        sim.heal();
        resumes(&db);
        assert!(matches!(db.state(), State::Ok), "{class:?}");
        db.flush().unwrap();
        assert_eq!(db.iter().count() as u32, acknowledged + 1, "{class:?}");
        db.close().unwrap();
        let db = open(&sim, 1);
        assert_eq!(
            db.iter().count() as u32,
            acknowledged + 1,
            "{class:?}, reopened"
        );
    }
}

/// A sync of the log fails: its callers are told (P12), the segment is never used again (P13), what
/// it held is written to tables, and writes and syncs go on by themselves (P14).
#[test]
fn a_failed_sync_of_the_log_is_repaired_from_memory() {
    for fault in [Fault::Eio, Fault::SyncCleanNew, Fault::SyncCleanOld] {
        let sim = SimFs::new(4);
        let db = open(&sim, 0);
        let orders = db.keyspace("orders", KeyspaceOptions::new()).unwrap();
        db.put("before", "1").unwrap();
        orders.put("logged", "1").unwrap();
        db.sync().unwrap();
        orders.put("logged too", "1").unwrap();
        let rule = FaultRule::new(fault)
            .kinds(&[CallKind::Sync])
            .class(FileClass::Log);
        sim.fail(rule);
        let error = db.put_with("unsure", "2", synced()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(
            error
                .to_string()
                .contains("logged and visible, but not synced"),
            "P12: {error}"
        );
        assert!(error.file().is_some(), "{error}");
        assert!(matches!(db.state(), State::Ok), "{}", db.state());
        db.put_with("later", "3", synced()).unwrap();
        // The power goes: not a byte of the failed segment need be there.
        for image in sim.images(&Family::ALL) {
            let db = open(&image.sim, 0);
            let orders = db.keyspace("orders", KeyspaceOptions::new()).unwrap();
            for key in ["before", "unsure", "later"] {
                assert!(
                    db.contains_key(key).unwrap(),
                    "{fault:?}, {}: {key}",
                    image.id
                );
            }
            assert_eq!(orders.iter().count(), 2, "{fault:?}, {}", image.id);
        }
    }
}

/// While a failed segment cannot be repaired nothing is acknowledged, not even as logged, and the
/// state says why; when tables can be written again, the repair is done.
#[test]
fn nothing_is_acknowledged_before_a_failed_segment_is_repaired() {
    for threads in [0, 1, 2] {
        let sim = SimFs::new(8);
        let db = open(&sim, threads);
        db.put("before", "1").unwrap();
        let sync = FaultRule::new(Fault::SyncCleanOld)
            .kinds(&[CallKind::Sync])
            .class(FileClass::Log);
        sim.fail(sync);
        let tables = FaultRule::new(Fault::Eio).class(FileClass::Table).sticky();
        sim.fail(tables);
        db.put_with("unsure", "2", synced()).unwrap_err();
        for durability in [Durability::Logged, Durability::Synced] {
            let options = WriteOptions::new().durability(durability);
            let refused = db.put_with("refused", "3", options).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ReadOnly, "{refused}");
            assert!(refused.is_retryable(), "{refused}");
            let text = refused.to_string();
            assert!(text.contains("resume by themselves"), "{text}");
        }
        assert!(db.sync().is_err(), "and nothing is called synced");
        assert!(matches!(db.state(), State::ReadOnly(_)), "{}", db.state());
        assert_eq!(db.get("unsure").unwrap().unwrap(), b"2", "reads go on");
        assert_eq!(db.get("refused").unwrap(), None, "P12");
        sim.heal();
        resumes(&db);
        db.sync().unwrap();
        let names = names(&sim);
        assert_eq!(
            names.iter().filter(|n| n.ends_with(".log")).count(),
            1,
            "{names:?}"
        );
        drop(db);
        let db = open(&sim, 0);
        let keys: Vec<_> = db.iter().map(|entry| entry.unwrap().0.to_vec()).collect();
        assert_eq!(keys, [&b"before"[..], b"resumed", b"unsure"], "R15");
    }
}

/// A write whose log append failed is never visible, also after later writes and a reopening; syncs
/// after it work.
#[test]
fn a_write_that_failed_stays_absent() {
    for fault in [Fault::Eio, Fault::Enospc] {
        let sim = SimFs::new(5);
        let options = || {
            Options::new()
                .log_mode(LogMode::Write)
                .background_threads(0)
                .open_in(Fs::sim(&sim, Path::new(ROOT)))
                .unwrap()
        };
        let db = options();
        db.put("a", "1").unwrap();
        let rule = FaultRule::new(fault)
            .kinds(&[CallKind::Write])
            .class(FileClass::Log);
        sim.fail(rule);
        let error = db.put("b", "2").unwrap_err();
        assert!(
            error.to_string().contains("will never appear") && error.file().is_some(),
            "{error}"
        );
        assert_eq!(db.get("b").unwrap(), None);
        db.put("c", "3").unwrap();
        db.sync().unwrap();
        for image in sim.images(&Family::ALL) {
            let db = Options::new()
                .background_threads(0)
                .open_in(Fs::sim(&image.sim, Path::new(ROOT)))
                .unwrap();
            let keys: Vec<_> = db.iter().map(|entry| entry.unwrap().0.to_vec()).collect();
            assert_eq!(keys, [b"a".to_vec(), b"c".to_vec()], "R15: {}", image.id);
        }
        drop(db);
        let db = options();
        let keys: Vec<_> = db.iter().map(|entry| entry.unwrap().0.to_vec()).collect();
        assert_eq!(keys, [b"a".to_vec(), b"c".to_vec()], "R15");
    }
}

/// Damage that a compaction meets stops it, stays where it is, and is told (P9).
#[test]
fn damage_is_never_rewritten_under_a_fresh_checksum() {
    let sim = SimFs::new(6);
    let db = open(&sim, 0);
    for n in 0..30 {
        db.put(key(n), [7; 100]).unwrap();
    }
    db.flush().unwrap();
    db.close().unwrap();
    let root = Path::new(ROOT);
    let fs = Fs::sim(&sim, root);
    let names = fs.list().unwrap().into_iter().map(|entry| entry.name);
    let table = names.filter(|name| name.ends_with(".tbl")).max().unwrap();
    let mut bytes = sim.bytes(root, &table).unwrap();
    bytes[700] ^= 4;
    sim.plant(root, &table, &bytes);
    let db = open(&sim, 0);
    let error = db.compact().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
    assert!(
        error.file().unwrap().ends_with(&table) && error.offset().is_some(),
        "{error}"
    );
    let report = db.verify().unwrap();
    assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
    let good = (0..30).filter(|&n| db.get(key(n)).is_ok()).count();
    assert!(0 < good, "keys in other blocks are served");
    let mut iter = db.iter();
    assert!(iter.by_ref().any(|entry| entry.is_err()), "a scan says so");
    assert!(iter.next().is_none(), "P10");
}

/// The power goes at every call of the repair of a failed segment: what is left is a prefix of the
/// writes with everything synced in it, and of the batch over two keyspaces both halves or none.
#[test]
fn a_power_loss_at_every_call_of_the_repair_leaves_a_prefix() {
    let mut images = 0;
    for fault in [Fault::Eio, Fault::SyncCleanNew, Fault::SyncCleanOld] {
        for behind in 1.. {
            let sim = SimFs::new(9);
            let db = open(&sim, 0);
            let orders = db.keyspace("orders", KeyspaceOptions::new()).unwrap();
            db.put("1", "").unwrap();
            orders.put("2", "").unwrap();
            db.sync().unwrap();
            orders.put("3", "").unwrap();
            let mut batch = WriteBatch::new();
            batch.put(&db, "4", "");
            batch.put(&orders, "4", "");
            db.write(&batch, WriteOptions::default()).unwrap();
            let sync = FaultRule::new(fault)
                .kinds(&[CallKind::Sync])
                .class(FileClass::Log);
            sim.fail(sync);
            sim.crash_at(sim.call_count() + 1 + behind);
            let answers = [
                db.put_with("5", "", synced()).is_ok(),
                orders.put_with("6", "", synced()).is_ok(),
            ];
            let ended = !sim.is_crashed();
            assert!(!answers[0], "P12");
            let least = if ended { 6 } else { 2 };
            for image in sim.images(&Family::ALL).take(60) {
                images += 1;
                let what = format!("{fault:?}, {behind} calls behind, {}", image.id);
                let db = open(&image.sim, 0);
                let orders = db.keyspace("orders", KeyspaceOptions::new()).unwrap();
                let of = |space: &Keyspace, n: usize| space.contains_key(n.to_string()).unwrap();
                let there: Vec<bool> = (1..=6).map(|n| of(&db, n) || of(&orders, n)).collect();
                let prefix = there.iter().take_while(|there| **there).count();
                assert!(
                    there[prefix..].iter().all(|there| !there),
                    "P2: {what}: {there:?}"
                );
                assert!(least <= prefix, "P1: {what}: {there:?}");
                assert_eq!(of(&db, 4), of(&orders, 4), "P3: {what}");
            }
            if ended {
                break;
            }
        }
    }
    assert!(500 < images, "{images}");
}

/// The disk is full, really: no byte is free. Deletions and compactions make room, and writes
/// resume without any help (P15).
#[test]
fn deletions_and_compactions_work_on_a_full_disk() {
    for threads in [0, 1] {
        let sim = SimFs::new(10);
        let options = || {
            let small = KeyspaceOptions::new()
                .write_buffer_bytes(8 << 10)
                .table_bytes(16 << 10)
                .block_bytes(512);
            // The reserve is a sixteenth, 256 KiB: half of it holds all memtables that may wait,
            // the other a slice of the last level.
            Options::new()
                .memory_bytes(4 << 20)
                .log_segment_bytes(4 << 20)
                .background_threads(threads)
                .default_keyspace(small)
        };
        let open = || options().open_in(Fs::sim(&sim, Path::new(ROOT))).unwrap();
        let db = open();
        for n in 0..600 {
            db.put(key(n), [7; 100]).unwrap();
        }
        db.flush().unwrap();
        db.compact().unwrap();
        // The log's helper makes it.
        let start = Instant::now();
        while !names(&sim).contains(&"BALLAST".to_owned()) {
            assert!(start.elapsed() < Duration::from_secs(30), "no reserve");
            std::thread::sleep(Duration::from_millis(1));
        }
        sim.set_free(Some(0));
        let (acknowledged, error) = fill(&db, 600);
        assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
        let text = error.to_string();
        assert!(
            text.contains("deletions and compactions are accepted"),
            "{text}"
        );
        assert!(matches!(db.state(), State::ReadOnly(_)), "{}", db.state());
        let before = bytes_of_tables(&sim);
        for n in 0..acknowledged {
            let start = Instant::now();
            while n % 20 != 0 && db.delete(key(n)).is_err() {
                // The flushes have used up their half of the reserve; the other is for this.
                let compacted = db.compact();
                let waited = start.elapsed();
                assert!(waited < Duration::from_secs(5), "P15: {compacted:?}");
            }
        }
        let mut batch = WriteBatch::new();
        batch.delete(&db, key(0));
        batch.put(&db, key(0), "more");
        let refused = db.write(&batch, WriteOptions::default()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::NoSpace, "not only deletions");
        let start = Instant::now();
        while let Err(full) = db.compact() {
            // A flush or compaction of the background may have the room at this moment.
            assert!(start.elapsed() < Duration::from_secs(5), "P15: {full}");
            std::thread::sleep(Duration::from_millis(20));
        }
        let after = bytes_of_tables(&sim);
        assert!(after < before / 4, "{before} bytes became {after}");
        resumes(&db);
        assert!(matches!(db.state(), State::Ok), "{}", db.state());
        assert!(names(&sim).contains(&"BALLAST".to_owned()), "made again");
        let left = (0..acknowledged).filter(|n| n % 20 == 0).count();
        assert_eq!(db.iter().count(), left + 1);
        db.close().unwrap();
        let db = open();
        assert_eq!(db.open_report().orphans_removed, 0, "P14, P15");
        assert_eq!(db.iter().count(), left + 1);
    }
}

/// A database on a full disk opens, and can be made smaller (P4, P15).
#[test]
fn a_full_disk_is_opened_and_emptied() {
    let sim = SimFs::new(12);
    let open = |sim: &SimFs| {
        Options::new()
            .memory_bytes(4 << 20)
            .log_segment_bytes(1 << 20)
            .background_threads(0)
            .open_in(Fs::sim(sim, Path::new(ROOT)))
    };
    let db = open(&sim).unwrap();
    for n in 0..400 {
        db.put(key(n), [7; 500]).unwrap();
    }
    db.flush().unwrap();
    db.put("logged", "not flushed").unwrap();
    let sim = sim.kill();
    drop(db);
    sim.set_free(Some(0));
    let db = open(&sim).unwrap();
    assert_eq!(db.get("logged").unwrap().unwrap(), b"not flushed");
    for n in 0..400 {
        db.delete(key(n)).unwrap();
    }
    db.compact().unwrap();
    resumes(&db);
    assert_eq!(db.iter().count(), 2);
}

fn bytes_of_tables(sim: &SimFs) -> u64 {
    let entries = Fs::sim(sim, Path::new(ROOT)).list().unwrap();
    let tables = entries.iter().filter(|entry| entry.name.ends_with(".tbl"));
    tables.map(|entry| entry.len).sum()
}

/// Readers' functions run outside of every lock: a panic in one is the caller's alone (P18).
#[test]
fn a_callback_that_panics_stops_nobody() {
    for threads in [0, 1] {
        let sim = SimFs::new(13);
        let db = open(&sim, threads);
        db.put("k", "v").unwrap();
        for _ in 0..3 {
            let read = || db.get_with("k", |_| -> usize { panic!("on purpose") });
            assert!(catch_unwind(AssertUnwindSafe(read)).is_err());
            let fold = || {
                db.iter()
                    .for_each(|entry| assert!(entry.is_err(), "on purpose"))
            };
            assert!(catch_unwind(AssertUnwindSafe(fold)).is_err());
            db.put_with("k", "v", synced()).unwrap();
            db.flush().unwrap();
            db.compact().unwrap();
        }
        assert!(matches!(db.state(), State::Ok));
        db.close().unwrap();
    }
}

/// A closed database of three keys in three tables, the last one deleted again in the log.
fn closed(sim: &SimFs) {
    let db = open(sim, 0);
    for n in 0..3 {
        db.put(key(n), [n as u8; 100]).unwrap();
        db.flush().unwrap();
    }
    db.delete(key(2)).unwrap();
    db.close().unwrap();
}

fn repair(sim: &SimFs) -> alluvium::Result<alluvium::RepairReport> {
    let options = Options::new().memory_bytes(1 << 20).background_threads(0);
    options.repair_in(Fs::sim(sim, Path::new(ROOT)))
}

fn expect_closed(sim: &SimFs, what: &str) {
    let db = open(sim, 0);
    let found: Vec<_> = db.iter().map(|e| e.unwrap().0.to_vec()).collect();
    assert_eq!(found, [key(0), key(1)], "{what}");
}

/// What cannot be read now is not damaged: a repair that took it for that would put whole tables
/// aside, and the database would be without them.
#[test]
fn a_repair_on_a_disk_that_gives_errors_fails_and_sets_nothing_aside() {
    for nth in 0..12 {
        let sim = SimFs::new(5);
        closed(&sim);
        for name in names(&sim).iter().filter(|n| n.ends_with(".manifest")) {
            sim.plant(Path::new(ROOT), name, b"no manifest");
        }
        let before = names(&sim);
        let failing = FaultRule::new(Fault::Eio).kinds(&[CallKind::Read]);
        sim.fail(failing.class(FileClass::Table).nth(nth).sticky());
        match repair(&sim) {
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Io, "{nth}: {error}");
                assert_eq!(names(&sim), before, "{nth}");
            }
            // Behind the last read.
            Ok(report) => assert!(!report.has_lost_data(), "{nth}: {report}"),
        }
        sim.heal();
        let report = repair(&sim).unwrap();
        assert!(!report.has_lost_data(), "{nth}: {report}");
        expect_closed(&sim, &format!("read {nth}"));
    }
}

/// A manifest that cannot be read now is not damaged either. An older one that was left behind is
/// whole, and knows nothing of what came later.
#[test]
fn a_repair_that_cannot_read_the_manifest_takes_no_older_one() {
    let mut failed = 0;
    for class in [FileClass::Current, FileClass::Manifest] {
        for nth in 0..8 {
            let sim = SimFs::new(7);
            closed(&sim);
            let mut older = names(&sim);
            older.retain(|name| name.ends_with(".manifest"));
            let bytes = sim.bytes(Path::new(ROOT), &older[0]).unwrap();
            let db = open(&sim, 0);
            db.put("later", "in a table").unwrap();
            db.flush().unwrap();
            db.close().unwrap();
            sim.plant(Path::new(ROOT), &older[0], &bytes);
            let before = names(&sim);
            let reads = [
                CallKind::Open,
                CallKind::Stat,
                CallKind::Map,
                CallKind::Read,
                CallKind::Touch,
            ];
            sim.fail(
                FaultRule::new(Fault::Eio)
                    .kinds(&reads)
                    .class(class)
                    .nth(nth),
            );
            if let Err(error) = repair(&sim) {
                assert_eq!(error.kind(), ErrorKind::Io, "{class:?} {nth}: {error}");
                assert_eq!(names(&sim), before, "{class:?} {nth}");
                failed += 1;
            }
            sim.heal();
            repair(&sim).unwrap();
            let db = open(&sim, 0);
            let later = db.get("later").unwrap();
            assert_eq!(later.unwrap(), b"in a table", "{class:?} {nth}");
        }
    }
    assert!(4 < failed, "{failed}");
}

/// A repair switches to the new manifest by a rename, and fails when the directory cannot be
/// synced then. The next one finds nothing to do, and says so only when that lasts.
#[test]
fn a_repair_that_finds_nothing_to_do_behind_one_that_failed_lasts() {
    let mut failed = 0;
    for nth in 0..8 {
        let sim = SimFs::new(6);
        closed(&sim);
        let fs = Fs::sim(&sim, Path::new(ROOT));
        fs.remove(alluvium::fs::FileName::Current).unwrap();
        fs.sync_dir().unwrap();
        sim.fail(
            FaultRule::new(Fault::Eio)
                .kinds(&[CallKind::SyncDir])
                .nth(nth),
        );
        failed += u32::from(repair(&sim).is_err());
        sim.heal();
        repair(&sim).unwrap();
        for image in sim.images(&[Family::Nothing]) {
            expect_closed(&image.sim, &format!("sync of the directory {nth}"));
        }
    }
    assert!(3 < failed, "{failed}");
}
