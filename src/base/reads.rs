//! What a decision was made on: the keys and ranges that somebody has read.
//!
//! A transaction and a conditional write hand it to the commit, which refuses them when something
//! in it has been written since (`db/watch`). Plain data: a set of keys and a list of ranges for
//! each keyspace.
//!
//! A range is kept between two *cuts*, places between keys: before or after a key, or behind all.
//! Invariant: the ranges of a keyspace are disjoint, do not touch, and ascend, so a key is looked up
//! by one search. Threads: one at a time; the owner locks.

use super::ranges::HalfOpen;
use super::types::KeyspaceId;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// A place between two keys. Cuts are ordered as they lie.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cut {
    /// Behind every key.
    is_end: bool,
    key: Vec<u8>,
    /// Behind `key`, not before it.
    is_after: bool,
}

impl Cut {
    /// Behind every key.
    pub const END: Cut = Cut {
        is_end: true,
        key: Vec::new(),
        is_after: false,
    };

    /// Before `key`, and behind all that are less.
    pub fn before(key: &[u8]) -> Cut {
        Cut {
            is_end: false,
            key: key.to_vec(),
            is_after: false,
        }
    }

    /// Behind `key`, and before all that are greater.
    pub fn after(key: &[u8]) -> Cut {
        Cut {
            is_after: true,
            ..Cut::before(key)
        }
    }

    /// Where a range with this lower bound begins.
    pub fn lower(bound: Bound<&[u8]>) -> Cut {
        match bound {
            Bound::Unbounded => Cut::before(b""),
            Bound::Included(key) => Cut::before(key),
            Bound::Excluded(key) => Cut::after(key),
        }
    }

    /// Where a range with this upper bound ends.
    pub fn upper(bound: Bound<&[u8]>) -> Cut {
        match bound {
            Bound::Unbounded => Cut::END,
            Bound::Included(key) => Cut::after(key),
            Bound::Excluded(key) => Cut::before(key),
        }
    }

    /// True when `key` lies behind this cut.
    pub fn is_before(&self, key: &[u8]) -> bool {
        !self.is_end
            && match self.is_after {
                true => self.key.as_slice() < key,
                false => self.key.as_slice() <= key,
            }
    }

    /// As the lower bound of a range.
    fn as_lower(&self) -> Bound<&[u8]> {
        match self.is_after {
            true => Bound::Excluded(&self.key),
            false => Bound::Included(&self.key),
        }
    }

    /// As the upper bound of a range.
    fn as_upper(&self) -> Bound<&[u8]> {
        match (self.is_end, self.is_after) {
            (true, _) => Bound::Unbounded,
            (false, true) => Bound::Included(&self.key),
            (false, false) => Bound::Excluded(&self.key),
        }
    }
}

/// Keys and ranges that were read, by keyspace.
#[derive(Clone, Debug, Default)]
pub struct ReadSet {
    keyspaces: BTreeMap<KeyspaceId, Reads>,
}

/// What was read of one keyspace.
#[derive(Clone, Debug, Default)]
pub struct Reads {
    keys: BTreeSet<Box<[u8]>>,
    /// Each from a cut to a later one.
    ranges: Vec<(Cut, Cut)>,
}

impl ReadSet {
    /// `key` was read.
    pub fn add_key(&mut self, keyspace: KeyspaceId, key: &[u8]) {
        let reads = self.keyspaces.entry(keyspace).or_default();
        if !reads.keys.contains(key) {
            reads.keys.insert(Box::from(key));
        }
    }

    /// Everything between `from` and `to` was read; nothing when they are in the wrong order.
    pub fn add_range(&mut self, keyspace: KeyspaceId, from: Cut, to: Cut) {
        if from < to {
            self.keyspaces.entry(keyspace).or_default().join(from, to);
        }
    }

    /// What was read of each keyspace.
    pub fn keyspaces(&self) -> impl Iterator<Item = (KeyspaceId, &Reads)> {
        self.keyspaces.iter().map(|(id, reads)| (*id, reads))
    }

    /// True when `key` was read, by itself or in a range.
    pub fn contains(&self, keyspace: KeyspaceId, key: &[u8]) -> bool {
        let reads = self.keyspaces.get(&keyspace);
        reads.is_some_and(|reads| reads.contains(key))
    }

