//! Golden stores: small databases that together hold every kind of file, and what is in them.
//!
//! Each is made in the simulator by a fixed script, so that every run damages the same bytes.
//! Write buffers are larger than a whole store: tables are made where the script says `flush` or
//! `compact`, and nowhere else, and the script knows which writes are in tables.

use super::layout::{Layout, registered_logs};
use alluvium::fs::Fs;
use alluvium::fs::sim::SimFs;
use alluvium::{
    Compression, Db, Durability, Keyspace, KeyspaceOptions, LogMode, Options, ReadMode, WriteBatch,
    WriteOptions,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

pub(crate) const ROOT: &str = "/db";

/// One write: its sequence number, its key, and what it put there, or nothing.
pub(crate) type Write = (u64, Vec<u8>, Option<Vec<u8>>);

/// What was done to one keyspace.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    pub(crate) name: String,
    /// In the order of their numbers.
    pub(crate) writes: Vec<Write>,
    /// Everything up to this number is in tables.
    pub(crate) flushed: u64,
}

impl History {
    /// What is visible when the log is lost from number `cut` on.
    pub(crate) fn visible(&self, cut: u64) -> BTreeMap<&[u8], &[u8]> {
        let mut map = BTreeMap::new();
        for (_, key, value) in self.left(cut) {
            match value {
                Some(value) => map.insert(&key[..], &value[..]),
                None => map.remove(&key[..]),
            };
        }
        map
    }

    /// The number of the newest write of each key, of those that such a cut leaves.
    pub(crate) fn newest(&self, cut: u64) -> BTreeMap<&[u8], u64> {
        self.left(cut).map(|(n, k, _)| (&k[..], *n)).collect()
    }

    fn left(&self, cut: u64) -> impl Iterator<Item = &Write> {
        let is_left = move |n: u64| n < cut || n <= self.flushed;
        self.writes.iter().filter(move |(n, ..)| is_left(*n))
    }

    /// Every key ever written, and some between and around them that never were.
    pub(crate) fn keys(&self) -> Vec<Vec<u8>> {
        let written: BTreeSet<_> = self.writes.iter().map(|(_, k, _)| k.clone()).collect();
        let mut keys: BTreeSet<Vec<u8>> = [b"".to_vec(), b"\xff".to_vec()].into();
        for (i, key) in written.iter().enumerate() {
            if i % 6 == 0 {
                keys.insert([&key[..], b"!"].concat());
            }
        }
        keys.extend(written);
        keys.into_iter().collect()
    }
}

/// A store as it lies on the disk, and what is in it.
pub(crate) struct Golden {
    pub(crate) name: &'static str,
    pub(crate) sim: SimFs,
    pub(crate) options: Options,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) layouts: BTreeMap<String, Layout>,
    /// Earlier contents of the same files, and of files that are gone.
    pub(crate) earlier: BTreeMap<String, Vec<Vec<u8>>>,
    /// The segments that count, in order, by name.
    pub(crate) logs: Vec<String>,
    pub(crate) manifest: String,
    pub(crate) histories: Vec<History>,
}

/// Makes one golden store.
struct Maker {
    sim: SimFs,
    options: Options,
    db: Db,
    spaces: Vec<(Keyspace, History)>,
    earlier: BTreeMap<String, Vec<Vec<u8>>>,
}

fn small() -> KeyspaceOptions {
    KeyspaceOptions::new()
        .write_buffer_bytes(64 << 10)
        .table_bytes(1 << 10)
        .block_bytes(256)
        .level0_runs(8)
}

impl Maker {
    fn new(seed: u64, options: Options, segment: u64, default: KeyspaceOptions) -> Maker {
        let sim = SimFs::new(seed);
        let options = options
            .memory_bytes(1 << 20)
            .log_segment_bytes(segment)
            .background_threads(0)
            .default_keyspace(default);
        let db = options.clone().open_in(Fs::sim(&sim, Path::new(ROOT)));
        let db = db.unwrap();
        let default = (Keyspace::clone(&db), History::default());
        let mut maker = Maker {
            sim,
            options,
            db,
            spaces: vec![default],
            earlier: BTreeMap::new(),
        };
        maker.spaces[0].1.name = "default".to_owned();
        maker
    }

