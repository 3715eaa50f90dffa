//! How a tree's view is replaced, so that no reader ever finds a gap.
//!
//! ```text
//! rotate    active, [b, c], version    -> fresh, [active, b, c], version
//! refresh   active, [b, c], version    -> active, [b], version with the table of c
//! ```
//! The view is replaced only under `waiting`, in one store, and a refresh asks for the newest
//! version under the same lock: a flush, a rotation and a compaction never undo each other. It is
//! *read* without the lock. A compaction that ends between a flush's edit and its refresh shows the
//! memtable and its table together: the same entries, of which readers take one (merges that the
//! flush put together among them: read/operands.rs).
//!
//! Invariants: I1 (every entry with a visible number is in the view that a reader loads, because
//! the view is in place before the first entry that needs it is published), I2.
//! Threads: any; `rotate` is called under the database's write lock.

use crate::base::sync::{Arc, ArcSwap, Guard, Mutex};
use crate::base::types::FileId;
use std::collections::VecDeque;

/// A view, as far as replacing it goes.
pub(crate) trait Layers {
    /// What takes writes, and later waits for its flush.
    type Memtable;
    /// What a flush adds to.
    type Version;

    /// The memtable that takes writes.
    fn active(&self) -> &Arc<Self::Memtable>;

    /// The view with `active` on top of all of this one's memtables.
    fn rotated(&self, active: Arc<Self::Memtable>) -> Self;

    /// The view with another version, without those in `flushed` among the waiting memtables.
    fn refreshed(&self, flushed: &[Arc<Self::Memtable>], version: Self::Version) -> Self;
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Switch<V: Layers> {
    view: ArcSwap<V>,
    waiting: Mutex<Waiting<V::Memtable>>,
}

/// The memtables with the log segment each began in: what holds logs back.
#[derive(Debug)]
struct Waiting<M> {
    active_since: FileId,
    /// Oldest first. The same memtables as the view's, which has them newest first.
    immutables: VecDeque<(Arc<M>, FileId)>,
}

/// True when the memtable itself, not one like it, is in the list.
pub(crate) fn is_one_of<M>(memtable: &Arc<M>, list: &[Arc<M>]) -> bool {
    list.iter().any(|other| Arc::ptr_eq(memtable, other))
}

impl<V: Layers> Switch<V> {
    /// The view, whose active memtable has records from segment `since` on.
    pub(crate) fn new(view: V, since: FileId) -> Self {
        Switch {
            view: ArcSwap::from_pointee(view),
            waiting: Mutex::new(Waiting {
                active_since: since,
                immutables: VecDeque::new(),
            }),
        }
    }

    /// The view, for a short while.
    #[inline]
    pub(crate) fn view(&self) -> Guard<Arc<V>> {
        self.view.load()
    }

    /// The view, for as long as one wants.
    pub(crate) fn view_owned(&self) -> Arc<V> {
        self.view.load_full()
    }

    /// Puts the memtable of `successor` on top, whose first record is in `segment` or later; does
    /// nothing but note the segment when that is `None`. True when rotated.
    pub(crate) fn rotate(
        &self,
        segment: FileId,
        successor: impl FnOnce(&V::Memtable) -> Option<V::Memtable>,
    ) -> bool {
        let mut waiting = self.waiting.lock();
        let view = self.view.load_full();
        let Some(fresh) = successor(view.active()) else {
            waiting.active_since = waiting.active_since.max(segment);
            return false;
        };
        let since = std::mem::replace(&mut waiting.active_since, segment);
        let full = Arc::clone(view.active());
        waiting.immutables.push_back((full, since));
        self.view.store(Arc::new(view.rotated(Arc::new(fresh))));
        true
    }

    /// Puts the newest version in place, without the memtables in `flushed`. `version` is called
    /// under the lock; when it is `None` (a dropped keyspace) readers keep what they saw.
    pub(crate) fn refresh(
        &self,
        flushed: &[Arc<V::Memtable>],
        version: impl FnOnce() -> Option<V::Version>,
    ) {
        let mut waiting = self.waiting.lock();
        let view = self.view.load_full();
        waiting.immutables.retain(|(m, _)| !is_one_of(m, flushed));
        if let Some(version) = version() {
            self.view.store(Arc::new(view.refreshed(flushed, version)));
        }
    }

    /// Puts a view in place that differs from this one in what no write and no flush changes.
    pub(crate) fn change(&self, changed: impl FnOnce(&V) -> V) {
        let _waiting = self.waiting.lock();
        self.view.store(Arc::new(changed(&self.view.load())));
    }

    /// The oldest waiting memtable, and the log floor once it is flushed.
    pub(crate) fn oldest_waiting(&self) -> Option<(Arc<V::Memtable>, FileId)> {
        let waiting = self.waiting.lock();
        let (memtable, since) = waiting.immutables.front()?;
        let floor = waiting.immutables.get(1).map_or(*since, |(_, next)| *next);
        Some((Arc::clone(memtable), floor))
    }

    /// All waiting memtables, newest first, and the log floor once they are flushed.
    pub(crate) fn all_waiting(&self) -> (Vec<Arc<V::Memtable>>, FileId) {
        let waiting = self.waiting.lock();
        let newest_first = waiting.immutables.iter().rev();
        let memtables = newest_first.map(|(m, _)| Arc::clone(m)).collect();
        (memtables, waiting.active_since)
    }

    /// How many memtables wait for their flush.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.lock().immutables.len()
    }

    /// The oldest log segment that some memtable needs; `holds` says whether the active one does.
    pub(crate) fn oldest_log(&self, holds: impl FnOnce(&V::Memtable) -> bool) -> Option<FileId> {
        let waiting = self.waiting.lock();
        match waiting.immutables.front() {
            Some((_, since)) => Some(*since),
            None => holds(self.view.load().active()).then_some(waiting.active_since),
        }
    }

    /// Forgets what waits, for a dropped keyspace.
    pub(crate) fn discard(&self) {
        self.waiting.lock().immutables.clear();
    }
}
