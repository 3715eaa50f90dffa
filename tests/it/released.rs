//! Stores that earlier releases have written: each opens here, with everything in it (suite A10).
//!
//! `tests/golden/format-N` is a database as a release of format N left it when its process was
//! killed: tables of two shapes, deletions above older versions, a batch over two keyspaces, and a
//! log that no table holds yet. It is never written again. A release with a new format adds one:
//! `GOLDEN_MAKE=tests/golden/format-N cargo test --features sim --test it released`.

use crate::support::TempDir;
use alluvium::{Compression, Db, Keyspace, KeyspaceOptions, Options, WriteBatch, WriteOptions};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The formats that there are; the last is the one that this release writes.
const FORMATS: [&str; 1] = ["format-1"];
const SPACES: [&str; 2] = ["default", "packed"];

type Content = [BTreeMap<Vec<u8>, Vec<u8>>; 2];
/// A keyspace's place in [`SPACES`], a key, and its value or none.
type Change = (usize, Vec<u8>, Option<Vec<u8>>);

fn golden(format: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "golden", format]
        .iter()
        .collect()
}

fn options() -> Options {
    Options::new()
        .memory_bytes(4 << 20)
        .log_segment_bytes(16 << 10)
        .background_threads(1)
        .default_keyspace(keyspace_options())
}

fn keyspace_options() -> KeyspaceOptions {
    KeyspaceOptions::new()
        .write_buffer_bytes(64 << 10)
        .table_bytes(1 << 10)
        .block_bytes(512)
}

fn key(n: u32) -> Vec<u8> {
    format!("user/{n:04}").into_bytes()
}

fn value(n: u32, round: u32) -> Vec<u8> {
    format!("{n} in round {round}, {}", "x".repeat(n as usize % 40)).into_bytes()
}

/// What is written into a golden store in each of three rounds, by batches.
fn story(round: u32) -> Vec<Vec<Change>> {
    let batch = |n: u32| {
        let mut batch = vec![(0, key(n), Some(value(n, round)))];
        if n % 7 == round {
            batch.push((0, key(n / 2), None));
        }
        if n.is_multiple_of(3) {
            batch.push((1, key(n), Some(value(n + 1, round))));
        }
        batch
    };
    (round..120)
        .step_by(round as usize + 1)
        .map(batch)
        .collect()
}

/// Writes it; the last round stays in the log.
fn write_story(db: &Db) {
    let packed = keyspace_options().compression(vec![Compression::Lz4]);
    let packed = db.keyspace(SPACES[1], packed).unwrap();
    let spaces: [&Keyspace; 2] = [db, &packed];
    for round in 0..3 {
        for changes in story(round) {
            let mut batch = WriteBatch::new();
            for (space, key, value) in changes {
                match value {
                    Some(value) => batch.put(spaces[space], key, value),
                    None => batch.delete(spaces[space], key),
                }
            }
            db.write(&batch, WriteOptions::new()).unwrap();
        }
        if round < 2 {
            db.flush().unwrap();
        }
    }
}

/// What is there in the end.
fn content_of_story() -> Content {
    let mut content = Content::default();
    for (space, key, value) in (0..3).flat_map(story).flatten() {
        match value {
            Some(value) => drop(content[space].insert(key, value)),
            None => drop(content[space].remove(&key)),
        }
    }
    content
}

fn content_of(db: &Db) -> Content {
    SPACES.map(|name| {
        let space = db.keyspace(name, KeyspaceOptions::new()).unwrap();
        let entries = space.iter().map(|entry| entry.unwrap());
        entries.map(|(k, v)| (k.to_vec(), v.to_vec())).collect()
    })
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Leaves the store as a kill would: files of a database that is open, copied.
fn make(at: &Path) {
    let dir = TempDir::new("golden");
    let db = options().open(dir.path()).unwrap();
    write_story(&db);
    copy(dir.path(), at);
    drop(fs::remove_file(at.join("BALLAST")));
}

#[test]
fn a_store_of_every_released_format_opens_with_everything_in_it() {
    if let Ok(at) = std::env::var("GOLDEN_MAKE") {
        make(Path::new(&at));
    }
    for format in FORMATS {
        let dir = TempDir::new(format);
        copy(&golden(format), dir.path());
        let db = options().open(dir.path()).unwrap();
        assert_eq!(content_of(&db), content_of_story(), "{format}");
        let report = db.verify().unwrap();
        assert!(report.problems.is_empty(), "{format}: {report:?}");
        db.put("another", "one").unwrap();
        db.compact().unwrap();
        db.close().unwrap();

        let db = options().open(dir.path()).unwrap();
        let mut expected = content_of_story();
        expected[0].insert(b"another".to_vec(), b"one".to_vec());
        assert_eq!(content_of(&db), expected, "{format}, written to");
    }
}

/// Who raises the format number adds a golden store: the last one has the number written today.
#[test]
fn the_last_golden_store_is_of_the_format_that_is_written_today() {
    let dir = TempDir::new("golden-now");
    let db = options().open(dir.path()).unwrap();
    db.put("a", "b").unwrap();
    db.flush().unwrap();
    let last = golden(FORMATS[FORMATS.len() - 1]);
    let current = |at: &Path| fs::read(at.join("CURRENT")).unwrap();
    let (old, new) = (current(&last), current(dir.path()));
    assert_eq!(old[..12], new[..12], "magic and format number");
}
