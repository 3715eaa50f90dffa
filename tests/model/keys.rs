//! The keys and values of all lists.
//!
//! 256 keys in byte order, so that a key is one byte and its rank at once: short ones, some with
//! long common beginnings, beginnings of each other, the empty one, and runs of 0xff. A value is
//! its length and the number of its write: no two writes look alike.

use super::operator::{MARK, Map};
use std::sync::OnceLock;

/// How many keys there are.
pub(crate) const KEYS: usize = 256;

/// The key of this rank.
pub(crate) fn key(rank: u8) -> &'static [u8] {
    &all()[usize::from(rank)]
}

/// The rank of a key; `None` for bytes that no list writes.
pub(crate) fn rank(key: &[u8]) -> Option<u8> {
    let found = all().binary_search_by(|k| k[..].cmp(key)).ok()?;
    u8::try_from(found).ok()
}

/// The first rank whose key is at or after `bytes`; [`KEYS`] when there is none.
pub(crate) fn rank_at_or_after(bytes: &[u8]) -> usize {
    all().partition_point(|k| &k[..] < bytes)
}

fn all() -> &'static [Vec<u8>] {
    static ALL: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut keys: Vec<Vec<u8>> = Vec::new();
        keys.extend((0..120).map(|n| format!("k{n:03}").into_bytes()));
        keys.extend((0..40).map(|n| format!("common/prefix/of/keys/{n:03}").into_bytes()));
        keys.extend((0..20).map(|n| format!("{}{n:03}", "long/".repeat(58)).into_bytes()));
        keys.extend((0..30u64).map(|n| (n * n * 0x0004_0302_0100_0001).to_be_bytes().to_vec()));
        keys.extend((1..=6).map(|n| vec![0xff; n]));
        // All strings of at most three of three bytes: beginnings of each other, and the empty.
        for len in 0..4u32 {
            keys.extend((0..3usize.pow(len)).map(|mut n| {
                (0..len)
                    .map(|_| {
                        let byte = b"\0a\xfe"[n % 3];
                        n /= 3;
                        byte
                    })
                    .collect()
            }));
        }
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), KEYS, "one byte names each");
        keys
    })
}

/// A value: its length, and the number of the write that it came with; and what merges have made of
/// it since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) len: u32,
    pub(crate) write: u32,
    pub(crate) merged: Option<u64>,
    /// When it expires, in milliseconds of the machine's clock; [`NEVER`].
    pub(crate) expiry: u64,
}

/// What no clock comes to.
pub(crate) const NEVER: u64 = u64::MAX;

impl Value {
    /// Replaces what `out` holds by the value's bytes.
    pub(crate) fn fill(self, out: &mut Vec<u8>) {
        out.clear();
        let mut left = self.len as usize;
        let mut words = self.words();
        while left > 0 {
            let word = words.next_word();
            let n = left.min(word.len());
            out.extend_from_slice(&word[..n]);
            left -= n;
        }
        if let Some(x) = self.merged {
            out.extend_from_slice(&x.to_le_bytes());
            out.extend_from_slice(&MARK);
        }
    }

    /// What `map` makes of `base`, a value or none.
    pub(crate) fn merge(base: Option<Value>, map: Map) -> Value {
        let base = base.unwrap_or(Value {
            len: 0,
            write: 0,
            merged: None,
            expiry: NEVER,
        });
        Value {
            merged: Some(map.of(base.merged.unwrap_or(0))),
            ..base
        }
    }

    /// True when these are the value's bytes.
    pub(crate) fn is(self, bytes: &[u8]) -> bool {
        let Some((body, tail)) = bytes.split_at_checked(self.len as usize) else {
            return false;
        };
        let is_tail = match self.merged {
            Some(x) => tail == [x.to_le_bytes(), MARK].concat(),
            None => tail.is_empty(),
        };
        let mut words = self.words();
        is_tail
            && body
                .chunks(8)
                .all(|chunk| chunk == &words.next_word()[..chunk.len()])
    }

    fn words(self) -> Words {
        Words {
            state: u64::from(self.write).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            // Three of four repeat one word, so that codecs find something.
            repeats: !self.write.is_multiple_of(4),
        }
    }
}

struct Words {
    state: u64,
    repeats: bool,
}

impl Words {
    fn next_word(&mut self) -> [u8; 8] {
        let word = self.state.to_be_bytes();
        if !self.repeats {
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
        }
        word
    }
}
