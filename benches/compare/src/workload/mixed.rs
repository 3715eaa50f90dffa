//! Reads beside writes, and a scan over what deletes have left.

use super::{Bench, Figure, InOrder, expect, for_each, permuted};
use crate::data::{Order, Random, value};
use crate::engine::{Engine, Result, Start};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// One key of this many is left to be found among the tombstones.
const LEFT_ONE_OF: u64 = 16;

impl<E: Engine> Bench<'_, E> {
    pub fn read_while_writing(&self) -> Result<Vec<Figure>> {
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
        let writes = writes.load(Ordering::Relaxed).max(1);
        Ok(vec![
            Figure::new("read while writing: reads", keys, elapsed),
            Figure::new("read while writing: writes", writes, both),
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
