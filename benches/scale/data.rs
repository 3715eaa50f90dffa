//! Keys and values, computed from an index and recognised again.
//!
//! A key is the index through a bijection of 64 bits, in big-endian order, and 8 bytes that follow
//! from it: ascending indexes give keys in random order, and a key gives its index back. A value is
//! two words mixed from index and generation.

use super::mix::{MULTIPLIER, Random, scramble, unscramble};

pub(crate) const KEY_BYTES: usize = 16;
pub(crate) const VALUE_BYTES: usize = 16;
/// Of a key and its value.
pub(crate) const ENTRY_BYTES: u64 = (KEY_BYTES + VALUE_BYTES) as u64;

pub(crate) type Key = [u8; KEY_BYTES];
pub(crate) type Value = [u8; VALUE_BYTES];

/// What the second half of a key differs in from the first, turned by half.
const TWIN: u64 = 0xa5a5_5a5a_c3c3_3c3c;

pub(crate) fn key(index: u64) -> Key {
    let word = scramble(index);
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
    Some(unscramble(word))
}

/// The value of the `generation`-th write to `index`.
pub(crate) fn value(index: u64, generation: u64) -> Value {
    let mixed = Random::new(index ^ generation << 56).next();
    let other = mixed.wrapping_mul(MULTIPLIER);
    (u128::from(mixed) << 64 | u128::from(other)).to_be_bytes()
}
