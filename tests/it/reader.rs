//! Reading beside a writer: `Db::open_read_only`.

use crate::support::{ROOT, TempDir, names_ending, quiet_options};
use alluvium::fs::Fs;
use alluvium::fs::sim::{CallKind, Family, Fault, FaultRule, FileClass, SimFs};
use alluvium::{
    Db, DbReader, Durability, ErrorKind, KeyspaceOptions, LogMode, Options, SeqNo,
    SnapshotKeyspace, WriteBatch, WriteOptions, merge,
};
use proptest::prelude::*;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

fn options() -> Options {
    quiet_options(KeyspaceOptions::new())
}

fn open(sim: &SimFs) -> Db {
    options().open_sim(sim, ROOT).unwrap()
}

fn try_read(sim: &SimFs) -> alluvium::Result<DbReader> {
    options().open_read_only_in(Fs::sim(sim, Path::new(ROOT)))
}

fn read(sim: &SimFs) -> DbReader {
    try_read(sim).unwrap()
}

type Entries = Vec<(Vec<u8>, Vec<u8>)>;

fn pairs(iter: alluvium::Iter) -> Entries {
    let pairs = iter.map(|entry| entry.map(|(key, value)| (key.to_vec(), value.to_vec())));
    pairs.collect::<alluvium::Result<_>>().unwrap()
}

/// Entries in one line.
fn told(keyspace: &SnapshotKeyspace) -> String {
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    let entries = pairs(keyspace.iter()).into_iter();
    let entries: Vec<String> = entries
        .map(|(key, value)| format!("{}={}", text(&key), text(&value)))
        .collect();
    entries.join(" ")
}

#[test]
fn a_moment_has_every_write_before_it_and_none_after() {
    let sim = SimFs::new(1);
    let db = open(&sim);
    db.put("in a table", "1").unwrap();
    db.flush().unwrap();
    db.put("in the log", "2").unwrap();
    let reader = read(&sim);
    db.put("later", "3").unwrap();
    db.put("in a table", "other").unwrap();
    assert_eq!(told(&reader), "in a table=1 in the log=2");
    assert_eq!(reader.get("later").unwrap(), None);
    assert_eq!(reader.seqno(), SeqNo::new(2));
}

#[test]
fn a_refresh_goes_on_and_whatever_was_taken_before_stays() {
    let sim = SimFs::new(1);
    let db = open(&sim);
    db.put("k", "old").unwrap();
    let mut reader = read(&sim);
    let (clone, slice) = (reader.clone(), reader.get("k").unwrap().unwrap());
    let (mut iter, mut cursor) = (reader.iter(), reader.cursor());
    db.put("k", "new").unwrap();
    db.put("l", "more").unwrap();
    db.flush().unwrap();
    db.compact().unwrap();
    reader.refresh().unwrap();
    assert_eq!(told(&reader), "k=new l=more");
    assert_eq!(told(&clone), "k=old");
    assert_eq!(slice, b"old");
    assert_eq!(iter.next().unwrap().unwrap().1, b"old");
    assert!(iter.next().is_none());
    cursor.first().unwrap();
    assert_eq!(cursor.value().unwrap(), Some(&b"old"[..]));
}

#[test]
fn a_reader_sees_the_writes_of_each_kind() {
    let sim = SimFs::new(1);
    let db = open(&sim);
    let counted = KeyspaceOptions::new().merge_operator(merge::COUNTER);
    let counts = db.keyspace("counts", counted).unwrap();
    for is_flushed in [false, true] {
        let mut batch = WriteBatch::new();
        batch.put(&db, "a", "1");
        batch.put(&db, "b", "2");
        batch.merge(&counts, "n", 2i64.to_le_bytes());
        db.write(&batch, WriteOptions::new()).unwrap();
        db.delete("b").unwrap();
        db.put("c", "3").unwrap();
        db.delete_range("c".."d").unwrap();
        let gone = WriteOptions::new().ttl(Duration::ZERO);
        db.put_with("e", "expired", gone).unwrap();
        let hour = WriteOptions::new().ttl(Duration::from_secs(3600));
        db.put_with("f", "lives", hour).unwrap();
        let mut load = db.ingestion().unwrap();
        load.add(&db, [("g", "loaded")]).unwrap();
        load.commit().unwrap();
        if is_flushed {
            db.flush().unwrap();
        }
        let reader = read(&sim);
        assert_eq!(told(&reader), "a=1 f=lives g=loaded");
        let counted = reader.keyspace("counts").unwrap().get("n").unwrap();
        assert_eq!(counted, counts.get("n").unwrap());
        assert_eq!(reader.keyspaces(), ["counts", "default"]);
    }
}

