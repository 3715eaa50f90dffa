//! The two faces of a scan: a cursor that lends, and an iterator that gives.
//!
//! Both own their view, their registered sequence number and their bounds, and open nothing before
//! the first move: making one cannot fail and costs two reference counts. An iterator is a cursor
//! at each end, the back one made when it is first asked for; each stands on what it gave last,
//! and where they meet both have ended.
//!
//! Invariants: a cursor that has failed shows no entry and repeats its error until it is
//! positioned anew; an iterator gives its error once and then nothing. An iterator that has ended
//! holds nothing any more. Threads: 'static and `Send`; one user at a time.

use super::bounds::Bounds;
use super::merge::Merge;
use super::snapshot::SnapshotGuard;
use super::source::Source;
use super::view::View;
use super::visible::Visible;
use crate::base::error::{Error, Result};
use crate::base::slice::Slice;
use crate::base::sync::Arc;
use std::iter::FusedIterator;
use std::ops::Bound;

/// Values at least this long are given as slices that point into their table; a shorter one costs
/// less to copy than the table's reference count.
const PIN_BYTES_MIN: usize = 512;

/// A position among the entries of a keyspace at one instant, within bounds.
///
/// Moves in both directions and in any mix. What [`entry`](Self::entry) lends lives until the next
/// move, and no move allocates, so this is the cheapest way to scan. Not positioned at first:
/// then `next` means `first`, and `prev` means `last`. Past the end `prev` lands on the last
/// entry; before the start `next` lands on the first. Seeks outside of the bounds stop at them.
///
/// After `Db::close` its moves give `Closed`.
///
/// After an error there is no entry, and `next` and `prev` repeat the error until one of `seek`,
/// `seek_for_prev`, `first` and `last` succeeds: what cannot be read is never passed over.
#[derive(Debug)]
pub struct RangeCursor {
    view: Arc<View>,
    at: SnapshotGuard,
    bounds: Bounds,
    entries: Option<Visible<Merge<Source>>>,
    error: Option<Error>,
    /// See [`Self::limit_steps`].
    steps_max: usize,
}

impl RangeCursor {
    /// Not positioned.
    pub fn new(
        view: Arc<View>,
        at: SnapshotGuard,
        bounds: (Bound<Vec<u8>>, Bound<Vec<u8>>),
    ) -> RangeCursor {
        RangeCursor {
            view,
            at,
            bounds: Bounds::new(bounds.0, bounds.1),
            entries: None,
            error: None,
            steps_max: usize::MAX,
        }
    }

    /// From now on a move passes at most `steps` entries that it does not show (deleted, superseded,
    /// expired, or too new), and then pauses. `None`, which it is at first: as many as there are. 0
    /// counts as 1, and a key is passed with all its versions, which are up to 32 steps.
    ///
    /// A cursor that has paused stands between two entries: it is not valid, and
    /// [`paused_at`](Self::paused_at) tells where. `next` and `prev` go on from there.
    ///
    /// ```
    /// # fn main() -> alluvium::Result<()> {
    /// # let dir = std::env::temp_dir().join(format!("alluvium-steps-{}", std::process::id()));
    /// # let db = alluvium::Db::open(&dir)?;
    /// for n in 0..1000u32 {
    ///     db.put(n.to_be_bytes(), "x")?;
    ///     db.delete(n.to_be_bytes())?;
    /// }
    /// let mut cursor = db.cursor();
    /// cursor.limit_steps(Some(100));
    /// let mut pauses = 0;
    /// cursor.first()?;
    /// while cursor.paused_at().is_some() {
    ///     pauses += 1; // time for something else
    ///     cursor.next()?;
    /// }
    /// assert!(!cursor.is_valid(), "there is no entry");
    /// assert!(8 < pauses);
    /// # drop(cursor);
    /// # db.close()?;
    /// # std::fs::remove_dir_all(&dir).ok();
    /// # Ok(())
    /// # }
    /// ```
    pub fn limit_steps(&mut self, steps: Option<usize>) {
        self.steps_max = steps.unwrap_or(usize::MAX);
        if let Some(entries) = &mut self.entries {
            entries.limit_steps(self.steps_max);
        }
    }

