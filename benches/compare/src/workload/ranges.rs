//! Many ranges of keys are deleted, and the rest is scanned and read: at once, and settled.

use super::{Bench, Figure, InOrder, Unsupported, expect, for_each, permuted, settle_and_rest};
use crate::data::{Key, Order};
use crate::engine::{Engine, Result, Start};
use std::time::Instant;

pub const NAME: &str = "delete ranges";

/// A range for each so many keys, on average.
const KEYS_A_RANGE: u64 = 4_000;
/// Of so many parts of the keys between the starts of two ranges one is left.
const LEFT_ONE_OF: u64 = 16;

/// The ranges, ascending: all keys are spread evenly over 64 bits, and so are the ranges.
fn ranges(keys: u64) -> Vec<(Key, Key)> {
    let count = (keys / KEYS_A_RANGE).max(4);
    let width = u64::MAX / count;
    let key = |word| Order::Sequential.key(word);
    let deleted = width / LEFT_ONE_OF * (LEFT_ONE_OF - 1);
    let starts = (0..count).map(|i| i * width);
    starts.map(|at| (key(at), key(at + deleted))).collect()
}

fn is_left(key: &Key, ranges: &[(Key, Key)]) -> bool {
    let behind = ranges.partition_point(|(from, _)| from <= key);
    behind == 0 || ranges[behind - 1].1 <= *key
}

impl<E: Engine> Bench<'_, E> {
    /// Rows `delete ranges: a range`, `delete ranges: scan at once` and `delete ranges: read`.
    pub fn delete_ranges(&self) -> Result<Vec<Figure>> {
        if !E::DELETES_RANGES {
            return Err(Unsupported("it cannot delete ranges".into()).into());
        }
        self.load()?;
        let ranges = ranges(self.scale.keys);
        let keys = 0..self.scale.keys;
        let left: Vec<u64> = keys
            .filter(|i| is_left(&Order::Scrambled.key(*i), &ranges))
            .collect();
        let count = ranges.len() as u64;
        let deleting = for_each(1, count, |i| {
            let (from, to) = &ranges[permuted(i, count) as usize];
            self.engine.delete_range(from, to)
        })?;
        let (found, scanning) = self.scan_in_order()?;
        expect("entries left", left.len() as u64, found)?;
        settle_and_rest(self.engine, self.scale.keys)?;
        let reading = for_each(1, found, |i| {
            let index = left[permuted(i, found) as usize];
            self.check(Order::Scrambled, index, 0)
        })?;
        let (still, _) = self.scan_in_order()?;
        expect("entries left after settling", found, still)?;
        Ok(vec![
            Figure::new("delete ranges: a range", count, deleting),
            Figure::new("delete ranges: scan at once", found, scanning),
            Figure::new("delete ranges: read", found, reading),
        ])
    }

    fn scan_in_order(&self) -> Result<(u64, std::time::Duration)> {
        let clock = Instant::now();
        let mut order = InOrder::new(false);
        let count = self
            .engine
            .scan(Start::First, u64::MAX, |k, v| order.entry(k, v))?;
        let elapsed = clock.elapsed();
        order.finish()?;
        Ok((count, elapsed))
    }
}
