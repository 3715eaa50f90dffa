//! Deleted ranges of keys, cut into pieces that do not overlap.
//!
//! ```text
//! deleted   [a, m) at 7   [c, p) at 9   [c, e) at 4
//! pieces    [a, c): 7     [c, e): 9 7 4     [e, m): 9 7     [m, p): 9
//! ```
//! Whatever was deleted, and however often, a key lies in at most one piece, which one binary search
//! finds; its numbers, newest first, say at which instants the key was deleted with it. Between the
//! ends of a piece, or of a gap between pieces, all keys are answered alike: scans ask once and
//! compare with the end until they reach it ([`Span`]).
//!
//! A list never changes; another deletion makes another list. [`DeletedRanges`] keeps several that
//! grow by doubling, so that many deletions one after the other cost the copies of a merge sort and
//! not of an insertion sort; readers ask each.
//!
//! Ranges are half open. An end that is `None` is behind every key; an empty start is before every
//! key. Threads: immutable. Not here: who keeps lists, when a deletion may be forgotten.

use super::sync::Arc;
use super::types::SeqNo;
use std::cmp::Ordering;
use std::ops::Bound;

/// The keys from `start` up to `end`, which is not among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HalfOpen {
    /// The first key.
    pub start: Vec<u8>,
    /// The first key behind; `None`: there is none.
    pub end: Option<Vec<u8>>,
}

impl HalfOpen {
    /// The keys between two bounds; `None` when there are none.
    pub fn between(lower: Bound<&[u8]>, upper: Bound<&[u8]>) -> Option<HalfOpen> {
        let start = match lower {
            Bound::Unbounded => Vec::new(),
            Bound::Included(key) => key.to_vec(),
            Bound::Excluded(key) => successor(key),
        };
        let end = match upper {
            Bound::Unbounded => None,
            Bound::Included(key) => Some(successor(key)),
            Bound::Excluded(key) => Some(key.to_vec()),
        };
        let holds_keys = end.as_ref().is_none_or(|end| start < *end);
        holds_keys.then_some(HalfOpen { start, end })
    }

    /// The same as two bounds.
    pub fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        let end = self.end.as_deref();
        let upper = end.map_or(Bound::Unbounded, Bound::Excluded);
        (Bound::Included(self.start.as_slice()), upper)
    }

    /// Bytes of its ends.
    pub fn bytes(&self) -> usize {
        self.start.len() + self.end.as_ref().map_or(0, Vec::len)
    }
}

/// The next key: nothing lies between it and `key`.
fn successor(key: &[u8]) -> Vec<u8> {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next
}

/// The order of ends: `None` is behind all.
fn compare_ends(a: Option<&[u8]>, b: Option<&[u8]>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => a.cmp(b),
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
    }
}

/// True when `key` lies before the end of a range.
#[inline]
pub fn is_before(key: &[u8], end: Option<&[u8]>) -> bool {
    end.is_none_or(|end| key < end)
}

/// A part of the keys that was deleted with the same deletions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Its keys.
    pub range: HalfOpen,
    /// When they were deleted, newest first; never empty.
    pub seqnos: Vec<SeqNo>,
}

impl Piece {
    /// The newest deletion that is not newer than `at`.
    fn newest_at(&self, at: SeqNo) -> Option<SeqNo> {
        let older = self.seqnos.partition_point(|seqno| at < *seqno);
        self.seqnos.get(older).copied()
    }

    fn bytes(&self) -> usize {
        size_of::<Piece>() + self.range.bytes() + self.seqnos.len() * size_of::<SeqNo>()
    }
}

/// Keys side by side that one answer holds for: a piece, or a gap.
#[derive(Clone, Copy, Debug)]
pub struct Span<'a> {
    /// The piece; `None` in a gap.
    pub piece: Option<&'a Piece>,
    /// Its first key; empty: the first of all.
    pub start: &'a [u8],
    /// The first key behind it.
    pub end: Option<&'a [u8]>,
}

/// Pieces in key order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pieces {
    pieces: Vec<Piece>,
    bytes: usize,
}

impl Pieces {
    fn new(pieces: Vec<Piece>) -> Pieces {
        let bytes = pieces.iter().map(Piece::bytes).sum();
        Pieces { pieces, bytes }
    }

    /// Cuts deletions in any order into pieces.
    pub fn of(deletions: impl IntoIterator<Item = (HalfOpen, SeqNo)>) -> Pieces {
        let pieces = deletions.into_iter().map(|(range, seqno)| Piece {
            range,
            seqnos: vec![seqno],
        });
        let mut all: Vec<Pieces> = pieces.map(|piece| Pieces::new(vec![piece])).collect();
        // Halves, as a merge sort does.
        while 1 < all.len() {
            let pairs = all.chunks(2).map(|pair| match pair {
                [a, b] => a.merged(b),
                _ => pair[0].clone(),
            });
            all = pairs.collect();
        }
        all.pop().unwrap_or_default()
    }

