//! A whole database on the simulated disk, under commands.
//!
//! - writing: `put k=v…`, `delete k…` (one batch each), `batch k=v -k…`, `synced …`, `sync`,
//!   `flush`, `compact [a..b]`, `keyspace name`, `drop-keyspace name`. A key `orders/k` is of the
//!   keyspace `orders`, any other of `default`.
//! - reading: `get k…`, `scan [a..b]`, `rev [a..b]`, `ends a..b front back…`, `prefix p`,
//!   `cursor [a..b]: seek k; next; prev; first; last; seek-for-prev k`; `snapshot s`, then `at s`
//!   before a reading; `release s`; `iterate i [a..b]`, then `take i n`. `in orders` before a
//!   reading asks that keyspace.
//! - the process: `open k=v…` (options, before anything else), `close`, `kill`, `reopen`,
//!   `power-loss FAMILY n` (the n-th disk of the family), `reopen-crashing` (a crash at every call
//!   of an open: what is there when it is opened once more).
//! - the disk: `flip FILE n`, `cut FILE n`, `zero FILE from to`, `lose FILE`, `plant FILE text`,
//!   `swap FILE FILE`; `fail CLASS KIND FAULT`, `heal`.
//! - figures: `report`, `files`, `names`, `shape`, `seqno`, `keyspaces`, `verify`, `state`.

use super::{World, bytes_of, damage, error_text, text_of};
use crate::support::ROOT;
use alluvium::fs::sim::{Family, SimFs};
use alluvium::fs::{FileName, Fs};
use alluvium::{
    Cursor, Db, Durability, Iter, Keyspace, KeyspaceOptions, LogMode, Options, Result, Snapshot,
    WriteBatch, WriteOptions,
};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;

/// Commands that do not open the database.
const WITHOUT_A_PROCESS: [&str; 12] = [
    "open",
    "reopen",
    "reopen-crashing",
    "power-loss",
    "lose",
    "flip",
    "cut",
    "zero",
    "plant",
    "swap",
    "files",
    "names",
];

type Range = (Bound<Vec<u8>>, Bound<Vec<u8>>);

pub(super) struct Database {
    sim: SimFs,
    options: Options,
    db: Option<Db>,
    snapshots: BTreeMap<String, Snapshot>,
    iterators: BTreeMap<String, Iter>,
}

/// Nothing happens by itself: no flush and no compaction that a command does not ask for.
fn quiet() -> KeyspaceOptions {
    KeyspaceOptions::new()
        .block_bytes(256)
        .level0_runs(64)
        .tier_runs(64)
}

fn options() -> Options {
    Options::new()
        .memory_bytes(8 << 20)
        .log_segment_bytes(8 << 10)
        .background_threads(0)
        .default_keyspace(quiet())
}

fn family(name: &str) -> Family {
    Family::ALL
        .into_iter()
        .find(|family| format!("{family:?}") == name)
        .unwrap_or_else(|| panic!("unknown family {name}"))
}

fn range_of(text: &str) -> Range {
    let (from, to) = text.split_once("..").expect("a range has two dots");
    let bound = |text: &str, make: fn(Vec<u8>) -> Bound<Vec<u8>>| match text {
        "" => Bound::Unbounded,
        _ => make(bytes_of(text)),
    };
    match to.strip_prefix('=') {
        Some(to) => (bound(from, Bound::Included), bound(to, Bound::Included)),
        None => (bound(from, Bound::Included), bound(to, Bound::Excluded)),
    }
}

fn entry_text(key: &[u8], value: &[u8]) -> String {
    format!("{}={}", text_of(key), text_of(value))
}

fn entries(iter: impl Iterator<Item = Result<(alluvium::Slice, alluvium::Slice)>>) -> String {
    let all: Vec<String> = iter
        .map(|entry| match entry {
            Ok((key, value)) => entry_text(&key, &value),
            Err(error) => error_text(&error),
        })
        .collect();
    if all.is_empty() {
        return "nothing".to_owned();
    }
    all.join(" ")
}

fn walk(mut cursor: Cursor, steps: &str) -> String {
    let places: Vec<String> = steps
        .split(';')
        .map(|step| {
            let words: Vec<&str> = step.split_whitespace().collect();
            let moved = match words[..] {
                ["first"] => cursor.first(),
                ["last"] => cursor.last(),
                ["next"] => cursor.next(),
                ["prev"] => cursor.prev(),
                ["seek", key] => cursor.seek(bytes_of(key)),
                ["seek-for-prev", key] => cursor.seek_for_prev(bytes_of(key)),
                _ => panic!("unknown step {step}"),
            };
            match (moved, cursor.entry()) {
                (Err(error), _) => error_text(&error),
                (Ok(()), Some((key, value))) => entry_text(key, value),
                (Ok(()), None) => "nowhere".to_owned(),
            }
        })
        .collect();
    places.join("; ")
}

