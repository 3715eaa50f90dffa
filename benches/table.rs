//! What a table costs: an entry built, a get that hits and one that misses, a step, a seek.
//!
//! 16-byte keys in scattered order, 100-byte values, 12 filter bits, one million keys in one
//! mapped table; every answer is checked.
#![expect(clippy::unwrap_used, reason = "here it is an assertion")]

use alluvium::base::cursor::Cursor;
use alluvium::base::options::{Compression, ReadMode, Verify};
use alluvium::base::sync::Arc;
use alluvium::base::types::{FileId, SeqNo, Tag, ValueKind};
use alluvium::fs::{FileName, Fs};
use alluvium::table::{BirthIdentity, BlockCache, Builder, BuilderOptions, Table, TableContext};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::Duration;

const KEYS: u64 = 1_000_000;
const IDENTITY: BirthIdentity = BirthIdentity {
    database: 1,
    file: FileId(1),
    hash_seed: 7,
};

/// Keys ascend with `n` and their bytes are spread: every number is multiplied by a large step.
fn key(n: u64) -> [u8; 16] {
    let mut key = *b"................";
    key[..8].copy_from_slice(&(n * (u64::MAX / (2 * KEYS))).to_be_bytes());
    key[8..].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    key
}

fn build(fs: &Fs, file: u64, keys: u64) -> u64 {
    let name = FileName::Table(FileId(file));
    let _ = fs.remove(name);
    let options = BuilderOptions {
        identity: IDENTITY,
        block_bytes: 4096,
        filter_bits_per_key: 12,
        compression: Compression::None,
    };
    let mut builder = Builder::new(fs.create_new(name).unwrap(), options);
    let mut value = [b'v'; 100];
    for n in 0..keys {
        value[..8].copy_from_slice(&n.to_le_bytes());
        let tag = Tag::new(SeqNo::new(n % 1000 + 1), ValueKind::Put);
        builder.add(&key(n), tag, &value).unwrap();
    }
    builder.finish().unwrap().bytes
}

fn table(c: &mut Criterion) {
    let dir = std::env::temp_dir().join(format!("alluvium-bench-table-{}", std::process::id()));
    let fs = Fs::os(&dir);
    fs.make_root().unwrap();
    let mut group = c.benchmark_group("table");
    group
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3));
    group.throughput(Throughput::Elements(400_000));
    group.bench_function("build 400,000 entries", |b| {
        b.iter(|| build(&fs, 2, 400_000));
    });
    let bytes = build(&fs, 1, KEYS);
    let open = |verify| {
        let context = Arc::new(TableContext {
            read_mode: ReadMode::Mmap,
            verify,
            cache: BlockCache::new(0),
        });
        let file = fs.open_read(FileName::Table(FileId(1))).unwrap();
        Table::open(file, IDENTITY, bytes, false, &context).unwrap()
    };
    group.throughput(Throughput::Elements(1));
    group.bench_function("open", |b| b.iter(|| black_box(open(Verify::FirstTouch))));
    let table = Arc::new(open(Verify::FirstTouch));
    let mut random = 1u64;
    let mut next = move || {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (random >> 33) % KEYS
    };
    let every_read = Arc::new(open(Verify::EveryRead));
    for (name, table) in [("get hit", &table), ("get hit, every read", &every_read)] {
        group.bench_function(name, |b| {
            b.iter(|| {
                let n = next();
                let key = key(n);
                let hash = table.hasher().hash(&key);
                assert!(table.may_contain(hash));
                let found = table.get(&key, hash, SeqNo::MAX).unwrap().unwrap();
                assert_eq!(found.bytes()[..8], n.to_le_bytes());
            });
        });
    }
    group.bench_function("get miss by filter", |b| {
        b.iter(|| {
            let mut key = key(next());
            key[15] ^= 1;
            black_box(table.may_contain(table.hasher().hash(&key)))
        });
    });
    let mut cursor = table.cursor();
    cursor.first().unwrap();
    group.bench_function("cursor next", |b| {
        b.iter(|| {
            cursor.next().unwrap();
            if !cursor.valid() {
                cursor.first().unwrap();
            }
            black_box((cursor.key().len(), cursor.value()[0]))
        });
    });
    group.bench_function("cursor prev", |b| {
        b.iter(|| {
            cursor.prev().unwrap();
            if !cursor.valid() {
                cursor.last().unwrap();
            }
            black_box((cursor.key().len(), cursor.value()[0]))
        });
    });
    group.bench_function("seek", |b| {
        b.iter(|| {
            let key = key(next());
            cursor.seek(&key, Tag::MAX).unwrap();
            assert_eq!(cursor.key(), key);
        });
    });
    group.finish();
    fs.remove(FileName::Table(FileId(1))).unwrap();
    // Not there when only some benches were asked for.
    let _ = fs.remove(FileName::Table(FileId(2)));
    fs.remove_root().unwrap();
}

criterion_group!(benches, table);
criterion_main!(benches);
