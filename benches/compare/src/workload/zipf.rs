//! YCSB's zipfian numbers: rank r is drawn in proportion to 1 / (r + 1)^0.99.
//!
//! After Gray and others, "Quickly generating billion-record synthetic databases" (1994), as YCSB
//! has it. YCSB scatters the ranks by a hash; callers here put them through a permutation, so that
//! the popular records lie neither together nor among the first that were loaded.

use crate::data::Random;

const THETA: f64 = 0.99;

pub struct Zipfian {
    ranks: f64,
    zeta: f64,
    eta: f64,
}

impl Zipfian {
    /// Takes a time in proportion to `ranks`: 0.1 s or so for 4 million.
    pub fn new(ranks: u64) -> Self {
        let zeta = (1..=ranks).map(weight).sum();
        let ranks = ranks as f64;
        let eta = (1.0 - (2.0 / ranks).powf(1.0 - THETA)) / (1.0 - (weight(1) + weight(2)) / zeta);
        Zipfian { ranks, zeta, eta }
    }

    pub fn next(&self, random: &mut Random) -> u64 {
        // 53 bits are what a double holds.
        let uniform = (random.next() >> 11) as f64 / (1u64 << 53) as f64;
        let scaled = uniform * self.zeta;
        if scaled < weight(1) {
            return 0;
        }
        if scaled < weight(1) + weight(2) {
            return 1;
        }
        let share = (self.eta * uniform - self.eta + 1.0).powf(1.0 / (1.0 - THETA));
        ((self.ranks * share) as u64).min(self.ranks as u64 - 1)
    }
}

fn weight(place: u64) -> f64 {
    (place as f64).powf(-THETA)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn popular_ranks_come_as_often_as_they_should() {
        let ranks = 1_000;
        let zipfian = Zipfian::new(ranks);
        let mut random = Random::new(1);
        let draws = 1_000_000;
        let mut seen = vec![0u32; ranks as usize];
        (0..draws).for_each(|_| seen[zipfian.next(&mut random) as usize] += 1);
        for rank in [0, 1] {
            let expected = f64::from(draws) * weight(rank as u64 + 1) / zipfian.zeta;
            let found = f64::from(seen[rank]);
            assert!((found / expected - 1.0).abs() < 0.03, "{found}, {expected}");
        }
        // The formula is an approximation beyond the first two.
        let tail: u32 = seen[100..].iter().sum();
        let expected: f64 = (101..=ranks).map(weight).sum::<f64>() / zipfian.zeta;
        let found = f64::from(tail) / f64::from(draws);
        assert!((found - expected).abs() < 0.05, "{found}, {expected}");
    }
}