    /// Pieces that came from a file; `None` unless they ascend, do not overlap, and each has keys and
    /// numbers that descend.
    pub fn checked(pieces: Vec<Piece>) -> Option<Pieces> {
        let is_whole = |piece: &Piece| {
            let HalfOpen { start, end } = &piece.range;
            let has_keys = end.as_ref().is_none_or(|end| start < end);
            let descends = piece.seqnos.is_sorted_by(|a, b| b < a);
            has_keys && descends && !piece.seqnos.is_empty()
        };
        let apart = |a: &Piece, b: &Piece| !is_before(&b.range.start, a.range.end.as_deref());
        let ascend = pieces.is_sorted_by(apart);
        (ascend && pieces.iter().all(is_whole)).then(|| Pieces::new(pieces))
    }

    /// The pieces of both.
    pub fn merged(&self, other: &Pieces) -> Pieces {
        let mut out: Vec<Piece> = Vec::with_capacity(self.pieces.len() + other.pieces.len());
        let (mut a, mut b) = (self.pieces.iter().cloned(), other.pieces.iter().cloned());
        let (mut x, mut y) = (a.next(), b.next());
        loop {
            (x, y) = match (x, y) {
                (Some(p), Some(q)) => {
                    let (first, second, swapped) = match q.range.start < p.range.start {
                        true => (q, p, true),
                        false => (p, q, false),
                    };
                    let (first, second) = cut_first(first, second, &mut out);
                    let (p, q) = match swapped {
                        true => (second, first),
                        false => (first, second),
                    };
                    (p.or_else(|| a.next()), q.or_else(|| b.next()))
                }
                (Some(p), None) => {
                    push(&mut out, p);
                    (a.next(), None)
                }
                (None, Some(q)) => {
                    push(&mut out, q);
                    (None, b.next())
                }
                (None, None) => return Pieces::new(out),
            };
        }
    }

    /// True when nothing is deleted.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The piece at `i`, in key order.
    pub fn get(&self, i: usize) -> Option<&Piece> {
        self.pieces.get(i)
    }

    /// In key order.
    pub fn iter(&self) -> impl Iterator<Item = &Piece> {
        self.pieces.iter()
    }

    /// Where `key` lies. One binary search.
    pub fn find(&self, key: &[u8]) -> Span<'_> {
        let behind = self
            .pieces
            .partition_point(|piece| piece.range.start.as_slice() <= key);
        let before = behind.checked_sub(1).and_then(|i| self.pieces.get(i));
        let next = self
            .pieces
            .get(behind)
            .map(|piece| piece.range.start.as_slice());
        match before {
            Some(piece) if is_before(key, piece.range.end.as_deref()) => Span {
                piece: Some(piece),
                start: &piece.range.start,
                end: piece.range.end.as_deref(),
            },
            _ => Span {
                piece: None,
                start: before.map_or(&[], |piece| piece.range.end.as_deref().unwrap_or_default()),
                end: next,
            },
        }
    }

    /// The newest deletion of `key` that is not newer than `at`.
    pub fn newest_at(&self, key: &[u8], at: SeqNo) -> Option<SeqNo> {
        self.find(key).piece?.newest_at(at)
    }

    /// The newest deletion that is not newer than `at`; [`SeqNo::ZERO`] when there is none.
    pub fn newest_until(&self, at: SeqNo) -> SeqNo {
        let newest = self.pieces.iter().filter_map(|piece| piece.newest_at(at));
        newest.max().unwrap_or_default()
    }

    /// Pieces in it.
    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    /// The deletions of keys among `from..=to`.
    pub fn touching<'a>(&'a self, from: &[u8], to: &'a [u8]) -> impl Iterator<Item = SeqNo> + 'a {
        let behind = self.not_before(from).iter();
        let pieces = behind.take_while(move |piece| piece.range.start.as_slice() <= to);
        pieces.flat_map(|piece| piece.seqnos.iter().copied())
    }

    /// True when every key of `from..=to` was deleted after `after`, and not after `until`.
    pub fn covers(&self, from: &[u8], to: &[u8], after: SeqNo, until: SeqNo) -> bool {
        let mut key = from;
        loop {
            let Some(piece) = self.find(key).piece else {
                return false;
            };
            if piece.newest_at(until).is_none_or(|newest| newest <= after) {
                return false;
            }
            match piece.range.end.as_deref() {
                Some(end) if end <= to => key = end,
                _ => return true,
            }
        }
    }

    /// The pieces that have a key within `range`, in order.
    pub fn overlapping(&self, range: &HalfOpen) -> impl Iterator<Item = &Piece> {
        let behind = self.not_before(&range.start).iter();
        let end = range.end.clone();
        behind.take_while(move |piece| is_before(&piece.range.start, end.as_deref()))
    }

    /// The pieces that do not lie wholly before `key`.
    fn not_before(&self, key: &[u8]) -> &[Piece] {
        let before = |piece: &Piece| !is_before(key, piece.range.end.as_deref());
        &self.pieces[self.pieces.partition_point(before)..]
    }

    /// Those that `keeps` keeps, number by number; pieces that are alike afterwards are joined.
    pub fn filtered(&self, keeps: impl Fn(&HalfOpen, SeqNo) -> bool) -> Pieces {
        let mut out = Vec::new();
        for piece in &self.pieces {
            let seqnos = piece.seqnos.iter().copied();
            let seqnos: Vec<SeqNo> = seqnos.filter(|s| keeps(&piece.range, *s)).collect();
            if !seqnos.is_empty() {
                push(
                    &mut out,
                    Piece {
                        range: piece.range.clone(),
                        seqnos,
                    },
                );
            }
        }
        Pieces::new(out)
    }

    /// What readers at these snapshots and later see of it: of the numbers that no snapshot tells apart
    /// the newest.
    ///
    /// `snapshots` ascend; who is not among them reads at the last one or later.
    pub fn seen_at(&self, snapshots: &[SeqNo]) -> Pieces {
        let stripe = |seqno: SeqNo| snapshots.partition_point(|snapshot| *snapshot < seqno);
        let mut out = Vec::new();
        for piece in &self.pieces {
            let mut seqnos = piece.seqnos.clone();
            // Newest first, so the newest of a stripe stays. What is newer than all of them has none.
            seqnos.dedup_by_key(|seqno| match stripe(*seqno) {
                last if last == snapshots.len() => Err(*seqno),
                stripe => Ok(stripe),
            });
            let range = piece.range.clone();
            push(&mut out, Piece { range, seqnos });
        }
        Pieces::new(out)
    }

    /// Memory, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Appends a piece; joins it to the last one when they touch and say the same.
