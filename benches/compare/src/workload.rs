//! The workloads: what is timed, and the proof that the engine did it.
//!
//! Every workload runs in a process and a directory of its own. Filling workloads are timed to
//! their last acknowledgement, and a sample is read back afterwards. Reading workloads load the
//! store first and let it settle, untimed; every value that is read is compared with what it must
//! be, and scans are counted and their order is checked. A wrong answer ends the run.

use crate::data::{KEY_BYTES, Key, Order, Random, VALUE_BYTES, Value, is_value, value};
use crate::engine::{Engine, Result, Settings, Start};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Names as `--workload` takes them, in the order of the table.
pub const NAMES: &[&str] = &[
    "fillseq",
    "fillrandom",
    "fillrandom 2 threads",
    "fill batches of 100",
    "fill synced",
    "fill synced 4 threads",
    "fill synced 16 threads",
    "overwrite",
    "readrandom",
    "readrandom 2 threads",
    "readmissing",
    "scan forward",
    "scan reverse",
    "seek and next 10",
    "seek and next 100",
    "read while writing",
    "deleterandom then scan",
    "fillrandom small buffer",
];

const LOAD_BATCH: u64 = 1_000;
const SAMPLE: u64 = 1_000;
const ENTRY_BYTES: u64 = (KEY_BYTES + VALUE_BYTES) as u64;
/// Fewer flushes than this need not make three levels: only tests write so little.
const BUFFERS_FOR_LEVELS: u64 = 100;
/// Coprime to every store size we use, so that stepping by it visits each index once.
const STRIDE: u64 = 7_368_787;

/// What one run is asked to do.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    pub keys: u64,
    pub synced_writes: u64,
}

impl Scale {
    /// 4 MiB for the full 2,000,000 keys, less for fewer, so that the tree has the same shape.
    pub fn small_buffer_bytes(&self) -> u64 {
        (self.keys * 2).clamp(64 << 10, 4 << 20)
    }

    pub fn settings(&self, workload: &str) -> Settings {
        let write_buffer_bytes = match workload {
            "fillrandom small buffer" => self.small_buffer_bytes(),
            _ => 64 << 20,
        };
        Settings {
            write_buffer_bytes,
            write_buffers_max: 4,
            cache_bytes: 256 << 20,
            filter_bits: 10,
            background_threads: 2,
        }
    }
}

/// One measured number.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    pub row: String,
    pub operations: u64,
    pub elapsed: Duration,
}

/// Runs the workload of that name against an opened, empty store.
pub fn run<E: Engine>(name: &str, engine: &E, scale: Scale) -> Result<Vec<Figure>> {
    let bench = Bench { engine, scale };
    let keys = scale.keys;
    let one = |operations, elapsed| {
        Ok(vec![Figure {
            row: name.to_string(),
            operations,
            elapsed,
        }])
    };
    match name {
        "fillseq" => one(keys, bench.fill(Order::Sequential, 1, keys, false)?),
        "fillrandom" => one(keys, bench.fill(Order::Scrambled, 1, keys, false)?),
        "fillrandom 2 threads" => one(keys, bench.fill(Order::Scrambled, 2, keys, false)?),
        "fill batches of 100" => one(keys, bench.fill_batches(100)?),
        "fill synced" => bench.fill_synced(1).and_then(|(n, t)| one(n, t)),
        "fill synced 4 threads" => bench.fill_synced(4).and_then(|(n, t)| one(n, t)),
        "fill synced 16 threads" => bench.fill_synced(16).and_then(|(n, t)| one(n, t)),
        "overwrite" => one(keys, bench.overwrite()?),
        "readrandom" => one(keys, bench.read(1, true)?),
        "readrandom 2 threads" => one(keys, bench.read(2, true)?),
        "readmissing" => one(keys, bench.read(1, false)?),
        "scan forward" => one(keys, bench.scan(Start::First)?),
        "scan reverse" => one(keys, bench.scan(Start::Last)?),
        "seek and next 10" => one(keys / 10, bench.seek(keys / 10, 10)?),
        "seek and next 100" => one(keys / 50, bench.seek(keys / 50, 100)?),
        "read while writing" => bench.read_while_writing(),
        "deleterandom then scan" => bench.delete_then_scan(),
        "fillrandom small buffer" => bench.fill_small_buffer().and_then(|(n, t)| one(n, t)),
        _ => Err(format!("there is no workload named {name}").into()),
    }
}

