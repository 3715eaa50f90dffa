//! Checkpoints: a copy shows one instant, is a database of its own, and is there whole or not at all.

use crate::support::{ROOT, TempDir, quiet_options};
use alluvium::fs::sim::{CallKind, Family, Fault, FaultRule, FileClass, SimFs};
use alluvium::fs::{FileName, Fs};
use alluvium::{
    CheckpointOptions, Db, ErrorKind, KeyspaceOptions, Options, State, WriteBatch, WriteOptions,
};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;

const COPY: &str = "/copy";

fn small() -> KeyspaceOptions {
    KeyspaceOptions::new()
        .write_buffer_bytes(4 << 10)
        .table_bytes(4 << 10)
        .block_bytes(256)
        .level0_runs(2)
        .tier_runs(2)
        .size_ratio(2)
}

fn options() -> Options {
    quiet_options(small())
}

fn open(sim: &SimFs, root: &str) -> alluvium::Result<Db> {
    options().open_in(Fs::sim(sim, Path::new(root)))
}

fn all(db: &Db, keyspace: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let keyspace = db.keyspace(keyspace, KeyspaceOptions::new()).unwrap();
    let entries = keyspace.iter().map(|entry| {
        let (key, value) = entry.unwrap();
        (key.to_vec(), value.to_vec())
    });
    entries.collect()
}

fn names(fs: &Fs) -> Vec<String> {
    fs.list().unwrap().into_iter().map(|e| e.name).collect()
}

/// Two keyspaces; the last writes are in memory alone.
fn filled(db: &Db) {
    let orders = db.keyspace("orders", small()).unwrap();
    for n in 0..200u32 {
        db.put(n.to_be_bytes(), [1; 50]).unwrap();
        orders.put(n.to_be_bytes(), [2; 50]).unwrap();
    }
    db.flush().unwrap();
    for n in 100..150u32 {
        db.delete(n.to_be_bytes()).unwrap();
        orders.put(n.to_be_bytes(), [3; 50]).unwrap();
    }
}

#[test]
fn a_copy_is_a_database_of_its_own() {
    let dir = TempDir::new("checkpoint");
    let (path, copy) = (dir.path().join("db"), dir.path().join("made/with/parents"));
    let db = options().background_threads(1).open(&path).unwrap();
    filled(&db);
    let report = db.checkpoint(&copy).unwrap();
    assert_eq!(report.seqno, db.seqno());
    assert_eq!(report.keyspaces, ["default", "orders"]);
    assert_eq!(
        (report.tables_linked, report.bytes_written),
        (report.tables, 0),
        "everything was flushed first, so everything is a link"
    );
    let mut linked = 0;
    for entry in std::fs::read_dir(&copy).unwrap() {
        let entry = entry.unwrap();
        if entry.path().extension().is_some_and(|e| e == "tbl") {
            let source = std::fs::metadata(path.join(entry.file_name())).unwrap();
            assert_eq!(entry.metadata().unwrap().ino(), source.ino());
            linked += 1;
        }
    }
    assert_eq!(linked, report.tables);
    let (ours, orders) = (all(&db, "default"), all(&db, "orders"));
    db.put("later", "in the source").unwrap();

    let other = options().background_threads(1).open(&copy).unwrap();
    assert_eq!(other.seqno(), report.seqno);
    assert_eq!(
        (all(&other, "default"), all(&other, "orders")),
        (ours, orders)
    );
    other.put("own", "in the copy").unwrap();
    assert!(report.seqno < other.seqno(), "its numbers go on");
    assert_eq!(other.get("later").unwrap(), None);
    assert_eq!(db.get("own").unwrap(), None);
    // Both rewrite what they share, and neither notices the other.
    other.compact().unwrap();
    db.drop_keyspace("orders").unwrap();
    db.compact().unwrap();
    assert_eq!(all(&other, "orders").len(), 200);
    assert!(other.verify().unwrap().problems.is_empty());
    other.close().unwrap();
    drop(db);
    Db::destroy(&path).unwrap();
    let other = options().open(&copy).unwrap();
    assert_eq!(all(&other, "default").len(), 151);
    assert!(other.verify().unwrap().problems.is_empty());
    other.close().unwrap();
    assert!(!Db::repair(&copy).unwrap().changed);
}

