//! The styles of compaction: the same answers from each, and what each one promises besides.

use crate::support::{ROOT, quiet_options};
use alluvium::fs::sim::SimFs;
use alluvium::{
    CompactionStyle, Db, ErrorKind, KeyspaceOptions, LevelStats, Options, WriteBatch, WriteOptions,
    merge,
};
use std::collections::BTreeMap;

const STYLES: [CompactionStyle; 4] = CompactionStyle::ALL;

/// Small enough that a few thousand entries fill several levels.
fn small(style: CompactionStyle) -> KeyspaceOptions {
    KeyspaceOptions::new()
        .compaction(style)
        .write_buffer_bytes(8 << 10)
        .table_bytes(4 << 10)
        .block_bytes(256)
}

fn open(sim: &SimFs, keyspace: KeyspaceOptions) -> Db {
    quiet_options(keyspace).open_sim(sim, ROOT).unwrap()
}

fn level_bytes(level: &LevelStats) -> u64 {
    let tables = level.runs.iter().flat_map(|run| &run.tables);
    tables.map(|table| table.bytes).sum()
}

fn bytes(db: &Db) -> u64 {
    let levels = &db.stats().keyspaces[0].levels;
    levels.iter().map(level_bytes).sum()
}

fn runs(db: &Db) -> usize {
    let levels = &db.stats().keyspaces[0].levels;
    levels.iter().map(|level| level.runs.len()).sum()
}

/// Flushes, and does what is due then.
fn settle(db: &Db) {
    db.flush().unwrap();
    db.put("look", "for work").unwrap();
    db.flush().unwrap();
    while db.stats().pending_jobs != 0 {
        db.put("look", "for work").unwrap();
    }
}

fn key(n: u32) -> String {
    format!("key{n:06}")
}

/// Writes and deletes at random; prints its seed by way of the assertion that fails.
fn change(db: &Db, truth: &mut BTreeMap<String, Vec<u8>>, seed: &mut u64, times: u32) {
    for _ in 0..times {
        *seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let (n, kind) = ((*seed >> 40) as u32 % 500, (*seed >> 33) % 4);
        if kind == 0 {
            db.delete(key(n)).unwrap();
            truth.remove(&key(n));
        } else {
            let value = seed.to_le_bytes().repeat(8);
            db.put(key(n), &value).unwrap();
            truth.insert(key(n), value);
        }
    }
}

fn check(db: &Db, truth: &BTreeMap<String, Vec<u8>>, place: &str) {
    let entry = |entry: alluvium::Result<(alluvium::Slice, alluvium::Slice)>| {
        let (key, value) = entry.unwrap();
        (String::from_utf8(key.to_vec()).unwrap(), value.to_vec())
    };
    let forward: Vec<_> = db
        .range("key"..)
        .map(entry)
        .filter(|it| it.0 != "look")
        .collect();
    let wanted: Vec<_> = truth.clone().into_iter().collect();
    assert!(forward == wanted, "{place}: forward");
    let mut reverse: Vec<_> = db.range("key"..).rev().map(entry).collect();
    reverse.retain(|it| it.0 != "look");
    reverse.reverse();
    assert!(reverse == wanted, "{place}: reverse");
    for n in 0..500 {
        let found = db.get(key(n)).unwrap().map(|value| value.to_vec());
        assert_eq!(found.as_ref(), truth.get(&key(n)), "{place}: {}", key(n));
    }
}

#[test]
fn every_style_gives_the_same_answers() {
    for style in STYLES {
        let sim = SimFs::new(1);
        let db = open(&sim, small(style));
        let (mut truth, mut seed) = (BTreeMap::new(), 7);
        for round in 0..12 {
            change(&db, &mut truth, &mut seed, 400);
            check(&db, &truth, &format!("{style:?}, round {round}, seed 7"));
        }
        assert!(db.stats().compactions != 0, "{style:?}");
        db.verify().unwrap();
    }
}

