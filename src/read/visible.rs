//! What a reader at one instant sees of a sequence of versions: of each key the newest version not
//! newer than that instant, and nothing where that is a deletion.
//!
//! Going forward the inner cursor stands on the entry shown, and its slices are handed out as they
//! are. Going backward versions come oldest first, so the newest visible one is known only when
//! the key is behind us: key and value are then kept in two reused buffers, and the inner cursor
//! stands before all versions of the key shown. Where the inner cursor says at once that there is
//! no version before the one it stands on, that one is shown in place, and nothing is copied.
//!
//! Invariants: bounds are tested at each key that is looked at, so that a desert of deletions
//! beyond the bound is not walked. After an error the place is `Nowhere`. Loops, never recursion:
//! ten million deletions in a row cost time and no stack. Keys with very many versions are crossed
//! by a seek after [`SKIPS_MAX`] steps. A move that may pass only so many entries pauses where it would
//! pass more, always before a key that it has not judged yet. Threads: one at a time.
//! Where the newest visible version is a merge, its operands are walked forward, whichever way the
//! reader goes, and key and value are kept as going backward. So are those of a value that expires: what
//! is shown is a part of its entry. What time it is, is asked once, if it is not known from the start.
//! Kinds that belong to later features are an `Unsupported` error where they decide an answer.

use super::bounds::Bounds;
use super::kept::KeptKey;
use super::operands::Operands;
use super::snapshot::At;
use super::unsupported;
use crate::base::cursor::{Cursor, Peek};
use crate::base::error::Result;
use crate::base::expiring::{EXPIRY_BYTES, unless_expired};
use crate::base::hooks::Folding;
use crate::base::ranges::{Asked, DeletedRanges};
use crate::base::sync::Arc;
use crate::base::types::{SeqNo, Tag, Time, ValueKind};
use crate::fs::Clock;
use std::ops::Bound;

/// Versions of one key that are passed one by one before a seek passes the rest: about what a seek
/// costs, in steps.
const SKIPS_MAX: usize = 32;

/// The visible entries of `C` within bounds.
///
/// Not positioned at first: then `next` means `first`, and `prev` means `last`. Past the end
/// `prev` lands on the last entry; before the start `next` lands on the first.
#[derive(Debug)]
pub struct Visible<C> {
    inner: C,
    at: SeqNo,
    /// What has expired by then is not shown; `None`: not asked for yet.
    time: Option<Time>,
    clock: Arc<Clock>,
    bounds: Bounds,
    place: Place,
    /// `Buffered`, `Folded`: the key shown.
    key: Vec<u8>,
    /// The key whose versions are passed; `Buffered`, `Folded`: the same as `key`.
    kept: KeptKey,
    /// `Buffered`, `Folded`: the value shown.
    value: Vec<u8>,
    /// What merges mean.
    folding: Folding,
    /// What was deleted with ranges.
    deleted: Asked,
    /// Versions met since the last jump that were deleted so.
    hidden: usize,
    /// So many entries a move may pass that it does not show, and so many are left of them.
    steps_max: usize,
    steps_left: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Nowhere,
    BeforeStart,
    /// On the entry that the inner cursor stands on; newer ones of its key may lie before it.
    Forward,
    /// On the entry that the inner cursor stands on; all others of its key are behind it.
    Backward,
    /// On the buffered entry; the inner cursor is before all of its versions.
    Buffered,
    /// On the buffered entry, which was put together from merges or is part of one that expires; the
    /// inner cursor is among its versions, or behind them.
    Folded,
    PastEnd,
    /// On no entry, going forward: the one that the inner cursor stands on is to be judged next.
    PausedForward,
    /// The same going backward: it is the oldest of its key.
    PausedBackward,
}

