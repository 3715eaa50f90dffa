//! The whole public face against a `BTreeMap`: random operations, snapshots, reopenings, crashes.
//!
//! Each case is a list of operations and a set of options, made and shrunk by proptest, which
//! prints the seed and the shortest failing list. Cases run in the simulator, where upkeep runs
//! between writes and a process kill is one call; one in so many runs on the real disk with real
//! threads. `MODEL_CASES` sets the number of cases (default 600 of up to 2,000 operations each).

use crate::support::{Disk, TempDir};
use alluvium::{
    CompactionStyle, Compression, Db, Durability, Keyspace, KeyspaceOptions, LogMode, Options,
    ReadMode, Snapshot, Verify, WriteBatch, WriteOptions,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Bound;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// The keyspaces of a case: the default one and two more, of which the last is dropped and made.
const NAMES: [&str; 3] = ["default", "orders", "scratch"];

#[derive(Clone, Debug)]
enum Op {
    Put(usize, Vec<u8>, Vec<u8>),
    PutSynced(usize, Vec<u8>, Vec<u8>),
    Delete(usize, Vec<u8>),
    Batch(Vec<(usize, Vec<u8>, Option<Vec<u8>>)>),
    Get(usize, Vec<u8>),
    GetMany(usize, Vec<Vec<u8>>),
    Range(usize, Bound<Vec<u8>>, Bound<Vec<u8>>, u64),
    Prefix(usize, Vec<u8>),
    Walk(usize, Vec<Move>),
    TakeSnapshot,
    ReadSnapshot(usize, Vec<u8>),
    ScanSnapshot(usize),
    DropSnapshot,
    Flush,
    Compact(usize),
    CompactRange(usize, Vec<u8>, Vec<u8>),
    Sync,
    Verify,
    Reopen,
    Crash,
    DropScratch,
}

#[derive(Clone, Debug)]
enum Move {
    First,
    Last,
    Next,
    Prev,
    Seek(Vec<u8>),
    SeekForPrev(Vec<u8>),
}

/// Few keys, so that they collide; some long, some prefixes of others, one empty.
fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        12 => (0u8..60).prop_map(|n| format!("k{n:02}").into_bytes()),
        4 => (0u8..20).prop_map(|n| format!("common/prefix/of/keys/{n:03}").into_bytes()),
        2 => proptest::collection::vec(0u8..3, 0..4),
        1 => (0u8..3).prop_map(|n| vec![0xff; usize::from(n)]),
    ]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => proptest::collection::vec(any::<u8>(), 0..40),
        1 => (any::<u8>(), 500usize..3000).prop_map(|(byte, n)| vec![byte; n]),
    ]
}

fn bound() -> impl Strategy<Value = Bound<Vec<u8>>> {
    prop_oneof![
        1 => Just(Bound::Unbounded),
        2 => key().prop_map(Bound::Included),
        2 => key().prop_map(Bound::Excluded),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        1 => Just(Move::First),
        1 => Just(Move::Last),
        6 => Just(Move::Next),
        6 => Just(Move::Prev),
        2 => key().prop_map(Move::Seek),
        2 => key().prop_map(Move::SeekForPrev),
    ];
    proptest::collection::vec(one, 1..24)
}

fn op() -> impl Strategy<Value = Op> {
    let in_any = 0..NAMES.len();
    let change = (
        in_any.clone(),
        key(),
        proptest::option::weighted(0.7, value()),
    );
    prop_oneof![
        400 => (in_any.clone(), key(), value()).prop_map(|(n, k, v)| Op::Put(n, k, v)),
        10 => (in_any.clone(), key(), value()).prop_map(|(n, k, v)| Op::PutSynced(n, k, v)),
        150 => (in_any.clone(), key()).prop_map(|(n, k)| Op::Delete(n, k)),
        60 => proptest::collection::vec(change, 0..12).prop_map(Op::Batch),
        250 => (in_any.clone(), key()).prop_map(|(n, k)| Op::Get(n, k)),
        20 => (in_any.clone(), proptest::collection::vec(key(), 0..40))
            .prop_map(|(n, k)| Op::GetMany(n, k)),
        20 => (in_any.clone(), bound(), bound(), any::<u64>())
            .prop_map(|(n, a, b, turns)| Op::Range(n, a, b, turns)),
        10 => (in_any.clone(), key()).prop_map(|(n, k)| Op::Prefix(n, k)),
        30 => (in_any.clone(), steps()).prop_map(|(n, moves)| Op::Walk(n, moves)),
        8 => Just(Op::TakeSnapshot),
        20 => (in_any.clone(), key()).prop_map(|(n, k)| Op::ReadSnapshot(n, k)),
        6 => in_any.clone().prop_map(Op::ScanSnapshot),
        8 => Just(Op::DropSnapshot),
        4 => Just(Op::Flush),
        2 => in_any.clone().prop_map(Op::Compact),
        2 => (in_any, key(), key()).prop_map(|(n, a, b)| Op::CompactRange(n, a, b)),
        4 => Just(Op::Sync),
        1 => Just(Op::Verify),
        2 => Just(Op::Reopen),
        2 => Just(Op::Crash),
        1 => Just(Op::DropScratch),
    ]
}

