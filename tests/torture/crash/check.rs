//! Opens a disk that a crash left, and checks the promises P1 to P6 on it.
//!
//! A look: it opens without flags (P4); what is there is a prefix of the write order (P2, P3) with
//! everything in it that must be (P1); the directory is tidy and other people's files are as they
//! were (P5); numbers go on above those of before (P6). A deep look goes on: the database takes
//! writes, flushes, compacts, closes or dies, and holds the same when it is opened again.

use super::history::{Found, History, Marks, entry_digest};
use super::run::{FOREIGN, ROOT, Setting};
use alluvium::fs::sim::SimFs;
use alluvium::fs::{DirEntry, FileName, Fs};
use alluvium::{Db, Iter, KeyspaceOptions, WriteBatch, WriteOptions};
use std::collections::HashSet;
use std::path::Path;

/// What the database on a disk must be.
#[derive(Clone, Copy)]
pub(crate) struct Expected<'a> {
    pub(crate) setting: &'a Setting,
    pub(crate) history: &'a History,
    pub(crate) marks: &'a Marks,
    /// Batches that must be there.
    pub(crate) least: usize,
    /// Exactly this must be there: an earlier recovery from the same disk found it.
    pub(crate) exactly: Option<&'a Found>,
}

/// Digest of what an iterator gives.
pub(crate) fn digest(entries: Iter) -> u128 {
    let mut sum = 0u128;
    for entry in entries {
        let (key, value) = entry.expect("a good disk reads well");
        sum = sum.wrapping_add(entry_digest(&key, &value));
    }
    sum
}

/// Digest of each keyspace.
pub(crate) fn contents(db: &Db) -> Found {
    let of = |name: String| {
        let space = db.keyspace(&name, KeyspaceOptions::new());
        let digest = digest(space.expect("it is in the list").iter());
        (name, digest)
    };
    db.keyspaces().into_iter().map(of).collect()
}

/// The highest number in the names of logs and tables. An opening makes them only behind a manifest
/// that CURRENT names durably. That manifest and its temporary file come before: when neither name
/// reached the disk, nothing there has ever heard of their numbers, and the next opening draws
/// them again.
pub(crate) fn highest_file(entries: &[DirEntry]) -> u64 {
    let number = |entry: &DirEntry| match FileName::parse(&entry.name)? {
        FileName::Log(id) | FileName::Table(id) => Some(id.0),
        _ => None,
    };
    entries.iter().filter_map(number).max().unwrap_or(0)
}

/// Opens a disk and looks at it; gives what it holds.
pub(crate) fn look(sim: &SimFs, expected: Expected<'_>, deep: bool) -> Found {
    let fs = Fs::sim(sim, Path::new(ROOT));
    let before = fs.list().unwrap_or_default();
    let db = expected
        .setting
        .open(sim)
        .unwrap_or_else(|error| panic!("P4: it does not open: {error}"));
    let mut found = contents(&db);
    let Expected { history, marks, .. } = expected;
    match expected.exactly {
        Some(earlier) => assert_eq!(&found, earlier, "P4: another recovery found something else"),
        None => {
            let prefix = history.prefix(&found, expected.least, marks.tried, marks);
            assert!(
                prefix.is_some(),
                "P1, P2, P3: not between {} and {} batches: {}",
                expected.least,
                marks.tried,
                history.explain(&found, marks)
            );
        }
    }
    let after = fs.list().expect("list");
    check_tidy(&db, &after);
    check_foreign(sim);
    check_numbers(&before, &after, marks);
    let answer = found.clone();
    db.put("after", "the crash")
        .unwrap_or_else(|error| panic!("P4: it takes no write: {error}"));
    let first = db.seqno().get();
    assert!(marks.seqno < first, "P6: sequence number {first} again");
    if deep {
        add(&mut found, "default", b"after", b"the crash");
        go_on(sim, expected.setting, db, found);
    }
    answer
}