impl<C: Cursor> Visible<C> {
    /// What is visible of `inner` at `at`, within `bounds`. Not positioned.
    pub fn new(
        inner: C,
        at: At,
        bounds: Bounds,
        folding: Folding,
        deleted: DeletedRanges,
        clock: Arc<Clock>,
    ) -> Visible<C> {
        Visible {
            inner,
            at: at.seqno,
            time: at.time,
            clock,
            bounds,
            place: Place::Nowhere,
            key: Vec::new(),
            kept: KeptKey::default(),
            value: Vec::new(),
            folding,
            deleted: Asked::new(deleted, at.seqno),
            hidden: 0,
            steps_max: usize::MAX,
            steps_left: usize::MAX,
        }
    }

    /// Each move passes so many entries at most that it does not show, one at least; 32 more at most
    /// where a key has that many versions.
    pub fn limit_steps(&mut self, steps: usize) {
        self.steps_max = steps.max(1);
    }

    /// The key that would be looked at next, if the last move has paused.
    pub fn paused_at(&self) -> Option<&[u8]> {
        matches!(self.place, Place::PausedForward | Place::PausedBackward).then(|| self.inner.key())
    }

    /// To the first entry.
    ///
    /// # Errors
    /// Those of the sources, and `Unsupported`; so for every move. The cursor is then nowhere.
    pub fn first(&mut self) -> Result<()> {
        self.guarded(Self::go_first)
    }

    /// To the last entry.
    pub fn last(&mut self) -> Result<()> {
        self.guarded(Self::go_last)
    }