fn keyspace_options() -> impl Strategy<Value = KeyspaceOptions> {
    (
        prop_oneof![Just(1u64 << 11), Just(1 << 13), Just(1 << 16)],
        prop_oneof![Just(256u32), Just(1024), Just(4096)],
        prop_oneof![Just(CompactionStyle::Lazy), Just(CompactionStyle::Leveled)],
        prop_oneof![Just(0u32), Just(5), Just(12)],
        prop_oneof![Just(1u64 << 11), Just(1 << 14)],
        1u32..4,
        2u32..5,
        any::<bool>(),
    )
        .prop_map(|(buffer, block, style, bits, table, runs, ratio, lz4)| {
            let codec = if lz4 && cfg!(feature = "lz4") {
                Compression::Lz4
            } else {
                Compression::None
            };
            KeyspaceOptions::new()
                .write_buffer_bytes(buffer)
                .block_bytes(block)
                .compaction(style)
                .filter_bits_per_key(bits)
                .table_bytes(table)
                .level0_runs(runs)
                .tier_runs(runs)
                .size_ratio(ratio)
                .compression(vec![Compression::None, codec])
        })
}

fn options() -> impl Strategy<Value = Options> {
    (
        keyspace_options(),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        prop_oneof![Just(16u64 << 10), Just(256 << 10)],
    )
        .prop_map(|(keyspace, pread, write, every, segment)| {
            Options::new()
                .memory_bytes(8 << 20)
                .log_segment_bytes(segment)
                .read_mode(if pread {
                    ReadMode::Pread
                } else {
                    ReadMode::Mmap
                })
                .log_mode(if write {
                    LogMode::Write
                } else {
                    LogMode::Mapped
                })
                .verify(if every {
                    Verify::EveryRead
                } else {
                    Verify::FirstTouch
                })
                .default_keyspace(keyspace)
        })
}

struct World {
    disk: Disk,
    options: Options,
    scratch: KeyspaceOptions,
    db: Option<Db>,
    spaces: Vec<Keyspace>,
    model: Vec<Map>,
    snapshots: Vec<(Snapshot, Vec<Map>)>,
}

impl World {
    fn new(disk: Disk, options: Options, scratch: KeyspaceOptions) -> Self {
        let mut world = World {
            disk,
            options,
            scratch,
            db: None,
            spaces: Vec::new(),
            model: vec![Map::new(); NAMES.len()],
            snapshots: Vec::new(),
        };
        world.open();
        world
    }

    fn db(&self) -> &Db {
        self.db.as_ref().unwrap()
    }

    fn open(&mut self) {
        let db = self
            .disk
            .open(self.options.clone())
            .expect("opening needs no tool (P4)");
        self.spaces = NAMES
            .iter()
            .map(|&name| match name {
                "default" => db.keyspace(name, KeyspaceOptions::new()).unwrap(),
                _ => db.keyspace(name, self.scratch.clone()).unwrap(),
            })
            .collect();
        self.db = Some(db);
    }

    fn leave(&mut self) -> Db {
        self.snapshots.clear();
        self.spaces.clear();
        self.db.take().unwrap()
    }