/// What holds entries: a keyspace now, or at a snapshot.
enum Place {
    Now(Keyspace),
    Then(alluvium::SnapshotKeyspace),
}

impl Place {
    fn get(&self, key: &[u8]) -> Result<Option<alluvium::Slice>> {
        match self {
            Place::Now(keyspace) => keyspace.get(key),
            Place::Then(keyspace) => keyspace.get(key),
        }
    }

    fn range(&self, range: Range) -> Iter {
        match self {
            Place::Now(keyspace) => keyspace.range(range),
            Place::Then(keyspace) => keyspace.range(range),
        }
    }

    fn prefix(&self, prefix: &[u8]) -> Iter {
        match self {
            Place::Now(keyspace) => keyspace.prefix(prefix),
            Place::Then(keyspace) => keyspace.prefix(prefix),
        }
    }

    fn cursor(&self, range: Range) -> Cursor {
        match self {
            Place::Now(keyspace) => keyspace.cursor_over(range),
            Place::Then(keyspace) => {
                assert_eq!(range, range_of(".."), "a snapshot's cursor has no bounds");
                keyspace.cursor()
            }
        }
    }
}

impl Database {
    fn fs(&self) -> Fs {
        Fs::sim(&self.sim, Path::new(ROOT))
    }

    fn db(&mut self) -> &Db {
        if self.db.is_none() {
            self.db = Some(self.options.clone().open_in(self.fs()).unwrap());
        }
        self.db.as_ref().unwrap()
    }

    fn keyspace(&mut self, name: &str) -> Keyspace {
        self.db().keyspace(name, quiet()).unwrap()
    }

    /// The keyspace and the key of `orders/k`.
    fn place(&mut self, text: &str) -> (Keyspace, Vec<u8>) {
        let (name, key) = text.split_once('/').unwrap_or(("default", text));
        (self.keyspace(name), bytes_of(key))
    }

    fn write(&mut self, words: &[&str], durability: Durability) -> String {
        let mut batch = WriteBatch::new();
        for word in words {
            match (word.strip_prefix('-'), word.split_once('=')) {
                (Some(key), _) => {
                    let (keyspace, key) = self.place(key);
                    batch.delete(&keyspace, key);
                }
                (None, Some((key, value))) => {
                    let (keyspace, key) = self.place(key);
                    batch.put(&keyspace, key, bytes_of(value));
                }
                _ => panic!("neither a put nor a delete: {word}"),
            }
        }
        let options = WriteOptions::new().durability(durability);
        said(self.db().write(&batch, options).map(drop))
    }

    /// Leaves the process without a close: nothing of it happens after this moment.
    fn leave(&mut self, next: SimFs) {
        self.snapshots.clear();
        self.iterators.clear();
        self.sim.crash_at(self.sim.call_count());
        self.db = None;
        self.sim = next;
    }

    fn open(&mut self) -> String {
        self.snapshots.clear();
        self.iterators.clear();
        if let Some(db) = self.db.take() {
            db.close().unwrap();
        }
        match self.options.clone().open_in(self.fs()) {
            Ok(db) => {
                self.db = Some(db);
                String::new()
            }
            Err(error) => error_text(&error),
        }
    }

    fn contents(db: &Db) -> String {
        let all: Vec<String> = db
            .keyspaces()
            .iter()
            .map(|name| {
                let keyspace = db.keyspace(name, KeyspaceOptions::new()).unwrap();
                format!("{name}: {}", entries(keyspace.iter()))
            })
            .collect();
        all.join(", ")
    }

    fn reopen_crashing(&mut self) -> String {
        let clean = self.sim.kill();
        self.leave(clean);
        let trial = self.sim.kill();
        drop(
            self.options
                .clone()
                .open_in(Fs::sim(&trial, Path::new(ROOT))),
        );
        let calls = trial.call_count();
        let mut found: Vec<String> = Vec::new();
        for call in 0..calls {
            let sim = self.sim.kill();
            sim.crash_at(call);
            drop(self.options.clone().open_in(Fs::sim(&sim, Path::new(ROOT))));
            for image in sim.images(&[Family::Nothing, Family::Everything, Family::DataOrNames]) {
                let opened = self.options.clone();
                let text = match opened.open_in(Fs::sim(&image.sim, Path::new(ROOT))) {
                    Ok(db) => Self::contents(&db),
                    Err(error) => format!("call {call}, {}: {}", image.id, error_text(&error)),
                };
                if !found.contains(&text) {
                    found.push(text);
                }
            }
        }
        assert!(5 < calls, "an open makes some calls");
        found.join("\n")
    }

