//! Which entries a compaction may leave out.
//!
//! The live snapshots, ascending and ending with what is visible now, cut the sequence numbers into
//! stripes: an entry belongs to the first snapshot that sees it. Of one user key (newest first):
//! - a version goes when a newer one in the same stripe says what the key is (a put, a deletion):
//!   no snapshot tells them apart. A merge does not: what it is merged into stays;
//! - versions newer than every snapshot form no stripe: a snapshot may still be taken between any
//!   two of them, so all stay;
//! - a deletion goes when the oldest snapshot sees it and no table beneath the job may hold the
//!   key: in its stripe everything older goes with it;
//! - a version goes that was deleted with a range in its own stripe;
//! - a value that expires is a put until it has expired for everybody, and a deletion then
//!   (`expired`);
//! - an equal key and tag from a second source is the same entry, and kept once.
//!
//! Kinds that this version only knows the format of are an error, never dropped.
//! Invariants: C2, and entries arrive in strict order but for equal ones (checked, because a
//! damaged input must not become a well-formed output). One comparison of keys an entry and
//! nothing allocated. Threads: one. Not here: merging, cutting.

use crate::base::error::{Error, ErrorKind, REPAIR_INPUTS, Result};
use crate::base::ranges::{Pieces, is_before};
use crate::base::sync::Arc;
use crate::base::types::{SeqNo, Tag, ValueKind};
use crate::version::TableEntry;
use std::cmp::Ordering;

/// What is known of tables that may hold older versions of the job's keys.
#[derive(Debug)]
pub(super) enum Below<'a> {
    /// Nothing: every deletion stays (flush).
    Unknown,
    /// Key ranges, disjoint and ascending, and the first that does not lie wholly before the key
    /// last asked for.
    Ranges {
        ranges: Vec<(&'a [u8], &'a [u8])>,
        next: usize,
    },
}

impl<'a> Below<'a> {
    /// The ranges of `tables`, overlapping ones joined.
    pub(super) fn tables(tables: &'a [Arc<TableEntry>]) -> Below<'a> {
        let mut all: Vec<(&[u8], &[u8])> = tables
            .iter()
            .map(|t| &t.meta().summary)
            .map(|summary| (&summary.smallest[..], &summary.largest[..]))
            .collect();
        all.sort_unstable();
        let mut ranges: Vec<(&[u8], &[u8])> = Vec::with_capacity(all.len());
        for (from, to) in all {
            match ranges.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ => ranges.push((from, to)),
            }
        }
        Below::Ranges { ranges, next: 0 }
    }

    /// True when a table may hold `key`. Keys are asked for in ascending order: O(1) amortised.
    fn may_hold(&mut self, key: &[u8]) -> bool {
        let Below::Ranges { ranges, next } = self else {
            return true;
        };
        while ranges.get(*next).is_some_and(|(_, to)| *to < key) {
            *next += 1;
        }
        ranges.get(*next).is_some_and(|(from, _)| *from <= key)
    }
}

/// What becomes of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is written; `first`: nothing of its user key came before, a table may start here.
    Keep { first: bool },
    /// It is left out.
    Drop,
}

/// Judges the entries of a merge, one after the other.
#[derive(Debug)]
pub(super) struct DropRules<'a> {
    snapshots: &'a [SeqNo],
    below: Below<'a>,
    /// The entry judged last; its key is kept in a buffer that is used again.
    key: Vec<u8>,
    tag: Option<Tag>,
    /// The stripe of the last put or deletion of this key.
    covered: Option<usize>,
    /// Deleted ranges, and the first that does not lie wholly before the key last asked for.
    deleted: &'a Pieces,
    next_deleted: usize,
}

