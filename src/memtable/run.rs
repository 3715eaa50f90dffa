//! The order: sorted arrays of heads and entries, merged when scans would otherwise meet too many
//! of them.
//!
//! Invariant: a run is strictly ascending, and no entry is in two runs of one memtable's state.
//! Runs never change; cursors keep the ones they started with. Threads: any.

use super::arena::{Place, Placed};
use crate::base::key::compare;
use crate::base::sync::Arc;
use std::cmp::Ordering::{self, Equal, Less};
use std::ops::Bound;

/// More runs than this are merged before a cursor walks them.
pub(super) const RUNS_MAX: usize = 8;

#[derive(Debug)]
pub(super) struct Run {
    entries: Box<[Placed]>,
}

impl Run {
    /// A run of entries that are sorted already.
    fn from_sorted(entries: Vec<Placed>) -> Run {
        debug_assert!(entries.is_sorted_by(|a, b| a < b), "a run is ascending");
        Run {
            entries: entries.into_boxed_slice(),
        }
    }

    /// Sorts the entries, which makes them a run.
    pub(super) fn from_unsorted(mut entries: Vec<Placed>) -> Run {
        entries.sort_unstable();
        Run::from_sorted(entries)
    }

    /// One run with the entries of all.
    pub(super) fn merged(runs: &[Arc<Run>]) -> Run {
        let mut all = Vec::with_capacity(runs.iter().map(|run| run.len()).sum());
        for run in runs {
            all.extend_from_slice(&run.entries);
        }
        // The stable sort finds ascending stretches and merges them: this is a merge of the runs.
        all.sort();
        Run::from_sorted(all)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    #[inline]
    pub(super) fn get(&self, position: usize) -> Option<Placed> {
        self.entries.get(position).copied()
    }

    /// The number of entries that lie before `bound`, taken as the start of what is sought.
    #[inline]
    pub(super) fn before(&self, bound: Bound<&dyn Place>) -> usize {
        match bound {
            Bound::Unbounded => 0,
            Bound::Included(place) => self.count(place, Less),
            Bound::Excluded(place) => self.count(place, Equal),
        }
    }

    /// The number of entries up to `bound`, taken as the end of what is sought.
    #[inline]
    pub(super) fn up_to(&self, bound: Bound<&dyn Place>) -> usize {
        match bound {
            Bound::Unbounded => self.len(),
            Bound::Included(place) => self.count(place, Equal),
            Bound::Excluded(place) => self.count(place, Less),
        }
    }

    /// How many entries compare as `most` or less with `place`.
    fn count(&self, place: &dyn Place, most: Ordering) -> usize {
        let head = place.head();
        self.entries.partition_point(|entry| {
            let order = entry.head().cmp(&head);
            order.then_with(|| compare(entry.key(), entry.tag(), place.key(), place.tag())) <= most
        })
    }
}

/// From which run on to merge: from the first one that is at most twice as long as all behind it.
///
/// The runs before it are more than twice as long each as all that follows, so there are few of
/// them; and an entry takes part in a merge only when its run grows by half at least.
pub(super) fn merge_start(runs: &[Arc<Run>]) -> usize {
    let mut behind: usize = runs.iter().map(|run| run.len()).sum();
    for (i, run) in runs.iter().enumerate() {
        behind -= run.len();
        if run.len() <= 2 * behind {
            return i;
        }
    }
    runs.len()
}
