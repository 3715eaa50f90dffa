//! Sorted entries into an empty store, in the cheapest way that it has.

use super::{Bench, ENTRY_BYTES, Figure, Volume};
use crate::data::{Order, value};
use crate::engine::{Engine, Result};
use std::time::Instant;

pub const NAME: &str = "bulk load";

impl<E: Engine> Bench<'_, E> {
    pub fn bulk_load(&self) -> Result<Vec<Figure>> {
        let keys = self.scale.keys;
        let start = Instant::now();
        self.engine
            .load_sorted((0..keys).map(|i| (Order::Sequential.key(i), value(i, 0))))?;
        let elapsed = start.elapsed();
        self.engine.settle()?;
        self.check_sample(Order::Sequential, keys, 0)?;
        let volume = Volume::once(keys * ENTRY_BYTES);
        Ok(vec![Figure::new(NAME, keys, elapsed).with_volume(volume)])
    }
}
