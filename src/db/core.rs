//! What every handle and every worker of one open database shares.
//!
//! Lock order: `admin` (making and dropping keyspaces), `commit` (the one write lock), a tree's
//! `waiting`, then the small locks (`log.chain`, `board`, `stall`), of which nobody holds two.

use super::board::Board;
use super::catalog::Trees;
use super::changes::Retained;
use super::commit::{Commit, Member};
use super::group::Group;
use super::health::Health;
use super::log::LogSpace;
use super::pace::Pace;
use super::published::Published;
use super::reserve::Reserve;
use super::space::Plan;
use super::stall::Stall;
use super::sweep::Leftovers;
use crate::base::checksum::KeyHasher;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::options::Options;
use crate::base::sync::atomic::{AtomicBool, AtomicU64};
use crate::base::sync::{Arc, ArcSwap, Mutex, thread};
use crate::base::types::{KeyspaceId, SeqNo};
use crate::fs::{DirLock, Fs};
use crate::read::{Horizon, SnapshotGuard, SnapshotList};
use crate::table::TableContext;
use crate::tree::{Tree, TreeContext};
use crate::version::VersionSet;

/// With more log segments than this, the memtables that need the oldest are flushed.
pub(crate) const SEGMENTS_KEPT_MAX: u64 = 8;

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) fs: Fs,
    pub(crate) options: Options,
    pub(crate) versions: Arc<VersionSet>,
    pub(crate) tree_context: Arc<TreeContext>,
    pub(crate) table_context: Arc<TableContext>,
    pub(crate) hasher: KeyHasher,
    /// Tells batches of this open database from those of any other.
    pub(crate) instance: u64,
    pub(crate) trees: ArcSwap<Trees>,
    /// Held while keyspaces are made or dropped.
    pub(crate) admin: Mutex<()>,
    /// The one write lock.
    pub(crate) commit: Mutex<Commit>,
    pub(crate) group: Group<Member, Result<SeqNo>>,
    /// Every write with this number or a lower one is visible.
    pub(crate) published: Published,
    pub(crate) snapshots: SnapshotList,
    pub(crate) health: Health,
    pub(crate) stall: Stall,
    /// What the background writes.
    pub(crate) pace: Pace,
    pub(crate) log: LogSpace,
    /// Segments kept for those who follow the log.
    pub(crate) retained: Retained,
    pub(crate) leftovers: Leftovers,
    pub(crate) reserve: Reserve,
    /// What compactions are to have of the disk.
    pub(crate) space: Plan,
    pub(crate) board: Board,
    pub(crate) totals: Totals,
    pub(crate) told: Mutex<Told>,
    /// A bulk load is being made.
    pub(crate) loading: AtomicBool,
    pub(crate) dir_lock: Mutex<Option<DirLock>>,
    pub(crate) report: super::OpenReport,
}

/// What the listener knows.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) is_stopped: bool,
    pub(crate) is_slowed: bool,
}

/// Work done since the database was opened.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) flushes: AtomicU64,
    pub(crate) flush_bytes_written: AtomicU64,
    pub(crate) compactions: AtomicU64,
    pub(crate) compaction_bytes_read: AtomicU64,
    pub(crate) compaction_bytes_written: AtomicU64,
}

impl Core {
    /// Everything up to this number is visible.
    #[inline]
    pub(crate) fn visible(&self) -> SeqNo {
        self.published.visible()
    }

    /// The open keyspace with this number.
    pub(crate) fn tree(&self, id: KeyspaceId) -> Result<Arc<Tree>> {
        self.trees.load().by_id.get(&id).cloned().ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!("no keyspace has the number {id}"),
            )
            .advice("It was dropped after the batch was filled. Nothing was written.")
        })
    }

    /// Everything that is visible now, to be read until it is dropped: compactions that begin from here
    /// on keep it (I5). Views are loaded after it.
    pub(crate) fn begin_read(&self) -> SnapshotGuard {
        self.snapshots.register(|| self.visible())
    }

    /// What no reader tells apart any more.
    pub(crate) fn horizon(&self) -> Horizon {
        self.snapshots.horizon(|| self.visible())
    }

    /// Reads the trees' pressures and sets the writers' pace; and how much free memory is kept for
    /// memtables beside those that there are.
    pub(crate) fn update_stall(&self) {
        let update = self.stall.begin_update();
        let trees = self.trees.load();
        let (mut held_bytes, mut waiting_bytes) = (0, 0);
        for tree in trees.by_id.values() {
            let bytes = tree.memtable_memory();
            held_bytes += bytes;
            if tree.immutables() > 0 {
                waiting_bytes += bytes;
            }
        }
        let spare_bytes = pool_bytes(&self.options, held_bytes);
        self.tree_context.pool.set_bytes_max(spare_bytes);
        let share = waiting_bytes as f64 / (self.options.memory_bytes as f64).max(1.0);
        let pressures = trees
            .by_id
            .values()
            .map(|tree| (tree.name(), tree.pressure()));
        update.finish(pressures, share);
    }

    /// Freezes the memtables that hold back the oldest segment when too many are kept: an idle
    /// keyspace with a single write must not pin the log of all others.
    pub(crate) fn release_old_logs(&self) {
        if self.log.count() <= SEGMENTS_KEPT_MAX {
            return;
        }
        let commit = self.commit.lock();
        let trees = self.trees.load();
        let oldest = trees.by_id.values().filter_map(|t| t.oldest_log()).min();
        let holding = |tree: &Tree| tree.immutables() == 0 && tree.oldest_log() == oldest;
        let mut rotated = false;
        for tree in trees.by_id.values().filter(|tree| holding(tree)) {
            rotated |= tree.rotate(commit.segment());
        }
        drop(commit);
        if rotated {
            self.update_stall();
            self.board.notify();
        }
    }

    /// Freezes the largest memtable when all of them together take more than half of the budget.
    pub(crate) fn balance_memory(&self) {
        let trees = self.trees.load();
        let used: u64 = trees.by_id.values().map(|t| t.memtable_memory()).sum();
        if used <= self.options.memory_bytes / 2 {
            return;
        }
        let waiting = trees.by_id.values().any(|t| t.immutables() > 0);
        let largest = trees.by_id.values().max_by_key(|t| t.active_bytes());
        if let (Some(tree), false) = (largest, waiting) {
            let commit = self.commit.lock();
            tree.rotate(commit.segment());
            drop(commit);
            self.update_stall();
            self.board.notify();
        }
    }
}

/// How much free memory is kept for memtables: a quarter of the budget, and with the memory of those
/// that there are no more than three quarters.
pub(crate) fn pool_bytes(options: &Options, held_bytes: u64) -> u64 {
    let quarter = options.memory_bytes / 4;
    (3 * quarter).saturating_sub(held_bytes).min(quarter)
}

/// Keeps the background alive: shared by all handles; the last one to go stops the workers.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) core: Arc<Core>,
    pub(crate) threads: Mutex<Vec<thread::JoinHandle<()>>>,
}

impl Lease {
    /// Stops the workers and waits for them. Idempotent.
    pub(crate) fn stop_workers(&self) {
        self.core.board.stop();
        self.core.stall.wake();
        for handle in self.threads.lock().drain(..) {
            // A worker's panic was turned into a fatal state where it happened.
            let _ = handle.join();
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.stop_workers();
        if self.core.health.close() {
            // What cannot be reported from here is reported by `close`; recovery reads an
            // unsealed log just as well.
            let _ = self.core.commit.lock().seal();
        }
        self.core.dir_lock.lock().take();
    }
}
