//! A copy of a key that is mostly asked whether another key equals it.
//!
//! Keys of at most 16 bytes are kept and compared as two numbers: a few moves instead of two calls,
//! which matters because a scan does both at every entry. Longer keys are bytes like any others.
//! Not one number of 16 bytes: that would be written in halves and read back whole, for which the
//! processor waits.

use crate::base::cursor::Cursor;
use crate::base::key::{HEAD16_BYTES, head16};

/// A kept key; empty at first.
#[derive(Debug, Default)]
pub(super) struct KeptKey {
    /// The two halves of `head16` of the key.
    high: u64,
    low: u64,
    len: usize,
    /// The whole key where it is longer than its head; else what `bytes` has made last.
    bytes: Vec<u8>,
}

impl KeptKey {
    /// Keeps `key` from now on.
    pub(super) fn set(&mut self, key: &[u8]) {
        self.keep(head16(key), key.len(), || key);
    }

    /// Keeps the key of the entry that `cursor` stands on, if it stands on one.
    #[inline]
    pub(super) fn set_to(&mut self, cursor: &impl Cursor) {
        let Some(here) = cursor.peek() else { return };
        self.keep(here.head, here.key_len as usize, || cursor.key());
    }

    #[inline]
    fn keep<'k>(&mut self, head: u128, len: usize, key: impl FnOnce() -> &'k [u8]) {
        self.high = (head >> 64) as u64;
        self.low = head as u64;
        self.len = len;
        if HEAD16_BYTES < len {
            self.bytes.clear();
            self.bytes.extend_from_slice(key());
        }
    }

    /// False when a key with this `head16` cannot be the kept one.
    #[inline]
    pub(super) fn may_have(&self, head: u128) -> bool {
        self.low == head as u64 && self.high == (head >> 64) as u64
    }

    /// True when `key` is the kept one.
    #[inline]
    pub(super) fn is(&self, key: &[u8]) -> bool {
        self.may_have(head16(key))
            && self.len == key.len()
            && (self.len <= HEAD16_BYTES || self.bytes == key)
    }

    /// The key's bytes, put together from the numbers where only those are kept.
    pub(super) fn bytes(&mut self) -> &[u8] {
        if self.len <= HEAD16_BYTES {
            self.bytes.clear();
            self.bytes.extend_from_slice(&self.high.to_be_bytes());
            self.bytes.extend_from_slice(&self.low.to_be_bytes());
            self.bytes.truncate(self.len);
        }
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![Just(0u8), Just(b'a'), Just(255)];
        prop_oneof![
            proptest::collection::vec(byte.clone(), 0..4),
            proptest::collection::vec(byte, 14..19),
        ]
    }

    proptest! {
        /// The twin: a vector.
        #[test]
        fn it_is_what_was_set_last_and_nothing_else(keys in proptest::collection::vec(key(), 1..6), other in key()) {
            let mut kept = KeptKey::default();
            prop_assert!(kept.is(b"") && kept.bytes().is_empty());
            for key in &keys {
                kept.set(key);
                prop_assert!(kept.is(key));
                prop_assert_eq!(kept.is(&other), key == &other);
                prop_assert_eq!(kept.bytes(), &key[..]);
                prop_assert!(kept.is(key));
            }
        }
    }
}