    fn keyspace(&mut self, name: &str, options: KeyspaceOptions) -> usize {
        let keyspace = self.db.keyspace(name, options).unwrap();
        let history = History {
            name: name.to_owned(),
            ..History::default()
        };
        self.spaces.push((keyspace, history));
        self.spaces.len() - 1
    }

    fn put(&mut self, space: usize, key: &str, value: &str) {
        let (keyspace, history) = &mut self.spaces[space];
        keyspace.put(key, value).unwrap();
        let write = (self.db.seqno().get(), key.into(), Some(value.into()));
        history.writes.push(write);
    }

    fn delete(&mut self, space: usize, key: &str) {
        let (keyspace, history) = &mut self.spaces[space];
        keyspace.delete(key).unwrap();
        history
            .writes
            .push((self.db.seqno().get(), key.into(), None));
    }

    /// Puts of each tenth key and every third from `from` on, with values that tell them apart.
    fn fill(&mut self, space: usize, keys: impl Iterator<Item = u32>, round: &str) {
        for n in keys {
            let value = format!("{round} of {n:04} {}", "~".repeat(n as usize * 7 % 23));
            self.put(space, &format!("key{n:04}"), &value);
        }
    }

    /// One batch over all keyspaces.
    fn batch(&mut self, key: &str, value: &str) {
        let mut batch = WriteBatch::new();
        for (keyspace, _) in &self.spaces {
            batch.put(keyspace, key, value);
        }
        let last = self.db.write(&batch, WriteOptions::default()).unwrap();
        let first = last.get() + 1 - self.spaces.len() as u64;
        for (n, (_, history)) in (first..).zip(&mut self.spaces) {
            history
                .writes
                .push((n, key.into(), Some(value.as_bytes().into())));
        }
    }

    fn synced(&mut self, space: usize, key: &str, value: &str) {
        let synced = WriteOptions::new().durability(Durability::Synced);
        let (keyspace, history) = &mut self.spaces[space];
        keyspace.put_with(key, value, synced).unwrap();
        let write = (self.db.seqno().get(), key.into(), Some(value.into()));
        history.writes.push(write);
    }

    fn flush(&mut self, space: usize) {
        self.remember();
        let (keyspace, history) = &mut self.spaces[space];
        // No table holds a key of this range, so nothing is compacted behind the flush.
        keyspace.compact_range("~".."~~").unwrap();
        history.flushed = self.db.seqno().get();
    }

    fn compact(&mut self, space: usize) {
        self.flush(space);
        self.spaces[space].0.compact().unwrap();
    }

    /// Keeps the bytes of every file as they are now.
    fn remember(&mut self) {
        for (name, bytes) in files(&self.sim) {
            let earlier = self.earlier.entry(name).or_default();
            if earlier.last() != Some(&bytes) {
                earlier.push(bytes);
            }
        }
    }

    fn reopen(&mut self) {
        self.remember();
        let names: Vec<String> = self.spaces.iter().map(|(_, h)| h.name.clone()).collect();
        let histories = self.spaces.drain(..).map(|(_, h)| h).collect::<Vec<_>>();
        self.db.clone().close().unwrap();
        let fs = Fs::sim(&self.sim, Path::new(ROOT));
        self.db = self.options.clone().open_in(fs).unwrap();
        for (name, history) in names.iter().zip(histories) {
            let keyspace = self.db.keyspace(name, KeyspaceOptions::default());
            self.spaces.push((keyspace.unwrap(), history));
        }
        self.remember();
    }

