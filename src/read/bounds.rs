//! The two ends of a scan, owned, with a head beside each so that most keys are tested by one
//! comparison of integers.
//!
//! Invariant: `is_inverted` ranges hold no key, whatever the single tests say; scans ask it first
//! (an inverted range must not read as an unbounded one).

use crate::base::key::head16;
use std::ops::Bound;

/// Where a scan starts and where it ends.
#[derive(Clone, Debug)]
pub struct Bounds {
    lower: Bound<Vec<u8>>,
    upper: Bound<Vec<u8>>,
    /// Keys with a larger head are after `lower`.
    lower_head: u128,
    /// Keys with a smaller head are before `upper`.
    upper_head: u128,
}

impl Bounds {
    /// Between `lower` and `upper`.
    pub fn new(lower: Bound<Vec<u8>>, upper: Bound<Vec<u8>>) -> Bounds {
        Bounds {
            lower_head: key_of(&lower).map_or(0, head16),
            upper_head: key_of(&upper).map_or(u128::MAX, head16),
            lower,
            upper,
        }
    }

    /// Every key.
    pub fn unbounded() -> Bounds {
        Bounds::new(Bound::Unbounded, Bound::Unbounded)
    }

    /// The lower end.
    pub fn lower(&self) -> Bound<&[u8]> {
        self.lower.as_ref().map(Vec::as_slice)
    }

    /// The upper end.
    pub fn upper(&self) -> Bound<&[u8]> {
        self.upper.as_ref().map(Vec::as_slice)
    }

    /// True when the upper end lies before the lower one, or both on one key that is excluded.
    pub fn is_inverted(&self) -> bool {
        match (&self.lower, &self.upper) {
            (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
            (Bound::Included(lower), Bound::Included(upper)) => upper < lower,
            (
                Bound::Included(lower) | Bound::Excluded(lower),
                Bound::Included(upper) | Bound::Excluded(upper),
            ) => upper <= lower,
        }
    }

    /// True when `key` does not lie before the lower end.
    #[inline]
    pub fn after_lower(&self, key: &[u8]) -> bool {
        self.lower_head < head16(key)
            || match &self.lower {
                Bound::Unbounded => true,
                Bound::Included(lower) => lower.as_slice() <= key,
                Bound::Excluded(lower) => lower.as_slice() < key,
            }
    }

    /// True when a key with this `head16` cannot lie behind the upper end.
    #[inline]
    pub fn is_head_before_upper(&self, head: u128) -> bool {
        head < self.upper_head
    }

    /// True when `key` does not lie behind the upper end.
    #[inline]
    pub fn before_upper(&self, key: &[u8]) -> bool {
        self.is_head_before_upper(head16(key))
            || match &self.upper {
                Bound::Unbounded => true,
                Bound::Included(upper) => key <= upper.as_slice(),
                Bound::Excluded(upper) => key < upper.as_slice(),
            }
    }
}

fn key_of(bound: &Bound<Vec<u8>>) -> Option<&[u8]> {
    match bound {
        Bound::Unbounded => None,
        Bound::Included(key) | Bound::Excluded(key) => Some(key),
    }
}
