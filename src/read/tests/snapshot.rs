//! A sequence number is live exactly while somebody holds it.

use super::*;
use crate::base::sync::thread;
use crate::read::SnapshotList;
use std::sync::atomic::{AtomicU64, Ordering};

fn numbers(list: &SnapshotList, visible: u64) -> Vec<u64> {
    let live = list.live(|| SeqNo::new(visible));
    live.into_iter().map(SeqNo::get).collect()
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
            let oldest = list.live(write)[0];
            dropped_below.fetch_max(oldest.get(), Ordering::SeqCst);
        }
        reader.join().unwrap();
    });
    assert_eq!(list.oldest(), None);
}