fn push(out: &mut Vec<Piece>, piece: Piece) {
    if let Some(last) = out.last_mut()
        && last.range.end.as_ref() == Some(&piece.range.start)
        && last.seqnos == piece.seqnos
    {
        last.range.end = piece.range.end;
        return;
    }
    out.push(piece);
}

/// Gives to `out` what of `first` lies before `second`, which does not start before it, and what both
/// have; what is left of each comes back.
fn cut_first(
    mut first: Piece,
    second: Piece,
    out: &mut Vec<Piece>,
) -> (Option<Piece>, Option<Piece>) {
    if !is_before(&second.range.start, first.range.end.as_deref()) {
        push(out, first);
        return (None, Some(second));
    }
    if first.range.start < second.range.start {
        let before = HalfOpen {
            start: std::mem::take(&mut first.range.start),
            end: Some(second.range.start.clone()),
        };
        push(
            out,
            Piece {
                range: before,
                seqnos: first.seqnos.clone(),
            },
        );
        first.range.start.clone_from(&second.range.start);
    }
    let order = compare_ends(first.range.end.as_deref(), second.range.end.as_deref());
    let nearer = match order {
        Ordering::Greater => second.range.end.clone(),
        _ => first.range.end.clone(),
    };
    push(
        out,
        Piece {
            range: HalfOpen {
                start: first.range.start.clone(),
                end: nearer.clone(),
            },
            seqnos: joined(&first.seqnos, &second.seqnos),
        },
    );
    let rest = |mut piece: Piece| {
        nearer.clone().map(|start| {
            piece.range.start = start;
            piece
        })
    };
    match order {
        Ordering::Equal => (None, None),
        Ordering::Less => (None, rest(second)),
        Ordering::Greater => (rest(first), None),
    }
}

/// Both lists, newest first, each number once.
fn joined(a: &[SeqNo], b: &[SeqNo]) -> Vec<SeqNo> {
    let mut all: Vec<SeqNo> = a.iter().chain(b).copied().collect();
    all.sort_unstable_by(|x, y| y.cmp(x));
    all.dedup();
    all
}

/// Lists side by side, as a writer's deletions and several sources come together. Clone is cheap.
#[derive(Clone, Debug, Default)]
pub struct DeletedRanges(Vec<Arc<Pieces>>);

impl DeletedRanges {
    /// These, and one more deletion. Costs, over many, the logarithm of their number for each.
    pub fn with(&self, range: HalfOpen, seqno: SeqNo) -> DeletedRanges {
        self.joined_with(Pieces::of([(range, seqno)]))
    }

