//! One sorted sequence out of many.
//!
//! The sources that stand on an entry are kept in a small array, nearest in the direction of
//! travel first, each with the first 16 bytes of its key as a number, and its tag. A step moves the first
//! source and sinks it to its new place. While it stays in front of the runner-up (a streak, which
//! is most steps of a tree whose last level holds most entries) that is one comparison of
//! integers; otherwise the loop ends with one branch that the processor did not foresee, where a
//! loser tree has one a level.
//!
//! Order: key ascending, then newest first, then source order, so that of equal `(key, tag)` pairs
//! the one of the earlier (newer) source comes first. Going backward everything is the reverse,
//! for which heads are stored inverted.
//!
//! Invariants: `order` is sorted and names exactly the sources that are valid, with what they stand
//! on; the merge stands on the first; after an error `order` is empty until the merge is positioned
//! again, so nothing is ever skipped. A step allocates nothing. Threads: one at a time.
//! Knows no seqno rule: every version of every key is given.

use crate::base::cursor::{Cursor, Peek};
use crate::base::error::Result;
use crate::base::key::compare;
use crate::base::ranges::is_before;
use crate::base::types::{SeqNo, Tag};
use std::cmp::Ordering;

/// A merge of any cursors, in both directions.
///
/// Sources are given newest first; an equal `(key, tag)` in two of them (a memtable and the table
/// flushed from it) is given once for each.
#[derive(Debug)]
pub struct Merge<C> {
    sources: Vec<C>,
    order: Vec<Slot>,
    direction: Direction,
    /// The key that the others are positioned around when the direction turns.
    pivot: Vec<u8>,
}

/// A source, and what is known of the entry that it stands on.
#[derive(Clone, Copy, Debug)]
struct Slot {
    /// The head of its key, as `Direction::stored` has it.
    head: u128,
    tag: Tag,
    key_len: u32,
    source: u32,
}

