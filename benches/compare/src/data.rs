//! Keys and values, computed from an index and recognised again.
//!
//! A key is 16 hexadecimal digits of a 64-bit word: the index itself (`sequential`), or the index
//! through a bijection (`scrambled`), so that scrambled keys are distinct, look random, and can be
//! turned back into their index. A value is 100 bytes, half of them random and half repeated, all
//! derived from index and generation: whoever reads a value knows what it must be. Long values (any
//! multiple of 128 bytes) are made and checked by words in step, at about the speed of memory.

use crate::mix::{MULTIPLIER, scramble, unscramble};

pub(crate) use crate::mix::Random;

pub const KEY_BYTES: usize = 16;
pub const VALUE_BYTES: usize = 100;

pub type Key = [u8; KEY_BYTES];
pub type Value = [u8; VALUE_BYTES];

/// The eight lowercase hexadecimal digits of `word`, first digit in the first byte.
pub fn digits(word: u32) -> [u8; 8] {
    // A nibble into each byte, by halves.
    let mut x = u64::from(word);
    x = (x | x << 16) & 0x0000_ffff_0000_ffff;
    x = (x | x << 8) & 0x00ff_00ff_00ff_00ff;
    x = (x | x << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    // 1 in each byte that holds 10 or more: its digit is a letter, 39 behind the next figure.
    let letters = (x + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
    (x + 0x3030_3030_3030_3030 + letters * 39).to_be_bytes()
}

/// What `digits` made these of.
fn number(digits: [u8; 8]) -> Option<u32> {
    let text = u64::from_be_bytes(digits);
    let letters = text >> 6 & 0x0101_0101_0101_0101;
    let x = (text & 0x0f0f_0f0f_0f0f_0f0f) + letters * 9;
    // A byte that is no digit gives another one when it is turned back.
    let back = x + 0x3030_3030_3030_3030 + letters * 39;
    let is_letter = (x + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
    if back != text || letters != is_letter || x & 0xf0f0_f0f0_f0f0_f0f0 != 0 {
        return None;
    }
    let x = (x | x >> 4) & 0x00ff_00ff_00ff_00ff;
    let x = (x | x >> 8) & 0x0000_ffff_0000_ffff;
    Some((x | x >> 16) as u32)
}

/// How keys follow from indexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Sequential,
    Scrambled,
}

impl Order {
    pub fn key(self, index: u64) -> Key {
        let word = match self {
            Order::Sequential => index,
            Order::Scrambled => scramble(index),
        };
        let mut key = [0; KEY_BYTES];
        let (high, low) = key.split_at_mut(8);
        high.copy_from_slice(&digits((word >> 32) as u32));
        low.copy_from_slice(&digits(word as u32));
        key
    }

    /// The index whose key this is.
    pub fn index(self, key: &[u8]) -> Option<u64> {
        let key: &Key = key.try_into().ok()?;
        let (high, low) = (key.first_chunk()?, key.last_chunk()?);
        let word = u64::from(number(*high)?) << 32 | u64::from(number(*low)?);
        Some(match self {
            Order::Sequential => word,
            Order::Scrambled => unscramble(word),
        })
    }
}

/// Half of the value's words are random, and the other half repeat one letter.
const WORDS: usize = VALUE_BYTES / 8;
const TAIL: usize = VALUE_BYTES % 8;

/// The words of a value. Making and checking one must not cost more than what is measured, so the
/// random ones are one mixed word and its products with odd numbers, which need not wait for each
/// other.
#[inline(always)]
fn words(index: u64, generation: u64) -> ([u64; WORDS], u64) {
    let (mixed, letter) = seeds(index, generation);
    let mut words = [letter; WORDS];
    for (i, word) in words.iter_mut().take(WORDS / 2).enumerate() {
        *word = mixed
            .wrapping_mul(MULTIPLIER + 2 * i as u64)
            .rotate_left(32);
    }
    (words, letter)
}

/// The value of the `generation`-th write to `index`.
pub fn value(index: u64, generation: u64) -> Value {
    let (words, tail) = words(index, generation);
    let mut value = [0; VALUE_BYTES];
    let (chunks, end) = value.as_chunks_mut();
    for (chunk, word) in chunks.iter_mut().zip(words) {
        *chunk = word.to_le_bytes();
    }
    end.copy_from_slice(&tail.to_le_bytes()[..TAIL]);
    value
}

/// True when `bytes` are `value(index, generation)`, which is not put together for that: a
/// processor waits for what it has just written by parts.
pub fn is_value(bytes: &[u8], index: u64, generation: u64) -> bool {
    let Ok(bytes) = <&Value>::try_from(bytes) else {
        return false;
    };
    let (words, tail) = words(index, generation);
    let (chunks, end) = bytes.as_chunks();
    let mut differences = 0;
    for (chunk, word) in chunks.iter().zip(words) {
        differences |= u64::from_le_bytes(*chunk) ^ word;
    }
    differences == 0 && end == &tail.to_le_bytes()[..TAIL]
}

/// A long value of that generation into `bytes`, shaped as the short ones: a random half and half a
/// letter. Its random words are a mixed one and what comes of adding the same odd number again and
/// again, which a processor does for several words at a time.
pub fn write_long_value(bytes: &mut [u8], index: u64, generation: u64) {
    assert!(
        bytes.len().is_multiple_of(2 * 8 * LANES),
        "two halves of whole blocks"
    );
    let (mut word, letter) = seeds(index, generation);
    let half = bytes.len() / 2;
    let (random, repeated) = bytes.split_at_mut(half);
    for chunk in random.as_chunks_mut().0 {
        *chunk = word.to_le_bytes();
        word = word.wrapping_add(MULTIPLIER);
    }
    repeated.fill(letter as u8);
}

/// True when `bytes` are the long value of that length, index and generation.
pub fn is_long_value(bytes: &[u8], length: usize, index: u64, generation: u64) -> bool {
    if bytes.len() != length {
        return false;
    }
    let (word, letter) = seeds(index, generation);
    let (random, repeated) = bytes.split_at(length / 2);
    // Lanes that need not wait for each other, and fill the registers.
    let mut words: [u64; LANES] =
        std::array::from_fn(|i| word.wrapping_add(MULTIPLIER.wrapping_mul(i as u64)));
    let mut differences = [0; LANES];
    for (ours, same) in lanes(random).zip(lanes(repeated)) {
        for i in 0..LANES {
            differences[i] |= (ours[i] ^ words[i]) | (same[i] ^ letter);
            words[i] = words[i].wrapping_add(MULTIPLIER.wrapping_mul(LANES as u64));
        }
    }
    differences == [0; LANES]
}

const LANES: usize = 8;

fn lanes(bytes: &[u8]) -> impl Iterator<Item = [u64; LANES]> {
    let (words, _) = bytes.as_chunks();
    let (blocks, _) = words.as_chunks();
    blocks.iter().map(|block| block.map(u64::from_le_bytes))
}

/// The first random word of a value, and its letter eight times.
#[inline(always)]
fn seeds(index: u64, generation: u64) -> (u64, u64) {
    let mixed = Random::new(index ^ (generation << 56)).next();
    let letter = u64::from(b'a' + (index % 26) as u8) * 0x0101_0101_0101_0101;
    (mixed, letter)
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
            for other in [
                "not a key of us!",
                "012345678\u{e9}abcde",
                "01234567:9abcdef",
                "0123456/89abcdef",
                "0123456789ABCDEF",
                "0123456789abcdeg",
                "-123456789abcdef",
            ] {
                assert_eq!(order.index(other.as_bytes()), None, "{other}");
            }
        }
    }

    #[test]
    fn a_key_is_the_hexadecimal_form_of_its_word() {
        let mut random = Random::new(1);
        for word in (0..300).map(|_| random.next()).chain([0, u64::MAX]) {
            let expected = format!("{word:016x}");
            assert_eq!(Order::Sequential.key(word), expected.as_bytes());
            let scrambled = format!("{:016x}", scramble(word));
            assert_eq!(Order::Scrambled.key(word), scrambled.as_bytes());
        }
    }

    #[test]
    fn half_of_a_value_does_not_compress() {
        let random: Vec<u8> = (0..1_000)
            .flat_map(|i| value(i, 0)[..WORDS / 2 * 8].to_vec())
            .collect();
        let mut seen = [0u32; 256];
        random.iter().for_each(|&byte| seen[usize::from(byte)] += 1);
        // 188 of each on average; the deviation of a fair count is 14.
        assert!(seen.iter().all(|n| (100..300).contains(n)), "{seen:?}");
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
        for (index, generation) in [(0, 0), (1, 0), (12_345, 3), (u64::MAX, 1)] {
            let mut bytes = value(index, generation);
            assert!(is_value(&bytes, index, generation));
            assert!(!is_value(&bytes, index, generation + 1));
            assert!(!is_value(&bytes, index ^ 1, generation));
            assert!(!is_value(&bytes[1..], index, generation));
            for i in 0..VALUE_BYTES {
                bytes[i] ^= 1;
                assert!(!is_value(&bytes, index, generation), "byte {i}");
                bytes[i] ^= 1;
            }
        }
    }

    #[test]
    fn long_values_differ_by_index_and_generation_and_in_every_byte() {
        for length in [1_024, 4_096] {
            let mut bytes = vec![0; length];
            write_long_value(&mut bytes, 7, 1);
            assert!(is_long_value(&bytes, length, 7, 1));
            assert!(!is_long_value(&bytes, length, 7, 2));
            assert!(!is_long_value(&bytes, length, 33, 1), "the same letter");
            assert!(!is_long_value(&bytes[16..], length, 7, 1));
            for i in 0..length {
                bytes[i] ^= 1;
                assert!(!is_long_value(&bytes, length, 7, 1), "byte {i}");
                bytes[i] ^= 1;
            }
        }
    }
}
