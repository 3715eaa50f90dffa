//! The sequence numbers that somebody still reads at.
//!
//! A count for each number, under one lock. Compaction asks for the live ones before it drops a
//! version; what is visible is read under the same lock, so that a snapshot taken at the same
//! moment is either in the list already or at least as new as everything the job may drop.
//!
//! Invariants: a number is in the map exactly while a guard holds it, 0 (an empty database)
//! included. Threads: any.

use crate::base::sync::{Arc, Mutex};
use crate::base::types::SeqNo;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// The live snapshots of a database: compaction keeps what each of them can see.
#[derive(Clone, Debug, Default)]
pub struct SnapshotList(Arc<Mutex<BTreeMap<SeqNo, usize>>>);

impl SnapshotList {
    /// Registers a snapshot at what `visible` returns, which is called under the list's lock, so
    /// that no job that asked for `live` before can drop what it sees.
    pub fn register(&self, visible: impl FnOnce() -> SeqNo) -> SnapshotGuard {
        let mut live = self.0.lock();
        let seqno = visible();
        *live.entry(seqno).or_default() += 1;
        drop(live);
        SnapshotGuard {
            list: self.clone(),
            seqno,
        }
    }

    /// All live ones, ascending, without duplicates, and last what `visible` returns (called under
    /// the list's lock).
    pub fn live(&self, visible: impl FnOnce() -> SeqNo) -> Vec<SeqNo> {
        let live = self.0.lock();
        let visible = visible();
        let mut all: Vec<SeqNo> = live.keys().copied().collect();
        drop(live);
        debug_assert!(
            all.last().is_none_or(|last| *last <= visible),
            "a snapshot is never newer than what is visible"
        );
        if all.last() != Some(&visible) {
            all.push(visible);
        }
        all
    }

    /// The oldest number, and how many snapshots there are.
    pub fn oldest(&self) -> Option<(SeqNo, usize)> {
        let live = self.0.lock();
        let (oldest, _) = live.first_key_value()?;
        Some((*oldest, live.values().sum()))
    }
}

/// Keeps a sequence number registered until dropped. Clone registers once more.
#[derive(Debug)]
pub struct SnapshotGuard {
    list: SnapshotList,
    seqno: SeqNo,
}

impl SnapshotGuard {
    /// The number.
    #[inline]
    pub fn seqno(&self) -> SeqNo {
        self.seqno
    }
}

impl Clone for SnapshotGuard {
    fn clone(&self) -> Self {
        self.list.register(|| self.seqno)
    }
}

impl Drop for SnapshotGuard {
    fn drop(&mut self) {
        let mut live = self.list.0.lock();
        match live.entry(self.seqno) {
            Entry::Occupied(entry) if *entry.get() == 1 => {
                entry.remove();
            }
            Entry::Occupied(mut entry) => *entry.get_mut() -= 1,
            Entry::Vacant(_) => debug_assert!(false, "a guard's number is in the list"),
        }
    }
}