/// A log or a table of the copy put in the place of one of the source's, or the other way round, is
/// noticed, because the two are different databases (R2, R9).
#[test]
fn source_and_copy_never_take_each_others_files() {
    let sim = SimFs::new(2);
    let db = open(&sim, ROOT).unwrap();
    filled(&db);
    db.checkpoint(COPY).unwrap();
    let copy = open(&sim, COPY).unwrap();
    let births = |root: &str| {
        let bytes = sim.bytes(Path::new(root), "CURRENT").unwrap();
        u64::from_le_bytes(bytes[20..28].try_into().unwrap())
    };
    assert_ne!(births(ROOT), births(COPY));
    // The same numbers are free in both.
    db.put("k", "source").unwrap();
    copy.put("k", "copy").unwrap();
    for db in [&db, &copy] {
        db.compact().unwrap();
    }
    drop((db, copy));
    let fs = |root| Fs::sim(&sim, Path::new(root));
    let common: Vec<String> = names(&fs(ROOT))
        .into_iter()
        .filter(|name| name.ends_with(".tbl") && names(&fs(COPY)).contains(name))
        .filter(|name| sim.bytes(Path::new(ROOT), name) != sim.bytes(Path::new(COPY), name))
        .collect();
    for name in common {
        let bytes = sim.bytes(Path::new(ROOT), &name).unwrap();
        let next = sim.kill();
        next.plant(Path::new(COPY), &name, &bytes);
        let copy = open(&next, COPY).unwrap();
        let report = copy.verify().unwrap();
        assert!(!report.problems.is_empty(), "{name} of the source is taken");
    }
}

/// Without its manifest the tables of a copy, born in two databases, are all still its own.
#[test]
fn a_copy_is_repaired_like_any_database() {
    let sim = SimFs::new(3);
    let db = open(&sim, ROOT).unwrap();
    filled(&db);
    db.checkpoint(COPY).unwrap();
    drop(db);
    let copy = open(&sim, COPY).unwrap();
    for n in 1000..1100u32 {
        copy.put(n.to_be_bytes(), [9; 50]).unwrap();
    }
    copy.put("logged", "1").unwrap();
    let expected = (all(&copy, "default"), all(&copy, "orders").len());
    drop(copy);
    let fs = Fs::sim(&sim, Path::new(COPY));
    for name in names(&fs) {
        if let Some(name @ (FileName::Manifest(_) | FileName::Current)) = FileName::parse(&name) {
            fs.remove(name).unwrap();
        }
    }
    let report = options().repair_in(fs).unwrap();
    assert!(!report.has_lost_data(), "{report}");
    let copy = open(&sim, COPY).unwrap();
    assert_eq!(all(&copy, "default"), expected.0);
    let second = copy
        .keyspaces()
        .into_iter()
        .find(|k| k != "default")
        .unwrap();
    assert_eq!(all(&copy, &second).len(), expected.1);
}

#[test]
fn a_copy_has_the_keyspaces_that_were_asked_for() {
    let sim = SimFs::new(4);
    let db = open(&sim, ROOT).unwrap();
    filled(&db);
    let only = |name: &str| CheckpointOptions::new().keyspaces([name]);
    let report = db.checkpoint_with(COPY, only("orders")).unwrap();
    assert_eq!(report.keyspaces, ["default", "orders"]);
    let copy = open(&sim, COPY).unwrap();
    assert_eq!(all(&copy, "orders"), all(&db, "orders"));
    assert_eq!(all(&copy, "default"), []);
    // Its number is not given again.
    let more = copy.keyspace("more", KeyspaceOptions::new()).unwrap();
    more.put("k", "v").unwrap();
    let error = db.checkpoint_with("/none", only("nobody")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("'nobody'"), "{error}");
    let none = Fs::sim(&sim, Path::new("/none"));
    assert!(!none.root_exists().unwrap(), "nothing was made");
}

