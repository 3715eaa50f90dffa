//! Walks a memtable: a merge of its runs, both ways.
//!
//! A cursor keeps the runs that were there when it was made; all entries of that moment are in
//! them, each once.
//!
//! There are few sources (runs above 8 are merged before), so the next entry is chosen by a plain
//! pass over their heads, and only when the current source has passed its nearest rival.
//! A change of direction seeks again in every source. A step allocates nothing.
//!
//! Invariant: while valid, `current` is the top of source `winner`, every other top lies beyond it
//! in `direction`, and `rival` is the nearest of those. Threads: one at a time.

use super::Memtable;
use super::arena::{Place, Placed, Probe};
use super::run::Run;
use crate::base::cursor::Cursor;
use crate::base::error::Result;
use crate::base::sync::Arc;
use crate::base::types::Tag;
use std::ops::Bound::{self, Excluded, Included, Unbounded};

/// How far ahead entries of runs are brought into the cache.
const PREFETCH_ENTRIES: usize = 8;

/// Walks a memtable both ways. 'static, Send.
#[derive(Debug)]
pub struct MemtableCursor {
    sources: Vec<Source>,
    direction: Direction,
    winner: usize,
    current: Option<Placed>,
    rival: Option<Placed>,
    memtable: Arc<Memtable>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

impl Direction {
    /// True when `a` comes before `b` on the way.
    #[inline]
    fn meets_first(self, a: &Placed, b: &Placed) -> bool {
        match self {
            Direction::Up => a < b,
            Direction::Down => a > b,
        }
    }
}

/// A run, and where the walk is in it.
#[derive(Debug)]
struct Source {
    run: Arc<Run>,
    /// Position of the top; one that the run does not have if there is none.
    position: usize,
    top: Option<Placed>,
}

impl MemtableCursor {
    pub(super) fn new(memtable: Arc<Memtable>, runs: &[Arc<Run>]) -> MemtableCursor {
        let sources = runs.iter().map(|run| Source {
            run: Arc::clone(run),
            position: run.len(),
            top: None,
        });
        MemtableCursor {
            sources: sources.collect(),
            direction: Direction::Up,
            winner: 0,
            current: None,
            rival: None,
            memtable,
        }
    }

    /// To the first entry within `bound` on the way in `direction`.
    fn position(&mut self, direction: Direction, bound: Bound<&dyn Place>) {
        self.direction = direction;
        for source in &mut self.sources {
            source.position(direction, bound);
        }
        self.pick();
    }

    fn search(&mut self, direction: Direction, key: &[u8], tag: Tag) {
        let probe: Probe<'_> = self.memtable.heads.probe(key, tag);
        self.position(direction, Included(&probe));
    }

    #[inline]
    fn step(&mut self, direction: Direction) {
        let Some(here) = self.current else {
            debug_assert!(false, "a step needs a valid cursor");
            return;
        };
        if direction != self.direction {
            return self.position(direction, Excluded(&here));
        }
        let Some(source) = self.sources.get_mut(self.winner) else {
            return;
        };
        source.step(direction);
        match (&source.top, &self.rival) {
            (Some(top), None) => self.current = Some(*top),
            (Some(top), Some(rival)) if direction.meets_first(top, rival) => {
                self.current = Some(*top);
            }
            _ => self.pick(),
        }
        debug_assert!(
            self.current
                .is_none_or(|now| direction.meets_first(&here, &now)),
            "a cursor never repeats or goes back"
        );
    }

    /// Finds the winner and its rival among the tops.
    fn pick(&mut self) {
        let direction = self.direction;
        self.current = None;
        self.rival = None;
        for (i, source) in self.sources.iter().enumerate() {
            let Some(top) = source.top else { continue };
            match self.current {
                Some(best) if direction.meets_first(&best, &top) => {
                    if self.rival.is_none_or(|r| direction.meets_first(&top, &r)) {
                        self.rival = Some(top);
                    }
                }
                best => {
                    self.rival = best;
                    self.current = Some(top);
                    self.winner = i;
                }
            }
        }
    }

    #[inline]
    fn here(&self) -> Placed {
        self.current.expect("the cursor is valid")
    }
}

impl Source {
    fn position(&mut self, direction: Direction, bound: Bound<&dyn Place>) {
        self.position = match direction {
            Direction::Up => self.run.before(bound),
            // None before the first: wraps to a position that no run has.
            Direction::Down => self.run.up_to(bound).wrapping_sub(1),
        };
        self.top = self.run.get(self.position);
    }

    #[inline]
    fn step(&mut self, direction: Direction) {
        let ahead = match direction {
            Direction::Up => {
                self.position += 1;
                self.position + PREFETCH_ENTRIES
            }
            Direction::Down => {
                self.position = self.position.wrapping_sub(1);
                self.position.wrapping_sub(PREFETCH_ENTRIES)
            }
        };
        if let Some(placed) = self.run.get(ahead) {
            placed.entry.prefetch();
        }
        self.top = self.run.get(self.position);
    }
}

impl Cursor for MemtableCursor {
    fn first(&mut self) -> Result<()> {
        self.position(Direction::Up, Unbounded);
        Ok(())
    }
    fn last(&mut self) -> Result<()> {
        self.position(Direction::Down, Unbounded);
        Ok(())
    }
    fn seek(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        self.search(Direction::Up, key, tag);
        Ok(())
    }
    fn seek_for_prev(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        self.search(Direction::Down, key, tag);
        Ok(())
    }
    #[inline]
    fn next(&mut self) -> Result<()> {
        self.step(Direction::Up);
        Ok(())
    }
    #[inline]
    fn prev(&mut self) -> Result<()> {
        self.step(Direction::Down);
        Ok(())
    }
    #[inline]
    fn valid(&self) -> bool {
        self.current.is_some()
    }
    #[inline]
    fn key(&self) -> &[u8] {
        self.here().entry.key(&self.memtable.arena)
    }
    #[inline]
    fn tag(&self) -> Tag {
        self.here().entry.tag(&self.memtable.arena)
    }
    #[inline]
    fn value(&self) -> &[u8] {
        self.here().entry.value(&self.memtable.arena)
    }
}

/// Walks a memtable that takes no more writes, over one run of all its entries. 'static, Send.
///
/// Entries are brought into the cache 8 ahead. Every move works, `first` and `next` are what a
/// flush needs.
#[derive(Debug)]
pub struct DrainCursor(pub(super) MemtableCursor);

impl Cursor for DrainCursor {
    fn first(&mut self) -> Result<()> {
        self.0.first()
    }
    fn last(&mut self) -> Result<()> {
        self.0.last()
    }
    fn seek(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        self.0.seek(key, tag)
    }
    fn seek_for_prev(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        self.0.seek_for_prev(key, tag)
    }
    #[inline]
    fn next(&mut self) -> Result<()> {
        self.0.next()
    }
    #[inline]
    fn prev(&mut self) -> Result<()> {
        self.0.prev()
    }
    #[inline]
    fn valid(&self) -> bool {
        self.0.valid()
    }
    #[inline]
    fn key(&self) -> &[u8] {
        self.0.key()
    }
    #[inline]
    fn tag(&self) -> Tag {
        self.0.tag()
    }
    #[inline]
    fn value(&self) -> &[u8] {
        self.0.value()
    }
}
