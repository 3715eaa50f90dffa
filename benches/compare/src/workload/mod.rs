//! The workloads: what is timed, and the proof that the engine did it.
//!
//! Every workload runs in a process and a directory of its own. Filling workloads are timed to
//! their last acknowledgement, and a sample is read back afterwards. Reading workloads load the
//! store first and let it settle, untimed; every value that is read is compared with what it must
//! be, and scans are counted and their order is checked. A wrong answer ends the run.
//!
//! Here: the list, the scale and what the workloads share. `fill`, `read` and `mixed` hold those
//! with short values, `ranges` those that go by ranges, `counters` those that are merged, `expiring` those
//! that expire, `transfers` transactions, `long` and `ycsb` those with long ones, `forms` those with other keys; `sustained` and `reopen` have rows of their own kind.

mod bulk;
mod counters;
mod expiring;
mod fill;
mod forms;
mod long;
mod mixed;
mod ranges;
mod read;
pub mod reopen;
mod sustained;
mod transfers;
mod ycsb;
mod zipf;

use crate::data::{
    KEY_BYTES, Key, Order, Random, VALUE_BYTES, Value, is_long_value, is_value, value,
};
use crate::engine::{Engine, Result, Settings, Start};
use long::Long;
use std::fmt;
use std::path::Path;
use std::process::Command;
use std::sync::Barrier;
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
    bulk::NAME,
    "overwrite",
    "readrandom",
    "readrandom 2 threads",
    "readrandom zipfian",
    "readmissing",
    "get_many of 100",
    "scan forward",
    "scan reverse",
    "seek and next 10",
    "seek and next 100",
    "read while writing",
    "YCSB A",
    "YCSB B",
    "YCSB C",
    "YCSB D",
    "YCSB E",
    "YCSB F",
    "deleterandom then scan",
    ranges::NAME,
    counters::NAME,
    expiring::NAME,
    transfers::NAME,
    "values of 0 bytes",
    "values of 4 KiB",
    "values of 64 KiB",
    "values of 1 MiB",
    forms::USER,
    forms::UUID,
    forms::URL,
    forms::NUMBER,
    forms::LONG,
    SMALL_BUFFER,
    sustained::NAME,
    reopen::AFTER_CRASH,
    reopen::AFTER_CLOSE,
];

const SMALL_BUFFER: &str = "fillrandom small buffer";
const LOAD_BATCH: u64 = 1_000;
/// A batch of long values is about this large.
const LOAD_BYTES: usize = 1 << 20;
/// See `settle_and_rest`; smaller stores are those of tests.
const REST: Duration = Duration::from_secs(2);
const REST_FROM_RECORDS: u64 = 5_000;
const SAMPLE: u64 = 1_000;
const ENTRY_BYTES: u64 = (KEY_BYTES + VALUE_BYTES) as u64;
/// Coprime to every store size we use, so that stepping by it visits each index once.
const STRIDE: u64 = 7_368_787;

/// What one run is asked to do.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    pub keys: u64,
    pub synced_writes: u64,
    /// What each child may have of it, page cache counted.
    pub memory_mib: Option<u64>,
}

impl Scale {
    /// 4 MiB for the full 2,000,000 keys, less for fewer, so that the tree has the same shape.
    pub fn small_buffer_bytes(&self) -> u64 {
        (self.keys * 2).clamp(64 << 10, 4 << 20)
    }

    pub fn settings(&self, workload: &str) -> Settings {
        let limit = self.memory_mib.map(|mib| mib << 20);
        let (buffer, cache_bytes) = match limit {
            None => (64 << 20, 256 << 20),
            // Four buffers and the cache take half; half is left to the page cache.
            Some(limit) => (limit / 16, limit / 4),
        };
        let write_buffer_bytes = match workload {
            SMALL_BUFFER => self.small_buffer_bytes().min(buffer),
            sustained::NAME => sustained::buffer_bytes(self).min(buffer),
            _ => buffer,
        };
        Settings {
            write_buffer_bytes,
            write_buffers_max: 4,
            cache_bytes,
            filter_bits: 10,
            background_threads: 2,
            memory_is_limited: limit.is_some(),
            counters: workload == counters::NAME,
            transactions: workload == transfers::NAME,
            ttl: (workload == expiring::NAME).then_some(expiring::TTL),
        }
    }