#[test]
fn a_keyspace_takes_another_style_at_each_open() {
    let sim = SimFs::new(2);
    let (mut truth, mut seed) = (BTreeMap::new(), 8);
    // From each of them to each other.
    for step in [0, 1, 2, 3, 1, 0, 2, 1, 3, 2, 0, 3, 0] {
        let style = STYLES[step];
        let db = open(&sim, small(style));
        check(&db, &truth, &format!("opened as {style:?}"));
        change(&db, &mut truth, &mut seed, 600);
        settle(&db);
        check(&db, &truth, &format!("changed as {style:?}, seed 8"));
        db.close().unwrap();
    }
    // Unset, it stays what it was.
    let db = quiet_options(KeyspaceOptions::new());
    let db = db.open_sim(&sim, ROOT).unwrap();
    check(&db, &truth, "the last one");
}

#[test]
fn tiered_writes_less_than_lazy_and_lazy_less_than_leveled() {
    let written = |style| {
        let sim = SimFs::new(3);
        let db = open(&sim, small(style));
        let mut seed = 9;
        change_many(&db, &mut seed, 60_000, 20_000);
        settle(&db);
        db.stats().compaction_bytes_written
    };
    let [lazy, leveled, tiered] = [STYLES[0], STYLES[1], STYLES[2]].map(written);
    assert!(tiered < lazy && lazy < leveled, "{tiered} {lazy} {leveled}");
}

fn change_many(db: &Db, seed: &mut u64, times: u32, keys: u32) {
    for _ in 0..times {
        *seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let n = (*seed >> 40) as u32 % keys;
        db.put(key(n), [n as u8; 20]).unwrap();
    }
}

#[test]
fn tiered_takes_at_most_three_times_the_space_of_what_is_live_and_level_0() {
    let sim = SimFs::new(4);
    let db = open(&sim, small(CompactionStyle::Tiered));
    let (mut seed, mut most) = (10, 0);
    for _ in 0..12 {
        change_many(&db, &mut seed, 4_000, 2_000);
        settle(&db);
        let deeper = db.stats().keyspaces[0].levels.split_off(1);
        most = most.max(deeper.iter().map(level_bytes).sum());
    }
    db.compact().unwrap();
    let live = bytes(&db);
    assert!(most <= 3 * live, "{most} of {live}");
    assert!(live < most, "{most} of {live}: nothing was superseded");
}

fn fifo(keep: u64) -> KeyspaceOptions {
    small(CompactionStyle::Fifo).fifo_bytes(keep)
}

#[test]
fn fifo_keeps_what_was_written_last() {
    let sim = SimFs::new(5);
    let db = open(&sim, fifo(256 << 10));
    for n in 0..20_000 {
        db.put(key(n), [n as u8; 50]).unwrap();
    }
    settle(&db);
    let kept = bytes(&db);
    assert!((192 << 10..=256 << 10).contains(&kept), "{kept}");
    assert!(runs(&db) <= 64, "{} runs are read", runs(&db));
    let first = (0..20_000)
        .find(|n| db.get(key(*n)).unwrap().is_some())
        .unwrap();
    assert!((1..18_000).contains(&first), "{first}");
    for n in first..20_000 {
        assert_eq!(db.get(key(n)).unwrap().unwrap(), [n as u8; 50], "{n}");
    }
}

#[test]
fn fifo_forgets_whole_batches() {
    let sim = SimFs::new(6);
    let db = open(&sim, fifo(512 << 10));
    for n in 0..6_000 {
        let mut batch = WriteBatch::new();
        for letter in ["a", "m", "z"] {
            batch.put(&*db, format!("{letter}{n:06}"), [7; 50]);
        }
        db.write(batch, WriteOptions::new()).unwrap();
    }
    settle(&db);
    let has = |letter: &str, n| db.get(format!("{letter}{n:06}")).unwrap().is_some();
    let mut forgotten = 0;
    for n in 0..6_000 {
        let here = ["a", "m", "z"].map(|letter| has(letter, n));
        assert!(here == [true; 3] || here == [false; 3], "{n}: {here:?}");
        forgotten += u32::from(!here[0]);
    }
    assert!((500..5_500).contains(&forgotten), "{forgotten}");
}