/// What is in memory alone when the disk is full is copied all the same, and the source is left as
/// it was.
#[test]
fn a_source_whose_disk_is_full_can_be_copied_to_another() {
    let sim = SimFs::new(5);
    let db = open(&sim, ROOT).unwrap();
    filled(&db);
    sim.fail(FaultRule::new(Fault::Enospc).sticky());
    while db.put([7; 8], [7; 50]).is_ok() {}
    let expected = (all(&db, "default"), all(&db, "orders"));
    let elsewhere = SimFs::new(6);
    let to = Fs::sim(&elsewhere, Path::new(COPY));
    let report = db.checkpoint_in(&to, &CheckpointOptions::new()).unwrap();
    assert_eq!(report.tables_linked, 0, "another machine is another device");
    assert!(matches!(db.state(), State::ReadOnly(_)));
    let copy = open(&elsewhere, COPY).unwrap();
    assert_eq!((all(&copy, "default"), all(&copy, "orders")), expected);
    sim.heal();
    db.put("resumed", "yes").unwrap();
}

/// Where links cannot be made, a damaged table is not copied: the error names the source's file.
#[test]
fn a_damaged_table_is_found_when_it_has_to_be_copied() {
    let sim = SimFs::new(7);
    let db = open(&sim, ROOT).unwrap();
    filled(&db);
    db.compact().unwrap();
    drop(db);
    let root = Path::new(ROOT);
    let table = names(&Fs::sim(&sim, root))
        .into_iter()
        .find(|name| name.ends_with(".tbl"))
        .unwrap();
    let mut bytes = sim.bytes(root, &table).unwrap();
    bytes[700] ^= 4;
    sim.plant(root, &table, &bytes);
    let db = open(&sim, ROOT).unwrap();
    let elsewhere = SimFs::new(8);
    let to = Fs::sim(&elsewhere, Path::new(COPY));
    let error = db
        .checkpoint_in(&to, &CheckpointOptions::new())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corruption);
    assert_eq!(error.file().unwrap(), root.join(&table));
    assert!(error.offset().unwrap() <= 700, "{error}");
    assert!(!to.root_exists().unwrap(), "nothing is left of it");
}

#[test]
fn a_directory_that_holds_something_is_refused_and_left_alone() {
    let dir = TempDir::new("checkpoint-refused");
    let path = dir.path().join("db");
    let db = options().open(&path).unwrap();
    db.put("k", "v").unwrap();
    let other = dir.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("notes.txt"), "mine").unwrap();
    let error = db.checkpoint(&other).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("'notes.txt' in it"), "{error}");
    let left: Vec<_> = std::fs::read_dir(&other).unwrap().collect();
    assert_eq!(left.len(), 1, "no LOCK either");
    let itself = db.checkpoint(&path).unwrap_err();
    assert_eq!(itself.kind(), ErrorKind::InvalidArgument);
    let empty = dir.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    db.checkpoint(&empty).unwrap();
    let again = db.checkpoint(&empty).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::InvalidArgument, "it is whole");
    db.close().unwrap();
    assert_eq!(
        options().open(&empty).unwrap().get("k").unwrap().unwrap(),
        b"v"
    );
}

