//! Point reads, the scans that end at once, and snapshots.

use super::keys::{KEYS, Value, key, rank_at_or_after};
use super::op::{Kind, Op, Random};
use super::scans::{Entries, Turn, check_iter};
use super::world::World;
use alluvium::{Iter, Keyspace, Result, SnapshotKeyspace};
use std::ops::{Bound, Range};

const SLICES_MAX: usize = 8;
const SNAPSHOTS_MAX: usize = 4;

/// Compares one value.
#[track_caller]
pub(super) fn check_value(found: Option<&[u8]>, expected: Option<Value>, rank: u8) {
    let is_same = match (found, expected) {
        (Some(found), Some(expected)) => expected.is(found),
        (None, None) => true,
        _ => false,
    };
    assert!(
        is_same,
        "key {rank} {:?}: found {:?}, expected {expected:?}",
        String::from_utf8_lossy(key(rank)),
        found.map(|found| (found.len(), found.escape_ascii().to_string()))
    );
}

impl World {
    pub(super) fn get(&mut self, op: &Op) -> Result<()> {
        let n = self.space(op)?;
        let expected = self.oracle.get(n, op.a);
        let space = self.handle(n);
        match op.kind {
            Kind::GetWith => {
                space.get_with(key(op.a), |found| check_value(found, expected, op.a))?;
            }
            Kind::ContainsKey => {
                let found = space.contains_key(key(op.a))?;
                assert_eq!(found, expected.is_some(), "key {}", op.a);
            }
            Kind::GetMany => self.get_many(op, n)?,
            _ => {
                let found = space.get(key(op.a))?;
                check_value(found.as_deref(), expected, op.a);
                if op.kind == Kind::HoldSlice
                    && let Some((slice, value)) = found.zip(expected)
                {
                    if self.slices.len() == SLICES_MAX {
                        self.slices.remove(0);
                    }
                    self.slices.push((slice, value));
                }
            }
        }
        Ok(())
    }

    fn get_many(&self, op: &Op, n: usize) -> Result<()> {
        let mut random = op.details();
        let ranks: Vec<u8> = (0..op.len % 48)
            .map(|_| op.a.wrapping_add(random.below(1 + usize::from(op.b)) as u8))
            .collect();
        let found = self
            .handle(n)
            .get_many(ranks.iter().map(|rank| key(*rank)))?;
        assert_eq!(found.len(), ranks.len());
        for (rank, found) in ranks.into_iter().zip(found) {
            check_value(found.as_deref(), self.oracle.get(n, rank), rank);
        }
        Ok(())
    }

    /// Values stay what they were, whatever has happened to their table.
    pub(super) fn check_slices(&self) {
        for (slice, value) in &self.slices {
            assert!(value.is(slice), "a slice of {value:?} has changed");
        }
    }

    pub(super) fn scan(&mut self, op: &Op) -> Result<()> {
        let n = self.space(op)?;
        let span = span_of(op);
        let expected = self.oracle.entries(n, u32::MAX, span.ranks());
        check_iter(span.over(self.handle(n)), &expected, turn_of(op))
    }

    pub(super) fn snapshot(&mut self, op: &Op) -> Result<()> {
        match op.kind {
            Kind::SnapshotTake => {
                if self.snapshots.len() == SNAPSHOTS_MAX {
                    self.release(0);
                }
                let version = self.oracle.pin();
                self.snapshots.push((self.db().snapshot(), version));
                return Ok(());
            }
            Kind::SnapshotRelease => {
                if !self.snapshots.is_empty() {
                    self.release(usize::from(op.a) % self.snapshots.len());
                }
                return Ok(());
            }
            _ => {}
        }
        if self.snapshots.is_empty() {
            return Ok(());
        }
        let n = self.space(op)?;
        let (snapshot, version) = &self.snapshots[usize::from(op.b) % self.snapshots.len()];
        let (there, version) = (snapshot.keyspace(self.handle(n)), *version);
        let expected = self.oracle.get_at(n, op.a, version);
        match op.kind {
            Kind::SnapshotGet => {
                let found = there.get(key(op.a))?;
                check_value(found.as_deref(), expected, op.a);
                if n == 0 {
                    check_value(snapshot.get(key(op.a))?.as_deref(), expected, op.a);
                }
                Ok(())
            }
            Kind::SnapshotGetWith => {
                there.get_with(key(op.a), |found| check_value(found, expected, op.a))
            }
            Kind::SnapshotContains => {
                assert_eq!(there.contains_key(key(op.a))?, expected.is_some());
                Ok(())
            }
            Kind::SnapshotCursor => {
                let entries = self.oracle.entries(n, version, 0..KEYS);
                let mut entries = Entries::new(entries);
                let mut cursor = there.cursor();
                let mut random = op.details();
                for _ in 0..1 + op.len % 24 {
                    entries.random_move(&mut cursor, &mut random)?;
                }
                Ok(())
            }
            _ => {
                let span = span_of(op);
                let expected = self.oracle.entries(n, version, span.ranks());
                check_iter(span.at(&there), &expected, turn_of(op))
            }
        }
    }

