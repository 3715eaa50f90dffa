//! A range as a transaction sees it: its own writes over the entries of its instant, from both ends.
//!
//! A merge of two sequences that both give from both ends. Each end of the database's iterator has
//! one entry in hand, which has been read and not been given; what is in hand at one end belongs to
//! the other end too when nothing is left between. The transaction's writes are a copy of those in
//! the range, made when the iterator was.
//!
//! Invariant: `shown` holds every place that the caller can draw a conclusion about, before it is
//! told. Threads: one at a time; the transaction reads `shown` when it commits.

use super::writes::Written;
use crate::base::error::{Error, Result};
use crate::base::hooks::Folding;
use crate::base::ranges::Pieces;
use crate::base::reads::{Cut, ReadSet};
use crate::base::slice::Slice;
use crate::base::sync::{Arc, Mutex};
use crate::base::types::KeyspaceId;
use crate::read::{Bounds, Iter};
use std::cmp::Ordering;
use std::collections::VecDeque;
use std::fmt;
use std::iter::FusedIterator;

/// What an iterator has shown of its range: from its start up to `front`, and from `back` to its end.
#[derive(Debug)]
pub(super) struct Shown {
    keyspace: KeyspaceId,
    start: Cut,
    front: Cut,
    back: Cut,
    end: Cut,
}

impl Shown {
    /// Of a range that nobody has looked at yet.
    pub(super) fn nothing_of(keyspace: KeyspaceId, bounds: &Bounds) -> Shown {
        let (start, end) = (Cut::lower(bounds.lower()), Cut::upper(bounds.upper()));
        Shown {
            keyspace,
            front: start.clone(),
            back: end.clone(),
            start,
            end,
        }
    }

    /// Adds what was shown to what was read.
    pub(super) fn add_to(&self, reads: &mut ReadSet) {
        reads.add_range(self.keyspace, self.start.clone(), self.front.clone());
        reads.add_range(self.keyspace, self.back.clone(), self.end.clone());
    }
}

type Entry = (Slice, Slice);

/// The entries of a range in a [`Transaction`](super::Transaction), from both ends.
///
/// Ascending by key. Yields an error once and then ends. It owns what it needs, and may outlive the
/// transaction.
pub struct TransactionIter {
    /// `None` when the iterator has ended.
    entries: Option<Iter>,
    /// In hand at the front, and at the back.
    front: Option<Entry>,
    back: Option<Entry>,
    own: OwnWrites,
    shown: Option<Arc<Mutex<Shown>>>,
}

/// What the transaction wrote in the range before the iterator was made.
#[derive(Default)]
pub(super) struct OwnWrites {
    pub(super) written: VecDeque<Written>,
    /// Ranges whose entries in the database do not count.
    pub(super) deleted: Arc<Pieces>,
    pub(super) folding: Folding,
}

impl fmt::Debug for TransactionIter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TransactionIter")
    }
}

/// The ends of a range.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Front,
    Back,
}

impl TransactionIter {
    pub(super) fn new(entries: Iter, own: OwnWrites, shown: Arc<Mutex<Shown>>) -> TransactionIter {
        TransactionIter {
            entries: Some(entries),
            front: None,
            back: None,
            own,
            shown: Some(shown),
        }
    }

    /// Yields this error once, then nothing.
    pub(super) fn failed(error: Error) -> TransactionIter {
        TransactionIter {
            entries: Some(Iter::failed(error)),
            front: None,
            back: None,
            own: OwnWrites::default(),
            shown: None,
        }
    }

    /// Takes the next entry of the database into the hand of `side`, if there is one left.
    fn fill(&mut self, side: Side) -> Result<()> {
        let (hand, other) = match side {
            Side::Front => (&mut self.front, &mut self.back),
            Side::Back => (&mut self.back, &mut self.front),
        };
        if hand.is_some() {
            return Ok(());
        }
        loop {
            let next = self.entries.as_mut().and_then(|entries| match side {
                Side::Front => entries.next(),
                Side::Back => entries.next_back(),
            });
            *hand = match next.transpose()? {
                Some((key, _)) if self.own.deleted.find(&key).piece.is_some() => continue,
                Some(entry) => Some(entry),
                None => other.take(),
            };
            return Ok(());
        }
    }

    /// The next entry at `side`.
    fn advance(&mut self, side: Side) -> Result<Option<Entry>> {
        loop {
            self.fill(side)?;
            let (hand, written) = match side {
                Side::Front => (&mut self.front, self.own.written.front()),
                Side::Back => (&mut self.back, self.own.written.back()),
            };
            let nearer = match (&hand, written) {
                (None, None) => return Ok(None),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((key, _)), Some((own, _))) => match side {
                    Side::Front => key.as_bytes().cmp(own),
                    Side::Back => own.as_slice().cmp(key),
                },
            };
            if nearer == Ordering::Less {
                return Ok(hand.take());
            }
            let replaced = hand.take_if(|_| nearer == Ordering::Equal);
            let own = match side {
                Side::Front => self.own.written.pop_front(),
                Side::Back => self.own.written.pop_back(),
            };
            let Some((key, own)) = own else { continue };
            let stored = replaced.as_ref().map(|(_, value)| value.as_bytes());
            if let Some(value) = own.over(&key, stored, &self.own.folding)? {
                return Ok(Some((Slice::copy(&key), value)));
            }
        }
    }

    /// Notes that `side` has come to `entry`, or to the other end of the range.
    fn show(&self, side: Side, entry: Option<&Entry>) {
        let Some(shown) = &self.shown else { return };
        let mut shown = shown.lock();
        match (side, entry) {
            (Side::Front, Some((key, _))) => shown.front = Cut::after(key),
            (Side::Back, Some((key, _))) => shown.back = Cut::before(key),
            (_, None) => shown.front = shown.end.clone(),
        }
    }

    fn give(&mut self, side: Side) -> Option<Result<Entry>> {
        self.entries.as_ref()?;
        match self.advance(side) {
            Ok(entry) => {
                self.show(side, entry.as_ref());
                if entry.is_none() {
                    self.end();
                }
                entry.map(Ok)
            }
            Err(error) => {
                self.end();
                Some(Err(error))
            }
        }
    }

    /// Lets go of everything.
    fn end(&mut self) {
        self.entries = None;
        self.shown = None;
        self.own = OwnWrites::default();
        self.front = None;
        self.back = None;
    }
}

impl Iterator for TransactionIter {
    type Item = Result<(Slice, Slice)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.give(Side::Front)
    }
}

impl DoubleEndedIterator for TransactionIter {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.give(Side::Back)
    }
}

impl FusedIterator for TransactionIter {}
