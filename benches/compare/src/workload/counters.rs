//! Counters that are added to by merges, and read: a tenth as many as there are keys.

use super::{Bench, Figure, Unsupported, for_each, permuted, settle_and_rest};
use crate::data::{Order, Random};
use crate::engine::{Engine, Result};

pub const NAME: &str = "merge counters";

/// Each counter is added to so many times, on average.
const ADDS: u64 = 10;

/// The counter of the `i`-th addition, and what is added.
fn addition(i: u64, counters: u64) -> (u64, i64) {
    (Random::new(i).below(counters), (i % 7) as i64 - 2)
}

impl<E: Engine> Bench<'_, E> {
    /// Rows `merge counters: add` and `merge counters: read`.
    pub fn merge_counters(&self) -> Result<Vec<Figure>> {
        if !E::MERGES {
            return Err(Unsupported("it has no merge operators".into()).into());
        }
        let (adds, counters) = (self.scale.keys, self.scale.keys / ADDS);
        let mut sums = vec![None::<i64>; counters as usize];
        for i in 0..adds {
            let (counter, amount) = addition(i, counters);
            *sums[counter as usize].get_or_insert(0) += amount;
        }
        let adding = for_each(1, adds, |i| {
            let (counter, amount) = addition(i, counters);
            self.engine.add(&Order::Scrambled.key(counter), amount)
        })?;
        let check = |counter: u64| {
            let expected = sums[counter as usize].map(i64::to_le_bytes);
            let is_right = self.engine.get(&Order::Scrambled.key(counter), |found| {
                found == expected.as_ref().map(|bytes| &bytes[..])
            })?;
            if is_right {
                return Ok(());
            }
            Err(format!("counter {counter}: not the sum of what was added").into())
        };
        // Half of what is read lies where it was added, as a rule; what has settled is read after.
        (0..counters.min(1_000)).try_for_each(check)?;
        settle_and_rest(self.engine, adds)?;
        let reading = for_each(1, counters, |i| check(permuted(i, counters)))?;
        Ok(vec![
            Figure::new("merge counters: add", adds, adding),
            Figure::new("merge counters: read", counters, reading),
        ])
    }
}