struct Bench<'a, E> {
    engine: &'a E,
    scale: Scale,
}

impl<E: Engine> Bench<'_, E> {
    fn fill(&self, order: Order, threads: u64, keys: u64, synced: bool) -> Result<Duration> {
        let elapsed = for_each(threads, keys, |i| {
            self.engine.put(&order.key(i), &value(i, 0), synced)
        })?;
        self.check_sample(order, keys, 0)?;
        Ok(elapsed)
    }

    fn fill_batches(&self, batch: u64) -> Result<Duration> {
        let start = Instant::now();
        self.write_batches(batch)?;
        let elapsed = start.elapsed();
        self.check_sample(Order::Scrambled, self.scale.keys, 0)?;
        Ok(elapsed)
    }

    fn write_batches(&self, batch: u64) -> Result<()> {
        let mut entries: Vec<(Key, Value)> = Vec::new();
        for i in 0..self.scale.keys {
            entries.push((Order::Scrambled.key(i), value(i, 0)));
            if entries.len() as u64 == batch || i + 1 == self.scale.keys {
                self.engine.put_batch(&entries)?;
                entries.clear();
            }
        }
        Ok(())
    }

    fn fill_synced(&self, threads: u64) -> Result<(u64, Duration)> {
        let writes = self.scale.synced_writes * threads.min(4);
        let elapsed = self.fill(Order::Scrambled, threads, writes, true)?;
        Ok((writes, elapsed))
    }

    /// Enough flushes for several levels: 200 write buffers or so.
    fn fill_small_buffer(&self) -> Result<(u64, Duration)> {
        let writes = 4 * self.scale.keys;
        let elapsed = self.fill(Order::Scrambled, 1, writes, false)?;
        let after = self.engine.shape();
        self.engine.settle()?;
        if let (Some(busy), Some(calm)) = (after, self.engine.shape()) {
            let levels = busy.levels.max(calm.levels);
            let buffers = writes * ENTRY_BYTES / self.scale.small_buffer_bytes();
            if BUFFERS_FOR_LEVELS <= buffers && (levels < 3 || calm.compactions < 50) {
                return Err(format!(
                    "{levels} levels and {} compactions came of the small buffer, expected at \
                     least 3 and 50",
                    calm.compactions
                )
                .into());
            }
        }
        self.check_sample(Order::Scrambled, writes, 0)?;
        Ok((writes, elapsed))
    }

    fn load(&self) -> Result<()> {
        self.write_batches(LOAD_BATCH)?;
        self.engine.settle()
    }

    fn overwrite(&self) -> Result<Duration> {
        self.load()?;
        let keys = self.scale.keys;
        let elapsed = for_each(1, keys, |i| {
            let i = permuted(i, keys);
            self.engine
                .put(&Order::Scrambled.key(i), &value(i, 1), false)
        })?;
        self.check_sample(Order::Scrambled, keys, 1)?;
        Ok(elapsed)
    }

    fn read(&self, threads: u64, present: bool) -> Result<Duration> {
        self.load()?;
        let keys = self.scale.keys;
        for_each(threads, keys, |i| {
            let index = Random::new(i).below(keys);
            if present {
                self.check(Order::Scrambled, index, 0)
            } else {
                self.check_absent(index + keys)
            }
        })
    }

    fn scan(&self, start: Start<'_>) -> Result<Duration> {
        self.load()?;
        let clock = Instant::now();
        let mut order = InOrder::new(matches!(start, Start::Last));
        let count = self
            .engine
            .scan(start, u64::MAX, |k, v| order.entry(k, v))?;
        let elapsed = clock.elapsed();
        order.finish()?;
        expect("entries scanned", self.scale.keys, count)?;
        Ok(elapsed)
    }

    fn seek(&self, seeks: u64, entries: u64) -> Result<Duration> {
        self.load()?;
        let keys = self.scale.keys;
        // A seek near the end finds fewer entries; how many are there follows from the sorted keys.
        let mut sorted: Vec<Key> = (0..keys).map(|i| Order::Scrambled.key(i)).collect();
        sorted.sort_unstable();
        let tail = sorted[keys.saturating_sub(entries) as usize];
        for_each(1, seeks, |i| {
            let key = Order::Scrambled.key(Random::new(i).below(keys));
            let mut order = InOrder::new(false);
            let mut first = None;
            let count = self.engine.scan(Start::At(&key), entries, |k, v| {
                first.get_or_insert(k == key);
                order.entry(k, v);
            })?;
            order.finish()?;
            if first != Some(true) {
                return Err("a seek to a key that is there did not land on it".into());
            }
            if key <= tail {
                expect("entries after a seek", entries, count)?;
            }
            Ok(())
        })
    }

    fn read_while_writing(&self) -> Result<Vec<Figure>> {
        self.load()?;
        let keys = self.scale.keys;
        let done = AtomicBool::new(false);
        let writes = AtomicU64::new(0);
        let start = Instant::now();
        let elapsed = std::thread::scope(|scope| {
            let writer = scope.spawn(|| -> Result<()> {
                let mut i = 0;
                // Relaxed: nothing is read that another thread wrote beside the flag.
                while !done.load(Ordering::Relaxed) {
                    let index = permuted(i % keys, keys);
                    let value = value(index, 0);
                    self.engine
                        .put(&Order::Scrambled.key(index), &value, false)?;
                    i += 1;
                }
                writes.store(i, Ordering::Relaxed);
                Ok(())
            });
            let reads = for_each(1, keys, |i| {
                self.check(Order::Scrambled, Random::new(i).below(keys), 0)
            });
            done.store(true, Ordering::Relaxed);
            writer.join().map_err(|_| "the writer panicked")??;
            reads
        })?;
        let both = start.elapsed();
        let row = |row: &str, operations, elapsed| Figure {
            row: row.to_string(),
            operations,
            elapsed,
        };
        Ok(vec![
            row("read while writing: reads", keys, elapsed),
            row(
                "read while writing: writes",
                writes.load(Ordering::Relaxed).max(1),
                both,
            ),
        ])
    }

    fn delete_then_scan(&self) -> Result<Vec<Figure>> {
        self.load()?;
        let keys = self.scale.keys;
        let deletes = keys / 2;
        let deleting = for_each(1, deletes, |i| {
            self.engine.delete(&Order::Scrambled.key(permuted(i, keys)))
        })?;
        let clock = Instant::now();
        let mut order = InOrder::new(false);
        let count = self
            .engine
            .scan(Start::First, u64::MAX, |k, v| order.entry(k, v))?;
        let scanning = clock.elapsed();
        order.finish()?;
        expect("entries left after deleting", keys - deletes, count)?;
        let row = |row: &str, operations, elapsed| Figure {
            row: row.to_string(),
            operations,
            elapsed,
        };
        Ok(vec![
            row("deleterandom", deletes, deleting),
            row("scan after deletes", count.max(1), scanning),
        ])
    }

    fn check(&self, order: Order, index: u64, generation: u64) -> Result<()> {
        let right = self.engine.get(&order.key(index), |found| {
            found.is_some_and(|bytes| is_value(bytes, index, generation))
        })?;
        if right {
            return Ok(());
        }
        Err(format!("index {index}: not the value of generation {generation}").into())
    }

    fn check_absent(&self, index: u64) -> Result<()> {
        let key = Order::Scrambled.key(index);
        if self.engine.get(&key, |found| found.is_none())? {
            return Ok(());
        }
        Err(format!("index {index} was never written and was found").into())
    }

    fn check_sample(&self, order: Order, keys: u64, generation: u64) -> Result<()> {
        let mut random = Random::new(keys);
        for _ in 0..SAMPLE.min(keys) {
            self.check(order, random.below(keys), generation)?;
        }
        self.check(order, keys - 1, generation)
    }
}

