//! A store of long values: filled, and read in another order.
//!
//! The number of records follows from the length so that the store stays as large whatever the
//! length: about 256 bytes for each of `--keys`, but no more records than that, and 16 at least.
//! `Long` is also what the YCSB rows stand on.

use super::{Figure, LOAD_BYTES, SAMPLE, Volume, for_each, permuted, settle_and_rest};
use crate::data::{KEY_BYTES, Key, Order, Random, is_long_value, write_long_value};
use crate::engine::{Engine, Result};
use std::time::{Duration, Instant};

const BYTES_PER_KEY: u64 = 256;
const RECORDS_MIN: u64 = 16;

pub struct Long<'a, E> {
    pub engine: &'a E,
    pub length: usize,
    pub records: u64,
}

impl<'a, E: Engine> Long<'a, E> {
    pub fn new(engine: &'a E, length: usize, keys: u64) -> Self {
        let records = keys * BYTES_PER_KEY / length.max(1) as u64;
        Long {
            engine,
            length,
            records: records.clamp(RECORDS_MIN, keys),
        }
    }

    pub fn put(&self, buffer: &mut [u8], index: u64, generation: u64) -> Result<()> {
        write_long_value(buffer, index, generation);
        self.engine.put(&Order::Scrambled.key(index), buffer, false)
    }

    pub fn check(&self, index: u64, generation: u64) -> Result<()> {
        let right = self.engine.get(&Order::Scrambled.key(index), |found| {
            found.is_some_and(|bytes| is_long_value(bytes, self.length, index, generation))
        })?;
        if right {
            return Ok(());
        }
        Err(format!("index {index}: not the long value of generation {generation}").into())
    }

    /// Untimed: every record in batches, then what background work there is.
    pub fn load(&self) -> Result<()> {
        let batch = (LOAD_BYTES / self.length).max(1);
        let mut entries: Vec<(Key, Vec<u8>)> = Vec::new();
        for index in 0..self.records {
            let mut value = vec![0; self.length];
            write_long_value(&mut value, index, 0);
            entries.push((Order::Scrambled.key(index), value));
            if entries.len() == batch || index + 1 == self.records {
                self.engine.put_batch(&entries)?;
                entries.clear();
            }
        }
        settle_and_rest(self.engine, self.records)
    }

    /// Rows `<name>: fill` and `<name>: read`.
    pub fn fill_and_read(&self, name: &str) -> Result<Vec<Figure>> {
        let filling = self.fill()?;
        let mut random = Random::new(self.records);
        for _ in 0..SAMPLE.min(self.records) {
            self.check(random.below(self.records), 0)?;
        }
        settle_and_rest(self.engine, self.records)?;
        let reading = for_each(1, self.records, |i| {
            self.check(permuted(i, self.records), 0)
        })?;
        let bytes = self.records * (KEY_BYTES + self.length) as u64;
        Ok(vec![
            Figure::new(&format!("{name}: fill"), self.records, filling)
                .with_volume(Volume::once(bytes)),
            Figure::new(&format!("{name}: read"), self.records, reading),
        ])
    }

    fn fill(&self) -> Result<Duration> {
        let mut buffer = vec![0; self.length];
        let start = Instant::now();
        for index in 0..self.records {
            self.put(&mut buffer, index, 0)?;
        }
        Ok(start.elapsed())
    }
}