#[test]
fn fifo_forgets_nothing_that_somebody_reads() {
    let sim = SimFs::new(7);
    let db = open(&sim, fifo(64 << 10));
    db.put("a", "first").unwrap();
    settle(&db);
    let (snapshot, mut iterator, tx) = (db.snapshot(), db.range("a".."b"), db.begin());
    for n in 0..10_000 {
        db.put(key(n), [1; 50]).unwrap();
    }
    settle(&db);
    assert!(64 << 10 < bytes(&db), "all of it is kept");
    assert_eq!(snapshot.get("a").unwrap().unwrap(), b"first");
    assert_eq!(tx.get(&db, "a").unwrap().unwrap(), b"first");
    drop((snapshot, tx));
    settle(&db);
    assert_eq!(iterator.next().unwrap().unwrap().1, b"first");
    drop(iterator);
    settle(&db);
    assert_eq!(db.get("a").unwrap(), None);
    assert!(bytes(&db) <= 64 << 10);
}

#[test]
fn what_fifo_forgot_and_what_was_deleted_never_come_back() {
    let sim = SimFs::new(8);
    let mut db = open(&sim, fifo(128 << 10));
    db.put("a", "forgotten").unwrap();
    db.put("b", "deleted").unwrap();
    settle(&db);
    db.delete("b").unwrap();
    for round in 0..10u32 {
        for n in 0..500 {
            db.put(key(round * 500 + n), [1; 50]).unwrap();
            assert_eq!(db.get("b").unwrap(), None, "round {round}");
        }
        let is_there = db.get("a").unwrap().is_some();
        drop(db);
        db = open(&sim, fifo(128 << 10));
        assert!(is_there || db.get("a").unwrap().is_none(), "round {round}");
        assert_eq!(db.get("b").unwrap(), None, "round {round}, opened again");
    }
    assert_eq!(db.get("a").unwrap(), None);
    assert_eq!(db.get(key(4_999)).unwrap().unwrap(), [1; 50]);
}

#[test]
fn merges_of_which_the_first_are_forgotten_begin_with_the_others() {
    let sim = SimFs::new(9);
    let db = open(&sim, fifo(128 << 10).merge_operator(merge::COUNTER));
    for n in 0..8_000u32 {
        db.merge("sum", 1i64.to_le_bytes()).unwrap();
        db.put(key(n), 1i64.to_le_bytes()).unwrap();
    }
    settle(&db);
    let sum = db.get("sum").unwrap().unwrap();
    let sum = i64::from_le_bytes(sum.to_vec().try_into().unwrap());
    let kept = (0..8_000)
        .filter(|n| db.get(key(*n)).unwrap().is_some())
        .count();
    assert!((1..8_000).contains(&sum), "{sum}");
    assert!(sum.abs_diff(kept as i64) <= 1, "{sum} and {kept}");
}

#[test]
fn a_keyspace_that_kept_everything_gives_up_no_more_than_it_must() {
    let sim = SimFs::new(10);
    let db = open(&sim, small(CompactionStyle::Leveled));
    for n in 0..6_000 {
        db.put(key(n), [1; 50]).unwrap();
    }
    db.compact().unwrap();
    let before = bytes(&db);
    db.close().unwrap();
    let db = open(&sim, fifo(before * 3 / 4));
    settle(&db);
    let after = bytes(&db);
    assert!(
        (before * 5 / 8..=before * 3 / 4).contains(&after),
        "{after} of {before}"
    );
    db.close().unwrap();
    // And back: what is there stays.
    let db = open(&sim, small(CompactionStyle::Lazy));
    change_many(&db, &mut 3, 3_000, 100);
    settle(&db);
    assert!(3_500 < db.iter().count());
}

#[test]
fn the_last_flush_stays_however_little_is_to_be_kept() {
    let sim = SimFs::new(12);
    let db = open(&sim, fifo(1 << 10).write_buffer_bytes(1 << 20));
    for round in 0..3 {
        for n in 0..1_000 {
            db.put(key(n), [round; 50]).unwrap();
        }
        settle(&db);
        db.put("look", "for work").unwrap();
        assert!(
            runs(&db) <= 2,
            "the flush of that one put forgets what was before"
        );
        db.delete("look").unwrap();
    }
    for n in 0..1_000 {
        db.put(key(n), [9; 50]).unwrap();
    }
    db.flush().unwrap();
    assert_eq!(db.get(key(0)).unwrap().unwrap(), [9; 50]);
    assert_eq!(runs(&db), 1);
}

#[test]
fn keeping_nothing_is_no_option() {
    let options = Options::new().default_keyspace(fifo(1023));
    let error = options.open_sim(&SimFs::new(11), ROOT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("fifo_bytes"), "{error}");
}