    /// Reads of a workload with short values: as many as there are keys, or a tenth of that where
    /// most of them wait for the device.
    fn reads(&self) -> u64 {
        match self.memory_mib {
            None => self.keys,
            Some(_) => self.keys / 10,
        }
    }

    /// What a child may have: the limit, and for some workloads what they keep themselves for each
    /// key or record, which is not the engine's.
    pub fn limit_bytes(&self, workload: &str) -> Option<u64> {
        let own = match workload {
            "readrandom zipfian" => 1,
            counters::NAME | transfers::NAME => 2,
            ranges::NAME => 8,
            "seek and next 10" | "seek and next 100" => KEY_BYTES as u64,
            _ if workload.starts_with("YCSB ") => 8,
            _ if forms::FORMS.iter().any(|form| form.name == workload) => 8,
            _ => 0,
        };
        self.memory_mib.map(|mib| (mib << 20) + own * self.keys)
    }
}

/// One measured number.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    pub row: String,
    pub operations: u64,
    pub elapsed: Duration,
    pub volume: Volume,
}

/// Bytes of keys and values: what is left in the store, and what was written for it. Nothing where
/// space and writes are not the subject.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Volume {
    pub live_bytes: u64,
    pub user_bytes: u64,
}

impl Volume {
    /// Everything is written once and stays.
    fn once(bytes: u64) -> Self {
        Volume {
            live_bytes: bytes,
            user_bytes: bytes,
        }
    }
}

impl Figure {
    fn new(row: &str, operations: u64, elapsed: Duration) -> Self {
        Figure {
            row: row.to_string(),
            operations,
            elapsed,
            volume: Volume::default(),
        }
    }

    fn with_volume(self, volume: Volume) -> Self {
        Figure { volume, ..self }
    }
}

/// Why the engine cannot do this workload at all: an error that is an answer.
#[derive(Debug)]
pub struct Unsupported(pub String);

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not supported: {}", self.0)
    }
}

impl std::error::Error for Unsupported {}

/// What to run, and where.
pub struct Task<'a> {
    pub name: &'a str,
    pub directory: &'a Path,
    pub scale: Scale,
    /// The command of a process that does `reopen::Fill` with the same engine, name, directory and
    /// scale.
    pub filler: &'a dyn Fn() -> Result<Command>,
}

/// Runs the workload of that name in a directory that does not exist yet.
pub fn run<E: Engine>(task: &Task<'_>) -> Result<Vec<Figure>> {
    if let Some(end) = reopen::End::of(task.name) {
        return reopen::run::<E>(task, end);
    }
    let engine = E::open(task.directory, &task.scale.settings(task.name))?;
    let figures = measure(task.name, &engine, task.scale)?;
    engine.close()?;
    Ok(figures)
}

