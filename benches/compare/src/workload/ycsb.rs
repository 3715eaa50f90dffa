//! YCSB's core workloads A to F, with values of 1 KiB: one thread, every read checked.
//!
//! What to do is drawn before the clock starts. An update replaces the whole value; a
//! read-modify-write reads, checks, and puts the next generation. Zipfian ranks are permuted (see
//! `zipf`), D reads the latest insertions most, E scans 1 to 100 entries from a zipfian key.

use super::long::Long;
use super::zipf::Zipfian;
use super::{Figure, InOrder, SAMPLE, expect, permuted};
use crate::data::{Key, Order, Random};
use crate::engine::{Engine, Result, Start};
use std::time::{Duration, Instant};

const VALUE_BYTES: usize = 1_024;
const SCAN_MAX: u64 = 100;

/// Of 100 operations.
struct Mix {
    reads: u64,
    updates: u64,
    inserts: u64,
    scans: u64,
    /// The rest reads, modifies and writes.
    latest: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Read(u64),
    Update(u64),
    Insert(u64),
    Scan(u64, u64),
    Modify(u64),
}

fn mix(name: &str) -> Option<Mix> {
    let (reads, updates, inserts, scans) = match name {
        "YCSB A" => (50, 50, 0, 0),
        "YCSB B" => (95, 5, 0, 0),
        "YCSB C" => (100, 0, 0, 0),
        "YCSB D" => (95, 0, 5, 0),
        "YCSB E" => (0, 0, 5, 95),
        "YCSB F" => (50, 0, 0, 0),
        _ => return None,
    };
    Some(Mix {
        reads,
        updates,
        inserts,
        scans,
        latest: name == "YCSB D",
    })
}

pub fn run<E: Engine>(name: &str, engine: &E, keys: u64) -> Result<Vec<Figure>> {
    let mix = mix(name).ok_or_else(|| format!("there is no {name}"))?;
    let store = Long::new(engine, VALUE_BYTES, keys);
    store.load()?;
    let steps = steps(&mix, store.records);
    let operations = steps.len() as u64;
    let elapsed = perform(&store, &steps)?;
    Ok(vec![Figure::new(name, operations, elapsed)])
}

fn steps(mix: &Mix, records: u64) -> Vec<Step> {
    let zipfian = Zipfian::new(records);
    let mut random = Random::new(records);
    let mut known = records;
    (0..records)
        .map(|_| {
            let dice = random.below(100);
            let rank = zipfian.next(&mut random);
            let index = if mix.latest {
                known - 1 - rank
            } else {
                permuted(rank, records)
            };
            if dice < mix.reads {
                Step::Read(index)
            } else if dice < mix.reads + mix.updates {
                Step::Update(index)
            } else if dice < mix.reads + mix.updates + mix.inserts {
                known += 1;
                Step::Insert(known - 1)
            } else if dice < mix.reads + mix.updates + mix.inserts + mix.scans {
                Step::Scan(index, 1 + random.below(SCAN_MAX))
            } else {
                Step::Modify(index)
            }
        })
        .collect()
}

fn perform<E: Engine>(store: &Long<'_, E>, steps: &[Step]) -> Result<Duration> {
    // At most one insertion a step. A generation is one byte of a value's seed.
    let mut generations = vec![0u8; store.records as usize + steps.len()];
    let mut known = store.records;
    let mut buffer = vec![0; VALUE_BYTES];
    let tail = tail(store.records);
    let mut update = |index: u64, generations: &mut [u8]| {
        let generation = &mut generations[index as usize];
        *generation = generation.wrapping_add(1);
        store.put(&mut buffer, index, u64::from(*generation))
    };
    let mut inserted = vec![0; VALUE_BYTES];
    let start = Instant::now();
    for step in steps {
        match *step {
            Step::Read(index) => store.check(index, u64::from(generations[index as usize]))?,
            Step::Update(index) => update(index, &mut generations)?,
            Step::Insert(index) => {
                store.put(&mut inserted, index, 0)?;
                known = index + 1;
            }
            Step::Scan(index, entries) => scan(store, index, entries, &tail)?,
            Step::Modify(index) => {
                store.check(index, u64::from(generations[index as usize]))?;
                update(index, &mut generations)?;
            }
        }
    }
    let elapsed = start.elapsed();
    let mut random = Random::new(known);
    for index in (0..SAMPLE).map(|_| random.below(known)).chain([known - 1]) {
        store.check(index, u64::from(generations[index as usize]))?;
    }
    Ok(elapsed)
}

/// The last key that has `SCAN_MAX` entries from itself on, insertions not counted.
fn tail(records: u64) -> Key {
    let mut sorted: Vec<Key> = (0..records).map(|i| Order::Scrambled.key(i)).collect();
    sorted.sort_unstable();
    sorted[records.saturating_sub(SCAN_MAX) as usize]
}

fn scan<E: Engine>(store: &Long<'_, E>, index: u64, entries: u64, tail: &Key) -> Result<()> {
    let key = Order::Scrambled.key(index);
    let mut order = InOrder::of_long_values(VALUE_BYTES);
    let mut first = None;
    let count = store.engine.scan(Start::At(&key), entries, |k, v| {
        first.get_or_insert(k == key);
        order.entry(k, v);
    })?;
    order.finish()?;
    if first != Some(true) {
        return Err("a scan from a key that is there did not start at it".into());
    }
    if key <= *tail {
        expect("entries of a scan", entries, count)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mix_is_what_its_letter_says() {
        let share = |name: &str, is: fn(&Step) -> bool| {
            let steps = steps(&mix(name).unwrap(), 10_000);
            steps.iter().filter(|s| is(s)).count() / 100
        };
        let updates = share("YCSB A", |s| matches!(s, Step::Update(_)));
        assert!((48..=52).contains(&updates), "{updates}");
        let inserts = share("YCSB D", |s| matches!(s, Step::Insert(_)));
        assert!((4..=6).contains(&inserts), "{inserts}");
        let scans = share("YCSB E", |s| matches!(s, Step::Scan(..)));
        assert!((94..=96).contains(&scans), "{scans}");
        let modified = share("YCSB F", |s| matches!(s, Step::Modify(_)));
        assert!((48..=52).contains(&modified), "{modified}");
        assert_eq!(share("YCSB C", |s| matches!(s, Step::Read(_))), 100);
    }

    #[test]
    fn d_reads_what_was_inserted_last_and_nothing_that_was_not() {
        let steps = steps(&mix("YCSB D").unwrap(), 10_000);
        let mut known = 10_000;
        let mut recent = 0;
        for step in steps {
            match step {
                Step::Insert(index) => known = index + 1,
                Step::Read(index) => {
                    assert!(index < known);
                    recent += usize::from(known - index <= 100);
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(4_000 < recent, "{recent} reads of the last 100");
    }
}
