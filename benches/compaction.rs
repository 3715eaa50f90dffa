//! What rewriting costs: nanoseconds an entry, for the flush of a memtable to a real file and for
//! a merge of four runs. Sync of the files is part of it, and of the flush the merge of the
//! memtable's runs into one: each memtable is flushed once. Every count is checked.
//!
//! `elements` are entries: 16-byte random keys with 100-byte values.
#![expect(clippy::unwrap_used, reason = "here it is an assertion")]

use alluvium::base::checksum::KeyHasher;
use alluvium::base::error::Result;
use alluvium::base::options::{KeyspaceOptions, ReadMode, Verify};
use alluvium::base::types::{FileId, KeyspaceId, SeqNo, Tag, ValueKind};
use alluvium::compaction::{Job, Outcome, Reason, Workshop, execute, flush};
use alluvium::fs::{FileName, Fs};
use alluvium::memtable::{Memtable, MemtableOptions, Pool};
use alluvium::table::{BirthIdentity, BlockCache, Table, TableContext};
use alluvium::version::TableEntry;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const FLUSH_ENTRIES: u64 = 400_000;
const MERGE_ENTRIES: u64 = 100_000;
const RUNS: u64 = 4;
const HASHER: KeyHasher = KeyHasher::new(42);
const VALUE: [u8; 100] = [7; 100];

struct Bench {
    fs: Fs,
    numbers: AtomicU64,
    options: KeyspaceOptions,
    context: Arc<TableContext>,
}

impl Bench {
    fn new() -> Bench {
        let name = format!("alluvium-bench-compaction-{}", std::process::id());
        let fs = Fs::os(&std::env::temp_dir().join(name));
        fs.make_root().unwrap();
        Bench {
            fs,
            numbers: AtomicU64::new(1),
            options: KeyspaceOptions::new(),
            context: Arc::new(TableContext {
                read_mode: ReadMode::Mmap,
                verify: Verify::FirstTouch,
                cache: BlockCache::new(0),
            }),
        }
    }

    fn work(&self, job: impl FnOnce(&Workshop<'_>) -> Result<Outcome>) -> Outcome {
        // Relaxed: one thread.
        let number = || self.numbers.fetch_add(1, Ordering::Relaxed);
        job(&Workshop {
            folding: Default::default(),
            fs: &self.fs,
            allocate_file: &|| Ok(FileId(number())),
            allocate_order: &number,
            identity: BirthIdentity {
                database: 1,
                file: FileId(0),
                hash_seed: 42,
            },
            keyspace: KeyspaceId::DEFAULT,
            options: &self.options,
            snapshots: &[SeqNo::MAX],
            expired: None,
            filtering: None,
            stop: &AtomicBool::new(false),
            breathe: &|_| {},
            progressed: &|| {},
        })
        .unwrap()
    }

    fn entries(&self, outcome: &Outcome) -> u64 {
        let added = outcome.edit.added.iter();
        added.map(|table| table.meta.summary.entries).sum()
    }

    fn remove(&self, outcome: &Outcome) {
        for table in &outcome.edit.added {
            self.fs.remove(FileName::Table(table.meta.file)).unwrap();
        }
    }

    fn open(&self, outcome: &Outcome) -> Vec<Arc<TableEntry>> {
        let open = |meta: &alluvium::version::FileMeta| {
            let file = self.fs.open_read(FileName::Table(meta.file)).unwrap();
            let bytes = meta.summary.bytes;
            let table = Table::open(file, meta.identity, bytes, true, &self.context).unwrap();
            TableEntry::from_table(meta.clone(), Arc::new(table))
        };
        outcome.edit.added.iter().map(|t| open(&t.meta)).collect()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for entry in self.fs.list().unwrap_or_default() {
            if let Some(FileName::Table(file)) = FileName::parse(&entry.name) {
                let _ = self.fs.remove(FileName::Table(file));
            }
        }
        let _ = self.fs.remove_root();
    }
}

fn memtable(pool: &Pool, first: u64, count: u64) -> Arc<Memtable> {
    let options = MemtableOptions {
        capacity_bytes: 1 << 30,
        hasher: HASHER,
        common_prefix: Vec::new(),
        index_slots: 0,
    };
    let memtable = Memtable::new(options, pool);
    for n in first..first + count {
        let random = n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31);
        let random = random.wrapping_mul(0xd6e8_feb8_6659_fd93);
        let key = (u128::from(random) << 64 | u128::from(n)).to_be_bytes();
        let tag = Tag::new(SeqNo::new(n + 1), ValueKind::Put);
        memtable.insert(&key, HASHER.hash(&key), tag, &VALUE);
    }
    Arc::new(memtable)
}

fn compaction(c: &mut Criterion) {
    let bench = Bench::new();
    let pool = Pool::new(1 << 30);
    let mut group = c.benchmark_group("compaction");
    group.sample_size(10);

    group.throughput(Throughput::Elements(FLUSH_ENTRIES));
    group.bench_function("flush", |b| {
        b.iter_custom(|rounds| {
            let mut sum = Duration::ZERO;
            for _ in 0..rounds {
                let full = [memtable(&pool, 0, FLUSH_ENTRIES)];
                let start = Instant::now();
                let outcome = bench.work(|shop| flush(&full, shop));
                sum += start.elapsed();
                assert_eq!(bench.entries(&outcome), FLUSH_ENTRIES);
                bench.remove(&outcome);
            }
            sum
        });
    });

    let inputs = (0..RUNS).rev().map(|run| {
        let memtable = [memtable(&pool, run * MERGE_ENTRIES, MERGE_ENTRIES)];
        let outcome = bench.work(|shop| flush(&memtable, shop));
        (0, run + 1, bench.open(&outcome))
    });
    let job = Job {
        reason: Reason::Runs,
        inputs: inputs.collect(),
        output_level: 1,
        output_order: None,
        trivial_move: false,
        drops: false,
        cuts: Vec::new(),
        below: Vec::new(),
        deleted: Arc::default(),
    };
    group.throughput(Throughput::Elements(RUNS * MERGE_ENTRIES));
    group.bench_function("merge of 4", |b| {
        b.iter(|| {
            let outcome = bench.work(|shop| execute(&job, shop));
            assert_eq!(bench.entries(&outcome), RUNS * MERGE_ENTRIES);
            bench.remove(&outcome);
        });
    });
    group.finish();
}

criterion_group!(benches, compaction);
criterion_main!(benches);
