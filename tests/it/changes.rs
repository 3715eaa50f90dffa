//! Options that change while the keyspace is open and in use.

use crate::support::{ROOT, TempDir, quiet_options};
use alluvium::filter::Decision;
use alluvium::fs::sim::SimFs;
use alluvium::{CompactionStyle, Db, ErrorKind, Keyspace, KeyspaceOptions, KeyspaceStats, Options};
use std::sync::atomic::{AtomicBool, Ordering};

fn orders(db: &Db, options: KeyspaceOptions) -> Keyspace {
    db.keyspace("orders", options).unwrap()
}

fn open(sim: &SimFs) -> Db {
    let nothing = |_: &[u8], _: &[u8]| Decision::Remove;
    quiet_options(KeyspaceOptions::new())
        .compaction_filter("nothing", nothing)
        .open_sim(sim, ROOT)
        .unwrap()
}

/// Small, and never compacted by itself.
fn small() -> KeyspaceOptions {
    KeyspaceOptions::new()
        .write_buffer_bytes(4 << 10)
        .block_bytes(256)
        .level0_runs(64)
}

fn fill(space: &Keyspace, rounds: u32) {
    for round in 0..rounds {
        for n in 0..100u32 {
            space.put(n.to_be_bytes(), [round as u8; 40]).unwrap();
        }
    }
}

fn stats(db: &Db) -> KeyspaceStats {
    let keyspaces = db.stats().keyspaces;
    keyspaces
        .into_iter()
        .find(|it| it.name == "orders")
        .unwrap()
}

fn runs(db: &Db) -> usize {
    stats(db).levels.iter().map(|level| level.runs.len()).sum()
}

fn tables(db: &Db) -> usize {
    let levels = stats(db).levels;
    let runs = levels.iter().flat_map(|level| &level.runs);
    runs.map(|run| run.tables.len()).sum()
}

#[test]
fn when_compactions_are_due_changes_at_once_and_stays_so() {
    let sim = SimFs::new(1);
    let db = open(&sim);
    let space = orders(&db, small());
    fill(&space, 20);
    let before = runs(&db);
    assert!(10 < before, "{before}");
    let again = orders(&db, KeyspaceOptions::new().level0_runs(2));
    fill(&space, 1);
    assert!(runs(&db) < 5, "{} of {before}", runs(&db));
    fill(&again, 5);
    db.close().unwrap();
    let db = open(&sim);
    fill(&orders(&db, KeyspaceOptions::new()), 20);
    assert!(runs(&db) < 5, "{}", runs(&db));
}

#[test]
fn the_next_memtable_has_the_new_size() {
    let sim = SimFs::new(2);
    let db = open(&sim);
    let space = orders(&db, small());
    fill(&space, 20);
    let before = db.stats().flushes;
    orders(&db, KeyspaceOptions::new().write_buffer_bytes(64 << 10));
    db.flush().unwrap();
    let flushed = db.stats().flushes;
    fill(&space, 5);
    assert!(10 < before, "{before}");
    assert_eq!(db.stats().flushes, flushed, "it holds all of that");
}

#[test]
fn the_next_tables_are_as_they_are_wanted() {
    let sim = SimFs::new(3);
    let db = open(&sim);
    let space = orders(&db, small());
    fill(&space, 20);
    space.compact().unwrap();
    assert_eq!(tables(&db), 1);
    let small_tables = KeyspaceOptions::new().table_bytes(1 << 10);
    orders(&db, small_tables.filter_bits_per_key(0));
    space.compact().unwrap();
    assert!(3 < tables(&db), "{}", tables(&db));
    let probed = stats(&db).reads.tables_probed;
    for n in 0..99u32 {
        let between = [&n.to_be_bytes()[..], b"!"].concat();
        assert!(!space.contains_key(between).unwrap());
    }
    assert!(stats(&db).reads.tables_probed > probed, "no filter says so");
}

#[test]
fn the_style_and_the_filter_change_with_the_next_compaction() {
    let sim = SimFs::new(4);
    let db = open(&sim);
    let space = orders(&db, small());
    fill(&space, 20);
    orders(
        &db,
        KeyspaceOptions::new()
            .compaction(CompactionStyle::Fifo)
            .fifo_bytes(1 << 10),
    );
    fill(&space, 2);
    assert!(runs(&db) <= 1, "the rest was forgotten: {}", runs(&db));
    fill(&space, 1);
    orders(
        &db,
        KeyspaceOptions::new()
            .compaction(CompactionStyle::Lazy)
            .compaction_filter("nothing"),
    );
    space.compact().unwrap();
    assert_eq!(space.iter().count(), 0);
    orders(&db, KeyspaceOptions::new().compaction_filter(""));
    fill(&space, 1);
    space.compact().unwrap();
    assert_eq!(space.iter().count(), 100);
}

#[test]
fn what_cannot_change_is_refused_and_nothing_changes() {
    let sim = SimFs::new(5);
    let db = open(&sim);
    let space = orders(&db, small());
    fill(&space, 20);
    let before = runs(&db);
    for wrong in [
        KeyspaceOptions::new().level0_runs(2).block_bytes(512),
        KeyspaceOptions::new().level0_runs(2).size_ratio(1),
    ] {
        let error = db.keyspace("orders", wrong).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    }
    db.put("look", "for work").unwrap();
    assert_eq!(runs(&db), before);
}

/// Readers and writers go on, and workers are in the middle of jobs.
#[test]
fn changes_under_load_lose_nothing() {
    const STYLES: [CompactionStyle; 3] = [
        CompactionStyle::Lazy,
        CompactionStyle::Leveled,
        CompactionStyle::Tiered,
    ];
    let dir = TempDir::new("changes");
    let db = Options::new()
        .memory_bytes(8 << 20)
        .open(dir.path())
        .unwrap();
    let space = orders(&db, small().level0_runs(2));
    let has_ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 0;
            while !has_ended.load(Ordering::Relaxed) {
                n += 1;
                let options = KeyspaceOptions::new()
                    .compaction(STYLES[n % 3])
                    .write_buffer_bytes(1 << (11 + n % 4))
                    .immutables_max(1 + n as u32 % 3)
                    .level0_runs(1 + n as u32 % 4)
                    .table_bytes(1 << (10 + n % 5));
                orders(&db, options);
            }
            assert!(3 < n, "{n} changes");
        });
        for round in 0..300u32 {
            for n in 0..50u32 {
                space.put(n.to_be_bytes(), round.to_be_bytes()).unwrap();
            }
            let all = space.iter().map(|entry| entry.unwrap().1);
            assert!(
                all.into_iter().all(|value| value == round.to_be_bytes()),
                "round {round}"
            );
        }
        has_ended.store(true, Ordering::Relaxed);
    });
    db.verify().unwrap();
    db.close().unwrap();
}