    /// Ends the process with a close or by a kill; `tear` cuts that many bytes off the last record.
    fn finish(mut self, name: &'static str, close: bool, tear: usize) -> Golden {
        // A record that will be torn was never whole on the disk: no stale sector mends it.
        if tear == 0 {
            self.remember();
        }
        let mut histories: Vec<History> = self.spaces.drain(..).map(|(_, h)| h).collect();
        let sim = if close {
            self.db.close().unwrap();
            self.sim.kill()
        } else {
            let sim = self.sim.kill();
            drop(self.db);
            sim
        };
        let last = histories.iter().filter_map(|h| h.writes.last()).max();
        if tear > 0 {
            let torn = last.unwrap().0;
            tear_last(&sim, tear);
            histories
                .iter_mut()
                .for_each(|h| h.writes.retain(|(n, ..)| *n < torn));
        }
        let files = files(&sim);
        let layouts: BTreeMap<String, Layout> = files
            .iter()
            .map(|(name, bytes)| (name.clone(), Layout::of(name, bytes)))
            .collect();
        let manifests: Vec<&String> = files.keys().filter(|n| n.ends_with("manifest")).collect();
        let [manifest] = manifests[..] else {
            panic!("{name}: one manifest is expected");
        };
        let logs = registered_logs(&layouts[manifest]);
        Golden {
            name,
            options: self.options.create_if_missing(true),
            logs: logs.iter().map(|n| format!("{n:06}.log")).collect(),
            manifest: manifest.clone(),
            files,
            layouts,
            earlier: self.earlier,
            sim,
            histories,
        }
    }
}

/// Zeros the end of the last record of the newest segment.
fn tear_last(sim: &SimFs, tear: usize) {
    let files = files(sim);
    let (name, mut bytes) = files
        .into_iter()
        .filter(|(name, _)| name.ends_with(".log"))
        .rfind(|(name, bytes)| Layout::of(name, bytes).records().count() > 1)
        .unwrap();
    let layout = Layout::of(&name, &bytes);
    let end = layout.records().last().unwrap().0.end;
    bytes[end - tear..end].fill(0);
    sim.plant(Path::new(ROOT), &name, &bytes);
}

/// Every file with its bytes.
pub(crate) fn files(sim: &SimFs) -> BTreeMap<String, Vec<u8>> {
    let entries = Fs::sim(sim, Path::new(ROOT)).list().unwrap();
    let bytes = |name: &str| sim.bytes(Path::new(ROOT), name).unwrap();
    entries
        .into_iter()
        .map(|e| (e.name.clone(), bytes(&e.name)))
        .collect()
}

/// Golden store number `n`; those from 6 on are the same six shapes with other content.
pub(crate) fn golden(n: usize) -> Golden {
    let seed = n as u64 + 1;
    let twist = n as u32 / 6;
    match n % 6 {
        0 => plain_levels(seed, twist),
        1 => compressed(seed, twist),
        2 => keyspaces(seed, twist),
        3 => killed_with_segments(seed, twist),
        4 => recycled_segments(seed, twist),
        _ => torn_and_written_by_calls(seed, twist),
    }
}

/// Closed cleanly: several levels, deletions, a sealed log.
fn plain_levels(seed: u64, twist: u32) -> Golden {
    let mut m = Maker::new(seed, Options::new(), 4 << 10, small());
    m.fill(0, (0..120).map(|n| n + twist), "first");
    m.compact(0);
    m.fill(0, (0..60).step_by(4).map(|n| n + twist), "second");
    (2..60)
        .step_by(9)
        .for_each(|n| m.delete(0, &format!("key{n:04}")));
    m.flush(0);
    m.fill(0, (20..40).step_by(3), "third");
    m.delete(0, "key0021");
    m.flush(0);
    m.reopen();
    m.fill(0, 55..63, "last");
    m.finish("plain levels, closed", true, 0)
}