impl Slot {
    #[inline]
    fn new(here: Peek, direction: Direction, source: usize) -> Slot {
        Slot {
            head: direction.stored(here.head),
            tag: here.tag,
            key_len: here.key_len,
            source: source as u32,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Forward,
    Backward,
}

impl Direction {
    /// The head of a key as it is stored, smaller means nearer; and back.
    #[inline]
    fn stored(self, head: u128) -> u128 {
        match self {
            Direction::Forward => head,
            Direction::Backward => !head,
        }
    }
}

impl<C: Cursor> Merge<C> {
    /// Merges `sources`, newest first. Not positioned.
    pub fn new(sources: Vec<C>) -> Merge<C> {
        Merge {
            order: Vec::with_capacity(sources.len()),
            sources,
            direction: Direction::Forward,
            pivot: Vec::new(),
        }
    }

    /// The source that the merge stands on. Only while `valid()`.
    #[inline]
    pub fn source(&self) -> &C {
        &self.sources[self.order[0].source as usize]
    }

    /// Positions every source by `place`, then sorts them.
    fn place(
        &mut self,
        direction: Direction,
        mut place: impl FnMut(&mut C) -> Result<()>,
    ) -> Result<()> {
        self.order.clear();
        for source in &mut self.sources {
            place(source)?;
        }
        self.direction = direction;
        self.seed();
        Ok(())
    }

    fn seed(&mut self) {
        let Merge {
            sources,
            order,
            direction,
            ..
        } = self;
        debug_assert!(order.is_empty());
        for (i, source) in sources.iter().enumerate() {
            order.extend(source.peek().map(|here| Slot::new(here, *direction, i)));
        }
        order.sort_unstable_by(|a, b| {
            a.head
                .cmp(&b.head)
                .then_with(|| tie(sources, *direction, a.source, b.source))
        });
    }

    /// Turns around: the current source takes one step, every other one is put just behind the
    /// current entry in the new direction.
    #[cold]
    fn turn(&mut self, direction: Direction) -> Result<()> {
        let Some(first) = self.order.first() else {
            return Ok(());
        };
        let here = first.source as usize;
        let Merge { sources, pivot, .. } = self;
        pivot.clear();
        pivot.extend_from_slice(sources[here].key());
        let tag = sources[here].tag();
        let on_pivot = |source: &C| source.valid() && source.tag() == tag && source.key() == *pivot;

        self.order.clear();
        for (i, source) in sources.iter_mut().enumerate() {
            match direction {
                Direction::Forward if i == here => source.next()?,
                Direction::Backward if i == here => source.prev()?,
                Direction::Forward => {
                    source.seek(pivot, tag)?;
                    // Equal entries of earlier sources lie before the current one.
                    if i < here && on_pivot(source) {
                        source.next()?;
                    }
                }
                Direction::Backward => {
                    source.seek_for_prev(pivot, tag)?;
                    if here < i && on_pivot(source) {
                        source.prev()?;
                    }
                }
            }
        }
        self.direction = direction;
        self.seed();
        Ok(())
    }

    /// Moves the first source by `step`, and puts it into its new place.
    #[inline(always)]
    fn advance(
        &mut self,
        direction: Direction,
        step: impl FnOnce(&mut C) -> Result<()>,
    ) -> Result<()> {
        let first = match self.order.first() {
            Some(first) if self.direction == direction => first.source as usize,
            _ => return self.turn(direction),
        };
        let source = &mut self.sources[first];
        if let Err(error) = step(source) {
            self.order.clear();
            return Err(error);
        }
        let Some(here) = source.peek() else {
            self.order.remove(0);
            return Ok(());
        };
        self.sink(Slot::new(here, direction, first), direction);
        Ok(())
    }

    /// What the first source has moved to goes to its place; all that are nearer move up.
    #[inline(always)]
    fn sink(&mut self, moved: Slot, direction: Direction) {
        let order = self.order.as_mut_slice();
        let mut at = 0;
        for i in 1..order.len() {
            let slot = order[i];
            let is_nearer = slot.head <= moved.head
                && (slot.head != moved.head
                    || tie(&self.sources, direction, slot.source, moved.source) == Ordering::Less);
            if !is_nearer {
                break;
            }
            order[i - 1] = slot;
            at = i;
        }
        order[at] = moved;
    }
}

/// The order of two sources whose heads are equal: by full key, tag and place in the list.
fn tie<C: Cursor>(sources: &[C], direction: Direction, a: u32, b: u32) -> Ordering {
    let (x, y) = (&sources[a as usize], &sources[b as usize]);
    let forward = compare(x.key(), x.tag(), y.key(), y.tag()).then(a.cmp(&b));
    match direction {
        Direction::Forward => forward,
        Direction::Backward => forward.reverse(),
    }
}

impl<C: Cursor> Cursor for Merge<C> {
    fn first(&mut self) -> Result<()> {
        self.place(Direction::Forward, C::first)
    }

    fn last(&mut self) -> Result<()> {
        self.place(Direction::Backward, C::last)
    }

    fn seek(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        self.place(Direction::Forward, |source| source.seek(key, tag))
    }

    fn seek_for_prev(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        self.place(Direction::Backward, |source| source.seek_for_prev(key, tag))
    }

    #[inline(always)]
    fn next(&mut self) -> Result<()> {
        debug_assert!(self.valid(), "next is for a cursor on an entry");
        self.advance(Direction::Forward, C::next)
    }

    #[inline(always)]
    fn prev(&mut self) -> Result<()> {
        debug_assert!(self.valid(), "prev is for a cursor on an entry");
        self.advance(Direction::Backward, C::prev)
    }

    fn pass(&mut self, end: Option<&[u8]>, before: SeqNo) -> Result<()> {
        debug_assert!(self.valid(), "pass is for a cursor on an entry");
        if self.direction != Direction::Forward {
            return Ok(());
        }
        self.order.clear();
        for source in &mut self.sources {
            if source.valid() && is_before(source.key(), end) {
                source.pass(end, before)?;
            }
        }
        self.seed();
        Ok(())
    }

    fn pass_back(&mut self, start: &[u8], before: SeqNo) -> Result<()> {
        debug_assert!(self.valid(), "pass_back is for a cursor on an entry");
        if self.direction != Direction::Backward {
            return Ok(());
        }
        self.order.clear();
        for source in &mut self.sources {
            if source.valid() && start <= source.key() {
                source.pass_back(start, before)?;
            }
        }
        self.seed();
        Ok(())
    }

    /// A runner-up with another head holds another key.
    #[inline]
    fn is_newest(&self) -> bool {
        let is_alone = match self.order.as_slice() {
            [first, runner_up, ..] => first.head < runner_up.head,
            _ => true,
        };
        self.direction == Direction::Backward && is_alone && self.source().is_newest()
    }

    #[inline]
    fn valid(&self) -> bool {
        !self.order.is_empty()
    }

    #[inline]
    fn key(&self) -> &[u8] {
        self.source().key()
    }

    #[inline]
    fn tag(&self) -> Tag {
        self.order.first().map_or(Tag::MIN, |slot| slot.tag)
    }

    #[inline]
    fn value(&self) -> &[u8] {
        self.source().value()
    }

    #[inline(always)]
    fn peek(&self) -> Option<Peek> {
        self.order.first().map(|first| Peek {
            head: self.direction.stored(first.head),
            tag: first.tag,
            key_len: first.key_len,
        })
    }

    #[inline]
    fn entry(&self) -> (&[u8], &[u8]) {
        self.source().entry()
    }
}