#[test]
fn a_value_expires_for_a_reader_with_its_next_moment() {
    let sim = SimFs::new(1);
    let db = open(&sim);
    let minute = WriteOptions::new().ttl(Duration::from_secs(60));
    db.put_with("k", "v", minute).unwrap();
    let mut reader = read(&sim);
    sim.advance(Duration::from_secs(61));
    assert_eq!(db.get("k").unwrap(), None);
    assert_eq!(told(&reader), "k=v", "one instant, also of the clock");
    reader.refresh().unwrap();
    assert_eq!(told(&reader), "");
}

#[test]
fn all_ways_to_read_agree() {
    let sim = SimFs::new(1);
    let db = open(&sim);
    for n in 0..100u8 {
        db.put([n], [n; 3]).unwrap();
        if n == 50 {
            db.flush().unwrap();
        }
    }
    let reader = read(&sim);
    let found = reader.get_many([[7], [200], [70]]).unwrap();
    assert_eq!(found[0].as_deref(), Some(&[7; 3][..]));
    assert_eq!(found[1], None);
    assert_eq!(found[2].as_deref(), Some(&[70; 3][..]));
    assert!(reader.contains_key([99]).unwrap());
    assert_eq!(
        reader.get_with([5], |v| v.map(<[u8]>::len)).unwrap(),
        Some(3)
    );
    assert_eq!(reader.range([10]..[20]).count(), 10);
    assert_eq!(reader.prefix([3]).rev().count(), 1);
    let mut cursor = reader.cursor_over([40]..[60]);
    cursor.last().unwrap();
    assert_eq!(cursor.key(), Some(&[59][..]));
    assert_eq!(reader.name(), "default");
}

/// Known bug 50 of other engines: a read-only instance that ends removes files of the writer's.
#[test]
fn readers_that_come_and_go_write_nothing_and_lock_nothing() {
    let sim = SimFs::new(1);
    let db = open(&sim);
    db.put("a", "1").unwrap();
    db.flush().unwrap();
    db.put("b", "2").unwrap();
    let (before, calls) = (sim.digest(), sim.call_count());
    for _ in 0..20 {
        let mut reader = read(&sim);
        reader.refresh().unwrap();
        assert_eq!(reader.iter().count(), 2);
    }
    assert_eq!(sim.digest(), before, "the directory changed");
    assert_eq!(sim.call_count(), calls, "calls that change something");
    let reader = read(&sim);
    db.close().unwrap();
    let db = open(&sim);
    db.put("c", "3").unwrap();
    assert_eq!(told(&reader), "a=1 b=2");
}

#[test]
fn tables_that_are_replaced_stay_for_who_reads_them() {
    let sim = SimFs::new(1);
    let db = open(&sim);
    for round in 0..4u8 {
        for n in 0..200u8 {
            db.put([n], [round; 100]).unwrap();
        }
        db.flush().unwrap();
    }
    let tables = || names_ending(&sim, ".tbl");
    let before = tables();
    let reader = read(&sim);
    let mut iter = read(&sim).iter();
    iter.next().unwrap().unwrap();
    for n in 0..200u8 {
        db.put([n], "other").unwrap();
    }
    db.compact().unwrap();
    assert!(tables().iter().all(|name| !before.contains(name)));
    assert_eq!(
        reader.get([9]).unwrap().unwrap(),
        [3; 100],
        "its first read"
    );
    let rest = iter.map(|entry| entry.unwrap().1);
    assert_eq!(rest.filter(|value| *value == [3; 100]).count(), 199);
}

