//! Filling and overwriting with short values.
//!
//! The clock stops at the last acknowledgement. Then the store settles, so that space at rest and
//! bytes written count the work that the fill has caused, and a sample is read back.

use super::{Bench, ENTRY_BYTES, Figure, Volume, for_each, permuted, sustained};
use crate::data::{Order, value};
use crate::engine::{Engine, Result};
use std::time::{Duration, Instant};

/// Fewer flushes than this need not make three levels: below 36,000 keys or so there are fewer.
const BUFFERS_FOR_LEVELS: u64 = 200;

impl<E: Engine> Bench<'_, E> {
    pub fn fill(&self, name: &str, order: Order, threads: u64) -> Result<Vec<Figure>> {
        let keys = self.scale.keys;
        let elapsed = self.put_each(order, threads, keys, false)?;
        self.engine.settle()?;
        self.check_sample(order, keys, 0)?;
        Ok(vec![self.filled(name, elapsed)])
    }

    pub fn fill_batches(&self, name: &str, batch: u64) -> Result<Vec<Figure>> {
        let start = Instant::now();
        self.write_batches(batch)?;
        let elapsed = start.elapsed();
        self.engine.settle()?;
        self.check_sample(Order::Scrambled, self.scale.keys, 0)?;
        Ok(vec![self.filled(name, elapsed)])
    }

    /// At most four threads' worth of writes; no volume, for they are few.
    pub fn fill_synced(&self, name: &str, threads: u64) -> Result<Vec<Figure>> {
        let writes = self.scale.synced_writes * threads.min(4);
        let elapsed = self.put_each(Order::Scrambled, threads, writes, true)?;
        Ok(vec![Figure::new(name, writes, elapsed)])
    }

    /// Enough flushes for several levels: 200 write buffers or so.
    pub fn fill_small_buffer(&self, name: &str) -> Result<Vec<Figure>> {
        let writes = 4 * self.scale.keys;
        let elapsed = self.put_each(Order::Scrambled, 1, writes, false)?;
        let after = self.engine.shape();
        self.engine.settle()?;
        if let (Some(busy), Some(calm)) = (after, self.engine.shape()) {
            let levels = busy.levels.max(calm.levels);
            let buffers = writes * ENTRY_BYTES / self.scale.small_buffer_bytes();
            if BUFFERS_FOR_LEVELS <= buffers && (levels < 3 || calm.compactions < 25) {
                return Err(format!(
                    "{levels} levels and {} compactions came of the small buffer, expected at \
                     least 3 and 25",
                    calm.compactions
                )
                .into());
            }
        }
        self.check_sample(Order::Scrambled, writes, 0)?;
        Ok(vec![
            Figure::new(name, writes, elapsed).with_volume(Volume::once(writes * ENTRY_BYTES)),
        ])
    }

    /// Loads the store, then writes every key again, in another order.
    pub fn overwrite(&self, name: &str) -> Result<Vec<Figure>> {
        self.load()?;
        let keys = self.scale.keys;
        let elapsed = for_each(1, keys, |i| {
            let i = permuted(i, keys);
            self.engine
                .put(&Order::Scrambled.key(i), &value(i, 1), false)
        })?;
        self.engine.settle()?;
        self.check_sample(Order::Scrambled, keys, 1)?;
        let live_bytes = keys * ENTRY_BYTES;
        let volume = Volume {
            live_bytes,
            user_bytes: 2 * live_bytes,
        };
        Ok(vec![Figure::new(name, keys, elapsed).with_volume(volume)])
    }

    pub fn sustained_fill(&self) -> Result<Vec<Figure>> {
        let figures = sustained::run(self.engine, &self.scale)?;
        self.engine.settle()?;
        self.check_sample(Order::Scrambled, sustained::puts(&self.scale), 0)?;
        Ok(figures)
    }

    /// Puts indexes below `keys`, and reads a sample of them.
    fn put_each(&self, order: Order, threads: u64, keys: u64, synced: bool) -> Result<Duration> {
        let elapsed = for_each(threads, keys, |i| {
            self.engine.put(&order.key(i), &value(i, 0), synced)
        })?;
        self.check_sample(order, keys, 0)?;
        Ok(elapsed)
    }

    fn filled(&self, name: &str, elapsed: Duration) -> Figure {
        let keys = self.scale.keys;
        Figure::new(name, keys, elapsed).with_volume(Volume::once(keys * ENTRY_BYTES))
    }
}