    fn check_all(&self) {
        for (n, expected) in self.model.iter().enumerate() {
            let found: Map = self.spaces[n]
                .iter()
                .map(|entry| entry.map(|(k, v)| (k.to_vec(), v.to_vec())).unwrap())
                .collect();
            assert_eq!(&found, expected, "keyspace {}", NAMES[n]);
        }
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Put(n, k, v) => {
                self.spaces[*n].put(k, v).unwrap();
                self.model[*n].insert(k.clone(), v.clone());
            }
            Op::PutSynced(n, k, v) => {
                let synced = WriteOptions::new().durability(Durability::Synced);
                self.spaces[*n].put_with(k, v, synced).unwrap();
                self.model[*n].insert(k.clone(), v.clone());
            }
            Op::Delete(n, k) => {
                self.spaces[*n].delete(k).unwrap();
                self.model[*n].remove(k);
            }
            Op::Batch(changes) => {
                let mut batch = WriteBatch::new();
                for (n, k, v) in changes {
                    match v {
                        Some(v) => {
                            batch.put(&self.spaces[*n], k, v);
                            self.model[*n].insert(k.clone(), v.clone());
                        }
                        None => {
                            batch.delete(&self.spaces[*n], k);
                            self.model[*n].remove(k);
                        }
                    }
                }
                self.db().write(&batch, WriteOptions::new()).unwrap();
            }
            Op::Get(n, k) => {
                let expected = self.model[*n].get(k);
                assert_eq!(
                    self.spaces[*n].get(k).unwrap().as_deref(),
                    expected.map(|v| &v[..])
                );
                assert_eq!(self.spaces[*n].contains_key(k).unwrap(), expected.is_some());
            }
            Op::GetMany(n, keys) => {
                let found = self.spaces[*n].get_many(keys).unwrap();
                let found: Vec<_> = found.iter().map(Option::as_deref).collect();
                let expected: Vec<_> = keys
                    .iter()
                    .map(|k| self.model[*n].get(k).map(|v| &v[..]))
                    .collect();
                assert_eq!(found, expected);
            }
            Op::Range(n, from, to, turns) => self.check_range(*n, from, to, *turns),
            Op::Prefix(n, prefix) => {
                let expected: Vec<_> = self.model[*n]
                    .iter()
                    .filter(|(k, _)| k.starts_with(prefix))
                    .collect();
                let found: Vec<_> = self.spaces[*n]
                    .prefix(prefix)
                    .map(|entry| entry.unwrap())
                    .collect();
                assert_eq!(found.len(), expected.len());
                for ((k, v), (ek, ev)) in found.iter().zip(expected) {
                    assert_eq!((&k[..], &v[..]), (&ek[..], &ev[..]));
                }
            }
            Op::Walk(n, moves) => self.walk(*n, moves),
            Op::TakeSnapshot => {
                if self.snapshots.len() < 4 {
                    let snapshot = self.db().snapshot();
                    self.snapshots.push((snapshot, self.model.clone()));
                }
            }
            Op::ReadSnapshot(n, k) => {
                for (snapshot, then) in &self.snapshots {
                    let found = snapshot.keyspace(&self.spaces[*n]).get(k).unwrap();
                    assert_eq!(found.as_deref(), then[*n].get(k).map(|v| &v[..]));
                }
            }
            Op::ScanSnapshot(n) => {
                if let Some((snapshot, then)) = self.snapshots.last() {
                    let found: Map = snapshot
                        .keyspace(&self.spaces[*n])
                        .iter()
                        .rev()
                        .map(|entry| entry.map(|(k, v)| (k.to_vec(), v.to_vec())).unwrap())
                        .collect();
                    assert_eq!(&found, &then[*n]);
                }
            }
            Op::DropSnapshot => {
                if !self.snapshots.is_empty() {
                    self.snapshots.remove(0);
                }
            }
            Op::Flush => self.db().flush().unwrap(),
            Op::Compact(n) => self.spaces[*n].compact().unwrap(),
            Op::CompactRange(n, a, b) => self.spaces[*n].compact_range(&a[..]..&b[..]).unwrap(),
            Op::Sync => self.db().sync().unwrap(),
            Op::Verify => {
                let report = self.db().verify().unwrap();
                assert!(report.problems.is_empty(), "{:?}", report.problems);
            }
            Op::Reopen => {
                self.leave().close().unwrap();
                self.open();
                self.check_all();
            }
            Op::Crash => {
                let db = self.leave();
                self.disk.kill(db);
                self.open();
                self.check_all();
            }
            Op::DropScratch => {
                // Snapshots of it go with it: their reads give NotFound from now on.
                self.snapshots.clear();
                self.db().drop_keyspace("scratch").unwrap();
                assert!(self.spaces[2].get("k").is_err());
                self.spaces[2] = self.db().keyspace("scratch", self.scratch.clone()).unwrap();
                self.model[2].clear();
            }
        }
    }

    /// A range taken from both ends in an order that the bits of `turns` give.
    fn check_range(&self, n: usize, from: &Bound<Vec<u8>>, to: &Bound<Vec<u8>>, turns: u64) {
        let inside = |k: &Vec<u8>| {
            let after = match from {
                Bound::Included(f) => f <= k,
                Bound::Excluded(f) => f < k,
                Bound::Unbounded => true,
            };
            let before = match to {
                Bound::Included(t) => k <= t,
                Bound::Excluded(t) => k < t,
                Bound::Unbounded => true,
            };
            after && before
        };
        let mut expected: std::collections::VecDeque<_> =
            self.model[n].iter().filter(|(k, _)| inside(k)).collect();
        let mut iter = self.spaces[n].range((from.clone(), to.clone()));
        let mut turn = turns;
        loop {
            let (found, wanted) = match turn & 1 {
                0 => (iter.next(), expected.pop_front()),
                _ => (iter.next_back(), expected.pop_back()),
            };
            turn = turn.rotate_right(1);
            let found = found.map(|entry| entry.unwrap());
            let found = found.as_ref().map(|(k, v)| (&k[..], &v[..]));
            assert_eq!(
                found,
                wanted.map(|(k, v)| (&k[..], &v[..])),
                "{from:?}..{to:?} {turns:b}"
            );
            if found.is_none() {
                break;
            }
        }
        assert!(iter.next().is_none() && iter.next_back().is_none(), "fused");
    }

    fn walk(&self, n: usize, moves: &[Move]) {
        let keys: Vec<&Vec<u8>> = self.model[n].keys().collect();
        let mut cursor = self.spaces[n].cursor();
        // Where the cursor stands: before the first entry is -1, past the last is the length.
        // A new one is nowhere: `next` goes to the first, `prev` to the last.
        let end = keys.len() as i64;
        let mut at: Option<i64> = None;
        for step in moves {
            let place = |key: &[u8]| keys.partition_point(|k| &k[..] < key) as i64;
            match step {
                Move::First => (cursor.first().unwrap(), at = Some(0)).1,
                Move::Last => (cursor.last().unwrap(), at = Some(end - 1)).1,
                Move::Next => {
                    cursor.next().unwrap();
                    at = Some(at.map_or(0, |i| (i + 1).min(end)));
                }
                Move::Prev => {
                    cursor.prev().unwrap();
                    at = Some(at.map_or(end - 1, |i| (i - 1).max(-1)));
                }
                Move::Seek(key) => {
                    cursor.seek(key).unwrap();
                    at = Some(place(key));
                }
                Move::SeekForPrev(key) => {
                    cursor.seek_for_prev(key).unwrap();
                    let exact = keys.binary_search(&key).is_ok();
                    at = Some(if exact { place(key) } else { place(key) - 1 });
                }
            }
            let expected = at
                .and_then(|i| usize::try_from(i).ok())
                .and_then(|i| keys.get(i));
            let entry = cursor.entry();
            assert_eq!(
                entry.map(|(k, _)| k),
                expected.map(|k| &k[..]),
                "{moves:?} at {step:?}"
            );
            if let Some((k, v)) = entry {
                assert_eq!(v, &self.model[n][k][..]);
            }
        }
    }
}