fn measure<E: Engine>(name: &str, engine: &E, scale: Scale) -> Result<Vec<Figure>> {
    let bench = Bench { engine, scale };
    let (keys, reads) = (scale.keys, scale.reads());
    let one = |operations, elapsed| Ok(vec![Figure::new(name, operations, elapsed)]);
    match name {
        "fillseq" => bench.fill(name, Order::Sequential, 1),
        "fillrandom" => bench.fill(name, Order::Scrambled, 1),
        "fillrandom 2 threads" => bench.fill(name, Order::Scrambled, 2),
        "fill batches of 100" => bench.fill_batches(name, 100),
        "fill synced" => bench.fill_synced(name, 1),
        "fill synced 4 threads" => bench.fill_synced(name, 4),
        "fill synced 16 threads" => bench.fill_synced(name, 16),
        bulk::NAME => bench.bulk_load(),
        "overwrite" => bench.overwrite(name),
        "readrandom" => one(reads, bench.read(1, true)?),
        "readrandom 2 threads" => one(reads, bench.read(2, true)?),
        "readrandom zipfian" => one(reads, bench.read_zipfian()?),
        "readmissing" => one(reads, bench.read(1, false)?),
        "get_many of 100" => bench.get_many(name, 100),
        "scan forward" => one(keys, bench.scan(Start::First)?),
        "scan reverse" => one(keys, bench.scan(Start::Last)?),
        "seek and next 10" => one(reads / 10, bench.seek(reads / 10, 10)?),
        "seek and next 100" => one(reads / 50, bench.seek(reads / 50, 100)?),
        "read while writing" => bench.read_while_writing(),
        "deleterandom then scan" => bench.delete_then_scan(),
        ranges::NAME => bench.delete_ranges(),
        counters::NAME => bench.merge_counters(),
        expiring::NAME => bench.expiring(),
        transfers::NAME => bench.transfers(),
        "values of 0 bytes" => Long::new(engine, 0, keys).fill_and_read(name),
        "values of 4 KiB" => Long::new(engine, 4 << 10, keys).fill_and_read(name),
        "values of 64 KiB" => Long::new(engine, 64 << 10, keys).fill_and_read(name),
        "values of 1 MiB" => Long::new(engine, 1 << 20, keys).fill_and_read(name),
        SMALL_BUFFER => bench.fill_small_buffer(name),
        sustained::NAME => bench.sustained_fill(),
        _ if name.starts_with("YCSB ") => ycsb::run(name, engine, keys),
        _ => match forms::FORMS.iter().find(|form| form.name == name) {
            Some(form) => forms::run(form, engine, keys),
            None => Err(format!("there is no workload named {name}").into()),
        },
    }
}

/// A store of short values: `keys` of them once it is loaded.
struct Bench<'a, E> {
    engine: &'a E,
    scale: Scale,
}

impl<E: Engine> Bench<'_, E> {
    /// Untimed: every key in batches, then what background work there is.
    fn load(&self) -> Result<()> {
        self.write_batches(LOAD_BATCH)?;
        settle_and_rest(self.engine, self.scale.keys)
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

    /// Every index of a small store; a random sample and the last of a larger one.
    fn check_sample(&self, order: Order, keys: u64, generation: u64) -> Result<()> {
        if keys <= SAMPLE {
            return (0..keys).try_for_each(|index| self.check(order, index, generation));
        }
        let mut random = Random::new(keys);
        for _ in 0..SAMPLE {
            self.check(order, random.below(keys), generation)?;
        }
        self.check(order, keys - 1, generation)
    }
}

/// Before reading: background work ends, and then nobody writes for a while, in which an engine may
/// do what it does when it is left alone. All get the same while.
fn settle_and_rest<E: Engine>(engine: &E, records: u64) -> Result<()> {
    engine.settle()?;
    if REST_FROM_RECORDS <= records {
        std::thread::sleep(REST);
        engine.settle()?;
    }
    Ok(())
}

/// `i` through a permutation of `0..keys`.
fn permuted(i: u64, keys: u64) -> u64 {
    i * STRIDE % keys
}

/// Checks order and value of each entry of a scan, cheaply enough not to be what is measured.
struct InOrder {
    back: bool,
    /// Bytes of a value, where the values are long ones.
    long: Option<usize>,
    last: Option<Key>,
    fault: Option<String>,
}

impl InOrder {
    fn new(back: bool) -> Self {
        InOrder {
            back,
            long: None,
            last: None,
            fault: None,
        }
    }

    fn of_long_values(length: usize) -> Self {
        InOrder {
            long: Some(length),
            ..InOrder::new(false)
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
        let is_right = |index| match self.long {
            None => is_value(bytes, index, 0),
            Some(length) => is_long_value(bytes, length, index, 0),
        };
        if !in_order || !index.is_some_and(is_right) {
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
mod faults;
#[cfg(test)]
mod tests;
