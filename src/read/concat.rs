//! One cursor over sorted parts that do not overlap: the tables of a run.
//!
//! A part is opened when the cursor comes to it, and only one is open at a time. Empty parts are
//! passed over. A part that cannot be opened or read ends the walk with its error: the cursor is
//! then not valid until it is positioned again, and never goes on behind the damage.
//!
//! Knows no table: [`Parts`] opens them. Threads: one at a time.

use crate::base::cursor::{Cursor, Peek};
use crate::base::error::Result;
use crate::base::types::{SeqNo, Tag};

/// Sorted sequences in key order; all versions of a key are in one of them.
pub trait Parts {
    /// Walks one part.
    type Cursor: Cursor;
    /// How many there are.
    fn count(&self) -> usize;
    /// Index of the first part whose largest key is at or after `key`; `count()` if none.
    fn lower_bound(&self, key: &[u8]) -> usize;
    /// True when the smallest key of part `i` lies behind `key`.
    fn starts_after(&self, i: usize, key: &[u8]) -> bool;
    /// A cursor over part `i`.
    fn open(&self, i: usize) -> Result<Self::Cursor>;
    /// The highest sequence number of part `i`.
    fn newest(&self, i: usize) -> SeqNo;
}

/// The parts one after the other.
#[derive(Debug)]
pub struct Concat<P: Parts> {
    parts: P,
    /// The open part; `None` after an error, and when the walk has left the parts.
    open: Option<P::Cursor>,
    /// The index of the open part.
    at: usize,
}

impl<P: Parts> Concat<P> {
    /// Walks `parts`. Nothing is opened yet.
    pub fn new(parts: P) -> Concat<P> {
        Concat {
            parts,
            open: None,
            at: 0,
        }
    }

    /// The cursor of the open part.
    #[inline]
    pub fn part(&self) -> Option<&P::Cursor> {
        self.open.as_ref()
    }

    /// Goes to part `i`, moves there by `place`, and on to the first entry behind it.
    fn forward(
        &mut self,
        mut i: usize,
        place: impl FnOnce(&mut P::Cursor) -> Result<()>,
    ) -> Result<()> {
        if i < self.parts.count() {
            self.enter(i, place)?;
        }
        while i < self.parts.count() {
            if self.valid() {
                return Ok(());
            }
            i += 1;
            if i < self.parts.count() {
                self.enter(i, P::Cursor::first)?;
            }
        }
        self.open = None;
        Ok(())
    }

    /// Goes to the last of the first `end` parts, moves there by `place`, and on to the last entry
    /// before it.
    fn backward(
        &mut self,
        end: usize,
        place: impl FnOnce(&mut P::Cursor) -> Result<()>,
    ) -> Result<()> {
        let mut i = end;
        if 0 < i {
            self.enter(i - 1, place)?;
        }
        while 0 < i {
            if self.valid() {
                return Ok(());
            }
            i -= 1;
            if 0 < i {
                self.enter(i - 1, P::Cursor::last)?;
            }
        }
        self.open = None;
        Ok(())
    }

    fn enter(&mut self, i: usize, place: impl FnOnce(&mut P::Cursor) -> Result<()>) -> Result<()> {
        if self.at != i {
            self.open = None;
        }
        let placed = match &mut self.open {
            Some(cursor) => place(cursor),
            None => {
                self.at = i;
                place(self.open.insert(self.parts.open(i)?))
            }
        };
        if placed.is_err() {
            // On an error nothing stays open, so the cursor is not valid.
            self.open = None;
        }
        placed
    }

    #[cold]
    fn failed(&mut self, result: Result<()>) -> Result<()> {
        self.open = None;
        result
    }
}

impl<P: Parts> Cursor for Concat<P> {
    fn first(&mut self) -> Result<()> {
        self.forward(0, P::Cursor::first)
    }

    fn last(&mut self) -> Result<()> {
        self.backward(self.parts.count(), P::Cursor::last)
    }

    fn seek(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        let i = self.parts.lower_bound(key);
        self.forward(i, |cursor| cursor.seek(key, tag))
    }

    fn seek_for_prev(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        let i = self.parts.lower_bound(key);
        if i < self.parts.count() && !self.parts.starts_after(i, key) {
            self.backward(i + 1, |cursor| cursor.seek_for_prev(key, tag))
        } else {
            self.backward(i, P::Cursor::last)
        }
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        let Some(cursor) = &mut self.open else {
            return Ok(());
        };
        let moved = cursor.next();
        if moved.is_err() {
            return self.failed(moved);
        }
        if cursor.valid() {
            return Ok(());
        }
        self.forward(self.at + 1, P::Cursor::first)
    }

    #[inline]
    fn prev(&mut self) -> Result<()> {
        let Some(cursor) = &mut self.open else {
            return Ok(());
        };
        let moved = cursor.prev();
        if moved.is_err() {
            return self.failed(moved);
        }
        if cursor.valid() {
            return Ok(());
        }
        self.backward(self.at, P::Cursor::last)
    }

    /// Parts that are older than `before` are left, or not even opened.
    fn pass(&mut self, end: Option<&[u8]>, before: SeqNo) -> Result<()> {
        let is_old = |i| i < self.parts.count() && self.parts.newest(i) < before;
        if !is_old(self.at) {
            return Ok(());
        }
        // The part that holds the end, or begins behind it.
        let last = end.map_or(self.parts.count(), |end| self.parts.lower_bound(end));
        let passed = (self.at..last).take_while(|i| is_old(*i)).count();
        let i = self.at + passed;
        match end {
            Some(end) if i == last && is_old(i) => self.forward(i, |c| c.seek(end, Tag::MAX)),
            _ => self.forward(i, P::Cursor::first),
        }
    }

    fn pass_back(&mut self, start: &[u8], before: SeqNo) -> Result<()> {
        let is_old = |i| self.parts.newest(i) < before;
        if !is_old(self.at) {
            return Ok(());
        }
        let first = self.parts.lower_bound(start);
        let passed = (first..self.at + 1)
            .rev()
            .take_while(|i| is_old(*i))
            .count();
        match self.at.checked_sub(passed) {
            Some(i) if first <= i => self.backward(i + 1, P::Cursor::last),
            _ => self.seek_for_prev(start, Tag::MAX),
        }
    }

    /// All versions of a key are in one part.
    #[inline]
    fn is_newest(&self) -> bool {
        self.open.as_ref().is_some_and(P::Cursor::is_newest)
    }

    #[inline]
    fn valid(&self) -> bool {
        self.open.as_ref().is_some_and(P::Cursor::valid)
    }

    #[inline]
    fn key(&self) -> &[u8] {
        self.open.as_ref().map_or(&[], P::Cursor::key)
    }

    #[inline]
    fn tag(&self) -> Tag {
        self.open.as_ref().map_or(Tag::MIN, P::Cursor::tag)
    }

    #[inline]
    fn value(&self) -> &[u8] {
        self.open.as_ref().map_or(&[], P::Cursor::value)
    }

    #[inline(always)]
    fn peek(&self) -> Option<Peek> {
        self.open.as_ref()?.peek()
    }

    #[inline]
    fn entry(&self) -> (&[u8], &[u8]) {
        self.open.as_ref().map_or((&[], &[]), P::Cursor::entry)
    }
}
