//! Reading short values from a store that was loaded and has settled: gets, scans and seeks.

use super::zipf::Zipfian;
use super::{Bench, Figure, InOrder, expect, for_each, permuted};
use crate::data::{Key, Order, Random, is_value};
use crate::engine::{Engine, Result, Start};
use std::time::{Duration, Instant};

impl<E: Engine> Bench<'_, E> {
    pub fn read(&self, threads: u64, present: bool) -> Result<Duration> {
        self.load()?;
        let keys = self.scale.keys;
        for_each(threads, self.scale.reads(), |i| {
            let index = Random::new(i).below(keys);
            if present {
                self.check(Order::Scrambled, index, 0)
            } else {
                self.check_absent(index + keys)
            }
        })
    }

    /// Popular keys often: YCSB's distribution, drawn before the clock starts.
    pub fn read_zipfian(&self) -> Result<Duration> {
        self.load()?;
        let (keys, reads) = (self.scale.keys, self.scale.reads());
        let zipfian = Zipfian::new(keys);
        let mut random = Random::new(keys);
        let indexes: Vec<u64> = (0..reads)
            .map(|_| permuted(zipfian.next(&mut random), keys))
            .collect();
        for_each(1, reads, |i| {
            self.check(Order::Scrambled, indexes[i as usize], 0)
        })
    }

    /// One operation is one key.
    pub fn get_many(&self, name: &str, group: u64) -> Result<Vec<Figure>> {
        self.load()?;
        let keys = self.scale.keys;
        let groups = self.scale.reads() / group;
        let elapsed = for_each(1, groups, |number| {
            let index = |i: usize| Random::new(number * group + i as u64).below(keys);
            let asked: Vec<Key> = (0..group as usize)
                .map(|i| Order::Scrambled.key(index(i)))
                .collect();
            let mut right = 0;
            self.engine.get_many(&asked, |i, found| {
                right += u64::from(found.is_some_and(|bytes| is_value(bytes, index(i), 0)));
            })?;
            expect("right values of a group", group, right)
        })?;
        Ok(vec![Figure::new(name, groups * group, elapsed)])
    }

    pub fn scan(&self, start: Start<'_>) -> Result<Duration> {
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

    /// Every seek is to a key that is there; the sorted keys tell where it must end.
    pub fn seek(&self, seeks: u64, entries: u64) -> Result<Duration> {
        self.load()?;
        let keys = self.scale.keys;
        let mut sorted: Vec<Key> = (0..keys).map(|i| Order::Scrambled.key(i)).collect();
        sorted.sort_unstable();
        for_each(1, seeks, |i| {
            let place = Random::new(i).below(keys);
            let expected = entries.min(keys - place);
            let key = &sorted[place as usize];
            let mut order = InOrder::new(false);
            let mut first = None;
            let count = self.engine.scan(Start::At(key), entries, |k, v| {
                first.get_or_insert(k == key);
                order.entry(k, v);
            })?;
            if first != Some(true) {
                return Err("a seek to a key that is there did not land on it".into());
            }
            expect("entries after a seek", expected, count)?;
            if order.last != Some(sorted[(place + expected - 1) as usize]) {
                return Err("a seek and its steps did not end where they must".into());
            }
            order.finish()
        })
    }
}
