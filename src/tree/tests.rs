//! What a tree does when the world around it changes in the midst of its work.

use super::*;
use crate::base::checksum::KeyHasher;
use crate::base::error::Result;
use crate::base::operation::Operation;
use crate::base::options::{CompactionStyle, KeyspaceOptions, ReadMode, Verify};
use crate::base::sync::Arc;
use crate::base::sync::atomic::{AtomicBool, Ordering};
use crate::base::types::{KeyspaceId, SeqNo, ValueKind};
use crate::fs::Fs;
use crate::fs::sim::SimFs;
use crate::memtable::Pool;
use crate::read::Horizon;
use crate::table::{BlockCache, TableContext};
use crate::version::{KeyspaceEdit, VersionEdit, VersionSet};
use std::path::Path;

const ORDERS: KeyspaceId = KeyspaceId(1);

fn orders_change(edit: KeyspaceEdit) -> VersionEdit {
    VersionEdit {
        keyspaces: vec![KeyspaceEdit { id: ORDERS, ..edit }],
        ..VersionEdit::default()
    }
}

fn put() -> Operation<'static> {
    Operation {
        keyspace: ORDERS,
        kind: ValueKind::Put,
        key: b"k",
        value: b"v",
    }
}

/// The keyspace `orders` with one entry in a memtable that waits for its flush.
fn world() -> (Arc<VersionSet>, Tree) {
    world_with(KeyspaceOptions::new())
}

fn world_with(options: KeyspaceOptions) -> (Arc<VersionSet>, Tree) {
    let fs = Fs::sim(&SimFs::new(1), Path::new("/db"));
    fs.make_root().unwrap();
    let table_context = Arc::new(TableContext {
        read_mode: ReadMode::Mmap,
        verify: Verify::FirstTouch,
        cache: BlockCache::new(1 << 16),
    });
    let versions = Arc::new(VersionSet::create(&fs, &table_context).unwrap());
    let created = KeyspaceEdit {
        created: Some(("orders".to_owned(), Vec::new())),
        ..KeyspaceEdit::default()
    };
    versions.install(orders_change(created)).unwrap();
    let context = Arc::new(TreeContext {
        fs,
        versions: Arc::clone(&versions),
        pool: Pool::new(1 << 20),
        hasher: KeyHasher::new(versions.hash_seed()),
        closed: Arc::default(),
        merge_operators: Default::default(),
        clock: Arc::default(),
        compaction_filters: Default::default(),
    });
    let state = versions.keyspace(ORDERS).unwrap();
    let tree = Tree::open(Arc::clone(&context), &state, options);
    tree.active()
        .apply(&put(), context.hasher.hash(b"k"), SeqNo::new(1))
        .unwrap();
    assert!(tree.rotate(versions.allocate_file().unwrap()));
    (versions, tree)
}

fn work<'a>(stop: &'a AtomicBool, sync_log: &'a dyn Fn() -> Result<()>) -> Work<'a> {
    Work {
        horizon: &|| Horizon::at(SeqNo::MAX),
        unless_read: &|_, act| Some(act()),
        stop,
        breathe: &|_| {},
        progressed: &|| {},
        sync_log,
    }
}

/// A caller of a flush waited until nothing at all waited for one: beside a writer that was ahead of
/// the flushes, for as long as that went on.
#[test]
fn what_is_written_after_a_rotation_does_not_keep_its_flush_from_being_done() {
    let (versions, tree) = world();
    let last = SeqNo::new(1);
    assert!(tree.has_waiting(last));
    let hash = KeyHasher::new(versions.hash_seed()).hash(b"k");
    tree.active().apply(&put(), hash, SeqNo::new(2)).unwrap();
    assert!(tree.rotate(versions.allocate_file().unwrap()));
    let stop = AtomicBool::new(false);
    tree.flush(&work(&stop, &|| Ok(()))).unwrap().unwrap();
    assert!(!tree.has_waiting(last), "the one before is in a table");
    assert_eq!(tree.immutables(), 1, "and the one behind still waits");
    assert!(tree.has_waiting(SeqNo::new(2)));
}