    /// These, and more deletions.
    pub fn add(&mut self, more: &Pieces) {
        if !more.is_empty() {
            *self = self.joined_with(more.clone());
        }
    }

    fn joined_with(&self, mut newest: Pieces) -> DeletedRanges {
        let mut lists = self.0.clone();
        while let Some(last) = lists.pop_if(|last| last.len() <= newest.len()) {
            newest = last.merged(&newest);
        }
        lists.push(Arc::new(newest));
        DeletedRanges(lists)
    }

    /// True when nothing is deleted.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The newest deletion of `key` that is not newer than `at`.
    pub fn newest_at(&self, key: &[u8], at: SeqNo) -> Option<SeqNo> {
        let each = self.0.iter().filter_map(|list| list.newest_at(key, at));
        each.max()
    }

    /// A key of `range` that was deleted after `since`, and not after `until`.
    pub fn first_between(&self, range: &HalfOpen, since: SeqNo, until: SeqNo) -> Option<Vec<u8>> {
        let pieces = self.0.iter().flat_map(|list| list.overlapping(range));
        let is_new = |seqno: &SeqNo| since < *seqno && *seqno <= until;
        let mut pieces = pieces.filter(|piece| piece.seqnos.iter().any(is_new));
        let piece = pieces.next()?;
        Some(range.start.clone().max(piece.range.start.clone()))
    }

    /// All in one list.
    pub fn joined(&self) -> Pieces {
        let lists = self.0.iter();
        lists.fold(Pieces::default(), |sum, list| sum.merged(list))
    }

    /// Memory, in bytes.
    pub fn bytes(&self) -> usize {
        self.0.iter().map(|list| list.bytes()).sum()
    }
}

/// Adds the lists of other sources.
impl Extend<DeletedRanges> for DeletedRanges {
    fn extend<I: IntoIterator<Item = DeletedRanges>>(&mut self, others: I) {
        self.0.extend(others.into_iter().flat_map(|other| other.0));
    }
}

impl From<&Arc<Pieces>> for DeletedRanges {
    fn from(pieces: &Arc<Pieces>) -> DeletedRanges {
        match pieces.is_empty() {
            true => DeletedRanges::default(),
            false => DeletedRanges(vec![Arc::clone(pieces)]),
        }
    }
}

/// Asks for one key after the other: as long as they lie in one span, by one comparison.
#[derive(Debug, Default)]
pub struct Asked {
    ranges: DeletedRanges,
    at: SeqNo,
    /// The span that was asked about last: its ends, and the newest deletion in it.
    start: Vec<u8>,
    end: Option<Vec<u8>>,
    newest: SeqNo,
    is_known: bool,
}

impl Asked {
    /// Deletions not newer than `at`.
    pub fn new(ranges: DeletedRanges, at: SeqNo) -> Asked {
        Asked {
            ranges,
            at,
            ..Asked::default()
        }
    }

    /// False when nothing was deleted: then there is no reason to look for the key.
    #[inline]
    pub fn has_any(&self) -> bool {
        !self.ranges.is_empty()
    }

    /// True when `key` was deleted with a range after it was written at `seqno`.
    pub fn hides(&mut self, key: &[u8], seqno: SeqNo) -> bool {
        seqno < self.newest_of(key)
    }

    /// The newest deletion of `key`; [`SeqNo::ZERO`] when there is none.
    pub fn newest_of(&mut self, key: &[u8]) -> SeqNo {
        if self.ranges.is_empty() {
            return SeqNo::ZERO;
        }
        let is_inside = self.start.as_slice() <= key && is_before(key, self.end.as_deref());
        if !(self.is_known && is_inside) {
            self.ask(key);
        }
        self.newest
    }

    /// The first key behind the span asked about last.
    pub fn end(&self) -> Option<&[u8]> {
        self.end.as_deref()
    }

    /// The first key of the span asked about last.
    pub fn start(&self) -> &[u8] {
        &self.start
    }

    #[cold]
    fn ask(&mut self, key: &[u8]) {
        let mut start: &[u8] = &[];
        let mut end: Option<&[u8]> = None;
        self.newest = SeqNo::ZERO;
        for list in &self.ranges.0 {
            let span = list.find(key);
            start = start.max(span.start);
            if compare_ends(span.end, end) == Ordering::Less {
                end = span.end;
            }
            let newest = span.piece.and_then(|piece| piece.newest_at(self.at));
            self.newest = self.newest.max(newest.unwrap_or_default());
        }
        self.start.clear();
        self.start.extend_from_slice(start);
        self.end = end.map(<[u8]>::to_vec);
        self.is_known = true;
    }
}

#[cfg(test)]
mod tests;
