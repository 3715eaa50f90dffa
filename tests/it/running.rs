//! Running it for years: a limit on what the background writes, scrubs beside other work, and how much
//! a range of keys takes up.

use crate::support::{ROOT, TempDir};
use alluvium::fs::sim::SimFs;
use alluvium::fs::{Fs, Instant};
use alluvium::{Db, ErrorKind, KeyspaceOptions, Options};
use std::path::Path;
use std::time::Duration;

const KIB: u64 = 1 << 10;

fn options() -> Options {
    let keyspace = KeyspaceOptions::new()
        .write_buffer_bytes(256 * KIB)
        .level0_runs(2);
    Options::new()
        .memory_bytes(16 << 20)
        .background_threads(1)
        .default_keyspace(keyspace)
}

fn key(n: u32) -> [u8; 4] {
    n.to_be_bytes()
}

/// Keys that all overlap the ones before, 1 KiB each, in a table of their own.
fn a_run_of(db: &Db, keys: u32) {
    for n in 0..keys {
        db.put(key(n), [n as u8; 1024]).unwrap();
    }
    db.flush().unwrap();
}

fn now(sim: &SimFs) -> Instant {
    Fs::sim(sim, Path::new(ROOT)).env().now()
}

#[test]
fn a_compaction_writes_no_more_in_a_second_than_the_limit() {
    let dir = TempDir::new("limit");
    let db = options().rate_limit(Some(512 * KIB)).open(dir.path());
    let db = db.unwrap();
    let start = Instant::now();
    a_run_of(&db, 512);
    a_run_of(&db, 512);
    db.compact().unwrap();
    // Two runs and what they became: 1.5 MiB at least, less a burst.
    let least = Duration::from_millis(2_500);
    assert!(least < start.elapsed(), "only {:?}", start.elapsed());
    db.close().unwrap();
}

#[test]
fn neither_a_flush_nor_a_close_waits_for_a_compaction_that_keeps_to_the_limit() {
    let dir = TempDir::new("limit");
    let db = options().open(dir.path()).unwrap();
    let start = Instant::now();
    db.set_rate_limit(Some(64 * KIB)).unwrap();
    // Level 0 is due at two runs: the only worker begins to merge, for half a minute.
    a_run_of(&db, 1024);
    a_run_of(&db, 1024);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(db.stats().compactions, 0, "it goes on");
    a_run_of(&db, 100);
    db.close().unwrap();
    let took = start.elapsed();
    assert!(took < Duration::from_secs(15), "{took:?}");
}

#[test]
fn a_limit_that_is_lifted_holds_nobody_back_any_more() {
    let dir = TempDir::new("limit");
    let db = options().rate_limit(Some(64 * KIB)).open(dir.path());
    let db = db.unwrap();
    let start = Instant::now();
    a_run_of(&db, 2048);
    let other = db.clone();
    // Would take a minute.
    let compaction = std::thread::spawn(move || other.compact());
    db.set_rate_limit(None).unwrap();
    compaction.join().unwrap().unwrap();
    let took = start.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    db.close().unwrap();
}