    /// The key that the cursor would look at next, if its last move has paused
    /// ([`limit_steps`](Self::limit_steps)).
    ///
    /// Another cursor goes on where this one has paused by a `seek` to that key, or backward by
    /// `seek_for_prev`: also later, and at another snapshot.
    pub fn paused_at(&self) -> Option<&[u8]> {
        self.entries.as_ref()?.paused_at()
    }

    /// To the first entry.
    ///
    /// # Errors
    /// `Corruption` or `Io` when a table cannot be read; so for every move.
    pub fn first(&mut self) -> Result<()> {
        self.position(Visible::first)
    }

    /// To the last entry.
    ///
    /// # Errors
    /// As for [`first`](Self::first).
    pub fn last(&mut self) -> Result<()> {
        self.position(Visible::last)
    }

    /// To the first entry whose key is at or after `key`.
    ///
    /// # Errors
    /// As for [`first`](Self::first).
    pub fn seek(&mut self, key: impl AsRef<[u8]>) -> Result<()> {
        self.position(|entries| entries.seek(key.as_ref()))
    }

    /// To the last entry whose key is at or before `key`.
    ///
    /// # Errors
    /// As for [`first`](Self::first).
    pub fn seek_for_prev(&mut self, key: impl AsRef<[u8]>) -> Result<()> {
        self.position(|entries| entries.seek_for_prev(key.as_ref()))
    }

    /// To the next entry; past the end it stays there.
    ///
    /// # Errors
    /// As for [`first`](Self::first); an earlier error is repeated.
    #[inline]
    #[expect(
        clippy::should_implement_trait,
        reason = "a cursor lends, an iterator cannot"
    )]
    pub fn next(&mut self) -> Result<()> {
        self.step(Visible::next)
    }

    /// To the entry before; before the start it stays there.
    ///
    /// # Errors
    /// As for [`first`](Self::first); an earlier error is repeated.
    #[inline]
    pub fn prev(&mut self) -> Result<()> {
        self.step(Visible::prev)
    }

    /// True when the cursor stands on an entry.
    #[inline]
    pub fn is_valid(&self) -> bool {
        self.entries.as_ref().is_some_and(Visible::valid)
    }

    /// The key and the value, borrowed until the next move; `None` when the cursor stands on no
    /// entry.
    #[inline]
    pub fn entry(&self) -> Option<(&[u8], &[u8])> {
        self.entries.as_ref()?.entry()
    }

    /// The key, borrowed until the next move; `None` when the cursor stands on no entry.
    #[inline]
    pub fn key(&self) -> Option<&[u8]> {
        self.entries.as_ref()?.key()
    }

    /// The value, borrowed until the next move; `None` when the cursor stands on no entry.
    ///
    /// # Errors
    /// The error of the last move, if it failed.
    #[inline]
    pub fn value(&self) -> Result<Option<&[u8]>> {
        match &self.error {
            Some(error) => Err(error.clone()),
            None => Ok(self.entry().map(|(_, value)| value)),
        }
    }

    /// Another cursor over the same entries. Not positioned.
    fn twin(&self) -> RangeCursor {
        RangeCursor {
            view: Arc::clone(&self.view),
            at: self.at.clone(),
            bounds: self.bounds.clone(),
            entries: None,
            error: None,
            steps_max: self.steps_max,
        }
    }

    /// The current entry as slices of their own.
    fn to_slices(&self) -> Option<(Slice, Slice)> {
        let entries = self.entries.as_ref()?;
        let (key, value) = entries.entry()?;
        let value = match entries.on_entry() {
            Some(merge) if PIN_BYTES_MIN <= value.len() => merge.source().value_slice(),
            _ => Slice::copy(value),
        };
        Some((Slice::copy(key), value))
    }

    #[inline]
    fn step(&mut self, act: impl FnOnce(&mut Visible<Merge<Source>>) -> Result<()>) -> Result<()> {
        match &mut self.entries {
            Some(entries) if self.error.is_none() && !self.view.is_closed() => {
                let moved = act(entries);
                if let Err(error) = &moved {
                    self.error = Some(error.clone());
                }
                moved
            }
            _ => self.step_slowly(act),
        }
    }

    #[cold]
    fn step_slowly(
        &mut self,
        act: impl FnOnce(&mut Visible<Merge<Source>>) -> Result<()>,
    ) -> Result<()> {
        match &self.error {
            Some(error) => Err(error.clone()),
            None => self.position(act),
        }
    }

    fn position(
        &mut self,
        act: impl FnOnce(&mut Visible<Merge<Source>>) -> Result<()>,
    ) -> Result<()> {
        self.view.counters.of_thread().seeks.add(1);
        self.error = None;
        let moved = match self.view.check_open() {
            Ok(()) => self.open().and_then(act),
            Err(closed) => {
                self.entries = None;
                Err(closed)
            }
        };
        if let Err(error) = &moved {
            self.error = Some(error.clone());
        }
        moved
    }

    fn open(&mut self) -> Result<&mut Visible<Merge<Source>>> {
        if self.entries.is_none() {
            let sources = self.view.sources(&self.bounds)?;
            let merge = Merge::new(sources);
            let (bounds, folding) = (self.bounds.clone(), self.view.folding.clone());
            let deleted = self.view.all_deleted();
            let clock = Arc::clone(&self.view.clock);
            let mut entries = Visible::new(merge, self.at.at(), bounds, folding, deleted, clock);
            entries.limit_steps(self.steps_max);
            self.entries = Some(entries);
        }
        Ok(self.entries.as_mut().expect("it was made just now"))
    }
}

