//! Keys and values, computed from an index and recognised again.
//!
//! A key is the index through a bijection of 64 bits, in big-endian order, and 8 bytes that follow
//! from it: ascending indexes give keys in random order, and a key gives its index back. A value is
//! two words mixed from index and generation.

pub(crate) const KEY_BYTES: usize = 16;
pub(crate) const VALUE_BYTES: usize = 16;
/// Of a key and its value.
pub(crate) const ENTRY_BYTES: u64 = (KEY_BYTES + VALUE_BYTES) as u64;

pub(crate) type Key = [u8; KEY_BYTES];
pub(crate) type Value = [u8; VALUE_BYTES];

const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
const INVERSE: u64 = inverse(MULTIPLIER);
/// What the second half of a key differs in from the first, turned by half.
const TWIN: u64 = 0xa5a5_5a5a_c3c3_3c3c;

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

pub(crate) fn key(index: u64) -> Key {
    let x = index.wrapping_mul(MULTIPLIER);
    let x = (x ^ (x >> 32)).wrapping_mul(MULTIPLIER);
    let word = x ^ (x >> 32);
    let twin = word.rotate_left(32) ^ TWIN;
    (u128::from(word) << 64 | u128::from(twin)).to_be_bytes()
}

/// The index whose key this is.
pub(crate) fn index(key: &[u8]) -> Option<u64> {
    let both = u128::from_be_bytes(key.try_into().ok()?);
    let (word, twin) = ((both >> 64) as u64, both as u64);
    if word.rotate_left(32) ^ TWIN != twin {
        return None;
    }
    // `x ^ x >> 32` is its own inverse.
    let x = (word ^ (word >> 32)).wrapping_mul(INVERSE);
    Some((x ^ (x >> 32)).wrapping_mul(INVERSE))
}

/// The value of the `generation`-th write to `index`.
pub(crate) fn value(index: u64, generation: u64) -> Value {
    let mixed = Random::new(index ^ generation << 56).next();
    let other = mixed.wrapping_mul(MULTIPLIER);
    (u128::from(mixed) << 64 | u128::from(other)).to_be_bytes()
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