#[test]
fn a_limit_that_is_too_low_is_refused() {
    let dir = TempDir::new("limit");
    let error = options().rate_limit(Some(1)).open(dir.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    let db = options().open(dir.path()).unwrap();
    let error = db.set_rate_limit(Some(0)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    let error = db.scrub(1000).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    db.close().unwrap();
}

#[test]
fn a_scrub_finds_what_verify_finds_and_takes_its_time() {
    let sim = SimFs::new(11);
    let open = |sim: &SimFs| options().background_threads(0).open_sim(sim, ROOT);
    let db = open(&sim).unwrap();
    a_run_of(&db, 300);
    db.compact().unwrap();
    let start = now(&sim);
    let report = db.scrub(100 * KIB).unwrap();
    let took = now(&sim) - start;
    assert!(report.problems.is_empty(), "{report:?}");
    assert!(300 <= report.entries && 300 * KIB < report.bytes);
    let (least, most) = (Duration::from_millis(2_800), Duration::from_secs(4));
    assert!(least < took && took < most, "{took:?}");
    db.close().unwrap();

    let root = Path::new(ROOT);
    let names = Fs::sim(&sim, root).list().unwrap().into_iter();
    let table = names.map(|entry| entry.name).find(|n| n.ends_with(".tbl"));
    let table = table.unwrap();
    let mut bytes = sim.bytes(root, &table).unwrap();
    bytes[100 << 10] ^= 1;
    sim.plant(root, &table, &bytes);
    let db = open(&sim).unwrap();
    let (scrub, verify) = (db.scrub(1 << 30).unwrap(), db.verify().unwrap());
    assert_eq!(scrub.problems.len(), 1);
    let problem = &scrub.problems[0];
    assert_eq!(problem.kind(), ErrorKind::Corruption);
    assert_eq!(problem.to_string(), verify.problems[0].to_string());
    assert_eq!(problem.file(), Some(root.join(&table).as_path()));
}

/// It may go on for days: files that are replaced go away all the same, and so does the database.
#[test]
fn a_scrub_keeps_neither_replaced_tables_nor_the_database() {
    let dir = TempDir::new("scrub");
    let db = options().open(dir.path()).unwrap();
    for first in 0..8 {
        for n in 0..256 {
            db.put(key(first * 1000 + n), [1; 1024]).unwrap();
        }
        db.flush().unwrap();
    }
    db.compact().unwrap();
    let other = db.clone();
    // 2 MiB: half a minute.
    let scrub = std::thread::spawn(move || other.scrub(64 * KIB));
    std::thread::sleep(Duration::from_millis(100));
    let start = Instant::now();
    for n in 0..8 {
        db.put(key(n * 1000), [2; 1024]).unwrap();
    }
    db.compact().unwrap();
    let tables = || {
        let names = Fs::os(dir.path()).list().unwrap().into_iter();
        names.filter(|e| e.name.ends_with(".tbl")).count() as u64
    };
    let stats = db.stats();
    let runs = stats.keyspaces[0].levels.iter().flat_map(|l| &l.runs);
    let live: u64 = runs.map(|run| run.tables.len() as u64).sum();
    // The one that is being read stays until that is done.
    while live + 1 < tables() {
        assert!(start.elapsed() < Duration::from_secs(10), "{}", tables());
        std::thread::sleep(Duration::from_millis(20));
    }
    db.close().unwrap();
    let error = scrub.join().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    assert!(start.elapsed() < Duration::from_secs(15));
}

#[test]
fn the_size_of_a_range_is_near_what_was_written_to_it() {
    let dir = TempDir::new("size");
    let db = options().open(dir.path()).unwrap();
    assert_eq!(db.approximate_size(..).unwrap(), 0);
    let is_near = |what: &str, found: u64, expected: u64| {
        let margin = expected / 8 + 32 * KIB;
        assert!(found.abs_diff(expected) < margin, "{what}: {found}");
    };
    let quarter = |q: u32| {
        let (from, to) = (key(q * 500), key((q + 1) * 500));
        db.approximate_size(from..to).unwrap()
    };
    let write = |numbers: std::ops::Range<u32>| {
        for n in numbers {
            db.put(key(n), [n as u8; 1024]).unwrap();
        }
    };
    write(0..100);
    is_near("in memory", quarter(0), 100 * KIB);
    write(100..1500);
    db.flush().unwrap();
    write(1500..2000);
    for q in 0..4 {
        is_near("a quarter, in tables or in memory", quarter(q), 500 * KIB);
    }
    is_near("all", db.approximate_size(..).unwrap(), 2000 * KIB);
    let until = db.approximate_size(..key(1000)).unwrap();
    is_near("without a beginning", until, 1000 * KIB);
    db.compact().unwrap();
    is_near("at rest", db.approximate_size(..).unwrap(), 2000 * KIB);
    let inverted = (key(900), key(100));
    let inverted = db.approximate_size(inverted.0..inverted.1).unwrap();
    assert_eq!(inverted, 0);
    assert_eq!(db.approximate_size(key(5000)..).unwrap(), 0);
    db.close().unwrap();
}

#[test]
fn the_size_of_a_dropped_keyspace_is_not_found() {
    let dir = TempDir::new("size");
    let db = options().open(dir.path()).unwrap();
    let orders = db.keyspace("orders", KeyspaceOptions::new()).unwrap();
    db.drop_keyspace("orders").unwrap();
    let error = orders.approximate_size(..).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    db.close().unwrap();
    let error = db_closed(&dir);
    assert_eq!(error, ErrorKind::Closed);
}

fn db_closed(dir: &TempDir) -> ErrorKind {
    let db = options().open(dir.path()).unwrap();
    let handle = db.clone();
    db.close().unwrap();
    handle.approximate_size(..).unwrap_err().kind()
}