/// The drop is in the manifest and the tree has not been told yet: between the two a worker may
/// be anywhere in a flush. It took that for a failure, and the database took no more writes.
#[test]
fn a_flush_of_a_keyspace_that_is_being_dropped_is_no_failure() {
    let (versions, tree) = world();
    let stop = AtomicBool::new(false);
    // The last thing before the flush is installed: the other thread was faster.
    let drop_it = || {
        let dropped = KeyspaceEdit {
            dropped: true,
            ..KeyspaceEdit::default()
        };
        versions.install(orders_change(dropped))
    };
    let outcome = tree.flush(&work(&stop, &drop_it)).unwrap();
    assert!(outcome.is_none(), "there was nothing to install it in");
    assert!(!tree.is_dropped(), "nobody has told the tree");
}

/// Whoever found the place of the one flush taken freed it in passing, and two flushes of one
/// memtable ran side by side: the later edit was refused, which stopped all writes (I2).
#[test]
fn a_flush_that_finds_another_at_work_leaves_it_its_place() {
    let (_, tree) = world();
    let stop = AtomicBool::new(false);
    let ask_twice = || {
        for _ in 0..2 {
            let second = tree.flush(&work(&stop, &|| Ok(())))?;
            assert!(second.is_none(), "another flush is at work");
            assert!(!tree.wants_flush());
        }
        Ok(())
    };
    let outcome = tree.flush(&work(&stop, &ask_twice)).unwrap();
    assert_eq!(outcome.unwrap().edit.added.len(), 1);
    assert_eq!(tree.immutables(), 0);
}

/// Somebody begins to read between the choice of the job and its end.
#[test]
fn what_somebody_has_begun_to_read_is_not_forgotten() {
    let options = KeyspaceOptions::new().compaction(CompactionStyle::Fifo);
    let (versions, tree) = world_with(options.fifo_bytes(1 << 10));
    let stop = AtomicBool::new(false);
    let nobody = || Horizon {
        newest_reader: None,
        ..Horizon::at(SeqNo::MAX)
    };
    let alone = Work {
        horizon: &nobody,
        ..work(&stop, &|| Ok(()))
    };
    // A table has a KiB at least.
    while !tree.has_job_due(&nobody()) {
        tree.flush(&alone).unwrap().unwrap();
        let seqno = SeqNo::new(2 + versions.version(ORDERS).unwrap().entries());
        let hash = KeyHasher::new(versions.hash_seed()).hash(b"k");
        tree.active().apply(&put(), hash, seqno).unwrap();
        assert!(tree.rotate(versions.allocate_file().unwrap()));
    }
    let tables = || versions.version(ORDERS).unwrap().tables().count();
    let before = tables();
    let job = tree.next_job(&nobody(), false).unwrap();
    assert_eq!(job.forgets_from(), Some(SeqNo::new(1)));
    let read = Work {
        unless_read: &|from, _| {
            assert_eq!(from, SeqNo::new(1));
            None
        },
        ..alone
    };
    tree.run_job(&job, &read, |_| false).unwrap();
    assert_eq!(tables(), before);
    let job = tree.next_job(&nobody(), false).unwrap();
    tree.run_job(&job, &alone, |_| false).unwrap();
    assert_eq!(tables(), before - 1);
}

/// What a job had merged before it failed is to be done again, and writers are to know it.
#[test]
fn a_job_that_fails_has_merged_nothing() {
    let (versions, tree) = world();
    let hash = KeyHasher::new(versions.hash_seed()).hash(b"k");
    let stop = AtomicBool::new(false);
    // Snapshots of all of them, so that every version is kept.
    let all = || Horizon {
        snapshots: (1..9_000).map(SeqNo::new).collect(),
        newest_reader: None,
        expired: None,
    };
    let work = Work {
        horizon: &all,
        ..work(&stop, &|| Ok(()))
    };
    for run in 0..4 {
        for n in 0..2_000 {
            let seqno = SeqNo::new(2 + run * 2_000 + n);
            tree.active().apply(&put(), hash, seqno).unwrap();
        }
        tree.rotate(versions.allocate_file().unwrap());
        while tree.flush(&work).unwrap().is_some() {}
    }
    let job = tree.next_job(&Horizon::at(SeqNo::new(1)), false).unwrap();
    let unmerged = || {
        job.tables()
            .map(|table| table.bytes_unmerged())
            .sum::<u64>()
    };
    assert_eq!(unmerged(), job.bytes());
    let stop_halfway = || {
        if unmerged() < job.bytes() / 2 {
            stop.store(true, Ordering::Relaxed);
        }
    };
    let work = Work {
        progressed: &stop_halfway,
        ..work
    };
    assert!(tree.run_job(&job, &work, |_| false).is_err());
    assert!(stop.load(Ordering::Relaxed), "it had come so far");
    assert_eq!(unmerged(), job.bytes());
}
