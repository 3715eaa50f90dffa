//! bench: how fast this machine and this disk are, with a database that is made for it.
//!
//! ```text
//! fillseq      keys ascending           fillrandom   the same keys, shuffled, in another database
//! readrandom   gets of keys that are there, each value compared
//! scan         all entries in order, counted
//! ```
//! Times of single operations go into a histogram whose buckets are at most 1/16 wide, so that
//! percentiles are that exact. Not here: comparison with other engines (`benches/compare`).

use crate::upkeep::Spinner;
use crate::{Error, say};
use alluvium::{Db, Options};
use clap::{Args, ValueEnum};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Workload {
    Fillseq,
    Fillrandom,
    Readrandom,
    Scan,
}

#[derive(Args)]
pub(crate) struct Bench {
    /// Entries of the database, and operations of each workload.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    entries: u64,
    /// Bytes of a value.
    #[arg(long, value_name = "N", default_value_t = 100)]
    value_bytes: usize,
    /// Only these workloads.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Workload>,
}

/// A database in a directory of its own under the one that was named; removed at the end.
struct Place(PathBuf);

impl Place {
    fn new(parent: &Path, name: &str) -> Place {
        Place(parent.join(format!("alluvium-bench-{name}-{}", std::process::id())))
    }

    fn open(&self) -> Result<Db, Error> {
        Ok(Options::new().error_if_exists(true).open(&self.0)?)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Its own failure was told before; the next run has another name.
        let _ = Db::destroy(&self.0);
    }
}

impl Bench {
    pub(crate) fn run(&self, parent: &Path, as_json: bool) -> Result<(), Error> {
        if self.entries == 0 {
            return Err("at least one entry is needed".into());
        }
        let wanted = |workload| self.only.is_empty() || self.only.contains(&workload);
        let spinner = Spinner::new("measuring".to_string());
        let mut rows = Vec::new();
        if wanted(Workload::Fillseq) {
            let place = Place::new(parent, "fillseq");
            let db = place.open()?;
            spinner.tell("fillseq".to_string());
            rows.push((Workload::Fillseq, self.fill(&db, |n| n)?));
            db.close()?;
        }
        let place = Place::new(parent, "fillrandom");
        let needs_data = [Workload::Fillrandom, Workload::Readrandom, Workload::Scan];
        if needs_data.into_iter().any(wanted) {
            let db = place.open()?;
            spinner.tell("fillrandom".to_string());
            let shuffled = Shuffle::new(self.entries);
            let filled = self.fill(&db, |n| shuffled.at(n))?;
            if wanted(Workload::Fillrandom) {
                rows.push((Workload::Fillrandom, filled));
            }
            if wanted(Workload::Readrandom) {
                spinner.tell("readrandom".to_string());
                rows.push((Workload::Readrandom, self.read(&db)?));
            }
            if wanted(Workload::Scan) {
                spinner.tell("scan".to_string());
                rows.push((Workload::Scan, self.scan(&db)?));
            }
            db.close()?;
        }
        drop(spinner);
        for (workload, times) in rows {
            times.print(&format!("{workload:?}").to_lowercase(), as_json)?;
        }
        Ok(())
    }

    fn fill(&self, db: &Db, key_at: impl Fn(u64) -> u64) -> Result<Times, Error> {
        let mut value = vec![0; self.value_bytes];
        Times::of(self.entries, |n| {
            let n = key_at(n);
            write_value(n, &mut value);
            Ok(db.put(key(n), &value)?)
        })
    }

    fn read(&self, db: &Db) -> Result<Times, Error> {
        // Another order than that in which they were put.
        let shuffled = Shuffle::new(self.entries);
        let mut value = vec![0; self.value_bytes];
        Times::of(self.entries, |n| {
            let n = shuffled.at(shuffled.at(n));
            write_value(n, &mut value);
            let is_right = db.get_with(key(n), |found| found == Some(&value[..]))?;
            check(is_right, || format!("the value of key {n} is wrong"))
        })
    }

    fn scan(&self, db: &Db) -> Result<Times, Error> {
        let mut entries = db.iter();
        let times = Times::of(self.entries, |n| match entries.next() {
            Some(entry) => {
                let is_next = entry?.0 == key(n);
                check(is_next, || format!("the scan misses key {n}"))
            }
            None => Err(format!("the scan ends before key {n}").into()),
        })?;
        check(entries.next().is_none(), || "the scan goes on".to_string())?;
        Ok(times)
    }
}

fn check(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), Error> {
    match holds {
        true => Ok(()),
        false => Err(otherwise().into()),
    }
}

fn key(n: u64) -> [u8; 16] {
    let mut key = *b"key-....--------";
    key[8..].copy_from_slice(&n.to_be_bytes());
    key
}

/// Half of it is the key's own, half compresses well.
fn write_value(n: u64, value: &mut [u8]) {
    let half = value.len() / 2;
    for (i, piece) in (0u64..).zip(value[..half].chunks_mut(8)) {
        let bytes = mixed(n.wrapping_add(i << 40)).to_le_bytes();
        piece.copy_from_slice(&bytes[..piece.len()]);
    }
}

