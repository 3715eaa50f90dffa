//! The order of entries: user key ascending and bytewise, then tag descending (newest first).
//!
//! An internal key is never glued together: rooms pass the user key and the [`Tag`] side by side.
//! [`head8`] and [`head16`] are the first bytes of a key as a big-endian number, so that most
//! comparisons are one of integers; only equal heads need the bytes.

use super::types::Tag;
use std::cmp::Ordering;

/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 64 << 10;
/// Longest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 1 << 30;
/// Longest batch, in encoded bytes.
pub const BATCH_BYTES_MAX: usize = 1 << 30;

/// Compares two entries in the one order: key ascending, then newest first.
#[inline]
pub fn compare(a_key: &[u8], a_tag: Tag, b_key: &[u8], b_tag: Tag) -> Ordering {
    a_key.cmp(b_key).then_with(|| b_tag.cmp(&a_tag))
}

/// The first 8 bytes of `key` as a big-endian number, zero-filled.
///
/// `head8(a) < head8(b)` implies `a < b`; equal heads decide nothing.
#[inline]
pub fn head8(key: &[u8]) -> u64 {
    match key.first_chunk::<8>() {
        Some(bytes) => u64::from_be_bytes(*bytes),
        None => {
            let mut bytes = [0; 8];
            bytes[..key.len()].copy_from_slice(key);
            u64::from_be_bytes(bytes)
        }
    }
}

/// A key that is no longer than this is told whole by its [`head16`] and its length.
pub const HEAD16_BYTES: usize = 16;

/// The first 16 bytes of `key` as a big-endian number, zero-filled; see [`head8`].
#[inline]
pub fn head16(key: &[u8]) -> u128 {
    match key.first_chunk::<HEAD16_BYTES>() {
        Some(bytes) => u128::from_be_bytes(*bytes),
        None => {
            let mut bytes = [0; HEAD16_BYTES];
            bytes[..key.len()].copy_from_slice(key);
            u128::from_be_bytes(bytes)
        }
    }
}

/// How many leading bytes two keys share.
#[inline]
pub fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let n = a.len().min(b.len());
    let mut i = 0;
    while i + 8 <= n {
        let difference = head8(&a[i..]) ^ head8(&b[i..]);
        if difference != 0 {
            return i + (difference.leading_zeros() / 8) as usize;
        }
        i += 8;
    }
    while i < n && a[i] == b[i] {
        i += 1;
    }
    i
}

#[cfg(test)]
mod tests {
    use super::super::types::{SeqNo, ValueKind};
    use super::*;

    #[test]
    fn heads_never_contradict_the_order_of_keys() {
        let keys: [&[u8]; 9] = [
            b"",
            b"\0",
            b"a",
            b"a\0",
            b"aa",
            b"abcdefgh",
            b"abcdefgh\0",
            b"abcdefghi",
            b"\xff\xff",
        ];
        for a in keys {
            for b in keys {
                if head8(a) != head8(b) {
                    assert_eq!(head8(a).cmp(&head8(b)), a.cmp(b), "{a:?} {b:?}");
                }
                if head16(a) != head16(b) {
                    assert_eq!(head16(a).cmp(&head16(b)), a.cmp(b), "{a:?} {b:?}");
                }
                let shared = a.iter().zip(b).take_while(|(x, y)| x == y).count();
                assert_eq!(common_prefix(a, b), shared, "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn the_newest_of_two_entries_with_one_key_comes_first() {
        let old = Tag::new(SeqNo::new(1), ValueKind::Put);
        let new = Tag::new(SeqNo::new(2), ValueKind::Delete);
        assert_eq!(compare(b"k", new, b"k", old), Ordering::Less);
        assert_eq!(compare(b"k", old, b"l", new), Ordering::Less);
    }
}