/// The entries of a range at one instant, as slices of their own, from both ends.
///
/// Ascending by key. Yields an error once and then ends. Nothing is read before the first `next`.
/// Keys and short values are copied; values of 512 bytes and more point into their table where
/// they can, and keep it alive.
#[derive(Debug)]
pub struct Iter {
    /// Stands on what `next` gave last; `None` when the iterator has ended.
    front: Option<RangeCursor>,
    /// Stands on what `next_back` gave last, once it was called.
    back: Option<RangeCursor>,
    /// To be yielded before anything else.
    failed: Option<Error>,
}

impl Iter {
    /// Opens lazily: nothing is read before the first `next`, so an error of opening is its item.
    pub fn new(
        view: Arc<View>,
        at: SnapshotGuard,
        bounds: (Bound<Vec<u8>>, Bound<Vec<u8>>),
    ) -> Iter {
        Iter {
            front: Some(RangeCursor::new(view, at, bounds)),
            back: None,
            failed: None,
        }
    }

    /// Yields this error once, then nothing.
    pub fn failed(error: Error) -> Iter {
        Iter {
            front: None,
            back: None,
            failed: Some(error),
        }
    }

    /// Lets go of everything; what is left to say is said.
    #[cold]
    fn end<T>(&mut self, last: Option<T>) -> Option<T> {
        self.front = None;
        self.back = None;
        last
    }
}

/// True when the ends have met: each stands on what it gave last, and the next one from either
/// side was given by the other.
#[inline]
fn met(front: &RangeCursor, back: Option<&RangeCursor>) -> bool {
    match (front.key(), back.and_then(RangeCursor::key)) {
        (Some(front), Some(back)) => back <= front,
        _ => false,
    }
}

impl Iterator for Iter {
    type Item = Result<(Slice, Slice)>;

    fn next(&mut self) -> Option<Self::Item> {
        let Some(front) = &mut self.front else {
            return self.failed.take().map(Err);
        };
        if let Err(error) = front.next() {
            return self.end(Some(Err(error)));
        }
        if met(front, self.back.as_ref()) {
            return self.end(None);
        }
        match front.to_slices() {
            Some(entry) => Some(Ok(entry)),
            None => self.end(None),
        }
    }
}

impl DoubleEndedIterator for Iter {
    fn next_back(&mut self) -> Option<Self::Item> {
        let Some(front) = &self.front else {
            return self.failed.take().map(Err);
        };
        let back = self.back.get_or_insert_with(|| front.twin());
        if let Err(error) = back.prev() {
            return self.end(Some(Err(error)));
        }
        if met(front, Some(back)) {
            return self.end(None);
        }
        match back.to_slices() {
            Some(entry) => Some(Ok(entry)),
            None => self.end(None),
        }
    }
}

impl FusedIterator for Iter {}
