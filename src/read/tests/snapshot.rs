//! A sequence number is live exactly while somebody holds it.

use super::*;
use crate::base::sync::Arc;
use crate::base::sync::thread;
use crate::fs::sim::SimFs;
use crate::fs::{Clock, Fs};
use crate::read::SnapshotList;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

fn numbers(list: &SnapshotList, visible: u64) -> Vec<u64> {
    let horizon = list.horizon(|| SeqNo::new(visible));
    horizon.snapshots.into_iter().map(SeqNo::get).collect()
}

/// engines.md bug 1: the snapshot of an empty database is a snapshot like any other.
#[test]
fn a_snapshot_of_nothing_is_live_too() {
    let list = SnapshotList::default();
    assert_eq!(list.oldest(), None);
    let empty = list.register(|| SeqNo::ZERO);
    assert_eq!(numbers(&list, 7), [0, 7]);
    assert_eq!(list.oldest(), Some((SeqNo::ZERO, 1)));
    drop(empty);
    assert_eq!(numbers(&list, 7), [7]);
}

#[test]
fn a_number_stays_until_its_last_guard_goes() {
    let list = SnapshotList::default();
    let a = list.register(|| SeqNo::new(4));
    let b = a.clone();
    let c = list.register(|| SeqNo::new(9));
    assert_eq!((a.seqno(), b.seqno()), (SeqNo::new(4), SeqNo::new(4)));
    assert_eq!(numbers(&list, 9), [4, 9], "what is visible is named once");
    assert_eq!(list.oldest(), Some((SeqNo::new(4), 3)));
    drop(a);
    assert_eq!(numbers(&list, 12), [4, 9, 12]);
    drop(b);
    assert_eq!(numbers(&list, 12), [9, 12]);
    drop(c);
    assert_eq!(list.oldest(), None);
}

/// engines.md bug 2: between reading what is visible and being in the list there is no gap that a
/// job could look into. Jobs drop what nobody at or above the oldest number they were told needs.
#[test]
fn no_job_drops_what_a_snapshot_taken_at_the_same_moment_sees() {
    let list = SnapshotList::default();
    let visible = AtomicU64::new(1);
    let dropped_below = AtomicU64::new(0);
    let write = || SeqNo::new(visible.fetch_add(1, Ordering::SeqCst) + 1);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            for _ in 0..5_000 {
                let guard = list.register(|| SeqNo::new(visible.load(Ordering::SeqCst)));
                for _ in 0..20 {
                    assert!(dropped_below.load(Ordering::SeqCst) <= guard.seqno().get());
                }
            }
        });
        while !reader.is_finished() {
            let oldest = list.horizon(write).oldest();
            dropped_below.fetch_max(oldest.get(), Ordering::SeqCst);
        }
        reader.join().unwrap();
    });
    assert_eq!(list.oldest(), None);
}

/// What has expired for everybody does so by the oldest of their times: nobody's answer changes.
#[test]
fn what_has_expired_for_everybody_is_told_by_the_oldest_reader() {
    let sim = SimFs::new(7);
    let env = Fs::sim(&sim, Path::new("/db")).env();
    let clock = Arc::new(Clock::new(env, None));
    let list = SnapshotList::new(Arc::clone(&clock));
    let expired = || list.horizon(|| SeqNo::new(9)).expired;
    let before = list.register(|| SeqNo::new(4));
    assert_eq!(
        (before.at().time, expired()),
        (None, None),
        "nothing expires"
    );
    clock.begin_use();
    let first = clock.now();
    let a = list.register(|| SeqNo::new(5));
    sim.advance(Duration::from_secs(1));
    let b = list.register(|| SeqNo::new(5));
    sim.advance(Duration::from_secs(1));
    assert_eq!(
        a.clone().at().time,
        Some(first),
        "a clone has the time of its source"
    );
    assert_eq!(expired(), Some(first));
    assert_eq!(list.horizon(|| SeqNo::new(9)).snapshots.len(), 3, "4, 5, 9");
    drop(a);
    assert_eq!(expired(), Some(first), "as long as anybody reads at 5");
    let c = list.register(|| SeqNo::new(6));
    drop(b);
    assert_eq!(expired(), Some(c.at().time.unwrap()));
    drop(c);
    sim.advance(Duration::from_secs(1));
    assert_eq!(expired(), Some(clock.now()));
}