/// P5: nothing of ours but what is in use, and nothing empty.
fn check_tidy(db: &Db, entries: &[DirEntry]) {
    let stats = db.stats();
    let levels = stats.keyspaces.iter().flat_map(|k| &k.levels);
    let tables = levels.flat_map(|l| &l.runs).flat_map(|r| &r.tables);
    let live: HashSet<u64> = tables.map(|t| t.file).collect();
    let (mut manifests, mut logs, mut tables) = (0, 0, 0);
    let ours = entries
        .iter()
        .filter_map(|e| Some((FileName::parse(&e.name)?, e.len)));
    for (name, len) in ours {
        match name {
            FileName::Lock | FileName::Ballast => continue,
            FileName::Current => {}
            FileName::Manifest(_) => manifests += 1,
            FileName::Log(_) => logs += 1,
            FileName::Table(id) if live.contains(&id.0) => tables += 1,
            other => panic!("P5: {other} is left behind: {entries:?}"),
        }
        assert!(0 < len, "P5: {name} is empty");
    }
    assert_eq!(manifests, 1, "P5: {entries:?}");
    assert_eq!(tables, live.len(), "P5: a table is missing: {entries:?}");
    // Two segments may be kept to be used again.
    let segments = stats.log.segments;
    assert!(
        segments <= logs && logs <= segments + 2,
        "P5: {segments} segments, {entries:?}"
    );
}

/// P5: what the engine did not name is untouched.
fn check_foreign(sim: &SimFs) {
    for (name, bytes) in FOREIGN {
        let found = sim.bytes(Path::new(ROOT), name);
        assert_eq!(found.as_deref(), Some(bytes), "P5: {name} was touched");
    }
}

/// P6: a file that is new has a number that no file had before, lost ones included. Before CURRENT
/// there is no database yet whose numbers these could be.
fn check_numbers(before: &[DirEntry], after: &[DirEntry], marks: &Marks) {
    let names: HashSet<&str> = before.iter().map(|e| e.name.as_str()).collect();
    if !names.contains("CURRENT") {
        return;
    }
    let new = after.iter().filter(|e| !names.contains(e.name.as_str()));
    for entry in new {
        let number = FileName::parse(&entry.name).and_then(FileName::id);
        assert!(
            number.is_none_or(|id| marks.file < id.0),
            "P6: {} is new, and numbers up to {} were used before",
            entry.name,
            marks.file
        );
    }
}

fn add(found: &mut Found, space: &str, key: &[u8], value: &[u8]) {
    let digest = found.get_mut(space).expect("the keyspace is there");
    *digest = digest.wrapping_add(entry_digest(key, value));
}

/// The recovered database lives on: writes, flush, now and then a compaction, its end, and the
/// same contents afterwards.
fn go_on(sim: &SimFs, setting: &Setting, db: Db, mut found: Found) {
    let names: Vec<String> = found.keys().cloned().collect();
    for n in 0..6u8 {
        let mut batch = WriteBatch::new();
        for name in &names {
            let space = db.keyspace(name, KeyspaceOptions::new()).expect("open");
            // Nothing of a script begins like this.
            let (key, value) = (vec![b'~', n], vec![n; 150]);
            batch.put(&space, &key, &value);
            add(&mut found, name, &key, &value);
        }
        db.write(&batch, WriteOptions::new()).expect("P4: a write");
    }
    db.flush().expect("P4: a flush");
    assert_eq!(contents(&db), found, "after a flush");
    let what = sim.call_count() % 3;
    if what == 0 {
        db.compact().expect("P4: a compaction");
        assert_eq!(contents(&db), found, "after a compaction");
    }
    db.put("last", "word").expect("P4: a write");
    add(&mut found, "default", b"last", b"word");
    let seqno = db.seqno().get();
    let next = match what {
        0 | 1 => {
            db.close().expect("P4: a close");
            sim.kill()
        }
        _ => {
            let next = sim.kill();
            sim.crash_at(sim.call_count());
            drop(db);
            next
        }
    };
    let fs = Fs::sim(&next, Path::new(ROOT));
    let before = fs.list().expect("list");
    let marks = Marks {
        seqno,
        file: highest_file(&before),
        ..Marks::default()
    };
    let db = setting.open(&next).expect("P4: opened again");
    assert_eq!(contents(&db), found, "P4: opened again");
    let after = fs.list().expect("list");
    check_tidy(&db, &after);
    check_foreign(&next);
    check_numbers(&before, &after, &marks);
    db.put("again", "").expect("P4: a write");
    assert!(seqno < db.seqno().get(), "P6: a sequence number again");
}
