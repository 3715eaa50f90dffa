//! The shortest list that still fails, by delta debugging (Zeller and Hildebrandt, 2002).
//!
//! Chunks of the list are left out, large ones first, as long as it goes on failing; then the
//! lengths of the operations that are left are halved.

use super::op::Op;

/// A shorter list for which `fails` holds too; the same list when it holds for no shorter one.
/// Ends after `budget` attempts.
pub(crate) fn shortest(
    ops: &[Op],
    mut budget: usize,
    mut fails: impl FnMut(&[Op]) -> bool,
) -> Vec<Op> {
    let mut shortest = ops.to_vec();
    let mut attempt = |list: &[Op]| {
        budget = budget.saturating_sub(1);
        budget > 0 && fails(list)
    };
    // What comes behind the failure is not needed: the shortest beginning, by halving.
    let (mut low, mut high) = (0, shortest.len());
    while low < high {
        let middle = low + (high - low) / 2;
        match attempt(&shortest[..middle]) {
            true => high = middle,
            false => low = middle + 1,
        }
    }
    if attempt(&shortest[..high]) {
        shortest.truncate(high);
    }
    let mut chunk = shortest.len().div_ceil(2);
    while 0 < chunk {
        let before = shortest.len();
        let mut at = 0;
        while at < shortest.len() {
            let end = (at + chunk).min(shortest.len());
            let without = [&shortest[..at], &shortest[end..]].concat();
            match attempt(&without) {
                true => shortest = without,
                false => at = end,
            }
        }
        if chunk == 1 && shortest.len() == before {
            break;
        }
        chunk = if chunk == 1 {
            1
        } else {
            chunk.div_ceil(2).min(chunk - 1)
        };
    }
    for i in 0..shortest.len() {
        while 0 < shortest[i].len {
            let mut smaller = shortest.clone();
            smaller[i].len /= 2;
            if !attempt(&smaller) {
                break;
            }
            shortest = smaller;
        }
    }
    shortest
}