    /// To the first entry whose key is at or after `key`.
    pub fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.guarded(|cursor| {
            if !cursor.bounds.after_lower(key) {
                return cursor.go_first();
            }
            if cursor.bounds.is_inverted() || !cursor.bounds.before_upper(key) {
                cursor.place = Place::PastEnd;
                return Ok(());
            }
            cursor.inner.seek(key, Tag::newest_at(cursor.at))?;
            cursor.settle_forward(false)
        })
    }

    /// To the last entry whose key is at or before `key`.
    pub fn seek_for_prev(&mut self, key: &[u8]) -> Result<()> {
        self.guarded(|cursor| {
            if !cursor.bounds.before_upper(key) {
                return cursor.go_last();
            }
            if cursor.bounds.is_inverted() || !cursor.bounds.after_lower(key) {
                cursor.place = Place::BeforeStart;
                return Ok(());
            }
            cursor.inner.seek_for_prev(key, Tag::MIN)?;
            cursor.settle_backward()
        })
    }

    /// One entry on.
    #[inline]
    #[expect(
        clippy::should_implement_trait,
        reason = "a cursor lends, an iterator cannot"
    )]
    pub fn next(&mut self) -> Result<()> {
        self.guarded(|cursor| match cursor.place {
            Place::Forward | Place::Backward => {
                cursor.kept.set_to(&cursor.inner);
                cursor.inner.next()?;
                if cursor.shows_at_once() {
                    cursor.place = Place::Forward;
                    return Ok(());
                }
                cursor.settle_forward(true)
            }
            Place::Buffered => {
                cursor.inner.seek(&cursor.key, Tag::MIN)?;
                cursor.settle_forward(true)
            }
            Place::Folded => cursor.settle_forward(true),
            Place::Nowhere | Place::BeforeStart => cursor.go_first(),
            Place::PastEnd => Ok(()),
            Place::PausedForward => cursor.settle_forward(false),
            Place::PausedBackward => {
                cursor.keep_key();
                cursor.inner.seek(&cursor.key, Tag::MIN)?;
                cursor.settle_forward(true)
            }
        })
    }

    /// One entry back.
    #[inline]
    pub fn prev(&mut self) -> Result<()> {
        self.guarded(|cursor| match cursor.place {
            Place::Buffered | Place::PausedBackward => cursor.settle_backward(),
            Place::Backward => {
                cursor.inner.prev()?;
                cursor.settle_backward()
            }
            Place::Forward | Place::PausedForward => {
                cursor.keep_key();
                cursor.inner.seek_for_prev(&cursor.key, Tag::MAX)?;
                cursor.settle_backward()
            }
            Place::Folded => {
                cursor.inner.seek_for_prev(&cursor.key, Tag::MAX)?;
                cursor.settle_backward()
            }
            Place::Nowhere | Place::PastEnd => cursor.go_last(),
            Place::BeforeStart => Ok(()),
        })
    }

    /// True when the cursor stands on an entry.
    #[inline]
    pub fn valid(&self) -> bool {
        matches!(
            self.place,
            Place::Forward | Place::Backward | Place::Buffered | Place::Folded
        )
    }

    /// The key and the value, if the cursor stands on an entry.
    #[inline]
    pub fn entry(&self) -> Option<(&[u8], &[u8])> {
        match self.place {
            Place::Forward | Place::Backward => Some(self.inner.entry()),
            Place::Buffered | Place::Folded => Some((&self.key, &self.value)),
            _ => None,
        }
    }

    /// The key, if the cursor stands on an entry.
    #[inline]
    pub fn key(&self) -> Option<&[u8]> {
        match self.place {
            Place::Forward | Place::Backward => Some(self.inner.key()),
            Place::Buffered | Place::Folded => Some(&self.key),
            _ => None,
        }
    }

    /// The inner cursor, if it stands on the entry shown.
    #[inline]
    pub fn on_entry(&self) -> Option<&C> {
        matches!(self.place, Place::Forward | Place::Backward).then_some(&self.inner)
    }

    #[inline]
    fn guarded(&mut self, act: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        self.steps_left = self.steps_max;
        let done = act(self);
        if done.is_err() {
            self.place = Place::Nowhere;
        }
        done
    }

    /// An entry is passed that is not shown.
    #[inline]
    fn spend_step(&mut self) {
        self.steps_left = self.steps_left.saturating_sub(1);
    }

    /// Keeps the key of the entry that the inner cursor stands on.
    #[inline]
    fn keep_key(&mut self) {
        let key = self.inner.key();
        self.key.clear();
        self.key.extend_from_slice(key);
        self.kept.set_to(&self.inner);
    }

    fn go_first(&mut self) -> Result<()> {
        if self.bounds.is_inverted() {
            self.place = Place::PastEnd;
            return Ok(());
        }
        match self.bounds.lower() {
            Bound::Unbounded => {
                self.inner.first()?;
                self.settle_forward(false)
            }
            Bound::Included(lower) => {
                self.inner.seek(lower, Tag::newest_at(self.at))?;
                self.settle_forward(false)
            }
            Bound::Excluded(lower) => {
                self.kept.set(lower);
                self.inner.seek(lower, Tag::MIN)?;
                self.settle_forward(true)
            }
        }
    }

    fn go_last(&mut self) -> Result<()> {
        if self.bounds.is_inverted() {
            self.place = Place::BeforeStart;
            return Ok(());
        }
        match self.bounds.upper() {
            Bound::Unbounded => self.inner.last()?,
            Bound::Included(upper) => self.inner.seek_for_prev(upper, Tag::MIN)?,
            // No entry has this tag: it lies before every version of `upper`.
            Bound::Excluded(upper) => self.inner.seek_for_prev(upper, Tag::MAX)?,
        }
        self.settle_backward()
    }

    /// True when the entry that the inner cursor stands on is the next visible one behind `self.kept`, told
    /// by numbers alone, as it is at most steps.
    #[inline]
    fn shows_at_once(&self) -> bool {
        self.inner.peek().is_some_and(|Peek { head, tag, .. }| {
            !self.kept.may_have(head)
                && self.bounds.is_head_before_upper(head)
                && tag.kind() == ValueKind::Put
                && tag.seqno() <= self.at
                && !self.deleted.has_any()
        })
    }

    /// From where the inner cursor stands to the next visible entry; with `passing`, versions of
    /// `self.kept` are behind us and do not count.
    fn settle_forward(&mut self, mut passing: bool) -> Result<()> {
        let mut skips = 0;
        while let Some(Peek { head, tag, .. }) = self.inner.peek() {
            let is_visible = tag.seqno() <= self.at;
            if passing && self.kept.may_have(head) && self.kept.is(self.inner.key()) {
                self.spend_step();
                skips += 1;
                if skips == SKIPS_MAX {
                    self.inner.seek(self.kept.bytes(), Tag::MIN)?;
                } else {
                    self.inner.next()?;
                }
                continue;
            }
            let is_within = self.bounds.is_head_before_upper(head);
            if !is_within && !self.bounds.before_upper(self.inner.key()) {
                break;
            }
            if passing {
                passing = false;
                skips = 0;
            }
            if self.steps_left == 0 {
                self.place = Place::PausedForward;
                return Ok(());
            }
            if !is_visible {
                self.pass_newer(&mut skips)?;
                continue;
            }
            if self.deleted.has_any() && self.deleted.hides(self.inner.key(), tag.seqno()) {
                self.pass_deleted()?;
                continue;
            }
            match tag.kind() {
                ValueKind::Put => {
                    self.place = Place::Forward;
                    return Ok(());
                }
                ValueKind::Delete => {
                    self.kept.set_to(&self.inner);
                    passing = true;
                    skips = 0;
                    self.spend_step();
                    self.inner.next()?;
                }
                kind => {
                    self.keep_key();
                    if self.keep_other(kind)? {
                        self.place = Place::Folded;
                        return Ok(());
                    }
                    passing = true;
                    skips = 0;
                    self.spend_step();
                }
            }
        }
        self.place = Place::PastEnd;
        Ok(())
    }

    /// Keeps the value of `self.key`, the newest visible version of which, neither a put nor a deletion, the
    /// inner cursor stands on; false when it has none.
    #[cold]
    fn keep_other(&mut self, kind: ValueKind) -> Result<bool> {
        match kind {
            ValueKind::Merge => self.fold(),
            ValueKind::PutExpiring => {
                self.keep_value();
                self.uncover()
            }
            kind => Err(unsupported(kind)),
        }
    }

    /// From the newest visible version of `self.key`, a merge, down to the one that it is merged
    /// into. True when that makes a value, which is then in `self.value`.
    #[cold]
    fn fold(&mut self) -> Result<bool> {
        let mut operands = Operands::default();
        let deletion = Tag::new(self.deleted.newest_of(&self.key), ValueKind::Delete);
        while self.inner.valid() && self.kept.is(self.inner.key()) && !operands.is_complete() {
            operands.add_under(deletion, self.inner.tag(), self.inner.value())?;
            self.inner.next()?;
        }
        let (time, clock) = (&mut self.time, &self.clock);
        let has_expired = |expiry| has_expired(clock, time, expiry);
        let value = operands.value(&self.folding, &self.key, has_expired)?;
        let has_one = value.is_some();
        self.value = value.unwrap_or_default();
        Ok(has_one)
    }

    /// Makes the entry of a value that expires, which was kept, that value; false when it has expired.
    fn uncover(&mut self) -> Result<bool> {
        let (time, clock) = (&mut self.time, &self.clock);
        let has_expired = |expiry| has_expired(clock, time, expiry);
        let has_one = unless_expired(&self.value, has_expired)?.is_some();
        if has_one {
            self.value.drain(..EXPIRY_BYTES);
        }
        Ok(has_one)
    }

    /// Over a version that was deleted with a range; over all that lie in the range with it, and are not
    /// newer, when there are many.
    #[cold]
    fn pass_deleted(&mut self) -> Result<()> {
        self.spend_step();
        self.hidden += 1;
        if self.hidden < SKIPS_MAX {
            return self.inner.next();
        }
        self.hidden = 0;
        let newest = self.deleted.newest_of(self.inner.key());
        self.inner.pass(self.deleted.end(), newest)
    }

    /// Over a version that is too new; over all of its key when there are many.
    fn pass_newer(&mut self, skips: &mut usize) -> Result<()> {
        self.spend_step();
        *skips += 1;
        if *skips < SKIPS_MAX {
            return self.inner.next();
        }
        *skips = 0;
        self.kept.set_to(&self.inner);
        (self.inner).seek(self.kept.bytes(), Tag::newest_at(self.at))
    }

    /// From the oldest version of some key to the nearest visible entry at or before it.
    fn settle_backward(&mut self) -> Result<()> {
        while self.inner.valid() && self.bounds.after_lower(self.inner.key()) {
            if self.steps_left == 0 {
                self.place = Place::PausedBackward;
                return Ok(());
            }
            let tag = self.inner.tag();
            if self.deleted.has_any() && self.passes_deleted_back()? {
                continue;
            }
            if tag.kind() == ValueKind::Put && tag.seqno() <= self.at && self.inner.is_newest() {
                self.place = Place::Backward;
                return Ok(());
            }
            self.keep_key();
            match self.newest_of_key()? {
                Some(ValueKind::Put) => {
                    self.place = Place::Buffered;
                    return Ok(());
                }
                Some(ValueKind::Delete) | None => {}
                Some(ValueKind::PutExpiring) => {
                    if self.uncover()? {
                        self.place = Place::Buffered;
                        return Ok(());
                    }
                }
                Some(kind) => return Err(unsupported(kind)),
            }
        }
        self.place = Place::BeforeStart;
        Ok(())
    }

    /// As `pass_deleted`, going backward; false when the version was not deleted so.
    #[cold]
    #[inline(never)]
    fn passes_deleted_back(&mut self) -> Result<bool> {
        if !(self.deleted).hides(self.inner.key(), self.inner.tag().seqno()) {
            return Ok(false);
        }
        self.spend_step();
        self.hidden += 1;
        if self.hidden < SKIPS_MAX {
            return self.inner.prev().map(|()| true);
        }
        self.hidden = 0;
        let newest = self.deleted.newest_of(self.inner.key());
        (self.inner.pass_back(self.deleted.start(), newest)).map(|()| true)
    }

    /// Walks the versions of `self.key` from the oldest and leaves the inner cursor before them
    /// all; the kind of the newest visible one, whose value is then in `self.value`.
    #[inline]
    fn newest_of_key(&mut self) -> Result<Option<ValueKind>> {
        let mut newest = None;
        let mut skips = 0;
        loop {
            let tag = self.inner.tag();
            if tag.seqno() <= self.at {
                if tag.kind() == ValueKind::Merge {
                    return self.newest_by_seek();
                }
                self.keep(&mut newest, tag.kind())?;
            }
            skips += 1;
            self.spend_step();
            if skips == SKIPS_MAX {
                return self.newest_by_seek();
            }
            self.inner.prev()?;
            if !self.inner.valid() || !self.kept.is(self.inner.key()) {
                return Ok(newest);
            }
        }
    }

    /// The same, from the newest: for keys with many versions, and for those with merges.
    fn newest_by_seek(&mut self) -> Result<Option<ValueKind>> {
        let mut newest = None;
        self.inner.seek(&self.key, Tag::newest_at(self.at))?;
        let is_there = self.inner.valid() && self.kept.is(self.inner.key());
        if is_there && !self.deleted.hides(&self.key, self.inner.tag().seqno()) {
            match self.inner.tag().kind() {
                ValueKind::Merge => newest = self.fold()?.then_some(ValueKind::Put),
                kind => self.keep(&mut newest, kind)?,
            }
        }
        self.inner.seek_for_prev(&self.key, Tag::MAX)?;
        Ok(newest)
    }

    #[inline]
    fn keep(&mut self, newest: &mut Option<ValueKind>, kind: ValueKind) -> Result<()> {
        if kind == ValueKind::DeleteRange {
            return Err(unsupported(kind));
        }
        *newest = Some(kind);
        self.keep_value();
        Ok(())
    }

    /// Keeps the value of the entry that the inner cursor stands on.
    #[inline]
    fn keep_value(&mut self) {
        self.value.clear();
        self.value.extend_from_slice(self.inner.value());
    }
}

/// True when what expires at `expiry` has expired, by the time that is asked for once.
fn has_expired(clock: &Clock, time: &mut Option<Time>, expiry: Time) -> bool {
    let time = *time.get_or_insert_with(|| clock.now());
    clock.has_expired(expiry, time)
}