/// `i` through a permutation of `0..keys`.
fn permuted(i: u64, keys: u64) -> u64 {
    i * STRIDE % keys
}

/// Checks order and value of each entry of a scan, cheaply enough not to be what is measured.
struct InOrder {
    back: bool,
    last: Option<Key>,
    fault: Option<String>,
}

impl InOrder {
    fn new(back: bool) -> Self {
        InOrder {
            back,
            last: None,
            fault: None,
        }
    }

    fn entry(&mut self, key: &[u8], bytes: &[u8]) {
        let known: Option<Key> = key.try_into().ok();
        let in_order = match (&self.last, &known) {
            (Some(last), Some(key)) if self.back => key < last,
            (Some(last), Some(key)) => key > last,
            (None, Some(_)) => true,
            (_, None) => false,
        };
        let index = Order::Scrambled.index(key);
        if !in_order || !index.is_some_and(|i| is_value(bytes, i, 0)) {
            let text = String::from_utf8_lossy(key).into_owned();
            self.fault
                .get_or_insert(format!("entry {text} is out of order or wrong"));
        }
        self.last = known;
    }

    fn finish(self) -> Result<()> {
        match self.fault {
            Some(fault) => Err(fault.into()),
            None => Ok(()),
        }
    }
}

fn expect(what: &str, expected: u64, found: u64) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    Err(format!("{what}: {found}, expected {expected}").into())
}