    fn change_file(&mut self, command: &str, words: &[&str]) {
        let root = Path::new(ROOT);
        let old = self.sim.bytes(root, words[0]);
        assert!(
            old.is_some() || command == "plant",
            "no {} among {:?}",
            words[0],
            self.names()
        );
        let mut bytes = old.unwrap_or_default();
        match command {
            "swap" => {
                let other = self.sim.bytes(root, words[1]).expect("both are there");
                self.sim.plant(root, words[1], &bytes);
                bytes = other;
            }
            "plant" => bytes = bytes_of(words[1]),
            _ => damage(&mut bytes, command, &words[1..]),
        }
        self.sim.plant(root, words[0], &bytes);
    }

    fn names(&self) -> Vec<String> {
        let list = self.fs().list().unwrap();
        list.into_iter().map(|entry| entry.name).collect()
    }

    /// How many files there are of each sort; those that are not ours by name.
    fn files(&self) -> String {
        let mut counts = BTreeMap::new();
        for name in self.names() {
            let class = match name.rsplit_once('.') {
                _ if FileName::parse(&name).is_none() => name,
                Some((_, extension)) => extension.to_owned(),
                None => continue, // CURRENT and LOCK
            };
            *counts.entry(class).or_insert(0) += 1;
        }
        let all: Vec<String> = counts.iter().map(|(c, n)| format!("{c} {n}")).collect();
        all.join(", ")
    }

    fn shape(&mut self) -> String {
        let stats = self.db().stats();
        let mut lines = Vec::new();
        for keyspace in &stats.keyspaces {
            for (level, of_level) in keyspace.levels.iter().enumerate() {
                for run in &of_level.runs {
                    let mut line = format!("{} L{level}", keyspace.name);
                    for table in &run.tables {
                        let keys = (text_of(&table.smallest), text_of(&table.largest));
                        line += &format!(
                            " {}-{} n={} t={}",
                            keys.0, keys.1, table.entries, table.tombstones
                        );
                    }
                    lines.push(line);
                }
            }
        }
        if lines.is_empty() {
            return "no tables".to_owned();
        }
        lines.join("\n")
    }

    fn report(&mut self) -> String {
        let report = self.db().open_report();
        let mut text = format!(
            "segments {}, batches {}, operations {}",
            report.segments, report.batches, report.operations
        );
        if let Some((file, offset)) = &report.torn {
            text += &format!(", torn {} at {offset}", file.display());
        }
        if 0 < report.segments_passed_over {
            text += &format!(", passed over {}", report.segments_passed_over);
        }
        if 0 < report.orphans_removed {
            text += &format!(", orphans {}", report.orphans_removed);
        }
        text
    }

    fn read(&mut self, place: &Place, command: &str, words: &[&str]) -> String {
        let range = |n: usize| range_of(words.get(n).copied().unwrap_or("..").trim_matches(':'));
        match command {
            "get" => {
                let all: Vec<String> = words
                    .iter()
                    .map(|key| match place.get(&bytes_of(key)) {
                        Ok(Some(value)) => entry_text(&bytes_of(key), &value),
                        Ok(None) => format!("no {key}"),
                        Err(error) => error_text(&error),
                    })
                    .collect();
                all.join(" ")
            }
            "scan" => entries(place.range(range(0))),
            "rev" => entries(place.range(range(0)).rev()),
            "prefix" => entries(place.prefix(&bytes_of(words[0]))),
            "ends" => {
                let mut iter = place.range(range(0));
                let turns = words[1..].iter().map(|turn| match *turn {
                    "front" => iter.next(),
                    _ => iter.next_back(),
                });
                let all: Vec<String> = turns.map(|entry| entries(entry.into_iter())).collect();
                all.join("; ")
            }
            "cursor" => {
                let text = words.join(" ");
                let (bounds, steps) = text.split_once(':').expect("steps follow a colon");
                let bounds = if bounds.is_empty() { ".." } else { bounds };
                walk(place.cursor(range_of(bounds)), steps)
            }
            "iterate" => {
                let iter = place.range(range(1));
                self.iterators.insert(words[0].to_owned(), iter);
                String::new()
            }
            _ => panic!("unknown command {command}"),
        }
    }
}

