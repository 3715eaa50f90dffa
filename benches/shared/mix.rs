//! What benchmarks draw and recognise keys and values by: a bijection of 64 bits, and random
//! numbers. Read by `compare`, a package of its own, and by `scale`.

pub(crate) const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
const INVERSE: u64 = inverse(MULTIPLIER);

/// The inverse of an odd number modulo 2^64, by Newton: each step doubles the correct bits.
const fn inverse(odd: u64) -> u64 {
    let mut x = odd; // correct in 3 bits
    let mut step = 0;
    while step < 5 {
        x = x.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(x)));
        step += 1;
    }
    x
}

/// Distinct indexes give distinct words, which look random.
pub(crate) fn scramble(index: u64) -> u64 {
    // `x ^ x >> 32` is its own inverse.
    let x = index.wrapping_mul(MULTIPLIER);
    let x = (x ^ (x >> 32)).wrapping_mul(MULTIPLIER);
    x ^ (x >> 32)
}

/// What `scramble` made this of.
pub(crate) fn unscramble(word: u64) -> u64 {
    let x = (word ^ (word >> 32)).wrapping_mul(INVERSE);
    (x ^ (x >> 32)).wrapping_mul(INVERSE)
}

/// SplitMix64: small, fast, and the same everywhere.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Random(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(MULTIPLIER);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }
}
