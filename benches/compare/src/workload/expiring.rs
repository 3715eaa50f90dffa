//! Values that expire, though none does while they are looked at.

use super::{Bench, ENTRY_BYTES, Figure, Unsupported, Volume, for_each, permuted, settle_and_rest};
use crate::data::{Order, value};
use crate::engine::{Engine, Result};
use std::time::Duration;

pub const NAME: &str = "values that expire";

/// Longer than any run takes.
pub const TTL: Duration = Duration::from_secs(24 * 3600);

impl<E: Engine> Bench<'_, E> {
    /// Rows `values that expire: fill` and `values that expire: read`.
    pub fn expiring(&self) -> Result<Vec<Figure>> {
        if !E::EXPIRES {
            return Err(Unsupported("its values do not expire each by itself".into()).into());
        }
        let keys = self.scale.keys;
        let filling = for_each(1, keys, |i| {
            self.engine
                .put(&Order::Scrambled.key(i), &value(i, 0), false)
        })?;
        settle_and_rest(self.engine, keys)?;
        let reading = for_each(1, self.scale.reads(), |i| {
            self.check(Order::Scrambled, permuted(i, keys), 0)
        })?;
        let volume = Volume::once(keys * ENTRY_BYTES);
        Ok(vec![
            Figure::new("values that expire: fill", keys, filling).with_volume(volume),
            Figure::new("values that expire: read", self.scale.reads(), reading),
        ])
    }
}