impl<'a> DropRules<'a> {
    /// Rules for `snapshots`, ascending.
    pub(super) fn new(
        snapshots: &'a [SeqNo],
        below: Below<'a>,
        deleted: &'a Pieces,
    ) -> DropRules<'a> {
        debug_assert!(snapshots.is_sorted(), "snapshots ascend");
        DropRules {
            snapshots,
            below,
            key: Vec::new(),
            tag: None,
            covered: None,
            deleted,
            next_deleted: 0,
        }
    }

    /// Index of the first snapshot that sees `seqno`; their number when none does.
    #[inline]
    fn stripe(&self, seqno: SeqNo) -> usize {
        match self.snapshots {
            [oldest, ..] if seqno <= *oldest => 0,
            [_] => 1,
            snapshots => snapshots.partition_point(|s| *s < seqno),
        }
    }

    /// True when some snapshot sees it: only such versions form a stripe.
    pub(super) fn is_seen(&self, tag: Tag) -> bool {
        self.stripe(tag.seqno()) < self.snapshots.len()
    }

    /// True when no snapshot tells these two versions of one key apart.
    pub(super) fn are_one_stripe(&self, newer: Tag, older: Tag) -> bool {
        self.is_seen(newer) && self.stripe(newer.seqno()) == self.stripe(older.seqno())
    }

    /// True when this version was deleted with a range, and no snapshot still sees it. Keys are asked
    /// for in ascending order: O(1) amortised.
    #[inline]
    pub(super) fn is_deleted(&mut self, key: &[u8], tag: Tag) -> bool {
        !self.deleted.is_empty() && self.is_in_deleted(key, tag)
    }

    fn is_in_deleted(&mut self, key: &[u8], tag: Tag) -> bool {
        let piece = loop {
            let Some(piece) = self.deleted.get(self.next_deleted) else {
                return false;
            };
            match is_before(key, piece.range.end.as_deref()) {
                true => break piece,
                false => self.next_deleted += 1,
            }
        };
        let mut newer = piece
            .seqnos
            .iter()
            .take_while(|seqno| tag.seqno() < **seqno);
        piece.range.start.as_slice() <= key
            && newer.any(|seqno| {
                let stripe = self.stripe(*seqno);
                stripe < self.snapshots.len() && stripe == self.stripe(tag.seqno())
            })
    }

    /// The version `tag` of the key judged last says what it is: older ones of its stripe go.
    pub(super) fn cover(&mut self, tag: Tag) {
        self.covered = Some(self.stripe(tag.seqno()));
    }

    /// True when a table beneath the job may hold `key`, which is the one judged last or a later one.
    pub(super) fn may_lie_below(&mut self, key: &[u8]) -> bool {
        self.below.may_hold(key)
    }

    /// True when a deletion of `key`, which is the one judged last, with this number hides nothing.
    #[inline]
    pub(super) fn needs_no_deletion(&mut self, key: &[u8], tag: Tag) -> bool {
        let seen_by_all = self.stripe(tag.seqno()) == 0 && !self.snapshots.is_empty();
        seen_by_all && !self.below.may_hold(key)
    }

    /// Judges the next entry.
    ///
    /// # Errors
    /// `Unsupported` for a kind without rules; `Corruption` when entries do not ascend.
    #[inline]
    pub(super) fn judge(&mut self, key: &[u8], tag: Tag) -> Result<Verdict> {
        let kind = tag.kind();
        if !kind.is_known() {
            return Err(unsupported(kind));
        }
        let stripe = self.stripe(tag.seqno());
        let order = match self.tag {
            Some(_) => self.key.as_slice().cmp(key),
            None => Ordering::Less,
        };
        let newer = match order {
            Ordering::Less => {
                self.key.clear();
                self.key.extend_from_slice(key);
                self.covered = None;
                None
            }
            Ordering::Equal => self.tag,
            Ordering::Greater => return Err(out_of_order()),
        };
        self.tag = Some(tag);
        if let Some(newer) = newer {
            if newer < tag {
                return Err(out_of_order());
            }
            let hidden = self.covered == Some(stripe) && stripe < self.snapshots.len();
            if hidden || newer == tag {
                return Ok(Verdict::Drop);
            }
        }
        if self.is_deleted(key, tag) {
            return Ok(Verdict::Drop);
        }
        if kind != ValueKind::Merge {
            self.covered = Some(stripe);
        }
        if kind == ValueKind::Delete && self.needs_no_deletion(key, tag) {
            return Ok(Verdict::Drop);
        }
        Ok(Verdict::Keep {
            first: newer.is_none(),
        })
    }
}

#[cold]
fn unsupported(kind: ValueKind) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!("an entry of kind {kind:?} cannot be compacted by this version"),
    )
    .advice("Open the database with the version that wrote it.")
}

#[cold]
fn out_of_order() -> Error {
    Error::corruption("entries of a compaction's inputs are out of order").advice(REPAIR_INPUTS)
}
