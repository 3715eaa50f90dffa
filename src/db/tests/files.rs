//! What may go: files when nobody holds them, versions of keys when no snapshot sees them.

use super::{fails, holds};
use crate::base::sync::{ArcSwap, thread};
use crate::base::types::{FileId, SeqNo};
use crate::db::published::Published;
use crate::read::SnapshotList;
use crate::version::holdings::{Holding, Holdings};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};

/// How a file is removed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Removal {
    /// When it is on the dead list.
    WhenDead,
    /// As soon as the edit is durable.
    AtOnce,
    /// The books are asked whether it is held: too late for who is about to hold it.
    WhenNotHeld,
}

/// An edit replaces file 1 by file 2 while a reader looks at the version and a sweep runs.
fn a_file_is_replaced(removal: Removal) {
    let holdings = std::sync::Arc::new(Holdings::default());
    // The count of holders is loom's, in the place of std's.
    let first = Arc::new(Holding::new(&holdings, FileId(1)));
    let version = Arc::new(ArcSwap::from_pointee((1usize, first)));
    let removed: Arc<[AtomicU64; 3]> = Arc::new(Default::default());
    let remove = |removed: &[AtomicU64; 3], file: FileId| {
        removed[file.0 as usize].fetch_add(1, Ordering::Relaxed)
    };
    let reader = {
        let (version, removed) = (Arc::clone(&version), Arc::clone(&removed));
        thread::spawn(move || {
            let view = version.load_full();
            let gone = removed[view.0].load(Ordering::Relaxed);
            assert_eq!(gone, 0, "a file that a reader holds is gone");
        })
    };
    let edit = {
        let (version, removed) = (Arc::clone(&version), Arc::clone(&removed));
        let holdings = std::sync::Arc::clone(&holdings);
        thread::spawn(move || {
            let second = Arc::new(Holding::new(&holdings, FileId(2)));
            let old = Arc::clone(&version.load().1);
            version.store(std::sync::Arc::new((2, second)));
            old.retire();
            drop(old);
            match removal {
                Removal::WhenDead => {}
                Removal::AtOnce => _ = remove(&removed, FileId(1)),
                Removal::WhenNotHeld => {
                    if removed[1].load(Ordering::Relaxed) == 0 {
                        remove(&removed, FileId(1));
                    }
                }
            }
        })
    };
    for file in holdings.take_dead() {
        remove(&removed, file);
    }
    reader.join().expect("the reader returns");
    edit.join().expect("the edit returns");
    for file in holdings.take_dead() {
        remove(&removed, file);
    }
    let times = removed[1].load(Ordering::Relaxed);
    assert_eq!(times, 1, "a dead file is removed, once");
    assert_eq!(removed[2].load(Ordering::Relaxed), 0, "the new one stays");
    assert!(!holdings.holds(FileId(1)) && holdings.holds(FileId(2)));
}

#[test]
fn models_files_go_when_nobody_holds_them() {
    holds("version swap, holders, dead list", || {
        a_file_is_replaced(Removal::WhenDead)
    });
    fails("removed at once", || a_file_is_replaced(Removal::AtOnce));
    fails("removed when not held", || {
        a_file_is_replaced(Removal::WhenNotHeld)
    });
}

/// A key has version 1; a writer adds 2 while a compaction drops what no snapshot sees, and a
/// reader takes a snapshot, clones it and reads.
fn a_version_is_dropped(number_first: bool, clones: bool) {
    let list = SnapshotList::default();
    let published = Arc::new(Published::new(SeqNo::new(1)));
    // The number of the oldest version that is left.
    let left = Arc::new(AtomicU64::new(1));
    let writer = {
        let published = Arc::clone(&published);
        thread::spawn(move || published.publish(SeqNo::new(2)))
    };
    let compaction = {
        let (list, published, left) = (list.clone(), Arc::clone(&published), Arc::clone(&left));
        thread::spawn(move || {
            let live = list.horizon(|| published.visible()).snapshots;
            let newest = live.last().expect("what is visible is always live");
            // Version 1 may go when 2 is visible to everybody.
            if newest.get() == 2 && live.first() == Some(newest) {
                left.store(2, Ordering::Release);
            }
        })
    };
    let mut guard = match number_first {
        true => {
            let at = published.visible();
            list.register(|| at)
        }
        false => list.register(|| published.visible()),
    };
    if clones {
        // The clone holds the number when the first is gone.
        guard = guard.clone();
    }
    assert!(
        left.load(Ordering::Acquire) <= guard.seqno().get(),
        "a snapshot's version is gone"
    );
    drop(guard);
    writer.join().expect("the writer returns");
    compaction.join().expect("the compaction returns");
    assert_eq!(list.oldest(), None, "nothing is left registered");
}

#[test]
fn models_snapshots_keep_what_they_see() {
    holds("snapshots against a compaction", || {
        a_version_is_dropped(false, false)
    });
    holds("cloned snapshots against a compaction", || {
        a_version_is_dropped(false, true)
    });
    fails("a number read before it is registered", || {
        a_version_is_dropped(true, false)
    });
}