    fn release(&mut self, i: usize) {
        let (_, version) = self.snapshots.remove(i);
        self.oracle.unpin(version);
    }
}

/// In which order an operation takes the entries.
fn turn_of(op: &Op) -> Turn {
    match op.kind {
        Kind::IterRev | Kind::RangeRev | Kind::PrefixRev => Turn::Back,
        Kind::RangeMixed => Turn::Mixed(op.details()),
        Kind::SnapshotIter | Kind::SnapshotRange | Kind::SnapshotPrefix => {
            let mut random = op.details();
            match random.below(3) {
                0 => Turn::Front,
                1 => Turn::Back,
                _ => Turn::Mixed(random),
            }
        }
        _ => Turn::Front,
    }
}

/// What part of a keyspace is scanned, and in which words it is asked for.
#[derive(Clone, Debug)]
pub(super) enum Span {
    All,
    HalfOpen(u8, u8),
    Inclusive(u8, u8),
    From(u8),
    To(u8),
    ToInclusive(u8),
    Bounds(Bound<u8>, Bound<u8>),
    Prefix(&'static [u8]),
}

fn span_of(op: &Op) -> Span {
    let (low, high) = (op.a.min(op.b), op.a.max(op.b));
    let mut random = op.details();
    match op.kind {
        Kind::Range | Kind::RangeRev => Span::HalfOpen(low, high),
        Kind::RangeInclusive => Span::Inclusive(low, high),
        Kind::RangeFrom => Span::From(op.a),
        Kind::RangeTo => Span::To(op.a),
        Kind::RangeToInclusive => Span::ToInclusive(op.a),
        Kind::RangeInverted => match random.below(3) {
            0 => Span::HalfOpen(high, low),
            1 if low < high => Span::Inclusive(high, low),
            _ => Span::Bounds(Bound::Excluded(high), Bound::Excluded(low)),
        },
        Kind::Prefix | Kind::PrefixRev | Kind::SnapshotPrefix => {
            let whole = key(op.a);
            Span::Prefix(&whole[..usize::from(op.len) % (1 + whole.len())])
        }
        Kind::RangeBounds | Kind::RangeMixed | Kind::SnapshotRange => Span::random(
            &mut random,
            match op.len % 8 {
                0 => (high, low),
                _ => (low, high),
            },
        ),
        _ => Span::All,
    }
}

impl Span {
    /// Bounds of any kind.
    pub(super) fn random(random: &mut Random, (from, to): (u8, u8)) -> Span {
        let mut bound = |rank| match random.below(5) {
            0 => Bound::Unbounded,
            1 | 2 => Bound::Included(rank),
            _ => Bound::Excluded(rank),
        };
        Span::Bounds(bound(from), bound(to))
    }

    /// The ranks of the keys inside; empty when it is inverted.
    pub(super) fn ranks(&self) -> Range<usize> {
        let at = |rank: &u8| usize::from(*rank);
        match self {
            Span::All => 0..KEYS,
            Span::HalfOpen(from, to) => at(from)..at(to),
            Span::Inclusive(from, to) => at(from)..at(to) + 1,
            Span::From(from) => at(from)..KEYS,
            Span::To(to) => 0..at(to),
            Span::ToInclusive(to) => 0..at(to) + 1,
            Span::Bounds(from, to) => {
                let start = match from {
                    Bound::Included(from) => at(from),
                    Bound::Excluded(from) => at(from) + 1,
                    Bound::Unbounded => 0,
                };
                let end = match to {
                    Bound::Included(to) => at(to) + 1,
                    Bound::Excluded(to) => at(to),
                    Bound::Unbounded => KEYS,
                };
                start..end
            }
            Span::Prefix(prefix) => {
                let start = rank_at_or_after(prefix);
                let with = (start..KEYS).take_while(|rank| key(*rank as u8).starts_with(prefix));
                start..start + with.count()
            }
        }
    }

    /// The two bounds as keys.
    pub(super) fn bounds(&self) -> (Bound<&'static [u8]>, Bound<&'static [u8]>) {
        match self {
            Span::Bounds(from, to) => (from.map(key), to.map(key)),
            _ => (Bound::Unbounded, Bound::Unbounded),
        }
    }

    fn over(&self, space: &Keyspace) -> Iter {
        match self {
            Span::All => space.iter(),
            Span::HalfOpen(from, to) => space.range(key(*from)..key(*to)),
            Span::Inclusive(from, to) => space.range(key(*from)..=key(*to)),
            Span::From(from) => space.range(key(*from)..),
            Span::To(to) => space.range(..key(*to)),
            Span::ToInclusive(to) => space.range(..=key(*to)),
            Span::Bounds(..) => space.range(self.bounds()),
            Span::Prefix(prefix) => space.prefix(prefix),
        }
    }

    fn at(&self, there: &SnapshotKeyspace) -> Iter {
        match self {
            Span::Bounds(..) => there.range(self.bounds()),
            Span::Prefix(prefix) => there.prefix(prefix),
            _ => there.iter(),
        }
    }
}
