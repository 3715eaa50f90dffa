//! Keys and values, computed from an index and recognised again.
//!
//! A key is 16 hexadecimal digits of a 64-bit word: the index itself (`sequential`), or the index
//! through a bijection (`scrambled`), so that scrambled keys are distinct, look random, and can be
//! turned back into their index. A value is 100 bytes, half of them random and half repeated, all
//! derived from index and generation: whoever reads a value knows what it must be.

pub const KEY_BYTES: usize = 16;
pub const VALUE_BYTES: usize = 100;

pub type Key = [u8; KEY_BYTES];
pub type Value = [u8; VALUE_BYTES];

const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
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

fn scramble(index: u64) -> u64 {
    // `x ^ x >> 32` is its own inverse.
    let x = index.wrapping_mul(MULTIPLIER);
    let x = (x ^ (x >> 32)).wrapping_mul(MULTIPLIER);
    x ^ (x >> 32)
}

fn unscramble(word: u64) -> u64 {
    let x = (word ^ (word >> 32)).wrapping_mul(INVERSE);
    (x ^ (x >> 32)).wrapping_mul(INVERSE)
}

/// How keys follow from indexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Sequential,
    Scrambled,
}

impl Order {
    pub fn key(self, index: u64) -> Key {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let word = match self {
            Order::Sequential => index,
            Order::Scrambled => scramble(index),
        };
        let mut key = [0; KEY_BYTES];
        for (i, digit) in key.iter_mut().enumerate() {
            *digit = DIGITS[(word >> (60 - 4 * i)) as usize & 15];
        }
        key
    }

    /// The index whose key this is.
    pub fn index(self, key: &[u8]) -> Option<u64> {
        if key.len() != KEY_BYTES {
            return None;
        }
        let word = u64::from_str_radix(std::str::from_utf8(key).ok()?, 16).ok()?;
        Some(match self {
            Order::Sequential => word,
            Order::Scrambled => unscramble(word),
        })
    }
}

/// The value of the `generation`-th write to `index`.
pub fn value(index: u64, generation: u64) -> Value {
    let mut random = Random::new(index ^ (generation << 56));
    let mut value = [b'a' + (index % 26) as u8; VALUE_BYTES];
    for chunk in value[..VALUE_BYTES / 2].chunks_mut(8) {
        chunk.copy_from_slice(&random.next().to_le_bytes()[..chunk.len()]);
    }
    value
}

/// SplitMix64: small, fast, and the same everywhere.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(MULTIPLIER);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_gives_its_index_back() {
        for order in [Order::Sequential, Order::Scrambled] {
            for index in (0..10_000).chain([u64::MAX, u64::MAX - 1, 1 << 63]) {
                assert_eq!(order.index(&order.key(index)), Some(index));
            }
            assert_eq!(order.index(b"not a key of ours"), None);
        }
    }

    #[test]
    fn sequential_keys_ascend_and_scrambled_ones_do_not() {
        let ascending = |order: Order| (0..1_000).all(|i| order.key(i) < order.key(i + 1));
        assert!(ascending(Order::Sequential));
        assert!(!ascending(Order::Scrambled));
    }

    #[test]
    fn values_differ_by_index_and_generation() {
        assert_ne!(value(1, 0), value(2, 0));
        assert_ne!(value(1, 0), value(1, 1));
        assert_eq!(value(1, 1), value(1, 1));
    }
}
