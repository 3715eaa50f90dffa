//! What a memtable costs: 500,000 random 16-byte keys with 100-byte values, about 64 MiB.
//! Every figure is time for one entry or call; each answer is checked.

use alluvium::base::checksum::KeyHasher;
use alluvium::base::cursor::Cursor;
use alluvium::base::types::{SeqNo, Tag, ValueKind};
use alluvium::memtable::{Memtable, MemtableOptions, Pool};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use crossbeam_skiplist::SkipMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

const N: u64 = 500_000;
const HASHER: KeyHasher = KeyHasher::new(42);
const VALUE: [u8; 100] = [7; 100];

fn key(n: u64) -> [u8; 16] {
    let a = n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31);
    let a = a.wrapping_mul(0xd6e8_feb8_6659_fd93);
    (u128::from(a) << 64 | u128::from(n)).to_be_bytes()
}

fn new(pool: &Pool, index_slots: usize) -> Memtable {
    let options = MemtableOptions {
        capacity_bytes: 64 << 20,
        hasher: HASHER,
        common_prefix: Vec::new(),
        index_slots,
    };
    Memtable::new(options, pool)
}

fn head(n: u64) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = key(n);
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

fn put(memtable: &Memtable, n: u64) {
    let key = key(n);
    let tag = Tag::new(SeqNo::new(n + 1), ValueKind::Put);
    memtable.insert(&key, HASHER.hash(&key), tag, &VALUE);
}

fn fill(memtable: &Memtable) {
    for n in 0..N {
        put(memtable, n);
    }
    assert_eq!(memtable.entries(), N);
}

/// Time for `calls` of `one`, at indices that jump about.
fn timed(calls: u64, mut one: impl FnMut(u64)) -> Duration {
    let start = Instant::now();
    for i in 0..calls {
        one(i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20);
    }
    start.elapsed()
}

fn benches(c: &mut Criterion) {
    let pool = Pool::new(512 << 20);
    let slots = (N as usize * 4 / 3).next_power_of_two();
    drop({
        let warm = new(&pool, slots);
        fill(&warm);
        warm
    });

    let mut group = c.benchmark_group("memtable");
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200));
    group.measurement_time(Duration::from_secs(3));
    for (name, slots) in [("recycled", slots), ("growing index", 0)] {
        group.throughput(Throughput::Elements(N));
        group.bench_function(BenchmarkId::new("put all", name), |b| {
            b.iter_custom(|rounds| {
                let mut sum = Duration::ZERO;
                for _ in 0..rounds {
                    let memtable = new(&pool, slots);
                    let start = Instant::now();
                    fill(&memtable);
                    sum += start.elapsed();
                }
                sum
            });
        });
    }

    let memtable = Arc::new(new(&pool, slots));
    fill(&memtable);
    group.throughput(Throughput::Elements(1));
    group.bench_function("get hit", |b| {
        b.iter_custom(|calls| {
            timed(calls, |i| {
                let key = key(i % N);
                let found = memtable.get(&key, HASHER.hash(&key), SeqNo::MAX);
                assert_eq!(found.map(|f| f.value), Some(&VALUE[..]));
            })
        });
    });
    group.bench_function("get miss", |b| {
        b.iter_custom(|calls| {
            timed(calls, |i| {
                let key = key(N + i);
                assert!(memtable.get(&key, HASHER.hash(&key), SeqNo::MAX).is_none());
            })
        });
    });

    // What order costs: kept up by every insert, or made when somebody asks for it.
    group.throughput(Throughput::Elements(N));
    group.bench_function("order: skiplists of 8,192 heads", |b| {
        b.iter(|| {
            let mut list = SkipMap::new();
            for n in 0..N {
                if n % 8192 == 0 {
                    list = SkipMap::new();
                }
                list.insert((head(n), n), ());
            }
            list.len()
        });
    });
    group.bench_function("order: heads sorted at the end", |b| {
        b.iter(|| {
            let mut heads = Vec::new();
            for n in 0..N {
                heads.push((head(n), n));
            }
            heads.sort_unstable();
            heads.len()
        });
    });
    // A cursor for every 1, 16 and 256 puts: each makes a run of what came since.
    for puts in [1, 16, 256] {
        let name = BenchmarkId::new("put, a seek and 10 steps each", puts);
        group.bench_function(name, |b| {
            b.iter_custom(|rounds| {
                let mut sum = Duration::ZERO;
                for _ in 0..rounds {
                    let memtable = Arc::new(new(&pool, slots));
                    let start = Instant::now();
                    for n in 0..N {
                        put(&memtable, n);
                        if n % puts == 0 {
                            let mut cursor = memtable.cursor();
                            cursor
                                .seek(&key(n / 2), Tag::MAX)
                                .expect("memory does not fail");
                            for _ in 0..10 {
                                if cursor.valid() {
                                    black_box(cursor.value());
                                    cursor.next().expect("memory does not fail");
                                }
                            }
                        }
                    }
                    sum += start.elapsed();
                }
                sum
            });
        });
    }

    // Before any cursor has merged the runs.
    group.throughput(Throughput::Elements(N));
    group.bench_function("drain all", |b| {
        b.iter_custom(|rounds| {
            let mut sum = Duration::ZERO;
            for _ in 0..rounds {
                let memtable = Arc::new(new(&pool, slots));
                fill(&memtable);
                let start = Instant::now();
                assert_eq!(walk(&mut memtable.drain_cursor()), N);
                sum += start.elapsed();
            }
            sum
        });
    });
    group.bench_function("scan all", |b| {
        let mut cursor = memtable.cursor();
        b.iter(|| assert_eq!(walk(&mut cursor), N));
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("seek", |b| {
        let mut cursor = memtable.cursor();
        b.iter_custom(|calls| {
            timed(calls, |i| {
                let key = key(i % N);
                cursor.seek(&key, Tag::MAX).expect("memory does not fail");
                assert_eq!(cursor.key(), key);
            })
        });
    });
    group.finish();
}

fn walk(cursor: &mut impl Cursor) -> u64 {
    let (mut n, mut bytes) = (0, 0);
    cursor.first().expect("memory does not fail");
    while cursor.valid() {
        n += 1;
        bytes += cursor.key().len() + usize::from(cursor.value()[50]);
        cursor.next().expect("memory does not fail");
    }
    black_box(bytes);
    n
}

criterion_group!(memtable, benches);
criterion_main!(memtable);
