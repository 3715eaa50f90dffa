//! Reads beside writes, and a scan over what deletes have left.

use super::{Bench, Figure, InOrder, expect, for_each, permuted};
use crate::data::{Order, Random, value};
use crate::engine::{Engine, Result, Start};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// One key of this many is left to be found among the tombstones.
const LEFT_ONE_OF: u64 = 16;

/// As many reads as give the writer its share of two busy processors.
const READS_MIN: u64 = 200_000;

impl<E: Engine> Bench<'_, E> {
    /// The writer puts what is there already, so that a read knows what it must find. Both begin
    /// together, after the writer's first put: a thread may start long after it was asked for.
    pub fn read_while_writing(&self) -> Result<Vec<Figure>> {
        self.load()?;
        let keys = self.scale.keys;
        let reads = self.scale.reads().max(READS_MIN);
        let put = |i: u64| {
            let index = permuted(i % keys, keys);
            let value = value(index, 0);
            self.engine.put(&Order::Scrambled.key(index), &value, false)
        };
        let (done, ready) = (AtomicBool::new(false), Barrier::new(2));
        let (reading, (writes, writing)) = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let first = put(0);
                ready.wait();
                first?;
                let start = Instant::now();
                let mut i = 0;
                // Relaxed: nothing is read that another thread wrote beside the flag.
                while !done.load(Ordering::Relaxed) {
                    i += 1;
                    put(i)?;
                }
                Ok((i, start.elapsed()))
            });
            ready.wait();
            let reading = for_each(1, reads, |i| {
                self.check(Order::Scrambled, Random::new(i).below(keys), 0)
            });
            done.store(true, Ordering::Relaxed);
            let writing: Result<(u64, Duration)> =
                writer.join().map_err(|_| "the writer panicked")?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>((reading?, writing?))
        })?;
        if writes == 0 {
            return Err("the writer was never given a processor".into());
        }
        Ok(vec![
            Figure::new("read while writing: reads", reads, reading),
            Figure::new("read while writing: writes", writes, writing),
        ])
    }

    /// The scan follows the deletes at once; its time is for each entry that is left.
    pub fn delete_then_scan(&self) -> Result<Vec<Figure>> {
        self.load()?;
        let keys = self.scale.keys;
        let deletes = keys - keys / LEFT_ONE_OF;
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
        Ok(vec![
            Figure::new("deleterandom", deletes, deleting),
            Figure::new("scan after deletes", count, scanning),
        ])
    }
}