/// The finisher of SplitMix64.
fn mixed(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// The numbers below `count`, each once, in an order without a pattern: a Feistel network over the
/// next power of four, walked until it stays below `count`.
struct Shuffle {
    count: u64,
    half_bits: u32,
}

impl Shuffle {
    fn new(count: u64) -> Shuffle {
        let bits = u64::BITS - (count - 1).leading_zeros();
        Shuffle {
            count,
            half_bits: bits.div_ceil(2).max(1),
        }
    }

    fn at(&self, n: u64) -> u64 {
        let mut n = n;
        loop {
            let mask = (1 << self.half_bits) - 1;
            let (mut left, mut right) = (n >> self.half_bits, n & mask);
            for round in 0..4u64 {
                let mix = mixed(right ^ (round << 60)) & mask;
                (left, right) = (right, left ^ mix);
            }
            n = (left << self.half_bits) | right;
            if n < self.count {
                return n;
            }
        }
    }
}

/// Times of many operations.
struct Times {
    operations: u64,
    took: Duration,
    longest_ns: u64,
    buckets: Vec<u64>,
}

/// Buckets for each doubling.
const STEPS: u64 = 16;

impl Times {
    /// Runs `operation` with 0, 1, 2 and so on.
    fn of(
        operations: u64,
        mut operation: impl FnMut(u64) -> Result<(), Error>,
    ) -> Result<Times, Error> {
        let mut times = Times {
            operations,
            took: Duration::ZERO,
            longest_ns: 0,
            buckets: vec![0; bucket_of(u64::MAX) + 1],
        };
        let start = Instant::now();
        let mut before = start;
        for n in 0..operations {
            operation(n)?;
            let now = Instant::now();
            let ns = now.duration_since(before).as_nanos() as u64;
            times.buckets[bucket_of(ns)] += 1;
            times.longest_ns = times.longest_ns.max(ns);
            before = now;
        }
        times.took = start.elapsed();
        Ok(times)
    }

    /// The time that this share of the operations did not exceed, in nanoseconds.
    fn percentile(&self, share: f64) -> u64 {
        let wanted = (self.operations as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if wanted <= seen {
                return end_of(bucket).min(self.longest_ns);
            }
        }
        self.longest_ns
    }

    fn print(&self, name: &str, as_json: bool) -> Result<(), Error> {
        let seconds = self.took.as_secs_f64().max(1e-9);
        let per_second = (self.operations as f64 / seconds) as u64;
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|share| self.percentile(share));
        if as_json {
            return say(json!({
                "workload": name,
                "operations": self.operations,
                "seconds": seconds,
                "operations_per_second": per_second,
                "p50_ns": p50,
                "p99_ns": p99,
                "p99.9_ns": p999,
                "longest_ns": self.longest_ns,
            }));
        }
        say(format_args!(
            "{name:<10} {per_second:>10} ops/s  p50 {}  p99 {}  p99.9 {}  longest {}",
            human(p50),
            human(p99),
            human(p999),
            human(self.longest_ns)
        ))
    }
}

/// Which bucket counts so many nanoseconds.
fn bucket_of(ns: u64) -> usize {
    if ns < STEPS {
        return ns as usize;
    }
    let doublings = u64::from(ns.ilog2() - STEPS.ilog2());
    ((doublings + 1) * STEPS + ((ns >> doublings) - STEPS)) as usize
}

/// The largest number of nanoseconds that a bucket counts.
fn end_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < STEPS {
        return bucket;
    }
    let (doublings, step) = (bucket / STEPS - 1, bucket % STEPS);
    // One less than the next bucket's first; the last bucket ends with the numbers.
    let first = u128::from(STEPS + step + 1) << doublings;
    u64::try_from(first - 1).unwrap_or(u64::MAX)
}

fn human(ns: u64) -> String {
    match ns {
        ..10_000 => format!("{ns} ns"),
        10_000..10_000_000 => format!("{:.1} us", ns as f64 / 1e3),
        _ => format!("{:.1} ms", ns as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shuffle_gives_each_number_once() {
        for count in [1, 2, 3, 10, 64, 1000, 4097] {
            let shuffled = Shuffle::new(count);
            let mut seen: Vec<u64> = (0..count).map(|n| shuffled.at(n)).collect();
            let in_order = seen.is_sorted();
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..count), "{count}");
            assert!(!in_order || count < 10, "{count}");
        }
    }

    #[test]
    fn every_time_has_a_bucket_that_is_as_narrow_as_it_says() {
        for bits in 0..64 {
            for ns in [
                1u64 << bits,
                (1u64 << bits) + (1u64 << bits) / 3,
                (1u64 << bits) - 1,
            ] {
                let (bucket, end) = (bucket_of(ns), end_of(bucket_of(ns)));
                assert!(ns <= end && end - ns <= ns / STEPS, "{ns}: {end}");
                assert_eq!(bucket_of(end), bucket);
                assert!(bucket_of(end.saturating_add(1)) == bucket + 1 || end == u64::MAX);
            }
        }
    }

    #[test]
    fn percentiles_are_those_of_the_operations() {
        let mut times = Times {
            operations: 1000,
            took: Duration::from_secs(1),
            longest_ns: 5000,
            buckets: vec![0; bucket_of(u64::MAX) + 1],
        };
        times.buckets[bucket_of(10)] = 990;
        times.buckets[bucket_of(1000)] = 9;
        times.buckets[bucket_of(5000)] = 1;
        assert_eq!(times.percentile(0.5), 10);
        assert_eq!(times.percentile(0.99), 10);
        assert!((1000..1063).contains(&times.percentile(0.999)));
        assert_eq!(times.percentile(1.0), 5000);
    }
}
