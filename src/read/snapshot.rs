//! The instants that somebody still reads at.
//!
//! A count and the earliest time for each number, under one lock. Compaction asks for the live ones
//! before it drops a version; what is visible is read under the same lock, so that a snapshot taken at
//! the same moment is either in the list already or at least as new as everything the job may drop.
//! The same holds for the time, which never goes back: what had expired for all of them, and is
//! expired now, is so for later ones.
//!
//! Invariants: a number is in the map exactly while a guard holds it, 0 (an empty database) included.
//! Threads: any.

use crate::base::sync::{Arc, Mutex};
use crate::base::types::{SeqNo, Time};
use crate::fs::Clock;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// The instant of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    /// Writes up to this one are seen.
    pub seqno: SeqNo,
    /// What has expired then is not; `None`: what the clock says once it is asked.
    pub time: Option<Time>,
}

impl From<SeqNo> for At {
    fn from(seqno: SeqNo) -> At {
        At { seqno, time: None }
    }
}

/// What no reader tells apart any more.
#[derive(Clone, Debug, Default)]
pub struct Horizon {
    /// All numbers that are read at, ascending, without duplicates, and last what is visible now.
    pub snapshots: Vec<SeqNo>,
    /// The newest number that somebody reads at.
    pub newest_reader: Option<SeqNo>,
    /// What expires up to then has expired for everybody; `None`: nothing expires.
    pub expired: Option<Time>,
}

impl Horizon {
    /// Of one reader, for whom nothing has expired.
    pub fn at(seqno: SeqNo) -> Horizon {
        Horizon {
            snapshots: vec![seqno],
            newest_reader: Some(seqno),
            expired: None,
        }
    }

    /// The oldest number that is read at.
    pub fn oldest(&self) -> SeqNo {
        self.snapshots.first().copied().unwrap_or_default()
    }
}

/// The live snapshots of a database: compaction keeps what each of them can see.
#[derive(Clone, Debug, Default)]
pub struct SnapshotList(Arc<List>);

#[derive(Debug, Default)]
struct List {
    live: Mutex<BTreeMap<SeqNo, Readers>>,
    clock: Arc<Clock>,
}

/// Those who read at one number.
#[derive(Debug)]
struct Readers {
    count: usize,
    /// Not after any of theirs; those without one have none.
    time: Time,
}

impl SnapshotList {
    /// Of the database that this is the clock of.
    pub fn new(clock: Arc<Clock>) -> SnapshotList {
        SnapshotList(Arc::new(List {
            live: Mutex::default(),
            clock,
        }))
    }

    /// Registers a snapshot at what `visible` returns, which is called under the list's lock, so
    /// that no job that asked for the `horizon` before can drop what it sees.
    pub fn register(&self, visible: impl FnOnce() -> SeqNo) -> SnapshotGuard {
        self.enter(|clock| At {
            seqno: visible(),
            // After the number: whatever is visible and expires is in the clock's use already.
            time: clock.reading(),
        })
    }

    fn enter(&self, at: impl FnOnce(&Clock) -> At) -> SnapshotGuard {
        let mut live = self.0.live.lock();
        let at = at(&self.0.clock);
        let none = Readers {
            count: 0,
            time: Time::NEVER,
        };
        let readers = live.entry(at.seqno).or_insert(none);
        readers.count += 1;
        readers.time = readers.time.min(at.time.unwrap_or(Time::NEVER));
        drop(live);
        SnapshotGuard {
            list: self.clone(),
            at,
        }
    }

    /// What the live ones, and those to come, cannot tell apart (`visible` is called under the list's
    /// lock).
    pub fn horizon(&self, visible: impl FnOnce() -> SeqNo) -> Horizon {
        let live = self.0.live.lock();
        let visible = visible();
        let now = self.0.clock.reading();
        let mut snapshots: Vec<SeqNo> = live.keys().copied().collect();
        let newest_reader = snapshots.last().copied();
        let earliest = live.values().map(|readers| readers.time).min();
        let expired = now.map(|now| earliest.map_or(now, |time| time.min(now)));
        drop(live);
        debug_assert!(
            snapshots.last().is_none_or(|last| *last <= visible),
            "a snapshot is never newer than what is visible"
        );
        if snapshots.last() != Some(&visible) {
            snapshots.push(visible);
        }
        Horizon {
            snapshots,
            newest_reader,
            expired,
        }
    }

    /// Does `act` while nobody reads at `from` or a later number, and nobody begins to; `None` when
    /// somebody does. Who begins to read waits meanwhile.
    pub fn unless_read<T>(&self, from: SeqNo, act: impl FnOnce() -> T) -> Option<T> {
        let live = self.0.live.lock();
        let is_read = live.range(from..).next().is_some();
        (!is_read).then(act)
    }

    /// The oldest number, and how many snapshots there are.
    pub fn oldest(&self) -> Option<(SeqNo, usize)> {
        let live = self.0.live.lock();
        let (oldest, _) = live.first_key_value()?;
        Some((*oldest, live.values().map(|readers| readers.count).sum()))
    }
}

/// Keeps an instant registered until dropped. Clone registers once more.
#[derive(Debug)]
pub struct SnapshotGuard {
    list: SnapshotList,
    at: At,
}

impl SnapshotGuard {
    /// The number.
    #[inline]
    pub fn seqno(&self) -> SeqNo {
        self.at.seqno
    }

    /// The instant.
    #[inline]
    pub fn at(&self) -> At {
        self.at
    }
}

impl Clone for SnapshotGuard {
    fn clone(&self) -> Self {
        self.list.enter(|_| self.at)
    }
}

impl Drop for SnapshotGuard {
    fn drop(&mut self) {
        let mut live = self.list.0.live.lock();
        match live.entry(self.at.seqno) {
            Entry::Occupied(entry) if entry.get().count == 1 => {
                entry.remove();
            }
            Entry::Occupied(mut entry) => entry.get_mut().count -= 1,
            Entry::Vacant(_) => debug_assert!(false, "a guard's number is in the list"),
        }
    }
}