    /// A key of `range` that was read, by itself or in a range.
    pub fn any_within(&self, keyspace: KeyspaceId, range: &HalfOpen) -> Option<Box<[u8]>> {
        let reads = self.keyspaces.get(&keyspace)?;
        let (lower, upper) = range.bounds();
        if let Some(key) = reads.keys.range::<[u8], _>((lower, upper)).next() {
            return Some(key.clone());
        }
        let (from, to) = (Cut::before(&range.start), Cut::upper(upper));
        let mut ranges = reads.ranges.iter();
        let (first, _) = ranges.find(|(start, end)| *start < to && from < *end)?;
        let key = first.key.as_slice().max(&range.start);
        Some(Box::from(key))
    }
}

impl Reads {
    /// The keys that were read by themselves, in order.
    pub fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.keys.iter().map(|key| &**key)
    }

    /// The ranges, in order.
    pub fn ranges(&self) -> impl Iterator<Item = (Bound<&[u8]>, Bound<&[u8]>)> {
        let ranges = self.ranges.iter();
        ranges.map(|(from, to)| (from.as_lower(), to.as_upper()))
    }

    fn contains(&self, key: &[u8]) -> bool {
        // The one range that can hold it is the last that begins before it.
        let i = self.ranges.partition_point(|(from, _)| from.is_before(key));
        let range = i.checked_sub(1).and_then(|i| self.ranges.get(i));
        range.is_some_and(|(_, to)| !to.is_before(key)) || self.keys.contains(key)
    }

    /// Adds a range, joined with those that it overlaps or touches.
    fn join(&mut self, mut from: Cut, mut to: Cut) {
        let start = self.ranges.partition_point(|(_, end)| *end < from);
        let end = self.ranges.partition_point(|(start, _)| *start <= to);
        for (other_from, other_to) in self.ranges.drain(start..end) {
            from = from.min(other_from);
            to = to.max(other_to);
        }
        self.ranges.insert(start, (from, to));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SPACE: KeyspaceId = KeyspaceId(3);

    fn cut() -> impl Strategy<Value = Cut> {
        let key = proptest::collection::vec(0u8..3, 0..3);
        (key, 0..5).prop_map(|(key, side)| match side {
            0 => Cut::END,
            1 | 2 => Cut::before(&key),
            _ => Cut::after(&key),
        })
    }

    #[test]
    fn every_bound_has_its_cut() {
        let holds = |from: Bound<&[u8]>, to: Bound<&[u8]>, key: &[u8]| {
            let mut reads = ReadSet::default();
            reads.add_range(SPACE, Cut::lower(from), Cut::upper(to));
            reads.contains(SPACE, key)
        };
        use Bound::{Excluded, Included, Unbounded};
        assert!(holds(Unbounded, Unbounded, b""));
        assert!(holds(Included(b"b"), Included(b"b"), b"b"));
        assert!(!holds(Included(b"b"), Excluded(b"b"), b"b"));
        assert!(!holds(Excluded(b"b"), Unbounded, b"b"));
        assert!(holds(Excluded(b"b"), Unbounded, b"b\0"));
        assert!(!holds(Included(b"c"), Included(b"b"), b"b"), "inverted");
    }

    #[test]
    fn keyspaces_are_kept_apart() {
        let mut reads = ReadSet::default();
        reads.add_key(SPACE, b"k");
        assert!(reads.contains(SPACE, b"k"));
        assert!(!reads.contains(KeyspaceId(4), b"k"));
    }

    proptest! {
        /// The twin: every range for itself.
        #[test]
        fn a_key_is_in_the_set_when_it_is_in_some_range(
            ranges in proptest::collection::vec((cut(), cut()), 0..8),
            key in proptest::collection::vec(0u8..3, 0..4),
        ) {
            let mut reads = ReadSet::default();
            for (from, to) in &ranges {
                reads.add_range(SPACE, from.clone(), to.clone());
            }
            let within = |(from, to): &(Cut, Cut)| from.is_before(&key) && !to.is_before(&key);
            prop_assert_eq!(reads.contains(SPACE, &key), ranges.iter().any(within));
            for (_, reads) in reads.keyspaces() {
                prop_assert!(reads.ranges.is_sorted_by(|a, b| a.1 < b.0));
                prop_assert!(reads.ranges.iter().all(|(from, to)| from < to));
            }
        }
    }
}