#[test]
fn keyspaces_come_and_go_with_a_refresh() {
    let sim = SimFs::new(1);
    let db = open(&sim);
    let gone = db.keyspace("gone", KeyspaceOptions::new()).unwrap();
    gone.put("k", "v").unwrap();
    let mut reader = read(&sim);
    let held = reader.keyspace("gone").unwrap();
    db.drop_keyspace("gone").unwrap();
    let new = db.keyspace("new", KeyspaceOptions::new()).unwrap();
    new.put("n", "w").unwrap();
    assert_eq!(reader.keyspaces(), ["default", "gone"]);
    reader.refresh().unwrap();
    assert_eq!(reader.keyspaces(), ["default", "new"]);
    assert_eq!(told(&held), "k=v");
    assert_eq!(told(&reader.keyspace("new").unwrap()), "n=w");
    let error = reader.keyspace("gone").unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (
            ErrorKind::NotFound,
            "there is no keyspace 'gone'.\nThere are: default, new."
        )
    );
}

#[test]
fn where_there_is_no_database_a_reader_makes_none() {
    let sim = SimFs::new(1);
    let error = try_read(&sim).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert_eq!(sim.call_count(), 0);
    let dir = TempDir::new("reader-none");
    let error = Db::open_read_only(dir.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(!dir.path().exists());
}

#[test]
fn another_database_in_the_directory_is_not_taken_for_the_one_that_was_read() {
    let dir = TempDir::new("reader-another");
    let db = options().open(dir.path()).unwrap();
    db.put("k", "first").unwrap();
    db.close().unwrap();
    let mut reader = Db::open_read_only(dir.path()).unwrap();
    Db::destroy(dir.path()).unwrap();
    let error = reader.refresh().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    let db = options().open(dir.path()).unwrap();
    db.put("k", "second").unwrap();
    let error = reader.refresh().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(
        error
            .to_string()
            .contains("the database that was read is gone")
    );
    assert_eq!(told(&reader), "k=first", "it keeps its moment");
    let now = Db::open_read_only(dir.path()).unwrap();
    assert_eq!(told(&now), "k=second");
}

/// After a crash, before anybody has opened it for writing: what an open would show, and as it is.
#[test]
fn what_a_crash_left_is_read_as_an_open_would_show_it() {
    let sim = SimFs::new(1);
    let db = open(&sim);
    for n in 0..40u8 {
        let options = match n % 16 {
            0 => WriteOptions::new().durability(Durability::Synced),
            _ => WriteOptions::new(),
        };
        db.put_with([n % 7], [n; 50], options).unwrap();
        if n == 25 {
            db.flush().unwrap();
        }
    }
    let lost = [
        Family::Nothing,
        Family::OneLost,
        Family::OneKept,
        Family::Prefixes,
    ];
    for image in sim.images(&lost).take(200) {
        let before = image.sim.digest();
        let read = pairs(read(&image.sim).iter());
        assert_eq!(
            image.sim.digest(),
            before,
            "{}: it was written to",
            image.id
        );
        assert_eq!(read, pairs(open(&image.sim).iter()), "{}", image.id);
    }
}

#[test]
fn damage_is_an_error_that_says_where_and_not_an_older_moment() {
    let sim = SimFs::new(1);
    let db = open(&sim);
    db.put("a", "1").unwrap();
    db.flush().unwrap();
    let synced = WriteOptions::new().durability(Durability::Synced);
    for n in 0..20u8 {
        db.put_with([n], [n; 100], synced).unwrap();
    }
    let whole = sim.kill();
    let newest = |end: &str| names_ending(&whole, end).pop().unwrap();
    let mut reader = read(&whole);
    for (name, at) in [
        ("CURRENT".to_owned(), 13),
        (newest(".manifest"), 40),
        (newest(".tbl"), 4),
        (newest(".log"), 200),
    ] {
        let bytes = whole.bytes(Path::new(ROOT), &name).unwrap();
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        whole.plant(Path::new(ROOT), &name, &damaged);
        let opened = try_read(&whole);
        let error = opened.and_then(|r| r.get("a").map(drop)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption, "{name}: {error}");
        assert!(error.to_string().contains(&name), "{name}: {error}");
        if !name.ends_with(".tbl") {
            assert!(reader.refresh().is_err(), "{name}");
        }
        assert_eq!(reader.get("a").unwrap().unwrap(), b"1", "{name}");
        whole.plant(Path::new(ROOT), &name, &bytes);
    }
    reader.refresh().unwrap();
}

#[test]
fn a_disk_that_fails_once_costs_nothing_and_one_that_goes_on_an_error() {
    let sim = SimFs::new(1);
    let db = open(&sim);
    db.put("a", "1").unwrap();
    let mut reader = read(&sim);
    db.put("b", "2").unwrap();
    let failing = || {
        FaultRule::new(Fault::Eio)
            .kinds(&[CallKind::Read])
            .class(FileClass::Log)
    };
    sim.fail(failing());
    reader.refresh().unwrap();
    assert_eq!(told(&reader), "a=1 b=2");
    db.put("c", "3").unwrap();
    sim.fail(failing().sticky());
    let error = reader.refresh().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    assert_eq!(told(&reader), "a=1 b=2", "it keeps its moment");
    sim.heal();
    reader.refresh().unwrap();
    assert_eq!(told(&reader), "a=1 b=2 c=3");
}

/// Found by the fault sweep: the first of the tables that could not be opened was another one with each
/// attempt, so that the error was never the same and was taken for the writer's doing.
#[test]
fn several_tables_that_cannot_be_opened_are_the_disks_error_and_not_a_conflict() {
    let sim = SimFs::new(1);
    let db = open(&sim);
    for n in 0..24 {
        let keyspace = db.keyspace(format!("{n}"), KeyspaceOptions::new());
        keyspace.unwrap().put("k", "v").unwrap();
    }
    db.flush().unwrap();
    assert_eq!(names_ending(&sim, ".tbl").len(), 24);
    let failing = FaultRule::new(Fault::Eio).kinds(&[CallKind::Open]);
    sim.fail(failing.class(FileClass::Table).sticky());
    for _ in 0..20 {
        let error = try_read(&sim).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u8),
    Delete(u8),
    DeleteRange(u8, u8),
    Flush,
    Compact,
    Load(u8),
    Reopen,
    Refresh,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (any::<u8>(), any::<u8>()).prop_map(|(k, v)| Step::Put(k % 32, v)),
        2 => any::<u8>().prop_map(|k| Step::Delete(k % 32)),
        1 => (any::<u8>(), any::<u8>()).prop_map(|(a, b)| Step::DeleteRange(a % 32, b % 32)),
        1 => Just(Step::Flush),
        1 => Just(Step::Compact),
        1 => any::<u8>().prop_map(|k| Step::Load(k % 32)),
        1 => Just(Step::Reopen),
        3 => Just(Step::Refresh),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_refreshed_reader_sees_what_the_writer_sees(steps in proptest::collection::vec(step(), 1..120)) {
        let sim = SimFs::new(1);
        let small = || {
            let buffers = KeyspaceOptions::new().write_buffer_bytes(64 << 10);
            quiet_options(buffers).log_segment_bytes(4 << 10)
        };
        let mut db = small().open_sim(&sim, ROOT).unwrap();
        let mut reader = read(&sim);
        for step in steps {
            match step {
                Step::Put(key, value) => db.put([key], [value; 200]).unwrap(),
                Step::Delete(key) => db.delete([key]).unwrap(),
                Step::DeleteRange(from, to) => db.delete_range([from]..[to]).unwrap(),
                Step::Flush => db.flush().unwrap(),
                Step::Compact => db.compact().unwrap(),
                Step::Load(key) => {
                    let mut load = db.ingestion().unwrap();
                    load.add(&db, [([key], "loaded"), ([key + 1], "loaded")]).unwrap();
                    load.commit().unwrap();
                }
                Step::Reopen => {
                    db.close().unwrap();
                    db = small().open_sim(&sim, ROOT).unwrap();
                }
                Step::Refresh => {
                    reader.refresh().unwrap();
                    prop_assert_eq!(pairs(reader.iter()), pairs(db.iter()));
                    prop_assert_eq!(reader.seqno(), db.seqno());
                }
            }
        }
    }
}

/// The writer's batch `n` puts `n` under one of 97 keys of each of two keyspaces, and under "newest"; before
/// every twentieth a bulk load says so. Each moment is the writes up to one of them, whatever flushes,
/// compactions, rotations of the log and loads happen meanwhile.
#[test]
fn beside_a_writer_at_full_speed_every_moment_is_a_prefix_of_its_writes() {
    const KEYS: u64 = 97;
    for mode in [LogMode::Mapped, LogMode::Write] {
        let dir = TempDir::new("reader-race");
        let small = KeyspaceOptions::new()
            .write_buffer_bytes(64 << 10)
            .table_bytes(64 << 10);
        let db = Options::new()
            .memory_bytes(32 << 20)
            .log_segment_bytes(256 << 10)
            .log_mode(mode)
            .default_keyspace(small.clone())
            .open(dir.path())
            .unwrap();
        let other = db.keyspace("other", small).unwrap();
        let (over, number) = (AtomicBool::new(false), |bytes: &[u8]| {
            u64::from_le_bytes(bytes[..8].try_into().unwrap())
        });
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut n = 0u64;
                while !over.load(Ordering::Relaxed) {
                    if n.is_multiple_of(20) {
                        let mut load = db.ingestion().unwrap();
                        load.add(&db, [("loaded", n.to_le_bytes())]).unwrap();
                        load.add(&other, [("loaded", n.to_le_bytes())]).unwrap();
                        load.commit().unwrap();
                    }
                    let mut value = n.to_le_bytes().to_vec();
                    value.resize(2000, n as u8);
                    let mut batch = WriteBatch::new();
                    for keyspace in [&*db, &other] {
                        batch.put(keyspace, format!("key {}", n % KEYS), &value);
                        batch.put(keyspace, "newest", &value);
                    }
                    db.write(&batch, WriteOptions::new()).unwrap();
                    n += 1;
                }
            });
            let check = |keyspace: &SnapshotKeyspace| -> u64 {
                let at = |key: &str| keyspace.get(key).unwrap().map(|value| number(&value));
                let Some(newest) = at("newest") else {
                    return 0;
                };
                for rest in 0..KEYS {
                    let back = (newest + KEYS - rest) % KEYS;
                    let expected = newest.checked_sub(back);
                    assert_eq!(at(&format!("key {rest}")), expected, "newest {newest}");
                }
                let loaded = at("loaded").unwrap();
                let (last, next) = (newest - newest % 20, newest + 1);
                assert!(
                    loaded == last || loaded == next,
                    "{loaded}, newest {newest}"
                );
                newest
            };
            let _ends = Ends(&over);
            let began = Instant::now();
            let mut reader = loop {
                match Db::open_read_only(dir.path()) {
                    Ok(reader) => break reader,
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
                }
            };
            let (mut moments, mut before) = (0, 0);
            while began.elapsed() < Duration::from_secs(3) {
                match reader.refresh() {
                    Ok(()) => moments += 1,
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
                }
                let newest = check(&reader);
                assert_eq!(check(&reader.keyspace("other").unwrap()), newest);
                assert!(before <= newest);
                before = newest;
            }
            assert!(3 <= moments, "{moments} moments, up to write {before}");
        });
    }
}

/// Tells the writer that it is over, also when an assertion fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