/// Calls `work` for each index below `total`, dealt out to `threads` in turn; the time from the
/// common start to the last end.
fn for_each(threads: u64, total: u64, work: impl Fn(u64) -> Result<()> + Sync) -> Result<Duration> {
    if threads == 1 {
        let start = Instant::now();
        (0..total).try_for_each(&work)?;
        return Ok(start.elapsed());
    }
    let barrier = Barrier::new(threads as usize + 1);
    std::thread::scope(|scope| {
        let (work, barrier) = (&work, &barrier);
        let workers: Vec<_> = (0..threads)
            .map(|first| {
                scope.spawn(move || {
                    barrier.wait();
                    (first..total).step_by(threads as usize).try_for_each(work)
                })
            })
            .collect();
        barrier.wait();
        let start = Instant::now();
        for worker in workers {
            worker.join().map_err(|_| "a worker panicked")??;
        }
        Ok(start.elapsed())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An engine that loses what it is told: every proof must notice.
    struct Liar;
    impl Engine for Liar {
        fn open(_: &std::path::Path, _: &Settings) -> Result<Self> {
            Ok(Liar)
        }
        fn put(&self, _: &[u8], _: &[u8], _: bool) -> Result<()> {
            Ok(())
        }
        fn put_batch<V: AsRef<[u8]>>(&self, _: &[(Key, V)]) -> Result<()> {
            Ok(())
        }
        fn delete(&self, _: &[u8]) -> Result<()> {
            Ok(())
        }
        fn get<T>(&self, _: &[u8], read: impl FnOnce(Option<&[u8]>) -> T) -> Result<T> {
            Ok(read(Some(b"something")))
        }
        fn scan(&self, _: Start<'_>, _: u64, _: impl FnMut(&[u8], &[u8])) -> Result<u64> {
            Ok(0)
        }
        fn settle(&self) -> Result<()> {
            Ok(())
        }
        fn close(self) -> Result<()> {
            Ok(())
        }
    }

    const TINY: Scale = Scale {
        keys: 2_000,
        synced_writes: 10,
    };

    #[test]
    fn no_workload_believes_an_engine_that_lies() {
        for name in NAMES {
            assert!(run(name, &Liar, TINY).is_err(), "{name} believed a liar");
        }
    }

    fn every_workload_is_content_with<E: Engine>(engine: &str) {
        for name in NAMES {
            let place = format!("compare-test-{}-{engine}", std::process::id());
            let place = std::env::temp_dir().join(place);
            let store = E::open(&place, &TINY.settings(name)).unwrap();
            let figures = run(name, &store, TINY).unwrap();
            assert!(figures.iter().all(|f| f.operations > 0), "{name}");
            store.close().unwrap();
            std::fs::remove_dir_all(&place).unwrap();
        }
    }

    /// One test for each engine, so that they run beside each other and fail by name.
    mod every_workload_is_content_with_an_engine_that_works {
        use super::every_workload_is_content_with as check;
        use crate::engine;

        #[cfg(feature = "alluvium")]
        #[test]
        fn alluvium() {
            check::<engine::alluvium::Alluvium>("alluvium");
        }

        #[test]
        fn fjall() {
            check::<engine::fjall::Fjall>("fjall");
        }

        #[test]
        fn lmdb() {
            check::<engine::lmdb::Lmdb>("lmdb");
        }

        #[test]
        fn redb() {
            check::<engine::redb::Redb>("redb");
        }

        #[test]
        fn rocksdb() {
            check::<engine::rocksdb::RocksDb>("rocksdb");
        }

        #[test]
        fn sled() {
            check::<engine::sled::Sled>("sled");
        }
    }

    #[test]
    fn the_permutation_visits_every_index_once() {
        for keys in [1_000, 2_000, 200_000, 2_000_000] {
            let mut seen = vec![false; keys as usize];
            (0..keys).for_each(|i| seen[permuted(i, keys) as usize] = true);
            assert!(seen.into_iter().all(|s| s));
        }
    }
}
