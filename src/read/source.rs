//! The three things a scan walks, as one enum: a step is a branch, never a call through a table of
//! functions.
//!
//! A run clipped to the tables that a scan's bounds touch is one source; when that is one table it
//! is walked as such.

use super::bounds::Bounds;
use super::concat::{Concat, Parts};
use crate::base::cursor::{Cursor, Peek};
use crate::base::error::Result;
use crate::base::slice::Slice;
use crate::base::sync::Arc;
use crate::base::types::{SeqNo, Tag};
use crate::memtable::MemtableCursor;
use crate::table::TableCursor;
use crate::version::{SortedRun, TableEntry};
use std::ops::{Bound, Range};

/// One sorted sequence of a view.
#[derive(Debug)]
pub enum Source {
    /// A memtable.
    Memtable(MemtableCursor),
    /// A single table, and its highest number.
    Table(TableCursor, SeqNo),
    /// The tables of a run.
    Concat(Concat<RunPart>),
}

/// Those tables of a run that a scan may touch.
#[derive(Debug)]
pub struct RunPart {
    run: SortedRun,
    tables: Range<usize>,
}

impl RunPart {
    pub(super) fn new(run: &SortedRun, bounds: &Bounds) -> RunPart {
        let start = match bounds.lower() {
            Bound::Unbounded => 0,
            Bound::Included(key) | Bound::Excluded(key) => run.lower_bound(key),
        };
        let end = match bounds.upper() {
            Bound::Unbounded => run.tables.len(),
            Bound::Included(key) | Bound::Excluded(key) => {
                let i = run.lower_bound(key);
                let touches = run
                    .tables
                    .get(i)
                    .is_some_and(|table| bounds.before_upper(&table.meta().summary.smallest));
                i + usize::from(touches)
            }
        };
        RunPart {
            run: run.clone(),
            tables: start..end.max(start),
        }
    }

    /// The tables, in order.
    pub(super) fn tables(&self) -> &[Arc<TableEntry>] {
        &self.run.tables[self.tables.clone()]
    }
}

impl Parts for RunPart {
    type Cursor = TableCursor;

    fn count(&self) -> usize {
        self.tables.len()
    }

    fn lower_bound(&self, key: &[u8]) -> usize {
        let i = self.run.lower_bound(key);
        i.clamp(self.tables.start, self.tables.end) - self.tables.start
    }

    fn starts_after(&self, i: usize, key: &[u8]) -> bool {
        let table = &self.run.tables[self.tables.start + i];
        key < table.meta().summary.smallest.as_slice()
    }

    fn open(&self, i: usize) -> Result<TableCursor> {
        Ok(self.run.tables[self.tables.start + i].table()?.cursor())
    }

    fn newest(&self, i: usize) -> SeqNo {
        let table = &self.run.tables[self.tables.start + i];
        table.meta().summary.seqnos.1
    }
}

impl Source {
    /// What of `run` lies within `bounds`: nothing, a table, or several.
    ///
    /// # Errors
    /// Those of opening a single table; several are opened when the walk comes to them.
    pub fn of_run(run: &SortedRun, bounds: &Bounds) -> Result<Option<Source>> {
        let part = RunPart::new(run, bounds);
        Ok(match part.count() {
            0 => None,
            1 => Some(Source::Table(part.open(0)?, part.newest(0))),
            _ => Some(Source::Concat(Concat::new(part))),
        })
    }

    /// The current value as a slice of its own, pinned to its table where that is cheaper than a
    /// copy. Only while `valid()`.
    pub fn value_slice(&self) -> Slice {
        let table = match self {
            Source::Memtable(_) => None,
            Source::Table(cursor, _) => Some(cursor),
            Source::Concat(cursor) => cursor.part(),
        };
        match table {
            Some(cursor) => cursor.value_slice(),
            None => Slice::copy(self.value()),
        }
    }
}

/// To the first entry at or behind `end`; behind all, if there is none.
pub(super) fn skip_to(cursor: &mut impl Cursor, end: Option<&[u8]>) -> Result<()> {
    match end {
        Some(end) => cursor.seek(end, Tag::MAX),
        None => {
            cursor.last()?;
            cursor.next()
        }
    }
}

macro_rules! each {
    ($source:expr, $cursor:ident => $act:expr) => {
        match $source {
            Source::Memtable($cursor) => $act,
            Source::Table($cursor, _) => $act,
            Source::Concat($cursor) => $act,
        }
    };
}

impl Cursor for Source {
    fn first(&mut self) -> Result<()> {
        each!(self, cursor => cursor.first())
    }

    fn last(&mut self) -> Result<()> {
        each!(self, cursor => cursor.last())
    }

    fn seek(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        each!(self, cursor => cursor.seek(key, tag))
    }

    fn seek_for_prev(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        each!(self, cursor => cursor.seek_for_prev(key, tag))
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        each!(self, cursor => cursor.next())
    }

    #[inline]
    fn prev(&mut self) -> Result<()> {
        each!(self, cursor => cursor.prev())
    }

    fn pass(&mut self, end: Option<&[u8]>, before: SeqNo) -> Result<()> {
        match self {
            Source::Table(cursor, newest) if *newest < before => skip_to(cursor, end),
            Source::Concat(cursor) => cursor.pass(end, before),
            _ => Ok(()),
        }
    }

    fn pass_back(&mut self, start: &[u8], before: SeqNo) -> Result<()> {
        match self {
            Source::Table(cursor, newest) if *newest < before => {
                cursor.seek_for_prev(start, Tag::MAX)
            }
            Source::Concat(cursor) => cursor.pass_back(start, before),
            _ => Ok(()),
        }
    }

    #[inline]
    fn is_newest(&self) -> bool {
        each!(self, cursor => cursor.is_newest())
    }

    #[inline]
    fn valid(&self) -> bool {
        each!(self, cursor => cursor.valid())
    }

    #[inline]
    fn key(&self) -> &[u8] {
        each!(self, cursor => cursor.key())
    }

    #[inline]
    fn tag(&self) -> Tag {
        each!(self, cursor => cursor.tag())
    }

    #[inline]
    fn value(&self) -> &[u8] {
        each!(self, cursor => cursor.value())
    }

    #[inline(always)]
    fn peek(&self) -> Option<Peek> {
        each!(self, cursor => cursor.peek())
    }

    #[inline]
    fn entry(&self) -> (&[u8], &[u8]) {
        each!(self, cursor => cursor.entry())
    }
}