/// LZ4 blocks, read by calls; killed.
fn compressed(seed: u64, twist: u32) -> Golden {
    let lz4 = small().compression(vec![Compression::Lz4]);
    let by_calls = Options::new().read_mode(ReadMode::Pread);
    let mut m = Maker::new(seed, by_calls, 4 << 10, lz4);
    m.fill(0, (0..210).map(|n| n + twist), "first first first");
    m.compact(0);
    m.fill(0, (0..140).step_by(4), "second second");
    (3..140)
        .step_by(11)
        .for_each(|n| m.delete(0, &format!("key{n:04}")));
    m.flush(0);
    m.reopen();
    m.synced(0, "key0007", "synced");
    m.fill(0, 100..110, "last");
    m.finish("lz4, killed", false, 0)
}

/// Four keyspaces with options of their own, one of them dropped; killed.
fn keyspaces(seed: u64, twist: u32) -> Golden {
    let mut m = Maker::new(seed, Options::new(), 4 << 10, small());
    let a = m.keyspace("orders", small().filter_bits_per_key(0));
    let b = m.keyspace("Grüße", small().compression(vec![Compression::Lz4]));
    m.fill(0, 0..25, "default");
    m.fill(a, 0..30, "orders");
    m.fill(b, (10..50).map(|n| n + twist), "b");
    m.batch("key0011", "over all of them");
    m.compact(a);
    let gone = m.keyspace("gone", small());
    m.fill(gone, 0..5, "gone");
    m.delete(a, "key0003");
    m.flush(b);
    m.db.drop_keyspace("gone").unwrap();
    m.spaces.truncate(gone);
    m.flush(0);
    m.fill(b, 10..14, "again");
    m.batch("key0012", "over all of them, again");
    m.flush(a);
    m.db.sync().unwrap();
    m.batch("key0013", "the last");
    m.finish("keyspaces, killed", false, 0)
}

/// Much in the log and little in tables: sealed segments and an active one, synced in between.
fn killed_with_segments(seed: u64, twist: u32) -> Golden {
    let mut m = Maker::new(seed, Options::new(), 4 << 10, small());
    m.fill(0, 0..60, "table");
    m.compact(0);
    m.fill(0, (5..50).map(|n| n + twist), "first");
    m.synced(0, "key0030", "synced in the first");
    m.fill(0, 60..100, "second");
    m.delete(0, "key0061");
    m.synced(0, "key0031", "synced in the last");
    m.fill(0, 80..90, "third");
    m.finish("segments, killed", false, 0)
}

/// Segments used again: the records of an earlier life lie behind those of this one.
fn recycled_segments(seed: u64, twist: u32) -> Golden {
    let mut m = Maker::new(seed, Options::new(), 8 << 10, small());
    for _ in 0..4 {
        m.fill(0, (0..75).map(|n| n + twist), "an old life");
        m.compact(0);
    }
    m.fill(0, 0..12, "new");
    m.synced(0, "key0001", "synced");
    m.fill(0, 12..20, "newer");
    let golden = m.finish("recycled segments, killed", false, 0);
    let newest = golden.logs.last().unwrap();
    let free = golden.layouts[newest].parts.last().unwrap().range.clone();
    let earlier = &golden.files[newest][free];
    assert!(earlier.iter().any(|b| *b != 0), "an earlier life is there");
    golden
}

/// Written by calls, never synced since the flush, and torn in the last record.
fn torn_and_written_by_calls(seed: u64, twist: u32) -> Golden {
    let write = Options::new().log_mode(LogMode::Write);
    let mut m = Maker::new(seed, write, 4 << 10, small());
    m.fill(0, (0..100).map(|n| n + twist), "first");
    m.compact(0);
    m.fill(0, (0..40).step_by(6), "second");
    m.flush(0);
    m.fill(0, 30..50, "last");
    m.put(0, "key0049", "torn");
    m.finish("torn tail, killed", false, 9)
}
