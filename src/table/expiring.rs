//! When what a table holds expires: how many entries do, and when half of them have.
//!
//! Enough to know when rewriting the table is worth it: then half of them are dropped, the other half
//! has a later half time, and no entry is rewritten for this more often than about twice.

use crate::base::expiring::expiry_and_value;
use crate::base::types::{Tag, Time, ValueKind};

/// Entries of a table that expire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expiring {
    /// How many.
    pub entries: u64,
    /// About half of them have expired then.
    pub half_at: Time,
}

/// More expiries than this are not looked at for the half.
const SAMPLE_MAX: usize = 512;

/// Expiries, all of them or every so many-th. The same entries give the same.
#[derive(Debug)]
pub(super) struct Expiries {
    entries: u64,
    every: u64,
    sample: Vec<Time>,
}

impl Default for Expiries {
    fn default() -> Self {
        Expiries {
            entries: 0,
            every: 1,
            sample: Vec::new(),
        }
    }
}

impl Expiries {
    /// Counts an entry.
    #[inline]
    pub(super) fn note(&mut self, tag: Tag, value: &[u8]) {
        if tag.kind() == ValueKind::PutExpiring {
            self.note_expiring(value);
        }
    }

    #[inline(never)]
    fn note_expiring(&mut self, entry: &[u8]) {
        if self.entries.is_multiple_of(self.every) {
            if self.sample.len() == SAMPLE_MAX {
                let mut is_kept = false;
                self.sample.retain(|_| {
                    is_kept = !is_kept;
                    is_kept
                });
                self.every = self.every.saturating_mul(2);
            }
            // What cannot be read has no expiry, and counts as one that never comes.
            let expiry = expiry_and_value(entry).map_or(Time::NEVER, |(expiry, _)| expiry);
            self.sample.push(expiry);
        }
        self.entries = self.entries.saturating_add(1);
    }

    /// What they come to.
    pub(super) fn total(mut self) -> Expiring {
        self.sample.sort_unstable();
        Expiring {
            entries: self.entries,
            half_at: self
                .sample
                .get(self.sample.len() / 2)
                .copied()
                .unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::types::SeqNo;

    fn total(expiries: impl Iterator<Item = u64>) -> Expiring {
        let mut all = Expiries::default();
        let tag = |kind| Tag::new(SeqNo::new(1), kind);
        for expiry in expiries {
            let entry = [&expiry.to_le_bytes()[..], b"value"].concat();
            all.note(tag(ValueKind::PutExpiring), &entry);
            all.note(tag(ValueKind::Put), &entry);
        }
        all.total()
    }

    #[test]
    fn half_of_them_have_expired_at_the_half_time() {
        assert_eq!(total([].into_iter()), Expiring::default());
        let half_at = |expiries: &[u64]| total(expiries.iter().copied()).half_at;
        assert_eq!(half_at(&[7]), Time(7));
        assert_eq!(half_at(&[7, 7, 7, 100]), Time(7));
        assert_eq!(half_at(&[9, 1, 8, 2, 7]), Time(7));
    }

    #[test]
    fn a_sample_is_enough_for_many() {
        let n = 100_000u64;
        let scattered = (0..n).map(|i| i * 7_919 % n);
        let all = total(scattered);
        assert_eq!(all.entries, n);
        assert!(all.half_at.0.abs_diff(n / 2) < n / 20, "{all:?}");
    }

    #[test]
    fn an_entry_without_an_expiry_never_comes_due() {
        let mut all = Expiries::default();
        all.note(Tag::new(SeqNo::new(1), ValueKind::PutExpiring), b"short");
        assert_eq!(all.total().half_at, Time::NEVER);
    }
}