/// Nothing when it went well, else the error.
fn said(result: Result<()>) -> String {
    result.map_or_else(|error| error_text(&error), |()| String::new())
}

impl World for Database {
    fn new() -> Self {
        Database {
            sim: SimFs::new(5),
            options: options(),
            db: None,
            snapshots: BTreeMap::new(),
            iterators: BTreeMap::new(),
        }
    }

    fn run(&mut self, command: &str, words: &[&str]) -> String {
        let first = words.first().copied().unwrap_or_default();
        if self.db.is_none() && !WITHOUT_A_PROCESS.contains(&command) && !self.open().is_empty() {
            return "not open".to_owned();
        }
        match command {
            "open" => {
                for word in words {
                    let options = self.options.clone();
                    self.options = match word.split_once('=') {
                        Some(("log", "write")) => options.log_mode(LogMode::Write),
                        Some(("segment", n)) => options.log_segment_bytes(n.parse().unwrap()),
                        Some(("table", n)) => {
                            let tables = quiet().table_bytes(n.parse().unwrap());
                            options.default_keyspace(tables)
                        }
                        _ => panic!("unknown option {word}"),
                    };
                }
                self.open()
            }
            "put" => words
                .iter()
                .map(|word| self.write(&[word], Durability::Logged))
                .collect(),
            "delete" => {
                let deletes: Vec<String> = words.iter().map(|key| format!("-{key}")).collect();
                let deletes = deletes
                    .iter()
                    .map(|word| self.write(&[word], Durability::Logged));
                deletes.collect()
            }
            "batch" => self.write(words, Durability::Logged),
            "synced" => self.write(words, Durability::Synced),
            "sync" => said(self.db().sync()),
            "flush" => said(self.db().flush()),
            "compact" if words.is_empty() => said(self.db().compact()),
            "compact" => said(self.db().compact_range(range_of(first))),
            "keyspace" => {
                self.keyspace(first);
                String::new()
            }
            "drop-keyspace" => said(self.db().drop_keyspace(first)),
            "snapshot" => {
                let snapshot = self.db().snapshot();
                self.snapshots.insert(first.to_owned(), snapshot);
                String::new()
            }
            "release" => {
                assert!(self.snapshots.remove(first).is_some());
                String::new()
            }
            "at" => {
                let (name, words) = match words[1] {
                    "in" => (words[2], &words[3..]),
                    _ => ("default", &words[1..]),
                };
                let keyspace = self.keyspace(name);
                let place = Place::Then(self.snapshots[first].keyspace(&keyspace));
                self.read(&place, words[0], &words[1..])
            }
            "in" => {
                let place = Place::Now(self.keyspace(first));
                self.read(&place, words[1], &words[2..])
            }
            "take" => {
                let iter = self.iterators.get_mut(first).expect("an iterator");
                entries(iter.take(words[1].parse().unwrap()))
            }
            "close" => {
                self.snapshots.clear();
                self.iterators.clear();
                said(self.db.take().expect("open").close())
            }
            "kill" => {
                let next = self.sim.kill();
                self.leave(next);
                String::new()
            }
            "power-loss" => {
                let n = words.get(1).map_or(0, |n| n.parse().unwrap());
                let mut images = self.sim.images(&[family(first)]);
                let next = images.nth(n).expect("the family has so many").sim;
                self.leave(next);
                String::new()
            }
            "reopen" => self.open(),
            "reopen-crashing" => self.reopen_crashing(),
            "lose" => {
                let name = FileName::parse(first).expect("a name of ours");
                said(self.fs().remove(name).and_then(|()| self.fs().sync_dir()))
            }
            "flip" | "cut" | "zero" | "plant" | "swap" => {
                self.change_file(command, words);
                String::new()
            }
            "report" => self.report(),
            "files" => self.files(),
            "names" => self.names().join(" "),
            "shape" => self.shape(),
            "seqno" => self.db().seqno().to_string(),
            "keyspaces" => self.db().keyspaces().join(" "),
            "verify" => match self.db().verify() {
                Ok(report) if report.problems.is_empty() => {
                    format!("{} tables, {} entries", report.files, report.entries)
                }
                Ok(report) => error_text(&report.problems[0]),
                Err(error) => error_text(&error),
            },
            _ => {
                let place = Place::Now(self.keyspace("default"));
                self.read(&place, command, words)
            }
        }
    }
}