/// Writers, flushes, compactions and dropped keyspaces go on; each copy is one instant over both
/// keyspaces, with everything that was acknowledged before it was asked for.
#[test]
fn copies_taken_under_load_each_show_one_instant() {
    const ROUNDS: u64 = 12;
    let dir = TempDir::new("checkpoint-load");
    let db = options()
        .background_threads(2)
        .open(dir.path().join("db"))
        .unwrap();
    let other = db.keyspace("other", small()).unwrap();
    let (acknowledged, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // One number, in both keyspaces, and as many keys as it says.
            for n in 1u64.. {
                let mut batch = WriteBatch::new();
                batch.put(&db, "n", n.to_be_bytes());
                batch.put(&other, "n", n.to_be_bytes());
                batch.put(&db, [b"k", &n.to_be_bytes()[..]].concat(), [5; 40]);
                batch.delete(
                    &db,
                    [b"k", &n.saturating_sub(500).to_be_bytes()[..]].concat(),
                );
                db.write(&batch, WriteOptions::new()).unwrap();
                acknowledged.store(n, Ordering::Release);
                if stop.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        scope.spawn(|| {
            for n in 0.. {
                let name = format!("passing-{n}");
                let passing = db.keyspace(&name, small()).unwrap();
                passing.put("k", "v").unwrap();
                drop(passing);
                db.drop_keyspace(&name).unwrap();
                if stop.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        for round in 0..ROUNDS {
            while acknowledged.load(Ordering::Acquire) < 300 * (round + 1) {
                std::thread::yield_now();
            }
            let before = acknowledged.load(Ordering::Acquire);
            let path = dir.path().join(format!("copy-{round}"));
            db.checkpoint(&path).unwrap();
            let copy = options().open(&path).unwrap();
            let other = copy.keyspace("other", KeyspaceOptions::new()).unwrap();
            let n = copy.get("n").unwrap().unwrap();
            assert_eq!(other.get("n").unwrap().unwrap(), n, "one instant");
            let n = u64::from_be_bytes(n[..].try_into().unwrap());
            assert!(before <= n, "{before} was acknowledged, {n} is there");
            let keys: Vec<u64> = copy
                .prefix("k")
                .map(|entry| u64::from_be_bytes(entry.unwrap().0[1..].try_into().unwrap()))
                .collect();
            let expected: Vec<u64> = (n.saturating_sub(500) + 1..=n).collect();
            assert_eq!(keys, expected);
            assert!(copy.verify().unwrap().problems.is_empty());
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(10 < db.stats().flushes && 1 < db.stats().compactions);
}

/// The power goes at any call: the directory is no database, and says so, or it is the whole one;
/// and a new checkpoint may take the place of an unfinished one. The source loses nothing.
#[test]
fn power_loss_at_any_call_leaves_a_whole_copy_or_none() {
    let sim = SimFs::new(9);
    let db = open(&sim, ROOT).unwrap();
    filled(&db);
    db.sync().unwrap();
    let expected = (all(&db, "default"), all(&db, "orders"));
    let (copies, moments) = mpsc::channel();
    sim.on_call(move |_, machine| copies.send(machine).unwrap());
    let before = sim.call_count();
    db.checkpoint(COPY).unwrap();
    let calls = sim.call_count() - before;
    let last = sim.kill();
    drop(db);
    let (mut whole, mut unfinished, mut none) = (0, 0, 0);
    let moments: Vec<SimFs> = moments
        .try_iter()
        .take(calls as usize)
        .chain([last])
        .collect();
    for (index, moment) in moments.iter().enumerate() {
        let is_done = index + 1 == moments.len();
        for image in moment.images(&Family::ALL) {
            let (sim, id) = (image.sim, image.id);
            let fs = Fs::sim(&sim, Path::new(COPY));
            let found = match fs.root_exists().unwrap() {
                true => options().create_if_missing(false).open_in(fs.clone()),
                false => Err(not_found(&sim)),
            };
            match found {
                Ok(copy) => {
                    let found = (all(&copy, "default"), all(&copy, "orders"));
                    assert!(found == expected, "{id}: it opens, and is not whole");
                    assert!(!names(&fs).contains(&"UNFINISHED".to_owned()), "{id}");
                    whole += 1;
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::Unfinished => {
                    assert!(error.to_string().contains("Make it again"), "{error}");
                    unfinished += 1;
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::NotFound, "{id}: {error}");
                    none += 1;
                }
            }
            assert!(!is_done, "{id}: it was reported as done");
            if names_of_an_unfinished(&fs) {
                let repaired = options().repair_in(fs.clone()).unwrap_err();
                assert_eq!(repaired.kind(), ErrorKind::Unfinished, "{id}: {repaired}");
            }
            // Some of them, because each costs as much as all that was before.
            if (unfinished + none) % 7 == 0 {
                let db = open(&sim, ROOT).unwrap();
                db.checkpoint(COPY).unwrap_or_else(|e| panic!("{id}: {e}"));
                let copy = open(&sim, COPY).unwrap();
                let found = (all(&copy, "default"), all(&copy, "orders"));
                assert!(found == expected, "{id}");
            }
        }
    }
    assert!(
        10 < whole && 50 < unfinished && 10 < none,
        "{whole} whole, {unfinished} unfinished, {none} not there"
    );
}

fn names_of_an_unfinished(fs: &Fs) -> bool {
    fs.root_exists().unwrap() && names(fs).contains(&"UNFINISHED".to_owned())
}

fn not_found(sim: &SimFs) -> alluvium::Error {
    let fs = Fs::sim(sim, Path::new("/nowhere"));
    options().create_if_missing(false).open_in(fs).unwrap_err()
}

/// Each call fails once: the checkpoint fails or was whole all the same, the source goes on, nothing
/// but an unfinished directory is left, and the next checkpoint is good.
#[test]
fn a_call_that_fails_leaves_the_source_and_an_unfinished_copy_at_most() {
    for fault in [Fault::Eio, Fault::Enospc, Fault::Eacces] {
        let mut failed = 0;
        for nth in 0.. {
            let sim = SimFs::new(10);
            let db = open(&sim, ROOT).unwrap();
            filled(&db);
            db.flush().unwrap();
            let hits = sim.faults_hit();
            sim.fail(FaultRule::new(fault).nth(nth));
            let made = db.checkpoint(COPY);
            let hit = hits < sim.faults_hit();
            sim.heal();
            db.put("after", "1").unwrap();
            assert!(matches!(db.state(), State::Ok), "{fault:?} {nth}");
            match made {
                Ok(_) => {}
                Err(error) => {
                    failed += 1;
                    assert_ne!(error.kind(), ErrorKind::Corruption, "{error}");
                    let fs = Fs::sim(&sim, Path::new(COPY));
                    if fs.root_exists().unwrap() && !names(&fs).is_empty() {
                        let found = options().create_if_missing(false).open_in(fs);
                        let kind = found.map(drop).map_err(|e| e.kind());
                        let refused = [ErrorKind::Unfinished, ErrorKind::NotFound];
                        assert!(
                            kind.is_err_and(|kind| refused.contains(&kind)),
                            "{fault:?} {nth}: {kind:?}"
                        );
                    }
                    db.checkpoint(COPY).unwrap();
                }
            }
            let copy = open(&sim, COPY).unwrap();
            assert!(copy.get([0, 0, 0, 1]).unwrap().is_some());
            assert!(copy.verify().unwrap().problems.is_empty());
            if !hit {
                break;
            }
        }
        assert!(5 < failed, "{fault:?}: {failed}");
    }
}

/// The mark that a power cut or a failed removal left beside a CURRENT means nothing.
#[test]
fn the_mark_beside_a_current_is_swept_by_the_first_open() {
    let sim = SimFs::new(11);
    let db = open(&sim, ROOT).unwrap();
    filled(&db);
    let rule = FaultRule::new(Fault::Eio)
        .kinds(&[CallKind::Remove])
        .class(FileClass::Temp)
        .sticky();
    sim.fail(rule);
    db.checkpoint(COPY).unwrap();
    sim.heal();
    let fs = Fs::sim(&sim, Path::new(COPY));
    assert!(names(&fs).contains(&"UNFINISHED".to_owned()));
    let copy = open(&sim, COPY).unwrap();
    assert_eq!(all(&copy, "orders"), all(&db, "orders"));
    assert!(!names(&fs).contains(&"UNFINISHED".to_owned()));
}