fn run(disk: Disk, options: Options, scratch: KeyspaceOptions, ops: &[Op]) {
    let mut world = World::new(disk, options, scratch);
    for op in ops {
        world.apply(op);
    }
    world.check_all();
    world.leave().close().unwrap();
    world.open();
    world.check_all();
    let report = world.db().verify().unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    world.leave().close().unwrap();
    world.disk.check_tidy();
}

fn cases(default: u32) -> u32 {
    std::env::var("MODEL_CASES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(default)
}

/// At least 1,000,000 operations by default: 1,300 cases of 300 to 1,600, upkeep between writes.
#[test]
fn the_engine_answers_as_a_sorted_map_does_in_the_simulator() {
    let done = Cell::new(0u64);
    let config = Config {
        cases: cases(1_300),
        failure_persistence: None,
        ..Config::default()
    };
    let ops = proptest::collection::vec(op(), 300..1_600);
    let strategy = (any::<u64>(), options(), keyspace_options(), ops);
    TestRunner::new(config)
        .run(&strategy, |(seed, options, scratch, ops)| {
            run(
                Disk::simulated(seed),
                options.background_threads(0),
                scratch,
                &ops,
            );
            done.set(done.get() + ops.len() as u64);
            Ok(())
        })
        .unwrap();
    println!("model operations in the simulator: {}", done.get());
}

/// The same on the real disk, with real threads at work behind every operation.
#[test]
fn the_engine_answers_as_a_sorted_map_does_on_the_disk() {
    let done = Cell::new(0u64);
    let config = Config {
        cases: cases(60),
        failure_persistence: None,
        ..Config::default()
    };
    let ops = proptest::collection::vec(op(), 300..1_600);
    let strategy = (options(), keyspace_options(), 1usize..4, ops);
    TestRunner::new(config)
        .run(&strategy, |(options, scratch, threads, ops)| {
            let dir = TempDir::new("model");
            run(
                Disk::real(dir),
                options.background_threads(threads),
                scratch,
                &ops,
            );
            done.set(done.get() + ops.len() as u64);
            Ok(())
        })
        .unwrap();
    println!("model operations on the disk: {}", done.get());
}
